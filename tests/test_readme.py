"""The README says what happens: its commands run, its reports are what they print, its code works."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from update_readme import SLOW, blocks, output  # noqa: E402

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = {command: body for command, body in blocks(TEXT) if not SLOW.search(command)}
SHOWN = re.findall(r"^\$ (xframe .+)$", TEXT, re.MULTILINE)

# Rounding errors, and what is in units of them, differ from machine to machine, and versions from day to day.
ROUNDING = re.compile(r"\b\d\.\de[+-]\d\d\b|\b\d+e\+\d\d\b|(?<=within )[\d.]+(?= times)|(?<=\s)\d\.?\d*(?=\s{2,}\S)")
VERSIONS = re.compile(r"^\* Environment:.*?\n(?=\n)", re.MULTILINE | re.DOTALL)


def without_rounding(report: str) -> list[str]:
    """The words of a report, with those numbers that are rounding errors masked."""
    lines = VERSIONS.sub("", report).splitlines()
    return " ".join(
        ROUNDING.sub("#", line) if "e-" in line or "times" in line or "e+" in line else line for line in lines
    ).split()


def test_the_readme_leads_with_two_commands() -> None:
    first = TEXT.index("```console")
    assert TEXT[first:].startswith("```console\n$ make compare\n$ make test\n```")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_report_is_what_the_command_prints(command: str) -> None:
    assert COMMANDS[command].strip()
    assert without_rounding(COMMANDS[command]) == without_rounding(output(command))


@pytest.mark.parametrize("command", [c for c in SHOWN if "--suite" not in c])
def test_a_command_runs(command: str) -> None:
    assert output(command)


def test_the_figures_that_take_long_are_there() -> None:
    slow = {command: body for command, body in blocks(TEXT) if SLOW.search(command)}
    assert {command.split()[1] for command in slow} == {
        "scripts/calibrate.py",
        *(str(path.relative_to(ROOT)) for path in (ROOT / "scripts").glob("bench_*.py")),
    }
    assert all("ratio" in body or "largest" in body or "median" in body for body in slow.values())


def test_the_code_works(capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for code in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
        printed.append(capsys.readouterr().out)
    assert printed == [
        "(2, 9, 14) 1554\nLSTM(8) on 3 features\nModel\n",
        "Recurrent GRU(6) on 4 features, reset after, gates hard_sigmoid, mask any (zero)\n",
    ]
