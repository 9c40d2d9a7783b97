"""``xframe doctor``."""

from __future__ import annotations

import sys

import click

from xframe.cli.options import STATUS, check_output, deliver, output_options

__all__ = ["doctor"]


@click.command()
@output_options
def doctor(format_: str, output: str | None, quiet: bool) -> None:
    """Say what in this environment can change a number, and what it does to the numbers.

    Versions, backend, devices, threads, TF32, oneDNN, deterministic flags, float types, environment variables. Every
    framework that is installed is loaded; one that cannot be makes the status 2.

    \b
    Examples:
      xframe doctor
      xframe doctor --format markdown --output environment.md
    """
    check_output(output)
    from xframe.chatter import silenced

    with silenced():
        from xframe.environment import doctor as examine

        found = examine()
    deliver(found, format_, output, quiet)
    sys.exit(STATUS[found.status])
