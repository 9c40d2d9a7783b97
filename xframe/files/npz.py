"""NumPy's .npz: a zip file of .npy entries, each a short header (type, shape, order) and the numbers.

The format is NumPy's own (NEP 1); the headers are read by `numpy.lib.format`. Opening reads the headers only. Nothing is
unpickled and nothing is extracted: a name with ``..`` in it is only a name.
"""

from __future__ import annotations

import zipfile
from functools import partial
from math import prod
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from xframe.errors import FileError
from xframe.files._zip import opened
from xframe.files.base import ModelFile, StoredTensor, unreadable
from xframe.files.told import parsed

__all__ = ["read"]

# How many bytes are read at a time.
_CHUNK = 2**18

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class _Header(NamedTuple):
    """What stands before the numbers of one entry, and at which byte they begin."""

    shape: tuple[int, ...]
    order: str
    dtype: np.dtype
    start: int


def read(path: Path) -> ModelFile:
    """Open a .npz file: a tensor per entry, named as the entry without ``.npy``.

    Raises:
        FileError: it is damaged, has a name twice, or an entry declares more or fewer numbers than it holds.
    """
    tensors: dict[str, StoredTensor] = {}
    try:
        with opened(path) as archive:
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                if name in tensors:
                    raise unreadable(path, f"it holds {name} twice")
                tensors[name] = _tensor(path, archive, entry, name)
            # What xframe says of its own files.
            comment = archive.comment.decode("ascii", "replace")
    except FileError:
        raise
    # What zipfile raises on damaged files is not written down.
    except Exception as error:
        raise unreadable(path, f"it is a damaged zip file ({error})") from None
    return ModelFile(path, "npz", tensors, config=parsed(comment))


def _tensor(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> StoredTensor:
    """One entry, of which the header has been read and judged."""
    if entry.compress_type not in _METHODS or entry.flag_bits & 1:
        raise unreadable(
            path, f"{name} is encrypted, or packed in a way that NumPy does not use", "save it with np.savez"
        )
    with archive.open(entry) as file:
        header = _header(path, file, name)
    held, declared = entry.file_size - header.start, prod(header.shape) * header.dtype.itemsize
    if declared != held and not header.dtype.hasobject:
        raise unreadable(path, f"{name} holds {held} bytes and its shape {header.shape} declares {declared}")
    return StoredTensor(name, header.shape, header.dtype.name, partial(_numbers, path, entry, name, header))


def _header(path: Path, file: IO[bytes], name: str) -> _Header:
    try:
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        shape, fortran, dtype = readers[npy.read_magic(file)](file)
    # A header is a Python literal, and what NumPy raises on a damaged one is not written down.
    except Exception:
        raise unreadable(path, f"{name} does not begin as an array does") from None
    if any(isinstance(size, bool) or size < 0 for size in shape):
        raise unreadable(path, f"{name} has the shape {shape}")
    return _Header(shape, "F" if fortran else "C", dtype, file.tell())


def _numbers(path: Path, entry: zipfile.ZipInfo, name: str, header: _Header) -> np.ndarray:
    """The numbers of one entry, checked against its checksum."""
    dtype = header.dtype
    if dtype.kind not in "biufc":
        what = "Python objects, which only unpickling would give" if dtype.hasobject else f"{dtype.name}, not numbers"
        raise unreadable(path, f"{name} holds {what}", "save it as an array of numbers")
    try:
        with zipfile.ZipFile(path) as archive, archive.open(entry) as file:
            file.read(header.start)
            data = np.empty(entry.file_size - header.start, np.uint8)
            # A little at a time: to gather all of it, zipfile would need twice as much new memory, and longer.
            read = sum(file.readinto(data[i : i + _CHUNK]) for i in range(0, len(data), _CHUNK))  # type: ignore[attr-defined]
        array = data[:read].view(dtype).reshape(header.shape, order=header.order)  # type: ignore[call-overload]
    except Exception as error:  # as above
        raise unreadable(path, f"{name} is damaged ({error})") from None
    return array.astype(dtype.newbyteorder("="), copy=False)
