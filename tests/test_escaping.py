"""Text of strangers is text in every medium: one list of names goes through every renderer, and no renderer goes without."""

from __future__ import annotations

import ast
import io
import json
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import NASTY
from lxml import etree
from markdown_it import MarkdownIt  # comes with Keras, which prints by it
from safetensors.numpy import save_file

import xframe
from xframe import cli, escaping, report
from xframe.errors import XframeError
from xframe.escaping import in_json, in_markdown, printable
from xframe.files import load
from xframe.recognition import recognise
from xframe.report import FORMATS, blocks, drawings, render
from xframe.report.json import error_json
from xframe.report.run import Run, entry, packed, unpacked
from xframe.verification import verify

PACKAGE = Path(xframe.__file__).parent
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
SVG = "{http://www.w3.org/2000/svg}"
ZERO = "\u200b"
# Those that UTF-8 has, as files ask for it.
IN_FILES = [name for name in NASTY if "\ud800" not in name]
# What a harmless name may be taken for in structure: nothing.
PLAIN = "plain"
SHORT = [ascii(name)[:20] for name in NASTY]


# ---- What no medium may hold, and what each may not.


def harmless(text: str) -> None:
    """Nothing that moves a cursor or commands a job, whatever the format: all of them may be printed."""
    for line in text.split("\n"):
        assert line.isprintable(), ascii(line)
        assert not line.lstrip().startswith("::"), line
        assert not re.search(r"##\w*\[", line), line
        assert not re.search("[\u034f\u115f\u1160\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0]", line), ascii(line)
        assert not re.search("[\u0300-\u036f]{4}", line), ascii(line)


def squeezed(text: str) -> str:
    """Without white space, because lines are broken where they are full, and what begins one may be escaped."""
    return "".join(text.split()).replace("\\x3a", ":")


def shown_in_text(text: str) -> tuple[list[Any], str]:
    return [], text


def shown_in_markdown(text: str) -> tuple[list[Any], str]:
    structure, words = list[Any](), list[str]()
    for token in MARKDOWN.parse(text):
        if token.type != "inline":
            structure.append(token.type)
            words.append(token.content)
            continue
        said = ""
        for child in token.children or ():
            if child.type == "html_inline":
                assert child.content in ("<span>", "</span>"), child.content
            elif child.type in ("text", "text_special"):
                assert "$" not in child.content or child.content == "$", "GitHub would begin a formula"
                said += child.content
            else:
                structure.append(child.type)
        # What GitHub and GitLab look for in text that is no code.
        assert not re.search(r"@\w|\bGH-\d|[#!%~&]\w|://|www\.", said, re.IGNORECASE), said
        words.append(said)
    return structure, "\n".join(words).replace(ZERO, "")


def shown_in_xml(text: str) -> tuple[list[Any], str]:
    root = etree.fromstring(text.encode())
    elements = [element for element in root.iter() if isinstance(element.tag, str)]
    attributes = {name for element in elements for name in element.attrib}
    assert not [name for name in attributes if name.startswith("on") or name in ("href", "src")]
    # A long name takes more lines of a drawing; one with a colon has a topic that is set off.
    drawn = sorted({element.tag for element in elements if element.tag.startswith(SVG)})
    around = [e.tag for e in elements if not e.tag.startswith(SVG) and not e.tag.endswith("}b")]
    values = [value for element in elements for value in element.attrib.values()]
    return [*around, *drawn], "\n".join([*root.itertext(), *values])


def shown_in_json(text: str) -> tuple[list[Any], str]:
    assert text.isascii()
    return [], "\n".join(printable(one) for one in strings(json.loads(text)))


def strings(value: Any) -> Iterator[str]:
    """All that a JSON value says."""
    if isinstance(value, dict):
        yield from value
        yield from (one for part in value.values() for one in strings(part))
    elif isinstance(value, list):
        yield from (one for part in value for one in strings(part))
    elif isinstance(value, str):
        yield value


# Of each format: its elements, and the words in them. A new format needs a line here.
SHOWN: dict[str, Callable[[str], tuple[list[Any], str]]] = {
    "text": shown_in_text,
    "markdown": shown_in_markdown,
    "html": shown_in_xml,
    "json": shown_in_json,
    "junit": shown_in_xml,
}


def check(format: str, text: str, names: list[str], plain: str | None = None) -> None:
    """A report shows these names, and they are nothing but text in it.

    Args:
        format: of the report.
        text: the report.
        names: which it must show.
        plain: the same report with `PLAIN` for each name.
    """
    harmless(text)
    structure, words = SHOWN[format](text)
    for name in names:
        assert squeezed(printable(name)) in squeezed(words), ascii(name)
    if plain is not None:
        assert structure == SHOWN[format](plain)[0]


# ---- Every block, with a name in every one of its texts.


def filled(kind: Any, text: str, flag: bool) -> Any:
    """A value of a type with this text wherever there is one, and this flag."""
    if kind is str:
        return text
    if kind is bool:
        return flag
    if kind is int or kind is float:
        return kind(1)
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{field.name: filled(hints[field.name], text, flag) for field in fields(kind)})  # type: ignore[operator]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return (filled(arguments[0], text, flag),) * 2 if arguments[0] is str else (filled(arguments[0], text, flag),)
    if origin is frozenset:
        return frozenset()
    assert origin in (types.UnionType, typing.Union), kind
    return filled(arguments[0], text, flag)


def every_block(text: str) -> list[blocks.Block]:
    return [filled(kind, text, flag) for kind in _members(blocks.Block) for flag in (False, True)]


def _members(kind: Any) -> Iterator[Any]:
    """The classes of a union of unions."""
    if is_dataclass(kind):
        yield kind
    for part in typing.get_args(kind):
        yield from _members(part)


def written(format: str, content: list[blocks.Block]) -> str:
    writer = __import__(f"xframe.report.{format}", fromlist=["write"])
    return str(writer.write(content))


OF_BLOCKS = [format for format in FORMATS if format not in ("json", "junit")]


@pytest.mark.parametrize("format", OF_BLOCKS)
@pytest.mark.parametrize("name", NASTY, ids=SHORT)
def test_no_text_of_a_block_is_more_than_text(name: str, format: str) -> None:
    for nasty, plain in zip(every_block(name), every_block(PLAIN), strict=True):
        text = written(format, [nasty])
        drawn = isinstance(nasty, blocks.Drawing) and format != "html"
        # Drawings shorten names, and what they show is looked at below; what is drawn is not shown twice.
        names = [] if isinstance(nasty, blocks.Drawing) or getattr(nasty, "drawn", False) else [name]
        check(format, text, names, None if drawn else written(format, [plain]))
    # Blocks beside each other: what ends one does not begin the next.
    check(format, written(format, every_block(name) * 2), [name], written(format, every_block(PLAIN) * 2))


@pytest.mark.parametrize("name", NASTY, ids=SHORT)
def test_no_text_of_a_drawing_is_more_than_text(name: str) -> None:
    for nasty, plain in zip(every_block(name), every_block(PLAIN), strict=True):
        if isinstance(nasty, blocks.Drawing):
            text = drawings.standalone(nasty)
            harmless(text)
            assert shown_in_xml(text)[0] == shown_in_xml(drawings.standalone(plain))[0]  # type: ignore[arg-type]
            # The title at least is not shortened.
            assert squeezed(printable(name)) in squeezed(shown_in_xml(text)[1])


# ---- Every result that a file leads to.


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a layer for each name, and metadata of these names."""
    random = np.random.default_rng(3)
    tensors = {}
    for i, name in enumerate(IN_FILES):
        tensors[f"{name}.weight"] = random.uniform(0.3, 1, (3, 4 + i)).astype("f4")
        tensors[f"{name}.bias"] = random.uniform(0.3, 1, 3).astype("f4")
    metadata = {name: name for name in IN_FILES}
    path = tmp_path_factory.mktemp("stranger") / "::error title=x::##[x] @octocat #1.safetensors"
    save_file(tensors, path, metadata)
    return path


@pytest.fixture(scope="module")
def results(stranger: Path) -> dict[str, Any]:
    found = recognise(load(stranger))
    same = verify(stranger, stranger)
    with pytest.raises(XframeError) as missing:
        load(stranger.with_name("\x1b[2J::no.npz"))
    run = Run((unpacked(packed(entry("t.py::t[@octocat]", same))), entry("t.py::t #2", missing.value)))
    return {"inspect": found, "verify": same, "run": run}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", ["inspect", "verify", "run"])
def test_no_name_in_a_file_is_more_than_text(kind: str, format: str, results: dict[str, Any]) -> None:
    if (kind, format) == ("inspect", "junit"):
        with pytest.raises(xframe.SpecError, match="has a test case for each check"):
            render(results[kind], format)
        return
    text = render(results[kind], format)
    # Reports of a run show what is wrong only; folders of layers are shown as they are nested.
    whole = kind == "inspect" or (kind == "verify" and format != "junit")
    check(format, text, [name for name in IN_FILES if "/" not in name] if whole else [])
    if format == "markdown":
        assert set(shown_in_markdown(text)[0]) <= BLOCKS_OF_MARKDOWN
    if format == "json":
        # Escaped for the log, and still the same data.
        assert in_json(json.dumps(json.loads(text))) == in_json(json.dumps(json.loads(text.replace("\\u0023", "#"))))


BLOCKS_OF_MARKDOWN = {
    *(
        f"{kind}_{end}"
        for kind in ("table", "thead", "tbody", "tr", "th", "td", "heading")
        for end in ("open", "close")
    ),
    *(f"{kind}_{end}" for kind in ("paragraph", "bullet_list", "list_item", "strong") for end in ("open", "close")),
}


# ---- What is printed besides reports.


@pytest.mark.parametrize("name", NASTY, ids=SHORT)
def test_no_message_of_an_error_is_more_than_text(name: str) -> None:
    kinds = list(_kinds(XframeError))
    assert len(kinds) >= 8
    for kind in kinds:
        given: Any = [name] if kind is xframe.errors.ObstaclesError else name
        message = str(kind(given))
        harmless(message)
        assert printable(name).rstrip(".") in message
        harmless(error_json("verify", kind(given)))


def _kinds(kind: type[XframeError]) -> Iterator[type[XframeError]]:
    yield kind
    for one in kind.__subclasses__():
        yield from _kinds(one)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
@pytest.mark.parametrize("format", FORMATS)
def test_a_terminal_that_lacks_the_letters_shows_escapes(
    format: str, encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "größe.safetensors"
    save_file({"漢字.weight": np.ones((2, 3), "f4")}, path)
    kept = io.BytesIO(), io.BytesIO()
    for name, buffer in zip(("stdout", "stderr"), kept, strict=True):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(buffer, encoding, errors="strict", write_through=True))
    with pytest.raises(SystemExit) as ended:
        cli.main(["inspect", str(path), "--format", format])
    out, err = (buffer.getvalue().decode(encoding) for buffer in kept)
    if format == "junit":
        assert (ended.value.code, out) == (2, "")
        return
    assert (ended.value.code or 0, err) == (0, "")
    if format in ("json", "html"):
        assert out.isascii()
        assert "漢字" in SHOWN[format](out)[1]
    else:
        assert ("漢字" if encoding == "utf-8" else "\\u6f22\\u5b57") in out.replace("\\\\", "\\")


def test_the_sentences_of_the_pytest_plugin_are_text(results: dict[str, Any]) -> None:
    from xframe.pytest_plugin import _Collector

    class Reporter:
        lines: typing.ClassVar[list[str]] = []

        def section(self, title: str) -> None:
            self.lines.append(title)

        def line(self, text: str) -> None:
            self.lines.append(text)

    collector = _Collector(None)
    collector._told += [*NASTY, results["run"].reason]
    collector.pytest_terminal_summary(Reporter())
    assert len(Reporter.lines) == len(NASTY) + 2
    for line in Reporter.lines:
        assert "\n" not in line
        harmless(line)


def test_a_failed_assertion_is_text(tmp_path: Path) -> None:
    sides = tmp_path / "\x1b[31m::one.safetensors", tmp_path / "::two.safetensors"
    for side, value in zip(sides, (1, 2), strict=True):
        save_file({f"{name}.weight": np.full((2, 3), value, "f4") for name in IN_FILES[:2]}, side)
    with pytest.raises(AssertionError) as raised:
        xframe.assert_equivalent(*sides)
    harmless(str(raised.value))
    assert all(printable(name) in str(raised.value) for name in IN_FILES[:2])


def test_a_plot_takes_a_name_for_no_formula(tmp_path: Path) -> None:
    from xframe.diagnosis.plot import plot
    from xframe.diagnosis.record import Diagnosis, Where

    name = "$x_{$ 2$ \x1b[31mred\ud800 a\nb"
    where = Where("here", steps=np.array([1.0, 20.0]))
    found = Diagnosis("unexplained", name, name, name, xframe.Recurrent("gru", 3, 4), 20.0, 1.0, where=where)
    plot(found, tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    harmless(text)
    # One letter is one comment in what matplotlib draws; a formula would be none.
    assert f"<!-- {printable(name)} against" in text


# ---- The functions themselves.


@pytest.mark.parametrize("name", NASTY, ids=SHORT)
def test_a_line_is_escaped_once(name: str) -> None:
    assert printable(printable(name)) == printable(name)
    assert escaping.in_lines(f"{name}\n{name}").split("\n")[-1] == printable(name.split("\n")[-1])
    assert json.loads(in_json(json.dumps(name))) == name
    assert ast.literal_eval(escaping.in_source(name[:40])) == name[:40]
    assert escaping.in_source(name).isascii()
    harmless(escaping.in_source(name))


@pytest.mark.parametrize(
    "name", ["lstm_1/kernel:0", "größe", "gru.weight_ih_l0", "t.py::test_x[a-1]", "état", "漢字", "हिन्दी", "(3, 1)"]
)
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assert printable(name) == name


def test_ordinary_names_stay_as_they_are_in_markdown() -> None:
    for name in ("lstm_1/kernel:0", "größe", "gru.weight_ih_l0", "-0.5", "3 of 4", "a.b"):
        assert in_markdown(name) == name


# ---- No way past them.

SOURCES = {path: path.read_text("utf-8") for path in PACKAGE.rglob("*.py") if "templates" not in path.parts}


def test_every_format_is_walked() -> None:
    assert set(SHOWN) == set(FORMATS)


def test_every_module_that_writes_text_escapes_it() -> None:
    """A renderer is a module of the reports that has `write`, or what its elements are made of."""
    trees = {path.stem: ast.parse(text) for path, text in SOURCES.items() if path.parent == PACKAGE / "report"}
    renderers = {
        name
        for name, tree in trees.items()
        if any(isinstance(one, ast.FunctionDef) and one.name in ("write", "to_json", "svg") for one in tree.body)
    }
    assert renderers == {*FORMATS, "svg"}
    for name in renderers:
        used = {one.module for one in ast.walk(trees[name]) if isinstance(one, ast.ImportFrom)}
        assert "xframe.escaping" in used, f"xframe/report/{name}.py writes text and escapes none"
    # There is no second one.
    assert [path for path, text in SOURCES.items() if "html import" in text] == [PACKAGE / "escaping.py"]


def test_a_renderer_that_escapes_nothing_is_found(monkeypatch: pytest.MonkeyPatch, results: dict[str, Any]) -> None:
    naive = types.ModuleType("xframe.report.naive")
    naive.write = lambda content: "\n".join(str(vars(block)) for block in content)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "xframe.report.naive", naive)
    monkeypatch.setattr(report, "FORMATS", (*FORMATS, "naive"))
    monkeypatch.setitem(SHOWN, "naive", shown_in_text)
    naive.write = lambda content: "\n".join(getattr(block, "text", "") for block in content)  # type: ignore[attr-defined]
    with pytest.raises(AssertionError):
        check("naive", render(results["inspect"], "naive"), [])
    for name in NASTY:
        line = name.replace("\n", "")
        if printable(line) != line:
            with pytest.raises(AssertionError):
                check("naive", written("naive", every_block(name)), [])


# Where xframe says something to a person: the function that says it, and what it may say as it is.
SAYING = {"echo", "print", "line", "section", "secho", "write_line"}
OWN = {
    "versions()",  # of installed distributions
    "context.get_help()",
    "error_json(command, known)",
    "report",  # of `deliver`, rendered
    "_SHELLS[shell](context.find_root().command, {}, 'xframe', '_XFRAME_COMPLETE').source()",
    "'xframe'",
}


def test_nothing_is_said_past_them() -> None:
    said = {}
    for path, text in SOURCES.items():
        if not any(f"{name}(" in text for name in SAYING):
            continue
        for node in ast.walk(ast.parse(text)):
            function = getattr(node, "func", None)
            name = getattr(function, "attr", getattr(function, "id", None))
            if isinstance(node, ast.Call) and name in SAYING and node.args:
                said[ast.unparse(node.args[0])] = path.name
    assert set(OWN) <= set(said)
    for words, where in said.items():
        assert words in OWN or re.search(r"\b(printable|in_lines)\(", words), f"{where} says {words} as it is"
