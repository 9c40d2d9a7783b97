"""Which tensors of a Keras file belong to which layer: by the names that Keras gives, and by a configuration if there is one.

A configuration is a tree of entries ``{"class_name": ..., "config": {...}}``. An entry whose config lists layers is a model; the
others are layers, with whatever they wrap (``Bidirectional``, ``RNN``, ``TimeDistributed``) inside.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from xframe.files._hdf5 import AGAIN, Hdf5Error, Tree
from xframe.files.base import StoredLayer

__all__ = ["is_state", "lambda_layers", "legacy_layers", "weights_layers"]

# What is at the root of a file beside the model's weights: the state of its training.
_STATE = re.compile(
    r"(optimizer|optimizer_weights|_?(compile_)?metrics|_?loss_tracker)/|(.*/)?seed_generator(_\d+)?/vars/"
)
# Parts of a weight's name that are inside a layer, and are no layers in a model.
_INSIDE = re.compile(r".*cells?(_\d+)?|(for|back)ward_.*")
# The attributes in which Keras's own layers keep others, as groups of a .weights.h5.
_WRAPPED = ("cell", "cells", "layer", "forward_layer", "backward_layer")
_TOP = "top_level_model_weights"
# Far above any model's: they bound the memory that a hostile configuration can take.
_MAX_LAYERS = 100_000
_MAX_NAME = 1024


class _Entry(NamedTuple):
    """A layer that a configuration names: the names of the models that it is in and its own, its place in a .weights.h5."""

    names: tuple[str, ...]
    place: str
    kind: str
    options: Mapping[str, Any]


def is_state(name: str) -> bool:
    """Whether a path names the state of an optimizer, a metric or a generator of random numbers: nothing of the model."""
    return _STATE.match(name) is not None


def lambda_layers(config: Mapping[str, Any]) -> list[str]:
    """The layers that hold Python code: Lambda layers, and layers with a lambda among their options."""
    found: dict[str, None] = {}
    stack: list[tuple[Any, str]] = [(config, "")]
    while stack:
        value, owner = stack.pop()
        if isinstance(value, dict):
            owner = _name(value) or owner
            if value.get("class_name") in ("Lambda", "__lambda__"):
                found[owner or "lambda"] = None
            stack += [(child, owner) for child in reversed(value.values())]
        elif isinstance(value, list):
            stack += [(child, owner) for child in reversed(value)]
    return list(found)


# ---- HDF5 of Keras 1 and 2: groups by layer, whose attributes name the weights.


def legacy_layers(tree: Tree, root: str, config: Mapping[str, Any] | None) -> tuple[StoredLayer, ...]:
    """The layers of a file of Keras 1 or 2, in the order of the configuration, then of ``layer_names``.

    Args:
        tree: the file.
        root: the group that has the weights: ``model_weights``, or the root itself.
        config: the configuration, if the file has one.

    Raises:
        Hdf5Error: a name in the file leads nowhere.
    """
    tops = _texts(tree, root, "layer_names")
    if len(set(tops)) != len(tops):
        raise Hdf5Error("its layer_names has a name twice", AGAIN)
    if _join(root, _TOP) in tree.attributes and _TOP not in tops:
        tops.append(_TOP)  # the weights that a subclassed model has beside its layers
    entries = list(_entries(config or {}, tops))
    known = _by_suffix(entries)
    models = {entry.names[0] for entry in entries if len(entry.names) > 1}
    leaves = {"/".join(entry.names) for entry in entries}
    found: dict[str, dict[str, str]] = {"/".join(entry.names): {} for entry in entries}
    for top in tops:
        for weight in _texts(tree, _join(root, top), "weight_names"):
            path = _join(root, f"{top}/{weight}")
            if path not in tree.arrays:
                raise Hdf5Error(f"layer {top!r} names the weight {weight!r}, which is not there")
            if top in models:
                names = next((names for part in _parts(top, weight) if (names := known.get(part))), (top,))
                name, key = "/".join(names), _key(weight, names[-1])
            else:
                name, key = (top, _key(weight, top)) if top in leaves else _guess(top, weight)
            tensors = found.setdefault(name, {})
            tensors[weight if key in tensors else key] = path
    return _stored(entries, found)


def _stored(entries: Sequence[_Entry], found: Mapping[str, Mapping[str, str]]) -> tuple[StoredLayer, ...]:
    by_name = {"/".join(entry.names): entry for entry in entries}
    layers = []
    for name, tensors in found.items():
        entry = by_name.get(name)
        layers.append(StoredLayer(name, entry.kind if entry else "", entry.options if entry else {}, tensors))
    return tuple(layers)


def _texts(tree: Tree, group: str, name: str) -> list[str]:
    """A list of names, which Keras cuts into pieces where it is too long for one attribute."""
    attributes = tree.attributes.get(group)
    if attributes is None:
        raise Hdf5Error(f"it names a layer {group!r}, which is not there")
    if name in attributes:
        pieces = [attributes[name]]
    else:
        pieces = []
        while (piece := attributes.get(f"{name}{len(pieces)}")) is not None:
            pieces.append(piece)
    return [text for piece in pieces for text in ([piece] if isinstance(piece, str) else piece)]


def _by_suffix(entries: Sequence[_Entry]) -> dict[tuple[str, ...], tuple[str, ...] | None]:
    """Layers in nested models, by the last one to three of their names; None where several layers end in the same."""
    known: dict[tuple[str, ...], tuple[str, ...] | None] = {}
    for entry in entries:
        for length in (1, 2, 3):
            if length <= len(entry.names) > 1:
                suffix = entry.names[-length:]
                known[suffix] = entry.names if known.get(suffix, entry.names) == entry.names else None
    return known


def _parts(top: str, weight: str) -> Iterator[tuple[str, ...]]:
    """The parts of a weight's name that may name the layer that it belongs to, the longest first."""
    *folders, last = [top, *weight.split("/")]
    for length in (3, 2, 1):
        for at in range(len(folders) - length + 1):
            yield tuple(folders[at : at + length])
    for cut in range(len(last), 0, -1):  # lstm_1_W_i in Keras 1
        if last[cut - 1] == "_":
            yield (top, last[: cut - 1])
            yield (last[: cut - 1],)


def _key(weight: str, layer: str) -> str:
    """What is left of a weight's name without its layer's: ``lstm_1/kernel:0`` and ``lstm_1_W_i`` -> ``kernel``, ``W_i``."""
    weight = re.sub(r":\d+$", "", weight)
    own = re.escape(layer)
    # After the layer's name as a folder, wherever that is; or with a number, if the layer was built twice; or as Keras 1.
    for pattern in (rf"{own}/", rf".*/{own}/", rf"{own}_\d+/", rf"{own}_(?=[^/]*$)"):
        if match := re.match(pattern, weight):
            return weight[match.end() :]
    return weight


def _guess(top: str, weight: str) -> tuple[str, str]:
    """The layer and the key of a weight where no configuration tells a layer from a model that is used as one."""
    *folders, last = _key(weight, top).split("/")
    outside = list(takewhile(lambda part: not _INSIDE.fullmatch(part), folders))
    return "/".join([top, *outside]), "/".join([*folders[len(outside) :], last])


def _join(group: str, name: str) -> str:
    return f"{group}/{name}" if group else name


# ---- .weights.h5 of Keras 3: groups by attribute and by class, which hold numbered variables.


def weights_layers(tree: Tree, config: Mapping[str, Any] | None) -> tuple[StoredLayer, ...]:
    """The layers of weights of Keras 3: those that the configuration places, then those that the groups show.

    Raises:
        Hdf5Error: the configuration names too much.
    """
    groups = {_current(path): attributes for path, attributes in tree.attributes.items()}
    entries = list(_entries(config or {}))
    places = {entry.place: "/".join(entry.names) for entry in entries}
    arrays = {_current(path): path for path in sorted(tree.arrays, key=_numbered) if not is_state(path)}
    own = {_holder(path) for path in arrays}
    found: dict[str, dict[str, str]] = {name: {} for name in places.values()}
    names: dict[str, str] = dict(places)
    for path, whole in arrays.items():
        place = _place(_holder(path), places, own, groups)
        if place not in names:
            name = _shown(place, groups)
            names[place] = place if name in found else name
        found.setdefault(names[place], {})[path[len(place) :].lstrip("/")] = whole
    return _stored(entries, found)


def _current(path: str) -> str:
    """A path as Keras 3 has it; Keras 2.12 and 2.13 called a model's layers otherwise."""
    return re.sub(r"(^|/)_layer_checkpoint_dependencies(?=/|$)", r"\1layers", path)


def _holder(path: str) -> str:
    """The group of what has a variable: without ``vars`` and the variable's number."""
    return re.sub(r"(^|/)(vars/)?[^/]*$", "", path)


def _numbered(path: str) -> list[tuple[int, str]]:
    """To sort ``dense_10`` after ``dense_2``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path)]


def _place(holder: str, places: Mapping[str, str], own: set[str], groups: Mapping[str, Any]) -> str:
    """The group of the layer that a variable belongs to: the outermost on its way that is a layer, and not a model or a list."""
    parts = holder.split("/")
    for count in range(1, len(parts)):
        place = "/".join(parts[:count])
        is_model = f"{place}/layers" in groups
        if place in places or (
            not is_model and (place in own or any(f"{place}/{name}" in groups for name in _WRAPPED))
        ):
            return place
    return holder


def _shown(place: str, groups: Mapping[str, Mapping[str, Any]]) -> str:
    """The name of a layer with those it is in, by the groups' attributes, or by the groups where there are none."""
    parts, names = place.split("/"), []
    for count, part in enumerate(parts, 1):
        if part != "layers":
            said = groups.get("/".join([*parts[:count], "vars"]).lstrip("/"), {}).get("name")
            names.append(said if isinstance(said, str) and said else part)
    return "/".join(names) or "vars"


# ---- What a configuration names.


def _entries(config: Mapping[str, Any], given: Sequence[str] = ()) -> Iterator[_Entry]:
    """The layers that a configuration names, in its order; models are not among them, their layers are.

    Old files give a nested Sequential no name: it has, of the names ``given``, the first that nobody else has.
    """
    stack: list[tuple[Mapping[str, Any], tuple[str, ...], str]] = [(config, (), "")]
    count = 0
    while stack:
        entry, names, place = stack.pop()
        children = _children(entry)
        if children is None:
            if names:
                options = entry.get("config")
                yield _Entry(names, place, _text(entry, "class_name"), options if isinstance(options, dict) else {})
            continue
        taken = {_name(child) for child in children}
        spare = (name for name in given if not names and name not in taken)
        used: Counter[str] = Counter()
        below = []
        for child in children:
            slot = _snake(_text(child, "class_name"))
            number = f"_{used[slot]}" if used[slot] else ""
            used[slot] += 1
            name = _name(child) or next(spare, slot + number)
            below.append((child, (*names, name), f"{place}/layers/{slot}{number}".lstrip("/")))
            count += 1
            if count > _MAX_LAYERS or sum(map(len, below[-1][1])) > _MAX_NAME or len(below[-1][2]) > _MAX_NAME:
                raise Hdf5Error("its configuration names too many layers, or some by too long a name", AGAIN)
        stack += reversed(below)


def _children(entry: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """The entries of a model's layers; None if it is a layer."""
    config = entry.get("config")
    layers = config.get("layers") if isinstance(config, dict) else config
    if not isinstance(layers, list):
        return None
    # Operations such as keras.ops.add stand among the layers, and are none.
    return [each for each in layers if isinstance(each, dict) and "ops" not in _text(each, "module").split(".")]


def _name(entry: Mapping[str, Any]) -> str:
    config = entry.get("config")
    return (_text(config, "name") if isinstance(config, dict) else "") or _text(entry, "name")


def _text(mapping: Mapping[str, Any], name: str) -> str:
    text = mapping.get(name)
    return text if isinstance(text, str) else ""


# Classes that are called otherwise where they are imported from.
_RENAMED = {"GroupQueryAttention": "GroupedQueryAttention"}


def _snake(kind: str) -> str:
    """``SimpleRNN`` -> ``simple_rnn``: what Keras 3 calls a layer's group, for its class and not for its name."""
    kind = re.sub(r"\W+", "", _RENAMED.get(kind, kind))
    return re.sub("(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", kind).lower()
