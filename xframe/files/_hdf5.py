"""A reader of that part of HDF5 that Keras writes, of any version, and of nothing else.

HDF5's own library trusts the addresses and lengths that a file holds. Of 4000 damaged copies of a small Keras file it hung in 17
and ended the process in one (h5py 3.14, HDF5 1.14.6; mostly while it read an attribute), which nobody can catch.
Keras writes little of HDF5, always in the same old form: the superblock of version 0, groups as symbol tables or (where a name is
not ASCII) as links by message, attributes in the object header, strings in a global heap, numbers in one piece. So this reads
just that, within bounds; links that leave the file, data in other files, compressed and virtual data are refused. Names of fields
are those of the HDF5 File Format Specification.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from math import prod
from typing import BinaryIO, NamedTuple

from xframe.files.base import MAX_TEXT

__all__ = ["AGAIN", "Array", "Hdf5Error", "Tree", "read_tree"]

# Far above what Keras writes. They bound the time and memory that a file can take: every step costs one of MAX_TEXT bytes.
_MAX_DEPTH = 64
_MAX_PATH = 1024
_STEP = 32
_MAX_LEVELS, _MAX_ROWS = 8, 64  # of the tree and of the heap of many links

AGAIN = "save it again with Keras"
_FOREIGN = "it uses a form of HDF5 that Keras does not write"
_REPACK = "rewrite it by 'h5repack -l CONTI -f NONE'"
_CONTINUATION, _SPACE, _TYPE, _LAYOUT, _FILTER, _ATTRIBUTE, _TABLE = 0x10, 0x01, 0x03, 0x08, 0x0B, 0x0C, 0x11
_LINKS, _LINK = 0x02, 0x06
_ONCE = (_SPACE, _TYPE, _LAYOUT, _TABLE, _LINKS)
_NOWHERE = 2**64 - 1
_REFUSED = {
    0x07: "its data are in another file",
    0x15: f"{_FOREIGN} (attributes apart)",
}
_FLOATS = {(2, 5, 10, 15): "f2", (4, 8, 23, 127): "f4", (8, 11, 52, 1023): "f8", (2, 8, 7, 127): "bfloat16"}


class Hdf5Error(Exception):
    """Why a file cannot be read, in words that continue a sentence, and how to mend that."""

    def __init__(self, why: str, mend: str = "get a whole copy of the file") -> None:
        super().__init__(why)
        self.mend = mend


class Array(NamedTuple):
    """Numbers of a file.

    Attributes:
        shape: its shape.
        code: NumPy's code of the type as stored, ``bfloat16``, ``V2`` (two bytes of whatever meaning), or empty for what are
            no numbers.
        offset: where the first byte is.
        size: how many bytes.
    """

    shape: tuple[int, ...]
    code: str
    offset: int
    size: int


class Tree(NamedTuple):
    """All that a file holds: by path the arrays, and the attributes in words of the groups and of the arrays."""

    arrays: dict[str, Array]
    attributes: dict[str, dict[str, str | list[str]]]


class _Type(NamedTuple):
    """A datatype: its class and size in bytes, and the code of `Array`."""

    kind: int
    size: int
    code: str


def read_tree(file: BinaryIO, start: int, size: int) -> Tree:
    """What the ``size`` bytes from ``start`` on hold; no numbers are read.

    Raises:
        Hdf5Error: they are damaged, unsafe, or not in the form that Keras writes.
        OSError: the file cannot be read.
    """
    try:
        return _Parser(file, start, size).tree()
    except (struct.error, IndexError, ValueError) as error:
        raise Hdf5Error(f"it is damaged ({error})") from None


class _Parser:
    """Walks through one file. Objects are visited once, and what is read or done is paid from a budget."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self.file, self.start, self.size = file, start, size
        self.budget = MAX_TEXT
        self.seen: set[int] = set()
        self.heaps: dict[int, dict[int, bytes]] = {}

    def tree(self) -> Tree:
        tree = Tree({}, {})
        stack = [("", self.root())]
        while stack:
            path, address = stack.pop()
            children = self.object(path, address, tree)
            if path.count("/") > _MAX_DEPTH:
                raise Hdf5Error(f"its groups are nested deeper than {_MAX_DEPTH}", AGAIN)
            for name, child in reversed(children.items()):
                whole = f"{path}/{name}" if path else name
                self.pay(len(whole))
                if len(whole) > _MAX_PATH:
                    raise Hdf5Error(f"a name in it is longer than {_MAX_PATH} characters", AGAIN)
                stack.append((whole, child))
        return tree

    def pay(self, count: int) -> None:
        self.budget -= count + _STEP
        if self.budget < 0:
            raise Hdf5Error(f"what describes its contents takes more than {MAX_TEXT} bytes", AGAIN)

    def take(self, offset: int, count: int) -> bytes:
        self.inside(offset, count)
        self.pay(count)
        self.file.seek(self.start + offset)
        data = self.file.read(count)
        if len(data) != count:
            raise Hdf5Error("it is cut short")
        return data

    def inside(self, offset: int, count: int) -> None:
        if offset + count > self.size:
            raise Hdf5Error("it is cut short or damaged: it points at what is not there")

    def once(self, address: int) -> None:
        """Refuse what has been visited: hard links may form cycles, and damaged nodes too."""
        if address in self.seen:
            raise Hdf5Error("two names in it lead to the same object, which Keras never writes", AGAIN)
        self.seen.add(address)

    def root(self) -> int:
        """The address of the root group's header, from the superblock."""
        head = self.take(0, 96)
        if head[:8] != b"\x89HDF\r\n\x1a\n":
            raise Hdf5Error("it is not HDF5")
        if head[8] > 1 or head[13:15] != b"\x08\x08":
            raise Hdf5Error(f"{_FOREIGN} (superblock {head[8]})", AGAIN)
        at = 24 + 4 * head[8]  # version 1 has one field more
        base, _, end, _, _, root = struct.unpack_from("<6Q", head, at)
        if base:
            raise Hdf5Error(f"{_FOREIGN} (a base address)", AGAIN)
        if end > self.size:
            raise Hdf5Error(f"it is cut short: {self.size} of {end} bytes are there")
        return int(root)

    def messages(self, address: int) -> Iterator[tuple[int, bytes, int]]:
        """The messages of an object's header: kind, body, and where the body is."""
        head = self.take(address, 16)
        if head[:4] == b"OHDR":
            raise Hdf5Error(f"{_FOREIGN} (object headers of version 2)", AGAIN)
        if head[0] != 1:
            raise Hdf5Error("it is damaged (an object without a header)")
        left, size = struct.unpack_from("<H4xI", head, 2)
        blocks = [(address + 16, size)]
        for offset, length in blocks:
            data, at = self.take(offset, length), 0
            while at + 8 <= length:
                kind, count, flags = struct.unpack_from("<HHB", data, at)
                body = data[at + 8 : at + 8 + count]
                self.pay(0)
                if len(body) != count:
                    raise Hdf5Error("it is damaged (a message without an end)")
                if flags & 2 and kind in (_SPACE, _TYPE, _LAYOUT, _ATTRIBUTE):
                    raise Hdf5Error(f"{_FOREIGN} (shared messages)", AGAIN)
                if kind == _CONTINUATION:
                    blocks.append(struct.unpack_from("<2Q", body))
                yield kind, body, offset + at + 8
                left, at = left - 1, at + 8 + count
        if left:
            raise Hdf5Error("it is damaged (an object has more or fewer messages than it says)")

    def object(self, path: str, address: int, tree: Tree) -> dict[str, int]:
        """Note one object in the tree; its children's names and addresses if it is a group."""
        self.once(address)
        attributes: dict[str, str | list[str] | None] = {}
        found: dict[int, tuple[bytes, int]] = {}
        links: list[bytes] = []
        for kind, body, at in self.messages(address):
            if kind in _REFUSED:
                raise Hdf5Error(f"{_REFUSED[kind]}, at {path or 'the root'!r}", AGAIN)
            if kind == _ATTRIBUTE:
                name, value = self.attribute(body)
                if name in attributes:
                    raise Hdf5Error(f"{path or 'the root'!r} has the attribute {name!r} twice", AGAIN)
                attributes[name] = value
            elif kind == _LINK:
                links.append(body)
            elif kind in found and kind in _ONCE:
                raise Hdf5Error(f"{path or 'the root'!r} says twice what it is, and programs may read either", AGAIN)
            found[kind] = body, at
        tree.attributes[path] = {name: value for name, value in attributes.items() if value is not None}
        group = {_TABLE, _LINKS, _LINK} & set(found)
        if group and _LAYOUT in found:
            raise Hdf5Error(f"{path or 'the root'!r} says that it is a group and an array", AGAIN)
        if _LINKS in found or links:
            if _LINKS not in found or _TABLE in found:
                raise Hdf5Error(f"it is damaged ({path!r} is a group in two ways)")
            return self.linked(links, found[_LINKS][0])
        if _TABLE in found:
            return self.children(*struct.unpack_from("<2Q", found[_TABLE][0]))
        if not {_SPACE, _TYPE, _LAYOUT} <= set(found):
            raise Hdf5Error(f"it is damaged ({path!r} is neither a group nor an array)")
        shape, type_ = _space(found[_SPACE][0]), _type(found[_TYPE][0])
        offset, size = self.data(path, *found[_LAYOUT], prod(shape) * type_.size)
        if _FILTER in found:
            raise Hdf5Error(f"{path!r} is compressed or filtered, which Keras does not do", _REPACK)
        tree.arrays[path] = Array(shape, type_.code, offset, size)
        return {}

    def data(self, path: str, body: bytes, at: int, size: int) -> tuple[int, int]:
        """Where an array's bytes are, from its layout message."""
        version, kind = body[0], body[1]
        if version not in (3, 4) or kind > 1:
            raise Hdf5Error(
                f"{path!r} is stored in pieces, compressed or virtual, which Keras does not do",
                _REPACK,
            )
        if kind:  # in one piece, elsewhere
            offset, length = struct.unpack_from("<2Q", body, 2)
        else:  # in the header itself
            offset, length = at + 4, struct.unpack_from("<H", body, 2)[0]
        if not size:
            return 0, 0
        if length != size:
            raise Hdf5Error(f"{path!r} declares {size} bytes, of which {length} are stored")
        self.inside(offset, size)
        return offset, size

    def children(self, table: int, heap: int) -> dict[str, int]:
        """The names and header addresses in a group: a tree of nodes, whose names are in a heap."""
        head = self.take(heap, 32)
        size, _, where = struct.unpack_from("<3Q", head, 8)
        if head[:5] != b"HEAP\0":
            raise Hdf5Error("it is damaged (a group without names)")
        names = self.take(where, size)
        links: dict[str, int] = {}
        stack: list[tuple[int, int | None]] = [(table, None)]
        while stack:
            address, level = stack.pop()
            self.once(address)
            if level == -1:
                self.symbols(address, names, links)
                continue
            signature, kind, here, used = struct.unpack("<4sBBH", self.take(address, 24)[:8])
            if signature != b"TREE" or kind or here != (here if level is None else level):
                raise Hdf5Error("it is damaged (a group without its tree)")
            keys = struct.unpack(f"<{2 * used + 1}Q", self.take(address + 24, 16 * used + 8))
            stack += [(child, here - 1) for child in reversed(keys[1::2])]
        return links

    def symbols(self, address: int, names: bytes, links: dict[str, int]) -> None:
        """Add one node's names and header addresses."""
        signature, count = struct.unpack("<4s2xH", self.take(address, 8))
        if signature != b"SNOD":
            raise Hdf5Error("it is damaged (a group without its symbols)")
        for at, target, cached in struct.iter_unpack("<2QI20x", self.take(address + 8, 40 * count)):
            end = names.find(b"\0", at, at + _MAX_PATH + 1)  # no further: names may overlap
            raw = names[at : at + _MAX_PATH + 1 if end < 0 else end]
            name = raw.decode()
            if cached == 2:
                raise Hdf5Error(f"{name!r} is a soft link, which Keras never writes", AGAIN)
            _check_name(name, links)
            self.pay(len(raw))
            links[name] = target

    def linked(self, messages: list[bytes], about: bytes) -> dict[str, int]:
        """The names and header addresses in a group that has a message for each, in the order that a table has them.

        The messages are in the object's header or, where they are many, in a heap, and found by a tree of their places in that.
        """
        tracked = about[1] & 1  # the order in which they were made, which means nothing here
        heap, tree = struct.unpack_from("<2Q", about, 2 + 8 * tracked)
        if heap != _NOWHERE:
            if messages:
                raise Hdf5Error("it is damaged (a group whose links are in two places)")
            messages = list(map(_Blocks(self, heap).message, self.records(tree)))
        links: dict[str, int] = {}
        for body in messages:
            self.pay(len(body))
            name, target = _link(body)
            _check_name(name, links)
            links[name] = target
        return dict(sorted(links.items(), key=lambda link: link[0].encode()))

    def records(self, address: int) -> Iterator[bytes]:
        """The records of a B-tree of version 2 that holds the names of links by their hashes."""
        head = self.take(address, 38)
        signature, version, kind, size, width, depth, root, count = struct.unpack_from("<4s2BI2H2xQH", head)
        if (
            (signature, version, kind, width) != (b"BTHD", 0, 5, 11)
            or not 64 <= size <= MAX_TEXT
            or depth > _MAX_LEVELS
        ):
            raise Hdf5Error("it is damaged (links without their tree)")
        # By level from the leaves: how many records a node can have, and how many those below it.
        most, below = [(size - 10) // width], [(size - 10) // width]
        for level in range(1, depth + 1):
            pointer = 8 + _bytes(most[-1]) + (_bytes(below[-1]) if level > 1 else 0)
            most.append((size - 10 - pointer) // (width + pointer))
            below.append((most[-1] + 1) * below[-1] + most[-1])
        stack = [(root, count, depth)] if count else []
        while stack:
            address, count, level = stack.pop()
            self.once(address)
            node, at = self.take(address, size), 6 + count * width
            if node[:4] != (b"BTIN" if level else b"BTLF") or count > most[level]:
                raise Hdf5Error("it is damaged (links without their tree)")
            yield from (node[i + 4 : i + width] for i in range(6, at, width))
            few, many = (_bytes(most[level - 1]), _bytes(below[level - 1]) if level > 1 else 0) if level else (0, 0)
            for _ in range(count + 1 if level else 0):
                child, held = (
                    struct.unpack_from("<Q", node, at)[0],
                    int.from_bytes(node[at + 8 : at + 8 + few], "little"),
                )
                stack.append((child, held, level - 1))
                at += 8 + few + many

    def attribute(self, body: bytes) -> tuple[str, str | list[str] | None]:
        """An attribute's name and its text or texts; None for numbers, which mean nothing to us."""
        version, flags, *sizes = struct.unpack_from("<2B3H", body)
        if version not in (1, 2, 3) or (flags & 3 and version > 1):
            raise Hdf5Error(f"{_FOREIGN} (attributes of version {version})", AGAIN)
        parts, at = [], 9 if version == 3 else 8
        for size in sizes:
            parts.append(body[at : at + size])
            at += size + (-size % 8 if version == 1 else 0)
        name = parts[0].split(b"\0")[0].decode()
        type_, shape = _type(parts[1]), _space(parts[2])
        if not prod(shape):
            return name, []
        if type_.kind not in (3, 9):
            return name, None
        texts = self.texts(type_, prod(shape), body[at:])
        return name, texts if shape else texts[0]

    def texts(self, type_: _Type, count: int, data: bytes) -> list[str]:
        if not type_.size or count * type_.size > len(data):
            raise Hdf5Error("it is damaged (an attribute without its text)")
        raw = [data[at : at + type_.size] for at in range(0, count * type_.size, type_.size)]
        if type_.kind == 9:
            raw = [self.from_heap(*struct.unpack("<IQI", part)) for part in raw]
        texts = [part.rstrip(b"\0").decode() for part in raw]
        if any("\0" in text for text in texts):
            raise Hdf5Error("a text in it has a zero byte, at which some programs end it", AGAIN)
        return texts

    def from_heap(self, length: int, address: int, index: int) -> bytes:
        """A text of any length, which is in a global heap."""
        if not length:
            return b""
        if address not in self.heaps:
            self.heaps[address] = self.heap(address)
        text = self.heaps[address].get(index, b"")[:length]
        self.pay(len(text))
        if len(text) != length:
            raise Hdf5Error("it is damaged (a text is missing)")
        return text

    def heap(self, address: int) -> dict[int, bytes]:
        signature, size = struct.unpack("<4s4xQ", self.take(address, 16))
        if signature != b"GCOL" or size < 16:
            raise Hdf5Error("it is damaged (texts without their heap)")
        data, at, found = self.take(address + 16, size - 16), 0, {}
        while at + 16 <= len(data):
            index, length = struct.unpack_from("<H6xQ", data, at)
            if not index:  # the rest is free
                break
            self.pay(length)
            if index in found:
                raise Hdf5Error("it is damaged (two texts in one place)")
            found[index] = data[at + 16 : at + 16 + length]
            at += 16 + length + -length % 8
        return found


class _Blocks:
    """The blocks of a fractal heap, in which the messages of links are one after the other."""

    def __init__(self, parser: _Parser, address: int) -> None:
        head = parser.take(address, 146)
        filters = struct.unpack_from("<H", head, 7)[0]
        width, first, largest, bits, _, root, rows = struct.unpack_from("<HQQ2HQH", head, 110)
        whole = first and largest and not (first & (first - 1) or largest & (largest - 1)) and width
        if head[:5] != b"FRHP\0" or filters or not whole or bits > 64 or largest > MAX_TEXT or rows > _MAX_ROWS:
            raise Hdf5Error("it is damaged (links without their heap)")
        self.parser = parser
        self.offset_size = (bits + 7) // 8
        self.begins: list[int] = []  # by block: the offset of its first byte in the heap
        self.blocks: list[bytes] = []
        self.add(root, 0, first, rows, width, first, largest)

    def add(self, address: int, offset: int, size: int, rows: int, width: int, first: int, largest: int) -> None:
        """Read a block of numbers, or (of some rows) one of addresses of others, which begins at an offset of the heap."""
        self.parser.once(address)
        start = 13 + self.offset_size
        if not rows:
            data = self.parser.take(address, size)
            if data[:4] != b"FHDB":
                raise Hdf5Error("it is damaged (links without their heap)")
            self.begins.append(offset)
            self.blocks.append(data)
            return
        data = self.parser.take(address, start + 8 * rows * width)
        if data[:4] != b"FHIB":
            raise Hdf5Error("it is damaged (links without their heap)")
        for place, child in enumerate(struct.unpack_from(f"<{rows * width}Q", data, start)):
            each = first << max(0, place // width - 1)
            if child != _NOWHERE:
                # A larger one than a block of numbers can be has rows of its own.
                inner = 0 if each <= largest else (each // (first * width)).bit_length()
                self.add(child, offset, each, inner, width, first, largest)
            offset += each

    def message(self, place: bytes) -> bytes:
        """The message at a place in the heap."""
        offset = int.from_bytes(place[1 : 1 + self.offset_size], "little")
        length = int.from_bytes(place[1 + self.offset_size :], "little")
        block = bisect_right(self.begins, offset) - 1
        at = offset - self.begins[block] if block >= 0 else 0
        if place[0] or block < 0 or at + length > len(self.blocks[block]):
            raise Hdf5Error("it is damaged (a link is missing)")
        return self.blocks[block][at : at + length]


def _bytes(most: int) -> int:
    """How many bytes a number takes that can be as large as this."""
    return max(1, (most.bit_length() + 7) // 8)


def _link(body: bytes) -> tuple[str, int]:
    """The name of a link, and the address of the object that it leads to."""
    version, flags = body[0], body[1]
    kind, at = 0, 2
    if flags & 8:
        kind, at = body[at], at + 1
    at += (8 if flags & 4 else 0) + (1 if flags & 16 else 0)  # the order in which it was made; the encoding of its name
    size = 1 << (flags & 3)
    length, at = int.from_bytes(body[at : at + size], "little"), at + size
    raw = body[at : at + length]
    if version != 1 or len(raw) != length:
        raise Hdf5Error("it is damaged (a link without a name)")
    name = raw[: _MAX_PATH + 1].decode()
    if kind:
        what = "a soft link" if kind == 1 else "a link that leads out of the file"
        raise Hdf5Error(f"{name!r} is {what}, which Keras never writes", AGAIN)
    return name, int(struct.unpack_from("<Q", body, at + length)[0])


def _check_name(name: str, links: dict[str, int]) -> None:
    if name in links or name in ("", ".", "..") or "/" in name or "\0" in name:
        raise Hdf5Error(f"{name!r} is a name that no object can have, or it is there twice", AGAIN)


def _space(body: bytes) -> tuple[int, ...]:
    """A shape; that of nothing at all is (0,)."""
    version, rank = body[0], body[1]
    if version not in (1, 2) or rank > 32:
        raise Hdf5Error("it is damaged (an array without a shape)")
    if version == 2 and (body[3] > 2 or (body[3] == 0 and rank)):
        raise Hdf5Error("it is damaged (an array without a shape)")
    if version == 2 and body[3] == 2:
        return (0,)
    return struct.unpack_from(f"<{rank}Q", body, 8 if version == 1 else 4)


def _type(body: bytes) -> _Type:
    kind, bits, size = body[0] & 15, body[1:4], struct.unpack_from("<I", body, 4)[0]
    order = ">" if bits[0] & 1 else "<"
    code = ""
    if kind == 0 and size in (1, 2, 4, 8) and struct.unpack_from("<2H", body, 8) == (0, 8 * size):
        code = f"{order}{'i' if bits[0] & 8 else 'u'}{size}"
    elif kind == 1:
        exponent, mantissa, bias = body[13], body[15], struct.unpack_from("<I", body, 16)[0]
        # All of the number, from its lowest bit: the mantissa, whose first bit is not stored, the exponent, the sign.
        whole = struct.unpack_from("<2H", body, 8) == (0, 8 * size) and (body[12], body[14]) == (mantissa, 0)
        plain = whole and bits[0] & 0xFE == 0x20 and bits[1] == 8 * size - 1
        code = _FLOATS.get((size, exponent, mantissa, bias), "") if plain else ""
        code = code if code in ("", "bfloat16") else order + code
        if code == "bfloat16" and order == ">":
            code = ""
    elif kind == 5 and size == 2:
        code = "V2"
    elif kind == 8 and size == 1 and b"FALSE\0" in body and b"TRUE\0" in body:
        code = "?"
    elif kind == 9 and (bits[0] & 15 != 1 or size != 16):  # sequences that are no texts
        kind = -1
    return _Type(kind, size, code)
