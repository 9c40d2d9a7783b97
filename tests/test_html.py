"""The HTML report: one page that is well-formed and loads nothing, on which all of the text report stands; and its drawings, read
back as a reader would: sides against shapes, points against the labels of the axes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from math import log10
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lxml import etree
from test_cli import run
from test_formats import JUDGING, Printed, files, layer, printed  # noqa: F401
from test_plugin import NAMED, pytest_in

import xframe
from xframe import Dense, Recurrent, explain
from xframe.counts import count
from xframe.diagnosis import Diagnosis, Where
from xframe.escaping import printable
from xframe.report import drawings, figures, render, text
from xframe.report.blocks import Drawing, Heading, Paragraph, TensorDrawing
from xframe.report.document import document
from xframe.report.html import write
from xframe.report.run import Run, entry, packed, unpacked
from xframe.verdict import OverTime, Verdict
from xframe.verification import Pair, Verification

SVG = "{http://www.w3.org/2000/svg}"
COMMANDS = {
    "compare": ("compare lstm --hidden 4 --features 3 --frameworks torch", 0),
    "compare, inconclusive": JUDGING["compare, inconclusive"],
    "compare --suite": JUDGING["compare --suite"],
    "verify": JUDGING["verify"],
    "verify, different": JUDGING["verify, different"],
    "record": JUDGING["record"],
    "check": JUDGING["check"],
    "convert": JUDGING["convert"],
    "explain": ("explain gru --hidden 4 --features 3 --bidirectional", 0),
    "explain, two layers": ("explain", 0),
    "explain --number": ("explain gru --hidden 32 --features 16 --number 7", 0),
    "explain --demonstrate": ("explain --demonstrate", 0),
    "inspect": ("inspect more.npz", 0),
    "diagnose": ("diagnose a.npz wrong.npz", 1),
    "doctor": ("doctor", 0),
}
KNOWN = {
    *"html head meta title style body main footer h1 h2 h3 h4 h5 h6 p div span b ul li pre figure figcaption".split(),
    *"table thead tbody tr th td".split(),
    *(SVG + name for name in "svg title desc style g text rect circle path polygon polyline".split()),
}
XHTML = "{http://www.w3.org/1999/xhtml}"


def page(html: str) -> Any:
    """The root of a page, which is well-formed, made of known elements, and refers to nothing."""
    root = etree.fromstring(html.encode())
    assert {e.tag.removeprefix(XHTML) for e in root.iter()} <= KNOWN
    names = {name for e in root.iter() for name in e.attrib}
    assert not {
        n for n in names if n.startswith("on") or n in ("src", "href", "srcset", "{http://www.w3.org/1999/xlink}href")
    }
    style = "".join(e.text for e in root.iter(XHTML + "style", SVG + "style")) + "".join(root.xpath("//@style"))
    assert not re.search(r"url\(|@import|://", style)
    # Nothing is shown or set by a name: what is left of addresses is that of the vocabularies.
    assert set(re.findall(r"\w+://[^\"' <]+", re.sub(r">[^<]*<", "><", html))) <= {SVG[1:-1], XHTML[1:-1]}
    return root


def found(root: Any, path: str) -> list[Any]:
    return list(root.xpath(path, namespaces={"h": XHTML[1:-1], "s": SVG[1:-1]}))


def shown(root: Any) -> str:
    """All text outside drawings and style sheets."""
    return " ".join(found(root, "//text()[not(ancestor::s:svg) and not(ancestor::h:style)]"))


# ---- The page.


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_writes_a_page(name: str, printed: Printed) -> None:  # noqa: F811
    line, status = COMMANDS[name]
    done = printed(line, "html")
    assert (done[0], done[2]) == (status, "")
    assert done[1].startswith("<!DOCTYPE html>\n<html lang=")
    root = page(done[1])
    assert found(root, "//h:h1")
    assert found(root, "//h:table")
    assert bool(found(root, "//s:svg")) == (name in SHOWS_DRAWINGS)


SHOWS_DRAWINGS = {
    *("compare", "compare, inconclusive", "explain", "explain, two layers", "diagnose", "verify, different"),
    *("record", "check"),
}


def test_the_page_says_that_nothing_may_be_loaded() -> None:
    root = page(render(explain(Recurrent("rnn", 1, 10)), "html"))
    assert root.get("lang") == "en"
    (policy,) = found(root, "//h:meta[@http-equiv='Content-Security-Policy']/@content")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert found(root, "//h:meta[@name='viewport']/@content") == ["width=device-width, initial-scale=1"]
    assert found(root, "//h:meta[@name='color-scheme']/@content") == ["light dark"]
    (style,) = found(root, "//h:style/text()")
    assert style.count("@media screen and (prefers-color-scheme:dark)") == 2  # of the page, and of its drawings
    assert "@media print" in style
    for one in found(root, "//s:svg"):
        assert one.get("role") == "img"
        assert [child.tag for child in one[:2]] == [SVG + "title", SVG + "desc"]
        assert all(child.text for child in one[:2])


@pytest.fixture(scope="module")
def wrong() -> Verdict:
    """A layer of two, in the second of which two gates are swapped, over 7 time steps."""
    return xframe.compare(layer(), layer(swapped=True), steps=7)


def figures_of(words: str) -> set[str]:
    return set(re.findall(r"\d[\d,.e+-]*\d|\d", words))


def test_all_of_the_text_report_is_on_the_page(wrong: Verdict) -> None:
    for result in (wrong, explain(Recurrent("gru", 16, 32)), explain(Recurrent("lstm", 3, 5, num_layers=2))):
        blocks = [b for b in document(result) if not getattr(b, "drawn", False)]
        words = re.sub(r"[-=]{3,}", "", text.write(blocks))
        on_page = shown(page(render(result, "html")))
        assert figures_of(words) <= figures_of(on_page)
        assert len(figures_of(words)) > 20
        unwrapped = on_page.replace("Verdict: ", "VERDICT: ")
        missing = [word for word in re.findall(r"[^\W\d_]{3,}", words) if word not in unwrapped]
        assert not missing


def test_tables_have_headers_with_a_scope_and_numbers_flush_right(wrong: Verdict) -> None:
    root = page(render(wrong, "html"))
    tables = found(root, "//h:table")
    assert len(tables) == 4
    for table in tables:
        heads = found(table, "h:thead/h:tr/h:th")
        assert [th.get("scope") for th in heads] == ["col"] * len(heads)
        right = [i for i, th in enumerate(heads) if th.get("class") == "n"]
        rows = found(table, "h:tbody/h:tr")
        assert right
        assert {len(row) for row in rows} == {len(heads)}
        assert all("n" in (row[i].get("class") or "").split() for row in rows for i in right)
    assert found(root, "//h:tbody//h:th/@scope") == ["row"] * len(found(root, "//h:tbody//h:th")) != []
    assert found(root, "//h:td[@class='is different']/text()") == ["different"]


@pytest.mark.parametrize("status", ["equivalent", "different", "inconclusive"])
def test_the_verdict_stands_at_the_top_as_a_word(status: str, wrong: Verdict) -> None:
    root = page(render(replace(wrong, status=status, reason="Because 2 < 3 & 4.", search=None), "html"))
    first, second, *_ = found(root, "//h:main/*")
    assert (first.tag, first.text) == (XHTML + "h1", str(wrong.model))
    assert second.get("class") == f"found {status}"
    assert "".join(second[0].itertext()).endswith(f" Verdict: {status}")
    assert second[1].text == "Because 2 < 3 & 4. Scope: layers."
    assert shown(root).count("Because") == 1
    (style,) = found(root, "//h:style/text()")
    assert f".found.{status}" in style


def test_each_of_several_reports_has_what_was_found_last_below_its_heading() -> None:
    found_2 = Paragraph("found 2", strong=True)
    blocks = [
        *(
            Heading("one", 1),
            Paragraph("found 0", strong=True),
            Paragraph("1 is less"),
            Paragraph("found 1", strong=True),
        ),
        *(Heading("two", 1), replace(found_2), Paragraph("2 is more"), replace(found_2), Paragraph("the end")),
    ]
    order = [e.text or e[0].text for e in found(page(write(blocks)), "//h:main/*")]
    assert order == ["one", "found 1", "found 0", "1 is less", "two", "found 2", "found 2", "2 is more", "the end"]


# ---- Names of strangers.

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "]]></style></script><script>alert(1)</script>",
    "\" onmouseover='alert(1)' x=\"",
    "--><svg/onload=alert(1)>&#60;b&gt;",
    "https://example.org/x.js",
    "a\x00b\x1b[2J\ud800\n\té\U0001f600",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_strangers_are_text(name: str) -> None:
    pair = Pair(name, name, Recurrent("gru", 3, 4), "different", name, 0.5, name, 1e30, (name,))
    result = Verification(name, name, "different", name, "model", (pair,), ((name, name),), (name,), (name,), (name,))
    harmless = replace(pair, a="a", b="a", reason="a", where="a", notes=("a",))
    same = Verification("a", "a", "different", "a", "model", (harmless,), (("a", "a"),), ("a",), ("a",), ("a",))
    root, plain = page(render(result, "html")), page(render(same, "html"))
    assert [e.tag for e in root.iter()] == [e.tag for e in plain.iter()]
    assert [sorted(e.attrib) for e in root.iter()] == [sorted(e.attrib) for e in plain.iter()]
    assert shown(root).count(printable(name)) >= 8


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_strangers_are_text_in_drawings_too(name: str) -> None:
    spec = Recurrent("rnn", 1, 3)
    torch = count(spec)["torch"]
    tensors = tuple(replace(native, name=f"{name}{i}") for i, native in enumerate(torch.tensors))
    drawing = figures.tensors(spec, {"torch": replace(torch, tensors=tensors, layers=(name,))})
    for svg in [drawings.standalone(replace(drawing, title=name)), *drawings.embedded(drawing)[0]]:
        root = etree.fromstring(svg.encode())
        assert {e.tag for e in root.iter()} <= KNOWN
        assert {name for e in root.iter() for name in e.attrib if name.startswith("on")} == set()
    end = printable(name).rpartition("/")[2][-20:]
    assert end in "".join(etree.fromstring(drawings.embedded(drawing)[0][0].encode()).itertext())


# ---- Tensors to scale.

# Shapes, and how many numbers are redundant in each, by hand. Sides are not all long enough to be to scale.
LSTM = {
    "weight_ih_l0": ((80, 13), 0),
    "weight_hh_l0": ((80, 20), 0),
    "bias_ih_l0": ((80,), 0),
    "bias_hh_l0": ((80,), 80),
}
GRU = {"kernel": ((13, 60), 0), "recurrent_kernel": ((20, 60), 0), "bias": ((2, 60), 40)}
# Of each framework: its tensors as rows and columns of slices beside each other.
DRAWN: dict[str, tuple[Any, str, dict[str, tuple[tuple[int, ...], int]]]] = {
    "rnn, torch": (
        Recurrent("rnn", 1, 10),
        "torch",
        {
            "weight_ih_l0": ((10, 1), 0),
            "weight_hh_l0": ((10, 10), 0),
            "bias_ih_l0": ((10,), 0),
            "bias_hh_l0": ((10,), 10),
        },
    ),
    "rnn, keras": (
        Recurrent("rnn", 1, 10),
        "keras",
        {"kernel": ((1, 10), 0), "recurrent_kernel": ((10, 10), 0), "bias": ((10,), 0)},
    ),
    "dense, keras": (Dense(12, 5), "keras", {"kernel": ((12, 5), 0), "bias": ((5,), 0)}),
    "lstm, torch": (Recurrent("lstm", 13, 20), "torch", LSTM),
    "lstm, tf1": (Recurrent("lstm", 13, 20), "tf1", {"kernel": ((33, 80), 0), "bias": ((80,), 0)}),
    "gru, keras": (Recurrent("gru", 13, 20), "keras", GRU),
    "gru, reset before, keras": (Recurrent("gru", 13, 20, reset_after=False), "keras", GRU | {"bias": ((60,), 0)}),
    "gru, onnx, both directions": (
        Recurrent("gru", 13, 20, bidirectional=True),
        "onnx",
        {"W": ((2, 60, 13), 0), "R": ((2, 60, 20), 0), "B": ((2, 120), 80)},
    ),
}
THINNEST = 12


def panel_of(spec: Any, framework: str) -> Any:
    drawing = figures.tensors(spec, {framework: count(spec)[framework]})
    return etree.fromstring(drawings.embedded(drawing)[0][0].encode())


def rectangles(svg: Any) -> dict[str, list[tuple[Any, float, float, float, float]]]:
    """The blocks that are drawn, by the tensor that their title names: (rect, x, y, width, height)."""
    by_name: dict[str, list[tuple[Any, float, float, float, float]]] = {}
    for rect in found(svg, ".//s:rect[s:title]"):
        x, y, w, h = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
        by_name.setdefault(rect[0].text.partition(":")[0], []).append((rect, x, y, w, h))
    return by_name


@pytest.mark.parametrize("name", DRAWN)
def test_sides_are_as_long_as_axes(name: str) -> None:
    spec, framework, tensors = DRAWN[name]
    panel = panel_of(spec, framework)
    blocks = rectangles(panel)
    assert list(blocks) == list(tensors)
    longest = max(side for shape, _ in tensors.values() for side in shape[-2:])
    scale = min(14, 200 / longest)
    for tensor, (shape, _) in tensors.items():
        *slices, rows, columns = (1, *shape)[-3:] if len(shape) == 3 else (1, 1, *shape)[-3:]
        wide, high = extent(blocks[tensor], slices[0])
        parts = len({y for _, _, y, _, _ in blocks[tensor]})
        assert wide == pytest.approx(columns * scale, abs=0.05) or columns * scale < THINNEST == wide
        # Short rows that lie on each other are each drawn as high as can be seen.
        assert high == pytest.approx(max(rows * scale, parts * THINNEST if rows == parts else 0), abs=0.1)
    words = drawings.caption(figures.tensors(spec, {framework: count(spec)[framework]}))
    assert ("Not to scale" in words) == (scale < THINNEST)  # all have a bias, which is one number high


def extent(blocks: list[tuple[Any, float, float, float, float]], slices: int) -> tuple[float, float]:
    """How wide and high the blocks of one slice are, which fill their rectangle."""
    lefts = sorted({x for _, x, _, _, _ in blocks})
    first = [b for b in blocks if b[1] <= lefts[len(lefts) // slices - 1]]
    assert len(first) * slices == len(blocks)
    wide = max(x + w for _, x, _, w, _ in first) - min(x for _, x, _, _, _ in first)
    high = max(y + h for _, _, y, _, h in first) - min(y for _, _, y, _, _ in first)
    assert sum(w * h for *_, w, h in first) == pytest.approx(wide * high, rel=1e-3)
    return wide, high


@pytest.mark.parametrize("name", DRAWN)
def test_what_is_redundant_is_hatched(name: str) -> None:
    spec, framework, tensors = DRAWN[name]
    panel = panel_of(spec, framework)
    scale = min(14, 200 / max(side for shape, _ in tensors.values() for side in shape[-2:]))
    for tensor, blocks in rectangles(panel).items():
        after = {rect: rect.getnext() for rect, *_ in blocks}
        hatched = [w for r, _, _, w, _ in blocks if after[r] is not None and after[r].get("class") == "xf-hatch"]
        # All that is redundant is a bias: one number high.
        assert sum(hatched) / scale == pytest.approx(tensors[tensor][1], abs=0.05)
    told = re.search(r" effective \+ (\d+) redundant", " ".join(panel.itertext()))
    assert int(told[1] if told else 0) == sum(spare for _, spare in tensors.values())


def test_hatching_stays_inside_its_block() -> None:
    panel = panel_of(Recurrent("lstm", 13, 20), "torch")
    lines = 0
    for rect, x, y, w, h in rectangles(panel)["bias_hh_l0"]:
        points = re.findall(r"[ML]([\d.]+) ([\d.]+)", rect.getnext().get("d"))
        assert all(x - 0.02 <= float(a) <= x + w + 0.02 and y - 0.02 <= float(b) <= y + h + 0.02 for a, b in points)
        lines += len(points) // 2
    assert lines > 4 * 3


@pytest.mark.parametrize(
    ("cell", "framework", "tensor", "order"),
    [
        ("lstm", "keras", "kernel", "ifgo"),
        ("lstm", "onnx", "W", "iofg"),
        ("lstm", "tf1", "kernel", "igfo" * 2),
        ("gru", "torch", "weight_hh_l0", "rzn"),
        ("gru", "keras", "bias", "zrn" * 2),
    ],
)
def test_gates_stand_in_the_order_of_the_framework(cell: str, framework: str, tensor: str, order: str) -> None:
    panel = panel_of(Recurrent(cell, 13, 20), framework)
    blocks = rectangles(panel)[tensor]
    labels = []
    for rect, x, y, w, h in sorted(blocks, key=lambda b: (b[2], b[1])):
        label = next(e for e in rect.itersiblings(SVG + "text") if "xf-gate" in e.get("class"))
        assert (float(label.get("x")), float(label.get("y"))) == (
            pytest.approx(x + w / 2, abs=0.02),
            pytest.approx(y + h / 2, abs=0.02),
        )
        labels.append(label.text)
    assert "".join(labels) == order


def test_all_frameworks_have_one_scale() -> None:
    spec = Recurrent("lstm", 13, 20)
    rows = drawings.embedded(figures.tensors(spec, count(spec)))
    sizes = {}
    for svg in rows[0][:-1]:  # without the legend
        panel = etree.fromstring(svg.encode())
        for blocks in rectangles(panel).values():
            for rect, _, _, w, h in blocks:
                if "xf-recurrent_kernel" in rect.get("class"):
                    sizes[panel[0].text] = (w, h)
    assert len(sizes) >= 6
    assert len(set(sizes.values())) == 1


def test_the_model_of_the_readme_is_all_to_scale() -> None:
    spec = Recurrent("rnn", 1, 10)
    words = drawings.caption(figures.tensors(spec, count(spec)))
    assert (
        words == "All to one scale: a side is as long as its axis, so that an area is a count. Each cell is one number."
    )


def test_layers_and_directions_stand_below_each_other_frameworks_beside() -> None:
    spec = Recurrent("lstm", 3, 5, num_layers=2, bidirectional=True)
    rows = drawings.embedded(figures.tensors(spec, {name: count(spec)[name] for name in ("keras", "torch")}))
    places = [[etree.fromstring(svg.encode())[0].text.rpartition("bidirectional, ")[2] for svg in row] for row in rows]
    assert places[:3] == [[p, p] for p in ("layer 0, forward", "layer 0, backward", "layer 1, forward")]
    assert places[3] == ["layer 1, backward", "layer 1, backward", "Legend"]


def test_names_lose_no_end_and_no_text_leaves_its_panel() -> None:
    spec = Recurrent("lstm", 16, 4096, num_layers=2, bidirectional=True)
    for row in drawings.embedded(figures.tensors(spec, count(spec))):
        for svg in row:
            panel = etree.fromstring(svg.encode())
            for words in found(panel, "//s:text[not(contains(@class, 'xf-gate'))]"):
                left = float(words.get("x")) + sum(
                    float(re.findall(r"[\d.]+", g.get("transform"))[0]) for g in words.iterancestors(SVG + "g")
                )
                mono = "xf-mono" in (words.get("class") or "")
                # The widths of DejaVu's letters, which are wide; of running text, on average.
                assert left + len(words.text) * 12 * (0.602 if mono else 0.55) <= float(panel.get("width")), words.text


# ---- Errors over time.

ERROR = (2e-9, 0.0, 3e-4, 5e-9, 1e-8)  # the third time step is off
NOISE = (4e-8, 2e-8, 8e-8, 3e-8, 6e-8)


@pytest.fixture(scope="module")
def planted(wrong: Verdict) -> Verdict:
    """A verdict with one sequence on which an error is planted, and one without."""
    ratio = tuple(e / n for e, n in zip(ERROR, NOISE, strict=True))
    bad, good = OverTime(ERROR, NOISE, ratio), OverTime((1e-9,) * 5, NOISE, (0.02,) * 5)
    checks = [
        replace(
            wrong.checks[0],
            framework=name,
            dtype="float32",
            initial_state="given",
            noise_ratio=max(o.ratio),
            over_time=o,
        )
        for name, o in (("keras", bad), ("torch", good))
    ]
    # Of another initial state that shows less, and of an output without time: neither is drawn.
    less = replace(checks[0], initial_state="zero", noise_ratio=0.1, over_time=good)
    return replace(wrong, checks=(less, *checks, replace(checks[0], output="last", over_time=None)), search=None)


def chart(svg: str) -> tuple[Any, dict[str, float]]:
    """A chart and where its labels of the vertical axis stand, by label."""
    root = etree.fromstring(svg.encode())
    ticks = {e.text: float(e.get("y")) - 4 for e in found(root, "//s:text[contains(@class, 'xf-end')]")}
    return root, ticks


def points(line: Any) -> list[tuple[float, float]]:
    given = line.get("d") or line.get("points")
    where = [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+)[ ,](-?[\d.]+)", given)]
    assert all(52 <= x <= 344 and 0 <= y <= 150 for x, y in where)  # inside the plot
    return where


def lines(root: Any) -> list[Any]:
    """Those of the series, without the legend."""
    return found(root, "/s:svg/s:g[1]/s:path[contains(@class, 'xf-line')]")


def read(y: float, ticks: dict[str, float]) -> float:
    """The number at a height, by the labels of the axis."""
    if y == pytest.approx(ticks.get("0", -1), abs=0.02):
        return 0.0
    powers = sorted((log10(float(label)), at) for label, at in ticks.items() if label not in ("0", "none"))
    (low, below), (high, above) = powers[0], powers[-1]
    return float(10 ** (low + (below - y) / (below - above) * (high - low)))


def test_a_planted_error_stands_where_it_was_planted(planted: Verdict) -> None:
    drawing = figures.over_time(planted.checks, planted.limit)
    assert drawing is not None
    ((svg,),) = drawings.embedded(drawing)
    root, ticks = chart(svg)
    assert [e.text for e in found(root, "//s:text[@class='xf-sub']")] == ["layer, float32, initial state given"]
    keras, torch = lines(root)
    assert [read(y, ticks) for _, y in points(keras)] == [pytest.approx(e, rel=0.02) for e in ERROR]
    assert [read(y, ticks) for _, y in points(torch)] == [pytest.approx(1e-9, rel=0.02)] * 5
    (limit,) = found(root, "//s:polyline")
    assert [read(y, ticks) for _, y in points(limit)[1:-1]] == [pytest.approx(10 * n, rel=0.02) for n in NOISE]
    # A ring around the one step that is over its limit, and one in the legend.
    ring, _ = found(root, "//s:circle[@class='xf-over']")
    assert (float(ring.get("cx")), float(ring.get("cy"))) == points(keras)[2]
    steps = {e.text: float(e.get("x")) for e in found(root, "//s:text[@class='xf-middle']")}
    assert steps["2"] == pytest.approx(float(ring.get("cx")), abs=0.02)
    assert list(steps) == list("01234")
    assert "Keras: largest 3.0e-04 at time step 2, 1 of 5 over the limit." in root[1].text
    assert found(root, "//s:title[starts-with(., 'Keras, step 2: ')]/text()") == [
        "Keras, step 2: 3.0e-04, limit 8.0e-07"
    ]


def test_a_zero_stands_at_the_bottom(planted: Verdict) -> None:
    drawing = figures.over_time(planted.checks, planted.limit)
    assert drawing is not None
    _, ticks = chart(drawings.embedded(drawing)[0][0])
    assert ticks["0"] == max(ticks.values())
    assert sorted(ticks.values(), reverse=True) == list(dict(sorted(ticks.items(), key=lambda i: float(i[0]))).values())


def test_lines_are_told_apart_without_colour(planted: Verdict) -> None:
    drawing = figures.over_time(planted.checks, planted.limit)
    assert drawing is not None
    root, _ = chart(drawings.embedded(drawing)[0][0])
    keras, torch = lines(root)
    assert re.search(r"\.xf \.xf-1\{stroke-dasharray:", drawings.STYLE)
    assert (keras.get("class"), torch.get("class")) == ("xf-line xf-0", "xf-line xf-1")
    marks = found(root, "/s:svg/s:g[1]/*[contains(@class, 'xf-mark')]")
    assert [e.tag for e in marks] == [SVG + "circle"] * 5 + [SVG + "rect"] * 5


def test_one_framework_has_a_line_for_each_side(wrong: Verdict) -> None:
    drawing = figures.over_time(wrong.checks, wrong.limit)
    assert drawing is not None
    assert [[s.name for s in c.series] for c in drawing.charts] == [["PyTorch (a)", "PyTorch (b)"]] * 2
    checks = {(c.weights, c.dtype, c.initial_state): c for c in wrong.checks if c.over_time}
    for one in drawing.charts:
        _, dtype, start = one.title.replace("initial state ", "").split(", ")
        for series, weights in zip(one.series, "ab", strict=True):
            over_time = checks[weights, dtype, start].over_time
            assert over_time is not None
            assert series.values == over_time.error
            assert series.over == tuple(i for i, ratio in enumerate(over_time.ratio) if ratio > 10)
        assert (one.series[0].over, one.series[1].over) == ((), tuple(range(7)))


def test_a_diagnosis_is_drawn_and_not_printed() -> None:
    drift, alone = np.array([0.5, np.nan, 3e5, np.inf]), np.array([0.5, 0.25, 4e4, 2e4])
    gates = {"r": np.array([0.0, 1e-9, 0.125, 0.25])}
    where = Where("It begins at 2.", step=2, steps=drift, local=alone, gates=gates)
    result = Diagnosis("unexplained", "no cause is known", "a", "b", Recurrent("gru", 3, 4), 1e5, 0.5, where=where)
    root = page(render(result, "html"))
    assert not found(root, "//h:pre")
    of_errors, of_gates = (etree.tostring(svg).decode() for svg in found(root, "//s:svg"))
    errors, ticks = chart(of_errors)
    assert [[read(y, ticks) for _, y in points(line)] for line in lines(errors)] == [
        [pytest.approx(v, rel=0.02) for v in values] for values in ((0.5, 3e5), alone)
    ]
    assert lines(errors)[0].get("d").count("M") == 2  # not across the step that is not judged
    assert found(errors, "//s:title[contains(., 'no number')]/text()") == [
        "with what earlier steps have done (drift), step 3: no number, limit 10"
    ]
    assert ticks["none"] == min(ticks.values())
    assert "begins at 2" in [e.text for e in found(errors, "//s:text")]
    each, ticks = chart(of_gates)
    (line,) = lines(each)
    assert [read(y, ticks) for _, y in points(line)] == [pytest.approx(v, rel=0.02) for v in gates["r"]]
    assert not found(each, "//s:polyline")


@pytest.mark.parametrize("steps", [1, 2, 500])
def test_any_number_of_time_steps_is_drawn(steps: int, planted: Verdict) -> None:
    o = OverTime((1e-8,) * steps, (2e-9,) * steps, (5.0,) * steps)
    drawing = figures.over_time([replace(planted.checks[0], over_time=o)], planted.limit)
    assert drawing is not None
    root, ticks = chart(drawings.embedded(drawing)[0][0])
    (line,) = lines(root)
    assert [read(y, ticks) for _, y in points(line)] == [pytest.approx(1e-8, rel=0.02)] * steps
    assert len(found(root, "/s:svg/s:g[1]/*[contains(@class, 'xf-mark')]")) <= 30


# ---- Drawings as files.


def test_a_drawing_as_a_file_stands_alone(wrong: Verdict) -> None:
    for svg in (drawings.layer_svg(Recurrent("rnn", 1, 10), ("keras", "torch")), drawings.error_svg(wrong)):
        root = etree.fromstring(svg.encode())
        assert root.tag == SVG + "svg"
        assert "prefers-color-scheme:dark" in found(root, "s:style/text()")[0]
        assert "xf-paper" in found(root, "s:rect/@class")
        assert (root.get("role"), root[0].tag, root[1].tag) == ("img", SVG + "title", SVG + "desc")
        assert not re.search(r"url\(|@import|href|<script|[^=]\"?http(?!://www.w3.org/2000/svg)", svg)
    root = etree.fromstring(drawings.layer_svg(Dense(3, 2), ["torch"]).encode())
    assert [e.text for e in found(root, "//s:text[@class='xf-mono']")] == ["weight", "bias"]


def test_what_cannot_be_drawn_is_refused_in_one_sentence(wrong: Verdict) -> None:
    with pytest.raises(xframe.SpecError, match="There is no framework 'numpy'; use some of keras, torch"):
        drawings.layer_svg(Recurrent("rnn", 1, 10), ["numpy"])
    with pytest.raises(xframe.SpecError, match="no error over time is known"):
        drawings.error_svg(replace(wrong, checks=()))
    with pytest.raises(xframe.UnsupportedError):
        drawings.layer_svg(Recurrent("gru", 1, 10), ["tf1"])


def test_formats_of_text_leave_drawings_out(wrong: Verdict) -> None:
    blocks = document(wrong)
    without = [block for block in blocks if not isinstance(block, Drawing)]
    assert len(blocks) - len(without) == 3
    assert text.write(blocks) == text.write(without) == wrong.report()
    assert xframe.report.markdown.write(blocks) == xframe.report.markdown.write(without)  # type: ignore[attr-defined]


# ---- Which format, and the report of a test run.


def test_the_ending_of_the_output_chooses_the_format(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = ("explain", "rnn", "--hidden", "3", "--features", "2")
    begins = {"a.html": "<!DOCTYPE html>", "a.md": "## SimpleRNN(3)", "a.json": "{", "a.txt": "SimpleRNN(3)"}
    for name, first in begins.items():
        for given in (("--output", str(tmp_path / name)), (f"--output={tmp_path / name}", "--quiet")):
            assert run(capsys, *line, *given)[:2] == (0, "")
            assert (tmp_path / name).read_text(encoding="utf-8").startswith(first)
    for given in (("--format", "text", "--output"), ("--quiet", "--format=text", "--output")):
        assert run(capsys, *line, *given, str(tmp_path / "b.html"))[0] == 0
        assert (tmp_path / "b.html").read_text(encoding="utf-8").startswith("SimpleRNN(3)")
    status, _, err = run(capsys, *line, "--output", str(tmp_path / "a.xml"))
    assert (status, "makes none" in err) == (2, True)
    assert run(capsys, *line)[1].startswith("SimpleRNN(3)")


def test_an_error_is_no_page(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "a.html"
    for more in (("--format", "html"), ("--output", str(target))):
        status, out, err = run(capsys, "explain", "foo", "--hidden", "3", "--features", "2", *more)
        assert (status, out) == (2, "")
        assert err.startswith("xframe: error: Unknown cell 'foo'")
        assert not target.exists()


def entries(wrong: Verdict) -> Iterator[Any]:
    for test, result in (("a.py::bad", wrong), ("a.py::good", xframe.compare(layer(), layer(), steps=3))):
        yield unpacked(packed(entry(test, result)))


def test_drawings_reach_the_report_of_a_run(wrong: Verdict) -> None:
    both = Run(tuple(entries(wrong)))
    assert both.entries[0].blocks == tuple(document(wrong))
    assert any(isinstance(block, TensorDrawing) for block in both.entries[0].blocks)
    root = page(render(both, "html"))
    assert found(root, "//h:h1/text()") == ["2 comparisons in 2 tests"]
    assert found(root, "//h:main/h:div[@class='found different']")[0].getprevious().tag == XHTML + "h1"
    own, inner = render(wrong, "html"), found(root, "//s:svg")
    assert [etree.tostring(e) for e in inner] == [etree.tostring(e) for e in found(page(own), "//s:svg")]


def test_workers_send_their_drawings(tmp_path: Path, files: Path) -> None:  # noqa: F811
    """Each in a process of its own, which has the report sent to the one that writes it."""
    (tmp_path / "test_it.py").write_text(
        f"import pytest\n\n@pytest.mark.parametrize('name', ['wrong', 'a'])\ndef test_it(name, assert_equivalent):\n"
        f"    assert_equivalent({str(files / 'a.npz')!r}, {str(files)!r} + '/' + name + '.npz')\n"
    )
    done = pytest_in(tmp_path, *NAMED, "-p", "xdist.plugin", "-n", "2", "--xframe-report=report.html")
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    root = page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert len(found(root, "//h:h1")) == 1
    statuses = found(root, "(//h:table)[1]//h:td[starts-with(@class, 'is ')]/text()")
    assert sorted(statuses) == ["different", "equivalent"]
    assert len(found(root, "//s:svg")) == 2  # the diagnosis: over time, and each gate
