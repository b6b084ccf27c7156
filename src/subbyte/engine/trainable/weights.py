"""A layer's weight and bias while they are learned.

    W = s E(u s_0 / s)          u: the latent weight in steps of the scale s_0 that it started with
                                E: an estimator; at the end nearest(.), so that W is on its grid

u, s and the bias are learned, u and s as a measure counts them (of s the gradient is LSQ's: Esser
et al. 2020, eq. 3). A batch-norm a x + b behind the layer is taken up at the end: a W and a c + b,
where a grid takes up a in its scale.
"""

from typing import Any, Self

import torch
from torch import Tensor, nn

from subbyte.core import Grid, QTensor
from subbyte.engine.biases import in_integers
from subbyte.engine.trainable.measures import Measure
from subbyte.engine.trainable.straight import Slowed, Through, learned_scale
from subbyte.graph import Affine
from subbyte.methods import Estimator

_HALVINGS = 24  # of the way from a float weight to its code, until it is in the code's cell
_LEAST = 1e-20  # of a scale: a batch-norm may multiply a channel by 0


class TrainableLayer(nn.Module):
    """A layer whose weight is on a grid, which is the one that it begins with; latent: [rows,
    columns], as the measure counts it; bias: float32 [rows].
    """

    def __init__(self, grid: Grid, latent: Tensor, bias: Tensor, measure: Measure) -> None:
        super().__init__()
        self.grid, self.measure = grid, measure
        self.latent = nn.Parameter(latent.clone())
        self.growth = nn.Parameter(torch.zeros_like(grid.scale))
        self.bias = nn.Parameter(bias.clone())

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """See torch: the grid goes along to another device."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.grid = self.grid.to(self.latent.device)
        return self

    def scale(self) -> Tensor:
        """The learned scale, in the shape that the grid holds it in."""
        return learned_scale(self.measure, self.grid.scale, self.growth, self.grid.spec)

    def steps(self, scale: Tensor) -> Tensor:
        """The latent weight in steps of a scale."""
        return self.latent * self._spread(self.measure.unit(self.grid.scale) / scale)

    def forward(self, estimator: Estimator, progress: float) -> tuple[Tensor, Tensor]:
        """The weight [rows, columns] and the bias [rows] in training."""
        sharing = self.latent.numel() / self.growth.numel()
        given = (self.scale(), sharing, self.grid.spec.alphabet.qmax)
        scale: Tensor = Slowed.apply(*given)  # type: ignore[no-untyped-call]
        steps, ladder = self.steps(scale), self.grid.ladder(self.latent.shape[1])
        with torch.no_grad():
            value = estimator.value(steps.detach(), ladder, progress)
        through: Tensor = Through.apply(steps, value, *ladder.ends)  # type: ignore[no-untyped-call]
        return through * self._spread(scale), self.bias

    def _spread(self, parameter: Tensor) -> Tensor:
        return self.grid.spread(parameter, self.latent.shape[1])

    @torch.no_grad()
    def settle(self, estimator: Estimator, generator: torch.Generator) -> None:
        """Keep of latent weights what an estimator keeps after an update."""
        if not self.latent.requires_grad:
            return
        start = self.grid.scale
        unit = self._spread(start / self.measure.unit(start))
        steps = self.latent / unit
        kept = estimator.kept(steps, generator)
        if kept is not steps:
            self.latent.copy_(kept * unit)

    @torch.no_grad()
    def frozen(self, behind: Affine, inputs: Grid | None) -> tuple[QTensor, Tensor]:
        """Codes and bias as they are now, with the batch-norm behind them in them, and as integer
        kernels add them to products of inputs on the grid `inputs`; None where inputs are float.
        """
        scale = self.scale()
        steps, bias = self.steps(scale), _moved(self.bias, behind)
        grid = self.grid.with_scale((scale * behind.factors).clamp_min(_LEAST))
        codes = grid.ladder(steps.shape[1]).encode(steps.clone()).to(grid.spec.alphabet.code_dtype)
        weight = steps * self._spread(grid.scale)
        return in_integers(weight, QTensor(codes, grid), bias, inputs)

    def at_end(self, behind: Affine, inputs: Grid | None) -> tuple[Tensor, Tensor]:
        """Weight [rows, columns] and bias [rows] of what is `frozen`."""
        rounded, bias = self.frozen(behind, inputs)
        return rounded.dequantize(), bias


class FloatLayer(nn.Module):
    """A layer whose weight stays float, and that has taken up a batch-norm. weight: [rows,
    columns].
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.bias = nn.Parameter(bias.clone(), requires_grad=False)

    def forward(self, estimator: Estimator, progress: float) -> tuple[Tensor, Tensor]:
        """The weight [rows, columns] and the bias [rows] in training."""
        return self.weight, self.bias

    @torch.no_grad()
    def frozen(self, behind: Affine) -> tuple[Tensor, Tensor]:
        """Both as they are now, with the batch-norm behind them in them."""
        return (self.weight * behind.factors).float(), _moved(self.bias, behind)

    def at_end(self, behind: Affine, inputs: Grid | None) -> tuple[Tensor, Tensor]:
        """The same as `frozen`."""
        return self.frozen(behind)


def _moved(bias: Tensor, behind: Affine) -> Tensor:
    return (bias.detach().double() * behind.scale + behind.shift).float()


def within_cells(rounded: QTensor, weight: Tensor) -> Tensor:
    """Numbers in steps that round to the same codes, as near the weight as their cells allow."""
    grid, columns = rounded.grid, rounded.codes.shape[1]
    at, ladder = grid.units(rounded.codes), grid.ladder(columns)
    low, high = ladder.ends
    wanted = (weight / grid.spread(grid.scale, columns)).clamp(low, high)  # type: ignore[arg-type]
    way = wanted - at
    for _ in range(_HALVINGS):
        outside = ladder.encode(at + way) != rounded.codes
        way = torch.where(outside, way / 2, way)
    return torch.where(ladder.encode(at + way) == rounded.codes, at + way, at)
