"""Packing and unpacking: properties over every packing, and native arrays that were laid end to end by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import helpers
import numpy as np
import pytest
from helpers import LAYERS_BY_NAME
from hypothesis import given
from hypothesis import strategies as st

from xframe.adapters import known_packings
from xframe.errors import LayoutError, UnsupportedError
from xframe.layout import Key
from xframe.packing import Blocks, Parameters, pack, unpack
from xframe.spec import Layer, Recurrent

PACKINGS = known_packings()
ROWS = [(p.name, row) for p in PACKINGS.values() for row in p.rows]
SEEDS = st.integers(0, 2**32 - 1)


def fits(packing: str, kind: str) -> bool:
    """Whether a framework has the layer; test_layout.py says which ones should."""
    try:
        return bool(PACKINGS[packing].natives(LAYERS_BY_NAME[kind]))
    except UnsupportedError:
        return False


# The rows that have no place for the recurrent bias of a reset-after GRU's candidate, by FACTS.md.
NO_CANDIDATE_BIAS = {("flax", "gru")}


Arrays = dict[str, np.ndarray]


def packed(packing: str, spec: Layer, blocks: Mapping[Key, np.ndarray], dtype: str | None = None) -> Arrays:
    return dict(pack(PACKINGS[packing], spec, blocks, dtype))


def drawn(data: st.DataObject, packing: str, row: str) -> tuple[Layer, helpers.Blocks]:
    """A spec of the row and whole numbers that fit into it."""
    spec = data.draw(helpers.specs(row, PACKINGS[packing].rows[row]))
    blocks = helpers.whole_numbers(spec, data.draw(SEEDS))
    if (packing, row) in NO_CANDIDATE_BIAS:
        blocks |= {k: np.zeros_like(v) for k, v in blocks.items() if k.role == "recurrent_bias" and k.gate == "n"}
    return spec, blocks


@pytest.mark.parametrize(("packing", "row"), ROWS)
@given(data=st.data())
def test_what_was_packed_is_unpacked(packing: str, row: str, data: st.DataObject) -> None:
    spec, blocks = drawn(data, packing, row)
    arrays = packed(packing, spec, blocks)
    got = unpack(PACKINGS[packing], spec, arrays)
    helpers.assert_same_numbers(helpers.effective(spec, got), helpers.effective(spec, blocks))
    assert sum(a.size for a in arrays.values()) == helpers.stored(packing, spec)
    assert {n.name: n.shape for n in PACKINGS[packing].natives(spec)} == {k: a.shape for k, a in arrays.items()}
    assert [n.count for n in PACKINGS[packing].natives(spec)] == [a.size for a in arrays.values()]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("packing", "row"), ROWS)
@given(data=st.data())
def test_what_was_unpacked_is_packed(packing: str, row: str, dtype: str, data: st.DataObject) -> None:
    """Native arrays come back bit for bit, in their own dtype and order."""
    spec = data.draw(helpers.specs(row, PACKINGS[packing].rows[row]))
    random = np.random.default_rng(data.draw(SEEDS))
    arrays = {
        n.name: helpers.away_from_zero(random, n.shape, 3.0).astype(dtype) for n in PACKINGS[packing].natives(spec)
    }
    blocks = unpack(PACKINGS[packing], spec, arrays)
    again = packed(packing, spec, blocks, dtype)
    assert list(again) == list(arrays)
    assert {k: (a.dtype, a.shape) for k, a in again.items()} == {k: (a.dtype, a.shape) for k, a in arrays.items()}
    assert helpers.bits(again) == helpers.bits(arrays)


@pytest.mark.parametrize(("packing", "row"), ROWS)
@given(data=st.data())
def test_nothing_is_lost_and_nothing_made_up(packing: str, row: str, data: st.DataObject) -> None:
    """The packed numbers are the effective ones, plus the second half of each bias where two are stored."""
    spec, blocks = drawn(data, packing, row)
    arrays = packed(packing, spec, blocks)
    got = unpack(PACKINGS[packing], spec, arrays)
    numbers = sorted(float(v) for a in arrays.values() for v in a.ravel())
    assert numbers == sorted(float(v) for b in got.values() for v in b.ravel() if v != 0)


PAIRS = [(a, b, kind) for a in PACKINGS for b in PACKINGS for kind in LAYERS_BY_NAME if fits(a, kind) and fits(b, kind)]


@pytest.mark.parametrize(("source", "target", "kind"), PAIRS)
def test_sharing_memory_changes_no_number(source: str, target: str, kind: str) -> None:
    """From one framework's arrays to another's: what is handed on as a view is what would have been made anew."""
    spec = LAYERS_BY_NAME[kind]
    blocks = helpers.whole_numbers(spec, 5)
    if "flax" in (source, target):
        blocks |= {k: np.zeros_like(v) for k, v in blocks.items() if k.role == "recurrent_bias" and k.gate == "n"}
    arrays = packed(source, spec, blocks)
    before = helpers.bits(arrays)
    views = Blocks(PACKINGS[source], spec, arrays)
    shared = dict(pack(PACKINGS[target], spec, views, "float64", share=True))
    helpers.assert_same_numbers(shared, packed(target, spec, views, "float64"))
    assert helpers.bits(arrays) == before
    if source == target:
        # Nothing has to be moved, so nothing is. (A bias may be the sum of itself and zeros.)
        kernels = [name for name in arrays if "kernel" in name or "weight" in name]
        assert all(np.shares_memory(shared[name], arrays[name]) for name in kernels if source != "keras-cudnn")


@given(data=st.data(), row=st.sampled_from(["rnn", "lstm", "gru", "gru/reset_before", "dense"]))
def test_effective_parameters(row: str, data: st.DataObject) -> None:
    """g(n² + nd + n), and n more in a GRU that resets after."""
    spec = data.draw(helpers.specs(row, replace(PACKINGS["keras"].rows[row], options={"proj_size": (0,)})))
    blocks = helpers.whole_numbers(spec, data.draw(SEEDS))
    got = Parameters(spec, blocks).effective()
    helpers.assert_same_numbers(got, helpers.effective(spec, blocks))
    formulas: dict[str, Callable[[int, int], int]] = {
        "rnn": lambda n, d: n * n + n * d + n,
        "lstm": lambda n, d: 4 * (n * n + n * d + n),
        "gru": lambda n, d: 3 * (n * n + n * d) + 4 * n,
        "gru/reset_before": lambda n, d: 3 * (n * n + n * d + n),
        "dense": lambda n, d: n * d + n,
    }
    if spec.bias:
        n, later = spec.hidden_size, range(1, spec.num_layers)
        sizes = [spec.input_size, *(n * spec.num_directions for _ in later)]
        assert sum(b.size for b in got.values()) == spec.num_directions * sum(formulas[row](n, d) for d in sizes)


# ---- Native arrays laid end to end by hand, in the gate order of FACTS.md, for 3 features and 2 units.

Gates = Arrays
D, N = 3, 2


def numbers(cell: str) -> tuple[Gates, Gates, Gates, Gates]:
    """Input kernels, recurrent kernels, input biases and recurrent biases by gate: the whole numbers from 1."""
    start, found = 1, []
    for shape in ((D, N), (N, N), (N,), (N,)):
        blocks = {}
        for gate in helpers.GATES[cell]:
            size = int(np.prod(shape))
            blocks[gate] = np.arange(start, start + size, dtype=np.float64).reshape(shape)
            start += size
        found.append(blocks)
    return found[0], found[1], found[2], found[3]


def _keras(w: Gates, u: Gates, b: Gates, order: str, prefix: str) -> Arrays:
    return {
        f"{prefix}kernel": np.concatenate([w[g] for g in order], axis=1),
        f"{prefix}recurrent_kernel": np.concatenate([u[g] for g in order], axis=1),
        f"{prefix}bias": np.concatenate([b[g] for g in order]),
    }


def _torch(w: Gates, u: Gates, b: Gates, r: Gates, order: str) -> Arrays:
    return {
        "weight_ih_l0": np.concatenate([w[g].T for g in order], axis=0),
        "weight_hh_l0": np.concatenate([u[g].T for g in order], axis=0),
        "bias_ih_l0": np.concatenate([b[g] for g in order]),
        "bias_hh_l0": np.concatenate([r[g] for g in order]),
    }


def _onnx(w: Gates, u: Gates, b: Gates, r: Gates, order: str) -> Arrays:
    return {
        "W": np.concatenate([w[g].T for g in order], axis=0)[None],
        "R": np.concatenate([u[g].T for g in order], axis=0)[None],
        "B": np.concatenate([*[b[g] for g in order], *[r[g] for g in order]])[None],
    }


def _cudnn(w: Gates, u: Gates, b: Gates, r: Gates, order: str) -> Arrays:
    """tf_keras's transform back to cuDNN: ``kernel.T.reshape(kernel.shape, order="C")`` and ``recurrent_kernel.T``."""
    return {
        "kernel": np.hstack([w[g].T.reshape(w[g].shape, order="C") for g in order]),
        "recurrent_kernel": np.hstack([u[g].T for g in order]),
        "bias": np.concatenate([*[b[g] for g in order], *[r[g] for g in order]]),
    }


def _tf1(w: Gates, u: Gates, b: Gates, order: str, prefix: str = "") -> Arrays:
    above, below = np.concatenate([w[g] for g in order], axis=1), np.concatenate([u[g] for g in order], axis=1)
    return {f"{prefix}kernel": np.vstack([above, below]), f"{prefix}bias": np.concatenate([b[g] for g in order])}


def _summed(b: Gates, r: Gates) -> Gates:
    return {gate: b[gate] + r[gate] for gate in b}


Hand = Callable[[Gates, Gates, Gates, Gates], Arrays]
BY_HAND: dict[tuple[str, str], Hand] = {
    ("keras", "rnn"): lambda w, u, b, r: _keras(w, u, _summed(b, r), "h", "simple_rnn/simple_rnn_cell/"),
    ("keras", "lstm"): lambda w, u, b, r: _keras(w, u, _summed(b, r), "ifgo", "lstm/lstm_cell/"),
    ("keras", "gru/reset_before"): lambda w, u, b, r: _keras(w, u, _summed(b, r), "zrn", "gru/gru_cell/"),
    ("keras", "gru"): lambda w, u, b, r: {
        **_keras(w, u, b, "zrn", "gru/gru_cell/"),
        "gru/gru_cell/bias": np.array([[*b["z"], *b["r"], *b["n"]], [*r["z"], *r["r"], *r["n"]]]),
    },
    ("keras-cudnn", "lstm"): lambda w, u, b, r: _cudnn(w, u, b, r, "ifgo"),
    ("keras-cudnn", "gru"): lambda w, u, b, r: _cudnn(w, u, b, r, "zrn"),
    ("torch", "rnn"): lambda w, u, b, r: _torch(w, u, b, r, "h"),
    ("torch", "lstm"): lambda w, u, b, r: _torch(w, u, b, r, "ifgo"),
    ("torch", "gru"): lambda w, u, b, r: _torch(w, u, b, r, "rzn"),
    ("torch", "gru/reset_before"): lambda w, u, b, r: _torch(w, u, b, r, "rzn"),
    ("onnx", "rnn"): lambda w, u, b, r: _onnx(w, u, b, r, "h"),
    ("onnx", "lstm"): lambda w, u, b, r: _onnx(w, u, b, r, "iofg"),
    ("onnx", "gru"): lambda w, u, b, r: _onnx(w, u, b, r, "zrn"),
    ("onnx", "gru/reset_before"): lambda w, u, b, r: _onnx(w, u, b, r, "zrn"),
    ("tf1", "rnn"): lambda w, u, b, r: _tf1(w, u, _summed(b, r), "h"),
    ("tf1", "lstm"): lambda w, u, b, r: _tf1(w, u, _summed(b, r), "igfo"),
    ("tf1", "gru/reset_before"): lambda w, u, b, r: {
        **_tf1(w, u, _summed(b, r), "rz", "gates/"),
        **_tf1(w, u, _summed(b, r), "n", "candidate/"),
    },
    ("flax", "rnn"): lambda w, u, b, r: {
        "dense_i/kernel": w["h"],
        "dense_i/bias": b["h"] + r["h"],
        "dense_h/kernel": u["h"],
    },
    ("flax", "lstm"): lambda w, u, b, r: {
        "ii/kernel": w["i"],
        "if_/kernel": w["f"],
        "ig/kernel": w["g"],
        "io/kernel": w["o"],
        **{f"h{g}/kernel": u[g] for g in "ifgo"},
        **{f"h{g}/bias": b[g] + r[g] for g in "ifgo"},
    },
    ("flax", "gru"): lambda w, u, b, r: {
        "dense_i/kernel": np.concatenate([w["r"], w["z"], w["n"]], axis=1),
        "dense_i/bias": np.concatenate([b["r"] + r["r"], b["z"] + r["z"], b["n"]]),
        "dense_h/kernel": np.concatenate([u["r"], u["z"], u["n"]], axis=1),
    },
    ("flax-linen", "rnn"): lambda w, u, b, r: {"i/kernel": w["h"], "i/bias": b["h"] + r["h"], "h/kernel": u["h"]},
    ("flax-linen", "lstm"): lambda w, u, b, r: {
        **{f"i{g}/kernel": w[g] for g in "ifgo"},
        **{f"h{g}/kernel": u[g] for g in "ifgo"},
        **{f"h{g}/bias": b[g] + r[g] for g in "ifgo"},
    },
    ("flax-linen", "gru"): lambda w, u, b, r: {
        **{f"i{g}/kernel": w[g] for g in "rzn"},
        **{f"h{g}/kernel": u[g] for g in "rzn"},
        "ir/bias": b["r"] + r["r"],
        "iz/bias": b["z"] + r["z"],
        "in/bias": b["n"],
        "hn/bias": r["n"],
    },
    ("equinox", "lstm"): lambda w, u, b, r: {
        "weight_ih": np.vstack([w[g].T for g in "ifgo"]),
        "weight_hh": np.vstack([u[g].T for g in "ifgo"]),
        "bias": np.concatenate([b[g] + r[g] for g in "ifgo"]),
    },
    ("equinox", "gru"): lambda w, u, b, r: {
        "weight_ih": np.vstack([w[g].T for g in "rzn"]),
        "weight_hh": np.vstack([u[g].T for g in "rzn"]),
        "bias": np.concatenate([b["r"] + r["r"], b["z"] + r["z"], b["n"]]),
        "bias_n": r["n"],
    },
}
# Where one bias is stored for two, it is the input bias, but for these.
ON_THE_RECURRENT_SIDE = {("flax", "lstm"), ("flax-linen", "lstm")}
KEEPS_BOTH = {"torch", "onnx", "keras-cudnn"}


def by_hand(packing: str, row: str) -> tuple[Layer, helpers.Blocks, Arrays, helpers.Blocks]:
    """A spec, blocks, the native arrays that they make, and what is read back from those."""
    cell = row.split("/")[0]
    spec = Recurrent(cell, D, N, reset_after="/" not in row if cell == "gru" else None)
    w, u, b, r = numbers(cell)
    if (packing, row) in NO_CANDIDATE_BIAS:
        r["n"] = np.zeros(N)
    blocks: helpers.Blocks = {}
    wanted: helpers.Blocks = {}
    for gate in helpers.GATES[cell]:
        keeps_both = packing in KEEPS_BOTH or (packing, row) == ("keras", "gru") or gate not in helpers.folding(spec)
        first, second = (b[gate], r[gate]) if keeps_both else (b[gate] + r[gate], np.zeros(N))
        if (packing, row) in ON_THE_RECURRENT_SIDE:
            first, second = second, first
        same = {Key(0, 0, "kernel", gate): w[gate], Key(0, 0, "recurrent_kernel", gate): u[gate]}
        blocks |= {**same, Key(0, 0, "bias", gate): b[gate], Key(0, 0, "recurrent_bias", gate): r[gate]}
        wanted |= {**same, Key(0, 0, "bias", gate): first, Key(0, 0, "recurrent_bias", gate): second}
    return spec, blocks, BY_HAND[packing, row](w, u, b, r), wanted


def test_every_recurrent_row_was_laid_out_by_hand() -> None:
    assert set(BY_HAND) == {row for row in ROWS if row[1] != "dense"}


@pytest.mark.parametrize(("packing", "row"), BY_HAND)
def test_unpacking_finds_each_gate(packing: str, row: str) -> None:
    spec, _, arrays, wanted = by_hand(packing, row)
    helpers.assert_same_numbers(unpack(PACKINGS[packing], spec, arrays), wanted)


@pytest.mark.parametrize(("packing", "row"), BY_HAND)
def test_packing_puts_each_gate_in_its_place(packing: str, row: str) -> None:
    spec, blocks, arrays, _ = by_hand(packing, row)
    helpers.assert_same_numbers(packed(packing, spec, blocks), arrays)


def test_the_legacy_input_kernel_by_the_formula_of_the_facts() -> None:
    """FACTS.md: per gate block of n columns, ``block.T.reshape(block.shape, order="F")`` of the stored one."""
    spec = Recurrent("lstm", D, N)
    _, _, arrays, _ = by_hand("keras-cudnn", "lstm")
    got = unpack(PACKINGS["keras-cudnn"], spec, arrays)
    for i, gate in enumerate("ifgo"):
        block = arrays["kernel"][:, i * N : (i + 1) * N]
        assert np.array_equal(got[Key(0, 0, "kernel", gate)], block.T.reshape(block.shape, order="F"))
        assert not np.array_equal(got[Key(0, 0, "kernel", gate)], block)


def test_projections_by_hand() -> None:
    """torch weight_hr (p, n) and TF1 projection/kernel (n, p) hold the same matrix."""
    spec = Recurrent("lstm", 5, 4, proj_size=3)
    blocks = helpers.whole_numbers(spec, 7)
    matrix = blocks[Key(0, 0, "projection", "")]
    assert matrix.shape == (4, 3)
    assert np.array_equal(packed("torch", spec, blocks)["weight_hr_l0"], matrix.T)
    assert np.array_equal(packed("tf1", spec, blocks)["projection/kernel"], matrix)
    lower = packed("tf1", spec, blocks)["kernel"][5:]
    assert np.array_equal(lower, np.hstack([blocks[Key(0, 0, "recurrent_kernel", g)] for g in "igfo"]))


def test_layers_and_directions_by_hand() -> None:
    """The backward layer of a stack's second layer, in the three ways in which frameworks name it."""
    spec = Recurrent("gru", 2, 3, num_layers=2, bidirectional=True)
    blocks = helpers.whole_numbers(spec, 8)
    wanted = [blocks[Key(1, 1, "kernel", gate)] for gate in "zrn"]
    assert wanted[0].shape == (6, 3)
    kernel = packed("keras", spec, blocks)["bidirectional_1/backward_gru_1/gru_cell/kernel"]
    assert np.array_equal(kernel, np.hstack(wanted))
    onnx = packed("onnx", spec, blocks)["node1/W"]
    assert onnx.shape == (2, 9, 6)
    assert np.array_equal(onnx[1], np.vstack([w.T for w in wanted]))
    torch = packed("torch", spec, blocks)["weight_ih_l1_reverse"]
    assert np.array_equal(torch, np.vstack([wanted[1].T, wanted[0].T, wanted[2].T]))


def test_a_large_array_is_packed_like_a_small_one() -> None:
    """Kernels larger than the tiles in which they are written, not a multiple of them."""
    spec = Recurrent("gru", 300, 270)
    blocks = helpers.weights(spec, 9, "float32")
    arrays = packed("torch", spec, blocks, "float32")
    for name, role in (("weight_ih_l0", "kernel"), ("weight_hh_l0", "recurrent_kernel")):
        by_hand = np.vstack([blocks[Key(0, 0, role, gate)].T for gate in "rzn"])
        assert np.array_equal(arrays[name], by_hand)
    legacy = packed("keras-cudnn", spec, blocks)["kernel"][:, 270:540]
    assert np.array_equal(legacy, blocks[Key(0, 0, "kernel", "r")].T.reshape(300, 270))


# ---- Rounding and folding.


def test_two_biases_are_summed_in_float64_and_rounded_once() -> None:
    """1 + (2⁻²⁴ + 2⁻⁵⁰) rounds up to 1 + 2⁻²³ if it is summed first, and down to 1 if each part is rounded first."""
    spec = Recurrent("rnn", D, N)
    blocks = helpers.weights(spec)
    blocks[Key(0, 0, "bias", "h")] = np.array([1.0, -3.0])
    blocks[Key(0, 0, "recurrent_bias", "h")] = np.array([2.0**-24 + 2.0**-50, 0.5])
    bias = packed("keras", spec, blocks, "float32")["simple_rnn/simple_rnn_cell/bias"]
    assert bias.dtype == np.float32
    assert bias.tolist() == [1.0 + 2.0**-23, -2.5]


@pytest.mark.parametrize(("packing", "row"), ROWS)
def test_the_dtype_asked_for_is_given(packing: str, row: str) -> None:
    spec = LAYERS_BY_NAME[row.replace("/reset_before", "-before")]
    blocks = helpers.whole_numbers(spec, 1)
    if (packing, row) in NO_CANDIDATE_BIAS:
        blocks[Key(0, 0, "recurrent_bias", "n")][:] = 0
    for dtype in ("float32", "float64"):
        assert {a.dtype.name for a in packed(packing, spec, blocks, dtype).values()} == {dtype}


def test_a_snapshot_outlives_its_arrays() -> None:
    spec, _, arrays, wanted = by_hand("torch", "lstm")
    got = unpack(PACKINGS["torch"], spec, arrays)
    for array in arrays.values():
        array[...] = -1
    helpers.assert_same_numbers(got, wanted)


def test_packing_does_not_write_to_its_blocks() -> None:
    spec, blocks, _, _ = by_hand("keras", "lstm")
    before = {key: block.copy() for key, block in blocks.items()}
    for array in packed("keras", spec, blocks).values():
        array[...] = -1
    helpers.assert_same_numbers(blocks, before)


# ---- What is wrong is refused, and the sentence names it.


def broken(change: Callable[[Arrays], Any], *words: str) -> None:
    spec, _, arrays, _ = by_hand("torch", "lstm")
    change(arrays)
    with pytest.raises(LayoutError) as caught:
        unpack(PACKINGS["torch"], spec, arrays)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
class TestWrongArrays:
    def test_missing(self, name: str) -> None:
        broken(lambda a: a.pop(name), repr(name), "missing", str(by_hand("torch", "lstm")[2][name].shape))

    def test_too_short(self, name: str) -> None:
        broken(lambda a: a.update({name: a[name][:-1]}), name, "shape", str(by_hand("torch", "lstm")[2][name].shape))

    def test_transposed(self, name: str) -> None:
        broken(lambda a: a.update({name: a[name][None].T}), name, "shape")

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, name: str, value: float) -> None:
        def change(arrays: Arrays) -> None:
            arrays[name][-1] = value

        broken(change, name, str(value), "finite")

    def test_infinities_that_cancel(self, name: str) -> None:
        def change(arrays: Arrays) -> None:
            arrays[name].flat[:2] = np.inf, -np.inf

        broken(change, name, "inf", "finite")

    @pytest.mark.parametrize("dtype", ["int64", "bool", "complex128"])
    def test_not_a_float(self, name: str, dtype: str) -> None:
        broken(lambda a: a.update({name: a[name].astype(dtype)}), name, dtype, "floating point")

    def test_stray(self, name: str) -> None:
        stray = name.replace("l0", "l1")
        broken(lambda a: a.update({stray: a[name]}), repr(stray), "no place")


def test_large_numbers_whose_sum_overflows_are_finite() -> None:
    spec, _, arrays, wanted = by_hand("torch", "rnn")
    arrays["bias_ih_l0"][:] = wanted[Key(0, 0, "bias", "h")][:] = 1.7e308
    helpers.assert_same_numbers(unpack(PACKINGS["torch"], spec, arrays), wanted)


@pytest.mark.parametrize(("packing", "row"), ROWS)
def test_each_packing_refuses_what_it_does_not_know(packing: str, row: str) -> None:
    spec = LAYERS_BY_NAME[row.replace("/reset_before", "-before")]
    arrays = {n.name: np.ones(n.shape) for n in PACKINGS[packing].natives(spec)}
    unpack(PACKINGS[packing], spec, arrays)
    for name in arrays:
        with pytest.raises(LayoutError, match=f"{name!r}.*missing"):
            unpack(PACKINGS[packing], spec, {k: v for k, v in arrays.items() if k != name})
    with pytest.raises(LayoutError, match="'kernel:0' has no place"):
        unpack(PACKINGS[packing], spec, {**arrays, "kernel:0": np.ones(1)})


def test_wrong_blocks() -> None:
    spec = Recurrent("gru", D, N)
    blocks, key = helpers.whole_numbers(spec, 0), Key(0, 0, "recurrent_bias", "z")
    with pytest.raises(LayoutError, match=r"lack.*layer 0, forward, recurrent_bias, gate z"):
        Parameters(spec, {k: v for k, v in blocks.items() if k != key})
    with pytest.raises(LayoutError, match=r"no block.*layer 1, backward, kernel, gate r"):
        Parameters(spec, {**blocks, Key(1, 1, "kernel", "r"): np.ones((D, N))})
    with pytest.raises(LayoutError, match=r"recurrent_bias, gate z has shape \(3,\).*\(2,\)"):
        Parameters(spec, {**blocks, key: np.ones(3)})
    with pytest.raises(LayoutError, match=r"recurrent_bias, gate z holds nan at \(1,\)"):
        Parameters(spec, {**blocks, key: np.array([1, np.nan])})
    with pytest.raises(LayoutError, match="recurrent_bias, gate z is of type int64"):
        Parameters(spec, {**blocks, key: np.array([1, 2])})


@pytest.mark.parametrize(("packing", "row"), NO_CANDIDATE_BIAS)
def test_a_bias_without_a_place_is_refused(packing: str, row: str) -> None:
    """A GRU without a recurrent candidate bias takes one that is zero and refuses one that is not."""
    spec = Recurrent("gru", 2, 3, num_layers=2, bidirectional=True)
    blocks = helpers.whole_numbers(spec, 0)
    homeless = [key for key in blocks if key.role == "recurrent_bias" and key.gate == "n"]
    assert len(homeless) == 4
    zeros = {key: np.zeros(3) for key in homeless}
    assert packed(packing, spec, {**blocks, **zeros})
    for key in homeless:
        one = {**zeros, key: np.array([0, 0, 1e-300])}
        with pytest.raises(UnsupportedError) as caught:
            packed(packing, spec, {**blocks, **one})
        for word in (PACKINGS[packing].title, "no place", str(key), "zero"):
            assert word in str(caught.value)
