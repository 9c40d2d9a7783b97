"""Whatever goes wrong: one sentence and status 2; status 1 means "not equivalent" and nothing else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib import format as npy

from xframe.cli import main
from xframe.errors import FileError
from xframe.files import load

XFRAME = [sys.executable, "-m", "xframe"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two layers whose names no terminal of latin-1 can show."""
    path = tmp_path / "m.npz"
    random = np.random.default_rng(1)
    layers = {"漢字/kernel": (3, 2), "漢字/bias": (2,), "größe/kernel": (2, 4)}
    np.savez(path, **{name: random.uniform(0.2, 1, shape).astype("f4") for name, shape in layers.items()})
    return path


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[Any, str, str]:
    with pytest.raises(SystemExit) as left:
        main(list(map(str, words)))
    return (left.value.code, *capsys.readouterr())


# ---- What nobody foresaw.


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ZeroDivisionError("one\ntwo"), "did not foresee went wrong (ZeroDivisionError: one); please report it"),
        (RecursionError(), "did not foresee went wrong (RecursionError: no reason given)"),
        (KeyError("\x1b[2J"), r"KeyError: '\x1b[2J'"),
        (MemoryError(), "There is not enough memory for this"),
        (PermissionError(13, "Permission denied", "/closed"), "Cannot use /closed: Permission denied"),
        (OSError(28, "No space left on device"), "Cannot go on: No space left on device"),
        (OSError("no number"), "OSError: no number"),
        (UnicodeEncodeError("latin-1", "漢", 0, 1, "why"), "UnicodeEncodeError"),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Exception) else "",
)
def test_an_error_that_is_not_foreseen(
    error: Exception, words: str, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr("xframe.files.load", fail)
    status, out, err = run(capsys, "inspect", model)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert words in err
    status, out, err = run(capsys, "inspect", model, "--format", "json")
    assert status == 2
    assert '"status": "error"' in out
    monkeypatch.setenv("XFRAME_DEBUG", "1")
    status, out, err = run(capsys, "inspect", model)
    assert (status, out) == (2, "")
    assert "in fail" in err
    assert words in err.splitlines()[-1]


def test_where_it_happened_is_shown_for_any_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XFRAME_DEBUG", "1")
    status, _, err = run(capsys, "inspect", tmp_path / "nothing")
    assert status == 2
    assert "Traceback" in err
    assert "correct the path" in err.splitlines()[-1]


# ---- Where it is printed.


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
@pytest.mark.parametrize("words", [["inspect", "m.npz"], ["--help"], ["completion", "bash"]], ids=lambda w: w[0])
@pytest.mark.parametrize(
    ("redirected", "status", "said"),
    [
        (">/dev/full", 2, "No space left on device"),
        (">&-", None, ""),
        ("2>/dev/full >/dev/full", 2, ""),
        ("2>&- >&- <&-", None, ""),
        ("| true", 141, ""),
    ],
)
def test_standard_output(words: list[str], redirected: str, status: int | None, said: str, model: Path) -> None:
    """Full, closed, or a pipe that nobody reads. Where there is no output at all, a report cannot be printed."""
    program = f"{sys.executable} -m xframe {' '.join(words)}"
    line = f"{program} {redirected}"
    if redirected == "| true":  # which has ended when something is written
        line = f"set -o pipefail; ( sleep 0.5; {program} ) | true"
    done = subprocess.run(
        ["bash", "-c", line], cwd=model.parent, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == ((2 if words[0] == "inspect" else 0) if status is None else status), done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252"])
def test_what_a_terminal_cannot_show(encoding: str, model: Path) -> None:
    for form in ("text", "markdown", "json", "html"):
        done = subprocess.run(
            [*XFRAME, "inspect", str(model), "--format", form],
            env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        shown = b"&#28450;&#23383;" if form == "html" else rb"\u6f22\u5b57"
        # click takes a terminal of ASCII for one that is not set up, and writes UTF-8.
        assert shown in done.stdout or (encoding == "ascii" and "漢字".encode() in done.stdout)


# ---- Names and folders.

LONG = "x" * 300


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", LONG],
        ["inspect", "m.npz", "--output", LONG],
        ["verify", "m.npz", LONG],
        ["diagnose", LONG, "m.npz"],
        ["convert", LONG, "made", "--to", "npz"],
        ["convert", "m.npz", LONG, "--to", "npz", "--layers-only"],
        ["record", "gru", "--hidden", "2", "--features", "2", "-o", LONG],
        ["check", LONG],
        ["explain", "gru", "--hidden", "2", "--features", "2", "--output", LONG],
        ["inspect", "m.npz/below"],
        ["convert", "m.npz", "m.npz/below", "--to", "npz"],
    ],
    ids=lambda words: f"{words[0]} {len(words)}",
)
def test_names_that_the_system_refuses(
    words: list[str], model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    status, out, err = run(capsys, *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("xframe: error: Cannot ")
    assert [path.name for path in model.parent.iterdir()] == ["m.npz"]


def test_a_byte_that_no_name_has() -> None:
    with pytest.raises(FileError, match="correct the path"):
        load("a\0b")


@pytest.mark.parametrize("words", ["inspect A", "verify A B", "verify B A", "diagnose B A", "convert A made --to npz"])
def test_a_report_never_replaces_what_is_read(
    words: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.npz"
    other.write_bytes(model.read_bytes())
    link = tmp_path / "link.npz"
    link.symlink_to(model)
    given = [{"A": str(model), "B": str(other)}.get(word, word) for word in words.split()]
    for output in (model, link):
        status, _, err = run(capsys, *given, "--output", output)
        assert status == 2
        assert "it is read, too, and would be lost; name another file" in err
    assert model.read_bytes() == other.read_bytes()


def test_a_recording_never_replaces_its_source(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = model.read_bytes()
    status, _, err = run(capsys, "record", model, "-o", model, "--force")
    assert status == 2
    assert "it is what is recorded, and would be lost" in err
    assert model.read_bytes() == before


# ---- What is no file.


def fifo(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        before = Path.cwd()
        os.chdir(path.parent)  # a socket's name is short
        one.bind(path.name)
        os.chdir(before)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


KINDS = {"a pipe": fifo, "a socket": listening, "a device": device}


@pytest.mark.skipif(os.name == "nt", reason="POSIX has them")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["m.npz", "ck/a.index", "sm/variables/variables.index"])
def test_what_is_no_file_is_not_waited_for(kind: str, place: str, tmp_path: Path) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    if place.startswith("sm"):
        (tmp_path / "sm" / "saved_model.pb").touch()
    KINDS[kind](path)
    with pytest.raises(FileError, match=rf"it is {kind}; save what it gives as a file"):
        load(tmp_path / place.partition("/")[0])


@pytest.mark.slow
@pytest.mark.needs("keras")
@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_of_a_checkpoint_are_not_waited_for(kind: str, tmp_path: Path) -> None:
    import tensorflow as tf

    tf.train.Checkpoint(v=tf.Variable([1.0, 2.0])).write(str(tmp_path / "ck"))
    path = next(tmp_path.glob("ck.data-*"))
    path.unlink()
    KINDS[kind](path)
    with pytest.raises(FileError, match=rf"it is {kind}; save what it gives as a file"):
        load(tmp_path / "ck.index")


def test_a_report_is_not_written_into_a_pipe_without_a_reader(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fifo(tmp_path / "pipe")
    status, _, err = run(capsys, "inspect", model, "--output", tmp_path / "pipe")
    assert (status, err.count("\n")) == (2, 1)
    assert "Cannot write" in err


# ---- Files that change while they are read.


def saved(folder: Path) -> Path:
    random = np.random.default_rng(2)
    path = folder / "m.pt"
    torch.save({f"l{i}.weight": torch.from_numpy(random.normal(size=(256, 512))) for i in range(4)}, path)
    return path


@pytest.mark.parametrize("size", [1_200_000, 1_200_001, 4096, 1, 0])
def test_a_file_that_is_cut(size: int, tmp_path: Path) -> None:
    """In a process of its own, which would die of SIGBUS."""
    path = saved(tmp_path)
    code = (
        "import os, sys\nfrom xframe.files import load\nfrom xframe.errors import FileError\n"
        "file = load(sys.argv[1])\nos.truncate(sys.argv[1], int(sys.argv[2]))\n"
        "for tensor in file.tensors.values():\n"
        "    try:\n        tensor.read()\n    except FileError as error:\n        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(size)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert len(done.stdout.splitlines()) == 4
    assert all(line.startswith(f"Cannot read {path}: ") for line in done.stdout.splitlines())


def test_numbers_of_a_mapped_file(tmp_path: Path) -> None:
    """Views of one storage, with gaps and turned, are read as PyTorch has them."""
    whole = torch.arange(60.0).reshape(5, 12)
    tensors = {
        "part": whole[1:4, 2:9:3],
        "turned": whole.t(),
        "one": whole[4, 11],
        "none": whole[:0],
        "wide": whole[0].expand(3, 12),
        "narrow": whole.to(torch.bfloat16)[:, 1::2],
        "yes": whole > 7,
    }
    torch.save(tensors, tmp_path / "m.pt")
    file = load(tmp_path / "m.pt")
    for name, tensor in tensors.items():
        assert np.array_equal(file.tensors[name].read(), tensor.float().numpy()), name
    large = torch.from_numpy(np.random.default_rng(3).normal(size=(300, 700)))
    torch.save({"large": large}, tmp_path / "large.pt")
    assert np.array_equal(load(tmp_path / "large.pt").tensors["large"].read(), large.numpy())


def touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def rewritten(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)


def gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [touched, rewritten, gone])
@pytest.mark.parametrize("form", ["npz", "pt"])
def test_a_file_that_changes(change: Callable[[Path], None], form: str, model: Path, tmp_path: Path) -> None:
    path = model if form == "npz" else saved(tmp_path)
    file = load(path)
    before = [tensor.read() for tensor in file.tensors.values()]
    assert before[0].size
    change(path)
    for tensor in file.tensors.values():
        with pytest.raises(FileError, match=r"it was changed while it was read|is damaged"):
            tensor.read()


# ---- Shapes.


@pytest.mark.parametrize("digits", [19, 300, 4000])
def test_shapes_of_many_digits(digits: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An array of nothing can say that it is as large as it likes."""
    path = tmp_path / "digits.npz"
    text = f"{{'descr': '|S0', 'fortran_order': False, 'shape': ({'9' * digits}, {'9' * digits}), }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", npy.magic(1, 0) + len(text).to_bytes(2, "little") + text.encode())
    status, out, err = run(capsys, "inspect", path)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "a shape of more numbers than" in err
