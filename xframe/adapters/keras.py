"""Keras 3 (SimpleRNN, LSTM, GRU, Bidirectional, Dense) and the legacy cuDNN layers of Keras 1 and 2."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version as distribution_version
from typing import TYPE_CHECKING, Any

from xframe.adapters.base import Adapter, check_dtype, one_dtype
from xframe.errors import LayoutError, SpecError, UnsupportedError
from xframe.layout import Join, Layout, Leaf, Packing, Stack, Tensor, gates
from xframe.spec import Dense, Layer, Recurrent

if TYPE_CHECKING:
    import numpy as np

    from xframe.reference import Outputs

_SNAKE = {"rnn": "simple_rnn", "lstm": "lstm", "gru": "gru"}


def _layer_names(spec: Any, layer: int) -> tuple[str, str]:
    """The names that Keras gives, in a fresh process, to the wrapper and to the cell's layer number ``layer``."""
    suffix = f"_{layer}" if layer else ""
    return f"bidirectional{suffix}", _SNAKE[spec.cell] + suffix


def _name(spec: Any, layer: int, direction: int, name: str) -> str:
    if spec.cell == "dense":
        return f"dense/{name}"
    outer, inner = _layer_names(spec, layer)
    if spec.num_directions == 2:
        inner = f"{outer}/{'backward' if direction else 'forward'}_{inner}"
    return f"{inner}/{_SNAKE[spec.cell]}_cell/{name}"


def _row(order: str, layer: str, bias: Stack | Join, labels: dict[str, str] | None = None, **more: Any) -> Layout:
    """Gates end to end along the last axis, kernels (in, out)."""
    return Layout(
        (
            Tensor("kernel", gates(1, "kernel", order)),
            Tensor("recurrent_kernel", gates(1, "recurrent_kernel", order)),
            Tensor("bias", bias),
        ),
        options={"proj_size": (0,)},
        labels=labels or {},
        layer=layer,
        **more,
    )


def _cudnn(order: str, layer: str, labels: dict[str, str]) -> Layout:
    return Layout(
        (
            Tensor("kernel", gates(1, "kernel", order, "column-major")),
            Tensor("recurrent_kernel", gates(1, "recurrent_kernel", order, "transposed")),
            Tensor("bias", Join(0, (gates(0, "bias", order), gates(0, "recurrent_bias", order)))),
        ),
        options={"proj_size": (0,), "bias": (True,)},
        labels=labels,
        layer=layer,
        notes={
            "kernel": "The kernels look like those of today's layer but are not: each gate's input kernel has the memory "
            "of its transpose, and each gate's recurrent kernel is transposed.",
        },
    )


KERAS = Packing(
    "keras",
    "Keras",
    {
        "rnn": _row("h", "keras.layers.SimpleRNN", gates(0, "bias", "h")),
        "lstm": _row("ifgo", "keras.layers.LSTM", gates(0, "bias", "ifgo"), {"g": "c"}),
        "gru": _row(
            "zrn",
            "keras.layers.GRU",
            Stack((gates(0, "bias", "zrn"), gates(0, "recurrent_bias", "zrn"))),
            {"n": "h"},
            notes={"bias": "The two rows of bias are the input bias (first) and the recurrent bias (second)."},
        ),
        "gru/reset_before": _row("zrn", "keras.layers.GRU(reset_after=False)", gates(0, "bias", "zrn"), {"n": "h"}),
        "dense": Layout((Tensor("kernel", Leaf("kernel")), Tensor("bias", Leaf("bias"))), layer="keras.layers.Dense"),
    },
    naming=_name,
    why_two_biases="a reset-after GRU was added to Keras to match cuDNN's, which has two",
)

CUDNN = Packing(
    "keras-cudnn",
    "Keras 2 CuDNN",
    {
        "lstm": _cudnn("ifgo", "keras.layers.CuDNNLSTM (Keras 1 and 2)", {"g": "c"}),
        "gru": _cudnn("zrn", "keras.layers.CuDNNGRU (Keras 1 and 2)", {"n": "h"}),
    },
    why_two_biases="it holds what NVIDIA's cuDNN library reads, which has two",
)

PACKINGS = (KERAS, CUDNN)

# Options of a Keras layer that do not change what it computes at inference: how it was initialised and trained, what
# it hands back (run asks for everything), how its loop is compiled, and what the spec already says.
_FREE = frozenset(
    "name trainable dtype units use_bias activation recurrent_activation reset_after unit_forget_bias seed unroll "
    "return_sequences return_state implementation zero_output_for_mask "
    "kernel_initializer recurrent_initializer bias_initializer kernel_regularizer recurrent_regularizer "
    "bias_regularizer activity_regularizer kernel_constraint recurrent_constraint bias_constraint".split()
)
# For weights that are overwritten at once: a large orthogonal matrix takes seconds to make.
_ZEROS = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros"}
_MENDS = {
    "go_backwards": "reverse the input in time instead",
    "stateful": "build it with stateful=False and pass initial states",
    "dropout": "build it with dropout=0 to compare inference, where dropout does nothing",
    "recurrent_dropout": "build it with recurrent_dropout=0 to compare inference, where dropout does nothing",
    "merge_mode": "use merge_mode='concat'",
}


class KerasAdapter(Adapter):
    """Keras 3 on whichever backend is set."""

    packing = KERAS
    requires = ("keras",)
    roots = ("keras",)
    shares = True

    def __init__(self) -> None:
        super().__init__()
        self._keras = keras = self._import("keras")
        if int(keras.__version__.split(".")[0]) < 3:
            raise UnsupportedError(f"Keras {keras.__version__} is too old; install Keras 3.")
        layers = keras.layers
        self._cells = {layers.SimpleRNN: "rnn", layers.LSTM: "lstm", layers.GRU: "gru"}
        self._classes = {cell: kind for kind, cell in self._cells.items()}

    def version(self) -> str:
        backend = self._keras.backend.backend()
        return f"{self._keras.__version__} on {backend} {distribution_version(backend)}"

    def build(self, spec: Layer, dtype: str = "float32") -> Any:
        return self._build(spec, dtype, {})

    def blank(self, spec: Layer, dtype: str) -> Any:
        return self._build(spec, dtype, _ZEROS)

    def _build(self, spec: Layer, dtype: str, initializers: Mapping[str, str]) -> Any:
        self.packing.layout(spec)
        check_dtype(dtype)
        if isinstance(spec, Dense):
            layer = self._keras.layers.Dense(
                spec.units,
                use_bias=spec.bias,
                dtype=dtype,
                name="dense",
                **{name: zeros for name, zeros in initializers.items() if name == "kernel_initializer"},
            )
            layer.build((None, spec.input_size))
            return layer
        stack = [self._build_layer(spec, k, dtype, initializers) for k in range(spec.num_layers)]
        return self._joined(stack, spec)

    def _joined(self, stack: list[Any], spec: Layer) -> Any:
        """One layer, or a built model of several."""
        if len(stack) == 1:
            return stack[0]
        model = self._keras.Sequential(stack)
        model.build((None, None, spec.input_size))
        return model

    def _build_layer(self, spec: Recurrent, k: int, dtype: str, initializers: Mapping[str, str]) -> Any:
        outer, inner = _layer_names(spec, k)
        options: dict[str, Any] = {
            "use_bias": spec.bias,
            "activation": spec.activation,
            "dtype": dtype,
            **initializers,
        }
        if spec.recurrent_activation is not None:
            options["recurrent_activation"] = spec.recurrent_activation
        if spec.reset_after is not None:
            options["reset_after"] = spec.reset_after
        layer = self._classes[spec.cell](spec.hidden_size, return_sequences=True, name=inner, **options)
        if spec.bidirectional:
            layer = self._keras.layers.Bidirectional(layer, name=outer, dtype=dtype)
        layer.build((None, None, spec.layer_input_size(k)))
        return layer

    def spec(self, layer: Any) -> Layer:
        layers = self._stack(layer)
        if not layers:
            raise UnsupportedError(f"{_label(layer)} is empty; give one that has layers.")
        if len(layers) == 1 and type(layers[0]) is self._keras.layers.Dense:
            return self._dense_spec(layers[0])
        specs = [self._layer_spec(one) for one in layers]
        first = specs[0]
        stack = Recurrent(**{**first.options(), "num_layers": len(specs)})
        for k, one in enumerate(specs):
            if one.options() != {**first.options(), "input_size": stack.layer_input_size(k)}:
                raise UnsupportedError(
                    f"Layer {k} of the stack ({one}) is not of one kind with the first ({first}); "
                    "compare or transfer the layers one by one."
                )
        return stack

    def dtype(self, layer: Any) -> str:
        kinds = {str(one.dtype_policy.name) for one in self._stack(layer)}
        return one_dtype(kinds, _label(layer))

    def clone(self, layer: Any, dtype: str) -> Any:
        spec = self.spec(layer)
        twins = []
        for k, one in enumerate(self._stack(layer)):
            config = one.get_config()
            for part in (config, *(config[s]["config"] for s in ("layer", "backward_layer") if s in config)):
                part.update({name: zeros for name, zeros in _ZEROS.items() if name in part}, dtype=dtype)
            twin = type(one).from_config(config)
            twin.build((None, spec.input_size) if isinstance(spec, Dense) else (None, None, spec.layer_input_size(k)))
            twin.set_weights(one.get_weights())
            twins.append(twin)
        return self._joined(twins, spec)

    def read(self, layer: Any) -> Mapping[str, np.ndarray]:
        return _Lazy(self._variables(layer), self._array)

    def write(self, layer: Any, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
        variables = self._variables(layer)
        for name, array in arrays:
            if tuple(variables[name].shape) != array.shape:
                raise LayoutError(f"{name} takes {tuple(variables[name].shape)}, not {array.shape}.")
            variables[name].assign(self._copy(array, variables[name]))
            del array  # freed before the next one is made

    def run(self, layer: Any, x: np.ndarray, state: Mapping[str, np.ndarray] | None = None) -> Outputs:
        import numpy as np

        from xframe.cells import get_cell
        from xframe.reference import Outputs, check_input, check_state, last_output

        spec, dtype, numpy = self.spec(layer), self.dtype(layer), self._keras.ops.convert_to_numpy
        state = check_state(spec, state, check_input(spec, x).shape[0])

        def tensor(array: np.ndarray) -> Any:
            return self._keras.ops.convert_to_tensor(np.ascontiguousarray(array), dtype=dtype)

        if isinstance(spec, Dense):
            y = numpy(layer(tensor(x)))
            return Outputs(y, y, {})
        names = get_cell(spec.cell).states
        found: dict[str, list[list[np.ndarray]]] = {name: [] for name in names}
        sequence = tensor(x)
        for k, one in enumerate(self._stack(layer)):
            given = None
            if state is not None:
                # Keras lists the forward states, then the backward ones.
                given = [tensor(state[s][k, d]) for d in range(spec.num_directions) for s in names]
            with _everything_returned(one):
                sequence, *final = one(sequence, initial_state=given, training=False)
            for i, name in enumerate(names):
                found[name].append([numpy(f) for f in final[i :: len(names)]])
        states = {name: np.array(values) for name, values in found.items()}
        return Outputs(numpy(sequence), last_output(states["h"]), states)

    def _copy(self, array: np.ndarray, variable: Any) -> Any:
        """The array, which may be a view of another layer's memory, as a variable takes it."""
        import numpy as np

        from xframe.packing import copy

        own = np.empty(array.shape, variable.dtype)
        copy(array, own)
        return _Given(own) if self._keras.backend.backend() == "tensorflow" else own

    def _array(self, variable: Any) -> np.ndarray:
        """A variable's numbers, without a copy where the backend can do so."""
        import numpy as np

        if self._keras.backend.backend() == "tensorflow":
            return np.asarray(variable.value.read_value())  # convert_to_numpy would copy
        return np.asarray(self._keras.ops.convert_to_numpy(variable))

    def _stack(self, layer: Any) -> list[Any]:
        """The recurrent layers of a stack: a list, a Sequential, or one layer."""
        if isinstance(layer, list | tuple):
            return list(layer)
        return list(layer.layers) if type(layer) is self._keras.Sequential else [layer]

    def _variables(self, layer: Any) -> dict[str, Any]:
        """The layer's variables by the names that the layout gives them."""
        spec, found = self.spec(layer), []
        for one in self._stack(layer):
            parts = [one.forward_layer, one.backward_layer] if hasattr(one, "forward_layer") else [one]
            for part in parts:
                holder = getattr(part, "cell", part)
                names = [t.name for t in self.packing.layout(spec).tensors]
                found += [v for n in names if (v := getattr(holder, n, None)) is not None]
        natives = self.packing.natives(spec)
        stray = len(self._stack(layer)) and sum(len(one.weights) for one in self._stack(layer)) - len(found)
        if stray or len(found) != len(natives):
            raise UnsupportedError(f"{_label(layer)} has weights that {spec} does not have.")
        return {native.name: variable for native, variable in zip(natives, found, strict=True)}

    def _dense_spec(self, layer: Any) -> Dense:
        self._check_built(layer)
        config = layer.get_config()
        self._check_options(layer, config, {"lora_rank", "quantization_config"})
        if config["activation"] != "linear":
            raise UnsupportedError(
                f"activation={config['activation']!r} of the Keras layer {layer.name!r} is not modelled; "
                "compare the layer without its activation."
            )
        return Dense(int(layer.kernel.shape[0]), layer.units, bool(layer.use_bias))

    def _layer_spec(self, layer: Any) -> Recurrent:
        """The spec of one Keras layer, with one or two directions."""
        if type(layer) is self._keras.layers.Bidirectional:
            self._check_options(layer, layer.get_config(), {"layer", "backward_layer"}, merge_mode="concat")
            forward = self._cell_spec(layer.forward_layer)
            backward = self._cell_spec(layer.backward_layer, backwards=True)
            if forward != backward:
                raise UnsupportedError(
                    f"The two directions of the Keras layer {layer.name!r} differ ({forward}; {backward}); "
                    "compare or transfer them one by one."
                )
            return Recurrent(**{**forward.options(), "bidirectional": True})
        return self._cell_spec(layer)

    def _cell_spec(self, layer: Any, backwards: bool = False) -> Recurrent:
        cell = self._cells.get(type(layer))
        if cell is None:
            kind = type(layer)
            known = ", ".join(f"keras.layers.{c.__name__}" for c in self._cells)
            raise UnsupportedError(
                f"{_label(layer)} of class {kind.__module__}.{kind.__qualname__} is not modelled; the "
                f"layers are {known}, keras.layers.Bidirectional around them, a Sequential of them, "
                "and keras.layers.Dense."
            )
        self._check_built(layer)
        config = layer.get_config()
        self._check_options(
            layer, config, set(), go_backwards=backwards, stateful=False, dropout=0.0, recurrent_dropout=0.0
        )
        for option in ("activation", "recurrent_activation"):
            # A function of the user's own may bear the name of one of Keras's.
            named = getattr(self._keras.activations, str(config.get(option)), None)
            if option in config and getattr(layer, option) is not named:
                raise UnsupportedError(
                    f"{option}={getattr(layer, option)!r} of the Keras layer {layer.name!r} is not modelled; use Keras's own."
                )
        try:
            return Recurrent(
                cell,
                int(layer.cell.kernel.shape[0]),
                layer.units,
                bias=bool(layer.use_bias),
                reset_after=bool(config["reset_after"]) if cell == "gru" else None,
                activation=config["activation"],
                recurrent_activation=config.get("recurrent_activation"),
            )
        except SpecError as error:
            raise UnsupportedError(f"The Keras layer {layer.name!r} is not modelled: {error}") from None

    def _check_built(self, layer: Any) -> None:
        if not layer.built:
            raise SpecError(
                f"The Keras layer {layer.name!r} has no weights yet; call it on data, or its build method with the "
                "input's shape, first."
            )

    def _check_options(self, layer: Any, config: Mapping[str, Any], free: set[str], **required: Any) -> None:
        """Refuse by name every option that is neither known to be harmless nor at the value that is modelled."""
        for option, value in config.items():
            if option in required and value == required[option]:
                continue
            if option in _FREE or (option in free and option not in required):
                continue
            mend = _MENDS.get(option, "build it without this option")
            raise UnsupportedError(f"{option}={value!r} of the Keras layer {layer.name!r} is not modelled; {mend}.")


class _Given:
    """An array that nobody else holds. TensorFlow copies arrays, lest the owner change them, but not what gives one."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._array.astype(dtype or self._array.dtype, copy=bool(copy))


def _label(layer: Any) -> str:
    """How a sentence names a layer; a list of layers has no name."""
    return f"The Keras layer {layer.name!r}" if hasattr(layer, "name") else f"A {type(layer).__name__} of Keras layers"


class _Lazy(Mapping[str, "np.ndarray"]):
    """Variables that become arrays when they are looked up, so that a transfer holds one at a time."""

    def __init__(self, variables: Mapping[str, Any], convert: Any) -> None:
        self._variables, self._convert = variables, convert

    def __getitem__(self, name: str) -> np.ndarray:
        return self._convert(self._variables[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


@contextmanager
def _everything_returned(layer: Any) -> Iterator[None]:
    """Let a layer return its sequence and its states for once.

    This is the user's own layer, not a copy: what is judged is what he has. The three flags only choose what `call` hands
    back.
    """
    parts = [layer, *(getattr(layer, n) for n in ("forward_layer", "backward_layer") if hasattr(layer, n))]
    before = [(part, part.return_sequences, part.return_state) for part in parts]
    try:
        for part in parts:
            part.return_sequences = part.return_state = True
        yield
    finally:
        for part, sequences, state in before:
            part.return_sequences, part.return_state = sequences, state
