"""The catalogue of mistakes: every way to make one can be made, changes the layer, and is what it says.

What it says is checked against torch.nn's layers, loaded by hand, and against NumPy that is written out here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import signal, start, weights
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from xframe import Dense, Recurrent, mistakes, noise
from xframe.adapters import known_packings
from xframe.layout import Key
from xframe.mistakes import CATALOGUE, Case, Mistake, Variation, dropout_active, not_loaded
from xframe.reference import Given
from xframe.spec import Layer

BATCH, STEPS = 4, 6
LENGTHS = np.array([3, 6, 1, 5])
RIGHT = np.arange(STEPS) < LENGTHS[:, None]
# Padding on the left, a gap, padding on the right, and no valid step.
ANY = np.array([[0, 0, 1, 1, 1, 1], [1, 1, 0, 1, 1, 1], [1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]], bool)


def lstm(features: int = 3, units: int = 5, **options: Any) -> Recurrent:
    return Recurrent("lstm", features, units, **options)


def gru(features: int = 3, units: int = 5, **options: Any) -> Recurrent:
    return Recurrent("gru", features, units, **options)


BOTH: dict[str, Any] = {"bidirectional": True}
LAYERS: dict[str, Layer] = {
    "rnn": Recurrent("rnn", 3, 5),
    "rnn, relu, square": Recurrent("rnn", 5, 5, activation="relu"),
    "rnn, three layers": Recurrent("rnn", 3, 5, num_layers=3, **BOTH),
    "rnn, backwards": Recurrent("rnn", 3, 5, go_backwards=True),
    "lstm": lstm(),
    "lstm, square": lstm(6, 6),
    "lstm, no bias": lstm(bias=False),
    "lstm, whole square": lstm(20, 5),
    "lstm, both, masked": lstm(mask="right", **BOTH),
    "lstm, two layers, masked": lstm(num_layers=2, mask="right", **BOTH),
    "lstm, any mask": lstm(mask="any"),
    "lstm, projected": lstm(3, 7, proj_size=4, num_layers=2, **BOTH),
    "lstm, both backwards": lstm(go_backwards=True, **BOTH),
    "lstm, dropout": lstm(num_layers=2, dropout=0.3, input_dropout=0.2, recurrent_dropout=0.1),
    "gru": gru(),
    "gru, before": gru(reset_after=False, recurrent_activation="hard_sigmoid"),
    "gru, sum": gru(merge_mode="sum", **BOTH),
    "gru, mul, masked": gru(merge_mode="mul", mask="any", **BOTH),
    "gru, two layers": gru(5, 5, num_layers=2),
    "gru, stateful": gru(stateful=True, batch_size=BATCH),
    "stacked": Recurrent("rnn", 3, 5, stacked=(gru(5, 4), lstm(4, 4)), **BOTH),
    "backward differs": gru(backward=lstm(3, 4), **BOTH),
    "cell": lstm(form="cell"),
    "dense": Dense(3, 5),
    "dense, square": Dense(4, 4),
    "dense, no bias": Dense(3, 5, bias=False),
}


def case(name: str, seed: int = 0) -> Case:
    """A layer with numbers that hide nothing, and states, masks and calls as far as it has them."""
    spec = LAYERS[name]
    x = signal(spec, seed, batch=BATCH, steps=STEPS)
    params = weights(spec, seed)
    if isinstance(spec, Dense):
        return Case(spec, params, Given(x))
    if spec.stateful:
        return Case(spec, params, Given(x, before=Given(signal(spec, seed + 1, batch=BATCH, steps=STEPS))))
    mask = {"right": RIGHT, "any": ANY, None: None}[spec.mask]
    return Case(spec, params, Given(x, start(spec, seed, batch=BATCH), mask))


def stateless(one: Case) -> Case:
    return replace(one, given=replace(one.given, state=None))


def ways(one: Case) -> dict[str, Variation]:
    """Every way to make a mistake in a case, by name."""
    return {variation.name: variation for mistake in CATALOGUE for variation in mistake.vary(one)}


def differ(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    return any(
        values.shape != other[name].shape or not np.allclose(values, other[name], rtol=0, atol=1e-8)
        for name, values in one.items()
    )


# ---- All of them.

# What changes nothing in a layer, and why.
CHANGES_NOTHING = {
    ("rnn, relu, square", "a further relu on its output"): "what a relu puts out is not negative",
    ("rnn, relu, square", "relu6 instead of relu"): "no unit of this layer exceeds 6",
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_way_to_make_a_mistake_changes_the_outputs(name: str) -> None:
    one = case(name)
    right, before = one.run(), {key: block.copy() for key, block in one.params.items()}
    found = [variation for mistake in CATALOGUE for variation in mistake.vary(one)]
    assert len({variation.name for variation in found}) == len(found)
    for variation in found:
        with np.errstate(over="ignore", invalid="ignore"):  # an exponential function in place of a tanh
            wrong = variation.change(one).run()
        assert differ(right, wrong) != ((name, variation.name) in CHANGES_NOTHING), variation.name
        assert variation.name.strip() == variation.name != ""
        assert variation.mend.endswith(".")
        assert "{" not in variation.name + variation.mend
    assert all(np.array_equal(block, before[key]) for key, block in one.params.items())


def test_the_entries() -> None:
    assert len({mistake.name for mistake in CATALOGUE}) == len(CATALOGUE) >= 30
    assert all(mistake.why.endswith(".") and mistake.called and mistake.surprise >= 0 for mistake in CATALOGUE)
    used = {mistake.name for name in LAYERS for mistake in CATALOGUE if next(mistake.vary(case(name)), None)}
    assert used == {mistake.name for mistake in CATALOGUE}


@pytest.mark.parametrize("name", LAYERS)
def test_nothing_is_computed_before_a_mistake_is_made(name: str) -> None:
    """Shapes are enough to say which mistakes there are, and of masks what is padded."""
    one = case(name)
    shapes: Any = {key: SimpleNamespace(shape=block.shape) for key, block in one.params.items()}
    x: Any = SimpleNamespace(shape=one.given.x.shape)
    bare = Case(one.spec, shapes, replace(one.given, x=x))
    assert [v.name for m in CATALOGUE for v in m.vary(bare)] == [v.name for m in CATALOGUE for v in m.vary(one)]


# What makes no difference: the entries whose ways, found in one case, leave another as it is.
LEFT_ALONE: list[tuple[str, set[str], Callable[[Case], Case]]] = [
    (
        "lstm, both, masked",
        {"padding read", "mask elsewhere", "output at masked steps"},
        lambda one: replace(one, given=replace(one.given, mask=None)),
    ),
    ("lstm", {"batch and time", "states not kept"}, lambda one: replace(case("lstm, both, masked"), params=one.params)),
    (
        "lstm",
        {"bias dropped", "bias counted twice", "forget bias", "bias not loaded"},
        lambda one: case("lstm, no bias"),
    ),
    ("gru", {"bias on the wrong side", "bias reshaped"}, lambda one: replace(case("gru"), params=kernels(one.params))),
    ("gru", {"reset gate", "activation"}, lambda one: replace(one, spec=gru(reset_after=False, activation="relu"))),
    ("gru, sum", {"merge mode"}, lambda one: replace(one, spec=replace(one.spec, merge_mode="concat"))),
    ("gru, two layers", {"layers left out", "layers mixed up"}, lambda one: case("gru")),
    ("rnn, three layers", {"directions mixed up"}, lambda one: case("rnn")),
    ("lstm, projected", {"projection"}, lambda one: case("lstm")),
    ("lstm", {"gate order", "gates swapped", "gates mixed up"}, lambda one: case("rnn")),
    ("rnn", {"recurrent term left out"}, lambda one: case("dense")),
]


def kernels(params: Mapping[Key, np.ndarray]) -> dict[Key, np.ndarray]:
    return {key: block for key, block in params.items() if "bias" not in key.role}


@pytest.mark.parametrize(("name", "entries", "change"), LEFT_ALONE)
def test_a_mistake_that_makes_no_difference_gives_the_case_back(
    name: str, entries: set[str], change: Callable[[Case], Case]
) -> None:
    other = change(case(name))
    found = [v for m in CATALOGUE if m.name in entries for v in m.vary(case(name))]
    assert len(found) >= len(entries)
    for variation in found:
        assert variation.change(other) is other, variation.name


def test_states_that_are_not_there() -> None:
    for name, words in (("lstm", "initial state ignored"), ("lstm", "initial states h and c exchanged")):
        other = stateless(case(name))
        assert ways(case(name))[words].change(other) is other
    other = case("gru")
    assert ways(case("gru, stateful"))["state not carried to the next call"].change(other) is other
    assert ways(case("rnn, backwards"))["go_backwards ignored"].change(case("rnn")).spec == LAYERS["rnn"]


@pytest.mark.parametrize("name", LAYERS)
def test_two_mistakes_can_be_made_one_after_the_other(name: str) -> None:
    """One of each entry with one of each other one, in both orders."""
    random = np.random.default_rng(len(name))
    one = stateless(case(name)) if len(name) % 2 else case(name)
    each = [found[random.integers(len(found))] for m in CATALOGUE if (found := list(m.vary(one)))]
    right = one.run()
    for first, second in random.permutation(list(product(range(len(each)), repeat=2)))[:150]:
        with np.errstate(over="ignore", invalid="ignore"):
            wrong = each[second].change(each[first].change(one)).run()
        assert wrong.keys() == right.keys(), (each[first].name, each[second].name)


@pytest.mark.parametrize("name", ["lstm, both, masked", "gru, sum", "lstm, projected", "rnn, backwards", "dense"])
def test_noise_goes_through_what_becomes_of_the_outputs(name: str) -> None:
    """It has the shapes of the outputs of a run, and these beside it."""
    one = stateless(case(name))
    made = [wrong for way in ways(one).values() if (wrong := way.change(one)).after]
    assert len(made) >= 4
    for wrong in made:
        found, outputs = wrong.noise("float32"), wrong.run()
        assert found.clean.keys() == found.deviation.keys() == outputs.keys()
        for output, values in outputs.items():
            assert np.allclose(found.clean[output], values, rtol=0, atol=1e-12)
            assert found.deviation[output].shape == values.shape
            assert (found.deviation[output] > 0).all()


def test_noise_goes_where_the_outputs_go(monkeypatch: pytest.MonkeyPatch) -> None:
    one = case("rnn, three layers")
    right = one.run()
    random = np.random.default_rng(0)
    deviation = {name: random.uniform(1, 2, values.shape) for name, values in right.items()}
    monkeypatch.setattr(noise, "measure", lambda *_: noise.Noise(right, deviation))
    for name, wanted in {
        "outputs doubled": 2 * deviation["sequence"],
        "backward half of the output first": deviation["sequence"][..., [5, 6, 7, 8, 9, 0, 1, 2, 3, 4]],
    }.items():
        assert np.allclose(ways(one)[name].change(one).noise("float32").deviation["sequence"], wanted, rtol=1e-12)
    last = ways(one)["last output taken at the last time step, x[:, -1, :]"].change(one).noise("float32").deviation
    assert np.array_equal(last["last"], deviation["sequence"][:, -1])


# ---- torch.nn's layers, loaded by hand.

ORDER = {"rnn": "h", "lstm": "ifgo", "gru": "rzn"}
NAMES = {"kernel": "weight_ih", "recurrent_kernel": "weight_hh", "bias": "bias_ih", "recurrent_bias": "bias_hh"}
Weights = dict[str, np.ndarray]
Named = dict[str, np.ndarray]


def native(spec: Recurrent, params: Mapping[Key, np.ndarray]) -> Weights:
    """PyTorch's tensors."""
    found = {}
    for layer, d in product(range(spec.num_layers), range(spec.num_directions)):
        end = f"_l{layer}" + "_reverse" * d
        for role, name in NAMES.items():
            found[name + end] = np.concatenate([params[Key(layer, d, role, gate)].T for gate in ORDER[spec.cell]])
        if spec.proj_size:
            found["weight_hr" + end] = params[Key(layer, d, "projection", "")].T
    return found


@dataclass(frozen=True)
class Torch:
    """A layer of PyTorch and what it is given, in float64 and batch first unless it says otherwise."""

    spec: Recurrent
    weights: Weights
    x: np.ndarray
    state: Mapping[str, np.ndarray] | None
    mask: np.ndarray | None = None
    batch_first: bool = True

    @property
    def layer(self) -> torch.nn.Module:
        spec = self.spec
        options = {"num_layers": spec.num_layers, "bidirectional": spec.bidirectional, "dtype": torch.float64}
        options |= {"proj_size": spec.proj_size} if spec.cell == "lstm" else {}
        layer = getattr(torch.nn, spec.cell.upper())(
            spec.input_size, spec.hidden_size, batch_first=self.batch_first, **options
        )
        layer.load_state_dict({k: torch.from_numpy(np.ascontiguousarray(w)) for k, w in self.weights.items()})
        return layer

    def with_weights(self, change: Callable[[Weights], Mapping[str, np.ndarray]]) -> Named:
        return replace(self, weights={**self.weights, **change(self.weights)}).run()

    def run(self, hx: Any = None) -> Named:
        """What it puts out, by xframe's names; packed where there is a mask."""
        x, spec = torch.from_numpy(self.x.copy()), self.spec
        if self.state is not None and hx is None:
            hx = [torch.from_numpy(np.reshape(s, (-1, *s.shape[2:]))) for s in self.state.values()]
            hx = tuple(hx) if spec.cell == "lstm" else hx[0]
        if self.mask is not None:
            lengths = torch.from_numpy(self.mask.sum(1))
            x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        with torch.no_grad():
            out, final = self.layer(x, hx)
        if self.mask is not None:
            out, _ = pad_packed_sequence(out, batch_first=True, total_length=STEPS)
        ends = dict(zip("hc", final if spec.cell == "lstm" else (final,), strict=False))
        states = {
            f"state {k}": v.numpy().reshape(spec.num_layers, spec.num_directions, *v.shape[1:]) for k, v in ends.items()
        }
        return {"sequence": out.numpy(), "last": np.concatenate(list(states["state h"][-1]), axis=-1), **states}


def in_torch(one: Case) -> Torch:
    assert isinstance(one.spec, Recurrent)
    return Torch(one.spec, native(one.spec, one.params), one.given.x, one.given.state, one.given.mask)


def each(ends: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Weights], Weights]:
    """A change of every tensor whose name begins so."""
    return lambda w: {name: change(array) for name, array in w.items() if name.startswith(tuple(ends.split()))}


def reordered(*order: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: np.concatenate([np.split(array, len(order))[i] for i in order])


def by_gate(gates: int, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: np.concatenate([change(part) for part in np.split(array, gates)])


def without(gates: int, gate: int) -> Callable[[np.ndarray], np.ndarray]:
    """Zeros in the rows of one gate."""
    return lambda array: (
        array * np.repeat(np.arange(gates) != gate, len(array) // gates).reshape(-1, *[1] * (array.ndim - 1))
    )


def in_int8(w: np.ndarray, axis: int | None) -> np.ndarray:
    """Whole multiples of the largest number over 127, of the tensor or of each row."""
    scale = np.abs(w).max(axis=axis, keepdims=True) / 127
    return np.round(w / scale) * scale


def sums(w: Weights, side: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Weights:
    return dict(zip(("bias_ih_l0", "bias_hh_l0"), side(w["bias_ih_l0"], w["bias_hh_l0"]), strict=True))


def rows_mixed(w: Weights, back: bool) -> Weights:
    """Keras's (2, 3n) bias in the order z r h, through a flat one that was written, or read, column by column."""
    names = ("bias_ih_l0", "bias_hh_l0")
    rows = np.stack([reordered(1, 0, 2)(w[name]) for name in names])
    wrong = rows.flatten().reshape(2, -1, order="F") if back else rows.flatten(order="F").reshape(2, -1)
    return {name: reordered(1, 0, 2)(row) for name, row in zip(names, wrong, strict=True)}


def candidate(w: Weights, side: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Weights:
    """The candidate's pair of biases changed."""
    pair = [np.split(w[name], 3) for name in ("bias_ih_l0", "bias_hh_l0")]
    pair[0][2], pair[1][2] = side(pair[0][2], pair[1][2])
    return {name: np.concatenate(parts) for name, parts in zip(("bias_ih_l0", "bias_hh_l0"), pair, strict=True)}


def split_otherwise(w: Weights) -> Weights:
    """TensorFlow 1's joined kernel (features + units, 4 units), split after the first units rows."""
    joined = np.concatenate([w["weight_ih_l0"].T, w["weight_hh_l0"].T])
    return {"weight_hh_l0": joined[:5].T, "weight_ih_l0": joined[5:].T}


def renamed(w: Weights, names: Mapping[str, str]) -> Weights:
    """Tensors under the names of others: ``{"_l0": "_l1"}`` puts layer 1 where layer 0 was."""
    found = {}
    for name in w:
        stem, end = name.split("_l", 1)
        other = f"{stem}_l{names.get(end, end)}"
        if w[other].shape == w[name].shape:
            found[name] = w[other]
    return found


def forget(w: Weights, by: float) -> Weights:
    shift = np.repeat([0, by, 0, 0], 5)
    return {name: array + shift for name, array in w.items() if name.startswith("bias_ih")}


IFGO = "PyTorch's i f g o or Keras's i f c o"
FIRST = "PyTorch's gate order i f g o or Keras's i f c o"
TF1 = f"gates f and g swapped, as when {FIRST} and TensorFlow 1's i j f o are taken for each other"
ZRH = "gates r and z swapped, as when PyTorch's gate order r z n and Keras's or ONNX's z r h are taken for each other"
ONNX = f"packed in ONNX's gate order i o f c and read as {IFGO}"
ALL = "weight bias"
WEIGHTS: list[tuple[str, str, Callable[[Weights], Mapping[str, np.ndarray]]]] = [
    # PyTorch's i f g o at 0 1 2 3, so ONNX's i o f g is 0 3 1 2 and TensorFlow 1's i g f o 0 2 1 3.
    ("lstm", ONNX, each(ALL, reordered(0, 3, 1, 2))),
    (
        "lstm",
        "packed in PyTorch's gate order i f g o or Keras's i f c o and read as ONNX's i o f c",
        each(ALL, reordered(0, 2, 3, 1)),
    ),
    ("lstm", TF1, each(ALL, reordered(0, 2, 1, 3))),
    ("lstm", f"{ONNX}, in the biases only", each("bias", reordered(0, 3, 1, 2))),
    ("lstm", f"{ONNX}, in the recurrent kernel only", each("weight_hh", reordered(0, 3, 1, 2))),
    ("lstm", "gates i and f swapped", each(ALL, reordered(1, 0, 2, 3))),
    # i's block stands at f, f's at g, g's at i.
    ("lstm", "gates i, f, g taken for f, g, i", each(ALL, reordered(2, 0, 1, 3))),
    ("gru", ZRH, each(ALL, reordered(1, 0, 2))),
    ("gru", f"{ZRH}, in the biases only", each("bias", reordered(1, 0, 2))),
    ("gru", f"{ZRH}, in the kernel and the recurrent kernel only", each("weight", reordered(1, 0, 2))),
    ("gru", f"{ZRH}, in the kernel only", each("weight_ih", reordered(1, 0, 2))),
    ("gru", "gates r, z, n taken for z, n, r", each(ALL, reordered(2, 0, 1))),
    ("rnn, three layers", "input bias dropped", each("bias_ih", np.zeros_like)),
    ("lstm", "recurrent bias dropped", each("bias_hh", np.zeros_like)),
    ("gru", "both biases dropped", each("bias", np.zeros_like)),
    ("gru", "both biases added on both sides", lambda w: sums(w, lambda a, b: (a + b, a + b))),
    ("gru", "input bias and recurrent bias exchanged", lambda w: sums(w, lambda a, b: (b, a))),
    ("gru", "candidate's biases added on one side", lambda w: candidate(w, lambda a, b: (a + b, 0 * b))),
    ("gru", "candidate's biases added on the recurrent side", lambda w: candidate(w, lambda a, b: (0 * a, a + b))),
    ("gru", "candidate's recurrent bias dropped", lambda w: candidate(w, lambda a, b: (a, 0 * b))),
    ("gru", "bias (2, 3n) flattened column by column", lambda w: rows_mixed(w, back=False)),
    ("gru", "bias (2, 3n) read from a flat one column by column", lambda w: rows_mixed(w, back=True)),
    ("lstm", "forget bias of 1 added", lambda w: forget(w, 1)),
    ("lstm", "forget bias of 1 missing", lambda w: forget(w, -1)),
    (
        "lstm",
        "biases not loaded, still 0, and 1 in the forget gate",
        lambda w: {"bias_ih_l0": np.repeat([0.0, 1, 0, 0], 5), "bias_hh_l0": np.zeros(20)},
    ),
    (
        "rnn, three layers",
        "recurrent bias of layer 1, backward not loaded, still 0",
        each("bias_hh_l1_reverse", np.zeros_like),
    ),
    ("lstm", "the recurrent term left out", each("weight_hh", np.zeros_like)),
    ("gru", "recurrent kernel not transposed", each("weight_hh", by_gate(3, np.transpose))),
    ("lstm, square", "kernel not transposed", each("weight_ih", by_gate(4, np.transpose))),
    (
        "lstm, square",
        "kernel and recurrent kernel not transposed",
        each("weight", by_gate(4, np.transpose)),
    ),
    # PyTorch's (n, d), read as if it were Keras's (d, n).
    (
        "gru",
        "kernel reshaped from (out, in) to (in, out) instead of transposed, gate by gate",
        each("weight_ih", by_gate(3, lambda w: w.reshape(3, 5).T)),
    ),
    # Keras's (d, n), read as if it were PyTorch's (n, d).
    (
        "gru",
        "kernel reshaped from (in, out) to (out, in) instead of transposed, gate by gate",
        each("weight_ih", by_gate(3, lambda w: w.T.reshape(5, 3))),
    ),
    # A legacy cuDNN layer: each input kernel has the memory of (n, d), each recurrent one is transposed.
    (
        "gru",
        "kernel and recurrent kernel reshaped from (out, in) to (in, out) instead of transposed, gate by gate",
        lambda w: {
            **each("weight_ih", by_gate(3, lambda p: p.ravel().reshape(3, 5).T))(w),
            **each("weight_hh", by_gate(3, np.transpose))(w),
        },
    ),
    (
        "lstm",
        "kernel reshaped from (in, out) to (out, in) instead of transposed, all gates i f g o at once",
        each("weight_ih", lambda w: w.T.reshape(20, 3)),
    ),
    (
        "lstm",
        "recurrent kernel reshaped from (out, in) to (in, out) instead of transposed, all gates i f g o at once",
        each("weight_hh", lambda w: w.reshape(5, 20).T),
    ),
    # Keras's z r h, reshaped, and put in order then.
    (
        "gru",
        "kernel and recurrent kernel reshaped from (in, out) to (out, in) instead of transposed, all gates z r n at once",
        each("weight", lambda w: reordered(1, 0, 2)(reordered(1, 0, 2)(w).T.reshape(w.shape))),
    ),
    (
        "lstm, whole square",
        "kernel not transposed, all gates i o f g at once",
        each("weight_ih", lambda w: reordered(0, 2, 3, 1)(reordered(0, 3, 1, 2)(w).T)),
    ),
    (
        "lstm, square",
        "kernel and recurrent kernel exchanged",
        lambda w: {"weight_ih_l0": w["weight_hh_l0"], "weight_hh_l0": w["weight_ih_l0"]},
    ),
    ("lstm", "joined kernel split with the recurrent rows first", split_otherwise),
    (
        "lstm, projected",
        "the projection left out, its first units taken",
        each("weight_hr", lambda w: np.eye(4, 7)),
    ),
    (
        "lstm, projected",
        "projection reshaped from (in, out) to (out, in) instead of transposed",
        each("weight_hr", lambda w: w.T.reshape(4, 7)),
    ),
    (
        "lstm, projected",
        "projection reshaped from (out, in) to (in, out) instead of transposed",
        each("weight_hr", lambda w: w.reshape(7, 4).T),
    ),
    (
        "rnn, three layers",
        "directions swapped",
        lambda w: renamed(w, {f"{k}{a}": f"{k}{b}" for k in range(3) for a, b in (("", "_reverse"), ("_reverse", ""))}),
    ),
    (
        "rnn, three layers",
        "the forward weights in the backward direction too",
        lambda w: renamed(w, {f"{k}_reverse": f"{k}" for k in range(3)}),
    ),
    (
        "rnn, three layers",
        "the backward weights in the forward direction too",
        lambda w: renamed(w, {f"{k}": f"{k}_reverse" for k in range(3)}),
    ),
    (
        "rnn, three layers",
        "layers 1 and 2 swapped",
        lambda w: renamed(w, {"1": "2", "2": "1", "1_reverse": "2_reverse", "2_reverse": "1_reverse"}),
    ),
    (
        "rnn, three layers",
        "the weights of layer 0 in layer 2 too",
        lambda w: renamed(w, {"2": "0", "2_reverse": "0_reverse"}),
    ),
    (
        "rnn, three layers",
        "the backward half read first by the layers above",
        each("weight_ih_l1 weight_ih_l2", lambda w: np.concatenate([w[:, 5:], w[:, :5]], axis=1)),
    ),
    ("lstm", "all parameters rounded to float16", each(ALL, lambda w: w.astype("float16").astype(float))),
    (
        "lstm",
        "the kernels rounded to bfloat16",
        each("weight", lambda w: torch.from_numpy(w).float().bfloat16().double().numpy()),
    ),
    ("gru", "recurrent kernel scaled by 1/sqrt(n)", each("weight_hh", lambda w: w / np.sqrt(5))),
    ("gru", "kernel scaled by sqrt(n)", each("weight_ih", lambda w: w * np.sqrt(5))),
    ("gru", "biases scaled by 2", each("bias", lambda w: w * 2)),
    (
        "lstm, dropout",
        "dropout between the layers scales by 1 - rate at inference",
        each("weight_ih_l1", lambda w: w * 0.7),
    ),
    ("lstm", "input bias negated", each("bias_ih", np.negative)),
    ("gru", "recurrent bias negated", each("bias_hh", np.negative)),
    ("rnn, three layers", "both biases negated", each("bias", np.negative)),
    ("lstm", "the candidate's recurrent term left out", each("weight_hh", without(4, 2))),
    ("lstm", "the candidate's recurrent term left out, with its bias", each("weight_hh bias_hh", without(4, 2))),
    ("gru", "the candidate's recurrent term left out", each("weight_hh", without(3, 2))),
    ("gru", "the candidate's recurrent term left out, with its bias", each("weight_hh bias_hh", without(3, 2))),
    (
        "rnn, three layers",
        "the recurrent kernel of layer 0 in layer 2 too",
        lambda w: {f"weight_hh_l2{end}": w[f"weight_hh_l0{end}"] for end in ("", "_reverse")},
    ),
    (
        "gru, two layers",
        "the biases of layer 1 in layer 0 too",
        lambda w: {f"bias_{which}_l0": w[f"bias_{which}_l1"] for which in ("ih", "hh")},
    ),
    ("gru, two layers", "the weights of layer 1 in layer 0 too", lambda w: renamed(w, {"0": "1"})),
    ("lstm", "all parameters rounded to 3 decimals", each(ALL, lambda w: np.round(w, 3))),
    ("lstm", "the kernels rounded to int8, one scale for each tensor", each("weight", lambda w: in_int8(w, None))),
    ("gru", "the kernels rounded to int8, one scale for each unit", each("weight", lambda w: in_int8(w, 1))),
    ("lstm, dropout", "recurrent dropout scales by 1/(1 - rate) at inference", each("weight_hh", lambda w: w / 0.9)),
    ("lstm, dropout", "dropout of the input scales by 1 - rate at inference", each("weight_ih", lambda w: w * 0.8)),
]


def check(one: Case, name: str, wanted: Named) -> None:
    """The mistake of that name puts out what is wanted, which is not what is right."""
    got, right = ways(one)[name].change(one).run(), one.run()
    assert differ({output: right[output] for output in wanted}, wanted)
    for output, values in wanted.items():
        assert got[output].shape == values.shape, output
        assert np.allclose(got[output], values, rtol=0, atol=1e-12), output


@pytest.mark.parametrize("name", ["rnn, three layers", "lstm, projected", "gru", "lstm, both, masked"])
def test_the_layers_of_pytorch_are_loaded_rightly(name: str) -> None:
    one = case(name)
    right = one.run()
    for output, values in in_torch(one).run().items():
        assert np.allclose(values, right[output], rtol=0, atol=1e-12), output


@pytest.mark.parametrize(("name", "mistake", "change"), WEIGHTS, ids=[f"{w[0]}: {w[1]}" for w in WEIGHTS])
def test_mistakes_in_the_weights(
    name: str, mistake: str, change: Callable[[Weights], Mapping[str, np.ndarray]]
) -> None:
    check(case(name), mistake, in_torch(case(name)).with_weights(change))


# ---- Mistakes in what the layer is run on, and in what becomes of its outputs.


def time_first(t: Torch) -> Named:
    """batch_first forgotten; the last output is the last of the middle axis, as one who has it right would take it."""
    out = replace(t, batch_first=False, state=None).run()
    return {**out, "last": out["sequence"][:, -1]}


def reshaped(t: Torch) -> Named:
    """The input reshaped where it should be transposed, and the output too."""
    out = replace(t, batch_first=False, x=t.x.reshape(STEPS, BATCH, -1)).run()
    sequence = out["sequence"].reshape(BATCH, STEPS, -1)
    return {**out, "sequence": sequence, "last": sequence[:, -1]}


def reshaped_once(t: Torch) -> Named:
    out = replace(t, batch_first=False, x=t.x.reshape(STEPS, BATCH, -1)).run()
    return {**out, "sequence": out["sequence"].swapaxes(0, 1)}


def with_last(t: Torch, take: Callable[[Named], np.ndarray]) -> Named:
    out = t.run()
    return {**out, "last": take(out)}


def one_way(t: Torch, end: str) -> Torch:
    """The layer of one direction that has the weights whose names end so."""
    weights = {f"{name.removesuffix(end)}_l0": w for name, w in t.weights.items() if name.endswith(end)}
    d = int(end.endswith("reverse"))
    state = t.state and {name: value[:, d : d + 1] for name, value in t.state.items()}
    return replace(t, spec=replace(t.spec, bidirectional=False), weights=weights, state=state)


def both_forwards(t: Torch) -> Named:
    """Two layers that both read forwards, beside each other."""
    outs = [one_way(t, end).run() for end in ("_l0", "_l0_reverse")]
    return {name: np.concatenate([out[name] for out in outs], axis=1 if "state" in name else -1) for name in outs[0]}


def first_layer(t: Torch) -> Named:
    """A loader that looks for the names of one layer; what it gives of the states."""
    weights = {name: w for name, w in t.weights.items() if "_l0" in name}
    state = t.state and {name: value[:1] for name, value in t.state.items()}
    out = replace(t, spec=replace(t.spec, num_layers=1, dropout=0.0), weights=weights, state=state).run()
    return {name: np.pad(v, [(0, 1), *[(0, 0)] * 3]) if "state" in name else v for name, v in out.items()}


def called_twice(t: Torch) -> Named:
    first = t.run()
    hx = [torch.from_numpy(first[f"state {name}"][0]) for name in t.state or "h"]
    return t.run(tuple(hx) if len(hx) > 1 else hx[0])


def bare_cell(t: Torch) -> Named:
    """torch.nn.LSTMCell in a loop, never given a state."""
    cell = torch.nn.LSTMCell(t.spec.input_size, t.spec.hidden_size, dtype=torch.float64)
    cell.load_state_dict({name.removesuffix("_l0"): torch.from_numpy(w) for name, w in t.weights.items()})
    with torch.no_grad():
        steps = [cell(torch.from_numpy(t.x[:, k])) for k in range(STEPS)]
    h, c = (np.stack([step[i].numpy() for step in steps], axis=1) for i in range(2))
    return {"sequence": h, "last": h[:, -1], "state h": h[None, None, :, -1], "state c": c[None, None, :, -1]}


def with_states(t: Torch, change: Callable[[np.ndarray], np.ndarray], initial: bool, final: bool) -> Named:
    """hx and h_n, (layers * directions, batch, n), changed."""

    def changed(value: np.ndarray) -> np.ndarray:
        return change(value.reshape(-1, *value.shape[2:])).reshape(value.shape)

    state = {name: changed(value) for name, value in t.state.items()} if initial and t.state else t.state
    out = replace(t, state=state).run()
    return {name: changed(value) if final and "state" in name else value for name, value in out.items()}


def exchanged(t: Torch, initial: bool, final: bool) -> Named:
    assert t.state is not None
    out = (replace(t, state={"h": t.state["c"], "c": t.state["h"]}) if initial else t).run()
    return {**out, "state h": out["state c"], "state c": out["state h"]} if final else out


def masked(t: Torch, mask: np.ndarray | None) -> Named:
    return replace(t, mask=mask).run()


def backward_padded(t: Torch) -> Named:
    """The forward half of a packed sequence beside the backward half of one with its padding."""
    packed, plain = t.run(), masked(t, None)
    both = {
        name: np.concatenate([packed[name][..., :5], plain[name][..., 5:]], axis=-1) for name in ("sequence", "last")
    }
    states = {f"state {k}": np.stack([packed[f"state {k}"][:, 0], plain[f"state {k}"][:, 1]], axis=1) for k in "hc"}
    return both | states


def gathered(t: Torch) -> Named:
    """The padding read, and the output of each row taken at its length."""
    out = masked(t, None)
    forward = out["sequence"][np.arange(BATCH), LENGTHS - 1, :5]
    return {**out, "last": np.concatenate([forward, out["sequence"][:, 0, 5:]], axis=-1)}


def zeroed(t: Torch) -> Named:
    out = masked(t, None)
    out["sequence"][~RIGHT] = 0
    return out


# The longest first.
SORTED = [1, 3, 0, 2]


def left_sorted(t: Torch) -> Named:
    return {name: v[:, :, SORTED] if "state" in name else v[SORTED] for name, v in t.run().items()}


def late(t: Torch) -> Named:
    out = t.run()
    return {**out, "sequence": np.pad(out["sequence"], [(0, 0), (1, 0), (0, 0)])[:, :-1]}


RUNS: list[tuple[str, str, Callable[[Torch], Named]]] = [
    ("lstm", "batch and time exchanged (batch_first)", time_first),
    ("gru", "x reshaped to (time, batch, features), and the output back, instead of transposed", reshaped),
    ("gru", "x reshaped to (time, batch, features) instead of transposed", reshaped_once),
    (
        "lstm",
        "x reshaped from (batch, features, time) instead of transposed",
        lambda t: replace(t, x=np.ascontiguousarray(t.x.transpose(0, 2, 1)).reshape(t.x.shape)).run(),
    ),
    (
        "lstm, square",
        "time and features exchanged",
        lambda t: replace(t, x=t.x.transpose(0, 2, 1)).run(),
    ),
    ("gru, two layers", "time reversed", lambda t: replace(t, x=np.flip(t.x, 1)).run()),
    (
        "rnn, three layers",
        "backward output not flipped back",
        lambda t: {"sequence": np.concatenate([(y := t.run()["sequence"])[..., :5], y[:, ::-1, 5:]], axis=-1)},
    ),
    (
        "rnn, three layers",
        "backward half of the output first",
        lambda t: {k: np.concatenate([(y := t.run()[k])[..., 5:], y[..., :5]], -1) for k in ("sequence", "last")},
    ),
    ("gru", "output in reversed order of time", lambda t: {**(out := t.run()), "sequence": out["sequence"][:, ::-1]}),
    (
        "rnn, three layers",
        "last output taken at the last time step, x[:, -1, :]",
        lambda t: with_last(t, lambda out: out["sequence"][:, -1, :]),
    ),
    ("gru", "last output taken at the first time step", lambda t: with_last(t, lambda out: out["sequence"][:, 0])),
    (
        "rnn, three layers",
        "h_n reshaped to (batch, 2n) instead of transposed",
        lambda t: with_last(t, lambda out: out["state h"].reshape(6, BATCH, 5)[-2:].reshape(BATCH, 10)),
    ),
    (
        "gru, two layers",
        "last output taken from the first layer, h_n[0]",
        lambda t: with_last(t, lambda out: out["state h"].reshape(2, BATCH, 5)[0]),
    ),
    (
        "lstm",
        "the cell state c taken for the last output",
        lambda t: with_last(t, lambda out: out["state c"][0, 0]),
    ),
    ("lstm, two layers, masked", "mask ignored", lambda t: masked(t, None)),
    ("lstm, both, masked", "the padding read first by the backward direction", backward_padded),
    ("lstm, both, masked", "mask ignored, but the last output taken at the last valid step", gathered),
    ("lstm, both, masked", "mask ignored, and the outputs at masked steps set to zero", zeroed),
    (
        "lstm, both, masked",
        "mask off by one",
        lambda t: masked(t, np.arange(STEPS) < np.minimum(LENGTHS + 1, STEPS)[:, None]),
    ),
    ("lstm, both, masked", "lengths sorted, but not the sequences", lambda t: masked(t, RIGHT[SORTED])),
    ("lstm, both, masked", "outputs left in the order of sorted lengths", left_sorted),
    (
        "lstm, both, masked",
        "last output taken at the last time step, x[:, -1, :]",
        lambda t: with_last(t, lambda out: out["sequence"][:, -1]),
    ),
    ("lstm, dropout", "the layers above the first left out", first_layer),
    ("lstm", "initial state ignored", lambda t: replace(t, state=None).run()),
    ("lstm", "initial states h and c exchanged", lambda t: exchanged(t, True, False)),
    ("lstm", "final states h and c exchanged", lambda t: exchanged(t, False, True)),
    ("lstm", "initial and final states h and c exchanged", lambda t: exchanged(t, True, True)),
    (
        "rnn, three layers",
        "initial states of the directions exchanged",
        lambda t: with_states(t, lambda h: h[[1, 0, 3, 2, 5, 4]], True, False),
    ),
    (
        "rnn, three layers",
        "final states of the layers in reversed order",
        lambda t: with_states(t, lambda h: h[[4, 5, 2, 3, 0, 1]], False, True),
    ),
    (
        "rnn, three layers",
        "initial and final states read direction by direction, not layer by layer",
        lambda t: with_states(t, lambda h: h[[0, 2, 4, 1, 3, 5]], True, True),
    ),
    ("lstm", "state not reset between calls", called_twice),
    ("lstm", "zero states at every time step", bare_cell),
    ("gru", "input scaled by 1/255", lambda t: replace(t, x=t.x / 255).run()),
    ("gru", "the input rounded to float16", lambda t: replace(t, x=t.x.astype("float16").astype(float)).run()),
    ("gru", "the input rounded to 2 decimals", lambda t: replace(t, x=np.round(t.x, 2)).run()),
    ("gru", "outputs halved", lambda t: {k: v if "state" in k else v / 2 for k, v in t.run().items()}),
    ("lstm", "a further tanh on its output", lambda t: {k: np.tanh(t.run()[k]) for k in ("sequence", "last")}),
]


@pytest.mark.parametrize(("name", "mistake", "run"), RUNS, ids=[f"{r[0]}: {r[1]}" for r in RUNS])
def test_mistakes_in_what_is_run_and_what_is_taken(name: str, mistake: str, run: Callable[[Torch], Named]) -> None:
    check(case(name), mistake, run(in_torch(case(name))))


def test_mistakes_of_layers_that_begin_with_zero_states() -> None:
    plain = stateless(case("gru"))
    check(plain, "output one time step late", late(in_torch(plain)))
    both = replace(case("lstm, both, masked"), spec=lstm(**BOTH))
    both = replace(both, given=replace(both.given, mask=None))
    check(both, "the backward direction reading forwards", both_forwards(in_torch(both)))
    check(case("gru, stateful"), "state not carried to the next call", in_torch(case("gru, stateful")).run())


def test_masks_that_are_shifted_and_turned() -> None:
    """The later step is counted, and the first, of which the one before is not known; the earlier one, and not the last."""
    one = case("lstm, any mask")
    masks = {
        "mask off by one": [[1, 0, 0, 1, 1, 1], [1, 1, 1, 0, 1, 1], [1, 1, 1, 1, 1, 0], [1, 0, 0, 0, 0, 0]],
        "mask off by one the other way": [[0, 1, 1, 1, 1, 0], [1, 0, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0], [0] * 6],
        "mask from the wrong side (left for right)": ANY[:, ::-1],
    }
    for name, mask in masks.items():
        wanted = replace(one, given=replace(one.given, mask=np.array(mask, bool))).run()
        check(one, name, wanted)


def test_what_a_layer_puts_out_at_masked_steps() -> None:
    one = case("lstm, any mask")
    wanted = one.run()["sequence"]
    wanted[~ANY] = 0
    check(one, "zeros at masked steps (as with zero_output_for_mask, packed sequences, cuDNN)", {"sequence": wanted})


# ---- Functions, by hand.


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def gru_by_hand(one: Case, after: bool, turned: bool = False) -> Named:
    """The GRU of the papers: h' = z h + (1 - z) n, or turned (1 - z) h + z n."""
    p = {(key.role, key.gate): block for key, block in one.params.items()}

    def gate(name: str, x: np.ndarray, h: np.ndarray, r: np.ndarray | float = 1.0) -> np.ndarray:
        read = p["kernel", name], p["bias", name], p["recurrent_kernel", name], p["recurrent_bias", name]
        product = r * (h @ read[2] + read[3]) if after else (r * h) @ read[2] + read[3]
        return x @ read[0] + read[1] + product

    assert one.given.state is not None
    h, out = one.given.state["h"][0, 0], []
    for t in range(STEPS):
        x = one.given.x[:, t]
        r, z = sigmoid(gate("r", x, h)), sigmoid(gate("z", x, h))
        n = np.tanh(gate("n", x, h, r))
        h = (1 - z) * h + z * n if turned else z * h + (1 - z) * n
        out.append(h)
    return {"sequence": np.stack(out, axis=1), "last": h, "state h": h[None, None]}


def test_the_reset_gate_and_the_update_gate() -> None:
    one = case("gru")
    check(one, "reset gate before the product", gru_by_hand(one, after=False))
    check(one, "update gate the other way round, (1 - z) h + z n", gru_by_hand(one, after=True, turned=True))
    before = replace(one, spec=gru(reset_after=False))
    check(before, "reset gate after the product", gru_by_hand(one, after=True))


def test_of_one_unit_without_a_bias_the_reset_gate_may_stand_on_either_side() -> None:
    """r (h U) = (r h) U, where U is a number and nothing is added to it."""
    for after in (True, False):
        names = [
            [name for name in ways(Case(spec, weights(spec), Given(signal(spec, 0)))) if name.startswith("reset gate")]
            for spec in (
                gru(3, 1, bias=False, reset_after=after),
                gru(3, 1, reset_after=after),
                gru(3, 2, bias=False, reset_after=after),
            )
        ]
        assert names == [[], *[[f"reset gate {'before' if after else 'after'} the product"]] * 2]


def lstm_by_hand(one: Case, last: Callable[[np.ndarray], np.ndarray]) -> Named:
    """h' = o last(c'), which is tanh where nothing is wrong."""
    p = {(key.role, key.gate): block for key, block in one.params.items()}
    assert one.given.state is not None
    h, c, out = one.given.state["h"][0, 0], one.given.state["c"][0, 0], []
    for x in one.given.x.swapaxes(0, 1):
        i, f, o, g = (
            x @ p["kernel", gate] + p["bias", gate] + h @ p["recurrent_kernel", gate] + p["recurrent_bias", gate]
            for gate in "ifog"
        )
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * last(c)
        out.append(h)
    return {"sequence": np.stack(out, axis=1), "last": h, "state h": h[None, None], "state c": c[None, None]}


def test_the_activation_of_the_cell_state() -> None:
    one, name = case("lstm"), "tanh of the cell state forgotten, h = o c"
    assert np.allclose(lstm_by_hand(one, np.tanh)["sequence"], one.run()["sequence"], rtol=0, atol=1e-12)
    check(one, name, lstm_by_hand(one, lambda c: c))
    wrong = ways(one)[name].change(one)
    assert ways(one)[name].change(wrong) is wrong
    assert {name in ways(case(other)) for other in ("lstm, projected", "stacked", "backward differs")} == {True}
    assert name not in ways(case("gru"))


def rnn_by_hand(one: Case, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    p = {key.role: block for key, block in one.params.items()}
    assert one.given.state is not None
    h, out = one.given.state["h"][0, 0], []
    for x in one.given.x.swapaxes(0, 1):
        h = function(x @ p["kernel"] + p["bias"] + h @ p["recurrent_kernel"] + p["recurrent_bias"])
        out.append(h)
    return np.stack(out, axis=1)


def test_another_activation() -> None:
    one = case("rnn")
    check(one, "relu instead of tanh", {"sequence": rnn_by_hand(one, lambda a: np.maximum(a, 0))})
    check(one, "softsign instead of tanh", {"sequence": rnn_by_hand(one, lambda a: a / (1 + abs(a)))})
    names = set(ways(case("lstm")))
    wanted = {"hard_sigmoid instead of sigmoid in the gates", "hard_sigmoid_keras2 instead of sigmoid in the gates"}
    assert wanted <= names
    assert "celu instead of elu" not in ways(replace(one, spec=Recurrent("rnn", 3, 5, activation="elu")))


def test_options_change_in_every_part_that_has_them() -> None:
    """The gates of the stacked cells, of either direction."""
    one = case("stacked")
    changed = ways(one)["hard_sigmoid instead of sigmoid in the gates"].change(one).spec
    assert isinstance(changed, Recurrent)
    assert [part.recurrent_activation for part in changed.stacked] == ["hard_sigmoid"] * 2
    other = ways(case("backward differs"))["hard_sigmoid instead of sigmoid in the gates"].change(
        case("backward differs")
    )
    assert isinstance(other.spec, Recurrent)
    assert other.spec.backward is not None
    assert {other.spec.recurrent_activation, other.spec.backward.recurrent_activation} == {"hard_sigmoid"}


@pytest.mark.parametrize(
    ("mode", "function"), [("sum", np.add), ("ave", lambda a, b: (a + b) / 2), ("mul", np.multiply)]
)
def test_another_merge(mode: str, function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    one = case("gru, sum")
    beside = replace(one, spec=gru(**BOTH)).run()
    wanted = {name: function(beside[name][..., :5], beside[name][..., 5:]) for name in ("sequence", "last")}
    if mode == "sum":
        one, name = replace(one, spec=gru(merge_mode="ave", **BOTH)), "merge_mode sum instead of ave"
    else:
        name = f"merge_mode {mode} instead of sum"
    check(one, name, wanted)


def test_what_goes_backwards() -> None:
    one = case("rnn, backwards")
    forwards = replace(one, spec=LAYERS["rnn"])
    check(one, "go_backwards ignored", forwards.run())
    out = one.run()["sequence"]
    check(one, "output flipped back", {"sequence": out[:, ::-1]})


# ---- Orders of gates.


def test_the_orders_of_the_frameworks() -> None:
    """Every framework's order read as every other one's is there by name; the tables are those of the packings."""
    orders = {"torch": "i f g o", "keras": "i f c o", "onnx": "i o f c", "tf1": "i j f o"}
    for name, order in orders.items():
        assert known_packings()[name].rows["lstm"].gate_order() == order.split()
    found = [
        name
        for name, way in ways(case("lstm")).items()
        if ("packed in" in name or "for each other" in name) and " only" not in name
    ]
    assert len(found) == 4
    for written, read in product(orders.items(), repeat=2):
        titles = [known_packings()[name].title for name, _ in (written, read)]
        same = written[1].replace("c", "g").replace("j", "g") == read[1].replace("c", "g").replace("j", "g")
        # A swap is the same whichever of the two is written.
        told = [
            name for name in found if all(f"{t}'s" in name for t in titles) and written[1] in name and read[1] in name
        ]
        assert same or told
    # TensorFlow 1's GRU resets before the product.
    assert any("TensorFlow 1's r u c" in name for name in ways(case("gru, before")))
    assert not any("TensorFlow 1" in name for name in ways(case("gru")))


def test_every_order_of_the_gates_is_there_once() -> None:
    for name, count in (("rnn", 0), ("gru", 5), ("lstm", 23)):
        one = case(name)
        entries = ("gate order", "gates swapped", "gates mixed up")
        cases = [v.change(one) for m in CATALOGUE if m.name in entries for v in m.vary(one)]
        seen = {
            tuple(next(g for g in "ifogrzn" if holds(c, one, "kernel", at, g)) for at in gates(name)) for c in cases
        }
        assert len(seen) == len(cases) == count
        for changed in cases:
            for role, at in product(("recurrent_kernel", "bias", "recurrent_bias"), gates(name)):
                source = next(g for g in gates(name) if holds(changed, one, "kernel", at, g))
                assert holds(changed, one, role, at, source)


def gates(name: str) -> str:
    return {"rnn": "h", "gru": "rzn", "lstm": "ifog"}[name]


def holds(changed: Case, one: Case, role: str, at: str, gate: str) -> bool:
    """Whether the block of a gate stands at another."""
    key = Key(0, 0, role, gate)
    return key in one.params and np.array_equal(changed.params[key._replace(gate=at)], one.params[key])


def test_gates_of_one_function_whose_product_is_taken_can_be_swapped() -> None:
    one = replace(case("lstm"), spec=lstm(activation="sigmoid"))
    assert "gates i and g swapped" not in ways(one)
    assert "gates i and g swapped, in the biases only" in ways(one)
    assert "gates i and g swapped" in ways(case("lstm"))


# ---- Mistakes of random numbers.


def test_a_tensor_that_was_not_loaded() -> None:
    one = case("lstm, two layers, masked")
    key = Key(1, 0, "kernel", "g")
    native = next(n for n in known_packings()["torch"].natives(one.spec) if n.name == "weight_hh_l0_reverse")
    hidden = {Key(0, 1, "recurrent_kernel", gate) for gate in "ifgo"}
    for what, keys in ((key, {key}), (native, hidden)):
        changed, again, other = (not_loaded(what, seed).change(one).params for seed in (3, 3, 4))
        for address, block in one.params.items():
            if address in keys:
                assert 0.1 < np.abs(changed[address]).max() <= 1 / np.sqrt(5)
                assert not np.allclose(changed[address], block)
                assert np.array_equal(changed[address], again[address])
                assert not np.array_equal(changed[address], other[address])
            else:
                assert changed[address] is block
    assert not_loaded(native, 0).name == "weight_hh_l0_reverse not loaded"


def test_dropout_that_is_still_active() -> None:
    for name in ("gru", "dense"):
        one = case(name)
        right, wrong = one.run(), dropout_active(0.25, 0).change(one).run()
        for output in {"sequence", "last", "output"} & right.keys():
            factor = np.unique(np.round(wrong[output] / right[output], 9))
            assert np.allclose(factor, [0, 4 / 3])
        assert all(np.array_equal(wrong[k], right[k]) for k in right if k.startswith("state"))


# ---- What a verdict tries.


def tried(one: Case) -> dict[str, Case]:
    return dict(mistakes.variations(one.spec, one.params, one.given))


def test_what_a_verdict_tries_depends_on_the_call() -> None:
    masked_case, second = case("lstm, any mask"), case("gru, stateful")
    assert set(tried(masked_case)) == {
        "mask ignored",
        "mask off by one",
        "mask from the wrong side (left for right)",
        "zeros at masked steps (as with zero_output_for_mask, packed sequences, cuDNN)",
    }
    assert set(tried(second)) == {"state not carried to the next call"}
    assert set(tried(case("rnn"))) == {
        "relu instead of tanh",
        "input bias dropped",
        "recurrent bias dropped",
        "both biases added on both sides",
        "recurrent kernel not transposed",
        "kernel reshaped from (out, in) to (in, out) instead of transposed",
        "time reversed",
        "initial state ignored",
    }
    assert len(tried(case("gru"))) == 15
    assert len(tried(case("lstm"))) == 18


def test_what_changes_no_number_is_not_tried() -> None:
    """The biases of a live layer may be zeros, and its kernel symmetric."""
    one = case("rnn")
    quiet = {key: np.zeros_like(block) if "bias" in key.role else block for key, block in one.params.items()}
    key = Key(0, 0, "recurrent_kernel", "h")
    quiet[key] = quiet[key] + quiet[key].T
    names = set(tried(replace(one, params=quiet)))
    assert not {name for name in names if "bias" in name or "recurrent kernel" in name}
    assert names == {name for name in tried(one) if "bias" not in name and "recurrent kernel" not in name}


def test_the_mistakes_that_need_parameters_alone() -> None:
    one = case("gru, two layers")
    found = dict(mistakes.parameter_mistakes(one.spec, one.params))
    assert {"layers 0 and 1 swapped", "kernel not transposed", "candidate's biases added on one side"} <= set(found)
    assert not {"time reversed", "reset gate before the product", "initial state ignored"} & set(found)
    for name, params in found.items():
        assert params.keys() == one.params.keys()
        assert np.array_equal(replace(one, params=params).run()["last"], tried(one)[name].run()["last"])
    assert set(dict(mistakes.parameter_mistakes(Dense(3, 5), weights(Dense(3, 5))))) == {
        "bias dropped",
        "kernel reshaped from (out, in) to (in, out) instead of transposed",
    }


def test_an_entry_of_ones_own() -> None:
    """The interface is all that an entry needs."""

    def vary(one: Case) -> Iterator[Variation]:
        yield Variation("no input", "Give it an input.", lambda c: replace(c, given=replace(c.given, x=0 * c.given.x)))

    mine = Mistake("input lost", ("zeros",), "The input was lost.", vary)
    (way,) = mine.vary(case("rnn"))
    assert differ(case("rnn").run(), way.change(case("rnn")).run())
    assert way.probed == ""
