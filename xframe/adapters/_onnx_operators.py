"""What ONNX's recurrent operators can be told, and what a node of them says: tables, and both directions between them.

Source: https://onnx.ai/onnx/operators/ (RNN-22, LSTM-22, GRU-22).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from xframe.errors import UnsupportedError

__all__ = ["CELLS", "INSIDE", "OPERATORS", "cell_options", "functions", "refusal", "told"]

OPERATORS = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
CELLS = {operator: cell for cell, operator in OPERATORS.items()}

# What RNN, LSTM and GRU can be told: the name, alpha and beta.
INSIDE: dict[str, tuple[str, float | None, float | None]] = {
    "tanh": ("Tanh", None, None),
    "sigmoid": ("Sigmoid", None, None),
    "relu": ("Relu", None, None),
    "linear": ("Affine", 1.0, 0.0),
    "hard_sigmoid": ("HardSigmoid", 1 / 6, 0.5),
    "hard_sigmoid_keras2": ("HardSigmoid", 0.2, 0.5),
    "sparse_sigmoid": ("HardSigmoid", 0.5, 0.5),
    "leaky_relu": ("LeakyRelu", 0.2, None),
    "elu": ("Elu", 1.0, None),
    "softsign": ("Softsign", None, None),
    "softplus": ("Softplus", None, None),
}
# One direction's, where the node names none.
_GIVEN = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
# Alpha and beta where the node gives none; no number where the function takes none. ONNX Runtime takes 0 for those of Affine,
# ScaledTanh and ThresholdedRelu, whatever the operators of these names have, so that they have no default here.
_DEFAULTS: dict[str, tuple[float | None, ...]] = {
    "hardsigmoid": (0.2, 0.5),
    "leakyrelu": (0.01,),
    "elu": (1.0,),
    "affine": (None, None),
    "scaledtanh": (None, None),
    "thresholdedrelu": (None,),
}
_NEAR = 1e-6  # attributes are float32


def functions(part: Any) -> list[str]:
    """The activations of one direction of a layer in the operator's order: f (and g, h)."""
    activation, gate = str(part.activation), str(part.recurrent_activation)
    return {"rnn": [activation], "gru": [gate, activation], "lstm": [gate, activation, activation]}[part.cell]


def told(names: Iterable[str]) -> dict[str, Any]:
    """The attributes that tell an operator its functions, all of which are in `INSIDE`."""
    found = [INSIDE[name] for name in names]
    alphas, betas = ([one[i] for one in found if one[i] is not None] for i in (1, 2))
    given = {"activation_alpha": alphas, "activation_beta": betas}
    return {"activations": [one[0] for one in found], **{key: value for key, value in given.items() if value}}


def refusal(options: Mapping[str, Any], peepholes: bool, turned: bool = False) -> str:
    """Why a node is not modelled, as the end of a sentence, or nothing.

    Args:
        options: its attributes.
        peepholes: whether it has the input P.
        turned: whether the output of a reverse node is turned round after it.
    """
    if peepholes:
        return "it has peepholes (input P), which no other framework has"
    # A clip of 0 is none to nobody: ONNX Runtime's RNN then puts out zeros, and its LSTM and GRU refuse it.
    if options.get("clip") is not None:
        return f"clip={options['clip']!r} bounds what goes into the activations"
    if options.get("input_forget"):
        return "input_forget=1 couples the input gate with the forget gate"
    if (way := options.get("direction", "forward")) not in (
        "forward",
        "bidirectional",
        *(["reverse"] if turned else []),
    ):
        return f"direction={way!r} alone reads time backwards and turns its output back; reverse x and the output"
    return ""


def cell_options(title: str, kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The cell, its activations, and directions of a node, as a `Recurrent` has them.

    Args:
        title: what the node is called, to begin a sentence.
        kind: its operator.
        options: its attributes; what is not there is as the operator has it by default.

    Raises:
        UnsupportedError: its activations are not modelled.
    """
    cell, both = CELLS[kind], options.get("direction", "forward") == "bidirectional"
    found = _activations(title, kind, options, 2 if both else 1)
    per = len(_GIVEN[kind])
    halves = [found[i : i + per] for i in range(0, len(found), per)]
    if any(half != halves[0] for half in halves) or (cell == "lstm" and halves[0][1] != halves[0][2]):
        raise UnsupportedError(
            f"{title} has the activations {', '.join(found)}, which are not modelled: directions, and the candidate and the "
            "output of an LSTM, must have the same."
        )
    wanted: dict[str, Any] = {"cell": cell, "bidirectional": both, "activation": halves[0][0 if cell == "rnn" else 1]}
    if cell != "rnn":
        wanted["recurrent_activation"] = halves[0][0]
    if cell == "gru":
        wanted["reset_after"] = bool(options.get("linear_before_reset", 0))
    return wanted


def _activations(title: str, kind: str, options: Mapping[str, Any], directions: int) -> list[str]:
    """All activations of a node by the names that they have here, one direction after the other."""
    wanted = _GIVEN[kind] * directions
    given = [str(name) for name in options.get("activations") or wanted]
    if len(given) != len(wanted):
        raise UnsupportedError(
            f"{title} has {len(given)} activations where ONNX asks for {len(wanted)}; check the model."
        )
    # Parameters go, in order, to those functions that take some.
    left = [_numbers(options.get(f"activation_{which}")) for which in ("alpha", "beta")]
    found = []
    for name in given:
        numbers = [
            own.pop(0) if own else default for own, default in zip(left, _DEFAULTS.get(name.lower(), ()), strict=False)
        ]
        found.append(_activation(title, name, numbers))
    return found


def _numbers(given: Any) -> list[float]:
    return [float(number) for number in given] if isinstance(given, Sequence) and not isinstance(given, str) else []


def _activation(title: str, name: str, numbers: Sequence[float | None]) -> str:
    alpha, beta = (*numbers, None, None)[:2]
    if None in numbers:
        raise UnsupportedError(
            f"{title} is not modelled: its activation {name} is not given all of its parameters, which ONNX Runtime then takes "
            "for 0; give activation_alpha and activation_beta."
        )
    for ours, (known, *wanted) in INSIDE.items():
        if known.lower() == name.lower() and _same(alpha, wanted[0]) and _same(beta, wanted[1]):
            return ours
    raise UnsupportedError(
        f"{title} is not modelled: its activation {name} with alpha={alpha} and beta={beta} is none that xframe knows."
    )


def _same(given: float | None, wanted: float | None) -> bool:
    if given is None or wanted is None:
        return given is wanted
    return abs(given - wanted) < _NEAR
