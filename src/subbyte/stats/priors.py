"""The best place to clip values of a known distribution: the mathematics of ACIQ.

Banner, Nahshan, Soudry, "Post training 4-bit quantization of convolutional networks for
rapid-deployment", 2019.
With Laplace's b or Gauss's sigma as the unit, values clipped to [-a, a] and n steps between the
ends,

    MSE(a) = 2 T(a) + a^2 / (3 n^2)       T(a) = int_a^inf (x - a)^2 f(x) dx
                                          (their eq. 5)
    Laplace: T = exp(-a)                  Gauss: T = (1 + a^2) (1 - Phi(a)) - a phi(a)
    minimum, Laplace:  a e^a = 3 n^2,  so  a = W(3 n^2)  with Lambert's W          Gauss: root of
                                                         the derivative

and clipped to [0, a], the values below 0 being 0 (after a ReLU), all the same with 2n in the place
of n, and half the error. The paper has n = 2^M for M bits, cells with their middles as levels; a
grid has its ends as levels and
n = 2^M - 1 steps. `level_mse` is no approximation: it integrates the squared error over the cells
of any levels.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import exp, pi, sqrt
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.special import erfc, lambertw, log_ndtr, ndtr
from torch import Tensor

from subbyte.errors import RecipeError

Prior = Literal["laplace", "gauss"]
Array = NDArray[np.float64]
_FAR = 1e4  # of the mean, in units of spread: no mass beyond


def laplace_alpha(steps: float, one_sided: bool = False) -> float:
    """Optimal clipping in units of b for `steps` steps, any positive number: W(3 n^2), one-sided
    W(12 n^2).

    Raises RecipeError for no steps.
    """
    return float(lambertw(3 * _doubled(steps, one_sided) ** 2).real)


def gauss_alpha(steps: float, one_sided: bool = False) -> float:
    """Optimal clipping in units of sigma: a (1 - erf(a / sqrt 2)) - sqrt(2 / pi) exp(-a^2 / 2) + a
    / (3 n^2) = 0.

    Raises RecipeError for no steps.
    """
    n = _doubled(steps, one_sided)

    def slope(a: float) -> float:
        return float(a * erfc(a / sqrt(2)) - sqrt(2 / pi) * exp(-a * a / 2) + a / (3 * n * n))

    return float(brentq(slope, 0.0, 40.0, xtol=1e-13))


def _doubled(steps: float, one_sided: bool) -> float:
    if not steps > 0:
        raise RecipeError(f"a grid to clip to needs one step or more, got {steps}")
    return 2 * steps if one_sided else steps


class Distribution(ABC):
    """A prior of mean 0 and spread 1: Laplace's b or Gauss's sigma."""

    least_mean: ClassVar[float]
    """The least mean that can be told from the values above 0."""

    @abstractmethod
    def alpha(self, steps: float, one_sided: bool = False) -> float:
        """Optimal clipping for `steps` steps; raises RecipeError for none."""

    @abstractmethod
    def tail(self, a: Array) -> Array:
        """T(a)."""

    @abstractmethod
    def moment(self, x: Array, q: Array) -> Array:
        """int_-inf^x (t - q)^2 f(t) dt."""

    @abstractmethod
    def positive_part(self, mean: float) -> tuple[float, float]:
        """Mean and variance of the values above 0 of the distribution moved to `mean`."""

    @abstractmethod
    def spread_of_half(self, ratio: float) -> float:
        """The spread in units of the mean of the values above 0, given their standard deviation
        over that mean.
        """

    @abstractmethod
    def spread(self, away: Tensor, weight: Tensor, total: Tensor) -> Tensor:
        """Spread of each row of values [rows, n] with mean 0; total: of their weights, [rows]."""

    @abstractmethod
    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """Values, float64 [samples]."""


class Laplace(Distribution):
    """f(x) = exp(-|x|) / 2."""

    least_mean = 0.0  # all below look the same

    def alpha(self, steps: float, one_sided: bool = False) -> float:
        """See `laplace_alpha`."""
        return laplace_alpha(steps, one_sided)

    def tail(self, a: Array) -> Array:
        """See `Distribution`."""
        return np.asarray(np.exp(-a))

    def moment(self, x: Array, q: Array) -> Array:
        """See `Distribution`."""
        d, density = x - q, np.exp(-np.abs(x)) / 2
        above = 2 + q * q - density * (d * d + 2 * d + 2)
        return np.where(x > 0, above, density * (d * d - 2 * d + 2))

    def positive_part(self, mean: float) -> tuple[float, float]:
        """See `Distribution`."""
        if mean <= 0:
            return 1.0, 1.0
        share = 1 - exp(-mean) / 2
        first = (mean + exp(-mean) / 2) / share
        return first, (mean * mean + 2 - exp(-mean)) / share - first * first

    def spread_of_half(self, ratio: float) -> float:
        """See `Distribution`: the mean of the values above 0 is b."""
        return 1.0

    def spread(self, away: Tensor, weight: Tensor, total: Tensor) -> Tensor:
        """See `Distribution`: b = E|x|."""
        return (away.abs() * weight).sum(1) / total

    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """See `Distribution`."""
        uniform = torch.rand(samples, generator=generator, dtype=torch.float64) * 2 - 1
        return -torch.sign(uniform) * torch.log1p(-uniform.abs())


class Gauss(Distribution):
    """f(x) = exp(-x^2 / 2) / sqrt(2 pi)."""

    least_mean = -3.0  # almost nothing is left below

    def alpha(self, steps: float, one_sided: bool = False) -> float:
        """See `gauss_alpha`."""
        return gauss_alpha(steps, one_sided)

    def tail(self, a: Array) -> Array:
        """See `Distribution`."""
        return np.asarray((1 + a * a) * ndtr(-a) - a * np.exp(-a * a / 2) / sqrt(2 * pi))

    def moment(self, x: Array, q: Array) -> Array:
        """See `Distribution`."""
        return np.asarray((1 + q * q) * ndtr(x) - (x - 2 * q) * np.exp(-x * x / 2) / sqrt(2 * pi))

    def positive_part(self, mean: float) -> tuple[float, float]:
        """See `Distribution`."""
        hazard = exp(-mean * mean / 2 - float(log_ndtr(mean))) / sqrt(2 * pi)
        return mean + hazard, 1 - hazard * (hazard + mean)

    def spread_of_half(self, ratio: float) -> float:
        """See `Distribution`: sigma is the root of the mean square."""
        return sqrt(1 + ratio * ratio)

    def spread(self, away: Tensor, weight: Tensor, total: Tensor) -> Tensor:
        """See `Distribution`: sigma^2 = E x^2."""
        return ((away.square() * weight).sum(1) / total).sqrt()

    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """See `Distribution`."""
        return torch.randn(samples, generator=generator, dtype=torch.float64)


PRIORS: dict[Prior, Distribution] = {"laplace": Laplace(), "gauss": Gauss()}


def alpha(prior: Prior, steps: float, one_sided: bool = False) -> float:
    """Optimal clipping of either distribution."""
    return PRIORS[prior].alpha(steps, one_sided)


def positive_part(prior: Prior, mean: float) -> tuple[float, float]:
    """Mean of the values above 0, in units of b or sigma, and their standard deviation over that
    mean.

    mean: of all values. The ratio falls from 1 (Laplace: at any mean up to 0) towards 0 as the mean
        rises.
    """
    first, variance = PRIORS[prior].positive_part(mean)
    return first, sqrt(max(variance, 0.0)) / first


def formula_mse(prior: Prior, a: Array, steps: float, one_sided: bool = False) -> Array:
    """The paper's expected error when clipping at `a` (any shape), in units of b^2 or sigma^2."""
    n = _doubled(steps, one_sided)
    error: Array = 2 * PRIORS[prior].tail(a) + a * a / (3 * n * n)
    return error / 2 if one_sided else error


def level_mse(prior: Prior, levels: Array, mean: float = 0.0, one_sided: bool = False) -> Array:
    """Expected squared error, exactly, when values go to the nearest of the levels.

    levels: rising, [..., n], in units of b or sigma; mean: of the values, in the same units;
    one_sided: values below 0 are 0 and cost nothing. Returns [...].
    """
    q = levels - mean
    middles = (q[..., 1:] + q[..., :-1]) / 2
    lowest = -mean if one_sided else -_FAR
    ends = np.full((*q.shape[:-1], 1), _FAR)
    edges = np.concatenate([np.full_like(ends, lowest), np.maximum(middles, lowest), ends], axis=-1)
    moment = PRIORS[prior].moment
    error: Array = (moment(edges[..., 1:], q) - moment(edges[..., :-1], q)).sum(-1)
    return error


def best_scale(
    prior: Prior, levels: Sequence[float], mean: float = 0.0, one_sided: bool = False
) -> float:
    """The factor on rising levels that makes `level_mse` least, in units of b or sigma."""
    shape = np.asarray(levels, dtype=np.float64)
    reach = np.abs(shape).max()
    tried = np.geomspace(0.02, abs(mean) + 20, 32) / reach
    best = int(np.argmin(level_mse(prior, tried[:, None] * shape, mean, one_sided)))
    bounds = tried[max(best - 1, 0)], tried[min(best + 1, len(tried) - 1)]

    def error(scale: float) -> float:
        return float(level_mse(prior, scale * shape, mean, one_sided))

    found: Any = minimize_scalar(
        error, bounds=bounds, method="bounded", options={"xatol": 1e-9 * tried[best]}
    )
    return float(found.x)


def exact_alpha(prior: Prior, steps: int, one_sided: bool = False, mean: float = 0.0) -> float:
    """The true optimum for `steps` + 1 levels with both ends as levels; signed windows lie about
    the mean.
    """
    levels = np.arange(steps + 1) if one_sided else np.arange(steps + 1) - steps / 2
    reach = float(levels[-1])
    return reach * best_scale(prior, tuple(levels), mean if one_sided else 0.0, one_sided)


def mean_of_ratio(prior: Prior, ratio: float) -> float:
    """The mean, in units of b or sigma, whose `positive_part` has this ratio, above 0: the inverse.

    The least mean looked at is 0 for Laplace (all below look the same) and -3 for Gauss (almost
    nothing is left).
    """
    least = PRIORS[prior].least_mean
    if ratio >= positive_part(prior, least)[1]:
        return least
    return float(brentq(lambda mean: positive_part(prior, mean)[1] - ratio, least, 4 / ratio))
