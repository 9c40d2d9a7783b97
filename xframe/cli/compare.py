"""``xframe compare``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from xframe.cli.options import (
    BATCH,
    STATUS,
    SUITES,
    check_output,
    deliver,
    listed,
    model_of,
    output_options,
    spec_options,
)
from xframe.spec import Sequential

if TYPE_CHECKING:
    from xframe.suite import Configuration

__all__ = ["compare"]


class _Frameworks(click.Option):
    """Its help names what is in the registry, which is looked into only when the help is shown."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from xframe.adapters import known_names, usual_adapters

        names = known_names()
        plain, variants = ([n for n in names if ("[" in n) is isolated] for isolated in (False, True))
        self.help = (
            f"Frameworks to compare: {', '.join(plain)}, and {', '.join(variants)}, each in a process of its own.  "
            f"[default: {','.join(usual_adapters())}; for the standard suite all that are installed]"
        )
        return super().get_help_record(ctx)


@click.command()
@spec_options
@click.option(
    "--steps", type=int, metavar="T", help="Time steps of the probe.  [default: 5, without CELL 3; more if needed]"
)
@click.option("--batch", type=int, default=BATCH, show_default=True, metavar="N", help="Sequences in the probe.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="Seed of weights, inputs and states.")
@click.option(
    "--dtype",
    default="float64,float32",
    show_default=True,
    metavar="LIST",
    help="Float types: float64 judges the function, float32, float16 and bfloat16 the numerics.",
)
@click.option("--frameworks", cls=_Frameworks, metavar="LIST")
@click.option("--isolate", is_flag=True, help="Run each framework in a process of its own.")
@click.option("--stateful", is_flag=True, help="States are kept from call to call; the batch size is that of --batch.")
@click.option(
    "--suite",
    type=click.Choice(SUITES),
    is_flag=False,
    flag_value=SUITES[0],
    help="A grid of configurations: standard (one row each; what --suite alone means), or full (all pairs of options).",
)
@output_options
def compare(
    cell: str | None,
    steps: int | None,
    batch: int,
    seed: int,
    dtype: str,
    frameworks: str | None,
    isolate: bool,
    stateful: bool,
    suite: str | None,
    format_: str,
    output: str | None,
    quiet: bool,
    **spec: Any,
) -> None:
    """Build the layer in each framework, count, explain, transfer, prove.

    Without CELL: the model SimpleRNN(10) on 3 time steps of 1 feature, then Dense(1). With CELL, --hidden and --features are
    needed. Each layer is built in every framework, loaded with the same random weights, moved to the next framework, and
    every output is judged against a NumPy reference in units of rounding noise. A framework that is named and does not have
    the layer is an error; without CELL, and in a suite, it is left out, and the report says why.

    \b
    Examples:
      xframe compare
      xframe compare lstm --hidden 64 --features 16 --layers 2 --bidirectional
      xframe compare --frameworks keras,torch,onnx,flax,equinox
      xframe compare gru --hidden 8 --features 3 --mask any --masked-output zero
      xframe compare --suite
    """
    if stateful and cell is None:
        raise click.UsageError("--stateful needs a CELL: rnn, lstm or gru.")
    spec["batch_size"] = batch if stateful else None
    if suite and (cell or any(spec.values())):
        raise click.UsageError("--suite brings its own layers; leave out CELL and its options.")
    if suite == "full" and (steps is not None or batch != BATCH):
        raise click.UsageError("--suite full brings its own batch sizes and steps; leave out --batch and --steps.")
    model = model_of(cell, spec)
    check_output(output)
    names = listed(frameworks) if frameworks is not None else None
    default_steps = 3 if isinstance(model, Sequential) and not suite else 5
    # A probe's products are small: threads gain nothing, and on a busy machine they wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Imported here, because explaining needs no NumPy.
    from xframe.chatter import silenced
    from xframe.comparison import compare_spec
    from xframe.probe import Probe
    from xframe.suite import run_suite

    probe = Probe(batch, default_steps if steps is None else steps, seed)
    result: Any
    with silenced():
        if suite:
            result = run_suite(probe, names, listed(dtype), _bar if not quiet else iter, suite, isolate)
        else:
            strict, longer = names is not None and cell is not None, steps is None
            result = compare_spec(model, names, listed(dtype), probe, strict=strict, longer=longer, isolate=isolate)
    deliver(result, format_, output, quiet)
    sys.exit(STATUS[result.status])


def _bar(specs: Sequence[Configuration]) -> Iterable[Configuration]:
    """A progress bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield from specs
        return
    with click.progressbar(specs, label="comparing", file=sys.stderr, item_show_func=lambda s: str(s or "")) as bar:
        yield from bar
