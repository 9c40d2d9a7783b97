"""What a mistake is: a change of a layer, of what it is run on, or of what becomes of its outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from xframe import noise, reference
from xframe.layout import Key
from xframe.reference import Given, Outputs
from xframe.spec import Layer

__all__ = ["After", "Case", "Mistake", "Variation"]

# What becomes of outputs; it moves, leaves out or scales numbers, so that noise can go through it too.
After = Callable[[Outputs], Outputs]


@dataclass(frozen=True)
class Case:
    """A layer, what it is run on, and what becomes of its outputs.

    Attributes:
        spec, params: the layer and its canonical parameters.
        given: what it is run on.
        after: what becomes of its outputs, one after the other.
    """

    spec: Layer
    params: Mapping[Key, np.ndarray]
    given: Given
    after: tuple[After, ...] = ()

    def run(self) -> dict[str, np.ndarray]:
        """What the reference puts out, by name (`xframe.reference.Outputs.named`), in the float type of the input."""
        return self._handed_on(reference.run_given(self.spec, self.params, self.given)).named()

    def noise(self, dtype: str) -> noise.Noise:
        """The same in float64, and the rounding noise of ``dtype`` around it."""
        truth = noise.measure(self.spec, self.params, self.given, dtype)
        if not self.after:
            return truth
        deviation = self._handed_on(_outputs(truth.deviation)).named()
        return noise.Noise(
            self._handed_on(_outputs(truth.clean)).named(),
            {name: np.abs(values) + np.finfo(np.float32).tiny for name, values in deviation.items()},
        )

    def then(self, after: After) -> Case:
        """The same with one more thing done to its outputs."""
        return replace(self, after=(*self.after, after))

    def _handed_on(self, outputs: Outputs) -> Outputs:
        for after in self.after:
            outputs = after(outputs)
        return outputs


def _outputs(named: Mapping[str, np.ndarray]) -> Outputs:
    """Outputs from their names."""
    if "output" in named:
        return Outputs(named["output"], named["output"], {})
    states = {name.removeprefix("state "): values for name, values in named.items() if name.startswith("state ")}
    return Outputs(named["sequence"], named["last"], states)


@dataclass(frozen=True)
class Variation:
    """One mistake, made in one way.

    Attributes:
        name: what exactly is wrong, as the end of "b is a with ...": ``gates r and z swapped``.
        mend: one sentence that tells what to do.
        change: makes the mistake. It takes any case of a layer of the same cell and sizes (another input, or one in which
            another mistake has been made), and gives it back as it is where the mistake makes no difference: a mask that is
            ignored where there is none.
        probed: on which call of a verdict's own probe it is tried, to show the power of the verdict: the ``first``, one with
            a ``mask``, or the ``second``, which carries states on; empty for none.
    """

    name: str
    mend: str
    change: Callable[[Case], Case]
    probed: str = ""


@dataclass(frozen=True)
class Mistake:
    """One entry of the catalogue.

    Attributes:
        name: short: ``gate order``.
        called: what people call it, or search for.
        why: how it comes about and what it does, in one or two sentences.
        vary: every way in which it can be made in a layer, the likeliest first.
        surprise: how unlikely it is, from 0: of two explanations that fit alike the less surprising one is named.
    """

    name: str
    called: tuple[str, ...]
    why: str
    vary: Callable[[Case], Iterator[Variation]]
    surprise: int = 0
