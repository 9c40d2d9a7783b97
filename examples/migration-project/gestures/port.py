"""The port, written by hand. It needs PyTorch alone."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

__all__ = ["CLASSES", "READINGS", "Port"]

READINGS, CLASSES = 6, 4


class Port(nn.Module):
    """The layers of the Keras model, under the names that they have there.

    forward: x (batch, time, readings), padded at the end, and lengths (batch,) -> (batch, classes), not normalised.
    """

    def __init__(self) -> None:
        super().__init__()
        self.both_ways = nn.GRU(READINGS, 7, batch_first=True, bidirectional=True)
        self.summary = nn.GRU(2 * 7, 9, batch_first=True)
        self.classes = nn.Linear(9, CLASSES)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        # Packed, because the backward direction must begin at the last reading, not in the padding.
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        _, last = self.summary(self.both_ways(packed)[0])
        return self.classes(last[0])
