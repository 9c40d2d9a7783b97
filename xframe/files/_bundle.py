"""The index of a TensorFlow checkpoint: a sorted table of keys and protobufs that say where each variable's numbers are.

TensorFlow's own reader ends the process at an index that it does not like (a negative size is enough), so it is no reader for
files from strangers. The table is LevelDB's (https://github.com/google/leveldb/blob/main/doc/table_format.md), never
compressed here; the protobufs are those of tensorflow/core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from xframe.files._crc32c import crc32c
from xframe.files.base import MAX_TEXT

__all__ = ["Entry", "entries", "masked"]

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_TRAILER = 5  # a byte for the compression, and the checksum
_NUMBER, _BYTES, _FOUR = 0, 2, 5  # the wire types of the fields that are read
_FIXED = {1: 8, 5: 4}  # the wire types of a fixed length
_LONGEST_VARINT = 10
_MAX_AXES = 64  # of a NumPy array


class Entry(NamedTuple):
    """One variable: its TensorFlow type by number, its shape, and where its bytes are, with their checksum."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    sliced: bool


def entries(index: bytes) -> tuple[int, dict[str, Entry]]:
    """The number of data files, and the variables by key, in order.

    Raises:
        ValueError: the index is damaged; the text says where.
    """
    found: dict[str, Entry] = {}
    shards = 0
    for key, value in _records(index):
        if not key:
            shards = _header(value)
        elif key[0]:  # a zero begins the key of a slice, which the whole variable's entry speaks for
            name = key.decode("utf-8")
            if name in found:
                raise ValueError(f"it holds {name} twice")
            found[name] = _entry(name, value)
    if not shards:
        raise ValueError("its index has no header")
    return shards, found


def masked(data: bytes) -> int:
    """The checksum as TensorFlow stores it."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _records(index: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every key and value of the table."""
    if len(index) < _FOOTER or struct.unpack("<Q", index[-8:])[0] != _MAGIC:
        raise ValueError("its index is cut off, or none")
    footer = index[-_FOOTER:]
    position = 0
    handles = []
    for _ in range(4):  # of the metaindex and of the index of blocks: an offset and a size each
        number, position = _varint(footer, position)
        handles.append(number)
    end, last, unpacked = 0, b"", 0
    for upto, handle in _block(index, handles[2], handles[3]):
        offset, position = _varint(handle, 0)
        size, _ = _varint(handle, position)
        if offset < end:  # blocks that overlap would be read again and again
            raise ValueError("its index is out of order")
        end = offset + size
        records = []
        for key, value in _block(index, offset, size):
            unpacked += len(key)
            if unpacked > MAX_TEXT:
                raise ValueError("its names are longer than any model's")
            records.append((key, value))
        # TensorFlow looks keys up by what the list of blocks says of each.
        if not records or (last and records[0][0] <= last) or records[-1][0] > upto:
            raise ValueError("its index is out of order")
        last = upto
        yield from records


def _block(index: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of one block, each key stored as what differs from the one before."""
    block, trailer = index[offset : offset + size], index[offset + size : offset + size + _TRAILER]
    if len(trailer) < _TRAILER or size < 4:
        raise ValueError("its index is cut off")
    if trailer[0] or struct.unpack("<I", trailer[1:])[0] != masked(block + trailer[:1]):
        raise ValueError("its index does not have the checksum that it says")
    count = struct.unpack("<I", block[-4:])[0]
    end = size - 4 - 4 * count
    if end < 0:
        raise ValueError("its index is damaged")
    # The places at which TensorFlow begins to read: where a whole key stands, the first at the beginning.
    restarts = struct.unpack(f"<{count}I", block[end:-4])
    whole = {0}
    position, key, first = 0, b"", True
    while position < end:
        start = position
        shared, position = _varint(block, position)
        fresh, position = _varint(block, position)
        length, position = _varint(block, position)
        if shared > len(key) or position + fresh + length > end:
            raise ValueError("its index is damaged")
        before, key = key, key[:shared] + block[position : position + fresh]
        if not first and key <= before:
            raise ValueError("its index is out of order, or has a key twice")
        first = False
        if not shared and start:
            whole.add(start)
        position += fresh + length
        yield key, block[position - length : position]
    if restarts[:1] != (0,) or list(restarts) != sorted(whole.intersection(restarts)):
        raise ValueError("its index says that it goes on where no key stands")


def _header(value: bytes) -> int:
    """The number of data files."""
    fields = _known(value, {1: _NUMBER, 2: _NUMBER, 3: _BYTES})
    if _one(fields, 2):
        raise ValueError("its numbers are big-endian, which is not supported")
    return _one(fields, 1)


def _entry(name: str, value: bytes) -> Entry:
    kinds = {1: _NUMBER, 2: _BYTES, 3: _NUMBER, 4: _NUMBER, 5: _NUMBER, 6: _FOUR, 7: _BYTES}
    fields = _known(value, kinds)
    shapes = fields.get(2, [])
    if len(shapes) > 1:
        raise ValueError(f"{name} has two shapes")
    dimensions = _known(shapes[0], {2: _BYTES, 3: _NUMBER}) if shapes else {}
    if _one(dimensions, 3):
        raise ValueError(f"{name} has no shape")
    # A size of 0, as protobuf does, is left out.
    shape = [_one(_known(dimension, {1: _NUMBER, 2: _BYTES}), 1) for dimension in dimensions.get(2, [])]
    if len(shape) > _MAX_AXES or any(size >= 2**63 for size in shape):
        raise ValueError(f"{name} has a shape that no array has")
    dtype, shard, offset, size, checksum = (_one(fields, field) for field in (1, 3, 4, 5, 6))
    if dtype >= 2**31 or shard >= 2**31:  # of which TensorFlow reads the lower half
        raise ValueError(f"{name} has a type or a file that none has")
    return Entry(dtype, tuple(shape), shard, offset, size, checksum, 7 in fields)


def _known(message: bytes, kinds: dict[int, int]) -> dict[int, list[Any]]:
    """The fields of a message by number, which must be of these wire types: as another one, protobuf skips them."""
    found: dict[int, list[Any]] = {}
    for field, wire, content in _fields(message):
        if kinds.get(field, wire) != wire:
            raise ValueError("its index is damaged")
        found.setdefault(field, []).append(content)
    return found


def _one(fields: dict[int, list[Any]], number: int) -> int:
    """A number that is there once, or not at all, which is 0."""
    found = fields.get(number, [0])
    if len(found) > 1:
        raise ValueError("its index says something twice")
    return int(found[0])


def _fields(message: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """The fields of a protobuf, each with its wire type: numbers, and contents that have a length. https://protobuf.dev/programming-guides/encoding/"""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        wire = tag & 7
        if wire == 0:
            content: int | bytes
            content, position = _varint(message, position)
        else:
            length = _FIXED.get(wire)
            if wire == 2:
                length, position = _varint(message, position)
            if length is None or position + length > len(message):
                raise ValueError("its index is damaged")
            piece = message[position : position + length]
            content = piece if wire == 2 else int.from_bytes(piece, "little")
            position += length
        yield tag >> 3, wire, content


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number of varying length, and where it ends."""
    value = 0
    for index, byte in enumerate(data[position : position + _LONGEST_VARINT]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, position + index + 1
    raise ValueError("its index is cut off")
