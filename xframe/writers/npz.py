"""To NumPy: weights.npz with canonical names, and a model.py that needs nothing but NumPy."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from xframe.errors import UnsupportedError
from xframe.escaping import in_source
from xframe.graph.graph import Graph
from xframe.layout import Key, keys
from xframe.packing import checked
from xframe.spec import Dense, Recurrent
from xframe.writers._distributed import in_numpy
from xframe.writers._numpy_functions import function
from xframe.writers._source import assembled
from xframe.writers._told import telling
from xframe.writers.base import (
    Part,
    Plan,
    Runner,
    Target,
    Written,
    bias_notes,
    call,
    left_out,
    module_of,
    nested,
    number,
    plans,
    recurrent,
    save,
)
from xframe.writers.kinds import FAMILIES

__all__ = ["TARGET"]

_DOCUMENTATION = """{} in NumPy{}, with {} weights in weights.npz beside this file.

    weights = load("the folder of this file")
{calls}

The names of the weights are: layer of the model, layer of a stack, direction, role and gate. Needs numpy."""


def write(graphs: Mapping[str, Graph], folder: Path) -> dict[str, Written]:
    """See `Target.write`."""
    wholes = plans(graphs, template="numpy_parts")
    functions, tensors, saved, made = list[str](), list[dict[str, str]](), dict[str, list[str]](), dict[str, Written]()
    files = (folder / "weights.npz", folder / "model.py")
    with zipfile.ZipFile(files[0], "w", zipfile.ZIP_STORED) as archive:
        for entry, whole in wholes.items():
            lines, notes, fates = list[str](), list[str](), dict[str, str]()
            for part in whole.parts:
                if not part.again:
                    saved[part.name] = _save(archive, part, whole.dtype)
                    notes += [f"{part.name}: {note}." for note in _notes(part)]
                fates.update(dict.fromkeys(part.node.sources, ", ".join(saved[part.name])))
                if part.name != part.node.name:
                    lines.append(f"# {in_source(part.node.name)}")
                lines += in_numpy(_LINES[part.node.kind], part, whole)
                tensors.append({name.removeprefix(f"{part.name}/"): name for name in saved[part.name]})
            functions += _entry(whole, entry or "forward", lines)
            made[entry] = Written(files, tuple(notes), fates)
        said = telling(graphs, "canonical", tensors).encode("ascii")
        # A zip holds no longer comment; the file is then read by its tensors alone.
        archive.comment = said if len(said) <= zipfile.ZIP_MAX_COMMENT else b""
    calls = []
    for entry, whole in wholes.items():
        given = "x" if whole.graph.single and not entry else ", ".join(whole.arguments)
        result = "y" if whole.graph.form == "one" else "outputs"
        calls.append(f"    {result} = {entry or 'forward'}(weights, {given})")
    several = ("Models", " that share their layers", "the") if len(wholes) > 1 else ("A model", "", "its")
    said_of = _DOCUMENTATION.format(*several, calls="\n".join(calls))
    save(files[1], assembled(said_of, "\n".join([*functions, *_LOAD]), "numpy_parts"))
    return made


def opened(folder: Path, entry: str) -> Runner:
    """See `Target.opened`."""
    module = module_of(folder)
    weights = module["load"](folder)

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        found = module[entry or "forward"](weights, *arrays)
        return list(found.values()) if isinstance(found, dict) else [found]

    return run


TARGET = Target("npz", "NumPy", write, opened)


def _save(archive: zipfile.ZipFile, part: Part, dtype: str) -> list[str]:
    """Write the numbers of one step, an array at a time; gives their names."""
    params, names = part.node.params(), []
    for key in list(params) if part.node.spec is None else keys(part.node.spec):
        name = (
            f"{part.name}/{_canonical(key) if isinstance(key, Key) and part.node.kind == 'recurrent' else _plain(key)}"
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
    if part.node.kind == "dropout":
        return ["it acts in training only and was left out"]
    return [*left_out(part), *bias_notes(part.node.params())] if part.node.kind == "recurrent" else []


_LOAD = [
    "def load(folder: str | Path = Path(__file__).parent) -> dict[str, np.ndarray]:",
    '    """All weights by name."""',
    '    with np.load(Path(folder) / "weights.npz", allow_pickle=False) as found:',
    "        return dict(found)",
]


def _entry(whole: Plan, name: str, lines: list[str]) -> list[str]:
    """The lines of the function of one model."""
    given, casts = [], []
    for one, variable in zip(whole.graph.inputs, whole.arguments, strict=True):
        given.append(f"{variable}: np.ndarray")
        casts.append(f"    {variable} = np.asarray({variable}, np.{whole.type_of(one, 'int64')})")
    type_, returned = "np.ndarray", whole.results[0]
    if whole.graph.form != "one":
        pairs = zip(whole.graph.outputs, whole.results, strict=True)
        type_ = "dict[str, np.ndarray]"
        returned = f"{{{', '.join(f'{in_source(one.name)}: {value}' for one, value in pairs)}}}"
    return [
        f"def {name}(weights: Mapping[str, np.ndarray], {', '.join(given)}) -> {type_}:",
        *casts,
        *(f"    {line}" for line in lines),
        f"    return {returned}",
        "",
        "",
    ]


def _recurrent(part: Part, whole: Plan) -> list[str]:
    spec = recurrent(part)
    if spec.stateful:
        raise UnsupportedError(
            f"The NumPy function for {in_source(part.node.name)} keeps no states between calls, and this layer is stateful; "
            "convert it to torch or keras, or load it with stateful=False."
        )
    first, *lines = nested(spec, lambda one, layer, direction: _cell(part.name, one, layer, direction))
    options = []
    if part.masked:
        options.append(part.mask)
    if spec.merge_mode not in ("concat", None):
        options.append(f'merge="{spec.merge_mode}"')
    if spec.go_backwards:
        options.append("go_backwards=True")
    if part.masked and spec.masked_output == "zero":
        options.append('masked_output="zero"')
    if len(part.given) > 1:
        options.append(f"states=[{', '.join(part.given[1:])}]")
    found = f"{part.y}, _" if part.node.options["sequence"] else f"_, {part.y}"
    ran = f"{found} = recurrent({', '.join(['layers', part.x, *options])})"
    ended = [f"{', '.join(part.made[1:])}{',' if len(part.made) == 2 else ''} = final_states(layers)"]
    return [f"layers = {first}", *lines, ran, *(ended if len(part.made) > 1 else [])]


def _cell(name: str, part: Recurrent, layer: int, direction: int) -> str:
    kind = "ResetBeforeGRUCell" if part.reset_after is False else f"{part.cell.upper()}Cell"
    given = ["weights", f'"{name}/layer {layer}/{"backward" if direction else "forward"}"']
    given += [function(one) for one in (part.activation, part.recurrent_activation) if one is not None]
    return f"{kind}({', '.join(given)})"


def _weights(part: Part, *names: str) -> str:
    return ", ".join(f'weights["{part.name}/{name}"]' for name in names)


def _dense(part: Part, whole: Plan) -> list[str]:
    assert isinstance(part.node.spec, Dense)
    bias = f" + {_weights(part, 'bias')}" if part.node.spec.bias else ""
    return [f"{part.y} = {part.x} @ {_weights(part, 'kernel')}{bias}"]


def _embedding(part: Part, whole: Plan) -> list[str]:
    mask = [f"{part.mask_made} = {part.x} != 0"] if part.mask_made else []
    return [*mask, f"{part.y} = {_weights(part, 'embeddings')}[{part.x}]"]


def _activation(part: Part, whole: Plan) -> list[str]:
    name, plain = str(part.node.options["name"]), len(part.node.options) == 1
    return [f"{part.y} = {call(part, function(name) if plain else name, part.x)}"]


def _masking(part: Part, whole: Plan) -> list[str]:
    value = number(part, "value")
    x, y, mask = part.x, part.y, part.mask_made
    if not mask:
        return [f"{y} = {x} * ({x} != {value}).any(-1, keepdims=True)"]
    return [f"{mask} = ({x} != {value}).any(-1)", f"{y} = {x} * {mask}[..., None]"]


def _conv1d(part: Part, whole: Plan) -> list[str]:
    options = {name: int(part.node.options[name]) for name in ("stride", "dilation", "groups")}
    given = [_weights(part, "kernel"), _weights(part, "bias")]
    given += [f'padding="{padding}"' for padding in ("same", "causal") if part.node.options["padding"] == padding]
    given += [f"{name}={value}" for name, value in options.items() if value != 1]
    return [f"{part.y} = conv1d(", *(f"    {one}," for one in [part.x, *given]), ")"]


def _pool(part: Part, whole: Plan) -> list[str]:
    keep = ", keepdims=True" if part.node.options["keepdims"] else ""
    if part.node.options["mode"] == "max":
        return [f"{part.y} = {part.x}.max(1{keep})"]
    return [
        f"{part.y} = mean_of_valid({part.x}, {part.mask}{keep})"
        if part.masked
        else f"{part.y} = {part.x}.mean(1{keep})"
    ]


def _permute(part: Part, whole: Plan) -> list[str]:
    return [f"{part.y} = {part.x}.transpose(0, {', '.join(str(int(axis)) for axis in part.node.options['dims'])})"]


def _reshape(part: Part, whole: Plan) -> list[str]:
    return [
        f"{part.y} = {part.x}.reshape(len({part.x}), {', '.join(str(int(axis)) for axis in part.node.options['shape'])})"
    ]


def _repeat(part: Part, whole: Plan) -> list[str]:
    return [f"{part.y} = np.repeat({part.x}[:, None], {int(part.node.options['times'])}, axis=1)"]


def _merge(part: Part, whole: Plan) -> list[str]:
    operation = str(part.node.options["operation"])
    masks = (" & " if part.node.options.get("every") else " | ").join(filter(None, part.masks))
    mask = [f"{part.mask_made} = {masks}"] if part.mask_made else []
    if operation in ("maximum", "minimum"):
        value = part.given[0]
        for other in part.given[1:]:
            value = f"np.{operation}({value}, {other})"
        return [*mask, f"{part.y} = {value}"]
    value = {"add": " + ", "average": " + ", "subtract": " - ", "multiply": " * "}[operation].join(part.given)
    return [*mask, f"{part.y} = ({value}) / {len(part.given)}" if operation == "average" else f"{part.y} = {value}"]


def _concatenate(part: Part, whole: Plan) -> list[str]:
    axis, mask = int(part.node.options["axis"]), []
    if part.mask_made:
        pairs = ", ".join(f"({x}, {m or None})" for x, m in zip(part.given, part.masks, strict=True))
        every = ", every=True" if part.node.options.get("every") else ""
        mask = [f"{part.mask_made} = mask_of_all([{pairs}], {axis}{every})"]
    return [*mask, f"{part.y} = np.concatenate([{', '.join(part.given)}], axis={axis})"]


_LINES: dict[str, Callable[[Part, Plan], list[str]]] = {
    "activation": _activation,
    "concatenate": _concatenate,
    "conv1d": _conv1d,
    "dense": _dense,
    "dropout": lambda part, whole: [] if part.x == part.y else [f"{part.y} = {part.x}"],
    "embedding": _embedding,
    "flatten": lambda part, whole: [f"{part.y} = {part.x}.reshape(len({part.x}), -1)"],
    "last": lambda part, whole: [f"{part.y} = {part.x}[:, -1]"],
    "masking": _masking,
    "merge": _merge,
    "permute": _permute,
    "pool": _pool,
    "recurrent": _recurrent,
    "repeat": _repeat,
    "reshape": _reshape,
    **{kind: write for family in FAMILIES for kind, write in family.NUMPY.items()},
}
