"""Whole models that are a chain of layers, apart from any framework: from a file or an object, and run in NumPy."""

from __future__ import annotations

from xframe.chain.base import Chain, Step
from xframe.chain.keras import chain_of
from xframe.chain.kinds import KINDS
from xframe.chain.live import chain_of_model, run_model

__all__ = ["KINDS", "Chain", "Step", "chain_of", "chain_of_model", "run_model"]
