"""Copies of models, layer by layer: what every verb from model to model does alike."""

import inspect
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_norm.backend import abilities
from keras_norm.configs import from_own_config, told_apart
from keras_norm.surgery.holding import children, is_graph


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
        inputs, call = None, None
        if not isinstance(model, keras.Sequential):
            inputs, call = keras.tree.map_structure(self._input, model.input), _called
        try:
            return keras.models.clone_model(model, inputs, self, call)
        finally:
            model.compiled = compiled

    def _input(self, tensor):
        """An input like another: Keras would lose its layer's name and whether it is sparse."""
        layer = tensor._keras_history.operation
        self[layer] = keras.layers.InputLayer.from_config(layer.get_config())
        new = self(layer).output
        new.name = tensor.name
        return new


def _called(layer, *args, **kwargs):
    """Calls a layer; without the mask that the layer whose place it takes was called with."""
    if "mask" in kwargs and isinstance(layer, keras.layers.Layer):
        parameters = inspect.signature(layer.call).parameters.values()
        if not any(p.name == "mask" or p.kind is p.VAR_KEYWORD for p in parameters):
            del kwargs["mask"]
    return layer(*args, **kwargs)


def rebuilt(layer):
    """A layer of the same class and config, whose weights and nodes are still to come."""
    if not isinstance(layer, keras.layers.Layer):
        return type(layer).from_config(layer.get_config())
    try:
        new = from_own_config(layer, _of_the_layer_alone)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise _not_in_config(layer, f"whose config fails: {str(error).splitlines()[0]}") from error
    if type(new) is not type(layer):
        raise _not_in_config(layer, f"whose config gives a {type(new).__name__}")
    return new


def _of_the_layer_alone(config):
    """A serialized layer that is to be built and compiled later."""
    return {k: v for k, v in config.items() if k not in ("build_config", "compile_config")}


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


def complete(old, new, copies, exchanged=frozenset(), change=None):
    """Makes a copy whole: built, with the old one's names, flags, weights, and compiled as it is.

    Args:
        old: A model or layer.
        new: The copy of it.
        copies: The `Copies` of layers in it, as far as they were made one by one.
        exchanged: The `id` of each old layer whose copy is of another kind. It gets the weights
            that both have, by name and shape.
        change: Function that is given the copy before it is compiled, to set other flags.
    """
    pairs = list(_pairs(old, new, copies, exchanged, set()))
    mates, gone, fresh = [], set(), set()
    for one, twin in pairs:
        if id(one) in exchanged:
            for weight, target in carried(one, twin):
                assign(target, weight)
                mates.append((weight, target))
            gone |= {id(weight) for weight in one.weights}
            fresh |= {id(weight) for weight in twin.weights}
        else:
            copy_state(one, twin)
            mates += zip(_own(one), _own(twin), strict=True)
    twins = {id(weight): target for weight, target in mates}
    _check_weights(old, new, twins, gone, fresh)
    _copy_flags(old, pairs, mates)
    if change is not None:
        change(new)
    for one, twin in pairs:
        compile_like(one, twin, twins)


def _check_weights(old, new, twins, gone, fresh):
    """Refuses a copy that lacks weights, or has others, but for those of exchanged layers."""
    weights = {id(weight) for weight in new.weights}
    expected = {id(twins.get(id(w))) for w in old.weights if id(w) not in gone}
    if not expected <= weights <= expected | fresh | {id(target) for target in twins.values()}:
        raise _not_in_config(old, "whose copy has other weights")


def carried(old, new):
    """Pairs of a weight and one of the same name and shape in a layer of another kind."""
    left, pairs = list(new.weights), []
    for weight in old.weights:
        ((name, shape),) = weights_of([weight])
        like = [one for one in left if name and weights_of([one]) == [(name, shape)]]
        if like:
            pairs.append((weight, like[0]))
            left = [one for one in left if one is not like[0]]
    return pairs


def _pairs(old, new, copies, exchanged, seen) -> Iterator[tuple[Any, Any]]:
    """Each layer and its copy, layers after the layer that holds them."""
    if id(old) in seen:
        return
    seen.add(id(old))
    build_first(old, new)
    yield old, new
    if id(old) in exchanged:
        build_like(old, new)
        return
    twins = children(new)
    for path, child in children(old).items():
        if child not in copies:
            twin = twins.get(path)
            if type(twin) is not type(child):
                raise _not_in_config(old, f"whose copy has no {child.name!r} at {path!r}")
            copies[child] = twin
        yield from _pairs(child, copies(child), copies, exchanged, seen)
    build_like(old, new)


def weights_of(variables):
    """Names and shapes of weights; names that Keras made up, as `variable_3`, do not count."""
    made_up = re.compile(r"variable(_\d+)?")
    return [("" if made_up.fullmatch(v.name) else v.name, tuple(v.shape)) for v in variables]


def assign(target, value):
    """Assigns a variable's value to another variable, in memory of its own."""
    target.assign(_apart(value))


def _apart(value):
    # A variable of JAX keeps the array that it is given, and `fit` deletes those it began with.
    return keras.ops.copy(value) if isinstance(value, keras.Variable) else value


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
        new.load_own_variables({name: _apart(value) for name, value in store.items()})
    if hasattr(old, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            old.save_assets(folder)
            new.load_assets(folder)
    # Dropout goes on with the numbers that the old layer would have drawn.
    for seed, twin in zip(old._seed_generators, new._seed_generators, strict=True):
        assign(twin.state, seed.state)


def _copy_flags(old, pairs, weights):
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
    copy_trainable(weights)


def copy_trainable(weights):
    """Copies which weights are trainable, for pairs of an old one and a new one.

    A layer's own flag goes first: to set it sets those of its weights.
    """
    for weight, target in weights:
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
    with told_apart([part]):
        return type(part).from_config(part.get_config())


def _copy_optimizer(old, new, weights):
    """Copies an optimizer's state, unless it was made for other weights than are trained now.

    It may have the state of more: of weights that were frozen since, and may be trained again.
    """
    made_for = getattr(old.optimizer, "inner_optimizer", old.optimizer)._trainable_variables
    targets = [weights.get(id(w)) for w in made_for]
    known, trained = ({id(w) for w in some} for some in (targets, new.trainable_variables))
    fits = trained <= known if abilities.optimizers_take_fewer() else trained == known
    if id(None) in known or not fits:
        return
    new.optimizer.build(targets)
    for variable, target in zip(old.optimizer.variables, new.optimizer.variables, strict=True):
        assign(target, variable)


def _not_in_config(layer, what):
    return ValueError(
        "`model` must have only layers that their configs describe. "
        f"Received: layer {layer.name!r} of class {type(layer).__name__}, {what}. "
        "Give the class a `get_config` with all arguments of its constructor, and register what "
        "that names by `keras.saving.register_keras_serializable`."
    )
