"""To NumPy: weights.npz with canonical names, and a model.py that needs nothing but NumPy."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from xframe.chain.base import Chain
from xframe.errors import UnsupportedError
from xframe.escaping import in_source
from xframe.layout import Key, keys
from xframe.packing import checked
from xframe.spec import Dense, Recurrent
from xframe.writers._source import assembled
from xframe.writers._told import telling
from xframe.writers.base import (
    Part,
    Plan,
    Target,
    Written,
    bias_notes,
    call,
    left_out,
    module_of,
    nested,
    number,
    plan,
    recurrent,
    save,
)

__all__ = ["TARGET"]

# Activation functions as NumPy has them; the others are in the template.
_FUNCTIONS = {"tanh": "np.tanh", "exponential": "np.exp", "celu": "elu"}
_DOCUMENTATION = """A model in NumPy, with its weights in weights.npz beside this file.

    weights = load("the folder of this file")
    y = forward(weights, x)

The names of the weights are: layer of the model, layer of a stack, direction, role and gate. Needs numpy."""


def write(chain: Chain, folder: Path) -> Written:
    """See `Target.write`."""
    whole = plan(chain)
    lines, notes, fates, tensors = [], [], {}, []
    weights = folder / "weights.npz"
    with zipfile.ZipFile(weights, "w", zipfile.ZIP_STORED) as archive:
        for part in whole.parts:
            names = _save(archive, part, whole.dtype)
            tensors.append({name.removeprefix(f"{part.name}/"): name for name in names})
            fates.update(dict.fromkeys(part.step.sources, ", ".join(names)))
            if part.name != part.step.name:
                lines.append(f"# {in_source(part.step.name)}")
            lines += _LINES[part.step.kind](part, whole)
            notes += [f"{part.name}: {note}." for note in _notes(part)]
        said = telling(chain, "canonical", tensors).encode("ascii")
        # A zip holds no longer comment; the file is then read by its tensors alone.
        archive.comment = said if len(said) <= zipfile.ZIP_MAX_COMMENT else b""
    source = save(folder / "model.py", assembled(_DOCUMENTATION, _body(whole, lines), "numpy_parts"))
    return Written((weights, source), tuple(notes), fates)


def opened(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """See `Target.opened`."""
    module = module_of(folder)
    return partial(module["forward"], module["load"](folder))


TARGET = Target("npz", "NumPy", write, opened)


def _save(archive: zipfile.ZipFile, part: Part, dtype: str) -> list[str]:
    """Write the numbers of one step, an array at a time; gives their names."""
    params, names = part.step.params(), []
    for key in list(params) if part.step.spec is None else keys(part.step.spec):
        name = (
            f"{part.name}/{_canonical(key) if isinstance(key, Key) and part.step.kind == 'recurrent' else _plain(key)}"
        )
        array = np.asarray(params[key]).astype(dtype, copy=False)
        with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array(file, checked(array, array.shape, name), allow_pickle=False)
        names.append(name)
    return names


def _canonical(key: Key) -> str:
    """``layer 0/forward/kernel/i``"""
    place = f"layer {key.layer}/{'backward' if key.direction else 'forward'}/{key.role}"
    return f"{place}/{key.gate}" if key.gate else place


def _plain(key: Key | str) -> str:
    return key.role if isinstance(key, Key) else key


def _notes(part: Part) -> list[str]:
    if part.step.kind == "dropout":
        return ["it acts in training only and was left out"]
    return [*left_out(part), *bias_notes(part.step.params())] if part.step.kind == "recurrent" else []


def _body(whole: Plan, lines: list[str]) -> str:
    kind = "np.int64" if whole.whole_numbers else f"np.{whole.dtype}"
    return "\n".join(
        [
            "def forward(weights: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:",
            f"    x = np.asarray(x, {kind})",
            *(f"    {line}" for line in lines),
            "    return x",
            "",
            "",
            "def load(folder: str | Path = Path(__file__).parent) -> dict[str, np.ndarray]:",
            '    """All weights by name."""',
            '    with np.load(Path(folder) / "weights.npz", allow_pickle=False) as found:',
            "        return dict(found)",
        ]
    )


def _recurrent(part: Part, whole: Plan) -> list[str]:
    spec = recurrent(part)
    if spec.stateful:
        raise UnsupportedError(
            f"The NumPy function for {in_source(part.step.name)} keeps no states between calls, and this layer is stateful; "
            "convert it to torch or keras, or load it with stateful=False."
        )
    first, *lines = nested(spec, lambda one, layer, direction: _cell(part.name, one, layer, direction))
    options = []
    if part.masked:
        options.append("mask")
    if spec.merge_mode not in ("concat", None):
        options.append(f'merge="{spec.merge_mode}"')
    if spec.go_backwards:
        options.append("go_backwards=True")
    if part.masked and spec.masked_output == "zero":
        options.append('masked_output="zero"')
    found = "x, _" if part.step.options["sequence"] else "_, x"
    return [f"layers = {first}", *lines, f"{found} = recurrent({', '.join(['layers', 'x', *options])})"]


def _cell(name: str, part: Recurrent, layer: int, direction: int) -> str:
    kind = "ResetBeforeGRUCell" if part.reset_after is False else f"{part.cell.upper()}Cell"
    given = ["weights", f'"{name}/layer {layer}/{"backward" if direction else "forward"}"']
    given += [_function(one) for one in (part.activation, part.recurrent_activation) if one is not None]
    return f"{kind}({', '.join(given)})"


def _function(name: str) -> str:
    return _FUNCTIONS.get(name, name)


def _weights(part: Part, *names: str) -> str:
    return ", ".join(f'weights["{part.name}/{name}"]' for name in names)


def _dense(part: Part, whole: Plan) -> list[str]:
    assert isinstance(part.step.spec, Dense)
    bias = f" + {_weights(part, 'bias')}" if part.step.spec.bias else ""
    return [f"x = x @ {_weights(part, 'kernel')}{bias}"]


def _embedding(part: Part, whole: Plan) -> list[str]:
    mask = ["mask = x != 0"] if part.makes_mask and whole.mask_used(part) else []
    return [*mask, f"x = {_weights(part, 'embeddings')}[x]"]


def _activation(part: Part, whole: Plan) -> list[str]:
    name, plain = str(part.step.options["name"]), len(part.step.options) == 1
    return [f"x = {call(part, _function(name) if plain else name, 'x')}"]


def _masking(part: Part, whole: Plan) -> list[str]:
    value = number(part, "value")
    if not whole.mask_used(part):
        return [f"x = x * (x != {value}).any(-1, keepdims=True)"]
    return [f"mask = (x != {value}).any(-1)", "x = x * mask[..., None]"]


def _layer_norm(part: Part, whole: Plan) -> list[str]:
    return [f"x = layer_norm(x, {_weights(part, 'gamma', 'beta')}, {number(part, 'epsilon')})"]


def _batch_norm(part: Part, whole: Plan) -> list[str]:
    weights = _weights(part, "gamma", "beta", "mean", "variance").split(", ")
    return ["x = batch_norm(", *(f"    {one}," for one in ["x", *weights, number(part, "epsilon")]), ")"]


def _conv1d(part: Part, whole: Plan) -> list[str]:
    options = {name: int(part.step.options[name]) for name in ("stride", "dilation", "groups")}
    given = [_weights(part, "kernel"), _weights(part, "bias")]
    given += [f'padding="{padding}"' for padding in ("same", "causal") if part.step.options["padding"] == padding]
    given += [f"{name}={value}" for name, value in options.items() if value != 1]
    return ["x = conv1d(", *(f"    {one}," for one in ["x", *given]), ")"]


def _pool(part: Part, whole: Plan) -> list[str]:
    keep = ", keepdims=True" if part.step.options["keepdims"] else ""
    if part.step.options["mode"] == "max":
        return [f"x = x.max(1{keep})"]
    return [f"x = mean_of_valid(x, mask{keep})" if part.uses_mask else f"x = x.mean(1{keep})"]


def _permute(part: Part, whole: Plan) -> list[str]:
    return [f"x = x.transpose(0, {', '.join(str(int(axis)) for axis in part.step.options['dims'])})"]


def _reshape(part: Part, whole: Plan) -> list[str]:
    return [f"x = x.reshape(len(x), {', '.join(str(int(axis)) for axis in part.step.options['shape'])})"]


def _repeat(part: Part, whole: Plan) -> list[str]:
    return [f"x = np.repeat(x[:, None], {int(part.step.options['times'])}, axis=1)"]


_LINES: dict[str, Callable[[Part, Plan], list[str]]] = {
    "activation": _activation,
    "batch_norm": _batch_norm,
    "conv1d": _conv1d,
    "dense": _dense,
    "dropout": lambda part, whole: [],
    "embedding": _embedding,
    "flatten": lambda part, whole: ["x = x.reshape(len(x), -1)"],
    "last": lambda part, whole: ["x = x[:, -1]"],
    "layer_norm": _layer_norm,
    "masking": _masking,
    "permute": _permute,
    "pool": _pool,
    "recurrent": _recurrent,
    "repeat": _repeat,
    "reshape": _reshape,
}
