"""The parts of the documentation that are made from xframe itself, as Markdown.

python scripts/reference_tables.py cli        every command with its options, from the command line itself
python scripts/reference_tables.py packing    gate orders and shapes, from the packing tables
python scripts/reference_tables.py mistakes   the catalogue of known mistakes
python scripts/reference_tables.py json       the kinds of JSON reports, from the schema
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any

import click
from tabulate import tabulate

from xframe import Recurrent

# Layers in which every mistake of the catalogue can be made.
_MADE_IN: tuple[dict[str, Any], ...] = (
    {"cell": "gru", "num_layers": 2},
    {"cell": "lstm", "bidirectional": True, "num_layers": 2, "dropout": 0.2},
    {"cell": "lstm", "mask": "right"},
    {"cell": "lstm", "proj_size": 2, "input_dropout": 0.2},
    {"cell": "gru", "reset_after": False, "go_backwards": True, "mask": "any", "masked_output": "zero"},
    {"cell": "gru", "bidirectional": True, "mask": "any", "merge_mode": "sum"},
    {"cell": "rnn", "stateful": True, "batch_size": 3},
)
_EXAMPLES = 3
_PACKED = {
    "SimpleRNN": Recurrent("rnn", 3, 5),
    "LSTM": Recurrent("lstm", 3, 5),
    "GRU, reset after": Recurrent("gru", 3, 5),
    "GRU, reset before": Recurrent("gru", 3, 5, reset_after=False),
}


def table(rows: list[list[str]], headers: list[str]) -> str:
    return tabulate(rows, headers, tablefmt="github")


def code(text: str) -> str:
    """Text as code in a table, where a bar would end the cell."""
    return f"`{text.replace('|', ', ')}`"


# The command line.


def cli() -> Iterator[str]:
    from xframe.cli import cli as group

    context = click.Context(group, info_name="xframe", **group.context_settings)
    for name in sorted(group.commands):
        command = group.commands[name]
        inner = click.Context(command, info_name=name, parent=context)
        options = [one.get_help_record(inner) for one in command.get_params(inner) if isinstance(one, click.Option)]
        yield f"## xframe {name}"
        yield f"```text\n{command.get_usage(inner).removeprefix('Usage: ')}\n```"
        yield from prose(inspect.cleandoc(command.help or ""))
        yield table([[code(one[0]), one[1].replace("  [", " [")] for one in options if one], ["option", "what it does"])


def prose(text: str) -> Iterator[str]:
    """A help text in paragraphs; click leaves one that begins with \\b as it is: there stand the examples."""
    for paragraph in text.split("\n\n"):
        kept = paragraph.startswith("\b\n")
        lines = paragraph.removeprefix("\b\n").splitlines()
        if kept:
            yield lines[0]
            yield "```text\n" + "\n".join(line.strip() for line in lines[1:]) + "\n```"
        else:
            yield " ".join(lines)


# How tensors are packed.


def packing() -> Iterator[str]:
    from xframe.adapters import known_packings
    from xframe.errors import UnsupportedError

    for title, spec in _PACKED.items():
        rows = []
        for one in known_packings().values():
            try:
                natives = one.natives(spec)
            except UnsupportedError:
                continue
            row = one.layout(spec)
            alike: dict[tuple[str, ...], list[str]] = {}
            for native in natives:
                # What the layer itself is called stands before the name in some frameworks.
                short = (tensor.name for tensor in row.tensors if native.name.endswith(f"/{tensor.name}"))
                alike.setdefault(native.symbols, []).append(code(next(short, native.name)))
            tensors = [f"{', '.join(names)}: ({', '.join(shape)})" for shape, names in alike.items()]
            rows.append([one.title, code(one.layer_name(spec)), " ".join(row.gate_order()), "<br>".join(tensors)])
        yield f"## {title}"
        yield table(rows, ["framework", "layer", "gates, in order", "tensors of a layer, with their shapes"])


# Known mistakes.


def mistakes() -> Iterator[str]:
    from xframe.mistakes import CATALOGUE, STEP_MISTAKES

    cases = list(made_in())
    for entry in CATALOGUE:
        mends: dict[str, str] = {}
        for case in cases:
            for variation in entry.vary(case):
                mends.setdefault(variation.mend, variation.name)
        yield f"## {entry.name.capitalize()}"
        yield f"{entry.why}"
        yield f"People call it: {', '.join(map(code, entry.called))}."
        rows = [[name, mend] for mend, name in list(mends.items())[:_EXAMPLES]]
        yield table(rows, ["what a report says", "how to mend it"])
    for step in STEP_MISTAKES:
        yield f"## Between the layers: {step.name}"
        yield step.why
        yield f"People call it: {', '.join(map(code, step.called))}."


def made_in() -> Iterator[Any]:
    """Cases of all kinds: with masks, with given states, and with a call before."""
    from xframe.mistakes import Case
    from xframe.probe import Probe, draw_input, draw_masks, draw_parameters, draw_state
    from xframe.reference import Given

    for options in _MADE_IN:
        spec = Recurrent(input_size=4, hidden_size=5, **options)
        probe = Probe(batch=3, steps=6, seed=0)
        x, params = draw_input(spec, probe), draw_parameters(spec, 0)
        masks = draw_masks(spec, probe) or [None]
        first = Given(x, draw_state(spec, probe), masks[0])
        yield Case(spec, params, first)
        yield Case(spec, params, Given(x, None, masks[0], first))


# JSON.


def json() -> Iterator[str]:
    from xframe.report import schema

    known = schema()["$defs"]
    rows = []
    for kind in schema()["oneOf"]:
        name = kind["$ref"].rsplit("/", 1)[-1]
        own = [code(field) for field in fields(known[name], known) if field not in known["head"]["properties"]]
        rows.append([code(name), known[name]["description"], ", ".join(own)])
    yield table(rows, ["kind", "written by", "its own fields"])


def fields(node: dict[str, Any], known: dict[str, Any]) -> list[str]:
    """The names of an object's fields, those of the objects that it extends first."""
    found = fields(known[node["$ref"].rsplit("/", 1)[-1]], known) if "$ref" in node else []
    for part in node.get("allOf", []):
        found += fields(part, known)
    return list(dict.fromkeys([*found, *node.get("properties", {})]))


def main(arguments: list[str]) -> None:
    makers = {"cli": cli, "packing": packing, "mistakes": mistakes, "json": json}
    if len(arguments) != 1 or arguments[0] not in makers:
        sys.exit(f"usage: python scripts/reference_tables.py {{{','.join(makers)}}}")
    text = "\n\n".join(part for part in makers[arguments[0]]() if part)
    print(re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE))


if __name__ == "__main__":
    main(sys.argv[1:])
