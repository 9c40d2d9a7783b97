"""Keras: what Keras 3 lacks and a chain may need, registered so that a saved model that uses it can be loaded."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="xframe")  # type: ignore[untyped-decorator]
def hard_sigmoid_keras2(x: Any) -> Any:
    """min(max(0.2 x + 0.5, 0), 1), which Keras 1 and 2 called hard_sigmoid; that of Keras 3 has the slope 1/6."""
    return ops.clip(0.2 * x + 0.5, 0, 1)


@keras.saving.register_keras_serializable(package="xframe")
class ProjectedLSTMCell(keras.layers.LSTMCell):  # type: ignore[misc]
    """An LSTM cell whose state h is projected to fewer numbers: h' = (o tanh(c')) projection."""

    def __init__(self, units: int, proj_size: int, **options: Any) -> None:
        super().__init__(units, **options)
        self.proj_size = proj_size
        self.state_size = [proj_size, units]
        self.output_size = proj_size

    def build(self, input_shape: Any) -> None:
        gates = 4 * self.units
        self.kernel = self.add_weight(shape=(input_shape[-1], gates), name="kernel")
        self.recurrent_kernel = self.add_weight(shape=(self.proj_size, gates), name="recurrent_kernel")
        self.bias = self.add_weight(shape=(gates,), name="bias", initializer="zeros") if self.use_bias else None
        self.projection = self.add_weight(shape=(self.units, self.proj_size), name="projection")
        self.built = True

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple[Any, list[Any]]:
        unprojected, (_, c) = super().call(inputs, states, training=training)
        h = ops.matmul(unprojected, self.projection)
        return h, [h, c]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "proj_size": self.proj_size}


@keras.saving.register_keras_serializable(package="xframe")
class LastStep(keras.layers.Layer):  # type: ignore[misc]
    """The last time step of each sequence."""

    def call(self, x: Any) -> Any:
        return x[:, -1]
