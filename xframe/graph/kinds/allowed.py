"""Which values of options make sense."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

__all__ = ["axis", "count", "counts", "flag", "number", "one_of", "whole"]

# No array that a model has has more axes.
MAX_RANK = 8


def count(value: Any) -> bool:
    """A whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def counts(value: Any) -> bool:
    """Several of these."""
    return isinstance(value, list | tuple) and 0 < len(value) <= MAX_RANK and all(map(count, value))


def whole(value: Any) -> bool:
    """Several whole numbers of at least 0."""
    some = isinstance(value, list | tuple) and len(value) <= MAX_RANK
    return some and all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in value)


def axis(value: Any) -> bool:
    """An axis that is counted from the last, which is -1."""
    return isinstance(value, int) and not isinstance(value, bool) and -MAX_RANK <= value < 0


def flag(value: Any) -> bool:
    """True or False."""
    return isinstance(value, bool)


def number(value: Any) -> bool:
    """A finite number, as large as float32 has."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) and abs(value) < 1e38


def one_of(*values: Any) -> Callable[[Any], bool]:
    """One of these."""
    return lambda value: value in values
