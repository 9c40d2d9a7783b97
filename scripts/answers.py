"""What each command answers for each kind of pair: the table of docs/reference/answers.md, made by asking them.

One small model, a GRU and a Dense behind it, is there in every form that people have; so is the same with one wrong weight, and
the same with a tanh too many in the forward, which no weight tells. Each cell is a status and, of what has one, the scope in
which it was judged.

    python scripts/answers.py
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import contextlib
import tempfile
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch
from tabulate import tabulate

import xframe
from xframe.conversion import convert_file
from xframe.errors import SpecError, XframeError

FEATURES, UNITS, OUT = 4, 5, 3


def keras_model(activation: str | None = None) -> Any:
    layers = keras.layers
    steps = [keras.Input((None, FEATURES)), layers.GRU(UNITS), layers.Dense(OUT), layers.Activation(activation)]
    model = keras.Sequential(steps if activation else steps[:-1])
    drawn = np.random.default_rng(0)
    model.set_weights([drawn.uniform(0.2, 0.7, w.shape) * drawn.choice([-1, 1], w.shape) for w in model.get_weights()])
    return model


class Port(torch.nn.Module):
    """The same by hand."""

    def __init__(self, tanh: bool = False) -> None:
        super().__init__()
        self.gru, self.dense = torch.nn.GRU(FEATURES, UNITS, batch_first=True), torch.nn.Linear(UNITS, OUT)
        source = keras_model()
        xframe.transfer(source.layers[0], self.gru)
        xframe.transfer(source.layers[1], self.dense)
        self.tanh = tanh

    def forward(self, x: Any) -> Any:
        y = self.dense(self.gru(x)[1][-1])
        return y.tanh() if self.tanh else y


def one_wrong(model: Any) -> Any:
    """One weight of the GRU is off by a little."""
    if isinstance(model, torch.nn.Module):
        with torch.no_grad():
            next(p for n, p in model.named_parameters() if n.endswith("weight_hh_l0"))[1, 2] += 1e-3
        return model
    weights = model.get_weights()
    weights[1][2, UNITS + 1] += 1e-3
    model.set_weights(weights)
    return model


def in_keras(folder: Path, name: str, model: Any, weights: bool = False) -> Path:
    path = folder / f"{name}{'.weights.h5' if weights else '.keras'}"
    (model.save_weights if weights else model.save)(path)
    return path


def state_dict(folder: Path, name: str, model: Any) -> Path:
    torch.save(model.state_dict(), folder / f"{name}.pt")
    return folder / f"{name}.pt"


def in_onnx(folder: Path, name: str, model: Any) -> Path:
    path = folder / f"{name}.onnx"
    example, axes = (torch.zeros(2, 5, FEATURES),), {"x": {0: "batch", 1: "time"}}
    torch.onnx.export(model.eval(), example, path, input_names=["x"], dynamic_axes=axes, dynamo=False)
    return path


def pairs(folder: Path) -> dict[str, tuple[Any, Any, Any, Any]]:
    """By kind of pair: a side, the same on the other side, that with a wrong weight, and that with a tanh too many."""
    ours, wrong, slipped = Port(), one_wrong(Port()), Port(tanh=True)
    model = keras_model()
    whole = in_keras(folder, "model", model)
    alone = model.layers[0]
    return {
        "two layers": (alone, ours.gru, wrong.gru, None),
        "two files of weights": (
            in_keras(folder, "only", model, weights=True),
            state_dict(folder, "port", ours),
            state_dict(folder, "wrong", wrong),
            state_dict(folder, "slipped", slipped),
        ),
        "a model file and a file of weights": (whole, folder / "port.pt", folder / "wrong.pt", folder / "slipped.pt"),
        "two model files": (
            whole,
            in_keras(folder, "again", keras_model()),
            in_keras(folder, "wrong", one_wrong(keras_model())),
            in_keras(folder, "slipped", keras_model("tanh")),
        ),
        "a model file and an ONNX file": (
            whole,
            in_onnx(folder, "port", ours),
            in_onnx(folder, "wrong", wrong),
            in_onnx(folder, "slipped", slipped),
        ),
        "a model file and a module with a forward": (whole, ours, wrong, slipped),
        "two live models": (model, keras_model(), one_wrong(keras_model()), keras_model("tanh")),
        "a live model and a module with a forward": (model, ours, wrong, slipped),
        "two modules with a forward": (Port(), ours, wrong, slipped),
        "two holders of layers": (
            torch.nn.ModuleDict(dict(Port().named_children())),
            torch.nn.ModuleDict(dict(ours.named_children())),
            torch.nn.ModuleDict(dict(wrong.named_children())),
            None,
        ),
        "two torch.nn.Sequential": of_sequentials(),
    }


def of_sequentials() -> tuple[Any, Any, Any, Any]:
    """The same of PyTorch's own models, which hold no recurrent layer."""

    def made(*more: Any) -> Any:
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(FEATURES, UNITS), torch.nn.Linear(UNITS, OUT), *more)

    wrong = made()
    with torch.no_grad():
        wrong[0].weight[1, 2] += 1e-3
    return made(), made(), wrong, made(torch.nn.Tanh())


def answered(ask: Callable[..., Any], *given: Any) -> str:
    """The status that a command answers with, and its scope."""
    try:
        result = ask(*given)
    except XframeError:
        return "refused"
    except AssertionError as error:
        return str(error).partition(".")[0]
    scope = getattr(result, "scope", "")
    return f"{result.status}{f', {scope}' if scope else ''}"


def recorded_and_checked(one: Any, other: Any) -> Any:
    """A baseline of the one layer, and the other layer against it."""
    if isinstance(one, Path) or isinstance(other, Path):
        raise SpecError("A baseline is held against a layer.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "baseline.npz"
        xframe.record(one, path)
        return xframe.check(path, layer=other)


def main() -> None:
    asked: dict[str, Callable[..., Any]] = {
        "xframe verify": xframe.verify,
        "xframe diagnose": xframe.diagnose,
        "assert_equivalent": xframe.assert_equivalent,
        "xframe.compare": xframe.compare,
        "xframe check": recorded_and_checked,
    }
    rows = []
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stderr(StringIO()):
        folder = Path(place)
        for kind, (one, *others) in pairs(folder).items():
            for what, other in zip(("the same", "a wrong weight", "a tanh too many"), others, strict=True):
                if other is not None:
                    rows.append([kind, what, *(answered(ask, one, other) for ask in asked.values())])
        print(tabulate(rows, ["pair", "the second is", *asked], tablefmt="github"))
        files = {"a model file": "model.keras", "a file of weights": "port.pt", "an ONNX file": "port.onnx"}
        converted = [
            [
                kind,
                answered(convert_file, folder / name, folder / f"to {name}", "torch"),
                answered(layers_only, folder, name),
            ]
            for kind, name in files.items()
        ]
        print()
        print(tabulate(converted, ["xframe convert", "to torch", "to torch, --layers-only"], tablefmt="github"))


def layers_only(folder: Path, name: str) -> Any:
    return convert_file(folder / name, folder / f"layers of {name}", "torch", layers_only=True)


if __name__ == "__main__":
    main()
