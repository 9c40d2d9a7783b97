"""The frameworks that a baseline is recorded with or checked against, and running them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from xframe.adapters import available_adapters, get_adapters, usual_adapters
from xframe.adapters.base import Adapter
from xframe.errors import SpecError, UnsupportedError, XframeError
from xframe.judging import Input, Subject, attempt, judge_outputs
from xframe.spec import Layer
from xframe.verdict import Check, Power

__all__ = ["chosen", "judged", "loaded", "unseen"]

Outputs = Mapping[str, np.ndarray]


def chosen(layers: Sequence[Layer], framework: str | Sequence[str] | None) -> tuple[list[Adapter], dict[str, str]]:
    """The frameworks that were asked for, or those at hand that have the layers; and why others are left out.

    At hand are Keras and PyTorch where they are installed, and if neither is, all that are installed.

    Raises:
        MissingFrameworkError: one that was asked for is not installed, or cannot be loaded.
        UnsupportedError: one that was asked for is not known, or does not have a layer.
        SpecError: none was named.
    """
    if framework is None:
        installed = available_adapters()
        names = [name for name in installed if name in usual_adapters()] or installed
    else:
        names = [framework] if isinstance(framework, str) else list(framework)
        if not names:
            raise SpecError("No framework was named; name one, or leave the option out for those at hand.")
    found, left_out = [], {}
    for adapter in get_adapters(names):
        try:
            for layer in layers:
                adapter.packing.layout(layer)
        except UnsupportedError as error:
            if framework is not None:
                raise
            left_out[adapter.name] = str(error)
        else:
            found.append(adapter)
    return found, left_out


def loaded(adapter: Adapter, spec: Layer, params: Mapping[Any, np.ndarray], dtype: str) -> Subject:
    """The layer built in a framework and loaded with canonical parameters."""
    try:
        return Subject(adapter, adapter.build_loaded(spec, params, dtype), "loaded")
    except Exception as error:
        raise _failed(adapter, spec, error) from error


def judged(
    subject: Subject, given: Input, dtype: str, shown: Mapping[str, Mapping[str, float]]
) -> tuple[Outputs, Iterator[Check]]:
    """What a native layer puts out, by name, and each output against the truth of the input."""
    try:
        outputs = attempt(subject, given.given, dtype)
    except Exception as error:
        raise _failed(subject.adapter, given.spec, error) from error
    return outputs.named(), judge_outputs(subject, given, outputs, given.noise_of(subject.adapter, dtype), dtype, shown)


def unseen(power: Power) -> str:
    """The mistakes that would not show, the first few by name."""
    rest = len(power.missed) - 3
    return ", ".join(power.missed[:3]) + (f" and {rest} more" if rest > 0 else "")


def _failed(adapter: Adapter, spec: Any, error: Exception) -> XframeError:
    """A framework of another version may fail where the one before did not, and with any error."""
    if isinstance(error, XframeError):
        return error
    why = (str(error).splitlines() or [""])[0]
    return UnsupportedError(
        f"{adapter.title} {adapter.version()} cannot run {spec} ({type(error).__name__}: {why}); use a version that can."
    )
