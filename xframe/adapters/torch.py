"""PyTorch: torch.nn.RNN, LSTM, GRU and Linear."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from xframe.adapters.base import Adapter, check_dtype, one_dtype
from xframe.errors import LayoutError, SpecError, UnsupportedError
from xframe.layout import Layout, Leaf, Packing, Tensor, gates
from xframe.spec import Dense, Layer, Recurrent

if TYPE_CHECKING:
    import numpy as np

    from xframe.reference import Outputs


def _name(spec: Any, layer: int, direction: int, name: str) -> str:
    if spec.cell == "dense":
        return name
    return f"{name}_l{layer}" + ("_reverse" if direction else "")


def _row(order: str, layer: str, *extra: Tensor, options: dict[str, tuple[Any, ...]] | None = None) -> Layout:
    """Gates end to end along the first axis, kernels (out, in), two bias vectors."""
    return Layout(
        (
            Tensor("weight_ih", gates(0, "kernel", order, "transposed")),
            Tensor("weight_hh", gates(0, "recurrent_kernel", order, "transposed")),
            Tensor("bias_ih", gates(0, "bias", order)),
            Tensor("bias_hh", gates(0, "recurrent_bias", order)),
            *extra,
        ),
        options=options or {},
        layer=layer,
    )


TORCH = Packing(
    "torch",
    "PyTorch",
    {
        "rnn": _row("h", "torch.nn.RNN"),
        "lstm": _row("ifgo", "torch.nn.LSTM", Tensor("weight_hr", Leaf("projection", "", "transposed"))),
        "gru": _row("rzn", "torch.nn.GRU"),
        "dense": Layout(
            (Tensor("weight", Leaf("kernel", "", "transposed")), Tensor("bias", Leaf("bias"))),
            layer="torch.nn.Linear",
        ),
    },
    naming=_name,
    why_two_biases="the interface of NVIDIA's cuDNN library has two, and PyTorch keeps to it",
)

PACKINGS = (TORCH,)


class TorchAdapter(Adapter):
    """PyTorch's fused recurrent layers, and Linear."""

    packing = TORCH
    requires = ("torch",)
    roots = ("torch",)
    shares = True  # copy_ transposes faster than NumPy does

    def __init__(self) -> None:
        super().__init__()
        self._torch = self._import("torch")
        nn = self._torch.nn
        self._classes: dict[type, str] = {nn.RNN: "rnn", nn.LSTM: "lstm", nn.GRU: "gru", nn.Linear: "dense"}

    def version(self) -> str:
        return str(self._torch.__version__)

    def build(self, spec: Layer, dtype: str = "float32") -> Any:
        self.packing.layout(spec)
        nn, kind = self._torch.nn, {"dtype": self._dtype(dtype)}
        if isinstance(spec, Dense):
            return nn.Linear(spec.input_size, spec.units, bias=spec.bias, **kind)
        options = {
            "num_layers": spec.num_layers,
            "bias": spec.bias,
            "bidirectional": spec.bidirectional,
            "batch_first": True,
            **kind,
        }
        if spec.cell == "rnn":
            return nn.RNN(spec.input_size, spec.hidden_size, nonlinearity=spec.activation, **options)
        if spec.cell == "lstm":
            return nn.LSTM(spec.input_size, spec.hidden_size, proj_size=spec.proj_size, **options)
        return nn.GRU(spec.input_size, spec.hidden_size, **options)

    def spec(self, layer: Any) -> Layer:
        cell = self._classes.get(type(layer))
        if cell is None:
            kind = type(layer)
            known = ", ".join(f"torch.nn.{c.__name__}" for c in self._classes)
            raise UnsupportedError(
                f"PyTorch's {kind.__module__}.{kind.__qualname__} is not modelled; the layers are {known}."
            )
        if layer._forward_hooks or layer._forward_pre_hooks:
            raise UnsupportedError(
                f"The forward hooks of this torch.nn.{type(layer).__name__} are not modelled, because they may change what it "
                "computes; remove them."
            )
        if cell == "dense":
            return Dense(layer.in_features, layer.out_features, layer.bias is not None)
        if layer.dropout:
            raise UnsupportedError(
                f"dropout={layer.dropout} of torch.nn.{type(layer).__name__} is not modelled; "
                "set dropout to 0 to compare inference, where it does nothing."
            )
        return Recurrent(
            cell,
            layer.input_size,
            layer.hidden_size,
            num_layers=layer.num_layers,
            bidirectional=bool(layer.bidirectional),
            bias=bool(layer.bias),
            reset_after=True if cell == "gru" else None,
            activation=layer.nonlinearity if cell == "rnn" else None,
            proj_size=layer.proj_size,
        )

    def dtype(self, layer: Any) -> str:
        kinds = {str(p.dtype).removeprefix("torch.") for p in layer.parameters()}
        return one_dtype(kinds, f"The {type(layer).__name__} layer")

    def clone(self, layer: Any, dtype: str) -> Any:
        twin = self.build(self.spec(layer), dtype)
        with self._torch.no_grad():
            for mine, theirs in zip(twin.parameters(), layer.parameters(), strict=True):
                mine.copy_(theirs)
        return twin

    def read(self, layer: Any) -> Mapping[str, np.ndarray]:
        return {name: p.detach().cpu().numpy() for name, p in self._named(layer).items()}

    def write(self, layer: Any, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
        torch, named = self._torch, self._named(layer)
        with torch.no_grad():
            for name, array in arrays:
                if tuple(named[name].shape) != array.shape:
                    raise LayoutError(f"{name} takes {tuple(named[name].shape)}, not {array.shape}.")
                named[name].copy_(self._tensor(array))
                del array  # freed before the next one is made

    def run(self, layer: Any, x: np.ndarray, state: Mapping[str, np.ndarray] | None = None) -> Outputs:
        import numpy as np

        from xframe.reference import Outputs, check_input, check_state, last_output

        torch, spec = self._torch, self.spec(layer)
        state = check_state(spec, state, check_input(spec, x).shape[0])
        like = next(layer.parameters())

        def tensor(array: np.ndarray) -> Any:
            return torch.as_tensor(np.ascontiguousarray(array)).to(like)

        with torch.inference_mode():
            if isinstance(spec, Dense):
                y = layer(tensor(x)).cpu().numpy()
                return Outputs(y, y, {})
            first = tensor(x if layer.batch_first else x.swapaxes(0, 1))
            given = None
            if state is not None:
                # (layers, directions, batch, size) -> (layers * directions, batch, size)
                flat = {k: tensor(v.reshape(-1, *v.shape[2:])) for k, v in state.items()}
                given = (flat["h"], flat["c"]) if spec.cell == "lstm" else flat["h"]
            out, final = layer(first) if given is None else layer(first, given)
            sequence = out.cpu().numpy()
            finals = dict(zip("hc", final, strict=True)) if spec.cell == "lstm" else {"h": final}
            shape = (spec.num_layers, spec.num_directions)
            states = {k: v.cpu().numpy().reshape(*shape, *v.shape[1:]) for k, v in finals.items()}
        return Outputs(sequence if layer.batch_first else sequence.swapaxes(0, 1), last_output(states["h"]), states)

    def _tensor(self, array: np.ndarray) -> Any:
        """A tensor to read from that shares the memory of the array."""
        with warnings.catch_warnings():
            # PyTorch cannot mark it read-only and warns where the array is.
            warnings.simplefilter("ignore", UserWarning)
            return self._torch.from_numpy(array)

    def _dtype(self, dtype: str) -> Any:
        return getattr(self._torch, check_dtype(dtype))

    def _named(self, layer: Any) -> dict[str, Any]:
        """The layer's parameters by name; refuse those that hold no numbers."""
        named = dict(layer.named_parameters())
        for name, p in named.items():
            if p.is_meta:
                raise SpecError(f"{name} is on the meta device and holds no numbers; move the layer to a real one.")
        return named
