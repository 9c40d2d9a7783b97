"""What the names of tensors tell: places in a stack, directions, and what a tensor is to its layer."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

__all__ = [
    "ROLES",
    "Place",
    "direction_of",
    "is_cell",
    "is_inside",
    "normal",
    "other_kind",
    "placeholder",
    "says_nothing",
    "split",
    "stack_in_direction",
]

# What people call the weights of a layer in their own programs, in lower case, and what it means if it means that.
ROLES = {
    **dict.fromkeys("kernel w wx w_x wxh w_xh w_ih wih weight_ih".split(), "kernel"),
    **dict.fromkeys("recurrent_kernel rec_kernel u r wh w_h whh w_hh weight_hh".split(), "recurrent_kernel"),
    **dict.fromkeys("bias b bh b_h bx b_x b_ih bih bias_ih".split(), "bias"),
    **dict.fromkeys("b_hh bhh bias_hh".split(), "recurrent_bias"),
}

# How many names a path may have that says something; a hostile one could have a million.
_DEEPEST = 64
# Names by which programs number what they do not name.
_NOTHING = re.compile(r"(arr|param|parameter|tensor|weight|weights|variable|var|w|p)?_?\d+|[a-z]")
_PLACE = re.compile(r"(?P<stem>.+?)_l(?P<layer>\d{1,4})(?P<reverse>_reverse)?")
_DIRECTION = re.compile(r"(forward|backward|fw|bw)(?=_|$)")
_CELL = re.compile(r"(^|_)cell(_\d+)?$")
_RECURRENT = re.compile(r"(^|_)(cell|lstm|gru|rnn)(_\d+)?$")
_NUMBERED_CELL = re.compile(r"(.*_)?cell_\d+")

# Kinds of layers that are neither recurrent nor dense, by what their layers and tensors are called, and whether tensors with
# these numbers of axes can be theirs.
_KINDS: dict[str, tuple[str, Callable[[Collection[int]], bool]]] = {
    "Embedding": (r"(^|[/_])(emb|embed|embedding|embeddings|wte|wpe)[0-9]*($|[/_])", lambda ranks: 1 not in ranks),
    "BatchNormalization": (
        r"batch_?norm|(^|[/_])(bn[0-9]*|moving_mean|moving_variance|running_mean|running_var)($|[/_])",
        lambda ranks: 2 not in ranks,
    ),
    "LayerNormalization": (r"layer_?norm", lambda ranks: 2 not in ranks),
    "Normalization": (r"(^|[/_])norm|normalization|(^|/)(gamma|beta)($|/)", lambda ranks: 2 not in ranks),
    "Convolution": (r"(^|[/_])conv", lambda ranks: max(ranks) != 2),
}


class Place(NamedTuple):
    """Where a tensor belongs: the path of its layer, its layer in a stack, its direction, and what it is called there.

    ``numbered``: whether its name gives the number of the layer, as PyTorch's ``_l0`` does.
    """

    prefix: tuple[str, ...]
    layer: int
    direction: int
    local: str
    numbered: bool


def normal(name: str) -> tuple[str, ...]:
    """The path of a tensor, without what some formats add to every name."""
    name = name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")
    name = re.sub(r":\d+$", "", name)
    parts = tuple(part for part in re.split(r"[/.]", name) if part)
    return parts if len(parts) <= _DEEPEST else (name,)


def split(path: tuple[str, ...], known: Iterable[str]) -> list[Place]:
    """The places that a path may mean, given the names that tensors have in their layers."""
    stem, layer, direction = path[-1], 0, 0
    match = _PLACE.fullmatch(stem)
    numbered = match is not None
    if match:
        stem, layer, direction = match["stem"], int(match["layer"]), int(bool(match["reverse"]))
    found = []
    two = "/".join([*path[-2:-1], stem])
    for name in known:
        if name == two and "/" in name:
            found.append(Place(path[:-2], layer, direction, name, numbered))
        elif name == stem or (name in ROLES and name == stem.lower()):
            found.append(Place(path[:-1], layer, direction, name, numbered))
    if found:
        return found
    # The longest name behind something else: enc_w_ih is w_ih of enc, not ih of enc_w.
    glued = [n for n in known if "/" not in n and (stem.endswith(f"_{n}") or stem.lower().endswith(f"_{n}"))]
    if not glued:
        return []
    longest = max(len(name) for name in glued)
    before = stem[: -longest - 1]
    return [Place((*path[:-1], before), layer, direction, name, numbered) for name in glued if len(name) == longest]


def says_nothing(name: str) -> bool:
    """Whether a tensor's own name is but a number or a letter."""
    return bool(_NOTHING.fullmatch(name))


def direction_of(path: tuple[str, ...]) -> int | None:
    """The direction that a path names, or None."""
    words = [m[0] for part in path if (m := _DIRECTION.match(part))]
    return None if not words else int(words[-1] in ("backward", "bw"))


def placeholder(path: tuple[str, ...]) -> tuple[str, ...]:
    """The path without its direction: what both halves of a layer have in common."""
    return tuple(_DIRECTION.sub("*", part) for part in path)


def is_cell(path: tuple[str, ...]) -> str:
    """What a path that ends in a cell of TensorFlow 1 says of it: ``lstm``, ``gru``, ``rnn`` or ``cell``; else nothing.

    A cell may have another name; but only a recurrent layer has directions.
    """
    named = [part for part in path if not _DIRECTION.match(part)]
    last = named[-1] if named else ""
    if not _RECURRENT.search(last):
        return "cell" if path and _DIRECTION.match(path[-1]) else ""
    return next(
        (cell for cell in ("lstm", "gru") if cell in last), "rnn" if "rnn" in last and "cell" in last else "cell"
    )


def stack_in_direction(path: tuple[str, ...]) -> tuple[str, ...]:
    """The path of the stack of cells that runs inside the direction that a path names, or nothing."""
    for i, part in enumerate(path):
        if _DIRECTION.match(part):
            for j in range(i + 1, len(path)):
                if _NUMBERED_CELL.fullmatch(path[j]) or (path[j].isdecimal() and path[j - 1].endswith("cells")):
                    return path[:j]
    return ()


def is_inside(path: tuple[str, ...]) -> bool:
    """Whether a path ends in what a layer of Keras keeps its weights in: its only cell, or a list of them."""
    if len(path) < 2 or path[-2].endswith("cells"):
        return False
    return bool(_CELL.search(path[-1])) or path[-1] in ("vars", "layer")


def other_kind(path: tuple[str, ...], tensors: Mapping[str, int]) -> str:
    """The kind of a layer that is neither recurrent nor dense, or nothing where it does not tell.

    Args:
        path: of the layer. Only its own name is looked at: a layer in something of that name may be anything.
        tensors: by their names in the layer, how many axes each has.
    """
    own = next((part for part in reversed(path) if part != "vars"), "")
    text, ranks = "/".join([own, *tensors]).lower(), set(tensors.values())
    for kind, (pattern, can_be) in _KINDS.items():
        if can_be(ranks) and re.search(pattern, text):
            return kind
    if max(ranks) >= 3 and not {"kernel", "weight"}.isdisjoint(tensors):
        return "Convolution"
    # A scale and an offset.
    return "Normalization" if tensors == {"weight": 1, "bias": 1} else ""
