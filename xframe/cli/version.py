"""``xframe --version``: which versions are installed, found without importing anything of them."""

from __future__ import annotations

import platform
from importlib import metadata
from importlib.util import find_spec

from xframe import __version__

__all__ = ["SHOWN", "versions"]

SHOWN = ("numpy", "keras", "tensorflow", "torch", "onnx", "onnxruntime", "safetensors", "matplotlib")


def versions() -> str:
    """xframe's version, and in a second line those of Python and of what xframe works with."""
    found = [f"python {platform.python_version()}", *(f"{name} {_installed(name)}" for name in SHOWN)]
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
