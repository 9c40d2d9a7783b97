"""Damages model files in every format, in seeded ways, and looks how xframe takes it.

Writes small good files, one or more a format, and corrupts copies: half of them blindly, half with knowledge of the format's
fields (`_fields`). Each is inspected, verified against the good one, or converted. Only success or an XframeError is right.
Anything else is printed with its seed: another exception, a process that dies or hangs, too much time of the processor, more
than 500 MB of memory. Each format is read in a process of its own, which one file may end.

    python scripts/fuzz_files.py [NUMBER] [SEED] [--does inspect,verify,convert] [--formats ...] [--seconds S]

NUMBER corrupted files a format (500), from SEED (0) on: a finding with seed 17 comes again with ``fuzz_files.py 1 17``. With
``--seconds``, as many as that time allows, in turns.
"""

from __future__ import annotations

import argparse
import io
import itertools
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import _fields
import numpy as np

from xframe.errors import XframeError
from xframe.files import FORMATS, load

__all__ = ["SAMPLES", "corrupted", "run", "write_samples"]

# Of the processor, for each of the things that are done with a file.
LIMIT_SECONDS = {"inspect": 6.0, "verify": 15.0, "convert": 15.0}
LIMIT_GROWTH = 500 * 2**10  # KiB
HANG_SECONDS = 60
# So many files of a format in a turn, where there are turns.
TURN = {"inspect": 40, "verify": 4, "convert": 4}

Bytes = bytearray


def arrays() -> dict[str, np.ndarray]:
    """What the samples hold that are written without a model."""
    random = np.random.default_rng(7)
    shapes = {"weight_ih": (12, 2), "weight_hh": (12, 3), "bias": (12,), "scale": ()}
    return {name: random.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in shapes.items()}


def keras_model() -> Any:
    import keras

    layers = [keras.layers.GRU(3, return_sequences=True), keras.layers.Bidirectional(keras.layers.LSTM(2))]
    return weighted(keras.Sequential([keras.Input((None, 2)), *layers, keras.layers.Dense(1)]))


def keras_graph() -> Any:
    """An encoder, a decoder that begins with its states, attention, a branch, two outputs by name."""
    import keras

    k = keras.layers
    a, b = keras.Input((None,), dtype="int32", name="a"), keras.Input((None, 2), name="b")
    read, *states = k.LSTM(3, return_sequences=True, return_state=True)(k.Embedding(5, 2, mask_zero=True)(a))
    y = k.LSTM(3, return_sequences=True)(b, initial_state=states)
    y = k.Add()([y, k.Attention()([y, read])])
    return weighted(keras.Model([a, b], {"each": k.Dense(2)(y), "last": y[:, -1] * 2.0}))


def weighted(model: Any) -> Any:
    """The model with numbers that are always the same."""
    random = np.random.default_rng(7)
    model.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in model.weights])
    return model


def write_keras(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        if name.endswith(".weights.h5"):
            keras_model().save_weights(folder / name)
            return
        keras_model().save(folder / name)
        keras_graph().save(folder / name.replace("model", "graph"))

    return write


def write_npz(folder: Path) -> None:
    np.savez(folder / "stored.npz", **arrays())  # type: ignore[arg-type]
    np.savez_compressed(folder / "deflated.npz", **arrays())  # type: ignore[arg-type]


def write_safetensors(folder: Path) -> None:
    from safetensors.numpy import save_file

    save_file(arrays(), folder / "model.safetensors", metadata={"author": "nobody"})


def write_torch(folder: Path) -> None:
    import torch

    state = {name: torch.from_numpy(np.array(array)) for name, array in arrays().items()}
    content = {"epoch": 3, "state_dict": state, "half": {"weight": state["weight_ih"].bfloat16()}}
    torch.save(content, folder / "zip.pt")
    torch.save(content, folder / "legacy.pt", _use_new_zipfile_serialization=False)


def write_onnx(folder: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper, save

    random = np.random.default_rng(7)
    shapes = {"W": (1, 12, 2), "R": (1, 12, 3), "B": (1, 24)}
    weights = [numpy_helper.from_array(random.normal(size=s).astype(np.float32), n) for n, s in shapes.items()]
    node = helper.make_node("LSTM", ["x", *shapes], ["y"], name="lstm", hidden_size=3)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [5, 1, 2]), ("y", [5, 1, 1, 3]))]
    graph = helper.make_graph([node], "small", ends[:1], ends[1:], weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8), folder / "model.onnx")


def write_tensorflow(folder: Path) -> None:
    import tensorflow as tf

    variables = {name: tf.Variable(array) for name, array in arrays().items()}
    tf.train.Checkpoint(cell=tf.train.Checkpoint(**variables)).save(str(folder / "checkpoint" / "small"))


SAMPLES: dict[str, Callable[[Path], None]] = {
    "keras-hdf5": write_keras("model.h5"),
    "keras-weights": write_keras("model.weights.h5"),
    "keras": write_keras("model.keras"),
    "npz": write_npz,
    "safetensors": write_safetensors,
    "torch": write_torch,
    "onnx": write_onnx,
    "tensorflow": write_tensorflow,
}


def write_samples(folder: Path, formats: Iterable[str] = FORMATS) -> None:
    """Good files of each format, in a folder of its name; KeyError for a format that has no sample."""
    for name in formats:
        (folder / name).mkdir(parents=True)
        SAMPLES[name](folder / name)


def corrupted(sample: Path, target: Path, random: np.random.Generator) -> None:
    """A copy of a sample, of which one file is damaged: a field of it, or any of its bytes, these often behind checksums."""
    if sample.is_dir():
        shutil.copytree(sample, target)
        files = sorted(path for path in target.rglob("*") if path.is_file())
        target = files[random.integers(len(files))]
        data = target.read_bytes()
    else:
        data = sample.read_bytes()
    if random.random() < 0.5:
        target.write_bytes(_fields.changed(sample.parent.name, data, random))
        return
    inside = random.random() < 0.5
    if inside and data.startswith(b"PK"):
        data = damaged_zip(data, random)
    elif inside and target.suffix == ".index":
        data = damaged_index(data, random)
    else:
        data = damaged(data, random)
    target.write_bytes(data)


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    """The bytes with one to three kinds of damage."""
    changed = Bytes(data)
    for _ in range(random.integers(1, 4)):
        if changed:
            KINDS[random.integers(len(KINDS))](changed, random)
    return bytes(changed)


def place(data: Bytes, random: np.random.Generator) -> tuple[int, int]:
    """A range in the data, more often a short one than a long one."""
    start = int(random.integers(len(data)))
    return start, start + int(len(data) ** random.random())


def truncate(data: Bytes, random: np.random.Generator) -> None:
    del data[int(random.integers(len(data))) :]


def flip_bits(data: Bytes, random: np.random.Generator) -> None:
    for _ in range(random.integers(1, 17)):
        data[random.integers(len(data))] ^= 1 << int(random.integers(8))


def zero(data: Bytes, random: np.random.Generator) -> None:
    start, stop = place(data, random)
    data[start:stop] = bytes(len(data[start:stop]))


def duplicate(data: Bytes, random: np.random.Generator) -> None:
    start, stop = place(data, random)
    data[start:start] = data[start:stop]


def write_length(data: Bytes, random: np.random.Generator) -> None:
    """Write a number where a length may be: small, as large as the data, or as large as the field."""
    width = int(random.choice([1, 2, 4, 8]))
    number = int(random.choice([0, 1, len(data), len(data) * 2, 2 ** (8 * width - 1) - 1]))
    number = (2 ** (8 * width) - 1 if random.random() < 0.2 else number) % 2 ** (8 * width)
    start = int(random.integers(len(data)))
    data[start : start + width] = number.to_bytes(width, "little")


KINDS = (truncate, flip_bits, zero, duplicate, write_length)


def damaged_zip(data: bytes, random: np.random.Generator) -> bytes:
    """The zip anew, one of its entries damaged and all its checksums right."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(result, "w") as new:
        chosen = random.integers(len(old.infolist()))
        for number, entry in enumerate(old.infolist()):
            content = old.read(entry)
            new.writestr(entry.filename, damaged(content, random) if number == chosen else content)
    return result.getvalue()


def damaged_index(data: bytes, random: np.random.Generator) -> bytes:
    """An index whose only block of records is damaged, under a checksum that is right."""
    from xframe.files._bundle import masked

    # The footer begins with the place of what follows that block, its compression and checksum.
    length, shift = 0, 0
    for byte in data[-48:]:
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    block = Bytes(data[: length - 5])
    kinds = (flip_bits, zero, write_length)
    kinds[random.integers(len(kinds))](block, random)
    block = block[: length - 5].ljust(length - 5, b"\0") + b"\0"
    return bytes(block) + struct.pack("<I", masked(bytes(block))) + data[length:]


def read_all(path: Path) -> None:
    """Open a file and read every tensor."""
    for tensor in load(path).tensors.values():
        if tensor.read().shape != tensor.shape:
            raise AssertionError(f"{tensor.name} has another shape than its file says")


def inspect(path: Path, sample: Path) -> None:
    """Open a file, read every tensor, and say what it is."""
    from xframe.recognition import recognise
    from xframe.report import render

    read_all(path)
    for form in ("text", "json"):
        render(recognise(load(path)), form)


def verify(path: Path, sample: Path) -> None:
    """Hold a file against the good one."""
    from xframe.verification import verify as verified

    verified(sample, path).report()


def convert(path: Path, sample: Path) -> None:
    """Convert a file."""
    from xframe.conversion import convert_file

    with tempfile.TemporaryDirectory() as folder:
        convert_file(path, Path(folder) / "converted", "npz").report()


DOES: dict[str, Callable[[Path, Path], None]] = {"inspect": inspect, "verify": verify, "convert": convert}


def peak() -> int:
    """The most memory that this process has had, in KiB.

    Linux says it in /proc; what getrusage says there counts the parent's memory before the process began.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0])


def one(samples: Path, format_: str, seed: int, does: str) -> str:
    """What is wrong with how one corrupted file was taken; nothing if all is right."""
    random = np.random.default_rng([seed, zlib.crc32(format_.encode())])
    choice = sorted((samples / format_).iterdir())
    sample = choice[random.integers(len(choice))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / sample.name
        corrupted(sample, path, random)
        before, start = peak(), time.process_time()
        found = ""
        try:
            DOES[does](path, sample)
        except XframeError as error:
            if "\n" in str(error) or not str(error).endswith("."):
                found = f"a message of more or less than a sentence: {error!r}"
        except Exception as error:  # what is looked for
            found = repr(error)
        took = time.process_time() - start
        growth = peak() - before
    if took > LIMIT_SECONDS[does]:
        found = f"{found} took {took:.1f} s".strip()
    if growth > LIMIT_GROWTH:
        found = f"{found} took {growth >> 10} MB".strip()
    return found


def child(samples: Path, format_: str, does: str, first: int, last: int) -> None:
    """Say each seed before its file is opened, and what was found."""
    # The libraries are loaded before the clock runs.
    for sample in (samples / format_).iterdir():
        with suppress(XframeError):  # what they lack, as a choice
            DOES[does](sample, sample)
    for seed in range(first, last):
        print(f"seed {seed}", flush=True)
        signal.alarm(HANG_SECONDS)  # ends the process
        found = one(samples, format_, seed, does)
        signal.alarm(0)
        if found:
            print(f"found {seed} {found}", flush=True)
    print("done")


def run(samples: Path, format_: str, number: int, seed: int, does: str = "inspect") -> list[str]:
    """Take so many corrupted files of one format; what was found, a line each.

    Raises:
        RuntimeError: the good files cannot be read.
    """
    findings = []
    label = "" if does == "inspect" else f" ({does})"
    first, last = seed, seed + number
    while first < last:
        command = [sys.executable, __file__, "--child", str(samples), format_, does, str(first), str(last)]
        result = subprocess.run(command, capture_output=True, text=True, errors="replace")
        lines = result.stdout.splitlines()
        findings += [
            f"{format_}: seed {line.removeprefix('found ')}{label}" for line in lines if line.startswith("found ")
        ]
        if lines and lines[-1] == "done":
            break
        seeds = [int(line.split()[1]) for line in lines if line.startswith("seed ")]
        if not seeds:
            raise RuntimeError(f"The good files of the format {format_} cannot be read: {result.stderr[-2000:]}")
        how = "hangs" if result.returncode == -signal.SIGALRM else f"dies with status {result.returncode}"
        findings.append(f"{format_}: seed {seeds[-1]} the process {how}{label}: {result.stderr[-500:]}")
        first = seeds[-1] + 1
    return findings


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        samples, format_, does, first, last = sys.argv[2:]
        child(Path(samples), format_, does, int(first), int(last))
        return
    parser = argparse.ArgumentParser(description="Damage model files, and look how xframe takes it.")
    parser.add_argument("number", type=int, nargs="?", default=500)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("--does", default="inspect", help="inspect, verify, convert, by comma")
    parser.add_argument("--formats", default=",".join(FORMATS), help="by comma")
    parser.add_argument("--seconds", type=float, help="as many files as this time allows, instead of NUMBER")
    given = parser.parse_args()
    rows = list(itertools.product(given.does.split(","), given.formats.split(",")))
    for option, names, known in zip(("does", "formats"), zip(*rows, strict=True), (DOES, FORMATS), strict=True):
        if unknown := sorted({*names} - {*known}):
            parser.error(f"--{option} takes {', '.join(known)}, not {unknown[0]!r}")
    done = dict.fromkeys(rows, 0)
    total, start = 0, time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        write_samples(Path(folder), given.formats.split(","))
        for does, format_ in itertools.cycle(rows) if given.seconds else rows:
            if given.seconds and time.perf_counter() - start > given.seconds:
                break
            number = TURN[does] if given.seconds else given.number
            findings = run(Path(folder), format_, number, given.seed + done[does, format_], does)
            done[does, format_] += number
            total += len(findings)
            print(*findings, sep="\n", end="\n" if findings else "", flush=True)
    for (does, format_), number in done.items():
        print(f"{does} {format_}: {number} files from seed {given.seed} on")
    print(f"{sum(done.values())} files in {time.perf_counter() - start:.0f} s, {total} findings")
    sys.exit(1 if total else 0)


if __name__ == "__main__":
    main()
