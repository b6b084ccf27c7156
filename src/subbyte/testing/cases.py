"""The cases that methods of weights are tried on: inputs of layers, and grids; and how outputs
compare.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from subbyte.core import TERNARY, Grid, GridSpec, Levels, PerChannel, PerGroup, Uniform
from subbyte.methods import FitGrid
from subbyte.ranges import GridFitter, Mse
from subbyte.stats import LayerStats, Powers, Products

SPECS = {
    "int4": GridSpec(Uniform(4), PerChannel()),
    "uint2": GridSpec(Uniform(2, symmetric=False), PerChannel()),
    "ternary": GridSpec(TERNARY, PerChannel()),
    "uint3 groups": GridSpec(Uniform(3, symmetric=False), PerGroup(5)),  # ragged
    "int4 tensor": GridSpec(Uniform(4)),
    "levels": GridSpec(Levels((-4, -2, -1, 0, 1, 2, 4)), PerChannel()),
}


QUICK = ("int4", "int8", "ternary", "uint3 groups")
"""Grids of the short suites, different in every respect."""


def layer_stats(x: Tensor, x_q: Tensor) -> LayerStats:
    """The second moments of materialised rows [groups, m, columns]."""
    x, x_q, m = x.double(), x_q.double(), x.shape[1]
    products = Products(x_q.mT @ x_q / m, x_q.mT @ x / m, x.mT @ x / m)
    return LayerStats(products, x.mean(1), x_q.mean(1), m, m)


def same_statistics(one: LayerStats, other: LayerStats) -> bool:
    """Whether all numbers are the same."""
    pairs = ((s.H, s.G, s.F, s.mean, s.mean_q) for s in (one, other))
    return one.rows == other.rows and all(map(torch.equal, *pairs))


def powers_only(stats: LayerStats) -> LayerStats:
    """The statistics without second moments of pairs of inputs."""
    float_power = stats.moments.of_float().power
    return replace(stats, moments=Powers(stats.power, float_power))


def outputs(w: Tensor, x: Tensor) -> Tensor:
    """X w' of every group: float64 [m, rows]."""
    parts = torch.arange(w.shape[0]).chunk(x.shape[0])
    return torch.cat([x[g].double() @ w[rows].double().T for g, rows in enumerate(parts)], 1)


def output_error(w: Tensor, q: Tensor, x: Tensor, x_q: Tensor) -> Tensor:
    """Mean square output error of each row, from the outputs themselves: float64 [rows]."""
    return (outputs(w, x) - outputs(q, x_q)).square().mean(0)


@dataclass(frozen=True, eq=False)
class Inputs:
    """A layer's inputs and its weight. x, x_q: [groups, m, columns]; weight: [rows, columns]."""

    x: Tensor
    x_q: Tensor
    weight: Tensor

    @property
    def stats(self) -> LayerStats:
        """The second moments of both."""
        return layer_stats(self.x, self.x_q)

    @property
    def trusted(self) -> LayerStats:
        """The second moments of both, as if so many samples had given them that chance has no part:
        what is to be expected of other samples is what was seen.
        """
        return replace(self.stats, independent=10**15)

    @property
    def mismatched(self) -> bool:
        """Whether the quantized network's inputs differ from the float one's."""
        return not torch.equal(self.x, self.x_q)

    @property
    def dead(self) -> Tensor:
        """Bool [rows, columns]: weights that see nothing but 0."""
        dead = ~self.x_q.bool().any(1)
        return dead.repeat_interleave(self.weight.shape[0] // dead.shape[0], 0)


def draw(
    groups: int, m: int, columns: int, rows: int, *, mismatch: float = 0.0, seed: int = 0
) -> Inputs:
    """Correlated inputs with a mean, in float64, and float32 weights of unequal rows."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    mixing = torch.eye(columns) + normal(groups, columns, columns) / columns**0.5
    x = normal(groups, m, columns) @ mixing + 0.3
    x_q = x + mismatch * normal(groups, m, columns) if mismatch else x
    weight = normal(rows, columns) * (
        0.05 + torch.rand(rows, 1, generator=generator, dtype=torch.float64)
    )
    return Inputs(x, x_q, weight.float())


def _dead(inputs: Inputs, columns: tuple[int, ...], *, in_float: bool = True) -> Inputs:
    x, x_q = inputs.x.clone(), inputs.x_q.clone()
    x_q[:, :, columns] = 0
    if in_float:
        x[:, :, columns] = 0
    return Inputs(x, x_q, inputs.weight)


def _duplicate(inputs: Inputs) -> Inputs:
    x, x_q = inputs.x.clone(), inputs.x_q.clone()
    x[:, :, 9], x_q[:, :, 9] = x[:, :, 2], x_q[:, :, 2]
    return Inputs(x, x_q, inputs.weight)


def _inputs() -> dict[str, Inputs]:
    cases = {}
    for label, mismatch in (("", 0.0), (", x_q", 0.4)):
        cases[f"dense{label}"] = draw(1, 64, 12, 6, mismatch=mismatch)
        cases[f"grouped{label}"] = draw(3, 40, 11, 6, mismatch=mismatch)
        cases[f"depthwise{label}"] = draw(5, 30, 9, 5, mismatch=mismatch)
        cases[f"few rows{label}"] = draw(1, 5, 12, 6, mismatch=mismatch)
        cases[f"dead{label}"] = _dead(draw(1, 64, 12, 6, mismatch=mismatch), (0, 7, 11))
        cases[f"duplicate{label}"] = _duplicate(draw(2, 64, 12, 6, mismatch=mismatch))
    cases["dead, x_q only"] = _dead(draw(1, 64, 12, 6, mismatch=0.4), (4, 10), in_float=False)
    cases["all dead"] = _dead(draw(1, 8, 6, 3), tuple(range(6)))
    cases["one weight, x_q"] = draw(1, 1, 1, 1, mismatch=0.1)
    return cases


INPUTS = _inputs()


def fitter(spec: GridSpec) -> FitGrid:
    """A range that clips, at the cost of few candidates."""
    return GridFitter(Mse(steps=12), spec)


class Fixed:
    """A range that always chooses the same grid."""

    def __init__(self, grid: Grid) -> None:
        self.grid, self.spec = grid, grid.spec

    def __call__(self, weight: Tensor) -> Grid:
        """The grid."""
        return self.grid
