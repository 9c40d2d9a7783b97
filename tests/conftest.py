"""Fixtures. Frameworks come from xframe's registry; one that was asked for and cannot be loaded is an error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Threads are of no use to matrices as small as these, and wait for each other where the machine has other work: then a
# product took a hundred times as long. Before NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
# On GitHub, every command that a test runs would add its report to the summary of the job.
os.environ.pop("GITHUB_STEP_SUMMARY", None)

import pytest
from helpers import LACKS, LAYERS_BY_NAME, UNFIT, Case, Move, entry_point, has, plain
from hypothesis import settings

from xframe.adapters import get_adapter, known_adapters, known_names

# The same examples each time: a test run says something about the code, not about the day.
settings.register_profile("xframe", deadline=None, derandomize=True, database=None, max_examples=25)
settings.load_profile("xframe")

TOY = "toy"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--frameworks",
        default=",".join(known_adapters()),
        help="which frameworks to test, by comma; all that xframe knows if not given",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*names): the test is about these frameworks in particular")
    unknown = [name for name in asked_for(config) if name not in known_adapters()]
    if unknown:
        raise pytest.UsageError(f"--frameworks: there is no adapter for {', '.join(unknown)}")


def asked_for(config: pytest.Config) -> list[str]:
    return [name for name in config.getoption("--frameworks").split(",") if name]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise over the registry.

    ``case`` is a framework asked for, or the toy one, with a layer that it has; ``lacking`` one with a layer that it
    lacks, ``unfit`` one with a layer that it cannot hold all numbers of; ``move`` is two frameworks, from and to, with a
    layer that both have: every one beside itself, the one before it and the one after it.
    """
    names, fixtures = asked_for(metafunc.config), set(metafunc.fixturenames)
    variants = [name for name in known_names() if name != plain(name) and plain(name) in names]
    for fixture, wanted in (("case", has), ("lacking", in_table(LACKS)), ("unfit", in_table(UNFIT))):
        if fixture in fixtures:
            cases = [(a, kind) for a in [*names, *variants, TOY] for kind in LAYERS_BY_NAME if wanted(a, kind)]
            found = [pytest.param(c, marks=marks(c[1], c[0]), id="-".join(c)) for c in cases]
            metafunc.parametrize(fixture, found, indirect=True)
    if "move" in fixtures:
        # Numbers move by way of the canonical form, so that each framework's reading and writing count, not each pair.
        near = {(a, b) for a, b in zip(names, [*names[1:], *names[:1]], strict=True)}
        pairs = [(a, b) for a in names for b in names if a == b or (a, b) in near or (b, a) in near]
        both = [(a, b, k) for a, b in pairs for k in LAYERS_BY_NAME if has(a, k) and has(b, k)]
        # Within one framework, one layer with gates and one without are enough.
        moves = [(a, b, kind) for a, b, kind in both if a != b or kind in ("gru", "dense")]
        found = [pytest.param(m, marks=marks(m[2], m[0], m[1]), id="-".join(m)) for m in moves]
        metafunc.parametrize("move", found, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that are about a framework that was not asked for."""
    names = asked_for(config)
    left_out = [item for item in items if any(n not in names for mark in item.iter_markers("needs") for n in mark.args)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    yield from _case(request)


@pytest.fixture
def lacking(request: pytest.FixtureRequest) -> Iterator[Case]:
    yield from _case(request)


@pytest.fixture
def unfit(request: pytest.FixtureRequest) -> Iterator[Case]:
    yield from _case(request)


def marks(kind: str, *names: str) -> tuple[pytest.MarkDecorator, ...]:
    """Slow is what goes to another process at each call, and what JAX compiles for one layer after the other."""
    compiled = {*names} & {"flax", "flax-linen", "equinox"} and kind not in ("rnn", "lstm", "gru")
    return (pytest.mark.slow,) if compiled or any(name != plain(name) for name in names) else ()


def in_table(table: Mapping[str, set[str]]) -> Callable[[str, str], bool]:
    return lambda name, kind: kind in table.get(name, set())


def _case(request: pytest.FixtureRequest) -> Iterator[Case]:
    name, kind = request.param
    # The toy is registered only while its tests run.
    with entry_point("toy_adapter") if name == TOY else nullcontext():
        yield Case(get_adapter(name), LAYERS_BY_NAME[kind])


@pytest.fixture
def move(request: pytest.FixtureRequest) -> Move:
    source, target, kind = request.param
    return Move(get_adapter(source), get_adapter(target), LAYERS_BY_NAME[kind])
