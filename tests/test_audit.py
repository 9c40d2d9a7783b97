"""`make audit`: what follows from pip-audit's answers, above all from none."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import helpers
import pytest

ROOT = Path(__file__).resolve().parent.parent
GOOD = {"name": "click", "version": "8.5.1", "vulns": []}
BAD = {"name": "keras", "version": "3.7.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.8.0", "3.9"]}]}
OPEN = {"name": "torch", "version": "2.13.0", "vulns": [{"id": "PYSEC-2\x1b[31m", "fix_versions": []}]}
SKIPPED = {"name": "flax", "skip_reason": "not found"}


@pytest.fixture
def script() -> ModuleType:
    return helpers.module_at(ROOT / "scripts" / "audit.py")


@pytest.fixture
def audit(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, list[Sequence[str]]]]:
    """The script with these answers of pip-audit, one a call; gives the status, and what was asked for."""

    def run(*answers: Any) -> tuple[int, list[Sequence[str]]]:
        left, asked = list(answers), []

        def ran(words: Sequence[str], done: str, environment: dict[str, str]) -> str:
            if done == "installed":
                return ""
            asked.append(Path(words[-1]).read_text(encoding="utf-8").splitlines())
            answer = left.pop(0)
            if isinstance(answer, str):
                raise script.NoAnswerError(answer)
            return json.dumps({"dependencies": answer, "fixes": []})

        monkeypatch.setattr(script, "_run", ran)
        return script.main(), asked

    return run


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ([GOOD], 0, "1 of 1 packages looked up, known vulnerabilities: 0."),
        (
            [GOOD, BAD],
            1,
            "keras 3.7.0: PYSEC-1, mended in 3.8.0, 3.9.\n2 of 2 packages looked up, known vulnerabilities: 1.",
        ),
        ([OPEN, SKIPPED], 1, "torch 2.13.0: PYSEC-2\\x1b[31m, mended in no version yet."),
        ([GOOD, SKIPPED], 2, "Not looked up: flax (not found).\n1 of 2 packages looked up, known vulnerabilities: 0."),
        ([SKIPPED], 2, "0 of 1 packages looked up, known vulnerabilities: 0."),
        ([], 2, "0 of 0 packages looked up, known vulnerabilities: 0."),
    ],
)
def test_only_what_was_looked_up_counts(
    answer: Any, status: int, said: str, audit: Any, script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    found, asked = audit([BAD], answer)
    assert found == status
    assert said in capsys.readouterr().out
    # The whole file, after the version that has a flaw.
    assert asked[0] == [script.FLAWED]
    assert len(asked[1]) == len(script.pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))) > 100


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ([SKIPPED], "know of no flaw in keras==3.7.0, which has one"),
        ([{**BAD, "vulns": []}], "know of no flaw in keras==3.7.0, which has one"),  # an index without advisories
        ([], "know of no flaw in keras==3.7.0, which has one"),
        ("pip-audit was not answered (no route to host)", "no route to host"),
    ],
)
def test_no_advisories_are_no_audit(answer: Any, why: str, audit: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found, asked = audit(answer)
    out = capsys.readouterr().out
    assert (found, len(asked)) == (2, 1)
    assert out.startswith("NOT AUDITED: ")
    assert out.endswith("Nothing is known either way.\n")
    assert why in out


def test_a_command_that_fails_says_why(script: ModuleType) -> None:
    python = [sys.executable, "-c"]
    with pytest.raises(script.NoAnswerError, match=r"^pip-audit was not installed \(no index\)$"):
        script._run([*python, "import sys; sys.exit('a\\nno index.')"], "installed", {})
    with pytest.raises(script.NoAnswerError, match=r"\(status 3\)$"):
        script._run([*python, "raise SystemExit(3)"], "installed", {})
    # What pip-audit found stands in its answer, whatever its status.
    assert script._run([*python, "import os; print(os.environ['A']); exit(1)"], "answered", {"A": "{}"}) == "{}\n"


def test_constraints_are_versions_and_conditions(script: ModuleType) -> None:
    assert script.pins("# a\n\nclick==8.5.1\nflax==0.10.7; python_version < '3.11' # old\n") == [
        "click==8.5.1",
        "flax==0.10.7; python_version < '3.11'",
    ]
