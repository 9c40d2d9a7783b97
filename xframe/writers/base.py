"""What the writers share: what was written, the nodes as a writer sees them, and their numbers in a framework's packing."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from xframe.activations import ACTIVATIONS
from xframe.errors import FileError, UnsupportedError
from xframe.escaping import in_source
from xframe.graph.distributed import masks_of, uses_mask
from xframe.graph.graph import Graph, Input
from xframe.graph.kinds import KINDS
from xframe.graph.node import Node, Shape
from xframe.layout import Key, Native, Packing
from xframe.noise import ROUNDOFF
from xframe.packing import copy, pack
from xframe.spec import Recurrent
from xframe.writers._source import names_in

__all__ = [
    "Part",
    "Plan",
    "Runner",
    "Target",
    "Values",
    "Written",
    "arrays",
    "bias_notes",
    "call",
    "computed_in",
    "distinct",
    "held_in",
    "identifier",
    "left_out",
    "module_of",
    "nested",
    "number",
    "packed",
    "plan",
    "plans",
    "recurrent",
    "save",
    "trained",
]

_LONGEST = 40
# From arrays (batch, ...), one for each input, to one for each output, both in the order of the graph.
Runner = Callable[[Sequence[np.ndarray]], "list[np.ndarray]"]
# In ONNX: the names of a value and of the mask that comes with it, which is empty if there is none.
Values = tuple[str, str]
# What an activation may be given besides its name.
PARAMETERS = ("alpha", "max_value", "negative_slope", "threshold")


@dataclass(frozen=True)
class Written:
    """What a writer has written.

    Attributes:
        files: in the folder; the first holds the weights.
        notes: what was folded, split, left out or rounded, a sentence each.
        fates: by the name of each source tensor, the tensors that hold its numbers now.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    fates: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """One framework to convert to: how a graph is written into a folder, and how what lies there is run.

    Attributes:
        name, title: ``torch``, ``PyTorch``.
        write: (graphs by entry, folder) -> what was written, by entry. A model alone is the entry of the empty name; layers of
            one name are one layer, of which the weights are written once. UnsupportedError if the framework cannot express it.
        opened: (folder, entry) -> what gives the outputs for the inputs, both in the order of the graph, by the model.py that
            lies in the folder.
    """

    name: str
    title: str
    write: Callable[[Mapping[str, Graph], Path], dict[str, Written]]
    opened: Callable[[Path, str], Runner]


@dataclass(frozen=True)
class Part:
    """A node as a writer sees it.

    Attributes:
        node: the node.
        name: what the source code calls the layer: an identifier, the same for each call of one layer.
        again: whether the layer was called before; calls: the nodes of all its calls. Both count those of all graphs that are
            written together.
        shapes: the shapes of its own arrays by name; empty for recurrent and dense nodes, whose spec says them.
        reads: the shape of one sample of each value that it reads.
        given: the variables that it reads; made: those that it writes.
        masks: for each value that it reads the variable of the mask that comes with it, or nothing.
        mask_made: the variable of the mask that it makes, if a later node uses that; else nothing.
    """

    node: Node
    name: str
    again: bool
    calls: tuple[Node, ...]
    shapes: Mapping[str, tuple[int, ...]]
    reads: tuple[Shape, ...]
    given: tuple[str, ...]
    made: tuple[str, ...]
    masks: tuple[str, ...]
    mask_made: str

    @property
    def x(self) -> str:
        """The variable of the first value that it reads."""
        return self.given[0]

    @property
    def y(self) -> str:
        """The variable of the first value that it writes."""
        return self.made[0]

    @property
    def mask(self) -> str:
        """The variable of the mask that it uses, or nothing."""
        return self.masks[0] if uses_mask(self.node) else ""

    @property
    def masked(self) -> bool:
        """Whether it computes something else because a mask comes with the first value that it reads."""
        return bool(self.mask)

    @property
    def ever_masked(self) -> bool:
        """Whether a mask reaches any call of its recurrent layer."""
        return any(isinstance(one.spec, Recurrent) and one.spec.mask is not None for one in self.calls)

    @property
    def ever_given_states(self) -> bool:
        """Whether any call of its layer is given initial states."""
        return any(len(one.reads) > 1 for one in self.calls)

    @property
    def ever_hands_states(self) -> bool:
        """Whether any call of its layer hands on its final states."""
        return any(len(one.writes) > 1 for one in self.calls)

    @property
    def makes_mask(self) -> bool:
        """Whether a mask is handed on with what it writes that did not come with what it reads."""
        return self.node.kind == "masking" or (self.node.kind == "embedding" and bool(self.node.options["mask_zero"]))


@dataclass(frozen=True)
class Plan:
    """A graph as a writer sees it.

    Attributes:
        graph: the graph.
        parts: its nodes.
        variables: by the name of each value, what the source code calls it: all of a chain ``x``.
        dtype: the one float type that holds all its numbers.
    """

    graph: Graph
    parts: tuple[Part, ...]
    variables: Mapping[str, str]
    dtype: str

    def type_of(self, given: Input, words: str) -> str:
        """The type of an input, with ``words`` for whole numbers."""
        return words if given.name in self.graph.words else self.dtype

    @property
    def arguments(self) -> list[str]:
        """The variables of the inputs."""
        return [self.variables[one.name] for one in self.graph.inputs]

    @property
    def results(self) -> list[str]:
        """The variables of the outputs."""
        return [self.variables[one.value] for one in self.graph.outputs]


def plan(graph: Graph, reserved: Collection[str] = (), template: str = "", avoided: str = "") -> Plan:
    """A graph alone, as `plans` has it."""
    return plans({"": graph}, reserved, template, avoided)[""]


def plans(
    graphs: Mapping[str, Graph], reserved: Collection[str] = (), template: str = "", avoided: str = ""
) -> dict[str, Plan]:
    """Look at every node once: names, shapes, float types, and where masks go. No numbers are kept.

    Args:
        graphs: by entry, graphs that are written together; layers of one name are one layer.
        reserved: identifiers that mean something else where the names of layers go.
        template: the module of `xframe.writers.templates` whose names mean something else where the variables go.
        avoided: a pattern of others that no layer may have.

    Raises:
        UnsupportedError: a node is none of a graph, is of no use, or computes in a narrower float type than that of all numbers.
    """
    names, calls, seen = dict[str, str](), dict[str, list[Node]](), set[str]()
    for graph in graphs.values():
        if not graph.nodes:
            raise UnsupportedError(
                f"The model {in_source(graph.name)} has no layers; give one that computes something."
            )
        for node in graph.nodes:
            calls.setdefault(node.name, []).append(node)
            if node.name not in names:
                # A layer of the name of an entry that is a method beside it.
                wanted = f"{node.name} layer" if node.name in graphs and node.name in reserved else node.name
                others = {*reserved, *names.values()}
                names[node.name] = identifier(wanted or node.kind, others)
                if avoided and re.fullmatch(avoided, names[node.name]):
                    names[node.name] = identifier(f"{names[node.name]}_layer", others)
    dtype, taken = held_in(*graphs.values()), {*_TAKEN, *names_in(template)}
    return {entry: _planned(graph, taken, names, dtype, calls, seen) for entry, graph in graphs.items()}


def _planned(
    graph: Graph,
    taken: Collection[str],
    names: Mapping[str, str],
    dtype: str,
    calls: Mapping[str, Sequence[Node]],
    seen: set[str],
) -> Plan:
    """One of the graphs; the names of its layers are added to ``seen``."""
    parts = list[Part]()
    variables = _variables(graph, taken)
    masks = _Masks(graph, variables)
    for node in graph.nodes:
        _check(node)
        own = {} if node.spec is not None else {str(n): tuple(np.shape(a)) for n, a in node.params().items()}
        parts.append(
            Part(
                node,
                names[node.name],
                node.name in seen,
                tuple(calls[node.name]),
                own,
                tuple(graph.shapes[value] for value in node.reads),
                tuple(variables[value] for value in node.reads),
                tuple(variables[value] for value in node.writes),
                tuple(masks.coming(value, node, i) for i, value in enumerate(node.reads)),
                masks.made(node),
            )
        )
        seen.add(node.name)
    kept = {one.value for one in graph.outputs}
    for node in graph.nodes:
        if not any(value in kept or graph.readers(value) for value in node.writes):
            raise UnsupportedError(
                f"Nothing reads what the layer {in_source(node.name)} puts out; give a model without that layer."
            )
        if node.dtype in ("float16", "bfloat16") and node.dtype != dtype:
            raise UnsupportedError(
                f"The layer {in_source(node.name)} computes in {node.dtype}, and what is written would compute in {dtype}; make "
                f"it a model of {dtype} first (in Keras: build it with dtype='{dtype}' and give it these weights with "
                f"set_weights; in PyTorch: model.to(torch.{dtype})) and convert that."
            )
    return Plan(graph, tuple(parts), variables, dtype)


# What generated code calls something else.
_TAKEN = frozenset(
    "x self torch nn functional np keras ops folder model layers load build forward Path Tensor mask Model Outputs "
    "float int bool len tuple list dict models session sessions weights steps".split()
)


def _variables(graph: Graph, reserved: Collection[str]) -> dict[str, str]:
    """What each value is called in source code: after its layer, or in a chain x."""
    values = [*(one.name for one in graph.inputs), *(value for node in graph.nodes for value in node.writes)]
    if graph.chain:
        return dict.fromkeys(values, "x")
    found = dict[str, str]()
    # Last first, because a value within a layer goes by the name of what the layer puts out.
    inner = {node.reads[0]: node.writes[0] for node in graph.nodes if _within(graph, node)}
    for value in (one for one in values if one not in inner):
        taken = {*set(reserved).difference({"x"} if value == "x" else ()), *found.values()}
        found[value] = identifier(value, taken)
    for value in reversed([one for one in values if one in inner]):
        found[value] = found[inner[value]]
    return found


def _within(graph: Graph, node: Node) -> bool:
    """Whether a node alone reads what another node of the same layer has put out."""
    before = next((one for one in graph.nodes if one.writes == node.reads), None)
    same = before is not None and len(node.writes) == 1 and node.name.startswith(f"{before.name}/")
    kept = {one.value for one in graph.outputs}
    return same and len(graph.readers(node.reads[0])) == 1 and node.reads[0] not in kept


class _Masks:
    """Which mask is handed on with which value, as a variable; and which of them are used."""

    def __init__(self, graph: Graph, variables: Mapping[str, str]) -> None:
        self._comes: dict[str, str] = {}
        self._new: dict[str, str] = {}
        for node in graph.nodes:
            reaching = graph.reaching(node)
            handed = masks_of(node, reaching)
            for i, (value, masked) in enumerate(zip(node.writes, handed, strict=True)):
                if not masked:
                    continue
                if KINDS[node.kind].makes_mask:
                    taken = {*variables.values(), *self._comes.values()}
                    self._comes[value] = "mask" if graph.chain else identifier(f"{variables[value]}_mask", taken)
                    self._new[node.writes[0]] = self._comes[value]
                elif i == 0:
                    self._comes[value] = self.coming(node.reads[0], node, 0)
        self._used = set[str]()
        for node in reversed(graph.nodes):
            reads = [self.coming(value, node, i) for i, value in enumerate(node.reads)]
            makes = KINDS[node.kind].makes_mask and self._new.get(node.writes[0], "") in self._used
            if uses_mask(node) or makes:
                self._used.update(filter(None, reads))

    def coming(self, value: str, node: Node, i: int) -> str:
        """The variable of the mask that comes with what a node reads."""
        return node.mask_of(i) or self._comes.get(value, "")

    def made(self, node: Node) -> str:
        """The variable of the mask that a node makes, if it is used."""
        new = self._new.get(node.writes[0], "")
        return new if new in self._used else ""


def held_in(*graphs: Graph) -> str:
    """The one float type that holds all numbers of some graphs."""
    # The numbers of one layer have one type; to read the first is to read one tensor of it.
    firsts = ((params, next(iter(params), None)) for params in (node.params() for one in graphs for node in one.nodes))
    types = [params[name].dtype for params, name in firsts if name is not None]
    return str(np.result_type(np.float16, *types)) if types else "float32"


def computed_in(graph: Graph) -> str:
    """The narrowest float type in which the source of a graph computes it."""
    return max((held_in(graph), *(node.dtype for node in graph.nodes if node.dtype)), key=ROUNDOFF.__getitem__)


def _check(node: Node) -> None:
    """Refuse what would otherwise go into source code as it is, and what is no node."""
    if isinstance(node.spec, Recurrent) and node.spec.form == "cell":
        raise UnsupportedError(
            f"The layer {in_source(node.name)} is a bare cell, which is no layer of a model; use the layer that runs it."
        )
    if node.kind == "activation" and node.options["name"] not in ACTIVATIONS:
        raise UnsupportedError(f"The layer {in_source(node.name)} has an activation function that is not known.")


def number(part: Part, option: str) -> str:
    """An option that is a number, as source code."""
    value = part.node.options[option]
    if not isinstance(value, int | float) or not isfinite(value):
        raise UnsupportedError(
            f"The layer {in_source(part.node.name)} has a {option} that is no finite number; correct it."
        )
    return repr(value)


def call(part: Part, function: str, *given: str) -> str:
    """A call of an activation function with the parameters that the node gives it."""
    options = part.node.options
    named = [f"{n}={'None' if options[n] is None else number(part, n)}" for n in sorted(options) if n in PARAMETERS]
    return f"{function}({', '.join([*given, *named])})"


def recurrent(part: Part) -> Recurrent:
    """The spec of a recurrent layer, as a call has it that a mask reaches, if one does."""
    specs = [one.spec for one in part.calls if isinstance(one.spec, Recurrent)]
    return next((spec for spec in specs if spec.mask is not None), specs[0])


def identifier(name: str, taken: Collection[str]) -> str:
    """A valid identifier that is made from a name and is not taken."""
    found = re.sub(r"[^0-9A-Za-z]+", "_", name)[:_LONGEST].strip("_").lower() or "layer"
    found = f"layer_{found}" if found[0].isdigit() else found
    tried, number = found, 1
    while tried in taken or keyword.iskeyword(tried) or keyword.issoftkeyword(tried):
        number += 1
        tried = f"{found}_{number}"
    return tried


def distinct(names: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """Identifiers for these names, no two of them the same, and none that is taken."""
    found, others = list[str](), set(taken)
    for name in names:
        found.append(identifier(name, others.union(found)))
    return found


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
    """The arrays of a node that is neither recurrent nor dense, by the kind's names."""
    return {str(name): np.asarray(array).astype(dtype, copy=False) for name, array in part.node.params().items()}


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
    """What a target leaves out of a recurrent node that knows no training and no layer with two outputs."""
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
