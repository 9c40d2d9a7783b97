"""The command line. Exit status: 0 equivalent or done, 1 not equivalent, 2 could not compare."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from itertools import pairwise
from typing import Any

import click

from xframe.cli.baseline import check, record
from xframe.cli.compare import compare
from xframe.cli.completion import completed, completion, register
from xframe.cli.diagnose import diagnose
from xframe.cli.doctor import doctor
from xframe.cli.explain import explain
from xframe.cli.files import convert, inspect, verify
from xframe.cli.options import STATUS
from xframe.errors import FileError, SpecError, XframeError
from xframe.escaping import in_lines, printable

__all__ = ["main"]

# What shells say of a program that Ctrl-C ended, and of one that wrote into a pipe that nobody reads.
_INTERRUPTED, _UNREAD = 130, 141
_STREAMS = 3  # standard input, output and error have the numbers below
_LONGEST = 300  # characters of what an unforeseen error says


def _show_versions(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from xframe.cli.version import versions

        click.echo(versions())
        context.exit()


@click.group(
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_versions,
    help="Show the versions of xframe and of what it works with, and exit.",
)
@click.pass_context
def cli(context: click.Context) -> None:
    """The same recurrent layer in two frameworks: counted, explained, moved and proven.

    CELL is rnn, lstm or gru. Exit status: 0 equivalent or done, 1 not equivalent, 2 could not compare.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        context.exit(STATUS["error"])


for _command in (compare, explain, inspect, verify, diagnose, convert, record, check, doctor, completion):
    cli.add_command(completed(_command))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; leaves by SystemExit with the status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _prepare_streams()
    register()
    out, status = sys.stdout, None
    try:
        status = cli.main(given, prog_name="xframe", standalone_mode=False)
    except SystemExit as left:
        # Where nobody reads what it prints, click puts another stream there and leaves by 1, which means something else here.
        status = left.code if sys.stdout is out else _UNREAD
    except (click.Abort, KeyboardInterrupt):
        status = _INTERRUPTED
    except Exception as error:
        status = _failed(given, error)
    sys.exit(_flushed(status))


def _prepare_streams() -> None:
    """Let nothing that is opened take the number of a stream that is closed, and print what a terminal cannot show as escapes."""
    while (number := os.open(os.devnull, os.O_RDWR)) < _STREAMS:
        pass
    os.close(number)
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _flushed(status: Any) -> Any:
    """The status, or that of an error where the last of what was printed cannot be written."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        # Python would try once more when it ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
        return status if status in (_UNREAD, _INTERRUPTED) else STATUS["error"]
    return status


def _failed(given: Sequence[str], error: Exception) -> int:
    """One sentence on standard error and, where JSON was asked for, the error as the report; the status."""
    known = _known(error)
    with suppress(OSError):  # where not even that can be written, the status alone says it
        if os.environ.get("XFRAME_DEBUG") == "1":
            click.echo(in_lines("".join(traceback.format_exception(error))), err=True, nl=False)
        click.echo(f"xframe: error: {printable(str(known))}", err=True)
        if "--format=json" in given or ("--format", "json") in pairwise(given):
            from xframe.report.json import error_json

            command = next((word for word in given if word in cli.commands), "")
            click.echo(error_json(command, known), nl=False)
    return STATUS["error"]


def _known(error: Exception) -> XframeError:
    """An error as one of xframe's."""
    if isinstance(error, XframeError):
        return error
    if isinstance(error, click.ClickException):
        return SpecError(_sentence(error.format_message()))
    if isinstance(error, MemoryError):
        return XframeError("There is not enough memory for this; give a smaller model, or a machine with more.")
    if isinstance(error, OSError) and error.strerror:
        what = "Cannot go on" if error.filename is None else f"Cannot use {error.filename}"
        return FileError(f"{what}: {error.strerror}; correct the path, or make room.")
    why = (str(error).strip().splitlines() or ["no reason given"])[0][:_LONGEST].rstrip(".")
    return XframeError(
        f"Something that xframe did not foresee went wrong ({type(error).__name__}: {why}); please report it with what is shown "
        "with XFRAME_DEBUG=1 in the environment."
    )


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if text.endswith(".") else f"{text}."
