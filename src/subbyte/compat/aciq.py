"""ACIQ as its authors' code computes it (2019), to reproduce their numbers; not for use.
`ranges.aciq` is.

GEMMLOWP's affine quantization of rows, with D_c the width of a row's window and o_c its lower end:

    s_c = max(D_c / (2^M_c - 1), 1e-8)      z_c = round(-o_c / s_c)      q = round(clamp(x / s_c +
                                                                         z_c, 0, 2^M_c - 1))

z_c is not clamped: windows that leave 0 out are met, by codes that no integer type holds. Windows:

    signed      o = max(min, mean - alpha)      D = 2 alpha                       whatever the
                                                maximum
    after ReLU  o = 0                           D = max(mean, 0) + alpha          of x as it was
                                                before the ReLU

with alpha a coefficient of two decimals times b or sigma. All in float32, as there. The
variable-length codes of the same authors are in `compat.aciq_coding`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from subbyte.errors import RecipeError

LAPLACE = (1.05, 1.86, 2.83, 3.89, 5.03, 6.2, 7.41, 8.64, 9.89)
LAPLACE_RELU = (1.86, 2.83, 3.89, 5.02, 6.2, 7.41, 8.64, 9.89, 11.16)
GAUSS = (None, 1.24, 1.71, 2.15, 2.55, 2.93, 3.28, 3.61, 3.92)
GAUSS_RELU = (None, 1.71, 2.15, 2.55, 2.93, 3.28, 3.61, 3.92, 4.2)
"""Coefficients by bits, from 0 on."""

_MOST_BITS = 8


class Clip(Enum):
    """The rule for the ends of windows."""

    MINMAX = "minmax"
    LAPLACE = "laplace"
    GAUSS = "gauss"
    SIGMA = "sigma"


@dataclass(frozen=True, eq=False)
class RowStats:
    """Statistics of each row, float32 [rows]. std: with n - 1; b: mean |x - mean|."""

    low: Tensor
    high: Tensor
    mean: Tensor
    std: Tensor
    b: Tensor

    @classmethod
    def of(cls, x: Tensor) -> "RowStats":
        """x: [rows, n]."""
        mean = x.mean(1)
        return cls(x.amin(1), x.amax(1), mean, x.std(1), (x - mean[:, None]).abs().mean(1))


def channel_rows(x: Tensor) -> Tensor:
    """Activations [N, C, ...] as rows [C, N ...]."""
    return x.transpose(0, 1).reshape(x.shape[1], -1)


def gemmlowp(x: Tensor, offset: Tensor, width: Tensor, bits: Tensor) -> Tensor:
    """Quantize and dequantize rows [rows, n] with windows and bits [rows]; 0 bits: nearly the
    constant `offset`.
    """
    top = (2.0**bits)[:, None] - 1
    scale = torch.where(top > 0, width[:, None] / top, 0.0).clamp_min(1e-8)
    zero_point = torch.round(-offset[:, None] / scale)
    codes = torch.round(torch.minimum(x / scale + zero_point, top).clamp_min(0))
    return (codes - zero_point) * scale


def gemmlowp_kernel(x: Tensor, offset: Tensor, width: Tensor, bits: int) -> Tensor:
    """The CUDA kernel's: one window [] for all, halves rounded away from 0; the zero point is
    rounded, so that 0 is met, only where 0 lies inside the window. Without a width nothing is done.
    """
    if float(width) <= 0:
        return x
    top = 2.0**bits - 1
    scale = width / top
    shift = offset / scale
    if float(offset) < 0 < float(offset + width):
        shift = -_half_away(-shift)
    codes = _half_away((x / scale - shift).clamp(0, top))
    return (codes + shift) * scale


def _half_away(x: Tensor) -> Tensor:
    return torch.trunc(x + 0.5 * torch.sign(x))


def clip_alpha(stats: RowStats, clip: Clip, bits: Tensor, relu: bool, width: float = 2.0) -> Tensor:
    """Alpha of each row; bits [rows], whole; width: in standard deviations, for clip `sigma`.

    Raises RecipeError for min-max, which has none, and for bits that the authors have no
    coefficient for.
    """
    match clip:
        case Clip.SIGMA:
            return width * stats.std
        case Clip.LAPLACE:
            return _coefficients(LAPLACE_RELU if relu else LAPLACE, bits) * stats.b
        case Clip.GAUSS:
            return _coefficients(GAUSS_RELU if relu else GAUSS, bits) * stats.std
    raise RecipeError(f"there is no alpha for clip {clip.value!r}")


def _coefficients(table: Sequence[float | None], bits: Tensor) -> Tensor:
    found = [table[int(b)] for b in bits]
    if None in found:
        raise RecipeError("the authors have no Gaussian coefficient for 0 bits")
    return torch.tensor(found)


def window(stats: RowStats, clip: Clip, bits: Tensor, relu: bool) -> tuple[Tensor, Tensor]:
    """Offset and width of each row [rows]."""
    if clip is Clip.MINMAX:
        offset = torch.zeros_like(stats.low) if relu else stats.low
        return offset, stats.high - offset
    alpha = clip_alpha(stats, clip, bits, relu)
    if relu:
        return torch.zeros_like(alpha), stats.mean.clamp_min(0) + alpha
    return torch.maximum(stats.low, stats.mean - alpha), 2 * alpha


def quantize_activations(
    x: Tensor, clip: Clip, bits: int, relu: bool, per_channel: bool = True, allocate: bool = False
) -> Tensor:
    """Activations [N, C, H, W] quantized and dequantized; relu: the quantizer's window begins at 0,
    as if ReLU were part of it; allocate: bits by channel with `bits` on average (their `-bap gaus`,
    rounding).
    """
    rows = channel_rows(x) if per_channel else x.reshape(1, -1)
    stats = RowStats.of(rows)
    widths = allocated_to_goal(stats.std, bits) if allocate else torch.full_like(stats.std, bits)
    # Gauss's do not follow allocation
    coefficients = widths if clip is Clip.LAPLACE else torch.full_like(widths, bits)
    quantized = gemmlowp(rows, *window(stats, clip, coefficients, relu), widths)
    if not per_channel:
        return quantized.reshape(x.shape)
    return quantized.reshape(x.shape[1], x.shape[0], *x.shape[2:]).transpose(0, 1)


def quantize_activations_by_image(x: Tensor, bits: int, relu: bool) -> Tensor:
    """Activations [N, ...] on one min-max window, whose ends are means over the images' ends; by
    the CUDA kernel.
    """
    ends = RowStats.of(x.reshape(len(x), -1))
    offset = torch.tensor(0.0) if relu else ends.low.mean()
    return gemmlowp_kernel(x, offset, ends.high.mean() - offset, bits)


def quantize_weights(
    w: Tensor, bits: int, per_channel: bool = True, allocate: bool = False
) -> Tensor:
    """Weights [rows, columns] on min-max windows, by channel or, with the CUDA kernel, of the whole
    tensor.
    """
    if not per_channel:
        return gemmlowp_kernel(w, w.min(), w.max() - w.min(), bits)
    stats = RowStats.of(w)
    widths = allocated_to_goal(stats.std, bits) if allocate else torch.full_like(stats.std, bits)
    return gemmlowp(w, *window(stats, Clip.MINMAX, widths, relu=False), widths)


def mean_shift(w: Tensor, quantized: Tensor) -> Tensor:
    """mu_c = E(W_c) - E(Wq_c) of eq. 12: [rows]."""
    return w.mean(1) - quantized.mean(1)


def norm_ratio(w: Tensor, quantized: Tensor) -> Tensor:
    """xi_c of eq. 13, as a ratio of standard deviations: [rows]."""
    return w.std(1) / (quantized.std(1) + 1e-8)


def correct_weights(w: Tensor, quantized: Tensor, mean: bool = True, norm: bool = False) -> Tensor:
    """Their -bcw (mean) and -vcw (norm): unlike in eq. 13 the norm is corrected around the mean,
    and first.
    """
    if norm:
        centre = quantized.mean(1, keepdim=True)
        quantized = (quantized - centre) * norm_ratio(w, quantized)[:, None] + centre
    return quantized + mean_shift(w, quantized)[:, None] if mean else quantized


def bins(spread: Tensor, mean_bins: float) -> Tensor:
    """B_i = n mean_bins spread_i^(2/3) / sum_j spread_j^(2/3)  (eq. 10): [rows], not whole."""
    share = spread ** (2 / 3)
    return len(spread) * mean_bins * share / share.sum()


def allocated(spread: Tensor, mean_bits: float, ceil: bool = False) -> Tensor:
    """Bits of each row by eq. 11, rounded to the nearest or up: float, from 0 to 8."""
    bits = bins(spread, 2.0**mean_bits).log2()
    return (bits.ceil() if ceil else bits.round()).clamp(0, _MOST_BITS)


def allocated_to_goal(spread: Tensor, goal: float, ceil: bool = False) -> Tensor:
    """Eq. 11 with the mean bits put in moved by half of what is lacking, until it is 0.01 or, 10
    times, it is not.
    """
    target, found = float(goal), spread
    for _ in range(10):
        found = allocated(spread, target, ceil)
        lacking = goal - float(found.mean())
        target += lacking / 2
        if abs(lacking) <= 0.01:
            break
    return found
