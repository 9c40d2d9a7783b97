"""Real trained models through xframe: the same function in Keras and in PyTorch, from files that neither wrote for the other.

    XFRAME_MODELS=/path/to/models python examples/real_models.py

The folder holds four public files, which are data here (no pickle, no code of a model is run):

    dtln/model.h5                 Keras weights of a noise suppressor (github breizhn/DTLN): four LSTM(128)
    dtln/model.pth                the same model, moved to PyTorch by someone else (github lhwcv/DTLN_pytorch)
    textgenrnn/hacker_news.hdf5   Keras weights (github minimaxir/textgenrnn): two CuDNNLSTM(128), packed for cuDNN
    g2p/checkpoint20.npz          NumPy arrays in PyTorch's packing (github Kyubyong/g2p): GRU(256) encoder and decoder

Needs: pip install xframe[keras,torch] h5py
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xframe import noise
from xframe.adapters import get_adapter, known_packings
from xframe.packing import Parameters, unpack
from xframe.reference import Given, Outputs
from xframe.spec import Recurrent

# The layers of dtln/model.h5 and the names that the same layers have in dtln/model.pth.
DTLN = {"lstm": "sep1.rnn1", "lstm_1": "sep1.rnn2", "lstm_2": "sep2.rnn1", "lstm_3": "sep2.rnn2"}
TEXTGENRNN = ("rnn_1", "rnn_2")

# g2p's alphabets, github Kyubyong/g2p, g2p_en/g2p.py.
LETTERS = ["<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
PHONEMES = """<pad> <unk> <s> </s> AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH EH0 EH1
EH2 ER0 ER1 ER2 EY0 EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1 OY2 P R S SH T TH UH0 UH1 UH2
UW UW0 UW1 UW2 V W Y Z ZH""".split()


# ---- Files to canonical parameters.


def keras_weights(path: Path, layer: str) -> dict[str, np.ndarray]:
    """The arrays of one layer of a Keras 2 weights file: kernel, recurrent_kernel and bias."""
    import h5py

    with h5py.File(path) as file:
        group = file[layer]
        return {
            name.decode().split("/")[-1].removesuffix(":0"): group[name][()] for name in group.attrs["weight_names"]
        }


def from_keras(path: Path, layer: str, packing: str = "keras") -> Parameters:
    """The canonical parameters of one LSTM of a Keras 2 weights file."""
    arrays = keras_weights(path, layer)
    spec = Recurrent("lstm", arrays["kernel"].shape[0], arrays["recurrent_kernel"].shape[0])
    table = known_packings()[packing]
    return unpack(table, spec, {n.name: arrays[n.name.split("/")[-1]] for n in table.natives(spec)})


def from_torch(path: Path, prefix: str) -> Parameters:
    """The canonical parameters of one LSTM of a PyTorch state_dict."""
    import torch

    state = torch.load(path, weights_only=True, map_location="cpu")
    arrays = {name.removeprefix(f"{prefix}."): t.numpy() for name, t in state.items() if name.startswith(f"{prefix}.")}
    rows, features = arrays["weight_ih_l0"].shape
    return unpack(known_packings()["torch"], Recurrent("lstm", features, rows // 4), arrays)


def from_g2p(arrays: Mapping[str, np.ndarray], part: str) -> Parameters:
    """The canonical parameters of g2p's encoder (``enc``) or decoder (``dec``), which are packed as PyTorch packs."""
    rows, features = arrays[f"{part}_w_ih"].shape
    names = {"weight_ih_l0": "w_ih", "weight_hh_l0": "w_hh", "bias_ih_l0": "b_ih", "bias_hh_l0": "b_hh"}
    spec = Recurrent("gru", features, rows // 3)
    return unpack(known_packings()["torch"], spec, {ours: arrays[f"{part}_{theirs}"] for ours, theirs in names.items()})


# ---- Canonical parameters to layers, and to a judgement.


def signal(features: int, dtype: str, batch: int = 2, steps: int = 24) -> np.ndarray:
    """Tones of a different frequency and phase in each feature, fading in, in a little noise."""
    random = np.random.default_rng(features)
    t = np.arange(steps)[None, :, None]
    tones = np.sin(t * random.uniform(0.05, 1.5, (batch, 1, features)) + random.uniform(0, 6, (batch, 1, features)))
    return ((0.2 + t / steps) * tones + 0.05 * random.standard_normal((batch, steps, features))).astype(dtype)


def worst_ratio(params: Parameters, x: np.ndarray, dtype: str, got: Outputs) -> float:
    """How far the worst output is from the NumPy reference, in units of the rounding noise at that place."""
    expected = noise.measure(params.spec, params, Given(x), dtype)
    ratios = [noise.ratio(a, expected.clean[name], expected.deviation[name]).max() for name, a in got.named().items()]
    return float(max(ratios))


def judged(params: Parameters, x: np.ndarray) -> dict[tuple[str, str], float]:
    """Load the parameters into a layer of each framework and float type, run it, and judge what comes out."""
    found = {}
    for framework in ("keras", "torch"):
        adapter = get_adapter(framework)
        for dtype in ("float64", "float32"):
            layer = adapter.build_loaded(params.spec, params, dtype)
            # What float32 rounds of a folded bias is part of the noise, so the file's own parameters are the measure.
            found[framework, dtype] = worst_ratio(params, x, dtype, adapter.run(layer, x.astype(dtype)))
    return found


def pronounce(arrays: Mapping[str, np.ndarray], word: str, framework: str) -> list[str]:
    """g2p's whole model, with its encoder and its decoder run by a framework."""
    adapter = get_adapter(framework)
    encoder, decoder = (
        adapter.build_loaded(params.spec, params, "float32")
        for params in (from_g2p(arrays, "enc"), from_g2p(arrays, "dec"))
    )
    state = adapter.run(encoder, spelled(arrays, word)).states
    said: list[str] = []
    phoneme = "<s>"
    while len(said) < 20:
        out = adapter.run(decoder, arrays["dec_emb"][None, None, PHONEMES.index(phoneme)], state)
        state = out.states
        phoneme = PHONEMES[int(np.argmax(out.last[0] @ arrays["fc_w"].T + arrays["fc_b"]))]
        if phoneme == "</s>":
            break
        said.append(phoneme)
    return said


def spelled(arrays: Mapping[str, np.ndarray], word: str) -> np.ndarray:
    """A word as g2p's encoder reads it: (1, letters and an end mark, 256)."""
    return arrays["enc_emb"][None, [LETTERS.index(c) for c in [*word, "</s>"]]]


# ---- The report.


def line(name: str, params: Parameters, x: np.ndarray) -> bool:
    """Print one layer's counts and judgement; True if all is well."""
    counts = {f: sum(n.count for n in known_packings()[f].natives(params.spec)) for f in ("keras", "torch")}
    ratios = judged(params, x)
    worst = ", ".join(f"{framework} {dtype} {ratio:.1f}" for (framework, dtype), ratio in ratios.items())
    print(f"  {name:8} {params.spec!s:36} keras {counts['keras']:>9,}  torch {counts['torch']:>9,}   {worst}")
    return max(ratios.values()) < 10


def main() -> int:
    """Print the report; 0 if everything is the same function, 1 if not, 2 if the files are not there."""
    folder = Path(os.environ.get("XFRAME_MODELS", ""))
    if not os.environ.get("XFRAME_MODELS") or not folder.is_dir():
        print(f"XFRAME_MODELS must name the folder of the model files, not {str(folder)!r}.", file=sys.stderr)
        return 2
    print(
        "Numbers stored in each framework, then the worst output in units of its rounding noise (10 and more is a fault)."
    )
    good = True

    print("\nDTLN, dtln/model.h5 and dtln/model.pth")
    for layer, prefix in DTLN.items():
        keras, torch = from_keras(folder / "dtln/model.h5", layer), from_torch(folder / "dtln/model.pth", prefix)
        mine, yours = keras.effective(), torch.effective()
        same = mine.keys() == yours.keys() and all(np.array_equal(mine[key], yours[key]) for key in mine)
        good &= line(layer, keras, signal(keras.spec.input_size, "float32")) and same
        print(
            f"           {layer} in Keras and {prefix} in PyTorch: {'equal to the last bit' if same else 'DIFFERENT'}"
        )

    print("\ntextgenrnn, textgenrnn/hacker_news.hdf5 (CuDNNLSTM: twice the biases, and kernels packed another way)")
    for layer in TEXTGENRNN:
        legacy = from_keras(folder / "textgenrnn/hacker_news.hdf5", layer, "keras-cudnn")
        good &= line(layer, legacy, signal(legacy.spec.input_size, "float32"))

    print("\ng2p, g2p/checkpoint20.npz")
    with np.load(folder / "g2p/checkpoint20.npz", allow_pickle=False) as file:
        arrays: dict[str, Any] = dict(file)
    for part in ("enc", "dec"):
        params = from_g2p(arrays, part)
        good &= line(part, params, spelled(arrays, "activationist"))
    said = {framework: " ".join(pronounce(arrays, "activationist", framework)) for framework in ("keras", "torch")}
    for framework, phonemes in said.items():
        print(f"           activationist, by {framework}: {phonemes}")
    return 0 if good and len(set(said.values())) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
