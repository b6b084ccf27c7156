"""Weights that are on their grids all the time: the optimizer keeps their codes, and no float ones
(`learn.optimizers.grid`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from subbyte.errors import RecipeError
from subbyte.learn.optimizers import OPTIMIZERS, GridSettings
from subbyte.methods import Optimizer, Trained, Updates, WeightQuantizer


@dataclass(frozen=True)
class OnGrid(GridSettings, WeightQuantizer[nn.Module]):
    """Codes of `bits` bits, updates adding up on `extra_bits` more; no float weights are kept."""

    def check(self, optimizer: Optimizer[Any]) -> None:
        """See `WeightQuantizer`."""
        if not optimizer.keeps_grid:
            able = [name for name, cls in OPTIMIZERS.items() if cls.keeps_grid]
            raise RecipeError(
                f"qat grid goes with the optimizers {' and '.join(able)}, which keep weights on a "
                f"grid; all others go with ste or lsq"
            )

    def attach(self, layers: Mapping[str, nn.Module]) -> None:
        """See `WeightQuantizer`; the optimizer puts weights on their grids."""

    def build(self, optimizer: Optimizer[Any], trained: Trained) -> Updates:
        """See `WeightQuantizer`."""
        return optimizer.build_on_grid(trained, self.for_run(trained.steps))
