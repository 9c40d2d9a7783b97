"""Writing a graph as a model of another framework, with a short source file that builds and runs it without xframe.

A target is one file beside this one. Nothing here imports a framework before it is needed; PyTorch and NumPy models are written
with neither installed.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from xframe.errors import FileError, UnsupportedError
from xframe.graph.graph import Graph
from xframe.writers.base import Runner, Target, Written

__all__ = ["TARGETS", "Target", "Written", "get_target", "opened", "run", "write", "write_entries"]

TARGETS = ("torch", "keras", "onnx", "npz")


def get_target(name: str) -> Target:
    """The target of that name.

    Raises:
        UnsupportedError: there is none.
    """
    if name not in TARGETS:
        raise UnsupportedError(f"xframe does not write {name!r}; the targets are {', '.join(TARGETS)}.")
    target: Target = importlib.import_module(f"xframe.writers.{name}").TARGET
    return target


def write(graph: Graph, folder: Path, to: str) -> Written:
    """Write a graph into a folder that is there.

    Args:
        graph: the model.
        folder: where the files go: the weights, and model.py, which needs no xframe.
        to: one of `TARGETS`.

    Raises:
        UnsupportedError: the target cannot express a node; the sentence says which, and why.
        SpecError, LayoutError: the nodes, or the numbers of one of them, make no sense.
        FileError: a file cannot be written.
        MissingFrameworkError: a library that writing needs is not installed.
    """
    return write_entries({"": graph}, folder, to)[""]


def write_entries(graphs: Mapping[str, Graph], folder: Path, to: str) -> dict[str, Written]:
    """Write several graphs into one folder, in which layers of one name are one layer; gives what was written of each.

    Args:
        graphs: by the name of the entry, which is an identifier.
        folder, to: see `write`, which says what is raised too.
    """
    target = get_target(to)
    try:
        return target.write(graphs, Path(folder))
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(
            f"Cannot write to {folder}: {error.strerror or error}; make room, or choose another folder."
        ) from None


def run(folder: Path, arrays: Sequence[np.ndarray], to: str) -> list[np.ndarray]:
    """What the model in a folder puts out for its inputs, loaded for this once: see `opened`."""
    return opened(folder, to)(arrays)


def opened(folder: Path, to: str, entry: str = "") -> Runner:
    """The model in a folder, by the model.py that `write` has just put there: from its inputs (batch, ...) to its outputs, both
    in the order of the graph.

    Args:
        folder: the folder; its model.py is run, so it must come from `write`, not from a stranger.
        to: which target the folder was written for.
        entry: which of several models in the folder; empty where there is one.

    Raises:
        FileError: there is no such model.
        MissingFrameworkError: a library that the model needs is not installed.
    """
    return get_target(to).opened(Path(folder), entry)
