"""How fast a large model file is inspected and converted, and how much memory that takes, against plain NumPy.

Two LSTM layers of 2048 units on 2048 features, float32, 269 MB. Plain NumPy reads the arrays of an .npz file and writes them
into another; it knows nothing of layers. The proof is set against loading and running both models once. Every figure is of this
process after the imports; memory is the growth of the peak resident size.

Run: python scripts/bench_files.py
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from _bench import Row, against, growth, interleaved, show

import xframe
from xframe.adapters import known_packings
from xframe.conversion import convert_file, one_layer
from xframe.files import load
from xframe.graph import Graph
from xframe.graph.probing import PROBES
from xframe.recognition import Choices, recognise
from xframe.writers import run, write

SIZE, ROUNDS = 2048, 3
SPEC = xframe.Recurrent("lstm", SIZE, SIZE, num_layers=2)
TORCH = Choices(packing="torch")


def plain(source: Path, target: Path) -> None:
    """What NumPy does without knowing of layers."""
    with np.load(source) as arrays:
        np.savez(target, **dict(arrays))


def graph(source: Path) -> Graph:
    """The one layer of the file."""
    found = recognise(load(source), TORCH)
    return one_layer(found, found.layers[0])


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def main() -> None:
    """Time, measure, print."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source = folder / "source.npz"
        random = np.random.default_rng(0)
        bound = SIZE**-0.5
        natives = known_packings()["torch"].natives(SPEC)
        np.savez(source, **{n.name: random.uniform(-bound, bound, n.shape).astype(np.float32) for n in natives})
        megabytes = source.stat().st_size / 1e6
        runs: dict[str, Callable[[], object]] = {
            "plain NumPy, npz to npz": lambda: plain(source, folder / "plain.npz"),
            "inspect": lambda: recognise(load(source), TORCH),
            **{
                f"convert to {to}, without the proof": lambda to=to: write(graph(source), fresh(folder / to), to)
                for to in ("npz", "torch", "onnx", "keras")
            },
        }
        times = interleaved(runs, ROUNDS, warm_up=1)
        rows = [against(times, name, "plain NumPy, npz to npz", 1.5) for name in list(runs)[1:]]
        x = np.random.default_rng(0).normal(size=(*PROBES[0], SIZE)).astype(np.float32)
        both = {
            "load and run both models": lambda: (run(folder / "npz", [x], "npz"), run(folder / "torch", [x], "torch")),
            "convert to torch, with the proof": lambda: convert_file(
                source, folder / "proven", "torch", choices=TORCH, force=True
            ),
        }
        times = interleaved(both, ROUNDS, warm_up=1)
        rows.append(against(times, "convert to torch, with the proof", "load and run both models", 3.0))
        layer = megabytes / 2
        for to in ("npz", "torch", "onnx", "keras"):
            peak = growth(runs[f"convert to {to}, without the proof"])
            what = f"the model and a layer ({megabytes + layer:.0f} MB)"
            rows.append(Row(f"convert to {to}, peak memory", f"{peak:.0f} MB", what, peak / (megabytes + layer), 1.0))
        show(f"{SPEC}, {megabytes:,.0f} MB, float32", rows)


if __name__ == "__main__":
    main()
