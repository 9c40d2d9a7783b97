"""What the writers write: run by a fresh Python that cannot import xframe, and held against the NumPy reference."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers import sole_noise, sole_probe, sole_written, weights

from xframe import reference, writers
from xframe.activations import ACTIVATIONS
from xframe.adapters.keras import KERAS
from xframe.adapters.torch import TORCH
from xframe.errors import FileError, LayoutError, UnsupportedError
from xframe.graph import Graph, Input, Node, Output, chained, running
from xframe.graph.kinds.recurrent import slots
from xframe.layout import Key
from xframe.noise import ratio
from xframe.packing import Blocks
from xframe.spec import Dense, Recurrent
from xframe.writers import _onnx_graph
from xframe.writers.base import identifier, module_of, packed
from xframe.writers.torch import RESERVED

D, N, BATCH, STEPS = 5, 7, 6, 9


def recurrent(spec: Recurrent, sequence: bool = True, name: str = "layer", scale: float = 1.0) -> Node:
    numbers = {key: block.astype("float32") for key, block in weights(spec, 3, "float32", scale).items()}
    return Node(name, "recurrent", {"sequence": sequence}, spec, lambda: numbers, (f"{name}/all",))


def dense(inputs: int, units: int, bias: bool = True, name: str = "dense") -> Node:
    spec = Dense(inputs, units, bias)
    numbers = {key: block.astype("float32") for key, block in weights(spec, 4, "float32").items()}
    return Node(name, "dense", {}, spec, lambda: numbers, (f"{name}/kernel", f"{name}/bias")[: 1 + bias])


def node(kind: str, arrays: dict[str, tuple[int, ...]] | None = None, name: str = "", **options: Any) -> Node:
    """A node with random arrays of these shapes; a variance is positive."""
    random = np.random.default_rng([len(kind), 5])
    found = {
        key: (random.choice([-1, 1], shape) ** (key != "variance") * random.uniform(0.3, 1.2, shape)).astype("float32")
        for key, shape in (arrays or {}).items()
    }
    return Node(name or kind, kind, options, None, lambda: found, tuple(f"{name or kind}/{key}" for key in found))


def norm(kind: str, size: int = D) -> Node:
    names = ("gamma", "beta", *(("mean", "variance") if kind == "batch_norm" else ()))
    return node(kind, dict.fromkeys(names, (size,)), epsilon=0.013)


def conv(padding: str, size: int = 4, filters: int = 6, features: int = D, **options: int) -> Node:
    given = {"stride": 1, "dilation": 1, "groups": 1, **options}
    arrays = {"kernel": (size, features // given["groups"], filters), "bias": (filters,)}
    return node("conv1d", arrays, padding=padding, **given)


def embedding(mask_zero: bool = False, size: int = D) -> Node:
    return node("embedding", {"embeddings": (11, size)}, mask_zero=mask_zero)


MASKING = node("masking", value=0.25)


def lstm(**options: Any) -> Recurrent:
    return Recurrent("lstm", D, N, **options)


def gru(**options: Any) -> Recurrent:
    return Recurrent("gru", D, N, **options)


def rnn(**options: Any) -> Recurrent:
    return Recurrent("rnn", D, N, **options)


SPECS: dict[str, Recurrent] = {
    "rnn": rnn(),
    "rnn-relu": rnn(activation="relu"),
    "lstm": lstm(),
    "lstm-no-bias": lstm(bias=False),
    "lstm-hard": lstm(recurrent_activation="hard_sigmoid"),
    "lstm-hard-2": lstm(recurrent_activation="hard_sigmoid_keras2", activation="softsign"),
    "lstm-projected": lstm(proj_size=3),
    "lstm-projected-both": lstm(proj_size=3, bidirectional=True, num_layers=2),
    "lstm-both": lstm(bidirectional=True),
    "lstm-stack": lstm(num_layers=3),
    "lstm-stack-both": lstm(num_layers=2, bidirectional=True, dropout=0.25),
    "lstm-dropout": lstm(input_dropout=0.25, recurrent_dropout=0.5),
    "gru": gru(),
    "gru-before": gru(reset_after=False),
    "gru-before-both": gru(reset_after=False, bidirectional=True, merge_mode="ave"),
    "gru-no-bias": gru(bias=False, reset_after=False, activation="relu"),
    "gru-softplus": gru(activation="softplus", recurrent_activation="sparse_sigmoid"),
    "gru-leaky": gru(activation="leaky_relu", recurrent_activation="hard_sigmoid"),
    "rnn-linear": rnn(activation="linear"),
    "rnn-elu": rnn(activation="elu", bidirectional=True, merge_mode=None),
    "rnn-softmax": rnn(activation="softmax"),
    "rnn-sum": rnn(bidirectional=True, merge_mode="sum", num_layers=2),
    "gru-mul": gru(bidirectional=True, merge_mode="mul"),
    "lstm-back": lstm(go_backwards=True),
    "lstm-back-stack": lstm(go_backwards=True, num_layers=2),
    "gru-back-both": gru(go_backwards=True, bidirectional=True),
    "unlike-cells": lstm(
        stacked=(Recurrent("gru", N, 4, reset_after=False), Recurrent("rnn", 4, 6, activation="relu"))
    ),
    "like-cells": lstm(stacked=(Recurrent("lstm", N, N, bias=False),)),
    "cells-both": gru(bidirectional=True, stacked=(Recurrent("lstm", N, 4, proj_size=2),)),
    "cells-back": gru(go_backwards=True, stacked=(Recurrent("gru", N, N),)),
    "backward": lstm(bidirectional=True, backward=Recurrent("gru", D, 4)),
}


class Case(NamedTuple):
    graph: Graph
    given: dict[str, np.ndarray]

    @property
    def x(self) -> np.ndarray:
        return running.sole(self.given)


def case(*nodes: Node, shape: tuple[int | None, ...] = (None, D), x: np.ndarray | None = None) -> Case:
    graph = chained(nodes, shape)
    return Case(graph, running.probe(graph, BATCH, STEPS, 6) if x is None else {"x": x})


def at(one: Node, reads: str, writes: str, name: str = "") -> Node:
    """The node with what it reads and writes, in one text each."""
    return replace(one, name=name or one.name, reads=tuple(reads.split()), writes=tuple(writes.split()))


def wired(
    *nodes: Node, outputs: str, form: str = "", padded: np.ndarray | None = None, **inputs: tuple[int | None, ...]
) -> Case:
    """Any graph; its outputs by the names of their values, of which `a=b` calls the value b a."""
    named = [one.split("=") for one in outputs.split()]
    graph = Graph(
        nodes,
        tuple(Input(name, shape) for name, shape in inputs.items()),
        tuple(Output(one[0], one[-1]) for one in named),
        form=form or ("one" if len(named) == 1 else "list"),
    )
    given = running.probe(graph, BATCH, STEPS, 6)
    return Case(graph, given if padded is None else {**given, "x": padded})


def right_padded() -> np.ndarray:
    """An input whose rows end in steps that Masking masks, all but the second."""
    x = sole_probe(chained([MASKING], (None, D)), BATCH, STEPS, 7)
    x = np.where(x == 0.25, np.float32(0.7), x)
    for row, length in enumerate((3, STEPS, 1, 8, 5, 6)):
        x[row, length:] = 0.25
    return x


def _cases() -> dict[str, Case]:
    found = {}
    for name, spec in SPECS.items():
        for sequence in (True, False):
            scale = 0.4 if spec.activation in ("relu", "linear", "elu", "softplus", "leaky_relu") else 1.0
            found[f"{name}-{'sequence' if sequence else 'last'}"] = case(recurrent(spec, sequence, scale=scale))
    for kind in ("any", "right"):
        for name, spec in {
            "lstm": lstm(mask=kind),
            "gru-zero": gru(mask=kind, masked_output="zero"),
            "lstm-both": lstm(mask=kind, bidirectional=True, num_layers=2),
            "gru-back": gru(mask=kind, go_backwards=True),
            "gru-back-both": gru(mask=kind, go_backwards=True, bidirectional=True, merge_mode="sum"),
            "rnn-stack": rnn(mask=kind, num_layers=2),
            "cells": lstm(mask=kind, stacked=(Recurrent("gru", N, 4),)),
        }.items():
            for sequence in (True, False):
                x = right_padded() if kind == "right" else None
                found[f"mask-{kind}-{name}-{sequence}"] = case(MASKING, recurrent(spec, sequence), x=x)
    for name in ACTIVATIONS:
        found[f"activation-{name}"] = case(Node("f", "activation", {"name": name}))
    for number, options in enumerate(
        (
            {"name": "relu", "max_value": 1.1, "negative_slope": 0.3, "threshold": 0.4},
            {"name": "relu", "max_value": None, "negative_slope": 0.2, "threshold": -0.6},
            {"name": "leaky_relu", "negative_slope": 0.3},
            {"name": "elu", "alpha": 1.7},
        )
    ):
        found[f"parameters-{number}"] = case(Node("f", "activation", options))
    return found | _others() | _branched()


def _others() -> dict[str, Case]:
    average = node("pool", mode="average", keepdims=False)
    masked = recurrent(lstm(mask="any"), name="below")
    return {
        "dense": case(dense(D, 4), shape=(D,)),
        "dense-in-time": case(dense(D, 4, bias=False)),
        "embedding": case(embedding(), recurrent(lstm()), shape=(None,)),
        "embedding-masked": case(embedding(True), recurrent(gru(mask="any"), False), dense(N, 3), shape=(None,)),
        "dropout": case(dense(D, 4), node("dropout", rate=0.5)),
        "masking-alone": case(MASKING, dense(D, 3)),
        "mask-handed-on": case(
            MASKING, dense(D, D), norm("layer_norm"), node("dropout", rate=0.1), norm("batch_norm"), masked, average
        ),
        "mask-dropped": case(MASKING, conv("same", features=D, filters=D), recurrent(lstm())),
        "layer-norm": case(norm("layer_norm")),
        "batch-norm": case(norm("batch_norm")),
        "batch-norm-flat": case(norm("batch_norm"), shape=(D,)),
        "conv-valid": case(conv("valid", stride=2)),
        "conv-same": case(conv("same")),
        "conv-same-stride": case(conv("same", stride=3)),
        "conv-same-dilation": case(conv("same", dilation=2, size=3)),
        "conv-causal": case(conv("causal", dilation=2)),
        "conv-groups": case(conv("valid", groups=2, features=4, filters=6), shape=(None, 4)),
        "flatten": case(node("flatten"), dense(STEPS * D, 3), shape=(STEPS, D)),
        "pool-max": case(node("pool", mode="max", keepdims=False)),
        "pool-max-keep": case(node("pool", mode="max", keepdims=True)),
        "pool-average": case(average),
        "pool-average-keep": case(MASKING, node("pool", mode="average", keepdims=True)),
        "permute": case(node("permute", dims=(2, 1)), dense(STEPS, 4), shape=(STEPS, D)),
        "reshape": case(node("reshape", shape=(3, -1)), dense(3 * D, 4), shape=(STEPS, D)),
        "repeat": case(recurrent(lstm(), False), node("repeat", times=4), recurrent(Recurrent("gru", N, 3), name="b")),
        "last": case(recurrent(lstm(bidirectional=True)), node("last"), dense(2 * N, 3)),
        "near-names": case(
            recurrent(lstm(num_layers=2), name="a"),
            dense(N, 4, name="a_0"),
            dense(4, 3, name="a_1"),
            dense(3, 6, name="A"),
        ),
    }


def handing_on(spec: Recurrent, reads: str, writes: str, name: str, sequence: bool = True) -> Node:
    """A recurrent node with all its final states behind its output, named `writes`0, `writes`1 and so on."""
    return at(recurrent(spec, sequence, name), reads, f"{writes} {states_of(spec, writes)}")


def states_of(spec: Recurrent, name: str) -> str:
    return " ".join(f"{name}{i}" for i, _ in enumerate(slots(spec)))


# Layers of which the states are handed on, and to which they are given.
HANDED = {
    "rnn": rnn(),
    "lstm": lstm(),
    "lstm-back": lstm(go_backwards=True),
    "gru-before": gru(reset_after=False),
    "gru-both": gru(bidirectional=True, merge_mode="sum"),
    "lstm-stack": lstm(num_layers=2),
    "lstm-stack-both": lstm(num_layers=2, bidirectional=True),
    "lstm-projected": lstm(proj_size=3),
    "lstm-projected-both": lstm(proj_size=3, bidirectional=True),
    "unlike-cells": lstm(stacked=(Recurrent("gru", N, 4, reset_after=False),)),
    "backward": lstm(bidirectional=True, backward=Recurrent("lstm", D, 4)),
}


def _branched() -> dict[str, Case]:
    inputs: Any = {"x": (None, D)}
    found = {}
    for operation in ("add", "subtract", "multiply", "average", "maximum", "minimum"):
        merge = node("merge", operation=operation)
        a, b = at(dense(D, 4), "x", "a", "one"), at(recurrent(Recurrent("gru", D, 4)), "x", "b")
        found[f"merge-{operation}"] = wired(a, b, at(merge, "b a", "y"), outputs="y", **inputs)
        if operation != "subtract":
            narrow, c = at(dense(D, 1), "x", "narrow", "two"), at(dense(D, 4, False), "x", "c", "three")
            wide = at(merge, "narrow a c", "y")
            found[f"merge-three-{operation}"] = wired(a, narrow, c, wide, outputs="y", **inputs)
    for axis in (-1, -2):
        put = at(node("concatenate", axis=axis), "a x a", "y")
        found[f"concatenate{axis}"] = wired(at(dense(D, D), "x", "a"), put, outputs="y", **inputs)
    for name, spec in HANDED.items():
        begun = states_of(spec, "a")
        first, second = handing_on(spec, "x", "a", "first"), handing_on(spec, f"other {begun}", "b", "second", False)
        found[f"decoder-{name}"] = wired(first, second, outputs=f"b {states_of(spec, 'b')}", **inputs, other=(None, D))
        found[f"states-{name}"] = wired(first, outputs=f"a0 a {begun.partition(' ')[2]}".strip(), **inputs)
    for kind in ("any", "right"):
        mask, x = at(MASKING, "x", "m"), right_padded() if kind == "right" else None
        for name, spec in {"lstm": lstm(mask=kind), "gru-both": gru(mask=kind, bidirectional=True)}.items():
            first = handing_on(spec, "m", "a", "first")
            last = f"a {states_of(spec, 'a')}"
            found[f"states-mask-{kind}-{name}"] = wired(mask, first, outputs=last, padded=x, **inputs)
            unmasked = replace(spec, mask=None, masked_output=None)
            second = at(recurrent(unmasked, name="second"), f"other {states_of(spec, 'a')}", "y")
            found[f"decoder-mask-{kind}-{name}"] = wired(
                mask, first, second, outputs="y", padded=x, **inputs, other=(None, D)
            )
    return found | _rewired()


def _rewired() -> dict[str, Case]:
    inputs: Any = {"x": (None, D)}
    both: Any = {**inputs, "other": (None, D)}
    encoder = recurrent(lstm(), False, "encoder")
    masks = at(MASKING, "x", "m"), at(node("masking", value=-0.5, name="second"), "other", "n")
    average = node("pool", mode="average", keepdims=False)
    head = at(dense(N, 4), "h", "y")
    one_head = at(recurrent(lstm()), "x", "h"), head
    heads = *one_head, at(dense(N, 2, name="more"), "h", "z")
    add, put = node("merge", operation="add"), node("concatenate", axis=-1)
    every, put_all = node("merge", operation="add", every=True), node("concatenate", axis=-1, every=True)
    return {
        "twice": wired(
            at(encoder, "x", "a"),
            at(encoder, "other", "b"),
            at(node("merge", operation="subtract"), "a b", "y"),
            outputs="y",
            **both,
        ),
        "twice-half-masked": wired(
            at(MASKING, "x", "m"),
            at(recurrent(lstm(), name="encoder"), "other", "a"),
            at(recurrent(lstm(mask="any"), name="encoder"), "m", "b"),
            at(put, "a b", "y"),
            outputs="y",
            **both,
        ),
        "twice-masked-first": wired(
            at(MASKING, "x", "m"),
            at(recurrent(lstm(mask="right"), name="encoder"), "m", "a"),
            at(recurrent(lstm(), name="encoder"), "other", "b"),
            at(put, "a b", "y"),
            outputs="y",
            padded=right_padded(),
            **both,
        ),
        "twice-states": wired(
            handing_on(lstm(), "x", "a", "encoder"),
            at(recurrent(lstm(), name="encoder"), f"other {states_of(lstm(), 'a')}", "encoder_layer"),
            at(recurrent(lstm(), name="encoder"), "other", "c"),
            at(put, "a encoder_layer c", "y"),
            outputs="y",
            **both,
        ),
        "twice-words": wired(
            at(embedding(), "x", "a"),
            at(embedding(), "other", "b"),
            at(put, "a b", "c"),
            at(recurrent(Recurrent("gru", 2 * D, 3), False), "c", "y"),
            outputs="y",
            x=(None,),
            other=(None,),
        ),
        "same-twice": wired(at(node("merge", operation="multiply"), "x x", "y"), outputs="y", **inputs),
        "outputs-list": wired(*heads, outputs="z h y", **inputs),
        "outputs-dict": wired(*heads, outputs="z=z h=h class=y", form="dict", **inputs),
        "outputs-one-dict": wired(*one_head, outputs="class=y", form="dict", **inputs),
        "outputs-same": wired(*one_head, outputs="one=y two=y", **inputs),
        "outputs-near-names": wired(*one_head, outputs="x y=h Y=y", **inputs),
        "input-read-late": wired(
            at(dense(D, D), "x", "a"),
            at(Node("f", "activation", {"name": "tanh"}), "a", "b"),
            at(add, "x b", "y"),
            outputs="y",
            **inputs,
        ),
        "merge-masks": wired(*masks, at(add, "m n", "a"), at(average, "a", "y"), outputs="y", **both),
        "merge-max-masks": wired(
            *masks,
            at(node("merge", operation="maximum", every=True), "m n", "a"),
            at(average, "a", "y"),
            outputs="y",
            **both,
        ),
        "merge-max-same-mask": wired(
            masks[0],
            at(node("dropout", rate=0.1), "m", "n"),
            at(node("merge", operation="minimum"), "m n", "y"),
            outputs="y",
            **inputs,
        ),
        "merge-half-masked": wired(masks[0], at(add, "m other", "a"), at(average, "a", "y"), outputs="y", **both),
        "concatenate-masks": wired(*masks, at(put, "m n", "a"), at(average, "a", "y"), outputs="y", **both),
        "concatenate-half-masked": wired(masks[0], at(put, "other m", "a"), at(average, "a", "y"), outputs="y", **both),
        "concatenate-time-masks": wired(
            *masks, at(node("concatenate", axis=-2), "m n", "a"), at(average, "a", "y"), outputs="y", **both
        ),
        "concatenate-time-half": wired(
            masks[0], at(node("concatenate", axis=-2), "m other", "a"), at(average, "a", "y"), outputs="y", **both
        ),
        "merge-every-mask": wired(*masks, at(every, "m n", "a"), at(average, "a", "y"), outputs="y", **both),
        "merge-every-half": wired(masks[0], at(every, "m other", "a"), at(average, "a", "y"), outputs="y", **both),
        "concatenate-every-mask": wired(*masks, at(put_all, "m n", "a"), at(average, "a", "y"), outputs="y", **both),
        "concatenate-every-half": wired(
            masks[0], at(put_all, "other m", "a"), at(average, "a", "y"), outputs="y", **both
        ),
        "concatenate-half-masked-lstm": wired(
            masks[0],
            at(put, "m other", "a"),
            at(recurrent(Recurrent("lstm", 2 * D, N, mask="right")), "a", "y"),
            outputs="y",
            padded=right_padded(),
            **both,
        ),
        "mask-put-out": wired(masks[0], at(dense(D, 4), "m", "b"), at(average, "b", "y"), outputs="y m", **inputs),
    }


CASES = _cases()
TARGETS = [pytest.param(t, marks=pytest.mark.needs(t)) if t in ("torch", "keras") else t for t in writers.TARGETS]
STATEFUL = lstm(stateful=True, batch_size=BATCH)
_ANY = "takes masks as lengths"
# What a target refuses: the end of a case's name, or all of it, and words of the reason.
REFUSED: dict[str, dict[str, str]] = {
    "torch": {},
    "npz": {},
    "keras": {
        "parameters-1": "no ReLU with negative numbers",
        **dict.fromkeys(("decoder-unlike-cells", "states-unlike-cells"), "states of stacked cells as lists in lists"),
        "merge-max-masks": "another mask",
        "merge-max-same-mask": "takes the other value where a mask comes with one",
        **{name: "another mask" for name in CASES if name.startswith(("merge-every", "concatenate-every"))},
    },
    "onnx": {
        "rnn-softmax-sequence": "no activation 'softmax'",
        "rnn-softmax-last": "no activation 'softmax'",
        "activation-sparsemax": "no activation 'sparsemax'",
        "embedding-masked": _ANY,
        "twice-half-masked": _ANY,
        "mask-handed-on": _ANY,
        **{name: _ANY for name in CASES if name.startswith(("mask-any", "states-mask-any", "decoder-mask-any"))},
        **{
            name: "the states of 'first' are projected"
            for name in CASES
            if re.match(r"(states|decoder)-lstm-proj", name)
        },
        **dict.fromkeys(("concatenate-time-masks", "concatenate-time-half"), "behind each other in time"),
    },
}

_DRIVER = """
import importlib.util, json, sys
from pathlib import Path

sys.modules["xframe"] = None  # an import of it fails, wherever it is installed
try:
    import xframe
except ImportError:
    pass
else:
    raise SystemExit("xframe can be imported")
import numpy as np

target, root = sys.argv[1], Path(sys.argv[2])

def run(module, folder, given):
    loaded = module.load(folder)
    if target == "torch":
        import torch
        torch.set_num_threads(1)
        with torch.inference_mode():
            return loaded(*map(torch.as_tensor, given))
    if target == "keras":
        import keras
        return loaded(given if len(given) > 1 else given[0])
    return (module.run if target == "onnx" else module.forward)(loaded, *given)

def listed(found):
    if isinstance(found, dict):  # by their names, in order
        return list(found.values())
    return list(found) if isinstance(found, (list, tuple)) else [found]

for folder in sorted(root.iterdir()):
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with np.load(folder / "x.npz") as given:
        found = run(module, folder, list(given.values()))
    np.savez(folder / "y.npz", *map(np.asarray, listed(found)))
print("done without", "xframe")
"""


def sole(arrays: list[np.ndarray]) -> np.ndarray:
    (found,) = arrays
    return found


class Done(NamedTuple):
    """What one target did with all cases."""

    root: Path
    written: dict[str, writers.Written]
    refused: dict[str, UnsupportedError]

    def outputs(self, name: str) -> list[np.ndarray]:
        with np.load(self.root / name / "y.npz") as found:
            return list(found.values())

    def output(self, name: str) -> np.ndarray:
        return sole(self.outputs(name))


def fresh(target: str, root: Path) -> None:
    """Run every folder under ``root`` in a Python without xframe."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-I", "-B", "-c", _DRIVER, target, str(root)]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert found.returncode == 0, found.stderr[-3000:]
    assert found.stdout.endswith("done without xframe\n")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Done]:
    """All cases written for a target, and run afresh; once for each target."""
    made: dict[str, Done] = {}

    def of(target: str) -> Done:
        if target not in made:
            found = Done(tmp_path_factory.mktemp(target), {}, {})
            for name, (graph, given) in CASES.items():
                folder = found.root / name
                folder.mkdir()
                try:
                    found.written[name] = writers.write(graph, folder, target)
                except UnsupportedError as error:
                    found.refused[name] = error
                    for path in (*folder.iterdir(), folder):
                        path.rmdir() if path.is_dir() else path.unlink()
                    continue
                np.savez(folder / "x.npz", *given.values())
            fresh(target, found.root)
            made[target] = found
        return made[target]

    return of


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_what_is_written_computes_the_same(target: str, name: str, done: Callable[[str], Done]) -> None:
    found = done(target)
    if name in REFUSED[target]:
        assert REFUSED[target][name] in str(found.refused[name])
        return
    assert name not in found.refused, str(found.refused.get(name))
    graph, given = CASES[name]
    outputs, noise = found.outputs(name), running.noise(graph, given, "float32")
    assert len(outputs) == len(noise)
    for y, (clean, deviation) in zip(outputs, noise.values(), strict=True):
        assert y.shape == clean.shape
        assert y.dtype == np.float32
        assert np.isfinite(clean).all()
        assert deviation.max() < 1e-3 * np.abs(clean).max(), "drowns in noise"
        assert ratio(y, clean, deviation).max() < 10


@pytest.mark.parametrize("target", TARGETS)
def test_the_writers_own_run_gives_the_same(target: str, done: Callable[[str], Done]) -> None:
    found = done(target)
    for name in ("gru-before-both-last", "last", "embedding", "outputs-dict", "decoder-lstm"):
        own = writers.run(found.root / name, list(CASES[name].given.values()), target)
        for y, other in zip(own, found.outputs(name), strict=True):
            assert np.array_equal(y, other) or np.allclose(y, other, rtol=0, atol=1e-6)
        assert not list((found.root / name).rglob("*.pyc"))


@pytest.mark.parametrize("target", TARGETS)
def test_the_source_is_clean(target: str, done: Callable[[str], Done]) -> None:
    root = done(target).root
    options = ["--isolated", "--no-cache", "--select", "E,F,I,W", "--line-length", "120"]
    found = subprocess.run(
        [sys.executable, "-m", "ruff", "check", *options, str(root)], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout[-3000:]
    assert not any("xframe" in imported for path in root.rglob("model.py") for imported in imports(path))


def imports(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("target", TARGETS)
def test_every_source_tensor_has_a_fate(target: str, done: Callable[[str], Done]) -> None:
    found = done(target)
    for name, written in found.written.items():
        assert set(written.fates) == {source for one in CASES[name].graph.nodes for source in one.sources}, name
        assert all(written.fates.values()), name
        assert all(path.is_file() for path in written.files)
        assert {path.name for path in (found.root / name).iterdir()} == {
            *(path.name for path in written.files), "x.npz", "y.npz"
        }  # fmt: skip


def test_torch_takes_its_own_layers_where_they_do(done: Callable[[str], Done]) -> None:
    found = done("torch")
    text = (found.root / "lstm-stack-both-sequence" / "model.py").read_text()
    assert "nn.LSTM(5, 7, batch_first=True, num_layers=2, bidirectional=True, dropout=0.25)" in text
    assert "class Recurrent" not in text
    text = (found.root / "gru-before-sequence" / "model.py").read_text()
    assert "class Recurrent" in text
    assert "LSTMCell" not in text
    assert "because torch.nn.GRU applies the reset gate after" in " ".join(found.written["gru-before-sequence"].notes)
    assert "class Recurrent" in (found.root / "mask-right-lstm-True" / "model.py").read_text()


def test_notes_say_what_was_folded_and_left_out(done: Callable[[str], Done]) -> None:
    notes = {target: " ".join(done(target).written["lstm-dropout-sequence"].notes) for target in writers.TARGETS}
    assert "two biases were added into one" in notes["keras"]
    for target in ("torch", "onnx", "npz"):
        assert "added" not in notes[target]
        assert "acts in training only, was left out" in notes[target]
    single = {
        Key(0, 0, role, gate): np.zeros_like(block) if role == "recurrent_bias" else block
        for (_, _, role, gate), block in recurrent(lstm()).params().items()
    }
    graph = chained([replace(recurrent(lstm()), params=lambda: single)], (None, D))
    for target, said in {"torch": True, "onnx": True, "keras": False, "npz": True}.items():
        written = done(target).root.parent / f"one bias {target}"
        written.mkdir(exist_ok=True)
        assert (
            "recurrent bias is zero" in " ".join(writers.write(graph, written, target).notes)
        ) is said or target == "npz"


def test_onnx_has_native_nodes_and_passes_the_checker(done: Callable[[str], Done]) -> None:
    import onnx

    found, kinds = done("onnx"), dict[str, set[str]]()
    for name in found.written:
        path = str(found.root / name / "model.onnx")
        onnx.checker.check_model(path, full_check=True)
        kinds[name] = {node.op_type for node in onnx.load(path).graph.node}
        assert not kinds[name] & {"Loop", "Scan", "If"}
    assert {"LSTM", "GRU", "RNN"} <= kinds["unlike-cells-sequence"]
    both = onnx.load(str(found.root / "lstm-both-sequence" / "model.onnx")).graph.node
    assert [node.op_type for node in both].count("LSTM") == 1


def test_onnx_writes_large_models_with_their_weights_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: Callable[[str], Done]
) -> None:
    name = "unlike-cells-sequence"
    x, wanted = CASES[name].x, done("onnx").output(name)
    monkeypatch.setattr(_onnx_graph, "LARGEST", 1000)
    written = writers.write(CASES[name].graph, tmp_path, "onnx")
    assert {path.name for path in written.files} == {"model.onnx", "model.onnx.data", "model.py"}
    assert np.array_equal(sole_written(tmp_path, x, "onnx"), wanted)
    beside = (tmp_path / "model.onnx.data").read_bytes()
    (tmp_path / "model.onnx.data").write_bytes(bytes(reversed(beside)))
    assert not np.array_equal(sole_written(tmp_path, x, "onnx"), wanted)


@pytest.mark.parametrize("target", TARGETS[:2])
def test_a_stateful_layer_goes_on_where_it_ended(target: str, tmp_path: Path) -> None:
    one = recurrent(STATEFUL)
    graph = chained([one], (None, D))
    x = sole_probe(graph, BATCH, STEPS, 8)
    writers.write(graph, tmp_path, target)
    if target == "torch":
        import torch

        model = module_of(tmp_path)["load"](tmp_path)
        with torch.inference_mode():
            calls = [model(torch.as_tensor(x)).numpy() for _ in range(2)]
    else:
        model = module_of(tmp_path)["load"](tmp_path)
        import keras

        calls = [keras.ops.convert_to_numpy(model(x)) for _ in range(2)]
    first = reference.run(STATEFUL, one.params(), x.astype("float64"))
    second = reference.run(STATEFUL, one.params(), x.astype("float64"), first.states)
    assert np.abs(calls[0] - first.sequence).max() < 1e-6
    assert np.abs(calls[1] - second.sequence).max() < 1e-6
    assert np.abs(calls[1] - first.sequence).max() > 1e-2


@pytest.mark.parametrize("target", ["onnx", "npz"])
def test_a_stateful_layer_is_refused_where_nothing_keeps_states(target: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="stateful"):
        writers.write(chained([recurrent(STATEFUL)], (None, D)), tmp_path, target)


def retyped(graph: Graph, dtype: str) -> Graph:
    def typed(one: Node) -> Node:
        return replace(one, params=lambda: {key: a.astype(dtype) for key, a in one.params().items()})

    return replace(graph, nodes=tuple(typed(one) for one in graph.nodes))


@pytest.mark.parametrize("target", TARGETS)
def test_float64_stays_where_it_can(target: str, tmp_path: Path) -> None:
    # No dense layer: that of Keras on PyTorch rounds what it reads to float32, whatever its type (Keras 3.15).
    some = CASES["lstm-stack-both-last"]
    graph, x = retyped(some.graph, "float64"), some.x.astype("float64")
    written = writers.write(graph, tmp_path, target)
    y = sole_written(tmp_path, x, target)
    if target == "onnx":
        assert y.dtype == np.float32
        assert "float32 instead of float64" in " ".join(written.notes)
        return
    clean, deviation = sole_noise(graph, x, "float64")
    assert y.dtype == np.float64
    assert ratio(y, clean, deviation).max() < 10


def test_float16_weights_stay_float16(tmp_path: Path) -> None:
    from safetensors import safe_open

    writers.write(retyped(CASES["last"].graph, "float16"), tmp_path, "torch")
    with safe_open(tmp_path / "weights.safetensors", "np") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118
    text = (tmp_path / "model.py").read_text()
    assert "Model().to(torch.float16)" in text


HOSTILE = (
    'x"; import os; os.system("touch pwned")',
    '"""\nraise SystemExit(3)\n"""',
    "a\n\nraise SystemExit(4)",
    "b\r\x0c\x85\u2028raise SystemExit(5)",
    "\\",
    "'''",
    "forward",
    "class",
    "_",
    "../../etc/passwd",
    "{x}%s",
    "n" * 5000,
    "\u202eevil\ud800",
    "état",
)


@pytest.mark.parametrize("target", TARGETS)
def test_no_name_of_the_source_becomes_code(target: str, tmp_path: Path) -> None:
    plain, taken = list[Node](), set(RESERVED if target == "torch" else ())
    hostile = [dense(D + i, D + i + 1, name=name) for i, name in enumerate(HOSTILE)]
    hostile.append(
        recurrent(Recurrent("gru", D + len(HOSTILE), 3, reset_after=False), name='"),\nraise SystemExit(6)#')
    )
    for one in hostile:
        taken.add(name := identifier(one.name, taken))
        plain.append(replace(one, name=name))
    texts = []
    for nodes, folder in ((hostile, tmp_path / "hostile"), (plain, tmp_path / "plain")):
        folder.mkdir()
        writers.write(chained(nodes, (None, D), HOSTILE[1]), folder, target)
        texts.append((folder / "model.py").read_text(encoding="utf-8"))
    assert ast.dump(ast.parse(texts[0])) == ast.dump(ast.parse(texts[1]))
    assert texts[0].isascii()
    assert target == "onnx" or "SystemExit" in texts[0], "the names should stand in comments"
    x = np.ones((2, 3, D), "float32")
    ran = [sole_written(tmp_path / name, x, target) for name in ("hostile", "plain")]
    assert np.array_equal(*ran)
    assert {path.name for path in tmp_path.iterdir()} == {"hostile", "plain"}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "bad",
    [
        node("masking", value=float("nan")),
        node("dropout", rate="0) or exit(7"),
        Node("f", "activation", {"name": "elu", "alpha": "exit(7)"}),
        Node("f", "activation", {"name": "exit"}),
    ],
)
def test_no_option_becomes_code(target: str, bad: Node, tmp_path: Path) -> None:
    if target in ("npz", "onnx") and bad.kind == "dropout":
        writers.write(chained([bad], (None, D)), tmp_path, target)
        assert "exit" not in (tmp_path / "model.py").read_text()
        return
    with pytest.raises((UnsupportedError, KeyError)):
        writers.write(chained([bad], (None, D)), tmp_path, target)


def test_no_name_is_one_that_a_module_has() -> None:
    import torch

    assert {name.lower() for name in dir(torch.nn.Module()) if not name.startswith("_")} <= RESERVED
    assert identifier("forward", RESERVED) == "forward_2"
    assert identifier("1 lstm!", ()) == "layer_1_lstm"
    assert identifier("None", ()) == "none"
    assert identifier("class", ()) == "class_2"


@pytest.mark.parametrize("target", ["torch", "onnx", "npz"])
def test_one_layer_is_in_memory_at_a_time(target: str, tmp_path: Path) -> None:
    size, count = 700, 10

    def large(number: int) -> Node:
        spec = Dense(size, size)

        def params() -> dict[Key, np.ndarray]:
            return {
                Key(0, 0, "kernel", ""): np.full((size, size), number + 0.5, "float32"),
                Key(0, 0, "bias", ""): np.zeros(size, "float32"),
            }

        return Node(f"dense {number}", "dense", {}, spec, params)

    graph = chained([large(i) for i in range(count)], (size,))
    writers.write(graph, tmp_path, target)  # imports what it needs
    tracemalloc.start()
    writers.write(graph, tmp_path, target)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * size * size * 4 < count * size * size * 4 / 2


def test_arrays_lie_row_by_row_and_are_copied_only_for_that() -> None:
    """PyTorch's kernels are (4n, d) and Keras's (d, 4n), both with the gates in the order i f g o."""
    spec, random = Recurrent("lstm", 3, 5), np.random.default_rng(0)
    arrays = {one.name: random.normal(size=one.shape).astype("float32") for one in TORCH.natives(spec)}
    for name, array in packed(TORCH, spec, Blocks(TORCH, spec, arrays), "float32"):
        assert np.shares_memory(array, arrays[name])
    found = dict(packed(KERAS, spec, Blocks(TORCH, spec, arrays), "float32"))
    assert all(array.flags.c_contiguous for array in found.values())
    kernel, recurrent_kernel, bias = found.values()
    assert np.array_equal(kernel, arrays["weight_ih_l0"].T)
    assert np.array_equal(recurrent_kernel, arrays["weight_hh_l0"].T)
    assert np.allclose(bias, arrays["bias_ih_l0"] + arrays["bias_hh_l0"])


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_not_finite_is_refused(target: str, tmp_path: Path) -> None:
    one = dense(D, 4)
    numbers = {**one.params(), Key(0, 0, "kernel", ""): np.full((D, 4), np.inf, "float32")}
    with pytest.raises(LayoutError, match="finite"):
        writers.write(chained([replace(one, params=lambda: numbers)], (D,)), tmp_path, target)


def test_onnx_refuses_what_float32_cannot_hold(tmp_path: Path) -> None:
    one = dense(D, 4)
    numbers = {**one.params(), Key(0, 0, "kernel", ""): np.full((D, 4), 1e300)}
    with pytest.raises(LayoutError, match="finite"):
        writers.write(chained([replace(one, params=lambda: numbers)], (D,)), tmp_path, "onnx")


def test_errors_are_sentences(tmp_path: Path) -> None:
    graph = CASES["dense"].graph
    with pytest.raises(UnsupportedError, match=r"does not write 'jax'; the targets are torch, keras, onnx, npz\."):
        writers.write(graph, tmp_path, "jax")
    with pytest.raises(FileError, match="Cannot write to"):
        writers.write(graph, tmp_path / "missing", "torch")
    with pytest.raises(FileError, match="Cannot run"):
        writers.run(tmp_path / "missing", [CASES["dense"].x], "npz")
    with pytest.raises(UnsupportedError, match="has no layers"):
        writers.write(chained([], (D,)), tmp_path, "npz")
    with pytest.raises(UnsupportedError, match="bare cell"):
        writers.write(chained([recurrent(lstm(form="cell"))], (None, D)), tmp_path, "npz")


def test_the_npz_has_canonical_names_and_no_pickle(done: Callable[[str], Done]) -> None:
    with np.load(done("npz").root / "lstm-both-sequence" / "weights.npz", allow_pickle=False) as found:
        names = set(found)
        blocks = recurrent(lstm(bidirectional=True)).params()
        assert np.array_equal(found["layer/layer 0/backward/kernel/i"], blocks[Key(0, 1, "kernel", "i")])
    assert names == {f"layer/layer 0/{('forward', 'backward')[k.direction]}/{k.role}/{k.gate}" for k in blocks}


def test_writing_to_torch_and_npz_imports_no_framework(tmp_path: Path) -> None:
    code = (
        "import json, sys\nfrom pathlib import Path\nimport test_writers as t\n"
        "[t.writers.write(t.CASES['last'].graph, Path(sys.argv[1]), to) for to in ('torch', 'npz')]\n"
        "print(json.dumps([n for n in ('torch', 'keras', 'tensorflow', 'onnx') if n in sys.modules]))"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert json.loads(found.stdout) == []


@pytest.mark.needs("keras")
@pytest.mark.parametrize("target", TARGETS)
def test_a_keras_model_is_the_same_wherever_it_goes(target: str, tmp_path: Path) -> None:
    """The second oracle: Keras itself, on a model of its own."""
    import keras

    from xframe.graph import graph_of_model

    layers = keras.layers
    keras.utils.set_random_seed(9)
    model = keras.Sequential(
        [
            keras.Input((None, D)),
            layers.Conv1D(6, 3, padding="causal", activation="relu", bias_initializer="uniform"),
            layers.LayerNormalization(epsilon=0.01),
            layers.Bidirectional(layers.GRU(7, return_sequences=True, bias_initializer="uniform")),
            layers.LSTM(4, recurrent_activation="hard_sigmoid", bias_initializer="uniform"),
            layers.Dense(3, activation="softmax", bias_initializer="uniform"),
        ]
    )
    graph = graph_of_model(model)
    x = sole_probe(graph, BATCH, STEPS, 9)
    writers.write(graph, tmp_path, target)
    wanted, y = keras.ops.convert_to_numpy(model(x)), sole_written(tmp_path, x, target)
    deviation = sole_noise(graph, x, "float32")[1]
    assert ratio(y, wanted.astype("float64"), deviation).max() < 15
    assert np.ptp(wanted) > 0.02


@pytest.mark.needs("torch")
@pytest.mark.parametrize("target", TARGETS)
def test_a_torch_layer_is_the_same_wherever_it_goes(target: str, tmp_path: Path) -> None:
    """The second oracle: PyTorch itself."""
    import torch

    from xframe.graph import graph_of_model

    torch.manual_seed(9)
    layer = torch.nn.LSTM(D, N, num_layers=2, bidirectional=True, batch_first=True, proj_size=3)
    graph = graph_of_model(layer)
    x = sole_probe(graph, BATCH, STEPS, 9)
    writers.write(graph, tmp_path, target)
    with torch.inference_mode():
        wanted = layer(torch.as_tensor(x))[0].numpy()
    deviation = sole_noise(graph, x, "float32")[1]
    assert ratio(sole_written(tmp_path, x, target), wanted.astype("float64"), deviation).max() < 15
