"""Ways to train with low-bit weights, so that a network ends on its grids."""

from torch import nn

from subbyte.io.registry import Registry
from subbyte.learn.qat.grid import OnGrid
from subbyte.learn.qat.layers import layers_of, output_axis
from subbyte.learn.qat.lsq import Lsq
from subbyte.learn.qat.rounded import plain_state, remove_quantizers
from subbyte.learn.qat.ste import Ste
from subbyte.methods import WeightQuantizer

WEIGHT_QUANTIZERS: Registry[WeightQuantizer[nn.Module]] = Registry(
    "qat",
    WeightQuantizer,
    {
        "grid": OnGrid,
        "ste": Ste,
        "lsq": Lsq,
    },
)

__all__ = ["WEIGHT_QUANTIZERS", "layers_of", "output_axis", "plain_state", "remove_quantizers"]
