"""Comparing layers: build or take them, move the weights, run them, and judge every output against the reference.

Two questions are answered apart. *Same function?* Layers in float64 against the NumPy reference in float64. *Same numerics
in the dtype that is deployed?* Layers in float32 against the float64 reference. Both in units of the rounding noise that
any correct implementation has on this very input (`xframe.noise`), so that there is no tolerance to pick.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from xframe import noise, reference
from xframe.adapters import adapter_of, get_adapters, title_of, usual_adapters
from xframe.adapters.base import DTYPES, FLOATS, Adapter
from xframe.apart import apart, waking, with_telling
from xframe.asleep import counted
from xframe.blindness import causes, hidden
from xframe.counts import count, unsupported
from xframe.drawing import completed, drawn, inputs
from xframe.errors import SpecError, UnsupportedError
from xframe.explanation import reasons
from xframe.judging import (
    LIMIT,
    Input,
    Subject,
    in_types,
    judge,
    judge_outputs,
    parameter_check,
    power,
    run_native,
    uncalled,
)
from xframe.moving import transfer
from xframe.packing import Parameters, refuse_unfit
from xframe.probe import Probe, draw_input, draw_masks
from xframe.reference import Given, Outputs
from xframe.spec import Dense, Layer, Recurrent, Sequential, described
from xframe.verdict import Check, LayerReport, ParameterCheck, Power, Verdict

if TYPE_CHECKING:
    from xframe.diagnosis import Diagnosis

__all__ = [
    "compare",
    "compare_spec",
    "environment",
    "fitting",
    "manners",
    "misfit",
    "most_called",
    "sized",
    "told_of_masks",
    "unlike",
]

_LOADED = "loaded"
# What two native layers are called.
_SIDES = ("a", "b")
# Of the probe, unless told otherwise.
_STEPS = 5


def compare(
    a: Any,
    b: Any = None,
    *,
    frameworks: Sequence[str] | None = None,
    dtypes: Sequence[str] | None = None,
    batch: int = 2,
    steps: int | None = None,
    seed: int = 0,
    mask: str | None = None,
    isolate: bool = False,
) -> Verdict:
    """Compare a layer across frameworks, or two native layers with each other.

    ``compare(spec)`` builds the layer (or the chain) in each framework with the same random weights, moves the weights from
    each framework to the next one and from the last to the first, and judges every output of every layer so made.
    ``compare(a, b)`` takes two native layers as they are, with the weights they have.

    Args:
        a: a `Recurrent`, `Dense` or `Sequential`, or a native layer.
        b: the other native layer.
        frameworks: for a spec, the names of adapters or of their variants (``keras[jax]``); Keras and PyTorch if None. A
            framework that does not have the layer is then left out and named in the verdict; one that is asked for by name
            is an error.
        dtypes: float types to judge: ``float64`` the function, ``float32``, ``float16`` and ``bfloat16`` the numerics. A
            framework that lacks one is not judged in it, and the verdict says so. None for float64 and float32; of two native
            layers for float64 and their own types, which are all that can be asked for.
        batch, steps: sizes of the probe (a layer may be built for sizes of its own); without ``steps`` it has five, and where a
            mistake would not show in these, more. seed: of all random numbers.
        mask: for two native layers, which masks to give them as well: ``"right"`` or ``"any"``, as of `Recurrent`. None for
            none but those that layers make themselves; where one makes another mask than the other, padded input shows it. A
            spec has its own ``mask``.
        isolate: for a spec, whether each framework runs in a process of its own; a variant always does.

    Returns:
        The verdict, true only when equivalent.

    Raises:
        SpecError: an argument makes no sense.
        UnsupportedError: a layer is not understood, or a framework that was asked for does not have it.
        MissingFrameworkError: a framework is not installed.
        LayoutError: a weight is not finite.
        WorkerError: a process in which a framework runs has ended.
    """
    probe = Probe(batch, _STEPS if steps is None else steps, seed)
    if isinstance(a, Recurrent | Dense | Sequential):
        if mask is not None:
            raise SpecError("mask goes with two native layers; give a spec its own: Recurrent(..., mask='right').")
        if b is not None:
            raise SpecError("Compare a spec alone, or two native layers; a spec cannot be compared with a layer.")
        strict, longer = frameworks is not None, steps is None
        return compare_spec(a, frameworks, dtypes or DTYPES, probe, strict=strict, longer=longer, isolate=isolate)
    if b is None:
        raise SpecError("To compare a native layer, give the other one too: compare(a, b).")
    if frameworks is not None:
        raise SpecError("frameworks goes with a spec; two native layers bring their own.")
    if isolate:
        raise SpecError("isolate goes with a spec; two native layers are in this process already.")
    return _compare_layers(a, b, None if dtypes is None else _checked_dtypes(dtypes), probe, mask, longer=steps is None)


# Comparing a spec.


def compare_spec(
    model: Layer | Sequential,
    frameworks: Sequence[str] | None,
    dtypes: Sequence[str],
    probe: Probe,
    strict: bool,
    moved_only: bool = False,
    longer: bool = False,
    isolate: bool = False,
) -> Verdict:
    """`compare` for a spec; unless ``strict``, a framework that does not have the layer is left out and named.

    With ``moved_only``, where weights were moved, the layers that they were moved to are judged and not those they came from:
    what is wrong in one of these goes with the weights. With ``longer``, inputs may be longer than the probe says, where a
    mistake would not show otherwise.
    """
    dtypes = _checked_dtypes(dtypes)
    layers = model.layers if isinstance(model, Sequential) else (model,)
    names = _names(layers)
    adapters, left_out = _choose(layers, frameworks, strict, isolate)
    judged, notes, lacking = _judged_in(layers, adapters, dtypes, strict)
    adapters, left_out = [one for one in adapters if one.name in judged], left_out | lacking
    probe = fitting(layers, replace(probe, dtype=max(dtypes, key=lambda d: noise.ROUNDOFF[d])))
    # The power of a verdict is that of the sharpest judgement of each framework, and so of the framework in which that is
    # least sharp.
    sharpest = max((min(own, key=_roundoff) for own in judged.values()), key=_roundoff)
    chosen = drawn(layers, names, probe, dtypes, longer, sharpest)
    params, given_inputs = [one.params for one in chosen], [given for one in chosen for given in one.inputs]
    shown = {title: found for one in chosen for title, found in one.margins.items()}
    checks: list[Check] = []
    pairs: list[ParameterCheck] = []
    failures: list[_Failure] = []
    for dtype in dtypes:
        here = [one for one in adapters if dtype in judged[one.name]]
        made = [list(_subjects(here, layer, p, dtype)) for layer, p in zip(layers, params, strict=True)]
        for name, subjects in zip(names, made, strict=True):
            pairs += _moved_pairs(name, subjects, dtype)
        for given in given_inputs:
            for subject in _judged(made[names.index(given.layer)], moved_only):
                truth = given.noise_of(subject.adapter, dtype)
                power_of = shown.get(given.title, {}) if dtype == sharpest else {}
                found = list(judge(subject, given, truth, dtype, power_of))
                checks += found
                if _fails(found):
                    failures.append(_Failure(subject, given, dtype))
        if len(layers) > 1:
            checks += _judge_chains(layers, params, given_inputs[0].given.x, made, dtype)
    search = failures[0].search(given_inputs) if failures else None
    lost = next((pair for pair in pairs if not pair.rounding), None)
    return _verdict(
        model,
        adapters,
        left_out,
        pairs,
        checks,
        counted(power(given_inputs, shown), {n: one.moved for n, one in zip(names, chosen, strict=True)}, sharpest),
        probe,
        notes,
        unshown=_moved_wrong(lost) if lost else "",
        search=search,
        tried=given_inputs,
    )


def _roundoff(dtype: str) -> float:
    return noise.ROUNDOFF[dtype]


def _judged_in(
    layers: Sequence[Layer], adapters: Sequence[Adapter], dtypes: Sequence[str], strict: bool
) -> tuple[dict[str, list[str]], list[str], dict[str, str]]:
    """By adapter the float types that it is judged in, sentences about those that it lacks, and why others have none.

    Raises:
        UnsupportedError: one lacks all of them, where ``strict``, or each does.
    """
    judged: dict[str, list[str]] = {}
    notes: dict[str, None] = {}
    lacking: dict[str, str] = {}
    for adapter in adapters:
        why = {d: next(filter(None, (adapter.lacks(layer, d) for layer in layers)), "") for d in dtypes}
        if all(why.values()):
            lacking[adapter.name] = f"{why[dtypes[0]]} Choose another float type than {' and '.join(dtypes)}."
            continue
        judged[adapter.name] = [d for d in dtypes if not why[d]]
        notes |= {f"{adapter.title} was not judged in {d}: {text}": None for d, text in why.items() if text}
        said = [adapter.remark(layer, d) for d in judged[adapter.name] for layer in layers]
        notes |= dict.fromkeys(filter(None, said))
    if lacking and (strict or not judged):
        raise UnsupportedError(next(iter(lacking.values())) if strict else " ".join(lacking.values()))
    return judged, list(notes), lacking


def _judged(subjects: Sequence[Subject], moved_only: bool) -> Sequence[Subject]:
    moved = [subject for subject in subjects if subject.weights != _LOADED]
    return moved if moved_only and moved else subjects


def _names(layers: Sequence[Layer]) -> list[str]:
    return [f"layer {i + 1}" for i in range(len(layers))] if len(layers) > 1 else ["layer"]


def _checked_dtypes(dtypes: Sequence[str]) -> list[str]:
    if not dtypes or (wrong := [d for d in dtypes if d not in FLOATS]):
        given = repr(wrong[0]) if dtypes else "nothing"
        raise SpecError(f"dtypes must be among {', '.join(FLOATS)}, not {given}.")
    return list(dict.fromkeys(dtypes))


def _choose(
    layers: Sequence[Layer], frameworks: Sequence[str] | None, strict: bool, isolate: bool
) -> tuple[list[Adapter], dict[str, str]]:
    """The adapters to compare, and why others are left out."""
    chosen, left_out = [], {}
    for adapter in get_adapters(usual_adapters() if frameworks is None else frameworks, isolate):
        try:
            for layer in layers:
                refuse_unfit(adapter.packing, layer)
        except UnsupportedError as error:
            if strict:
                raise
            left_out[adapter.name] = str(error)
        else:
            chosen.append(adapter)
    if not chosen:
        raise UnsupportedError(" ".join(left_out.values()) or "No framework was named; name at least one.")
    return chosen, left_out


def fitting(layers: Sequence[Layer], probe: Probe) -> Probe:
    """The probe with the batch size that a stateful layer has."""
    sizes = {layer.batch_size for layer in layers if isinstance(layer, Recurrent) and layer.batch_size is not None}
    if len(sizes) > 1:
        raise SpecError(f"The stateful layers of a chain need one batch size, not {' and '.join(map(str, sizes))}.")
    return replace(probe, batch=sizes.pop()) if sizes else probe


def _subjects(adapters: Sequence[Adapter], spec: Layer, params: Parameters, dtype: str) -> Iterator[Subject]:
    """In each framework the layer loaded from the canonical weights, and one with the weights of the framework before it.

    So every framework's weights are read once and every framework's are written once, which is all that a move is made of:
    reading gives canonical parameters, and writing takes them.
    """
    loaded = [Subject(one, one.build_loaded(spec, params, dtype), _LOADED) for one in adapters]
    for i, subject in enumerate(loaded):
        yield subject
        if len(loaded) > 1:
            source, target = loaded[i - 1], subject.adapter.blank(spec, dtype)
            transfer(source.native, target, getattr(spec, "mask", None))
            yield Subject(subject.adapter, target, f"from {source.adapter.title}")


def _moved_pairs(name: str, subjects: Sequence[Subject], dtype: str) -> Iterator[ParameterCheck]:
    """Each layer that was moved beside the one it was moved from."""
    origins = {f"from {s.adapter.title}": s for s in subjects if s.weights == _LOADED}
    for subject in subjects:
        if origin := origins.get(subject.weights):
            yield parameter_check(
                name,
                origin,
                subject,
                dtype,
                origin.adapter.parameters(origin.native),
                subject.adapter.parameters(subject.native),
            )


def _moved_wrong(pair: ParameterCheck) -> str:
    """A sentence about weights that did not arrive as they were."""
    return (
        f"The outputs agree, but the parameters of {pair.a} and {pair.b} ({pair.layer}, {pair.dtype}) differ by up to "
        f"{pair.max_abs:.2g}, most at {pair.where}, which no output showed."
    )


def _judge_chains(
    layers: Sequence[Layer],
    params: Sequence[Parameters],
    x: np.ndarray,
    made: Sequence[Sequence[Subject]],
    dtype: str,
) -> Iterator[Check]:
    """The whole model: in each framework the layers one after the other, with their own outputs in between."""
    chain = Sequential(*layers)
    given = Input("model", chain, params, Given(x))
    for subjects in zip(*made, strict=True):
        values = x
        for i, subject in enumerate(subjects):
            subject.adapter.reset(subject.native)
            out = subject.adapter.run(subject.native, values.astype("float32" if dtype == "bfloat16" else dtype))
            values = reference.handed_on(chain, i, out)
        yield from judge_outputs(subjects[0], given, out, given.noise_of(subjects[0].adapter, dtype), dtype, {})


# Why they differ.


@dataclass(frozen=True)
class _Failure:
    """A layer that puts out something else than it should on an input, in a float type."""

    subject: Subject
    given: Input
    dtype: str

    def search(
        self,
        given: Sequence[Input],
        known: tuple[Layer, Parameters] | None = None,
        stored: str | None = None,
        title: str = "the reference",
    ) -> Callable[[], Diagnosis]:
        """What finds the cause, from all inputs of the layer.

        ``known`` is what it says of itself, ``stored`` the float type in which its parameters were rounded, and ``title`` what
        is as it should be.
        """
        inputs = [replace(one, params=self.given.params) for one in given if one.layer == self.given.layer]

        def run(given: Given) -> Outputs:
            return run_native(self.subject, given, self.dtype)

        def search() -> Diagnosis:
            from xframe.diagnosis import Evidence, diagnosed  # which compares layers itself

            evidence = [Evidence(one.given, run(one.given).named(), self.dtype) for one in inputs]
            spec, params = inputs[0].spec, inputs[0].params
            assert isinstance(spec, Recurrent | Dense)
            return diagnosed(
                spec,
                params,
                evidence,
                other=known,
                rerun=run,
                titles=(title, self.subject.label),
                stored=stored,
                tensor_cores=self.subject.adapter.tensor_cores(self.subject.native),
            )

        return search


def _fails(checks: Iterable[Check]) -> bool:
    return any(check.status == "different" for check in checks)


# Comparing two native layers.


def _compare_layers(
    a: Any, b: Any, asked: Sequence[str] | None, probe: Probe, mask: str | None, longer: bool
) -> Verdict:
    first, second = both = tuple(Subject(adapter_of(one), one, side) for one, side in zip((a, b), _SIDES, strict=True))
    specs = told_of_masks(both, mask)
    adapters = list({s.adapter.name: s.adapter for s in both}.values())
    kinds = [s.adapter.dtype(s.native) for s in both]
    types, unjudged = _types(both, specs, kinds, asked)
    narrow = max(kinds, key=lambda d: noise.ROUNDOFF[d])
    probe = sized(both, specs, replace(probe, dtype=narrow), longer)
    if found := unlike(both, specs, probe, mask):
        return _verdict(specs[0], adapters, {}, [], [], Power({}), probe, (), outcome=found)
    params = [s.adapter.parameters(s.native) for s in both]
    pair = parameter_check("layer", first, second, narrow, *params)
    # Rounding alone apart, both must compute what the first one's parameters say. Where only rounding differs, each is held
    # to its own parameters, because the reference would show that rounding as a difference of function.
    own = pair.rounding and params[0].keys() == params[1].keys()
    layer, x = most_called(specs), draw_input(specs[0], probe)
    natives = []
    for subject, wanted, blocks in zip(both, types, params, strict=True):
        held = list(inputs(layer, "layer", blocks if own else params[0], x, probe))
        native, without = in_types(subject, wanted, held)
        natives.append(native)
        unjudged += without.values()
    judged = [dtype for dtype in dict.fromkeys(("float64", *kinds)) if any(dtype in one for one in natives)]
    remarks = [s.adapter.remark(spec, d) for s, spec in zip(both, specs, strict=True) for d in judged]
    # The power of a verdict is that of the sharpest judgement of the layer in which that is least sharp.
    sharpest = max((min(one, key=_roundoff) for one in natives), key=_roundoff)
    chosen = completed(layer, "layer", params[0], x, probe, judged, longer, sharpest)
    other = specs[1], params[1]
    if differ := apart((layer, params[0]), other, narrow, kinds[0] != kinds[1]):
        further = waking(layer, "layer", params[0], probe, longer)
        chosen = replace(chosen, inputs=with_telling(other, chosen.inputs, further, sharpest))
    checks: list[Check] = []
    failures: list[_Failure] = []
    for dtype in judged:
        for blocks, native in zip(params, natives, strict=True):
            if dtype not in native:
                continue
            subject = native[dtype]
            for given in chosen.inputs:
                against = replace(given, params=blocks) if own and blocks is not params[0] else given
                power_of = chosen.margins.get(given.title, {}) if dtype == sharpest else {}
                judgement = list(judge(subject, against, against.noise_of(subject.adapter, dtype), dtype, power_of))
                checks += judgement
                if _fails(judgement):
                    failures.append(_Failure(subject, against, dtype))
    notes = [_difference(name, one, other) for name, one, other in _option_differences(specs[0], specs[1])]
    # The second is held to what the parameters of the first say, so that what is wrong with the first alone is not looked for in
    # it. The layer itself comes before a copy of it in a finer type.
    failures.sort(key=lambda one: (one.subject.weights != second.weights, -_roundoff(one.dtype)))
    search = None
    if failures and failures[0].subject.weights == second.weights:
        search = failures[0].search(chosen.inputs, other, narrow, first.label)
    elif failures:
        search = failures[0].search(chosen.inputs)
    power_of_all = counted(power(chosen.inputs, chosen.margins), {"layer": chosen.moved}, sharpest)
    notes += [*manners(both, mask), *(text for one in both for text in uncalled(one, chosen.inputs))]
    notes += [*unjudged, *dict.fromkeys(filter(None, remarks)), *hidden(params[0])]
    tried = chosen.inputs
    unshown = differ.unshown if differ else ""
    return _verdict(
        specs[0], adapters, {}, [pair], checks, power_of_all, probe, notes, unshown=unshown, search=search, tried=tried
    )


def _types(
    subjects: Sequence[Subject], specs: Sequence[Layer], kinds: Sequence[str], asked: Sequence[str] | None
) -> tuple[list[list[str]], list[str]]:
    """The float types in which each of two native layers is judged, and a sentence for each type that one lacks.

    Raises:
        SpecError: a type was asked for in which neither can be judged, or none in which one of them can.
        UnsupportedError: a layer lacks all that were asked for.
    """
    known = list(dict.fromkeys(("float64", *kinds)))
    if wrong := [dtype for dtype in asked or () if dtype not in known]:
        raise SpecError(
            f"These layers can be judged in {' and '.join(known)}, not in {wrong[0]}: of what they do in another type than "
            "their own nothing is known but the function, which is judged in float64."
        )
    found, notes = [], []
    for subject, spec, kind in zip(subjects, specs, kinds, strict=True):
        wanted = [dtype for dtype in dict.fromkeys(("float64", kind)) if asked is None or dtype in asked]
        if not wanted:
            raise SpecError(
                f"{subject.label} is of {kind}, and so not judged in {' or '.join(asked or ())}; add {kind} or float64 to dtypes."
            )
        lacking = {dtype: why for dtype in wanted if dtype != kind and (why := subject.adapter.lacks(spec, dtype))}
        if len(lacking) == len(wanted):
            raise UnsupportedError(f"{lacking[wanted[0]]} Add {kind} to dtypes.")
        notes += [f"{subject.label} was not judged in {dtype}: {why}" for dtype, why in lacking.items()]
        found.append([dtype for dtype in wanted if dtype not in lacking])
    return found, notes


def told_of_masks(subjects: Sequence[Subject], mask: str | None) -> list[Layer]:
    """What the layers do with the masks that they will be given: those that both make themselves, if no others."""
    values = [s.adapter.masking_value(s.native) for s in subjects]
    if mask is None and None in values:
        return [_unmasked(s.adapter.spec(s.native)) for s in subjects]
    return [s.adapter.spec(s.native, mask or "any") for s in subjects]


def _unmasked(spec: Layer) -> Layer:
    return replace(spec, mask=None, masked_output=None) if isinstance(spec, Recurrent) else spec


def sized(subjects: Sequence[Subject], specs: Sequence[Layer], probe: Probe, free: bool) -> Probe:
    """The probe with the batch size, and if they are free the time steps, that a layer is built for."""
    for subject in reversed(subjects):
        batch, steps = subject.adapter.built_for(subject.native)
        probe = replace(probe, batch=batch or probe.batch, steps=steps if free and steps else probe.steps)
    return fitting(specs, probe)


def manners(subjects: Sequence[Subject], mask: str | None) -> Iterator[str]:
    """Sentences on what two layers read and hand back otherwise, though they compute the same."""
    for told, meaning in (
        ([s.adapter.reads(s.native) for s in subjects], "reads {}; all was put in one order before comparing."),
        ([s.adapter.returns(s.native) for s in subjects], "hands back {}; both were compared in every output."),
    ):
        if told[0] != told[1]:
            yield from (f"{s.label} {meaning.format(one)}" for s, one in zip(subjects, told, strict=True) if one)
    for subject in subjects:
        value = subject.adapter.masking_value(subject.native)
        if value is not None and mask is not None:
            yield (
                f"{subject.label} makes its mask itself, of the time steps whose features all equal {value:g}; a layer that "
                "makes none was given that mask."
            )


def most_called(specs: Sequence[Layer]) -> Layer:
    """The first spec, and stateful if one of them is: else a second call, in which they differ, would not be made."""
    first, stateful = specs[0], next((s for s in specs if getattr(s, "stateful", False)), None)
    if isinstance(first, Recurrent) and isinstance(stateful, Recurrent):
        return replace(first, stateful=True, batch_size=stateful.batch_size)
    return first


def unlike(
    subjects: Sequence[Subject], specs: Sequence[Layer], probe: Probe, mask: str | None
) -> tuple[str, str] | None:
    """The status, and the sentence that says why, of two layers that need not be compared further; None of others."""
    if shape := misfit(specs[0], specs[1]):
        return "different", f"The layers are of different shapes: {shape}."
    values = [s.adapter.masking_value(s.native) for s in subjects]
    if values[0] == values[1] or (mask is not None and None in values):
        return None
    off = _off_on_padding(subjects, specs[0], values, probe)
    told = [
        f"{s.label} masks {'no time step' if value is None else f'the time steps whose features all equal {value:g}'}"
        for s, value in zip(subjects, values, strict=True)
    ]
    mend = (
        "; to compare them with masks that you make yourself, give mask='right' or mask='any'" if None in values else ""
    )
    shown = f"they put out something else, {off:.2g} off" if off else "that does not show"
    return "different" if off else "inconclusive", f"{' and '.join(told)}: on padded input {shown}{mend}."


def _off_on_padding(subjects: Sequence[Subject], spec: Layer, values: Sequence[float | None], probe: Probe) -> float:
    """By how much two layers that mask other time steps differ on padded input; 0 where it is no more than rounding."""
    padding = next(value for value in values if value is not None)
    x = draw_input(spec, probe)
    mask = draw_masks(replace(spec, mask="any"), probe)[0]  # type: ignore[arg-type]
    x[~mask] = padding
    outputs, worst = [], 0.0
    for subject in subjects:
        outputs.append(run_native(subject, Given(x), subject.adapter.dtype(subject.native)).named())
    deviation = noise.measure(spec, subjects[0].adapter.parameters(subjects[0].native), Given(x), probe.dtype).deviation
    for name, noisy in deviation.items():
        apart = np.abs(outputs[0][name].astype(np.float64) - outputs[1][name])
        if np.any(apart > LIMIT * noisy):
            worst = max(worst, float(apart.max()))
    return worst


def misfit(a: Layer, b: Layer) -> str:
    """In which sizes two layers differ, or nothing."""
    sizes = ("cell", "input_size", "hidden_size", "num_layers", "num_directions", "state_size", "output_size")
    found = [
        f"{name} {getattr(a, name)} and {getattr(b, name)}" for name in sizes if getattr(a, name) != getattr(b, name)
    ]
    if not found and _cells(a) != _cells(b):
        found = [f"{a} and {b}"]
    return ", ".join(found)


def _cells(spec: Layer) -> dict[tuple[int, int], tuple[str, int, int]]:
    """Cell and sizes of every layer and direction."""
    parts = {place: spec.part(place[1], place[0]) for place in spec.places}
    return {place: (part.cell, part.hidden_size, part.state_size) for place, part in parts.items()}


def _option_differences(a: Layer, b: Layer) -> Iterator[tuple[str, Any, Any]]:
    theirs = b.options()
    for name, value in a.options().items():
        if theirs[name] != value:
            one, other = value, theirs[name]
            yield (name, described(one), described(other)) if name == "stacked" else (name, one, other)


def _difference(name: str, one: Any, other: Any) -> str:
    """A sentence about an option in which two layers differ."""
    meaning = {
        "masked_output": "; valid steps and final states do not depend on it",
        "stateful": "; the other one begins each call with zero states unless it is given some",
        "batch_size": "",
        "form": "",
    }
    without = "; no dropout acts at inference" if name.endswith("dropout") else ""
    return f"The layers differ in {name}: {one} and {other}{meaning.get(name, without)}."


def _verdict(
    model: Layer | Sequential,
    adapters: Sequence[Adapter],
    left_out: Mapping[str, str],
    pairs: Sequence[ParameterCheck],
    checks: Sequence[Check],
    power: Power,
    probe: Probe,
    notes: Sequence[str],
    outcome: tuple[str, str] | None = None,
    unshown: str = "",
    search: Callable[[], Diagnosis] | None = None,
    tried: Sequence[Input] = (),
) -> Verdict:
    layers = model.layers if isinstance(model, Sequential) else (model,)
    status, reason = outcome or _conclude(adapters, checks, power, tried, unshown)
    return Verdict(
        status=status,
        reason=reason,
        scope="model" if any(check.layer == "model" for check in checks) else "layers",
        model=model,
        frameworks=tuple(one.name for one in adapters),
        not_compared=dict(left_out),
        layers=tuple(_layer_report(n, s, [*adapters, *left_out]) for n, s in zip(_names(layers), layers, strict=True)),
        parameters=tuple(pairs),
        checks=tuple(checks),
        power=power,
        limit=LIMIT,
        probe={"batch": probe.batch, "steps": probe.steps, "seed": probe.seed},
        notes=(*notes, *_of_drift(tried)),
        environment=environment(adapters),
        search=search,
    )


def _conclude(
    adapters: Sequence[Adapter], checks: Sequence[Check], power: Power, tried: Sequence[Input], unshown: str
) -> tuple[str, str]:
    """The status, and the sentence that says why; ``unshown`` is one of what differs, though no output may show it."""
    bad = [c for c in checks if c.status == "different"]
    if bad:
        worst = max(bad, key=lambda c: np.inf if c.noise_ratio is None else c.noise_ratio)
        only = " The function is the same; its numerics are not." if _agree_in_float64(bad, checks) else ""
        return "different", (
            f"{len(bad)} of {len(checks)} outputs differ; the worst is {worst.output} of {title_of(worst.framework)} "
            f"({worst.weights}, {worst.dtype}): {worst.reason}.{only}"
        )
    if unshown:
        return "inconclusive", unshown
    if vague := [c for c in checks if c.status == "inconclusive"]:
        return "inconclusive", f"{vague[0].output} of {vague[0].layer} proves nothing: {vague[0].reason}."
    if power.missed:
        why = " and ".join(causes(tried, power.missed))
        return "inconclusive", (
            f"The outputs agree, but this probe could not have shown: {', '.join(power.missed)}{f' ({why})' if why else ''}; "
            "use more steps, another seed, or other weights."
        )
    ratio = max((c.noise_ratio for c in checks if c.noise_ratio is not None), default=0.0)
    return "equivalent", (
        f"{_agreement(adapters, checks)}: all {len(checks)} outputs are within {ratio:.2g} times the rounding noise of the "
        f"NumPy reference (limit {LIMIT:g})."
    )


def _agree_in_float64(bad: Iterable[Check], checks: Iterable[Check]) -> bool:
    """Whether all that differ in narrower types were judged in float64 too, on the same inputs, and agreed there."""
    agreed = {_subject_of(c) for c in checks if c.dtype == "float64" and c.status == "equivalent"}
    return all(_subject_of(c) in agreed for c in bad)


def _subject_of(check: Check) -> tuple[str, ...]:
    return check.layer, check.framework, check.weights, check.initial_state, check.output


def _whose(check: Check) -> tuple[str, str]:
    """Whose output it is: one of two layers that are compared, or any that a framework made from a spec."""
    return check.framework, check.weights if check.weights in _SIDES else ""


def _agreement(adapters: Sequence[Adapter], checks: Sequence[Check]) -> str:
    """Who agrees with whom, and in what."""
    judged = {_whose(c) for c in checks if c.dtype == "float64"}
    in_float64 = {c.framework for c in checks} - {c.framework for c in checks if _whose(c) not in judged}
    function = [one.title for one in adapters if one.name in in_float64]
    numerics = [one.title for one in adapters if one.name not in in_float64]
    said = []
    if function:
        same = "compute the same function" if len(function) > 1 else "computes what the reference computes"
        said.append(f"{_listed(function)} {same}")
    if numerics:
        kinds = " and ".join(dict.fromkeys(c.dtype for c in checks if c.framework not in in_float64))
        agree = f"agree{'s' if len(numerics) == 1 else ''} with the reference in {kinds}"
        said.append(f"{_listed(numerics)} {agree} (the function was not judged in float64)")
    return "; ".join(said)


def _listed(names: Sequence[str]) -> str:
    """Names as a sentence lists them."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _of_drift(tried: Sequence[Input]) -> Iterator[str]:
    """A sentence where more was judged than what becomes of an input in the end."""
    names = list(dict.fromkeys(one.layer for one in tried if one.kind == "forced"))
    if names:
        which = "" if names == ["layer"] else f" of {' and '.join(names)}"
        yield f"Time steps{which} were also judged one by one, each from given states, where earlier errors cannot hide them."


def _layer_report(name: str, spec: Layer, adapters: Sequence[Adapter | str]) -> LayerReport:
    # Variants of a framework store the same.
    names = [one.partition("[")[0] if isinstance(one, str) else one.packing.name for one in adapters]
    counts = {k: v for k, v in count(spec).items() if k in names}
    texts = [*reasons(spec, counts), *(text for k, text in unsupported(spec).items() if k in names)]
    return LayerReport(name, spec, counts, tuple(texts))


def environment(adapters: Iterable[Adapter] = ()) -> dict[str, str]:
    """Versions of what can change a number."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numpy": np.__version__,
        **{one.name: one.version() for one in adapters},
    }
