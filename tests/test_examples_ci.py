"""The examples for teams, run as they are written: a project with its tests, a workflow for GitHub, hooks for pre-commit."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "examples" / "migration-project"
MANIFEST = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
WORKFLOW = ROOT / "examples" / "github-actions" / "xframe.yml"
HOOKS = ROOT / ".pre-commit-hooks.yaml"
HOOK_CONFIG = ROOT / "examples" / "pre-commit" / ".pre-commit-config.yaml"
JOBS: Mapping[str, Any] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]
# What such a project finds on its PATH. The plugin is named, because xframe may not be installed where its tests run.
PROGRAMS = {
    "python": "",
    "xframe": " -m xframe",
    "pytest": " -m pytest -p xframe.pytest_plugin -p no:cacheprovider",
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    for name, start in PROGRAMS.items():
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{start} "$@"\n', encoding="utf-8")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project, elsewhere."""
    return Path(shutil.copytree(PROJECT, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__")))


def run(command: str | list[str], folder: Path, programs: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command, or a line as GitHub runs it, where nothing of this run of the tests and of a Git hook is seen."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "PYTEST_"))}
    env |= {
        "PATH": f"{programs}{os.pathsep}{env['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    return subprocess.run(
        ["bash", "-e", "-c", command] if isinstance(command, str) else command,
        cwd=folder,
        env=env | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )


def tool(module: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A checker of files of others."""
    words = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)


# ---- The project.


def broken(project: Path) -> None:
    """The mistake of the README, made where the README says."""
    (mistake,) = re.findall(r"```python\n(.*?)```", (project / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    file = project / "gestures" / "transfer.py"
    text, last = file.read_text(encoding="utf-8"), "        xframe.transfer(layer, ours[name])\n"
    assert text.count(last) == 1
    file.write_text(text.replace(last, last + mistake), encoding="utf-8")


def test_a_mistake_in_the_port_fails_its_tests_with_the_cause_by_name(
    project: Path, programs: Path, tmp_path: Path
) -> None:
    broken(project)
    (line,) = [step["run"] for step in JOBS["equivalence"]["steps"] if "--xframe-report" in step.get("run", "")]
    done = run(line, project, programs, GITHUB_STEP_SUMMARY=str(tmp_path / "summary.md"))
    assert done.returncode == 1
    failed = set(re.findall(r"^FAILED tests/(\S+)", done.stdout, re.MULTILINE))
    assert failed == {
        "test_port.py::test_a_layer[summary-None]",
        "test_port.py::test_forward_joins_the_layers_as_keras_does",
    }
    cause = "With gates r and z swapped, as when PyTorch's gate order r z n and Keras's or ONNX's z r h are taken for each other"
    assert f"Cause: {cause} the outputs agree" in done.stdout
    assert cause in " ".join((tmp_path / "summary.md").read_text(encoding="utf-8").split())
    readme = " ".join((project / "README.md").read_text(encoding="utf-8").split())
    assert "`test_a_layer[summary-None]` now fails" in readme
    assert f'"{cause} the outputs agree"' in readme


@pytest.mark.slow
def test_after_a_new_training(project: Path, programs: Path) -> None:
    """The commands of the README, in their order, with nothing there but the sources."""
    commands = re.findall(r"^\$ (.+)$", (project / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    made = [project / name for name in ("model.keras", "port.pth", "golden.npz")]
    for file in made:
        file.unlink()
    for command in commands:
        done = run(command, project, programs)
        assert done.returncode == 0, done.stdout
    assert all(file.exists() for file in made)
    assert " 7 passed" in done.stdout


def test_the_project_takes_xframe_from_where_it_is() -> None:
    """Not by its bare name, which on PyPI is another project's; not from a place that could be anyone's."""
    requirements = re.findall(r'"(xframe\b[^"]*)"', "".join(re.findall(r"^\w+ = \[.*$", MANIFEST, re.MULTILINE)))
    assert [one.split(" @ ")[1] for one in requirements] == ["git+https://example.com/xframe.git@main"]


# ---- The workflow.


def test_github_would_take_the_workflow() -> None:
    pytest.importorskip("check_jsonschema", reason="check-jsonschema needs click 8.5; those who work on xframe have it")
    done = tool("check_jsonschema", "--builtin-schema", "vendor.github-workflows", WORKFLOW)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_is_careful() -> None:
    text = WORKFLOW.read_text(encoding="utf-8")
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
    assert "secrets" not in text
    for job in JOBS.values():
        assert 0 < job["timeout-minutes"] <= 30
        uses = [step["uses"] for step in job["steps"] if "uses" in step]
        assert len(uses) >= 2
        assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", action) for action in uses)
        (installation,) = installations(job)
        extra = installation.removeprefix("pip install --editable '.[").removesuffix("]'")
        assert re.search(rf"^{extra} = \[", MANIFEST, re.MULTILINE)


def installations(job: Mapping[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if step.get("run", "").startswith("pip ")]


SAID = {
    "equivalence": "4 of 4 comparisons are equivalent",
    "baseline": "PyTorch puts out what is recorded: all 12 outputs",
}


@pytest.mark.parametrize("name", JOBS)
def test_the_steps_of_the_workflow_pass(name: str, project: Path, programs: Path, tmp_path: Path) -> None:
    """Each line as it stands, but for the installations; what reviewers see is the report."""
    job, summary = JOBS[name], tmp_path / "summary.md"
    seen = {"GITHUB_STEP_SUMMARY": str(summary), "PYTHONPATH": str(ROOT)}
    if "'.[check]'" in installations(job)[0]:  # that brings no Keras
        for module in ("keras", "tensorflow"):
            (tmp_path / f"{module}.py").write_text("raise ImportError", encoding="utf-8")
        seen["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{ROOT}"
    lines = [step["run"] for step in job["steps"] if "run" in step and step["run"] not in installations(job)]
    assert lines
    for line in lines:
        done = run(line, project, programs, **seen)
        assert done.returncode == 0, done.stdout
    text = " ".join(summary.read_text(encoding="utf-8").split())
    assert text.count("**VERDICT: equivalent. ") == 1
    assert SAID[name] in text
    kept = [
        step["with"]["path"] for step in job["steps"] if step.get("uses", "").startswith("actions/upload-artifact@")
    ]
    assert [f"{name} {file}" for file in kept] == ["equivalence xframe-report.html"] * (name == "equivalence")
    for file in kept:
        page = (project / file).read_text(encoding="utf-8")
        assert page.startswith("<!DOCTYPE html>")
        assert SAID[name] in page


# ---- The hooks of pre-commit.


def test_pre_commit_would_take_the_hooks() -> None:
    for command, file in (("validate-manifest", HOOKS), ("validate-config", HOOK_CONFIG)):
        done = tool("pre_commit", command, file)
        # A warning, such as of a moving rev, is not worth an example.
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


def git(folder: Path, programs: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Git without anybody's settings."""
    roles = ("AUTHOR_NAME", "AUTHOR_EMAIL", "COMMITTER_NAME", "COMMITTER_EMAIL")
    settings = {f"GIT_{role}": "example@example.com" for role in roles}
    settings |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return run(["git", *words], folder, programs, PRE_COMMIT_HOME=str(folder.parent / "kept"), **settings)


def commit(folder: Path, programs: Path) -> subprocess.CompletedProcess[str]:
    git(folder, programs, "add", "--all")
    return git(folder, programs, "commit", "--message", "a change")


@pytest.fixture
def guarded(project: Path, programs: Path, tmp_path: Path) -> Path:
    """The project as a repository with the hooks of the example, and xframe's repository where the example says.

    The only change: its hooks run where pre-commit does, because an environment would be made from the network.
    """
    xframe = tmp_path / "xframe"
    xframe.mkdir()
    manifest = HOOKS.read_text(encoding="utf-8").replace("language: python", "language: system")
    (xframe / HOOKS.name).write_text(manifest, encoding="utf-8")
    config = yaml.safe_load(HOOK_CONFIG.read_text(encoding="utf-8"))
    used = config["repos"][0]
    used["repo"] = str(xframe)
    assert [hook.pop("additional_dependencies")[-1] for hook in used["hooks"]] == ["torch"]
    (project / HOOK_CONFIG.name).write_text(yaml.safe_dump(config), encoding="utf-8")
    for folder in (xframe, project):
        git(folder, programs, "init", "--quiet")
    assert commit(xframe, programs).returncode == 0
    git(xframe, programs, "tag", used["rev"])
    kept = {"PRE_COMMIT_HOME": str(project.parent / "kept")}
    done = run(["python", "-m", "pre_commit", "install"], project, programs, **kept)
    assert done.returncode == 0, done.stdout
    return project


def test_a_commit_passes_or_fails(guarded: Path, programs: Path) -> None:
    done = commit(guarded, programs)
    assert done.returncode == 0, done.stdout
    passed = re.findall(r"^(.+?)\.+Passed$", done.stdout, re.MULTILINE)
    assert passed == ["xframe check", "port.pth holds what model.keras does"]

    with np.load(guarded / "golden.npz") as file:
        arrays = dict(file)
    changed = arrays | {"layers/0/inputs/0/outputs/last": arrays["layers/0/inputs/0/outputs/last"] + 0.01}
    np.savez(guarded / "golden.npz", **changed)
    done = commit(guarded, programs)
    assert done.returncode == 1
    said = " ".join(done.stdout.split())
    assert "outputs are not the recorded ones; the worst is last of both_ways in PyTorch" in said
    assert said.endswith("(no files to check)Skipped")  # the other hook
    git(guarded, programs, "checkout", "--quiet", "HEAD", "golden.npz")

    weights = torch.load(guarded / "port.pth", weights_only=True)
    for name in [one for one in weights if one.startswith("summary.")]:
        r, z, n = weights[name].chunk(3)
        weights[name] = torch.cat([z, r, n])
    torch.save(weights, guarded / "port.pth")
    done = commit(guarded, programs)
    assert done.returncode == 1
    assert "VERDICT: different. 1 of 3 pairs of layers differ: summary and summary" in done.stdout
    assert "With gates r and z swapped" in done.stdout
    assert git(guarded, programs, "rev-list", "--count", "HEAD").stdout == "1\n"
