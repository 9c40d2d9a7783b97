"""Keras 3 (SimpleRNN, LSTM, GRU, their cells, RNN, StackedRNNCells, Bidirectional, Dense), and the cuDNN layers of Keras 1, 2."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version as distribution_version
from typing import TYPE_CHECKING, Any, NamedTuple

from xframe.activations import ACTIVATIONS, check_activation
from xframe.adapters.base import Adapter, Setting, Variant, check_dtype, check_mask_kind, one_dtype, variable
from xframe.cells import get_cell
from xframe.errors import LayoutError, SpecError, UnsupportedError
from xframe.layout import ANY, Join, Layout, Leaf, Packing, Stack, Tensor, gates, places, states
from xframe.spec import Dense, Layer, Recurrent, plural

if TYPE_CHECKING:
    import numpy as np

    from xframe.reference import Outputs

_SNAKE = {"rnn": "simple_rnn", "lstm": "lstm", "gru": "gru"}
# From so many time steps on, to compile a layer takes less time than it saves.
_LONG = 64


def _names(spec: Any, layer: int, direction: int) -> tuple[str, str, str]:
    """What Keras calls, in a fresh process, the wrapper, the layer and the cell of one place in a stack."""
    column = spec.column(direction)
    # Stacked cells are all in one layer, the first.
    number, prefix = 0 if len(column) > 1 else layer, ""
    wrapper = f"bidirectional{_suffix(number)}"
    if spec.bidirectional:
        prefix = "backward_" if direction else "forward_"
    if _has_backward_layer(spec):
        # A backward layer that is given keeps its name, and may be another of the same kind.
        prefix = "" if direction else prefix
        number = 2 * number + direction if _kind(column) == _kind(spec.column(0)) else number
    return wrapper, f"{prefix}{_kind(column)}{_suffix(number)}", _cell_name(spec, layer, direction)


def _cell_name(spec: Any, layer: int, direction: int) -> str:
    """The name of a cell, with that of the StackedRNNCells that it is in."""
    mine, column = _cell_kind(spec.part(direction, layer)), spec.column(direction)
    if _kind(column) != "rnn":
        return mine  # SimpleRNN, LSTM and GRU make their cells themselves and number none
    # Those that are made apart, and before this one. A backward layer that is not given is a copy, with the same names.
    places = [p for p in spec.places if _has_backward_layer(spec) or p[1] == direction]
    earlier = [p for p in places[: places.index((layer, direction))] if _kind(spec.column(p[1])) == "rnn"]
    name = mine + _suffix(sum(_cell_kind(spec.part(d, k)) == mine for k, d in earlier))
    if len(column) == 1:
        return name
    another = direction and _has_backward_layer(spec) and len(spec.column(0)) > 1
    return f"stacked_rnn_cells{_suffix(int(another))}/{name}"


def _suffix(number: int) -> str:
    return f"_{number}" if number else ""


def _cell_kind(part: Any) -> str:
    """A cell in Keras's names of layers."""
    return "projected_lstm_cell" if part.proj_size else f"{_SNAKE[part.cell]}_cell"


def _kind(column: Sequence[Any]) -> str:
    """The layer that runs such cells, in Keras's names of layers."""
    return "rnn" if len(column) > 1 or column[0].proj_size else _SNAKE[column[0].cell]


def _has_backward_layer(spec: Any) -> bool:
    """Whether Bidirectional must be given its backward layer; else it makes one, which reads from last to first."""
    return spec.backward is not None or (spec.bidirectional and spec.go_backwards)


def _name(spec: Any, layer: int, direction: int, name: str) -> str:
    if spec.cell == "dense":
        return f"dense/{name}"
    wrapper, inner, cell = _names(spec, layer, direction)
    if spec.form == "cell":
        return f"{cell}/{name}"
    return "/".join([*([wrapper] if spec.bidirectional else []), inner, cell, name])


def _parts_of(spec: Any) -> list[Any]:
    """What describes each cell."""
    return [spec.part(direction, layer) for layer, direction in spec.places]


def _why_ours(spec: Any) -> str:
    projected = any(getattr(part, "proj_size", 0) for part in _parts_of(spec))
    return "keras.layers.LSTM has no projection" if projected else ""


# What every recurrent layer of Keras can be told.
_OPTIONS = dict.fromkeys(
    ("activation", "recurrent_activation", "merge_mode", "go_backwards", "backward", "stacked", "form"), ANY
)


def _row(
    order: str, layer: str, bias: Stack | Join, *extra: Tensor, labels: dict[str, str] | None = None, **more: Any
) -> Layout:
    """Gates end to end along the last axis, kernels (in, out)."""
    return Layout(
        (
            Tensor("kernel", gates(1, "kernel", order)),
            Tensor("recurrent_kernel", gates(1, "recurrent_kernel", order)),
            Tensor("bias", bias),
            *extra,
        ),
        options=_OPTIONS,
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
        options={"proj_size": (0,), "bias": (True,), "merge_mode": ANY, "go_backwards": ANY},
        labels=labels,
        layer=layer,
        notes={
            "kernel": "The kernels look like those of today's layer but are not: each gate's input kernel has the memory "
            "of its transpose, and each gate's recurrent kernel is transposed.",
        },
    )


class _KerasPacking(Packing):
    """Keras's table, without what its Bidirectional does otherwise."""

    def layout(self, spec: Any) -> Layout:
        if getattr(spec, "masked_output", None) == "repeat" and spec.bidirectional:
            raise UnsupportedError(
                "Keras has no bidirectional layer with masked_output='repeat': keras.layers.Bidirectional writes zeros at "
                "masked steps; use masked_output='zero'."
            )
        row = super().layout(spec)
        stacked = isinstance(spec, Recurrent) and any(len(spec.column(d)) > 1 for d in range(spec.num_directions))
        return replace(row, layer="keras.layers.RNN(keras.layers.StackedRNNCells)") if stacked else row

    def notes(self, spec: Any) -> list[str]:
        found = super().notes(spec)
        if any("hard_sigmoid_keras2" in part.options().values() for part in _parts_of(spec)):
            found.append(
                "hard_sigmoid_keras2 is xframe.keras.hard_sigmoid_keras2, a registered function, because Keras 3 has only the "
                "hard_sigmoid of slope 1/6."
            )
        return found


KERAS = _KerasPacking(
    "keras",
    "Keras",
    {
        "rnn": _row("h", "keras.layers.SimpleRNN", gates(0, "bias", "h")),
        "lstm": _row(
            "ifgo",
            "keras.layers.LSTM",
            gates(0, "bias", "ifgo"),
            Tensor("projection", Leaf("projection")),
            labels={"g": "c"},
        ),
        "gru": _row(
            "zrn",
            "keras.layers.GRU",
            Stack((gates(0, "bias", "zrn"), gates(0, "recurrent_bias", "zrn"))),
            labels={"n": "h"},
            notes={"bias": "The two rows of bias are the input bias (first) and the recurrent bias (second)."},
        ),
        "gru/reset_before": _row(
            "zrn", "keras.layers.GRU(reset_after=False)", gates(0, "bias", "zrn"), labels={"n": "h"}
        ),
        "dense": Layout(
            (Tensor("kernel", Leaf("kernel")), Tensor("bias", Leaf("bias"))),
            options={"activation": ANY},
            layer="keras.layers.Dense",
        ),
    },
    naming=_name,
    why_two_biases="a reset-after GRU was added to Keras to match cuDNN's, which has two",
    why_ours=_why_ours,
    ours="keras.layers.RNN(xframe.keras.ProjectedLSTMCell)",
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
# it hands back (run asks for everything), how its loop is compiled, and what the spec or the walk over the parts reads.
_FREE = frozenset(
    "name trainable dtype units use_bias activation recurrent_activation reset_after unit_forget_bias seed unroll "
    "return_sequences return_state implementation zero_output_for_mask go_backwards stateful dropout recurrent_dropout "
    "proj_size cell cells layer backward_layer merge_mode mask_value rate projection_initializer "
    "kernel_initializer recurrent_initializer bias_initializer kernel_regularizer recurrent_regularizer "
    "bias_regularizer activity_regularizer kernel_constraint recurrent_constraint bias_constraint".split()
)
# For weights that are overwritten at once: a large orthogonal matrix takes seconds to make.
_ZEROS = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros"}
# What a copy has no use for: how weights begin, and what acts in training. These may be objects of the user's own.
_LEFT_OUT: dict[str, Any] = {
    **_ZEROS,
    **dict.fromkeys(("bias_initializer", "projection_initializer"), "zeros"),
    **dict.fromkeys(f"{part}_regularizer" for part in ("kernel", "recurrent", "bias", "activity")),
    **dict.fromkeys(f"{part}_constraint" for part in ("kernel", "recurrent", "bias")),
}


class _Chain(NamedTuple):
    """The native layers of a stack, taken apart.

    Attributes:
        masking: the keras.layers.Masking in front, or None.
        layers: the recurrent layers, or one dense layer or one cell.
        gaps: between each two of them, the keras.layers.Dropout, or None.
    """

    masking: Any
    layers: list[Any]
    gaps: list[Any]

    @property
    def all(self) -> list[Any]:
        """Every layer in order."""
        inner = [one for pair in zip(self.layers[1:], self.gaps, strict=True) for one in pair[::-1]]
        return [one for one in (self.masking, *self.layers[:1], *inner) if one is not None]


class KerasAdapter(Adapter):
    """Keras 3 on whichever backend is set."""

    packing = KERAS
    requires = ("keras",)
    roots = ("keras",)
    usual = True
    variants = {  # noqa: RUF012, declared by the base class
        "tensorflow": Variant("Keras on TensorFlow", ("tensorflow",), {"KERAS_BACKEND": "tensorflow"}),
        "jax": Variant("Keras on JAX", ("jax",), {"KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1"}),
        "torch": Variant("Keras on PyTorch", ("torch",), {"KERAS_BACKEND": "torch"}),
    }
    shares = True

    def __init__(self) -> None:
        super().__init__()
        self._keras = keras = self._import("keras")
        if int(keras.__version__.split(".")[0]) < 3:
            raise UnsupportedError(f"Keras {keras.__version__} is too old; install Keras 3.")
        self._ours = self._import("xframe.keras")  # which imports Keras
        layers = keras.layers
        self._layers = {layers.SimpleRNN: "rnn", layers.LSTM: "lstm", layers.GRU: "gru"}
        self._cells = {
            layers.SimpleRNNCell: "rnn",
            layers.LSTMCell: "lstm",
            layers.GRUCell: "gru",
            self._ours.ProjectedLSTMCell: "lstm",
        }
        functions = (keras.activations, self._ours)
        self._activations = {
            name: function
            for name in [*ACTIVATIONS, "glu", "threshold"]
            for module in functions
            if (function := getattr(module, name, None)) is not None
        }

    def version(self) -> str:
        backend = self._keras.backend.backend()
        return f"{self._keras.__version__} on {backend} {distribution_version(backend)}"

    def lacks(self, spec: Layer, dtype: str) -> str:
        if dtype != "float64" or self._keras.backend.result_type("float64", "float64") == "float64":
            return ""
        return (
            f"Keras {self._keras.__version__} has no float64 on {self._keras.backend.backend()}: it takes the product of two "
            "float64 numbers for a float32 one (keras.backend.result_type); use float32."
        )

    # ---- What it is set to, and what its names mean.

    def settings(self) -> Iterator[Setting]:
        from xframe import backends

        backend, config = self._keras.backend.backend(), self._keras.config
        mixed = "of layers that are given none; mixed: weights of float32, arithmetic of 16 bits"
        yield Setting("backend", backend, "the library that computes: other kernels, other rounding")
        yield variable("KERAS_BACKEND", "chooses the backend: tensorflow, jax or torch")
        yield Setting("floatx", config.floatx(), "of layers that are given no float type")
        yield Setting("dtype policy", config.dtype_policy().name, mixed)
        yield from backends.settings(backend)

    def plain_layers(self) -> Mapping[str, Any]:
        with _undrawn():
            found = {f"keras.layers.{kind.__name__}": kind(2) for kind in (*self._layers, self._keras.layers.Dense)}
            for layer in found.values():
                layer.build((None, 3) if type(layer) is self._keras.layers.Dense else (None, None, 3))
        return found

    def functions(self) -> Mapping[str, Callable[[np.ndarray], np.ndarray]]:
        call = _Call(self._keras, "float64")

        def applied(function: Any, a: np.ndarray) -> np.ndarray:
            return call.numpy(function(call.tensor(a)))

        return {name: partial(applied, self._activations[name]) for name in ACTIVATIONS if name in self._activations}

    # ---- From a spec to a layer.

    def build(self, spec: Layer, dtype: str = "float32") -> Any:
        if check_dtype(dtype).endswith("16"):
            # Not every backend can draw an orthogonal matrix in these types.
            return self.clone(self._build(spec, "float32", {}), dtype)
        return self._build(spec, dtype, {})

    def blank(self, spec: Layer, dtype: str) -> Any:
        with _undrawn():
            return self._build(spec, check_dtype(dtype), _ZEROS)

    def _build(self, spec: Layer, dtype: str, initializers: Mapping[str, str]) -> Any:
        self.packing.layout(spec)
        layers = self._keras.layers
        if isinstance(spec, Dense):
            options: dict[str, Any] = {n: zeros for n, zeros in initializers.items() if n == "kernel_initializer"}
            options["activation"] = self._activations[spec.activation]
            dense = layers.Dense(spec.units, use_bias=spec.bias, dtype=dtype, name="dense", **options)
            dense.build((None, spec.input_size))
            return dense
        if spec.form == "cell":
            cell = self._build_cell(spec, _names(spec, 0, 0)[2], dtype, initializers)
            cell.build((None, spec.input_size))
            return cell
        stack = [self._build_layer(spec, k, dtype, initializers) for k in range(spec.num_layers)]
        if spec.dropout:
            gaps = [layers.Dropout(spec.dropout, dtype=dtype) for _ in stack]
            stack = [one for pair in zip(gaps, stack, strict=True) for one in pair][1:]
        return self._joined(stack, spec)

    def _joined(self, stack: list[Any], spec: Recurrent) -> Any:
        """One layer, or a built model of several."""
        if len(stack) == 1:
            return stack[0]
        model = self._keras.Sequential(stack)
        model.build((spec.batch_size, None, spec.input_size))
        return model

    def _build_layer(self, spec: Recurrent, k: int, dtype: str, initializers: Mapping[str, str]) -> Any:
        """Layer number ``k`` of a stack, in all its directions."""
        layer = self._build_half(spec, k, 0, dtype, initializers)
        if spec.bidirectional:
            backward = self._build_half(spec, k, 1, dtype, initializers) if _has_backward_layer(spec) else None
            name, _, _ = _names(spec, k, 0)
            wrapper = self._keras.layers.Bidirectional
            layer = wrapper(layer, spec.merge_mode, backward_layer=backward, name=name, dtype=dtype)
        layer.build((spec.batch_size, None, spec.layer_input_size(k)))
        return layer

    def _build_half(self, spec: Recurrent, k: int, direction: int, dtype: str, initializers: Mapping[str, str]) -> Any:
        """One direction of a layer, not built yet."""
        column, (_, name, _) = spec.column(direction), _names(spec, k, direction)
        options = {
            "return_sequences": True,
            "go_backwards": spec.go_backwards != bool(direction),
            "stateful": spec.stateful,
            "zero_output_for_mask": spec.masked_output == "zero",
            "name": name.removeprefix("forward_"),  # which Bidirectional adds
            "dtype": dtype,
        }
        if _kind(column) == "rnn":
            return self._keras.layers.RNN(self._build_cells(spec, k, direction, dtype, initializers), **options)
        part = column[0]
        kind = next(c for c, name in self._layers.items() if name == part.cell)
        return kind(part.hidden_size, **self._cell_options(part), **initializers, **options)

    def _build_cells(self, spec: Recurrent, k: int, direction: int, dtype: str, initializers: Mapping[str, str]) -> Any:
        """The cell of one layer and direction, or its stack of cells, not built yet."""
        paths = [_cell_name(spec, k + level, direction).split("/") for level in range(len(spec.column(direction)))]
        cells = [
            self._build_cell(part, path[-1], dtype, initializers)
            for part, path in zip(spec.column(direction), paths, strict=True)
        ]
        if len(cells) == 1:
            return cells[0]
        return self._keras.layers.StackedRNNCells(cells, name=paths[0][0], dtype=dtype)

    def _build_cell(self, part: Recurrent, name: str, dtype: str, initializers: Mapping[str, str]) -> Any:
        """A bare cell, not built yet."""
        options = {**self._cell_options(part), **initializers, "name": name, "dtype": dtype}
        if part.proj_size:
            return self._ours.ProjectedLSTMCell(part.hidden_size, part.proj_size, **options)
        kind = next(c for c, cell in self._cells.items() if cell == part.cell)
        return kind(part.hidden_size, **options)

    def _cell_options(self, part: Recurrent) -> dict[str, Any]:
        """The options of a cell, as the cell and the layer around it take them."""
        options: dict[str, Any] = {
            "use_bias": part.bias,
            "activation": self._activations[str(part.activation)],
            "dropout": part.input_dropout,
            "recurrent_dropout": part.recurrent_dropout,
        }
        if part.recurrent_activation is not None:
            options["recurrent_activation"] = self._activations[part.recurrent_activation]
        if part.reset_after is not None:
            options["reset_after"] = part.reset_after
        return options

    # ---- From a layer to a spec.

    def spec(self, layer: Any, mask: str | None = None) -> Layer:
        found = self.bare(layer, mask)
        if not isinstance(found, Dense):
            return found
        dense = self._chain(layer).layers[0]
        return replace(found, activation=self._activation(dense, "activation", dense))

    def bare(self, layer: Any, mask: str | None = None) -> Layer:
        check_mask_kind(mask)
        chain = self._chain(layer)
        if type(chain.layers[0]) is self._keras.layers.Dense:
            return self._dense_spec(chain.layers[0], mask)
        if chain.masking is not None:
            mask = mask or "any"
        specs = [self._layer_spec(one, mask) for one in chain.layers]
        self._check_last(chain.layers[-1], mask)
        return specs[0] if len(specs) == 1 else self._stack(chain, specs)

    def _stack(self, chain: _Chain, specs: list[Recurrent]) -> Recurrent:
        """What several layers are, one above the other."""
        first, count = specs[0], sum(one.num_layers for one in specs)
        options = {**first.options(), "num_layers": count, "dropout": self._dropout(chain, count)}
        stack = None if first.stacked or first.backward else self._recurrent(chain.layers[0], options)
        level = 0
        for k, one in enumerate(specs):
            wanted = None if stack is None else {**options, "input_size": stack.layer_input_size(level)}
            if {**one.options(), "num_layers": count, "dropout": options["dropout"]} != wanted:
                raise UnsupportedError(
                    f"Layer {k} of the stack ({one}) cannot be described together with the first ({first}), because they are "
                    "not of one kind, or because cells or directions within them differ; compare or transfer the layers "
                    "one by one."
                )
            level += one.num_layers
        assert stack is not None
        return stack

    def _chain(self, layer: Any) -> _Chain:
        """A stack taken apart: a list, a Sequential, or one layer. Refuses what cannot stand where it stands."""
        layers, found = self._keras.layers, _Chain(None, [], [])
        whole = isinstance(layer, list | tuple) or type(layer) is self._keras.Sequential
        rest = [one for one in (_parts(layer) if whole else [layer]) if type(one) is not layers.InputLayer]
        if len(rest) > 1 and type(rest[0]) is layers.Masking:
            self._check_options(rest[0])
            found, rest = found._replace(masking=rest[0]), rest[1:]
        for i, one in enumerate(rest):
            between = found.layers and i + 1 < len(rest) and len(found.gaps) < len(found.layers)
            if between and type(one) is layers.Dropout:
                self._check_gap(one)
                found.gaps.append(one)
                continue
            self._check_class(one, len(rest) == 1 and found.masking is None)
            found.gaps.extend([None] * (len(found.layers) - len(found.gaps)))
            found.layers.append(one)
        if not found.layers:
            raise UnsupportedError(f"{_label(layer)} is empty; give one that has layers.")
        self._check_shared(found)
        return found

    def _check_class(self, layer: Any, alone: bool) -> None:
        """Refuse what is no recurrent layer; a dense layer or a bare cell must be alone."""
        layers, kind = self._keras.layers, type(layer)
        single = (*self._cells, layers.Dense) if alone else ()
        if kind in (*self._layers, layers.RNN, layers.Bidirectional, *single):
            return
        mends = {
            layers.Dropout: "only between two recurrent layers is it part of a stack; leave it out, because at inference it "
            "does nothing",
            layers.Masking: "it must be the first layer of a stack",
            layers.Embedding: "give the recurrent layer what the embedding puts out, and the mask "
            "embedding.compute_mask(ids)",
            layers.Dense: "compare or transfer it by itself",
        }
        known = ", ".join(f"keras.layers.{c.__name__}" for c in (*self._layers, layers.RNN))
        mend = mends.get(kind) or (
            f"the layers are {known}, keras.layers.Bidirectional around them, a Sequential or list of them (with "
            "keras.layers.Masking in front and keras.layers.Dropout between), their cells, and keras.layers.Dense"
        )
        raise UnsupportedError(
            f"{_label(layer)} of class {kind.__module__}.{kind.__qualname__} is not modelled"
            + (f" here; {mend}." if kind in mends else f"; {mend}.")
        )

    def _check_gap(self, dropout: Any) -> None:
        """Refuse a Dropout that drops more than single numbers."""
        self._check_options(dropout, free=_FREE | ({"noise_shape"} if dropout.noise_shape is None else frozenset()))

    def _check_shared(self, chain: _Chain) -> None:
        cells = list(_by_place(chain).values())
        for i, cell in enumerate(cells):
            if any(cell is other for other in cells[:i]):
                raise UnsupportedError(
                    f"{_label(cell)} stands twice in the stack, and layers that share their weights are not modelled; "
                    "compare or transfer it once, by itself."
                )

    def _dropout(self, chain: _Chain, count: int) -> float:
        """The rate between the layers of a stack."""
        rates = [0.0 if gap is None else float(gap.rate) for gap in chain.gaps]
        # Between the cells of keras.layers.StackedRNNCells nothing is dropped.
        rates += [0.0] * (count - 1 - len(rates))
        if len(set(rates)) > 1:
            raise UnsupportedError(
                f"The dropout rates between the layers of this stack differ ({', '.join(f'{r:g}' for r in rates)}), which is "
                "not modelled; use one rate, or leave the Dropout layers out, because at inference they do nothing."
            )
        return rates[0] if rates else 0.0

    def _dense_spec(self, layer: Any, mask: str | None) -> Dense:
        self._check_built(layer)
        if mask is not None:
            raise UnsupportedError(f"{_label(layer)} is dense and takes no mask; leave the mask out.")
        self._check_options(layer, _FREE | {"lora_rank", "quantization_config"})
        return Dense(int(layer.kernel.shape[0]), layer.units, bool(layer.use_bias))

    def _layer_spec(self, layer: Any, mask: str | None) -> Recurrent:
        """The spec of one Keras layer."""
        if type(layer) is not self._keras.layers.Bidirectional:
            return self._recurrent(layer, self._half_options(layer, mask))
        self._check_options(layer)
        forward, backward = (self._half_options(half, mask, zeros=True) for half in _halves(layer))
        self._check_halves(layer)
        plain = {"go_backwards": False, "mask": None, "masked_output": None, "stateful": False, "batch_size": None}
        other = self._recurrent(layer, {**backward, **plain})
        return self._recurrent(
            layer, {**forward, "bidirectional": True, "merge_mode": layer.merge_mode, "backward": other}
        )

    def _half_options(self, layer: Any, mask: str | None, zeros: bool = False) -> dict[str, Any]:
        """The options of what runs in one direction: a layer, or a bare cell. ``zeros``: it is in Bidirectional."""
        if type(layer) in self._cells:
            return {**self._cell_spec(layer, layer), "mask": mask, "form": "cell"}
        self._check_class(layer, alone=False)
        self._check_built(layer)
        self._check_options(layer)
        zeros = zeros or bool(layer.zero_output_for_mask)
        self._check_loop(layer, mask, zeros)
        options = {
            "go_backwards": bool(layer.go_backwards),
            "stateful": bool(layer.stateful),
            "batch_size": int(self._keras.tree.flatten(layer.states)[0].shape[0]) if layer.stateful else None,
            "mask": mask,
        }
        if mask is not None:
            options["masked_output"] = "zero" if zeros else "repeat"
        first, *others = (self._cell_spec(cell, layer) for cell in _cells(layer))
        return {**first, **options, "stacked": tuple(self._recurrent(layer, other) for other in others)}

    def _check_halves(self, layer: Any) -> None:
        """Refuse a Bidirectional of which a part was changed after it was made, so that the whole is not what it says."""
        forward, backward = _halves(layer)
        if forward.go_backwards == backward.go_backwards:
            raise UnsupportedError(
                f"Both layers of {_label(layer, 'the')} have go_backwards={forward.go_backwards}, which Keras itself refuses; "
                "one of them was changed afterwards: change it back."
            )
        for option, owners in {
            "stateful": [layer, forward, backward],
            "return_sequences": [layer, forward, backward],
            "zero_output_for_mask": [forward, backward],
        }.items():
            wanted = getattr(layer, "return_sequences" if option == "zero_output_for_mask" else option)
            if wrong := [one for one in owners if bool(getattr(one, option)) != bool(wanted)]:
                raise UnsupportedError(
                    f"{option}={getattr(wrong[0], option)} of {_label(wrong[0], 'the')} was changed after {_label(layer, 'the')} "
                    f"was made, which has {bool(wanted)}; change it back."
                )

    def _check_loop(self, layer: Any, mask: str | None, zeros: bool) -> None:
        """Refuse what Keras itself gets wrong or cannot run."""
        if mask is not None and zeros and layer.unroll and layer.go_backwards:
            raise UnsupportedError(
                f"{_label(layer)} with unroll=True and go_backwards=True takes no mask: Keras then writes its zeros at the "
                "wrong time steps (it reverses the mask for the loop, but not for the zeros); build it with unroll=False."
            )
        stacked = type(layer.cell) is self._keras.layers.StackedRNNCells and len(layer.cell.cells) == 1
        if stacked and (mask is not None or layer.unroll):
            raise UnsupportedError(
                f"{_label(layer)} runs one cell in keras.layers.StackedRNNCells, which Keras can do neither with a mask nor "
                "with unroll=True; give the cell to keras.layers.RNN directly."
            )

    def _check_last(self, layer: Any, mask: str | None) -> None:
        """Refuse a last layer of a stack whose last output is not what its states came to."""
        if mask is not None and getattr(layer, "zero_output_for_mask", False) and not layer.return_sequences:
            raise UnsupportedError(
                f"{_label(layer)} has zero_output_for_mask=True and return_sequences=False: with a mask it hands back zeros "
                "where the last time step is masked, not what its states came to, which is not modelled; build it with "
                "zero_output_for_mask=False, or with return_sequences=True."
            )

    def _cell_spec(self, cell: Any, owner: Any) -> dict[str, Any]:
        """The options of a spec that a cell decides; ``owner`` is the layer that runs it."""
        kind = self._cells.get(type(cell))
        if kind is None:
            known = ", ".join(f"{c.__module__.split('.')[0]}.{c.__name__}" for c in self._cells)
            raise UnsupportedError(
                f"{_label(cell)} of class {type(cell).__module__}.{type(cell).__qualname__} is not modelled; "
                f"the cells are {known}, and several of them in keras.layers.StackedRNNCells."
            )
        self._check_built(cell)
        self._check_options(cell)
        gated = get_cell(kind).recurrent_activations
        return {
            "cell": kind,
            "input_size": int(cell.kernel.shape[0]),
            "hidden_size": cell.units,
            "bias": bool(cell.use_bias),
            "reset_after": bool(cell.reset_after) if kind == "gru" else None,
            "activation": self._activation(cell, "activation", owner),
            "recurrent_activation": self._activation(cell, "recurrent_activation", owner) if gated else None,
            "proj_size": getattr(cell, "proj_size", 0),
            "input_dropout": float(cell.dropout),
            "recurrent_dropout": float(cell.recurrent_dropout),
        }

    def _activation(self, cell: Any, option: str, owner: Any) -> str:
        """The name of an activation function. One of the user's own may bear the name of one of Keras's."""
        given = getattr(cell, option)
        name = next((name for name, function in self._activations.items() if function is given), None)
        if name is None:
            raise UnsupportedError(f"{option}={given!r} of {_label(owner, 'the')} is not modelled; use Keras's own.")
        if wrong := check_activation(name):
            raise UnsupportedError(f"{option} of {_label(owner, 'the')} {wrong}.")
        return name

    def _recurrent(self, layer: Any, options: dict[str, Any]) -> Recurrent:
        try:
            return Recurrent(**options)
        except SpecError as error:
            raise UnsupportedError(f"{_label(layer)} is not modelled: {error}") from None

    def _check_built(self, layer: Any) -> None:
        if not layer.built:
            raise SpecError(
                f"The Keras layer {layer.name!r} has no weights yet; call it on data, or its build method with the "
                "input's shape, first."
            )

    def _check_options(self, layer: Any, free: frozenset[str] = _FREE) -> None:
        """Refuse by name every option that is not known to be harmless or modelled."""
        try:
            config = layer.get_config()
        except Exception as error:  # of a part of the user's own, in any words
            raise UnsupportedError(
                f"{_label(layer)} gives no configuration ({type(error).__name__}: {error}); add get_config to what it holds."
            ) from error
        for option, value in config.items():
            if option not in free:
                raise UnsupportedError(
                    f"{option}={value!r} of the Keras layer {layer.name!r} is not modelled; build it without this option."
                )

    def tensor_cores(self, layer: Any) -> bool:
        if self._keras.backend.backend() == "torch":
            return bool(self._import("torch").cuda.is_available())
        return any(str(name).lower().startswith("gpu") for name in self._keras.distribution.list_devices())

    # ---- Models.

    def masking_value(self, layer: Any) -> float | None:
        masking = self._chain(layer).masking
        return None if masking is None else float(masking.mask_value)

    def returns(self, layer: Any) -> str:
        last = self._chain(layer).layers[-1]
        return "the last output: return_sequences=False" if getattr(last, "return_sequences", True) is False else ""

    def built_for(self, layer: Any) -> tuple[int | None, int | None]:
        shape: tuple[Any, ...] = layer.input_shape if type(layer) is self._keras.Sequential else ()
        return (shape[0], shape[1]) if len(shape) == 3 else (None, None)

    def layers(self, model: Any) -> Iterator[tuple[str, Any]]:
        kinds = (*self._layers, *self._cells, self._keras.layers.RNN, self._keras.layers.Bidirectional)
        if isinstance(model, list | tuple) or (hasattr(model, "layers") and type(model) not in kinds):
            for layer in _parts(model):
                for name, one in self.layers(layer):
                    yield f"{layer.name}/{name}".rstrip("/"), one
        elif hasattr(model, "layer") and type(model) not in kinds:  # TimeDistributed
            yield from self.layers(model.layer)
        elif model.weights:
            yield "", model

    def tensors(self, layer: Any) -> Mapping[str, Callable[[], np.ndarray]]:
        return {variable.path: partial(self._array, variable) for variable in layer.weights}

    def tensor_types(self, layer: Any) -> Mapping[str, str]:
        return {variable.path: str(variable.dtype) for variable in layer.weights}

    # ---- Whole models.

    def check_runs(self, model: Any) -> None:
        if not isinstance(model, self._keras.layers.Layer):
            raise UnsupportedError("A list of Keras layers is no model; make it a keras.Sequential.")
        if not model.built:
            raise SpecError(f"The Keras model {model.name!r} has no weights yet; call it on data first.")

    def model_dtypes(self, model: Any) -> Mapping[str, str]:
        # An embedding of one type looks its numbers up, and the layers that read them compute in their own type.
        lookup = self._keras.layers.Embedding
        return {
            one.name: str(one.compute_dtype)
            for one in model._flatten_layers()
            if not (type(one) is lookup and one.variable_dtype == one.compute_dtype)
        }

    def calls(self, model: Any, inputs: Iterable[np.ndarray], seed: int = 0) -> Iterator[Mapping[str, np.ndarray]]:
        # Copies: on TensorFlow a variable is assigned in place.
        states = list(self._states_of(model))
        kept = [(v, self._array(v).copy()) for v in (*model.non_trainable_variables, *states)]
        try:
            for state in states:
                state.assign(self._keras.ops.zeros(state.shape, dtype=state.dtype))
            for drawn in (v for v in model.non_trainable_variables if v.name == "seed_generator_state"):
                drawn.assign(drawn + seed)
            for x in inputs:
                yield dict(self._whole_call(model, x))
        finally:
            for variable, value in kept:
                variable.assign(value)

    def _whole_call(self, model: Any, x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        from xframe.programs import leaves

        # What is not all of Keras's own may do something else in a graph of TensorFlow's.
        own = all(type(one).__module__.split(".")[0] == "keras" for one in model._flatten_layers())
        call = _compiled(self._keras, model, x.shape) if own else model
        for name, value in leaves(call(self._keras.ops.convert_to_tensor(x), training=False)):
            array = self._keras.ops.convert_to_numpy(value)
            yield name, array.astype("float32") if str(array.dtype) == "bfloat16" else array

    def _states_of(self, model: Any) -> Iterator[Any]:
        """The states that its stateful layers keep, which Keras does not count among its variables."""
        for one in model._flatten_layers():
            kept = self._keras.tree.flatten(getattr(one, "states", None) or [])
            yield from (state for state in kept if hasattr(state, "assign"))

    # ---- Weights.

    def dtype(self, layer: Any) -> str:
        return one_dtype({str(policy.name) for policy in self._policies(layer)}, _label(layer))

    def types(self, layer: Any) -> tuple[str, str]:
        """See `Adapter.types`. A mixed policy casts weights to 16 bits as it computes with them."""
        policies = self._policies(layer)
        if all(policy.variable_dtype == policy.compute_dtype for policy in policies):
            return super().types(layer)
        kinds = ({str(getattr(p, which)) for p in policies} for which in ("variable_dtype", "compute_dtype"))
        weights, arithmetic = (one_dtype(each, _label(layer)) for each in kinds)
        return weights, arithmetic

    def _policies(self, layer: Any) -> list[Any]:
        chain = self._chain(layer)
        holders = [*chain.all, *(part for one in chain.layers for half in _halves(one) for part in _holders(half))]
        return [one.dtype_policy for one in holders]

    def clone(self, layer: Any, dtype: str) -> Any:
        """See `Adapter.clone`. A stateful layer's clone begins with zero states."""
        spec, chain = self.bare(layer), self._chain(layer)
        with _undrawn():
            twins = [type(one).from_config(_retyped(one.get_config(), check_dtype(dtype))) for one in chain.all]
            for place, twin in enumerate(twins):
                theirs = chain.all[place]
                if theirs.weights:
                    twin.build(self._input_shape(spec, theirs, chain))
                    for mine, half in zip(_halves(twin), _halves(theirs), strict=True):
                        if hasattr(half, "use_cudnn"):  # which get_config leaves out
                            mine.use_cudnn = half.use_cudnn
            copy: Any = twins
            if type(layer) is self._keras.Sequential:
                copy = self._keras.Sequential(twins, name=layer.name)
                copy.build(self._input_shape(spec, chain.layers[0], chain))
            elif not isinstance(layer, list | tuple):
                copy = twins[0]
        numbers = self.read(layer)
        self.write(copy, ((name, numbers[name]) for name in numbers))
        return copy

    def _input_shape(self, spec: Layer, layer: Any, chain: _Chain) -> tuple[int | None, ...]:
        """The shape that one layer of a chain is built on."""
        if isinstance(spec, Dense):
            return (None, spec.input_size)
        features = int(_cells(_halves(layer)[0])[0].kernel.shape[0])
        return (None, features) if spec.form == "cell" else (spec.batch_size, None, features)

    def read(self, layer: Any) -> Mapping[str, np.ndarray]:
        return _Lazy(self._variables(layer), self._array)

    def write(self, layer: Any, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
        variables = self._variables(layer)
        for name, array in arrays:
            if tuple(variables[name].shape) != array.shape:
                raise LayoutError(f"{name} takes {tuple(variables[name].shape)}, not {array.shape}.")
            variables[name].assign(self._copy(array, variables[name]))
            del array  # freed before the next one is made

    def _variables(self, layer: Any) -> dict[str, Any]:
        """The layer's variables by the names that the layout gives them."""
        spec, chain = self.bare(layer), self._chain(layer)
        holders, found = _by_place(chain), {}
        for native in self.packing.natives(spec):
            leaf = native.leaves[0]
            found[native.name] = getattr(holders[leaf.layer, leaf.direction], native.name.rsplit("/", 1)[-1], None)
        stray = sum(len(one.weights) for one in chain.all) != len(found)
        if stray or any(variable is None for variable in found.values()):
            raise UnsupportedError(f"{_label(layer)} has weights that {spec} does not have.")
        return found

    def _copy(self, array: np.ndarray, variable: Any) -> Any:
        """The array, which may be a view of another layer's memory, as a variable takes it."""
        import numpy as np

        from xframe.packing import copy

        own = np.empty(array.shape, _numpy_type(variable.dtype))
        copy(array, own)
        return handed_over(own)

    def _array(self, variable: Any) -> np.ndarray:
        """A variable's numbers, without a copy where the backend can do so."""
        import numpy as np

        if self._keras.backend.backend() == "tensorflow":
            array = np.asarray(variable.value.read_value())  # convert_to_numpy would copy
        else:
            array = np.asarray(self._keras.ops.convert_to_numpy(variable))
        return array.astype(_numpy_type(variable.dtype), copy=False)

    # ---- Running.

    def run(
        self,
        layer: Any,
        x: np.ndarray,
        state: Mapping[str, np.ndarray] | None = None,
        mask: np.ndarray | None = None,
    ) -> Outputs:
        """See `Adapter.run`. The mask goes to every layer as it is, as Keras hands it on; with keras.layers.Masking in
        front, masked steps are given its value, from which it makes the mask itself.

        keras.layers.Bidirectional splits a list of initial states in the middle, so that it cannot take those of two
        directions that have different numbers of them (an LSTM and a GRU); from given states the two are then run by
        themselves and merged here.
        """
        from xframe.masks import check_mask
        from xframe.reference import Outputs, check_input, check_state, last_output

        spec, chain, dtype = self.spec(layer, None if mask is None else "any"), self._chain(layer), self.dtype(layer)
        x = check_input(spec, x)
        state = check_state(spec, state, x.shape[0])
        if why := self.lacks(spec, dtype):
            raise UnsupportedError(why)
        call = _Call(self._keras, dtype)
        if isinstance(spec, Dense):
            y = call.numpy((layer if _takes(layer, x) else chain.layers[0])(call.tensor(x)))
            return Outputs(y, y, {})
        if spec.batch_size not in (None, x.shape[0]):
            raise SpecError(f"This stateful layer keeps states for {plural(spec.batch_size, 'row')}, not {x.shape[0]}.")
        if mask is not None and chain.masking is not None:
            x = self._marked(chain.masking, x, check_mask(mask, x))
        elif mask is not None:
            call.mask = self._keras.ops.convert_to_tensor(check_mask(mask, x))
        sequence = call.tensor(x)
        own = self._called(layer, sequence, call) if state is None and _takes(layer, x) else {}
        if chain.masking is not None:
            # By hand, because with initial states Keras drops the mask that comes with the sequence.
            call.mask = chain.masking.compute_mask(sequence)
            sequence = chain.masking(sequence)
        found = _States(spec, x.shape[0], _numpy_type(dtype))
        for one, gap in zip(chain.layers, [*chain.gaps, None], strict=True):
            places = found.places(one)
            given = None if state is None else [call.tensor(state[name][place]) for name, place in places]
            run = call.cell if spec.form == "cell" else call.layer
            sequence, final = run(one, sequence, given)
            found.put(places, [call.numpy(value) for value in final])
            sequence = sequence if gap is None else gap(sequence, training=False)
        return replace(Outputs(call.numpy(sequence), last_output(spec, found.arrays), found.arrays), **own)

    def _called(self, model: Any, x: Any, call: _Call) -> dict[str, Any]:
        """What a Sequential itself puts out, by the name of the output: its call may be another than that of its layers."""
        with self.undisturbed(model):
            y = call.numpy(model(x, training=False, mask=call.mask))
        return {"last" if self.returns(model) else "sequence": y}

    def _marked(self, masking: Any, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The input from which a Masking layer makes this mask."""
        import numpy as np

        value = x.dtype.type(masking.mask_value)
        if (x == value).all(axis=-1)[mask].any():
            raise SpecError(
                f"The mask says that a time step is valid whose features all equal {value:g}, at which {_label(masking)} "
                "masks it; leave the mask out, or change x."
            )
        return np.where(mask[..., None], x, value)

    def reset(self, layer: Any) -> None:
        # Not by Keras's reset_state, which fails on the nested states of StackedRNNCells.
        for kept in self._kept(layer):
            kept.assign(self._keras.ops.zeros(kept.shape, dtype=kept.dtype))

    @contextmanager
    def undisturbed(self, layer: Any) -> Iterator[None]:
        held = [(kept, self._array(kept).copy()) for kept in self._kept(layer)]
        try:
            yield
        finally:
            for kept, value in held:
                kept.assign(value)

    def _kept(self, layer: Any) -> list[Any]:
        """The variables in which a stateful layer keeps its states."""
        halves = [half for one in self._chain(layer).layers for half in _halves(one)]
        return [kept for half in halves for kept in self._keras.tree.flatten(getattr(half, "states", None) or [])]


class _Call:
    """How the native layers of one run are called: tensors of one type, and one mask for all."""

    def __init__(self, keras: Any, dtype: str) -> None:
        self._keras, self._dtype = keras, dtype
        self.mask: Any = None

    def tensor(self, array: np.ndarray) -> Any:
        import numpy as np

        return self._keras.ops.convert_to_tensor(np.ascontiguousarray(array), dtype=self._dtype)

    def numpy(self, tensor: Any) -> np.ndarray:
        import numpy as np

        array: np.ndarray = np.asarray(self._keras.ops.convert_to_numpy(tensor))
        return array.astype(_numpy_type(self._dtype), copy=False)

    def layer(self, layer: Any, x: Any, given: list[Any] | None) -> tuple[Any, list[Any]]:
        """The sequence and the final states of a layer, its two halves beside each other if it does not merge them."""
        halves = _halves(layer)
        initial = None if given is None else self._nested(halves, given, x.shape[0])
        if initial is not None and len(halves) == 2 and len(initial[0]) != len(initial[1]):
            return self._apart(layer, x, initial)
        nested = None if initial is None else [state for half in initial for state in half]
        with _everything_returned(layer):
            out = _compiled(self._keras, layer, x.shape)(x, initial_state=nested, mask=self.mask, training=False)
        flat = self._keras.tree.flatten(out)
        count = 2 if len(halves) == 2 and layer.merge_mode is None else 1
        sequence = flat[0] if count == 1 else self._keras.ops.concatenate(flat[:2], axis=-1)
        final = [half.states for half in halves] if halves[0].stateful else flat[count:]
        return sequence, self._keras.tree.flatten(final)

    def _nested(self, halves: list[Any], given: list[Any], batch: int) -> list[list[Any]]:
        """The states of each half, nested as its cells have them."""
        tree, found, start = self._keras.tree, [], 0
        for half in halves:
            like = half.get_initial_state(batch)
            size = len(tree.flatten(like))
            found.append(tree.pack_sequence_as(like, given[start : start + size]))
            start += size
        return found

    def _apart(self, layer: Any, x: Any, initial: list[list[Any]]) -> tuple[Any, list[Any]]:
        """What Bidirectional does, from states that it cannot take."""
        ops, found, final = self._keras.ops, [], []
        with _everything_returned(layer):
            for half, nested in zip(_halves(layer), initial, strict=True):
                sequence, ended = self.layer(half, x, self._keras.tree.flatten(nested))
                found.append(sequence)
                final += ended
        forward, backward = found[0], ops.flip(found[1], axis=1)
        if layer.merge_mode in ("concat", None):
            return ops.concatenate([forward, backward], axis=-1), final
        merged = forward * backward if layer.merge_mode == "mul" else forward + backward
        return merged / 2 if layer.merge_mode == "ave" else merged, final

    def cell(self, cell: Any, x: Any, given: list[Any] | None) -> tuple[Any, list[Any]]:
        """A bare cell, called once for each time step."""
        states, outputs = cell.get_initial_state(batch_size=x.shape[0]) if given is None else given, []
        for t in range(x.shape[1]):
            output, states = cell(x[:, t], states, training=False)
            outputs.append(output)
        return self._keras.ops.stack(outputs, axis=1), self._keras.tree.flatten(states)


def _compiled(keras: Any, layer: Any, shape: Sequence[int]) -> Any:
    """The layer, or for long sequences what Model.predict runs: called eagerly, TensorFlow takes milliseconds a time step."""
    if len(shape) < 2 or shape[1] < _LONG or keras.backend.backend() != "tensorflow":
        return layer
    import tensorflow

    return tensorflow.function(layer, autograph=False)


class _States:
    """The final states of a stack, filled layer by layer in the order in which Keras lists them."""

    def __init__(self, spec: Recurrent, batch: int, dtype: str) -> None:
        import numpy as np

        self._slots, self._layer = states(spec), 0
        self.arrays: dict[str, np.ndarray] = {
            name: np.empty((*slot.axes, batch, slot.size), dtype) for name, slot in self._slots.items()
        }

    def places(self, layer: Any) -> list[tuple[str, tuple[int, int]]]:
        """Where each state of the next native layer stands: the name of the array, and the place in it."""
        depths, first = [len(_cells(half)) for half in _halves(layer)], self._layer
        self._layer += depths[0]
        return [
            (name, place)
            for d, depth in enumerate(depths)
            for k in range(first, first + depth)
            for name, _, place in places(self._slots, k, d)
        ]

    def put(self, places: list[tuple[str, tuple[int, int]]], values: list[np.ndarray]) -> None:
        for (name, place), value in zip(places, values, strict=True):
            self.arrays[name][place] = value


def handed_over(array: np.ndarray) -> Any:
    """An array that nobody else will change, as a Keras variable takes it without a copy."""
    import keras

    return _Given(array) if keras.backend.backend() == "tensorflow" else array


class _Given:
    """An array that nobody else holds. TensorFlow copies arrays, lest the owner change them, but not what gives one."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._array.astype(dtype or self._array.dtype, copy=bool(copy))


def _numpy_type(dtype: str) -> str:
    """The type in which arrays of a float type cross the boundary: NumPy has no bfloat16."""
    return "float32" if dtype == "bfloat16" else dtype


def _takes(layer: Any, x: np.ndarray) -> bool:
    """Whether this is a Sequential that can be called with an input as a whole: it is not built for another shape."""
    shape = getattr(layer, "input_shape", ()) if hasattr(layer, "layers") else ()
    return len(shape) == x.ndim and all(n in (None, size) for n, size in zip(shape, x.shape, strict=True))


@contextmanager
def _undrawn() -> Iterator[None]:
    """Let Python's random state, from which Keras takes a seed for each layer that it makes, be as it was."""
    before = random.getstate()
    try:
        yield
    finally:
        random.setstate(before)


def _label(layer: Any, article: str = "The") -> str:
    """How a sentence names a layer; a list of layers has no name."""
    if not hasattr(layer, "name"):
        return f"A {type(layer).__name__} of Keras layers"
    return f"{article} Keras layer {layer.name!r}"


def _parts(stack: Any) -> list[Any]:
    """The layers of a list or of a Sequential."""
    return list(stack) if isinstance(stack, list | tuple) else list(stack.layers)


def _halves(layer: Any) -> list[Any]:
    """The directions of a layer."""
    return [layer.forward_layer, layer.backward_layer] if hasattr(layer, "forward_layer") else [layer]


def _cells(half: Any) -> list[Any]:
    """The cells that one direction runs, from the input on; what has none holds its weights itself."""
    cell = getattr(half, "cell", half)
    return list(getattr(cell, "cells", [cell]))


def _holders(half: Any) -> list[Any]:
    """All that one direction consists of, each with a float type of its own: the layer, what stacks the cells, the cells."""
    return [half, getattr(half, "cell", half), *_cells(half)]


def _by_place(chain: _Chain) -> dict[tuple[int, int], Any]:
    """What holds the weights, by layer of the stack and direction."""
    found: dict[tuple[int, int], Any] = {}
    level = 0
    for layer in chain.layers:
        cells = [_cells(half) for half in _halves(layer)]
        for d, column in enumerate(cells):
            found |= {(level + k, d): cell for k, cell in enumerate(column)}
        level += len(cells[0])
    return found


def _retyped(config: Any, dtype: str) -> Any:
    """A configuration with all that it holds in another float type, and without what a copy has no use for."""
    if isinstance(config, list | tuple):
        return [_retyped(value, dtype) for value in config]
    if not isinstance(config, dict):
        return config
    fixed = {**_LEFT_OUT, "dtype": dtype}
    return {name: fixed[name] if name in fixed else _retyped(value, dtype) for name, value in config.items()}


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

    This is the user's own layer, not a copy: what is judged is what he has. The flags only choose what `call` hands back;
    in Bidirectional, zeros at masked steps go with return_sequences. A stateful layer keeps its states, and a Bidirectional
    one cannot return them (Keras 3.15 fails in compute_mask).
    """
    halves = _halves(layer)
    wanted = {"return_sequences": True, "return_state": not halves[0].stateful}
    parts = [(part, wanted) for part in {id(p): p for p in (layer, *halves)}.values()]
    if len(halves) == 2:
        parts += [(half, {"zero_output_for_mask": True}) for half in halves]
    before = [(part, name, getattr(part, name)) for part, flags in parts for name in flags]
    try:
        for part, flags in parts:
            for name, value in flags.items():
                setattr(part, name, value)
        yield
    finally:
        for part, name, value in before:
            setattr(part, name, value)
