"""What a model file holds, apart from its format: tensors that are read when they are asked for, and what it says of layers."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xframe.errors import FileError

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "MAX_NAME",
    "MAX_TEXT",
    "ModelFile",
    "Reader",
    "StoredGraph",
    "StoredLayer",
    "StoredNode",
    "StoredTensor",
    "check_is_file",
    "unreadable",
]

# The longest JSON text, header or graph that is parsed: far above any model's, far below what exhausts a machine.
MAX_TEXT = 64 * 2**20
# The longest name of a layer or a tensor, with the names of what it is in.
MAX_NAME = 1024


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file.

    Attributes:
        name: the file's own name for it, unique in the file.
        shape: its shape.
        dtype: NumPy's name of its type, or ``bfloat16``.
        read: gives the numbers, at each call anew; bfloat16, which NumPy has not, as float32. FileError if the file is
            damaged there.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray] = field(repr=False, compare=False)

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


@dataclass(frozen=True)
class StoredLayer:
    """What a file itself says of one layer, which may be little.

    Attributes:
        name: the file's name for it, with the names of what it is in, joined by ``/``.
        kind: its class or operator, as ``LSTM`` or ``Bidirectional``; empty where the file does not say.
        options: its configuration or attributes, as the file has them.
        tensors: its tensors: what the layer calls each (``kernel``, ``W``), and the name of the tensor in the file. In the
            order of the file.
    """

    name: str
    kind: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredNode:
    """One operation of a graph.

    Attributes:
        name: its name, unique in the file.
        kind: its operator.
        inputs, outputs: the names of what it reads and of what it puts out; empty for one that is left out.
        attributes: numbers and text by name.
        layer: the name of the layer that it is, or a part of; empty where it has no weights.
        captured: the names of what the graphs in it read of what is around them, and may be of their own.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    layer: str = ""
    captured: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoredGraph:
    """What a file says of how values are computed.

    Attributes:
        nodes: in an order in which each reads what was put out before it, those that compute from constants alone left out.
        constants: by the name of a value that does not depend on the inputs, its numbers.
        inputs, outputs: the names of the graph's own.
        inner: whether it is a graph in a node of another.
    """

    nodes: tuple[StoredNode, ...]
    constants: Mapping[str, StoredTensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    inner: bool = False


@dataclass(frozen=True)
class ModelFile:
    """A model file that has been opened, of which no tensor has been read.

    Attributes:
        path: where it is.
        format: one of the names in `xframe.files.FORMATS`.
        tensors: every tensor by name, in the order of the file.
        layers: what the file says of layers, in the order of the file; empty if it only has tensors.
        metadata: what else it says in words: ``keras_version``, ``backend``, ``opset`` and so on.
        config: the configuration of a whole model, as the file has it (parsed JSON), or None.
        graphs: what it runs, node by node, that of the whole first; empty if the file says nothing of that.
        beside: the other files that hold a part of it.
    """

    path: Path
    format: str
    tensors: Mapping[str, StoredTensor]
    layers: tuple[StoredLayer, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    graphs: tuple[StoredGraph, ...] = ()
    beside: tuple[Path, ...] = ()


# Opens one format: (path) -> ModelFile. FileError if the file is damaged or unsafe, MissingFrameworkError if a library that it
# needs is not installed.
Reader = Callable[[Path], ModelFile]


def unreadable(path: Path, why: str, mend: str = "get a whole copy of the file") -> FileError:
    """The error for a file that cannot be read; ``why`` continues the sentence, ``mend`` ends it."""
    return FileError(f"Cannot read {path}: {why}; {mend}.")


def check_is_file(path: Path) -> os.stat_result:
    """Refuse what is neither a file nor a folder: to open a pipe is to wait for its writer, and a device may have no end.

    Raises:
        FileError: it is such.
        OSError: it is not there, or may not be looked at.
    """
    found = path.stat()
    kind = next((name for test, name in _NO_FILES if test(found.st_mode)), "")
    if kind:
        raise unreadable(path, f"it is {kind}", "save what it gives as a file")
    return found


_NO_FILES = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
