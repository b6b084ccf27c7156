"""Ways to train a float network with low-bit weights, so that it ends on its grids."""

from subbyte.io.registry import Registry
from subbyte.learn.qat.grid import OnGrid
from subbyte.learn.qat.lsq import Lsq
from subbyte.learn.qat.start import begun, recipe_of
from subbyte.learn.qat.ste import Ste
from subbyte.methods import WeightQuantizer

WEIGHT_QUANTIZERS: Registry[WeightQuantizer] = Registry(
    "qat",
    WeightQuantizer,
    {
        "grid": OnGrid,
        "ste": Ste,
        "lsq": Lsq,
    },
)

__all__ = ["WEIGHT_QUANTIZERS", "begun", "recipe_of"]
