"""Recurrent layers as PyTorch's own where these do, and as the module of the template where not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xframe.adapters.torch import TORCH
from xframe.graph.kinds.recurrent import slots
from xframe.layout import Native
from xframe.spec import Recurrent
from xframe.writers._safetensors import Entry
from xframe.writers.base import Part, Plan, bias_notes, nested, packed, recurrent, trained

__all__ = ["Lines", "function", "native", "recurrent_lines"]

# Activation functions as PyTorch has them; the others are in the template.
_FUNCTIONS = {
    "tanh": "torch.tanh",
    "sigmoid": "torch.sigmoid",
    "relu": "torch.relu",
    "exponential": "torch.exp",
    "hard_sigmoid": "functional.hardsigmoid",
    "relu6": "functional.relu6",
    "elu": "functional.elu",
    "selu": "functional.selu",
    "celu": "functional.celu",
    "gelu": "functional.gelu",
    "silu": "functional.silu",
    "softsign": "functional.softsign",
    "log_sigmoid": "functional.logsigmoid",
    "hard_tanh": "functional.hardtanh",
    "hard_silu": "functional.hardswish",
    "tanh_shrink": "functional.tanhshrink",
    "soft_shrink": "functional.softshrink",
    "hard_shrink": "functional.hardshrink",
}


@dataclass(frozen=True)
class Lines:
    """What one node becomes.

    Attributes:
        layer: its layer, if it needs one; steps: the lines of forward.
        entries: its tensors; of recurrent and dense layers in the order of the packing, of others in that of the kind's arrays.
        notes: what is to be said.
    """

    layer: str
    steps: Sequence[str]
    entries: Sequence[Entry] = ()
    notes: Sequence[str] = ()


def native(part: Part, spec: Any, named: Callable[[Native], str]) -> list[Entry]:
    """The tensors of a recurrent or dense layer, in PyTorch's packing."""

    def read(dtype: str) -> Iterator[np.ndarray]:
        yield from (array for _, array in packed(TORCH, spec, part.node.params(), dtype))

    return Entry.group([(f"{part.name}.{named(n)}", n.shape) for n in TORCH.natives(spec)], read)


def recurrent_lines(part: Part, whole: Plan) -> Lines:
    """A recurrent node."""
    # One module is called everywhere; what one of the calls needs of it, all of them get.
    masked = (one.spec for one in part.calls if isinstance(one.spec, Recurrent) and one.spec.mask)
    spec, note = trained(next(masked, recurrent(part)))
    notes = [note] if note else []
    if spec.merge_mode is None:
        notes.append("its two directions are handed on beside each other, as with concat")
    # What stands for both is looked at without the mask, which the layer may never be given.
    plain = _replaced(spec, mask=None, masked_output=None, merge_mode=spec.merge_mode or "concat")
    notes += bias_notes(part.node.params(), TORCH.natives(plain))
    sequence = bool(part.node.options["sequence"])
    why = "a mask reaches it" if part.ever_masked else TORCH.why_ours(plain)
    if not why and plain.stacked:
        why = "torch.nn has layers of one kind"
    if not why:
        entries = native(part, plain, lambda one: one.name)
        return Lines(_fused(plain), _fused_steps(part, plain, sequence), entries, notes)
    notes.append(f"it is a plain PyTorch loop over time, because {why}")
    if plain.dropout:
        notes.append("its dropout between layers, which acts in training only, was left out")
    layer, steps = _ours(spec), [f"{_returned(part, sequence)} = self.{part.name}({', '.join(_given(part))})"]
    if _stateful(part):
        layer = layer.replace("Recurrent(", "RecurrentFromStates(", 1)
    return Lines(layer, steps, native(part, plain, lambda one: _place(spec, one)), notes)


def _stateful(part: Part) -> bool:
    """Whether its layer is given states or hands its own on, at any call."""
    return part.ever_given_states or part.ever_hands_states


def _given(part: Part) -> list[str]:
    """What the layer of the template is called with."""
    masks = [part.mask] if part.masked else []
    states = [f"states=[{', '.join(part.given[1:])}]"] if len(part.given) > 1 else []
    return [part.x, *masks, *states]


def _returned(part: Part, sequence: bool) -> str:
    """What is taken of what the layer of the template puts out."""
    found = [part.y, "_"] if sequence else ["_", part.y]
    if len(part.made) > 1:
        found.append(f"[{', '.join(part.made[1:])}]")
    elif _stateful(part):
        found.append("_")
    return ", ".join(found)


def _replaced(spec: Recurrent, **changes: Any) -> Recurrent:
    return trained(spec, **changes)[0]


def _fused(spec: Recurrent) -> str:
    options = ["batch_first=True"]
    if spec.num_layers > 1:
        options.append(f"num_layers={spec.num_layers}")
    if spec.bidirectional:
        options.append("bidirectional=True")
    if not spec.bias:
        options.append("bias=False")
    if spec.activation == "relu":
        options.append('nonlinearity="relu"')
    if spec.proj_size:
        options.append(f"proj_size={spec.proj_size}")
    if spec.dropout:
        options.append(f"dropout={spec.dropout}")
    return f"nn.{spec.cell.upper()}({spec.input_size}, {spec.hidden_size}, {', '.join(options)})"


def _fused_steps(part: Part, spec: Recurrent, sequence: bool) -> list[str]:
    y, own = part.y, slots(spec)
    # PyTorch has the states of all layers and directions in one tensor, layer by layer.
    order = sorted(range(len(own)), key=lambda i: (own[i].layer, own[i].direction))
    names = list(dict.fromkeys(slot.cell_name for slot in own))
    lines, given = list[str](), ""
    if len(part.given) > 1:
        whole = [_stacked([part.given[1 + i] for i in order if own[i].cell_name == name]) for name in names]
        given = f", {_tuple(whole)}"
    call = f"self.{part.name}({part.x}{given})"
    if len(part.made) == 1:
        lines.append(f"{y}, _ = {call}")
    else:
        made = [[part.made[1 + i] for i in order if own[i].cell_name == name] for name in names]
        # One of each is taken out of its tensor by the same name.
        held = [one[0] if len(one) == 1 else f"{part.name}_{name}" for one, name in zip(made, names, strict=True)]
        lines.append(f"{y}, {_tuple(held)} = {call}")
        lines += [
            f"{one[0]} = {name}[0]" if len(one) == 1 else f"{', '.join(one)} = {name}.unbind(0)"
            for one, name in zip(made, held, strict=True)
        ]
    if not sequence and spec.bidirectional:
        lines.append(f"{y} = torch.cat([{y}[:, -1, :{spec.state_size}], {y}[:, 0, {spec.state_size}:]], dim=-1)")
    elif not sequence:
        lines.append(f"{y} = {y}[:, -1]")
    return lines


def _tuple(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"({', '.join(names)})"


def _stacked(states: list[str]) -> str:
    return f"{states[0]}.unsqueeze(0)" if len(states) == 1 else f"torch.stack([{', '.join(states)}])"


def _ours(spec: Recurrent) -> str:
    """The layer of the template."""
    lines = nested(spec, lambda one, layer, direction: _cell(one, spec.layer_input_size(layer, direction)))
    options = []
    if spec.merge_mode not in ("concat", None):
        options.append(f'merge="{spec.merge_mode}"')
    if spec.go_backwards:
        options.append("go_backwards=True")
    if spec.masked_output == "zero":
        options.append('masked_output="zero"')
    kind = "StatefulRecurrent" if spec.stateful else "Recurrent"
    given = [*lines[:-1], f"{lines[-1]},", *(f"{option}," for option in options)]
    return "\n".join([f"{kind}(", *(f"    {line}" for line in given), ")"])


def _cell(part: Recurrent, inputs: int) -> str:
    given = [str(inputs), str(part.hidden_size), function(str(part.activation))]
    if part.recurrent_activation is not None:
        given.append(function(part.recurrent_activation))
    if not part.bias:
        given.append("bias=False")
    if part.reset_after is False:
        given.append("reset_after=False")
    if part.proj_size:
        given.append(f"projected={part.proj_size}")
    return f"{part.cell.upper()}Cell({', '.join(given)})"


def _place(spec: Recurrent, native: Native) -> str:
    """The name of a parameter in the template's layer: layer, direction and cell, then PyTorch's name."""
    leaf = native.leaves[0]
    layer, cell = (leaf.layer, 0) if spec.num_layers > 1 else (0, leaf.layer)
    return f"layers.{layer}.{leaf.direction}.{cell}.{native.name.split('_l')[0]}"


def function(name: str) -> str:
    """An activation function as source code."""
    return _FUNCTIONS.get(name, name)
