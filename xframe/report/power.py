"""What a report says of the power of a comparison: which mistakes and which single numbers its inputs would have shown."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xframe.verdict import Power

__all__ = ["fields", "sentences"]


def sentences(power: Power, show: str, be: str) -> Iterator[str]:
    """Sentences, in which ``show`` and ``be`` are the verbs for what these inputs do."""
    if power.weakest:
        name, margin = power.weakest
        caught = len(power.margins) - len(power.missed)
        yield (
            f"Power: {show} {caught} of {len(power.margins)} known mistakes; the one that shows least ({name}) {be} "
            f"{margin:.0e} times over the limit."
        )
    if power.numbers:
        yield f"Single numbers: {_moved(power)}"


def _moved(power: Power) -> str:
    change = f"a change by {power.share:g} of the largest of its kind"
    if power.moved == power.numbers:
        return f"{change} shows in each of {power.numbers:,}."
    rest = power.numbers - power.moved - len(power.asleep)
    named = "; ".join(power.asleep) + (f"; and {rest:,} more" if rest else "")
    return (
        f"{change} shows in {power.moved:,} of {power.numbers:,}; asleep on these inputs, so that nothing tells whether a layer "
        f"computes with them: {named}."
    )


def fields(power: Power) -> dict[str, Any]:
    """The object that JSON has of it."""
    return {
        "margins": {name: margin if math.isfinite(margin) else None for name, margin in power.margins.items()},
        "missed": power.missed,
        "single_numbers": {
            "count": power.numbers,
            "moved": power.moved,
            "share": power.share,
            "asleep": list(power.asleep),
        },
    }
