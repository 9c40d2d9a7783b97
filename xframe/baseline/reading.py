"""Reading a baseline, as `xframe.baseline.stored` describes its file. It may come from a stranger: nothing in it is believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from xframe import files, layout, noise
from xframe.adapters.base import check_dtype
from xframe.baseline.defaults import POINTS, Defaults
from xframe.baseline.stored import SCHEMA, TEXT, Baseline, RecordedInput, RecordedLayer, address
from xframe.errors import FileError, XframeError
from xframe.files._json import object_of
from xframe.files._zip import opened
from xframe.files.base import MAX_TEXT, ModelFile, unreadable
from xframe.judging import LIMIT
from xframe.packing import Parameters
from xframe.probe import Probe
from xframe.reference import Given, check_input, check_state
from xframe.spec import Dense, Layer, Recurrent

__all__ = ["load"]

_MEND = "record it again with xframe record"
# Characters of what a file says that are repeated to the user.
_LONGEST = 200


def load(path: str | Path) -> Baseline:
    """Read a baseline, and check all of it.

    Raises:
        FileError: it is not there, damaged, of another schema, or anything in it is missing, left over, of a wrong shape or
            type, or not finite.
    """
    path = Path(path)
    reader = _Reader(_opened(path))
    text = reader.array(TEXT, kind="u").tobytes()
    try:
        about = object_of(text, f"Cannot read {path}: what it says of itself", _refuse)
        if about["schema"] != SCHEMA:
            raise unreadable(
                path,
                f"its schema is {str(about['schema'])[:_LONGEST]!r}, and this xframe reads {SCHEMA!r}",
                f"use that xframe, or {_MEND}",
            )
        found = _baseline(reader, about)
    except FileError:
        raise
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError, XframeError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise unreadable(path, f"what it says of itself makes no sense ({why[:_LONGEST]})", _MEND) from None
    reader.check_all_read()
    return found


def _opened(path: Path) -> ModelFile:
    file = files.load(path)
    if file.format != "npz" or TEXT not in file.tensors:
        raise unreadable(path, "it is no baseline of xframe", "give a file that xframe record wrote")
    with opened(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    # What xframe writes is not compressed. So what is read is never larger than what somebody has sent.
    if unpacked > path.stat().st_size:
        raise unreadable(path, f"it would unpack to {unpacked} bytes from {path.stat().st_size}", _MEND)
    return file


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"a number is {constant}")


class _Reader:
    """The arrays of a file by name, each checked when it is read, and each read once."""

    def __init__(self, file: ModelFile) -> None:
        self.path, self._left = file.path, dict(file.tensors)

    def array(self, name: str, shape: tuple[int, ...] | None = None, kind: str = "f") -> np.ndarray:
        """An array of a type of that kind, of any shape if None, all of whose numbers are finite."""
        if name not in self._left:
            raise unreadable(self.path, f"it lacks {name}", _MEND)
        stored = self._left.pop(name)
        if shape is not None and stored.shape != shape:
            raise unreadable(self.path, f"{name} has the shape {stored.shape} instead of {shape}", _MEND)
        if name == TEXT and stored.count > MAX_TEXT:
            raise unreadable(self.path, f"{name} is {stored.count} bytes long", _MEND)
        array = stored.read()
        if array.dtype.kind != kind or array.dtype.itemsize > 8 or (name == TEXT and array.dtype != np.uint8):
            raise unreadable(self.path, f"{name} is of type {array.dtype}", _MEND)
        if not np.isfinite(array).all():
            raise unreadable(self.path, f"{name} holds a number that is not finite", _MEND)
        return array

    def named(self, folder: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        """Several arrays by name."""
        return {name: self.array(f"{folder}/{name}", shape) for name, shape in shapes.items()}

    def check_all_read(self) -> None:
        """Refuse what nothing explains."""
        if self._left:
            raise unreadable(self.path, f"it holds {next(iter(self._left))}, which nothing explains", _MEND)


def _baseline(reader: _Reader, about: Mapping[str, Any]) -> Baseline:
    limit = float(about["limit"])
    if not 0 < limit < np.inf:
        raise ValueError(f"its limit is {limit}")
    probe = Probe(**{name: about["probe"][name] for name in ("batch", "steps", "seed")})
    layers = tuple(_layer(reader, f"layers/{i}", one, limit) for i, one in enumerate(about["layers"]))
    if not layers:
        raise ValueError("it has no layer")
    return Baseline(
        str(about["version"]),
        {str(name): str(text) for name, text in about["environment"].items()},
        limit,
        {"batch": probe.batch, "steps": probe.steps, "seed": probe.seed},
        layers,
        {str(name): _defaults(reader, str(name), one) for name, one in about["frameworks"].items()},
    )


def _defaults(reader: _Reader, name: str, about: Mapping[str, Any]) -> Defaults:
    functions = [str(function) for function in about["functions"]]
    values = reader.array(f"frameworks/{name}/functions", (len(functions), len(POINTS)))
    layers = {str(kind): {"cell": options["cell"], **options} for kind, options in about["layers"].items()}
    return Defaults(str(about["version"]), layers, dict(zip(functions, values, strict=True)))


def _spec(about: Mapping[str, Any]) -> Layer:
    """A layer from its options."""
    options = dict(about)
    if options["cell"] == "dense":
        del options["cell"]
        return Dense(**options)
    options["backward"] = options["backward"] and _spec(options["backward"])
    options["stacked"] = tuple(_spec(one) for one in options["stacked"])
    return Recurrent(**options)


def _layer(reader: _Reader, at: str, about: Mapping[str, Any], limit: float) -> RecordedLayer:
    spec, name = _spec(about["spec"]), str(about["name"])
    dtypes = tuple(sorted({check_dtype(dtype) for dtype in about["dtypes"]}, key=noise.ROUNDOFF.__getitem__))
    shapes = {key: layout.block_shape(spec, key) for key in layout.keys(spec)}
    blocks = {key: reader.array(f"{at}/parameters/{address(key)}", shape) for key, shape in shapes.items()}
    layer = RecordedLayer(name, spec, Parameters(spec, blocks), (), dtypes)
    inputs = [_input(reader, f"{at}/inputs/{j}", layer, one, limit) for j, one in enumerate(about["inputs"])]
    if not inputs or not dtypes:
        raise ValueError(f"{name} has nothing that could be checked")
    return replace(layer, inputs=tuple(inputs))


def _input(reader: _Reader, at: str, layer: RecordedLayer, about: Mapping[str, Any], limit: float) -> RecordedInput:
    spec = layer.spec
    x = check_input(spec, reader.array(f"{at}/x"))
    Probe(x.shape[0], 1 if isinstance(spec, Dense) else x.shape[1]).check_size(spec)
    shapes = _output_shapes(spec, x)
    given = _given(reader, at, spec, x, about)
    clean = reader.named(f"{at}/outputs", shapes)
    truths = {}
    for dtype in layer.dtypes:
        deviation = reader.named(f"{at}/noise/{dtype}", shapes)
        if any((values <= 0).any() for values in deviation.values()):
            raise ValueError(f"the noise of {at} is not above zero")
        # In units of today's limit, so that what was within the limit then is so now.
        truths[dtype] = noise.Noise(clean, {name: values * (limit / LIMIT) for name, values in deviation.items()})
    native = {
        (str(framework), str(dtype)): reader.named(f"{at}/native/{framework}/{dtype}", shapes)
        for framework, dtype in about["native"]
    }
    number, kind = int(about["number"]), str(about["kind"])
    return RecordedInput(layer.name, spec, layer.params, given, number, kind, truths, native)


def _given(reader: _Reader, at: str, spec: Layer, x: np.ndarray, about: Mapping[str, Any]) -> Given:
    if isinstance(spec, Dense):
        return Given(x)
    slots, batch = layout.states(spec), x.shape[0]
    shapes = {name: (*slot.axes, batch, slot.size) for name, slot in slots.items()}
    state = check_state(spec, reader.named(f"{at}/state", shapes), batch) if about["state"] else None
    mask = reader.array(f"{at}/mask", x.shape[:2], "b") if about["mask"] else None
    before = Given(check_input(spec, reader.array(f"{at}/before", x.shape))) if about["before"] else None
    return Given(x, state, mask, before)


def _output_shapes(spec: Layer, x: np.ndarray) -> dict[str, tuple[int, ...]]:
    """The shapes of the outputs by name, as in `xframe.reference.Outputs.named`."""
    if isinstance(spec, Dense):
        return {"output": (x.shape[0], spec.units)}
    batch, steps, _ = x.shape
    states = {f"state {name}": (*slot.axes, batch, slot.size) for name, slot in layout.states(spec).items()}
    return {"sequence": (batch, steps, spec.output_size), "last": (batch, spec.output_size), **states}
