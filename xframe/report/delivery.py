"""Where a report goes besides standard output: a file, whole or not at all, and the summary of a job on GitHub."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from xframe.errors import FileError
from xframe.report import render

__all__ = ["append_summary", "check_output", "write_output"]


def check_output(path: str | None) -> None:
    """Refuse at once a file that could not be written in the end."""
    if path is None:
        return
    folder = Path(path).absolute().parent
    if Path(path).is_dir():
        raise FileError(f"Cannot write {path}: it is a folder; name a file.")
    if not folder.is_dir():
        raise FileError(f"Cannot write {path}: the folder {folder} does not exist; make it first.")
    if not os.access(folder, os.W_OK) or (Path(path).exists() and not os.access(path, os.W_OK)):
        raise FileError(f"Cannot write {path}: no permission; choose another place.")


def write_output(path: str, text: str) -> None:
    """Write a file whole or not at all."""
    import tempfile  # not needed, and slow, where the report is printed

    target = Path(path)
    temporary: Path | None = None
    try:
        if target.exists() and not target.is_file():  # a pipe or a device cannot be replaced
            target.write_text(text, encoding="utf-8")
            return
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=target.absolute().parent, prefix=".xframe-", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(text)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        with suppress(OSError):
            if temporary:
                temporary.unlink()
        raise FileError(f"Cannot write {path}: {error.strerror}; choose another place.") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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
