"""The contract of adapters, held against every framework in the registry; then what single frameworks refuse."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import helpers
import jax_layers
import numpy as np
import pytest
from helpers import BATCH, FEATURES, LAYERS_BY_NAME, STEPS, UNITS, Case, plain

from xframe import adapters, noise
from xframe.adapters import Adapter, adapter_of, available_adapters, get_adapter, known_adapters, known_packings
from xframe.adapters.base import FLOATS, Isolated
from xframe.errors import LayoutError, MissingFrameworkError, SpecError, UnsupportedError
from xframe.layout import Key
from xframe.packing import refuse_unfit
from xframe.reference import Given
from xframe.spec import Dense, Layer, Recurrent

DTYPES = ("float64", "float32")


def _of_onnx(layer: Any) -> list[Any]:
    """The initializers of an ONNX model, but for the whole numbers that tell a Reshape what to do."""
    from onnx import numpy_helper

    return [a for a in map(numpy_helper.to_array, layer.graph.initializer) if a.dtype.kind == "f"]


# How many numbers, and which shapes, a framework itself says that a layer has. A new framework is added here.
OWN_COUNT: dict[str, Callable[[Any], int]] = {
    "keras": lambda layer: sum(int(one.count_params()) for one in getattr(layer, "layers", [layer])),
    "torch": lambda layer: sum(p.numel() for p in layer.parameters()),
    "flax": lambda layer: sum(a.size for a in jax_layers.numbers("flax", layer)),
    "flax-linen": lambda layer: sum(a.size for a in jax_layers.numbers("flax-linen", layer)),
    "equinox": lambda layer: sum(a.size for a in jax_layers.numbers("equinox", layer)),
    "onnx": lambda layer: sum(a.size for a in _of_onnx(layer)),
    "toy": lambda layer: sum(t.size for t in layer.tensors().values()),
}
OWN_SHAPES: dict[str, Callable[[Any], list[tuple[int, ...]]]] = {
    "keras": lambda layer: [tuple(w.shape) for w in layer.weights],
    "torch": lambda layer: [tuple(p.shape) for p in layer.parameters()],
    "flax": lambda layer: [a.shape for a in jax_layers.numbers("flax", layer)],
    "flax-linen": lambda layer: [a.shape for a in jax_layers.numbers("flax-linen", layer)],
    "equinox": lambda layer: [a.shape for a in jax_layers.numbers("equinox", layer)],
    "onnx": lambda layer: [a.shape for a in _of_onnx(layer)],
    "toy": lambda layer: [t.shape for t in layer.tensors().values()],
}


def own_count(adapter: Adapter, layer: Any) -> int:
    if isinstance(layer, Isolated):  # it is in another process, and so is what could count it
        return sum(array.size for array in adapter.read(layer).values())
    return OWN_COUNT[adapter.name](layer)


def own_shapes(adapter: Adapter, layer: Any) -> list[tuple[int, ...]]:
    if isinstance(layer, Isolated):
        return [array.shape for array in adapter.read(layer).values()]
    return OWN_SHAPES[adapter.name](layer)


RIGHT = np.arange(STEPS) < np.array([[4], [STEPS], [1], [3]])


def coarse(array: np.ndarray) -> np.ndarray:
    """Multiples of 1/64, none zero: below 2 they, and sums of two, are numbers of every float type."""
    found = np.round(array * 64) / 64
    assert found.all()
    assert np.abs(found).max() < 2
    return found


# ---- The contract.


def test_what_is_lacking_is_refused(lacking: Case) -> None:
    for dtype in DTYPES:
        with pytest.raises(UnsupportedError) as caught:
            lacking.adapter.build(lacking.spec, dtype)
        assert lacking.adapter.title in str(caught.value)


def test_what_does_not_fit_is_refused(unfit: Case) -> None:
    """It can be built, and counted, but numbers for which it has no place are not dropped."""
    adapter, spec = unfit
    layer = adapter.build(spec)
    assert adapter.spec(layer) == spec
    before = helpers.bits(adapter.read(layer))
    blocks = helpers.weights(spec)
    for refuse in (lambda: adapter.load(layer, blocks), lambda: refuse_unfit(adapter.packing, spec)):
        with pytest.raises(
            UnsupportedError, match=f"{adapter.title}'s .* has no place for 'layer 0, forward, recurrent_bias"
        ):
            refuse()
    assert helpers.bits(adapter.read(layer)) == before
    fitting = {k: b * 0 if k.role == "recurrent_bias" and k.gate == "n" else b for k, b in blocks.items()}
    adapter.load(layer, fitting)
    x, state = helpers.signal(spec, 0, "float32"), helpers.start(spec, 0, "float32")
    helpers.judge(spec, adapter.parameters(layer), Given(x, state), "float32", adapter.run(layer, x, state))


def test_inventory(case: Case) -> None:
    """Names, shapes and counts: by the layout, of the real layer, by the framework itself, and by FACTS.md."""
    adapter, spec = case
    layer = adapter.build(spec)
    natives = adapter.packing.natives(spec)
    arrays = adapter.read(layer)
    assert list(arrays) == [native.name for native in natives]
    assert [arrays[native.name].shape for native in natives] == [native.shape for native in natives]
    assert own_shapes(adapter, layer) == [native.shape for native in natives]
    assert own_count(adapter, layer) == sum(native.count for native in natives)
    assert own_count(adapter, layer) == helpers.stored(plain(adapter.name), spec)


@pytest.mark.parametrize("dtype", DTYPES)
def test_build(case: Case, dtype: str) -> None:
    """Weights exist at once, are the framework's own, and running adds none; the layer is what was asked for."""
    adapter, spec = case
    layer = adapter.build(spec, dtype)
    before = helpers.bits(adapter.read(layer))
    assert adapter.owns(layer)
    assert adapter_of(layer).name == adapter.name
    assert adapter.spec(layer) == spec
    assert adapter.dtype(layer) == dtype
    assert adapter.packing_of(layer) is adapter.packing
    assert {array.dtype.name for array in adapter.read(layer).values()} == {dtype}
    for native in adapter.packing.natives(spec):
        if "kernel" in native.role and native.count > 1:
            assert len(np.unique(adapter.read(layer)[native.name])) > 1, f"{native.name} is constant"
    if helpers.lacks(adapter.name, spec, dtype):
        return
    out = adapter.run(layer, helpers.signal(spec, 0, dtype))
    assert {array.dtype.name for array in out.named().values()} == {dtype}
    assert helpers.bits(adapter.read(layer)) == before
    assert own_count(adapter, layer) == helpers.stored(plain(adapter.name), spec)


@pytest.mark.parametrize("dtype", ["int32", "double", "float8_e4m3fn", ""])
def test_other_types_are_refused(case: Case, dtype: str) -> None:
    for build in (case.adapter.build, case.adapter.blank):
        with pytest.raises(SpecError, match="float64 or float32"):
            build(case.spec, dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_types_of_16_bits(case: Case, dtype: str) -> None:
    """Built, loaded, read, run and cloned; or refused by a framework that has none."""
    adapter, spec = case
    if helpers.lacks(adapter.name, spec, dtype):
        assert dtype in adapter.lacks(spec, dtype)
        with pytest.raises((SpecError, UnsupportedError), match=dtype):
            adapter.run(adapter.build(spec, dtype), helpers.signal(spec, 33, "float32"))
        return
    assert adapter.lacks(spec, dtype) == ""
    blocks = {key: coarse(block) for key, block in helpers.weights(spec, 33).items()}
    x, state = coarse(helpers.signal(spec, 33)), helpers.start(spec, 33)
    x, state = x.astype("float32"), state and {n: coarse(v).astype("float32") for n, v in state.items()}
    layer = adapter.build(spec, dtype)
    assert (adapter.spec(layer), adapter.dtype(layer)) == (spec, dtype)
    assert any(len(np.unique(array)) > 1 for array in adapter.read(layer).values())
    adapter.load(layer, blocks)
    assert {array.dtype.name for array in adapter.read(layer).values()} == {helpers.array_type(dtype)}
    for one in (layer, adapter.clone(layer, "float32")):
        helpers.assert_same_numbers(adapter.parameters(one).effective(), helpers.effective(spec, blocks))
        own = adapter.dtype(one)
        helpers.judge(spec, blocks, Given(x, state), own, adapter.run(one, x, state))
    # Numbers that are none of the type are rounded to the nearest.
    finer = helpers.weights(spec, 34)
    adapter.load(layer, finer)
    got = adapter.parameters(layer)
    for key in (key for key in finer if "bias" not in key.role):
        assert np.all(np.abs(got[key] - finer[key]) <= noise.ROUNDOFF[dtype] * np.abs(finer[key])), key
        assert np.any(got[key] != finer[key])


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_was_loaded_is_read(case: Case, dtype: str) -> None:
    """Whole numbers, whose sums are exact in both types."""
    adapter, spec = case
    blocks = helpers.whole_numbers(spec, 21)
    layer = adapter.build(spec, dtype)
    adapter.load(layer, blocks)
    got = adapter.parameters(layer)
    assert got.spec == spec
    helpers.assert_same_numbers(helpers.effective(spec, got), helpers.effective(spec, blocks))
    helpers.assert_same_numbers(got.effective(), helpers.effective(spec, blocks))
    # A snapshot: what happens to the layer later does not reach it.
    adapter.load(layer, helpers.whole_numbers(spec, 22))
    helpers.assert_same_numbers(helpers.effective(spec, got), helpers.effective(spec, blocks))


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_computes_what_the_reference_computes(case: Case, dtype: str) -> None:
    """Within ten times the rounding noise, from zero states and from given ones, and each call for itself."""
    adapter, spec = case
    blocks = helpers.weights(spec, 31, dtype)
    x, state = helpers.signal(spec, 31, dtype), helpers.start(spec, 31, dtype)
    layer = adapter.build_loaded(spec, blocks, dtype)
    if helpers.lacks(adapter.name, spec, dtype):
        why = adapter.lacks(spec, dtype)
        assert dtype in why
        with pytest.raises(UnsupportedError, match=re.escape(why)):
            adapter.run(layer, x, state)
        return
    assert adapter.lacks(spec, dtype) == ""
    helpers.judge(spec, blocks, Given(x), dtype, adapter.run(layer, x))
    if state is None:
        return
    given = adapter.run(layer, x, state)
    helpers.judge(spec, blocks, Given(x, state), dtype, given)
    with pytest.raises(AssertionError, match="times its noise"):
        helpers.judge(spec, blocks, Given(x), dtype, given)
    # No state is left behind in the layer.
    helpers.judge(spec, blocks, Given(x), dtype, adapter.run(layer, x))


def test_one_of_everything(case: Case) -> None:
    """One row and one step: axes of length one are neither dropped nor mistaken for another."""
    adapter, spec = case
    dtype = helpers.finest(adapter.name, spec)
    blocks, x = helpers.weights(spec, 32, dtype), helpers.signal(spec, 32, dtype)
    state = helpers.start(spec, 32, dtype)
    x = x[:1, :1] if isinstance(spec, Recurrent) else x[:1]
    state = state and {name: array[:, :, :1] for name, array in state.items()}
    layer = adapter.build_loaded(spec, blocks, dtype)
    helpers.judge(spec, blocks, Given(x, state), dtype, adapter.run(layer, x, state))


def test_running_changes_nothing_that_was_given(case: Case) -> None:
    adapter, spec = case
    layer, x, state = adapter.build(spec), helpers.signal(spec, 0, "float32"), helpers.start(spec, 0, "float32")
    given = {"x": x, **(state or {})}
    before, weights = helpers.bits(given), helpers.bits(adapter.read(layer))
    first = helpers.bits(adapter.run(layer, x, state).named())
    assert helpers.bits(given) == before
    assert helpers.bits(adapter.read(layer)) == weights
    assert helpers.bits(adapter.run(layer, x, state).named()) == first


def test_masks(case: Case) -> None:
    """Padding on the right, from given states, as `Adapter.spec` says that the layer takes it; then none."""
    adapter, bare = case
    dtype = mask_dtype(adapter.name)
    x, state = helpers.signal(bare, 35, dtype), helpers.start(bare, 35, dtype)
    outputs = helpers.MASKED_OUTPUTS.get(plain(adapter.name), set())
    if not outputs or isinstance(bare, Dense):
        # A dense layer has no time that could be masked: an argument that is wrong, or a layer that cannot take it.
        with pytest.raises(UnsupportedError, match="takes no mask"):
            adapter.run(adapter.build(bare, dtype), x, state, RIGHT)
        return
    with pytest.raises(SpecError, match="mask must be 'right', 'any' or None, not 'left'"):
        adapter.spec(adapter.build(bare), "left")
    blocks = helpers.weights(bare, 35, dtype)
    # Only xframe's own module for PyTorch repeats outputs in both directions.
    for output in sorted(outputs - ({"repeat"} if bare.bidirectional else set())):
        spec = replace(bare, mask="right", masked_output=output)
        layer = adapter.build_loaded(spec, blocks, dtype)
        assert adapter.spec(layer, mask="right") == spec
        given = {"x": x, "mask": RIGHT, **state}
        before = helpers.bits(given)
        out = adapter.run(layer, x, state, mask=RIGHT)
        assert helpers.bits(given) == before
        helpers.judge(spec, blocks, Given(x, state, RIGHT), dtype, out)
        for wrong in (None, np.roll(RIGHT, 1, axis=0)):
            assert helpers.worst(spec, blocks, Given(x, state, wrong), dtype, out) > 1000
        # The mask is not left behind in the layer.
        helpers.judge(bare, blocks, Given(x, state), dtype, adapter.run(layer, x, state))
        for wrong in (RIGHT.astype(int), RIGHT[:, 1:], RIGHT[1:], RIGHT.T):
            with pytest.raises(SpecError, match="A mask must be"):
                adapter.run(layer, x, state, mask=wrong)


def mask_dtype(framework: str) -> str:
    """The finest float type in which a framework takes masks."""
    return "float32" if framework == "onnx" or framework in helpers.FLOAT32_ALONE else "float64"


def test_reset(case: Case) -> None:
    """What a stateful layer keeps between calls becomes zero; other layers keep nothing, and nothing happens to them."""
    adapter, bare = case
    dtype = helpers.finest(adapter.name, bare)
    blocks, x = helpers.weights(bare, 36, dtype), helpers.signal(bare, 36, dtype)
    state = helpers.start(bare, 36, dtype)
    layer = adapter.build_loaded(bare, blocks, dtype)
    first = helpers.bits(adapter.run(layer, x, state).named())
    adapter.reset(layer)
    assert helpers.bits(adapter.run(layer, x, state).named()) == first
    if isinstance(bare, Dense):
        return
    spec, begun = replace(bare, stateful=True, batch_size=BATCH), Given(x, state)
    if plain(adapter.name) not in helpers.STATEFUL:
        with pytest.raises(UnsupportedError, match="stateful=True"):
            adapter.build(spec)
        return
    layer = adapter.build_loaded(spec, blocks, dtype)
    assert adapter.spec(layer) == spec
    helpers.judge(spec, blocks, begun, dtype, adapter.run(layer, x, state))
    second = adapter.run(layer, x)
    helpers.judge(spec, blocks, Given(x, None, None, begun), dtype, second)
    assert helpers.worst(spec, blocks, Given(x), dtype, second) > 1000
    weights = helpers.bits(adapter.read(layer))
    adapter.reset(layer)
    helpers.judge(spec, blocks, Given(x), dtype, adapter.run(layer, x))
    assert helpers.bits(adapter.read(layer)) == weights


@pytest.mark.parametrize("dtype", DTYPES)
def test_clone(case: Case, dtype: str) -> None:
    """The same numbers (rounded, where the type is narrower) in a layer of its own."""
    adapter, spec = case
    other = DTYPES[1 - DTYPES.index(dtype)]
    layer = adapter.build_loaded(spec, helpers.weights(spec, 41), dtype)
    before = {name: array.copy() for name, array in adapter.read(layer).items()}
    for wanted in (dtype, other):
        twin = adapter.clone(layer, wanted)
        assert adapter.spec(twin) == spec
        assert adapter.dtype(twin) == wanted
        helpers.assert_same_numbers(adapter.read(twin), {name: a.astype(wanted) for name, a in before.items()})
        adapter.load(twin, helpers.whole_numbers(spec, 42))
        helpers.assert_same_numbers(adapter.read(layer), before)
        if not helpers.lacks(adapter.name, spec, wanted):
            adapter.run(twin, helpers.signal(spec, 0, wanted))
    assert adapter.dtype(layer) == dtype


def test_wrong_blocks_leave_the_layer_as_it_was(case: Case) -> None:
    """What is wrong stands in the last block, so a loader that writes as it checks would have written the others."""
    adapter, spec = case
    layer = adapter.build(spec)
    before = helpers.bits(adapter.read(layer))
    blocks = helpers.weights(spec)
    last = list(blocks)[-1]
    poisoned = blocks[last].copy()
    poisoned.flat[-1] = np.nan
    longer = np.concatenate([blocks[last], blocks[last]])
    for wrong in (
        {**blocks, last: poisoned},
        {**blocks, last: longer},
        {key: block for key, block in blocks.items() if key != last},
        {**blocks, last._replace(layer=7): blocks[last]},
    ):
        with pytest.raises(LayoutError, match=str(last).split(",", 1)[1]):
            adapter.load(layer, wrong)
        assert helpers.bits(adapter.read(layer)) == before


def test_writing_a_wrong_shape(case: Case) -> None:
    adapter, spec = case
    layer = adapter.build(spec)
    for name, array in list(adapter.read(layer).items()):
        with pytest.raises(LayoutError, match="takes"):
            adapter.write(layer, [(name, np.zeros((*array.shape, 1), np.float32))])


def test_version(case: Case) -> None:
    assert case.adapter.version()[0].isdigit()
    assert plain(case.adapter.name) == case.adapter.packing.name
    assert case.adapter.layouts is case.adapter.packing.rows


# ---- The registry.


def test_the_toy_comes_and_goes() -> None:
    """An adapter that another distribution adds is found, run and named in messages; then nothing of it is left."""
    from toy import Elman

    layer = Elman(2, 3, "float32", True)
    assert "toy" not in known_adapters()
    with helpers.entry_point("toy_adapter"):
        assert "toy" in known_packings()
        assert "toy" in available_adapters()
        assert list(known_adapters())[-1] == "toy"
        assert adapter_of(layer) is get_adapter("toy")
        assert get_adapter("toy").spec(layer) == Recurrent("rnn", 2, 3)
        assert adapters.ToyAdapter is type(get_adapter("toy"))
        with pytest.raises(UnsupportedError, match=r"toy\.$"):
            get_adapter("no such thing")
    assert "toy" not in known_adapters()
    assert "toy" not in known_packings()
    with pytest.raises(UnsupportedError, match=r"does not know what toy\.Elman is"):
        adapter_of(layer)


@pytest.mark.parametrize(
    "options",
    [
        {"mask": "right"},
        {"stateful": True, "batch_size": BATCH},
        {"input_dropout": 0.25},
        {"recurrent_dropout": 0.25},
        {"activation": "relu"},
        {"go_backwards": True},
        {"form": "cell"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_that_the_toy_has_not(options: dict[str, Any]) -> None:
    """An adapter that says nothing of them in its table would build a layer without them."""
    name, value = next(iter(options.items()))
    with helpers.entry_point("toy_adapter"):
        toy = get_adapter("toy")
        with pytest.raises(UnsupportedError, match=f"Toy has no SimpleRNN with {name}={value!r}"):
            toy.build(Recurrent("rnn", 2, 3, **options))
        for mask in ("right", "any"):
            with pytest.raises(UnsupportedError, match="takes no mask"):
                toy.spec(toy.build(Recurrent("rnn", 2, 3)), mask)


@pytest.mark.parametrize("name", known_adapters())
def test_a_missing_framework(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were not installed: not available, named when asked for, and still counted."""
    adapter = known_adapters()[name]
    others = {n for n in available_adapters() if not set(known_adapters()[n].requires) & set(adapter.requires)}
    for module in adapter.requires:
        monkeypatch.setitem(sys.modules, module, None)
    assert name not in available_adapters()
    assert set(available_adapters()) == others
    with pytest.raises(MissingFrameworkError) as caught:
        adapter()
    for words in (adapter.packing.title, adapter.requires[0], f"pip install 'xframe[{adapter.extra or name}]'"):
        assert words in str(caught.value)
    assert adapter.packing.natives(next(spec for kind, spec in LAYERS_BY_NAME.items() if helpers.has(name, kind)))


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.needs(name)) for name in known_adapters()])
def test_a_broken_framework(name: str, tmp_path: Path) -> None:
    """Installed, but its import fails: an error that says so, not a framework that is left out."""
    for module in known_adapters()[name].requires:
        (tmp_path / f"{module}.py").write_text("raise RuntimeError('libcudart.so.1 is not there')\n")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from xframe.adapters import available_adapters, get_adapter
from xframe.errors import MissingFrameworkError
assert {name!r} in available_adapters()
try:
    get_adapter({name!r})
except MissingFrameworkError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "installed but cannot be loaded (RuntimeError: libcudart.so.1 is not there)" in done.stdout
    # Not xframe itself: pip would fetch another project of that name.
    assert done.stdout.endswith(f"pip install --force-reinstall {' '.join(known_adapters()[name].requires)}.\n")


@pytest.mark.parametrize("first", ["known_packings", "known_adapters", "available_adapters", "usual_adapters"])
def test_the_registry_is_whole_whoever_asks_first(first: str) -> None:
    """In a fresh process, in which the frameworks' files are imported by that very question."""
    code = f"from xframe.adapters import *; {first}(); print(*known_adapters(), *known_packings())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == [*known_adapters(), *known_packings()]


def test_unknown_names() -> None:
    with pytest.raises(UnsupportedError, match="no adapter for 'caffe'; the adapters are"):
        get_adapter("caffe")
    for name in set(known_packings()) - set(known_adapters()):
        with pytest.raises(UnsupportedError, match=f"{name!r}.*counts its parameters but does not run it"):
            get_adapter(name)
    with pytest.raises(AttributeError, match="NoSuchAdapter"):
        _ = adapters.NoSuchAdapter


@pytest.mark.parametrize("thing", [None, "lstm", 3, [], (), [1], np.ones(3), LAYERS_BY_NAME["lstm"]], ids=repr)
def test_a_layer_of_no_framework(thing: object) -> None:
    with pytest.raises(UnsupportedError, match="does not know what"):
        adapter_of(thing)


# ---- PyTorch: layers that people make, and what is refused.


@pytest.fixture
def torch() -> Any:
    get_adapter("torch")
    import torch

    return torch


@pytest.mark.needs("torch")
class TestTorch:
    def test_batch_second(self, torch: Any) -> None:
        """batch_first=False, as PyTorch has it by default, in training mode, inside a module of the user's."""

        class Tagger(torch.nn.Module):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.encoder = torch.nn.LSTM(FEATURES, UNITS, 3, bidirectional=True, dtype=torch.float64)

        layer, adapter = Tagger().encoder, get_adapter("torch")
        spec = LAYERS_BY_NAME["lstm-stacked"]
        assert adapter.spec(layer) == spec
        blocks, x, state = helpers.weights(spec, 51), helpers.signal(spec, 51), helpers.start(spec, 51)
        adapter.load(layer, blocks)
        helpers.judge(spec, blocks, Given(x, state), "float64", adapter.run(layer, x, state))
        own, (h, _) = layer(torch.from_numpy(x.swapaxes(0, 1).copy()))
        helpers.judge(
            spec,
            blocks,
            Given(x),
            "float64",
            {
                **adapter.run(layer, x).named(),
                "sequence": own.detach().numpy().swapaxes(0, 1),
                # FACTS.md: forward at the last step beside backward at the first is what h_n holds.
                "last": torch.cat([h[-2], h[-1]], dim=-1).detach().numpy(),
            },
        )
        assert layer.training
        assert not layer.batch_first
        assert all(p.requires_grad and p.grad is None for p in layer.parameters())

    def test_frozen_parameters_are_written(self, torch: Any) -> None:
        layer, adapter = torch.nn.GRU(FEATURES, UNITS).requires_grad_(False), get_adapter("torch")
        blocks = helpers.whole_numbers(LAYERS_BY_NAME["gru"], 1)
        adapter.load(layer, blocks)
        helpers.assert_same_numbers(adapter.parameters(layer), blocks)
        assert not any(p.requires_grad for p in layer.parameters())

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda nn: type("Mine", (nn.LSTM,), {})(3, 2), "Mine is not modelled"),
            (lambda nn: type("Mine", (nn.LSTMCell,), {})(3, 2), "Mine is not modelled"),
            (lambda nn: nn.Sequential(nn.LSTM(3, 2)), "Sequential is not modelled"),
            (lambda nn: nn.Conv1d(3, 2, 1), "Conv1d is not modelled"),
            (lambda nn: [nn.LSTM(3, 2)], "list is not modelled"),
            (lambda nn: nn.utils.parametrizations.weight_norm(nn.LSTM(3, 2), "weight_hh_l0"), "ParametrizedLSTM"),
        ],
    )
    def test_refused(self, torch: Any, make: Callable[[Any], Any], words: str) -> None:
        layer = make(torch.nn)
        for use in (get_adapter("torch").spec, adapter_of(layer).parameters):
            with pytest.raises(UnsupportedError, match=words):
                use(layer)

    def test_dropout_between_layers(self, torch: Any) -> None:
        """It is part of what the layer is, and does not act, though the layer is in training mode and stays in it."""
        layer, adapter = torch.nn.LSTM(FEATURES, UNITS, 3, dropout=0.25, bidirectional=True), get_adapter("torch")
        spec = replace(LAYERS_BY_NAME["lstm-stacked"], dropout=0.25)
        assert adapter.spec(layer) == adapter.spec(adapter.clone(layer, "float64")) == spec
        blocks, x = helpers.weights(spec, 52, "float32"), helpers.signal(spec, 52, "float32")
        adapter.load(layer, blocks)
        helpers.judge(spec, blocks, Given(x), "float32", adapter.run(layer, x))
        assert layer.training

    @pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
    def test_bare_cells(self, torch: Any, kind: str) -> None:
        """Called by the user, a time step at a time."""
        layer = getattr(torch.nn, f"{kind.upper()}Cell")(FEATURES, UNITS, dtype=torch.float64)
        spec, adapter = Recurrent(kind, FEATURES, UNITS, form="cell"), get_adapter("torch")
        assert adapter.spec(layer) == spec
        blocks, x, state = helpers.weights(spec, 53), helpers.signal(spec, 53), helpers.start(spec, 53)
        adapter.load(layer, blocks)
        states, own = [torch.from_numpy(value[0, 0]) for value in state.values()], []
        for t in range(STEPS):
            found = layer(torch.from_numpy(x[:, t]), tuple(states) if kind == "lstm" else states[0])
            states = list(found) if kind == "lstm" else [found]
            own.append(states[0].detach().numpy())
        final = {f"state {n}": s.detach().numpy()[None, None] for n, s in zip(state, states, strict=True)}
        named = {"sequence": np.stack(own, axis=1), "last": own[-1], **final}
        for got in (named, adapter.run(layer, x, state)):
            helpers.judge(spec, blocks, Given(x, state), "float64", got)

    @pytest.mark.parametrize("kind", [*FLOATS, "complex64"])
    def test_float_types(self, torch: Any, kind: str) -> None:
        layer, adapter = torch.nn.Linear(3, 2, dtype=getattr(torch, kind)), get_adapter("torch")
        if kind in FLOATS:
            assert adapter.dtype(layer) == kind
            return
        for use in (adapter.dtype, adapter.parameters, lambda m: adapter.load(m, adapter.read(m))):
            with pytest.raises(UnsupportedError, match=f"{kind}.*float64 or float32 or float16 or bfloat16"):
                use(layer)

    def test_mixed_float_types(self, torch: Any) -> None:
        layer = torch.nn.LSTM(3, 2)
        layer.bias_hh_l0.data = layer.bias_hh_l0.data.double()
        with pytest.raises(UnsupportedError, match=r"float32 and float64.*float64 or float32"):
            get_adapter("torch").dtype(layer)

    @pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
    def test_hooks(self, torch: Any, register: str) -> None:
        layer = torch.nn.LSTM(3, 2)
        handle = getattr(layer, register)(lambda *_: None)
        with pytest.raises(UnsupportedError, match="forward hooks"):
            get_adapter("torch").spec(layer)
        handle.remove()
        assert get_adapter("torch").spec(layer) == Recurrent("lstm", 3, 2)

    def test_meta_device(self, torch: Any) -> None:
        layer, adapter = torch.nn.LSTM(3, 2, device="meta"), get_adapter("torch")
        for use in (adapter.parameters, lambda m: adapter.load(m, helpers.weights(Recurrent("lstm", 3, 2)))):
            with pytest.raises(SpecError, match=r"weight_ih_l0 is on the meta device.*real one"):
                use(layer)

    def test_a_parameter_of_the_users(self, torch: Any) -> None:
        layer = torch.nn.LSTM(3, 2)
        layer.temperature = torch.nn.Parameter(torch.ones(1))
        with pytest.raises(LayoutError, match="'temperature' has no place"):
            get_adapter("torch").parameters(layer)

    def test_a_pruned_layer(self, torch: Any) -> None:
        from torch.nn.utils import prune

        layer = torch.nn.LSTM(3, 2)
        prune.random_unstructured(layer, "weight_hh_l0", 0.5)
        with pytest.raises(UnsupportedError, match="forward hooks"):
            get_adapter("torch").parameters(layer)


# ---- Keras: layers that people make, and what is refused.


@pytest.fixture
def keras() -> Any:
    get_adapter("keras")
    import keras

    return keras


def built(layer: Any, features: int = 3) -> Any:
    layer.build((None, None, features))
    return layer


def flags(layer: Any) -> list[tuple[bool, bool]]:
    """return_sequences and return_state of a layer and of what it wraps."""
    parts = [layer, *(getattr(layer, n) for n in ("forward_layer", "backward_layer") if hasattr(layer, n))]
    return [(part.return_sequences, part.return_state) for part in parts]


@pytest.mark.needs("keras")
class TestKeras:
    @pytest.mark.parametrize("sequences", [False, True])
    @pytest.mark.parametrize("state", [False, True])
    def test_flags_are_the_users(self, keras: Any, sequences: bool, state: bool) -> None:
        """A Bidirectional GRU of the user's gives all its outputs to xframe, and to him what it gave him before."""
        adapter, layers = get_adapter("keras"), keras.layers
        inner = layers.GRU(UNITS, return_sequences=sequences, return_state=state, name="reader")
        layer = built(layers.Bidirectional(inner, name="both_ways"), FEATURES)
        spec = Recurrent("gru", FEATURES, UNITS, bidirectional=True)
        assert adapter.spec(layer) == spec
        blocks, x = helpers.weights(spec, 61, "float32"), helpers.signal(spec, 61, "float32")
        adapter.load(layer, blocks)
        before, own = flags(layer), keras.tree.flatten(layer(x))
        assert before == [(sequences, state)] * 3
        out = adapter.run(layer, x, helpers.start(spec, 61, "float32"))
        helpers.judge(spec, blocks, Given(x, helpers.start(spec, 61, "float32")), "float32", out)
        assert flags(layer) == before
        after = keras.tree.flatten(layer(x))
        assert [np.array(a).tobytes() for a in after] == [np.array(a).tobytes() for a in own]
        # What he gets is what xframe calls the sequence, or the last output: FACTS.md.
        out = adapter.run(layer, x)
        named = {**out.named(), "sequence" if sequences else "last": np.array(own[0])}
        helpers.judge(spec, blocks, Given(x), "float32", named)

    def test_flags_are_restored_after_an_error(self, keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        layer = built(keras.layers.Bidirectional(keras.layers.LSTM(UNITS)), FEATURES)
        before = flags(layer)

        def broken(self: Any, *_: Any, **__: Any) -> None:
            assert flags(self) == [(True, True)] * 3
            raise RuntimeError("out of order")

        monkeypatch.setattr(keras.layers.Bidirectional, "call", broken)
        with pytest.raises(RuntimeError, match="out of order"):
            get_adapter("keras").run(layer, np.ones((BATCH, STEPS, FEATURES), np.float32))
        assert flags(layer) == before == [(False, False)] * 3

    def test_a_stack_inside_a_model(self, keras: Any) -> None:
        """Layers with names of the user's, picked out of a functional model, as a list and as a Sequential."""
        layers, adapter = keras.layers, get_adapter("keras")
        inputs = keras.Input((STEPS, FEATURES))
        one = layers.LSTM(UNITS, return_sequences=True, name="lower", dropout=0.0)
        two = layers.LSTM(UNITS, name="upper", unroll=True)
        model = keras.Model(inputs, layers.Dense(2)(two(one(inputs))))
        spec = Recurrent("lstm", FEATURES, UNITS, num_layers=2)
        blocks, x = helpers.weights(spec, 62, "float32"), helpers.signal(spec, 62, "float32")
        adapter.load([one, two], blocks)
        for stack in ([one, two], (one, two), keras.Sequential([keras.Input((STEPS, FEATURES)), one, two])):
            assert adapter_of(stack) is adapter
            assert adapter.spec(stack) == spec
            helpers.judge(spec, blocks, Given(x), "float32", adapter.run(stack, x))
        assert flags(two) == [(False, False)]
        middle = keras.Model(inputs, model.layers[2].output)
        out = adapter.run([one, two], x).named()
        helpers.judge(spec, blocks, Given(x), "float32", {**out, "last": np.array(middle(x))})

    def test_training_options_do_not_matter(self, keras: Any) -> None:
        layer = built(
            keras.layers.GRU(
                2,
                kernel_regularizer="l2",
                recurrent_constraint="max_norm",
                bias_initializer="ones",
                activity_regularizer="l1",
                seed=3,
                trainable=False,
            )
        )
        assert get_adapter("keras").spec(layer) == Recurrent("gru", 3, 2)
        assert get_adapter("keras").parameters(layer)[Key(0, 0, "bias", "z")].tolist() == [1, 1]

    @pytest.mark.parametrize(
        ("make", "options"),
        [
            (lambda k: k.layers.LSTM(UNITS, go_backwards=True), {"go_backwards": True}),
            (lambda k: k.layers.LSTM(UNITS, dropout=0.25), {"input_dropout": 0.25}),
            (lambda k: k.layers.GRU(UNITS, recurrent_dropout=0.25), {"cell": "gru", "recurrent_dropout": 0.25}),
            (lambda k: k.layers.LSTM(UNITS, activation="relu"), {"activation": "relu"}),
            (lambda k: k.layers.LSTM(UNITS, activation=None), {"activation": "linear"}),
            (lambda k: k.layers.SimpleRNN(UNITS, activation="sigmoid"), {"cell": "rnn", "activation": "sigmoid"}),
            (
                lambda k: k.layers.GRU(UNITS, recurrent_activation="hard_sigmoid"),
                {"cell": "gru", "recurrent_activation": "hard_sigmoid"},
            ),
            *(
                (
                    lambda k, mode=mode: k.layers.Bidirectional(k.layers.LSTM(UNITS), merge_mode=mode),
                    {"bidirectional": True, "merge_mode": mode},
                )
                for mode in ("sum", "mul", "ave", None)
            ),
            (
                lambda k: k.layers.Bidirectional(
                    k.layers.LSTM(UNITS), backward_layer=k.layers.LSTM(UNITS, go_backwards=True, use_bias=False)
                ),
                {"bidirectional": True, "backward": Recurrent("lstm", FEATURES, UNITS, bias=False)},
            ),
            (lambda k: k.layers.RNN(k.layers.LSTMCell(UNITS)), {}),
        ],
        ids=lambda v: "-".join(map(str, v.values())) or "RNN" if isinstance(v, dict) else "",
    )
    def test_options(self, keras: Any, make: Callable[[Any], Any], options: dict[str, Any]) -> None:
        """What the spec says of a layer of the user's, and what he gets of it."""
        layer, adapter = built(make(keras), FEATURES), get_adapter("keras")
        spec = Recurrent(**{"cell": "lstm", "input_size": FEATURES, "hidden_size": UNITS, **options})
        assert adapter.spec(layer) == spec
        random = np.random.default_rng(63)
        layer.set_weights([helpers.away_from_zero(random, w.shape, 0.5).astype("float32") for w in layer.get_weights()])
        blocks, x = adapter.parameters(layer), helpers.signal(spec, 63, "float32")
        own = np.concatenate([np.array(part) for part in keras.tree.flatten(layer(x))], axis=-1)
        helpers.judge(spec, blocks, Given(x), "float32", {**adapter.run(layer, x).named(), "last": own})

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda k: type("Mine", (k.layers.LSTM,), {})(2), "class .*Mine is not modelled"),
            (lambda k: type("Mine", (k.layers.RNN,), {})(k.layers.LSTMCell(2)), "class .*Mine is not modelled"),
            (lambda k: k.layers.TimeDistributed(k.layers.Dense(2)), "TimeDistributed is not modelled"),
        ],
    )
    def test_refused(self, keras: Any, make: Callable[[Any], Any], words: str) -> None:
        layer, adapter = built(make(keras)), get_adapter("keras")
        for use in (adapter.spec, adapter.parameters, lambda m: adapter.run(m, np.ones((2, 4, 3), np.float32))):
            with pytest.raises(UnsupportedError, match=words) as caught:
                use(layer)
            assert layer.name in str(caught.value) or "forward_" in str(caught.value)

    def test_stateful(self, keras: Any) -> None:
        """It goes on from where the user's own call ended, until it is reset."""
        layer, adapter = keras.layers.LSTM(UNITS, stateful=True), get_adapter("keras")
        layer.build((BATCH, STEPS, FEATURES))
        spec = Recurrent("lstm", FEATURES, UNITS, stateful=True, batch_size=BATCH)
        assert adapter.spec(layer) == spec
        blocks, x = helpers.weights(spec, 64, "float32"), helpers.signal(spec, 64, "float32")
        adapter.load(layer, blocks)
        layer(x)
        out = adapter.run(layer, x)
        helpers.judge(spec, blocks, Given(x, None, None, Given(x)), "float32", out)
        adapter.reset(layer)
        helpers.judge(spec, blocks, Given(x), "float32", {**adapter.run(layer, x).named()})
        with pytest.raises(SpecError, match="keeps states for 4 rows, not 3"):
            adapter.run(layer, x[1:])

    def test_masking_in_front(self, keras: Any) -> None:
        """The layer makes its mask itself: any steps, without being told."""
        stack = keras.Sequential([keras.Input((4, 2)), keras.layers.Masking(), keras.layers.LSTM(2)])
        for layers in (stack, list(stack.layers)):
            assert get_adapter("keras").spec(layers) == Recurrent("lstm", 2, 2, mask="any", masked_output="repeat")

    @pytest.mark.parametrize(
        ("between", "words"),
        [
            (lambda k: k.layers.Dropout(0.5), "Dropout is not modelled here; only between two recurrent layers"),
            (lambda k: k.layers.LayerNormalization(), "LayerNormalization is not modelled"),
            (lambda k: k.layers.LSTM(3, return_sequences=True), r"Layer 1 of the stack \(LSTM\(2\) on 3 features\)"),
            (lambda k: k.layers.GRU(2, return_sequences=True), "Layer 1 of the stack.*not of one kind"),
        ],
    )
    def test_a_stack_of_other_things(self, keras: Any, between: Callable[[Any], Any], words: str) -> None:
        stack = keras.Sequential([keras.Input((4, 2)), between(keras), keras.layers.LSTM(2)])
        for layers in (stack, list(stack.layers)):
            with pytest.raises(UnsupportedError, match=words):
                get_adapter("keras").spec(layers)

    def test_a_functional_model(self, keras: Any) -> None:
        inputs = keras.Input((4, 3))
        with pytest.raises(UnsupportedError, match="Functional is not modelled"):
            get_adapter("keras").spec(keras.Model(inputs, keras.layers.LSTM(2)(inputs)))

    @pytest.mark.parametrize(
        "make",
        [
            lambda k: k.layers.LSTM(2),
            lambda k: k.layers.Bidirectional(k.layers.GRU(2)),
            lambda k: k.layers.Dense(2),
            lambda k: k.Sequential([k.layers.LSTM(2)]),
            lambda k: [k.layers.LSTM(2), k.layers.LSTM(2)],
        ],
    )
    def test_unbuilt(self, keras: Any, make: Callable[[Any], Any]) -> None:
        with pytest.raises(SpecError, match="has no weights yet; call it on data"):
            get_adapter("keras").spec(make(keras))

    @pytest.mark.parametrize("policy", [*FLOATS, "mixed_float16", "mixed_bfloat16"])
    def test_float_types(self, keras: Any, policy: str) -> None:
        """A mixed policy computes in another type than it stores: that is not modelled."""
        # Orthogonal matrices of 16 bits cannot be drawn on every backend.
        layer, adapter = built(keras.layers.GRU(2, dtype=policy, recurrent_initializer="ones")), get_adapter("keras")
        if policy in FLOATS:
            assert adapter.dtype(layer) == policy
            return
        for use in (adapter.dtype, lambda m: adapter.run(m, np.ones((2, 4, 3), np.float32))):
            with pytest.raises(UnsupportedError, match=f"{policy}.*float64 or float32") as caught:
                use(layer)
            assert repr(layer.name) in str(caught.value)

    def test_a_dense_layer_with_more_to_it(self, keras: Any) -> None:
        layers = keras.layers
        relu, own, tuned = (layers.Dense(2, activation=one) for one in ("relu", lambda x: x / 2, None))
        for layer in (relu, own, tuned):
            layer.build((None, 3))
        assert get_adapter("keras").spec(relu) == Dense(3, 2, activation="relu")
        tuned.enable_lora(1)
        for layer, words in ((own, "activation=.* is not modelled"), (tuned, "lora")):
            with pytest.raises(UnsupportedError, match=words):
                get_adapter("keras").spec(layer)


# ---- What nearly passes for something else, or comes apart only when it is looked at.


@pytest.mark.needs("torch")
def test_parameters_of_bfloat16(torch: Any) -> None:
    """NumPy has no such type: the same numbers in float32."""
    layer = torch.nn.LSTM(3, 2, dtype=torch.bfloat16)
    got = get_adapter("torch").parameters(layer)
    assert {block.dtype.name for block in got.values()} == {"float32"}
    wanted = layer.weight_ih_l0.detach().double().numpy()
    assert np.array_equal(got[Key(0, 0, "kernel", "f")], wanted[2:4].T)


@pytest.mark.needs("keras")
def test_a_list_of_two_float_types(keras: Any) -> None:
    stack = [built(keras.layers.LSTM(2, dtype="float64")), built(keras.layers.LSTM(2), 2)]
    with pytest.raises(UnsupportedError, match="float32 and float64"):
        get_adapter("keras").dtype(stack)


@pytest.mark.needs("keras", "torch")
def test_a_list_of_two_frameworks(keras: Any, torch: Any) -> None:
    with pytest.raises(UnsupportedError, match="LSTM is not modelled"):
        get_adapter("keras").spec([built(keras.layers.LSTM(2)), torch.nn.LSTM(2, 2)])


@pytest.mark.needs("keras")
def test_an_empty_model(keras: Any) -> None:
    with pytest.raises(UnsupportedError):
        get_adapter("keras").spec(keras.Sequential())


@pytest.mark.needs("keras")
def test_a_function_that_is_named_like_another(keras: Any) -> None:
    """The user's own function, by the name of tanh: another layer, which must not pass for the plain one."""

    def tanh(x: Any) -> Any:
        return keras.ops.tanh(x) / 2

    layer = built(keras.layers.LSTM(2, activation=tanh))
    assert layer.get_config()["activation"] == "tanh"
    with pytest.raises(UnsupportedError, match="activation"):
        get_adapter("keras").spec(layer)


@pytest.mark.needs("keras")
def test_a_lambda(keras: Any) -> None:
    with pytest.raises(UnsupportedError, match="activation"):
        get_adapter("keras").spec(built(keras.layers.LSTM(2, activation=lambda x: x / 2)))


@pytest.mark.needs("keras")
def test_a_stack_is_a_built_model(keras: Any) -> None:
    """summary(), count_params() and save() work on what was built."""
    model = get_adapter("keras").build(LAYERS_BY_NAME["lstm-stacked"])
    assert model.built
    assert model.count_params() == helpers.stored("keras", LAYERS_BY_NAME["lstm-stacked"])


def test_an_adapter_of_others_that_cannot_be_loaded() -> None:
    with helpers.entry_point("no_such_module"), pytest.raises(MissingFrameworkError, match="no_such_module"):
        known_adapters()


def test_there_is_a_layer_for_every_cell() -> None:
    """The layers that all of the above runs through leave no option out."""
    specs: Iterator[Layer] = iter(LAYERS_BY_NAME.values())
    recurrent = [spec for spec in specs if isinstance(spec, Recurrent)]
    assert {s.cell for s in recurrent} == {"rnn", "lstm", "gru"}
    for option in ("bias", "bidirectional", "num_layers", "reset_after", "proj_size", "activation"):
        assert len({getattr(s, option) for s in recurrent}) > 1, option
    assert any(isinstance(spec, Dense) for spec in LAYERS_BY_NAME.values())
