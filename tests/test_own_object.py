"""What is judged is the user's object, with all that was done to it; and nothing of it is another thing afterwards.

Layers are changed here as users change them, by the frameworks' own means.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
import torch.nn.utils.prune as pruning
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import xframe
from xframe import LayoutError, SpecError, UnsupportedError
from xframe.adapters import KerasAdapter, TorchAdapter, get_adapter
from xframe.probe import draw_parameters
from xframe.torch import Recurrent as Module

L = keras.layers


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def filled(layer: Any, seed: int = 0) -> Any:
    """A Keras layer or model with other numbers in every place of it."""
    numbers = np.random.default_rng(seed)
    layer.set_weights([numbers.uniform(0.2, 0.9, w.shape) * numbers.choice([-1, 1], w.shape) for w in layer.weights])
    return layer


def built(layer: Any, features: int = 4, batch: int | None = None) -> Any:
    layer.build((batch, None, features))
    return filled(layer)


def twice(layer: Any) -> Any:
    """Let a torch module put out twice what it does."""
    forward = layer.forward
    layer.forward = lambda *given: (lambda out: (2 * out[0], out[1]))(forward(*given))
    return layer


def doubled(layer: Any) -> Any:
    """The same of a Keras layer, with its states."""
    call = layer.call
    layer.call = lambda *given, **options: keras.tree.map_structure(lambda t: 2 * t, call(*given, **options))
    return layer


# ---- Parameters that were registered again stand in another order.


def _weight_norm(layer: Any, name: str) -> None:
    parametrizations.weight_norm(layer, name)
    parametrize.remove_parametrizations(layer, name)


def _spectral_norm(layer: Any, name: str) -> None:
    parametrizations.spectral_norm(layer, name)
    parametrize.remove_parametrizations(layer, name)


def _prune(layer: Any, name: str) -> None:
    pruning.l1_unstructured(layer, name, amount=0.3)
    pruning.remove(layer, name)


def _again(layer: Any, name: str) -> None:
    tensor = getattr(layer, name)
    delattr(layer, name)
    layer.register_parameter(name, tensor)


MODULES: dict[str, Callable[[], Any]] = {
    "lstm": partial(nn.LSTM, 5, 7),
    "gru of equal sizes": partial(nn.GRU, 7, 7, bias=False),
    "bidirectional": partial(nn.RNN, 7, 7, bidirectional=True),
    "cell": partial(nn.GRUCell, 7, 7, bias=False),
    "dense": partial(nn.Linear, 6, 6),
    "module": lambda: Module(xframe.Recurrent("gru", 7, 7, reset_after=False, bias=False)),
}


@pytest.mark.parametrize("off", [_weight_norm, _spectral_norm, _prune, _again])
@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_the_order_of_parameters_is_of_no_matter(make: Callable[[], Any], off: Callable[[Any, str], None]) -> None:
    b = make()
    off(b, next(iter(dict(b.named_parameters()))))
    assert [*dict(b.named_parameters())] != [*dict(make().named_parameters())]
    a = make()
    a.load_state_dict(b.state_dict())
    verdict = xframe.compare(a, b)
    assert verdict.status == "equivalent", verdict.reason
    assert {check.dtype for check in verdict.checks if check.weights == "b"} == {"float64", "float32"}
    for name, tensor in TorchAdapter().clone(b, "float64").named_parameters():
        assert torch.equal(tensor, b.get_parameter(name).double())


def test_weights_that_are_tied_are_read_and_not_written() -> None:
    tied = nn.LSTM(5, 7, bidirectional=True)
    tied.weight_hh_l0_reverse = tied.weight_hh_l0
    assert xframe.compare(tied, tied).status == "equivalent"
    free = nn.LSTM(5, 7, bidirectional=True)
    xframe.transfer(tied, free)
    assert torch.equal(free.weight_hh_l0_reverse, tied.weight_hh_l0)
    before = copy.deepcopy(tied.state_dict())
    with pytest.raises(
        LayoutError, match=r"^weight_hh_l0_reverse lies in the memory of weight_hh_l0; give it memory of"
    ):
        xframe.transfer(nn.LSTM(5, 7, bidirectional=True), tied)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tied.state_dict().items())


# ---- Objects that were changed.


def sequential(*layers: Any, steps: int | None = None) -> Any:
    return filled(keras.Sequential([keras.Input((steps, 4)), *layers]))


CHANGED: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "torch": (partial(nn.LSTM, 4, 5, 2, batch_first=True), twice),
    "module": (lambda: Module(xframe.Recurrent("gru", 4, 5)), twice),
    "stateful module": (lambda: Module(xframe.Recurrent("gru", 4, 5, stateful=True, batch_size=3)), twice),
    "keras": (lambda: built(L.LSTM(6, return_sequences=True)), doubled),
    "stateful": (lambda: built(L.LSTM(6, stateful=True), batch=3), doubled),
    "bidirectional": (lambda: built(L.Bidirectional(L.GRU(6))), doubled),
    "one half": (lambda: built(L.Bidirectional(L.GRU(6))), lambda b: (doubled(b.backward_layer), b)[1]),
    "cell in a layer": (lambda: built(L.GRU(6)), lambda b: (doubled(b.cell), b)[1]),
    "sequential": (lambda: sequential(L.LSTM(4)), doubled),
    "sequential of two": (lambda: sequential(L.LSTM(4, return_sequences=True), L.LSTM(4)), doubled),
    "sequential of a length": (lambda: sequential(L.GRU(4), steps=7), doubled),
    "sequential with a mask": (lambda: sequential(L.Masking(0.0), L.GRU(4)), doubled),
    "stateful sequential": (
        lambda: filled(keras.Sequential([keras.Input((None, 4), batch_size=3), L.GRU(4, stateful=True)])),
        doubled,
    ),
    "dense": (lambda: filled(keras.Sequential([keras.Input((4,)), L.Dense(3)])), doubled),
}


@pytest.mark.parametrize(("make", "change"), CHANGED.values(), ids=CHANGED)
def test_what_an_object_does_decides(make: Callable[[], Any], change: Callable[[Any], Any]) -> None:
    a, b = make(), make()
    xframe.transfer(a, b)
    same = xframe.compare(a, b)
    assert same.status == "equivalent", same.reason
    assert not any("as it is" in note for note in same.notes)
    change(b)
    verdict = xframe.compare(a, b)
    assert verdict.status == "different"
    # Of its function nothing is known, because what float64 would show is another one's.
    assert "The function is the same" not in verdict.reason
    assert {check.dtype for check in verdict.checks if check.weights == "b"} == {"float32"}
    notes = [note for note in verdict.notes if "(b) was judged as it is, in float32 only: its copy in float64" in note]
    assert len(notes) == 1
    assert notes[0].endswith("computes something else.")


def test_a_copy_that_cannot_be_made_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    a = nn.GRU(4, 5)
    b = copy.deepcopy(a)
    clone = TorchAdapter.clone

    def refused(self: Any, layer: Any, dtype: str) -> Any:
        if layer is b:
            raise RuntimeError("no such thing\nand more")
        return clone(self, layer, dtype)

    monkeypatch.setattr(TorchAdapter, "clone", refused)
    verdict = xframe.compare(a, b)
    assert verdict.status == "equivalent"
    why = "its copy in float64 cannot be made (RuntimeError: no such thing)"
    assert f"PyTorch (b) was judged as it is, in float32 only: {why}." in verdict.notes
    assert "the function was not judged in float64" in verdict.reason
    assert "compute the same function" not in verdict.reason
    assert "computes what the reference computes" not in verdict.reason
    with torch.no_grad():
        b.weight_hh_l0[3, 2] += 1e-3
    assert xframe.compare(a, b).status == "different"


def test_parts_of_the_users_own_that_do_nothing_at_inference_are_left_out_of_a_copy() -> None:
    class Own(keras.regularizers.Regularizer):  # type: ignore[misc]
        def __call__(self, x: Any) -> Any:
            return keras.ops.sum(x) * 1e-4

        def get_config(self) -> dict[str, Any]:
            return {}

    options = {"kernel_regularizer": Own(), "bias_initializer": lambda shape, dtype: keras.ops.ones(shape, dtype)}
    a = built(L.GRU(5, **options))
    b = built(L.GRU(5))
    verdict = xframe.compare(a, b)
    assert verdict.status == "equivalent", verdict.reason
    assert {check.dtype for check in verdict.checks if check.weights == "a"} == {"float64", "float32"}
    del Own.get_config
    with pytest.raises(
        UnsupportedError, match=r"^The Keras layer '.*' gives no configuration \(NotImplementedError: .*get_config"
    ):
        xframe.compare(a, b)


def test_an_object_that_cannot_be_called_as_layers_are_is_refused_in_one_sentence() -> None:
    a = nn.GRU(4, 5)
    b = copy.deepcopy(a)
    b.forward = lambda x: nn.GRU.forward(b, x)
    words = r"^PyTorch \(b\) cannot be run \(TypeError: .*\); call it yourself with an input and states\.$"
    with pytest.raises(UnsupportedError, match=words):
        xframe.compare(a, b)
    assert xframe.verify(a, b).status == "inconclusive"


def test_a_function_is_only_said_to_be_the_same_where_it_was_judged() -> None:
    from xframe.adapters import OnnxAdapter

    layer = nn.RNN(3, 4, batch_first=True)
    spec = xframe.Recurrent("rnn", 3, 4, activation="softsign")  # of which ONNX's reference has no float64
    other = OnnxAdapter().build_loaded(spec, TorchAdapter().parameters(layer), "float32")
    verdict = xframe.compare(layer, other)
    assert verdict.status == "different"
    assert "The function is the same" not in verdict.reason
    relu = copy.deepcopy(layer)
    relu.mode = "RNN_RELU"
    assert "The function is the same" not in xframe.compare(layer, relu).reason


# ---- A baseline, and a verification.


@pytest.mark.parametrize("name", ["torch", "stateful", "sequential"])
def test_a_baseline_is_of_the_object(name: str, tmp_path: Path) -> None:
    make, change = CHANGED[name]
    layer = make()
    assert xframe.record(layer, tmp_path / "golden.npz").status == "equivalent"
    assert xframe.check(tmp_path / "golden.npz", layer=layer).status == "equivalent"
    change(layer)
    found = xframe.check(tmp_path / "golden.npz", layer=layer)
    assert found.status == "different"
    assert {check.dtype for check in found.checks} == {"float32"}
    assert any("was judged as it is, in float32 only" in note for note in found.notes)
    recorded = xframe.record(layer, tmp_path / "other.npz")
    assert recorded.status == "different"
    assert not (tmp_path / "other.npz").exists()


@pytest.mark.parametrize("name", ["torch", "stateful module", "keras", "stateful", "one half"])
def test_a_verification_runs_live_layers(name: str, tmp_path: Path) -> None:
    make, change = CHANGED[name]
    a, b = make(), make()
    xframe.transfer(a, b)
    assert xframe.verify(a, b).status == "equivalent"
    change(b)
    found = xframe.verify(a, b)
    assert found.status == "different"
    assert "the second puts out something else than its parameters say" in found.reason
    assert "the first puts out something else" in xframe.verify(b, a).reason
    if isinstance(b, nn.Module):
        assert xframe.diagnose(nn.ModuleList([a]), nn.ModuleList([b])).status == "unexplained"
        torch.save(a.state_dict(), tmp_path / "a.pt")
        assert xframe.verify(tmp_path / "a.pt", b).status == "different"


# ---- Nothing is another thing afterwards.


def _drawn_from() -> tuple[Any, ...]:
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002


def made(framework: str) -> Any:
    adapter, spec = get_adapter(framework), xframe.Recurrent("lstm", 4, 5)
    return adapter.build_loaded(spec, draw_parameters(spec, 0), "float32")


JAX = ("flax", "flax-linen", "equinox")


@pytest.mark.parametrize(
    "framework", ["torch", "keras", "onnx", *(pytest.param(one, marks=pytest.mark.slow) for one in JAX)]
)
def test_the_random_states_stay_as_they_were(framework: str, tmp_path: Path) -> None:
    a, b, spec = made(framework), made(framework), xframe.Recurrent("lstm", 4, 5)
    before = _drawn_from()
    assert xframe.compare(a, b)
    assert xframe.verify(a, b)
    assert xframe.compare(spec, frameworks=[framework])
    assert xframe.record(a, tmp_path / "golden.npz")
    assert xframe.check(tmp_path / "golden.npz", layer=b)
    assert _drawn_from() == before


def test_what_keras_draws_next_is_what_it_would_have_drawn() -> None:
    found = []
    for compared in (False, True):
        keras.utils.set_random_seed(3)
        layer = L.LSTM(5, dropout=0.2)
        layer.build((None, None, 4))
        if compared:
            xframe.compare(layer, layer)
        found.append([np.asarray(keras.random.normal((3,))), *L.Dense(4)(keras.ops.ones((1, 3)))])
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("training", [True, False])
def test_a_torch_layer_stays_as_it_was(training: bool) -> None:
    spec = xframe.Recurrent("gru", 4, 5, stateful=True, batch_size=3)
    a, b = Module(spec).train(training), Module(spec)
    b.load_state_dict(a.state_dict())
    a.weight_hh_l0.requires_grad_(False)
    a(torch.randn(3, 6, 4))
    state, held = a.state_h, a.state_h.clone()
    numbers = copy.deepcopy(a.state_dict())
    assert xframe.compare(a, b)
    assert xframe.verify(a, b)
    assert xframe.diagnose(a, b).status == "equivalent"
    assert a.training is training
    assert a.state_h is state
    assert torch.equal(state, held)
    assert not state.is_inference()
    assert [p.requires_grad for p in a.parameters()] == [True, False, True, True]
    assert all(torch.equal(tensor, numbers[name]) for name, tensor in a.state_dict().items())


def _alone() -> tuple[Any, Any]:
    layer = built(L.GRU(5, stateful=True), batch=3)
    return layer, layer


def _wrapped() -> tuple[Any, Any]:
    inner = L.Bidirectional(L.LSTM(5, stateful=True))
    return filled(keras.Sequential([keras.Input((None, 4), batch_size=3), inner])), inner.forward_layer


@pytest.mark.parametrize("make", [_alone, pytest.param(_wrapped, marks=pytest.mark.slow)])
def test_the_states_of_a_keras_layer_stay_as_they_were(make: Callable[[], tuple[Any, Any]], tmp_path: Path) -> None:
    (a, half), (b, _) = make(), make()
    a(np.random.default_rng(0).normal(size=(3, 6, 4)).astype("f"))
    before = [np.array(state) for state in half.states]
    assert all(state.any() for state in before)
    assert xframe.compare(a, b)
    assert xframe.diagnose(a, b).status == "equivalent"
    assert xframe.record(a, tmp_path / "golden.npz")
    assert xframe.check(tmp_path / "golden.npz", layer=a)
    assert all(np.array_equal(state, held) for state, held in zip(half.states, before, strict=True))


def test_states_are_put_back_where_running_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = built(L.GRU(5, stateful=True), batch=3)
    layer(np.ones((3, 2, 4), "f"))
    before = np.array(layer.states[0])

    def failing(*given: Any) -> Any:
        raise ValueError("no")

    monkeypatch.setattr(KerasAdapter, "reset", lambda self, one: one.states[0].assign(np.zeros((3, 5))))
    monkeypatch.setattr(KerasAdapter, "run", failing)
    with pytest.raises(UnsupportedError, match=r"cannot be run \(ValueError: no\)"):
        xframe.compare(layer, layer)
    assert np.array_equal(layer.states[0], before)


# ---- What layers read and hand back.


def test_the_order_of_axes_is_named() -> None:
    a = nn.LSTM(4, 6, batch_first=True)
    b = nn.LSTM(4, 6)
    b.load_state_dict(a.state_dict())
    reads = "PyTorch (b) reads (time, batch, features): batch_first=False; all was put in one order before comparing."
    assert xframe.compare(a, b).notes.count(reads) == 1
    assert reads in xframe.verify(a, b).notes
    assert not any("reads" in note for note in (*xframe.compare(a, a).notes, *xframe.compare(b, b).notes))


def test_the_order_of_axes_is_named_in_flax_and_onnx() -> None:
    from flax import nnx

    a, spec = nn.GRU(4, 6, batch_first=True), xframe.Recurrent("gru", 4, 6)
    with torch.no_grad():  # of which Flax has none
        a.bias_hh_l0[-6:] = 0
    b = nnx.RNN(nnx.GRUCell(4, 6, rngs=nnx.Rngs(0)), time_major=True)
    xframe.transfer(a, b)
    verdict = xframe.compare(a, b)
    assert verdict.status == "equivalent", verdict.reason
    assert any("Flax nnx (b) reads (time, batch, features): time_major=True" in note for note in verdict.notes)
    whole = get_adapter("onnx").build_loaded(spec, TorchAdapter().parameters(a), "float32")
    (_, node), *_ = get_adapter("onnx").layers(whole)
    assert not any("reads" in note for note in xframe.compare(a, node).notes)


def test_what_is_handed_back_is_named() -> None:
    a, b = built(L.LSTM(6, return_sequences=True)), built(L.LSTM(6))
    note = "Keras (b) hands back the last output: return_sequences=False; both were compared in every output."
    assert note in xframe.compare(a, b).notes
    assert note in xframe.verify(a, b).notes
    assert not any("hands back" in note for note in xframe.compare(b, b).notes)


def masked(value: float = 0.0) -> Any:
    return sequential(L.Masking(value), L.LSTM(6, return_sequences=True))


def unmasked() -> Any:
    return built(L.LSTM(6, return_sequences=True))


def in_torch() -> Any:
    layer = nn.LSTM(4, 6)
    xframe.transfer(unmasked(), layer)
    return layer


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (
            masked,
            unmasked,
            r"Keras \(a\) masks the time steps whose features all equal 0 and Keras \(b\) masks no time step",
        ),
        (
            unmasked,
            masked,
            r"Keras \(a\) masks no time step and Keras \(b\) masks the time steps whose features all equal 0",
        ),
        (masked, in_torch, r"Keras \(a\) masks the time steps whose features all equal 0 and PyTorch \(b\) masks no"),
        (
            masked,
            partial(masked, 2.0),
            r"features all equal 0 and Keras \(b\) masks the time steps whose features all equal 2",
        ),
    ],
)
def test_a_mask_that_only_one_makes_is_a_difference(a: Callable[[], Any], b: Callable[[], Any], words: str) -> None:
    one, other = a(), b()
    verdict = xframe.compare(one, other)
    assert verdict.status == "different"
    assert any(c.isdigit() for c in verdict.reason.split("something else, ")[1])
    with pytest.raises(AssertionError, match=words):
        xframe.assert_equivalent(one, other)
    assert xframe.diagnose(one, other).status == "unexplained"


def test_a_mask_that_does_not_show_is_not_passed_over() -> None:
    one, other = masked(), unmasked()
    for model in (one, other):
        model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    verdict = xframe.compare(one, other)
    assert verdict.status == "inconclusive"
    assert "masks no time step: on padded input that does not show" in verdict.reason


def test_masks_that_are_given_on_purpose_are_given_to_both() -> None:
    verdict = xframe.compare(masked(), unmasked(), mask="any")
    assert verdict.status == "equivalent", verdict.reason
    assert any(
        "Keras (a) makes its mask itself, of the time steps whose features all equal 0" in n for n in verdict.notes
    )
    assert xframe.compare(masked(), masked()).status == "equivalent"


def test_a_sequential_that_is_built_for_one_length_is_run_with_it() -> None:
    a, b = sequential(L.GRU(4), steps=7), sequential(L.GRU(4), steps=7)
    assert not any("is built for" in note for note in xframe.compare(a, b).notes)
    notes = xframe.compare(a, b, steps=3).notes
    assert (
        "Keras (b) is built for inputs of 7 time steps; on others its layers were run one by one, and not its own call."
        in (notes)
    )


# ---- Float types that are asked for.


def test_the_float_types_of_two_layers_can_be_chosen() -> None:
    a, b, half = nn.GRU(4, 5), nn.GRU(4, 5), nn.GRU(4, 5).half()
    b.load_state_dict(a.state_dict())
    half.load_state_dict(a.state_dict())

    def judged(one: Any, other: Any, *dtypes: str) -> set[tuple[str, str]]:
        return {(check.weights, check.dtype) for check in xframe.compare(one, other, dtypes=dtypes).checks}

    assert judged(a, b, "float32") == {("a", "float32"), ("b", "float32")}
    assert judged(a, b, "float64") == {("a", "float64"), ("b", "float64")}
    assert judged(a, half, "float32", "float16") == {("a", "float32"), ("b", "float16")}
    twice(b)
    verdict = xframe.compare(a, b, dtypes=["float64"])
    assert verdict.status == "different"
    assert {c.dtype for c in verdict.checks if c.weights == "b"} == {"float32"}


@pytest.mark.parametrize(
    ("dtypes", "words"),
    [
        (["nonsense"], "dtypes must be among float64, float32, float16, bfloat16, not 'nonsense'"),
        ([], "dtypes must be among .* not nothing"),
        (["bfloat16"], "These layers can be judged in float64 and float32 and float16, not in bfloat16"),
        (["float32"], r"PyTorch \(b\) is of float16, and so not judged in float32; add float16 or float64 to dtypes"),
    ],
)
def test_float_types_that_do_not_apply_are_refused(dtypes: list[str], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        xframe.compare(nn.GRU(4, 5), nn.GRU(4, 5).half(), dtypes=dtypes)


# ---- Writing.


def test_nothing_is_half_written() -> None:
    source, target = nn.GRU(5, 7), nn.GRU(5, 7)
    target.weight_hh_l0 = nn.Parameter(torch.randn(1, 7).expand(21, 7))
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(
        LayoutError, match=r"^weight_hh_l0 is an expanded tensor, several numbers of which are one in memory"
    ):
        xframe.transfer(source, target)
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())
    target = nn.GRU(5, 7)
    target.bias_hh_l0 = nn.Parameter(torch.randn(3))
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(LayoutError, match=r"^bias_hh_l0 takes \(3,\), not \(21,\)"):
        xframe.transfer(source, target)
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


def test_a_layer_that_was_made_in_inference_mode_can_be_written_to() -> None:
    source = nn.GRU(5, 7)
    with torch.inference_mode():
        target = nn.GRU(5, 7)
    xframe.transfer(source, target)
    assert all(torch.equal(tensor, source.get_parameter(name)) for name, tensor in target.named_parameters())
    assert xframe.compare(source, target)
    with torch.inference_mode():
        xframe.transfer(target, other := nn.GRU(5, 7))
    assert torch.equal(other.bias_hh_l0, source.bias_hh_l0)


def test_two_layers_that_lie_in_one_memory() -> None:
    base = torch.randn(12, 12)
    want = base.clone()
    a, b = nn.RNN(12, 12, bias=False), nn.RNN(12, 12, bias=False)
    hidden = a.weight_hh_l0.detach().clone()
    a.weight_ih_l0, b.weight_ih_l0 = nn.Parameter(base), nn.Parameter(base.T)
    xframe.transfer(a, b)
    assert torch.equal(b.weight_ih_l0, want)
    assert torch.equal(b.weight_hh_l0, hidden)
    # The one that is written first is what the other one is still to be read from.
    c, d = nn.RNN(12, 12, bias=False), nn.RNN(12, 12, bias=False)
    first, second = (getattr(c, name).detach().clone() for name in ("weight_ih_l0", "weight_hh_l0"))
    d.weight_ih_l0 = nn.Parameter(c.weight_hh_l0.data)
    xframe.transfer(c, d)
    assert torch.equal(d.weight_ih_l0, first)
    assert torch.equal(d.weight_hh_l0, second)


# ---- A Bidirectional that was changed after it was made.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda b: setattr(b.backward_layer, "go_backwards", False),
            "have go_backwards=False, which Keras itself refuses",
        ),
        (
            lambda b: setattr(b.forward_layer, "return_sequences", False),
            "return_sequences=False of .* was changed after",
        ),
        (
            lambda b: setattr(b.forward_layer, "zero_output_for_mask", False),
            "zero_output_for_mask=False of .* was changed",
        ),
    ],
)
def test_an_edited_bidirectional_is_refused(change: Callable[[Any], None], words: str) -> None:
    layer = built(L.Bidirectional(L.LSTM(6, return_sequences=True)))
    change(layer)
    with pytest.raises(UnsupportedError, match=words):
        xframe.compare(layer, layer)


# ---- A dense layer with its activation inside.

ACTIVATIONS = ["softmax", "relu", "sigmoid", "leaky_relu"]


def dense(activation: Any) -> Any:
    layer = L.Dense(3, activation=activation)
    layer.build((None, 5))
    return filled(layer)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_dense_layer_is_run_with_its_activation(activation: str) -> None:
    a, b = dense(activation), dense(activation)
    verdict = xframe.compare(a, b)
    assert verdict.status == "equivalent", verdict.reason
    assert KerasAdapter().spec(a) == xframe.Dense(5, 3, activation=activation)
    x = np.random.default_rng(0).normal(size=(4, 5))
    out = xframe.reference.run(KerasAdapter().spec(a), KerasAdapter().parameters(a), x).sequence
    np.testing.assert_allclose(out, np.asarray(a(x.astype("f"))), atol=1e-6)
    doubled(b)
    assert xframe.compare(a, b).status == "different"


@pytest.mark.parametrize("activation", [*ACTIVATIONS, lambda x: 2 * x])
def test_a_dense_layer_is_moved_without_its_activation(activation: Any) -> None:
    a, b = dense(activation), nn.Linear(5, 3)
    xframe.transfer(a, b)
    np.testing.assert_array_equal(b.weight.detach().numpy().T, np.asarray(a.kernel))
    back = dense(activation)
    back.set_weights([2 * w for w in back.get_weights()])
    xframe.transfer(b, back)
    assert all(np.array_equal(one, other) for one, other in zip(a.get_weights(), back.get_weights(), strict=True))


def test_an_activation_that_one_layer_has_not_is_a_difference_with_a_name() -> None:
    a, b = dense("softmax"), nn.Linear(5, 3)
    xframe.transfer(a, b)
    verdict = xframe.compare(a, b)
    assert verdict.status == "different"
    assert "The layers differ in activation: softmax and linear." in verdict.notes
    with pytest.raises(UnsupportedError, match="PyTorch has no Dense with activation='softmax'"):
        TorchAdapter().build(xframe.Dense(5, 3, activation="softmax"))


class Port(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)


@pytest.mark.parametrize("activation", [*ACTIVATIONS, lambda x: 2 * x])
@pytest.mark.parametrize("over_time", [False, True])
def test_a_live_dense_layer_is_paired_as_that_of_a_file(activation: Any, over_time: bool) -> None:
    last = L.Dense(2, activation=activation)
    model = keras.Sequential(
        [keras.Input((6, 3)), L.LSTM(4, return_sequences=over_time), L.TimeDistributed(last) if over_time else last]
    )
    filled(model)
    port = Port()
    xframe.transfer(model.layers[0], port.lstm)
    xframe.transfer(last, port.head)
    found = xframe.verify(model, port)
    assert [pair.status for pair in found.pairs] == ["equivalent", "equivalent"]
    assert not [*found.only_a, *found.only_b]
    assert any(
        "The activation of" in note and "is taken as a step that runs behind the layer" in note for note in found.notes
    )
    with torch.no_grad():
        port.head.bias[1] += 1e-3
    assert xframe.verify(model, port).pairs[1].status == "different"
