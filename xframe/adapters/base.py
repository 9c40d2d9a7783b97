"""The contract between xframe and a framework."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from xframe.errors import LayoutError, MissingFrameworkError, SpecError, UnsupportedError
from xframe.layout import Packing
from xframe.spec import Layer

if TYPE_CHECKING:
    import numpy as np

    from xframe.packing import Parameters
    from xframe.reference import Outputs

__all__ = [
    "DTYPES",
    "FLOATS",
    "Adapter",
    "Isolated",
    "Setting",
    "Variant",
    "check_dtype",
    "check_mask_kind",
    "first_of",
    "on_off",
    "one_dtype",
    "variable",
]

# The float types that a comparison judges unless told otherwise, and all that layers may have. NumPy has no bfloat16: arrays
# of that type cross the boundary as float32, which holds every one of its numbers.
DTYPES = ("float64", "float32")
FLOATS = (*DTYPES, "float16", "bfloat16")


class Setting(NamedTuple):
    """What can change a number: what it is called, what it is set to here, and what it does to the numbers."""

    name: str
    value: str
    effect: str


class Variant(NamedTuple):
    """A way to run a framework that is fixed for a whole process.

    Attributes:
        title: what people call it, ``Keras on JAX``.
        requires: modules that must be importable besides the framework's own.
        environment: variables that the process begins with.
    """

    title: str
    requires: tuple[str, ...]
    environment: Mapping[str, str]


class Adapter(ABC):
    """One framework. The constructor imports it; nothing else does.

    Arrays that cross this boundary are NumPy, batch first: x is (batch, time, features) for a recurrent layer,
    (batch, features) for a dense one; states are by name, each (layers, directions, batch, size); masks are (batch, time),
    bool, True at valid steps.

    Attributes:
        packing: the framework's name and layout tables, usable without it.
        requires: the modules that must be importable.
        roots: the top-level modules whose classes are its layers.
        extra: the extra of xframe that installs it, where that has not the adapter's name.
        usual: whether it is compared when no framework is named.
        variants: by name, ways to run it that need a process of their own each; see `xframe.isolation`.
        shares: whether `write` may be given views of the source's own memory: it copies them at once, in any order.
    """

    packing: Packing
    requires: tuple[str, ...]
    roots: ClassVar[tuple[str, ...]]
    extra: ClassVar[str] = ""
    usual: ClassVar[bool] = False
    variants: ClassVar[Mapping[str, Variant]] = {}
    shares: ClassVar[bool] = False

    def __init__(self) -> None:
        if missing := self.missing():
            raise MissingFrameworkError(
                f"{self.packing.title} was asked for, but {' and '.join(missing)} cannot be found; "
                f"install it with: pip install 'xframe[{self.extra or self.packing.name}]'."
            )

    def _import(self, module: str) -> Any:
        """Import a framework; one that is installed but broken is reported, not skipped."""
        try:
            return import_module(module)
        except Exception as error:
            raise MissingFrameworkError(
                f"{self.packing.title} is installed but cannot be loaded ({type(error).__name__}: {error}); "
                f"reinstall it with: pip install --force-reinstall {' '.join(self.requires)}."
            ) from error

    @classmethod
    def missing(cls) -> list[str]:
        """Required modules that are not installed."""
        return [name for name in cls.requires if find_spec(name) is None]

    @classmethod
    def owns(cls, layer: object) -> bool:
        """Whether a layer is of this framework (its class, or a class that it derives from)."""
        return any(c.__module__.split(".")[0] in cls.roots for c in type(layer).__mro__)

    @property
    def name(self) -> str:
        """Short name, ``torch``."""
        return self.packing.name

    @property
    def title(self) -> str:
        """Name for people, ``PyTorch``."""
        return self.packing.title

    @property
    def layouts(self) -> Mapping[str, Any]:
        """The layout rows by cell."""
        return self.packing.rows

    def packing_of(self, layer: Any) -> Packing:
        """How this very layer stores its numbers: `packing`, but where a framework has several layers of one function."""
        return self.packing

    def lacks(self, spec: Layer, dtype: str) -> str:
        """Why such a layer cannot be run in a float type of `FLOATS`, as a sentence; nothing if it can.

        It may well be built and read in it. What says so is left out of a comparison in that type, and the report says why.
        """
        return ""

    def coarse(self, spec: Layer, dtype: str) -> frozenset[str]:
        """The activations that it computes in such a layer by way of a sigmoid, so that small values are as inexact as 1 is.

        What it puts out is judged by a rounding noise that allows for that (`xframe.noise`), and `remark` should say so.
        """
        return frozenset()

    def remark(self, spec: Layer, dtype: str) -> str:
        """What a report should say of how such a layer is run in a float type, as a sentence; nothing if it goes without."""
        return ""

    @abstractmethod
    def version(self) -> str:
        """The framework's version, for reports."""

    @abstractmethod
    def build(self, spec: Layer, dtype: str = "float32") -> Any:
        """A native layer with the framework's own initial weights.

        Raises:
            UnsupportedError: the framework has no such layer.
        """

    def blank(self, spec: Layer, dtype: str) -> Any:
        """A native layer whose weights will be overwritten: as `build`, but the initial ones need not be drawn."""
        return self.build(spec, dtype)

    @abstractmethod
    def spec(self, layer: Any, mask: str | None = None) -> Layer:
        """What a native layer is.

        Args:
            layer: the layer.
            mask: which masks it will be given, as of `Recurrent`; the spec then says what the layer does with them. None
                for none, unless the layer makes a mask itself.

        Raises:
            UnsupportedError: its class or an option is not modelled, or it takes no such masks; the sentence says so.
            SpecError: it is not built yet, or ``mask`` is something else.
        """

    def bare(self, layer: Any, mask: str | None = None) -> Layer:
        """What a native layer is by its parameters alone: as `spec`, but a dense layer without its activation.

        In other frameworks, and in what a user writes himself, that is a step by itself; here it may be any function.
        """
        return self.spec(layer, mask)

    @abstractmethod
    def dtype(self, layer: Any) -> str:
        """The float type of its weights and arithmetic."""

    def types(self, layer: Any) -> tuple[str, str]:
        """The float types of its weights and of its arithmetic: one, but where a framework has layers that mix two.

        Those are read and compared by their numbers, and not run, moved or copied by themselves.
        """
        dtype = self.dtype(layer)
        return dtype, dtype

    @abstractmethod
    def clone(self, layer: Any, dtype: str) -> Any:
        """An independent layer with the same configuration and weights in another float type.

        Weights are copied by name. Nothing else is changed: neither the layer nor a global random state. What the user has
        changed of the object itself (hooks, methods of its own) need not be in it; `xframe.judging.copied` looks for that.
        """

    @abstractmethod
    def read(self, layer: Any) -> Mapping[str, np.ndarray]:
        """Native arrays by native name. Each is made, or viewed, when it is looked up, not before."""

    @abstractmethod
    def write(self, layer: Any, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
        """Set native arrays by native name, one at a time as they come."""

    @abstractmethod
    def run(
        self,
        layer: Any,
        x: np.ndarray,
        state: Mapping[str, np.ndarray] | None = None,
        mask: np.ndarray | None = None,
    ) -> Outputs:
        """Every output of the layer at inference: sequence, last and final states.

        Without ``state`` it begins with zero states, or, if it is stateful, in those in which its last call ended.

        Raises:
            SpecError: x, a state or the mask has the wrong names, shape or type.
            UnsupportedError: the layer cannot take such a mask.
        """

    def reset(self, layer: Any) -> None:  # noqa: B027, only frameworks with stateful layers have something to do
        """Set the states that a stateful layer keeps to zero."""

    @contextmanager
    def undisturbed(self, layer: Any) -> Iterator[None]:
        """Let a stateful layer have its states back after what is done with it here."""
        yield

    def tensor_cores(self, layer: Any) -> bool:
        """Whether it runs a layer where factors of products may be rounded to TF32: on a GPU."""
        return False

    def masking_value(self, layer: Any) -> float | None:
        """The number that masks a time step of which all features are equal to it; None if the layer makes no mask itself."""
        return None

    def reads(self, layer: Any) -> str:
        """In which order a layer reads its axes, and by which option; nothing if it is (batch, time, features)."""
        return ""

    def returns(self, layer: Any) -> str:
        """What a layer hands back of its outputs, and by which option; nothing if it is the whole sequence."""
        return ""

    def built_for(self, layer: Any) -> tuple[int | None, int | None]:
        """How many rows and time steps a layer is built for, which reads no others; None for any number."""
        return None, None

    @abstractmethod
    def layers(self, model: Any) -> Iterator[tuple[str, Any]]:
        """The layers with weights of their own that a model is made of, by the names that the model gives them.

        A layer that `spec` understands as a whole is not taken apart; a single layer has the name ``""``.
        """

    @abstractmethod
    def tensors(self, layer: Any) -> Mapping[str, Callable[[], np.ndarray]]:
        """What gives the numbers of a layer of any kind, by the names that it has for them."""

    def tensor_types(self, layer: Any) -> Mapping[str, str]:
        """The float types of what `tensors` gives as they are stored, by the same names, where they are known."""
        try:
            return dict.fromkeys(self.tensors(layer), self.dtype(layer))
        except UnsupportedError:  # it is of several, or of none that is known
            return {}

    def is_model(self, model: Any) -> bool:
        """Whether it says what runs after what, and does not only hold layers."""
        return not isinstance(model, list | tuple)

    def check_runs(self, model: Any) -> None:
        """UnsupportedError, with the reason, unless `call` can run this model as it is."""
        raise UnsupportedError(f"xframe does not run whole models of {self.title} yet.")

    def model_dtypes(self, model: Any) -> Mapping[str, str]:
        """The float types of a whole model's numbers and arithmetic, each by what has it: ``layer/tensor``, or a layer."""
        raise NotImplementedError

    def calls(self, model: Any, inputs: Iterable[np.ndarray], seed: int = 0) -> Iterator[Mapping[str, np.ndarray]]:
        """Every output of a whole model at inference, as it is and by its own call, on one input after the other.

        It begins with zero states, and nothing is reset between the calls. Its mode, its states and the random numbers of the
        framework are what they were afterwards.

        Args:
            model: one that `check_runs` does not refuse.
            inputs: each (batch, ...), of floats, which become the model's type, or of whole numbers.
            seed: of the random numbers that it draws, where the framework lets them be told; else they are others each time.

        Returns:
            What it puts out at each call, by the way to each part: ``output``, ``output[0]``, ``output['y']``.
        """
        raise NotImplementedError

    def mode(self, model: Any) -> str:
        """A sentence without its full stop where a model is in another mode than that of inference, in which it is run."""
        return ""

    def settings(self) -> Iterator[Setting]:
        """What the framework is set to in this process, as far as that changes numbers."""
        yield from ()

    def plain_layers(self) -> Mapping[str, Any]:
        """A layer of each of the framework's classes, made with nothing but its sizes: `spec` then tells the defaults.

        By the name that people call the class by.
        """
        return {}

    def functions(self) -> Mapping[str, Callable[[np.ndarray], np.ndarray]]:
        """The framework's activation functions, by the names of `xframe.activations`, of float64 arrays (batch, units)."""
        return {}

    def parameters(self, layer: Any) -> Parameters:
        """A snapshot of the layer's canonical parameters.

        Raises:
            LayoutError: a weight is not finite.
            UnsupportedError, SpecError: see `spec`.
        """
        from xframe.packing import unpack

        spec = self.bare(layer)
        self.types(layer)  # refuses what NumPy has no type for
        return unpack(self.packing_of(layer), spec, self.read(layer))

    def load(self, layer: Any, blocks: Mapping[Any, np.ndarray]) -> None:
        """Write canonical parameters into a layer; all are checked before the first is written.

        Raises:
            LayoutError: blocks of another layer, wrong shapes, not finite, or too large for the layer's dtype; or the
                layer has other tensors than such a layer should have.
            UnsupportedError: the framework has no place for a non-zero block.
        """
        from xframe.packing import check_names, pack, refuse_overflow, validated

        spec, dtype, packing = self.bare(layer), self.dtype(layer), self.packing_of(layer)
        natives, held = packing.natives(spec), self.read(layer)
        check_names(natives, held, self.title)
        for native in natives:
            if held[native.name].shape != native.shape:
                raise LayoutError(f"{native.name} takes {held[native.name].shape}, not {native.shape}.")
        refuse_overflow(packing, spec, validated(spec, blocks), dtype)
        # NumPy has no bfloat16: the framework rounds as it is written to.
        narrow = "float32" if dtype == "bfloat16" else dtype
        self.write(layer, pack(packing, spec, blocks, narrow, self.shares))

    def build_loaded(self, spec: Layer, blocks: Mapping[Any, np.ndarray], dtype: str) -> Any:
        """A new layer with given canonical parameters."""
        layer = self.blank(spec, dtype)
        self.load(layer, blocks)
        return layer


class Isolated:
    """A native layer that lives in the process of its adapter; here it only has a number.

    Attributes:
        adapter: of which it is a layer, and which alone can do something with it.
    """

    def __init__(self, adapter: Adapter, process: object, number: int) -> None:
        self.adapter, self.process, self.number = adapter, process, number


def variable(name: str, effect: str) -> Setting:
    """The setting that a variable of the process's environment is."""
    return Setting(name, os.environ.get(name, "not set"), effect)


def on_off(value: object) -> str:
    """How a setting says yes or no."""
    return "on" if value else "off"


def check_dtype(dtype: str) -> str:
    """A float type that layers can be built in, else SpecError."""
    if dtype not in FLOATS:
        raise SpecError(f"dtype must be {' or '.join(FLOATS)}, not {dtype!r}.")
    return dtype


def check_mask_kind(mask: str | None) -> None:
    """SpecError unless this says which masks a layer will be given."""
    if mask not in (None, "right", "any"):
        raise SpecError(f"mask must be 'right', 'any' or None, not {mask!r}.")


def first_of(layer: object) -> object:
    """The first thing in lists in lists: a framework without layers of its own has lists of cells for them."""
    for _ in range(3):  # layers, directions, and what they are made of
        if isinstance(layer, list | tuple) and layer:
            layer = layer[0]
    return layer


def one_dtype(kinds: set[str], layer: str) -> str:
    """The one float type of a layer's weights and arithmetic, else UnsupportedError; ``layer`` begins the sentence."""
    if len(kinds) != 1 or not kinds <= set(FLOATS):
        raise UnsupportedError(
            f"{layer} is of type {' and '.join(sorted(kinds))}, which is not modelled; build it in {' or '.join(FLOATS)}."
        )
    return kinds.pop()
