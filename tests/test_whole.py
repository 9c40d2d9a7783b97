"""Two whole models of the same layers: what runs between them is compared, too, or it is said that it is not."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator

import xframe
from xframe.report import json as fields
from xframe.report import schema
from xframe.whole import Off

layers = keras.layers


def filled(steps: Sequence[Any], shape: tuple[int | None, ...] = (None, 4), seed: int = 0) -> Any:
    """A Keras model of these layers, every number of it distinct and not zero."""
    model = keras.Sequential([keras.Input(shape), *steps])
    random = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(
            random.uniform(0.1, 0.6, variable.shape)
            * random.choice([-1, 1] if "seed" not in variable.name else [1], variable.shape)
        )
        if "variance" in variable.name:
            variable.assign(np.abs(variable.numpy()))
    return model


def recurrent(*others: Any, sequence: bool = False) -> Any:
    return filled([layers.GRU(5, return_sequences=True), *others, layers.LSTM(3, return_sequences=sequence)])


def words(*, mask_zero: bool) -> Any:
    return filled([layers.Embedding(7, 4, mask_zero=mask_zero), layers.LSTM(3)], (None,))


def dense(*others: Any) -> Any:
    return filled([layers.Dense(5), *others, layers.Dense(3)], (4,))


# What the one model has, what the other has, the option as a diagnosis names it, and its entry of the catalogue.
SLIPS: dict[str, tuple[Callable[[], Any], Callable[[], Any], str, str]] = {
    "epsilon of a batch normalisation": (
        lambda: recurrent(layers.BatchNormalization(epsilon=1e-3)),
        lambda: recurrent(layers.BatchNormalization(epsilon=1e-5)),
        "epsilon=1e-05 instead of 0.001",
        "epsilon",
    ),
    "epsilon of a layer normalisation": (
        lambda: dense(layers.LayerNormalization(epsilon=1e-3)),
        lambda: dense(layers.LayerNormalization(epsilon=1e-6)),
        "epsilon=1e-06 instead of 0.001",
        "epsilon",
    ),
    "activation": (
        lambda: dense(layers.Activation("tanh")),
        lambda: dense(layers.Activation("relu")),
        "activation=relu instead of tanh",
        "activation between layers",
    ),
    "slope": (
        lambda: dense(layers.LeakyReLU(negative_slope=0.3)),
        lambda: dense(layers.LeakyReLU(negative_slope=0.01)),
        "activation=leaky_relu(negative_slope=0.01) instead of leaky_relu(negative_slope=0.3)",
        "activation between layers",
    ),
    "mask of an embedding": (
        lambda: words(mask_zero=True),
        lambda: words(mask_zero=False),
        "mask_zero=False instead of True",
        "mask of an embedding",
    ),
    "value that is masked": (
        lambda: filled([layers.Masking(0.0), layers.LSTM(3)]),
        lambda: filled([layers.Masking(-1.0), layers.LSTM(3)]),
        "value=-1.0 instead of 0.0",
        "option of a step",
    ),
    "last output only": (
        lambda: recurrent(sequence=True),
        lambda: recurrent(sequence=False),
        "return_sequences=False instead of True",
        "whole sequence",
    ),
    "kind of pooling": (
        lambda: recurrent(layers.Conv1D(4, 3, padding="causal"), sequence=False),
        lambda: recurrent(layers.Conv1D(4, 3, padding="same"), sequence=False),
        "padding='same' instead of 'causal'",
        "option of a step",
    ),
}


@pytest.mark.parametrize("name", SLIPS)
def test_an_option_of_a_step_is_named(name: str, tmp_path: Path) -> None:
    one, other, option, entry = SLIPS[name]
    a, b = one(), other()
    found = xframe.verify(a, b)
    assert all(pair.status == "equivalent" for pair in found.pairs)
    assert found.status == "different"
    assert found.reason.startswith("The layers are the same, but ")
    diagnosis = found.diagnosis
    assert diagnosis is not None
    assert diagnosis.status == "explained"
    (cause,) = diagnosis.causes
    (fault,) = cause.faults
    assert (fault.entry, fault.name.partition(" in ")[0]) == (entry, option)
    wanted, got = option.partition("=")[2].split(" instead of ")[::-1]
    assert fault.mend.endswith(f"={wanted}, as the first model has it.")
    assert got in fault.name
    # As files, too, and the model of the first option is equivalent to itself.
    for which, model in (("a", a), ("again", one()), ("b", b)):
        model.save(tmp_path / f"{which}.keras")
    from_file = xframe.verify(tmp_path / "a.keras", tmp_path / "b.keras")
    assert from_file.status == "different"
    assert from_file.diagnosis is not None
    assert option in from_file.diagnosis.reason
    again = xframe.diagnose(tmp_path / "a.keras", tmp_path / "b.keras")
    assert again.status == "explained"
    assert option in again.reason
    mended = xframe.verify(tmp_path / "a.keras", tmp_path / "again.keras")
    assert mended.status == "equivalent", mended.reason
    assert mended.diagnosis is None
    assert mended.scope == "model"
    assert "Both whole models were run on" in mended.reason


def test_how_far_they_are_apart_is_what_keras_puts_out() -> None:
    a, b = (dense(layers.LayerNormalization(epsilon=epsilon)) for epsilon in (1e-3, 1e-1))
    found = xframe.verify(a, b).whole
    assert found is not None
    assert found.off is not None
    assert found.mended is not None
    x = np.random.default_rng(1).uniform(-1.5, 1.5, (64, 4)).astype("float32")
    apart = float(np.abs(a.predict(x, verbose=0) - b.predict(x, verbose=0)).max())
    assert apart / 20 < found.off.max_abs < apart * 20
    assert found.off.noise_ratio > 1000
    assert found.mended.noise_ratio < 1e-6


def test_slips_of_one_kind_are_one_fault() -> None:
    def model(epsilon: float) -> Any:
        return filled(
            [
                layers.Dense(5),
                layers.BatchNormalization(epsilon=epsilon),
                layers.Dense(3),
                layers.LayerNormalization(epsilon=epsilon),
            ],
            (4,),
        )

    diagnosis = xframe.verify(model(1e-3), model(1e-5)).diagnosis
    assert diagnosis is not None
    (fault,) = diagnosis.causes[0].faults
    assert " and " in fault.name.partition(" in ")[2]


def test_two_slips_of_two_kinds() -> None:
    def model(epsilon: float, activation: str) -> Any:
        return dense(layers.LayerNormalization(epsilon=epsilon), layers.Activation(activation))

    diagnosis = xframe.diagnose(model(1e-3, "tanh"), model(1e-1, "sigmoid"))
    part = diagnosis.parts[-1]
    assert part.status == "explained"
    assert [fault.entry for fault in part.causes[0].faults] == ["epsilon", "activation between layers"]


def test_a_step_that_only_one_has() -> None:
    found = xframe.verify(filled([layers.Masking(), layers.LSTM(3)]), filled([layers.LSTM(3)]))
    assert found.status == "different"
    assert re.search(r"the first model has masking\w* \(masking\), for which the second has none", found.reason)
    other = xframe.verify(filled([layers.LSTM(3)]), filled([layers.Masking(), layers.LSTM(3)]))
    assert other.status == "different"
    assert re.search(r"the second model has masking\w* \(masking\), for which the first has none", other.reason)
    assert other.diagnosis is not None
    assert other.diagnosis.status == "unexplained"


def test_an_option_without_effect_is_not_blamed_for_another_difference() -> None:
    def model(*front: Any, bound: float | None) -> Any:
        return filled([*front, layers.LSTM(3), layers.Dense(2), layers.ReLU(max_value=bound)])

    found = xframe.verify(model(layers.Masking(), bound=50.0), model(bound=None))
    assert found.status == "different"
    assert found.diagnosis is not None
    assert found.diagnosis.status == "unexplained"
    assert not found.diagnosis.causes
    assert re.match(r"The first model has masking\w* \(masking\), for which", found.diagnosis.reason)


def test_what_makes_no_difference() -> None:
    """Dropout does nothing at inference, a linear activation never, and a relu without a bound is a relu."""
    for a, b in (
        (recurrent(layers.Dropout(0.3)), recurrent()),
        (recurrent(layers.Dropout(0.3)), recurrent(layers.Dropout(0.5))),
        (dense(layers.Activation("linear")), dense()),
        (dense(layers.ReLU()), dense(layers.Activation("relu"))),
    ):
        found = xframe.verify(a, b)
        assert found.status == "equivalent", found.reason


def test_states_that_are_kept_between_calls_are_no_difference() -> None:
    def model(batch: int) -> Any:
        made = keras.Sequential(
            [keras.Input((None, 4), batch_size=batch), layers.GRU(5, stateful=True), layers.Dense(2)]
        )
        made.set_weights(
            [np.random.default_rng(i).uniform(0.1, 0.6, w.shape) for i, w in enumerate(made.get_weights())]
        )
        return made

    found = xframe.verify(model(3), model(4))
    assert found.status == "equivalent", found.reason
    assert found.whole is not None


def test_an_option_that_only_large_numbers_show_is_seen() -> None:
    found = xframe.verify(dense(layers.ReLU(max_value=50.0)), dense(layers.ReLU()))
    assert found.status == "different"
    assert "max_value=50.0" in found.reason


def test_an_option_that_no_input_shows_is_not_equivalent() -> None:
    """No number that a tanh puts out comes near the bound."""
    found = xframe.verify(recurrent(layers.ReLU(max_value=50.0)), recurrent(layers.ReLU()))
    assert found.status == "inconclusive"
    assert "max_value=50.0" in found.reason
    assert "changes nothing on the inputs that were tried" in found.reason


def test_normalisations_that_were_exchanged() -> None:
    def model(seed: int, other: int) -> Any:
        made = filled([layers.BatchNormalization(), layers.Dense(4), layers.BatchNormalization()], (4,))
        for layer, own in ((made.layers[0], seed), (made.layers[2], other)):
            layer.set_weights([np.random.default_rng(own).uniform(0.2, 0.9, w.shape) for w in layer.get_weights()])
        return made

    assert xframe.verify(model(1, 2), model(1, 2)).status == "equivalent"
    found = xframe.verify(model(1, 2), model(2, 1))
    assert found.status == "different"
    assert found.whole is not None
    assert not found.whole.slips
    assert found.whole.off is not None
    assert found.whole.off.differs


def test_inputs_of_another_shape() -> None:
    def model(steps: int | None) -> Any:
        return filled([layers.LSTM(3)], (steps, 4))

    found = xframe.verify(model(5), model(6))
    assert found.status == "different"
    assert "samples of the shape (5, 4), and the second of the shape (6, 4)" in found.reason
    assert xframe.verify(model(5), model(None)).status == "equivalent"


def torch_net(epsilon: float, slope: float = 0.3) -> Any:
    net = torch.nn
    return net.Sequential(
        net.Linear(4, 5), net.LayerNorm(5, eps=epsilon), net.LeakyReLU(slope), net.Dropout(0.5), net.Linear(5, 3)
    )


@pytest.mark.parametrize(
    ("epsilon", "slope", "status"), [(1e-3, 0.3, "equivalent"), (1e-5, 0.3, "different"), (1e-3, 0.01, "different")]
)
def test_keras_and_pytorch(epsilon: float, slope: float, status: str) -> None:
    ours = dense(layers.LayerNormalization(epsilon=1e-3), layers.LeakyReLU(negative_slope=0.3))
    theirs = torch_net(epsilon, slope)
    arrays = [v.numpy() for v in ours.weights]
    with torch.no_grad():
        for i, parameter in enumerate(theirs.parameters()):
            parameter.copy_(torch.tensor(arrays[i].T if arrays[i].ndim == 2 else arrays[i]))
    found = xframe.verify(ours, theirs)
    assert found.status == status, found.reason
    assert (found.diagnosis is None) == (status == "equivalent")


def test_where_layers_differ_what_is_between_them_is_told_as_well() -> None:
    a, b = recurrent(layers.BatchNormalization(epsilon=1e-3)), recurrent(layers.BatchNormalization(epsilon=1e-1))
    weights = b.layers[0].get_weights()
    weights[0][:, :5], weights[0][:, 5:10] = weights[0][:, 5:10].copy(), weights[0][:, :5].copy()
    b.layers[0].set_weights(weights)
    found = xframe.verify(a, b)
    assert found.status == "different"
    assert found.whole is not None
    assert found.whole.off is not None
    assert found.whole.off.differs
    # What the layers explain is not laid to the steps between them.
    assert found.between is None
    assert [slip.option for slip in found.whole.slips] == ["epsilon"]
    assert found.whole.slips[0].off.differs
    told = xframe.diagnose(a, b)
    assert "gates r and z swapped" in told.reason
    assert any(note.startswith("Between the layers, epsilon is 0.001 in ") for note in told.notes)


def test_files_of_weights_are_equivalent_in_that_scope(tmp_path: Path) -> None:
    model = recurrent()
    weights, whole = tmp_path / "only.weights.h5", tmp_path / "whole.keras"
    model.save_weights(weights)
    model.save(whole)
    for a, b in ((whole, weights), (weights, model)):
        found = xframe.verify(a, b)
        assert (found.status, found.scope, found.whole) == ("equivalent", "weights", None)
        assert found.reason.endswith(f"The weights are the same; {weights} does not say what runs between them.")
        for wider in ("layers", "model"):
            more = xframe.verify(a, b, scope=wider)
            assert (more.status, more.scope) == ("inconclusive", "weights")
            assert f"The scope {wider} was asked for, but {weights} holds weights only." in more.reason
    found = xframe.verify(weights, weights)
    assert (found.status, found.scope) == ("equivalent", "weights")
    assert found.reason.endswith("neither file says what runs between them.")


def test_a_layer_alone_is_no_model() -> None:
    layer = layers.LSTM(3)
    layer.build((None, None, 4))
    twin = layers.LSTM(3, return_sequences=True)
    twin.build((None, None, 4))
    twin.set_weights(layer.get_weights())
    found = xframe.verify(layer, twin)
    assert (found.status, found.whole) == ("equivalent", None)
    assert found.notes == (
        "Keras (a) hands back the last output: return_sequences=False; both were compared in every output.",
    )
    model = keras.Sequential([keras.Input((None, 4)), layer])
    found = xframe.verify(model, twin)
    assert (found.status, found.scope, found.whole) == ("equivalent", "layers", None)
    assert found.reason.endswith("The layers are the same; what runs between them was not judged.")
    more = xframe.verify(model, twin, scope="model")
    assert (more.status, more.scope) == ("inconclusive", "layers")
    assert "Keras LSTM is no model" in more.reason


class Doubled(keras.Sequential):
    """A class that xframe does not know."""

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        return 2 * super().call(inputs, training=training, mask=mask)


def doubled(model: Any) -> Any:
    """The model with another call than that of its class."""
    call = model.call
    model.call = lambda *given, **options: 2 * call(*given, **options)
    return model


def test_a_model_with_a_call_of_its_own_is_not_taken_for_its_layers() -> None:
    """It is run as it is."""
    made = [layers.Dense(5), layers.Dense(3)]
    plain = filled(made, (4,))
    for other in (Doubled([keras.Input((4,)), *made]), doubled(keras.Sequential([keras.Input((4,)), *made]))):
        for found in (xframe.verify(plain, other), xframe.verify(other, plain)):
            assert (found.status, found.scope) == ("different", "model")
            assert found.reason.startswith("The layers are the same, but the outputs of Keras ")
        assert xframe.verify(plain, other, scope="layers").status == "equivalent"


def test_more_in_the_second_may_run_otherwise() -> None:
    found = xframe.verify(recurrent(), recurrent(layers.Activation("tanh")), subset=True)
    assert (found.status, found.scope, found.whole) == ("equivalent", "layers", None)


def test_the_reports_tell_it() -> None:
    found = xframe.verify(
        dense(layers.LayerNormalization(epsilon=1e-3)), dense(layers.LayerNormalization(epsilon=1e-5))
    )
    Draft202012Validator(schema()).validate(fields.content(found))
    assert fields.content(found)["whole"]["options"][0]["second"] == "1e-05"
    Draft202012Validator(schema()).validate(
        fields.content(xframe.diagnose(dense(layers.ReLU()), dense(layers.Activation("tanh"))))
    )
    for format in ("text", "markdown"):
        text = found.report(format)
        assert "The whole models" in text
        assert "Why the whole models differ" in text
        assert "Mend: Give " in text


def test_the_limit_is_that_of_a_verdict() -> None:
    assert not Off(1.0, 10.0).differs
    assert Off(1.0, 10.1).differs
    assert Off(float("nan"), float("nan")).differs
