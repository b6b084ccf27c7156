"""Aciq: widths from the spread of the channels, in closed form (Banner, Nahshan, Soudry 2019, eq.
10 and 11).

    B_i = n 2^T sigma_i^(2/3) / sum_j sigma_j^(2/3)          bins of channel i
    M_i = round(log2 B_i), from 0 to 8                       bits of channel i

With T = `mean_bits` the M_i miss the mean: rounding, both ends and equal channels see to that. Here
T is the largest that keeps sum M_i within the budget. As T grows, M_i steps from k to k + 1 at

    T = k + 1/2 - log2(n sigma_i^(2/3) / sum_j sigma_j^(2/3)),

so that T need not be searched for: the first of these steps, in rising order, are taken until the
budget is spent; equal ones in the order of channels and bits. A channel without spread gets 0 bits.
Eq. 10 is optimal for a budget of bins, not of bits; `optimum` is never worse. The original's own
ways to meet a mean are in `compat.aciq`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.allocate.budget import whole_bits
from subbyte.errors import NumericsError
from subbyte.methods import Allocate


@dataclass(frozen=True)
class Aciq(Allocate):
    """Has no settings."""

    def bits(self, distortion: Tensor, spread: Tensor, mean_bits: float) -> Tensor:
        """See `methods.Allocate`; of the distortion only the shape is read."""
        if not bool((torch.isfinite(spread) & (spread >= 0)).all()):
            raise NumericsError(
                f"the spread of a channel must be a finite number >= 0, got {spread.tolist()[:8]}"
            )
        channels, most = distortion.shape[0], distortion.shape[1] - 1
        share = spread.double().cpu().pow(2 / 3)
        alive = share > 0
        steps = torch.arange(most) + 0.5 - torch.log2(channels * share / share.sum())[:, None]
        order = torch.where(alive[:, None], steps, torch.inf).reshape(-1).argsort(stable=True)
        taken = order[: min(whole_bits(mean_bits, channels, most), most * int(alive.sum()))] // most
        return torch.bincount(taken, minlength=channels).to(spread.device)
