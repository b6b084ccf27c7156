"""Output moments: each channel of the quantized layer gets the float channel's mean, and its
variance.

    y = w'x + b in the float network, y_q = q'x_q in the quantized one, means and variances over all
    rows seen:
    y  <-  a (y_q - E y_q) + E y,      a = sqrt(Var y / Var y_q)      (`bias`: a = 1)

a goes into the channel's scale and the rest into its bias, so inference does not change. The
moments follow from the
second moments of the inputs: E y = w'mean + b, Var y = w'(F - mean mean')w, and likewise with H and
mean_q. Batch-norm re-estimation does the same for networks whose batch-norms still stand (e.g.
Finkelstein et al. 2019 for the means). Where rows share one scale only the mean can be matched.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.core import QTensor
from subbyte.methods import Correction
from subbyte.stats import LayerStats

_NOISE = 1e-6  # relative: products are taken in float32


@dataclass(frozen=True)
class Bias(Correction):
    """Match the mean of every output channel."""

    reads_products = False

    def correct(
        self, weight: Tensor, bias: Tensor, rounded: QTensor, stats: LayerStats
    ) -> tuple[QTensor, Tensor]:
        """See `methods.Correction`."""
        return rounded, _matched_bias(weight, bias, rounded, stats)


@dataclass(frozen=True)
class Moments(Correction):
    """Match the mean and the variance of every output channel."""

    def correct(
        self, weight: Tensor, bias: Tensor, rounded: QTensor, stats: LayerStats
    ) -> tuple[QTensor, Tensor]:
        """See `methods.Correction`."""
        if not rounded.grid.spec.share.one_scale:
            wanted, wanted_is = _variance(stats.grouped(weight), stats.F, stats.mean)
            got, got_is = _variance(stats.grouped(rounded.dequantize()), stats.H, stats.mean_q)
            sound = wanted_is & got_is
            factor = torch.where(sound, wanted / torch.where(sound, got, 1.0), 1.0).sqrt()
            rounded = rounded.with_scale(rounded.grid.scale * factor[:, None].to(torch.float32))
        return rounded, _matched_bias(weight, bias, rounded, stats)


def _matched_bias(weight: Tensor, bias: Tensor, rounded: QTensor, stats: LayerStats) -> Tensor:
    wanted = (stats.grouped(weight) @ stats.mean[:, :, None]).reshape(-1) + bias
    got = (stats.grouped(rounded.dequantize()) @ stats.mean_q[:, :, None]).reshape(-1)
    return (wanted - got).to(bias.dtype)


def _variance(w: Tensor, second: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Variance of w'x, float64 [rows], and whether it is more than the float32 noise of the
    moments: against (sum_i |w_i| sqrt(second_ii))^2, which no product of w before anything cancels
    exceeds.

    w: [groups, rows, columns].
    """
    centred = second - mean[:, :, None] * mean[:, None, :]
    variance = ((w.float() @ centred.float()) * w).sum(-1).reshape(-1)
    deviations = second.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
    most = (w.abs() @ deviations[..., None]).square().reshape(-1)
    return variance, variance > _NOISE * most
