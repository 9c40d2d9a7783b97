"""Whole models as graphs, apart from any framework: from a file or an object, and run in NumPy."""

from __future__ import annotations

from xframe.graph.graph import Graph, Input, Output, chained
from xframe.graph.keras import graph_of
from xframe.graph.kinds import KINDS
from xframe.graph.models import graph_of_model, run_model
from xframe.graph.node import Node

__all__ = ["KINDS", "Graph", "Input", "Node", "Output", "chained", "graph_of", "graph_of_model", "run_model"]
