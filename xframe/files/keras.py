"""Keras files: HDF5 of Keras 1 and 2, and the .weights.h5 and .keras of Keras 3, read without Keras and without h5py.

A .keras file is a zip with a config, a word on its origin, and the weights as HDF5. It is never unpacked to disk: Keras stores
the weights uncompressed, so a tensor is read from its place in the zip.
"""

from __future__ import annotations

import io
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from xframe.errors import FileError
from xframe.files._hdf5 import AGAIN, Array, Hdf5Error, Tree, read_tree
from xframe.files._json import object_of
from xframe.files._keras_layers import is_state, lambda_layers, legacy_layers, weights_layers
from xframe.files._zip import opened
from xframe.files.base import MAX_TEXT, ModelFile, StoredLayer, StoredTensor, unreadable

__all__ = ["read_hdf5", "read_zip"]

_CHUNK = 2**20  # bytes that are unpacked at a time
_MAX_DEPTH = 200
_MOST_NOTES = 5
_Named = TypeVar("_Named")
_WEIGHTS = "model.weights.h5"
# What a damaged zip can raise is not written down.
_ZIP_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    RuntimeError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class _Bytes:
    """Where an HDF5 file is: a part of the file at ``path`` or, unpacked, in memory."""

    path: Path
    start: int
    size: int
    memory: bytes | None = None

    def open(self) -> io.BufferedReader | io.BytesIO:
        return self.path.open("rb") if self.memory is None else io.BytesIO(self.memory)


def read_hdf5(path: Path) -> ModelFile:
    """Open HDF5 weights or a whole model of Keras 1 to 3, or a .weights.h5 of Keras 3.

    Raises:
        FileError: the file is damaged, unsafe, or not of Keras.
    """
    _refuse_shards(path)
    try:
        where = _Bytes(path, 0, path.stat().st_size)
    except OSError as error:
        raise unreadable(path, str(error.strerror), "correct the path") from None
    tree = _tree(where)
    root = tree.attributes[""]
    weights = "model_weights" if "model_weights" in tree.attributes else ""
    said = {**tree.attributes[weights], **root}
    metadata = {name: text for name in ("keras_version", "backend") if isinstance(text := said.get(name), str)}
    text = root.get("model_config")
    config = _parse(path, "model_config", text) if isinstance(text, str) else None
    try:
        if any(name in said for name in ("layer_names", "layer_names0")):
            return _model(where, "keras-hdf5", tree, legacy_layers(tree, weights, config), metadata, config)
        if any(re.search(r"(^|[/\\])vars$", name) for name in tree.attributes):
            tree = _with_slashes(tree)
            return _model(where, "keras-weights", tree, weights_layers(tree, None), metadata, None)
    except Hdf5Error as error:
        raise unreadable(path, str(error), error.mend) from None
    raise unreadable(path, "it is HDF5 but not of Keras: no layer_names and no vars", "give a file that Keras wrote")


def read_zip(path: Path) -> ModelFile:
    """Open a .keras file.

    Raises:
        FileError: the file is damaged, unsafe, or not of Keras.
    """
    try:
        with opened(path) as archive:
            config = _parse(path, "config.json", _text(path, archive, "config.json"))
            with_origin = "metadata.json" in archive.namelist()
            origin = _parse(path, "metadata.json", _text(path, archive, "metadata.json")) if with_origin else {}
            where = _weights(path, archive)
    except FileError:
        raise
    except _ZIP_ERRORS as error:
        raise unreadable(path, f"it is a damaged zip file ({error})") from None
    names = ("keras_version", "backend", "date_saved")
    metadata = {name: text for name in names if isinstance(text := origin.get(name), str)}
    tree = _tree(where)
    try:
        tree = _with_slashes(tree)
        return _model(where, "keras", tree, weights_layers(tree, config), metadata, config)
    except Hdf5Error as error:
        raise unreadable(path, str(error), error.mend) from None


def _refuse_shards(path: Path) -> None:
    """Sharded weights are several files, of which each looks like a whole one."""
    part = re.fullmatch(r"(.*)_\d{5}\.weights\.h5", path.name)
    if path.name.endswith(".weights.json") or (part and path.with_name(f"{part[1]}.weights.json").exists()):
        raise unreadable(
            path, "its weights are sharded over several files", "save them with Keras into one .weights.h5"
        )


def _tree(where: _Bytes) -> Tree:
    try:
        with where.open() as file:
            return read_tree(file, where.start, where.size)
    except Hdf5Error as error:
        raise unreadable(where.path, str(error), error.mend) from None
    except OSError as error:
        raise unreadable(where.path, str(error.strerror), "correct the path") from None


def _with_slashes(tree: Tree) -> Tree:
    """The tree with the names that Keras 3 gives on Windows, where it joins those of groups by backslashes, as elsewhere."""
    return Tree(_slashed(tree.arrays), _slashed(tree.attributes))


def _slashed(named: dict[str, _Named]) -> dict[str, _Named]:
    found = {name.replace("\\", "/"): value for name, value in named.items()}
    if len(found) < len(named):
        raise Hdf5Error("a name in it is there twice, with slashes and with backslashes", AGAIN)
    return found


def _model(
    where: _Bytes,
    format_: str,
    tree: Tree,
    layers: tuple[StoredLayer, ...],
    metadata: dict[str, str],
    config: Mapping[str, Any] | None,
) -> ModelFile:
    """The model file: its layers' tensors in their order, then those of no layer; what is not of the model is only counted."""
    weights = dict.fromkeys(name for layer in layers for name in layer.tensors.values())
    kept = [name for name in tree.arrays if not is_state(name)]
    # Texts that someone added are no weights.
    notes = [name for name in kept if not tree.arrays[name].code and name not in weights]
    named = {**weights, **dict.fromkeys(name for name in kept if name not in notes)}
    flipped = _convolutions(layers) if metadata.get("backend") == "theano" else set[str]()
    tensors = {name: _tensor(where, name, tree, name in flipped) for name in named}
    if left := len(tree.arrays) - len(tensors) - len(notes):
        metadata["optimizer_tensors"] = str(left)
    if turned := [name for name in flipped if len(tree.arrays[name].shape) > 2]:
        metadata["kernels_turned_round"] = str(len(turned))
    if notes:
        metadata["no_numbers"] = ", ".join(notes[:_MOST_NOTES])
    if config is not None and (lambdas := lambda_layers(config)):
        metadata["lambda_layers"] = ",".join(lambdas)
    return ModelFile(where.path, format_, tensors, layers, metadata, config)


def _convolutions(layers: tuple[StoredLayer, ...]) -> set[str]:
    """The kernels that Theano convolves with: it turns them round, which all other backends do not.

    Source: preprocess_weights_for_loading in keras/engine/saving.py of Keras 2.3.1, which turns them back when it loads them.
    """
    return {
        name
        for layer in layers
        if _inner(layer) in ("", "Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose", "ConvLSTM2D")
        for label, name in layer.tensors.items()
        if label.split("/")[-1] in ("kernel", "recurrent_kernel")
    }


def _inner(layer: StoredLayer) -> str:
    """The class of a layer, or of what it wraps."""
    wrapped = layer.options.get("layer")
    return str(wrapped.get("class_name")) if isinstance(wrapped, Mapping) else layer.kind


def _tensor(where: _Bytes, name: str, tree: Tree, flipped: bool) -> StoredTensor:
    array = tree.arrays[name]
    bfloat16 = array.code == "bfloat16"
    if array.code == "V2":  # Keras 3 writes bfloat16 as two bytes of no meaning, and says so beside them
        bfloat16 = tree.attributes[name].get("dtype") == "bfloat16"
    elif not array.code:
        raise Hdf5Error(f"{name!r} holds no numbers", AGAIN)
    if array.code == "V2" and not bfloat16:
        raise Hdf5Error(f"{name!r} holds no numbers that NumPy knows", AGAIN)
    dtype = "bfloat16" if bfloat16 else np.dtype(array.code).name
    # Only what a kernel spreads over is turned, not its features in and out.
    spread = tuple(range(len(array.shape) - 2)) if flipped else ()

    def read() -> np.ndarray:
        found = _numbers(where, name, array, bfloat16)
        return np.flip(found, spread).copy() if spread else found

    return StoredTensor(name, array.shape, dtype, read)


def _numbers(where: _Bytes, name: str, array: Array, bfloat16: bool) -> np.ndarray:
    """The numbers of one array; nothing else of the file is read."""
    found = bytearray(array.size)
    try:
        with where.open() as file:
            file.seek(where.start + array.offset)
            count = file.readinto(found)
    except OSError as error:
        raise unreadable(where.path, f"{name!r} could not be read ({error.strerror})") from None
    if count != array.size:
        raise unreadable(where.path, f"it is cut short within {name!r}")
    try:
        return _decoded(found, array, bfloat16)
    except ValueError as error:  # an empty array whose other sizes are absurd
        raise unreadable(where.path, f"{name!r} has an impossible shape ({error})") from None


def _decoded(found: bytearray, array: Array, bfloat16: bool) -> np.ndarray:
    if bfloat16:  # the upper half of a float32
        high = np.frombuffer(found, "<u2").astype(np.uint32) << 16
        return high.view(np.float32).reshape(array.shape)
    numbers = np.frombuffer(found, array.code).reshape(array.shape)
    return numbers.astype(numbers.dtype.newbyteorder("="), copy=False)


def _text(path: Path, archive: zipfile.ZipFile, name: str) -> str:
    """A text in a zip, of bounded length whatever the zip declares."""
    if archive.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise unreadable(path, f"{name} in it is compressed in a way that Keras does not use", "save it with Keras")
    with archive.open(name) as file:
        data = file.read(MAX_TEXT + 1)
    if len(data) > MAX_TEXT:
        raise unreadable(path, f"{name} in it is longer than {MAX_TEXT} bytes")
    return data.decode()


def _weights(path: Path, archive: zipfile.ZipFile) -> _Bytes:
    """Where the weights are in a .keras: at their place if they are stored, in memory if they are deflated."""
    entry = archive.getinfo(_WEIGHTS)
    if entry.flag_bits & 1:
        raise unreadable(path, f"{_WEIGHTS} in it is encrypted", "save it without a password")
    if entry.compress_type == zipfile.ZIP_STORED:
        return _Bytes(path, _start(path, entry), entry.file_size)
    if entry.compress_type != zipfile.ZIP_DEFLATED:
        raise unreadable(
            path,
            f"{_WEIGHTS} in it is compressed in a way that Keras does not use",
            "store it uncompressed, as Keras does",
        )
    unpacked = io.BytesIO()
    with archive.open(entry) as file:  # which gives no more than the zip says
        shutil.copyfileobj(file, unpacked, _CHUNK)
    data = unpacked.getvalue()
    if len(data) != entry.file_size:
        raise unreadable(path, f"{_WEIGHTS} in it is not as long as the zip says")
    return _Bytes(path, 0, len(data), data)


def _start(path: Path, entry: zipfile.ZipInfo) -> int:
    """Where a stored entry's first byte is: after its own header, whose length the zip's directory does not give."""
    with path.open("rb") as file:
        file.seek(entry.header_offset)
        signature, name, extra = struct.unpack("<4s22x2H", file.read(30))
        start, size = entry.header_offset + 30 + name + extra, file.seek(0, 2)
    if signature != b"PK\x03\x04" or entry.file_size != entry.compress_size or start + entry.file_size > size:
        raise unreadable(path, f"{_WEIGHTS} is not where the zip says")
    return int(start)


def _parse(path: Path, name: str, text: str) -> dict[str, Any]:
    """A configuration. Parsed, never built."""
    try:
        config = object_of(text, f"Cannot read {path}: {name} in it")
    except ValueError as error:
        raise unreadable(path, f"{name} in it is no sound JSON object ({error})", AGAIN) from None
    if not _is_sound(config):
        raise unreadable(path, f"{name} in it is no JSON object that can be printed, or is nested too deep", AGAIN)
    return config


def _is_sound(config: dict[str, Any]) -> bool:
    """Not so deep that others who walk through it must fail, and no text that cannot be printed."""
    level: list[Any] = [config]
    for _ in range(_MAX_DEPTH):
        texts = [
            text for value in level for text in (value if isinstance(value, dict) else [value]) if isinstance(text, str)
        ]
        if any(re.search("[\ud800-\udfff]", text) for text in texts):
            return False
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return True
    return False
