"""Messages between processes: what can be in one comes out as it went in, and nothing else can be in one."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import pytest

from xframe import errors
from xframe.adapters.base import Setting
from xframe.layout import Key, block_shape, keys
from xframe.packing import Parameters
from xframe.reference import Outputs
from xframe.spec import Dense, Recurrent
from xframe.wire import Held, receive, send

LSTM = Recurrent("lstm", 3, 5, bidirectional=True, backward=Recurrent("gru", 3, 4, reset_after=False), mask="any")


def there(value: Any) -> Any:
    pipe = io.BytesIO()
    send(value, pipe)
    pipe.seek(0)
    found = receive(pipe)
    assert not pipe.read()
    return found


@pytest.mark.parametrize(
    "value",
    [
        None, True, -7, 0.1, float("inf"), "größe\n\ud800", [], [1, [2, None]], (1, (2,)), frozenset({"a", "b"}),
        {"a": 1, Key(0, 1, "kernel", "i"): [2]}, Key(0, 1, "bias", ""), Setting("a", "b", "c"), Held(3), LSTM, Dense(3, 4),
        Recurrent("rnn", 2, 3, num_layers=2), Recurrent("lstm", 3, 5, stacked=(Recurrent("lstm", 5, 4),)),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_plain_values(value: Any) -> None:
    found = there(value)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", ">f4", "i8", "u1", "?", "c16"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3, 4)])
def test_arrays(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.asarray(np.random.default_rng(1).normal(size=shape) * 50).astype(dtype)
    for given in (array, np.asfortranarray(array), array.T):
        found = there([given, "between", given])
        for one in (found[0], found[2]):
            assert (one.dtype, one.shape) == (given.dtype, given.shape)
            assert np.array_equal(one, given)
            one[...] = 1  # it is nobody else's


def test_parameters_and_outputs() -> None:
    random = np.random.default_rng(2)
    blocks = {key: random.normal(size=block_shape(LSTM, key)) for key in keys(LSTM)}
    found = there(Parameters(LSTM, blocks))
    assert found.spec == LSTM
    assert all(np.array_equal(found[key], block) for key, block in blocks.items())
    out = there(Outputs(random.normal(size=(2, 3)), random.normal(size=2), {"h": random.normal(size=4)}))
    assert (out.sequence.shape, out.last.shape, out.states["h"].shape) == ((2, 3), (2,), (4,))


@pytest.mark.parametrize("name", errors.__all__)
def test_errors(name: str) -> None:
    kind = getattr(errors, name)
    error = kind(["one", "another"]) if name == "ObstaclesError" else kind("It is wrong; mend it.")
    found = there(error)
    assert type(found) is kind
    assert str(found) == str(error)


def test_an_error_of_another_kind() -> None:
    class OwnError(errors.SpecError):
        pass

    assert type(there(OwnError("x"))) is errors.SpecError


@pytest.mark.parametrize("value", [object(), print, np.array([object()]), np.array(["text"]), [io.BytesIO()], b"bytes"])
def test_what_cannot_be_sent(value: Any) -> None:
    pipe = io.BytesIO()
    with pytest.raises(errors.SpecError):
        send([1, value], pipe)
    assert not pipe.getvalue()


def message(text: bytes, rest: bytes = b"") -> io.BytesIO:
    return io.BytesIO(len(text).to_bytes(8, "little") + text + rest)


@pytest.mark.parametrize(
    "pipe",
    [
        io.BytesIO(),
        io.BytesIO(b"\1"),
        message(b"[1"),
        message(b'{"os.system": {"command": "true"}}'),
        message(b'{"array": ["|O", [1]]}', bytes(8)),
        message(b'{"array": ["<f4", [3]]}', bytes(8)),
        message(b'{"error": ["__builtins__", []]}'),
        message(b'{"error": ["annotations", []]}'),
        message(b'{"a": 1, "b": 2}'),
        message(b'{"Recurrent": {"cell": "lstm"}}'),
        io.BytesIO(pickle.dumps(print)),
    ],
)
def test_what_is_no_message(pipe: io.BytesIO) -> None:
    with pytest.raises(EOFError):
        receive(pipe)
