"""Multiplications as PyTorch counts them."""

import copy
import warnings

import torch
from torch import nn
from torch.backends import mkldnn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from subbyte import Inputs


def multiplications(network: nn.Module, inputs: Inputs) -> int:
    """Those of a call: half of its operations, as each goes with an addition. Inputs are copied, as
    some networks change them.
    """
    counter = FlopCounterMode(display=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's own, about GPUs that are not there
        # without gradients, and in oneDNN, there are operations that it does not know
        plain = sdpa_kernel(SDPBackend.MATH), mkldnn.flags(enabled=False), torch.enable_grad()
        with counter, plain[0], plain[1], plain[2]:
            network(*copy.deepcopy(inputs.args), **copy.deepcopy(inputs.kwargs))
    return counter.get_total_flops() // 2
