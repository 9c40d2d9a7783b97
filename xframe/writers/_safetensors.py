"""Writing a safetensors file, one tensor in memory at a time. https://huggingface.co/docs/safetensors"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from xframe.packing import checked

__all__ = ["Entry", "write_safetensors"]

_TYPES = {"float16": "F16", "float32": "F32", "float64": "F64"}


@dataclass(frozen=True)
class Entry:
    """A tensor that will be written: its name, its shape, and, at the first of a group, what gives the group's arrays.

    Attributes:
        name, shape: of the tensor.
        read: (float type) -> the arrays of this tensor and of those after it that belong to the same layer.
    """

    name: str
    shape: tuple[int, ...]
    read: Callable[[str], Iterator[np.ndarray]] | None = None

    @staticmethod
    def group(
        listed: Sequence[tuple[str, tuple[int, ...]]], read: Callable[[str], Iterator[np.ndarray]]
    ) -> list[Entry]:
        """The tensors of one layer."""
        return [Entry(name, shape, None if i else read) for i, (name, shape) in enumerate(listed)]


def numbers(entries: Sequence[Entry], dtype: str) -> Iterator[np.ndarray]:
    """The arrays of all entries in order, contiguous and little-endian; each is made when it is asked for.

    Raises:
        LayoutError: a number is not finite, or too large for this type.
    """
    arrays = chain.from_iterable(entry.read(dtype) for entry in entries if entry.read)
    for entry in entries:
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(next(arrays), np.dtype(dtype).newbyteorder("<"))
        yield checked(array, entry.shape, entry.name)
        del array  # freed before the next one is made


def write_safetensors(path: Path, dtype: str, entries: Sequence[Entry], metadata: Mapping[str, str]) -> None:
    """Write all tensors in one float type, and what is said of them."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    start = 0
    for entry in entries:
        end = start + prod(entry.shape) * np.dtype(dtype).itemsize
        header[entry.name] = {"dtype": _TYPES[dtype], "shape": list(entry.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in numbers(entries, dtype):
            file.write(array.data)
