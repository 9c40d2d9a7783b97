"""The command line. Exit status: 0 equivalent or done, 1 not equivalent, 2 could not compare."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import TextIOWrapper
from itertools import pairwise

import click

from xframe.cli.baseline import check, record
from xframe.cli.compare import compare
from xframe.cli.completion import completed, completion, register
from xframe.cli.diagnose import diagnose
from xframe.cli.doctor import doctor
from xframe.cli.explain import explain
from xframe.cli.files import convert, inspect, verify
from xframe.cli.options import STATUS
from xframe.errors import SpecError, XframeError

__all__ = ["main"]


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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name may have letters that the terminal has not
    register()
    try:
        sys.exit(cli.main(given, prog_name="xframe", standalone_mode=False))
    except click.ClickException as error:
        _fail(given, SpecError(_sentence(error.format_message())))
    except XframeError as error:
        _fail(given, error)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if text.endswith(".") else f"{text}."


def _fail(given: Sequence[str], error: XframeError) -> None:
    """One sentence on standard error and, where JSON was asked for, the error as the report."""
    click.echo(f"xframe: error: {error}", err=True)
    if "--format=json" in given or ("--format", "json") in pairwise(given):
        from xframe.report.json import error_json

        command = next((word for word in given if word in cli.commands), "")
        click.echo(error_json(command, error), nl=False)
    sys.exit(STATUS["error"])
