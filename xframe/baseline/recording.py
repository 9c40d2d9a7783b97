"""Recording a baseline: of a spec, of the layers of a model file, or of a native layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from xframe import __version__
from xframe.adapters import get_adapter
from xframe.adapters.base import DTYPES, Adapter
from xframe.asleep import counted
from xframe.baseline.defaults import defaults_of
from xframe.baseline.running import chosen, judged, loaded, unseen
from xframe.baseline.sources import Source, of_file, of_native, of_spec
from xframe.baseline.stored import Baseline, RecordedInput, RecordedLayer, save
from xframe.comparison import environment
from xframe.errors import FileError, SpecError, UnsupportedError
from xframe.judging import LIMIT, Subject, in_types, power, uncalled
from xframe.packing import Parameters
from xframe.placing import refused
from xframe.probe import Probe
from xframe.recognition import Choices
from xframe.spec import Dense, Recurrent, Sequential, plural
from xframe.verdict import Check, Power

__all__ = ["Recording", "record"]


@dataclass(frozen=True)
class Recording:
    """What was recorded; true only if it was.

    Attributes:
        path: the file.
        status: ``equivalent``; ``done`` where no framework was there to be run; ``different`` or ``inconclusive``, and then
            nothing was written.
        reason: one sentence.
        baseline: what the file holds.
        frameworks: short names of the frameworks that were run.
        not_compared: by framework that was left out, why.
        checks: what they put out, against the reference.
        power: which mistakes a check will show.
        notes: what else a reader should know.
    """

    path: Path
    status: str
    reason: str
    baseline: Baseline
    frameworks: tuple[str, ...]
    not_compared: Mapping[str, str]
    checks: tuple[Check, ...]
    power: Power
    notes: tuple[str, ...]

    @property
    def environment(self) -> Mapping[str, str]:
        """Versions."""
        return self.baseline.environment

    def __bool__(self) -> bool:
        return self.status in ("equivalent", "done")

    def report(self, format: str = "text") -> str:
        """The recording as ``text``, ``markdown``, ``html``, ``json`` or ``junit``."""
        from xframe.report import render

        return render(self, format)


def record(
    source: Any,
    path: str | Path,
    *,
    framework: str | Sequence[str] | None = None,
    layer: str | None = None,
    choices: Choices | None = None,
    batch: int = Probe.batch,
    steps: int | None = None,
    seed: int = 0,
    force: bool = False,
) -> Recording:
    """Write a baseline, against which later versions can be checked.

    Each layer is judged in float64, and in float32 if that holds every one of its parameters exactly.

    Args:
        source: a `Recurrent`, `Dense` or `Sequential`, recorded with random parameters; the path of a model file, whose
            recurrent and dense layers are recorded, each by itself; or a native layer, recorded with the weights that it has.
        path: the file to write, a .npz.
        framework: for a spec and a file: the frameworks whose outputs, defaults and activation functions are kept as well;
            all that are installed if None. A native layer brings its own.
        layer: of a file, the name of the one layer to record.
        choices: of a file, what it does not say of its layers.
        batch, steps: sizes of the inputs; without ``steps`` it is five, and more where a mistake would not show in five.
        seed: of all random numbers.
        force: replace a file that exists.

    Raises:
        FileError: ``source`` cannot be read, or ``path`` not written.
        SpecError: an argument makes no sense, or the file leaves something undecided.
        UnsupportedError: a layer is not understood, or a framework that was asked for does not have it.
        MissingFrameworkError: a framework that was asked for is not installed, or one cannot be loaded.
        LayoutError: a weight is not finite.
    """
    target = Path(path)
    _check_target(target, source, force)
    probe = Probe(batch, Probe.steps if steps is None else steps, seed)
    notes: list[str] = []
    if isinstance(source, str | PathLike):
        sources = of_file(Path(source), layer, choices, probe, steps is None, notes)
    elif layer is not None or choices is not None:
        raise SpecError("layer and choices are about a model file; leave them out for a spec or a native layer.")
    elif isinstance(source, Recurrent | Dense | Sequential):
        sources = of_spec(source, probe, steps is None)
    elif framework is not None:
        raise SpecError("framework goes with a spec or a file; a native layer brings its own.")
    else:
        sources = [of_native(source, probe, steps is None)]
    if sources[0].native is None:
        adapters, left_out = chosen([one.spec for one in sources], framework)
    else:
        adapters, left_out = [sources[0].native.adapter], {}
    layers, checks = _run(sources, adapters, notes)
    probed = {"batch": probe.batch, "steps": probe.steps, "seed": probe.seed}
    versions = {"xframe": __version__, **environment(adapters)}
    defaults = {one.name: defaults_of(one) for one in adapters}
    baseline = Baseline(__version__, versions, LIMIT, probed, layers, defaults)
    found = _concluded(target, baseline, adapters, left_out, checks, _power(sources), notes)
    if found:
        save(baseline, target, force)
    return found


def _check_target(target: Path, source: Any, force: bool) -> None:
    try:
        if target.exists() and not force:
            raise FileError(f"Cannot write {target}: it exists; name another file, or replace it with --force.")
        if isinstance(source, str | PathLike) and target.exists() and target.samefile(source):
            raise FileError(f"Cannot write {target}: it is what is recorded, and would be lost; name another file.")
    except FileError:
        raise
    except FileNotFoundError:  # the source, which is reported where it is read
        return
    except OSError as error:
        raise refused(target, error) from None


# ---- What it puts out.


def _run(
    sources: Sequence[Source], adapters: Sequence[Adapter], notes: list[str]
) -> tuple[tuple[RecordedLayer, ...], list[Check]]:
    """Every layer with its truth, and with what every framework puts out; and these against each other.

    What is to be said of them is added to ``notes``.
    """
    layers: list[RecordedLayer] = []
    checks: list[Check] = []
    for source in sources:
        params = Parameters(source.spec, dict(source.found.params))
        inputs = [
            RecordedInput(
                one.layer,
                one.spec,
                params,
                one.given,
                one.number,
                one.kind,
                {dtype: one.noise(dtype) for dtype in source.dtypes},
            )
            for one in source.found.inputs
        ]
        native: list[dict[tuple[str, str], Any]] = [{} for _ in inputs]
        for adapter in adapters:
            for dtype, subject in _subjects(source, adapter, notes):
                for one, kept in zip(inputs, native, strict=True):
                    power_of = source.found.margins.get(one.title, {}) if dtype == source.dtypes[0] else {}
                    kept[adapter.name, dtype], found = judged(subject, one, dtype, power_of)
                    checks += found
        recorded = tuple(replace(one, native=kept) for one, kept in zip(inputs, native, strict=True))
        layers.append(RecordedLayer(source.name, source.spec, params, recorded, source.dtypes))
    return tuple(layers), checks


def _subjects(source: Source, adapter: Adapter, notes: list[str]) -> Iterator[tuple[str, Subject]]:
    """What is run of a layer in a framework, by float type."""
    if source.native is None:
        yield from ((dtype, loaded(adapter, source.spec, source.found.params, dtype)) for dtype in source.dtypes)
        return
    found, without = in_types(source.native, source.dtypes, source.found.inputs)
    if any(dtype not in source.dtypes for dtype in found):
        raise UnsupportedError(f"{' '.join(without.values())} Record what its model file holds.")
    notes += [*without.values(), *uncalled(source.native, source.found.inputs)]
    yield from found.items()


def _power(sources: Sequence[Source]) -> Power:
    margins = {title: found for source in sources for title, found in source.found.margins.items()}
    shown = power([given for source in sources for given in source.found.inputs], margins)
    return counted(shown, {source.name: source.found.moved for source in sources}, DTYPES[0])


def _concluded(
    path: Path,
    baseline: Baseline,
    adapters: Sequence[Adapter],
    left_out: Mapping[str, str],
    checks: Sequence[Check],
    shown: Power,
    notes: Sequence[str],
) -> Recording:
    status, reason = _outcome(adapters, checks, shown)
    if status in ("different", "inconclusive"):
        reason = f"{reason} Nothing was written."
    else:
        inputs = sum(len(one.inputs) for one in baseline.layers)
        reason = f"Recorded {plural(len(baseline.layers), 'layer')} on {plural(inputs, 'input')}; {reason}"
    frameworks = tuple(one.name for one in adapters)
    return Recording(path, status, reason, baseline, frameworks, dict(left_out), tuple(checks), shown, tuple(notes))


def _outcome(adapters: Sequence[Adapter], checks: Sequence[Check], shown: Power) -> tuple[str, str]:
    """The status, and the sentence that says why."""
    if bad := [check for check in checks if check.status == "different"]:
        where = f"{bad[0].output} of {bad[0].layer} in {get_adapter(bad[0].framework).title} ({bad[0].dtype})"
        return "different", f"{where}: {bad[0].reason}; it is not what the layer was understood to be."
    if vague := [check for check in checks if check.status == "inconclusive"]:
        return "inconclusive", f"{vague[0].output} of {vague[0].layer} proves nothing: {vague[0].reason}."
    if shown.missed:
        return "inconclusive", f"These inputs could not show: {unseen(shown)}; use more steps or another seed."
    if not adapters:
        return "done", "no framework was there to be run."
    return "equivalent", f"{' and '.join(one.title for one in adapters)} put out what the NumPy reference does."
