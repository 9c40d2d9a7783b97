"""An ONNX graph that is put together node by node, and written with one weight in memory at a time.

A protobuf is what its fields are, one after the other. So the model without its weights is serialised by the `onnx` package,
and the weights are put into the file behind it, field by field. A model that would be larger than a protobuf may be has its
weights in a file beside it, as ONNX's external data. https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from xframe.errors import MissingFrameworkError
from xframe.writers._safetensors import Entry, numbers

__all__ = ["OPSET", "Graph"]

OPSET = 17  # the first with LayerNormalization
_IR_VERSION = 8
# What a protobuf may hold is 2 GiB; the graph itself needs some of it.
LARGEST = 2**31 - 2**26
_DTYPE = "float32"
# The tags of GraphProto.initializer, ModelProto.graph and TensorProto.raw_data: field number, and that a length follows.
_INITIALIZER, _GRAPH, _RAW_DATA = (bytes([number << 3 | 2]) for number in (5, 7, 9))


class Graph:
    """Nodes and weights. Values go by their names."""

    def __init__(self) -> None:
        try:
            import onnx
        except ImportError as error:
            raise MissingFrameworkError(
                f"Cannot write an ONNX model: it needs onnx ({error}); pip install 'xframe[files]'."
            ) from None
        self._onnx = onnx
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._weights: list[Entry] = []
        self._counts: Counter[str] = Counter()
        self._named: set[str] = set()
        self.step = ""

    @contextmanager
    def layer(self, name: str) -> Iterator[list[str]]:
        """While the nodes of one layer are added; gives a list into which the names of its weights come."""
        self.step, names = name, list[str]()
        before = len(self._weights)
        yield names
        names += [entry.name for entry in self._weights[before:]]

    def node(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; gives the name of its output, or the names of its outputs."""
        self._counts[kind] += 1
        name = f"{self.step}/{kind}_{self._counts[kind]}"
        names = [f"{name}:{i}" if outputs > 1 else name for i in range(outputs)]
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), names, name=name, **attributes))
        return names if outputs > 1 else names[0]

    def constant(self, value: Any, dtype: str = "int64") -> str:
        """A small tensor that is no weight."""
        self._counts["constant"] += 1
        name = f"{self.step}/constant_{self._counts['constant']}"
        self._constants.append(self._onnx.numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def weights(
        self, listed: Sequence[tuple[str, tuple[int, ...]]], read: Callable[[str], Iterator[np.ndarray]]
    ) -> list[str]:
        """Add weights of one layer, unless they are there; their arrays will be asked for when the file is written. Gives their
        names."""
        names = [f"{self.step}/{name}" for name, _ in listed]
        if not self._named.issuperset(names):
            self._weights += Entry.group([(f"{self.step}/{name}", shape) for name, shape in listed], read)
            self._named.update(names)
        return names

    def write(self, path: Path, given: Sequence[Any], results: Sequence[Any]) -> list[Path]:
        """Write the model, and the file of its weights if they are too large for one; gives the files.

        Args:
            path: of the model.
            given: (name, type, shape) of each input.
            results: (name, value, shape) of each output.
        """
        apart = sum(self._size(entry) for entry in self._weights) > LARGEST
        beside = path.with_name(f"{path.name}.data")
        if apart:
            with beside.open("wb") as file:
                for array in numbers(self._weights, _DTYPE):
                    file.write(array.data)
        graph, model = self._outline(given, results)
        fields, start = [], 0
        for entry in self._weights:
            fields.append(self._field(entry, beside.name if apart else "", start))
            start += self._size(entry)
        length = len(graph) + sum(len(field) for field in fields) + (0 if apart else start)
        with path.open("wb") as file:
            file.write(model + _GRAPH + _varint(length) + graph)
            self._write_weights(file, fields, apart)
        return [path, beside] if apart else [path]

    def _write_weights(self, file: BinaryIO, fields: Sequence[bytes], apart: bool) -> None:
        arrays = iter(()) if apart else numbers(self._weights, _DTYPE)
        for field in fields:
            file.write(field)
            if not apart:
                file.write(next(arrays).data)

    @staticmethod
    def _size(entry: Entry) -> int:
        return prod(entry.shape) * np.dtype(_DTYPE).itemsize

    def _outline(self, given: Sequence[Any], results: Sequence[Any]) -> tuple[bytes, bytes]:
        """The graph without the weights, and the model without the graph."""
        helper, kinds = self._onnx.helper, self._onnx.TensorProto
        ends = [helper.make_node("Identity", [value], [name], name=name) for name, value, _ in results]
        graph = helper.make_graph(
            [*self._nodes, *ends],
            "model",
            [helper.make_tensor_value_info(name, getattr(kinds, kind), shape) for name, kind, shape in given],
            [helper.make_tensor_value_info(name, kinds.FLOAT, shape) for name, _, shape in results],
            self._constants,
        )
        opset = helper.make_opsetid("", OPSET)
        model = self._onnx.ModelProto(ir_version=_IR_VERSION, producer_name="xframe", opset_import=[opset])
        return bytes(graph.SerializeToString()), bytes(model.SerializeToString())

    def _field(self, entry: Entry, beside: str, start: int) -> bytes:
        """One weight up to its numbers, or, where they are in a file beside, whole."""
        tensor = self._onnx.TensorProto(name=entry.name, dims=entry.shape, data_type=self._onnx.TensorProto.FLOAT)
        size = self._size(entry)
        if beside:
            tensor.data_location = self._onnx.TensorProto.EXTERNAL
            for key, value in {"location": beside, "offset": start, "length": size}.items():
                tensor.external_data.add(key=key, value=str(value))
            text = tensor.SerializeToString()
            return _INITIALIZER + _varint(len(text)) + text
        head = tensor.SerializeToString() + _RAW_DATA + _varint(size)
        return _INITIALIZER + _varint(len(head) + size) + head


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])
