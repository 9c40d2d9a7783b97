"""CONTRIBUTING.md's "Add a framework in one file", followed to the letter in a copy of the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import xframe

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from update_docs import PART, commands  # noqa: E402

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTION = PAGE[PAGE.index("## Add a framework in one file\n") : PAGE.index("## Rules\n")]
BLOCKS = [found.groupdict() for found in PART.finditer(SECTION)]
FILES = {block["file"]: block["code"] for block in BLOCKS if block["file"] and block["language"] != "diff"}
PREPARED, PROVEN = [commands(block["code"]) for block in BLOCKS if block["language"] == "console"]
(BREAKS,) = [block["code"] for block in BLOCKS if block["language"] == "diff"]
ADAPTER = "xframe/adapters/mine.py"
ELSEWHERE = "pyproject.toml of your distribution"
CONTRACT = PROVEN[0]


def copied(folder: Path) -> Path:
    """The repository, its package from where it was imported."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(xframe.__file__).parent, folder / "xframe", ignore=ignored)
    for name in ("tests", "scripts", "docs", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    return folder


def run(command: str, folder: Path, status: int = 0) -> str:
    """What a command of the page prints, with the xframe of ``folder``."""
    env = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("GITHUB_STEP_SUMMARY", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
        env.pop(name, None)
    words = re.sub(r"^python ", f'"{sys.executable}" ', command)
    done = subprocess.run(words, shell=True, capture_output=True, text=True, check=False, cwd=folder, env=env)
    assert done.returncode == status, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


def add(path: Path, lines: str) -> None:
    """Put the lines of a block where their dots say in a file; a line without dots before the next, or at the end."""
    text, waiting = path.read_text(encoding="utf-8"), ""
    for line in lines.splitlines():
        before, dots, new = line.partition("..., ")
        if not dots:
            waiting += f"{line}\n"
            continue
        name, opening = before.split(" = ")
        closing = {"{": "}", "[": "]", '["xframe[': ']"]'}[opening]
        place = rf"^{name}\b[^\n]* = {re.escape(opening)}"
        assert len(re.findall(place, text, re.MULTILINE)) == 1, (path.name, line)
        row = new.removesuffix(closing)
        text = re.sub(place, lambda found, row=row, w=waiting: f"{w}{found[0]}{row},", text, flags=re.MULTILINE)
        waiting = ""
    path.write_text(text + waiting, encoding="utf-8")


def broken(adapter: str) -> list[tuple[str, str]]:
    """The adapter with each of the page's breaks, and what the page says of it."""
    found = []
    for hunk in re.split(r"^@@ ", BREAKS, flags=re.MULTILINE)[1:]:
        name, *lines = hunk.splitlines()
        old, new = ("\n".join(line[1:] for line in lines if line[0] == sign) for sign in "-+")
        assert adapter.count(old) == 1, name
        found.append((name, adapter.replace(old, new)))
    return found


@pytest.mark.slow
@pytest.mark.needs("keras")
def test_a_framework_is_added_by_what_the_page_says(tmp_path: Path) -> None:
    """The file and the rows, the proof, and that it can fail."""
    folder = copied(tmp_path)
    assert run('python -c "import xframe; print(xframe.__file__)"', folder).strip() == str(
        folder / "xframe/__init__.py"
    )
    for command in PREPARED:
        run(command, folder)
    for name, lines in FILES.items():
        if name != ELSEWHERE:
            add(folder / name, lines)
    outputs = dict(zip(PROVEN, [run(command, folder) for command in PROVEN], strict=True))
    contract, typed, moved, explained, compared, table = outputs.values()
    assert int(re.search(r"(\d+) passed", contract)[1]) > 40
    assert int(re.search(r"(\d+) passed", typed)[1]) > 10
    assert int(re.search(r"(\d+) passed", moved)[1]) > 10
    assert re.search(r"^\s*Mine .*\b120\b", explained, re.MULTILINE)
    assert "VERDICT: equivalent. Keras and Mine compute the same function" in " ".join(compared.split())
    assert "| Mine " in table.splitlines()[0]
    assert "mine 1.0" in run("python -m xframe --version", folder).replace("of unknown version", "1.0")
    adapter = (folder / ADAPTER).read_text(encoding="utf-8")
    breaks = broken(adapter)
    assert len(breaks) == 3
    for name, code in breaks:
        (folder / ADAPTER).write_text(code, encoding="utf-8")
        assert re.search(r"\d failed", run(f"{CONTRACT} -x", folder, status=1)), name


def test_a_distribution_adds_a_framework_by_its_entry_point(tmp_path: Path) -> None:
    """By the real mechanism: files that pip would have installed, and xframe as it is."""
    for command in PREPARED:
        run(command.replace("tests/", f"{ROOT}/tests/").replace(ADAPTER, "xframe_mine.py"), tmp_path)
    information = tmp_path / "xframe_mine-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: xframe-mine\nVersion: 1.0\n", encoding="utf-8")
    section, entry = re.fullmatch(
        r'\[project\.entry-points\."(.+)"\]\n(mine = "xframe_mine")\n', FILES[ELSEWHERE]
    ).groups()
    (information / "entry_points.txt").write_text(f"[{section}]\n{entry.replace(chr(34), '')}\n", encoding="utf-8")
    package = Path(xframe.__file__).parent.parent
    code = f"import sys; sys.path.append({str(package)!r}); from xframe.cli import main; main()"
    command = f'python -c "{code}" explain rnn --hidden 10 --features 1'
    assert re.search(r"^\s*Mine .*\b120\b", run(command, tmp_path), re.MULTILINE)
    compared = run(f'python -c "{code}" compare rnn --hidden 4 --features 3 --frameworks mine', tmp_path)
    assert "VERDICT: equivalent." in compared
