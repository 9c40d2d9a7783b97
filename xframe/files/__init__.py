"""Model files: what they hold, read without running anything that is in them.

`load` looks at a file's first bytes, not at its name, and gives a `ModelFile`, whose tensors are read one at a time when they
are asked for. A format is one file beside this one. Nothing is unpickled, no layer is deserialised, no graph is run; PyTorch's
own format is read by PyTorch with ``weights_only=True``.
"""

from __future__ import annotations

import importlib
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from xframe.budget import allowed
from xframe.errors import FileError
from xframe.files.base import MAX_NAME, ModelFile, Reader, StoredLayer, StoredTensor, check_is_file, unreadable

if TYPE_CHECKING:
    import numpy as np

__all__ = ["FORMATS", "ModelFile", "StoredLayer", "StoredTensor", "load"]

# What each format is called, and the module and function that reads it.
FORMATS = {
    "keras-hdf5": ("Keras HDF5 (.h5)", "keras:read_hdf5"),
    "keras-weights": ("Keras 3 weights (.weights.h5)", "keras:read_hdf5"),
    "keras": ("Keras 3 model (.keras)", "keras:read_zip"),
    "npz": ("NumPy arrays (.npz)", "npz:read"),
    "safetensors": ("safetensors", "safetensors:read"),
    "torch": ("PyTorch (.pt, .pth)", "torch:read"),
    "onnx": ("ONNX", "onnx:read"),
    "tensorflow": ("TensorFlow variables (SavedModel or checkpoint)", "tensorflow:read"),
}

# No array of NumPy has so many numbers.
_MOST = 2**63
# Of one model; each is looked at whenever a tensor is read.
_MOST_FILES = 1000

# What other files are, by their first bytes or by their ending, and what can be read instead.
_OTHERS: tuple[tuple[Callable[[bytes, Path], bool], str, str], ...] = (
    (
        lambda head, _: head.startswith(b"version https://git-lfs.github.com/"),
        "it is a pointer of Git LFS, which stands for the file",
        "fetch that with 'git lfs pull'",
    ),
    (
        lambda head, _: head[4:8] == b"TFL3",
        "it is a TensorFlow Lite model, whose numbers may be quantised",
        "give the Keras model or the SavedModel that it was made of",
    ),
    (
        lambda _, path: path.suffix == ".mlmodel",
        "it is a Core ML model",
        "give the model that it was made of",
    ),
    (
        lambda _, path: path.name == "saved_model.pb",
        "it is the graph of a SavedModel, whose variables are beside it",
        "give its folder",
    ),
    (
        lambda head, path: path.suffix in (".pb", ".pbtxt") and head[:1] in (b"\n", b"n"),
        "it is a graph of TensorFlow, frozen or without its variables",
        "give the SavedModel or the checkpoint, or convert it to ONNX with tf2onnx",
    ),
    (
        lambda head, path: path.suffix == ".json" and b"{" in head,
        "it is a JSON text, as TensorFlow.js and Keras write beside the weights",
        "give the file of the weights, or convert the model back with tensorflowjs_converter --output_format keras",
    ),
)


def load(path: str | Path) -> ModelFile:
    """Open a model file.

    Args:
        path: a file of one of `FORMATS`, a SavedModel's folder, or a TensorFlow checkpoint's folder or prefix.

    Raises:
        FileError: it is not there, damaged, unsafe, or of no known format.
        MissingFrameworkError: a library that its format needs is not installed.
    """
    path = Path(path)
    try:
        reader = _reader(_format(path))
        begun = _states([path])
        with allowed():
            found = reader(path)
        before = {**_states(found.beside), **begun}
    except FileError:
        raise
    except (OSError, ValueError) as error:  # a name that is too long, a folder that is closed, a byte that no name has
        why = getattr(error, "strerror", None) or error
        raise FileError(f"Cannot read {path}: {why}; correct the path.") from None
    if len(found.beside) > _MOST_FILES:
        raise unreadable(path, f"it is in more than {_MOST_FILES} files", "save it again into fewer")
    for tensor in found.tensors.values():
        if prod(size for size in tensor.shape if size) >= _MOST:  # sizes may be absurd where another one is zero
            raise unreadable(path, f"a tensor in it has a shape of more numbers than {_MOST}")
    _check_names(path, found)
    tensors = {name: replace(one, read=partial(_steady, one.read, before)) for name, one in found.tensors.items()}
    return replace(found, tensors=tensors)


def _check_names(path: Path, file: ModelFile) -> None:
    """Refuse names that are too long to be printed, in front of others and in tables."""
    names = (
        *file.tensors,
        *(layer.name for layer in file.layers),
        *(n.name for graph in file.graphs for n in graph.nodes),
    )
    if longest := next((name for name in names if len(name) > MAX_NAME), ""):
        raise unreadable(path, f"a name in it has {len(longest):,} characters, more than {MAX_NAME:,}", "rename it")


def _states(paths: Iterable[Path]) -> dict[Path, tuple[int, ...]]:
    """By path, what changes where a file is written to, or replaced by another one; a checkpoint's prefix is no file."""
    found = {path: path.stat() for path in paths if path.exists()}
    return {path: (one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns) for path, one in found.items()}


def _steady(read: Callable[[], np.ndarray], before: Mapping[Path, tuple[int, ...]]) -> np.ndarray:
    """The numbers of a tensor, of files that nobody has changed since they were opened: what was checked is what was read."""
    numbers = read()
    changed = [path for path, state in before.items() if _states([path]) != {path: state}]
    if changed:
        raise unreadable(changed[0], "it was changed while it was read", "read it when nothing writes to it")
    return numbers


def _reader(name: str) -> Reader:
    module, function = FORMATS[name][1].split(":")
    reader: Reader = getattr(importlib.import_module(f"xframe.files.{module}"), function)
    return reader


def _format(path: Path) -> str:
    """The format of what is at a path, by its content."""
    try:
        if path.is_dir():
            return _folder_format(path)
        if path.exists():
            check_is_file(path)
        if not path.exists() and path.with_name(f"{path.name}.index").is_file():
            return "tensorflow"
        with path.open("rb") as file:
            head, size = file.read(64), file.seek(0, 2)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"Cannot read {path}: {error.strerror}; correct the path.") from None
    if not size:
        raise unreadable(path, "it is empty")
    if head.startswith(b"\x89HDF\r\n\x1a\n") or path.name.endswith(
        ".weights.json"
    ):  # the list of a .weights.h5 in shards
        return "keras-hdf5"
    if head.startswith(b"PK"):
        return _zip_format(path)
    for is_it, what, mend in _OTHERS:
        if is_it(head, path):
            raise unreadable(path, what, mend)
    # Before pickles, with whose first bytes the length of a header may begin; no pickle begins with a small number.
    if int.from_bytes(head[:8], "little") <= size - 8 and head[8:9] == b"{":
        return "safetensors"
    if head[:1] == b"\x80" and head[1:2] in b"\x01\x02\x03\x04\x05":
        return "torch"  # a pickle, which PyTorch wrote before 1.6
    if path.suffix == ".index" and path.with_suffix("").name:
        return "tensorflow"
    if head[:1] == b"\x08":  # the first field of a ModelProto, its IR version
        return "onnx"
    raise FileError(f"Cannot read {path}: it is of no known format; give one of {_known()}.")


def _folder_format(path: Path) -> str:
    if (path / "saved_model.pb").is_file() or (path / "checkpoint").is_file() or any(path.glob("*.index")):
        return "tensorflow"
    if (path / "Manifest.json").is_file() and path.suffix == ".mlpackage":
        raise unreadable(path, "it is a Core ML model", "give the model that it was made of")
    raise FileError(f"Cannot read {path}: this folder holds no SavedModel and no checkpoint; give one of {_known()}.")


def _zip_format(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    # What a damaged directory of a zip can raise is not written down.
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile, struct.error) as error:
        raise unreadable(path, f"it is a damaged zip file ({error})") from None
    if {"config.json", "model.weights.h5"} <= set(names):
        return "keras"
    if any(name.endswith("/.data/extern_modules") for name in names):
        raise unreadable(
            path,
            "it is a torch.package, which holds code",
            "save the module's state_dict with torch.save, and give that",
        )
    if any(name.endswith("/data.pkl") or name == "data.pkl" for name in names):
        return "torch"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    raise FileError(f"Cannot read {path}: this zip file is of no known format; give one of {_known()}.")


def _known() -> str:
    return ", ".join(title for title, _ in FORMATS.values())
