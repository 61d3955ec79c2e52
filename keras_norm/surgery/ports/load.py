"""Loads checkpoints of other libraries into models, in place, as `Model.load_weights` does."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from keras_norm.surgery.copying import check_model
from keras_norm.surgery.ports.flax import FLAX
from keras_norm.surgery.ports.formats import Entry, Format, Modules
from keras_norm.surgery.ports.slots import Slot, Target, has_kernel_rule, targets
from keras_norm.surgery.ports.torch import TORCH


class LoadedWeights(NamedTuple):
    """What was loaded, and what was not.

    Attributes:
        loaded: The key that each weight came from, by "layer/weight".
        left: Weights that the checkpoint has nothing for; they are as they were.
        unused: Keys that the model has no place for.
        ignored: Keys that hold no weights, such as counters of batches.
    """

    loaded: dict[str, str]
    left: list[str]
    unused: list[str]
    ignored: list[str]


def load_torch_weights(model, state_dict, mapping=None, strict=True):
    """Loads a PyTorch checkpoint into the same network built with Keras.

    Kernels are turned to Keras's layout, and what `weight_norm` and `spectral_norm` keep becomes
    the weights of `WeightNormalization` and `SpectralNormalization`. The table in `docs/weights.md`
    says what becomes what. A checkpoint holds no arguments: ε, momentum and groups are the model's,
    and PyTorch's defaults differ. `epsilon=1e-5, momentum=0.9` is PyTorch's `momentum=0.1`.

    Weights are loaded in place, as by `Model.load_weights`; if anything does not fit, none is.

    Args:
        model: A model or layer that is built.
        state_dict: Dictionary of arrays or tensors, as `Module.state_dict()` returns it. PyTorch
            need not be installed, unless to read the file.
        mapping: Module by layer: names as in `state_dict`, less the last part, by names of layers
            (`"outer/inner"` for layers within layers). `None` takes modules that are called as the
            layers, and otherwise the n-th module for the n-th layer with weights.
        strict: Whether each weight must be loaded and each key used. Otherwise those that are not
            are returned.

    Returns:
        A `LoadedWeights`, which says where each weight came from.

    Raises:
        TypeError: If `model`, `state_dict` or `mapping` is of the wrong type.
        ValueError: If `model` is not built, layers and modules cannot be matched, a shape differs,
            or with `strict=True` something is left over.

    Example:

    >>> import keras
    >>> dense = keras.layers.Dense(2, name="dense")
    >>> model = keras.Sequential([keras.Input((3,)), dense])
    >>> checkpoint = {"fc.weight": np.ones((2, 3)), "fc.bias": np.zeros(2)}
    >>> load_torch_weights(model, checkpoint, mapping={"dense": "fc"}).loaded
    {'dense/kernel': 'fc.weight', 'dense/bias': 'fc.bias'}
    """
    return _load(model, state_dict, mapping, strict, TORCH)


def load_flax_weights(model, variables, mapping=None, strict=True):
    """Loads the variables of a Flax network into the same network built with Keras.

    Both of Flax's interfaces are taken: what `Module.init` of Linen returns, and
    `nnx.to_pure_dict(nnx.state(module))` of NNX. What `WeightNorm` and
    `SpectralNorm` keep becomes the weights of our wrappers. The table in `docs/weights.md` says
    what becomes what. Variables hold no arguments: ε, momentum and groups are the model's.

    Weights are loaded in place, as by `Model.load_weights`; if anything does not fit, none is.

    Args:
        model: A model or layer that is built.
        variables: Nested dictionary of arrays: `{"params": ..., "batch_stats": ...}`, or one
            without these two names.
        mapping: Module by layer: the keys on the way to it, joined by ".", by names of layers
            (`"outer/inner"` for layers within layers). `None` takes modules that are called as the
            layers, and otherwise Linen's automatic names: `Conv_0`, `BatchNorm_0`, `Conv_1`, ...
            The order of modules does not count, since JAX sorts dictionaries.
        strict: Whether each weight must be loaded and each key used. Otherwise those that are not
            are returned.

    Returns:
        A `LoadedWeights`, which says where each weight came from.

    Raises:
        TypeError: If `model`, `variables` or `mapping` is of the wrong type.
        ValueError: If `model` is not built, layers and modules cannot be matched, a shape differs,
            or with `strict=True` something is left over.

    Example:

    >>> import keras
    >>> dense = keras.layers.Dense(2, name="dense")
    >>> model = keras.Sequential([keras.Input((3,)), dense])
    >>> params = {"Dense_0": {"kernel": np.ones((3, 2)), "bias": np.zeros(2)}}
    >>> load_flax_weights(model, {"params": params}).loaded
    {'dense/kernel': 'params.Dense_0.kernel', 'dense/bias': 'params.Dense_0.bias'}
    """
    return _load(model, variables, mapping, strict, FLAX)


def _load(model, checkpoint, mapping, strict, fmt) -> LoadedWeights:
    check_model(model)
    if mapping is not None and not isinstance(mapping, Mapping):
        raise TypeError(
            "`mapping` must be a dictionary from names of layers to names of modules. "
            f"Received: mapping={mapping!r}. Write e.g. mapping={{'dense': 'fc'}}."
        )
    modules, found = fmt.read(checkpoint), targets(model)
    pairs = _matched(found, modules, mapping, fmt)
    plan: list[tuple[Slot, Any, str]] = []
    left: list[str] = []
    for target in found:
        module = modules[pairs[target.path]] if target.path in pairs else {}
        for slot in target.slots:
            entry = _entry(slot, module, fmt)
            if entry is None:
                left.append(slot.label)
            else:
                plan.append((slot, _converted(slot, entry, module, fmt), entry.key))
    report = _report(plan, left, modules, fmt)
    if strict:
        _check_complete(report, fmt)
    for slot, value, _ in plan:
        slot.variable.assign(value)
    return report


def _matched(found: list[Target], modules: Modules, mapping, fmt: Format) -> dict[str, str]:
    """Name of the module of each layer that has one, by path."""
    if mapping is not None:
        _check_mapping(found, modules, mapping, fmt)
        return dict(mapping)
    names = fmt.match(found, modules)
    if names is None:
        raise ValueError(
            f"`{fmt.argument}` must have {fmt.advice}. Received: modules {_some(modules)}, layers "
            f"{_some(target.path for target in found)}. Pass `mapping={{layer: module, ...}}`."
        )
    return {target.path: name for target, name in zip(found, names, strict=True)}


def _check_mapping(found, modules, mapping, fmt):
    paths = [target.path for target in found]
    for layer, module in mapping.items():
        if layer not in paths:
            raise ValueError(
                "`mapping` must name layers with weights. "
                f"Received: mapping={{{layer!r}: {module!r}}}. Layers are {_some(paths)}."
            )
        if module not in modules:
            raise ValueError(
                f"`mapping` must name modules of `{fmt.argument}`. "
                f"Received: mapping={{{layer!r}: {module!r}}}. Modules are {_some(modules)}."
            )


def _entry(slot: Slot, module: dict[str, Entry], fmt: Format) -> Entry | None:
    """What a module has for a weight, or `None`."""
    names = fmt.leaves.get(slot.role, ()) if has_kernel_rule(slot) else ()
    return next((module[name] for name in names if name in module), None)


def _converted(slot, entry, module, fmt):
    """An array of a checkpoint as the weight has it."""
    array = fmt.convert(slot, entry.array, module)
    if array.shape != slot.shape:
        raise ValueError(
            f"`{fmt.argument}` must fit the shapes of `model`. Received: {entry.key!r} of shape "
            f"{entry.array.shape} for weight {slot.label!r} of shape {slot.shape} (layer of class "
            f"{type(slot.layer).__name__}). Build the layer with the sizes of the checkpoint, or "
            "pass another `mapping`."
        )
    return array


def _report(plan, left, modules, fmt):
    loaded = {slot.label: key for slot, _, key in plan}
    used = set(loaded.values())
    unused: list[str] = []
    ignored: list[str] = []
    for module in modules.values():
        for leaf, entry in module.items():
            if entry.key not in used:
                (ignored if leaf in fmt.ignored else unused).append(entry.key)
    return LoadedWeights(loaded, left, unused, ignored)


def _check_complete(report, fmt):
    if report.left:
        raise ValueError(
            f"`{fmt.argument}` must have a value for each weight of `model`. Received: none for "
            f"{_some(report.left)}; not used were {_some(report.unused)}. Build the layers with "
            "the options of the checkpoint, or pass `strict=False` to leave them as they are."
        )
    if report.unused:
        raise ValueError(
            f"`{fmt.argument}` must have nothing that `model` has no place for. Received: "
            f"{_some(report.unused)}. {_advice(report.unused)}"
        )


def _advice(keys):
    """What to do about keys that are not used."""
    if any(key.endswith(("running_mean", "running_var")) for key in keys):
        return (
            "A layer that keeps no moving moments, as `InstanceNormalization`, is another function "
            "than a module that does; pass `strict=False` to drop them."
        )
    return "Build the layers with the options of the checkpoint, or pass `strict=False`."


def _some(names):
    """A list of names, cut short."""
    names = [str(name) for name in names]
    return str(names) if len(names) <= 8 else f"{str(names[:8])[:-1]}, ... ({len(names)} in all)]"
