"""safetensors: a JSON header with each tensor's type, shape and place, then the numbers.

The `safetensors` library judges the file; this module reads the numbers where the header says they are, because the library
cannot give NumPy a bfloat16.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from xframe.errors import FileError, MissingFrameworkError
from xframe.files._json import object_of
from xframe.files.base import MAX_TEXT, ModelFile, StoredTensor, unreadable
from xframe.files.told import NAME, parsed

__all__ = ["read"]

# The format's names of the types that can be read; numbers are little-endian. bfloat16 is the upper half of a float32.
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "C64": "complex64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


def read(path: Path) -> ModelFile:
    """Open a safetensors file. A tensor of a type that NumPy has not (float8) is listed, and cannot be read.

    Raises:
        FileError: the header is longer than `MAX_TEXT`, or the library refuses the file.
        MissingFrameworkError: the library is not installed.
    """
    try:
        from safetensors import safe_open
    except ImportError:
        raise MissingFrameworkError(
            f"Cannot read {path}: safetensors is not installed; pip install 'xframe[files]'."
        ) from None
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > MAX_TEXT:
                raise unreadable(path, f"its header would be {length} bytes long")
            text = file.read(length)
        with safe_open(path, framework="numpy"):
            pass  # it has checked every name, shape and place, and that the places cover the file
        header = object_of(text, f"Cannot read {path}: its header")
    except FileError:
        raise
    # The library documents only its own error, and a header may be one that it takes and Python's parser does not.
    except Exception as error:
        raise unreadable(path, f"it is not a sound safetensors file ({error})") from None
    metadata = header.pop("__metadata__", None) or {}
    config = parsed(metadata.pop(NAME, None))
    places = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    tensors = {name: _tensor(path, 8 + length, name, about) for name, about in places}
    return ModelFile(path, "safetensors", tensors, metadata=metadata, config=config)


def _tensor(path: Path, start: int, name: str, about: dict[str, Any]) -> StoredTensor:
    """One tensor; ``start`` is where the header ends."""
    shape, dtype = tuple(about["shape"]), _DTYPES.get(about["dtype"], about["dtype"])
    begin, end = about["data_offsets"]
    return StoredTensor(name, shape, dtype, partial(_numbers, path, name, shape, dtype, start + begin, end - begin))


def _numbers(path: Path, name: str, shape: tuple[int, ...], dtype: str, begin: int, length: int) -> np.ndarray:
    if dtype not in _DTYPES.values():
        raise unreadable(path, f"{name} is of type {dtype}, which NumPy has not", "save it as float32")
    try:
        with path.open("rb") as file:
            file.seek(begin)
            data = file.read(length)
        stored = np.dtype("uint16" if dtype == "bfloat16" else dtype).newbyteorder("<")
        array = np.frombuffer(data, stored).reshape(shape)
    except (OSError, ValueError) as error:  # the file has changed since it was opened
        raise unreadable(path, f"{name} is damaged ({error})") from None
    if dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(stored.newbyteorder("="))
