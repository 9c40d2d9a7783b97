"""The file of a baseline: a .npz of plain arrays, with one text that describes them.

The entry ``baseline`` is JSON in UTF-8, one number a byte; its field ``schema`` is ``xframe-baseline/1``. The other entries are

    layers/I/parameters/LAYER/DIRECTION/ROLE/GATE   canonical blocks (`xframe.layout.Key`; no GATE where there is none)
    layers/I/inputs/J/x                             (batch, time, features), or (batch, features)
    layers/I/inputs/J/state/NAME                    initial states (layers, directions, batch, size)
    layers/I/inputs/J/mask                          (batch, time), bool
    layers/I/inputs/J/before                        the input of the call before, like x
    layers/I/inputs/J/outputs/NAME                  what the reference puts out in float64
    layers/I/inputs/J/noise/DTYPE/NAME              the rounding noise of each number of it (`xframe.noise.Noise`)
    layers/I/inputs/J/native/FRAMEWORK/DTYPE/NAME   what a framework put out then
    frameworks/FRAMEWORK/functions                  its activation functions at fixed points (functions, points)

The file is data from a stranger: nothing in it is unpickled, every number is checked, and no entry is left over. Nothing is
compressed and no time is noted, so that the same baseline is the same file.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from xframe import noise
from xframe.baseline.defaults import POINTS, Defaults
from xframe.errors import FileError
from xframe.judging import Input
from xframe.layout import Key
from xframe.packing import Parameters
from xframe.placing import making, place_file, refused
from xframe.spec import Layer

__all__ = ["SCHEMA", "TEXT", "Baseline", "RecordedInput", "RecordedLayer", "address", "save"]

SCHEMA = "xframe-baseline/1"
TEXT = "baseline"
# The first moment that a zip file can tell of.
_NO_TIME = (1980, 1, 1, 0, 0, 0)

Named = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class RecordedInput(Input):
    """What a layer was run on, and the truth as it was recorded.

    Attributes:
        truths: the reference's outputs and their noise, by float type.
        native: what frameworks put out, by (framework, float type), each by output name.
    """

    truths: Mapping[str, noise.Noise] = field(default_factory=dict)
    native: Mapping[tuple[str, str], Named] = field(default_factory=dict)

    def noise(self, dtype: str, coarse: frozenset[str] = frozenset()) -> noise.Noise:
        """The truth for a float type, as it was recorded; the noise of a library that is coarse is measured now."""
        recorded = self.truths[dtype]
        return noise.Noise(recorded.clean, super().noise(dtype, coarse).deviation) if coarse else recorded


@dataclass(frozen=True)
class RecordedLayer:
    """One layer of a baseline.

    Attributes:
        name: what reports call it.
        spec, params: the layer and its canonical parameters.
        inputs: what it was run on, with what it put out.
        dtypes: the float types in which it is judged, the finest first.
    """

    name: str
    spec: Layer
    params: Parameters
    inputs: tuple[RecordedInput, ...]
    dtypes: tuple[str, ...]


@dataclass(frozen=True)
class Baseline:
    """What a file holds.

    Attributes:
        version: of the xframe that recorded it.
        environment: versions of what can change a number.
        limit: how many units of noise an output may be off.
        probe: sizes and seed of the inputs.
        layers: the layers, each by itself.
        defaults: by framework, what its names meant.
    """

    version: str
    environment: Mapping[str, str]
    limit: float
    probe: Mapping[str, int]
    layers: tuple[RecordedLayer, ...]
    defaults: Mapping[str, Defaults]


def save(baseline: Baseline, path: Path, force: bool) -> None:
    """Write a baseline, whole or not at all; without ``force`` it replaces no file.

    Raises:
        FileError: the disk refuses, or a file has come meanwhile.
    """
    text = json.dumps(_description(baseline), indent=1, allow_nan=False).encode()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, array in [(TEXT, np.frombuffer(text, np.uint8)), *_arrays(baseline)]:
            entry = zipfile.ZipInfo(f"{name}.npy", _NO_TIME)
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # on every system those of Unix
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
    try:
        with making(path) as made:
            made.write_bytes(content.getbuffer())
            place_file(made, path, force)
    except FileError:
        raise
    except OSError as error:
        raise refused(path, error) from None


def _description(b: Baseline) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "version": b.version,
        "environment": dict(b.environment),
        "limit": b.limit,
        "probe": dict(b.probe),
        "layers": [_layer_description(layer) for layer in b.layers],
        "frameworks": {
            name: {"version": d.version, "layers": dict(d.layers), "functions": list(d.functions)}
            for name, d in b.defaults.items()
        },
    }


def _layer_description(layer: RecordedLayer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "spec": {"cell": layer.spec.cell, **asdict(layer.spec)},
        "dtypes": list(layer.dtypes),
        "inputs": [
            {
                "number": one.number,
                "kind": one.kind,
                "state": one.given.state is not None,
                "mask": one.given.mask is not None,
                "before": one.given.before is not None,
                "native": [list(key) for key in one.native],
            }
            for one in layer.inputs
        ],
    }


def _arrays(b: Baseline) -> Iterator[tuple[str, np.ndarray]]:
    for i, layer in enumerate(b.layers):
        for key, block in layer.params.items():
            yield f"layers/{i}/parameters/{address(key)}", block
        for j, one in enumerate(layer.inputs):
            yield from _input_arrays(f"layers/{i}/inputs/{j}", one)
    for name, defaults in b.defaults.items():
        yield f"frameworks/{name}/functions", np.array([*defaults.functions.values()]).reshape(-1, len(POINTS))


def _input_arrays(at: str, one: RecordedInput) -> Iterator[tuple[str, np.ndarray]]:
    given = one.given
    yield f"{at}/x", given.x
    yield from _under(f"{at}/state", given.state or {})
    if given.mask is not None:
        yield f"{at}/mask", given.mask
    if given.before is not None:
        yield f"{at}/before", given.before.x
    yield from _under(f"{at}/outputs", next(iter(one.truths.values())).clean)
    for dtype, truth in one.truths.items():
        yield from _under(f"{at}/noise/{dtype}", truth.deviation)
    for (framework, dtype), outputs in one.native.items():
        yield from _under(f"{at}/native/{framework}/{dtype}", outputs)


def _under(folder: str, arrays: Named) -> Iterator[tuple[str, np.ndarray]]:
    yield from ((f"{folder}/{name}", array) for name, array in arrays.items())


def address(key: Key) -> str:
    """``0/0/kernel/i``"""
    return "/".join(str(part) for part in key if part != "")
