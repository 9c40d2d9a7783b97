"""What is not as it was when a baseline was recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from xframe import noise
from xframe.adapters.base import Adapter
from xframe.baseline.defaults import Change, changes
from xframe.baseline.stored import Baseline, RecordedInput
from xframe.spec import plural

__all__ = ["Memory", "changed_since", "unchanged", "versions"]


def changed_since(baseline: Baseline, adapters: Sequence[Adapter]) -> Iterator[Change]:
    """The names of all frameworks that mean something else now."""
    for adapter in adapters:
        if adapter.name in baseline.defaults:
            yield from changes(adapter, baseline.defaults[adapter.name], baseline.layers)


class Memory:
    """What frameworks put out now beside what they did when they were recorded."""

    def __init__(self) -> None:
        self._worst: dict[str, tuple[float, float]] = {}

    def compare(self, framework: str, given: RecordedInput, dtype: str, outputs: Mapping[str, np.ndarray]) -> None:
        """Take in what a framework puts out on a recorded input, by output name."""
        then, truth = given.native.get((framework, dtype)), given.noise(dtype)
        if then is None:
            return
        for name, values in then.items():
            if name in outputs and outputs[name].shape == values.shape:
                apart = float(np.abs(outputs[name].astype(np.float64) - values).max())
                ratio = float(noise.ratio(outputs[name], values.astype(np.float64), truth.deviation[name]).max())
                self._worst[framework] = max(self._worst.get(framework, (0.0, 0.0)), (ratio, apart))

    def sentences(self, adapters: Sequence[Adapter]) -> Iterator[str]:
        """How near each framework is to what it put out then."""
        for adapter in adapters:
            if adapter.name in self._worst:
                ratio, apart = self._worst[adapter.name]
                same = f"{adapter.title} puts out what it did when this was recorded"
                yield same + (f", but for {apart:.1e}, {ratio:.2g} times the noise." if apart else ", to the last bit.")


def unchanged(baseline: Baseline, adapters: Sequence[Adapter], changed: Sequence[Change]) -> Iterator[str]:
    """Of which frameworks no name has changed its meaning, and of which that is not known."""
    for adapter in adapters:
        if adapter.name not in baseline.defaults:
            yield f"{adapter.title} was not there when this was recorded: its defaults and functions cannot be compared."
        elif not any(change.framework == adapter.name for change in changed):
            then = baseline.defaults[adapter.name]
            functions = plural(len(then.functions), "activation function")
            yield f"{adapter.title}'s {functions} and the defaults of its {plural(len(then.layers), 'layer')} mean what they did."


def versions(baseline: Baseline, adapters: Sequence[Adapter], now: Mapping[str, str]) -> Iterator[str]:
    """What is of another version."""
    titles = {one.name: one.title for one in adapters}
    for name, text in now.items():
        then = baseline.environment.get(name, text)
        if then != text:
            yield f"{titles.get(name, name)} was {then} when this was recorded and is {text} now."
