"""The outline of an ONNX file: its graph without the numbers, cut out of the protobuf before that is parsed.

A protobuf is read whole or not at all, and most of an ONNX file is weights. So the file is first walked, field by field,
past the weights; what is left is small and goes to the `onnx` package. The walk also bounds what a hostile file can cost: a
field of two bytes may become an object of hundreds when it is parsed. https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from xframe.errors import FileError
from xframe.files.base import MAX_TEXT, unreadable

__all__ = ["Place", "outline"]

# The fields of each message that matter here, by number: to go into (the message's name), or kept as they are ("", and
# "text" where protobuf does not look whether it is text). A tensor's numbers are not among them.
# https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_FIELDS: dict[str, dict[int, str]] = {
    "model": {1: "", 2: "text", 3: "text", 7: "graph", 8: "opset"},
    "opset": {1: "text", 2: ""},
    "graph": {1: "node", 5: "tensor", 11: "value", 12: "value"},
    "node": {1: "text", 2: "text", 3: "text", 4: "text", 5: "attribute", 7: "text"},
    "attribute": {1: "text", 2: "", 3: "", 4: "", 5: "tensor", 6: "graph", 7: "", 8: "", 9: "", 20: ""},
    "tensor": {1: "", 2: "", 3: "", 8: "text", 13: "entry", 14: ""},
    "entry": {1: "text", 2: "text"},
    "value": {1: "text"},
}
# Those of them that may be there more than once. Of any other, programs take the first, the last, or both joined.
_REPEATED: dict[str, tuple[int, ...]] = {
    "model": (8,),
    "graph": (1, 5, 11, 12),
    "node": (1, 2, 5),
    "attribute": (7, 8, 9),
    "tensor": (1, 13),
}
_RAW = 9  # TensorProto.raw_data
_BYTES = 2  # the wire type of everything that has a length
_FIXED = {1: 8, 5: 4}  # the wire types of a fixed length
# A graph in a graph is three messages deeper; protobuf itself stops at 100.
_DEPTH = 90
# A model of 100,000 nodes has about a million and a half fields, in 300,000 messages.
_MOST_FIELDS = 4_000_000
_MOST_MESSAGES = 500_000
_CHUNK = 2**16
_LONGEST_VARINT = 10


class Place(NamedTuple):
    """Where in the file a tensor is: its message, and in this its raw data (-1 where it has none)."""

    start: int
    length: int
    raw_start: int
    raw_length: int

    @classmethod
    def of(cls, mark: bytes) -> Place:
        """What stands in an outline for a tensor's raw data."""
        return cls(*struct.unpack("<4q", mark))

    @property
    def mark(self) -> bytes:
        return struct.pack("<4q", *self)


def outline(path: Path) -> bytes:
    """The ModelProto of a file in which the raw data of each tensor is its `Place`, and no tensor has other data.

    Raises:
        FileError: the file is cut off, no protobuf, nested too deeply or too large without its tensors.
    """
    try:
        with path.open("rb") as file:
            walk = _Walk(path, file)
            return walk.message("model", 0, walk.size, _DEPTH)
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise unreadable(path, f"the system says {error.strerror}", "correct the path") from None


class _Walk:
    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self.size = file.seek(0, 2)
        self._chunk, self._start = b"", 0
        self._fields = self._messages = self._kept = 0

    def message(self, kind: str, start: int, end: int, depth: int) -> bytes:
        """One message of the outline, made of the bytes from ``start`` to ``end``."""
        if not depth:
            raise unreadable(self._path, "its graphs are nested too deeply", "simplify the model")
        self._messages += 1
        found, wanted, raw, position = bytearray(), _FIELDS[kind], (-1, -1), start
        repeated, seen = _REPEATED.get(kind, ()), set[int]()
        while position < end:
            number, wire, inner, stop = self._field(position, end)
            if number not in repeated and (number in wanted or (kind == "tensor" and number == _RAW)):
                if number in seen:
                    raise unreadable(self._path, f"it writes a part of its {kind} twice (field {number})")
                seen.add(number)
            if kind == "tensor" and number == _RAW and wire == _BYTES:
                raw = inner, stop - inner
            below = wanted.get(number)
            if below in ("", "text"):
                content = self._copy(position, stop)
                if below:
                    self._check_text(content[inner - position :])
                found += content
            elif below and wire == _BYTES:
                found += _with_length(number, self.message(below, inner, stop, depth - 1))
            position = stop
        if kind == "tensor":
            found += _with_length(_RAW, Place(start, end - start, *raw).mark)
        return bytes(found)

    def _field(self, position: int, end: int) -> tuple[int, int, int, int]:
        """The number of the field at a position, its wire type, where its content starts and where it ends."""
        self._fields += 1
        if self._fields > _MOST_FIELDS or self._messages > _MOST_MESSAGES:
            raise unreadable(self._path, "its graph has too many nodes, or too much in them", "use a smaller model")
        tag, inner = self._varint(position)
        number, wire = tag >> 3, tag & 7
        if wire == _BYTES:
            length, inner = self._varint(inner)
            stop = inner + length
        elif wire in _FIXED:
            stop = inner + _FIXED[wire]
        else:
            stop = self._varint(inner)[1]
        if wire not in (0, _BYTES, *_FIXED) or not 0 < number < 2**29 or stop > end:
            raise unreadable(self._path, "it is no ONNX model, or damaged")
        return number, wire, inner, stop

    def _varint(self, position: int) -> tuple[int, int]:
        """A number of varying length, and where it ends."""
        here = position - self._start
        if not 0 <= here <= len(self._chunk) - _LONGEST_VARINT:
            self._file.seek(position)
            self._chunk, self._start, here = self._file.read(_CHUNK), position, 0
        value = 0
        for index, byte in enumerate(self._chunk[here : here + _LONGEST_VARINT]):
            value |= (byte & 127) << 7 * index
            if byte < 128:
                return value, position + index + 1
        raise unreadable(self._path, "it is cut off, or no ONNX model")

    def _check_text(self, content: bytes) -> None:
        try:
            content.decode()
        except UnicodeDecodeError:
            raise unreadable(self._path, "a name in it is no text") from None

    def _copy(self, start: int, stop: int) -> bytes:
        self._kept += stop - start
        if self._kept > MAX_TEXT:
            raise unreadable(
                self._path, f"its graph without weights is above {MAX_TEXT // 2**20} MiB", "use a smaller model"
            )
        here = start - self._start
        if here >= 0 and stop - self._start <= len(self._chunk):
            return self._chunk[here : stop - self._start]
        self._file.seek(start)
        return self._file.read(stop - start)


def _with_length(number: int, content: bytes) -> bytes:
    """A field of the wire type that has a length."""
    head = bytearray([number << 3 | _BYTES])  # no number above 15 is used here, so that one byte holds it
    rest = len(content)
    while rest > 127:
        head.append(rest & 127 | 128)
        rest >>= 7
    head.append(rest)
    return bytes(head) + content
