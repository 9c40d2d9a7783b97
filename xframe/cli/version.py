"""``xframe --version``: which versions are installed, found without importing anything of them."""

from __future__ import annotations

import platform
from importlib import metadata
from importlib.util import find_spec

from xframe import __version__

__all__ = ["BESIDES", "shown", "versions"]

# What frameworks stand on, and what else xframe works with.
BESIDES = ("tensorflow", "jax", "safetensors", "matplotlib")


def shown() -> list[str]:
    """Whose versions are shown: NumPy's, and of every framework in the registry what it needs, and `BESIDES`."""
    from xframe.adapters import known_adapters

    needed = (module for adapter in known_adapters().values() for module in adapter.requires)
    return list(dict.fromkeys(("numpy", *needed, *BESIDES)))


def versions() -> str:
    """xframe's version, and in a second line those of Python and of what xframe works with."""
    found = [f"python {platform.python_version()}", *(f"{name} {_installed(name)}" for name in shown())]
    return f"xframe {__version__}\n{', '.join(found)}"


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
    module = find_spec(name)
    if module is None or module.origin is None:  # without origin: any folder of that name
        return "not installed"
    # A module may come from a distribution of another name, as tensorflow does from tensorflow-cpu.
    others = metadata.packages_distributions().get(name, [])
    return metadata.version(others[0]) if others else "of unknown version"
