"""Right numbers in a narrower type, or scaled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from math import sqrt
from typing import Any

import numpy as np

from xframe.layout import Key
from xframe.mistakes.base import Case, Mistake, Variation
from xframe.mistakes.making import BIASES, KERNELS, each_block, each_call, output_scaled, parts, tensors, with_blocks
from xframe.probe import rounded
from xframe.spec import Recurrent

__all__ = ["ENTRIES", "narrowed"]

# What describes the cell of a block -> the factor.
Factor = Callable[[Any], float]


def narrowed(array: np.ndarray, dtype: str) -> np.ndarray:
    """The numbers as a narrower type holds them; its largest where they are too large for it."""
    if dtype == "bfloat16":
        return rounded(array, dtype).astype(array.dtype)
    largest = np.finfo(dtype).max
    return np.clip(array, -largest, largest).astype(dtype).astype(array.dtype)


def _input_changed(case: Case, change: Callable[[np.ndarray], np.ndarray]) -> Case:
    return replace(case, given=each_call(case.given, lambda one: replace(one, x=change(one.x))))


def _rounding(case: Case) -> Iterator[Variation]:
    every = (*KERNELS, *BIASES, "projection")
    for dtype in ("float16", "bfloat16"):
        change = partial(narrowed, dtype=dtype)
        mend = f"Keep {{}} in float32; {dtype} has {11 if dtype == 'float16' else 8} significant bits."
        for title, roles in (("all parameters", every), ("the kernels", KERNELS)):
            if roles is every or any(key.role in BIASES for key in case.params):
                name = f"{title} rounded to {dtype}"
                yield Variation(name, mend.format(title), partial(each_block, roles=roles, change=change))
        yield Variation(
            f"the input rounded to {dtype}", mend.format("the input"), partial(_input_changed, change=change)
        )


_DECIMALS = range(2, 7)


def _in_decimals(array: np.ndarray, decimals: int) -> np.ndarray:
    return np.round(array, decimals)


def _decimals(case: Case) -> Iterator[Variation]:
    every = (*KERNELS, *BIASES, "projection")
    for decimals in _DECIMALS:
        change = partial(_in_decimals, decimals=decimals)
        mend = f"Save {{}} in binary, or as text with nine significant digits, not with {decimals} decimals."
        name = f"rounded to {decimals} decimals"
        yield Variation(
            f"all parameters {name}",
            mend.format("the parameters"),
            partial(each_block, roles=every, change=change),
        )
        yield Variation(f"the input {name}", mend.format("the input"), partial(_input_changed, change=change))


# The largest number of int8 that quantisation uses on both sides of zero.
_INT8 = 127


def _quantised(case: Case, rows: bool) -> Case:
    """Kernels as whole multiples of a scale, which is that of the whole tensor, or of each unit of each gate."""
    tensors: dict[tuple[int, int, str], list[Key]] = {}
    for key in case.params:
        if key.role in KERNELS:
            tensors.setdefault(key[:3], []).append(key)
    blocks = {}
    for keys in tensors.values():
        sizes = {key: np.abs(case.params[key]).max(axis=0, keepdims=True) for key in keys}
        for key in keys:
            size = sizes[key] if rows else max(float(one.max()) for one in sizes.values())
            scale = np.maximum(size / _INT8, float(np.finfo(np.float32).tiny))
            blocks[key] = np.rint(case.params[key] / scale) * scale
    return with_blocks(case, blocks)


def _quantising(case: Case) -> Iterator[Variation]:
    for words, rows in (("one scale for each tensor", False), ("one scale for each unit", True)):
        mend = "Load the kernels as they were before they were quantised; int8 keeps 255 numbers of them."
        yield Variation(f"the kernels rounded to int8, {words}", mend, partial(_quantised, rows=rows))


_INPUT: dict[str, float] = {"1/255": 1 / 255, "255": 255.0, "1/2": 0.5, "2": 2.0}


def _input(case: Case) -> Iterator[Variation]:
    for name, factor in _INPUT.items():
        mend = f"Feed both sides the same input: this one is {name} times the other."
        yield Variation(f"input scaled by {name}", mend, partial(_input_changed, change=partial(np.multiply, factor)))


def _blocks_scaled(case: Case, roles: tuple[str, ...], factor: Factor, above: int = 0) -> Case:
    return with_blocks(
        case,
        {
            key: block * factor(case.spec.part(key.direction, key.layer))
            for key, block in case.params.items()
            if key.role in roles and key.layer >= above
        },
    )


def _constant(value: float, part: Any) -> float:
    return value


def _root(power: int, part: Any) -> float:
    return sqrt(part.hidden_size) ** power


def _scaled(case: Case) -> Iterator[Variation]:
    factors: dict[str, Factor] = {"2": partial(_constant, 2.0), "1/2": partial(_constant, 0.5)}
    if any(part.hidden_size > 1 for _, part in parts(case.spec)):
        factors |= {"sqrt(n)": partial(_root, 1), "1/sqrt(n)": partial(_root, -1)}
    for roles in (("kernel",), ("recurrent_kernel",), BIASES):
        if title := tensors(roles, case):
            for name, factor in factors.items():
                mend = f"Take {title} as stored: here {'they are' if roles == BIASES else 'it is'} {name} times that."
                yield Variation(
                    f"{title.removeprefix('the ')} scaled by {name}",
                    mend,
                    partial(_blocks_scaled, roles=roles, factor=factor),
                )


def _rates(spec: Recurrent) -> Iterator[tuple[str, float, str, int]]:
    """Each dropout of a layer: what it is called, its rate, the kernel that reads what is dropped, and from which layer on."""
    yield "dropout of the input", spec.input_dropout, "kernel", 0
    yield "recurrent dropout", spec.recurrent_dropout, "recurrent_kernel", 0
    yield "dropout between the layers", spec.dropout, "kernel", 1


def _dropout(case: Case) -> Iterator[Variation]:
    for what, rate, role, above in _rates(case.spec) if isinstance(case.spec, Recurrent) else ():
        for name, factor in (("1 - rate", 1 - rate), ("1/(1 - rate)", 1 / (1 - rate))) if rate else ():
            yield Variation(
                f"{what} scales by {name} at inference",
                "Leave the kernels as they are at inference: training scales what is kept by 1/(1 - rate).",
                partial(_blocks_scaled, roles=(role,), factor=partial(_constant, factor), above=above),
            )


def _outputs(case: Case) -> Iterator[Variation]:
    for name, factor in (("doubled", 2.0), ("halved", 0.5)):
        after = partial(output_scaled, factor)
        mend = f"Compare the outputs as the layer puts them out: these were {name}."
        yield Variation(f"outputs {name}", mend, partial(Case.then, after=after))


ENTRIES = (
    Mistake(
        "rounded parameters",
        ("half precision", "float16", "bfloat16", "quantised", "mixed precision"),
        "Numbers that went through a narrower type have lost their last digits for good.",
        _rounding,
        1,
    ),
    Mistake(
        "rounded to decimals",
        ("np.savetxt", "%.4f", "weights as text", "CSV", "JSON"),
        "Numbers that were written as text with few decimals have lost the others for good.",
        _decimals,
        1,
    ),
    Mistake(
        "quantised kernels",
        ("int8", "quantize_dynamic", "post-training quantisation"),
        "A quantised kernel holds whole multiples of a scale, 255 of them at the most.",
        _quantising,
        2,
    ),
    Mistake(
        "input scaled",
        ("x / 255", "normalisation of the input", "ToTensor"),
        "The two sides were fed inputs of another scale.",
        _input,
        1,
    ),
    Mistake(
        "dropout scaling",
        ("dropout at inference", "1 / (1 - rate)", "inverted dropout"),
        "Frameworks scale in training what dropout keeps, and do nothing at inference.",
        _dropout,
        1,
    ),
    Mistake(
        "outputs scaled",
        ("sum or average", "outputs doubled"),
        "The outputs were scaled on their way, as a sum does that was meant to be an average.",
        _outputs,
        2,
    ),
    Mistake(
        "parameters scaled",
        ("scaled weights", "sqrt(hidden_size)", "weight normalisation"),
        "A tensor was multiplied by a factor on its way.",
        _scaled,
        2,
    ),
)
