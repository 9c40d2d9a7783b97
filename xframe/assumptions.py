"""Which framework, and which assumption about the layer, gives a number that somebody has in hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from xframe.adapters import known_packings, usual_adapters
from xframe.cells import get_cell
from xframe.counts import count_in, terms
from xframe.errors import SpecError, UnsupportedError
from xframe.layout import Leaf
from xframe.spec import Recurrent, plural

__all__ = ["Match", "NumberSearch", "search"]

_SHOWN = 6
# Matches so much less likely than the best one are coincidences, and only confuse.
_FARTHEST = 1.6

# A match in a framework that xframe only counts is less likely to be what somebody has than one change of an option in
# a framework that it runs, and more likely than two.
_RARE_FRAMEWORK = 1.5
# What a person forgets when counting by hand is less likely than an option when the number comes from a framework.
_SLIP = 2.0


@dataclass(frozen=True)
class Match:
    """One way to get near a number.

    Attributes:
        framework: short name.
        title: the framework's name for people.
        assumption: what has to be assumed about the layer, "as given" for nothing.
        count: what that gives.
        unlikely: how far-fetched it is; the smaller the better.
    """

    framework: str
    title: str
    assumption: str
    count: int
    unlikely: float


@dataclass(frozen=True)
class NumberSearch:
    """The answer to "where does this number come from?".

    Attributes:
        spec, number: the question.
        exact: whether the matches give the number; if not they are the nearest.
        matches: the likeliest first; where none is exact, the nearest first.
        as_given: what each framework stores for the layer as it was given, by title.
        missing: where none is exact, the difference to the nearest, in words.
    """

    spec: Recurrent
    number: int
    exact: bool
    matches: tuple[Match, ...]
    as_given: dict[str, int]
    missing: str

    def report(self, format: str = "text") -> str:
        """The answer as ``text``, ``markdown``, ``html`` or ``json``."""
        from xframe.report import render

        return render(self, format)


def search(spec: Recurrent, number: int, steps: int | None = None) -> NumberSearch:
    """Find which framework and which assumption gives ``number`` for a layer of these sizes.

    Args:
        spec: the layer as the user believes it is.
        number: the count in hand.
        steps: the number of time steps, where it may have been taken for the number of features.

    Raises:
        SpecError: the number is not positive.
    """
    if number < 1:
        raise SpecError(f"--number must be a positive whole number, not {number}.")
    candidates = sorted(_candidates(spec, steps), key=lambda m: m.unlikely)
    exact = [m for m in candidates if m.count == number]
    found = exact or sorted(candidates, key=lambda m: (abs(m.count - number), m.unlikely))
    as_given = {m.title: m.count for m in candidates if m.assumption == "as given"}
    missing = "" if exact else _difference(spec, number - found[0].count)
    return NumberSearch(spec, number, bool(exact), tuple(_distinct(found))[:_SHOWN], as_given, missing)


def _distinct(matches: list[Match]) -> Iterator[Match]:
    """Leave out what is far-fetched beside the best match, or beside the same framework's simpler one."""
    seen = set()
    for match in matches:
        if (match.framework, match.count) not in seen and match.unlikely <= matches[0].unlikely + _FARTHEST:
            seen.add((match.framework, match.count))
            yield match


def _candidates(spec: Recurrent, steps: int | None) -> Iterator[Match]:
    for name, packing in known_packings().items():
        rare = 0.0 if name in usual_adapters() else _RARE_FRAMEWORK
        for words, changed, weight in _variants(spec, steps):
            try:
                one = count_in(packing, changed)
            except UnsupportedError:
                continue
            if packing.why_ours(changed):
                continue  # a number that somebody has in hand is that of the framework's own layer
            leaves = [leaf for native in one.tensors for leaf in native.leaves]
            yield Match(name, packing.title, " and ".join(words) or "as given", one.stored, rare + weight)
            for slip, number in _slips(changed, leaves, one.stored, one.effective):
                yield Match(name, packing.title, " and ".join([*words, slip]), number, rare + weight + _SLIP)


def _variants(spec: Recurrent, steps: int | None) -> Iterator[tuple[list[str], Recurrent, float]]:
    """The layer itself, then with one option changed, then with two."""
    yield [], spec, 0.0
    ones = list(_changes(spec, steps))
    for words, change, weight in ones:
        if changed := _changed(spec, change):
            yield [words], changed, weight
    for i, (first, one, weight) in enumerate(ones):
        for second, two, more in ones[i + 1 :]:
            if not one.keys() & two.keys() and (changed := _changed(spec, {**one, **two})):
                yield [first, second], changed, weight + more


def _changed(spec: Recurrent, change: dict[str, Any]) -> Recurrent | None:
    try:
        return replace(spec, **change)
    except SpecError:
        return None


def _changes(spec: Recurrent, steps: int | None) -> Iterator[tuple[str, dict[str, Any], float]]:
    """Single options that may be other than the user believes, each with how unlikely that is."""
    if spec.reset_after is not None:
        yield f"reset_after={not spec.reset_after}", {"reset_after": not spec.reset_after}, 1.0
    if spec.bidirectional:
        yield "one direction", {"bidirectional": False}, 1.0
    else:
        yield "two directions", {"bidirectional": True}, 1.1
    if spec.input_size > 1:
        yield (
            f"1 feature (in Input(({spec.input_size}, 1)), {spec.input_size} are time steps and 1 is the feature)",
            {"input_size": 1},
            1.0,
        )
    if steps is not None and steps != spec.input_size:
        yield f"{plural(steps, 'feature')} (features and time steps exchanged)", {"input_size": steps}, 1.0
    if spec.input_size != spec.hidden_size:
        swapped = {"input_size": spec.hidden_size, "hidden_size": spec.input_size}
        yield "features and hidden exchanged", swapped, 1.2
    if spec.num_layers > 1:
        yield "one layer", {"num_layers": 1}, 1.0
    else:
        yield "two layers", {"num_layers": 2}, 1.2
    if spec.bias:
        yield "no bias", {"bias": False}, 1.3


def _slips(spec: Recurrent, leaves: list[Leaf], stored: int, effective: int) -> Iterator[tuple[str, int]]:
    """Numbers that a person gets who counts this layer by hand and forgets something."""
    biases = sum(terms((leaf for leaf in leaves if leaf.role in ("bias", "recurrent_bias")), spec))
    recurrent = sum(terms((leaf for leaf in leaves if leaf.role == "recurrent_kernel"), spec))
    inputs = sum(terms((leaf for leaf in leaves if leaf.role == "kernel"), spec))
    cell = get_cell(spec.cell)
    yield "the recurrent kernel (hidden x hidden) forgotten", stored - recurrent
    yield "the input kernel (features x hidden) forgotten", stored - inputs
    if biases:
        yield "the bias forgotten", stored - biases
    if stored != effective:
        yield "biases that only enter as a sum counted once", effective
    if spec.bidirectional and spec.num_layers > 1:
        below = (spec.num_layers - 1) * 2 * len(cell.gates) * spec.hidden_size * (spec.output_size - spec.state_size)
        yield "the later layers taken to read one direction only", stored - below
    if len(cell.gates) > 1:
        yield "one gate counted instead of all", stored // len(cell.gates)


def _difference(spec: Recurrent, difference: int) -> str:
    """The difference as blocks that a layer is made of, if it is one."""
    gates, n, d = len(get_cell(spec.cell).gates), spec.hidden_size, spec.input_size
    blocks = {
        "one bias vector": n,
        f"the biases of all {gates} gates": gates * n,
        "one gate's recurrent kernel": n * n,
        "the recurrent kernels of all gates": gates * n * n,
        "one gate's input kernel": n * d,
        "the input kernels of all gates": gates * n * d,
    }
    text = f"{abs(difference):,} {'more' if difference > 0 else 'fewer'} than the nearest"
    names = [name for name, size in blocks.items() if size == abs(difference)]
    return text + (f", as many as {names[0]}" if names else "")
