"""TensorFlow's variables: of a SavedModel's folder, or of a checkpoint (its folder, prefix or .index file).

TensorFlow is not needed. The graph of a SavedModel (saved_model.pb) is never opened: a graph is a program, and variables are
read without it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import partial
from math import prod
from pathlib import Path

import numpy as np

from xframe.errors import FileError
from xframe.files._bundle import Entry, entries, masked
from xframe.files.base import ModelFile, StoredTensor, check_is_file, unreadable

__all__ = ["read"]

# TensorFlow's numbers of the types that can be read (tensorflow/core/framework/types.proto).
_DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    8: "complex64",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    22: "uint32",
    23: "uint64",
}
_STRING = 7

_MAX_INDEX = 2**23  # bytes; a variable takes about a hundred

# An optimizer's own variables: by their place in the objects, by their mark, or (TensorFlow 1) by their name. The optimizer of
# Keras 3 also leads to the model's variables, and is sometimes the shortest way to them.
_OPTIMIZER = re.compile(r"(^|/)_?optimizer/(?!_trainable_variables/)|/\.OPTIMIZER_SLOT/|(^|/)beta[12]_power(_\d+)?$")
_SLOT = re.compile(r"/(Adam|RMSProp|Momentum|Adagrad|Adadelta|Ftrl)(_\d+)?$")
_BOOKKEEPING = re.compile(r"^(_CHECKPOINTABLE_OBJECT_GRAPH|(.*/)?save_counter(/.*)?)$")


def read(path: Path) -> ModelFile:
    """Open the variables, each by its key in the checkpoint, without those that only training needs.

    ``metadata["optimizer_tensors"]`` is how many variables of an optimizer were left out.

    Raises:
        FileError: there is no checkpoint there, or it is damaged.
    """
    try:
        prefix = _prefix(path)
        listed = prefix.with_name(f"{prefix.name}.index")
        check_is_file(listed)
        with listed.open("rb") as file:
            index = file.read(_MAX_INDEX + 1)
        if len(index) > _MAX_INDEX:
            raise ValueError(f"its index is larger than {_MAX_INDEX} bytes")
        shards, found = entries(index)
        places = {name: _place(prefix, shards, name, entry) for name, entry in found.items()}
    except FileError:
        raise
    except ValueError as error:
        raise unreadable(path, str(error)) from None
    except OSError as error:
        raise FileError(
            f"Cannot read {path}: {error.filename} of its checkpoint: {error.strerror}; get a whole copy of the folder."
        ) from None
    left_out = {name for name in found if _of_optimizer(name, found)}
    kept = [name for name in found if name not in left_out and not _BOOKKEEPING.match(name)]
    tensors = {name: _tensor(places[name], name, found[name]) for name in kept}
    metadata = {"optimizer_tensors": str(len(left_out))} if left_out else {}
    beside = (listed, *dict.fromkeys(places.values()))
    return ModelFile(path, "tensorflow", tensors, metadata=metadata, beside=beside)


def _prefix(path: Path) -> Path:
    """The prefix of the files of the checkpoint that a path names."""
    if not path.is_dir():
        return path.with_suffix("") if path.suffix == ".index" else path
    if (path / "saved_model.pb").is_file():
        return path / "variables" / "variables"
    if (path / "checkpoint").is_file():
        return path / _latest(path)
    found = sorted(path.glob("*.index"))
    if len(found) != 1:
        raise unreadable(path, f"this folder holds {len(found)} checkpoints", "name the .index file of one")
    return found[0].with_suffix("")


def _latest(folder: Path) -> str:
    """The name of the checkpoint that a folder's ``checkpoint`` file names, wherever it says that the folder is.

    TensorFlow writes the whole path, which no longer holds for a folder that was moved, and may lead anywhere.
    """
    check_is_file(folder / "checkpoint")
    with (folder / "checkpoint").open("rb") as file:
        text = file.read(_MAX_INDEX).decode("utf-8", "replace")
    found = re.search(r'^model_checkpoint_path:\s*"([^"\n]+)"', text, re.MULTILINE)
    name = re.split(r"[/\\]", found[1])[-1] if found else ""
    if not name.strip("."):
        raise unreadable(folder, "its file named checkpoint names none", "name the .index file of one")
    return name


def _of_optimizer(name: str, names: Collection[str]) -> bool:
    """Whether a variable is an optimizer's. A slot's name has its variable's before it."""
    slot = _SLOT.search(name)
    return bool(_OPTIMIZER.search(name)) or (slot is not None and name[: slot.start()] in names)


def _place(prefix: Path, shards: int, name: str, entry: Entry) -> Path:
    """The data file that holds a variable.

    Raises:
        ValueError: the file is too short, or the variable's size is not that of its shape.
        OSError: there is no such file.
    """
    place = prefix.with_name(f"{prefix.name}.data-{entry.shard:05d}-of-{shards:05d}")
    if entry.offset + entry.size > check_is_file(place).st_size:
        raise ValueError(f"{name} lies beyond the end of {place.name}")
    dtype = _DTYPES.get(entry.dtype)
    if dtype and not entry.sliced and entry.size != prod(entry.shape) * _stored(dtype).itemsize:
        raise ValueError(f"{name} holds {entry.size} bytes, which is not what its shape {entry.shape} needs")
    return place


def _stored(dtype: str) -> np.dtype:
    """The type of the numbers in the file; bfloat16 is the upper half of a float32."""
    return np.dtype("uint16" if dtype == "bfloat16" else dtype).newbyteorder("<")


def _tensor(place: Path, name: str, entry: Entry) -> StoredTensor:
    dtype = _DTYPES.get(entry.dtype, "string" if entry.dtype == _STRING else f"TensorFlow type {entry.dtype}")
    return StoredTensor(name, entry.shape, dtype, partial(_numbers, place, name, dtype, entry))


def _numbers(place: Path, name: str, dtype: str, entry: Entry) -> np.ndarray:
    """The numbers of one variable, checked against their checksum."""
    if entry.dtype not in _DTYPES:
        raise unreadable(place, f"{name} is of the type {dtype}, not numbers", "leave it out")
    if entry.sliced:
        raise unreadable(place, f"{name} is stored in slices", "load and save it in TensorFlow without a partitioner")
    try:
        with place.open("rb") as file:
            file.seek(entry.offset)
            data = file.read(entry.size)
        if masked(data) != entry.checksum:
            raise ValueError("its checksum is another")
        array = np.frombuffer(data, _stored(dtype)).reshape(entry.shape)
    except (OSError, ValueError) as error:
        raise unreadable(place, f"{name} is damaged ({error})") from None
    if dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(dtype)
