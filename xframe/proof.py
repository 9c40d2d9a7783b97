"""The proof of a conversion: what was written is run, and judged against the NumPy reference of the source.

What is run is what the user gets. Each output is measured in units of the rounding noise that any correct implementation has.
What the source does too is no difference: outputs that are all zero, or that overflow in that float type. They show nothing
either, and a graph of which nothing else was seen rests on its nodes alone, each of which is written and run by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xframe import noise
from xframe.errors import UnsupportedError
from xframe.graph import Graph, run_model, running
from xframe.graph.probing import LIGHT, Probed, alone, further, has_time, numbers, probed, sizes
from xframe.judging import LIMIT
from xframe.mistakes import parameter_mistakes
from xframe.packing import Parameters
from xframe.writers import opened
from xframe.writers.base import Runner, computed_in

__all__ = ["Proof", "Trial", "check_understood", "resting", "tried"]

# A mistake after which a number is not finite; JSON has no infinity.
_CERTAIN = 1e30


@dataclass(frozen=True)
class Trial:
    """One run of what was written.

    Attributes:
        batch, steps: the size of the input; steps is None where the model reads no time.
        status: ``equivalent``, ``different`` or ``inconclusive``.
        max_abs: the largest difference from the reference.
        noise_ratio: the same in units of rounding noise.
        reason: why it is not equivalent, or why it is, and shows nothing; or empty.
        layer: the node that was written and run alone; empty for the whole.
        drawn: whether that was done with other numbers, because its own show nothing.
        shows: whether there was a number that is finite and not zero.
    """

    batch: int
    steps: int | None
    status: str
    max_abs: float
    noise_ratio: float
    reason: str = ""
    layer: str = ""
    drawn: bool = False
    shows: bool = True


class Proof(NamedTuple):
    """The runs of a graph; and by node and mistake, how many times over the limit it would have been where it shows best."""

    trials: list[Trial]
    margins: Mapping[tuple[str, str], float]

    @property
    def shows(self) -> bool:
        """Whether any run showed something."""
        return any(trial.shows for trial in self.trials)

    @property
    def complete(self) -> bool:
        """Whether there is nothing more to be shown, by these numbers or others."""
        return self.shows and not _missed(self.margins)


def check_understood(model: Any, graph: Graph) -> None:
    """Refuse a model that itself puts out something else than the graph that it was taken for.

    A stateful one is not run, because that would change its states.
    """
    if any(getattr(node.spec, "stateful", False) for node in graph.nodes):
        return
    dtype = computed_in(graph)
    for size in sizes(graph):
        probe = probed(graph, size, dtype)
        given = {
            name: x.astype(dtype) if dtype != "bfloat16" and x.dtype.kind == "f" else x
            for name, x in probe.given.items()
        }
        trial = _judged(graph, probe, run_model(model, given), dtype)
        if trial.status != "equivalent":
            raise UnsupportedError(
                "The model puts out something else than the layers that it is made of, "
                f"{trial.noise_ratio:.3g} times the rounding noise away: something in it is not modelled, such as a call that "
                "was changed; convert its layers one by one."
            )


def tried(graph: Graph, folder: Path, to: str, dtype: str, layer: str = "", entry: str = "") -> Proof:
    """Run what was written; one node alone until every known mistake in its parameters would have shown, or inputs run out.

    Args:
        graph: the source, best one that is `held`.
        folder, to: what was written, and for which target.
        dtype: the float type in which it is judged.
        layer: the node that this is, where it is one alone.
        entry: which of several models in the folder it is.
    """
    run = _runner(graph, folder, to, entry)
    inputs = [probed(graph, size, dtype) for size in sizes(graph)]
    trials = [replace(_judged(graph, one, run(_arrays(one)), dtype), layer=layer) for one in inputs]
    margins: dict[tuple[str, str], float] = {}
    for one in inputs:
        _show(graph, one, margins)
    alone_ = layer or len(graph.nodes) == 1
    for one in further(graph, dtype) if _missed(margins) and alone_ else ():
        before = _missed(margins)
        _show(graph, one, margins)
        if _missed(margins) < before:
            trials.append(replace(_judged(graph, one, run(_arrays(one)), dtype), layer=layer))
        if not _missed(margins):
            break
    return Proof(trials, margins)


def _arrays(probe: Probed) -> list[np.ndarray]:
    return list(probe.given.values())


def _missed(margins: Mapping[tuple[str, str], float]) -> set[tuple[str, str]]:
    """The mistakes that would have passed."""
    return {name for name, margin in margins.items() if margin <= 1}


def resting(graph: Graph, proof: Proof) -> Iterator[Graph]:
    """The nodes that are to be proven alone: those with mistakes that did not show in the graph; all, where nothing did."""
    missed = {name for name, _ in _missed(proof.margins)}
    for i, node in enumerate(graph.nodes):
        if node.name in missed or (not proof.shows and node.kind != "dropout"):
            yield alone(graph, i)


def _runner(graph: Graph, folder: Path, to: str, entry: str) -> Runner:
    """What runs the written model; a stateful one is loaded for each run, so that it begins with zero states."""
    if any(getattr(node.spec, "stateful", False) for node in graph.nodes):
        return lambda arrays: opened(folder, to, entry)(arrays)
    return opened(folder, to, entry)


def _judged(graph: Graph, probe: Probed, found: Sequence[np.ndarray], dtype: str) -> Trial:
    """All outputs beside the reference's: the worst of them, or that which shows least."""
    first = next(iter(probe.given.values()))
    size = len(first), first.shape[1] if has_time(graph) else None
    names = list(probe.clean)
    if len(found) != len(names):
        return Trial(*size, "different", np.inf, np.inf, f"it puts out {len(found)} values, not {len(names)}")
    trials = [_judged_one(graph, probe, name, got, dtype, size) for name, got in zip(names, found, strict=True)]
    worst = max(trials, key=lambda trial: (trial.status != "equivalent", trial.noise_ratio))
    if worst.status == "equivalent" and (silent := [trial for trial in trials if not trial.shows]):
        return replace(worst, shows=len(silent) < len(trials), reason=silent[0].reason)
    return worst


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _judged_one(
    graph: Graph, probe: Probed, name: str, got: np.ndarray, dtype: str, size: tuple[int, int | None]
) -> Trial:
    """One output beside the reference's."""
    clean, deviation = probe.clean[name], probe.deviation[name]
    its = "its output" if len(probe.clean) == 1 else f"its output {name}"
    if got.shape != clean.shape:
        return Trial(*size, "different", np.inf, np.inf, f"{its} is {got.shape}, not {clean.shape}")
    finite = np.isfinite(clean) & np.isfinite(deviation) & np.isfinite(got)
    if not finite.all():
        # A number that the source, computed in this type, puts out has to be one here, too.
        narrow = "float32" if dtype == "bfloat16" else dtype  # NumPy has no bfloat16; the range is the same
        own = running.run(graph, probe.given, narrow)[name]
        if np.any(~np.isfinite(got) & (np.abs(own) < np.finfo(narrow).max / 2)):
            return Trial(*size, "different", np.inf, np.inf, f"{its} is not finite")
    if not finite.any():
        return Trial(*size, "equivalent", 0.0, 0.0, f"in {dtype} it overflows, as the source does", shows=False)
    ratios, off = noise.ratio(got, clean, deviation)[finite], float(np.abs(got - clean)[finite].max())
    ratio = float(ratios.max())
    if ratio > LIMIT:
        where = "" if len(probe.clean) == 1 else f"{its} is "
        return Trial(*size, "different", off, ratio, f"{where}off by {off:.2g}, {ratio:.3g} times the rounding noise")
    if not clean[finite].any():
        return Trial(*size, "equivalent", off, ratio, "all outputs are zero, as those of the source are", shows=False)
    return Trial(*size, "equivalent", off, ratio)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _show(graph: Graph, probe: Probed, margins: dict[tuple[str, str], float]) -> None:
    """Enter by how much each mistake in a recurrent layer's parameters would show on an input, unless it showed before."""
    if numbers(graph) > LIGHT:
        return
    for name, changed in _mistakes(graph):
        if margins.get(name, 0.0) > 1:
            continue
        seen = 0.0
        for output, got in running.run(changed, probe.given, "float64").items():
            clean, deviation = probe.clean[output], probe.deviation[output]
            finite = np.isfinite(clean) & np.isfinite(deviation)
            ratios = noise.ratio(got, clean, deviation)[finite] / LIMIT
            seen = max(seen, float(np.nan_to_num(ratios, nan=_CERTAIN, posinf=_CERTAIN).max(initial=0.0)))
        margins[name] = max(margins.get(name, 0.0), seen)


def _mistakes(graph: Graph) -> Iterator[tuple[tuple[str, str], Graph]]:
    """Each known mistake: the names of layer and mistake, and the graph with it, at all calls of the layer."""
    for layer in {node.name: node for node in graph.nodes if node.kind == "recurrent"}.values():
        assert layer.spec is not None
        params = Parameters(layer.spec, dict(layer.params()))
        for mistake, changed in parameter_mistakes(layer.spec, params):
            if not all(np.array_equal(block, params[key]) for key, block in changed.items()):
                wrong = partial(params.replaced, changed)
                nodes = tuple(replace(one, params=wrong) if one.name == layer.name else one for one in graph.nodes)
                yield (layer.name, mistake), replace(graph, nodes=nodes)
