"""The reference against decimals that were computed apart, and against the papers' equations in plain Python."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import helpers
import numpy as np
import pytest
from helpers import BATCH, FEATURES, LAYERS, LAYERS_BY_NAME, STEPS, UNITS, Blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from xframe import arithmetic, noise, reference
from xframe.adapters import known_packings
from xframe.errors import LayoutError, SpecError
from xframe.layout import Key
from xframe.packing import Parameters
from xframe.reference import Given
from xframe.spec import Dense, Layer, Recurrent, Sequential

Vector = list[float]
RECURRENT = {name: spec for name, spec in LAYERS_BY_NAME.items() if isinstance(spec, Recurrent)}

# ---- Decimals. Two features, three units, three steps. The parameters are sums of few powers of two, so that what is
# typed in is exact. The outputs were computed by a separate script in mpmath 1.3 with 50 digits from the equations in
# the docstrings below, and pasted with 20.

X = [[0.5, -1.25], [1.5, 0.75], [-0.625, 2.0]]
# In the order i f g o for the LSTM, r z n for the GRU; the first is the simple cell's.
KERNELS = [
    [[0.5, -0.25, 1.25], [-0.75, 0.375, 0.625]],
    [[-0.5, 1.125, 0.25], [0.875, -0.375, -1.0]],
    [[0.75, 0.1875, -0.625], [-0.3125, 1.375, 0.4375]],
    [[-1.5, 0.5625, 0.6875], [0.8125, -0.9375, 0.125]],
]
RECURRENT_KERNELS = [
    [[0.25, -0.5, 0.75], [1.0, 0.375, -0.625], [-0.125, 0.875, 0.5]],
    [[-0.25, 0.625, 1.25], [0.5, -0.75, 0.375], [-1.125, 0.125, 0.875]],
    [[0.6875, -0.4375, 0.1875], [-0.8125, 0.9375, 0.3125], [1.0625, -0.5625, 0.0625]],
    [[1.5, -0.375, -0.75], [0.25, 0.625, -1.25], [-0.5, 1.125, 0.875]],
]
BIASES = [[0.125, -0.25, 0.375], [0.5, -0.625, 0.75], [-0.875, 1.0, -1.125], [0.1875, 0.3125, -0.4375]]
RECURRENT_BIASES = [[-0.5, 0.75, 0.25], [1.25, 0.375, -0.125], [0.625, -0.6875, 0.5625], [-0.3125, 0.8125, 0.9375]]
H, C = [0.25, -0.5, 0.75], [-1.0, 0.5, 1.5]

DECIMALS: dict[str, tuple[Recurrent, list[Vector]]] = {
    # h' = tanh(x W + b + h U + rb)
    "rnn": (
        Recurrent("rnn", 2, 3),
        [
            [0.27406158896076637718, 0.24491866240370912928, 0.87257001149606932586],
            [0.016861210051324041603, 0.80915005290564401417, 0.99801643423277065228],
            [-0.90494686988612675670, 0.98845694310105001495, 0.80038596757242227738],
        ],
    ),
    # h' = max(x W + b + h U + rb, 0)
    "rnn-relu": (
        Recurrent("rnn", 2, 3, activation="relu"),
        [
            [0.28125, 0.25, 1.34375],
            [0.0, 1.53515625, 3.6953125],
            [0.0, 5.21533203125, 1.98193359375],
        ],
    ),
    # i, f, o = s(x W + b + h U + rb), g = tanh(the same), c' = f c + i g, h' = o tanh(c')
    "lstm": (
        Recurrent("lstm", 2, 3),
        [
            [0.025863134723869688710, -0.14162435122558646907, 0.51554751250609439863],
            [0.055413214250799947332, 0.36142304187737808818, -0.29264261285759735581],
            [0.33176040907231363007, 0.15469224552167988801, 0.14939289440178578494],
        ],
    ),
    # r, z = s(x W + b + h U + rb), n = tanh(x W + b + r (h U + rb)), h' = z h + (1 - z) n
    "gru": (
        Recurrent("gru", 2, 3),
        [
            [0.60591733472603246123, -0.58219620005475362291, 0.65257325629226806411],
            [0.61671931035523682500, -0.42220827226510461397, 0.34854719534844423157],
            [0.54620656053541688599, 0.59438224169465311317, 0.48916369044579808907],
        ],
    ),
    # the same with n = tanh(x W + b + (r h) U + rb)
    "gru-before": (
        Recurrent("gru", 2, 3, reset_after=False),
        [
            [0.69169026801644528098, -0.59094650186036199078, 0.65402899706178239352],
            [0.78977969702606941308, -0.45400391551526860362, 0.37489163485110760650],
            [0.72265806620840147363, 0.54485469869290479452, 0.48279393277957785397],
        ],
    ),
}
LAST_C = [0.36865528901494666507, 0.83218301045097336022, 0.39870341731735614332]


def typed_in(spec: Recurrent) -> Blocks:
    found = {}
    for i, gate in enumerate(helpers.GATES[spec.cell]):
        found[Key(0, 0, "kernel", gate)] = np.array(KERNELS[i])
        found[Key(0, 0, "recurrent_kernel", gate)] = np.array(RECURRENT_KERNELS[i])
        found[Key(0, 0, "bias", gate)] = np.array(BIASES[i])
        found[Key(0, 0, "recurrent_bias", gate)] = np.array(RECURRENT_BIASES[i])
    return found


def initial(spec: Recurrent) -> dict[str, np.ndarray]:
    return {"h": np.array([[[H]]])} | ({"c": np.array([[[C]]])} if spec.cell == "lstm" else {})


@pytest.mark.parametrize("name", DECIMALS)
def test_decimals(name: str) -> None:
    spec, sequence = DECIMALS[name]
    expected = {"sequence": np.array([sequence]), "last": np.array([sequence[-1]])}
    expected["state h"] = np.array([[[sequence[-1]]]])
    if spec.cell == "lstm":
        expected["state c"] = np.array([[[LAST_C]]])
    helpers.judge(spec, typed_in(spec), Given(np.array([X]), initial(spec)), "float64", expected)
    # helpers.judge compares with the noise-free half of what xframe.noise computes; this is what users call.
    got = reference.run(spec, typed_in(spec), np.array([X]), initial(spec)).named()
    assert set(got) == set(expected)
    for output, array in expected.items():
        assert np.abs(got[output] - array).max() <= 8 * np.spacing(np.abs(array).max()), output


# ---- The papers' equations in plain Python: lists, math.tanh and math.exp, one number at a time.


def _sigmoid(a: float) -> float:
    return 1 / (1 + math.exp(-a))


def _affine(x: Vector, blocks: Mapping[Key, np.ndarray], place: tuple[int, int], role: str, gate: str) -> Vector:
    """x W + b, or h U + rb, without the bias where there is none."""
    w = blocks[Key(*place, role, gate)].tolist()
    bias = "bias" if role == "kernel" else "recurrent_bias"
    b = blocks[Key(*place, bias, gate)].tolist() if Key(*place, bias, gate) in blocks else [0.0] * len(w[0])
    return [sum(x[k] * w[k][j] for k in range(len(x))) + b[j] for j in range(len(w[0]))]


def _step(
    spec: Recurrent, blocks: Mapping[Key, np.ndarray], place: tuple[int, int], x: Vector, h: Vector, c: Vector
) -> tuple[Vector, Vector]:
    """One time step from (h, c) to (h', c')."""
    units = range(spec.hidden_size)
    gates = helpers.GATES[spec.cell]
    inner = {g: _affine(x, blocks, place, "kernel", g) for g in gates}
    outer = {g: _affine(h, blocks, place, "recurrent_kernel", g) for g in gates}
    if spec.cell == "rnn":
        sums = [inner["h"][j] + outer["h"][j] for j in units]
        return [math.tanh(a) if spec.activation == "tanh" else max(a, 0.0) for a in sums], c
    if spec.cell == "lstm":
        i, f, o = ([_sigmoid(inner[g][j] + outer[g][j]) for j in units] for g in "ifo")
        c = [f[j] * c[j] + i[j] * math.tanh(inner["g"][j] + outer["g"][j]) for j in units]
        h = [o[j] * math.tanh(c[j]) for j in units]
        if spec.proj_size:
            p = blocks[Key(*place, "projection", "")].tolist()
            h = [sum(h[k] * p[k][j] for k in units) for j in range(spec.proj_size)]
        return h, c
    r, z = ([_sigmoid(inner[g][j] + outer[g][j]) for j in units] for g in "rz")
    if spec.reset_after:
        n = [math.tanh(inner["n"][j] + r[j] * outer["n"][j]) for j in units]
    else:
        reset = _affine([r[j] * h[j] for j in units], blocks, place, "recurrent_kernel", "n")
        n = [math.tanh(inner["n"][j] + reset[j]) for j in units]
    return [z[j] * h[j] + (1 - z[j]) * n[j] for j in units], c


def by_equations(
    spec: Recurrent, blocks: Mapping[Key, np.ndarray], x: np.ndarray, state: Mapping[str, np.ndarray] | None
) -> dict[str, np.ndarray]:
    """All outputs of a layer, by name; one row of the batch, one layer and one direction after the other."""
    directions = 2 if spec.bidirectional else 1
    sequences, lasts = [], []
    finals: dict[str, list[Any]] = {"h": [], "c": []}
    for row in range(len(x)):
        below: list[Vector] = x[row].tolist()
        final_h, final_c = [], []
        for layer in range(spec.num_layers):
            outputs: list[list[Vector]] = []
            for d in range(directions):
                if state is None:
                    h, c = [0.0] * spec.state_size, [0.0] * spec.hidden_size
                else:
                    h = state["h"][layer, d, row].tolist()
                    c = state["c"][layer, d, row].tolist() if "c" in state else []
                steps = []
                for at_step in below if d == 0 else below[::-1]:
                    h, c = _step(spec, blocks, (layer, d), at_step, h, c)
                    steps.append(h)
                # What the backward half saw last stands at step 0.
                outputs.append(steps if d == 0 else steps[::-1])
                final_h.append(h)
                final_c.append(c)
            below = [[value for half in outputs for value in half[t]] for t in range(len(below))]
        sequences.append(below)
        lasts.append([value for half in final_h[-directions:] for value in half])
        finals["h"].append(final_h)
        finals["c"].append(final_c)
    found = {"sequence": np.array(sequences), "last": np.array(lasts)}
    for name in ("h", "c") if spec.cell == "lstm" else ("h",):
        # (batch, layers * directions, size) -> (layers, directions, batch, size)
        array = np.array(finals[name]).reshape(len(x), spec.num_layers, directions, -1)
        found[f"state {name}"] = array.transpose(1, 2, 0, 3)
    return found


@pytest.mark.parametrize("name", DECIMALS)
def test_the_equations_give_the_decimals(name: str) -> None:
    """The oracle below is right where the decimals are; the noise of the reference is not asked."""
    spec, sequence = DECIMALS[name]
    got = by_equations(spec, typed_in(spec), np.array([X]), initial(spec))["sequence"]
    assert np.abs(got - [sequence]).max() <= 8 * np.spacing(np.abs(sequence).max())


@pytest.mark.parametrize("given_state", [False, True], ids=["zeros", "states"])
@pytest.mark.parametrize("name", RECURRENT)
def test_equations(name: str, given_state: bool) -> None:
    """Every kind of layer, stacks, directions and projections included."""
    spec = RECURRENT[name]
    blocks, x, state = helpers.weights(spec, 11), helpers.signal(spec, 11), helpers.start(spec, 11)
    start, wrong = (state, None) if given_state else (None, state)
    helpers.judge(spec, blocks, Given(x, start), "float64", by_equations(spec, blocks, x, start))
    helpers.judge(spec, blocks, Given(x, start), "float64", reference.run(spec, blocks, x, start))
    with pytest.raises(AssertionError, match="times its noise"):
        helpers.judge(spec, blocks, Given(x, start), "float64", by_equations(spec, blocks, x, wrong))


@settings(max_examples=60)
@given(data=st.data(), row=st.sampled_from(["rnn", "lstm", "gru", "gru/reset_before"]))
def test_equations_at_any_size(row: str, data: st.DataObject) -> None:
    """One feature, one unit, one step, one row: where axes of length one may be mistaken."""
    spec = data.draw(helpers.specs(row, known_packings()["keras"].rows[row]))
    seed, batch, steps = (data.draw(st.integers(lowest, highest)) for lowest, highest in ((0, 99), (1, 3), (1, 4)))
    assert isinstance(spec, Recurrent)
    blocks = helpers.weights(spec, seed)
    x = helpers.away_from_zero(np.random.default_rng(seed), (batch, steps, spec.input_size), 1.5)
    helpers.judge(spec, blocks, Given(x), "float64", by_equations(spec, blocks, x, None))


@pytest.mark.parametrize("name", RECURRENT)
def test_the_probe_sees_every_number(name: str) -> None:
    """A change of any block's first number by a hundredth is far outside the noise: the tests above have power."""
    spec = RECURRENT[name]
    blocks, x, state = helpers.weights(spec, 11), helpers.signal(spec, 11), helpers.start(spec, 11)
    clean = reference.run(spec, blocks, x, state)
    for key, block in blocks.items():
        changed = block.copy()
        changed.flat[0] *= 1.01
        with pytest.raises(AssertionError, match="times its noise"):
            helpers.judge(spec, {**blocks, key: changed}, Given(x, state), "float64", clean)


# ---- Conventions.


def test_the_last_output_of_a_bidirectional_layer() -> None:
    """By hand: one feature, one unit, three steps. Forward at the last step beside backward at the first."""
    spec = Recurrent("rnn", 1, 1, bidirectional=True)
    values = {
        "kernel": (0.5, -0.75),
        "recurrent_kernel": (0.25, 0.875),
        "bias": (0.125, -0.375),
        "recurrent_bias": (0.0625, 0.5),
    }
    blocks = {
        Key(0, d, role, "h"): np.full((1, 1) if "kernel" in role else (1,), both[d])
        for role, both in values.items()
        for d in (0, 1)
    }
    forward = [math.tanh(0.5 * 1.0 + 0.125 + 0.0625)]
    forward.append(math.tanh(0.5 * -2.0 + 0.125 + 0.25 * forward[0] + 0.0625))
    forward.append(math.tanh(0.5 * 1.5 + 0.125 + 0.25 * forward[1] + 0.0625))
    backward = [math.tanh(-0.75 * 1.5 - 0.375 + 0.5)]
    backward.append(math.tanh(-0.75 * -2.0 - 0.375 + 0.875 * backward[0] + 0.5))
    backward.append(math.tanh(-0.75 * 1.0 - 0.375 + 0.875 * backward[1] + 0.5))
    expected = {
        "sequence": np.array([[[forward[0], backward[2]], [forward[1], backward[1]], [forward[2], backward[0]]]]),
        "last": np.array([[forward[2], backward[2]]]),
        "state h": np.array([[[[forward[2]]], [[backward[2]]]]]),
    }
    x = np.array([[[1.0], [-2.0], [1.5]]])
    helpers.judge(spec, blocks, Given(x), "float64", expected)
    out = reference.run(spec, blocks, x)
    assert np.array_equal(out.last, [[out.sequence[0, -1, 0], out.sequence[0, 0, 1]]])
    assert not np.array_equal(out.last, out.sequence[:, -1])


@pytest.mark.parametrize("name", RECURRENT)
def test_axes(name: str) -> None:
    spec = RECURRENT[name]
    out = reference.run(spec, helpers.weights(spec), helpers.signal(spec), helpers.start(spec))
    size = spec.proj_size or UNITS
    directions, layers = (2 if spec.bidirectional else 1), (LAYERS if "stacked" in name else 1)
    assert out.sequence.shape == (BATCH, STEPS, directions * size)
    assert out.last.shape == (BATCH, directions * size)
    assert out.states["h"].shape == (layers, directions, BATCH, size)
    if spec.cell == "lstm":
        assert out.states["c"].shape == (layers, directions, BATCH, UNITS)
    assert list(out.states) == (["h", "c"] if spec.cell == "lstm" else ["h"])


@pytest.mark.parametrize("name", RECURRENT)
def test_states_carry_a_sequence_on(name: str) -> None:
    """The first steps, then the others from the states between, are the whole: one direction only."""
    spec = RECURRENT[name]
    if spec.bidirectional:
        spec = Recurrent(**{**spec.options(), "bidirectional": False})
    blocks, x, state = helpers.weights(spec, 3), helpers.signal(spec, 3), helpers.start(spec, 3)
    half = reference.run(spec, blocks, x[:, :2], state)
    rest = reference.run(spec, blocks, x[:, 2:], half.states)
    sequence = np.concatenate([half.sequence, rest.sequence], axis=1)
    got = {**rest.named(), "sequence": sequence}
    helpers.judge(spec, blocks, Given(x, state), "float64", got)


def test_rows_of_a_batch_do_not_mix() -> None:
    spec = RECURRENT["gru-stacked"]
    blocks, x, state = helpers.weights(spec), helpers.signal(spec), helpers.start(spec)
    assert state is not None
    out = reference.run(spec, blocks, x, state)
    for row in range(BATCH):
        alone = reference.run(spec, blocks, x[row : row + 1], {"h": state["h"][:, :, row : row + 1]})
        helpers.judge(spec, blocks, Given(x[row : row + 1], {"h": state["h"][:, :, row : row + 1]}), "float64", alone)
        assert np.allclose(alone.sequence[0], out.sequence[row], rtol=0, atol=1e-13)


def test_nothing_given_is_changed() -> None:
    spec = RECURRENT["lstm-stacked"]
    blocks, x, state = helpers.weights(spec), helpers.signal(spec), helpers.start(spec)
    assert state is not None
    before = [a.copy() for a in (*blocks.values(), x, *state.values())]
    reference.run(spec, blocks, x, state)
    assert all(np.array_equal(a, b) for a, b in zip(before, (*blocks.values(), x, *state.values()), strict=True))


@pytest.mark.parametrize("name", RECURRENT)
def test_float32_stays_float32(name: str) -> None:
    spec = RECURRENT[name]
    blocks = helpers.weights(spec, 5, "float32")
    x, state = helpers.signal(spec, 5, "float32"), helpers.start(spec, 5, "float32")
    got = reference.run(spec, blocks, x, state)
    assert {a.dtype.name for a in got.named().values()} == {"float32"}
    helpers.judge(spec, blocks, Given(x, state), "float32", got)


def test_canonical_parameters_are_taken_as_blocks() -> None:
    spec = RECURRENT["lstm"]
    blocks, x = helpers.weights(spec), helpers.signal(spec)
    got = reference.run(spec, Parameters(spec, blocks), x).named()
    helpers.assert_same_numbers(got, reference.run(spec, blocks, x).named())


def test_dense_by_hand() -> None:
    blocks = {
        Key(0, 0, "kernel", ""): np.array([[0.5, -1.25, 2.0], [1.5, 0.75, -0.375]]),
        Key(0, 0, "bias", ""): np.array([0.125, -0.5, 1.0]),
    }
    x = np.array([[1.0, 2.0], [-0.5, 4.0]])
    wanted = [[3.625, -0.25, 2.25], [5.875, 3.125, -1.5]]
    assert reference.run(Dense(2, 3), blocks, x).sequence.tolist() == wanted
    del blocks[Key(0, 0, "bias", "")]
    assert reference.run(Dense(2, 3, bias=False), blocks, x).sequence.tolist() == [
        [3.5, 0.25, 1.25],
        [5.75, 3.625, -2.5],
    ]


def test_a_chain_by_its_links() -> None:
    """A stack hands on its sequence to a recurrent layer, and its last output to a dense one."""
    chain = Sequential(
        Recurrent("gru", 3, 4, bidirectional=True), Recurrent("lstm", 8, 5, bidirectional=True), Dense(10, 2)
    )
    blocks = [helpers.weights(layer, i) for i, layer in enumerate(chain.layers)]
    x = helpers.away_from_zero(np.random.default_rng(1), (2, 4, 3), 1.5)
    first, second, _ = chain.layers
    assert isinstance(first, Recurrent)
    assert isinstance(second, Recurrent)
    below = by_equations(first, blocks[0], x, None)["sequence"]
    last = by_equations(second, blocks[1], below, None)["last"]
    kernel, bias = blocks[2][Key(0, 0, "kernel", "")], blocks[2][Key(0, 0, "bias", "")]
    wanted = np.array([[sum(r[k] * kernel[k, j] for k in range(10)) + bias[j] for j in range(2)] for r in last])
    got = reference.run(chain, blocks, x)
    assert set(got.named()) == {"output"}
    expected = noise.measure(chain, blocks, Given(x), "float64")
    assert expected.deviation["output"].max() < 1e-13
    for array in (wanted, got.sequence):
        assert noise.ratio(array, expected.clean["output"], expected.deviation["output"]).max() < 10
    with pytest.raises(SpecError, match="3 layers, but 2 sets"):
        reference.run(chain, blocks[:2], x)


# ---- Overflow.


def test_sigmoid() -> None:
    """Against mpmath, 50 digits; at the ends without a warning."""
    points = {
        -30.0: 9.3576229688392989538e-14,
        -2.0: 0.11920292202211755594,
        -0.5: 0.37754066879814543536,
        0.0: 0.5,
        0.125: 0.53120937337375625725,
        3.0: 0.95257412682243321912,
        20.0: 0.99999999793884638181,
    }
    ends = {-1000.0: 0.0, 1000.0: 1.0, -1e308: 0.0, 1e308: 1.0}
    a = np.array([*points, *ends])
    with np.errstate(all="raise"):
        got = arithmetic.sigmoid(a, np.empty_like(a))
    # One unit in the last place of 1: an output between 0 and 1 is rounded once at each of its ends.
    assert np.abs(got - [*points.values(), *ends.values()]).max() <= np.spacing(1.0)
    assert got[-4:].tolist() == [0.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [n for n in RECURRENT if "relu" not in n])
def test_huge_weights_saturate(name: str, dtype: str) -> None:
    """Weights of 1e4 give no warning and no NaN, and units at their limits."""
    spec = RECURRENT[name]
    blocks = {key: 1e4 * block for key, block in helpers.weights(spec).items() if key.role != "projection"}
    blocks |= {key: block for key, block in helpers.weights(spec).items() if key.role == "projection"}
    x, state = helpers.signal(spec, 0, dtype), helpers.start(spec, 0, dtype)
    with warnings.catch_warnings(), np.errstate(over="raise", invalid="raise", divide="raise"):
        warnings.simplefilter("error")
        out = reference.run(spec, blocks, x, state)
    for output, array in out.named().items():
        assert np.isfinite(array).all(), output
        assert output == "state c" or spec.proj_size or np.abs(array).max() <= 1, output
    if spec.cell == "rnn":
        assert np.median(np.abs(out.sequence)) == 1


# ---- What is wrong is refused, and the sentence says what.

SPEC = Recurrent("lstm", FEATURES, UNITS, bidirectional=True)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.ones((BATCH, STEPS)), "batch, time, features"),
        (np.ones((BATCH, STEPS, FEATURES, 1)), "batch, time, features"),
        (np.ones((BATCH, STEPS, FEATURES + 1)), f"{FEATURES} features, not .*{FEATURES + 1}"),
        (np.ones((BATCH, FEATURES, STEPS)), f"{FEATURES} features"),
        (np.ones((BATCH, 0, FEATURES)), "not .*0"),
        (np.ones((0, STEPS, FEATURES)), "not .*0"),
        (np.ones((BATCH, STEPS, FEATURES), int), "float32 or float64, not int64"),
        (np.ones((BATCH, STEPS, FEATURES), complex), "not complex128"),
        (np.full((BATCH, STEPS, FEATURES), "1"), "float32 or float64"),
        (np.full((BATCH, STEPS, FEATURES), np.nan), r"x holds nan at \(0, 0, 0\)"),
        (np.full((BATCH, STEPS, FEATURES), -np.inf), r"x holds -inf at \(0, 0, 0\)"),
    ],
)
def test_wrong_input(x: np.ndarray, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        reference.run(SPEC, helpers.weights(SPEC), x)


def test_wrong_input_of_a_dense_layer() -> None:
    spec = Dense(FEATURES, UNITS)
    with pytest.raises(SpecError, match="batch, features"):
        reference.run(spec, helpers.weights(spec), np.ones((BATCH, STEPS, FEATURES)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"c": None}, "h and c, not h"),
        ({"h": None, "c": None}, "h and c, not none"),
        ({"z": np.ones((1, 2, BATCH, UNITS))}, "h and c, not h and c and z"),
        ({"h": np.ones((1, 2, BATCH, UNITS + 1))}, "State h must be"),
        ({"c": np.ones((2, 1, BATCH, UNITS))}, "State c must be"),
        ({"h": np.ones((BATCH, UNITS))}, "State h must be"),
        ({"c": np.full((1, 2, BATCH, UNITS), np.nan)}, r"State c holds nan at \(0, 0, 0, 0\)"),
        ({"h": np.ones((1, 2, BATCH, UNITS), int)}, "State h is of type int64"),
    ],
)
def test_wrong_states(change: dict[str, np.ndarray | None], words: str) -> None:
    state = {**(helpers.start(SPEC) or {}), **change}
    given_state = {name: array for name, array in state.items() if array is not None}
    with pytest.raises(SpecError, match=words):
        reference.run(SPEC, helpers.weights(SPEC), helpers.signal(SPEC), given_state)


@pytest.mark.parametrize("role", ["kernel", "recurrent_kernel", "bias", "recurrent_bias"])
def test_a_missing_block(role: str) -> None:
    blocks = helpers.weights(SPEC)
    del blocks[Key(0, 1, role, "f")]
    with pytest.raises(LayoutError, match=f"lack.*layer 0, backward, {role}, gate f"):
        reference.run(SPEC, blocks, helpers.signal(SPEC))


@pytest.mark.parametrize("spec", [SPEC, Dense(FEATURES, UNITS)], ids=str)
def test_a_block_of_the_wrong_shape(spec: Layer) -> None:
    """One number too few, or a single one that NumPy would repeat over the axis."""
    blocks = helpers.weights(spec)
    for key in blocks:
        for end in (-1, 1):
            with pytest.raises(LayoutError, match="shape"):
                reference.run(spec, {**blocks, key: blocks[key][..., :end]}, helpers.signal(spec))
