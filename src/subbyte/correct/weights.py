"""Weights: each channel of the quantized weights gets the mean and the norm of the float channel.

    mu_c = E(W_c) - E(Wq_c)      xi_c = ||W_c - E(W_c)|| / ||Wq_c - E(Wq_c)||      w <- xi_c (w +
                                 mu_c),  w in Wq_c

The weight bias correction of ACIQ (Banner, Nahshan, Soudry 2019, eq. 12 and 13); E is over the
weights of an output channel. There the weights leave their grid. Here codes stay: xi_c goes into
the channel's scales. What the mean weight then still lacks,

    d_c = E(W_c) - xi_c E(Wq_c)

is the same for all weights of the channel and adds d_c sum_j x_j to its output; the bias gets the
mean of that over the calibration rows, d_c sum_j mean_q_j. Unlike eq. 13 and like its authors'
code, d_c keeps the float mean unscaled. Around it the output's share of sum_j x_j is lost, so where
a channel's mean weight outweighs the spread of its weights `moments`, which knows the inputs, is
the better choice. Where rows share one scale only the mean is corrected. Costs no more than reading
the weights.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.core import QTensor
from subbyte.errors import RecipeError
from subbyte.methods import Correction
from subbyte.stats import LayerStats

_NOISE = 1e-6  # relative: weights are float32


@dataclass(frozen=True)
class Weights(Correction):
    """Match the mean weight of every output channel (`mean`) and the norm of its weights around it
    (`norm`).

    Raises RecipeError when there is nothing to match.
    """

    mean: bool = True
    norm: bool = True

    reads_products = False

    def __post_init__(self) -> None:
        if not (self.mean or self.norm):
            raise RecipeError(
                "correction 'weights' with neither mean nor norm does nothing; use correction "
                "'none'"
            )

    def correct(
        self, weight: Tensor, bias: Tensor, rounded: QTensor, stats: LayerStats
    ) -> tuple[QTensor, Tensor]:
        """See `methods.Correction`."""
        if self.norm and not rounded.grid.spec.share.one_scale:
            factor = _norm_ratio(weight.double(), rounded.dequantize().double())
            rounded = rounded.with_scale(rounded.grid.scale * factor)
        if not self.mean:
            return rounded, bias
        lacking = stats.grouped(weight).mean(2) - stats.grouped(rounded.dequantize()).mean(2)
        expected = lacking * stats.mean_q.sum(1, keepdim=True)
        return rounded, (bias + expected.reshape(-1)).to(bias.dtype)


def _norm_ratio(w: Tensor, q: Tensor) -> Tensor:
    """The rows' xi [rows, 1]; 1 for rows of w or q [rows, columns] that are constant."""
    wanted, wanted_is = _norm(w)
    got, got_is = _norm(q)
    sound = wanted_is & got_is
    return torch.where(sound, wanted / torch.where(sound, got, 1.0), 1.0)


def _norm(w: Tensor) -> tuple[Tensor, Tensor]:
    """Norm of each row around its mean [rows, 1], and whether it is more than the float32 noise of
    the weights.
    """
    norm = (w - w.mean(1, keepdim=True)).norm(dim=1, keepdim=True)
    return norm, norm > _NOISE * w.norm(dim=1, keepdim=True)
