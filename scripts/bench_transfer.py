"""How fast `xframe.transfer` is, and how much memory it takes, against a transfer written by hand.

Two LSTM layers of 2048 units on 2048 features, float32, from PyTorch to Keras and back. The transfer by hand knows the
layer and checks nothing; xframe finds out what the layers are, checks every number before it writes the first, and sums the
biases in float64. Memory is the growth of the peak resident size over what source and target take already.

Run: python scripts/bench_transfer.py
"""

from __future__ import annotations

import os
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import torch
from _bench import Row, against, growth, interleaved, show

import xframe
from xframe.adapters import KerasAdapter, TorchAdapter

SIZE, LAYERS = 2048, 2
ROUNDS = 10
SPEC = xframe.Recurrent("lstm", SIZE, SIZE, LAYERS)


def by_hand_to_keras(source: torch.nn.LSTM, target: object) -> None:
    """What a person who knows both layers writes."""
    for k, layer in enumerate(target.layers):  # type: ignore[attr-defined]
        weight = {name: getattr(source, f"{name}_l{k}").detach().numpy() for name in WEIGHTS}
        layer.cell.kernel.assign(weight["weight_ih"].T)
        layer.cell.recurrent_kernel.assign(weight["weight_hh"].T)
        layer.cell.bias.assign(weight["bias_ih"] + weight["bias_hh"])


@torch.no_grad()
def by_hand_to_torch(source: object, target: torch.nn.LSTM) -> None:
    """The same the other way."""
    for k, layer in enumerate(source.layers):  # type: ignore[attr-defined]
        weight = {name: getattr(target, f"{name}_l{k}") for name in WEIGHTS}
        weight["weight_ih"].copy_(torch.from_numpy(np.asarray(layer.cell.kernel).T))
        weight["weight_hh"].copy_(torch.from_numpy(np.asarray(layer.cell.recurrent_kernel).T))
        weight["bias_ih"].copy_(torch.from_numpy(np.asarray(layer.cell.bias)))
        weight["bias_hh"].zero_()


WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def main() -> None:
    """Time, measure, print."""
    source, keras_layer = TorchAdapter().build(SPEC), KerasAdapter().build(SPEC)
    ours, by_hand = TorchAdapter().build(SPEC), TorchAdapter().build(SPEC)

    runs: dict[str, Callable[[], object]] = {
        "PyTorch to Keras": lambda: xframe.transfer(source, keras_layer),
        "PyTorch to Keras by hand": lambda: by_hand_to_keras(source, keras_layer),
        "Keras to PyTorch": lambda: xframe.transfer(keras_layer, ours),
        "Keras to PyTorch by hand": lambda: by_hand_to_torch(keras_layer, by_hand),
    }
    times = interleaved(runs, ROUNDS)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), by_hand.parameters(), strict=True))
    there, back = "PyTorch to Keras", "Keras to PyTorch"
    for end in ("", " by hand"):
        times["there and back" + end] = [a + b for a, b in zip(times[there + end], times[back + end], strict=True)]
    rows = [against(times, name, f"{name} by hand", 1.2) for name in (there, back, "there and back")]
    layer = sum(p.numel() for p in source.parameters()) * 4 / LAYERS / 1e6
    for name in (there, back):
        peak = max(growth(runs[name]) for _ in range(3))
        rows.append(Row(f"{name}, peak memory", f"{peak:.1f} MB", f"one layer ({layer:.1f} MB)", peak / layer, 1.0))
    show(f"{SPEC}, {layer * LAYERS:,.0f} MB, float32", rows)


if __name__ == "__main__":
    main()
