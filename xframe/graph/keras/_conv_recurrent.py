"""Keras's convolutional LSTM as a node."""

from __future__ import annotations

from xframe.graph.keras._called import Called, Made
from xframe.graph.keras._convolutions import channels_last, sizes_of
from xframe.graph.keras._options import check_options, choice, flag, function, refused
from xframe.graph.keras._recurrent import initial
from xframe.graph.keras._weights import Arrays, Weights
from xframe.graph.node import Node

__all__ = ["conv_lstm"]

_KNOWN = (
    "filters kernel_size strides padding data_format dilation_rate activation recurrent_activation use_bias unit_forget_bias "
    "dropout recurrent_dropout return_sequences return_state go_backwards unroll zero_output_for_mask implementation"
).split()


def conv_lstm(called: Called, weights: Weights) -> Made:
    """keras.layers.ConvLSTM1D, 2D and 3D."""
    place = called.place
    check_options(place, _KNOWN)
    channels_last(place)
    if called.reads[0].masked:
        raise refused(place, "is reached by a mask, which is not modelled; leave the mask out")
    states = initial(called)
    names = ["kernel", "recurrent_kernel", *(["bias"] if flag(place, "use_bias", True) else [])]
    named = weights.named(place, names)
    shapes = {name: weights.file.tensors[tensor].shape for name, tensor in named.items()}
    size, kernel = sizes_of(place, "kernel_size", None), shapes["kernel"]
    if kernel[:-2] != size or kernel[-1] != 4 * place.options.get("filters", 0):
        raise refused(
            place, f"has a kernel of the shape {kernel}, which is not that of its options; save the model again"
        )
    absent = {} if "bias" in shapes else {"bias": 0.0}
    shapes.setdefault("bias", kernel[-1:])
    options = {
        "sequence": flag(place, "return_sequences", False),
        "go_backwards": flag(place, "go_backwards", False),
        **{
            name: function(place, place.options.get(name), called.version)
            for name in ("activation", "recurrent_activation")
        },
        "stride": sizes_of(place, "strides"),
        "padding": choice(place, ["valid", "same"], "padding"),
        "dilation": sizes_of(place, "dilation_rate"),
    }
    writes = [called.fresh(place.name)]
    if flag(place, "return_state", False):
        writes += [called.fresh(f"{place.name}/{name}") for name in "hc"]
    arrays = Arrays(weights.file, named, shapes, absent)
    reads = (called.reads[0].name, *(state.name for state in states))
    sources = tuple(named.values())
    node = Node(place.name, "conv_lstm", options, None, arrays, sources, shapes, reads=reads, writes=tuple(writes))
    return Made([node], writes)
