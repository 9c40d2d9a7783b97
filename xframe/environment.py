"""The environment: what in it can change a number, and what it does to the numbers.

The same layer puts out other last digits on another machine, under other settings, or in another float type. None of that
is a mistake as long as it stays within the rounding noise (`xframe.noise`); this says where it comes from.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from xframe import __version__, noise
from xframe.adapters import get_adapter, known_adapters
from xframe.adapters.base import FLOATS, Adapter, Setting, variable
from xframe.errors import UnsupportedError, XframeError
from xframe.judging import LIMIT
from xframe.probe import Probe, draw_input, draw_parameters
from xframe.reference import Given
from xframe.spec import Dense, Layer, Recurrent

__all__ = ["Examination", "Section", "doctor"]


@dataclass(frozen=True)
class Section:
    """Settings that belong together.

    Attributes:
        title: of what: a framework's name for people.
        settings: each with its value here and what it does to the numbers.
        error: why a framework that is installed cannot be loaded, in one sentence; else empty.
    """

    title: str
    settings: tuple[Setting, ...]
    error: str = ""


@dataclass(frozen=True)
class Examination:
    """What the environment is; true only if every framework that is installed can be loaded.

    Attributes:
        status: ``done``, or ``error`` if a framework that is installed cannot be loaded.
        reason: one sentence.
        sections: Python and NumPy, each framework, and variables of the process's environment.
        environment: versions.
    """

    status: str
    reason: str
    sections: tuple[Section, ...]
    environment: dict[str, str]

    def __bool__(self) -> bool:
        return self.status == "done"

    def report(self, format: str = "text") -> str:
        """The examination as ``text``, ``markdown``, ``html`` or ``json``."""
        from xframe.report import render

        return render(self, format)


def doctor() -> Examination:
    """Look at this process: versions, devices, threads, float types and switches of NumPy and of every framework.

    Frameworks that are installed are imported. In a program of your own, call it where you compute: settings such as
    `torch.set_num_threads` are of the process.
    """
    from xframe.comparison import environment

    loaded: list[Adapter] = []
    sections = [_base()]
    for name, kind in known_adapters().items():
        sections.append(_framework(name, kind, loaded))
    sections.append(_variables())
    if broken := [section.error for section in sections if section.error]:
        status, reason = "error", " ".join(broken)
    else:
        found = ", ".join(f"{one.title} {one.version()}" for one in loaded)
        status, reason = "done", f"Every framework that is installed can be loaded: {found or 'there is none'}."
    versions = {"xframe": __version__, **environment(loaded)}
    return Examination(status, reason, tuple(sections), versions)


def _base() -> Section:
    settings = [
        Setting("xframe", __version__, "its reference and its rounding noise are what outputs are judged against"),
        Setting("Python", platform.python_version(), "changes no number by itself"),
        Setting("platform", platform.platform(), "other libraries and processors: other rounding"),
        Setting("processors", str(os.cpu_count()), "as many threads as these, unless they are told otherwise"),
        Setting("NumPy", np.__version__, "computes the reference, in float64"),
        *_numpy_build(),
    ]
    return Section("Python and NumPy", tuple(settings))


def _numpy_build() -> Iterator[Setting]:
    """What NumPy computes with."""
    build: Any = np.show_config(mode="dicts")
    blas = build.get("Build Dependencies", {}).get("blas", {})
    found = build.get("SIMD Extensions", {}).get("found", [])
    library = " ".join(str(blas[part]) for part in ("name", "version") if part in blas)
    yield Setting("NumPy's BLAS", library or "unknown", "products of the reference: another one sums in another order")
    yield Setting("NumPy's vector instructions", found[-1] if found else "none", "other kernels: other rounding")
    if find_spec("threadpoolctl"):
        pools = import_module("threadpoolctl").threadpool_info()
        threads = ", ".join(f"{pool['internal_api']} {pool['num_threads']}" for pool in pools)
        yield Setting("threads", threads, "a sum that is split is added up in another order")


def _variables() -> Section:
    """Those that several libraries read."""
    threads = "a sum that is split over threads is added up in another order"
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    settings = (
        *(variable(name, threads) for name in names),
        variable("MKL_CBWR", "COMPATIBLE: Intel's MKL rounds alike on every processor"),
        variable("OPENBLAS_CORETYPE", "chooses OpenBLAS's kernels: other rounding"),
        variable(
            "NVIDIA_TF32_OVERRIDE", "0: NVIDIA's libraries round no factor to 11 bits, whatever a framework asks for"
        ),
        variable("CUDA_VISIBLE_DEVICES", "empty or -1: no GPU, and the CPU's rounding"),
    )
    return Section("Environment variables", settings)


def _framework(name: str, kind: type[Adapter], loaded: list[Adapter]) -> Section:
    """A framework, added to ``loaded`` if it can be."""
    title = kind.packing.title
    if kind.missing():
        effect = f"counted and explained only; to run it: pip install 'xframe[{kind.extra or name}]'"
        return Section(title, (Setting(title, "not installed", effect),))
    try:
        adapter = get_adapter(name)
        version = Setting(title, adapter.version(), "its kernels and its defaults are those of this version")
        settings = (version, *adapter.settings(), *_float_types(adapter))
    except Exception as error:  # what a broken installation raises is not written down
        why = str(error) if isinstance(error, XframeError) else _broken(title, error)
        return Section(title, (Setting(title, "cannot be loaded", "none of its layers can be run"),), why)
    loaded.append(adapter)
    return Section(title, settings)


def _broken(title: str, error: Exception) -> str:
    return f"{title} can be loaded but does not say what it is set to ({type(error).__name__}: {error}); reinstall it."


def _float_types(adapter: Adapter) -> Iterator[Setting]:
    """Which float types a small layer runs in, and how exact they are."""
    for dtype in FLOATS:
        u = noise.ROUNDOFF[dtype]
        effect = f"unit roundoff {u:.2g} (2^{int(np.log2(u))})"
        yield Setting(dtype, _tried(adapter, dtype), f"{effect}, {_USE[dtype]}")


_USE = {
    "float64": "in which the function is judged",
    "float32": "in which most models are deployed",
    "float16": "largest number 65504",
    "bfloat16": "as large numbers as float32",
}


def _plain(adapter: Adapter) -> Layer:
    """A small layer that the framework has."""
    layers = (*(Recurrent(cell, 2, 3) for cell in ("rnn", "lstm", "gru")), Recurrent("gru", 2, 3, reset_after=False))
    for layer in layers:
        try:
            adapter.packing.layout(layer)
        except UnsupportedError:
            continue
        return layer
    return Dense(2, 3)


def _tried(adapter: Adapter, dtype: str) -> str:
    """What becomes of a small layer in a float type: some frameworks take one and compute in a narrower one."""
    spec, probe = _plain(adapter), Probe(dtype="bfloat16")  # numbers that every float type holds
    if why := adapter.lacks(spec, dtype):
        return f"does not run: {why}"
    params, x = draw_parameters(spec, probe.seed, probe.dtype), draw_input(spec, probe)
    try:
        out = adapter.run(
            adapter.build_loaded(spec, params, dtype), x.astype("float32" if dtype == "bfloat16" else dtype)
        )
    except Exception:  # what a framework raises for a type that it lacks is its own affair
        return "does not run"
    truth = noise.measure(spec, params, Given(x), dtype, coarse=adapter.coarse(spec, dtype))
    name = "output" if isinstance(spec, Dense) else "last"
    ratio = noise.ratio(out.last, truth.clean[name], truth.deviation[name]).max()
    return "runs" if ratio <= LIMIT else f"runs, but {ratio:.0e} times as inexact"
