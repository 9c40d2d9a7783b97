"""Gates in another order than they are read in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, partial
from itertools import permutations
from typing import Any, NamedTuple

from xframe.adapters import known_packings
from xframe.cells import get_cell
from xframe.layout import row_name
from xframe.mistakes.base import Case, Mistake, Variation
from xframe.mistakes.making import BIASES, KERNELS, parts, tensors, with_blocks

__all__ = ["ENTRIES", "framework_orders"]

# Whose orders are known; PyTorch's first, because most weights are read as PyTorch's.
_FRAMEWORKS = ("torch", "keras", "onnx", "tf1")
_ALL = (*KERNELS, *BIASES)
_SOME = (BIASES, KERNELS, ("recurrent_kernel",), ("kernel",))


class _Order(NamedTuple):
    """An order of gates.

    Attributes:
        source: pairs of a gate and the gate whose block stands in its place.
        name: what is wrong.
        mend: what to do, with a place for the tensors.
        known: whether it is that of one framework read as that of another.
    """

    source: tuple[tuple[str, str], ...]
    name: str
    mend: str
    known: bool

    @property
    def moved(self) -> list[str]:
        return [gate for gate, other in self.source if gate != other]

    @property
    def is_swap(self) -> bool:
        return len(self.moved) == 2


@cache
def framework_orders(row: str) -> dict[str, dict[str, list[str]]]:
    """The orders in which frameworks pack the gates of a layout row: who does, by the letters that they use."""
    found: dict[str, dict[str, list[str]]] = {}
    for name in _FRAMEWORKS:
        packing = known_packings()[name]
        if row in packing.rows:
            own = packing.rows[row].gate_order()
            canonical = {label: gate for gate, label in packing.rows[row].labels.items()}
            order = "".join(canonical.get(letter, letter) for letter in own)
            found.setdefault(order, {}).setdefault(" ".join(own), []).append(packing.title)
    return found


def _whose(users: dict[str, list[str]], word: str = "") -> str:
    """``Keras's gate order i f c o or ...`` with "gate order" for the word."""
    texts = []
    for letters, titles in users.items():
        owners = " or ".join(f"{title}'s" for title in titles)
        texts.append(f"{owners} {word}{letters}")
        word = ""
    return " or ".join(texts)


@cache
def _orders(row: str) -> tuple[_Order, ...]:
    """Every wrong order, those of frameworks first."""
    gates = get_cell(row.split("/")[0]).gates
    known: dict[tuple[tuple[str, str], ...], str] = {}
    packed = framework_orders(row)
    for read in packed:
        for written in reversed(packed):
            if written != read:
                place = dict(zip(read, written, strict=True))
                text = f"packed in {_whose(packed[written], 'gate order ')} and read as {_whose(packed[read])}"
                if sum(gate != other for gate, other in place.items()) == 2:
                    # It is the same either way.
                    text = (
                        f"{_whose(packed[read], 'gate order ')} and {_whose(packed[written])} are taken for each other"
                    )
                known.setdefault(tuple((gate, place[gate]) for gate in gates), text)
    others = [tuple(zip(gates, order, strict=True)) for order in permutations(gates) if order != gates]
    every = dict.fromkeys((*known, *sorted(others, key=lambda source: sum(a != b for a, b in source))))
    return tuple(_order(source, known.get(source, "")) for source in every)


def _order(source: tuple[tuple[str, str], ...], packed: str) -> _Order:
    used_as = {other: gate for gate, other in source if other != gate}
    blocks = [gate for gate, _ in source if gate in used_as]
    if len(blocks) == 2:
        name = f"gates {blocks[0]} and {blocks[1]} swapped" + (f", as when {packed}" if packed else "")
        return _Order(source, name, f"Exchange the blocks of gates {blocks[0]} and {blocks[1]} in {{}}.", bool(packed))
    here, there = ", ".join(used_as[gate] for gate in blocks), ", ".join(blocks)
    mend = f"In {{}}, move the blocks that stand at gates {here} to {there}."
    return _Order(source, packed or f"gates {there} taken for {here}", mend, bool(packed))


def _permuted(case: Case, source: dict[str, str], roles: Iterable[str]) -> Case:
    params = case.params
    return with_blocks(
        case,
        {
            key: params[key._replace(gate=source[key.gate])]
            for key in params
            if key.role in roles and source.get(key.gate, key.gate) != key.gate
        },
    )


def _each_order(case: Case) -> Iterator[_Order]:
    """The wrong orders of every cell in the layer."""
    rows = {part.cell: row_name(part) for _, part in reversed(list(parts(case.spec)))}
    for row in rows.values():
        yield from _orders(row)


def _variation(case: Case, order: _Order, roles: tuple[str, ...], probed: str = "") -> Variation:
    where = "" if roles == _ALL else f", in {tensors(roles, case)} only"
    mend = order.mend.format(tensors(roles, case))
    return Variation(order.name + where, mend, partial(_permuted, source=dict(order.source), roles=roles), probed)


def _changes(case: Case, order: _Order) -> bool:
    """Whether the order shows: a product of one function of two gates does not."""
    if order.moved != ["i", "g"]:
        return True
    return any(part.cell == "lstm" and not _one_function(part) for _, part in parts(case.spec))


def _one_function(part: Any) -> bool:
    """Whether the gates and the candidate have the same activation function."""
    names = {part.activation, part.recurrent_activation}
    return len(names) == 1 or names == {"elu", "celu"}


def _known(case: Case) -> Iterator[Variation]:
    for order in _each_order(case):
        if order.known and _changes(case, order):
            yield _variation(case, order, _ALL, "first" if order.is_swap else "")


def _swapped(case: Case) -> Iterator[Variation]:
    for order in _each_order(case):
        if order.is_swap and not order.known and _changes(case, order):
            yield _variation(case, order, _ALL, "first")


def _in_some(case: Case) -> Iterator[Variation]:
    present = {key.role for key in case.params}
    for roles in _SOME:
        # Without biases the kernels are all there is.
        if present & set(roles) and present & set(_ALL) - set(roles):
            yield from (_variation(case, order, roles) for order in _each_order(case) if order.known or order.is_swap)


def _mixed(case: Case) -> Iterator[Variation]:
    for order in _each_order(case):
        if not order.known and not order.is_swap:
            yield _variation(case, order, _ALL)


ENTRIES = (
    Mistake(
        "gate order",
        ("gate order", "i f g o", "i f c o", "z r h", "r z n", "iofc", "icfo"),
        "Frameworks lay the gates of one tensor end to end, each in an order of its own. The shapes fit in any order.",
        _known,
    ),
    Mistake(
        "gates swapped",
        ("swapped gates", "gate order"),
        "Two gates have each other's weights. The shapes fit, and the layer is another function.",
        _swapped,
        1,
    ),
    Mistake(
        "gate order of some tensors",
        ("biases left in the other gate order", "recurrent kernel not reordered"),
        "The gates were put in order in some tensors and left as they were in the others.",
        _in_some,
        1,
    ),
    Mistake(
        "gates mixed up",
        ("gate order", "shuffled gates"),
        "The gates are in an order that no framework uses.",
        _mixed,
        3,
    ),
)
