"""Damage that knows the format: fields of a file that are written anew, with all lengths and checksums around them right.

Flipped bits rarely get past a checksum. Here the lists of zips, the messages of HDF5, the steps of pickles, the fields of
protobufs, the entries of checkpoints' indexes and the JSON of headers and configurations are taken apart, one thing in them is
written twice, left out, exchanged, or made large, and the file is put together again.
"""

from __future__ import annotations

import json
import pickletools
import struct
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

__all__ = ["FIELDS", "changed", "index_blocks", "index_of", "zip_entries", "zip_of"]

Random = np.random.Generator
Change = Callable[[bytes, Random], bytes]
_NUMBERS = (0, 1, 2, 3, 7, 127, 255, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)


def number(random: Random) -> int:
    return _NUMBERS[random.integers(len(_NUMBERS))]


def pick(random: Random, things: Any) -> Any:
    return things[int(random.integers(len(things)))]


# ---- Zip files.


class Entry(NamedTuple):
    """An entry of a zip: what its own header and the list say of it, which may differ, and its bytes as they are packed."""

    name: bytes
    method: int
    size: int
    crc: int
    packed: bytes
    local: bytes = b""  # the name in its own header, if another
    extra: bytes = b""
    skipped: int = 0  # by so much the list says that it begins earlier


def zip_entries(data: bytes) -> list[Entry]:
    """The entries of a sound zip, each packed as it is there."""
    import io
    import zipfile

    found = []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            name, extra = struct.unpack_from("<2H", data, info.header_offset + 26)
            start = info.header_offset + 30 + name + extra
            packed = data[start : start + info.compress_size]
            found.append(Entry(info.filename.encode(), info.compress_type, info.file_size, info.CRC, packed))
    return found


def stored(name: bytes, content: bytes, method: int = 0) -> Entry:
    packed = content
    if method:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(content) + packer.flush()
    return Entry(name, method, len(content), zlib.crc32(content), packed)


def zip_of(entries: list[Entry], before: bytes = b"", comment: bytes = b"", moved: int = 0) -> bytes:
    """A zip of these entries; ``moved`` is what the end says wrongly of where the list is."""
    body, listing = bytearray(before), bytearray()
    for one in entries:
        local = one.local or one.name
        at = len(body) - one.skipped
        body += struct.pack(
            "<4s5H3I2H", b"PK\3\4", 20, 0, one.method, 0, 33, one.crc, len(one.packed), one.size, len(local), 0
        )
        body += local + one.packed
        head = (
            b"PK\1\2",
            20,
            20,
            0,
            one.method,
            0,
            33,
            one.crc,
            len(one.packed),
            one.size,
            len(one.name),
            len(one.extra),
        )
        listing += struct.pack("<4s6H3I5H2I", *head, 0, 0, 0, 0, at) + one.name + one.extra
    end = (b"PK\5\6", 0, 0, len(entries), len(entries), len(listing), len(body) + moved, len(comment))
    return bytes(body + listing) + struct.pack("<4s4H2IH", *end) + comment


def two_lists(data: bytes, random: Random) -> bytes:
    """Two archives, of which some readers find the first and some the second."""
    good = zip_entries(data)
    evil = [stored(one.name, bytes(random.integers(256, size=40, dtype=np.uint8))) for one in good]
    first = zip_of(evil)
    first = first[: first.rindex(b"PK\5\6")]
    return zip_of(good, before=first, moved=-int(random.integers(1, len(first))))


def one_stream(data: bytes, random: Random) -> bytes:
    """Entries that share their bytes."""
    entries = zip_entries(data)
    whole = len(entries[-1].packed) + 30 + len(entries[-1].name)
    return zip_of([*entries, entries[-1]._replace(name=b"again" + entries[-1].name, packed=b"", skipped=whole)])


def twice_in_a_zip(data: bytes, random: Random) -> bytes:
    entries = zip_entries(data)
    return zip_of([*entries, pick(random, entries)])


def two_names(data: bytes, random: Random) -> bytes:
    entries = zip_entries(data)
    at = int(random.integers(len(entries)))
    other = bytes(entries[at].name[::-1])
    if random.random() < 0.5:
        entries[at] = entries[at]._replace(local=other if other != entries[at].name else other + b"x")
    else:
        unicode = struct.pack("<2HBI", 0x7075, 5 + len(other), 1, zlib.crc32(entries[at].name)) + other
        entries[at] = entries[at]._replace(extra=unicode)
    return zip_of(entries)


def before_or_after(data: bytes, random: Random) -> bytes:
    more = bytes(random.integers(256, size=int(random.integers(1, 60)), dtype=np.uint8))
    return b"PK" + more + data if random.random() < 0.5 else data + more


def a_bomb(data: bytes, random: Random) -> bytes:
    """An entry that unpacks to a thousand times its size."""
    entries = zip_entries(data)
    at = int(random.integers(len(entries)))
    filling = pick(random, (b"\0", b"[],", b"a", b" "))
    entries[at] = stored(entries[at].name, filling * int(random.integers(2**20, 2**23)), 8)
    return zip_of(entries)


def lies(data: bytes, random: Random) -> bytes:
    """A size, a method or a checksum in the list that is not so."""
    entries = zip_entries(data)
    at = int(random.integers(len(entries)))
    field = pick(random, ("method", "size", "crc"))
    entries[at] = entries[at]._replace(**{field: number(random) % (2**16 if field == "method" else 2**32)})
    return zip_of(entries)


ZIP: tuple[Change, ...] = (two_lists, one_stream, twice_in_a_zip, two_names, before_or_after, a_bomb, lies)


def inside(match: Callable[[bytes], bool], change: Change) -> Change:
    """A change of one entry of a zip."""

    def run(data: bytes, random: Random) -> bytes:
        entries = zip_entries(data)
        at = pick(random, [i for i, one in enumerate(entries) if match(one.name)] or [0])
        one = entries[at]
        content = zlib.decompress(one.packed, -15) if one.method else one.packed
        entries[at] = stored(one.name, change(content, random), one.method)
        return zip_of(entries)

    return run


# ---- JSON.


def json_changed(text: bytes, random: Random) -> bytes:
    """A value exchanged for another one, or a name that is there twice."""
    tree = json.loads(text)
    places: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        places += [(value, key) for key in keys]
        waiting += [value[key] for key in keys]
    if not places:
        return text
    home, key = pick(random, places)
    if random.random() < 0.3:
        written = json.dumps(tree).encode()
        name = json.dumps(key).encode() + b":"
        again = name + json.dumps(pick(random, (home[key], None, 3))).encode() + b", " if isinstance(key, str) else b""
        return written.replace(name, again + name, 1)
    deep: Any = 1
    for _ in range(int(random.integers(1, 400))):
        deep = [deep]
    choices = [
        None,
        True,
        -1,
        0.5,
        1e308,
        number(random),
        "",
        "x" * int(random.integers(1, 5000)),
        "\u202e\x1b[2J",
        [],
        {},
        deep,
    ]
    home[key] = (
        pick(random, [*choices, home[key], pick(random, places)[0]]) if random.random() < 0.9 else list(range(1000))
    )
    try:
        return json.dumps(tree).encode()
    except ValueError:  # it holds itself
        return b"{}"


# ---- safetensors.


def safetensors_header(data: bytes, random: Random) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = json_changed(data[8 : 8 + length], random)
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


# ---- Protobufs.


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


def fields(data: bytes) -> list[tuple[int, int, bytes]]:
    """The fields of a message: number, wire type, content. ValueError or IndexError if it is none."""
    found, at = [], 0
    while at < len(data):
        tag, at = read_varint(data, at)
        kind = tag & 7
        if kind == 0:
            _, end = read_varint(data, at)
        elif kind == 2:
            size, at = read_varint(data, at)
            end = at + size
        elif kind in (1, 5):
            end = at + (8 if kind == 1 else 4)
        else:
            raise ValueError("no message")
        if end > len(data) or not tag >> 3:
            raise ValueError("no message")
        found.append((tag >> 3, kind, data[at:end]))
        at = end
    return found


def message(parts: list[tuple[int, int, bytes]]) -> bytes:
    return b"".join(varint(n << 3 | k) + (varint(len(c)) if k == 2 else b"") + c for n, k, c in parts)


def protobuf(data: bytes, random: Random) -> bytes:
    """A field that is written twice, left out, exchanged or of another value; at any depth."""
    try:
        parts = fields(data)
    except (ValueError, IndexError):
        return data[: int(random.integers(len(data) + 1))] if data else b"x"
    if not parts:
        return data
    at = int(random.integers(len(parts)))
    field, kind, content = parts[at]
    if kind == 2 and content and random.random() < 0.75:
        parts[at] = field, kind, protobuf(content, random)
        return message(parts)
    what = int(random.integers(6))
    if what == 0:
        parts.insert(at, pick(random, parts))
    elif what == 1:
        del parts[at]
    elif what == 2:
        parts[at] = field, 0, varint(number(random))
    elif what == 3:
        parts[at] = int(random.integers(1, 20)), kind, content
    elif what == 4:
        parts[at] = field, 2, content * int(random.integers(1, 50)) if kind == 2 else data
    else:
        parts += [(field, kind, content)] * int(random.integers(1, 3000))
    return message(parts)


# ---- The index of a TensorFlow checkpoint.


def index_blocks(data: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The keys and values of the only block of records, and the key of the list of blocks."""
    footer, at, handles = data[-48:], 0, []
    for _ in range(4):
        value, at = read_varint(footer, at)
        handles.append(value)
    (upto, handle), *_ = _records(data[handles[2] : handles[2] + handles[3]])
    start, at = read_varint(handle, 0)
    size, _ = read_varint(handle, at)
    return _records(data[start : start + size]), upto


def _records(block: bytes) -> list[tuple[bytes, bytes]]:
    end = len(block) - 4 - 4 * struct.unpack("<I", block[-4:])[0]
    found, at, key = [], 0, b""
    while at < end:
        shared, at = read_varint(block, at)
        fresh, at = read_varint(block, at)
        length, at = read_varint(block, at)
        key = key[:shared] + block[at : at + fresh]
        found.append((key, block[at + fresh : at + fresh + length]))
        at += fresh + length
    return found


def index_of(records: list[tuple[bytes, bytes]], upto: bytes, restarts: tuple[int, ...] = (0,)) -> bytes:
    """An index of these records, its checksums right."""
    from xframe.files._bundle import masked

    def block(of: list[tuple[bytes, bytes]], begins: tuple[int, ...] = (0,)) -> tuple[bytes, bytes]:
        body = b"".join(varint(0) + varint(len(k)) + varint(len(v)) + k + v for k, v in of)
        body += struct.pack(f"<{len(begins) + 1}I", *begins, len(begins))
        return body, body + b"\0" + struct.pack("<I", masked(body + b"\0"))

    data, whole = block(records, restarts)
    meta, meta_whole = block([])
    index, index_whole = block([(upto, varint(0) + varint(len(data)))])
    handles = (len(whole), len(meta), len(whole) + len(meta_whole), len(index))
    footer = b"".join(map(varint, handles)).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    return whole + meta_whole + index_whole + footer


def other_restarts(data: bytes, random: Random) -> bytes:
    """TensorFlow begins to read elsewhere."""
    records, upto = index_blocks(data)
    size = sum(len(key) + len(value) for key, value in records)
    starts = sorted({int(random.integers(size)) for _ in range(int(random.integers(1, 4)))} - {0} or {1})
    return index_of(records, upto, (*([0] if random.random() < 0.5 else []), *starts))


def index_records(data: bytes, random: Random) -> bytes:
    """Records out of order, twice, left out, or with another value."""
    records, upto = index_blocks(data)
    at, what = int(random.integers(len(records))), int(random.integers(5))
    key, value = records[at]
    if what == 0:
        records.insert(at, pick(random, records))
    elif what == 1:
        del records[at]
    elif what == 2:
        records[at] = pick(random, (b"", b"\0", key + b"x" * 3000, b"\xff")), value
    elif what == 3:
        upto = pick(random, (b"", key, b"a"))
    else:
        records[at] = key, protobuf(value, random)
    return index_of(records, upto)


# ---- HDF5.


def messages(data: bytes) -> list[list[tuple[int, int, int]]]:
    """By object the messages of its header: kind, length, and where the body is."""
    import io

    import h5py

    addresses: list[int] = []
    with h5py.File(io.BytesIO(data)) as file:
        addresses.append(h5py.h5o.get_info(file["/"].id).addr)
        file.visititems(lambda _, one: addresses.append(h5py.h5o.get_info(one.id).addr))
    found = []
    for address in addresses:
        blocks, own = [(address + 16, struct.unpack_from("<I", data, address + 8)[0])], []
        for start, length in blocks:
            at = start
            while at + 8 <= start + length:
                kind, size = struct.unpack_from("<2H", data, at)
                own.append((kind, size, at + 8))
                if kind == 0x10:
                    blocks.append(struct.unpack_from("<2Q", data, at + 8))
                at += 8 + size
        found.append(own)
    return found


def hdf5(data: bytes, random: Random) -> bytes:
    """A message that becomes another one, so that a header says something twice; or a number in one that is another."""
    changed = bytearray(data)
    objects = [own for own in messages(data) if own]
    own = pick(random, objects)
    kind, size, at = pick(random, own)
    what = int(random.integers(4))
    if what == 0:  # of the same kind as another one of this object
        struct.pack_into("<H", changed, at - 8, pick(random, own)[0])
    elif what == 1:  # with the content of another one of its kind
        alike = [(s, a) for one in objects for k, s, a in one if k == kind and s == size]
        _, other = pick(random, alike)
        changed[at : at + size] = data[other : other + size]
    elif what == 2 and size >= 8:
        width = pick(random, (1, 2, 4, 8))
        place = at + int(random.integers(size - width + 1))
        changed[place : place + width] = (number(random) % 256**width).to_bytes(width, "little")
    else:  # the number of messages, or the length of this one
        struct.pack_into("<H", changed, pick(random, (own[0][2] - 22, at - 6)), int(number(random) % 2**16))
    return bytes(changed)


def attribute_twice(data: bytes, random: Random) -> bytes:
    """A name of an attribute that becomes that of another one."""
    changed = bytearray(data)
    own = pick(random, [own for own in messages(data) if sum(kind == 0x0C for kind, _, _ in own) > 1] or [[]])
    names = [(at + 8, struct.unpack_from("<H", data, at + 2)[0]) for kind, _, at in own if kind == 0x0C]
    if len(names) < 2:
        return hdf5(data, random)
    (start, length), (other, longer) = names[0], names[1]
    if length > longer:
        (start, length), (other, longer) = (other, longer), (start, length)
    changed[other : other + longer] = data[start : start + length].ljust(longer, b"\0")
    return bytes(changed)


# ---- Pickles.


def pickled(data: bytes, random: Random) -> bytes:
    """Steps of a pickle that are left out, done twice or exchanged; deep nests, long texts, and names that are looked up."""
    steps = [position for _, _, position in pickletools.genops(data)] + [len(data)]
    cut = [data[a:b] for a, b in pairwise(steps)]
    at = int(random.integers(1, len(cut)))
    deep = int(random.integers(1, 200_000))
    hostile = (
        b")" + b"\x85" * deep,
        b"]" * deep + b"a" * (deep - 1),
        b"}" * deep,
        b"X" + struct.pack("<I", 10**6) + b"a" * 10**6,
        b"X" + struct.pack("<I", 2**31) + b"a",
        b"cbuiltins\nbytearray\nJ" + struct.pack("<i", 2**31 - 1) + b"\x85R",
        b"cos\nsystem\n",
        b"h\x00" * deep,
        b"2" * deep,
    )
    what = int(random.integers(4))
    if what == 0:
        cut.insert(at, pick(random, hostile))
    elif what == 1:
        cut.insert(at, pick(random, cut))
    elif what == 2:
        del cut[at]
    else:
        other = int(random.integers(1, len(cut)))
        cut[at], cut[other] = cut[other], cut[at]
    return b"".join(cut)


# ---- By format.

_JSON_IN_ZIP = inside(lambda name: name.endswith(b".json"), json_changed)
_HDF5_IN_ZIP = inside(lambda name: name.endswith(b".h5"), hdf5)
_ATTRIBUTES_IN_ZIP = inside(lambda name: name.endswith(b".h5"), attribute_twice)
_PICKLE_IN_ZIP = inside(lambda name: name.endswith(b"data.pkl"), pickled)

FIELDS: dict[str, tuple[Change, ...]] = {
    "keras-hdf5": (hdf5, attribute_twice),
    "keras-weights": (hdf5, attribute_twice),
    "keras": (*ZIP, _JSON_IN_ZIP, _JSON_IN_ZIP, _JSON_IN_ZIP, _HDF5_IN_ZIP, _ATTRIBUTES_IN_ZIP),
    "npz": ZIP,
    "safetensors": (safetensors_header,),
    "torch": (*ZIP, _PICKLE_IN_ZIP, _PICKLE_IN_ZIP, _PICKLE_IN_ZIP),
    "onnx": (protobuf,),
    "tensorflow": (other_restarts, index_records, index_records),
}


def changed(format_: str, data: bytes, random: Random) -> bytes:
    """The data of a file of that format with a field changed, or as they are where they are of another format."""
    kinds = FIELDS[format_]
    if format_ in ("keras", "npz", "torch") and not data.startswith(b"PK"):
        return pickled(data, random) if data.startswith(b"\x80") else data
    if format_ == "tensorflow" and data[-8:] != struct.pack("<Q", 0xDB4775248B80FB57):
        return data
    return pick(random, kinds)(data, random)
