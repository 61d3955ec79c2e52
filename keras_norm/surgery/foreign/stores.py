"""The two forms in which HDF5 files of Keras 2 hold weights, read into views."""

import collections
import re

import h5py

from keras_norm.surgery.foreign.reading import Arrays, broken, member, names_in

# keras-contrib's and old ports' counters, which later versions no longer write.
_COUNTERS = ("_r_max", "_d_max", "_t")


def read_groups(group, model, views, path):
    """Reads a file with one group of weights for each layer: .h5 models and old weights files.

    Args:
        group: The group with the attribute `layer_names`.
        model: The model that takes them.
        views: Function from a layer to its `View`.
        path: What to call the file.

    Raises:
        ValueError: If a layer or weight is missing, or left over.
    """
    arrays = Arrays(group)
    names = names_in(group, "layer_names")
    stored = {name: _weights_of(group, name, arrays, path) for name in names}
    stored = {name: weights for name, weights in stored.items() if weights}
    layers = [view for _, view in views(model).within if view.legacy_slots()]
    by_name = {one.name: views(one) for one in views.layers(model) if views(one).legacy_slots()}
    if stored.keys() == by_name.keys():
        pairs = [(name, by_name[name]) for name in stored]
    elif len(stored) == len(layers):  # a model of one's own, whose layers have other names
        pairs = list(zip(stored, layers, strict=True))
    else:
        raise broken(path, f"with weights of layers {list(stored)}; the model has {list(by_name)}")
    for name, view in pairs:
        fill(view.legacy_slots(), stored[name], f"layer {name!r}", path)


def _weights_of(group, name, arrays, path):
    layer = member(group, name)
    if layer is None:
        raise broken(path, f"without a group for layer {name!r}")
    names = names_in(layer, "weight_names")
    values = [(weight, arrays.read(layer, weight)) for weight in names]
    missing = [weight for weight, value in values if value is None]
    if missing:
        raise broken(path, f"without the weights {missing}")
    return [v for weight, v in values if not weight.split(":")[0].endswith(_COUNTERS)]


def fill(slots, values, where, path):
    """Hands values to slots, one for each; optional slots may all be left out.

    Raises:
        ValueError: If their numbers differ.
    """
    if len(slots) != len(values):
        slots = [slot for slot in slots if not slot.optional]
    if len(slots) != len(values):
        raise broken(
            path,
            f"with {len(values)} weights for {where}, which has {len(slots)}: "
            f"{[slot.name for slot in slots]}",
        )
    for slot, value in zip(slots, values, strict=True):
        slot.take(value, where)


def read_tree(file, model, views, path):
    """Reads a file with groups within groups: .keras and .weights.h5 files of Keras 2.15.

    Args:
        file: The HDF5 file.
        model: The model that takes them.
        views: Function from a layer to its `View`.
        path: What to call the file.

    Raises:
        ValueError: If a layer or weight is missing, or left over.
    """
    tree = _Tree(file, path)
    tree.read(views(model), "")
    needed = (view for view in views(model).walk() if not all(s.optional for s in view.own))
    lost = [view for view in needed if id(view) not in tree.found]
    if lost:
        raise broken(path, f"without weights of {sorted({one.origin.name for one in lost})}")
    rest = [name for name in tree.stored() if name not in tree.used]
    if rest:
        raise broken(path, f"with weights that no layer of the model takes: {rest[:5]}")


def _numbered(view, numbers):
    """The name that a layer has in Keras 2's .keras files: its class in snake case, and a number.

    Args:
        view: The layer's `View`.
        numbers: How often each name was given; counted on.
    """
    name = re.sub(r"\W+", "", view.origin.name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    name = re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
    numbers[name] += 1
    return name if numbers[name] == 1 else f"{name}_{numbers[name] - 1}"


class _Tree:
    """One such file on its way."""

    def __init__(self, file, path):
        self.file, self.path = file, path
        self._arrays = Arrays(file)
        self.visited: set[int] = set()
        self.found: set[int] = set()
        self.used: set[str] = set()

    def read(self, view, inner):
        """Reads a layer and the layers within, unless it was read at another place."""
        if id(view) in self.visited:
            return
        self.visited.add(id(view))
        if view.own:
            self._own(view, inner)
        numbers: collections.Counter[str] = collections.Counter()
        for name, part in view.within:
            if id(part) in self.visited:
                continue
            attribute, _, number = name.rpartition("/")
            place = name if number and not number.isdecimal() else _numbered(part, numbers)
            self.read(part, "/".join(filter(None, (inner, attribute, place))))

    def _own(self, view, inner):
        place = f"{inner}/vars".lstrip("/")
        group = member(self.file, place)
        if group is None:
            return
        names = sorted(group, key=lambda name: (len(name), name))
        values = [self._arrays.read(group, name) for name in names]
        if any(value is None for value in values):
            raise broken(self.path, f"whose {place!r} holds something else than weights")
        self.used.update(f"{place}/{name}" for name in names)
        self.found.add(id(view))
        fill(view.own, values, repr(inner), self.path)

    def stored(self):
        """Names of all weights of layers in the file."""
        names: list[str] = []

        def visit(name, found):
            if isinstance(found, h5py.Dataset):
                names.append(f"layers/{name}")

        layers = member(self.file, "layers")
        if layers is not None:
            layers.visititems(visit)
        return names
