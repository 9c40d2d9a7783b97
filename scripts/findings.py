"""What comparisons have found about the frameworks at today's versions, each measured anew: a table of the README.

Each finding runs the framework by its own means on seeded weights, away from zero, and says how far its outputs are from the
NumPy reference (the largest absolute difference), or that it refuses. One that a release has mended measures as nothing, and then
tests/test_findings.py fails. What the frameworks on other backends do is measured in processes of their own.

    python scripts/findings.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from xframe import Recurrent, reference
from xframe.adapters import get_adapter
from xframe.chatter import silenced
from xframe.packing import Parameters, pack
from xframe.probe import Probe, draw_input, draw_parameters, draw_state
from xframe.reference import Given

FEATURES, UNITS = 3, 5
PROBE = Probe(batch=4, steps=6, seed=7, dtype="float32")
LENGTHS = np.array([4, 6, 1, 3])


class Finding(NamedTuple):
    """Something that a framework does otherwise than its documents or other frameworks would make one think.

    Attributes:
        framework: whose, an adapter's name.
        what: the finding, in a sentence's words.
        measure: how far off it is, or the beginning of the message with which the framework refuses; nothing if it is mended.
        done: what xframe does about it.
    """

    framework: str
    what: str
    measure: Callable[[], float | str]
    done: str

    @property
    def figure(self) -> str:
        found = self.measure()
        return found if isinstance(found, str) else f"off by {found:.2g}" if found > 1e-9 else ""


# ---- ONNX Runtime and onnx's reference evaluator.


def node(
    spec: Recurrent, params: Parameters, lengths: bool = False, dtype: str = "float32", **attributes: Any
) -> bytes:
    """A model of one node, with initial states as inputs."""
    import onnx
    from onnx import helper

    kind = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}[spec.cell]
    arrays = dict(pack(get_adapter("onnx").packing, replace(spec, mask=None, masked_output=None), params, dtype))
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    states = [f"initial_{name}" for name in (("h", "c") if spec.cell == "lstm" else ("h",))]
    if spec.cell == "gru":
        attributes["linear_before_reset"] = 1
    made = helper.make_node(
        kind,
        ["X", "W", "R", "B", "lengths" if lengths else "", *states],
        ["Y", *(s.replace("initial", "final") for s in states)],
        hidden_size=UNITS,
        **attributes,
    )
    number = onnx.TensorProto.FLOAT if dtype == "float32" else onnx.TensorProto.DOUBLE
    inputs = [helper.make_tensor_value_info(name, number, ["a", "b", "c"]) for name in ("X", *states)]
    if lengths:
        inputs.append(helper.make_tensor_value_info("lengths", onnx.TensorProto.INT32, ["b"]))
    outputs = [helper.make_tensor_value_info(o, number, list(f"{o}abcd"[: 4 if o == "Y" else 3])) for o in made.output]
    graph = helper.make_graph([made], kind, inputs, outputs, weights)
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )


def feeds(given: Given, lengths: np.ndarray | None = None) -> dict[str, np.ndarray]:
    assert given.state is not None
    first = {f"initial_{name}": value[0] for name, value in given.state.items()}
    return {"X": given.x.swapaxes(0, 1), **first, **({} if lengths is None else {"lengths": lengths.astype(np.int32)})}


def run_time(model: bytes, fed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(fed)))


def evaluator(model: bytes, fed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    from onnx.reference import ReferenceEvaluator

    return list(ReferenceEvaluator(model).run(None, dict(fed)))


def drawn(spec: Recurrent) -> tuple[Parameters, Given]:
    x, state = draw_input(spec, PROBE).astype("float32"), draw_state(spec, PROBE)
    assert state is not None
    return draw_parameters(spec, PROBE.seed, "float32"), Given(x, {n: v.astype("float32") for n, v in state.items()})


def refused(call: Callable[[], object], words: str) -> str:
    """``refused``, if a call fails with a message that has these words in it."""
    try:
        call()
    except Exception as error:
        return "refused" if words in str(error) else f"fails: {error}"
    return ""


def onnx_float64() -> str:
    found = {}
    for cell in ("rnn", "lstm", "gru"):
        spec = Recurrent(cell, FEATURES, UNITS)
        params, given = drawn(spec)
        model, fed = node(spec, params, dtype="float64"), {n: v.astype("float64") for n, v in feeds(given).items()}
        words = "not find an implementation" if cell == "rnn" else "does not support double yet"
        found[cell] = refused(lambda model=model, fed=fed: run_time(model, fed), words)  # type: ignore[misc]
    return "refused" if set(found.values()) == {"refused"} else ""


def onnx_layout() -> str:
    spec = Recurrent("lstm", FEATURES, UNITS)
    params, given = drawn(spec)
    return refused(lambda: run_time(node(spec, params, layout=1), feeds(given)), "layout == 1")


def onnx_empty_row() -> float:
    spec = Recurrent("lstm", FEATURES, UNITS, mask="any", masked_output="zero")
    params, given = drawn(spec)
    lengths = np.array([4, 6, 0, 3])
    got = run_time(node(spec, params, lengths=True), feeds(given, lengths))
    wanted = reference.run(spec, params, given.x, given.state, mask=np.arange(6) < lengths[:, None])
    return max(float(np.abs(final - wanted.states[name][0]).max()) for name, final in zip("hc", got[1:], strict=True))


def onnx_affine() -> float:
    spec = Recurrent("rnn", FEATURES, UNITS, activation="linear")
    params, given = drawn(spec)
    got = run_time(node(spec, params, activations=["Affine"]), feeds(given))[0]
    wanted = reference.run(spec, params, given.x, given.state).sequence
    return float(np.abs(got[:, 0].swapaxes(0, 1) - wanted).max())


def onnx_tanh() -> float:
    """How far outputs of the size of 1e-3 are off."""
    spec = Recurrent("rnn", FEATURES, UNITS)
    params, given = drawn(spec)
    small = Parameters(spec, {key: np.float32(1e-3) * block.astype("float32") for key, block in params.items()})
    assert given.state is not None
    begun = replace(given, state={name: np.float32(1e-3) * value for name, value in given.state.items()})
    got = run_time(node(spec, small), feeds(begun))[0]
    wide = begun.astype("float64")
    wanted = reference.run(spec, small.astype("float64"), wide.x, wide.state).sequence
    return float(np.abs(got[:, 0].swapaxes(0, 1) - wanted).max())


def onnx_clip_zero() -> float:
    """The largest output of a layer whose outputs are all zero under clip=0."""
    spec = Recurrent("rnn", FEATURES, UNITS)
    params, given = drawn(spec)
    got = run_time(node(spec, params, clip=0.0), feeds(given))[0]
    wanted = reference.run(spec, params, given.x, given.state).sequence
    return float(np.abs(wanted).max()) if not got.any() else 0.0


def evaluator_lengths() -> float:
    spec = Recurrent("gru", FEATURES, UNITS, mask="right", masked_output="zero")
    params, given = drawn(spec)
    got = evaluator(node(spec, params, lengths=True), feeds(given, LENGTHS))[0]
    wanted = reference.run(spec, params, given.x, given.state, mask=np.arange(6) < LENGTHS[:, None]).sequence
    return float(np.abs(got[:, 0].swapaxes(0, 1) - wanted).max())


def evaluator_activations() -> float:
    spec = Recurrent("lstm", FEATURES, UNITS, activation="softsign", recurrent_activation="hard_sigmoid_keras2")
    params, given = drawn(spec)
    got = evaluator(node(spec, params, activations=["HardSigmoid", "Softsign", "Softsign"]), feeds(given))[0]
    wanted = reference.run(spec, params, given.x, given.state).sequence
    return float(np.abs(got[:, 0].swapaxes(0, 1) - wanted).max())


def evaluator_clip() -> float:
    """How far the evaluator is from ONNX Runtime, which obeys it."""
    spec = Recurrent("lstm", FEATURES, UNITS)
    params, given = drawn(spec)
    model, fed = node(spec, params, clip=0.3), feeds(given)
    return float(np.abs(evaluator(model, fed)[0] - run_time(model, fed)[0]).max())


# ---- Keras on other backends than TensorFlow.

_KERAS = """
import keras, numpy as np
from xframe import Recurrent, reference
from xframe.adapters import KerasAdapter
from xframe.probe import Probe, draw_input, draw_parameters
spec, probe = Recurrent("rnn", 3, 5), Probe(batch=4, steps=6, seed=7)
params, x, adapter = draw_parameters(spec, 7), draw_input(spec, probe), KerasAdapter()
layer = adapter.build_loaded(spec, params, "float64")
layer.return_sequences = True
try:
    y = keras.ops.convert_to_numpy(layer(keras.ops.convert_to_tensor(x, dtype="float64")))
except Exception as error:
    print("refused" if "have equal types" in str(error) else f"fails: {error}")
else:
    print(np.abs(y - reference.run(spec, params, x).sequence).max())
"""


@cache
def keras_float64(backend: str) -> float | str:
    """A SimpleRNN of float64 in a process with that backend, and with float64 switched on in JAX."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "JAX_ENABLE_X64": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", _KERAS], env=environment, capture_output=True, text=True, check=False)
    said = done.stdout.strip().splitlines()[-1] if done.returncode == 0 else f"fails: {done.stderr[-200:]}"
    try:
        return float(said)
    except ValueError:
        return said


# ---- Flax.


def flax_padding() -> float:
    """What stands at padded steps, where zeros or a repetition should be."""
    import jax.numpy as jnp

    spec = Recurrent("lstm", FEATURES, UNITS)
    params, given = drawn(spec)
    layer = get_adapter("flax").build_loaded(spec, params, "float32")
    y = np.asarray(layer(jnp.asarray(given.x), seq_lengths=jnp.asarray(LENGTHS)))
    return float(np.abs(y[np.arange(6) >= LENGTHS[:, None]]).max())


def flax_empty_row() -> float:
    """The final c of a row without a valid step, which should be the zeros that it began with."""
    import jax.numpy as jnp

    spec = Recurrent("lstm", FEATURES, UNITS)
    params, given = drawn(spec)
    layer = get_adapter("flax").build_loaded(spec, params, "float32")
    (c, _), _ = layer(jnp.asarray(given.x), seq_lengths=jnp.asarray([4, 6, 0, 3]), return_carry=True)
    return float(np.abs(np.asarray(c)[2]).max())


def flax_simple_cell() -> str:
    import jax
    from flax import nnx

    with jax.enable_x64(True):
        cell = nnx.SimpleCell(FEATURES, UNITS, param_dtype=jax.numpy.float64, rngs=nnx.Rngs(0))
        return refused(lambda: nnx.RNN(cell)(jax.numpy.zeros((2, 4, FEATURES))), "equal types")


def flax_gelu() -> float:
    import jax

    points = np.linspace(-5, 5, 2001).reshape(-1, 1)
    exact = get_adapter("torch").functions()["gelu"](points)
    with jax.enable_x64(True):
        return float(np.abs(np.asarray(jax.nn.gelu(points)) - exact).max())


FINDINGS = (
    Finding(
        "keras",
        "Keras on PyTorch: the product of two float64 tensors is a float32 one, so a SimpleRNN of float64 is none",
        lambda: keras_float64("torch"),
        "keras[torch] is judged in float32",
    ),
    Finding(
        "keras",
        "Keras on JAX: the same, with float64 switched on in JAX; a SimpleRNN of float64 cannot be called",
        lambda: keras_float64("jax"),
        "keras[jax] is judged in float32",
    ),
    Finding(
        "onnx",
        "ONNX Runtime has no RNN, LSTM or GRU of float64",
        onnx_float64,
        "float64 is run by onnx's reference evaluator, and the report says so",
    ),
    Finding("onnx", "ONNX Runtime has no layout=1", onnx_layout, "reads it; refuses to run it in float32"),
    Finding(
        "onnx",
        "ONNX Runtime: a row of length 0 ends in zeros, not in its initial states",
        onnx_empty_row,
        "refuses such masks",
    ),
    Finding(
        "onnx",
        "ONNX Runtime takes alpha and beta of Affine, if they are not given, for 0 (the operator: 1 and 0)",
        onnx_affine,
        "gives both; refuses a node that does not",
    ),
    Finding(
        "onnx",
        "ONNX Runtime's RNN computes tanh(x) as 2 sigmoid(2 x) - 1, so that outputs of 1e-3 are as inexact as those of 1",
        onnx_tanh,
        "judges it by a rounding noise that allows for that, and the report says so",
    ),
    Finding("onnx", "ONNX Runtime: an RNN with clip=0 puts out zeros", onnx_clip_zero, "refuses clip"),
    Finding(
        "onnx",
        "onnx's reference evaluator ignores sequence_lens",
        evaluator_lengths,
        "judges masked layers in ONNX Runtime, in float32",
    ),
    Finding(
        "onnx",
        "onnx's reference evaluator ignores the activations of LSTM and GRU",
        evaluator_activations,
        "judges such layers in ONNX Runtime, in float32",
    ),
    Finding("onnx", "onnx's reference evaluator ignores clip", evaluator_clip, "refuses clip"),
    Finding(
        "flax",
        "flax.nnx.RNN with seq_lengths puts out, at padded steps, what the cell makes of the padding",
        flax_padding,
        "refuses masks",
    ),
    Finding(
        "flax",
        "flax.nnx.RNN with seq_lengths: a row of length 0 ends in the state after its last padded step",
        flax_empty_row,
        "refuses masks",
    ),
    Finding(
        "flax",
        "flax.nnx.SimpleCell(param_dtype=float64) computes in float32 unless dtype says float64 too, and then cannot be run",
        flax_simple_cell,
        "gives both; refuses a cell of two types",
    ),
    Finding("flax", "jax.nn.gelu is an approximation unless told otherwise", flax_gelu, "tells the two apart"),
)


def table() -> str:
    rows = [[f"{finding.what}.", finding.figure or "mended", f"{finding.done}."] for finding in FINDINGS]
    headers = ["finding", "figure", "what xframe does"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    with silenced():
        text = table()
    print(text)
