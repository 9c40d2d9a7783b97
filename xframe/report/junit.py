"""JUnit XML, which continuous integration shows: each check is one test case.

It is made of the fields of the JSON object, which are an interface. An inconclusive check becomes an ``error`` and not a
``skipped``: what proves nothing must not pass, and what is skipped does. ``skipped`` is what was not compared, with the reason.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from xframe.errors import SpecError
from xframe.escaping import printable
from xframe.report.run import numbered

__all__ = ["write"]

_ELEMENTS = {
    "different": "failure",
    "inconclusive": "error",
    "partial": "error",
    "error": "error",
    "skipped": "skipped",
}


@dataclass(frozen=True)
class _Case:
    """A test case; the status is that of a check, or ``skipped``."""

    classname: str
    name: str
    status: str
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True)
class _Suite:
    name: str
    content: Mapping[str, Any]
    cases: Sequence[_Case]


def write(content: Mapping[str, Any]) -> str:
    """The XML document of a result's JSON object.

    Raises:
        SpecError: the result is not made of checks.
    """
    root = ET.Element("testsuites")
    suites = list(_suites(content))
    for number, (suite, name) in enumerate(zip(suites, numbered([s.name for s in suites]), strict=True)):
        root.append(_suite_element(suite, name, number))
    ET.indent(root)
    # Other characters than those of ASCII become references, so that no terminal or pipe can spoil them.
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, "us-ascii").decode("ascii")}\n'


# ---- From the JSON object to cases.


def _suites(content: Mapping[str, Any]) -> Iterator[_Suite]:
    if "comparisons" in content:
        yield from _of_run(content)
    elif "configurations" in content:
        yield from _of_grid(content)
    elif "error" in content:
        case = _Case("xframe", "comparison", "error", content["error"]["message"])
        yield _Suite("could not compare", content, [case])
    else:
        find = next((find for field, find in _CASES.items() if field in content), None)
        if find is None:
            raise SpecError(
                f"JUnit XML has a test case for each check, and xframe {content['command']} makes none; use text, markdown, "
                "html or json."
            )
        name, cases = find(content)
        yield _Suite(name, content, _with_verdict(name, cases, content))


def _of_run(content: Mapping[str, Any]) -> Iterator[_Suite]:
    """One suite a comparison, named after its test."""
    entries = content["comparisons"]
    for label, one in zip(numbered([one["test"] for one in entries]), entries, strict=True):
        yield from (_below(label, suite) for suite in _suites(one["result"]))


def _of_grid(content: Mapping[str, Any]) -> Iterator[_Suite]:
    """One suite a configuration."""
    suites = [suite for one in content["configurations"] for suite in _suites(one)]
    for label, suite in zip(numbered([suite.name for suite in suites]), suites, strict=True):
        yield _below(label, suite)
    if left_out := content["left_out"]:
        cases = [_Case("left out", name, "skipped", why) for name, why in left_out.items()]
        yield _Suite("left out", content, cases)


def _below(label: str, suite: _Suite) -> _Suite:
    """The suite under a name that tells it from the others, and so its cases."""
    return _Suite(label, suite.content, [replace(c, classname=f"{label}/{c.classname}") for c in suite.cases])


def _with_verdict(name: str, cases: Sequence[_Case], content: Mapping[str, Any]) -> list[_Case]:
    """The cases, and one for a verdict that none of them shows: that of a weak probe, of a layer without a partner."""
    status = content["status"]
    if status in ("equivalent", "done") or any(case.status == status for case in cases):
        return list(cases)
    return [*cases, _Case(name, "verdict", status, content["reason"])]


def _compared(content: Mapping[str, Any]) -> tuple[str, list[_Case]]:
    cases = [
        _Case(
            f"{c['layer']}/{c['framework']}",
            f"{c['output']}, {c['dtype']}, {c['weights']}, initial state {c['initial_state']}",
            c["status"],
            c["reason"],
            _figures(c, at=c["worst"]),
        )
        for c in content["checks"]
    ]
    left_out = [_Case("not compared", name, "skipped", why) for name, why in content["not_compared"].items()]
    return ", then ".join(content["model"]), cases + left_out


def _verified(content: Mapping[str, Any]) -> tuple[str, list[_Case]]:
    name = f"{content['a']} and {content['b']}"
    pairs = content["pairs"]
    return name, [
        _Case(name, f"{p['a']} and {p['b']}", p["status"], p["reason"], _figures(p, at=p["where"])) for p in pairs
    ]


def _converted(content: Mapping[str, Any]) -> tuple[str, list[_Case]]:
    cases = []
    for piece in content["pieces"]:
        for trial in piece["trials"]:
            steps = "" if trial["steps"] is None else f", {trial['steps']} time steps"
            name = f"batch {trial['batch']}{steps}, {piece['dtype']}"
            part = f"{piece['name']}/{trial['layer']}" if trial["layer"] else piece["name"]
            classname = f"{part}/{content['to']}"
            cases.append(_Case(classname, name, trial["status"], trial["reason"], _figures(trial)))
    left = [_Case("not converted", text, "skipped", "not converted") for text in content["not_converted"]]
    left += [_Case("in the way", text, "skipped", "in the way of the whole model") for text in content["why"]]
    return f"{content['source']} to {content['to']}", cases + left


_CASES: dict[str, Callable[[Mapping[str, Any]], tuple[str, list[_Case]]]] = {
    "checks": _compared,
    "pairs": _verified,
    "pieces": _converted,
}


def _figures(check: Mapping[str, Any], at: object = None) -> str:
    """What is known of how far a check is off."""
    found = {"largest difference": check["max_abs"], "times the rounding noise": check["noise_ratio"], "at": at}
    return "\n".join(f"{name}: {value}" for name, value in found.items() if value not in (None, ""))


# ---- From cases to XML.


def _suite_element(suite: _Suite, name: str, number: int) -> ET.Element:
    """A suite with all attributes that some schema requires. Times are not measured."""
    statuses = [_ELEMENTS.get(case.status) for case in suite.cases]
    element = _element(
        "testsuite",
        name=name,
        package="xframe",
        id=number,
        tests=len(suite.cases),
        failures=statuses.count("failure"),
        errors=statuses.count("error"),
        skipped=statuses.count("skipped"),
        time=0,
        timestamp=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S"),
        hostname="localhost",
    )
    properties = ET.SubElement(element, "properties")
    about = {"xframe": suite.content["version"], **suite.content["environment"], **suite.content.get("probe", {})}
    about |= {name: suite.content[name] for name in ("scope",) if name in suite.content}
    properties.extend(_element("property", name=key, value=value) for key, value in about.items())
    keys = [f"{case.classname}, {case.name}" for case in suite.cases]
    for case, key, unique in zip(suite.cases, keys, numbered(keys), strict=True):
        element.append(_case_element(case, case.name + unique[len(key) :]))
    ET.SubElement(element, "system-out").text = printable(suite.content.get("reason", ""))
    ET.SubElement(element, "system-err")
    return element


def _case_element(case: _Case, name: str) -> ET.Element:
    element = _element("testcase", classname=case.classname, name=name, time=0)
    if kind := _ELEMENTS.get(case.status):
        found = _element(kind, message=case.reason, type=case.status)
        found.text = "\n".join(printable(line) for line in (case.reason, *case.detail.splitlines()))
        element.append(found)
    return element


def _element(tag: str, **attributes: object) -> ET.Element:
    """An element whose attributes hold no character that XML forbids: names come from strangers' files."""
    return ET.Element(tag, {name: printable(str(value)) for name, value in attributes.items()})
