"""What files may ask for: memory beyond their own size, and time; refused with the number and the option that allows more."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from helpers import sole_probe
from onnx import helper, numpy_helper

from xframe import budget
from xframe.cli import cli
from xframe.errors import FileError, LimitError, SpecError
from xframe.files import load
from xframe.files._json import object_of
from xframe.graph import Node, chained
from xframe.report.blocks import Table, shortened
from xframe.report.text import write
from xframe.spec import Recurrent


def test_one_budget_for_the_whole_run() -> None:
    with budget.allowed(memory=10) as outer:
        budget.current().take(6 * 2**20, "The first")
        with budget.allowed() as inner:
            assert inner is outer
            with pytest.raises(
                LimitError,
                match=r"The second asks for 11 MiB of memory beyond the size of the files, and 10 are allowed; --max-memory 11 "
                r"allows it, if you trust the file\.",
            ):
                inner.take(5 * 2**20, "The second")
            inner.take(4 * 2**20, "The third")
        with budget.allowed(memory=20) as other:
            assert other.taken == 0
    assert budget.current() == budget.Budget()
    budget.current().take(2**30, "Once")
    budget.current().take(2**30, "Again, in another run")


@pytest.mark.parametrize(("memory", "seconds"), [(0, None), (-1, None), (None, 0), (None, float("nan")), (2**40, None)])
def test_numbers_that_make_no_sense(memory: int | None, seconds: float | None) -> None:
    with (
        pytest.raises(SpecError, match="must be a number above 0 and below 1,000,000,000, not "),
        budget.allowed(memory, seconds),
    ):
        pass


def caught_by_nobody() -> None:
    try:
        time.sleep(30)
    except Exception:  # those who catch all that a file may raise do not catch that time is up
        time.sleep(30)


def test_time_is_up() -> None:
    start = time.monotonic()
    with (
        pytest.raises(LimitError, match=r"longer than the 0\.2 seconds .*; --timeout 0\.4 allows more"),
        budget.allowed(seconds=0.2) as given,
        budget.stopwatch(given),
    ):
        caught_by_nobody()
    assert time.monotonic() - start < 20
    with budget.allowed(seconds=0.05) as given, budget.stopwatch(given):
        pass
    time.sleep(0.1)  # the clock was stopped


@pytest.mark.parametrize("command", ["inspect", "verify", "diagnose", "convert", "record", "check"])
def test_every_command_that_reads_files_has_the_options(command: str) -> None:
    text = CliRunner().invoke(cli, [command, "--help"]).output
    assert "--max-memory MIB" in text
    assert "--timeout S" in text


def test_the_options_reach_the_readers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from xframe.cli import main

    np.savez_compressed(tmp_path / "zeros.npz", kernel=np.zeros((2**20, 1), np.float32), bias=np.zeros(1, np.float32))
    for memory, status in (("3", 2), ("5", None)):
        with pytest.raises(SystemExit) as left:
            main(["inspect", str(tmp_path / "zeros.npz"), "--max-memory", memory])
        assert left.value.code == status
    assert "asks for 4 MiB of memory" in capsys.readouterr().err


def test_lists_and_objects_of_json_are_weighed() -> None:
    with budget.allowed(memory=1):
        assert object_of('{"a": [1, 2]}', "It") == {"a": [1, 2]}
        for text in ('{"a": [' + "[]," * 10_000 + "0]}", '{"a": [' + "{}," * 6_000 + "0]}", "[" * 20_000):
            with pytest.raises(LimitError, match="It asks for"):
                object_of(text, "It")


def test_long_names(tmp_path: Path) -> None:
    def write_one(name: str) -> Path:
        header = json.dumps({name: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}).encode()
        header += b" " * (-len(header) % 8)
        (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
        return tmp_path / "m.safetensors"

    assert list(load(write_one("x" * 1024)).tensors) == ["x" * 1024]
    with pytest.raises(FileError, match="a name in it has 1,025 characters, more than 1,024; rename it"):
        load(write_one("x" * 1025))


def test_one_long_cell_does_not_widen_the_table() -> None:
    rows = [("x" * 10_000, "1"), *[(f"t{i}", "2") for i in range(50)]]
    text = write([Table(("name", "number"), tuple(rows))])
    assert len(text) < 52 * 220
    assert shortened("x" * 200) == "x" * 200
    assert shortened("a" + "x" * 300 + "b") == "a" + "x" * 99 + "..." + "x" * 96 + "b"


GRU = Recurrent("gru", 2, 3)


@pytest.mark.parametrize(
    ("spec", "shape", "words"),
    [
        (GRU, (300_000, 2), "would take about 1,500 seconds, and 600 are allowed; --timeout 1500 allows it"),
        (Recurrent("gru", 2, 3, stateful=True, batch_size=300_000), (None, 2), "asks for .* --max-memory"),
    ],
)
def test_models_that_ask_for_long_or_wide_inputs(spec: Recurrent, shape: tuple[int | None, ...], words: str) -> None:
    graph = chained([Node("gru", "recurrent", {"sequence": False}, spec)], shape, "m")
    start = time.process_time()
    with pytest.raises(LimitError, match=f"Running the model 'm' on an input of the shape .* {words}"):
        sole_probe(graph, spec.batch_size or 2, 5)
    assert time.process_time() - start < 2
    with budget.allowed(memory=4000, seconds=2000):
        assert sole_probe(graph, spec.batch_size or 2, 5).shape[-1] == 2


def test_a_repeated_input_is_counted(tmp_path: Path) -> None:
    nodes = (Node("r", "repeat", {"times": 300_000}), Node("gru", "recurrent", {"sequence": False}, GRU))
    with pytest.raises(LimitError, match="would take about 1,500 seconds"):
        sole_probe(chained(nodes, (2,), "m"), 2, 5)


# ---- ONNX: small files that ask for much.


def save(path: Path, nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto]) -> Path:
    graph = helper.make_graph(nodes, "g", [], [], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def ones(count: int) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(np.full(1, 0.5, np.float32), f"a{i}") for i in range(count)]


def shared_sources(path: Path, size: int) -> Path:
    """As many constants, each made of all of as many tensors."""
    concat = helper.make_node("Concat", [f"a{i}" for i in range(size)], ["c"], axis=0)
    others = [helper.make_node("Transpose", ["c"], [f"d{i}"]) for i in range(size)]
    return save(path, [concat, *others], ones(size))


def split(path: Path, size: int) -> Path:
    return save(path, [helper.make_node("Split", ["a0"], [""] * size, name="s")], ones(1))


def nested(path: Path, size: int) -> Path:
    body = helper.make_graph([helper.make_node("Identity", [], []) for _ in range(size)], "g", [], [])
    for _ in range(25):
        body = helper.make_graph([helper.make_node("If", [], [], "i", then_branch=body)], "g", [], [])
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


@pytest.mark.parametrize("make", [shared_sources, split, nested])
def test_onnx_takes_time_as_its_size(make: object, tmp_path: Path) -> None:
    """Sixteen times as much takes far less than the 256 times that the square would be."""
    took = []
    for size in (250, 4000):
        path = make(tmp_path / f"{size}.onnx", size)  # type: ignore[operator]
        start = time.process_time()
        load(path)
        took.append(time.process_time() - start)
    assert took[1] < 64 * max(took[0], 0.01)


def test_sources_that_are_joined_again_and_again_are_counted(tmp_path: Path) -> None:
    size = 400
    concat = helper.make_node("Concat", [f"a{i}" for i in range(size)], ["c"], axis=0)
    others = [helper.make_node("Concat", ["c", f"a{i}"], [f"d{i}"], axis=0) for i in range(size)]
    path = save(tmp_path / "m.onnx", [concat, *others], ones(size))
    load(path)
    with pytest.raises(LimitError, match="what its constants are made of asks for"), budget.allowed(memory=4):
        load(path)
