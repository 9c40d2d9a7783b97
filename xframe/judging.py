"""Judging native layers: every output against the reference in units of rounding noise, and parameters beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from xframe import mistakes, noise, reference
from xframe.adapters.base import Adapter
from xframe.errors import UnsupportedError, XframeError
from xframe.layout import Key, folds
from xframe.packing import Parameters
from xframe.reference import Given, Outputs
from xframe.spec import Layer, Recurrent, Sequential
from xframe.verdict import Check, OverTime, ParameterCheck, Power

__all__ = [
    "LIMIT",
    "Input",
    "Subject",
    "attempt",
    "beside",
    "difference",
    "in_types",
    "judge",
    "judge_outputs",
    "margins",
    "parameter_check",
    "power",
    "run_native",
    "uncalled",
]

# In units of the noise of an element. The README shows how near correct layers come to it (scripts/calibrate.py).
LIMIT = 10.0
# A mistake after which a number is not finite; JSON has no infinity.
_CERTAIN = 1e30


@dataclass(frozen=True)
class Subject:
    """A native layer to be judged, and where its weights come from."""

    adapter: Adapter
    native: Any
    weights: str

    @property
    def label(self) -> str:
        return f"{self.adapter.title} ({self.weights})"


@dataclass(frozen=True)
class Input:
    """What a layer is run on, and the truth about it: the reference's outputs with their noise, by dtype.

    Attributes:
        layer: what reports call it.
        spec, params: the layer and its canonical parameters.
        given: what it is run on.
        number: of the mask, from 1.
        kind: what sets this input apart from the first one: ``forced``, if each time step is judged by itself.
    """

    layer: str
    spec: Layer | Sequential
    params: Any
    given: Given
    number: int = 1
    kind: str = ""

    @property
    def initial_state(self) -> str:
        """``zero``, ``given`` or ``carried`` over from a call before, what kind of input, and which mask, if there is one.

        ``forced`` if it is that in which the reference is before the time step, each of which is judged by itself.
        """
        if self.kind == "forced":
            return self.kind
        start = "zero" if self.given.state is None else "given"
        start = "carried" if self.given.before is not None else start
        start += f" ({self.kind})" if self.kind else ""
        return start if self.given.mask is None else f"{start}, mask {self.number}"

    @property
    def shows_most(self) -> bool:
        """Whether this input is one to try mistakes on: initial states hide none, and show some more."""
        return self.initial_state != "zero" or not isinstance(self.spec, Recurrent)

    @property
    def title(self) -> str:
        return f"{self.layer}, {self.initial_state}"

    @cached_property
    def _measured(self) -> dict[tuple[str, frozenset[str]], noise.Noise]:
        return {}

    def noise_of(self, adapter: Adapter, dtype: str) -> noise.Noise:
        """The truth for a float type, with the noise that a framework has in it."""
        layers = self.spec.layers if isinstance(self.spec, Sequential) else (self.spec,)
        return self.noise(dtype, frozenset().union(*(adapter.coarse(layer, dtype) for layer in layers)))

    def noise(self, dtype: str, coarse: frozenset[str] = frozenset()) -> noise.Noise:
        """The truth for a float type, with the noise of a library that computes some activations coarsely; measured once."""
        if (dtype, coarse) not in self._measured:
            self._measured[dtype, coarse] = noise.measure(self.spec, self.params, self.given, dtype, coarse=coarse)
        return self._measured[dtype, coarse]


def parameter_check(
    layer: str, a: Subject, b: Subject, dtype: str, mine: Parameters, theirs: Parameters
) -> ParameterCheck:
    """Effective parameters of two layers: where they differ most, and whether rounding explains all of it."""
    narrowed = a.adapter.dtype(a.native) != b.adapter.dtype(b.native)
    return ParameterCheck(layer, a.label, b.label, dtype, *difference(mine, theirs, dtype, narrowed))


def difference(mine: Parameters, theirs: Parameters, dtype: str, narrowed: bool) -> tuple[float, str, bool]:
    """The largest difference of effective parameters, its block, and whether every one is explained by rounding to ``dtype``.

    With ``narrowed``, one of the two was rounded from a wider type.
    """
    worst, where, rounding = 0.0, "", True
    for key, one, other, wrong in beside(mine, theirs, dtype, narrowed):
        difference = np.abs(one.astype(np.float64) - other)
        if difference.max() > worst:
            worst, where = float(difference.max()), str(key)
        rounding = rounding and not wrong.any()
    return worst, where, rounding


def beside(
    mine: Parameters, theirs: Parameters, dtype: str, narrowed: bool
) -> Iterator[tuple[Key, np.ndarray, np.ndarray, np.ndarray]]:
    """Every effective block of two layers, and which of its numbers differ by more than rounding to ``dtype``.

    A layer without a bias has one zero in its place. ``narrowed`` is that of `difference`.
    """
    first, second = mine.effective(), theirs.effective()
    for key in first | second:
        one, other = first.get(key, np.zeros(1)), second.get(key, np.zeros(1))
        wrong = np.abs(one.astype(np.float64) - other) > _rounding(key, mine, theirs, dtype, narrowed)
        yield key, one, other, wrong


def _rounding(key: Key, mine: Parameters, theirs: Parameters, dtype: str, narrowed: bool) -> np.ndarray:
    """By how much a right transfer may change an effective block, see `difference`."""
    both = [_parts(key, one) for one in (mine, theirs)]
    folded = max(map(len, both)) > 1
    allowed = np.zeros(1)
    if narrowed:
        each = [sum((noise.narrowing(part, dtype) for part in parts), np.zeros(1)) for parts in both]
        # A number that was rounded up to a power of two is where numbers begin to lie further apart. In which order two biases
        # were rounded and added is not known.
        allowed = (np.maximum if folded else np.minimum)(*each)
    if folded:
        sums = [np.abs(sum(part.astype(np.float64) for part in parts)) for parts in both]
        allowed = allowed + noise.rounding(np.maximum(*sums), dtype)
        # Any split with that sum is right, and its parts were rounded when they were stored.
        allowed = sum((noise.rounding(part, dtype) for parts in both if len(parts) > 1 for part in parts), allowed)
    return allowed


def _parts(key: Key, params: Parameters) -> list[np.ndarray]:
    """What an effective block is made of: both biases, where it is the sum of two that are not zero."""
    other = key._replace(role="recurrent_bias")
    folded = key.role == "bias" and folds(params.spec, key) and other in params and bool(np.any(params[other]))
    return [params.get(part, np.zeros(1)) for part in ([key, other] if folded else [key])]


def judge(
    subject: Subject, given: Input, truth: noise.Noise, dtype: str, shown: Mapping[str, Mapping[str, float]]
) -> Iterator[Check]:
    """Every output of one native layer on one input."""
    yield from judge_outputs(subject, given, run_native(subject, given.given, dtype), truth, dtype, shown)


def run_native(subject: Subject, given: Given, dtype: str) -> Outputs:
    """Run a native layer on what is given, after the call before it, or after none. Its own states stay as they are.

    Raises:
        UnsupportedError: it fails, for whatever reason: a user may have changed it.
        SpecError: see `Adapter.run`.
    """
    try:
        return attempt(subject, given, dtype)
    except XframeError:
        raise
    except Exception as error:  # whatever a framework, or what the user has made of its layer, raises
        why = (str(error).strip().splitlines() or [""])[0]
        raise UnsupportedError(
            f"{subject.label} cannot be run ({type(error).__name__}: {why}); call it yourself with an input and states."
        ) from error


def attempt(subject: Subject, given: Given, dtype: str) -> Outputs:
    """`run_native`, which raises whatever it is that fails."""
    with subject.adapter.undisturbed(subject.native):
        return _run(subject, given, dtype)


def _run(subject: Subject, given: Given, dtype: str) -> Outputs:
    if given.before is None:
        subject.adapter.reset(subject.native)
    else:
        _run(subject, given.before, dtype)
    own = given.astype("float32" if dtype == "bfloat16" else dtype)  # NumPy has no bfloat16; the numbers are the same
    return subject.adapter.run(subject.native, own.x, own.state, own.mask)


def in_types(
    subject: Subject, types: Iterable[str], inputs: Sequence[Input]
) -> tuple[dict[str, Subject], dict[str, str]]:
    """What is judged of a native layer: itself in its own float type, and in others a copy that does what it does.

    A copy has the options and the weights of a layer, but not what its user has changed besides. So another one, in the layer's
    own type, is run beside it first. Where the two differ by more than rounding, or none can be made, the layer itself is judged
    in its own type only.

    Args:
        subject: the layer.
        types: the float types that are asked for.
        inputs: what both are run on.

    Returns:
        By float type what is judged in it, and by type that is left out a sentence that says so.
    """
    kind = subject.adapter.dtype(subject.native)
    found, without = dict[str, Subject](), dict[str, str]()
    for dtype in types:
        if dtype == kind:
            found[dtype] = subject
        elif why := _unlike_its_copy(subject, kind, inputs):
            without[dtype] = f"{subject.label} was judged as it is, in {kind} only: its copy in {dtype} {why}."
            found[kind] = subject
        else:
            found[dtype] = replace(subject, native=subject.adapter.clone(subject.native, dtype))
    return found, without


def _unlike_its_copy(subject: Subject, kind: str, inputs: Sequence[Input]) -> str:
    """Why a copy does not stand for a layer, as the end of a sentence, or nothing."""
    try:
        copy = replace(subject, native=subject.adapter.clone(subject.native, kind))
    except Exception as error:  # a part of the user's own may refuse to be made again, in any words
        return f"cannot be made ({type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]})"
    for one in inputs:
        outputs, copied = (run_native(each, one.given, kind).named() for each in (subject, copy))
        if all(np.array_equal(outputs[name], copied.get(name, ()), equal_nan=True) for name in outputs):
            continue
        deviation = one.noise_of(subject.adapter, kind).deviation
        if not all(_same(outputs.get(name), copied.get(name), deviation[name]) for name in deviation):
            return "computes something else"
    return ""


def _same(one: np.ndarray | None, other: np.ndarray | None, deviation: np.ndarray) -> bool:
    """Whether rounding explains how two outputs differ; where the noise itself overflows, anything is explained."""
    if one is None or other is None or one.shape != other.shape:
        return one is other
    with np.errstate(invalid="ignore"):
        near = noise.ratio(one, other.astype(np.float64), deviation) <= LIMIT
    alike = (one == other) | (np.isnan(one) & np.isnan(other))
    return bool(np.all(alike | near | ~np.isfinite(deviation)))


def uncalled(subject: Subject, inputs: Iterable[Input]) -> Iterator[str]:
    """A sentence where a layer is built for inputs of one size, and none of these has it."""
    batch, steps = subject.adapter.built_for(subject.native)
    sizes = {one.given.x.shape[:2] for one in inputs}
    if all((batch or rows, steps or length) != (rows, length) for rows, length in sizes):
        wanted = [f"{size} {name}" for size, name in ((batch, "rows"), (steps, "time steps")) if size]
        yield (
            f"{subject.label} is built for inputs of {' and '.join(wanted)}; on others its layers were run one by one, and not "
            "its own call."
        )


def judge_outputs(
    subject: Subject,
    given: Input,
    outputs: Outputs,
    truth: noise.Noise,
    dtype: str,
    shown: Mapping[str, Mapping[str, float]],
) -> Iterator[Check]:
    got = outputs.named()
    for output, clean in truth.clean.items():
        judged = _judge_one(got.get(output), clean, truth.deviation[output])
        ratio = judged.get("noise_ratio")
        if judged["status"] == "different":
            if judged.get("worst") is not None and ratio is None and _overflows(given, output, dtype):
                judged |= {"status": "inconclusive", "reason": f"the reference overflows too, in {dtype}"}
            elif output == "sequence" and ratio is not None:
                judged["reason"] += _only_masked(given, noise.ratio(got[output], clean, truth.deviation[output]))
        if output == "sequence" and ratio is not None:
            judged["over_time"] = _over_time(got[output], clean, truth.deviation[output])
        yield Check(
            layer=given.layer,
            framework=subject.adapter.name,
            weights=subject.weights,
            initial_state=given.initial_state,
            output=output,
            dtype=dtype,
            power=shown.get(output, {}),
            **judged,
        )


def _judge_one(got: np.ndarray | None, clean: np.ndarray, deviation: np.ndarray) -> dict[str, Any]:
    """What is said of one output: the fields of its check."""
    unknown = {"max_abs": None, "noise_ratio": None, "worst": None}
    if got is None:
        return {"status": "different", "reason": "the framework gives no such output", **unknown}
    if got.shape != clean.shape:
        return {"status": "different", "reason": f"shape {got.shape} instead of {clean.shape}", **unknown}
    for values, what, status in (
        (clean, "the reference", "inconclusive"),
        (deviation, "the rounding noise", "inconclusive"),
        (got, "the framework's output", "different"),
    ):
        if where := _not_finite(values):
            found = {**unknown, "worst": where, "got": float(got[where]), "expected": float(clean[where])}
            return {"status": status, "reason": f"{what} is {values[where]} at {where}", **found}
    ratios = noise.ratio(got, clean, deviation)
    worst = tuple(int(i) for i in np.unravel_index(np.argmax(ratios), ratios.shape))
    ratio, max_abs = float(ratios[worst]), float(np.abs(got - clean).max())
    status, reason = "equivalent", ""
    if ratio > LIMIT:
        status, reason = "different", f"off by {max_abs:.2g}, {ratio:.3g} times the rounding noise"
    elif not clean.any():
        status, reason = "inconclusive", "all numbers are zero, which proves nothing"
    numbers = {"got": float(got[worst]), "expected": float(clean[worst])}
    return {
        "status": status,
        "reason": reason,
        "max_abs": max_abs,
        "noise_ratio": ratio,
        "worst": worst,
        **numbers,
    }


def _over_time(got: np.ndarray, clean: np.ndarray, deviation: np.ndarray) -> OverTime:
    """The largest of each time step of a sequence [batch, time, units]."""
    each = (np.abs(got.astype(np.float64) - clean), deviation, noise.ratio(got, clean, deviation))
    return OverTime(*(tuple(map(float, values.max(axis=(0, 2)))) for values in each))


def _overflows(given: Input, output: str, dtype: str) -> bool:
    """Whether the reference, computed in the dtype that is judged, puts out something that is not finite."""
    narrow = given.given.astype("float32" if dtype == "bfloat16" else dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        out = reference.run_given(given.spec, given.params, narrow)
    return _not_finite(out.named()[output]) is not None


def _not_finite(values: np.ndarray) -> tuple[int, ...] | None:
    """Where the first number stands that is not finite."""
    wrong = np.argwhere(~np.isfinite(values))
    return tuple(int(i) for i in wrong[0]) if len(wrong) else None


def _only_masked(given: Input, ratios: np.ndarray) -> str:
    """What to add where every valid time step is right."""
    mask, spec = given.given.mask, given.spec
    if mask is None or not isinstance(spec, Recurrent):
        return ""
    # A layer that reads backwards, and is not flipped back, puts the masked steps at the other end.
    valid = mask[:, ::-1] if spec.go_backwards and not spec.bidirectional else mask
    if not valid.any() or ratios[valid].max() > LIMIT:
        return ""
    return f", but only at masked time steps, where it should be {_MASKED[str(spec.masked_output)]}"


_MASKED = {"repeat": "the output before (zeros before the first valid step)", "zero": "zero"}


def margins(given: Input, dtype: str) -> dict[str, dict[str, float]]:
    """By output and mistake: how many times over the limit that output would have been, judged in ``dtype``."""
    truth = given.noise(dtype)
    found: dict[str, dict[str, float]] = {name: {} for name in truth.clean}
    for name, wrong in mistakes.variations(given.spec, given.params, given.given):  # type: ignore[arg-type]
        with np.errstate(over="ignore", invalid="ignore"):  # a mistake may well overflow, which everybody would see
            outputs = wrong.run()
        for output, values in outputs.items():
            ratios = noise.ratio(values, truth.clean[output], truth.deviation[output])
            seen = np.where(np.isfinite(values), np.minimum(ratios, _CERTAIN), _CERTAIN)
            found[output][name] = float(seen.max()) / LIMIT
    return found


def power(inputs: Iterable[Input], shown: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Power:
    """For each layer's mistakes, the output that shows it best."""
    best: dict[str, float] = {}
    for given in inputs:
        for outputs in shown.get(given.title, {}).values():
            for mistake, margin in outputs.items():
                name = mistake if given.layer == "layer" else f"{given.layer}: {mistake}"
                best[name] = max(best.get(name, 0.0), margin)
    return Power(best)
