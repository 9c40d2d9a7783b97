"""Mistakes that were made in one direction or one layer only: a line of transfer code that is wrong for some tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from xframe.diagnosis.search import Candidate
from xframe.mistakes import Case, Variation
from xframe.spec import Layer

__all__ = ["confined"]

_Places = frozenset[tuple[int, int]]


def confined(spec: Layer, every: Sequence[Candidate], first: int) -> list[Candidate]:
    """Every mistake in parameters, made in some places of the layer; ``first`` is the number of the first of these."""
    found = [
        replace(one, variation=_in(one.variation, places, words)) for places, words in _groups(spec) for one in every
    ]
    return [replace(one, number=first + i) for i, one in enumerate(found)]


def _groups(spec: Layer) -> Iterator[tuple[_Places, str]]:
    """Some of the places of a layer, and what they are called: each direction, each layer, and each direction of each layer."""
    places = frozenset(spec.places)
    layers, directions = ({place[i] for place in places} for i in (0, 1))
    names = {0: "the forward direction", 1: "the backward direction"}
    groups = {frozenset(p for p in places if p[1] == d): names[d] for d in sorted(directions)}
    groups |= {frozenset(p for p in places if p[0] == k): f"layer {k}" for k in sorted(layers)}
    if len(layers) > 1 < len(directions):
        groups |= {frozenset([(k, d)]): f"{names[d]} of layer {k}" for k, d in sorted(places)}
    yield from ((group, words) for group, words in groups.items() if group < places)


def _in(variation: Variation, places: _Places, words: str) -> Variation:
    name = f"{variation.name}, in {words} only"
    mend = f"In {words}: {variation.mend[0].lower()}{variation.mend[1:]}"
    return replace(variation, name=name, mend=mend, change=partial(_changed, variation, places))


def _changed(variation: Variation, places: _Places, case: Case) -> Case:
    """The case with the blocks of these places changed; as it is where the mistake is none of blocks alone."""
    other = variation.change(case)
    same = other.spec is case.spec and other.given is case.given and other.after is case.after
    blocks = {key: block for key, block in other.params.items() if key[:2] in places} if same else {}
    moved = any(block is not case.params.get(key) for key, block in blocks.items())
    return replace(case, params={**case.params, **blocks}) if moved else case
