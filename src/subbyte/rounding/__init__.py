"""Weights to codes."""

from subbyte.methods import Rounding
from subbyte.rounding.corrected import Corrected
from subbyte.rounding.gpfq import Gpfq
from subbyte.rounding.gptq import Gptq
from subbyte.rounding.nearest import Nearest

ROUNDINGS: dict[str, type[Rounding]] = {
    "nearest": Nearest,
    "gptq": Gptq,
    "gpfq": Gpfq,
    "corrected": Corrected,
}

__all__ = ["ROUNDINGS", "Corrected", "Gpfq", "Gptq", "Nearest"]
