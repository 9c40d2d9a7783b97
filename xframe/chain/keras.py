"""From a Keras model to a chain: a file of any Keras from 1 to 3, read as data; nothing is built from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from xframe.adapters.base import FLOATS
from xframe.chain._keras_options import WORDS, check_options, refused
from xframe.chain._keras_path import Place, everywhere, input_shape, path
from xframe.chain._keras_plain import PLAIN
from xframe.chain._keras_weighted import WEIGHTED
from xframe.chain._keras_weights import Weights
from xframe.chain.base import Chain, Step
from xframe.chain.kind import Shape
from xframe.chain.kinds import KINDS, shapes
from xframe.chain.told import chain_told
from xframe.errors import ObstaclesError, SpecError, UnsupportedError
from xframe.files.told import is_told
from xframe.recognition import Findings, computes
from xframe.spec import Recurrent

__all__ = ["chain_of"]

_INPUT_TYPES = (*FLOATS, *WORDS)


def chain_of(findings: Findings) -> Chain:
    """The chain that a file describes: one of Keras, or one in which xframe says what it wrote.

    Args:
        findings: what `xframe.recognition.recognise` made of the file, in which every recurrent layer is settled.

    Raises:
        UnsupportedError: the file has no configuration, the model is no chain, or a layer or an option of one is not
            modelled; the sentence names all that stands in the way.
    """
    config = findings.file.config
    if is_told(config):
        return chain_told(findings)
    if config is None:
        raise UnsupportedError(
            f"{findings.file.path} says nothing of what runs after what; give a file of a whole model, as model.save writes it."
        )
    try:
        return _chain(config, findings)
    except SpecError as error:
        raise UnsupportedError(f"The model is no chain that is modelled: {error}") from None
    # What a damaged configuration can raise is not written down.
    except (AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise UnsupportedError(
            f"The configuration in {findings.file.path} cannot be understood ({type(error).__name__}: {error}); save the model "
            "again."
        ) from None


def _chain(config: Mapping[str, Any], findings: Findings) -> Chain:
    weights, reasons = Weights(findings), list[str]()
    start: Shape = ()
    try:
        places = path(config)
        start = input_shape(config) or _guessed(places, weights)
    except UnsupportedError as error:
        reasons += error.reasons if isinstance(error, ObstaclesError) else [str(error)]
        places = everywhere(config)
    steps, wrong = _walked(places, start, bool(reasons), weights)
    # A layer that is named already is not named once more for its kind.
    named = {label for reason in reasons for label in re.findall(r"^The layer (.+?\))", reason)}
    reasons += [why for place, why in wrong if f"{place.names[-1]!r} ({place.kind})" not in named]
    if reasons:
        raise ObstaclesError(reasons)
    if not steps:
        raise UnsupportedError("The model has no layers that compute anything.")
    name = config.get("config")
    name = name.get("name") if isinstance(name, Mapping) else None
    chain = Chain(tuple(steps), start, name if isinstance(name, str) and name else "model")
    shapes(chain)  # refuses what is out of bounds
    return chain


def _walked(
    places: list[Place], shape: Shape, lost: bool, weights: Weights
) -> tuple[list[Step], list[tuple[Place, str]]]:
    """The steps of all layers, and why some are not modelled; behind the first of these nobody knows what reaches a layer."""
    masked, steps, wrong = False, list[Step](), list[tuple[Place, str]]()
    for place in places:
        try:
            if lost:
                _check_anyhow(place, weights)
                continue
            for step in _steps(place, shape, masked, weights):
                steps.append(replace(step, dtype=computes(place.options)))
                shape = KINDS[step.kind].output_shape(step, shape)
                masked = KINDS[step.kind].masks(step, masked)
        except (SpecError, UnsupportedError) as error:
            no_chain = "The model is no chain that is modelled: " if isinstance(error, SpecError) else ""
            wrong.append((place, f"{no_chain}{error}"))
            lost = True
    return steps, wrong


def _check_anyhow(place: Place, weights: Weights) -> None:
    """Refuse a layer that is not modelled whatever reaches it."""
    features = weights.features(place)
    any_rank: tuple[Shape, ...] = ((features,), (None, features), (None, None, features))
    wrong: list[UnsupportedError] = []
    for shape, masked in product(any_rank if place.reads is None else (place.reads,), (False, True)):
        try:
            _steps(place, shape, masked, weights)
        except UnsupportedError as error:
            wrong.append(error)
        else:
            return
    raise wrong[0]


def _steps(place: Place, shape: Shape, masked: bool, weights: Weights) -> list[Step]:
    """The steps of one layer."""
    if place.package:
        raise refused(place, f"is of a class of {place.package}, not of Keras, and is not modelled")
    if place.masked and not masked:
        raise refused(place, "is given a mask of its own, which is not modelled")
    if place.kind == "InputLayer":
        check_options(place, ["batch_size"], {k: v for k, v in place.options.items() if k != "dtype"})
        if place.options.get("dtype") not in (None, *_INPUT_TYPES):
            raise refused(place, f"has dtype={place.options['dtype']!r}, which is not modelled")
        return []
    if place.arguments and place.kind not in ("GetItem", "SlicingOpLambda"):
        raise refused(place, f"is called with further arguments ({place.arguments[0]!r}), which are not modelled")
    reached = (shape, masked, weights.version)
    if place.kind in PLAIN:
        return PLAIN[place.kind](place, reached)
    if place.kind in WEIGHTED:
        return WEIGHTED[place.kind](place, reached, weights)
    if place.kind == "Lambda":
        raise refused(place, "holds Python code, which is never run; replace it by a layer of Keras")
    raise refused(place, "is of a class that is not modelled")


def _guessed(places: list[Place], weights: Weights) -> Shape:
    """The input's shape from the first layer that tells it by its weights."""
    for place in places:
        if place.kind in WEIGHTED:
            step = _steps(place, (None,), False, weights)[0]
            if step.spec is not None:
                features = step.spec.input_size
                return (None, features) if isinstance(step.spec, Recurrent) else (features,)
        if place.kind not in ("InputLayer", "Masking", "Dropout", "Activation"):
            break
    raise UnsupportedError("The model does not say the shape of its input; save it after it was built.")
