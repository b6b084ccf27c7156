"""Proxies of the loss that rounding costs: what a clip search minimises (GradQuant, Choi 2022, put
right).

With e = Q(w) - w for one output channel n, g the gradient of the loss, H the second moments of the
layer's inputs:

    mse           sum_i |e_i|^p
    grad          sum_i E|g_i| |e_i|^p  over batches, or, signed, |sum_i g_i e_i|
    fisher        1/2 sum_i E[g_i^2] e_i^2                  over images: the diagonal of the Fisher
                                                            information
    hessian       g'e + 1/2 e' H_n e                        exact block H_n of the filter;
                                                            Gauss-Newton's where none is
    gauss_newton  1/2 y_n e' H e                            y_n: squared gradient of the loss by the
                                                            channel's output
    kl            n KL(P || Q)                              histogram of the n weights, and of their
                                                            cells on the grid

All are sums, so that those of channels add up to a layer's and those of layers to the network's;
the original adds up means, in which a stem of 1,728 weights counts like a layer of two million. The
original's own are in `compat.gradquant`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import cached_property
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from subbyte.errors import RecipeError
from subbyte.stats import GradientStats

_MAX_POWER = 8  # beyond it small errors vanish in float32
_BINS = 128


class Need(Enum):
    """A part of the evidence."""

    GRADIENTS = "gradients of the loss"
    INPUTS = "second moments of the inputs"
    HESSIAN = "exact second derivatives"


@dataclass(frozen=True, eq=False)
class Evidence:
    """The knowledge of a layer besides its weights; None for what nobody asked for.

    H: second moments of the inputs, float32 [groups, columns, columns]; hessian: the exact block of
    each filter, float32 [rows, columns, columns], also None where the layer is too large for it.
    """

    gradients: GradientStats | None = None
    H: Tensor | None = None
    hessian: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Trial:
    """A layer on many grids at once. What several metrics read is computed once.

    rising: the weights, each row sorted, float32 [rows, columns]; error: Q(w) - w, float32 [rows,
        clips, columns];
    levels: what the codes stand for, rising in equal steps, float32 [rows, clips, count].
    """

    rising: Tensor
    error: Tensor
    levels: Tensor
    evidence: Evidence
    _powers: dict[float, Tensor] = field(default_factory=dict)

    @property
    def gradients(self) -> GradientStats:
        """Raises RecipeError when nobody collected them."""
        if self.evidence.gradients is None:
            raise RecipeError("a metric that reads gradients was given none")
        return self.evidence.gradients

    def power(self, power: float) -> Tensor:
        """|e|^power: float32 [rows, clips, columns]; multiples of 1/2 are products, at a fraction
        of the cost.
        """
        if power not in self._powers:
            if power in (0.5, 1.0):
                self._powers[power] = self.error.abs() if power == 1 else self.power(1.0).sqrt()
            elif (2 * power).is_integer():
                self._powers[power] = self.power(power - 0.5) * self.power(0.5)
            else:
                self._powers[power] = self.power(1.0).pow(power)
        return self._powers[power]

    @cached_property
    def form(self) -> Tensor:
        """The form e' H e of every error: float64 [rows, clips]. Raises RecipeError when nobody
        collected H.
        """
        H = self.evidence.H
        if H is None:
            raise RecipeError(
                "a metric that reads the second moments of the layer's inputs was given none"
            )
        grouped = self.error.reshape(len(H), -1, H.shape[-1])
        return _total((grouped @ H).reshape(self.error.shape).mul_(self.error))


class Metric(Protocol):
    """One proxy. needs: what of the evidence it reads, so that only that is collected."""

    needs: ClassVar[frozenset[Need]]

    def cost(self, trial: Trial) -> Tensor:
        """The cost of every row on every grid: float64 [rows, clips]; adds up over rows."""
        ...


@dataclass(frozen=True)
class Mse:
    """sum |e|^power."""

    power: float = 2.0
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __post_init__(self) -> None:
        _check_power("mse", self.power)

    def cost(self, trial: Trial) -> Tensor:
        """See `Metric`."""
        return _total(trial.power(self.power))


@dataclass(frozen=True)
class Grad:
    """sum E|g| |e|^power, the gradients' sizes being a mean over batches; signed: |sum g e|, power
    1 only.
    """

    power: float = 1.0
    signed: bool = False
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS})

    def __post_init__(self) -> None:
        _check_power("grad", self.power)
        if self.signed and self.power != 1:
            raise RecipeError(f"grad: signed goes with power 1 only, got {self.power:g}")

    def cost(self, trial: Trial) -> Tensor:
        """See `Metric`."""
        if self.signed:
            return _weighed(trial.error, trial.gradients.gradient).abs()
        return _weighed(trial.power(self.power), trial.gradients.absolute)


@dataclass(frozen=True)
class Fisher:
    """1/2 sum E[g^2] e^2."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS})

    def cost(self, trial: Trial) -> Tensor:
        """See `Metric`."""
        return _weighed(trial.power(2.0), trial.gradients.fisher) / 2


@dataclass(frozen=True)
class Hessian:
    """g'e + 1/2 e' H_n e: the loss to second order in one filter. May be negative."""

    needs: ClassVar[frozenset[Need]] = frozenset(Need)

    def cost(self, trial: Trial) -> Tensor:
        """See `Metric`."""
        blocks = trial.evidence.hessian
        if blocks is None:
            curved = trial.form * trial.gradients.outputs[:, None]
        else:
            curved = _total((trial.error @ blocks).mul_(trial.error))
        return _weighed(trial.error, trial.gradients.gradient) + curved / 2


@dataclass(frozen=True)
class GaussNewton:
    """1/2 y_n e' H e: the squared error of the channel's output, weighted by what the output
    matters.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.INPUTS})

    def cost(self, trial: Trial) -> Tensor:
        """See `Metric`."""
        return trial.form * trial.gradients.outputs[:, None] / 2


@dataclass(frozen=True)
class Kl:
    """n KL(P || Q) per row of n weights.

    P: histogram of the weights over their range, of 128 bins or as many as there are weights if
    fewer; Q: the weights of each code spread evenly over the code's cell, what falls outside
    counted in the outermost bins. To every histogram one weight is added in all, so that no bin is
    empty.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()

    def cost(self, trial: Trial) -> Tensor:
        """See `Metric`."""
        rising, levels = trial.rising, trial.levels
        rows, n = rising.shape
        bins = min(_BINS, n)
        low, high = rising[:, :1].clamp_max(0), rising[:, -1:].clamp_min(0)
        # [rows, bins - 1]
        edges = torch.lerp(low, high, torch.arange(1, bins, device=low.device) / bins)

        first, step = levels[..., :1], levels[..., 1:2] - levels[..., :1]
        middles = ((levels[..., 1:] + levels[..., :-1]) / 2).reshape(rows, -1)
        counts = (
            torch.searchsorted(rising, middles, right=True).reshape(*levels.shape[:2], -1).float()
        )
        # each cell, and all
        below = torch.cat([torch.zeros_like(first), counts, torch.full_like(first, n)], -1)
        place = (edges[:, None] - first) / step + 0.5
        cell = place.floor().clamp_(0, levels.shape[-1] - 1)
        k, share = cell.long(), place.sub_(cell).clamp_(0, 1)
        reached = torch.lerp(below.gather(-1, k), below.gather(-1, k + 1), share)

        p = _shares(torch.searchsorted(rising, edges, right=True).float(), n)[:, None]
        return n * _total(p * (p / _shares(reached, n)).log_())


METRICS: Mapping[str, type[Metric]] = {
    "mse": Mse,
    "grad": Grad,
    "fisher": Fisher,
    "hessian": Hessian,
    "gauss_newton": GaussNewton,
    "kl": Kl,
}


def parse_metric(text: str) -> Metric:
    """A metric as text: its name, then settings after colons: a number, or the name of a switch.

    `mse:2`, `grad:1.5`, `grad:1:signed`, `fisher`. Raises RecipeError for anything else.
    """
    name, *settings = text.strip().split(":")
    if name not in METRICS:
        raise RecipeError(f"there is no metric {text!r}; valid: {', '.join(METRICS)}, and loss")
    given: dict[str, float | bool] = {}
    kinds = {f.name: f.type for f in fields(METRICS[name])}  # type: ignore[arg-type]
    numbers = [key for key, kind in kinds.items() if kind is float]
    for setting in settings:
        if kinds.get(setting) is bool:
            given[setting] = True
        elif numbers:
            given[numbers.pop(0)] = _number(text, setting)
        else:
            raise RecipeError(
                f"metric {text!r}: {setting!r} is no setting of {name}; it has "
                f"{', '.join(kinds) or 'none'}"
            )
    return METRICS[name](**given)


def metric_name(metric: Metric) -> str:
    """The text that `parse_metric` reads, settings in full: `mse:2`."""
    name = next(name for name, kind in METRICS.items() if kind is type(metric))
    values = {f.name: getattr(metric, f.name) for f in fields(metric)}  # type: ignore[arg-type]
    words = [
        key if value is True else f"{value:g}"
        for key, value in values.items()
        if value is not False
    ]
    return ":".join([name, *words])


def _number(text: str, setting: str) -> float:
    try:
        return float(setting)
    except ValueError:
        raise RecipeError(
            f"metric {text!r}: {setting!r} is neither a number nor a switch"
        ) from None


def _check_power(name: str, power: float) -> None:
    if not 0 < power <= _MAX_POWER:
        raise RecipeError(f"{name}: power must be above 0 and at most {_MAX_POWER}, got {power:g}")


def _total(values: Tensor) -> Tensor:
    """The sum over each row: float64 [rows, clips]."""
    return values.sum(-1).double()


def _weighed(values: Tensor, weights: Tensor) -> Tensor:
    """The sum over each row, weighted by [rows, columns]: float64 [rows, clips]."""
    return (weights.float()[:, None] @ values.mT)[:, 0].double()


def _shares(below: Tensor, n: int) -> Tensor:
    """Shares of the bins, smoothed, of the numbers of weights below the edges between them: [...,
    bins].
    """
    ends = below.new_zeros((*below.shape[:-1], 1))
    counts = torch.cat([ends, below, ends + n], -1).diff(dim=-1)
    return (counts + 1 / counts.shape[-1]) / (n + 1)
