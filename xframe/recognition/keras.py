"""Layers of Keras 1, 2 and 3 from their configurations, which are read as text: nothing is built from them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from xframe.activations import check_activation
from xframe.errors import SpecError, UnsupportedError
from xframe.files.base import ModelFile, StoredLayer
from xframe.layout import Packing
from xframe.recognition import names
from xframe.recognition.findings import Reading
from xframe.recognition.forms import Fit, forms, merged, native_names
from xframe.recognition.tables import file_packings
from xframe.spec import Dense, Recurrent

__all__ = ["CONTAINERS", "Part", "dense_activation", "parts", "readings", "unknown_batch"]

_CELLS = {
    **{
        f"{name}{end}": cell
        for name, cell in (("LSTM", "lstm"), ("GRU", "gru"))
        for end in ("", "V2", "Cell", "CellV2")
    },
    **dict.fromkeys(("SimpleRNN", "SimpleRNNCell"), "rnn"),
    "CuDNNLSTM": "lstm",
    "CuDNNGRU": "gru",
    "ProjectedLSTMCell": "lstm",
    "Dense": "dense",
}
# Layers that hold layers, whose tensors are told apart by their names.
CONTAINERS = ("Sequential", "Functional", "Model")
_SAME = {"swish": "silu", "hard_swish": "hard_silu", "identity": "linear", None: "linear"}


@dataclass(frozen=True)
class Part:
    """One cell, or dense layer, of a configuration: its class and its options, and those of what it runs in."""

    kind: str
    options: Mapping[str, Any]
    outer: Mapping[str, Any]


def parts(kind: str, options: Mapping[str, Any]) -> list[list[Part]]:
    """The cells of a layer, one list for each direction, from the input on. Empty if it is no layer of such cells."""
    if kind == "Bidirectional":
        forward = _inner(options.get("layer"))
        backward = _inner(options.get("backward_layer")) if options.get("backward_layer") else forward
        both = [*forward, *backward]
        return both if len(both) == 2 and all(_runs(column) for column in both) else []
    if kind == "TimeDistributed":
        return _inner(options.get("layer"))
    if kind in ("RNN", "StackedRNNCells"):
        cells = options.get("cells") or options.get("cell")
        chain = cells if isinstance(cells, list) else [cells]
        inner = [column for cell in chain for column in _inner(cell)]
        flat = [replace(part, outer=options) for column in inner for part in column]
        return [flat] if flat and len(inner) == len(chain) and _runs(flat) else []
    return [[Part(kind, options, options)]] if kind in _CELLS else []


def _runs(column: list[Part]) -> bool:
    """Whether all of these are recurrent."""
    return all(_CELLS[part.kind] != "dense" for part in column)


def _inner(given: Any) -> list[list[Part]]:
    if not isinstance(given, Mapping) or not isinstance(given.get("config"), Mapping):
        return []
    return parts(_class(given), given["config"])


def _class(given: Mapping[str, Any]) -> str:
    """The name of a class, without the package under which it was registered: xframe's own is known, no other."""
    name, registered = str(given.get("class_name", "")), str(given.get("registered_name") or "")
    if ">" in registered and not registered.startswith("xframe>"):
        return registered
    return name.removeprefix("xframe>")


def readings(file: ModelFile, layer: StoredLayer, cells: list[list[Part]]) -> list[Reading]:
    """What a layer of the file may be.

    Raises:
        UnsupportedError: something in it is not modelled, or its tensors are not those of its configuration.
    """
    columns = _columns(file, layer, cells)
    if any(len(column) > 1 for column in columns):
        return _stacks(file, layer, cells, columns)
    if layer.kind != "Bidirectional":
        return [reading for fit in columns[0][0] for reading in _single(file, layer, fit, cells[0][0])]
    (forward,), (backward,) = columns
    column = cells[0][0], cells[1][0]
    return [r for f in forward for b in backward if _alike(f, b) for r in _both(file, layer, f, b, column)]


def _alike(one: Fit, other: Fit) -> bool:
    """Whether two directions reset alike, where that is what a file leaves open."""
    resets = [fit.form.options.get("reset_after") for fit in (one, other)]
    return None in resets or resets[0] == resets[1]


def _columns(file: ModelFile, layer: StoredLayer, cells: list[list[Part]]) -> list[list[list[Fit]]]:
    """What fits each cell: the tensors are dealt out in order, as many to each as it has."""
    tensors = _ordered(layer, cells)
    found: list[list[list[Fit]]] = []
    for column in cells:
        found.append([])
        for part in column:
            fits = _part_fits(file, layer, part, tensors)
            tensors = tensors[len(fits[0].tensors) :]
            found[-1].append(fits)
    if tensors:
        raise UnsupportedError(
            f"The Keras layer {layer.name!r} has a tensor {tensors[0][0]!r} that its configuration does not explain."
        )
    return found


def _ordered(layer: StoredLayer, cells: list[list[Part]]) -> list[tuple[str, str]]:
    """The tensors of a layer in the order in which Keras made them; a file that numbers them may have sorted them."""
    pairs = list(layer.tensors.items())
    if not all(key.split("/")[-1].isdecimal() for key, _ in pairs):
        return pairs
    orders = [_places(column) for column in cells]

    def rank(pair: tuple[str, str]) -> tuple[int, int, int, str]:
        path = tuple(pair[0].split("/"))
        direction = names.direction_of(path) or 0
        order = orders[min(direction, len(orders) - 1)]
        place = min((order[part] for part in path if part in order), default=0)
        return direction, place, len(path[-1]), path[-1]

    return sorted(pairs, key=rank)


def _places(column: list[Part]) -> dict[str, int]:
    """The place of each stacked cell by what Keras calls it: by its class, each class numbered by itself."""
    kinds = [re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", part.kind).lower() for part in column]
    numbers = [kinds[:i].count(kind) for i, kind in enumerate(kinds)]
    return {f"{kind}_{n}" if n else kind: i for i, (kind, n) in enumerate(zip(kinds, numbers, strict=True))}


def _part_fits(file: ModelFile, layer: StoredLayer, part: Part, tensors: list[tuple[str, str]]) -> list[Fit]:
    """The forms of a cell that the next tensors fit; more than one only for a GRU that does not say how it resets."""
    options, cell = part.options, _CELLS[part.kind]
    units = options.get("units", options.get("output_dim"))
    found = []
    for form in (form for packing in _packings(file, part) for form in forms(packing)):
        run = tensors[: len(form.names)]
        given = options.get("reset_after")
        reset = given is None or form.options.get("reset_after") in (None, given)
        if form.options["cell"] != cell or not reset or len(run) != len(form.names):
            continue
        if form.options["bias"] != bool(options.get("use_bias", options.get("bias", True))):
            continue
        if form.options.get("projected", False) != (part.kind == "ProjectedLSTMCell"):
            continue
        chosen = _named(form.names, run)
        spec = form.fit([file.tensors[name].shape for name in chosen]) if chosen else None
        if chosen and spec is not None and units in (None, spec.hidden_size):
            how = f"The file says that it is a Keras layer {layer.kind} with this configuration."
            found.append(Fit(form, spec, dict(zip(form.names, chosen, strict=True)), how))
    if not found:
        raise UnsupportedError(
            f"The Keras layer {layer.name!r} has no tensors of the shapes that a {part.kind} with {units} units has."
        )
    # Before it had the option, every GRU of Keras reset before the product.
    return sorted(found, key=lambda fit: bool(fit.form.options.get("reset_after")))


def _packings(file: ModelFile, part: Part) -> list[Packing]:
    """The packings in which a file may have a layer of that class."""
    cudnn = part.kind.startswith("CuDNN")
    return [p for p in file_packings(file) if (p.name == "keras-cudnn") == cudnn]


def _named(wanted: Sequence[str], run: Sequence[tuple[str, str]]) -> list[str] | None:
    """The tensors for these names: by name if all have names, in order if they have numbers."""
    last = [key.split("/")[-1] for key, _ in run]
    if all(name.isdecimal() for name in last):
        return [tensor for _, tensor in run]
    by_name = {
        re.sub(r"^(kernel|recurrent_kernel|bias|projection)_\d+$", r"\1", key): t
        for key, (_, t) in zip(last, run, strict=True)
    }
    for glued in {name for key in last for name in wanted if key.endswith(f"_{name}")}:
        by_name.setdefault(glued, next(t for key, (_, t) in zip(last, run, strict=True) if key.endswith(f"_{glued}")))
    return [by_name[name] for name in wanted] if set(wanted) <= set(by_name) else None


# ---- From a configuration to a spec.


def _single(file: ModelFile, layer: StoredLayer, fit: Fit, part: Part) -> list[Reading]:
    packing = fit.form.packing
    if isinstance(fit.spec, Dense):
        return [Reading(packing, fit.spec, native_names(packing, fit.spec, {(0, 0): fit}), (fit.how,))]
    found = []
    for spec, note in _cells(file, layer, fit, part):
        spec = _checked(layer, {**spec.options(), **_time(file, part.outer)})
        found.append(Reading(packing, spec, native_names(packing, spec, {(0, 0): fit}), (fit.how, *note)))
    return found


def _both(file: ModelFile, layer: StoredLayer, forward: Fit, backward: Fit, column: tuple[Part, Part]) -> list[Reading]:
    """The readings of a layer of two directions, each of which has been found."""
    found = []
    for first, note in _cells(file, layer, forward, column[0]):
        for second, _ in _cells(file, layer, backward, column[1]):
            pair = merged(replace(forward, spec=first), replace(backward, spec=second))
            if pair is None or (len(note) and _slope(first) != _slope(second)):
                continue
            reading = Reading(forward.form.packing, *pair, (forward.how, *note))
            options = {**pair[0].options(), **_time(file, column[0].outer), "merge_mode": _merge_mode(layer)}
            found.append(reading.described(_checked(layer, options)))
    if not found:
        raise UnsupportedError(f"The two directions of the Keras layer {layer.name!r} do not fit each other.")
    return found


def _stacks(
    file: ModelFile, layer: StoredLayer, cells: list[list[Part]], columns: list[list[list[Fit]]]
) -> list[Reading]:
    """The readings of stacked cells, in one direction or in two; what the file leaves open is alike in all of them."""
    found: dict[Recurrent, Reading] = {}
    for reset, slope in product((False, True), range(len(_slopes(file)))):
        places: dict[tuple[int, int], Fit] = {}
        specs: list[list[Recurrent]] = []
        notes: dict[str, None] = {}
        for d, (parts_, fits) in enumerate(zip(cells, columns, strict=True)):
            specs.append([])
            for k, (part, each) in enumerate(zip(parts_, fits, strict=True)):
                fit = next((f for f in each if f.form.options.get("reset_after") in (None, reset)), each[0])
                told = _cells(file, layer, fit, part)
                spec, note = told[min(slope, len(told) - 1)]
                places[k, d] = replace(fit, spec=spec)
                specs[-1].append(spec)
                notes |= dict.fromkeys(note)
        whole = _stack(file, layer, cells[0][0].outer, specs)
        packing, how = places[0, 0].form.packing, places[0, 0].how
        found.setdefault(whole, Reading(packing, whole, native_names(packing, whole, places), (how, *notes)))
    return list(found.values())


def _stack(file: ModelFile, layer: StoredLayer, outer: Mapping[str, Any], specs: list[list[Recurrent]]) -> Recurrent:
    """One layer of cells that run inside it, one list for each direction."""
    options: dict[str, Any] = {**specs[0][0].options(), "stacked": tuple(specs[0][1:])}
    if layer.kind == "Bidirectional":
        backward = _checked(layer, {**specs[1][0].options(), "stacked": tuple(specs[1][1:])})
        options |= {"bidirectional": True, "merge_mode": _merge_mode(layer), "backward": backward}
    return _checked(layer, {**options, **_time(file, outer)})


def _slope(spec: Recurrent) -> set[str]:
    """Which hard sigmoid a spec has."""
    return {str(v) for v in (spec.activation, spec.recurrent_activation) if str(v).startswith("hard_sigmoid")}


def _merge_mode(layer: StoredLayer) -> Any:
    return layer.options.get("merge_mode", "concat")


def _cells(file: ModelFile, layer: StoredLayer, fit: Fit, part: Part) -> list[tuple[Recurrent, tuple[str, ...]]]:
    """What one cell may be, each with notes: one, or two where the file does not tell which hard_sigmoid it means."""
    options = part.options
    told: dict[str, Any] = {
        "input_dropout": options.get("dropout", options.get("dropout_W", 0.0)) or 0.0,
        "recurrent_dropout": options.get("recurrent_dropout", options.get("dropout_U", 0.0)) or 0.0,
    }
    if part.kind.startswith("CuDNN"):
        return [
            (_checked(layer, {**fit.spec.options(), **told}), ("Keras's CuDNN layers have sigmoid and tanh only.",))
        ]
    named = {
        "activation": options.get("activation", "tanh"),
        "recurrent_activation": options.get("recurrent_activation", options.get("inner_activation")),
    }
    if fit.spec.cell == "rnn":
        named.pop("recurrent_activation")
    functions = {option: _activation(layer, option, value) for option, value in named.items()}
    if "hard_sigmoid" not in functions.values():
        return [(_checked(layer, {**fit.spec.options(), **told, **functions}), ())]
    found: list[tuple[Recurrent, tuple[str, ...]]] = []
    for slope, note in _slopes(file):
        chosen = {option: slope if name == "hard_sigmoid" else name for option, name in functions.items()}
        found.append((_checked(layer, {**fit.spec.options(), **told, **chosen}), (note,)))
    return found


def _slopes(file: ModelFile) -> list[tuple[str, str]]:
    """What hard_sigmoid means in a file, the likelier first, each with the reason."""
    version = file.metadata.get("keras_version", "")
    if re.match(r"[12]\.", version):
        note = f"Its hard_sigmoid is that of Keras {version}, of slope 0.2; Keras 3 would load it as another, of slope 1/6."
        return [("hard_sigmoid_keras2", note)]
    if re.match(r"[3-9]\.", version):
        return [("hard_sigmoid", f"Its hard_sigmoid is that of Keras {version}, of slope 1/6.")]
    note = (
        "The file does not say which Keras wrote it, and hard_sigmoid had the slope 0.2 before Keras 3, and 1/6 since."
    )
    return [("hard_sigmoid_keras2", note), ("hard_sigmoid", note)]


def _activation(layer: StoredLayer, option: str, given: Any) -> str:
    """The name of an activation function that a configuration gives, as a name or as a registered function."""
    if isinstance(given, Mapping):
        # Keras writes its own functions by their names alone: this is one of the user's, or xframe's, which says so.
        if given.get("config") != "xframe>hard_sigmoid_keras2":
            raise UnsupportedError(f"{option} of the Keras layer {layer.name!r} is a function of the user's own.")
        given = given["config"]
    if given is None and option == "recurrent_activation":
        raise UnsupportedError(
            f"The configuration of the Keras layer {layer.name!r} lacks recurrent_activation; add it."
        )
    if given == "xframe>hard_sigmoid_keras2":
        return "hard_sigmoid_keras2"
    name = _SAME.get(given, given) if isinstance(given, str | None) else given
    if wrong := check_activation(name):
        raise UnsupportedError(f"{option} of the Keras layer {layer.name!r} {wrong}.")
    return str(name)


def _time(file: ModelFile, outer: Mapping[str, Any]) -> dict[str, Any]:
    """How a layer goes through time."""
    stateful = bool(outer.get("stateful", False))
    batch = _batch(file, outer) if stateful else None
    return {
        "go_backwards": bool(outer.get("go_backwards", False)),
        # States are kept for each row of a batch, so a layer whose batch nobody knows is taken as one call.
        "stateful": batch is not None,
        "batch_size": batch,
    }


def _batch(file: ModelFile, outer: Mapping[str, Any]) -> int | None:
    """The batch size of a stateful layer: its own, or that of the model's first input."""
    for holder in (outer, *_first_layers(file)):
        for name in ("batch_input_shape", "batch_shape"):
            shape = holder.get(name)
            if isinstance(shape, list) and shape and isinstance(shape[0], int):
                return shape[0]
    return None


def _first_layers(file: ModelFile) -> Iterator[Mapping[str, Any]]:
    """The configurations of a model's layers, as far as they are mappings."""
    config = (file.config or {}).get("config")
    layers = config.get("layers") if isinstance(config, Mapping) else config
    for one in layers if isinstance(layers, list) else []:
        if isinstance(one, Mapping) and isinstance(one.get("config"), Mapping):
            yield one["config"]


def _checked(layer: StoredLayer, options: dict[str, Any]) -> Recurrent:
    try:
        return Recurrent(**options)
    except SpecError as error:
        raise UnsupportedError(f"The Keras layer {layer.name!r} is not modelled: {error}") from None


def unknown_batch(file: ModelFile, cells: list[list[Part]]) -> bool:
    """Whether the layer keeps its states for a batch of which the file does not tell the size."""
    return any(p.outer.get("stateful") and _batch(file, p.outer) is None for column in cells for p in column)


def dense_activation(cells: list[list[Part]]) -> str:
    """The activation of a dense layer, if it has one."""
    options = cells[0][0].options if cells[0][0].kind == "Dense" else {}
    activation = options.get("activation")
    return "" if activation in (None, "linear") else repr(activation)
