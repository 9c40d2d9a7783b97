"""A framework that exists for the tests, and its adapter, as another distribution would add it.

The framework runs tanh cells a row of the batch at a time, keeps both kernels side by side in one tensor, and one bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from xframe.adapters import Adapter
from xframe.errors import LayoutError, SpecError, UnsupportedError
from xframe.layout import Join, Layout, Leaf, Packing, Tensor, gates
from xframe.reference import Outputs
from xframe.spec import Layer, Recurrent


class Elman:
    """h' = tanh(theta [x, h] + shift), theta (units, features + units)."""

    def __init__(self, features: int, units: int, dtype: str, bias: bool) -> None:
        random = np.random.default_rng(features * units)
        self.features, self.units = features, units
        self.theta = random.uniform(-0.5, 0.5, (units, features + units)).astype(dtype)
        self.shift = random.uniform(-0.5, 0.5, units).astype(dtype) if bias else None

    def __call__(self, row: np.ndarray, h: np.ndarray) -> list[np.ndarray]:
        """One row of a batch, (time, features), and its state to the states at each step."""
        states = []
        for x in row:
            z = self.theta @ np.concatenate([x, h])
            h = np.tanh(z if self.shift is None else z + self.shift)
            states.append(h)
        return states

    def tensors(self) -> dict[str, np.ndarray]:
        return {"theta": self.theta} | ({} if self.shift is None else {"shift": self.shift})


TOY = Packing(
    "toy",
    "Toy",
    {
        "rnn": Layout(
            (
                Tensor(
                    "theta",
                    Join(1, (Leaf("kernel", "h", "transposed"), Leaf("recurrent_kernel", "h", "transposed"))),
                ),
                Tensor("shift", gates(0, "bias", "h")),
            ),
            options={
                "num_layers": (1,),
                "bidirectional": (False,),
                "activation": ("tanh",),
                "mask": (None,),
                "stateful": (False,),
                "input_dropout": (0.0,),
                "recurrent_dropout": (0.0,),
            },
            layer="toy_adapter.Elman",
        )
    },
)

PACKINGS = (TOY,)


class ToyAdapter(Adapter):
    """Runs `Elman`."""

    packing = TOY
    requires = ("toy_adapter",)
    roots = ("toy_adapter",)

    def version(self) -> str:
        return "1"

    def build(self, spec: Layer, dtype: str = "float32") -> Elman:
        self.packing.layout(spec)
        return Elman(spec.input_size, spec.hidden_size, self._dtype(dtype), spec.bias)

    def _dtype(self, dtype: str) -> str:
        if dtype not in ("float64", "float32"):
            raise SpecError(f"dtype must be float64 or float32, not {dtype!r}.")
        return dtype

    def spec(self, layer: Any, mask: str | None = None) -> Layer:
        if type(layer) is not Elman:
            raise UnsupportedError(f"Toy's {type(layer).__module__}.{type(layer).__qualname__} is not modelled.")
        self._refuse_mask(mask)
        return Recurrent("rnn", layer.features, layer.units, bias=layer.shift is not None)

    def _refuse_mask(self, mask: object) -> None:
        if mask is not None:
            raise UnsupportedError("Toy's toy_adapter.Elman takes no mask; leave the mask out.")

    def dtype(self, layer: Any) -> str:
        return str(layer.theta.dtype)

    def clone(self, layer: Any, dtype: str) -> Elman:
        twin = self.build(self.spec(layer), dtype)
        self.write(twin, ((name, array.astype(dtype)) for name, array in layer.tensors().items()))
        return twin

    def read(self, layer: Any) -> Mapping[str, np.ndarray]:
        return layer.tensors()  # type: ignore[no-any-return]

    def write(self, layer: Any, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
        for name, array in arrays:
            target = layer.tensors()[name]
            if target.shape != array.shape:
                raise LayoutError(f"{name} takes {target.shape}, not {array.shape}.")
            target[...] = array

    def run(
        self,
        layer: Any,
        x: np.ndarray,
        state: Mapping[str, np.ndarray] | None = None,
        mask: np.ndarray | None = None,
    ) -> Outputs:
        self._refuse_mask(mask)
        x = x.astype(layer.theta.dtype)
        first = np.zeros((len(x), layer.units), x.dtype) if state is None else state["h"][0, 0].astype(x.dtype)
        sequence = np.array([layer(row, h) for row, h in zip(x, first, strict=True)])
        return Outputs(sequence, sequence[:, -1], {"h": sequence[None, None, :, -1]})

    def layers(self, model: Any) -> Iterator[tuple[str, Any]]:
        yield "", model

    def tensors(self, layer: Any) -> Mapping[str, Callable[[], np.ndarray]]:
        return {name: partial(np.copy, array) for name, array in layer.tensors().items()}
