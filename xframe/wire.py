"""What goes from one process to another: plain values as JSON, numbers as they lie in memory.

Nothing that is read can make anything but what stands here: numbers, texts, lists, mappings, arrays of numbers, descriptions of
layers, and the errors of xframe. A message is the length of its text (8 bytes), the text (JSON), and the bytes of its arrays in
the order in which the text has them. A value that JSON has not is a mapping of one key, which says what it is:

    {"array": [type, shape]}   {"tuple": [...]}   {"set": [...]}   {"mapping": [[key, value], ...]}
    {NAME: {field: value}}     of a class in `_CLASSES`           {"error": [class, arguments]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from math import prod
from typing import IO, Any

import numpy as np

from xframe import errors
from xframe.adapters.base import Setting
from xframe.layout import Key
from xframe.packing import Parameters
from xframe.reference import Outputs
from xframe.spec import Dense, Recurrent

__all__ = ["Held", "receive", "send"]


@dataclass(frozen=True)
class Held:
    """A native layer that stays in the process of its adapter, by its number there."""

    number: int


_CLASSES: dict[str, Any] = {cls.__name__: cls for cls in (Dense, Held, Key, Outputs, Parameters, Recurrent, Setting)}
_NUMBERS = "biufc"  # the kinds of arrays that hold numbers
_LENGTH = 8


def send(value: Any, pipe: IO[bytes]) -> None:
    """Write a message.

    Raises:
        SpecError: it holds something that no message can.
        OSError: nobody reads it.
    """
    arrays: list[np.ndarray] = []
    text = json.dumps(_apart(value, arrays)).encode()
    pipe.write(len(text).to_bytes(_LENGTH, "little") + text)
    for array in arrays:
        pipe.write(array.reshape(-1).view(np.uint8).data)
    pipe.flush()


def receive(pipe: IO[bytes]) -> Any:
    """Read a message.

    Raises:
        EOFError: there is none, or it is cut short or no message.
    """
    length = int.from_bytes(_exactly(pipe, _LENGTH), "little")
    try:
        return _together(json.loads(_exactly(pipe, length)), pipe)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise EOFError(str(error)) from None


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    found = pipe.read(count)
    if len(found) != count:
        raise EOFError
    return found


def _apart(value: Any, arrays: list[np.ndarray]) -> Any:
    """A value as JSON, its arrays entered into the list."""
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, np.generic)):
        return value
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.kind not in _NUMBERS:
            raise errors.SpecError(f"An array of {array.dtype} holds no numbers; give one that does.")
        arrays.append(np.ascontiguousarray(array))
        return {"array": [array.dtype.str, list(array.shape)]}
    if isinstance(value, list):
        return [_apart(one, arrays) for one in value]
    if isinstance(value, BaseException):
        given = [list(value.reasons)] if isinstance(value, errors.ObstaclesError) else [str(value)]
        known = next(cls.__name__ for cls in type(value).__mro__ if cls.__name__ in errors.__all__)
        return {"error": [known, given]}
    name = type(value).__name__
    if _CLASSES.get(name) is type(value):
        return {name: {part: _apart(one, arrays) for part, one in _parts(value).items()}}
    if isinstance(value, tuple | frozenset):
        kind = "tuple" if isinstance(value, tuple) else "set"
        return {kind: [_apart(one, arrays) for one in value]}
    if isinstance(value, Mapping):
        return {"mapping": [[_apart(key, arrays), _apart(one, arrays)] for key, one in value.items()]}
    raise errors.SpecError(f"A {name} cannot go from one process to another; give a NumPy array or a plain value.")


def _parts(value: Any) -> dict[str, Any]:
    """What an object of `_CLASSES` is made of, by the names by which its class takes it."""
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Parameters):
        return {"spec": value.spec, "blocks": dict(value)}
    return dict(value._asdict())


def _together(text: Any, pipe: IO[bytes]) -> Any:
    """The value that a text is of; its arrays are read from the pipe."""
    if isinstance(text, list):
        return [_together(one, pipe) for one in text]
    if not isinstance(text, dict):
        return text
    ((kind, content),) = text.items()
    if kind == "array":
        dtype, shape = np.dtype(content[0]), content[1]
        if dtype.kind not in _NUMBERS:
            raise EOFError
        found = np.empty(prod(shape) * dtype.itemsize, np.uint8)
        if pipe.readinto(found.data) != len(found):  # type: ignore[attr-defined]
            raise EOFError
        return found.view(dtype).reshape(shape)
    if kind == "error":
        if content[0] not in errors.__all__:
            raise EOFError
        return getattr(errors, content[0])(*content[1])
    if kind == "mapping":
        return {_together(key, pipe): _together(one, pipe) for key, one in content}
    if kind in ("tuple", "set"):
        return {"tuple": tuple, "set": frozenset}[kind](_together(one, pipe) for one in content)
    return _CLASSES[kind](**{part: _together(one, pipe) for part, one in content.items()})
