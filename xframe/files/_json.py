"""JSON of which there is one reading, and which does not take more memory than is allowed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from xframe.budget import current
from xframe.files.base import MAX_TEXT

__all__ = ["object_of"]

# What Python takes for each value, list and object of a text, at least.
_VALUE, _LIST, _OBJECT = 64, 56, 184


def object_of(text: str | bytes, what: str, constant: Callable[[str], Any] | None = None) -> dict[str, Any]:
    """The object that a text is.

    Args:
        text: the JSON.
        what: whose it is, as the start of a sentence.
        constant: what becomes of NaN and the infinities; as Python has them if None.

    Raises:
        ValueError: it is no object, too long, nested too deep, or has a name twice, of which parsers keep one or the other.
        LimitError: it asks for more memory than is allowed.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"it is longer than {MAX_TEXT} bytes")
    current().take(_size(text), what)
    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=constant)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(found, dict):
        raise ValueError("it is no object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"it has the name {twice[:80]!r} twice")
    return found


def _size(text: str | bytes) -> int:
    """What a text becomes in memory, about; beyond its own length."""

    def count(mark: str) -> int:
        return text.count(mark) if isinstance(text, str) else text.count(mark.encode())

    return _VALUE * (count(",") + count(":")) + _LIST * count("[") + _OBJECT * count("{")
