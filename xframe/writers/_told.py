"""What a writer says in the file of weights of what it wrote; `xframe.recognition.told` reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from xframe.files.told import FORMAT
from xframe.graph.graph import Graph, joined
from xframe.recognition.told import spec_fields
from xframe.spec import Recurrent
from xframe.writers.base import trained

__all__ = ["telling"]


def telling(graphs: Mapping[str, Graph], packing: str, tensors: Sequence[Mapping[str, str]]) -> str:
    """The text for a graph; for several the text for all of them beside each other.

    Args:
        graphs: what was written, by entry.
        packing: of the tensors.
        tensors: for each node the names in the file, by those of the packing or, of other nodes, of the kind.
    """
    graph = joined(graphs) if len(graphs) > 1 else next(iter(graphs.values()))
    steps: list[dict[str, Any]] = []
    for node, names in zip(graph.nodes, tensors, strict=True):
        told: dict[str, Any] = {"name": node.name, "kind": node.kind, "options": dict(node.options)}
        if node.distributed:
            told["distributed"] = True
        if node.spec is not None:
            told["spec"] = spec_fields(trained(node.spec)[0] if isinstance(node.spec, Recurrent) else node.spec)
        if not graph.chain:
            told |= {"reads": node.reads, "writes": node.writes, "masks": node.masks}
        steps.append({**told, "packing": packing, "tensors": dict(names)})
    said: dict[str, Any] = {"format": FORMAT, "name": graph.name}
    if graph.chain:
        said["input_shape"] = graph.inputs[0].shape
    else:
        said |= {
            "inputs": [{"name": one.name, "shape": one.shape} for one in graph.inputs],
            "outputs": [{"name": one.name, "value": one.value} for one in graph.outputs],
            "form": graph.form,
        }
    return json.dumps({**said, "steps": steps}, separators=(",", ":"))
