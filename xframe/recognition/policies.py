"""In which float type a Keras layer computes: its dtype policy may name another one than that of its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from xframe.adapters.base import FLOATS

__all__ = ["computes", "policy"]

# What runs inside a layer, with a policy of its own.
_INNER = ("layer", "backward_layer", "cell", "cells")
_MIXED = "mixed_"


def policy(options: Mapping[str, Any]) -> str:
    """The name of the dtype policy in a configuration: a float type, ``mixed_float16`` and the like; empty if it has none."""
    given = options.get("dtype")
    if isinstance(given, Mapping):
        config = given.get("config")
        given = config.get("name") if isinstance(config, Mapping) else None
    return given if isinstance(given, str) else ""


def computes(options: Mapping[str, Any]) -> str:
    """The float type in which a layer computes, or, if it is narrower, what runs inside it; empty where nothing says it.

    Keras before 2.3 calls the type of the first layer's input its dtype, which for an Embedding is one of whole numbers.
    """
    found = {name.removeprefix(_MIXED) for name in _policies(options)}.intersection(FLOATS)
    return max(found, key=FLOATS.index, default="")


def _policies(options: Mapping[str, Any]) -> Iterator[str]:
    yield policy(options)
    for name in _INNER:
        given = options.get(name)
        for inner in given if isinstance(given, list) else [given]:
            if isinstance(inner, Mapping) and isinstance(inner.get("config"), Mapping):
                yield from _policies(inner["config"])
