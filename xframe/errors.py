"""Every error that xframe raises on purpose.

The message says what was wrong, where, and how to mend it, in one sentence; the command line prints
it and exits with status 2.
"""

from __future__ import annotations

from collections.abc import Iterable

from xframe.escaping import printable

__all__ = [
    "FileError",
    "LayoutError",
    "LimitError",
    "MissingFrameworkError",
    "ObstaclesError",
    "SpecError",
    "UnsupportedError",
    "WorkerError",
    "XframeError",
]


class XframeError(Exception):
    """Base of all errors of xframe.

    The message is one line of printable text, whoever shows it: names in it come from strangers' files.
    """

    kind = "error"

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(str(message)))


class SpecError(XframeError, ValueError):
    """A layer or a probe was described by values that make no sense."""

    kind = "spec"


class UnsupportedError(XframeError):
    """A layer, an option or a pair of them that a framework, or this version of xframe, cannot express."""

    kind = "unsupported"


class ObstaclesError(UnsupportedError):
    """All that stands in the way of understanding a model as a whole.

    Attributes:
        reasons: what it is, a sentence each.
    """

    def __init__(self, reasons: Iterable[str]) -> None:
        self.reasons = tuple(dict.fromkeys(reasons))
        head = "" if len(self.reasons) == 1 else f"{len(self.reasons)} things stand in the way: "
        super().__init__(f"{head}{'; '.join(reason.rstrip('.') for reason in self.reasons)}.")


class MissingFrameworkError(XframeError, ImportError):
    """A framework was asked for and is not installed, or cannot be loaded."""

    kind = "missing-framework"


class WorkerError(XframeError):
    """A process in which a framework runs by itself has ended, or the framework failed in it."""

    kind = "worker"


class LayoutError(XframeError, ValueError):
    """Arrays do not have the names, shapes or values that the layout asks for."""

    kind = "layout"


class FileError(XframeError, OSError):
    """A file cannot be read or written."""

    kind = "file"


class LimitError(FileError):
    """A file asks for more memory or time than is allowed."""

    kind = "limit"
