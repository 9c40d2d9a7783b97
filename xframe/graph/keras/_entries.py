"""The entries of a Keras configuration, of any Keras from 1 to 3: models, layers, and the shapes that they tell.

A configuration is a tree of entries ``{"class_name": ..., "config": {...}}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xframe.errors import UnsupportedError
from xframe.graph.node import Shape

__all__ = [
    "Entry",
    "Place",
    "config_of",
    "input_shape",
    "is_layer",
    "is_operation",
    "kind_of",
    "layers_of",
    "leaves_of",
    "name_of",
    "package_of",
    "place_of",
]

Entry = Mapping[str, Any]

_MODELS = ("Sequential", "Functional", "Model")
# Where Keras's own classes and those of xframe are.
_MODULES = ("keras", "tf_keras", "tensorflow", "xframe", "builtins")


@dataclass(frozen=True)
class Place:
    """A layer in a model.

    Attributes:
        names: the models that it is in, below the outermost, and its own name.
        kind: its class.
        options: its configuration.
        package: whose class it is; empty for Keras's own and those of xframe.
        arguments: what it is called with beside its input.
        reads: the shape of one sample that the file says that it was built for, or None.
    """

    names: tuple[str, ...]
    kind: str
    options: Mapping[str, Any]
    package: str = ""
    arguments: tuple[Any, ...] = ()
    reads: Shape | None = None

    @property
    def name(self) -> str:
        """All names, joined."""
        return "/".join(self.names)


def config_of(entry: Entry) -> Entry:
    """The configuration in an entry, if it is a mapping."""
    config = entry.get("config")
    return config if isinstance(config, Mapping) else {}


def kind_of(entry: Entry) -> str:
    """The class."""
    return str(entry.get("class_name", ""))


def name_of(entry: Entry) -> str:
    """The name; what has none is called by its class."""
    return str(config_of(entry).get("name") or entry.get("name") or kind_of(entry).lower())


def package_of(entry: Entry) -> str:
    """Whose class it is, if it is not one of Keras's or of xframe."""
    package, mark, _ = str(entry.get("registered_name") or "").rpartition(">")
    module = str(entry.get("module") or "keras").split(".")[0]
    return package if mark and package != "xframe" else "" if module in _MODULES else module


def is_layer(entry: Entry) -> bool:
    """Whether this is no model of Keras's."""
    return kind_of(entry) not in _MODELS or bool(package_of(entry))


def is_operation(entry: Entry) -> bool:
    """Whether this is a function of keras.ops, which Keras 3 writes as a layer; some are called like one."""
    if entry.get("module"):
        return str(entry["module"]).startswith(("keras.src.ops", "keras.ops"))
    # HDF5 says no module. A layer says whether it is trained; an operation, of which some have a layer's name, does not.
    nodes = entry.get("inbound_nodes")
    by_keras3 = isinstance(nodes, list) and bool(nodes) and isinstance(nodes[0], Mapping)
    return by_keras3 and kind_of(entry) != "InputLayer" and not {"trainable", "layers"} & {*config_of(entry)}


def place_of(entry: Entry, names: tuple[str, ...]) -> Place:
    """The place of a layer."""
    built = entry.get("build_config")
    shape: Any = built.get("input_shape") if isinstance(built, Mapping) else None
    told = isinstance(shape, list) and len(shape) > 1 and all(axis is None or isinstance(axis, int) for axis in shape)
    reads = tuple(shape[1:]) if told else None
    return Place(names, kind_of(entry), config_of(entry), package_of(entry), reads=reads)


def layers_of(entry: Entry) -> list[Entry]:
    """The entries of a model's layers: Keras before 2.2 gives those of a Sequential as a list."""
    config = entry.get("config")
    layers = config.get("layers") if isinstance(config, Mapping) else config
    if not isinstance(layers, list) or not layers or not all(isinstance(each, Mapping) for each in layers):
        raise UnsupportedError(
            f"The configuration of the model {name_of(entry)!r} lists no layers; save the model again."
        )
    return layers


def leaves_of(entry: Entry, names: tuple[str, ...] = ()) -> Iterator[Place]:
    """The layers of a model, those in nested models too, in the order of the configuration."""
    if is_layer(entry):
        yield place_of(entry, names)
        return
    for each in layers_of(entry):
        yield from leaves_of(each, (*names, name_of(each)))


def input_shape(entry: Entry) -> Shape | None:
    """The shape of one sample, without the batch, if the configuration of a layer or of a Sequential tells."""
    shape: Any = None
    if not is_layer(entry):
        if (told := input_shape(layers_of(entry)[0])) is not None:
            return told
        shape = config_of(entry).get("build_input_shape")
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
