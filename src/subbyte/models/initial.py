"""Random weights to start a training from, for networks of convolutions with batch-norm.

    w ~ N(0, 2 / n),  n = k_h k_w c_out / groups      biases 0

He, Zhang, Ren, Sun 2015 ("Delving deep into rectifiers", section 2.2, equation 14): with n
connections from one
input pixel to outputs that are then halved by a ReLU, gradients keep their variance. In a depthwise
convolution an input feeds one channel only, so n is divided by the groups, which torch's
kaiming_normal_ leaves out.
"""

import math

from torch import nn


def he_normal(model: nn.Module) -> None:
    """Draw the weights of all convolutions in `model` anew, in place, and set their biases to 0."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def small_normal(model: nn.Module) -> None:
    """Draw the weights of all linear layers in `model` anew from N(0, 0.01^2), as is usual; biases
    are set to 0.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
