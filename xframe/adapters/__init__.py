"""The registry of frameworks.

Laziness, in prose: importing this package imports no framework and no NumPy. Each file beside this one describes one
framework: its packings (tables, nothing else needed) and, where xframe can run it, an `Adapter` whose constructor
imports the framework. A file that is added here is found by itself. Other distributions add adapters by the entry-point
group ``xframe.adapters``, whose entries name a module like those here.

Some frameworks can be run in several ways, of which a process has one: Keras has a backend. Each such variant has a name of its
own, ``keras[jax]``, and runs in a process of its own (`xframe.isolation`), as any framework does that is asked for so.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import PurePath
from types import ModuleType
from typing import Any

from xframe.adapters.base import Adapter, Isolated, first_of
from xframe.errors import MissingFrameworkError, UnsupportedError
from xframe.layout import Packing

__all__ = [
    "Adapter",
    "adapter_of",
    "available_adapters",
    "get_adapter",
    "get_adapters",
    "is_layer",
    "known_adapters",
    "known_names",
    "known_packings",
    "title_of",
    "usual_adapters",
]

ENTRY_POINTS = "xframe.adapters"


@cache
def _modules() -> tuple[ModuleType, ...]:
    """The framework files: those beside this one, then those that other distributions add."""
    names = [i.name for i in pkgutil.iter_modules(__path__) if i.name != "base" and not i.name.startswith("_")]
    own = [importlib.import_module(f"{__name__}.{name}") for name in names]
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
    runs = list(known_adapters())
    return {
        p.name: p for p in sorted(found, key=lambda p: (runs.index(p.name) if p.name in runs else len(runs), p.name))
    }


@cache
def known_adapters() -> dict[str, type[Adapter]]:
    """The class of every adapter by name, its framework installed or not; those that are compared by default first."""
    classes = [
        c
        for m in _modules()
        for c in vars(m).values()
        if isinstance(c, type) and issubclass(c, Adapter) and c.__module__ == m.__name__
    ]
    return {c.packing.name: c for c in sorted(classes, key=lambda c: not c.usual)}


def usual_adapters() -> list[str]:
    """The names of the adapters that are compared when none is named, installed or not."""
    return [name for name, adapter in known_adapters().items() if adapter.usual]


def known_names() -> list[str]:
    """All that `get_adapter` knows: each adapter's name, and after it those of its variants."""
    return [n for name, a in known_adapters().items() for n in (name, *(f"{name}[{v}]" for v in a.variants))]


def title_of(name: str) -> str:
    """What people call an adapter or a variant, found without importing its framework; an unknown name as it is."""
    if name not in known_names():
        return name
    kind, variant = _split(name)
    return kind.variants[variant].title if variant else kind.packing.title


def _split(name: str) -> tuple[type[Adapter], str]:
    """A known name as the adapter's class and the name of its variant, or nothing."""
    plain, _, variant = name.rstrip("]").partition("[")
    return known_adapters()[plain], variant


def get_adapter(name: str, isolate: bool = False) -> Adapter:
    """The adapter of that name, its framework imported; a variant, or with ``isolate``, in a process of its own.

    Raises:
        UnsupportedError: no such adapter.
        MissingFrameworkError: its framework is not installed.
    """
    if name not in known_names():
        counted = " (xframe counts its parameters but does not run it)" if name in known_packings() else ""
        raise UnsupportedError(
            f"There is no adapter for {name!r}{counted}; the adapters are {', '.join(known_names())}."
        )
    return _adapter(name, isolate or "[" in name)


@cache
def _adapter(name: str, isolate: bool) -> Adapter:
    kind, variant = _split(name)
    if not isolate:
        return kind()
    from xframe.isolation import IsolatedAdapter

    return IsolatedAdapter(kind, variant)


def get_adapters(names: Iterable[str], isolate: bool = False) -> list[Adapter]:
    """`get_adapter` for several names, each once; processes are started first, so that they start beside each other."""
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if isolate or "[" in name:
            get_adapter(name, isolate)
    return [get_adapter(name, isolate) for name in wanted]


def available_adapters() -> list[str]:
    """Names of the adapters whose frameworks are installed, found without importing them."""
    return [name for name, adapter in known_adapters().items() if not adapter.missing()]


def adapter_of(layer: object) -> Adapter:
    """The adapter of a native layer (or of a list of them, or of lists of lists).

    Raises:
        UnsupportedError: the layer belongs to no known framework.
    """
    if isinstance(layer, Isolated):
        return layer.adapter
    first = first_of(layer)
    for name, adapter in known_adapters().items():
        if adapter.owns(first):
            return get_adapter(name)
    kind = type(layer)
    raise UnsupportedError(
        f"xframe does not know what {kind.__module__}.{kind.__qualname__} is; give it a layer of "
        f"{', '.join(c.packing.title for c in known_adapters().values())}."
    )


def is_layer(side: object) -> bool:
    """Whether this is one native layer, and not a model of several or with other code in it, nor a path.

    Raises:
        UnsupportedError: it belongs to no known framework, or it is one layer that is not modelled.
    """
    if isinstance(side, str | PurePath):
        return False
    adapter = adapter_of(side)
    try:
        adapter.spec(side)
    except UnsupportedError:
        if [name for name, _ in adapter.layers(side)] == [""]:
            raise
        return False
    return True


def __getattr__(name: str) -> Any:
    # A framework's file that imports from a helper beside it asks for that first, while the registry is being made.
    for adapter in () if name.startswith("_") else known_adapters().values():
        if adapter.__name__ == name:
            return adapter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
