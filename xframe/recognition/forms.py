"""From shapes to sizes: which layers could tensors of given shapes be?

Nothing here knows a framework's layout. A `Form` takes the shapes of a packing's native tensors from its tables, for a
few small layers, and from these how each axis grows: by ``c0 + c1 d + c2 n + c3 p`` with d features, n units and p
projected units. That is solved for the shapes in a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xframe.errors import SpecError, UnsupportedError
from xframe.layout import Packing
from xframe.spec import Dense, Layer, Recurrent

__all__ = ["Fit", "Form", "composed", "forms", "merged", "native_names"]

Shape = tuple[int, ...]
# How long one axis is: a constant, and how often d, n and p are in it.
Axis = tuple[int, int, int, int]


@dataclass(frozen=True)
class Form:
    """One kind of layer in one packing, of one layer, of which only the sizes are not known.

    Attributes:
        names: the tensors by the names in the packing's row, in its order.
        roles: what each packs.
        axes: how long the axes of each are.
    """

    packing: Packing
    options: Mapping[str, Any]
    names: tuple[str, ...]
    roles: tuple[str, ...]
    axes: tuple[tuple[Axis, ...], ...]

    def spec(self, d: int, n: int, p: int) -> Layer:
        """The layer of these sizes."""
        return _layer(self.options, d, n, p)

    def fit(self, shapes: Sequence[Shape]) -> Layer | None:
        """The layer whose native tensors have these shapes, in the order of ``names``, or None."""
        if [len(s) for s in shapes] != [len(a) for a in self.axes]:
            return None
        equations = [
            (size, axis)
            for shape, axes in zip(shapes, self.axes, strict=True)
            for size, axis in zip(shape, axes, strict=True)
        ]
        sizes = _solved(equations)
        if sizes is None:
            return None
        try:
            spec = self.spec(*sizes)
        except SpecError:  # a size is 0, or absurd
            return None
        return spec if [n.shape for n in self.packing.natives(spec)] == [tuple(s) for s in shapes] else None


@dataclass(frozen=True)
class Fit:
    """Tensors of a file that fit a form.

    Attributes:
        tensors: names in the row, and in the file.
        how: what speaks for it, as a sentence.
        certain: whether the names in the file are those of the framework.
    """

    form: Form
    spec: Layer
    tensors: Mapping[str, str]
    how: str
    certain: bool = True

    @property
    def kind(self) -> tuple[str, tuple[tuple[str, Any], ...]]:
        """What is the same for all layers of a stack."""
        return self.form.packing.name, tuple(self.form.options.items())


# By the packing's identity, because tables have no hash; each is kept, so that no other gets its identity.
_FORMS: dict[int, tuple[Packing, list[Form]]] = {}


def forms(packing: Packing) -> list[Form]:
    """All kinds of layers that a packing has."""
    if id(packing) not in _FORMS:
        _FORMS[id(packing)] = packing, _all_forms(packing)
    return _FORMS[id(packing)][1]


def _all_forms(packing: Packing) -> list[Form]:
    found = []
    for options in _kinds(packing):
        try:
            found.append(_form(packing, options))
        except UnsupportedError:
            continue
    return found


def _kinds(packing: Packing) -> Iterator[dict[str, Any]]:
    for name, row in packing.rows.items():
        cell = name.split("/")[0]
        stacked = any(tensor.stack_directions for tensor in row.tensors)
        for bias in (True, False):
            if cell == "dense":
                yield {"cell": cell, "bias": bias}
                continue
            reset = {"reset_after": "/" not in name} if cell == "gru" else {}
            for both in (False, True)[: 1 + stacked]:
                for projected in (False, True)[: 1 + (cell == "lstm")]:
                    yield {"cell": cell, "bias": bias, **reset, "bidirectional": both, "projected": projected}


def _layer(options: Mapping[str, Any], d: int, n: int, p: int) -> Layer:
    if options["cell"] == "dense":
        return Dense(d, n, options["bias"])
    rest = {name: value for name, value in options.items() if name != "projected"}
    return Recurrent(input_size=d, hidden_size=n, proj_size=p if options["projected"] else 0, **rest)


def _form(packing: Packing, options: dict[str, Any]) -> Form:
    """A form, from the shapes of four small layers that differ in one size each."""
    points = [(2, 4, 2), (3, 4, 2), (2, 5, 2), (2, 4, 3)]
    natives = [packing.natives(_layer(options, *point)) for point in points]
    spec = _layer(options, *points[0])
    row = {packing.naming(spec, 0, 0, tensor.name): tensor.name for tensor in packing.layout(spec).tensors}
    axes = []
    for one in zip(*natives, strict=True):
        lengths = list(zip(*(native.shape for native in one), strict=True))
        grows = [[length - base for length in rest] for base, *rest in lengths]
        axes.append(
            tuple((base[0] - 2 * d - 4 * n - 2 * p, d, n, p) for base, (d, n, p) in zip(lengths, grows, strict=True))
        )
    names, roles = tuple(row[n.name] for n in natives[0]), tuple(n.role for n in natives[0])
    return Form(packing, options, names, roles, tuple(axes))


def _solved(equations: list[tuple[int, Axis]]) -> tuple[int, int, int] | None:
    """The sizes d, n and p, one after the other from the axes in which only one is unknown; None if there are none."""
    sizes: list[int | None] = [None, None, None]
    for _ in range(3):
        for size, (constant, *factors) in equations:
            unknown = [i for i, factor in enumerate(factors) if factor and sizes[i] is None]
            if len(unknown) == 1:
                known = sum(f * (s or 0) for f, s in zip(factors, sizes, strict=True))
                # What does not divide is found out when the shapes are compared.
                sizes[unknown[0]] = (size - constant - known) // factors[unknown[0]]
    d, n, p = sizes
    return (d, n, p or 0) if d and n else None


def composed(places: Mapping[tuple[int, int], Fit]) -> tuple[Layer, dict[str, str]] | None:
    """One layer of the fits at (layer, direction), all of one form, with its native names and tensors; None if they are none."""
    first = places[0, 0]
    layers, directions = max(k for k, _ in places) + 1, max(d for _, d in places) + 1
    if set(places) != {(k, d) for k in range(layers) for d in range(directions)}:
        return None
    spec, packing = first.spec, first.form.packing
    if isinstance(spec, Recurrent):
        try:
            spec = replace(spec, num_layers=layers, bidirectional=directions == 2 or spec.bidirectional)
        except SpecError:  # more layers than any model has
            return None
    elif len(places) > 1:
        return None
    for (k, _), fit in places.items():
        if spec.layer_input_size(k) != fit.spec.input_size or (spec.hidden_size, spec.state_size) != (
            fit.spec.hidden_size,
            fit.spec.state_size,
        ):
            return None
    return spec, native_names(packing, spec, places)


def merged(forward: Fit, backward: Fit) -> tuple[Layer, dict[str, str]] | None:
    """One layer of two directions, which may differ, with its native names and tensors; None if there is none such."""
    first, other = forward.spec, backward.spec
    if not (isinstance(first, Recurrent) and isinstance(other, Recurrent)) or first.bidirectional:
        return None
    if forward.form.packing.name != backward.form.packing.name or first.input_size != other.input_size:
        return None
    try:
        spec = replace(first, bidirectional=True, backward=other)
        return spec, native_names(forward.form.packing, spec, {(0, 0): forward, (0, 1): backward})
    except (SpecError, UnsupportedError):
        return None


def native_names(packing: Packing, spec: Layer, places: Mapping[tuple[int, int], Fit]) -> dict[str, str]:
    """The tensors at (layer, direction) by the native names of the whole layer, in native order."""
    names = {
        packing.naming(spec, k, d, ours): theirs
        for (k, d), fit in places.items()
        for ours, theirs in fit.tensors.items()
    }
    return {native.name: names[native.name] for native in packing.natives(spec)}
