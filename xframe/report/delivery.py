"""Where a report goes besides standard output: a file, whole or not at all, and the summary of a job on GitHub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from xframe.errors import FileError
from xframe.report import render

__all__ = ["append_summary", "check_output", "write_output"]


def check_output(path: str | None, *sources: str | None) -> None:
    """Refuse at once a file that could not be written in the end, or that is one of those that are read."""
    if path is None:
        return
    try:
        folder = Path(path).absolute().parent
        if Path(path).is_dir():
            raise FileError(f"Cannot write {path}: it is a folder; name a file.")
        if not folder.is_dir():
            raise FileError(f"Cannot write {path}: the folder {folder} does not exist; make it first.")
        exists = Path(path).exists()
        if not os.access(folder, os.W_OK) or (exists and not os.access(path, os.W_OK)):
            raise FileError(f"Cannot write {path}: no permission; choose another place.")
        if exists and any(Path(path).samefile(one) for one in sources if one is not None and Path(one).exists()):
            raise FileError(f"Cannot write {path}: it is read, too, and would be lost; name another file.")
    except FileError:
        raise
    except OSError as error:
        raise _refused(path, error) from None


def _refused(path: str, error: OSError) -> FileError:
    from xframe.placing import refused  # not needed, and slow, where nothing goes wrong

    return refused(path, error)


def write_output(path: str, text: str) -> None:
    """Write a file whole or not at all."""
    target = Path(path)
    try:
        if target.exists() and not target.is_file():  # a pipe or a device cannot be replaced
            _write_into(target, text)
            return
        from xframe.placing import making  # not needed, and slow, where the report is printed

        with making(target) as made:
            made.write_text(text, encoding="utf-8", errors="backslashreplace")
            made.replace(target)
    except OSError as error:
        raise _refused(path, error) from None


def _write_into(target: Path, text: str) -> None:
    """Write into what is no file: a pipe must have a reader, or nothing would ever go on."""
    number = os.open(target, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
    os.set_blocking(number, True)
    with os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)


def append_summary(result: Any) -> str:
    """Append a result, as Markdown, to the file that ``GITHUB_STEP_SUMMARY`` names, if it is set.

    Returns:
        What went wrong, in one sentence, or nothing. A summary that cannot be written changes no verdict.
    """
    if not (path := os.environ.get("GITHUB_STEP_SUMMARY")):
        return ""
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            # What was there may not end with an empty line, without which a heading is no heading.
            file.write(f"\n{render(result, 'markdown')}")
    except OSError as error:
        return f"Cannot append the report to {path}: {error.strerror}; correct or unset GITHUB_STEP_SUMMARY."
    return ""
