"""Causes that are no change of the layer and show in the numbers themselves: dropout, narrow float types, a constant factor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from xframe import noise
from xframe.diagnosis.evidence import Evidence
from xframe.diagnosis.record import Fault
from xframe.diagnosis.search import Candidate
from xframe.judging import LIMIT
from xframe.mistakes import Case, Mistake, Variation
from xframe.reference import Given, Outputs

__all__ = [
    "Rerun",
    "dropped",
    "narrow_fault",
    "narrower",
    "restless",
    "saved",
    "scaled",
    "scaling",
    "tensor_cores",
    "within",
]

# Numbers that are exact in a narrow type by chance, as 0 and 1 are, prove nothing: so many must be neither.
_ENOUGH = 8
# By how much dropout enlarges what it keeps, at the least: a rate of one in a thousand.
_SOME = 1.001
# Puts out the same again, by name.
Rerun = Callable[[Given], Mapping[str, np.ndarray]]
# bfloat16 keeps the upper half of a float32.
_LOWER_HALF = np.uint32(0xFFFF)


def within(cases: Sequence[Case], evidence: Sequence[Evidence], dtype: str) -> tuple[float, float] | None:
    """The largest difference, in units of the noise of a float type and absolutely, if that explains all of it."""
    worst = largest = 0.0
    for case, one in zip(cases, evidence, strict=True):
        truth = one.around(case.noise(dtype))
        for name, values in one.outputs.items():
            if values.shape != truth.clean[name].shape:
                return None
            ratio = noise.ratio(values, truth.clean[name], truth.deviation[name])
            if not np.all(ratio <= LIMIT):
                return None
            worst, largest = (
                max(worst, float(ratio.max())),
                max(largest, float(np.abs(values - truth.clean[name]).max())),
            )
    return worst, largest


def narrower(evidence: Sequence[Evidence]) -> str | None:
    """A narrower float type than that of the evidence of which all its numbers are."""
    values = np.concatenate([np.ravel(v) for one in evidence for v in one.outputs.values()]).astype(np.float32)
    telling = np.unique(np.abs(values[~np.isin(np.abs(values), (0.0, 0.5, 1.0))]))
    if len(telling) < _ENOUGH or any(one.dtype not in ("float32", "float64") for one in evidence):
        return None
    if not np.any(values.view(np.uint32) & _LOWER_HALF):
        return "bfloat16"
    with np.errstate(over="ignore"):
        return "float16" if np.array_equal(values, values.astype(np.float16).astype(np.float32)) else None


def narrow_fault(dtype: str) -> Fault:
    """The outputs are numbers of a narrow float type."""
    return Fault(
        "narrow arithmetic",
        f"outputs computed in {dtype}",
        f"Every output is exactly a {dtype} number, as in a layer that was cast to {dtype} or runs under autocast.",
        f"Compute in float32 for a comparison: layer.float(), no autocast, no mixed precision; or compare as {dtype}.",
    )


# The steps in which outputs are saved, the largest first, and what is said of them.
_STEPS = {
    **{10.0**-n: f"{n} decimal{'s' if n > 1 else ''}" for n in (1, 2)},
    1 / 127: "int8, as whole multiples of 1/127",
    1 / 128: "int8, as whole multiples of 1/128",
    **{10.0**-n: f"{n} decimals" for n in (3, 4)},
    1 / 32767: "int16, as whole multiples of 1/32767",
    1 / 32768: "int16, as whole multiples of 1/32768",
    **{10.0**-n: f"{n} decimals" for n in range(5, 9)},
}
# How unlikely it must be that all outputs are whole multiples by chance, as a power of two.
_BITS = 30.0


def saved(evidence: Sequence[Evidence]) -> tuple[float, Fault] | None:
    """The step of which all outputs are whole multiples, if there is one, and what was done to them."""
    values = np.concatenate([np.ravel(v) for one in evidence for v in one.outputs.values()])
    u = max(noise.ROUNDOFF[one.dtype] for one in evidence)
    for step, words in _STEPS.items():
        multiples = np.abs(values / step)
        slack = 2 * u * multiples
        hits = np.abs(multiples - np.rint(multiples)) <= slack
        bits = -np.log2(np.clip(2 * slack[slack > 0], 1e-300, 1))
        if hits.all() and bits.sum() >= _BITS:
            return step, Fault(
                "rounded outputs",
                f"outputs rounded to {words}",
                "Every output that was recorded is such a number, so that their other digits are lost.",
                "Record the outputs as they are, in binary: np.savez, or text with nine significant digits.",
            )
    return None


def tensor_cores() -> Fault:
    """The products were rounded as tensor cores do it."""
    return Fault(
        "TF32 products",
        "products computed in TF32",
        "NVIDIA's tensor cores round the factors of a product to 11 significant bits when TF32 is allowed; rounded so in the "
        "reference, the outputs come much nearer, and nothing else explains the difference.",
        "Turn TF32 off for a comparison: torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False, or "
        "tf.config.experimental.enable_tensor_float_32_execution(False).",
    )


_DROPOUT_MEND = "Put the layer in inference mode: layer.eval() in PyTorch, training=False in Keras."


def restless(evidence: Sequence[Evidence], truths: Sequence[noise.Noise], rerun: Rerun | None) -> Fault | None:
    """Outputs that are others each time they are computed, by more than rounding."""
    for one, truth in zip(evidence, truths, strict=True):
        again = rerun(one.given) if rerun else {}
        if any(
            not np.all(noise.ratio(again[name], values, truth.deviation[name]) <= LIMIT)
            for name, values in one.outputs.items()
            if name in again
        ):
            return Fault(
                "dropout active",
                "dropout active",
                "On one and the same input the outputs are different each time.",
                _DROPOUT_MEND,
            )
    return None


def dropped(evidence: Sequence[Evidence], truths: Sequence[noise.Noise]) -> Fault | None:
    """Outputs of which some are zero where they should not be, and all others too large by one factor."""
    wanted, found, noises = [], [], []
    for one, truth in zip(evidence, truths, strict=True):
        for name in (name for name in one.outputs if not name.startswith("state ")):
            # Zeros at masked steps are no dropout, whichever way round they lie.
            mask = one.given.mask if name == "sequence" else None
            valid = slice(None) if mask is None else mask & mask[:, ::-1]
            wanted.append(truth.clean[name][valid].ravel())
            found.append(one.outputs[name][valid].ravel())
            noises.append(truth.deviation[name][valid].ravel())
    if not wanted:
        return None
    clean, got, deviation = (np.concatenate(parts) for parts in (wanted, found, noises))
    gone = (got == 0) & (np.abs(clean) > LIMIT * deviation)
    kept = got != 0
    if gone.sum() < 2 or kept.sum() < 2:
        return None
    factor = float(got[kept] @ clean[kept] / (clean[kept] @ clean[kept]))
    if factor < _SOME or not np.all(np.abs(got - factor * clean)[kept] <= LIMIT * factor * deviation[kept]):
        return None
    return Fault(
        "dropout active",
        f"dropout of rate {1 - 1 / factor:.3g} on its outputs",
        "Some outputs are exactly zero, and the others are too large by one factor, as dropout does it in training.",
        _DROPOUT_MEND,
    )


def scaled(evidence: Sequence[Evidence], truths: Sequence[noise.Noise]) -> float | None:
    """The one factor between the outputs and what they should be, if there is one."""
    pairs = [
        (one.outputs[name].ravel(), truth.clean[name].ravel(), truth.deviation[name].ravel())
        for one, truth in zip(evidence, truths, strict=True)
        for name in one.outputs
    ]
    got, clean, deviation = (np.concatenate([pair[i] for pair in pairs]) for i in range(3))
    factor = float(got @ clean / (clean @ clean)) if clean.any() else 0.0
    close = np.abs(got - factor * clean) <= LIMIT * abs(factor) * deviation
    return factor if factor and len(got) >= _ENOUGH and bool(close.all()) else None


def scaling(factor: float, number: int) -> Candidate:
    """The mistake that all outputs are multiplied by a constant."""

    def after(outputs: Outputs) -> Outputs:
        states = {name: factor * value for name, value in outputs.states.items()}
        return Outputs(factor * outputs.sequence, factor * outputs.last, states)

    mistake = Mistake(
        "outputs scaled", (), "The outputs were multiplied by one number on their way.", lambda _: iter(()), 8
    )
    mend = "Compare the outputs as the layer puts them out."
    return Candidate(mistake, Variation(f"outputs scaled by {factor:.6g}", mend, lambda case: case.then(after)), number)
