"""Normalisations of a batch that another file holds as a factor and a summand, which is all that they are at inference.

With the mean m and the variance v of the training, gamma (x - m) / sqrt(v + epsilon) + beta is x s + t, with the scale
s = gamma / sqrt(v + epsilon) and the offset t = beta - m s. Exporters write the latter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xframe.judging import LIMIT

if TYPE_CHECKING:
    from xframe.recognition import Findings

__all__ = ["Normalisation", "folded", "normalisations"]

# What the frameworks call the four; Keras numbers them in this order, without those that the layer has not.
_ROLES = {
    **dict.fromkeys(("gamma", "weight"), "gamma"),
    **dict.fromkeys(("beta", "bias"), "beta"),
    **dict.fromkeys(("moving_mean", "running_mean"), "mean"),
    **dict.fromkeys(("moving_variance", "running_var"), "variance"),
}
# The defaults of Keras and of PyTorch.
_EPSILONS = (1e-3, 1e-5)


@dataclass(frozen=True)
class Normalisation:
    """A normalisation of a batch: its name, its tensors by what they are in it, and the epsilons that it may have."""

    name: str
    tensors: Mapping[str, str]
    epsilons: tuple[float, ...]


def normalisations(found: Findings) -> Iterator[Normalisation]:
    """Those of a file."""
    options = {layer.name: layer.options for layer in found.file.layers}
    for other in found.others:
        own = options.get(other.name, {})
        if other.kind in ("BatchNormalization", "BatchNormalizationV1"):
            given = [role for role, option in (("gamma", "scale"), ("beta", "center")) if own.get(option, True)]
            tensors: dict[str, str] = {}
            for label, name in other.tensors.items():
                last = re.split("[/.]", label.removesuffix(":0"))[-1]
                numbered = dict(enumerate([*given, "mean", "variance"]))
                role = numbered.get(int(last)) if last.isdecimal() and len(last) < 3 else _ROLES.get(last)
                tensors |= {role: name} if role else {}
            epsilon = own.get("epsilon")
            if {"mean", "variance"} <= set(tensors):
                yield Normalisation(
                    other.name, tensors, (float(epsilon),) if isinstance(epsilon, int | float) else _EPSILONS
                )


def folded(
    one: Normalisation, arrays: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]
) -> tuple[str, str] | None:
    """The names of the scale and of the offset that a normalisation is in another file, or None.

    Args:
        one: the normalisation.
        arrays: its own tensors, by their names.
        others: what the other file holds.
    """
    own = {role: np.asarray(arrays[name], np.float64) for role, name in one.tensors.items()}
    shape = own["variance"].shape
    gamma, beta = own.get("gamma", np.ones(shape)), own.get("beta", np.zeros(shape))
    for epsilon in one.epsilons:
        with np.errstate(all="ignore"):  # of a variance that is none, nothing is found
            scale = gamma / np.sqrt(own["variance"] + epsilon)
        shift = own["mean"] * scale
        # Each is as good as the numbers that it was summed of.
        first = next((n for n, other in others.items() if _near(scale, other, abs(scale))), None)
        size = abs(beta) + abs(shift)
        second = next((n for n, other in others.items() if n != first and _near(beta - shift, other, size)), None)
        if first is not None and second is not None:
            return first, second
    return None


def _near(wanted: np.ndarray, other: np.ndarray, size: np.ndarray) -> bool:
    """Whether rounding explains the difference of an array from what it would be."""
    given = np.squeeze(other)
    if given.shape != np.squeeze(wanted).shape or other.dtype.kind != "f":
        return False
    room = LIMIT * np.finfo(other.dtype).eps * np.squeeze(size)
    return bool((abs(given.astype(np.float64) - np.squeeze(wanted)) <= room).all())
