"""Test the wheel and the source distribution that `make dist` built, as users get them.

By itself: what is in both; then each extra, installed from the wheel in an empty environment, by what it is for. With --oldest:
the tests of the source distribution with the wheel, on the oldest versions that xframe works with. Nothing is run in the source
tree, so that nothing of it can be taken for what was installed.

    python scripts/test_wheel.py [--oldest [TEST ...]]
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Tests of what frameworks and libraries do, which other versions may do otherwise.
FILES = "adapters cli comparison files_keras files_onnx formats keras_options packaging plugin torch_options transfer"
CONTRACT = [f"tests/test_{name}.py" for name in FILES.split()]
# By the name of a folder: the extras, what tests need besides, the frameworks that are tested, the tests, and pins that are
# others there: the oldest TensorFlow needs an ml_dtypes that is too old for JAX.
OLDEST: dict[str, tuple[str, str, str, list[str], list[str]]] = {
    "oldest": ("keras,torch,onnx,files,plot,test", "", "keras,torch,onnx", CONTRACT, []),
    "oldest-jax": (
        "flax,equinox",
        "hypothesis pytest pytest-xdist",
        "flax,flax-linen,equinox",
        ["tests/test_adapters.py"],
        ["ml_dtypes==0.5.0"],
    ),
}
# Extras for those who work on xframe; whoever installs a wheel has no use for them.
DEVELOPMENT = {"dev", "docs", "test"}
# Written into each distribution by those that build it.
BUILT = {"PKG-INFO", "setup.cfg"}
INFORMATION = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"}
NOT_DISTRIBUTED = {".ci/run", ".gitignore"}


class Environment:
    """An empty virtual environment in a new folder, and beside it a folder in which commands run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "work").mkdir(parents=True)
        venv.create(folder / "venv")

    def install(self, *arguments: str) -> None:
        """Install by the pip of the Python that runs this, without compiling what may never be imported."""
        pip = [sys.executable, "-m", "pip", "--python", str(self.folder / "venv"), "--disable-pip-version-check"]
        for words in (["install", "--quiet", "--quiet", "--no-compile", *arguments], ["check"]):
            done = subprocess.run(
                [*pip, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
            )
            if done.returncode:
                sys.exit(f"pip {' '.join(words)} fails:\n{done.stdout}")

    def run(self, command: str, *arguments: str, status: int = 0) -> str:
        """What a program of the environment prints; ``command`` is split at spaces."""
        program, *words = command.split()
        done = subprocess.run(
            [str(self.folder / "venv" / "bin" / program), *words, *arguments],
            cwd=self.folder / "work",
            env={k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "GITHUB_STEP_SUMMARY")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != status:
            sys.exit(f"{command} left with {done.returncode}, not {status}:\n{done.stdout}")
        return done.stdout

    def expect(self, words: str, command: str, *arguments: str, status: int = 0) -> None:
        """Run a program, and stop unless it prints these words."""
        printed = " ".join(self.run(command, *arguments, status=status).split())
        if words not in printed:
            sys.exit(f"{command} does not say {words!r} but:\n{printed}")


# ---- What is in them.


def check_content(wheel: Path, source: Path) -> None:
    """Stop unless the wheel is the package, and the source distribution all of the repository but `NOT_DISTRIBUTED`."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    paths = subprocess.run(listed, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    files = {path for path in paths if (ROOT / path).is_file()}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    information = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
    package = {path for path in files if path.startswith("xframe/")}
    _same(wheel, names, package | {f"{information}/{name}" for name in INFORMATION})
    with tarfile.open(source) as archive:
        inside = {member.name.partition("/")[2] for member in archive if member.isfile()}
    _same(source, {name for name in inside if not name.startswith("xframe.egg-info/")}, files - NOT_DISTRIBUTED | BUILT)


def _same(archive: Path, found: set[str], wanted: set[str]) -> None:
    for names, what in ((wanted - found, "lacks"), (found - wanted, "should not hold")):
        if names:
            sys.exit(
                f"{archive.name} {what} {', '.join(sorted(names))}; see package-data in pyproject.toml and MANIFEST.in."
            )


def extras(wheel: Path) -> set[str]:
    """The extras of a wheel for users."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return set(message_from_bytes(archive.read(name)).get_all("Provides-Extra", [])) - DEVELOPMENT


# ---- What each extra is for.

MODELS = """
import numpy as np
random = np.random.default_rng(0)
shapes = {"weight_ih_l0": (15, 3), "weight_hh_l0": (15, 5), "bias_ih_l0": (15,), "bias_hh_l0": (15,)}
arrays = {name: random.uniform(0.1, 0.6, shape).astype("float32") for name, shape in shapes.items()}
np.savez("gru.npz", **arrays)
swapped = arrays["weight_hh_l0"][[*range(5, 10), *range(5), *range(10, 15)]]
np.savez("swapped.npz", **arrays | {"weight_hh_l0": swapped})
"""
PLUGIN = """
import torch, xframe
def test_copies(assert_equivalent):
    layers = [torch.nn.LSTM(3, 5, batch_first=True) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    assert_equivalent(*layers)
"""


def check_bare(there: Environment) -> None:
    there.expect("hidden*(hidden+features+2)", "xframe explain rnn --hidden 10 --features 1")
    there.expect("torch not installed", "xframe --version")
    there.expect("_XFRAME_COMPLETE", "xframe completion bash")
    for name in ("keras", "torch"):
        there.expect(f"pip install 'xframe[{name}]'.", f"xframe compare --frameworks {name}", status=2)
    there.expect(
        "pip install 'xframe[files]'.", "xframe convert gru.npz onnx --to onnx --packing torch --layers-only", status=2
    )
    there.expect("pip install 'xframe[plot]'.", "xframe diagnose gru.npz swapped.npz --plot error.png", status=2)
    there.expect("gates r and z swapped", "xframe diagnose gru.npz swapped.npz --packing torch", status=1)
    there.expect("'$schema'", "python -c", "import xframe.report; print(xframe.report.schema())")


def compared(frameworks: str, cell: str = "lstm") -> Callable[[Environment], None]:
    """A check: layers of these frameworks, named by comma, are equivalent."""
    command = f"xframe compare {cell} --hidden 4 --features 3 --frameworks {frameworks}"
    return lambda there: there.expect("VERDICT: equivalent.", command)


def check_torch(there: Environment) -> None:
    compared("torch")(there)
    there.run("python -c", "import torch; torch.save(torch.nn.LSTM(3, 5).state_dict(), 'lstm.pt')")
    there.expect("LSTM(5) on 3 features", "xframe inspect lstm.pt")


def check_files(there: Environment) -> None:
    there.run(
        "python -c", "import numpy, safetensors.numpy as s; s.save_file(dict(numpy.load('gru.npz')), 'gru.safetensors')"
    )
    there.expect("GRU(5) on 3 features", "xframe inspect gru.safetensors")
    there.expect("VERDICT: equivalent.", "xframe convert gru.safetensors onnx --to onnx --packing torch --layers-only")


def check_plot(there: Environment) -> None:
    there.run("xframe diagnose gru.npz swapped.npz --packing torch --plot error.png", status=1)
    if not (there.folder / "work" / "error.png").read_bytes().startswith(b"\x89PNG"):
        sys.exit("xframe diagnose --plot error.png drew no PNG.")


def check_all(there: Environment) -> None:
    there.expect("VERDICT: equivalent. Keras and PyTorch compute the same function", "xframe compare")
    there.install("--constraint", str(ROOT / "constraints.txt"), "pytest")
    (there.folder / "work" / "test_plugin.py").write_text(PLUGIN, encoding="utf-8")
    there.expect("1 passed", "python -m pytest -q --xframe-report report.json")
    there.expect("'equivalent'", "python -c", "import json; print(json.load(open('report.json'))['status'].__repr__())")


CHECKS: dict[str, Callable[[Environment], None]] = {
    "": check_bare,
    "torch": check_torch,
    "keras": compared("keras"),
    "onnx": compared("onnx"),
    "flax": compared("flax,flax-linen"),
    "equinox": compared("equinox"),
    "files": check_files,
    "plot": check_plot,
    "all": check_all,
}


def check_extra(wheel: Path, extra: str, folder: Path) -> str:
    """Install the wheel with an extra in an empty environment, use it, and say so."""
    there = Environment(folder / (extra or "none"))
    there.install("--constraint", str(ROOT / "constraints.txt"), f"{wheel}[{extra}]" if extra else str(wheel))
    there.expect("/site-packages/xframe/__init__.py", "python -c", "import xframe; print(xframe.__file__)")
    there.run("python -c", MODELS)
    CHECKS[extra](there)
    return f"pip install {wheel.name}{f'[{extra}]' if extra else ''}: works"


# ---- The oldest versions.


def constraints(others: Sequence[str] = ()) -> str:
    """These pins; of constraints-oldest.txt what they do not name; and of constraints.txt what neither names."""
    found = list(others)
    for name in ("constraints-oldest", "constraints"):
        named = {_normal(line) for line in found}
        lines = (ROOT / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        found += [line for line in lines if _normal(line) not in named]
    return "\n".join(found)


def _normal(line: str) -> str:
    return re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower()


def test_oldest(wheel: Path, source: Path, folder: Path, name: str, tests: Sequence[str]) -> int:
    """Run tests of the source distribution with the wheel and the oldest versions, those of one line of `OLDEST`."""
    extras, besides, frameworks, usual, others = OLDEST[name]
    there = Environment(folder / name)
    (folder / f"{name}.txt").write_text(constraints(others), encoding="utf-8")
    there.install("--constraint", str(folder / f"{name}.txt"), f"{wheel}[{extras}]", *besides.split())
    print(there.run("xframe --version"), end="", flush=True)
    with tarfile.open(source) as archive:
        archive.extractall(there.folder)
    tree = there.folder / source.name.removesuffix(".tar.gz")
    (tree / "xframe").rename(there.folder / "not-imported")
    python = there.folder / "venv" / "bin" / "python"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(python), "-m", "pytest", "--numprocesses", "auto", "--maxprocesses", "4", "-m", "not slow"]
    # What a version may do otherwise shows in float32, too.
    command += ["--frameworks", frameworks, *(tests or [*usual, "-k", "not float64"])]
    return subprocess.run(command, cwd=tree, env=environment, check=False).returncode


def main() -> None:
    """Test; stop with one sentence at the first thing that is wrong."""
    parser = argparse.ArgumentParser(description="Test the wheel and the source distribution in dist/.")
    parser.add_argument(
        "--oldest", nargs="*", metavar="TEST", help="these tests on the oldest versions; a choice if none is named"
    )
    given = parser.parse_args()
    (wheel,), (source,) = (list((ROOT / "dist").glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    with tempfile.TemporaryDirectory(prefix="xframe-wheel-") as temporary:
        if given.oldest is not None:
            codes = [test_oldest(wheel, source, Path(temporary), name, given.oldest) for name in OLDEST]
            sys.exit(max(codes))
        check_content(wheel, source)
        print(f"{wheel.name} and {source.name} hold what they should")
        if extras(wheel) != {extra for extra in CHECKS if extra}:
            sys.exit(f"The extras are {', '.join(sorted(extras(wheel)))}; each needs a check in scripts/test_wheel.py.")
        with ThreadPoolExecutor(2) as pool:
            for line in pool.map(lambda extra: check_extra(wheel, extra, Path(temporary)), CHECKS):
                print(line, flush=True)


if __name__ == "__main__":
    main()
