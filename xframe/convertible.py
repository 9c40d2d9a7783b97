"""Whether a model file converts whole, and all that stands in the way: `inspect` says it beforehand, and `convert` does it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xframe.errors import ObstaclesError, UnsupportedError
from xframe.graph import Graph, graph_of
from xframe.recognition import Findings
from xframe.spec import plural

__all__ = ["listed", "whole_graph"]

# A reason that lists more than a sentence can hold is cut there; reports list the whole of it elsewhere.
_LONGEST = 300
_WEIGHTS = "The file holds weights only, and does not say how its layers are connected"
_GRAPH = "The file is a graph, of which only the layers are read yet, and not how they are connected"


def whole_graph(found: Findings) -> tuple[Graph | None, tuple[str, ...]]:
    """The graph that the file describes, if it describes one that is modelled; and all that stands in the way of it, a sentence
    each without its full stop.

    A file that holds one layer and nothing else describes no graph, and nothing stands in the way.
    """
    graph, reasons = None, list[str]()
    if found.file.config is not None:
        try:
            graph = graph_of(found)
        except UnsupportedError as error:
            reasons += error.reasons if isinstance(error, ObstaclesError) else [str(error)]
    else:
        reasons += _apart(found)
    reasons += [layer.refused for layer in found.layers if layer.refused and layer.refused not in reasons]
    if found.opaque:
        reasons.append(f"The file runs more than its layers: {', '.join(found.opaque)}")
    if found.unconsumed:
        names = ", ".join(map(repr, found.unconsumed))
        reasons.append(f"Nothing explains the {'tensor' if len(found.unconsumed) == 1 else 'tensors'} {names}.")
    return graph, tuple(dict.fromkeys(reason.rstrip(".") for reason in reasons))


def listed(why: Sequence[str]) -> str:
    """What stands in the way as a clause, with its number."""
    cut = (reason if len(reason) <= _LONGEST else f"{reason[:_LONGEST]}..." for reason in why)
    return f"{plural(len(why), 'thing')} {'stands' if len(why) == 1 else 'stand'} in the way: {'; '.join(cut)}"


def _apart(found: Findings) -> Iterator[str]:
    """What stands in the way where a file holds weights only."""
    for layer in found.layers:
        if len(layer.readings) > 1:
            yield f"The layer {layer.name!r} may be one of {len(layer.readings)}, which the file does not decide; {layer.choose}"
    if len(found.layers) + len(found.others) != 1:
        yield _GRAPH if found.file.graphs else _WEIGHTS
    for other in found.others:
        yield f"The layer {other.name!r} ({other.kind}) is neither recurrent nor dense"
