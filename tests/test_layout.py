"""Layouts: names, shapes and counts against what was typed in from FACTS.md and QUESTIONS.md. No framework is needed."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import helpers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xframe.adapters import known_adapters, known_packings
from xframe.errors import UnsupportedError
from xframe.layout import block_shape, formula, keys, polynomial
from xframe.spec import Dense, Layer, Recurrent

PACKINGS = known_packings()
ROWS = [(p.name, row) for p in PACKINGS.values() for row in p.rows]


def shapes(packing: str, spec: Layer) -> dict[str, tuple[int, ...]]:
    natives = PACKINGS[packing].natives(spec)
    found = {native.name: native.shape for native in natives}
    assert len(found) == len(natives), "two tensors have one name"
    return found


def count(packing: str, spec: Layer) -> int:
    return sum(native.count for native in PACKINGS[packing].natives(spec))


# Names and shapes, typed in: 2 features, 3 units (torch and ONNX names with layers and directions; d = 2, n = 3).
INVENTORIES: list[tuple[str, Layer, dict[str, tuple[int, ...]]]] = [
    (
        "torch",
        Recurrent("lstm", 2, 3, num_layers=2, bidirectional=True),
        {
            "weight_ih_l0": (12, 2),
            "weight_hh_l0": (12, 3),
            "bias_ih_l0": (12,),
            "bias_hh_l0": (12,),
            "weight_ih_l0_reverse": (12, 2),
            "weight_hh_l0_reverse": (12, 3),
            "bias_ih_l0_reverse": (12,),
            "bias_hh_l0_reverse": (12,),
            "weight_ih_l1": (12, 6),
            "weight_hh_l1": (12, 3),
            "bias_ih_l1": (12,),
            "bias_hh_l1": (12,),
            "weight_ih_l1_reverse": (12, 6),
            "weight_hh_l1_reverse": (12, 3),
            "bias_ih_l1_reverse": (12,),
            "bias_hh_l1_reverse": (12,),
        },
    ),
    (
        # C11: weight_hh is (4n, p), and layer k > 0 reads the projected states of both directions.
        "torch",
        Recurrent("lstm", 5, 4, num_layers=2, bidirectional=True, bias=False, proj_size=3),
        {
            "weight_ih_l0": (16, 5),
            "weight_hh_l0": (16, 3),
            "weight_hr_l0": (3, 4),
            "weight_ih_l0_reverse": (16, 5),
            "weight_hh_l0_reverse": (16, 3),
            "weight_hr_l0_reverse": (3, 4),
            "weight_ih_l1": (16, 6),
            "weight_hh_l1": (16, 3),
            "weight_hr_l1": (3, 4),
            "weight_ih_l1_reverse": (16, 6),
            "weight_hh_l1_reverse": (16, 3),
            "weight_hr_l1_reverse": (3, 4),
        },
    ),
    (
        "torch",
        Recurrent("rnn", 2, 3),
        {"weight_ih_l0": (3, 2), "weight_hh_l0": (3, 3), "bias_ih_l0": (3,), "bias_hh_l0": (3,)},
    ),
    (
        "torch",
        Recurrent("gru", 2, 3),
        {"weight_ih_l0": (9, 2), "weight_hh_l0": (9, 3), "bias_ih_l0": (9,), "bias_hh_l0": (9,)},
    ),
    ("torch", Dense(2, 3), {"weight": (3, 2), "bias": (3,)}),
    (
        "keras",
        Recurrent("gru", 2, 3),
        {"gru/gru_cell/kernel": (2, 9), "gru/gru_cell/recurrent_kernel": (3, 9), "gru/gru_cell/bias": (2, 9)},
    ),
    (
        "keras",
        Recurrent("gru", 2, 3, reset_after=False),
        {"gru/gru_cell/kernel": (2, 9), "gru/gru_cell/recurrent_kernel": (3, 9), "gru/gru_cell/bias": (9,)},
    ),
    (
        "keras",
        Recurrent("rnn", 2, 3, bias=False),
        {"simple_rnn/simple_rnn_cell/kernel": (2, 3), "simple_rnn/simple_rnn_cell/recurrent_kernel": (3, 3)},
    ),
    (
        "keras",
        Recurrent("lstm", 2, 3, num_layers=2, bidirectional=True),
        {
            "bidirectional/forward_lstm/lstm_cell/kernel": (2, 12),
            "bidirectional/forward_lstm/lstm_cell/recurrent_kernel": (3, 12),
            "bidirectional/forward_lstm/lstm_cell/bias": (12,),
            "bidirectional/backward_lstm/lstm_cell/kernel": (2, 12),
            "bidirectional/backward_lstm/lstm_cell/recurrent_kernel": (3, 12),
            "bidirectional/backward_lstm/lstm_cell/bias": (12,),
            "bidirectional_1/forward_lstm_1/lstm_cell/kernel": (6, 12),
            "bidirectional_1/forward_lstm_1/lstm_cell/recurrent_kernel": (3, 12),
            "bidirectional_1/forward_lstm_1/lstm_cell/bias": (12,),
            "bidirectional_1/backward_lstm_1/lstm_cell/kernel": (6, 12),
            "bidirectional_1/backward_lstm_1/lstm_cell/recurrent_kernel": (3, 12),
            "bidirectional_1/backward_lstm_1/lstm_cell/bias": (12,),
        },
    ),
    ("keras", Dense(2, 3, bias=False), {"dense/kernel": (2, 3)}),
    ("onnx", Recurrent("lstm", 2, 3), {"W": (1, 12, 2), "R": (1, 12, 3), "B": (1, 24)}),
    ("onnx", Recurrent("gru", 2, 3, bidirectional=True), {"W": (2, 9, 2), "R": (2, 9, 3), "B": (2, 18)}),
    ("onnx", Recurrent("rnn", 2, 3, bias=False), {"W": (1, 3, 2), "R": (1, 3, 3)}),
    # T11: the input kernel and the recurrent kernel in one.
    ("tf1", Recurrent("lstm", 2, 3), {"kernel": (5, 12), "bias": (12,)}),
    (
        "tf1",
        Recurrent("lstm", 512, 4096, proj_size=512),
        {"kernel": (1024, 16384), "bias": (16384,), "projection/kernel": (4096, 512)},
    ),
    (
        "tf1",
        Recurrent("gru", 2, 3, reset_after=False),
        {"gates/kernel": (5, 6), "gates/bias": (6,), "candidate/kernel": (5, 3), "candidate/bias": (3,)},
    ),
    # T8: 800 entries where the LSTM of today has 400.
    ("keras-cudnn", Recurrent("lstm", 2, 100), {"kernel": (2, 400), "recurrent_kernel": (100, 400), "bias": (800,)}),
    ("keras-cudnn", Recurrent("gru", 2, 3), {"kernel": (2, 9), "recurrent_kernel": (3, 9), "bias": (18,)}),
    (
        "flax",
        Recurrent("lstm", 2, 3),
        {
            **{f"{name}/kernel": (2, 3) for name in ("ii", "if_", "ig", "io")},
            **{f"{name}/kernel": (3, 3) for name in ("hi", "hf", "hg", "ho")},
            **{f"{name}/bias": (3,) for name in ("hi", "hf", "hg", "ho")},
        },
    ),
    (
        "flax",
        Recurrent("gru", 2, 3),
        {"dense_i/kernel": (2, 9), "dense_i/bias": (9,), "dense_h/kernel": (3, 9)},
    ),
    (
        "flax-linen",
        Recurrent("lstm", 2, 3),
        {
            **{f"{name}/kernel": (2, 3) for name in ("ii", "if", "ig", "io")},
            **{f"{name}/kernel": (3, 3) for name in ("hi", "hf", "hg", "ho")},
            **{f"{name}/bias": (3,) for name in ("hi", "hf", "hg", "ho")},
        },
    ),
    (
        "flax-linen",
        Recurrent("gru", 2, 3),
        {
            **{f"{name}/kernel": (2, 3) for name in ("ir", "iz", "in")},
            **{f"{name}/bias": (3,) for name in ("ir", "iz", "in", "hn")},
            **{f"{name}/kernel": (3, 3) for name in ("hr", "hz", "hn")},
        },
    ),
    (
        "equinox",
        Recurrent("gru", 2, 3),
        {"weight_ih": (9, 2), "weight_hh": (9, 3), "bias": (9,), "bias_n": (3,)},
    ),
]


@pytest.mark.parametrize(("packing", "spec", "wanted"), INVENTORIES, ids=lambda v: str(v) if len(str(v)) < 60 else "")
def test_names_and_shapes(packing: str, spec: Layer, wanted: dict[str, tuple[int, ...]]) -> None:
    assert shapes(packing, spec) == wanted


# Numbers that people gave in public, or that were counted by running the frameworks.
RNN, LSTM, GRU = "rnn", "lstm", "gru"
NUMBERS: list[tuple[str, str, Layer, int]] = [
    ("C1", "keras", Recurrent(RNN, 1, 10), 120),
    ("C1", "torch", Recurrent(RNN, 1, 10), 130),
    ("C2", "keras", Recurrent(RNN, 28, 128), 20096),
    ("C2", "torch", Recurrent(RNN, 28, 128), 20224),
    ("C3", "keras", Recurrent(RNN, 1, 1), 3),
    ("C3", "torch", Recurrent(RNN, 1, 1), 4),
    ("C4", "keras", Recurrent(LSTM, 1, 9), 396),
    ("C4", "torch", Recurrent(LSTM, 1, 9), 432),
    ("C5", "keras", Recurrent(LSTM, 3, 2), 48),
    ("C5", "keras", Recurrent(LSTM, 1, 2), 32),
    ("C6", "keras", Recurrent(GRU, 16, 32, bidirectional=True), 9600),
    ("C6", "keras", Recurrent(GRU, 16, 32, bidirectional=True, reset_after=False), 9408),
    ("C8", "torch", Recurrent(LSTM, 32, 128, num_layers=2), 215_040),
    ("C8", "torch", Recurrent(LSTM, 32, 128, num_layers=2, bidirectional=True), 561_152),
    ("C9", "torch", Recurrent(GRU, 5, 3), 90),
    ("C9", "equinox", Recurrent(GRU, 5, 3), 84),
    ("FACTS", "keras", Dense(10, 1), 11),
    ("FACTS", "torch", Dense(10, 1), 11),
    ("FACTS", "keras", Recurrent(RNN, 3, 4), 32),
    ("FACTS", "torch", Recurrent(RNN, 3, 4), 36),
    ("FACTS", "keras", Recurrent(LSTM, 1, 10), 480),
    ("FACTS", "torch", Recurrent(LSTM, 1, 10), 520),
    ("FACTS", "keras", Recurrent(GRU, 1, 10), 390),
    ("FACTS", "keras", Recurrent(GRU, 1, 10, reset_after=False), 360),
    ("FACTS", "torch", Recurrent(GRU, 1, 10), 390),
    ("FACTS", "keras", Recurrent(LSTM, 1, 10, bidirectional=True), 960),
    ("FACTS", "torch", Recurrent(LSTM, 1, 10, bidirectional=True), 1040),
]


@pytest.mark.parametrize(("where", "packing", "spec", "wanted"), NUMBERS, ids=str)
def test_well_known_numbers(where: str, packing: str, spec: Layer, wanted: int) -> None:
    assert count(packing, spec) == wanted


def test_tensors_in_question() -> None:
    """C5: three tensors of 12 + 16 + 4 numbers; C7: two rows of bias; C10: two biases of one length."""
    assert [n.count for n in PACKINGS["keras"].natives(Recurrent("rnn", 3, 4))] == [12, 16, 4]
    assert shapes("keras", Recurrent("gru", 1, 3))["gru/gru_cell/bias"] == (2, 9)
    biases = [n for n in PACKINGS["torch"].natives(Recurrent("lstm", 4, 5)) if n.name.startswith("bias")]
    assert [(n.name, n.shape, n.role) for n in biases] == [
        ("bias_ih_l0", (20,), "bias"),
        ("bias_hh_l0", (20,), "recurrent_bias"),
    ]


# Which options each framework's row can express: without bias, stacked, bidirectional, projected. What a row lacks is
# refused by name.
NO_BIAS = {"keras", "torch", "onnx", "equinox"}
PROJECTION = {"keras", "torch", "tf1"}
STACKS = {"keras", "keras-cudnn", "torch", "onnx", "tf1", "flax", "flax-linen", "equinox"}
# What frameworks do over time that has nothing to do with storage, and who can be told it. Only the two that xframe runs have
# other activations, two directions of different kinds, and bare cells that are counted by themselves.
RUN = {"keras", "torch"}
FLAX = {"flax", "flax-linen"}
TIME: list[tuple[dict[str, Any], set[str]]] = [
    ({"go_backwards": True}, {*RUN, *FLAX, "onnx", "keras-cudnn"}),
    ({"bidirectional": True, "merge_mode": "sum"}, {*RUN, "keras-cudnn"}),
    ({"bidirectional": True, "merge_mode": None}, {*RUN, "keras-cudnn"}),
    ({"activation": "softsign"}, {*RUN, *FLAX, "onnx"}),
    ({"recurrent_activation": "hard_sigmoid"}, {*RUN, *FLAX, "onnx"}),
    ({"form": "cell"}, RUN),
    ({"bidirectional": True, "backward": Recurrent("rnn", 2, 3, activation="relu")}, {*RUN, *FLAX}),
]


def test_rows_are_those_with_a_formula() -> None:
    """Every row is in the table of counts that was typed in, and the other way round."""
    assert set(ROWS) == {key for key in helpers.STORED if key[0] != "toy"}


@pytest.mark.parametrize(("packing", "row"), [r for r in ROWS if r[1] != "dense"])
def test_options(packing: str, row: str) -> None:
    base: dict[str, Any] = {"cell": row.split("/")[0], "input_size": 2, "hidden_size": 3}
    if base["cell"] == "gru":
        base["reset_after"] = "/" not in row
    if packing in STACKS:
        both = Recurrent(**base, num_layers=2, bidirectional=True)
        assert count(packing, both) > 2 * count(packing, Recurrent(**base))
    else:
        for more in ({"num_layers": 2}, {"bidirectional": True}):
            with pytest.raises(UnsupportedError, match=f"{next(iter(more))}="):
                PACKINGS[packing].natives(Recurrent(**base, **more))
    if packing in NO_BIAS:
        assert count(packing, Recurrent(**base, bias=False)) < count(packing, Recurrent(**base))
    else:
        with pytest.raises(UnsupportedError, match="bias=False"):
            PACKINGS[packing].natives(Recurrent(**base, bias=False))
    if base["cell"] == "lstm":
        if packing in PROJECTION:
            assert count(packing, Recurrent(**base, proj_size=2)) == helpers.PROJECTED_STORED[packing](3, 2, 2)
        else:
            with pytest.raises(UnsupportedError, match="proj_size=2"):
                PACKINGS[packing].natives(Recurrent(**base, proj_size=2))


@pytest.mark.parametrize(("packing", "row"), [r for r in ROWS if r[1] in ("lstm", "gru")])
@pytest.mark.parametrize(("options", "told"), TIME, ids=lambda v: " ".join(v) if isinstance(v, dict) else "")
def test_options_of_time(packing: str, row: str, options: dict[str, Any], told: set[str]) -> None:
    """Where a framework can be told, it stores no more for it; else the option is refused by name."""
    spec, name = Recurrent(row, 2, 3, **options), list(options)[-1]
    if packing in told:
        parts = [row, *(["rnn" if "backward" in options else row] if spec.bidirectional else [])]
        assert count(packing, spec) == sum(helpers.STORED[packing, part](3, 2) for part in parts)
    else:
        title = PACKINGS[packing].title
        with pytest.raises(UnsupportedError, match=f"{title} has no ((LSTM|GRU) with {name}=|SimpleRNN)"):
            PACKINGS[packing].natives(spec)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize(
    ("row", "spec", "words"),
    [
        ("rnn", Recurrent("rnn", 2, 3), "has no SimpleRNN"),
        ("lstm", Recurrent("lstm", 2, 3), "has no LSTM"),
        ("gru", Recurrent("gru", 2, 3), r"has no GRU( .*reset_after=True|\.)"),
        ("gru/reset_before", Recurrent("gru", 2, 3, reset_after=False), r"has no GRU( .*reset_after=False|\.)"),
        ("dense", Dense(2, 3), "has no Dense"),
    ],
)
def test_a_framework_has_the_cell_or_says_so(packing: str, row: str, spec: Layer, words: str) -> None:
    if (packing, row) in helpers.STORED:
        assert count(packing, spec) == helpers.stored(packing, spec)
    else:
        with pytest.raises(UnsupportedError, match=words) as caught:
            PACKINGS[packing].natives(spec)
        assert PACKINGS[packing].title in str(caught.value)


@pytest.mark.parametrize(("packing", "row"), ROWS)
@given(data=st.data())
def test_counts_follow_the_formulas(packing: str, row: str, data: st.DataObject) -> None:
    """The table of FACTS.md, over layers and directions."""
    spec = data.draw(helpers.specs(row, PACKINGS[packing].rows[row]))
    assert count(packing, spec) == helpers.stored(packing, spec)


@pytest.mark.parametrize(("packing", "row"), ROWS)
@given(data=st.data())
def test_every_block_has_at_most_one_home(packing: str, row: str, data: st.DataObject) -> None:
    """Names are unique, no block is stored twice, none is unknown, and only biases may be left out."""
    spec = data.draw(helpers.specs(row, PACKINGS[packing].rows[row]))
    natives = PACKINGS[packing].natives(spec)
    names = [native.name for native in natives]
    assert len(set(names)) == len(names)
    homes = [leaf.key for native in natives for leaf in native.leaves]
    assert len(set(homes)) == len(homes)
    wanted = helpers.shapes(spec)
    assert set(homes) <= set(wanted)
    assert {key.role for key in set(wanted) - set(homes)} <= {"bias", "recurrent_bias"}


@given(data=st.data(), row=st.sampled_from(["rnn", "lstm", "gru", "gru/reset_before", "dense"]))
def test_blocks_are_those_written_out(data: st.DataObject, row: str) -> None:
    spec = data.draw(helpers.specs(row, PACKINGS["torch" if row in PACKINGS["torch"].rows else "keras"].rows[row]))
    assert {key: block_shape(spec, key) for key in keys(spec)} == helpers.shapes(spec)
    assert len(keys(spec)) == len(helpers.shapes(spec))


@pytest.mark.parametrize(("packing", "row"), ROWS)
@given(data=st.data())
def test_symbols_say_what_the_numbers_say(packing: str, row: str, data: st.DataObject) -> None:
    """Symbolic shapes and count formulas, evaluated, are the shapes and the counts."""
    spec = data.draw(helpers.specs(row, PACKINGS[packing].rows[row]))
    for native in PACKINGS[packing].natives(spec):
        values = {
            "features": spec.input_size,
            "below": spec.layer_input_size(native.layer),
            "hidden": spec.hidden_size,
            "units": spec.hidden_size,
            "proj": spec.state_size,
        }

        def value(text: str, values: dict[str, int] = values) -> int:
            return int(eval(text, {"__builtins__": {}}, values))

        assert tuple(value(s) for s in native.symbols) == native.shape, native.name
        assert value(formula(polynomial(native.leaves, spec))) == native.count, native.name


def test_formulas_read_well() -> None:
    def text(packing: str, spec: Layer) -> str:
        return formula(polynomial([leaf for n in PACKINGS[packing].natives(spec) for leaf in n.leaves], spec))

    assert text("keras", Recurrent("rnn", 1, 10)) == "hidden*(hidden+features+1)"
    assert text("torch", Recurrent("rnn", 1, 10)) == "hidden*(hidden+features+2)"
    assert text("torch", Recurrent("lstm", 1, 10)) == "4*hidden*(hidden+features+2)"
    assert text("keras", Recurrent("gru", 1, 10, reset_after=False)) == "3*hidden*(hidden+features+1)"


def test_gate_order_in_the_frameworks_own_letters() -> None:
    """The table of FACTS.md, how they are packed."""

    def order(packing: str, row: str) -> str:
        return "".join(PACKINGS[packing].rows[row].gate_order())

    assert {p: order(p, "lstm") for p in ("keras", "torch", "onnx", "tf1", "flax")} == {
        "keras": "ifco",
        "torch": "ifgo",
        "onnx": "iofc",
        "tf1": "ijfo",
        "flax": "ifgo",
    }
    assert {p: order(p, "gru") for p in ("keras", "torch", "onnx", "flax-linen")} == {
        "keras": "zrh",
        "torch": "rzn",
        "onnx": "zrh",
        "flax-linen": "rzn",
    }
    assert order("tf1", "gru/reset_before") == "ruc"


# What may take long to import, or may not be installed.
HEAVY = {"numpy", "tensorflow", "tf_keras", "jax", "h5py"}.union(*(a.requires for a in known_adapters().values()))


def imported_by(code: str) -> set[str]:
    """Which of the heavy modules a fresh interpreter has imported after running ``code``."""
    program = f"import sys\n{code}\nprint('imported:', *sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return HEAVY & set(done.stdout.split("imported:")[1].split())


def test_the_tables_need_neither_numpy_nor_a_framework() -> None:
    code = """
import xframe, xframe.layout, xframe.adapters
from xframe.adapters import available_adapters, known_adapters, known_packings
spec = xframe.Recurrent("gru", 2, 3, bidirectional=True)
assert sum(n.count for n in known_packings()["torch"].natives(spec)) == 126
assert known_adapters() and isinstance(available_adapters(), list)
from xframe.adapters import KerasAdapter, TorchAdapter
"""
    assert imported_by(code) == set()


@pytest.mark.parametrize("module", ["numpy", "h5py"])
def test_the_checker_of_imports_sees_one(module: str) -> None:
    assert module in imported_by(f"import xframe.adapters\nimport {module}")


def test_the_checker_of_imports_sees_an_import_within() -> None:
    assert "numpy" in imported_by("import xframe\nxframe.reference")


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.needs(name)) for name in known_adapters()])
def test_an_adapter_imports_no_other_framework(name: str) -> None:
    others = {module for a in known_adapters().values() if a.packing.name != name for module in a.requires}
    others -= set(known_adapters()[name].requires)  # Flax has two adapters
    assert others, "there is only one adapter"
    found = imported_by(f"from xframe.adapters import get_adapter\nget_adapter({name!r})")
    assert not found & others
    assert found >= set(known_adapters()[name].requires), "the adapter's own framework was not imported"
