"""The verdict: equivalent when it should be, and never otherwise.

The mutation tests break a real layer with the framework's own means, written out here, not with xframe's catalogue.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import keras
import numpy as np
import pytest
import torch
from helpers import FEATURES, UNITS, entry_point
from test_transfer import FILL, MAKE, NUMBERS

import xframe
from xframe import UnsupportedError, mistakes, noise, reference, suite
from xframe.adapters import available_adapters, get_adapter, known_adapters, usual_adapters
from xframe.adapters.torch import TorchAdapter
from xframe.comparison import compare_spec
from xframe.probe import Probe, draw_input, draw_parameters, draw_state
from xframe.reference import Given, Outputs
from xframe.suite import grid

SPECS = [
    xframe.Recurrent("rnn", 3, 5),
    xframe.Recurrent("rnn", 4, 7, activation="relu", bidirectional=True),
    xframe.Recurrent("lstm", 3, 4, num_layers=2, bidirectional=True),
    xframe.Recurrent("gru", 6, 5, num_layers=3),
    xframe.Recurrent("gru", 4, 7, reset_after=False),
    xframe.Recurrent("lstm", 3, 7, proj_size=4),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_layer_is_equivalent_wherever_it_exists(spec: xframe.Recurrent) -> None:
    verdict = xframe.compare(spec)
    assert verdict.status == "equivalent", verdict.reason
    assert verdict
    assert [*verdict.frameworks, *verdict.not_compared] == usual_adapters()
    judged = {(c.framework, c.weights, c.initial_state, c.output, c.dtype) for c in verdict.checks}
    assert len(judged) == len(verdict.checks)
    states = ("state h", "state c") if spec.cell == "lstm" else ("state h",)
    for framework in verdict.frameworks:
        for start in ("zero", "given"):
            for output in ("sequence", "last", *states):
                for dtype in ("float64", "float32"):
                    assert (framework, "loaded", start, output, dtype) in judged
    assert not verdict.power.missed


# Who is given whose weights: each framework those of the one before it, the first one those of the last.
RINGS = {
    "the usual two": (None, {"keras": "PyTorch", "torch": "Keras"}),
    "the other way round": (["torch", "keras"], {"torch": "Keras", "keras": "PyTorch"}),
    "three": (["torch", "onnx", "equinox"], {"torch": "Equinox", "onnx": "PyTorch", "equinox": "ONNX"}),
    "all that have it": (
        ["flax-linen", "keras", "equinox", "onnx", "torch"],
        {"flax-linen": "PyTorch", "keras": "Flax linen", "equinox": "Keras", "onnx": "Equinox", "torch": "ONNX"},
    ),
}


@pytest.mark.needs("onnx", "flax", "equinox")
@pytest.mark.parametrize(("frameworks", "before"), RINGS.values(), ids=RINGS)
def test_the_weights_are_moved_round_from_framework_to_framework(
    frameworks: list[str] | None, before: dict[str, str]
) -> None:
    verdict = xframe.compare(xframe.Recurrent("gru", 3, 5), frameworks=frameworks)
    assert verdict, verdict.reason
    assert verdict.frameworks == tuple(before)
    expected = {(name, weights) for name, title in before.items() for weights in ("loaded", f"from {title}")}
    assert {(c.framework, c.weights) for c in verdict.checks} == expected
    # In each of two float types each move is held against where it began.
    assert len(verdict.parameters) == 2 * len(before)
    assert all(p.rounding for p in verdict.parameters)


@pytest.mark.needs("onnx", "flax", "equinox")
def test_one_framework_has_nobody_to_be_given_weights_by() -> None:
    verdict = xframe.compare(xframe.Recurrent("gru", 3, 5), frameworks=["equinox"])
    assert verdict, verdict.reason
    assert {c.weights for c in verdict.checks} == {"loaded"}
    assert not verdict.parameters


@pytest.mark.needs("onnx", "equinox")
@pytest.mark.parametrize("broken", ["torch", "onnx", "equinox"])
def test_a_move_that_is_wrong_shows_where_it_leads(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of three frameworks hands over the gates of another order: the one after it is wrong, and no other."""
    frameworks, kind = ["torch", "onnx", "equinox"], type(get_adapter(broken))
    right = kind.read

    def swapped(self: Any, layer: Any) -> Mapping[str, np.ndarray]:
        found = dict(right(self, layer))
        last = list(found)[-1]
        found[last] = found[last][..., ::-1]
        return found

    monkeypatch.setattr(kind, "read", swapped)
    verdict = xframe.compare(xframe.Recurrent("lstm", 3, 5), frameworks=frameworks)
    assert verdict.status == "different"
    after = frameworks[(frameworks.index(broken) + 1) % 3]
    wrong = {(c.framework, c.weights) for c in verdict.checks if c.status == "different"}
    assert wrong == {(after, f"from {get_adapter(broken).title}")}


def test_the_standard_grid_covers_every_option() -> None:
    specs = [one.spec for one in grid(Probe())]
    assert len(specs) >= 24
    assert len(set(specs)) == len(specs)
    assert {s.num_layers for s in specs} == {1, 2, 3, 4}
    for cell, option, values in (
        ("rnn", "activation", {"tanh", "relu"}),
        ("gru", "reset_after", {True, False}),
        ("lstm", "bias", {True, False}),
        ("lstm", "bidirectional", {True, False}),
    ):
        assert {getattr(s, option) for s in specs if s.cell == cell} == values
    assert not {s.input_size for s in specs} & {s.hidden_size for s in specs}


# Mutations. Each takes a torch layer and breaks it as a hand-written transfer would.


def blocks(tensor: torch.Tensor, order: list[int]) -> torch.Tensor:
    return torch.cat([tensor.chunk(len(order))[i] for i in order])


def swap_gates(order: list[int]) -> Callable[[Any], None]:
    def mutate(layer: Any) -> None:
        for parameter in layer.parameters():
            parameter.copy_(blocks(parameter, order))

    return mutate


def per_gate(name: str, change: Callable[[torch.Tensor], torch.Tensor], gates: int) -> Callable[[Any], None]:
    def mutate(layer: Any) -> None:
        weight = getattr(layer, name)
        weight.copy_(torch.cat([change(w) for w in weight.chunk(gates)]))

    return mutate


def zero(*names: str) -> Callable[[Any], None]:
    def mutate(layer: Any) -> None:
        for name in names:
            getattr(layer, name).zero_()

    return mutate


def sum_on_both_sides(layer: Any) -> None:
    total = layer.bias_ih_l0 + layer.bias_hh_l0
    layer.bias_ih_l0.copy_(total)
    layer.bias_hh_l0.copy_(total)


def sum_on_one_side(layer: Any) -> None:
    layer.bias_ih_l0.add_(layer.bias_hh_l0)
    layer.bias_hh_l0.zero_()


def exchange(one: str, other: str) -> Callable[[Any], None]:
    def mutate(layer: Any) -> None:
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            a, b = getattr(layer, f"{name}_{one}"), getattr(layer, f"{name}_{other}")
            if a.shape == b.shape:
                kept = a.clone()
                a.copy_(b)
                b.copy_(kept)

    return mutate


def add_forget_bias(layer: Any) -> None:
    layer.bias_ih_l0.chunk(4)[1].add_(1.0)


def one_number(layer: Any) -> None:
    layer.weight_hh_l0[-1, -1] += 1e-3


def through_half_precision(layer: Any) -> None:
    for parameter in layer.parameters():
        parameter.copy_(parameter.half().float())


MUTATIONS: list[tuple[str, Callable[[], Any], Callable[[Any], None]]] = [
    *(
        (f"lstm gates {order}", lambda: torch.nn.LSTM(5, 6, batch_first=True), swap_gates(order))
        for order in ([1, 0, 2, 3], [2, 1, 0, 3], [3, 1, 2, 0], [0, 2, 1, 3], [0, 3, 2, 1], [0, 1, 3, 2])
    ),
    *(
        (f"gru gates {order}", lambda: torch.nn.GRU(5, 6, batch_first=True), swap_gates(order))
        for order in ([1, 0, 2], [2, 1, 0], [0, 2, 1])
    ),
    ("square kernel not transposed", lambda: torch.nn.LSTM(6, 6), per_gate("weight_ih_l0", lambda w: w.T, 4)),
    ("recurrent kernel not transposed", lambda: torch.nn.RNN(5, 6), per_gate("weight_hh_l0", lambda w: w.T, 1)),
    (
        "kernel reshaped instead of transposed",
        lambda: torch.nn.GRU(5, 6),
        per_gate("weight_ih_l0", lambda w: w.T.reshape(w.shape), 3),
    ),
    ("input bias dropped", lambda: torch.nn.LSTM(5, 6), zero("bias_ih_l0")),
    ("recurrent bias dropped", lambda: torch.nn.RNN(5, 6), zero("bias_hh_l0")),
    ("both biases added on both sides", lambda: torch.nn.LSTM(5, 6), sum_on_both_sides),
    ("gru biases added on one side", lambda: torch.nn.GRU(5, 6), sum_on_one_side),
    ("directions swapped", lambda: torch.nn.LSTM(5, 6, bidirectional=True), exchange("l0", "l0_reverse")),
    ("layers swapped", lambda: torch.nn.GRU(6, 6, num_layers=2), exchange("l0", "l1")),
    ("forget bias added", lambda: torch.nn.LSTM(5, 6), add_forget_bias),
    ("one number changed", lambda: torch.nn.LSTM(5, 6), one_number),
    ("through half precision", lambda: torch.nn.GRU(5, 6), through_half_precision),
]


def partner(layer: Any) -> Any:
    """A Keras layer with the same weights."""
    twin = get_adapter("keras").build(get_adapter("torch").spec(layer))
    xframe.transfer(layer, twin)
    return twin


@pytest.mark.parametrize(("make", "mutate"), [m[1:] for m in MUTATIONS], ids=[m[0] for m in MUTATIONS])
def test_a_mutation_turns_the_verdict(make: Callable[[], Any], mutate: Callable[[Any], None]) -> None:
    torch.manual_seed(1)
    layer = make()
    twin = partner(layer)
    before = xframe.compare(layer, twin)
    assert before.status == "equivalent", before.reason
    with torch.no_grad():
        mutate(layer)
    for pair in ((layer, twin), (twin, layer)):
        verdict = xframe.compare(*pair)
        assert verdict.status == "different", verdict.reason
        assert not verdict
        assert any(c.dtype == "float64" and c.status == "different" for c in verdict.checks)


def test_relu_for_tanh_is_different() -> None:
    torch.manual_seed(2)
    layer = torch.nn.RNN(4, 6, batch_first=True)
    wrong = torch.nn.RNN(4, 6, nonlinearity="relu", batch_first=True)
    wrong.load_state_dict(layer.state_dict())
    assert xframe.compare(layer, wrong).status == "different"


def test_reset_before_for_reset_after_is_different() -> None:
    torch.manual_seed(3)
    layer = torch.nn.GRU(4, 6, batch_first=True)
    with torch.no_grad():
        layer.bias_hh_l0.zero_()
    wrong = keras.layers.GRU(6, reset_after=False)
    wrong.build((None, None, 4))
    weights = {n: p.detach().numpy() for n, p in layer.named_parameters()}
    zrn = [np.concatenate([np.split(weights[n], 3)[i] for i in (1, 0, 2)]) for n in ("weight_ih_l0", "weight_hh_l0")]
    bias = np.concatenate([np.split(weights["bias_ih_l0"], 3)[i] for i in (1, 0, 2)])
    wrong.set_weights([zrn[0].T, zrn[1].T, bias])
    verdict = xframe.compare(layer, wrong)
    assert all(p.equal for p in verdict.parameters), "the parameters are the same; only their use differs"
    assert verdict.status == "different"


def break_run(monkeypatch: pytest.MonkeyPatch, change: Callable[..., Outputs]) -> None:
    """Let PyTorch's adapter run layers wrongly."""
    right = TorchAdapter.run
    monkeypatch.setattr(
        TorchAdapter, "run", lambda self, layer, x, state=None, mask=None: change(right, self, layer, x, state)
    )


def test_a_check_tells_the_two_numbers_and_how_it_goes_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    at, off = (1, 3, 2), 0.25

    def shifted(right: Callable[..., Outputs], self: Any, layer: Any, x: np.ndarray, state: Any) -> Outputs:
        out = right(self, layer, x, state)
        sequence = out.sequence.copy()
        sequence[at] += off
        return Outputs(sequence, out.last, out.states)

    spec = xframe.Recurrent("gru", 3, 5)
    break_run(monkeypatch, shifted)
    checks = xframe.compare(spec, steps=6, frameworks=["torch"]).checks
    assert {c.over_time for c in checks if c.output != "sequence"} == {None}
    found = [c for c in checks if c.output == "sequence"]
    assert {c.dtype for c in found} == {"float64", "float32"}
    for check in found:
        assert check.worst == at
        assert check.got - check.expected == pytest.approx(off, abs=1e-5)
        error, unit, ratio = map(np.array, (check.over_time.error, check.over_time.noise, check.over_time.ratio))
        assert len(error) == len(unit) == len(ratio) == 6
        assert int(error.argmax()) == int(ratio.argmax()) == 3
        assert error[3] == check.max_abs == pytest.approx(off, abs=1e-5)
        assert ratio[3] == check.noise_ratio
        others = np.arange(6) != 3
        assert (error[others] < 1e-5).all()
        assert (ratio[others] < 10).all()
        assert (unit > 0).all()
        # No element's noise is above the largest of its step.
        assert (ratio * unit >= error * (1 - 1e-12)).all()


RUN_MUTATIONS: dict[str, Callable[..., Outputs]] = {
    "time reversed": lambda right, self, layer, x, state: right(self, layer, x[:, ::-1], state),
    "initial state ignored": lambda right, self, layer, x, state: right(self, layer, x, None),
    "batch and time exchanged": lambda right, self, layer, x, state: (
        lambda out: Outputs(out.sequence.swapaxes(0, 1), out.last, out.states)
    )(right(self, layer, x, state)),
    "last output at the wrong step": lambda right, self, layer, x, state: (
        lambda out: Outputs(out.sequence, out.sequence[:, -1], out.states)
    )(right(self, layer, x, state)),
    "an output is missing": lambda right, self, layer, x, state: (
        lambda out: Outputs(out.sequence, out.last, {"h": out.states["h"]})
    )(right(self, layer, x, state)),
    "a NaN in the output": lambda right, self, layer, x, state: (
        lambda out: Outputs(
            np.where(np.arange(out.sequence.size).reshape(out.sequence.shape) == 7, np.nan, out.sequence),
            out.last,
            out.states,
        )
    )(right(self, layer, x, state)),
    "computed in half precision": lambda right, self, layer, x, state: (
        lambda out: Outputs(out.sequence.astype(np.float16).astype(x.dtype), out.last, out.states)
    )(right(self, layer, x, state)),
}


@pytest.mark.parametrize("change", RUN_MUTATIONS.values(), ids=RUN_MUTATIONS)
def test_a_wrong_run_turns_the_verdict(change: Callable[..., Outputs], monkeypatch: pytest.MonkeyPatch) -> None:
    spec = xframe.Recurrent("lstm", 3, 5, bidirectional=True)
    assert xframe.compare(spec).status == "equivalent"
    break_run(monkeypatch, change)
    verdict = xframe.compare(spec)
    assert verdict.status == "different"
    assert {c.framework for c in verdict.checks if c.status == "different"} == {"torch"}


def test_float32_that_is_secretly_less_is_different(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numerics are judged by themselves: right in float64, wrong by ten bits in float32."""

    def coarse(right: Any, self: Any, layer: Any, x: np.ndarray, state: Any) -> Outputs:
        out = right(self, layer, x, state)
        if x.dtype != np.float32:
            return out
        return Outputs(out.sequence * np.float32(1 + 2**-14), out.last, out.states)

    break_run(monkeypatch, coarse)
    verdict = xframe.compare(xframe.Recurrent("gru", 3, 5))
    assert verdict.status == "different"
    assert "The function is the same; its numerics are not." in verdict.reason
    assert {c.dtype for c in verdict.checks if c.status == "different"} == {"float32"}


def doubled(layer: Any) -> None:
    forward = layer.forward
    layer.forward = lambda *given: (lambda out: (out[0] * 2, out[1]))(forward(*given))


def rectified(layer: Any) -> None:
    layer.mode = "RNN_RELU"


@pytest.mark.parametrize("change", [doubled, rectified])
def test_a_copy_that_is_another_function_says_nothing_of_the_layer(change: Callable[[Any], None]) -> None:
    """What runs in float64 is a copy, in which nothing of this was done."""
    layer = torch.nn.RNN(3, 4, batch_first=True)
    other = copy.deepcopy(layer)
    change(other)
    verdict = xframe.compare(layer, other)
    assert verdict.status == "different"
    assert "The function is the same" not in verdict.reason


def test_a_function_that_was_not_judged_is_not_said_to_be_the_same() -> None:
    """ONNX Runtime has no such layer in float64."""
    layer, adapter = torch.nn.RNN(3, 4, batch_first=True), get_adapter("onnx")
    params = get_adapter("torch").parameters(layer)
    other = adapter.build_loaded(xframe.Recurrent("rnn", 3, 4, activation="softsign"), params, "float32")
    verdict = xframe.compare(layer, other)
    assert verdict.status == "different"
    assert "The function is the same" not in verdict.reason


def test_outputs_that_are_all_zero_prove_nothing() -> None:
    layer = torch.nn.RNN(3, 5, nonlinearity="relu", batch_first=True)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(-parameter.abs())
        layer.weight_ih_l0.zero_()
        layer.weight_hh_l0.abs_().neg_()
    twin = partner(layer)
    verdict = xframe.compare(layer, twin)
    assert verdict.status == "inconclusive"
    assert "proves nothing" in verdict.reason
    assert not verdict


def test_a_probe_that_could_not_see_a_mistake_says_so() -> None:
    verdict = xframe.compare(xframe.Recurrent("lstm", 3, 4), steps=1)
    assert verdict.status == "inconclusive"
    assert verdict.power.missed == ["time reversed"]
    assert "time reversed" in verdict.reason


def test_the_power_is_that_of_the_judgement_that_was_made() -> None:
    """In float32 alone a mistake shows 2^29 / sqrt(2) times less than in float64, and the function is not claimed."""
    spec = xframe.Recurrent("lstm", 3, 5)
    sharp, coarse = (xframe.compare(spec, dtypes=dtypes) for dtypes in (("float64", "float32"), ("float32",)))
    assert coarse.status == "equivalent"
    assert "the same function" in sharp.reason
    assert "not judged in float64" in coarse.reason
    assert sharp.power.margins.keys() == coarse.power.margins.keys()
    for mistake, margin in coarse.power.margins.items():
        assert 1e7 < sharp.power.margins[mistake] / margin < 1e10, mistake
    assert any(c.power for c in coarse.checks)


def test_every_mistake_of_the_catalogue_is_seen_and_changes_the_reference() -> None:
    seen = set()
    for spec in (
        *SPECS,
        xframe.Recurrent("lstm", 5, 5),
        xframe.Recurrent("gru", 6, 6, num_layers=2, bidirectional=True),
    ):
        probe, params = Probe(), draw_parameters(spec, 0)
        x, state = draw_input(spec, probe), draw_state(spec, probe)
        right = reference.run(spec, params, x, state).sequence
        for name, wrong in mistakes.variations(spec, params, Given(x, state)):
            seen.add(name)
            assert not np.allclose(wrong.run()["sequence"], right, atol=1e-3), name
    assert len(seen) >= 20


# Frameworks that lack a float type, or a place for a number.

RELU = xframe.Recurrent("rnn", 3, 5, activation="relu")
PLAIN_RNN = xframe.Recurrent("rnn", 3, 5)


def types_judged(verdict: xframe.Verdict) -> set[tuple[str, str]]:
    return {(c.framework, c.dtype) for c in verdict.checks}


def test_a_framework_that_lacks_float64_is_judged_in_float32() -> None:
    verdict = xframe.compare(RELU, frameworks=["torch", "onnx"])
    assert verdict, verdict.reason
    assert types_judged(verdict) == {("torch", "float64"), ("torch", "float32"), ("onnx", "float32")}
    assert any(note.startswith("ONNX was not judged in float64: ONNX Runtime has no RNN") for note in verdict.notes)
    assert verdict.reason.startswith(
        "PyTorch computes what the reference computes; "
        "ONNX agrees with the reference in float32 (the function was not judged in float64): all "
    )
    # In float64 there is nobody that weights could be moved to.
    assert {(c.dtype, c.weights) for c in verdict.checks} == {
        ("float64", "loaded"),
        *(("float32", weights) for weights in ("loaded", "from ONNX", "from PyTorch")),
    }
    # The power of the verdict is that of the sharpest judgement that all of them had.
    assert {c.dtype for c in verdict.checks if c.power} == {"float32"}
    sharp, coarse = (xframe.compare(RELU, frameworks=["torch"], dtypes=[d]) for d in ("float64", "float32"))
    assert verdict.power.margins == coarse.power.margins
    for mistake, margin in verdict.power.margins.items():
        assert 1e7 < sharp.power.margins[mistake] / margin < 1e10, mistake


def toy_without(*dtypes: str) -> AbstractContextManager[Any]:
    """The toy framework, registered, which lacks some float types."""

    @contextmanager
    def patched() -> Iterator[None]:
        with entry_point("toy_adapter"), pytest.MonkeyPatch.context() as patch:
            kind = known_adapters()["toy"]
            patch.setattr(kind, "lacks", lambda self, spec, dtype: f"Toy has no {dtype}." if dtype in dtypes else "")
            yield

    return patched()


def test_three_frameworks_one_of_which_lacks_a_float_type() -> None:
    """The ring closes without it in that type, and goes through it in the other."""
    with toy_without("float64"):
        verdict = xframe.compare(PLAIN_RNN, frameworks=["torch", "toy", "onnx"])
        assert verdict, verdict.reason
        rings = {(c.dtype, c.framework, c.weights) for c in verdict.checks if c.weights != "loaded"}
        assert rings == {
            ("float64", "torch", "from ONNX"),
            ("float64", "onnx", "from PyTorch"),
            ("float32", "torch", "from ONNX"),
            ("float32", "toy", "from PyTorch"),
            ("float32", "onnx", "from Toy"),
        }
        assert "Toy was not judged in float64: Toy has no float64." in verdict.notes
        assert verdict.reason.startswith(
            "PyTorch and ONNX compute the same function; "
            "Toy agrees with the reference in float32 (the function was not judged in float64): all "
        )
        assert {c.dtype for c in verdict.checks if c.power} == {"float32"}
        # Those that do not lack it have the power of float64.
        without = xframe.compare(PLAIN_RNN, frameworks=["torch", "onnx"])
        assert {c.dtype for c in without.checks if c.power} == {"float64"}
        assert "float64" not in without.reason


@pytest.mark.parametrize("dtypes", [["float64"], ["bfloat16"], ["float64", "bfloat16"]], ids="-".join)
def test_a_framework_that_lacks_every_float_type(dtypes: list[str]) -> None:
    """Named, it is an error; where nobody named it, it is left out, and the others are compared."""
    words = rf"ONNX Runtime has no .* Choose another float type than {' and '.join(dtypes)}\."
    with pytest.raises(UnsupportedError, match=words):
        xframe.compare(RELU, frameworks=["torch", "onnx"], dtypes=dtypes)
    verdict = compare_spec(RELU, ["keras", "onnx", "torch"], dtypes, Probe(), strict=False)
    assert verdict, verdict.reason
    assert verdict.frameworks == ("keras", "torch")
    assert list(verdict.not_compared) == ["onnx"]
    assert re.fullmatch(words, verdict.not_compared["onnx"])
    with pytest.raises(UnsupportedError, match=words):
        compare_spec(RELU, ["onnx"], dtypes, Probe(), strict=False)


def test_a_suite_leaves_out_a_framework_that_lacks_the_float_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "grid", lambda probe: iter([suite.Configuration(RELU, probe)]))
    found = suite.run_suite(Probe(), ["torch", "onnx"], ["float64"])
    assert found, found.reason
    assert found.verdicts[0].frameworks == ("torch",)
    assert any("onnx's reference evaluator" in note for note in found.notes)
    # What nobody can be judged in proves nothing.
    nothing = suite.run_suite(Probe(), ["onnx"], ["float64"])
    assert (nothing.status, bool(nothing), nothing.verdicts) == ("inconclusive", False, ())
    assert list(nothing.left_out) == [str(RELU)]


BIASED = xframe.Recurrent("gru", 3, 5)


@pytest.mark.needs("flax")
def test_a_place_that_a_framework_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """nnx's GRUCell has no recurrent bias in the candidate."""
    words = "Flax nnx's GRU has no place for 'layer 0, forward, recurrent_bias, gate n'"
    with pytest.raises(UnsupportedError, match=words):
        xframe.compare(BIASED, frameworks=["torch", "flax"])
    monkeypatch.setattr(suite, "grid", lambda probe: iter([suite.Configuration(BIASED, probe)]))
    found = suite.run_suite(Probe(), ["torch", "flax", "equinox"])
    assert found, found.reason
    assert not found.left_out
    (verdict,) = found.verdicts
    assert verdict.frameworks == ("torch", "equinox")
    assert list(verdict.not_compared) == ["flax"]
    assert words in verdict.not_compared["flax"]
    assert any(words in note for note in found.notes)


@pytest.mark.needs("flax", "flax-linen", "onnx", "equinox")
def test_a_suite_runs_over_all_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is compared, or named with the reason."""
    both = [xframe.Recurrent("rnn", 3, 5), xframe.Recurrent("gru", 3, 5, reset_after=False)]
    monkeypatch.setattr(suite, "grid", lambda probe: (suite.Configuration(one, probe) for one in both))
    found = suite.run_suite(Probe())
    assert found, found.reason
    plain, before = found.verdicts
    assert plain.frameworks == ("keras", "torch", "flax", "flax-linen", "onnx")
    assert list(plain.not_compared) == ["equinox"]
    assert before.frameworks == ("keras", "torch", "onnx")
    assert list(before.not_compared) == ["equinox", "flax", "flax-linen"]
    for verdict in found.verdicts:
        assert {c.framework for c in verdict.checks} == set(verdict.frameworks)
        assert all(text.endswith(".") for text in verdict.not_compared.values())
        assert {*verdict.frameworks, *verdict.not_compared} == set(available_adapters())


# Two layers that the user made.


def test_two_layers_one_of_which_lacks_float64() -> None:
    """What can be judged in float64 is; the other one is held to float32, where a wrong weight shows as well."""
    torch.manual_seed(8)
    layer = torch.nn.RNN(FEATURES, UNITS, nonlinearity="relu", batch_first=True)
    model = MAKE["onnx"](xframe.Recurrent("rnn", FEATURES, UNITS, activation="relu"))
    xframe.transfer(layer, model)
    for first, second in ((layer, model), (model, layer)):
        verdict = xframe.compare(first, second)
        assert verdict, verdict.reason
        assert types_judged(verdict) == {("torch", "float64"), ("torch", "float32"), ("onnx", "float32")}
        side = "b" if second is model else "a"
        assert any(note.startswith(f"ONNX ({side}) was not judged in float64: ") for note in verdict.notes)
        assert "ONNX agrees with the reference in float32 (the function was not judged in float64)" in verdict.reason
        assert {c.dtype for c in verdict.checks if c.power} == {"float32"}
    arrays = NUMBERS["onnx"](model)
    for place, array in enumerate(arrays):
        wrong = [one.copy() for one in arrays]
        wrong[place].flat[-1] = array.flat[-1] + np.float32(1e-3)
        FILL["onnx"](model, wrong)
        for first, second in ((layer, model), (model, layer)):
            verdict = xframe.compare(first, second)
            assert verdict.status == "different"
            assert any(c.dtype == "float32" and c.status == "different" for c in verdict.checks)


def test_layers_of_different_shapes_are_different() -> None:
    verdict = xframe.compare(torch.nn.LSTM(3, 4), torch.nn.LSTM(3, 5))
    assert verdict.status == "different"
    assert "hidden_size 4 and 5" in verdict.reason
    assert not verdict.checks


def test_a_fold_that_rounds_is_no_difference() -> None:
    torch.manual_seed(4)
    layer = torch.nn.LSTM(3, 5)
    twin = partner(layer)
    verdict = xframe.compare(layer, twin)
    assert verdict, verdict.reason
    (pair,) = verdict.parameters
    total = (layer.bias_ih_l0.double() + layer.bias_hh_l0.double()).detach().numpy()
    assert pair.max_abs == np.abs(total - total.astype(np.float32)).max()
    assert 0 < pair.max_abs < 1e-7
    assert pair.rounding


def test_a_bias_that_is_off_by_more_than_rounding_is_different() -> None:
    torch.manual_seed(4)
    layer = torch.nn.LSTM(3, 5)
    twin = partner(layer)
    bias = twin.cell.bias
    bias.assign(keras.ops.convert_to_numpy(bias) * np.float32(1 + 2**-20))
    verdict = xframe.compare(layer, twin)
    assert verdict.status == "different"
    assert not verdict.parameters[0].rounding


def test_a_wider_layer_is_equal_after_rounding() -> None:
    torch.manual_seed(5)
    wide = torch.nn.GRU(3, 5, dtype=torch.float64)
    narrow = torch.nn.GRU(3, 5)
    xframe.transfer(wide, narrow)
    verdict = xframe.compare(wide, narrow)
    assert verdict, verdict.reason
    assert {c.dtype for c in verdict.checks} == {"float64", "float32"}


def test_no_bias_and_zero_biases_are_the_same_function() -> None:
    torch.manual_seed(6)
    without, zeroed = torch.nn.LSTM(3, 5, bias=False), torch.nn.LSTM(3, 5)
    xframe.transfer(without, zeroed)
    verdict = xframe.compare(without, zeroed)
    assert verdict, verdict.reason
    assert "bias" in verdict.notes[0]


def test_the_noise_follows_the_dtype_and_the_scale() -> None:
    spec, probe = xframe.Recurrent("lstm", 4, 6), Probe(steps=9)
    params, x = draw_parameters(spec, 1), draw_input(spec, probe)
    deviations = {d: noise.measure(spec, params, Given(x), d).deviation["sequence"] for d in noise.ROUNDOFF}
    quotient = np.median(deviations["float32"] / deviations["float64"])
    # The float64 reference rounds too, which float32 does not notice.
    assert quotient == pytest.approx(2.0**29 / np.sqrt(2), rel=0.3)
    assert 0.1 * 2**-24 < np.median(deviations["float32"]) < 100 * 2**-24


def test_noise_of_biases_that_cancel() -> None:
    """Two large biases of opposite sign lose digits in PyTorch, which adds them one after the other; that is no mistake."""
    torch.manual_seed(7)
    layer = torch.nn.LSTM(3, 5)
    with torch.no_grad():
        layer.bias_ih_l0.add_(4096.0)
        layer.bias_hh_l0.sub_(4096.0)
    verdict = xframe.compare(layer, partner(layer))
    assert verdict, verdict.reason


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: xframe.compare(torch.nn.LSTM(3, 4)), "give the other one"),
        (lambda: xframe.compare(xframe.Recurrent("rnn", 3, 4), torch.nn.RNN(3, 4)), "a spec alone"),
        (lambda: xframe.compare(torch.nn.RNN(3, 4), torch.nn.RNN(3, 4), isolate=True), "isolate goes with a spec"),
        (lambda: xframe.compare(xframe.Recurrent("rnn", 3, 4), dtypes=("int8",)), "'int8'"),
        (lambda: xframe.compare(xframe.Recurrent("rnn", 3, 4), mask="right"), "give a spec its own"),
        (lambda: xframe.compare(xframe.Recurrent("rnn", 3, 4), steps=0), "steps"),
        (lambda: xframe.compare(xframe.Recurrent("rnn", 3, 4), frameworks=["jax"]), "no adapter for 'jax'"),
        (lambda: xframe.compare(xframe.Recurrent("rnn", 3, 4), frameworks=[]), "name at least one"),
        (
            lambda: xframe.compare(
                xframe.Recurrent("gru", 3, 4, form="cell", reset_after=False), frameworks=["torch", "keras"]
            ),
            "PyTorch has no bare cell",
        ),
        (lambda: xframe.compare(torch.nn.LSTM(3, 4), object()), "builtins.object"),
        (lambda: xframe.compare(xframe.Recurrent("lstm", 9, 999_999)), "compare smaller sizes"),
    ],
)
def test_bad_calls_are_refused_in_one_sentence(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(xframe.XframeError, match=words) as caught:
        call()
    assert str(caught.value).endswith(".")


def test_a_nan_weight_is_an_error_not_a_verdict() -> None:
    layer = torch.nn.LSTM(3, 4)
    twin = partner(layer)
    with torch.no_grad():
        layer.weight_hh_l0[2, 1] = float("nan")
    with pytest.raises(xframe.LayoutError, match=r"weight_hh_l0 holds nan at \(2, 1\)"):
        xframe.compare(layer, twin)
