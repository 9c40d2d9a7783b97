"""The command line as a user meets it: what it prints, what it exits with, what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from xframe.cli import cli, main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Status, standard output, standard error."""
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    out, err = capsys.readouterr()
    return (left.value.code or 0) if isinstance(left.value.code, int | None) else 99, out, err


def shell(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def default() -> subprocess.CompletedProcess[str]:
    """``xframe compare`` as a process of its own."""
    return shell("-m", "xframe", "compare")


def test_compare_tells_the_whole_story(default: subprocess.CompletedProcess[str]) -> None:
    assert default.returncode == 0, default.stderr
    text = " ".join(default.stdout.split())
    for words in (
        "SimpleRNN(10) on 1 feature, then Dense(1) on 10 features",
        "hidden*(hidden+features+1) = 10*(10+1+1)",
        "hidden*(hidden+features+2) = 10*(10+1+2)",
        "recurrent_kernel (10, 10) 100 weight_hh_l0 (10, 10) 100",
        "Keras stores 120 + 11 = 131, of which 120 + 11 = 131 are effective",
        "PyTorch stores 130 + 11 = 141, of which 120 + 11 = 131 are effective",
        "bias_ih_l0 and bias_hh_l0, which are only ever added to each other",
        "VERDICT: equivalent. Keras and PyTorch compute the same function",
    ):
        assert words in text


def test_frameworks_chatter_reaches_nobody(default: subprocess.CompletedProcess[str]) -> None:
    assert default.stderr == ""
    for word in ("oneDNN", "cuda", "absl", "TensorFlow binary", "Warning"):
        assert word not in default.stdout


def test_json_of_compare_has_the_fields_of_the_interface(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "compare", "--format", "json")
    content = json.loads(out)
    assert (status, err) == (0, "")
    assert {"schema", "version", "command", "status", "environment", "layers", "totals", "checks"} <= set(content)
    assert (content["schema"], content["command"], content["status"]) == ("xframe/1", "compare", "equivalent")
    assert content["totals"] == {"keras": 131, "torch": 141}
    assert {"python", "platform", "keras", "torch"} <= set(content["environment"])
    counts = content["layers"][0]["counts"]["torch"]
    assert {k: counts[k] for k in ("stored", "effective", "redundant")} == {
        "stored": 130,
        "effective": 120,
        "redundant": 10,
    }
    assert counts["tensors"][0] == {"name": "weight_ih_l0", "shape": [10, 1], "count": 10, "role": "kernel"}
    for check in content["checks"]:
        assert {"layer", "framework", "output", "dtype", "status", "max_abs", "noise_ratio", "worst", "power"} <= set(
            check
        )
        assert check["status"] == "equivalent"
        assert check["noise_ratio"] < content["limit"]
    assert any(check["power"] for check in content["checks"])


def test_markdown_of_compare(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "compare", "rnn", "--hidden", "5", "--features", "3", "--format", "markdown")
    assert status == 0
    assert out.startswith("## SimpleRNN(5) on 3 features\n")
    assert "| bias             | (5,)    |       5 | bias_ih_l0       | (5,)    |       5 |" in out
    assert "**VERDICT: equivalent." in out


def test_a_layer_is_compared_where_it_exists(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "compare gru --units 4 --input-size 3 --bidirectional --mask right --masked-output repeat".split()
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    assert "Not compared: Keras has no bidirectional layer with masked_output='repeat'" in " ".join(out.split())
    status, out, err = run(capsys, *arguments, "--frameworks", "keras,torch")
    assert (status, out) == (2, "")
    assert "Keras has no bidirectional layer" in err


FIVE = "keras,torch,onnx,flax,equinox"


@pytest.mark.needs("flax", "equinox", "onnx")
def test_a_framework_that_has_no_such_layer_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Without CELL it is left out; it is an error where both are what the user asked for."""
    status, out, err = run(capsys, "compare", "--frameworks", FIVE)
    assert (status, err) == (0, "")
    text = " ".join(out.split())
    assert "Not compared: Equinox has no SimpleRNN." in text
    assert text.count("Not compared") == 1
    assert "VERDICT: equivalent. Keras, PyTorch, ONNX and Flax nnx compute the same function" in text
    status, out, err = run(capsys, "compare", "rnn", "--hidden", "4", "--features", "3", "--frameworks", FIVE)
    assert (status, out) == (2, "")
    assert re.fullmatch(r"xframe: error: Equinox has no SimpleRNN[^.\n]*\.\n", err)


def test_a_layer_of_xframe_is_named_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, *"compare gru --units 4 --input-size 3 --reset-before".split())
    assert status == 0
    text = " ".join(out.split())
    assert "PyTorch: xframe.torch.Recurrent, because torch.nn.GRU applies the reset gate after the product." in text


def test_every_option_reaches_the_layer(capsys: pytest.CaptureFixture[str]) -> None:
    options = (
        "--hidden 4 --features 3 --layers 2 --bidirectional --merge ave --go-backwards --no-bias --reset-before "
        "--activation gelu --recurrent-activation hard_sigmoid_keras2 --mask any --masked-output zero "
        "--input-dropout 0.1 --recurrent-dropout 0.2 --dropout 0.3 --format json"
    )
    _, out, _ = run(capsys, "explain", "gru", *options.split())
    assert json.loads(out)["spec"] == {
        "cell": "gru",
        "input_size": 3,
        "hidden_size": 4,
        "num_layers": 2,
        "bidirectional": True,
        "bias": False,
        "reset_after": False,
        "activation": "gelu",
        "recurrent_activation": "hard_sigmoid_keras2",
        "proj_size": 0,
        "merge_mode": "ave",
        "go_backwards": True,
        "mask": "any",
        "masked_output": "zero",
        "stateful": False,
        "batch_size": None,
        "input_dropout": 0.1,
        "recurrent_dropout": 0.2,
        "dropout": 0.3,
        "form": "layer",
        "backward": None,
        "stacked": [],
    }
    for flags, option, value in (
        ("compare rnn --stateful --batch 3", "batch_size", 3),
        ("explain rnn --bare-cell", "form", "cell"),
        ("explain rnn --bidirectional --merge none", "merge_mode", None),
    ):
        _, out, _ = run(capsys, *flags.split(), "--hidden", "4", "--features", "3", "--format", "json")
        content = json.loads(out)
        assert content.get("spec", content.get("layers", [{}])[0].get("spec", {}))[option] == value


def test_probe_options_reach_the_probe(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--hidden 4 --features 3 --steps 6 --batch 7 --seed 8 --dtype float64 --frameworks torch"
    status, out, _ = run(capsys, "compare", "lstm", *options.split(), "--format", "json")
    content = json.loads(out)
    assert status == 0
    assert content["probe"] == {"batch": 7, "steps": 6, "seed": 8}
    assert {c["dtype"] for c in content["checks"]} == {"float64"}
    assert content["frameworks"] == ["torch"]


def test_not_equivalent_exits_with_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from xframe.adapters.torch import TorchAdapter
    from xframe.reference import Outputs

    right = TorchAdapter.run

    def wrong(self: TorchAdapter, layer: object, x: object, state: object = None, mask: object = None) -> Outputs:
        out = right(self, layer, x, state)  # type: ignore[arg-type]
        return Outputs(out.sequence * 1.001, out.last, out.states)

    monkeypatch.setattr(TorchAdapter, "run", wrong)
    status, out, _ = run(capsys, "compare", "rnn", "--hidden", "4", "--features", "3")
    assert status == 1
    assert "VERDICT: different." in out


def test_inconclusive_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "compare", "rnn", "--hidden", "4", "--features", "3", "--steps", "1")
    assert status == 2
    assert "VERDICT: inconclusive." in out


def test_the_suite_is_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(
        capsys, "compare", "--suite", "--frameworks", "torch", "--dtype", "float64", "--format", "json"
    )
    content = json.loads(out)
    assert (status, err) == (0, "")
    assert len(content["configurations"]) >= 24
    assert not content["left_out"]


def test_number_and_demonstrate(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--hidden 32 --features 16 --bidirectional --number 9408"
    status, out, _ = run(capsys, "explain", "gru", *options.split())
    assert status == 0
    assert "9,408 is Keras with reset_after=False." in out
    status, out, _ = run(capsys, "explain", "--demonstrate")
    assert status == 0
    assert "one number, stored twice" in out
    assert "in gate n the outputs" in " ".join(out.split())


BAD = {
    "unknown cell": ("compare foo --hidden 3 --features 2", "Unknown cell 'foo'"),
    "no cell": ("compare --hidden 3", "--hidden needs a CELL"),
    "size missing": ("compare lstm --hidden 3", "lstm needs --features"),
    "size zero": ("compare lstm --hidden 0 --features 2", "hidden_size must be from 1"),
    "size negative": ("explain lstm --hidden 4 --features -2", "input_size must be from 1"),
    "size huge": ("explain lstm --hidden 99999999999 --features 2", "hidden_size must be from 1 to 1,000,000"),
    "layer too large to compare": ("compare lstm --hidden 100000 --features 5", "compare smaller sizes"),
    "probe too large": ("compare rnn --hidden 9 --features 5 --steps 100000 --batch 100000", "too large"),
    "not a number": ("compare lstm --hidden x --features 2", "'x' is not a valid integer"),
    "recurrent activation of an rnn": (
        "compare rnn --hidden 3 --features 2 --recurrent-activation sigmoid",
        "recurrent_activation is not an option of the rnn",
    ),
    "reset of an lstm": (
        "explain lstm --hidden 3 --features 2 --reset-before",
        "--reset-before is an option of the gru",
    ),
    "activation": ("explain gru --hidden 3 --features 2 --activation rleu", "did you mean 'relu'?"),
    "dtype": ("compare --dtype int8", "not 'int8'"),
    "mask": ("compare gru --hidden 3 --features 2 --mask left", "mask must be None or 'right' or 'any', not 'left'"),
    "masked output without a mask": ("compare gru --hidden 3 --features 2 --masked-output zero", "goes with a mask"),
    "merge": ("compare gru --hidden 3 --features 2 --merge sum", "goes with bidirectional=True"),
    "dropout of one layer": ("compare gru --hidden 3 --features 2 --dropout 0.1", "acts between the layers"),
    "rate": ("compare gru --hidden 3 --features 2 --input-dropout 1.5", "a rate from 0 to less than 1"),
    "stateful without a cell": ("compare --stateful", "--stateful needs a CELL"),
    "suite and steps": ("compare --suite full --steps 9", "--suite full brings its own batch sizes and steps"),
    "suite": ("compare --suite everything", "'everything' is not one of 'standard', 'full'"),
    "framework": ("compare --frameworks jax", "There is no adapter for 'jax'"),
    "counted only": ("compare --frameworks tf1", "counts its parameters but does not run it"),
    "suite and cell": ("compare lstm --suite", "--suite brings its own layers"),
    "steps": ("compare --steps 0", "steps must be a whole number of at least 1"),
    "number": ("explain lstm --hidden 4 --features 3 --number 0", "--number must be a positive whole number"),
    "format": ("explain --format yaml", "'yaml' is not one of"),
    "command": ("comapre", "No such command 'comapre'"),
    "output in no folder": ("explain --output no/such/folder/report.txt", "does not exist; make it first"),
    "output is a folder": ("explain --output .", "it is a folder; name a file"),
}


@pytest.mark.parametrize(("line", "words"), BAD.values(), ids=BAD)
def test_bad_input_gets_one_sentence(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, *line.split())
    assert status == 2
    assert out == ""
    assert words in err
    assert err.startswith("xframe: error: ")
    assert err.count("\n") == 1
    assert err.endswith(".\n")


def test_an_error_in_json_is_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "compare", "foo", "--hidden", "3", "--features", "2", "--format", "json")
    content = json.loads(out)
    assert status == 2
    assert (content["status"], content["command"]) == ("error", "compare")
    assert content["error"]["kind"] == "spec"
    assert "Unknown cell 'foo'" in content["error"]["message"]


def test_output_is_written_whole_or_not_at_all(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "report.txt"
    line = ("explain", "rnn", "--hidden", "10", "--features", "1", "--output", str(target))
    status, out, _ = run(capsys, *line)
    assert (status, out) == (0, "")
    written = target.read_text()
    assert "hidden*(hidden+features+2)" in written

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    status, _, err = run(capsys, "explain", "lstm", *line[2:])
    assert status == 2
    assert "No space left on device" in err
    assert target.read_text() == written
    assert list(tmp_path.iterdir()) == [target]


def test_a_missing_framework_is_an_error(tmp_path: Path) -> None:
    """An interpreter in which torch cannot be found."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util, importlib.machinery, sys\n"
        "class Hide:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            raise ModuleNotFoundError(name)\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, package=None: None if name == 'torch' else find(name, package)\n"
        "sys.meta_path.insert(0, Hide)\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = shell("-m", "xframe", "compare", PYTHONPATH=path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "xframe: error: PyTorch was asked for, but torch cannot be found; install it with: pip install 'xframe[torch]'.\n"
    )
    assert shell("-m", "xframe", "compare", "--frameworks", "keras", PYTHONPATH=path).returncode == 0
    assert shell("-m", "xframe", "explain", PYTHONPATH=path).returncode == 0


LOADED = (
    "import sys\n{}\n"
    "print(sorted(m for m in ('numpy', 'torch', 'tensorflow', 'keras', 'jax', 'flax', 'equinox') if m in sys.modules))"
)


@pytest.mark.parametrize(
    "code",
    [
        "import xframe",
        "import xframe; xframe.explain(xframe.Recurrent('gru', 3, 5)).report()",
        "from xframe.adapters import KerasAdapter, TorchAdapter, available_adapters; available_adapters()",
        "from xframe.cli import cli; from click.testing import CliRunner\n"
        "CliRunner().invoke(cli, ['explain', 'lstm', '--hidden', '4', '--features', '3'], catch_exceptions=False)",
        "from xframe.cli import cli; from click.testing import CliRunner\n"
        "CliRunner().invoke(cli, ['explain', 'gru', '--hidden', '4', '--features', '3', '--number', '7'])",
    ],
)
def test_counting_and_explaining_import_no_framework_and_no_numpy(code: str) -> None:
    done = shell("-c", LOADED.format(code))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_laziness_check_can_fail() -> None:
    done = shell("-c", LOADED.format("import xframe.comparison"))
    assert done.stdout.splitlines()[-1] == "['numpy']"


@pytest.mark.parametrize("command", [[], ["compare"], ["explain"]])
def test_help(command: list[str]) -> None:
    result = CliRunner().invoke(cli, [*command, "--help"])
    assert result.exit_code == 0
    for name in cli.commands if not command else ("--hidden, --units", "--format", "--output"):
        assert name in result.output
