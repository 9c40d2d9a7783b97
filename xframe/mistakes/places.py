"""Weights of one layer or direction in another one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import combinations, permutations

import numpy as np

from xframe.layout import Key
from xframe.mistakes.base import Case, Mistake, Variation
from xframe.mistakes.making import BIASES, each_call, framed, with_blocks
from xframe.reference import Given, Outputs
from xframe.spec import Recurrent

__all__ = ["ENTRIES"]


def _moved(case: Case, axis: str, target: int, source: int) -> Iterator[tuple[Key, Key]]:
    """The blocks of a layer or direction, each with the one of another that has its shape."""
    for key, block in case.params.items():
        if getattr(key, axis) == target:
            other = key._replace(layer=source) if axis == "layer" else key._replace(direction=source)
            if other in case.params and case.params[other].shape == block.shape:
                yield key, other


def _copied(case: Case, axis: str, target: int, source: int) -> Case:
    return with_blocks(case, {key: case.params[other] for key, other in _moved(case, axis, target, source)})


def _swapped(case: Case, axis: str, one: int, other: int) -> Case:
    pairs = [*_moved(case, axis, one, other), *_moved(case, axis, other, one)]
    return with_blocks(case, {key: case.params[partner] for key, partner in pairs})


def _directions(case: Case) -> Iterator[Variation]:
    if next(_moved(case, "direction", 0, 1), None) is None:
        return
    yield Variation(
        "directions swapped",
        "Exchange the weights of the two directions: PyTorch's backward ones end in _reverse, in ONNX they are the second of the "
        "leading axis, in Keras they stand after all forward ones.",
        partial(_swapped, axis="direction", one=0, other=1),
        "first",
    )
    for target, (name, other) in enumerate((("forward", "backward"), ("backward", "forward"))):
        yield Variation(
            f"the {other} weights in the {name} direction too",
            f"Give the {name} direction weights of its own (PyTorch: {'those without' if name == 'forward' else 'those with'} "
            "_reverse in their names).",
            partial(_copied, axis="direction", target=target, source=1 - target),
        )


def _layers(case: Case) -> Iterator[Variation]:
    count = 1 + max(layer for layer, _ in case.spec.places)
    for one, other in combinations(range(count), 2):
        if next(_moved(case, "layer", one, other), None):
            yield Variation(
                f"layers {one} and {other} swapped",
                f"Exchange the weights of layers {one} and {other}; PyTorch's names end in _l and the number of the layer.",
                partial(_swapped, axis="layer", one=one, other=other),
                "first" if (one, other) == (0, 1) else "",
            )
    for layer in range(1, count):
        if next(_moved(case, "layer", layer, 0), None):
            yield Variation(
                f"the weights of layer 0 in layer {layer} too",
                f"Load layer {layer} from its own tensors (PyTorch: those whose names end in _l{layer}).",
                partial(_copied, axis="layer", target=layer, source=0),
            )


_TENSORS = {"kernel": ("kernel",), "recurrent kernel": ("recurrent_kernel",), "biases": BIASES}


def _of_layer(case: Case, target: int, source: int, roles: tuple[str, ...]) -> Case:
    moved = [(key, other) for key, other in _moved(case, "layer", target, source) if key.role in roles]
    return with_blocks(case, {key: case.params[other] for key, other in moved})


def _others(case: Case) -> Iterator[Variation]:
    count = 1 + max(layer for layer, _ in case.spec.places)
    for target, source in permutations(range(count), 2):
        roles = {key.role for key, _ in _moved(case, "layer", target, source)}
        mend = f"Load {{}} of layer {target} from its own tensors (PyTorch: those whose names end in _l{target})."
        for title, own in _TENSORS.items():
            if roles.intersection(own):
                change = partial(_of_layer, target=target, source=source, roles=own)
                yield Variation(
                    f"the {title} of layer {source} in layer {target} too", mend.format(f"the {title}"), change
                )
        if source and len(roles) > 1:
            change = partial(_copied, axis="layer", target=target, source=source)
            name = f"the weights of layer {source} in layer {target} too"
            yield Variation(name, mend.format("the weights"), change)


def _first_layer(case: Case) -> Case:
    """Only the first of a stack of layers; the states that the others would end in are zeros."""
    spec = case.spec
    if not isinstance(spec, Recurrent) or spec.num_layers == 1:
        return case
    alone = replace(
        case,
        spec=replace(spec, num_layers=1, dropout=0.0),
        params={key: block for key, block in case.params.items() if key.layer == 0},
    )
    return framed(alone, each_call(case.given, _of_first_layer), partial(_filled, spec.num_layers))


def _of_first_layer(given: Given) -> Given:
    return replace(given, state=given.state and {name: value[:1] for name, value in given.state.items()})


def _filled(layers: int, out: Outputs) -> Outputs:
    padding = [(0, layers - 1), (0, 0), (0, 0), (0, 0)]
    return replace(out, states={name: np.pad(value, padding) for name, value in out.states.items()})


def _lower_half_first(case: Case) -> Case:
    """What the layers above the first read, with its backward half first."""
    spec = case.spec
    if not isinstance(spec, Recurrent) or not spec.bidirectional or spec.merge_mode != "concat":
        return case
    above = {k: v for k, v in case.params.items() if k.role == "kernel" and k.layer and spec.num_layers > 1}
    return with_blocks(case, {key: np.roll(block, spec.state_size, axis=0) for key, block in above.items()})


def _stacks(case: Case) -> Iterator[Variation]:
    spec = case.spec
    if not isinstance(spec, Recurrent) or spec.num_layers == 1:
        return
    yield Variation(
        "the layers above the first left out",
        "Build the layer with all of its layers and load them: tensors that nobody took are an error (PyTorch: _l1 and so on).",
        _first_layer,
    )
    if spec.bidirectional and spec.merge_mode == "concat":
        yield Variation(
            "the backward half read first by the layers above",
            "In the kernels of the layers above the first, the first rows are those of the forward half of what is below.",
            _lower_half_first,
        )


ENTRIES = (
    Mistake(
        "directions mixed up",
        ("weight_ih_l0_reverse", "backward weights", "Bidirectional weights"),
        "The two directions have weights of the same shapes.",
        _directions,
    ),
    Mistake(
        "layers mixed up",
        ("weight_ih_l1", "stacked layers", "num_layers"),
        "Layers of a stack above the first have weights of the same shapes.",
        _layers,
        1,
    ),
    Mistake(
        "another layer's weights",
        ("weight_hh_l0 in weight_hh_l1", "copy and paste", "wrong suffix _l0"),
        "A tensor of one layer was written into another one, whose own was not.",
        _others,
        2,
    ),
    Mistake(
        "layers left out",
        ("num_layers", "only layer 0 loaded", "strict=False"),
        "A loader that looks for the names of one layer takes no notice of the others.",
        _stacks,
        1,
    ),
)
