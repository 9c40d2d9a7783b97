"""Zip files of which there is one reading.

A zip has its list of entries at the end, and says twice where that is; each entry says twice what it is called. Python's
`zipfile` and PyTorch's own reader go by different ones of these, so that one file may hold two models: the one that is checked
and the one that is loaded. So a zip in which they differ is refused, and so is one whose entries share bytes, which may unpack to
any size.
https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NoReturn

from xframe.budget import current
from xframe.files.base import unreadable

__all__ = ["opened"]

_END, _END64, _LOCATOR, _LOCAL, _ENTRY = b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\3\4", b"PK\1\2"
_END_SIZE, _END64_SIZE, _LOCATOR_SIZE, _LOCAL_SIZE, _ENTRY_SIZE = 22, 56, 20, 30, 46
_LONGEST_COMMENT = 2**16 - 1
_UNICODE_NAME = 0x7075  # another name for an entry, which some readers go by
_ENCRYPTED = 1


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, of which the list and the entries have been checked; what it unpacks to is taken from the budget.

    Raises:
        FileError: it is ambiguous, or asks for more memory than is allowed. What a damaged zip raises is that of `zipfile`.
    """
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        _check(path, file, entries)
        # What is stored as it is, is no larger than the file.
        packed = [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
        current().take(
            sum(max(0, entry.file_size - entry.compress_size) for entry in packed),
            f"Cannot read {path}: what it unpacks to",
        )
        yield archive


def _check(path: Path, file: BinaryIO, entries: list[zipfile.ZipInfo]) -> None:
    start, size, count = _directory(path, file)
    file.seek(start)
    names = _listed(path, file.read(size))
    if len(names) != count or len(entries) != count:
        _ambiguous(path, f"it says that it has {count} entries, and lists {len(names)}")
    seen: set[str] = set()
    for entry in entries:
        if entry.filename in seen:
            raise unreadable(path, f"it holds the name {entry.filename[:80]!r} twice")
        seen.add(entry.filename)
    end = 0
    for entry, name in sorted(zip(entries, names, strict=True), key=lambda pair: pair[0].header_offset):
        if entry.header_offset < end:
            _ambiguous(path, f"{entry.filename[:80]!r} shares bytes with the entry before it")
        end = _end(path, file, entry, name)
        if end > start:
            _ambiguous(path, f"{entry.filename[:80]!r} reaches into the list of entries")


def _directory(path: Path, file: BinaryIO) -> tuple[int, int, int]:
    """Where the list of entries is, how long, and of how many entries, as every reader must find it."""
    length = file.seek(0, 2)
    tail_start = max(0, length - _END_SIZE - _LONGEST_COMMENT)
    file.seek(tail_start)
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_SIZE:
        _ambiguous(path, "it does not end as a zip does")
    disk, first_disk, here, count, size, start, comment = struct.unpack_from("<4H2IH", tail, at + 4)
    end = tail_start + at
    if end + _END_SIZE + comment != length:
        _ambiguous(path, "something follows its end")
    if disk or first_disk or here != count:
        _ambiguous(path, "it is one of several parts")
    found = [count, size, start]
    file.seek(max(0, end - _LOCATOR_SIZE))
    locator = file.read(_LOCATOR_SIZE)
    if locator.startswith(_LOCATOR) and end >= _LOCATOR_SIZE + _END64_SIZE:
        end -= _LOCATOR_SIZE + _END64_SIZE
        file.seek(end)
        record = file.read(_END64_SIZE)
        place, disks = struct.unpack_from("<8xQI", locator)
        kind, rest, disk, first_disk, here, *large = struct.unpack("<4sQ4x2I4Q", record)
        if kind != _END64 or rest != _END64_SIZE - 12 or place != end or disks != 1 or disk or first_disk:
            _ambiguous(path, "its two ends do not fit each other")
        if here != large[0]:
            _ambiguous(path, "it is one of several parts")
        # The small numbers are the same, or say that they are too small for it.
        for small, number, most in zip(found, large, (2**16 - 1, 2**32 - 1, 2**32 - 1), strict=True):
            if small not in (number, most):
                _ambiguous(path, "its two ends do not fit each other")
        found = large
    count, size, start = found
    if start + size != end:
        _ambiguous(path, "its list of entries is not where it says")
    return start, size, count


def _listed(path: Path, listing: bytes) -> list[bytes]:
    """The names of the entries, byte for byte."""
    names, at = [], 0
    while at < len(listing):
        if listing[at : at + 4] != _ENTRY or len(listing) - at < _ENTRY_SIZE:
            _ambiguous(path, "its list of entries is damaged")
        name, extra, comment = struct.unpack_from("<3H", listing, at + 28)
        start = at + _ENTRY_SIZE
        names.append(listing[start : start + name])
        _check_extra(path, listing[start + name : start + name + extra])
        if b"\0" in names[-1]:
            _ambiguous(path, "a name in it has a zero byte, at which some readers end it")
        at = start + name + extra + comment
    if at != len(listing):
        _ambiguous(path, "its list of entries is damaged")
    return names


def _check_extra(path: Path, extra: bytes) -> None:
    """Refuse a second name, and two sizes."""
    kinds, at = set(), 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == _UNICODE_NAME or kind in kinds:
            _ambiguous(path, "an entry has two names or two sizes")
        kinds.add(kind)
        at += 4 + size


def _end(path: Path, file: BinaryIO, entry: zipfile.ZipInfo, name: bytes) -> int:
    """Where an entry's bytes end; its own header must say what the list says."""
    file.seek(entry.header_offset)
    head = file.read(_LOCAL_SIZE)
    if len(head) < _LOCAL_SIZE or not head.startswith(_LOCAL):
        _ambiguous(path, f"{entry.filename[:80]!r} is not where the list says")
    flags, method, name_size, extra = struct.unpack("<6x2H16x2H", head)
    if file.read(name_size) != name or method != entry.compress_type or (flags ^ entry.flag_bits) & _ENCRYPTED:
        _ambiguous(path, f"{entry.filename[:80]!r} is called or packed otherwise in its own header")
    if entry.compress_type == zipfile.ZIP_STORED and entry.file_size != entry.compress_size:
        _ambiguous(path, f"{entry.filename[:80]!r} has two sizes")
    return int(entry.header_offset + _LOCAL_SIZE + name_size + extra + entry.compress_size)


def _ambiguous(path: Path, why: str) -> NoReturn:
    raise unreadable(path, f"programs may read this zip file differently: {why}", "get a whole copy, or save it again")
