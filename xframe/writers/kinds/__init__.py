"""How kinds of nodes are written to each target: a file for a family of kinds, with a table a target."""

from __future__ import annotations

from xframe.writers.kinds import attention, conv_recurrent, convolution, einsum, normalising, operations

__all__ = ["FAMILIES"]

FAMILIES = (attention, conv_recurrent, convolution, einsum, normalising, operations)
