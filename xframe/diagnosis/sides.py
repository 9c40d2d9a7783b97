"""What can be diagnosed: two native layers, a layer and its recorded outputs, two models or model files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from xframe import noise
from xframe.adapters import adapter_of, is_layer
from xframe.apart import apart
from xframe.comparison import compare, most_called, sized, told_of_masks, unlike
from xframe.diagnosis.evidence import Evidence, computed, is_recording, mask_kind, recorded, recording
from xframe.diagnosis.explaining import Known, explain
from xframe.diagnosis.masking import Fronted, fronted, recorded_by
from xframe.diagnosis.record import Diagnoses, Diagnosis
from xframe.diagnosis.where import located
from xframe.drawing import inputs
from xframe.errors import SpecError, UnsupportedError
from xframe.files import load
from xframe.graph import Node, graph_of, graph_of_model
from xframe.judging import Subject, difference, run_native
from xframe.layout import block_shape, keys
from xframe.mistakes import Mistake, Variation
from xframe.packing import Parameters
from xframe.probe import Probe, draw_input
from xframe.recognition import Choices, recognise
from xframe.reference import Given, Outputs
from xframe.spec import Dense, Layer, Recurrent
from xframe.verification import agreed, astray, compared, judged, paired, sides, tried

__all__ = ["diagnose", "diagnosed", "of_units", "ran"]

# Of the probe, unless told otherwise.
_STEPS = 5


def diagnose(
    a: Any,
    b: Any,
    *,
    mask: str | None = None,
    batch: int = 2,
    steps: int | None = None,
    seed: int = 0,
    choices: Choices | None = None,
    rerun: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Diagnosis | Diagnoses:
    """Why two sides differ, and where: the single mistake, else the pair of mistakes, that explains the difference.

    Args:
        a: how it should be: a native layer, a model or the path of a model file; with recorded outputs also a
            (spec, canonical parameters).
        b: how it is: a native layer, a model or the path of a model file; or recorded outputs of such a layer: arrays by name,
            or a .npz file, with the input ``x`` and the output ``y``, see `xframe.diagnosis.evidence.recorded`.
        mask: for two layers, which masks to give them as well: ``"right"`` or ``"any"``, as of `Recurrent`.
        batch, steps: sizes of the input of two layers, as of `xframe.compare`; seed: of all random numbers.
        choices: for files, what they do not say of their layers.
        rerun: with recorded outputs, what puts out ``y`` once more for ``x``: it shows whether dropout is active.

    Returns:
        A `Diagnosis` of one pair of layers; of models that have more, or layers without a partner, `Diagnoses`.

    Raises:
        SpecError: an argument makes no sense, a recording does not fit the layer, or a side has no layer to compare.
        UnsupportedError: a side is nothing that xframe knows.
        FileError, MissingFrameworkError: see `xframe.files.load`.
        LayoutError: a weight is not finite.
    """
    if is_recording(a):
        raise SpecError("The recorded outputs go second: diagnose(layer, recording).")
    if is_recording(b):
        return _with_recording(a, recording(b), choices, rerun)
    if rerun is not None:
        raise SpecError("rerun goes with recorded outputs; layers are run again as they are.")
    if is_layer(a) and is_layer(b):
        return _of_layers(a, b, batch, steps, seed, mask)
    if mask is not None:
        raise SpecError("mask goes with two layers; leave it out.")
    return _of_models(a, b, choices, seed)


def diagnosed(
    spec: Layer,
    params: Mapping[Any, np.ndarray],
    evidence: Sequence[Evidence],
    *,
    other: Known | None = None,
    rerun: Callable[[Given], Outputs] | None = None,
    titles: tuple[str, str] = ("a", "b"),
    stored: str | None = None,
    tensor_cores: bool = False,
    extra: Sequence[tuple[Mistake, Variation]] = (),
) -> Diagnosis:
    """`xframe.diagnosis.explaining.explain`, and where the difference begins."""

    def again(given: Given) -> Mapping[str, np.ndarray]:
        return rerun(given).named() if rerun else {}

    wide, blocks = (spec, params) if other is None else _with_biases_of(other[1], spec, params)
    found = explain(
        wide,
        blocks,
        evidence,
        other=other,
        rerun=again if rerun else None,
        titles=titles,
        stored=stored,
        tensor_cores=tensor_cores,
        extra=extra,
    )
    return replace(_placed(found, blocks, evidence, other, rerun), spec=spec)


def _with_biases_of(
    theirs: Mapping[Any, np.ndarray], spec: Layer, params: Mapping[Any, np.ndarray]
) -> tuple[Layer, Mapping[Any, np.ndarray]]:
    """A layer of which some part has no bias, where the other side has one there: the same function with biases of zero.

    So what differs has a place in both.
    """
    wide = _biased(spec)
    lacking = [key for key in keys(wide) if key not in params]
    if not any(key in theirs for key in lacking):
        return spec, params
    return wide, {**params, **{key: np.zeros(block_shape(wide, key)) for key in lacking}}


def _biased(spec: Layer) -> Layer:
    """The layer with biases in all its parts."""
    if isinstance(spec, Dense):
        return replace(spec, bias=True)
    parts: Any = {"stacked": tuple(map(_biased, spec.stacked)), "backward": spec.backward and _biased(spec.backward)}
    return replace(spec, bias=True, **parts)


def _placed(
    found: Diagnosis,
    params: Mapping[Any, np.ndarray],
    evidence: Sequence[Evidence],
    other: Known | None = None,
    rerun: Callable[[Given], Outputs] | None = None,
) -> Diagnosis:
    """The diagnosis with the place where the difference begins, if there is one."""
    if found.status not in ("explained", "unexplained") or found.spec is None:
        return found
    # Rounding that was done when outputs were saved begins nowhere.
    if any([fault.entry for fault in cause.faults] == ["rounded outputs"] for cause in found.causes):
        return found
    wheres = (located(found.spec, params, one, other, rerun) for one in evidence)
    return replace(found, where=next((where for where in wheres if where), None))


# ---- A layer and what was recorded.


def _with_recording(
    a: Any, arrays: Mapping[str, np.ndarray], choices: Choices | None, rerun: Callable[[np.ndarray], np.ndarray] | None
) -> Diagnosis:
    front, fed = _front(a, choices), arrays["x"]
    if front is not None:
        arrays = recorded_by(front, arrays)
    spec, params, name = _one_layer(a, front, mask_kind(arrays), choices)
    evidence = recorded(spec, arrays)

    def again(_: Given) -> Mapping[str, np.ndarray]:
        y = np.asarray(rerun(fed)) if rerun else arrays["y"]
        return recorded(spec, {**arrays, "y": y}).outputs

    found = explain(
        spec,
        params,
        [evidence],
        rerun=again if rerun else None,
        titles=(name, "the recording"),
        tensor_cores=True,  # where it was computed is not known
    )
    return _placed(found, params, [evidence])


def _front(a: Any, choices: Choices | None) -> Fronted | None:
    """The one layer of a model that makes masks for it, if it is such a model."""
    if _is_known(a):
        return None
    try:
        graph = graph_of(recognise(load(a), choices)) if isinstance(a, str | Path) else graph_of_model(a)
    except UnsupportedError:
        return None
    front = fronted(graph)
    if front is None or front.before or isinstance(a, str | Path):
        return front
    value = adapter_of(a).masking_value(a)  # layers in a list have theirs in front, too
    masking = () if value is None else (Node("masking", "masking", {"value": value}),)
    return replace(front, before=masking)


def _one_layer(
    a: Any, front: Fronted | None, mask: str | None, choices: Choices | None
) -> tuple[Layer, Parameters, str]:
    """The one layer that a recording is of: its spec, which takes such masks, its parameters, and its name."""
    if front is not None and front.before:
        name = str(a) if isinstance(a, str | Path) else adapter_of(a).title
        return _taking(front.spec, mask), front.parameters, name
    if _is_known(a):
        return _taking(a[0], mask), Parameters(a[0], a[1]), "the layer"
    if is_layer(a):
        adapter = adapter_of(a)
        return adapter.spec(a, mask), adapter.parameters(a), adapter.title
    if isinstance(a, str | Path):
        return _of_file(a, mask, choices)
    raise SpecError(f"A recording is of one layer, and {type(a).__name__} is a model; give the layer itself.")


def _of_file(path: str | Path, mask: str | None, choices: Choices | None) -> tuple[Layer, Parameters, str]:
    """The one layer of a file; PyTorch's layers of several layers are one."""
    file = load(path)
    layers = [layer for layer in recognise(file, choices).layers if layer.readings]
    if len(layers) != 1:
        names = ", ".join(layer.name for layer in layers) or "none"
        raise SpecError(
            f"A recording is of one layer, and {path} has {len(layers)} ({names}); give a file of that layer."
        )
    layers[0].check_decided()
    reading = layers[0].readings[0]
    return _taking(reading.spec, mask), reading.parameters(file), str(path)


def _taking(spec: Layer, mask: str | None) -> Layer:
    """The layer, told of masks if it is not yet."""
    return replace(spec, mask=mask) if mask and isinstance(spec, Recurrent) and spec.mask is None else spec


def _is_known(side: Any) -> bool:
    """Whether a side is a spec with its parameters."""
    return isinstance(side, tuple) and len(side) == 2 and isinstance(side[0], Recurrent | Dense)


# ---- Two layers.


def _of_layers(a: Any, b: Any, batch: int, steps: int | None, seed: int, mask: str | None) -> Diagnosis:
    first, second = (Subject(adapter_of(one), one, side) for one, side in ((a, "a"), (b, "b")))
    specs = told_of_masks([first, second], mask)
    titles = (first.label, second.label)
    kinds = [one.adapter.dtype(one.native) for one in (first, second)]
    narrow = max(kinds, key=lambda kind: noise.ROUNDOFF[kind])
    probe = sized([first, second], specs, Probe(batch, _STEPS if steps is None else steps, seed, narrow), steps is None)
    if unlikeness := unlike([first, second], specs, probe, mask):
        status, reason = unlikeness
        return Diagnosis("unexplained" if status == "different" else status, reason, *titles, specs[0], 0.0, 0.0)
    params = [one.adapter.parameters(one.native) for one in (first, second)]
    x = draw_input(specs[0], probe)
    given = [one.given for one in inputs(most_called(specs), "layer", params[0], x, probe)]
    # What was rounded on its way from a wider type to a narrower one is no mistake.
    same = params[0].keys() == params[1].keys() and difference(params[0], params[1], narrow, kinds[0] != kinds[1])[2]
    found = diagnosed(
        specs[0],
        params[1] if same else params[0],
        [ran(second, one, kinds[1]) for one in given],
        other=(specs[1], params[1]),
        rerun=lambda one: run_native(second, one, kinds[1]),
        titles=titles,
        stored=narrow,
        tensor_cores=second.adapter.tensor_cores(second.native),
    )
    if found.status != "equivalent":
        return found
    # A comparison runs both, in finer types and on more inputs: where that is not equivalent, neither is this.
    verdict = compare(a, b, batch=batch, steps=steps, seed=seed, mask=mask)
    if verdict:
        return found
    if verdict.diagnosis is None:
        return replace(found, status="inconclusive", reason=verdict.reason)
    wrong = verdict.diagnosis.b
    return replace(verdict.diagnosis, a=titles[0] if wrong == titles[1] else f"the reference of {wrong}")


def ran(subject: Subject, given: Given, dtype: str) -> Evidence:
    """What a native layer puts out."""
    return Evidence(given, run_native(subject, given, dtype).named(), dtype)


# ---- Two models.


def _of_models(a: Any, b: Any, choices: Choices | None, seed: int) -> Diagnosis | Diagnoses:
    first, second = sides(a, b, choices)
    verified = judged(first, second, seed=seed)
    couples, alone_a, alone_b, _ = paired(first.units, second.units)
    parts = tuple(
        of_units(one, other, [unit for unit in first.units if unit is not one], seed) for one, other in couples
    )
    alone = [f"{unit.name} of {side.name}" for side, units in ((first, alone_a), (second, alone_b)) for unit in units]
    notes, found = list(verified.notes), verified.between
    if verified.whole is not None and found is None:
        notes += [f"Between the layers, {slip}." for slip in verified.whole.slips if slip.off.differs]
    every = parts if found is None else (*parts, found)
    status, reason = _together(every, alone)
    if status == "equivalent" and not verified:
        # What no layer shows: other tensors, or a whole that was not judged.
        status = "unexplained" if verified.status == "different" else "inconclusive"
        reason = verified.reason
    if len(parts) == 1 and not alone and found is None:
        same = parts[0].status == status
        return replace(
            parts[0], status=status, reason=parts[0].reason if same else reason, notes=(*parts[0].notes, *notes)
        )
    notes = [*(f"{name} has no partner of its shape in the other." for name in alone), *notes]
    return Diagnoses(status, reason, first.name, second.name, every, tuple(notes))


def of_units(one: Any, other: Any, others: Sequence[Any], seed: int) -> Diagnosis:
    """Two units, of which the second may hold what belongs to one of the ``others``."""
    pair, first, second = compared(one, other, seed)
    titles = (one.name, other.name)
    if titles[0] == titles[1]:
        titles = (f"{one.name} (a)", f"{other.name} (b)")
    (spec, params), theirs, notes = agreed(first, second)
    narrow = max((first.dtype, second.dtype), key=lambda kind: noise.ROUNDOFF.get(kind, 0.0))
    differ = apart((spec, params), theirs, narrow, first.dtype != second.dtype)
    elsewhere = [_taken_for(spec, unit) for unit in others if pair.status != "equivalent" and unit.shapes & one.shapes]

    def found(dtype: str) -> Diagnosis:
        given = tried((spec, params), theirs, differ, seed, dtype)
        evidence = [computed(*theirs, each.given, dtype) for each in given]
        return diagnosed(spec, params, evidence, other=theirs, titles=titles, stored=narrow, extra=elsewhere)

    diagnosis = found(narrow)
    if diagnosis.status == "equivalent" and pair.status == "different":
        diagnosis = found("float64")  # in which smaller differences show
    if diagnosis.status == "equivalent" and pair.status != "equivalent":
        reason = f"{titles[0]} and {titles[1]}: {pair.reason}."
        # What the parameters say explains nothing of a layer that does not do it.
        live = astray(one, other, seed)
        status = "unexplained" if live and live[0] == "different" else "inconclusive"
        diagnosis = replace(diagnosis, status=status, reason=reason)
    return replace(diagnosis, notes=(*diagnosis.notes, *notes))


def _taken_for(spec: Layer, unit: Any) -> tuple[Mistake, Variation]:
    """The mistake that another layer's weights stand in the place of these."""
    params = next(reading.params() for reading in unit.readings)
    why = "Layers of one shape are easily exchanged where weights are moved by their order."
    mistake = Mistake("layers exchanged", ("layer order",), why, lambda _: iter(()))
    name, mend = f"the weights of {unit.name} in its place", "Move each layer's weights to the layer of its name."
    blocks = {key: params[key] for key in keys(spec) if key in params}
    return mistake, Variation(name, mend, lambda case: replace(case, params={**case.params, **blocks}))


def _together(parts: Sequence[Diagnosis], alone: Sequence[str]) -> tuple[str, str]:
    """The status of all, and the sentence that says why."""
    wrong = [part for part in parts if part.status in ("explained", "unexplained")]
    if alone:
        return "unexplained", f"{alone[0]} has no partner of its shape in the other" + (
            f", nor have {len(alone) - 1} more." if len(alone) > 1 else "."
        )
    if wrong:
        status = "explained" if all(part.causes for part in wrong) else "unexplained"
        worst = next((part for part in wrong if not part.causes), wrong[0])
        layers = [part for part in parts if part.spec is not None]
        differ = sum(1 for part in wrong if part.spec is not None)
        what = f"{differ} of {len(layers)} pairs of layers differ" if differ else "The layers are the same"
        return status, f"{what}. {worst.a} and {worst.b}: {worst.reason}"
    if vague := [part for part in parts if part.status == "inconclusive"]:
        return "inconclusive", vague[0].reason
    every = f"All {len(parts)} pairs of layers put" if len(parts) > 1 else "The one pair of layers puts"
    return "equivalent", f"{every} out the same within rounding noise."
