"""The notebook of the examples, run in Jupyter: what readers see in it is what it prints."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
import pytest
from test_readme import without_rounding

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from update_notebook import NOTEBOOK, executed, printed  # noqa: E402


def test_the_notebook_prints_what_is_kept_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Jupyter's own files, which would else be in the home folder.
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    kept = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(kept)
    shown = [printed(cell) for cell in kept.cells if cell.cell_type == "code"]
    fresh = [printed(cell) for cell in executed(kept).cells if cell.cell_type == "code"]
    assert [without_rounding(text) for text in fresh] == [without_rounding(text) for text in shown]

    imports, both, three_numbers, two_biases, moved, by_hand, why, by_xframe, power, baseline = fresh
    assert imports == ""
    assert both.split() == ["Keras:", "120", "PyTorch:", "130"]
    assert "torch  stored 130  effective 120  redundant 10" in three_numbers
    rnn, gru = map(float, re.findall(r"[\d.]+e[+-]\d+", two_biases))
    assert rnn < 1e-6 < 1e-2 < gru
    assert [text.split()[0] for text in (moved, by_hand, by_xframe)] == ["equivalent", "different", "equivalent"]
    assert "VERDICT: different. With gates r and z swapped" in why
    assert "error over time" in why
    assert power.endswith("it would have missed 0\n")
    assert "PyTorch puts out what is recorded" in baseline


def test_the_notebook_keeps_nothing_of_a_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert not re.search(r"stderr|image/png|/tmp|/home|site-packages|iopub", text)
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    # Run from the first to the last, in one go.
    assert [cell.execution_count for cell in cells if cell.cell_type == "code"] == list(range(1, 11))
