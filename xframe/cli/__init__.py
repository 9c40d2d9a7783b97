"""The command line. Exit status: 0 equivalent or done, 1 not equivalent, 2 could not compare."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise

import click

from xframe import __version__
from xframe.cli.baseline import check, record
from xframe.cli.compare import compare
from xframe.cli.diagnose import diagnose
from xframe.cli.doctor import doctor
from xframe.cli.explain import explain
from xframe.cli.files import convert, inspect, verify
from xframe.cli.options import STATUS
from xframe.errors import SpecError, XframeError
from xframe.report import printable

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="xframe")
def cli() -> None:
    """The same recurrent layer in two frameworks: counted, explained, moved and proven.

    CELL is rnn, lstm or gru. Exit status: 0 equivalent or done, 1 not equivalent, 2 could not compare.
    """


for _command in (compare, explain, inspect, verify, diagnose, convert, record, check, doctor):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; leaves by SystemExit with the status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        cli.main(given, prog_name="xframe", standalone_mode=False)
        sys.exit(0)
    except click.exceptions.Exit as request:
        sys.exit(request.exit_code)
    except click.exceptions.NoArgsIsHelpError as help_:
        click.echo(help_.format_message())
        sys.exit(2)
    except click.ClickException as error:
        _fail(given, SpecError(_sentence(error.format_message())))
    except XframeError as error:
        _fail(given, error)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _fail(given: Sequence[str], error: XframeError) -> None:
    """One sentence on standard error and, where JSON was asked for, the error as the report."""
    click.echo(f"xframe: error: {printable(str(error))}", err=True)
    if "--format=json" in given or ("--format", "json") in pairwise(given):
        from xframe.report.json import error_json

        command = next((word for word in given if word in cli.commands), "")
        click.echo(error_json(command, error), nl=False)
    sys.exit(STATUS["error"])
