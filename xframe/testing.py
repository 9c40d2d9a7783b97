"""An assertion for tests: two layers or two models are equivalent, or the whole report says why not.

It needs no pytest. In pytest there is a fixture of the same name, and ``--xframe-report`` collects what is asserted here
(`xframe.pytest_plugin`, which imports this module: nothing heavy is imported before it is needed).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from xframe.errors import SpecError, XframeError
from xframe.escaping import printable
from xframe.reproduction import of_models

if TYPE_CHECKING:
    from xframe.verdict import Verdict
    from xframe.verification import Verification

__all__ = ["assert_equivalent", "observed"]

Observer = Callable[[Any], object]
_observers: list[Observer] = []


def assert_equivalent(a: Any, b: Any = None, **options: Any) -> Verdict | Verification:
    """Assert that two layers or two models are equivalent.

    Args:
        a, b: two native layers, or a spec alone, as `xframe.compare` takes them; or two model files or models, or one of each,
            as `xframe.verify` takes them.
        options: as of that function; ``scope`` of two models says how much is to be judged (`xframe.scope`).

    Returns:
        The verdict or the verification, which is true.

    Raises:
        AssertionError: it is not equivalent, or inconclusive. The message has the worst element, the cause if one is known,
            what to type to see it again, and the whole report.
        XframeError: it could not be compared; see `xframe.compare` and `xframe.verify`.
    """
    __tracebackhide__ = True  # pytest then shows the line of the test
    try:
        result = _result(a, b, options)
    except XframeError as error:
        _tell(error)
        raise error.with_traceback(None)  # noqa: B904 - the sentence says it all; the way to it is of no use to a test
    _tell(result)
    if not result:
        raise AssertionError(_message(result, a, b, options))
    return result


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Hand every result of `assert_equivalent`, and every error of xframe that it raises, to ``observer`` as well."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def _tell(result: Any) -> None:
    for observer in _observers:
        observer(result)


def _result(a: Any, b: Any, options: dict[str, Any]) -> Verdict | Verification:
    function: Callable[..., Verdict | Verification]
    if of_models(a, b):
        from xframe.verification import verify as function

        if a is None or b is None:
            raise SpecError(f"{a or b} has nothing to be compared with; give another file or a model: (a, b).")
    else:
        from xframe.comparison import compare as function
    known = [name for name in inspect.signature(function).parameters if name not in ("a", "b")]
    if unknown := [name for name in options if name not in known]:
        raise SpecError(
            f"{unknown[0]!r} is no option of xframe.{function.__name__}, which takes {', '.join(known)}; leave it out."
        )
    return function(a, b, **options)


def _message(result: Verdict | Verification, a: Any, b: Any, options: dict[str, Any]) -> str:
    """The first line says it all, for summaries that show no more."""
    from xframe.reproduction import reproduction
    from xframe.verdict import Verdict

    lines = [
        f"{result.status}. {result.reason}",
        *(_worst_element(result) if isinstance(result, Verdict) else _worst_pair(result)),
        f"To see it again: {reproduction(a, b, options)}",
    ]
    whole = None if isinstance(result, Verdict) else result.whole
    if whole is not None and whole.agrees_with:
        lines.append(f"Where they agree: {reproduction(a, b, {**options, whole.agrees_with: True})}")
    return "\n".join([*map(printable, lines), "", result.report()])


def _worst_element(verdict: Verdict) -> Iterator[str]:
    """The element that is farthest off, and the cause if one is known."""
    checks = [check for check in verdict.checks if check.status != "equivalent" and check.worst is not None]
    if checks:
        c = max(checks, key=lambda check: float("inf") if check.noise_ratio is None else check.noise_ratio)
        yield (
            f"Worst element: {list(c.worst or ())} of {c.output} of {c.layer} in {c.framework} ({c.weights}, {c.dtype}, "
            f"initial state {c.initial_state}): {c.got} instead of {c.expected}; {c.reason}."
        )
    if verdict.diagnosis is not None:
        yield f"Cause: {verdict.diagnosis.reason}"


def _worst_pair(verification: Verification) -> Iterator[str]:
    """The same for the layers that are farthest from each other."""
    pairs = [pair for pair in verification.pairs if pair.status != "equivalent"]
    if not pairs:
        return
    pair = max(pairs, key=lambda pair: pair.noise_ratio)
    where = f" at {pair.where}" if pair.where else ""
    yield (
        f"Worst pair: {pair.a} and {pair.b}: parameters off by up to {pair.max_abs:.2g}{where}, outputs by "
        f"{pair.noise_ratio:.3g} times the rounding noise."
    )
    if pair.diagnosis is not None:
        yield f"Cause: {pair.diagnosis.reason}"
