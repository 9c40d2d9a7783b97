"""Ports by hand, in which each two biases became one in float32: compare and diagnose name the mistake that was made.

The sum is rounded, which a copy in float64 shows. That is no mistake, and hides none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers import signal, start, weights

from xframe import Recurrent, compare
from xframe.adapters import get_adapter
from xframe.diagnosis import Diagnosis, diagnose
from xframe.diagnosis.naming import differing
from xframe.layout import Key, folds
from xframe.mistakes import CATALOGUE, Case, Variation
from xframe.reference import Given

SPECS = {
    "lstm": Recurrent("lstm", 5, 7),
    "gru": Recurrent("gru", 5, 7),
    "rnn": Recurrent("rnn", 5, 7),
    "lstm, square": Recurrent("lstm", 6, 6),
    "gru, two layers": Recurrent("gru", 5, 5, num_layers=2),
    "lstm, both": Recurrent("lstm", 4, 6, bidirectional=True),
}
# Where an earlier principle named something else: these always run.
QUICK = {
    ("lstm", "recurrent kernel not transposed"),
    ("lstm", "forget bias of 1 added"),
    ("gru", "candidate's biases added on one side"),
    ("gru, two layers", "the biases of layer 0 in layer 1 too"),
}


def case_of(spec: Recurrent) -> Case:
    given = Given(signal(spec, 1, "float32", steps=9), start(spec, 2, "float32"))
    return Case(spec, weights(spec, 4, "float32"), given.astype("float64"))


def planted() -> Iterator[Any]:
    """Every mistake in parameters that changes any."""
    for name, spec in SPECS.items():
        case = case_of(spec)
        for variation in (v for m in CATALOGUE for v in m.vary(case)):
            changed = variation.change(case)
            same = changed.spec is case.spec and changed.given is case.given and not changed.after
            if same and any(not np.array_equal(block, case.params[key]) for key, block in changed.params.items()):
                slow = [] if (name, variation.name) in QUICK else [pytest.mark.slow]
                yield pytest.param(name, variation, marks=slow, id=f"{name}: {variation.name}")


def ported(spec: Recurrent, params: Mapping[Key, np.ndarray]) -> dict[Key, np.ndarray]:
    """The parameters in float32, with the sum of each two biases that are only ever added."""
    found = {key: block.astype(np.float32) for key, block in params.items()}
    for key in [key for key in found if key.role == "recurrent_bias" and folds(spec, key)]:
        found[key._replace(role="bias")] = found[key._replace(role="bias")] + found[key]
        found[key] = np.zeros_like(found[key])
    return found


def names(found: Diagnosis) -> list[str]:
    return [fault.name for fault in found.causes[0].faults] if found.causes else [found.status]


@pytest.mark.parametrize(("name", "variation"), list(planted()))
def test_what_was_done_in_a_port_by_hand_is_named_by_both(name: str, variation: Variation) -> None:
    spec, case = SPECS[name], case_of(SPECS[name])
    right = get_adapter("torch").build_loaded(spec, case.params, "float32")
    port = get_adapter("torch").build_loaded(spec, ported(spec, variation.change(case).params), "float32")
    verdict, found = compare(right, port), diagnose(right, port)
    assert isinstance(found, Diagnosis)
    assert verdict.diagnosis is not None
    assert names(verdict.diagnosis) == names(found)
    if names(found) != [variation.name]:
        other = next(v for m in CATALOGUE for v in m.vary(case) if [v.name] == names(found))
        shown = [["sequence"]]
        assert not differing([variation], [[other]], [replace(case, given=Given(case.given.x))], shown)


@pytest.mark.parametrize("name", SPECS)
def test_a_right_port_is_no_mistake(name: str) -> None:
    spec, case = SPECS[name], case_of(SPECS[name])
    right = get_adapter("torch").build_loaded(spec, case.params, "float32")
    port = get_adapter("torch").build_loaded(spec, ported(spec, case.params), "float32")
    assert compare(right, port)
    assert diagnose(right, port)


def test_a_port_to_keras() -> None:
    """As it is written: the gates in Keras's order, the biases added."""
    import keras

    spec, case = SPECS["gru"], case_of(SPECS["gru"])
    right = get_adapter("torch").build_loaded(spec, case.params, "float32")
    w, u, a, b = (p.detach().numpy() for p in right.parameters())

    def zrh(array: np.ndarray) -> np.ndarray:
        return np.concatenate([np.split(array, 3, -1)[i] for i in (1, 0, 2)], -1)

    port = keras.layers.GRU(7, return_sequences=True)
    port.build((None, None, 5))
    port.set_weights([zrh(w.T), zrh(u.T), np.stack([zrh(a + b), 0 * a])])
    verdict, found = compare(right, port), diagnose(right, port)
    assert verdict.diagnosis is not None
    assert isinstance(found, Diagnosis)
    assert names(verdict.diagnosis) == names(found) == ["candidate's biases added on one side"]
