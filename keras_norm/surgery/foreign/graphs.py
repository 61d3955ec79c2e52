"""Models from configs of Keras 2: layers called in the order of their nodes."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_norm.surgery.foreign.layers import LayerReader, Origin
from keras_norm.surgery.foreign.masks import call_unmasked, is_masked, is_mended, norms_within
from keras_norm.surgery.foreign.objects import is_object

MODELS = ("Functional", "Model", "Sequential")
_CONSTANT = "_CONSTANT_VALUE"  # in place of a layer's name
_RECURRENT = keras.layers.RNN, keras.layers.Bidirectional  # take a state behind their inputs

# Functions of TensorFlow that Keras 2 turned into layers, by their arguments' names there.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "__operators__.add": lambda x, y: x + y,
    "math.add": lambda x, y: x + y,
    "math.subtract": lambda x, y: x - y,
    "math.multiply": lambda x, y: x * y,
    "math.truediv": lambda x, y: x / y,
    "math.divide": lambda x, y: x / y,
    "math.negative": lambda x: -x,
    "math.square": lambda x: ops.square(x),
    "math.sqrt": lambda x: ops.sqrt(x),
    "math.exp": lambda x: ops.exp(x),
    "math.abs": lambda x: ops.abs(x),
    "math.tanh": lambda x: ops.tanh(x),
    "math.sigmoid": lambda x: ops.sigmoid(x),
    "math.maximum": lambda x, y: ops.maximum(x, y),
    "math.minimum": lambda x, y: ops.minimum(x, y),
    "nn.relu": lambda features: ops.relu(features),
    "nn.relu6": lambda features: ops.relu6(features),
    "nn.silu": lambda features: ops.silu(features),
    "nn.softmax": lambda logits, axis=-1: ops.softmax(logits, -1 if axis is None else axis),
    "math.reduce_mean": lambda input_tensor, axis=None, keepdims=False: ops.mean(
        input_tensor, axis, keepdims
    ),
    "math.reduce_sum": lambda input_tensor, axis=None, keepdims=False: ops.sum(
        input_tensor, axis, keepdims
    ),
    "math.reduce_max": lambda input_tensor, axis=None, keepdims=False: ops.max(
        input_tensor, axis, keepdims
    ),
    "concat": lambda values, axis: ops.concatenate(values, axis),
    "reshape": lambda tensor, shape: ops.reshape(tensor, shape),
    "expand_dims": lambda input, axis: ops.expand_dims(input, axis),
    "squeeze": lambda input, axis=None: ops.squeeze(input, axis),
    "transpose": lambda a, perm=None: ops.transpose(a, perm),
}


class ModelReader(LayerReader):
    """A `LayerReader` that makes models, too.

    Attributes:
        twins: By the `id` of a layer, the first one that was made of the same layer of Keras 2.
    """

    def __init__(self):
        super().__init__()
        self.twins: dict[int, Any] = {}
        self._marked: dict[int, Any] = {}

    def nested(self, described, shape=None):
        """A layer or model within another."""
        is_model = is_object(described) and described["class_name"] in MODELS
        made = self.model(described) if is_model else self.layer(described, shape)
        mark = described.get("shared_object_id")
        if isinstance(mark, int):
            self._keep_marked(mark, made)
        return made

    def _keep_marked(self, mark, made):
        """Notes that Keras 2 had one layer in several models, which Keras 3 cannot load."""
        if mark in self._marked:
            self.twins[id(made)] = self._marked[mark]
            return
        self._marked[mark] = made
        self.notes.append(
            f"{made.name} ({type(made).__name__}): it stands in several models; now each has a "
            "layer of its own, with the same weights"
        )

    def model(self, described):
        """The model that a config describes.

        Args:
            described: Dictionary with `class_name` and `config`.

        Returns:
            A functional or sequential model, built, with its weights still to come.

        Raises:
            ValueError: If it is of another class, or its graph has gaps.
        """
        if not is_object(described) or described["class_name"] not in MODELS:
            name = described.get("class_name") if isinstance(described, dict) else described
            raise ValueError(
                "`path` must hold a functional or sequential model. Received: a model of class "
                f"{name!r}. Give the model made by its own class: "
                "`load_foreign(weights, model=model)`."
            )
        config = described["config"]
        if isinstance(config, list):  # of a sequential model before Keras 2.2.3
            config = {"layers": config}
        try:
            sequential = described["class_name"] == "Sequential"
            model = self._sequential(config) if sequential else self._functional(config)
        except Exception as error:  # layers on shapes that a file made up raise whatever there is
            if isinstance(error, ValueError) and str(error).startswith("`"):
                raise
            raise _gap(f"a description that is not Keras 2's ({error!r})") from error
        if config.get("trainable", True) is False:
            model.trainable = False
        self.remember(model, Origin(described["class_name"], "Keras 2", {}))
        return model

    def _sequential(self, config):
        parts, order = config["layers"], list[Any]()
        model = keras.Sequential(name=config.get("name"))
        shape = _input_shape(parts[0]) or config.get("build_input_shape")
        if shape is None:
            raise _gap(f"the sequential model {model.name!r}, which was never built")
        dtype = parts[0]["config"].get("dtype") if _is_input(parts[0]) else None
        model.add(keras.layers.InputLayer(batch_shape=shape, dtype=dtype))
        for part in parts[1:] if _is_input(parts[0]) else parts:
            layer = self.nested(part, tuple(shape))
            if order and is_masked(model.outputs):
                _check_norms(layer, "a sequential model")
            order.append(layer)
            model.add(layer)
            shape = model.output_shape
        self.order[id(model)] = order
        return model

    def _functional(self, config):
        graph = _Graph(self, config)
        graph.run()
        inputs = graph.structure(config["input_layers"])
        outputs = graph.structure(config["output_layers"])
        model = keras.Model(_single(inputs), _single(outputs), name=config.get("name"))
        self.order[id(model)] = [graph.made[name] for name in graph.order if name in graph.made]
        return model


class _Graph:
    """The layers of one functional model and the tensors that their calls returned."""

    def __init__(self, reader, config):
        self.reader = reader
        described = config["layers"]
        self.described = {one.get("name") or one["config"]["name"]: one for one in described}
        if len(self.described) < len(described):
            raise _gap("two layers of one name")
        self.order = list(self.described)
        self.made: dict[str, keras.layers.Layer] = {}
        self.outputs: dict[str, list] = {name: [] for name in self.order}
        ends = config["input_layers"], config["output_layers"]
        self.used = list(_references([*described, *ends]))
        self.first = {name: self._first_node(name) for name in self.order}

    def run(self):
        """Calls every layer as often as the file says, as soon as its inputs are there."""
        waiting = {name: list(one.get("inbound_nodes") or []) for name, one in self._calls()}
        for name, one in self.described.items():
            if _is_input(one):
                self._input(name, one["config"])
        while any(waiting.values()):
            before = sum(map(len, waiting.values()))
            for name, nodes in waiting.items():
                while nodes and self._is_ready(nodes[0]):
                    self._call(name, nodes.pop(0))
            if sum(map(len, waiting.values())) == before:
                stuck = [name for name, nodes in waiting.items() if nodes]
                raise _gap(f"a graph in which the inputs of {stuck[:5]} are nowhere")

    def structure(self, described):
        """A structure of tensors, each described as layer, node and output."""
        if _is_reference(described):
            return self._tensor(described)
        if isinstance(described, dict):
            return {name: self.structure(part) for name, part in described.items()}
        return [self.structure(part) for part in described]

    def _calls(self):
        return [(name, one) for name, one in self.described.items() if not _is_input(one)]

    def _input(self, name, config):
        if config.get("ragged"):
            raise _gap(f"the ragged input {name!r}, which no layer here takes")
        shape, sparse = _input_shape({"config": config}), bool(config.get("sparse"))
        layer = keras.layers.InputLayer(
            batch_shape=shape, dtype=config.get("dtype"), sparse=sparse, name=name
        )
        self.made[name] = layer
        self.outputs[name].append([layer.output])

    def _first_node(self, name):
        """Number of a layer's first call: models have one more, which files count or do not."""
        one = self.described[name]
        if one["class_name"] not in MODELS:
            return 0
        calls = len(one.get("inbound_nodes") or [])
        used = [number for other, number, *_ in self.used if other == name]
        return 1 if used and max(used) >= calls else 0

    def _is_ready(self, node):
        return all(
            0 <= number - self.first.get(name, 0) < len(self.outputs.get(name, ()))
            for name, number, *_ in _references(node)
        )

    def _tensor(self, reference):
        name, number, index, *_ = reference
        calls = self.outputs.get(name, [])
        if not 0 <= number - self.first.get(name, 0) < len(calls):
            raise _gap(f"a graph without call {number} of {name!r}")
        return calls[number - self.first[name]][index]

    def _call(self, name, node):
        one = self.described[name]
        inputs, keywords = self._arguments(node)
        if one["class_name"] == "TFOpLambda":
            result = self._function(one["config"], inputs, keywords)
            # Keras's own choice may be the name of a layer.
            calls = len(self.outputs[name])
            result._keras_history.operation.name = f"{name}_{calls}" if calls else name
        else:
            if name not in self.made:
                shapes = keras.tree.map_structure(lambda t: tuple(t.shape), inputs)
                self.made[name] = self.reader.nested(one, _one_shape(inputs, shapes))
            result = self._result(name, inputs, keywords)
        self.outputs[name].append(keras.tree.flatten(result))

    def _result(self, name, inputs, keywords):
        layer = self.made[name]
        if is_masked(inputs):
            if is_mended(layer):
                return call_unmasked(layer, inputs, len(self.outputs[name]))
            # The layers within were connected without the mask that they get at run time.
            _check_norms(layer, f"{layer.name!r}")
        if isinstance(layer, _RECURRENT) and isinstance(inputs, list):
            inputs, *state = inputs
            return layer(inputs, initial_state=state, **keywords)
        return layer(inputs, **keywords)

    def _arguments(self, node):
        """What a layer is called with: its inputs, and keyword arguments."""
        keywords: dict = {}
        for entry in _entries(node, nested=False):
            if len(entry) > 3 and entry[3]:
                keywords = entry[3]
        values = {name: self._value(value) for name, value in keywords.items()}
        inputs = self._inputs(node)
        return _single(inputs), {n: v for n, v in values.items() if v is not None}

    def _inputs(self, node):
        if _is_constant(node):
            return node[2]
        if _is_reference(node):
            return self._tensor(node)
        if isinstance(node, dict):
            return {name: self._inputs(part) for name, part in node.items()}
        return [self._inputs(part) for part in node]

    def _value(self, value):
        if _is_reference(value) and value[0] in self.outputs:
            return self._tensor(value)
        if isinstance(value, list):
            return [self._value(part) for part in value]
        return value

    def _function(self, config, inputs, keywords):
        name = config.get("function")
        if name not in _FUNCTIONS:
            raise ValueError(
                "`path` must hold functions that are known. Received: TensorFlow's function "
                f"{name!r} as a layer. Known are {', '.join(_FUNCTIONS)}."
            )
        keywords.pop("name", None)
        return _FUNCTIONS[name](inputs, **keywords)


def _references(node, nested=True):
    """Every reference to a tensor in a node or in many: lists of layer, node, output, ..."""
    return (entry for entry in _entries(node, nested) if _is_reference(entry))


def _entries(node, nested=True):
    """Every reference, and every number that stands in a tensor's place, which is written alike."""
    if _is_reference(node) or _is_constant(node):
        yield node
        if nested and len(node) > 3:
            yield from _entries(node[3])
    elif isinstance(node, dict):
        # Of a layer its calls: its arguments may look like references.
        calls = [node.get("inbound_nodes") or []] if "class_name" in node else node.values()
        for part in calls:
            yield from _entries(part, nested)
    elif isinstance(node, list):
        for part in node:
            yield from _entries(part, nested)


def _is_reference(value):
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and value[0] != _CONSTANT
        and all(isinstance(number, int) for number in value[1:3])
    )


def _is_constant(value):
    return isinstance(value, list) and len(value) in (3, 4) and value[0] == _CONSTANT


def _check_norms(layer, where):
    norms = norms_within(layer)
    if norms:
        raise ValueError(
            "`path` must hold norms behind a mask in functional models alone, beside the mask. "
            f"Received: the norms {norms} in {where} behind a mask, which Addons ignores and "
            "keras_norm counts. Write the model as one functional model."
        )


def _is_input(described):
    return described["class_name"] == "InputLayer"


def _input_shape(described):
    config = described["config"]
    shape = config.get("batch_input_shape") or config.get("batch_shape")
    return None if shape is None else tuple(shape)


def _single(structure):
    """What a list of one holds, as Keras 2 called layers and models."""
    if isinstance(structure, list) and len(structure) == 1:
        return structure[0]
    return structure


def _one_shape(inputs, shapes):
    return None if isinstance(inputs, (list, dict)) else shapes


def _gap(what):
    return ValueError(
        "`path` must hold a model whose layers are connected. "
        f"Received: {what}. Check that Keras 2 itself can load the file."
    )
