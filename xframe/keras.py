"""What Keras lacks and a saved Keras model may need: an LSTM cell with a projection, and the hard sigmoid of Keras 1 and 2.

Import this module before `keras.saving.load_model`, so that Keras knows both by name. It imports Keras.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from xframe.errors import SpecError

__all__ = ["ProjectedLSTMCell", "hard_sigmoid_keras2"]


@keras.saving.register_keras_serializable(package="xframe")  # type: ignore[untyped-decorator]
def hard_sigmoid_keras2(x: Any) -> Any:
    """min(max(0.2 x + 0.5, 0), 1), which Keras 1 and 2 called hard_sigmoid; that of Keras 3 has the slope 1/6.

    Give the function itself to a layer: ``LSTM(8, recurrent_activation=hard_sigmoid_keras2)``.
    Source: keras/activations.py of Keras 2.2.
    """
    return ops.clip(0.2 * x + 0.5, 0, 1)


@keras.saving.register_keras_serializable(package="xframe")
class ProjectedLSTMCell(keras.layers.LSTMCell):  # type: ignore[misc]
    """An LSTM cell whose state h is projected to fewer numbers; use it as ``keras.layers.RNN(ProjectedLSTMCell(n, p))``.

    With d input features, n units, a projection to p, s = recurrent_activation and a = activation:

        [i f g o] = x kernel + h recurrent_kernel + bias
        c' = s(f) c + s(i) a(g)
        h' = (s(o) a(c')) projection

    The weights are kernel (d, 4n), recurrent_kernel (p, 4n), bias (4n,) and projection (n, p), gates in the order i f c o
    (c is g above). The states are [h (batch, p), c (batch, n)]; the output is h.

    Source: H. Sak, A. Senior, F. Beaufays, arXiv:1402.1128; torch.nn.LSTM with ``proj_size``.

    Args:
        units: n.
        proj_size: p, from 1 to n - 1.
        projection_initializer: of the projection.
        **options: those of `keras.layers.LSTMCell`; dropout acts on x and recurrent_dropout on h, in training only.

    Raises:
        SpecError: proj_size is out of range.
    """

    def __init__(
        self, units: int, proj_size: int, projection_initializer: Any = "glorot_uniform", **options: Any
    ) -> None:
        if not 1 <= proj_size < units:
            raise SpecError(f"proj_size must be from 1 to less than units ({units}), not {proj_size}.")
        super().__init__(units, **options)
        self.proj_size = proj_size
        self.projection_initializer = keras.initializers.get(projection_initializer)
        self.state_size = [proj_size, units]
        self.output_size = proj_size

    def build(self, input_shape: Any) -> None:
        # Not LSTMCell's, whose recurrent kernel would be (n, 4n).
        gates = 4 * self.units
        self.kernel = self._weight("kernel", (input_shape[-1], gates), "kernel")
        self.recurrent_kernel = self._weight("recurrent_kernel", (self.proj_size, gates), "recurrent")
        self.bias = self._weight("bias", (gates,), "bias", self._first_bias) if self.use_bias else None
        self.projection = self.add_weight(
            shape=(self.units, self.proj_size), name="projection", initializer=self.projection_initializer
        )
        self.built = True

    def _weight(self, name: str, shape: tuple[int, ...], options: str, initializer: Any = None) -> Any:
        """One of the weights that LSTMCell has, too; ``options`` is how the names of its options begin."""
        return self.add_weight(
            shape=shape,
            name=name,
            initializer=initializer or getattr(self, f"{options}_initializer"),
            regularizer=getattr(self, f"{options}_regularizer"),
            constraint=getattr(self, f"{options}_constraint"),
        )

    def _first_bias(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """The bias before training; with unit_forget_bias ones stand in the forget gate, the second."""
        drawn = self.bias_initializer(shape, dtype=dtype)
        if not self.unit_forget_bias:
            return drawn
        n = self.units
        return ops.concatenate([drawn[:n], ops.ones((n,), dtype=drawn.dtype), drawn[2 * n :]])

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple[Any, list[Any]]:
        """One time step: inputs (batch, d) and states [h, c] to the output h' and the states [h', c']."""
        unprojected, (_, c) = super().call(inputs, states, training=training)
        h = ops.matmul(unprojected, self.projection)
        return h, [h, c]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "proj_size": self.proj_size,
            "projection_initializer": keras.initializers.serialize(self.projection_initializer),
        }
