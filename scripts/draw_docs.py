"""Draw the pictures of the documentation: what xframe itself draws, of layers that the pages speak of.

    python scripts/draw_docs.py [FOLDER]

Without FOLDER they are written to docs/pictures.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import matplotlib as mpl
import torch

from xframe import Recurrent, compare, diagnose, transfer
from xframe.diagnosis import Diagnosis
from xframe.diagnosis.plot import plot
from xframe.report import figures
from xframe.report.drawings import error_svg, layer_svg, standalone

ROOT = Path(__file__).resolve().parent.parent

# Of layers, to scale: nothing in these depends on the machine.
TENSORS: dict[str, Callable[[], str]] = {
    "rnn-tensors.svg": partial(layer_svg, Recurrent("rnn", 1, 10), ("keras", "torch")),
    "lstm-tensors.svg": partial(layer_svg, Recurrent("lstm", 10, 20), ("keras", "torch", "onnx", "tf1")),
    "gru-tensors.svg": partial(layer_svg, Recurrent("gru", 10, 20), ("keras", "torch")),
}


def error_over_time() -> str:
    """A layer in Keras and PyTorch, below what is allowed."""
    return error_svg(compare(Recurrent("lstm", 4, 12), steps=40))


def chaotic_over_time() -> str:
    """The same of a layer in which rounding errors grow, in float64."""
    torch.manual_seed(0)
    ours = torch.nn.RNN(4, 40, batch_first=True)
    with torch.no_grad():
        ours.weight_hh_l0.normal_(std=3 / 40**0.5)
    theirs = keras.layers.SimpleRNN(40, return_sequences=True)
    theirs.build((None, None, 4))
    transfer(ours, theirs)
    verdict = compare(ours, theirs, steps=60)
    drawing = figures.over_time(verdict.checks, verdict.limit)
    assert drawing is not None
    return standalone(replace(drawing, charts=drawing.charts[:1]))


def departure() -> Diagnosis:
    """Two layers of which the second has not got the 1 that TensorFlow 1 adds to the forget gate."""
    torch.manual_seed(0)
    right, wrong = (torch.nn.LSTM(4, 12, batch_first=True) for _ in range(2))
    wrong.load_state_dict(right.state_dict())
    with torch.no_grad():
        wrong.bias_ih_l0[12:24] -= 1  # i f g o
    found = diagnose(right, wrong, steps=24)
    assert isinstance(found, Diagnosis)
    return found


MEASURED: dict[str, Callable[[], str]] = {
    "error-over-time.svg": error_over_time,
    "chaotic-over-time.svg": chaotic_over_time,
}
PLOT = "plot.svg"


def draw(folder: Path) -> Iterator[Path]:
    """Write every picture."""
    for name, drawn in {**TENSORS, **MEASURED}.items():
        target = folder / name
        target.write_text(drawn(), encoding="utf-8")
        yield target
    # Text that stays text, and no date: a picture that is drawn again is the same.
    os.environ.setdefault("SOURCE_DATE_EPOCH", "0")
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "xframe"}):
        plot(departure(), folder / PLOT)
    yield folder / PLOT


if __name__ == "__main__":
    for written in draw(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "docs" / "pictures"):
        print(written)
