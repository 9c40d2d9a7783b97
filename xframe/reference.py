"""The NumPy reference: the one loop over layers, directions and time. It knows no framework.

The loop is written once against `xframe.cells.base.Arithmetic`. With `Plain` it is the reference; `xframe.noise` runs
it with perturbed operations. Inside, arrays are (size, batch): gates then lie one above the other in memory, each
contiguous, and one product of a kernel with the column [x; 1; h; 1] makes them all, biases included. Buffers are
allocated before the loop. What is not a product then costs little (scripts/bench_reference.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xframe.cells import TERMS, Arithmetic, Product, Step, get_cell
from xframe.errors import LayoutError, SpecError
from xframe.layout import Key, block_shape
from xframe.packing import checked, copy
from xframe.spec import Dense, Layer, Recurrent, Sequential

__all__ = ["Outputs", "Plain", "check_input", "check_state", "handed_on", "last_output", "run", "sigmoid"]


@dataclass(frozen=True)
class Outputs:
    """What a layer puts out.

    Attributes:
        sequence: (batch, time, directions * state), the output of the last layer at every time step; for a dense layer
            (batch, units).
        last: (batch, directions * state), the forward output at the last time step beside the backward output at the
            first one, as Keras returns it and as PyTorch's h_n holds it.
        states: final states by name, each (layers, directions, batch, size).
    """

    sequence: np.ndarray
    last: np.ndarray
    states: Mapping[str, np.ndarray]

    def named(self) -> dict[str, np.ndarray]:
        """The outputs by name: ``sequence``, ``last``, then ``state h`` and so on; a dense layer has ``output``."""
        if not self.states:
            return {"output": self.sequence}
        return {"sequence": self.sequence, "last": self.last, **{f"state {k}": v for k, v in self.states.items()}}


def sigmoid(a: np.ndarray, out: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-a)), written as (1 + tanh(a / 2)) / 2, which never overflows."""
    np.multiply(a, 0.5, out=out)
    np.tanh(out, out=out)
    np.multiply(out, 0.5, out=out)
    return np.add(out, 0.5, out=out)


def relu(a: np.ndarray, out: np.ndarray) -> np.ndarray:
    """max(a, 0)."""
    return np.maximum(a, 0, out=out)


ACTIVATIONS = {"tanh": np.tanh, "sigmoid": sigmoid, "relu": relu}


class Plain:
    """Arithmetic as NumPy does it."""

    add: Any = staticmethod(np.add)
    subtract: Any = staticmethod(np.subtract)
    multiply: Any = staticmethod(np.multiply)
    matmul: Any = staticmethod(np.matmul)

    def weight(self, w: np.ndarray, ones: Sequence[int], batch: int) -> np.ndarray:
        return w

    def activate(self, name: str, a: np.ndarray, out: np.ndarray) -> np.ndarray:
        return ACTIVATIONS[name](a, out=out)  # type: ignore[operator]


def run(
    spec: Layer | Sequential,
    params: Mapping[Key, np.ndarray] | Sequence[Mapping[Key, np.ndarray]],
    x: np.ndarray,
    state: Mapping[str, np.ndarray] | None = None,
    ops: Arithmetic | None = None,
) -> Outputs:
    """Compute a layer, or a chain of layers, in the dtype of ``x``.

    The equations of a cell are in ``xframe.cells.get_cell(name).equations``.

    Args:
        spec: the layer, or a `Sequential` of layers.
        params: its canonical parameters; for a chain one per layer.
        x: (batch, time, input_size), or (batch, input_size) for a dense layer; float32 or float64.
        state: initial states by name, each (layers, directions, batch, size), for the first layer of a chain; zeros if
            None.
        ops: the arithmetic, plain NumPy if None.

    Raises:
        SpecError: x or a state has the wrong names or shape, or is not finite.
        LayoutError: a block has the wrong shape or is missing.
    """
    ops = ops or Plain()
    if isinstance(spec, Sequential):
        if len(params) != len(spec.layers):
            raise SpecError(
                f"The chain has {len(spec.layers)} layers, but {len(params)} sets of parameters were given."
            )
        for i, (layer, blocks) in enumerate(zip(spec.layers, params, strict=True)):
            out = run(layer, blocks, x, state if i == 0 else None, ops)  # type: ignore[arg-type]
            x = handed_on(spec, i, out)
        return out
    x = check_input(spec, x)
    if isinstance(spec, Dense):
        return _dense(spec, params, x, ops)  # type: ignore[arg-type]
    return _recurrent(spec, params, x, check_state(spec, state, x.shape[0]), ops)  # type: ignore[arg-type]


def handed_on(chain: Sequential, i: int, out: Outputs) -> np.ndarray:
    """What layer number ``i`` of a chain gives to the next: its sequence to a recurrent one, else its last output."""
    follower = chain.layers[i + 1] if i + 1 < len(chain.layers) else None
    return out.sequence if isinstance(follower, Recurrent) else out.last


def last_output(h: np.ndarray) -> np.ndarray:
    """(layers, directions, batch, state) final states h -> (batch, directions * state) of the last layer."""
    return np.concatenate(list(h[-1]), axis=-1)


def check_input(spec: Layer, x: np.ndarray) -> np.ndarray:
    """x as an array if it fits the layer, else SpecError."""
    x = np.asarray(x)
    axes = ("batch", "time", "features") if isinstance(spec, Recurrent) else ("batch", "features")
    if x.ndim != len(axes) or x.shape[-1] != spec.input_size or 0 in x.shape:
        raise SpecError(f"x must be ({', '.join(axes)}) with {spec.input_size} features, not {x.shape}.")
    if x.dtype not in (np.float32, np.float64):
        raise SpecError(f"x must be float32 or float64, not {x.dtype}.")
    return _finite(x, "x")


def check_state(spec: Layer, state: Mapping[str, np.ndarray] | None, batch: int) -> dict[str, np.ndarray] | None:
    """The initial states if they fit the layer, else SpecError."""
    if state is None:
        return None
    cell = get_cell(spec.cell)
    if set(state) != set(cell.states):
        raise SpecError(f"The states of {spec} are {' and '.join(cell.states)}, not {' and '.join(state) or 'none'}.")
    for name, value in state.items():
        shape = (spec.num_layers, spec.num_directions, batch, cell.state_size(spec, name))
        if value.shape != shape:
            raise SpecError(f"State {name} must be (layers, directions, batch, size) = {shape}, not {value.shape}.")
        _finite(value, f"State {name}")
    return dict(state)


def _finite(array: np.ndarray, name: str) -> np.ndarray:
    try:
        return checked(array, array.shape, name)
    except LayoutError as error:
        raise SpecError(str(error).replace("weights", "it")) from None


def _dense(spec: Dense, params: Mapping[Key, np.ndarray], x: np.ndarray, ops: Arithmetic) -> Outputs:
    weight = _weight(spec, params, (0, 0), Product(("",), "x"), x, ops)
    column = np.ones((spec.input_size + 1, x.shape[0]), x.dtype)
    column[:-1] = x.T
    y = ops.matmul(weight, column, out=np.empty((spec.units, x.shape[0]), x.dtype))
    return Outputs(y.T, y.T, {})


def _recurrent(
    spec: Recurrent,
    params: Mapping[Key, np.ndarray],
    x: np.ndarray,
    state: Mapping[str, np.ndarray] | None,
    ops: Arithmetic,
) -> Outputs:
    cell, (batch, steps, _) = get_cell(spec.cell), x.shape
    final = {
        name: np.empty((spec.num_layers, spec.num_directions, batch, cell.state_size(spec, name)), x.dtype)
        for name in cell.states
    }
    for layer in range(spec.num_layers):
        # The memory is (time, size, batch), as the steps make it; the axes are as everywhere outside.
        out = np.empty((steps, spec.output_size, batch), x.dtype).transpose(2, 0, 1)
        for d in range(spec.num_directions):
            step = _prepare(spec, params, (layer, d), x, ops)
            for name, value in step.states.items():
                value[...] = 0 if state is None else state[name][layer, d].T
            half = out[:, :, d * spec.state_size : (d + 1) * spec.state_size]
            for t in range(steps) if d == 0 else reversed(range(steps)):
                step.x[:-1] = x[:, t].T
                cell.step(ops, step)
                half[:, t] = step.states["h"].T
            for name, value in step.states.items():
                final[name][layer, d] = value.T
        x = out
    return Outputs(x, last_output(final["h"]), final)


def _prepare(
    spec: Recurrent, params: Mapping[Key, np.ndarray], place: tuple[int, int], x: np.ndarray, ops: Arithmetic
) -> Step:
    """Weights and buffers for one layer and direction, ``place``; x (batch, time, features) is what it reads."""
    cell, n, (batch, _, features) = get_cell(spec.cell), spec.hidden_size, x.shape
    xh = np.ones((features + 1 + spec.state_size + 1, batch), x.dtype)
    h = xh[features + 1 :]
    states = {s: h[:-1] if s == "h" else np.empty((cell.state_size(spec, s), batch), x.dtype) for s in cell.states}
    projection = None
    if spec.proj_size:
        block = _block(spec, params, Key(*place, "projection", ""))
        projection = ops.weight(block.T.astype(x.dtype, "C"), (), batch)
    return Step(
        xh=xh,
        x=xh[: features + 1],
        h=h,
        states=states,
        weights=[_weight(spec, params, place, product, x, ops) for product in cell.products(spec)],
        projection=projection,
        gates=np.empty((len(cell.gates) * n, batch), x.dtype),
        work=np.empty((n, batch), x.dtype),
        activation=str(spec.activation),
        recurrent_activation=str(spec.recurrent_activation),
        reset_after=spec.reset_after,
    )


def _weight(
    spec: Layer,
    params: Mapping[Key, np.ndarray],
    place: tuple[int, int],
    product: Product,
    x: np.ndarray,
    ops: Arithmetic,
) -> Any:
    """What multiplies [x; 1; h; 1], or its half, in one product: (gates * n, ...), the gates one above the other."""
    n, sizes = spec.hidden_size, {"x": x.shape[-1], "h": spec.state_size}
    w = np.zeros((len(product.gates) * n, sum(sizes[term] + 1 for term in product.terms)), x.dtype)
    ones, start = [], 0
    for term in product.terms:
        (kernel, bias), end = TERMS[term], start + sizes[term]
        for i, gate in enumerate(product.gates):
            rows = w[i * n : (i + 1) * n]
            copy(_block(spec, params, Key(*place, kernel, gate)).T, rows[:, start:end])
            if spec.bias:
                rows[:, end] = _block(spec, params, Key(*place, bias, gate))
        ones.append(end)
        start = end + 1
    return ops.weight(w, ones, x.shape[0])


def _block(spec: Layer, params: Mapping[Key, np.ndarray], key: Key) -> np.ndarray:
    if key not in params:
        raise LayoutError(f"The parameters of {spec} lack the block {str(key)!r}; add it.")
    return checked(params[key], block_shape(spec, key), str(key), finite=False)
