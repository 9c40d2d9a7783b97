"""JSON, schema ``xframe/1``: one object, whose fields keep their meaning."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from xframe import __version__
from xframe.assumptions import NumberSearch
from xframe.counts import Count
from xframe.errors import XframeError
from xframe.escaping import in_json
from xframe.explanation import Explanation
from xframe.report import baseline, doctor, power
from xframe.spec import Layer, Sequential

if TYPE_CHECKING:
    import numpy as np

    from xframe.conversion import Conversion
    from xframe.demonstration import Demonstration
    from xframe.diagnosis import Cause, Diagnoses, Diagnosis, Where
    from xframe.recognition import Findings, Reading
    from xframe.report.run import Run
    from xframe.suite import Suite
    from xframe.verdict import Check, ParameterCheck, Verdict
    from xframe.verification import Verification
    from xframe.whole import Whole

__all__ = ["content", "error_content", "error_json", "to_json"]


def to_json(result: Any) -> str:
    """A result as one JSON object."""
    return _write(content(result))


def content(result: Any) -> dict[str, Any]:
    """The same object before it is written."""
    if isinstance(result, list | tuple):
        parts = [_WRITERS[type(one).__name__](one) for one in result]
        head = _head("explain", "done")
        return {**head, "results": [{k: v for k, v in part.items() if k not in head} for part in parts]}
    return _WRITERS[type(result).__name__](result)


def error_json(command: str, error: XframeError) -> str:
    """The object for a command that could not do its work."""
    return _write(error_content(command, error))


def error_content(command: str, error: XframeError) -> dict[str, Any]:
    """The same object before it is written."""
    return {**_head(command, "error"), "error": {"kind": error.kind, "message": str(error)}}


def _write(content: Mapping[str, Any]) -> str:
    return in_json(json.dumps(content, indent=2, allow_nan=False)) + "\n"


def _head(
    command: str, status: str, environment: Mapping[str, str] | None = None, scope: str | None = None
) -> dict[str, Any]:
    import platform

    basic = {"python": platform.python_version(), "platform": platform.platform()}
    return {
        "schema": "xframe/1",
        "version": __version__,
        "command": command,
        "status": status,
        **({} if scope is None else {"scope": scope}),
        "environment": dict(environment or basic),
    }


def _spec(spec: Layer) -> dict[str, Any]:
    options = spec.options()
    if backward := options.get("backward"):
        options["backward"] = _spec(backward)
    if stacked := options.get("stacked"):
        options["stacked"] = [_spec(one) for one in stacked]
    return {"cell": spec.cell, **options}


def _counts(counts: Mapping[str, Count]) -> dict[str, Any]:
    return {
        name: {
            "stored": c.stored,
            "effective": c.effective,
            "redundant": c.redundant,
            "formula": c.formula,
            "arithmetic": c.arithmetic,
            "tensors": [{"name": t.name, "shape": list(t.shape), "count": t.count, "role": t.role} for t in c.tensors],
        }
        for name, c in counts.items()
    }


def _explanation(e: Explanation) -> dict[str, Any]:
    return {
        **_head("explain", "done"),
        "spec": _spec(e.spec),
        "counts": _counts(e.counts),
        "reasons": list(e.reasons),
        "unsupported": dict(e.unsupported),
    }


def _number(s: NumberSearch) -> dict[str, Any]:
    return {
        **_head("explain", "done"),
        "spec": _spec(s.spec),
        "number": s.number,
        "exact": s.exact,
        "matches": [{"framework": m.framework, "assumption": m.assumption, "count": m.count} for m in s.matches],
        "as_given": dict(s.as_given),
        "missing": s.missing,
    }


def _demonstration(d: Demonstration) -> dict[str, Any]:
    moves = [
        {"gate": m.gate, "change": m.change, "noise_ratio": m.noise_ratio, "redundant": m.redundant} for m in d.moves
    ]
    return {
        **_head("explain", "done"),
        "spec": _spec(d.spec),
        "constant": d.constant,
        "moves": moves,
        "conclusion": d.conclusion,
    }


def _verdict(v: Verdict, diagnosed: bool = True) -> dict[str, Any]:
    layers = v.model.layers if isinstance(v.model, Sequential) else (v.model,)
    return {
        **_head("compare", v.status, v.environment, v.scope),
        "reason": v.reason,
        "layers": [
            {
                "name": report.name,
                "cell": report.spec.cell,
                "spec": _spec(report.spec),
                "counts": _counts(report.counts),
                "reasons": list(report.reasons),
            }
            for report in v.layers
        ],
        "totals": {
            name: sum(report.counts[name].stored for report in v.counted)
            for name in v.layers[0].counts
            if all(name in report.counts for report in v.layers)
        },
        "model": [str(layer) for layer in layers],
        "frameworks": list(v.frameworks),
        "not_compared": dict(v.not_compared),
        "parameters": [_parameters(p) for p in v.parameters],
        "checks": [_check(c) for c in v.checks],
        "power": power.fields(v.power),
        "limit": v.limit,
        "probe": dict(v.probe),
        "notes": list(v.notes),
        "diagnosis": _diagnosis(v.diagnosis) if diagnosed and v.diagnosis is not None else None,
    }


def _parameters(p: ParameterCheck) -> dict[str, Any]:
    return {
        "layer": p.layer,
        "a": p.a,
        "b": p.b,
        "dtype": p.dtype,
        "max_abs": p.max_abs,
        "where": p.where,
        "rounding": p.rounding,
    }


def _check(c: Check) -> dict[str, Any]:
    return {
        "layer": c.layer,
        "framework": c.framework,
        "weights": c.weights,
        "initial_state": c.initial_state,
        "output": c.output,
        "dtype": c.dtype,
        "against": "NumPy reference, float64",
        "status": c.status,
        "max_abs": c.max_abs,
        "noise_ratio": c.noise_ratio,
        "worst": None if c.worst is None else list(c.worst),
        "reason": c.reason,
        "got": None if c.got is None else _number_or_null(c.got),
        "expected": None if c.expected is None else _number_or_null(c.expected),
        "over_time": c.over_time and asdict(c.over_time),
        "power": {name: _number_or_null(margin) for name, margin in c.power.items()},
    }


def _number_or_null(number: float) -> float | None:
    """JSON has no infinity and no NaN."""
    return number if math.isfinite(number) else None


def _suite(s: Suite) -> dict[str, Any]:
    return {
        **_head("compare", s.status, s.verdicts[0].environment, s.scope),
        "reason": s.reason,
        "configurations": [_verdict(v, diagnosed=v is s.first_wrong) for v in s.verdicts],
        "left_out": dict(s.left_out),
        "notes": list(s.notes),
    }


def _findings(f: Findings) -> dict[str, Any]:
    return {
        **_head("inspect", "done"),
        "path": str(f.file.path),
        "format": f.file.format,
        "metadata": dict(f.file.metadata),
        "tensors": [
            {"name": t.name, "shape": list(t.shape), "dtype": t.dtype, "count": t.count}
            for t in f.file.tensors.values()
        ],
        "layers": [
            {
                "name": layer.name,
                "tensors": list(layer.tensors),
                "readings": [_reading(reading) for reading in layer.readings],
                "undecided": list(layer.undecided),
                "warnings": list(layer.warnings),
                "refused": layer.refused,
            }
            for layer in f.layers
        ],
        "others": [{"name": o.name, "kind": o.kind, "tensors": dict(o.tensors)} for o in f.others],
        "unconsumed": list(f.unconsumed),
        "opaque": list(f.opaque),
        "settings": list(f.settings),
        "warnings": list(f.warnings),
        "converts": {"whole": not f.obstacles, "why": list(f.obstacles)},
    }


def _reading(r: Reading) -> dict[str, Any]:
    return {
        "packing": r.packing.name,
        "spec": _spec(r.spec),
        "tensors": dict(r.tensors),
        "open": list(r.open),
        "forget_bias": r.forget_bias,
        "evidence": list(r.evidence),
    }


def _verification(v: Verification) -> dict[str, Any]:
    return {
        **_head("verify", v.status, scope=v.scope),
        "reason": v.reason,
        "a": v.a,
        "b": v.b,
        "pairs": [
            {
                "a": pair.a,
                "b": pair.b,
                "spec": None if pair.spec is None else _spec(pair.spec),
                "status": pair.status,
                "reason": pair.reason,
                "max_abs": pair.max_abs,
                "where": pair.where,
                "noise_ratio": _number_or_null(pair.noise_ratio),
                "notes": list(pair.notes),
                "diagnosis": _diagnosis(pair.diagnosis)
                if pair in v.first_wrong and pair.diagnosis is not None
                else None,
            }
            for pair in v.pairs
        ],
        "others": [{"a": a, "b": b} for a, b in v.others],
        "only_a": list(v.only_a),
        "only_b": list(v.only_b),
        "differing": list(v.differing),
        "notes": list(v.notes),
        "whole": v.whole and _whole(v.whole, v.between),
    }


def _whole(w: Whole, between: Diagnosis | None) -> dict[str, Any]:
    return {
        "status": w.status,
        "reason": w.reason,
        "options": [asdict(slip) for slip in w.slips],
        "lacking": list(w.lacking),
        "off": w.off and asdict(w.off),
        "inputs": w.inputs,
        "notes": list(w.notes),
        "diagnosis": None if between is None else _diagnosis(between),
    }


def _conversion(c: Conversion) -> dict[str, Any]:
    return {
        **_head("convert", c.status, c.environment, c.scope),
        "reason": c.reason,
        "source": c.source,
        "destination": c.destination,
        "to": c.to,
        "pieces": [
            {
                "name": piece.name,
                "folder": piece.folder,
                "steps": list(piece.steps),
                "before": piece.before,
                "after": piece.after,
                "dtype": piece.dtype,
                "notes": list(piece.notes),
                "tensors": dict(piece.fates),
                "trials": [
                    {
                        "layer": trial.layer,
                        "drawn": trial.drawn,
                        "batch": trial.batch,
                        "steps": trial.steps,
                        "status": trial.status,
                        "max_abs": _number_or_null(trial.max_abs),
                        "noise_ratio": _number_or_null(trial.noise_ratio),
                        "reason": trial.reason,
                    }
                    for trial in piece.trials
                ],
                "power": None if piece.power is None else {"mistake": piece.power[0], "margin": piece.power[1]},
            }
            for piece in c.pieces
        ],
        "not_converted": list(c.not_converted),
        "why": list(c.why),
        "left_out": list(c.left_out),
        "warnings": list(c.warnings),
        "limit": c.limit,
    }


def _diagnosis(d: Diagnosis) -> dict[str, Any]:
    return {**_head("diagnose", d.status), **_diagnosed(d)}


def _diagnoses(d: Diagnoses) -> dict[str, Any]:
    parts = [{"status": part.status, **_diagnosed(part)} for part in d.parts]
    return {
        **_head("diagnose", d.status),
        "reason": d.reason,
        "a": d.a,
        "b": d.b,
        "parts": parts,
        "notes": list(d.notes),
    }


def _diagnosed(d: Diagnosis) -> dict[str, Any]:
    return {
        "reason": d.reason,
        "a": d.a,
        "b": d.b,
        "spec": None if d.spec is None else _spec(d.spec),
        "noise_ratio": _number_or_null(d.noise_ratio),
        "max_abs": _number_or_null(d.max_abs),
        "causes": [_cause(cause) for cause in d.causes],
        "where": None if d.where is None else _where(d.where),
        "tried": d.tried,
        "notes": list(d.notes),
    }


def _cause(c: Cause) -> dict[str, Any]:
    return {
        "mistakes": [{"entry": f.entry, "name": f.name, "why": f.why, "mend": f.mend} for f in c.faults],
        "noise_ratio": _number_or_null(c.noise_ratio),
        "max_abs": _number_or_null(c.max_abs),
        "reverse": c.reverse,
        "alike": list(c.alike),
    }


def _where(w: Where) -> dict[str, Any]:
    def series(values: np.ndarray | None) -> list[float | None] | None:
        return None if values is None else [_number_or_null(float(value)) for value in values]

    return {
        "sentence": w.sentence,
        "step": w.step,
        "layer": w.layer,
        "direction": w.direction,
        "gate": w.gate,
        "unit": w.unit,
        "stage": w.stage,
        "steps": series(w.steps),
        "local": series(w.local),
        "gates": {gate: series(values) for gate, values in w.gates.items()},
    }


def _run(r: Run) -> dict[str, Any]:
    return {
        **_head("pytest", r.status),
        "reason": r.reason,
        "comparisons": [{"test": entry.test, "result": entry.content} for entry in r.entries],
    }


_WRITERS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "Explanation": _explanation,
    "NumberSearch": _number,
    "Demonstration": _demonstration,
    "Verdict": _verdict,
    "Findings": _findings,
    "Verification": _verification,
    "Conversion": _conversion,
    "Suite": _suite,
    "Diagnosis": _diagnosis,
    "Diagnoses": _diagnoses,
    "Run": _run,
    "Examination": lambda e: {**_head("doctor", e.status, e.environment), **doctor.fields(e)},
    "Recording": lambda r: {**_head("record", r.status, r.environment), **baseline.recording_fields(r)},
    "Checking": lambda c: {
        **_head("check", c.status, c.environment, c.scope),
        **baseline.checking_fields(c),
        "diagnosis": None if c.diagnosis is None else _diagnosis(c.diagnosis),
    },
}
