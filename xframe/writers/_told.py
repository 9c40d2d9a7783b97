"""What a writer says in the file of weights of what it wrote; `xframe.recognition.told` reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from xframe.chain.base import Chain
from xframe.files.told import FORMAT
from xframe.recognition.told import spec_fields
from xframe.spec import Recurrent
from xframe.writers.base import trained

__all__ = ["telling"]


def telling(chain: Chain, packing: str, tensors: Sequence[Mapping[str, str]]) -> str:
    """The text for a chain.

    Args:
        chain: what was written.
        packing: of the tensors.
        tensors: for each step the names in the file, by those of the packing or, of other steps, of the kind.
    """
    steps: list[dict[str, Any]] = []
    for step, names in zip(chain.steps, tensors, strict=True):
        told: dict[str, Any] = {"name": step.name, "kind": step.kind, "options": dict(step.options)}
        if step.spec is not None:
            told["spec"] = spec_fields(trained(step.spec)[0] if isinstance(step.spec, Recurrent) else step.spec)
        steps.append({**told, "packing": packing, "tensors": dict(names)})
    said = {"format": FORMAT, "name": chain.name, "input_shape": chain.input_shape, "steps": steps}
    return json.dumps(said, separators=(",", ":"))
