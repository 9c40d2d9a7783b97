"""Padding: masks that are ignored, or that lie elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from xframe.mistakes.base import Case, Mistake, Variation
from xframe.mistakes.making import each_call, framed, halves, recurrent, with_backward
from xframe.reference import Given, Outputs
from xframe.spec import Recurrent

__all__ = ["ENTRIES"]


def _late(mask: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ones_like(mask[:, :1]), mask[:, :-1]], axis=1)


def _early(mask: np.ndarray) -> np.ndarray:
    return np.concatenate([mask[:, 1:], np.zeros_like(mask[:, :1])], axis=1)


def _turned(mask: np.ndarray) -> np.ndarray:
    return mask[:, ::-1]


def _by_length(mask: np.ndarray) -> np.ndarray:
    """The rows in the order in which the sequences lie when they are sorted, the longest first."""
    return np.argsort(-mask.sum(axis=1), kind="stable")


def _sorted(mask: np.ndarray) -> np.ndarray:
    return mask[_by_length(mask)]


def _masked_otherwise(case: Case, change: Callable[[np.ndarray], np.ndarray]) -> Case:
    spec = recurrent(case, mask=True)
    if spec is None:
        return case
    given = each_call(case.given, lambda one: one if one.mask is None else replace(one, mask=change(one.mask)))
    return replace(case, spec=replace(spec, mask="any"), given=given)


def _without(given: Given) -> Given:
    return replace(given, mask=None)


def _unmasked(case: Case) -> Case:
    return case if recurrent(case, mask=True) is None else replace(case, given=each_call(case.given, _without))


def _padding_read(case: Case) -> Case:
    """The padding read, and the forward half of the last output taken at the last valid step."""
    spec, mask = recurrent(case, mask=True), case.given.mask
    if spec is None or mask is None:
        return case
    both = halves(spec)
    last = mask.shape[1] - 1 - np.argmax(mask[:, ::-1], axis=1)
    return framed(case, each_call(case.given, _without), partial(_gathered, last, both[0] if both else slice(None)))


def _gathered(last: np.ndarray, forward: slice, out: Outputs) -> Outputs:
    found = out.last.copy()
    found[:, forward] = out.sequence[np.arange(len(last)), last][:, forward]
    return replace(out, last=found)


def _padding_read_backward(case: Case) -> Case:
    spec = recurrent(case, mask=True)
    return case if spec is None or not _can_part(spec) else with_backward(case, _without, flipped=False)


def _can_part(spec: Recurrent) -> bool:
    return halves(spec) is not None and spec.num_layers == 1


def _outputs_masked(case: Case) -> Case:
    """The padding read, and then zeros written there."""
    mask = case.given.mask
    if recurrent(case, mask=True) is None or mask is None:
        return case
    return framed(case, each_call(case.given, _without), partial(_zeroed, mask))


def _zeroed(mask: np.ndarray, out: Outputs) -> Outputs:
    return replace(out, sequence=np.where(mask[..., None], out.sequence, 0))


def _left_sorted(case: Case) -> Case:
    mask = case.given.mask
    if recurrent(case, mask=True) is None or mask is None:
        return case
    return framed(case, case.given, partial(_in_rows, _by_length(mask)))


def _in_rows(rows: np.ndarray, out: Outputs) -> Outputs:
    return Outputs(out.sequence[rows], out.last[rows], {name: value[:, :, rows] for name, value in out.states.items()})


def _other_output(case: Case, wanted: str, other: str) -> Case:
    spec = recurrent(case, mask=True)
    if spec is None or spec.masked_output != wanted:
        return case
    return replace(case, spec=replace(spec, masked_output=other))


def _ignored(case: Case) -> Iterator[Variation]:
    spec = recurrent(case, mask=True)
    if spec is None:
        return
    mend = "Pack the sequences (pack_padded_sequence in PyTorch), or give the layer the mask."
    yield Variation("mask ignored", mend, _unmasked, "mask")
    if _can_part(spec):
        name = "the padding read first by the backward direction"
        yield Variation(
            name, mend + " Cutting off the forward half at its last valid step is not enough.", _padding_read_backward
        )
    if not spec.go_backwards and (halves(spec) or not spec.bidirectional):
        yield Variation("mask ignored, but the last output taken at the last valid step", mend, _padding_read)
    yield Variation("mask ignored, and the outputs at masked steps set to zero", mend, _outputs_masked)


def _elsewhere(case: Case) -> Iterator[Variation]:
    spec, mask = recurrent(case, mask=True), case.given.mask
    if spec is None or mask is None:
        return
    longer = "one step more of each sequence" if spec.mask == "right" else "every step one later"
    shorter = "one step less of each sequence" if spec.mask == "right" else "every step one earlier"
    entries: tuple[tuple[str, Callable[[np.ndarray], np.ndarray], str, str], ...] = (
        ("mask off by one", _late, f"Mask what is padding: this counts {longer}; check the lengths.", "mask"),
        (
            "mask off by one the other way",
            _early,
            f"Mask what is padding: this counts {shorter}; check the lengths.",
            "",
        ),
        (
            "mask from the wrong side (left for right)",
            _turned,
            "Put the padding where the mask says it is: pad_sequences of Keras pads on the left unless padding='post'.",
            "mask",
        ),
        (
            "lengths sorted, but not the sequences",
            _sorted,
            "Sort the sequences in the same order as their lengths, or give pack_padded_sequence enforce_sorted=False.",
            "",
        ),
    )
    for name, change, mend, probed in entries:
        if not np.array_equal(change(mask), mask):
            yield Variation(name, mend, partial(_masked_otherwise, change=change), probed)
    if np.any(np.diff(_by_length(mask)) < 0):
        mend = "Put the outputs back in the order of the sequences: unsort them with np.argsort of the order."
        yield Variation("outputs left in the order of sorted lengths", mend, _left_sorted)


# By what is put out at masked steps.
_CONVENTIONS = {
    "zero": "zeros at masked steps (as with zero_output_for_mask, packed sequences, cuDNN)",
    "repeat": "the output before repeated at masked steps (as in a one-way Keras layer)",
}


def _masked_steps(case: Case) -> Iterator[Variation]:
    spec = recurrent(case, mask=True)
    # Where the padding is read first, there is no output to repeat, and beside a factor of zero none shows.
    if spec is None or (
        spec.mask == "right" and ((spec.go_backwards and not spec.bidirectional) or spec.merge_mode == "mul")
    ):
        return
    wanted = str(spec.masked_output)
    other = {"zero": "repeat", "repeat": "zero"}[wanted]
    what = {"zero": "zeros", "repeat": "the output before, repeated,"}
    yield Variation(
        _CONVENTIONS[other],
        f"Put out {what[wanted]} at masked steps, or compare valid steps only: packed sequences and Bidirectional have zeros "
        "there, a one-way Keras layer repeats unless zero_output_for_mask is set.",
        partial(_other_output, wanted=wanted, other=other),
        "mask",
    )


# What stands at masked steps is looked at first: of two mistakes that put out the same there, the convention is the likelier.
ENTRIES = (
    Mistake(
        "output at masked steps",
        ("zero_output_for_mask", "pad_packed_sequence"),
        "What stands at masked steps is a convention: one-way Keras layers repeat, packed sequences and Bidirectional give 0.",
        _masked_steps,
    ),
    Mistake(
        "padding read",
        ("mask ignored", "pack_padded_sequence", "masking", "padded batch", "Masking layer", "mask_zero"),
        "Without a mask a layer reads the padding as if it were data; a backward direction reads it first.",
        _ignored,
    ),
    Mistake(
        "mask elsewhere",
        ("off by one", "pre-padding and post-padding", "enforce_sorted", "lengths"),
        "The mask and the padding do not lie in the same place.",
        _elsewhere,
    ),
)
