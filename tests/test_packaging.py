"""The package as a whole: its metadata, the versions that it shows, and completion in the shell."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import helpers
import pytest

import xframe
from xframe.cli import cli, version
from xframe.cli.completion import TARGETS
from xframe.cli.options import STATUS
from xframe.report import FORMATS

# pytest brings tomli where Python has no tomllib.
tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
USERS = set(EXTRAS) - {"all", "dev", "docs", "test"}
PACKAGE = Path(xframe.__file__).parent


# ---- Metadata.


def named(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement)[0]


def bounds() -> dict[str, str]:
    """The lower bound of everything that users and testers install, by name."""
    found = [*PROJECT["project"]["dependencies"], *(one for name in (*USERS, "test") for one in EXTRAS[name])]
    return {named(one): re.search(r">=([\d.]+)", one)[1] for one in found}


def pins(file: str) -> dict[str, str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return dict(line.partition(";")[0].strip().split("==") for line in lines if "==" in line.partition("#")[0])


def test_all_is_all() -> None:
    assert {"torch", "keras", "files", "plot"} <= USERS
    (everything,) = EXTRAS["all"]
    assert sorted(everything.removeprefix("xframe[").removesuffix("]").split(",")) == sorted(USERS)


def test_every_extra_that_is_spoken_of_exists() -> None:
    texts = [*PACKAGE.rglob("*.py"), *(ROOT / "examples").rglob("*.py"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    spoken = set()
    for path in texts:
        for found in re.findall(r"(?:xframe|'\.)\[([a-z,]+)\]", path.read_text(encoding="utf-8")):
            spoken |= set(found.split(","))
    assert spoken >= {"all", "files", "keras", "plot", "torch"}
    assert spoken <= set(EXTRAS)


def test_an_adapter_is_installed_by_the_extra_of_its_name() -> None:
    from xframe.adapters import known_adapters

    for name, adapter in known_adapters().items():
        assert set(adapter.requires) <= {named(one) for one in EXTRAS[adapter.extra or name]}


def test_the_lower_bounds_are_the_oldest_versions_that_are_tested() -> None:
    oldest = pins("constraints-oldest.txt")
    assert set(bounds()) <= set(oldest)
    for name, bound in bounds().items():
        assert (oldest[name] + ".0.0").startswith(f"{bound}."), name
        # No version lies between the two: what is left out of the bound is zero.
        assert not oldest[name].removeprefix(bound).strip(".0"), name


def test_every_requirement_is_pinned() -> None:
    pinned = set(pins("constraints.txt"))
    wanted = {*bounds(), *(named(one) for one in (*EXTRAS["dev"], *PROJECT["build-system"]["requires"]))}
    assert wanted - {"xframe"} <= pinned


def test_data_files_are_in_the_package() -> None:
    """What is no Python in the package's folder is what pyproject.toml puts into the wheel."""
    data = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert data == set(PROJECT["tool"]["setuptools"]["package-data"]["xframe"])
    assert "py.typed" in data


def test_each_extra_has_a_check_of_the_wheel() -> None:
    wheel = helpers.module_at(ROOT / "scripts" / "test_wheel.py")
    assert {extra for extra in wheel.CHECKS if extra} == set(EXTRAS) - wheel.DEVELOPMENT
    assert all((ROOT / path).exists() for path in wheel.CONTRACT)


def test_the_oldest_constraints_go_before_the_others() -> None:
    text = helpers.module_at(ROOT / "scripts" / "test_wheel.py").constraints()
    lines = [line.partition(";")[0].strip() for line in text.splitlines()]
    assert "torch==2.4.0" in lines
    assert "sympy==" + pins("constraints.txt")["sympy"] in lines
    assert sum(re.match(r"(?i)ml[-_]dtypes==", line) is not None for line in lines) == 1


# ---- Versions.


def shell(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, which says at its end what it has imported."""
    code = (
        "import atexit, sys; from xframe.cli import main; heavy = {'numpy', 'keras', 'tensorflow', 'torch'}\n"
        "atexit.register(lambda: print('imported', *sorted(heavy & set(sys.modules)), file=sys.stderr)); main()"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip


def test_version_names_what_is_installed_without_importing_it() -> None:
    done = shell("--version")
    first, second = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "imported\n")
    assert first == f"xframe {xframe.__version__}"
    import numpy

    assert second.startswith("python 3.")
    assert f", numpy {numpy.__version__}, " in second
    wanted = [
        named(one) for one in (*PROJECT["project"]["dependencies"], *(one for name in USERS for one in EXTRAS[name]))
    ]
    # JAX is what Flax and Equinox stand on.
    assert set(version.shown()) == {*wanted, "jax"} - {"click", "tabulate"}


def test_the_help_names_every_framework_without_importing_it() -> None:
    from xframe.adapters import known_names

    done = shell("compare", "--help")
    assert (done.returncode, done.stderr) == (0, "imported\n")
    text = " ".join(done.stdout.split())
    assert all(re.search(rf" {re.escape(name)},", text) for name in known_names()), text
    assert "[default: keras,torch; for the standard suite all that are installed]" in text


def test_a_version_without_a_distribution_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nothing").mkdir()
    (tmp_path / "alone.py").touch()
    (tmp_path / "flow.py").touch()
    information = tmp_path / "flow_cpu-2.5.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Name: flow-cpu\nVersion: 2.5\n")
    (information / "top_level.txt").write_text("flow\n")
    (information / "RECORD").write_text("flow.py,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(version, "shown", lambda: ["flow", "alone", "nothing", "missing"])
    assert version.versions().endswith(
        ", flow 2.5, alone of unknown version, nothing not installed, missing not installed"
    )


# ---- Completion.


def complete(line: str, kind: str = "bash") -> list[str]:
    """What a shell is told of a line that is typed so far; a space at its end begins a new word."""
    words = line.split(" ")
    last = words[-1] if kind == "fish" else str(len(words) - 1)
    done = shell(_XFRAME_COMPLETE=f"{kind}_complete", COMP_WORDS=line, COMP_CWORD=last)
    assert (done.returncode, done.stderr) == (0, "imported\n")
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("xframe comp", ["plain,compare", "plain,completion"]),
        ("xframe compare --mas", ["plain,--mask", "plain,--masked-output"]),
        ("xframe compare l", ["plain,lstm"]),
        ("xframe compare --frameworks keras,to", ["plain,keras,torch"]),
        ("xframe compare --dtype float64,b", ["plain,float64,bfloat16"]),
        ("xframe compare --suite f", ["plain,full"]),
        ("xframe explain --format ", [f"plain,{name}" for name in FORMATS]),
        ("xframe explain --activation hard_si", ["plain,hard_sigmoid", "plain,hard_sigmoid_keras2", "plain,hard_silu"]),
        ("xframe explain --format = js", ["plain,json"]),
        ("xframe explain --format = text --merge no", ["plain,none"]),
        ("xframe inspect --packing keras1", ["plain,keras1", "plain,keras1-gpu"]),
        ("xframe inspect model", ["file,model"]),
        ("xframe record r", ["file,r", "plain,rnn"]),
        ("xframe convert a b --to t", ["plain,torch"]),
        ("xframe convert a b", ["file,b"]),
        ("xframe check golden.npz --output ", ["file,"]),
        ("xframe completion f", ["plain,fish"]),
    ],
)
def test_completion(line: str, wanted: list[str]) -> None:
    assert sorted(complete(line)) == sorted(wanted)


def test_every_option_that_takes_known_words_completes_them() -> None:
    free = {"ignore", "layer"}  # names in the user's file
    for command in cli.commands.values():
        for param in command.params:
            if param.name not in free and param.type.name == "text":
                assert param.shell_complete(click.Context(command), ""), f"{command.name} {param.name}"


def test_completion_knows_what_the_others_know() -> None:
    from xframe import writers
    from xframe.recognition import Choices

    assert writers.TARGETS == TARGETS
    packing = next(param for param in cli.commands["inspect"].params if param.name == "packing")
    found = [item.value for item in packing.shell_complete(click.Context(cli), "")]
    assert {"keras", "torch", "onnx", "tf1", "keras1"} <= set(found)
    for value in found:
        assert Choices(packing=value).packing == value


@pytest.mark.parametrize("kind", ["zsh", "fish"])
def test_an_option_with_its_value_is_one_word(kind: str) -> None:
    values = complete("xframe explain --format=ju", kind)
    assert values == {"zsh": ["plain", "--format=junit", "_"], "fish": ["plain,--format=junit"]}[kind]


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    from xframe.cli import main

    with pytest.raises(SystemExit) as left:
        main(["completion", kind])
    script = capsys.readouterr().out
    assert left.value.code is None
    assert f"_XFRAME_COMPLETE={kind}_complete" in script
    # What is put into click's scripts, which may be written otherwise one day.
    assert {"bash": "compopt", "zsh": "compset -P '--*='", "fish": "split --max 1"}[kind] in script
    if shutil.which(kind):
        subprocess.run([kind, "-n"], input=script, text=True, check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_by_the_script(tmp_path: Path) -> None:
    program = tmp_path / "xframe"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m xframe "$@"\n')
    program.chmod(0o755)
    session = (
        "source <(xframe completion bash); complete -p xframe\n"
        'compopt() { echo compopt "$@"; }\n'
        'try() { COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=(); _xframe_completion xframe; echo "${COMPREPLY[*]}"; }\n'
        "try xframe compare l; try xframe explain --format = js; try xframe inspect ''\n"
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", session],
        capture_output=True, text=True, check=True, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "complete -o nosort -F _xframe_completion xframe",
        "lstm",
        "json",
        "compopt -o default",
        "",
    ]


def test_a_word_that_is_no_shell_and_no_word_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    from xframe.cli import main

    for arguments, words in (
        (["completion"], "Missing argument 'SHELL'. Choose from: bash, zsh, fish."),
        (["completion", "sh"], "'sh'"),
    ):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        out, err = capsys.readouterr()
        assert (left.value.code, out) == (STATUS["error"], "")
        assert words in err
    with pytest.raises(SystemExit) as left:
        main([])
    assert left.value.code == STATUS["error"]
    assert "Usage: xframe [OPTIONS] COMMAND" in capsys.readouterr().out
