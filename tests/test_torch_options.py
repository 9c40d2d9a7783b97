"""PyTorch with every option: its fused layers and cells, and `xframe.torch.Recurrent` for what these cannot do.

What is expected comes from the NumPy reference, which knows no PyTorch, from calls of PyTorch as its users write them, or
from a few lines by hand.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import helpers
import numpy as np
import pytest
import torch
from helpers import BATCH, FEATURES, STEPS, UNITS

import xframe.torch
from xframe import noise
from xframe.activations import ACTIVATIONS
from xframe.adapters import adapter_of, get_adapter
from xframe.arithmetic import FUNCTIONS, Plain
from xframe.errors import SpecError, UnsupportedError
from xframe.reference import Given, Outputs
from xframe.spec import Recurrent

DTYPES = ("float64", "float32")
HALVES = ("float16", "bfloat16")
ADAPTER = get_adapter("torch")


def _spec(cell: str, **options: Any) -> Recurrent:
    return Recurrent(cell, FEATURES, UNITS, **options)


_BOTH: dict[str, Any] = {"bidirectional": True}
_STACK: dict[str, Any] = {"num_layers": 3, "bidirectional": True}
_KEPT: dict[str, Any] = {"stateful": True, "batch_size": BATCH}
# On UNITS, two cells that put out 4 and 6.
_ABOVE = (
    Recurrent("lstm", UNITS, 8, proj_size=4, recurrent_activation="hard_sigmoid_keras2"),
    Recurrent("gru", 4, 6, reset_after=False, input_dropout=0.25),
)
_OTHER = Recurrent("gru", FEATURES, 5, reset_after=False, recurrent_activation="hard_sigmoid")

# What PyTorch's own layers and cells compute, and the class that does.
OWN: dict[str, tuple[Recurrent, type]] = {
    "rnn": (_spec("rnn", activation="relu"), torch.nn.RNN),
    "lstm dropout": (_spec("lstm", dropout=0.5, **_STACK), torch.nn.LSTM),
    "lstm projected, packed": (_spec("lstm", proj_size=5, mask="right", **_STACK), torch.nn.LSTM),
    "gru no bias": (_spec("gru", bias=False, num_layers=2), torch.nn.GRU),
    "rnn packed": (_spec("rnn", mask="right", masked_output="zero"), torch.nn.RNN),
    "lstm packed": (_spec("lstm", mask="right", masked_output="zero"), torch.nn.LSTM),
    "gru packed": (_spec("gru", mask="right", **_STACK), torch.nn.GRU),
    "rnn cell": (_spec("rnn", form="cell", activation="relu"), torch.nn.RNNCell),
    "lstm cell": (_spec("lstm", form="cell"), torch.nn.LSTMCell),
    "gru cell": (_spec("gru", form="cell", bias=False), torch.nn.GRUCell),
}
# What they do not, and what the reason says.
MODULES: dict[str, tuple[Recurrent, str]] = {
    "reset before": (
        _spec("gru", reset_after=False, **_STACK),
        "torch.nn.GRU applies the reset gate after the product",
    ),
    "reset before, no bias": (_spec("gru", reset_after=False, bias=False), "after the product"),
    "activation": (
        _spec("rnn", activation="softsign"),
        "torch.nn.RNN has activation='tanh' or 'relu' only, not 'softsign'",
    ),
    "lstm gelu": (
        _spec("lstm", activation="gelu", num_layers=2),
        "torch.nn.LSTM has activation='tanh' only, not 'gelu'",
    ),
    "gates": (
        _spec("lstm", recurrent_activation="hard_sigmoid_keras2"),
        "torch.nn.LSTM has recurrent_activation='sigmoid' only, not 'hard_sigmoid_keras2'",
    ),
    "coupled": (_spec("lstm", activation="sparsemax", recurrent_activation="softmax"), "not 'sparsemax'"),
    "coupled gru": (_spec("gru", recurrent_activation="softmax", activation="log_softmax"), "not 'log_softmax'"),
    "coupled gru before": (_spec("gru", recurrent_activation="softmax", reset_after=False), "reset gate"),
    "input dropout": (_spec("gru", input_dropout=0.5), "torch.nn.GRU has no dropout on its inputs"),
    "recurrent dropout": (_spec("lstm", recurrent_dropout=0.5), "torch.nn.LSTM has no dropout on its states"),
    "go backwards": (_spec("lstm", go_backwards=True, num_layers=2), "torch.nn.LSTM reads time forwards"),
    "both go backwards": (_spec("gru", go_backwards=True, **_STACK), "torch.nn.GRU reads time forwards"),
    "sum": (_spec("lstm", merge_mode="sum", **_STACK), "torch.nn.LSTM concatenates its directions"),
    "mul": (_spec("gru", merge_mode="mul", **_STACK), "torch.nn.GRU concatenates its directions"),
    "ave": (_spec("rnn", merge_mode="ave", mask="any", **_STACK), "torch.nn.RNN concatenates its directions"),
    "not merged": (_spec("rnn", merge_mode=None, **_BOTH), "torch.nn.RNN hands back its two directions as one tensor"),
    "another backward": (_spec("lstm", backward=_OTHER, **_BOTH), "torch.nn.LSTM has two directions of one kind"),
    "another backward, masked": (
        _spec("lstm", backward=_OTHER, mask="any", **_BOTH, **_KEPT),
        "two directions of one kind",
    ),
    "stacked": (_spec("lstm", stacked=_ABOVE, mask="any"), "torch.nn.LSTM has layers that are all alike"),
    "stacked, go backwards": (
        _spec("gru", stacked=_ABOVE, go_backwards=True, mask="any", **_KEPT),
        "all alike",
    ),
    "stacked, both": (
        _spec("gru", stacked=(Recurrent("gru", UNITS, UNITS),), **_BOTH),
        "torch.nn.GRU merges its directions after each of its layers",
    ),
    "stacked, both go backwards": (_spec("rnn", stacked=_ABOVE, go_backwards=True, **_BOTH), "all alike"),
    "stacked, another backward stack": (
        _spec("lstm", stacked=_ABOVE, backward=Recurrent("gru", FEATURES, 6, num_layers=3), mask="any", **_BOTH),
        "two directions of one kind",
    ),
    "gaps": (_spec("lstm", mask="any"), "a packed sequence has its padding on the right"),
    "gaps in a stack": (_spec("gru", mask="any", **_STACK), "a packed sequence has its padding on the right"),
    "gaps, zeros": (_spec("rnn", mask="any", masked_output="zero", num_layers=2), "padding on the right"),
    "gaps, both ways, repeated": (_spec("rnn", mask="any", masked_output="repeat", **_STACK), "padding on the right"),
    "gaps, go backwards": (_spec("lstm", mask="any", go_backwards=True, num_layers=2), "reads time forwards"),
    "repeated": (
        _spec("lstm", mask="right", num_layers=2),
        "a packed sequence writes zeros at masked steps, and masked_output is 'repeat'",
    ),
    "stateful": (_spec("lstm", **_KEPT), "torch.nn.LSTM keeps no states between calls"),
    "stateful, masked": (_spec("gru", mask="any", reset_after=False, **_STACK, **_KEPT), "reset gate"),
    "projected": (_spec("lstm", proj_size=5, mask="any", **_STACK, **_KEPT), "keeps no states between calls"),
}
SPECS = {name: spec for table in (OWN, MODULES) for name, (spec, _) in table.items()}
specs = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
dtypes = pytest.mark.parametrize("dtype", DTYPES)

RIGHT = np.arange(STEPS) < np.array([[4], [STEPS], [1], [3]])
# Left padding; gaps at the start, inside and at the end; no valid step; no masked one.
ANY = np.array([[0, 0, 1, 1, 1, 1], [0, 1, 0, 0, 1, 0], [0] * 6, [1] * 6], bool)
assert RIGHT.shape == ANY.shape == (BATCH, STEPS)
MASKS = {None: None, "right": RIGHT, "any": ANY}


def _weights(spec: Recurrent, dtype: str = "float64") -> helpers.Blocks:
    return helpers.weights(spec, 71, dtype)


def _given(spec: Recurrent, dtype: str = "float64", begun: bool = True) -> Given:
    """An input with states and mask; for a stateful layer two calls, the first of them from zeros or from given states."""
    state, mask = helpers.start(spec, 72, dtype) if begun else None, MASKS[spec.mask]
    given = Given(helpers.signal(spec, 72, dtype), state, mask)
    return Given(helpers.signal(spec, 73, dtype), None, mask, given) if spec.stateful else given


def _run(layer: Any, given: Given) -> Outputs:
    if given.before is not None:
        _run(layer, given.before)
    return ADAPTER.run(layer, given.x, given.state, given.mask)


def _judge(spec: Recurrent, given: Given, dtype: str, got: Outputs) -> None:
    helpers.judge(spec, _weights(spec, dtype), given, dtype, got)


def _loaded(spec: Recurrent, dtype: str = "float64") -> Any:
    return ADAPTER.build_loaded(spec, _weights(spec, dtype), dtype)


def _module(spec: Recurrent, dtype: str = "float64") -> xframe.torch.Recurrent:
    """xframe's module, whether or not PyTorch's own would do."""
    module = xframe.torch.Recurrent(spec, dtype=getattr(torch, dtype))
    ADAPTER.load(module, _weights(spec, dtype))
    return module


def _tensors(given: Given) -> tuple[torch.Tensor, dict[str, torch.Tensor] | None, torch.Tensor | None]:
    state = given.state and {name: torch.from_numpy(value) for name, value in given.state.items()}
    return torch.from_numpy(given.x), state, None if given.mask is None else torch.from_numpy(given.mask)


# ---- Which layer is built, and why.


@pytest.mark.parametrize("name", OWN)
def test_the_fused_layer_where_it_is_exact(name: str) -> None:
    spec, kind = OWN[name]
    layer = ADAPTER.build(spec)
    assert type(layer) is kind
    assert not ADAPTER.packing.why_ours(spec)
    assert ADAPTER.packing.layer_name(spec) == f"torch.nn.{kind.__name__}"
    assert ADAPTER.spec(layer, spec.mask) == spec
    assert getattr(layer, "dropout", 0.0) == spec.dropout


@pytest.mark.parametrize("name", MODULES)
def test_the_module_elsewhere_and_why(name: str) -> None:
    spec, why = MODULES[name]
    layer = ADAPTER.build(spec)
    assert type(layer) is xframe.torch.Recurrent
    assert adapter_of(layer).name == ADAPTER.name
    assert why in ADAPTER.packing.why_ours(spec)
    assert ADAPTER.packing.layer_name(spec) == "xframe.torch.Recurrent"
    assert ADAPTER.spec(layer) == spec
    assert ADAPTER.spec(layer, spec.mask) == spec


@pytest.mark.parametrize(
    "different",
    [
        {"hidden_size": 4},
        {"bias": False},
        {"reset_after": False},
        {"activation": "relu"},
        {"recurrent_activation": "hard_sigmoid"},
        {"input_dropout": 0.5},
        {"recurrent_dropout": 0.5},
    ],
    ids=str,
)
def test_a_stacked_cell_that_differs_in_anything_needs_the_module(different: dict[str, Any]) -> None:
    like = {"input_size": UNITS, "hidden_size": UNITS}
    for cell in ("gru", "lstm") if "reset_after" not in different else ("gru",):
        spec = _spec(cell, stacked=(Recurrent(cell, **{**like, **different}),))
        assert type(ADAPTER.build(spec)) is xframe.torch.Recurrent
        assert "torch.nn" in ADAPTER.packing.why_ours(spec)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"cell": "gru", "reset_after": False}, "torch.nn.GRUCell applies the reset gate after the product"),
        ({"cell": "lstm", "activation": "relu"}, "torch.nn.LSTMCell has activation='tanh' only, not 'relu'"),
        ({"cell": "lstm", "proj_size": 4}, "torch.nn.LSTMCell has no projection"),
        ({"cell": "rnn", "recurrent_dropout": 0.1}, "torch.nn.RNNCell has no dropout on its states"),
        ({"cell": "rnn", "input_dropout": 0.1}, "torch.nn.RNNCell has no dropout on its inputs"),
    ],
)
def test_a_bare_cell_is_pytorchs_or_none(options: dict[str, Any], why: str) -> None:
    """Refused wherever it is asked for: by the table, by counting, by building."""
    spec = Recurrent(**{"input_size": FEATURES, "hidden_size": UNITS, "form": "cell", **options})
    for ask in (ADAPTER.packing.layout, ADAPTER.packing.natives, ADAPTER.packing.layer_name, ADAPTER.build):
        with pytest.raises(UnsupportedError, match=why) as caught:
            ask(spec)
        assert "use form='layer'" in str(caught.value)
    ADAPTER.build(replace(spec, form="layer"))


@specs
def test_inventory(spec: Recurrent) -> None:
    """The table's names, order and shapes are the layer's."""
    layer = ADAPTER.build(spec)
    natives = ADAPTER.packing.natives(spec)
    assert [(n, tuple(p.shape)) for n, p in layer.named_parameters()] == [(n.name, n.shape) for n in natives]
    assert {n.name for n in natives} == set(layer.state_dict())


# ---- What is computed.


@specs
@dtypes
@pytest.mark.parametrize("begun", [True, False], ids=["from states", "from zeros"])
def test_it_computes_what_the_reference_computes(spec: Recurrent, dtype: str, begun: bool) -> None:
    given = _given(spec, dtype, begun)
    _judge(spec, given, dtype, _run(_loaded(spec, dtype), given))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(
    "name", ["lstm projected, packed", "gru packed", "lstm cell", "reset before", "gaps", "projected"]
)
def test_half_types(name: str, dtype: str) -> None:
    """Built, loaded, read, run and cloned; arrays of bfloat16 are float32."""
    spec = SPECS[name]
    blocks, given, layer = _weights(spec, dtype), _given(spec, dtype), _loaded(spec, dtype)
    assert ADAPTER.dtype(layer) == dtype
    _judge(spec, given, dtype, _run(layer, given))
    read = ADAPTER.parameters(layer)
    helpers.assert_same_numbers({key: block.astype(np.float64) for key, block in read.items()}, blocks)
    twin = ADAPTER.clone(layer, "float64")
    helpers.assert_same_numbers(ADAPTER.parameters(twin), blocks)
    back = ADAPTER.clone(twin, dtype)
    assert {p.dtype for p in back.parameters()} == {getattr(torch, dtype)}
    assert helpers.bits(ADAPTER.read(back)) == helpers.bits(ADAPTER.read(layer))


def test_what_is_loaded_in_bfloat16_is_rounded_to_nearest() -> None:
    spec = _spec("rnn")
    layer, blocks = ADAPTER.build(spec, "bfloat16"), _weights(spec)
    ADAPTER.load(layer, blocks)
    rounded = {key: helpers.rounded(block, "bfloat16") for key, block in blocks.items()}
    assert any((rounded[key] != block).any() for key, block in blocks.items())
    helpers.assert_same_numbers(ADAPTER.parameters(layer), rounded)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation: str) -> None:
    """As in NumPy, also where it saturates, and in every gate by itself."""
    x = np.random.default_rng(73).uniform(-3, 3, (40, 5))
    x[:6] = np.array([-700, -40, -25, 25, 40, 700])[:, None] + np.arange(5)
    x = x[1:5] if activation == "exponential" else x
    wanted = Plain().activate(activation, x.T.copy(), np.empty(x.T.shape)).T
    got = xframe.torch.FUNCTIONS[activation](torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-13, atol=1e-13)
    single = xframe.torch.FUNCTIONS[activation](torch.from_numpy(x[6:]).float()).numpy()
    np.testing.assert_allclose(single, wanted[6:], rtol=1e-5, atol=1e-5)
    if activation in ("tanh", "linear", "exponential", "softmax", "gelu", "selu", "softplus"):
        spec = _spec("gru", activation="tanh", recurrent_activation=activation)
        if activation != "exponential":
            given = _given(spec)
            _judge(spec, given, "float64", _run(_module(spec), given))


def test_the_tables_of_activations_agree() -> None:
    assert set(xframe.torch.FUNCTIONS) == set(ACTIVATIONS)
    assert set(FUNCTIONS) < set(ACTIVATIONS)


def test_activations_by_hand() -> None:
    """Where Keras and PyTorch differ in a constant, or mean different functions by one name."""
    x = torch.tensor([-2.0, -0.4, 0.3, 1.5], dtype=torch.float64)
    wanted = {
        "hard_sigmoid": [1 / 6, 0.5 - 0.4 / 6, 0.55, 0.75],
        "hard_sigmoid_keras2": [0.1, 0.42, 0.56, 0.8],
        "leaky_relu": [-0.4, -0.08, 0.3, 1.5],
        "soft_shrink": [-1.5, 0, 0, 1],
        "hard_shrink": [-2, 0, 0, 1.5],
        "sparse_plus": [0, 0.09, 0.4225, 1.5],
        "sparse_sigmoid": [0, 0.3, 0.65, 1],
        "squareplus": [np.sqrt(8) / 2 - 1, np.sqrt(4.16) / 2 - 0.2, np.sqrt(4.09) / 2 + 0.15, 2],
        "sparsemax": [0, 0, 0, 1],
    }
    for name, values in wanted.items():
        np.testing.assert_allclose(xframe.torch.FUNCTIONS[name](x).numpy(), values, atol=1e-15)
    # As Keras 3.15 computes it (run), which is not on the simplex: t = (0.5 + 0.8 - 1)/2.
    close = xframe.torch.FUNCTIONS["sparsemax"](torch.tensor([0.5, 0.3, -2.0])).numpy()
    np.testing.assert_allclose(close, [0.35, 0.15, 0], atol=1e-7)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_packed_sequences_as_their_users_write_them(kind: str, batch_first: bool) -> None:
    """Unsorted, and sorted by hand with enforce_sorted=True: the adapter's run is either, in every output."""
    options = {"batch_first": batch_first, "bidirectional": True, "num_layers": 2, "dtype": torch.float64}
    layer = getattr(torch.nn, kind)(FEATURES, UNITS, dropout=0.3, **options)
    spec = ADAPTER.spec(layer, "right")
    assert (spec.masked_output, spec.dropout, spec.num_layers) == ("zero", 0.3, 2)
    ADAPTER.load(layer, _weights(spec))
    given = _given(spec)
    got = ADAPTER.run(layer, given.x, given.state, given.mask)
    _judge(spec, given, "float64", got)
    assert layer.training
    lengths = np.array([4, STEPS, 1, 3])
    order = np.argsort(-lengths)
    x = torch.from_numpy(given.x[order])
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        x if batch_first else x.transpose(0, 1), torch.from_numpy(lengths[order]), batch_first, enforce_sorted=True
    )
    first = [
        torch.from_numpy(given.state[s][:, :, order].reshape(4, BATCH, UNITS)) for s in ("h", "c") if s in given.state
    ]
    with torch.no_grad():
        out, final = layer.eval()(packed, first[0] if len(first) == 1 else tuple(first))
    h = final[0] if kind == "LSTM" else final
    sequence = torch.nn.utils.rnn.pad_packed_sequence(out, batch_first=True)[0].numpy()
    np.testing.assert_allclose(got.sequence[order], sequence, atol=1e-14)
    np.testing.assert_allclose(got.states["h"][:, :, order], h.numpy().reshape(2, 2, BATCH, UNITS), atol=1e-14)
    np.testing.assert_allclose(got.last[order], torch.cat([h[-2], h[-1]], -1).numpy(), atol=1e-14)
    assert not got.sequence[~RIGHT].any()


@pytest.mark.parametrize("name", ["lstm packed", "rnn", "gru no bias", "lstm projected, packed"])
def test_the_module_is_also_what_the_fused_layers_are(name: str) -> None:
    """The same state dict, read and written, and the same numbers in every output."""
    spec = OWN[name][0]
    fused, module = _loaded(spec), xframe.torch.Recurrent(spec, dtype=torch.float64)
    assert [(n, v.shape) for n, v in fused.state_dict().items()] == [
        (n, v.shape) for n, v in module.state_dict().items()
    ]
    module.load_state_dict(fused.state_dict())
    given = _given(spec)
    a, b = _run(fused, given).named(), _run(module, given).named()
    for output, values in a.items():
        np.testing.assert_allclose(b[output], values, atol=1e-13)
    fused.load_state_dict(module.state_dict())


@pytest.mark.parametrize("name", ["lstm", "lstm dropout", "rnn", "gru no bias", "another backward", "gaps", "sum"])
def test_unbatched(name: str) -> None:
    """One sequence by itself, natively in the fused layers and in the module: no axis for the batch anywhere."""
    spec = SPECS.get(name, _spec("lstm"))
    layer, given = _loaded(spec).eval(), _given(spec)
    one = Given(given.x[:1], {k: v[:, :, :1] for k, v in given.state.items()}, None if spec.mask is None else ANY[1:2])
    wanted = _run(layer, one)
    _judge(spec, one, "float64", wanted)
    x, state, mask = _tensors(one)
    if isinstance(layer, xframe.torch.Recurrent):
        out, final = layer(x[0], {k: v[:, :, 0] for k, v in state.items()}, None if mask is None else mask[0])
        for n, value in final.items():
            np.testing.assert_allclose(value.detach().numpy(), wanted.states[n][:, :, 0], atol=1e-14)
    else:
        flat = tuple(v[:, :, 0].flatten(0, 1) for v in state.values())
        out, _ = layer(x[0], flat if spec.cell == "lstm" else flat[0])
    np.testing.assert_allclose(out.detach().numpy(), wanted.sequence[0], atol=1e-14)


def test_a_mask_without_masked_steps_and_none_are_the_same() -> None:
    for spec in (SPECS["gaps in a stack"], SPECS["gru packed"]):
        layer, given = _loaded(spec), _given(spec)
        got = ADAPTER.run(layer, given.x, given.state, np.ones((BATCH, STEPS), bool)).named()
        for name, values in ADAPTER.run(layer, given.x, given.state).named().items():
            np.testing.assert_allclose(got[name], values, rtol=0, atol=1e-14)


def test_what_is_masked_is_not_read() -> None:
    """Neither the values there, NaN included, nor their gradients."""
    for spec in (SPECS["gaps in a stack"], SPECS["gaps"]):
        x, state, mask = _tensors(_given(spec))
        module = _module(spec)
        wanted, _ = module(x, state, mask)
        x = x.masked_fill(~mask[..., None], 1e300).requires_grad_()
        out, _ = module(x, state, mask)
        assert torch.equal(out, wanted)
        out.sum().backward()
        assert not x.grad[~mask].any()
        assert x.grad[mask].all()


# ---- Stateful layers.


def test_states_are_carried_until_they_are_reset() -> None:
    spec = SPECS["stateful"]
    layer, given = _loaded(spec), _given(spec, begun=False)
    first = ADAPTER.run(layer, given.before.x)
    second = ADAPTER.run(layer, given.x)
    _judge(spec, given.before, "float64", first)
    _judge(spec, given, "float64", second)
    ADAPTER.reset(layer)
    assert helpers.bits(ADAPTER.run(layer, given.before.x).named()) == helpers.bits(first.named())
    # Given states stand in for the kept ones, and what comes of them is kept.
    state = _given(spec).before.state
    ADAPTER.run(layer, given.before.x, state)
    _judge(spec, _given(spec), "float64", ADAPTER.run(layer, given.x))


def test_kept_states_belong_to_the_data() -> None:
    """Not to the state dict, nor to a clone; they move with the layer, and no gradient goes through them."""
    spec = SPECS["projected"]
    layer = _module(spec)
    x = torch.from_numpy(_given(spec).x)
    ADAPTER.run(layer, x.numpy())
    assert not any("state" in name for name in layer.state_dict())
    assert {name: tuple(b.shape) for name, b in layer.named_buffers()} == {
        "state_h": (3, 2, BATCH, 5),
        "state_c": (3, 2, BATCH, UNITS),
    }
    assert all(b.any() and not b.requires_grad for b in layer.buffers())
    assert not any(b.any() for b in ADAPTER.clone(layer, "float64").buffers())
    # Training over several calls: each backward goes through its own call.
    for _ in range(2):
        layer(x)[0].square().sum().backward()
    for value in layer(x)[1].values():  # the caller's own, to change as he likes
        assert value.data_ptr() not in {b.data_ptr() for b in layer.buffers()}
    ADAPTER.run(layer, x.numpy())
    layer.reset()
    assert not any(b.any() or b.is_inference() for b in layer.buffers())
    layer.float()
    assert {b.dtype for b in layer.buffers()} == {torch.float32}
    assert layer(x.float())[0].dtype == torch.float32
    ADAPTER.reset(ADAPTER.build(_spec("lstm")))  # nothing to do


# ---- What modules must bear.


# Every way through the loop; a layer less and four steps less than elsewhere, since tracing takes its time.
TRACED = [
    "reset before, no bias",
    "coupled",
    "both go backwards",
    "not merged",
    "another backward, masked",
    "gaps",
    "repeated",
    "stateful, masked",
    "projected",
]


def _traced(name: str) -> tuple[Recurrent, torch.Tensor, torch.Tensor | None]:
    torch._dynamo.reset()
    spec = replace(SPECS[name], num_layers=min(2, SPECS[name].num_layers))
    x, _, mask = _tensors(_given(spec))
    # Two steps in which some row is masked at the first only, some at the second only, some at both, some at none; or,
    # with padding on the right, at the second only or at none.
    steps = slice(1, 3) if spec.mask == "any" else slice(2)
    return spec, x[:, steps], None if mask is None else mask[:, steps]


@pytest.mark.skipif(
    helpers.before(torch, 2, 12), reason="PyTorch before 2.12 refuses some layers, and has gradients wrong"
)
@pytest.mark.parametrize("name", TRACED)
def test_compile(name: str) -> None:
    """In one graph, with gradients, and with states carried from call to call."""
    spec, x, mask = _traced(name)
    layer, twin = _module(spec), _module(spec)
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        wanted, states = layer(x, None, mask)
        got, found = compiled(x, None, mask)
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-14)
        torch.testing.assert_close(found, states, rtol=0, atol=1e-14)
        for out in (wanted, got):
            out.square().sum().backward()
    for mine, theirs in zip(twin.parameters(), layer.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-12, atol=1e-12)


# Strict export traces as test_compile does. What it adds is any batch size, with and without a mask, and kept states.
STRICT = ["coupled", "repeated", "gaps", "another backward, masked"]


@pytest.mark.parametrize(
    ("name", "strict"),
    [(name, False) for name in TRACED] + [(name, True) for name in STRICT],
    ids=lambda value: {True: "strict", False: "non-strict"}.get(value, value),
)
def test_export(name: str, strict: bool) -> None:
    """Written, read back and run on another batch size; states are carried from call to call."""
    if helpers.before(torch, 2, 11 if strict else 6):
        pytest.skip(
            "PyTorch before 2.6 takes no batch size to be dynamic by itself, and before 2.11 strict export fails"
        )
    spec, x, mask = _traced(name)
    layer, masks = _module(spec).eval(), {} if mask is None else {"mask": mask}
    sizes = None if spec.stateful else {n: {0: torch.export.Dim.DYNAMIC} for n in ("x", *masks)}
    program = torch.export.export(_module(spec).eval(), (x,), masks, strict=strict, dynamic_shapes=sizes)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    exported = torch.export.load(file).module()
    rows = slice(0 if spec.stateful else 1, None)
    with torch.no_grad():
        for _ in range(2):
            wanted, states = layer(x[rows], None, None if mask is None else mask[rows])
            got, found = exported(x[rows], **{n: m[rows] for n, m in masks.items()})
            torch.testing.assert_close(got, wanted, rtol=0, atol=1e-14)
            torch.testing.assert_close(found, states, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["another backward, masked", "mul", "reset before", "projected", "gaps, go backwards"])
def test_gradients(name: str) -> None:
    """Those of autograd are those of finite differences, for the input, the states and every parameter."""
    options = {"input_size": 2, "hidden_size": 3, "stateful": False, "batch_size": None}
    spec = SPECS[name]
    backward = spec.backward and replace(spec.backward, input_size=2, hidden_size=2)
    proj = 2 if spec.proj_size else 0
    spec = replace(spec, backward=backward, proj_size=proj, num_layers=min(spec.num_layers, 2), **options)
    module = _module(spec)
    random = torch.Generator().manual_seed(74)
    names, parameters = zip(*module.named_parameters(), strict=True)
    slots = helpers.state_shapes(spec, 2)
    states = [torch.rand(shape, generator=random).double() for shape in slots.values()]
    mask = torch.tensor([[True, False, True], [False, True, True]]) if spec.mask else None
    x = torch.randn(2, 3, 2, generator=random, dtype=torch.float64)

    def function(x: torch.Tensor, *rest: torch.Tensor) -> tuple[torch.Tensor, ...]:
        state = dict(zip(slots, rest, strict=False))
        held = dict(zip(names, rest[len(slots) :], strict=True))
        out, final = torch.func.functional_call(module, held, (x, state, mask))
        return (out, *final.values())

    leaves = [t.detach().clone().requires_grad_() for t in (x, *states, *parameters)]
    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("name", ["reset before", "gaps", "another backward", "recurrent dropout", "stateful", "sum"])
def test_training_lowers_the_loss(name: str) -> None:
    torch.manual_seed(75)
    spec = SPECS[name]
    layer = xframe.torch.Recurrent(spec)
    x, _, mask = _tensors(_given(spec, "float32"))
    target = 0.3 * torch.randn(BATCH, STEPS, spec.output_size)
    optimizer = torch.optim.Adam(layer.parameters(), 0.02)

    def loss() -> torch.Tensor:
        return torch.nn.functional.mse_loss(layer(x, None, mask)[0], target)

    before = loss().item()
    for _ in range(30):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.any() for p in layer.parameters())
    assert layer.eval()(x, None, mask)[0].isfinite().all()
    assert loss().item() < 0.7 * before


@pytest.mark.parametrize("name", ["another backward, masked", "projected", "activation"])
def test_state_dict_copy_and_pickle(name: str) -> None:
    spec = SPECS[name]
    layer, given = _module(spec), _given(spec)
    other = xframe.torch.Recurrent(spec, dtype=torch.float64)
    assert other.load_state_dict(layer.state_dict()) is not None
    for twin in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert twin.spec == spec
        _judge(spec, given, "float64", _run(twin, given))
    assert str(spec) in repr(layer)


def test_devices_and_types() -> None:
    layer = xframe.torch.Recurrent(SPECS["stateful"], device="meta", dtype=torch.float16)
    tensors = [*layer.parameters(), *layer.buffers()]
    assert {(t.device.type, t.dtype) for t in tensors} == {("meta", torch.float16)}
    out, _ = layer(torch.empty(BATCH, STEPS, FEATURES, device="meta", dtype=torch.float16))
    assert out.is_meta
    assert out.shape == (BATCH, STEPS, UNITS)
    with pytest.raises(SpecError, match="meta device"):
        ADAPTER.run(layer, _given(SPECS["stateful"]).x)


def test_initial_weights_of_stacked_cells() -> None:
    """Each by its own number of units: 1/10 for 100, 1/2 for 4."""
    layer = ADAPTER.build(Recurrent("rnn", 3, 100, go_backwards=True, stacked=(Recurrent("rnn", 100, 4),)))
    bounds = {name: p.abs().max().item() for name, p in layer.named_parameters()}
    assert 0.09 < bounds["weight_hh_l0"] <= 0.1
    assert 0.4 < bounds["weight_ih_l1"] <= 0.5


def test_initial_weights() -> None:
    """U(-1/sqrt(n), 1/sqrt(n)), with the n of each direction."""
    torch.manual_seed(76)
    spec = Recurrent("lstm", 50, 16, bidirectional=True, backward=Recurrent("lstm", 50, 100))
    for name, p in xframe.torch.Recurrent(spec).named_parameters():
        bound = 0.1 if name.endswith("_reverse") else 0.25
        assert p.abs().max() <= bound
        if p.numel() > 1000:
            assert p.abs().max() > 0.99 * bound
            assert abs(p.std() * 3**0.5 / bound - 1) < 0.05


# ---- Dropout.


def _plain_rnn(**options: Any) -> xframe.torch.Recurrent:
    """h' = x + h, elsewhere: kernels one on the diagonal, no biases, no activation; in training mode."""
    torch.manual_seed(77)
    layer = xframe.torch.Recurrent(Recurrent("rnn", 8, 8, bias=False, activation="linear", **options))
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.eye(8))
    return layer


@pytest.mark.parametrize("rate", [0.25, 0.6])
def test_input_dropout_is_one_mask_for_all_time_steps(rate: float) -> None:
    layer = _plain_rnn(input_dropout=rate)
    with torch.no_grad():
        layer.weight_hh_l0.zero_()
    out, _ = layer(torch.ones(2000, STEPS, 8))
    kept = out[:, 0] != 0
    assert torch.equal(out, out[:, :1].expand_as(out))
    assert torch.allclose(out[:, 0][kept], torch.tensor(1 / (1 - rate)))
    assert abs(kept.float().mean() - (1 - rate)) < 0.02
    assert abs(kept.float().mean(0) - (1 - rate)).max() < 0.06  # every feature by itself
    assert kept.any(1).sum() > 1500
    assert not torch.equal(layer(torch.ones(2000, STEPS, 8))[0], out)
    assert torch.equal(layer.eval()(torch.ones(3, STEPS, 8))[0], torch.ones(3, STEPS, 8))


@pytest.mark.parametrize("rate", [0.25, 0.6])
def test_recurrent_dropout_is_one_mask_for_all_time_steps(rate: float) -> None:
    layer = _plain_rnn(recurrent_dropout=rate)
    out, _ = layer(torch.zeros(2000, STEPS, 8), {"h": torch.ones(1, 1, 2000, 8)})
    kept = out[:, 0] != 0
    powers = (1 / (1 - rate)) ** torch.arange(1.0, STEPS + 1)
    assert torch.allclose(out, kept[:, None] * powers[:, None])
    assert abs(kept.float().mean() - (1 - rate)) < 0.02
    with torch.no_grad():
        still = layer.eval()(torch.zeros(3, STEPS, 8), {"h": torch.ones(1, 1, 3, 8)})[0]
    assert torch.equal(still, torch.ones(3, STEPS, 8))


@pytest.mark.parametrize(("recurrent", "kept"), [(0.0, 0.5), (0.5, 0.25)])
def test_gates_share_the_mask_of_the_input_unless_there_is_recurrent_dropout(recurrent: float, kept: float) -> None:
    """c = i g with i = x m_i and g = x m_g: one mask keeps half of it, two keep a quarter."""
    torch.manual_seed(78)
    linear: dict[str, Any] = {"activation": "linear", "recurrent_activation": "linear", "bias": False}
    layer = xframe.torch.Recurrent(Recurrent("lstm", 8, 8, input_dropout=0.5, recurrent_dropout=recurrent, **linear))
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.eye(8).repeat(4, 1))
        _, states = layer(torch.ones(2000, 1, 8))
    assert abs((states["c"] != 0).float().mean() - kept) < 0.02
    assert torch.allclose(states["c"][states["c"] != 0], torch.tensor(4.0))


@pytest.mark.parametrize("reset_after", [True, False])
def test_recurrent_dropout_acts_in_products_only(reset_after: bool) -> None:
    """With z = 1 a GRU keeps its state, dropout or not; with z = 0 and U = 1 the candidate has the mask."""
    torch.manual_seed(79)
    options: dict[str, Any] = {"activation": "linear", "recurrent_activation": "linear", "reset_after": reset_after}
    layer = xframe.torch.Recurrent(Recurrent("gru", 8, 8, recurrent_dropout=0.5, **options))
    state = {"h": torch.ones(1, 1, 500, 8)}
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
        layer.bias_ih_l0[:16] = 1
        assert torch.equal(layer(torch.ones(500, STEPS, 8), state)[1]["h"], state["h"])
        layer.bias_ih_l0[8:16] = 0
        layer.weight_hh_l0[16:] = torch.eye(8)
        h = layer(torch.ones(500, 1, 8), state)[1]["h"]
    assert set(h.unique().tolist()) == {0.0, 2.0}
    assert abs((h != 0).float().mean() - 0.5) < 0.04


def test_each_direction_and_layer_draws_for_itself() -> None:
    layer = _plain_rnn(input_dropout=0.5, bidirectional=True)
    with torch.no_grad():
        layer.weight_hh_l0.zero_()
        layer.weight_hh_l0_reverse.zero_()
        forward, backward = layer(torch.ones(500, 2, 8))[0].chunk(2, -1)
    assert abs((forward == backward).float().mean() - 0.5) < 0.05


def test_dropout_between_layers() -> None:
    """Each time step by itself, and not after the last layer, as in torch.nn.LSTM."""
    layer = _plain_rnn(dropout=0.5, num_layers=2)
    with torch.no_grad():
        for name, p in layer.named_parameters():
            if "hh" in name:
                p.zero_()
        out, states = layer(torch.ones(1000, 3, 8))
    assert set(out.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(states["h"][0], torch.ones(1, 1000, 8))
    assert abs((out[:, 0] == out[:, 1]).float().mean() - 0.5) < 0.03


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_dropout_of_a_fused_layer(kind: str) -> None:
    """It does nothing at inference, whatever mode the layer is in; with one layer it is none at all."""
    layer = getattr(torch.nn, kind)(FEATURES, UNITS, 2, dropout=0.5, dtype=torch.float64).train()
    spec = ADAPTER.spec(layer)
    assert spec.dropout == 0.5
    ADAPTER.load(layer, _weights(spec))
    _judge(spec, _given(spec), "float64", _run(layer, _given(spec)))
    assert layer.training
    assert ADAPTER.clone(layer, "float32").dropout == 0.5
    with pytest.warns(UserWarning, match="dropout"):
        single = getattr(torch.nn, kind)(FEATURES, UNITS, dropout=0.5)
    assert ADAPTER.spec(single).dropout == 0
    x = torch.randn(STEPS, BATCH, FEATURES)
    assert torch.equal(single.train()(x)[0], single(x)[0])
    with pytest.raises(UnsupportedError, match=f"torch.nn.{kind} is not modelled: dropout must be a rate"):
        ADAPTER.spec(getattr(torch.nn, kind)(FEATURES, UNITS, 2, dropout=1.0))


def test_cloning_keeps_what_the_spec_does_not_say() -> None:
    for batch_first in (True, False):
        layer = torch.nn.LSTM(FEATURES, UNITS, batch_first=batch_first)
        assert ADAPTER.clone(layer, "float64").batch_first is batch_first
    plain = xframe.torch.Recurrent(_spec("lstm"))
    assert type(ADAPTER.clone(plain, "float32")) is xframe.torch.Recurrent


# ---- Mistakes are seen.


def _swapped(given: Given) -> Given:
    return replace(given, state={"h": given.state["c"], "c": given.state["h"]})


MISTAKES: dict[str, tuple[str, Callable[[Given], Given]]] = {
    "mask ignored": ("lstm packed", lambda g: replace(g, mask=None)),
    "length one too large": (
        "lstm packed",
        lambda g: replace(g, mask=np.arange(STEPS) < RIGHT.sum(1, keepdims=True) + 1),
    ),
    "length one too small": (
        "gru packed",
        lambda g: replace(g, mask=np.arange(STEPS) < np.maximum(RIGHT.sum(1, keepdims=True) - 1, 1)),
    ),
    "h and c swapped": ("lstm packed", _swapped),
    "states not given": ("rnn packed", lambda g: replace(g, state=None)),
    "mask of a module ignored": ("gaps", lambda g: replace(g, mask=None)),
    "left for right": ("gaps", lambda g: replace(g, mask=g.mask[:, ::-1].copy())),
    "mask off by one": ("gaps in a stack", lambda g: replace(g, mask=np.roll(g.mask, 1, axis=1))),
    "h and c swapped in a module": ("gaps", _swapped),
    "states not carried": ("stateful", lambda g: replace(g, before=None)),
    "states carried from elsewhere": ("stateful", lambda g: replace(g, before=replace(g.before, x=g.x))),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@dtypes
def test_mistakes_with_masks_and_states_are_seen(mistake: str, dtype: str) -> None:
    name, change = MISTAKES[mistake]
    spec, given = SPECS[name], _given(SPECS[name], dtype)
    assert helpers.worst(spec, _weights(spec, dtype), given, dtype, _run(_loaded(spec, dtype), change(given))) > 1000


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("sum", {"merge_mode": "ave"}),
        ("gaps", {"masked_output": "zero"}),
        ("gaps in a stack", {"masked_output": "repeat"}),
        ("go backwards", {"go_backwards": False}),
        ("both go backwards", {"go_backwards": False}),
        ("gates", {"recurrent_activation": "hard_sigmoid"}),
        ("lstm gelu", {"activation": "silu"}),
        ("coupled gru before", {"reset_after": True}),
    ],
)
def test_mistakes_in_options_are_seen(name: str, wrong: dict[str, Any]) -> None:
    spec, given = SPECS[name], _given(SPECS[name])
    got = _run(_module(replace(spec, **wrong)), given)
    assert helpers.worst(spec, _weights(spec, "float64"), given, "float64", got) > 1000


# ---- What is refused.


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("lstm packed", {"mask": ANY}, "padding on the right only .* use xframe.torch.Recurrent with mask='any'"),
        ("repeated", {"mask": ANY}, "padding on the right only"),
        ("lstm cell", {"mask": RIGHT}, "torch.nn.LSTMCell takes no mask"),
    ],
)
def test_masks_that_a_layer_cannot_take(name: str, change: dict[str, Any], words: str) -> None:
    spec = SPECS[name]
    with pytest.raises(UnsupportedError, match=words):
        _run(_loaded(spec), replace(_given(spec), **change))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("lstm packed", {"mask": RIGHT[:, 1:]}, "A mask must be"),
        ("lstm packed", {"mask": RIGHT.astype(int)}, "type bool"),
        ("gaps", {"mask": ANY.T}, "A mask must be"),
        ("gaps", {"mask": ANY.tolist()}, "must be a NumPy array of type bool"),
        ("stateful", {"mask": RIGHT}, "This layer takes no mask"),
        ("gaps", {"state": {"h": np.zeros((1, 1, BATCH, UNITS))}}, "states of .* are h and c, not h"),
        (
            "gaps",
            {"state": {"h": np.zeros((1, 2, BATCH, UNITS)), "c": np.zeros((1, 1, BATCH, UNITS))}},
            "State h must be",
        ),
        ("stateful", {"x": np.zeros((BATCH - 1, STEPS, FEATURES))}, f"keeps states for a batch of {BATCH}"),
    ],
)
def test_what_run_refuses(name: str, change: dict[str, Any], words: str) -> None:
    spec = SPECS[name]
    with pytest.raises(SpecError, match=words):
        _run(_loaded(spec), replace(_given(spec), before=None, **change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, s, m: (x[..., 1:], s, m), "with 7 features"),
        (lambda x, s, m: (x[:, :0], s, m), "x must be"),
        (lambda x, s, m: (x[None], s, m), "x must be"),
        (lambda x, s, m: (x.float(), s, m), "x must be of the parameters' type, torch.float64, not torch.float32"),
        (lambda x, s, m: (x, {"h": s["h"]}, m), "are h and c, not h"),
        (lambda x, s, m: (x, {**s, "c": s["c"].float()}, m), "c must be of the parameters' type"),
        (
            lambda x, s, m: (x, {**s, "c": s["c"][0]}, m),
            r"State c must be \(layers, directions, batch, size\) = \(1, 1, 4, 9\)",
        ),
        (lambda x, s, m: (x[0], s, m[0]), r"State h must be \(layers, directions, size\) = \(1, 1, 9\)"),
        (lambda x, s, m: (x, s, m.float()), "type torch.bool"),
        (lambda x, s, m: (x, s, m.T), r"A mask for this x must be \(4, 6\), not \(6, 4\)"),
        (lambda x, s, m: (x[0], None, m), r"A mask for this x must be \(6,\), not \(4, 6\)"),
    ],
)
def test_what_the_module_refuses(change: Callable[..., Any], words: str) -> None:
    spec = SPECS["gaps"]
    with pytest.raises(SpecError, match=words):
        _module(spec)(*change(*_tensors(_given(spec))))


def test_what_a_stateful_module_refuses() -> None:
    layer, x = _module(SPECS["stateful"]), torch.zeros(BATCH, STEPS, FEATURES, dtype=torch.float64)
    for wrong in (x[1:], x[0]):
        with pytest.raises(SpecError, match="keeps states for a batch of 4"):
            layer(wrong)
    with pytest.raises(SpecError, match="takes no mask"):
        layer(x, None, torch.ones(BATCH, STEPS, dtype=torch.bool))


def test_what_is_no_spec_of_a_module() -> None:
    with pytest.raises(SpecError, match=r"takes an xframe\.Recurrent, not 'lstm'"):
        xframe.torch.Recurrent("lstm")
    with pytest.raises(SpecError, match="form='layer'"):
        xframe.torch.Recurrent(_spec("lstm", form="cell"))


def test_the_spec_for_masks() -> None:
    """What a layer does with masks that it will be given, or that it cannot take them."""
    with pytest.raises(UnsupportedError, match=r"torch\.nn\.GRU takes masks as packed sequences.*use xframe\.torch"):
        ADAPTER.spec(torch.nn.GRU(3, 2), "any")
    with pytest.raises(UnsupportedError, match=r"torch\.nn\.GRUCell takes no mask"):
        ADAPTER.spec(torch.nn.GRUCell(3, 2), "right")
    with pytest.raises(UnsupportedError, match=r"torch\.nn\.Linear is dense and takes no mask"):
        ADAPTER.spec(torch.nn.Linear(3, 2), "right")
    with pytest.raises(UnsupportedError, match=r"torch\.nn\.Linear is dense and takes no mask"):
        ADAPTER.run(torch.nn.Linear(3, 2), np.ones((2, 3)), mask=np.ones((2, 3), bool))
    spec = _spec("lstm", mask="any")
    assert ADAPTER.spec(ADAPTER.build(spec), "right") == replace(spec, mask="right")
    for spec, words in (
        (_spec("lstm", mask="right"), "masks 'right' only"),
        (_spec("lstm", activation="relu"), "no mask"),
    ):
        with pytest.raises(UnsupportedError, match=f"takes {words}; build it from a spec with mask='any'"):
            ADAPTER.spec(ADAPTER.build(spec), "any")


@pytest.mark.parametrize("name", ["gaps", "lstm packed", "lstm cell"])
def test_hooks_and_subclasses_are_refused(name: str) -> None:
    layer = ADAPTER.build(SPECS[name])
    kind = type(layer)
    handle = layer.register_forward_hook(lambda *a: None)
    with pytest.raises(UnsupportedError, match=f"forward hooks of this .*{kind.__name__} are not modelled"):
        ADAPTER.spec(layer)
    handle.remove()
    layer.__class__ = type("Mine", (kind,), {})
    with pytest.raises(UnsupportedError, match=r"Mine is not modelled; the layers are .*xframe\.torch\.Recurrent"):
        ADAPTER.spec(layer)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_plain_cell_runs_on_pytorchs_own_kernels(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merged by a sum, which PyTorch's layers cannot do; the numbers and the gradients are those of their halves."""
    spec = Recurrent(cell, 3, 5, bidirectional=True, merge_mode="sum")
    module = xframe.torch.Recurrent(spec, dtype=torch.float64)
    own = get_adapter("torch").build(replace(spec, merge_mode="concat"), "float64")
    own.load_state_dict(module.state_dict())
    name = "rnn_tanh" if cell == "rnn" else cell
    calls, function = [], getattr(torch, name)
    monkeypatch.setattr(torch, name, lambda *given: calls.append(given) or function(*given))
    x = torch.as_tensor(np.random.default_rng(4).normal(size=(2, 6, 3)))
    out, _ = module(x)
    assert len(calls) == 2, "one call for each direction"
    both = own(x)[0]
    assert torch.allclose(out, both[..., :5] + both[..., 5:], rtol=0, atol=1e-14)
    mixed = torch.as_tensor(np.random.default_rng(5).normal(size=(2, 6, 5)))
    (out * mixed).sum().backward()
    ((both[..., :5] + both[..., 5:]) * mixed).sum().backward()
    for mine, theirs in zip(module.parameters(), own.parameters(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad, rtol=0, atol=1e-12)
    calls.clear()
    masked = xframe.torch.Recurrent(replace(spec, mask="any"), dtype=torch.float64)
    masked(x, mask=torch.ones(2, 6, dtype=torch.bool))
    assert not calls, "a mask needs the loop"


@pytest.mark.parametrize(
    "spec",
    [
        Recurrent("lstm", FEATURES, UNITS, num_layers=2, bidirectional=True, proj_size=4),
        Recurrent("gru", FEATURES, UNITS),
        Recurrent("rnn", FEATURES, UNITS, form="cell"),
        Recurrent("lstm", FEATURES, UNITS, form="cell"),
        Recurrent("gru", FEATURES, UNITS, reset_after=False, mask="any"),
    ],
    ids=str,
)
@pytest.mark.parametrize("batch_first", [True, False])
def test_one_sequence_by_itself(spec: Recurrent, batch_first: bool) -> None:
    """PyTorch takes x without a batch axis: the numbers are those of a batch of one."""
    adapter = get_adapter("torch")
    layer = adapter.build_loaded(spec, helpers.weights(spec, 71), "float64")
    if hasattr(layer, "batch_first"):
        layer.batch_first = batch_first
    x, state = helpers.signal(spec, 71), helpers.start(spec, 71)
    alone = adapter.run(layer, x[0], {name: value[:, :, 0] for name, value in state.items()})
    named = {name: np.expand_dims(value, noise.batch_axis(name)) for name, value in alone.named().items()}
    helpers.judge(
        spec, helpers.weights(spec, 71), Given(x[:1], {n: v[:, :, :1] for n, v in state.items()}), "float64", named
    )


def test_one_sequence_by_itself_cannot_be_packed() -> None:
    with pytest.raises(UnsupportedError, match="give x a batch axis"):
        get_adapter("torch").run(torch.nn.LSTM(3, 4), np.ones((5, 3), np.float32), None, np.ones(5, bool))
