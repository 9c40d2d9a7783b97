"""The weights of a Keras layer: where in the file they are, and what was recognised in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xframe.errors import UnsupportedError
from xframe.files.base import ModelFile, StoredLayer
from xframe.graph.keras._entries import Place
from xframe.graph.keras._options import refused
from xframe.recognition import Findings, Reading

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Arrays", "Weights"]

# What Keras 1 to 3 have called the weights of a layer.
_NAMES = {
    "embeddings": ("embeddings", "W"),
    "kernel": ("kernel", "W", "depthwise_kernel"),
    "depthwise_kernel": ("depthwise_kernel",),
    "pointwise_kernel": ("pointwise_kernel",),
    "bias": ("bias", "b"),
    "gamma": ("gamma",),
    "beta": ("beta",),
    "mean": ("moving_mean", "running_mean", "mean"),
    "variance": ("moving_variance", "running_std", "variance"),  # the second holds the variance in spite of its name
    "weight": ("concat_score_weight",),
}


class Weights:
    """The layers and tensors of a file by the names of the layers."""

    def __init__(self, findings: Findings) -> None:
        self.file: ModelFile = findings.file
        self.version = self.file.metadata.get("keras_version", "")
        self._findings = findings
        self._stored = {layer.name: layer for layer in self.file.layers}

    def stored(self, place: Place) -> StoredLayer:
        """The layer of the file: by its name, or, in a model that is shared, where the file has its weights."""
        own = self._stored.get(place.name)
        if own is not None and own.tensors:
            return own
        last = [
            layer for name, layer in self._stored.items() if name.split("/")[-1] == place.names[-1] and layer.tensors
        ]
        same = [layer for layer in last if _unmarked(layer.options) == _unmarked(place.options)]
        if len(same) == 1:
            return same[0]
        if own is None:
            raise refused(place, "is not in the file; save the model again")
        return own

    def reading(self, place: Place) -> tuple[Reading, tuple[str, ...]]:
        """What was recognised in a recurrent or dense layer, and the tensors that it takes."""
        name = self.stored(place).name
        layer = next((layer for layer in self._findings.layers if layer.name == name), None)
        if layer is None:
            raise refused(place, "has no weights in the file; give a file with them")
        if layer.refused:
            raise UnsupportedError(layer.refused)
        if len(layer.readings) != 1:
            raise refused(
                place, f"may be one of {len(layer.readings)} layers, which the file does not decide; choose one"
            )
        return layer.readings[0], layer.tensors

    def features(self, place: Place) -> int:
        """The last axis of a layer's first tensor; 1 for a layer that has none."""
        tensors = self._stored[place.name].tensors if place.name in self._stored else {}
        shape = next((self.file.tensors[name].shape for name in tensors.values()), ())
        return shape[-1] if shape else 1

    def named(self, place: Place, names: list[str]) -> dict[str, str]:
        """The names of the file's tensors for a layer's weights, which are in this order where they are only numbered."""
        layer = self.stored(place)
        last = {key.split("/")[-1]: tensor for key, tensor in layer.tensors.items()}
        if all(key.isdecimal() for key in last):
            found = dict(zip(names, [last[key] for key in sorted(last, key=int)], strict=False))
        else:
            found = {name: last[key] for name in names for key in _NAMES.get(name, (name,)) if key in last}
        if len(found) != len(names) or len(found) != len(layer.tensors):
            wanted = " and ".join(names) or "no weights"
            raise refused(
                place, f"must have {wanted}, and has {', '.join(layer.tensors) or 'none'}; save the model again"
            )
        return found

    def parted(self, place: Place, names: list[str]) -> dict[str, str]:
        """The same for a layer that holds layers, whose weights are in this order where they are only numbered.

        Args:
            place: the layer.
            names: ``part_kernel`` and ``part_bias``, part by part.
        """
        layer = self.stored(place)
        if all(key.split("/")[-2:-1] == ["vars"] and key.count("/") == 1 for key in layer.tensors):
            found = dict(zip(names, sorted(layer.tensors, key=lambda key: int(key.split("/")[-1])), strict=False))
        else:
            found = {name: key for name in names for key in layer.tensors if _is_part(key, *name.rsplit("_", 1))}
        if len(found) != len(names) or len(set(found.values())) != len(layer.tensors):
            raise refused(
                place,
                f"must have {', '.join(names)}, and has {', '.join(layer.tensors) or 'none'}; save the model again",
            )
        return {name: layer.tensors[key] for name, key in found.items()}


def _is_part(key: str, part: str, what: str) -> bool:
    """Whether a weight is that of a part of a layer: Keras 3 calls it ``query_dense/vars/0``, Keras 2 ``query/kernel``."""
    *_, holder, last = ("", *key.replace("/vars/", "/").split("/"))
    holders = (part, f"{part}_dense", f"_{part}_dense", f"attention_{part}")
    return holder in holders and last in (what, {"kernel": "0", "bias": "1"}[what])


def _unmarked(value: Any) -> Any:
    """A configuration without the marks by which Keras tells which of its objects are one."""
    if isinstance(value, Mapping):
        return {name: _unmarked(each) for name, each in value.items() if name != "shared_object_id"}
    return [_unmarked(each) for each in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Arrays:
    """The arrays of a step: those in the file, each in the shape that the kind asks for, and constants for what is absent."""

    file: ModelFile
    tensors: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, float]

    def __call__(self) -> dict[str, np.ndarray]:
        import numpy as np

        from xframe.packing import checked

        found = {name: np.full(self.shapes[name], value, np.float32) for name, value in self.constants.items()}
        for name, tensor in self.tensors.items():
            array = self.file.tensors[tensor].read().reshape(self.shapes[name])
            found[name] = checked(array, self.shapes[name], tensor)
        return {name: found[name] for name in self.shapes}
