"""What has been found about the frameworks is still so; a finding that a release has mended fails here, and says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import helpers
import pytest
from test_readme import blocks, without_rounding

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
findings = helpers.module_at(ROOT / "scripts" / "findings.py")


@pytest.mark.needs("keras", "torch", "onnx", "flax")
@pytest.mark.parametrize("one", findings.FINDINGS, ids=lambda one: one.what)
def test_a_finding(one: Any) -> None:
    figure = one.figure
    assert figure, (
        f"{one.framework} has mended it: take it out of scripts/findings.py, and let xframe use it ({one.done})"
    )
    assert figure == "refused" or figure.startswith("off by "), figure


@pytest.mark.needs("keras", "torch", "onnx", "flax")
def test_the_table_of_the_readme_is_what_is_measured() -> None:
    """But for the figures, which differ a little from machine to machine."""
    shown = dict(blocks((ROOT / "README.md").read_text(encoding="utf-8")))["python scripts/findings.py"]
    assert without_rounding(shown) == without_rounding(findings.table())


@pytest.mark.needs("keras")
def test_what_is_right_measures_as_nothing() -> None:
    """Keras on TensorFlow has float64."""
    right = findings.Finding("keras", "", lambda: findings.keras_float64("tensorflow"), "")
    assert isinstance(right.measure(), float)
    assert right.figure == ""
    assert findings.Finding("onnx", "", lambda: findings.refused(lambda: None, "never"), "").figure == ""
    assert findings.refused(lambda: 1 / 0, "other words") == "fails: division by zero"
