"""Train a small classifier of sequences in Keras, and save it with some of its predictions.

Run: python examples/migration/train_in_keras.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np

WORDS, LENGTH, CLASSES = 40, 12, 3


def sequences(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sentences of word numbers, zeros after their end, and their class: which third of the words is the most frequent."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count)
    x = random.integers(1, WORDS, (count, LENGTH))
    own = 1 + labels[:, None] * (WORDS // CLASSES) + random.integers(0, WORDS // CLASSES, (count, LENGTH))
    x = np.where(random.uniform(size=x.shape) < 0.6, own, x)
    lengths = random.integers(4, LENGTH + 1, count)
    return np.where(np.arange(LENGTH) < lengths[:, None], x, 0), labels


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(WORDS, 8, mask_zero=True, name="words"),
            keras.layers.Bidirectional(keras.layers.LSTM(12, return_sequences=True), name="both_ways"),
            keras.layers.Dropout(0.2),
            keras.layers.GRU(10, recurrent_activation="hard_sigmoid", name="summary"),
            keras.layers.Dense(CLASSES, activation="softmax", name="classes"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*sequences(512, 1), epochs=4, batch_size=32, verbose=0)
    x, labels = sequences(64, 2)
    y = model.predict(x, verbose=0)
    model.save(folder / "model.keras")
    np.savez(folder / "expected.npz", x=x, y=y)
    print(f"Keras is right about {np.mean(y.argmax(axis=1) == labels):.0%} of {len(x)} new sequences.")


if __name__ == "__main__":
    main()
