"""How far correct layers are from the reference, in units of the predicted rounding noise.

Draws random layers (every cell and option, sizes 1 to 256, 1 to 200 steps, weights scaled by 0.3 to 8), runs each in every
framework in float64 and float32, and prints the distribution of the largest ratio of a layer: what the limit of a verdict
(xframe.judging.LIMIT) has to leave room for. A layer above the limit would be a false alarm.

    python scripts/calibrate.py [LAYERS] [SEED]
"""

from __future__ import annotations

import sys
from collections import defaultdict

import numpy as np
from tabulate import tabulate

from xframe import Recurrent, noise
from xframe.adapters import get_adapter, known_adapters
from xframe.adapters.base import DTYPES
from xframe.chatter import silenced
from xframe.errors import UnsupportedError
from xframe.judging import LIMIT
from xframe.packing import Parameters
from xframe.probe import Probe, draw_input, draw_parameters, draw_state
from xframe.reference import Given


def draw_layer(random: np.random.Generator) -> tuple[Recurrent, Probe, float]:
    """A random layer, its probe, and the scale of its weights; sizes and scales are uniform in their logarithm."""

    def size(largest: int) -> int:
        return round(float(np.exp(random.uniform(0, np.log(largest)))))

    cell = str(random.choice(["rnn", "lstm", "gru"]))
    options = {
        "rnn": {"activation": str(random.choice(["tanh", "relu"]))},
        "lstm": {},
        "gru": {"reset_after": bool(random.random() < 0.75)},
    }[cell]
    spec = Recurrent(
        cell,
        size(256),
        size(200),
        num_layers=int(random.choice([1, 1, 1, 2, 3])),
        bidirectional=bool(random.random() < 0.3),
        bias=bool(random.random() < 0.8),
        **options,  # type: ignore[arg-type]
    )
    scale = float(np.exp(random.uniform(np.log(0.3), np.log(8))))
    # A relu layer that grows by a factor each step overflows, which is no question of rounding.
    if spec.activation == "relu":
        scale = min(scale, 0.6)
    return spec, Probe(batch=2, steps=size(200), seed=int(random.integers(1 << 30))), scale


def scaled(params: Parameters, scale: float) -> Parameters:
    """The parameters times a factor, still float32 numbers."""
    return Parameters(params.spec, {k: (v * scale).astype(np.float32).astype(np.float64) for k, v in params.items()})


def main() -> None:
    layers = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    random = np.random.default_rng(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    with silenced():
        adapters = [get_adapter(name) for name in known_adapters()]
        for _ in range(layers):
            spec, probe, scale = draw_layer(random)
            params = scaled(draw_parameters(spec, probe.seed), scale)
            x, state = draw_input(spec, probe), draw_state(spec, probe)
            for dtype in DTYPES:
                truth = noise.measure(spec, params, Given(x, state), dtype)
                start = {k: v.astype(dtype) for k, v in state.items()}
                for adapter in adapters:
                    try:
                        native = adapter.build_loaded(spec, params, dtype)
                    except UnsupportedError:
                        continue
                    outputs = adapter.run(native, x.astype(dtype), start).named()
                    ratios = [noise.ratio(outputs[n], truth.clean[n], truth.deviation[n]).max() for n in truth.clean]
                    found[adapter.title, dtype].append(float(np.max(ratios)))
    rows = []
    for (title, dtype), ratios in found.items():
        quantiles = [f"{q:.2g}" for q in np.quantile(ratios, [0.5, 0.95, 0.99, 1.0])]
        alarms = sum(1 for ratio in ratios if not ratio <= LIMIT)
        rows.append([title, dtype, len(ratios), *quantiles, alarms])
    headers = ["framework", "dtype", "layers", "median", "95 %", "99 %", "largest", f"above {LIMIT:g}"]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
