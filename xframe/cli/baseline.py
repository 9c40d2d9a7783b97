"""``xframe record`` and ``check``: what a layer puts out, kept in a file, and later versions held against it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from xframe.cli.options import (
    BATCH,
    STATUS,
    bounded,
    check_output,
    choice_options,
    deliver,
    listed,
    model_of,
    output_options,
    spec_options,
)

__all__ = ["check", "record"]

_CELLS = ("rnn", "lstm", "gru")
_FRAMEWORK = "Frameworks, by comma.  [default: all that are installed]"


def _of(decorate: Callable[[Any], Any], *left_out: str) -> Sequence[click.Parameter]:
    """What a decorator of `xframe.cli.options` adds to a command, without some."""
    command = click.command()(decorate(lambda: None))
    return [one for one in command.params if not {one.name, *one.opts}.intersection(left_out)]


# A layer is described, and a file's choices are made, by options of which some have one name: for a file they can also say no.
_SAME = ("--activation", "--recurrent-activation", "--go-backwards", "--merge", "--reset-before")
_LAYER = _of(spec_options, "cell", *_SAME)
_FILE = _of(choice_options)
_FILE_ONLY = ("packing", "cell", "forget_bias", "layer")


def _record(source: str, destination: str, quiet: bool, format_: str, **given: Any) -> None:
    check_output(destination)
    in_python = {name: given.pop(name) for name in ("batch", "steps", "seed", "force")}
    framework, stateful = given.pop("framework"), given.pop("stateful")
    in_python["framework"] = None if framework is None else listed(framework)
    thing: Any
    if source in _CELLS:
        thing = _layer(source, given, in_python["batch"] if stateful else None)
    else:
        thing = _file(source, given, stateful)
        in_python["layer"] = given.pop("layer")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from xframe.chatter import silenced

    with silenced():
        from xframe.baseline import record as record_baseline
        from xframe.recognition import Choices

        if source not in _CELLS:
            in_python["choices"] = Choices(**{one.name: given[one.name] for one in _FILE if one.name})
        found = record_baseline(thing, destination, **in_python)
    deliver(found, format_, None, quiet)
    sys.exit(STATUS[found.status])


def _layer(cell: str, given: dict[str, Any], batch_size: int | None) -> Any:
    """The layer that the options describe."""
    _refuse(given, _FILE_ONLY, f"is about a model file; leave it out for {cell}.")
    given["merge"] = given["merge_mode"]
    given["go_backwards"] = bool(given["go_backwards"])
    given["reset_before"] = given["reset_after"] is False
    if given["reset_after"] and cell != "gru":
        raise click.UsageError(f"--reset-after is an option of the gru, not of the {cell}; leave it out.")
    return model_of(cell, {**given, "batch_size": batch_size})


def _file(source: str, given: dict[str, Any], stateful: bool) -> Path:
    """The path of a model file."""
    own = [str(one.name) for one in _LAYER]
    _refuse({**given, "stateful": stateful}, (*own, "stateful"), "describes a layer; leave it out for a model file.")
    if not Path(source).exists() and not Path(source).suffix and len(Path(source).parts) == 1:
        raise click.UsageError(f"{source!r} is neither a cell (rnn, lstm, gru) nor a file.")
    return Path(source)


def _refuse(given: dict[str, Any], names: Sequence[str], why: str) -> None:
    """Refuse an option that was given and would be ignored."""
    for name in names:
        if given.get(name) is not None and given[name] is not False:
            raise click.UsageError(f"--{name.replace('_', '-')} {why}")


record = click.Command(
    "record",
    callback=bounded(_record),
    params=[
        click.Argument(["source"], metavar="LAYER_OR_FILE"),
        click.Option(
            ["-o", "--output", "destination"], required=True, metavar="FILE", help="The baseline to write, a .npz."
        ),
        click.Option(["--force"], is_flag=True, help="Replace FILE if it exists."),
        click.Option(["--framework"], metavar="LIST", help=_FRAMEWORK),
        click.Option(["--layer"], metavar="NAME", help="Of a model file: this layer only."),
        click.Option(
            ["--steps"], type=int, metavar="T", help="Time steps of the inputs.  [default: 5, more if needed]"
        ),
        click.Option(
            ["--batch"], type=int, default=BATCH, show_default=True, metavar="N", help="Sequences in the inputs."
        ),
        click.Option(
            ["--seed"], type=int, default=0, show_default=True, metavar="S", help="Seed of all random numbers."
        ),
        *_LAYER,
        click.Option(["--stateful"], is_flag=True, help="States are kept from call to call, for --batch sequences."),
        *_FILE,
        *_of(output_options, "--output"),
        *_of(bounded),
    ],
    help="""Record what a layer puts out, for `xframe check`.

    LAYER_OR_FILE is rnn, lstm or gru, described by --hidden, --features and so on, or the path of a model file, whose
    recurrent and dense layers are recorded. The file holds parameters, inputs, the outputs of the NumPy reference with their
    rounding noise, and what the installed frameworks put out and mean by their names. It holds arrays only, no pickles.

    \b
    Examples:
      xframe record gru --hidden 8 --features 3 -o golden.npz
      xframe record model.keras --layer lstm -o golden.npz
    """,
)


@click.command()
@click.argument("file")
@click.option("--framework", metavar="LIST", help=_FRAMEWORK)
@click.option("--dtype", metavar="LIST", help="Float types to judge.  [default: all that were recorded]")
@output_options
@bounded
def check(file: str, framework: str | None, dtype: str | None, format_: str, output: str | None, quiet: bool) -> None:
    """Check frameworks against a baseline that `xframe record` wrote.

    The recorded layers are built with the recorded parameters and run; every output must be the recorded one but for rounding.
    What a new version of the framework changed in its defaults or its activation functions is named.

    \b
    Examples:
      xframe check golden.npz
      xframe check golden.npz --framework torch --format junit --output check.xml
    """
    check_output(output, file)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from xframe.chatter import silenced

    with silenced():
        from xframe.baseline import check as check_baseline

        found = check_baseline(
            file,
            None if framework is None else listed(framework),
            dtypes=None if dtype is None else listed(dtype),
        )
    deliver(found, format_, output, quiet)
    sys.exit(STATUS[found.status])
