"""The layout of a baseline that was recorded, and of a check against one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from xframe.adapters import title_of
from xframe.report import diagnosis, figures, power
from xframe.report.blocks import Block, Heading, Items, Paragraph, Table, conclusion, ratio_text

if TYPE_CHECKING:
    from xframe.baseline import Baseline, Checking, Recording
    from xframe.verdict import Check

__all__ = ["checking", "checking_fields", "recording", "recording_fields"]


def recording(r: Recording) -> Iterator[Block]:
    yield Heading(f"Recorded in {r.path}" if r else f"Not recorded: {r.path}", 1)
    yield _layers(r.baseline)
    if r.checks:
        yield Paragraph("What the frameworks at hand put out, against the NumPy reference that is recorded:")
        yield from _checks(r.checks, r.baseline)
    yield Items((*_power(r), *_left_out(r.not_compared), *r.notes, f"Environment: {_versions(r.environment)}."))
    yield conclusion(r.status, r.reason)


def checking(c: Checking) -> Iterator[Block]:
    yield Heading(str(c.path), 1)
    yield Paragraph(f"Recorded with {_versions(c.baseline.environment)}. Checked with {_versions(c.environment)}.")
    yield _layers(c.baseline)
    if c.checks:
        yield from _checks(c.checks, c.baseline)
    yield Items((*c.causes, *_power(c), *_left_out(c.not_compared), *c.notes))
    if c.diagnosis is not None:
        yield Heading(f"Why it differs: {c.diagnosis.b}")
        yield Paragraph(c.diagnosis.reason)
        yield from diagnosis.explained(c.diagnosis)
    yield conclusion(c.status, c.reason, c.scope)


def _versions(environment: Any) -> str:
    return ", ".join(f"{name} {text}" for name, text in environment.items() if name != "platform")


def _left_out(not_compared: Any) -> Iterator[str]:
    yield from (f"Not compared: {text}" for text in not_compared.values())


def _power(result: Recording | Checking) -> Iterator[str]:
    return power.sentences(result.power, "these inputs show", "would be")


def _layers(b: Baseline) -> Table:
    headers = ("layer", "is", "numbers", "inputs", "judged in")
    rows = tuple(
        (one.name, str(one.spec), f"{one.params.size:,}", f"{len(one.inputs):,}", ", ".join(one.dtypes))
        for one in b.layers
    )
    return Table(headers, rows, frozenset(headers[2:4]))


def _checks(checks: Sequence[Check], baseline: Baseline) -> Iterator[Block]:
    """One row a layer, framework and float type, and the error over time."""
    groups: dict[tuple[str, str, str, str], list[Check]] = {}
    for check in checks:
        groups.setdefault((check.layer, check.framework, check.weights, check.dtype), []).append(check)
    headers = ("layer", "framework", "weights", "float type", "outputs", "off by", "x noise", "status")
    rows = tuple(
        (layer, title_of(framework), weights, dtype, f"{len(found):,}", *_figures(found))
        for (layer, framework, weights, dtype), found in groups.items()
    )
    yield Table(headers, rows, frozenset(headers[4:7]))
    if drawing := figures.over_time(checks, baseline.limit):
        yield drawing


def _figures(checks: Sequence[Check]) -> tuple[str, str, str]:
    worst = next((s for s in ("different", "inconclusive") if any(c.status == s for c in checks)), "equivalent")
    known = [(c.max_abs, c.noise_ratio) for c in checks if c.max_abs is not None and c.noise_ratio is not None]
    if len(known) < len(checks):
        return "-", "-", worst
    return f"{max(known)[0]:.1e}", ratio_text(max(ratio for _, ratio in known)), worst


def recording_fields(r: Recording) -> dict[str, Any]:
    """The fields of the JSON object."""
    return {"reason": r.reason, "path": str(r.path), **_shared(r.baseline, r.checks), **_rest(r)}


def checking_fields(c: Checking) -> dict[str, Any]:
    """The fields of the JSON object."""
    return {
        "reason": c.reason,
        "path": str(c.path),
        "recorded": {"version": c.baseline.version, "environment": dict(c.baseline.environment)},
        **_shared(c.baseline, c.checks),
        "reference": {name: _finite(ratio) for name, ratio in c.reference.items()},
        "causes": list(c.causes),
        **_rest(c),
    }


def _shared(b: Baseline, checks: Sequence[Check]) -> dict[str, Any]:
    """What was recorded, and the checks with the fields that those of every report have."""
    return {
        "model": [str(one.spec) for one in b.layers],
        "layers": [
            {
                "name": one.name,
                "cell": one.spec.cell,
                "spec": {"cell": one.spec.cell, **asdict(one.spec)},
                "numbers": one.params.size,
                "inputs": len(one.inputs),
                "dtypes": list(one.dtypes),
            }
            for one in b.layers
        ],
        "checks": [_check(check) for check in checks],
        "probe": dict(b.probe),
        "limit": b.limit,
    }


def _check(check: Check) -> dict[str, Any]:
    numbers = {"noise_ratio": check.noise_ratio, "got": check.got, "expected": check.expected}
    return {
        **asdict(check),
        "against": "recorded outputs, float64",
        **{name: None if number is None else _finite(number) for name, number in numbers.items()},
    }


def _finite(number: float) -> float | None:
    """JSON has no infinity and no NaN."""
    return number if math.isfinite(number) else None


def _rest(result: Recording | Checking) -> dict[str, Any]:
    return {
        "power": power.fields(result.power),
        "frameworks": list(result.frameworks),
        "not_compared": dict(result.not_compared),
        "notes": list(result.notes),
    }
