"""PyTorch: torch.nn.RNN, LSTM, GRU, their cells and Linear, and xframe.torch.Recurrent for what these cannot do."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from xframe.adapters.base import Adapter, Setting, check_dtype, check_mask_kind, on_off, one_dtype, variable
from xframe.cells import get_cell
from xframe.errors import LayoutError, SpecError, UnsupportedError
from xframe.layout import ANY, Layout, Leaf, Packing, Tensor, gates
from xframe.spec import Dense, Layer, Recurrent, same_cell

if TYPE_CHECKING:
    import numpy as np

    from xframe.reference import Outputs


def _name(spec: Any, layer: int, direction: int, name: str) -> str:
    if spec.cell == "dense" or spec.form == "cell":
        return name
    return f"{name}_l{layer}" + ("_reverse" if direction else "")


def _row(order: str, layer: str, *extra: Tensor) -> Layout:
    """Gates end to end along the first axis, kernels (out, in), two bias vectors."""
    return Layout(
        (
            Tensor("weight_ih", gates(0, "kernel", order, "transposed")),
            Tensor("weight_hh", gates(0, "recurrent_kernel", order, "transposed")),
            Tensor("bias_ih", gates(0, "bias", order)),
            Tensor("bias_hh", gates(0, "recurrent_bias", order)),
            *extra,
        ),
        options=dict.fromkeys(
            ("activation", "recurrent_activation", "merge_mode", "go_backwards", "backward", "stacked", "form"), ANY
        ),
        layer=layer,
    )


_OWN = {"rnn": "torch.nn.RNN", "lstm": "torch.nn.LSTM", "gru": "torch.nn.GRU"}
_MODULE = "xframe.torch.Recurrent"


def _own(spec: Any) -> str:
    """What PyTorch calls its own layer, or bare cell, of that kind."""
    return _OWN[spec.cell] + ("Cell" if spec.form == "cell" else "")


def _why_module(spec: Any) -> str:
    """Why PyTorch's own layer does not compute this one, as the end of a sentence; nothing if it does."""
    return "" if spec.cell == "dense" else next(_differences(spec), "")


def _differences(spec: Any) -> Iterator[str]:
    """What PyTorch's own layer, or bare cell, does otherwise."""
    own, cell = _own(spec), get_cell(spec.cell)
    if spec.reset_after is False:
        yield f"{own} applies the reset gate after the product"
    for option, known in (("activation", cell.activations), ("recurrent_activation", cell.recurrent_activations)):
        if (value := getattr(spec, option)) is not None and value not in known:
            yield f"{own} has {option}={' or '.join(map(repr, known))} only, not {value!r}"
    if spec.proj_size and spec.form == "cell":
        yield f"{own} has no projection"
    if spec.input_dropout:
        yield f"{own} has no dropout on its inputs"
    if spec.recurrent_dropout:
        yield f"{own} has no dropout on its states"
    if spec.backward:
        yield f"{own} has two directions of one kind"
    if not all(same_cell(part, spec) for part in spec.stacked):
        yield f"{own} has layers that are all alike"
    elif spec.stacked and spec.bidirectional:
        yield f"{own} merges its directions after each of its layers"
    if spec.merge_mode is None:
        yield f"{own} hands back its two directions as one tensor"
    elif spec.merge_mode != "concat":
        yield f"{own} concatenates its directions"
    if spec.go_backwards:
        yield f"{own} reads time forwards"
    if spec.stateful:
        yield f"{own} keeps no states between calls"
    if spec.mask == "any":
        yield "a packed sequence has its padding on the right"
    elif spec.mask and spec.masked_output != "zero":
        yield f"a packed sequence writes zeros at masked steps, and masked_output is {spec.masked_output!r}"


class _TorchPacking(Packing):
    """PyTorch's table, in which bare cells have names of their own and are PyTorch's or none."""

    def layout(self, spec: Any) -> Layout:
        row = super().layout(spec)
        if spec.cell == "dense" or spec.form == "layer":
            return row
        if why := self.why_ours(spec):
            raise UnsupportedError(f"PyTorch has no bare cell for {spec}, because {why}; use form='layer'.")
        return replace(row, layer=_own(spec))

    def layer_name(self, spec: Any) -> str:
        self.layout(spec)
        return super().layer_name(spec)


TORCH = _TorchPacking(
    "torch",
    "PyTorch",
    {
        "rnn": _row("h", _OWN["rnn"]),
        "lstm": _row("ifgo", _OWN["lstm"], Tensor("weight_hr", Leaf("projection", "", "transposed"))),
        "gru": _row("rzn", _OWN["gru"]),
        "gru/reset_before": _row("rzn", _OWN["gru"]),
        "dense": Layout(
            (Tensor("weight", Leaf("kernel", "", "transposed")), Tensor("bias", Leaf("bias"))),
            layer="torch.nn.Linear",
        ),
    },
    naming=_name,
    why_two_biases="the interface of NVIDIA's cuDNN library has two, and PyTorch keeps to it",
    why_ours=_why_module,
    ours=_MODULE,
)

PACKINGS = (TORCH,)


class TorchAdapter(Adapter):
    """PyTorch's fused recurrent layers and cells, Linear, and xframe's module for all other recurrent layers.

    `build` takes PyTorch's own layer wherever that computes the same (`Packing.why_ours` says why where it does not).
    """

    packing = TORCH
    requires = ("torch",)
    roots = ("torch",)
    usual = True
    shares = True  # copy_ transposes faster than NumPy does

    def __init__(self) -> None:
        super().__init__()
        self._torch = self._import("torch")
        nn = self._torch.nn
        ours = self._import("xframe.torch")
        self._module, self._functions = ours.Recurrent, ours.FUNCTIONS
        self._fused = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
        self._cells = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}
        self._forms = {
            kind: (cell, form)
            for form, kinds in (("layer", self._fused), ("cell", self._cells))
            for cell, kind in kinds.items()
        }

    def lacks(self, spec: Layer, dtype: str) -> str:
        """See `Adapter.lacks`: on some processors, old versions fail in an LSTM of bfloat16 (seen in 2.4 without AVX-512).

        It is oneDNN's LSTM that fails; one with a projection is computed by PyTorch's own, which does not.
        """
        fused = isinstance(spec, Recurrent) and spec.cell == "lstm" and spec.form == "layer" and not spec.proj_size
        if dtype != "bfloat16" or not fused or self.packing.why_ours(spec) or self._runs_bfloat16:
            return ""
        return f"PyTorch {self.version()} cannot run an LSTM in bfloat16 on this processor."

    @cached_property
    def _runs_bfloat16(self) -> bool:
        """Whether this PyTorch has an LSTM of bfloat16 for the processor, which only a try shows."""
        torch = self._torch
        with torch.inference_mode(), torch.random.fork_rng(devices=()):
            try:
                torch.nn.LSTM(2, 3, dtype=torch.bfloat16)(torch.ones(1, 1, 2, dtype=torch.bfloat16))
            except RuntimeError:
                return False
        return True

    def version(self) -> str:
        return str(self._torch.__version__)

    def build(self, spec: Layer, dtype: str = "float32") -> Any:
        self.packing.layout(spec)
        kind = {"dtype": self._dtype(dtype)}
        if isinstance(spec, Dense):
            return self._torch.nn.Linear(spec.input_size, spec.units, bias=spec.bias, **kind)
        if self.packing.why_ours(spec):
            return self._module(spec, **kind)
        kind["bias"] = spec.bias
        if spec.cell == "rnn":
            kind["nonlinearity"] = spec.activation
        if spec.form == "cell":
            return self._cells[spec.cell](spec.input_size, spec.hidden_size, **kind)
        if spec.cell == "lstm":
            kind["proj_size"] = spec.proj_size
        return self._fused[spec.cell](
            spec.input_size,
            spec.hidden_size,
            num_layers=spec.num_layers,
            bidirectional=spec.bidirectional,
            dropout=spec.dropout,
            batch_first=True,
            **kind,
        )

    def blank(self, spec: Layer, dtype: str) -> Any:
        return self._undrawn(lambda: self.build(spec, dtype), self._torch.get_default_device())

    def _undrawn(self, make: Callable[[], Any], device: Any) -> Any:
        """A layer whose weights are whatever the memory holds: drawing them would move the global random state on."""
        with self._torch.device("meta"):
            layer = make()
        layer = layer.to_empty(device=device)
        self.reset(layer)
        return layer

    def spec(self, layer: Any, mask: str | None = None) -> Layer:
        """See `Adapter.spec`.

        A fused layer takes masks as packed sequences: they are ``"right"``, and masked outputs zero. Its dropout is that
        between layers; with one layer PyTorch applies none, whatever it was given, and the spec has none. A module has the
        mask of its own spec, and with ``mask="right"`` one that takes any is described for such masks alone.
        """
        check_mask_kind(mask)
        if type(layer) not in (self._module, self._torch.nn.Linear, *self._forms):
            raise UnsupportedError(f"PyTorch's {_title(layer)} is not modelled; the layers are {self._known()}.")
        if layer._forward_hooks or layer._forward_pre_hooks:
            raise UnsupportedError(
                f"The forward hooks of this {_title(layer)} are not modelled, because they may change what it "
                "computes; remove them."
            )
        if type(layer) is self._torch.nn.Linear:
            if mask is not None:
                raise UnsupportedError("torch.nn.Linear is dense and takes no mask; leave the mask out.")
            return Dense(layer.in_features, layer.out_features, layer.bias is not None)
        if type(layer) is self._module:
            return _masked(layer.spec, mask)
        try:
            return self._own_spec(layer, mask)
        except SpecError as error:
            raise UnsupportedError(f"This {_title(layer)} is not modelled: {error}") from None

    def _own_spec(self, layer: Any, mask: str | None) -> Recurrent:
        """The spec of one of PyTorch's own."""
        cell, form = self._forms[type(layer)]
        options: dict[str, Any] = {
            "reset_after": True if cell == "gru" else None,
            "activation": layer.nonlinearity if cell == "rnn" else None,
            "bias": bool(layer.bias),
            "form": form,
        }
        if form == "cell":
            if mask is not None:
                raise UnsupportedError(f"{_title(layer)} takes no mask; step over time in {_MODULE}, which does.")
            return Recurrent(cell, layer.input_size, layer.hidden_size, **options)
        if mask == "any":
            raise UnsupportedError(
                f"{_title(layer)} takes masks as packed sequences, which have their padding on the right; use {_MODULE}."
            )
        return Recurrent(
            cell,
            layer.input_size,
            layer.hidden_size,
            num_layers=layer.num_layers,
            bidirectional=bool(layer.bidirectional),
            proj_size=layer.proj_size,
            dropout=layer.dropout if layer.num_layers > 1 else 0.0,
            mask=mask,
            masked_output=mask and "zero",
            **options,
        )

    def reads(self, layer: Any) -> str:
        across = type(layer) in self._fused.values() and not layer.batch_first
        return "(time, batch, features): batch_first=False" if across else ""

    def layers(self, model: Any) -> Iterator[tuple[str, Any]]:
        for name, module in model.named_modules():
            if self._own_tensors(module):
                yield name, module

    def tensors(self, layer: Any) -> Mapping[str, Callable[[], np.ndarray]]:
        return {name: partial(self._array, tensor) for name, tensor in self._own_tensors(layer).items()}

    def tensor_types(self, layer: Any) -> Mapping[str, str]:
        return {name: str(one.dtype).removeprefix("torch.") for name, one in self._own_tensors(layer).items()}

    def _own_tensors(self, module: Any) -> dict[str, Any]:
        """Parameters and buffers that belong to a module itself and are saved with it."""
        buffers = {n: b for n, b in module.named_buffers(recurse=False) if n not in module._non_persistent_buffers_set}
        return {**dict(module.named_parameters(recurse=False)), **buffers}

    def is_model(self, model: Any) -> bool:
        """See `Adapter.is_model`: a module without a forward of its own, such as a ModuleDict, only holds layers."""
        return type(model).forward is not self._torch.nn.Module.forward

    def check_runs(self, model: Any) -> None:
        if not self.is_model(model):
            raise UnsupportedError(f"{_title(model)} has no forward.")

    def model_dtypes(self, model: Any) -> Mapping[str, str]:
        named = [
            (f"{name}/{own}", tensor)
            for name, module in model.named_modules()
            for own, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        ]
        return {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in named if tensor.is_floating_point()}

    def calls(self, model: Any, inputs: Iterable[np.ndarray], seed: int = 0) -> Iterator[Mapping[str, np.ndarray]]:
        torch = self._torch
        with torch.no_grad(), torch.random.fork_rng(), _left_alone(torch, model):
            torch.manual_seed(seed)
            model.eval()
            for x in inputs:
                yield dict(self._called(model, x))

    def _called(self, model: Any, x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        from xframe.programs import leaves

        torch = self._torch
        like = next(self._floating(model), None)
        given = torch.as_tensor(x.copy())
        if like is not None:
            given = given.to(like) if given.is_floating_point() else given.to(like.device)
        for name, value in leaves(model(given)):
            if isinstance(value, torch.nn.utils.rnn.PackedSequence):
                value, _ = torch.nn.utils.rnn.pad_packed_sequence(value, batch_first=True)
            if isinstance(value, torch.Tensor):
                yield name, self._array(value)

    def mode(self, model: Any) -> str:
        """See `Adapter.mode`: nothing of a model of PyTorch's own modules that compute the same in both modes."""
        torch = self._torch
        switched = (torch.nn.modules.dropout._DropoutNd, torch.nn.modules.batchnorm._NormBase)
        telling = [
            one
            for one in model.modules()
            if one.training
            and (
                not type(one).__module__.startswith("torch.nn.")  # first: there dropout may be anything
                or isinstance(one, switched)
                or getattr(one, "dropout", 0)
            )
        ]
        if not telling:
            return ""
        return f"{self.title} {type(model).__name__} is in training mode, and was judged in evaluation mode, as after eval()"

    def _floating(self, model: Any) -> Iterator[Any]:
        """Its parameters and buffers that are floats."""
        tensors = (*model.parameters(), *model.buffers())
        return (tensor for tensor in tensors if tensor.is_floating_point())

    def tensor_cores(self, layer: Any) -> bool:
        return any(p.is_cuda for p in layer.parameters())

    def dtype(self, layer: Any) -> str:
        kinds = {str(p.dtype).removeprefix("torch.") for p in layer.parameters()}
        return one_dtype(kinds, f"The {type(layer).__name__} layer")

    def clone(self, layer: Any, dtype: str) -> Any:
        """See `Adapter.clone`: on the device of the layer. The clone of a stateful layer begins with zero states."""
        spec, kind, theirs = self.spec(layer), self._dtype(dtype), self._named(layer)
        ours, device = type(layer) is self._module, next(iter(theirs.values())).device
        if device.type == "mps" and dtype == "float64":
            device = self._torch.device("cpu")  # which has that type
        twin = self._undrawn(lambda: self._module(spec, dtype=kind) if ours else self.build(spec, dtype), device)
        if type(layer) in self._fused.values():
            twin.batch_first = layer.batch_first
        with self._torch.no_grad():
            # By name: parameters that were registered again stand in another order.
            for name, mine in self._named(twin).items():
                mine.copy_(theirs[name])
        return twin

    def read(self, layer: Any) -> Mapping[str, np.ndarray]:
        return _Lazy(self._named(layer), self._array)

    def write(self, layer: Any, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
        torch, named = self._torch, self._named(layer)
        _check_memory(named)
        for name, array in arrays:
            if tuple(named[name].shape) != array.shape:
                raise LayoutError(f"{name} takes {tuple(named[name].shape)}, not {array.shape}.")
            # What was made in inference mode can be written to in that mode only.
            with torch.inference_mode(named[name].is_inference()), torch.no_grad():
                named[name].copy_(self._tensor(array))
            del array  # freed before the next one is made

    def run(
        self,
        layer: Any,
        x: np.ndarray,
        state: Mapping[str, np.ndarray] | None = None,
        mask: np.ndarray | None = None,
    ) -> Outputs:
        """See `Adapter.run`. One sequence by itself, x (time, features), is given to PyTorch as it is.

        Its states are then (layers, directions, size), its mask (time,), and its outputs have no batch axis either.
        """
        import numpy as np

        from xframe.reference import Outputs, check_input, check_state, last_output

        spec, like, x = self.spec(layer), next(iter(self._named(layer).values())), np.asarray(x)
        if why := self.lacks(spec, self.dtype(layer)):
            raise UnsupportedError(why)
        alone = isinstance(spec, Recurrent) and x.ndim == 2
        batch = x[None] if alone else x
        check_input(spec, batch)
        check_state(spec, state and {n: v[:, :, None] if alone else v for n, v in state.items()}, batch.shape[0])
        if mask is not None:
            self._check_mask(layer, batch, mask[None] if alone else mask)

        def tensor(array: np.ndarray) -> Any:
            return self._torch.as_tensor(np.ascontiguousarray(array)).to(like)

        with self._torch.inference_mode(), _evaluating(layer):
            if isinstance(spec, Dense):
                y = self._array(layer(tensor(x)))
                return Outputs(y, y, {})
            given = state and {name: tensor(value) for name, value in state.items()}
            if type(layer) is self._module:
                held = None if mask is None else self._torch.as_tensor(mask, device=like.device)
                out, final = layer(tensor(x), given, held)
            elif spec.form == "cell":
                out, final = self._run_cell(layer, tensor(x), given)
            else:
                out, final = self._run_fused(layer, tensor(x), given, mask)
            states = {name: self._array(value) for name, value in final.items()}
        if alone:
            last = last_output(spec, {name: value[:, :, None] for name, value in states.items()})[0]
            return Outputs(self._array(out), last, states)
        return Outputs(self._array(out), last_output(spec, states), states)

    def reset(self, layer: Any) -> None:
        if type(layer) is self._module:
            layer.reset()

    @contextmanager
    def undisturbed(self, layer: Any) -> Iterator[None]:
        # The very tensors: what a call keeps is a new one, and in inference mode one that cannot be trained on.
        held = dict(layer.named_buffers(recurse=False))
        try:
            yield
        finally:
            for name, buffer in held.items():
                setattr(layer, name, buffer)

    # ---- What it is set to, and what its names mean.

    def settings(self) -> Iterator[Setting]:
        torch, cpu = self._torch, self._torch.backends.cpu
        default, kernels = (
            str(torch.get_default_dtype()).removeprefix("torch."),
            "other kernels on the CPU: other rounding",
        )
        yield Setting(
            "devices", ", ".join(self._devices()), "each has its own kernels and rounding; mps has no float64"
        )
        yield Setting("default dtype", default, "of layers that are given none")
        yield Setting("threads", str(torch.get_num_threads()), "a sum that is split is added up in another order")
        yield Setting("vector instructions", cpu.get_cpu_capability(), kernels)
        yield variable("ATEN_CPU_CAPABILITY", "default, avx2 or avx512: vector instructions of older processors")
        onednn = torch.backends.mkldnn.is_available() and getattr(torch.backends.mkldnn, "enabled", True)
        yield Setting("oneDNN", on_off(onednn), kernels)
        deterministic = on_off(torch.are_deterministic_algorithms_enabled())
        if torch.is_deterministic_algorithms_warn_only_enabled():
            deterministic = "warn only"
        effect = "off: on a GPU two runs may differ in rounding; on: that is an error"
        yield Setting("deterministic algorithms", deterministic, effect)
        yield variable("CUBLAS_WORKSPACE_CONFIG", ":4096:8 or :16:8: products and cuDNN's RNNs round alike in each run")
        yield from self._cudnn()
        yield from self._narrowing()

    def _cudnn(self) -> Iterator[Setting]:
        cudnn = self._torch.backends.cudnn
        there = f"{on_off(cudnn.enabled)} ({cudnn.version()})" if cudnn.is_available() else "not there"
        algorithms = "on: only algorithms that round alike in each run"
        yield Setting("cuDNN", there, "on: RNN, LSTM and GRU are one fused kernel on an NVIDIA GPU")
        yield Setting("cuDNN deterministic", on_off(cudnn.deterministic), algorithms)
        yield Setting(
            "cuDNN benchmark", on_off(cudnn.benchmark), "on: the fastest convolution is taken, which may vary"
        )

    def _devices(self) -> Iterator[str]:
        cuda = self._torch.cuda
        yield "cpu"
        yield from (f"cuda:{k} {cuda.get_device_name(k)}" for k in range(cuda.device_count()))
        yield from ["mps"] if self._torch.backends.mps.is_available() else []

    def _narrowing(self) -> Iterator[Setting]:
        """What becomes of float32 in products on a GPU; TensorFloat-32 has a noise of its own in `xframe.noise`."""
        effect = "tf32: on an NVIDIA GPU factors are rounded to 11 bits (unit roundoff 2^-11)"
        backends = self._torch.backends
        for name, newer, older in (
            ("float32 in products", backends.cuda.matmul, backends.cuda.matmul),
            ("float32 in cuDNN's RNNs", getattr(backends.cudnn, "rnn", None), backends.cudnn),
        ):
            # Since PyTorch 2.9, and then the older way may refuse to answer.
            value = getattr(newer, "fp32_precision", None) or ("tf32" if older.allow_tf32 else "ieee")
            yield Setting(name, "ieee" if value == "none" else value, effect)
        try:
            precision = self._torch.get_float32_matmul_precision()
        except RuntimeError:
            precision = "set otherwise"
        yield Setting("float32 matmul precision", precision, "highest: float32; high, medium: factors of 11 or 8 bits")
        yield variable("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1: float32 matmul precision is high")

    def plain_layers(self) -> Mapping[str, Any]:
        kinds, device = (*self._fused.values(), self._torch.nn.Linear), self._torch.get_default_device()
        return {f"torch.nn.{kind.__name__}": self._undrawn(partial(kind, 3, 2), device) for kind in kinds}

    def functions(self) -> Mapping[str, Callable[[np.ndarray], np.ndarray]]:
        """Those of xframe.torch.Recurrent."""

        def applied(function: Any, a: np.ndarray) -> np.ndarray:
            return self._array(function(self._torch.as_tensor(a)))

        return {name: partial(applied, function) for name, function in self._functions.items()}

    def _check_mask(self, layer: Any, x: np.ndarray, mask: np.ndarray) -> None:
        """Refuse a mask that the layer cannot take."""
        from xframe.masks import check_mask, is_right_padded

        spec = self.spec(layer) if type(layer) is self._module else self.spec(layer, "right")
        check_mask(mask, x)
        if getattr(spec, "mask", None) == "right" and not is_right_padded(mask):
            raise UnsupportedError(
                f"This {_title(layer)} takes masks with padding on the right only and one valid step in each row at least; "
                f"use {_MODULE} with mask='any'."
            )

    def _run_fused(self, layer: Any, x: Any, given: Any, mask: np.ndarray | None) -> tuple[Any, dict[str, Any]]:
        """Output and states of torch.nn.RNN, LSTM or GRU; x (batch, time, features), the mask as a packed sequence."""
        rnn, names, first = self._torch.nn.utils.rnn, self._states(layer), layer.batch_first
        across = not first and x.dim() == 3
        x = x.transpose(0, 1) if across else x
        if mask is not None:
            if mask.ndim == 1:
                raise UnsupportedError(f"{_title(layer)} packs sequences of a batch only; give x a batch axis.")
            lengths = self._torch.as_tensor(mask.sum(axis=1))
            x = rnn.pack_padded_sequence(x, lengths, first, enforce_sorted=False)
        # (layers, directions, batch, size) -> (layers * directions, batch, size)
        flat = given and [given[name].flatten(0, 1) for name in names]
        out, final = layer(x, flat and (tuple(flat) if len(names) > 1 else flat[0]))
        if mask is not None:
            out, _ = rnn.pad_packed_sequence(out, first, total_length=mask.shape[1])
        finals = final if len(names) > 1 else (final,)
        shape = (layer.num_layers, 1 + layer.bidirectional)
        states = {n: f.unflatten(0, shape) for n, f in zip(names, finals, strict=True)}
        return out.transpose(0, 1) if across else out, states

    def _run_cell(self, layer: Any, x: Any, given: Any) -> tuple[Any, dict[str, Any]]:
        """The same of a bare cell, one time step after the other."""
        names, out = self._states(layer), []
        states = given and tuple(given[name][0, 0] for name in names)
        for step in x.unbind(-2):
            found = layer(step, states and (states if len(names) > 1 else states[0]))
            states = found if len(names) > 1 else (found,)
            out.append(states[0])
        return self._torch.stack(out, dim=-2), {n: s[None, None] for n, s in zip(names, states, strict=True)}

    def _states(self, layer: Any) -> tuple[str, ...]:
        return get_cell(self._forms[type(layer)][0]).states

    def _known(self) -> str:
        return ", ".join([*(f"torch.nn.{kind.__name__}" for kind in (*self._forms, self._torch.nn.Linear)), _MODULE])

    def _tensor(self, array: np.ndarray) -> Any:
        """A tensor to read from that shares the memory of the array."""
        with warnings.catch_warnings():
            # PyTorch cannot mark it read-only and warns where the array is.
            warnings.simplefilter("ignore", UserWarning)
            return self._torch.from_numpy(array)

    def _array(self, tensor: Any) -> np.ndarray:
        """A tensor's numbers, without a copy where they are on the CPU and of a type that NumPy has."""
        tensor = tensor.detach().cpu()
        return (tensor.float() if tensor.dtype == self._torch.bfloat16 else tensor).numpy()

    def _dtype(self, dtype: str) -> Any:
        return getattr(self._torch, check_dtype(dtype))

    def _named(self, layer: Any) -> dict[str, Any]:
        """The layer's parameters by name; refuse those that hold no numbers."""
        named = dict(layer.named_parameters(remove_duplicate=False))  # tied ones too
        for name, p in named.items():
            if p.is_meta:
                raise SpecError(f"{name} is on the meta device and holds no numbers; move the layer to a real one.")
        return named


def _masked(spec: Recurrent, mask: str | None) -> Recurrent:
    """The spec of a module for such masks."""
    if mask is None or mask == spec.mask:
        return spec
    if mask == "right" and spec.mask == "any":
        return replace(spec, mask=mask)
    raise UnsupportedError(
        f"This {_MODULE} takes {'no mask' if spec.mask is None else f'masks {spec.mask!r} only'}; "
        f"build it from a spec with mask={mask!r}."
    )


def _title(layer: Any) -> str:
    """The class of a layer as people write it."""
    kind = type(layer)
    module = "torch.nn" if kind.__module__.startswith("torch.nn.modules.") else kind.__module__
    return f"{module}.{kind.__qualname__}"


@contextmanager
def _evaluating(layer: Any) -> Iterator[None]:
    """Let a layer be in evaluation mode for once."""
    before = layer.training
    layer.eval()
    try:
        yield
    finally:
        layer.train(before)


@contextmanager
def _left_alone(torch: Any, model: Any) -> Iterator[None]:
    """Let a model be as it was before: modes, attributes such as kept states, and the numbers of its buffers."""
    held = [each for module in model.modules() for each in (vars(module), module._parameters, module._buffers)]
    attributes = [(each, dict(each)) for each in held]
    numbers = [(tensor, tensor.detach().clone()) for tensor in (*model.parameters(), *model.buffers())]
    try:
        yield
    finally:
        for each, before in attributes:
            each.clear()
            each.update(before)
        with torch.no_grad():
            for tensor, kept in numbers:
                if not torch.equal(tensor, kept):
                    tensor.copy_(kept)


def _check_memory(named: Mapping[str, Any]) -> None:
    """Refuse to write where two numbers have one place: the second would overwrite the first."""
    mend = "give it memory of its own: torch.nn.Parameter(layer.{0}.detach().clone())."
    ends: dict[tuple[Any, int], list[tuple[int, int, str]]] = {}
    for name, p in named.items():
        if any(size > 1 and stride == 0 for size, stride in zip(p.shape, p.stride(), strict=True)):
            raise LayoutError(
                f"{name} is an expanded tensor, several numbers of which are one in memory; {mend.format(name)}"
            )
        first = p.storage_offset()
        last = first + sum((size - 1) * stride for size, stride in zip(p.shape, p.stride(), strict=True))
        others = ends.setdefault((p.device, p.untyped_storage().data_ptr()), [])
        for begin, end, other in others:
            if begin <= last and first <= end:
                raise LayoutError(f"{name} lies in the memory of {other}; {mend.format(name)}")
        others.append((first, last, name))


class _Lazy(Mapping[str, "np.ndarray"]):
    """Parameters that become arrays when they are looked up, so that a transfer holds one at a time."""

    def __init__(self, named: Mapping[str, Any], convert: Callable[[Any], np.ndarray]) -> None:
        self._named, self._convert = named, convert

    def __getitem__(self, name: str) -> np.ndarray:
        return self._convert(self._named[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)
