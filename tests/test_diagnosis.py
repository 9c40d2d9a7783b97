"""The search of causes: what was done wrong is named, and nothing is named that was not.

Mistakes are made by hand in layers of the frameworks and in recorded outputs, and, one for each entry, by the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from helpers import signal, start, weights

from xframe import Recurrent, compare, noise, reference
from xframe.adapters import get_adapter
from xframe.diagnosis import Diagnoses, Diagnosis, Evidence, diagnose
from xframe.diagnosis.evidence import computed
from xframe.diagnosis.explaining import explain
from xframe.diagnosis.screening import windows
from xframe.errors import FileError, SpecError, UnsupportedError
from xframe.layout import Key
from xframe.mistakes import CATALOGUE, Case, Mistake, Variation
from xframe.reference import Given, Outputs

Break = Callable[[Any], None]


def filled(layer: Any, seed: int = 0, shift: float = 0.0) -> Any:
    """A layer of PyTorch with weights and biases that are distinct and not zero."""
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for p in layer.parameters():
            size = 0.7 if p.ndim == 1 else 1.5 / np.sqrt(p.shape[-1])
            numbers = random.uniform(0.2, 1, p.shape) * random.choice([-1, 1], p.shape) * size + shift
            p.copy_(torch.from_numpy(numbers))
    return layer


def broken(layer: Any, *changes: Break) -> Any:
    """A twin of a layer of PyTorch in which something was done wrong."""
    twin = get_adapter("torch").clone(layer, "float32")
    with torch.no_grad():
        for change in changes:
            change(twin)
    return twin


def lstm(**options: Any) -> Any:
    return filled(torch.nn.LSTM(4, 6, batch_first=True, **options))


def gru(**options: Any) -> Any:
    return filled(torch.nn.GRU(5, 7, batch_first=True, **options))


def one(a: Any, b: Any, **options: Any) -> Diagnosis:
    """The diagnosis of one pair of layers."""
    found = diagnose(a, b, **options)
    assert isinstance(found, Diagnosis)
    return found


def names(found: Diagnosis) -> list[str]:
    return [fault.name for fault in found.causes[0].faults] if found.causes else []


# ---- What people do to weights.


def ordered(order: str, read: str) -> Break:
    """Gates that stand in one order, read in another."""

    def change(layer: Any) -> None:
        for p in layer.parameters():
            blocks = dict(zip(read, p.clone().chunk(len(read)), strict=True))
            p.copy_(torch.cat([blocks[gate] for gate in order]))

    return change


def zeroed(*tensors: str) -> Break:
    def change(layer: Any) -> None:
        for name in tensors:
            getattr(layer, name).zero_()

    return change


def summed_twice(layer: Any) -> None:
    total = layer.bias_ih_l0 + layer.bias_hh_l0
    layer.bias_ih_l0.copy_(total)
    layer.bias_hh_l0.copy_(total)


def folded(layer: Any) -> None:
    layer.bias_ih_l0.add_(layer.bias_hh_l0)
    layer.bias_hh_l0.zero_()


def forget_added(layer: Any) -> None:
    layer.bias_ih_l0.chunk(4)[1].add_(1.0)


def untransposed(layer: Any) -> None:
    for block in layer.weight_hh_l0.chunk(len(layer.weight_hh_l0) // layer.hidden_size):
        block.copy_(block.T.clone())


def exchanged(one: str, other: str) -> Break:
    def change(layer: Any) -> None:
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            a, b = getattr(layer, f"{name}_{one}"), getattr(layer, f"{name}_{other}")
            kept = a.clone()
            a.copy_(b)
            b.copy_(kept)

    return change


def halved(layer: Any) -> None:
    for p in layer.parameters():
        p.copy_(p.half())


# What was done to which layer, and words that the name of the mistake has.
DONE: dict[str, tuple[Callable[[], Any], Break, tuple[str, ...]]] = {
    "Keras's order in a GRU": (gru, ordered("zrn", "rzn"), ("gates r and z swapped", "Keras")),
    "Keras's order in an LSTM is PyTorch's, ONNX's is not": (lstm, ordered("iofg", "ifgo"), ("ONNX", "i o f c")),
    "two gates": (lstm, ordered("figo", "ifgo"), ("gates i and f swapped",)),
    "input bias dropped": (lstm, zeroed("bias_ih_l0"), ("bias", "dropped")),
    "recurrent bias dropped": (gru, zeroed("bias_hh_l0"), ("recurrent bias", "dropped")),
    "the sum of the biases on both sides": (lstm, summed_twice, ("both biases added on both sides",)),
    "the biases of a GRU on one side": (gru, folded, ("one side",)),
    "forget bias": (lstm, forget_added, ("forget bias of 1 added",)),
    "recurrent kernel": (lstm, untransposed, ("recurrent kernel not transposed",)),
    "directions": (lambda: lstm(bidirectional=True), exchanged("l0", "l0_reverse"), ("directions swapped",)),
    "rounding": (gru, halved, ("rounded to float16",)),
}


@pytest.mark.parametrize("what", DONE)
def test_what_was_done_to_weights_is_named(what: str) -> None:
    make, change, words = DONE[what]
    layer = make()
    wrong = broken(layer, change)
    found = one(layer, wrong)
    assert found.status == "explained", found.reason
    assert not found
    assert len(names(found)) == 1
    assert all(word in names(found)[0] for word in words)
    assert found.noise_ratio > 10 >= found.causes[0].noise_ratio
    assert names(found)[0] in found.reason
    assert "Mend: " in found.reason
    assert found.where is not None


@pytest.mark.parametrize("what", DONE)
def test_it_is_named_from_outputs_alone(what: str) -> None:
    """Nothing but x and y is known, computed in float32."""
    make, change, words = DONE[what]
    layer = make()
    random = torch.Generator().manual_seed(3)
    x = torch.randn(3, 8, layer.input_size, generator=random)
    with torch.no_grad():
        y = broken(layer, change)(x)[0]
    for shown in (y, y[:, -1]) if not layer.bidirectional else (y,):
        found = one(layer, {"x": x.numpy(), "y": shown.numpy()})
        assert found.status == "explained", found.reason
        assert all(word in names(found)[0] for word in words)


PAIRS: dict[str, tuple[Callable[[], Any], tuple[Break, Break], tuple[str, str]]] = {
    "order and bias": (gru, (ordered("zrn", "rzn"), zeroed("bias_hh_l0")), ("gates r and z swapped", "recurrent bias")),
    "kernel and forget bias": (lstm, (untransposed, forget_added), ("not transposed", "forget bias of 1 added")),
    # In the other order it is another layer: the 1 then goes where the forget gate's bias is not.
    "order, then forget bias": (lstm, (ordered("iofg", "ifgo"), forget_added), ("ONNX", "forget bias of 1 added")),
    "forget bias, then order": (lstm, (forget_added, ordered("iofg", "ifgo")), ("ONNX", "forget bias of 1 added")),
}


@pytest.mark.parametrize("known", [True, False], ids=["layers", "outputs"])
@pytest.mark.parametrize("what", PAIRS)
def test_two_mistakes_are_both_named(what: str, known: bool) -> None:
    make, changes, words = PAIRS[what]
    layer = make()
    wrong = broken(layer, *changes)
    x = torch.randn(3, 8, layer.input_size, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        found = one(layer, wrong if known else {"x": x.numpy(), "y": wrong(x)[0].numpy()})
    assert found.status == "explained", found.reason
    assert len(names(found)) == 2
    for word in words:
        assert any(word in name for name in names(found)), names(found)


def test_a_dense_layer_has_its_mistakes_too() -> None:
    layer = filled(torch.nn.Linear(5, 5))

    def flipped(twin: Any) -> None:
        twin.weight.copy_(twin.weight.T.clone())

    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        y = broken(layer, flipped)(x)
    for found in (one(layer, broken(layer, flipped)), one(layer, {"x": x.numpy(), "y": y.numpy()})):
        assert names(found) == ["kernel not transposed"]


# ---- Every entry of the catalogue.

SPECS = [
    Recurrent("lstm", 5, 5, bidirectional=True),
    Recurrent("gru", 4, 6, mask="any"),
    Recurrent("gru", 4, 6, reset_after=False, go_backwards=True),
    Recurrent("lstm", 4, 7, num_layers=3, bidirectional=True, proj_size=3),
    Recurrent("rnn", 3, 6, bidirectional=True, merge_mode="sum", input_dropout=0.3, recurrent_dropout=0.2),
    Recurrent("rnn", 3, 6, stateful=True, batch_size=4),
]


def case_of(spec: Recurrent) -> Case:
    """A layer with float32 numbers, and what it is run on; a stateful one in its second call."""
    given = Given(signal(spec, 1, "float32", steps=9), start(spec, 2, "float32"))
    if spec.mask:
        kinds = np.array([[0, 0, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 0, 0], [1, 0, 1, 1, 0, 1, 1, 1, 1]], bool)
        given = replace(given, mask=np.concatenate([kinds, np.ones((1, 9), bool)]))
    if spec.stateful:
        given = Given(given.x, before=Given(signal(spec, 3, "float32", steps=9)))
    return Case(spec, weights(spec, 4, "float32"), given.astype("float64"))


def planted(mistake: Mistake) -> Iterator[tuple[Case, Variation]]:
    """Where a mistake can be made so that it shows, each of its first ways once."""
    seen = set[str]()
    for spec in SPECS:
        case = case_of(spec)
        truth = case.noise("float32")
        for variation in mistake.vary(case):
            if variation.name in seen or len(seen) == 2:
                continue
            got = variation.change(case).run()
            if any(np.any(noise.ratio(got[n], c, truth.deviation[n]) > 100) for n, c in truth.clean.items()):
                seen.add(variation.name)
                yield case, variation


def same_function(case: Case, one: Variation, other: Variation) -> bool:
    """Whether two mistakes put out the same on other numbers."""
    given = replace(case.given, x=signal(case.spec, 8, steps=9))
    if case.given.state is not None:
        given = replace(given, state=start(case.spec, 9))
    mine, theirs = (variation.change(replace(case, given=given)).run() for variation in (one, other))
    return all(np.allclose(theirs[name], values, rtol=1e-9, atol=1e-12) for name, values in mine.items())


@pytest.mark.parametrize("mistake", CATALOGUE, ids=lambda mistake: mistake.name)
def test_every_entry_of_the_catalogue_is_named(mistake: Mistake) -> None:
    tried = 0
    for case, variation in planted(mistake):
        tried += 1
        wrong = variation.change(case)
        narrow = {key: block.astype(np.float32) for key, block in wrong.params.items()}
        outputs = replace(wrong, params=narrow, given=wrong.given.astype("float32")).run()
        found = explain(case.spec, case.params, [Evidence(case.given, outputs)])
        assert found.status == "explained", (variation.name, found.reason)
        assert len(names(found)) == 1
        if names(found) != [variation.name]:
            other = next(v for m in CATALOGUE for v in m.vary(case) if [v.name] == names(found))
            assert same_function(case, variation, other), (variation.name, names(found))
    assert tried


# ---- What is right is not blamed.

RIGHT = [
    Recurrent("rnn", 3, 5, activation="relu", bidirectional=True),
    Recurrent("lstm", 4, 7, num_layers=2, bidirectional=True),
    Recurrent("gru", 4, 6),
    Recurrent("lstm", 4, 7, proj_size=3),
]


@pytest.mark.parametrize("spec", RIGHT, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers_that_agree_have_no_cause(spec: Recurrent, dtype: str) -> None:
    torch_layer, keras_layer = (
        get_adapter(name).build_loaded(spec, weights(spec, 5, "float32"), dtype) for name in ("torch", "keras")
    )
    for pair in ((torch_layer, keras_layer), (keras_layer, torch_layer)):
        found = one(*pair)
        assert found.status == "equivalent", found.reason
        assert found
        assert not found.causes
        assert found.where is None
    x = signal(spec, 6, dtype, steps=20)
    out = get_adapter("torch").run(torch_layer, x)
    for y in (out.sequence, out.last):
        assert one(keras_layer, {"x": x, "y": y}).status == "equivalent"


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_rounding_of_the_weights_to_the_type_of_the_layer_is_no_mistake(dtype: str) -> None:
    spec = Recurrent("lstm", 4, 7)
    wide = get_adapter("torch").build_loaded(spec, weights(spec, 5), "float64")
    narrow = get_adapter("torch").clone(wide, dtype)
    for pair in ((wide, narrow), (narrow, wide)):
        assert one(*pair).status == "equivalent"


def test_numbers_that_drown_in_noise_prove_nothing() -> None:
    """The layer is chaotic: after 300 steps a float32 layer has nothing in common with the reference."""
    spec = Recurrent("rnn", 3, 40)
    sizes = {"kernel": 0.3, "recurrent_kernel": 2.0, "bias": 0.3, "recurrent_bias": 0.3}
    blocks = {key: sizes[key.role] * block for key, block in weights(spec, 1, "float32").items()}
    x = signal(spec, 2, "float32", steps=300)
    narrow = {key: block.astype(np.float32) for key, block in blocks.items()}
    found = one((spec, blocks), {"x": x, "y": reference.run(spec, narrow, x).last})
    assert found.status == "inconclusive", found.reason
    assert "noise" in found.reason


def test_one_number_does_not_tell_two_mistakes() -> None:
    """There are more pairs of mistakes than one number of float32 can tell apart; two numbers tell one mistake."""
    spec = Recurrent("rnn", 3, 1)
    blocks, x = weights(spec, 1, "float32"), signal(spec, 2, "float32", batch=2, steps=1)
    narrow = {key: block.astype(np.float32) for key, block in blocks.items()}
    doubled = {key: 2 * block if key.role == "kernel" else block for key, block in narrow.items()}
    dropped = {key: 0 * block if key.role == "recurrent_bias" else block for key, block in doubled.items()}
    found = one((spec, blocks), {"x": x, "y": reference.run(spec, doubled, x).last})
    assert names(found) in (["kernel scaled by 2"], ["input scaled by 2"])
    assert one((spec, blocks), {"x": x[:1], "y": reference.run(spec, dropped, x[:1]).last}).status == "unexplained"


def test_other_weights_are_not_explained() -> None:
    layer, other = gru(), filled(torch.nn.GRU(5, 7, batch_first=True), seed=1)
    x = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        recorded = {"x": x.numpy(), "y": other(x)[0].numpy()}
    for found in (one(layer, other), one(layer, recorded)):
        assert found.status == "unexplained"
        assert not found.causes
        assert found.tried > 100
        assert f"{found.tried:,} explanations" in found.reason
        assert found.where is not None
        assert not found


def test_numbers_that_are_not_finite_are_told() -> None:
    layer = gru()
    y = np.ones((2, 3, 7), np.float32)
    y[1, 2, 3] = np.nan
    found = one(layer, {"x": np.ones((2, 3, 5), np.float32), "y": y})
    assert found.status == "inconclusive"
    assert "nan in sequence at (1, 2, 3)" in found.reason


def test_a_reference_that_overflows_is_told() -> None:
    """In exp(exp(...)) no float64 is large enough: neither equal nor explained."""
    spec = Recurrent("rnn", 3, 4, activation="exponential")
    x = signal(spec, 1, "float32", steps=8)
    found = one((spec, weights(spec, 2, scale=3.0)), {"x": x, "y": np.ones((*x.shape[:2], 4), np.float32)})
    assert found.status == "inconclusive", found.reason
    assert "not finite" in found.reason


# ---- Which side, which tensor.


def test_the_first_side_may_be_the_wrong_one() -> None:
    layer = gru()
    wrong = broken(layer, zeroed("bias_hh_l0"))
    found = one(wrong, layer)
    assert found.status == "explained", found.reason
    assert found.causes[0].reverse
    assert "recurrent bias" in names(found)[0]
    assert found.reason.startswith("It is PyTorch (a) that is wrong")
    assert not one(layer, wrong).causes[0].reverse


def orthogonal(layer: Any) -> None:
    torch.nn.init.orthogonal_(layer.weight_hh_l0, generator=torch.Generator().manual_seed(1))


def uniform(layer: Any) -> None:
    torch.nn.init.uniform_(layer.weight_ih_l0, -(6**-0.5), 6**-0.5, generator=torch.Generator().manual_seed(1))


def scaled(layer: Any) -> None:
    layer.weight_ih_l0.mul_(0.7)


def glorot(layer: Any) -> None:
    bound = (6 / sum(layer.weight_ih_l0.shape)) ** 0.5
    torch.nn.init.uniform_(layer.weight_ih_l0, -bound, bound, generator=torch.Generator().manual_seed(1))


def normal(layer: Any) -> None:
    torch.nn.init.normal_(layer.weight_hh_l0, 0, 0.3, generator=torch.Generator().manual_seed(1))


def three_numbers(layer: Any) -> None:
    layer.weight_ih_l0[[1, 8, 20], [0, 2, 3]] += 0.01


def quantised(tensor: str, axis: int | None) -> Break:
    def change(layer: Any) -> None:
        weight = getattr(layer, tensor)
        scale = (weight.abs().max() if axis is None else weight.abs().amax(axis, keepdim=True)) / 127
        weight.copy_((weight / scale).round() * scale)

    return change


def narrowed(tensor: str, dtype: Any) -> Break:
    return lambda layer: getattr(layer, tensor).copy_(getattr(layer, tensor).to(dtype))


def in_decimals(tensor: str, decimals: int) -> Break:
    return lambda layer: getattr(layer, tensor).copy_(torch.round(getattr(layer, tensor), decimals=decimals))


def negated(tensor: str) -> Break:
    return lambda layer: getattr(layer, tensor).neg_()


def shuffled(layer: Any) -> None:
    order = torch.randperm(layer.weight_ih_l0.numel(), generator=torch.Generator().manual_seed(1))
    layer.weight_ih_l0.copy_(layer.weight_ih_l0.flatten()[order].reshape(layer.weight_ih_l0.shape))


TENSORS: dict[str, tuple[Break, str]] = {
    "orthogonal": (orthogonal, "the recurrent kernel (layer 0, forward) not loaded (its rows are orthogonal"),
    "uniform": (
        uniform,
        "the kernel (layer 0, forward) not loaded (its numbers are uniform within ±1/sqrt(hidden_size)",
    ),
    "glorot": (glorot, "the kernel (layer 0, forward) not loaded (its numbers are uniform within Glorot's"),
    "zeros": (zeroed("weight_hh_l0"), "the recurrent term left out"),
    "normal": (normal, "the recurrent kernel (layer 0, forward) holding other numbers"),
    "scaled": (scaled, "the kernel (layer 0, forward) scaled by 0.7"),
    "shuffled": (shuffled, "the kernel (layer 0, forward) holding its numbers in another order"),
    "three numbers": (three_numbers, "the kernel (layer 0, forward) changed in 3 of 96 numbers, by up to 0.01"),
    "int8, by tensor": (
        quantised("weight_hh_l0", None),
        "the recurrent kernel (layer 0, forward) rounded to int8, one scale for the tensor",
    ),
    "int8, by unit": (
        quantised("weight_ih_l0", 1),
        "the kernel (layer 0, forward) rounded to int8, one scale for each unit",
    ),
    "float16": (narrowed("weight_hh_l0", torch.float16), "the recurrent kernel (layer 0, forward) rounded to float16"),
    "bfloat16": (narrowed("bias_ih_l0", torch.bfloat16), "the input bias (layer 0, forward) rounded to bfloat16"),
    "decimals": (in_decimals("weight_ih_l0", 4), "the kernel (layer 0, forward) rounded to 4 decimals"),
    "negated bias": (negated("bias_hh_l0"), "recurrent bias negated"),
    "negated kernel": (negated("weight_ih_l0"), "the kernel (layer 0, forward) negated"),
}


@pytest.mark.parametrize("what", TENSORS)
@pytest.mark.parametrize(
    "first",
    [None, pytest.param(ordered("iofg", "ifgo"), marks=pytest.mark.slow)],
    ids=["alone", "and the order"],
)
def test_a_tensor_of_other_numbers_is_told(what: str, first: Break | None) -> None:
    change, words = TENSORS[what]
    layer = lstm()
    wrong = broken(layer, change, *([first] if first else []))
    found, compared = one(layer, wrong), compare(layer, wrong).diagnosis
    assert found.status == "explained", found.reason
    assert any(name.startswith(words) for name in names(found)), names(found)
    assert len(names(found)) == (2 if first else 1)
    assert compared is not None
    assert names(compared) == names(found)


BITS = {
    "one bit": (lambda w: (w.view(torch.int32) ^ 1 << 20).view(torch.float32), ", one bit flipped (bit 20 of float32)"),
    "the next number": (lambda w: torch.nextafter(w, torch.tensor(9.0)), "float32"),
    "something else": (lambda w: w + 0.1, ""),
}


@pytest.mark.parametrize("what", BITS)
def test_one_number_that_changed_is_told_with_both_values(what: str) -> None:
    layer, (change, words) = lstm(), BITS[what]
    wrong = broken(layer)
    with torch.no_grad():
        wrong.weight_hh_l0[8, 3] = change(wrong.weight_hh_l0[8, 3].clone())
    before, after = (float(each.weight_hh_l0[8, 3]) for each in (layer, wrong))
    found = compare(layer, wrong).diagnosis
    assert found is not None
    # Row 8 of PyTorch's i f g o, 6 units each, is unit 2 of gate f.
    start = f"the recurrent kernel (layer 0, forward) changed in one number (gate f, unit 3 to unit 2): {after:.9g} instead of"
    assert names(found)[0].startswith(f"{start} {before:.9g}")
    assert names(found)[0].endswith(words) if words else names(found)[0].endswith(f"{before:.9g}")


def test_a_tensor_of_another_layer_is_told() -> None:
    layer = lstm(num_layers=2, bidirectional=True)

    def change(twin: Any) -> None:
        twin.bias_hh_l1_reverse.copy_(twin.bias_hh_l0)

    found = one(layer, broken(layer, change))
    whose = "the recurrent bias (layer 1, backward) holding the numbers of the recurrent bias (layer 0, forward)"
    assert names(found) == [whose]


def test_what_was_done_to_several_tensors_alike_is_told_once() -> None:
    layer = lstm()
    found = one(layer, broken(layer, in_decimals("weight_ih_l0", 3), in_decimals("weight_hh_l0", 3)))
    both = "the kernel (layer 0, forward) and the recurrent kernel (layer 0, forward)"
    assert names(found) == [f"{both} rounded to 3 decimals"]


def test_numbers_of_the_same_law_that_depend_on_those_that_should_be_there_were_loaded() -> None:
    """Both kernels are uniform within the bound of PyTorch's, as they are before any training."""
    torch.manual_seed(0)
    layer = torch.nn.LSTM(4, 30, batch_first=True)

    def disturbed(twin: Any) -> None:
        noise = torch.rand(twin.weight_hh_l0.shape, generator=torch.Generator().manual_seed(1))
        twin.weight_hh_l0.copy_(0.9 * twin.weight_hh_l0 + 0.2 * (noise - 0.5) * 30**-0.5)

    def fresh(twin: Any) -> None:
        torch.nn.init.uniform_(twin.weight_hh_l0, -(30**-0.5), 30**-0.5, generator=torch.Generator().manual_seed(1))

    assert names(one(layer, broken(layer, disturbed))) == [
        "the recurrent kernel (layer 0, forward) holding other numbers"
    ]
    assert names(one(layer, broken(layer, fresh)))[0].startswith("the recurrent kernel (layer 0, forward) not loaded (")


def test_options_that_differ_are_named() -> None:
    layer = keras.layers.LSTM(6)
    layer.build((None, None, 4))
    other = keras.layers.LSTM(6, recurrent_activation="hard_sigmoid", return_sequences=True)
    other.build((None, None, 4))
    random = np.random.default_rng(0)
    layer.set_weights([random.uniform(0.2, 1, w.shape) * random.choice([-1, 1], w.shape) for w in layer.weights])
    other.set_weights(layer.get_weights())
    found = one(layer, other)
    assert found.status == "explained", found.reason
    assert "hard_sigmoid" in names(found)[0]
    assert len(names(found)) == 1


def test_layers_of_different_shapes_are_not_compared() -> None:
    found = one(gru(), filled(torch.nn.GRU(5, 8)))
    assert found.status == "unexplained"
    assert "hidden_size 7 and 8" in found.reason


def test_a_first_side_that_is_not_what_its_parameters_say_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's adapter runs the first layer from zero states whatever it is given."""
    layer, run = gru(), type(get_adapter("torch")).run
    other = get_adapter("keras").build_loaded(
        get_adapter("torch").spec(layer), get_adapter("torch").parameters(layer), "float32"
    )

    def forgetful(self: Any, layer: Any, x: np.ndarray, state: Any = None, mask: Any = None) -> Outputs:
        return run(self, layer, x, None, mask)

    assert one(layer, other).status == "equivalent"
    monkeypatch.setattr(type(get_adapter("torch")), "run", forgetful)
    found = one(layer, other)
    assert found.status == "explained", found.reason
    assert names(found) == ["initial state ignored"]
    assert found.a == "the reference of PyTorch (a)"


# ---- What shows in the numbers themselves.


def dropped(y: torch.Tensor, seed: int) -> torch.Tensor:
    keep = torch.rand(y.shape, generator=torch.Generator().manual_seed(seed)) >= 0.3
    return torch.where(keep, y / 0.7, 0)


def test_dropout_on_the_outputs_is_seen() -> None:
    layer = lstm()
    x = torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        y = dropped(layer(x)[0], 6)
    found = one(layer, {"x": x.numpy(), "y": y.numpy()})
    assert names(found) == ["dropout of rate 0.3 on its outputs"]
    assert "layer.eval()" in found.reason


def test_zeros_at_masked_steps_are_no_dropout() -> None:
    spec = Recurrent("gru", 5, 7, mask="any", masked_output="repeat")
    blocks, x = weights(spec, 1, "float32"), signal(spec, 2, "float32")
    mask = np.arange(x.shape[1]) >= np.array([[0], [2], [3], [1]])
    mask[1, -2:] = False
    narrow = {key: block.astype(np.float32) for key, block in blocks.items()}
    y = 2 * reference.run(replace(spec, masked_output="zero"), narrow, x, mask=mask).sequence
    found = one((spec, blocks), {"x": x, "y": y, "mask": mask})
    assert sorted(names(found)) == [
        "outputs doubled",
        "zeros at masked steps (as with zero_output_for_mask, packed sequences, cuDNN)",
    ]


def test_dropout_inside_is_seen_where_the_layer_can_be_run_again() -> None:
    layer = lstm(num_layers=2, dropout=0.4)
    layer.train()
    torch.manual_seed(0)

    def run(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return layer(torch.from_numpy(x))[0].numpy()

    x = signal(Recurrent("lstm", 4, 6), 3, "float32")
    found = one(layer, {"x": x, "y": run(x)}, rerun=run)
    assert names(found) == ["dropout active"]
    layer.eval()
    assert one(layer, {"x": x, "y": run(x)}, rerun=run).status == "equivalent"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_outputs_of_a_narrow_type_are_seen(dtype: str) -> None:
    """In bfloat16 the other mistake all but drowns in rounding, and is not named; the type is."""
    layer = lstm()
    x = torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(5))
    narrow = getattr(torch, dtype)
    with torch.no_grad():
        y = get_adapter("torch").clone(layer, dtype)(x.to(narrow))[0].float()
        wrong = get_adapter("torch").clone(broken(layer, forget_added), dtype)(x.to(narrow))[0].float()
    assert names(one(layer, {"x": x.numpy(), "y": y.numpy()})) == [f"outputs computed in {dtype}"]
    found = one(layer, {"x": x.numpy(), "y": wrong.numpy()})
    if dtype == "float16":
        assert names(found) == ["forget bias of 1 added", "outputs computed in float16"]
    else:
        assert any("bfloat16" in note for note in found.notes)


def in_tf32(blocks: Mapping[Key, np.ndarray], x: np.ndarray, h: np.ndarray) -> np.ndarray:
    """A plain RNN, operands of products rounded to 11 significant bits, as tensor cores do it."""

    def cut(array: np.ndarray) -> np.ndarray:
        fraction, exponent = np.frexp(array.astype(np.float64))
        return np.ldexp(np.round(fraction * 2**11) / 2**11, exponent)

    kernel, recurrent, bias, more = (
        blocks[Key(0, 0, role, "h")] for role in ("kernel", "recurrent_kernel", "bias", "recurrent_bias")
    )
    out = []
    for t in range(x.shape[1]):
        h = np.tanh(cut(x[:, t]) @ cut(kernel) + cut(h) @ cut(recurrent) + bias + more)
        out.append(h)
    return np.stack(out, axis=1).astype(np.float32)


def test_products_in_tf32_are_the_last_thing_that_is_thought_of() -> None:
    spec = Recurrent("rnn", 5, 7)
    blocks, x = weights(spec, 1, "float32"), signal(spec, 2, "float32", steps=12)
    y = in_tf32(blocks, x, np.zeros((len(x), 7)))
    found = one((spec, blocks), {"x": x, "y": y})
    assert names(found) == ["products computed in TF32"]
    assert names(one((spec, blocks), {"x": x, "y": y + np.float32(0.1)})) == []
    # Where it is known that no tensor core was there, it is no cause.
    evidence = Evidence(Given(x.astype(np.float64)), {"sequence": y.astype(np.float64)})
    assert explain(spec, blocks, [evidence], tensor_cores=True).status == "explained"
    assert explain(spec, blocks, [evidence]).status == "unexplained"


def ran_by(layer: Any, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return layer(torch.from_numpy(x))[0].numpy()


def near(layer: Any, x: np.ndarray) -> np.ndarray:
    """All weights off by about as much as TF32 rounds."""
    random = torch.Generator().manual_seed(2)

    def change(twin: Any) -> None:
        for p in twin.parameters():
            p.mul_(1 + 2**-12 * torch.randn(p.shape, generator=random))

    return ran_by(broken(layer, change), x)


def one_bias(layer: Any, x: np.ndarray) -> np.ndarray:
    return ran_by(broken(layer, lambda twin: twin.bias_ih_l0[3].add_(0.001)), x)


def all_in_decimals(layer: Any, x: np.ndarray) -> np.ndarray:
    return ran_by(broken(layer, *(in_decimals(name, 4) for name, _ in layer.named_parameters())), x)


def forget_added_in_decimals(layer: Any, x: np.ndarray) -> np.ndarray:
    return ran_by(broken(layer, forget_added), x).round(5)


SAVED: dict[str, tuple[Callable[[Any, np.ndarray], np.ndarray], list[str]]] = {
    "one bias": (one_bias, []),
    "weights that are near": (near, []),
    "weights in decimals": (all_in_decimals, ["all parameters rounded to 4 decimals"]),
    "outputs in decimals": (lambda layer, x: ran_by(layer, x).round(5), ["outputs rounded to 5 decimals"]),
    "outputs as text": (
        lambda layer, x: np.array([[[float(f"{v:.6f}") for v in row] for row in one] for one in ran_by(layer, x)]),
        ["outputs rounded to 6 decimals"],
    ),
    "the input in decimals": (lambda layer, x: ran_by(layer, x.round(3)), ["the input rounded to 3 decimals"]),
    "int16": (
        lambda layer, x: (ran_by(layer, x) * 32767).round() / np.float32(32767),
        ["outputs rounded to int16, as whole multiples of 1/32767"],
    ),
    "a mistake besides": (forget_added_in_decimals, ["forget bias of 1 added", "outputs rounded to 5 decimals"]),
}


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=[] if wanted else [pytest.mark.slow]) for what, (_, wanted) in SAVED.items()]
)
def test_small_differences_of_a_recording_are_named_rightly_or_not_at_all(what: str) -> None:
    make, wanted = SAVED[what]
    layer, x = lstm(), signal(Recurrent("lstm", 4, 6), 3, "float32", steps=20)
    found = one(layer, {"x": x, "y": make(layer, x)})
    assert names(found) == wanted, found.reason
    assert found.status == ("explained" if wanted else "unexplained")


def test_a_live_layer_is_said_to_round_as_tensor_cores_do_where_it_runs_on_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PyTorch's adapter stands for a GPU here, and rounds as one does in float32."""
    spec = Recurrent("rnn", 5, 7)
    layer = get_adapter("torch").build_loaded(spec, weights(spec, 1, "float32"), "float32")
    assert not get_adapter("torch").tensor_cores(layer)

    def rounded(self: Any, layer: Any, x: np.ndarray, state: Any = None, mask: Any = None) -> Outputs:
        h = np.zeros((len(x), 7)) if state is None else state["h"][0, 0]
        y = in_tf32(self.parameters(layer), x, h)
        return Outputs(y, y[:, -1], {"h": y[None, None, :, -1]})

    adapter = type(get_adapter("torch"))
    monkeypatch.setattr(adapter, "run", rounded)
    monkeypatch.setattr(adapter, "tensor_cores", lambda *_: True)
    assert names(one(layer, layer)) == ["products computed in TF32"]


def test_outputs_times_a_constant_are_seen() -> None:
    layer = gru()
    x = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        y = 1.7 * layer(x)[0]
    assert names(one(layer, {"x": x.numpy(), "y": y.numpy()})) == ["outputs scaled by 1.7"]


def test_what_the_outputs_do_not_tell_apart_is_said() -> None:
    """On one time step from zero states a recurrent kernel does not show, nor whether its gates were swapped too."""
    spec = Recurrent("lstm", 4, 6, bias=False)
    blocks = weights(spec, 3, "float32")
    x = signal(spec, 4, "float32", steps=1)
    swapped = {key: blocks[key._replace(gate={"i": "o", "o": "i"}.get(key.gate, key.gate))] for key in blocks}
    y = reference.run(spec, {key: block.astype(np.float32) for key, block in swapped.items()}, x).sequence
    found = one((spec, blocks), {"x": x, "y": y})
    assert found.status == "explained", found.reason
    assert names(found) == ["gates i and o swapped"]
    assert "gates i and o swapped, in the kernel only" in found.causes[0].alike
    assert any("differ" in note for note in found.notes)


# ---- Recordings.


def test_a_recording_is_read_from_a_file(tmp_path: Path) -> None:
    layer = lstm()
    wrong = broken(layer, forget_added)
    x = torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(7))
    h0, c0 = (torch.randn(1, 3, 6, generator=torch.Generator().manual_seed(seed)) for seed in (8, 9))
    with torch.no_grad():
        y, (h, c) = wrong(x, (h0, c0))
    arrays = {"x": x, "y": y, "state h": h, "state c": c, "initial h": h0, "initial c": c0}
    path = tmp_path / "recorded.npz"
    np.savez(path, **{name: value.numpy() for name, value in arrays.items()})
    for kept in (path, str(path)):
        found = one(layer, kept)
        assert names(found) == ["forget bias of 1 added"], found.reason
    # Fewer axes, and the last output alone.
    np.savez(path, x=x.numpy(), y=y.numpy()[:, -1], **{"initial h": h0.numpy()[0], "initial c": c0.numpy()[0]})
    assert names(one(layer, path)) == ["forget bias of 1 added"]


def test_a_mask_goes_with_a_recording() -> None:
    layer = keras.layers.GRU(6, return_sequences=True)
    layer.build((None, None, 4))
    random = np.random.default_rng(0)
    layer.set_weights([random.uniform(0.2, 1, w.shape) * random.choice([-1, 1], w.shape) for w in layer.weights])
    x = random.standard_normal((3, 6, 4)).astype(np.float32)
    mask = np.arange(6) < np.array([[6], [4], [2]])
    right, wrong = (np.asarray(layer(x, mask=given)) for given in (mask, None))
    assert one(layer, {"x": x, "y": right, "mask": mask}).status == "equivalent"
    assert names(one(layer, {"x": x, "y": wrong, "mask": mask})) == ["mask ignored"]


def masked_model(front: Any, shape: tuple[int | None, ...], **options: Any) -> Any:
    """A layer behind what makes its masks, with numbers that are distinct and not zero."""
    model = keras.Sequential([keras.Input(shape), front, keras.layers.GRU(5, return_sequences=True, **options)])
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.2, 1, w.shape) * random.choice([-1, 1], w.shape) for w in model.weights])
    return model


@pytest.mark.parametrize("options", [{}, {"zero_output_for_mask": True}, {"go_backwards": True}], ids=str)
@pytest.mark.parametrize("front", ["masking", "embedding"])
def test_what_a_model_with_a_mask_of_its_own_put_out_is_the_same(front: str, options: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    if front == "masking":
        model = masked_model(keras.layers.Masking(0.5), (6, 3), **options)
        x = random.normal(size=(3, 6, 3)).astype(np.float32)
        x[0, 4:], x[1, :2], x[2, 3] = 0.5, 0.5, 0.5
        mask = (x != 0.5).any(-1)
    else:
        model = masked_model(keras.layers.Embedding(7, 3, mask_zero=True), (6,), **options)
        x = random.integers(1, 7, (3, 6))
        x[0, 4:], x[1, :2], x[2, 3] = 0, 0, 0
        mask = x != 0
    model.save(tmp_path / "model.keras")
    y = model.predict(x, verbose=0)
    np.savez(tmp_path / "own.npz", x=x, y=y)
    for side in (model, tmp_path / "model.keras"):
        for recorded in ({"x": x, "y": y}, {"x": x, "y": y, "mask": mask}, tmp_path / "own.npz"):
            found = one(side, recorded)
            assert found.status == "equivalent", found.reason
    wrong = one(tmp_path / "model.keras", {"x": x, "y": y, "mask": np.ones_like(mask)})
    assert wrong.status != "equivalent"


def test_zeros_at_masked_steps_are_named_as_that_convention() -> None:
    model = masked_model(keras.layers.Masking(0.0), (6, 3))
    x = np.random.default_rng(1).normal(size=(3, 6, 3)).astype(np.float32)
    x[0, 4:], x[1, 2:] = 0, 0
    y = model.predict(x, verbose=0)
    y[(x == 0).all(-1)] = 0
    found = one(model, {"x": x, "y": y})
    assert names(found) == ["zeros at masked steps (as with zero_output_for_mask, packed sequences, cuDNN)"]


def test_an_embedding_reads_whole_numbers(tmp_path: Path) -> None:
    model = masked_model(keras.layers.Embedding(7, 3, mask_zero=True), (6,))
    with pytest.raises(SpecError, match="whole numbers"):
        one(model, {"x": np.full((3, 6), 0.5), "y": np.ones((3, 6, 5))})


WRONG: dict[str, tuple[Mapping[str, Any], str]] = {
    "no output": ({"x": np.ones((2, 3, 5))}, "needs the input x and the output y"),
    "no input": ({"y": np.ones((2, 3, 7))}, "needs the input x and the output y"),
    "features": ({"x": np.ones((2, 3, 4)), "y": np.ones((2, 3, 7))}, "with 5 features"),
    "units": ({"x": np.ones((2, 3, 5)), "y": np.ones((2, 3, 8))}, "must be (2, 3, 7), not (2, 3, 8)"),
    "time first": ({"x": np.ones((2, 3, 5)), "y": np.ones((3, 2, 7))}, "time first"),
    "another name": ({"x": np.ones((2, 3, 5)), "output": np.ones((2, 3, 7))}, "has no 'output'"),
    "a state that it has not": ({"x": np.ones((2, 3, 5)), "state c": np.ones((2, 7))}, "has no state 'c'"),
    "the shape of a state": ({"x": np.ones((2, 3, 5)), "state h": np.ones((3, 7))}, "must be (layers, directions"),
    "no numbers": ({"x": np.ones((2, 3, 5)), "y": np.full((2, 3, 7), "a")}, "write numbers"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_recording_that_does_not_fit_is_one_sentence(what: str) -> None:
    arrays, words = WRONG[what]
    with pytest.raises(SpecError) as error:
        diagnose(gru(), arrays)
    assert words in str(error.value)


def test_arguments_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    layer, recorded = gru(), {"x": np.ones((2, 3, 5)), "y": np.ones((2, 3, 7))}
    with pytest.raises(SpecError, match="go second"):
        diagnose(recorded, layer)
    with pytest.raises(SpecError, match="rerun"):
        diagnose(layer, layer, rerun=lambda x: x)
    with pytest.raises(UnsupportedError):
        diagnose(layer, object())
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object), y=np.ones(3))
    with pytest.raises(FileError, match="Python objects"):
        diagnose(layer, tmp_path / "objects.npz")
    with pytest.raises(SpecError, match="one layer"):
        diagnose(torch.nn.Sequential(gru(), torch.nn.Linear(7, 2)), recorded)


# ---- Models and files.


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (filled(torch.nn.LSTM(6, 6, batch_first=True), seed) for seed in (1, 2))
        self.head = filled(torch.nn.Linear(6, 3), 3)


def test_each_layer_of_two_files_is_diagnosed(tmp_path: Path) -> None:
    model = Model()
    torch.save(model.state_dict(), tmp_path / "a.pt")
    with torch.no_grad():
        forget_added(model.second)
    torch.save(model.state_dict(), tmp_path / "b.pt")
    found = diagnose(tmp_path / "a.pt", tmp_path / "b.pt")
    assert isinstance(found, Diagnoses)
    assert [part.status for part in found.parts] == ["equivalent", "explained", "equivalent"]
    assert names(found.parts[1]) == ["forget bias of 1 added"]
    assert found.status == "explained"
    assert "forget bias of 1 added" in found.reason
    assert diagnose(tmp_path / "b.pt", tmp_path / "b.pt").status == "equivalent"
    live = diagnose(tmp_path / "a.pt", model)
    assert [part.status for part in live.parts] == ["equivalent", "explained", "equivalent"]


def test_layers_that_were_exchanged_are_told(tmp_path: Path) -> None:
    model = Model()
    torch.save(model.state_dict(), tmp_path / "a.pt")
    model.first, model.second = model.second, model.first
    torch.save(model.state_dict(), tmp_path / "b.pt")
    found = diagnose(tmp_path / "a.pt", tmp_path / "b.pt")
    assert isinstance(found, Diagnoses)
    assert names(found.parts[0]) == ["the weights of second in its place"]
    assert names(found.parts[1]) == ["the weights of first in its place"]


def test_a_layer_without_a_partner_is_told(tmp_path: Path) -> None:
    model = Model()
    torch.save(model.state_dict(), tmp_path / "a.pt")
    model.head = torch.nn.Linear(6, 4)
    torch.save(model.state_dict(), tmp_path / "b.pt")
    found = diagnose(tmp_path / "a.pt", tmp_path / "b.pt")
    assert found.status == "unexplained"
    assert "head" in found.reason


def test_a_file_of_one_layer_goes_with_a_layer_and_a_recording(tmp_path: Path) -> None:
    layer = gru()
    torch.save(layer.state_dict(), tmp_path / "a.pt")
    wrong = broken(layer, ordered("zrn", "rzn"))
    assert "gates r and z swapped" in names(one(tmp_path / "a.pt", wrong))[0]
    x = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        recorded = {"x": x.numpy(), "y": wrong(x)[0].numpy()}
    assert "gates r and z swapped" in names(one(tmp_path / "a.pt", recorded))[0]


# ---- The first steps are those of the whole.

CUT = [
    Recurrent("lstm", 3, 5, num_layers=3),
    Recurrent("gru", 3, 5, go_backwards=True),
    Recurrent("rnn", 3, 5, bidirectional=True, merge_mode=None),
    Recurrent("lstm", 3, 5, bidirectional=True, go_backwards=True, mask="any", proj_size=2),
    Recurrent("gru", 3, 5, bidirectional=True, mask="right"),
    Recurrent("gru", 3, 5, bidirectional=True, backward=Recurrent("lstm", 3, 4)),
    Recurrent("gru", 3, 5, stacked=(Recurrent("lstm", 5, 4),), go_backwards=True),
    # None of these can be cut: every output depends on every input.
    Recurrent("lstm", 3, 5, num_layers=2, bidirectional=True),
    Recurrent("gru", 3, 5, num_layers=2, go_backwards=True),
    Recurrent("gru", 3, 5, bidirectional=True, merge_mode="ave"),
]


@pytest.mark.parametrize("spec", CUT, ids=str)
def test_a_window_agrees_with_the_whole(spec: Recurrent) -> None:
    """A layer agrees with its own outputs in every window, and another layer in none."""
    given = Given(signal(spec, 1, steps=26), start(spec, 2))
    if spec.mask:
        random = np.random.default_rng(0).random((4, 26)) > 0.3
        given = replace(given, mask=random if spec.mask == "any" else np.arange(26) < np.array([[26], [9], [2], [14]]))
    case = Case(spec, weights(spec, 3), given)
    evidence = computed(spec, case.params, given, "float64")
    found = list(windows(0, evidence, case.noise("float64"), spec))
    assert [window.steps for window in found] == ([None] if spec in CUT[-3:] else [3, 12, None])
    other = replace(case, params=weights(spec, 4))
    for window in found:
        assert window.score(case).worst < 10
        assert not window.score(other).passes
