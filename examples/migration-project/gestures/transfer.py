"""What Keras learnt, moved into the port: python -m gestures.transfer"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

import xframe
from gestures.port import Port
from xframe.adapters import KerasAdapter, TorchAdapter

if TYPE_CHECKING:
    import keras

__all__ = ["transfer"]


def transfer(model: keras.Model, port: Port) -> None:
    """Copy every number. A layer without a partner, of another size or with other options is an error, by name."""
    theirs, ours = dict(KerasAdapter().layers(model)), dict(TorchAdapter().layers(port))
    if apart := theirs.keys() ^ ours.keys():
        raise ValueError(f"These layers are on one side only: {', '.join(sorted(apart))}.")
    for name, layer in theirs.items():
        xframe.transfer(layer, ours[name])


if __name__ == "__main__":
    import keras

    shipped = Port()
    transfer(keras.models.load_model("model.keras"), shipped)
    torch.save(shipped.state_dict(), "port.pth")
