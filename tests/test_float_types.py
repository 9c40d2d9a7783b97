"""Right rounding to a narrower float type is no difference, and more than that is one; no number becomes infinite on its way."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import pytest

import xframe
from xframe import Dense, Recurrent, baseline, noise
from xframe.adapters import get_adapter
from xframe.conversion import convert_file
from xframe.diagnosis import diagnose
from xframe.errors import LayoutError, UnsupportedError
from xframe.files import load
from xframe.judging import difference
from xframe.layout import Key
from xframe.packing import Parameters
from xframe.probe import rounded
from xframe.recognition import computes, recognise
from xframe.verification import verify

NARROW = ("float16", "bfloat16")
KINDS = ("rnn", "lstm", "gru")


def around_zero(spec: Recurrent, seed: int, scale: float = 0.5) -> Parameters:
    """Weights as trained ones are: some so small that float16 has no full precision for them."""
    random = np.random.default_rng(seed)
    return Parameters(
        spec, {key: random.uniform(-scale, scale, block.shape) for key, block in helpers.weights(spec, seed).items()}
    )


def step(number: float, dtype: str) -> float:
    """How far the next number of the type is."""
    return (
        float(np.spacing(np.float16(abs(number))))
        if dtype == "float16"
        else float(np.spacing(np.float32(abs(number)))) * 2**16
    )


def to_type(array: np.ndarray, dtype: str) -> np.ndarray:
    """The nearest numbers of a type by PyTorch, in float64."""
    import torch

    return np.asarray(torch.tensor(array).to(getattr(torch, dtype)).double().numpy())


# ---- The rounding of numbers.


@pytest.mark.needs("torch")
@pytest.mark.parametrize("dtype", ["float32", *NARROW])
def test_rounding_is_that_of_the_type(dtype: str) -> None:
    """Down to its smallest numbers: none is rounded further than is allowed, and some just as far."""
    random = np.random.default_rng(0)
    lowest = {"float32": -152, "float16": -27, "bfloat16": -136}[dtype]
    wide = random.uniform(-1, 1, 20_000) * 2.0 ** random.integers(lowest, 10, 20_000)
    wide = np.concatenate([wide, [0.0, 1.0, 2.0**lowest, 1.5 * 2.0**lowest]])
    narrow = to_type(wide, dtype)
    share = np.abs(wide - narrow) / noise.narrowing(np.minimum(np.abs(wide), np.abs(narrow)), dtype)
    assert 0.9 < share.max() <= 1
    subnormal = np.abs(wide) < np.finfo("float32" if dtype == "bfloat16" else dtype).smallest_normal
    assert subnormal.sum() > 100
    assert share[subnormal].max() > 0.9


@pytest.mark.needs("torch")
@pytest.mark.parametrize("dtype", ["float32", *NARROW])
def test_numbers_exact_in_a_type(dtype: str) -> None:
    """Those that xframe draws for a type, near its smallest numbers, too."""
    random = np.random.default_rng(1)
    lowest = {"float32": -152, "float16": -27, "bfloat16": -136}[dtype]
    wide = random.uniform(-1, 1, 5_000) * 2.0 ** random.integers(lowest, 10, 5_000)
    if dtype != "float32":  # to which PyTorch comes by way of float32
        wide = wide.astype(np.float32).astype(np.float64)
    assert np.array_equal(rounded(wide, dtype), to_type(wide, dtype))


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("cell", KINDS)
def test_one_number_off(cell: str, dtype: str) -> None:
    """In whichever block, of whatever size: one or two steps of the narrow type are more than rounding."""
    spec = Recurrent(cell, 5, 7)
    wide = around_zero(spec, 2).astype(np.float32)
    narrow = {key: rounded(block, dtype).astype(np.float32) for key, block in wide.items()}
    assert difference(wide, Parameters(spec, narrow), dtype, narrowed=True)[2]
    assert not difference(wide, Parameters(spec, narrow), "float32", narrowed=False)[2]
    random, tried = np.random.default_rng(3), 0
    for key, block in narrow.items():
        place = tuple(int(random.integers(size)) for size in block.shape)
        # One step of the type; of two biases, of which only the sum counts, either may be rounded, and the sum of them.
        off = step(block[place] if "kernel" in key.role else 1.0, dtype)
        wrong = block.copy()
        wrong[place] += np.copysign(off, block[place] - wide[key][place])
        tried += 1
        assert not difference(wide, Parameters(spec, {**narrow, key: wrong}), dtype, narrowed=True)[2], (key, place)
    assert tried == len(narrow) > 3


@pytest.mark.parametrize("dtype", NARROW)
def test_a_power_of_two_that_is_not_the_nearest(dtype: str) -> None:
    """Above it numbers are twice as far apart as below it, where the right one is."""
    below = step(1.0, dtype)

    def dense(number: float) -> Parameters:
        return Parameters(
            Dense(1, 1), {Key(0, 0, "kernel", ""): np.full((1, 1), number), Key(0, 0, "bias", ""): np.ones(1)}
        )

    wide = dense(2 - 0.9 * below)
    assert difference(wide, dense(2 - below), dtype, narrowed=True)[2]
    assert not difference(wide, dense(2.0), dtype, narrowed=True)[2]
    assert difference(dense(2 - 0.1 * below), dense(2.0), dtype, narrowed=True)[2]


@pytest.mark.parametrize("first", ["float32", "float16"])
def test_sums_of_two_biases_that_were_then_narrowed(first: str) -> None:
    """Added in float32 or in float16, before they are rounded or after."""
    spec = Recurrent("lstm", 5, 40)
    wide = around_zero(spec, 4, 2.0**-10).astype(np.float32)
    blocks = dict(wide)
    for key in wide:
        if key.role == "bias":
            other = key._replace(role="recurrent_bias")
            total = wide[key].astype(first) + wide[other].astype(first)
            blocks |= {key: total.astype(np.float16), other: np.zeros_like(total, np.float16)}
        elif key.role != "recurrent_bias":
            blocks[key] = wide[key].astype(np.float16)
    assert difference(wide, Parameters(spec, blocks), "float16", narrowed=True)[2]
    key = Key(0, 0, "bias", "f")
    blocks[key] = blocks[key] + np.float16(2.0**-11)
    assert not difference(wide, Parameters(spec, blocks), "float16", narrowed=True)[2]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_bias_that_was_split_in_two(dtype: str) -> None:
    """Each part is rounded by itself, and either is larger than the sum here; more than their rounding is a difference."""
    spec = Recurrent("lstm", 5, 40)
    whole = {key: block.astype(np.float32) for key, block in around_zero(spec, 4).items()}
    whole = {key: np.zeros_like(block) if key.role == "recurrent_bias" else block for key, block in whole.items()}
    split, random = dict(whole), np.random.default_rng(8)
    for key in whole:
        if key.role == "bias":
            part = random.uniform(2, 4, whole[key].shape)
            other = key._replace(role="recurrent_bias")
            split |= {key: part.astype(dtype), other: (whole[key] - part).astype(dtype)}
    narrowed = dtype != "float32"
    one = Parameters(spec, whole)
    assert difference(one, Parameters(spec, split), dtype, narrowed)[2]
    assert difference(one, Parameters(spec, split), dtype, narrowed)[0] > 0
    key = Key(0, 0, "bias", "f")
    wrong = split[key].copy()
    wrong[7] += 8 * step(4.0, dtype)
    assert not difference(one, Parameters(spec, {**split, key: wrong}), dtype, narrowed)[2]


# ---- Right copies.


def torch_layer(cell: str, size: int, seed: int) -> Any:
    import torch

    torch.manual_seed(seed)
    return {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](size, size, batch_first=True)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(("cell", "size"), [("lstm", 7), ("gru", 20), ("rnn", 64)])
def test_right_copies_are_equivalent(cell: str, size: int, dtype: str, tmp_path: Path) -> None:
    """By every command: of layers, files, and a baseline; and what is off by two steps of the type is not."""
    import torch

    wide = torch_layer(cell, size, size)
    narrow = copy.deepcopy(wide).to(getattr(torch, dtype))
    assert xframe.compare(wide, narrow), xframe.compare(wide, narrow).reason
    assert diagnose(wide, narrow).status == "equivalent"
    torch.save(wide.state_dict(), tmp_path / "wide.pt")
    torch.save(narrow.state_dict(), tmp_path / "narrow.pt")
    found = verify(tmp_path / "wide.pt", tmp_path / "narrow.pt")
    assert found.status == "equivalent"
    assert f"of {dtype} in the second" in found.reason
    assert diagnose(tmp_path / "wide.pt", tmp_path / "narrow.pt").status == "equivalent"
    baseline.record(wide, tmp_path / "base.npz")
    checked = baseline.check(tmp_path / "base.npz", layer=narrow)
    assert checked, checked.reason
    assert any(f"the recorded ones rounded to {dtype}" in note for note in checked.notes)
    with torch.no_grad():
        number = narrow.weight_hh_l0[3, 2]
        number += (2 if number > wide.weight_hh_l0[3, 2] else -2) * torch.finfo(number.dtype).eps * abs(number)
    torch.save(narrow.state_dict(), tmp_path / "narrow.pt")
    assert not xframe.compare(wide, narrow)
    assert not verify(tmp_path / "wide.pt", tmp_path / "narrow.pt")
    assert not baseline.check(tmp_path / "base.npz", layer=narrow)


@pytest.mark.needs("keras", "torch")
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(("cell", "size"), [("rnn", 24), ("gru", 20)])
def test_transferred_to_keras(cell: str, size: int, dtype: str) -> None:
    source, adapter = torch_layer(cell, size, 5), get_adapter("keras")
    target = adapter.blank(get_adapter("torch").spec(source), dtype)
    xframe.transfer(source, target)
    verdict = xframe.compare(source, target)
    assert verdict, verdict.reason


# ---- Numbers that a type does not hold.


@pytest.mark.needs("keras", "torch")
@pytest.mark.parametrize("framework", ["keras", "torch"])
@pytest.mark.parametrize(("dtype", "number"), [("bfloat16", 3.4e38), ("float16", 7e4)])
def test_no_number_becomes_infinite(framework: str, dtype: str, number: float) -> None:
    """bfloat16 ends a little below float32; nothing is written where one number does not fit."""
    import torch

    source, adapter = torch.nn.LSTM(4, 6), get_adapter(framework)
    with torch.no_grad():
        source.weight_hh_l0[0, 0] = number
    spec = get_adapter("torch").spec(source)
    target = adapter.build(spec, dtype)
    before = helpers.bits(adapter.read(target))
    for move in (
        lambda: xframe.transfer(source, target),
        lambda: adapter.load(target, get_adapter("torch").parameters(source)),
    ):
        with pytest.raises(LayoutError, match=rf"recurrent_kernel, gate i holds .*too large for {dtype}"):
            move()
        assert helpers.bits(adapter.read(target)) == before
    largest = {"bfloat16": (2 - 2.0**-7) * 2.0**127, "float16": 65504.0}[dtype]
    with torch.no_grad():
        source.weight_hh_l0[0, 0] = largest
    xframe.transfer(source, target)
    assert adapter.parameters(target)[Key(0, 0, "recurrent_kernel", "i")][0, 0] == largest


# ---- What a dtype policy says.


def keras_model(dtype: str, path: Path | None = None) -> Any:
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    gru = layers.GRU(6, return_sequences=True, dtype=dtype, recurrent_initializer="glorot_uniform")
    model = keras.Sequential([keras.Input((None, 4)), gru, layers.Dense(2, dtype=dtype)])
    # Away from zero, biases too.
    random = np.random.default_rng(7)
    model.set_weights(
        [random.choice([-1, 1], w.shape) * random.uniform(0.2, 0.6, w.shape) for w in model.get_weights()]
    )
    if path is not None:
        model.save(path)
    return model


@pytest.mark.needs("keras")
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("live", [False, True])
def test_a_mixed_policy_is_named_and_judged_in_its_type(live: bool, dtype: str, tmp_path: Path) -> None:
    a, b = (keras_model(kind, tmp_path / f"{kind}.keras") for kind in ("float32", f"mixed_{dtype}"))
    sides = (a, b) if live else (tmp_path / "float32.keras", tmp_path / f"mixed_{dtype}.keras")
    found = verify(*sides)
    assert found.status == "equivalent", found.reason
    words = f"of float32 in the first model and computing in {dtype} on weights of float32 in the second"
    assert f"Judged in the rounding noise of {dtype}: " in found.reason
    assert words in found.reason
    assert verify(sides[0], sides[0]).reason.count("rounding noise of") == 0
    # In float32's noise the one would be thousands of times off; in that of its type it is within the limit.
    assert all(pair.noise_ratio <= 10 for pair in found.pairs)


@pytest.mark.needs("keras")
@pytest.mark.parametrize("dtype", NARROW)
def test_a_mixed_model_with_a_wrong_number(dtype: str, tmp_path: Path) -> None:
    """Its weights are float32, and are held against the others as such."""
    keras_model("float32", tmp_path / "a.keras")
    model = keras_model(f"mixed_{dtype}")
    weights = model.get_weights()
    weights[0][1, 2] *= 1 + 2.0**-20
    model.set_weights(weights)
    model.save(tmp_path / "b.keras")
    assert not verify(tmp_path / "a.keras", tmp_path / "b.keras")
    assert not verify(tmp_path / "a.keras", model)


@pytest.mark.needs("keras", "torch")
@pytest.mark.parametrize("to", ["torch", "onnx", "keras", "npz"])
def test_a_mixed_model_is_not_converted_into_another_type(to: str, tmp_path: Path) -> None:
    model = keras_model("mixed_float16", tmp_path / "mixed.keras")
    with pytest.raises(
        UnsupportedError, match=r"'gru\w*' computes in float16.* in float32; make it a model of float32"
    ):
        xframe.convert(model, to)
    for layers_only in (False, True):
        with pytest.raises(UnsupportedError, match="computes in float16"):
            convert_file(tmp_path / "mixed.keras", tmp_path / "made", to, layers_only=layers_only)
    assert not (tmp_path / "made").exists()


@pytest.mark.needs("keras", "torch")
def test_a_mixed_layer_is_neither_moved_nor_compared_by_itself() -> None:
    import torch

    layer, other = keras_model("mixed_float16").layers[0], torch.nn.GRU(4, 6, batch_first=True)
    for use in (xframe.transfer, xframe.compare):
        for pair in ((layer, other), (other, layer)):
            with pytest.raises(UnsupportedError, match="mixed_float16, which is not modelled; build it in"):
                use(*pair)


@pytest.mark.needs("torch")
def test_a_live_model_of_bfloat16_is_not_converted_into_float32() -> None:
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)).bfloat16()
    for one in (model, torch.nn.LSTM(4, 3, batch_first=True).bfloat16()):
        with pytest.raises(UnsupportedError, match=r"computes in bfloat16.*model\.to\(torch\.float32\)"):
            xframe.convert(one, "torch")


# ---- What files say.


def with_options(path: Path, kind: str, **options: Any) -> None:
    """Change the configuration of each layer of a kind in a Keras HDF5 file."""
    import json

    import h5py

    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        changed = [one["config"] for one in config["config"]["layers"] if one["class_name"] == kind]
        assert changed
        for one in changed:
            one.update(options)
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.0.2"


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of an Embedding, an LSTM and a Dense, as HDF5."""
    import keras

    path, layers = tmp_path_factory.mktemp("words") / "words.h5", keras.layers
    model = keras.Sequential([keras.Input((7,)), layers.Embedding(20, 6), layers.LSTM(5), layers.Dense(1)])
    model.save(path)
    return path


@pytest.mark.needs("keras", "torch")
@pytest.mark.parametrize("kind", ["int32", "int64", "uint8"])
def test_an_embedding_of_keras_2_reads_whole_numbers(kind: str, words: Path, tmp_path: Path) -> None:
    """What its dtype says is the type of its input; its table is of floats, and the model is converted whole."""
    import keras
    import torch

    from xframe.writers.base import module_of

    path = tmp_path / "old.h5"
    path.write_bytes(words.read_bytes())
    with_options(path, "Embedding", dtype=kind)
    assert convert_file(path, tmp_path / "made", "torch").not_converted == ()
    x = np.random.default_rng(0).integers(0, 20, (3, 7))
    got = module_of(tmp_path / "made")["load"](tmp_path / "made")(torch.tensor(x)).detach().numpy()
    wanted = np.asarray(keras.ops.convert_to_numpy(keras.models.load_model(words)(x)))
    assert np.abs(got - wanted).max() < 1e-6 * np.abs(wanted).max()
    # Of any other layer it is not.
    with_options(path, "LSTM", dtype=kind)
    assert f"has dtype='{kind}'" in " ".join(convert_file(path, tmp_path / "parts", "torch").why)


@pytest.mark.needs("keras")
@pytest.mark.parametrize(
    "policy",
    [
        "mixed_float16",
        {"class_name": "Policy", "config": {"name": "mixed_float16"}},
        {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "mixed_float16"}, "registered_name": None},
    ],
    ids=["a name", "Keras 2", "Keras 3"],
)
def test_every_way_to_write_a_policy(policy: Any, words: Path, tmp_path: Path) -> None:
    path = tmp_path / "mixed.h5"
    path.write_bytes(words.read_bytes())
    with_options(path, "LSTM", dtype=policy)
    found = {layer.kind: computes(layer.options) for layer in load(path).layers if layer.tensors}
    assert found == {"Embedding": "float32", "LSTM": "float16", "Dense": "float32"}
    told = {warning for layer in recognise(load(path)).layers for warning in layer.warnings}
    assert told == {"It computes in float16, by its dtype policy, on weights of float32."}
    inside = {"layer": {"class_name": "LSTM", "config": {"dtype": policy}}, "dtype": "float32"}
    assert computes(inside) == computes({"cell": {"config": {"cells": [{"config": inside}]}}}) == "float16"
    with pytest.raises(UnsupportedError, match="computes in float16"):
        convert_file(path, tmp_path / "made", "torch")


@pytest.mark.needs("torch")
@pytest.mark.parametrize("dtype", NARROW)
def test_a_file_of_16_bits_is_named(dtype: str, tmp_path: Path) -> None:
    import torch

    layer = torch_layer("gru", 5, 0).to(getattr(torch, dtype))
    torch.save(layer.state_dict(), tmp_path / "narrow.pt")
    (found,) = recognise(load(tmp_path / "narrow.pt")).layers
    assert found.warnings == (f"Its numbers are {dtype}.",)
    converted = convert_file(tmp_path / "narrow.pt", tmp_path / "made", "torch")
    assert any(f"Its numbers are {dtype}." in warning for warning in converted.warnings)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("dtype", NARROW)
def test_other_tensors_up_to_right_rounding(dtype: str, tmp_path: Path) -> None:
    """Of a normalisation, of which some are too small for full precision; one that is a step off is another number."""
    import torch

    torch.manual_seed(3)
    wide = torch.nn.ModuleDict({"rnn": torch_layer("gru", 4, 1), "norm": torch.nn.LayerNorm(50)})
    with torch.no_grad():
        wide["norm"].weight.uniform_(-1, 1)
        wide["norm"].bias.uniform_(-(2.0**-15), 2.0**-15)
    narrow = copy.deepcopy(wide).to(getattr(torch, dtype))
    for name, model in (("wide", wide), ("narrow", narrow)):
        torch.save(model.state_dict(), tmp_path / f"{name}.pt")
    assert verify(tmp_path / "wide.pt", tmp_path / "narrow.pt").status == "equivalent"
    with torch.no_grad():
        before = narrow["norm"].weight[3].clone()
        narrow["norm"].weight[3] += torch.copysign(
            2 * torch.finfo(before.dtype).eps * before.abs(), before - wide["norm"].weight[3]
        )
    torch.save(narrow.state_dict(), tmp_path / "narrow.pt")
    assert verify(tmp_path / "wide.pt", tmp_path / "narrow.pt").status == "different"
