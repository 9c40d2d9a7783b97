"""The numbers of layers of Flax and Equinox, read and set by the libraries' own means, in the orders of their sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import numpy as np


class Place(NamedTuple):
    """One array of a layer: how it is had and set."""

    get: Callable[[], Any]
    put: Callable[[Any], None]


def _in_order(parts: Any, names: str) -> list[Any]:
    return [parts[name] for name in names.split() if name in parts]


def _got(variable: Any) -> Any:
    """A variable's array, in Flax 0.12.1 and later, or before."""
    return variable.get_value() if hasattr(type(variable), "get_value") else variable.value


def _put(variable: Any, value: Any) -> None:
    if hasattr(type(variable), "set_value"):
        variable.set_value(value)
    else:
        variable.value = value


def _of_nnx(layer: Any) -> Iterator[Place]:
    """The parameters of a layer of Flax nnx, cell by cell."""
    for level in getattr(layer, "layers", [layer]):
        sides = [level.forward_rnn, level.backward_rnn] if hasattr(level, "forward_rnn") else [level]
        for one in (getattr(side, "cell", side) for side in sides):
            parts = vars(one) if hasattr(one, "hidden_features") else {"dense_i": one}
            for linear in _in_order(parts, "ii if_ ig io hi hf hg ho dense_i dense_h"):
                for variable in (linear.kernel, linear.bias):
                    if variable is not None:
                        yield Place(partial(_got, variable), partial(_put, variable))


def _of_linen(layer: Any) -> Iterator[Place]:
    """The same of Flax linen, from the variables."""
    params = layer[1]["params"]
    for level in _in_order(params, "layers_0 layers_1 layers_2") or [params]:
        for side in _in_order(level, "forward_rnn backward_rnn") or [level]:
            for linear in _in_order(side.get("cell", {"i": side}), "i h ii if ig io ir iz in hi hf hg ho hr hz hn"):
                for name in ("kernel", "bias"):
                    if name in linear:
                        yield Place(partial(linear.__getitem__, name), partial(linear.__setitem__, name))


def _of_equinox(layer: Any) -> Iterator[Place]:
    """The same of Equinox, whose cells are replaced in their lists."""
    import equinox

    def get(home: list[Any], at: int, name: str) -> Any:
        return getattr(home[at], name)

    def put(home: list[Any], at: int, name: str, value: Any) -> None:
        home[at] = equinox.tree_at(lambda cell: getattr(cell, name), home[at], value)

    for home in [level for level in layer if isinstance(level, list)] or [layer]:
        for at, cell in enumerate(home):
            for name in ("weight", "weight_ih", "weight_hh", "bias", "bias_n"):
                if getattr(cell, name, None) is not None:
                    yield Place(partial(get, home, at, name), partial(put, home, at, name))


PLACES: dict[str, Callable[[Any], Iterator[Place]]] = {
    "flax": _of_nnx,
    "flax-linen": _of_linen,
    "equinox": _of_equinox,
}


def numbers(framework: str, layer: Any) -> list[np.ndarray]:
    """Copies of a layer's arrays."""
    return [np.array(place.get()) for place in PLACES[framework](layer)]


def wide(dtype: str) -> AbstractContextManager[Any]:
    """JAX with float64, where that is needed."""
    import jax

    return jax.enable_x64(True) if dtype == "float64" else nullcontext()


def fill(framework: str, layer: Any, arrays: list[np.ndarray]) -> None:
    """Set a layer's arrays, in the order of `numbers`."""
    import jax.numpy as jnp

    for place, array in zip(PLACES[framework](layer), arrays, strict=True):
        with wide(array.dtype.name):
            place.put(jnp.asarray(array))
