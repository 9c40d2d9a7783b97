"""The folder one stands in may have come from a stranger: nothing that lies in it is run, whatever it is called."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import xframe

XFRAME = str(Path(sys.executable).with_name("xframe"))
OTHERS = (
    "absl click equinox flax google h5py jax jaxlib keras markupsafe matplotlib ml_dtypes numpy onnx onnxruntime optree "
    "packaging safetensors scipy sitecustomize tabulate tensorflow tf_keras torch triton typing_extensions usercustomize wrapt"
).split()


def plant(folder: Path, names: Iterable[str]) -> Path:
    """Modules of these names, each of which leaves a trace where it is run; gives the file of the traces."""
    traces = folder.parent / "traces.txt"
    for name in names:
        text = f"print({name!r}, file=open({str(traces)!r}, 'a'))\nraise ImportError('a stranger was asked')\n"
        (folder / f"{name}.py").write_text(text)
    return traces


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of model files, and of a module for every name that Python or a framework has."""
    place = tmp_path_factory.mktemp("strange") / "folder"
    place.mkdir()
    random = np.random.default_rng(5)
    shapes = {"kernel": (3, 12), "recurrent_kernel": (4, 12), "bias": (2, 12)}
    arrays = {name: random.uniform(0.2, 1.0, shape).astype("f4") for name, shape in shapes.items()}
    np.savez(place / "a.npz", **{f"gru/{name}": array for name, array in arrays.items()})
    np.savez(place / "b.npz", **{f"gru/{name}": -array for name, array in arrays.items()})
    weights = {"W": (1, 12, 3), "R": (1, 12, 4), "B": (1, 24)}
    graph = helper.make_graph(
        [
            helper.make_node("GRU", ["x", "W", "R", "B"], ["all"], hidden_size=4, linear_before_reset=1),
            helper.make_node("Relu", ["all"], ["y"]),
        ],
        "graph",
        [helper.make_tensor_value_info("x", 1, [5, 2, 3])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(random.uniform(0.2, 1.0, shape).astype("f4"), n) for n, shape in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8), place / "m.onnx")
    plant(place, [*sys.stdlib_module_names, *OTHERS])
    return place


GRU = "gru --hidden 3 --features 2"
KERAS = "--recurrent-activation sigmoid"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("--version", 0),
        ("--help", 0),
        ("completion bash", 0),
        (f"explain {GRU}", 0),
        (f"inspect a.npz {KERAS} --output a.html", 0),
        ("inspect m.onnx --format json", 0),
        pytest.param(f"verify a.npz b.npz {KERAS}", 1, marks=pytest.mark.slow),
        pytest.param(f"diagnose a.npz b.npz {KERAS}", 1, marks=pytest.mark.slow),
        pytest.param(f"compare {GRU} --frameworks torch,onnx", 0, marks=pytest.mark.slow),
        pytest.param(f"compare {GRU} --frameworks torch --isolate", 0, marks=pytest.mark.slow),
        pytest.param(f"compare {GRU} --frameworks keras[torch]", 0, marks=pytest.mark.slow),
        *(
            pytest.param(f"convert a.npz to-{to} --to {to} {KERAS} --layers-only", 0, marks=pytest.mark.slow)
            for to in ("torch", "keras", "onnx", "npz")
        ),
        pytest.param(f"record {GRU} --framework torch -o golden.npz --force", 0, marks=pytest.mark.slow),
        pytest.param("doctor", 0, marks=pytest.mark.slow),
    ],
)
def test_no_command_runs_what_lies_there(words: str, status: int, folder: Path) -> None:
    done = subprocess.run(
        [XFRAME, *words.split()], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    traces = folder.parent / "traces.txt"
    assert not traces.exists(), traces.read_text()
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr


def test_a_module_of_python_by_m(tmp_path: Path) -> None:
    """``python -m`` looks into the folder for what it needs before xframe begins, and for nothing after that."""
    place = tmp_path / "folder"
    place.mkdir()
    (tmp_path / "probe.py").write_text("import sys; print(*sys.modules)")
    environment = {**os.environ, "PYTHONPATH": str(Path(xframe.__file__).parent.parent)}
    words = [sys.executable, "-m", "probe"]
    before = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    traces = plant(place, {*sys.stdlib_module_names, *OTHERS} - set(before))
    np.savez(place / "a.npz", **{"dense/kernel": np.ones((2, 3), "f4"), "dense/bias": np.ones(3, "f4")})
    done = subprocess.run(
        [sys.executable, "-m", "xframe", "inspect", "a.npz"],
        cwd=place, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert not traces.exists(), traces.read_text()
    assert done.returncode == 0, done.stderr


SUITE = """
from xframe.suite import _workers
if __name__ == '__main__':
    with _workers('full') as each:
        print(sum(each(abs, range(-3, 4))))
"""
ONNX = """
from pathlib import Path
import numpy as np
from xframe.programs import program_of_onnx
(ran,) = program_of_onnx(Path('m.onnx')).run([np.ones((5, 2, 3), 'f4')])
print(ran.failure or ran.outputs['y'].shape)
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        pytest.param(
            SUITE,
            "12",
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(
                    sys.version_info < (3, 11), reason="Python 3.10 has no safe path, and so one process"
                ),
            ],
        ),
        (ONNX, "(5, 1, 2, 4)"),
    ],
    ids=["the processes of a suite", "ONNX Runtime"],
)
def test_no_process_runs_what_lies_there(code: str, said: str, folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert not (folder.parent / "traces.txt").exists(), (folder.parent / "traces.txt").read_text()
    assert (done.returncode, done.stdout) == (0, f"{said}\n"), done.stderr


def test_nothing_is_pickled() -> None:
    """Neither for a file nor for another process; `pickletools` only looks."""
    for path in Path(xframe.__file__).parent.rglob("*.py"):
        assert not re.search(r"^\s*(import|from) (pickle|marshal|shelve|dill)\b", path.read_text(), re.MULTILINE), path
