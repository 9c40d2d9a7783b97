"""Models that share layers, such as one that is trained and the encoder and decoder that are used alone: converted as one.

What counts is what they are for: a sentence is decoded word by word in source and target, each step fed with what the one
before it has put out, and the words are the same.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime
import pytest
import torch
from helpers import away_from_zero

from xframe import conversion, convert
from xframe.cli import main
from xframe.conversion import convert_file
from xframe.errors import SpecError, UnsupportedError
from xframe.files import load
from xframe.recognition import recognise
from xframe.writers import TARGETS
from xframe.writers.base import module_of

pytestmark = pytest.mark.needs("keras", "torch")

STEPS, WORDS, UNITS, HOW_MANY = 50, 9, 7, 6
ENTRIES = ("model", "encoder", "decoder")
Models = Mapping[str, Any]
# From arrays to arrays.
Call = Callable[..., "list[np.ndarray]"]


def filled(models: Models, seed: int = 6) -> Models:
    """The models with numbers that are all distinct, and large enough that the words change from step to step."""
    rng = np.random.default_rng(seed)
    model = models["model"]
    model.set_weights([away_from_zero(rng, weight.shape, 2.5) for weight in model.get_weights()])
    return models


def one_hot() -> Models:
    """Keras's example of a sequence that becomes another one: https://keras.io/examples/nlp/lstm_seq2seq/"""
    layers = keras.layers
    letters, spoken = keras.Input((None, HOW_MANY), name="letters"), keras.Input((None, WORDS), name="spoken")
    encoder = layers.LSTM(UNITS, return_state=True, name="reader")
    decoder = layers.LSTM(UNITS, return_sequences=True, return_state=True, name="writer")
    scores = layers.Dense(WORDS, activation="softmax", name="scores")
    _, *states = encoder(letters)
    y, *_ = decoder(spoken, initial_state=states)
    given = [keras.Input((UNITS,), name=f"state_{name}") for name in "hc"]
    z, *after = decoder(spoken, initial_state=given)
    return filled(
        {
            "model": keras.Model([letters, spoken], scores(y)),
            "encoder": keras.Model(letters, states),
            "decoder": keras.Model([spoken, *given], [scores(z), *after]),
        }
    )


def words(cell: str, mask: bool) -> Models:
    """The same with embeddings; and with layers that have the names of the entries."""
    layers = keras.layers
    read, spoken = keras.Input((None,), name="read", dtype="int32"), keras.Input((None,), name="spoken", dtype="int32")
    before = layers.Embedding(HOW_MANY, 4, mask_zero=mask, name="words_read")
    behind = layers.Embedding(WORDS, 5, mask_zero=mask, name="words_spoken")
    encoder = getattr(layers, cell)(UNITS, return_state=True, name="encoder")
    decoder = getattr(layers, cell)(UNITS, return_sequences=True, return_state=True, name="decoder")
    scores = layers.Dense(WORDS, activation="softmax", name="scores")
    _, *states = encoder(before(read))
    y, *_ = decoder(behind(spoken), initial_state=states)
    given = [keras.Input((UNITS,), name=f"state_{name}") for name in "hc"[: len(states)]]
    z, *after = decoder(behind(spoken), initial_state=given)
    return filled(
        {
            "model": keras.Model([read, spoken], scores(y)),
            "encoder": keras.Model(read, states),
            "decoder": keras.Model([spoken, *given], [scores(z), *after]),
        },
        seed=6 if mask else 7,
    )


KINDS: Mapping[str, Callable[[], Models]] = {
    "one-hot": one_hot,
    "words": lambda: words("GRU", mask=False),
    "masked": lambda: words("LSTM", mask=True),
}


@pytest.fixture(scope="module", params=KINDS)
def models(request: pytest.FixtureRequest) -> Models:
    return KINDS[request.param]()


@pytest.fixture(scope="module")
def sentence(models: Models) -> list[int]:
    """What the source says."""
    found = said(keras_call(models["encoder"]), keras_call(models["decoder"]), models)
    assert len(set(found)) > 3, "a sentence of few words would be the same with many other numbers"
    return found


def saved(models: Models, folder: Path) -> dict[str, Path]:
    for name, model in models.items():
        model.save(folder / f"{name}.keras")
    return {name: folder / f"{name}.keras" for name in models}


def keras_call(model: Any) -> Call:
    def call(*given: np.ndarray) -> list[np.ndarray]:
        found = model(given[0] if len(given) == 1 else list(given))
        return [keras.ops.convert_to_numpy(y) for y in (found if isinstance(found, list | tuple) else [found])]

    return call


def torch_call(method: Any) -> Call:
    def call(*given: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            found = method(*map(torch.as_tensor, given))
        return [y.numpy() for y in (found if isinstance(found, tuple) else [found])]

    return call


def onnx_call(model: bytes | str) -> Call:
    session = onnxruntime.InferenceSession(model)
    names = [one.name for one in session.get_inputs()]
    whole = {one.name for one in session.get_inputs() if one.type == "tensor(int64)"}

    def call(*given: np.ndarray) -> list[np.ndarray]:
        typed = {n: x.astype(np.int64) if n in whole else x for n, x in zip(names, given, strict=True)}
        return list(session.run(None, typed))

    return call


def in_folder(folder: Path, to: str, entry: str) -> Call:
    """An entry as a user calls it who has the folder and nothing else."""
    module = module_of(folder)
    loaded = module["load"](folder)
    if to == "torch":
        return torch_call(getattr(loaded, entry))
    if to == "keras":
        return keras_call(loaded[entry])

    def call(*given: np.ndarray) -> list[np.ndarray]:
        found = module[entry](loaded, *given)
        return list(found.values()) if isinstance(found, dict) else [found]

    return call


def said(encode: Call, decode: Call, models: Models) -> list[int]:
    """The words that follow each other when the likeliest is said each time."""
    rng = np.random.default_rng(2)
    numbers = rng.integers(1, HOW_MANY, (1, 8)).astype(np.int32)
    one_hot = len(models["encoder"].input.shape) == 3
    states = encode(np.eye(HOW_MANY, dtype=np.float32)[numbers] if one_hot else numbers)
    word, found = 1, list[int]()
    for _ in range(STEPS):
        given = np.array([[word]], np.int32)
        scores, *states = decode(np.eye(WORDS, dtype=np.float32)[given] if one_hot else given, *states)
        word = int(scores[0, -1].argmax())
        found.append(word)
    return found


def refuses_masks(models: Models, to: str) -> bool:
    return to == "onnx" and any(getattr(layer, "mask_zero", False) for layer in models["model"].layers)


@pytest.mark.parametrize("to", TARGETS)
def test_files_become_one_folder_that_says_the_same_words(
    models: Models, sentence: list[int], to: str, tmp_path: Path
) -> None:
    files, folder = saved(models, tmp_path), tmp_path / "converted"
    done = convert_file(files, folder, to, right_padded=refuses_masks(models, to))
    assert (done.status, done.scope, [piece.name for piece in done.pieces]) == ("equivalent", "model", [*ENTRIES])
    assert all(piece.trials and piece.power and piece.power[1] > 1 for piece in done.pieces)
    told = json.loads((folder / "proof.json").read_text())
    assert [piece["name"] for piece in told["pieces"]] == [*ENTRIES]
    assert "xframe" not in (folder / "model.py").read_text()
    weights = {"torch": ["weights.safetensors"], "npz": ["weights.npz"], "keras": ["model.keras"]}
    held = weights.get(to, [f"{entry}.onnx" for entry in ENTRIES])
    assert {path.name for path in folder.iterdir()} == {".xframe", "model.py", "proof.json", "proof.md", *held}
    assert said(in_folder(folder, to, "encoder"), in_folder(folder, to, "decoder"), models) == sentence


@pytest.mark.parametrize("to", ["torch", "keras", "onnx"])
def test_live_models_say_the_same_words(models: Models, sentence: list[int], to: str) -> None:
    if refuses_masks(models, to):
        with pytest.raises(UnsupportedError, match="mask"):
            convert(models, to)
        return
    made = convert(models, to)
    entries = {"torch": lambda name: torch_call(getattr(made, name)), "keras": lambda name: keras_call(made[name])}
    get = entries.get(to, lambda name: onnx_call(made[name]))
    assert said(get("encoder"), get("decoder"), models) == sentence
    if to != "torch":
        assert list(made) == [*ENTRIES]


def test_every_layer_is_there_once() -> None:
    """As in the trained model alone, which has all of them."""
    models = one_hot()
    alone = convert(models["model"], "npz")
    assert {name: array.shape for name, array in convert(models, "npz").items()} == {
        n: a.shape for n, a in alone.items()
    }
    alone = convert(models["model"], "torch").state_dict()
    found = convert(models, "torch").state_dict()
    assert {name: tensor.shape for name, tensor in found.items()} == {
        name: tensor.shape for name, tensor in alone.items()
    }
    rebuilt = convert(models, "keras")
    mine = {id(weight) for weight in rebuilt["model"].weights}
    assert len(mine) == len(models["model"].weights)
    assert all(id(weight) in mine for entry in ENTRIES for weight in rebuilt[entry].weights)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """All models beside each other, as one that calls its layers more than once."""
    files = saved(one_hot(), tmp_path)
    for to, weights in (("torch", "weights.safetensors"), ("npz", "weights.npz"), ("keras", "model.keras")):
        convert_file(files, tmp_path / to, to)
        again = convert_file(tmp_path / to / weights, tmp_path / f"{to}-again", "npz")
        assert (again.status, again.scope) == ("equivalent", "model")
        assert recognise(load(tmp_path / f"{to}-again" / "weights.npz")).layers


def test_without_a_model_the_first_entry_is_forward() -> None:
    models = one_hot()
    module = convert({"encoder": models["encoder"], "decoder": models["decoder"]}, "torch")
    letters = torch.as_tensor(np.random.default_rng(0).normal(size=(2, 4, HOW_MANY)).astype(np.float32))
    one, other = module(letters), module.encoder(letters)
    assert type(one).__name__ == "EncoderOutputs"
    assert one._fields == ("reader_h", "reader_c")
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("to", ["torch", "npz", "keras"])
def test_a_layer_that_a_mask_and_states_reach_in_one_of_them(to: str, tmp_path: Path) -> None:
    """Trained on padded sentences, and run word by word from its states, of which Keras says that no mask counts then."""
    layers = keras.layers
    read = keras.Input((None,), dtype="int32", name="read")
    known = layers.Embedding(WORDS, 5, mask_zero=True, name="known")
    writer = layers.LSTM(UNITS, return_sequences=True, return_state=True, name="writer")
    scores = layers.Dense(WORDS, name="scores")
    given = [keras.Input((UNITS,), name=name) for name in "hc"]
    y, *after = writer(known(read), initial_state=given)
    models = {
        "model": keras.Model(read, scores(writer(known(read))[0])),
        "step": keras.Model([read, *given], [scores(y), *after]),
    }
    filled(models)
    assert convert_file(saved(models, tmp_path), tmp_path / to, to).status == "equivalent"


def test_models_inside_one_that_calls_them(tmp_path: Path) -> None:
    """An autoencoder of an encoder and a decoder, each a model: its layers are theirs."""
    layers = keras.layers
    a, z = keras.Input((5, 3)), keras.Input((2,))
    encoder = keras.Model(a, layers.Dense(2, name="code")(layers.LSTM(4, name="lstm")(a)), name="front")
    repeated = layers.RepeatVector(5, name="repeat")(z)
    decoder = keras.Model(z, layers.LSTM(3, return_sequences=True, name="lstm")(repeated), name="behind")
    models = filled({"model": keras.Model(a, decoder(encoder(a))), "encoder": encoder, "decoder": decoder})
    convert_file(saved(models, tmp_path), tmp_path / "converted", "torch")
    module = module_of(tmp_path / "converted")["load"](tmp_path / "converted")
    assert [name for name, _ in module.named_children()] == ["front_lstm", "front_code", "behind_lstm"]
    assert len(convert(models, "keras")["model"].weights) == len(models["model"].weights)


# ---- What is refused.


def test_a_layer_that_differs_by_one_number_is_named(tmp_path: Path) -> None:
    models = one_hot()
    files = saved(models, tmp_path)
    weights = models["decoder"].get_layer("writer").get_weights()
    weights[1][2, 3] = np.nextafter(weights[1][2, 3], 1, dtype=np.float32)
    models["decoder"].get_layer("writer").set_weights(weights)
    models["decoder"].save(files["decoder"])
    with pytest.raises(
        SpecError, match=r"^The layer 'writer' is not the same in model and decoder: its numbers differ; "
    ):
        convert_file(files, tmp_path / "converted", "torch")
    assert not (tmp_path / "converted").exists()


@pytest.mark.parametrize("other", ["activation", "units"])
def test_another_layer_of_the_same_name_is_named(other: str, tmp_path: Path) -> None:
    models = dict(one_hot())
    x = keras.Input((None, HOW_MANY))
    changed: dict[str, Any] = {"activation": {"activation": "relu"}, "units": {"units": 5}}[other]
    models["encoder"] = keras.Model(x, keras.layers.LSTM(**{"units": UNITS, **changed}, name="reader")(x))
    with pytest.raises(
        SpecError, match=r"^The layer 'reader' is not the same in model and encoder: it is LSTM\(7\) on "
    ):
        convert(models, "npz")


def test_nothing_is_delivered_where_one_of_them_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(graphs: Any, folder: Path, to: str) -> Any:
        written = right(graphs, folder, to)
        source = (folder / "model.py").read_text()
        start = source.index("def decoder(")
        end = source.index("return DecoderOutputs", start)
        states = ["state_h.unsqueeze(0)", "state_c.unsqueeze(0)"]
        changed = source[start:end].replace(", ".join(states), ", ".join(reversed(states)))
        assert changed != source[start:end]
        (folder / "model.py").write_text(source[:start] + changed + source[end:])
        return written

    models, right = one_hot(), conversion.write_entries
    monkeypatch.setattr(conversion, "write_entries", wrong)
    done = convert_file(saved(models, tmp_path), tmp_path / "converted", "torch")
    assert done.status == "different"
    assert done.reason.startswith("decoder, on 2 sequences")
    assert not (tmp_path / "converted").exists()
    with pytest.raises(SpecError, match="The converted model decoder could not be proven to be the same"):
        convert(models, "torch")


def test_what_has_no_whole_model_is_refused_by_name(tmp_path: Path) -> None:
    models = one_hot()
    files = saved(models, tmp_path)
    models["decoder"].save_weights(tmp_path / "decoder.weights.h5")
    files["decoder"] = tmp_path / "decoder.weights.h5"
    with pytest.raises(UnsupportedError, match=r"decoder.weights.h5, the model decoder, does not convert whole: "):
        convert_file(files, tmp_path / "converted", "torch")


def test_options_that_are_of_one_file(tmp_path: Path) -> None:
    files = saved(one_hot(), tmp_path)
    with pytest.raises(SpecError, match="Several models are converted whole; leave --layers-only and --ignore out"):
        convert_file(files, tmp_path / "converted", "torch", layers_only=True)
    with pytest.raises(SpecError, match="No mask reaches a recurrent layer of this model; leave --right-padded out"):
        convert_file(files, tmp_path / "converted", "onnx", right_padded=True)


@pytest.mark.parametrize("name", ["", "train", "softmax", "load", "two words", "Encoder", "class", "zip", "../up"])
def test_a_name_that_can_be_none_in_source_code(name: str) -> None:
    with pytest.raises(SpecError, match="cannot be what a model is called in source code"):
        convert({name: one_hot()["encoder"]}, "npz")


def test_no_model() -> None:
    with pytest.raises(SpecError, match="There is no model to convert"):
        convert({}, "npz")


# ---- The command.


def command(*arguments: Any) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as left:
        main(["convert", *map(str, arguments)])
    assert isinstance(left.value.code, int)
    return left.value.code, out.getvalue(), err.getvalue()


def test_the_command(tmp_path: Path) -> None:
    files = saved(one_hot(), tmp_path)
    sources = [f"{name}={path}" for name, path in files.items()]
    status, out, err = command(*sources, tmp_path / "converted", "--to", "torch")
    assert (status, err) == (0, "")
    assert "VERDICT: equivalent" in out
    assert [out.index(f"\n{name}\n---") for name in ENTRIES] == sorted(out.index(f"\n{name}\n---") for name in ENTRIES)
    assert (tmp_path / "converted" / "weights.safetensors").exists()
    # A file whose name has a sign of equality in it is a file.
    odd = files["model"].rename(tmp_path / "a=b.keras")
    assert command(odd, tmp_path / "alone", "--to", "npz")[0] == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["a=model.keras", "a=encoder.keras"], "Two sources are named 'a'; give each NAME=FILE a name of its own."),
        (["a=model.keras", "b=gone.keras"], "gone.keras"),
        (["a=gone.keras"], "gone.keras"),
        (
            ["a=model.keras", "encoder.keras"],
            "'encoder.keras' is one of several sources and has no name; give it as NAME=FILE",
        ),
        (["a=model.keras", "=encoder.keras"], "is one of several sources and has no name"),
        (["a=model.keras", "b="], "is one of several sources and has no name"),
        (["a=model.keras", "no name=encoder.keras"], "'no name' cannot be what a model is called in source code"),
        ([], "SOURCE"),
    ],
)
def test_wrong_input_is_one_sentence(
    given: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(one_hot(), tmp_path)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    status, out, err = command(*given, "converted", "--to", "torch")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("xframe: error: ")
    assert said in err
    assert err.endswith(".\n")
    assert sorted(tmp_path.iterdir()) == before


def test_a_report_is_not_written_over_a_source(tmp_path: Path) -> None:
    files = saved(one_hot(), tmp_path)
    sources = [f"{name}={path}" for name, path in files.items()]
    before = files["encoder"].read_bytes()
    status, _, err = command(*sources, tmp_path / "converted", "--to", "torch", "--output", files["encoder"])
    assert status == 2
    assert "it is read, too" in err
    assert files["encoder"].read_bytes() == before
