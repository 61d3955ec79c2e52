"""Folds norms that are fixed in inference into the linear layers beside them."""

import collections
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_norm.layers.groups import GroupNormalization, InstanceNormalization
from keras_norm.surgery.affine import (
    DATA,
    LINEAR,
    STATIC,
    behind,
    channel_axis,
    in_front,
    static_affine,
    static_axis,
    values_of,
)
from keras_norm.surgery.bake import bake
from keras_norm.surgery.comparing import compared, distance
from keras_norm.surgery.copying import build_like, check_model, rebuilt
from keras_norm.surgery.holding import children, is_graph
from keras_norm.surgery.replace import Exchange, counted, dtype_of, say
from keras_norm.wrappers.base import BaseWeightWrapper

TOLERANCE = {"float16": 4e-3, "bfloat16": 3.2e-2}
"""Error of a fold by compute dtype, as a share of the output's largest value."""

PASSING = (
    layers.Identity,
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.AlphaDropout,
    layers.ActivityRegularization,
)
"""Layers that do nothing in inference."""


def fold(model, verbose=True, print_fn=None):
    """Folds what norms do in inference into the linear layers beside them.

    A norm whose moments are fixed in inference is a product and a sum per channel, or one matrix.
    The layer in front of it can do that with other weights, and so can the layer behind it:

        (x · W + b) · s + t = x · (W s) + (b s + t)
        (x · s + t) · W + b = x · (s W) + (t W + b)

    Norms that fold are batch normalization (Keras's too), renormalization, ghost and mean-only
    ones; switchable ones that learned to take the batch's statistics alone; whitening ones; and
    `StandardNormalization` and Keras's `Normalization` at the input. Layers that take them in are
    `Dense`, `Conv`, `DepthwiseConv`, `SeparableConv` and `ConvTranspose` of any rank. Wrappers of
    weights are baked first (see `bake`). Between the two may stand what does nothing in inference,
    such as dropout, and no activation. A tensor that others use, too, and layers that are shared
    stop a fold, as do zeros that a convolution pads its input with: a shift in front of it would
    not reach them. Biases that an instance norm subtracts again are removed.

    Each fold is computed in float64 and tried on random input: one that changes the output by more
    than 2e-6 of its largest value is left out. The norm's place is taken by an `Identity` of its
    name. In the end both models are tried on random input, where its shape is known. A difference
    of more than 1e-3 of an output's largest value (0.1 where a layer computes in float16 or
    bfloat16) is no rounding, and is warned of, `verbose` or not. The new model computes in
    inference what the old one does, and is not meant for training; what is called with
    `training=True` stays as it is. The old model stays as it is.

    Args:
        model: A functional or sequential model, or any layer that is built.
        verbose: Whether to print what folded, what did not and why.
        print_fn: Function that takes each line, in place of `print`.

    Returns:
        A new model or layer; one that is compiled is compiled the same way.

    Raises:
        TypeError: If `model` is neither.
        ValueError: If it is not built, or has layers that their configs do not describe.

    Example:

    >>> import keras
    >>> norm = BatchNormalization(name="norm")
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense"), norm])
    >>> fold(model, print_fn=lambda line: print(line) if "into" in line else None).layers
      norm into dense
    [<Dense name=dense, built=True>, <Identity name=norm, built=True>]

    Reference:
        [Jacob et al., 2018](https://arxiv.org/abs/1712.05877), section 3.2.
    """
    check_model(model)
    plain, lines = _baked(model)
    plan = _Plan(plain)
    plan.run()
    exchange = Exchange(plan.make)
    new = exchange.run(plain)
    for layer, values in plan.values.values():
        _assign(exchange.copies(layer), values)
    head = f"folded {counted(plan.folded, 'norm')}"
    lines += [*plan.lines(), compared(model, new, stacklevel=2)]
    say(model, head, lines, verbose, print_fn)
    return new


def _baked(model):
    """The model with plain layers for wrappers, and what to say of that."""
    wrappers = {id(one) for one in model._flatten_layers() if isinstance(one, BaseWeightWrapper)}
    if not wrappers:
        return model, []
    try:
        new = bake(model)
    except ValueError as error:
        return model, [f"not baked: {str(error).split(' Received:')[0]}"]
    return new, [f"baked {counted(wrappers, 'wrapper')} of weights"]


class _Graph:
    """Which layer makes each tensor of a functional or sequential model, and which ones use it."""

    def __init__(self, model):
        function = getattr(model, "_functional", None) or model
        by_depth = getattr(function, "_nodes_by_depth", {})
        self.nodes = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
        self._maker = {id(tensor): node for node in self.nodes for tensor in node.outputs}
        self._users = collections.defaultdict(list)
        for node in self.nodes:
            for tensor in node.input_tensors:
                self._users[id(tensor)].append(node)
        for tensor in keras.tree.flatten(function.outputs) if by_depth else []:
            self._users[id(tensor)].append(None)

    def in_front(self, node, passes):
        """The layer whose output a norm gets, alone."""
        tensor = node.input_tensors[0]
        while True:
            source = self._maker[id(tensor)]
            if source.is_input:
                raise ValueError("it stands at the input")
            if len(self._users[id(tensor)]) > 1:
                raise ValueError(f"the output of {source.operation.name} goes elsewhere, too")
            if not passes(source):
                return source.operation
            tensor = source.input_tensors[0]

    def behind(self, node, passes):
        """The layer that gets a norm's output, alone."""
        while True:
            users = self._users[id(node.outputs[0])]
            if len(users) > 1:
                raise ValueError(f"the output of {node.operation.name} goes to several layers")
            if users[0] is None:
                raise ValueError("no layer follows it")
            node = users[0]
            if not passes(node):
                return node.operation


class _Plan:
    """What folds into what, and what does not.

    Attributes:
        folded: By `id` of a norm the norm, the linear layer, and whether that follows it.
        values: By `id` of a linear layer the layer and its new weights in float64.
    """

    def __init__(self, model):
        held = {id(layer): layer for layer in model._flatten_layers()}
        self._graphs = {i: _Graph(layer) for i, layer in held.items() if _is_open(layer)}
        self._held = held
        self._in_training = {
            id(one)
            for graph in self._graphs.values()
            for node in graph.nodes
            if isinstance(node.operation, layers.Layer) and node.arguments.kwargs.get("training")
            for one in node.operation._flatten_layers()
        }
        self._uses = collections.Counter(
            id(child)
            for i, layer in held.items()
            for child in (
                [node.operation for node in self._graphs[i].nodes]
                if i in self._graphs
                else children(layer).values()
            )
        )
        self.folded: dict[int, tuple[Any, Any, bool]] = {}
        self.values: dict[int, tuple[Any, dict[str, Any]]] = {}
        self._left: dict[int, tuple[Any, list[str]]] = {}
        self._biases: dict[int, str] = {}

    def run(self):
        """Folds until nothing more folds: a norm may stand between another one and its layer."""
        nodes = [(graph, node) for graph in self._graphs.values() for node in graph.nodes]
        waiting = [(graph, node) for graph, node in nodes if type(node.operation) in STATIC]
        number = -1
        while number < len(self.folded):
            number = len(self.folded)
            for graph, node in waiting:
                if id(node.operation) not in self.folded:
                    self._fold(graph, node)
        for graph, node in nodes:
            if _is_instance_norm(node):
                self._drop_bias(graph, node)
        seen = self.folded.keys() | self._left.keys()
        for i, layer in self._held.items():
            if isinstance(layer, tuple(STATIC)) and i not in seen:
                exact = type(layer) in STATIC
                why = "no graph shows what is beside it" if exact else "its class is derived"
                self._left[i] = layer, [why]

    def make(self, layer):
        """What makes the layer that takes another one's place, or `None`."""
        if id(layer) in self.folded:
            return lambda old: layers.Identity(name=old.name, dtype=dtype_of(old))
        if id(layer) in self.values:
            return lambda old: _with(*self.values[id(old)])
        return None

    def lines(self):
        """What was done, line by line."""
        for norm, linear, follows in self.folded.values():
            yield f"{norm.name} into {linear.name}{', which follows it' if follows else ''}"
        for norm, reasons in self._left.values():
            why = "; ".join(dict.fromkeys(reasons))
            yield f"left alone: {norm.name} ({type(norm).__name__}): {why}"
        yield from self._biases.values()

    def _fold(self, graph, node):
        norm = node.operation
        self._left.pop(id(norm), None)
        reasons = []
        try:
            self._check_norm(node)
        except ValueError as error:
            self._left[id(norm)] = norm, [str(error)]
            return
        for find, follows in ((graph.in_front, False), (graph.behind, True)):
            try:
                linear = find(node, self._passes)
                self._check_linear(linear, follows)
                self._take_in(node, linear, follows)
            except ValueError as error:
                reasons.append(str(error))
            else:
                self.folded[id(norm)] = norm, linear, follows
                return
        self._left[id(norm)] = norm, reasons

    def _passes(self, node):
        layer = node.operation
        idle = type(layer) in PASSING and id(layer) not in self._in_training
        return idle or id(layer) in self.folded

    def _check_norm(self, node):
        if self._uses[id(node.operation)] > 1:
            raise ValueError("it is shared")
        if id(node.operation) in self._in_training:
            raise ValueError("it is called with training=True")
        dtype = node.input_tensors[0].dtype
        if "float" not in dtype:
            raise ValueError(f"its input is of dtype {dtype}")

    def _check_linear(self, linear, follows):
        if type(linear) not in LINEAR:
            raise ValueError(f"{linear.name} ({type(linear).__name__}) cannot take it in")
        if self._uses[id(linear)] > 1:
            raise ValueError(f"{linear.name} is shared")
        if not follows and linear.activation not in (None, keras.activations.linear):
            raise ValueError(f"an activation, that of {linear.name}, stands between")
        if getattr(linear, "quantization_mode", None) or getattr(linear, "lora_enabled", False):
            raise ValueError(f"the kernel of {linear.name} is quantized or adapted")

    def _take_in(self, node, linear, follows):
        """Changes a linear layer's values so that it does what a norm did."""
        norm, shape = node.operation, node.input_tensors[0].shape
        channel = channel_axis(linear, len(shape))
        if static_axis(norm, len(shape)) not in (None, channel):
            raise ValueError(f"the channels of {linear.name} are on axis {channel}")
        affine = static_affine(norm, shape[channel])
        old = self._values(linear)
        new = (in_front if follows else behind)(linear, old, affine)
        before, after = _with(linear, old), _with(linear, new)
        x = _random(linear, affine if follows else None)
        y = before(norm(x)) if follows else norm(before(x, training=False))
        _check_same(linear, y, after(x))
        self.values[id(linear)] = linear, new
        if not follows and linear.use_bias and type(norm) not in DATA:
            said = f"{norm.name} subtracts it in training"
            self._biases.setdefault(id(linear), f"redundant bias: {linear.name}: {said}")

    def _values(self, linear):
        return self.values.get(id(linear), (linear, values_of(linear)))[1]

    def _drop_bias(self, graph, node):
        """Removes a bias that an instance norm subtracts, in training and inference."""
        norm = node.operation
        try:
            linear = graph.in_front(node, self._passes)
            self._check_linear(linear, follows=False)
            old = self._values(linear)
            channel = channel_axis(linear, len(node.input_tensors[0].shape))
            if "bias" not in old or static_axis(norm, len(node.input_tensors[0].shape)) != channel:
                return
            new = {name: value for name, value in old.items() if name != "bias"}
            x = _random(linear)
            _check_same(linear, norm(_with(linear, old)(x)), norm(_with(linear, new)(x)))
        except ValueError:
            return
        self.values[id(linear)] = linear, new
        self._biases[id(linear)] = (
            f"redundant bias: {linear.name}: {norm.name} subtracts it; removed"
        )


def _is_open(layer):
    """Whether a layer is a model whose graph a copy can have other layers in."""
    return is_graph(layer) and type(layer).__init__.__module__.startswith("keras.")


def _is_instance_norm(node):
    """Whether a layer subtracts the mean over positions of each channel of each sample."""
    norm = node.operation
    if type(norm) not in (InstanceNormalization, GroupNormalization, layers.GroupNormalization):
        return False
    shape = node.input_tensors[0].shape
    if len(shape) < 3 or type(norm) is InstanceNormalization:
        return len(shape) > 2
    return norm.groups in (-1, shape[norm.axis]) or getattr(norm, "group_size", None) == 1


def _with(linear, values):
    """A layer like another with other weights, with a bias where the weights have one."""
    new = rebuilt(linear)
    new.use_bias = "bias" in values
    build_like(linear, new)
    _assign(new, values)
    return new


def _assign(layer, values):
    for name, value in values.items():
        getattr(layer, name).assign(value)


def _random(linear, affine=None):
    """A small input of a linear layer, or one that an `Affine` makes a usual one of."""
    shape = list(linear.get_build_config()["input_shape"])
    sizes = dict.fromkeys(range(1, len(shape)), 2)
    space = [a for a in sizes if a != channel_axis(linear, len(shape))]
    for name in ("kernel_size", "strides", "dilation_rate"):
        for axis, size in zip(space, getattr(linear, name, ()), strict=False):
            sizes[axis] = sizes[axis] * size if name == "dilation_rate" else sizes[axis] + size
    channel = channel_axis(linear, len(shape))
    sizes[channel] = shape[channel]
    x = np.random.default_rng(0).normal(size=(2, *(sizes[a] for a in sorted(sizes))))
    if affine is not None:
        x = np.moveaxis(x, channel, -1) - affine.shift
        if affine.mixes:
            x = x @ np.linalg.pinv(affine.factor)
        else:
            x = x / np.where(affine.factor == 0.0, 1.0, affine.factor)
        x = np.moveaxis(x, -1, channel)
    return keras.ops.convert_to_tensor(x, dtype=linear.variable_dtype)


def _check_same(linear, expected, found):
    error = distance(expected, found)
    bound = TOLERANCE.get(linear.compute_dtype, 2e-6)
    if not error <= bound:
        raise ValueError(f"with {linear.name} outputs would differ by {error:.1e} of their scale")
