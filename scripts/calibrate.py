"""How far correct layers are from the reference, in units of the predicted rounding noise, and which mistakes are seen.

Draws random layers and judges each in every framework as `xframe.compare` does: from given initial states, and where rounding
errors grow on the way, each time step by itself as well. The largest ratio of a layer is what the limit of a verdict
(xframe.judging.LIMIT) has to leave room for; a layer above the limit would be a false alarm. A framework that does not have a
layer, or not in a float type, is left out there.

Weights are as users have them: drawn around zero, in float64 (in float32 for a type of 16 bits), and rounded as they are loaded.
What a layer then holds must be what was drawn up to right rounding, else that is a false alarm, too; and what it computes is
held to what it holds.

In every tenth layer all mistakes that a verdict tries and that change it are made, one after the other, and loaded into PyTorch,
if that is one of the frameworks. Such a mutant is caught; or the verdict says that this probe could not have shown it; or it is
missed, which must not be.

Layers are of every cell, with 1 to 512 features and units, 1 to 500 time steps, 1 to 3 layers and weights scaled by 0.1 to 8, all
uniform in their logarithm; rnns with relu are scaled by 1 at most, because they grow without bounds. Fewer time steps are given
where they would come to more than 500 over all layers and directions (in one layer of eight), or to more than 2e8 multiplications
(in one of thirty). float64 and float32 are judged in every layer, float16 and bfloat16 in one of eight. Products in
TensorFloat-32 exist on GPUs only and are not here.

Layer number i is the same whatever number of layers or processes there is. With --out, results are appended to a file, one line
each, and what is in it is not done again: a run that was stopped goes on where it was.

    python scripts/calibrate.py [LAYERS] [--frameworks LIST] [--seed S] [--processes P] [--out FILE]
    python scripts/calibrate.py --table FILE...
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from xframe import Recurrent, mistakes, noise
from xframe.adapters import get_adapter, get_adapters, usual_adapters
from xframe.adapters.base import DTYPES, FLOATS
from xframe.cells import get_cell
from xframe.chatter import silenced
from xframe.drawing import completed, forced
from xframe.errors import UnsupportedError
from xframe.judging import LIMIT, Input, Subject, difference, judge, judge_outputs, run_native
from xframe.packing import Parameters
from xframe.probe import Probe, draw_input, draw_parameters, draw_state, parameter_shapes, rounded
from xframe.reference import Given
from xframe.verdict import Check

SIZE, STEPS, LAYERS = 512, 500, 3
SCALES = (0.1, 8.0)
# Most time steps of all layers and directions, and most multiplications, of one run.
TOTAL_STEPS, WORK = 500, 2e8
MUTATED = 10
_THREADS = [f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL")] + [
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
]

Line = dict[str, Any]


def draw_layer(random: np.random.Generator) -> tuple[Recurrent, Probe, float]:
    """A random layer, its probe, and the scale of its weights."""

    def size(largest: int) -> int:
        return round(float(np.exp(random.uniform(0, np.log(largest)))))

    cell = str(random.choice(["rnn", "lstm", "gru"]))
    options = {
        "rnn": {"activation": str(random.choice(["tanh", "relu"]))},
        "lstm": {},
        "gru": {"reset_after": bool(random.random() < 0.75)},
    }[cell]
    spec = Recurrent(
        cell,
        size(SIZE),
        size(SIZE),
        num_layers=size(LAYERS),
        bidirectional=bool(random.random() < 0.3),
        bias=bool(random.random() < 0.8),
        **options,  # type: ignore[arg-type]
    )
    scale = float(np.exp(random.uniform(*np.log(SCALES))))
    if spec.activation == "relu":
        scale = min(scale, 1.0)
    batch, steps = int(random.choice([1, 2])), size(STEPS)
    most = min(TOTAL_STEPS // len(list(spec.places)), int(WORK / (batch * multiplications(spec))))
    steps = max(1, min(steps, most))
    return spec, Probe(batch, steps, int(random.integers(1 << 30))), scale


def multiplications(spec: Recurrent) -> int:
    """Of one time step, in all layers and directions."""
    gates = len(get_cell(spec.cell).gates)
    inputs = sum(spec.layer_input_size(layer, d) + spec.hidden_size for layer, d in spec.places)
    return gates * spec.hidden_size * inputs


def scaled(params: Parameters, scale: float) -> Parameters:
    """The parameters times a factor, still numbers of float32."""
    return Parameters(params.spec, {key: rounded(block * scale, "float32") for key, block in params.items()})


def draw_weights(spec: Recurrent, seed: int, scale: float, dtype: str) -> Parameters:
    """Random parameters, some of them near zero, before they are rounded to the float type."""
    random = np.random.default_rng([seed, 4])
    blocks = {
        key: scale * (1.6 / np.sqrt(shape[0]) if len(shape) == 2 else 0.8) * random.uniform(-1, 1, shape)
        for key, shape in parameter_shapes(spec).items()
    }
    return Parameters(spec, blocks).astype("float32" if dtype.endswith("16") else "float64")


def outcome(seed: int, frameworks: list[str], number: int) -> Line:
    """What one layer has shown."""
    begun = time.perf_counter()
    spec, probe, scale = draw_layer(np.random.default_rng([seed, number]))
    line: Line = {"seed": seed, "number": number, "layer": str(spec), "scale": round(scale, 3)}
    line |= {"batch": probe.batch, "steps": probe.steps, "checks": []}
    with silenced():
        extra = {2: ("float16",), 6: ("bfloat16",)}.get(number % 8, ())
        for dtype in (*DTYPES, *extra):
            # Of one and the same inputs, unless they are too fine for the type.
            own = replace(probe, dtype="float32" if dtype == "float64" else dtype)
            drawn = draw_weights(spec, probe.seed, scale, dtype)
            line["checks"] += judged(frameworks, spec, drawn, own, dtype)
        if number % MUTATED == 0 and "torch" in frameworks:
            line["mutants"] = mutated(spec, scaled(draw_parameters(spec, probe.seed), scale), probe)
    return line | {"seconds": round(time.perf_counter() - begun, 3)}


def judged(frameworks: list[str], spec: Recurrent, drawn: Parameters, probe: Probe, dtype: str) -> Iterator[Line]:
    """Every framework's layer in one float type: its largest ratio, and what is not equivalent."""
    known: list[list[Input]] = []
    for adapter in get_adapters(frameworks):
        if adapter.lacks(spec, dtype):
            continue
        try:
            subject = Subject(adapter, adapter.build_loaded(spec, drawn, dtype), "loaded")
        except UnsupportedError:
            continue
        params = adapter.parameters(subject.native)
        off, where, rounding = difference(drawn, params, dtype, narrowed=dtype != "float64")
        # Frameworks that hold the same numbers have the same truth, which takes long to compute.
        given = next((one for one in known if same(one[0].params, params)), None)
        if given is None:
            given = inputs(spec, params, probe, dtype)
            known.append(given)
        checks = [check for one in given for check in judge(subject, one, one.noise_of(adapter, dtype), dtype, {})]
        ratios = [check.noise_ratio for check in checks if check.noise_ratio is not None]
        yield {
            "framework": adapter.title,
            "dtype": dtype,
            "ratio": max(ratios, default=None),
            "bad": [
                *([] if rounding else [f"parameters: different, by {off:.2g} at {where}"]),
                *(f"{c.initial_state} {c.output}: {c.status}, {c.reason}" for c in checks if c.status != "equivalent"),
            ],
            "forced": len(given) > 1,
        }


def inputs(spec: Recurrent, params: Parameters, probe: Probe, dtype: str) -> list[Input]:
    """What a layer with these parameters is judged on."""
    given = [Input("layer", spec, params, Given(draw_input(spec, probe), draw_state(spec, probe)))]
    if noise.drifts(given[0].noise(dtype), dtype) and (alone := forced(given[0], probe.dtype)):
        given.append(alone)
    return given


def same(one: Parameters, other: Parameters) -> bool:
    """Whether two layers hold the same numbers."""
    return all(np.array_equal(block, other[key]) for key, block in one.items())


def mutated(spec: Recurrent, params: Parameters, probe: Probe) -> Line:
    """What a verdict says of every mistake: by its name ``caught``, ``inconclusive`` or ``equivalent``."""
    found = completed(spec, "layer", params, draw_input(spec, probe), probe, DTYPES, longer=True)
    said: dict[str, str] = {}
    for one in found.inputs:
        for name, case in mistakes.variations(spec, params, one.given) if one.shows_most else ():
            if said.get(name) != "caught":
                checks = mutant_checks(case, one)
                caught = any(check.status == "different" for check in checks)
                vague = found.missed or any(check.status == "inconclusive" for check in checks)
                said[name] = "caught" if caught else "inconclusive" if vague else "equivalent"
    return {"said": said, "missed": found.missed, "inputs": [one.initial_state for one in found.inputs]}


def mutant_checks(case: mistakes.Case, one: Input) -> list[Check]:
    """A layer with a mistake made, in float64, on one input."""
    # In the quickest framework: the mistakes are made in the weights, wherever these go.
    adapter = get_adapter("torch")
    subject = Subject(adapter, adapter.build_loaded(case.spec, case.params, "float64"), "mutant")
    outputs = run_native(subject, case.given, "float64")
    for after in case.after:
        outputs = after(outputs)
    return list(judge_outputs(subject, one, outputs, one.noise("float64"), "float64", {}))


def table(lines: list[Line]) -> str:
    """The two tables of the README."""
    found: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        for check in line["checks"]:
            found.setdefault((check["framework"], check["dtype"]), []).append(check)
    rows = []
    for (framework, dtype), checks in sorted(found.items(), key=lambda item: (FLOATS.index(item[0][1]), item[0][0])):
        ratios = [check["ratio"] for check in checks if check["ratio"] is not None]
        quantiles = [f"{q:.2g}" for q in np.quantile(ratios, [0.5, 0.95, 0.99, 1.0])]
        alarms = sum(1 for check in checks if any(": different" in text for text in check["bad"]))
        unjudged = sum(1 for check in checks if any(": inconclusive" in text for text in check["bad"]))
        rows.append([framework, dtype, f"{len(checks):,}", *quantiles, alarms, unjudged])
    headers = ["framework", "dtype", "layers", "median", "95 %", "99 %", "largest", f"above {LIMIT:g}", "inconclusive"]
    found = github(rows, headers)
    return f"{found}\n\n{mutants(lines)}" if any("mutants" in line for line in lines) else found


def mutants(lines: list[Line]) -> str:
    said = [word for line in lines if "mutants" in line for word in line["mutants"]["said"].values()]
    counts = [said.count(word) for word in ("caught", "inconclusive", "equivalent")]
    share = [f"{count:,} ({count / max(len(said), 1):.2%})" for count in counts]
    layers = sum(1 for line in lines if "mutants" in line)
    return github(
        [[f"{layers:,}", f"{len(said):,}", *share]], ["layers", "mutants", "caught", "inconclusive", "missed"]
    )


def github(rows: list[list[Any]], headers: list[str]) -> str:
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def read(files: Iterable[Path]) -> list[Line]:
    return [json.loads(text) for file in files if file.exists() for text in file.read_text("utf-8").splitlines()]


def run(layers: int, seed: int, frameworks: list[str], processes: int, out: Path | None) -> list[Line]:
    """Those layers that are not in the file yet; a line for each is appended to it."""
    lines = [line for line in read([out] if out else []) if line["seed"] == seed and line["number"] < layers]
    done = {line["number"] for line in lines}
    todo = [number for number in range(layers) if number not in done]
    # Each process has one core; it reads this before it loads NumPy and the frameworks.
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    # Processes are renewed now and then, because frameworks keep something of every layer: JAX what it compiled for it.
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=50) as pool:
        for line in pool.imap_unordered(partial(outcome, seed, frameworks), todo):
            lines.append(line)
            if out:
                with out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
            bad = [f"{c['framework']} {c['dtype']} {text}" for c in line["checks"] for text in c["bad"]]
            print(f"{len(lines):,} of {layers:,}", line["number"], line["seconds"], *bad, file=sys.stderr)
    return sorted(lines, key=lambda line: line["number"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("layers", nargs="?", type=int, default=200)
    parser.add_argument("--frameworks", default=",".join(usual_adapters()), help="by comma")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, help="append results to this file, and go on from what is in it")
    parser.add_argument("--table", type=Path, nargs="+", help="only print the tables of these files")
    given = parser.parse_args()
    lines = (
        read(given.table)
        if given.table
        else run(given.layers, given.seed, given.frameworks.split(","), given.processes, given.out)
    )
    print(table(lines))


if __name__ == "__main__":
    main()
