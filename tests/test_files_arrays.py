"""The formats that hold arrays and no layers: npz, safetensors, PyTorch's, and TensorFlow's checkpoints."""

from __future__ import annotations

import json
import os
import pickle
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_real_models import find_models

from xframe import budget
from xframe.errors import FileError, MissingFrameworkError
from xframe.files import load
from xframe.files._bundle import masked
from xframe.files._crc32c import crc32c
from xframe.files.base import MAX_TEXT

RANDOM = np.random.default_rng(11)
W, B = RANDOM.normal(size=(12, 5)).astype(np.float32), RANDOM.normal(size=(12,)).astype(np.float32)
TEN_GB = 10 * 2**30


def same(path: Path, format_: str, expected: Mapping[str, np.ndarray]) -> None:
    """The file holds exactly these arrays, in this order."""
    file = load(path)
    assert (file.path, file.format, file.layers, list(file.tensors)) == (path, format_, (), list(expected))
    for name, array in expected.items():
        tensor = file.tensors[name]
        assert (tensor.name, tensor.shape, tensor.dtype) == (name, array.shape, array.dtype.name)
        first, second = tensor.read(), tensor.read()
        assert first.dtype == array.dtype
        np.testing.assert_array_equal(first, array)
        first[...] = 0  # each reading is its own
        np.testing.assert_array_equal(second, array)


def refused(path: Path, why: str, tensor: str | None = None) -> None:
    """The file, or that tensor of it, is refused in one sentence that says why."""
    with pytest.raises(FileError, match=why) as caught:
        load(path) if tensor is None else load(path).tensors[tensor].read()
    message = str(caught.value)
    assert message.startswith("Cannot read ")
    assert message.endswith(".")
    assert "\n" not in message


# ---- npz


def zipped(path: Path, entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def npy(shape: str, data: bytes = b"", descr: str = "'<f4'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(save: Callable[..., None], tmp_path: Path) -> None:
    arrays = {"b/x": B, "w": np.asfortranarray(W), "scalar": np.array(3), "empty": np.zeros((0, 4)), "yes": B > 0}
    save(tmp_path / "a.npz", **arrays, big_endian=W.astype(">f8"))
    same(tmp_path / "a.npz", "npz", {**arrays, "big_endian": W.astype(np.float64)})


def test_npz_is_read_when_asked(tmp_path: Path) -> None:
    long = RANDOM.normal(size=10_000)  # zipfile itself reads a little ahead
    np.savez(tmp_path / "a.npz", w=long, b=B)
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(data.replace(long.tobytes(), long[::-1].tobytes()))
    np.testing.assert_array_equal(load(tmp_path / "a.npz").tensors["b"].read(), B)
    refused(tmp_path / "a.npz", "w is damaged .*CRC", "w")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (npy("(3, 5)", B.tobytes()), r"w holds 48 bytes and its shape \(3, 5\) declares 60"),
        (npy("(2, 5)", B.tobytes()), r"w holds 48 bytes and its shape \(2, 5\) declares 40"),
        (npy("(10**9, 10**9)", B.tobytes()), "does not begin as an array does"),
        (npy("(1000000000, 1000000000)", B.tobytes()), "declares 4000000000000000000"),
        (npy("(-3, -4)", B.tobytes()), r"w has the shape \(-3, -4\)"),
        (npy("(12,)", B.tobytes(), "__import__('os').getcwd()"), "does not begin as an array does"),
        (npy("(" * 5000 + "12,", B.tobytes()), "does not begin as an array does"),
        (b"no array", "does not begin as an array does"),
    ],
)
def test_npz_with_a_bad_header(content: bytes, why: str, tmp_path: Path) -> None:
    refused(zipped(tmp_path / "a.npz", [("w.npy", content)]), why)


def test_npz_with_other_than_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", o=np.array([1, "a"], object), s=np.array(["ab"]))
    assert load(tmp_path / "a.npz").tensors["o"].dtype == "object"
    refused(tmp_path / "a.npz", "o holds Python objects, which only unpickling would give; save", "o")
    refused(tmp_path / "a.npz", "s holds str64, not numbers", "s")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_npz_with_bad_entries(tmp_path: Path) -> None:
    entry = npy("(12,)", B.tobytes())
    refused(zipped(tmp_path / "twice.npz", [("w.npy", entry), ("w.npy", entry)]), "it holds the name 'w.npy' twice")
    refused(zipped(tmp_path / "lzma.npz", [("w.npy", entry)], zipfile.ZIP_LZMA), "w is encrypted, or packed")
    same(zipped(tmp_path / "climbs.npz", [("../../w.npy", entry)]), "npz", {"../../w": B})
    bomb = npy("(1048576,)", bytes(2**22))
    zipped(tmp_path / "bomb.npz", [("w.npy", bomb), ("v.npy", bomb)], zipfile.ZIP_DEFLATED)
    with budget.allowed(memory=7):  # for the two together
        refused(
            tmp_path / "bomb.npz",
            "asks for 8 MiB of memory beyond the size of the files, and 7 are allowed; --max-memory 8",
        )
    with budget.allowed(memory=8):
        assert load(tmp_path / "bomb.npz").tensors["w"].read().shape == (1048576,)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".npz"] * 4


# ---- safetensors


def safe(path: Path, header: Mapping[str, Any], data: bytes = b"", length: int | None = None) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def test_safetensors(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    arrays = {"w": W, "half": W[:3].astype(np.float16), "int": np.arange(6).reshape(2, 3), "yes": W > 0, "one": B[:1]}
    save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, tmp_path / "m", metadata={"by": "me"})
    file = load(tmp_path / "m")
    assert file.metadata == {"by": "me"}
    same(tmp_path / "m", "safetensors", {name: arrays[name] for name in file.tensors})
    assert set(file.tensors) == set(arrays)


def test_safetensors_types_that_numpy_has_not(tmp_path: Path) -> None:
    exact = (W.view(np.uint32) & 0xFFFF0000).view(np.float32)
    halves = (exact.view(np.uint32) >> 16).astype("<u2").tobytes()
    about = {"b": {"dtype": "BF16", "shape": [12, 5], "data_offsets": [2, 122]}}
    about["f"] = {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}
    file = load(safe(tmp_path / "m", about, b"ab" + halves))
    assert [(t.name, t.dtype) for t in file.tensors.values()] == [("f", "F8_E4M3"), ("b", "bfloat16")]
    read = file.tensors["b"].read()
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, exact)
    refused(tmp_path / "m", "f is of type F8_E4M3, which NumPy has not; save it as float32", "f")


def test_a_large_safetensors_is_not_loaded(tmp_path: Path) -> None:
    about = {"w": {"dtype": "F32", "shape": [TEN_GB // 4], "data_offsets": [0, TEN_GB]}}
    about["z"] = {"dtype": "F32", "shape": [12], "data_offsets": [TEN_GB, TEN_GB + 48]}
    with safe(tmp_path / "m", about).open("ab") as file:
        file.truncate(file.tell() + TEN_GB)
        file.seek(0, 2)
        file.write(B.tobytes())
    tensors = load(tmp_path / "m").tensors
    assert tensors["w"].count == TEN_GB // 4
    np.testing.assert_array_equal(tensors["z"].read(), B)


def test_bad_safetensors(tmp_path: Path) -> None:
    about = {"dtype": "F32", "shape": [12], "data_offsets": [0, 48]}
    whole = safe(tmp_path / "m", {"w": about}, B.tobytes()).read_bytes()
    (tmp_path / "cut").write_bytes(whole[:-1])
    refused(tmp_path / "cut", "not a sound safetensors file")
    refused(safe(tmp_path / "more", {"w": {**about, "shape": [13]}}, B.tobytes()), "not a sound safetensors file")
    refused(safe(tmp_path / "both", {"v": about, "w": about}, B.tobytes()), "not a sound safetensors file")
    with safe(tmp_path / "long", {}, length=MAX_TEXT + 1).open("ab") as file:
        file.truncate(2 * MAX_TEXT)
    refused(tmp_path / "long", f"its header would be {MAX_TEXT + 1} bytes long")


@pytest.mark.parametrize(("library", "mend"), [("safetensors", r"xframe\[files\]"), ("torch", r"xframe\[torch\]")])
def test_a_missing_library(library: str, mend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = {
        "safetensors": lambda: safe(tmp_path / "m", {}),
        "torch": lambda: zipped(tmp_path / "m", [("m/data.pkl", b"")]),
    }[library]()
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingFrameworkError, match=f"is not installed; pip install '{mend}'\\."):
        load(path)


# ---- PyTorch


@pytest.fixture
def torch_file(tmp_path: Path) -> Callable[..., Path]:
    import torch

    def save(content: Any, **options: Any) -> Path:
        torch.save(content, tmp_path / "m.pt", **options)
        return tmp_path / "m.pt"

    return save


@pytest.mark.needs("torch")
@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_torch(new: bool, torch_file: Callable[..., Path]) -> None:
    import torch

    lstm = torch.nn.LSTM(5, 3)
    adam = torch.optim.Adam(lstm.parameters())
    lstm(torch.ones(2, 1, 5))[0].sum().backward()
    adam.step()
    arrays = {name: tensor.detach().numpy() for name, tensor in lstm.state_dict().items()}
    options = {"_use_new_zipfile_serialization": new}
    same(torch_file(lstm.state_dict(), **options), "torch", arrays)
    path = torch_file({"epoch": 3, "model": lstm.state_dict(), "optimizer": adam.state_dict()}, **options)
    same(path, "torch", {f"model/{name}": array for name, array in arrays.items()})
    assert load(path).metadata == {"state_dict": "model", "optimizer_tensors": "12"}
    path = torch_file({"o": adam.state_dict(), "optimus": {"w": torch.tensor(W)}, "l": [torch.tensor(B)]}, **options)
    same(path, "torch", {"optimus/w": W, "l/0": B})
    assert load(path).metadata == {"state_dict": "optimus, l", "optimizer_tensors": "12"}


@pytest.mark.needs("torch")
@pytest.mark.filterwarnings("ignore:Sparse invariant checks", "ignore:torch.quantize_per_tensor")
def test_torch_kinds_of_tensor(torch_file: Callable[..., Path]) -> None:
    import torch

    w = torch.tensor(W)
    coordinates = torch.sparse_coo_tensor([[0, 1], [1, 0]], [1.0, 2.0], (2, 3))
    others = {"sparse": coordinates, "meta": w.to("meta"), "f8": w.to(torch.float8_e4m3fn)}
    others["quantised"] = torch.quantize_per_tensor(w, 0.1, 0, torch.qint8)
    others["wide"] = torch.ones(1).expand(10**12)
    path = torch_file({"w": w, "tied": w, "t": w.T, "part": w[2:4], "p": torch.nn.Parameter(w), **others})
    file = load(path)
    for name, array in (("w", W), ("tied", W), ("t", W.T), ("part", W[2:4]), ("p", W)):
        np.testing.assert_array_equal(file.tensors[name].read(), array)
    assert file.tensors["f8"].dtype == "float8_e4m3fn"
    refused(path, "sparse is a sparse tensor; save it as a dense one", "sparse")
    refused(path, "quantised is a quantised tensor", "quantised")
    refused(path, "meta is a meta device's tensor", "meta")
    refused(path, "f8 is of type torch.float8_e4m3fn, which NumPy has not", "f8")
    refused(path, "wide declares more numbers than the file holds", "wide")
    half = load(torch_file({"h": w.bfloat16()})).tensors["h"]
    assert half.dtype == "bfloat16"
    np.testing.assert_array_equal(half.read(), w.bfloat16().float().numpy())


@pytest.mark.needs("torch")
def test_torch_is_read_when_asked(torch_file: Callable[..., Path]) -> None:
    import torch

    path = torch_file({"w": torch.tensor(W)})
    tensor = load(path).tensors["w"]
    place = path.read_bytes().index(W.tobytes())
    with path.open("r+b") as file:
        file.seek(place)
        file.write((W * 2).tobytes())
    with pytest.raises(FileError, match="it was changed while it was read"):
        tensor.read()
    np.testing.assert_array_equal(load(path).tensors["w"].read(), W * 2)


class Evil:
    """Unpickled, it makes the file EVIL here."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("EVIL", "w")


@pytest.mark.needs("torch")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_torch_files_with_other_things(
    torch_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    w = torch.tensor(W)
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        refused(
            torch_file({"w": w, "x": Evil()}, **options), r"other things than tensors \(.*open\); load .*state_dict"
        )
        refused(torch_file({"w": w, "x": bytearray(3)}, **options), r"other things than tensors \(bytearray\)")
        refused(torch_file({"epoch": 1}, **options), "it holds no tensors with names; save model.state_dict")
        refused(torch_file({1: w, "1": w}, **options), "it holds 1 twice")
    refused(torch_file({"w": w}, pickle_protocol=4), "PyTorch does not load its pickle with weights_only=True")
    (tmp_path / "p").write_bytes(pickle.dumps({"x": Evil()}, protocol=4))
    refused(tmp_path / "p", "it is a pickle that PyTorch did not write; load")
    torch.jit.script(torch.nn.Linear(2, 3)).save("s.pt")
    refused(tmp_path / "s.pt", "it is a TorchScript archive, which holds code; load it where you trust it, and save")
    assert not (tmp_path / "EVIL").exists()


@pytest.mark.needs("torch")
def test_hostile_torch_files(torch_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr("xframe.files.torch._MAX_STEPS", 2000)  # two million take a second

    deep = b"\x80\x02})" + b"\x85" * 1000 + b"K\x01s."  # {((((...)))): 1}
    path = tmp_path / "m.pt"
    for name in ("m/data.pkl", "m/DATA.PKL"):
        refused(zipped(path, [(name, deep), ("n/data.pkl", b"N.")]), "larger or deeper than any model's")
    refused(zipped(path, [("m/data.pkl", b"\x80\x02" + b"]" * 2100)]), "larger or deeper than any model's")
    refused(zipped(path, [("m/data.pkl", deep)], zipfile.ZIP_DEFLATED), "compressed, as PyTorch never does")
    refused(zipped(path, [("m/data.pkl", b"\x80\x02aaa")]), "it is damaged")
    circle: dict[str, Any] = {"w": torch.tensor(W)}
    circle["again"] = circle
    circle["many"] = [circle["w"]]
    for _ in range(60):
        circle["many"] = [circle["many"], circle["many"]]
    assert [name[:8] for name in load(torch_file(circle)).tensors] == ["w", "many/0/0"]


@pytest.mark.needs("torch")
def test_torch_in_a_tar(torch_file: Callable[..., Path], tmp_path: Path) -> None:
    """A tar file can begin as a pickle does: with the name of its first entry."""
    start = torch_file({}, _use_new_zipfile_serialization=False).read_bytes()[:90]
    assert b"\0" in start
    with tarfile.open(tmp_path / "m.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("x"))
    data = bytearray((tmp_path / "m.tar").read_bytes())
    # Five pickles in place of the name: the magic number and four times None.
    name = start[: start.index(b".") + 1] + b"N." * 4
    data[:100] = name.ljust(100, b"\0")
    data[148:156] = b"        "
    data[148:156] = b"%06o\0 " % sum(data[:512])
    (tmp_path / "m.pt").write_bytes(data)
    refused(tmp_path / "m.pt", "it is in the tar format of PyTorch's first versions")


# ---- TensorFlow


def varint(number: int) -> bytes:
    rest = number >> 7
    return bytes([number & 127 | 128]) + varint(rest) if rest else bytes([number])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value % 2**64)


def text(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def entry(shape: tuple[int, ...], data: bytes, dtype: int = 1, offset: int = 0, size: int | None = None) -> bytes:
    sizes = b"".join(text(2, number(1, axis)) for axis in shape)
    where = number(4, offset) + number(5, len(data) if size is None else size)
    return number(1, dtype) + text(2, sizes) + where + b"\x35" + struct.pack("<I", masked(data))


def checkpoint(prefix: Path, records: Mapping[str, bytes], data: bytes) -> Path:
    """A checkpoint as TensorFlow writes it; the first record is the header."""
    index = b""

    def block(items: Mapping[bytes, bytes]) -> bytes:
        nonlocal index
        content = b"".join(b"\0" + varint(len(k)) + varint(len(v)) + k + v for k, v in items.items())
        content += struct.pack("<II", 0, 1) + b"\0"
        handle = varint(len(index)) + varint(len(content) - 1)
        index += content + struct.pack("<I", masked(content))
        return handle

    variables = block({b"": number(1, 1), **{name.encode(): value for name, value in records.items()}})
    footer = block({}) + block({b"\xff": variables})
    prefix.parent.mkdir(exist_ok=True)
    path = prefix.with_name(f"{prefix.name}.index")
    path.write_bytes(index + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57))
    prefix.with_name(f"{prefix.name}.data-00000-of-00001").write_bytes(data)
    return path


def test_crc32c() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720's check value
    assert crc32c(bytes(32)) == 0x8A9136AA  # from the same, B.4
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"") == 0
    long = RANDOM.bytes(2**24 + 4321)  # more than one piece
    state = 0xFFFFFFFF
    table = [int(crc32c(bytes([k])) ^ crc32c(b"\0")) for k in range(256)]
    for byte in long[-20_000:]:
        state = table[(state ^ byte) & 255] ^ state >> 8
    assert crc32c(long[-20_000:]) == state ^ 0xFFFFFFFF
    assert crc32c(long) != crc32c(long[:-1] + bytes([long[-1] ^ 1]))


def test_checkpoint(tmp_path: Path) -> None:
    data = W.tobytes() + B.tobytes()
    records = {"b": entry((12,), B.tobytes(), offset=W.nbytes), "w": entry((12, 5), W.tobytes())}
    path = checkpoint(tmp_path / "c/m-1", records, data)
    for given in (path, tmp_path / "c/m-1", tmp_path / "c"):
        same(given, "tensorflow", {"b": B, "w": W})
    checkpoint(tmp_path / "c/m-2", {"w": entry((12,), B.tobytes())}, B.tobytes())
    refused(tmp_path / "c", "this folder holds 2 checkpoints; name the .index file of one")
    for prefix in ("m-2", "/elsewhere/m-2", "../m-2", r"C:\\models\\m-2"):
        (tmp_path / "c/checkpoint").write_text(
            f'model_checkpoint_path: "{prefix}"\nall_model_checkpoint_paths: "m-1"\n'
        )
        same(tmp_path / "c", "tensorflow", {"w": B})


def test_the_checkpoint_file_leads_nowhere_else(tmp_path: Path) -> None:
    checkpoint(tmp_path / "secret/m", {"w": entry((12,), B.tobytes())}, B.tobytes())
    checkpoint(tmp_path / "c", {"w": entry((12,), B.tobytes())}, B.tobytes())
    (tmp_path / "c").mkdir()
    for prefix in ("../secret/m", str(tmp_path / "secret/m"), "..", ".", "../c", ""):
        (tmp_path / "c/checkpoint").write_text(f'model_checkpoint_path: "{prefix}"')
        refused(tmp_path / "c", "of its checkpoint: No such file|names none")


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (entry((-3, 4), B.tobytes()), "w has a shape that no array has"),
        (entry((1,) * 65, B.tobytes()), "w has a shape that no array has"),
        (entry((2**62, 2**62), B.tobytes()), "is not what its shape"),
        (entry((12,), B.tobytes(), offset=1), "w lies beyond the end of m.data-00000-of-00001"),
        (entry((3,), B.tobytes()), r"w holds 48 bytes, which is not what its shape \(3,\) needs"),
        (b"\xff\xff\xff", "its index is cut off"),
        (b"\x0b", "its index is damaged"),
        (number(3, 1) + entry((12,), B.tobytes()), "data-00001-of-00001 of its checkpoint: No such file"),
    ],
)
def test_a_hostile_index(record: bytes, why: str, tmp_path: Path) -> None:
    """TensorFlow's own reader ends the process at most of these."""
    refused(checkpoint(tmp_path / "m", {"w": record}, B.tobytes()), why)


def test_variables_that_cannot_be_read(tmp_path: Path) -> None:
    good = entry((12,), B.tobytes())
    records = {"other": entry((12,), B.tobytes(), dtype=20), "sliced": good + text(7, b""), "w": good}
    path = checkpoint(tmp_path / "m", {**records, "words": entry((), b"abc", dtype=7)}, B.tobytes()[:-1] + b"\0")
    refused(path, "other is of the type TensorFlow type 20, not numbers", "other")
    refused(path, "words is of the type string, not numbers", "words")
    refused(path, "sliced is stored in slices", "sliced")
    refused(path, r"w is damaged \(its checksum is another\)", "w")
    refused(checkpoint(tmp_path / "m", {"w": good}, b""), "w lies beyond the end")
    data = bytearray(checkpoint(tmp_path / "m", {"w": good}, B.tobytes()).read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    refused(path, "its index does not have the checksum that it says")


def test_a_large_checkpoint_is_not_loaded(tmp_path: Path) -> None:
    big = entry((TEN_GB // 4,), b"", size=TEN_GB)
    path = checkpoint(tmp_path / "m", {"b": entry((12,), B.tobytes(), offset=TEN_GB), "w": big}, b"")
    with (tmp_path / "m.data-00000-of-00001").open("r+b") as file:
        file.seek(TEN_GB)
        file.write(B.tobytes())
    tensors = load(path).tensors
    assert tensors["w"].count == TEN_GB // 4
    np.testing.assert_array_equal(tensors["b"].read(), B)


def as_tensorflow_reads(prefix: Path, names: list[str]) -> dict[str, np.ndarray]:
    import tensorflow as tf

    return {name: tf.train.load_variable(str(prefix), name) for name in names}


@pytest.mark.needs("keras")
def test_what_tensorflow_writes(tmp_path: Path) -> None:
    import tensorflow as tf

    kernel = tf.Variable(W)
    half = tf.Variable(tf.cast(tf.constant(W), tf.bfloat16))
    adam = tf.keras.optimizers.Adam()
    adam.apply_gradients([(tf.constant(W), kernel)])
    module = tf.train.Checkpoint(cell=tf.train.Checkpoint(kernel=kernel, half=half), optimizer=adam)
    prefix = Path(module.save(str(tmp_path / "c/m")))
    expected = as_tensorflow_reads(
        prefix, ["cell/half/.ATTRIBUTES/VARIABLE_VALUE", "cell/kernel/.ATTRIBUTES/VARIABLE_VALUE"]
    )
    file = load(tmp_path / "c")
    assert list(file.tensors) == list(expected)
    assert file.metadata == {"optimizer_tensors": "4"}  # iterations, learning rate, two moments
    for name, array in expected.items():
        np.testing.assert_array_equal(file.tensors[name].read(), array.astype(np.float32))
    assert [t.dtype for t in file.tensors.values()] == ["bfloat16", "float32"]
    # The way through the optimizer is sometimes the only one to the weights.
    only = Path(tf.train.Checkpoint(optimizer=adam).save(str(tmp_path / "o/m")))
    name = "optimizer/_trainable_variables/0/.ATTRIBUTES/VARIABLE_VALUE"
    same(only, "tensorflow", as_tensorflow_reads(only, [name]))


@pytest.mark.needs("keras")
def test_what_tensorflow_1_and_saved_models_write(tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        kernel = v1.get_variable("rnn/kernel", initializer=W)
        v1.get_variable("rnn/Adam", initializer=B)  # no slot: there is no variable rnn
        v1.train.AdamOptimizer().minimize(tf.reduce_sum(kernel**2))
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(tmp_path / "c/m"), global_step=3)
    same(tmp_path / "c", "tensorflow", {"rnn/Adam": B, "rnn/kernel": W})
    assert load(tmp_path / "c").metadata == {"optimizer_tensors": "4"}
    module = tf.Module()
    module.w = tf.Variable(W)
    tf.saved_model.save(module, str(tmp_path / "s"))
    (tmp_path / "s/saved_model.pb").write_bytes(b"not a graph")  # it is not opened
    same(tmp_path / "s", "tensorflow", {"w/.ATTRIBUTES/VARIABLE_VALUE": W})
    (tmp_path / "s/variables/variables.index").unlink()
    refused(tmp_path / "s", "variables.index of its checkpoint: No such file")


# ---- published models


def test_published_arrays() -> None:
    models = find_models(os.environ)
    with np.load(models / "g2p/checkpoint20.npz", allow_pickle=False) as arrays:
        same(models / "g2p/checkpoint20.npz", "npz", dict(arrays))


@pytest.mark.needs("torch")
def test_published_state_dict() -> None:
    import torch

    path = find_models(os.environ) / "dtln/model.pth"
    same(path, "torch", {n: t.numpy() for n, t in torch.load(path, weights_only=True, map_location="cpu").items()})


@pytest.mark.parametrize(
    ("name", "content", "what", "mend"),
    [
        ("model.h5", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS", "git lfs pull"),
        (
            "model.onnx",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "Git LFS",
            "git lfs pull",
        ),
        ("model.tflite", b"\x1c\0\0\0TFL3" + bytes(20), "TensorFlow Lite", "SavedModel"),
        ("model.mlmodel", b"\x08\x04\x12\x10" + bytes(20), "Core ML", "made of"),
        ("frozen.pb", b"\n\x1a\n\x05input\x12\x0bPlaceholder", "frozen", "tf2onnx"),
        ("saved_model.pb", b"\x08\x01\x12\x04", "SavedModel", "its folder"),
        ("model.json", b'{"modelTopology": {}, "weightsManifest": []}', "TensorFlow.js", "weights"),
    ],
)
def test_other_formats_are_named(name: str, content: bytes, what: str, mend: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError, match=what) as caught:
        load(tmp_path / name)
    assert mend in str(caught.value)


def test_a_package_of_torch_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("model/.data/extern_modules", "torch")
        archive.writestr("model/data.pkl", b"")
    with pytest.raises(FileError, match=r"torch\.package.*state_dict"):
        load(tmp_path / "model.pt")
