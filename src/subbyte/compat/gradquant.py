"""The computations of GradQuant's code (Choi 2022, gradQuantize.py), for reproducing its figures.
All in float32, as there.

    m = c min(w), M = c max(w); symmetric: T = max(|m|, |M|), m = -T, M = T
    s = (M - m) / (2^b - 1),   Q(w) = m + s round((clip(w, m, M) - m) / s)
    cost = (sum_i |d_i|^p |g_i| + sum_n (|d_n|^p)' H_n |d_n|^p + 1/10 sum_i |d_i|^q |g_i|) / numel,
    d = w - Q(w)

Not as it should be, and so not what `clips` and `metrics` do: 0 is no level of a symmetric grid and
one of others only by luck; a constant channel becomes NaN; a range scaled toward 0 need not hold
its own values; |d| in the quadratic form loses the signs, and the factor 1/2 is missing.
"""

from math import factorial, inf

import torch
from torch import Tensor

from subbyte.errors import NumericsError

_FINE = 32  # bins of the weights' histogram to one of the rounded weights'
_LEAST = 1e-12


def quantize(weight: Tensor, bits: int, clip: float, *, symmetric: bool) -> Tensor:
    """Levels m + k s, k = 0 ... 2^b - 1, of a tensor of any shape; NaN where it is constant."""
    low, high = weight.min() * clip, weight.max() * clip
    if symmetric:
        high = torch.maximum(low.abs(), high.abs())
        low = -high
    step = (high - low) / (2**bits - 1)
    rounded: Tensor = ((weight.clamp(low, high) - low) / step).round() * step + low
    return rounded


def distance(
    weight: Tensor,
    rounded: Tensor,
    power: float,
    gradient: Tensor | None = None,
    hessian: Tensor | None = None,
    third: float = 0.0,
) -> Tensor:
    """The metrics mse (no gradient), grad, hess (with blocks [rows, columns, columns]) and L3
    (third = q above 0).

    weight, rounded, gradient: [rows, columns].
    """
    size = (weight - rounded).abs()
    weighed = torch.ones_like(size) if gradient is None else gradient.abs()
    error = size**power
    total = (error * weighed).sum()
    if gradient is not None and hessian is not None:
        total = total + torch.einsum("ni,nij,nj->", error, hessian, error)
    if third:
        total = total + (size**third * weighed).sum() / 10
    return total / weight.numel()


def taylor(weight: Tensor, rounded: Tensor, gradient: Tensor, order: int) -> Tensor:
    """(t + t^2/2! + ... + t^order/order!) / numel,  t = sum |d| |g|: in the original, but never
    called.
    """
    t = ((weight - rounded).abs() * gradient.abs()).sum()
    return torch.stack([t**k / factorial(k) for k in range(1, order + 1)]).sum() / weight.numel()


def divergence(weight: Tensor, rounded: Tensor, bits: int, reach: float) -> Tensor:
    """KL between the histograms of both within +-reach, 32 bins of the weights' to each of the
    rounded ones'.

    Raises NumericsError when the reach is not positive, as the original's is when no weight is.
    """
    if not reach > 0:
        raise NumericsError(
            f"the original's KL needs weights above 0 in every channel: its reach is {reach:g}"
        )
    fine = torch.histc(weight.clamp(-reach, reach), _FINE * 2**bits, -reach, reach)
    coarse = torch.histc(rounded.clamp(-reach, reach), 2**bits, -reach, reach)
    p = (fine / fine.sum()).clamp_min(_LEAST)
    q = (coarse.repeat_interleave(_FINE) / _FINE / fine.sum()).clamp_min(_LEAST)
    return (p * (p / q).log()).sum()


def search(
    weight: Tensor, bits: int, clips: Tensor, power: float, gradient: Tensor | None = None
) -> tuple[float, float, Tensor]:
    """The clip of the original's exhaustive search for a tensor or channel, its cost, and the
    rounded weights.

    Asymmetric grids only; ties go to the smallest clip, NaN never wins, and clip 1 stands if
    nothing does.
    """
    clip, least, rounded = 1.0, inf, weight
    for tried in clips.tolist():
        candidate = quantize(weight, bits, tried, symmetric=False)
        cost = float(distance(weight, candidate, power, gradient))
        if cost < least:
            clip, least, rounded = tried, cost, candidate
    return clip, least, rounded
