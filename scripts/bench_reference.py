"""How much the NumPy reference costs over its own matrix products, and against PyTorch.

An LSTM in float32, (batch, steps, features, hidden) = (32, 100, 128, 512). "Its matrix products alone" are the products
that the reference makes, in its layout and order and into a buffer that is there already, and nothing else: at each step
the kernel [W b U rb] of all gates (4 * hidden, features + 1 + hidden + 1) times the column [x; 1; h; 1] of the batch.

Run: python scripts/bench_reference.py
"""

from __future__ import annotations

import numpy as np
import torch
from _bench import against, interleaved, show

from xframe import Parameters, Recurrent, reference
from xframe.adapters import TorchAdapter
from xframe.layout import block_shape, keys

BATCH, STEPS, FEATURES, HIDDEN = 32, 100, 128, 512
ROUNDS = 60


def parameters(spec: Recurrent, rng: np.random.Generator) -> Parameters:
    """Random weights of about the size that training starts from."""
    scale = 1 / np.sqrt(spec.hidden_size)
    blocks = {key: rng.uniform(-scale, scale, block_shape(spec, key)) for key in keys(spec)}
    return Parameters(spec, blocks).astype(np.float32)


def main() -> None:
    """Time, compare, print."""
    rng, spec = np.random.default_rng(0), Recurrent("lstm", FEATURES, HIDDEN)
    params = parameters(spec, rng)
    x = rng.standard_normal((BATCH, STEPS, FEATURES)).astype(np.float32)
    layer, tensor = TorchAdapter().build_loaded(spec, params, "float32"), torch.from_numpy(x)
    inner = FEATURES + 1 + HIDDEN + 1
    kernel = rng.standard_normal((4 * HIDDEN, inner)).astype(np.float32)
    column = rng.standard_normal((inner, BATCH)).astype(np.float32)
    gates = np.empty((4 * HIDDEN, BATCH), np.float32)

    def ours() -> np.ndarray:
        return reference.run(spec, params, x).sequence

    def products() -> None:
        for _ in range(STEPS):
            np.matmul(kernel, column, out=gates)

    @torch.inference_mode()
    def theirs() -> torch.Tensor:
        return layer(tensor)[0]  # type: ignore[no-any-return]

    assert np.allclose(ours(), theirs().numpy(), atol=1e-5)
    name, alone, framework = "xframe.reference.run", "its matrix products alone", "torch.nn.LSTM"
    # Two runs, because the idle threads of one library spin for a while and disturb who comes next.
    rows = [
        against(interleaved({name: ours, alone: products}, ROUNDS), name, alone, 1.2),
        against(interleaved({name: ours, framework: theirs}, ROUNDS), name, framework, 1.5),
    ]
    show(f"{spec}, batch {BATCH}, {STEPS} steps, float32, {torch.get_num_threads()} threads", rows)


if __name__ == "__main__":
    main()
