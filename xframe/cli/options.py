"""What the commands share: their options, and how a result is handed over."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from xframe.budget import MEMORY, SECONDS, allowed, stopwatch
from xframe.errors import FileError
from xframe.escaping import printable
from xframe.report import FORMATS, format_of, render
from xframe.report.delivery import append_summary, check_output, write_output
from xframe.spec import Dense, Recurrent, Sequential

__all__ = [
    "BATCH",
    "STATUS",
    "SUITES",
    "bounded",
    "check_output",
    "choice_options",
    "deliver",
    "listed",
    "model_of",
    "options",
    "output_options",
    "spec_options",
    "warn",
]

# What is added to the summary of a job on GitHub; by name, because explaining needs none of the modules that have them.
_JUDGED = ("Verdict", "Suite", "Verification", "Conversion", "Checking")
# Kept here, because the module that has them needs NumPy.
SUITES = ("standard", "full")
BATCH = 2
STATUS = {
    "equivalent": 0,
    "done": 0,
    "inconclusive": 2,
    "partial": 2,
    "error": 2,
    **dict.fromkeys(("different", "explained", "unexplained"), 1),
}


F = TypeVar("F", bound=Callable[..., Any])


def options(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, shown in this order by --help."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


spec_options = options(
    click.argument("cell", required=False, metavar="[CELL]"),
    click.option("--hidden", "--units", type=int, metavar="N", help="Hidden units."),
    click.option("--features", "--input-size", type=int, metavar="D", help="Input features at each time step."),
    click.option("--layers", type=int, metavar="L", help="Layers stacked on each other.  [default: 1]"),
    click.option("--bidirectional", is_flag=True, help="Both directions of time."),
    click.option("--merge", metavar="M", help="Both directions as concat, sum, mul, ave or none.  [default: concat]"),
    click.option("--go-backwards", is_flag=True, help="Read time from the end; the output is not flipped back."),
    click.option("--no-bias", is_flag=True, help="Without biases."),
    click.option("--reset-before", is_flag=True, help="GRU: reset gate before the product (reset_after=False)."),
    click.option("--activation", metavar="A", help="Any of Keras's, or hard_sigmoid_keras2.  [default: tanh]"),
    click.option(
        "--recurrent-activation", metavar="A", help="The same for the gates of lstm and gru.  [default: sigmoid]"
    ),
    click.option("--proj-size", type=int, metavar="P", help="LSTM: size of the projected state."),
    click.option("--mask", metavar="K", help="Masked time steps: right (padding at the end) or any."),
    click.option("--masked-output", metavar="O", help="At a masked step: repeat (the output before) or zero."),
    click.option("--input-dropout", type=float, metavar="R", help="Rate on the inputs, in training (Keras: dropout)."),
    click.option("--recurrent-dropout", type=float, metavar="R", help="Rate on the state h, in training."),
    click.option(
        "--dropout", type=float, metavar="R", help="Rate between stacked layers, in training (PyTorch: dropout)."
    ),
    click.option("--bare-cell", is_flag=True, help="The cell alone, called step by step."),
)


def _format(context: click.Context, option: click.Parameter, given: str | None) -> str:
    """The format that was asked for, else the one that the name of the file asks for."""
    return given or format_of(context.params.get("output") or "")


output_options = options(
    click.option(
        "--format",
        "format_",
        type=click.Choice(FORMATS),
        callback=_format,
        help="Report format.  [default: by the ending of --output FILE, else text]",
    ),
    click.option(
        "--output",
        metavar="FILE",
        help="Write the report to FILE (whole or not at all), not to standard output.",
    ),
    click.option("--quiet", is_flag=True, help="No report on standard output and no progress bar."),
)


choice_options = options(
    click.option("--packing", metavar="P", help="How the tensors are packed: keras, torch, onnx, tf1, keras1, ..."),
    click.option("--cell", metavar="C", help="rnn, lstm or gru."),
    click.option("--activation", metavar="A", help="Activation of the recurrent layers."),
    click.option("--recurrent-activation", metavar="A", help="Activation of their gates, such as hard_sigmoid_keras2."),
    click.option("--reset-after/--reset-before", default=None, help="GRU: where the reset gate acts."),
    click.option("--go-backwards/--go-forwards", default=None, help="Which way one-way layers read time."),
    click.option(
        "--merge", "merge_mode", metavar="M", help="How two directions are merged: concat, sum, mul, ave or none."
    ),
    click.option(
        "--forget-bias", type=float, metavar="B", help="What TensorFlow 1 added to the forget gate.  [default: 1]"
    ),
)


def bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command that reads files, with the options that bound what these may take, and these bounds."""

    @click.option(
        "--max-memory",
        type=int,
        metavar="MIB",
        default=MEMORY,
        show_default=True,
        help="What the files may ask for beyond their own size.",
    )
    @click.option(
        "--timeout",
        type=float,
        metavar="S",
        default=SECONDS,
        show_default=True,
        help="Seconds after which it gives up.",
    )
    @wraps(function)
    def run(*arguments: Any, max_memory: int, timeout: float, **options: Any) -> Any:
        with allowed(max_memory, timeout) as budget, stopwatch(budget):
            return function(*arguments, **options)

    return run


def model_of(cell: str | None, given: dict[str, Any]) -> Recurrent | Sequential:
    """The layer that the options describe, or the model that stands for none."""
    if cell is None:
        if named := [name for name, value in given.items() if value]:
            flag = "--" + named[0].replace("_", "-")
            raise click.UsageError(f"{flag} needs a CELL: rnn, lstm or gru.")
        return Sequential(Recurrent("rnn", 1, 10), Dense(10, 1))
    if missing := [f"--{name}" for name in ("hidden", "features") if given[name] is None]:
        raise click.UsageError(f"{cell} needs {' and '.join(missing)}: xframe ... {cell} --hidden 8 --features 3.")
    if given["reset_before"] and cell in ("rnn", "lstm"):
        raise click.UsageError(f"--reset-before is an option of the gru, not of the {cell}; leave it out.")
    plain = ("proj_size", "mask", "masked_output", "input_dropout", "recurrent_dropout", "dropout")
    optional = {"num_layers": given["layers"], **{name: given[name] for name in plain}}
    if merge := given["merge"]:
        optional["merge_mode"] = None if merge == "none" else merge
    return Recurrent(
        cell,
        given["features"],
        given["hidden"],
        bidirectional=given["bidirectional"],
        bias=not given["no_bias"],
        reset_after=False if given["reset_before"] else None,
        activation=given["activation"],
        recurrent_activation=given["recurrent_activation"],
        go_backwards=given["go_backwards"],
        form="cell" if given["bare_cell"] else "layer",
        stateful=given.get("batch_size") is not None,
        batch_size=given.get("batch_size"),
        **{name: value for name, value in optional.items() if value is not None or name == "merge_mode"},
    )


def listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def deliver(result: Any, format_: str, output: str | None, quiet: bool) -> None:
    """Print the report, or write it to a file; and add a verdict to the summary of a job on GitHub."""
    if output is not None:
        write_output(output, render(result, format_))
    elif not quiet:
        _print(render(result, format_))
    if type(result).__name__ in _JUDGED and (wrong := append_summary(result)):
        warn(wrong)


def _print(report: str) -> None:
    if sys.stdout is None:
        raise FileError("Cannot print the report: standard output is closed; open it, or give --output FILE.")
    try:
        click.echo(report, nl=False)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FileError(f"Cannot print the report: {error.strerror}; make room, or give --output FILE.") from None


def warn(sentence: str) -> None:
    """Say something on standard error that changes no status."""
    click.echo(f"xframe: warning: {printable(sentence)}", err=True)
