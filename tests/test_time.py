"""Time: masks, directions, merged outputs, stacks and states over several calls, against an oracle written by hand.

The oracle works the other way round from the reference: it takes one row of the batch, cuts the valid steps out of the
sequence, runs the plain recurrence on them alone, and puts what comes out back in its place. It uses nothing of xframe
but `Key` and the fields of the spec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import helpers
import numpy as np
import pytest
from helpers import GATES, Blocks, away_from_zero

from xframe import reference
from xframe.errors import SpecError
from xframe.layout import Key
from xframe.reference import Given
from xframe.spec import Recurrent

FEATURES, UNITS, PROJECTED, STEPS = 3, 5, 2, 6
# Rows: padding after and before the sequence, gaps, a single valid step, no valid step, no padding.
MASK = np.array(
    [
        [1, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1],
        [0, 1, 0, 0, 1, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 1],
        [1, 0, 1, 1, 0, 1],
    ],
    dtype=bool,
)
BATCH = len(MASK)
MERGE_MODES = ("concat", "sum", "mul", "ave", None)
States = dict[str, np.ndarray]


def layer(cell: str, units: int = UNITS, **options: Any) -> Recurrent:
    return Recurrent(cell, FEATURES, units, **options)


CELLS = {
    "rnn": layer("rnn"),
    "lstm": layer("lstm"),
    "lstm-projected": layer("lstm", proj_size=PROJECTED),
    "gru": layer("gru"),
    "gru-before": layer("gru", reset_after=False),
}
# Backward layers that differ: in the cell, in the sizes, in the projection, in the equations.
DIFFERING = {
    "lstm and gru": layer("lstm", bidirectional=True, backward=layer("gru", 4)),
    "rnn and lstm": layer("rnn", bidirectional=True, backward=layer("lstm", 7, proj_size=3), merge_mode=None),
    "gru and rnn, multiplied": layer("gru", bidirectional=True, backward=layer("rnn"), merge_mode="mul"),
    "two projections": layer(
        "lstm", proj_size=4, bidirectional=True, backward=layer("lstm", 9, proj_size=4), merge_mode="sum"
    ),
    "two resets": layer("gru", bidirectional=True, backward=layer("gru", reset_after=False), merge_mode="ave"),
    "two sizes, no biases": layer("gru", bidirectional=True, bias=False, backward=layer("gru", 6)),
}


def _masked(specs: Mapping[str, Recurrent]) -> dict[str, Recurrent]:
    return {
        f"{name}, {masked}": replace(spec, mask="any", masked_output=masked)
        for name, spec in specs.items()
        for masked in ("repeat", "zero")
    }


def _specs() -> Iterator[tuple[str, Recurrent]]:
    yield from CELLS.items()
    yield from ((f"{name}, backwards", replace(spec, go_backwards=True)) for name, spec in CELLS.items())
    for merge in MERGE_MODES:
        for cell in ("rnn", "lstm-projected", "gru"):
            both = replace(CELLS[cell], bidirectional=True, merge_mode=merge)
            yield f"{cell}, {merge}", both
            yield f"{cell}, {merge}, backwards", replace(both, go_backwards=True)
            if merge is not None:
                yield f"{cell}, {merge}, stacked", replace(both, num_layers=3)
    for cell, spec in CELLS.items():
        yield f"{cell}, stacked", replace(spec, num_layers=3)
        yield f"{cell}, stacked, backwards", replace(spec, num_layers=2, go_backwards=True)
    yield from DIFFERING.items()
    yield from ((f"{name}, backwards", replace(spec, go_backwards=True)) for name, spec in DIFFERING.items())


PLAIN = dict(_specs())
SPECS = PLAIN | _masked(PLAIN)


# ---- Numbers to fill the layers with.


def parts(spec: Recurrent) -> list[Recurrent]:
    """What describes each direction."""
    return [spec, spec.backward or spec][: 2 if spec.bidirectional else 1]


def width(spec: Recurrent) -> int:
    """Size of a layer's output."""
    sizes = [part.proj_size or part.hidden_size for part in parts(spec)]
    return sum(sizes) if spec.merge_mode in ("concat", None) else sizes[0]


def weights(spec: Recurrent, seed: int = 0) -> Blocks:
    random, shapes = np.random.default_rng([seed, 1]), {}
    for place in range(spec.num_layers):
        for d, part in enumerate(parts(spec)):
            n, h, below = part.hidden_size, part.proj_size or part.hidden_size, width(spec) if place else FEATURES
            for gate in GATES[part.cell]:
                shapes[Key(place, d, "kernel", gate)] = (below, n)
                shapes[Key(place, d, "recurrent_kernel", gate)] = (h, n)
                if part.bias:
                    shapes[Key(place, d, "bias", gate)] = shapes[Key(place, d, "recurrent_bias", gate)] = (n,)
            if part.proj_size:
                shapes[Key(place, d, "projection", "")] = (n, h)
    return {key: away_from_zero(random, s, 1.5 / np.sqrt(s[0]) if len(s) == 2 else 0.7) for key, s in shapes.items()}


def sizes(part: Recurrent) -> dict[str, int]:
    """The states of one direction."""
    found = {"h": part.proj_size or part.hidden_size}
    return found | ({"c": part.hidden_size} if part.cell == "lstm" else {})


def names(spec: Recurrent) -> list[dict[str, str]]:
    """For each direction, what its states are called from outside."""
    each = [sizes(part) for part in parts(spec)]
    apart = len(each) == 2 and each[0] != each[1]
    return [{name: "backward " * (apart and d) + name for name in own} for d, own in enumerate(each)]


def start(spec: Recurrent, seed: int = 0, batch: int = BATCH) -> States:
    random, found = np.random.default_rng([seed, 3]), {}
    for own, part in zip(names(spec), parts(spec), strict=True):
        for name, outside in own.items():
            directions = sum(outside in other.values() for other in names(spec))
            shape = (spec.num_layers, directions, batch, sizes(part)[name])
            found[outside] = away_from_zero(random, shape, 0.8)
    return found


def signal(seed: int = 0, steps: int = STEPS) -> np.ndarray:
    return away_from_zero(np.random.default_rng([seed, 2]), (BATCH, steps, FEATURES), 1.5)


# ---- The oracle.


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def step(
    part: Recurrent, blocks: Blocks, place: tuple[int, int], x: np.ndarray, h: np.ndarray, c: Any
) -> tuple[np.ndarray, Any]:
    """One time step of one row, from the equations in FACTS and the papers."""

    def add(role: str, gate: str, v: np.ndarray) -> np.ndarray:
        bias = blocks.get(Key(*place, {"kernel": "bias"}.get(role, "recurrent_bias"), gate), 0.0)
        return v @ blocks[Key(*place, role, gate)] + bias

    inner = {g: add("kernel", g, x) for g in GATES[part.cell]}
    outer = {g: add("recurrent_kernel", g, h) for g in GATES[part.cell]}
    if part.cell == "rnn":
        return np.tanh(inner["h"] + outer["h"]), None
    if part.cell == "lstm":
        i, f, o = (sigmoid(inner[g] + outer[g]) for g in "ifo")
        c = f * c + i * np.tanh(inner["g"] + outer["g"])
        h = o * np.tanh(c)
        return (h @ blocks[Key(*place, "projection", "")] if part.proj_size else h), c
    r, z = sigmoid(inner["r"] + outer["r"]), sigmoid(inner["z"] + outer["z"])
    reset = r * outer["n"] if part.reset_after else add("recurrent_kernel", "n", r * h)
    return z * h + (1 - z) * np.tanh(inner["n"] + reset), None


def one_way(
    run: Callable[[np.ndarray, np.ndarray, Any], tuple[np.ndarray, Any]],
    x: np.ndarray,
    h: np.ndarray,
    c: Any,
    valid: list[bool],
    repeat: bool,
) -> tuple[list[np.ndarray], np.ndarray, Any]:
    """One row in the order in which it is read: outputs in that order, and the final states."""
    made = []
    for column in x[valid]:
        h, c = run(column, h, c)
        made.append(h)
    outputs, seen = [], 0
    for counts in valid:
        seen += counts
        outputs.append(made[seen - 1] if counts or (repeat and seen) else np.zeros_like(h))
    return outputs, h, c


def merge(mode: str | None, halves: list[np.ndarray]) -> np.ndarray:
    if len(halves) == 1 or mode in ("concat", None):
        return np.concatenate(halves)
    f, b = halves
    return {"sum": f + b, "mul": f * b, "ave": (f + b) / 2}[mode]


def by_hand(spec: Recurrent, blocks: Blocks, given: Given) -> dict[str, np.ndarray]:
    """All outputs by name, one row after the other."""
    state, outside = given.state, names(spec)
    if given.before is not None:
        earlier = by_hand(spec, blocks, given.before)
        state = {name.removeprefix("state "): a for name, a in earlier.items() if name.startswith("state ")}
    state = {k: np.zeros_like(v) if state is None else state[k] for k, v in start(spec, 0, len(given.x)).items()}
    final = {name: np.full_like(v, np.nan) for name, v in state.items()}
    sequences, lasts = [], []
    for row, below in enumerate(given.x):
        valid = [True] * len(below) if given.mask is None else given.mask[row].tolist()
        for place in range(spec.num_layers):
            halves, ends = [], []
            for d, part in enumerate(parts(spec)):
                # The backward half of a layer that goes backwards reads forward.
                order = list(range(len(below)))[:: -1 if bool(d) != spec.go_backwards else 1]
                slots = {name: (o, d if state[o].shape[1] == 2 else 0) for name, o in outside[d].items()}
                h, c = (state[slots[s][0]][place, slots[s][1], row] if s in slots else None for s in "hc")
                run, counts = partial(step, part, blocks, (place, d)), [valid[t] for t in order]
                outputs, h, c = one_way(run, below[order], h, c, counts, spec.masked_output == "repeat")
                for s, value in zip("hc", (h, c), strict=True):
                    if s in slots:
                        final[slots[s][0]][place, slots[s][1], row] = value
                halves.append(outputs[::-1] if d else outputs)
                ends.append(h)
            below = np.array([merge(spec.merge_mode, [half[t] for half in halves]) for t in range(len(below))])
        sequences.append(below)
        lasts.append(merge(spec.merge_mode, ends))
    return {"sequence": np.array(sequences), "last": np.array(lasts), **{f"state {k}": v for k, v in final.items()}}


def agree(spec: Recurrent, blocks: Blocks, given: Given, wanted: Mapping[str, np.ndarray] | None = None) -> None:
    """The reference puts out what the oracle does, in every output."""
    got = reference.run_given(spec, blocks, given).named()
    wanted = wanted or by_hand(spec, blocks, given)
    assert list(got) == list(wanted)
    for name, array in wanted.items():
        assert np.isfinite(array).all(), name
        assert got[name].shape == array.shape, name
        off = np.abs(got[name] - array).max()
        assert off < 1e-12, f"{name} is off by {off:.3g}"


# ---- Stacked cells: at each time step through all of them, before the next time step.

_ON = (Recurrent("lstm", UNITS, 9, proj_size=3), Recurrent("gru", 3, 7, reset_after=False))
_LIKE = (Recurrent("lstm", UNITS, UNITS),)
Where = Callable[[str, int, int], tuple[str, int, int]]


def _layer_by_layer(name: str, k: int, d: int) -> tuple[str, int, int]:
    return f"layer {k} {name}", 0, d


def _all_apart(name: str, k: int, d: int) -> tuple[str, int, int]:
    return f"{'backward ' * d}layer {k} {name}", 0, 0


# The spec, and where a state of one layer and direction stands: the name of the array, and the place in it.
STACKS: dict[str, tuple[Recurrent, Where]] = {
    "one way": (layer("gru", stacked=_ON), _layer_by_layer),
    "both": (layer("gru", stacked=_ON, bidirectional=True, merge_mode="mul"), _layer_by_layer),
    "alike, both": (layer("lstm", stacked=_LIKE, bidirectional=True), lambda name, k, d: (name, k, d)),
    "a taller backward stack": (
        layer("rnn", stacked=_ON[:1], bidirectional=True, backward=layer("gru", 4, num_layers=3), merge_mode=None),
        _all_apart,
    ),
    "a lower backward layer": (
        layer("rnn", stacked=_ON, bidirectional=True, backward=layer("lstm", 7), merge_mode="sum"),
        _all_apart,
    ),
}


def stack_by_hand(spec: Recurrent, where: Where, blocks: Blocks, given: Given) -> dict[str, np.ndarray]:
    """All outputs by name, one row after the other."""
    states = {name: array.copy() for name, array in (given.state or {}).items()}
    halves, ends, steps = [], [], given.x.shape[1]
    for d, column in enumerate(helpers.parts(spec)):
        half = np.zeros((BATCH, steps, helpers.output(column[-1])))
        end = np.empty((BATCH, half.shape[2]))
        for row in range(BATCH):
            held = [
                {s: states[n][i, j, row] for s in sizes(p) for n, i, j in [where(s, k, d)]}
                for k, p in enumerate(column)
            ]
            for read in range(steps):
                t = steps - 1 - read if bool(d) != spec.go_backwards else read
                put = steps - 1 - read if d else read
                if given.mask is None or given.mask[row, t]:
                    value = given.x[row, t]
                    for k, (part, own) in enumerate(zip(column, held, strict=True)):
                        value, c = step(part, blocks, (k, d), value, own["h"].copy(), own.get("c", np.zeros(0)).copy())
                        own["h"][...] = value
                        if "c" in own:
                            own["c"][...] = c
                    half[row, put] = value
                elif read and spec.masked_output == "repeat":
                    half[row, put] = half[row, put + (1 if d else -1)]
            end[row] = held[-1]["h"]
        halves.append(half)
        ends.append(end)
    sequence = [
        [merge(spec.merge_mode, [half[row, t] for half in halves]) for t in range(steps)] for row in range(BATCH)
    ]
    last = [merge(spec.merge_mode, [end[row] for end in ends]) for row in range(BATCH)]
    return {"sequence": np.array(sequence), "last": np.array(last), **{f"state {n}": a for n, a in states.items()}}


@pytest.mark.parametrize("masked_output", [None, "repeat", "zero"])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("name", STACKS)
def test_stacked_cells(name: str, backwards: bool, masked_output: str | None) -> None:
    plain, where = STACKS[name]
    spec = replace(plain, go_backwards=backwards)
    if masked_output:
        spec = replace(spec, mask="any", masked_output=masked_output)
    blocks, state = helpers.weights(spec), helpers.start(spec, batch=BATCH)
    given = Given(signal(), state, MASK if masked_output else None)
    agree(spec, blocks, given, stack_by_hand(spec, where, blocks, given))
    zeros = replace(given, state={name: np.zeros_like(array) for name, array in state.items()})
    agree(spec, blocks, replace(given, state=None), stack_by_hand(spec, where, blocks, zeros))


# ---- The reference against it.


@pytest.mark.parametrize("name", SPECS)
def test_one_call(name: str) -> None:
    spec = SPECS[name]
    mask = MASK if spec.mask else None
    blocks = weights(spec)
    for state in (None, start(spec)):
        agree(spec, blocks, Given(signal(), state, mask))


@pytest.mark.parametrize("name", ["rnn, sum, stacked, zero", "lstm, repeat", "gru, concat, zero", "lstm and gru, zero"])
def test_a_mask_may_be_left_out(name: str) -> None:
    """A spec that may be masked, run without a mask, is the same as with a mask that masks nothing."""
    spec, x = SPECS[name], signal()
    blocks, state = weights(spec), start(spec)
    agree(spec, blocks, Given(x, state))
    agree(spec, blocks, Given(x, state, np.ones_like(MASK)), by_hand(spec, blocks, Given(x, state)))


@pytest.mark.parametrize(
    "name", ["rnn, repeat", "lstm, backwards, zero", "gru, mul, stacked, zero", "lstm and gru, repeat", "gru, stacked"]
)
def test_calls_after_calls(name: str) -> None:
    """Three calls, of different lengths, the first with states and a mask, the second without, the third with one."""
    spec = replace(SPECS[name], stateful=True, batch_size=BATCH)
    mask = MASK if spec.mask else None
    first = Given(signal(1), start(spec), mask)
    second = Given(signal(2, 4), before=first)
    third = Given(signal(3, 3), before=second, mask=None if mask is None else mask[:, 2:5])
    blocks = weights(spec)
    agree(spec, blocks, third)
    # A call that forgot the one before would be seen.
    alone = by_hand(spec, blocks, replace(third, before=None))
    assert np.abs(by_hand(spec, blocks, third)["last"] - alone["last"]).max() > 1e-3


@pytest.mark.parametrize("name", ["rnn", "lstm-projected", "gru-before"])
def test_what_stands_at_masked_steps_is_not_read(name: str) -> None:
    spec = replace(CELLS[name], mask="any", bidirectional=True, num_layers=2)
    blocks, x, state = weights(spec), signal(), start(spec)
    wanted = reference.run(spec, blocks, x, state, mask=MASK).named()
    other = np.where(MASK[:, :, None], x, 1e3 * signal(9))
    for output, array in reference.run(spec, blocks, other, state, mask=MASK).named().items():
        assert np.array_equal(array, wanted[output]), output


@pytest.mark.parametrize("masked_output", ["repeat", "zero"])
def test_padding_on_paper(masked_output: str) -> None:
    """A sum of inputs (linear, all weights one), so that each number can be checked in the head."""
    spec = Recurrent("rnn", 1, 1, bias=False, activation="linear", mask="any", masked_output=masked_output)
    one = {Key(0, 0, role, "h"): np.ones((1, 1)) for role in ("kernel", "recurrent_kernel")}
    x = np.array([[[1.0], [2.0], [4.0], [8.0]]])
    mask = np.array([[False, True, False, True]])
    out = reference.run(spec, one, x, {"h": np.full((1, 1, 1, 1), 100.0)}, mask=mask)
    # Before the first valid step stands zero, not the initial state.
    assert out.sequence.ravel().tolist() == [0, 102, 102 if masked_output == "repeat" else 0, 110]
    assert out.last.item() == out.states["h"].item() == 110
    backwards = reference.run(replace(spec, go_backwards=True), one, x, mask=mask)
    assert backwards.sequence.ravel().tolist() == ([8, 8, 10, 10] if masked_output == "repeat" else [8, 0, 10, 0])
    nothing = reference.run(spec, one, x, {"h": np.full((1, 1, 1, 1), 100.0)}, mask=np.zeros_like(mask))
    assert nothing.sequence.ravel().tolist() == [0, 0, 0, 0]
    assert nothing.states["h"].item() == 100


@pytest.mark.parametrize(
    ("merge_mode", "sequence", "last"),
    [
        ("concat", [[1, 7], [3, 6], [7, 4]], [7, 7]),
        (None, [[1, 7], [3, 6], [7, 4]], [7, 7]),
        ("sum", [[8], [9], [11]], [14]),
        ("mul", [[7], [18], [28]], [49]),
        ("ave", [[4], [4.5], [5.5]], [7]),
    ],
)
def test_merging_on_paper(merge_mode: str | None, sequence: list[list[float]], last: list[float]) -> None:
    spec = Recurrent("rnn", 1, 1, bias=False, activation="linear", bidirectional=True, merge_mode=merge_mode)
    one = {Key(0, d, role, "h"): np.ones((1, 1)) for role in ("kernel", "recurrent_kernel") for d in (0, 1)}
    x = np.array([[[1.0], [2.0], [4.0]]])
    out = reference.run(spec, one, x)
    assert out.sequence[0].tolist() == sequence
    assert out.last[0].tolist() == last
    # Going backwards, the halves change places: each half is what the other was, read the other way round in time.
    backwards = reference.run(replace(spec, go_backwards=True), one, x)
    flipped = {"concat": [[4, 7], [6, 3], [7, 1]], "sum": [[11], [9], [8]], "mul": [[28], [18], [7]]}
    flipped |= {None: flipped["concat"], "ave": [[5.5], [4.5], [4]]}
    assert backwards.sequence[0].tolist() == flipped[merge_mode]


def test_wrong_masks_are_refused() -> None:
    spec = SPECS["gru, repeat"]
    blocks, x = weights(spec), signal()
    for mask, words in [
        (MASK.astype(int), "bool"),
        (MASK[:, :-1], "batch, time"),
        (MASK.T, "batch, time"),
        (MASK[:, :, None], "batch, time"),
        (MASK.tolist(), "bool"),
    ]:
        with pytest.raises(SpecError, match=words):
            reference.run(spec, blocks, x, mask=mask)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="says nothing of masks"):
        reference.run(CELLS["gru"], blocks, x, mask=MASK)


# ---- What the comparison above is worth: a reference that is wrong in one thing is seen.


class _Patched(reference._Held):
    change = staticmethod(lambda mask: mask)

    def __init__(self, states: Any, mask: np.ndarray, repeat: bool) -> None:
        super().__init__(states, self.change(mask), repeat)


def _held(change: Callable[[np.ndarray], np.ndarray]) -> type:
    return type("Held", (_Patched,), {"change": staticmethod(change)})


class _StatesNotKept(reference._Held):
    def restore(self, t: int) -> np.ndarray:
        for name in self._states:
            self._before[name][...] = self._states[name]
        return super().restore(t)


class _OnlyHKept(reference._Held):
    def restore(self, t: int) -> np.ndarray:
        for name in self._states:
            if name != "h":
                self._before[name][...] = self._states[name]
        return super().restore(t)


class _OtherOutput(reference._Held):
    def __init__(self, states: Any, mask: np.ndarray, repeat: bool) -> None:
        super().__init__(states, mask, not repeat)


class _StateBeforeFirst(reference._Held):
    """Repeats the initial state where nothing has been put out yet."""

    def __init__(self, states: Any, mask: np.ndarray, repeat: bool) -> None:
        super().__init__(states, mask, repeat)
        self._output[...] = states["h"]


real_over_time, real_merged, real_run = reference._over_time, reference._merged, reference.run


def _flipped(spec: Recurrent, at: tuple[int, int], cell: Any, x: Any, out: np.ndarray, *rest: Any) -> None:
    real_over_time(spec, at, cell, x, out, *rest)
    if spec.go_backwards and not at[1]:
        out[...] = out[:, ::-1].copy()


def _not_flipped(spec: Recurrent, at: tuple[int, int], cell: Any, x: Any, out: np.ndarray, *rest: Any) -> None:
    real_over_time(spec, at, cell, x, out, *rest)
    if at[1]:
        out[...] = out[:, ::-1].copy()


def _forward_anyway(spec: Recurrent, *rest: Any) -> None:
    real_over_time(replace(spec, go_backwards=False), *rest)


def _other_merge(spec: Recurrent, *rest: Any) -> np.ndarray:
    return real_merged(replace(spec, merge_mode={"sum": "mul", "mul": "sum", "ave": "sum"}[spec.merge_mode]), *rest)


def _directions_swapped(spec: Any, params: Any, x: Any, state: Any = None, *rest: Any) -> Any:
    return real_run(spec, params, x, state and {k: v[:, ::-1] for k, v in state.items()}, *rest)


def _forgetful(spec: Any, params: Any, x: Any, state: Any = None, *rest: Any) -> Any:
    return real_run(spec, params, x, None, *rest)


def _states_swapped(spec: Any, params: Any, x: Any, state: Any = None, *rest: Any) -> Any:
    return real_run(spec, params, x, state and {"h": state["c"], "c": state["h"]}, *rest)


MISTAKES: dict[str, tuple[str, Any, list[str]]] = {
    "mask ignored": ("_Held", _held(np.ones_like), ["rnn, repeat", "gru, zero", "lstm-projected, concat, zero"]),
    "mask one late": ("_Held", _held(lambda m: np.roll(m, 1, 1)), ["rnn, repeat", "gru, zero", "gru, sum, zero"]),
    "mask one early": ("_Held", _held(lambda m: np.roll(m, -1, 1)), ["rnn, repeat", "gru, zero", "gru, sum, zero"]),
    "mask reversed": ("_Held", _held(lambda m: m[:, ::-1]), ["lstm, zero", "gru, backwards, repeat"]),
    "mask inverted": ("_Held", _held(np.invert), ["lstm, zero", "gru, backwards, repeat"]),
    "states not kept": ("_Held", _StatesNotKept, ["rnn, zero", "lstm, zero", "gru, concat, zero"]),
    "c not kept": ("_Held", _OnlyHKept, ["lstm, repeat", "lstm-projected, zero", "lstm and gru, zero"]),
    "zeros for repeats": ("_Held", _OtherOutput, ["rnn, repeat", "gru, stacked, backwards, repeat"]),
    "repeats for zeros": ("_Held", _OtherOutput, ["rnn, zero", "lstm-projected, concat, zero"]),
    "state before the first": ("_Held", _StateBeforeFirst, ["rnn, repeat", "gru, backwards, repeat"]),
    "flipped back": ("_over_time", _flipped, ["rnn, backwards", "gru, sum, backwards", "lstm, stacked, backwards"]),
    "not flipped back": ("_over_time", _not_flipped, ["gru, concat", "rnn, sum, stacked", "lstm and gru"]),
    "go_backwards ignored": ("_over_time", _forward_anyway, ["rnn, backwards", "gru, ave, backwards"]),
    "another merge": ("_merged", _other_merge, ["rnn, sum", "gru, mul", "lstm-projected, ave", "two resets"]),
    "directions swapped": ("run", _directions_swapped, ["gru, concat", "rnn, ave, stacked", "two resets"]),
    "states forgotten": ("run", _forgetful, ["rnn", "gru, backwards", "lstm and gru"]),
    "h and c swapped": ("run", _states_swapped, ["lstm", "lstm, stacked"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_reference_is_seen(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, wrong, seen_by = MISTAKES[mistake]
    for name in seen_by:
        spec = SPECS[name]
        blocks, given = weights(spec), Given(signal(), start(spec), MASK if spec.mask else None)
        agree(spec, blocks, given)
        with monkeypatch.context() as patch:
            patch.setattr(reference, place, wrong)
            with pytest.raises(AssertionError, match="is off by"):
                agree(spec, blocks, given)


def test_a_call_that_forgets_the_one_before_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(SPECS["gru, concat"], stateful=True, batch_size=BATCH)
    blocks, given = weights(spec), Given(signal(1), before=Given(signal(2)))
    agree(spec, blocks, given)
    computed = reference.computed
    monkeypatch.setattr(reference, "computed", lambda s, p, x, state, *rest: computed(s, p, x, None, *rest))
    with pytest.raises(AssertionError, match="is off by"):
        agree(spec, blocks, given)
