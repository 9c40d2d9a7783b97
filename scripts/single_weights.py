"""Whether a single wrong weight is ever called right.

Draws random layers of every cell and activation function in PyTorch, float32, changes one number of one of two copies, and
compares the two as `xframe.compare` does. The number is changed by a share of itself from a thousandth to the whole, or has its
sign turned. In one layer of three all is as it usually is, in one the weights are scaled by up to 30, so that units are
saturated, and in one a gate is shut or open for good, or units are off, by biases far from zero: there most single numbers move
no output on most inputs. No such pair may be called equivalent: it is different, or where no output shows it, inconclusive. Every
tenth layer is also compared with a copy that is as it was, which must never be called different.

    python scripts/single_weights.py [CASES] [--seed S] [--processes P]
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections import Counter
from functools import partial

import numpy as np
from tabulate import tabulate

import xframe
from xframe import Recurrent
from xframe.activations import ACTIVATIONS
from xframe.adapters import get_adapter
from xframe.cells import get_cell
from xframe.chatter import silenced
from xframe.packing import Parameters
from xframe.probe import draw_parameters, rounded

FEATURES, UNITS, SCALE, FAR = 6, 16, 30.0, 20.0
SMALLEST = 1e-3
UNCHANGED = 10
STATUSES = ("different", "inconclusive", "equivalent")


def draw_layer(random: np.random.Generator) -> tuple[Recurrent, Parameters]:
    """A random layer with its parameters, numbers of float32."""
    cell = str(random.choice(["rnn", "lstm", "gru"]))
    # One layer of two has what every framework has, and so its fused kernels.
    usual = bool(random.random() < 0.5)
    names = list(ACTIVATIONS)
    options: dict[str, object] = {"activation": str(random.choice(["tanh", "relu"] if cell == "rnn" else ["tanh"]))}
    if not usual:
        options["activation"] = str(random.choice(names))
    if not usual and cell != "rnn":
        options["recurrent_activation"] = str(
            random.choice(["sigmoid", "hard_sigmoid", "sparse_sigmoid", "relu6", "softsign"])
        )
    if cell == "gru":
        options["reset_after"] = bool(random.random() < 0.7)
    spec = Recurrent(
        cell,
        int(random.integers(1, FEATURES + 1)),
        int(random.integers(1, UNITS + 1)),
        num_layers=int(random.choice([1, 1, 2])),
        bidirectional=bool(random.random() < 0.3),
        bias=bool(random.random() < 0.8),
        **options,  # type: ignore[arg-type]
    )
    params = draw_parameters(spec, int(random.integers(1 << 30)))
    kind = random.choice(["plain", "scaled", "far"])
    if kind == "scaled":
        factor = float(np.exp(random.uniform(0, np.log(SCALE))))
        return spec, Parameters(spec, {key: rounded(factor * block, "float32") for key, block in params.items()})
    if kind == "far" and spec.bias:
        gate = str(random.choice(get_cell(cell).gates))
        off = random.uniform(0, FAR, spec.hidden_size) * (-1 if spec.activation == "relu" else random.choice([-1, 1]))
        moved = {key: rounded(params[key] + off, "float32") for key in params if key[2:] == ("bias", gate)}
        return spec, params.replaced(moved)
    return spec, params


def with_one_changed(params: Parameters, random: np.random.Generator) -> Parameters:
    """The same, but for one number."""
    keys = list(params)
    sizes = np.array([params[key].size for key in keys])
    key = keys[int(random.choice(len(keys), p=sizes / sizes.sum()))]
    block = params[key].copy()
    place = tuple(int(random.integers(size)) for size in block.shape)
    share = float(np.exp(random.uniform(np.log(SMALLEST), 0)))
    block[place] *= -1 if random.random() < 0.2 else 1 + share * random.choice([-1, 1])
    return params.replaced({key: rounded(block, "float32")})


def outcome(seed: int, number: int) -> tuple[str, str, str]:
    """The cell, what is said of the pair, and what of a copy that is as it was, if that is asked."""
    random = np.random.default_rng([seed, number])
    spec, params = draw_layer(random)
    torch = get_adapter("torch")
    right, wrong = (torch.build_loaded(spec, one, "float32") for one in (params, with_one_changed(params, random)))
    with silenced():
        said = xframe.compare(right, wrong).status
        copy = "" if number % UNCHANGED else xframe.compare(right, torch.build_loaded(spec, params, "float32")).status
    return get_cell(spec.cell).title, said, copy


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("cases", nargs="?", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    found: dict[str, Counter[str]] = {}
    copies: Counter[str] = Counter()
    with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
        outcomes = pool.imap(partial(outcome, given.seed), range(given.cases))
        for number, (cell, said, copy) in enumerate(outcomes, 1):
            found.setdefault(cell, Counter())[said] += 1
            copies[copy] += 1
            print(f"{number:,} of {given.cases:,}", cell, said, copy, file=sys.stderr)
    found = {cell: found[cell] for cell in sorted(found)}
    found["all"] = sum(found.values(), Counter())
    rows = [
        [cell, f"{counts.total():,}", *(f"{counts[status]:,}" for status in STATUSES)] for cell, counts in found.items()
    ]
    rows.append(
        ["unchanged copies", f"{copies.total() - copies['']:,}", *(f"{copies[status]:,}" for status in STATUSES)]
    )
    print(tabulate(rows, ["layers", "cases", *STATUSES], tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
