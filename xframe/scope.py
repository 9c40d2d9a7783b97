"""How much of two things a verdict is about. A verdict holds within its scope, and says which it is.

``weights``: their tensors beside each other. ``layers``: each layer run as well. ``model``: the whole run, on both sides.
"""

from __future__ import annotations

from collections.abc import Iterable

from xframe.errors import SpecError

__all__ = ["SCOPES", "check_scope", "narrowest", "wider"]

# From the narrowest to the widest.
SCOPES = ("weights", "layers", "model")


def check_scope(scope: str | None) -> None:
    """SpecError unless this is a scope, or None."""
    if scope not in (None, *SCOPES):
        raise SpecError(f"scope must be {', '.join(SCOPES[:-1])} or {SCOPES[-1]}, not {scope!r}.")


def narrowest(scopes: Iterable[str]) -> str:
    """The one that asks least."""
    return min(scopes, key=SCOPES.index)


def wider(scope: str, than: str) -> bool:
    """Whether a scope asks for more than another one."""
    return SCOPES.index(scope) > SCOPES.index(than)
