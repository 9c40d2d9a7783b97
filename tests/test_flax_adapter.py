"""Flax's own: layers that people make with nnx and linen, what is refused, and what Flax does otherwise than one might think."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import helpers
import numpy as np
import pytest
from helpers import BATCH, FEATURES, LAYERS, LAYERS_BY_NAME, STEPS, UNITS

from xframe import reference
from xframe.adapters import adapter_of, get_adapter
from xframe.adapters._jax import FUNCTIONS, PARTIAL
from xframe.arithmetic import Plain
from xframe.errors import LayoutError, SpecError, UnsupportedError
from xframe.layout import Key
from xframe.reference import Given, Outputs
from xframe.spec import Dense, Recurrent

# JAX compiles for each of the layers here; what every framework must do is in test_adapters.py, and quick.
pytestmark = pytest.mark.slow

BOTH = ("flax", "flax-linen")
LENGTHS = np.array([4, STEPS, 1, 3])
MASK = np.arange(STEPS) < LENGTHS[:, None]


class Flax:
    """The libraries, once the registry has imported them."""

    def __init__(self, name: str) -> None:
        self.name, self.adapter = name, get_adapter(name)
        import jax
        from flax import linen, nnx

        self.jax, self.jnp, self.nnx, self.linen = jax, jax.numpy, nnx, linen
        self.home = nnx if name == "flax" else linen

    def cell(self, kind: str, d: int = FEATURES, n: int = UNITS, dtype: str = "float64", **options: Any) -> Any:
        """A cell as the user makes it; to be called where float64 is on."""
        kind_of = getattr(self.jnp, dtype)
        options = {"dtype": kind_of, "param_dtype": kind_of, **options}
        if self.name == "flax":
            return getattr(self.nnx, kind)(d, n, rngs=self.nnx.Rngs(3), **options)
        return getattr(self.linen, kind)(n, **options)

    def with_weights(self, module: Any, d: int = FEATURES, dtype: str = "float64", **call: Any) -> Any:
        """What is given to xframe: the module itself, or with variables as its own init makes them, still zero."""
        if self.name == "flax":
            return module
        shapes = self.jax.eval_shape(module.init, self.jax.random.key(5), self.jnp.zeros((2, 2, d), dtype), **call)
        return module, self.jax.tree.map(lambda a: self.jnp.asarray(np.zeros(a.shape, a.dtype)), shapes)

    def own(self, layer: Any, x: np.ndarray, **call: Any) -> Any:
        """The user's own call."""
        if self.name == "flax":
            return layer(self.jnp.asarray(x), **call)
        module, variables = layer
        return module.apply(variables, self.jnp.asarray(x), **call)


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.needs(name)) for name in BOTH])
def flax(request: pytest.FixtureRequest) -> Flax:
    return Flax(request.param)


@pytest.fixture
def nnx() -> Flax:
    return Flax("flax")


@pytest.fixture
def linen() -> Flax:
    return Flax("flax-linen")


def fitting(spec: Any, seed: int = 0, dtype: str = "float64") -> helpers.Blocks:
    """Weights that nnx.GRUCell has a place for."""
    found = helpers.weights(spec, seed, dtype)
    return {k: b * 0 if k.role == "recurrent_bias" and k.gate == "n" else b for k, b in found.items()}


def own_outputs(spec: Recurrent, carry: Any, y: Any) -> Outputs:
    """The user's own results by name: Flax carries (c, h)."""
    y = np.asarray(y)
    ends = list(carry) if spec.bidirectional else [carry]
    if spec.cell == "lstm":
        states = {"h": np.stack([h for _, h in ends])[None], "c": np.stack([c for c, _ in ends])[None]}
    else:
        states = {"h": np.stack(ends)[None]}
    return Outputs(y, np.concatenate(list(states["h"][0]), axis=-1), states)


def carried(spec: Recurrent, state: Mapping[str, np.ndarray]) -> Any:
    """Initial states as Flax takes them."""
    each = [
        (state["c"][0, d], state["h"][0, d]) if spec.cell == "lstm" else state["h"][0, d]
        for d in range(spec.num_directions)
    ]
    return tuple(each) if spec.bidirectional else each[0]


CELLS = {"SimpleCell": "rnn", "LSTMCell": "lstm", "OptimizedLSTMCell": "lstm", "GRUCell": "gru"}


# ---- Layers that people make.


@pytest.mark.parametrize(
    ("kind", "options", "spec_options"),
    [
        *((kind, {}, {}) for kind in CELLS),
        ("LSTMCell", {"time_major": True}, {}),
        ("LSTMCell", {"return_carry": True}, {}),
        ("GRUCell", {"unroll": 4}, {}),
        ("GRUCell", {"keep_order": True}, {}),
        *((kind, {"reverse": True}, {"go_backwards": True}) for kind in CELLS),
        ("LSTMCell", {"reverse": True, "time_major": True}, {"go_backwards": True}),
    ],
    ids=lambda v: "-".join(v) or "plain" if isinstance(v, dict) else v,
)
def test_an_rnn_of_the_users(flax: Flax, kind: str, options: dict[str, Any], spec_options: dict[str, Any]) -> None:
    """Read, loaded and run by xframe; and what the user's own call gives, from states that he gives."""
    adapter = flax.adapter
    with flax.jax.enable_x64(True):
        layer = flax.with_weights(flax.home.RNN(flax.cell(kind), **options))
    spec = Recurrent(CELLS[kind], FEATURES, UNITS, **spec_options)
    assert adapter_of(layer) is adapter
    assert adapter.spec(layer) == spec
    assert adapter.dtype(layer) == "float64"
    blocks, x, state = fitting(spec, 71), helpers.signal(spec, 71), helpers.start(spec, 71)
    adapter.load(layer, blocks)
    helpers.judge(spec, blocks, Given(x, state), "float64", adapter.run(layer, x, state))
    turned = options.get("time_major", False)
    with flax.jax.enable_x64(True):
        carry, y = flax.own(
            layer, x.swapaxes(0, 1) if turned else x, initial_carry=carried(spec, state), return_carry=True
        )
    y = np.asarray(y).swapaxes(0, 1) if turned else y
    helpers.judge(spec, blocks, Given(x, state), "float64", own_outputs(spec, carry, y))
    # Without states, Flax begins with zeros of its own making.
    with flax.jax.enable_x64(True):
        first = flax.own(layer, x.swapaxes(0, 1) if turned else x, return_carry=True)
    y = np.asarray(first[1]).swapaxes(0, 1) if turned else first[1]
    helpers.judge(spec, blocks, Given(x), "float64", own_outputs(spec, first[0], y))
    twin = adapter.clone(layer, "float64")
    helpers.judge(spec, blocks, Given(x, state), "float64", adapter.run(twin, x, state))


@pytest.mark.parametrize(
    ("kind", "options", "inner"),
    [
        *((kind, {}, {}) for kind in CELLS),
        ("LSTMCell", {"time_major": True}, {}),
        ("LSTMCell", {"return_carry": True}, {}),
        ("LSTMCell", {}, {"reverse": True}),
        ("LSTMCell", {}, {"reverse": True, "keep_order": True}),
        ("LSTMCell", {}, {"time_major": True}),
    ],
    ids=lambda v: "-".join(v) or "plain" if isinstance(v, dict) else v,
)
def test_a_bidirectional_of_the_users(flax: Flax, kind: str, options: dict[str, Any], inner: dict[str, Any]) -> None:
    """It turns the output of the backward RNN back, whatever reverse, keep_order and time_major its RNNs have themselves."""
    spec = Recurrent(CELLS[kind], FEATURES, UNITS, bidirectional=True)
    blocks, x, state = fitting(spec, 72), helpers.signal(spec, 72), helpers.start(spec, 72)
    with flax.jax.enable_x64(True):
        rnns = [flax.home.RNN(flax.cell(kind), **inner) for _ in range(2)]
        layer = flax.with_weights(flax.home.Bidirectional(*rnns, **options))
    assert flax.adapter.spec(layer) == spec
    flax.adapter.load(layer, blocks)
    helpers.judge(spec, blocks, Given(x, state), "float64", flax.adapter.run(layer, x, state))
    turned = options.get("time_major", False)
    with flax.jax.enable_x64(True):
        given = x.swapaxes(0, 1) if turned else x
        carry, y = flax.own(layer, given, initial_carry=carried(spec, state), return_carry=True)
    y = np.asarray(y).swapaxes(0, 1) if turned else y
    helpers.judge(spec, blocks, Given(x, state), "float64", own_outputs(spec, carry, y))


def test_two_directions_that_differ(flax: Flax) -> None:
    """Another cell of another size backwards, which Flax concatenates all the same."""
    spec = Recurrent("lstm", FEATURES, UNITS, bidirectional=True, backward=Recurrent("gru", FEATURES, 5))
    with flax.jax.enable_x64(True):
        rnns = flax.home.RNN(flax.cell("LSTMCell")), flax.home.RNN(flax.cell("GRUCell", n=5))
        layer = flax.with_weights(flax.home.Bidirectional(*rnns))
    blocks, x, state = fitting(spec, 73), helpers.signal(spec, 73), helpers.start(spec, 73)
    for one in (layer, flax.adapter.build(spec, "float64")):
        assert flax.adapter.spec(one) == spec
        flax.adapter.load(one, blocks)
        helpers.judge(spec, blocks, Given(x, state), "float64", flax.adapter.run(one, x, state))
    with flax.jax.enable_x64(True):
        y = np.asarray(flax.own(layer, x))
    helpers.judge(spec, blocks, Given(x), "float64", {**flax.adapter.run(layer, x).named(), "sequence": y})


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("kind", ["lstm", "rnn"])
def test_a_stack_of_the_users(flax: Flax, kind: str, backwards: bool) -> None:
    """In a Sequential and in a list: the same numbers, and those that his own Sequential puts out."""
    spec = Recurrent(kind, FEATURES, UNITS, num_layers=LAYERS, go_backwards=backwards)
    layer = flax.adapter.build(spec, "float64")
    assert flax.adapter.spec(layer) == spec
    blocks, x, state = helpers.weights(spec, 74), helpers.signal(spec, 74), helpers.start(spec, 74)
    flax.adapter.load(layer, blocks)
    out = flax.adapter.run(layer, x, state)
    helpers.judge(spec, blocks, Given(x, state), "float64", out)
    with flax.jax.enable_x64(True):
        y = np.asarray(flax.own(layer, x))
    helpers.judge(spec, blocks, Given(x), "float64", {**flax.adapter.run(layer, x).named(), "sequence": y})
    if flax.name == "flax":
        several = list(layer.layers)
    else:
        parts = layer[1]["params"]
        several = [(one, {"params": parts[f"layers_{k}"]}) for k, one in enumerate(layer[0].layers)]
    for listed in (several, tuple(several)):
        assert adapter_of(listed) is flax.adapter
        assert flax.adapter.spec(listed) == spec
        assert helpers.bits(flax.adapter.run(listed, x, state).named()) == helpers.bits(out.named())
        # They are the user's own arrays: what is written to the list is in the stack.
        flax.adapter.load(listed, helpers.whole_numbers(spec, 75))
        helpers.assert_same_numbers(flax.adapter.parameters(layer), flax.adapter.parameters(listed))
        flax.adapter.load(layer, blocks)
    twin = flax.adapter.clone(several, "float32")
    assert flax.adapter.dtype(twin) == "float32"
    assert flax.adapter.dtype(several) == "float64"


@pytest.mark.needs("flax")
def test_the_optimized_cell(nnx: Flax) -> None:
    """nnx.OptimizedLSTMCell keeps its gates in one kernel, i f g o: another packing of the same function."""
    spec = LAYERS_BY_NAME["lstm-bidirectional"]
    with nnx.jax.enable_x64(True):
        rnns = [nnx.nnx.RNN(nnx.cell("OptimizedLSTMCell")) for _ in range(2)]
    layer = nnx.nnx.Bidirectional(*rnns)
    packing, blocks = nnx.adapter.packing_of(layer), helpers.whole_numbers(spec, 76)
    assert (packing.name, packing.title) == ("flax", "Flax nnx")
    assert packing is not nnx.adapter.packing
    assert packing.layer_name(spec) == "flax.nnx.OptimizedLSTMCell"
    nnx.adapter.load(layer, blocks)
    for d, rnn in enumerate(rnns):
        kernel, recurrent, bias = (
            np.asarray(a[...]) for a in (rnn.cell.dense_i.kernel, rnn.cell.dense_h.kernel, rnn.cell.dense_h.bias)
        )
        for i, gate in enumerate("ifgo"):
            columns = slice(i * UNITS, (i + 1) * UNITS)
            assert np.array_equal(kernel[:, columns], blocks[Key(0, d, "kernel", gate)])
            assert np.array_equal(recurrent[:, columns], blocks[Key(0, d, "recurrent_kernel", gate)])
            both = blocks[Key(0, d, "bias", gate)] + blocks[Key(0, d, "recurrent_bias", gate)]
            assert np.array_equal(bias[columns], both)


def test_where_each_gate_is(flax: Flax) -> None:
    """Typed in from Flax's equations: a Dense a gate and side, kernels (in, out); linen's GRU has a second bias."""
    adapter = flax.adapter
    lstm, gru = LAYERS_BY_NAME["lstm"], LAYERS_BY_NAME["gru"]
    blocks = helpers.whole_numbers(lstm, 77)
    layer = adapter.build_loaded(lstm, blocks, "float64")
    for gate in "ifgo":
        inner = {"i": "ii", "f": "if_" if flax.name == "flax" else "if", "g": "ig", "o": "io"}[gate]
        assert np.array_equal(adapter.read(layer)[f"{inner}/kernel"], blocks[Key(0, 0, "kernel", gate)])
        assert np.array_equal(adapter.read(layer)[f"h{gate}/kernel"], blocks[Key(0, 0, "recurrent_kernel", gate)])
        both = blocks[Key(0, 0, "bias", gate)] + blocks[Key(0, 0, "recurrent_bias", gate)]
        assert np.array_equal(adapter.read(layer)[f"h{gate}/bias"], both)
    if flax.name == "flax":
        return
    blocks = helpers.whole_numbers(gru, 78)
    variables = adapter.build_loaded(gru, blocks, "float64")[1]["params"]["cell"]
    assert np.array_equal(variables["hn"]["bias"], blocks[Key(0, 0, "recurrent_bias", "n")])
    assert np.array_equal(variables["in"]["bias"], blocks[Key(0, 0, "bias", "n")])
    assert np.array_equal(variables["iz"]["kernel"], blocks[Key(0, 0, "kernel", "z")])


@pytest.mark.needs("flax", "flax-linen")
def test_a_gru_with_a_recurrent_bias_in_its_candidate(nnx: Flax, linen: Flax) -> None:
    """nnx has no place for it and says who has; linen has."""
    spec = LAYERS_BY_NAME["gru"]
    blocks, x = helpers.weights(spec, 79), helpers.signal(spec, 79)
    layer = nnx.adapter.build(spec, "float64")
    before = helpers.bits(nnx.adapter.read(layer))
    with pytest.raises(
        UnsupportedError, match=r"Flax nnx's GRU has no place for .*gate n.*flax\.linen\.GRUCell has one"
    ):
        nnx.adapter.load(layer, blocks)
    assert helpers.bits(nnx.adapter.read(layer)) == before
    helpers.judge(
        spec, blocks, Given(x), "float64", linen.adapter.run(linen.adapter.build_loaded(spec, blocks, "float64"), x)
    )
    without = fitting(spec, 79)
    nnx.adapter.load(layer, without)
    helpers.judge(spec, without, Given(x), "float64", nnx.adapter.run(layer, x))
    assert helpers.worst(spec, blocks, Given(x), "float64", nnx.adapter.run(layer, x)) > 1000


def test_dense(flax: Flax) -> None:
    spec = Dense(FEATURES, UNITS)
    blocks, x = helpers.weights(spec, 80), helpers.signal(spec, 80)
    layer = flax.adapter.build_loaded(spec, blocks, "float64")
    with flax.jax.enable_x64(True):
        own = np.asarray(flax.own(layer, x))
    helpers.judge(spec, blocks, Given(x), "float64", {"output": own})
    assert np.array_equal(flax.adapter.read(layer)["kernel"], blocks[Key(0, 0, "kernel", "")])


# ---- Functions.


@pytest.mark.parametrize("name", [*FUNCTIONS, *PARTIAL])
def test_functions(flax: Flax, name: str) -> None:
    """Each is JAX's own, is read back, and computes what the reference does: in a layer, as activation and in the gates."""
    with flax.jax.enable_x64(True):
        points = np.linspace(-7, 7, 141).reshape(1, -1)
        got = flax.adapter.functions()[name](points)
    wanted = points.copy()
    Plain().activate(name, wanted.T, out=wanted.T)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)
    for options in (
        {"cell": "rnn", "activation": name},
        {"cell": "lstm", "activation": name},
        {"cell": "gru", "recurrent_activation": name},
    ):
        spec = Recurrent(**{"input_size": FEATURES, "hidden_size": UNITS, **options})
        layer = flax.adapter.build(spec)
        assert flax.adapter.spec(layer) == spec
        assert flax.adapter.spec(flax.adapter.clone(layer, "float64")) == spec


@pytest.mark.parametrize("name", [*FUNCTIONS, *PARTIAL])
def test_functions_in_layers(flax: Flax, name: str) -> None:
    for options in ({"cell": "rnn", "activation": name}, {"cell": "lstm", "recurrent_activation": name}):
        spec = Recurrent(**{"input_size": FEATURES, "hidden_size": UNITS, **options})
        blocks, x = helpers.weights(spec, 81, scale=0.3), helpers.signal(spec, 81, steps=3)
        layer = flax.adapter.build_loaded(spec, blocks, "float64")
        helpers.judge(spec, blocks, Given(x), "float64", flax.adapter.run(layer, x))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda jax: jax.nn.leaky_relu, "leaky_relu is not modelled"),
        (lambda jax: jax.nn.gelu, "gelu is not modelled"),
        (lambda jax: jax.numpy.sin, "sin is not modelled"),
        (lambda jax: partial(jax.nn.leaky_relu, negative_slope=0.3), "is not modelled"),
        (lambda jax: partial(jax.numpy.tanh), "is not modelled"),
        (lambda jax: lambda a: a / 2, "<lambda> is not modelled"),
    ],
)
def test_functions_that_are_refused(flax: Flax, function: Any, words: str) -> None:
    """JAX's leaky_relu has another slope than Keras's, its gelu is an approximation: they must not pass for the same."""
    for option in ("activation_fn", "gate_fn"):
        layer = flax.with_weights(
            flax.home.RNN(flax.cell("LSTMCell", dtype="float32", **{option: function(flax.jax)})), dtype="float32"
        )
        with pytest.raises(UnsupportedError, match=f"{option}=.*{words}"):
            flax.adapter.spec(layer)


def test_what_jax_calls_gelu_and_leaky_relu(nnx: Flax) -> None:
    """JAX's defaults are other functions, by up to 4.7e-4 and by 0.19 |x|."""
    points = np.linspace(-5, 5, 2001).astype(np.float32)
    exact = points.astype(np.float64).reshape(1, -1).copy()
    Plain().activate("gelu", exact.T, out=exact.T)
    apart = np.abs(np.asarray(nnx.jax.nn.gelu(points)) - exact[0]).max()
    assert f"{apart:.1e}" == "4.7e-04"
    assert float(nnx.jax.nn.leaky_relu(np.float32(-1))) == pytest.approx(-0.01)


# ---- Float types.


def test_float64_is_switched_on_for_the_call_only(flax: Flax) -> None:
    """The user's own JAX code in the same process, and in other threads, does not notice."""
    spec, jnp = LAYERS_BY_NAME["lstm-stacked"], flax.jnp
    blocks, x, state = helpers.weights(spec, 82), helpers.signal(spec, 82), helpers.start(spec, 82)

    def untouched() -> None:
        assert not flax.jax.config.jax_enable_x64
        assert jnp.asarray(np.ones(2)).dtype == jnp.ones(2).dtype == "float32"

    untouched()
    layer = flax.adapter.build(spec, "float64")
    untouched()
    flax.adapter.load(layer, blocks)
    untouched()
    assert {a.dtype.name for a in flax.adapter.read(layer).values()} == {"float64"}
    untouched()
    flax.adapter.clone(layer, "float64")
    flax.adapter.clone(layer, "float32")
    flax.adapter.blank(spec, "float64")
    untouched()
    thread = threading.Thread(target=flax.adapter.run, args=(layer, x, state))
    thread.start()
    untouched()
    thread.join()
    helpers.judge(spec, blocks, Given(x, state), "float64", flax.adapter.run(layer, x, state))
    untouched()
    for wrong in (x[:, :, 1:], x[0]):
        with pytest.raises(SpecError):
            flax.adapter.run(layer, wrong)
        untouched()


@pytest.mark.parametrize("kind", [kind for kind in LAYERS_BY_NAME if helpers.has("flax-linen", kind)])
def test_nothing_is_lacking_in_float64(flax: Flax, kind: str) -> None:
    """No constant, carry or product is float32 inside: `lacks` says nothing, for no layer and no type."""
    for dtype in ("float64", "float32", "float16", "bfloat16"):
        assert flax.adapter.lacks(LAYERS_BY_NAME[kind], dtype) == ""


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", CELLS)
def test_initial_weights_of_16_bits(flax: Flax, kind: str, dtype: str) -> None:
    """JAX draws no orthogonal matrix of 16 bits, so Flax builds no such cell but nnx's LSTMCell; xframe rounds float32."""

    def draw() -> None:
        module = flax.home.RNN(flax.cell(kind, dtype=dtype))
        if flax.name == "flax-linen":
            module.init(flax.jax.random.key(0), flax.jnp.zeros((1, 1, FEATURES), dtype))

    if flax.name == "flax" and kind == "LSTMCell":
        draw()
    else:
        with pytest.raises(NotImplementedError, match=f"Unsupported dtype {dtype}"):
            draw()
    spec = Recurrent(CELLS[kind], FEATURES, UNITS)
    layer, wide = flax.adapter.build(spec, dtype), flax.adapter.build(spec)
    assert flax.adapter.dtype(layer) == dtype
    for name, array in flax.adapter.read(layer).items():
        rounded = flax.jnp.asarray(flax.adapter.read(wide)[name]).astype(dtype).astype("float32")
        assert np.array_equal(array, np.asarray(rounded)), name


@pytest.mark.parametrize("kind", CELLS)
def test_inputs_of_another_type(flax: Flax, kind: str) -> None:
    """The first carry has param_dtype, not the type of the input: float64 data on a float32 layer is a TypeError in every cell
    but nnx.SimpleCell, whose dtype is float32 unless it is given: it rounds the data to float32 and says nothing."""
    silent = flax.name == "flax" and kind == "SimpleCell"
    x = helpers.signal(LAYERS_BY_NAME["rnn"], 83)
    with flax.jax.enable_x64(True):
        cell = flax.home.__dict__[kind]
        made = cell(FEATURES, UNITS, rngs=flax.nnx.Rngs(0)) if flax.name == "flax" else cell(UNITS)
        layer = flax.with_weights(flax.home.RNN(made), dtype="float32")
        if silent:
            assert flax.own(layer, x).dtype == "float32"
        else:
            with pytest.raises(TypeError, match="equal types"):
                flax.own(layer, x)
    # xframe gives a layer what it computes in.
    assert flax.adapter.run(layer, x).sequence.dtype == np.float32


@pytest.mark.needs("flax")
def test_the_type_of_a_simple_cell(nnx: Flax) -> None:
    """nnx.SimpleCell(param_dtype=float64) alone stores float64, computes in float32, and cannot be called; it is refused."""
    with nnx.jax.enable_x64(True):
        cell = nnx.nnx.SimpleCell(FEATURES, UNITS, param_dtype=nnx.jnp.float64, rngs=nnx.nnx.Rngs(0))
        layer = nnx.nnx.RNN(cell)
        with pytest.raises(TypeError, match="equal types"):
            layer(nnx.jnp.zeros((2, 3, FEATURES)))
    for use in (nnx.adapter.dtype, nnx.adapter.parameters, lambda m: nnx.adapter.run(m, np.zeros((2, 3, FEATURES)))):
        with pytest.raises(UnsupportedError, match="of type float32 and float64"):
            use(layer)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "bfloat16"}, "bfloat16 and float32"),
        ({"dtype": "float32", "param_dtype": "float16"}, "float16 and float32"),
    ],
)
def test_mixed_float_types(flax: Flax, options: dict[str, Any], words: str) -> None:
    given = {name: getattr(flax.jnp, kind) for name, kind in options.items()}
    given["recurrent_kernel_init"] = flax.jax.nn.initializers.normal()
    kind = flax.home.LSTMCell
    made = kind(FEATURES, UNITS, rngs=flax.nnx.Rngs(0), **given) if flax.name == "flax" else kind(UNITS, **given)
    layer = flax.home.RNN(made)
    if flax.name == "flax-linen":
        layer = layer, flax.adapter.build(LAYERS_BY_NAME["lstm"], options.get("param_dtype", "float32"))[1]
    with pytest.raises(UnsupportedError, match=words):
        flax.adapter.dtype(layer)


def test_weights_that_were_cast(flax: Flax) -> None:
    """A common idiom: all arrays cast, the module left as it is. The first carry keeps param_dtype: two types in one layer."""
    layer = flax.adapter.build(LAYERS_BY_NAME["lstm"])
    if flax.name == "flax":
        graph, state = flax.nnx.split(layer)
        layer = flax.nnx.merge(
            graph, flax.jax.tree.map(lambda a: a.astype("bfloat16") if a.dtype == "float32" else a, state)
        )
    else:
        layer = layer[0], flax.jax.tree.map(lambda a: a.astype("bfloat16"), layer[1])
    with pytest.raises(UnsupportedError, match="bfloat16 and float32"):
        flax.adapter.dtype(layer)


# ---- Masks.


def test_masks_are_refused(flax: Flax) -> None:
    for spec in (LAYERS_BY_NAME["lstm"], LAYERS_BY_NAME["lstm-stacked"]):
        layer = flax.adapter.build(spec)
        for kind in ("right", "any"):
            with pytest.raises(UnsupportedError, match=f"{flax.adapter.title} takes no mask: .*seq_lengths.*padding"):
                flax.adapter.spec(layer, mask=kind)
            with pytest.raises(UnsupportedError, match=f"{flax.adapter.title} has no LSTM with mask='{kind}'"):
                flax.adapter.build(replace(spec, mask=kind))
        with pytest.raises(UnsupportedError, match=r"takes no mask: .*seq_lengths"):
            flax.adapter.run(layer, helpers.signal(spec, 84, "float32"), mask=MASK)
        with pytest.raises(SpecError, match="mask must be"):
            flax.adapter.spec(layer, mask="left")


@pytest.mark.parametrize("ways", [1, 2])
def test_what_seq_lengths_does(flax: Flax, ways: int) -> None:
    """The reason: outputs at valid steps and the final carry are right; at padded steps Flax puts out what the cell makes of the
    padding (here up to 0.63, where zeros or a repetition should be); a row of length zero has the carry of the last step."""
    spec = Recurrent("lstm", FEATURES, UNITS, bidirectional=ways == 2)
    blocks, x = helpers.weights(spec, 5), helpers.signal(spec, 5)
    lengths = np.array([4, STEPS, 1, 0])
    mask = np.arange(STEPS) < lengths[:, None]
    layer = flax.adapter.build_loaded(spec, blocks, "float64")
    with flax.jax.enable_x64(True):
        carry, y = flax.own(layer, x, seq_lengths=flax.jnp.asarray(lengths), return_carry=True)
    own = own_outputs(spec, carry, y)
    wanted = reference.run(replace(spec, mask="any", masked_output="zero"), blocks, x, mask=mask)
    masked = replace(spec, mask="any", masked_output="zero")
    valid = {**own.named(), "sequence": np.where(mask[..., None], own.sequence, 0)}
    states = {f"state {n}": np.where(lengths[:, None] > 0, own.states[n], wanted.states[n]) for n in own.states}
    last = np.where(lengths[:, None] > 0, own.last, wanted.last)
    helpers.judge(masked, blocks, Given(x, None, mask), "float64", {**valid, **states, "last": last})
    assert f"{np.abs(own.sequence[~mask]).max():.2f}" == "0.63"
    repeated = reference.run(replace(spec, mask="any", masked_output="repeat"), blocks, x, mask=mask)
    assert np.abs(own.sequence - repeated.sequence).max() > 0.5
    # A row without a step should keep its first state; it gets the last one of all.
    assert not wanted.states["c"][0, 0, 3].any()
    assert f"{np.abs(own.states['c'][0, 0, 3]).max():.2f}" == "1.07"


def test_seq_lengths_backwards(flax: Flax) -> None:
    """With reverse=True each sequence is turned within its own length: its padding stays behind it."""
    spec = Recurrent("lstm", FEATURES, UNITS, go_backwards=True)
    blocks, x = helpers.weights(spec, 5), helpers.signal(spec, 5)
    layer = flax.adapter.build_loaded(spec, blocks, "float64")
    with flax.jax.enable_x64(True):
        carry, y = flax.own(layer, x, seq_lengths=flax.jnp.asarray(LENGTHS), return_carry=True)
    wanted = reference.run(replace(spec, mask="right", masked_output="zero"), blocks, x, mask=MASK)
    # The reference, as Keras, goes through the padding first; Flax's valid outputs stand at the front.
    aligned = np.stack([np.roll(row, length, axis=0) for row, length in zip(wanted.sequence, LENGTHS, strict=True)])
    own = np.where(MASK[..., None], np.asarray(y), 0)
    assert np.abs(own - aligned).max() < 1e-14
    assert np.abs(own - wanted.sequence).max() > 0.5
    assert np.abs(np.asarray(carry[1]) - wanted.states["h"][0, 0]).max() < 1e-14


def test_seq_lengths_that_are_too_long(flax: Flax) -> None:
    """They are taken for the whole length, without a word."""
    spec = LAYERS_BY_NAME["gru"]
    layer, x = flax.adapter.build(spec), helpers.signal(spec, 85, "float32")
    carry, y = flax.own(layer, x, seq_lengths=flax.jnp.asarray([STEPS + 3] * BATCH), return_carry=True)
    assert np.array_equal(carry, np.asarray(y)[:, -1])


# ---- What is refused.


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"activation": "tanh_shrink"}, "LSTM with activation='tanh_shrink'"),
        ({"recurrent_activation": "hard_sigmoid_keras2"}, "LSTM with recurrent_activation='hard_sigmoid_keras2'"),
        ({"bias": False}, "LSTM with bias=False"),
        ({"proj_size": 3}, "LSTM with proj_size=3"),
        ({"bidirectional": True, "go_backwards": True}, "Bidirectional with go_backwards=True"),
        ({"bidirectional": True, "merge_mode": "sum"}, "LSTM with merge_mode='sum'"),
        ({"mask": "right"}, "LSTM with mask='right'"),
        ({"stateful": True, "batch_size": 2}, "LSTM with stateful=True"),
        ({"input_dropout": 0.5}, "LSTM with input_dropout=0.5"),
        ({"recurrent_dropout": 0.5}, "LSTM with recurrent_dropout=0.5"),
        ({"num_layers": 2, "dropout": 0.5}, "LSTM with dropout=0.5"),
        ({"form": "cell"}, "LSTM with form='cell'"),
        ({"stacked": (Recurrent("lstm", UNITS, 5),)}, "LSTM with stacked="),
    ],
)
def test_options_that_flax_has_not(flax: Flax, options: dict[str, Any], words: str) -> None:
    spec = Recurrent("lstm", FEATURES, UNITS, **options)
    for make in (flax.adapter.build, flax.adapter.blank):
        with pytest.raises(UnsupportedError, match=f"{flax.adapter.title} has no {words}"):
            make(spec, "float32")


def test_reverse_with_keep_order(flax: Flax) -> None:
    """It reads time backwards as go_backwards does, and turns its output back, which go_backwards does not."""
    spec = Recurrent("gru", FEATURES, UNITS, go_backwards=True)
    blocks, x = fitting(spec, 86), helpers.signal(spec, 86)
    layer = flax.adapter.build_loaded(spec, blocks, "float64")
    with flax.jax.enable_x64(True):
        kept = np.asarray(flax.own(layer, x, keep_order=True))
    out = flax.adapter.run(layer, x).named()
    helpers.judge(spec, blocks, Given(x), "float64", {**out, "sequence": kept[:, ::-1]})
    assert helpers.worst(spec, blocks, Given(x), "float64", {**out, "sequence": kept}) > 1000
    layer = flax.with_weights(
        flax.home.RNN(flax.cell("GRUCell", dtype="float32"), reverse=True, keep_order=True), dtype="float32"
    )
    with pytest.raises(
        UnsupportedError, match=r"reverse=True and keep_order=True.*turns its output back.*keep_order=False"
    ):
        flax.adapter.spec(layer)


def refusals(f: Flax) -> dict[str, tuple[Callable[[], Any], str]]:
    """Layers that are refused, and what must be said of them."""
    home, cell = f.home, partial(f.cell, dtype="float32")
    both = partial(f.with_weights, dtype="float32")
    one = home.RNN(cell("GRUCell"))
    mine = type("Mine", (home.RNN,), {})
    odd = type("MyCell", (home.LSTMCell,), {})
    small = {"d": FEATURES, "n": 5} if f.name == "flax" else {"n": 5}
    chain = (lambda *parts: home.Sequential(*parts)) if f.name == "flax" else (lambda *parts: home.Sequential(parts))
    again = {"d": UNITS} if f.name == "flax" else {}
    make = partial(odd, FEATURES, UNITS, rngs=f.nnx.Rngs(0)) if f.name == "flax" else partial(odd, UNITS)
    return {
        "subclass": (lambda: both(mine(cell("GRUCell"))), "Mine is not modelled"),
        "cell": (lambda: both(home.RNN(make())), r"RNN of .*MyCell is not modelled; the cells are"),
        "residual": (lambda: both(home.RNN(cell("SimpleCell", residual=True))), "residual=True is not modelled"),
        "carry": (
            lambda: both(home.RNN(cell("GRUCell", carry_init=f.jax.nn.initializers.ones))),
            "carry_init of its own.*initial_carry",
        ),
        "merge": (lambda: both(home.Bidirectional(one, home.RNN(cell("GRUCell")), merge_fn=f.jnp.add)), "merge_fn=add"),
        "other": (lambda: both(chain(one, home.Dropout(0.5, deterministic=True))), "Dropout is not modelled"),
        "sizes": (
            lambda: both(
                chain(one, home.RNN(cell("GRUCell", **({"d": UNITS, "n": 5} if f.name == "flax" else {"n": 5}))))
            ),
            r"Layer 1 of .*GRU\(5\) on 9 features.*not of one kind",
        ),
        "kinds": (lambda: both(chain(one, home.RNN(cell("SimpleCell", **again)))), "not of one kind with layer 0"),
        "ways": (
            lambda: both(
                chain(one, home.Bidirectional(home.RNN(cell("GRUCell", **again)), home.RNN(cell("GRUCell", **again))))
            ),
            "mixes layers of one direction with layers of two",
        ),
        "time_major": (
            lambda: both(chain(one, home.RNN(cell("GRUCell", **again), time_major=True))),
            "mixes time_major=True with time_major=False",
        ),
        "stack of differing directions": (
            lambda: both(
                chain(
                    home.Bidirectional(one, home.RNN(cell("GRUCell", **small))),
                    home.Bidirectional(
                        *(home.RNN(cell("GRUCell", **({"d": UNITS + 5} if f.name == "flax" else {}))) for _ in range(2))
                    ),
                )
            ),
            "not of one kind",
        ),
    }


REFUSED = "subclass, cell, residual, carry, merge, other, sizes, kinds, ways, time_major, stack of differing directions"


@pytest.mark.parametrize("what", REFUSED.split(", "))
@pytest.mark.filterwarnings("ignore:carry_init is provided")
def test_refused(flax: Flax, what: str) -> None:
    make, words = refusals(flax)[what]
    layer = make()
    assert adapter_of(layer) is flax.adapter
    for use in (
        flax.adapter.spec,
        flax.adapter.parameters,
        lambda m: flax.adapter.run(m, helpers.signal(LAYERS_BY_NAME["gru"], 0, "float32")),
    ):
        with pytest.raises(UnsupportedError, match=words):
            use(layer)


@pytest.mark.needs("flax")
def test_what_nnx_refuses(nnx: Flax) -> None:
    own, spec, rngs = nnx.nnx, nnx.adapter.spec, nnx.nnx.Rngs(0)
    one, wider = own.RNN(nnx.cell("GRUCell", dtype="float32")), own.RNN(nnx.cell("GRUCell", dtype="float32"))
    tied = own.RNN(nnx.cell("GRUCell", dtype="float32"))
    tied.cell.dense_i = one.cell.dense_i
    adapted = own.RNN(nnx.cell("GRUCell", dtype="float32"))
    adapted.cell.dense_i = own.LoRALinear(FEATURES, 3 * UNITS, lora_rank=2, rngs=rngs)
    conv = own.RNN(own.Linear(3, 2, rngs=rngs))
    for layer, words in (
        (own.Bidirectional(one, one), "share dense_h/kernel"),
        (own.Bidirectional(one, tied), "share dense_i/"),
        (adapted, "LoRALinear is not modelled"),
        (conv, "RNN of flax.nnx.Linear is not modelled"),
        (nnx.cell("GRUCell", dtype="float32"), r"flax\.nnx\.GRUCell is not modelled"),
        (own.Sequential(), "An empty stack"),
        (own.Sequential(one, nnx.jnp.tanh), "is not modelled"),
        (own.RNN(one.cell, state_axes=own.StateAxes({own.Param: 0})), "state_axes"),
        (own.Linear(3, 2, preferred_element_type=nnx.jnp.float32, rngs=rngs), "preferred_element_type"),
        (own.Linear(3, 2, dot_general=lambda *a, **k: None, rngs=rngs), "dot_general"),
        (own.RNN(nnx.cell("GRUCell", dtype="float32", promote_dtype=lambda a, **k: a)), "promote_dtype"),
        (
            [
                own.RNN(nnx.cell("LSTMCell", dtype="float32")),
                own.RNN(nnx.cell("OptimizedLSTMCell", d=UNITS, dtype="float32")),
            ],
            "one of them",
        ),
        ([one, "two"], "is not modelled"),
    ):
        with pytest.raises(UnsupportedError, match=words):
            spec(layer)
    assert spec(own.Bidirectional(one, wider)).bidirectional
    assert spec(own.Linear(3, 2, precision=nnx.jax.lax.Precision.HIGHEST, rngs=rngs)) == Dense(3, 2)


@pytest.mark.needs("flax")
def test_a_parameter_of_the_users(nnx: Flax) -> None:
    layer = nnx.adapter.build(LAYERS_BY_NAME["lstm"])
    layer.cell.temperature = nnx.nnx.Param(nnx.jnp.ones(1))
    for use in (
        nnx.adapter.parameters,
        lambda m: nnx.adapter.run(m, helpers.signal(LAYERS_BY_NAME["lstm"], 0, "float32")),
    ):
        with pytest.raises(LayoutError, match="'temperature' has no place"):
            use(layer)


@pytest.mark.needs("flax")
def test_abstract_weights(nnx: Flax) -> None:
    """As nnx.eval_shape makes them: shapes without numbers."""
    layer = nnx.nnx.eval_shape(lambda: nnx.nnx.RNN(nnx.cell("GRUCell", dtype="float32")))
    with pytest.raises(SpecError, match=r"holds no numbers"):
        nnx.adapter.parameters(layer)


@pytest.mark.needs("flax")
def test_random_states_stay_where_they_are(nnx: Flax) -> None:
    """A RNN's own calls move its random state on; a run does not."""
    layer = nnx.nnx.Bidirectional(*(nnx.nnx.RNN(nnx.cell("GRUCell", dtype="float32")) for _ in range(2)))

    def counts() -> list[int]:
        return [int(v[...]) for _, v in nnx.nnx.iter_graph(layer) if isinstance(v, nnx.nnx.RngCount)]

    before, x = counts(), helpers.signal(LAYERS_BY_NAME["gru"], 0, "float32")
    assert before == [0, 0, 0]
    nnx.adapter.run(layer, x)
    nnx.adapter.clone(layer, "float64")
    assert counts() == before
    layer(x)
    assert counts() != before


# ---- linen: modules and variables.


@pytest.mark.needs("flax-linen")
def test_a_bound_module(linen: Flax) -> None:
    """Read and run as it is; to be written to, it must be unbound."""
    spec = Recurrent("lstm", FEATURES, UNITS, num_layers=2)
    blocks, x = helpers.weights(spec, 87, "float32"), helpers.signal(spec, 87, "float32")
    module, variables = linen.adapter.build_loaded(spec, blocks, "float32")
    bound = module.bind(variables)
    assert adapter_of(bound) is linen.adapter
    assert linen.adapter.spec(bound) == spec
    helpers.judge(spec, blocks, Given(x), "float32", linen.adapter.run(bound, x))
    with pytest.raises(UnsupportedError, match=r"bound flax\.linen\.Sequential cannot be written to; .*unbind"):
        linen.adapter.load(bound, blocks)
    assert linen.adapter.spec(linen.adapter.clone(bound, "float64")) == spec
    assert linen.adapter.spec(bound.layers[0]) == replace(spec, num_layers=1)


@pytest.mark.needs("flax-linen")
def test_variables_are_the_users(linen: Flax) -> None:
    """What is loaded is in his dictionaries; the arrays that were there are as they were."""
    spec = LAYERS_BY_NAME["gru"]
    module = linen.linen.RNN(linen.linen.GRUCell(UNITS))
    x = helpers.signal(spec, 88, "float32")
    variables = module.init(linen.jax.random.key(0), x)
    old = variables["params"]["cell"]["in"]["kernel"]
    before = np.array(old)
    blocks = helpers.weights(spec, 88, "float32")
    linen.adapter.load((module, variables), blocks)
    assert np.array_equal(np.asarray(variables["params"]["cell"]["in"]["kernel"]), blocks[Key(0, 0, "kernel", "n")])
    assert np.array_equal(old, before)
    own = np.asarray(module.apply(variables, x))
    helpers.judge(
        spec, blocks, Given(x), "float32", {**linen.adapter.run((module, variables), x).named(), "sequence": own}
    )


@pytest.mark.needs("flax-linen")
def test_a_cell_inside_a_model(linen: Flax) -> None:
    """In a compact method, flax keeps the weights of a cell beside those of its RNN, by the cell's own name."""
    nn = linen.linen

    class Tagger(nn.Module):  # type: ignore[misc,name-defined]
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.Dense(3)(nn.RNN(nn.GRUCell(UNITS), name="reader")(x))

    x = helpers.signal(LAYERS_BY_NAME["gru"], 89, "float32")
    params = Tagger().init(linen.jax.random.key(1), x)["params"]
    assert set(params) == {"GRUCell_0", "Dense_0"}
    layer = (nn.RNN(nn.GRUCell(UNITS)), {"params": {"cell": params["GRUCell_0"]}})
    assert linen.adapter.spec(layer) == LAYERS_BY_NAME["gru"]
    dense = (nn.Dense(3), {"params": params["Dense_0"]})
    y = linen.adapter.run(dense, linen.adapter.run(layer, x).sequence.reshape(-1, UNITS)).sequence
    np.testing.assert_allclose(y.reshape(BATCH, STEPS, 3), Tagger().apply({"params": params}, x), rtol=0, atol=1e-5)


@pytest.mark.needs("flax-linen")
def test_what_linen_refuses(linen: Flax) -> None:
    from flax.core import freeze

    nn, jnp = linen.linen, linen.jnp
    spec, load = linen.adapter.spec, linen.adapter.load
    gru = LAYERS_BY_NAME["gru"]
    module, variables = linen.adapter.build(gru)
    cell = nn.GRUCell(UNITS)
    shared = nn.Bidirectional(nn.RNN(cell), nn.RNN(cell))
    same = nn.RNN(cell)
    x = jnp.zeros((2, 2, FEATURES))
    key = linen.jax.random.key(0)
    for layer, error, words in (
        (module, SpecError, r"flax\.linen\.RNN has no weights of its own; give \(module, variables\)"),
        ((module, {"params": {}}), SpecError, "no ir/kernel for flax.linen.GRUCell"),
        ((nn.Dense(3), {"params": {}}), SpecError, "have no kernel"),
        ((shared, {"params": {}}), UnsupportedError, "one cell in both directions"),
        (
            (nn.Bidirectional(same, same), nn.Bidirectional(same, same).init(key, x)),
            UnsupportedError,
            "one cell in both directions",
        ),
        ((cell, variables), UnsupportedError, "GRUCell is not modelled"),
        ((nn.RNN(nn.ConvLSTMCell(2, (2,))), {"params": {}}), UnsupportedError, "ConvLSTMCell is not modelled"),
        ((nn.RNN(nn.MGUCell(2)), {"params": {}}), UnsupportedError, "MGUCell is not modelled"),
        ((nn.RNN(cell, variable_carry="params"), variables), UnsupportedError, "variable_carry of its own"),
        ((nn.Dense(3, dot_general=lambda *a, **k: None), {"params": {}}), UnsupportedError, "dot_general of its own"),
        ((module, variables, 3), UnsupportedError, "RNN|other things"),
    ):
        with pytest.raises(error, match=words):
            spec(layer)
    frozen = (module, freeze(variables))
    assert spec(frozen) == gru
    assert linen.adapter.run(frozen, helpers.signal(gru, 0, "float32")).sequence.shape == (BATCH, STEPS, UNITS)
    with pytest.raises(UnsupportedError, match=r"FrozenDict cannot be written to; give flax\.core\.unfreeze"):
        load(frozen, helpers.weights(gru))
    for extra in (
        {"params": {**variables["params"], "scale": jnp.ones(1)}},
        {**variables, "batch_stats": {"mean": jnp.ones(1)}},
    ):
        with pytest.raises(LayoutError, match=r"(params/scale|batch_stats/mean)' has no place"):
            linen.adapter.parameters((module, extra))
    wrong = (nn.RNN(nn.GRUCell(UNITS - 2)), variables)
    for use in (linen.adapter.parameters, lambda m: linen.adapter.run(m, helpers.signal(gru, 0, "float32"))):
        with pytest.raises(LayoutError, match=r"ir/kernel has shape \(7, 9\), but this layer needs \(7, 7\)"):
            use(wrong)


@pytest.mark.needs("flax-linen")
def test_options_that_cannot_be_hashed(linen: Flax) -> None:
    """linen's documentation gives these as dictionaries; JAX must know the module again all the same."""
    spec = LAYERS_BY_NAME["gru"]
    module = linen.linen.RNN(linen.linen.GRUCell(UNITS), variable_axes={}, split_rngs={"params": False})
    with pytest.raises(TypeError, match="hash"):
        hash(module)
    blocks, x = helpers.weights(spec, 90, "float32"), helpers.signal(spec, 90, "float32")
    layer = linen.with_weights(module, dtype="float32")
    linen.adapter.load(layer, blocks)
    helpers.judge(spec, blocks, Given(x), "float32", linen.adapter.run(layer, x))


# ---- linen's cells under nnx.RNN.


def bridged(f: Flax, kind: str, d: int, dtype: str, base: Any = None) -> Any:
    """A cell of linen for nnx.RNN, which asks a cell for num_feature_axes and initialize_carry: ToNNX has neither."""

    class Cell(f.nnx.bridge.ToNNX):  # type: ignore[misc,name-defined]
        num_feature_axes = 1

        def initialize_carry(self, shape: Any, rngs: Any) -> Any:
            return self.to_nnx__module.initialize_carry(rngs(), shape)

    made = (base or Cell)(f.cell(kind, dtype=dtype), rngs=f.nnx.Rngs(4))
    zero = f.jnp.zeros((1, UNITS), dtype)
    return made.lazy_init((zero, zero) if "LSTM" in kind else zero, f.jnp.zeros((1, d), dtype))


@pytest.mark.needs("flax-linen")
@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("ways", [1, 2])
def test_cells_of_linen_under_nnx(linen: Flax, kind: str, ways: int) -> None:
    spec = Recurrent(CELLS[kind], FEATURES, UNITS, bidirectional=ways == 2, num_layers=2)
    own = linen.nnx
    with linen.jax.enable_x64(True):
        rnns = [own.RNN(bridged(linen, kind, d, "float64")) for d in (FEATURES, UNITS * ways) for _ in range(ways)]
    levels = [own.Bidirectional(*rnns[k : k + 2]) for k in (0, 2)] if ways == 2 else rnns
    layer = own.Sequential(*levels)
    assert adapter_of(layer) is linen.adapter
    assert linen.adapter.spec(layer) == spec
    blocks, x, state = helpers.weights(spec, 91), helpers.signal(spec, 91), helpers.start(spec, 91)
    linen.adapter.load(layer, blocks)
    helpers.judge(spec, blocks, Given(x, state), "float64", linen.adapter.run(layer, x, state))
    with linen.jax.enable_x64(True):
        y = np.asarray(layer(linen.jnp.asarray(x)))
    helpers.judge(spec, blocks, Given(x), "float64", {**linen.adapter.run(layer, x).named(), "sequence": y})
    twin = linen.adapter.clone(layer, "float32")
    assert (linen.adapter.spec(twin), linen.adapter.dtype(twin)) == (spec, "float32")
    assert linen.adapter.dtype(layer) == "float64"
    assert linen.adapter.run(twin, x).sequence.dtype == np.float32


@pytest.mark.needs("flax-linen")
def test_why_a_bridge_needs_a_class_of_its_own(linen: Flax) -> None:
    """ToNNX has no num_feature_axes; set on the object, it is taken for a variable of linen's, and the call fails."""
    own, x = linen.nnx, helpers.signal(LAYERS_BY_NAME["gru"], 92, "float32")
    cell = bridged(linen, "GRUCell", FEATURES, "float32", own.bridge.ToNNX)
    with pytest.raises(AttributeError, match="num_feature_axes"):
        own.RNN(cell)(x, initial_carry=np.zeros((BATCH, UNITS), "float32"))
    # xframe says so in the same way, but needs no first carry from the cell.
    assert linen.adapter.spec(own.RNN(cell)) == LAYERS_BY_NAME["gru"]
    cell.num_feature_axes = 1
    with pytest.raises(ValueError, match="Cannot infer collection name from value: 1"):
        own.RNN(cell)(x, initial_carry=np.zeros((BATCH, UNITS), "float32"))
    other = type(
        "Other", (own.bridge.ToNNX,), {"num_feature_axes": 1, "__call__": lambda self, carry, x: (carry, carry)}
    )
    with pytest.raises(UnsupportedError, match=r"Other is not modelled.*__call__"):
        linen.adapter.spec(own.RNN(bridged(linen, "GRUCell", FEATURES, "float32", other)))


# ---- Models, versions, and what is compiled.


@pytest.mark.needs("flax")
def test_the_layers_of_a_model(nnx: Flax) -> None:
    own = nnx.nnx

    class Model(own.Module):  # type: ignore[misc,name-defined]
        def __init__(self, rngs: Any) -> None:
            self.reader = own.RNN(own.GRUCell(FEATURES, UNITS, rngs=rngs))
            self.head = own.Linear(UNITS, 2, rngs=rngs)
            self.norm = own.LayerNorm(2, rngs=rngs)
            self.scale = own.Param(nnx.jnp.full(1, 2.0))

    found = dict(nnx.adapter.layers(Model(own.Rngs(0))))
    assert set(found) == {"", "reader", "head", "norm"}
    assert nnx.adapter.spec(found["reader"]) == LAYERS_BY_NAME["gru"]
    assert {n: read().tolist() for n, read in nnx.adapter.tensors(found[""]).items()} == {"scale": [2.0]}
    assert set(nnx.adapter.tensors(found["norm"])) == {"scale", "bias"}
    alone = found["reader"]
    assert [name for name, _ in nnx.adapter.layers(alone)] == [""]
    assert set(nnx.adapter.tensors(alone)) == {f"cell/{n}" for n in nnx.adapter.read(alone)}


def test_plain_layers(flax: Flax) -> None:
    told = {name: flax.adapter.spec(layer) for name, layer in flax.adapter.plain_layers().items()}
    home = "flax.nnx" if flax.name == "flax" else "flax.linen"
    assert set(told) == {f"{home}.{kind}" for kind in [*CELLS, "Linear" if flax.name == "flax" else "Dense"]}
    assert told[f"{home}.GRUCell"] == Recurrent("gru", 3, 2)


def test_version_and_settings(flax: Flax) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\S* on jax \d+\.\d+\.\d+\S*", flax.adapter.version())
    assert {"JAX devices", "JAX x64"} <= {one.name for one in flax.adapter.settings()}


def test_equal_layers_are_compiled_once(flax: Flax) -> None:
    """Seconds are of no use in a test: the number of compiled functions is, which may not grow for another layer of the kind."""
    spec = Recurrent("lstm", FEATURES, UNITS + 4, num_layers=3)
    x = helpers.signal(spec, 93, "float32")
    compiled = flax.adapter._call_nnx if flax.name == "flax" else flax.adapter._call
    flax.adapter.run(flax.adapter.build(spec), x)
    size = compiled._cache_size()
    for _ in range(3):
        flax.adapter.run(flax.adapter.build(spec), x)
    flax.adapter.run(flax.adapter.blank(spec, "float32"), x)
    assert compiled._cache_size() == size
