"""What xframe says in a file that it wrote (`xframe.files.told`): the model, step by step, with the tensors of each.

The text stands in the metadata of the file: of safetensors under ``xframe``, of an .npz as the comment of the zip. It is one JSON
object, the configuration of the file (`ModelFile.config`):

    {"format": "xframe/model/1", "name": "model", "input_shape": [null, 3],
     "steps": [{"name": "lstm", "kind": "recurrent", "options": {"sequence": false}, "spec": {"cell": "lstm", ...},
                "packing": "torch", "tensors": {"weight_ih_l0": "lstm.weight_ih_l0", ...}}, ...]}

``tensors`` has the file's names by those of the packing, or, of a step that is neither recurrent nor dense, of its kind. Each
step reads what the one before it puts out. A model that is no chain says more: ``inputs`` ([{"name": ..., "shape": ...}, ...]),
``outputs`` ([{"name": ..., "value": ...}, ...]) and ``form`` ("one", "list" or "dict") in the place of ``input_shape``, and in
each step the names of the values that it ``reads`` and ``writes`` (and ``masks``), as `xframe.graph.Node` has them. A
step that runs on each time step by itself says ``"distributed": true``. Whoever wrote a file can write anything there, so all of
it is checked, against what is known and against the tensors; it is data only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from xframe.adapters import known_packings
from xframe.errors import SpecError, UnsupportedError
from xframe.files.base import ModelFile, unreadable
from xframe.layout import Packing
from xframe.recognition.findings import FoundLayer, Other, Reading
from xframe.recognition.tables import canonical
from xframe.spec import Dense, Layer, Recurrent

__all__ = ["found", "listed", "reading", "spec_fields", "steps_of"]

_EVIDENCE = "xframe wrote the file, and says in it that it is this layer."
_STEP = {"name", "kind", "options", "spec", "packing", "tensors", "distributed"}
_VALUES = ("reads", "writes", "masks")
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_MEND = "convert the model again, or save its tensors alone"


def spec_fields(spec: Layer) -> dict[str, Any]:
    """A layer as it is written."""
    options = spec.options()
    if options.get("backward"):
        options["backward"] = spec_fields(options["backward"])
    if "stacked" in options:
        options["stacked"] = [spec_fields(one) for one in options["stacked"]]
    return {"cell": spec.cell, **options}


def steps_of(file: ModelFile) -> list[Mapping[str, Any]]:
    """The steps that a file lists, of which each has a name, a kind, options and tensors that are in the file.

    Raises:
        FileError: the list makes no sense, or does not speak of the tensors that the file has.
    """
    steps = (file.config or {}).get("steps")
    if not isinstance(steps, list) or not steps:
        raise _wrong(file, "lists no steps")
    taken: set[str] = set()
    for step in steps:
        if not isinstance(step, Mapping) or not set(step) <= _STEP.union(_VALUES):
            raise _wrong(file, "has a step with fields that are not known")
        names = step.get("name"), step.get("kind")
        if not all(isinstance(name, str) for name in names) or not isinstance(step.get("options"), Mapping):
            raise _wrong(file, "has a step without a name, a kind or options")
        if not isinstance(step.get("distributed", False), bool):
            raise _wrong(file, f"says neither that {names[0]!r} runs on each time step nor that it does not")
        if not all(_are_names(step.get(what, [])) for what in _VALUES):
            raise _wrong(file, f"has values of {names[0]!r} that are no names")
        tensors = step.get("tensors")
        if not isinstance(tensors, Mapping) or not all(isinstance(name, str) for name in tensors.values()):
            raise _wrong(file, f"has no tensors for {names[0]!r}")
        for name in tensors.values():
            if name not in file.tensors:
                raise _wrong(file, f"gives {names[0]!r} the tensor {name!r}, which is not there")
            if file.tensors[name].dtype not in _FLOATS:
                raise _wrong(
                    file, f"gives {names[0]!r} the tensor {name!r}, which is of type {file.tensors[name].dtype}"
                )
        taken |= set(tensors.values())
    if rest := [name for name in file.tensors if name not in taken]:
        raise _wrong(file, f"says nothing of the tensor {rest[0]!r}")
    return steps


def listed(file: ModelFile, what: str) -> list[Mapping[str, Any]]:
    """The ``inputs``, each with a name and a shape, or the ``outputs``, each with a name and a value, of a graph.

    Raises:
        FileError: they are none.
    """
    found = (file.config or {}).get(what)
    wanted = {"inputs": {"name", "shape"}, "outputs": {"name", "value"}}[what]
    if not isinstance(found, list) or not found:
        raise _wrong(file, f"lists no {what}")
    for one in found:
        if not isinstance(one, Mapping) or set(one) != wanted or not isinstance(one["name"], str):
            raise _wrong(file, f"lists {what} without a name")
        if what == "outputs" and not isinstance(one["value"], str):
            raise _wrong(file, f"lists the output {one['name']!r} without a value")
    return found


def _are_names(given: Any) -> bool:
    return isinstance(given, list) and all(isinstance(name, str) for name in given)


def reading(file: ModelFile, step: Mapping[str, Any]) -> Reading:
    """The layer of a recurrent or dense step.

    Raises:
        FileError: it is none, or its tensors do not have the shapes that the layer has.
    """
    name = step["name"]
    spec, packing = _spec(file, name, step.get("spec")), _packing(file, name, step.get("packing"))
    try:
        natives = {native.name: native.shape for native in packing.natives(spec)}
    except UnsupportedError as error:
        raise _wrong(file, f"says of {name!r} what cannot be: {error}") from None
    if natives.keys() != step["tensors"].keys():
        raise _wrong(file, f"gives {name!r} the tensors {_listed(step['tensors'])}, and {spec} has {_listed(natives)}")
    for native, shape in natives.items():
        tensor = file.tensors[step["tensors"][native]]
        if tensor.shape != shape:
            raise _wrong(
                file, f"says that {name!r} is {spec}, whose {native} is {shape}, and {tensor.name!r} is {tensor.shape}"
            )
    return Reading(packing, spec, {native: step["tensors"][native] for native in natives}, (_EVIDENCE,))


def found(file: ModelFile) -> tuple[list[FoundLayer], list[Other]]:
    """The recurrent and dense layers, and those of other kinds that have tensors."""
    layers, others = list[FoundLayer](), list[Other]()
    # A layer that is called again is found once.
    for step in {step["name"]: step for step in steps_of(file)}.values():
        tensors = tuple(step["tensors"].values())
        if step["kind"] in ("recurrent", "dense"):
            layers.append(FoundLayer(step["name"], (reading(file, step),), tensors))
        elif tensors:
            others.append(Other(step["name"], step["kind"], dict(step["tensors"])))
    return layers, others


def _packing(file: ModelFile, name: str, given: Any) -> Packing:
    known = {packing.name: packing for packing in (*known_packings().values(), canonical())}
    if not isinstance(given, str) or given not in known:
        raise _wrong(file, f"packs {name!r} in a way that is not known ({given!r})")
    return known[given]


def _spec(file: ModelFile, name: str, given: Any) -> Layer:
    """The layer, with each option checked as one that a user gives."""
    try:
        return _layer(given)
    except (AttributeError, KeyError, RecursionError, SpecError, TypeError, ValueError) as error:
        raise _wrong(file, f"describes {name!r} as a layer that cannot be: {error}") from None


def _layer(given: Any) -> Layer:
    options = dict(given)
    cell = options.pop("cell")
    if cell == "dense":
        return Dense(**options)
    if options.get("backward") is not None:
        options["backward"] = _part(options["backward"])
    options["stacked"] = tuple(_part(one) for one in options.get("stacked", ()))
    return Recurrent(cell, **options)


def _part(given: Any) -> Recurrent:
    """What runs in a layer beside its first cell, which holds no further layers itself but the stacked ones."""
    layer = _layer(given)
    if not isinstance(layer, Recurrent):
        raise SpecError("a dense layer is no part of a recurrent one.")
    return layer


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _wrong(file: ModelFile, why: str) -> Exception:
    return unreadable(file.path, f"its metadata {why.rstrip('.')}", _MEND)
