"""Files that two programs may read differently: refused by name, whichever reading is the harmless one.

The files are made by scripts/_fields.py, whose changes the fuzz draws at random.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import helpers
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from xframe.errors import FileError
from xframe.files import load

FIELDS: Any = helpers.module_at(Path(__file__).parent.parent / "scripts" / "_fields.py")
RANDOM = np.random.default_rng(3)
W = RANDOM.normal(size=(5, 7)).astype(np.float32)


def refused(path: Path, words: str) -> None:
    with pytest.raises(FileError, match=words) as caught:
        load(path)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


# ---- Zip files.


@pytest.fixture
def npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, w=W, b=W[0])
    return stream.getvalue()


ZIPS: dict[str, tuple[str, str]] = {
    "two_lists": ("two_lists", "its list of entries is not where it says"),
    "one_stream": ("one_stream", "shares bytes with the entry before it"),
    "twice_in_a_zip": ("twice_in_a_zip", "it holds the name '[wb].npy' twice"),
    "two_names": ("two_names", "called or packed otherwise in its own header|an entry has two names"),
    "before_or_after": (
        "before_or_after",
        "its list of entries is not where it says|something follows its end|damaged zip",
    ),
}


@pytest.mark.parametrize("name", ZIPS)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zips(name: str, npz: bytes, tmp_path: Path) -> None:
    change, words = ZIPS[name]
    (tmp_path / "good.npz").write_bytes(npz)
    assert list(load(tmp_path / "good.npz").tensors) == ["w", "b"]
    # What is put together again unchanged is read.
    (tmp_path / "again.npz").write_bytes(FIELDS.zip_of(FIELDS.zip_entries(npz), comment=b"a comment"))
    assert np.array_equal(load(tmp_path / "again.npz").tensors["w"].read(), W)
    for seed in range(6):
        path = tmp_path / f"{seed}.npz"
        path.write_bytes(getattr(FIELDS, change)(npz, np.random.default_rng(seed)))
        refused(path, words)


def test_the_list_that_zipfile_reads_is_harmless(npz: bytes, tmp_path: Path) -> None:
    """Python's own reader finds a sound archive in a file of two."""
    for seed in range(20):
        data = FIELDS.two_lists(npz, np.random.default_rng(seed))
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                if archive.testzip() is None:
                    break
        except (zipfile.BadZipFile, ValueError):
            continue
    first = FIELDS.zip_of(FIELDS.zip_entries(npz))
    good = FIELDS.zip_entries(npz)
    hidden = FIELDS.zip_of([one._replace(name=b"evil" + one.name) for one in good])
    hidden = hidden[: hidden.rindex(b"PK\5\6")]
    both = FIELDS.zip_of(good, before=hidden, moved=-len(first))
    (tmp_path / "both.npz").write_bytes(both)
    refused(tmp_path / "both.npz", "its list of entries is not where it says")


def test_a_second_end_in_the_comment(npz: bytes, tmp_path: Path) -> None:
    end = npz[-22:]
    path = tmp_path / "comment.npz"
    path.write_bytes(FIELDS.zip_of(FIELDS.zip_entries(npz), comment=b"note" + end + b"more"))
    refused(path, "something follows its end|damaged zip file")


def test_a_zip_of_pytorch_has_two_ends_that_agree(tmp_path: Path) -> None:
    """Those of 64 bits, which PyTorch always writes."""
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.from_numpy(W)}, tmp_path / "m.pt")
    assert np.array_equal(load(tmp_path / "m.pt").tensors["w"].read(), W)
    data = bytearray((tmp_path / "m.pt").read_bytes())
    at = data.rindex(b"PK\6\6")
    struct.pack_into("<Q", data, at + 48, struct.unpack_from("<Q", data, at + 48)[0] - 1)
    (tmp_path / "n.pt").write_bytes(data)
    refused(tmp_path / "n.pt", "its two ends do not fit each other|list of entries is not where|damaged")


# ---- HDF5.


def weights(path: Path) -> bytes:
    with h5py.File(path, "w") as file:
        group = file.create_group("gru")
        for name in "AB":
            group[name] = W
            group[name].attrs["zz"] = np.zeros(64, "u1")
        group.attrs["weight_names"] = [b"A", b"B"]
        group.attrs["weight_namez"] = [b"B", b"A"]
        file.attrs["layer_names"] = [b"gru"]
    return path.read_bytes()


def test_hdf5_attribute_twice(tmp_path: Path) -> None:
    data = weights(tmp_path / "good.h5")
    assert list(load(tmp_path / "good.h5").tensors) == ["gru/A", "gru/B"]
    (tmp_path / "bad.h5").write_bytes(data.replace(b"weight_namez", b"weight_names"))
    refused(tmp_path / "bad.h5", "'gru' has the attribute 'weight_names' twice")


@pytest.mark.parametrize(
    ("kind", "words"), [(8, "says twice what it is"), (1, "says twice"), (0x0B, "compressed or filtered")]
)
def test_hdf5_message_twice(kind: int, words: str, tmp_path: Path) -> None:
    """The attribute of an array becomes a second layout, a second shape or a filter."""
    data = bytearray(weights(tmp_path / "good.h5"))
    body = data.find(b"zz\0") - 8
    struct.pack_into("<H", data, body - 8, kind)
    (tmp_path / "bad.h5").write_bytes(data)
    refused(tmp_path / "bad.h5", words)


@pytest.mark.parametrize("more", [-1, 1])
def test_hdf5_counts_its_messages(more: int, tmp_path: Path) -> None:
    """HDF5's library goes by the bytes, whatever number of messages is said."""
    data = bytearray(weights(tmp_path / "good.h5"))
    for own in FIELDS.messages(bytes(data)):
        at = own[0][2] - 22
        struct.pack_into("<H", data, at, struct.unpack_from("<H", data, at)[0] + more)
        (tmp_path / "bad.h5").write_bytes(data)
        refused(tmp_path / "bad.h5", "more or fewer messages than it says")


@pytest.mark.parametrize("byte", [1, 2, 9, 12, 14], ids=["filling", "sign", "place", "exponent", "mantissa"])
def test_hdf5_numbers_in_another_order_of_bits(byte: int, tmp_path: Path) -> None:
    """A type whose sign or exponent is elsewhere is no float32, though its sizes are those of one."""
    data = bytearray(weights(tmp_path / "good.h5"))
    own = next(own for own in FIELDS.messages(bytes(data)) if any(kind == 3 for kind, _, _ in own))
    at = next(at for kind, _, at in own if kind == 3)
    data[at + byte] ^= 4
    (tmp_path / "bad.h5").write_bytes(data)
    with pytest.raises(FileError):
        load(tmp_path / "bad.h5").tensors["gru/A"].read()


# ---- JSON.


def test_json_names_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", '{"class_name": "A", "config": {"units": 3, "units": 4}}')
        archive.writestr("model.weights.h5", weights(tmp_path / "w.h5"))
    refused(tmp_path / "m.keras", r"config\.json in it is no sound JSON object \(it has the name 'units' twice\)")
    about = '{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    for text in (f'{{"w": {about}, "w": {about}}}', f'{{"w": {about[:-1]}, "dtype": "I32"}}}}'):
        content = text.encode().ljust(len(text) + -len(text) % 8)
        (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(content)) + content + bytes(4))
        refused(tmp_path / "m.safetensors", "twice|not a sound safetensors file")


# ---- TensorFlow.


def checkpoint(folder: Path, make: Callable[[list[tuple[bytes, bytes]]], bytes]) -> Path:
    """A checkpoint of two arrays, whose index is made of its records."""
    folder.mkdir()
    number = FIELDS.varint
    header = bytes([8, 1])
    records = [(b"", header)]
    from xframe.files._bundle import masked

    data = b""
    for name in (b"gru/bias", b"gru/kernel"):
        raw = W.tobytes()
        shape = b"".join(b"\x12" + number(2) + b"\x08" + number(n) for n in W.shape)
        entry = b"\x08\x01\x12" + number(len(shape)) + shape + b"\x20" + number(len(data)) + b"\x28" + number(len(raw))
        records.append((name, entry + b"\x35" + struct.pack("<I", masked(raw))))
        data += raw
    (folder / "c.data-00000-of-00001").write_bytes(data)
    (folder / "c.index").write_bytes(make(records))
    return folder / "c.index"


INDEXES: dict[str, tuple[Callable[[list[tuple[bytes, bytes]]], bytes], str]] = {
    "restart in a value": (lambda r: FIELDS.index_of(r, b"zzz", (0, 4)), "it goes on where no key stands"),
    "first restart": (lambda r: FIELDS.index_of(r, b"zzz", (5,)), "it goes on where no key stands"),
    "restarts twice": (lambda r: FIELDS.index_of(r, b"zzz", (0, 0)), "it goes on where no key stands"),
    "no restart": (lambda r: FIELDS.index_of(r, b"zzz", ()), "it goes on where no key stands"),
    "order": (lambda r: FIELDS.index_of([r[0], r[2], r[1]], b"zzz"), "out of order"),
    "twice": (lambda r: FIELDS.index_of([*r, r[2]], b"zzz"), "out of order, or has a key twice"),
    "list of blocks": (lambda r: FIELDS.index_of(r, b"a"), "out of order"),
    "type twice": (
        lambda r: FIELDS.index_of([*r[:2], (r[2][0], r[2][1] + b"\x08\x02")], b"zzz"),
        "says something twice",
    ),
    "other wire type": (
        lambda r: FIELDS.index_of([*r[:2], (r[2][0], r[2][1] + b"\x21" + bytes(8))], b"zzz"),
        "its index is damaged",
    ),
    "large type": (
        lambda r: FIELDS.index_of([*r[:2], (r[2][0], b"\x08" + FIELDS.varint(2**32 + 1) + r[2][1][2:])], b"zzz"),
        "a type or a file that none has",
    ),
}


def test_a_sound_index(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "good", lambda records: FIELDS.index_of(records, b"zzz"))
    assert np.array_equal(load(path).tensors["gru/kernel"].read(), W)


@pytest.mark.parametrize("name", INDEXES)
def test_indexes(name: str, tmp_path: Path) -> None:
    make, words = INDEXES[name]
    refused(checkpoint(tmp_path / "bad", make), words)


# ---- ONNX.


def model(**node: Any) -> onnx.ModelProto:
    made = helper.make_node("Gemm", ["x", "w"], ["y"], name="gemm", **node)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 5]), ("y", [1, 7]))]
    graph = helper.make_graph([made], "g", ends[:1], ends[1:], [numpy_helper.from_array(W, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def part(kind: str, proto: onnx.ModelProto) -> Any:
    graph = proto.graph
    return {"model": proto, "graph": graph, "node": graph.node[0], "tensor": graph.initializer[0]}[kind]


@pytest.mark.parametrize(
    ("field", "content"),
    [
        (7, lambda m: m.graph.SerializeToString()),  # protobuf joins two graphs
        (2, lambda m: b"another producer"),
    ],
)
def test_onnx_model_fields_twice(field: int, content: Callable[[onnx.ModelProto], bytes], tmp_path: Path) -> None:
    proto = model()
    proto.producer_name = "one"
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    assert list(load(tmp_path / "m.onnx").tensors) == ["w"]
    more = FIELDS.message([(field, 2, content(proto))])
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString() + more)
    refused(tmp_path / "m.onnx", rf"writes a part of its model twice \(field {field}\)")


def test_onnx_fields_twice_at_any_depth(tmp_path: Path) -> None:
    """A name, an operator, the numbers of a tensor."""
    for kind, path, field in (("node", (7, 1), 3), ("node", (7, 1), 4), ("tensor", (7, 5), 9), ("tensor", (7, 5), 8)):
        data = twice(model().SerializeToString(), path, field)
        (tmp_path / "m.onnx").write_bytes(data)
        refused(tmp_path / "m.onnx", rf"writes a part of its {kind} twice \(field {field}\)")


def twice(data: bytes, path: tuple[int, ...], field: int) -> bytes:
    parts = FIELDS.fields(data)
    if not path:
        return FIELDS.message([*parts, next(one for one in parts if one[0] == field)])
    at = next(i for i, (number, _, _) in enumerate(parts) if number == path[0])
    number, kind, content = parts[at]
    parts[at] = number, kind, twice(content, path[1:], field)
    return FIELDS.message(parts)


def test_onnx_names_twice(tmp_path: Path) -> None:
    proto = model(alpha=2.0)
    proto.graph.node[0].attribute.append(helper.make_attribute("alpha", 3.0))
    onnx.save(proto, tmp_path / "attribute.onnx")
    refused(tmp_path / "attribute.onnx", "its node 'gemm' has the attribute 'alpha' twice")
    proto = model()
    proto.opset_import.append(helper.make_opsetid("ai.onnx", 7))
    onnx.save(proto, tmp_path / "opset.onnx")
    refused(tmp_path / "opset.onnx", "imports the operators of 'ai.onnx' twice")
    proto = model()
    proto.graph.input.append(proto.graph.input[0])
    onnx.save(proto, tmp_path / "input.onnx")
    refused(tmp_path / "input.onnx", "two inputs named 'x'")


def test_what_is_said_of_files_beside_is_said_once(tmp_path: Path) -> None:
    proto = model()
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert np.array_equal(load(tmp_path / "m.onnx").tensors["w"].read(), W)
    proto = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    proto.graph.initializer[0].external_data.add(key="offset", value="4")
    (tmp_path / "n.onnx").write_bytes(proto.SerializeToString())
    refused(tmp_path / "n.onnx", "has a place in another file that is written twice")


def test_baselines_follow_the_same_rules(tmp_path: Path) -> None:
    """A baseline whose text has a name twice."""
    from xframe import baseline

    text = json.dumps({"schema": "x"})[:-1] + ', "schema": "y"}'
    np.savez(tmp_path / "b.npz", baseline=np.frombuffer(text.encode(), np.uint8))
    with pytest.raises(FileError, match="it has the name 'schema' twice"):
        baseline.load(tmp_path / "b.npz")
