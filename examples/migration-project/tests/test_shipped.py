"""What is shipped, where no Keras is installed: the weights in the file put out what was recorded of the Keras layer."""

from __future__ import annotations

from pathlib import Path

import torch
from gestures.port import Port

import xframe

ROOT = Path(__file__).resolve().parent.parent


def test_the_shipped_layer_puts_out_what_is_recorded():
    port = Port()
    port.load_state_dict(torch.load(ROOT / "port.pth", weights_only=True))
    found = xframe.check(ROOT / "golden.npz", layer=port.both_ways)
    assert found, found.report()
