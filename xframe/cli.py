"""The command line. Exit status: 0 equivalent or done, 1 not equivalent, 2 could not compare."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from xframe import __version__
from xframe.errors import FileError, SpecError, XframeError
from xframe.report import FORMATS, printable, render
from xframe.spec import Dense, Recurrent, Sequential

if TYPE_CHECKING:
    from xframe.suite import Configuration

__all__ = ["main"]

# Kept here, because the module that has them needs NumPy.
SUITES = ("standard", "full")
_BATCH = 2
_STATUS = {"equivalent": 0, "done": 0, "different": 1, "inconclusive": 2, "error": 2}

F = TypeVar("F", bound=Callable[..., Any])


def _options(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, shown in this order by --help."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


_spec_options = _options(
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

_output_options = _options(
    click.option(
        "--format", "format_", type=click.Choice(FORMATS), default="text", show_default=True, help="Report format."
    ),
    click.option(
        "--output", metavar="FILE", help="Write the report to FILE (whole or not at all), not to standard output."
    ),
    click.option("--quiet", is_flag=True, help="No report on standard output and no progress bar."),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="xframe")
def cli() -> None:
    """The same recurrent layer in two frameworks: counted, explained, moved and proven.

    CELL is rnn, lstm or gru. Exit status: 0 equivalent or done, 1 not equivalent, 2 could not compare.
    """


@cli.command()
@_spec_options
@click.option("--steps", type=int, metavar="T", help="Time steps of the probe.  [default: 5, without CELL 3]")
@click.option("--batch", type=int, default=_BATCH, show_default=True, metavar="N", help="Sequences in the probe.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="Seed of weights, inputs and states.")
@click.option(
    "--dtype",
    default="float64,float32",
    show_default=True,
    metavar="LIST",
    help="Float types: float64 judges the function, float32, float16 and bfloat16 the numerics.",
)
@click.option("--frameworks", metavar="LIST", help="Frameworks to compare.  [default: keras,torch]")
@click.option("--stateful", is_flag=True, help="States are kept from call to call; the batch size is that of --batch.")
@click.option(
    "--suite",
    type=click.Choice(SUITES),
    is_flag=False,
    flag_value=SUITES[0],
    help="A grid of configurations: standard (one row each; what --suite alone means), or full (all pairs of options).",
)
@_output_options
def compare(
    cell: str | None,
    steps: int | None,
    batch: int,
    seed: int,
    dtype: str,
    frameworks: str | None,
    stateful: bool,
    suite: str | None,
    format_: str,
    output: str | None,
    quiet: bool,
    **spec: Any,
) -> None:
    """Build the layer in each framework, count, explain, transfer, prove.

    Without CELL: the model SimpleRNN(10) on 3 time steps of 1 feature, then Dense(1). With CELL, --hidden and --features are
    needed. Each layer is built in every framework, loaded with the same random weights, moved to every other framework,
    and every output is judged against a NumPy reference in units of rounding noise.

    \b
    Examples:
      xframe compare
      xframe compare lstm --hidden 64 --features 16 --layers 2 --bidirectional
      xframe compare gru --hidden 8 --features 3 --mask any --masked-output zero
      xframe compare --suite
    """
    if stateful and cell is None:
        raise click.UsageError("--stateful needs a CELL: rnn, lstm or gru.")
    spec["batch_size"] = batch if stateful else None
    if suite and (cell or any(spec.values())):
        raise click.UsageError("--suite brings its own layers; leave out CELL and its options.")
    if suite == "full" and (steps is not None or batch != _BATCH):
        raise click.UsageError("--suite full brings its own batch sizes and steps; leave out --batch and --steps.")
    model = _model(cell, spec)
    check_output(output)
    names = _list(frameworks) if frameworks is not None else None
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
            result = run_suite(probe, names, _list(dtype), _bar if not quiet else iter, suite)
        else:
            result = compare_spec(model, names, _list(dtype), probe, strict=names is not None)
    _deliver(result, format_, output, quiet)
    sys.exit(_STATUS[result.status])


@cli.command()
@_spec_options
@click.option("--number", type=int, metavar="K", help="Which framework and which assumption gives K parameters.")
@click.option(
    "--steps", type=int, metavar="T", help="With --number: time steps, if they may have been taken for features."
)
@click.option(
    "--demonstrate", is_flag=True, help="Move a constant from one bias to the other and show what the outputs do."
)
@_output_options
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
    model = _model(cell, spec)
    check_output(output)
    if number is not None:
        if not isinstance(model, Recurrent):
            raise click.UsageError("--number needs a CELL: xframe explain lstm --hidden 9 --features 1 --number 396.")
        _deliver(_search(model, number, steps), format_, output, quiet)
    elif demonstrate:
        _deliver(_demonstrations(model), format_, output, quiet)
    else:
        from xframe.explanation import explain as explain_model

        _deliver(explain_model(model), format_, output, quiet)


_choice_options = _options(
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


@cli.command()
@click.argument("file")
@_choice_options
@_output_options
def inspect(file: str, format_: str, output: str | None, quiet: bool, **choices: Any) -> None:
    """List the layers of a model file, without running anything in it.

    FILE is Keras HDF5 (of Keras 1 to 3), .weights.h5, .keras, ONNX, safetensors, .npz, PyTorch's .pt or .pth, a TensorFlow
    SavedModel or checkpoint. No tensor is loaded. What the file does not decide is listed with what speaks for each reading,
    and settled by an option.

    \b
    Examples:
      xframe inspect model.h5
      xframe inspect weights.npz --packing torch
    """
    check_output(output)
    from xframe.chatter import silenced

    with silenced():
        found = _inspected(file, choices)
    _deliver(found, format_, output, quiet)


def _inspected(file: str, choices: dict[str, Any]) -> Any:
    from xframe.files import load
    from xframe.recognition import Choices, recognise

    return recognise(load(file), Choices(**choices))


@cli.command()
@click.argument("a")
@click.argument("b")
@click.option("--subset", is_flag=True, help="B may hold more layers and tensors than A.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="Seed of the inputs.")
@_choice_options
@_output_options
def verify(
    a: str,
    b: str,
    subset: bool,
    seed: int,
    format_: str,
    output: str | None,
    quiet: bool,
    **choices: Any,
) -> None:
    """Compare two model files layer by layer.

    Layers are paired by name, order and shape. Their parameters must be equal but for rounding, however the frameworks pack
    them, and so must what the NumPy reference makes of them. Tensors of other layers must hold the same numbers.

    \b
    Examples:
      xframe verify model.h5 model.pth
      xframe verify part.onnx model.h5 --subset
    """
    check_output(output)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from xframe.chatter import silenced
    from xframe.recognition import Choices
    from xframe.verification import verify as verify_files

    with silenced():
        result = verify_files(a, b, subset=subset, choices=Choices(**choices), seed=seed)
    _deliver(result, format_, output, quiet)
    sys.exit(_STATUS[result.status])


@cli.command()
@click.argument("source")
@click.argument("destination")
@click.option("--to", required=True, metavar="T", help="torch, keras, onnx or npz.")
@click.option("--force", is_flag=True, help="Replace DESTINATION if it exists.")
@click.option("--layers-only", is_flag=True, help="Recurrent and dense layers one by one; leave the rest.")
@click.option("--right-padded", is_flag=True, help="Masked steps are padding after the end only, as ONNX needs it.")
@click.option("--ignore", multiple=True, metavar="TENSOR", help="Leave out this tensor, which nothing explains.")
@_choice_options
@_output_options
def convert(
    source: str,
    destination: str,
    to: str,
    force: bool,
    layers_only: bool,
    right_padded: bool,
    ignore: tuple[str, ...],
    format_: str,
    output: str | None,
    quiet: bool,
    **choices: Any,
) -> None:
    """Convert a model file for another framework, and prove that it computes the same.

    DESTINATION becomes a folder with the weights, a short model.py that builds the model and loads them without xframe, and
    the proof (proof.json, proof.md). What was written is run and judged against a NumPy reference with the source's numbers;
    if it is not the same, nothing is written. A whole-model file of Keras that is a chain of layers is converted whole; of
    any other file the recurrent and dense layers are, one by one, with status 2 unless --layers-only.

    \b
    Examples:
      xframe convert model.keras converted --to torch
      xframe convert weights.h5 converted --to onnx --recurrent-activation sigmoid --layers-only
    """
    check_output(output)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from xframe.chatter import silenced
    from xframe.conversion import convert_file
    from xframe.recognition import Choices

    with silenced():
        result = convert_file(
            source,
            destination,
            to,
            choices=Choices(**choices),
            force=force,
            layers_only=layers_only,
            right_padded=right_padded,
            ignore=ignore,
        )
    _deliver(result, format_, output, quiet)
    sys.exit(_STATUS["error"] if result and result.not_converted and not layers_only else _STATUS[result.status])


def _search(spec: Recurrent, number: int, steps: int | None) -> Any:
    from xframe.assumptions import search

    return search(spec, number, steps)


def _demonstrations(model: Recurrent | Sequential) -> Any:
    from xframe.demonstration import demonstrate
    from xframe.probe import Probe

    if isinstance(model, Recurrent):
        return demonstrate(model, Probe())
    return [demonstrate(Recurrent(cell, 1, 10), Probe()) for cell in ("rnn", "gru")]


def _model(cell: str | None, given: dict[str, Any]) -> Recurrent | Sequential:
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


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _bar(specs: Sequence[Configuration]) -> Iterable[Configuration]:
    """A progress bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield from specs
        return
    with click.progressbar(specs, label="comparing", file=sys.stderr, item_show_func=lambda s: str(s or "")) as bar:
        yield from bar


def _deliver(result: Any, format_: str, output: str | None, quiet: bool) -> None:
    """Print the report, or write it to a file."""
    if output is not None:
        write_output(output, render(result, format_))
    elif not quiet:
        click.echo(render(result, format_), nl=False)


def check_output(path: str | None) -> None:
    """Refuse at once a file that could not be written in the end."""
    if path is None:
        return
    folder = Path(path).absolute().parent
    if Path(path).is_dir():
        raise FileError(f"Cannot write {path}: it is a folder; name a file.")
    if not folder.is_dir():
        raise FileError(f"Cannot write {path}: the folder {folder} does not exist; make it first.")
    if not os.access(folder, os.W_OK) or (Path(path).exists() and not os.access(path, os.W_OK)):
        raise FileError(f"Cannot write {path}: no permission; choose another place.")


def write_output(path: str, text: str) -> None:
    """Write a file whole or not at all."""
    import tempfile  # not needed, and slow, where the report is printed

    target = Path(path)
    temporary: Path | None = None
    try:
        if target.exists() and not target.is_file():  # a pipe or a device cannot be replaced
            target.write_text(text, encoding="utf-8")
            return
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=target.absolute().parent, prefix=".xframe-", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(text)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        with suppress(OSError):
            if temporary:
                temporary.unlink()
        raise FileError(f"Cannot write {path}: {error.strerror}; choose another place.") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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
    sys.exit(_STATUS["error"])
