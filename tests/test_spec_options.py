"""What a recurrent layer can be told: what each option takes and refuses, what it comes to in sizes, and the masks."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

from xframe import layout
from xframe.counts import count
from xframe.errors import SpecError
from xframe.layout import Key, State
from xframe.masks import check_mask, from_lengths, is_right_padded
from xframe.spec import Dense, Recurrent, Sequential

FEATURES, UNITS = 3, 5


def layer(cell: str = "lstm", units: int = UNITS, **options: Any) -> Recurrent:
    return Recurrent(cell, FEATURES, units, **options)


def both(cell: str = "lstm", **options: Any) -> Recurrent:
    return layer(cell, bidirectional=True, **options)


def above(cell: str = "gru", features: int = UNITS, units: int = 4, **options: Any) -> Recurrent:
    """A cell that stands on one of `UNITS`."""
    return Recurrent(cell, features, units, **options)


# ---- What is filled in.


@pytest.mark.parametrize(
    ("cell", "activation", "recurrent_activation", "reset_after"),
    [("rnn", "tanh", None, None), ("lstm", "tanh", "sigmoid", None), ("gru", "tanh", "sigmoid", True)],
)
def test_defaults_by_cell(
    cell: str, activation: str, recurrent_activation: str | None, reset_after: bool | None
) -> None:
    spec = layer(cell)
    assert spec.activation == activation
    assert spec.recurrent_activation == recurrent_activation
    assert spec.reset_after is reset_after
    plain = {"num_layers": 1, "bidirectional": False, "bias": True, "proj_size": 0, "merge_mode": "concat"}
    plain |= {"go_backwards": False, "mask": None, "masked_output": None, "stateful": False, "batch_size": None}
    plain |= {"input_dropout": 0.0, "recurrent_dropout": 0.0, "dropout": 0.0, "form": "layer", "backward": None}
    plain |= {"stacked": ()}
    plain |= {"reset_after": reset_after, "activation": activation, "recurrent_activation": recurrent_activation}
    assert spec.options() == plain | {"cell": cell, "input_size": 3, "hidden_size": 5}
    # What was filled in is what could have been given.
    assert Recurrent(**spec.options()) == spec


@pytest.mark.parametrize(
    ("options", "masked_output"),
    [
        ({}, None),
        ({"mask": "right"}, "repeat"),
        ({"mask": "any"}, "repeat"),
        ({"mask": "any", "bidirectional": True}, "zero"),
        ({"mask": "right", "bidirectional": True, "merge_mode": "sum"}, "zero"),
        ({"mask": "right", "masked_output": "zero"}, "zero"),
        ({"mask": "any", "masked_output": "repeat", "bidirectional": True}, "repeat"),
    ],
)
def test_masked_output(options: dict[str, Any], masked_output: str | None) -> None:
    assert layer(**options).masked_output == masked_output


def test_a_backward_layer_that_does_not_differ_is_none() -> None:
    assert both(backward=layer()) == both()
    assert both(backward=layer()).backward is None
    assert hash(both(backward=layer())) == hash(both())
    # Defaults that were filled in are no difference.
    assert both("gru", backward=layer("gru", reset_after=True, activation="tanh")) == both("gru")
    assert both("gru", activation="relu", backward=layer("gru")).backward == layer("gru")


@pytest.mark.parametrize(
    "different",
    [
        {"cell": "gru"},
        {"hidden_size": 4},
        {"bias": False},
        {"activation": "softsign"},
        {"recurrent_activation": "hard_sigmoid"},
        {"proj_size": 2},
        {"input_dropout": 0.25},
        {"recurrent_dropout": 0.5},
    ],
    ids=str,
)
def test_what_may_differ_between_directions(different: dict[str, Any]) -> None:
    other = Recurrent(**{"cell": "lstm", "input_size": FEATURES, "hidden_size": UNITS} | different)
    spec = both(backward=other)
    assert spec.backward == other
    assert spec.part(0) is spec
    assert spec.part(1) is other
    assert spec != both()
    assert "backward" in str(spec)


@pytest.mark.parametrize("spec", [layer(), both(), layer("gru", num_layers=2), both("rnn", merge_mode="mul")], ids=str)
def test_the_part_of_a_direction_is_the_spec_where_nothing_differs(spec: Recurrent) -> None:
    assert all(spec.part(d) is spec for d in range(spec.num_directions))


def test_reset_after_may_differ() -> None:
    spec = both("gru", backward=layer("gru", reset_after=False))
    assert (spec.part(0).reset_after, spec.part(1).reset_after) == (True, False)


def test_specs_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        layer().mask = "any"  # type: ignore[misc]


# ---- What is refused. Each sentence names the option, and ends.

REFUSED: list[tuple[dict[str, Any], str]] = [
    # Types and ranges.
    ({"cell": "lstn"}, "Unknown cell 'lstn'; the cells are rnn, gru, lstm"),
    ({"cell": "dense"}, "'dense' is not a recurrent cell"),
    ({"cell": ["lstm"]}, "Unknown cell"),
    ({"num_layers": 0}, "num_layers must be from 1 to 1,000, not 0"),
    ({"num_layers": 1001}, "num_layers must be from 1 to 1,000, not 1,001"),
    ({"num_layers": 2.0}, "num_layers must be a whole number, not 2.0"),
    ({"num_layers": True}, "num_layers must be a whole number, not True"),
    ({"bidirectional": 1}, "bidirectional must be True or False, not 1"),
    ({"bias": None}, "bias must be True or False, not None"),
    ({"go_backwards": "yes"}, "go_backwards must be True or False, not 'yes'"),
    ({"stateful": 1, "batch_size": 4}, "stateful must be True or False, not 1"),
    ({"cell": "gru", "reset_after": 1}, "reset_after must be True or False, not 1"),
    ({"cell": "gru", "reset_after": "after"}, "reset_after must be True or False, not 'after'"),
    ({"reset_after": True}, "reset_after is not an option of the lstm; leave it out"),
    ({"cell": "rnn", "recurrent_activation": "sigmoid"}, "recurrent_activation is not an option of the rnn"),
    ({"activation": "tahn"}, "activation of the lstm must be an activation function, not 'tahn'; did you mean 'tanh'"),
    ({"recurrent_activation": len}, "recurrent_activation of the lstm must be the name of an activation function"),
    # Projections.
    ({"proj_size": -1}, "proj_size must be from 0"),
    ({"proj_size": 5}, r"proj_size must be smaller than hidden_size \(5\), not 5"),
    ({"cell": "gru", "proj_size": 2}, "proj_size is an option of the lstm; the gru has no projection"),
    # Directions.
    ({"bidirectional": True, "merge_mode": "max"}, "merge_mode must be 'concat' or 'sum' or 'mul' or 'ave' or None"),
    ({"merge_mode": "sum"}, "merge_mode='sum' goes with bidirectional=True"),
    ({"merge_mode": None}, "merge_mode=None goes with bidirectional=True"),
    ({"bidirectional": True, "merge_mode": None, "num_layers": 2}, "no second layer can read the two outputs"),
    # Masks.
    ({"mask": True}, "mask must be None or 'right' or 'any', not True"),
    ({"mask": "left"}, "mask must be None or 'right' or 'any', not 'left'"),
    ({"mask": "any", "masked_output": "keep"}, "masked_output must be None or 'repeat' or 'zero', not 'keep'"),
    ({"masked_output": "zero"}, "masked_output goes with a mask"),
    # States.
    ({"stateful": True}, "stateful=True needs a batch_size"),
    ({"batch_size": 4}, "stateful=False goes without a batch_size"),
    ({"stateful": True, "batch_size": 0}, "batch_size must be from 1"),
    ({"stateful": True, "batch_size": 4.0}, "batch_size must be a whole number"),
    ({"stateful": True, "batch_size": True}, "batch_size must be a whole number"),
    # Dropout.
    ({"input_dropout": 1.0}, "input_dropout must be a rate from 0 to less than 1, not 1.0"),
    ({"input_dropout": -0.1}, "input_dropout must be a rate"),
    ({"recurrent_dropout": "0.5"}, "recurrent_dropout must be a rate"),
    ({"recurrent_dropout": float("nan")}, "recurrent_dropout must be a rate"),
    ({"dropout": True, "num_layers": 2}, "dropout must be a rate"),
    ({"dropout": 0.5}, "dropout acts between the layers of a stack, and this one has one layer"),
    # Bare cells.
    ({"form": "module"}, "form must be 'layer' or 'cell', not 'module'"),
    ({"form": "cell", "num_layers": 2}, "A bare cell has no num_layers=2"),
    ({"form": "cell", "bidirectional": True}, "A bare cell has no bidirectional=True"),
    ({"form": "cell", "go_backwards": True}, "A bare cell has no go_backwards=True"),
    ({"form": "cell", "mask": "right"}, "A bare cell has no mask='right'"),
    ({"form": "cell", "stateful": True, "batch_size": 2}, "A bare cell has no stateful=True"),
    # Backward layers.
    ({"backward": layer()}, "goes with bidirectional=True and num_layers=1"),
    (
        {"backward": layer("gru"), "bidirectional": True, "num_layers": 2},
        "goes with bidirectional=True and num_layers=1",
    ),
    ({"backward": "gru", "bidirectional": True}, "backward must be a Recurrent, not 'gru'"),
    ({"backward": Dense(3, 5), "bidirectional": True}, "backward must be a Recurrent, not Dense"),
    # Stacked cells.
    ({"stacked": [above()]}, "stacked must be a tuple of Recurrents, not .*Recurrent"),
    ({"stacked": ("gru",)}, "stacked must be a tuple of Recurrents"),
    ({"stacked": (Dense(5, 4),)}, "stacked must be a tuple of Recurrents"),
    ({"stacked": (above(),), "num_layers": 2}, "two ways to stack; use num_layers=1"),
    ({"stacked": (layer("gru"),)}, "A stacked cell has input_size=3, .*give 5 there"),
    ({"stacked": (above(), above())}, "A stacked cell has input_size=5, .*give 4 there"),
    ({"proj_size": 2, "stacked": (above(),)}, "A stacked cell has input_size=5, .*give 2 there"),
    (
        {"stacked": (above(go_backwards=True),)},
        "A stacked cell has go_backwards=True, which cannot differ from the rest",
    ),
    ({"stacked": (above(mask="any"),), "mask": "any"}, "A stacked cell has mask='any'"),
    ({"stacked": (above(num_layers=2),)}, "A stacked cell has num_layers=2"),
    ({"stacked": (above(stacked=(Recurrent("rnn", 4, 2),)),)}, "A stacked cell has stacked="),
    ({"stacked": (above(),), "form": "cell"}, "A bare cell has no stacked="),
    ({"stacked": (above(),), "dropout": 0.5}, "dropout acts between the layers"),
    ({"stacked": (above(),) * 1_000}, "num_layers, with the stacked cells, must be from 1 to 1,000"),
    (
        {"stacked": (above(),), "bidirectional": True, "merge_mode": "sum", "backward": layer("gru")},
        "merge_mode='sum' needs directions of one size, not 4 and 5",
    ),
    (
        {"bidirectional": True, "backward": layer("gru", num_layers=2, dropout=0.5)},
        "backward has dropout=0.5, which cannot differ",
    ),
]
# What the backward layer has from the forward one.
for options in (
    {"bidirectional": True},
    {"go_backwards": True},
    {"mask": "any"},
    {"stateful": True, "batch_size": 4},
    {"form": "cell"},
):
    name, value = next(iter(options.items()))
    REFUSED.append(
        (
            {"backward": layer("gru", **options), "bidirectional": True},
            f"backward has {name}={value!r}, which cannot differ",
        )
    )
REFUSED.append(({"backward": Recurrent("gru", 4, 5), "bidirectional": True}, "backward has input_size=4.*give 3 there"))
for mode in ("sum", "mul", "ave"):
    for other, size in ((layer("gru", 4), 4), (layer("lstm", 9, proj_size=2), 2)):
        REFUSED.append(
            (
                {"backward": other, "bidirectional": True, "merge_mode": mode},
                f"merge_mode='{mode}' needs directions of one size, not 5 and {size}",
            )
        )


@pytest.mark.parametrize(("options", "words"), REFUSED, ids=[words[:60] for _, words in REFUSED])
def test_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words) as error:
        Recurrent(**{"cell": "lstm", "input_size": FEATURES, "hidden_size": UNITS} | options)
    assert str(error.value).endswith((".", "?"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["input_size", "hidden_size"])
@pytest.mark.parametrize("value", [0, -1, 1_000_001, 2.0, "3", None, True])
def test_sizes(name: str, value: Any) -> None:
    with pytest.raises(SpecError, match=f"{name} must be"):
        Recurrent(**{"cell": "gru", "input_size": 3, "hidden_size": 5, name: value})


@pytest.mark.parametrize(
    "options",
    [
        {"merge_mode": None, "bidirectional": True},
        {"mask": "any", "masked_output": "zero", "go_backwards": True, "num_layers": 2},
        {"stateful": True, "batch_size": 1, "bidirectional": True, "mask": "right"},
        {"input_dropout": 0, "recurrent_dropout": 0.999, "dropout": 0.5, "num_layers": 2},
        {"form": "cell", "input_dropout": 0.5, "recurrent_dropout": 0.5, "bias": False, "activation": "relu"},
        {"proj_size": 4, "num_layers": 2, "bidirectional": True, "merge_mode": "mul"},
        {"bidirectional": True, "merge_mode": "sum", "backward": layer("lstm", 9, proj_size=5), "mask": "any"},
        {"stacked": (above(), above("lstm", 4, 7)), "mask": "any", "stateful": True, "batch_size": 2},
        {"stacked": (above("lstm", 5, 5),), "go_backwards": True},
        {"stacked": (above("lstm", 5, 5),), "bidirectional": True, "merge_mode": None},
        {"stacked": (above("lstm", 5, 5, bias=False),)},
        {"stacked": (above(),), "bidirectional": True, "merge_mode": "mul", "backward": layer("rnn", 4, num_layers=3)},
    ],
    ids=str,
)
def test_accepted(options: dict[str, Any]) -> None:
    spec = layer(**options)
    assert all(getattr(spec, name) == value for name, value in options.items())
    assert Recurrent(**spec.options()) == spec


def test_a_one_way_stack_of_like_cells_is_a_number_of_layers() -> None:
    like = Recurrent("lstm", 5, 5, input_dropout=0.5)
    assert layer(input_dropout=0.5, stacked=(like, like)) == layer(input_dropout=0.5, num_layers=3)
    projected = Recurrent("lstm", 2, 5, proj_size=2)
    assert layer(proj_size=2, stacked=(projected,)) == layer(proj_size=2, num_layers=2)
    assert layer(stacked=(like,)).stacked == (like,)


def test_a_backward_stack_that_does_not_differ_is_none() -> None:
    like = Recurrent("lstm", 5, 5)
    spec = both(stacked=(like, like))
    assert both(stacked=(like, like), backward=layer(num_layers=3)) == spec
    assert both(stacked=(like, like), backward=layer(num_layers=2)).backward == layer(num_layers=2)
    assert both(backward=layer(num_layers=2)).backward == layer(num_layers=2)
    unlike = both(stacked=(above(),), backward=layer(stacked=(above(),)))
    assert unlike == both(stacked=(above(),))


def test_columns_and_places() -> None:
    spec = both(stacked=(above(),), backward=layer("gru", num_layers=3))
    assert [spec.depth(d) for d in (0, 1)] == [2, 3]
    assert list(spec.places) == [(0, 0), (1, 0), (0, 1), (1, 1), (2, 1)]
    assert [spec.part(0, k).cell for k in range(2)] == ["lstm", "gru"]
    assert [spec.part(1, k) for k in (1, 2)] == [Recurrent("gru", 5, 5)] * 2
    assert [spec.layer_input_size(k, 1) for k in range(3)] == [3, 5, 5]
    assert list(both(num_layers=2).places) == [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "LSTM(5) on 3 features"),
        (
            {"stacked": (above(), above("rnn", 4, 2)), "go_backwards": True},
            "LSTM(5) on 3 features, stacked with GRU(4) on 5 features, reset after, stacked with SimpleRNN(2) on 4 features, "
            "go_backwards",
        ),
        ({"bidirectional": True, "merge_mode": None}, "LSTM(5) on 3 features, bidirectional (not merged)"),
        ({"bidirectional": True, "merge_mode": "ave"}, "LSTM(5) on 3 features, bidirectional (ave)"),
        ({"go_backwards": True, "mask": "any"}, "LSTM(5) on 3 features, go_backwards, mask any (repeat)"),
        ({"stateful": True, "batch_size": 4}, "LSTM(5) on 3 features, stateful (batch 4)"),
        ({"form": "cell", "recurrent_dropout": 0.25}, "LSTM(5) on 3 features, bare cell, recurrent_dropout 0.25"),
        (
            {"activation": "gelu", "recurrent_activation": "hard_sigmoid"},
            "LSTM(5) on 3 features, gelu, gates hard_sigmoid",
        ),
        (
            {"bidirectional": True, "backward": layer("gru", 4)},
            "LSTM(5) on 3 features, bidirectional, backward GRU(4) on 3 features, reset after",
        ),
    ],
)
def test_in_words(options: dict[str, Any], words: str) -> None:
    assert str(layer(**options)) == words


# ---- Sizes.

OUTPUTS = [
    (layer(), 5),
    (layer(proj_size=2), 2),
    (both(), 10),
    (both(merge_mode=None), 10),
    (both(merge_mode="sum"), 5),
    (both(merge_mode="mul"), 5),
    (both(merge_mode="ave", proj_size=2), 2),
    (both(proj_size=2), 4),
    (both(backward=layer("gru", 4)), 9),
    (both(backward=layer("lstm", 9, proj_size=3), merge_mode=None), 8),
    (both(backward=layer("lstm", 9, proj_size=5), merge_mode="sum"), 5),
]


@pytest.mark.parametrize(("spec", "size"), OUTPUTS, ids=lambda v: str(v))
def test_output_size(spec: Recurrent, size: int) -> None:
    assert spec.output_size == size
    assert Sequential(spec, Dense(size, 2))
    with pytest.raises(SpecError, match="cannot follow"):
        Sequential(spec, Dense(size + 1, 2))


@pytest.mark.parametrize(
    ("spec", "inputs"),
    [
        (layer(num_layers=3), [3, 5, 5]),
        (both(num_layers=3), [3, 10, 10]),
        (both(num_layers=3, merge_mode="sum"), [3, 5, 5]),
        (both(num_layers=3, proj_size=2), [3, 4, 4]),
        (both(num_layers=3, proj_size=2, merge_mode="ave"), [3, 2, 2]),
    ],
    ids=str,
)
def test_what_each_layer_reads(spec: Recurrent, inputs: list[int]) -> None:
    assert [spec.layer_input_size(k) for k in range(3)] == inputs
    shapes = [layout.block_shape(spec, Key(k, spec.num_directions - 1, "kernel", "f")) for k in range(3)]
    assert shapes == [(size, 5) for size in inputs]


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (layer("gru"), {"h": State("h", (0,), (0,), 5)}),
        (layer(proj_size=2), {"h": State("h", (0,), (0,), 2), "c": State("c", (0,), (0,), 5)}),
        (both("rnn", merge_mode="sum"), {"h": State("h", (0,), (0, 1), 5)}),
        (both(), {"h": State("h", (0,), (0, 1), 5), "c": State("c", (0,), (0, 1), 5)}),
        # Of one size and kind: the states of both directions stand together.
        (both("gru", backward=layer("rnn")), {"h": State("h", (0,), (0, 1), 5)}),
        (
            both("gru", backward=layer("gru", 4)),
            {"h": State("h", (0,), (0,), 5), "backward h": State("h", (0,), (1,), 4)},
        ),
        (
            both(backward=layer("gru")),
            {"h": State("h", (0,), (0,), 5), "c": State("c", (0,), (0,), 5), "backward h": State("h", (0,), (1,), 5)},
        ),
        (
            both("rnn", backward=layer("lstm", 7, proj_size=3)),
            {
                "h": State("h", (0,), (0,), 5),
                "backward h": State("h", (0,), (1,), 3),
                "backward c": State("c", (0,), (1,), 7),
            },
        ),
        (layer("gru", num_layers=3), {"h": State("h", (0, 1, 2), (0,), 5)}),
        # Of one size: the states of all cells stand together.
        (layer("gru", stacked=(Recurrent("rnn", 5, 5),)), {"h": State("h", (0, 1), (0,), 5)}),
        (both("gru", stacked=(Recurrent("rnn", 5, 5),)), {"h": State("h", (0, 1), (0, 1), 5)}),
        (
            layer("gru", stacked=(above("lstm"),)),
            {
                "layer 0 h": State("h", (0,), (0,), 5),
                "layer 1 h": State("h", (1,), (0,), 4),
                "layer 1 c": State("c", (1,), (0,), 4),
            },
        ),
        (
            both("gru", stacked=(above(),)),
            {"layer 0 h": State("h", (0,), (0, 1), 5), "layer 1 h": State("h", (1,), (0, 1), 4)},
        ),
        (
            both("gru", backward=layer("gru", num_layers=2)),
            {"h": State("h", (0,), (0,), 5), "backward h": State("h", (0, 1), (1,), 5)},
        ),
        (
            both("gru", stacked=(above(),), backward=layer("rnn", 6)),
            {
                "layer 0 h": State("h", (0,), (0,), 5),
                "layer 1 h": State("h", (1,), (0,), 4),
                "backward layer 0 h": State("h", (0,), (1,), 6),
            },
        ),
        (Dense(3, 5), {}),
    ],
    ids=lambda v: str(v) if isinstance(v, Recurrent | Dense) else "",
)
def test_states(spec: Any, wanted: dict[str, State]) -> None:
    assert list(layout.states(spec).items()) == list(wanted.items())


def test_the_blocks_of_directions_that_differ() -> None:
    spec = both(proj_size=2, backward=layer("gru", 4, bias=False), merge_mode=None)
    forward = {"kernel": (3, 5), "recurrent_kernel": (2, 5), "bias": (5,), "recurrent_bias": (5,)}
    backward = {"kernel": (3, 4), "recurrent_kernel": (4, 4)}
    wanted: dict[Key, tuple[int, ...]] = {Key(0, 0, "projection", ""): (5, 2)}
    wanted |= {Key(0, 0, role, g): shape for role, shape in forward.items() for g in "ifgo"}
    wanted |= {Key(0, 1, role, g): shape for role, shape in backward.items() for g in "rzn"}
    found = layout.keys(spec)
    assert len(found) == len(set(found))
    assert {key: layout.block_shape(spec, key) for key in found} == wanted


# ---- Counts, worked out with the formulas of FACTS: per layer and direction g(n² + nd + n) in Keras, g(n² + nd + 2n) in
# PyTorch, 3(n² + nd + 2n) for a GRU that resets after the product in both, 4n(d + p + 2) + pn with a projection.

COUNTS = [
    # 2 * 4(25 + 15 + b) + 2 * 2 * 4(25 + 25 + b) with b = 5 or 10: the next layer reads 5.
    (both(num_layers=3, merge_mode="sum"), 1240, 1360, 1240),
    (both(num_layers=3, merge_mode="mul"), 1240, 1360, 1240),
    (both(num_layers=3, merge_mode="ave"), 1240, 1360, 1240),
    # 2 * 4(25 + 15 + b) + 2 * 2 * 4(25 + 50 + b): it reads 10.
    (both(num_layers=3), 1640, 1760, 1640),
    (both(merge_mode=None), 360, 400, 360),
    # 2(4 * 5(3 + 2 + b) + 10 + 4 * 5(2 + 2 + b) + 10) with b = 1 or 2; then with 4 for the layer below.
    (both(proj_size=2, num_layers=2, merge_mode="ave"), 480, 560, 480),
    (both(proj_size=2, num_layers=2), 560, 640, 560),
    # 2 * 3(25 + 15 + 10) + 2 * 3(25 + 25 + 10); effective 2(120 + 20) + 2(150 + 20).
    (both("gru", num_layers=2, merge_mode="ave"), 660, 660, 620),
    # No biases: 2 * 4(25 + 15) + 2 * 4(25 + 25).
    (both(bias=False, num_layers=2, merge_mode="sum"), 720, 720, 720),
    # Directions that differ: 4(25 + 15 + b) and 3(16 + 12 + 8); effective 180 and 3(16 + 12) + 16.
    (both(backward=layer("gru", 4)), 288, 308, 280),
    # 25 + 15 + b, and 4 * 7(3 + 3 + b) + 21.
    (both("rnn", backward=layer("lstm", 7, proj_size=3), merge_mode=None), 262, 295, 262),
    # 3(25 + 15 + 10) and 25 + 15 + b.
    (both("gru", backward=layer("rnn"), merge_mode="mul"), 195, 200, 185),
    # 3(25 + 15 + 10), and 3(25 + 15 + 5) where the reset comes before the product; PyTorch stores two biases for both.
    (both("gru", backward=layer("gru", reset_after=False)), 285, 300, 275),
    # Stacked cells: 4(25 + 15 + b), and 3(16 + 20 + 8) on it; effective 180 and 3(16 + 20) + 16.
    (layer(stacked=(above(),)), 312, 332, 304),
    (both(stacked=(above(),), merge_mode="sum"), 624, 664, 608),
    # 4(25 + 15 + b) and 4(25 + 25 + b): each cell reads one direction. Beside it 3(9 + 9 + 6) and again.
    (both(stacked=(Recurrent("lstm", 5, 5),)), 800, 880, 800),
    (both(stacked=(Recurrent("lstm", 5, 5),), backward=layer("gru", 3, num_layers=2)), 544, 584, 532),
    # What changes nothing.
    (layer("gru", go_backwards=True, mask="any", stateful=True, batch_size=2), 150, 150, 140),
    (layer("gru", form="cell"), 150, 150, 140),
    # 2 * 150, which puts out 5, and 4(16 + 20 + b) on it.
    (Sequential(both("gru", merge_mode="sum"), Recurrent("lstm", 5, 4)), 460, 476, 440),
]


@pytest.mark.parametrize(
    ("spec", "keras", "torch", "effective"), COUNTS, ids=lambda v: str(v) if isinstance(v, Recurrent) else ""
)
def test_counts(spec: Any, keras: int, torch: int, effective: int) -> None:
    found = count(spec)
    assert {name: found[name].stored for name in ("keras", "torch")} == {"keras": keras, "torch": torch}
    assert {name: found[name].effective for name in ("keras", "torch")} == {"keras": effective, "torch": effective}
    for name in ("keras", "torch"):
        # The numbers in the formula come to what is stored, and the tensors hold it.
        assert eval(found[name].arithmetic) == found[name].stored
        assert sum(t.count for t in found[name].tensors) == found[name].stored


def test_a_merge_that_was_taken_for_another_is_seen() -> None:
    for spec, keras, _, _ in COUNTS[:3]:
        assert count(replace(spec, merge_mode="concat"))["keras"].stored != keras


# ---- Masks.


def test_from_lengths() -> None:
    wanted = [[True, False, False, False], [True, True, True, True], [True, True, True, False]]
    for lengths in ([1, 4, 3], np.array([1, 4, 3]), np.array([1, 4, 3], np.uint8), (1, 4, 3)):
        mask = from_lengths(lengths, 4)
        assert mask.tolist() == wanted
        assert mask.dtype == bool
        assert is_right_padded(mask)


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        ([1, 5, 2], "A length must be from 1 to the number of time steps, 4, not 5"),
        ([1, 0, 2], "from 1 to the number of time steps, 4, not 0; leave out a sequence without a valid step"),
        ([3, -1], "not -1"),
        ([1.0, 2.0], "lengths must be a list of whole numbers"),
        ([True, False], "lengths must be a list of whole numbers"),
        ([[1, 2]], "lengths must be a list of whole numbers"),
        ([], "lengths must be a list of whole numbers"),
        (3, "lengths must be a list of whole numbers"),
        (["1"], "lengths must be a list of whole numbers"),
    ],
)
def test_wrong_lengths(lengths: Any, words: str) -> None:
    with pytest.raises(SpecError, match=words) as error:
        from_lengths(lengths, 4)
    assert str(error.value).endswith(".")


@pytest.mark.parametrize(
    ("rows", "right"),
    [
        ([[1, 1, 1], [1, 0, 0]], True),
        ([[1, 1, 1], [0, 0, 0]], False),
        ([[1, 1, 1], [0, 1, 1]], False),
        ([[1, 0, 1], [1, 1, 1]], False),
        ([[1], [1]], True),
        ([[1], [0]], False),
    ],
)
def test_is_right_padded(rows: list[list[int]], right: bool) -> None:
    assert is_right_padded(np.array(rows, bool)) is right


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.ones((2, 4), int), "must be a NumPy array of type bool, True at valid time steps, not int64"),
        (np.ones((2, 4), np.float32), "not float32"),
        ([[True] * 4] * 2, "not list"),
        (None, "not NoneType"),
        (np.ones((4, 2), bool), r"A mask must be \(batch, time\) = \(2, 4\), not \(4, 2\)"),
        (np.ones((2, 3), bool), r"= \(2, 4\), not \(2, 3\)"),
        (np.ones((2, 4, 3), bool), r"= \(2, 4\), not \(2, 4, 3\)"),
        (np.ones(4, bool), r"= \(2, 4\), not \(4,\)"),
    ],
)
def test_wrong_masks(mask: Any, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        check_mask(mask, np.ones((2, 4, 3)))


def test_a_mask_that_fits() -> None:
    mask = np.array([[True, False, True, False], [False] * 4])
    assert check_mask(mask, np.ones((2, 4, 3))) is mask
