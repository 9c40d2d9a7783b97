"""Keeping what frameworks print while they start away from the user, and from reports that are piped on."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

__all__ = ["silenced"]


@contextmanager
def silenced() -> Iterator[None]:
    """Discard what native code writes to file descriptors 1 and 2, and Python's warnings, for as long as this lasts.

    Frameworks log from C++ before their own settings are read, so only the descriptors help. Python's sys.stdout and sys.stderr
    keep working: reports, progress bars and error sentences go through them.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    streams = sys.stdout, sys.stderr  # None where one is closed
    for stream in streams:
        if stream is not None:
            stream.flush()
    kept = [os.dup(1), os.dup(2)]
    try:
        sys.stdout, sys.stderr = (_copied(number, stream) for number, stream in enumerate(streams, start=1))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.close()
        sys.stdout, sys.stderr = streams
        for number, copy in enumerate(kept, start=1):
            os.dup2(copy, number)
            os.close(copy)


def _copied(number: int, stream: TextIO | None) -> TextIO:
    """A stream that writes as another one does, by a number of its own."""
    encoding, errors = (None, None) if stream is None else (stream.encoding, stream.errors)
    return os.fdopen(os.dup(number), "w", encoding=encoding, errors=errors, buffering=1 if number == 2 else -1)
