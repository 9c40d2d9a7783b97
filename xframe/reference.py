"""The NumPy reference: the one loop over layers, directions and time. It knows no framework.

The loop is written once against `xframe.cells.base.Arithmetic`. With `Plain` it is the reference; `xframe.noise` runs
it with perturbed operations. Inside, arrays are (size, batch): gates then lie one above the other in memory, each
contiguous, and one product of a kernel with the column [x; 1; h; 1] makes them all, biases included. Buffers are
allocated before the loop. What is not a product then costs little (scripts/bench_reference.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xframe import layout
from xframe.arithmetic import Plain
from xframe.cells import TERMS, Arithmetic, Product, Step, get_cell
from xframe.errors import LayoutError, SpecError
from xframe.layout import Key, block_shape
from xframe.masks import check_mask, is_right_padded
from xframe.packing import checked
from xframe.pieces import Piece, Pieces
from xframe.spec import Dense, Layer, Recurrent, Sequential

__all__ = [
    "Given",
    "Outputs",
    "check_input",
    "check_state",
    "computed",
    "handed_on",
    "last_output",
    "run",
    "run_given",
    "run_on",
    "trajectory",
]


@dataclass(frozen=True)
class Outputs:
    """What a layer puts out.

    Attributes:
        sequence: (batch, time, features), the output of the last layer at every time step; for a dense layer
            (batch, units).
        last: (batch, features), what the final states h of the last layer come to, both directions merged: the forward
            output at the last time step with the backward output at the first one, as Keras returns it without
            ``return_sequences`` and as PyTorch's h_n holds it. Masked steps change no state, so with padding it is the
            output at the last valid step, or, where there is none, the initial state h.
        states: final states by name, each (layers, directions, batch, size); see `xframe.layout.states`.
    """

    sequence: np.ndarray
    last: np.ndarray
    states: Mapping[str, np.ndarray]

    def named(self) -> dict[str, np.ndarray]:
        """The outputs by name: ``sequence``, ``last``, then ``state h`` and so on; a dense layer has ``output``."""
        if not self.states:
            return {"output": self.sequence}
        return {"sequence": self.sequence, "last": self.last, **{f"state {k}": v for k, v in self.states.items()}}


@dataclass(frozen=True)
class Given:
    """What a layer is run on.

    Attributes:
        x: (batch, time, features), or (batch, features) for a dense layer.
        state: initial states by name, each (layers, directions, batch, size); zeros if None.
        mask: (batch, time), bool, or None.
        before: the call before this one, in whose final states this one begins (a stateful layer); ``state`` is then
            None.
    """

    x: np.ndarray
    state: Mapping[str, np.ndarray] | None = None
    mask: np.ndarray | None = None
    before: Given | None = None

    def astype(self, dtype: str) -> Given:
        """The same with inputs and states in another float type."""
        return replace(
            self,
            x=self.x.astype(dtype),
            state=self.state and {name: value.astype(dtype) for name, value in self.state.items()},
            before=self.before and self.before.astype(dtype),
        )


def run(
    spec: Layer | Sequential,
    params: Mapping[Key, np.ndarray] | Sequence[Mapping[Key, np.ndarray]],
    x: np.ndarray,
    state: Mapping[str, np.ndarray] | None = None,
    ops: Arithmetic | None = None,
    mask: np.ndarray | None = None,
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
        mask: (batch, time), bool: False where a time step is left out, see ``mask`` and ``masked_output`` of `Recurrent`;
            in a chain it goes to every recurrent layer.

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
            held = mask if isinstance(layer, Recurrent) else None
            out = run(layer, blocks, x, state if i == 0 else None, ops, held)  # type: ignore[arg-type]
            x = handed_on(spec, i, out)
        return out
    x = check_input(spec, x)
    given = check_state(spec, state, x.shape[0])
    if isinstance(spec, Recurrent):
        _check_mask(spec, mask, x)
    return computed(spec, params, x, given, ops, mask)  # type: ignore[arg-type]


def run_on(
    spec: Layer,
    params: Mapping[Key, np.ndarray],
    x: np.ndarray,
    ops: Arithmetic,
    mask: np.ndarray | None,
    state: Mapping[str, np.ndarray] | None = None,
) -> Outputs:
    """`run` on what a node before the layer has put out: it fits the layer, and may have overflowed."""
    if isinstance(spec, Recurrent):
        _check_mask(spec, mask, x)
    return computed(spec, params, x, state, ops, mask)


def computed(
    spec: Layer,
    params: Mapping[Key, np.ndarray],
    x: np.ndarray,
    state: Mapping[str, np.ndarray] | None,
    ops: Arithmetic,
    mask: np.ndarray | None,
) -> Outputs:
    """`run` of one layer on what has been checked, or on what only stands for arrays."""
    if isinstance(spec, Dense):
        return _dense(spec, params, x, ops)
    return _recurrent(spec, params, x, state, ops, mask)


def run_given(
    spec: Layer | Sequential,
    params: Mapping[Key, np.ndarray] | Sequence[Mapping[Key, np.ndarray]],
    given: Given,
    ops: Arithmetic | None = None,
) -> Outputs:
    """`run` on what is given, after the call before it, if there is one."""
    if given.before is None:
        return run(spec, params, given.x, given.state, ops, given.mask)
    if isinstance(spec, Sequential):
        raise SpecError("A chain hands no states from call to call; run its layers one by one.")
    state = run_given(spec, params, given.before, ops).states
    x = check_input(spec, given.x)
    _check_mask(spec, given.mask, x)  # type: ignore[arg-type]
    # The states that are carried over may have overflowed, which is no mistake of the caller's.
    return computed(spec, params, x, state, ops or Plain(), given.mask)  # type: ignore[arg-type]


def trajectory(spec: Recurrent, params: Mapping[Key, np.ndarray], given: Given) -> dict[str, np.ndarray]:
    """The states in which each layer and direction reads each time step of the input, before it does.

    At time t the forward direction has the state after step t - 1 and the backward one that after step t + 1; at the step
    that is read first, both have their initial one. With ``go_backwards`` it is the other way round. A layer above others
    reads at time t what they have made of step t.

    Args:
        spec, params: the layer.
        given: what it is run on. In the step after a masked one, the states are those before it.

    Returns:
        By name as in `xframe.layout.states`, each (time, layers, directions, batch, size), in the dtype of ``given.x``. Run
        on a single step with these states, a layer without a mask puts out what it does at that step of the whole input.

    Raises:
        SpecError, LayoutError: as in `run`.
    """
    x = check_input(spec, given.x)
    _check_mask(spec, given.mask, x)
    if given.before is None:
        state = check_state(spec, given.state, x.shape[0])
    else:
        state = dict(run_given(spec, params, given.before).states)
    slots, (batch, steps, _) = layout.states(spec), x.shape
    found = {name: np.empty((steps, *slot.axes, batch, slot.size), x.dtype) for name, slot in slots.items()}
    _recurrent(spec, params, x, state, Plain(), given.mask, found)
    return found


def handed_on(chain: Sequential, i: int, out: Outputs) -> np.ndarray:
    """What layer number ``i`` of a chain gives to the next: its sequence to a recurrent one, else its last output."""
    follower = chain.layers[i + 1] if i + 1 < len(chain.layers) else None
    return out.sequence if isinstance(follower, Recurrent) else out.last


def last_output(spec: Recurrent, states: Mapping[str, np.ndarray], ops: Arithmetic | None = None) -> np.ndarray:
    """The output that goes with the final states h of the last layer: (batch, features)."""
    found = layout.states(spec)
    tops = [layout.places(found, spec.depth(d) - 1, d) for d in range(spec.num_directions)]
    halves = [states[name][place] for slots in tops for name, own, place in slots if own == "h"]
    if len(halves) == 1 or spec.merge_mode in ("concat", None):
        return np.concatenate(halves, axis=-1)
    return _merged(spec, halves[0].T, halves[1].T, np.empty_like(halves[0].T), ops or Plain()).T


def _merged(spec: Recurrent, forward: np.ndarray, backward: np.ndarray, out: np.ndarray, ops: Arithmetic) -> np.ndarray:
    """Both directions (size, batch) made one by sum, mul or ave."""
    if spec.merge_mode == "mul":
        return ops.multiply(forward, backward, out=out)
    ops.add(forward, backward, out=out)
    return np.multiply(out, 0.5, out=out) if spec.merge_mode == "ave" else out


def check_input(spec: Layer, x: np.ndarray) -> np.ndarray:
    """x as an array if it fits the layer, else SpecError."""
    x = np.asarray(x)
    axes = ("batch", "time", "features") if isinstance(spec, Recurrent) else ("batch", "features")
    if x.ndim != len(axes) or x.shape[-1] != spec.input_size or 0 in x.shape:
        raise SpecError(f"x must be ({', '.join(axes)}) with {spec.input_size} features, not {x.shape}.")
    if x.dtype not in (np.float16, np.float32, np.float64):
        raise SpecError(f"x must be float16, float32 or float64, not {x.dtype}.")
    return _finite(x, "x")


def check_state(spec: Layer, state: Mapping[str, np.ndarray] | None, batch: int) -> dict[str, np.ndarray] | None:
    """The initial states if they fit the layer, else SpecError."""
    if state is None:
        return None
    found = layout.states(spec)
    if set(state) != set(found):
        raise SpecError(f"The states of {spec} are {' and '.join(found)}, not {' and '.join(state) or 'none'}.")
    for name, value in state.items():
        shape = (*found[name].axes, batch, found[name].size)
        if value.shape != shape:
            raise SpecError(f"State {name} must be (layers, directions, batch, size) = {shape}, not {value.shape}.")
        _finite(value, f"State {name}")
    return dict(state)


def _check_mask(spec: Recurrent, mask: np.ndarray | None, x: np.ndarray) -> None:
    """Refuse a mask that does not fit the input, or of which the spec says nothing."""
    if mask is None:
        return
    if spec.mask is None:
        raise SpecError(
            "A mask was given, but the spec says nothing of masks; give it mask='right' or mask='any', and masked_output."
        )
    check_mask(mask, x)
    if spec.mask == "right" and not is_right_padded(mask):
        raise SpecError(
            "The spec has mask='right', but this mask has a gap, padding on the left, or a row without a valid step; "
            "give the spec mask='any'."
        )


def _finite(array: np.ndarray, name: str) -> np.ndarray:
    try:
        return checked(array, array.shape, name)
    except LayoutError as error:
        raise SpecError(str(error).replace("weights", "it")) from None


def _dense(spec: Dense, params: Mapping[Key, np.ndarray], x: np.ndarray, ops: Arithmetic) -> Outputs:
    weight = _weight(spec, params, (0, 0), Product(("",), "x"), x, ops)
    column = np.ones_like(x, order="C", shape=(spec.input_size + 1, x.shape[0]))
    column[:-1] = x.T
    y = ops.matmul(weight, column, out=_empty(x, (spec.units, x.shape[0])))
    if spec.activation != "linear":
        ops.activate(spec.activation, y, out=y)
    return Outputs(y.T, y.T, {})


def _empty(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A buffer of the kind and dtype of x, which may be more than an array: see `xframe.gradient`."""
    return np.empty_like(x, order="C", shape=shape)


def _recurrent(
    spec: Recurrent,
    params: Mapping[Key, np.ndarray],
    x: np.ndarray,
    state: Mapping[str, np.ndarray] | None,
    ops: Arithmetic,
    mask: np.ndarray | None,
    passed: Mapping[str, np.ndarray] | None = None,
) -> Outputs:
    batch, steps, _ = x.shape
    slots = layout.states(spec)
    final = {name: _empty(x, (*slot.axes, batch, slot.size)) for name, slot in slots.items()}
    columns = [spec.column(d) for d in range(spec.num_directions)]
    sizes = [column[-1].state_size for column in columns]
    for layer in range(spec.num_layers):
        # The memory is (time, size, batch), as the steps make it; the axes are as everywhere outside.
        out = _empty(x, (steps, sum(sizes), batch)).transpose(2, 0, 1)
        for d, column in enumerate(columns):
            below = x
            for level, part in enumerate(column):
                if level + 1 == len(column):
                    half = out[:, :, sum(sizes[:d]) : sum(sizes[: d + 1])]
                else:
                    half = _empty(x, (steps, part.state_size, batch)).transpose(2, 0, 1)
                step = _prepare(spec, params, (layer + level, d), below, ops)
                held = layout.places(slots, layer + level, d)
                for name, own, place in held:
                    step.states[own][...] = 0 if state is None else state[name][place].T
                # Layers that go backwards put out time the other way round, and so the next one reads it.
                order = slice(None, None, -1 if spec.go_backwards and layer % 2 else 1)
                kept = {own: passed[name][order, place[0], place[1]] for name, own, place in held} if passed else {}
                _over_time(spec, (layer + level, d), step, below, half, ops, mask, kept)
                for name, own, place in held:
                    final[name][place] = step.states[own].T
                below = half
        x = out if len(sizes) == 1 or spec.merge_mode in ("concat", None) else _merge_halves(spec, out, ops)
    return Outputs(x, last_output(spec, final, ops), final)


def _over_time(
    spec: Recurrent,
    at: tuple[int, int],
    step: Step,
    x: np.ndarray,
    out: np.ndarray,
    ops: Arithmetic,
    mask: np.ndarray | None,
    passed: Mapping[str, np.ndarray],
) -> None:
    """The loop over time of one layer and direction; x (batch, time, features) in, out (batch, time, state) filled.

    So is, by the cell's own name, each of the states (time, batch, size) of ``passed`` before each step.
    """
    layer, direction = at
    cell, steps, h = get_cell(spec.part(direction, layer).cell), x.shape[1], step.states["h"]
    backwards, above = spec.go_backwards != bool(direction), layer and spec.num_layers == 1
    held = None if mask is None else _Held(step.states, mask, spec.masked_output == "repeat")
    for k in range(steps):
        t = steps - 1 - k if backwards else k
        # Only the backward half of a bidirectional layer is flipped back.
        place = steps - 1 - k if direction else k
        # A stacked cell reads what the one below it has put out at this very step.
        step.x[:-1] = x[:, place if above else t].T
        for name, states in passed.items():
            states[t] = step.states[name].T
        if held is None:
            cell.step(ops, step)
            out[:, place] = h.T
        else:
            held.keep()
            cell.step(ops, step)
            out[:, place] = held.restore(t).T


class _Held:
    """What masked steps leave as it was: the states, and the output before, which they repeat or replace by zeros."""

    def __init__(self, states: Mapping[str, np.ndarray], mask: np.ndarray, repeat: bool) -> None:
        self._states, self._mask, self._repeat = states, mask, repeat
        self._before = {name: np.empty_like(value) for name, value in states.items()}
        self._output = np.zeros_like(states["h"])

    def keep(self) -> None:
        for name, value in self._states.items():
            self._before[name][...] = value

    def restore(self, t: int) -> np.ndarray:
        """Undo the step in the rows that are masked at time ``t``; gives the output (size, batch)."""
        masked = ~self._mask[:, t]
        if not self._repeat:
            self._output[...] = 0
        np.copyto(self._output, self._states["h"], where=~masked)
        for name, value in self._states.items():
            np.copyto(value, self._before[name], where=masked)
        return self._output


def _merge_halves(spec: Recurrent, out: np.ndarray, ops: Arithmetic) -> np.ndarray:
    """(batch, time, 2 * state), forward beside backward -> (batch, time, state), step by step, as `ops` wants columns."""
    n = out.shape[-1] // 2
    merged = _empty(out, (out.shape[1], n, out.shape[0]))
    for t, columns in enumerate(merged):
        _merged(spec, out[:, t, :n].T, out[:, t, n:].T, columns, ops)
    return merged.transpose(2, 0, 1)


def _prepare(
    spec: Recurrent, params: Mapping[Key, np.ndarray], place: tuple[int, int], x: np.ndarray, ops: Arithmetic
) -> Step:
    """Weights and buffers for one layer and direction, ``place``; x (batch, time, features) is what it reads."""
    part, (batch, _, features) = spec.part(place[1], place[0]), x.shape
    cell, n = get_cell(part.cell), part.hidden_size
    xh = np.ones_like(x, order="C", shape=(features + 1 + part.state_size + 1, batch))
    h = xh[features + 1 :]
    states = {s: h[:-1] if s == "h" else _empty(x, (cell.state_size(part, s), batch)) for s in cell.states}
    projection = None
    if part.proj_size:
        block = _block(spec, params, Key(*place, "projection", ""))
        projection = ops.weight(block.T.astype(x.dtype, "C"), (), batch)
    return Step(
        xh=xh,
        x=xh[: features + 1],
        h=h,
        states=states,
        weights=[_weight(spec, params, place, product, x, ops) for product in cell.products(part)],
        projection=projection,
        gates=_empty(x, (len(cell.gates) * n, batch)),
        work=_empty(x, (n, batch)),
        activation=str(part.activation),
        state_activation=str(part.state_activation),
        recurrent_activation=str(part.recurrent_activation),
        reset_after=part.reset_after,
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
    part = spec.part(place[1], place[0])
    n, sizes = part.hidden_size, {"x": x.shape[-1], "h": part.state_size}
    pieces, ones, start = list[Piece](), list[int](), 0
    for term in product.terms:
        (kernel, bias), end = TERMS[term], start + sizes[term]
        for i, gate in enumerate(product.gates):
            rows = slice(i * n, (i + 1) * n)
            pieces.append(Piece(rows, slice(start, end), _block(spec, params, Key(*place, kernel, gate)).T))
            if part.bias:
                pieces.append(Piece(rows, end, _block(spec, params, Key(*place, bias, gate))))
        ones.append(end)
        start = end + 1
    w = Pieces((len(product.gates) * n, start), x.dtype, pieces)
    given: Any = w if getattr(ops, "takes_pieces", False) else w.whole()
    return ops.weight(given, ones, x.shape[0])


def _block(spec: Layer, params: Mapping[Key, np.ndarray], key: Key) -> np.ndarray:
    if key not in params:
        raise LayoutError(f"The parameters of {spec} lack the block {str(key)!r}; add it.")
    return checked(params[key], block_shape(spec, key), str(key), finite=False)
