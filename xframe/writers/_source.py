"""Putting a source file together: what was generated, with the definitions and imports that it uses."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import NamedTuple

__all__ = ["assembled", "names_in"]

# Where an import stands in the file.
_FIRST = ("__future__",)
_STANDARD = ("collections.abc", "itertools", "math", "pathlib", "typing")
# What generated code may import besides what the templates do: the name, its module, and itself if it is in one.
_OTHERS = {
    "NamedTuple": ("typing", "NamedTuple"),
    "Path": ("pathlib", "Path"),
    "load_file": ("safetensors.torch", "load_file"),
    "np": ("numpy as np", ""),
    "onnxruntime": ("onnxruntime", ""),
}


class _Template(NamedTuple):
    """A template module: its imports by the name that they bind, and its definitions with what each of them uses."""

    imports: dict[str, tuple[str, str]]
    definitions: dict[str, str]
    uses: dict[str, set[str]]


def assembled(documentation: str, body: str, template: str = "") -> str:
    """The text of a Python file.

    Args:
        documentation: its docstring, which holds nothing that comes from a model.
        body: the generated code.
        template: the module of `xframe.writers.templates` whose definitions the code may use.
    """
    known = _template(template) if template else _Template({}, {}, {})
    used, grown = _names(ast.parse(body)), set[str]()
    while used != grown:
        grown = set(used)
        used = grown.union(*(known.uses[name] for name in grown if name in known.uses))
    pieces = [text for name, text in known.definitions.items() if name in used]
    imports = _imports((known.imports | _OTHERS)[name] for name in used if name in known.imports | _OTHERS)
    parts = [*pieces, body.strip("\n")]
    # Two empty lines above a function or a class, one between the imports and anything else.
    gap = "\n\n\n" if parts[0].startswith(("class", "def", "@")) else "\n\n"
    return f'"""{documentation}"""\n\n{imports}{gap}' + "\n\n\n".join(parts) + "\n"


def names_in(template: str) -> set[str]:
    """What a template defines and imports, and what generated code imports besides; of none these alone."""
    known = _template(template) if template else _Template({}, {}, {})
    return {*known.definitions, *known.imports, *_OTHERS}


@cache
def _template(name: str) -> _Template:
    text = resources.files("xframe.writers.templates").joinpath(f"{name}.py").read_text(encoding="utf-8")
    # Remarks to the tools that look at the template.
    lines = [re.sub(r"  # (type: ignore|noqa).*", "", line) for line in text.splitlines()]
    found, end = _Template({}, {}, {}), 0
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom):
            found.imports.update({alias.asname or alias.name: (str(node.module), alias.name) for alias in node.names})
        elif isinstance(node, ast.Import):
            for alias in node.names:
                found.imports[alias.asname or alias.name] = (ast.unparse(ast.Import([alias]))[len("import ") :], "")
        elif defined := _defined(node):
            # With the comments and decorators above it.
            found.definitions[defined] = "\n".join(lines[end : node.end_lineno]).strip("\n")
            found.uses[defined] = _names(node)
        end = node.end_lineno or end
    return found


def _defined(node: ast.stmt) -> str:
    """The name that a statement defines, if it defines one."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return node.name
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return ""


def _names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _imports(wanted: Iterable[tuple[str, str]]) -> str:
    """The imports in the order that isort gives them."""
    whole, parts = set[str](), {"__future__": {"annotations"}}
    for module, name in wanted:
        if name:
            parts.setdefault(module, set()).add(name)
        else:
            whole.add(module)
    lines = [(module.split()[0], f"import {module}") for module in sorted(whole)]
    for module, names in sorted(parts.items()):
        listed = ", ".join(sorted(names))
        lines.append((module, f"from {module} import {listed}"))
    groups: list[list[str]] = [[], [], []]
    for module, line in lines:
        groups[0 if module in _FIRST else 1 if module in _STANDARD else 2].append(line)
    return "\n\n".join("\n".join(group) for group in groups if group)
