"""What a side of a comparison runs, as it is: a live model by its own framework, an ONNX file by ONNX Runtime.

Nothing here understands what a program is made of. It is given inputs and puts out what it puts out, so that it can be held
against another side that is understood (`xframe.whole`).
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xframe.errors import UnsupportedError, XframeError
from xframe.processes import command

if TYPE_CHECKING:
    from xframe.adapters.base import Adapter

__all__ = ["Program", "Ran", "leaves", "program_of", "program_of_onnx"]

# What a file of a stranger may ask for while it runs: seconds, and bytes of memory.
_SECONDS, _MEMORY = 120, 8 * 2**30
_LONGEST = 300  # characters of an error that somebody else's code raised


@dataclass(frozen=True)
class Ran:
    """What a program put out for one input: arrays by name, or why there are none."""

    outputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    failure: str = ""


@dataclass(frozen=True)
class Program:
    """Something that can be run and need not be understood.

    Attributes:
        title: what reports call it.
        dtypes: the float types that it may compute in, as far as its numbers tell, each by what is of it: a tensor, a layer.
        run: what it puts out for each of several inputs, (batch, ...) of float32 or of whole numbers; nothing of it is
            changed by that, and each is its first call. With another seed, if one is given, it draws other random numbers.
        in_turn: the same where it is called on one after the other and nothing is reset; None if it keeps nothing.
        shape: of its input, None for an axis of any length; None if nothing says it.
    """

    title: str
    dtypes: Mapping[str, str]
    run: Callable[..., list[Ran]] = field(repr=False)
    in_turn: Callable[[Sequence[np.ndarray]], list[Ran]] | None = field(default=None, repr=False)
    shape: tuple[int | None, ...] | None = None


def program_of(adapter: Adapter, model: Any) -> Program:
    """A live model, run by its own framework.

    Raises:
        UnsupportedError: xframe does not run models of that framework, or this one has no way to be run.
    """
    adapter.check_runs(model)
    title = f"{adapter.title} {type(model).__name__}"
    in_turn = partial(_called, adapter, model)

    def run(inputs: Sequence[np.ndarray], seed: int = 0) -> list[Ran]:
        return [one for x in inputs for one in in_turn([x], seed)]

    return Program(title, adapter.model_dtypes(model), run, in_turn)


def _called(adapter: Adapter, model: Any, inputs: Sequence[np.ndarray], seed: int = 0) -> list[Ran]:
    """What each call puts out, up to the first that fails."""
    found: list[Ran] = []
    try:
        with _drawing(seed):
            for outputs in adapter.calls(model, inputs, seed):
                found.append(Ran(outputs))
    except XframeError as error:
        found.append(Ran(failure=str(error)))
    except Exception as error:  # what its author's code raises, whatever that is
        found.append(Ran(failure=_line(f"{type(error).__name__}: {error}")))
    return found


@contextmanager
def _drawing(seed: int) -> Iterator[None]:
    """Python's and NumPy's own random numbers begin with a seed, and go on afterwards as if none had been drawn."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - what a forward may draw from
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def leaves(value: Any, name: str = "output") -> Iterator[tuple[str, Any]]:
    """What a model puts out, taken apart: tuples, lists and mappings in each other, with the way to each part."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from leaves(one, f"{name}[{key!r}]")
    elif isinstance(value, list | tuple):
        for i, one in enumerate(value):
            yield from leaves(one, f"{name}[{i}]")
    elif value is not None:
        yield name, value


def _line(text: str) -> str:
    """The first line of what somebody else's code says, so that it fits into a sentence."""
    first = text.strip().splitlines()[0] if text.strip() else "no reason given"
    return first[:_LONGEST].rstrip(".")


# ---- ONNX files.


def program_of_onnx(path: Path) -> Program:
    """The graph of an ONNX file, run by ONNX Runtime in a process of its own, within bounds of time and memory.

    Raises:
        UnsupportedError: ONNX Runtime is not installed, does not take the file, or the graph has not one input.
    """
    about = json.loads(_child(path, "describe", b""))
    if "error" in about:
        raise UnsupportedError(f"ONNX Runtime does not take {path}: {_line(about['error'])}.")
    if len(about["inputs"]) != 1:
        names = ", ".join(one["name"] for one in about["inputs"]) or "none"
        raise UnsupportedError(
            f"{path} has {len(about['inputs'])} inputs ({names}), and xframe knows what to give to one only."
        )
    given = about["inputs"][0]
    kind = given["type"]
    dtype = {"tensor(float16)": "float16", "tensor(bfloat16)": "bfloat16"}.get(kind, "float32")
    shape = tuple(axis if isinstance(axis, int) and axis > 0 else None for axis in given["shape"]) or None
    return Program(f"ONNX {path}", {given["name"]: dtype}, partial(_run_onnx, path), shape=shape)


def _run_onnx(path: Path, inputs: Sequence[np.ndarray], seed: int = 0) -> list[Ran]:
    # A graph has no random numbers but those that its nodes draw one after the other, which calls before these move on.
    before = list(inputs[:1]) * seed
    return _ran_onnx(path, [*before, *inputs])[len(before) :]


def _ran_onnx(path: Path, inputs: Sequence[np.ndarray]) -> list[Ran]:
    stream = BytesIO()
    given: dict[str, Any] = {str(i): x for i, x in enumerate(inputs)}
    np.savez(stream, **given)
    with np.load(BytesIO(_child(path, "run", stream.getvalue())), allow_pickle=False) as found:
        arrays = {name: found[name] for name in found.files}
    said = json.loads(bytes(arrays.pop("about")).decode())
    if "error" in said:
        return [Ran(failure=_line(said["error"])) for _ in inputs]
    ran = []
    for i, failure in enumerate(said["failures"]):
        outputs = {name: arrays[f"{i}/{k}"] for k, name in enumerate(said["outputs"]) if f"{i}/{k}" in arrays}
        ran.append(Ran(outputs, _line(failure) if failure else ""))
    return ran


def _child(path: Path, what: str, given: bytes) -> bytes:
    """What `xframe/_onnx_child.py` answers, in an interpreter that finds no module of the current folder."""
    words = command("_onnx_child.py", what, str(path), str(_MEMORY))
    try:
        done = subprocess.run(words, input=given, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise UnsupportedError(f"ONNX Runtime did not get through {path} in {_SECONDS} seconds.") from None
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().splitlines()
        ended = f"by signal {-done.returncode}" if done.returncode < 0 else f"with status {done.returncode}"
        raise UnsupportedError(f"ONNX Runtime ended {ended} on {path}: {_line(why[-1] if why else '')}.")
    return done.stdout
