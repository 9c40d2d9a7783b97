"""What is known of the side that is to be explained: what it put out, and on what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xframe import layout, noise, reference
from xframe.errors import FileError, SpecError
from xframe.files import load
from xframe.judging import LIMIT
from xframe.layout import Key
from xframe.masks import is_right_padded
from xframe.reference import Given
from xframe.spec import Dense, Layer, Recurrent

__all__ = ["Evidence", "computed", "is_recording", "mask_kind", "recorded", "recording"]

_FORM = (
    "np.savez(file, x=..., y=...), where y is every output (batch, time, features) or the last one (batch, features); with "
    "mask, 'initial h' and 'last' or 'state h' if there are any"
)


@dataclass(frozen=True)
class Evidence:
    """What a layer put out on one input.

    Attributes:
        given: the input, in float64.
        outputs: some or all of what it put out, by name as in `xframe.reference.Outputs.named`.
        dtype: the float type that it was computed in.
        step: the number of which all outputs are whole multiples, because they were rounded when they were saved; 0 for none.
    """

    given: Given
    outputs: Mapping[str, np.ndarray]
    dtype: str = "float32"
    step: float = 0.0

    def around(self, truth: noise.Noise) -> noise.Noise:
        """The noise of a layer and of how its outputs were saved: half a step is within the limit."""
        if not self.step:
            return truth
        more = self.step / (2 * LIMIT)
        return noise.Noise(truth.clean, {name: values + more for name, values in truth.deviation.items()})


def computed(spec: Layer, params: Mapping[Key, np.ndarray], given: Given, dtype: str) -> Evidence:
    """What the reference puts out, computed in ``dtype``, or in float32 if that is narrower."""
    own = given.astype("float64" if dtype == "float64" else "float32")
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return Evidence(given.astype("float64"), reference.run_given(spec, params, own).named(), dtype)


# What the arrays of a recording may be called, beside ``initial h`` and ``state h`` and so on.
_NAMES = {"x", "y", "mask", "sequence", "last", "output"}


def is_recording(side: Any) -> bool:
    """Whether a side is what a layer put out: arrays by name, or a .npz file that holds no weights but x and y."""
    if isinstance(side, Mapping):
        return True
    if not isinstance(side, str | Path) or Path(side).suffix != ".npz":
        return False
    names = load(side).tensors.keys()
    return "x" in names and all(name in _NAMES or name.startswith(("initial ", "state ")) for name in names)


def recording(source: str | Path | Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a recording, from a .npz file or by name.

    Raises:
        FileError: the file cannot be read, or is no .npz file.
        SpecError: x or the outputs are missing, or there is an array of another name.
    """
    if isinstance(source, str | Path):
        file = load(source)
        if file.format != "npz":
            raise FileError(f"{source} holds no recorded outputs; write them with {_FORM}.")
        arrays = {name: tensor.read() for name, tensor in file.tensors.items()}
    else:
        arrays = {name: np.asarray(value) for name, value in source.items()}
    if "x" not in arrays or not set(arrays) - {"x", "mask"}:
        raise SpecError(
            f"A recording needs the input x and the output y, not {_listed(arrays)}; write it with {_FORM}."
        )
    if wrong := [name for name, array in arrays.items() if array.dtype.kind not in "biuf"]:
        raise SpecError(f"{wrong[0]} of the recording is of type {arrays[wrong[0]].dtype}; write numbers.")
    return arrays


def mask_kind(arrays: Mapping[str, np.ndarray]) -> str | None:
    """Which masks a recording needs its layer to take, as of `Recurrent`."""
    if "mask" not in arrays or arrays["mask"].ndim != 2:
        return None
    return "right" if is_right_padded(arrays["mask"].astype(bool)) else "any"


def recorded(spec: Layer, arrays: Mapping[str, np.ndarray]) -> Evidence:
    """The evidence that a recording gives of a layer like ``spec``.

    Args:
        spec: what the layer should be.
        arrays: ``x``; ``y``, which is the sequence (batch, time, features) or the last output (batch, features), or any
            output by its own name (``sequence``, ``last``, ``state h`` ...); ``mask`` (batch, time); and the initial states,
            ``initial h`` and so on. States are (layers, directions, batch, size), or with fewer axes if that leaves no doubt.

    Raises:
        SpecError: an array has a name or a shape that does not fit the layer, or an initial state is missing.
    """
    arrays = {name: value if value.dtype.kind in "bf" else value.astype(np.float32) for name, value in arrays.items()}
    x = reference.check_input(spec, arrays.pop("x"))
    mask = arrays.pop("mask").astype(bool) if "mask" in arrays else None
    batch = x.shape[0]
    initial = {name.removeprefix("initial "): arrays.pop(name) for name in list(arrays) if name.startswith("initial ")}
    state = {name: _shaped(spec, name, value, batch) for name, value in initial.items()}
    reference.check_state(spec, state or None, batch)
    outputs = {_output_name(spec, name, value): value for name, value in arrays.items()}
    for name in outputs:
        if name.startswith("state "):
            outputs[name] = _shaped(spec, name.removeprefix("state "), outputs[name], batch)
    _check_outputs(spec, outputs, x)
    dtype = _float_type(outputs)
    given = Given(x, state or None, mask).astype(dtype).astype("float64")  # the layer rounds what it is given
    return Evidence(given, {name: value.astype(np.float64) for name, value in outputs.items()}, dtype)


def _listed(names: Mapping[str, Any]) -> str:
    return " and ".join(names) or "nothing"


def _shaped(spec: Layer, name: str, value: np.ndarray, batch: int) -> np.ndarray:
    """A state in the form (layers, directions, batch, size); axes of one may be left out, as may the second of two joined."""
    found = layout.states(spec) if isinstance(spec, Recurrent) else {}
    if name not in found:
        raise SpecError(f"{spec} has no state {name!r}; its states are {_listed(found)}.")
    shape = (*found[name].axes, batch, found[name].size)
    if value.shape[-2:] == shape[-2:] and value.size == int(np.prod(shape)):
        return value.reshape(shape)
    raise SpecError(f"State {name} must be (layers, directions, batch, size) = {shape}, not {value.shape}.")


def _output_name(spec: Layer, name: str, value: np.ndarray) -> str:
    if name != "y":
        return name
    if isinstance(spec, Dense):
        return "output"
    return "sequence" if value.ndim == 3 else "last"


def _check_outputs(spec: Layer, outputs: Mapping[str, np.ndarray], x: np.ndarray) -> None:
    """Refuse outputs of other names and sizes than the layer's."""
    batch = x.shape[0]
    shapes: dict[str, tuple[int, ...]] = {"output": (batch, spec.output_size)}
    if isinstance(spec, Recurrent):
        states = {f"state {name}": (*s.axes, batch, s.size) for name, s in layout.states(spec).items()}
        shapes = {"sequence": (batch, x.shape[1], spec.output_size), "last": (batch, spec.output_size), **states}
    for name, value in outputs.items():
        if name not in shapes:
            raise SpecError(f"A recording of {spec} has no {name!r}; write it with {_FORM}.")
        if value.shape != shapes[name]:
            first = name == "sequence" and value.shape == (shapes[name][1], shapes[name][0], shapes[name][2])
            mend = "; it has time first: transpose its first two axes" if first else ""
            raise SpecError(f"The recorded {name} of {spec} must be {shapes[name]}, not {value.shape}{mend}.")


def _float_type(outputs: Mapping[str, np.ndarray]) -> str:
    """The widest float type of the outputs; float32 for numbers of that type that were merely stored as float64."""
    values = np.concatenate([np.ravel(value) for value in outputs.values()])
    if values.dtype == np.float64 and np.array_equal(values, values.astype(np.float32)):
        return "float32"
    return values.dtype.name
