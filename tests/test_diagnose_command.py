"""A diagnosis where a user meets it: the command, and what a failed compare or verify says by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

import xframe
from xframe.cli import main
from xframe.report import schema

SWAP = "gates i and f swapped"


def lstm(seed: int = 0, **options: Any) -> torch.nn.LSTM:
    """5 features, 7 units, every number distinct and away from zero."""
    layer = torch.nn.LSTM(5, 7, batch_first=True, **options)
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for tensor in layer.parameters():
            drawn = random.choice([-1.0, 1.0], tensor.shape) * random.uniform(0.2, 1.0, tensor.shape)
            tensor.copy_(torch.from_numpy(0.7 * drawn))
    return layer


def swapped(layer: torch.nn.LSTM, only: str = "") -> torch.nn.LSTM:
    """The layer with the first two gates of each tensor exchanged, or of those that have ``only`` in their names."""
    other = torch.nn.LSTM(5, 7, batch_first=True, num_layers=layer.num_layers, bidirectional=layer.bidirectional)
    for (name, one), two in zip(layer.named_parameters(), other.parameters(), strict=True):
        with torch.no_grad():
            two.copy_(one[[*range(7, 14), *range(7), *range(14, 28)]] if only in name else one)
    return other


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files and three recordings of one layer."""
    place = tmp_path_factory.mktemp("diagnose")
    layer = lstm()
    torch.save(layer.state_dict(), place / "a.pth")
    torch.save(swapped(layer).state_dict(), place / "b.pth")
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(3, 9, 5)).astype(np.float32))
    with torch.no_grad():
        np.savez(place / "right.npz", x=x.numpy(), y=layer(x)[0].numpy())
        np.savez(place / "turned.npz", x=x.numpy(), y=layer(x.flip(1))[0].numpy())
    np.savez(place / "without.npz", x=x.numpy())
    return place


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, out, err


def test_two_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "diagnose", folder / "a.pth", folder / "b.pth")
    assert (status, err) == (1, "")
    assert SWAP in out
    assert "Mend:" in out
    assert "gate i" in out
    status, out, _ = run(capsys, "diagnose", folder / "a.pth", folder / "a.pth")
    assert status == 0
    assert "VERDICT: equivalent." in out


def test_a_recording(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "error.png"
    line = ("diagnose", folder / "a.pth", folder / "turned.npz", "--format", "json", "--plot", picture)
    status, out, err = run(capsys, *line)
    assert (status, err) == (1, "")
    found = json.loads(out)
    jsonschema.validate(found, schema())
    assert found["causes"][0]["mistakes"][0]["name"] == "time reversed"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run(capsys, "diagnose", folder / "a.pth", folder / "right.npz", "--quiet") == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("a.pth", "missing.npz"), "Cannot read"),
        (("a.pth", "without.npz"), "needs the input x and the output y"),
        (("right.npz", "a.pth"), "The recorded outputs go second"),
        (("a.pth", "turned.npz", "--plot", "error.gif"), "ends in none of them"),
        (("a.pth", "turned.npz", "--plot", "nowhere/error.png"), "does not exist; make it first"),
        (("a.pth",), "Missing argument 'B'"),
    ],
)
def test_wrong_inputs(
    arguments: tuple[str, ...],
    sentence: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    status, out, err = run(capsys, "diagnose", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("xframe: error: ")
    assert err.count("\n") == 1
    assert sentence in err
    assert sorted(folder.iterdir()) == before


def test_a_comparison_that_fails_says_why() -> None:
    layer = lstm()
    verdict = xframe.compare(layer, swapped(layer))
    assert not verdict
    assert verdict.diagnosis is not None
    assert verdict.diagnosis.causes[0].name.startswith(SWAP)
    assert "Why they differ" in verdict.report()
    content = json.loads(verdict.report("json"))
    jsonschema.validate(content, schema())
    assert content["diagnosis"]["causes"][0]["mistakes"][0]["name"].startswith(SWAP)
    same = xframe.compare(layer, lstm())
    assert same
    assert same.diagnosis is None
    assert "Why they differ" not in same.report()


def test_a_verification_that_fails_says_why(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "verify", folder / "a.pth", folder / "b.pth")
    assert status == 1
    assert "Why they differ: a and b" in out
    assert SWAP in out
    found = xframe.verify(folder / "a.pth", folder / "b.pth")
    assert [pair.diagnosis.causes[0].name for pair in found.pairs if pair.diagnosis is not None] == [SWAP]
    content = json.loads(found.report("json"))
    jsonschema.validate(content, schema())
    assert content["pairs"][0]["diagnosis"]["causes"]
    assert found.diagnosis is found.pairs[0].diagnosis
    same = xframe.verify(folder / "a.pth", folder / "a.pth")
    assert same.pairs[0].diagnosis is None
    assert same.diagnosis is None


@pytest.mark.parametrize(
    ("only", "words"),
    [
        ("reverse", "in the backward direction only"),
        ("l1", "in layer 1 only"),
        ("l1_reverse", "in the backward direction of layer 1 only"),
    ],
)
def test_a_mistake_in_some_tensors_only(only: str, words: str) -> None:
    """A line of a recipe that is wrong for one direction, or one layer; from the outputs alone too."""
    layer = lstm(num_layers=2, bidirectional=True)
    wrong = swapped(layer, only)
    found = xframe.diagnose(layer, wrong)
    assert found.causes[0].name == f"{SWAP}, {words}"
    x = torch.from_numpy(np.random.default_rng(2).normal(size=(3, 9, 5)).astype(np.float32))
    with torch.no_grad():
        y = wrong(x)[0].numpy()
    assert xframe.diagnose(layer, {"x": x.numpy(), "y": y}).causes[0].name == f"{SWAP}, {words}"


def test_a_file_of_several_layers_is_one_layer_to_a_recording(tmp_path: Path) -> None:
    layer = lstm(num_layers=2, bidirectional=True)
    torch.save(layer.state_dict(), tmp_path / "stack.pth")
    x = torch.from_numpy(np.random.default_rng(3).normal(size=(3, 9, 5)).astype(np.float32))
    with torch.no_grad():
        y = layer(x)[0].numpy()
    assert xframe.diagnose(tmp_path / "stack.pth", {"x": x.numpy(), "y": y})
    # The output at the last time step is not what Keras returns: there the backward half has read one step.
    wrong = xframe.diagnose(tmp_path / "stack.pth", {"x": x.numpy(), "y": y[:, -1]})
    assert "x[:, -1, :]" in wrong.causes[0].name


@pytest.mark.parametrize(("command", "bidirectional"), [("verify", False), ("diagnose", True)])
def test_a_side_without_biases(
    command: str, bidirectional: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever side it is, the cause is the same, and the side that lacks them is the one that is wrong."""
    whole, plain = (lstm(bias=bias, bidirectional=bidirectional) for bias in (True, False))
    plain.load_state_dict({n: t for n, t in whole.state_dict().items() if "bias" not in n})
    torch.save(whole.state_dict(), tmp_path / "with.pth")
    torch.save(plain.state_dict(), tmp_path / "without.pth")
    for names in (("with.pth", "without.pth"), ("without.pth", "with.pth")):
        status, out, err = run(capsys, command, *(tmp_path / name for name in names))
        assert (status, err) == (1, "")
        said = " ".join(out.split())
        assert "both biases dropped" in said
        assert ("that is wrong" in said) == (names[0] == "without.pth")
