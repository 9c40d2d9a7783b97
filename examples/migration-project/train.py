"""Train the classifier in Keras: python train.py writes model.keras."""

from __future__ import annotations

import keras
import numpy as np

READINGS, CLASSES, LENGTH = 6, 4, 20


def gestures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Readings (count, 20, 6) of waves, each of its own length with zeros after it, and which of four waves it is."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count)
    steps = np.arange(LENGTH)
    speed = 0.3 + 0.25 * labels[:, None, None]
    phase = random.uniform(0, 6, (count, 1, READINGS))
    x = np.sin(speed * steps[:, None] + phase) + random.normal(0, 0.2, (count, LENGTH, READINGS))
    lengths = random.integers(8, LENGTH + 1, count)
    return np.where(steps[:, None] < lengths[:, None, None], x, 0).astype("float32"), labels


def main() -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((None, READINGS)),
            keras.layers.Masking(name="padding"),
            keras.layers.Bidirectional(keras.layers.GRU(7, return_sequences=True), name="both_ways"),
            keras.layers.GRU(9, name="summary"),
            keras.layers.Dense(CLASSES, name="classes"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss=loss, metrics=["accuracy"])
    model.fit(*gestures(1024, 1), epochs=8, batch_size=32, verbose=0)
    _, right = model.evaluate(*gestures(256, 2), verbose=0)
    print(f"Right about {right:.0%} of 256 new gestures.")
    model.save("model.keras")


if __name__ == "__main__":
    main()
