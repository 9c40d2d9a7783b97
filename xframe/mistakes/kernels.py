"""Kernels that lie otherwise in memory than they are read: not transposed, reshaped, exchanged, projected wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from xframe.cells import get_cell
from xframe.layout import Key, row_name
from xframe.mistakes.base import Case, Mistake, Variation
from xframe.mistakes.gates import framework_orders
from xframe.mistakes.making import KERNELS, each_block, parts, tensors, with_blocks

__all__ = ["ENTRIES"]

# A matrix (in, out) -> what is taken for it.
Change = Callable[[np.ndarray], np.ndarray]


def _transposed(w: np.ndarray) -> np.ndarray:
    """A square matrix that was taken as it lies."""
    return w.T if w.shape[0] == w.shape[1] else w


def _from_out_in(w: np.ndarray) -> np.ndarray:
    """What lies as (out, in), reshaped to (in, out)."""
    return np.reshape(w.T, w.shape)


def _to_out_in(w: np.ndarray) -> np.ndarray:
    """What lies as (in, out), reshaped to (out, in)."""
    return np.reshape(w, w.shape[::-1]).T


class _Way(NamedTuple):
    """How a matrix comes to lie wrongly, in words, and what to do."""

    change: Change
    words: str
    mend: str
    square: bool


_WAYS = (
    _Way(_transposed, "not transposed", "Transpose {}: a square shape does not tell (in, out) from (out, in)", True),
    _Way(
        _from_out_in,
        "reshaped from (out, in) to (in, out) instead of transposed",
        "Transpose {} from (out, in) with .T; a reshape keeps the numbers in their order and mixes rows with columns",
        False,
    ),
    _Way(
        _to_out_in,
        "reshaped from (in, out) to (out, in) instead of transposed",
        "Transpose {} from (in, out) with .T; a reshape keeps the numbers in their order and mixes rows with columns",
        False,
    ),
)


def _matrices(case: Case, role: str, order: str | None) -> Iterator[list[Key]]:
    """The blocks of which a matrix is made: each by itself, or all gates of a layer and direction in an order."""
    for place, part in parts(case.spec):
        gates = ("",) if role == "projection" else get_cell(part.cell).gates
        groups = [(gate,) for gate in gates] if order is None else [tuple(order)] if set(order) == set(gates) else []
        for group in groups:
            keys = [Key(*place, role, gate) for gate in group]
            if all(key in case.params for key in keys):
                yield keys


def _laid(case: Case, roles: tuple[str, ...], order: str | None, change: Change) -> Case:
    """The matrices of these roles changed."""
    blocks: dict[Key, np.ndarray] = {}
    for keys in (keys for role in roles for keys in _matrices(case, role, order)):
        joined = np.concatenate([case.params[key] for key in keys], axis=1)
        wrong = change(joined)
        if wrong is not joined:
            blocks |= dict(zip(keys, np.split(wrong, len(keys), axis=1), strict=True))
    return with_blocks(case, blocks)


def _sizes(case: Case, roles: tuple[str, ...], order: str | None) -> list[tuple[int, int]]:
    """The shapes of the matrices that are not a single row or column, which lies alike either way."""
    keys = [keys for role in roles for keys in _matrices(case, role, order)]
    shapes = [(case.params[one[0]].shape[0], sum(case.params[key].shape[1] for key in one)) for one in keys]
    return [shape for shape in shapes if min(shape) > 1]


_ROLES = (("kernel",), ("recurrent_kernel",), KERNELS)


def _fits(case: Case, roles: tuple[str, ...], order: str | None, square: bool) -> bool:
    """Whether every role has such a matrix; one that is not square is enough for a reshape of all to be seen."""
    sizes = [_sizes(case, (role,), order) for role in roles]
    if square:
        return all(any(a == b for a, b in shapes) for shapes in sizes)
    return all(sizes) and any(a != b for shapes in sizes for a, b in shapes)


def _ways(case: Case, square: bool, order: str | None = None) -> Iterator[Variation]:
    """Every way in which kernels can lie wrongly, gate by gate or all gates at once."""
    gated = any(len(get_cell(part.cell).gates) > 1 for _, part in parts(case.spec))
    how, each = (", gate by gate", "each gate's block of ") if gated and not square else ("", "")
    if order:
        how, each = f", all gates {' '.join(order)} at once", "the whole of "
    for roles in (roles for roles in _ROLES if _fits(case, roles, order, square)):
        for way in (way for way in _WAYS if way.square == square):
            title = tensors(roles, case)
            probed = "first" if len(roles) == 1 and not order and way.change is not _to_out_in else ""
            change = partial(_laid, roles=roles, order=order, change=way.change)
            name = f"{title.removeprefix('the ').replace(' and the ', ' and ')} {way.words}{how}"
            yield Variation(name, f"{way.mend.format(each + title)}.", change, probed)


def _untransposed(case: Case) -> Iterator[Variation]:
    yield from _ways(case, square=True)


def _reshaped(case: Case) -> Iterator[Variation]:
    yield from _ways(case, square=False)
    rows = {part.cell: row_name(part) for _, part in parts(case.spec)}
    for row in rows.values():
        # TensorFlow 1 has no kernel of its own for the input.
        for order, users in framework_orders(row).items() if len(get_cell(row.split("/")[0]).gates) > 1 else ():
            if any(title != "TensorFlow 1" for titles in users.values() for title in titles):
                yield from _ways(case, True, order)
                yield from _ways(case, False, order)


def _pairs(case: Case) -> Iterator[tuple[Key, Key]]:
    """The kernel and the recurrent kernel of each gate."""
    for key in case.params:
        if key.role == "kernel" and (other := key._replace(role="recurrent_kernel")) in case.params:
            yield key, other


def _exchanged(case: Case) -> Case:
    blocks: dict[Key, np.ndarray] = {}
    for key, other in _pairs(case):
        if case.params[key].shape == case.params[other].shape:
            blocks |= {key: case.params[other], other: case.params[key]}
    return with_blocks(case, blocks)


def _split_wrongly(case: Case) -> Case:
    """The rows [kernel; recurrent kernel] read as [recurrent kernel; kernel]."""
    blocks: dict[Key, np.ndarray] = {}
    for key, other in _pairs(case):
        joined = np.concatenate([case.params[key], case.params[other]])
        blocks[other], blocks[key] = np.split(joined, [len(case.params[other])])
    return with_blocks(case, blocks)


def _joined(case: Case) -> Iterator[Variation]:
    shapes = [(case.params[key].shape, case.params[other].shape) for key, other in _pairs(case)]
    if any(one == other for one, other in shapes):
        yield Variation(
            "kernel and recurrent kernel exchanged",
            "Write the kernel, which multiplies the input, to weight_ih (Keras: kernel), and the recurrent kernel to weight_hh.",
            _exchanged,
        )
    if any(one != other for one, other in shapes):
        yield Variation(
            "joined kernel split with the recurrent rows first",
            "Split the joined kernel (features + state, gates * hidden) after the first features rows: those are the kernel, the "
            "rest is the recurrent kernel.",
            _split_wrongly,
        )


def _without_recurrence(case: Case) -> Iterator[Variation]:
    if any(key.role == "recurrent_kernel" for key in case.params):
        yield Variation(
            "the recurrent term left out",
            "Add h U, the previous state times the recurrent kernel, to x W + b before the activation, at every time step.",
            partial(each_block, roles=("recurrent_kernel",), change=np.zeros_like),
        )


_CANDIDATES = {"lstm": "g", "gru": "n"}


def _candidate_alone(case: Case, roles: tuple[str, ...]) -> Case:
    blocks = dict[Key, np.ndarray]()
    for place, part in parts(case.spec):
        keys = [Key(*place, role, _CANDIDATES.get(part.cell, "")) for role in roles]
        blocks |= {key: np.zeros_like(case.params[key]) for key in keys if key in case.params}
    return with_blocks(case, blocks)


def _without_candidate(case: Case) -> Iterator[Variation]:
    cells = [part for _, part in parts(case.spec) if part.cell in _CANDIDATES]
    if not cells:
        return
    mend = "Add h U to the candidate (gate g of an LSTM, n or h of a GRU) as to the other gates{}, at every time step."
    name, roles = "the candidate's recurrent term left out", ("recurrent_kernel",)
    yield Variation(name, mend.format(""), partial(_candidate_alone, roles=roles))
    if any(part.bias for part in cells):
        change = partial(_candidate_alone, roles=(*roles, "recurrent_bias"))
        yield Variation(f"{name}, with its bias", mend.format(", and its bias"), change)


def _cut(w: np.ndarray) -> np.ndarray:
    """The projection (hidden, state) that takes the first units as they are."""
    return np.eye(*w.shape, dtype=w.dtype)


_PROJECTION: Mapping[str, tuple[Change, str]] = {
    "the projection left out, its first units taken": (
        _cut,
        "Multiply the output of the cell by the projection (weight_hr in PyTorch), h = (o tanh(c)) P.",
    ),
    "projection reshaped from (out, in) to (in, out) instead of transposed": (
        _from_out_in,
        "Transpose weight_hr with .T.",
    ),
    "projection reshaped from (in, out) to (out, in) instead of transposed": (
        _to_out_in,
        "Transpose the projection with .T to get weight_hr.",
    ),
}


def _projected(case: Case) -> Iterator[Variation]:
    for name, (change, mend) in _PROJECTION.items():
        if _sizes(case, ("projection",), None) or (
            change is _cut and any(key.role == "projection" for key in case.params)
        ):
            yield Variation(name, mend, partial(each_block, roles=("projection",), change=change))


ENTRIES = (
    Mistake(
        "recurrent term left out",
        ("hand-written SimpleRNN", "no hidden state", "h U missing"),
        "Without the product of the previous state with the recurrent kernel, every time step is computed by itself.",
        _without_recurrence,
    ),
    Mistake(
        "candidate's recurrent term left out",
        ("hand-written LSTM", "hand-written GRU", "g = tanh(x W)", "h U_g missing"),
        "The candidate reads the previous state as the gates do: g = tanh(x W_g + b_g + h U_g + rb_g) in an LSTM, and in a GRU "
        "with the reset gate. Written by hand, its recurrent term is easily left out.",
        _without_candidate,
        1,
    ),
    Mistake(
        "kernel not transposed",
        ("weight.T", "transpose the kernel", "(in, out) and (out, in)", "CuDNNLSTM kernel"),
        "Keras keeps kernels as (in, out), PyTorch and ONNX as (out, in). A square one fits either way.",
        _untransposed,
    ),
    Mistake(
        "kernels exchanged",
        ("weight_ih and weight_hh", "bilm-tf", "concatenated kernel", "(d + n, 4n) kernel"),
        "The kernel of the input stands where that of the state belongs. TensorFlow 1 keeps both in one tensor, the rows of the "
        "input first.",
        _joined,
        1,
    ),
    Mistake(
        "kernel reshaped",
        ("reshape instead of transpose", "view", "CuDNNGRU kernel", "column-major", "order='F'"),
        "A reshape to the wanted shape keeps the numbers in their order in memory, a transposition does not. Legacy cuDNN layers "
        "keep each gate's kernel so that reading it as it lies does the same.",
        _reshaped,
        1,
    ),
    Mistake(
        "projection",
        ("proj_size", "num_proj", "weight_hr", "LSTMP"),
        "The state of a projected LSTM is (o tanh(c)) P, with the projection P.",
        _projected,
        1,
    ),
)
