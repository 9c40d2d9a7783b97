"""``xframe diagnose``."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from xframe.cli.options import STATUS, bounded, check_output, choice_options, deliver, output_options, warn

__all__ = ["diagnose"]


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--plot", metavar="FILE", help="Draw the error over time, and by gate, to FILE (.png, .pdf or .svg).")
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="Seed of the inputs.")
@choice_options
@output_options
@bounded
def diagnose(
    a: str, b: str, plot: str | None, seed: int, format_: str, output: str | None, quiet: bool, **choices: Any
) -> None:
    """Say why two model files differ, or a layer and its recorded outputs, and where it begins.

    A is a model file: how it should be. B is another one, or an .npz file with the input x (batch, time, features) and the
    output y that was recorded, (batch, time, features) or the last one (batch, features). The catalogue of known mistakes, and
    pairs of them, are made in the NumPy reference of A until it puts out what B does.

    A recording of a layer that was given a mask has it as mask (batch, time), true at valid steps; one of a model that makes its
    mask itself (Masking, mask_zero) needs none. Initial and final states go by the names "initial h" and "state h".

    \b
    Examples:
      xframe diagnose model.h5 model.pth
      xframe diagnose layer.safetensors recorded.npz --packing torch --plot error.png
    """
    check_output(output, a, b)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from xframe.chatter import silenced
    from xframe.diagnosis import diagnose as diagnosed
    from xframe.diagnosis.plot import check_plot
    from xframe.recognition import Choices

    if plot is not None:
        check_plot(plot)
        check_output(plot, a, b)
    with silenced():
        result = diagnosed(a, b, choices=Choices(**choices), seed=seed)
        drawn = _drawn(result, plot) if plot is not None else True
    deliver(result, format_, output, quiet)
    if not drawn:
        warn("nothing was drawn, because no error over time is known.")
    sys.exit(STATUS[result.status])


def _drawn(result: Any, path: str) -> bool:
    """Draw the first layer that differs, if there is one of which something is known over time."""
    from xframe.diagnosis.plot import plot

    for part in getattr(result, "parts", (result,)):
        if part.where is not None and not (part.where.steps is None and part.where.local is None):
            plot(part, path)
            return True
    return False
