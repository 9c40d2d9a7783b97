"""Keeping what frameworks print while they start away from the user, and from reports that are piped on."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["silenced"]


@contextmanager
def silenced() -> Iterator[None]:
    """Discard what native code writes to file descriptors 1 and 2, and Python's warnings, for as long as this lasts.

    Frameworks log from C++ before their own settings are read, so only the descriptors help. Python's sys.stdout and sys.stderr
    keep working: reports, progress bars and error sentences go through them.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    streams = sys.stdout, sys.stderr
    try:
        sys.stdout = os.fdopen(os.dup(1), "w", encoding=streams[0].encoding, errors=streams[0].errors)
        sys.stderr = os.fdopen(os.dup(2), "w", encoding=streams[1].encoding, errors=streams[1].errors, buffering=1)
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
