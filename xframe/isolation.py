"""Adapters that run in a process of their own.

Some settings hold for a whole process: the backend of Keras, whether JAX has float64. Frameworks in one process also share
threads and memory. Here an adapter stands for another one that runs in a new interpreter (spawned, not forked: frameworks have
threads, which a fork would leave behind). What goes to it and comes back are specs, strings and NumPy arrays (`xframe.wire`),
over the pipes of its standard input and output; native layers stay there, and have a number here.

The process takes no module from the folder that it stands in (`xframe.processes`). It ends when its input ends, so
when this process does, whatever that ends by; it does not see Ctrl-C, which is for this process to handle. What is written to
its standard output and error is kept in a temporary file that has no name, for the case that it crashes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING, Any

from xframe.adapters.base import Adapter, Isolated, Setting, Variant
from xframe.errors import MissingFrameworkError, WorkerError, XframeError
from xframe.layout import Packing
from xframe.processes import apart, command
from xframe.spec import Layer
from xframe.wire import Held, receive, send

if TYPE_CHECKING:
    import numpy as np

    from xframe.packing import Parameters
    from xframe.reference import Outputs

__all__ = ["IsolatedAdapter", "serve"]

_SCRIPT = "_worker.py"  # what the new interpreter runs
_PATIENCE = 5  # seconds that a process has to end by itself
_LINES, _WIDTH = 8, 2000  # of what it wrote, as an error shows it
# The methods that give a native layer.
_MAKERS = frozenset(("build", "blank", "build_loaded", "clone"))


class IsolatedAdapter(Adapter):
    """Stands for an adapter of a kind, or of one of its variants, that runs in another process; its layers are `Isolated`.

    The process is being started when the constructor returns: several start beside each other.

    Raises:
        MissingFrameworkError: what it needs is not installed.
    """

    roots = ()

    def __init__(self, kind: type[Adapter], variant: str = "") -> None:
        self.packing: Packing = kind.packing
        self.requires: tuple[str, ...] = kind.requires
        self._kind = kind
        self._variant = kind.variants[variant] if variant else Variant(kind.packing.title, (), {})
        self._name = f"{kind.packing.name}[{variant}]" if variant else kind.packing.name
        for missing in (kind.missing(), [name for name in self._variant.requires if find_spec(name) is None]):
            if missing:
                extra = f"'xframe[{kind.extra or kind.packing.name}]'"
                raise MissingFrameworkError(
                    f"{self.title} was asked for, but {' and '.join(missing)} cannot be found; install it with: "
                    f"pip install {' '.join(missing) if missing[0] in self._variant.requires else extra}."
                )
        self._process: _Process | None = _Process(self._kind.packing.name, self._variant)

    @classmethod
    def owns(cls, layer: object) -> bool:
        return isinstance(layer, Isolated)

    @property
    def name(self) -> str:
        return self._name

    @property
    def title(self) -> str:
        return self._variant.title

    def version(self) -> str:
        return str(self._ask("version"))

    def lacks(self, spec: Layer, dtype: str) -> str:
        return str(self._ask("lacks", spec, dtype))

    def coarse(self, spec: Layer, dtype: str) -> frozenset[str]:
        return frozenset(self._ask("coarse", spec, dtype))

    def remark(self, spec: Layer, dtype: str) -> str:
        return str(self._ask("remark", spec, dtype))

    def build(self, spec: Layer, dtype: str = "float32") -> Isolated:
        return self._made("build", spec, dtype)

    def blank(self, spec: Layer, dtype: str) -> Isolated:
        return self._made("blank", spec, dtype)

    def build_loaded(self, spec: Layer, blocks: Mapping[Any, np.ndarray], dtype: str) -> Isolated:
        return self._made("build_loaded", spec, dict(blocks), dtype)

    def clone(self, layer: Any, dtype: str) -> Isolated:
        return self._made("clone", layer, dtype)

    def spec(self, layer: Any, mask: str | None = None) -> Layer:
        found: Layer = self._ask("spec", layer, mask)
        return found

    def packing_of(self, layer: Any) -> Packing:
        # Packings hold functions and are the same in every process; those of layers that `build` makes are `packing`.
        return self.packing

    def tensor_cores(self, layer: Any) -> bool:
        return bool(self._ask("tensor_cores", layer))

    def dtype(self, layer: Any) -> str:
        return str(self._ask("dtype", layer))

    def read(self, layer: Any) -> Mapping[str, np.ndarray]:
        found: dict[str, np.ndarray] = self._ask("read", layer)
        return found

    def write(self, layer: Any, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
        self._ask("write", layer, list(arrays))

    def load(self, layer: Any, blocks: Mapping[Any, np.ndarray]) -> None:
        self._ask("load", layer, dict(blocks))

    def parameters(self, layer: Any) -> Parameters:
        found: Parameters = self._ask("parameters", layer)
        return found

    def run(
        self,
        layer: Any,
        x: np.ndarray,
        state: Mapping[str, np.ndarray] | None = None,
        mask: np.ndarray | None = None,
    ) -> Outputs:
        out: Outputs = self._ask("run", layer, x, state and dict(state), mask)
        return out

    def reset(self, layer: Any) -> None:
        self._ask("reset", layer)

    def layers(self, model: Any) -> Iterator[tuple[str, Any]]:
        yield "", model

    def tensors(self, layer: Any) -> Mapping[str, Callable[[], np.ndarray]]:
        return {name: partial(self._tensor, layer, name) for name in self.read(layer)}

    def _tensor(self, layer: Any, name: str) -> np.ndarray:
        return self.read(layer)[name]

    def settings(self) -> Iterator[Setting]:
        yield from self._ask("settings")

    def close(self) -> None:
        """End the process now; one is started again when it is needed."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def _made(self, method: str, *arguments: Any) -> Isolated:
        number = self._ask(method, *arguments)
        assert self._process is not None
        layer = Isolated(self, self._process, number)
        weakref.finalize(layer, self._process.released.append, number)
        return layer

    def _ask(self, method: str, *arguments: Any) -> Any:
        """What a method of the adapter gives there."""
        if self._process is None:
            self._process = _Process(self._kind.packing.name, self._variant)
        for one in arguments:
            if isinstance(one, Isolated) and one.process is not self._process:
                why = "is of another process" if one.adapter is not self else "was of a process that has ended"
                raise WorkerError(f"This layer of {one.adapter.title} {why}; build it again.")
        try:
            kind, value = self._process.ask(method, arguments)
        except WorkerError:
            self._process = None
            raise
        except BaseException:
            # Ctrl-C, for one: an answer may be on its way that nobody will take.
            self.close()
            raise
        if kind == "error":
            raise value
        return value


class _Process:
    """A process that serves one adapter, seen from here."""

    def __init__(self, name: str, variant: Variant) -> None:
        self._title, self._ready = variant.title, False
        self.released: list[int] = []
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, it lives as long as this does
        self._process = subprocess.Popen(
            command(_SCRIPT),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **variant.environment},
            **apart(),
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self.end = weakref.finalize(self, _end, self._process)
        with contextlib.suppress(OSError):  # a process that has ended at once is reported when it is asked something
            send([name, variant.title], self._requests)

    def ask(self, method: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
        """Send a request and wait for the answer: (``value`` or ``error``, it).

        Raises:
            WorkerError: the process has ended.
        """
        gone = [self.released.pop() for _ in range(len(self.released))]
        numbers = [Held(a.number) if isinstance(a, Isolated) else a for a in arguments]
        try:
            if not self._ready:
                kind, value = receive(self._answers)  # whether the adapter could be made
                if kind == "error":
                    self.end()
                    raise value
                self._ready = True
            send([gone, method, numbers], self._requests)
            kind, value = receive(self._answers)
        except (EOFError, OSError):
            raise self._ended() from None
        return kind, value

    def _ended(self) -> WorkerError:
        """What is to be said of a process that does not answer any more."""
        self.end()
        code = self._process.returncode
        how = f"with status {code}"
        if code < 0:
            with contextlib.suppress(ValueError):
                how = f"by the signal {signal.Signals(-code).name}"
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - _WIDTH))
        lines = self._log.read().decode(errors="replace").splitlines()
        last = " | ".join(line.strip() for line in lines[-_LINES:] if line.strip())
        return WorkerError(
            f"The process in which {self._title} ran ended {how}"
            + (f"; the last that it wrote: {last}" if last else " and wrote nothing; is there enough memory?")
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let a process end, or make it."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # a pipe of which nobody reads the other end
                pipe.close()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# In the other process.


def serve() -> None:
    """Serve an adapter to the process that has started this one, until that closes the pipe."""
    requests: IO[bytes] = sys.stdin.buffer
    # What frameworks print must not come between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    served: _Served | None = None
    while True:
        try:
            request = receive(requests)
        except EOFError:
            return
        try:
            if served is None:
                served = _Served(*request)
                answer: list[Any] = ["value", None]
            else:
                answer = ["value", served.answer(*request)]
        except XframeError as error:
            answer = ["error", error]
        except Exception as error:  # whatever a framework raises; its class may not be known where it goes
            why = (str(error).strip().splitlines() or [""])[0]
            what = f"{request[1]} of {served.title}" if served else request[1]
            answer = ["error", WorkerError(f"{what} failed ({type(error).__name__}: {why}).")]
        with contextlib.suppress(BrokenPipeError):
            try:
                send(answer, answers)
            except XframeError as error:  # what the adapter gave is nothing that can be sent
                send(["error", error], answers)


class _Served:
    """The adapter that is served, and its layers by number."""

    def __init__(self, name: str, title: str) -> None:
        from xframe.adapters import get_adapter

        self._adapter = get_adapter(name)
        self._layers: dict[int, Any] = {}
        self._count = 0
        self.title = title

    def answer(self, gone: list[int], method: str, arguments: list[Any]) -> Any:
        for number in gone:
            del self._layers[number]
        native = [self._layers[a.number] if isinstance(a, Held) else a for a in arguments]
        found = getattr(self._adapter, method)(*native)
        if method in _MAKERS:
            self._count += 1
            self._layers[self._count] = found
            return self._count
        if method == "settings":
            return list(found)
        # Arrays are made when they are looked up.
        return {name: found[name] for name in found} if method == "read" else found
