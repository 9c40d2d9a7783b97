"""Published trained models: the same numbers in two frameworks' files, and the same outputs from two frameworks.

The files are found by the environment variable XFRAME_MODELS. Where it is unset these tests are skipped, except in CI.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import helpers
import numpy as np
import pytest

from xframe.adapters import get_adapter, known_packings
from xframe.errors import LayoutError
from xframe.layout import Key
from xframe.packing import Parameters, pack, unpack
from xframe.reference import Given
from xframe.spec import Recurrent

FILES = ("dtln/model.h5", "dtln/model.pth", "textgenrnn/hacker_news.hdf5", "g2p/checkpoint20.npz")
PACKINGS = known_packings()


def find_models(environment: Mapping[str, str]) -> Path:
    """The folder with the models; skip where nobody named one, fail where it is missing or where CI has none."""
    named = environment.get("XFRAME_MODELS", "")
    if not named:
        if environment.get("CI", "").lower() not in ("", "0", "false"):
            pytest.fail("XFRAME_MODELS is not set, and this is CI: it must name the folder of the trained models")
        pytest.skip("XFRAME_MODELS is not set: it names the folder of the trained models")
    missing = [name for name in FILES if not (Path(named) / name).is_file()]
    if missing:
        pytest.fail(f"XFRAME_MODELS={named} lacks {', '.join(missing)}")
    return Path(named)


@pytest.fixture(scope="module")
def models() -> Path:
    return find_models(os.environ)


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """examples/real_models.py, whose readers these tests use too."""
    return helpers.module_at(Path(__file__).parent.parent / "examples" / "real_models.py")


@pytest.fixture(scope="module")
def g2p(models: Path) -> dict[str, np.ndarray]:
    with np.load(models / "g2p/checkpoint20.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.mark.parametrize("ci", ["true", "1", "True"])
def test_no_models_in_ci_is_a_failure(ci: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="XFRAME_MODELS is not set, and this is CI"):
        find_models({"CI": ci})


@pytest.mark.parametrize("environment", [{}, {"CI": ""}, {"CI": "false"}, {"XFRAME_MODELS": ""}])
def test_no_models_elsewhere_is_a_skip(environment: dict[str, str]) -> None:
    with pytest.raises(pytest.skip.Exception, match="XFRAME_MODELS is not set"):
        find_models(environment)


def test_a_missing_file_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"lacks dtln/model\.h5, .*checkpoint20\.npz"):
        find_models({"XFRAME_MODELS": str(tmp_path / "nowhere")})
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_models({"XFRAME_MODELS": str(tmp_path)}) == tmp_path
    (tmp_path / "dtln/model.pth").unlink()
    with pytest.raises(pytest.fail.Exception, match=r"lacks dtln/model\.pth$"):
        find_models({"XFRAME_MODELS": str(tmp_path)})


def judged_in(framework: str, params: Parameters, x: np.ndarray) -> None:
    """A layer of the framework with these parameters gives what the reference gives, in both float types."""
    adapter = get_adapter(framework)
    for dtype in ("float64", "float32"):
        layer = adapter.build_loaded(params.spec, params, dtype)
        given = x.astype(dtype)
        helpers.judge(params.spec, params, Given(given), dtype, adapter.run(layer, given))


# ---- DTLN: Keras 2.2.4-tf weights, and the same weights moved to PyTorch by someone else.

DTLN = {
    "lstm": ("sep1.rnn1", 257),
    "lstm_1": ("sep1.rnn2", 128),
    "lstm_2": ("sep2.rnn1", 256),
    "lstm_3": ("sep2.rnn2", 128),
}


@pytest.mark.needs("keras", "torch")
@pytest.mark.parametrize("name", DTLN)
def test_dtln(name: str, models: Path, example: ModuleType) -> None:
    prefix, features = DTLN[name]
    keras = example.from_keras(models / "dtln/model.h5", name)
    torch = example.from_torch(models / "dtln/model.pth", prefix)
    assert keras.spec == torch.spec == Recurrent("lstm", features, 128)
    # Bit for bit the same function, though one holds its biases on the input side and the other on the recurrent side.
    helpers.assert_same_numbers(helpers.effective(keras.spec, keras), helpers.effective(torch.spec, torch))
    helpers.assert_same_numbers(keras.effective(), torch.effective())
    assert not keras[Key(0, 0, "recurrent_bias", "i")].any()
    assert not torch[Key(0, 0, "bias", "i")].any()
    assert torch[Key(0, 0, "recurrent_bias", "i")].any()
    # The two files' memory is not the same: the layout had something to do.
    assert np.unique(keras[Key(0, 0, "kernel", "i")]).size > 1000

    x = example.signal(features, "float32")
    for params in (keras, torch):
        for framework in ("keras", "torch"):
            judged_in(framework, params, x)


@pytest.mark.needs("keras", "torch")
def test_dtln_layers_are_told_apart(models: Path, example: ModuleType) -> None:
    """The comparison above fails for two layers of one shape: lstm_1 and lstm_3."""
    one = example.from_keras(models / "dtln/model.h5", "lstm_1")
    other = example.from_torch(models / "dtln/model.pth", "sep2.rnn2")
    with pytest.raises(AssertionError):
        helpers.assert_same_numbers(one.effective(), other.effective())
    x = example.signal(128, "float32")
    layer = get_adapter("torch").build_loaded(other.spec, other, "float32")
    with pytest.raises(AssertionError, match="times its noise"):
        helpers.judge(one.spec, one, Given(x), "float32", get_adapter("torch").run(layer, x))


# ---- textgenrnn: two CuDNNLSTM of Keras 2.1.5, with tf_keras as the oracle.

TEXTGENRNN = {"rnn_1": 100, "rnn_2": 128}


def oracle(layer: Any, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The weights as tf_keras converts them when it loads the file into an LSTM of today."""
    from tf_keras.src.saving.legacy.hdf5_format import preprocess_weights_for_loading

    stored = [arrays["kernel"].copy(), arrays["recurrent_kernel"].copy(), arrays["bias"].copy()]
    return list(preprocess_weights_for_loading(layer, stored, "2.1.5", "tensorflow"))


def legacy_layer(features: int, dtype: str) -> Any:
    import tf_keras

    layer = tf_keras.layers.LSTM(128, return_sequences=True, return_state=True, dtype=dtype)
    layer.build((None, None, features))
    return layer


@pytest.mark.needs("keras", "torch")
@pytest.mark.parametrize("name", TEXTGENRNN)
def test_textgenrnn(name: str, models: Path, example: ModuleType) -> None:
    path, features = models / "textgenrnn/hacker_news.hdf5", TEXTGENRNN[name]
    arrays = example.keras_weights(path, name)
    assert {k: a.shape for k, a in arrays.items()} == {
        "kernel": (features, 512),
        "recurrent_kernel": (128, 512),
        "bias": (1024,),
    }
    params = example.from_keras(path, name, "keras-cudnn")
    assert params.spec == Recurrent("lstm", features, 128)

    converted = oracle(legacy_layer(features, "float32"), arrays)
    today = list(pack(PACKINGS["keras"], params.spec, params, "float32"))
    assert [key.split("/")[-1] for key, _ in today] == ["kernel", "recurrent_kernel", "bias"]
    for (key, array), wanted in zip(today, converted, strict=True):
        assert array.dtype == wanted.dtype == np.float32
        assert array.shape == wanted.shape
        assert array.tobytes() == wanted.tobytes(), key

    x = example.signal(features, "float32")
    for framework in ("keras", "torch"):
        judged_in(framework, params, x)
    for dtype in ("float64", "float32"):
        layer = legacy_layer(features, dtype)
        layer.set_weights(converted)
        sequence, h, c = (np.array(a) for a in layer(x.astype(dtype)))
        named = {"sequence": sequence, "last": h, "state h": h[None, None], "state c": c[None, None]}
        # In float64 against the biases as they were summed in float32: that is what tf_keras loads.
        summed = unpack(PACKINGS["keras"], params.spec, dict(today)) if dtype == "float64" else params
        helpers.judge(params.spec, summed, Given(x.astype(dtype)), dtype, named)


@pytest.mark.needs("keras")
@pytest.mark.parametrize("name", TEXTGENRNN)
def test_textgenrnn_is_not_packed_as_today(name: str, models: Path, example: ModuleType) -> None:
    """FACTS.md: folding the bias alone, with the kernels as they lie, is wrong; and the plain packing refuses the file."""
    path = models / "textgenrnn/hacker_news.hdf5"
    arrays = example.keras_weights(path, name)
    with pytest.raises(LayoutError, match=r"bias has shape \(1024,\).*\(512,\)"):
        example.from_keras(path, name)
    params = example.from_keras(path, name, "keras-cudnn")
    naive = unpack(
        PACKINGS["keras"],
        params.spec,
        {f"lstm/lstm_cell/{k}": a if k != "bias" else a[:512] + a[512:] for k, a in arrays.items()},
    )
    for role in ("kernel", "recurrent_kernel"):
        off = max(float(np.abs(naive[k] - params[k]).max()) for k in params if k.role == role)
        assert off > 1, role
    x = example.signal(params.spec.input_size, "float32")
    layer = get_adapter("keras").build_loaded(params.spec, naive, "float32")
    with pytest.raises(AssertionError, match="times its noise"):
        helpers.judge(params.spec, params, Given(x), "float32", get_adapter("keras").run(layer, x))


# ---- g2p: GRU(256) encoder and decoder in NumPy arrays that are packed as PyTorch packs.


def by_its_own_equations(arrays: Mapping[str, np.ndarray], part: str, x: np.ndarray) -> np.ndarray:
    """The GRU as g2p_en/g2p.py describes it, one row of weights a unit, in float64; (time, 256)."""
    w_ih, w_hh, b_ih, b_hh = (arrays[f"{part}_{name}"].astype(np.float64) for name in ("w_ih", "w_hh", "b_ih", "b_hh"))
    h, states = np.zeros(256), []
    for step in x[0].astype(np.float64):
        a, b = w_ih @ step + b_ih, w_hh @ h + b_hh
        r, z = 1 / (1 + np.exp(-(a[:256] + b[:256]))), 1 / (1 + np.exp(-(a[256:512] + b[256:512])))
        h = (1 - z) * np.tanh(a[512:] + r * b[512:]) + z * h
        states.append(h)
    return np.array(states)


@pytest.mark.needs("keras", "torch")
@pytest.mark.parametrize("part", ["enc", "dec"])
def test_g2p(part: str, g2p: dict[str, np.ndarray], example: ModuleType) -> None:
    params = example.from_g2p(g2p, part)
    assert params.spec == Recurrent("gru", 256, 256, reset_after=True)
    # A reset-after GRU whose candidate really has a recurrent bias: it cannot be folded away.
    assert np.abs(params[Key(0, 0, "recurrent_bias", "n")]).max() > 0.01
    x = example.spelled(g2p, "nonequivalences")
    assert x.shape == (1, 16, 256)
    states = by_its_own_equations(g2p, part, x)
    named = {"sequence": states[None], "last": states[None, -1], "state h": states[None, None, None, -1]}
    helpers.judge(params.spec, params, Given(x.astype(np.float64)), "float64", named)
    for framework in ("keras", "torch"):
        judged_in(framework, params, x)


@pytest.mark.needs("keras", "torch")
@pytest.mark.parametrize("framework", ["keras", "torch"])
def test_g2p_speaks(framework: str, g2p: dict[str, np.ndarray], example: ModuleType) -> None:
    """What g2p's README says that the model says of a word that is in no dictionary."""
    said = example.pronounce(g2p, "activationist", framework)
    assert " ".join(said) == "AE2 K T IH0 V EY1 SH AH0 N IH0 S T"


# ---- The example.


@pytest.mark.needs("keras", "torch")
def test_the_example(
    models: Path, example: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XFRAME_MODELS", str(models))
    assert example.main() == 0
    printed = capsys.readouterr().out
    assert printed.count("equal to the last bit") == 4
    assert printed.count("AE2 K T IH0 V EY1 SH AH0 N IH0 S T") == 2
    # n = 128 and d = 257: 4(n² + nd + n) in Keras, 4n more in PyTorch.
    assert "keras   197,632  torch   198,144" in printed
    assert max(len(text) for text in printed.splitlines()) < 160


@pytest.mark.parametrize("folder", ["", "no/such/folder"])
def test_the_example_without_models(
    folder: str, example: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XFRAME_MODELS", folder)
    assert example.main() == 2
    assert "XFRAME_MODELS must name the folder" in capsys.readouterr().err
