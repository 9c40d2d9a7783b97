"""Why two layers differ, and where it begins."""

from __future__ import annotations

from xframe.diagnosis.evidence import Evidence
from xframe.diagnosis.record import Cause, Diagnoses, Diagnosis, Fault, Where
from xframe.diagnosis.sides import diagnose, diagnosed

__all__ = ["Cause", "Diagnoses", "Diagnosis", "Evidence", "Fault", "Where", "diagnose", "diagnosed"]
