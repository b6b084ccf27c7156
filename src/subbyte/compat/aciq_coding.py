"""The rest of ACIQ's authors' code (2019), to reproduce their numbers: mid-tread quantization for
codes of variable length, what such codes cost, their simulation of the error, and the KL threshold
they took from MXNet.

Mid-tread, for rows c with w_c bins, real numbers that eq. 10 gives, rounded:

    s_c = D_c / w_c      q = clamp(round(x / s_c), m_c - w_c / 2, m_c + w_c / 2),  m_c = mean / s_c
                         after a ReLU: clamp(round(x / s_c), 0, max(m_c, 0) + w_c)

D = 2 k(w) b, after a ReLU max(mean, 0) + k(2 w) b, and for weights max - min without the clamp. The
ends of the clamp are no whole numbers, so the clipped values are levels besides. k(w) interpolates
W(3 w^2) linearly between nodes.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import rel_entr
from torch import Tensor

from subbyte.compat.aciq import RowStats, bins
from subbyte.errors import RecipeError
from subbyte.stats.priors import PRIORS, Prior, laplace_alpha

_NEVER = float(np.finfo(np.float32).max)


@lru_cache
def _nodes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bins and alpha / b: 0 and 20 evenly spaced numbers of bins in each decade from 0.01 to 1000,
    its end left out.
    """
    decades = [
        np.linspace(start, 10 * start, 20, endpoint=False) for start in (0.01, 0.1, 1, 10, 100)
    ]
    number = np.concatenate([[0.0], *decades])
    return number, np.array([laplace_alpha(n) if n else 0.0 for n in number])


def alpha_mult(omega: Tensor, relu: bool = False) -> Tensor:
    """Clipping in units of b for real numbers of bins, from 0 to 955 (after a ReLU to 477): float64
    [rows].

    Raises RecipeError beyond, where the original has an index error.
    """
    number, alpha = _nodes()
    wanted = omega.double().numpy() * (2 if relu else 1)
    if wanted.max() > number[-1]:
        raise RecipeError(
            f"the authors' table ends at {number[-1]:g} bins, asked for {wanted.max():g}"
        )
    return torch.from_numpy(np.interp(wanted, number, alpha))


def mid_tread_activations(
    rows: Tensor, mean_bits: float, relu: bool, doubled: bool = True
) -> Tensor:
    """Rows [rows, n] of activations, `compat.aciq.channel_rows`, with 2^mean_bits bins on average.

    doubled: on a CPU their look-up after a ReLU doubles the numbers of bins in place, so that they
    are 2 w from there on; on a GPU it does not.
    """
    stats = RowStats.of(rows)
    omega = bins(stats.std, 2.0**mean_bits).round()
    alpha = alpha_mult(omega, relu).float() * stats.b
    if relu and doubled:
        omega = 2 * omega
    mean = stats.mean.clamp_min(0) if relu else stats.mean
    width = mean + alpha if relu else 2 * alpha
    step = torch.where(omega > 0, width / omega, _NEVER)
    middle = mean / step
    lowest, highest = (
        (torch.zeros_like(middle), middle + omega)
        if relu
        else (middle - omega / 2, middle + omega / 2)
    )
    codes = torch.round(rows / step[:, None])
    return torch.maximum(torch.minimum(codes, highest[:, None]), lowest[:, None]) * step[:, None]


def mid_tread_weights(w: Tensor, mean_bits: float) -> Tensor:
    """Weights [rows, columns] with 2^mean_bits bins on average; nothing is clipped."""
    stats = RowStats.of(w)
    omega = bins(stats.std, 2.0**mean_bits).round()
    step = torch.where(omega > 0, (stats.high - stats.low) / omega, _NEVER)[:, None]
    return torch.round(w / step) * step


def most_frequent_value_bits(codes: Tensor, others: float = 8, frequent: float = 1) -> float:
    """Bits per code if the most frequent one takes `frequent` bits and all others `others`."""
    count = int(codes.unique(return_counts=True)[1].max())
    return (count * frequent + (codes.numel() - count) * others) / codes.numel()


def simulated_mse(prior: Prior, alpha: float, bits: int, samples: int, seed: int) -> float:
    """Their simulation of the expected error: values clipped to [-alpha, alpha], then rounded to
    multiples of
    2 alpha / 2^bits. These are 2^bits + 1 levels, one more than the bits hold.
    """
    generator = torch.Generator().manual_seed(seed)
    values = draw(prior, samples, generator)
    step = 2 * alpha / 2**bits
    return float((torch.round(values.clamp(-alpha, alpha) / step) * step - values).square().mean())


def draw(prior: Prior, samples: int, generator: torch.Generator) -> Tensor:
    """Values of a prior with mean 0 and b or sigma 1: float64 [samples]."""
    return PRIORS[prior].draw(samples, generator)


def kl_threshold(
    values: NDArray[np.float64], bins: int = 2001, levels: int = 15
) -> tuple[float, float]:
    """Threshold and divergence of entropy calibration: MXNet's, with the defaults of 4 bits; 8001
    and 255 for 8.

    bins: odd, over [-max |x|, max |x|]; all thresholds that leave `levels` bins or more are tried.
    As there, the last of the bins kept is left out of the quantized distribution, and 1e-4 of a
    count fills the empty ones.
    """
    reach = float(np.abs(values).max())
    counts, edges = np.histogram(values, bins=bins, range=(-reach, reach))
    middle = bins // 2
    best = (reach, np.inf)
    for half in range(levels // 2, middle + 1):
        kept = counts[middle - half : middle + half + 1]
        reference = kept.copy()
        reference[0] += counts[: middle - half].sum()
        reference[-1] += counts[middle + half + 1 :].sum()
        p, q = _smooth(reference), _smooth(_on_levels(kept, levels))
        divergence = (
            np.inf if q is None or p is None else float(rel_entr(p / p.sum(), q / q.sum()).sum())
        )
        if divergence < best[1]:
            best = float(edges[middle + half + 1]), divergence
    return best


def _on_levels(kept: NDArray[np.int64], levels: int) -> NDArray[np.float32]:
    """Each level's count, shared out among the filled bins it covers."""
    level = np.minimum(np.arange(len(kept)) // (len(kept) // levels), levels - 1)
    filled = kept > 0
    covered = filled.copy()
    covered[-1] = False
    total, shares = np.bincount(level, kept, levels), np.bincount(level, covered, levels)
    spread: NDArray[np.float32] = np.where(
        covered, total[level] / np.maximum(shares[level], 1), 0
    ).astype(np.float32)
    return spread


def _smooth(counts: NDArray[np.generic]) -> NDArray[np.float32] | None:
    """Empty bins get 1e-4, taken from the filled ones in equal parts; None where there are too few
    of these.
    """
    empty = counts == 0
    each = 1e-4 * empty.sum() / max((~empty).sum(), 1)
    if each >= 1 or empty.all():
        return None
    smooth: NDArray[np.float32] = (counts.astype(np.float32) + np.where(empty, 1e-4, -each)).astype(
        np.float32
    )
    return smooth
