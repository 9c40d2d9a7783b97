"""The tensors of an ONNX file: checked when the file is opened, read when they are asked for."""

from __future__ import annotations

from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from xframe.errors import FileError
from xframe.files._onnx_wire import Place
from xframe.files.base import StoredTensor, unreadable

__all__ = ["DTYPES", "Tensors", "parsed", "quoted"]

# NumPy's names of the types by their numbers in TensorProto.DataType; NumPy has no others.
DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
}
_EXTERNAL = 1  # TensorProto.DataLocation
_MOST_AXES = 32  # of a NumPy array, in every version
_LONGEST = 80


def quoted(name: str) -> str:
    """A name from the file as an error quotes it: on one line and short, whatever it is."""
    return repr(name if len(name) <= _LONGEST else f"{name[: _LONGEST - 3]}...")


def parsed(message: str, content: bytes) -> Any:
    """A message of ONNX, as ``ModelProto``, from its bytes. ValueError if they are none."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

    try:
        return getattr(onnx, message).FromString(content)
    except DecodeError as error:
        raise ValueError(str(error)) from None


class Tensors:
    """The tensors of one file.

    Attributes:
        external: the names of the files beside it that hold some of them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.external: dict[str, tuple[Path, int]] = {}

    def stored(self, proto: Any, name: str) -> StoredTensor:
        """A tensor of the outline, to be read under ``name``.

        Raises:
            FileError: its type or shape makes no sense, its numbers are not as many as its shape says, or they are in a
                file that is missing or outside the model's folder.
        """
        shape, kind = tuple(proto.dims), proto.data_type
        what = f"the tensor {quoted(name)}"
        if kind not in proto.DataType.values() or not kind:
            raise unreadable(self._path, f"{what} is of the unknown type {kind}")
        if any(size < 0 for size in shape) or len(shape) > _MOST_AXES or proto.HasField("segment"):
            raise unreadable(self._path, f"{what} has a shape that makes no sense or is in segments")
        if kind not in DTYPES:
            dtype = proto.DataType.Name(kind).lower()
            return StoredTensor(name, shape, dtype, lambda: self._refuse(what, dtype))
        dtype = DTYPES[kind]
        need = prod(shape) * _storage(dtype).itemsize
        place = Place.of(proto.raw_data)
        if proto.data_location == _EXTERNAL:
            entries = {entry.key: entry.value for entry in proto.external_data}
            if len(entries) < len(proto.external_data):
                raise unreadable(self._path, f"{what} has a place in another file that is written twice")
            file, start, length = self._external(entries, need, what)
        else:
            file, start, length = self._path, place.raw_start, place.raw_length
        if start < 0:
            # Every number takes a byte or more. How many there are is seen when they are parsed.
            if prod(shape) > place.length:
                raise unreadable(self._path, f"{what} of shape {shape} has too few numbers")
            return StoredTensor(name, shape, dtype, lambda: self._parse(place, shape, dtype, what))
        if length != need:
            raise unreadable(self._path, f"{what} of shape {shape} needs {need} bytes and has {length}")
        return StoredTensor(name, shape, dtype, lambda: self._raw(file, start, shape, dtype, what))

    def _external(self, entries: dict[str, str], need: int, what: str) -> tuple[Path, int, int]:
        """The file beside the model that holds a tensor, where in it this starts, and how long it is."""
        location = entries.get("location", "")
        if location not in self.external:
            self.external[location] = self._beside(location, what)
        file, size = self.external[location]
        numbers = entries.get("offset", "0"), entries.get("length", str(need))
        if not all(n.isdecimal() and len(n) < 20 for n in numbers):
            raise unreadable(self._path, f"{what} has a place in {quoted(location)} that makes no sense")
        start, length = map(int, numbers)
        if start + length > size:
            raise unreadable(file, f"it ends before {what}")
        return file, start, length

    def _beside(self, location: str, what: str) -> tuple[Path, int]:
        """A file in the model's folder and its size. A name that leads out of it, links followed, is refused."""
        windows = PureWindowsPath(location)  # knows both separators, and drives
        outside = PurePosixPath(location).is_absolute() or windows.root or windows.drive or ".." in windows.parts
        if not outside and location and "\0" not in location:
            folder = self._path.resolve().parent
            try:
                file = (folder / location).resolve(strict=True)
                if file.is_file() and file.is_relative_to(folder):
                    return file, file.stat().st_size
                outside = True
            except (OSError, RuntimeError):  # a RuntimeError: links in a circle, before Python 3.13
                pass
        where = f"{what} is in {quoted(location)}"
        if outside:
            raise unreadable(self._path, f"{where}, which is no file in its folder", "do not trust it")
        raise unreadable(self._path, f"{where}, which is missing", "put that file beside it")

    def _raw(self, file: Path, start: int, shape: tuple[int, ...], dtype: str, what: str) -> np.ndarray:
        """Numbers that lie in a file one after the other, lowest byte first."""
        try:
            with file.open("rb") as source:
                source.seek(start)
                array = np.fromfile(source, _storage(dtype), prod(shape))
        except OSError as error:
            raise unreadable(file, f"the system says {error.strerror}") from None
        if array.size != prod(shape):
            raise unreadable(file, f"it ends before {what} does")
        return _native(array, dtype).reshape(shape)

    def _parse(self, place: Place, shape: tuple[int, ...], dtype: str, what: str) -> np.ndarray:
        """Numbers that are fields of a protobuf."""
        from onnx import numpy_helper

        try:
            with self._path.open("rb") as source:
                source.seek(place.start)
                proto = parsed("TensorProto", source.read(place.length))
            # It is here that the numbers are, whatever it says; nothing else is to be opened.
            proto.ClearField("data_location")
            proto.ClearField("external_data")
            array = numpy_helper.to_array(proto)
        except (ValueError, TypeError, OverflowError, OSError) as error:
            raise unreadable(self._path, f"{what} is damaged ({error})") from None
        if array.shape != shape:
            raise unreadable(self._path, f"{what} is damaged")
        return array.astype("float32" if dtype == "bfloat16" else dtype)

    def _refuse(self, what: str, dtype: str) -> np.ndarray:
        raise FileError(
            f"Cannot read {what} of {self._path}: it is of type {dtype}, which NumPy has not; "
            "give a model that is not quantised."
        )


def _storage(dtype: str) -> np.dtype[Any]:
    """The NumPy type as which a type is read from the file."""
    return np.dtype({"bfloat16": "<u2", "bool": "u1"}.get(dtype, dtype)).newbyteorder("<")


def _native(array: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "bfloat16":  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(dtype, copy=False)
