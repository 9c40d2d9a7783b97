"""What the adapters of Flax and Equinox share: float types, the one loop over layers and directions, and its masks: none.

JAX has float64 only where it is switched on, for a process or a thread. A user's own JAX code must not notice that a layer of his
is compared in float64, so it is switched on around each call for a layer of that type and for nothing else. What runs a layer is
one pure function for each adapter, compiled by JAX once for each structure and shape, however many layers have it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from xframe import backends
from xframe.adapters.base import Adapter, Setting, check_dtype, check_mask_kind, first_of, one_dtype
from xframe.cells import get_cell
from xframe.errors import LayoutError, SpecError, UnsupportedError
from xframe.layout import places, states
from xframe.spec import Dense, Layer, Recurrent, same_cell

if TYPE_CHECKING:
    import numpy as np

    from xframe.reference import Outputs

__all__ = ["FUNCTIONS", "NO_OPTIONS", "PARTIAL", "JaxAdapter", "Slot", "initial_type", "stacked"]

# What no layer of these libraries has. An option that a layout row does not name would be free.
NO_OPTIONS: dict[str, tuple[Any, ...]] = {
    "proj_size": (0,),
    "mask": (None,),
    "stateful": (False,),
    "input_dropout": (0.0,),
    "recurrent_dropout": (0.0,),
    "dropout": (0.0,),
}


# JAX's functions by the names of `xframe.activations`: all that compute the same. Those that do with other parameters than their
# own defaults (JAX's leaky_relu has the slope 0.01, and its gelu is an approximation with tanh) are given as partial functions.
FUNCTIONS = {
    **{
        name: f"nn.{name}"
        for name in "sigmoid relu hard_sigmoid relu6 elu selu celu silu mish softplus squareplus".split()
    },
    **{name: f"nn.{name}" for name in "log_sigmoid hard_tanh hard_silu sparse_plus sparse_sigmoid softmax".split()},
    "log_softmax": "nn.log_softmax",
    "softsign": "nn.soft_sign",
    "linear": "nn.identity",
    "tanh": "numpy.tanh",
    "exponential": "numpy.exp",
}
PARTIAL: dict[str, tuple[str, dict[str, Any]]] = {
    "leaky_relu": ("nn.leaky_relu", {"negative_slope": 0.2}),
    "gelu": ("nn.gelu", {"approximate": False}),
}


class Slot(NamedTuple):
    """Where one native array of a layer is kept: how it is had, how another one is put there, and a name for the place."""

    get: Callable[[], Any]
    put: Callable[[Any], None]
    home: str = ""


def stacked(levels: Sequence[Sequence[Recurrent]], title: str) -> Recurrent:
    """The spec of a layer from those of its cells, one sequence of one or two directions for each layer.

    Raises:
        UnsupportedError: the cells do not make one layer; the sentence begins with ``title``.
    """
    first, ways = levels[0][0], len(levels[0])
    size = first.input_size
    for k, level in enumerate(levels):
        if len(level) != ways:
            raise UnsupportedError(f"{title} mixes layers of one direction with layers of two; make them alike.")
        for one in level:
            if one.input_size != size:
                raise UnsupportedError(
                    f"Layer {k} of {title} ({one}) does not fit: it is given {size:,} features; mend the sizes."
                )
            if (not same_cell(one, first) and (k or len(levels) > 1)) or one.go_backwards != first.go_backwards:
                raise UnsupportedError(
                    f"Layer {k} of {title} ({one}) is not of one kind with layer 0 ({first}); compare the layers one by one."
                )
        size = sum(one.hidden_size for one in level)
    if ways == 1:
        return replace(first, num_layers=len(levels))
    other = levels[0][1]
    return replace(
        first, num_layers=len(levels), bidirectional=True, backward=None if same_cell(first, other) else other
    )


class JaxAdapter(Adapter):
    """An adapter of a library of layers on JAX.

    A subclass says what a layer is made of (`_slots`, `_spec`) and how one level of it is run (`_level`, `_dense`).
    """

    masked: str
    library: str

    def __init__(self) -> None:
        super().__init__()
        self._jax = self._import("jax")
        self._jnp = self._jax.numpy
        self._library = self._import(self.library)
        self._functions = {name: self._found(path) for name, path in FUNCTIONS.items()}
        self._functions |= {name: partial(self._found(path), **options) for name, (path, options) in PARTIAL.items()}

    def _found(self, path: str) -> Any:
        home, name = path.split(".")
        return getattr(getattr(self._jax, home), name)

    @classmethod
    def owns(cls, layer: object) -> bool:
        return super().owns(first_of(layer))

    def version(self) -> str:
        return f"{self._library.__version__} on jax {self._jax.__version__}"

    # ---- What a layer is.

    @abstractmethod
    def _spec(self, layer: Any) -> Layer:
        """What a layer is."""

    @abstractmethod
    def _slots(self, layer: Any) -> Iterator[tuple[int, int, str, Slot]]:
        """Every array of a layer: its level, its direction, its name in the cell, its place."""

    def spec(self, layer: Any, mask: str | None = None) -> Layer:
        check_mask_kind(mask)
        found = self._spec(layer)
        if mask is not None:
            self._refuse_mask(found)
        return found

    def _refuse_mask(self, spec: Layer) -> None:
        if isinstance(spec, Dense):
            raise UnsupportedError(f"{self.packing.layout(spec).layer} is dense and takes no mask; leave the mask out.")
        raise UnsupportedError(f"{self.title} takes no mask: {self.masked}; leave the mask out.")

    def _declared(self, layer: Any) -> Iterator[Any]:
        """The types that a layer says it computes in, beside those of its arrays; None where it says nothing."""
        yield from ()

    def tensor_cores(self, layer: Any) -> bool:
        return bool(self._jax.default_backend() == "gpu")

    def dtype(self, layer: Any) -> str:
        kinds = {str(slot.get().dtype) for slot in self._named(layer).values()}
        kinds |= {str(self._jnp.dtype(kind)) for kind in self._declared(layer) if kind is not None}
        return one_dtype(kinds, f"This layer of {self.title}")

    def _named(self, layer: Any) -> dict[str, Slot]:
        """Every array of a layer by its native name, in the order of the layout."""
        spec, packing = self.spec(layer), self.packing_of(layer)
        found = {packing.naming(spec, k, d, name): slot for k, d, name, slot in self._slots(layer)}
        for name, slot in found.items():
            if not hasattr(slot.get(), "__array__"):
                raise SpecError(f"{name} is a {type(slot.get()).__name__} and holds no numbers; give an array.")
        wanted = [native.name for native in packing.natives(spec) if native.name in found]
        return {name: found[name] for name in [*wanted, *(name for name in found if name not in wanted)]}

    # ---- Arrays.

    def _wide(self, dtype: str) -> AbstractContextManager[Any]:
        """Let this thread's JAX have float64 where a layer needs it, and be as it is set to elsewhere."""
        if dtype != "float64":
            return nullcontext()
        # Since JAX 0.8; before that it was experimental.
        home = self._jax if hasattr(self._jax, "enable_x64") else self._import("jax.experimental")
        return home.enable_x64(True)

    def _tensor(self, array: Any, dtype: str) -> Any:
        """An array of JAX's; NumPy casts it, which compiles nothing."""
        import numpy as np

        return self._jnp.asarray(np.asarray(array).astype(self._jnp.dtype(dtype)))

    def _array(self, tensor: Any) -> np.ndarray:
        """An array's numbers; those of bfloat16 in float32, because NumPy has no such type."""
        import numpy as np

        found = np.asarray(tensor)
        return found.astype(np.float32) if found.dtype.name == "bfloat16" else found

    def read(self, layer: Any) -> Mapping[str, np.ndarray]:
        return _Read(self._named(layer), self._array)

    def write(self, layer: Any, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
        named, dtype = self._named(layer), self.dtype(layer)
        with self._wide(dtype):
            for name, array in arrays:
                shape = tuple(named[name].get().shape)
                if shape != array.shape:
                    raise LayoutError(f"{name} takes {shape}, not {array.shape}.")
                named[name].put(self._tensor(array, dtype))

    # ---- Running.

    def _check_shapes(self, spec: Layer, layer: Any) -> None:
        """Refuse arrays that are not those of the layer, before JAX does in words of its own."""
        from xframe.packing import check_names

        natives, named = self.packing_of(layer).natives(spec), self._named(layer)
        check_names(natives, named, self.title)
        for native in natives:
            if (shape := tuple(named[native.name].get().shape)) != native.shape:
                raise LayoutError(f"{native.name} has shape {shape}, but this layer needs {native.shape}.")

    @abstractmethod
    def _level(
        self, layer: Any, spec: Recurrent, k: int, x: Any, carries: list[tuple[Any, ...]]
    ) -> tuple[Any, list[tuple[Any, ...]]]:
        """Level number ``k`` of a layer, which is ``spec``, on x (batch, time, features): its output, and its final states.

        States are a tuple for each direction in the order of the cell's, each (batch, size).
        """

    @abstractmethod
    def _dense(self, layer: Any, x: Any) -> Any:
        """A dense layer on x (batch, features)."""

    def run(
        self,
        layer: Any,
        x: np.ndarray,
        state: Mapping[str, np.ndarray] | None = None,
        mask: np.ndarray | None = None,
    ) -> Outputs:
        """See `Adapter.run`. The layer is run a level at a time, each compiled by itself."""
        import numpy as np

        from xframe.reference import Outputs, check_input, check_state, last_output

        spec, dtype = self.spec(layer), self.dtype(layer)
        x = check_input(spec, x)
        given = check_state(spec, state, len(x))
        if mask is not None:
            self._refuse_mask(spec)
        self._check_shapes(spec, layer)
        with self._wide(dtype):
            tensor = partial(self._tensor, dtype=dtype)
            if isinstance(spec, Dense):
                y = self._array(self._dense(layer, tensor(x)))
                return Outputs(y, y, {})
            slots, out = states(spec), tensor(x)
            final = {n: np.empty((*s.axes, len(x), s.size), self._array(out[:0]).dtype) for n, s in slots.items()}
            for k in range(spec.num_layers):
                held = [places(slots, k, d) for d in range(spec.num_directions)]
                begin = [
                    tuple(
                        tensor(given[n][at] if given else np.zeros(final[n][at].shape, np.float32)) for n, _, at in one
                    )
                    for one in held
                ]
                out, ends = self._level(layer, spec, k, out, begin)
                for one, end in zip(held, ends, strict=True):
                    for (name, _, at), value in zip(one, end, strict=True):
                        final[name][at] = self._array(value)
            return Outputs(self._array(out), last_output(spec, final), final)

    def _order(self, part: Recurrent, names: Sequence[str]) -> list[int]:
        """Where a cell has each of the states that ``names`` lists in the framework's own order."""
        own = get_cell(part.cell).states
        return [own.index(name) for name in names if name in own]

    # ---- What it is set to, and what its names mean.

    def settings(self) -> Iterator[Setting]:
        yield from backends.settings("jax")

    def _activation(self, function: Any, what: str) -> str:
        """What a function of a layer is called here; ``what`` begins the sentence that refuses another one."""
        for name, known in self._functions.items():
            if _same_function(function, known):
                return name
        called = getattr(function, "__name__", None) or repr(function)
        raise UnsupportedError(
            f"{what}={called} is not modelled, because only functions of JAX are known for what they compute; the functions are "
            f"{', '.join(f'jax.{path}' for path in FUNCTIONS.values())} with their defaults, and functools.partial of "
            + " and ".join(f"jax.{path} with {_words(options)}" for path, options in PARTIAL.values())
            + "."
        )

    def functions(self) -> Mapping[str, Callable[[np.ndarray], np.ndarray]]:
        def applied(function: Any, a: np.ndarray) -> np.ndarray:
            with self._wide("float64"):
                return self._array(function(self._tensor(a, "float64")))

        return {name: partial(applied, function) for name, function in self._functions.items()}


def _words(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


def _same_function(one: Any, other: Any) -> bool:
    """Whether these are one function, or one function with the same options set."""
    if isinstance(one, partial) and isinstance(other, partial):
        return (one.func, one.args, one.keywords) == (other.func, other.args, other.keywords)
    return one is other


def initial_type(dtype: str) -> str:
    """The type in which initial weights are drawn: JAX's orthogonal matrices have none of 16 bits."""
    return dtype if check_dtype(dtype) in ("float64", "float32") else "float32"


class _Read(Mapping[str, "np.ndarray"]):
    """Arrays of JAX's that become NumPy's when they are looked up, so that a transfer holds one at a time."""

    def __init__(self, named: Mapping[str, Slot], convert: Callable[[Any], np.ndarray]) -> None:
        self._named, self._convert = named, convert

    def __getitem__(self, name: str) -> np.ndarray:
        return self._convert(self._named[name].get())

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)
