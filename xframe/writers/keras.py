"""To Keras 3: model.keras, saved by Keras itself, and a model.py that builds the same model layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from xframe.adapters.keras import KERAS, handed_over
from xframe.chain.base import Chain
from xframe.errors import MissingFrameworkError, UnsupportedError
from xframe.escaping import in_source
from xframe.packing import checked
from xframe.spec import Dense
from xframe.writers._keras_recurrent import Made, common, function, layer_text, recurrent_layers
from xframe.writers._source import assembled
from xframe.writers.base import (
    PARAMETERS,
    Part,
    Plan,
    Target,
    Written,
    arrays,
    module_of,
    number,
    packed,
    plan,
    recurrent,
    save,
)

__all__ = ["TARGET"]

_DOCUMENTATION = """A model in Keras 3, with its weights in model.keras beside this file.

    model = load("the folder of this file")
    y = model.predict(x)

Needs keras 3 and the backend that you have set. Where no class or function is defined below,
keras.saving.load_model("model.keras") gives the same model."""
# Activation functions that are a layer when they have parameters.
_LAYERS = {"relu": "ReLU", "leaky_relu": "LeakyReLU", "elu": "ELU"}


def write(chain: Chain, folder: Path) -> Written:
    """See `Target.write`. Keras builds the model by the model.py that was just written, and saves it.

    Raises:
        MissingFrameworkError: Keras 3 is not installed.
    """
    whole = plan(chain)
    made = [_LAYERS_OF[part.step.kind](part, whole) for part in whole.parts]
    source = save(folder / "model.py", assembled(_DOCUMENTATION, _body(whole, made), "keras_parts"))
    notes = tuple(f"{part.name}: {note}." for part, one in zip(whole.parts, made, strict=True) for note in one.notes)
    model = _built(folder)
    rest, fates = list(model.layers), dict[str, str]()
    for part, one in zip(whole.parts, made, strict=True):
        mine, rest = rest[: len(one.layers)], rest[len(one.layers) :]
        names = []
        for variable, array in one.fill(mine, whole.dtype) if one.fill else ():
            variable.assign(handed_over(checked(array, tuple(variable.shape), variable.path)))
            names.append(variable.path.removeprefix(f"{model.name}/"))
            del array  # freed before the next one is made
        fates.update(dict.fromkeys(part.step.sources, ", ".join(names)))
    model.save(folder / "model.keras")
    return Written((folder / "model.keras", source), notes, fates)


def _built(folder: Path) -> Any:
    """The model of a folder without its weights."""
    build = _module(folder)["build"]
    try:
        return build()
    except (TypeError, ValueError) as error:
        why = str(error).split("\n")[0].rstrip(".")
        raise UnsupportedError(f"Keras cannot build this model: {why}; convert it to torch.") from None


def opened(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """See `Target.opened`."""
    import keras

    model = _module(folder)["load"](folder)
    return lambda x: np.asarray(keras.ops.convert_to_numpy(model(x, training=False)))


TARGET = Target("keras", "Keras", write, opened)


def _module(folder: Path) -> dict[str, Any]:
    """What model.py defines; what it registers with Keras does not stay registered."""
    try:
        import keras
    except ImportError as error:
        raise MissingFrameworkError(
            f"Cannot write a Keras model: it needs Keras 3 ({error}); pip install 'xframe[keras]'."
        ) from None
    known = keras.saving.get_custom_objects()
    before = dict(known)
    try:
        return module_of(folder)
    finally:
        known.update(before)


def _body(whole: Plan, made: list[Made]) -> str:
    """The functions that build the model and load its weights."""
    lines = []
    for part, one in zip(whole.parts, made, strict=True):
        if part.name != part.step.name:
            lines.append(f"# {in_source(part.step.name)}")
        lines += [line for layer in one.layers for line in f"{layer},".split("\n")]
    return "\n".join(
        [
            "def build() -> keras.Sequential:",
            "    return keras.Sequential(",
            "        [",
            f"            {_input(whole)},",
            *(f"            {line}" for line in lines),
            "        ]",
            "    )",
            "",
            "",
            "def load(folder: str | Path = Path(__file__).parent) -> keras.Sequential:",
            '    """The model with its weights."""',
            "    model = build()",
            '    model.load_weights(Path(folder) / "model.keras")',
            "    return model",
        ]
    )


def _input(whole: Plan) -> str:
    sizes = {recurrent(p).batch_size for p in whole.parts if p.step.kind == "recurrent"} - {None}
    if len(sizes) > 1:
        raise UnsupportedError(f"Stateful layers of one model keep states for batches of {sizes}; use one batch size.")
    kind = "int32" if whole.whole_numbers else whole.dtype
    shape = whole.shapes[0]
    if sizes:
        return f'keras.Input(batch_shape={(sizes.pop(), *shape)}, dtype="{kind}")'
    return f'keras.Input(shape={shape}, dtype="{kind}")'


def _dense(part: Part, whole: Plan) -> Made:
    spec = part.step.spec
    assert isinstance(spec, Dense)

    def fill(built: list[Any], dtype: str) -> Iterator[tuple[Any, np.ndarray]]:
        for name, array in packed(KERAS, spec, part.step.params(), dtype):
            yield getattr(built[0], name.rsplit("/", 1)[-1]), array

    given = [str(spec.units), *([] if spec.bias else ["use_bias=False"])]
    return Made([layer_text(whole, part.name, "Dense", *given)], fill)


def _own(part: Part, whole: Plan, kind: str, *given: str, names: tuple[tuple[str, str], ...]) -> Made:
    """A layer with arrays of its own; ``names`` are Keras's and the kind's names for them."""

    def fill(built: list[Any], dtype: str) -> Iterator[tuple[Any, np.ndarray]]:
        found = arrays(part, dtype)
        for theirs, ours in names:
            yield getattr(built[0], theirs), found[ours]

    return Made([layer_text(whole, part.name, kind, *given)], fill)


def _embedding(part: Part, whole: Plan) -> Made:
    mask = ["mask_zero=True"] if part.makes_mask else []
    words, size = part.shapes["embeddings"]
    names = (("embeddings", "embeddings"),)
    return _own(part, whole, "Embedding", str(words), str(size), *mask, names=names)


def _activation(part: Part, whole: Plan) -> Made:
    options, name = part.step.options, str(part.step.options["name"])
    if len(options) == 1:
        return Made([layer_text(whole, part.name, "Activation", function(name))])
    given = [f"{one}={number(part, one)}" for one in PARAMETERS if options.get(one) is not None]
    if name in ("relu", "leaky_relu") and any(options[one] < 0 for one in PARAMETERS if options.get(one) is not None):
        raise UnsupportedError(
            f"Keras has no {_LAYERS[name]} with negative numbers, which the step {in_source(part.step.name)} has; convert it to "
            "torch."
        )
    return Made([layer_text(whole, part.name, _LAYERS[name], *given)])


def _layer_norm(part: Part, whole: Plan) -> Made:
    epsilon = f"epsilon={number(part, 'epsilon')}"
    return _own(part, whole, "LayerNormalization", epsilon, names=(("gamma", "gamma"), ("beta", "beta")))


def _batch_norm(part: Part, whole: Plan) -> Made:
    names = (("gamma", "gamma"), ("beta", "beta"), ("moving_mean", "mean"), ("moving_variance", "variance"))
    return _own(part, whole, "BatchNormalization", f"epsilon={number(part, 'epsilon')}", names=names)


def _conv1d(part: Part, whole: Plan) -> Made:
    size, _, filters = part.shapes["kernel"]
    options = part.step.options
    given = [str(filters), str(size)]
    for option, name in (("stride", "strides"), ("dilation", "dilation_rate"), ("groups", "groups")):
        if options[option] != 1:
            given.append(f"{name}={int(options[option])}")
    given += [f'padding="{one}"' for one in ("same", "causal") if options["padding"] == one]
    return _own(part, whole, "Conv1D", *given, names=(("kernel", "kernel"), ("bias", "bias")))


def _pool(part: Part, whole: Plan) -> Made:
    kind = "GlobalMaxPooling1D" if part.step.options["mode"] == "max" else "GlobalAveragePooling1D"
    return Made([layer_text(whole, part.name, kind, *(["keepdims=True"] if part.step.options["keepdims"] else []))])


def _last(part: Part, whole: Plan) -> Made:
    return Made([f"LastStep({', '.join(common(whole, part.name))})"])


def _plain(kind: str, option: str = "") -> Callable[[Part, Plan], Made]:
    """A layer without weights, of one option at most: a number, or some whole numbers."""

    def made(part: Part, whole: Plan) -> Made:
        value = part.step.options[option] if option else None
        several = isinstance(value, list | tuple)
        given = repr(tuple(int(one) for one in value)) if several else number(part, option) if option else ""  # type: ignore[union-attr]
        return Made([layer_text(whole, part.name, kind, *([given] if given else []))])

    return made


_LAYERS_OF: dict[str, Callable[[Part, Plan], Made]] = {
    "activation": _activation,
    "batch_norm": _batch_norm,
    "conv1d": _conv1d,
    "dense": _dense,
    "dropout": _plain("Dropout", "rate"),
    "embedding": _embedding,
    "flatten": _plain("Flatten"),
    "last": _last,
    "layer_norm": _layer_norm,
    "masking": _plain("Masking", "value"),
    "permute": _plain("Permute", "dims"),
    "pool": _pool,
    "recurrent": recurrent_layers,
    "repeat": _plain("RepeatVector", "times"),
    "reshape": _plain("Reshape", "shape"),
}
