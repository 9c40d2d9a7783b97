"""Equinox's own: cells in lists, what is refused, and that nothing of JAX is left switched on."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import helpers
import numpy as np
import pytest
from helpers import BATCH, FEATURES, LAYERS_BY_NAME, STEPS, UNITS

from xframe.adapters import adapter_of, get_adapter
from xframe.errors import LayoutError, SpecError, UnsupportedError
from xframe.layout import Key
from xframe.reference import Given
from xframe.spec import Dense, Recurrent

# JAX compiles for each of the layers here; what every framework must do is in test_adapters.py, and quick.
pytestmark = [pytest.mark.needs("equinox"), pytest.mark.slow]


class Equinox:
    """The library, once the registry has imported it."""

    def __init__(self) -> None:
        self.adapter = get_adapter("equinox")
        import equinox
        import jax

        self.jax, self.jnp, self.eqx, self.nn = jax, jax.numpy, equinox, equinox.nn

    def cell(self, kind: str, d: int = FEATURES, n: int = UNITS, dtype: str = "float64", **options: Any) -> Any:
        """A cell of the user's."""
        with self.jax.enable_x64(True):
            return getattr(self.nn, kind)(
                d, n, dtype=getattr(self.jnp, dtype), key=self.jax.random.key(d + n), **options
            )


@pytest.fixture
def eqx() -> Equinox:
    return Equinox()


def scanned(f: Equinox, cell: Any, x: np.ndarray, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The user's own loop, as Equinox's documentation has it: one row at a time; the LSTM's state is (h, c)."""
    several = len(state) > 1

    def row(steps: Any, *first: Any) -> Any:
        def step(held: Any, now: Any) -> Any:
            after = cell(now, held)
            return after, after[0] if several else after

        return f.jax.lax.scan(step, first if several else first[0], steps)

    with f.jax.enable_x64(True):
        names = ["h", "c"] if several else ["h"]
        end, out = f.jax.vmap(row)(f.jnp.asarray(x), *(f.jnp.asarray(state[n][0, 0]) for n in names))
        ends = dict(zip(names, end if several else [end], strict=True))
        found = {"sequence": out, "last": ends["h"], **{f"state {n}": v[None, None] for n, v in ends.items()}}
        return {name: np.asarray(value) for name, value in found.items()}


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_cell_of_the_users(eqx: Equinox, kind: str, bias: bool) -> None:
    """By itself it is read and run; in a list it is loaded, and the cell in the list is a new one."""
    spec = Recurrent(kind, FEATURES, UNITS, bias=bias)
    cell = eqx.cell(f"{kind.upper()}Cell", use_bias=bias)
    before = [np.array(a) for a in eqx.jax.tree.leaves(cell)]
    layer = [cell]
    for one in (cell, layer, (cell,)):
        assert adapter_of(one) is eqx.adapter
        assert eqx.adapter.spec(one) == spec
        assert eqx.adapter.dtype(one) == "float64"
    x, state = helpers.signal(spec, 71), helpers.start(spec, 71)
    given = eqx.adapter.parameters(cell)
    for out in (eqx.adapter.run(cell, x, state), scanned(eqx, cell, x, state)):
        helpers.judge(spec, given, Given(x, state), "float64", out)
    blocks = helpers.weights(spec, 72)
    eqx.adapter.load(layer, blocks)
    for out in (eqx.adapter.run(layer, x, state), scanned(eqx, layer[0], x, state)):
        helpers.judge(spec, blocks, Given(x, state), "float64", out)
    assert layer[0] is not cell
    assert all(np.array_equal(a, b) for a, b in zip(eqx.jax.tree.leaves(cell), before, strict=True))


def test_where_each_gate_is(eqx: Equinox) -> None:
    """Typed in from Equinox's source: (out, in), LSTM i f g o, GRU r z n with a bias of its own in the recurrent candidate."""
    for kind, order in (("lstm", "ifgo"), ("gru", "rzn")):
        spec, layer = LAYERS_BY_NAME[kind], eqx.adapter.build(LAYERS_BY_NAME[kind], "float64")
        blocks = helpers.whole_numbers(spec, 73)
        eqx.adapter.load(layer, blocks)
        (cell,) = layer
        for i, gate in enumerate(order):
            rows = slice(i * UNITS, (i + 1) * UNITS)
            assert np.array_equal(cell.weight_ih[rows], blocks[Key(0, 0, "kernel", gate)].T)
            assert np.array_equal(cell.weight_hh[rows], blocks[Key(0, 0, "recurrent_kernel", gate)].T)
            other = blocks[Key(0, 0, "recurrent_bias", gate)]
            folded = blocks[Key(0, 0, "bias", gate)] + (other if gate != "n" else 0)
            assert np.array_equal(cell.bias[rows], folded)
            if gate == "n":
                assert np.array_equal(cell.bias_n, other)


def test_directions_and_stacks(eqx: Equinox) -> None:
    """What the lists mean: lists of two are directions, and the outer list is the stack."""
    one = eqx.cell("GRUCell")
    two = [eqx.cell("GRUCell"), eqx.cell("GRUCell", d=UNITS)]
    both = [[one, eqx.cell("GRUCell")], [eqx.cell("GRUCell", d=2 * UNITS) for _ in range(2)]]
    for layer, options in (
        ([[one]], {}),
        (two, {"num_layers": 2}),
        ([[a] for a in two], {"num_layers": 2}),
        ([[one, one]], {"bidirectional": True}),
        (both, {"bidirectional": True, "num_layers": 2}),
        ([tuple(level) for level in both], {"bidirectional": True, "num_layers": 2}),
    ):
        spec = Recurrent("gru", FEATURES, UNITS, **options)
        assert adapter_of(layer) is eqx.adapter
        assert eqx.adapter.spec(layer) == spec
        x = helpers.signal(spec, 74)
        params = eqx.adapter.parameters(layer)
        helpers.judge(spec, params, Given(x), "float64", eqx.adapter.run(layer, x))
        twin = eqx.adapter.clone(layer, "float64")
        blocks = helpers.weights(spec, 75)
        eqx.adapter.load(twin, blocks)
        helpers.judge(spec, blocks, Given(x), "float64", eqx.adapter.run(twin, x))
        helpers.assert_same_numbers(eqx.adapter.parameters(layer), params)


def test_two_directions_that_differ(eqx: Equinox) -> None:
    spec = Recurrent("lstm", FEATURES, UNITS, bidirectional=True, backward=Recurrent("gru", FEATURES, 5, bias=False))
    mine = [[eqx.cell("LSTMCell"), eqx.cell("GRUCell", n=5, use_bias=False)]]
    blocks, x, state = helpers.weights(spec, 76), helpers.signal(spec, 76), helpers.start(spec, 76)
    for layer in (mine, eqx.adapter.build(spec, "float64"), eqx.adapter.blank(spec, "float64")):
        assert eqx.adapter.spec(layer) == spec
        eqx.adapter.load(layer, blocks)
        helpers.judge(spec, blocks, Given(x, state), "float64", eqx.adapter.run(layer, x, state))


def test_dense(eqx: Equinox) -> None:
    spec = Dense(FEATURES, UNITS)
    layer = eqx.adapter.build_loaded(spec, helpers.weights(spec, 77), "float64")
    x = helpers.signal(spec, 77)
    for one in (layer, layer[0]):
        helpers.judge(spec, helpers.weights(spec, 77), Given(x), "float64", eqx.adapter.run(one, x))
    with eqx.jax.enable_x64(True):
        own = np.asarray(eqx.jax.vmap(layer[0])(eqx.jnp.asarray(x)))
    helpers.judge(spec, helpers.weights(spec, 77), Given(x), "float64", {"output": own})


def test_what_cannot_be_written_to(eqx: Equinox) -> None:
    spec = LAYERS_BY_NAME["gru"]
    cell, blocks = eqx.cell("GRUCell"), helpers.weights(LAYERS_BY_NAME["gru"], 78)
    for layer in (cell, (cell,), [(cell,)]):
        with pytest.raises(
            UnsupportedError, match=r"of Equinox cannot be written to.*put the cell into a list, \[cell\]"
        ):
            eqx.adapter.load(layer, blocks)
        assert eqx.adapter.spec(layer) == spec


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: [type("Mine", (f.nn.LSTMCell,), {})(3, 2, key=f.jax.random.key(0))], "Mine is not modelled"),
        (lambda f: [f.nn.MLP(3, 2, 4, 1, key=f.jax.random.key(0))], r"Equinox's equinox\.nn\.MLP is not modelled"),
        (lambda f: [f.cell("GRUCell"), f.nn.Dropout(0.5)], "Dropout is not modelled"),
        (
            lambda f: [f.cell("GRUCell"), f.cell("LSTMCell", d=UNITS)],
            r"Layer 1 of .*LSTM\(9\) on 9 features.*not of one kind",
        ),
        (lambda f: [f.cell("GRUCell"), f.cell("GRUCell")], r"Layer 1 of .* does not fit: it is given 9 features"),
        (lambda f: [f.cell("GRUCell"), f.cell("GRUCell", d=UNITS, use_bias=False)], "not of one kind"),
        (lambda f: [[f.cell("GRUCell")] * 2, f.cell("GRUCell", d=2 * UNITS)], "mixes layers of one direction with"),
        (lambda f: [[f.cell("GRUCell")] * 3], "lists of two cells"),
        (lambda f: [[f.cell("GRUCell"), f.cell("GRUCell", d=5)]], "does not fit: it is given 7 features"),
        (lambda f: [f.cell("GRUCell"), f.cell("Linear", d=UNITS)], "Linear is a layer by itself"),
        (lambda f: [f.nn.Linear("scalar", 2, key=f.jax.random.key(0))], "scalar is not modelled"),
    ],
)
def test_refused(eqx: Equinox, make: Callable[[Any], Any], words: str) -> None:
    layer = make(eqx)
    assert adapter_of(layer) is eqx.adapter
    for use in (eqx.adapter.spec, eqx.adapter.parameters, lambda m: eqx.adapter.run(m, np.ones((2, 3, FEATURES)))):
        with pytest.raises(UnsupportedError, match=words):
            use(layer)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"activation": "relu"}, "activation='relu'"),
        ({"recurrent_activation": "hard_sigmoid"}, "recurrent_activation='hard_sigmoid'"),
        ({"go_backwards": True}, "go_backwards=True"),
        ({"mask": "right"}, "mask='right'"),
        ({"bidirectional": True, "merge_mode": "sum"}, "merge_mode='sum'"),
        ({"stateful": True, "batch_size": 2}, "stateful=True"),
        ({"input_dropout": 0.5}, "input_dropout=0.5"),
        ({"recurrent_dropout": 0.5}, "recurrent_dropout=0.5"),
        ({"num_layers": 2, "dropout": 0.5}, "dropout=0.5"),
        ({"form": "cell"}, "form='cell'"),
        ({"stacked": (Recurrent("lstm", UNITS, 5),)}, "stacked="),
    ],
)
def test_options_that_it_has_not(eqx: Equinox, options: dict[str, Any], words: str) -> None:
    spec = Recurrent("lstm", FEATURES, UNITS, **options)
    for make in (eqx.adapter.build, eqx.adapter.blank):
        with pytest.raises(UnsupportedError, match=f"Equinox has no LSTM with {words}"):
            make(spec, "float32")


def test_masks_are_refused(eqx: Equinox) -> None:
    layer, x = [eqx.cell("LSTMCell")], helpers.signal(LAYERS_BY_NAME["lstm"], 79)
    for kind in ("right", "any"):
        with pytest.raises(UnsupportedError, match="Equinox takes no mask: its cells compute one step"):
            eqx.adapter.spec(layer, mask=kind)
    with pytest.raises(UnsupportedError, match="takes no mask: its cells"):
        eqx.adapter.run(layer, x, mask=np.ones((BATCH, STEPS), bool))
    with pytest.raises(SpecError, match="mask must be"):
        eqx.adapter.spec(layer, mask="left")


def test_float64_is_switched_on_for_the_call_only(eqx: Equinox) -> None:
    spec = LAYERS_BY_NAME["lstm-stacked"]
    blocks, x, state = helpers.weights(spec, 80), helpers.signal(spec, 80), helpers.start(spec, 80)

    def untouched() -> None:
        assert not eqx.jax.config.jax_enable_x64
        assert eqx.jnp.ones(2).dtype == "float32"

    layer = eqx.adapter.build(spec, "float64")
    untouched()
    eqx.adapter.load(layer, blocks)
    untouched()
    helpers.judge(spec, blocks, Given(x, state), "float64", eqx.adapter.run(layer, x, state))
    untouched()
    for one in (eqx.adapter.clone(layer, "float64"), eqx.adapter.blank(spec, "float64")):
        assert eqx.adapter.dtype(one) == "float64"
        untouched()
    for dtype in ("float64", "float32", "float16", "bfloat16"):
        assert eqx.adapter.lacks(spec, dtype) == ""


def test_the_type_of_a_cell(eqx: Equinox) -> None:
    """A cell that is given no type has float32, or float64 where that is on; one of two types is refused."""
    made = eqx.nn.GRUCell(FEATURES, UNITS, key=eqx.jax.random.key(0))
    assert eqx.adapter.dtype(made) == "float32"
    with eqx.jax.enable_x64(True):
        wide = eqx.nn.GRUCell(FEATURES, UNITS, key=eqx.jax.random.key(0))
        mixed = eqx.eqx.tree_at(lambda cell: cell.bias, made, made.bias.astype("float64"))
    assert eqx.adapter.dtype(wide) == "float64"
    for use in (eqx.adapter.dtype, eqx.adapter.parameters, lambda m: eqx.adapter.run(m, np.ones((2, 3, FEATURES)))):
        with pytest.raises(UnsupportedError, match="of type float32 and float64"):
            use(mixed)


def test_inputs_of_another_type(eqx: Equinox) -> None:
    """The user's own scan of a float32 cell over float64 data is a TypeError of JAX's; xframe gives a layer its own type."""
    cell, spec = eqx.cell("GRUCell", dtype="float32"), LAYERS_BY_NAME["gru"]
    x = helpers.signal(spec, 81)
    with pytest.raises(TypeError, match="equal types"):
        scanned(eqx, cell, x, helpers.start(spec, 81, "float32"))
    assert eqx.adapter.run(cell, x).sequence.dtype == np.float32


def test_a_wrong_array(eqx: Equinox) -> None:
    cell = eqx.cell("GRUCell")
    short = eqx.eqx.tree_at(lambda one: one.bias, cell, cell.bias[:-1])
    for use in (eqx.adapter.parameters, lambda m: eqx.adapter.run(m, np.ones((2, 3, FEATURES)))):
        with pytest.raises(LayoutError, match=r"bias has shape \(26,\), but this layer needs \(27,\)"):
            use(short)
    shapes = eqx.eqx.filter_eval_shape(eqx.nn.GRUCell, FEATURES, UNITS, key=eqx.jax.random.key(0))
    with pytest.raises(SpecError, match="holds no numbers"):
        eqx.adapter.parameters(shapes)


def test_the_layers_of_a_model(eqx: Equinox) -> None:
    class Model(eqx.eqx.Module):  # type: ignore[misc,name-defined]
        reader: Any
        heads: list
        norm: Any
        scale: Any

    model = Model(eqx.cell("GRUCell"), [eqx.cell("Linear", d=UNITS, n=2)], eqx.nn.LayerNorm(2), eqx.jnp.full(1, 2.0))
    found = dict(eqx.adapter.layers(model))
    assert set(found) == {"", "reader", "heads[0]", "norm"}
    assert eqx.adapter.spec(found["reader"]) == LAYERS_BY_NAME["gru"]
    assert {n: read().tolist() for n, read in eqx.adapter.tensors(found[""]).items()} == {"scale": [2.0]}
    assert set(eqx.adapter.tensors(found["norm"])) == {"weight", "bias"}
    assert [name for name, _ in eqx.adapter.layers([model.reader])] == [""]
    assert set(eqx.adapter.tensors([model.reader])) == {"weight_ih", "weight_hh", "bias", "bias_n"}


def test_plain_layers_version_and_settings(eqx: Equinox) -> None:
    told = {name: eqx.adapter.spec(layer) for name, layer in eqx.adapter.plain_layers().items()}
    assert told == {
        "equinox.nn.LSTMCell": Recurrent("lstm", 3, 2),
        "equinox.nn.GRUCell": Recurrent("gru", 3, 2),
        "equinox.nn.Linear": Dense(3, 2),
    }
    assert set(eqx.adapter.functions()) == {"tanh", "sigmoid"}
    points = np.linspace(-3, 3, 7).reshape(1, -1)
    assert np.abs(eqx.adapter.functions()["tanh"](points) - np.tanh(points)).max() < 1e-15
    assert re.fullmatch(r"\d+\.\d+\.\d+\S* on jax \d+\.\d+\.\d+\S*", eqx.adapter.version())
    assert {"JAX devices", "JAX x64"} <= {one.name for one in eqx.adapter.settings()}


def test_equal_layers_are_compiled_once(eqx: Equinox) -> None:
    spec = Recurrent("lstm", FEATURES, UNITS + 4, num_layers=3)
    x = helpers.signal(spec, 82, "float32")
    eqx.adapter.run(eqx.adapter.build(spec), x)
    size = eqx.adapter._scan._cache_size()
    for layer in (eqx.adapter.build(spec), eqx.adapter.blank(spec, "float32")):
        eqx.adapter.run(layer, x)
    assert eqx.adapter._scan._cache_size() == size
