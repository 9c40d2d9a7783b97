"""The one path through a Keras model, from its configuration: which layers run, in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xframe.chain._keras_graph import MASK_OPERATIONS, Entry, Graph, config_of, kind_of, name_of, tensors
from xframe.chain.kind import Shape
from xframe.errors import ObstaclesError, UnsupportedError

__all__ = ["Place", "everywhere", "input_shape", "package_of", "path"]

_MODELS = ("Sequential", "Functional", "Model")
# Where Keras's own classes and those of xframe are.
_MODULES = ("keras", "tf_keras", "tensorflow", "xframe", "builtins")
# Far above any model's: a model that is called twice in one that is called twice, and so on, would have no end.
_MAX_PLACES = 10_000


@dataclass(frozen=True)
class Place:
    """A layer on the path.

    Attributes:
        names: the models that it is in, below the outermost, and its own name.
        kind: its class.
        options: its configuration.
        package: whose class it is; empty for Keras's own and those of xframe.
        masked: whether it is told to use the mask that reaches it.
        arguments: what it is called with beside its input.
        reads: the shape of one sample that the file says that it was built for, or None.
    """

    names: tuple[str, ...]
    kind: str
    options: Mapping[str, Any]
    package: str = ""
    masked: bool = False
    arguments: tuple[Any, ...] = ()
    reads: Shape | None = None

    @property
    def name(self) -> str:
        """All names, joined."""
        return "/".join(self.names)


def path(entry: Entry, names: tuple[str, ...] = ()) -> list[Place]:
    """The layers of a model in the order in which they run, nested models flattened; or the layer, if it is no model.

    Raises:
        UnsupportedError: the model has several inputs or outputs, or branches; the sentence names all such layers.
    """
    if _is_layer(entry):
        return [_place(entry, names)]
    layers = _layers(entry)
    if kind_of(entry) == "Sequential":
        flat = _each({name_of(each): each for each in layers}, names)
        found = [place for each in layers for place in flat[name_of(each)]]
    else:
        found = _functional(entry, layers, names)
    if len(found) > _MAX_PLACES:
        raise UnsupportedError(f"The model runs more than {_MAX_PLACES:,} layers, which is not modelled.")
    return found


def _each(layers: Mapping[str, Entry], names: tuple[str, ...]) -> dict[str, list[Place]]:
    """The places in each layer, which may be a model; or all that is wrong with any of these."""
    found, reasons = dict[str, list[Place]](), list[str]()
    for name, entry in layers.items():
        try:
            found[name] = path(entry, (*names, name))
        except ObstaclesError as error:
            reasons += error.reasons
    if reasons:
        raise ObstaclesError(reasons)
    return found


def everywhere(entry: Entry, names: tuple[str, ...] = ()) -> list[Place]:
    """All layers of a model that is no chain, in the order of the configuration, without what makes masks."""
    if _is_layer(entry):
        return [] if kind_of(entry) in MASK_OPERATIONS else [_place(entry, names)]
    layers = _layers(entry)
    graph = None if kind_of(entry) == "Sequential" else Graph(config_of(entry), layers)
    found = []
    for each in layers:
        places = everywhere(each, (*names, name_of(each)))
        if graph is not None and _is_layer(each):
            places = [replace(place, arguments=graph.arguments(name_of(each))) for place in places]
        found += places
    return found[:_MAX_PLACES]


def _place(entry: Entry, names: tuple[str, ...]) -> Place:
    built = entry.get("build_config")
    shape: Any = built.get("input_shape") if isinstance(built, Mapping) else None
    told = isinstance(shape, list) and len(shape) > 1 and all(axis is None or isinstance(axis, int) for axis in shape)
    reads = tuple(shape[1:]) if told else None
    return Place(names, kind_of(entry), config_of(entry), package_of(entry), reads=reads)


def _is_layer(entry: Entry) -> bool:
    """Whether this is no model of Keras's."""
    return kind_of(entry) not in _MODELS or bool(package_of(entry))


def _functional(entry: Entry, layers: list[Entry], names: tuple[str, ...]) -> list[Place]:
    graph = Graph(config_of(entry), layers)
    route = graph.route()
    flat = _each({t.layer: graph.layers[t.layer] for t in dict.fromkeys(route)}, names)
    found: list[Place] = []
    for at, tensor in enumerate(route):
        places, call = flat[tensor.layer], graph.call(tensor)
        masked = graph.takes_mask(route, at)
        if call is not None and kind_of(graph.layers[tensor.layer]) not in _MODELS:
            places = [replace(place, masked=masked, arguments=call.arguments) for place in places]
        found += places
        if len(found) > _MAX_PLACES:
            break
    return found


def input_shape(entry: Entry) -> Shape | None:
    """The shape of one sample, without the batch, if the configuration tells."""
    shape: Any = None
    if kind_of(entry) in _MODELS:
        layers, config = _layers(entry), config_of(entry)
        start = tensors(config.get("input_layers"))
        first = next((each for each in layers if not start or name_of(each) == start[0].layer), None)
        if first is not None and (told := input_shape(first)) is not None:
            return told
        shape = config.get("build_input_shape")
    shape = shape or _told(entry)
    return None if shape is None else tuple(None if axis is None else int(axis) for axis in shape[1:])


def _told(entry: Entry) -> Any:
    """The shape, with the batch, that a layer says that it reads."""
    config, built = config_of(entry), entry.get("build_config")
    shape = config.get("batch_shape") or config.get("batch_input_shape")
    shape = shape or (built.get("input_shape") if isinstance(built, Mapping) else None)
    if isinstance(shape, Sequence) and shape and all(axis is None or isinstance(axis, int) for axis in shape):
        return shape
    if kind_of(entry) == "Embedding":
        return [None, config.get("input_length")]
    # Keras 1 gives sequences a length, or None, and other samples none.
    time = [config["input_length"]] if "input_length" in config else []
    return [None, *time, config["input_dim"]] if isinstance(config.get("input_dim"), int) else None


def _layers(entry: Entry) -> list[Entry]:
    """The entries of a model's layers: Keras before 2.2 gives those of a Sequential as a list."""
    config = entry.get("config")
    layers = config.get("layers") if isinstance(config, Mapping) else config
    if not isinstance(layers, list) or not layers or not all(isinstance(each, Mapping) for each in layers):
        raise UnsupportedError(
            f"The configuration of the model {name_of(entry)!r} lists no layers; save the model again."
        )
    return layers


def package_of(entry: Entry) -> str:
    """Whose class it is, if it is not one of Keras's or of xframe."""
    package, mark, _ = str(entry.get("registered_name") or "").rpartition(">")
    module = str(entry.get("module") or "keras").split(".")[0]
    return package if mark and package != "xframe" else "" if module in _MODULES else module
