"""Where the layers of a baseline come from: a spec, a native layer, or a model file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xframe.adapters import adapter_of
from xframe.adapters.base import DTYPES
from xframe.comparison import fitting, sized
from xframe.drawing import Drawn, completed, drawn
from xframe.errors import SpecError, UnsupportedError
from xframe.files import load
from xframe.judging import Subject
from xframe.packing import Parameters
from xframe.probe import Probe, draw_input
from xframe.recognition import Choices, recognise
from xframe.spec import Layer, Sequential

__all__ = ["Source", "of_file", "of_native", "of_spec"]


@dataclass(frozen=True)
class Source:
    """A layer to be recorded: its name, the layer, what it is run on, and the native layer if it is one."""

    name: str
    spec: Layer
    found: Drawn
    dtypes: tuple[str, ...]
    native: Subject | None = None


def of_spec(model: Layer | Sequential, probe: Probe, longer: bool) -> list[Source]:
    """The layers of a spec, with random parameters; a later one reads what the one before puts out."""
    layers = model.layers if isinstance(model, Sequential) else (model,)
    names = [f"layer {i + 1}" for i in range(len(layers))] if len(layers) > 1 else ["layer"]
    found = drawn(layers, names, fitting(layers, probe), DTYPES, longer)
    return [Source(n, spec, one, DTYPES) for n, spec, one in zip(names, layers, found, strict=True)]


def of_native(layer: Any, probe: Probe, longer: bool) -> Source:
    """A native layer as it is."""
    adapter = adapter_of(layer)
    spec, native = adapter.spec(layer), Subject(adapter, layer, "its own")
    return _source("layer", spec, adapter.parameters(layer), sized([native], [spec], probe, longer), longer, native)


def of_file(
    path: Path, name: str | None, choices: Choices | None, probe: Probe, longer: bool, notes: list[str]
) -> list[Source]:
    """The layers of a file, or the one of that name; what is to be said of them is added to ``notes``."""
    found = recognise(load(path), choices)
    layers = [one for one in found.layers if name in (None, one.name)]
    if not layers:
        names = ", ".join(repr(one.name) for one in found.layers) or "none"
        which = "" if name is None else f" {name!r}"
        raise SpecError(
            f"{path} has no recurrent or dense layer{which}; name one that it has ({names}), or another file."
        )
    notes += found.warnings
    sources = []
    for one in layers:
        if one.refused:
            if name is not None or len(layers) == 1:
                raise UnsupportedError(f"{one.name} cannot be recorded: {one.refused}")
            notes.append(f"Not recorded: {one.name}: {one.refused}")
            continue
        one.check_decided()
        reading = one.readings[0]
        told = {option: getattr(reading.spec, option) for option in reading.open}
        if assumed := ", ".join(f"{option} {value!r}" for option, value in told.items() if value is not None):
            notes.append(f"{one.name}: not in the file, and taken as the default: {assumed}.")
        notes += [f"{one.name}: {warning}" for warning in one.warnings]
        sources.append(_source(one.name, reading.spec, reading.parameters(found.file), probe, longer))
    if not sources:
        raise UnsupportedError(f"{path} has no layer that could be recorded: {layers[0].refused}")
    return sources


def _source(
    name: str, spec: Layer, params: Parameters, probe: Probe, longer: bool, native: Subject | None = None
) -> Source:
    """A layer with parameters of its own."""
    probe = fitting([spec], probe)
    dtypes = tuple(dtype for dtype in DTYPES if _holds(dtype, params.values()))
    found = completed(spec, name, params, draw_input(spec, probe), probe, dtypes, longer)
    return Source(name, spec, found, dtypes, native)


@np.errstate(over="ignore")
def _holds(dtype: str, blocks: Iterable[np.ndarray]) -> bool:
    """Whether every number is one of the float type; else a layer of that type has other parameters."""
    return all(np.array_equal(block.astype(dtype), block) for block in blocks)
