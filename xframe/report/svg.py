"""The little SVG that drawings need: elements, panels, and the colours for light and dark pages.

Colours are plain classes and no variables, which some viewers of files do not know; hatching is lines and no pattern, which would
need an id that is unique on the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from xframe.escaping import in_markup, printable

__all__ = [
    "STYLE",
    "WIDTH",
    "Panel",
    "element",
    "flowed",
    "group",
    "number",
    "shortened",
    "svg",
    "text",
    "title",
    "width_of",
]

# Pixels; a phone shows a panel whole.
WIDTH = 344
_MONO, _SANS = 0.61, 0.56  # width of a letter, at most on average, over the size of the type

_BASE = """
.xf text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
.xf .xf-mono{font-family:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
.xf .xf-head{font-size:15px;font-weight:600}
.xf .xf-sub{font-size:13px}
.xf .xf-gate{font-size:11px;font-weight:600;text-anchor:middle;dominant-baseline:central;
paint-order:stroke;stroke-width:3px;stroke-linejoin:round}
.xf .xf-end{text-anchor:end}
.xf .xf-middle{text-anchor:middle}
.xf path,.xf polyline{fill:none}
.xf .xf-part{stroke-width:1}
.xf .xf-hatch{stroke-width:1.1;stroke-opacity:.8}
.xf .xf-cells{stroke-width:.6;stroke-opacity:.5}
.xf .xf-line{stroke-width:1.6;stroke-linejoin:round}
.xf .xf-mark{stroke-width:1.4}
.xf .xf-limit{stroke-width:1.4;stroke-dasharray:2 3}
.xf .xf-above{fill-opacity:.1}
.xf .xf-over{fill:none;stroke-width:1.6}
.xf .xf-1{stroke-dasharray:7 4}
.xf .xf-2{stroke-dasharray:2 3}
.xf .xf-3{stroke-dasharray:9 3 2 3}
.xf .xf-mark{stroke-dasharray:none}
"""
# By class, in light and in dark pages.
_COLOURS = {
    ".xf-paper": ("fill:#fff", "fill:#12161b"),
    "text": ("fill:#1c2128", "fill:#e6eaef"),
    ".xf-quiet": ("fill:#57606a", "fill:#a3adb8"),
    ".xf-frame": ("stroke:#c3cad2", "stroke:#3d464f"),
    ".xf-kernel": ("fill:#cfe2f8;stroke:#2a68a8", "fill:#1c3a5b;stroke:#7db4ec"),
    ".xf-recurrent_kernel": ("fill:#cdeadf;stroke:#1d7557", "fill:#17473a;stroke:#6ccaa9"),
    ".xf-bias": ("fill:#fbe4b8;stroke:#8f6200", "fill:#54401a;stroke:#e2b95f"),
    ".xf-recurrent_bias": ("fill:#f2d5f0;stroke:#87378a", "fill:#4b2a4e;stroke:#dd9bdf"),
    ".xf-projection": ("fill:#dde2e8;stroke:#57606a", "fill:#353d46;stroke:#a9b3be"),
    ".xf-hatch": ("stroke:#6b2a6e", "stroke:#e7b1e9"),
    ".xf-redundant": ("stroke:#6b2a6e", "stroke:#e7b1e9"),
    ".xf-cells": ("stroke:#1c2128", "stroke:#e6eaef"),
    ".xf-gate": ("fill:#1c2128", "fill:#fff"),
    ".xf-hatched": ("stroke:#f2d5f0", "stroke:#4b2a4e"),
    ".xf-0": ("stroke:#1f5fa8", "stroke:#79b4f2"),
    ".xf-1": ("stroke:#b4501a", "stroke:#f3a26d"),
    ".xf-2": ("stroke:#1d7557", "stroke:#6ccaa9"),
    ".xf-3": ("stroke:#87378a", "stroke:#dd9bdf"),
    ".xf-open": ("fill:#fff", "fill:#12161b"),
    ".xf-ruler": ("stroke:#57606a", "stroke:#a3adb8"),
    ".xf-limit": ("stroke:#57606a", "stroke:#a3adb8"),
    ".xf-above": ("fill:#b3261e", "fill:#ff8a80"),
    ".xf-over": ("stroke:#b3261e", "stroke:#ff8a80"),
}


def _rules(index: int) -> str:
    return "\n".join(f".xf {name}{{{both[index]}}}" for name, both in _COLOURS.items())


# On paper, always the light one.
STYLE = f"{_BASE}{_rules(0)}\n@media screen and (prefers-color-scheme:dark){{\n{_rules(1)}\n}}\n"


@dataclass(frozen=True)
class Panel:
    """One picture: what it shows, in words, its size in pixels, and its elements."""

    title: str
    description: str
    width: float
    height: float
    content: str


def number(value: float) -> str:
    """A coordinate."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def element(name: str, content: str = "", **attributes: object) -> str:
    """An element; an attribute that is a Python word has an underscore behind it. ``content`` is SVG."""
    given = "".join(f' {key.rstrip("_")}="{_attribute(value)}"' for key, value in attributes.items())
    return f"<{name}{given}>{content}</{name}>" if content else f"<{name}{given}/>"


def _attribute(value: object) -> str:
    return number(value) if isinstance(value, int | float) else in_markup(str(value))


def text(words: str, x: float, y: float, classes: str = "") -> str:
    """A line of text; ``y`` is its baseline."""
    named = {"class_": classes} if classes else {}
    return element("text", in_markup(words), x=x, y=y, **named)


def group(content: Iterable[str], x: float, y: float) -> str:
    """Elements, moved."""
    return element("g", "".join(content), transform=f"translate({number(x)} {number(y)})")


def title(words: str) -> str:
    """What a pointer shows."""
    return element("title", in_markup(words))


def width_of(words: str, size: float = 12, mono: bool = False) -> float:
    """How wide a line may get."""
    return len(printable(words)) * size * (_MONO if mono else _SANS)


def shortened(words: str, letters: int) -> str:
    """The words, of which the end matters most, in so many letters."""
    shown = printable(words)
    return shown if len(shown) <= letters else f"…{shown[1 - letters :]}"


def svg(panel: Panel, standalone: bool = False) -> str:
    """A panel as an SVG element, for a page that has `STYLE`, or with its own for a file."""
    own = element("style", STYLE) if standalone else ""
    paper = element("rect", class_="xf-paper", width="100%", height="100%", rx=8) if standalone else ""
    words = title(panel.title) + element("desc", in_markup(panel.description))
    size = f"{number(panel.width)} {number(panel.height)}"
    return element(
        "svg",
        "".join([words, own, paper, panel.content]),
        xmlns="http://www.w3.org/2000/svg",
        class_="xf",
        role="img",
        width=panel.width,
        height=panel.height,
        viewBox=f"0 0 {size}",
    )


def flowed(
    sizes: Sequence[tuple[float, float]], width: float, gap_x: float, gap_y: float
) -> Iterator[tuple[float, float]]:
    """Where boxes of these sizes stand that are laid in rows no wider than ``width``; the last are the whole's."""
    x = y = height = widest = 0.0
    for w, h in sizes:
        if x and x + w > width:
            x, y, height = 0.0, y + height + gap_y, 0.0
        yield x, y
        x, height, widest = x + w + gap_x, max(height, h), max(widest, x + w)
    yield widest, y + height
