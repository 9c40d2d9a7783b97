"""Why two whole models differ that have the same layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xframe.diagnosis.naming import times
from xframe.diagnosis.record import Cause, Diagnosis, Fault
from xframe.mistakes.steps import of_option
from xframe.whole import Off, Slip, Whole

__all__ = ["between"]

# What frameworks call an option.
_CALLED = {"sequence": "return_sequences"}


def between(whole: Whole, a: str, b: str) -> Diagnosis | None:
    """The diagnosis of two whole models, named ``a`` and ``b``, that have the same layers; None where nothing is wrong."""
    if whole.status != "different" or whole.off is None:
        return None
    off, mended, causes = whole.off, whole.mended, tuple[Cause, ...]()
    reason = _sentence(whole.reason)
    counting = [slip for slip in whole.slips if slip.off.differs]
    if whole.made is not None:
        made, entry = whole.made, of_option(whole.made.option)
        causes = (Cause((Fault(entry.name, made.name, entry.why, made.mend),), *_figures(made.off)),)
        reason = _with(made.name, made.off, off, made.mend)
    if mended is not None and counting:
        cause = Cause(tuple(_faults(counting)), *_figures(mended))
        mend = " ".join(fault.mend for fault in cause.faults)
        if mended.differs:
            left = f"{mended.max_abs:.2g} off, {times(mended.noise_ratio)} the rounding noise"
            reason = f"They differ in {cause.name}, and without that the outputs are still {left}. {_rest(whole)}Mend: {mend}"
        else:
            causes = (cause,)
            reason = _with(cause.name, mended, off, mend)
    return Diagnosis("explained" if causes else "unexplained", reason, a, b, None, *_figures(off), causes)


def _with(name: str, now: Off, before: Off, mend: str) -> str:
    within = f"agree within {now.noise_ratio:.2g} times the rounding noise"
    return f"With {name} the outputs {within} (before: {before.max_abs:.2g} off, {times(before.noise_ratio)}). Mend: {mend}"


def _figures(off: Off) -> tuple[float, float]:
    return off.noise_ratio, off.max_abs


def _rest(whole: Whole) -> str:
    return f"{_sentence(whole.lacking[0])} " if whole.lacking else ""


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _faults(slips: Iterable[Slip]) -> Iterator[Fault]:
    """One for each option and its two values, of all steps that have them."""
    groups: dict[tuple[str, str, str], list[Slip]] = {}
    for slip in slips:
        groups.setdefault((slip.option, slip.first, slip.second), []).append(slip)
    for (option, first, second), alike in groups.items():
        entry, called = of_option(option), _CALLED.get(option, option)
        steps = " and ".join(slip.b for slip in alike)
        name = f"{called}={second} instead of {first} in {steps}"
        yield Fault(entry.name, name, entry.why, f"Give {steps} {called}={first}, as the first model has it.")
