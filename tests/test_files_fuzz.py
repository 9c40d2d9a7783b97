"""Corrupted model files in every format: each is read or refused, and none ends, holds or fills the process.

scripts/fuzz_files.py makes and judges them; it says how to see one of them again.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType

import helpers
import numpy as np
import pytest

from xframe.files import FORMATS, load

SCRIPTS = Path(__file__).parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))  # what the script imports is beside it
NUMBER = 400


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    """scripts/fuzz_files.py."""
    return helpers.module_at(SCRIPTS / "fuzz_files.py")


@pytest.fixture(scope="module")
def samples(fuzz: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("samples")
    fuzz.write_samples(folder)
    return folder


pytestmark = [
    pytest.mark.needs("keras", "torch"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),
]


@pytest.mark.parametrize("name", FORMATS)
def test_samples(name: str, samples: Path) -> None:
    """The good files of each format are of that format, and hold numbers."""
    found = list((samples / name).iterdir())
    assert found
    for path in found:
        file = load(path)
        assert file.format == name
        assert file.tensors
        for tensor in file.tensors.values():
            assert np.ptp(tensor.read()) > 0 or tensor.count == 1


@pytest.mark.parametrize("name", FORMATS)
def test_corrupted(name: str, fuzz: ModuleType, samples: Path) -> None:
    assert fuzz.run(samples, name, NUMBER, seed=0) == []


@pytest.mark.parametrize("name", FORMATS)
def test_corruption_corrupts(name: str, fuzz: ModuleType, samples: Path, tmp_path: Path) -> None:
    """Almost each corrupted file differs from its sample, and the same seed makes the same one."""
    sample = min((samples / name).iterdir())

    def content(path: Path) -> list[bytes]:
        return (
            [p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()] if path.is_dir() else [path.read_bytes()]
        )

    changed = 0
    for seed in range(20):
        both = [tmp_path / f"{seed}{which}{sample.suffix}" for which in "ab"]
        for target in both:
            fuzz.corrupted(sample, target, np.random.default_rng(seed))
        assert content(both[0]) == content(both[1]) or name == "keras"  # a zip says when it was made
        changed += content(both[0]) != content(sample)
    assert changed >= 15


@pytest.mark.parametrize("name", FORMATS)
def test_fields_are_changed(name: str, fuzz: ModuleType, samples: Path) -> None:
    """Each change of a field makes another file of a good one, and the same seed the same."""
    for sample in sorted(path for path in (samples / name).rglob("*") if path.is_file()):
        data = sample.read_bytes()
        one, other = (
            [fuzz._fields.changed(name, data, np.random.default_rng(seed)) for seed in range(12)] for _ in range(2)
        )
        assert one == other
        if sample.suffix not in (".data-00000-of-00001", ""):  # the numbers of a checkpoint, and the name of the latest
            assert sum(changed != data for changed in one) >= 8


@pytest.mark.slow
@pytest.mark.parametrize("does", ["verify", "convert"])
@pytest.mark.parametrize("name", FORMATS)
def test_corrupted_is_verified_and_converted(name: str, does: str, fuzz: ModuleType, samples: Path) -> None:
    assert fuzz.run(samples, name, 12, seed=0, does=does) == []


BAD_READERS = {
    "raise ValueError('no')": "ValueError('no')",
    "import os; os.abort()": "the process dies with status -6",
    "import time; time.sleep(60)": "the process hangs",
    "import time; end = time.process_time() + 0.6\n        while time.process_time() < end: pass": "took 0.",
    "b'1' * (600 * 2**20)": "MB",
    "raise type('Two', (XframeError,), {'__str__': lambda _: 'two\\nlines.'})": "more or less than a sentence",
}


@pytest.mark.parametrize("bad", BAD_READERS)
def test_the_harness_finds_it(
    bad: str, fuzz: ModuleType, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that does this at the third corrupted file is found, and the fourth is still read."""
    script = tmp_path / "fuzz.py"
    good = (Path(fuzz.__file__)).read_text()
    # The good files are read first, one of safetensors.
    hook = f"    read_all.count = getattr(read_all, 'count', 0) + 1\n    if read_all.count == 4:\n        {bad}\n"
    changed = good.replace("    for tensor in load(path)", f"{hook}    for tensor in load(path)")
    assert changed != good
    shutil.copy(SCRIPTS / "_fields.py", tmp_path)
    for was, now in (("HANG_SECONDS = 60", "HANG_SECONDS = 12"), ('{"inspect": 6.0', '{"inspect": 0.5')):
        assert was in changed
        changed = changed.replace(was, now)
    script.write_text(changed)
    monkeypatch.setattr(fuzz, "__file__", str(script))
    findings = fuzz.run(samples, "safetensors", 4, seed=10)
    assert len(findings) == 1
    assert findings[0].startswith("safetensors: seed 12 ")
    assert BAD_READERS[bad] in findings[0]


@pytest.mark.parametrize("words", [["--does", "nothing"], ["--formats", "npz,other"], ["--seconds", "soon"]])
def test_what_the_script_does_not_know(
    words: list[str], fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["fuzz_files.py", *words])
    with pytest.raises(SystemExit) as left:
        fuzz.main()
    assert left.value.code == 2
    assert words[1].split(",")[-1] in capsys.readouterr().err
