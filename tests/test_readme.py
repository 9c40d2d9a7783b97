"""The README and the documentation say what happens: commands run, reports are what they print, code works."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from xframe.cli import cli

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from update_docs import NOT_RUN, PAGES, PART, SLOW, blocks, commands, replayed  # noqa: E402

TEXTS = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}
RUN = [name for name, text in TEXTS.items() if PART.search(text)]

# Rounding errors, and what is in units of them, differ from machine to machine, and versions from day to day.
ROUNDING = re.compile(
    r"\b\d(?:\.\d+)?e[+-]\d\d\b|(?<=within )[\d.]+(?= times)|(?<=before: )[\d.]+(?= off)|(?<=off by )[\d.]+"
)
COLUMN = re.compile(r"(?<=\s)\d\.?\d*(?=\s{2,}\S)")
VERSIONS = re.compile(r"^(?:\* )?Environment:.*?\n(?=\n)|\(keras_version [^)]*\)", re.MULTILINE | re.DOTALL)


def without_rounding(report: str) -> list[str]:
    """The words of a report, with those numbers that are rounding errors masked."""
    lines = VERSIONS.sub("", report).splitlines()
    small = [COLUMN.sub("#", line) if "e-" in line or "times" in line or "e+" in line else line for line in lines]
    return ROUNDING.sub("#", " ".join(" ".join(small).split())).split()


def typed() -> Iterator[str]:
    """Every command of xframe that stands on a page, to be run or only to be read."""
    for text in TEXTS.values():
        yield from (command for command, _ in blocks(text))
        for found in PART.finditer(text):
            if found["language"] in ("console", "text"):
                yield from re.findall(r"^(?:\$ )?(xframe .+)$", found["code"], re.MULTILINE)


def test_the_readme_leads_with_two_commands() -> None:
    text = TEXTS["README.md"]
    assert text[text.index("```console") :].startswith("```console\n$ make compare\n$ make test\n```")


@pytest.mark.needs("keras", "torch")
@pytest.mark.parametrize("page", RUN)
def test_a_page_is_what_happens(page: str, tmp_path: Path) -> None:
    shown = list(blocks(TEXTS[page]))
    printed = list(blocks(replayed(TEXTS[page], tmp_path)))
    assert [command for command, _ in shown] == [command for command, _ in printed]
    for (command, there), (_, now) in zip(shown, printed, strict=True):
        assert there.strip(), command
        assert without_rounding(there) == without_rounding(now), command


@pytest.mark.parametrize("command", sorted({c for c in typed() if c.startswith("xframe ")}))
def test_a_command_is_one(command: str) -> None:
    """Those that stand there to be read only, too."""
    _, name, *words = command.split()
    known = {
        option for parameter in cli.commands[name].params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    given = {word.split("=")[0] for word in words if word.startswith("-")} - {"-n"}  # of head and tail
    assert given <= known


def test_every_program_is_known() -> None:
    """A command that is neither run nor known to be about the reader's machine would not be checked by anything."""
    programs = {
        command.split()[0]
        for text in TEXTS.values()
        for found in PART.finditer(text)
        if found["language"] == "console"
        for command in commands(found["code"])
    }
    assert programs <= {"xframe", "pytest", "python", *NOT_RUN}


def test_the_figures_that_take_long_are_there() -> None:
    slow = {command: body for text in TEXTS.values() for command, body in blocks(text) if SLOW.search(command)}
    assert {command.split()[1] for command in slow} == {
        "scripts/answers.py",  # held against its page by test_answers.py
        "scripts/calibrate.py",
        "scripts/single_weights.py",
        "scripts/findings.py",  # held against the README by test_findings.py
        *(str(path.relative_to(ROOT)) for path in (ROOT / "scripts").glob("bench_*.py")),
    }
    assert all(
        any(word in body for word in ("ratio", "largest", "median", "off by", "cases", "equivalent, model", "silent"))
        for body in slow.values()
    )
