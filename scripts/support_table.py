"""Which framework has which layer: the tables of docs/reference/support.md, derived from the layout tables.

Without an argument: the layers in every framework. "run" means that xframe builds, runs and moves the layer; "part" that it does
so unless a number for which the framework has no place is other than zero; "count" that it counts and explains it; "no" that the
framework does not have it.

    python scripts/support_table.py [options | others | nodes | keras]

With ``options``: every option of a recurrent layer in the frameworks that are compared by default. "exact" means that the
framework's own layer does it, "module" that xframe gives a layer written in that framework, "no" that it is refused, "-" that the
cell has no such option. The numbers lead to the reasons below the table. With ``others``: the same, shorter, for those that
xframe runs besides; where cells differ, they are named. With ``nodes``: the kinds of nodes of which a whole model may be made.
With ``keras``: the layers and functions of Keras that are read as such nodes.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from tabulate import tabulate

from xframe import Recurrent
from xframe.adapters import known_adapters, known_packings, usual_adapters
from xframe.cells import get_cell, known_cells
from xframe.errors import SpecError, UnsupportedError
from xframe.graph.keras import FUNCTIONS, PLAIN_LAYERS
from xframe.graph.keras._several import SEVERAL
from xframe.graph.keras._weighted import WEIGHTED
from xframe.graph.kinds import KINDS
from xframe.layout import Packing
from xframe.packing import refuse_unfit

LAYERS = {
    "SimpleRNN": Recurrent("rnn", 3, 5),
    "LSTM": Recurrent("lstm", 3, 5),
    "LSTM, projected": Recurrent("lstm", 3, 5, proj_size=2),
    "GRU, reset after": Recurrent("gru", 3, 5),
    "GRU, reset before": Recurrent("gru", 3, 5, reset_after=False),
    "without biases": Recurrent("lstm", 3, 5, bias=False),
}

BOTH: dict[str, Any] = {"bidirectional": True}
OPTIONS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "without biases": {"bias": False},
    "reset gate before the product": {"reset_after": False},
    "projected": {"proj_size": 2},
    "activation relu": {"activation": "relu"},
    "any other activation": {"activation": "gelu"},
    "any other recurrent_activation": {"recurrent_activation": "hard_sigmoid"},
    "hard_sigmoid of Keras 1 and 2": {"recurrent_activation": "hard_sigmoid_keras2"},
    "several layers": {"num_layers": 2},
    "stacked cells that differ": {"stacked": (Recurrent("gru", 5, 4),)},
    "bidirectional, concat": BOTH,
    "bidirectional, sum, mul, ave": {**BOTH, "merge_mode": "sum"},
    "bidirectional, not merged": {**BOTH, "merge_mode": None},
    "bidirectional, stacked cells": {**BOTH, "stacked": (Recurrent("rnn", 5, 5),)},
    "bidirectional, backward differs": {**BOTH, "backward": Recurrent("lstm", 3, 4)},
    "go_backwards": {"go_backwards": True},
    "stateful": {"stateful": True, "batch_size": 2},
    "padding on the right, zero": {"mask": "right", "masked_output": "zero"},
    "padding on the right, repeat": {"mask": "right", "masked_output": "repeat"},
    "any mask, zero": {"mask": "any", "masked_output": "zero"},
    "any mask, repeat": {"mask": "any", "masked_output": "repeat"},
    "bidirectional, padding, zero": {**BOTH, "mask": "right", "masked_output": "zero"},
    "bidirectional, padding, repeat": {**BOTH, "mask": "right", "masked_output": "repeat"},
    "dropout on the inputs": {"input_dropout": 0.2},
    "dropout on the state": {"recurrent_dropout": 0.2},
    "dropout between layers": {"num_layers": 2, "dropout": 0.2},
    "bare cell": {"form": "cell"},
    "bare cell, other activation": {"form": "cell", "activation": "gelu"},
}


def layer_support(packing: Packing, spec: Recurrent) -> str:
    try:
        packing.layout(spec)
    except UnsupportedError:
        return "no"
    if packing.name not in known_adapters():
        return "count"
    try:
        refuse_unfit(packing, spec)
    except UnsupportedError:
        return "part"
    return "run"


def layers() -> str:
    packings = known_packings().values()
    rows = [[name, *(layer_support(p, spec) for p in packings)] for name, spec in LAYERS.items()]
    return tabulate(rows, ["layer", *(p.title for p in packings)], tablefmt="github")


def spec_of(cell: str, option: str) -> Recurrent | None:
    """The layer of one place in the table; None where the cell has no such option."""
    try:
        return Recurrent(cell, 3, 5, **OPTIONS[option])
    except SpecError:
        return None


def option_support(packing: Packing, spec: Recurrent) -> tuple[str, str]:
    """The word for the table, and why it is not ``exact``."""
    try:
        packing.layout(spec)
    except UnsupportedError as error:
        return "no", re.sub(r"\btorch\.nn\.\w+", "torch.nn's cell", str(error).replace(f" for {spec}", ""))
    if why := packing.why_ours(spec):
        # The same reason holds for all cells.
        return "module", re.sub(r"\btorch\.nn\.\w+", "torch.nn's layer", f"{packing.ours}, because {why}.")
    return "exact", ""


def cells_with_time() -> list[str]:
    return [name for name, cell in known_cells().items() if cell.recurrent]


def options() -> str:
    cells = cells_with_time()
    packings = [known_packings()[name] for name in usual_adapters()]
    reasons: dict[str, int] = {}
    rows = []
    for option in OPTIONS:
        row = [option]
        for packing in packings:
            for cell in cells:
                spec = spec_of(cell, option)
                word, why = option_support(packing, spec) if spec else ("-", "")
                row.append(f"{word} ({reasons.setdefault(why, len(reasons) + 1)})" if why else word)
        rows.append(row)
    headers = ["option", *(f"{p.title} {get_cell(cell).title}" for p in packings for cell in cells)]
    notes = [f"{number}. {why}" for why, number in reasons.items()]
    return "\n".join([tabulate(rows, headers, tablefmt="github"), "", *notes])


def others() -> str:
    packings = [known_packings()[name] for name in known_adapters() if name not in usual_adapters()]
    rows = [[option, *(in_short(packing, option) for packing in packings)] for option in OPTIONS]
    return tabulate(rows, ["option", *(p.title for p in packings)], tablefmt="github")


def in_short(packing: Packing, option: str) -> str:
    """One word, or each word with its cells; a cell that the framework does not have at all is not named again."""
    found: dict[str, list[str]] = {}
    for cell in cells_with_time():
        spec = spec_of(cell, option)
        if spec and (option == "as it is" or cell in packing.rows):
            found.setdefault(option_support(packing, spec)[0], []).append(get_cell(cell).title)
    if len(found) < 2:
        return next(iter(found), "-")
    return ", ".join(f"{word} ({', '.join(titles)})" for word, titles in found.items())


def nodes() -> str:
    """Each kind of node with the first sentence of what it says of itself."""
    rows = []
    for name, kind in sorted(KINDS.items()):
        text = " ".join((type(kind).__doc__ or "").split("\n\n")[0].split()).replace("``", "`").replace("|", "\\|")
        rows.append([f"`{name}`", text])
    return tabulate(rows, ["kind", "what it computes"], tablefmt="github")


def keras() -> str:
    """The classes and functions of Keras, in alphabetical order."""
    layers = sorted({*PLAIN_LAYERS, *WEIGHTED, *SEVERAL})
    functions = sorted({re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", name).lower() for name in FUNCTIONS})
    rows = [["layers", ", ".join(layers)], ["keras.ops", ", ".join(functions)]]
    return "\n\n".join(f"{what}: {names}" for what, names in rows)


if __name__ == "__main__":
    print({"options": options, "others": others, "nodes": nodes, "keras": keras}.get(" ".join(sys.argv[1:]), layers)())
