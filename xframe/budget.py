"""What one run may take for the files of strangers: memory beyond their own size, and time.

A small file can ask for much: a stream that unpacks a thousand times over, a list of millions of empty lists, a layer that
repeats its input 300,000 times. Whoever is about to take memory that grows beyond the file asks here before, so that there is
one bound for all that is read and run together, and one sentence that names the number and the option that allows more.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import FrameType

from xframe.errors import LimitError, SpecError

__all__ = ["MEMORY", "SECONDS", "Budget", "allowed", "current", "stopwatch"]

MEMORY = 1024  # MiB
SECONDS = 600
_MIB = 2**20
_MOST = 10**9  # of either: centuries, and more than any machine has


@dataclass
class Budget:
    """What is allowed, and what has been taken of it.

    Attributes:
        memory: in MiB; seconds: of the whole run.
        taken: bytes that have been taken, all files and runs together.
    """

    memory: int = MEMORY
    seconds: float = SECONDS
    taken: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        for name, option in (("memory", "--max-memory"), ("seconds", "--timeout")):
            if not 0 < getattr(self, name) < _MOST:
                raise SpecError(f"{option} must be a number above 0 and below {_MOST:,}, not {getattr(self, name):,}.")

    def take(self, size: int, what: str) -> None:
        """Note bytes that stay taken until the run ends. LimitError, which says ``what`` asks for them, if they are too many."""
        self.fits(self.taken + size, what)
        self.taken += size

    def fits(self, size: int, what: str) -> None:
        """Refuse what takes so many bytes at a time: LimitError."""
        if size > self.memory * _MIB:
            need = -(-size // _MIB)
            raise LimitError(
                f"{what} asks for {need:,} MiB of memory beyond the size of the files, and {self.memory:,} are allowed; "
                f"--max-memory {need} allows it, if you trust the file."
            )

    def lasts(self, seconds: float, what: str) -> None:
        """Refuse what takes longer than the whole run may: LimitError."""
        if seconds > self.seconds:
            raise LimitError(
                f"{what} would take about {seconds:,.0f} seconds, and {self.seconds:g} are allowed; --timeout {seconds:.0f} "
                "allows it, if you trust the file."
            )


_current: ContextVar[Budget | None] = ContextVar("budget", default=None)


def current() -> Budget:
    """The budget of this run; outside `allowed` a new one, of the usual size."""
    return _current.get() or Budget()


@contextmanager
def allowed(memory: int | None = None, seconds: float | None = None) -> Iterator[Budget]:
    """Run what is within on one budget: in Python what ``--max-memory`` and ``--timeout`` are on the command line.

    Args:
        memory: in MiB, beyond the size of the files. Within another `allowed`, None is what that one has left.
        seconds: of the whole run. They end what runs only where `stopwatch` does.

    Raises:
        SpecError: a number makes no sense.
    """
    outer = _current.get()
    if outer is not None and memory is None and seconds is None:
        yield outer
        return
    made = Budget(MEMORY if memory is None else memory, SECONDS if seconds is None else seconds)
    token = _current.set(made)
    try:
        yield made
    finally:
        _current.reset(token)


@contextmanager
def stopwatch(budget: Budget) -> Iterator[None]:
    """End what runs within when the time of the budget is up, with a LimitError.

    By the system's timer, which only the main thread of a Unix process has; elsewhere time is not bounded.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, budget.seconds)
    try:
        yield
    except _TimeUp:
        raise LimitError(
            f"It took longer than the {budget.seconds:g} seconds that are allowed; --timeout {2 * budget.seconds:g} allows "
            "more, if you trust the files."
        ) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _TimeUp(BaseException):
    """As KeyboardInterrupt: nobody who catches errors of a file catches it."""
