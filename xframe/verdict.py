"""What a comparison found. A verdict is a record, which reports print; only its diagnosis waits until it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from xframe.counts import Count
from xframe.spec import Layer, Sequential

if TYPE_CHECKING:
    from xframe.diagnosis import Diagnosis

__all__ = ["Check", "LayerReport", "OverTime", "ParameterCheck", "Power", "Verdict"]


@dataclass(frozen=True)
class OverTime:
    """How far a sequence is off at each time step; one number a step.

    Attributes:
        error: the largest absolute difference.
        noise: the largest rounding noise of an element.
        ratio: the largest difference in units of the rounding noise of its element.
    """

    error: tuple[float, ...]
    noise: tuple[float, ...]
    ratio: tuple[float, ...]


@dataclass(frozen=True)
class Check:
    """One output of one framework against the NumPy reference.

    Attributes:
        layer: which layer, or ``model`` for the whole chain.
        framework: short name.
        weights: how the weights got there.
        initial_state: ``zero``, ``given`` or ``carried`` over from a call before; with a mask, which one; of another input than
            the first, which: ``given (input x 0.125 of 5 steps)``. ``forced`` where each time step was judged by itself.
        output: ``sequence``, ``last``, ``state h``, ... or ``output``.
        dtype: float type of the framework's layer; the reference is always in float64.
        status: ``equivalent``, ``different`` or ``inconclusive``.
        max_abs: largest absolute difference.
        noise_ratio: largest difference in units of the rounding noise of that element.
        worst: index of the element with the largest ratio, or of one that is not finite.
        reason: why the status is not ``equivalent``.
        got, expected: the two numbers there; that of the framework, and that of the reference.
        over_time: of a ``sequence`` whose numbers are finite, the same at each time step.
        power: by mistake of the catalogue, how many times the limit this output would have been off.
    """

    layer: str
    framework: str
    weights: str
    initial_state: str
    output: str
    dtype: str
    status: str
    max_abs: float | None
    noise_ratio: float | None
    worst: tuple[int, ...] | None
    reason: str = ""
    got: float | None = None
    expected: float | None = None
    over_time: OverTime | None = None
    power: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ParameterCheck:
    """The canonical parameters of two native layers beside each other.

    Attributes:
        layer: which layer.
        a, b: the two, as ``Keras (loaded)``.
        dtype: the narrower float type.
        max_abs: largest difference between effective parameters.
        where: address of that block.
        rounding: whether every difference is explained by rounding a sum of two biases, or by the narrower dtype.
    """

    layer: str
    a: str
    b: str
    dtype: str
    max_abs: float
    where: str
    rounding: bool

    @property
    def equal(self) -> bool:
        """Equal to the last bit."""
        return self.max_abs == 0


@dataclass(frozen=True)
class Power:
    """Which known mistakes this probe would have shown, and which single numbers.

    Attributes:
        margins: by mistake, how many times over the limit it would have been, at the output that shows it best.
        numbers: how many effective numbers the layers have; 0 if these were not tried.
        moved: how many of them moved an output by more than the limit, changed by ``share`` of the largest of their block.
        share: see there.
        asleep: the first of the others by name: what they are has not been judged.
    """

    margins: Mapping[str, float]
    numbers: int = 0
    moved: int = 0
    share: float = 0.0
    asleep: tuple[str, ...] = ()

    @property
    def missed(self) -> list[str]:
        """Mistakes that would have passed."""
        return [name for name, margin in self.margins.items() if not margin > 1]

    @property
    def weakest(self) -> tuple[str, float] | None:
        """The mistake that shows least."""
        return min(self.margins.items(), key=lambda item: item[1]) if self.margins else None


@dataclass(frozen=True)
class LayerReport:
    """One layer: what it is and how many numbers each framework keeps for it."""

    name: str
    spec: Layer
    counts: Mapping[str, Count]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """The outcome of a comparison; true only when equivalent.

    Attributes:
        status: ``equivalent``, ``different`` or ``inconclusive``.
        reason: one sentence.
        scope: what was judged, see `xframe.scope`: ``layers``, or of a chain of them ``model``.
        model: what was compared.
        frameworks: short names of the frameworks that were compared.
        not_compared: by framework that was left out, why.
        layers: the layers with their counts.
        parameters: the canonical parameters of each pair.
        checks: every output of every framework against the reference.
        power: what the probe would have shown.
        limit: how many units of noise an output may be off.
        probe: the sizes and the seed.
        notes: what else a reader should know.
        environment: versions.
        search: finds the diagnosis, where there is something to explain.
    """

    status: str
    reason: str
    scope: str
    model: Layer | Sequential
    frameworks: tuple[str, ...]
    not_compared: Mapping[str, str]
    layers: tuple[LayerReport, ...]
    parameters: tuple[ParameterCheck, ...]
    checks: tuple[Check, ...]
    power: Power
    limit: float
    probe: Mapping[str, Any]
    notes: tuple[str, ...]
    environment: Mapping[str, str]
    search: Callable[[], Diagnosis] | None = field(default=None, repr=False, compare=False)

    @cached_property
    def diagnosis(self) -> Diagnosis | None:
        """Why an output differs, and where that begins: searched when it is first asked for. None where none differs."""
        return self.search() if self.search else None

    @property
    def counted(self) -> tuple[LayerReport, ...]:
        """The layers, each that stands in several places of the model once."""
        return tuple({id(layer.spec): layer for layer in reversed(self.layers)}.values())[::-1]

    def __bool__(self) -> bool:
        return self.status == "equivalent"

    def report(self, format: str = "text") -> str:
        """The verdict as ``text``, ``markdown``, ``html``, ``json`` or ``junit``."""
        from xframe.report import render

        return render(self, format)
