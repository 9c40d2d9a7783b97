"""What is made takes its place whole or not at all, and what is somebody's own is never lost, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xframe import placing
from xframe.errors import FileError
from xframe.placing import MARK, check_folder, making, place_file, place_folder


def listing(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def put(target: Path, text: str = "new", force: bool = True, sources: tuple[Path, ...] = ()) -> None:
    """Make a folder with one file in it and one below."""
    with making(target) as made:
        (made / "below").mkdir(parents=True)
        (made / "weights").write_text(text)
        (made / "below" / "weights").write_text(text)
        place_folder(made, target, force, sources)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A folder that xframe made."""
    folder = tmp_path / "made"
    put(folder, "old")
    return folder


def test_a_mark_lists_what_was_put_there(target: Path, tmp_path: Path) -> None:
    said = json.loads((target / MARK).read_text())
    assert said == {"schema": "xframe-folder/1", "files": ["below/weights", "weights"]}
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_what_xframe_made_is_replaced(target: Path, tmp_path: Path) -> None:
    """With what Python puts beside a model.py that is imported."""
    (target / "__pycache__").mkdir()
    (target / "__pycache__" / "model.cpython-312.pyc").write_bytes(b"")
    put(target)
    assert listing(target).keys() == {MARK, "weights", "below/weights"}
    assert (target / "weights").read_text() == "new"
    empty = tmp_path / "empty"
    empty.mkdir()
    put(empty)
    assert (empty / "weights").read_text() == "new"


def _a_file(folder: Path) -> None:
    (folder / "thesis.tex").write_text("mine")


def _a_file_below(folder: Path) -> None:
    (folder / "below" / "chapters").mkdir()
    (folder / "below" / "chapters" / "1.tex").write_text("mine")


def _a_link(folder: Path) -> None:
    (folder.parent / "home").mkdir()
    (folder.parent / "home" / "x").write_text("mine")
    (folder / "link").symlink_to(folder.parent / "home")


def _a_link_for_a_file(folder: Path) -> None:
    (folder.parent / "x").write_text("mine")
    (folder / "weights").unlink()
    (folder / "weights").symlink_to(folder.parent / "x")


def _a_pipe(folder: Path) -> None:
    (folder / "weights").unlink()
    os.mkfifo(folder / "weights")


def _no_mark(folder: Path) -> None:
    (folder / MARK).unlink()


def _no_mark_but_nonsense(folder: Path) -> None:
    (folder / MARK).write_text("[" * 100_000)


def _the_mark_of_something_else(folder: Path) -> None:
    (folder / MARK).write_text('{"schema": "another/1", "files": ["weights", "below/weights"]}')


def _a_mark_without_an_end(folder: Path) -> None:
    (folder / MARK).unlink()
    (folder / MARK).symlink_to("/dev/zero")


@pytest.mark.parametrize(
    "change",
    [
        _a_file, _a_file_below, _a_link, _a_link_for_a_file, _a_pipe, _no_mark, _no_mark_but_nonsense,
        _the_mark_of_something_else, _a_mark_without_an_end,
    ],
)  # fmt: skip
def test_what_is_not_xframes_stays(change: Callable[[Path], None], target: Path, tmp_path: Path) -> None:
    change(target)
    before = sorted(map(str, tmp_path.rglob("*")))
    for act in (lambda: check_folder(target, True, []), lambda: put(target)):
        with pytest.raises(FileError, match=r"it holds .*, which xframe has not put there; name another folder"):
            act()
        assert sorted(map(str, tmp_path.rglob("*"))) == before


def test_what_must_not_be_replaced(target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(FileError, match="it is a link; name the folder itself"):
        check_folder(link, True, [])
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileError, match="it is a link"):
        check_folder(tmp_path / "dangling", True, [])
    for source in (target, target / "weights", target / "below" / "weights", target / "below"):
        with pytest.raises(FileError, match="which would be lost"):
            check_folder(target, True, [tmp_path / "other", source])
    monkeypatch.setenv("HOME", str(target / "below"))
    with pytest.raises(FileError, match="which would be lost"):
        check_folder(target, True, [])
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(target)
    with pytest.raises(FileError, match="which would be lost"):
        check_folder(Path("../made"), True, [])
    with pytest.raises(FileError, match="File name too long; choose another place"):
        check_folder(tmp_path / ("x" * 300), True, [])


# ---- Meanwhile.


@pytest.mark.parametrize("content", [[], ["precious"]])
def test_a_folder_that_comes_meanwhile_stays(
    content: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Just after it was seen that there is none."""
    target, check = tmp_path / "made", placing.check_folder

    def slow(*given: Any) -> None:
        check(*given)
        target.mkdir()
        for name in content:
            (target / name).write_text("mine")

    monkeypatch.setattr(placing, "check_folder", slow)
    with pytest.raises(FileError, match="something else was put there meanwhile; name another folder"):
        put(target, force=False)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert listing(target) == dict.fromkeys(content, "mine")


def test_a_folder_that_comes_while_another_is_replaced(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one is left as it is, and the other is beside it."""
    rename = Path.rename

    def slow(self: Path, to: Path) -> Path:
        found = rename(self, to)
        if self == target:
            target.mkdir()
            (target / "precious").write_text("mine")
        return found

    monkeypatch.setattr(Path, "rename", slow)
    with pytest.raises(FileError, match=r"meanwhile; .* What was there before is now .*made\.old-1\.$"):
        put(target)
    assert listing(target) == {"precious": "mine"}
    assert {path.name for path in tmp_path.iterdir()} == {"made", "made.old-1"}
    assert (tmp_path / "made.old-1" / "weights").read_text() == "old"


def test_two_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One wins whole, and the other says so, whether or not there was one before."""
    target, take = tmp_path / "made", placing._take
    for force in (False, True):
        with monkeypatch.context() as patch:

            def second(*given: Any, force: bool = force, patch: Any = patch) -> None:
                patch.setattr(placing, "_take", take)
                put(target, "second", force)
                take(*given)

            patch.setattr(placing, "_take", second)
            with pytest.raises(FileError, match=r"meanwhile; name another folder\.$"):
                put(target, "first", force)
        assert (target / "weights").read_text() == "second"
        assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_file_that_comes_meanwhile_stays(tmp_path: Path) -> None:
    target = tmp_path / "golden.npz"
    for force in (False, True):
        with making(target) as made:
            made.write_text("new")
            target.write_text("mine")
            if not force:
                with pytest.raises(FileError, match="meanwhile; name another file"):
                    place_file(made, target, force)
                assert target.read_text() == "mine"
            else:
                place_file(made, target, force)
    assert target.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["golden.npz"]


# ---- A process that ends.

STAGES = """
    import os, signal, sys, time
    from pathlib import Path
    from xframe import placing

    target, stage, how = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

    def end(*_):
        os.kill(os.getpid(), how)
        time.sleep(60)

    def after(owner, name, condition=lambda *_: True):
        plain = getattr(owner, name)
        def ending(*given):
            found = plain(*given)
            if condition(*given):
                end()
            return found
        setattr(owner, name, ending)

    if stage == "moved aside":
        after(Path, "rename", lambda one, _: one == target)
    if stage == "taken":
        after(Path, "mkdir", lambda one, *_: one == target)
    if stage == "in place":
        after(Path, "rename", lambda one, _: one.name == "made" and one != target)
    with placing.making(target) as made:
        made.mkdir()
        (made / "weights").write_text("new")
        if stage == "made":
            end()
        placing.place_folder(made, target, True, [])
"""


def ended(tmp_path: Path, stage: str, how: signal.Signals) -> Path:
    """Where a process put a folder that was killed at a stage of that, when all is quiet again."""
    target = tmp_path / "made"
    script = tmp_path.parent / f"{tmp_path.name}.py"
    script.write_text(textwrap.dedent(STAGES))
    words = [sys.executable, str(script), str(target), stage, str(int(how))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -how, done.stderr
    end = time.monotonic() + 60
    while any(path.name.startswith(".xframe-") for path in tmp_path.iterdir()) and time.monotonic() < end:
        time.sleep(0.02)
    return target


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda how: how.name)
@pytest.mark.parametrize(
    ("before", "stage"),
    [*((True, stage) for stage in ("made", "moved aside", "taken", "in place")), (False, "taken"), (False, "in place")],
)
def test_a_process_that_is_ended(before: bool, stage: str, how: signal.Signals, tmp_path: Path) -> None:
    """The old or the new, whole, and nothing else."""
    if before:
        put(tmp_path / "made", "old")
    target = ended(tmp_path, stage, how)
    if stage == "in place" or before:
        assert (target / "weights").read_text() == ("new" if stage == "in place" else "old")
        assert (target / MARK).exists()
    assert [path.name for path in tmp_path.iterdir()] == (["made"] if stage == "in place" or before else [])
