"""Weights of Keras 2 by the places they have in its files, and where they go."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_norm.layers.activations import ThresholdedLinearUnit
from keras_norm.layers.batch import BatchRenormalization, GhostBatchNormalization
from keras_norm.layers.groups import FilterResponseNormalization
from keras_norm.layers.recurrent import LayerNormLSTMCell, LayerNormSimpleRNNCell
from keras_norm.ops.weights import norm
from keras_norm.surgery.copying import children, is_graph
from keras_norm.surgery.foreign.contrib import ContribInstanceNormalization
from keras_norm.surgery.foreign.layers import Origin
from keras_norm.wrappers.spectral import SpectralNormalization
from keras_norm.wrappers.weight import WeightNormalization


class Slot:
    """One weight of Keras 2.

    Args:
        name: Its name there.
        trainable: Whether it was one of its layer's trainable weights.
        variable: The variable that takes its value, or `None`.
        optional: Whether some files leave it out.
        shape: Its shape; the variable's, or any, if not given.
    """

    def __init__(self, name, trainable, variable=None, optional=False, shape=None):
        self.name, self.trainable, self.variable = name, trainable, variable
        self.optional = optional
        self.shape = shape if variable is None else tuple(variable.shape)
        self.value: Any = None

    @property
    def key(self):
        """What tells it from others: a variable has one place, however often it is listed."""
        return id(self if self.variable is None else self.variable)

    def take(self, value, where):
        """Takes the value that a file has, for `put`.

        Raises:
            ValueError: If it has another shape.
        """
        if self.shape is None:
            self.value = value
            return
        # Keras 2 stored some tables with axes of size 1, and Addons a number as a list of one.
        if [n for n in value.shape if n != 1] != [n for n in self.shape if n != 1]:
            raise ValueError(
                "`path` must hold weights of the shapes that the model has. "
                f"Received: {self.name!r} of {where} with shape {value.shape}; the model's is "
                f"{self.shape}. Check that the file belongs to the model."
            )
        self.value = np.reshape(value, self.shape)

    def put(self):
        """Hands the value, if there is one, to the variable."""
        if self.variable is not None and self.value is not None:
            self.variable.assign(self.value)


class View:
    """One layer as Keras 2 saw it: its own weights, in order, and the layers within.

    Args:
        origin: What the layer was, an `Origin`.
        own: Its own weights, as `Slot`.
        within: Where a layer is held, as `attribute` or `attribute/number`, and its `View`.
        trainable: Whether the layer was.
        is_model: Whether it is a functional or sequential model.
        finish: Called without arguments when all weights are there.
    """

    def __init__(self, origin, own, within=(), trainable=True, is_model=False, finish=None):
        self.origin, self.own, self.within = origin, list(own), list(within)
        self.trainable, self.is_model, self.finish = trainable, is_model, finish

    def walk(self):
        """This view and all within."""
        yield self
        for _, view in self.within:
            yield from view.walk()

    def trainable_slots(self):
        """Keras 2's `trainable_weights`."""
        if not self.trainable:
            return []
        own = [slot for slot in self.own if slot.trainable]
        return own + [slot for _, view in self.within for slot in view.trainable_slots()]

    def frozen_slots(self):
        """Keras 2's `non_trainable_weights`."""
        within = [view for _, view in self.within]
        frozen = [slot for slot in self.own if not slot.trainable]
        if self.trainable:
            return frozen + [slot for view in within for slot in view.frozen_slots()]
        own = [slot for slot in self.own if slot.trainable]
        return own + frozen + [slot for view in within for slot in view.legacy_slots()]

    def legacy_slots(self):
        """The order of weights in an .h5 file's group of a layer."""
        return _once(self.trainable_slots() + self.frozen_slots())

    def slots(self):
        """Keras 2's `weights`."""
        if not self.is_model:
            return self.legacy_slots()
        return _once([slot for _, view in self.within for slot in view.slots()])


def _once(slots):
    found: dict[int, Slot] = {}
    for slot in slots:
        found.setdefault(slot.key, slot)
    return list(found.values())


class Views:
    """Makes the views of layers.

    Args:
        reader: The `ModelReader` that made the layers, or one that knows nothing of them.
    """

    def __init__(self, reader):
        self._reader = reader
        self.note = reader.notes.append
        self._made: dict[int, View] = {}
        self._copied: list[tuple[Any, Any]] = []

    def __call__(self, layer) -> View:
        """The view of a layer, one for each of Keras 2's."""
        first = self._reader.twins.get(id(layer))
        if first is not None and first.built:
            self._copied.append((first, layer))
            layer = first
        if id(layer) not in self._made:
            self._made[id(layer)] = self._make(layer)
        return self._made[id(layer)]

    def layers(self, model):
        """The layers of a model, in Keras 2's order."""
        return self._reader.order.get(id(model), model.layers)

    def finish(self):
        """Hands all values to the variables, since none is missing, and does what is left then."""
        views = list(self._made.values())
        slots = {id(slot): slot for view in views for part in view.walk() for slot in part.own}
        for slot in slots.values():
            slot.put()
        for view in views:
            if view.finish is not None:
                view.finish()
        for first, twin in self._copied:
            twin.set_weights(first.get_weights())
            for layer in twin._flatten_layers():
                if isinstance(layer, keras.layers.Normalization):
                    layer.finalize_state()

    def origin(self, layer):
        """What a layer was in the file; if it was not made from it, what it looks like."""
        name = type(layer).__name__
        if is_graph(layer):
            name = "Sequential" if isinstance(layer, keras.Sequential) else "Functional"
        guess = Origin(_OLD_NAMES.get(type(layer), name), "", {})
        return self._reader.origins.get(id(layer), guess)

    def _make(self, layer):
        origin = self.origin(layer)
        if is_graph(layer):
            within = [(f"layers/{n}", self(one)) for n, one in enumerate(self.layers(layer))]
            return View(origin, (), within, layer.trainable, is_model=True)
        special = _SPECIAL.get(type(layer))
        if special is not None:
            return special(self, layer, origin)
        return self.plain(layer, origin)

    def plain(self, layer, origin):
        """The view of a layer that keeps its weights as Keras 2 did."""
        return View(origin, own_slots(layer), self.within(layer), layer.trainable)

    def within(self, layer):
        """The layers that a layer holds, by attribute, or by attribute and number in a list."""
        return [
            ("/".join(map(str, path)), self(child))
            for path, child in children(layer).items()
            if child.weights
        ]


def own_slots(layer):
    """A layer's own weights, in Keras's order."""
    trained = {id(v) for v in layer._trainable_variables}
    own = layer._trainable_variables + layer._non_trainable_variables
    return [Slot(v.name, id(v) in trained, v) for v in own]


def _named(layer, *names, prefix=""):
    """Slots of some of a layer's own weights, by their names here, where it has them.

    Keras 2 knows them by their names without the prefix.
    """
    by_name = {slot.name: slot for slot in own_slots(layer)}
    slots = [by_name[prefix + name] for name in names if prefix + name in by_name]
    for slot in slots:
        slot.name = slot.name.removeprefix(prefix)
    return slots


def _adapted(views, layer, origin):
    """Moments of data, whose copies the layer computes with."""
    own = own_slots(layer)
    for slot in own:
        slot.name = slot.name if slot.name == "count" else f"adapt_{slot.name}"
    return View(origin, own, (), layer.trainable, finish=layer.finalize_state)


def _response(views, layer, origin):
    # Addons makes the learned part of epsilon in the constructor.
    own = _named(layer, "learned_epsilon", "gamma", "beta")
    return View(origin, own, (), layer.trainable)


def _batch(views, layer, origin):
    """Batch norms with weights besides those of Keras 3's."""
    own = _named(layer, "gamma", "beta", "moving_mean", "moving_variance")
    others = "moving_stddev", "renorm_mean", "renorm_stddev"
    own += [Slot(name, False, optional=True) for name in others]
    return View(origin, own, (), layer.trainable)


def _lstm_cell(views, layer, origin):
    own = _named(layer, "kernel", "recurrent_kernel", "bias")
    norms = ("kernel", "recurrent", "state")
    within = [
        (f"{norm}_norm", View(_NORM, _named(layer, "gamma", "beta", prefix=f"{norm}_")))
        for norm in norms
    ]
    return _with_flags(View(origin, own, within, layer.trainable), layer)


def _simple_cell(views, layer, origin):
    own = _named(layer, "kernel", "recurrent_kernel", "bias")
    within = [("layernorm", View(_NORM, _named(layer, "gamma")))]
    return _with_flags(View(origin, own, within, layer.trainable), layer)


def _with_flags(view, layer):
    for _, part in view.within:
        part.trainable = layer.trainable
    return view


def _weight(views, layer, origin):
    """Addons keeps v, the kernel, as the wrapper's own, and takes it from the layer within."""
    stored = _single(layer)
    if layer.data_init:
        raise ValueError(
            "`model` must have no `data_init`, which would change the file's lengths. "
            f"Received: {layer.name!r} with data_init=True. Leave `data_init` out."
        )
    (g,) = _named(layer, "g", prefix=stored.prefix)
    done = Slot("initialized", False, shape=())
    own = [g, Slot("v", True, stored.variable), done]
    inner = _without(views(layer.layer), stored.variable)
    # With `data_init` Addons keeps, and saves, a copy of the layer.
    copies = [Slot(slot.name, True, optional=True) for slot in own_slots(layer.layer)]
    copy = View(inner.origin, copies, (), trainable=False)
    within = [("layer", inner), ("_naked_clone_layer", copy)]

    def finish():
        if done.value is not None and not done.value:
            _start(layer, stored, g, origin, views.note)

    return View(origin, own, within, layer.trainable, finish=finish)


def _single(layer):
    """The one weight that a wrapper of Addons has to do with, whose units are its last axis."""
    stored = layer.stored_weights()
    if len(stored) != 1 or stored[0].axes != (len(stored[0].shape) - 1,):
        found = {weight.variable.name: list(weight.axes) for weight in stored}
        raise ValueError(
            "`model` must have wrappers of one weight each, along its last axis, as TensorFlow "
            f"Addons has. Received: {layer.name!r} around {layer.layer.name!r}, along {found}. "
            'Write for example axis={"kernel": -1}.'
        )
    return stored[0]


def _start(layer, stored, g, origin, note):
    """What Addons would have done in the first call."""
    g.variable.assign(ops.reshape(norm(stored.value(), stored.axes), g.shape))
    if origin.config.get("data_init"):
        note(
            f"{layer.name} (WeightNormalization): it was saved before its first call, whose data "
            "were to set g and bias; the layer is as if it were not wrapped instead"
        )


def _without(view, variable):
    """A view without one variable, wherever it is."""
    own = [slot for slot in view.own if slot.variable is not variable]
    within = [(name, _without(part, variable)) for name, part in view.within]
    return View(view.origin, own, within, view.trainable, view.is_model, view.finish)


def _spectral(views, layer, origin):
    """Addons keeps the kernel as the wrapper's own, too, and inference uses it as it is."""
    stored = _single(layer)
    u = Slot("sn_u", False, shape=stored.shape[-1:])
    own = [Slot("w", True, stored.variable), u]

    def finish():
        if u.value is None:
            return
        matrix = ops.reshape(stored.value(), (-1, u.value.size))
        side = np.ravel(u.value)
        side = side / max(float(np.linalg.norm(side)), 1e-12)
        image = ops.convert_to_numpy(matrix) @ side
        # v of a length at which vᵀ W u is 1: until it trains, the effective kernel is W itself.
        layer.u.assign(side)
        layer.v.assign(image / max(float(np.dot(image, image)), 1e-30))

    within = [("layer", views(layer.layer))]
    return View(origin, own, within, layer.trainable, finish=finish)


_NORM = Origin("LayerNormalization", "Keras 2", {})
_OLD_NAMES: dict[Any, str] = {
    BatchRenormalization: "BatchNormalization",
    GhostBatchNormalization: "BatchNormalization",
    ContribInstanceNormalization: "InstanceNormalization",
    ThresholdedLinearUnit: "TLU",
}
_SPECIAL: dict[Any, Callable[..., View]] = {
    keras.layers.Normalization: _adapted,
    FilterResponseNormalization: _response,
    BatchRenormalization: _batch,
    LayerNormLSTMCell: _lstm_cell,
    LayerNormSimpleRNNCell: _simple_cell,
    WeightNormalization: _weight,
    SpectralNormalization: _spectral,
}
