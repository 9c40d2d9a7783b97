"""Reports for machines: JSON against its published schema, JUnit XML against the strictest of the common schemas, and the
summary of a job on GitHub."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from lxml import etree
from test_cli import run

import xframe
from xframe import Recurrent
from xframe.adapters import get_adapter
from xframe.baseline import record
from xframe.report import FORMATS, format_of, render, schema
from xframe.suite import Suite
from xframe.verdict import Verdict
from xframe.verification import Pair, Verification

SPEC, ONE = Recurrent("lstm", 3, 5, num_layers=2), Recurrent("gru", 4, 6)
VALIDATOR = Draft202012Validator(schema())
XSD = etree.XMLSchema(etree.parse(Path(__file__).parent / "data" / "junit.xsd"))

# What each command prints; those that judge something first. The names of files stand for those of the fixture.
JUDGING = {
    "compare": ("compare", 0),
    "compare, one layer": (
        "compare gru --hidden 4 --features 3 --bidirectional --mask right --masked-output repeat --batch 3",
        0,
    ),
    "compare, inconclusive": ("compare rnn --hidden 4 --features 3 --steps 1 --frameworks torch", 2),
    "compare --suite": ("compare --suite --frameworks torch --dtype float64", 0),
    "verify": ("verify a.npz a.npz", 0),
    "verify, different": ("verify a.npz wrong.npz", 1),
    "verify, without a partner": ("verify a.npz more.npz", 1),
    "record": ("record gru --hidden 4 --features 3 --framework torch -o new.npz", 0),
    "check": ("check golden.npz --framework torch", 0),
    "convert": ("convert a.npz made --to npz --layers-only", 0),
    "convert, not all": ("convert more.npz partly --to torch --ignore scale", 2),
}
EXPLAINING = {
    "explain": ("explain gru --hidden 4 --features 3 --bidirectional", 0),
    "explain, a dense layer too": ("explain", 0),
    "explain --number": ("explain gru --hidden 32 --features 16 --bidirectional --number 9408", 0),
    "explain --number, none": ("explain gru --hidden 32 --features 16 --number 7", 0),
    "explain --demonstrate": ("explain gru --hidden 4 --features 3 --demonstrate", 0),
    "explain --demonstrate, two": ("explain --demonstrate", 0),
    "inspect": ("inspect more.npz", 0),
    "diagnose": ("diagnose a.npz wrong.npz", 1),
    "diagnose, one layer": ("diagnose one.npz recorded.npz", 0),
    "doctor": ("doctor", 0),
}
FAILING = {
    "error": ("compare foo --hidden 3 --features 2", 2),
    "usage error": ("verify --format json", 2),
    "error of a file": ("inspect missing.npz", 2),
}
COMMANDS = JUDGING | EXPLAINING | FAILING


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one LSTM, the same with two gates swapped, and with a tensor of something else; a GRU and its outputs."""
    folder, adapter = tmp_path_factory.mktemp("formats"), get_adapter("torch")
    arrays = dict(adapter.read(layer()))
    one, x = layer(ONE), helpers.signal(ONE, 0, "float32")
    np.savez(folder / "one.npz", **dict(adapter.read(one)))
    np.savez(folder / "recorded.npz", x=x, y=adapter.run(one, x).sequence)
    record(ONE, folder / "golden.npz", framework=["torch"])
    np.savez(folder / "a.npz", **arrays)
    np.savez(folder / "more.npz", **arrays, scale=np.array([0.5, 0.25, 0.75], "float32"))
    np.savez(folder / "wrong.npz", **dict(adapter.read(layer(swapped=True))))
    return folder


def layer(spec: Recurrent = SPEC, swapped: bool = False) -> Any:
    """A layer of PyTorch, with distinct weights; in the second of its layers the first two gates may be swapped."""
    made = get_adapter("torch").build_loaded(spec, helpers.weights(spec, 0, "float32"), "float32")
    if swapped:
        rows, n = made.weight_hh_l1.data, spec.hidden_size
        rows[: 2 * n] = rows[: 2 * n].clone().roll(n, 0)
    return made


@pytest.fixture(scope="module")
def wrong() -> Verdict:
    return xframe.compare(layer(), layer(swapped=True))


@pytest.fixture
def printed(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], tuple[int, str, str]]:
    """Runs a command in the folder of the files."""
    monkeypatch.chdir(files)

    def result(line: str, format: str) -> tuple[int, str, str]:
        words = line.split()
        words += ["--force"] * (words[0] in ("convert", "record"))
        return run(capsys, *words, "--format", format)

    return result


Printed = Callable[[str, str], tuple[int, str, str]]


# ---- JSON.


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(schema())
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_command_writes_is_what_the_schema_says(name: str, printed: Printed) -> None:
    line, status = COMMANDS[name]
    found = printed(line, "json")
    assert found[0] == status, found[2]
    content = json.loads(found[1])
    VALIDATOR.validate(content)
    del content.get("configurations", [])[1:]
    for key in content:
        assert not VALIDATOR.is_valid({k: v for k, v in content.items() if k != key}), f"{key} is not required"
    assert not VALIDATOR.is_valid(content | {"more": 1})


BREAK: dict[str, Callable[[Any], object]] = {
    "another version": lambda c: c.update(schema="xframe/2"),
    "a status that there is not": lambda c: c.update(status="done"),
    "the command of another object": lambda c: c.update(command="verify"),
    "an environment that is no text": lambda c: c["environment"].update(python=3.11),
    "a field too many in a check": lambda c: c["checks"][0].update(more=1),
    "a field too few in a check": lambda c: c["checks"][0].pop("reason"),
    "a status of a check": lambda c: c["checks"][-1].update(status="passed"),
    "a type of a check": lambda c: c["checks"][0].update(dtype="int8"),
    "a figure that is text": lambda c: c["checks"][0].update(max_abs="0.1"),
    "an index below zero": lambda c: c["checks"][0].update(worst=[0, -1]),
    "half a number": lambda c: c["layers"][0]["counts"]["torch"].update(stored=1.5),
    "a role missing": lambda c: c["layers"][1]["counts"]["torch"]["tensors"][0].pop("role"),
    "a layer of both kinds": lambda c: c["layers"][1]["spec"].update(hidden_size=3),
    "a rate": lambda c: c["layers"][0]["spec"].update(dropout=1.0),
    "a seed that is text": lambda c: c["probe"].update(seed="0"),
    "a mistake without its margin": lambda c: c["power"]["margins"].update(more="much"),
}


@pytest.mark.parametrize("name", BREAK)
def test_the_schema_refuses(name: str, printed: Printed) -> None:
    content = json.loads(printed("compare", "json")[1])
    broken = copy.deepcopy(content)
    BREAK[name](broken)
    assert broken != content
    assert VALIDATOR.is_valid(content)
    assert not VALIDATOR.is_valid(broken)


# ---- JUnit XML.


def parsed(text: str) -> Any:
    """The root of a report, which is valid, and whose numbers of cases are those that it says."""
    root = etree.fromstring(text.encode())
    XSD.assertValid(root)
    for suite in root:
        found = Counter(child.tag for case in suite.iter("testcase") for child in case)
        said = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
        assert said == {
            "tests": len(suite.findall("testcase")),
            "failures": found["failure"],
            "errors": found["error"],
            "skipped": found["skipped"],
        }
    return root


@pytest.mark.parametrize("name", JUDGING)
def test_each_check_is_one_test_case(name: str, printed: Printed) -> None:
    line, status = JUDGING[name]
    found = printed(line, "junit")
    assert found[0] == status, found[2]
    root = parsed(found[1])
    content = json.loads(printed(line, "json")[1])
    whole = content.get("configurations", [content])
    checks = [check for one in whole for check in one.get("checks", one.get("pairs", []))]
    checks += [trial for piece in content.get("pieces", []) for trial in piece["trials"]]
    cases = [case for case in root.iter("testcase") if case.get("name") != "verdict" and case.find("skipped") is None]
    assert len(cases) == len(checks) > 0
    assert [case.find("failure") is not None for case in cases] == [c["status"] == "different" for c in checks]
    assert {p.get("name"): p.get("value") for p in root[0].iter("property")}.items() >= content["environment"].items()
    # What reads the file must come to the same end as the status.
    assert bool(root.xpath("//failure | //error")) == (status != 0)


def test_a_case_says_which_output_and_why(wrong: Verdict) -> None:
    root = parsed(wrong.report("junit"))
    check = next(check for check in wrong.checks if check.status == "different")
    case = next(case for case in root.iter("testcase") if case.find("failure") is not None)
    assert case.get("classname") == "layer/torch"
    assert case.get("name") == f"{check.output}, {check.dtype}, b, initial state {check.initial_state}"
    failure = case.find("failure")
    assert (failure.get("type"), failure.get("message")) == ("different", check.reason)
    assert f"at: {list(check.worst or ())}" in failure.text
    assert root[0].findtext("system-out") == wrong.reason


def test_an_inconclusive_check_is_an_error(wrong: Verdict) -> None:
    """A reader that is shown a skipped test takes the run for a good one."""
    vague = replace(wrong.checks[0], status="inconclusive", reason="all numbers are zero, which proves nothing")
    root = parsed(render(replace(wrong, status="inconclusive", checks=(vague,)), "junit"))
    assert [child.tag for child in root.find("testsuite/testcase")] == ["error"]


def test_a_verdict_that_no_check_shows_is_a_case(wrong: Verdict, printed: Printed) -> None:
    good = tuple(check for check in wrong.checks if check.status == "equivalent")
    for status, tag in (("inconclusive", "error"), ("different", "failure")):
        root = parsed(render(replace(wrong, status=status, checks=good), "junit"))
        (case,) = root.xpath("//testcase[@name='verdict']")
        assert case.find(tag).get("message") == wrong.reason
    assert not parsed(wrong.report("junit")).xpath("//testcase[@name='verdict']")
    alone = parsed(printed("verify a.npz more.npz", "junit")[1])
    assert "scale" in alone.xpath("//testcase[@name='verdict']/failure")[0].get("message")


def test_what_was_not_compared_is_skipped(wrong: Verdict, printed: Printed) -> None:
    grid = Suite("standard", (wrong, wrong), ({}, {}), {"LSTM(3) on 2 features": "No framework has it."})
    root = parsed(render(grid, "junit"))  # two configurations of one name among them
    assert [suite.get("name") for suite in root] == [f"{wrong.model} #1", f"{wrong.model} #2", "left out"]
    assert root[-1].find("testcase/skipped").text == "No framework has it."
    line, _ = JUDGING["compare, one layer"]
    (case,) = parsed(printed(line, "junit")[1]).xpath("//testcase[@classname='not compared']")
    assert case.get("name") == "keras"
    assert "Keras has no bidirectional layer" in case.find("skipped").text


HOSTILE = "a\x00b\x1b[2J\ud800\ufffe]]><!-- &amp; \"'\n\té\U0001f600"


def test_names_of_strangers_are_harmless() -> None:
    pair = Pair(HOSTILE, HOSTILE, SPEC, "different", f"whose {HOSTILE}", 0.5, HOSTILE, 1e30, (HOSTILE,))
    found = Verification(HOSTILE, "", "different", HOSTILE, "model", (pair, pair), (), (HOSTILE,), ())
    text = render(found, "junit")
    assert text.isascii()
    case = parsed(text).find(".//testcase")
    shown = "a\\x00b\\x1b[2J\\ud800\\ufffe]]><!-- &amp; \"'\\n\\té\U0001f600"
    assert case.get("name") == f"{shown} and {shown} #1"
    assert case.find("failure").text.splitlines()[0] == f"whose {shown}"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (' type="different"', ""),
        ('tests="', 'tests="-'),
        (' hostname="localhost"', ""),
        ("<properties>", "<properties><testcase/>"),
        ("<testsuites>", '<testsuites more="1">'),
        (', initial state given"', ', initial state zero"'),  # names that are not unique any more
        ("<system-err />", ""),
    ],
)
def test_the_check_of_junit_can_fail(old: str, new: str, wrong: Verdict) -> None:
    text = wrong.report("junit")
    assert old in text
    parsed(text)
    assert not XSD.validate(etree.fromstring(text.replace(old, new).encode()))


@pytest.mark.parametrize("name", EXPLAINING)
def test_junit_is_refused_where_nothing_is_checked(name: str, printed: Printed, files: Path) -> None:
    line, _ = EXPLAINING[name]
    status, out, err = printed(f"{line} --output report.xml", "junit")
    assert (status, out) == (2, "")
    command = line.split()[0]
    assert err == (
        f"xframe: error: JUnit XML has a test case for each check, and xframe {command} makes none; use text, markdown, html or "
        "json.\n"
    )
    assert not (files / "report.xml").exists()


def test_a_format_that_there_is_not(wrong: Verdict) -> None:
    with pytest.raises(xframe.SpecError, match="format must be one of text, markdown, html, json, junit, not 'xml'"):
        wrong.report("xml")


def test_the_ending_of_a_name_is_a_format() -> None:
    found = {
        name: format_of(name)
        for name in ("a.json", "a.b/c.MD", "x.xml", "x.html", "x.HTM", "x.txt", "json", "x.json.txt")
    }
    assert list(found.values()) == ["json", "markdown", "junit", "html", "html", "text", "text", "text"]
    assert set(found.values()) <= set(FORMATS)


# ---- The summary of a job.


@pytest.mark.parametrize("name", ["compare, one layer", "verify, different", "convert", "compare, inconclusive"])
def test_a_verdict_is_added_to_the_summary(
    name: str, printed: Printed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("what another step wrote\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    line, status = JUDGING[name]
    found = printed(line, "markdown")
    assert (found[0], found[2]) == (status, "")
    assert summary.read_text(encoding="utf-8") == f"what another step wrote\n\n{found[1]}"
    printed(f"{line} --quiet", "json")
    assert summary.read_text(encoding="utf-8").count("VERDICT") == 2


@pytest.mark.parametrize("name", EXPLAINING)
def test_what_is_no_verdict_is_not(
    name: str, printed: Printed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    line, status = EXPLAINING[name]
    assert printed(line, "text")[0] == status
    assert not (tmp_path / "summary.md").exists()


@pytest.mark.parametrize("name", ["verify", "verify, different"])
@pytest.mark.parametrize("place", ["", "no/such/folder/summary.md", "x\n\x1b[2J/y"])
def test_a_summary_that_cannot_be_written_changes_no_verdict(
    name: str, place: str, printed: Printed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, status = JUDGING[name]
    without = printed(line, "text")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / place))  # a folder; in none; a name that moves the cursor
    found = printed(line, "text")
    assert found[0] == without[0] == status
    # The figures before it may differ in the last digit from run to run.
    assert found[1][found[1].index("VERDICT") :] == without[1][without[1].index("VERDICT") :]
    assert found[2].startswith("xframe: warning: Cannot append the report to ")
    assert found[2].endswith("; correct or unset GITHUB_STEP_SUMMARY.\n")
    assert found[2].rstrip("\n").isprintable()


def test_these_tests_leave_the_summary_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import conftest, os; print('GITHUB_STEP_SUMMARY' in os.environ)"],
        env={**os.environ, "GITHUB_STEP_SUMMARY": "summary.md", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout == "False\n", done.stderr
