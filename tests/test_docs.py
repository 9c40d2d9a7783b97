"""The documentation site: every page has its place, every public name is in the reference, pictures are those of today, and the
built pages load nothing from elsewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import xframe.report
from xframe.cli import cli

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PICTURES = DOCS / "pictures"
sys.path.insert(0, str(ROOT / "scripts"))

# As on a machine that has no framework and no network.
BUILD = """
import socket, sys
sys.modules.update(dict.fromkeys(("tensorflow", "keras", "torch", "jax")))
def refuse(*given): raise OSError("the build asked for the network")
socket.socket.connect = refuse
from mkdocs.__main__ import cli
cli(["build", "--strict", "--site-dir", sys.argv[1]])
"""


def pages() -> dict[str, str]:
    return {str(path.relative_to(DOCS)): path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}


def test_every_page_is_in_the_navigation_once() -> None:
    named = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(pages())


@pytest.mark.parametrize("name", xframe.__all__)
def test_a_public_name_is_in_the_reference(name: str) -> None:
    wanted = re.compile(rf"^::: xframe\.{name}$", re.MULTILINE)
    assert [page for page, text in pages().items() if wanted.search(text)], f"::: xframe.{name} is on no page"


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_a_command_is_in_the_reference(name: str) -> None:
    sections = dict(
        re.findall(r"^## xframe (\S+)\n(.*?)(?=^## |\Z)", pages()["reference/cli.md"], re.MULTILINE | re.DOTALL)
    )
    options = [
        option for parameter in cli.commands[name].params for option in parameter.opts if option.startswith("--")
    ]
    assert [option for option in options if f"{option}" not in sections[name]] == []


def test_every_picture_is_shown_and_says_what_it_shows() -> None:
    shown = [found for text in pages().values() for found in re.findall(r"!\[(.*?)\]\(\S*?pictures/(\S+?)\)", text)]
    assert {name for _, name in shown} == {path.name for path in PICTURES.iterdir()}
    assert all(len(words.split()) > 5 for words, _ in shown)


def words(picture: str) -> list[str]:
    """What a picture says, but for numbers, which differ from machine to machine."""
    return [text for text in re.findall(r">([^<>]+)</t(?:ext|itle)>", picture) if not re.search(r"\d", text)]


@pytest.mark.needs("keras", "torch")
def test_the_pictures_are_what_is_drawn_today(tmp_path: Path) -> None:
    import draw_docs

    drawn = {path.name: path.read_text(encoding="utf-8") for path in draw_docs.draw(tmp_path)}
    kept = {path.name: path.read_text(encoding="utf-8") for path in PICTURES.iterdir()}
    assert drawn.keys() == kept.keys()
    for name, picture in drawn.items():
        assert len(words(picture)) > 5
        assert words(picture) == words(kept[name]), f"python scripts/draw_docs.py draws another {name}"
        if name in draw_docs.TENSORS:
            assert picture == kept[name], f"python scripts/draw_docs.py draws another {name}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-c", BUILD, str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Loaded(HTMLParser):
    """What a browser fetches when it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.classes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.classes |= set(given.get("class", "").split())
        if tag != "a":
            self.found += [given[name] for name in ("src", "href", "data", "poster", "srcset") if name in given]


def loaded(site: Path) -> Iterator[tuple[str, str]]:
    """Every address that a page or a style sheet fetches, with where it stands."""
    for path in site.rglob("*.html"):
        parser = Loaded()
        parser.feed(path.read_text(encoding="utf-8"))
        assert "mermaid" not in parser.classes, f"{path.name} has a diagram, for which the theme fetches a script"
        yield from ((path.name, address) for address in parser.found)
    for path in site.rglob("*.css"):
        style = path.read_text(encoding="utf-8")
        yield from ((path.name, address) for address in re.findall(r"(?:url\(|@import\s+)[\"']?([^\"')]+)", style))


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    found = list(loaded(site))
    assert len(found) > 100
    assert [where for where in found if re.match(r"(?:https?:)?//", where[1])] == []


@pytest.mark.slow
def test_the_site_has_the_reference(site: Path) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (site / "reference").glob("*.html"))
    assert [name for name in xframe.__all__ if f'id="xframe.{name}"' not in text] == []
    # The docstring of one function, and what it says of its arguments.
    assert "builds the layer (or the chain) in each framework" in text
    assert text.count(">Raises:<") > 20
    schema = json.loads((site / "reference" / "schema.json").read_text(encoding="utf-8"))
    assert schema == xframe.report.schema()
