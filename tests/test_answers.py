"""The table of what each command answers is what they answer, and no answer in it contradicts another one."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

PAGE = ROOT / "docs" / "reference" / "answers.md"


def rows(text: str) -> list[list[str]]:
    """The cells of all rows but those of headers."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and "xframe " not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_no_answer_contradicts_another_one() -> None:
    found = rows(PAGE.read_text(encoding="utf-8"))
    assert len(found) > 30
    meaning = {"explained": "different", "unexplained": "different"}
    for pair, what, *answers in (row for row in found if len(row) > 5):
        statuses = {meaning.get(s, s) for answer in answers if (s := answer.partition(",")[0]) != "refused"}
        assert len(statuses) == 1, (pair, what, answers)
        (status,) = statuses
        if what == "the same":
            assert status in ("equivalent", "inconclusive"), pair
        elif what == "a wrong weight":
            assert status == "different", pair
        else:
            # What no weight tells is equivalent where only weights were judged.
            scopes = {answer.partition(", ")[2] for answer in answers} - {""}
            assert status in ("different", "inconclusive") or scopes == {"weights"}, pair


@pytest.mark.slow
@pytest.mark.needs("keras", "torch", "onnx")
def test_the_table_is_what_the_commands_answer(capsys: pytest.CaptureFixture[str]) -> None:
    import answers

    answers.main()
    printed = rows(capsys.readouterr().out)
    assert printed == rows(re.sub(r"(?s)^.*?<!-- output of.*?-->", "", PAGE.read_text(encoding="utf-8")))
