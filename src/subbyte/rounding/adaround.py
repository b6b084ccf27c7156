"""AdaRound from second moments: learn which of two codes each weight takes (Nagel et al. 2020).

    h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1),   q = s (lower + h(V))
                                               eq. 21-23
    min_V  (q - w*)' H (q - w*) / E + balance mean(1 - |2 h(V) - 1|^beta),   beta from 20 to 2
                                                                             eq. 21, 24

The loss is the layer's output error, which H and w* (see `solve.corrected_target`), shrunk as in
`corrected`, give without any image; E is the start's. It starts from the codes and scales of
`corrected`, the best closed form here: `lower` and the code above it hold the starting code and its
neighbour on the side of w*. Coordinate descent ends it; rows that end worse than they started keep
the start. Differences from the paper: the start (there: nearest); Adam's steps cost rows d^2
instead of a forward pass, so a few hundred are enough; gradients are written out. Cost: 2 rows d^2
a step.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.core import QTensor
from subbyte.io.numbers import Count, NotNegative, Positive
from subbyte.methods import FitGrid, Objective, Rounding
from subbyte.rounding.corrected import Corrected
from subbyte.rounding.solve import best_of, corrected_target, matched_error, mean_ridge
from subbyte.rounding.sweeps import descend
from subbyte.stats import LayerStats, shrunk

_WARM = 0.2  # share of the steps without regularizer
_BETAS = (20.0, 2.0)
_STRETCH, _SHIFT = 1.2, 0.1
_INSIDE = 0.02  # how far from 0 and 1 the search starts
_SWEEPS = 12


@dataclass(frozen=True)
class Adaround(Rounding):
    """steps: of Adam; rate: its learning rate; balance: weight of the regularizer; damping: see
    `corrected`.
    """

    steps: Count = 400
    rate: Positive = 0.03
    balance: NotNegative = 0.5
    damping: NotNegative = 0.01

    objective = Objective.EXPECTED

    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        """See `methods.Rounding`."""
        start = Corrected(damping=self.damping).round(weight, fit, stats)
        stats = shrunk(stats)
        target = corrected_target(weight, stats, self.damping)
        learned = self._learn(target, start, stats)
        (polished,) = descend(stats.grouped(target) @ stats.H, [learned], stats, _SWEEPS)
        return best_of(weight, [start, polished], stats)

    def _learn(self, target: Tensor, start: QTensor, stats: LayerStats) -> QTensor:
        grid, (least, most) = (
            start.grid,
            (start.grid.spread(end, target.shape[1]) for end in start.grid.ends),
        )
        own = start.codes.to(torch.int32)
        above = (start.dequantize() < target).to(torch.int32)
        lower = torch.where(above > 0, own, own - 1).clamp(least, torch.maximum(least, most - 1))
        low, high = grid.decode(lower), grid.decode(lower + 1)
        share = ((target - low) / (high - low)).clamp(_INSIDE, 1 - _INSIDE)
        V = torch.logit((share + _SHIFT) / _STRETCH)
        V.grad = torch.zeros_like(V)
        adam = torch.optim.Adam([V], self.rate)
        unit = mean_ridge(stats, 1.0).max().clamp_min(torch.finfo(torch.float64).tiny)
        error = (matched_error(target, start.dequantize(), stats) / unit).to(torch.float32)[:, None]
        # rows without error have nothing to learn
        weightings = 1 / torch.where(error > 0, error, torch.inf)
        H = (stats.H / unit).to(torch.float32)
        for step in range(self.steps):
            soft = torch.sigmoid(V)
            h = (_STRETCH * soft - _SHIFT).clamp(0, 1)
            difference = low + h * (high - low) - target
            grouped = difference.reshape(H.shape[0], -1, H.shape[-1])
            slope = 2 * (grouped @ H).reshape(V.shape) * (high - low) * weightings + self._pull(
                h, step
            )
            V.grad.copy_(slope * _STRETCH * soft * (1 - soft))
            adam.step()
        up = torch.sigmoid(V) > 0.5
        return QTensor(torch.minimum(lower + up, most).to(start.codes.dtype), grid)

    def _pull(self, h: Tensor, step: int) -> Tensor:
        """Slope of the regularizer in h: towards 0 or 1."""
        progress = (step / self.steps - _WARM) / (1 - _WARM)
        if progress < 0:
            return torch.zeros_like(h)
        beta = _BETAS[0] + (_BETAS[1] - _BETAS[0]) * progress
        centred = 2 * h - 1
        return -2 * self.balance / h.shape[-1] * beta * centred.sign() * centred.abs().pow(beta - 1)
