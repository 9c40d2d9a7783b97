"""Counting: what each framework stores for a layer, derived from the layout tables alone.

Three numbers: *stored* is what the framework keeps and its summary prints; *effective* is what the layer's function
depends on (identifiable numbers); *redundant* is the difference, biases of which only the sum is ever used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from xframe.adapters import known_packings
from xframe.errors import UnsupportedError
from xframe.layout import Leaf, Native, Packing, block_shape, folds, formula, polynomial
from xframe.spec import Layer, Sequential

__all__ = ["Count", "count", "count_in", "unsupported"]


@dataclass(frozen=True)
class Count:
    """The numbers of one layer (or chain) in one framework.

    Attributes:
        packing: the framework.
        stored, effective, redundant: see this module.
        formula: the stored count in symbols, ``hidden*(hidden+features+2)``.
        arithmetic: the same in numbers, ``10*(10+1+2)``.
        tensors: the native tensors in the framework's order.
        layers: the framework's names of the layers.
    """

    packing: Packing
    stored: int
    effective: int
    formula: str
    arithmetic: str
    tensors: tuple[Native, ...]
    layers: tuple[str, ...]

    @property
    def redundant(self) -> int:
        return self.stored - self.effective


def count(spec: Layer | Sequential) -> dict[str, Count]:
    """The counts of a layer, or of a whole chain, by framework; frameworks that do not have it are left out."""
    found = {}
    for name, packing in known_packings().items():
        try:
            found[name] = count_in(packing, spec)
        except UnsupportedError:
            continue
    return found


def unsupported(spec: Layer) -> dict[str, str]:
    """For each framework that does not have the layer, the sentence that says why."""
    found = {}
    for name, packing in known_packings().items():
        try:
            packing.layout(spec)
        except UnsupportedError as error:
            found[name] = str(error)
    return found


def count_in(packing: Packing, spec: Layer | Sequential) -> Count:
    """The count of a layer, or of a whole chain, in one framework.

    Raises:
        UnsupportedError: the framework does not have it.
    """
    if isinstance(spec, Sequential):
        return _total(packing, [count_in(packing, layer) for layer in spec.distinct])
    natives = packing.natives(spec)
    stored = sum(native.count for native in natives)
    leaves = [leaf for native in natives for leaf in native.leaves]
    redundant = sum(spec.part(leaf.direction, leaf.layer).hidden_size for leaf in redundant_biases(leaves, spec))
    symbols, numbers = _formula(leaves, spec)
    return Count(
        packing,
        stored,
        stored - redundant,
        symbols,
        numbers,
        tuple(natives),
        (packing.layer_name(spec),),
    )


def redundant_biases(leaves: Iterable[Leaf], spec: Layer) -> list[Leaf]:
    """The recurrent biases that are stored beside an input bias to which they are merely added."""
    found = list(leaves)
    keys = {leaf.key for leaf in found}
    return [
        leaf
        for leaf in found
        if leaf.role == "recurrent_bias" and folds(spec, leaf.key) and leaf.key._replace(role="bias") in keys
    ]


def terms(leaves: Iterable[Leaf], spec: Layer) -> list[int]:
    """Sizes of the blocks, one number for each role in order: what a person adds up by hand."""
    sizes: dict[tuple[int, int, str], int] = {}
    for leaf in leaves:
        size = 1
        for axis in block_shape(spec, leaf.key):
            size *= axis
        place = (leaf.layer, leaf.direction, leaf.role)
        sizes[place] = sizes.get(place, 0) + size
    return list(sizes.values())


def _total(packing: Packing, parts: list[Count]) -> Count:
    return Count(
        packing,
        sum(p.stored for p in parts),
        sum(p.effective for p in parts),
        " + ".join(p.formula for p in parts),
        " + ".join(p.arithmetic for p in parts),
        tuple(native for p in parts for native in p.tensors),
        tuple(name for p in parts for name in p.layers),
    )


def _formula(leaves: list[Leaf], spec: Layer) -> tuple[str, str]:
    """The count in symbols and in numbers.

    One summand for the first layer and one for all that follow, each for one direction and then doubled; one for each
    stacked cell; and where the directions differ, one for each.
    """
    differ = getattr(spec, "backward", None) is not None
    symbols, numbers = [], []
    for layer, direction in spec.places:
        # What follows the first layer of a plain stack is like the second.
        times = spec.num_layers - 1 if layer and spec.num_layers > 1 else 1
        if (direction and not differ) or (layer > 1 and spec.num_layers > 1):
            continue
        here = [leaf for leaf in leaves if (leaf.layer, leaf.direction) == (layer, direction)]
        one = formula(polynomial(here, spec))
        factor = "".join(f"{n}*" for n in (times, 1 if differ else spec.num_directions) if n > 1)
        symbols.append(factor + one)
        numbers.append(factor + _numbers(one, spec, layer, direction))
    return " + ".join(symbols), " + ".join(numbers)


def _numbers(symbols: str, spec: Layer, layer: int, direction: int) -> str:
    """A formula with the sizes put in."""
    part = spec.part(direction, layer)
    values = {
        "hidden": part.hidden_size,
        "units": part.hidden_size,
        "features": spec.input_size,
        "proj": part.state_size,
        "below": spec.layer_input_size(layer, direction),
    }
    return re.sub(r"[a-z]+", lambda m: str(values[m.group()]), symbols)
