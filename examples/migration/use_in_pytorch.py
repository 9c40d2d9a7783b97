"""Use the converted model: PyTorch and safetensors, no xframe and no Keras.

Run: python examples/migration/use_in_pytorch.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch


def main() -> None:
    folder = Path(sys.argv[1])
    sys.path.insert(0, str(folder / "converted"))
    from model import load  # the source file that xframe wrote

    model = load(folder / "converted")
    with np.load(folder / "expected.npz") as expected, torch.inference_mode():
        x, wanted = expected["x"], expected["y"]
        got = model(torch.from_numpy(x)).numpy()
    same = int((got.argmax(axis=1) == wanted.argmax(axis=1)).sum())
    print(f"PyTorch predicts the class that Keras predicts for {same} of {len(x)} sequences.")
    print(f"The largest difference between two probabilities is {np.abs(got - wanted).max():.1e}.")
    sys.exit(0 if same == len(x) else 1)


if __name__ == "__main__":
    main()
