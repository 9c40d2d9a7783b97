"""``xframe doctor``: that what it says of this process is so, and that a broken framework is reported and not hidden."""

from __future__ import annotations

import importlib
import json
import platform
import re
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import FLOATS_LACKED, clear_registry, entry_point
from test_cli import run

import xframe
from xframe.adapters import base, get_adapter, known_adapters
from xframe.environment import Examination, doctor
from xframe.layout import Layout, Leaf, Tensor
from xframe.reference import Outputs

FRAMEWORKS = [pytest.param(name, marks=pytest.mark.needs(name)) for name in known_adapters()]
TORCH, KERAS = pytest.mark.needs("torch"), pytest.mark.needs("keras")


def values(found: Examination, title: str) -> dict[str, str]:
    """A section's settings by name."""
    section = next(one for one in found.sections if one.title == title)
    assert len({one.name for one in section.settings}) == len(section.settings)
    return {one.name: one.value for one in section.settings}


@pytest.fixture
def fresh_registry() -> Iterator[None]:
    """Let frameworks be loaded anew, and forget afterwards what came of it."""
    clear_registry()
    yield
    clear_registry()


def test_every_row_says_what_it_does_to_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "doctor")
    assert (status, err) == (0, "")
    assert out.count("what it does to the numbers") == 2 + len(known_adapters())
    assert f"Python                       {platform.python_version()}" in out
    status, out, _ = run(capsys, "doctor", "--format", "json")
    content = json.loads(out)
    assert (status, content["command"], content["status"]) == (0, "doctor", "done")
    assert {"xframe", "python", "platform", "numpy"} <= set(content["environment"])
    settings = [setting for section in content["sections"] for setting in section["settings"]]
    assert len(settings) > 20
    for setting in settings:
        assert set(setting) == {"name", "value", "effect"}
        assert setting["value"]
        assert len(setting["effect"]) > 8
    status, out, _ = run(capsys, "doctor", "--format", "markdown")
    assert status == 0
    assert out.startswith("## What can change a number here\n")
    assert "| OMP\\_NUM\\_THREADS" in out or "| OMP_NUM_THREADS" in out


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_float_types_are_tried(framework: str) -> None:
    adapter = get_adapter(framework)
    section = next(one for one in doctor().sections if one.title == adapter.title)
    assert section.settings[0][:2] == (adapter.title, adapter.version())
    rows = {one.name: one for one in section.settings}
    for dtype in base.FLOATS:
        lacking = dtype in FLOATS_LACKED.get(framework, set())
        assert rows[dtype].value.startswith("does not run: " if lacking else "runs"), dtype
        assert lacking or rows[dtype].value == "runs"
    for dtype in ("float64", "float32", "float16"):
        # Half the distance from 1 to the next number.
        assert f"unit roundoff {np.finfo(dtype).eps / 2:.2g} " in rows[dtype].effect
    assert "unit roundoff 0.0039 (2^-8)" in rows["bfloat16"].effect


def test_a_float_type_that_a_framework_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    with entry_point("toy_adapter"):
        found = values(doctor(), "Toy")
    assert found == {
        "Toy": "1.0",
        "float64": "runs",
        "float32": "runs",
        "float16": "does not run: Toy has no float16.",
        "bfloat16": "does not run: Toy has no bfloat16.",
    }


def test_a_float_type_that_is_a_narrower_one_in_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """As float64 is on JAX unless it is told otherwise."""
    with entry_point("toy_adapter"):
        kind = known_adapters()["toy"]
        right = kind.run

        def narrow(self: Any, layer: Any, x: np.ndarray, *more: Any) -> Any:
            out = right(self, layer, x, *more)
            return replace(out, last=out.last.astype(np.float32).astype(x.dtype))

        monkeypatch.setattr(kind, "run", narrow)
        found = values(doctor(), "Toy")
    assert re.fullmatch(r"runs, but \de\+0[78] times as inexact", found["float64"])
    assert found["float32"] == "runs"


def test_a_framework_that_has_dense_layers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout((Tensor("weight", Leaf("kernel")), Tensor("shift", Leaf("bias"))))

    def product(self: Any, layer: Any, x: np.ndarray, *_: Any) -> Outputs:
        kernel, bias = layer.values()
        y = x @ kernel.astype(x.dtype) + bias.astype(x.dtype)
        return Outputs(y, y, {})

    with entry_point("toy_adapter"):
        kind = known_adapters()["toy"]
        monkeypatch.setattr(kind, "packing", replace(kind.packing, rows={"dense": layout}))
        monkeypatch.setattr(kind, "build_loaded", lambda self, spec, blocks, dtype: dict(blocks))
        monkeypatch.setattr(kind, "run", product)
        right = values(doctor(), "Toy")
        monkeypatch.setattr(kind, "run", lambda self, layer, x, *_: product(self, layer, x * x.dtype.type(1.001)))
        wrong = values(doctor(), "Toy")
    assert (right["float64"], right["float32"]) == ("runs", "runs")
    assert re.fullmatch(r"runs, but \de\+\d\d times as inexact", wrong["float64"])


@TORCH
def test_what_pytorch_is_set_to(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    found = values(doctor(), "PyTorch")
    assert found["threads"] == str(torch.get_num_threads())
    assert found["default dtype"] == "float32"
    assert found["deterministic algorithms"] == "off"
    assert found["float32 in cuDNN's RNNs"] == "tf32"
    assert found["float32 in products"] == "ieee"
    assert found["CUBLAS_WORKSPACE_CONFIG"] == "not set"
    threads, cudnn, products = torch.get_num_threads(), torch.backends.cudnn.allow_tf32, "highest"
    try:
        torch.set_num_threads(3)
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
        found = values(doctor(), "PyTorch")
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.allow_tf32 = cudnn
        torch.backends.cudnn.benchmark = False
        torch.set_float32_matmul_precision(products)
    assert found["threads"] == "3"
    assert found["default dtype"] == "float64"
    assert found["deterministic algorithms"] == "warn only"
    assert found["cuDNN benchmark"] == "on"
    assert found["float32 in cuDNN's RNNs"] == "ieee"
    assert found["float32 in products"] == "tf32"
    assert found["float32 matmul precision"] == "high"
    assert found["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


class Refusing:
    """PyTorch's older switch, once the newer one has been used."""

    @property
    def allow_tf32(self) -> bool:
        raise RuntimeError("mix of the legacy and new APIs")


NEWER, OLDER = Refusing(), SimpleNamespace(allow_tf32=True)
NEWER.fp32_precision, NEWER.rnn = "none", SimpleNamespace(fp32_precision="tf32")  # type: ignore[attr-defined]


@TORCH
@pytest.mark.parametrize(
    ("cudnn", "matmul", "wanted"),
    [
        (OLDER, SimpleNamespace(allow_tf32=False), ["ieee", "tf32"]),
        (SimpleNamespace(allow_tf32=False), OLDER, ["tf32", "ieee"]),
        (NEWER, NEWER, ["ieee", "tf32"]),
    ],
)
def test_tf32_is_found_in_older_and_newer_versions(
    cudnn: Any, matmul: Any, wanted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> str:
        raise RuntimeError("mix of the legacy and new APIs")

    adapter = get_adapter("torch")
    backends = SimpleNamespace(cudnn=cudnn, cuda=SimpleNamespace(matmul=matmul))
    monkeypatch.setattr(adapter, "_torch", SimpleNamespace(backends=backends, get_float32_matmul_precision=refuse))
    found = [one.value for one in adapter._narrowing()]  # type: ignore[attr-defined]
    assert found[:3] == [*wanted, "set otherwise"]


@KERAS
def test_what_keras_is_set_to(monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    found = values(doctor(), "Keras")
    assert found["backend"] == keras.backend.backend()
    assert (found["floatx"], found["dtype policy"]) == ("float32", "float32")
    try:
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("mixed_bfloat16")
        found = values(doctor(), "Keras")
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
    assert (found["floatx"], found["dtype policy"]) == ("float64", "mixed_bfloat16")
    assert found["float16"] == "runs"


@KERAS
def test_what_tensorflow_is_set_to(monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    if keras.backend.backend() != "tensorflow":
        pytest.skip("Keras runs on another backend")
    import tensorflow

    config = tensorflow.config
    found = values(doctor(), "Keras")
    assert "CPU:0" in found["TensorFlow devices"]
    assert (found["TensorFlow TF32"], found["TensorFlow op determinism"]) == ("on", "off")
    assert found["TensorFlow JIT"] == "off"
    try:
        config.experimental.enable_tensor_float_32_execution(False)
        config.optimizer.set_jit("autoclustering")
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
        found = values(doctor(), "Keras")
    finally:
        config.experimental.enable_tensor_float_32_execution(True)
        config.optimizer.set_jit(False)
    assert (found["TensorFlow TF32"], found["TensorFlow JIT"]) == ("off", "autoclustering")
    assert found["TF_ENABLE_ONEDNN_OPTS"] == "0"
    # Once it is on it cannot be switched off, so TensorFlow is only asked whether it is.
    inner = importlib.import_module("tensorflow.python.framework.config")
    monkeypatch.setattr(inner, "is_op_determinism_enabled", lambda: True)
    assert values(doctor(), "Keras")["TensorFlow op determinism"] == "on"
    monkeypatch.delattr(inner, "is_op_determinism_enabled")
    assert values(doctor(), "Keras")["TensorFlow op determinism"] == "unknown"


def test_variables_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    found = values(doctor(), "Environment variables")
    assert (found["OMP_NUM_THREADS"], found["MKL_NUM_THREADS"]) == ("7", "not set")


def test_what_numpy_computes_with() -> None:
    found = values(doctor(), "Python and NumPy")
    assert found["NumPy"] == np.__version__
    build: Any = np.show_config(mode="dicts")
    assert build["Build Dependencies"]["blas"]["name"] in found["NumPy's BLAS"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_broken_framework_is_reported(
    framework: str, fresh_registry: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = base.import_module

    def broken(name: str) -> Any:
        if name == known_adapters()[framework].requires[0]:
            raise OSError("libsomething.so: cannot open shared object file")
        return right(name)

    monkeypatch.setattr(base, "import_module", broken)
    title = known_adapters()[framework].packing.title
    status, out, err = run(capsys, "doctor")
    assert (status, err) == (2, "")
    said = f"{title} is installed but cannot be loaded (OSError: libsomething.so: cannot open shared object file); reinstall"
    assert " ".join(out.split()).count(said) == 2
    # The others are examined all the same.
    assert "unit roundoff 1.1e-16" in out
    assert run(capsys, "doctor", "--quiet")[:2] == (2, "")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_framework_that_does_not_say_what_it_is_set_to(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def settings(self: object) -> Iterator[base.Setting]:
        yield base.Setting("threads", "2", "other rounding")
        raise RuntimeError("no such flag")

    monkeypatch.setattr(known_adapters()[framework], "settings", settings)
    found = doctor()
    assert not found
    title = known_adapters()[framework].packing.title
    assert f"{title} can be loaded but does not say what it is set to (RuntimeError: no such flag)" in found.reason
    assert framework not in found.environment


def test_frameworks_that_are_not_installed(
    fresh_registry: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    status, out, err = run(capsys, "doctor")
    assert (status, err) == (0, "")
    assert out.count("not installed") == len(known_adapters())
    assert "counted and explained only; to run it: pip install 'xframe[torch]'" in out
    assert "Every framework that is installed can be loaded: there is none." in out


BAD = {
    "an argument": ("doctor torch", "unexpected extra argument"),
    "an option": ("doctor --framework torch", "No such option"),
    "a format": ("doctor --format yaml", "'yaml' is not one of"),
    "test cases": ("doctor --format junit", "JUnit XML has a test case for each check, and xframe doctor makes none"),
    "output in no folder": ("doctor --output no/such/report.txt", "does not exist; make it first"),
}


@pytest.mark.parametrize(("line", "words"), BAD.values(), ids=BAD)
def test_bad_input_gets_one_sentence(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, *line.split())
    assert (status, out) == (2, "")
    assert words in err
    assert err.startswith("xframe: error: ")
    assert err.count("\n") == 1


def test_in_python() -> None:
    found = xframe.doctor()
    assert found
    assert "What can change a number here" in found.report()
