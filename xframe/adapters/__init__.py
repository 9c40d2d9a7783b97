"""The registry of frameworks.

Laziness, in prose: importing this package imports no framework and no NumPy. Each file beside this one describes one
framework: its packings (tables, nothing else needed) and, where xframe can run it, an `Adapter` whose constructor
imports the framework. A file that is added here is found by itself. Other distributions add adapters by the entry-point
group ``xframe.adapters``, whose entries name a module like those here.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

from xframe.adapters.base import Adapter
from xframe.errors import MissingFrameworkError, UnsupportedError
from xframe.layout import Packing

__all__ = ["Adapter", "adapter_of", "available_adapters", "get_adapter", "known_adapters", "known_packings"]

ENTRY_POINTS = "xframe.adapters"


@cache
def _modules() -> tuple[ModuleType, ...]:
    """The framework files: those beside this one, then those that other distributions add."""
    own = [importlib.import_module(f"{__name__}.{i.name}") for i in pkgutil.iter_modules(__path__) if i.name != "base"]
    return (*own, *(_load(entry) for entry in entry_points(group=ENTRY_POINTS)))


def _load(entry: EntryPoint) -> ModuleType:
    try:
        return entry.load()
    except Exception as error:
        raise MissingFrameworkError(
            f"The adapter {entry.name!r} ({entry.value}) is installed but cannot be loaded ({error}); reinstall or remove it."
        ) from error


@cache
def known_packings() -> dict[str, Packing]:
    """Every packing by name: the frameworks that can be run first, then the others."""
    found = [p for m in _modules() for p in m.PACKINGS]
    runs = known_adapters()
    return {p.name: p for p in sorted(found, key=lambda p: (p.name not in runs, p.name))}


@cache
def known_adapters() -> dict[str, type[Adapter]]:
    """The class of every adapter by name, its framework installed or not."""
    classes = [
        c
        for m in _modules()
        for c in vars(m).values()
        if isinstance(c, type) and issubclass(c, Adapter) and c.__module__ == m.__name__
    ]
    return {c.packing.name: c for c in classes}


@cache
def get_adapter(name: str) -> Adapter:
    """The adapter of that name, its framework imported.

    Raises:
        UnsupportedError: no such adapter.
        MissingFrameworkError: its framework is not installed.
    """
    if name not in known_adapters():
        names = ", ".join(known_adapters())
        counted = " (xframe counts its parameters but does not run it)" if name in known_packings() else ""
        raise UnsupportedError(f"There is no adapter for {name!r}{counted}; the adapters are {names}.")
    return known_adapters()[name]()


def available_adapters() -> list[str]:
    """Names of the adapters whose frameworks are installed, found without importing them."""
    return [name for name, adapter in known_adapters().items() if not adapter.missing()]


def adapter_of(layer: object) -> Adapter:
    """The adapter of a native layer (or of a list of them).

    Raises:
        UnsupportedError: the layer belongs to no known framework.
    """
    first = layer[0] if isinstance(layer, list | tuple) and layer else layer
    for name, adapter in known_adapters().items():
        if adapter.owns(first):
            return get_adapter(name)
    kind = type(layer)
    raise UnsupportedError(
        f"xframe does not know what {kind.__module__}.{kind.__qualname__} is; give it a layer of "
        f"{', '.join(c.packing.title for c in known_adapters().values())}."
    )


def __getattr__(name: str) -> Any:
    for adapter in known_adapters().values():
        if adapter.__name__ == name:
            return adapter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
