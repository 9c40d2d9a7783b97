"""From a live model or layer to a graph, without saving it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xframe.adapters import adapter_of
from xframe.adapters.base import Adapter
from xframe.errors import ObstaclesError, SpecError, UnsupportedError
from xframe.files.base import ModelFile, StoredLayer, StoredTensor
from xframe.graph.graph import Graph, chained
from xframe.graph.keras import graph_of
from xframe.graph.node import Node
from xframe.recognition import recognise
from xframe.spec import Recurrent

if TYPE_CHECKING:
    import numpy as np

    from xframe.graph.running import Arrays

__all__ = ["graph_of_model", "run_model"]

_SEQUENTIAL = ("torch.nn.modules.container", "Sequential")


def graph_of_model(model: Any) -> Graph:
    """The graph that a model or a layer is; its arrays are read when they are asked for.

    Args:
        model: a Keras 3 model or layer; a torch.nn.Sequential; or one recurrent or dense layer of any framework, which hands
            on its whole sequence.

    Raises:
        UnsupportedError: a layer or an option of one is not modelled; the sentence names all that stands in
            the way.
        SpecError: a layer is not built yet.
    """
    adapter = adapter_of(model)
    if adapter.name == "keras" and hasattr(model, "get_config") and not isinstance(model, list | tuple):
        return _keras(model)
    if (type(model).__module__, type(model).__name__) == _SEQUENTIAL:
        from xframe.graph.torch import graph_of_sequential  # which needs the framework

        return graph_of_sequential(adapter, model)
    return _single(adapter, model)


def run_model(model: Any, given: Arrays) -> list[np.ndarray]:
    """What a model or layer that `graph_of_model` understands puts out itself, at inference, in the order of its graph.

    Args:
        model: see `graph_of_model`; not a stateful one, whose states would change.
        given: (batch, ...) for each input in the order of the graph, of the model's type, or whole numbers.
    """
    adapter, arrays = adapter_of(model), list(given.values())
    if adapter.name == "keras" and hasattr(model, "get_config") and not isinstance(model, list | tuple):
        import keras

        tensors = [keras.ops.convert_to_tensor(x) for x in arrays]
        found = model(*_as_taken(keras, model, tensors), training=False)
        return [keras.ops.convert_to_numpy(y) for y in keras.tree.flatten(found)]
    if (type(model).__module__, type(model).__name__) == _SEQUENTIAL:
        from xframe.graph.torch import run_sequential

        return [run_sequential(model, arrays[0])]
    return [adapter.run(model, arrays[0]).sequence]


def _as_taken(keras: Any, model: Any, tensors: list[Any]) -> list[Any]:
    """Tensors as a Keras model takes its inputs: one, a list of them, by name, or one argument for each."""
    if _is_subclassed(keras, model):
        found: list[Any] = keras.tree.pack_sequence_as(_starts(keras, model, free=True), tensors)
        return found
    if len(tensors) == 1 and not isinstance(getattr(model, "input", None), list | tuple | dict):
        return tensors
    return [keras.tree.pack_sequence_as(model.input, tensors)]


def _is_subclassed(keras: Any, model: Any) -> bool:
    """Whether it is a model whose call is code of its author's, and that has no configuration of its layers."""
    known = isinstance(model, keras.Sequential) or hasattr(model, "operations")
    return isinstance(model, keras.Model) and not known


def _starts(keras: Any, model: Any, free: bool) -> list[Any]:
    """Symbolic inputs for each argument of the call of a subclassed model, of the shapes with which it was called first.

    Args:
        keras: the package.
        model: the model.
        free: whether the batch and what stands between it and the last axis may be of any length, or the batch alone. Of an
            input of one axis behind the batch, which may be words, that one is free.
    """
    shapes = model.get_build_config()
    if not model.built or not isinstance(shapes, Mapping):
        raise SpecError(f"The Keras model {model.name!r} has no weights yet; call the model on data first.")
    given = (
        [shapes["input_shape"]] if set(shapes) == {"input_shape"} else list(shapes.get("shapes_dict", shapes).values())
    )

    def start(shape: Any) -> Any:
        if isinstance(shape, Mapping):
            return {name: start(each) for name, each in shape.items()}
        if not all(axis is None or isinstance(axis, int) for axis in shape):
            return [start(each) for each in shape]
        axes = list(shape[1:])
        if free and axes:
            axes = [None] * max(len(axes) - 1, 1) + axes[max(len(axes) - 1, 1) :]
        return keras.Input(tuple(axes))

    return [start(shape) for shape in given]


def _followed(keras: Any, model: Any) -> Any:
    """A functional model of the same layers, by what the call of a subclassed one makes of symbolic inputs.

    Raises:
        UnsupportedError: its call does not work on these; the sentence says why.
    """
    why = ""
    for free in (True, False):
        starts = _starts(keras, model, free)
        try:
            return keras.Model(starts, model.call(*starts), name=model.name)
        except Exception as error:  # what its author's code, or Keras on the way, raises, whatever that is
            why = why or (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".")
    raise UnsupportedError(
        f"The Keras model {model.name!r} ({type(model).__name__}) is code of its author's own, which does not work on symbolic "
        f"inputs ({why}); write its call with layers and keras.ops alone, each layer of a name of its own."
    )


def _single(adapter: Adapter, layer: Any) -> Graph:
    if adapter.is_model(layer) and [name for name, _ in adapter.layers(layer)] != [""]:
        raise UnsupportedError(f"{type(layer).__name__} is code of its author's own, which is not read yet.")
    spec = adapter.spec(layer)
    if isinstance(spec, Recurrent):
        if spec.form == "cell":
            raise UnsupportedError("A bare cell computes one time step and is no model; give it a layer that runs it.")
        options = {"sequence": True}
        node = Node("layer", "recurrent", options, spec, lambda: adapter.parameters(layer), dtype=adapter.dtype(layer))
        return chained([node], (None, spec.input_size))
    node = Node("layer", "dense", {}, spec, lambda: adapter.parameters(layer), dtype=adapter.dtype(layer))
    return chained([node], (spec.input_size,))


def _keras(model: Any) -> Graph:
    """A Keras model by the configuration and the tensors that a file of it would have."""
    import keras

    if _is_subclassed(keras, model):
        return _keras(_followed(keras, model))
    try:
        config = keras.saving.serialize_keras_object(model)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise UnsupportedError(
            f"The Keras model {model.name!r} gives no configuration ({error}); add get_config."
        ) from None
    if not isinstance(model, keras.Model):
        # A layer alone is a model of one layer.
        config = {"class_name": "Sequential", "config": {"name": model.name, "layers": [config]}}
    layers, tensors, reasons = [], dict[str, StoredTensor](), list[str]()
    for names, layer in {id(layer): (names, layer) for names, layer in _leaves(keras, model, ())}.values():
        name = "/".join(names)
        reasons += _own_functions(keras, name, layer)
        if not layer.built:
            raise SpecError(f"The Keras layer {name!r} has no weights yet; call the model on data first.")
        own = {f"vars/{i}": _tensor(keras, f"{name}/vars/{i}", v) for i, v in enumerate(layer.weights)}
        tensors |= {tensor.name: tensor for tensor in own.values()}
        kind, options = type(layer).__name__, _plain(keras.saving.serialize_keras_object(layer)["config"])
        layers.append(StoredLayer(name, kind, options, {key: tensor.name for key, tensor in own.items()}))
    metadata = {"keras_version": keras.__version__, "backend": keras.backend.backend()}
    file = ModelFile(Path(model.name), "keras", tensors, tuple(layers), metadata, _plain(config))
    try:
        graph = graph_of(recognise(file))
    except ObstaclesError as error:
        raise ObstaclesError([*reasons, *error.reasons]) from None
    if reasons:
        raise ObstaclesError(reasons)
    return graph


def _own_functions(keras: Any, name: str, layer: Any) -> Iterator[str]:
    """The functions of the user's own that have the name of one of Keras's: a configuration does not tell them apart."""
    for part in layer._flatten_layers():
        for option in ("activation", "recurrent_activation"):
            function = getattr(part, option, None)
            written = keras.activations.serialize(function) if callable(function) else None
            if isinstance(written, str) and keras.activations.get(written) is not function:
                yield f"The layer {name!r} has an activation of its own ({written!r}), which is not modelled."


def _plain(value: Any) -> Any:
    """A configuration as JSON has it: lists instead of tuples."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _leaves(keras: Any, model: Any, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The layers of a model, those in nested models too, each once, with their names."""
    if not isinstance(model, keras.Model):
        yield names or (model.name,), model
        return
    for layer in model.layers:
        yield from _leaves(keras, layer, (*names, layer.name))


def _tensor(keras: Any, name: str, variable: Any) -> StoredTensor:
    def read() -> np.ndarray:
        import numpy as np

        array = np.asarray(keras.ops.convert_to_numpy(variable))
        return array.astype(np.float32) if variable.dtype == "bfloat16" else array

    return StoredTensor(name, tuple(variable.shape), str(variable.dtype), read)
