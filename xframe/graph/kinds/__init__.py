"""All kinds of nodes by name."""

from __future__ import annotations

from xframe.graph.kinds import (
    attention,
    conv_recurrent,
    convolution,
    einsum,
    merging,
    normalising,
    operations,
    recurrent,
    shaping,
    weighted,
)
from xframe.graph.kinds.base import Kind

__all__ = ["KINDS"]

KINDS: dict[str, Kind] = {
    "recurrent": recurrent.RecurrentKind(),
    "dense": weighted.DenseKind(),
    "embedding": weighted.Embedding(),
    "layer_norm": normalising.LayerNorm(),
    "batch_norm": normalising.BatchNorm(),
    "group_norm": normalising.GroupNorm(),
    "rms_norm": normalising.RMSNorm(),
    "standardize": normalising.Standardize(),
    "parametric_relu": normalising.ParametricRelu(),
    "conv1d": weighted.Conv1D(),
    "activation": shaping.Activation(),
    "dropout": shaping.Dropout(),
    "masking": shaping.Masking(),
    "flatten": shaping.Flatten(),
    "pool": shaping.Pool(),
    "permute": shaping.Permute(),
    "reshape": shaping.Reshape(),
    "repeat": shaping.Repeat(),
    "last": shaping.Last(),
    "conv": convolution.Conv(),
    "depthwise_conv": convolution.DepthwiseConv(),
    "transposed_conv": convolution.TransposedConv(),
    "window_pool": convolution.WindowPool(),
    "global_pool": convolution.GlobalPool(),
    "attention": attention.Attention(),
    "multi_head_attention": attention.MultiHeadAttention(),
    "conv_lstm": conv_recurrent.ConvLSTM(),
    "einsum": einsum.Einsum(),
    "einsum_dense": einsum.EinsumDense(),
    "split": einsum.Split(),
    "merge": merging.Merge(),
    "concatenate": merging.Concatenate(),
    **{name: kind() for name, kind in operations.KINDS.items()},
}
