"""A recurrent layer in plain PyTorch for what PyTorch's own fused layers cannot do.

Nothing here needs the rest of xframe once the layer is built: it trains, moves to any device, and goes through
``torch.compile``, ``torch.export`` and ``state_dict`` as any other module does. Compiling needs PyTorch 2.12: some older ones
compute wrong gradients without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from xframe import layout
from xframe import spec as specs
from xframe.adapters.torch import TORCH
from xframe.errors import SpecError

__all__ = ["FUNCTIONS", "Recurrent"]


def _softplus(x: Tensor) -> Tensor:
    # PyTorch's softplus becomes x at 20, which float64 can tell from it.
    return -functional.logsigmoid(-x)


def _sparse_plus(x: Tensor) -> Tensor:
    return torch.where(x < 1, torch.square((x + 1).clamp(min=0)) / 4, x)


def _sparsemax(x: Tensor) -> Tensor:
    """What Keras ships by that name, see `xframe.activations`."""
    descending = x.sort(dim=-1, descending=True).values
    sums = descending.cumsum(-1)
    k = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype, device=x.device)
    support = (k * descending > sums - 1).to(x.dtype)
    return (x - ((support * sums).sum(-1, keepdim=True) - 1) / support.sum(-1, keepdim=True)).clamp(min=0)


# By name, of a tensor (..., units). The equations are in xframe.activations.
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "linear": lambda x: x,
    "hard_sigmoid": functional.hardsigmoid,
    "hard_sigmoid_keras2": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    "relu6": functional.relu6,
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.2),
    "elu": functional.elu,
    "selu": functional.selu,
    "celu": functional.celu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "mish": lambda x: x * torch.tanh(_softplus(x)),
    "softplus": _softplus,
    "softsign": functional.softsign,
    "squareplus": lambda x: (x + torch.sqrt(torch.square(x) + 4)) / 2,
    "exponential": torch.exp,
    "log_sigmoid": functional.logsigmoid,
    "hard_tanh": functional.hardtanh,
    "hard_silu": functional.hardswish,
    "tanh_shrink": functional.tanhshrink,
    "soft_shrink": functional.softshrink,
    "hard_shrink": functional.hardshrink,
    "sparse_plus": _sparse_plus,
    "sparse_sigmoid": lambda x: ((x + 1) / 2).clamp(0, 1),
    "softmax": lambda x: functional.softmax(x, dim=-1),
    "log_softmax": lambda x: functional.log_softmax(x, dim=-1),
    "sparsemax": _sparsemax,
}


def _product(a: Tensor, kernel: Tensor, bias: Tensor | None, drop: Tensor | None) -> Tensor:
    """a W^T + b; ``drop`` is what multiplies a first: None, once for all gates (1, ...) or for each by itself."""
    if drop is None:
        return functional.linear(a, kernel, bias)
    blocks = [functional.linear(a * mask, block) for mask, block in zip(drop, kernel.chunk(len(drop)), strict=True)]
    joined = torch.cat(blocks, dim=-1)
    return joined if bias is None else joined + bias


class _Place(NamedTuple):
    """One layer and direction: the spec of its cell, and what multiplies h (``drop`` in training with dropout)."""

    part: specs.Recurrent
    kernel: Tensor
    bias: Tensor | None
    projection: Tensor | None
    drop: Tensor | None

    def of(self, h: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """The recurrent product of the gates from ``first`` up to ``last``."""
        n = self.part.hidden_size
        rows = slice(first * n, last and last * n)
        return _product(
            h,
            self.kernel[rows],
            None if self.bias is None else self.bias[rows],
            None if self.drop is None else self.drop[first:last],
        )

    def activate(self, x: Tensor) -> Tensor:
        return FUNCTIONS[str(self.part.activation)](x)

    def gate(self, x: Tensor) -> Tensor:
        return FUNCTIONS[str(self.part.recurrent_activation)](x)


States = dict[str, Tensor]
_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", lambda: False)  # since PyTorch 2.7


# One time step each: ``a`` (batch, gates * units) is x W^T + b, the states are (batch, size).
def _rnn(place: _Place, a: Tensor, states: States) -> States:
    return {"h": place.activate(a + place.of(states["h"]))}


def _lstm(place: _Place, a: Tensor, states: States) -> States:
    i, f, g, o = (a + place.of(states["h"])).chunk(4, dim=-1)
    c = place.gate(f) * states["c"] + place.gate(i) * place.activate(g)
    h = place.gate(o) * place.activate(c)
    return {"h": h if place.projection is None else functional.linear(h, place.projection), "c": c}


def _gru(place: _Place, a: Tensor, states: States) -> States:
    h, (a_r, a_z, a_n) = states["h"], a.chunk(3, dim=-1)
    if place.part.reset_after:
        b_r, b_z, b_n = place.of(h).chunk(3, dim=-1)
        r, z = place.gate(a_r + b_r), place.gate(a_z + b_z)
        n = place.activate(a_n + r * b_n)
    else:
        b_r, b_z = place.of(h, 0, 2).chunk(2, dim=-1)
        r, z = place.gate(a_r + b_r), place.gate(a_z + b_z)
        n = place.activate(a_n + place.of(r * h, 2))
    return {"h": n + z * (h - n)}


_STEPS = {"rnn": _rnn, "lstm": _lstm, "gru": _gru}


class Recurrent(torch.nn.Module):  # type: ignore[misc]
    """A recurrent layer of any `xframe.Recurrent` spec: any activations, both resets, any mask, direction and merge.

    The equations of a cell are ``xframe.cells.get_cell(name).equations``; what an option means is said at `xframe.Recurrent`.
    Parameters have the names, shapes, gate order (i f g o, r z n) and initial distribution, U(-1/sqrt(n), 1/sqrt(n)), of
    ``torch.nn.RNN``, ``LSTM`` and ``GRU``, so that a state dict of those loads into this layer and the other way round.
    Without a mask, a cell that PyTorch's own layers have runs on their kernels, a layer and direction at a time. Everything else,
    and what is compiled or exported, is a Python loop over time: use PyTorch's own layer where that computes the same.

    Dropout, in training only, is that of Keras 3 at its defaults. ``input_dropout`` multiplies what each layer reads and
    ``recurrent_dropout`` the state h in the recurrent products (nowhere else) by a mask of 0 and 1/(1 - rate), which is
    drawn for each call, row, layer and direction and is the same at all time steps. All gates share the mask of the input,
    unless there is a ``recurrent_dropout``: then each gate has its own, of the input and of h. ``dropout`` acts
    between layers as in ``torch.nn.LSTM``, on each time step by itself.

    A stateful layer keeps its states, detached, in buffers that are not part of its state dict: they belong to the
    data, not to the model, and a state dict stays one of ``torch.nn.LSTM``. They move with the layer to another
    device or dtype. ``torch.export`` takes the states at that moment as those to begin with: call `reset` before it. It
    also fixes the number of time steps, though not the batch size of a layer that is not stateful.

    Args:
        spec: what the layer is, with ``form="layer"``; the attribute of that name.
        dtype, device: of the parameters, as in all of PyTorch's modules.

    Raises:
        SpecError: spec is no `xframe.Recurrent`, or a bare cell.

    Sources: torch/nn/modules/rnn.py of PyTorch 2.13 for the names; keras/src/layers/rnn of Keras 3.15 (rnn.py, bidirectional.py,
    dropout_rnn_cell.py, and a file a cell) for masks, directions, states and dropout.
    """

    def __init__(self, spec: specs.Recurrent, *, dtype: Any = None, device: Any = None) -> None:
        super().__init__()
        if not isinstance(spec, specs.Recurrent):
            raise SpecError(f"xframe.torch.Recurrent takes an xframe.Recurrent, not {spec!r}.")
        if spec.form != "layer":
            raise SpecError("xframe.torch.Recurrent is a layer, not a bare cell; give a spec with form='layer'.")
        self.spec = spec
        self._slots = layout.states(spec)
        self._plain = {(k, d): not TORCH.why_ours(_alone(spec.part(d, k))) for k, d in spec.places}
        for native in TORCH.natives(spec):
            empty = torch.empty(native.shape, dtype=dtype, device=device)
            self.register_parameter(native.name, torch.nn.Parameter(empty))
        if spec.stateful:
            for name in self._slots:
                zeros = torch.zeros(self._state_shape(name, (spec.batch_size,)), dtype=dtype, device=device)
                self.register_buffer(_buffer(name), zeros, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters from U(-1/sqrt(n), 1/sqrt(n)), with n hidden units."""
        for native in TORCH.natives(self.spec):
            leaf = native.leaves[0]
            bound = self.spec.part(leaf.direction, leaf.layer).hidden_size ** -0.5
            torch.nn.init.uniform_(getattr(self, native.name), -bound, bound)

    def reset(self) -> None:
        """Set the states that a stateful layer keeps to zero."""
        for name, buffer in list(self.named_buffers(recurse=False)):
            setattr(self, name, torch.zeros_like(buffer))

    def extra_repr(self) -> str:
        return str(self.spec)

    def forward(
        self, x: Tensor, state: Mapping[str, Tensor] | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, States]:
        """The output at every time step, and the final states.

        Args:
            x: (batch, time, features), or (time, features) for one sequence by itself, in the dtype of the parameters.
            state: initial states by name, as `xframe.layout.states` names them (``h``, ``c``; ``backward h``, where a
                backward layer differs), each (layers, directions, batch, size), in that dtype. None for zeros, or for
                those in which the last call of a stateful layer ended.
            mask: (batch, time), bool, True at valid steps; None if all are. Whether its pattern is the one of the spec is
                not looked at, because the result is right for every pattern.

        Without a batch axis in x there is none in the states, the mask and the output.

        Returns:
            The output (batch, time, features), both directions beside each other with ``merge_mode=None``, and the states.

        Raises:
            SpecError: something has the wrong names, shape or dtype, or a mask is given to a layer whose spec has none.
        """
        self._check(x, state, mask)
        batched = x.dim() == 3
        if not batched:
            x, mask = x.unsqueeze(0), None if mask is None else mask.unsqueeze(0)
            state = state and {name: value.unsqueeze(2) for name, value in state.items()}
        out, states = self._stack(x, self._first(x) if state is None else state, mask)
        if self.spec.stateful:
            self._keep(states)
        if not batched:
            return out.squeeze(0), {name: value.squeeze(2) for name, value in states.items()}
        return out, states

    def _state_shape(self, name: str, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        slot = self._slots[name]
        return (*slot.axes, *batch, slot.size)

    def _check(self, x: Tensor, state: Mapping[str, Tensor] | None, mask: Tensor | None) -> None:
        spec, dtype = self.spec, self.weight_ih_l0.dtype
        if x.dim() not in (2, 3) or x.shape[-1] != spec.input_size or not x.shape[-2]:
            raise SpecError(
                f"x must be (batch, time, features) or (time, features) with {spec.input_size} features, not {tuple(x.shape)}."
            )
        batch = tuple(x.shape[:-2])
        if spec.stateful and (batch or (1,)) != (spec.batch_size,):
            raise SpecError(
                f"This layer keeps states for a batch of {spec.batch_size}, so x cannot be {tuple(x.shape)}."
            )
        if state is not None and set(state) != set(self._slots):
            raise SpecError(
                f"The states of {spec} are {' and '.join(self._slots)}, not {' and '.join(state) or 'none'}."
            )
        for name, value in (state or {}).items():
            if tuple(value.shape) != (shape := self._state_shape(name, batch)):
                axes = f"(layers, directions,{' batch,' if batch else ''} size)"
                raise SpecError(f"State {name} must be {axes} = {shape}, not {tuple(value.shape)}.")
        for name, value in {"x": x, **(state or {})}.items():
            if value.dtype != dtype:
                raise SpecError(f"{name} must be of the parameters' type, {dtype}, not {value.dtype}.")
        if mask is not None:
            self._check_mask(mask, tuple(x.shape[:-1]))

    def _check_mask(self, mask: Tensor, shape: tuple[int, ...]) -> None:
        if self.spec.mask is None:
            raise SpecError("This layer takes no mask; build it from a spec with mask='right' or mask='any'.")
        if mask.dtype != torch.bool:
            raise SpecError(f"A mask must be of type torch.bool, True at valid time steps, not {mask.dtype}.")
        if tuple(mask.shape) != shape:
            raise SpecError(f"A mask for this x must be {shape}, not {tuple(mask.shape)}.")

    def _first(self, x: Tensor) -> States:
        """The states that a call begins with when none are given."""
        if self.spec.stateful:
            # A copy, because what was kept in inference mode cannot be saved for gradients.
            return {name: getattr(self, _buffer(name)).clone() for name in self._slots}
        return {name: x.new_zeros(self._state_shape(name, (x.shape[0],))) for name in self._slots}

    def _keep(self, states: States) -> None:
        """Keep the states in which a call ended for the next one."""
        for name, value in states.items():
            if _exporting():
                # Strict export drops an assignment, and with it the states, without a word.
                getattr(self, _buffer(name)).copy_(value.detach())
            else:
                # Not written over: compiled gradients may read the old states again, and would then silently be wrong
                # (https://github.com/pytorch/pytorch/pull/197039).
                setattr(self, _buffer(name), value.detach().clone())

    def _stack(self, x: Tensor, first: Mapping[str, Tensor], mask: Tensor | None) -> tuple[Tensor, States]:
        """All layers; x (batch, time, features)."""
        spec = self.spec
        # By (layer, direction), which is the order of the states' first two axes as well.
        ends: dict[str, dict[tuple[int, int], Tensor]] = {name: {} for name in self._slots}
        for layer in range(spec.num_layers):
            if layer:
                x = functional.dropout(x, spec.dropout, self.training)
            halves = []
            for d in range(spec.num_directions):
                half = x
                for level in range(layer, layer + len(spec.column(d))):
                    held = layout.places(self._slots, level, d)
                    states = {own: first[name][place] for name, own, place in held}
                    half, states = self._over_time(half, level, d, states, mask)
                    for name, own, place in held:
                        ends[name][place] = states[own]
                halves.append(half)
            x = self._merged(halves)
        stacked = {name: torch.stack([found[place] for place in sorted(found)]) for name, found in ends.items()}
        return x, {name: value.unflatten(0, self._slots[name].axes) for name, value in stacked.items()}

    def _over_time(
        self, x: Tensor, layer: int, direction: int, states: States, mask: Tensor | None
    ) -> tuple[Tensor, States]:
        """One layer and direction: its output (batch, time, size) and its final states."""
        spec, place = self.spec, self._place(x, layer, direction)
        if layer and spec.num_layers == 1 and spec.go_backwards:
            # A stacked cell reads what the one below it has put out at the same step, in the order of the steps.
            x = x.flip(1)
        # The kernels of nn.LSTM and the like do whole sequences at once; compilers do as well with the loop, and take it.
        if self._plain[layer, direction] and mask is None and place.drop is None and not torch.compiler.is_compiling():
            return self._at_once(x, layer, direction, states)
        step, gates = _STEPS[place.part.cell], self._inputs(x, layer, direction).unbind(1)
        times, out = range(x.shape[1]), []
        output = torch.zeros_like(states["h"])
        for t in reversed(times) if spec.go_backwards != bool(direction) else times:
            new = step(place, gates[t], states)
            if mask is None:
                states, output = new, new["h"]
            else:
                valid = mask[:, t, None]
                before = output if spec.masked_output == "repeat" else torch.zeros_like(output)
                output = torch.where(valid, new["h"], before)
                states = {name: torch.where(valid, value, states[name]) for name, value in new.items()}
            out.append(output)
        # Only the backward half of a bidirectional layer is flipped back.
        return torch.stack(out[::-1] if direction else out, dim=1), states

    def _at_once(self, x: Tensor, layer: int, direction: int, states: States) -> tuple[Tensor, States]:
        """The same by the function behind torch.nn.RNN, LSTM or GRU."""
        part, backwards = self.spec.part(direction, layer), self.spec.go_backwards != bool(direction)
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        weights = [w for name in names if (w := self._named(name, layer, direction)) is not None]
        if (drop := self._drop(x, part.input_dropout, (x.shape[0], 1, x.shape[2]))) is not None:
            x = x * drop
        first = [value.unsqueeze(0).contiguous() for value in states.values()]
        function = getattr(torch, f"rnn_{part.activation}" if part.cell == "rnn" else part.cell)
        out, *ends = function(
            x.flip(1) if backwards else x,
            first if part.cell == "lstm" else first[0],
            weights,
            part.bias,
            1,  # layer
            0.0,  # dropout
            self.training,
            False,  # bidirectional
            True,  # batch first
        )
        # As of the loop: only the backward half of a bidirectional layer is flipped back.
        return out.flip(1) if direction else out, {n: end.squeeze(0) for n, end in zip(states, ends, strict=True)}

    def _inputs(self, x: Tensor, layer: int, direction: int) -> Tensor:
        """x W^T + b of all gates at all time steps, (batch, time, gates * units)."""
        part, kernel = self.spec.part(direction, layer), self._named("weight_ih", layer, direction)
        masks = len(kernel) // part.hidden_size if part.recurrent_dropout else 1
        drop = self._drop(x, part.input_dropout, (masks, x.shape[0], 1, x.shape[2]))
        return _product(x, kernel, self._named("bias_ih", layer, direction), drop)

    def _place(self, x: Tensor, layer: int, direction: int) -> _Place:
        part, kernel = self.spec.part(direction, layer), self._named("weight_hh", layer, direction)
        masks = len(kernel) // part.hidden_size
        drop = self._drop(x, part.recurrent_dropout, (masks, x.shape[0], part.state_size))
        bias, projection = (self._named(name, layer, direction) for name in ("bias_hh", "weight_hr"))
        return _Place(part, kernel, bias, projection, drop)

    def _drop(self, x: Tensor, rate: float, shape: tuple[int, ...]) -> Tensor | None:
        """A mask of 0 and 1/(1 - rate), or None where nothing is dropped."""
        return functional.dropout(x.new_ones(shape), rate) if rate and self.training else None

    def _named(self, name: str, layer: int, direction: int) -> Any:
        """A parameter, or None if this layer and direction has none of that name."""
        return getattr(self, TORCH.naming(self.spec, layer, direction, name), None)

    def _merged(self, halves: list[Tensor]) -> Tensor:
        if len(halves) == 1 or self.spec.merge_mode in ("concat", None):
            return torch.cat(halves, dim=-1)
        forward, backward = halves
        if self.spec.merge_mode == "mul":
            return forward * backward
        return (forward + backward) / 2 if self.spec.merge_mode == "ave" else forward + backward


def _alone(part: specs.Recurrent) -> specs.Recurrent:
    """The cell of one layer and direction as a layer by itself, without its dropout."""
    options = {name: getattr(part, name) for name in specs.OF_A_CELL if not name.endswith("dropout")}
    return specs.Recurrent(input_size=part.input_size, **options)


def _buffer(state: str) -> str:
    """The name of the buffer that keeps a state."""
    return f"state_{state.replace(' ', '_')}"
