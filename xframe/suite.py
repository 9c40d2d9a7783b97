"""The standard grid: every cell with every option, small sizes, unequal on every axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xframe.adapters import get_adapter
from xframe.adapters.base import DTYPES
from xframe.comparison import compare_spec
from xframe.errors import UnsupportedError
from xframe.probe import Probe
from xframe.spec import Recurrent
from xframe.verdict import Verdict

__all__ = ["Suite", "grid", "run_suite"]

_KINDS: tuple[dict[str, Any], ...] = (
    {"cell": "rnn", "activation": "tanh"},
    {"cell": "rnn", "activation": "relu"},
    {"cell": "lstm"},
    {"cell": "gru", "reset_after": True},
    {"cell": "gru", "reset_after": False},
)
_SHAPES: tuple[dict[str, Any], ...] = (
    {},
    {"bias": False},
    {"bidirectional": True},
    {"num_layers": 2},
    {"num_layers": 3, "bidirectional": True},
    {"num_layers": 4, "bias": False, "bidirectional": True},
)


@dataclass(frozen=True)
class Suite:
    """The verdicts of a grid, in order.

    Attributes:
        verdicts: one a configuration that at least one framework has.
        left_out: why no framework has the others, by configuration.
    """

    verdicts: tuple[Verdict, ...]
    left_out: Mapping[str, str]

    @property
    def status(self) -> str:
        """``different`` if any verdict is, else ``inconclusive`` if any is, else ``equivalent``."""
        found = {v.status for v in self.verdicts}
        return next((s for s in ("different", "inconclusive") if s in found), "equivalent")

    @property
    def reason(self) -> str:
        """One sentence."""
        good = sum(1 for v in self.verdicts if v)
        bad = next((f" The first that is not: {v.model}: {v.reason}" for v in self.verdicts if not v), "")
        outputs = sum(len(v.checks) for v in self.verdicts)
        return f"{good} of {len(self.verdicts)} configurations are equivalent, {outputs:,} outputs judged.{bad}"

    @property
    def notes(self) -> list[str]:
        """What was left out, each reason once."""
        partly = [f"no: {text}" for v in self.verdicts for text in v.not_compared.values()]
        return list(dict.fromkeys([*partly, *(f"Left out: {text}" for text in self.left_out.values())]))

    def __bool__(self) -> bool:
        return self.status == "equivalent"

    def report(self, format: str = "text") -> str:
        """The suite as ``text``, ``markdown`` or ``json``."""
        from xframe.report import render

        return render(self, format)


def grid() -> Iterator[Recurrent]:
    """The standard grid."""
    for i, kind in enumerate(_KINDS):
        for j, shape in enumerate(_SHAPES):
            # Sizes that are equal neither to each other nor to the probe's batch (2) and steps (5).
            yield Recurrent(input_size=(3, 4, 6)[(i + j) % 3], hidden_size=7 + (2 * i + j) % 5, **kind, **shape)


def run_suite(
    probe: Probe,
    frameworks: Sequence[str] | None = None,
    dtypes: Sequence[str] = DTYPES,
    progress: Callable[[Sequence[Recurrent]], Iterable[Recurrent]] = iter,
) -> Suite:
    """Compare every configuration of the grid; what a framework does not have is left out and named.

    ``progress`` wraps the configurations, to show how far it has come. The rest and the errors are as of `compare`.
    """
    for name in frameworks or ():
        get_adapter(name)  # one that is unknown or missing is an error, not a configuration to leave out
    verdicts, left_out = [], {}
    for spec in progress(list(grid())):
        try:
            verdicts.append(compare_spec(spec, frameworks, dtypes, probe, strict=False))
        except UnsupportedError as error:
            left_out[str(spec)] = str(error)
    return Suite(tuple(verdicts), left_out)
