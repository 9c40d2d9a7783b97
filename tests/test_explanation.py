"""Counting and explaining: the questions people ask, with the numbers that they report (FACTS and frameworks' summaries)."""

from __future__ import annotations

import json
from typing import Any

import pytest

import xframe
from xframe import Dense, Recurrent, Sequential
from xframe.assumptions import search
from xframe.demonstration import demonstrate
from xframe.probe import Probe

# (question, spec, {framework: stored})
QUESTIONS = [
    ("C1", Recurrent("rnn", 1, 10), {"keras": 120, "torch": 130}),
    ("C2", Recurrent("rnn", 28, 128), {"keras": 20096, "torch": 20224}),
    ("C3", Recurrent("rnn", 1, 1), {"keras": 3, "torch": 4}),
    ("C4", Recurrent("lstm", 1, 9), {"keras": 396, "torch": 432}),
    ("C5, input_dim=3", Recurrent("lstm", 3, 2), {"keras": 48}),
    ("C5, Input((3, 1))", Recurrent("lstm", 1, 2), {"keras": 32}),
    ("C6", Recurrent("gru", 16, 32, bidirectional=True), {"keras": 9600, "torch": 9600}),
    ("C6, by hand", Recurrent("gru", 16, 32, bidirectional=True, reset_after=False), {"keras": 9408, "tf1": 9408}),
    ("C8, one-way", Recurrent("lstm", 32, 128, num_layers=2), {"torch": 215_040}),
    ("C8, bidirectional", Recurrent("lstm", 32, 128, num_layers=2, bidirectional=True), {"torch": 561_152}),
    (
        "C9",
        Recurrent("gru", 5, 3),
        {"torch": 90, "equinox": 84, "flax-linen": 84, "flax": 81, "keras-cudnn": 90, "onnx": 90},
    ),
    ("FACTS", Recurrent("rnn", 3, 4), {"keras": 32, "torch": 36}),
    ("FACTS", Recurrent("gru", 1, 10), {"keras": 390, "torch": 390}),
    ("FACTS", Recurrent("gru", 1, 10, reset_after=False), {"keras": 360}),
    ("FACTS", Recurrent("lstm", 1, 10, bidirectional=True), {"keras": 960, "torch": 1040}),
    ("FACTS", Dense(10, 1), {"keras": 11, "torch": 11}),
]


@pytest.mark.parametrize(("question", "spec", "stored"), QUESTIONS, ids=[f"{q[0]}: {q[1]}" for q in QUESTIONS])
def test_counts_that_people_report(question: str, spec: Any, stored: dict[str, int]) -> None:
    counts = xframe.count(spec)
    assert {name: counts[name].stored for name in stored} == stored


@pytest.mark.parametrize("spec", [q[1] for q in QUESTIONS], ids=str)
def test_tables_add_up(spec: Any) -> None:
    for name, one in xframe.count(spec).items():
        assert one.stored == sum(t.count for t in one.tensors), name
        assert one.stored == one.effective + one.redundant
        # The arithmetic is evaluated by Python, which knows nothing of layouts.
        assert eval(one.arithmetic, {"__builtins__": {}}) == one.stored, one.arithmetic


@pytest.mark.parametrize(
    ("spec", "framework", "formula", "redundant"),
    [
        (Recurrent("rnn", 1, 10), "torch", "hidden*(hidden+features+2)", 10),
        (Recurrent("rnn", 1, 10), "keras", "hidden*(hidden+features+1)", 0),
        (Recurrent("lstm", 1, 9), "torch", "4*hidden*(hidden+features+2)", 36),
        (Recurrent("lstm", 1, 9, bias=False), "torch", "4*hidden*(hidden+features)", 0),
        (Recurrent("gru", 5, 3), "keras", "3*hidden*(hidden+features+2)", 6),
        (Recurrent("gru", 5, 3), "equinox", "hidden*(3*hidden+3*features+4)", 0),
        (Recurrent("gru", 5, 3, reset_after=False), "onnx", "3*hidden*(hidden+features+2)", 9),
        (
            Recurrent("lstm", 32, 128, num_layers=2, bidirectional=True),
            "torch",
            "2*4*hidden*(hidden+features+2) + 2*4*hidden*(hidden+below+2)",
            2048,
        ),
        (Recurrent("lstm", 8, 6, proj_size=2), "torch", "hidden*(4*features+5*proj+8)", 24),
        (Recurrent("lstm", 8, 6, proj_size=2), "keras", "hidden*(4*features+5*proj+4)", 0),
        (Recurrent("gru", 5, 3, reset_after=False), "torch", "3*hidden*(hidden+features+2)", 9),
    ],
    ids=str,
)
def test_formulas(spec: Recurrent, framework: str, formula: str, redundant: int) -> None:
    one = xframe.count(spec)[framework]
    assert (one.formula, one.redundant) == (formula, redundant)


def shapes(spec: Recurrent, framework: str) -> dict[str, tuple[int, ...]]:
    return {t.name: t.shape for t in xframe.count(spec)[framework].tensors}


def test_c7_the_second_row_of_the_bias() -> None:
    explanation = xframe.explain(Recurrent("gru", 4, 3))
    assert shapes(Recurrent("gru", 4, 3), "keras")["gru/gru_cell/bias"] == (2, 9)
    text = explanation.report()
    assert "The two rows of bias are the input bias (first) and the recurrent bias (second)." in text
    assert shapes(Recurrent("gru", 4, 3, reset_after=False), "keras")["gru/gru_cell/bias"] == (9,)


def test_c8_what_the_second_layer_reads() -> None:
    text = " ".join(xframe.explain(Recurrent("lstm", 32, 128, num_layers=2, bidirectional=True)).report().split())
    assert "each later one reads what the layer below puts out (2*128 = 256)" in text


def test_c9_which_biases_are_stored_twice() -> None:
    text = " ".join(xframe.explain(Recurrent("gru", 5, 3)).report().split())
    assert "PyTorch stores 90 = 3*hidden*(hidden+features+2): it keeps two bias vectors of the gates r and z" in text
    assert "In the candidate n the recurrent bias is not redundant: n = tanh(x W_n + b_n + r (h U_n + rb_n))" in text


def test_c10_why_two_biases() -> None:
    text = " ".join(xframe.explain(Recurrent("lstm", 5, 3)).report().split())
    assert "bias_ih_l0 and bias_hh_l0, which are only ever added to each other" in text
    assert "cuDNN" in text


def test_c11_shapes_with_a_projection() -> None:
    found = shapes(Recurrent("lstm", 32, 128, num_layers=2, bidirectional=True, proj_size=16), "torch")
    assert found["weight_hh_l0"] == (512, 16)
    assert found["weight_ih_l1_reverse"] == (512, 32)
    assert found["weight_hr_l1"] == (16, 128)


def test_a_chain_is_explained_layer_by_layer_and_counted_as_a_whole() -> None:
    model = Sequential(Recurrent("rnn", 1, 10), Dense(10, 1))
    assert [e.counts["torch"].stored for e in xframe.explain(model)] == [130, 11]
    totals = xframe.count(model)
    assert (totals["keras"].stored, totals["torch"].stored) == (131, 141)
    assert (totals["keras"].effective, totals["torch"].effective) == (131, 131)


def test_a_framework_without_the_layer_says_which_option_it_is() -> None:
    explanation = xframe.explain(Recurrent("gru", 5, 3, reset_after=False))
    assert "before the product (reset_after=False)" in explanation.unsupported["flax"]
    assert "PyTorch: xframe.torch.Recurrent, because torch.nn.GRU applies the reset gate after the product." in (
        explanation.reasons
    )
    assert "after the product (reset_after=True)" in xframe.explain(Recurrent("gru", 5, 3)).unsupported["tf1"]
    assert "bias=False" in xframe.explain(Recurrent("lstm", 5, 3, bias=False)).unsupported["flax"]


# Where does this number come from?


@pytest.mark.parametrize(
    ("spec", "number", "steps", "title", "assumption"),
    [
        (Recurrent("gru", 16, 32, bidirectional=True), 9408, None, "Keras", "reset_after=False"),
        (Recurrent("rnn", 1, 10), 130, None, "PyTorch", "as given"),
        (Recurrent("rnn", 1, 10), 120, None, "Keras", "as given"),
        (
            Recurrent("lstm", 3, 2),
            32,
            None,
            "Keras",
            "1 feature (in Input((3, 1)), 3 are time steps and 1 is the feature)",
        ),
        (Recurrent("lstm", 1, 2), 48, 3, "Keras", "3 features (features and time steps exchanged)"),
        (Recurrent("gru", 5, 3), 84, None, "Equinox", "as given"),
        (Recurrent("rnn", 1, 10), 20, None, "Keras", "the recurrent kernel (hidden x hidden) forgotten"),
        (Recurrent("rnn", 5, 4), 36, None, "Keras", "no bias"),
        (Recurrent("lstm", 1, 10, bidirectional=True), 480, None, "Keras", "one direction"),
        (Recurrent("lstm", 32, 128, num_layers=2), 561_152, None, "PyTorch", "two directions"),
        (
            Recurrent("lstm", 32, 128, num_layers=2, bidirectional=True),
            430_080,
            None,
            "PyTorch",
            "the later layers taken to read one direction only",
        ),
    ],
    ids=str,
)
def test_which_assumption_gives_the_number(
    spec: Recurrent, number: int, steps: int | None, title: str, assumption: str
) -> None:
    found = search(spec, number, steps)
    assert found.exact
    assert (found.matches[0].title, found.matches[0].assumption) == (title, assumption)
    assert all(m.count == number for m in found.matches)


def test_the_sentence_of_the_issue() -> None:
    text = " ".join(search(Recurrent("gru", 16, 32, bidirectional=True), 9408).report().split())
    assert "9,408 is Keras with reset_after=False." in text
    assert "reset_after=True" in text
    assert "Keras stores 9,600" in text


def test_where_nothing_fits_the_nearest_and_what_is_missing() -> None:
    found = search(Recurrent("lstm", 1, 10), 481)
    assert not found.exact
    assert found.matches[0].count == 480
    assert found.missing == "1 more than the nearest"
    assert found.report().splitlines()[3].startswith("No framework and no assumption gives 481")
    # The nearest is PyTorch's 432 + one vector of 9.
    assert search(Recurrent("lstm", 1, 9), 441).missing == "9 more than the nearest, as many as one bias vector"


def test_json_of_a_number() -> None:
    content = json.loads(search(Recurrent("gru", 16, 32, bidirectional=True), 9408).report("json"))
    assert content["schema"] == "xframe/1"
    assert content["matches"][0] == {"framework": "keras", "assumption": "reset_after=False", "count": 9408}


# The redundancy, shown.


@pytest.mark.parametrize(
    ("spec", "redundant"),
    [
        (Recurrent("rnn", 3, 5), {"h": True}),
        (Recurrent("lstm", 3, 5, bidirectional=True), {"i": True, "f": True, "o": True, "g": True}),
        (Recurrent("gru", 3, 5, num_layers=2), {"r": True, "z": True, "n": False}),
        (Recurrent("gru", 3, 5, reset_after=False), {"r": True, "z": True, "n": True}),
    ],
    ids=str,
)
def test_moving_a_constant_between_the_biases(spec: Recurrent, redundant: dict[str, bool]) -> None:
    shown = demonstrate(spec, Probe())
    assert {m.gate: m.redundant for m in shown.moves} == redundant
    for move in shown.moves:
        assert move.change < 1e-14 if redundant[move.gate] else move.change > 1e-3


def test_nothing_to_move_without_biases() -> None:
    with pytest.raises(xframe.SpecError, match="no-bias"):
        demonstrate(Recurrent("rnn", 3, 5, bias=False), Probe())


def test_stacked_cells_are_counted_one_by_one() -> None:
    spec = Recurrent("lstm", 3, 5, stacked=(Recurrent("gru", 5, 4),), bidirectional=True)
    found = xframe.explain(spec)
    assert found.reasons[0] == (
        "The forward LSTM(5) needs 60 + 100 + 20 = 180 numbers, the forward GRU(4) 60 + 48 + 12 + 4 = 124, "
        "the backward LSTM(5) 60 + 100 + 20 = 180, the backward GRU(4) 60 + 48 + 12 + 4 = 124."
    )
    assert any("run one after the other at each time step" in reason for reason in found.reasons)
    written = json.loads(found.report("json"))["spec"]["stacked"]
    assert [(one["cell"], one["input_size"], one["hidden_size"]) for one in written] == [("gru", 5, 4)]
