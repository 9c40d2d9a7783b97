"""The rounding noise against implementations that are written here, loop by loop, in the arithmetic that is judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import helpers
import numpy as np
import pytest
from helpers import Blocks

from xframe import noise
from xframe.judging import LIMIT
from xframe.layout import Key
from xframe.reference import Given
from xframe.spec import Recurrent

# A product of a and a kernel and the sum with a bias.
Product = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def to_tf32(array: np.ndarray) -> np.ndarray:
    """float32 numbers rounded to the nearest with 10 explicit bits of mantissa, ties to even, on their bits."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~np.uint32(0x1FFF)).view(np.float32)


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def plain(a: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a @ w + b


def in_tf32(a: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    return to_tf32(a) @ to_tf32(w) + b


def from_the_bias(a: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One number after the other is added to the bias."""
    begin = np.broadcast_to(b, (len(a), 1, len(b)))
    return np.cumsum(np.concatenate([begin, a[:, :, None] * w], axis=1), axis=1, dtype=a.dtype)[:, -1]


def by_hand(
    spec: Recurrent, blocks: Blocks, given: Given, product: Product = plain, dtype: str = "float32"
) -> np.ndarray:
    """The sequence of a layer of one direction in a float type, with these products."""
    assert given.state is not None
    w = {(key.role, key.gate): block.astype(dtype) for key, block in blocks.items()}
    h, x = given.state["h"][0, 0].astype(dtype), given.x.astype(dtype)
    c = given.state["c"][0, 0].astype(dtype) if spec.cell == "lstm" else h

    def kernel(a: np.ndarray, gate: str) -> np.ndarray:
        return product(a, w["kernel", gate], w["bias", gate])

    def recurrent(a: np.ndarray, gate: str) -> np.ndarray:
        return product(a, w["recurrent_kernel", gate], w["recurrent_bias", gate])

    out = []
    for t in range(x.shape[1]):
        gates = {g: kernel(x[:, t], g) + recurrent(h, g) for g in helpers.GATES[spec.cell]}
        if spec.cell == "rnn":
            h = np.tanh(gates["h"])
        elif spec.cell == "lstm":
            c = sigmoid(gates["f"]) * c + sigmoid(gates["i"]) * np.tanh(gates["g"])
            h = sigmoid(gates["o"]) * np.tanh(c)
        else:
            r, z = sigmoid(gates["r"]), sigmoid(gates["z"])
            n = np.tanh(kernel(x[:, t], "n") + r * recurrent(h, "n"))
            h = (1 - z) * n + z * h
        assert h.dtype == dtype
        out.append(h)
    return np.stack(out, axis=1)


def draw(spec: Recurrent, seed: int, scale: float, steps: int, dtype: str = "float32") -> tuple[Blocks, Given]:
    blocks = helpers.weights(spec, seed, dtype, scale)
    x = helpers.signal(spec, seed, dtype, steps=steps).astype(np.float64)
    return blocks, Given(x, {k: v.astype(np.float64) for k, v in (helpers.start(spec, seed, dtype) or {}).items()})


def ratios(got: np.ndarray, truth: noise.Noise) -> np.ndarray:
    return noise.ratio(got, truth.clean["sequence"], truth.deviation["sequence"])


@pytest.mark.parametrize("seed", [47, 65, 99])
def test_where_chaos_has_once_led_nothing_is_told(seed: int) -> None:
    """Copies of a chaotic layer may come together again, all on one way, while a right implementation went another."""
    spec = Recurrent("rnn", 7, 24)
    blocks, given = draw(spec, seed, 7.0, 60)
    truth = noise.measure(spec, blocks, given, "tf32")
    got, clean = by_hand(spec, blocks, given, in_tf32), truth.clean["sequence"]
    assert np.abs(got - clean).max() > 1.5
    assert ratios(got, truth).max() < LIMIT / 2
    # Before that, one number that is off by little is seen.
    got[:, 1, 3] += 0.3
    assert ratios(got, truth)[:, 1, 3].max() > LIMIT


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def test_rounding_to_tf32_keeps_ten_bits() -> None:
    u = 2.0**-11
    given = np.array([1, 1 + u, 1 + 2 * u, 1 + 3 * u, -1 - 2.9 * u, 3e30], np.float32)
    assert to_tf32(given)[:5].tolist() == [1, 1, 1 + 2 * u, 1 + 4 * u, -1 - 2 * u]
    assert 0 < abs(to_tf32(given)[5] / given[5] - 1) < u


@pytest.mark.parametrize("scale", [0.3, 1.0, 6.0])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_products_in_tf32(cell: str, scale: float) -> None:
    spec = Recurrent(cell, 23, 37)
    blocks, given = draw(spec, 5, scale, 60)
    wide, narrow = (noise.measure(spec, blocks, given, dtype) for dtype in ("float32", "tf32"))
    got = by_hand(spec, blocks, given, in_tf32)
    assert ratios(got, narrow).max() < LIMIT / 2
    assert 0.2 < rms(ratios(got, narrow)) < 2
    # Judged as float32 it is not, unless it is so chaotic that a step or two tells: and float32 itself is.
    assert rms(ratios(got, wide)[:, :5]) > LIMIT
    assert np.all(wide.deviation["sequence"][:, :5] < 0.02 * narrow.deviation["sequence"][:, :5])
    assert ratios(by_hand(spec, blocks, given), wide).max() < LIMIT / 2


def test_a_weight_is_rounded_alike_at_all_time_steps() -> None:
    """A state that only adds up what comes in at each step adds up that rounding, too, and not as a random walk."""
    spec = Recurrent("lstm", 5, 9)
    blocks, given = draw(spec, 6, 0.1, 400)
    blocks[Key(0, 0, "bias", "f")] += 20
    # Without bits to round in x, and with h too small to matter, only the kernel's rounding is left.
    x = np.broadcast_to(np.array([0.5, -1.25, 0.75, 1.5, -0.875]), given.x.shape)
    given = Given(x, {k: 0 * v for k, v in (given.state or {}).items()})
    for key in blocks:
        if key.role == "recurrent_kernel":
            blocks[key] = blocks[key] * 1e-3
    truth = noise.measure(spec, blocks, given, "tf32")
    assert ratios(by_hand(spec, blocks, given, in_tf32), truth).max() < LIMIT / 2


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_rounding_errors_of_numbers_that_have_settled_repeat(dtype: str) -> None:
    """A GRU that forgets slowly, on a constant input, comes to rest as far off as a thousand equal errors take it."""
    spec = Recurrent("gru", 5, 9)
    blocks, given = draw(spec, 6, 0.5, 1000, dtype)
    blocks[Key(0, 0, "bias", "z")] += 6
    given = replace(given, x=np.broadcast_to(given.x[:, :1], given.x.shape))
    found = ratios(by_hand(spec, blocks, given, dtype=dtype), noise.measure(spec, blocks, given, dtype))
    assert found.max() < LIMIT / 3
    assert rms(found) > 0.02


def test_small_numbers_in_float16() -> None:
    """Below 2^-14 float16 has fewer bits, so that what is small is off by more than its share."""
    spec = Recurrent("lstm", 5, 9)
    blocks, given = draw(spec, 7, 0.02, 30, "float16")
    blocks = {key: 0 * block if "bias" in key.role else block for key, block in blocks.items()}
    given = Given(given.x / 2048, {name: value / 2048 for name, value in (given.state or {}).items()})
    truth = noise.measure(spec, blocks, given, "float16")
    assert np.median(np.abs(truth.clean["sequence"][:, -1])) < 2**-14
    found = ratios(by_hand(spec, blocks, given, dtype="float16"), truth)
    assert found.max() < LIMIT / 2
    assert rms(found) > 0.1


def test_a_sum_that_begins_with_a_large_bias() -> None:
    spec = Recurrent("rnn", 400, 9)
    blocks, given = draw(spec, 8, 0.1, 12)
    blocks[Key(0, 0, "kernel", "h")] *= 2**-6
    truth = noise.measure(spec, blocks, given, "float32")
    assert ratios(by_hand(spec, blocks, given, from_the_bias), truth).max() < LIMIT / 2
    assert ratios(by_hand(spec, blocks, given), truth).max() < LIMIT / 2


def test_the_noise_is_the_same_each_time() -> None:
    spec = Recurrent("lstm", 5, 9, num_layers=2, bidirectional=True, merge_mode="sum")
    params = helpers.weights(spec, 9)
    given = Given(helpers.signal(spec, 9), helpers.start(spec, 9))
    first = noise.measure(spec, params, given, "float32")
    taken = [np.empty((9, 13)) for _ in range(50)]
    second = noise.measure(spec, params, given, "float32")
    assert len(taken) == 50
    for name, values in first.deviation.items():
        assert np.array_equal(values, second.deviation[name])
