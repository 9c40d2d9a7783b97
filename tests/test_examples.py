"""The examples, run as they are written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
MIGRATION = ROOT / "examples" / "migration"
# As a program that finds no xframe and no Keras, wherever they are installed.
ALONE = (
    "import runpy, sys; sys.modules.update(dict.fromkeys(('xframe', 'keras', 'tensorflow'))); sys.argv = sys.argv[1:]; "
)
ALONE += "runpy.run_path(sys.argv[0], run_name='__main__')"


def test_a_migration_from_start_to_end(tmp_path: Path) -> None:
    """The commands of the example's README, each in a process of its own."""
    text = (MIGRATION / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ (.+)$", text, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["python", "xframe", "python"]
    printed = []
    for command in commands:
        program, *arguments = (word.replace("work", str(tmp_path / "work"), 1) for word in command.split())
        alone = arguments[0].endswith("use_in_pytorch.py")
        start = {"python": ["-c", ALONE] if alone else [], "xframe": ["-m", "xframe"]}[program]
        done = subprocess.run(
            [sys.executable, *start, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        printed.append(" ".join(done.stdout.split()))
    assert "VERDICT: equivalent. What was written, run in PyTorch, is within" in printed[1]
    assert "for 64 of 64 sequences" in printed[2]
    off = float(re.findall(r"is ([0-9.e-]+)\.$", printed[2])[0])
    assert 0 < off < 1e-5
    with np.load(tmp_path / "work" / "expected.npz") as expected:
        # A model that always says the same, or nothing clearly, would prove little.
        assert len(set(expected["y"].argmax(axis=1))) == 3
    assert {path.name for path in (tmp_path / "work" / "converted").iterdir()} >= {
        "model.py",
        "weights.safetensors",
        "proof.json",
        "proof.md",
    }
