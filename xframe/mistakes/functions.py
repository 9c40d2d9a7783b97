"""Other functions of the right parameters: activations, the reset gate, merging."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from xframe.activations import ACTIVATIONS
from xframe.mistakes.base import Case, Mistake, Variation
from xframe.mistakes.making import parts, with_blocks, with_options
from xframe.reference import Outputs
from xframe.spec import Recurrent

__all__ = ["ENTRIES"]

# What an activation function is taken for most often.
_SLIPS: dict[str, tuple[str, ...]] = {
    "tanh": ("relu",),
    "relu": ("tanh",),
    "sigmoid": ("hard_sigmoid", "hard_sigmoid_keras2"),
    "hard_sigmoid": ("hard_sigmoid_keras2", "sigmoid"),
    "hard_sigmoid_keras2": ("hard_sigmoid", "sigmoid"),
}
# With the parameters that they have here, one function.
_ALIKE = ("elu", "celu")
_WHERE = {"activation": "", "recurrent_activation": " in the gates"}
_SLOPES = (
    " (here hard_sigmoid is that of Keras 3, of slope 1/6, and hard_sigmoid_keras2 that of Keras 1 and 2, of slope 0.2)"
)


def _option(part: Recurrent, option: str, wanted: Any, other: Any) -> Mapping[str, Any]:
    return {option: other} if getattr(part, option) == wanted else {}


def _instead(option: str, wanted: str, other: str, probed: str) -> Variation:
    mend = f"Give the layer {option}={wanted!r}, not {other!r}{_SLOPES if 'hard_sigmoid' in wanted + other else ''}."
    change = partial(with_options, options=partial(_option, option=option, wanted=wanted, other=other))
    return Variation(f"{other} instead of {wanted}{_WHERE[option]}", mend, change, probed)


def _names(case: Case, option: str) -> list[str]:
    """The activation functions that an option has in any part of the layer."""
    if not isinstance(case.spec, Recurrent):
        return []
    return [name for name in dict.fromkeys(getattr(part, option) for _, part in parts(case.spec)) if name]


def _likely(option: str, case: Case) -> Iterator[Variation]:
    for name in _names(case, option):
        yield from (_instead(option, name, slip, "first") for slip in _SLIPS.get(name, ("tanh",)))


def _unlikely(case: Case) -> Iterator[Variation]:
    for option in _WHERE:
        for name in _names(case, option):
            known = {name, *_SLIPS.get(name, ("tanh",)), *(_ALIKE if name in _ALIKE else _ALIKE[1:])}
            yield from (_instead(option, name, other, "") for other in ACTIVATIONS if other not in known)


def _placed(part: Recurrent, wanted: bool) -> Mapping[str, Any]:
    # r (h U) is (r h) U where U is a number and nothing is added to it.
    alike = part.hidden_size == 1 and not part.bias
    return {} if alike else _option(part, "reset_after", wanted, not wanted)


def _reset(case: Case) -> Iterator[Variation]:
    recurrent = [part for _, part in parts(case.spec)] if isinstance(case.spec, Recurrent) else []
    placements = {part.reset_after for part in recurrent if _placed(part, bool(part.reset_after))}
    for after in (True, False):
        if after in placements:
            before, mend = ("before", "after") if after else ("after", "before")
            yield Variation(
                f"reset gate {before} the product",
                f"Apply the reset gate {mend} the product with the recurrent kernel: reset_after={after} in Keras, "
                f"linear_before_reset={int(after)} in ONNX; torch.nn.GRU has it after the product only.",
                partial(with_options, options=partial(_placed, wanted=after)),
                "first",
            )


# s(-x) = 1 - s(x).
_SIGMOIDS = ("sigmoid", "hard_sigmoid", "hard_sigmoid_keras2", "sparse_sigmoid")


def _turned(case: Case) -> Case:
    return with_blocks(case, {key: -block for key, block in case.params.items() if key.gate == "z"})


def _update(case: Case) -> Iterator[Variation]:
    cells = [part for _, part in parts(case.spec) if part.cell == "gru"]
    if cells and all(part.recurrent_activation in _SIGMOIDS for part in cells):
        yield Variation(
            "update gate the other way round, (1 - z) h + z n",
            "Mix the states as z h + (1 - z) n, as Keras, PyTorch and ONNX do, or negate all blocks of gate z.",
            _turned,
        )


class _WithoutStateActivation(Recurrent):
    """A layer whose LSTMs compute h' = o c' instead of h' = o tanh(c')."""

    @property
    def state_activation(self) -> str:
        return "linear"


def _without_state_activation(spec: Recurrent) -> Recurrent:
    options = {
        **spec.options(),
        "backward": spec.backward and _without_state_activation(spec.backward),
        "stacked": tuple(map(_without_state_activation, spec.stacked)),
    }
    return _WithoutStateActivation(**options)


def _state_activation_forgotten(case: Case) -> Case:
    spec = case.spec
    if not isinstance(spec, Recurrent) or isinstance(spec, _WithoutStateActivation):
        return case
    return replace(case, spec=_without_state_activation(spec))


def _state_activation(case: Case) -> Iterator[Variation]:
    cells = [part for _, part in parts(case.spec) if part.cell == "lstm" and part.activation != "linear"]
    if cells:
        name = cells[0].activation
        mend = f"Compute h = o {name}(c): the output gate multiplies the {name} of the cell state, not the cell state itself."
        yield Variation(f"{name} of the cell state forgotten, h = o c", mend, _state_activation_forgotten)


_MERGES = ("sum", "ave", "mul")


def _merged(case: Case, wanted: str | None, other: str) -> Case:
    spec = case.spec
    if not isinstance(spec, Recurrent) or spec.merge_mode != wanted:
        return case
    return replace(case, spec=replace(spec, merge_mode=other))


def _merging(case: Case) -> Iterator[Variation]:
    wanted = getattr(case.spec, "merge_mode", None)
    for other in _MERGES if wanted in _MERGES else ():
        if other != wanted:
            mend = f"Merge the two directions with merge_mode={wanted!r}, not {other!r}."
            yield Variation(
                f"merge_mode {other} instead of {wanted}", mend, partial(_merged, wanted=wanted, other=other), "first"
            )


# Both are no steeper than 1 anywhere and leave zero where it is, so that noise can go through them.
_FURTHER: dict[str, Callable[[np.ndarray], np.ndarray]] = {"tanh": np.tanh, "relu": partial(np.maximum, 0)}


def _activated(name: str, out: Outputs) -> Outputs:
    return replace(out, sequence=_FURTHER[name](out.sequence), last=_FURTHER[name](out.last))


def _further(case: Case) -> Iterator[Variation]:
    for name in _FURTHER:
        mend = f"Take the {name} after the layer away: what the layer puts out has been through its activation already."
        yield Variation(f"a further {name} on its output", mend, partial(Case.then, after=partial(_activated, name)))


ENTRIES = (
    Mistake(
        "reset gate",
        ("reset_after", "linear_before_reset", "reset gate applied before or after", "CuDNNGRU"),
        "A GRU can apply its reset gate before the product with the recurrent kernel or after it. Both have the same shapes; "
        "they are two functions.",
        _reset,
    ),
    Mistake(
        "update gate",
        ("z or 1 - z", "update gate convention", "Cho et al."),
        "Papers write the mixture of the old state and the candidate both ways; the frameworks take z for the share of the old.",
        _update,
        1,
    ),
    Mistake(
        "gate activation",
        ("hard_sigmoid", "recurrent_activation", "slope 0.2", "slope 1/6"),
        "Old Keras layers have a hard sigmoid in their gates, whose slope is 0.2 in Keras 1 and 2 and 1/6 in Keras 3; other "
        "layers have the sigmoid.",
        partial(_likely, "recurrent_activation"),
    ),
    Mistake(
        "activation",
        ("activation", "relu", "tanh", "nonlinearity", "cuDNN has tanh only"),
        "cuDNN and PyTorch's layers know few activation functions, and leave the one that was asked for away.",
        partial(_likely, "activation"),
    ),
    Mistake(
        "activation of the cell state",
        ("h = o * c", "tanh(c) missing", "hand-written LSTM"),
        "An LSTM computes h = o tanh(c). Written by hand, the second tanh is easily left out; the shapes fit.",
        _state_activation,
        1,
    ),
    Mistake(
        "merge mode",
        ("merge_mode", "sum or average of directions"),
        "The two directions were merged in another way, which gives the same shape.",
        _merging,
    ),
    Mistake(
        "further activation",
        ("an extra tanh", "activation twice", "output activation"),
        "The activation of a recurrent layer acts inside its cell. It needs no other one behind it.",
        _further,
        1,
    ),
    Mistake(
        "other activation",
        ("activation",),
        "The layer has another activation function.",
        _unlikely,
        3,
    ),
)
