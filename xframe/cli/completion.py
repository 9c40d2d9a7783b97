"""Completion in the shell: what may follow on the command line, and ``xframe completion``.

A shell asks click, by a process with ``_XFRAME_COMPLETE`` set, each time the user presses Tab. So what is named here needs
neither a framework nor NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
)
from click.types import StringParamType

from xframe.scope import SCOPES

__all__ = ["TARGETS", "completed", "completion", "register"]

# Kept here, because the module that has them needs NumPy.
TARGETS = ("torch", "keras", "onnx", "npz")


class _Text(StringParamType):
    """Text, taken as it is, of which the shell can complete some.

    Args:
        words: the words that are known.
        path: ``file`` where paths are, else nothing.
        listed: whether several words are given, by comma.
    """

    def __init__(self, words: Callable[[], Iterable[str]] = tuple, path: str = "", listed: bool = False) -> None:
        self._words, self._path, self._listed = words, path, listed

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",") if self._listed else ("", "", incomplete)
        words = [word for word in self._words() if word.startswith(last) and word not in before.split(",")]
        # bash forgets the words that came before a path.
        paths = [CompletionItem(incomplete, self._path)] if self._path else []
        return [*paths, *(CompletionItem(before + comma + word) for word in words)]


def _cells() -> Iterable[str]:
    from xframe.cells import known_cells

    return [name for name, cell in known_cells().items() if cell.recurrent]


def _activations() -> Iterable[str]:
    from xframe.activations import ACTIVATIONS

    return ACTIVATIONS


def _merges() -> Iterable[str]:
    from xframe.spec import MERGE_MODES

    return [mode or "none" for mode in MERGE_MODES]


def _frameworks() -> Iterable[str]:
    from xframe.adapters import known_names

    return known_names()


def _dtypes() -> Iterable[str]:
    from xframe.adapters.base import FLOATS

    return FLOATS


def _packings() -> Iterable[str]:
    from xframe.adapters import known_packings
    from xframe.recognition.tables import KERAS1, KERAS1_GPU, onnx_arrays

    return [*known_packings(), *(packing.name for packing in (KERAS1, KERAS1_GPU, onnx_arrays()))]


_FILE, _DTYPES, _FRAMEWORKS, _MERGES = (
    _Text(path="file"),
    _Text(_dtypes, listed=True),
    _Text(_frameworks, listed=True),
    _Text(_merges),
)
# By the name of an option or argument, and before that by the command's name with it.
_TYPES = {
    **dict.fromkeys(("a", "b", "file", "source", "sources", "destination", "output", "plot"), _FILE),
    "record source": _Text(_cells, path="file"),
    "activation": _Text(_activations),
    "cell": _Text(_cells),
    "dtype": _DTYPES,
    "framework": _FRAMEWORKS,
    "frameworks": _FRAMEWORKS,
    "mask": _Text(lambda: ("right", "any")),
    "masked_output": _Text(lambda: ("repeat", "zero")),
    "merge": _MERGES,
    "merge_mode": _MERGES,
    "packing": _Text(_packings),
    "scope": _Text(lambda: SCOPES),
    "recurrent_activation": _Text(_activations),
    "to": _Text(lambda: TARGETS),
}


def completed(command: click.Command) -> click.Command:
    """The command, with text that the shell can complete."""
    for param in command.params:
        if isinstance(param.type, StringParamType):
            found = _TYPES.get(f"{command.name} {param.name}") or _TYPES.get(str(param.name))
            param.type = found or param.type
    return command


class _Bash(BashComplete):
    """bash takes ``--option=value`` for three words, of which click would take the second for the value."""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        return [word for word in args if word != "="], incomplete


class _OneWord(ShellComplete):
    """Where the shell takes ``--option=value`` for one word, the whole of it is what completes it."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        option, equals, _ = incomplete.partition("=")
        found = super().get_completions(args, incomplete)
        if equals and option.startswith("--"):
            for item in found:
                item.value = f"{option}={item.value}"
        return found


class _Zsh(_OneWord, ZshComplete):
    """zsh itself looks for files, and has to be told that their names begin after the ``=``."""

    source_template = ZshComplete.source_template.replace("() {\n", "() {\n    compset -P '--*='\n", 1)


class _Fish(_OneWord, FishComplete):
    """click drops what follows a comma."""

    source_template = FishComplete.source_template.replace('split ","', 'split --max 1 ","')


_SHELLS: dict[str, type[ShellComplete]] = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}


def register() -> None:
    """Let click answer the shells as their scripts here expect it, in a process that is xframe."""
    for shell, kind in _SHELLS.items():
        add_completion_class(kind, shell)


@click.command()
@click.argument("shell", metavar="SHELL", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script by which a shell completes what you type.

    SHELL is bash, zsh or fish. Commands, options, their values and files are completed. Put the script where the shell looks
    for such scripts, and start the shell anew:

    \b
      mkdir -p ~/.local/share/bash-completion/completions
      xframe completion bash > ~/.local/share/bash-completion/completions/xframe

    \b
      mkdir -p ~/.zfunc
      xframe completion zsh > ~/.zfunc/_xframe
      # in ~/.zshrc: fpath+=~/.zfunc; autoload -Uz compinit; compinit

    \b
      mkdir -p ~/.config/fish/completions
      xframe completion fish > ~/.config/fish/completions/xframe.fish

    bash does so where bash-completion is installed; else add the line eval "$(xframe completion bash)" to ~/.bashrc.
    """
    click.echo(_SHELLS[shell](context.find_root().command, {}, "xframe", "_XFRAME_COMPLETE").source())
