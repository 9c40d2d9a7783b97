"""Convolutions and pooling: PyTorch and ONNX have the features before the other axes, Keras and NumPy behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from xframe.writers._keras_recurrent import Made, layer_text
from xframe.writers._onnx_graph import Graph
from xframe.writers._safetensors import Entry
from xframe.writers._torch_recurrent import Lines
from xframe.writers.base import Part, Plan, Values, arrays

__all__ = ["KERAS", "NUMPY", "ONNX", "TORCH"]


def _rank(part: Part) -> int:
    """How many axes are between the batch and the features."""
    return len(part.reads[0]) - 1


def _ints(part: Part, option: str) -> tuple[int, ...]:
    return tuple(int(one) for one in part.node.options[option])


def _dilation(part: Part) -> tuple[int, ...]:
    return _ints(part, "dilation") if "dilation" in part.node.options else (1,) * _rank(part)


def _first(rank: int) -> str:
    """The axes with the features first."""
    return ", ".join(map(str, (0, rank + 1, *range(1, rank + 1))))


def _last(rank: int) -> str:
    """The axes with the features last."""
    return ", ".join(map(str, (0, *range(2, rank + 2), 1)))


def _turned(part: Part, name: str, array: np.ndarray) -> np.ndarray:
    """A kernel as PyTorch and ONNX have it: filters, features, then the window."""
    if name != "kernel":
        return array
    kernel = np.moveaxis(array, (-1, -2), (0, 1))
    if part.node.kind == "depthwise_conv":
        # m kernels for each feature, (m, d, *size), are d m groups of one: those of one feature beside each other.
        kernel = np.moveaxis(array, (-2, -1), (0, 1))
        return np.ascontiguousarray(kernel.reshape(-1, 1, *kernel.shape[2:]))
    return np.ascontiguousarray(kernel)


def _weights(part: Part) -> tuple[list[tuple[str, tuple[int, ...]]], Callable[[str], Iterator[np.ndarray]]]:
    shapes = {
        name: _turned(part, name, np.broadcast_to(np.float32(0), shape)).shape for name, shape in part.shapes.items()
    }

    def read(dtype: str) -> Iterator[np.ndarray]:
        found = arrays(part, dtype)
        yield from (_turned(part, name, found[name]) for name in shapes)

    return list(shapes.items()), read


# ---- PyTorch.


def _torch_conv(part: Part, whole: Plan) -> Lines:
    rank, size = _rank(part), part.shapes["kernel"][:-2]
    depthwise = part.node.kind == "depthwise_conv"
    features = part.reads[0][-1]
    groups = int(features or 1) if depthwise else int(part.node.options["groups"])
    given = "".join(
        f", {name}={value}"
        for name, value, usual in (
            ("stride", _ints(part, "stride"), (1,) * rank),
            ("dilation", _dilation(part), (1,) * rank),
            ("groups", groups, 1),
        )
        if value != usual
    )
    layer = f"nn.Conv{rank}d({features}, {part.shapes['bias'][0]}, {size}{given})"
    y = part.y
    steps = [f"{y} = {part.x}.permute({_first(rank)})"]
    if part.node.options["padding"] == "same":
        steps.append(f"{y} = padded_same({y}, {size}, {_ints(part, 'stride')}, {_dilation(part)})")
    steps.append(f"{y} = self.{part.name}({y}).permute({_last(rank)})")
    return Lines(layer, steps, _torch_entries(part))


def _torch_entries(part: Part) -> list[Entry]:
    listed, read = _weights(part)
    return Entry.group([(f"{part.name}.{_NAMES[name]}", shape) for name, shape in listed], read)


_NAMES = {"kernel": "weight", "bias": "bias"}


def _torch_transposed(part: Part, whole: Plan) -> Lines:
    rank, size, stride = _rank(part), part.shapes["kernel"][:-2], _ints(part, "stride")
    before, behind, lacking = _ends(part)
    more = f", output_padding={tuple(lacking)}" if any(lacking) else ""
    layer = f"nn.ConvTranspose{rank}d({part.reads[0][-1]}, {part.shapes['bias'][0]}, {size}, stride={stride}{more})"
    y = part.y
    steps = [f"{y} = self.{part.name}({part.x}.permute({_first(rank)})).permute({_last(rank)})"]
    if any(before) or any(behind):
        cuts = ", ".join(f"{a or ''}:{-b or ''}" for a, b in zip(before, behind, strict=True))
        steps.append(f"{y} = {y}[:, {cuts}]")
    return Lines(layer, steps, _torch_entries(part))


def _ends(part: Part) -> tuple[list[int], list[int], list[int]]:
    """How many places are cut off before and behind what a transposed convolution makes, and how many lack behind it."""
    over = [n - step for n, step in zip(part.shapes["kernel"][:-2], _ints(part, "stride"), strict=True)]
    same = part.node.options["padding"] == "same"
    before = [max(one, 0) // 2 if same else 0 for one in over]
    behind = [max(one, 0) - max(one, 0) // 2 if same else 0 for one in over]
    return before, behind, [max(-one, 0) for one in over]


def _torch_pool(part: Part, whole: Plan) -> Lines:
    rank, size, stride, y = _rank(part), _ints(part, "size"), _ints(part, "stride"), part.y
    steps = [f"{y} = {part.x}.permute({_first(rank)})"]
    same = part.node.options["padding"] == "same"
    if part.node.options["mode"] == "max":
        if same:
            steps.append(f'{y} = padded_same({y}, {size}, {stride}, {(1,) * rank}, float("-inf"))')
        steps.append(f"{y} = functional.max_pool{rank}d({y}, {size}, {stride}).permute({_last(rank)})")
    elif same:
        steps.append(f"{y} = average_same({y}, {size}, {stride}).permute({_last(rank)})")
    else:
        steps.append(f"{y} = functional.avg_pool{rank}d({y}, {size}, {stride}).permute({_last(rank)})")
    return Lines("", steps)


def _torch_global(part: Part, whole: Plan) -> Lines:
    axes = tuple(range(1, _rank(part) + 1))
    keep = ", keepdim=True" if part.node.options["keepdims"] else ""
    function = "amax" if part.node.options["mode"] == "max" else "mean"
    return Lines("", [f"{part.y} = {part.x}.{function}({axes}{keep})"])


# ---- Keras.


def _keras_conv(part: Part, whole: Plan) -> Made:
    rank, size = _rank(part), part.shapes["kernel"][:-2]
    depthwise, transposed = part.node.kind == "depthwise_conv", part.node.kind == "transposed_conv"
    given = [str(size)] if depthwise else [str(part.shapes["bias"][0]), str(size)]
    if _ints(part, "stride") != (1,) * rank:
        given.append(f"strides={_ints(part, 'stride')}")
    if _dilation(part) != (1,) * rank:
        given.append(f"dilation_rate={_dilation(part)}")
    if int(part.node.options.get("groups", 1)) != 1:
        given.append(f"groups={int(part.node.options['groups'])}")
    if depthwise and part.shapes["kernel"][-1] != 1:
        given.append(f"depth_multiplier={part.shapes['kernel'][-1]}")
    if part.node.options["padding"] == "same":
        given.append('padding="same"')
    kind = f"DepthwiseConv{rank}D" if depthwise else f"Conv{rank}DTranspose" if transposed else f"Conv{rank}D"

    def fill(built: list[Any], dtype: str) -> Iterator[tuple[Any, np.ndarray]]:
        found = arrays(part, dtype)
        yield built[0].kernel, found["kernel"]
        yield built[0].bias, found["bias"]

    return Made([layer_text(whole, part.name, kind, *given)], fill)


def _keras_pool(part: Part, whole: Plan) -> Made:
    kind = f"{'Max' if part.node.options['mode'] == 'max' else 'Average'}Pooling{_rank(part)}D"
    given = [str(_ints(part, "size")), f"strides={_ints(part, 'stride')}"]
    if part.node.options["padding"] == "same":
        given.append('padding="same"')
    return Made([layer_text(whole, part.name, kind, *given)])


def _keras_global(part: Part, whole: Plan) -> Made:
    kind = f"Global{'Max' if part.node.options['mode'] == 'max' else 'Average'}Pooling{_rank(part)}D"
    return Made([layer_text(whole, part.name, kind, *(["keepdims=True"] if part.node.options["keepdims"] else []))])


# ---- ONNX.


def _perm(rank: int, first: bool) -> list[int]:
    return [int(axis) for axis in (_first(rank) if first else _last(rank)).split(", ")]


def _onnx_conv(graph: Graph, part: Part, read: list[Values]) -> list[Values]:
    rank, size = _rank(part), list(part.shapes["kernel"][:-2])
    weights = graph.weights(*_weights(part))
    groups = int(part.reads[0][-1] or 1) if part.node.kind == "depthwise_conv" else int(part.node.options["groups"])
    turned = graph.node("Transpose", read[0][0], perm=_perm(rank, True))
    # How much "same" pads depends on the length where places are skipped, and ONNX can be told so.
    where = {"auto_pad": "SAME_UPPER"} if part.node.options["padding"] == "same" else {"pads": [0] * 2 * rank}
    y = graph.node(
        "Conv",
        turned,
        *weights,
        kernel_shape=size,
        strides=list(_ints(part, "stride")),
        dilations=list(_dilation(part)),
        group=groups,
        **_explicit(part, size, where),
    )
    return [(graph.node("Transpose", y, perm=_perm(rank, False)), "")]


def _explicit(part: Part, size: list[int], where: dict[str, Any]) -> dict[str, Any]:
    """The padding in numbers where no place is skipped: ONNX Runtime does not take SAME_UPPER with dilation."""
    if "auto_pad" not in where or any(one != 1 for one in _ints(part, "stride")):
        return where
    reach = [(n - 1) * step for n, step in zip(size, _dilation(part), strict=True)]
    return {"pads": [*(one // 2 for one in reach), *(one - one // 2 for one in reach)]}


def _onnx_transposed(graph: Graph, part: Part, read: list[Values]) -> list[Values]:
    rank, size, stride = _rank(part), part.shapes["kernel"][:-2], _ints(part, "stride")
    weights = graph.weights(*_weights(part))
    turned = graph.node("Transpose", read[0][0], perm=_perm(rank, True))
    before, behind, lacking = _ends(part)
    y = graph.node(
        "ConvTranspose",
        turned,
        *weights,
        kernel_shape=list(size),
        strides=list(stride),
        pads=[*before, *behind],
        output_padding=lacking,
    )
    return [(graph.node("Transpose", y, perm=_perm(rank, False)), "")]


def _onnx_pool(graph: Graph, part: Part, read: list[Values]) -> list[Values]:
    rank = _rank(part)
    turned = graph.node("Transpose", read[0][0], perm=_perm(rank, True))
    kind = "MaxPool" if part.node.options["mode"] == "max" else "AveragePool"
    same: dict[str, Any] = {"auto_pad": "SAME_UPPER"} if part.node.options["padding"] == "same" else {}
    y = graph.node(kind, turned, kernel_shape=list(_ints(part, "size")), strides=list(_ints(part, "stride")), **same)
    return [(graph.node("Transpose", y, perm=_perm(rank, False)), "")]


def _onnx_global(graph: Graph, part: Part, read: list[Values]) -> list[Values]:
    axes, keep = list(range(1, _rank(part) + 1)), int(bool(part.node.options["keepdims"]))
    kind = "ReduceMax" if part.node.options["mode"] == "max" else "ReduceMean"
    return [(graph.node(kind, read[0][0], axes=axes, keepdims=keep), "")]


# ---- NumPy.


def _weight_names(part: Part) -> str:
    return ", ".join(f'weights["{part.name}/{name}"]' for name in ("kernel", "bias"))


def _numpy_conv(part: Part, whole: Plan) -> list[str]:
    options = {"stride": _ints(part, "stride"), "dilation": _dilation(part)}
    given = [f'padding="{part.node.options["padding"]}"', *(f"{name}={value}" for name, value in options.items())]
    if part.node.kind == "conv" and int(part.node.options["groups"]) != 1:
        given.append(f"groups={int(part.node.options['groups'])}")
    function = "convolution" if part.node.kind == "conv" else "depthwise_convolution"
    return [f"{part.y} = {function}({part.x}, {_weight_names(part)}, {', '.join(given)})"]


def _numpy_transposed(part: Part, whole: Plan) -> list[str]:
    given = f'{_ints(part, "stride")}, "{part.node.options["padding"]}"'
    return [f"{part.y} = transposed_convolution({part.x}, {_weight_names(part)}, {given})"]


def _numpy_pool(part: Part, whole: Plan) -> list[str]:
    given = f'{_ints(part, "size")}, {_ints(part, "stride")}, "{part.node.options["padding"]}"'
    return [f"{part.y} = {part.node.options['mode']}_pool({part.x}, {given})"]


def _numpy_global(part: Part, whole: Plan) -> list[str]:
    axes = tuple(range(1, _rank(part) + 1))
    keep = ", keepdims=True" if part.node.options["keepdims"] else ""
    function = "max" if part.node.options["mode"] == "max" else "mean"
    return [f"{part.y} = {part.x}.{function}({axes}{keep})"]


TORCH = {
    "conv": _torch_conv,
    "depthwise_conv": _torch_conv,
    "transposed_conv": _torch_transposed,
    "window_pool": _torch_pool,
    "global_pool": _torch_global,
}
KERAS = {
    "conv": _keras_conv,
    "depthwise_conv": _keras_conv,
    "transposed_conv": _keras_conv,
    "window_pool": _keras_pool,
    "global_pool": _keras_global,
}
ONNX = {
    "conv": _onnx_conv,
    "depthwise_conv": _onnx_conv,
    "transposed_conv": _onnx_transposed,
    "window_pool": _onnx_pool,
    "global_pool": _onnx_global,
}
NUMPY = {
    "conv": _numpy_conv,
    "depthwise_conv": _numpy_conv,
    "transposed_conv": _numpy_transposed,
    "window_pool": _numpy_pool,
    "global_pool": _numpy_global,
}
