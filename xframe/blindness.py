"""What a probe cannot show, and why: numbers of a layer that would hide a mistake, and inputs on which one does not matter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from xframe import reference
from xframe.arithmetic import Plain
from xframe.judging import Input
from xframe.layout import Key
from xframe.packing import Parameters
from xframe.spec import Recurrent

__all__ = ["causes", "hidden"]

# tanh and the sigmoid are 1 up to float64's rounding beyond 19 and 37; a change that matters there would be large.
_SATURATED = 19
_MOST = 0.5


def hidden(params: Parameters) -> Iterator[str]:
    """A sentence for each way in which a layer's own numbers would hide a mistake: it would change nothing.

    That is no flaw of the comparison, because the two layers then do compute the same. It says how far the result goes: no
    further than layers with such numbers.
    """
    blocks = params.effective()
    biases = {role: [v for key, v in blocks.items() if key.role == role] for role in ("bias", "recurrent_bias")}
    kinds = [role.replace("_", " ") for role, found in biases.items() if found and not any(map(np.any, found))]
    if kinds:
        names = "biases" if len(kinds) == sum(map(bool, biases.values())) else f"{kinds[0]}es"
        yield f"The {names} are zero: a mistake in them would not have shown."
    for role in ("kernel", "recurrent_kernel"):
        found = [v for key, v in blocks.items() if key.role == role and v.size > 1]
        name = role.replace("_", " ")
        if found and all(np.ptp(v) == 0 for v in found):
            yield f"The numbers of the {name} are all equal: another order would not have shown."
        elif found and all(v.shape[0] == v.shape[1] and np.array_equal(v, v.T) for v in found):
            yield f"The {name} is symmetric: a transposed one would not have shown."
    gates = _alike(blocks, lambda key: key.gate, dict.fromkeys(key.gate for key in blocks))
    if len(gates) > 1:
        yield f"Gates {', '.join(gates)} hold the same numbers: their order would not have shown."
    if len(_alike(blocks, lambda key: key.direction, range(params.spec.num_directions))) > 1:
        yield "Both directions hold the same numbers: swapped ones would not have shown."


def _alike(blocks: Mapping[Key, np.ndarray], part: Callable[[Key], object], values: Iterable[object]) -> list[str]:
    """Those values of one part of an address at which all blocks are the same as at another one."""
    found: dict[tuple[bytes, ...], list[str]] = {}
    for value in values:
        own = tuple(block.tobytes() for key, block in blocks.items() if part(key) == value)
        found.setdefault(own, []).append(str(value))
    return [name for names in found.values() if len(names) > 1 for name in names]


class _Watching(Plain):
    """Counts the gates that are saturated."""

    def __init__(self) -> None:
        self.all = self.saturated = 0

    def activate(self, name: str, a: np.ndarray, out: np.ndarray) -> np.ndarray:
        if name in ("tanh", "sigmoid"):
            self.all += a.size
            self.saturated += int(np.count_nonzero(np.abs(a) > _SATURATED))
        return super().activate(name, a, out)


def causes(inputs: Iterable[Input], missed: Iterable[str]) -> Iterator[str]:
    """What is known of why these mistakes do not show on any of the inputs, each cause as the end of a sentence."""
    tried = [one for one in inputs if isinstance(one.spec, Recurrent)]
    if not tried:
        return
    if all(one.given.x.shape[1] == 1 for one in tried) and any("time" in name or "flipped" in name for name in missed):
        yield "one time step has no order"
    watching = _Watching()
    with np.errstate(over="ignore", invalid="ignore"):
        for one in tried:
            reference.run_given(one.spec, one.params, one.given, watching)
    if watching.saturated > _MOST * watching.all:
        yield f"{watching.saturated / watching.all:.0%} of the gates are saturated"
