"""Numbers and options that differ: never equivalent, and one answer of all commands for the same two layers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xframe
from xframe.activations import ACTIVATIONS, alike
from xframe.adapters import get_adapter
from xframe.arithmetic import Plain
from xframe.packing import Parameters
from xframe.probe import draw_parameters
from xframe.spec import Recurrent

torch = pytest.importorskip("torch")

ANSWERS = {"explained": "different", "unexplained": "different"}


def filled(layer: Any, seed: int) -> Any:
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(
                (0.2 + 0.8 * torch.rand(p.shape, generator=random)) * torch.sign(torch.randn(p.shape, generator=random))
            )
    return layer


def answers(a: Any, b: Any, folder: Path, files: bool = True) -> dict[str, str]:
    """What each command says of two layers, and of the two files of their weights."""
    said = {
        "compare": xframe.compare(a, b).status,
        "verify": xframe.verify(a, b).status,
        "diagnose": xframe.diagnose(a, b).status,
    }
    xframe.record(a, folder / "a.npz", force=True)
    said["check"] = xframe.check(folder / "a.npz", layer=b).status
    if files:
        paths = [folder / "a.pt", folder / "b.pt"]
        for layer, path in zip((a, b), paths, strict=True):
            torch.save(layer.state_dict(), path)
        said["verify files"] = xframe.verify(*paths).status
        said["diagnose files"] = xframe.diagnose(*paths).status
    return {command: ANSWERS.get(status, status) for command, status in said.items()}


def rnn(seed: int, nonlinearity: str = "tanh") -> Any:
    return filled(torch.nn.RNN(2, 3, nonlinearity=nonlinearity, batch_first=True), seed)


def off(layer: Any) -> None:
    """Unit 0 is off, whatever is read that is not immense; the others are on."""
    with torch.no_grad():
        layer.bias_ih_l0[:] = torch.tensor([-1e6, 1.25, 1.5])


def one_number(share: float) -> Callable[[Any, Any, int], None]:
    def change(a: Any, b: Any, seed: int) -> None:
        random = np.random.default_rng(seed)
        tensor = list(b.parameters())[int(random.integers(4))].detach().view(-1)
        tensor[int(random.integers(len(tensor)))] *= 1 + share

    return change


@torch.no_grad()
def behind_a_unit_that_is_off(a: Any, b: Any, seed: int) -> None:
    off(a)
    off(b)
    b.weight_ih_l0[0, 1] *= -1


def rounded_sums(a: Any, b: Any, seed: int) -> None:
    """One bias holds the sum of both, rounded to float32: no mistake."""
    with torch.no_grad():
        b.bias_ih_l0 += b.bias_hh_l0
        b.bias_hh_l0.zero_()


def nothing(a: Any, b: Any, seed: int) -> None:
    pass


CHANGES = {
    "a thousandth": (one_number(1e-3), "different"),
    "a few digits": (one_number(1e-5), "different"),
    "turned": (one_number(-2.0), "different"),
    "off": (behind_a_unit_that_is_off, "inconclusive"),
    "sums": (rounded_sums, "equivalent"),
    "nothing": (nothing, "equivalent"),
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("change", CHANGES)
def test_all_commands_give_one_answer(change: str, seed: int, tmp_path: Path) -> None:
    make, expected = CHANGES[change]
    a = rnn(seed, "relu")
    b = copy.deepcopy(a)
    make(a, b, seed)
    said = answers(a, b, tmp_path)
    assert set(said.values()) == {expected}, said


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.0, 1e-4, 0.1])
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_all_commands_give_one_answer_on_gated_layers(cell: str, share: float, seed: int, tmp_path: Path) -> None:
    a = filled(getattr(torch.nn, cell)(2, 3, batch_first=True), seed)
    b = copy.deepcopy(a)
    one_number(share)(a, b, seed)
    said = answers(a, b, tmp_path)
    assert set(said.values()) == {"different" if share else "equivalent"}, said


def test_a_number_that_shows_in_float64_alone_is_different_everywhere(tmp_path: Path) -> None:
    """In a large layer the rounding noise of float32 hides it."""
    a = filled(torch.nn.RNN(5, 48, batch_first=True), 0)
    b = copy.deepcopy(a)
    with torch.no_grad():
        b.weight_hh_l0[3, 3] += 1e-6
    assert set(answers(a, b, tmp_path).values()) == {"different"}


def test_a_copy_in_a_narrower_type_is_equivalent_everywhere(tmp_path: Path) -> None:
    a = filled(torch.nn.GRU(2, 3, batch_first=True).double(), 0)
    assert set(answers(a, copy.deepcopy(a).float(), tmp_path).values()) == {"equivalent"}


# ---- What is said.


def test_what_differs_and_did_not_show_is_named(tmp_path: Path) -> None:
    a = rnn(0, "relu")
    b = copy.deepcopy(a)
    behind_a_unit_that_is_off(a, b, 0)
    number = f"kernel, gate h [1, 0]: {a.weight_ih_l0[0, 1].item():.6g} and {b.weight_ih_l0[0, 1].item():.6g}"
    assert number in xframe.compare(a, b).reason
    assert number in xframe.verify(a, b).reason
    assert number in xframe.diagnose(a, b).reason
    xframe.record(a, tmp_path / "a.npz")
    assert number in xframe.check(tmp_path / "a.npz", layer=b).reason


def test_a_number_that_the_usual_inputs_do_not_reach_is_shown_by_others() -> None:
    """The unit is off on inputs of the usual size, and on when they are larger."""
    a = rnn(0, "relu")
    with torch.no_grad():
        a.bias_ih_l0[0] = -40.0
    b = copy.deepcopy(a)
    with torch.no_grad():
        b.weight_ih_l0[0, 1] *= 1.01
    verdict = xframe.compare(a, b)
    assert verdict.status == "different"
    assert {check.initial_state for check in verdict.checks if check.status == "different"} == {"given (input x 64)"}


def test_the_plain_assertion_follows(tmp_path: Path) -> None:
    a = rnn(0, "relu")
    b = copy.deepcopy(a)
    behind_a_unit_that_is_off(a, b, 0)
    with pytest.raises(AssertionError, match="No output showed it, but the layers differ in 1 number"):
        xframe.assert_equivalent(a, b)


# ---- Options.


def layer(spec: Recurrent, params: Parameters | None = None) -> Any:
    """A layer in float32, with the same random numbers for every spec of the same sizes if none are given."""
    return get_adapter("torch").build_loaded(spec, params or draw_parameters(spec, 0), "float32")


RNN, GRU = Recurrent("rnn", 2, 3), Recurrent("gru", 2, 3)
OPTIONS = {
    "activation": (replace(RNN, activation="relu"), replace(RNN, activation="relu6")),
    "recurrent_activation": (GRU, replace(GRU, recurrent_activation="hard_sigmoid")),
    "reset_after": (GRU, replace(GRU, reset_after=False)),
    "go_backwards": (RNN, replace(RNN, go_backwards=True)),
    "merge_mode": (
        replace(RNN, bidirectional=True, merge_mode="sum"),
        replace(RNN, bidirectional=True, merge_mode="mul"),
    ),
    "activation of layer 0, backward": (
        replace(RNN, bidirectional=True, backward=replace(RNN, activation="relu")),
        replace(RNN, bidirectional=True, backward=replace(RNN, activation="elu")),
    ),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_that_differs_is_a_difference(option: str, tmp_path: Path) -> None:
    a, b = map(layer, OPTIONS[option])
    assert xframe.compare(a, b).status == "different"
    found = xframe.verify(a, b)
    assert found.status == "different"
    assert f"of which one has {option}=" in found.reason
    xframe.record(a, tmp_path / "a.npz")
    assert xframe.check(tmp_path / "a.npz", layer=b).status == "different"


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_that_differs_is_a_difference_for_every_command(option: str, tmp_path: Path) -> None:
    said = answers(*map(layer, OPTIONS[option]), tmp_path, files=False)
    assert set(said.values()) == {"different"}, said


def test_an_option_that_no_output_shows_is_named(tmp_path: Path) -> None:
    """relu6 and relu are the same below 6, where these stay on all inputs."""
    small = {key: 0.01 * block for key, block in draw_parameters(RNN, 0).items()}
    small |= {key: 50 * np.abs(block) for key, block in small.items() if key.role == "bias"}
    a, b = (layer(spec, Parameters(spec, small)) for spec in OPTIONS["activation"])
    said = answers(a, b, tmp_path, files=False)
    assert set(said.values()) == {"inconclusive"}, said
    assert "differ in activation (relu and relu6)" in xframe.compare(a, b).reason


SAME = {
    "bias of zeros": (replace(GRU, reset_after=False, bias=False), replace(GRU, reset_after=False)),
    "dropout": (replace(GRU, num_layers=2, dropout=0.3), replace(GRU, num_layers=2)),
    "recurrent dropout": (replace(RNN, recurrent_dropout=0.3), replace(RNN, input_dropout=0.1)),
    "one function of two names": (replace(RNN, activation="elu"), replace(RNN, activation="celu")),
}


def zeros(spec: Recurrent) -> dict[Any, np.ndarray]:
    return {key: np.zeros(block.shape) for key, block in draw_parameters(spec, 0).items()}


@pytest.mark.parametrize("option", SAME)
def test_an_option_that_changes_no_output_is_a_note(option: str, tmp_path: Path) -> None:
    a, b = SAME[option]
    shared = draw_parameters(a, 0)
    a, b = layer(a, shared), layer(b, Parameters(b, {**zeros(b), **shared}))
    assert set(answers(a, b, tmp_path, files=False).values()) == {"equivalent"}
    assert "The layers differ in" in " ".join(xframe.compare(a, b).notes)
    assert "The layer has " in " ".join(xframe.check(tmp_path / "a.npz", layer=b).notes)


def computed(name: str, x: np.ndarray) -> np.ndarray:
    return np.asarray(Plain().activate(name, x, np.empty_like(x)))


def test_functions_of_one_equation_are_one_function() -> None:
    x = np.linspace(-8, 8, 100)
    for one, other in combinations(ACTIVATIONS, 2):
        same = np.array_equal(computed(one, x), computed(other, x))
        assert alike(one, other) == same, (one, other)


# ---- What a side does not say.


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_nonlinearity_that_a_file_does_not_say_is_named_as_assumed(activation: str, tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    layer = rnn(0, "tanh")
    torch.save(layer.state_dict(), tmp_path / "a.pt")
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.SimpleRNN(3, activation=activation)])
    kernel, recurrent, *biases = (p.detach().numpy() for p in layer.parameters())
    model.set_weights([kernel.T, recurrent.T, sum(biases)])
    model.save(tmp_path / "b.keras")
    found = xframe.verify(tmp_path / "a.pt", tmp_path / "b.keras")
    said = f"The first side does not say activation; it is taken as '{activation}', as in the second."
    assert found.pairs[0].notes == (said,)
    assert said in " ".join(found.report().split())
    assert said in " ".join(xframe.diagnose(tmp_path / "a.pt", tmp_path / "b.keras").notes)


def test_what_neither_side_says_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        torch.save(rnn(0).state_dict(), tmp_path / f"{name}.pt")
    found = xframe.verify(tmp_path / "a.pt", tmp_path / "b.pt")
    assert found.pairs[0].notes == ("Neither side says activation; both are taken as 'tanh'.",)


def test_weights_that_did_not_arrive_as_they_were_are_not_equivalent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A move that turns a number which no output shows: the parameters are beside each other all the same."""
    adapter = get_adapter("torch")
    read = type(adapter).parameters

    def other(self: Any, layer: Any) -> Any:
        params = read(self, layer)
        key = next(iter(params))
        changed = params[key].copy()
        changed[0, 0] += 1e-2
        return params.replaced({key: changed})

    spec = Recurrent("rnn", 2, 3)
    assert xframe.compare(spec, frameworks=["keras", "torch"])
    monkeypatch.setattr(type(adapter), "parameters", other)
    verdict = xframe.compare(spec, frameworks=["keras", "torch"])
    assert verdict.status == "inconclusive"
    assert "kernel, gate h, which no output showed" in verdict.reason
