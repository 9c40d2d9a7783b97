"""Which framework has which layer: the table in the README, derived from the layout tables.

"run" means that xframe builds, runs and moves the layer; "count" that it counts and explains it; "no" that the framework does
not have it.
"""

from __future__ import annotations

from tabulate import tabulate

from xframe import Recurrent
from xframe.adapters import known_adapters, known_packings
from xframe.errors import UnsupportedError
from xframe.layout import Packing

LAYERS = {
    "SimpleRNN": Recurrent("rnn", 3, 5),
    "LSTM": Recurrent("lstm", 3, 5),
    "LSTM, projected": Recurrent("lstm", 3, 5, proj_size=2),
    "GRU, reset after": Recurrent("gru", 3, 5),
    "GRU, reset before": Recurrent("gru", 3, 5, reset_after=False),
    "without biases": Recurrent("lstm", 3, 5, bias=False),
}


def support(packing: Packing, spec: Recurrent) -> str:
    try:
        packing.layout(spec)
    except UnsupportedError:
        return "no"
    return "run" if packing.name in known_adapters() else "count"


def main() -> None:
    packings = known_packings().values()
    rows = [[name, *(support(p, spec) for p in packings)] for name, spec in LAYERS.items()]
    print(tabulate(rows, ["layer", *(p.title for p in packings)], tablefmt="github"))


if __name__ == "__main__":
    main()
