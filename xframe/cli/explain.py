"""``xframe explain``."""

from __future__ import annotations

from typing import Any

import click

from xframe.cli.options import check_output, deliver, model_of, output_options, spec_options
from xframe.spec import Recurrent, Sequential

__all__ = ["explain"]


@click.command()
@spec_options
@click.option("--number", type=int, metavar="K", help="Which framework and which assumption gives K parameters.")
@click.option(
    "--steps", type=int, metavar="T", help="With --number: time steps, if they may have been taken for features."
)
@click.option(
    "--demonstrate", is_flag=True, help="Move a constant from one bias to the other and show what the outputs do."
)
@output_options
def explain(
    cell: str | None,
    number: int | None,
    steps: int | None,
    demonstrate: bool,
    format_: str,
    output: str | None,
    quiet: bool,
    **spec: Any,
) -> None:
    """Explain the parameter counts of a layer in every framework; none needs to be installed.

    Without CELL: the model SimpleRNN(10) on 1 feature, then Dense(1); with --demonstrate SimpleRNN(10) and GRU(10).

    \b
    Examples:
      xframe explain rnn --hidden 10 --features 1
      xframe explain gru --hidden 32 --features 16 --bidirectional --number 9408
      xframe explain --demonstrate
    """
    if number is not None and demonstrate:
        raise click.UsageError("--number and --demonstrate answer different questions; give one of them.")
    if steps is not None and number is None:
        raise click.UsageError("--steps goes with --number: the number of time steps changes no count.")
    model = model_of(cell, spec)
    check_output(output)
    if number is not None:
        if not isinstance(model, Recurrent):
            raise click.UsageError("--number needs a CELL: xframe explain lstm --hidden 9 --features 1 --number 396.")
        deliver(_search(model, number, steps), format_, output, quiet)
    elif demonstrate:
        deliver(_demonstrations(model), format_, output, quiet)
    else:
        from xframe.explanation import explain as explain_layers

        deliver(explain_layers(model), format_, output, quiet)


def _search(spec: Recurrent, number: int, steps: int | None) -> Any:
    from xframe.assumptions import search

    return search(spec, number, steps)


def _demonstrations(model: Recurrent | Sequential) -> Any:
    from xframe.demonstration import demonstrate
    from xframe.probe import Probe

    if isinstance(model, Recurrent):
        return demonstrate(model, Probe())
    return [demonstrate(Recurrent(cell, 1, 10), Probe()) for cell in ("rnn", "gru")]
