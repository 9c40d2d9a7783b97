"""PyTorch's .pt and .pth: a zip file with a pickle and the numbers beside it, or (before 1.6) pickles and then the numbers.

PyTorch itself reads them, with ``weights_only=True``: a small interpreter that makes tensors and plain containers and calls
nothing else. What that leaves to a hostile file is refused before: a TorchScript archive, which old versions run; the tar
files of the oldest, where old versions unpickle all (CVE-2025-32434); a pickle that takes the machine's memory or stack.
In a zip file the numbers are mapped, not read; a file from before 1.6 is read as a whole.
"""

from __future__ import annotations

import io
import os
import pickletools
import re
import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from xframe.errors import FileError, MissingFrameworkError
from xframe.files._zip import opened
from xframe.files.base import MAX_TEXT, ModelFile, StoredTensor, unreadable

__all__ = ["read"]

_SAVE = "load it where you trust it, and save model.state_dict() with torch.save"

# How a file from before 1.6 begins: the pickle of PyTorch's magic number.
_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_PICKLES = 5  # in such a file: the magic number, the version, the machine, the object, the names of the storages
_TOO_LARGE = "its pickle is larger or deeper than any model's"
_TUPLES = frozenset({"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"})
_PASSING = _TUPLES | {"REDUCE", "NEWOBJ"}
_MAX_DEPTH = 100  # of tuples in tuples, of which PyTorch's own have about four; and of any containers
_MAX_STEPS = 2_000_000  # of a pickle; a tensor takes about thirty
_CHUNK = 2**16  # bytes that a pipe takes at once

# The key of an optimizer's state.
_OPTIMIZER = re.compile(r"optim(izers?)?(_.*)?", re.IGNORECASE)


def read(path: Path) -> ModelFile:
    """Open a file that `torch.save` wrote: every tensor in its mappings and lists, except an optimizer's.

    A tensor's name is the keys that lead to it, joined by ``/``. ``metadata["state_dict"]`` has the keys that lead to the
    mappings with tensors, ``metadata["optimizer_tensors"]`` the number of those left out.

    Raises:
        FileError: it is damaged, holds other things than tensors, or is a TorchScript archive.
        MissingFrameworkError: PyTorch is not installed.
    """
    try:
        import torch
    except ImportError:
        raise MissingFrameworkError(
            f"Cannot read {path}: PyTorch is not installed; pip install 'xframe[torch]'."
        ) from None
    try:
        zipped = _checked(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Said before such an archive is run, which some versions do.
            warnings.filterwarnings("error", message=".*TorchScript")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
        tensors, metadata = _named(path, content)
        return ModelFile(path, "torch", tensors, metadata=metadata)
    except FileError:
        raise
    # What PyTorch and a pickle's own mistakes raise is not written down.
    except Exception as error:
        raise _refused(path, error) from None


def _refused(path: Path, error: Exception) -> FileError:
    """The error for what PyTorch would not load."""
    text = str(error)
    asked = text.partition("GLOBAL ")[2].split()[:1]
    if asked:
        return unreadable(path, f"its pickle holds other things than tensors ({asked[0]})", _SAVE)
    if "weights only" in text.lower():
        why = text.partition("WeightsUnpickler error: ")[2].strip() or "it holds other things than tensors"
        return unreadable(path, f"PyTorch does not load its pickle with weights_only=True ({_line(why)})", _SAVE)
    return unreadable(path, f"it is damaged ({_line(text) or type(error).__name__})")


def _line(text: str) -> str:
    """The first line of a long message."""
    return text.partition("\n")[0][:200].rstrip(" .")


def _checked(path: Path) -> bool:
    """Refuse what PyTorch must not be given; whether it is a zip file.

    Raises:
        FileError: see `read`. Anything else where the file is damaged.
    """
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            _check_zip(path)
            return True
        file.seek(0)
        if file.read(len(_MAGIC)) != _MAGIC:
            raise unreadable(path, "it is a pickle that PyTorch did not write", _SAVE)
        file.seek(0)
        for _ in range(_PICKLES):
            _check_pickle(path, file)
    try:
        with tarfile.open(path, "r:"):
            raise unreadable(path, "it is in the tar format of PyTorch's first versions", _SAVE)
    except tarfile.TarError:
        return False


def _check_zip(path: Path) -> None:
    with opened(path) as archive:
        listed = {entry.filename.lower(): entry for entry in archive.infolist()}  # PyTorch's own search knows no case
        if len(listed) < len(archive.infolist()):
            raise unreadable(path, "it holds a name twice")
        if any(name.endswith("constants.pkl") for name in listed):
            raise unreadable(path, "it is a TorchScript archive, which holds code", _SAVE)
        for name, entry in listed.items():
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise unreadable(path, f"{entry.filename} in it is compressed, as PyTorch never does", _SAVE)
            if name.endswith("data.pkl"):
                if entry.file_size > MAX_TEXT:
                    raise unreadable(path, _TOO_LARGE, _SAVE)
                _check_pickle(path, io.BytesIO(archive.read(entry)))


def _check_pickle(path: Path, file: IO[bytes]) -> None:
    """Refuse a pickle whose interpretation takes memory or stack without limit; nothing is interpreted here.

    `bytearray` takes a size. Tuples in tuples are hashed by recursion, without the check that Python's other recursions
    have: as the key of a dict, a million of them end the process. So each step of the pickle is followed with the depth of
    tuples in place of the values.
    """
    stack: list[int] = []
    memo: dict[Any, int] = {}
    marks: list[int] = []
    for step, (op, argument, _) in enumerate(pickletools.genops(file)):
        if step > _MAX_STEPS:
            raise unreadable(path, _TOO_LARGE, _SAVE)
        if op.name == "GLOBAL" and str(argument).endswith(" bytearray"):
            raise unreadable(path, "its pickle holds other things than tensors (bytearray)", _SAVE)
        if op.name == "MARK":
            marks.append(len(stack))
        elif op.name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif op.name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif op.name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        else:
            depth = max(_taken(op, stack, marks), default=0) + (op.name in _TUPLES)
            # Other containers cannot be hashed: recursion ends there.
            stack += [depth if op.name in _PASSING else 0] * len(op.stack_after)
            if depth > _MAX_DEPTH:
                raise unreadable(path, _TOO_LARGE, _SAVE)


def _taken(op: pickletools.OpcodeInfo, stack: list[int], marks: list[int]) -> list[int]:
    """Take from the stack what a step of a pickle takes."""
    before = op.stack_before
    start = len(stack) - len(before)
    if pickletools.markobject in before:
        start = marks.pop() - before.index(pickletools.markobject)
    if start < 0:
        raise IndexError("its pickle takes what is not there")
    taken = stack[start:]
    del stack[start:]
    return taken


def _named(path: Path, content: Any) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """The tensors of what was loaded, and what is said about them.

    Raises:
        FileError: there are none, or two of one name.
    """
    tensors: dict[str, StoredTensor] = {}
    homes: dict[str, None] = {}
    left_out = 0
    for keys, tensor in _walk(path, content):
        if any(_OPTIMIZER.fullmatch(key) for key in keys[:-1]):
            left_out += 1
            continue
        name = "/".join(keys)
        if name in tensors:
            raise unreadable(path, f"it holds {name} twice", _SAVE)
        homes["/".join(keys[:-1])] = None
        tensors[name] = _tensor(path, name, tensor)
    if not tensors:
        raise unreadable(path, "it holds no tensors with names", "save model.state_dict() with torch.save")
    metadata = {"state_dict": ", ".join(homes)}
    return tensors, metadata | ({"optimizer_tensors": str(left_out)} if left_out else {})


def _walk(path: Path, content: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every tensor in mappings and lists, in order, with the keys that lead to it.

    A container that is met again, as in a pickle that holds itself, is not entered again. An optimizer's state has the keys
    ``state`` and ``param_groups``; it is marked by the key ``optimizer``, wherever it is.
    """
    import torch

    seen = set()
    waiting: list[tuple[tuple[str, ...], Any]] = [((), content)]
    while waiting:
        keys, value = waiting.pop()
        if isinstance(value, torch.Tensor) and keys:
            yield keys, value
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            if len(keys) > _MAX_DEPTH:
                raise unreadable(path, "its containers are nested deeper than any model's", _SAVE)
            seen.add(id(value))
            # Of the class, because a pickle may have put an attribute `items` on the object.
            items = list(dict.items(value)) if isinstance(value, dict) else list(enumerate(value))
            if isinstance(value, dict) and "state" in value and "param_groups" in value:
                keys = (*keys, "optimizer")
            waiting += [((*keys, _text(key)), item) for key, item in reversed(items)]


def _text(key: Any) -> str:
    """A key as text; any but a plain one by its type, since a container's text may have no end."""
    return str(key) if isinstance(key, (str, int)) else f"<{type(key).__name__}>"


def _tensor(path: Path, name: str, tensor: Any) -> StoredTensor:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return StoredTensor(name, tuple(tensor.shape), dtype, partial(_numbers, path, name, tensor))


def _numbers(path: Path, name: str, tensor: Any) -> np.ndarray:
    """A copy of a tensor's numbers."""
    import torch

    try:
        # Of the class, because a pickle may have put attributes on the object.
        plain = torch.Tensor.detach(tensor)
        kind = next((kind for kind, is_it in _other_kinds(plain).items() if is_it), "")
        if kind:
            raise unreadable(path, f"{name} is a {kind} tensor", "save it as a dense one on the CPU")
        held = plain.untyped_storage().nbytes()
        if plain.numel() * plain.element_size() > held or held > path.stat().st_size:
            raise unreadable(path, f"{name} declares more numbers than the file holds for it", "save it contiguous")
        plain = _copied(plain)
        return np.array((plain.float() if plain.dtype == torch.bfloat16 else plain).numpy(force=True))
    except FileError:
        raise
    except TypeError:
        raise unreadable(path, f"{name} is of type {tensor.dtype}, which NumPy has not", "save it as float32") from None
    except Exception as error:  # as in `read`
        raise unreadable(path, f"{name} is damaged ({error})") from None


def _copied(tensor: Any) -> Any:
    """A copy of a tensor whose numbers may lie in a file.

    Where that has been cut since it was mapped, whoever touches the memory dies of it (SIGBUS). The system, asked to write it
    into a pipe, says instead that it cannot.
    """
    import torch

    storage = tensor.untyped_storage()
    if not tensor.numel() or os.name != "posix":
        return tensor
    start = tensor.storage_offset() * tensor.element_size()
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    count = (last + 1) * tensor.element_size()
    mapped = torch.empty(0, dtype=torch.uint8).set_(storage, start, (count,), (1,)).numpy()
    found = bytearray(count)
    read, write = os.pipe()
    try:
        os.set_blocking(write, False)
        with memoryview(mapped) as source, memoryview(found) as target:
            at = 0
            while at < count:
                end = at + os.write(write, source[at : at + _CHUNK])
                while at < end:
                    at += os.readv(read, [target[at:end]])
    finally:
        os.close(read)
        os.close(write)
    return torch.frombuffer(found, dtype=tensor.dtype).as_strided(tensor.shape, tensor.stride())


def _other_kinds(tensor: Any) -> dict[str, bool]:
    """The kinds of tensor that have no plain numbers, and whether this is one."""
    import torch

    return {
        "sparse": tensor.layout != torch.strided,
        "quantised": tensor.is_quantized,
        "nested": tensor.is_nested,
        f"{tensor.device.type} device's": tensor.device.type != "cpu",
    }
