"""The adapter of `toy`, as another distribution would add it: the example of CONTRIBUTING.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from xframe.adapters.base import Adapter
from xframe.errors import LayoutError, SpecError, UnsupportedError
from xframe.layout import Join, Layout, Leaf, Packing, Tensor, gates
from xframe.spec import Layer, Recurrent

if TYPE_CHECKING:
    import numpy as np

    from xframe.reference import Outputs

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
            layer="toy.Elman",
        )
    },
)

PACKINGS = (TOY,)


class ToyAdapter(Adapter):
    """Runs `toy.Elman`: h' = tanh(theta [x, h] + shift)."""

    packing = TOY
    requires = ("toy",)
    roots = ("toy",)

    def __init__(self) -> None:
        super().__init__()
        self._toy = self._import("toy")

    def version(self) -> str:
        return str(self._toy.__version__)

    def build(self, spec: Layer, dtype: str = "float32") -> Any:
        self.packing.layout(spec)
        return self._toy.Elman(spec.input_size, spec.hidden_size, self._dtype(dtype), spec.bias)

    def lacks(self, spec: Layer, dtype: str) -> str:
        return "" if dtype in ("float64", "float32") else f"Toy has no {dtype}."

    def _dtype(self, dtype: str) -> str:
        if dtype not in ("float64", "float32"):
            raise SpecError(f"dtype must be float64 or float32, not {dtype!r}.")
        return dtype

    def spec(self, layer: Any, mask: str | None = None) -> Layer:
        if type(layer) is not self._toy.Elman:
            raise UnsupportedError(f"Toy's {type(layer).__module__}.{type(layer).__qualname__} is not modelled.")
        self._refuse_mask(mask)
        return Recurrent("rnn", layer.features, layer.units, bias=layer.shift is not None)

    def _refuse_mask(self, mask: object) -> None:
        if mask is not None:
            raise UnsupportedError("Toy's toy.Elman takes no mask; leave the mask out.")

    def dtype(self, layer: Any) -> str:
        return str(layer.theta.dtype)

    def clone(self, layer: Any, dtype: str) -> Any:
        twin = self.build(self.spec(layer), dtype)
        self.write(twin, ((name, array.astype(dtype)) for name, array in layer.tensors().items()))
        return twin

    def read(self, layer: Any) -> Mapping[str, np.ndarray]:
        return layer.tensors()

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
        import numpy as np

        from xframe.reference import Outputs

        self._refuse_mask(mask)
        x = x.astype(layer.theta.dtype)
        first = np.zeros((len(x), layer.units), x.dtype) if state is None else state["h"][0, 0].astype(x.dtype)
        sequence = np.array([layer(row, h) for row, h in zip(x, first, strict=True)])
        return Outputs(sequence, sequence[:, -1], {"h": sequence[None, None, :, -1]})

    def layers(self, model: Any) -> Iterator[tuple[str, Any]]:
        yield "", model

    def tensors(self, layer: Any) -> Mapping[str, Callable[[], np.ndarray]]:
        return {name: array.copy for name, array in layer.tensors().items()}
