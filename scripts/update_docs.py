"""Run what the README and the pages in docs/ show, and put what it prints there.

A page is a session in a folder of its own, run from top to bottom:

    ```python ... ```                           is run; its names stay until the end of the page
    ```LANGUAGE title="FILE" ... ```            is written to FILE
    $ COMMAND                                   in a ```console block is run
    <!-- output of: COMMAND --> ... <!-- end -->  holds what COMMAND prints, a report as text and Markdown as it is
    <!-- output of: the code above -->          holds what the Python block before it printed

A command may end in ``| head -n N`` or ``| tail -n N``, and in ``# exit status N`` where N is not 0. Benchmarks and the
calibrations take minutes and a quiet machine, answers and findings a minute; they are run only with ``--all``.

    python scripts/update_docs.py [--all] [PAGE ...]
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PART = re.compile(
    r"<!-- output of: (?P<command>[^\n]+?) -->\n(?P<body>.*?)<!-- end -->\n"
    r'|^```(?P<language>\w+)(?: title="(?P<file>[^"\n]+)")?[^\n]*\n(?P<code>.*?)^```\n',
    re.DOTALL | re.MULTILINE,
)
ABOVE = "the code above"
SLOW = re.compile(r"answers|bench_|calibrate|single_weights|findings|--suite")
# What a reader types that sets up a machine; every other program is run.
NOT_RUN = ("cd", "git", "make", "pip")
_RUN = {
    "xframe": ["-m", "xframe"],
    "pytest": ["-m", "pytest", "-p", "xframe.pytest_plugin", "-p", "no:cacheprovider"],
    "python": [],
}
_STATUS = re.compile(r"\s+# exit status (\d)$")
_SOME = re.compile(r"\s+\| (head|tail) -n (\d+)$")


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Every command of a page with the output that stands there."""
    for found in PART.finditer(text):
        if found["command"]:
            yield found["command"], found["body"].removeprefix("```text\n").removesuffix("```\n")


def commands(code: str) -> list[str]:
    """The lines of a console block that a reader types."""
    return re.findall(r"^\$ (.+)$", code, re.MULTILINE)


def replayed(text: str, folder: Path, slow: bool = False) -> str:
    """The page as it would be written now: everything in it is run, in ``folder``."""
    session = _Session(folder, slow)
    return PART.sub(session.part, text)


def output(command: str, folder: Path = ROOT) -> str:
    """What a command prints; ``xframe``, ``pytest`` and ``python`` are those that run this script.

    Raises:
        RuntimeError: its exit status is not the one that it says.
    """
    return _cut(command, _whole(command, folder))


def _typed(command: str) -> str:
    """The command without what becomes of its output."""
    return _SOME.sub("", _STATUS.sub("", command))


def _whole(command: str, folder: Path) -> str:
    expected = int(found[1]) if (found := _STATUS.search(command)) else 0
    program, *arguments = shlex.split(_typed(command))
    # Scripts and examples are in the repository, all else is in the folder of the page.
    arguments = [str(ROOT / word) if "/" in word and (ROOT / word).exists() else word for word in arguments]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    env.pop("GITHUB_STEP_SUMMARY", None)  # to which reports would be added
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # xframe's is named, because xframe may not be installed
    words = [sys.executable, *_RUN[program], *arguments]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder, env=env)
    if done.returncode != expected:
        raise RuntimeError(f"{command!r} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _cut(command: str, text: str) -> str:
    """The lines that ``| head`` or ``| tail`` leaves."""
    some = _SOME.search(_STATUS.sub("", command))
    if some is None:
        return text
    lines, count = text.splitlines(keepends=True), int(some[2])
    return "".join(lines[:count] if some[1] == "head" else lines[-count:])


class _Session:
    """One page that is being run."""

    def __init__(self, folder: Path, slow: bool) -> None:
        self._folder, self._slow = folder, slow
        self._names: dict[str, Any] = {"__name__": "__page__"}
        self._printed = {ABOVE: ""}

    def part(self, found: re.Match[str]) -> str:
        """The part of a page as it would be written now."""
        if found["command"]:
            return self._filled(found)
        if found["file"]:
            target = self._folder / found["file"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(found["code"], encoding="utf-8")
        elif found["language"] == "python":
            self._printed[ABOVE] = self._run(found["code"])
        elif found["language"] == "console":
            for command in commands(found["code"]):
                if command.split()[0] not in NOT_RUN and not SLOW.search(command):
                    self._printed[_typed(command)] = _whole(command, self._folder)
        return found[0]

    def _filled(self, found: re.Match[str]) -> str:
        command = found["command"]
        if SLOW.search(command) and not self._slow:
            return found[0]
        # What a console block has just shown is not run again.
        typed = _typed(command)
        if typed not in self._printed:
            self._printed[typed] = _whole(command, self._folder)
        text = _cut(command, self._printed[typed])
        body = text if text.startswith(("|", "#")) else f"```text\n{text}```\n"
        return f"<!-- output of: {command} -->\n{body}<!-- end -->\n"

    def _run(self, code: str) -> str:
        """What Python prints."""
        printed, before = io.StringIO(), Path.cwd()
        os.chdir(self._folder)
        sys.path.insert(0, str(self._folder))
        try:
            with redirect_stdout(printed):
                exec(compile(code, "page", "exec"), self._names)
        finally:
            os.chdir(before)
            sys.path.remove(str(self._folder))
            # What was imported from the folder; another page may have a file of the same name.
            own = {path.stem for path in self._folder.iterdir()}
            for name in [name for name in sys.modules if name.split(".")[0] in own]:
                del sys.modules[name]
        return printed.getvalue()


def main(arguments: list[str]) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    chosen = [Path(name).resolve() for name in arguments if name != "--all"]
    for page in chosen or PAGES:
        with tempfile.TemporaryDirectory() as folder:
            text = replayed(page.read_text(encoding="utf-8"), Path(folder), "--all" in arguments)
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
