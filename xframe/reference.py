"""The NumPy reference: the one loop over layers, directions and time. It knows no framework.

The loop is written once against `xframe.cells.base.Arithmetic`. With `Plain` it is the reference; `xframe.noise` runs it
with perturbed operations. Inside, arrays are (time, size, batch): gates then lie one above the other in memory, each
contiguous, and one product makes them all. Buffers are allocated before the loop. Otherwise the copies would cost more than
the products (scripts/bench_reference.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xframe.cells import Arithmetic, Step, get_cell
from xframe.errors import LayoutError, SpecError
from xframe.layout import Key
from xframe.packing import checked
from xframe.spec import Dense, Layer, Recurrent, Sequential

__all__ = ["Outputs", "Plain", "check_input", "check_state", "last_output", "run", "sigmoid"]


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

    add = staticmethod(np.add)
    subtract = staticmethod(np.subtract)
    multiply = staticmethod(np.multiply)
    matmul = staticmethod(np.matmul)
    add_bias = staticmethod(np.add)

    def weight(self, w: np.ndarray) -> np.ndarray:
        return w

    def bias(self, biases: Sequence[np.ndarray], batch: int) -> np.ndarray:
        # One column for each row of the batch, because adding whole arrays is faster than broadcasting.
        return np.repeat(sum(biases)[:, None], batch, axis=1)  # type: ignore[index]

    def activate(self, name: str, a: np.ndarray, out: np.ndarray) -> np.ndarray:
        return ACTIVATIONS[name](a, out=out)  # type: ignore[operator,no-any-return]


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
            raise SpecError(f"The chain has {len(spec.layers)} layers, but {len(params)} sets of parameters were given.")
        for i, (layer, blocks) in enumerate(zip(spec.layers, params, strict=True)):
            out = run(layer, blocks, x, state if i == 0 else None, ops)  # type: ignore[arg-type]
            follower = spec.layers[i + 1] if i + 1 < len(spec.layers) else None
            x = out.sequence if isinstance(follower, Recurrent) else out.last
        return out
    x = check_input(spec, x)
    if isinstance(spec, Dense):
        return _dense(spec, params, x, ops)  # type: ignore[arg-type]
    return _recurrent(spec, params, x, check_state(spec, state, x.shape[0]), ops)  # type: ignore[arg-type]


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
    weight = ops.weight(np.ascontiguousarray(_block(spec, params, Key(0, 0, "kernel", ""), x.dtype).T))
    y = ops.matmul(weight, np.ascontiguousarray(x.T), out=np.empty((spec.units, x.shape[0]), x.dtype))
    if spec.bias:
        ops.add_bias(y, ops.bias([_block(spec, params, Key(0, 0, "bias", ""), x.dtype)], x.shape[0]), out=y)
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
    sequence = np.ascontiguousarray(x.transpose(1, 2, 0))
    for layer in range(spec.num_layers):
        out = np.empty((steps, spec.output_size, batch), x.dtype)
        for d in range(spec.num_directions):
            first = {
                name: np.zeros((cell.state_size(spec, name), batch), x.dtype)
                if state is None
                else np.ascontiguousarray(state[name][layer, d].T, x.dtype)
                for name in cell.states
            }
            half = out[:, d * spec.state_size : (d + 1) * spec.state_size]
            last = _direction(spec, params, (layer, d), sequence, first, half, ops)
            for name, value in last.items():
                final[name][layer, d] = value.T
        sequence = out
    return Outputs(sequence.transpose(2, 0, 1), last_output(final["h"]), final)


def _direction(
    spec: Recurrent,
    params: Mapping[Key, np.ndarray],
    place: tuple[int, int],
    x: np.ndarray,
    state: dict[str, np.ndarray],
    out: np.ndarray,
    ops: Arithmetic,
) -> dict[str, np.ndarray]:
    """One layer in one direction: x (time, features, batch) -> out (time, state, batch); returns the final states."""
    cell, (steps, _, batch) = get_cell(spec.cell), x.shape
    step = _prepare(spec, params, place, batch, x.dtype, ops)
    kernel = ops.weight(_joined(spec, params, place, "kernel", cell.gates, x.dtype))
    inputs = np.empty_like(step.gates)
    bias = _outer_bias(spec, params, place, batch, x.dtype, ops) if spec.bias else None
    # States that are not the output go back and forth between two buffers; h goes from one time step of out to the next.
    spare = {name: np.empty_like(value) for name, value in state.items() if name != "h"}
    for t in range(steps) if place[1] == 0 else reversed(range(steps)):
        ops.matmul(kernel, x[t], out=inputs)
        if bias is not None:
            ops.add_bias(inputs, bias, out=inputs)
        new = {"h": out[t], **spare}
        cell.step(ops, inputs, state, new, step)
        spare = {name: state[name] for name in spare}
        state = new
    return state


def _prepare(
    spec: Recurrent, params: Mapping[Key, np.ndarray], place: tuple[int, int], batch: int, dtype: Any, ops: Arithmetic
) -> Step:
    cell, n = get_cell(spec.cell), spec.hidden_size
    inner = [gate for gate in cell.gates if gate not in cell.folds(spec)] if spec.bias else []
    groups = cell.products(spec)
    return Step(
        kernels=[ops.weight(_joined(spec, params, place, "recurrent_kernel", group, dtype)) for group in groups],
        bias={g: ops.bias([_block(spec, params, Key(*place, "recurrent_bias", g), dtype)], batch) for g in inner},
        projection=ops.weight(_joined(spec, params, place, "projection", ("",), dtype)) if spec.proj_size else None,
        gates=np.empty((len(cell.gates) * n, batch), dtype),
        work=np.empty((n, batch), dtype),
        activation=str(spec.activation),
        recurrent_activation=str(spec.recurrent_activation),
        reset_after=spec.reset_after,
    )


def _outer_bias(
    spec: Recurrent, params: Mapping[Key, np.ndarray], place: tuple[int, int], batch: int, dtype: Any, ops: Arithmetic
) -> Any:
    """The biases that stand beside the input product: the input bias, and the recurrent bias where it folds."""
    cell, n = get_cell(spec.cell), spec.hidden_size
    recurrent = _joined(spec, params, place, "recurrent_bias", cell.gates, dtype)
    for i, gate in enumerate(cell.gates):
        if gate not in cell.folds(spec):
            recurrent[i * n : (i + 1) * n] = 0
    return ops.bias([_joined(spec, params, place, "bias", cell.gates, dtype), recurrent], batch)


def _joined(
    spec: Recurrent,
    params: Mapping[Key, np.ndarray],
    place: tuple[int, int],
    role: str,
    gates: Sequence[str],
    dtype: Any,
) -> np.ndarray:
    """Gates of a role one above the other, (g*n, in) or (g*n,): what multiplies a column from the left."""
    return np.concatenate([_block(spec, params, Key(*place, role, gate), dtype).T for gate in gates])


def _block(spec: Layer, params: Mapping[Key, np.ndarray], key: Key, dtype: Any) -> np.ndarray:
    if key not in params:
        raise LayoutError(f"The parameters of {spec} lack the block {str(key)!r}; add it.")
    return params[key].astype(dtype, copy=False)
