"""Copies of models, layer by layer: what every verb from model to model does alike."""

import collections
import functools
import re
import tempfile
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras


def check_model(model):
    """Refuses what is no model or layer, or has no weights yet."""
    if not isinstance(model, keras.layers.Layer):
        raise TypeError(
            "`model` must be a Keras model or layer. "
            f"Received: model={model!r} (of type {type(model).__name__}). Load it first."
        )
    if not model.built:
        raise ValueError(
            "`model` must be built: until then it has no weights. "
            f"Received: {model.name!r} of class {type(model).__name__}, not built. Call it on data."
        )


def is_graph(layer):
    """Whether a layer is a functional or sequential model."""
    return isinstance(layer, keras.Model) and hasattr(type(layer), "inputs")


class Copies:
    """Copies of layers, one of each however often it occurs.

    Functional and sequential models are gone through; a function copies everything else.

    Args:
        copy: Function from a layer, or an operation of a graph, to a new one.
        same_class: Whether `copy` copies those models too whose classes have constructors of their
            own. Keras makes plain functional models of them, without their methods.
    """

    def __init__(self, copy: Callable[[Any], Any], same_class: bool = False):
        self._copy = copy
        self._same_class = same_class
        self._made: dict[int, Any] = {}

    def __contains__(self, layer):
        return id(layer) in self._made

    def __setitem__(self, layer, copy):
        self._made[id(layer)] = copy

    def __call__(self, layer):
        """The copy of a layer, made at the first time."""
        if layer not in self:
            self[layer] = self._graph(layer) if is_graph(layer) else self._copy(layer)
        return self._made[id(layer)]

    def _graph(self, model):
        before = dict(self._made)
        new = self._clone(model)
        if self._same_class and type(new) is not type(model):
            self._made = before
            return self._copy(model)
        return new

    def _clone(self, model):
        compiled = model.compiled
        # Keras would compile the copy at once, before its weights' flags are right, and fails
        # where a loss is not registered.
        model.compiled = False
        inputs = None
        if not isinstance(model, keras.Sequential):
            inputs = keras.tree.map_structure(self._input, model.input)
        try:
            return keras.models.clone_model(model, inputs, clone_function=self)
        finally:
            model.compiled = compiled

    def _input(self, tensor):
        """An input like another: Keras would lose its layer's name and whether it is sparse."""
        layer = tensor._keras_history.operation
        self[layer] = keras.layers.InputLayer.from_config(layer.get_config())
        new = self(layer).output
        new.name = tensor.name
        return new


def rebuilt(layer):
    """A layer of the same class and config, whose weights and nodes are still to come."""
    if not isinstance(layer, keras.layers.Layer):
        return type(layer).from_config(layer.get_config())
    try:
        config = keras.saving.serialize_keras_object(layer)
        config.pop("build_config", None)
        config.pop("compile_config", None)
        # The config is that of a live layer, whose functions have been trusted all along.
        new = keras.saving.deserialize_keras_object(config, custom_objects(layer), safe_mode=False)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise _not_in_config(layer, f"whose config fails: {str(error).splitlines()[0]}") from error
    if type(new) is not type(layer):
        raise _not_in_config(layer, f"whose config gives a {type(new).__name__}")
    for one, twin in zip(layer._flatten_layers(), new._flatten_layers(), strict=False):
        _keep_functions(one, twin)
    return new


def _keep_functions(old, new):
    """Hands on the functions of a layer: a lambda from a config has lost what it refers to."""
    names = ["activation"]
    if isinstance(old, keras.layers.Lambda):
        names += ["function", "mask", "_output_shape"]
    for name in names:
        value = vars(old).get(name)
        if isinstance(value, types.FunctionType) and isinstance(new, type(old)):
            setattr(new, name, value)


def custom_objects(layer):
    """Classes and functions that configs in a layer may name, registered or not."""
    held = layer._flatten_layers()
    return _named([*held, *(value for one in held for value in vars(one).values())])


def _named(values):
    callables = [value for value in values if callable(value)]
    classes = [one if hasattr(one, "__name__") else type(one) for one in callables]
    return {one.__name__: one for one in classes}


def children(layer) -> dict[Any, Any]:
    """The layers that a layer holds, by where: attributes, and lists and dicts in attributes."""
    if is_graph(layer):
        return dict(enumerate(layer._layers))
    return {
        path: held
        for name, value in _attributes(layer).items()
        for path, held in _layers_in(value, (name,))
    }


def _attributes(layer):
    """What a class keeps in a layer, without what Keras and TensorFlow keep in every layer."""
    return {
        name: value
        for name, value in vars(layer).items()
        if name not in _kept_by_keras() and not name.startswith("_self_")
    }


@functools.cache
def _kept_by_keras():
    return frozenset(vars(keras.Model(name="empty")))


def _layers_in(value, path) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, keras.layers.Layer):
        yield path, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _layers_in(part, (*path, key))
    elif isinstance(value, (list, tuple)):
        for key, part in enumerate(value):
            yield from _layers_in(part, (*path, key))


def exchange(layer, new: dict[int, Any]):
    """Gives a layer other layers in place of those it holds.

    Args:
        layer: A layer or model that is no graph.
        new: What to put in place of a layer, by the `id` of that layer.
    """
    tracker = layer._tracker
    locked = tracker.locked
    tracker.unlock()  # a built layer takes no more layers, but those in place of others
    for old in [old for old in layer._layers if id(old) in new]:
        # In its place: the order of layers is the order of weights.
        if tracker.is_in_store("layers", new[id(old)]):
            tracker.untrack(old)
        else:
            tracker.replace_tracked_value("layers", old, new[id(old)])
    for name, value in _attributes(layer).items():
        if any(id(held) in new for _, held in _layers_in(value, ())):
            setattr(layer, name, _exchanged(value, new))
    if locked:
        tracker.lock()


def _exchanged(value, new):
    """A structure of layers with new ones in place of old ones."""
    if isinstance(value, dict):
        kind = collections.OrderedDict if isinstance(value, collections.OrderedDict) else dict
        return kind((key, _exchanged(part, new)) for key, part in value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_exchanged(part, new) for part in value))
    if isinstance(value, (list, tuple)):
        parts = [_exchanged(part, new) for part in value]
        return tuple(parts) if isinstance(value, tuple) else parts
    return new.get(id(value), value)


def build_like(old, new):
    """Builds a layer with the shapes that another was built with."""
    if not old.built or new.built:
        return
    # Keras calls a model built that was only told a shape: its copy must not have more weights.
    if not _has_default_build(new) or all(one.built for one in old._flatten_layers()):
        with warnings.catch_warnings():
            # What shapes do not suffice to build is built layer by layer.
            warnings.simplefilter("ignore")
            new.build_from_config(old.get_build_config())
    new.built = True


def build_first(old, new):
    """`build_like` where layers within may be made only now."""
    if isinstance(new, keras.Model) or not _has_default_build(new):
        build_like(old, new)


def _has_default_build(layer):
    return getattr(layer.build, "_is_default", False)


def complete(old, new, copies):
    """Makes a copy whole: built, with the old one's names, flags, weights, and compiled as it is.

    Args:
        old: A model or layer.
        new: The copy of it.
        copies: The `Copies` of layers in it, as far as they were made one by one.
    """
    pairs = list(_pairs(old, new, copies, set()))
    twins: dict[int, Any] = {}
    for one, twin in pairs:
        copy_state(one, twin)
        twins.update(zip(map(id, _own(one)), _own(twin), strict=True))
    if {id(w) for w in new.weights} != {id(twins.get(id(w))) for w in old.weights}:
        raise _not_in_config(old, "whose copy has other weights")
    _copy_flags(old, pairs)
    for one, twin in pairs:
        compile_like(one, twin, twins)


def _pairs(old, new, copies, seen) -> Iterator[tuple[Any, Any]]:
    """Each layer and its copy, layers after the layer that holds them."""
    if id(old) in seen:
        return
    seen.add(id(old))
    build_first(old, new)
    yield old, new
    twins = children(new)
    for path, child in children(old).items():
        if child not in copies:
            twin = twins.get(path)
            if type(twin) is not type(child):
                raise _not_in_config(old, f"whose copy has no {child.name!r} at {path!r}")
            copies[child] = twin
        yield from _pairs(child, copies(child), copies, seen)
    build_like(old, new)


def weights_of(variables):
    """Names and shapes of weights; names that Keras made up, as `variable_3`, do not count."""
    made_up = re.compile(r"variable(_\d+)?")
    return [("" if made_up.fullmatch(v.name) else v.name, tuple(v.shape)) for v in variables]


def _own(layer):
    return layer._trainable_variables + layer._non_trainable_variables


def copy_state(old, new):
    """Copies the state of one layer, without that of layers in it, as files keep it."""
    mine, its = (weights_of(_own(layer)) for layer in (old, new))
    if mine != its:
        raise _not_in_config(old, f"with weights {mine}, whose copy has {its}")
    if mine:
        store: dict[str, Any] = {}
        old.save_own_variables(store)
        new.load_own_variables(store)
    if hasattr(old, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            old.save_assets(folder)
            new.load_assets(folder)
    # Dropout goes on with the numbers that the old layer would have drawn.
    for seed, twin in zip(old._seed_generators, new._seed_generators, strict=True):
        twin.state.assign(seed.state)


def _copy_flags(old, pairs):
    """Copies names, dtype policies and what is trainable."""
    twins = {id(one): twin for one, twin in pairs}
    for one, twin in pairs:
        if twin.name != one.name:
            twin.name = one.name
        if twin.dtype_policy != one.dtype_policy:
            twin.dtype_policy = one.dtype_policy
    for one in _outermost_first(old):
        if id(one) in twins:
            twins[id(one)].trainable = one.trainable
    for one, twin in pairs:
        for weight, target in zip(_own(one), _own(twin), strict=True):
            if target.trainable != weight.trainable:
                target.trainable = weight.trainable


def _outermost_first(layer):
    """Every layer, after all that hold it: setting a flag sets it in the layers within."""
    walk: list[Any] = []

    def visit(one):
        walk.append(one)
        for child in one._layers:
            visit(child)

    visit(layer)
    last = {id(one): one for one in walk[::-1]}
    # The last of its places comes after the last places of all that hold it.
    place = {id(one): number for number, one in enumerate(walk)}
    return sorted(last.values(), key=lambda one: place[id(one)])


def compile_like(old, new, weights=None):
    """Compiles a copy as the old model is, if it is.

    Args:
        old: A model or layer.
        new: The copy of it.
        weights: The copies of weights by the `id` of the old ones. With them the new optimizer goes
            on from the state of the old one; without, it starts anew.
    """
    if not getattr(old, "compiled", False):
        return
    own = type(new).compile is keras.Model.compile
    if own and type(new).compile_from_config is keras.Model.compile_from_config:
        given = old._compile_config.config
        new.compile(**{name: keras.tree.map_structure(_anew, one) for name, one in given.items()})
    else:
        new.compile_from_config(old.get_compile_config())
    if weights and getattr(new, "optimizer", None) is not None and old.optimizer.built:
        _copy_optimizer(old, new, weights)


def _anew(part):
    """What `compile` was given, with a new one of what has a state."""
    if not isinstance(part, (keras.optimizers.Optimizer, keras.metrics.Metric)):
        return part
    with keras.saving.custom_object_scope(_named([part, *vars(part).values()])):
        return type(part).from_config(part.get_config())


def _copy_optimizer(old, new, weights):
    """Copies an optimizer's state, unless weights were frozen or thawed since it was made."""
    trained = getattr(old.optimizer, "inner_optimizer", old.optimizer)._trainable_variables
    if [id(w) for w in trained] != [id(w) for w in old.trainable_variables]:
        return
    new.optimizer.build([weights[id(w)] for w in trained])
    for variable, target in zip(old.optimizer.variables, new.optimizer.variables, strict=True):
        target.assign(variable)


def _not_in_config(layer, what):
    return ValueError(
        "`model` must have only layers that their configs describe. "
        f"Received: layer {layer.name!r} of class {type(layer).__name__}, {what}. "
        "Give the class a `get_config` with all arguments of its constructor."
    )
