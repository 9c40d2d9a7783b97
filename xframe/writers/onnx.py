"""To ONNX: model.onnx with RNN, LSTM and GRU nodes, never a Loop, and a model.py that runs it in ONNX Runtime."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial, reduce
from pathlib import Path

import numpy as np

from xframe.errors import FileError, MissingFrameworkError, UnsupportedError
from xframe.escaping import in_source
from xframe.graph import graph as graphs
from xframe.layout import Key
from xframe.spec import Dense
from xframe.writers._distributed import in_onnx
from xframe.writers._onnx_functions import activation_node
from xframe.writers._onnx_graph import Graph
from xframe.writers._onnx_recurrent import recurrent_nodes, recurrent_notes
from xframe.writers._source import assembled
from xframe.writers.base import (
    Part,
    Plan,
    Runner,
    Target,
    Values,
    Written,
    arrays,
    distinct,
    module_of,
    number,
    plan,
    save,
)
from xframe.writers.kinds import FAMILIES

__all__ = ["TARGET"]

_DOCUMENTATION = """Runs model.onnx, which lies beside this file, in ONNX Runtime.

    session = load("the folder of this file")
    {result} = run(session, {given})

Needs onnxruntime and numpy."""
_DOCUMENTATION_OF_SEVERAL = """Runs models that lie beside this file, each in an ONNX file of its name, in ONNX Runtime.

    sessions = load("the folder of this file")
{calls}

Needs onnxruntime and numpy."""
_BODY = '''
def load(folder: str | Path = Path(__file__).parent) -> onnxruntime.InferenceSession:
    """The model, ready to be run."""
    return onnxruntime.InferenceSession(str(Path(folder) / "model.onnx"), providers=["CPUExecutionProvider"])


{run}
'''
_BODY_OF_SEVERAL = '''
NAMES = ({names})


def load(folder: str | Path = Path(__file__).parent) -> dict[str, onnxruntime.InferenceSession]:
    """The models by name, ready to be run."""
    options = {{"providers": ["CPUExecutionProvider"]}}
    return {{name: onnxruntime.InferenceSession(str(Path(folder) / f"{{name}}.onnx"), **options) for name in NAMES}}


{runs}
'''
_ONE = '''def run(session: onnxruntime.InferenceSession, x: np.ndarray) -> np.ndarray:
    """The output for an input, the batch first."""
    return session.run(None, {{"input": np.asarray(x, np.{dtype})}})[0]'''
_SEVERAL_OF_THEM = '''def run(session: onnxruntime.InferenceSession, {arguments}) -> dict[str, np.ndarray]:
    """The outputs by name for the inputs, the batch first."""
    given = {{{given}}}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, given)))'''
# Whether it puts out one value.
_OF_SEVERAL = {
    True: '''def {entry}(sessions: dict[str, onnxruntime.InferenceSession], {arguments}) -> np.ndarray:
    """The output of {entry}.onnx for its inputs, the batch first."""
    given = {{{given}}}
    return sessions["{entry}"].run(None, given)[0]''',
    False: '''def {entry}(sessions: dict[str, onnxruntime.InferenceSession], {arguments}) -> dict[str, np.ndarray]:
    """The outputs of {entry}.onnx by name for its inputs, the batch first."""
    given = {{{given}}}
    names = [output.name for output in sessions["{entry}"].get_outputs()]
    return dict(zip(names, sessions["{entry}"].run(names, given)))''',
}
_BOOL, _FLOAT = 9, 1  # of onnx.TensorProto


def write(models: Mapping[str, graphs.Graph], folder: Path) -> dict[str, Written]:
    """See `Target.write`. The numbers are float32, the one type that ONNX Runtime's recurrent operators have on a CPU.

    Each of several models is a file of its own, with the weights that it uses.

    Raises:
        MissingFrameworkError: the `onnx` package is not installed.
    """
    made, calls, runs = dict[str, Written](), list[str](), list[str]()
    for entry, model in models.items():
        whole = plan(model)
        made[entry], types = _model(whole, folder / f"{entry or 'model'}.onnx", not entry and model.single)
        listed = ", ".join(f'"{name}": np.asarray({name}, np.{dtype})' for name, dtype in types.items())
        arguments = ", ".join(f"{name}: np.ndarray" for name in types)
        result = "y" if model.form == "one" else "outputs"
        if entry:
            calls.append(f"    {result} = {entry}(sessions, {', '.join(types)})")
            runs.append(_OF_SEVERAL[model.form == "one"].format(entry=entry, arguments=arguments, given=listed))
        elif model.single:
            said, runs = _DOCUMENTATION.format(result="y", given="x"), [_ONE.format(dtype=types["input"])]
        else:
            said = _DOCUMENTATION.format(result="outputs", given=", ".join(types))
            runs = [_SEVERAL_OF_THEM.format(arguments=arguments, given=listed)]
    if "" in models:
        body = _BODY.format(run=runs[0])
    else:
        said = _DOCUMENTATION_OF_SEVERAL.format(calls="\n".join(calls))
        names = ", ".join(f'"{entry}"' for entry in models)
        body = _BODY_OF_SEVERAL.format(names=f"{names}," if len(models) == 1 else names, runs="\n\n\n".join(runs))
    source = save(folder / "model.py", assembled(said, body))
    return {entry: replace(one, files=(*one.files, source)) for entry, one in made.items()}


def _model(whole: Plan, path: Path, alone: bool) -> tuple[Written, dict[str, str]]:
    """Write one model; gives the types of its inputs by name, too. One ``alone`` has an "input" and an "output"."""
    model, graph = whole.graph, Graph()
    notes, fates = list[str](), dict[str, str]()
    if whole.dtype != "float32":
        notes.append(
            f"The numbers are float32 instead of {whole.dtype}, which ONNX Runtime has no recurrent layers for."
        )
    inputs = {one.name: "input" if alone else name for one, name in zip(model.inputs, whole.arguments, strict=True)}
    values: dict[str, Values] = {value: (name, "") for value, name in inputs.items()}
    for part in whole.parts:
        graph.step = part.name
        read = [values[value] for value in part.node.reads]
        # Weights of a layer that is called again are there already.
        with graph.layer(part.name) as names:
            put_out = model.shapes[part.node.writes[0]]
            made = in_onnx(graph, part, read, put_out, partial(_written, graph))
        values.update(zip(part.node.writes, made, strict=True))
        if not part.again:
            fates.update(dict.fromkeys(part.node.sources, ", ".join(names)))
            notes += [f"{part.name}: {note}." for note in _notes(part)]
    given = []
    for one in model.inputs:
        shape = ["batch", *(size or ("time" if i == 0 else f"axis {i}") for i, size in enumerate(one.shape))]
        given.append((inputs[one.name], "INT64" if one.name in model.words else "FLOAT", shape))
    outputs = ["output"] if alone else distinct([one.name for one in model.outputs], inputs.values())
    results = [
        (name, values[one.value][0], ["batch", *model.shapes[one.value]])
        for name, one in zip(outputs, model.outputs, strict=True)
    ]
    files = graph.write(path, given, results)
    types = {name: "int64" if kind == "INT64" else "float32" for name, kind, _ in given}
    return Written(tuple(files), tuple(notes), fates), types


def opened(folder: Path, entry: str) -> Runner:
    """See `Target.opened`. The model is first checked with onnx.checker.

    Raises:
        FileError: onnx.checker finds something wrong.
        MissingFrameworkError: onnx or onnxruntime is not installed.
    """
    path = folder / f"{entry or 'model'}.onnx"
    try:
        import onnx

        importlib.import_module("onnxruntime")  # which model.py needs
    except ImportError as error:
        raise MissingFrameworkError(f"Cannot run {path}: {error}; pip install 'xframe[files]'.") from None
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise FileError(f"{path} is no valid model: {error}.") from None
    module = module_of(folder)
    loaded = module["load"](folder)

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        found = module[entry or "run"](loaded, *arrays)
        return list(found.values()) if isinstance(found, dict) else [found]

    return run


TARGET = Target("onnx", "ONNX", write, opened)


def _written(graph: Graph, part: Part, read: list[Values]) -> list[Values]:
    if part.node.kind in _SEVERAL:
        return _SEVERAL[part.node.kind](graph, part, read)
    return [_NODES[part.node.kind](graph, part, *read[0])]


def _notes(part: Part) -> list[str]:
    notes = recurrent_notes(part) if part.node.kind == "recurrent" else []
    if part.node.kind == "batch_norm":
        notes.append("its four arrays became a scale and a shift")
    if part.node.kind == "dropout":
        notes.append("it acts in training only and was left out")
    return notes


def _recurrent(graph: Graph, part: Part, read: list[Values]) -> list[Values]:
    (x, mask), *states = read
    y, *final = recurrent_nodes(graph, part, x, mask if part.masked else "", [state for state, _ in states])
    return [(y, mask if part.node.options["sequence"] else ""), *((state, "") for state in final)]


def _merge(graph: Graph, part: Part, read: list[Values]) -> list[Values]:
    operation, values = str(part.node.options["operation"]), [x for x, _ in read]
    kinds = {"add": "Sum", "average": "Mean", "maximum": "Max", "minimum": "Min", "subtract": "Sub"}
    y = values[0]
    if operation in kinds:
        y = graph.node(kinds[operation], *values)
    else:
        for value in values[1:]:
            y = graph.node("Mul", y, value)
    return [(y, _mask_of_all(graph, part, read) if part.mask_made else "")]


def _mask_of_all(graph: Graph, part: Part, read: list[Values]) -> str:
    """The mask that is made of those that come with values of the same time steps."""
    kind = "And" if part.node.options.get("every") else "Or"
    return str(reduce(partial(graph.node, kind), (mask for _, mask in read if mask)))


def _concatenate(graph: Graph, part: Part, read: list[Values]) -> list[Values]:
    axis = int(part.node.options["axis"])
    y = graph.node("Concat", *(x for x, _ in read), axis=axis)
    if not part.mask_made:
        return [(y, "")]
    if axis == -1:
        made = _mask_of_all(graph, part, read)
        if not part.node.options.get("every") and not all(mask for _, mask in read):
            made = graph.node("Or", made, graph.node("Not", made))  # a value without one counts everywhere
        return [(y, made)]
    raise UnsupportedError(
        f"xframe does not write the mask of values that are put behind each other in time, which {in_source(part.node.name)} "
        "makes; convert it to torch."
    )


def _own(graph: Graph, part: Part, *names: str) -> list[str]:
    """Arrays of a node as weights."""

    def read(dtype: str) -> Iterator[np.ndarray]:
        found = arrays(part, dtype)
        yield from (found[name] for name in names)

    return graph.weights([(name, part.shapes[name]) for name in names], read)


def _dense(graph: Graph, part: Part, x: str, mask: str) -> Values:
    spec = part.node.spec
    assert isinstance(spec, Dense)
    shapes = {"kernel": (spec.input_size, spec.units), **({"bias": (spec.units,)} if spec.bias else {})}

    def read(dtype: str) -> Iterator[np.ndarray]:
        params = part.node.params()
        yield from (params[Key(0, 0, name, "")] for name in shapes)

    kernel, *bias = graph.weights(list(shapes.items()), read)
    y = graph.node("MatMul", x, kernel)
    return graph.node("Add", y, *bias) if bias else y, mask


def _embedding(graph: Graph, part: Part, x: str, mask: str) -> Values:
    made = ""
    if part.makes_mask:
        made = graph.node("Not", graph.node("Equal", x, graph.constant(0)))
    return graph.node("Gather", *_own(graph, part, "embeddings"), x), made


def _masking(graph: Graph, part: Part, x: str, mask: str) -> Values:
    value = graph.constant(float(number(part, "value")), "float32")
    differs = graph.node("Cast", graph.node("Not", graph.node("Equal", x, value)), to=_FLOAT)
    some = graph.node("ReduceMax", differs, axes=[-1])
    kept = graph.node("Squeeze", some, graph.constant([-1]))
    return graph.node("Mul", x, some), graph.node("Cast", kept, to=_BOOL)


def _conv1d(graph: Graph, part: Part, x: str, mask: str) -> Values:
    size, features, filters = part.shapes["kernel"]
    stride, dilation, groups = (int(part.node.options[name]) for name in ("stride", "dilation", "groups"))

    def read(dtype: str) -> Iterator[np.ndarray]:
        found = arrays(part, dtype)
        yield from (found["kernel"].transpose(2, 1, 0), found["bias"])

    weights = graph.weights([("kernel", (filters, features, size)), ("bias", (filters,))], read)
    reach, padding = (size - 1) * dilation, part.node.options["padding"]
    pads = {"valid": [0, 0], "causal": [reach, 0], "same": [reach // 2, reach - reach // 2]}[padding]
    # How much "same" pads depends on the length where steps are skipped, and ONNX can be told so.
    where = {"auto_pad": "SAME_UPPER"} if padding == "same" and stride > 1 else {"pads": pads}
    turned = graph.node("Transpose", x, perm=[0, 2, 1])
    y = graph.node(
        "Conv", turned, *weights, kernel_shape=[size], strides=[stride], dilations=[dilation], group=groups, **where
    )
    return graph.node("Transpose", y, perm=[0, 2, 1]), ""


def _pool(graph: Graph, part: Part, x: str, mask: str) -> Values:
    keep = int(bool(part.node.options["keepdims"]))
    if part.node.options["mode"] == "max":
        return graph.node("ReduceMax", x, axes=[1], keepdims=keep), ""
    if not mask:
        return graph.node("ReduceMean", x, axes=[1], keepdims=keep), ""
    weights = graph.node("Unsqueeze", graph.node("Cast", mask, to=_FLOAT), graph.constant([2]))
    total = graph.node("ReduceSum", graph.node("Mul", x, weights), graph.constant([1]), keepdims=keep)
    return graph.node("Div", total, graph.node("ReduceSum", weights, graph.constant([1]), keepdims=keep)), ""


def _permute(graph: Graph, part: Part, x: str, mask: str) -> Values:
    return graph.node("Transpose", x, perm=[0, *(int(axis) for axis in part.node.options["dims"])]), ""


def _reshaped(graph: Graph, x: str, shape: list[int]) -> Values:
    return graph.node("Reshape", x, graph.constant([0, *shape])), ""


def _reshape(graph: Graph, part: Part, x: str, mask: str) -> Values:
    return _reshaped(graph, x, [int(axis) for axis in part.node.options["shape"]])


def _repeat(graph: Graph, part: Part, x: str, mask: str) -> Values:
    row = graph.node("Unsqueeze", x, graph.constant([1]))
    return graph.node("Tile", row, graph.constant([1, int(part.node.options["times"]), 1])), ""


_SEVERAL: dict[str, Callable[[Graph, Part, list[Values]], list[Values]]] = {
    "concatenate": _concatenate,
    "merge": _merge,
    "recurrent": _recurrent,
    **{kind: write for family in FAMILIES for kind, write in family.ONNX.items()},
}
_NODES: dict[str, Callable[[Graph, Part, str, str], Values]] = {
    "activation": lambda graph, part, x, mask: (activation_node(graph, part, x), mask),
    "conv1d": _conv1d,
    "dense": _dense,
    "dropout": lambda graph, part, x, mask: (x, mask),
    "embedding": _embedding,
    "flatten": lambda graph, part, x, mask: _reshaped(graph, x, [-1]),
    "last": lambda graph, part, x, mask: (graph.node("Gather", x, graph.constant(-1), axis=1), ""),
    "masking": _masking,
    "permute": _permute,
    "pool": _pool,
    "repeat": _repeat,
    "reshape": _reshape,
}
