"""The one thing that xframe says in the files that it writes: what they are, as JSON of this format.

What stands in it, and how it is checked, is in `xframe.recognition.told`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from xframe.files._json import object_of

__all__ = ["FORMAT", "NAME", "is_told", "parsed"]

FORMAT = "xframe/model/1"
# Under which it stands in a file's metadata.
NAME = "xframe"


def parsed(text: Any) -> Mapping[str, Any] | None:
    """The object in a file's metadata; None for anything that is not of this format, as that of a later version."""
    if isinstance(text, str):
        # No JSON, nested too deep, or text that nobody can print.
        with suppress(ValueError, RecursionError):
            found = object_of(text, "Cannot read the file: what it says of itself")
            json.dumps(found, ensure_ascii=False).encode()
            return found if is_told(found) else None
    return None


def is_told(config: object) -> bool:
    """Whether a configuration is what xframe says in its files."""
    return isinstance(config, Mapping) and config.get("format") == FORMAT
