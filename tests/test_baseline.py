"""Baselines: what is in the file, that a later version is held against it, and that the file of a stranger does no harm."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import entry_point
from test_cli import run, shell

import xframe
from xframe import Dense, FileError, Recurrent, Sequential, SpecError, UnsupportedError, baseline
from xframe.adapters import Adapter, get_adapter, usual_adapters
from xframe.baseline import defaults, load, running, save
from xframe.packing import Parameters
from xframe.probe import draw_parameters
from xframe.recognition import Choices
from xframe.reference import Outputs

# Those that have every layer here.
FRAMEWORKS = [pytest.param(name, marks=pytest.mark.needs(name)) for name in usual_adapters()]
# Sizes that differ on every axis.
LSTM = Recurrent("lstm", 3, 5, recurrent_activation="hard_sigmoid")
GRU = Recurrent("gru", 3, 5)
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An LSTM with hard sigmoids, recorded with every framework that is installed."""
    path = tmp_path_factory.mktemp("recorded") / "golden.npz"
    assert xframe.record(LSTM, path, batch=4, steps=6)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GRU and nothing of any framework."""
    path = tmp_path_factory.mktemp("plain") / "golden.npz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "available_adapters", list)
        found = xframe.record(GRU, path)
    assert (found.status, found.frameworks) == ("done", ())
    return path


def opened(path: Path) -> tuple[dict[str, Any], Arrays]:
    """What the file says of itself, and its arrays, by NumPy alone."""
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    return json.loads(arrays.pop("baseline").tobytes()), arrays


def edited(path: Path, target: Path, change: Callable[[dict[str, Any], Arrays], None]) -> Path:
    """A copy with something changed by hand."""
    about, arrays = opened(path)
    change(about, arrays)
    return written(target, json.dumps(about).encode(), arrays)


def written(target: Path, text: bytes, arrays: Arrays) -> Path:
    np.savez(target, baseline=np.frombuffer(text, np.uint8), **arrays)  # type: ignore[arg-type]
    return target


# ---- What is recorded.


def lstm(arrays: Arrays, at: str, gate: Callable[[np.ndarray], np.ndarray]) -> Arrays:
    """The equations of S. Hochreiter and J. Schmidhuber's cell with a forget gate, on a recorded input."""
    x = arrays[f"{at}/x"]
    h, c = (arrays[f"{at}/state/{s}"][0, 0] if f"{at}/state/h" in arrays else np.zeros((len(x), 5)) for s in "hc")
    outputs = []
    for t in range(x.shape[1]):
        i, f, g, o = (
            x[:, t] @ arrays[f"layers/0/parameters/0/0/kernel/{name}"]
            + h @ arrays[f"layers/0/parameters/0/0/recurrent_kernel/{name}"]
            + arrays[f"layers/0/parameters/0/0/bias/{name}"]
            + arrays[f"layers/0/parameters/0/0/recurrent_bias/{name}"]
            for name in "ifgo"
        )
        c = gate(f) * c + gate(i) * np.tanh(g)
        h = gate(o) * np.tanh(c)
        outputs.append(h)
    return {"sequence": np.stack(outputs, 1), "last": h, "state h": h[None, None], "state c": c[None, None]}


def slope(number: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda a: np.clip(number * a + 0.5, 0, 1)


def test_the_file_holds_what_the_layer_computes(recorded: Path) -> None:
    about, arrays = opened(recorded)
    assert about["schema"] == "xframe-baseline/1"
    assert about["probe"] == {"batch": 4, "steps": 6, "seed": 0}
    inputs = {name.rpartition("/")[0] for name in arrays if name.endswith("/x")}
    assert len(inputs) == len(about["layers"][0]["inputs"]) >= 2
    assert any(f"{at}/state/c" in arrays for at in inputs)
    for at in inputs:
        for name, values in lstm(arrays, at, slope(1 / 6)).items():
            assert np.abs(arrays[f"{at}/outputs/{name}"] - values).max() < 1e-14
            for dtype, u in (("float64", 2.0**-53), ("float32", 2.0**-24)):
                # Rounding at each step: more than a tenth of a roundoff of numbers near 1, less than a thousand.
                assert 0.01 < arrays[f"{at}/noise/{dtype}/{name}"].max() / u < 1000


def test_the_file_holds_arrays_and_no_pickles(recorded: Path) -> None:
    with zipfile.ZipFile(recorded) as archive:
        for entry in archive.infolist():
            assert entry.filename.endswith(".npy")
            assert entry.compress_type == zipfile.ZIP_STORED
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
            np.lib.format.read_array(io.BytesIO(archive.read(entry)), allow_pickle=False)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_file_says_what_a_framework_s_names_mean(framework: str, recorded: Path) -> None:
    about, arrays = opened(recorded)
    found = about["frameworks"][framework]
    assert found["version"] == get_adapter(framework).version()
    functions = dict(zip(found["functions"], arrays[f"frameworks/{framework}/functions"], strict=True))
    assert len(functions) > 25
    at = dict(zip(defaults.POINTS, functions["hard_sigmoid"], strict=True))
    assert abs(at[1.0] - 2 / 3) < 1e-15
    assert at[-7.0] == 0
    assert abs(dict(zip(defaults.POINTS, functions["elu"], strict=True))[-1.0] - (np.exp(-1) - 1)) < 1e-15
    gru = next(options for kind, options in found["layers"].items() if kind.endswith(".GRU"))
    assert (gru["reset_after"], gru["recurrent_activation"], gru["activation"]) == (True, "sigmoid", "tanh")


def test_the_same_baseline_is_the_same_file(plain: Path, tmp_path: Path) -> None:
    save(load(plain), tmp_path / "again.npz", force=False)
    assert (tmp_path / "again.npz").read_bytes() == plain.read_bytes()


ROUND_TRIPS: dict[str, Any] = {
    "dense": Dense(3, 4),
    "masked": Recurrent("gru", 3, 4, mask="any", masked_output="zero", bidirectional=True, merge_mode="sum"),
    "stateful": Recurrent("rnn", 3, 4, stateful=True, batch_size=2, mask="right"),
    "projected stack": Recurrent("lstm", 3, 4, num_layers=2, proj_size=2, bidirectional=True),
    "backward differs": Recurrent("lstm", 3, 4, bidirectional=True, backward=Recurrent("gru", 3, 5)),
    "stacked cells": Recurrent("lstm", 3, 4, stacked=(Recurrent("rnn", 4, 6),)),
    "chain": Sequential(Recurrent("gru", 3, 4, reset_after=False), Dense(4, 2, bias=False)),
    "bare cell": Recurrent("gru", 3, 4, form="cell"),
    "not merged": Recurrent("rnn", 2, 3, bidirectional=True, merge_mode=None),
}


@pytest.mark.parametrize("spec", ROUND_TRIPS.values(), ids=ROUND_TRIPS)
def test_what_is_read_is_what_was_written(spec: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "available_adapters", list)
    was = xframe.record(spec, tmp_path / "a.npz").baseline
    is_ = load(tmp_path / "a.npz")
    assert replace(is_, layers=()) == replace(was, layers=())
    assert [one.spec for one in is_.layers] == list(spec.layers if isinstance(spec, Sequential) else [spec])
    for one, other in zip(is_.layers, was.layers, strict=True):
        assert (one.name, one.spec, one.dtypes) == (other.name, other.spec, other.dtypes)
        assert plainly(dict(one.params)) == plainly(dict(other.params))
        assert len(one.inputs) == len(other.inputs)
        for mine, theirs in zip(one.inputs, other.inputs, strict=True):
            assert mine.title == theirs.title
            assert plainly(vars(mine.given)) == plainly(vars(theirs.given))
            for dtype in one.dtypes:
                assert plainly(vars(mine.noise(dtype))) == plainly(vars(theirs.noise(dtype)))


def plainly(value: Any) -> Any:
    """Something that can be compared."""
    if isinstance(value, dict):
        return {name: plainly(one) for name, one in value.items()}
    if isinstance(value, np.ndarray):
        return value.dtype, value.tolist()
    return plainly(vars(value)) if type(value).__module__.startswith("xframe") else value


# ---- The commands.


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_record_and_check_as_commands(framework: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "golden.npz"
    line = f"record lstm --hidden 4 --features 3 --layers 2 --mask right --steps 5 -o {path} --framework {framework}"
    status, out, err = run(capsys, *line.split())
    assert (status, err) == (0, "")
    assert "LSTM(4) on 3 features, 2 layers, mask right (repeat)" in out
    assert "VERDICT: equivalent. Recorded 1 layer" in out
    status, out, err = run(capsys, "check", str(path), "--framework", framework)
    assert (status, err) == (0, "")
    text, title = " ".join(out.split()), get_adapter(framework).title
    assert f"VERDICT: equivalent. {title} puts out what is recorded: all" in text
    assert f"{title} puts out what it did when this was recorded, to the last bit." in text
    assert "29 activation functions and the defaults of its 4 layers mean what they did" in text


def test_the_options_reach_the_layer_and_the_probe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "golden.npz"
    options = (
        "--hidden 4 --features 3 --bidirectional --merge ave --go-backwards --no-bias --reset-before --activation softsign "
        "--recurrent-activation hard_sigmoid_keras2 --mask any --masked-output zero --input-dropout 0.1 --stateful --batch 3 "
        "--steps 7 --seed 8 --framework torch --quiet"
    )
    status, out, _ = run(capsys, "record", "gru", *options.split(), "-o", str(path))
    assert (status, out) == (0, "")
    about, arrays = opened(path)
    assert about["probe"] == {"batch": 3, "steps": 7, "seed": 8}
    assert arrays["layers/0/inputs/0/x"].shape == (3, 7, 3)
    plain_spec = Recurrent("gru", 3, 4).options()
    differ = {name: value for name, value in about["layers"][0]["spec"].items() if plain_spec[name] not in (value, ())}
    assert differ == {
        "bidirectional": True,
        "merge_mode": "ave",
        "go_backwards": True,
        "bias": False,
        "reset_after": False,
        "activation": "softsign",
        "recurrent_activation": "hard_sigmoid_keras2",
        "mask": "any",
        "masked_output": "zero",
        "input_dropout": 0.1,
        "stateful": True,
        "batch_size": 3,
    }


@pytest.mark.needs("torch")
def test_checks_for_machines(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ("check", str(recorded), "--framework", "torch", "--dtype", "float32", "--format")
    status, out, _ = run(capsys, *line, "json")
    content = json.loads(out)
    assert (status, content["command"], content["status"]) == (0, "check", "equivalent")
    assert content["frameworks"] == ["torch"]
    assert {check["dtype"] for check in content["checks"]} == {"float32"}
    assert all(0 < check["noise_ratio"] < 10 for check in content["checks"])
    assert content["recorded"]["version"] == xframe.__version__
    assert content["power"]["missed"] == []
    assert len(content["power"]["margins"]) > 10
    status, out, _ = run(capsys, *line, "junit")
    assert status == 0
    assert out.count("<testcase") == len(content["checks"])
    assert 'failures="0"' in out


@pytest.mark.needs("torch")
def test_a_check_needs_its_own_framework_only(recorded: Path) -> None:
    code = (
        f"import sys, xframe; assert xframe.check({str(recorded)!r}, 'torch').frameworks == ('torch',)\n"
        "assert not {'keras', 'tensorflow'} & set(sys.modules), 'too many were imported'"
    )
    done = shell("-c", code)
    assert done.returncode == 0, done.stderr


def test_without_a_framework_one_can_record_and_not_check(
    plain: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "available_adapters", list)
    status, out, err = run(capsys, "check", str(plain))
    assert (status, out) == (2, "")
    assert err.startswith("xframe: error: No framework is installed")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_framework_that_was_not_recorded_is_checked(framework: str, plain: Path) -> None:
    found = xframe.check(plain, framework)
    assert found, found.reason
    assert any("was not there when this was recorded" in note for note in found.notes)


def test_a_file_is_not_replaced_unasked(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "golden.npz"
    path.write_bytes(b"mine")
    line = f"record rnn --hidden 3 --features 2 --framework torch --quiet -o {path}".split()
    status, _, err = run(capsys, *line)
    assert status == 2
    assert "it exists; name another file, or replace it with --force" in err
    assert path.read_bytes() == b"mine"
    assert run(capsys, *line, "--force")[0] == 0
    assert load(path).layers[0].spec == Recurrent("rnn", 2, 3)


def test_a_file_is_written_whole_or_not_at_all(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "golden.npz"
    path.write_bytes(b"mine")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(FileError, match="No space left on device"):
        save(load(plain), path, force=True)
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]


# ---- What has changed since is found and named.


@pytest.mark.needs("keras")
def test_a_file_from_an_older_environment_is_caught_and_explained(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One in which hard_sigmoid had the slope 0.2, as in Keras 2: its values, and what the layer then put out."""

    def older(about: dict[str, Any], arrays: Arrays) -> None:
        names = about["frameworks"]["keras"]["functions"]
        row = names.index("hard_sigmoid")
        arrays["frameworks/keras/functions"][row] = slope(0.2)(np.array(defaults.POINTS))
        about["frameworks"]["keras"]["version"] = about["environment"]["keras"] = "2.15.0 on tensorflow 2.15.0"
        for at in [name.rpartition("/")[0] for name in arrays if name.endswith("/x")]:
            for name, values in lstm(arrays, at, slope(0.2)).items():
                arrays[f"{at}/outputs/{name}"] = values

    path = edited(recorded, tmp_path / "older.npz", older)
    status, out, _ = run(capsys, "check", str(path), "--framework", "keras")
    text = " ".join(out.split())
    assert status == 1
    assert "outputs are not the recorded ones" in text
    assert "Keras's hard_sigmoid changed: at x = 1 it gives 0.6667, recorded 0.7;" in text
    now, then = "min(max(x/6 + 1/2, 0), 1)", "min(max(0.2 x + 1/2, 0), 1), the hard_sigmoid of Keras 1 and 2"
    assert f"now it is {now}, and it was {then}." in text
    assert "Keras was 2.15.0 on tensorflow 2.15.0 when this was recorded and is 3." in text
    assert "The NumPy reference of this xframe does not put out what is recorded either" in text
    assert "Why it differs" not in text


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_upgrade_that_changes_a_function_is_caught_and_explained(
    framework: str, recorded: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = get_adapter(framework)
    functions = getattr(adapter, "_activations" if framework == "keras" else "_functions")
    monkeypatch.setitem(functions, "hard_sigmoid", functions["hard_sigmoid_keras2"])
    found = xframe.check(recorded, framework)
    assert found.status == "different"
    said = f"{adapter.title}'s hard_sigmoid changed: at x = 1 it gives 0.7, recorded 0.6667"
    assert len(found.causes) == 1
    assert said in found.causes[0]
    assert said in found.reason
    assert any(check.status == "different" for check in found.checks)
    assert found.diagnosis is not None
    assert "hard_sigmoid_keras2 instead of hard_sigmoid in the gates" in found.diagnosis.reason
    assert max(found.reference.values()) < 1
    # What no recorded layer has is said, and is no failure.
    with_functions = tmp_path / "gru.npz"
    monkeypatch.undo()
    assert xframe.record(GRU, with_functions, framework=framework)
    changed = {**adapter.functions(), "relu6": lambda a: np.clip(a, 0, 7)}
    del changed["gelu"]
    monkeypatch.setattr(type(adapter), "functions", lambda self: changed)
    found = xframe.check(with_functions, framework)
    assert found, found.reason
    notes = " ".join(found.notes)
    assert f"{adapter.title}'s relu6 changed: at x = 7 it gives 7, recorded 6" in notes
    assert f"{adapter.title} has no gelu any more. No recorded layer depends on it." in notes


def test_rounding_is_no_change_of_a_function() -> None:
    values = np.tanh(np.array(defaults.POINTS))
    assert not defaults._function_change("tanh", values, np.nextafter(values, 2))
    assert "0.76" in defaults._function_change("tanh", values, values + 1e-9)
    # TensorFlow keeps a constant of it in float32.
    assert not defaults._function_change("leaky_relu", values, values + 1e-9)
    assert not defaults._function_change("tanh", values, values.astype(np.float32))
    assert defaults._function_change("tanh", values, np.where(values < 0, np.nan, values))


@pytest.mark.needs("keras")
def test_an_upgrade_that_changes_a_default_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = get_adapter("keras")
    assert xframe.record(GRU, tmp_path / "gru.npz", framework="keras")
    assert xframe.record(Recurrent("lstm", 3, 5), tmp_path / "lstm.npz", framework="keras")
    assert xframe.record(replace(GRU, reset_after=False), tmp_path / "before.npz", framework="keras")
    layers = dict(adapter.plain_layers())
    layers["keras.layers.GRU"] = adapter.build(Recurrent("gru", 3, 2, reset_after=False))
    monkeypatch.setattr(type(adapter), "plain_layers", lambda self: layers)
    said = "A default of keras.layers.GRU changed: reset_after was True when this was recorded and is False now."
    found = xframe.check(tmp_path / "gru.npz", "keras")
    assert (found.status, found.causes) == ("different", (said,))
    assert found.reason == f"The outputs are the recorded ones, but something else is not. {said}"
    for other in ("lstm.npz", "before.npz"):
        found = xframe.check(tmp_path / other, "keras")
        assert found, found.reason
        assert f"{said} No recorded layer depends on it." in found.notes


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_other_numbers_are_caught(framework: str, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type(get_adapter(framework))
    right = kind.run

    def wrong(self: Adapter, *given: Any) -> Outputs:
        out = right(self, *given)
        return replace(out, last=out.last * (1 + 1e-5))

    monkeypatch.setattr(kind, "run", wrong)
    found = xframe.check(plain, framework)
    assert (found.status, found.causes) == ("different", ())
    assert {check.output for check in found.checks if check.status == "different"} == {"last"}
    assert "the worst is last of layer" in found.reason


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_other_rounding_is_said_and_is_no_failure(
    framework: str, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(get_adapter(framework))
    right = kind.run

    def rounded(self: Adapter, *given: Any) -> Outputs:
        out = right(self, *given)
        return replace(out, last=np.nextafter(out.last, 2, dtype=out.last.dtype))

    monkeypatch.setattr(kind, "run", rounded)
    found = xframe.check(recorded, framework)
    assert found, found.reason
    assert any("puts out what it did when this was recorded, but for " in note for note in found.notes)


@pytest.mark.needs("torch")
def test_a_reference_that_has_changed_is_caught(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from xframe.baseline import checking

    run_given = checking.reference.run_given

    def wrong(*given: Any) -> Outputs:
        out = run_given(*given)
        return replace(out, sequence=out.sequence * (1 + 1e-9))

    monkeypatch.setattr(checking.reference, "run_given", wrong)
    found = xframe.check(plain, "torch")
    assert all(check.status == "equivalent" for check in found.checks)
    assert found.status == "different"
    assert "The NumPy reference of this xframe does not put out what is recorded (layer: " in found.reason
    assert found.reference["layer"] > 1000


@pytest.mark.needs("torch")
@pytest.mark.parametrize("what", ["noise", "limit"])
def test_a_file_whose_noise_hides_everything_proves_nothing(what: str, plain: Path, tmp_path: Path) -> None:
    def generous(about: dict[str, Any], arrays: Arrays) -> None:
        if what == "limit":
            about["limit"] = 1e18
        for name in arrays:
            if what == "noise" and "/noise/" in name:
                arrays[name] = arrays[name] * 1e18

    found = xframe.check(edited(plain, tmp_path / "generous.npz", generous), "torch")
    assert found.status == "inconclusive"
    assert "could not have shown: " in found.reason
    assert any(mistake.startswith("gates r and z swapped") for mistake in found.power.missed)


@pytest.mark.needs("torch")
def test_the_recorded_limit_is_the_limit(plain: Path, tmp_path: Path) -> None:
    found = xframe.check(edited(plain, tmp_path / "strict.npz", lambda about, _: about.update(limit=1e-3)), "torch")
    assert found.status == "different"
    assert {check.status for check in found.checks} >= {"different"}


@pytest.mark.needs("torch")
def test_an_upgrade_that_breaks_a_layer_gets_one_sentence(
    recorded: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise TypeError("__init__() got an unexpected keyword argument\nand a second line")

    run_it = f"cannot run {LSTM} (TypeError: __init__() got an unexpected"
    tell = "does not say what its layers and functions are (TypeError: __init__() got an unexpected"
    for method, words in (("build_loaded", run_it), ("run", run_it), ("functions", tell), ("plain_layers", tell)):
        with monkeypatch.context() as patch:
            patch.setattr(type(get_adapter("torch")), method, broken)
            status, out, err = run(capsys, "check", str(recorded), "--framework", "torch")
        assert (status, out) == (2, "")
        assert words in err
        assert err.count("\n") == 1


def test_a_layer_that_puts_out_something_else_is_not_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(get_adapter("torch"))
    right = kind.run
    monkeypatch.setattr(kind, "run", lambda self, *a: replace(out := right(self, *a), last=out.last + 1e-3))
    line = f"record rnn --hidden 3 --features 2 --framework torch -o {tmp_path / 'golden.npz'}"
    status, out, _ = run(capsys, *line.split())
    assert status == 1
    assert "Nothing was written." in " ".join(out.split())
    assert not list(tmp_path.iterdir())


def test_a_probe_that_proves_nothing_is_not_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"record rnn --hidden 3 --features 2 --steps 1 --framework torch -o {tmp_path / 'golden.npz'}"
    status, out, _ = run(capsys, *line.split())
    assert status == 2
    assert "These inputs could not show: time reversed" in " ".join(out.split())
    assert not list(tmp_path.iterdir())


# ---- Native layers, and model files.


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_native_layer_is_recorded_and_checked_with_its_own_weights(framework: str, tmp_path: Path) -> None:
    adapter, path = get_adapter(framework), tmp_path / "golden.npz"
    params = draw_parameters(GRU, 7)
    layer = adapter.build_loaded(GRU, params, "float32")
    found = xframe.record(layer, path)
    assert found, found.reason
    assert found.frameworks == (framework,)
    _, arrays = opened(path)
    assert np.array_equal(
        arrays["layers/0/parameters/0/0/kernel/z"], params[next(k for k in params if k[2:] == ("kernel", "z"))]
    )
    assert xframe.check(path, layer=layer)
    key = next(key for key in params if key[2:] == ("recurrent_kernel", "n"))
    block = params[key].copy()
    block[1, 2] += 0.25
    other = adapter.build_loaded(GRU, Parameters(GRU, {**params, key: block}), "float32")
    found = xframe.check(path, layer=other)
    assert found.status == "different"
    assert (
        "differ from the recorded ones by up to 0.25, most at layer 0, forward, recurrent_kernel, gate n"
        in found.reason
    )


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_why_a_layer_differs_is_named(framework: str, tmp_path: Path) -> None:
    adapter, path = get_adapter(framework), tmp_path / "golden.npz"
    params = draw_parameters(GRU, 7)
    right = adapter.build_loaded(GRU, params, "float32")
    assert xframe.record(right, path)
    assert xframe.check(path, layer=right).diagnosis is None
    swapped = {key._replace(gate={"r": "z", "z": "r"}.get(key.gate, key.gate)): block for key, block in params.items()}
    found = xframe.check(path, layer=adapter.build_loaded(GRU, Parameters(GRU, swapped), "float32"))
    assert found.diagnosis is not None
    assert found.diagnosis.status == "explained"
    assert "gates r and z swapped" in found.diagnosis.reason
    assert found.diagnosis.where is not None
    assert found.diagnosis.where.step == 0
    assert "Why it differs: " in found.report()
    assert "Mend: Exchange the blocks of gates r and z" in " ".join(found.report().split())


@pytest.mark.needs("keras", "torch")
def test_a_layer_of_another_framework_is_checked(tmp_path: Path) -> None:
    keras, torch = get_adapter("keras"), get_adapter("torch")
    layer = keras.build_loaded(GRU, draw_parameters(GRU, 3), "float32")
    assert xframe.record(layer, tmp_path / "golden.npz")
    twin = torch.build(GRU)
    xframe.transfer(layer, twin)
    found = xframe.check(tmp_path / "golden.npz", layer=twin)
    assert found, found.reason
    wrong = keras.build_loaded(
        other := replace(GRU, activation="relu"), Parameters(other, draw_parameters(GRU, 3)), "float32"
    )
    found = xframe.check(tmp_path / "golden.npz", layer=wrong)
    assert found.status == "different"
    assert "The layer has activation='relu', and the recorded one 'tanh'." in found.reason
    found = xframe.check(tmp_path / "golden.npz", layer=torch.build(Recurrent("gru", 3, 6)))
    assert found.status == "different"
    assert "hidden_size 6 and 5" in found.reason


@pytest.mark.needs("keras")
def test_a_stateful_layer_keeps_its_states(tmp_path: Path) -> None:
    adapter = get_adapter("keras")
    spec = Recurrent("rnn", 2, 3, stateful=True, batch_size=2)
    layer = adapter.build_loaded(spec, draw_parameters(spec, 1), "float32")
    x = np.linspace(-1, 1, 16, dtype="float32").reshape(2, 4, 2)
    before = adapter.run(layer, x).last
    assert xframe.record(layer, tmp_path / "golden.npz")
    assert xframe.check(tmp_path / "golden.npz", layer=layer)
    assert np.array_equal(np.asarray(layer.states[0]), before)


def test_parameters_that_float32_does_not_hold_are_judged_in_float64(tmp_path: Path) -> None:
    params = {key: block / 3 for key, block in draw_parameters(GRU, 5).items()}
    layer = get_adapter("torch").build_loaded(GRU, Parameters(GRU, params), "float64")
    assert xframe.record(layer, tmp_path / "golden.npz").baseline.layers[0].dtypes == ("float64",)
    assert xframe.check(tmp_path / "golden.npz", "torch")
    with pytest.raises(SpecError, match=r"those that were recorded, float64, not 'float32'"):
        xframe.check(tmp_path / "golden.npz", "torch", dtypes=["float32"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recurrent layers and a dense one, as PyTorch saves them."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(11)
    parts = {
        "encoder": torch.nn.LSTM(3, 4, batch_first=True),
        "decoder": torch.nn.RNN(4, 5),
        "head": torch.nn.Linear(5, 2),
    }
    path = tmp_path_factory.mktemp("model") / "model.pt"
    torch.save(torch.nn.ModuleDict(parts).state_dict(), path)
    return path


@pytest.mark.needs("torch")
def test_the_layers_of_a_file_are_recorded(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "golden.npz"
    line = ("record", str(model), "-o", str(path), "--framework", "torch")
    status, out, err = run(capsys, *line)
    assert (status, out) == (2, "")
    assert "does not decide which of 2 layers 'decoder' is: SimpleRNN(5) on 4 features, or SimpleRNN(5)" in err
    assert "choose with --activation" in err
    status, out, _ = run(capsys, *line, "--activation", "relu")
    assert status == 0
    about, arrays = opened(path)
    assert [layer["name"] for layer in about["layers"]] == ["encoder", "decoder", "head"]
    assert [layer["spec"].get("activation") for layer in about["layers"]] == ["tanh", "relu", "linear"]
    torch = pytest.importorskip("torch")
    head = torch.load(model, weights_only=True)["head.weight"].numpy()
    assert np.array_equal(arrays["layers/2/parameters/0/0/kernel"], head.T)
    assert run(capsys, "check", str(path), "--framework", "torch")[0] == 0
    status, _, _ = run(capsys, *line, "--layer", "encoder", "--force")
    assert status == 0
    assert [one.name for one in load(path).layers] == ["encoder"]
    status, _, err = run(capsys, *line, "--layer", "enc", "--force")
    assert status == 2
    assert "no recurrent or dense layer 'enc'; name one that it has ('encoder', 'decoder', 'head')" in err


@pytest.mark.needs("keras")
def test_what_is_not_modelled_in_a_file_is_said(tmp_path: Path) -> None:
    import keras

    odd = keras.layers.LSTM(4, return_sequences=True, activation=keras.layers.LeakyReLU(negative_slope=0.1), name="odd")
    layers = [keras.Input((6, 3)), keras.layers.GRU(5, return_sequences=True, name="plain"), odd]
    keras.Sequential([*layers, keras.layers.Dense(2, activation="relu", name="head")]).save(tmp_path / "model.keras")
    found = xframe.record(tmp_path / "model.keras", tmp_path / "golden.npz", framework="keras")
    assert [one.name for one in found.baseline.layers] == ["plain", "head"]
    assert found.notes == (
        "Not recorded: odd: activation of the Keras layer 'odd' is a function of the user's own.",
        "head: Its activation 'relu' is not part of the dense layer that is described.",
    )
    with pytest.raises(UnsupportedError, match="odd cannot be recorded: activation of the Keras layer"):
        xframe.record(tmp_path / "model.keras", tmp_path / "odd.npz", layer="odd")


@pytest.mark.needs("keras", "torch")
def test_a_framework_that_lacks_the_layer_is_left_out_or_refused(tmp_path: Path) -> None:
    spec = Recurrent("gru", 3, 4, bidirectional=True, mask="right", masked_output="repeat")
    found = xframe.record(spec, tmp_path / "golden.npz")
    assert found.frameworks == ("torch",)
    assert "Keras has no bidirectional layer" in found.not_compared["keras"]
    checked = xframe.check(tmp_path / "golden.npz")
    assert (checked.status, checked.frameworks) == ("equivalent", ("torch",))
    with pytest.raises(UnsupportedError, match="Keras has no bidirectional layer"):
        xframe.check(tmp_path / "golden.npz", ["torch", "keras"])


def test_a_framework_that_others_add_is_recorded(tmp_path: Path) -> None:
    with entry_point("toy_adapter"):
        assert xframe.record(Recurrent("rnn", 3, 4), tmp_path / "golden.npz", framework="toy")
        found = xframe.check(tmp_path / "golden.npz", ["toy"])
        assert found, found.reason
    with pytest.raises(UnsupportedError, match="There is no adapter for 'toy'"):
        xframe.check(tmp_path / "golden.npz", "toy")


# ---- What makes no sense.

BAD = {
    "nowhere to write": ("record lstm --hidden 3 --features 2", "Missing option '-o' / '--output'"),
    "nothing to record": ("record -o {golden}", "Missing argument 'LAYER_OR_FILE'"),
    "sizes missing": ("record lstm -o {golden}", "lstm needs --hidden and --features"),
    "no such cell or file": ("record lsmt -o {golden}", "'lsmt' is neither a cell (rnn, lstm, gru) nor a file"),
    "no such file": ("record no/model.h5 -o {golden}", "Cannot read no/model.h5: No such file or directory"),
    "no such folder": ("record lstm --hidden 3 --features 2 -o no/such/golden.npz", "does not exist; make it first"),
    "a choice for a layer": (
        "record lstm --hidden 3 --features 2 --packing torch -o {golden}",
        "--packing is about a model file; leave it out for lstm",
    ),
    "a forget bias of zero for a layer": (
        "record lstm --hidden 3 --features 2 --forget-bias 0 -o {golden}",
        "--forget-bias is about a model file",
    ),
    "a size for a file": (
        "record {file} --hidden 3 -o {golden}",
        "--hidden describes a layer; leave it out for a model",
    ),
    "states for a file": ("record {file} --stateful -o {golden}", "--stateful describes a layer"),
    "reset of an lstm": (
        "record lstm --hidden 3 --features 2 --reset-after -o {golden}",
        "--reset-after is an option of the gru",
    ),
    "unknown framework": (
        "record lstm --hidden 3 --features 2 --framework jax -o {golden}",
        "There is no adapter for 'jax'",
    ),
    "no framework": ("record lstm --hidden 3 --features 2 --framework , -o {golden}", "No framework was named"),
    "a folder to write": ("record lstm --hidden 3 --features 2 -o .", "it is a folder; name a file"),
    "a probe without steps": (
        "record lstm --hidden 3 --features 2 --steps 0 -o {golden}",
        "steps must be a whole number",
    ),
    "a text file": ("record {file} -o {golden}", "it is of no known format"),
    "checked: nothing": ("check", "Missing argument 'FILE'"),
    "checked: not there": ("check no/golden.npz", "Cannot read no/golden.npz: No such file or directory"),
    "checked: no baseline": ("check {file}", "it is of no known format"),
    "checked: arrays of a model": (
        "check {arrays}",
        "it is no baseline of xframe; give a file that xframe record wrote",
    ),
    "checked: unknown framework": ("check {plain} --framework jax", "There is no adapter for 'jax'"),
    "checked: counted only": ("check {plain} --framework tf1", "counts its parameters but does not run it"),
    "checked: float type": (
        "check {plain} --dtype float16",
        "those that were recorded, float64, float32, not 'float16'",
    ),
    "checked: no float type": ("check {plain} --dtype ,", "not nothing"),
    "checked: format": ("check {plain} --format yaml", "'yaml' is not one of"),
    "checked: output": ("check {plain} --output no/such/report.txt", "does not exist; make it first"),
}


@pytest.mark.parametrize(("line", "words"), BAD.values(), ids=BAD)
def test_bad_input_gets_one_sentence(
    line: str, words: str, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text("nothing of the kind")
    np.savez(tmp_path / "arrays.npz", kernel=np.ones((2, 3)))
    places = {"golden": "golden.npz", "file": "text.txt", "arrays": "arrays.npz"}
    line = line.format(plain=plain, **{name: tmp_path / place for name, place in places.items()})
    status, out, err = run(capsys, *line.split())
    assert (status, out) == (2, "")
    assert words in err
    assert err.startswith("xframe: error: ")
    assert err.count("\n") == 1
    assert err.endswith(".\n")
    assert not (tmp_path / "golden.npz").exists()


def test_arguments_that_contradict_each_other(plain: Path, tmp_path: Path) -> None:
    layer, path = get_adapter("torch").build(GRU), tmp_path / "golden.npz"
    with pytest.raises(SpecError, match="a native layer brings its own"):
        xframe.record(layer, path, framework="torch")
    with pytest.raises(SpecError, match="a native layer brings its own"):
        xframe.check(plain, "torch", layer=layer)
    with pytest.raises(SpecError, match="layer and choices are about a model file"):
        xframe.record(GRU, path, choices=Choices())
    with pytest.raises(UnsupportedError, match="does not know what builtins"):
        xframe.record(3, path)
    assert xframe.record(Sequential(GRU, Dense(5, 2)), path, framework="torch")
    with pytest.raises(SpecError, match="has 'layer 1', 'layer 2'; record the one by itself"):
        xframe.check(path, layer=layer)


# ---- Files of strangers.


def options(**changes: Any) -> Callable[[dict[str, Any], Arrays], None]:
    """Change options of the layer."""
    return lambda about, _: about["layers"][0]["spec"].update(changes)


def array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, Any], Arrays], None]:
    return lambda _, arrays: arrays.update({name: change(arrays[name])})


def nested(depth: int) -> Callable[[dict[str, Any], Arrays], None]:
    def change(about: dict[str, Any], _: Arrays) -> None:
        spec = about["layers"][0]["spec"]
        for _ in range(depth):
            spec["backward"] = dict(spec)
            spec = spec["backward"]

    return change


def with_nan(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.flat[3] = np.nan
    return values


X, KERNEL, OUTPUT = "layers/0/inputs/0/x", "layers/0/parameters/0/0/kernel/z", "layers/0/inputs/1/outputs/state h"
NOISE = "layers/0/inputs/0/noise/float32/last"
LONG = np.dtype(np.longdouble).itemsize > 8
STRANGE: dict[str, tuple[Callable[[dict[str, Any], Arrays], Any], str]] = {
    "schema of the future": (lambda a, _: a.update(schema="xframe-baseline/2"), "its schema is 'xframe-baseline/2'"),
    "no schema": (lambda a, _: a.pop("schema"), "'schema' is missing"),
    "no version": (lambda a, _: a.pop("version"), "'version' is missing"),
    "no layers": (lambda a, _: a.update(layers=[]), "it has no layer"),
    "layers of text": (lambda a, _: a.update(layers="gru"), "makes no sense"),
    "no inputs": (lambda a, _: a["layers"][0].update(inputs=[]), "has nothing that could be checked"),
    "no float types": (lambda a, _: a["layers"][0].update(dtypes=[]), "has nothing that could be checked"),
    "unknown float type": (lambda a, _: a["layers"][0].update(dtypes=["int8"]), "not 'int8'"),
    "a limit of zero": (lambda a, _: a.update(limit=0), "its limit is 0"),
    "a limit of infinity": (lambda a, _: a.update(limit=float("inf")), "a number is Infinity"),
    "a limit in words": (lambda a, _: a.update(limit="ten"), "makes no sense"),
    "a probe without steps": (lambda a, _: a["probe"].update(steps=0), "steps must be a whole number"),
    "an unknown cell": (options(cell="mgu"), "Unknown cell 'mgu'"),
    "an unknown option": (options(gates=4), "'gates'"),
    "a size below zero": (options(hidden_size=-5), "hidden_size must be from 1"),
    "a size in words": (options(hidden_size="5"), "hidden_size must be a whole number"),
    "another size": (options(hidden_size=6), "has the shape (3, 5) instead of (3, 6)"),
    "a size beyond all": (options(hidden_size=10**30), "hidden_size must be from 1"),
    "many layers": (options(num_layers=999), "it lacks layers/0/parameters/1/0/kernel/r"),
    "layers in layers": (nested(3), "makes no sense"),
    "layers in layers in layers": (nested(300), "makes no sense"),
    "framework of text": (lambda a, _: a.update(frameworks=["keras"]), "makes no sense"),
    "a missing array": (lambda _, b: b.pop(KERNEL), f"it lacks {KERNEL}"),
    "an array left over": (lambda _, b: b.update(more=np.ones(2)), "it holds more, which nothing explains"),
    "another shape": (array(KERNEL, lambda v: v.T), f"{KERNEL} has the shape (5, 3) instead of (3, 5)"),
    "no steps": (array(X, lambda v: v[:, :0]), "x must be (batch, time, features)"),
    "another input": (array(X, lambda v: v[:, :2]), "has the shape (2, 5, 5) instead of (2, 2, 5)"),
    "whole numbers": (array(KERNEL, lambda v: v.astype(int)), f"{KERNEL} is of type int64"),
    "complex numbers": (array(KERNEL, lambda v: v + 0j), f"{KERNEL} is of type complex128"),
    "long numbers": (array(KERNEL, lambda v: v.astype(np.longdouble if LONG else complex)), f"{KERNEL} is of type"),
    "an output that is not finite": (array(OUTPUT, with_nan), f"{OUTPUT} holds a number that is not finite"),
    "a weight that is not finite": (array(KERNEL, with_nan), f"{KERNEL} holds a number that is not finite"),
    "noise of zero": (array(NOISE, lambda v: v * 0), "is not above zero"),
    "noise below zero": (array(NOISE, lambda v: -v), "is not above zero"),
    "noise that is not finite": (array(NOISE, with_nan), "holds a number that is not finite"),
}


@pytest.mark.parametrize("damage", STRANGE)
def test_a_strange_file_gets_one_sentence(
    damage: str, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, words = STRANGE[damage]
    path = edited(plain, tmp_path / "strange.npz", change)
    status, out, err = run(capsys, "check", str(path), "--framework", "torch")
    assert (status, out) == (2, "")
    assert words in err
    assert err.startswith(f"xframe: error: Cannot read {path}: ")
    assert err.count("\n") == 1
    assert err.endswith(".\n")


def refused(path: Path) -> str:
    with pytest.raises(FileError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_objects_are_not_unpickled(plain: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    about, arrays = opened(plain)
    arrays[KERNEL] = np.array([[Trap()] * 5] * 3, dtype=object)
    said = refused(written(tmp_path / "trap.npz", json.dumps(about).encode(), arrays))
    assert "Python objects" in said
    np.savez(tmp_path / "trap.npz", baseline=np.array([Trap()], dtype=object))  # type: ignore[arg-type]
    assert "Python objects" in refused(tmp_path / "trap.npz")
    assert not (tmp_path / "sprung").exists()


def test_a_bomb_is_not_unpacked(plain: Path, tmp_path: Path) -> None:
    about, arrays = opened(plain)
    arrays["zeros"] = np.zeros(50_000_000, np.uint8)
    np.savez_compressed(tmp_path / "bomb.npz", baseline=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)  # type: ignore[arg-type]
    assert "would unpack to" in refused(tmp_path / "bomb.npz")


def test_a_damaged_text(plain: Path, tmp_path: Path) -> None:
    about, arrays = opened(plain)
    text = json.dumps(about).encode()
    for bad in (b"", b"[1]", b"3", b"null", b"\xff\xfe", text[:-1], b"[" * 100_000, text.replace(b"10.0", b"1e999")):
        assert "makes no sense" in refused(written(tmp_path / "text.npz", bad, arrays)), bad[:20]
    np.savez(tmp_path / "text.npz", baseline=np.array(list(text), np.uint16), **arrays)  # type: ignore[arg-type]
    assert "baseline is of type uint16" in refused(tmp_path / "text.npz")


def test_a_long_text_is_cut_short(plain: Path, tmp_path: Path) -> None:
    for change in (
        lambda a, _: a.update(schema="x" * 10**6),
        options(cell="x" * 10**6),
        options(hidden_size="x" * 10**6),
    ):
        assert len(refused(edited(plain, tmp_path / "long.npz", change))) < 600


def test_a_probe_that_would_take_forever_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "available_adapters", list)
    xframe.record(Recurrent("rnn", 1, 1), tmp_path / "a.npz")
    with monkeypatch.context() as patch:
        patch.setattr("xframe.probe.MAX_AXIS", 4)
        assert "steps must be at most 4, not 5" in refused(tmp_path / "a.npz")
    monkeypatch.setattr("xframe.probe.MAX_INPUT", 9)
    assert "A probe of 2 x 5 steps through SimpleRNN(1) on 1 feature is too large" in refused(tmp_path / "a.npz")


def test_damaged_bytes_do_no_harm(plain: Path, tmp_path: Path) -> None:
    whole, chance = plain.read_bytes(), random.Random(1)
    wrong = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 2, 30))):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        (tmp_path / "damaged.npz").write_bytes(data[: chance.choice((len(data), chance.randrange(len(data))))])
        error = outcome(tmp_path / "damaged.npz")
        wrong += error is not None
        assert "\n" not in str(error)
    assert wrong > 100


def outcome(path: Path) -> FileError | None:
    """What is wrong with a file; any other error than this goes on."""
    try:
        load(path)
    except FileError as error:
        return error
    return None


def leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a description: what holds it, and under which key."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from leaves(value[key])


def test_any_other_description_does_no_harm(plain: Path, tmp_path: Path) -> None:
    about, arrays = opened(plain)
    for number, instead in enumerate((None, -1, 10**400, 0.5, "x", [], {}, [[]], True)):
        for place in range(number % 3, len(list(leaves(about))), 3):
            other = json.loads(json.dumps(about))
            holder, key = list(leaves(other))[place]
            holder[key] = instead
            written(tmp_path / "other.npz", json.dumps(other).encode(), arrays)
            assert "\n" not in str(outcome(tmp_path / "other.npz"))


def test_the_public_names() -> None:
    assert set(baseline.__all__) >= {"record", "check", "Baseline", "SCHEMA"}
    assert xframe.record is baseline.record
    assert xframe.check is baseline.check
