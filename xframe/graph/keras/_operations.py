"""Functions of keras.ops in functional models, and layers that do what such functions do, as nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from xframe.activations import ACTIVATIONS
from xframe.graph.keras._called import Called, Made, Read, reads_in
from xframe.graph.keras._entries import Place
from xframe.graph.keras._options import check_options, choice, number, refused
from xframe.graph.keras._plain import Reached
from xframe.graph.keras._weights import Weights
from xframe.graph.kinds.allowed import number as is_number
from xframe.graph.node import Node

__all__ = ["OPERATIONS", "SHAPED", "item"]

Builder = Callable[[Called, Weights], Made]


def _given(called: Called, *names: str, **defaults: Any) -> dict[str, Any]:
    """The arguments of a function by name, those that are given by place too."""
    found = dict(zip(names, called.arguments, strict=False)) | dict(called.options)
    # What Keras 3 writes of an operation that was made as one: its options stand in its configuration.
    for name in names:
        if name not in found and name in called.place.options:
            found[name] = called.place.options[name]
    own = {name for name, value in called.place.options.items() if value is not None and value is not False}
    unknown = sorted((own - {"name", "trainable", "dtype"} | found.keys()).difference(names))
    if unknown or len(called.arguments) > len(names):
        raise refused(
            called.place, f"is called with {' and '.join(unknown) or 'further arguments'}, which is not modelled"
        )
    return {**defaults, **found}


def _made(called: Called, kind: str, options: Mapping[str, Any], *reads: Read) -> Made:
    name = called.place.name
    node = Node(name, kind, dict(options), reads=tuple(read.name for read in reads), writes=(called.fresh(name),))
    return Made([node], list(node.writes))


def _value(called: Called, given: Any) -> Read:
    if not isinstance(given, Read):
        raise refused(called.place, f"is called with {given!r}, which is no value of the model")
    return given


def _from_last(called: Called, axis: Any, rank: int) -> int:
    """An axis, of those with the batch, counted from the last one."""
    if not isinstance(axis, int) or isinstance(axis, bool) or not -rank <= axis < rank or axis % rank == 0:
        raise refused(called.place, f"has axis={axis!r}, which is not modelled; those behind the batch are")
    return axis % rank - rank


def _arithmetic(operation: str) -> Builder:
    def arithmetic(called: Called, weights: Weights) -> Made:
        given = _given(called, "x1", "x2")
        a, b = given["x1"], given["x2"]
        if isinstance(a, Read) and isinstance(b, Read):
            return _made(called, "binary", {"operation": operation}, a, b)
        constant, value = (b, a) if isinstance(a, Read) else (a, b)
        if not is_number(constant):
            raise refused(called.place, f"computes with {constant!r}, which is not modelled; a number is")
        options = {"operation": operation, "constant": float(constant), "swapped": value is b}
        return _made(called, "arithmetic", options, _value(called, value))

    return arithmetic


def _function(name: str) -> Builder:
    return lambda called, weights: _made(
        called, "function", {"name": name}, _value(called, _given(called, "x").get("x"))
    )


def _activation(name: str) -> Builder:
    def activation(called: Called, weights: Weights) -> Made:
        given = _given(called, "x", "axis", "approximate", "negative_slope", axis=-1)
        if any(given.get(one) is not None for one in ("approximate", "negative_slope")):
            raise refused(called.place, "has options that are not modelled; use the layer")
        x = _value(called, given.get("x"))
        rank = len(x.shape) + 1
        if ACTIVATIONS[name].coupled and (at := _from_last(called, given["axis"], rank)) != -1:
            if name != "softmax":
                raise refused(called.place, f"has axis={given['axis']!r}, which is not modelled; the last axis is")
            return _made(called, "softmax", {"axis": at}, x)
        return _made(called, "activation", {"name": name}, x)

    return activation


def _reduction(name: str) -> Builder:
    def reduction(called: Called, weights: Weights) -> Made:
        given = _given(called, "x", "axis", "keepdims", axis=None, keepdims=False)
        x, axes = _value(called, given.get("x")), given["axis"]
        axes = axes if isinstance(axes, list | tuple) else [axes]
        found = sorted({_from_last(called, one, len(x.shape) + 1) for one in axes})
        return _made(called, "reduction", {"name": name, "axes": tuple(found), "keepdims": bool(given["keepdims"])}, x)

    return reduction


def _expand(called: Called, weights: Weights) -> Made:
    given = _given(called, "x", "axis")
    x = _value(called, given.get("x"))
    return _made(called, "expand_dims", {"axis": _from_last(called, given.get("axis"), len(x.shape) + 2)}, x)


def _along(kind: str) -> Builder:
    def along(called: Called, weights: Weights) -> Made:
        given = _given(called, "x", "axis")
        x = _value(called, given.get("x"))
        return _made(called, kind, {"axis": _from_last(called, given.get("axis"), len(x.shape) + 1)}, x)

    return along


def _transpose(called: Called, weights: Weights) -> Made:
    given = _given(called, "x", "axes")
    x, axes = _value(called, given.get("x")), given.get("axes")
    if not isinstance(axes, list | tuple) or not axes or axes[0] != 0:
        raise refused(called.place, f"has axes={axes!r}, which moves the batch and is not modelled")
    return _made(called, "permute", {"dims": tuple(axes[1:])}, x)


def _reshape(called: Called, weights: Weights) -> Made:
    given = _given(called, "x", "newshape", "shape")
    x, shape = _value(called, given.get("x")), given.get("newshape", given.get("shape"))
    if (
        not isinstance(shape, list | tuple)
        or not shape
        or shape[0] not in (-1, None)
        or any(not isinstance(one, int) for one in shape[1:])
    ):
        raise refused(called.place, f"has the shape {shape!r}, of which the batch is not -1, and is not modelled")
    return _made(called, "reshape", {"shape": tuple(shape[1:])}, x)


def _listed(kind: str, more: Mapping[str, Any], over: int) -> Builder:
    def listed(called: Called, weights: Weights) -> Made:
        given = _given(called, "xs" if kind == "concatenate" else "x", "axis", axis=0)
        first = given["xs" if kind == "concatenate" else "x"]
        reads = reads_in(first)
        if not isinstance(first, list | tuple) or not reads or len(reads) != len(first):
            raise refused(called.place, "is called with something else than values of the model")
        axis = _from_last(called, given["axis"], len(reads[0].shape) + 1 + over)
        return _made(called, kind, {"axis": axis, **more}, *reads)

    return listed


def _matmul(called: Called, weights: Weights) -> Made:
    given = _given(called, "x1", "x2")
    return _made(
        called, "matmul", {"transposed": False}, _value(called, given.get("x1")), _value(called, given.get("x2"))
    )


def _cast(called: Called, weights: Weights) -> Made:
    given = _given(called, "x", "dtype")
    if given.get("dtype") not in ("float16", "bfloat16", "float32", "float64"):
        raise refused(called.place, f"casts to {given.get('dtype')!r}, which is not modelled; float types are")
    return _made(called, "activation", {"name": "linear"}, _value(called, given.get("x")))


def _same(called: Called, weights: Weights) -> Made:
    return _made(called, "activation", {"name": "linear"}, _value(called, _given(called, "x").get("x")))


_FULL = (None, None, None)


def item(called: Called, weights: Weights) -> Made:
    """``x[...]``, which Keras 3 and TensorFlow write as an operation."""
    if called.place.kind == "SlicingOpLambda":
        check_options(called.place, ["function"])
    x, *rest = called.arguments
    key = rest[0] if len(rest) == 1 and not called.options else None
    key = key if isinstance(key, list | tuple) else [key]
    entries = [_entry(called, one) for one in key]
    rank = len(_value(called, x).shape) + 1
    if Ellipsis in entries:
        at = entries.index(Ellipsis)
        entries[at : at + 1] = [_FULL] * (rank - len(entries) + 1)
    if len(entries) > rank or entries[:1] != [_FULL] or any(one is Ellipsis for one in entries):
        raise refused(called.place, "selects samples of the batch, or something else that is not modelled")
    index = entries[1:]
    while index and index[-1] == _FULL:
        index.pop()
    if index == [-1]:
        return _made(called, "last", {}, x)
    turned = [i for i, one in enumerate(index) if one == (None, None, -1)]
    if len(turned) == 1 and len(index) == turned[0] + 1 and all(one == _FULL for one in index[:-1]):
        return _made(called, "flip", {"axis": turned[0] + 1 - rank}, x)
    if any(isinstance(one, tuple) and one[2] is not None and one[2] < 1 for one in index):
        raise refused(called.place, "selects with a negative step, which is not modelled but for all of one axis")
    return _made(called, "slice", {"index": tuple(index)}, x)


def _entry(called: Called, given: Any) -> Any:
    """One entry of an index: a whole number, (start, stop, step), or the ellipsis."""
    if isinstance(given, Mapping):
        if given.get("class_name") == "__ellipsis__":
            return Ellipsis
        if given.get("class_name") in ("slice", "__slice__") or "start" in given:
            config = given.get("config")
            parts = [given.get(name) for name in ("start", "stop", "step")] if "start" in given else config
            if isinstance(parts, Mapping):
                parts = [parts.get(name) for name in ("start", "stop", "step")]
            if (
                isinstance(parts, list)
                and len(parts) == 3
                and all(one is None or isinstance(one, int) for one in parts)
            ):
                return tuple(parts)
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    raise refused(called.place, f"selects by {given!r}, which is not modelled")


OPERATIONS: dict[str, Builder] = {
    **{name.capitalize(): _arithmetic(name) for name in ("add", "subtract", "multiply", "power", "maximum", "minimum")},
    "Divide": _arithmetic("divide"),
    "TrueDivide": _arithmetic("divide"),
    **{
        name.capitalize(): _function(name)
        for name in ("exp", "log", "sqrt", "square", "negative", "sin", "cos", "sign")
    },
    "Absolute": _function("abs"),
    "Abs": _function("abs"),
    "Reciprocal": _function("reciprocal"),
    **{
        name: _activation(name.lower())
        for name in ("Tanh", "Sigmoid", "Relu", "Softmax", "Softplus", "Softsign", "Silu")
    },
    "Relu6": _activation("relu6"),
    "LogSoftmax": _activation("log_softmax"),
    "LogSigmoid": _activation("log_sigmoid"),
    "HardSigmoid": _activation("hard_sigmoid"),
    "Selu": _activation("selu"),
    **{name.capitalize(): _reduction(name) for name in ("mean", "sum", "max", "min")},
    "Amax": _reduction("max"),
    "Amin": _reduction("min"),
    "ExpandDims": _expand,
    "Squeeze": _along("squeeze"),
    "Flip": _along("flip"),
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Concatenate": _listed("concatenate", {"unmasked": True}, 0),
    "Stack": _listed("stack", {}, 1),
    "Matmul": _matmul,
    "Cast": _cast,
    "ConvertToTensor": _same,
    "GetItem": item,
}


# ---- Layers that read one value and have no weights.


def _pairs(place: Place, name: str, rank: int) -> list[tuple[int, int]]:
    """What is padded or cut off before and behind each axis: a number for all, one for each axis, or two for each."""
    value = place.options.get(name)
    each = [value] * rank if isinstance(value, int) else value
    if rank == 1 and isinstance(each, list | tuple) and len(each) == 2 and all(isinstance(one, int) for one in each):
        each = [each]
    found = [tuple(one) if isinstance(one, list | tuple) else (one, one) for one in each or []]
    if len(found) != rank or any(len(one) != 2 or not all(isinstance(n, int) and n >= 0 for n in one) for one in found):
        raise refused(place, f"has {name}={value!r}, which is not modelled")
    return [(int(a), int(b)) for a, b in found]


def _rank(place: Place) -> int:
    return next(int(digit) for digit in place.kind if digit.isdigit())


def _padding(place: Place, reached: Reached) -> list[Node]:
    check_options(place, ["padding", "data_format"])
    _channels_last(place)
    pairs = _pairs(place, "padding", _rank(place))
    options = {"before": tuple(a for a, _ in pairs), "behind": tuple(b for _, b in pairs)}
    return [Node(place.name, "pad", options)]


def _cropping(place: Place, reached: Reached) -> list[Node]:
    check_options(place, ["cropping", "data_format"])
    _channels_last(place)
    pairs = _pairs(place, "cropping", _rank(place))
    return [Node(place.name, "slice", {"index": tuple((a or None, -b or None, None) for a, b in pairs)})]


def _upsampling(place: Place, reached: Reached) -> list[Node]:
    check_options(place, ["size", "data_format", "interpolation", "length"])
    _channels_last(place)
    if place.options.get("interpolation") is not None:
        choice(place, ["nearest"], "interpolation")
    size, rank = place.options.get("size", place.options.get("length")), _rank(place)
    times = (size,) * rank if isinstance(size, int) else tuple(size or ())
    if len(times) != rank or not all(isinstance(one, int) and one >= 1 for one in times):
        raise refused(place, f"has size={size!r}, which is not modelled")
    return [Node(place.name, "upsample", {"times": times})]


def _channels_last(place: Place) -> None:
    if place.options.get("data_format") is not None:
        choice(place, ["channels_last"], "data_format")


def _rescaling(place: Place, reached: Reached) -> list[Node]:
    check_options(place, ["scale", "offset"])
    scaled = {"operation": "multiply", "constant": number(place, "scale"), "swapped": False}
    moved = {"operation": "add", "constant": number(place, "offset"), "swapped": False}
    nodes = [Node(place.name, "arithmetic", scaled)]
    return nodes if not moved["constant"] else [*nodes, Node(f"{place.name}/offset", "arithmetic", moved)]


def _unit(place: Place, reached: Reached) -> list[Node]:
    check_options(place, ["axis"])
    axis = place.options.get("axis", -1)
    if axis not in (-1, [-1], len(reached[0]), [len(reached[0])]):
        raise refused(place, f"has axis={axis!r}, which is not modelled; the last axis is")
    return [Node(place.name, "unit_norm")]


SHAPED: dict[str, Callable[[Place, Reached], list[Node]]] = {
    **dict.fromkeys((f"ZeroPadding{rank}D" for rank in (1, 2, 3)), _padding),
    **dict.fromkeys((f"Cropping{rank}D" for rank in (1, 2, 3)), _cropping),
    **dict.fromkeys((f"UpSampling{rank}D" for rank in (1, 2, 3)), _upsampling),
    "Rescaling": _rescaling,
    "UnitNormalization": _unit,
}
