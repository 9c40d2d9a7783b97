"""Looks up the known vulnerabilities of the packages in constraints.txt, by pip-audit.

pip-audit is installed into a folder of its own for as long as this lasts. Where an index serves packages and no advisories,
pip-audit by itself finds nothing wrong and ends with 0. So a version that has a known flaw is asked for first: if the flaw is
not found, nothing more is asked, and this says that nothing was audited.

    python scripts/audit.py

Exit status: 0 every package was looked up and none has a known vulnerability, 1 one has, 2 not all could be looked up, which is
said and proves nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xframe.escaping import printable

__all__ = ["ACCEPTED", "FLAWED", "NoAnswerError", "Verdict", "audit", "judged", "pins"]

ROOT = Path(__file__).resolve().parent.parent
PIP_AUDIT = "pip-audit==2.10.1"
# It has one: CVE-2025-1550.
FLAWED = "keras==3.7.0"
# Advisories that do not concern xframe, or that no version mends yet: by their ids, why.
ACCEPTED: dict[str, str] = {}


class NoAnswerError(Exception):
    """The advisories cannot be had, and why."""


class Verdict(NamedTuple):
    """What was found: sentences, and the exit status."""

    sentences: list[str]
    status: int


def pins(text: str) -> list[str]:
    """The lines of a file of constraints that name a package."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def audit(constraints: Sequence[str], folder: Path) -> Mapping[str, Any]:
    """What pip-audit says of these packages.

    Args:
        constraints: names with versions.
        folder: an empty one, for pip-audit and its files.

    Raises:
        NoAnswerError: pip-audit cannot be installed, or does not get an answer.
    """
    tool, asked = folder / "pip-audit", folder / "asked.txt"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--constraint", str(ROOT / "constraints.txt"), "--target", str(tool), PIP_AUDIT], "installed", {})
    words = ["--format", "json", "--no-deps", "--disable-pip", "--progress-spinner", "off", "--requirement", str(asked)]
    words += [word for accepted in ACCEPTED for word in ("--ignore-vuln", accepted)]

    def answer(lines: Sequence[str]) -> Mapping[str, Any]:
        asked.write_text("\n".join(lines) + "\n", encoding="utf-8")
        said = _run([sys.executable, "-m", "pip_audit", *words], "answered", {"PYTHONPATH": str(tool)})
        return dict(json.loads(said))

    if not any(one.get("vulns") for one in answer([FLAWED])["dependencies"]):
        raise NoAnswerError(f"the advisories that answer here know of no flaw in {FLAWED}, which has one")
    return answer(constraints)


def _run(words: Sequence[str], done: str, environment: Mapping[str, str]) -> str:
    """The standard output of a command."""
    ran = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    # pip-audit ends with 1 where it has found something, and says it.
    if ran.returncode and not ran.stdout.startswith("{"):
        why = ran.stderr.strip().splitlines()[-1:] or [f"status {ran.returncode}"]
        raise NoAnswerError(f"pip-audit was not {done} ({why[0].rstrip('.')})")
    return ran.stdout


def judged(found: Mapping[str, Any]) -> Verdict:
    """What follows from pip-audit's answer."""
    left = [one for one in found["dependencies"] if "skip_reason" in one]
    looked = [one for one in found["dependencies"] if "skip_reason" not in one]
    flaws = [
        f"{one['name']} {one['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version yet'}."
        for one in looked
        for flaw in one["vulns"]
    ]
    sentences = [*flaws, *(f"Not looked up: {one['name']} ({one['skip_reason']})." for one in left)]
    sentences.append(
        f"{len(looked)} of {len(looked) + len(left)} packages looked up, known vulnerabilities: {len(flaws)}."
    )
    return Verdict(sentences, 1 if flaws else 2 if left or not looked else 0)


def main() -> int:
    constraints = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="xframe-audit-") as folder:
        try:
            found = judged(audit(constraints, Path(folder)))
        except NoAnswerError as error:
            found = Verdict([f"NOT AUDITED: {error}. Nothing is known either way."], 2)
    for sentence in found.sentences:
        print(printable(sentence))
    return found.status


if __name__ == "__main__":
    sys.exit(main())
