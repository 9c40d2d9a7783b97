"""Options of the steps between the layers, which no weight tells, so that moving the weights does not bring them along."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["STEP_MISTAKES", "StepMistake", "of_option"]


@dataclass(frozen=True)
class StepMistake:
    """An option that two models have differently.

    Attributes:
        name: short: ``epsilon``.
        called: what people call it, or search for.
        why: how it comes about and what it does, in one or two sentences.
    """

    name: str
    called: tuple[str, ...]
    why: str


_MISTAKES = {
    "epsilon": StepMistake(
        "epsilon",
        ("eps", "epsilon", "BatchNormalization", "LayerNorm", "small difference after conversion"),
        "Unless they are told otherwise, Keras's normalisations add epsilon=0.001 to the variance and PyTorch's eps=1e-05. No "
        "weight tells which, and where the variance is near 1 the outputs are off by little.",
    ),
    "activation": StepMistake(
        "activation between layers",
        ("activation", "relu", "leaky_relu slope", "negative_slope", "softmax", "logits"),
        "An activation has no weights, so that nothing of it is in a file of weights. The slope of a leaky one that is given "
        "none is 0.3 in Keras's layer, 0.2 in its function, and 0.01 in PyTorch.",
    ),
    "sequence": StepMistake(
        "whole sequence",
        ("return_sequences", "last output", "output[:, -1]"),
        "A recurrent layer of Keras hands on its last output unless it is told return_sequences=True; PyTorch's hands on the "
        "whole sequence.",
    ),
    "mask_zero": StepMistake(
        "mask of an embedding",
        ("mask_zero", "padding_idx", "pack_padded_sequence"),
        "With mask_zero=True the layers that follow pass over the words 0. PyTorch's padding_idx makes no mask.",
    ),
}
_OTHER = StepMistake(
    "option of a step", ("configuration",), "No weight tells it, so that moving the weights does not bring it along."
)
STEP_MISTAKES = (*_MISTAKES.values(), _OTHER)


def of_option(option: str) -> StepMistake:
    """The entry for an option of a node (`xframe.graph.kinds.base.Kind.options`); ``activation`` for all of an activation."""
    return _MISTAKES.get(option, _OTHER)
