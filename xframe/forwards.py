"""Mistakes in what runs between the layers, made in a chain: how a forward that was written by hand goes wrong.

Each leaves all weights as they are, so that no comparison of weights or of layers shows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from xframe.chain.base import Chain, Step
from xframe.chain.kinds import shapes
from xframe.errors import SpecError
from xframe.spec import Recurrent

__all__ = ["Slipped", "slipped"]

# Two mistakes are tried in chains in which one can be made in so many ways.
_MANY = 80
# The activations that people write in the place of another one.
_USUAL = ("relu", "tanh", "sigmoid", "softmax", "gelu", "relu6", "log_softmax")
# What is added to a variance by default: PyTorch and Flax, Keras, TensorFlow's own code, Transformers.
_EPSILONS = (1e-5, 1e-3, 1e-6, 1e-12)


@dataclass(frozen=True)
class Slipped:
    """A chain in which one step is wrong.

    Attributes:
        name: what is wrong, as the end of "it is the other with ...".
        mend: what to do.
        option: as of `xframe.mistakes.steps.of_option`.
        chain: the chain.
    """

    name: str
    mend: str
    option: str
    chain: Chain


def slipped(chain: Chain) -> Iterator[Slipped]:
    """Every chain that is one mistake away from this one, and then every one that is two, of those that can be run."""
    single = list(_runnable(chain))
    yield from single
    if len(single) > _MANY:
        return
    for one in single:
        for other in _runnable(one.chain):
            name, mend = f"{one.name} and {other.name}", f"{one.mend} {other.mend}"
            yield Slipped(name, mend, one.option, other.chain)


def _runnable(chain: Chain) -> Iterator[Slipped]:
    for one in _tried(chain):
        try:
            shapes(one.chain)
        except SpecError:  # a step after the wrong one cannot read what it puts out
            continue
        yield one


def _tried(chain: Chain) -> Iterator[Slipped]:
    for i, step in enumerate(chain.steps):
        if step.kind == "activation":
            own = step.options["name"]
            yield _with(chain, i, (), f"no {own} at {step.name}", f"Apply {own} there.", "activation")
            for other in _USUAL:
                if other != own:
                    wrong = replace(step, options={"name": other})
                    yield _with(
                        chain,
                        i,
                        (wrong,),
                        f"{other} instead of {own} at {step.name}",
                        f"Apply {own} there.",
                        "activation",
                    )
        elif step.spec is not None or step.params():
            following = chain.steps[i + 1].kind if i + 1 < len(chain.steps) else ""
            for other in _USUAL if following != "activation" else ():
                more = Step(f"{step.name}, then {other}", "activation", {"name": other})
                mend = f"Leave the {other} out."
                yield _with(chain, i, (step, more), f"one {other} too many after {step.name}", mend, "activation")
        for epsilon in _EPSILONS if "epsilon" in step.options else ():
            own = step.options["epsilon"]
            if epsilon != own:
                wrong = replace(step, options={**step.options, "epsilon": epsilon})
                mend = f"Give it epsilon {own:g}."
                yield _with(
                    chain, i, (wrong,), f"epsilon {epsilon:g} instead of {own:g} at {step.name}", mend, "epsilon"
                )
        if step.kind in ("layer_norm", "batch_norm", "conv1d"):
            yield _with(chain, i, (), f"{step.name} left out", f"Call {step.name}.", "step")
        if step.kind == "masking" or (step.kind == "embedding" and step.options["mask_zero"]):
            blind = () if step.kind == "masking" else (replace(step, options={**step.options, "mask_zero": False}),)
            yield _with(chain, i, blind, f"the mask of {step.name} ignored", "Hand the mask on.", "mask_zero")
        if isinstance(step.spec, Recurrent):
            yield from _of_recurrent(chain, i, step, step.spec)
    for i, step in enumerate(chain.steps[:-1]):
        twin = chain.steps[i + 1]
        name = f"{step.name} and {twin.name} in the other order"
        yield Slipped(
            name,
            f"Call {step.name} first.",
            "step",
            replace(chain, steps=(*chain.steps[:i], twin, step, *chain.steps[i + 2 :])),
        )


def _of_recurrent(chain: Chain, i: int, step: Step, spec: Recurrent) -> Iterator[Slipped]:
    """What goes wrong with what a recurrent layer hands on, and with the direction in which it reads."""
    if not step.options["sequence"]:
        whole = replace(step, options={**step.options, "sequence": True})
        for kind, words in (("average", "the average over time"), ("max", "the largest number over time")):
            pooled = Step(f"{step.name}, pooled", "pool", {"mode": kind, "keepdims": False})
            mend = "Take the last output."
            yield _with(
                chain, i, (whole, pooled), f"{words} of {step.name} instead of its last output", mend, "sequence"
            )
        if spec.bidirectional:
            last = Step(f"{step.name}, last", "last")
            name = f"output[:, -1] of {step.name}, which for the backward direction is its first step"
            yield _with(chain, i, (whole, last), name, "Take the backward half at time step 0.", "sequence")
    else:
        name = f"the last output of {step.name} instead of the whole sequence"
        short = replace(step, options={**step.options, "sequence": False})
        yield _with(chain, i, (short,), name, "Hand on the whole sequence.", "sequence")
    if not spec.bidirectional:
        other = replace(step, spec=replace(spec, go_backwards=not spec.go_backwards))
        way = "forwards" if spec.go_backwards else "backwards"
        yield _with(chain, i, (other,), f"{step.name} reading time {way}", "Let it read the other way.", "step")


def _with(chain: Chain, i: int, steps: tuple[Step, ...], name: str, mend: str, option: str) -> Slipped:
    """The chain with these steps in the place of one."""
    return Slipped(name, mend, option, replace(chain, steps=(*chain.steps[:i], *steps, *chain.steps[i + 1 :])))
