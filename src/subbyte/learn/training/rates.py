"""The learning rate where none is given: that of the optimizer for networks with normalization
layers; half of it for small networks without, such as LeNet, and a tenth for deep ones, such as
VGG; a tenth of all that where trained weights are the start.

Without normalization a step that is too large kills units for good: of LeNet on MNIST so many that
it guesses.
"""

from torch import nn

from subbyte.learn.optimizers import GridSettings
from subbyte.methods import Optimizer

_NORMALIZATIONS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.LocalResponseNorm,
    nn.RMSNorm,
)
_WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd)
_SMALL = 5  # layers, as LeNet has
_BARE, _DEEP, _TRAINED = 0.5, 0.1, 0.1


def usual_rate(optimizer: Optimizer[GridSettings], network: nn.Module, *, trained: bool) -> float:
    """The rate; trained: whether the network's weights are."""
    modules = list(network.modules())
    rate = optimizer.rate
    if not any(isinstance(module, _NORMALIZATIONS) for module in modules):
        layers = sum(isinstance(module, _WEIGHTED) for module in modules)
        rate *= _BARE if layers <= _SMALL else _DEEP
    return float(f"{rate * (_TRAINED if trained else 1):.6g}")
