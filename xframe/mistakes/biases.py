"""Biases that were dropped, counted twice, put on the wrong side, or that are added at run time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np

from xframe.layout import Key, row_name
from xframe.mistakes.base import Case, Mistake, Variation
from xframe.mistakes.gates import framework_orders
from xframe.mistakes.making import BIASES, each_block, parts, with_blocks

__all__ = ["ENTRIES"]

# A pair of biases of one gate -> what takes their places.
Change = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def _has(case: Case, role: str) -> bool:
    return any(key.role == role for key in case.params)


def _dropped(case: Case) -> Iterator[Variation]:
    two = _has(case, "recurrent_bias")
    if _has(case, "bias"):
        yield Variation(
            "input bias dropped" if two else "bias dropped",
            "Load the bias of the input side: bias_ih in PyTorch, the first half of B in ONNX, the first row of the bias of a "
            "Keras GRU; where one bias is stored, it is the sum of both."
            if two
            else "Load the bias.",
            partial(each_block, roles=("bias",), change=np.zeros_like),
            "first",
        )
    if two:
        yield Variation(
            "recurrent bias dropped",
            "Load the bias of the recurrent side: bias_hh in PyTorch, the second half of B in ONNX, the second row of the bias "
            "of a Keras GRU; where one bias is stored, it is the sum of both.",
            partial(each_block, roles=("recurrent_bias",), change=np.zeros_like),
            "first",
        )
        yield Variation(
            "both biases dropped",
            "Load the biases, and build the layer with biases.",
            partial(each_block, roles=BIASES, change=np.zeros_like),
        )


def _each_pair(case: Case, change: Change, gate: str = "") -> Case:
    """Both biases of every gate, or of one, changed."""
    blocks: dict[Key, np.ndarray] = {}
    for key, bias in case.params.items():
        other = key._replace(role="recurrent_bias")
        if key.role == "bias" and other in case.params and gate in ("", key.gate):
            blocks[key], blocks[other] = change(bias, case.params[other])
    return with_blocks(case, blocks)


def _on_both_sides(bias: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return bias + other, bias + other


def _on_the_input_side(bias: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return bias + other, np.zeros_like(other)


def _on_the_recurrent_side(bias: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros_like(bias), bias + other


def _exchanged(bias: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return other, bias


def _without_the_second(bias: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return bias, np.zeros_like(other)


def _twice(case: Case) -> Iterator[Variation]:
    if _has(case, "recurrent_bias"):
        yield Variation(
            "both biases added on both sides",
            "Write the sum of the input bias and the recurrent bias to one side, and zeros to the other.",
            partial(_each_pair, change=_on_both_sides),
            "first",
        )


def _resets_after(case: Case) -> bool:
    """Whether the layer has a candidate whose recurrent bias stands inside the reset gate."""
    return any(getattr(part, "reset_after", None) and part.bias for _, part in parts(case.spec))


def _sides(case: Case) -> Iterator[Variation]:
    if not _resets_after(case):
        return
    apart = (
        "The biases of the candidate (gate n or h) are two numbers, because the reset gate scales the recurrent one: "
    )
    entries: dict[str, tuple[Change, str, str]] = {
        "candidate's biases added on one side": (
            _on_the_input_side,
            "keep bias_ih and bias_hh apart, or use a layer that resets before the product.",
            "first",
        ),
        "candidate's biases added on the recurrent side": (_on_the_recurrent_side, "keep them apart.", ""),
        "candidate's recurrent bias dropped": (
            _without_the_second,
            "load the recurrent one too; a layer that has no place for it, as flax.nnx.GRUCell, cannot take these weights.",
            "",
        ),
    }
    for name, (change, mend, probed) in entries.items():
        yield Variation(name, apart + mend, partial(_each_pair, change=change, gate="n"), probed)
    yield Variation(
        "input bias and recurrent bias exchanged",
        "Give bias_ih what belongs to the input and bias_hh what belongs to the state; in the (2, 3n) bias of a Keras GRU the "
        "first row is that of the input.",
        partial(_each_pair, change=_exchanged),
    )


def _reshaped(case: Case, order: str, back: bool) -> Case:
    """The two rows (2, g * n) of each layer and direction read as if they lay column by column, or the other way."""
    blocks: dict[Key, np.ndarray] = {}
    for place, part in parts(case.spec):
        keys = [Key(*place, role, gate) for role in BIASES for gate in order]
        if part.cell == "gru" and all(key in case.params for key in keys):
            rows = np.concatenate([case.params[key] for key in keys]).reshape(2, -1)
            flat = rows.ravel() if back else rows.T.ravel()
            wrong = flat.reshape(-1, 2).T if back else flat.reshape(2, -1)
            blocks |= dict(zip(keys, np.split(wrong.ravel(), len(keys)), strict=True))
    return with_blocks(case, blocks)


def _flattened(case: Case) -> Iterator[Variation]:
    if not _resets_after(case):
        return
    part = next(part for _, part in parts(case.spec) if part.cell == "gru")
    order = next(order for order, users in framework_orders(row_name(part)).items() if "Keras" in _titles(users))
    for name, back in (("flattened column by column", False), ("read from a flat one column by column", True)):
        yield Variation(
            f"bias (2, 3n) {name}",
            "The flat bias of 6n numbers is the input row, then the recurrent row: flatten and reshape it in C order, "
            "bias.reshape(-1) and bias.reshape(2, 3 * n).",
            partial(_reshaped, order=order, back=back),
        )


def _titles(users: Mapping[str, list[str]]) -> list[str]:
    return [title for titles in users.values() for title in titles]


# Adding one number to all units changes nothing.
_SHIFTED = ("softmax", "log_softmax")


def _forget_shifted(case: Case, by: float) -> Case:
    return with_blocks(case, {k: v + by for k, v in case.params.items() if (k.role, k.gate) == ("bias", "f")})


def _forget(case: Case) -> Iterator[Variation]:
    cells = [part for _, part in parts(case.spec) if part.cell == "lstm" and part.bias]
    if all(part.recurrent_activation in _SHIFTED for part in cells):
        return
    yield Variation(
        "forget bias of 1 added",
        "Do not add 1 to the forget gate's bias: it is in the stored numbers already. In TensorFlow 1 give the cell "
        "forget_bias=0.",
        partial(_forget_shifted, by=1.0),
        "first",
    )
    yield Variation(
        "forget bias of 1 missing",
        "Add 1 to the forget gate's block of the bias: TensorFlow 1 adds forget_bias=1 at run time, and its checkpoints do not "
        "hold it.",
        partial(_forget_shifted, by=-1.0),
    )


def _initial(case: Case, place: tuple[int, int], roles: tuple[str, ...], forget: float) -> Case:
    """Biases of one layer and direction at their initial values."""
    return with_blocks(
        case,
        {
            key: np.full_like(block, forget if (key.role, key.gate) == ("bias", "f") else 0)
            for key, block in case.params.items()
            if key.role in roles and place == (key.layer, key.direction)
        },
    )


def _negated(case: Case) -> Iterator[Variation]:
    two = _has(case, "recurrent_bias")
    sides = {"input bias": ("bias",), "recurrent bias": ("recurrent_bias",), "both biases": BIASES}
    for title, roles in sides.items() if two else [("bias", ("bias",))] if _has(case, "bias") else ():
        yield Variation(
            f"{title} negated",
            f"Take the {'biases' if roles is BIASES else title} with the sign that is stored: b is added, x W + b.",
            partial(each_block, roles=roles, change=np.negative),
        )


_TITLES = {"input bias": ("bias",), "recurrent bias": ("recurrent_bias",), "biases": BIASES}


def _not_loaded(case: Case) -> Iterator[Variation]:
    places = list(parts(case.spec))
    for place, part in places:
        # In a layer of one place it is a bias that was dropped.
        where = f" of layer {place[0]}, {'backward' if place[1] else 'forward'}" if len(places) > 1 else ""
        for title, roles in _TITLES.items() if part.bias and where else ():
            change = partial(_initial, place=place, roles=roles, forget=0)
            mend = f"Load the {title}{where}; the others are right."
            yield Variation(f"{title}{where} not loaded, still 0", mend, change)
        if part.bias and part.cell == "lstm":
            yield Variation(
                f"biases{where} not loaded, still 0, and 1 in the forget gate",
                f"Load the bias{where}: a Keras LSTM is built with 1 in the forget gate's block (unit_forget_bias) and 0 else.",
                partial(_initial, place=place, roles=BIASES, forget=1),
            )


ENTRIES = (
    Mistake(
        "bias dropped",
        ("bias_hh ignored", "bias=False", "only one bias loaded", "no input-side biases", "[400] vs [800]"),
        "PyTorch, ONNX and cuDNN store two biases, most others one, their sum. Taking one of the two leaves the other out.",
        _dropped,
    ),
    Mistake(
        "bias counted twice",
        ("two biases", "bias_ih and bias_hh", "doubled bias"),
        "Only the sum of the two biases is used. The whole of it written to both is twice the bias.",
        _twice,
    ),
    Mistake(
        "bias on the wrong side",
        ("reset_after bias", "(2, 3n) bias", "[384] vs [2, 384]", "folded bias"),
        "In a GRU that resets after the product, the candidate's recurrent bias stands inside the reset gate. There the two "
        "biases are not one.",
        _sides,
    ),
    Mistake(
        "forget bias",
        ("forget_bias", "unit_forget_bias", "BasicLSTMCell", "tf.nn.rnn_cell.LSTMCell"),
        "TensorFlow 1 adds forget_bias=1 to the forget gate at run time, and no tensor holds it; every other framework has all "
        "of the bias in its tensors.",
        _forget,
    ),
    Mistake(
        "bias not loaded",
        ("weights not loaded", "strict=False", "skip_mismatch", "by_name", "unit_forget_bias"),
        "A bias that a loader does not find keeps its initial numbers, which are zeros, or 1 in the forget gate of a Keras LSTM.",
        _not_loaded,
        1,
    ),
    Mistake(
        "bias negated",
        ("sign of the bias", "threshold instead of bias", "x W - b"),
        "A bias is added, x W + b. A program that keeps thresholds subtracts them, and has the bias with the other sign.",
        _negated,
        2,
    ),
    Mistake(
        "bias reshaped",
        ("flattened bias", "CuDNNGRU bias", "order='F'"),
        "The (2, 3n) bias of a Keras GRU and the flat one of 6n numbers of a CuDNNGRU hold the rows one after the other. A "
        "transposed or column-major array mixes them.",
        _flattened,
        2,
    ),
)
