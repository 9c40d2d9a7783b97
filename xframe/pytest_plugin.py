"""The pytest plugin: a fixture, and one report of all comparisons of a run.

It is loaded by every pytest that runs where xframe is installed. So it imports nothing but pytest until it is used, and keeps to
what old versions of pytest know. Results go with the test reports, which pytest-xdist brings from its workers to the process
that writes the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_OPTION = "--xframe-report"
_FIELD = "xframe_comparisons"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("xframe").addoption(
        _OPTION,
        metavar="FILE",
        help="write one report of all comparisons to FILE: HTML (.html), JSON (.json), Markdown (.md), JUnit XML (.xml), else "
        "text",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Collect comparisons, if a report was asked for; refuse at once a file that could not be written in the end."""
    given = config.getoption(_OPTION)
    if given is None:
        return
    from xframe.errors import FileError
    from xframe.report.delivery import check_output

    # A worker of pytest-xdist, which may be on another machine, writes nothing.
    target = None if hasattr(config, "workerinput") else given
    try:
        check_output(target)
    except FileError as error:
        raise pytest.UsageError(f"{_OPTION}: {error}") from None
    # Absolute, because tests may change the folder.
    config.pluginmanager.register(_Collector(target and Path(target).absolute()), "xframe-collector")


@pytest.fixture(scope="session")
def assert_equivalent() -> Callable[..., Any]:
    """xframe.assert_equivalent: two layers or models are equivalent, or the report says why not."""
    from xframe.testing import assert_equivalent as function

    return function


class _Collector:
    """Attaches to each test report what was compared in it; where there is a file to write, gathers all and writes it."""

    def __init__(self, target: Path | None) -> None:
        self._target = target
        self._fresh: list[Any] = []
        self._packed: list[str] = []
        self._told: list[str] = []

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        from xframe.testing import observed

        with observed(self._fresh.append):
            yield

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        outcome: Any = yield
        if self._fresh:
            from xframe.report.run import entry, packed

            # Strings, because a report goes from process to process.
            setattr(outcome.get_result(), _FIELD, [packed(entry(item.nodeid, result)) for result in self._fresh])
            self._fresh.clear()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self._target:
            self._packed += getattr(report, _FIELD, [])

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not self._target:
            return
        from xframe.errors import FileError
        from xframe.report import format_of, render
        from xframe.report.delivery import append_summary, write_output
        from xframe.report.run import Run, unpacked

        run = Run(tuple(map(unpacked, self._packed)))
        try:
            write_output(str(self._target), render(run, format_of(self._target.name)))
            self._told.append(f"{self._target}: {run.status}. {run.reason}")
        except FileError as error:
            self._told.append(str(error))
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
        if wrong := append_summary(run):
            self._told.append(wrong)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._told:
            from xframe.escaping import printable

            terminalreporter.section("xframe")
            for line in self._told:
                terminalreporter.line(printable(line))
