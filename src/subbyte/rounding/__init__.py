"""Weights to codes."""

from subbyte.io.registry import Registry
from subbyte.methods import Rounding
from subbyte.rounding.adaround import Adaround
from subbyte.rounding.beacon import Beacon
from subbyte.rounding.corrected import Corrected
from subbyte.rounding.descent import Descent
from subbyte.rounding.gpfq import Gpfq
from subbyte.rounding.gptaq import Gptaq
from subbyte.rounding.gptq import Gptq
from subbyte.rounding.kmeans import Kmeans
from subbyte.rounding.ldnq import Ldnq
from subbyte.rounding.nearest import Nearest
from subbyte.rounding.qronos import Qronos
from subbyte.rounding.solve import best_of
from subbyte.rounding.spfq import Spfq
from subbyte.rounding.stochastic import Stochastic

ROUNDINGS: Registry[Rounding] = Registry(
    "rounding",
    Rounding,
    {
        "nearest": Nearest,
        "stochastic": Stochastic,
        "kmeans": Kmeans,
        "gpfq": Gpfq,
        "spfq": Spfq,
        "gptq": Gptq,
        "gptaq": Gptaq,
        "qronos": Qronos,
        "beacon": Beacon,
        "descent": Descent,
        "ldnq": Ldnq,
        "corrected": Corrected,
        "adaround": Adaround,
    },
)

__all__ = [
    "ROUNDINGS",
    "Adaround",
    "Beacon",
    "Corrected",
    "Descent",
    "Gpfq",
    "Gptaq",
    "Gptq",
    "Kmeans",
    "Ldnq",
    "Nearest",
    "Qronos",
    "Spfq",
    "Stochastic",
    "best_of",
]
