"""ONNX's operators: models that people make, what is refused, and what ONNX Runtime and onnx's evaluator do wrong.

How W, R and B are put together, and what the operators compute when they are told more than a spec can say, is typed in from
https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import helpers
import numpy as np
import pytest
from helpers import BATCH, FEATURES, LAYERS_BY_NAME, STEPS, UNITS

import xframe
from xframe import noise
from xframe.adapters import adapter_of, get_adapter
from xframe.errors import LayoutError, SpecError, UnsupportedError
from xframe.layout import Key
from xframe.reference import Given, Outputs
from xframe.spec import Dense, Layer, Recurrent

pytestmark = pytest.mark.needs("onnx")

ORDER = {"rnn": "h", "lstm": "iofg", "gru": "zrn"}
KINDS = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
# What the operators can be told: by xframe's name, the attributes.
FUNCTIONS: dict[str, tuple[str, list[float], list[float]]] = {
    "tanh": ("Tanh", [], []),
    "sigmoid": ("Sigmoid", [], []),
    "relu": ("Relu", [], []),
    "linear": ("Affine", [1.0], [0.0]),
    "hard_sigmoid": ("HardSigmoid", [1 / 6], [0.5]),
    "hard_sigmoid_keras2": ("HardSigmoid", [0.2], [0.5]),
    "sparse_sigmoid": ("HardSigmoid", [0.5], [0.5]),
    "leaky_relu": ("LeakyRelu", [0.2], []),
    "elu": ("Elu", [1.0], []),
    "softsign": ("Softsign", [], []),
    "softplus": ("Softplus", [], []),
}
CELLS: list[dict[str, Any]] = [
    {"cell": "rnn"},
    {"cell": "lstm"},
    {"cell": "gru"},
    {"cell": "gru", "reset_after": False},
]
RIGHT = np.arange(STEPS) < np.array([[4], [STEPS], [1], [3]])


@pytest.fixture
def adapter() -> Any:
    return get_adapter("onnx")


@pytest.fixture
def onnx() -> Any:
    import onnx

    return onnx


def stored(spec: Recurrent, blocks: Mapping[Key, np.ndarray]) -> dict[str, np.ndarray]:
    """W (directions, gates * units, features), R (directions, gates * units, units), B (directions, 2 * gates * units)."""
    found: dict[str, list[np.ndarray]] = {"W": [], "R": [], "B": []}
    for d in range(spec.num_directions):
        each = {r: [blocks[Key(0, d, r, g)] for g in ORDER[spec.cell]] for r in (ROLES if spec.bias else ROLES[:2])}
        found["W"].append(np.concatenate([k.T for k in each["kernel"]]))
        found["R"].append(np.concatenate([k.T for k in each["recurrent_kernel"]]))
        if spec.bias:
            found["B"].append(np.concatenate([*each["bias"], *each["recurrent_bias"]]))
    return {name: np.stack(parts) for name, parts in found.items() if parts}


ROLES = ("kernel", "recurrent_kernel", "bias", "recurrent_bias")


def node_model(
    onnx: Any,
    kind: str,
    arrays: Mapping[str, np.ndarray],
    *,
    lengths: bool = False,
    states: bool = True,
    dtype: str = "float32",
    rename: Callable[[str], str] = str,
    opset: int = 21,
    **attributes: Any,
) -> Any:
    """A model that is one node, as a user makes it with onnx.helper."""
    helper, own = onnx.helper, {"float32": 1, "float64": 11, "float16": 10}[dtype]
    first, way = attributes.get("layout"), attributes.get("direction")
    labels = ["X", "W", "R", "B" if "B" in arrays else "", "sequence_lens" if lengths else ""]
    ends = ["initial_h", "initial_c"] if kind == "LSTM" else ["initial_h"]
    labels += ends if states else ["" for _ in ends]
    labels += ["P"] if "P" in arrays else []
    ways, units = 2 if way == "bidirectional" else 1, arrays["R"].shape[-1]
    shapes: dict[str, list[Any]] = {
        "X": ["n", "t", arrays["W"].shape[-1]] if first else ["t", "n", arrays["W"].shape[-1]],
        "sequence_lens": ["n"],
        **dict.fromkeys(ends, ["n", ways, units] if first else [ways, "n", units]),
    }
    inputs = [
        helper.make_tensor_value_info(rename(label), 6 if label == "sequence_lens" else own, shapes[label])
        for label in labels
        if label in shapes
    ]
    outs = ["Y", "Y_h", "Y_c"][: 1 + len(ends)]
    node = helper.make_node(
        kind,
        [rename(one) if one else "" for one in labels],
        [rename(o) for o in outs],
        name="reader",
        **{"hidden_size": units, **attributes},
    )
    graph = helper.make_graph(
        [node],
        "mine",
        inputs,
        [helper.make_tensor_value_info(rename(o), own, list("abcd"[: 3 + (o == "Y")])) for o in outs],
        [onnx.numpy_helper.from_array(np.ascontiguousarray(a, dtype), rename(n)) for n, a in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def attributes_of(spec: Recurrent) -> dict[str, Any]:
    """The attributes that make a node what a spec says, written out."""
    gate, own = spec.recurrent_activation, spec.activation
    names = {"rnn": [own], "gru": [gate, own], "lstm": [gate, own, own]}[spec.cell] * spec.num_directions
    found = [FUNCTIONS[str(name)] for name in names]
    given = {f"activation_{which}": [x for f in found for x in f[i]] for i, which in ((1, "alpha"), (2, "beta"))}
    return {
        "hidden_size": spec.hidden_size,
        "activations": [f[0] for f in found],
        **{name: value for name, value in given.items() if value},
        **({"direction": "bidirectional"} if spec.bidirectional else {}),
        **({"linear_before_reset": int(bool(spec.reset_after))} if spec.cell == "gru" else {}),
    }


def numbers(spec: Layer, seed: int = 20, dtype: str = "float32") -> tuple[Any, Any, Any]:
    """Weights, an input and initial states."""
    return tuple(make(spec, seed, dtype) for make in (helpers.weights, helpers.signal, helpers.start))  # type: ignore[return-value]


def runtime(model: Any, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def evaluator(model: Any, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    from onnx.reference import ReferenceEvaluator

    return list(ReferenceEvaluator(model).run(None, feeds))


def feeds_of(x: np.ndarray, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"X": x.swapaxes(0, 1).copy(), **{f"initial_{name}": value[0] for name, value in state.items()}}


def outputs_of(got: list[np.ndarray]) -> Outputs:
    """What a node puts out as xframe has it: Y is (time, directions, batch, size)."""
    y, *final = got
    sequence = np.concatenate([y[:, d].swapaxes(0, 1) for d in range(y.shape[1])], axis=-1)
    return Outputs(
        sequence, np.concatenate(list(final[0]), axis=-1), dict(zip("hc", (f[None] for f in final), strict=False))
    )


# ---- What build makes.


@pytest.mark.parametrize("kind", [name for name in LAYERS_BY_NAME if "projected" not in name])
def test_the_users_own_session(adapter: Any, onnx: Any, kind: str) -> None:
    """The model runs in a session of the user's, by the names that the documentation gives, and has no Loop in it."""
    spec = LAYERS_BY_NAME[kind]
    blocks, x, state = numbers(spec, 3, "float32")
    model = adapter.build_loaded(spec, blocks, "float32")
    onnx.checker.check_model(model, full_check=True)
    kinds = {node.op_type for node in model.graph.node}
    if isinstance(spec, Dense):
        assert kinds == {"Gemm"}
        (y,) = runtime(model, {"x": x})
        helpers.judge(spec, blocks, Given(x), "float32", {"output": y})
        return
    assert kinds <= {KINDS[spec.cell], "Transpose", "Reshape", "Split", "Concat"}
    assert sum(node.op_type == KINDS[spec.cell] for node in model.graph.node) == spec.num_layers
    flat = {f"initial_{name}": value.reshape(-1, BATCH, UNITS) for name, value in state.items()}
    y, *final = runtime(model, {"x": x, **flat})
    assert [output.name for output in model.graph.output] == ["y", *(f"final_{name}" for name in state)]
    states = {
        n: v.reshape(spec.num_layers, spec.num_directions, BATCH, UNITS) for n, v in zip(state, final, strict=True)
    }
    last = np.concatenate(list(states["h"][-1]), axis=-1)
    helpers.judge(spec, blocks, Given(x, state), "float32", Outputs(y, last, states))


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: "-".join(map(str, c.values())))
def test_masks(adapter: Any, cell: dict[str, Any], bidirectional: bool, layers: int) -> None:
    """As lengths, from given states, in one direction and in two."""
    shape: dict[str, Any] = {
        "input_size": FEATURES,
        "hidden_size": UNITS,
        "bidirectional": bidirectional,
        "num_layers": layers,
    }
    spec = Recurrent(**shape, **cell, mask="right", masked_output="zero")
    blocks, x, state = numbers(spec, 4, "float32")
    model = adapter.build_loaded(spec, blocks, "float32")
    assert adapter.spec(model, "right") == spec
    out = adapter.run(model, x, state, RIGHT)
    helpers.judge(spec, blocks, Given(x, state, RIGHT), "float32", out)
    for wrong in (None, RIGHT[::-1].copy()):
        assert helpers.worst(spec, blocks, Given(x, state, wrong), "float32", out) > 1000
    with pytest.raises(UnsupportedError, match=r"padding on the right.*; give mask='right'"):
        adapter.spec(model, "any")
    gap, none, left = RIGHT.copy(), RIGHT.copy(), RIGHT[:, ::-1].copy()
    gap[1, 2], none[2] = False, False
    for mask in (gap, none, left):
        with pytest.raises(UnsupportedError, match="padding on the right and one valid step in each row at least"):
            adapter.run(model, x, state, mask)
    # In float64 lengths would be ignored: it is refused, and without a mask it is not.
    wide = adapter.clone(model, "float64")
    with pytest.raises(UnsupportedError, match="ignores sequence_lens; use float32") as caught:
        adapter.run(wide, x.astype(float), state, RIGHT)
    assert str(caught.value) == adapter.lacks(spec, "float64")
    plain = replace(spec, mask=None, masked_output=None)
    wider = {name: value.astype(float) for name, value in state.items()}
    out = adapter.run(wide, x.astype(float), wider)
    helpers.judge(plain, blocks, Given(x.astype(float), wider), "float64", out)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: "-".join(map(str, c.values())))
def test_activations(adapter: Any, onnx: Any, cell: dict[str, Any], bidirectional: bool, name: str) -> None:
    """Every function that the operators can be told, of the candidate and of the gates, in the model of a user's too."""
    options: list[dict[str, Any]] = [{"activation": name}]
    if cell["cell"] != "rnn":
        options += [{"recurrent_activation": name}, {"activation": "elu", "recurrent_activation": name}]
    for option in options:
        spec = Recurrent(input_size=FEATURES, hidden_size=UNITS, bidirectional=bidirectional, **cell, **option)
        blocks = helpers.weights(spec, 5, "float32", 0.4)
        _, x, state = numbers(spec, 5)
        built = adapter.build_loaded(spec, blocks, "float32")
        mine = node_model(onnx, KINDS[spec.cell], stored(spec, blocks), **attributes_of(spec))
        for model in (built, mine):
            assert adapter.spec(model) == spec
            helpers.judge(spec, blocks, Given(x, state), "float32", adapter.run(model, x, state))
        known = {"rnn": [{"tanh"}, {"linear"}]}.get(spec.cell, [{"tanh", "sigmoid"}])
        names = {spec.activation, spec.recurrent_activation} - {None}
        assert (adapter.lacks(spec, "float64") == "") is (names in known)
        if names in known:
            wide = adapter.clone(built, "float64")
            x, state = x.astype(float), {n: v.astype(float) for n, v in state.items()}
            helpers.judge(spec, blocks, Given(x, state), "float64", adapter.run(wide, x, state))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"proj_size": 2}, "proj_size=2"),
        ({"activation": "mish"}, "activation='mish'"),
        ({"recurrent_activation": "gelu"}, "recurrent_activation='gelu'"),
        ({"mask": "any"}, "mask='any'"),
        ({"mask": "right"}, "masked_output='repeat'"),
        ({"stateful": True, "batch_size": 2}, "stateful=True"),
        ({"input_dropout": 0.5}, "input_dropout=0.5"),
        ({"recurrent_dropout": 0.5}, "recurrent_dropout=0.5"),
        ({"num_layers": 2, "dropout": 0.5}, "dropout=0.5"),
        ({"form": "cell"}, "form='cell'"),
        *(
            ({"bidirectional": True, "merge_mode": mode}, f"merge_mode={mode!r}")
            for mode in ("sum", "mul", "ave", None)
        ),
        ({"bidirectional": True, "backward": Recurrent("lstm", 3, 4, bias=False)}, "backward="),
        ({"stacked": (Recurrent("lstm", 4, 5),)}, "stacked="),
    ],
)
def test_options_that_the_operators_have_not(adapter: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedError, match=f"ONNX has no LSTM with {words}"):
        adapter.build(Recurrent("lstm", 3, 4, **options))


def test_two_directions_that_go_backwards(adapter: Any) -> None:
    with pytest.raises(UnsupportedError, match="ONNX has no bidirectional layer with go_backwards=True"):
        adapter.build(Recurrent("lstm", 3, 4, bidirectional=True, go_backwards=True))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_backwards(adapter: Any, cell: str, layers: int, masked: bool) -> None:
    """A reverse node, whose output ONNX turns back, and which is turned once more; in a stack the next one reads it so."""
    mask = {"mask": "right", "masked_output": "zero"} if masked else {}
    spec = Recurrent(cell, FEATURES, UNITS, num_layers=layers, go_backwards=True, **mask)
    blocks, x = helpers.weights(spec, 91, "float32"), helpers.signal(spec, 91, "float32")
    state = helpers.start(spec, 91, "float32")
    lengths = np.arange(x.shape[1]) < np.array([[4], [6], [1], [3]]) if masked else None
    model = adapter.build_loaded(spec, blocks, "float32")
    assert adapter.spec(model, spec.mask) == spec
    given = Given(x, state, lengths)
    helpers.judge(spec, blocks, given, "float32", adapter.run(model, x, state, lengths))
    forwards = replace(spec, go_backwards=False)
    assert helpers.worst(forwards, blocks, given, "float32", adapter.run(model, x, state, lengths)) > 1000


def test_time_is_turned_by_nothing_else(adapter: Any) -> None:
    """A Slice that does something else, and one behind a node that reads time forwards, are not taken for it."""
    model = adapter.build(Recurrent("gru", FEATURES, UNITS, go_backwards=True))
    for name, value in (("last", -2), ("past", -5), ("axis", 2), ("back", -2)):
        other = deepcopy(model)
        tensor = next(t for t in other.graph.initializer if t.name == name)
        tensor.int64_data[:] = [value]
        with pytest.raises(UnsupportedError, match="not as xframe builds a layer"):
            adapter.spec(other)
    other = deepcopy(model)
    node = next(node for node in other.graph.node if node.op_type == "GRU")
    next(a for a in node.attribute if a.name == "direction").s = b"forward"
    with pytest.raises(UnsupportedError, match="not as xframe builds a layer"):
        adapter.spec(other)


def test_initial_weights(adapter: Any) -> None:
    """They are PyTorch's: uniform, of the size of 1/sqrt(n), all different, and the same each time."""
    for spec, n in ((LAYERS_BY_NAME["gru-stacked"], UNITS), (LAYERS_BY_NAME["dense"], FEATURES)):
        model = adapter.build(spec)
        numbers = np.concatenate([array.ravel() for array in adapter.read(model).values()])
        bound = n**-0.5
        assert np.abs(numbers).max() < bound
        assert np.abs(numbers).max() > 0.98 * bound
        assert abs(numbers.mean()) < 0.1 * bound
        assert len(np.unique(numbers)) > 0.99 * numbers.size
        assert helpers.bits(adapter.read(model)) == helpers.bits(adapter.read(adapter.build(spec)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_numbers_of_16_bits(adapter: Any, dtype: str) -> None:
    """Rounded to the nearest, ties to even, as the oracle rounds."""
    spec = LAYERS_BY_NAME["lstm-bidirectional"]
    blocks = helpers.weights(spec, 6)
    kernel = blocks[Key(0, 0, "kernel", "i")]
    kernel[0, :4] = [1 + 2**-9, 1 + 2**-8, -(1 + 3 * 2**-8), 1 + 2**-11]  # half way, in either type
    got = adapter.parameters(adapter.build_loaded(spec, blocks, dtype))
    helpers.assert_same_numbers(got, {k: helpers.rounded(b, dtype).astype("float32") for k, b in blocks.items()})


def test_a_type_that_onnx_has_not(adapter: Any, onnx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx.defs, "onnx_opset_version", lambda: 21)
    with pytest.raises(UnsupportedError, match=r"no recurrent operators of bfloat16; install onnx 1.17 or later"):
        adapter.build(LAYERS_BY_NAME["gru"], "bfloat16")


def test_a_model_of_more_than_a_protobuf_holds(adapter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xframe.adapters._onnx_build._LARGEST", 1000)
    with pytest.raises(
        UnsupportedError, match=r"weights of .* are 2,304 bytes, and an ONNX model in memory can be 2 GiB"
    ):
        adapter.build(
            Recurrent(
                "rnn",
                7,
                9,
                bidirectional=True,
                bias=False,
            ),
            "float64",
        )


# ---- Both checks fire.


def test_the_checker_fires(adapter: Any, onnx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is not one: its node reads a tensor that nobody makes."""
    module = importlib.import_module("xframe.adapters.onnx")
    real = module.model_of

    def broken(*arguments: Any) -> Any:
        model = real(*arguments)
        next(node for node in model.graph.node if node.op_type == "GRU").input[1] = "nothing"
        return model

    monkeypatch.setattr(module, "model_of", broken)
    for make in (adapter.build, lambda spec: adapter.blank(spec, "float32")):
        with pytest.raises(UnsupportedError, match=r"onnx\.checker refuses the model of GRU\(9\) on 7 features"):
            make(LAYERS_BY_NAME["gru"])


@pytest.mark.parametrize("output", [0, 1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_engines_that_differ(adapter: Any, monkeypatch: pytest.MonkeyPatch, dtype: str, output: int) -> None:
    """One output of ONNX Runtime is off by a thousandth at one place."""
    real = type(adapter)._compute

    def wrong(self: Any, model: Any, feeds: Any) -> Any:
        out = [array.copy() for array in real(self, model, feeds)]
        out[output].flat[-1] += 1e-3
        return out

    spec = Recurrent("lstm", FEATURES, UNITS, bidirectional=True)
    adapter.build(spec, dtype)
    monkeypatch.setattr(type(adapter), "_compute", wrong)
    name = ["sequence", "last", "state c"][output]
    for make in (adapter.build, lambda s, d: adapter.build_loaded(s, helpers.weights(s, 7), d)):
        with pytest.raises(
            UnsupportedError,
            match=rf"differ in the {name} of LSTM.*by 0\.001, where rounding explains \d(\.\d)?e-0[56]",
        ):
            make(spec, dtype)
    # What the evaluator does not implement is not compared with it.
    adapter.build(replace(spec, activation="relu"), dtype)


def test_an_engine_that_gives_no_number(adapter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = type(adapter)._compute
    monkeypatch.setattr(type(adapter), "_compute", lambda *a: [array * np.nan for array in real(*a)])
    with pytest.raises(UnsupportedError, match="differ in the"):
        adapter.build(LAYERS_BY_NAME["gru"])


def test_weights_at_which_everything_overflows(adapter: Any) -> None:
    """No disagreement, as far as anyone can tell."""
    spec = LAYERS_BY_NAME["rnn"]
    blocks = {key: np.full_like(block, 3e38) for key, block in helpers.weights(spec, 8).items()}
    assert adapter.spec(adapter.build_loaded(spec, blocks, "float32")) == spec


# ---- Models of the user's: one node.


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: "-".join(map(str, c.values())))
def test_a_node(adapter: Any, onnx: Any, cell: dict[str, Any], bias: bool, bidirectional: bool, first: int) -> None:
    """With layout 0 and 1, with and without lengths and initial states, with names of the user's, in both types."""
    spec = Recurrent(input_size=FEATURES, hidden_size=UNITS, bidirectional=bidirectional, bias=bias, **cell)
    kind, own = KINDS[spec.cell], {k: v for k, v in attributes_of(spec).items() if k != "activations"}
    masked = replace(spec, mask="right", masked_output="zero")
    for dtype in ("float32", "float64"):
        blocks, x, state = numbers(spec, 9, dtype)
        for lengths, states in ((False, True), (True, True), (False, False), (True, False)):
            model = node_model(
                onnx,
                kind,
                stored(spec, blocks),
                lengths=lengths,
                states=states,
                dtype=dtype,
                rename=lambda n: f"mine/{n}",
                layout=first,
                **own,
            )
            onnx.checker.check_model(model, full_check=True)
            assert adapter_of(model) is adapter
            assert (adapter.spec(model), adapter.dtype(model)) == (spec, dtype)
            helpers.assert_same_numbers(adapter.parameters(model), {k: b.astype(dtype) for k, b in blocks.items()})
            if first and dtype == "float32":
                with pytest.raises(UnsupportedError, match=r"layout=1, which ONNX Runtime refuses; export.*layout=0"):
                    adapter.run(model, x, state)
                continue
            helpers.judge(spec, blocks, Given(x, state), dtype, adapter.run(model, x, state))
            helpers.judge(spec, blocks, Given(x), dtype, adapter.run(model, x))
            if lengths and dtype == "float32":
                assert adapter.spec(model, "right") == masked
                out = adapter.run(model, x, state, RIGHT)
                helpers.judge(masked, blocks, Given(x, state, RIGHT), dtype, out)
            elif not lengths:
                with pytest.raises(
                    UnsupportedError, match=r"The .* node 'reader' has no sequence_lens and takes no mask"
                ):
                    adapter.run(model, x, state, RIGHT)


@pytest.mark.parametrize("way", ["Constant", "inputs", "float_data", "one output"])
def test_other_ways_to_write_a_node(adapter: Any, onnx: Any, way: str) -> None:
    """Weights in Constant nodes, initializers that are inputs too (before IR 4), numbers not raw, outputs left out."""
    spec = Recurrent("lstm", FEATURES, UNITS)
    blocks, other = helpers.weights(spec, 10, "float32"), helpers.weights(spec, 11, "float32")
    _, x, state = numbers(spec, 10)
    model = node_model(onnx, "LSTM", stored(spec, blocks), hidden_size=UNITS)
    graph, tensors = model.graph, list(model.graph.initializer)
    if way == "Constant":
        made = [onnx.helper.make_node("Constant", [], [t.name], value=t) for t in tensors]
        nodes = [*made, *graph.node]
        for field, items in ((graph.node, nodes), (graph.initializer, [])):
            del field[:]
            field.extend(items)
    elif way == "inputs":
        model.ir_version = 3
        graph.input.extend(onnx.helper.make_tensor_value_info(t.name, 1, t.dims) for t in tensors)
    elif way == "float_data":
        del graph.initializer[:]
        graph.initializer.extend(
            onnx.helper.make_tensor(t.name, 1, t.dims, onnx.numpy_helper.to_array(t).ravel()) for t in tensors
        )
    else:
        del graph.output[1:], graph.node[0].output[1:]
    onnx.checker.check_model(model, full_check=True)
    for now in (blocks, other):
        adapter.load(model, now)
        helpers.assert_same_numbers(adapter.parameters(model), {k: b.astype("float32") for k, b in now.items()})
        helpers.judge(spec, now, Given(x, state), "float32", adapter.run(model, x, state))
    # What the user gets from his own model is the same.
    wanted = runtime(model, feeds_of(x, state))[0]
    assert np.array_equal(outputs_of([wanted, *[wanted[-1]] * 2]).sequence, adapter.run(model, x, state).sequence)
    twin = adapter.clone(model, "float64")
    assert adapter.dtype(twin) == "float64"
    onnx.checker.check_model(twin, full_check=True)
    wide = {n: v.astype(float) for n, v in state.items()}
    helpers.judge(spec, other, Given(x.astype(float), wide), "float64", adapter.run(twin, x.astype(float), wide))


def test_initial_states_that_are_constant_zeros(adapter: Any, onnx: Any) -> None:
    """As PyTorch exports them; with other numbers in them it would be another layer."""
    spec = Recurrent("gru", FEATURES, UNITS)
    blocks, x, state = numbers(spec, 12, "float32")
    for value, words in ((0, ""), (1, "initial_h is constant and not zero; make it an input of the model")):
        model = node_model(onnx, "GRU", stored(spec, blocks), linear_before_reset=1)
        start = np.full((1, BATCH, UNITS), value, "float32")
        model.graph.initializer.append(onnx.numpy_helper.from_array(start, "initial_h"))
        del model.graph.input[1]
        onnx.checker.check_model(model, full_check=True)
        if words:
            with pytest.raises(UnsupportedError, match=words):
                adapter.spec(model)
            continue
        helpers.judge(spec, blocks, Given(x), "float32", adapter.run(model, x))
        helpers.judge(spec, blocks, Given(x, state), "float32", adapter.run(model, x, state))


SQUARE = {"W": (1, 8, 3), "R": (1, 8, 2), "B": (1, 16)}


def arrays_for(shapes: Mapping[str, tuple[int, ...]] = SQUARE) -> dict[str, np.ndarray]:
    random = np.random.default_rng(13)
    return {name: helpers.away_from_zero(random, shape, 1.0).astype("float32") for name, shape in shapes.items()}


def without(model: Any, name: str) -> Any:
    """A weight that is given when the model runs."""
    tensor = next(t for t in model.graph.initializer if t.name == name)
    model.graph.initializer.remove(tensor)
    return model


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"clip": 2.5}, "clip=2.5 bounds what goes into the activations"),
        ({"clip": 0.0}, "clip=0.0 bounds"),
        ({"input_forget": 1}, "input_forget=1 couples"),
        ({"direction": "reverse"}, "direction='reverse' alone.*reverse x and the output"),
        (
            {"activations": ["Sigmoid", "Tanh", "Sigmoid"]},
            "the candidate and the output of an LSTM, must have the same",
        ),
        ({"activations": ["Sigmoid", "Tanh"]}, "2 activations where ONNX asks for 3"),
        ({"activations": ["Sigmoid", "Gelu", "Gelu"]}, "Gelu with alpha=None and beta=None is none"),
        (
            {"activations": ["HardSigmoid", "Tanh", "Tanh"], "activation_alpha": [0.3]},
            "alpha=0.3.* and beta=0.5 is none",
        ),
        ({"activations": ["Sigmoid", "LeakyRelu", "LeakyRelu"]}, "LeakyRelu with alpha=0.01 and beta=None is none"),
        ({"activations": ["Sigmoid", "Affine", "Affine"]}, "Affine is not given all of its parameters"),
        ({"activations": ["ScaledTanh", "Tanh", "Tanh"], "activation_alpha": [1.0]}, "ScaledTanh is not given all"),
        ({"hidden_size": 4}, "weights whose shapes do not fit each other"),
        ({"mood": 3}, "its attribute 'mood' is none of the operator's"),
        ({"opset": 3}, "operators of opset 3 are others.*onnx.version_converter"),
    ],
)
def test_refused_nodes(adapter: Any, onnx: Any, options: dict[str, Any], words: str) -> None:
    model = node_model(onnx, "LSTM", arrays_for(), **options)
    for use in (adapter.spec, adapter.parameters, lambda m: adapter.run(m, np.ones((2, 4, 3), np.float32))):
        with pytest.raises(UnsupportedError, match=words) as caught:
            use(model)
        assert "The LSTM node 'reader'" in str(caught.value)
    # It is what the model is: not taken apart any further.
    assert list(adapter.layers(model)) == [("", model)]


def test_peepholes(adapter: Any, onnx: Any) -> None:
    model = node_model(onnx, "LSTM", arrays_for({**SQUARE, "P": (1, 6)}))
    with pytest.raises(UnsupportedError, match="The LSTM node 'reader' is not modelled: it has peepholes"):
        adapter.spec(model)


def test_directions_that_differ(adapter: Any, onnx: Any) -> None:
    arrays = arrays_for({"W": (2, 2, 3), "R": (2, 2, 2)})
    model = node_model(onnx, "RNN", arrays, direction="bidirectional", activations=["Tanh", "Relu"])
    with pytest.raises(UnsupportedError, match="activations tanh, relu, which are not modelled: directions"):
        adapter.spec(model)


@pytest.mark.parametrize(
    ("shapes", "options"),
    [
        ({**SQUARE, "W": (1, 6, 3)}, {}),
        ({**SQUARE, "R": (1, 8, 3)}, {}),
        ({**SQUARE, "B": (1, 8)}, {}),
        ({**SQUARE, "W": (2, 8, 3)}, {}),
        (SQUARE, {"direction": "bidirectional"}),
    ],
)
def test_shapes_that_do_not_fit(
    adapter: Any, onnx: Any, shapes: dict[str, tuple[int, ...]], options: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedError, match="weights whose shapes do not fit each other; check the model"):
        adapter.spec(node_model(onnx, "LSTM", arrays_for(shapes), **options))


def test_weights_that_are_not_there(adapter: Any, onnx: Any) -> None:
    for name in ("W", "R", "B"):
        with pytest.raises(UnsupportedError, match=rf"its weights \({name}\) are not constant; export the model with"):
            adapter.spec(without(node_model(onnx, "LSTM", arrays_for()), name))
    model = node_model(onnx, "LSTM", arrays_for(), lengths=True)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([3, 2], np.int32), "sequence_lens"))
    with pytest.raises(UnsupportedError, match="its sequence_lens are constant; make them an input"):
        adapter.spec(model)
    model = node_model(onnx, "LSTM", arrays_for())
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(SpecError, match=r"The numbers of 'W' lie in another file; load the model with onnx\.load"):
        adapter.parameters(model)


def test_a_weight_that_nobody_reads(adapter: Any, onnx: Any) -> None:
    for model in (node_model(onnx, "LSTM", arrays_for()), adapter.build(LAYERS_BY_NAME["gru-stacked"])):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(2, "float32"), "temperature"))
        with pytest.raises(LayoutError, match="'temperature' has no place"):
            adapter.parameters(model)


def test_types_that_are_not_modelled(adapter: Any, onnx: Any) -> None:
    model = node_model(onnx, "LSTM", arrays_for())
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.ones((1, 8, 3), np.int64), "W"))
    with pytest.raises(
        UnsupportedError, match="The LSTM node 'reader' is of type float32 and int64, which is not modelled"
    ):
        adapter.dtype(model)


@pytest.mark.parametrize("thing", ["graph", "node"])
def test_not_a_model(adapter: Any, onnx: Any, thing: str) -> None:
    model = node_model(onnx, "LSTM", arrays_for())
    other = model.graph if thing == "graph" else model.graph.node[0]
    with pytest.raises(UnsupportedError, match=r"Proto is not modelled; give it an onnx.ModelProto"):
        adapter_of(other).spec(other)


# ---- Models of the user's: dense layers, and larger ones.


@pytest.mark.parametrize(
    "way", ["Gemm", "Gemm, transB", "Gemm without C", "MatMul", "MatMul and Add", "Add and MatMul"]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products(adapter: Any, onnx: Any, way: str, dtype: str) -> None:
    """y = x B + C, however it is written."""
    bias = "without" not in way and way != "MatMul"
    spec = Dense(FEATURES, UNITS, bias)
    blocks, other, x = (helpers.weights(spec, 14), helpers.weights(spec, 15), helpers.signal(spec, 14, dtype))
    kernel = blocks[Key(0, 0, "kernel", "")].astype(dtype)
    tensors = {"k": kernel.T.copy() if "transB" in way else kernel}
    if bias:
        tensors["b"] = blocks[Key(0, 0, "bias", "")].astype(dtype)
    make = onnx.helper.make_node
    if "Gemm" in way:
        nodes = [make("Gemm", ["in", *tensors], ["out"], transB=int("transB" in way))]
    else:
        nodes = [make("MatMul", ["in", "k"], ["mid" if bias else "out"])]
        nodes += [make("Add", ["b", "mid"] if way.startswith("Add") else ["mid", "b"], ["out"])] if bias else []
    model = small(onnx, nodes, {"in": ["n", FEATURES]}, {"out": ["n", UNITS]}, tensors)
    assert (adapter.spec(model), adapter.dtype(model)) == (spec, dtype)
    helpers.assert_same_numbers(adapter.parameters(model), {k: b.astype(dtype) for k, b in blocks.items()})
    for now in (blocks, other):
        adapter.load(model, now)
        now = {k: helpers.rounded(b, dtype) for k, b in now.items()}
        helpers.judge(spec, now, Given(x), dtype, adapter.run(model, x))
        helpers.judge(spec, now, Given(x), dtype, {"output": runtime(model, {"in": x})[0]})
    with pytest.raises(UnsupportedError, match="is dense and takes no mask; leave the mask out"):
        adapter.spec(model, "right")


def small(
    onnx: Any,
    nodes: list[Any],
    inputs: dict[str, list[Any]],
    outputs: dict[str, list[Any]],
    tensors: Mapping[str, np.ndarray],
) -> Any:
    helper, first = onnx.helper, next(iter(tensors.values()))
    kind = {"float32": 1, "float64": 11}[str(first.dtype)]
    infos = [[helper.make_tensor_value_info(n, kind, s) for n, s in each.items()] for each in (inputs, outputs)]
    graph = helper.make_graph(
        nodes, "mine", *infos, [onnx.numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in tensors.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize(
    ("attributes", "vector", "words"),
    [
        ({"alpha": 0.5}, (4,), "alpha=0.5 makes it another product"),
        ({"beta": 2.0}, (4,), "beta=2.0 makes it another product"),
        ({"transA": 1}, (4,), "transA=1 makes it another product"),
        ({}, (1,), "its C is no vector of 4 numbers"),
        ({}, (2, 4), "its C is no vector of 4 numbers"),
    ],
)
def test_other_products(
    adapter: Any, onnx: Any, attributes: dict[str, Any], vector: tuple[int, ...], words: str
) -> None:
    node = onnx.helper.make_node("Gemm", ["in", "k", "b"], ["out"], name="mixer", **attributes)
    tensors = {"k": np.ones((3, 4), "float32"), "b": np.ones(vector, "float32")}
    inside = [3, 2] if attributes.get("transA") else [2, 3]
    with pytest.raises(UnsupportedError, match=f"The Gemm node 'mixer' is not modelled: {words}"):
        adapter.spec(small(onnx, [node], {"in": inside}, {"out": [2, 4]}, tensors))


def tagger(onnx: Any) -> tuple[Any, dict[str, tuple[Layer, dict[Key, np.ndarray]]]]:
    """A model as PyTorch exports it: LSTM, GRU above it, then a dense layer over time, with other nodes between."""
    make = onnx.helper.make_node
    specs: dict[str, Any] = {
        "encoder": Recurrent("lstm", FEATURES, UNITS, bidirectional=True),
        "decoder": Recurrent("gru", 2 * UNITS, 5, reset_after=False),
        "tags": Dense(5, 3),
        "gate": Dense(3, 2, bias=False),
    }
    blocks = {name: helpers.weights(spec, seed, "float32") for seed, (name, spec) in enumerate(specs.items())}
    tensors = {"joined": np.array([0, 0, -1]), "one": np.array([1])}
    for name in ("encoder", "decoder"):
        own = stored(specs[name], blocks[name])
        tensors |= {f"{name}.{label}": array.astype("float32") for label, array in own.items()}
    tensors |= {"k": blocks["tags"][Key(0, 0, "kernel", "")].astype("float32")}
    tensors |= {"b": blocks["tags"][Key(0, 0, "bias", "")].astype("float32")}
    tensors |= {"g": blocks["gate"][Key(0, 0, "kernel", "")].astype("float32")}
    weights = [[f"{name}.{label}" for label in "WRB"] for name in ("encoder", "decoder")]
    nodes = [
        make("Transpose", ["in"], ["steps"], perm=[1, 0, 2]),
        make("LSTM", ["steps", *weights[0]], ["a", "", ""], "encoder", hidden_size=UNITS, direction="bidirectional"),
        make("Transpose", ["a"], ["a1"], perm=[0, 2, 1, 3]),
        make("Reshape", ["a1", "joined"], ["a2"]),
        make("Relu", ["a2"], ["a3"]),
        make("GRU", ["a3", *weights[1]], ["c"], "decoder", hidden_size=5),
        make("Squeeze", ["c", "one"], ["c1"]),
        make("MatMul", ["c1", "k"], ["d"], "tags"),
        make("Add", ["b", "d"], ["e"]),
        make("Tanh", ["e"], ["f"]),
        make("MatMul", ["f", "g"], ["out"], "gate"),
    ]
    tensors = {name: tensors[name] for name in sorted(tensors, key=lambda n: n in ("joined", "one"))}
    model = small(onnx, nodes, {"in": ["n", "t", FEATURES]}, {"out": ["t", "n", 2]}, tensors)
    return model, {name: (specs[name], blocks[name]) for name in specs}


def test_the_layers_of_a_model(adapter: Any, onnx: Any) -> None:
    model, wanted = tagger(onnx)
    with pytest.raises(UnsupportedError, match=r"2 recurrent nodes? with|not of one kind and size.*adapter\.layers"):
        adapter.spec(model)
    found = dict(adapter.layers(model))
    assert list(found) == list(wanted)
    for name, (spec, blocks) in wanted.items():
        onnx.checker.check_model(found[name], full_check=True)
        assert adapter.spec(found[name]) == spec
        helpers.assert_same_numbers(
            adapter.parameters(found[name]), {k: b.astype("float32") for k, b in blocks.items()}
        )
        x = helpers.signal(spec, 16, "float32")
        helpers.judge(spec, blocks, Given(x), "float32", adapter.run(found[name], x))
        arrays = [read() for read in adapter.tensors(found[name]).values()]
        assert sum(a.size for a in arrays) == sum(b.size for b in blocks.values())


def test_layers_inside_a_branch(adapter: Any, onnx: Any) -> None:
    """The weights stand in the graph around the body that reads them."""
    spec = Recurrent("rnn", 3, 2)
    blocks = helpers.weights(spec, 17, "float32")
    inner = node_model(onnx, "RNN", stored(spec, blocks)).graph
    del inner.initializer[:], inner.input[:], inner.output[1:]
    other = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["Z"], ["Y"])], "other", [], inner.output)
    node = onnx.helper.make_node("If", ["which"], ["out"], "choice", then_branch=inner, else_branch=other)
    tensors = {name: array.astype("float32") for name, array in stored(spec, blocks).items()}
    graph = onnx.helper.make_graph(
        [node], "mine", [], [], [onnx.numpy_helper.from_array(a, n) for n, a in tensors.items()]
    )
    model = onnx.helper.make_model(graph)
    ((name, layer),) = adapter.layers(model)
    assert name == "choice/reader"
    assert adapter.spec(layer) == spec
    helpers.assert_same_numbers(adapter.parameters(layer), {k: b.astype("float32") for k, b in blocks.items()})
    with pytest.raises(UnsupportedError, match=r"This ONNX model \(If\) is not modelled as one layer; take its"):
        adapter.spec(model)


@pytest.mark.parametrize("kind", ["Loop", "Scan"])
def test_loops(adapter: Any, onnx: Any, kind: str) -> None:
    graph = onnx.helper.make_graph([onnx.helper.make_node(kind, ["a"], ["b"])], "mine", [], [])
    with pytest.raises(
        UnsupportedError, match=rf"\({kind}\) is not modelled: what a Loop or a Scan computes.*RNN, LSTM or GRU"
    ):
        adapter.spec(onnx.helper.make_model(graph))


def test_no_layer_at_all(adapter: Any, onnx: Any) -> None:
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["a"], ["b"])], "mine", [], [])
    model = onnx.helper.make_model(graph)
    with pytest.raises(UnsupportedError, match=r"This ONNX model \(Relu\) is not modelled as one layer"):
        adapter.spec(model)
    assert list(adapter.layers(model)) == []


# ---- Models that are nearly what build makes.


def renamed(model: Any) -> None:
    """Other names everywhere."""
    for node in model.graph.node:
        node.name = node.name and f"{node.name}!"
        for field in (node.input, node.output):
            for i, name in enumerate(field):
                field[i] = name and f"{name}!"
    for one in (*model.graph.initializer, *model.graph.input, *model.graph.output):
        one.name = f"{one.name}!"


def test_names_do_not_matter(adapter: Any, onnx: Any) -> None:
    spec = LAYERS_BY_NAME["lstm-stacked"]
    blocks, x, state = numbers(spec, 18, "float32")
    model = adapter.build_loaded(spec, blocks, "float32")
    renamed(model)
    onnx.checker.check_model(model, full_check=True)
    assert adapter.spec(model) == spec
    assert list(adapter.layers(model)) == [("", model)]
    helpers.judge(spec, blocks, Given(x, state), "float32", adapter.run(model, x, state))
    other = helpers.weights(spec, 19, "float32")
    adapter.load(model, other)
    helpers.judge(spec, other, Given(x, state), "float32", adapter.run(model, x, state))


def _perm(model: Any) -> None:
    node = [one for one in model.graph.node if one.op_type == "Transpose"][-1]
    node.attribute[0].ints[:] = [2, 0, 1, 3] if node.attribute[0].ints[0] == 0 else [0, 2, 1, 3]


def _relu(model: Any) -> None:
    """A function on the way out."""
    last = next(node for node in model.graph.node if node.output[0] == "y")
    last.output[0] = "before"
    twin = type(last)(op_type="Relu", input=["before"], output=["y"])
    model.graph.node.append(twin)


def _shape(model: Any) -> None:
    from onnx import numpy_helper

    tensor = next(t for t in model.graph.initializer if t.name == "joined")
    tensor.CopyFrom(numpy_helper.from_array(np.array([0, -1, 0]), "joined"))


def _swapped_states(model: Any) -> None:
    nodes = [node for node in model.graph.node if node.op_type == "LSTM"]
    nodes[0].input[5], nodes[1].input[5] = nodes[1].input[5], nodes[0].input[5]


def _skipped(model: Any) -> None:
    """The second layer reads what the first one does, where sizes allow it."""
    nodes = [node for node in model.graph.node if node.op_type == "LSTM"]
    nodes[1].input[0] = nodes[0].input[0]


def _other_output(model: Any) -> None:
    model.graph.output[1].name, model.graph.output[2].name = model.graph.output[2].name, model.graph.output[1].name


def _shared(model: Any) -> None:
    nodes = [node for node in model.graph.node if node.op_type == "LSTM"]
    nodes[1].input[2] = nodes[0].input[2]


def _one_more(model: Any) -> None:
    model.graph.output.append(type(model.graph.output[0])(name="node0/Y"))


def _domain(model: Any) -> None:
    model.graph.node[0].domain = "mine"


@pytest.mark.parametrize(
    "change", [_perm, _relu, _shape, _swapped_states, _skipped, _other_output, _shared, _one_more, _domain]
)
def test_a_model_that_computes_something_else(adapter: Any, change: Callable[[Any], None]) -> None:
    model = adapter.build(Recurrent("lstm", 8, 4, num_layers=2, bidirectional=True))
    assert adapter.spec(model) == Recurrent("lstm", 8, 4, num_layers=2, bidirectional=True)
    change(model)
    with pytest.raises(UnsupportedError, match=r"take its layers one by one with adapter\.layers\(model\)"):
        adapter.spec(model)
    assert [name for name, _ in adapter.layers(model)] == ["node0/LSTM", "node1/LSTM"]


def test_layers_of_other_kinds(adapter: Any, onnx: Any) -> None:
    """The attributes, and the sizes, of the second layer are not those of the first."""
    for attribute, value in (("direction", b"reverse"), ("activations", [b"Sigmoid", b"Relu", b"Relu"])):
        model = adapter.build(Recurrent("lstm", 4, 4, num_layers=2))
        node = [node for node in model.graph.node if node.op_type == "LSTM"][1]
        old = next(a for a in node.attribute if a.name == attribute)
        old.CopyFrom(onnx.helper.make_attribute(attribute, value))
        with pytest.raises(UnsupportedError, match=r"direction='reverse' alone|not of one kind and size"):
            adapter.spec(model)
    model = adapter.build(Recurrent("rnn", 5, 4, num_layers=2))
    wrong = next(t for t in model.graph.initializer if t.name == "node1/W")
    wrong.CopyFrom(onnx.numpy_helper.from_array(np.ones((1, 4, 3), "float32"), "node1/W"))
    with pytest.raises(UnsupportedError, match="not of one kind and size"):
        adapter.spec(model)


# ---- What the engines do today. Where a release mends it, the test fails and says so.


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: "-".join(map(str, c.values())))
def test_runtime_a_row_without_a_valid_step(onnx: Any, cell: dict[str, Any], bidirectional: bool) -> None:
    """ONNX Runtime gives zeros as its final states; they should be the initial ones. All other numbers are right."""
    spec = Recurrent(input_size=FEATURES, hidden_size=UNITS, bidirectional=bidirectional, **cell)
    spec = replace(spec, mask="any", masked_output="zero")
    blocks, x, state = numbers(spec)
    lengths = np.array([4, STEPS, 0, 3], np.int32)
    model = node_model(onnx, KINDS[spec.cell], stored(spec, blocks), lengths=True, **attributes_of(spec))
    got = runtime(model, {**feeds_of(x, state), "sequence_lens": lengths})
    mask = np.arange(STEPS) < lengths[:, None]
    for name, final in zip(state, got[1:], strict=True):
        assert not final[:, 2].any()
        assert np.abs(state[name][0][:, 2] - final[:, 2]).max() == np.abs(state[name][0][:, 2]).max() > 0.7
        final[:, 2] = state[name][0][:, 2]
    helpers.judge(spec, blocks, Given(x, state, mask), "float32", outputs_of(got))


def one_step(onnx: Any, x: list[float], **attributes: Any) -> list[float]:
    """What ONNX Runtime's RNN makes of numbers, with a kernel of 1 and nothing else: its activation function."""
    arrays = {"W": np.ones((1, 1, 1)), "R": np.zeros((1, 1, 1))}
    model = node_model(onnx, "RNN", arrays, states=False, **attributes)
    got = runtime(model, {"X": np.array(x, "float32").reshape(1, -1, 1)})[0]
    return [float(number) for number in got.ravel()]


@pytest.mark.parametrize(
    ("name", "given", "got", "wanted"),
    [
        # Affine is alpha x + beta, with 1 and 0 in the operator of this name.
        ("Affine", {}, [0.0, 0.0, 0.0], [-2.0, 0.25, 3.0]),
        ("Affine", {"activation_beta": [0.5]}, [0.5, 0.5, 0.5], [-1.5, 0.75, 3.5]),
        # ThresholdedRelu is x where x > alpha, with 1 in the operator.
        ("ThresholdedRelu", {}, [0.0, 0.25, 3.0], [0.0, 0.0, 3.0]),
        # ScaledTanh is alpha tanh(beta x).
        ("ScaledTanh", {"activation_alpha": [2.0]}, [0.0, 0.0, 0.0], None),
    ],
)
def test_runtime_parameters_that_are_not_given(
    onnx: Any, name: str, given: dict[str, Any], got: list[float], wanted: list[float] | None
) -> None:
    """ONNX Runtime takes 0 for them; so xframe refuses a node that does not give them."""
    assert one_step(onnx, [-2.0, 0.25, 3.0], activations=[name], **given) == got
    assert got != wanted


@pytest.mark.parametrize(
    ("name", "alpha", "beta", "wanted"),
    [
        ("LeakyRelu", [], [], [-0.02, 0.25, 3.0]),
        ("HardSigmoid", [], [], [0.1, 0.55, 1.0]),
        ("Elu", [], [], [np.expm1(-2.0), 0.25, 3.0]),
        ("HardSigmoid", [0.25], [], [0.0, 0.5625, 1.0]),
    ],
)
def test_runtime_parameters_that_have_defaults(
    onnx: Any, name: str, alpha: list[float], beta: list[float], wanted: list[float]
) -> None:
    given: dict[str, Any] = {"activation_alpha": alpha} if alpha else {}
    got = one_step(onnx, [-2.0, 0.25, 3.0], activations=[name], **given)
    assert np.abs(np.array(got) - wanted).max() < 4 * 2.0**-24


def test_runtime_parameters_go_to_those_that_take_some(adapter: Any, onnx: Any) -> None:
    """In order: Sigmoid takes none, so that the first of two numbers is the candidate's, the second the output's."""
    spec = Recurrent("lstm", FEATURES, UNITS, activation="leaky_relu")
    blocks, x, state = numbers(spec)
    model = node_model(
        onnx,
        "LSTM",
        stored(spec, blocks),
        activations=["Sigmoid", "LeakyRelu", "LeakyRelu"],
        activation_alpha=[0.2, 0.2],
    )
    assert adapter.spec(model) == spec
    helpers.judge(spec, blocks, Given(x, state), "float32", outputs_of(runtime(model, feeds_of(x, state))))


@pytest.mark.parametrize("clip", [0.0, -1.0])
def test_runtime_a_clip_that_is_not_positive(onnx: Any, clip: float) -> None:
    """RNN takes 0 at its word, puts out zeros, and ignores a negative one; LSTM and GRU refuse both."""
    assert one_step(onnx, [-2.0, 0.25, 3.0], activations=["Relu"], clip=clip) == (
        [0.0, 0.0, 0.0] if clip == 0 else [0.0, 0.25, 3.0]
    )
    for kind, gates in (("LSTM", 4), ("GRU", 3)):
        arrays = arrays_for({"W": (1, 2 * gates, 3), "R": (1, 2 * gates, 2)})
        with pytest.raises(Exception, match=r"clip_ > 0\.f was false"):
            runtime(node_model(onnx, kind, arrays, states=False, clip=clip), {"X": np.ones((4, 2, 3), "float32")})


def test_runtime_a_clip(onnx: Any) -> None:
    """ONNX Runtime obeys one that is positive; the evaluator ignores it."""
    clipped = one_step(
        onnx, [-2.0, 0.25, 3.0], activations=["Affine"], activation_alpha=[1.0], activation_beta=[0.0], clip=0.5
    )
    assert clipped == [-0.5, 0.25, 0.5]
    spec = Recurrent("lstm", FEATURES, UNITS)
    blocks, x, state = numbers(spec)
    model = node_model(onnx, "LSTM", stored(spec, blocks), clip=0.3)
    got, plain = evaluator(model, feeds_of(x, state)), helpers.worst
    helpers.judge(spec, blocks, Given(x, state), "float32", outputs_of(got))
    assert plain(spec, blocks, Given(x, state), "float32", outputs_of(runtime(model, feeds_of(x, state)))) > 1e5


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_runtime_needs_hidden_size(adapter: Any, onnx: Any, kind: str) -> None:
    """ONNX has the attribute optional, and the weights tell it; ONNX Runtime refuses a node without it."""
    spec = Recurrent(kind.lower(), FEATURES, UNITS)
    blocks, x, state = numbers(spec)
    after: dict[str, Any] = {"linear_before_reset": 1} if kind == "GRU" else {}
    model = node_model(onnx, kind, stored(spec, blocks), **after)
    node = model.graph.node[0]
    node.attribute.remove(next(a for a in node.attribute if a.name == "hidden_size"))
    onnx.checker.check_model(model, full_check=True)
    with pytest.raises(Exception, match="hidden_size"):
        runtime(model, feeds_of(x, state))
    assert adapter.spec(model) == spec
    with pytest.raises(UnsupportedError, match=r"ONNX Runtime cannot run this model: .*hidden_size"):
        adapter.run(model, x, state)
    helpers.judge(spec, blocks, Given(x, state), "float32", outputs_of(evaluator(model, feeds_of(x, state))))


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_runtime_layout(onnx: Any, kind: str) -> None:
    gates = {"RNN": 1, "LSTM": 4, "GRU": 3}[kind]
    arrays = arrays_for({"W": (1, 2 * gates, 3), "R": (1, 2 * gates, 2)})
    model = node_model(onnx, kind, arrays, states=False, layout=1)
    with pytest.raises(Exception, match=r"Batchwise recurrent operations \(layout == 1\) are not supported"):
        runtime(model, {"X": np.ones((4, 2, 3), "float32")})


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("RNN", "Could not find an implementation for RNN"),
        ("LSTM", "LSTM operator does not support double yet"),
        ("GRU", "GRU operator does not support double yet"),
    ],
)
def test_runtime_float64(onnx: Any, kind: str, words: str) -> None:
    gates = {"RNN": 1, "LSTM": 4, "GRU": 3}[kind]
    arrays = arrays_for({"W": (1, 2 * gates, 3), "R": (1, 2 * gates, 2)})
    with pytest.raises(Exception, match=words):
        runtime(node_model(onnx, kind, arrays, states=False, dtype="float64"), {"X": np.ones((4, 2, 3))})


def test_runtime_bfloat16(adapter: Any) -> None:
    for kind in ("rnn", "lstm", "gru", "dense"):
        model = adapter.build(LAYERS_BY_NAME[kind], "bfloat16")
        with pytest.raises(Exception, match="Could not find an implementation for"):
            runtime(model, {})
        assert adapter.lacks(LAYERS_BY_NAME[kind], "bfloat16").endswith(" of bfloat16 on a CPU; use float32.")


@pytest.mark.parametrize("lengths", [[4, STEPS + 1, 1, 3], [4, -1, 1, 3]])
def test_runtime_lengths_out_of_range(onnx: Any, lengths: list[int]) -> None:
    """ONNX Runtime refuses them; the evaluator takes any, and ignores them."""
    spec = Recurrent("gru", FEATURES, UNITS)
    blocks, x, state = numbers(spec)
    model = node_model(onnx, "GRU", stored(spec, blocks), lengths=True, linear_before_reset=1)
    feeds = {**feeds_of(x, state), "sequence_lens": np.array(lengths, np.int32)}
    with pytest.raises(Exception, match="All values must be >= 0 and <= seq_length"):
        runtime(model, feeds)
    helpers.judge(spec, blocks, Given(x, state), "float32", outputs_of(evaluator(model, feeds)))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: "-".join(map(str, c.values())))
def test_evaluator_ignores_lengths(onnx: Any, cell: dict[str, Any], bidirectional: bool) -> None:
    """What it computes is the layer without a mask."""
    spec = Recurrent(input_size=FEATURES, hidden_size=UNITS, bidirectional=bidirectional, **cell)
    blocks, x, state = numbers(spec)
    model = node_model(onnx, KINDS[spec.cell], stored(spec, blocks), lengths=True, **attributes_of(spec))
    got = outputs_of(evaluator(model, {**feeds_of(x, state), "sequence_lens": RIGHT.sum(axis=1).astype(np.int32)}))
    helpers.judge(spec, blocks, Given(x, state), "float32", got)
    masked = replace(spec, mask="right", masked_output="zero")
    assert helpers.worst(masked, blocks, Given(x, state, RIGHT), "float32", got) > 1e6


@pytest.mark.parametrize("cell", CELLS[1:], ids=lambda c: "-".join(map(str, c.values())))
def test_evaluator_ignores_activations(onnx: Any, cell: dict[str, Any]) -> None:
    """Those of LSTM and GRU: it computes tanh and sigmoid whatever it is told."""
    spec = Recurrent(input_size=FEATURES, hidden_size=UNITS, **cell)
    blocks, x, state = numbers(spec)
    other = replace(spec, activation="softsign", recurrent_activation="hard_sigmoid_keras2")
    told = {k: v for k, v in attributes_of(other).items() if k not in ("activation_alpha", "activation_beta")}
    got = outputs_of(evaluator(node_model(onnx, KINDS[spec.cell], stored(spec, blocks), **told), feeds_of(x, state)))
    helpers.judge(spec, blocks, Given(x, state), "float32", got)
    assert helpers.worst(other, blocks, Given(x, state), "float32", got) > 1e6


def test_evaluator_rnn_knows_two_functions(onnx: Any) -> None:
    arrays = arrays_for({"W": (1, 2, 3), "R": (1, 2, 2)})
    for name, (own, alpha, beta) in FUNCTIONS.items():
        given: dict[str, Any] = {k: v for k, v in (("activation_alpha", alpha), ("activation_beta", beta)) if v}
        model = node_model(onnx, "RNN", arrays, states=False, activations=[own], **given)
        if name in ("tanh", "linear"):
            evaluator(model, {"X": np.ones((4, 2, 3), "float32")})
        else:
            with pytest.raises(RuntimeError, match=f"Unknown activation function '{own}'"):
                evaluator(model, {"X": np.ones((4, 2, 3), "float32")})


def test_evaluator_ignores_input_forget(onnx: Any) -> None:
    """ONNX Runtime obeys it; xframe refuses it."""
    spec = Recurrent("lstm", FEATURES, UNITS)
    blocks, x, state = numbers(spec)
    model = node_model(onnx, "LSTM", stored(spec, blocks), input_forget=1)
    helpers.judge(spec, blocks, Given(x, state), "float32", outputs_of(evaluator(model, feeds_of(x, state))))
    assert helpers.worst(spec, blocks, Given(x, state), "float32", outputs_of(runtime(model, feeds_of(x, state)))) > 1e5


def test_an_older_evaluator(adapter: Any, onnx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has no second direction."""
    fresh = type(adapter)()
    assert fresh.lacks(LAYERS_BY_NAME["lstm-bidirectional"], "float64") == ""
    fresh = type(adapter)()
    real = type(adapter)._evaluate

    def older(self: Any, model: Any, feeds: Any) -> Any:
        if any(a.s == b"bidirectional" for node in model.graph.node for a in node.attribute):
            raise UnsupportedError("no")
        return real(self, model, feeds)

    monkeypatch.setattr(type(adapter), "_evaluate", older)
    why = fresh.lacks(LAYERS_BY_NAME["lstm-bidirectional"], "float64")
    assert why.startswith(
        "ONNX Runtime has no RNN, LSTM or GRU of float64, and onnx's reference evaluator, which has, "
    )
    assert why.endswith(f"cannot run a bidirectional LSTM in onnx {onnx.__version__}; use float32.")
    assert fresh.lacks(LAYERS_BY_NAME["lstm"], "float64") == ""
    assert fresh.spec(fresh.build(LAYERS_BY_NAME["lstm-bidirectional"])) == LAYERS_BY_NAME["lstm-bidirectional"]


# ---- What it says of itself.


def test_settings(adapter: Any) -> None:
    found = {setting.name: setting.value for setting in adapter.settings()}
    assert found["execution provider"] == "CPUExecutionProvider"
    assert found["threads"] == "1"
    assert "CPUExecutionProvider" in found["providers there are"]
    assert found["float64"] == "onnx's reference evaluator"


def test_version(adapter: Any, onnx: Any) -> None:
    onnxruntime = importlib.import_module("onnxruntime")
    assert adapter.version() == f"{onnx.__version__} on onnxruntime {onnxruntime.__version__}"


# ---- How exact it is.


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_small_outputs(adapter: Any, cell: str) -> None:
    """ONNX Runtime's RNN computes tanh by way of a sigmoid, whose error does not shrink with its result; LSTM and GRU do not."""
    spec = Recurrent(cell, FEATURES, UNITS)
    blocks = {key: helpers.rounded(block * 1e-3, "float32") for key, block in helpers.weights(spec, 95).items()}
    x, start = helpers.signal(spec, 95, "float32"), helpers.start(spec, 95, "float32")
    state = {name: (value * np.float32(1e-3)).astype("float32") for name, value in start.items()}
    got, given = adapter.run(adapter.build_loaded(spec, blocks, "float32"), x, state), Given(x, state)
    own = noise.measure(spec, blocks, given, "float32", coarse=adapter.coarse(spec, "float32"))
    for name, values in got.named().items():
        assert noise.ratio(values, own.clean[name], own.deviation[name]).max() < 10
    plain = helpers.worst(spec, blocks, given, "float32", got)
    assert (plain > 50) is (cell == "rnn")
    assert adapter.coarse(spec, "float64") == frozenset()
    assert ("2 sigmoid(2 x) - 1" in adapter.remark(spec, "float32")) is (cell == "rnn")


def test_a_verdict_on_small_outputs_says_why_they_are_less_exact(adapter: Any) -> None:
    """And a mistake is as different as ever."""
    torch, right = get_adapter("torch"), Recurrent("rnn", FEATURES, UNITS)
    blocks = {key: helpers.rounded(block * 1e-3, "float32") for key, block in helpers.weights(right, 96).items()}
    layers = [one.build_loaded(right, blocks, "float32") for one in (torch, adapter)]
    verdict = xframe.compare(*layers)
    assert verdict, verdict.reason
    assert any("2 sigmoid(2 x) - 1" in note for note in verdict.notes)
    key = Key(0, 0, "bias", "h")
    wrong = adapter.build_loaded(right, blocks | {key: blocks[key] * 1.01}, "float32")
    assert xframe.compare(layers[0], wrong).status == "different"
