"""Checking against a baseline: what a framework puts out now, what its names mean now, and what that explains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xframe import __version__, noise, reference
from xframe.adapters import adapter_of, get_adapter
from xframe.adapters.base import DTYPES, Adapter
from xframe.apart import Known, apart, waking, with_telling
from xframe.asleep import counted, moved_by_any, none_moved
from xframe.baseline.reading import load
from xframe.baseline.running import chosen, judged, loaded, unseen
from xframe.baseline.since import Memory, changed_since, unchanged, versions
from xframe.baseline.stored import Baseline, RecordedInput, RecordedLayer
from xframe.comparison import environment, fitting, misfit
from xframe.errors import MissingFrameworkError, SpecError, UnsupportedError
from xframe.judging import LIMIT, Input, Subject, difference, in_types, margins, power, uncalled
from xframe.packing import Parameters
from xframe.probe import Probe
from xframe.spec import Layer, described
from xframe.verdict import Check, Power

if TYPE_CHECKING:
    from xframe.diagnosis import Diagnosis

__all__ = ["Checking", "check"]

# What is judged: a recorded layer, a float type, and the native layer.
Subjects = Iterable[tuple[RecordedLayer, str, Subject]]


@dataclass(frozen=True)
class Checking:
    """The outcome of a check; true only when equivalent.

    Attributes:
        path: the file.
        status: ``equivalent``, ``different`` or ``inconclusive``.
        reason: one sentence, or a few where the cause is known.
        scope: what was judged, see `xframe.scope`.
        baseline: what the file holds.
        frameworks: short names of the frameworks that were checked.
        not_compared: by framework that was left out, why.
        checks: every output against the recorded one.
        reference: by layer, how far the NumPy reference of today is from the recorded outputs, in units of noise.
        causes: what has changed that matters for these layers, a sentence each.
        power: which mistakes this baseline shows.
        notes: what else a reader should know, such as changes that matter for other layers.
        environment: versions.
        search: finds the diagnosis, where a layer does not put out what is recorded.
    """

    path: Path
    status: str
    reason: str
    scope: str
    baseline: Baseline
    frameworks: tuple[str, ...]
    not_compared: Mapping[str, str]
    checks: tuple[Check, ...]
    reference: Mapping[str, float]
    causes: tuple[str, ...]
    power: Power
    notes: tuple[str, ...]
    environment: Mapping[str, str]
    search: Callable[[], Diagnosis] | None = field(default=None, repr=False, compare=False)

    @cached_property
    def diagnosis(self) -> Diagnosis | None:
        """Why the first layer that differs does, and where that begins, searched when it is first asked for.

        None where none does, and where the NumPy reference of today is not the recorded one: it would explain something else.
        """
        return self.search() if self.search else None

    def __bool__(self) -> bool:
        return self.status == "equivalent"

    def report(self, format: str = "text") -> str:
        """The check as ``text``, ``markdown``, ``html``, ``json`` or ``junit``."""
        from xframe.report import render

        return render(self, format)


def check(
    path: str | Path,
    framework: str | Sequence[str] | None = None,
    *,
    layer: Any = None,
    dtypes: Sequence[str] | None = None,
) -> Checking:
    """Check a framework against a baseline.

    The recorded layers are built, loaded with the recorded parameters and run; every output must be the recorded one but for
    the rounding noise that was measured then. The NumPy reference must put out what it did. The framework's defaults and
    activation functions must mean what they did: what no longer does is named, and makes the outcome ``different`` if it
    matters for a recorded layer.

    Args:
        path: a file that `record` wrote.
        framework: the framework, or several; all that are installed if None.
        layer: a native layer to check instead, with the weights that it has; the baseline must be of one layer.
        dtypes: the float types to judge; all that were recorded if None.

    Raises:
        FileError: the file cannot be read, or is no baseline.
        SpecError: an argument makes no sense.
        UnsupportedError: a framework that was asked for does not have the layer, or fails.
        MissingFrameworkError: a framework that was asked for is not installed, or none is.
    """
    target = Path(path)
    baseline = load(target)
    baseline = _in_dtypes(baseline, dtypes)
    if layer is not None:
        if framework is not None:
            raise SpecError("framework goes with a baseline alone; a native layer brings its own.")
        return _check_native(target, baseline, layer)
    adapters, left_out = chosen([one.spec for one in baseline.layers], framework)
    if not adapters:
        if left_out:
            raise UnsupportedError(" ".join(left_out.values()))
        raise MissingFrameworkError(
            "No framework is installed that could be checked; install one with: pip install 'xframe[torch]'."
        )
    subjects = (
        (one, dtype, loaded(adapter, one.spec, one.params, dtype))
        for one in baseline.layers
        for adapter in adapters
        for dtype in one.dtypes
    )
    return _checked(target, baseline, adapters, left_out, subjects)


def _in_dtypes(baseline: Baseline, dtypes: Sequence[str] | None) -> Baseline:
    """The baseline with the float types that were asked for."""
    if dtypes is None:
        return baseline
    known = list(dict.fromkeys(dtype for one in baseline.layers for dtype in one.dtypes))
    if not dtypes or (wrong := [dtype for dtype in dtypes if dtype not in known]):
        given = repr(wrong[0]) if dtypes else "nothing"
        raise SpecError(f"dtypes must be among those that were recorded, {', '.join(known)}, not {given}.")
    layers = [replace(one, dtypes=tuple(d for d in one.dtypes if d in dtypes)) for one in baseline.layers]
    if poor := [one.name for one in layers if not one.dtypes]:
        raise SpecError(f"{poor[0]} was recorded in none of {', '.join(dtypes)}; leave the option out.")
    return replace(baseline, layers=tuple(layers))


# ---- A native layer.


def _check_native(path: Path, baseline: Baseline, layer: Any) -> Checking:
    if len(baseline.layers) > 1:
        names = ", ".join(repr(one.name) for one in baseline.layers)
        raise SpecError(
            f"A native layer is checked against one layer, and {path} has {names}; record the one by itself."
        )
    recorded, adapter = baseline.layers[0], adapter_of(layer)
    spec = adapter.spec(layer, getattr(recorded.spec, "mask", None))
    if sizes := misfit(spec, recorded.spec):
        found = _checked(path, baseline, [adapter], {}, ())
        return replace(
            found, status="different", reason=f"The layer is of another shape than the recorded one: {sizes}."
        )
    kind = adapter.dtype(layer)
    # Only rounding would be known of the layer in a wider type than its own; its function is judged in float64.
    kinds = [dtype for dtype in recorded.dtypes if dtype in ("float64", kind)]
    if not kinds:
        raise SpecError(f"The layer is of {kind}, and was recorded in {', '.join(recorded.dtypes)}; record it again.")
    own_layer, params = Subject(adapter, layer, "its own"), adapter.parameters(layer)
    differ = apart((recorded.spec, recorded.params), (spec, params), kind, True)
    given = _telling(recorded, (spec, params), baseline.probe, kinds) if differ else _held_to(params, recorded, kinds)
    # The noise of its own type need not have been recorded.
    held = [Input(one.layer, one.spec, one.params, one.given, one.number, one.kind) for one in given]
    natives, without = in_types(own_layer, kinds, held)
    if any(dtype not in kinds for dtype in natives):
        raise UnsupportedError(f"{' '.join(without.values())} {kind} was not recorded; record the layer again.")
    judged_on = replace(recorded, inputs=given)
    found = _checked(path, baseline, [adapter], {}, [(judged_on, *one) for one in natives.items()])
    own = tuple(_differences(spec, params, recorded, kind))
    found = replace(found, notes=(*found.notes, *without.values(), *uncalled(own_layer, held)))
    if given is not recorded.inputs and not differ:
        note = f"Its parameters are the recorded ones rounded to {kind}; it is held to what the reference computes with them."
        found = replace(found, notes=(*found.notes, note))
    if not differ:
        return replace(found, notes=(*found.notes, *own))
    if found.status != "different":
        found = replace(found, status="inconclusive", reason=differ.unshown)
    return replace(found, reason=" ".join((found.reason, *own)), causes=(*own, *found.causes))


def _held_to(params: Parameters, recorded: RecordedLayer, kinds: Sequence[str]) -> tuple[RecordedInput, ...]:
    """The recorded inputs; of a layer that has the recorded parameters but for rounding, with what its own come to.

    That rounding would else be a difference of function in float64.
    """
    alike = params.keys() == recorded.params.keys()
    if not alike or all(np.array_equal(params[key], block) for key, block in recorded.params.items()):
        return recorded.inputs
    own = Parameters(recorded.spec, dict(params))
    return tuple(_with_truth(replace(one, params=own), kinds, one.native) for one in recorded.inputs)


def _telling(
    recorded: RecordedLayer, other: Known, sizes: Mapping[str, int], kinds: Sequence[str]
) -> tuple[RecordedInput, ...]:
    """The recorded inputs, and where the layer differs on none of them, one on which it does, if there is one."""
    probe = fitting([recorded.spec], Probe(sizes["batch"], sizes["steps"], sizes["seed"]))
    further = waking(recorded.spec, recorded.name, recorded.params, probe)
    given = with_telling(other, recorded.inputs, further, kinds[0])
    return tuple(one if isinstance(one, RecordedInput) else _with_truth(one, kinds) for one in given)


def _with_truth(
    one: Input, kinds: Sequence[str], native: Mapping[tuple[str, str], Mapping[str, np.ndarray]] | None = None
) -> RecordedInput:
    """An input with what the reference of today puts out."""
    truths = {dtype: noise.measure(one.spec, one.params, one.given, dtype) for dtype in kinds}
    return RecordedInput(one.layer, one.spec, one.params, one.given, one.number, one.kind, truths, native or {})


def _differences(spec: Layer, params: Parameters, recorded: RecordedLayer, kind: str) -> Iterator[str]:
    """In what a native layer itself is not the recorded one."""
    theirs = recorded.spec.options()
    for option, value in spec.options().items():
        if value != theirs[option]:
            yield f"The layer has {option}={described(value)}, and the recorded one {described(theirs[option])}."
    largest, where, rounding = difference(params, recorded.params, kind, narrowed=True)
    if not rounding:
        yield f"Its parameters differ from the recorded ones by up to {largest:.2g}, most at {where}."


# ---- Running, and the outcome.


def _checked(
    path: Path, baseline: Baseline, adapters: Sequence[Adapter], left_out: Mapping[str, str], subjects: Subjects
) -> Checking:
    inputs = [(given, one.dtypes[0]) for one in baseline.layers for given in one.inputs]
    shown = {given.title: margins(given, dtype) for given, dtype in inputs if given.shows_most}
    checks, memory, wrong = _run(subjects, shown)
    changed = list(changed_since(baseline, adapters))
    causes = tuple(change.sentence for change in changed if change.concerns)
    moved = {one.name: moved_by_any(none_moved(one.params), one.inputs, one.dtypes[0]) for one in baseline.layers}
    found_power = counted(power([given for given, _ in inputs], shown), moved, DTYPES[0])
    today = {one.name: _reference(one) for one in baseline.layers}
    status, reason = _concluded(adapters, checks, today, causes, found_power)
    now = {"xframe": __version__, **environment(adapters)}
    notes = (
        *unchanged(baseline, adapters, changed),
        *(f"{change.sentence} No recorded layer depends on it." for change in changed if not change.concerns),
        *versions(baseline, adapters, now),
        *memory.sentences(adapters),
    )
    return Checking(
        path=path,
        status=status,
        reason=reason,
        scope="layers",
        baseline=baseline,
        frameworks=tuple(one.name for one in adapters),
        not_compared=dict(left_out),
        checks=tuple(checks),
        reference=today,
        causes=causes,
        power=found_power,
        notes=notes,
        environment=now,
        search=partial(_why, *wrong[0]) if wrong and all(ratio <= LIMIT for ratio in today.values()) else None,
    )


def _run(
    subjects: Subjects, shown: Mapping[str, Any]
) -> tuple[list[Check], Memory, list[tuple[RecordedLayer, str, Subject]]]:
    """Every subject on every recorded input, and those that differ.

    ``shown`` is which mistakes each would show in the finest float type.
    """
    checks: list[Check] = []
    memory, wrong = Memory(), []
    for recorded, dtype, subject in subjects:
        begun = len(checks)
        for given in recorded.inputs:
            power_of = shown.get(given.title, {}) if dtype == recorded.dtypes[0] else {}
            outputs, found = judged(subject, given, dtype, power_of)
            checks += found
            memory.compare(subject.adapter.name, given, dtype, outputs)
        if any(one.status == "different" for one in checks[begun:]):
            wrong.append((recorded, dtype, subject))
    return checks, memory, wrong


def _why(recorded: RecordedLayer, dtype: str, subject: Subject) -> Diagnosis:
    """Why a layer does not put out what is recorded; the reference stands for the recording, which it puts out."""
    from xframe.diagnosis.sides import diagnosed, ran  # which is needed where something differs

    own = (
        subject.adapter.spec(subject.native, getattr(recorded.spec, "mask", None)),
        subject.adapter.parameters(subject.native),
    )
    evidence = [ran(subject, one.given, dtype) for one in recorded.inputs]
    titles = (f"the recorded {recorded.name}", subject.label)
    cores = subject.adapter.tensor_cores(subject.native)
    return diagnosed(recorded.spec, recorded.params, evidence, other=own, titles=titles, tensor_cores=cores)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _reference(layer: RecordedLayer) -> float:
    """How far the reference of today is from the recorded outputs, in units of noise of the finest float type."""
    worst = 0.0
    for one in layer.inputs:
        truth = one.noise(layer.dtypes[0])
        outputs = reference.run_given(one.spec, one.params, one.given.astype("float64")).named()
        for name, values in outputs.items():
            ratio = noise.ratio(values, truth.clean[name], truth.deviation[name]).max()
            worst = max(worst, float(ratio) if np.isfinite(ratio) else np.inf)
    return worst


def _concluded(
    adapters: Sequence[Adapter],
    checks: Sequence[Check],
    today: Mapping[str, float],
    causes: Sequence[str],
    shown: Power,
) -> tuple[str, str]:
    """The status, and the sentences that say why."""
    bad = [one for one in checks if one.status == "different"]
    drifted = [name for name, ratio in today.items() if not ratio <= LIMIT]
    found = [
        f"The NumPy reference of this xframe does not put out what is recorded {'either ' if bad else ''}({name}: "
        f"{today[name]:.2g} times the noise)."
        for name in drifted[:1]
    ]
    found += causes
    if bad:
        worst = max(bad, key=lambda one: np.inf if one.noise_ratio is None else one.noise_ratio)
        first = (
            f"{len(bad)} of {len(checks)} outputs are not the recorded ones; the worst is {worst.output} of {worst.layer} in "
            f"{get_adapter(worst.framework).title} ({worst.dtype}): {worst.reason}."
        )
        return "different", " ".join((first, *found))
    if found:
        return "different", " ".join(("The outputs are the recorded ones, but something else is not.", *found))
    if vague := [one for one in checks if one.status == "inconclusive"]:
        return "inconclusive", f"{vague[0].output} of {vague[0].layer} proves nothing: {vague[0].reason}."
    if shown.missed:
        return "inconclusive", (
            f"The outputs agree, but this baseline could not have shown: {unseen(shown)}; record it again."
        )
    ratio = max((one.noise_ratio for one in checks if one.noise_ratio is not None), default=0.0)
    names = " and ".join(one.title for one in adapters)
    return "equivalent", (
        f"{names} put{'s' if len(adapters) == 1 else ''} out what is recorded: all {len(checks)} outputs are within {ratio:.2g} "
        f"times the rounding noise that was measured then (limit {LIMIT:g})."
    )
