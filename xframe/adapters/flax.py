"""Flax: nnx.RNN, nnx.Bidirectional and nnx.Linear; their namesakes in linen; and linen's cells under nnx.RNN.

Source: flax/nnx/nn/recurrent.py and linear.py, flax/linen/recurrent.py, flax/nnx/bridge/wrappers.py, read and run at Flax 0.12.8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import MISSING, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from xframe.adapters._flax import FlaxBase, Side, title_of, value_of
from xframe.adapters._jax import FUNCTIONS, NO_OPTIONS, PARTIAL, Slot, initial_type
from xframe.adapters.base import first_of
from xframe.errors import SpecError, UnsupportedError
from xframe.layout import ANY, Layout, Leaf, Packing, Tensor, gates
from xframe.spec import Dense, Layer, Recurrent

if TYPE_CHECKING:
    import numpy as np

_FUNCTIONS = (*FUNCTIONS, *PARTIAL)
_RNN: dict[str, tuple[Any, ...]] = {
    **NO_OPTIONS,
    "bias": (True,),
    "go_backwards": ANY,
    "backward": ANY,
    "activation": _FUNCTIONS,
}
_GATED = {**_RNN, "recurrent_activation": _FUNCTIONS}


def _dense_per_gate(order: str, layer: str, input_bias: str, recurrent_bias: str, names: dict[str, str]) -> Layout:
    """One Dense per gate and side, ``i`` + gate and ``h`` + gate; the gates listed have a bias on that side."""
    tensors = []
    for side, role, bias, with_bias in (
        ("i", "kernel", "bias", input_bias),
        ("h", "recurrent_kernel", "recurrent_bias", recurrent_bias),
    ):
        for gate in order:
            name = names.get(side + gate, side + gate)
            tensors.append(Tensor(f"{name}/kernel", Leaf(role, gate)))
            if gate in with_bias:
                tensors.append(Tensor(f"{name}/bias", Leaf(bias, gate)))
    return Layout(tuple(tensors), options=_GATED, layer=layer)


def _simple(inner: str, outer: str, layer: str) -> Layout:
    return Layout(
        (
            Tensor(f"{inner}/kernel", gates(1, "kernel", "h")),
            Tensor(f"{inner}/bias", gates(0, "bias", "h")),
            Tensor(f"{outer}/kernel", gates(1, "recurrent_kernel", "h")),
        ),
        options=_RNN,
        layer=layer,
    )


def _dense(layer: str) -> Layout:
    return Layout((Tensor("kernel", Leaf("kernel")), Tensor("bias", Leaf("bias"))), layer=layer)


class _FlaxPacking(Packing):
    """Flax's tables; what no single option rules out is ruled out here."""

    def layout(self, spec: Any) -> Layout:
        row = super().layout(spec)
        if getattr(spec, "go_backwards", False) and spec.bidirectional:
            raise UnsupportedError(
                f"{self.title} has no Bidirectional with go_backwards=True, because it sets the directions of both its layers."
            )
        return row


NNX = _FlaxPacking(
    "flax",
    "Flax nnx",
    {
        "rnn": _simple("dense_i", "dense_h", "flax.nnx.SimpleCell"),
        # nnx calls the forget gate's input side if_, because `if` is a word of the language.
        "lstm": _dense_per_gate("ifgo", "flax.nnx.LSTMCell", "", "ifgo", {"if": "if_"}),
        "gru": Layout(
            (
                Tensor("dense_i/kernel", gates(1, "kernel", "rzn")),
                Tensor("dense_i/bias", gates(0, "bias", "rzn")),
                Tensor("dense_h/kernel", gates(1, "recurrent_kernel", "rzn")),
            ),
            options=_GATED,
            layer="flax.nnx.GRUCell",
            instead="flax.linen.GRUCell has one (the adapter flax-linen), or set it to zero",
            notes={
                "dense_i/bias": "It has no recurrent bias in the candidate, so a GRU in which that is not zero does not "
                "fit: it computes a smaller family of functions.",
            },
        ),
        "dense": _dense("flax.nnx.Linear"),
    },
)
# The same function as LSTMCell, and the same names of gates in one kernel.
_OPTIMIZED = replace(
    NNX,
    rows={
        **NNX.rows,
        "lstm": Layout(
            (
                Tensor("dense_i/kernel", gates(1, "kernel", "ifgo")),
                Tensor("dense_h/kernel", gates(1, "recurrent_kernel", "ifgo")),
                Tensor("dense_h/bias", gates(0, "bias", "ifgo")),
            ),
            options=_GATED,
            layer="flax.nnx.OptimizedLSTMCell",
        ),
    },
)

LINEN = _FlaxPacking(
    "flax-linen",
    "Flax linen",
    {
        "rnn": _simple("i", "h", "flax.linen.SimpleCell"),
        "lstm": _dense_per_gate("ifgo", "flax.linen.LSTMCell", "", "ifgo", {}),
        "gru": _dense_per_gate("rzn", "flax.linen.GRUCell", "rzn", "n", {}),
        "dense": _dense("flax.linen.Dense"),
    },
)

PACKINGS = (NNX, LINEN)


class FlaxAdapter(FlaxBase):
    """Flax nnx: cells under nnx.RNN and nnx.Bidirectional, stacks of them in nnx.Sequential or in a list, and nnx.Linear.

    `build` takes LSTMCell; OptimizedLSTMCell, which packs all gates in one kernel, is understood, too.
    """

    packing = NNX
    home = "flax.nnx"

    def __init__(self) -> None:
        super().__init__()
        nnx = self._nnx
        self._kinds = {
            nnx.SimpleCell: "rnn",
            nnx.LSTMCell: "lstm",
            nnx.OptimizedLSTMCell: "lstm",
            nnx.GRUCell: "gru",
        }
        self._promote = self._import("flax.nnx.nn.dtypes").promote_dtype
        self._apply = self._jax.jit(lambda graphdef, state, x: nnx.merge(graphdef, state)(x), static_argnums=0)

    @classmethod
    def owns(cls, layer: object) -> bool:
        return super().owns(layer) and not _is_linen(layer)

    def build(self, spec: Layer, dtype: str = "float32") -> Any:
        """See `Adapter.build`. Initial weights are drawn from the key 0; those of 16 bits are rounded from float32."""
        self.packing.layout(spec)
        with self._wide(initial := initial_type(dtype)):
            layer = self._made(spec, self._drawn(initial))
        return layer if initial == dtype else self.clone(layer, dtype)

    def blank(self, spec: Layer, dtype: str) -> Any:
        self.packing.layout(spec)
        with self._wide(initial_type(dtype)):
            return self._made(spec, self._drawn(dtype) | self._blanks())

    def _made(self, spec: Layer, options: dict[str, Any]) -> Any:
        nnx, options = self._nnx, options | {"rngs": self._nnx.Rngs(0)}
        if isinstance(spec, Dense):
            options.pop("recurrent_kernel_init", None)
            return nnx.Linear(spec.input_size, spec.units, use_bias=spec.bias, **options)
        classes = {"rnn": nnx.SimpleCell, "lstm": nnx.LSTMCell, "gru": nnx.GRUCell}
        levels = []
        for k in range(spec.num_layers):
            rnns = []
            for d in range(spec.num_directions):
                part, size = spec.part(d, k), spec.layer_input_size(k, d)
                cell = classes[part.cell](size, part.hidden_size, **self._chosen(part), **options)
                rnns.append(nnx.RNN(cell, reverse=spec.go_backwards))
            levels.append(nnx.Bidirectional(*rnns) if spec.bidirectional else rnns[0])
        return levels[0] if len(levels) == 1 else nnx.Sequential(*levels)

    def clone(self, layer: Any, dtype: str) -> Any:
        self._spec(layer)
        with self._wide(initial_type(dtype)):
            twin = (
                [self._nnx.clone(one) for one in layer] if isinstance(layer, list | tuple) else self._nnx.clone(layer)
            )
            for level in self._nnx_levels(twin):
                self._retype(level, dtype)
        return twin

    def packing_of(self, layer: Any) -> Packing:
        if type(layer) is self._nnx.Linear:
            return self.packing
        cells = {type(side.cell) for level in self._nnx_levels(layer) for side in self._nnx_sides(level)}
        return _OPTIMIZED if self._nnx.OptimizedLSTMCell in cells else self.packing

    # ---- What a layer is.

    def _spec(self, layer: Any) -> Layer:
        if type(layer) is self._nnx.Linear:
            self._check_linear(layer)
            return Dense(layer.in_features, layer.out_features, layer.use_bias)
        levels = self._nnx_levels(layer)
        sides = [self._nnx_sides(level) for level in levels]
        cells = {type(side.cell) for level in sides for side in level}
        if len(cells & {self._nnx.LSTMCell, self._nnx.OptimizedLSTMCell}) > 1:
            raise UnsupportedError(
                "flax.nnx.LSTMCell beside flax.nnx.OptimizedLSTMCell in one layer is not modelled; use one of them throughout."
            )
        spec = self._assembled(levels, sides, f"this layer of {self.title}")
        self._check_apart(sides)
        return spec

    def _cell_spec(self, side: Side) -> Recurrent:
        cell = side.cell
        kind = self._kinds.get(type(cell))
        if kind is None:
            known = ", ".join(f"flax.nnx.{one.__name__}" for one in self._kinds)
            raise UnsupportedError(f"flax.nnx.RNN of {title_of(type(cell))} is not modelled; the cells are {known}.")
        for name in vars(cell):
            if isinstance(one := getattr(cell, name), self._nnx.Module) and name != "rngs":
                self._check_linear(one)
        options: dict[str, Any] = self._functions_of(kind, cell)
        return Recurrent(kind, cell.in_features, cell.hidden_features, **options)

    def _check_linear(self, linear: Any) -> None:
        """Refuse a Linear that computes something else, alone or inside a cell."""
        if type(linear) is not self._nnx.Linear:
            raise self._refused(linear, "flax.nnx.RNN, Bidirectional and Linear")
        lax = self._jax.lax
        for name, plain in {
            "promote_dtype": (self._promote,),
            "dot_general": (lax.dot_general,),
            "preferred_element_type": (None,),
            "precision": (None, *lax.Precision),
        }.items():
            if getattr(linear, name, plain[0]) not in plain:
                raise UnsupportedError(f"flax.nnx.Linear with {name} of its own is not modelled; leave it out.")

    def _slots(self, layer: Any) -> Iterator[tuple[int, int, str, Slot]]:
        if type(layer) is self._nnx.Linear:
            yield from ((0, 0, name, slot) for name, slot in self._variable_slots(layer).items())
        else:
            yield from super()._slots(layer)

    def _declared(self, layer: Any) -> Iterator[Any]:
        dense = type(layer) is self._nnx.Linear
        for root in [layer] if dense else [s.cell for one in self._nnx_levels(layer) for s in self._nnx_sides(one)]:
            for _, module in self._nnx.iter_graph(root):
                if isinstance(module, self._nnx.Module) and hasattr(module, "param_dtype"):
                    yield from (module.dtype, module.param_dtype)

    # ---- Running.

    def _levels(self, layer: Any) -> list[Any]:
        return self._nnx_levels(layer)

    def _sides(self, level: Any) -> list[Side]:
        return self._nnx_sides(level)

    def _called(self, level: Any, x: Any, carry: Any) -> Any:
        return self._call_nnx(*self._nnx.split(level), x, carry)

    def _dense(self, layer: Any, x: Any) -> Any:
        return self._apply(*self._nnx.split(layer), x)

    # ---- Models, and what names mean.

    def layers(self, model: Any) -> Iterator[tuple[str, Any]]:
        try:
            self._spec(model)
        except UnsupportedError:
            yield from self._walk(model, "")
        else:
            yield "", model

    def _walk(self, module: Any, path: str) -> Iterator[tuple[str, Any]]:
        if isinstance(module, list | tuple):
            children = {str(i): one for i, one in enumerate(module)}
        else:
            found = self._nnx.iter_children(module)
            children = {str(name): one for name, one in found if isinstance(one, self._nnx.Module)}
            if self.tensors(module):
                yield path, module
        for name, one in children.items():
            below = f"{path}/{name}".lstrip("/")
            try:
                self._spec(one)
            except UnsupportedError:
                yield from self._walk(one, below)
            else:
                yield below, one

    def tensors(self, layer: Any) -> Mapping[str, Callable[[], np.ndarray]]:
        if isinstance(layer, list | tuple):
            found = {f"{i}/{name}": v for i, one in enumerate(layer) for name, v in self._variables(one).items()}
        else:
            found = {name: v for name, v in self._variables(layer).items() if "/" not in name or self._whole(layer)}
        return {name: partial(self._array, value_of(v)) for name, v in found.items()}

    def _whole(self, layer: Any) -> bool:
        return type(layer) in (self._nnx.RNN, self._nnx.Bidirectional, *self._kinds)

    def plain_layers(self) -> Mapping[str, Any]:
        nnx = self._nnx
        found = {f"flax.nnx.{k.__name__}": nnx.RNN(k(3, 2, rngs=nnx.Rngs(0), **self._blanks())) for k in self._kinds}
        return found | {"flax.nnx.Linear": nnx.Linear(3, 2, rngs=nnx.Rngs(0))}


class _Level(NamedTuple):
    """One level of a layer of linen: its module, the part of the variables that is its own, and where that is."""

    module: Any
    tree: Any
    path: str

    @property
    def time_major(self) -> bool:
        return bool(self.module.time_major)


# Where each cell of linen shows how many features it reads.
_READER = {"rnn": "i/kernel", "lstm": "ii/kernel", "gru": "ir/kernel"}


class LinenAdapter(FlaxBase):
    """Flax linen. A module has no weights, so a layer is ``(module, variables)``, as `init` and `apply` have them.

    The module is linen.RNN, linen.Bidirectional, a linen.Sequential of either, or linen.Dense; a stack may also be a list of such
    pairs. `write` puts new arrays into the dictionaries of the variables. A bound module (``module.bind(variables)``) can be
    read and run. So can linen's cells under nnx.RNN, by flax.nnx.bridge.ToNNX, and written to.
    """

    packing = LINEN
    home = "flax.linen"

    def __init__(self) -> None:
        super().__init__()
        linen = self._linen
        self._kinds = {
            linen.SimpleCell: "rnn",
            linen.LSTMCell: "lstm",
            linen.OptimizedLSTMCell: "lstm",
            linen.GRUCell: "gru",
        }
        self._bridge = self._import("flax.nnx.bridge").ToNNX
        self._call = self._jax.jit(self._called_linen, static_argnums=0)
        self._apply = self._jax.jit(lambda module, variables, x: module.apply(variables, x), static_argnums=0)

    @classmethod
    def owns(cls, layer: object) -> bool:
        return super().owns(layer) and _is_linen(layer)

    def build(self, spec: Layer, dtype: str = "float32") -> tuple[Any, dict[str, Any]]:
        """See `Adapter.build`. Initial weights are drawn from the key 0; those of 16 bits are rounded from float32."""
        self.packing.layout(spec)
        with self._wide(initial := initial_type(dtype)):
            levels = self._made(spec, initial)
            layer = self._paired(levels, [self._first(spec, k, one, initial) for k, one in enumerate(levels)])
        return layer if initial == dtype else self.clone(layer, dtype)

    def _first(self, spec: Layer, k: int, module: Any, dtype: str) -> dict[str, Any]:
        """The initial weights of a level. They are drawn cell by cell, without compiling a loop over time."""
        import numpy as np

        x, keys = self._tensor(np.zeros((1, spec.layer_input_size(k))), dtype), self._jax.random.key(k)
        if isinstance(spec, Dense):
            return dict(module.init(keys, x)["params"])
        found = {}
        for d, name in enumerate(("forward_rnn", "backward_rnn")[: spec.num_directions]):
            part, cell = spec.part(d, k), (getattr(module, name) if spec.bidirectional else module).cell
            h = self._tensor(np.zeros((1, part.hidden_size)), dtype)
            key = self._jax.random.fold_in(keys, d)
            found[name] = {"cell": cell.init(key, (h, h) if part.cell == "lstm" else h, x)["params"]}
        return found if spec.bidirectional else found["forward_rnn"]

    def blank(self, spec: Layer, dtype: str) -> tuple[Any, dict[str, Any]]:
        import numpy as np

        self.packing.layout(spec)
        with self._wide(initial_type(dtype)):
            levels = self._made(spec, dtype)
            trees: list[dict[str, Any]] = [{} for _ in levels]
            for native in self.packing.natives(spec):
                *above, name = native.name.split("/")[-2:]
                side = ["backward_rnn" if native.leaves[0].direction else "forward_rnn"]
                path = above and [*(side if spec.num_directions > 1 else []), "cell", *above]
                home = trees[native.layer]
                for step in path:
                    home = home.setdefault(step, {})
                home[name] = self._tensor(np.zeros(native.shape), dtype)
            return self._paired(levels, trees)

    def _made(self, spec: Layer, dtype: str) -> list[Any]:
        """The modules of the levels."""
        linen, kind = self._linen, self._drawn(dtype)
        if isinstance(spec, Dense):
            return [linen.Dense(spec.units, use_bias=spec.bias, **kind)]
        classes = {"rnn": linen.SimpleCell, "lstm": linen.LSTMCell, "gru": linen.GRUCell}
        levels = []
        for k in range(spec.num_layers):
            parts = [spec.part(d, k) for d in range(spec.num_directions)]
            cells = [classes[one.cell](one.hidden_size, **self._chosen(one), **kind) for one in parts]
            rnns = [linen.RNN(cell, reverse=spec.go_backwards) for cell in cells]
            levels.append(linen.Bidirectional(*rnns) if spec.bidirectional else rnns[0])
        return levels

    def _paired(self, levels: list[Any], trees: list[Any]) -> tuple[Any, dict[str, Any]]:
        if len(levels) == 1:
            return levels[0], {"params": trees[0]}
        return self._linen.Sequential(levels), {"params": {f"layers_{k}": tree for k, tree in enumerate(trees)}}

    def clone(self, layer: Any, dtype: str) -> Any:
        self._spec(layer)
        with self._wide(initial_type(dtype)):
            if self._bridged(layer):
                return self._cloned_bridge(layer, dtype)
            convert = partial(self._tensor, dtype=dtype)
            twins = [
                (self._retyped(module, dtype), self._jax.tree.map(convert, _thawed(variables)))
                for module, variables in self._pairs(layer)
            ]
        return twins if isinstance(layer, list) else twins[0]

    def _retyped(self, module: Any, dtype: str) -> Any:
        """A module that stores and computes in another float type."""
        kind, changes = getattr(self._jnp, dtype), dict[str, Any]()
        if hasattr(module, "param_dtype"):
            changes = {"param_dtype": kind, "dtype": kind if module.dtype is not None else None}
        for name in ("cell", "forward_rnn", "backward_rnn"):
            if hasattr(module, name):
                changes[name] = self._retyped(getattr(module, name), dtype)
        if hasattr(module, "layers"):
            changes["layers"] = [self._retyped(one, dtype) for one in module.layers]
        return module.clone(**changes)

    def _cloned_bridge(self, layer: Any, dtype: str) -> Any:
        several = isinstance(layer, list | tuple)
        twin = [self._nnx.clone(one) for one in layer] if several else self._nnx.clone(layer)
        for level in self._nnx_levels(twin):
            self._retype(level, dtype)
            for side in self._nnx_sides(level):
                side.cell.to_nnx__module = self._retyped(side.cell.to_nnx__module, dtype)
        return twin

    # ---- What a layer is.

    def _bridged(self, layer: Any) -> bool:
        """Whether this is a layer of nnx, with cells of linen in it."""
        return isinstance(first_of(layer), self._nnx.Module)

    def _pairs(self, layer: Any) -> list[tuple[Any, Any]]:
        """The modules of a layer, each with its variables."""
        if isinstance(layer, self._linen.Module):
            if layer.scope is None:
                raise SpecError(
                    f"{title_of(type(layer))} has no weights of its own; give (module, variables), as for its apply."
                )
            return [tuple(layer.unbind())]
        if len(layer) == 2 and isinstance(layer[0], self._linen.Module) and isinstance(layer[1], Mapping):
            return [(layer[0], layer[1])]
        if all(isinstance(one, list | tuple) and len(one) == 2 for one in layer):
            return [pair for one in layer for pair in self._pairs(one)]
        raise UnsupportedError(
            "A layer of Flax linen is (module, variables), or a list of such pairs; this is a "
            f"{type(layer).__name__} of {len(layer)} other things."
        )

    def _levels(self, layer: Any) -> list[Any]:
        if self._bridged(layer):
            return self._nnx_levels(layer)
        found = []
        for i, (module, variables) in enumerate(self._pairs(layer)):
            tree, path = variables.get("params", {}), f"{i}:params/"
            if type(module) is self._linen.Sequential:
                names = [f"layers_{k}" for k in range(len(module.layers))]
                each = zip(names, module.layers, strict=True)
                found += [_Level(one, tree.get(name, {}), f"{path}{name}/") for name, one in each]
            else:
                found.append(_Level(module, tree, path))
        return found

    def _sides(self, level: Any) -> list[Side]:
        if not isinstance(level, _Level):
            return self._nnx_sides(level)
        linen, module = self._linen, level.module
        known = "flax.linen.RNN, Bidirectional, Dense, and Sequential of RNNs alone or Bidirectionals alone"
        if type(module) is linen.RNN:
            rnns = {"": module}
        elif type(module) is linen.Bidirectional:
            self._check_merge(module, linen.Bidirectional.merge_fn)
            rnns = {name: getattr(module, name) for name in ("forward_rnn", "backward_rnn")}
        else:
            raise self._refused(module, known)
        found = []
        for name, rnn in rnns.items():
            if type(rnn) is not linen.RNN:
                raise self._refused(rnn, known)
            _check_fields(rnn, "cell time_major return_carry reverse keep_order unroll split_rngs")
            tree = level.tree.get(name, {}) if name else level.tree
            path = f"{level.path}{name}/cell/" if name else f"{level.path}cell/"
            found.append(Side(rnn, rnn.cell, dict(_leaves(tree.get("cell", {}), path))))
        if len({id(side.cell) for side in found}) < len(found):
            raise UnsupportedError(
                "flax.linen.Bidirectional with one cell in both directions is not modelled; give each direction its own."
            )
        return found

    def _spec(self, layer: Any) -> Layer:
        levels = self._levels(layer)
        if not self._bridged(layer) and len(levels) == 1 and type(levels[0].module) is self._linen.Dense:
            return self._dense_spec(levels[0])
        sides = [self._sides(level) for level in levels]
        spec = self._assembled(levels, sides, f"this layer of {self.title}")
        if self._bridged(layer):
            self._check_apart(sides)
        return spec

    def _dense_spec(self, level: _Level) -> Dense:
        module = level.module
        _check_fields(module, "features use_bias dtype param_dtype")
        if "kernel" not in level.tree:
            raise SpecError("The variables of flax.linen.Dense have no kernel; give those that its init returns.")
        return Dense(level.tree["kernel"].shape[0], module.features, module.use_bias)

    def _cell_spec(self, side: Side) -> Recurrent:
        cell = side.cell
        if isinstance(cell, self._bridge):
            if type(cell).__call__ is not self._bridge.__call__:
                raise self._refused(cell, "flax.nnx.RNN of a ToNNX that has no __call__ of its own")
            cell = cell.to_nnx__module
        kind = self._kinds.get(type(cell))
        if kind is None:
            known = ", ".join(f"flax.linen.{one.__name__}" for one in self._kinds)
            raise UnsupportedError(f"flax.linen.RNN of {title_of(type(cell))} is not modelled; the cells are {known}.")
        _check_fields(cell, "features gate_fn activation_fn dtype param_dtype carry_init residual")
        if _READER[kind] not in side.slots:
            raise SpecError(
                f"The variables have no {_READER[kind]} for {title_of(type(cell))}; give those that the module's init returns."
            )
        options: dict[str, Any] = self._functions_of(kind, cell)
        return Recurrent(kind, side.slots[_READER[kind]].get().shape[0], cell.features, **options)

    def _slots(self, layer: Any) -> Iterator[tuple[int, int, str, Slot]]:
        """See `JaxAdapter._slots`; what belongs to no cell is there too, so that nothing is passed over."""
        if self._bridged(layer):
            yield from super()._slots(layer)
            return
        levels, used = self._levels(layer), set()
        if type(levels[0].module) is self._linen.Dense:
            found = [(0, 0, name, slot) for name, slot in _leaves(levels[0].tree, levels[0].path)]
        else:
            found = list(super()._slots(layer))
        for one in found:
            used.add(one[3].home)
            yield one
        for i, (_, variables) in enumerate(self._pairs(layer)):
            yield from ((0, 0, name, slot) for name, slot in _leaves(variables, f"{i}:") if slot.home not in used)

    def _declared(self, layer: Any) -> Iterator[Any]:
        for level in self._levels(layer):
            dense = isinstance(level, _Level) and type(level.module) is self._linen.Dense
            for one in [level.module] if dense else [side.cell for side in self._sides(level)]:
                module = getattr(one, "to_nnx__module", one)
                yield from (module.dtype, module.param_dtype)

    def write(self, layer: Any, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
        """See `Adapter.write`: new arrays in the dictionaries of the variables, which are changed in place."""
        if isinstance(layer, self._linen.Module):
            raise UnsupportedError(
                f"A bound {title_of(type(layer))} cannot be written to; write to (module, variables), as its unbind returns them."
            )
        for _, variables in [] if self._bridged(layer) else self._pairs(layer):
            if not isinstance(variables, MutableMapping):
                raise UnsupportedError(
                    f"Variables in a {type(variables).__name__} cannot be written to; give flax.core.unfreeze(variables)."
                )
        super().write(layer, arrays)

    # ---- Running.

    def _called_linen(self, module: Any, variables: Any, x: Any, carry: Any) -> Any:
        return module.apply(variables, x, initial_carry=carry, return_carry=True)

    def _called(self, level: Any, x: Any, carry: Any) -> Any:
        if not isinstance(level, _Level):
            return self._call_nnx(*self._nnx.split(level), x, carry)
        return self._call(_hashable(level.module), {"params": level.tree}, x, carry)

    def _dense(self, layer: Any, x: Any) -> Any:
        level = self._levels(layer)[0]
        return self._apply(level.module, {"params": level.tree}, x)

    # ---- Models, and what names mean.

    def layers(self, model: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(model, list) and not self._bridged(model):
            try:
                self._spec(model)
            except UnsupportedError:
                yield from ((str(k), pair) for k, pair in enumerate(self._pairs(model)))
                return
        yield "", model

    def tensors(self, layer: Any) -> Mapping[str, Callable[[], np.ndarray]]:
        if self._bridged(layer):
            found = {n: s for k, one in enumerate(self._nnx_levels(layer)) for n, s in self._level_slots(k, one)}
        else:
            found = dict(one for _, variables in self._pairs(layer) for one in _leaves(variables, ""))
        return {name: partial(self._array, slot.get()) for name, slot in found.items()}

    def _level_slots(self, k: int, module: Any) -> Iterator[tuple[str, Slot]]:
        yield from ((f"{k}/{name}", slot) for name, slot in self._variable_slots(module).items())

    def plain_layers(self) -> Mapping[str, Any]:
        linen, x = self._linen, self._jnp.zeros((1, 1, 3), "float32")
        modules = {f"flax.linen.{kind.__name__}": linen.RNN(kind(2)) for kind in self._kinds}
        modules["flax.linen.Dense"] = linen.Dense(2)
        return {name: (one, one.init(self._jax.random.key(0), x)) for name, one in modules.items()}


def _leaves(tree: Any, home: str, path: str = "") -> Iterator[tuple[str, Slot]]:
    """Every array of nested dictionaries by its path in them; ``home`` is where these are."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, home, f"{path}{key}/")
        else:
            name = f"{path}{key}"
            yield name, Slot(partial(tree.__getitem__, key), partial(_set, tree, key), f"{home}{name}")


def _set(tree: Any, key: str, value: Any) -> None:
    tree[key] = value


def _thawed(tree: Any) -> dict[str, Any]:
    """Dictionaries of one's own with the same arrays."""
    return {key: _thawed(value) if isinstance(value, Mapping) else value for key, value in tree.items()}


def _check_fields(module: Any, known: str) -> None:
    """Refuse an option of a module of linen that is neither known here nor at its default; how weights begin is free."""
    for field in fields(module):
        name, value = field.name, getattr(module, field.name)
        if name in (*known.split(), "parent", "name") or name.endswith("_init"):
            continue
        default = field.default if field.default is not MISSING else None
        if value is not default and value != default:
            raise UnsupportedError(f"{title_of(type(module))} with {name} of its own is not modelled; leave it out.")


def _hashable(module: Any) -> Any:
    """A module that JAX can know again: linen's documentation gives options as dictionaries, which cannot be hashed."""
    changes: dict[str, Any] = {}
    for field in fields(module):
        value = getattr(module, field.name)
        if field.name in ("variable_axes", "split_rngs"):
            changes[field.name] = field.default
        elif field.name in ("forward_rnn", "backward_rnn"):
            changes[field.name] = _hashable(value)
    return module.clone(**changes)


def _is_linen(layer: object) -> bool:
    """Whether a layer is of linen, or of linen's cells under nnx; nothing is imported for it."""
    first: Any = first_of(layer)
    for inner in ("layers", "forward_rnn", "cell"):
        if type(first).__module__.startswith("flax.nnx.") and (one := getattr(first, inner, None)) is not None:
            first = one[0] if inner == "layers" and len(one) else one
    return any(c.__module__.startswith(("flax.linen.", "flax.nnx.bridge.")) for c in type(first).__mro__)
