"""Equinox: LSTMCell, GRUCell and Linear.

Equinox has cells and no layers: its users write the loop over time themselves (jax.lax.scan). A layer is here a list of cells,
``[cell]``, in a stack ``[cell, cell]``, and with directions ``[[forward, backward], [forward, backward]]``; the loop is the
adapter's, as Equinox's documentation writes it. Cells cannot be changed, so what is written to is the list.

Source: equinox/nn/_rnn.py and _linear.py, read and run at Equinox 0.13.8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

from xframe.adapters._jax import NO_OPTIONS, JaxAdapter, Slot, stacked
from xframe.adapters.base import check_dtype
from xframe.errors import UnsupportedError
from xframe.layout import ANY, Layout, Leaf, Packing, Tensor, gates
from xframe.spec import Dense, Layer, Recurrent

if TYPE_CHECKING:
    import numpy as np


def _row(order: str, layer: str, *extra: Tensor) -> Layout:
    return Layout(
        (
            Tensor("weight_ih", gates(0, "kernel", order, "transposed")),
            Tensor("weight_hh", gates(0, "recurrent_kernel", order, "transposed")),
            Tensor("bias", gates(0, "bias", order)),
            *extra,
        ),
        options={**NO_OPTIONS, "backward": ANY},
        layer=layer,
    )


EQUINOX = Packing(
    "equinox",
    "Equinox",
    {
        "lstm": _row("ifgo", "equinox.nn.LSTMCell"),
        "gru": _row("rzn", "equinox.nn.GRUCell", Tensor("bias_n", gates(0, "recurrent_bias", "n"))),
        "dense": Layout(
            (Tensor("weight", Leaf("kernel", "", "transposed")), Tensor("bias", Leaf("bias"))),
            layer="equinox.nn.Linear",
        ),
    },
)

PACKINGS = (EQUINOX,)

# The names of a cell's arrays, and its states in the order in which it takes and gives them.
_ARRAYS = {
    "lstm": ("weight_ih", "weight_hh", "bias"),
    "gru": ("weight_ih", "weight_hh", "bias", "bias_n"),
    "dense": ("weight", "bias"),
}
_STATES = ("h", "c")


class EquinoxAdapter(JaxAdapter):
    """Equinox's cells in lists, under a scan over time, vectorised over the batch. A bare cell is read and run too.

    Every cell of a list is its own: one object that stands in it twice is two cells once it has been written to.
    """

    packing = EQUINOX
    requires = ("equinox",)
    roots = ("equinox",)
    library = "equinox"
    masked = "its cells compute one step, and a scan over time goes through every step of every row"

    def __init__(self) -> None:
        super().__init__()
        nn = self._library.nn
        self._kinds = {nn.LSTMCell: "lstm", nn.GRUCell: "gru", nn.Linear: "dense"}
        self._scan = self._jax.jit(partial(_scanned, self._jax), static_argnums=(3, 4))
        self._apply = self._jax.jit(lambda linear, x: self._jax.vmap(linear)(x))

    def build(self, spec: Layer, dtype: str = "float32") -> list[Any]:
        """See `Adapter.build`. Initial weights are drawn from the key 0."""
        import numpy as np

        self.packing.layout(spec)
        with self._wide(check_dtype(dtype)):
            # A key is this many bits, whatever made it.
            bits = np.random.default_rng(0).integers(2**32, size=(len(list(spec.places)), 2), dtype=np.uint32)
            keys = iter(map(self._jnp.asarray, bits))
            kind = self._jnp.dtype(dtype)
            return self._listed(spec, lambda cell, sizes, bias: cell(*sizes, bias, kind, key=next(keys)))

    def blank(self, spec: Layer, dtype: str) -> list[Any]:
        import numpy as np

        self.packing.layout(spec)
        with self._wide(check_dtype(dtype)):

            def made(kind: Any, sizes: tuple[int, int], bias: bool) -> Any:
                shapes = self._library.filter_eval_shape(partial(kind, *sizes, bias), key=np.zeros(2, np.uint32))
                return self._jax.tree.map(lambda a: self._tensor(np.zeros(a.shape), dtype), shapes)

            return self._listed(spec, made)

    def _listed(self, spec: Layer, make: Callable[[Any, tuple[int, int], bool], Any]) -> list[Any]:
        """The list of a layer; ``make`` gives a cell of a class, its sizes, and whether it has biases."""
        classes = {name: kind for kind, name in self._kinds.items()}
        layer: list[Any] = [[] for _ in range(spec.num_layers)]
        for k, d in spec.places:
            part = spec.part(d, k)
            sizes = (spec.layer_input_size(k, d), part.hidden_size)
            layer[k].append(make(classes[part.cell], sizes, part.bias))
        return [cells if spec.num_directions > 1 else cells[0] for cells in layer]

    def clone(self, layer: Any, dtype: str) -> list[Any]:
        self._spec(layer)
        with self._wide(check_dtype(dtype)):
            return self._jax.tree.map(lambda a: self._tensor(a, dtype), self._as_lists(layer))

    def _as_lists(self, layer: Any) -> list[Any]:
        """The same cells in lists of their own."""
        return [list(level) if isinstance(level, list | tuple) else level for level in _levels(layer)]

    # ---- What a layer is.

    def _spec(self, layer: Any) -> Layer:
        levels = _levels(layer)
        cells = [list(level) if isinstance(level, list | tuple) else [level] for level in levels]
        specs = [[self._cell_spec(cell) for cell in level] for level in cells]
        if not specs or not all(1 <= len(level) <= 2 for level in specs):
            raise UnsupportedError(
                "A layer of Equinox is a list of cells, or of lists of two cells, forward and backward; this one is not."
            )
        found = [one for level in specs for one in level]
        if len(found) == 1:
            return found[0]
        if any(isinstance(one, Dense) for one in found):
            raise UnsupportedError("equinox.nn.Linear is a layer by itself; give it in a list of its own.")
        return stacked(specs, "this list of cells")  # type: ignore[arg-type]

    def _cell_spec(self, cell: Any) -> Layer:
        kind = self._kinds.get(type(cell))
        if kind is None:
            module = type(cell).__module__
            called = "equinox.nn" if module.startswith("equinox.nn.") else module
            known = ", ".join(f"equinox.nn.{one.__name__}" for one in self._kinds)
            raise UnsupportedError(
                f"Equinox's {called}.{type(cell).__qualname__} is not modelled; give a list of {known}."
            )
        if kind == "dense":
            if "scalar" in (cell.in_features, cell.out_features):
                raise UnsupportedError("equinox.nn.Linear of a scalar is not modelled; give it one feature instead.")
            return Dense(cell.in_features, cell.out_features, cell.use_bias)
        return Recurrent(kind, cell.input_size, cell.hidden_size, bias=cell.use_bias)

    def _slots(self, layer: Any) -> Iterator[tuple[int, int, str, Slot]]:
        levels = _levels(layer)
        for k, level in enumerate(levels):
            home, where = (level, range(len(level))) if isinstance(level, list | tuple) else (levels, [k])
            for d, at in enumerate(where):
                for name in _ARRAYS[self._kinds[type(home[at])]]:
                    if getattr(home[at], name) is not None:
                        yield k, d, name, Slot(partial(_get, home, at, name), partial(self._put, home, at, name))

    def _put(self, home: Any, at: int, name: str, value: Any) -> None:
        home[at] = self._library.tree_at(lambda cell: getattr(cell, name), home[at], value)

    def write(self, layer: Any, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
        """See `Adapter.write`. Cells are immutable: those in the list are replaced."""
        self._spec(layer)
        if not isinstance(layer, list) or any(isinstance(level, tuple) for level in layer):
            raise UnsupportedError(
                f"A {type(layer).__name__} of Equinox cannot be written to, because nothing in it can be replaced; put the cell "
                "into a list, [cell], write to that, and take the new cell out of it."
            )
        super().write(layer, arrays)

    # ---- Running.

    def _level(
        self, layer: Any, spec: Recurrent, k: int, x: Any, carries: list[tuple[Any, ...]]
    ) -> tuple[Any, list[tuple[Any, ...]]]:
        level = _levels(layer)[k]
        cells = level if isinstance(level, list | tuple) else [level]
        outs, ends = [], []
        for d, (cell, begin) in enumerate(zip(cells, carries, strict=True)):
            order = self._order(spec.part(d, k), _STATES)
            end, out = self._scan(cell, x, tuple(begin[i] for i in order), d == 1, len(order) > 1)
            outs.append(out)
            ends.append(tuple(end[order.index(i)] for i in range(len(order))))
        return outs[0] if len(outs) == 1 else self._jnp.concatenate(outs, axis=-1), ends

    def _dense(self, layer: Any, x: Any) -> Any:
        return self._apply(_levels(layer)[0], x)

    # ---- Models, and what names mean.

    def layers(self, model: Any) -> Iterator[tuple[str, Any]]:
        try:
            self._spec(model)
        except UnsupportedError:
            yield from self._walk(model, "")
        else:
            yield "", model

    def _walk(self, thing: Any, path: str) -> Iterator[tuple[str, Any]]:
        if type(thing) in self._kinds:
            yield path, thing
        elif isinstance(thing, list | tuple):
            for i, one in enumerate(thing):
                yield from self._walk(one, f"{path}[{i}]")
        elif isinstance(thing, dict):
            for key, one in thing.items():
                yield from self._walk(one, f"{path}[{key!r}]")
        elif isinstance(thing, self._library.Module):
            if self.tensors(thing):
                yield path, thing
            for field in fields(thing):
                yield from self._walk(getattr(thing, field.name), f"{path}.{field.name}".lstrip("."))

    def tensors(self, layer: Any) -> Mapping[str, Callable[[], np.ndarray]]:
        if isinstance(layer, list | tuple):
            return {name: partial(self._array, slot.get()) for name, slot in self._named(layer).items()}
        own = {field.name: getattr(layer, field.name) for field in fields(layer)}
        return {
            name: partial(self._array, value) for name, value in own.items() if self._library.is_inexact_array(value)
        }

    def plain_layers(self) -> Mapping[str, Any]:
        import numpy as np

        key = np.zeros(2, np.uint32)
        return {f"equinox.nn.{kind.__name__}": [kind(3, 2, key=key)] for kind in self._kinds}

    def functions(self) -> Mapping[str, Callable[[np.ndarray], np.ndarray]]:
        """Those that its cells have."""
        return {name: function for name, function in super().functions().items() if name in ("tanh", "sigmoid")}


def _levels(layer: Any) -> Any:
    """The cells of each layer, in the list that holds them; a bare cell is a list of one."""
    return layer if isinstance(layer, list | tuple) else [layer]


def _get(home: Any, at: int, name: str) -> Any:
    return getattr(home[at], name)


def _scanned(
    jax: Any, cell: Any, x: Any, begin: tuple[Any, ...], backwards: bool, several: bool
) -> tuple[tuple[Any, ...], Any]:
    """A cell over time: x (batch, time, features), states (batch, size); the final states, and h (batch, time, size).

    Backwards, it reads the last step first; what it makes of a step still stands where the step does.
    """

    def row(steps: Any, first: tuple[Any, ...]) -> Any:
        def step(held: tuple[Any, ...], now: Any) -> Any:
            after = cell(now, held if several else held[0])
            after = after if several else (after,)
            return after, after[0]

        return jax.lax.scan(step, first, steps, reverse=backwards)

    return jax.vmap(row)(x, begin)
