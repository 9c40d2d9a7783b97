"""The activation functions, against their definitions in exact or 60-digit arithmetic, and against Keras.

The definitions here are written with `decimal` and `fractions`, in other forms than the code's: sums of series, searches
over supports, and cases instead of minima and maxima. How far a result may be off is what `xframe.activations` declares,
and what the noise of a comparison counts with.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from decimal import Decimal, getcontext, localcontext
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from helpers import away_from_zero

from xframe import arithmetic, reference
from xframe.activations import ACTIVATIONS, check_activation
from xframe.errors import SpecError
from xframe.layout import Key
from xframe.noise import ROUNDOFF
from xframe.spec import Recurrent

COUPLED = ("softmax", "log_softmax", "sparsemax")
KERAS_1_AND_2 = "hard_sigmoid_keras2"


def activate(name: str, a: np.ndarray) -> np.ndarray:
    """As the reference calls it: into a buffer that holds something else."""
    out = np.full_like(a, -77.0)
    given = a.copy()
    assert arithmetic.Plain().activate(name, a, out) is out
    assert np.array_equal(a, given), "the input was changed"
    # And in place, as the gates are computed.
    arithmetic.Plain().activate(name, given, given)
    assert np.array_equal(given, out, equal_nan=True)
    return out


# ---- Definitions, in Decimal.

ONE, HALF = Decimal(1), Decimal("0.5")
DIGITS = 60


def _tanh(x: Decimal) -> Decimal:
    if x < 0:
        return -_tanh(-x)
    # What is left of one is below any digit that counts.
    return ONE if x > 200 else ONE - 2 / ((2 * x).exp() + 1)


def _sigmoid(x: Decimal) -> Decimal:
    return ONE / (1 + (-x).exp())


def _softplus(x: Decimal) -> Decimal:
    return (1 + x.exp()).ln()


def _normal(x: Decimal) -> Decimal:
    """The normal distribution function, by the series x + x^3/3 + x^5/(3 5) + ... of its difference from a half."""
    if abs(x) > 20:
        return ONE if x > 0 else Decimal(0)
    with localcontext() as context:
        context.prec = 2 * DIGITS
        term = total = x
        for k in range(3, 1600, 2):
            term *= x * x / k
            total += term
        two_pi = 2 * Decimal(
            "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534"
        )
        return HALF + total * (-x * x / 2).exp() / two_pi.sqrt()


def _clipped(x: Decimal, low: int, high: int) -> Decimal:
    return Decimal(low) if x < low else Decimal(high) if x > high else x


def _expm1(x: Decimal) -> Decimal:
    return x.exp() - 1


SELU_SCALE, SELU_ALPHA = Decimal("1.0507009873554804934193349852946"), Decimal("1.6732632423543772848170429916717")
DEFINITIONS: dict[str, Callable[[Decimal], Decimal]] = {
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "relu": lambda x: x if x > 0 else Decimal(0),
    "linear": lambda x: x,
    "hard_sigmoid": lambda x: _clipped(x + 3, 0, 6) / 6,
    KERAS_1_AND_2: lambda x: _clipped(2 * x + 5, 0, 10) / 10,
    "relu6": lambda x: _clipped(x, 0, 6),
    "leaky_relu": lambda x: x if x > 0 else x / 5,
    "elu": lambda x: x if x > 0 else _expm1(x),
    "selu": lambda x: SELU_SCALE * (x if x > 0 else SELU_ALPHA * _expm1(x)),
    "celu": lambda x: x if x > 0 else _expm1(x),
    "gelu": lambda x: x * _normal(x),
    "silu": lambda x: x / (1 + (-x).exp()),
    "mish": lambda x: x * _tanh(_softplus(x)),
    "softplus": _softplus,
    "softsign": lambda x: x / (1 + x) if x > 0 else x / (1 - x),
    "squareplus": lambda x: (x + (x * x + 4).sqrt()) / 2,
    "exponential": lambda x: x.exp(),
    "log_sigmoid": lambda x: _sigmoid(x).ln(),
    "hard_tanh": lambda x: _clipped(x, -1, 1),
    "hard_silu": lambda x: x * _clipped(x + 3, 0, 6) / 6,
    "tanh_shrink": lambda x: x - _tanh(x),
    "soft_shrink": lambda x: x - _clipped(2 * x, -1, 1) / 2,
    "hard_shrink": lambda x: x if x > HALF or x < -HALF else Decimal(0),
    "sparse_plus": lambda x: Decimal(0) if x < -1 else x if x > 1 else (x + 1) ** 2 / 4,
    "sparse_sigmoid": lambda x: (_clipped(x, -1, 1) + 1) / 2,
}

# Where functions have kinks, on both sides of them, near zero, and far out.
KINKS = [0.0, 0.5, 1.0, 2.5, 3.0, 6.0]
NEAR = [1e-30, 1e-9, 1e-3, 0.1, 0.25, 0.75, 1.5, 2.0, 4.5, 7.0, 12.0]
FAR = [30.0, 300.0, 1000.0]


def points(dtype: str, largest: float) -> np.ndarray:
    kinks = np.array(KINKS, dtype)
    around = [kinks, np.nextafter(kinks, np.array(-9, dtype)), np.nextafter(kinks, np.array(9, dtype))]
    positive = np.concatenate([*around, np.array([*NEAR, *FAR], dtype)])
    both = np.unique(np.concatenate([-positive, positive]))
    return both[np.abs(both) <= largest]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", DEFINITIONS)
def test_definitions(name: str, dtype: str) -> None:
    """Each number within the rounding error that is declared, at every size and without a warning."""
    # exp(88) is the largest in float32; the other functions stand a thousand.
    x = points(dtype, 30.0 if name == "exponential" else 1000.0)
    with warnings.catch_warnings(), np.errstate(over="raise", invalid="raise", divide="raise"):
        warnings.simplefilter("error")
        got = activate(name, x)
    assert got.dtype == dtype
    with localcontext() as context:
        context.prec = DIGITS
        exact = [DEFINITIONS[name](Decimal(float(v))) for v in x]
        off = np.array([float(abs(Decimal(float(g)) - e)) for g, e in zip(got, exact, strict=True)])
    size, u = np.abs([float(e) for e in exact]), ROUNDOFF[dtype]
    absolute = {"": 0.0, "1": 1.0, "x": 1 + np.abs(x.astype(float))}[ACTIVATIONS[name].absolute]
    # Below the smallest normal number, digits are lost by everybody.
    allowed = 4 * u * size + u * absolute + float(np.finfo(dtype).tiny)
    worst = int((off / allowed).argmax())
    assert off[worst] <= allowed[worst], f"{name}({x[worst]!r}) is {got[worst]!r} instead of {exact[worst]:.20g}"


def test_every_function_has_a_definition() -> None:
    assert set(ACTIVATIONS) == {*DEFINITIONS, *COUPLED}
    assert {name for name, a in ACTIVATIONS.items() if a.coupled} == set(COUPLED)
    for name, activation in ACTIVATIONS.items():
        assert activation.absolute in ("", "1", "x"), name


# What the equations say at one point, to see that a wrong one would be: (function, x, value, a neighbour's value).
SLIPS = [
    ("hard_sigmoid", 1.0, 2 / 3, 0.7),
    (KERAS_1_AND_2, 1.0, 0.7, 2 / 3),
    ("leaky_relu", -1.0, -0.2, -0.01),
    ("gelu", 1.0, 0.84134474606854294859, 0.84119199060827670478),
    ("relu6", 7.0, 6.0, 7.0),
    ("squareplus", 0.0, 1.0, 0.5),
    ("sparse_plus", 0.0, 0.25, 0.5),
    ("selu", -1.0, -1.1113307378125627, -0.63212055882855767840),
    ("mish", 1.0, 0.86509838826731034612, 0.73105857863000487925),
]


@pytest.mark.parametrize(("name", "x", "value", "slip"), SLIPS)
def test_well_known_values(name: str, x: float, value: float, slip: float) -> None:
    """Typed in; the slip is what is often taken for the function (another slope, tanh's approximation of gelu)."""
    got = activate(name, np.array([x]))[0]
    assert got == pytest.approx(value, rel=1e-15)
    assert got != pytest.approx(slip, rel=1e-5)


def test_the_exponential_overflows_as_it_must() -> None:
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        activate("exponential", np.array([1000.0]))
    assert activate("exponential", np.array([-1000.0])) == 0


# ---- Functions of all units together: (units, batch).


def _softmax(column: list[Decimal]) -> list[Decimal]:
    total = sum(x.exp() for x in column)
    return [x.exp() / total for x in column]


def _log_softmax(column: list[Decimal]) -> list[Decimal]:
    total = sum(x.exp() for x in column).ln()
    return [x - total for x in column]


def _support(column: list[Fraction]) -> list[Fraction]:
    """The one support for which the paper's threshold separates those in it from those out of it; all are tried."""
    for size in range(1, len(column) + 1):
        for support in combinations(range(len(column)), size):
            t = (sum(column[i] for i in support) - 1) / size
            if all((x > t) == (i in support) for i, x in enumerate(column)):
                return [column[i] for i in support]
    raise AssertionError("no support fits")


def _sparsemax(column: list[Decimal]) -> list[Fraction]:
    """Keras's: in its threshold, the largest of k units is counted k times, the next k - 1 times, and so on."""
    exact = [Fraction(x) for x in column]
    left = sorted(_support(exact), reverse=True)
    t = (sum(x * (len(left) - i) for i, x in enumerate(left)) - 1) / len(left)
    return [max(x - t, Fraction(0)) for x in exact]


def columns(dtype: str, far: bool) -> np.ndarray:
    """Five units, one column for each kind: spread, close, ties, one far ahead, negative, one just in sparsemax's support."""
    found = [
        [0.3, -1.2, 2.5, 0.9, -0.4],
        [0.11, 0.12, 0.09, 0.1, 0.13],
        [1.0, 1.0, -2.0, 1.0, 0.5],
        [9.0, -3.0, 0.25, 1.5, 2.0],
        [-7.5, -7.25, -8.0, -9.0, -7.0],
        [0.5, -0.4375, -3.0, -2.0, -1.0],
    ]
    if far:
        found += [[1000.0, -1000.0, 0.0, 999.5, 1.0], [-1000.0, -1000.0, -999.0, -1000.5, -1001.0]]
    return np.array(found, dtype).T


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", COUPLED)
def test_coupled_definitions(name: str, dtype: str) -> None:
    x = columns(dtype, far=True)
    with warnings.catch_warnings(), np.errstate(over="raise", invalid="raise", divide="raise"):
        warnings.simplefilter("error")
        got = activate(name, x)
    assert got.dtype == dtype
    definition: Any = {"softmax": _softmax, "log_softmax": _log_softmax, "sparsemax": _sparsemax}[name]
    u = ROUNDOFF[dtype]
    with localcontext() as context:
        context.prec = DIGITS
        for j, column in enumerate(x.T):
            exact = definition([Decimal(float(v)) for v in column])
            size = float(np.abs(column).max())
            for i, value in enumerate(exact):
                off = abs(float(got[i, j]) - float(value))
                # Keras's sparsemax adds up to fifteen numbers of that size.
                assert off <= 4 * u * abs(float(value)) + 3 * len(column) * u * (1 + size), (name, column, i)


@pytest.mark.parametrize("name", COUPLED)
def test_columns_do_not_mix(name: str) -> None:
    x = columns("float64", far=False)
    together = activate(name, x)
    for j in range(x.shape[1]):
        assert np.array_equal(activate(name, x[:, j : j + 1]), together[:, j : j + 1])


# ---- In the cells: one step, written out, with a function in every place that is not the usual one.


def _plain(name: str, a: np.ndarray) -> np.ndarray:
    """One gate of one row, by the definitions above."""
    column = [Decimal(float(v)) for v in a]
    if name in COUPLED:
        coupled: Any = {"softmax": _softmax, "log_softmax": _log_softmax, "sparsemax": _sparsemax}[name]
        return np.array([float(v) for v in coupled(column)])
    return np.array([float(DEFINITIONS[name](v)) for v in column])


def _one_step(
    spec: Recurrent, blocks: dict[Key, np.ndarray], x: np.ndarray, h: np.ndarray, c: np.ndarray
) -> np.ndarray:
    def inner(gate: str) -> np.ndarray:
        return x @ blocks[Key(0, 0, "kernel", gate)] + blocks[Key(0, 0, "bias", gate)]

    def outer(gate: str, v: np.ndarray = h) -> np.ndarray:
        return v @ blocks[Key(0, 0, "recurrent_kernel", gate)] + blocks[Key(0, 0, "recurrent_bias", gate)]

    f, s = str(spec.activation), str(spec.recurrent_activation)
    if spec.cell == "rnn":
        return _plain(f, inner("h") + outer("h"))
    if spec.cell == "lstm":
        i, forget, o = (_plain(s, inner(g) + outer(g)) for g in "ifo")
        return o * _plain(f, forget * c + i * _plain(f, inner("g") + outer("g")))
    r, z = (_plain(s, inner(g) + outer(g)) for g in "rz")
    reset = r * outer("n") if spec.reset_after else outer("n", r * h)
    return z * h + (1 - z) * _plain(f, inner("n") + reset)


def _blocks(spec: Recurrent) -> dict[Key, np.ndarray]:
    random = np.random.default_rng(5)
    shapes = {"kernel": (3, 4), "recurrent_kernel": (4, 4), "bias": (4,), "recurrent_bias": (4,)}
    gates = {"rnn": "h", "lstm": "ifgo", "gru": "rzn"}[spec.cell]
    return {Key(0, 0, role, g): away_from_zero(random, s, 0.8) for g in gates for role, s in shapes.items()}


@pytest.mark.parametrize(
    "spec",
    [
        *(Recurrent("rnn", 3, 4, activation=name) for name in ACTIVATIONS),
        *(
            Recurrent(cell, 3, 4, activation=f, recurrent_activation=s, **options)
            for cell, options in (("lstm", {}), ("gru", {}), ("gru", {"reset_after": False}))
            for f, s in [
                ("softsign", "hard_sigmoid"),
                ("tanh", KERAS_1_AND_2),
                ("softmax", "tanh"),
                ("elu", "softmax"),
                ("sparsemax", "sparsemax"),
            ]
        ),
    ],
    ids=str,
)
def test_in_the_cells(spec: Recurrent) -> None:
    """The right function in the right place; a function of all units sees one gate of one row at a time."""
    random, blocks = np.random.default_rng(6), _blocks(spec)
    x, h, c = (away_from_zero(random, shape, 0.9) for shape in ((2, 3), (2, 4), (2, 4)))
    state = {"h": h[None, None]} | ({"c": c[None, None]} if spec.cell == "lstm" else {})
    got = reference.run(spec, blocks, x[:, None], state).last
    wanted = np.array([_one_step(spec, blocks, x[row], h[row], c[row]) for row in range(2)])
    assert np.abs(got - wanted).max() < 1e-14


# ---- Keras.


def _keras_names(keras: Any) -> set[str]:
    found = {name for name in dir(keras.activations) if not name.startswith("_")}
    return {name for name in found if callable(getattr(keras.activations, name))} - {"get", "serialize", "deserialize"}


@pytest.mark.needs("keras")
def test_every_function_of_keras_is_known_or_refused() -> None:
    import keras

    refused = set()
    for name in _keras_names(keras):
        if wrong := check_activation(name):
            refused.add(name)
            assert wrong.startswith(("cannot be", "must be"))
        else:
            assert keras.activations.get(name).__name__ == name
    # Two that no cell can use, and two other names of functions that are there.
    assert refused == {"glu", "threshold", "swish", "hard_swish"}
    assert set(ACTIVATIONS) - {KERAS_1_AND_2} == _keras_names(keras) - refused
    assert keras.activations.get("swish") is keras.activations.silu
    assert keras.activations.get("hard_swish") is keras.activations.hard_silu


@pytest.mark.needs("keras")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if n != KERAS_1_AND_2])
def test_keras_computes_the_same(name: str, dtype: str) -> None:
    import keras

    coupled = name in COUPLED
    x = columns(dtype, far=False) if coupled else points(dtype, 12.0)
    given = keras.ops.convert_to_tensor(x.T if coupled else x, dtype)
    theirs = keras.ops.convert_to_numpy(keras.activations.get(name)(given)).astype("float64")
    ours = activate(name, x.astype("float64"))
    # TensorFlow makes its slope 0.2, and its square root of 2, in float32 whatever the dtype of x.
    u = ROUNDOFF["float32" if name in ("leaky_relu", "gelu") else dtype]
    allowed = 8 * u * (1 + np.abs(x.astype("float64")) + np.abs(ours))
    theirs = theirs.T if coupled else theirs
    assert (np.abs(theirs - ours) <= allowed).all()


def test_sparsemax_is_that_of_keras_and_not_of_the_paper() -> None:
    """github.com/keras-team/keras/issues/23425: where more than one unit is left, the paper's is another function.

    The first column is the one in that thread. A Keras that computes 0, 1/4 and 3/4 there has been mended, fails
    test_keras_computes_the_same, and needs another name here.
    """
    got = activate("sparsemax", np.array([[0.0, 0.5, 1.0], [0.1, 0.2, 3.0]]).T).T
    assert got.tolist() == [[0, 0, 0.25], [0, 0, 1]]


@pytest.mark.needs("keras")
def test_the_hard_sigmoid_of_keras_1_and_2_is_not_that_of_today() -> None:
    import keras

    x = np.linspace(-3.5, 3.5, 29)
    theirs = keras.ops.convert_to_numpy(keras.activations.hard_sigmoid(keras.ops.convert_to_tensor(x, "float64")))
    assert np.abs(activate("hard_sigmoid", x) - theirs).max() < 1e-15
    assert np.abs(activate(KERAS_1_AND_2, x) - theirs).max() > 0.08


# ---- What is refused.


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.tanh, "must be the name of an activation function, not <ufunc 'tanh'>; a function of your own cannot"),
        (3, "must be the name of an activation function, not 3"),
        ("", "must be an activation function, not ''; the functions are tanh, sigmoid"),
        ("glu", "cannot be 'glu': it halves the number of units"),
        ("threshold", "cannot be 'threshold': it takes a threshold and a value"),
        ("swish", "must be 'silu', as the function is called here, not 'swish'"),
        ("hard_swish", "must be 'hard_silu', as the function is called here"),
        ("identity", "must be 'linear', as the function is called here"),
        ("logistic", "must be 'sigmoid', as the function is called here"),
        ("tahn", "must be an activation function, not 'tahn'; did you mean 'tanh'?"),
        ("Sigmoid", "must be an activation function, not 'Sigmoid'; did you mean 'sigmoid'?"),
        ("hardsigmoid", "did you mean 'hard_sigmoid'?"),
        ("quux", "must be an activation function, not 'quux'; the functions are tanh, sigmoid, relu"),
    ],
)
def test_what_is_refused(value: Any, words: str) -> None:
    assert words in check_activation(value)
    for option in ("activation", "recurrent_activation"):
        with pytest.raises(SpecError) as error:
            Recurrent("gru", 3, 4, **{option: value})
        assert str(error.value).startswith(f"{option} of the gru ")
        assert words in str(error.value)
        assert str(error.value).endswith(("?", "."))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_what_is_accepted(name: str) -> None:
    assert check_activation(name) == ""
    spec = Recurrent("lstm", 3, 4, activation=name, recurrent_activation=name)
    assert (spec.activation, spec.recurrent_activation) == (name, name)


def test_an_rnn_has_no_gates() -> None:
    with pytest.raises(SpecError, match="recurrent_activation is not an option of the rnn"):
        Recurrent("rnn", 3, 4, recurrent_activation="sigmoid")
    assert getcontext().prec == 28, "the tests' precision stays in the tests"
