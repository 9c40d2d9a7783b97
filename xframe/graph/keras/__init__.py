"""From a Keras model to a graph: a file of any Keras from 1 to 3, read as data; nothing is built from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from xframe.adapters.base import FLOATS
from xframe.errors import ObstaclesError, SpecError, UnsupportedError
from xframe.files.told import is_told
from xframe.graph.distributed import shapes_of
from xframe.graph.graph import Graph, Input, Output
from xframe.graph.keras._called import Called, Made, Read
from xframe.graph.keras._calls import MOST, Call, Calls, Tensor, found_in, replaced
from xframe.graph.keras._convolutions import POOLING
from xframe.graph.keras._einsum import einsum, split
from xframe.graph.keras._entries import (
    Entry,
    Place,
    config_of,
    input_shape,
    is_layer,
    is_operation,
    kind_of,
    layers_of,
    leaves_of,
    name_of,
    place_of,
)
from xframe.graph.keras._masks import FIRST, MAKERS, Masks
from xframe.graph.keras._operations import OPERATIONS, SHAPED
from xframe.graph.keras._options import WORDS, check_options, refused
from xframe.graph.keras._plain import PLAIN
from xframe.graph.keras._several import SEVERAL
from xframe.graph.keras._weighted import WEIGHTED
from xframe.graph.keras._weights import Weights
from xframe.graph.node import Node, Shape, in_a_row
from xframe.graph.told import graph_told
from xframe.recognition import Findings, computes
from xframe.spec import Recurrent

__all__ = ["FUNCTIONS", "PLAIN_LAYERS", "graph_of"]

# The layers without weights that read one value and put out one.
PLAIN_LAYERS = {**PLAIN, **POOLING, **SHAPED}
_INPUT_TYPES = (*FLOATS, *WORDS)
# The functions of keras.ops.
FUNCTIONS = {**OPERATIONS, "Einsum": einsum, "Split": split}
# What a layer may be called with that is looked at elsewhere.
_SPOKEN_FOR = ("mask", "initial_state")


def graph_of(findings: Findings) -> Graph:
    """The graph that a file describes: one of Keras, or one in which xframe says what it wrote.

    Args:
        findings: what `xframe.recognition.recognise` made of the file, in which every recurrent layer is settled.

    Raises:
        UnsupportedError: the file has no configuration, or a layer or an option of one is not modelled; the sentence names all
            that stands in the way.
    """
    config = findings.file.config
    if is_told(config):
        return graph_told(findings)
    if config is None:
        raise UnsupportedError(
            f"{findings.file.path} says nothing of what runs after what; give a file of a whole model, as model.save writes it."
        )
    try:
        return _Walk(findings).model(config)
    except SpecError as error:
        raise UnsupportedError(f"The model is none that is modelled: {error}") from None
    # What a damaged configuration can raise is not written down.
    except (AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise UnsupportedError(
            f"The configuration in {findings.file.path} cannot be understood ({type(error).__name__}: {error}); save the model "
            "again."
        ) from None


class _Walk:
    """Goes through a model layer by layer, and gathers nodes, and what stands in the way."""

    def __init__(self, findings: Findings) -> None:
        self._weights = Weights(findings)
        self._nodes: list[Node] = []
        self._inputs: list[Input] = []
        self._shapes: dict[str, Shape] = {}
        self._masks = Masks()
        self._reasons: list[tuple[str, str]] = []  # of a layer, by its label
        self._runs = 0

    def model(self, entry: Entry) -> Graph:
        """The graph of the outermost model, or of a layer alone."""
        outputs, form = self._outermost(entry)
        if self._reasons:
            raise ObstaclesError(list(dict.fromkeys(why for _, why in self._reasons)))
        if not self._nodes:
            raise UnsupportedError("The model has no layers that compute anything.")
        name = config_of(entry).get("name")
        found = [Output(name, value) for name, value in outputs if value is not None]
        return Graph(
            tuple(_without_idle_states(self._nodes, found)),
            tuple(self._inputs),
            tuple(found),
            name if isinstance(name, str) and name else "model",
            form,
        )

    def _outermost(self, entry: Entry) -> tuple[list[tuple[str, str | None]], str]:
        """What it puts out, each with the name that the model has for it; and in what form."""
        if kind_of(entry) == "Sequential" or is_layer(entry):
            shape = input_shape(entry)
            try:
                value = self._input("x", _guessed(entry, self._weights) if shape is None else shape)
            except UnsupportedError as error:
                self._reasons.append(("", str(error)))
                value = None
            (put_out,) = self._called(entry, (), [value])
            return [("output", put_out)], "one"
        calls = Calls(config_of(entry), layers_of(entry))
        for what, ends in (("inputs", calls.inputs), ("outputs", calls.outputs)):
            if what == "inputs" and len({tensor for _, tensor in ends}) < len(ends):
                raise UnsupportedError(f"The model {name_of(entry)!r} lists one input twice; save it again.")
            if not ends:
                raise UnsupportedError(
                    f"The configuration of the model {name_of(entry)!r} lists no {what}; save it again."
                )
        given = []
        for name, tensor in calls.inputs:
            own = calls.layers.get(tensor.layer, {})
            shape = input_shape(own)
            if shape is None:
                raise UnsupportedError("The model does not say the shape of its input; save it after it was built.")
            single = len(calls.inputs) == 1
            given.append(self._input("x" if single else name or tensor.layer, shape))
        found = self._functional(calls, (), given)
        listed = config_of(entry).get("output_layers")
        form = "dict" if isinstance(listed, Mapping) else "one" if len(found) == 1 else "list"
        names = [name or tensor.layer for name, tensor in calls.outputs]
        # Several outputs of one layer go by the names of their values: a state is encoder_h.
        names = _distinct(
            [
                value.replace("/", "_") if names.count(name) > 1 and value is not None and "/" in value else name
                for name, value in zip(names, found, strict=True)
            ]
        )
        return list(zip(["output"] if form == "one" else names, found, strict=True)), form

    def _input(self, name: str, shape: Shape) -> str:
        value = self._fresh(name)
        self._inputs.append(Input(value, shape))
        self._shapes[value] = shape
        return value

    def _fresh(self, wanted: str) -> str:
        """The name of a value that no other has."""
        found, number = wanted, 1
        while found in self._shapes:
            number += 1
            found = f"{wanted}#{number}"
        self._shapes[found] = ()
        return found

    # ---- Models and layers.

    def _called(self, entry: Entry, names: tuple[str, ...], given: Sequence[str | None]) -> list[str | None]:
        """What a model or a layer puts out of values; None for those that nobody knows."""
        if is_layer(entry):
            return self._layer(entry, names, Call((_Value(given[0]),), {}), 1)
        if kind_of(entry) == "Sequential":
            value = given[0]
            for each in layers_of(entry):
                (value,) = self._called(each, (*names, name_of(each)), [value])
            return [value]
        return self._functional(Calls(config_of(entry), layers_of(entry)), names, given)

    def _functional(self, calls: Calls, names: tuple[str, ...], given: Sequence[str | None]) -> list[str | None]:
        known: dict[Tensor, str | None] = {
            tensor: value for (_, tensor), value in zip(calls.inputs, given, strict=True)
        }
        wanted = _outputs_read(calls)
        for layer, number in calls.in_order():
            entry, call = calls.layers[layer], calls.call(Tensor(layer, number, 0))
            self._runs += 1
            if self._runs > MOST:
                raise UnsupportedError(f"The model runs more than {MOST:,} layers, which is not modelled.")
            if call is None:
                if kind_of(entry) == "InputLayer":
                    self._layer(entry, (*names, layer), Call((), {}), 0)
                continue
            read = replaced(call.arguments, lambda tensor: _Value(_put_out(known, tensor)))
            options = replaced(call.options, lambda tensor: _Value(_put_out(known, tensor)))
            count = wanted.get((layer, number), 1)
            if is_layer(entry):
                found = self._layer(entry, (*names, layer), Call(tuple(read), options), count)
            else:
                found = self._nested(entry, (*names, layer), read, options)
            known.update({Tensor(layer, number, i): value for i, value in enumerate(found)})
        return [_put_out(known, tensor) for _, tensor in calls.outputs]

    def _nested(
        self, entry: Entry, names: tuple[str, ...], read: Sequence[Any], options: Mapping[str, Any]
    ) -> list[str | None]:
        """A model that is called in another one."""
        label = f"The layer {'/'.join(names)!r} ({kind_of(entry)})"
        if more := [name for name in options if name not in ("mask", "training")]:
            self._reasons.append((label, f"{label} is called with {' and '.join(more)}, which is not modelled."))
        given = _by_name(read[0], entry) if len(read) == 1 and isinstance(read[0], Mapping) else read
        return self._called(entry, names, [value.name for value in _values(given)])

    def _layer(self, entry: Entry, names: tuple[str, ...], call: Call, count: int) -> list[str | None]:
        """One layer; as many outputs as are read of it, if nobody knows it."""
        place = place_of(entry, names)
        lost = any(value.name is None for value in _values((call.arguments, call.options)))
        try:
            if lost:
                self._check_anyhow(place, call, is_operation(entry))
                return [None] * count
            if (made := self._mask_made(entry, place, call)) is not None:
                return [made]
            return self._made(place, call, is_operation(entry))
        except (SpecError, UnsupportedError) as error:
            label = f"The layer {place.name!r} ({place.kind})"
            if all(known != label for known, _ in self._reasons):
                no_graph = "The model is none that is modelled: " if isinstance(error, SpecError) else ""
                self._reasons.append((label, f"{no_graph}{error}"))
            return [None] * count

    def _mask_made(self, entry: Entry, place: Place, call: Call) -> str | None:
        """The value that stands for a mask which Keras 3 spells out in operations; None for any other layer."""
        if kind_of(entry) not in MAKERS or not is_operation(entry):
            return None
        if kind_of(entry) not in FIRST and not any(self._masks.spelt(one.name) for one in _values(call.arguments)):
            return None
        arguments = [one.name if isinstance(one, _Value) else one for one in _unlisted(call.arguments)]
        value = self._fresh(place.name)
        self._masks.spell(value, place.kind, tuple(arguments))
        return value

    def _made(self, place: Place, call: Call, operation: bool) -> list[str | None]:
        """The nodes of a layer, and the values that it puts out."""
        if place.package:
            raise refused(place, f"is of a class of {place.package}, not of Keras, and is not modelled")
        if place.kind == "InputLayer":
            check_options(place, ["batch_size"], {k: v for k, v in place.options.items() if k != "dtype"})
            if place.options.get("dtype") not in (None, *_INPUT_TYPES):
                raise refused(place, f"has dtype={place.options['dtype']!r}, which is not modelled")
            return [self._given(call.arguments[0].name)] if call.arguments else []
        called = self._read(place, call)
        several = FUNCTIONS if operation else SEVERAL
        made = several[place.kind](called, self._weights) if place.kind in several else self._in_a_row(called)
        for node in made.nodes:
            self._append(replace(node, dtype=computes(place.options)))
        return list(made.outputs)

    def _in_a_row(self, called: Called) -> Made:
        """The nodes of a layer that reads one value and puts out one."""
        place = called.place
        if place.kind not in PLAIN_LAYERS and place.kind not in WEIGHTED:
            if place.kind == "Lambda":
                raise refused(place, "holds Python code, which is never run; replace it by a layer of Keras")
            raise refused(place, "is of a class that is not modelled")
        if len(called.reads) != 1:
            raise refused(place, f"is called with {len(called.reads)} values, and reads one")
        if place.arguments:
            raise refused(place, f"is called with further arguments ({place.arguments[0]!r}), which are not modelled")
        if called.options:
            raise refused(place, f"is called with {' and '.join(called.options)}, which is not modelled")
        one = called.reads[0]
        reached = (one.shape, one.masked, self._weights.version)
        plain = place.kind in PLAIN_LAYERS
        steps = (
            PLAIN_LAYERS[place.kind](place, reached) if plain else WEIGHTED[place.kind](place, reached, self._weights)
        )
        if not steps:  # what does nothing hands on what it reads
            return Made([], [one.name])
        nodes = list(in_a_row(steps, one.name, self._fresh(place.name), self._fresh))
        return Made(nodes, [nodes[-1].writes[0]])

    def _read(self, place: Place, call: Call) -> Called:
        """What a layer is called with; the masks that it is told to use are those that are handed on, or of its own."""
        options, masks = dict(call.options), list[Any]()
        told = options.pop("mask", None)
        if told is not None:
            masks = _values(told)
        arguments = tuple(call.arguments)
        reads = [self._read_one(value.name) for value in _values(arguments[:1])]
        more = [one for one in arguments[1:] if not _values(one)]
        for i, mask in enumerate(masks):
            if i >= len(reads) or not self._masks.same(mask.name, reads[i].name):
                raise refused(place, "is given a mask of its own, which is not modelled")
        return Called(
            replace(place, arguments=tuple(more)),
            tuple(reads),
            tuple(self._plain(one) for one in arguments),
            {name: self._plain(value) for name, value in options.items()},
            self._weights.version,
            self._fresh,
        )

    def _plain(self, given: Any) -> Any:
        """Arguments with what is read in the place of each value."""
        if isinstance(given, _Value):
            return self._read_one(given.name)
        if isinstance(given, list | tuple):
            return type(given)(self._plain(each) for each in given)
        return {name: self._plain(each) for name, each in given.items()} if isinstance(given, Mapping) else given

    def _read_one(self, name: str | None) -> Read:
        value = self._given(name)
        return Read(value, self._shapes[value], self._masks.reaches(value))

    def _given(self, name: str | None) -> str:
        assert name is not None
        if self._masks.spelt(name):
            raise UnsupportedError(
                f"The model computes with the mask {name!r} itself, which is not modelled; leave that to its layers."
            )
        return name

    def _append(self, node: Node) -> None:
        shapes = shapes_of(node, [self._shapes[value] for value in node.reads])
        for value, shape in zip(node.writes, shapes, strict=True):
            self._shapes[value] = shape
        self._masks.follow(node)
        self._nodes.append(node)

    # ---- Behind what is not modelled.

    def _check_anyhow(self, place: Place, call: Call, operation: bool) -> None:
        """Refuse a layer that is not modelled whatever reaches it."""
        count = len(_values(call.arguments[:1]))
        if operation or place.kind in SEVERAL or count != 1 or place.kind == "InputLayer":
            if place.kind not in (FUNCTIONS if operation else {**SEVERAL, **PLAIN_LAYERS, **WEIGHTED}):
                self._in_a_row(Called(place, (), (), {}, self._weights.version, self._fresh))
            return
        features = self._weights.features(place)
        any_rank: tuple[Shape, ...] = ((features,), (None, features), (None, None, features))
        more = tuple(one for one in call.arguments[1:] if not _values(one))
        wrong: list[UnsupportedError] = []
        for shape, masked in product(any_rank if place.reads is None else (place.reads,), (False, True)):
            read = Read("x", shape, masked)
            try:
                self._in_a_row(
                    Called(replace(place, arguments=more), (read,), (), {}, self._weights.version, self._fresh)
                )
            except UnsupportedError as error:
                wrong.append(error)
            else:
                return
        raise wrong[0]


def _put_out(known: Mapping[Tensor, str | None], tensor: Tensor) -> str | None:
    """The value of a tensor of a layer that was called; None where nobody knows it."""
    if tensor not in known:
        raise UnsupportedError(
            f"The layer {tensor.layer!r} puts out no value number {tensor.output}, which is read; save the model again."
        )
    return known[tensor]


class _Value:
    """A value among arguments; its name is None where nobody knows it."""

    def __init__(self, name: str | None) -> None:
        self.name = name


def _without_idle_states(nodes: Sequence[Node], outputs: Sequence[Output]) -> Iterator[Node]:
    """The nodes, without the final states that a layer hands on and nobody reads."""
    read = {value for node in nodes for value in node.reads}.union(one.value for one in outputs)
    for node in nodes:
        idle = node.kind == "recurrent" and not read.intersection(node.writes[1:])
        yield replace(node, writes=node.writes[:1]) if idle else node


def _values(given: Any) -> list[_Value]:
    if isinstance(given, _Value):
        return [given]
    if isinstance(given, Mapping):
        return [value for each in given.values() for value in _values(each)]
    return [value for each in given for value in _values(each)] if isinstance(given, list | tuple) else []


def _unlisted(arguments: Sequence[Any]) -> Iterator[Any]:
    """The arguments, a list of them among them taken apart."""
    for one in arguments:
        if isinstance(one, list | tuple):
            yield tuple(each.name if isinstance(each, _Value) else each for each in one)
        else:
            yield one


def _outputs_read(calls: Calls) -> dict[tuple[str, int], int]:
    """By layer and call, how many outputs of it are read at most."""
    found: dict[tuple[str, int], int] = {}
    read: list[Tensor] = [tensor for _, tensor in calls.outputs]
    for layer, number in calls.in_order():
        call = calls.call(Tensor(layer, number, 0))
        read += found_in((call.arguments, call.options)) if call is not None else ()
    for tensor in read:
        one = (tensor.layer, tensor.call)
        found[one] = max(found.get(one, 1), tensor.output + 1)
    return found


def _by_name(given: Mapping[str, Any], entry: Entry) -> list[Any]:
    """What a model is called with by names, in the order of its inputs."""
    calls = Calls(config_of(entry), layers_of(entry))
    return [given[name or tensor.layer] for name, tensor in calls.inputs]


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number where one comes again."""
    found: list[str] = []
    for name in names:
        wanted, number = name, 1
        while wanted in found:
            number += 1
            wanted = f"{name}_{number}"
        found.append(wanted)
    return found


def _guessed(entry: Entry, weights: Weights) -> Shape:
    """The input's shape from the first layer that tells it by its weights."""
    for place in leaves_of(entry):
        if place.kind in WEIGHTED:
            steps: list[Node] = WEIGHTED[place.kind](place, ((None,), False, weights.version), weights)
        elif place.kind in SEVERAL:
            read = Read("x", (None,), False)
            steps = SEVERAL[place.kind](Called(place, (read,), (read,), {}, weights.version, str), weights).nodes
        else:
            steps = []
        if steps and steps[0].spec is not None:
            features = steps[0].spec.input_size
            return (None, features) if isinstance(steps[0].spec, Recurrent) else (features,)
        if steps or place.kind not in ("InputLayer", "Masking", "Dropout", "Activation"):
            break
    raise UnsupportedError("The model does not say the shape of its input; save it after it was built.")
