"""Converting a model: read it, write it for another framework, and prove that what was written is the same (`xframe.proof`)."""

from __future__ import annotations

import builtins
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xframe.convertible import listed, whole_graph
from xframe.errors import FileError, SpecError, UnsupportedError, XframeError
from xframe.files import load
from xframe.graph import Graph, Node, chained, graph_of_model
from xframe.graph.graph import promised
from xframe.graph.probing import held, numbers, redrawn
from xframe.judging import LIMIT
from xframe.placing import check_folder, making, place_folder
from xframe.proof import Proof, Trial, check_understood, resting, tried
from xframe.recognition import Choices, Findings, FoundLayer, recognise
from xframe.spec import Recurrent, plural
from xframe.writers import TARGETS, Written, get_target, write, write_entries
from xframe.writers._source import names_in
from xframe.writers.base import held_in, identifier, module_of
from xframe.writers.torch import RESERVED

__all__ = ["Conversion", "Piece", "convert", "convert_file", "one_layer"]

# In what libraries say where the disk refuses to write.
_OF_DISKS = ("no space left", "file too large", "quota exceeded", "input/output error", "failed writing")
# What `_convert_entries` needs of the names of models beside each other: they become functions, methods and files.
_NOT_ENTRIES = frozenset([*dir(builtins), *RESERVED, "build", "load", "whole"]).union(
    *map(names_in, ("keras_parts", "numpy_parts", "torch_parts"))
)


@dataclass(frozen=True)
class Piece:
    """One model that was converted: the whole model, one of several that share layers, or one layer.

    Attributes:
        name: what the source calls it, or which of several models it is.
        folder: where it lies below the destination, empty for the destination itself.
        steps: what it does, in order, a line each.
        before, after: how many numbers the source and the written files hold for it.
        dtype: the type of the written numbers, in whose rounding noise the runs are judged.
        notes: what was folded, split, left out or rounded.
        fates: by source tensor, what became of it.
        trials: the runs.
        power: how many times over the limit the mistake that shows least would have been, and its name; None where no mistake
            was tried.
    """

    name: str
    folder: str
    steps: tuple[str, ...]
    before: int
    after: int
    dtype: str
    notes: tuple[str, ...]
    fates: Mapping[str, str]
    trials: tuple[Trial, ...]
    power: tuple[str, float] | None

    @property
    def weak(self) -> str:
        """What the runs have not shown, as the end of a sentence; nothing where they have shown all."""
        shown: dict[str, bool] = {}
        for trial in self.trials:
            shown[trial.layer] = trial.shows or shown.get(trial.layer, False)
        if not shown.pop("") and not (shown and all(shown.values())):
            layer = next((name for name, shows in shown.items() if not shows), self.name)
            reason = next(trial.reason for trial in self.trials if trial.layer in (layer, "") and not trial.shows)
            return f"{layer}: {reason}, which proves nothing"
        if self.power is not None and self.power[1] <= 1:
            return f"{self.name}: the mistake {self.power[0]!r} would not have shown on any input that was tried"
        return ""


@dataclass(frozen=True)
class Conversion:
    """What was converted, and the proof; true only when all that was asked for is equivalent.

    Attributes:
        source, destination: where from, where to.
        to: the framework.
        scope: ``model`` where the whole was converted and run, ``layers`` where its layers were, one by one.
        status: ``equivalent``, ``different``, ``inconclusive``, or ``partial``: what was converted is equivalent, and something
            was left out that had not been asked to be.
        reason: one sentence.
        pieces: what was converted.
        not_converted: layers and tensors that were not, and why.
        why: all that stands in the way of the whole model, where it was asked for.
        left_out: tensors that were left out because the caller said so.
        warnings: what the user should know of the source.
        limit: how many units of noise an output may be off.
        environment: versions.
    """

    source: str
    destination: str
    to: str
    scope: str
    status: str
    reason: str
    pieces: tuple[Piece, ...]
    not_converted: tuple[str, ...]
    why: tuple[str, ...]
    left_out: tuple[str, ...]
    warnings: tuple[str, ...]
    limit: float
    environment: Mapping[str, str]

    def __bool__(self) -> bool:
        return self.status == "equivalent"

    def report(self, format: str = "text") -> str:
        """The conversion as ``text``, ``markdown``, ``html`` or ``json``."""
        from xframe.report import render

        return render(self, format)


def convert(model: Any, to: str) -> Any:
    """A live model or layer in another framework, proven to be the same; or several models that share layers.

    Args:
        model: a Keras model or layer, or a layer of another framework that xframe runs; or a dictionary of models by names
            such as ``encoder``, in which layers of one name are one layer.
        to: ``torch`` or ``keras``, which gives a native module or model; ``onnx`` gives the bytes of an ONNX model, ``npz`` a
            dictionary of arrays. Of several models ``torch`` gives one module with a method for each, of which that named
            ``model``, or else the first, is forward; ``keras`` and ``onnx`` a dictionary by name; ``npz`` the arrays of all.

    Raises:
        UnsupportedError: the model holds layers that are not modelled, and the sentence names all that stands in the way;
            or the target cannot express it.
        FileError: there is no room for the temporary files.
        SpecError: ``to`` is unknown, or the proof failed; the sentence says by how much. Or a layer is not the same in two of
            several models.
    """
    _check_target(to)
    models = model if isinstance(model, Mapping) else {"": model}
    if isinstance(model, Mapping):
        _check_entries(list(model))
    graphs = {entry: held(graph_of_model(one)) for entry, one in models.items()}
    for entry, graph in graphs.items():
        check_understood(models[entry], graph)
    graphs = _shared(graphs)
    with _written(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix="xframe-") as place:
        folder = Path(place)
        for piece in _pieces(graphs, folder, "", to, {entry: numbers(graph) for entry, graph in graphs.items()}):
            wrong = next((trial.reason for trial in piece.trials if trial.status != "equivalent"), piece.weak)
            if wrong:
                which = f" {piece.name}" if isinstance(model, Mapping) else ""
                raise SpecError(f"The converted model{which} could not be proven to be the same: {wrong}.")
        return _native(folder, to, graphs)


def _native(folder: Path, to: str, entries: Collection[str]) -> Any:
    """What was written, as an object that outlives the folder."""
    if to == "onnx":
        if list(folder.glob("*.onnx.data")):
            raise UnsupportedError("The model is too large for the bytes of one ONNX model; convert a file of it.")
        found = {entry: (folder / f"{entry or 'model'}.onnx").read_bytes() for entry in entries}
        return found.get("", found)
    return module_of(folder)["load"](folder)


def convert_file(
    source: str | Path | Mapping[str, str | Path],
    destination: str | Path,
    to: str,
    *,
    choices: Choices | None = None,
    force: bool = False,
    layers_only: bool = False,
    right_padded: bool = False,
    ignore: Sequence[str] = (),
) -> Conversion:
    """Convert a model file into a folder: the weights, a source file that needs no xframe, and the proof.

    Args:
        source: the model file; or several by names such as ``encoder``, whole models that share layers, which go by their
            names: the folder then has the weights once and an entry for each, and each is proven.
        destination: the folder to make.
        to: ``torch``, ``keras``, ``onnx`` or ``npz``.
        choices: what the file does not say of its layers.
        force: replace ``destination`` if it exists.
        layers_only: convert the recurrent and dense layers one by one, and leave the rest.
        right_padded: masked time steps will be padding after the end of a sequence only, which has one valid step at least.
            What ONNX's layers can mask is that.
        ignore: names, or patterns of names such as ``head.*``, of tensors that nothing explains and that may be left out.

    Raises:
        FileError: the source cannot be read, or the destination not written.
        SpecError: a choice is missing or makes no sense, or tensors would be lost; or a layer is not the same in two files.
        UnsupportedError: there is nothing that can be converted, or the target cannot express a layer; or one of several files
            is no whole model.
    """
    _check_target(to)
    if isinstance(source, Mapping):
        if layers_only or ignore:
            raise SpecError("Several models are converted whole; leave --layers-only and --ignore out.")
        return _convert_entries(source, Path(destination), to, choices, force, right_padded)
    target = Path(destination)
    check_folder(target, force, [Path(source)])
    found = recognise(load(source), choices)
    sources = [found.file.path, *found.file.beside]
    check_folder(target, force, sources)
    left_out = _ignored(found, ignore)
    if not layers_only:
        _check_lost(found, left_out)
    task = _task(found, layers_only, left_out)
    for layer in found.layers:
        layer.check_decided()
    graphs = [(promised(graph), folder) for graph, folder in task.graphs] if right_padded else task.graphs

    def made_in(made: Path) -> Conversion:
        pieces = list[Piece]()
        for graph, folder in graphs:
            (made / folder).mkdir(exist_ok=True)
            pieces += _pieces({"": graph}, made / folder, folder, to, {"": _stored(found, graph)})
        return Conversion(
            str(found.file.path),
            str(target),
            to,
            task.scope,
            *_concluded(to, pieces, _missing(found, task, left_out)),
            tuple(pieces),
            tuple(task.left),
            tuple(task.why),
            tuple(left_out),
            tuple(dict.fromkeys([*found.warnings, *_warned(found, task.scope == "model")])),
            LIMIT,
            _environment(to),
        )

    return _delivered(made_in, target, force, sources)


def _convert_entries(
    given: Mapping[str, str | Path], target: Path, to: str, choices: Choices | None, force: bool, right_padded: bool
) -> Conversion:
    """Several files of whole models that share layers: see `convert_file`."""
    _check_entries(list(given))
    check_folder(target, force, [Path(source) for source in given.values()])
    found = {entry: recognise(load(source), choices) for entry, source in given.items()}
    sources = [path for one in found.values() for path in (one.file.path, *one.file.beside)]
    check_folder(target, force, sources)
    graphs = _shared({entry: held(_whole(entry, one)) for entry, one in found.items()})
    if right_padded:
        graphs = _promised(graphs)
    warnings = [text for one in found.values() for text in (*one.warnings, *_warned(one, True))]

    def made_in(made: Path) -> Conversion:
        pieces = _pieces(graphs, made, "", to, {entry: _stored(one, graphs[entry]) for entry, one in found.items()})
        return Conversion(
            " ".join(f"{entry}={one.file.path}" for entry, one in found.items()),
            str(target),
            to,
            "model",
            *_concluded(to, pieces, ""),
            tuple(pieces),
            (),
            (),
            (),
            tuple(dict.fromkeys(warnings)),
            LIMIT,
            _environment(to),
        )

    return _delivered(made_in, target, force, sources)


def _delivered(make: Callable[[Path], Conversion], target: Path, force: bool, sources: Sequence[Path]) -> Conversion:
    """Put what ``make`` writes into a folder in its place, with the proof, if it is what was asked for."""
    with _written(target.absolute().parent), making(target) as made:
        made.mkdir()
        conversion = make(made)
        if conversion.status in ("equivalent", "partial"):
            _save(made / "proof.json", conversion.report("json"))
            _save(made / "proof.md", conversion.report("markdown"))
            place_folder(made, target, force, sources)
    return conversion


# ---- Before anything is written.


def _check_target(to: str) -> None:
    if to not in TARGETS:
        raise SpecError(f"to must be {', '.join(TARGETS)}, not {to!r}.")


def _check_entries(names: Sequence[str]) -> None:
    """Refuse names of models that cannot be those of functions, methods and files."""
    if not names:
        raise SpecError("There is no model to convert; give one at least, by a name such as encoder.")
    for name in names:
        if not isinstance(name, str) or not name or identifier(name, _NOT_ENTRIES) != name:
            raise SpecError(
                f"{name!r} cannot be what a model is called in source code; give it another name, of small letters, digits and _."
            )


def _whole(entry: str, found: Findings) -> Graph:
    """The graph of one of several files."""
    for layer in found.layers:
        layer.check_decided()
    graph, why = whole_graph(found)
    if graph is None or why:
        raise UnsupportedError(
            f"{found.file.path}, the model {entry}, does not convert whole: "
            f"{listed(why) if why else 'it holds one layer and no model'}; convert the others without it."
        )
    return graph


def _promised(graphs: Mapping[str, Graph]) -> dict[str, Graph]:
    """The graphs for masks that are padding on the right, of which one at least has a mask."""
    made, refusals = dict(graphs), list[SpecError]()
    for entry, graph in graphs.items():
        try:
            made[entry] = promised(graph)
        except SpecError as error:
            refusals.append(error)
    if len(refusals) == len(graphs):
        raise refusals[0]
    return made


def _shared(graphs: Mapping[str, Graph]) -> dict[str, Graph]:
    """The graphs, in which each layer has one name: of one that is a model inside another, that which it has there.

    Raises:
        SpecError: layers of one name are not one layer.
    """
    graphs = {entry: _named_as_inside(graph, graphs.values()) for entry, graph in graphs.items()}
    first = dict[str, tuple[str, Node]]()
    for entry, graph in graphs.items():
        for node in {node.name: node for node in graph.nodes}.values():
            before, one = first.setdefault(node.name, (entry, node))
            if before != entry and (why := _differ(one, node)):
                raise SpecError(
                    f"The layer {node.name!r} is not the same in {before} and {entry}: {why}; save both models with one "
                    "layer, or give the layers names of their own."
                )
    return graphs


def _named_as_inside(graph: Graph, others: Iterable[Graph]) -> Graph:
    """A graph with the names that its layers have in one that calls it as a model: ``encoder/lstm`` for ``lstm``."""
    for other in others:
        names = {node.name for node in other.nodes}
        end = f"/{graph.name}/{graph.nodes[0].name}"
        for place in (name.removesuffix(f"/{graph.nodes[0].name}") for name in names if f"/{name}".endswith(end)):
            if all(f"{place}/{node.name}" in names for node in graph.nodes):
                return replace(graph, nodes=tuple(replace(n, name=f"{place}/{n.name}") for n in graph.nodes))
    return graph


def _differ(a: Node, b: Node) -> str:
    """In what two nodes of one name are not calls of one layer; nothing if they are."""
    if a.kind != b.kind or _of_layer(a) != _of_layer(b):
        return f"it is {_described(a).partition(': ')[2]} and {_described(b).partition(': ')[2]}, or its options differ"
    ours, theirs = a.params(), b.params()
    same = ours.keys() == theirs.keys() and all(np.array_equal(ours[k], theirs[k], equal_nan=True) for k in ours)
    return "" if same else "its numbers differ"


def _of_layer(node: Node) -> tuple[Any, dict[str, Any]]:
    """What a node is whatever it is called with: a mask, or states in the place of one, and what is taken of its output."""
    spec = replace(node.spec, mask=None, masked_output=None) if isinstance(node.spec, Recurrent) else node.spec
    return spec, {name: value for name, value in node.options.items() if name not in ("sequence", "unmasked")}


def _ignored(found: Findings, patterns: Sequence[str]) -> list[str]:
    """The tensors that the caller wants to be left out.

    Raises:
        SpecError: a pattern is of no tensor that would be left out.
    """
    refused = [name for layer in found.layers if layer.refused for name in layer.tensors]
    taken: dict[str, None] = {}
    for pattern in patterns:
        names = [name for name in (*found.unconsumed, *refused) if name == pattern or fnmatchcase(name, pattern)]
        if not names:
            raise SpecError(f"{pattern!r} is no tensor that would be left out; correct its name.")
        taken |= dict.fromkeys(names)
    return list(taken)


def _check_lost(found: Findings, left_out: Sequence[str]) -> None:
    """Refuse to lose a tensor without a word."""
    lost = [name for name in found.unconsumed if name not in left_out]
    if lost:
        it = "it" if len(lost) == 1 else "them"
        raise SpecError(
            f"Nothing explains the {'tensor' if len(lost) == 1 else 'tensors'} {', '.join(map(repr, lost))}; leave {it} out by "
            "name with --ignore, or convert the layers alone with --layers-only."
        )


class _Task(NamedTuple):
    """What is converted, each model with its folder below the destination; what is left; what stands in the way of the whole."""

    scope: str
    graphs: list[tuple[Graph, str]]
    left: list[str]
    why: tuple[str, ...]


def _task(found: Findings, layers_only: bool, left_out: Sequence[str]) -> _Task:
    graph, why = (None, ()) if layers_only else whole_graph(found)
    if graph is not None:
        return _Task("model", [(graph, "")], [], why)
    taken: list[str] = []
    graphs = []
    for layer in found.layers:
        if layer.readings:
            taken.append(identifier(layer.name, taken))
            graphs.append((one_layer(found, layer), taken[-1]))
    if not graphs:
        reasons = why or [layer.refused.rstrip(".") for layer in found.layers if layer.refused]
        more = f": {'; '.join(reasons)}" if reasons else ""
        raise UnsupportedError(f"{found.file.path} holds no recurrent or dense layer that could be converted{more}.")
    left = [f"{layer.name}: {layer.refused.rstrip('.')}" for layer in found.layers if layer.refused]
    left += [f"{other.name}, of kind {other.kind}" for other in found.others]
    left += found.opaque
    left += [f"the tensor {name}, which nothing explains" for name in found.unconsumed if name not in left_out]
    if len(graphs) == 1 and not left and found.file.config is None:
        graphs = [(graphs[0][0], "")]
    return _Task("layers", graphs, left, why)


def one_layer(found: Findings, layer: FoundLayer) -> Graph:
    """A graph of one node."""
    reading, file = layer.readings[0], found.file

    recurrent = isinstance(reading.spec, Recurrent)
    # A bare cell is converted as the layer that runs it.
    spec = replace(reading.spec, form="layer") if isinstance(reading.spec, Recurrent) else reading.spec
    node = Node(
        layer.name,
        "recurrent" if recurrent else "dense",
        {"sequence": True} if recurrent else {},
        spec,
        partial(reading.blocks, file),
        layer.tensors,
        dtype=layer.computes,
    )
    time = (None,) if recurrent else ()
    return chained([node], (*time, reading.spec.input_size), layer.name)


# ---- Writing, and the proof.


def _pieces(graphs: Mapping[str, Graph], folder: Path, place: str, to: str, before: Mapping[str, int]) -> list[Piece]:
    """Write models into one folder, and prove each.

    Args:
        graphs: by entry; one alone has the empty name.
        folder: where to; place: where that is below the destination.
        to: the target.
        before: how many numbers the source holds for each.
    """
    graphs = {entry: held(graph) for entry, graph in graphs.items()}
    written = write_entries(graphs, folder, to)
    dtype = "float32" if to == "onnx" else held_in(*graphs.values())
    return [
        _piece(entry, graph, folder, place, to, dtype, written[entry], before[entry]) for entry, graph in graphs.items()
    ]


def _piece(
    entry: str, graph: Graph, folder: Path, place: str, to: str, dtype: str, written: Written, before: int
) -> Piece:
    """The proof of one model that was written."""
    whole = tried(graph, folder, to, dtype, entry=entry)
    trials, margins = list(whole.trials), dict(whole.margins)
    for one in resting(graph, whole):
        for proof in _alone(one, folder, to, dtype):
            trials += proof.trials
            margins |= {mistake: max(margin, margins.get(mistake, 0.0)) for mistake, margin in proof.margins.items()}
    weakest = min(margins.items(), key=lambda item: item[1]) if margins else None
    return Piece(
        entry or graph.name,
        place,
        tuple(_described(node) for node in graph.nodes),
        before,
        # Of a model without weights the file may be none that holds tensors.
        _numbers_in(written) if numbers(graph) else 0,
        dtype,
        written.notes,
        written.fates,
        tuple(trials),
        None if weakest is None else (": ".join(weakest[0]), weakest[1]),
    )


def _alone(graph: Graph, folder: Path, to: str, dtype: str) -> Iterator[Proof]:
    """The proof of one node that is written by itself; and with other numbers too, where its own let nothing through."""
    for i, one in enumerate((graph, *redrawn(graph, dtype))):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            write(one, Path(place), to)
            found = tried(one, Path(place), to, dtype, one.name)
        yield found._replace(trials=[replace(trial, drawn=i > 0) for trial in found.trials])
        if found.complete:
            return


def _concluded(to: str, pieces: Sequence[Piece], missing: str) -> tuple[str, str]:
    """Status and reason; ``missing`` is what was left out, as a clause."""
    trials = [(piece, trial) for piece in pieces for trial in piece.trials]
    wrong = next(((p, t) for p, t in trials if t.status != "equivalent"), None)
    weak = next((piece.weak for piece in pieces if piece.weak), "")
    worst = max(trial.noise_ratio for _, trial in trials)
    if wrong is not None:
        piece, trial = wrong
        size = plural(trial.batch, "sample" if trial.steps is None else "sequence")
        size += "" if trial.steps is None else f" of {plural(trial.steps, 'time step')}"
        name = f"{piece.name}, {trial.layer} alone" if trial.layer else piece.name
        return trial.status, f"{name}, on {size}: {trial.reason}. Nothing was written."
    if weak:
        return "inconclusive", f"{weak}. Nothing was written."
    runs = (
        f"What was written, run in {get_target(to).title}, is within {worst:.2g} times the rounding noise of the NumPy "
        f"reference (limit {LIMIT:g}) on {plural(len(trials), 'input')}."
    )
    return ("partial", f"Partly: {missing}. {runs}") if missing else ("equivalent", runs)


def _missing(found: Findings, task: _Task, left_out: Sequence[str]) -> str:
    """What a conversion lacks of what was asked for, as a clause; nothing where it lacks nothing."""
    why = task.why or tuple(layer.refused.rstrip(".") for layer in found.layers if layer.refused)
    if not why:
        return ""
    things = listed(why)
    if task.scope == "model":
        return f"the whole model, without {plural(len(left_out), 'tensor')}; {things}"
    return f"{len(task.graphs)} of {plural(len(found.layers) + len(found.others), 'layer')}, no whole model; {things}"


def _warned(found: Findings, whole: bool) -> Iterator[str]:
    """What was assumed of the layers, and what else is to be said of them."""
    for layer in found.layers:
        # What is said of a dense layer's activation is about the layer alone.
        yield from (f"{layer.name}: {warning}" for warning in layer.warnings if not whole)
        for reading in layer.readings[:1]:
            # The first sentence says how the layer was found, the others what was made of what the file does not say.
            yield from (f"{layer.name}: {sentence}" for sentence in reading.evidence[1:])
            options = {name: getattr(reading.spec, name) for name in reading.open}
            assumed = ", ".join(f"{name} {value!r}" for name, value in options.items() if value is not None)
            if assumed:
                yield f"{layer.name}: not in the file, and taken as the default: {assumed}."
            if reading.forget_bias:
                yield f"{layer.name}: {reading.forget_bias:g} was added to the bias of the forget gate, as TensorFlow 1 does."


def _environment(to: str) -> dict[str, str]:
    from xframe import __version__
    from xframe.adapters import get_adapter, known_adapters
    from xframe.comparison import environment

    found = {"xframe": __version__, **environment([get_adapter(to)] if to in known_adapters() else [])}
    return found | ({name: version(name) for name in ("onnx", "onnxruntime")} if to == "onnx" else {})


def _described(node: Node) -> str:
    if node.spec is not None:
        last = " (last output)" if node.kind == "recurrent" and not node.options.get("sequence", True) else ""
        return f"{node.name}: {node.spec}{last}"
    options = ", ".join(f"{name} {value!r}" for name, value in node.options.items())
    return f"{node.name}: {node.kind}{f' ({options})' if options else ''}"


def _stored(found: Findings, graph: Graph) -> int:
    """How many numbers the source holds for a graph."""
    names = dict.fromkeys(name for node in graph.nodes for name in node.sources)
    return sum(found.file.tensors[name].count for name in names)


def _numbers_in(written: Written) -> int:
    """How many numbers the written files hold: those of the tensors that took the source's, not the constants of a graph."""
    tensors = load(written.files[0]).tensors
    named = {name for fate in written.fates.values() for name in fate.split(", ")}.intersection(tensors)
    return sum(tensor.count for name, tensor in tensors.items() if name in named or not named)


# ---- Delivering.


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """What the disk refuses meanwhile is a FileError, whatever the framework that writes makes of it."""
    try:
        yield
    except XframeError:
        raise
    except OSError as error:
        raise _no_room(folder, error.strerror or str(error)) from None
    except Exception as error:  # PyTorch, safetensors and others have errors of their own for it
        if any(word in str(error).lower() for word in _OF_DISKS):
            raise _no_room(folder, str(error).splitlines()[0]) from None
        raise


def _no_room(folder: Path, why: str) -> FileError:
    return FileError(f"Cannot write to {folder}: {why}; make room, or choose another place.")


def _save(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
