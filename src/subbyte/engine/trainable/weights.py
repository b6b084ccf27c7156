"""A layer's weight and bias while they are learned.

    W = s E(u s_0 / s)          u: the latent weight in steps of the scale s_0 that it started with
    s = s_0 exp(t)              E: an estimator; at the end nearest(.), so that W is on its grid

t, u and the bias are learned (of t the gradient is LSQ's: Esser et al. 2020, eq. 3). As t and u
are ratios, one learning rate suits all layers.
"""

import torch
from torch import Tensor, nn

from subbyte.core import Grid, QTensor
from subbyte.engine.biases import in_integers
from subbyte.engine.trainable.straight import Slowed, Through, learned_scale
from subbyte.methods import Estimator

_HALVINGS = 24  # of the way from a float weight to its code, until it is in the code's cell


class TrainableLayer(nn.Module):
    """rounded: where it starts; float_weight: [rows, columns], towards which latent weights start
    within their cells; bias: float32 [rows].
    """

    def __init__(self, rounded: QTensor, bias: Tensor, float_weight: Tensor) -> None:
        super().__init__()
        self.grid = rounded.grid
        self.latent = nn.Parameter(within_cells(rounded, float_weight))
        self.log_scale = nn.Parameter(torch.zeros_like(rounded.grid.scale))
        self.bias = nn.Parameter(bias.clone())

    def scale(self) -> Tensor:
        """The learned scale, in the shape that the grid holds it in."""
        return learned_scale(self.grid.scale, self.log_scale, self.grid.spec)

    def steps(self, scale: Tensor) -> Tensor:
        """The latent weight in steps of the scale."""
        return self.latent * self._spread(self.grid.scale / scale)

    def forward(self, estimator: Estimator, progress: float) -> tuple[Tensor, Tensor]:
        """The weight [rows, columns] and the bias [rows] in training."""
        sharing = self.latent.numel() / self.log_scale.numel()
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
    def frozen(self, inputs: Grid | None) -> tuple[QTensor, Tensor]:
        """Codes and bias as they are now, and as integer kernels add them to products of inputs on
        the grid `inputs`; None where inputs are float.
        """
        scale = self.scale()
        steps, grid = self.steps(scale), self.grid.with_scale(scale)
        codes = grid.ladder(steps.shape[1]).encode(steps.clone()).to(grid.spec.alphabet.code_dtype)
        weight = steps * self._spread(scale)
        return in_integers(weight, QTensor(codes, grid), self.bias.detach(), inputs)


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
