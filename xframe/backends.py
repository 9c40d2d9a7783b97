"""What the libraries on which Keras runs are set to, as far as that changes numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module

from xframe.adapters.base import Setting, on_off, variable

__all__ = ["settings"]


def settings(backend: str) -> Iterator[Setting]:
    """The settings of a backend by its name in Keras; it must have been imported. None for one that is not known."""
    yield from _BACKENDS[backend]() if backend in _BACKENDS else ()


def _tensorflow() -> Iterator[Setting]:
    config = import_module("tensorflow").config
    devices = [device.name.removeprefix("/device:") for device in config.list_logical_devices()]
    yield Setting("TensorFlow devices", ", ".join(devices), "each has kernels of its own: other rounding")
    for kind in ("intra", "inter"):
        threads = getattr(config.threading, f"get_{kind}_op_parallelism_threads")()
        effect = "of one operation: a sum that is split is added up in another order"
        effect = effect if kind == "intra" else "of operations beside each other: changes no number"
        yield Setting(f"TensorFlow {kind}-op threads", str(threads or "as many as processors"), effect)
    tf32 = config.experimental.tensor_float_32_execution_enabled()
    yield Setting(
        "TensorFlow TF32", on_off(tf32), "on: factors of float32 have 11 bits on an NVIDIA GPU (unit roundoff 2^-11)"
    )
    yield Setting(
        "TensorFlow op determinism", _op_determinism(), "off: on a GPU two runs may differ in rounding; on: they do not"
    )
    yield Setting(
        "TensorFlow JIT", config.optimizer.get_jit() or "off", "autoclustering: XLA fuses operations, fewer roundings"
    )
    yield variable("TF_ENABLE_ONEDNN_OPTS", "0: without oneDNN's kernels on the CPU, which round in another order")
    yield variable("TF_DETERMINISTIC_OPS", "1: op determinism, as older versions were told")
    yield variable("TF_XLA_FLAGS", "--tf_xla_auto_jit: XLA compiles what it can, see JIT")
    yield variable("XLA_FLAGS", "what XLA may do to numbers, such as --xla_cpu_enable_fast_math")


def _op_determinism() -> str:
    """TensorFlow has no public question for it."""
    try:
        return on_off(import_module("tensorflow.python.framework.config").is_op_determinism_enabled())
    except (ImportError, AttributeError):
        return "unknown"


def _jax() -> Iterator[Setting]:
    jax = import_module("jax")
    yield Setting("JAX devices", ", ".join(map(str, jax.devices())), "each has kernels of its own: other rounding")
    yield Setting("JAX x64", on_off(jax.config.jax_enable_x64), "off: float64 becomes float32 without a word")
    precision = str(jax.config.jax_default_matmul_precision or "default")
    yield Setting(
        "JAX matmul precision", precision, "default: on a GPU or TPU factors of float32 may have 11 or 8 bits"
    )
    yield variable("XLA_FLAGS", "what XLA may do to numbers, such as --xla_cpu_enable_fast_math")


_BACKENDS: dict[str, Callable[[], Iterator[Setting]]] = {"tensorflow": _tensorflow, "jax": _jax}
