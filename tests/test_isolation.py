"""Adapters in a process of their own: that they are the adapter, and how the process begins and ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import pytest
from helpers import LAYERS_BY_NAME

import xframe
from xframe.adapters import adapter_of, get_adapter, get_adapters, known_names, title_of
from xframe.errors import LayoutError, MissingFrameworkError, SpecError, UnsupportedError, WorkerError
from xframe.isolation import IsolatedAdapter
from xframe.reference import Given
from xframe.spec import Recurrent

pytestmark = pytest.mark.needs("torch")
GRU = Recurrent("gru", 3, 5)


@pytest.fixture
def torch() -> Any:
    """PyTorch in a process of its own, the same for all tests."""
    return get_adapter("torch", isolate=True)


@pytest.fixture
def own() -> Iterator[IsolatedAdapter]:
    """One whose process no other test uses."""
    adapter = IsolatedAdapter(type(get_adapter("torch")))
    yield adapter
    adapter.close()


# ---- It is the adapter.


@pytest.mark.parametrize("kind", ["lstm-stacked", "gru-before", "rnn-no-bias", "dense"])
def test_it_is_the_adapter(torch: Any, kind: str) -> None:
    spec, here = LAYERS_BY_NAME[kind], get_adapter("torch")
    assert (torch.name, torch.title, torch.packing) == (here.name, here.title, here.packing)
    assert torch.version() == here.version()
    blocks, x, state = helpers.weights(spec, 71), helpers.signal(spec, 71), helpers.start(spec, 71)
    layer = torch.build_loaded(spec, blocks, "float64")
    assert adapter_of(layer) is torch
    assert (torch.spec(layer), torch.dtype(layer)) == (spec, "float64")
    helpers.judge(spec, blocks, Given(x, state), "float64", torch.run(layer, x, state))
    twin = here.build_loaded(spec, blocks, "float64")
    helpers.assert_same_numbers(torch.read(layer), here.read(twin))
    helpers.assert_same_numbers(torch.parameters(layer), here.parameters(twin))
    helpers.assert_same_numbers({n: f() for n, f in torch.tensors(layer).items()}, here.read(twin))
    assert torch.dtype(torch.clone(layer, "float32")) == "float32"


def test_masks_states_and_resets_go_there(torch: Any) -> None:
    spec = Recurrent("lstm", 3, 5, mask="any", masked_output="repeat", stateful=True, batch_size=4)
    blocks, x = helpers.weights(spec, 72), helpers.signal(spec, 72)
    mask = np.arange(x.shape[1]) % 3 != np.arange(4)[:, None] % 3
    layer, begun = torch.build_loaded(spec, blocks, "float64"), Given(x, None, mask)
    helpers.judge(spec, blocks, begun, "float64", torch.run(layer, x, None, mask))
    helpers.judge(spec, blocks, Given(x, None, mask, begun), "float64", torch.run(layer, x, None, mask))
    torch.reset(layer)
    helpers.judge(spec, blocks, begun, "float64", torch.run(layer, x, None, mask))


def test_weights_move_between_processes(torch: Any) -> None:
    spec, keras = LAYERS_BY_NAME["lstm-bidirectional"], get_adapter("torch")
    source = keras.build_loaded(spec, helpers.weights(spec, 73, "float32"), "float32")
    there = torch.build(spec)
    xframe.transfer(source, there)
    back = keras.build(spec)
    xframe.transfer(there, back)
    helpers.assert_same_numbers(keras.parameters(back).effective(), keras.parameters(source).effective())


@pytest.mark.parametrize(
    ("use", "error", "words"),
    [
        (lambda a: a.build(GRU, "float8"), SpecError, "dtype must be"),
        (lambda a: a.build(Recurrent("lstm", 3, 5, form="cell", activation="gelu")), UnsupportedError, "no bare cell"),
        (lambda a: a.run(a.build(GRU), np.ones((2, 3, 4), np.float32)), SpecError, "with 3 features, not"),
        (lambda a: a.load(a.build(GRU), {}), LayoutError, "lack the block"),
        (lambda a: a.write(a.build(GRU), [("weight_hh_l0", np.ones((2, 2)))]), LayoutError, "takes"),
        (lambda a: a.run(a.build(GRU), None), SpecError, "x must be"),
        (
            lambda a: a.write(a.build(GRU), [("no such tensor", np.ones(2))]),
            WorkerError,
            "write of PyTorch failed (KeyError",
        ),
    ],
)
def test_errors_come_back(torch: Any, use: Callable[[Any], Any], error: type[Exception], words: str) -> None:
    """As the errors that they are; what a framework raises by itself, by name."""
    with pytest.raises(error) as caught:
        use(torch)
    assert words in str(caught.value)
    assert torch.spec(torch.build(GRU)) == GRU, "it goes on"


def test_layers_that_nobody_holds_are_let_go(own: IsolatedAdapter) -> None:
    first = own.build(GRU)
    number = first.number
    del first
    second = own.build(GRU)
    with pytest.raises(WorkerError, match="KeyError"):
        own._ask("dtype", helpers_number(own, number))
    assert own.dtype(second) == "float32"


def helpers_number(adapter: IsolatedAdapter, number: int) -> Any:
    from xframe.adapters.base import Isolated

    return Isolated(adapter, adapter._process, number)


def test_frameworks_stay_out_of_this_process() -> None:
    code = """
        import sys, xframe
        verdict = xframe.compare(xframe.Recurrent("lstm", 3, 5), frameworks=["torch"], isolate=True)
        assert verdict, verdict.reason
        verdict.report(), verdict.report("json"), verdict.report("html"), bool(verdict.diagnosis)
        print(verdict.frameworks, sorted({"torch", "keras", "tensorflow", "jax"} & set(sys.modules)))
    """
    assert python(code).stdout == "('torch',) []\n"


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script that has no ``if __name__ == '__main__'``."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=240, check=True, env={**os.environ, **environment},
    )  # fmt: skip


# ---- Names.


def test_names() -> None:
    names = known_names()
    assert names.index("keras[jax]") > names.index("keras")
    assert {title_of(n) for n in names} >= {
        "Keras",
        "PyTorch",
        "Keras on JAX",
        "Keras on PyTorch",
        "Keras on TensorFlow",
    }
    assert title_of("no such thing") == "no such thing"
    for wrong in ("keras[mxnet]", "torch[jax]", "keras[", "keras[]"):
        with pytest.raises(UnsupportedError, match=r"no adapter for .*the adapters are .*keras\[jax\]"):
            get_adapter(wrong)


@pytest.mark.needs("keras")
def test_a_backend_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type(get_adapter("keras"))
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(MissingFrameworkError, match=r"Keras on JAX was asked for, but jax .*: pip install jax\."):
        IsolatedAdapter(kind, "jax")
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingFrameworkError, match=r"Keras on JAX .*pip install 'xframe\[keras\]'\."):
        IsolatedAdapter(kind, "jax")


# ---- How it begins.


def test_processes_start_beside_each_other(own: IsolatedAdapter) -> None:
    """The constructor does not wait: a second one is made long before the first can answer."""
    begun = time.perf_counter()
    others = [IsolatedAdapter(type(get_adapter("torch"))) for _ in range(2)]
    made = time.perf_counter() - begun
    for one in others:
        one.version()
        one.close()
    assert made < (time.perf_counter() - begun) / 3


def test_several_at_once() -> None:
    first, second, third = (
        get_adapters(["torch", "torch", "torch"], isolate=True),
        get_adapters(["torch"]),
        get_adapter("torch"),
    )
    assert len(first) == 1
    assert second == [third]
    assert first[0] is get_adapter("torch", isolate=True)
    assert first[0] is not third


def broken(tmp_path: Path, *lines: str) -> dict[str, str]:
    """The environment of a process that finds another PyTorch, which does this when it is imported."""
    (tmp_path / "torch.py").write_text("\n".join(lines))
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(xframe.__file__).parent.parent)])}


def compare(environment: dict[str, str], *more: str) -> subprocess.CompletedProcess[str]:
    """A comparison on the command line in which PyTorch runs by itself."""
    words = ["compare", "gru", "--hidden", "5", "--features", "3", "--frameworks", "torch", "--isolate", *more]
    return subprocess.run(
        [sys.executable, "-m", "xframe", *words],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environment},
    )  # fmt: skip


def test_a_framework_that_cannot_be_loaded(tmp_path: Path) -> None:
    done = compare(broken(tmp_path, "raise RuntimeError('libcudart.so.1 is not there')"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "PyTorch is installed but cannot be loaded (RuntimeError: libcudart.so.1 is not there)" in done.stderr
    assert done.stderr.count("\n") == 1


# ---- How it ends.


def test_a_crash_is_reported_with_the_last_lines(tmp_path: Path) -> None:
    lines = [
        "import os, sys",
        "print('chatter')",
        "print('cannot map the weights', file=sys.stderr, flush=True)",
        "os.abort()",
    ]
    environment = broken(tmp_path, *lines)
    done = compare(environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert "The process in which PyTorch ran ended by the signal SIGABRT; the last that it wrote: " in done.stderr
    assert "cannot map the weights" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    error = json.loads(compare(environment, "--format", "json").stdout)["error"]
    assert error["kind"] == "worker"


def test_after_a_crash_another_is_started(own: IsolatedAdapter) -> None:
    layer = own.build(GRU)
    assert own._process is not None
    own._process._process.kill()
    with pytest.raises(
        WorkerError, match=r"PyTorch ran ended by the signal SIGKILL and wrote nothing; is there enough memory\?"
    ):
        own.dtype(layer)
    with pytest.raises(WorkerError, match="of a process that has ended; build it again"):
        own.dtype(layer)
    assert own.dtype(own.build(GRU)) == "float32"


def test_a_layer_of_another_process(torch: Any, own: IsolatedAdapter) -> None:
    with pytest.raises(WorkerError, match="is of another process; build it again"):
        own.dtype(torch.build(GRU))


def test_an_exit_status(own: IsolatedAdapter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys; sys.exit('no room')")
    monkeypatch.setattr("xframe.isolation._SCRIPT", str(script))
    own.close()
    with pytest.raises(WorkerError, match=r"ended with status 1; the last that it wrote: no room"):
        own.version()


@pytest.mark.skipif(os.name == "nt", reason="process groups are those of POSIX")
def test_ctrl_c_does_not_reach_it(own: IsolatedAdapter) -> None:
    """The terminal gives it to a whole process group, and then the process would be gone before it can be asked to end."""
    own.version()
    assert own._process is not None
    assert os.getpgid(own._process._process.pid) != os.getpgid(0)


TOKEN = "XFRAME_TEST_TOKEN"


def workers(token: str) -> set[int]:
    """The processes that began with this token in their environment and serve an adapter."""
    found = set()
    for folder in Path("/proc").iterdir():
        try:
            if (
                f"{TOKEN}={token}".encode() in (folder / "environ").read_bytes()
                and b"_worker.py" in (folder / "cmdline").read_bytes()
            ):
                found.add(int(folder.name))
        except (OSError, ValueError):
            continue
    return found


def wait_for(condition: Callable[[], bool]) -> bool:
    """Whether it comes true within a minute."""
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM], ids=lambda how: how.name)
@pytest.mark.parametrize("working", [False, True], ids=["while it starts", "while it works"])
def test_it_ends_with_the_process_that_started_it(tmp_path: Path, how: signal.Signals, working: bool) -> None:
    """Ctrl-C goes to the whole group, and leaves by 130 without a word; what kills the parent ends the others too."""
    token = f"{how.name}-{working}-{os.getpid()}"
    words = ["-m", "xframe", "compare", "--suite", "full", "--frameworks", "torch", "--isolate"]
    if working:
        words = ["-c", f"{WORK}\nwork({str(tmp_path / 'begun')!r})"]
    process = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env={**os.environ, TOKEN: token},
    )  # fmt: skip
    assert wait_for(lambda: bool(workers(token)) and (not working or (tmp_path / "begun").exists()))
    os.killpg(process.pid, how)
    out, err = process.communicate(timeout=60)
    assert out == ""
    assert "Traceback" not in err, err
    if how is signal.SIGINT:
        assert process.returncode == 130
    assert wait_for(lambda: not workers(token)), "left behind"


WORK = """
import sys
from pathlib import Path

def work(begun):
    from xframe.adapters import get_adapter
    from xframe.cli import main
    adapter = get_adapter("torch", isolate=True)
    adapter.version()
    Path(begun).touch()
    main("compare --suite --frameworks torch --isolate --quiet --steps 400 --batch 64".split())
"""
