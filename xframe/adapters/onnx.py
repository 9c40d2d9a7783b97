"""ONNX: the RNN, LSTM and GRU operators, and Gemm, run by ONNX Runtime.

Source: https://onnx.ai/onnx/operators/ (RNN-22, LSTM-22, GRU-22, Gemm-13).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from xframe.adapters import _onnx_model as models
from xframe.adapters._onnx_build import TYPES, array_of, model_of, set_numbers, tensor_of
from xframe.adapters._onnx_operators import INSIDE, OPERATORS, functions
from xframe.adapters.base import Adapter, Setting, check_dtype, check_mask_kind, one_dtype
from xframe.errors import LayoutError, UnsupportedError
from xframe.layout import ANY, Join, Layout, Leaf, Packing, Tensor, gates, states
from xframe.spec import Dense, Layer, Recurrent

if TYPE_CHECKING:
    import numpy as np

    from xframe.reference import Outputs

_LABELS = {"lstm": {"g": "c"}, "gru": {"n": "h"}}
# What the operators do not do, or only one way.
_OPTIONS: dict[str, tuple[Any, ...]] = {
    "proj_size": (0,),
    "go_backwards": ANY,
    "activation": tuple(INSIDE),
    "recurrent_activation": (None, *INSIDE),
    "mask": (None, "right"),
    "masked_output": (None, "zero"),
    "stateful": (False,),
    "input_dropout": (0.0,),
    "recurrent_dropout": (0.0,),
    "dropout": (0.0,),
}


def _row(cell: str, order: str, layer: str) -> Layout:
    both = Join(0, (gates(0, "bias", order), gates(0, "recurrent_bias", order)))
    return Layout(
        (
            Tensor("W", gates(0, "kernel", order, "transposed"), stack_directions=True),
            Tensor("R", gates(0, "recurrent_kernel", order, "transposed"), stack_directions=True),
            Tensor("B", both, stack_directions=True),
        ),
        options=_OPTIONS,
        labels=_LABELS.get(cell, {}),
        layer=layer,
        notes={
            "W": "The leading axis of every tensor is the direction.",
            "B": "B holds the input bias, then the recurrent bias.",
        },
    )


def _gemm(form: str, layer: str) -> Layout:
    return Layout((Tensor("B", Leaf("kernel", "", form)), Tensor("C", Leaf("bias"))), layer=layer)


def _name(spec: Any, layer: int, direction: int, name: str) -> str:
    return f"node{layer}/{name}" if getattr(spec, "num_layers", 1) > 1 else name


class _OnnxPacking(Packing):
    """ONNX's table, without what its nodes of two directions do otherwise."""

    def layout(self, spec: Any) -> Layout:
        if getattr(spec, "go_backwards", False) and spec.bidirectional:
            raise UnsupportedError(
                "ONNX has no bidirectional layer with go_backwards=True: the first direction of a node reads time forwards."
            )
        return super().layout(spec)


ONNX = _OnnxPacking(
    "onnx",
    "ONNX",
    {
        "rnn": _row("rnn", "h", "RNN"),
        "lstm": _row("lstm", "iofg", "LSTM"),
        "gru": _row("gru", "zrn", "GRU(linear_before_reset=1)"),
        "gru/reset_before": _row("gru", "zrn", "GRU(linear_before_reset=0)"),
        "dense": _gemm("plain", "Gemm"),
    },
    naming=_name,
    why_two_biases="the operators follow NVIDIA's cuDNN library, which has two",
)
# Gemm can be told that its B is (units, features), as PyTorch's exporter does.
_TRANSPOSED = replace(ONNX, rows={**ONNX.rows, "dense": _gemm("transposed", "Gemm(transB=1)")})

PACKINGS = (ONNX,)

# All that onnx's reference evaluator computes: it is told the functions of RNN alone, and of these it knows two.
_EVALUATED = {"rnn": ({"tanh"}, {"linear"}), "lstm": ({"sigmoid", "tanh"},), "gru": ({"sigmoid", "tanh"},)}


class OnnxAdapter(Adapter):
    """A native layer is an ``onnx.ModelProto`` with one RNN, LSTM or GRU node for each layer, or with a Gemm.

    The model that `build` makes has the inputs ``x`` (batch, time, features), ``lengths`` (batch,) of int32 if it takes masks,
    ``initial_h`` and ``initial_c`` (layers * directions, batch, size), and the outputs ``y`` (batch, time, features),
    ``final_h`` and ``final_c``, batches and times of any length. Besides the operators it has Transpose, Reshape, Split,
    Concat and Slice, which compute nothing. A dense layer is a Gemm, its ``B`` the kernel (features, units), its ``C`` the bias.

    Float32 and float16 run in ONNX Runtime on the CPU, which casts float16 to float32 and back around a node. It has no
    recurrent kernels for float64: there onnx's reference evaluator, which is NumPy, computes what it implements; see `lacks`.
    """

    packing = ONNX
    requires = ("onnx", "onnxruntime")
    roots = ("onnx",)
    extra = "onnx"

    def __init__(self) -> None:
        super().__init__()
        self._onnx = self._import("onnx")
        self._reference = self._import("onnx.reference")
        self._runtime = self._import("onnxruntime")
        self._able: dict[tuple[Any, ...], bool] = {}

    def version(self) -> str:
        return f"{self._onnx.__version__} on onnxruntime {self._runtime.__version__}"

    def packing_of(self, layer: Any) -> Packing:
        return _TRANSPOSED if self._found(layer).transposed else ONNX

    def lacks(self, spec: Layer, dtype: str) -> str:
        kinds = "Gemm" if isinstance(spec, Dense) else "RNN, LSTM or GRU"
        if dtype == "bfloat16":
            return f"ONNX Runtime has no {kinds} of bfloat16 on a CPU; use float32."
        if dtype != "float64" or isinstance(spec, Dense):
            return ""
        why = ""
        if not any(set(functions(spec)) == known for known in _EVALUATED[spec.cell]):
            why = f"does not compute {OPERATORS[spec.cell]} with the activations {', '.join(functions(spec))}"
        elif spec.mask:
            why = "ignores sequence_lens"
        elif not self._evaluates(spec):
            both = "bidirectional " if spec.bidirectional else ""
            why = f"cannot run a {both}{OPERATORS[spec.cell]} in onnx {self._onnx.__version__}"
        if not why:
            return ""
        return f"ONNX Runtime has no {kinds} of float64, and onnx's reference evaluator, which has, {why}; use float32."

    def coarse(self, spec: Layer, dtype: str) -> frozenset[str]:
        # RNN computes tanh(x) as 2 sigmoid(2 x) - 1; LSTM and GRU have a tanh of their own.
        return frozenset({"tanh"}) if spec.cell == "rnn" and dtype != "float64" else frozenset()

    def remark(self, spec: Layer, dtype: str) -> str:
        if isinstance(spec, Recurrent) and spec.activation in self.coarse(spec, dtype):
            return (
                "ONNX Runtime's RNN computes tanh(x) as 2 sigmoid(2 x) - 1: its outputs are as inexact as 1 is, however small "
                "they are, and so is the rounding noise that they are held against."
            )
        if dtype != "float64" or isinstance(spec, Dense) or self.lacks(spec, dtype):
            return ""
        return (
            "In float64 the ONNX model was run by onnx's reference evaluator, because ONNX Runtime has no RNN, LSTM or GRU of "
            "float64."
        )

    def _evaluates(self, spec: Recurrent) -> bool:
        """Whether the reference evaluator runs such an operator; before onnx 1.23 it has one direction, and no last c."""
        key = (spec.cell, spec.bidirectional, spec.reset_after, spec.mask)
        if key not in self._able:
            told = {name: getattr(spec, name) for name in ("bidirectional", "reset_after", "mask", "masked_output")}
            small = Recurrent(spec.cell, 2, 3, num_layers=2, **told)
            model = self._made(small, "float64")
            given = _probe(small)
            try:
                self._run(model, self._found(model), given.x.astype("float64"), given.state, None, self._evaluate)
            except UnsupportedError:
                self._able[key] = False
            else:
                self._able[key] = True
        return self._able[key]

    def build(self, spec: Layer, dtype: str = "float32") -> Any:
        """See `Adapter.build`.

        ONNX has no initial weights: they are drawn as PyTorch draws its own, uniformly from -1/sqrt(n) to 1/sqrt(n) for n
        hidden units (n features for a dense layer), from a fixed seed.

        Raises:
            UnsupportedError: besides, onnx.checker refuses the model, or ONNX Runtime computes something else than onnx's
                reference evaluator.
        """
        import numpy as np

        random, n = np.random.default_rng(0), spec.input_size if isinstance(spec, Dense) else spec.hidden_size
        model = self._made(spec, dtype, lambda shape: random.uniform(-(n**-0.5), n**-0.5, shape))
        self._agree(model)
        return model

    def blank(self, spec: Layer, dtype: str) -> Any:
        return self._made(spec, dtype)

    def build_loaded(self, spec: Layer, blocks: Mapping[Any, np.ndarray], dtype: str) -> Any:
        """See `Adapter.build_loaded`; raises what `build` raises."""
        model = super().build_loaded(spec, blocks, dtype)
        self._agree(model)
        return model

    def _made(self, spec: Layer, dtype: str, draw: Callable[[tuple[int, ...]], np.ndarray] | None = None) -> Any:
        """A model that onnx.checker has accepted, with zeros for weights if they are not drawn."""
        import numpy as np

        natives = self.packing.natives(spec)
        check_dtype(dtype)
        tensors = [tensor_of(self._onnx, n.name, (draw or np.zeros)(n.shape), dtype) for n in natives]
        model = model_of(self._onnx, spec, dtype, tensors)
        self._check(model, spec)
        return model

    def _check(self, model: Any, spec: Layer) -> None:
        try:
            self._onnx.checker.check_model(model, full_check=True)
        except Exception as error:
            raise UnsupportedError(
                f"onnx.checker refuses the model of {spec} ({_line(error)}); report it to xframe."
            ) from None

    def spec(self, layer: Any, mask: str | None = None) -> Layer:
        """See `Adapter.spec`: a model as `build` makes it, or one that is a single node with constant weights.

        A node may have ``layout`` 0 or 1, be ``forward`` or ``bidirectional``, and be given lengths and initial states. It takes
        masks as lengths: they are ``"right"``, and masked outputs zero.
        """
        check_mask_kind(mask)
        found = self._found(layer)
        if mask is None:
            return _plain(found.spec)
        if isinstance(found.spec, Dense):
            raise UnsupportedError(f"{found.what} is dense and takes no mask; leave the mask out.")
        if not found.spec.mask:
            raise UnsupportedError(f"{found.what} has no sequence_lens and takes no mask; build it with mask='right'.")
        if mask == "any":
            raise UnsupportedError(
                f"{found.what} takes masks as lengths, which have their padding on the right; give mask='right'."
            )
        return found.spec

    def _found(self, layer: Any) -> models.Found:
        if not isinstance(layer, self._onnx.ModelProto):
            kind = type(layer)
            raise UnsupportedError(
                f"{kind.__module__}.{kind.__qualname__} is not modelled; give it an onnx.ModelProto."
            )
        return models.understood(self._onnx, layer)

    def reads(self, layer: Any) -> str:
        found = self._found(layer)
        across = isinstance(found.spec, Recurrent) and not (found.whole or found.batch_first)
        return "(time, batch, features): layout=0" if across else ""

    def layers(self, model: Any) -> Iterator[tuple[str, Any]]:
        """See `Adapter.layers`: the nodes RNN, LSTM, GRU, Gemm and MatMul, those in bodies too, each as a model of its own."""
        yield from models.whole_or_parts(self._onnx, model)

    def check_runs(self, model: Any) -> None:
        if len(_free(model.graph)) != 1:
            raise UnsupportedError(f"The ONNX model reads {', '.join(_free(model.graph)) or 'nothing'}, not one input.")

    def model_dtypes(self, model: Any) -> Mapping[str, str]:
        return {t.name: str(array_of(self._onnx, t).dtype) for t in model.graph.initializer}

    def calls(self, model: Any, inputs: Iterable[np.ndarray], seed: int = 0) -> Iterator[Mapping[str, np.ndarray]]:
        return (dict(self._called(model, x)) for x in inputs)

    def _called(self, model: Any, x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        name = _free(model.graph)[0]
        kind = next(i.type.tensor_type.elem_type for i in model.graph.input if i.name == name)
        found = self._compute(model, {name: x.astype(self._onnx.helper.tensor_dtype_to_np_dtype(kind))})
        yield from zip([output.name for output in model.graph.output], found, strict=True)

    def tensors(self, layer: Any) -> Mapping[str, Callable[[], np.ndarray]]:
        return {t.name: partial(array_of, self._onnx, t) for t in layer.graph.initializer}

    def dtype(self, layer: Any) -> str:
        found, names = self._found(layer), self._onnx.TensorProto.DataType
        kinds = {
            next((n for n, number in TYPES.items() if number == t.data_type), names.Name(t.data_type).lower())
            for t in found.tensors.values()
        }
        return one_dtype(kinds, found.what)

    def clone(self, layer: Any, dtype: str) -> Any:
        found, kind = self._found(layer), TYPES[check_dtype(dtype)]
        if found.whole:
            twin = self._made(found.spec, dtype)
        else:
            twin = self._onnx.ModelProto()
            twin.CopyFrom(layer)
            for info in (*twin.graph.input, *twin.graph.output, *twin.graph.value_info):
                if info.type.tensor_type.elem_type in TYPES.values():
                    info.type.tensor_type.elem_type = kind
        tensors = self._found(twin).tensors
        for name, tensor in found.tensors.items():
            set_numbers(self._onnx, tensors[name], array_of(self._onnx, tensor), dtype)
        return twin

    def read(self, layer: Any) -> Mapping[str, np.ndarray]:
        return _Lazy(self._onnx, self._found(layer).tensors)

    def write(self, layer: Any, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
        tensors, dtype = self._found(layer).tensors, self.dtype(layer)
        for name, array in arrays:
            if tuple(tensors[name].dims) != array.shape:
                raise LayoutError(f"{name} takes {tuple(tensors[name].dims)}, not {array.shape}.")
            set_numbers(self._onnx, tensors[name], array, dtype)

    def run(
        self,
        layer: Any,
        x: np.ndarray,
        state: Mapping[str, np.ndarray] | None = None,
        mask: np.ndarray | None = None,
    ) -> Outputs:
        """See `Adapter.run`. A node that is given no initial states, or zeros, is run with them given.

        Raises:
            UnsupportedError: besides, neither ONNX Runtime nor onnx's reference evaluator computes it in this float type.
        """
        import numpy as np

        from xframe.reference import check_input, check_state

        spec, dtype, found, x = self.spec(layer), self.dtype(layer), self._found(layer), np.asarray(x)
        x = check_input(spec, x)
        given = check_state(spec, state, len(x))
        if mask is not None:
            spec = self._check_mask(layer, x, mask)
        if why := self.lacks(spec, dtype):
            raise UnsupportedError(why)
        if found.batch_first and dtype != "float64":
            raise UnsupportedError(
                f"{found.what} has layout=1, which ONNX Runtime refuses; export the model with layout=0, or clone it to float64."
            )
        evaluates = dtype == "float64" and isinstance(spec, Recurrent)
        return self._run(layer, found, x.astype(dtype), given, mask, self._evaluate if evaluates else self._compute)

    def _check_mask(self, layer: Any, x: np.ndarray, mask: np.ndarray) -> Layer:
        """The spec for such a mask, which is refused if the layer cannot take it."""
        from xframe.masks import check_mask, is_right_padded

        spec = self.spec(layer, "right")
        if not is_right_padded(check_mask(mask, x)):
            # ONNX Runtime puts out zeros, not the initial states, as the final states of a row without a valid step.
            raise UnsupportedError(
                f"{self._found(layer).what} takes masks as lengths, which have their padding on the right and one valid step in "
                "each row at least; give such a mask."
            )
        return spec

    def _run(
        self,
        layer: Any,
        found: models.Found,
        x: np.ndarray,
        state: Mapping[str, np.ndarray] | None,
        mask: np.ndarray | None,
        engine: Callable[[Any, dict[str, np.ndarray]], list[np.ndarray]],
    ) -> Outputs:
        """Every output of a model on what has been checked, by one of the engines."""
        from xframe.reference import Outputs, last_output

        spec, graph = _plain(found.spec), layer.graph
        if isinstance(spec, Dense):
            (y,) = engine(layer, {_free(graph)[0]: x})
            return Outputs(y, y, {})
        steps = [x.shape[1]] * len(x) if mask is None else mask.sum(axis=1)
        feeds = self._zeros(spec, len(x))
        for name, value in (state or {}).items():
            feeds[f"initial_{name}"] = value.reshape(-1, *value.shape[2:])
        feeds = {name: value.astype(x.dtype) for name, value in feeds.items()}
        masked = found.spec.mask is not None  # type: ignore[union-attr]
        if found.whole:
            y, *final = self._run_whole(layer, x, feeds, steps if masked else None, engine)
        else:
            y, *final = self._run_node(layer, found, x, feeds, steps if masked else None, engine)
        shape = (spec.num_layers, spec.num_directions, len(x), spec.hidden_size)
        ends = {name: value.reshape(shape) for name, value in zip(states(spec), final, strict=True)}
        return Outputs(y, last_output(spec, ends), ends)

    def _run_whole(self, layer: Any, x: np.ndarray, feeds: dict[str, Any], steps: Any, engine: Any) -> list[np.ndarray]:
        """A model as `build` makes it, whatever the names in it."""
        import numpy as np

        given = [x, *([] if steps is None else [np.array(steps, np.int32)]), *feeds.values()]
        return list(engine(layer, dict(zip(_free(layer.graph), given, strict=True))))

    def _run_node(
        self, layer: Any, found: models.Found, x: np.ndarray, feeds: dict[str, Any], steps: Any, engine: Any
    ) -> list[np.ndarray]:
        """A node, which puts out Y (time, directions, batch, size), or (batch, time, directions, size) with ``layout=1``."""
        import numpy as np

        node = next(node for node in layer.graph.node if node.op_type in OPERATORS.values())
        first = found.batch_first
        feeds = {name: value.swapaxes(0, 1) if first else value for name, value in feeds.items()}
        feeds["X"] = x if first else np.ascontiguousarray(x.swapaxes(0, 1))
        if steps is not None:
            feeds["sequence_lens"] = np.array(steps, np.int32)
        y, *final = engine(models.cut_out(self._onnx, layer, node, ready=True), feeds)
        y = y if first else y.transpose(2, 0, 1, 3)
        return [y.reshape(*x.shape[:2], -1), *(value.swapaxes(0, 1) if first else value for value in final)]

    def _zeros(self, spec: Recurrent, batch: int) -> dict[str, np.ndarray]:
        """Initial states by the names of inputs."""
        import numpy as np

        shape = (spec.num_layers * spec.num_directions, batch, spec.hidden_size)
        return {f"initial_{name}": np.zeros(shape, np.float32) for name in states(spec)}

    # ---- The two engines, held against each other.

    def _compute(self, model: Any, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        """By ONNX Runtime, on the CPU and in one thread, so that sums are added up in one order."""
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what goes wrong is raised as well
        try:
            session = self._runtime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            return list(session.run(None, feeds))
        except Exception as error:
            raise UnsupportedError(f"ONNX Runtime cannot run this model: {_line(error)}") from None

    def _evaluate(self, model: Any, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        """By onnx's reference evaluator."""
        import numpy as np

        try:
            with np.errstate(all="ignore"):  # its sigmoid overflows on its way to 0
                return list(self._reference.ReferenceEvaluator(model).run(None, feeds))
        except Exception as error:
            raise UnsupportedError(f"onnx's reference evaluator cannot run this model: {_line(error)}") from None

    def _agree(self, model: Any) -> None:
        """Run a small input through both engines in float32, wherever the evaluator does what the model is told.

        Raises:
            UnsupportedError: they differ by more than rounding.
        """
        import numpy as np

        from xframe import noise
        from xframe.judging import LIMIT

        found = self._found(model)
        spec = _plain(found.spec)
        if self.lacks(spec, "float64") or (isinstance(found.spec, Recurrent) and not self._evaluates(found.spec)):
            return
        narrow = model if self.dtype(model) == "float32" else self.clone(model, "float32")
        found, params = self._found(narrow), self.parameters(narrow)
        given = _probe(spec)
        one, other = (
            self._run(narrow, found, given.x, given.state, None, engine).named()
            for engine in (self._compute, self._evaluate)
        )
        with np.errstate(all="ignore"):  # weights may be so large that everything overflows
            truth = noise.measure(spec, params, given, "float32", coarse=self.coarse(spec, "float32"))
            for name, clean in truth.clean.items():
                # Each may be off by that much.
                allowed = 2 * LIMIT * truth.deviation[name]
                gap = np.abs(one[name].astype(np.float64) - other[name])
                judged = np.isfinite(clean) & np.isfinite(allowed) & (np.isfinite(one[name]) | np.isfinite(other[name]))
                if np.any(judged & ~(gap <= allowed)):
                    raise UnsupportedError(
                        f"ONNX Runtime {self._runtime.__version__} and onnx's reference evaluator differ in the {name} of "
                        f"{OPERATORS.get(spec.cell, 'Gemm')}, for {spec}, by {gap[judged].max():.3g}, where "
                        f"rounding explains {allowed[judged].max():.2g}; install another version of one of them."
                    )

    def settings(self) -> Iterator[Setting]:
        runtime = self._runtime
        yield Setting("execution provider", "CPUExecutionProvider", "each has its own kernels and rounding")
        yield Setting("providers there are", ", ".join(runtime.get_available_providers()), "xframe runs the one above")
        yield Setting("threads", "1", "a sum that is split is added up in another order")
        yield Setting("float64", "onnx's reference evaluator", "ONNX Runtime has no RNN, LSTM or GRU of float64")
        yield Setting(
            "float16", "cast to float32 and back", "ONNX Runtime rounds what goes into a node and comes out of it"
        )


def _plain(spec: Layer) -> Layer:
    """A spec without its mask."""
    return replace(spec, mask=None, masked_output=None) if isinstance(spec, Recurrent) else spec


def _free(graph: Any) -> list[str]:
    """The inputs that have no value in the model."""
    known = {tensor.name for tensor in graph.initializer}
    return [one.name for one in graph.input if one.name not in known]


def _line(error: Exception) -> str:
    """The first line of what an exception says."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _probe(spec: Layer) -> Any:
    """A small input of a spec, seeded, of sizes that differ from those of the layer, from initial states that are not zero."""
    import numpy as np

    from xframe.reference import Given

    random = np.random.default_rng(1)

    def draw(*shape: int) -> np.ndarray:
        return random.uniform(0.2, 1, shape).astype(np.float32) * random.choice([-1, 1], shape).astype(np.float32)

    if isinstance(spec, Dense):
        return Given(draw(next(n for n in (3, 2, 4) if n not in (spec.input_size, spec.units)), spec.input_size))
    taken = {spec.input_size, spec.hidden_size, spec.num_layers, spec.num_directions}
    batch, steps = [n for n in range(2, 8) if n not in taken][:2]
    shape = (spec.num_layers, spec.num_directions, batch, spec.hidden_size)
    return Given(draw(batch, steps, spec.input_size), {name: draw(*shape) for name in states(spec)})


class _Lazy(Mapping[str, "np.ndarray"]):
    """Tensors that become arrays when they are looked up."""

    def __init__(self, onnx: Any, tensors: Mapping[str, Any]) -> None:
        self._onnx, self._tensors = onnx, tensors

    def __getitem__(self, name: str) -> np.ndarray:
        return array_of(self._onnx, self._tensors[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)
