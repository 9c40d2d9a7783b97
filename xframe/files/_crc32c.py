"""CRC-32C, the checksum of TensorFlow's checkpoints, in NumPy.

A CRC is linear over bits: the raw checksum of two pieces is ``shift(raw(first), len(second)) ^ raw(second)``, where ``shift``
appends zero bytes. So the bytes are cut into lanes of one length that are taken through the table together, and then joined
in pairs. Polynomial and conditioning: RFC 3720, appendix B.4.
"""

from __future__ import annotations

from functools import cache

import numpy as np

__all__ = ["crc32c"]

_POLYNOMIAL = 0x82F63B78  # bits reversed
_ONES = 0xFFFFFFFF
_CHUNK = 2**24


def crc32c(data: bytes) -> int:
    """The checksum of some bytes."""
    raw = _ONES
    for start in range(0, len(data), _CHUNK):
        chunk = np.frombuffer(data, np.uint8, min(_CHUNK, len(data) - start), start)
        raw = int(_shifted(np.array([raw], np.uint32), chunk.size)[0]) ^ _raw(chunk)
    return raw ^ _ONES


def _raw(data: np.ndarray) -> int:
    """The checksum without conditioning, for which zero bytes in front are nothing."""
    count = 2 ** (data.size.bit_length() // 2)
    width = -(-data.size // count)
    lanes = np.concatenate([np.zeros(count * width - data.size, np.uint8), data]).reshape(count, width)
    state = np.zeros(count, np.uint32)
    for column in np.ascontiguousarray(lanes.T):
        state = _TABLE[(state ^ column) & 255] ^ (state >> 8)
    while state.size > 1:
        state = _shifted(state[0::2], width) ^ state[1::2]
        width *= 2
    return int(state[0])


def _shifted(state: np.ndarray, zeros: int) -> np.ndarray:
    """The states after so many zero bytes more."""
    for bit in range(zeros.bit_length()):
        if zeros >> bit & 1:
            state = _times(_matrix(bit), state)
    return state


@cache
def _matrix(power: int) -> np.ndarray:
    """What each bit of a state becomes by 2**power zero bytes."""
    if not power:
        bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
        return _TABLE[bits & 255] ^ (bits >> 8)
    return _times(_matrix(power - 1), _matrix(power - 1))


def _times(matrix: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Product over bits."""
    product = np.zeros_like(state)
    for bit in range(32):
        product ^= np.where(state >> bit & 1, matrix[bit], 0).astype(np.uint32)
    return product


def _table() -> np.ndarray:
    """What eight steps of the polynomial make of each byte."""
    state = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        state = np.where(state & 1, state >> 1 ^ _POLYNOMIAL, state >> 1).astype(np.uint32)
    return state


_TABLE = _table()
