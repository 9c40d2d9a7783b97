"""The cells: one file each. Adding a cell means adding its file here and a layout row per adapter."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from xframe.cells.base import TERMS, Arithmetic, Cell, Product, Role, Step
from xframe.errors import SpecError

__all__ = ["TERMS", "Arithmetic", "Cell", "Product", "Role", "Step", "get_cell", "known_cells"]


@cache
def known_cells() -> dict[str, Cell]:
    """All cells by name, the recurrent ones first; each file beside this one that defines CELL is one."""
    found = [
        module.CELL
        for info in pkgutil.iter_modules(__path__)
        if hasattr(module := importlib.import_module(f"{__name__}.{info.name}"), "CELL")
    ]
    return {c.name: c for c in sorted(found, key=lambda c: (not c.recurrent, len(c.gates), c.name))}


def get_cell(name: str) -> Cell:
    """The cell of that name; SpecError names the ones there are."""
    try:
        return known_cells()[name]
    except (KeyError, TypeError):
        names = ", ".join(c.name for c in known_cells().values() if c.recurrent)
        raise SpecError(f"Unknown cell {name!r}; the cells are {names}.") from None
