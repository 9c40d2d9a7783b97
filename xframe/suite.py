"""Grids of configurations, small sizes, unequal on every axis.

``standard`` has every cell with every shape. ``full`` has all that a recurrent layer can be told: enough configurations that
any two values of any two options occur together in one of them (pairwise coverage), in an order drawn from the seed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from multiprocessing import get_context
from random import Random
from typing import Any

from xframe.activations import ACTIVATIONS
from xframe.adapters import available_adapters, get_adapters, known_adapters, usual_adapters
from xframe.adapters.base import DTYPES
from xframe.comparison import compare_spec
from xframe.errors import SpecError, UnsupportedError
from xframe.probe import Probe
from xframe.scope import narrowest
from xframe.spec import OF_A_CELL, Recurrent, plural
from xframe.verdict import Verdict

__all__ = ["OPTIONS", "Configuration", "Suite", "full_grid", "grid", "run_suite"]

_KINDS: tuple[dict[str, Any], ...] = (
    {"cell": "rnn", "activation": "tanh"},
    {"cell": "rnn", "activation": "relu"},
    {"cell": "lstm"},
    {"cell": "gru", "reset_after": True},
    {"cell": "gru", "reset_after": False},
)
_SHAPES: tuple[dict[str, Any], ...] = (
    {},
    {"bias": False},
    {"bidirectional": True},
    {"num_layers": 2},
    {"num_layers": 3, "bidirectional": True},
    {"num_layers": 4, "bias": False, "bidirectional": True},
)


@dataclass(frozen=True)
class Suite:
    """The verdicts of a grid, in order.

    Attributes:
        name: ``standard`` or ``full``.
        verdicts: one a configuration that at least one framework has.
        values: for each verdict, the values of the options that it stands for (in the full grid).
        left_out: why no framework has the others, by configuration.
    """

    name: str
    verdicts: tuple[Verdict, ...]
    values: tuple[Mapping[str, str], ...]
    left_out: Mapping[str, str]

    @property
    def status(self) -> str:
        """``different`` if any verdict is, else ``inconclusive`` if any is or there is none, else ``equivalent``."""
        found = {v.status for v in self.verdicts} or {"inconclusive"}
        return next((s for s in ("different", "inconclusive") if s in found), "equivalent")

    @property
    def scope(self) -> str:
        """What was judged of every configuration, see `xframe.scope`."""
        return narrowest([v.scope for v in self.verdicts] or ["layers"])

    @property
    def first_wrong(self) -> Verdict | None:
        """The first that is different: the one of which reports say why."""
        return next((v for v in self.verdicts if v.status == "different"), None)

    @property
    def reason(self) -> str:
        """One sentence."""
        good = sum(1 for v in self.verdicts if v)
        bad = next((f" The first that is not: {v.model}: {v.reason}" for v in self.verdicts if not v), "")
        outputs = sum(len(v.checks) for v in self.verdicts)
        return f"{good} of {len(self.verdicts)} configurations are equivalent, {outputs:,} outputs judged.{bad}"

    @property
    def notes(self) -> list[str]:
        """What was left out, what verdicts note, each once, and how often a layer had to be xframe's."""
        partly = [f"no: {text}" for v in self.verdicts for text in v.not_compared.values()]
        left_out = [*partly, *(f"Left out: {text}" for text in self.left_out.values())]
        said = [note for v in self.verdicts for note in v.notes]
        return list(dict.fromkeys([*left_out, *said, *self._whose()]))

    def _whose(self) -> Iterator[str]:
        packings = {c.packing.name: c.packing for v in self.verdicts for c in v.layers[0].counts.values()}
        for packing in packings.values():
            ours = [bool(packing.why_ours(v.model)) for v in self.verdicts if packing.name in v.layers[0].counts]
            if any(ours):
                own = f"{packing.title}: its own layers in {plural(ours.count(False), 'configuration')}"
                yield f"{own}, {packing.ours} in {ours.count(True)}."

    def __bool__(self) -> bool:
        return self.status == "equivalent"

    def report(self, format: str = "text") -> str:
        """The suite as ``text``, ``markdown``, ``html`` or ``json``."""
        from xframe.report import render

        return render(self, format)


@dataclass(frozen=True)
class Configuration:
    """One row of a grid: a layer and the probe to compare it with, and the values of the options that it stands for."""

    spec: Recurrent
    probe: Probe
    values: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return str(self.spec)


def grid(probe: Probe) -> Iterator[Configuration]:
    """The standard grid."""
    for i, kind in enumerate(_KINDS):
        for j, shape in enumerate(_SHAPES):
            # Sizes that are equal neither to each other nor to the probe's batch (2) and steps (5).
            spec = Recurrent(input_size=(3, 4, 6)[(i + j) % 3], hidden_size=7 + (2 * i + j) % 5, **kind, **shape)
            yield Configuration(spec, probe)


Row = dict[str, str]
Pair = tuple[tuple[str, str], tuple[str, str]]


def full_grid(probe: Probe) -> list[Configuration]:
    """Rows in which every two values of two options that go together do so once; sizes go round with the rows."""
    random = Random(probe.seed)
    # Libraries for this leave out pairs that are possible as soon as some are not; here none is given up untried.
    left = dict.fromkeys(_pairs([(name, value) for name, values in OPTIONS.items() for value in values]))
    rows = []
    while left:
        pair = next(iter(left))
        row = _completed(dict(pair), left, random)
        del left[pair]
        if row:
            rows.append(row)
            for done in _pairs(list(row.items())):
                left.pop(done, None)
    return [_configuration(row, i, probe) for i, row in enumerate(rows)]


def _pairs(values: Sequence[tuple[str, str]]) -> Iterator[Pair]:
    """All pairs of values of different options, in the order of the options."""
    order = list(OPTIONS)
    for one, other in combinations(sorted(values, key=lambda v: order.index(v[0])), 2):
        if one[0] != other[0]:
            yield one, other


def _completed(row: Row, left: Mapping[Pair, None], random: Random) -> Row | None:
    """The row with a value for every option, those first that make the most pairs that are left; None if there is none."""
    if not _sensible(row):
        return None
    if len(row) == len(OPTIONS):
        return row
    # The cell first: what the others may be depends on it.
    name = "cell" if "cell" not in row else random.choice([n for n in OPTIONS if n not in row])
    values = random.sample(list(OPTIONS[name]), len(OPTIONS[name]))
    gain = {v: sum(pair in left for old in row.items() for pair in _pairs([old, (name, v)])) for v in values}
    for value in sorted(values, key=lambda v: -gain[v]):
        if found := _completed({**row, name: value}, left, random):
            return found
    return None


# The options of the full grid by name, each with its values by name, and what they come to.
OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "activation": {name: {"activation": name} for name in ACTIVATIONS},
    # An rnn has no gates.
    "recurrent_activation": {"none": {}, **{name: {"recurrent_activation": name} for name in ACTIVATIONS}},
    "cell": {
        "rnn": {"cell": "rnn"},
        "lstm": {"cell": "lstm"},
        "lstm, projected": {"cell": "lstm", "proj_size": 4},
        "gru, reset after": {"cell": "gru", "reset_after": True},
        "gru, reset before": {"cell": "gru", "reset_after": False},
    },
    "direction": {
        "forward": {},
        "go_backwards": {"go_backwards": True},
        "both, concat": {"bidirectional": True},
        "both, sum": {"bidirectional": True, "merge_mode": "sum"},
        "both, mul": {"bidirectional": True, "merge_mode": "mul"},
        "both, ave": {"bidirectional": True, "merge_mode": "ave"},
        "both, not merged": {"bidirectional": True, "merge_mode": None},
        "both, go_backwards": {"bidirectional": True, "go_backwards": True},
        "both, backward differs": {"bidirectional": True, "backward": True},
    },
    "mask": {
        "none": {},
        "right, zero": {"mask": "right", "masked_output": "zero"},
        "right, repeat": {"mask": "right", "masked_output": "repeat"},
        "any, zero": {"mask": "any", "masked_output": "zero"},
        "any, repeat": {"mask": "any", "masked_output": "repeat"},
    },
    "layers": {
        "1": {},
        "2": {"num_layers": 2},
        "3": {"num_layers": 3},
        "stacked cells": {"stacked": "alike"},
        "stacked cells that differ": {"stacked": "unlike"},
    },
    "stateful": {"no": {}, "yes": {"stateful": True}},
    "dropout": {
        "none": {},
        "input": {"input_dropout": 0.3},
        "recurrent": {"recurrent_dropout": 0.2},
        "between layers": {"dropout": 0.4},
    },
    "bias": {"yes": {}, "no": {"bias": False}},
    "form": {"layer": {}, "cell": {"form": "cell"}},
    "probe": {"2 x 5": {}, "3 x 7": {}, "1 x 4": {}},
}


def _sensible(row: Row) -> bool:
    """Whether a row, which may be the beginning of one, can be a layer, in the specs and in the usual frameworks."""
    if "cell" not in row:
        return True
    if _difficulties(row) > _BEARABLE:
        return False
    if "recurrent_activation" in row and (row["cell"] == "rnn") != (row["recurrent_activation"] == "none"):
        return False
    return any(
        _exists({**row, "layers": layers}) for layers in ([row["layers"]] if "layers" in row else OPTIONS["layers"])
    )


# Functions with which outputs may neither vanish nor grow; and functions that are zero over wide ranges, or grow fast. Together
# with more than two other things that make outputs small or large, no probe shows anything.
_TAME = {
    "hard_sigmoid",
    "hard_sigmoid_keras2",
    "hard_tanh",
    "none",
    "sigmoid",
    "softmax",
    "softsign",
    "sparse_sigmoid",
    "tanh",
}
_WILD = {"exponential", "hard_shrink", "log_softmax", "soft_shrink", "sparsemax", "tanh_shrink"}
_BEARABLE = 2


def _difficulties(row: Row) -> int:
    """How many of them there are in a row; none, if all functions are tame."""
    function, gates = row.get("activation", "tanh"), row.get("recurrent_activation", "sigmoid")
    if {function, gates} <= _TAME:
        return 0
    wild = len({function, gates} & _WILD) if function != gates else 2 * (function in _WILD)
    others = [
        row.get("layers", "1") != "1",
        row.get("bias") == "no",
        row.get("direction") == "both, mul",
        row.get("probe") == "3 x 7",
        row.get("stateful") == "yes",
        wild == 2 and row["cell"].startswith("lstm"),
        gates == "log_softmax" and function not in _TAME | _WILD,
    ]
    return wild + sum(others)


def _exists(row: Row) -> bool:
    try:
        spec = _spec(row, 0, 1)
        for name in usual_adapters():
            known_adapters()[name].packing.layout(spec)
    except (SpecError, UnsupportedError):
        return False
    return True


def _spec(row: Row, number: int, batch: int) -> Recurrent:
    """The layer of a row, which may be the beginning of one."""
    told: dict[str, Any] = {}
    for name, value in row.items():
        told |= OPTIONS[name][value]
    if told.get("stateful"):
        told["batch_size"] = batch
    sizes: dict[str, Any] = {"input_size": (3, 4, 6)[number % 3], "hidden_size": 7 + number % 5}
    # Another cell, another size.
    other = "lstm" if told["cell"] == "gru" else "gru"
    if told.get("backward"):
        told["backward"] = Recurrent(other, sizes["input_size"], sizes["hidden_size"] + 1)
    below = told.get("proj_size", sizes["hidden_size"])
    if (stacked := told.pop("stacked", None)) == "alike":
        of_a_cell = {name: value for name, value in told.items() if name in OF_A_CELL}
        told["stacked"] = (Recurrent(input_size=below, hidden_size=sizes["hidden_size"], **of_a_cell),)
    elif stacked:
        told["stacked"] = (Recurrent(other, below, sizes["hidden_size"] + 2),)
    return Recurrent(**sizes, **told)


def _configuration(row: Row, number: int, probe: Probe) -> Configuration:
    batch, steps = map(int, row["probe"].split(" x "))
    spec = _spec(row, number, batch)
    return Configuration(spec, replace(probe, batch=batch, steps=steps, seed=probe.seed + number), row)


def run_suite(
    probe: Probe,
    frameworks: Sequence[str] | None = None,
    dtypes: Sequence[str] = DTYPES,
    progress: Callable[[Sequence[Configuration]], Iterable[Configuration]] = iter,
    name: str = "standard",
    isolate: bool = False,
) -> Suite:
    """Compare every configuration of a grid; what a framework does not have is left out and named.

    ``frameworks`` are all that are installed, if None; for the full grid, of which others have next to nothing, those that
    are compared by default. ``progress`` wraps the configurations, to show how far it has come. The rest and the errors are as
    of `compare`.
    """
    usual = usual_adapters() if name == "full" else available_adapters()
    wanted = usual if frameworks is None else frameworks
    get_adapters(wanted, isolate)  # one that is unknown or missing is an error, not a configuration to leave out
    configurations = full_grid(probe) if name == "full" else list(grid(probe))
    judged = partial(_judged, frameworks=wanted, dtypes=dtypes, moved_only=name == "full", isolate=isolate)
    verdicts, values, left_out = [], [], {}
    with _workers(name) as map_:
        # The results come in the order of the configurations.
        for result, one in zip(map_(judged, configurations), progress(configurations), strict=True):
            if isinstance(result, Verdict):
                verdicts.append(result)
                values.append(one.values)
            else:
                left_out[str(one)] = result
    return Suite(name, tuple(verdicts), tuple(values), left_out)


def _judged(
    one: Configuration, frameworks: Sequence[str], dtypes: Sequence[str], moved_only: bool, isolate: bool
) -> Verdict | str:
    """The verdict, or the reason why no framework has the layer."""
    try:
        return compare_spec(
            one.spec, frameworks, dtypes, one.probe, strict=False, moved_only=moved_only, isolate=isolate
        )
    except UnsupportedError as error:
        return str(error)


@contextmanager
def _workers(name: str) -> Iterator[Callable[..., Iterable[Verdict | str]]]:
    """What maps configurations to verdicts: for the full grid a process on each core, which takes seconds to start."""
    cores = os.cpu_count() or 1
    # Python 3.10 cannot start them without the current folder before its own library, and a stranger's file may be in that.
    if name != "full" or cores == 1 or not hasattr(sys.flags, "safe_path"):
        yield map
        return
    # Not forked: frameworks have threads, which a fork would leave behind.
    with _safe_path(), ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        try:
            yield partial(pool.map, chunksize=8)
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _safe_path() -> Iterator[None]:
    """Processes that are started meanwhile do not look for modules in the current folder."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        del os.environ["PYTHONSAFEPATH"]
        if before is not None:
            os.environ["PYTHONSAFEPATH"] = before
