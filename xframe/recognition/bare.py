"""Layers in files that say nothing of layers: by the names of the tensors and by their shapes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from xframe.errors import SpecError, UnsupportedError
from xframe.files.base import ModelFile
from xframe.layout import Packing
from xframe.recognition import names
from xframe.recognition.findings import Reading
from xframe.recognition.forms import Fit, Form, composed, forms, merged
from xframe.recognition.tables import THEANO
from xframe.spec import Dense, Layer, Recurrent

__all__ = ["MAY_BE_A_TABLE", "Entry", "Unit", "entries_of", "found", "strangers", "tables"]

Path = tuple[str, ...]
_DENSE = re.compile(r"(^|[/_])(dense|linear|fc)")


@dataclass(frozen=True)
class Entry:
    """A tensor: its path, its name in the file and its shape."""

    path: Path
    tensor: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Unit:
    """Tensors that make a layer, with all that it may be. ``fits`` are empty unless it is one cell in one direction."""

    path: Path
    tensors: tuple[str, ...]
    readings: tuple[Reading, ...]
    fits: tuple[Fit, ...] = ()

    @property
    def certain(self) -> bool:
        """Whether its tensors have a framework's own names."""
        return any(fit.certain for fit in self.fits)


Group = dict[tuple[int, int], dict[str, Entry]]


def found(entries: Sequence[Entry], packings: Iterable[Packing]) -> list[Unit]:
    """The layers of these tensors, none of which is in two of them."""
    table = [form for packing in packings for form in forms(packing)]
    units = _disjoint(_by_name(entries, table))
    used = {name for unit in units for name in unit.tensors}
    units += _by_shape([entry for entry in entries if entry.tensor not in used], table)
    return _paired(units)


def _disjoint(units: Iterable[Unit]) -> list[Unit]:
    """The largest units first, and then those that share nothing with them."""
    kept: list[Unit] = []
    used: set[str] = set()
    for unit in sorted(units, key=lambda u: -len(u.tensors)):
        if used.isdisjoint(unit.tensors):
            kept.append(unit)
            used.update(unit.tensors)
    return kept


# ---- By name.


def _by_name(entries: Sequence[Entry], table: list[Form]) -> list[Unit]:
    known = sorted({name for form in table for name in form.names} | set(names.ROLES))
    groups: dict[Path, Group] = {}
    numbered: set[Path] = set()
    doubled: set[Path] = set()  # two tensors have one name there, and which of them is meant nobody knows
    for entry in entries:
        for place in names.split(entry.path, known):
            members = groups.setdefault(place.prefix, {}).setdefault((place.layer, place.direction), {})
            if members.setdefault(place.local, entry) is not entry:
                doubled.add(place.prefix)
            numbered |= {place.prefix} if place.numbered else set()
    units = [_named_unit(path, group, table, path in numbered) for path, group in groups.items() if path not in doubled]
    return [unit for unit in units if unit is not None]


def _named_unit(path: Path, group: Group, table: list[Form], numbered: bool) -> Unit | None:
    """The layer of the tensors at one path, or None."""
    if len(group) == 1 and _is_table(group):
        return None
    each = {place: _told(path, _fits(members, table)) for place, members in group.items()}
    if (0, 0) not in each:
        return None
    readings = []
    for fit in each[0, 0]:
        same = {place: [f for f in fits if f.kind == fit.kind] for place, fits in each.items()}
        whole = composed({place: fits[0] for place, fits in same.items()}) if all(same.values()) else None
        if whole is not None:
            readings.append(_reading(fit, *whole, numbered))
    if not readings:
        return None
    # A tensor may stand there by two names, its own and one of those that people use.
    tensors = tuple(dict.fromkeys(e.tensor for members in group.values() for e in members.values()))
    return Unit(path, tensors, tuple(readings), tuple(each[0, 0]) if len(each) == 1 else ())


def _is_table(group: Group) -> bool:
    """Whether a group is one matrix that is called something of a table that is looked up."""
    paths = {e.tensor: e.path for members in group.values() for e in members.values()}
    return len(paths) == 1 and any(names.other_kind(path[:-1], {path[-1]: 2}) for path in paths.values())


def _reading(fit: Fit, spec: object, tensors: Mapping[str, str], numbered: bool) -> Reading:
    packing = fit.form.packing
    if isinstance(spec, Recurrent) and fit.certain and not numbered:
        try:
            cell = replace(spec, form="cell")
            native = {packing.naming(cell, 0, 0, ours): theirs for ours, theirs in fit.tensors.items()}
            # Bare cells of PyTorch have names without the number of a layer.
            if list(native) == list(fit.form.names) != list(tensors):
                packing.layout(cell)
                spec, tensors = cell, native
        except (SpecError, UnsupportedError):
            pass
    return Reading(packing, spec, tensors, (fit.how,))  # type: ignore[arg-type]


def _fits(members: Mapping[str, Entry], table: list[Form]) -> list[Fit]:
    """The forms that the tensors at one place fit, all of them used."""
    tensors = {entry.tensor for entry in members.values()}
    found = []
    for form in table:
        exact = _used_up(_exact(form, members), tensors)
        # Programs took over its names with an order of their own: they do not tell, but no others are meant.
        alone = form.packing is THEANO
        chosen = exact or (None if alone else _used_up(_meant(form, members), tensors))
        spec = form.fit([entry.shape for entry in chosen]) if chosen else None
        if chosen and spec is not None:
            mapping = {ours: entry.tensor for ours, entry in zip(form.names, chosen, strict=True)}
            what = "the names and the shapes" if exact else "names that people use, and the shapes,"
            how = f"Its tensors have {what} of {form.packing.layout(spec).layer}, as {form.packing.title} packs them."
            found.append(Fit(form, spec, mapping, how, bool(exact) and not alone))
    return [fit for fit in found if fit.certain] or found


def _used_up(chosen: list[Entry] | None, tensors: set[str]) -> list[Entry] | None:
    """The tensors that were chosen, if they are all that there are."""
    return chosen if chosen and {e.tensor for e in chosen} == tensors else None


def _exact(form: Form, members: Mapping[str, Entry]) -> list[Entry] | None:
    """The tensors by the framework's own names."""
    return [members[name] for name in form.names] if set(form.names) <= set(members) else None


def _meant(form: Form, members: Mapping[str, Entry]) -> list[Entry] | None:
    """The tensors by what people call them; None where two may be meant, or one holds two kernels."""
    wanted = [role.split("+")[0] for role in form.roles]
    roles = {names.ROLES[local]: entry for local, entry in members.items() if local in names.ROLES}
    if len(set(wanted)) < len(wanted) or not set(wanted) <= set(roles) or "kernel+recurrent_kernel" in form.roles:
        return None
    return [roles[role] for role in wanted]


def _told(path: Path, fits: list[Fit]) -> list[Fit]:
    """The fits that agree with what the path says, where it says something.

    One kernel with the input above the state looks like that of a dense layer: only a name tells them apart.
    """
    fits = [fit for fit in fits if fit.form.packing is not THEANO or path[-1:] == ("lstm",)]
    both = [fit for fit in fits if any("kernel+recurrent" in role for role in fit.form.roles)]
    rest = [fit for fit in fits if fit not in both]
    said = names.is_cell(path)
    # One matrix alone may be anything, unless the framework's name or its place tells.
    rest = [fit for fit in rest if fit.certain or len(fit.tensors) > 1 or _DENSE.search("/".join(path))]
    chosen = both if said and both else rest or both
    return [fit for fit in chosen if fit.spec.cell == said] or chosen


# ---- By shape.


def _by_shape(entries: Sequence[Entry], table: list[Form]) -> list[Unit]:
    """Runs of tensors whose names are but numbers or letters, in the order in which a framework lists them."""
    groups: dict[Path, list[Entry]] = {}
    for entry in entries:
        if names.says_nothing(entry.path[-1]):
            groups.setdefault(entry.path[:-1], []).append(entry)
    return [unit for path, group in groups.items() for unit in _runs(path, _in_order(group), table)]


def _in_order(group: list[Entry]) -> list[Entry]:
    """By number where all names are numbers, because some formats sort them as words."""
    if all(entry.path[-1].isdecimal() for entry in group):
        return sorted(group, key=lambda entry: (len(entry.path[-1]), entry.path[-1]))
    return group


def _runs(path: Path, group: list[Entry], table: list[Form]) -> list[Unit]:
    """The runs that leave the fewest tensors over, the longest first where that does not decide."""
    lengths = sorted({len(form.names) for form in table}, reverse=True)
    own = tuple(part for part in path if part != "vars")
    # From each place on: how many are left over, and the length and the fits of the first run; of no fits for one that is left.
    best: list[tuple[int, int, list[Fit]]] = [(0, 0, [])] * (len(group) + 1)
    for start in reversed(range(len(group))):
        chosen = (best[start + 1][0] + 1, 1, list[Fit]())
        for length in lengths:
            run = group[start : start + length]
            named = length > 1 or _DENSE.search("/".join(path))
            left = best[start + length][0] if len(run) == length and named else len(group)
            if left < chosen[0] and (fits := _run_fits(run, table)):
                chosen = (left, length, fits)
        best[start] = chosen
    units, start = [], 0
    while start < len(group):
        _, length, fits = best[start]
        run = group[start : start + length]
        if fits:
            wholes = [composed({(0, 0): fit}) for fit in fits]
            readings = [_reading(f, *w, numbered=True) for f, w in zip(fits, wholes, strict=True) if w is not None]
            # Several layers in one group are told apart by their first tensor.
            name = own if length == len(group) else (*own, run[0].path[-1])
            units.append(Unit(name, tuple(e.tensor for e in run), tuple(readings), tuple(fits)))
        start += length
    return units


def _run_fits(run: list[Entry], table: list[Form]) -> list[Fit]:
    found = []
    for form in table:
        spec = form.fit([entry.shape for entry in run]) if len(form.names) == len(run) else None
        if spec is not None:
            mapping = {ours: entry.tensor for ours, entry in zip(form.names, run, strict=True)}
            layer = form.packing.layout(spec).layer
            how = f"Its tensors have no names, but in this order the shapes of {layer}, as {form.packing.title} packs them."
            found.append(Fit(form, spec, mapping, how, certain=False))
    return found


# ---- Two directions.


def _paired(units: list[Unit]) -> list[Unit]:
    """The units, those made one that are the directions of one layer."""
    alike: dict[tuple[object, ...], list[Unit]] = {}
    stacks = Counter(names.stack_in_direction(unit.path) for unit in units)
    for unit in units:
        # The second cell of a stack in one direction reads the first of that direction alone.
        stack = names.stack_in_direction(unit.path)
        told = names.direction_of(unit.path) is not None and not (stack and stacks[stack] > 1)
        alike.setdefault(("by name", names.placeholder(unit.path)) if told else (unit.path,), []).append(unit)
    done = [unit for group in alike.values() for unit in _joined(group)]
    # A backward layer that was given to Keras's Bidirectional keeps its own name, in the wrapper.
    wrappers = {_wrapper(unit.path): unit for unit in done if unit.fits and names.direction_of(unit.path) == 0}
    inside: dict[Path, list[Unit]] = {}
    for unit in done:
        for end in range(1, len(unit.path)):
            if unit.path[:end] in wrappers:
                inside.setdefault(unit.path[:end], []).append(unit)
    gone: set[int] = set()
    pairs: list[Unit] = []
    for group in inside.values():
        whole = _joined(group) if len(group) == 2 and gone.isdisjoint(map(id, group)) else group
        if whole is not group:
            gone.update(map(id, group))
            pairs += whole
    return [unit for unit in done if id(unit) not in gone] + pairs


def _joined(group: list[Unit]) -> list[Unit]:
    """Two units as one layer, if they are a forward and a backward one and fit each other."""
    ranked = sorted(group, key=lambda unit: names.direction_of(unit.path) != 0)
    told = [names.direction_of(unit.path) for unit in ranked]
    pair = _pair(*ranked) if told in ([0, 1], [0, None]) else None
    return group if pair is None else [pair]


def _wrapper(path: Path) -> Path:
    """The path of what a layer that names its direction stands in."""
    place = next(i for i, part in enumerate(path) if names.placeholder((part,)) != (part,))
    return path[:place]


def _pair(one: Unit, other: Unit) -> Unit | None:
    pairs = list(product(one.fits, other.fits))
    pairs = [(f, b) for f, b in pairs if f.kind == b.kind] or pairs
    wholes = [(f, merged(f, b)) for f, b in pairs]
    readings = [Reading(f.form.packing, *whole, (f.how,)) for f, whole in wholes if whole is not None]
    if not readings:
        return None
    return Unit(_wrapper(one.path) or one.path, (*one.tensors, *other.tensors), tuple(readings))


def entries_of(file: ModelFile, taken: set[str], known: Mapping[str, Path]) -> list[Entry]:
    """All tensors that are left, those whose path is known or whose layers the file names by that first."""
    paths: dict[str, Path] = dict(known)
    for layer in file.layers:
        for key, tensor in layer.tensors.items():
            paths.setdefault(tensor, (*names.normal(layer.name), *names.normal(key)))
    for tensor in file.tensors:
        paths.setdefault(tensor, names.normal(tensor))
    return [Entry(path, name, file.tensors[name].shape) for name, path in paths.items() if name not in taken and path]


# ---- What the layers of a file say of each other.

MAY_BE_A_TABLE = "It may as well be the table of an Embedding: the file alone does not tell a matrix from a table."


def tables(units: Sequence[Unit], known: Sequence[Layer]) -> dict[Path, bool]:
    """The units that are one matrix which may be a table that is looked up, by path; true for those that can be nothing else.

    A table of rows of d numbers is read by a layer of d features. A dense layer without a bias, whose matrix has d columns, reads
    d numbers of a layer that puts out as many, or is read by one that takes as many as the matrix has rows.

    Args:
        units: all that were found by their tensors.
        known: the layers that the file says more of.
    """
    alone = {unit.path: unit for unit in units if _is_matrix(unit)}
    rest = [*known, *(unit.readings[0].spec for unit in units if unit.path not in alone)]
    read = {spec.input_size for spec in rest if isinstance(spec, Recurrent)}
    taken = {spec.input_size for spec in rest}
    made = {spec.output_size for spec in rest if isinstance(spec, Recurrent)} | {
        spec.units for spec in rest if isinstance(spec, Dense)
    }
    found = {}
    for path, unit in alone.items():
        spec = unit.readings[0].spec
        assert isinstance(spec, Dense)
        if spec.input_size in read:
            found[path] = spec.input_size not in made and spec.units not in taken
    return found


def _is_matrix(unit: Unit) -> bool:
    """Whether a unit is a matrix with the rows of the second framework's order, by a name that may be a table's."""
    first = unit.readings[0]
    matrix = isinstance(first.spec, Dense) and not first.spec.bias and first.packing.name == "torch"
    return matrix and not _DENSE.search("/".join(unit.path[-1:]))


def strangers(units: Sequence[Unit], entries: Sequence[Entry]) -> dict[Path, tuple[str, ...]]:
    """By the path of a recurrent layer with a framework's own names: tensors inside it that it does not have there."""
    paths = {entry.tensor: entry.path for entry in entries}
    used = {paths[name] for unit in units for name in unit.tensors}
    owner: dict[Path, Path] = {}
    for unit in units:
        if isinstance(unit.readings[0].spec, Recurrent):
            for path in (paths[name] for name in unit.tensors):
                if unit.certain and path[:-1]:
                    owner[path[:-1]] = unit.path
                # What makes a weight from another one, as dropping some of them does, keeps that beside it or around it.
                for place in (path[:-1], path[:-2]):
                    raw = (*place, f"{path[-1]}_raw")
                    owner[raw] = unit.path
    found: dict[Path, tuple[str, ...]] = {}
    for entry in entries:
        above = [entry.path[:end] for end in range(1, len(entry.path) + 1)]
        # What an optimiser keeps for a weight is below that.
        if (
            used.isdisjoint(above)
            and (inside := next((owner[path] for path in above if path in owner), None)) is not None
        ):
            found[inside] = (*found.get(inside, ()), entry.tensor)
    return found
