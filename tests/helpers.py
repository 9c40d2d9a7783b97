"""What several test files need: layers to test, numbers to fill them with, oracles, and the one judgement.

The oracles are typed in from FACTS.md and from the papers. They use nothing of xframe but `Key` and the specs.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import strategies as st

from xframe import adapters, noise, writers
from xframe.adapters import Adapter
from xframe.graph import Graph, running
from xframe.layout import Key, Layout
from xframe.reference import Given, Outputs
from xframe.spec import Dense, Layer, Recurrent

Blocks = dict[Key, np.ndarray]

# Names that a stranger may give a layer, a tensor or a file: each is more than text in some medium.
NASTY = (
    # a terminal: colours, the cursor, other lines, the direction of writing, what is not seen, what piles up
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "a\nb\r\n\x0cc\x85d\u2028e\x0bf",
    "\x00nul\x7f",
    "\u202eevil\u2066\u200f",
    "gru\u3164\u115f\u200b\ufe0f",
    "a" + "\u0301" * 20,
    "\ud800 alone",
    "tab\there\xa0and\u3000there",
    # the log of a job
    "::set-output name=ok::true",
    "\n::error file=a.py,line=1::pwned\n",
    "words before and so many that a line is broken behind them, wherever it may be that it is full "
    + "::stop::x " * 9,
    "##[set-output name=ok]true",
    "x ###[group]##vso[task.complete] ##teamcity[message]",
    # Markdown
    "[click](https://evil.example)",
    "![t](https://evil.example/p.png)",
    "<https://evil.example> https://evil.example www.evil.example a@evil.example",
    "__VERDICT: equivalent__ **bold** *it* _it_ ~~no~~",
    "`code` ``` ~~~",
    "````",
    "@octocat @org/team",
    "#1 GH-12 org/repo#3 !4 %5 ~6 &7",
    "a | b |\\| c \\",
    "$x$ $$y$$",
    "# title #",
    "- item",
    "1. item",
    "12) item",
    "> said",
    "    code",
    "---",
    "+",
    "[x]: https://evil.example",
    "[^1] [ ] &lt;b&gt; &#60;",
    # HTML, SVG, XML
    "<img src=x onerror=alert(1)>",
    "]]></style></script><script>alert(1)</script>",
    "\" onmouseover='alert(1)' x=\"",
    "--><svg/onload=alert(1)><!--",
    "<details><summary>",
    # Python
    '"""\nraise SystemExit(3)\n"""',
    "'); raise SystemExit(4)  #",
    "x\\",
    "class",
    "{x}%s",
    # files
    "../../etc/passwd",
    # nothing of the kind
    "größe 漢字 état \U0001f600",
)

# One layer of each kind. Sizes differ on every axis: 7 features, 9 units, 4 rows, 6 steps, 3 layers, 2 directions, and
# 5 projected units.
FEATURES, UNITS, BATCH, STEPS, LAYERS, PROJECTED = 7, 9, 4, 6, 3, 5


def _layer(cell: str, **options: Any) -> Recurrent:
    return Recurrent(cell, FEATURES, UNITS, **options)


_STACKED: dict[str, Any] = {"num_layers": LAYERS, "bidirectional": True}
LAYERS_BY_NAME: dict[str, Layer] = {
    "rnn": _layer("rnn"),
    "rnn-relu": _layer("rnn", activation="relu"),
    "rnn-no-bias": _layer("rnn", bias=False),
    "rnn-stacked": _layer("rnn", **_STACKED),
    "lstm": _layer("lstm"),
    "lstm-no-bias": _layer("lstm", bias=False),
    "lstm-bidirectional": _layer("lstm", bidirectional=True),
    "lstm-stacked": _layer("lstm", **_STACKED),
    "lstm-projected": _layer("lstm", proj_size=PROJECTED),
    "lstm-projected-stacked": _layer("lstm", proj_size=PROJECTED, **_STACKED),
    "gru": _layer("gru"),
    "gru-no-bias": _layer("gru", bias=False),
    "gru-stacked": _layer("gru", **_STACKED),
    "gru-before": _layer("gru", reset_after=False),
    "gru-before-no-bias": _layer("gru", reset_after=False, bias=False),
    "gru-before-stacked": _layer("gru", reset_after=False, **_STACKED),
    "dense": Dense(FEATURES, UNITS),
    "dense-no-bias": Dense(FEATURES, UNITS, bias=False),
}


def older(distribution: str, *version: int) -> bool:
    """Whether an installed distribution is older than a version."""
    try:
        found = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return tuple(int(part) for part in found.split(".")[: len(version)]) < version


def _named(*words: str) -> set[str]:
    """The layers whose names have one of these words in them."""
    return {name for name in LAYERS_BY_NAME if any(word in name for word in words)}


# What a framework is known to lack of these. The toy has the plain tanh cell and nothing else.
LACKS = {
    "toy": set(LAYERS_BY_NAME) - {"rnn", "rnn-no-bias"},
    # Flax's cells always have biases, Equinox has no rnn; neither has projections or a GRU that resets before the product.
    "flax": _named("projected", "before", "rnn-no-bias", "lstm-no-bias", "gru-no-bias"),
    "flax-linen": _named("projected", "before", "rnn-no-bias", "lstm-no-bias", "gru-no-bias"),
    "equinox": _named("projected", "before", "rnn"),
    "onnx": _named("projected"),
}
# What a framework builds and reads, but cannot hold all numbers of.
UNFIT: dict[str, set[str]] = {"flax": {"gru", "gru-stacked"}}
# Keras takes a product of two float64 numbers for a float32 one on these.
FLOAT32_ALONE = ("keras[jax]", "keras[torch]")
# What a framework cannot run in float64, and in which float types it can run nothing.
FLOAT32_ONLY: dict[str, set[str]] = {"onnx": {"rnn-relu"}}
if older("onnx", 1, 23):  # its reference evaluator has one direction, and no LSTM that gives its last c
    FLOAT32_ONLY["onnx"] |= _named("lstm", "stacked", "bidirectional")
FLOATS_LACKED = {"toy": {"float16", "bfloat16"}, "onnx": {"bfloat16"}}
# What a framework can put out at masked time steps; those that are not here take no masks.
MASKED_OUTPUTS = {"keras": {"repeat", "zero"}, "torch": {"repeat", "zero"}, "onnx": {"zero"}}
# What keeps states from call to call.
STATEFUL = {"keras", "torch"}


# The layers on which variants of a framework are tested.
VARIANT_KINDS = ("rnn", "lstm-bidirectional", "gru", "gru-before-stacked", "dense")


def plain(framework: str) -> str:
    """The name of a framework without that of its variant."""
    return framework.partition("[")[0]


def has(framework: str, kind: str) -> bool:
    """Whether a framework should have a layer of `LAYERS_BY_NAME`, with any numbers in it."""
    if framework != plain(framework) and kind not in VARIANT_KINDS:
        return False
    return kind not in LACKS.get(plain(framework), set()) | UNFIT.get(plain(framework), set())


def lacks(framework: str, spec: Layer, dtype: str) -> bool:
    """Whether a framework should say that it cannot run a layer of `LAYERS_BY_NAME` in a float type."""
    kind = next(name for name, layer in LAYERS_BY_NAME.items() if layer == spec)
    only = framework in FLOAT32_ALONE or kind in FLOAT32_ONLY.get(framework, set())
    return (only and dtype == "float64") or dtype in FLOATS_LACKED.get(plain(framework), set())


def fails(adapter: Any, spec: Layer, dtype: str) -> bool:
    """Whether PyTorch itself fails in such a layer here: old versions do in an LSTM of bfloat16, on some processors."""
    if adapter.name != "torch" or dtype != "bfloat16" or spec.cell != "lstm" or adapter.packing.why_ours(spec):
        return False
    import torch

    layer = torch.nn.LSTM(4, 6, proj_size=spec.proj_size and 5).to(torch.bfloat16)
    try:
        with torch.inference_mode():
            layer(torch.ones(3, 2, 4, dtype=torch.bfloat16))
    except RuntimeError:
        return True
    return False


def finest(framework: str, spec: Layer) -> str:
    """The float type in which a layer of `LAYERS_BY_NAME` is held against the reference most sharply."""
    return "float32" if lacks(framework, spec, "float64") else "float64"


GATES = {"rnn": "h", "lstm": "ifgo", "gru": "rzn", "dense": [""]}


def folding(spec: Layer) -> str:
    """The gates in which only the sum of the two biases is used."""
    return "rz" if getattr(spec, "reset_after", None) else "".join(GATES[spec.cell])


def parts(spec: Recurrent) -> list[list[Recurrent]]:
    """For each direction what describes the cells that run inside it."""
    halves = [spec, spec.backward or spec] if spec.bidirectional else [spec]
    columns = [[half, *half.stacked] for half in halves]
    if spec.backward:
        columns[1] *= spec.backward.num_layers
    return columns


def output(part: Recurrent) -> int:
    """Size of a cell's state h."""
    return part.proj_size or part.hidden_size


def shapes(spec: Layer) -> dict[Key, tuple[int, ...]]:
    """The canonical blocks of a layer, written out."""
    if isinstance(spec, Dense):
        found: dict[Key, tuple[int, ...]] = {Key(0, 0, "kernel", ""): (spec.input_size, spec.units)}
        return found | ({Key(0, 0, "bias", ""): (spec.units,)} if spec.bias else {})
    found = {}
    outputs = [output(column[-1]) for column in parts(spec)]
    merged = sum(outputs) if spec.merge_mode in ("concat", None) else outputs[0]
    for layer in range(spec.num_layers):
        for direction, column in enumerate(parts(spec)):
            d = merged if layer else spec.input_size
            for level, part in enumerate(column, layer):
                n, h = part.hidden_size, output(part)
                for gate in GATES[part.cell]:
                    found[Key(level, direction, "kernel", gate)] = (d, n)
                    found[Key(level, direction, "recurrent_kernel", gate)] = (h, n)
                    if part.bias:
                        found[Key(level, direction, "bias", gate)] = (n,)
                        found[Key(level, direction, "recurrent_bias", gate)] = (n,)
                if part.proj_size:
                    found[Key(level, direction, "projection", "")] = (n, h)
                d = h
    return found


def state_shapes(spec: Recurrent, batch: int) -> dict[str, tuple[int, ...]]:
    """The states of a layer by name, written out; those that are not like the others stand apart."""
    each = [[{"h": output(p)} | ({"c": p.hidden_size} if p.cell == "lstm" else {}) for p in c] for c in parts(spec)]
    alike = [all(sizes == column[0] for sizes in column) for column in each]
    layers = spec.num_layers
    if each[0] == each[-1]:
        d = len(each)
        if alike[0]:
            return {name: (layers * len(each[0]), d, batch, size) for name, size in each[0][0].items()}
        return {f"layer {k} {n}": (1, d, batch, size) for k, sizes in enumerate(each[0]) for n, size in sizes.items()}
    both = list(zip(("", "backward "), each, strict=True))
    if all(alike):
        return {words + n: (len(column), 1, batch, size) for words, column in both for n, size in column[0].items()}
    return {
        f"{words}layer {k} {name}": (1, 1, batch, size)
        for words, column in both
        for k, sizes in enumerate(column)
        for name, size in sizes.items()
    }


def whole_numbers(spec: Layer, seed: int) -> Blocks:
    """Distinct whole numbers of either sign, none zero: sums of two are exact in float32 and wider."""
    random, sizes = np.random.default_rng(seed), shapes(spec)
    total = sum(int(np.prod(s)) for s in sizes.values())
    numbers = iter(random.permutation(np.arange(1, total + 1)) * random.choice([-1.0, 1.0], total))
    return {k: np.array([next(numbers) for _ in range(int(np.prod(s)))]).reshape(s) for k, s in sizes.items()}


def weights(spec: Layer, seed: int = 0, dtype: str = "float64", scale: float = 1.0) -> Blocks:
    """Random weights, distinct and away from zero in every gate and bias, at which gates are not saturated.

    They are numbers of ``dtype``, in float64. A smaller ``scale`` is for functions that grow faster than tanh.
    """
    random, found = np.random.default_rng([seed, 1]), {}
    for key, shape in shapes(spec).items():
        size = 1.5 / np.sqrt(shape[0]) if len(shape) == 2 else 0.7
        found[key] = rounded(away_from_zero(random, shape, scale * size), dtype)
    return found


def signal(spec: Layer, seed: int = 0, dtype: str = "float64", *, batch: int = BATCH, steps: int = STEPS) -> np.ndarray:
    """A random input, (batch, time, features) or (batch, features), of numbers of ``dtype``."""
    shape = (batch, steps, spec.input_size) if isinstance(spec, Recurrent) else (batch, spec.input_size)
    return rounded(away_from_zero(np.random.default_rng([seed, 2]), shape, 1.5), dtype).astype(array_type(dtype))


def start(spec: Layer, seed: int = 0, dtype: str = "float64", *, batch: int = BATCH) -> dict[str, np.ndarray] | None:
    """Random initial states, of numbers of ``dtype``; None for a dense layer."""
    if isinstance(spec, Dense):
        return None
    random = np.random.default_rng([seed, 3])
    return {
        name: rounded(away_from_zero(random, shape, 0.8), dtype).astype(array_type(dtype))
        for name, shape in state_shapes(spec, batch).items()
    }


def away_from_zero(random: np.random.Generator, shape: tuple[int, ...], scale: float) -> np.ndarray:
    return random.uniform(0.2, 1, shape) * random.choice([-1, 1], shape) * scale


def rounded(array: np.ndarray, dtype: str) -> np.ndarray:
    """The nearest numbers of ``dtype``, in float64."""
    if dtype == "bfloat16":
        # Eight significant bits, and the exponents of float32.
        fraction, exponent = np.frexp(array)
        return np.ldexp(np.round(fraction * 2**8), exponent - 8)
    return array.astype(dtype).astype(np.float64)


def array_type(dtype: str) -> str:
    """The type of the arrays that hold numbers of ``dtype``: NumPy has no bfloat16."""
    return "float32" if dtype == "bfloat16" else dtype


def sole_probe(graph: Graph, batch: int, steps: int, seed: int = 0) -> np.ndarray:
    """What the only input of a graph is tried on."""
    return running.sole(running.probe(graph, batch, steps, seed))


def sole_run(graph: Graph, x: np.ndarray, dtype: str | None = None) -> np.ndarray:
    """The only output of a graph."""
    return running.sole(running.run(graph, x, dtype))


def sole_noise(graph: Graph, x: np.ndarray, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """The only output of a graph in float64, and its rounding noise."""
    return running.sole(running.noise(graph, x, dtype))


def sole_written(folder: Path, x: np.ndarray, to: str) -> np.ndarray:
    """What a written model puts out, if that is one value."""
    (y,) = writers.run(folder, [x], to)
    return y


def effective(spec: Layer, blocks: Mapping[Key, np.ndarray]) -> Blocks:
    """The numbers that the function depends on, by hand: biases that fold are summed."""
    found = {}
    for key, block in blocks.items():
        if key.role == "recurrent_bias" and key.gate in folding(spec):
            continue
        if key.role == "bias" and spec.cell != "dense" and key.gate in folding(spec):
            block = block.astype(np.float64) + blocks[key._replace(role="recurrent_bias")].astype(np.float64)
        found[key] = block
    return found


def assert_same_numbers(got: Mapping[Any, np.ndarray], wanted: Mapping[Any, np.ndarray]) -> None:
    """Equal keys, shapes and numbers, to the last bit."""
    assert set(got) == set(wanted)
    for key, array in wanted.items():
        assert got[key].shape == array.shape, key
        assert np.array_equal(got[key], array), f"{key}: {got[key]} instead of {array}"


def bits(arrays: Mapping[str, np.ndarray]) -> dict[str, bytes]:
    """The arrays' memory, to prove that nothing was changed."""
    return {name: np.asarray(array).tobytes() for name, array in arrays.items()}


def ratios(
    spec: Layer, blocks: Mapping[Key, np.ndarray], given: Given, dtype: str, got: Outputs | Mapping[str, np.ndarray]
) -> dict[str, float]:
    """How far each output is from the reference at its worst element, in units of the rounding noise.

    Asserts that outputs have the names, shapes and type that they should, that they are finite, and that the noise is
    small enough for the ratios to say anything: far below the outputs' size.
    """
    expected, outputs = noise.measure(spec, blocks, given, dtype), got.named() if isinstance(got, Outputs) else got
    limit = 1e-3 if dtype in ("float64", "float32") else 0.2
    assert set(outputs) == set(expected.clean)
    found = {}
    for name, clean in expected.clean.items():
        values, deviation = outputs[name], expected.deviation[name]
        assert values.shape == clean.shape, name
        assert values.dtype == array_type(dtype), name
        assert np.isfinite(values).all(), name
        assert deviation.max() < limit * np.abs(clean).max(), f"{name} drowns in noise"
        found[name] = float(noise.ratio(values, clean, deviation).max())
    return found


def worst(
    spec: Layer, blocks: Mapping[Key, np.ndarray], given: Given, dtype: str, got: Outputs | Mapping[str, np.ndarray]
) -> float:
    """The largest of `ratios`."""
    return max(ratios(spec, blocks, given, dtype, got).values())


def judge(
    spec: Layer, blocks: Mapping[Key, np.ndarray], given: Given, dtype: str, got: Outputs | Mapping[str, np.ndarray]
) -> None:
    """Assert that every output is within ten times its rounding noise, with all that `ratios` asserts."""
    for name, ratio in ratios(spec, blocks, given, dtype, got).items():
        assert ratio < 10, f"{name} of {spec} is {ratio:.3g} times its noise away from the reference"


# How many numbers a layer stores, from FACTS.md: a formula for one layer and direction, of n units and d features.
STORED: dict[tuple[str, str], Callable[[int, int], int]] = {
    ("keras", "rnn"): lambda n, d: n * n + n * d + n,
    ("keras", "lstm"): lambda n, d: 4 * (n * n + n * d + n),
    ("keras", "gru"): lambda n, d: 3 * (n * n + n * d + 2 * n),
    ("keras", "gru/reset_before"): lambda n, d: 3 * (n * n + n * d + n),
    ("keras-cudnn", "lstm"): lambda n, d: 4 * (n * n + n * d + 2 * n),
    ("keras-cudnn", "gru"): lambda n, d: 3 * (n * n + n * d + 2 * n),
    ("torch", "rnn"): lambda n, d: n * n + n * d + 2 * n,
    ("torch", "lstm"): lambda n, d: 4 * (n * n + n * d + 2 * n),
    ("torch", "gru"): lambda n, d: 3 * (n * n + n * d + 2 * n),
    # xframe.torch.Recurrent, which keeps to PyTorch's names and two biases.
    ("torch", "gru/reset_before"): lambda n, d: 3 * (n * n + n * d + 2 * n),
    ("onnx", "rnn"): lambda n, d: n * n + n * d + 2 * n,
    ("onnx", "lstm"): lambda n, d: 4 * (n * n + n * d + 2 * n),
    ("onnx", "gru"): lambda n, d: 3 * (n * n + n * d + 2 * n),
    ("onnx", "gru/reset_before"): lambda n, d: 3 * (n * n + n * d + 2 * n),
    ("tf1", "rnn"): lambda n, d: n * (d + n + 1),
    ("tf1", "lstm"): lambda n, d: 4 * n * (d + n + 1),
    ("tf1", "gru/reset_before"): lambda n, d: 2 * n * (d + n + 1) + n * (d + n + 1),
    ("flax", "rnn"): lambda n, d: n * n + n * d + n,
    ("flax", "lstm"): lambda n, d: 4 * (n * n + n * d + n),
    ("flax", "gru"): lambda n, d: 3 * (n * n + n * d) + 3 * n,
    ("flax-linen", "rnn"): lambda n, d: n * n + n * d + n,
    ("flax-linen", "lstm"): lambda n, d: 4 * (n * n + n * d + n),
    ("flax-linen", "gru"): lambda n, d: 3 * (n * n + n * d) + 4 * n,
    ("equinox", "lstm"): lambda n, d: 4 * (n * n + n * d + n),
    ("equinox", "gru"): lambda n, d: 3 * (n * n + n * d) + 4 * n,
    ("keras", "dense"): lambda n, d: n * d + n,
    ("torch", "dense"): lambda n, d: n * d + n,
    ("flax", "dense"): lambda n, d: n * d + n,
    ("flax-linen", "dense"): lambda n, d: n * d + n,
    ("equinox", "dense"): lambda n, d: n * d + n,
    ("onnx", "dense"): lambda n, d: n * d + n,
    ("toy", "rnn"): lambda n, d: n * n + n * d + n,
}
# The same with a projection to p.
PROJECTED_STORED: dict[str, Callable[[int, int, int], int]] = {
    "torch": lambda n, d, p: 4 * n * (d + p + 2) + p * n,
    "tf1": lambda n, d, p: 4 * n * (d + p + 1) + p * n,
    # xframe.keras.ProjectedLSTMCell.
    "keras": lambda n, d, p: 4 * n * (d + p + 1) + p * n,
}


def row_of(spec: Layer) -> str:
    """The name of a spec's row in `STORED`."""
    return "gru/reset_before" if getattr(spec, "reset_after", None) is False else spec.cell


def stored(packing: str, spec: Layer) -> int:
    """How many numbers a framework stores for a layer, by FACTS.md."""
    n, h, directions = spec.hidden_size, spec.state_size, spec.num_directions
    total = 0
    for layer in range(spec.num_layers):
        d = spec.input_size if layer == 0 else h * directions
        if not spec.bias:
            # What is left of g(n² + nd + bias), the projection apart.
            one = len(GATES[spec.cell]) * n * (d if spec.cell == "dense" else d + h) + (n * h if h < n else 0)
        elif h < n:
            one = PROJECTED_STORED[packing](n, d, h)
        else:
            one = STORED[packing, row_of(spec)](n, d)
        total += directions * one
    return total


@st.composite
def specs(draw: st.DrawFn, row: str, layout: Layout) -> Layer:
    """Random specs that a layout row says it can express."""

    def pick(option: str, values: list[Any]) -> Any:
        return draw(st.sampled_from([v for v in values if v in layout.options.get(option, values)]))

    d, n = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    cell, bias = row.split("/")[0], pick("bias", [True, False])
    if cell == "dense":
        return Dense(d, n, bias)
    return Recurrent(
        cell,
        d,
        n,
        num_layers=pick("num_layers", [1, 2, 3]),
        bidirectional=pick("bidirectional", [False, True]),
        bias=bias,
        reset_after="/" not in row if cell == "gru" else None,
        proj_size=pick("proj_size", list(range(n))) if cell == "lstm" else 0,
    )


class Case(NamedTuple):
    """A framework and a layer that it has."""

    adapter: Adapter
    spec: Layer


class Move(NamedTuple):
    """Two frameworks, from and to, which may be the same, and a layer that both have."""

    source: Adapter
    target: Adapter
    spec: Layer


def module_at(path: Path) -> ModuleType:
    """A script or an example as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def before(module: ModuleType, *version: int) -> bool:
    """Whether a library is older than a version."""
    return tuple(map(int, module.__version__.split(".")[: len(version)])) < version


def clear_registry() -> None:
    """Make the registry of frameworks look again."""
    for function in vars(adapters).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()


@contextmanager
def entry_point(module: str) -> Iterator[None]:
    """Let ``module`` be an adapter that another distribution adds."""
    real = importlib.metadata.entry_points

    def entry_points(**wanted: str) -> list[EntryPoint]:
        added = EntryPoint(name=module, value=module, group="xframe.adapters")
        return [*real(**wanted), *([added] if wanted.get("group") == added.group else [])]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapters, "entry_points", entry_points)
        clear_registry()
        try:
            yield
        finally:
            patch.undo()
            clear_registry()
