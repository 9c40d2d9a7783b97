"""What was recognised in a model file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from xframe.errors import SpecError
from xframe.files.base import ModelFile
from xframe.layout import Key, Packing
from xframe.spec import Layer

if TYPE_CHECKING:
    import numpy as np

    from xframe.packing import Parameters

__all__ = ["Findings", "FoundLayer", "Other", "Reading"]


@dataclass(frozen=True)
class Reading:
    """One way to understand some tensors of a file: as the weights of this layer, packed in this way.

    Attributes:
        packing: how they are packed.
        spec: the layer.
        tensors: native names, as ``packing.natives(spec)`` has them, and the names of the tensors in the file.
        evidence: sentences: what speaks for this reading, and what in it the file does not say.
        open: the options of the spec that the file does not say; they have the framework's defaults.
        forget_bias: what the framework adds to the bias of an LSTM's forget gate when it runs, so that it is in no tensor.
    """

    packing: Packing
    spec: Layer
    tensors: Mapping[str, str]
    evidence: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    forget_bias: float = 0.0

    def described(self, spec: Layer) -> Reading:
        """The same tensors as those of a layer that differs in nothing but options, on which native names may depend."""
        natives = zip(self.packing.natives(self.spec), self.packing.natives(spec), strict=True)
        return replace(self, spec=spec, tensors={new.name: self.tensors[old.name] for old, new in natives})

    def arrays(self, file: ModelFile) -> Mapping[str, np.ndarray]:
        """The native arrays by native name, each read from the file when it is looked up, not before."""
        return _Arrays(file, self.tensors)

    def parameters(self, file: ModelFile) -> Parameters:
        """The canonical parameters, the forget bias that the framework adds included.

        Raises:
            FileError: a tensor cannot be read.
            LayoutError: a tensor is not of a float type, or not finite.
        """
        from xframe.packing import Blocks, Parameters  # recognising needs no NumPy

        # Views of arrays that nobody else holds.
        found = Parameters(self.spec, dict(Blocks(self.packing, self.spec, dict(self.arrays(file)))))
        if not self.forget_bias:
            return found
        biases = [key for key in found if key[2:] == Key(0, 0, "bias", "f")[2:]]
        return found.replaced({key: found[key] + found[key].dtype.type(self.forget_bias) for key in biases})

    def blocks(self, file: ModelFile) -> Mapping[Key, np.ndarray]:
        """The same, but each tensor is read when a block of it is asked for, and one is held at a time."""
        from xframe.packing import Blocks

        return self.parameters(file) if self.forget_bias else Blocks(self.packing, self.spec, self.arrays(file))


@dataclass(frozen=True)
class FoundLayer:
    """A recurrent or dense layer in a file.

    Attributes:
        name: the file's name for it.
        readings: best first. More than one: the file alone does not decide. None: see ``refused``.
        tensors: the names of all tensors that it takes.
        warnings: sentences on what the user should know before he uses it.
        refused: why it cannot be understood as a layer that is modelled, in one sentence; else empty.
        computes: the float type in which it computes, where the file says that; else empty, and it is that of its tensors.
        table: whether its one matrix may as well be a table that is looked up, that of an Embedding.
    """

    name: str
    readings: tuple[Reading, ...]
    tensors: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    refused: str = ""
    computes: str = ""
    table: bool = False

    @property
    def undecided(self) -> tuple[str, ...]:
        """The options in which the readings differ: what the user has to choose."""
        if len(self.readings) < 2:
            return ()
        packings = {reading.packing.name for reading in self.readings}
        options = [{"cell": one.spec.cell, **one.spec.options()} for one in self.readings]
        differ = [name for name in options[0] if any(one.get(name) != options[0][name] for one in options)]
        return (*(["packing"] if len(packings) > 1 else []), *differ)

    @property
    def choose(self) -> str:
        """How to settle which of several readings it is."""
        flags = " or ".join(f"--{name.replace('_', '-')}" for name in self.undecided)
        return f"choose with {flags}" if flags else "no option tells them apart; give its tensors the framework's names"

    def check_decided(self) -> None:
        """Refuse to go on with one of several readings.

        Raises:
            SpecError: there are several; the sentence names the option that decides.
        """
        if len(self.readings) < 2:
            return
        named = "packing" in self.undecided
        readings = [f"{one.spec}{f', packing {one.packing.name}' if named else ''}" for one in self.readings]
        raise SpecError(
            f"The file does not decide which of {len(readings)} layers {self.name!r} is: "
            f"{', or '.join(dict.fromkeys(readings))}; {self.choose}."
        )


@dataclass(frozen=True)
class Other:
    """A layer that is neither recurrent nor dense: its name, its kind, and its tensors by the layer's names for them."""

    name: str
    kind: str
    tensors: Mapping[str, str]


@dataclass(frozen=True)
class Findings:
    """All that was recognised in a file.

    Each tensor is in a layer, in one of the others, among the settings, or unconsumed; only layers may share one.

    Attributes:
        file: the file.
        layers: the recurrent and dense layers, in the order of the file.
        others: layers that are recognised by their kind.
        unconsumed: names of tensors that nothing explains.
        warnings: sentences on the file as a whole.
        opaque: what the file runs besides its layers, one phrase each: operations that compute something and are no part of a
            layer that was recognised. Empty where the file does not say what it runs.
        settings: names of tensors that only tell a graph how to hand the numbers of its layers on, as axes and sizes do.
    """

    file: ModelFile
    layers: tuple[FoundLayer, ...]
    others: tuple[Other, ...] = ()
    unconsumed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())
    opaque: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    @cached_property
    def obstacles(self) -> tuple[str, ...]:
        """All that stands in the way of converting the file whole; nothing where it converts."""
        from xframe.convertible import whole_graph  # which recognises, and needs NumPy

        return whole_graph(self)[1]


class _Arrays(Mapping[str, "np.ndarray"]):
    """Tensors of a file by other names, read when they are looked up."""

    def __init__(self, file: ModelFile, names: Mapping[str, str]) -> None:
        self._file, self._names = file, names

    def __getitem__(self, name: str) -> np.ndarray:
        return self._file.tensors[self._names[name]].read()

    def __contains__(self, name: object) -> bool:
        return name in self._names  # which reads nothing

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
