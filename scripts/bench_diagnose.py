"""How often the diagnosis names the mistake that was made, and how long it takes.

Draws random layers (cell, sizes, options, masks, states), what is known of their outputs (all, the sequence, or the last one),
and whether the other side's parameters are known. In each a mistake of the catalogue is made, or two, or none. The evidence is
of two kinds. *Recorded*: the outputs are computed in float32, those of some layers without a mistake by PyTorch. *Compared*:
they are computed in a float64 copy, as xframe.compare does it, and all of them are there; the other side's parameters are
known, and were rounded to float32, in some layers with the two biases summed to one, as in a port by hand; those of a layer
that was built from a spec are not known, and were not rounded. Right is a diagnosis that names this very mistake, or one that
makes the same function: on another, longer input both put out the same within the noise of float64. A mistake that does not
show in the outputs is drawn anew. The times are those of one core, for layers of 64 units on 50 time steps, recorded.

    python scripts/bench_diagnose.py [--cases 2000] [--seed 0] [--processes 2] [--failures]
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from xframe import noise
from xframe.adapters import get_adapter
from xframe.diagnosis.evidence import Evidence
from xframe.diagnosis.explaining import explain
from xframe.diagnosis.naming import differing
from xframe.diagnosis.search import Candidate, candidates
from xframe.errors import UnsupportedError, XframeError
from xframe.judging import LIMIT
from xframe.layout import folds
from xframe.mistakes import CATALOGUE, Case
from xframe.packing import Parameters
from xframe.probe import Probe, draw_input, draw_masks, draw_parameters, draw_state
from xframe.reference import Given
from xframe.spec import Layer, Recurrent

# How many draws are tried for mistakes that show.
_DRAWS = 200
_BARS = {"one": 0.99, "two": 0.90, "none": 1.0}


class Result(NamedTuple):
    """One diagnosis: what was planted and named, whether it is right, and how long it took."""

    planted: str
    named: str
    right: bool
    seconds: float
    layer: str


def drawn_case(random: np.random.Generator, timed: bool) -> Case:
    """A random layer, with numbers that float32 holds, and what it is run on."""
    cell = str(random.choice(["rnn", "lstm", "lstm", "gru", "gru"]))
    both = bool(random.random() < 0.3)
    options: dict[str, Any] = {
        "num_layers": int(random.choice([1, 2, 3], p=[0.7, 0.2, 0.1])),
        "bidirectional": both,
        "bias": bool(random.random() < 0.85),
        "mask": str(random.choice(["right", "any"])) if random.random() < 0.2 else None,
        "merge_mode": str(random.choice(["concat", "sum", "mul", "ave"], p=[0.7, 0.1, 0.1, 0.1])) if both else "concat",
        "go_backwards": bool(random.random() < 0.05),
        "input_dropout": 0.2 if random.random() < 0.1 else 0.0,
        "recurrent_dropout": 0.3 if random.random() < 0.1 else 0.0,
    }
    if random.random() < 0.15:
        options["activation"] = str(random.choice(["relu", "softsign"])) if cell != "lstm" else "softsign"
    if cell != "rnn" and random.random() < 0.15:
        options["recurrent_activation"] = str(random.choice(["hard_sigmoid", "hard_sigmoid_keras2"]))
    if cell == "gru":
        options["reset_after"] = bool(random.random() < 0.6)
    features, units = (32, 64) if timed else (_size(random, 32), _size(random, 32))
    if cell == "lstm" and units > 1 and random.random() < 0.15:
        options["proj_size"] = int(random.integers(1, units))
    spec = Recurrent(cell, features, units, **options)
    seed = int(random.integers(1 << 30))
    probe = Probe(int(random.integers(2, 5)), 50 if timed else int(random.integers(3, 13)), seed)
    params = draw_parameters(spec, seed)
    state = draw_state(spec, probe) if random.random() < 0.5 else None
    masks = draw_masks(spec, probe)
    return Case(spec, params, Given(draw_input(spec, probe), state, masks[0] if masks else None))


def _size(random: np.random.Generator, largest: int) -> int:
    """Uniform in its logarithm."""
    return round(float(np.exp(random.uniform(0, np.log(largest)))))


def outputs_of(case: Case, given: Given, random: np.random.Generator) -> Evidence:
    """What is recorded of a case that is computed in float32, when it was meant to run on what is given."""
    params = {key: block.astype(np.float32) for key, block in case.params.items()}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        outputs = replace(case, params=params, given=case.given.astype("float32")).run()
    kept = str(random.choice(["all", "sequence", "last"], p=[0.6, 0.25, 0.15]))
    return Evidence(given, outputs if kept == "all" else {kept: outputs[kept]})


def ported(case: Case, random: np.random.Generator) -> Parameters:
    """The parameters as float32 holds them, in some layers with each two biases that are only ever added summed to one."""
    params = {key: block.astype(np.float32) for key, block in case.params.items()}
    if random.random() < 0.5:
        for key in [key for key in params if key.role == "recurrent_bias" and folds(case.spec, key)]:
            params[key._replace(role="bias")] = params[key._replace(role="bias")] + params[key]
            params[key] = np.zeros_like(params[key])
    return Parameters(case.spec, params)


def copy_of(case: Case, params: Parameters, given: Given) -> Evidence:
    """What a float64 copy of a layer with these parameters puts out, when it was meant to run on what is given."""
    wide = {key: block.astype(np.float64) for key, block in params.items()}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return Evidence(given, replace(case, params=wide).run(), "float64")


def by_torch(case: Case) -> Evidence | None:
    """What PyTorch puts out in float32, if it has such a layer."""
    try:
        layer = get_adapter("torch").build_loaded(case.spec, case.params, "float32")
        given = case.given.astype("float32")
        return Evidence(case.given, get_adapter("torch").run(layer, given.x, given.state, given.mask).named())
    except UnsupportedError:
        return None


def shows(case: Case, evidence: Evidence) -> bool:
    """Whether the outputs are others than they should be, and numbers at all."""
    truth = case.noise("float32")
    return all(np.isfinite(values).all() for values in evidence.outputs.values()) and any(
        values.shape != truth.clean[name].shape
        or noise.ratio(values, truth.clean[name], truth.deviation[name]).max() > LIMIT
        for name, values in evidence.outputs.items()
    )


class Observed(NamedTuple):
    """What a diagnosis is given of the second side: the outputs, and what it says of itself, if that is known."""

    evidence: Evidence
    other: tuple[Layer, Parameters] | None = None
    stored: str | None = None


def observed(case: Case, given: Given, compared: bool, random: np.random.Generator) -> Observed:
    """What is known of a case that was meant to run on what is given."""
    known = random.random() < (0.7 if compared else 0.3)
    if not compared:
        narrow = Parameters(case.spec, case.params).astype(np.float32)
        return Observed(outputs_of(case, given, random), (case.spec, narrow) if known else None)
    if not known:
        return Observed(copy_of(case, Parameters(case.spec, case.params), given))
    params = ported(case, random)
    return Observed(copy_of(case, params, given), (case.spec, params), "float32")


def planted(
    case: Case, count: int, compared: bool, random: np.random.Generator
) -> tuple[tuple[Candidate, ...], Observed] | None:
    """Mistakes that show in the outputs, each of which makes a difference, and what is known of a layer with them."""
    every = candidates(CATALOGUE, [case])
    names = sorted({one.mistake.name for one in every})
    for _ in range(_DRAWS):
        chosen = [str(name) for name in random.choice(names, count)]
        made = tuple(
            (same := [one for one in every if one.mistake.name == name])[random.integers(len(same))] for name in chosen
        )
        if len(set(made)) < count:
            continue
        try:
            states = [case]
            for one in made:
                states.append(one.variation.change(states[-1]))
            found = observed(states[-1], case.given, compared, random)
            # Each of two must be needed.
            others = [case, *(one.variation.change(case) for one in made)] if count > 1 else [case]
            if all(shows(one, found.evidence) for one in others):
                return made, found
        except (XframeError, ValueError):
            continue
    return None


def diagnosed(count: int, compared: bool, timed: bool, seed: int) -> Result | None:
    """Plant that many mistakes in a random layer, and ask for the cause."""
    random = np.random.default_rng([seed, count, timed, compared])
    case = drawn_case(random, timed)
    made: tuple[Candidate, ...] = ()
    if count:
        planting = planted(case, count, compared, random)
        if planting is None:
            return None
        made, found = planting
    else:
        native = by_torch(case) if not compared and random.random() < 0.3 else None
        found = Observed(native) if native else observed(case, case.given, compared, random)
    evidence, other, stored = found
    start = time.process_time()
    diagnosis = explain(case.spec, Parameters(case.spec, case.params), [evidence], other=other, stored=stored)
    seconds = time.process_time() - start
    named = diagnosis.causes[0].name if diagnosis.causes else diagnosis.status
    right = bool(count) == bool(diagnosis.causes)
    if count and right:
        right = _same(case, made, diagnosis, list(evidence.outputs))
    if not count:
        right = diagnosis.status in ("equivalent", "inconclusive")
    titles = " and ".join(one.variation.name for one in made)
    layer = f"{case.spec}, {'/'.join(evidence.outputs)}, {'known' if other else 'unknown'}, seed {seed}"
    return Result(titles, named, right, seconds, layer)


def _same(case: Case, made: Sequence[Candidate], diagnosis: Any, shown: Sequence[str]) -> bool:
    """Whether the named mistakes are those planted, or make the same function on a longer input."""
    faults = diagnosis.causes[0].faults
    if sorted(one.variation.name for one in made) == sorted(fault.name for fault in faults):
        return True
    by_name = {(one.mistake.name, one.variation.name): one.variation for one in candidates(CATALOGUE, [case])}
    named = [by_name.get((fault.entry, fault.name)) for fault in faults]
    known = [variation for variation in named if variation is not None]
    orders = [known, known[::-1]]
    return len(known) == len(named) and len(differing([one.variation for one in made], orders, [case], [shown], 1)) < 2


def _all(pool: ProcessPoolExecutor, count: int, compared: bool, timed: bool, cases: int, seed: int) -> list[Result]:
    seeds = range(seed * 1_000_000, seed * 1_000_000 + cases)
    return [result for result in pool.map(partial(diagnosed, count, compared, timed), seeds, chunksize=4) if result]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--failures", action="store_true", help="list what was not named right")
    options = parser.parse_args()
    rows, failures = [], []
    with ProcessPoolExecutor(options.processes) as pool:
        for kind, compared in (("recorded in float32", False), ("compared in float64", True)):
            for words, count in (("one", 1), ("two", 2), ("none", 0)):
                results = _all(pool, count, compared, False, options.cases, options.seed)
                right = sum(one.right for one in results) / len(results)
                rows.append(
                    [f"{words} planted, {kind}, {len(results)} cases", f"{right:.2%} right", f"{_BARS[words]:.0%}"]
                )
                failures += [one for one in results if not one.right]
        for words, count in (("one", 1), ("two", 2)):
            seconds = [one.seconds for one in _all(pool, count, False, True, max(options.cases // 20, 8), options.seed)]
            figures = f"median {np.median(seconds):.2f} s, 95 % {np.quantile(seconds, 0.95):.2f} s"
            rows.append([f"{words} planted, 64 units, 50 steps, {len(seconds)} cases", figures, "median 2 s"])
    print(tabulate(rows, ["what", "figures", "bar"]), flush=True)
    if options.failures:
        for kind, number in Counter((one.planted, one.named) for one in failures).most_common():
            print(number, *kind, sep=" | ")
        for one in failures:
            print(one)


if __name__ == "__main__":
    main()
