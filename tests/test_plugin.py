"""`xframe.assert_equivalent`, with pytest and without: what its message says, and what the plugin collects of a run."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import helpers
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from lxml import etree

import xframe
from xframe import Dense, Recurrent, Sequential, comparison, verification
from xframe.adapters import get_adapter
from xframe.cli import main
from xframe.errors import FileError, SpecError, UnsupportedError, XframeError
from xframe.recognition import Choices
from xframe.report import render
from xframe.report.run import Run, entry, packed, unpacked
from xframe.reproduction import reproduction
from xframe.testing import assert_equivalent, observed
from xframe.verdict import Verdict

ROOT = Path(__file__).resolve().parent.parent
SPEC = Recurrent("gru", 3, 5)


def layer(seed: int = 0) -> Any:
    return get_adapter("torch").build_loaded(SPEC, helpers.weights(SPEC, seed, "float32"), "float32")


def dense(off: float = 0.0) -> Any:
    """A linear layer of 3 units, the last of which may be off."""
    spec = Dense(4, 3)
    made = get_adapter("torch").build_loaded(spec, helpers.weights(spec, 0, "float32"), "float32")
    made.bias.data[2] += off
    return made


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a layer, and the same with two gates swapped."""
    folder, random = tmp_path_factory.mktemp("plugin"), np.random.default_rng(0)
    shapes = {"weight_ih_l0": (15, 3), "weight_hh_l0": (15, 5), "bias_ih_l0": (15,), "bias_hh_l0": (15,)}
    arrays = {name: random.uniform(0.1, 0.6, shape).astype("float32") for name, shape in shapes.items()}
    np.savez(folder / "a.npz", **arrays)
    swapped = arrays["weight_hh_l0"][[*range(5, 10), *range(5), *range(10, 15)]]
    np.savez(folder / "wrong.npz", **arrays | {"weight_hh_l0": swapped})
    return folder


# ---- The assertion.


def test_it_hands_back_what_it_found(files: Path) -> None:
    assert xframe.assert_equivalent is assert_equivalent
    one = layer()
    verdict = assert_equivalent(one, layer(), seed=4)
    assert isinstance(verdict, Verdict)
    assert (verdict.status, verdict.probe["seed"]) == ("equivalent", 4)
    found = assert_equivalent(str(files / "a.npz"), files / "a.npz")
    assert (found.status, len(found.pairs)) == ("equivalent", 1)
    assert assert_equivalent(SPEC, frameworks=["torch"]).frameworks == ("torch",)


def message(*given: Any, **options: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        assert_equivalent(*given, **options)
    return str(caught.value)


def test_the_message_is_the_report_and_begins_with_what_matters() -> None:
    text = message(dense(), dense(off=0.5), seed=2)
    found = xframe.compare(dense(), dense(off=0.5), seed=2)
    first, worst, *_ = text.splitlines()
    assert first == f"different. {found.reason}"
    # Whatever the row, the unit that is off is the third.
    where = r"Worst element: \[\d, 2\] of output of layer in torch \(b, float64, initial state zero\): (.*?) instead of (.*?); "
    numbers = re.match(where, worst)
    assert numbers
    assert float(numbers[1]) - float(numbers[2]) == pytest.approx(0.5)
    assert "off by 0.5, " in worst
    assert text.endswith(f"\n\n{found.report()}")
    assert "one bias a unit: 12 + 3 = 15." in text


def test_the_message_has_the_cause_by_name(files: Path) -> None:
    wrong = layer()
    for tensor in wrong.parameters():
        tensor.data[:10] = tensor.data[:10].clone().roll(5, 0)
    for text in (message(layer(), wrong), message(files / "a.npz", files / "wrong.npz")):
        (cause,) = [line for line in text.splitlines() if line.startswith("Cause: ")]
        assert "gates r and z swapped" in cause
    assert "\nCause: " not in message(SPEC, frameworks=["torch"], steps=1)


def test_what_proves_nothing_fails_with_the_reason() -> None:
    text = message(SPEC, frameworks=["torch"], steps=1)
    assert text.startswith("inconclusive. The outputs agree, but this probe could not have shown: ")
    assert "To see it again: xframe compare gru --hidden 5 --features 3 --seed 0 --frameworks torch --steps 1\n" in text


def test_the_message_for_files(files: Path) -> None:
    a, b = files / "a.npz", files / "wrong.npz"
    first, worst, _, again, *_ = message(a, b, seed=7).splitlines()
    assert first.startswith("different. 1 of 1 pairs of layers differ: ")
    with np.load(a) as one, np.load(b) as other:
        off = np.abs(one["weight_hh_l0"] - other["weight_hh_l0"]).max()
    assert f"parameters off by up to {off:.2g} at layer 0, forward, recurrent_kernel, gate " in worst
    assert again == f"To see it again: xframe verify {a} {b} --seed 7"


@pytest.mark.parametrize(
    ("given", "options", "error", "words"),
    [
        ((SPEC,), {"rtol": 1e-5}, SpecError, "'rtol' is no option of xframe.compare, which takes frameworks, dtypes, "),
        (("a.npz", "a.npz"), {"steps": 3}, SpecError, "'steps' is no option of xframe.verify, which takes subset, scope, "),
        (("a.npz",), {}, SpecError, "a.npz has nothing to be compared with; give another file or a model"),
        ((None, "a.npz"), {}, SpecError, "a.npz has nothing to be compared with"),
        (("a.npz", "missing.npz"), {}, FileError, "missing.npz"),
        ((SPEC, SPEC), {}, SpecError, "Compare a spec alone"),
        (("a.npz", SPEC), {}, UnsupportedError, "Recurrent"),
        ((3, 4), {}, UnsupportedError, "int"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_an_error_in_one_sentence(
    given: tuple[Any, ...],
    options: dict[str, Any],
    error: type[XframeError],
    words: str,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(files)
    told: list[Any] = []
    with observed(told.append), pytest.raises(error) as caught:
        assert_equivalent(*given, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert told == [caught.value]
    # Nothing of how it was found out, which is of no use to a test.
    assert [place.name for place in caught.traceback][-1] == "assert_equivalent"


def test_observers_hear_of_everything_while_they_listen(files: Path) -> None:
    told: list[Any] = []
    with observed(told.append):
        good = assert_equivalent(files / "a.npz", files / "a.npz")
        message(files / "a.npz", files / "wrong.npz")
    assert_equivalent(files / "a.npz", files / "a.npz")
    assert told[0] is good
    assert [one.status for one in told] == ["equivalent", "different"]


# ---- To see it again.

OTHER = Recurrent("gru", 3, 6)
SPECS: dict[str, Any] = {
    "plain": SPEC,
    "everything": Recurrent(
        "gru", 3, 5, num_layers=2, bidirectional=True, bias=False, reset_after=False, activation="gelu",
        recurrent_activation="hard_sigmoid_keras2", merge_mode="ave", go_backwards=True, mask="any",
        masked_output="zero", input_dropout=0.1, recurrent_dropout=0.25, dropout=0.3,
    ),
    "projected": Recurrent("lstm", 3, 5, proj_size=2),
    "not merged": Recurrent("rnn", 3, 5, bidirectional=True, merge_mode=None, mask="right"),
    "stateful": Recurrent("lstm", 3, 5, stateful=True, batch_size=4),
    "bare cell": Recurrent("rnn", 3, 5, form="cell", activation="relu"),
    "backward differs": Recurrent("lstm", 3, 5, bidirectional=True, backward=OTHER),
    "stacked": Recurrent("lstm", 3, 5, go_backwards=True, stacked=(Recurrent("gru", 5, 4, reset_after=False),)),
    "dense": Dense(4, 3, bias=False),
    "chain": Sequential(Recurrent("lstm", 3, 5, bidirectional=True), Dense(10, 2)),
}  # fmt: skip
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"seed": 3, "steps": 7, "batch": 6, "dtypes": ["float64"], "frameworks": ("torch", "keras")},
)


@pytest.mark.parametrize("options", OPTIONS, ids=["as it is", "all options"])
@pytest.mark.parametrize("name", SPECS)
def test_a_spec_is_seen_again_by_one_command_line(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the line makes `xframe.compare` do is what the call made it do."""
    spec, calls = SPECS[name], []
    importlib.import_module("xframe.suite")  # it would keep the function that stands in

    def compare_spec(model: Any, frameworks: Any, dtypes: Any, probe: Any, **_: Any) -> Any:
        batch = 0 if getattr(model, "stateful", False) else probe.batch  # such a layer has its own
        calls.append((model, frameworks and list(frameworks), list(dtypes), replace(probe, batch=batch or 1)))
        return SimpleNamespace(status="equivalent", report=lambda: "")

    monkeypatch.setattr(comparison, "compare_spec", compare_spec)
    line = reproduction(spec, None, options)
    assert "\n" not in line
    program, *words = shlex.split(line)
    comparison.compare(spec, **options)
    if program == "xframe":
        with pytest.raises(SystemExit):
            main([*words, "--quiet"])
    else:
        assert (program, words[0]) == ("python", "-c")
        exec(words[1], {})
    assert calls[0] == calls[1]
    assert (program == "xframe") == (name not in ("backward differs", "stacked", "dense", "chain"))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"seed": 5, "subset": True},
        {"scope": "layers", "right_padded": True},
        {"choices": Choices(packing="torch", cell="gru", reset_after=False, go_backwards=True, merge_mode="none")},
        {"choices": Choices(activation="relu", recurrent_activation="hard_sigmoid", reset_after=True, forget_bias=0.5)},
    ],
)
def test_files_are_seen_again_by_one_command_line(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def verify(a: Any, b: Any, **given: Any) -> Any:
        calls.append((a, b, given))
        return SimpleNamespace(status="equivalent")

    monkeypatch.setattr(verification, "verify", verify)
    line = reproduction("my model.npz", Path("b's.npz"), options)
    program, *words = shlex.split(line)
    assert program == "xframe"
    with pytest.raises(SystemExit):
        main([*words, "--quiet"])
    plain = {"subset": False, "scope": None, "right_padded": False, "choices": Choices(), "seed": 0}
    ((a, b, given),) = calls
    assert (a, b) == ("my model.npz", "b's.npz")
    # What is asked for is what the flags come to: "none" for outputs that are not merged among it.
    assert given | {"choices": dict(given["choices"].given())} == {
        **plain, **options, "choices": dict({**plain, **options}["choices"].given())
    }  # fmt: skip


def test_what_lives_in_python_is_seen_again_by_a_call(files: Path) -> None:
    assert reproduction(layer(), dense(), {"mask": "any"}) == (
        "xframe.compare(a, b, seed=0, mask='any')  # a is the torch GRU, b is the torch Linear"
    )
    assert (
        reproduction(Path("x.npz"), layer(), {"seed": 1}) == "xframe.verify('x.npz', b, seed=1)  # b is the torch GRU"
    )


# ---- The plugin. Each run is a process of its own, in which no plugin is loaded but those that are named.

PROJECT = """
import os
from pathlib import Path

import pytest

import xframe

HERE = Path(__file__).parent

@pytest.fixture
def compared_before(assert_equivalent):
    assert_equivalent(HERE / "a.npz", HERE / "a.npz")

def test_good(assert_equivalent):
    assert assert_equivalent(HERE / "a.npz", HERE / "a.npz").status == "equivalent"

def test_wrong(assert_equivalent, tmp_path):
    os.chdir(tmp_path)
    assert_equivalent(HERE / "a.npz", HERE / "wrong.npz")

class TestClass:
    @pytest.mark.parametrize("seed", [1, 2], ids=["one", "zwei \\N{LATIN SMALL LETTER U WITH DIAERESIS}"])
    def test_plain_function(self, seed):
        xframe.assert_equivalent(HERE / "a.npz", HERE / "a.npz", seed=seed)
        xframe.assert_equivalent(HERE / "a.npz", HERE / "a.npz", seed=seed)

def test_error(assert_equivalent):
    with pytest.raises(xframe.SpecError):
        assert_equivalent(HERE / "a.npz", HERE / "a.npz", rtol=1)

def test_fixture(compared_before):
    pass

def test_nothing():
    pass
"""
COMPARISONS = [
    ("test_project.py::test_good", "equivalent"),
    ("test_project.py::test_wrong", "different"),
    ("test_project.py::TestClass::test_plain_function[one]", "equivalent"),
    ("test_project.py::TestClass::test_plain_function[one]", "equivalent"),
    ("test_project.py::TestClass::test_plain_function[zwei \\xfc]", "equivalent"),
    ("test_project.py::TestClass::test_plain_function[zwei \\xfc]", "equivalent"),
    ("test_project.py::test_error", "error"),
    ("test_project.py::test_fixture", "equivalent"),
]
NAMED = ("-p", "xframe.pytest_plugin")


def project(folder: Path, files: Path, text: str = PROJECT) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "test_project.py").write_text(text, encoding="utf-8")
    for name in ("a.npz", "wrong.npz"):
        (folder / name).write_bytes((files / name).read_bytes())
    return folder


def pytest_in(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def json_report(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    Draft202012Validator(xframe.report.schema()).validate(content)
    return dict(content)


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory, files: Path) -> tuple[Path, str]:
    """A run with a report, which a test that changes the folder does not mislead, and with a summary of the job."""
    folder = project(tmp_path_factory.mktemp("serial"), files)
    done = pytest_in(folder, *NAMED, "--xframe-report=report.json", GITHUB_STEP_SUMMARY=str(folder / "summary.md"))
    assert done.returncode == 1, done.stdout + done.stderr
    return folder, done.stdout


def test_one_report_for_the_whole_run(serial: tuple[Path, str]) -> None:
    folder, printed = serial
    content = json_report(folder / "report.json")
    assert [(one["test"], one["result"]["status"]) for one in content["comparisons"]] == COMPARISONS
    assert (content["command"], content["status"]) == ("pytest", "different")
    assert content["reason"].startswith(
        "6 of 8 comparisons are equivalent. The first that is not, in test_project.py::test_wr"
    )
    assert content["comparisons"][1]["result"]["pairs"][0]["reason"].startswith("whose parameters differ")
    assert "'rtol' is no option" in content["comparisons"][6]["result"]["error"]["message"]
    assert f"{folder / 'report.json'}: different. 6 of 8 comparisons are equivalent." in printed
    assert "1 failed, 6 passed" in printed


def test_a_failure_shows_the_report_and_no_code_of_xframe(serial: tuple[Path, str]) -> None:
    printed = serial[1]
    assert '>       assert_equivalent(HERE / "a.npz", HERE / "wrong.npz")' in printed
    assert "E       VERDICT: different. 1 of 1 pairs of layers differ" in printed
    assert "testing.py" not in printed
    assert re.search(
        r"^FAILED test_project.py::test_wrong - AssertionError: different\. 1 of 1 pairs", printed, re.MULTILINE
    )


def test_the_run_is_added_to_the_summary_of_the_job(serial: tuple[Path, str]) -> None:
    text = (serial[0] / "summary.md").read_text(encoding="utf-8")
    assert text.startswith("\n## 8 comparisons in 6 tests\n")
    for test, status in COMPARISONS:
        escaped = re.sub(r"[\\\[]", r"\\\g<0>", test)  # what Markdown would take for its own
        assert re.search(rf"^\| {re.escape(escaped)}.*\| {status} +\|$", text, re.MULTILINE), test
    # Whole reports of what is wrong, and only of that.
    assert re.findall(r"^### (.+)$", text, re.MULTILINE) == [
        "test_project.py::test_wrong",
        "test_project.py::test_error",
    ]


@pytest.mark.parametrize("name", ["report.txt", "report.md", "report.html", "report.XML"])
def test_the_ending_chooses_the_format(name: str, tmp_path: Path, files: Path) -> None:
    folder = project(tmp_path, files)
    assert pytest_in(folder, *NAMED, f"--xframe-report={name}").returncode == 1
    text = (folder / name).read_text(encoding="utf-8")
    if name == "report.XML":
        root = etree.fromstring(text.encode())
        etree.XMLSchema(etree.parse(ROOT / "tests" / "data" / "junit.xsd")).assertValid(root)
        assert [suite.get("failures") for suite in root] == ["0", "1", *"000000"]
        assert [suite.get("errors") for suite in root] == [*"000000", "1", "0"]
        assert root[2].get("name").endswith("test_plain_function[one] #1")
    else:
        begins = {
            "md": "## 8 comparisons in 6 tests\n",
            "txt": "8 comparisons in 6 tests\n=====",
            "html": "<!DOCTYPE html>\n",
        }
        assert text.startswith(begins[name.partition(".")[2]])
        shown = text.replace("\\[", "[")  # as Markdown is shown
        assert all(shown.count(test) for test, _ in COMPARISONS[:4])
        assert "verdict: different" in text.lower()


def test_workers_send_what_they_compared(serial: tuple[Path, str], tmp_path: Path, files: Path) -> None:
    folder = project(tmp_path, files)
    summary = folder / "summary.md"
    workers = ("-p", "xdist.plugin", "-n", "2")
    done = pytest_in(folder, *NAMED, *workers, "--xframe-report", "report.json", GITHUB_STEP_SUMMARY=str(summary))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 workers" in done.stdout
    assert sorted(path.name for path in folder.glob("*report*")) == ["report.json"]
    alone, both = json_report(serial[0] / "report.json"), json_report(folder / "report.json")

    def found(content: dict[str, Any]) -> list[tuple[str, str, str]]:
        results = [(one["test"], one["result"]) for one in content["comparisons"]]
        return sorted((test, result["status"], str(result.get("error"))) for test, result in results)

    assert found(both) == found(alone)
    assert len(both["comparisons"]) == len(COMPARISONS)
    assert both["status"] == alone["status"]
    assert re.findall(r"^## .+", summary.read_text(encoding="utf-8"), re.MULTILINE) == ["## 8 comparisons in 6 tests"]


def test_without_the_option_nothing_is_kept(tmp_path: Path, files: Path) -> None:
    folder = project(tmp_path, files)
    (folder / "conftest.py").write_text(
        "import pytest, xframe.testing\n"
        "def pytest_runtest_logreport(report):\n"
        "    assert not [name for name in vars(report) if 'xframe' in name]\n"
        "    assert not xframe.testing._observers\n"
    )
    before = sorted(folder.rglob("*.*"))
    done = pytest_in(folder, *NAMED, GITHUB_STEP_SUMMARY=str(folder / "summary.md"), PYTHONDONTWRITEBYTECODE="1")
    assert "1 failed, 6 passed" in done.stdout
    assert sorted(folder.rglob("*.*")) == before


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no/such/report.json", "does not exist; make it first."),
        (".", "it is a folder; name a file."),
        ("", "it is a folder; name a file."),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_at_the_start(
    path: str, words: str, tmp_path: Path, files: Path
) -> None:
    folder = project(tmp_path, files, "def test_it():\n    open('ran', 'w')\n")
    done = pytest_in(folder, *NAMED, f"--xframe-report={path}")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.startswith("ERROR: --xframe-report: Cannot write")
    assert words in done.stderr
    assert not (folder / "ran").exists()


def test_a_file_that_cannot_be_written_in_the_end_fails_the_run(tmp_path: Path, files: Path) -> None:
    folder = project(tmp_path, files, "import os\ndef test_it():\n    os.mkdir('report.json')\n")
    done = pytest_in(folder, *NAMED, "--xframe-report=report.json")
    assert done.returncode == pytest.ExitCode.INTERNAL_ERROR
    assert "Cannot write" in done.stdout
    assert "1 passed" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_run_that_compares_nothing_proves_nothing(tmp_path: Path, files: Path) -> None:
    folder = project(tmp_path, files, "def test_it():\n    pass\n")
    assert pytest_in(folder, *NAMED, "--xframe-report=report.json").returncode == 0
    content = json_report(folder / "report.json")
    assert (content["status"], content["reason"]) == ("inconclusive", "No comparison was made in this run.")


def test_the_plugin_is_there_without_configuration(tmp_path: Path, files: Path) -> None:
    """As an installed distribution that declares what pyproject.toml declares."""
    declared = re.search(
        r'^\[project\.entry-points\.pytest11\]\n(xframe = )"(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    assert declared
    dist = tmp_path / "site" / "some-1.0.dist-info"
    dist.mkdir(parents=True)
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: some\nVersion: 1.0\n")
    (dist / "entry_points.txt").write_text(f"[pytest11]\n{declared[1]}{declared[2]}\n")
    folder = project(tmp_path / "project", files, PROJECT.partition("def test_wrong")[0])
    path = os.pathsep.join([str(dist.parent), *sys.path])
    done = pytest_in(folder, "--xframe-report=report.json", PYTEST_DISABLE_PLUGIN_AUTOLOAD="", PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json_report(folder / "report.json")["status"] == "equivalent"


HEAVY = "click numpy tabulate torch keras tensorflow jax onnx h5py xframe.spec".split()


@pytest.mark.parametrize(
    ("plugin", "loaded"), [("xframe.pytest_plugin", []), ("xframe.noise", ["numpy", "xframe.spec"])]
)
def test_the_plugin_loads_nothing_heavy(plugin: str, loaded: list[str], tmp_path: Path) -> None:
    """The second row shows that the first could fail."""
    (tmp_path / "conftest.py").write_text(
        "import sys\n"
        "def pytest_unconfigure():\n"
        f"    print('loaded:', sorted(set({HEAVY}) & set(sys.modules)), 'xframe' in sys.modules)\n"
    )
    done = pytest_in(tmp_path, "-p", plugin, "--co", "-s")
    assert f"loaded: {loaded} True" in done.stdout


def test_a_run_with_many_failures_stays_readable(files: Path) -> None:
    with observed((found := []).append):
        message(files / "a.npz", files / "wrong.npz")
    run = Run(tuple(entry(f"a.py::test[{k}]", found[0]) for k in range(13)))
    text = render(run, "markdown")
    assert text.count("\n### a.py::test") == 10
    assert len(re.findall(r"^\| a\.py::test\\\[", text, re.MULTILINE)) == 13
    assert "\n3 reports more would stand here; " in text
    assert len(json.loads(render(run, "json"))["comparisons"]) == 13


def test_an_entry_survives_the_way_from_process_to_process(files: Path) -> None:
    with observed((found := []).append):
        message(files / "a.npz", files / "wrong.npz")
        message(dense(), dense(off=0.5))
    for result in found:
        before = entry("a.py::test", result)
        after = unpacked(packed(before))
        assert (after.test, after.title, after.blocks) == (before.test, before.title, before.blocks)
        assert json.dumps(after.content) == json.dumps(before.content)
        assert len(before.blocks) > 3
        assert before.title in result.report()
