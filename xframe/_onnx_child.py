"""Runs an ONNX file in ONNX Runtime: a program of its own (`xframe.programs`), because the file comes from a stranger.

It imports nothing of xframe and takes arrays only. Its first argument is where modules come from (`xframe.processes`). Then
``describe FILE BYTES`` writes a JSON object to standard output; ``run FILE BYTES`` reads a .npz of inputs, ``0``, ``1``, ... and
writes one of outputs, with the JSON object ``about`` in it. It may take BYTES of memory.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from typing import Any

_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
}


def main() -> None:
    places, what, path, memory = sys.argv[1:]
    sys.path[:] = json.loads(places)
    with contextlib.suppress(ImportError, ValueError, OSError):  # elsewhere than on Linux there may be no such bound
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(memory), resource.getrlimit(resource.RLIMIT_AS)[1]))
    answer = sys.stdout.buffer
    given = sys.stdin.buffer.read()
    try:
        session = _session(path)
    except Exception as error:
        said = {"error": str(error)}
        answer.write(json.dumps(said).encode() if what == "describe" else _packed(said, {}))
        return
    if what == "describe":
        inputs = [{"name": i.name, "shape": i.shape, "type": i.type} for i in session.get_inputs()]
        answer.write(json.dumps({"inputs": inputs}).encode())
    else:
        answer.write(_ran(session, given))


def _session(path: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # sums are added up in one order
    options.log_severity_level = 4  # what goes wrong is raised as well
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _ran(session: Any, given: bytes) -> bytes:
    import numpy as np

    one = session.get_inputs()[0]
    failures: list[str] = []
    arrays: dict[str, Any] = {}
    with np.load(io.BytesIO(given), allow_pickle=False) as inputs:
        for i in range(len(inputs.files)):
            try:
                found = session.run(None, {one.name: inputs[str(i)].astype(_TYPES[one.type])})
            except Exception as error:
                failures.append(f"{type(error).__name__}: {error}")
                continue
            failures.append("")
            arrays |= {f"{i}/{k}": value for k, value in enumerate(found) if isinstance(value, np.ndarray)}
    outputs = [output.name for output in session.get_outputs()]
    return _packed({"failures": failures, "outputs": outputs}, arrays)


def _packed(said: dict[str, Any], arrays: dict[str, Any]) -> bytes:
    import numpy as np

    stream = io.BytesIO()
    np.savez(stream, about=np.frombuffer(json.dumps(said).encode(), np.uint8), **arrays)
    return stream.getvalue()


if __name__ == "__main__":
    main()
