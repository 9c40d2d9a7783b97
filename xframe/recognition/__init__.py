"""From a model file to the layers in it.

What the file says of its layers comes first: a configuration of Keras, the nodes of ONNX. For all else the names and the
shapes of its tensors must do. What they leave open is not guessed: every reading that fits is given with what speaks for
it, and the user settles it with a choice. No tensor is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from xframe.errors import UnsupportedError
from xframe.files.base import ModelFile, StoredLayer
from xframe.files.told import is_told
from xframe.recognition import bare, keras, names, onnx, told
from xframe.recognition.choices import Choices, opened, settled
from xframe.recognition.findings import Findings, FoundLayer, Other, Reading
from xframe.recognition.flow import flow_of, is_zero
from xframe.recognition.policies import computes, policy
from xframe.recognition.tables import file_packings

__all__ = ["Choices", "Findings", "FoundLayer", "Other", "Reading", "computes", "policy", "recognise"]


def recognise(file: ModelFile, choices: Choices | None = None) -> Findings:
    """Find the recurrent and dense layers of a file.

    Args:
        file: what `xframe.files.load` gives.
        choices: what the user knows of the layers that the file does not say.

    Raises:
        SpecError: a choice makes no sense, or contradicts the file.
        FileError: what xframe said in the file when it wrote it contradicts the tensors.
    """
    search = _Search(file)
    if is_told(file.config):
        search.told()
    else:
        for layer in file.layers:
            search.stored(layer)
        search.bare()
    layers = settled(search.layers(), choices or Choices())
    taken = search.taken.union(search.settings)
    return Findings(
        file,
        tuple(layers),
        tuple(search.others),
        tuple(name for name in file.tensors if name not in taken),
        tuple(search.warnings),
        search.opaque(),
        tuple(name for name in search.settings if name not in search.taken),
    )


class _Search:
    """The tensors of one file, as they are taken by layers."""

    def __init__(self, file: ModelFile) -> None:
        self._file = file
        self._frozen = onnx.frozen(file)
        self._flow = flow_of(file, onnx.dense_layers(file, self._frozen))
        self._again: list[StoredLayer] = []
        self.settings: dict[str, None] = {}
        self._found: list[FoundLayer] = []
        self.others: list[Other] = []
        self.warnings: list[str] = []
        self.taken: set[str] = set()
        self._order = {name: i for i, name in enumerate(dict.fromkeys([*_named(file), *file.tensors]))}

    def layers(self) -> list[FoundLayer]:
        """The layers in the order of the file."""
        return sorted(self._found, key=lambda layer: min((self._order[t] for t in layer.tensors), default=0))

    def told(self) -> None:
        """The layers of a file in which xframe says what it wrote; they are all that it holds."""
        layers, self.others = told.found(self._file)
        for layer in layers:
            self._add(layer)
        self.taken |= set(self._file.tensors)

    def stored(self, layer: StoredLayer) -> None:
        """A layer that the file names."""
        if self._file.graphs and layer.kind not in (*onnx.CELLS, *onnx.DENSE):
            layer = self._weighted(layer)
        if not layer.kind or not layer.tensors or any(name in self._frozen for name in layer.tensors.values()):
            return
        if shared := [name for name in onnx.own(self._file, layer) if name in self.taken]:
            self.warnings.append(
                f"The layer {layer.name!r} has the tensor {shared[0]!r} of a layer before it; it is counted there."
            )
            self._again.append(layer)
            return
        try:
            self._kind(layer)
        except UnsupportedError as error:
            self._add(FoundLayer(layer.name, (), tuple(layer.tensors.values()), refused=str(error)))

    def _weighted(self, layer: StoredLayer) -> StoredLayer:
        """A node that is no layer, without what is no weight of its own: axes, sizes and zeros, and what others hold."""
        plumbing = layer.name in self._flow.plumbing
        settings = {
            label: name
            for label, name in layer.tensors.items()
            if onnx.is_setting(self._file.tensors[name]) or (plumbing and is_zero(self._file.tensors[name]))
        }
        self.settings |= dict.fromkeys(settings.values())
        gone = {*settings.values(), *self._frozen, *self.taken}
        return replace(layer, tensors={label: name for label, name in layer.tensors.items() if name not in gone})

    def _kind(self, layer: StoredLayer) -> None:
        if self._file.format == "onnx":
            self._node(layer)
            return
        cells = keras.parts(layer.kind, layer.options)
        if cells:
            self._keras(layer, cells)
        elif layer.kind not in keras.CONTAINERS:
            self._other(layer)

    def _keras(self, layer: StoredLayer, cells: list[list[keras.Part]]) -> None:
        warnings = []
        if keras.unknown_batch(self._file, cells):
            warnings.append("It keeps its states between calls, for a batch of a size that the file does not tell.")
        if activation := keras.dense_activation(cells):
            warnings.append(f"Its activation {activation} is not part of the dense layer that is described.")
        type_, found = computes(layer.options), keras.readings(self._file, layer, cells)
        self._add(FoundLayer(layer.name, tuple(found), tuple(layer.tensors.values()), tuple(warnings), computes=type_))

    def _node(self, layer: StoredLayer) -> None:
        if layer.kind in onnx.CELLS:
            reading: Reading | None = onnx.node(self._file, layer, self._flow.starts.get(layer.name))
        else:
            reading = onnx.dense(self._file, layer) if layer.kind in onnx.DENSE else None
        if reading is None:
            self._other(layer)
            return
        # What its weights are computed from is explained by it too, unless something else is made of that as well.
        sources = [name for name in _folded(layer) if name in self._file.tensors and name not in self.taken]
        self._add(FoundLayer(layer.name, (reading,), tuple(dict.fromkeys([*layer.tensors.values(), *sources]))))

    def _other(self, layer: StoredLayer) -> None:
        self.others.append(Other(layer.name, layer.kind, dict(layer.tensors)))
        self.taken |= set(layer.tensors.values())

    def _add(self, layer: FoundLayer) -> None:
        self._found.append(replace(layer, warnings=(*layer.warnings, *_of_narrow_types(self._file, layer))))
        self.taken |= set(layer.tensors)

    def opaque(self) -> tuple[str, ...]:
        """What the file runs besides its layers, and the others that are named by their weights."""
        named = {layer.name for layer in self._found} | {other.name for other in self.others}
        phrases = [
            f"{node.kind} (node {node.name}){f', which {why}' if why else ''}"
            for node, why in self._flow.opaque
            if why or not named.intersection((node.name, node.layer))
        ]
        if not self._file.graphs:
            return ()
        again = [f"{layer.kind} (node {layer.name}), with the weights of a layer before it" for layer in self._again]
        return (*phrases, *again)

    def bare(self) -> None:
        """All tensors that no layer of a known kind has taken."""
        entries = bare.entries_of(self._file, self.taken.union(self.settings), self._frozen)
        units = bare.found(entries, file_packings(self._file))
        tables = bare.tables(units, [reading.spec for layer in self._found for reading in layer.readings[:1]])
        strange = bare.strangers(units, entries)
        for unit in units:
            name = _name(self._file, unit.path, unit.tensors[0])
            if tables.get(unit.path):
                self.others.append(Other(name, "Embedding", {"weight": unit.tensors[0]}))
                self.taken |= set(unit.tensors)
            elif more := strange.get(unit.path):
                self._add(FoundLayer(name, (), (*unit.tensors, *more), refused=_strange(name, more)))
            else:
                readings = tuple(one for reading in unit.readings for one in opened(self._file, reading))
                warnings = (bare.MAY_BE_A_TABLE,) if unit.path in tables else ()
                self._add(FoundLayer(name, readings, unit.tensors, warnings, table=unit.path in tables))
        rest: dict[tuple[str, ...], dict[str, bare.Entry]] = {}
        for entry in entries:
            if entry.tensor not in self.taken:
                rest.setdefault(entry.path[:-1] or entry.path, {})[entry.path[-1]] = entry
        for path, found in rest.items():
            if kind := names.other_kind(path, {local: len(entry.shape) for local, entry in found.items()}):
                tensors = {local: entry.tensor for local, entry in found.items()}
                self.others.append(Other(_name(self._file, path, next(iter(tensors.values()))), kind, tensors))
                self.taken |= set(tensors.values())


def _strange(name: str, tensors: Sequence[str]) -> str:
    return (
        f"The layer {name!r} is not modelled: it has {', '.join(map(repr, tensors))} inside it, which may change what it "
        "computes, as peepholes, dropped weights and norms inside a layer do."
    )


def _of_narrow_types(file: ModelFile, layer: FoundLayer) -> Iterator[str]:
    """What is to be said of a layer that is not of float32 or wider."""
    kinds = sorted({file.tensors[name].dtype for name in layer.tensors})
    if layer.computes.endswith("16") and kinds != [layer.computes]:
        yield f"It computes in {layer.computes}, by its dtype policy, on weights of {' and '.join(kinds)}."
    elif any(kind in ("float16", "bfloat16") for kind in kinds):
        yield f"Its numbers are {' and '.join(kinds)}."


def _named(file: ModelFile) -> list[str]:
    """The tensors in the order of the layers that the file names."""
    return [name for layer in file.layers for name in layer.tensors.values()]


def _folded(layer: StoredLayer) -> list[str]:
    """The tensors from which those of an ONNX node are computed."""
    folded = layer.options.get("folded")
    lists = folded.values() if isinstance(folded, Mapping) else []
    return [name for used in lists if isinstance(used, list) for name in used if isinstance(name, str)]


def _name(file: ModelFile, path: tuple[str, ...], tensor: str) -> str:
    """A layer's name: its path, as the file writes paths; in a file of Keras without what it keeps its tensors in."""
    while file.format.startswith("keras") and names.is_inside(path):
        path = path[:-1]
    separator = "." if "." in tensor and "/" not in tensor else "/"
    return separator.join(path) or file.path.stem
