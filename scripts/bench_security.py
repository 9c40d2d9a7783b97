"""How the time that a file takes grows with its size, over two decades, for files that were made to take long.

Once these took time with the square of their size: constants that are all made of the same tensors, a functional model of many
layers, layers that two files hold in another order. The bar is the growth of the time for a hundredfold size: 100 were linear,
10,000 the square. Times are of the processor, of this process after the imports.

Run: python scripts/bench_security.py
"""

from __future__ import annotations

import json
import struct
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import _fields
import numpy as np
from _bench import Row, show

from xframe import budget
from xframe.conversion import convert_file
from xframe.files import load
from xframe.recognition import recognise
from xframe.verification import verify

# For a hundredfold size: linear, with room for what is sorted and for caches.
BAR = 250.0
LEAST = 0.01  # seconds; shorter times are those of the clock

field = _fields.message


def part(number: int, content: bytes) -> tuple[int, int, bytes]:
    return number, 2, content


def node(op: bytes, inputs: list[bytes], outputs: list[bytes], *attributes: bytes) -> bytes:
    ends = [*[part(1, one) for one in inputs], *[part(2, one) for one in outputs]]
    return field([*ends, part(4, op), *[part(5, one) for one in attributes]])


def onnx_file(path: Path, nodes: list[bytes], tensors: int = 0) -> Path:
    one = [(1, 0, b"\1"), (2, 0, b"\1"), part(9, struct.pack("<f", 0.5))]
    stored = [part(5, field([*one, part(8, b"a%d" % i)])) for i in range(tensors)]
    graph = field([*[part(1, each) for each in nodes], part(2, b"g"), *stored])
    path.write_bytes(field([(1, 0, b"\x08"), part(7, graph), part(8, field([part(1, b""), (2, 0, b"\x12")]))]))
    return path


def sources(folder: Path, size: int) -> Path:
    """So many constants, each made of all of as many tensors."""
    axis = field([part(1, b"axis"), (3, 0, b"\0"), (20, 0, b"\2")])
    concat = node(b"Concat", [b"a%d" % i for i in range(size)], [b"c"], axis)
    others = [node(b"Transpose", [b"c"], [b"d%d" % i]) for i in range(size)]
    return onnx_file(folder / "sources.onnx", [concat, *others], size)


def split(folder: Path, size: int) -> Path:
    return onnx_file(folder / "split.onnx", [node(b"Split", [b"a0"], [b""] * size)], 1)


def npz(folder: Path, size: int) -> Path:
    named = {
        f"dense{i}/{k}": np.full(s, 0.5 + i, "f4") for i in range(size) for k, s in (("kernel", (1, 1)), ("bias", (1,)))
    }
    np.savez(folder / "many.npz", **named)  # type: ignore[arg-type]
    return folder / "many.npz"


def ordered(folder: Path, size: int) -> tuple[Path, Path]:
    """Two files of the same layers, by names that do not tell, one in the other order."""
    found = []
    for name, order in (("a", range(size)), ("b", range(size - 1, -1, -1))):
        header, data = {}, b""
        for i, value in enumerate(order):
            for key, shape in (("kernel", [1, 1]), ("bias", [1])):
                header[f"{name}dense{i}/{key}"] = {
                    "dtype": "F32",
                    "shape": shape,
                    "data_offsets": [len(data), len(data) + 4],
                }
                data += struct.pack("<f", 0.5 + value / size)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        found.append(folder / f"{name}.safetensors")
        found[-1].write_bytes(struct.pack("<Q", len(text)) + text + data)
    return found[0], found[1]


def functional(folder: Path, size: int) -> Path:
    """A Keras model of so many layers, each reading the one before it."""
    import h5py

    with h5py.File(folder / "w.h5", "w") as file:
        file["layers/dense/vars/0"] = np.random.default_rng(0).normal(size=(2, 3)).astype("f4")
    layers = [{"class_name": "InputLayer", "config": {"batch_shape": [None, 2], "name": "l0"}, "inbound_nodes": []}]
    for i in range(1, size):
        kind = (
            ("Dense", {"name": "l1", "units": 3, "use_bias": False, "activation": "linear"})
            if i == 1
            else ("Activation", {"name": f"l{i}", "activation": "tanh"})
        )
        reads = {"class_name": "__keras_tensor__", "config": {"keras_history": [f"l{i - 1}", 0, 0]}}
        layers.append({"class_name": kind[0], "config": kind[1], "inbound_nodes": [{"args": [reads], "kwargs": {}}]})
    ends = {"input_layers": [["l0", 0, 0]], "output_layers": [[f"l{size - 1}", 0, 0]]}
    config = {"class_name": "Functional", "config": {"name": "m", "layers": layers, **ends}}
    with zipfile.ZipFile(folder / "f.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.write(folder / "w.h5", "model.weights.h5")
    return folder / "f.keras"


def inspected(path: Path) -> None:
    recognise(load(path))


def converted(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        convert_file(path, Path(folder) / "out", "npz")


# What is made, what is done with it, and the smallest size.
KINDS: dict[str, tuple[Callable[[Path, int], object], Callable[..., object], int]] = {
    "inspect: constants made of the same tensors": (sources, inspected, 100),
    "inspect: a Split of many outputs": (split, inspected, 1000),
    "inspect: an .npz of many layers": (npz, inspected, 10),
    "verify: layers in the other order": (ordered, verify, 5),
    "convert: a functional model of many layers": (functional, converted, 20),
}


def seconds(make: Callable[[Path, int], object], do: Callable[..., object], size: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        made = make(Path(folder), size)
        start = time.process_time()
        with budget.allowed(memory=4096):
            do(*made) if isinstance(made, tuple) else do(made)
        return max(time.process_time() - start, LEAST)


def main() -> None:
    """Measure, print; status 1 where a bar is passed."""
    rows = []
    for name, (make, do, least) in KINDS.items():
        seconds(make, do, 3)  # what is imported only once
        small, _, large = (seconds(make, do, least * factor) for factor in (1, 10, 100))
        rows.append(Row(name, f"{large:.2f} s for {100 * least:,}", f"{small:.2f} s for {least:,}", large / small, BAR))
    show("Time against size", rows)
    sys.exit(any(row.ratio > row.bar for row in rows))


if __name__ == "__main__":
    main()
