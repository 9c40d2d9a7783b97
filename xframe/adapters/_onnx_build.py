"""ONNX models made from a spec: tensors, nodes, and what turns arrays around them. Nothing is run here.

Everything works on protobufs, with the ``onnx`` package as its first argument.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from xframe.adapters._onnx_operators import OPERATORS, functions, told
from xframe.cells import get_cell
from xframe.errors import SpecError, UnsupportedError
from xframe.spec import Dense, Layer

if TYPE_CHECKING:
    import numpy as np

__all__ = ["INT32", "TYPES", "array_of", "model_of", "set_numbers", "tensor_of"]

# The float types by their numbers in TensorProto.DataType.
TYPES = {"float32": 1, "float16": 10, "float64": 11, "bfloat16": 16}
INT32, INT64 = 6, 7
# What tells a Slice to turn time, the first axis, round: from the last step, down past the first, by steps of -1.
_FLIP = {"last": [-1], "past": [-(2**63)], "axis": [0], "back": [-1]}
# The first opset in which the recurrent operators have each float type; the others are those of xframe's writer.
_OPSETS = {"bfloat16": (22, 10)}
_OPSET, _IR_VERSION = 17, 8
_LARGEST = 2**31 - 2**20  # what a protobuf may hold is 2 GiB; the graph needs some of it


# ---- Numbers.


def tensor_of(onnx: Any, name: str, array: np.ndarray, dtype: str) -> Any:
    """A tensor of a model. NumPy has no bfloat16: float32 is rounded to the nearest, ties to even."""
    import numpy as np

    with np.errstate(over="ignore"):
        if dtype == "bfloat16":
            whole = np.ascontiguousarray(array, "<f4").view("<u4")
            data = ((whole + 0x7FFF + ((whole >> 16) & 1)) >> 16).astype("<u2").tobytes()
        else:
            data = np.asarray(array, np.dtype(dtype).newbyteorder("<")).tobytes()
    return onnx.TensorProto(name=name, dims=array.shape, data_type=TYPES[dtype], raw_data=data)


def array_of(onnx: Any, tensor: Any) -> np.ndarray:
    """A tensor's numbers; bfloat16 as float32, which holds every one of them.

    Raises:
        SpecError: they are not in the model.
    """
    import numpy as np

    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise SpecError(f"The numbers of {tensor.name!r} lie in another file; load the model with onnx.load.")
    if tensor.data_type == TYPES["bfloat16"] and tensor.HasField("raw_data"):
        half = np.frombuffer(tensor.raw_data, "<u2").reshape(tuple(tensor.dims))
        return (half.astype(np.uint32) << 16).view(np.float32)
    array = np.asarray(onnx.numpy_helper.to_array(tensor))
    return array.astype(np.float32) if tensor.data_type == TYPES["bfloat16"] else array


def set_numbers(onnx: Any, tensor: Any, array: np.ndarray, dtype: str) -> None:
    """Other numbers, and perhaps another type, for a tensor that stays where it is in its model."""
    tensor.CopyFrom(tensor_of(onnx, tensor.name, array, dtype))


# ---- From a spec to a model.


def model_of(onnx: Any, spec: Layer, dtype: str, tensors: Sequence[Any]) -> Any:
    """A model of a layer, its weights those tensors, in the order of the layout.

    Raises:
        UnsupportedError: it would be larger than a protobuf can be, or this ``onnx`` has no such type.
    """
    if (size := sum(len(tensor.raw_data) for tensor in tensors)) > _LARGEST:
        raise UnsupportedError(
            f"The weights of {spec} are {size:,} bytes, and an ONNX model in memory can be 2 GiB; convert to a file instead."
        )
    opset, ir_version = _OPSETS.get(dtype, (_OPSET, _IR_VERSION))
    if opset > onnx.defs.onnx_opset_version():
        raise UnsupportedError(
            f"onnx {onnx.__version__} has no recurrent operators of {dtype}; install onnx 1.17 or later."
        )
    graph = (_dense if isinstance(spec, Dense) else _recurrent)(onnx.helper, spec, TYPES[dtype], tensors, opset)
    return onnx.ModelProto(
        ir_version=ir_version,
        producer_name="xframe",
        opset_import=[onnx.helper.make_opsetid("", opset)],
        graph=graph,
    )


def _dense(helper: Any, spec: Any, kind: int, tensors: Sequence[Any], opset: int) -> Any:
    """y = x B + C."""
    node = helper.make_node("Gemm", ["x", *(tensor.name for tensor in tensors)], ["y"], name="Gemm")
    given = helper.make_tensor_value_info("x", kind, ["batch", spec.input_size])
    return helper.make_graph(
        [node], "dense", [given], [helper.make_tensor_value_info("y", kind, ["batch", spec.units])], tensors
    )


def _recurrent(helper: Any, spec: Any, kind: int, tensors: Sequence[Any], opset: int) -> Any:
    """One node for each layer; everything else turns and cuts arrays, and computes nothing."""
    states, size = get_cell(spec.cell).states, [spec.num_layers * spec.num_directions, "batch", spec.hidden_size]
    masked, info = spec.mask is not None, helper.make_tensor_value_info
    nodes = [helper.make_node("Transpose", ["x"], ["node0/X" if spec.num_layers > 1 else "X"], perm=[1, 0, 2])]
    nodes += _cut(helper, spec, states, opset)
    for layer in range(spec.num_layers):
        nodes += _layer(helper, spec, layer, [tensor.name for tensor in tensors], states)
    nodes += _put_together(helper, spec, states)
    inputs = [info("x", kind, ["batch", "time", spec.input_size])]
    inputs += [info("lengths", INT32, ["batch"])] if masked else []
    inputs += [info(f"initial_{name}", kind, size) for name in states]
    outputs = [info("y", kind, ["batch", "time", spec.output_size])]
    outputs += [info(f"final_{name}", kind, size) for name in states]
    numbers = {"joined": [0, 0, -1], **(_FLIP if spec.go_backwards else {})}
    whole = [helper.make_tensor(name, INT64, [len(values)], values) for name, values in numbers.items()]
    return helper.make_graph(nodes, spec.cell, inputs, outputs, [*tensors, *whole])


def _cut(helper: Any, spec: Any, states: Sequence[str], opset: int) -> list[Any]:
    """Initial states, (layers * directions, batch, size), to those of each layer."""
    if spec.num_layers == 1:
        return []
    number = {"num_outputs": spec.num_layers} if opset >= 18 else {}
    return [
        helper.make_node(
            "Split",
            [f"initial_{name}"],
            [f"node{layer}/initial_{name}" for layer in range(spec.num_layers)],
            axis=0,
            **number,
        )
        for name in states
    ]


def _put_together(helper: Any, spec: Any, states: Sequence[str]) -> list[Any]:
    """The final states of each layer to those of all."""
    if spec.num_layers == 1:
        return []
    return [
        helper.make_node(
            "Concat", [f"node{layer}/final_{name}" for layer in range(spec.num_layers)], [f"final_{name}"], axis=0
        )
        for name in states
    ]


def _layer(helper: Any, spec: Any, layer: int, weights: Sequence[str], states: Sequence[str]) -> Iterator[Any]:
    """The node of a layer, and its output Y (time, directions, batch, size) as the next one reads it, or as it goes out."""
    many, top = spec.num_layers > 1, layer + 1 == spec.num_layers
    at, kind = f"node{layer}/" if many else "", OPERATORS[spec.cell]
    own = [name for name in (f"{at}W", f"{at}R", f"{at}B") if name in weights]
    attributes = told(functions(spec) * spec.num_directions)
    if spec.cell == "gru":
        attributes["linear_before_reset"] = int(bool(spec.reset_after))
    yield helper.make_node(
        kind,
        [f"{at}X", *own, *[""] * (3 - len(own)), "lengths" if spec.mask else "", *(f"{at}initial_{n}" for n in states)],
        [f"{at}Y", *(f"{at}final_{name}" for name in states)],
        name=f"{at}{kind}",
        hidden_size=spec.hidden_size,
        direction="bidirectional" if spec.bidirectional else "reverse" if spec.go_backwards else "forward",
        **attributes,
    )
    y = f"{at}Y"
    if spec.go_backwards:
        # A reverse node turns its output back; here it stays in the order in which the layer makes it.
        yield helper.make_node("Slice", [y, *_FLIP], [f"{at}backwards"])
        y = f"{at}backwards"
    yield helper.make_node("Transpose", [y], [f"{at}turned"], perm=[2, 0, 1, 3] if top else [0, 2, 1, 3])
    yield helper.make_node("Reshape", [f"{at}turned", "joined"], ["y" if top else f"node{layer + 1}/X"])
