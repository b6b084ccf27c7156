"""Weights that are on their grids all the time: the optimizer keeps their codes, and no float ones
(`learn.optimizers.grid`).
"""

from dataclasses import dataclass
from typing import Any

from subbyte.errors import RecipeError
from subbyte.io.numbers import Count, Natural, Positive, Seed
from subbyte.io.registry import Method
from subbyte.learn.optimizers import OPTIMIZERS, GridSettings
from subbyte.methods import Estimator, Learned, Optimizer, Trained, Updates, WeightQuantizer
from subbyte.tuning.estimators import ESTIMATORS, Straight


@dataclass(frozen=True)
class OnGrid(WeightQuantizer):
    """Codes of `bits` bits, updates adding up on `extra_bits` more; no float weights are kept. The
    other settings are those of `learn.optimizers.GridSettings`.
    """

    kept = frozenset({Learned.SCALE})

    extra_bits: Natural = 4
    reach: Positive = 1.0
    resolution: Count | None = None
    schedule: Method = "on-stall"
    rounding: str = "stochastic"
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._grid  # noqa: B018 - refuses what does not go together

    @property
    def _grid(self) -> GridSettings:
        return GridSettings(
            self.bits,
            self.extra_bits,
            reach=self.reach,
            resolution=self.resolution,
            schedule=self.schedule,
            rounding=self.rounding,
            seed=self.seed,
        )

    def check(self, optimizer: Optimizer[Any], estimator: Estimator) -> None:
        """See `WeightQuantizer`."""
        if not optimizer.keeps_grid:
            able = [name for name, cls in OPTIMIZERS.items() if cls.keeps_grid]
            raise RecipeError(
                f"qat grid goes with the optimizers {' and '.join(able)}, which keep weights on a "
                f"grid; all others go with ste or lsq"
            )
        if estimator != Straight():
            raise RecipeError(
                f"qat grid keeps weights on a grid by its optimizer; estimator "
                f"{ESTIMATORS.name(estimator)} goes with ste or lsq"
            )

    @property
    def widening(self) -> float:
        """See `WeightQuantizer`."""
        return self.reach

    def build(self, optimizer: Optimizer[Any], trained: Trained) -> Updates:
        """See `WeightQuantizer`."""
        return optimizer.build_on_grid(trained, self._grid.for_run(trained.steps))
