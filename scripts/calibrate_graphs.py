"""How far right models are from the graphs that they are taken for, in units of the predicted rounding noise.

Draws random functional Keras models of 5 to 40 layers: sequences and words with masks, recurrent layers with states that others
begin with, branches, layers that are called again, attention, convolutions, normalisations, pooling, functions of keras.ops. Each
is read as a graph, run by Keras in float32 and held against the graph (a ratio above the limit would be a false alarm), and then
written to the targets, which are run and held against it too.

Model number i is the same whatever number of models or processes there is. With --out, results are appended to a file, one line
each, and what is in it is not done again.

    python scripts/calibrate_graphs.py [MODELS] [--targets LIST] [--seed S] [--processes P] [--out FILE]
    python scripts/calibrate_graphs.py --table FILE...
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from xframe.chatter import silenced
from xframe.errors import UnsupportedError, XframeError
from xframe.graph import graph_of_model, run_model
from xframe.graph.probing import held, probed, sizes
from xframe.judging import LIMIT
from xframe.noise import ratio
from xframe.writers import opened, write

TARGETS = "torch"
LEAST, MOST = 5, 40
_THREADS = [f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL")]

Line = dict[str, Any]


class Drawing:
    """A model that grows layer by layer; values are sequences (batch, time, features) or rows (batch, features)."""

    def __init__(self, random: np.random.Generator) -> None:
        import keras

        self.keras, self.layers, self.random = keras, keras.layers, random
        self.sequences: list[Any] = []
        self.rows: list[Any] = []
        self.inputs: list[Any] = []
        self.shared: list[tuple[Any, int]] = []
        self.masked = bool(random.random() < 0.3)
        self.steps = None if random.random() < 0.6 else int(random.integers(3, 9))

    def one(self, values: list[Any]) -> Any:
        # The last ones more often, so that the model becomes deep.
        return values[max(-len(values), -1 - int(self.random.geometric(0.5)) + 1)]

    def size(self) -> int:
        return int(self.random.integers(1, 7))

    def model(self) -> Any:
        """A model of all that nothing else reads, or of some of it."""
        for _ in range(int(self.random.integers(1, 4))):
            self.start()
        count = int(np.exp(self.random.uniform(np.log(LEAST), np.log(MOST))))
        steps: list[Callable[[], None]] = [
            self.recurrent,
            self.recurrent,
            self.recurrent,
            self.dense,
            self.merge,
            self.merge,
            self.concatenate,
            self.attention,
            self.convolution,
            self.plain,
            self.norm,
            self.reduce,
            self.operation,
            self.again,
            self.repeat,
        ]
        for _ in range(count):
            steps[int(self.random.integers(len(steps)))]()
        every = [*self.sequences, *self.rows]
        read = {id(t) for t in self.inputs}
        ends = [value for value in every[-3:] if id(value) not in read] or [self.layers.Dense(2)(every[-1])]
        outputs = ends[: int(self.random.integers(1, len(ends) + 1))]
        form = self.random.random()
        if len(outputs) == 1 and form < 0.7:
            return self.keras.Model(self.inputs, outputs[0])
        if form > 0.8:
            return self.keras.Model(self.inputs, {f"output_{i}": value for i, value in enumerate(outputs)})
        return self.keras.Model(self.inputs, outputs)

    def start(self) -> None:
        kind = self.random.random()
        if kind < 0.4:
            words = self.keras.Input((self.steps,), dtype="int32")
            self.inputs.append(words)
            table = self.layers.Embedding(int(self.random.integers(3, 12)), self.size(), mask_zero=self.masked)
            self.sequences.append(table(words))
        elif kind < 0.85 or not self.sequences:
            self.inputs.append(self.keras.Input((self.steps, self.size())))
            self.sequences.append(self.inputs[-1])
        else:
            self.inputs.append(self.keras.Input((self.size(),)))
            self.rows.append(self.inputs[-1])

    def recurrent(self) -> None:
        kinds = (self.layers.LSTM, self.layers.GRU, self.layers.SimpleRNN)
        kind, x = kinds[int(self.random.integers(3))], self.one(self.sequences)
        sequence, states = bool(self.random.random() < 0.6), bool(self.random.random() < 0.4)
        units = self.size()
        options: dict[str, Any] = {"return_sequences": sequence, "return_state": states}
        if self.random.random() < 0.2:
            options["go_backwards"] = True
        layer = kind(units, **options)
        initial = None
        if self.random.random() < 0.3 and self.rows:
            # States of any value, made to fit.
            count = 2 if kind is self.layers.LSTM else 1
            initial = [self.layers.Dense(units, activation="tanh")(self.one(self.rows)) for _ in range(count)]
        elif self.random.random() < 0.25 and not options.get("go_backwards"):
            layer = self.layers.Bidirectional(
                layer, merge_mode=str(self.random.choice(["concat", "sum", "mul", "ave"]))
            )
        out = layer(x, initial_state=initial) if initial else layer(x)
        y, *rest = out if states else [out]
        (self.sequences if sequence else self.rows).append(y)
        self.rows += rest
        if not states and initial is None:
            self.shared.append((layer, x.shape[-1]))

    def dense(self) -> None:
        values = self.sequences if self.random.random() < 0.5 or not self.rows else self.rows
        activation = str(self.random.choice(["linear", "relu", "tanh", "softmax", "elu", "gelu", "sigmoid"]))
        values.append(self.layers.Dense(self.size(), activation=activation)(self.one(values)))

    def fitting(self, values: list[Any]) -> tuple[Any, Any] | None:
        """Two values of one shape, the second through a dense layer if need be."""
        if len(values) < 2:
            return None
        a, b = self.one(values), values[int(self.random.integers(len(values)))]
        if len(a.shape) == 3 and a.shape[1] != b.shape[1]:
            return None
        return a, b if a.shape[-1] == b.shape[-1] else self.layers.Dense(a.shape[-1])(b)

    def merge(self) -> None:
        values = self.sequences if self.random.random() < 0.5 else self.rows
        if (both := self.fitting(values)) is not None:
            kinds = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
            values.append(getattr(self.layers, str(self.random.choice(kinds)))()(list(both)))

    def concatenate(self) -> None:
        values = self.sequences if self.random.random() < 0.5 else self.rows
        if len(values) > 1:
            a, b = self.one(values), values[int(self.random.integers(len(values)))]
            if len(a.shape) == 2 or a.shape[1] == b.shape[1]:
                values.append(self.layers.Concatenate()([a, b]))

    def attention(self) -> None:
        if (both := self.fitting(self.sequences)) is None:
            return
        kind = self.random.random()
        if kind < 0.35:
            self.sequences.append(self.layers.Attention(use_scale=bool(kind < 0.15))(list(both)))
        elif kind < 0.6:
            self.sequences.append(self.layers.AdditiveAttention()(list(both)))
        else:
            layer = self.layers.MultiHeadAttention(int(self.random.integers(1, 4)), self.size())
            self.sequences.append(layer(*both, use_causal_mask=bool(kind > 0.85 and not self.masked)))

    def convolution(self) -> None:
        options: dict[str, Any] = {"padding": str(self.random.choice(["same", "causal"]))}
        if self.random.random() < 0.3:
            options["dilation_rate"] = 2
        layer = self.layers.Conv1D(self.size(), int(self.random.integers(1, 4)), **options)
        self.sequences.append(layer(self.one(self.sequences)))

    def plain(self) -> None:
        values = self.sequences if self.random.random() < 0.6 or not self.rows else self.rows
        name = str(self.random.choice(["relu", "tanh", "leaky_relu", "selu", "softplus", "silu"]))
        layer = self.layers.Dropout(0.3) if self.random.random() < 0.2 else self.layers.Activation(name)
        values.append(layer(self.one(values)))

    def norm(self) -> None:
        values = self.sequences if self.random.random() < 0.6 or not self.rows else self.rows
        kind = self.layers.LayerNormalization if self.random.random() < 0.5 else self.layers.BatchNormalization
        values.append(kind()(self.one(values)))

    def reduce(self) -> None:
        x, kind = self.one(self.sequences), self.random.random()
        if kind < 0.35:
            self.rows.append(self.layers.GlobalMaxPooling1D()(x))
        elif kind < 0.6 and not self.masked:
            self.rows.append(self.layers.GlobalAveragePooling1D()(x))
        else:
            self.rows.append(x[:, -1])

    def operation(self) -> None:
        ops, values = self.keras.ops, self.sequences if self.random.random() < 0.6 or not self.rows else self.rows
        x, kind = self.one(values), int(self.random.integers(5))
        found = [
            lambda: x * float(self.random.choice([0.5, 1.5, 2.0])) + 0.25,
            lambda: ops.tanh(x) * ops.sigmoid(x),
            lambda: ops.exp(-ops.square(x)),
            lambda: x - ops.mean(x, axis=-1, keepdims=True),
            lambda: ops.softmax(x, axis=-1),
        ][kind]()
        values.append(found)

    def again(self) -> None:
        """A layer that was called on something else before."""
        for layer, features in self.shared[::-1]:
            fits = [value for value in self.sequences if value.shape[-1] == features]
            if len(fits) > 1:
                y = layer(fits[int(self.random.integers(len(fits)))])
                (self.sequences if len(y.shape) == 3 else self.rows).append(y)
                return

    def repeat(self) -> None:
        if self.rows and self.steps is not None:
            self.sequences.append(self.layers.RepeatVector(self.steps)(self.one(self.rows)))


def outcome(seed: int, targets: list[str], number: int) -> Line:
    """What one model has shown."""
    begun = time.perf_counter()
    import keras

    keras.backend.clear_session()
    random = np.random.default_rng([seed, number])
    line: Line = {"seed": seed, "number": number, "checks": [], "refused": []}
    with silenced():
        keras.utils.set_random_seed(number)
        drawing = Drawing(random)
        model = drawing.model()
        weights = [
            w + 0.4 * random.uniform(0 if "variance" in v.path else -1, 1, w.shape)
            for v, w in zip(model.weights, model.get_weights(), strict=True)
        ]
        model.set_weights(weights)
        line["layers"], line["masked"] = len(model.layers), drawing.masked
        try:
            graph = held(graph_of_model(model))
        except XframeError as error:
            line["refused"].append(["Keras", str(error)])
            return line | {"seconds": round(time.perf_counter() - begun, 3)}
        tried = [probed(graph, size, "float32") for size in sizes(graph)]
        line["nodes"] = len(graph.nodes)
        line["checks"].append(checked("Keras", tried, [run_model(model, one.given) for one in tried]))
        for to in targets:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    write(graph, Path(folder), to)
                    run = opened(Path(folder), to)
                except UnsupportedError as error:
                    line["refused"].append([to, str(error)])
                    continue
                line["checks"].append(checked(to, tried, [run(list(one.given.values())) for one in tried]))
    return line | {"seconds": round(time.perf_counter() - begun, 3)}


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def checked(name: str, tried: list[Any], found: list[list[np.ndarray]]) -> Line:
    """The largest ratio of all outputs on all inputs, and whether any number differs in being finite."""
    ratios = [0.0]
    for one, outputs in zip(tried, found, strict=True):
        for (clean, deviation), got in zip(
            ((one.clean[key], one.deviation[key]) for key in one.clean), outputs, strict=True
        ):
            if got.shape != clean.shape:
                return {"framework": name, "ratio": 1e30}
            finite = np.isfinite(clean) & np.isfinite(deviation)
            ratios.append(float(np.nan_to_num(ratio(got, clean, deviation)[finite], nan=1e30).max(initial=0.0)))
    return {"framework": name, "ratio": max(ratios)}


def table(lines: list[Line]) -> str:
    found: dict[str, list[float]] = {}
    for line in lines:
        for check in line["checks"]:
            found.setdefault(check["framework"], []).append(check["ratio"])
    rows = []
    for framework, ratios in found.items():
        quantiles = [f"{q:.2g}" for q in np.quantile(ratios, [0.5, 0.95, 0.99, 1.0])]
        refused = sum(1 for line in lines for name, _ in line["refused"] if name == framework)
        rows.append([framework, f"{len(ratios):,}", *quantiles, sum(one > LIMIT for one in ratios), refused])
    headers = ["run by", "models", "median", "95 %", "99 %", "largest", f"above {LIMIT:g}", "refused"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def read(files: list[Path]) -> list[Line]:
    return [json.loads(text) for file in files if file.exists() for text in file.read_text("utf-8").splitlines()]


def run(models: int, seed: int, targets: list[str], processes: int, out: Path | None) -> list[Line]:
    """Those models that are not in the file yet; a line for each is appended to it."""
    lines = [line for line in read([out] if out else []) if line["seed"] == seed and line["number"] < models]
    todo = sorted(set(range(models)) - {line["number"] for line in lines})
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=50) as pool:
        for line in pool.imap_unordered(partial(outcome, seed, targets), todo):
            lines.append(line)
            if out:
                with out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
            bad = [f"{c['framework']}: {c['ratio']:.3g}" for c in line["checks"] if not c["ratio"] <= LIMIT]
            refused = [f"{name} refused: {why}" for name, why in line["refused"]]
            print(f"{len(lines):,} of {models:,}", line["number"], line["seconds"], *bad, *refused, file=sys.stderr)
    return sorted(lines, key=lambda line: line["number"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("models", nargs="?", type=int, default=100)
    parser.add_argument("--targets", default=TARGETS, help="by comma")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, help="append results to this file, and go on from what is in it")
    parser.add_argument("--table", type=Path, nargs="+", help="only print the table of these files")
    given = parser.parse_args()
    lines = (
        read(given.table)
        if given.table
        else run(given.models, given.seed, given.targets.split(","), given.processes, given.out)
    )
    print(table(lines))


if __name__ == "__main__":
    main()
