"""How to see a comparison again: one command line where there is one, else the call in Python."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xframe.spec import Dense, Layer, Recurrent, Sequential

if TYPE_CHECKING:
    from xframe.recognition import Choices

__all__ = ["of_models", "reproduction"]

# Options of a spec by their flags, where these have another name: those that take no value, and those that do.
_SWITCHES = {"bias": "--no-bias", "reset_after": "--reset-before", "form": "--bare-cell"}
_SWITCHES |= {name: f"--{name.replace('_', '-')}" for name in ("bidirectional", "go_backwards", "stateful")}
_FLAGS = {"num_layers": "--layers", "merge_mode": "--merge", "batch_size": "--batch", "dtypes": "--dtype"}
_CHOICES = {
    "reset_after": ("--reset-before", "--reset-after"),
    "go_backwards": ("--go-forwards", "--go-backwards"),
}


def reproduction(a: Any, b: Any, options: Mapping[str, Any]) -> str:
    """What to type to see the comparison of ``a`` and ``b`` again.

    Args:
        a, b: what was compared: a spec and None, two native layers, or paths and native models.
        options: those that were given to `xframe.compare` or `xframe.verify`.
    """
    options = {"seed": 0, **options}
    if isinstance(a, Recurrent) and not (a.backward or a.stacked):
        return shlex.join(_compare_words(a, options))
    if isinstance(a, Recurrent | Dense | Sequential):
        names = "Dense, Recurrent, Sequential, compare"
        code = f"from xframe import {names}; print(compare({_expression(a)}, {_arguments(options)}).report())"
        return f"python -c {shlex.quote(code.replace(chr(39), chr(34)))}"
    if isinstance(a, str | Path) and isinstance(b, str | Path):
        return shlex.join(_verify_words(a, b, options))
    function = "verify" if of_models(a, b) else "compare"
    return f"xframe.{function}({_operand('a', a)}, {_operand('b', b)}, {_arguments(options)})" + _legend(a=a, b=b)


def of_models(a: Any, b: Any) -> bool:
    """Whether `xframe.verify` compares two sides, and not `xframe.compare`: files and whole models."""
    if isinstance(a, str | Path) or isinstance(b, str | Path):
        return True
    from xframe.adapters import is_layer

    return not isinstance(a, Recurrent | Dense | Sequential) and b is not None and not (is_layer(a) and is_layer(b))


def _compare_words(spec: Recurrent, options: Mapping[str, Any]) -> list[str]:
    words = ["xframe", "compare", spec.cell, "--hidden", str(spec.hidden_size), "--features", str(spec.input_size)]
    for name, value in _changed(spec).items():
        words += [_SWITCHES[name]] if name in _SWITCHES else _valued(name, value)
    # A stateful layer has its own batch size, whatever the probe's.
    for name, value in options.items():
        if value is not None and not (name == "batch" and spec.stateful):
            words += _valued(name, value)
    return words


def _verify_words(a: str | Path, b: str | Path, options: Mapping[str, Any]) -> list[str]:
    words = ["xframe", "verify", str(a), str(b)]
    choices: Choices | None = options.get("choices")
    for name, value in choices.given() if choices else ():
        words += [_CHOICES[name][value]] if name in _CHOICES else _valued(name, value)
    words += [f"--{name.replace('_', '-')}" for name in ("subset", "right_padded") if options.get(name)]
    words += ["--scope", options["scope"]] if options.get("scope") else []
    return [*words, "--seed", str(options["seed"])]


def _valued(name: str, value: Any) -> list[str]:
    """An option with its value as words."""
    text = value if isinstance(value, str) else ",".join(value) if isinstance(value, list | tuple) else str(value)
    return [_FLAGS.get(name, f"--{name.replace('_', '-')}"), "none" if value is None else text]


def _changed(spec: Recurrent) -> dict[str, Any]:
    """The options in which a layer differs from the plain one of its cell and sizes."""
    plain = Recurrent(spec.cell, spec.input_size, spec.hidden_size)
    return {name: value for name, value in spec.options().items() if value != getattr(plain, name)}


def _expression(spec: Layer | Sequential) -> str:
    """Python that makes the spec."""
    if isinstance(spec, Sequential):
        return f"Sequential({', '.join(map(_expression, spec.layers))})"
    if isinstance(spec, Dense):
        return repr(spec)
    options = [f"{name}={_value(value)}" for name, value in _changed(spec).items()]
    return f"Recurrent({', '.join([repr(spec.cell), str(spec.input_size), str(spec.hidden_size), *options])})"


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_value, value))},)"
    return _expression(value) if isinstance(value, Recurrent) else repr(value)


def _arguments(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


def _operand(name: str, given: Any) -> str:
    return repr(str(given)) if isinstance(given, str | Path) else name


def _legend(**operands: Any) -> str:
    """What the names in the call stand for."""
    kinds = [
        f"{name} is the {type(given).__module__.partition('.')[0]} {type(given).__name__}"
        for name, given in operands.items()
        if not isinstance(given, str | Path)
    ]
    return f"  # {', '.join(kinds)}"
