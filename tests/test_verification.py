"""Two model files, or a file and a model: who is whose partner, what counts as equal, and what the commands say and exit with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import helpers
import keras
import numpy as np
import pytest
import torch
from test_cli import run
from test_real_models import find_models

import xframe
from xframe import Recurrent, reference
from xframe.adapters import get_adapter, known_packings
from xframe.errors import SpecError, UnsupportedError
from xframe.packing import pack
from xframe.recognition import Choices
from xframe.reference import Given
from xframe.verification import Verification, verify

FEATURES, UNITS = 5, 7
BOTH = Recurrent("lstm", FEATURES, UNITS, num_layers=2, bidirectional=True)


def torch_model(spec: Recurrent = BOTH, seed: int = 0, units: int = 3) -> Any:
    """A layer of PyTorch and a Linear on it, filled with distinct numbers."""
    torch.manual_seed(seed)
    layer = get_adapter("torch").build_loaded(spec, helpers.weights(spec, seed, "float32"), "float32")
    return torch.nn.ModuleDict({"rnn": layer, "head": torch.nn.Linear(spec.output_size, units)})


def keras_model(source: Any) -> Any:
    """The same in Keras, by `xframe.transfer`."""
    spec = get_adapter("torch").spec(source["rnn"])
    layer = get_adapter("keras").build(spec)
    xframe.transfer(source["rnn"], layer)
    head = keras.layers.Dense(source["head"].out_features)
    head.build((None, spec.output_size))
    xframe.transfer(source["head"], head)
    layers = layer.layers if isinstance(layer, keras.Sequential) else [layer]
    model = keras.Sequential([keras.Input((None, FEATURES)), *layers, head])
    model(np.zeros((1, 2, FEATURES), "float32"))
    return model


def saved(model: Any, path: Path) -> Path:
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One model in four files."""
    folder, model = tmp_path_factory.mktemp("files"), torch_model()
    other = keras_model(model)
    found = {"pt": saved(model, folder / "model.pt")}
    for ending in ("keras", "h5", "weights.h5"):
        found[ending] = folder / f"model.{ending}"
        (other.save if ending != "weights.h5" else other.save_weights)(found[ending])
    return found


@pytest.mark.parametrize("a", ["pt", "keras", "h5", "weights.h5"])
@pytest.mark.parametrize("b", ["pt", "keras", "h5", "weights.h5"])
def test_one_model_in_two_files(a: str, b: str, files: dict[str, Path]) -> None:
    """Two layers that PyTorch stores as one; biases that it stores twice."""
    found = verify(files[a], files[b])
    assert found.status == "equivalent", found.reason
    assert len(found.pairs) == 3
    assert not found.only_a + found.only_b + found.others
    assert {pair.status for pair in found.pairs} == {"equivalent"}


def test_a_file_and_a_model(files: dict[str, Path]) -> None:
    model = torch_model()
    assert verify(files["keras"], model)
    assert verify(model, keras_model(model))
    assert verify(model["rnn"], files["h5"], subset=True)
    assert not verify(files["keras"], torch_model(seed=1))


def changed(model: Any, change: Callable[[dict[str, Any]], None]) -> Any:
    with torch.no_grad():
        change(dict(model.named_parameters()))
    return model


def _gates_swapped(p: dict[str, Any]) -> None:
    w = p["rnn.weight_hh_l1_reverse"]
    w.copy_(torch.cat([w[UNITS : 2 * UNITS], w[:UNITS], w[2 * UNITS :]]))


def _directions_swapped(p: dict[str, Any]) -> None:
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        one, other = p[f"rnn.{name}_l0"], p[f"rnn.{name}_l0_reverse"]
        kept = one.clone()
        one.copy_(other)
        other.copy_(kept)


def _one_number(p: dict[str, Any]) -> None:
    p["head.weight"][1, 2] += 1e-5


def _one_bias_dropped(p: dict[str, Any]) -> None:
    p["rnn.bias_hh_l1"].zero_()


def _bias_moved(p: dict[str, Any]) -> None:
    """No mistake: only the sum is used."""
    one, other = p["rnn.bias_ih_l0"], p["rnn.bias_hh_l0"]
    total = one.double() + other.double()
    one.copy_(total)
    other.zero_()


@pytest.mark.parametrize("mistake", [_gates_swapped, _directions_swapped, _one_number, _one_bias_dropped])
def test_mistakes_are_seen(mistake: Any, files: dict[str, Path], tmp_path: Path) -> None:
    wrong = saved(changed(torch_model(), mistake), tmp_path / "wrong.pt")
    for a, b in ((files["keras"], wrong), (wrong, files["pt"])):
        found = verify(a, b)
        assert found.status == "different"
        assert "parameters differ by up to" in found.reason
        assert sum(pair.status == "different" for pair in found.pairs) == 1


def test_what_only_rounds_is_no_mistake(files: dict[str, Path], tmp_path: Path) -> None:
    assert verify(files["keras"], saved(changed(torch_model(), _bias_moved), tmp_path / "moved.pt"))
    half = torch_model().half()
    path = saved(half, tmp_path / "half.pt")
    assert verify(files["pt"], path)
    # What is not rounding is seen in half precision too.
    wrong = changed(half, lambda p: p["head.weight"][0].mul_(1.01))
    assert verify(files["pt"], saved(wrong, tmp_path / "wrong.pt")).status == "different"


def test_layers_without_a_partner(files: dict[str, Path], tmp_path: Path) -> None:
    whole = torch_model()
    part = saved(whole["rnn"], tmp_path / "part.pt")
    found = verify(part, files["keras"])
    assert found.status == "different"
    assert found.only_b
    assert "has no partner in the other" in found.reason
    assert verify(part, files["keras"], subset=True)
    # The other way round it is the first that holds more.
    assert verify(files["keras"], part, subset=True).status == "different"


def test_tensors_of_other_layers(tmp_path: Path) -> None:
    """A convolution, whose axes lie otherwise in Keras, and a normalisation; one number that differs is seen."""
    base = torch_model(Recurrent("gru", FEATURES, UNITS))
    base["conv"], base["norm"] = torch.nn.Conv1d(4, 6, 3), torch.nn.LayerNorm(9)
    torch.nn.init.normal_(base["norm"].weight)
    torch.nn.init.normal_(base["norm"].bias)
    arrays = {name: p.detach().numpy() for name, p in base.state_dict().items()}
    arrays["conv.weight"] = arrays["conv.weight"].transpose(2, 1, 0)
    np.savez(tmp_path / "same.npz", **arrays)
    found = verify(saved(base, tmp_path / "a.pt"), tmp_path / "same.npz", choices=Choices(packing="torch"))
    assert found.status == "equivalent", found.reason
    assert len(found.others) == 4
    arrays["norm.weight"] = arrays["norm.weight"] + np.float32(1e-3) * (np.arange(9) == 4)
    np.savez(tmp_path / "other.npz", **arrays)
    found = verify(tmp_path / "a.pt", tmp_path / "other.npz", choices=Choices(packing="torch"))
    assert found.status == "different"
    assert found.reason.startswith("norm.weight differs by up to 0.001 at (4,), in 1 of 9 numbers.")
    assert not found.only_a + found.only_b


def _others(**arrays: Any) -> dict[str, Any]:
    """The arrays beside a layer, without which there is nothing to compare."""
    layer = torch_model(Recurrent("gru", FEATURES, UNITS))
    return {**{name: p.detach().numpy() for name, p in layer.state_dict().items()}, **arrays}


def _verified(folder: Path, one: dict[str, Any], other: dict[str, Any], torch_side: bool = False) -> Verification:
    np.savez(folder / "one.npz", **one)
    if torch_side:
        torch.save(
            {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in one.items()}, folder / "one.pt"
        )
        torch.save(
            {n: torch.from_numpy(np.ascontiguousarray(array)) for n, array in other.items()}, folder / "other.pt"
        )
        return verify(folder / "one.pt", folder / "other.pt")
    np.savez(folder / "other.npz", **other)
    return verify(folder / "one.npz", folder / "other.npz", choices=Choices(packing="torch"))


@pytest.mark.parametrize("name", ["embedding.weight", "table.embeddings"])
def test_a_tensor_of_another_layer_with_one_wrong_number(name: str, tmp_path: Path) -> None:
    """It belongs to the one of its name, or the only one of its shape; one that lacks has no partner."""
    array = helpers.away_from_zero(np.random.default_rng(0), (9, 4), 1.0).astype("float32")
    wrong = array.copy()
    wrong[7, 3] += 1e-3
    right = _others(**{"embedding.weight": array})
    found = _verified(tmp_path, right, _others(**{name: wrong}))
    assert found.status == "different"
    assert "differ" in found.reason
    assert f"by up to {abs(wrong - array).max():.2g} at (7, 3), in 1 of 36 numbers" in found.reason
    assert not found.only_a + found.only_b
    assert f"{found.differing[0]}." in " ".join(found.report().split())
    for a, b in ((right, _others()), (_others(), right)):
        found = _verified(tmp_path, a, b)
        assert "embedding.weight of the" in found.reason
        assert found.reason.endswith("model has no partner in the other.")
    two = _others(**{"embedding.weight": array, "more.weight": array[:3]})
    assert "has no partner in the other, nor has 1 more." in _verified(tmp_path, two, _others()).reason
    # Of two of one shape nobody knows which it is.
    found = _verified(tmp_path, right, _others(one=wrong, two=wrong + 1))
    assert "embedding.weight of the first model has no partner in the other, nor have 2 more." in found.reason


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("live", [False, True], ids=["file", "live"])
def test_a_tensor_of_16_bits_is_named_with_how_far_it_is_off(live: bool, dtype: str, tmp_path: Path) -> None:
    """By one rule for files and live modules; and a number that is not rounding is seen beside those that are."""
    model = torch_model(Recurrent("gru", FEATURES, UNITS))
    model["embedding"] = torch.nn.Embedding(9, 4)
    wide = model["embedding"].weight.detach().clone()
    saved(model, tmp_path / "wide.pt")
    model["embedding"].to(getattr(torch, dtype))
    off = (wide - model["embedding"].weight.float()).abs().max().item()
    found = verify(tmp_path / "wide.pt", model if live else saved(model, tmp_path / "narrow.pt"))
    assert found.status == "equivalent", found.reason
    told = (
        f"Judged as rounded to {dtype}: embedding.weight, of float32 in the first model and of {dtype} in the second, which "
        f"differ by up to {off:.2g}."
    )
    assert told in found.notes
    assert told in found.reason
    assert "and 1 other tensor holds the same numbers" in found.reason
    with torch.no_grad():
        model["embedding"].weight[7, 3] += 0.1
    found = verify(tmp_path / "wide.pt", model if live else saved(model, tmp_path / "wrong.pt"))
    assert found.status == "different"
    assert f"at (7, 3), in 1 of 36 numbers beyond rounding to {dtype}" in found.reason


@pytest.mark.parametrize("torch_side", [False, True])
@pytest.mark.parametrize(
    ("name", "shape", "axes"), [("conv.weight", (6, 6, 3), (1, 0, 2)), ("embedding.weight", (8, 8), (1, 0))]
)
def test_a_square_tensor_that_was_transposed_is_seen(
    name: str, shape: tuple[int, ...], axes: tuple[int, ...], torch_side: bool, tmp_path: Path
) -> None:
    array = helpers.away_from_zero(np.random.default_rng(0), shape, 1.0).astype("float32")
    right = _others(**{name: array})
    assert _verified(tmp_path, right, right, torch_side)
    wrong = _others(**{name: array.transpose(axes)})
    assert _verified(tmp_path, right, wrong, torch_side).status == "different"


def test_a_scale_taken_for_an_offset_is_seen(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    one, other = (helpers.away_from_zero(random, (9,), 1.0).astype("float32") for _ in range(2))
    keras_side = _others(**{"norm.gamma": one, "norm.beta": other})
    assert _verified(tmp_path, keras_side, _others(**{"norm.bias": other, "norm.weight": one}))
    assert _verified(tmp_path, keras_side, _others(**{"norm.bias": one, "norm.weight": other})).status == "different"


def test_tensors_of_one_shape_in_another_order_prove_nothing(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    one, other = (helpers.away_from_zero(random, (9, 4), 1.0).astype("float32") for _ in range(2))
    first = _others(**{"conv_a.weight": one, "conv_b.weight": other})
    assert _verified(tmp_path, first, _others(**{"conv_c.weight": one, "conv_d.weight": other}))
    found = _verified(tmp_path, first, _others(**{"conv_c.weight": other, "conv_d.weight": one}))
    assert found.status == "inconclusive"
    # Names tell, where they are the same.
    assert _verified(tmp_path, first, _others(**{"conv_b.weight": other, "conv_a.weight": one}))
    found = _verified(tmp_path, first, _others(**{"conv_a.weight": other, "conv_b.weight": one}))
    assert found.status != "equivalent"


def test_layers_of_one_shape_in_another_order(tmp_path: Path) -> None:
    """Two layers of one shape whose names do not tell: paired by what they hold, and only if that makes all of them equal."""
    spec = Recurrent("lstm", 6, 6)
    one, two, three = (helpers.weights(spec, seed, "float32") for seed in (1, 2, 3))

    def write(name: str, **layers: Any) -> Path:
        packing = known_packings()["torch"]
        tensors = {f"{k}.{n}": a for k, blocks in layers.items() for n, a in pack(packing, spec, blocks, "float32")}
        np.savez(tmp_path / name, **tensors)
        return tmp_path / name

    torch_names = Choices(packing="torch")
    a, b = write("a.npz", first=one, second=two), write("b.npz", third=two, fourth=one)
    # Swapped, or only kept in another order: nobody can tell.
    found = verify(a, b, choices=torch_names)
    assert found.status == "inconclusive"
    assert [(pair.a, pair.b) for pair in found.pairs] == [("first", "fourth"), ("second", "third")]
    assert "names do not tell which belongs to which" in found.reason
    # One that is left out leaves the order as it is.
    more = write("more.npz", zeroth=three, third=one, fourth=two)
    found = verify(a, more, choices=torch_names, subset=True)
    assert found.status == "equivalent", found.reason
    assert [(pair.a, pair.b) for pair in found.pairs] == [("first", "third"), ("second", "fourth")]
    found = verify(a, write("c.npz", third=two, fourth=three), choices=torch_names)
    assert found.status == "different"
    # A layer of that name is the partner even if another one fits better.
    found = verify(a, write("d.npz", second=one, first=two), choices=torch_names)
    assert found.status == "different"
    assert [(pair.a, pair.b) for pair in found.pairs] == [("first", "first"), ("second", "second")]


def test_another_function_of_the_same_numbers(files: dict[str, Path], tmp_path: Path) -> None:
    model = torch_model(Recurrent("lstm", FEATURES, UNITS))
    twin = keras_model(model)
    twin.layers[0].cell.recurrent_activation = keras.activations.hard_sigmoid
    config = twin.get_config()
    config["layers"][1]["config"]["recurrent_activation"] = "hard_sigmoid"
    other = keras.Sequential.from_config(config)
    other.set_weights(twin.get_weights())
    other.save(tmp_path / "hard.keras")
    found = verify(tmp_path / "hard.keras", model)
    assert found.status == "different"
    assert "recurrent_activation='hard_sigmoid'" in found.reason
    # Weights alone do not say it, and the note tells what was assumed.
    other.save_weights(tmp_path / "hard.weights.h5")
    found = verify(tmp_path / "hard.weights.h5", model)
    assert found.status == "equivalent"
    assert any("The first side does not say recurrent_activation" in n for pair in found.pairs for n in pair.notes)


def test_what_one_side_leaves_open_is_taken_from_the_other(tmp_path: Path) -> None:
    """A weights file of Keras does not say that its layer is a relu."""
    source = torch.nn.RNN(FEATURES, UNITS, nonlinearity="relu", batch_first=True)
    layer = get_adapter("keras").build(get_adapter("torch").spec(source))
    xframe.transfer(source, layer)
    keras.Sequential([keras.Input((None, FEATURES)), layer]).save_weights(tmp_path / "relu.weights.h5")
    for a, b, side in (
        (tmp_path / "relu.weights.h5", source, "first"),
        (source, tmp_path / "relu.weights.h5", "second"),
    ):
        found = verify(a, b)
        assert found.status == "equivalent", found.reason
        assert any(f"The {side} side does not say activation; it is taken as 'relu'" in n for n in found.pairs[0].notes)


def test_the_reading_that_agrees_is_taken(tmp_path: Path) -> None:
    """Square arrays that may be packed as PyTorch or as ONNX does."""
    spec = Recurrent("gru", 6, 6)
    arrays = dict(pack(known_packings()["torch"], spec, helpers.weights(spec, dtype="float32"), "float32"))
    np.savez(
        tmp_path / "w.npz", **{f"enc_{n.removesuffix('_l0').replace('weight', 'w')}": a for n, a in arrays.items()}
    )
    layer = get_adapter("torch").build_loaded(spec, helpers.weights(spec, dtype="float32"), "float32")
    assert verify(tmp_path / "w.npz", layer)
    assert verify(layer, tmp_path / "w.npz")


def test_a_choice_may_be_meant_for_one_of_the_files(tmp_path: Path) -> None:
    """A square npz that does not say how it is packed, and a file of PyTorch, for which --packing onnx would make no sense."""
    spec = Recurrent("gru", 6, 6)
    blocks = helpers.weights(spec, dtype="float32")
    layer = get_adapter("torch").build_loaded(spec, blocks, "float32")
    onnx = {n: a[0] for n, a in pack(known_packings()["onnx"], spec, blocks, "float32")}
    bias = np.split(onnx["B"], 2)
    np.savez(tmp_path / "w.npz", enc_w_ih=onnx["W"], enc_w_hh=onnx["R"], enc_b_ih=bias[0], enc_b_hh=bias[1])
    path = saved(layer, tmp_path / "layer.pt")
    assert verify(tmp_path / "w.npz", path, choices=Choices(packing="onnx-arrays"))
    assert verify(path, tmp_path / "w.npz", choices=Choices(packing="onnx-arrays"))
    for a, b in ((path, path), (path, layer), (layer, path)):
        with pytest.raises(SpecError, match="packing='onnx-arrays' is true of no layer"):
            verify(a, b, choices=Choices(packing="onnx-arrays"))


def test_outputs_are_compared_too(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same parameters, and another function of them."""
    right = reference.run_given

    def wrong(spec: Any, params: Any, given: Given, ops: Any = None) -> Any:
        out = right(spec, params, given, ops)
        return replace(out, last=out.last * (1 + 1e-3)) if ops is None else out

    monkeypatch.setattr(reference, "run_given", wrong)
    found = verify(files["pt"], files["keras"])
    assert found.status == "different"
    assert "whose outputs differ by" in found.reason


def test_outputs_that_are_all_zero_prove_nothing(tmp_path: Path) -> None:
    layer = torch.nn.LSTM(FEATURES, UNITS)
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
    found = verify(saved(layer, tmp_path / "zero.pt"), tmp_path / "zero.pt")
    assert found.status == "inconclusive"
    assert not found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.float32(2), np.float32(2.5)),
        (np.array([0.25], "float32"), np.array([0.9], "float32")),
        (np.array([0, 1, 2]), np.array([2, 1, 0])),
        (np.array([True, False]), np.array([False, True])),
    ],
)
def test_single_numbers_and_whole_numbers_are_compared(one: Any, other: Any, tmp_path: Path) -> None:
    arrays = {name: p.detach().numpy() for name, p in torch_model().state_dict().items()}

    def write(name: str, **more: Any) -> Path:
        np.savez(tmp_path / name, **arrays, **more)
        return tmp_path / name

    packing = Choices(packing="torch")
    first, same = write("one.npz", own=one), write("same.npz", own=one)
    assert verify(first, same, choices=packing)
    found = verify(first, write("other.npz", own=other), choices=packing)
    assert found.status == "different"
    assert found.reason.startswith("own is ")
    # One without a partner may be used or not.
    for a, b in ((first, write("none.npz")), (tmp_path / "none.npz", first)):
        found = verify(a, b, choices=packing)
        assert found.status == "inconclusive"
        assert "own has no partner" in found.reason
    # What is not used at inference needs none.
    counted = write("counted.npz", **{"norm.num_batches_tracked": np.int64(3)})
    found = verify(counted, tmp_path / "none.npz", choices=packing)
    assert found.status == "equivalent", found.reason
    assert any("norm.num_batches_tracked" in note for note in found.notes)


def test_layers_of_one_stack_that_were_swapped_are_different(tmp_path: Path) -> None:
    spec = Recurrent("lstm", UNITS, UNITS, num_layers=2)
    layer = get_adapter("torch").build_loaded(spec, helpers.weights(spec, dtype="float32"), "float32")
    saved(layer, tmp_path / "right.pt")
    state = dict(layer.state_dict())
    torch.save({n: state[n[:-1] + str(1 - int(n[-1]))] for n in state}, tmp_path / "swapped.pt")
    assert verify(tmp_path / "right.pt", tmp_path / "right.pt")
    found = verify(tmp_path / "right.pt", tmp_path / "swapped.pt")
    assert found.status == "different"
    assert "parameters differ" in found.reason


def test_nothing_to_compare(tmp_path: Path) -> None:
    np.savez(tmp_path / "empty.npz", weights=np.ones((3, 4, 5), "float32"))
    with pytest.raises(SpecError, match="has no recurrent or dense layer"):
        verify(tmp_path / "empty.npz", tmp_path / "empty.npz")
    with pytest.raises(UnsupportedError, match="does not know what"):
        verify(tmp_path / "empty.npz", {"a": 1})


# ---- Real models.


@pytest.fixture(scope="module")
def models() -> Path:
    import os

    return find_models(os.environ)


@pytest.mark.parametrize(
    ("a", "b", "subset", "pairs", "others"),
    [
        ("model.h5", "model.pth", False, 6, 4),
        ("model.pth", "model.h5", False, 6, 4),
        ("model_1.onnx", "model.pth", True, 3, 0),
        ("model_1.onnx", "model.h5", True, 3, 0),
        ("model_2.onnx", "model.pth", True, 3, 4),
        ("model_2.onnx", "model.h5", True, 3, 4),
    ],
)
def test_dtln(a: str, b: str, subset: bool, pairs: int, others: int, models: Path) -> None:
    found = verify(models / "dtln" / a, models / "dtln" / b, subset=subset)
    assert found.status == "equivalent", found.reason
    assert (len(found.pairs), len(found.others)) == (pairs, others)
    assert all(pair.max_abs == 0 for pair in found.pairs)


def test_half_of_a_model_is_not_the_model(models: Path) -> None:
    found = verify(models / "dtln/model_1.onnx", models / "dtln/model.pth")
    assert found.status == "different"
    assert {"sep2.rnn1", "sep2.rnn2", "sep2.dense"} <= set(found.only_b)


# ---- The commands.


def report(found: Verification) -> str:
    return " ".join(found.report().split())


def test_verify_on_the_command_line(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "verify", str(files["keras"]), str(files["pt"]))
    assert (status, err) == (0, "")
    assert "VERDICT: equivalent. All 3 pairs of layers have the same parameters and outputs." in " ".join(out.split())
    wrong = saved(changed(torch_model(), _gates_swapped), tmp_path / "wrong.pt")
    status, out, err = run(capsys, "verify", str(files["keras"]), str(wrong), "--format", "json")
    assert (status, err) == (1, "")
    content = json.loads(out)
    assert (content["command"], content["status"]) == ("verify", "different")
    assert [pair["status"] for pair in content["pairs"]] == ["equivalent", "different", "equivalent"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verify", "{keras}"], "Missing argument 'B'"),
        (["verify", "{keras}", "nowhere.h5"], "Cannot read nowhere.h5: No such file"),
        (["verify", "{keras}", "{text}"], "of no known format"),
        (["verify", "{keras}", "{pt}", "--cell", "gru"], "cell='gru' is true of no layer"),
        (["verify", "{keras}", "{pt}", "--seed", "-1"], "seed must be a whole number of at least 0"),
        (["inspect"], "Missing argument 'FILE'"),
        (["inspect", "{folder}"], "holds no SavedModel and no checkpoint"),
        (["inspect", "{keras}", "--packing", "pytorch"], "packing must be one of"),
        (["inspect", "{keras}", "--output", "{folder}"], "it is a folder"),
    ],
)
def test_bad_input(
    arguments: list[str], words: str, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.h5").write_text("not a model\n")
    places = {**files, "text": tmp_path / "notes.h5", "folder": tmp_path}
    status, out, err = run(capsys, *(a.format(**places) for a in arguments))
    assert (status, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_inspect_on_the_command_line(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "inspect", str(files["pt"]))
    assert (status, err) == (0, "")
    words = " ".join(out.split())
    assert "rnn LSTM(7) on 5 features, 2 layers, bidirectional torch.nn.LSTM" in words
    assert "head Dense(3) on 14 features torch.nn.Linear" in words
    status, out, _ = run(capsys, "inspect", str(files["weights.h5"]), "--format", "json")
    content = json.loads(out)
    assert status == 0
    assert content["format"] == "keras-weights"
    assert sum(tensor["count"] for tensor in content["tensors"]) == sum(
        p.numel() for p in torch_model().parameters()
    ) - (2 * 2 * 4 * UNITS)


def test_what_the_file_does_not_decide_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = Recurrent("gru", 6, 6)
    arrays = pack(known_packings()["torch"], spec, helpers.weights(spec, dtype="float32"), "float32")
    np.savez(
        tmp_path / "w.npz",
        **{f"enc_{name.removesuffix('_l0').replace('weight', 'w')}": array for name, array in arrays},
    )
    _, out, _ = run(capsys, "inspect", str(tmp_path / "w.npz"))
    assert "choose with --packing" in " ".join(out.split())
    _, out, _ = run(capsys, "inspect", str(tmp_path / "w.npz"), "--packing", "torch")
    assert "choose" not in out
    assert "torch.nn.GRU" in out


def test_names_from_a_file_do_not_reach_the_terminal_raw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "w.npz", **{"\x1b[31mred\nline": np.ones((2, 3), "float32")})
    status, out, _ = run(capsys, "inspect", str(tmp_path / "w.npz"))
    assert status == 0
    assert "\x1b" not in out
    assert "\\x1b[31mred\\nline" in out


# ---- Tables.


def _with_a_table(table: np.ndarray, name: str, units: int) -> tuple[Any, dict[str, torch.Tensor]]:
    """A Keras model of an Embedding and an LSTM, and the same as a state_dict of PyTorch, the table by that name."""
    rows, width = table.shape
    layers = [keras.layers.Embedding(rows, width), keras.layers.LSTM(units)]
    model = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
    layers[0].set_weights([table])
    lstm = torch.nn.LSTM(width, units, batch_first=True)
    xframe.transfer(layers[1], lstm)
    state = {f"lstm.{own}": tensor for own, tensor in lstm.state_dict().items()}
    return model, {f"{name}.weight": torch.tensor(table), **state}


@pytest.mark.parametrize("units", [5, 6])
@pytest.mark.parametrize("name", ["embedding", "encoder", "lookup"])
def test_a_table_of_any_name_has_its_partner(name: str, units: int, tmp_path: Path) -> None:
    """With 6 units the file of PyTorch does not tell a table of 6 columns from a dense layer: the other side does."""
    table = np.random.default_rng(1).normal(size=(20, 6)).astype("float32")
    model, state = _with_a_table(table, name, units)
    model.save(tmp_path / "a.keras")
    torch.save(state, tmp_path / "b.pt")
    for pair in (("a.keras", "b.pt"), ("b.pt", "a.keras")):
        verification = verify(*(tmp_path / file for file in pair))
        assert len(verification.others) == 1, verification.reason
        assert not (verification.only_a + verification.only_b)
    state[f"{name}.weight"][3, 2] += 1
    torch.save(state, tmp_path / "b.pt")
    assert verify(tmp_path / "a.keras", tmp_path / "b.pt").status == "different"


@pytest.mark.parametrize("name", ["embedding", "lookup"])
def test_a_square_table_that_was_transposed_is_seen(name: str, tmp_path: Path) -> None:
    table = np.random.default_rng(1).normal(size=(6, 6)).astype("float32")
    model, state = _with_a_table(table, name, 4)
    state[f"{name}.weight"] = state[f"{name}.weight"].T.contiguous()
    model.save(tmp_path / "a.keras")
    torch.save(state, tmp_path / "b.pt")
    assert verify(tmp_path / "a.keras", tmp_path / "b.pt").status == "different"
    module = torch.nn.ModuleDict({name: torch.nn.Embedding(6, 6), "lstm": torch.nn.LSTM(6, 4, batch_first=True)})
    module.load_state_dict(state)
    assert verify(tmp_path / "a.keras", module).status == "different"


@pytest.mark.parametrize("axes", [(2, 1, 0), (1, 2, 0)])
def test_a_kernel_with_one_axis_more_has_a_partner(axes: tuple[int, ...], tmp_path: Path) -> None:
    """An exporter writes a convolution over one axis as one over two, the first of size 1; only its own order is right."""
    kernel = np.random.default_rng(1).normal(size=(3, 4, 4)).astype("float32")
    gru = torch.nn.GRU(5, 2)
    state = {f"gru.{own}": tensor for own, tensor in gru.state_dict().items()}
    torch.save(state | {"conv.weight": torch.tensor(kernel.transpose(axes)[:, :, None])}, tmp_path / "b.pt")
    inputs = keras.Input((None, 4))
    layers = [keras.layers.Conv1D(4, 3, use_bias=False), keras.layers.Dense(5), keras.layers.GRU(2)]
    model = keras.Sequential([inputs, *layers])
    layers[0].set_weights([kernel])
    model.save(tmp_path / "a.keras")
    others = verify(tmp_path / "a.keras", tmp_path / "b.pt").others
    assert len(others) == (1 if axes == (2, 1, 0) else 0)


def test_what_is_the_same_for_a_few_time_steps_only(tmp_path: Path) -> None:
    """States that grow: the last is the largest for a while."""

    def saved(name: str, *layers: Any) -> Path:
        y = keras.layers.Embedding(9, 3)(words := keras.Input((None,)))
        for layer in layers:
            y = layer(y)
        model, random = keras.Model(words, y), np.random.default_rng(3)
        model.set_weights([random.uniform(0.05, 0.3, w.shape) for w in model.get_weights()])
        model.save(tmp_path / name)
        return tmp_path / name

    k = keras.layers
    one = saved("a.keras", k.GRU(4, name="one"), k.Dense(2))
    other = saved("b.keras", k.GRU(4, return_sequences=True, name="two"), k.GlobalMaxPooling1D(), k.Dense(2))
    found = xframe.verify(one, other)
    assert found.status == "different"
    assert "sequence is False in one of the first model" in found.reason
