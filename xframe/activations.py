"""The activation functions by name: all that Keras 3 ships and a cell can use, and the hard sigmoid of Keras 1 and 2.

Names and equations only; NumPy's versions are in `xframe.arithmetic`. Parameters are Keras's defaults.
Source: keras/src/activations/activations.py of Keras 3.15; keras/activations.py of Keras 2.2 for ``hard_sigmoid_keras2``.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ACTIVATIONS", "Activation", "alike", "check_activation"]


class Activation(NamedTuple):
    """An activation function.

    Attributes:
        equation: what it computes of one number x (of all units x_i together where ``coupled``).
        absolute: its rounding error beside the relative one, in units of the roundoff: ``""`` for none, ``"1"`` for
            one, ``"x"`` for 1 + |x|, where two numbers of that size may cancel.
        coupled: whether the units of a gate depend on each other.
        single: whether TensorFlow keeps a constant of it in float32 in layers of every type: in float64 too it is then
            only as exact as in float32.
    """

    equation: str
    absolute: str = "x"
    coupled: bool = False
    single: bool = False


ACTIVATIONS: dict[str, Activation] = {
    "tanh": Activation("tanh(x)", ""),
    "sigmoid": Activation("1/(1 + exp(-x))", "1"),
    "relu": Activation("max(x, 0)", ""),
    "linear": Activation("x", ""),
    "hard_sigmoid": Activation("min(max(x/6 + 1/2, 0), 1)"),
    "hard_sigmoid_keras2": Activation("min(max(0.2 x + 1/2, 0), 1), the hard_sigmoid of Keras 1 and 2"),
    "relu6": Activation("min(max(x, 0), 6)", ""),
    "leaky_relu": Activation("x if x > 0 else 0.2 x", "", single=True),
    "elu": Activation("x if x > 0 else exp(x) - 1"),
    "selu": Activation("1.0507 (x if x > 0 else 1.6733 (exp(x) - 1))"),
    "celu": Activation("x if x > 0 else exp(x) - 1"),
    "gelu": Activation("x (1 + erf(x/sqrt(2)))/2", single=True),
    "silu": Activation("x sigmoid(x)"),
    "mish": Activation("x tanh(log(1 + exp(x)))"),
    "softplus": Activation("log(1 + exp(x))"),
    "softsign": Activation("x/(1 + |x|)", ""),
    "squareplus": Activation("(x + sqrt(x^2 + 4))/2"),
    "exponential": Activation("exp(x)"),
    "log_sigmoid": Activation("-log(1 + exp(-x))"),
    "hard_tanh": Activation("min(max(x, -1), 1)", ""),
    "hard_silu": Activation("x hard_sigmoid(x)"),
    "tanh_shrink": Activation("x - tanh(x)"),
    "soft_shrink": Activation("x - 1/2 if x > 1/2, x + 1/2 if x < -1/2, else 0"),
    "hard_shrink": Activation("x if |x| > 1/2 else 0", ""),
    "sparse_plus": Activation("0 if x <= -1, (x + 1)^2/4 if x < 1, else x"),
    "sparse_sigmoid": Activation("min(max((x + 1)/2, 0), 1)"),
    "softmax": Activation("exp(x_i)/sum_j exp(x_j)", "x", coupled=True),
    "log_softmax": Activation("x_i - log(sum_j exp(x_j))", "x", coupled=True),
    # Not the sparsemax of A. Martins and R. Astudillo, arXiv:1602.02068, where t is (s_k - 1)/k and the result sums to 1:
    # Keras 3.15 adds up all s_j instead, on every backend. A layer trained with it is the function that it was trained as.
    "sparsemax": Activation(
        "max(x_i - t, 0), t = (s_1 + ... + s_k - 1)/k with s_j the sum of the j largest x and k the number of them for which "
        "j x_j > s_j - 1 (as Keras ships it)",
        "x",
        coupled=True,
    ),
}

_UNUSABLE = {
    "glu": "it halves the number of units, and a cell needs them all",
    "threshold": "it takes a threshold and a value, which its name does not tell",
}
_OTHER_NAMES = {"swish": "silu", "hard_swish": "hard_silu", "identity": "linear", "logistic": "sigmoid"}


def alike(one: str, other: str) -> bool:
    """Whether two names are of one function."""
    return ACTIVATIONS[one].equation == ACTIVATIONS[other].equation


def check_activation(value: object) -> str:
    """Nothing if the value names an activation function; else the rest of a sentence that begins with the option."""
    if not isinstance(value, str):
        return (
            f"must be the name of an activation function, not {value!r}; a function of your own cannot be compared, because "
            "nobody else knows what it computes"
        )
    if value in ACTIVATIONS:
        return ""
    if value in _UNUSABLE:
        return f"cannot be {value!r}: {_UNUSABLE[value]}"
    if value in _OTHER_NAMES:
        return f"must be {_OTHER_NAMES[value]!r}, as the function is called here, not {value!r}"
    from difflib import get_close_matches  # only for a mistake

    near = get_close_matches(value, ACTIVATIONS, 1, 0.6)
    known = f"did you mean {near[0]!r}?" if near else f"the functions are {', '.join(ACTIVATIONS)}"
    return f"must be an activation function, not {value!r}; {known}"
