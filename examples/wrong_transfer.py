"""Six lines of transfer code that look fine, and what xframe says about them.

python examples/wrong_transfer.py
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import torch

import xframe

torch.manual_seed(0)
ours = torch.nn.GRU(80, 64, num_layers=2, batch_first=True)
theirs = keras.Sequential([keras.layers.GRU(64, return_sequences=True) for _ in range(2)])
theirs.build((None, None, 80))

for k, layer in enumerate(theirs.layers):
    kernel, recurrent_kernel, bias, recurrent_bias = (
        getattr(ours, f"{name}_l{k}").detach().numpy() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    layer.set_weights([kernel.T, recurrent_kernel.T, np.stack([bias, recurrent_bias])])

print(xframe.diagnose(ours, theirs).report(), end="")
