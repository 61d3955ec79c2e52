"""Exchanges layers of a model for others, by a table of what becomes what."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_norm.configs import told_apart
from keras_norm.layers.batch import BatchRenormalization
from keras_norm.surgery.copying import (
    Copies,
    build_first,
    build_like,
    carried,
    check_model,
    complete,
    rebuilt,
    weights_of,
)
from keras_norm.surgery.holding import children, exchange, is_graph

UNBOUNDED = 1e30
"""A limit that no batch reaches: Keras leaves limits of its renorm out, ours are numbers."""


def replace(model, table: Mapping[Any, Any], verbose=True, print_fn=None):
    """Exchanges layers of a model for layers of other kinds.

    A new layer has the old one's name, dtype policy and trainable flag, and its weights as far as
    both have one of the same name and shape: gamma, beta and moving moments go along. A weight that
    only the new layer has keeps its initial value. Shared layers stay shared; nested models, and
    layers in layers and in attributes, are gone through. The old model stays as it is. Every
    exchange is printed, with what was kept and what was dropped. A subclassed model makes its own
    layers again when its file is loaded: exchange them once more, before its weights are loaded.

    Args:
        model: A functional or sequential model, or any layer that is built.
        table: What becomes what. A key is a class, which is that class alone and no class derived
            from it, or a function that says whether it means a layer; the first that fits counts. A
            value is a class, which gets those arguments of the old layer that it knows; such a
            class with arguments of its own, as `functools.partial(GroupNormalization, groups=8)`;
            or a function from the old layer to a new one, or to `None` to leave it alone.
        verbose: Whether to print what was done.
        print_fn: Function that takes each line, in place of `print`.

    Returns:
        A new model or layer. One that is compiled is compiled the same way; its optimizer goes on
        from its state where the weights that are trained are the same, and starts anew elsewhere.

    Raises:
        TypeError: If `model` or `table` is of the wrong type.
        ValueError: If `model` is not built or has layers that their configs do not describe, or if
            a new layer does not fit in its place.

    Example:

    >>> import functools, keras
    >>> norm = keras.layers.BatchNormalization(momentum=0.9, name="norm")
    >>> model = keras.Sequential([keras.Input((4, 4, 6)), norm], name="small")
    >>> groups = functools.partial(GroupNormalization, groups=3)
    >>> replace(model, {keras.layers.BatchNormalization: groups}).layers
    small: exchanged 1 layer
      norm: BatchNormalization -> GroupNormalization; kept gamma, beta; dropped moving_mean, \
moving_variance, momentum=0.9
    [<GroupNormalization name=norm, built=True>]
    """
    run = Exchange(maker_of(_checked(table)))
    new = run.run(model)
    run.note_derived(model, table)
    head = f"exchanged {counted(run.made, 'layer')}"
    say(model, head, [*run.exchanges(), *run.left_alone()], verbose, print_fn)
    return new


def counted(things, noun):
    """How many there are: "no layer", "1 layer", "2 layers"."""
    number = len(things)
    return f"{number or 'no'} {noun}{'s' if number > 1 else ''}"


def say(model, head, lines, verbose, print_fn):
    """Prints what a verb did: a line on the model, and further ones below it."""
    if verbose:
        write = print if print_fn is None else print_fn
        write(f"{model.name}: {head}")
        for line in lines:
            write(f"  {line}")


class Exchange:
    """Makes a copy of a model in which some layers are others.

    Attributes:
        copies: The copies of layers, by layer.
        made: Pairs of an old layer and the new one in its place.
        left: Pairs of a layer that was left alone and the reason.

    Args:
        make: Function from a layer to what makes the one in its place, or to `None`. What is made
            may be `None` too: the layer is then copied.
        exact: Whether the new layer must have just the weights of the old one. If so, a layer for
            which that fails is left alone; otherwise a new layer that cannot be made is an error.
    """

    def __init__(self, make: Callable[[Any], Any], exact: bool = False):
        self.copies = Copies(self._copy, same_class=True)
        self.made: list[tuple[Any, Any]] = []
        self.left: list[tuple[Any, str]] = []
        self._make = make
        self._exact = exact
        self._old: set[int] = set()
        self._dropped: dict[int, list[str]] = {}

    def run(self, model, change=None):
        """The copy of a model, in which `change` may set flags before it is compiled."""
        check_model(model)
        self._old = {id(layer) for layer in model._flatten_layers()}
        new = self.copies(model)
        made = () if self._exact else {id(old) for old, _ in self.made}
        complete(model, new, self.copies, frozenset(made), change)
        return new

    def exchanges(self):
        """What was exchanged, line by line."""
        for old, new in self.made:
            pairs = carried(old, new)
            used = {id(weight) for pair in pairs for weight in pair}
            lists = {
                "kept": [weight.name for weight, _ in pairs],
                "new": [weight.name for weight in new.weights if id(weight) not in used],
                "dropped": [weight.name for weight in old.weights if id(weight) not in used],
            }
            lists["dropped"] += self._dropped.get(id(old), [])
            parts = [f"{what} {', '.join(names)}" for what, names in lists.items() if names]
            kinds = f"{old.name}: {type(old).__name__} -> {type(new).__name__}"
            yield "; ".join([kinds, *parts])

    def left_alone(self):
        """What was left alone, line by line."""
        for layer, reason in self.left:
            yield f"left alone: {layer.name} ({type(layer).__name__}): {reason}"

    def note_derived(self, model, table):
        """Says which layers are of classes derived from one that a table exchanges."""
        classes = tuple(key for key in table if isinstance(key, type))
        for layer in model._flatten_layers():
            if isinstance(layer, classes) and self._make(layer) is None:
                base = next(key for key in classes if isinstance(layer, key)).__name__
                reason = f"its class is derived from {base} and may compute something else"
                self.left.append((layer, reason))

    def _copy(self, layer):
        """The copy of a layer that is no graph, or what comes in its place."""
        if not isinstance(layer, keras.layers.Layer):
            return rebuilt(layer)
        make = self._make(layer)
        new = None if make is None else self._made(layer, make)
        if new is None:
            new = rebuilt(layer)
            if layer._layers:
                build_first(layer, new)
                self._exchange_within(layer, new)
        return new

    def _exchange_within(self, layer, new):
        """Exchanges layers that a copy, which made its own, holds."""
        twins = children(new)
        instead = {}
        for path, child in children(layer).items():
            twin = twins.get(path)
            if twin is None:
                continue
            if self._is_exchanged(child, twin):
                instead[id(twin)] = self.copies(child)
            else:
                self._adopt(child, twin)
        if instead:
            _check_own_layers(layer)
            exchange(new, instead)

    def _is_exchanged(self, layer, twin):
        """Whether the layer that a copy made itself must give way to another."""
        if layer in self.copies or not _is_alike(layer, twin):
            return True
        return any(self._make(one) for one in layer._flatten_layers())

    def _adopt(self, layer, twin):
        """Takes the layers that a copy made itself for copies, so that what is shared stays so."""
        self.copies[layer] = twin
        within = children(twin)
        for path, child in children(layer).items():
            if child not in self.copies and path in within:
                self._adopt(child, within[path])

    def _made(self, layer, make):
        """What comes in place of a layer, or `None` if it is left alone."""
        try:
            new = make(layer)
            if new is None or new is layer:
                return None
            self._fit(layer, new)
        except (TypeError, ValueError) as error:
            if not self._exact:
                raise _does_not_fit(layer, error) from error
            # The rule is the reason; what was received and how to mend it are for constructors.
            reason = str(error).splitlines()[0].split(" Received:")[0].rstrip(".")
            self.left.append((layer, reason))
            return None
        self.made.append((layer, new))
        if isinstance(make, _OfClass):
            self._dropped[id(layer)] = make.dropped(layer)
        return new

    def _fit(self, layer, new):
        """Builds a new layer in place of an old one; refuses what cannot take that place."""
        if not isinstance(new, keras.layers.Layer):
            raise TypeError(f"a {type(new).__name__} is no layer.")
        if self._old & {id(one) for one in new._flatten_layers()}:
            raise ValueError("it holds a layer of the old model, not a new one.")
        new.name = layer.name  # before it is built or put into a graph, where names tell apart
        if self._exact:
            build_like(layer, new)
            mine, its = (weights_of(one.weights) for one in (layer, new))
            if mine != its:
                raise ValueError(f"the weights would be {its}. Received: {mine}.")
        elif layer.built and layer.get_build_config():
            if not new.built and not new._layers:
                new.dtype_policy = layer.dtype_policy
            build_like(layer, new)
            _check_output(layer, new)


def _is_alike(layer, twin):
    """Whether a copy has layers of the same classes, as where none was exchanged before."""
    within = children(twin)
    return type(layer) is type(twin) and all(
        path in within and _is_alike(child, within[path]) for path, child in children(layer).items()
    )


def _check_own_layers(layer):
    """Refuses a model whose constructor makes a graph, in which no layer can be exchanged."""
    if is_graph(layer):
        raise ValueError(
            "`model` must be of a class that does not make its graph in its constructor. "
            f"Received: {layer.name!r} of class {type(layer).__name__}. Pass "
            "`keras.Model(model.inputs, model.outputs)`, or keep the layers in attributes."
        )


def _check_output(layer, new):
    """Refuses a layer whose output does not fit the layers that follow."""
    shape = layer.get_build_config().get("input_shape")
    if shape is None or not layer._outbound_nodes:
        return
    try:
        mine, its = (one.compute_output_shape(shape) for one in (layer, new))
    except NotImplementedError:
        return  # then the layers that follow say so
    if mine != its:
        raise ValueError(f"its output would be of shape {its}, where the old one's is {mine}.")


def _does_not_fit(layer, error):
    reason = " ".join(str(error).splitlines())
    return ValueError(
        "`table` must give layers that fit where they are put. "
        f"Received: for layer {layer.name!r} of class {type(layer).__name__}: {reason} "
        "Give a function that makes another for this layer, or returns None to leave it alone."
    )


def _checked(table):
    """The table, if it is one."""
    if not isinstance(table, Mapping):
        raise TypeError(
            "`table` must be a dictionary of what becomes what. "
            f"Received: table={table!r}. Write `{{OldLayer: NewLayer}}`."
        )
    for key, value in table.items():
        given = value.args if isinstance(value, functools.partial) else ()
        if not callable(key) or not callable(value) or given:
            raise TypeError(
                "`table` must hold classes or functions, a `functools.partial` with arguments by "
                f"name. Received: {key!r}: {value!r}. Write `{{OldLayer: NewLayer}}`."
            )
    return table


def maker_of(table):
    """A function from a layer to the value of a table that it has, or to `None`."""

    def make(layer):
        if isinstance(layer, keras.layers.InputLayer):
            return None
        for key, value in table.items():
            if type(layer) is key if isinstance(key, type) else key(layer):
                kind = value.func if isinstance(value, functools.partial) else value
                return _OfClass(value) if isinstance(kind, type) else value
        return None

    return make


class _OfClass:
    """Makes a layer of a class from those arguments of an old layer that the class knows."""

    def __init__(self, value):
        self._kind = getattr(value, "func", value)
        self._given = getattr(value, "keywords", {})

    def __call__(self, layer):
        return from_config(self._kind, layer, self._arguments)

    def _arguments(self, layer):
        known = {name: one for name, one in self._config(layer).items() if self._knows(name)}
        return {**known, "dtype": dtype_of(layer), **self._given}

    def dropped(self, layer):
        """The arguments of the old layer that were set to something and are lost."""
        try:
            usual = type(layer)().get_config()
        except (TypeError, ValueError):  # it has arguments without defaults
            usual = {}
        config = self._config(layer)
        return [
            f"{name}={value!r}"
            for name, value in config.items()
            if not self._knows(name) and (name not in usual or usual[name] != value)
        ]

    def _config(self, layer):
        config = layer.get_config()
        renorm = type(layer) is keras.layers.BatchNormalization and config.get("renorm")
        return _renorm(config) if renorm and self._kind is BatchRenormalization else config

    def _knows(self, name):
        parameters = inspect.signature(self._kind).parameters
        rest = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
        return name in parameters or (rest and name in ("name", "trainable", "dtype"))


def _renorm(config):
    """The config of Keras's batch renormalization in the words of ours, without a schedule."""
    clipping = {"rmax": UNBOUNDED, "rmin": 0.0, "dmax": UNBOUNDED, **config["renorm_clipping"]}
    if config["renorm_momentum"] == config["momentum"]:  # ours has one pair of moments for both
        config = {name: one for name, one in config.items() if name != "renorm_momentum"}
    rest = {n: one for n, one in config.items() if n not in ("renorm", "renorm_clipping")}
    return {**rest, **clipping, "rmax_ramp": None, "dmax_ramp": None}


def dtype_of(layer):
    """A layer's dtype policy, by its name if it has one: not all of Keras's layers save others."""
    policy = layer.dtype_policy
    return policy.name if type(policy) is keras.DTypePolicy else policy


def from_config(kind: Any, layer, config_of: Callable[[Any], Any] | None = None):
    """A layer of a class with a layer's config, or with what a function makes of the layer."""
    with told_apart(layer._flatten_layers()):  # initializers and the like need not be registered
        return kind.from_config(layer.get_config() if config_of is None else config_of(layer))
