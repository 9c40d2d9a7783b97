"""To Keras 3: model.keras, saved by Keras itself, and a model.py that builds the same model layer by layer."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xframe.adapters.keras import KERAS, handed_over
from xframe.errors import MissingFrameworkError, UnsupportedError
from xframe.escaping import in_source
from xframe.graph.graph import Graph, Input
from xframe.graph.keras._masks import MAKERS
from xframe.packing import checked
from xframe.spec import Dense
from xframe.writers._distributed import in_keras
from xframe.writers._keras_recurrent import Made, common, function, layer_text, recurrent_layers
from xframe.writers._source import assembled
from xframe.writers.base import (
    PARAMETERS,
    Part,
    Plan,
    Runner,
    Target,
    Written,
    arrays,
    identifier,
    module_of,
    number,
    packed,
    plans,
    recurrent,
    save,
)
from xframe.writers.kinds import FAMILIES

__all__ = ["TARGET"]

_DOCUMENTATION = """A model in Keras 3, with its weights in model.keras beside this file.

    model = load("the folder of this file")
    y = model.predict(x)

Needs keras 3 and the backend that you have set. Where no class or function is defined below,
keras.saving.load_model("model.keras") gives the same model."""
_DOCUMENTATION_OF_SEVERAL = """Models in Keras 3 that share their layers, with the weights in model.keras beside this file.

    models = load("the folder of this file")  # by name: {names}

Needs keras 3 and the backend that you have set."""
_BODY_OF_SEVERAL = '''
def build() -> dict[str, keras.Model]:
    """The models by name, which share their layers."""
{body}
    return models


def whole(models: dict[str, keras.Model]) -> keras.Model:
    """All models beside each other as one, which is what model.keras holds."""
    inputs = [one for model in models.values() for one in model.inputs]
    return keras.Model(inputs, [one for model in models.values() for one in model.outputs])


def load(folder: str | Path = Path(__file__).parent) -> dict[str, keras.Model]:
    """The models with their weights."""
    models = build()
    whole(models).load_weights(Path(folder) / "model.keras")
    return models
'''
# The names that Keras gives to the operations of which it makes masks, with a number behind.
_OPERATIONS = f"({'|'.join(re.sub(r'(?<=.)(?=[A-Z])', '_', kind).lower() for kind in MAKERS)})(_[0-9]+)?"
# Of a line in a function.
_LONGEST = 116
# Activation functions that are a layer when they have parameters.
_LAYERS = {"relu": "ReLU", "leaky_relu": "LeakyReLU", "elu": "ELU"}


def write(graphs: Mapping[str, Graph], folder: Path) -> dict[str, Written]:
    """See `Target.write`. Keras builds the model by the model.py that was just written, and saves it.

    Raises:
        MissingFrameworkError: Keras 3 is not installed.
    """
    avoided = _OPERATIONS if any(masked for graph in graphs.values() for masked in graph.masked.values()) else ""
    wholes = plans(graphs, template="keras_parts", avoided=avoided)
    made = {
        name: [in_keras(_LAYERS_OF[part.node.kind], part, whole) for part in whole.parts]
        for name, whole in wholes.items()
    }
    body = _several(wholes, made) if "" not in graphs else _alone(wholes[""], made[""])
    said = _DOCUMENTATION if "" in graphs else _DOCUMENTATION_OF_SEVERAL.format(names=", ".join(graphs))
    files = (folder / "model.keras", save(folder / "model.py", assembled(said, body, "keras_parts")))
    model = _built(folder)
    written, names = dict[str, Written](), dict[str, list[str]]()
    for entry, whole in wholes.items():
        own = list(zip(whole.parts, made[entry], strict=True))
        notes = tuple(f"{part.name}: {note}." for part, one in own if not part.again for note in one.notes)
        for part, one in own:
            if not part.again:
                names[part.name] = _filled(model, part, one, whole.dtype)
        fates = {source: ", ".join(names[part.name]) for part, _ in own for source in part.node.sources}
        written[entry] = Written(files, notes, fates)
    model.save(files[0])
    return written


def _filled(model: Any, part: Part, made: Made, dtype: str) -> list[str]:
    """Give the layers of a node their numbers; gives the names of what holds them."""
    # No name of a layer has two underscores, which part it from what numbers the layers of a stack.
    mine = [layer for layer in model.layers if layer.name.split("__")[0] == part.name]
    names = []
    for variable, array in made.fill(mine, dtype) if made.fill else ():
        variable.assign(handed_over(checked(array, tuple(variable.shape), variable.path)))
        names.append(variable.path.removeprefix(f"{model.name}/"))
        del array  # freed before the next one is made
    return names


def _built(folder: Path) -> Any:
    """The model of a folder without its weights; of several the one that has the layers of all."""
    module = _module(folder)
    try:
        found = module["build"]()
        return module["whole"](found) if isinstance(found, dict) else found
    except (TypeError, ValueError) as error:
        why = str(error).split("\n")[0].rstrip(".")
        raise UnsupportedError(f"Keras cannot build this model: {why}; convert it to torch.") from None


def opened(folder: Path, entry: str) -> Runner:
    """See `Target.opened`."""
    import keras

    model = _module(folder)["load"](folder)
    model = model[entry] if entry else model

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        found = model(arrays[0] if isinstance(model, keras.Sequential) else list(arrays), training=False)
        if isinstance(found, dict):
            found = [found[name] for name in model.output]
        return [np.asarray(keras.ops.convert_to_numpy(y)) for y in (found if isinstance(found, list) else [found])]

    return run


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


def _alone(whole: Plan, made: list[Made]) -> str:
    """The functions that build one model and load its weights."""
    if whole.graph.chain and not any(one.expression for one in made):
        return _sequential(whole, made)
    inputs = {variable: variable for variable in whole.arguments}
    return _functions(
        "keras.Model",
        [f"    {line}" for line in _functional(whole, made, inputs, "return {}", {}, whole.variables.values())],
    )


def _several(wholes: Mapping[str, Plan], made: Mapping[str, list[Made]]) -> str:
    """The functions that build models that share their layers, and load their weights."""
    lines = ["models: dict[str, keras.Model] = {}"]
    taken = {part.name for whole in wholes.values() for part in whole.parts}
    named: dict[tuple[str, int], str] = {}
    values = {variable for whole in wholes.values() for variable in whole.variables.values()}
    for entry, whole in wholes.items():
        # No two layers of all models have one name, and inputs are layers.
        inputs = {}
        for variable in whole.arguments:
            inputs[variable] = identifier(variable if variable not in taken else f"{entry}_{variable}", taken)
            taken.add(inputs[variable])
        lines += ["", *_functional(whole, made[entry], inputs, f'models["{entry}"] = {{}}', named, values)]
    body = "\n".join(f"    {line}" if line else "" for line in lines)
    return _BODY_OF_SEVERAL.format(body=body)


def _sequential(whole: Plan, made: list[Made]) -> str:
    """The functions that build a chain and load its weights."""
    lines = []
    for part, one in zip(whole.parts, made, strict=True):
        lines += _comment(part)
        lines += [line for layer in one.layers for line in f"{layer},".split("\n")]
    body = [
        "    return keras.Sequential(",
        "        [",
        f"            {_input(whole, whole.graph.inputs[0])},",
        *(f"            {line}" for line in lines),
        "        ]",
        "    )",
    ]
    return _functions("keras.Sequential", body)


def _functional(
    whole: Plan,
    made: list[Made],
    inputs: Mapping[str, str],
    end: str,
    named: dict[tuple[str, int], str],
    values: Collection[str],
) -> list[str]:
    """The lines that build any other graph.

    Args:
        whole, made: its nodes, and what becomes of each.
        inputs: by variable, what the inputs are called.
        end: what is done with the model, as source code, with {} in its place.
        named: the variables of layers that stand on a line of their own, to which those of this graph are added.
        values: the variables of all values, which no layer may have.
    """
    lines = [
        f"{variable} = {_input(whole, one, inputs[variable])}"
        for one, variable in zip(whole.graph.inputs, whole.arguments, strict=True)
    ]
    given_to_all = ", ".join(whole.arguments)
    if whole.graph.chain:  # its one variable means something else at the end
        lines.append(f"inputs = {given_to_all}")
        given_to_all = "inputs"
    shared = {part.name for part in whole.parts if len(part.calls) > 1}
    for part, one in zip(whole.parts, made, strict=True):
        if not part.again:
            lines += _comment(part)
        if one.expression:
            lines.append(f"{', '.join(part.made)} = {one.expression}")
        for k, layer in enumerate(one.layers):
            given = one.given[k] if one.given else ""
            read = f"[{', '.join(part.given)}]" if one.merges else one.reads or (part.x if k == 0 else part.y)
            results = [part.y, *(one.states[k] if one.states else [])]
            call = f"{', '.join(results)} = {layer}({read}{given})".split("\n")
            if part.name in shared or len(call[-1]) > _LONGEST:
                if (part.name, k) not in named:
                    taken = {*values, *named.values()}
                    named[part.name, k] = identifier(f"{part.name}_layer", taken)
                    lines += f"{named[part.name, k]} = {layer}".split("\n")
                call = [f"{', '.join(results)} = {named[part.name, k]}({read}{given})"]
            lines += call
    results, names = whole.results, [in_source(one.name) for one in whole.graph.outputs]
    outputs = {
        "one": results[0],
        "list": f"[{', '.join(results)}]",
        "dict": f"{{{', '.join(f'{name}: {value}' for name, value in zip(names, results, strict=True))}}}",
    }[whole.graph.form]
    return [*lines, end.format(f"keras.Model([{given_to_all}], {outputs})")]


def _functions(type_: str, body: list[str]) -> str:
    return "\n".join(
        [
            f"def build() -> {type_}:",
            *body,
            "",
            "",
            f"def load(folder: str | Path = Path(__file__).parent) -> {type_}:",
            '    """The model with its weights."""',
            "    model = build()",
            '    model.load_weights(Path(folder) / "model.keras")',
            "    return model",
        ]
    )


def _comment(part: Part) -> list[str]:
    """Which layer of the source this is, where its name had to be changed."""
    return [] if part.name == part.node.name else [f"# {in_source(part.node.name)}"]


def _input(whole: Plan, given: Input, name: str = "") -> str:
    sizes = {recurrent(p).batch_size for p in whole.parts if p.node.kind == "recurrent"} - {None}
    if len(sizes) > 1:
        raise UnsupportedError(f"Stateful layers of one model keep states for batches of {sizes}; use one batch size.")
    named = f', name="{name}"' if name else ""
    kind = whole.type_of(given, "int32")
    if sizes:
        return f'keras.Input(batch_shape={(sizes.pop(), *given.shape)}, dtype="{kind}"{named})'
    return f'keras.Input(shape={given.shape}, dtype="{kind}"{named})'


def _dense(part: Part, whole: Plan) -> Made:
    spec = part.node.spec
    assert isinstance(spec, Dense)

    def fill(built: list[Any], dtype: str) -> Iterator[tuple[Any, np.ndarray]]:
        for name, array in packed(KERAS, spec, part.node.params(), dtype):
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
    options, name = part.node.options, str(part.node.options["name"])
    if len(options) == 1:
        return Made([layer_text(whole, part.name, "Activation", function(name))])
    given = [f"{one}={number(part, one)}" for one in PARAMETERS if options.get(one) is not None]
    if name in ("relu", "leaky_relu") and any(options[one] < 0 for one in PARAMETERS if options.get(one) is not None):
        raise UnsupportedError(
            f"Keras has no {_LAYERS[name]} with negative numbers, which the layer {in_source(part.node.name)} has; convert it to "
            "torch."
        )
    return Made([layer_text(whole, part.name, _LAYERS[name], *given)])


def _conv1d(part: Part, whole: Plan) -> Made:
    size, _, filters = part.shapes["kernel"]
    options = part.node.options
    given = [str(filters), str(size)]
    for option, name in (("stride", "strides"), ("dilation", "dilation_rate"), ("groups", "groups")):
        if options[option] != 1:
            given.append(f"{name}={int(options[option])}")
    given += [f'padding="{one}"' for one in ("same", "causal") if options["padding"] == one]
    return _own(part, whole, "Conv1D", *given, names=(("kernel", "kernel"), ("bias", "bias")))


def _pool(part: Part, whole: Plan) -> Made:
    kind = "GlobalMaxPooling1D" if part.node.options["mode"] == "max" else "GlobalAveragePooling1D"
    return Made([layer_text(whole, part.name, kind, *(["keepdims=True"] if part.node.options["keepdims"] else []))])


def _last(part: Part, whole: Plan) -> Made:
    return Made([f"LastStep({', '.join(common(whole, part.name))})"])


def _plain(kind: str, option: str = "") -> Callable[[Part, Plan], Made]:
    """A layer without weights, of one option at most: a number, or some whole numbers."""

    def made(part: Part, whole: Plan) -> Made:
        value = part.node.options[option] if option else None
        several = isinstance(value, list | tuple)
        given = repr(tuple(int(one) for one in value)) if several else number(part, option) if option else ""  # type: ignore[union-attr]
        return Made([layer_text(whole, part.name, kind, *([given] if given else []))])

    return made


def _check_masks(part: Part) -> None:
    if part.mask_made and part.node.options.get("every") and len(set(part.masks)) > 1:
        raise UnsupportedError(
            f"Keras 3 makes another mask of those that come with several values than Keras 2, from which the layer "
            f"{in_source(part.node.name)} is, and a later layer uses it; convert it to torch."
        )


def _merge(part: Part, whole: Plan) -> Made:
    _check_masks(part)
    if part.node.options["operation"] in ("maximum", "minimum") and any(part.masks):
        raise UnsupportedError(
            f"Keras 3 takes the other value where a mask comes with one, and the layer {in_source(part.node.name)} does not; "
            "convert it to torch."
        )
    kind = str(part.node.options["operation"]).capitalize()
    return Made([layer_text(whole, part.name, kind)], merges=True)


def _concatenate(part: Part, whole: Plan) -> Made:
    _check_masks(part)
    axis = int(part.node.options["axis"])
    given = [] if axis == -1 else [f"axis={axis}"]
    return Made([layer_text(whole, part.name, "Concatenate", *given)], merges=True)


_LAYERS_OF: dict[str, Callable[[Part, Plan], Made]] = {
    "activation": _activation,
    "concatenate": _concatenate,
    "conv1d": _conv1d,
    "dense": _dense,
    "dropout": _plain("Dropout", "rate"),
    "embedding": _embedding,
    "flatten": _plain("Flatten"),
    "last": _last,
    "masking": _plain("Masking", "value"),
    "merge": _merge,
    "permute": _plain("Permute", "dims"),
    "pool": _pool,
    "recurrent": recurrent_layers,
    "repeat": _plain("RepeatVector", "times"),
    "reshape": _plain("Reshape", "shape"),
    **{kind: write for family in FAMILIES for kind, write in family.KERAS.items()},
}
