"""What the writers share: what was written, the steps as a writer sees them, and their numbers in a framework's packing."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from xframe.activations import ACTIVATIONS
from xframe.chain import kinds
from xframe.chain.base import Chain, Step
from xframe.errors import FileError, UnsupportedError
from xframe.escaping import in_source
from xframe.layout import Key, Native, Packing
from xframe.noise import ROUNDOFF
from xframe.packing import copy, pack
from xframe.spec import Recurrent

__all__ = [
    "Part",
    "Plan",
    "Target",
    "Written",
    "arrays",
    "bias_notes",
    "call",
    "computed_in",
    "held_in",
    "identifier",
    "left_out",
    "module_of",
    "nested",
    "number",
    "packed",
    "plan",
    "recurrent",
    "save",
    "trained",
]

_LONGEST = 40
# What an activation may be given besides its name.
PARAMETERS = ("alpha", "max_value", "negative_slope", "threshold")


@dataclass(frozen=True)
class Written:
    """What a writer has written.

    Attributes:
        files: in the folder.
        notes: what was folded, split, left out or rounded, a sentence each.
        fates: by the name of each source tensor, the tensors that hold its numbers now.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    fates: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """One framework to convert to: how a chain is written into a folder, and how what lies there is run.

    Attributes:
        name, title: ``torch``, ``PyTorch``.
        write: (chain, folder) -> what was written. UnsupportedError if the framework cannot express it.
        opened: (folder) -> what gives the output for an input, by the model.py that lies in the folder.
    """

    name: str
    title: str
    write: Callable[[Chain, Path], Written]
    opened: Callable[[Path], Callable[[np.ndarray], np.ndarray]]


@dataclass(frozen=True)
class Part:
    """A step as a writer sees it.

    Attributes:
        step: the step.
        name: what the source code calls it: an identifier, unique in the chain.
        shapes: the shapes of its own arrays by name; empty for recurrent and dense steps, whose spec says them.
        masked: whether a mask reaches it.
        reads: the shape of one sample that it reads.
    """

    step: Step
    name: str
    shapes: Mapping[str, tuple[int, ...]]
    masked: bool
    reads: tuple[int | None, ...]

    @property
    def makes_mask(self) -> bool:
        return self.step.kind == "masking" or (self.step.kind == "embedding" and bool(self.step.options["mask_zero"]))

    @property
    def uses_mask(self) -> bool:
        average = self.step.kind == "pool" and self.step.options["mode"] == "average"
        return self.masked and (average or self.step.kind == "recurrent")


@dataclass(frozen=True)
class Plan:
    """A chain as a writer sees it.

    Attributes:
        parts: its steps.
        shapes: of one sample, before the first step and after each.
        dtype: the one float type that holds all its numbers.
    """

    parts: tuple[Part, ...]
    shapes: tuple[tuple[int | None, ...], ...]
    dtype: str

    @property
    def whole_numbers(self) -> bool:
        """Whether the chain reads whole numbers."""
        return self.parts[0].step.kind == "embedding"

    def mask_used(self, part: Part) -> bool:
        """Whether the mask that a step makes is used by a later one."""
        later = self.parts[self.parts.index(part) + 1 :]
        return any(p.uses_mask for p in later)


def plan(chain: Chain, reserved: Collection[str] = ()) -> Plan:
    """Look at every step once: names, shapes, float types, and where masks go. No numbers are kept.

    Args:
        chain: the chain.
        reserved: identifiers that mean something else where the steps' names go.

    Raises:
        UnsupportedError: a step is none of a chain, or computes in a narrower float type than that of all numbers.
        SpecError: two steps do not fit each other.
    """
    if not chain.steps:
        raise UnsupportedError(f"The model {in_source(chain.name)} has no steps; give one that computes something.")
    taken, parts, shapes = set(reserved), list[Part](), kinds.shapes(chain)
    for step, masked, shape in zip(chain.steps, kinds.masked(chain), shapes, strict=False):
        _check(step)
        params = step.params()
        own = {} if step.spec is not None else {str(n): tuple(np.shape(a)) for n, a in params.items()}
        parts.append(Part(step, identifier(step.name or step.kind, taken), own, masked, shape))
        taken.add(parts[-1].name)
    dtype = held_in(chain)
    for step in chain.steps:
        if step.dtype in ("float16", "bfloat16") and step.dtype != dtype:
            raise UnsupportedError(
                f"The step {in_source(step.name)} computes in {step.dtype}, and what is written would compute in {dtype}; make "
                f"it a model of {dtype} first (in Keras: build it with dtype='{dtype}' and give it these weights with "
                f"set_weights; in PyTorch: model.to(torch.{dtype})) and convert that."
            )
    return Plan(tuple(parts), tuple(shapes), dtype)


def held_in(chain: Chain) -> str:
    """The one float type that holds all numbers of a chain."""
    # The numbers of one layer have one type; to read the first is to read one tensor of it.
    firsts = ((params, next(iter(params), None)) for params in (step.params() for step in chain.steps))
    types = [params[name].dtype for params, name in firsts if name is not None]
    return str(np.result_type(np.float16, *types)) if types else "float32"


def computed_in(chain: Chain) -> str:
    """The narrowest float type in which the source of a chain computes it."""
    return max((held_in(chain), *(step.dtype for step in chain.steps if step.dtype)), key=ROUNDOFF.__getitem__)


def _check(step: Step) -> None:
    """Refuse what would otherwise go into source code as it is, and what is no step."""
    if isinstance(step.spec, Recurrent) and step.spec.form == "cell":
        raise UnsupportedError(
            f"The step {in_source(step.name)} is a bare cell, which is no step of a chain; use its layer."
        )
    if step.kind == "activation" and step.options["name"] not in ACTIVATIONS:
        raise UnsupportedError(f"The step {in_source(step.name)} has an activation function that is not known.")


def number(part: Part, option: str) -> str:
    """An option that is a number, as source code."""
    value = part.step.options[option]
    if not isinstance(value, int | float) or not isfinite(value):
        raise UnsupportedError(
            f"The step {in_source(part.step.name)} has a {option} that is no finite number; correct it."
        )
    return repr(value)


def call(part: Part, function: str, *given: str) -> str:
    """A call of an activation function with the parameters that the step gives it."""
    options = part.step.options
    named = [f"{n}={'None' if options[n] is None else number(part, n)}" for n in sorted(options) if n in PARAMETERS]
    return f"{function}({', '.join([*given, *named])})"


def recurrent(part: Part) -> Recurrent:
    """The spec of a recurrent step."""
    assert isinstance(part.step.spec, Recurrent)
    return part.step.spec


def identifier(name: str, taken: Collection[str]) -> str:
    """A valid identifier that is made from a name and is not taken."""
    found = re.sub(r"[^0-9A-Za-z]+", "_", name)[:_LONGEST].strip("_").lower() or "layer"
    found = f"layer_{found}" if found[0].isdigit() else found
    tried, number = found, 1
    while tried in taken or keyword.iskeyword(tried) or keyword.issoftkeyword(tried):
        number += 1
        tried = f"{found}_{number}"
    return tried


def packed(
    packing: Packing, spec: Any, blocks: Mapping[Key, np.ndarray], dtype: str
) -> Iterator[tuple[str, np.ndarray]]:
    """The native arrays of a layer, one at a time, each row by row."""
    return map(_in_rows, pack(packing, spec, blocks, dtype, share=True))


def _in_rows(named: tuple[str, np.ndarray]) -> tuple[str, np.ndarray]:
    """A named array, copied if it lies otherwise in memory: frameworks and files would copy it more slowly."""
    name, array = named
    if array.flags.c_contiguous:
        return named
    made = np.empty(array.shape, array.dtype)
    copy(array, made)
    return name, made


def arrays(part: Part, dtype: str) -> dict[str, np.ndarray]:
    """The arrays of a step that is neither recurrent nor dense, by the kind's names."""
    return {str(name): np.asarray(array).astype(dtype, copy=False) for name, array in part.step.params().items()}


def trained(spec: Recurrent, **changes: Any) -> tuple[Recurrent, str]:
    """The layer without the dropout that acts inside it in training, and the note that this was left out."""
    quiet: Any = {"input_dropout": 0.0, "recurrent_dropout": 0.0}
    parts = [spec, *spec.stacked, *([] if spec.backward is None else spec.column(1))]
    dropped = any(getattr(one, name) for one in parts for name in quiet)
    stacked = tuple(replace(one, **quiet) for one in spec.stacked)
    backward = spec.backward and replace(
        spec.backward, **quiet, stacked=tuple(replace(one, **quiet) for one in spec.backward.stacked)
    )
    changed = replace(spec, **quiet, stacked=stacked, backward=backward, **changes)
    return changed, "its dropout of inputs and states, which acts in training only, was left out" if dropped else ""


def left_out(part: Part) -> list[str]:
    """What a target leaves out of a recurrent step that knows no training and no layer with two outputs."""
    spec, note = trained(recurrent(part))
    notes = [note] if note else []
    if spec.dropout:
        notes.append("its dropout between layers, which acts in training only, was left out")
    if spec.merge_mode is None:
        notes.append("its two directions are handed on beside each other, as with concat")
    return notes


def nested(spec: Recurrent, cell: Callable[[Recurrent, int, int], str]) -> list[str]:
    """The cells of a layer as the lines of a list of layers, of directions, of cells.

    Args:
        spec: the layer.
        cell: (what describes the cell, layer, direction) -> its source code.
    """
    lines = []
    for layer in range(spec.num_layers):
        lines.append("    [")
        for d in range(spec.num_directions):
            cells = [cell(one, layer + level, d) for level, one in enumerate(spec.column(d))]
            several = ["        [", *(f"            {one}," for one in cells), "        ],"]
            lines += several if len(cells) > 1 else [f"        [{cells[0]}],"]
        lines.append("    ],")
    return ["[", *lines, "]"]


def bias_notes(blocks: Mapping[Key, np.ndarray], natives: Sequence[Native] | None = None) -> Iterator[str]:
    """What becomes of the two biases of a layer, where it is not plain.

    Args:
        blocks: the layer's canonical parameters.
        natives: the tensors in which they will be; None for tensors that keep all of them apart.
    """
    second = [key for key in blocks if key.role == "recurrent_bias"]
    used = {key for key in second if np.any(blocks[key])}
    stored = set(second) if natives is None else {leaf.key for native in natives for leaf in native.leaves}
    if used - stored:
        yield "its two biases were added into one"
    if not used and stored.intersection(second):
        yield "it has one bias, which is the input bias here; the recurrent bias is zero"


def save(path: Path, text: str) -> Path:
    """Write a source file."""
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def module_of(folder: Path) -> dict[str, Any]:
    """Run the model.py of a folder that a writer has just written, and give what it defines.

    It is run from its text: an import would leave compiled files in the folder.

    Raises:
        FileError: there is none.
    """
    path = Path(folder) / "model.py"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileError(f"Cannot run {path}: {error.strerror}; write the model first.") from None
    found: dict[str, Any] = {"__name__": "model", "__file__": str(path)}
    exec(compile(text, str(path), "exec"), found)
    return found
