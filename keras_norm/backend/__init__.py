"""The one rule by which a faster version of an op is chosen.

An op is written once, with `keras.ops`; that text is its definition and stays callable as
`op.portable`. A module named after the running Keras backend may hold a function of the same name
and signature. It answers, or returns `NotImplemented` to decline. Nothing else in the package asks
which backend runs, but `abilities`, for what must be refused. Exporters trace models within
`answered_by`, where other forms answer instead.
"""

import contextlib
import contextvars
import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from keras_norm.backend import abilities

OVERRIDABLE: dict[str, Callable] = {}
"""Every overridable op by name; the tests walk it."""

_forms: contextvars.ContextVar[Mapping[str, Callable] | None] = contextvars.ContextVar(
    "keras_norm_forms", default=None
)


def overridable(function: Callable) -> Callable:
    """Lets `keras_norm.backend.<running backend>` answer for `function`.

    Args:
        function: An op written with `keras.ops`.

    Returns:
        The dispatching op; the definition is its attribute `portable`.
    """
    name = function.__name__

    @functools.wraps(function)
    def dispatch(*args: Any, **kwargs: Any) -> Any:
        forms = _forms.get()
        override = override_of(name) if forms is None else forms.get(name)
        if override is not None:
            result = override(*args, **kwargs)
            if result is not NotImplemented:
                return result
        return function(*args, **kwargs)

    dispatch.portable = function  # type: ignore[attr-defined]
    OVERRIDABLE[name] = dispatch
    return dispatch


@functools.cache
def override_of(name: str) -> Callable | None:
    """The running backend's version of the op `name`, or `None`."""
    module = f"{__name__}.{abilities.running()}"
    if importlib.util.find_spec(module) is None:
        return None
    return getattr(importlib.import_module(module), name, None)


@contextlib.contextmanager
def answered_by(forms: Mapping[str, Callable]) -> Iterator[None]:
    """Within it `forms` answer for the ops they name, and every other op runs as defined.

    Args:
        forms: Functions by the name of the op, of its signature. They may return `NotImplemented`.

    Yields:
        Nothing. The running backend's own versions are not asked, in this thread.
    """
    token = _forms.set(forms)
    try:
        yield
    finally:
        _forms.reset(token)


def portable_only() -> contextlib.AbstractContextManager[None]:
    """Within it every op runs as defined; exporters trace models under it.

    An exported graph must run on phones and in servers: it holds plain operations, no training-time
    rewrites of them.
    """
    return answered_by({})
