"""To PyTorch: weights.safetensors and a model.py with a torch.nn.Module. Needs no PyTorch to write."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xframe.adapters.torch import TORCH
from xframe.escaping import in_source
from xframe.files.told import NAME
from xframe.graph.graph import Graph
from xframe.spec import Dense
from xframe.writers._distributed import in_torch
from xframe.writers._safetensors import Entry, write_safetensors
from xframe.writers._source import assembled
from xframe.writers._told import telling
from xframe.writers._torch_recurrent import Lines, function, native, recurrent_lines
from xframe.writers.base import (
    Part,
    Plan,
    Runner,
    Target,
    Written,
    arrays,
    call,
    distinct,
    module_of,
    number,
    plans,
    save,
)
from xframe.writers.kinds import FAMILIES

__all__ = ["TARGET"]

# The names that a torch.nn.Module has already, of PyTorch 2.3 to 2.13.
RESERVED = frozenset(
    "t_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches eval "
    "extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict modules mtia "
    "named_buffers named_children named_modules named_parameters parameters register_backward_hook register_buffer "
    "register_forward_hook register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook "
    "register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module register_parameter "
    "register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory "
    "state_dict to to_empty train training type xpu zero_grad".split()
)
_DOCUMENTATION = """A model in PyTorch, with its weights in weights.safetensors beside this file.

    model = load("the folder of this file")
    y = model(x)

Needs torch and safetensors."""
_SEVERAL = """Models in PyTorch that share their layers, with the weights in weights.safetensors beside this file.

    model = load("the folder of this file")
{calls}

Needs torch and safetensors."""


def write(graphs: Mapping[str, Graph], folder: Path) -> dict[str, Written]:
    """See `Target.write`."""
    wholes = plans(graphs, RESERVED.union(graphs), "torch_parts")
    layers, methods, made = list[str](), list[str](), dict[str, Written]()
    entries, tensors = list[Entry](), list[dict[str, str]]()
    files = (folder / "weights.safetensors", folder / "model.py")
    for name, whole in wholes.items():
        steps, notes, fates = list[str](), list[str](), dict[str, str]()
        for part in whole.parts:
            written = in_torch(_WRITERS[part.node.kind], part, whole)
            steps += written.steps
            tensors.append(dict(zip(_stored(part), (entry.name for entry in written.entries), strict=True)))
            fates.update(dict.fromkeys(part.node.sources, ", ".join(tensors[-1].values())))
            if part.again:
                continue
            if written.layer:
                layers += [*_comment(part), f"self.{part.name} = {written.layer}"]
            notes += [f"{part.name}: {note}." for note in written.notes]
            entries += written.entries
        methods += _method(whole, name, _method_of(name, wholes), steps)
        made[name] = Written(files, tuple(notes), fates)
    write_safetensors(files[0], whole.dtype, entries, {NAME: telling(graphs, TORCH.name, tensors)})
    save(files[1], assembled(_documentation(wholes), _body(wholes, layers, methods), "torch_parts"))
    return made


def _method_of(entry: str, entries: Collection[str]) -> str:
    """The method of an entry: that named model is forward, or else the first."""
    first = "model" if "model" in entries else next(iter(entries))
    return "forward" if entry == first else entry


def _stored(part: Part) -> list[str]:
    """What PyTorch's packing, or the kind of node, calls the arrays of a node."""
    return [*part.shapes] if part.node.spec is None else [native.name for native in TORCH.natives(part.node.spec)]


def opened(folder: Path, entry: str) -> Runner:
    """See `Target.opened`."""
    import torch

    model = module_of(folder)["load"](folder)
    called = model if entry in ("", "model") else getattr(model, entry)
    parameter = next(model.parameters(), None)

    def taken(x: np.ndarray) -> Any:
        given = torch.as_tensor(np.ascontiguousarray(x))
        return given.to(parameter.dtype) if given.is_floating_point() and parameter is not None else given

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.inference_mode():
            found = called(*map(taken, arrays))
        if isinstance(found, torch.Tensor):
            return [found.numpy()]
        return [y.numpy() for y in (found.values() if isinstance(found, dict) else found)]

    return run


TARGET = Target("torch", "PyTorch", write, opened)


def _comment(part: Part) -> list[str]:
    """Which layer of the source this is, where its name had to be changed."""
    return [] if part.name == part.node.name else [f"# {in_source(part.node.name)}"]


def _documentation(wholes: Mapping[str, Plan]) -> str:
    """What model.py says of itself: of several models, how each is called."""
    if len(wholes) == 1:
        return _DOCUMENTATION
    calls = []
    for entry, whole in wholes.items():
        method = _method_of(entry, wholes)
        result = "y" if whole.graph.form == "one" else "outputs"
        called = "model" if method == "forward" else f"model.{method}"
        calls.append(f"    {result} = {called}({', '.join(whole.arguments)})")
    return _SEVERAL.format(calls="\n".join(calls))


def _outputs_of(entry: str) -> str:
    """The class of an entry's outputs: ``encoder`` has EncoderOutputs, a model alone Outputs."""
    return re.sub(r"(^|_)([a-z])", lambda found: found[2].upper(), entry) + "Outputs"


def _method(whole: Plan, entry: str, method: str, steps: list[str]) -> list[str]:
    """The lines of one method of the module."""
    given = "".join(f", {name}: Tensor" for name in whole.arguments)
    results, form = whole.results, whole.graph.form
    type_, returned = "Tensor", results[0]
    if form == "dict":
        type_ = "dict[str, Tensor]"
        names = [in_source(one.name) for one in whole.graph.outputs]
        returned = f"{{{', '.join(f'{name}: {value}' for name, value in zip(names, results, strict=True))}}}"
    elif form == "list":
        type_, returned = _outputs_of(entry), f"{_outputs_of(entry)}({', '.join(results)})"
    # A first entry that is forward goes by its own name too.
    alias = ["", f"    {entry} = forward"] if method == "forward" and entry not in ("", "model") else []
    return [
        "",
        f"    def {method}(self{given}) -> {type_}:",
        *(f"        {line}" for line in steps),
        f"        return {returned}",
        *alias,
    ]


def _body(wholes: Mapping[str, Plan], layers: list[str], methods: list[str]) -> str:
    """The module and the function that loads it."""
    made = [line for layer in layers for line in layer.split("\n")]
    dtype = next(iter(wholes.values())).dtype
    kind = "" if dtype == "float32" else f".to(torch.{dtype})"
    before = list[str]()
    for entry, whole in wholes.items():
        if whole.graph.form == "list":
            fields = distinct([one.name for one in whole.graph.outputs])
            before += [f"class {_outputs_of(entry)}(NamedTuple):", *(f"    {name}: Tensor" for name in fields), "", ""]
    return "\n".join(
        [
            *before,
            "class Model(nn.Module):",
            "    def __init__(self) -> None:",
            "        super().__init__()",
            *(f"        {line}" for line in made),
            *methods,
            "",
            "",
            "def load(folder: str | Path = Path(__file__).parent) -> Model:",
            '    """The model with its weights, ready to be used; call train() on it to train it."""',
            f"    model = Model(){kind}",
            '    model.load_state_dict(load_file(Path(folder) / "weights.safetensors"))',
            "    return model.eval()",
        ]
    )


def _own(part: Part, names: Mapping[str, str], turned: Callable[[np.ndarray], np.ndarray] | None = None) -> list[Entry]:
    """The tensors of a node that is neither recurrent nor dense; ``turned`` is done to its kernel."""
    shapes = {n: shape for n, shape in part.shapes.items() if n in names}

    def read(dtype: str) -> Iterator[np.ndarray]:
        found = arrays(part, dtype)
        for name in shapes:
            yield turned(found[name]) if turned and name == "kernel" else found[name]

    flipped = {n: shape[::-1] if turned and n == "kernel" else shape for n, shape in shapes.items()}
    listed = [(f"{part.name}.{names[n]}", shape) for n, shape in flipped.items()]
    return Entry.group(listed, read)


def _dense(part: Part, whole: Plan) -> Lines:
    spec = part.node.spec
    assert isinstance(spec, Dense)
    bias = "" if spec.bias else ", bias=False"
    layer = f"nn.Linear({spec.input_size}, {spec.units}{bias})"
    return Lines(layer, [f"{part.y} = self.{part.name}({part.x})"], native(part, spec, lambda one: one.name))


def _embedding(part: Part, whole: Plan) -> Lines:
    words, size = part.shapes["embeddings"]
    mask = [f"{part.mask_made} = {part.x} != 0"] if part.mask_made else []
    steps = [f"{part.x} = {part.x}.long()", *mask, f"{part.y} = self.{part.name}({part.x})"]
    return Lines(f"nn.Embedding({words}, {size})", steps, _own(part, {"embeddings": "weight"}))


def _activation(part: Part, whole: Plan) -> Lines:
    name, plain = str(part.node.options["name"]), len(part.node.options) == 1
    return Lines("", [f"{part.y} = {call(part, function(name) if plain else name, part.x)}"])


def _dropout(part: Part, whole: Plan) -> Lines:
    return Lines(f"nn.Dropout({number(part, 'rate')})", [f"{part.y} = self.{part.name}({part.x})"])


def _masking(part: Part, whole: Plan) -> Lines:
    value = number(part, "value")
    x, y, mask = part.x, part.y, part.mask_made
    if not mask:
        return Lines("", [f"{y} = {x} * ({x} != {value}).any(-1, keepdim=True)"])
    return Lines("", [f"{mask} = ({x} != {value}).any(-1)", f"{y} = {x} * {mask}.unsqueeze(-1)"])


def _conv1d(part: Part, whole: Plan) -> Lines:
    (size, features, filters), y = part.shapes["kernel"], part.y
    options = {name: int(part.node.options[name]) for name in ("stride", "dilation", "groups")}
    given = "".join(f", {name}={value}" for name, value in options.items() if value != 1)
    layer = f"nn.Conv1d({features * options['groups']}, {filters}, {size}{given})"
    pad = {
        "valid": [],
        "causal": [f"{y} = functional.pad({y}, ({(size - 1) * options['dilation']}, 0))"],
        "same": [f"{y} = padded_as_keras({y}, {size}, {options['stride']}, {options['dilation']})"],
    }[part.node.options["padding"]]
    steps = [f"{y} = {part.x}.transpose(1, 2)", *pad, f"{y} = self.{part.name}({y}).transpose(1, 2)"]
    return Lines(layer, steps, _own(part, {"kernel": "weight", "bias": "bias"}, np.transpose))


def _pool(part: Part, whole: Plan) -> Lines:
    keep = ", keepdim=True" if part.node.options["keepdims"] else ""
    if part.node.options["mode"] == "max":
        return Lines("", [f"{part.y} = {part.x}.amax(1{keep})"])
    if part.masked:
        return Lines("", [f"{part.y} = mean_of_valid({part.x}, {part.mask}{keep.replace('keepdim', 'keepdims')})"])
    return Lines("", [f"{part.y} = {part.x}.mean(1{keep})"])


def _permute(part: Part, whole: Plan) -> Lines:
    dims = ", ".join(str(int(axis)) for axis in part.node.options["dims"])
    return Lines("", [f"{part.y} = {part.x}.permute(0, {dims})"])


def _reshape(part: Part, whole: Plan) -> Lines:
    shape = ", ".join(str(int(axis)) for axis in part.node.options["shape"])
    return Lines("", [f"{part.y} = {part.x}.reshape(len({part.x}), {shape})"])


def _flatten(part: Part, whole: Plan) -> Lines:
    return Lines("", [f"{part.y} = {part.x}.flatten(1)"])


def _repeat(part: Part, whole: Plan) -> Lines:
    return Lines("", [f"{part.y} = {part.x}.unsqueeze(1).expand(-1, {int(part.node.options['times'])}, -1)"])


def _last(part: Part, whole: Plan) -> Lines:
    return Lines("", [f"{part.y} = {part.x}[:, -1]"])


def _merge(part: Part, whole: Plan) -> Lines:
    operation = str(part.node.options["operation"])
    masks = (" & " if part.node.options.get("every") else " | ").join(filter(None, part.masks))
    mask = [f"{part.mask_made} = {masks}"] if part.mask_made else []
    if operation in ("maximum", "minimum"):
        value = part.given[0]
        for other in part.given[1:]:
            value = f"torch.{operation}({value}, {other})"
        return Lines("", [*mask, f"{part.y} = {value}"])
    sign = {"add": " + ", "average": " + ", "subtract": " - ", "multiply": " * "}[operation]
    value = sign.join(part.given)
    return Lines(
        "", [*mask, f"{part.y} = ({value}) / {len(part.given)}" if operation == "average" else f"{part.y} = {value}"]
    )


def _concatenate(part: Part, whole: Plan) -> Lines:
    axis = int(part.node.options["axis"])
    mask = []
    if part.mask_made:
        pairs = ", ".join(f"({x}, {m or None})" for x, m in zip(part.given, part.masks, strict=True))
        every = ", every=True" if part.node.options.get("every") else ""
        mask = [f"{part.mask_made} = mask_of_all([{pairs}], {axis}{every})"]
    return Lines("", [*mask, f"{part.y} = torch.cat([{', '.join(part.given)}], dim={axis})"])


_WRITERS: dict[str, Callable[[Part, Plan], Lines]] = {
    "activation": _activation,
    "concatenate": _concatenate,
    "conv1d": _conv1d,
    "dense": _dense,
    "dropout": _dropout,
    "embedding": _embedding,
    "flatten": _flatten,
    "last": _last,
    "masking": _masking,
    "merge": _merge,
    "permute": _permute,
    "pool": _pool,
    "recurrent": recurrent_lines,
    "repeat": _repeat,
    "reshape": _reshape,
    **{kind: write for family in FAMILIES for kind, write in family.TORCH.items()},
}
