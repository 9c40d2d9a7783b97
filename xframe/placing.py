"""How files and folders get where they belong: whole or not at all, and nothing of anybody else's is lost.

What is made lies in a folder beside its place, ``.xframe-...``, until it is put there by renaming. That folder goes whatever
ends this process, be it a signal that no program can catch: another process (`xframe._keeper`) waits for that. What is replaced
lies in the same folder until the new one stands.

Only a folder that xframe made is replaced. A file in it, ``.xframe``, says so, and lists what xframe put there; a folder that
holds anything else is somebody's own.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG

from xframe._keeper import MADE, OLD, TAKEN, put_back, settle
from xframe.errors import FileError
from xframe.processes import apart, command

__all__ = ["MARK", "check_folder", "making", "place_file", "place_folder", "refused"]

MARK = ".xframe"
_SCHEMA = "xframe-folder/1"
_LONGEST = 2**20  # bytes of a mark


@contextmanager
def making(target: Path) -> Iterator[Path]:
    """Where to make what is to be at ``target``: a name in a folder beside it, which is gone afterwards.

    Raises:
        OSError: the disk refuses.
    """
    target = target.absolute()
    place = target.with_name(f".xframe-{secrets.token_hex(8)}")
    keeper = subprocess.Popen(
        command("_keeper.py", str(place), str(target)),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **apart(),
    )
    assert keeper.stdin is not None
    try:
        place.mkdir(0o700)
        yield place / MADE
    finally:
        settle(place, target)
        keeper.stdin.close()
        keeper.wait()


def refused(path: Path | str, error: OSError, mend: str = "choose another place") -> FileError:
    """The error for what the system refuses."""
    return FileError(f"Cannot write {path}: {error.strerror or error}; {mend}.")


def place_file(made: Path, target: Path, force: bool) -> None:
    """Put a file in its place, whole or not at all; without ``force`` it replaces none.

    Raises:
        FileError: a file has come meanwhile.
        OSError: the disk refuses.
    """
    if force:
        made.replace(target)
        return
    try:
        target.hardlink_to(made)  # unlike renaming, this replaces nothing
    except FileExistsError:
        raise FileError(f"Cannot write {target}: something else was put there meanwhile; name another file.") from None


def check_folder(target: Path, force: bool, sources: Sequence[Path]) -> None:
    """Refuse a place for a folder that is not free, unless xframe made what is there and it may be replaced.

    Args:
        target: the place.
        force: replace what is there.
        sources: what it is made of, which must not be lost.

    Raises:
        FileError: what is there stays.
    """
    try:
        if not target.absolute().parent.is_dir():
            parent = target.absolute().parent
            raise FileError(f"Cannot write {target}: the folder {parent} does not exist; make it first.")
        if _is_there(target):
            _check_replaceable(target, force, sources)
    except FileError:
        raise
    except OSError as error:
        raise refused(target, error) from None


def _is_there(path: Path) -> bool:
    """Whether anything has that name, a link that leads nowhere included. OSError if it can be no name."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def _check_replaceable(target: Path, force: bool, sources: Sequence[Path]) -> None:
    if target.is_symlink():
        raise FileError(f"Cannot write {target}: it is a link; name the folder itself, or another one.")
    if not target.is_dir():
        raise FileError(f"Cannot write {target}: it is a file; name a folder.")
    if not force:
        raise FileError(f"Cannot write {target}: it exists; name another folder, or replace it with --force.")
    for kept in (*sources, Path.cwd(), Path.home()):
        if kept.resolve().is_relative_to(target.resolve()):
            raise FileError(f"Cannot write {target}: it holds {kept}, which would be lost; name another folder.")
    _check_own(target, target)


def _check_own(folder: Path, called: Path) -> None:
    """Refuse a folder that holds what xframe has not put there."""
    other = next(_others(folder), None)
    if other is not None:
        raise FileError(
            f"Cannot write {called}: it holds {other}, which xframe has not put there; name another folder, or remove that one "
            "yourself."
        )


def _others(folder: Path) -> Iterator[str]:
    """What lies in a folder and is not xframe's."""
    listed = _listed(folder / MARK)

    def stop(error: OSError) -> None:
        raise error

    for where, inner, files in os.walk(folder, onerror=stop):
        for name in (*inner, *files):
            path = Path(where) / name
            kept = path.relative_to(folder).as_posix()
            python = path.parent.name == "__pycache__" and path.suffix == ".pyc"  # of a model.py that was imported
            is_file = S_ISREG(path.lstat().st_mode)
            if path.is_symlink() or (name in files and not (is_file and (kept in listed or python))):
                yield kept


def _listed(mark: Path) -> set[str]:
    """What a mark says that xframe has put into its folder; nothing where there is no sound one."""
    try:
        if not S_ISREG(mark.lstat().st_mode) or mark.stat().st_size > _LONGEST:
            return set()
        said = json.loads(mark.read_text(encoding="utf-8"))
        return {MARK, *map(str, said["files"])} if said["schema"] == _SCHEMA else set()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()


def place_folder(made: Path, target: Path, force: bool, sources: Sequence[Path]) -> None:
    """Mark a folder as xframe's and put it in its place, whole or not at all; the one that it replaces goes last.

    Raises:
        FileError: what is there is not to be replaced, or has come meanwhile.
        OSError: the disk refuses.
    """
    files = sorted(path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file())
    (made / MARK).write_text(json.dumps({"schema": _SCHEMA, "files": files}, indent=1) + "\n", encoding="utf-8")
    check_folder(target, force, sources)
    old, taken = made.with_name(OLD), made.with_name(TAKEN)
    if force and _is_there(target):
        target.rename(old)
        _check_own(old, target)  # from here on nobody else finds it
    if os.name != "nt":  # there a folder is not renamed to one that is there
        _take(target, taken, old)
    try:
        made.rename(target)
    except OSError as error:
        raise refused(target, error, "it was changed meanwhile, and is left as it is") from None


def _take(target: Path, taken: Path, old: Path) -> None:
    """Take a place by an empty folder, which is then replaced; one that somebody else has made there would be, too."""
    taken.touch()
    try:
        target.mkdir()
    except FileExistsError:
        taken.unlink()
        kept = ""
        if old.exists() and next(_others(target), None) is None:
            shutil.rmtree(old)  # another conversion has replaced it
        elif old.exists():
            kept = f" What was there before is now {put_back(old, target.absolute())}."
        raise FileError(
            f"Cannot write {target}: something else was put there meanwhile; name another folder.{kept}"
        ) from None
