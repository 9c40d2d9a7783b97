"""How often the comparison of two whole models names the one difference that was planted between them.

Draws random Keras models as calibrate_graphs.py does, reads each as a graph, makes one mistake in it that no weight tells (an
operation, an activation, an epsilon, a branch left out, states that are exchanged or not handed on, the order of inputs, a
mask), and compares the two as `xframe.verify` does. Right is a verdict that is different and names the layer in which the mistake
is, or inconclusive where no output of any input shows it; *silent* are equivalent verdicts, of which there must be none.

    python scripts/bench_planted.py [CASES] [--seed S] [--processes P]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parent))
from calibrate_graphs import Drawing

from xframe.chatter import silenced
from xframe.errors import SpecError, XframeError
from xframe.forwards import mistakes
from xframe.graph import Graph, graph_of_model
from xframe.graph.probing import held
from xframe.graph.running import probe, run
from xframe.whole import together

_THREADS = [f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL")]


class Case(NamedTuple):
    """One comparison: which kind of mistake, in which words, and what was said."""

    option: str
    name: str
    status: str
    reason: str
    right: bool


def outcome(seed: int, number: int) -> Case | None:
    """What one comparison says; None where the model is not read."""
    import keras

    keras.backend.clear_session()
    random = np.random.default_rng([seed, number, 1])
    with silenced():
        keras.utils.set_random_seed(number)
        model = Drawing(random).model()
        model.set_weights([w + 0.4 * random.uniform(0, 1, w.shape) for w in model.get_weights()])
        try:
            graph = held(graph_of_model(model))
        except XframeError:
            return None
        # What a layer itself does differently, verify says of the layers.
        specs = [node.spec for node in graph.nodes]
        every = [one for one in mistakes(graph) if all(n.spec is None or n.spec in specs for n in one.graph.nodes)]
        # Each kind of mistake as often as any other one.
        options = sorted({one.option for one in every})
        if not options:
            return None
        option = options[int(random.integers(len(options)))]
        chosen = [one for one in every if one.option == option]
        wrong = chosen[int(random.integers(len(chosen)))]
        if same(graph, wrong.graph):
            return None
        found = together(graph, wrong.graph, "float32", 0)
    named = [slip.a for slip in found.slips] + [slip.b for slip in found.slips]
    text = " ".join(found.lacking)
    told = any(name in wrong.name for name in named) or any(
        node.name in wrong.name and node.name in text for node in (*graph.nodes, *wrong.graph.nodes)
    )
    right = found.status == "different" and told
    return Case(wrong.option, wrong.name, found.status, found.reason, right or found.status == "inconclusive")


def same(one: Graph, other: Graph) -> bool:
    """Whether two graphs are one function: on inputs that the comparison does not try, both put out the same."""
    for size in ((4, 9), (3, 17)):
        given = probe(one, *size, seed=99)
        try:
            first, second = run(one, given, "float64"), run(other, given, "float64")
        except SpecError:
            return False
        if any(a.shape != second[name].shape or np.abs(a - second[name]).max() > 1e-9 for name, a in first.items()):
            return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("cases", nargs="?", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args()
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    cases: list[Case] = []
    with multiprocessing.get_context("spawn").Pool(given.processes, maxtasksperchild=50) as pool:
        for case in pool.imap_unordered(partial(outcome, given.seed), range(given.cases)):
            if case is None:
                continue
            cases.append(case)
            if not case.right:
                print(case, file=sys.stderr)
    rows = []
    for option, count in sorted(Counter(case.option for case in cases).items()):
        own = [case for case in cases if case.option == option]
        statuses = Counter(case.status for case in own)
        shares = [statuses[name] for name in ("different", "inconclusive", "equivalent")]
        rows.append([option, count, *shares, f"{sum(case.right for case in own) / count:.1%}"])
    statuses = Counter(case.status for case in cases)
    shares = [statuses[name] for name in ("different", "inconclusive", "equivalent")]
    rows.append(["all", len(cases), *shares, f"{sum(case.right for case in cases) / max(len(cases), 1):.1%}"])
    headers = ["planted in", "models", "different", "inconclusive", "silent", "right"]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
