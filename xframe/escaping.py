"""Text of strangers, as each medium may show it: one function a medium, which every renderer uses.

Names of layers, tensors, files and metadata come from files that somebody else made. They are text: in no medium do they move the
cursor, end a line, give a command, make a link or call a person. What would is written visibly, so that a name can still be told
from another one. Everything goes through `printable` first, because any format may be printed where a terminal or the log of a
job reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from html import escape
from unicodedata import category

__all__ = ["in_code_block", "in_json", "in_lines", "in_markdown", "in_markup", "in_source", "printable"]

# What takes no space and draws nothing, though Python counts it as printable: joiners, fillers, selectors of variants.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
# Accents on one letter, of which some languages need a few; more would be drawn over the lines above.
_MARKS = 3
# What the logs of jobs take for commands: '##[', '##vso[', '##teamcity[' anywhere in a line, '::' where it begins.
_COMMAND = re.compile(r"#(?=#\w*\[)|^\s*:(?=:)")
# Letters of a name of a source's that are kept, in a comment or a sentence.
_LONGEST = 40

# What Markdown takes for its own: anywhere, and where a text begins (a quotation, an item of a list).
_MARKED = re.compile(r"[\\`*\[<|~#]|_(?![^\W_])|(?<![^\W_])_|&(?=[#\w])|^>|^[-+](?=[-+\s]|$)")
_NUMBERED = re.compile(r"^(\d+)(?=[.)](\s|$))")
_ENDS = re.compile("^ | $")
# Behind these, GitHub and GitLab look for a person, an issue, an address. A backslash does not keep them from it, and a space of
# no width does.
_CALLING = re.compile(r"@|(?<=[#!%~&])(?=\w)|:(?=//)|www(?=\.)|(?<![^\W_])GH-(?=\d)", re.IGNORECASE)


def printable(text: str) -> str:
    """One line for a terminal or the log of a job.

    Characters that move the cursor, break the line, turn its direction or are not seen become escapes as Python writes them; so
    does the first character of what a log would take for a command. To do it twice changes nothing.
    """
    if not (text.isascii() and text.isprintable()):
        text = "".join(_visible(text))
    return _COMMAND.sub(lambda found: f"{found[0][:-1]}\\x{ord(found[0][-1]):02x}", text)


def _visible(text: str) -> Iterator[str]:
    marks = 0
    for character in text:
        marks = marks + 1 if category(character) in ("Mn", "Me") else 0
        seen = character.isprintable() and not _UNSEEN.match(character) and marks <= _MARKS
        yield character if seen else ascii(character)[1:-1]


def in_lines(text: str) -> str:
    """Several lines for a terminal or the log of a job: what begins a line may have been in the middle of a name."""
    return "\n".join(map(printable, text.split("\n")))


def in_markdown(text: str) -> str:
    """Running text, or a cell of a table, in Markdown."""
    text = _MARKED.sub(r"\\\g<0>", printable(text))
    text = _CALLING.sub(r"\g<0>&#8203;", _NUMBERED.sub(r"\1\\", text))
    text = text.replace("$", "<span>$</span>")  # which GitHub's formulas do not begin with
    return _ENDS.sub("&#32;", text)  # a space at the start makes code, and one at the end keeps bold type from being it


def in_code_block(lines: Iterable[str]) -> str:
    """Lines that stay as they are in Markdown, between fences that none of them ends."""
    content = [printable(line) for line in lines]
    fence = "`" * max([3, *(len(ticks) + 1 for line in content for ticks in re.findall("`+", line))])
    return "\n".join([f"{fence}text", *content, fence])


def in_markup(text: str) -> str:
    """Text or the value of an attribute in HTML, SVG and XML."""
    return escape(printable(text))


def in_json(text: str) -> str:
    """A text in JSON, as it is printed: the same data, with no command in its lines. It is ASCII, and each line is one field."""
    return _COMMAND.sub(lambda found: f"{found[0][:-1]}\\u{ord(found[0][-1]):04x}", text)


def in_source(name: str) -> str:
    """A name in a comment of source code or in a sentence: quoted, escaped, on one line, not long."""
    return printable(ascii(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."))
