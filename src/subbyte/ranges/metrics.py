"""Proxies of the loss that rounding costs: what a clip search minimises (GradQuant, Choi 2022, put right).

With e = Q(w) - w for one output channel n, g the gradient of the loss, H the second moments of the layer's inputs:

    mse           sum_i |e_i|^p
    grad          sum_i E|g_i| |e_i|^p  over batches, or, signed, |sum_i g_i e_i|
    fisher        1/2 sum_i E[g_i^2] e_i^2                  over images: the diagonal of the Fisher information
    hessian       g'e + 1/2 e' H_n e                        exact block H_n of the filter; Gauss-Newton's where none is
    gauss_newton  1/2 y_n e' H e                            y_n: squared gradient of the loss by the channel's output
    kl            n KL(P || Q)                              histogram of the n weights, and of their cells on the grid

All are sums, so that those of channels add up to a layer's and those of layers to the network's; the original adds up
means, in which a stem of 1,728 weights counts like a layer of two million. The original's own are in
`gradquant_compat`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from subbyte.errors import RecipeError
from subbyte.stats import GradientStats

Need = Literal["gradients", "H", "hessian"]
_MAX_POWER = 8  # beyond it small errors vanish in float32
_BINS = 128


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of a layer besides its weights; None for what nobody asked for.

    H: second moments of the inputs, float32 [groups, columns, columns]; hessian: the exact block of each filter,
    float32 [rows, columns, columns], also None where the layer is too large for it.
    """

    gradients: GradientStats | None = None
    H: Tensor | None = None
    hessian: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Trial:
    """A layer on many grids at once.

    weight: float32 [rows, columns]; error: Q(w) - w, float32 [rows, clips, columns]; levels: what the codes stand for,
    rising, float32 [rows, clips, count].
    """

    weight: Tensor
    error: Tensor
    levels: Tensor
    evidence: Evidence

    @property
    def gradients(self) -> GradientStats:
        """Raises RecipeError when nobody collected them."""
        if self.evidence.gradients is None:
            raise RecipeError("a metric that reads gradients was given none")
        return self.evidence.gradients

    def form(self) -> Tensor:
        """Of every error e' H e: float64 [rows, clips]. Raises RecipeError when nobody collected H."""
        H = self.evidence.H
        if H is None:
            raise RecipeError("a metric that reads the second moments of the layer's inputs was given none")
        grouped = self.error.reshape(len(H), -1, H.shape[-1])
        return _total((grouped @ H).reshape(self.error.shape) * self.error)


class Metric(Protocol):
    """One proxy. needs: what of the evidence it reads, so that only that is collected."""

    needs: ClassVar[frozenset[Need]]

    def cost(self, trial: Trial) -> Tensor:
        """Of every row on every grid: float64 [rows, clips]; adds up over rows."""
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
        return _total(_power(trial.error, self.power))


@dataclass(frozen=True)
class Grad:
    """sum E|g| |e|^power, the gradients' sizes being a mean over batches; signed: |sum g e|, power 1 only."""

    power: float = 1.0
    signed: bool = False
    needs: ClassVar[frozenset[Need]] = frozenset({"gradients"})

    def __post_init__(self) -> None:
        _check_power("grad", self.power)
        if self.signed and self.power != 1:
            raise RecipeError(f"grad: signed goes with power 1 only, got {self.power:g}")

    def cost(self, trial: Trial) -> Tensor:
        """See `Metric`."""
        if self.signed:
            return _total(trial.error * trial.gradients.gradient.float()[:, None]).abs()
        return _total(_power(trial.error, self.power) * trial.gradients.absolute.float()[:, None])


@dataclass(frozen=True)
class Fisher:
    """1/2 sum E[g^2] e^2."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradients"})

    def cost(self, trial: Trial) -> Tensor:
        """See `Metric`."""
        return _total(trial.error.square() * trial.gradients.fisher.float()[:, None]) / 2


@dataclass(frozen=True)
class Hessian:
    """g'e + 1/2 e' H_n e: the loss to second order in one filter. May be negative."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradients", "H", "hessian"})

    def cost(self, trial: Trial) -> Tensor:
        """See `Metric`."""
        blocks = trial.evidence.hessian
        if blocks is None:
            curved = trial.form() * trial.gradients.outputs[:, None]
        else:
            curved = _total((trial.error @ blocks) * trial.error)
        return _total(trial.error * trial.gradients.gradient.float()[:, None]) + curved / 2


@dataclass(frozen=True)
class GaussNewton:
    """1/2 y_n e' H e: the squared error of the channel's output, weighted by what the output matters."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradients", "H"})

    def cost(self, trial: Trial) -> Tensor:
        """See `Metric`."""
        return trial.form() * trial.gradients.outputs[:, None] / 2


@dataclass(frozen=True)
class Kl:
    """n KL(P || Q) per row of n weights.

    P: histogram of the weights over their range, of 128 bins or as many as there are weights if fewer; Q: the weights
    of each code spread evenly over the code's cell, what falls outside counted in the outermost bins. To every
    histogram one weight is added in all, so that no bin is empty.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()

    def cost(self, trial: Trial) -> Tensor:
        """See `Metric`."""
        rising, levels = trial.weight.double().sort(1).values, trial.levels.double()
        rows, n = rising.shape
        bins = min(_BINS, n)
        low, high = rising[:, :1].clamp_max(0), rising[:, -1:].clamp_min(0)
        edges = torch.lerp(low, high, torch.arange(1, bins, dtype=torch.float64, device=low.device) / bins)

        middles = (levels[..., 1:] + levels[..., :-1]) / 2
        counts = torch.searchsorted(rising, middles.reshape(rows, -1), right=True).reshape(middles.shape)
        first, last = 2 * levels[..., :1] - middles[..., :1], 2 * levels[..., -1:] - middles[..., -1:]
        knots = torch.cat([first, middles, last], -1)  # of Q's distribution, linear between them
        heights = torch.cat([torch.zeros_like(first), counts.double(), torch.full_like(last, n)], -1)
        places = edges[:, None].expand(-1, levels.shape[1], -1).contiguous()
        k = torch.searchsorted(knots, places).clamp(1, knots.shape[-1] - 1)
        left, right = knots.gather(-1, k - 1), knots.gather(-1, k)
        share = ((places - left) / (right - left)).clamp(0, 1)
        below = torch.lerp(heights.gather(-1, k - 1), heights.gather(-1, k), share)

        p = _shares(torch.searchsorted(rising, edges.contiguous(), right=True).double(), n)
        q = _shares(below, n)
        return n * (p[:, None] * (p[:, None] / q).log()).sum(-1)


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
    kinds = {field.name: field.type for field in fields(METRICS[name])}  # type: ignore[arg-type]
    numbers = [field for field, kind in kinds.items() if kind is float]
    for setting in settings:
        if kinds.get(setting) is bool:
            given[setting] = True
        elif numbers:
            given[numbers.pop(0)] = _number(text, setting)
        else:
            raise RecipeError(
                f"metric {text!r}: {setting!r} is no setting of {name}; it has {', '.join(kinds) or 'none'}"
            )
    return METRICS[name](**given)


def metric_name(metric: Metric) -> str:
    """The text that `parse_metric` reads, settings in full: `mse:2`."""
    name = next(name for name, kind in METRICS.items() if kind is type(metric))
    values = {field.name: getattr(metric, field.name) for field in fields(metric)}  # type: ignore[arg-type]
    words = [key if value is True else f"{value:g}" for key, value in values.items() if value is not False]
    return ":".join([name, *words])


def _number(text: str, setting: str) -> float:
    try:
        return float(setting)
    except ValueError:
        raise RecipeError(f"metric {text!r}: {setting!r} is neither a number nor a switch") from None


def _check_power(name: str, power: float) -> None:
    if not 0 < power <= _MAX_POWER:
        raise RecipeError(f"{name}: power must be above 0 and at most {_MAX_POWER}, got {power:g}")


def _power(error: Tensor, power: float) -> Tensor:
    """|e|^power; squares without the detour over |e|."""
    return error.square() if power == 2 else error.abs().pow_(power)


def _total(values: Tensor) -> Tensor:
    return values.sum(-1, dtype=torch.float64)


def _shares(below: Tensor, n: int) -> Tensor:
    """Shares of the bins, smoothed, of the numbers of weights below the edges between them: [..., bins]."""
    ends = below.new_zeros((*below.shape[:-1], 1))
    counts = torch.cat([ends, below, ends + n], -1).diff(dim=-1)
    return (counts + 1 / counts.shape[-1]) / (n + 1)
