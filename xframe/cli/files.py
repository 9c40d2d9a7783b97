"""``xframe inspect``, ``verify`` and ``convert``: what is done with model files."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from xframe.cli.options import STATUS, bounded, check_output, choice_options, deliver, output_options, warn
from xframe.errors import SpecError

__all__ = ["convert", "inspect", "verify"]


@click.command()
@click.argument("file")
@choice_options
@output_options
@bounded
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
    check_output(output, file)
    from xframe.chatter import silenced

    with silenced():
        found = _inspected(file, choices)
    deliver(found, format_, output, quiet)


def _inspected(file: str, choices: dict[str, Any]) -> Any:
    from xframe.files import load
    from xframe.recognition import Choices, recognise

    return recognise(load(file), Choices(**choices))


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--subset", is_flag=True, help="B may hold more layers and tensors than A.")
@click.option(
    "--scope", metavar="S", help="Judge weights, layers or the whole model.  [default: the most of what both sides are]"
)
@click.option("--right-padded", is_flag=True, help="Masked steps are padding after the end only.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="Seed of the inputs.")
@choice_options
@output_options
@bounded
def verify(
    a: str,
    b: str,
    subset: bool,
    scope: str | None,
    right_padded: bool,
    seed: int,
    format_: str,
    output: str | None,
    quiet: bool,
    **choices: Any,
) -> None:
    """Compare two model files: their weights, their layers, and the whole models where both files say what runs.

    Layers are paired by name, order and shape. Their parameters must be equal but for rounding, however the frameworks pack
    them, and so must what the NumPy reference makes of them. Tensors of other layers must hold the same numbers. A whole model of
    Keras whose layers are all modelled is run in NumPy, an ONNX file in ONNX Runtime, within bounds of time and memory.

    The verdict has a scope. Where one file holds weights only it is weights: nothing more can be judged. Where both files are
    whole models it is model, and they are equivalent only if both were run; where that cannot be done, the status is 2, and
    --scope layers or --scope weights asks for less.

    \b
    Examples:
      xframe verify model.h5 model.pth
      xframe verify model.keras model.onnx
      xframe verify part.onnx model.h5 --subset
    """
    check_output(output, a, b)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from xframe.chatter import silenced
    from xframe.recognition import Choices
    from xframe.verification import verify as verify_files

    with silenced():
        result = verify_files(
            a, b, subset=subset, scope=scope, right_padded=right_padded, choices=Choices(**choices), seed=seed
        )
    deliver(result, format_, output, quiet)
    sys.exit(STATUS[result.status])


@click.command()
@click.argument("sources", nargs=-1, metavar="SOURCE...")
@click.argument("destination")
@click.option("--to", required=True, metavar="T", help="torch, keras, onnx or npz.")
@click.option("--force", is_flag=True, help="Replace DESTINATION, if xframe made it and nothing else is in it.")
@click.option("--layers-only", is_flag=True, help="Recurrent and dense layers one by one; leave the rest.")
@click.option("--right-padded", is_flag=True, help="Masked steps are padding after the end only, as ONNX needs it.")
@click.option(
    "--ignore", multiple=True, metavar="TENSOR", help="Leave out what nothing explains: a name, or like head.*."
)
@choice_options
@output_options
@bounded
def convert(
    sources: tuple[str, ...],
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
    if it is not the same, nothing is written. A whole-model file of Keras is converted whole if its layers are all modelled; of
    any other file the recurrent and dense layers are, one by one: that is partial, with status 2 and all that stands in the
    way, unless --layers-only asks for no more.

    SOURCE is one file, or several as NAME=FILE: whole models that share layers, such as one that is trained and the encoder and
    decoder that are used alone. They become one folder with the weights once and a method, function or file for each NAME;
    the method of the one named model, or else of the first, is forward. Layers of one name must be the same layer.

    \b
    Examples:
      xframe convert model.keras converted --to torch
      xframe convert model=seq2seq.keras encoder=enc.keras decoder=dec.keras converted --to torch
      xframe convert weights.h5 converted --to onnx --recurrent-activation sigmoid --layers-only
    """
    if not sources:  # What stands alone is the file, and what was forgotten is the folder.
        raise SpecError(f"Only {destination} was given; give the SOURCE and then the DESTINATION, a folder to make.")
    source = _source(sources)
    check_output(output, *([source] if isinstance(source, str) else source.values()))
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
    deliver(result, format_, output, quiet)
    if result.status == "partial":
        warn(result.reason[0].lower() + result.reason[1:])
    sys.exit(STATUS[result.status])


def _source(given: Sequence[str]) -> str | dict[str, str]:
    """One file, or several by their names.

    Raises:
        SpecError: of several one has no name, or the name of another.
    """
    if len(given) == 1 and ("=" not in given[0] or Path(given[0]).exists()):
        return given[0]
    found = dict[str, str]()
    for one in given:
        name, _, file = one.partition("=")
        if not name or not file:
            raise SpecError(
                f"{one!r} is one of several sources and has no name; give it as NAME=FILE, such as encoder={one}."
            )
        if name in found:
            raise SpecError(f"Two sources are named {name!r}; give each NAME=FILE a name of its own.")
        found[name] = file
    return found
