"""What nnx and linen share: RNN and Bidirectional, which have the same options in both, and how their layers are run.

nnx's RNN is here too, because it runs cells of either library.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from xframe.adapters._jax import JaxAdapter, Slot, stacked
from xframe.errors import UnsupportedError
from xframe.spec import Recurrent

__all__ = ["FlaxBase", "Side", "title_of", "value_of"]

# The names of a cell's states in the order in which it carries them.
_STATES = ("c", "h")


class Side(NamedTuple):
    """One direction of one level: the RNN of it, the cell that this runs, and where that keeps its arrays, by their names."""

    rnn: Any
    cell: Any
    slots: Mapping[str, Slot]


class FlaxBase(JaxAdapter):
    """What nnx and linen have in common: RNN and Bidirectional, with the same options, over cells of the same names."""

    extra = "flax"
    requires = ("flax",)
    roots = ("flax",)
    library = "flax"
    masked = (
        "its RNN, given seq_lengths, hands back the right carry, but puts out at a padded step whatever its cell makes of the "
        "padding, neither zeros nor the output before"
    )
    # How people write the module of this library.
    home: str

    def __init__(self) -> None:
        super().__init__()
        self._nnx = self._import("flax.nnx")
        self._linen = self._import("flax.linen")
        self._zeros = self._jax.nn.initializers.zeros
        self._call_nnx = self._jax.jit(self._called_nnx, static_argnums=0)

    def _side_spec(self, side: Side, alone: bool) -> Recurrent:
        """The spec of one direction; one that is not alone has its direction set by the Bidirectional that it stands in."""
        rnn, title = side.rnn, f"{self.home}.RNN"
        if alone and rnn.reverse and rnn.keep_order:
            raise UnsupportedError(
                f"{title} with reverse=True and keep_order=True, which reads time backwards and turns its output back, is not "
                f"modelled; use keep_order=False, or {self.home}.Bidirectional."
            )
        return replace(self._cell_spec(side), go_backwards=bool(alone and rnn.reverse))

    @abstractmethod
    def _cell_spec(self, side: Side) -> Recurrent:
        """The spec of a cell that reads time forwards."""

    def _functions_of(self, kind: str, cell: Any) -> dict[str, str]:
        """The activations of a cell, as options of a spec; refuse what else it computes otherwise than the plain cell."""
        title = f"{self.home}.{type(cell).__name__}"
        if getattr(cell, "residual", False):
            raise UnsupportedError(f"{title} with residual=True is not modelled; build it with residual=False.")
        if cell.carry_init not in (None, self._zeros):
            raise UnsupportedError(
                f"{title} with a carry_init of its own, which need not begin with zeros, is not modelled; leave it out, and give "
                "initial_carry to the call."
            )
        found = {"activation": self._activation(cell.activation_fn, f"{title} with activation_fn")}
        if kind != "rnn":
            found["recurrent_activation"] = self._activation(cell.gate_fn, f"{title} with gate_fn")
        return found

    def _check_merge(self, level: Any, default: Any) -> None:
        if level.merge_fn is not default:
            called = getattr(level.merge_fn, "__name__", repr(level.merge_fn))
            raise UnsupportedError(
                f"{self.home}.Bidirectional with merge_fn={called} is not modelled; leave it out, which concatenates."
            )

    def _check_alike(self, levels: list[Any], title: str) -> None:
        if len({bool(level.time_major) for level in levels}) > 1:
            raise UnsupportedError(f"{title} mixes time_major=True with time_major=False; make its layers alike.")

    def _assembled(self, levels: list[Any], sides: list[list[Side]], title: str) -> Recurrent:
        """The spec of a layer from its levels."""
        if not sides:
            raise UnsupportedError(f"An empty stack is no layer; give it {self.home}.RNN or Bidirectional.")
        self._check_alike(levels, title)
        return stacked([[self._side_spec(one, len(level) == 1) for one in level] for level in sides], title)

    def _refused(self, thing: Any, known: str) -> UnsupportedError:
        kind = type(thing)
        return UnsupportedError(f"Flax's {title_of(kind)} is not modelled; the layers are {known}.")

    def reads(self, layer: Any) -> str:
        across = isinstance(self._spec(layer), Recurrent) and self._levels(layer)[0].time_major
        return "(time, batch, features): time_major=True" if across else ""

    # ---- Running.

    def _called_nnx(self, graphdef: Any, state: Any, x: Any, carry: Any) -> Any:
        """A layer of nnx as a pure function: the user's own is not run, so that no random state in it moves on."""
        return self._nnx.merge(graphdef, state)(x, initial_carry=carry, return_carry=True)

    def _slots(self, layer: Any) -> Iterator[tuple[int, int, str, Slot]]:
        for k, level in enumerate(self._levels(layer)):
            for d, side in enumerate(self._sides(level)):
                yield from ((k, d, name, slot) for name, slot in side.slots.items())

    def _level(
        self, layer: Any, spec: Recurrent, k: int, x: Any, carries: list[tuple[Any, ...]]
    ) -> tuple[Any, list[tuple[Any, ...]]]:
        level, orders = self._levels(layer)[k], [self._order(spec.part(d, k), _STATES) for d in range(len(carries))]
        own = [tuple(c[i] for i in order) if len(order) > 1 else c[0] for c, order in zip(carries, orders, strict=True)]
        turned = bool(level.time_major)
        x = x.swapaxes(0, 1) if turned else x
        ends, out = self._called(level, x, tuple(own) if len(own) > 1 else own[0])
        found = []
        for end, order in zip(ends if len(own) > 1 else [ends], orders, strict=True):
            each = end if len(order) > 1 else (end,)
            found.append(tuple(each[order.index(i)] for i in range(len(order))))
        return out.swapaxes(0, 1) if turned else out, found

    @abstractmethod
    def _levels(self, layer: Any) -> list[Any]:
        """The RNNs and Bidirectionals of which a layer is a stack."""

    @abstractmethod
    def _sides(self, level: Any) -> list[Side]:
        """The directions of one level."""

    @abstractmethod
    def _called(self, level: Any, x: Any, carry: Any) -> Any:
        """Final carries and output of one level."""

    # ---- nnx's RNN and Bidirectional, which run cells of either library.

    def _nnx_levels(self, layer: Any) -> list[Any]:
        if isinstance(layer, list | tuple):
            return list(layer)
        return list(layer.layers) if type(layer) is self._nnx.Sequential else [layer]

    def _nnx_sides(self, level: Any) -> list[Side]:
        """The directions of one level; refuse what they are not."""
        nnx = self._nnx
        known = "flax.nnx.RNN, Bidirectional, Linear, and Sequential of RNNs alone or Bidirectionals alone"
        if type(level) is nnx.RNN:
            rnns = [level]
        elif type(level) is nnx.Bidirectional:
            self._check_merge(level, nnx.Bidirectional.merge_fn)
            rnns = [level.forward_rnn, level.backward_rnn]
        else:
            raise self._refused(level, known)
        for rnn in rnns:
            if type(rnn) is not nnx.RNN:
                raise self._refused(rnn, known)
            # A dictionary in older versions.
            if dict(rnn.state_axes) != {...: nnx.Carry} or rnn.broadcast_rngs is not None:
                raise UnsupportedError(
                    "flax.nnx.RNN with state_axes or broadcast_rngs of its own is not modelled; leave them out."
                )
        return [Side(rnn, rnn.cell, self._variable_slots(rnn.cell)) for rnn in rnns]

    def _variables(self, module: Any) -> dict[str, Any]:
        """The variables of a module of nnx by path, its random states apart."""
        found = self._nnx.iter_graph(module)
        kinds = self._nnx.Variable, self._nnx.RngState
        return {
            "/".join(map(str, path)): one
            for path, one in found
            if isinstance(one, kinds[0]) and not isinstance(one, kinds[1])
        }

    def _variable_slots(self, module: Any) -> dict[str, Slot]:
        return {name: Slot(partial(value_of, one), partial(_set, one)) for name, one in self._variables(module).items()}

    def _check_apart(self, sides: list[list[Side]]) -> None:
        """Refuse cells that have a variable in common, which two numbers cannot be written into."""
        seen: set[int] = set()
        for side in (side for level in sides for side in level):
            for name, variable in self._variables(side.cell).items():
                if id(variable) in seen:
                    raise UnsupportedError(
                        f"The cells of this layer share {name}, which is not modelled; give each cell weights of its own."
                    )
                seen.add(id(variable))

    def _retype(self, module: Any, dtype: str) -> None:
        """Let a module of nnx store and compute in another float type."""
        kind = getattr(self._jnp, dtype)
        for _, one in self._nnx.iter_graph(module):
            if isinstance(one, self._nnx.Module) and "param_dtype" in vars(one):
                one.param_dtype = kind
                one.dtype = kind if one.dtype is not None else None
        for variable in self._variables(module).values():
            _set(variable, self._tensor(value_of(variable), dtype))

    def _drawn(self, dtype: str) -> dict[str, Any]:
        return {"dtype": getattr(self._jnp, dtype), "param_dtype": getattr(self._jnp, dtype)}

    def _blanks(self) -> dict[str, Any]:
        """Initialisers that draw nothing and compile nothing."""
        import numpy as np

        def zeros(key: Any, shape: tuple[int, ...], dtype: Any) -> Any:
            return self._jnp.asarray(np.zeros(shape, self._jnp.dtype(dtype)))

        return dict.fromkeys(("kernel_init", "recurrent_kernel_init", "bias_init"), zeros)

    def _chosen(self, part: Recurrent) -> dict[str, Any]:
        """The activations of a spec as the arguments of a cell."""
        found = {"activation_fn": self._functions[str(part.activation)]}
        if part.cell != "rnn":
            found["gate_fn"] = self._functions[str(part.recurrent_activation)]
        return found


def value_of(variable: Any) -> Any:
    """The array of a variable of nnx; before Flax 0.12.1 it has no get_value, and hands the question on to the array."""
    return variable.get_value() if hasattr(type(variable), "get_value") else variable.value


def _set(variable: Any, value: Any) -> None:
    if hasattr(type(variable), "set_value"):
        variable.set_value(value)
    else:
        variable.value = value


def title_of(kind: type) -> str:
    """A class of Flax as people write it."""
    for home in ("flax.nnx", "flax.linen"):
        if kind.__module__.startswith(f"{home}."):
            return f"{home}.{kind.__qualname__}"
    return f"{kind.__module__}.{kind.__qualname__}"
