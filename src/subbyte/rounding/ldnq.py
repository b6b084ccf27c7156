"""L-DNQ: alternating directions between real weights and a set of levels (Chen, Wang, Pan, AAAI
2019, section 3).

    min over Q of levels and scales a of  tr (aQ - W*)' H (aQ - W*)
    T = (H + rho I)^-1 (H W* + rho (G - U))        proximal step
                                                   eq. 11
    G = Proj(T + U):  Q nearest to V / a,  a <- <V, Q> / <Q, Q>,  in turn
                                                                  eq. 13-14
    U <- U + T - G

Each row keeps the best G, with the scale that is best under H. Meant for few levels, such as
`levels: 3` to `11`
(0, +-1, +-2, ... +-2^k), and works on every grid. The authors' weights update between layers is
`tune: cascade`; with it, or to follow the paper, set `corrected: false` (W* = W).
Differences from their code, which `compat: true` brings back (see `compat.ldnq`): W* makes up for
the errors of earlier layers; the scale starts from the recipe's range (there: mean |W| for any
set); rho is a share of H's mean diagonal (there: H_00); there is no tolerance; a is refitted under
H; coordinate descent ends it; H has the weights' column order. Objective: ||X w - X_q q||^2, with
`corrected: false` ||X_q (w - q)||^2; a row that nearest would serve better is rounded to nearest.
Cost: for each penalty d^3, for each of them and each start 2 rows d^2 an iteration.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from subbyte.compat.ldnq import known_to_original, original
from subbyte.core import GridSpec, QTensor, Share
from subbyte.core.ladders import Ladder
from subbyte.errors import RecipeError
from subbyte.io.numbers import Count, Natural, NotNegative, Positive
from subbyte.methods import FitGrid, Refusal, Rounding
from subbyte.rounding.solve import (
    best_of,
    corrected_target,
    inverted,
    matched_error,
    mean_ridge,
)
from subbyte.rounding.sweeps import descend, fitted_scales
from subbyte.stats import LayerStats

_INNER = 10


@dataclass(frozen=True)
class Ldnq(Rounding):
    """penalties: rho as shares of H's mean diagonal; starts: factors on the recipe's scales; each
    pair is tried for so many iterations, the best goes through so many sweeps of coordinate
    descent. corrected: make up for earlier layers' errors; damping: ridge of that as a share of H's
    mean diagonal; compat: as the authors' code does, which reads no other setting.
    """

    penalties: tuple[Positive, ...] = (0.3, 1.0)
    starts: tuple[Positive, ...] = (0.8, 1.25)
    iterations: Count = 30
    sweeps: Natural = 12
    corrected: bool = True
    damping: NotNegative = 0.01
    compat: bool = False

    refuses = (
        Refusal(
            lambda self, spec: self.compat and not known_to_original(spec),
            "ldnq: compat needs `levels: 3` (5, 7, 9, 11) with granularity tensor",
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.penalties or not self.starts:
            raise RecipeError(f"ldnq: penalties and starts are needed, got {self}")

    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        """See `methods.Rounding`; with `compat` nearest is a candidate at the authors' scale
        only.
        """
        self.check(fit.spec)
        if self.compat:
            return original(weight, fit, stats)
        target = corrected_target(weight, stats, self.damping) if self.corrected else weight
        seen = stats if self.corrected else stats.of_quantized()
        grid = fit(target)
        starts = [
            QTensor.nearest(target, grid.with_scale(grid.scale * factor)) for factor in self.starts
        ]
        candidates = [QTensor.nearest(weight, fit(weight)), QTensor.nearest(target, grid)]
        for share in self.penalties:
            candidates += self._alternate(target, starts, seen, share)
        linear = seen.grouped(target) @ seen.H
        (polished,) = descend(linear, [best_of(weight, candidates, seen)], seen, self.sweeps)
        return best_of(weight, [*candidates, polished], seen)

    def _alternate(
        self, target: Tensor, starts: list[QTensor], stats: LayerStats, rho: float
    ) -> list[QTensor]:
        """The best of each start, in units of H's mean diagonal."""
        if bool(stats.dead.all()):
            return starts
        unit = mean_ridge(stats, 1.0)[:, None, None]
        H = stats.H / torch.where(unit > 0, unit, 1.0)
        eye = torch.eye(H.shape[-1], dtype=H.dtype, device=H.device)
        inverse = inverted(H + rho * eye).to(torch.float32)
        pull = (stats.grouped(target) @ H).to(torch.float32)
        return [self._from(start, target, stats, inverse, pull, rho) for start in starts]

    def _from(
        self,
        start: QTensor,
        target: Tensor,
        stats: LayerStats,
        inverse: Tensor,
        pull: Tensor,
        rho: float,
    ) -> QTensor:
        linear = stats.grouped(target) @ stats.H
        best = current = _Point.of(start)
        error, U = matched_error(target, best.values, stats), torch.zeros_like(pull)
        for _ in range(self.iterations):
            G = current.values.reshape(pull.shape)
            V = (pull + rho * (G - U)) @ inverse + U
            current = _project(V.reshape(target.shape), current)
            U = V - current.values.reshape(pull.shape)
            scale = fitted_scales(
                linear, current.units, current.scale, start.grid.spec.share, stats
            )
            fitted = current.rescaled(scale)
            its = matched_error(target, fitted.values, stats)
            stays = error.sum() <= its.sum() if current.share.one_scale else error <= its
            stays = stays.expand(error.shape)
            best, error = best.where(stays, fitted), torch.where(stays, error, its)
        return QTensor.nearest(best.values, start.grid.with_scale(best.scale))


@dataclass(frozen=True, eq=False)
class _Point:
    """Units on a grid's ladder, and a scale, on their way: nothing is asked of them, so that a
    device need not be waited for.

    units: float32 [rows, columns]; scale: as the grid has it.
    """

    units: Tensor
    scale: Tensor
    spec: GridSpec
    ladder: Ladder

    @classmethod
    def of(cls, rounded: QTensor) -> "_Point":
        """Where a rounding stands."""
        grid, columns = rounded.grid, rounded.codes.shape[1]
        units = grid.units(rounded.codes)
        return cls(units, grid.scale, grid.spec, grid.ladder(columns))

    @property
    def share(self) -> Share:
        """Who has a scale in common."""
        return self.spec.share

    @property
    def _spread(self) -> Tensor:
        return self.share.spread(self.scale, self.units.shape[1])

    @property
    def values(self) -> Tensor:
        """Real values, float32 [rows, columns]."""
        return self.units * self._spread

    def rescaled(self, scale: Tensor) -> "_Point":
        """The same units on another scale, or the nearest that the grid may have."""
        return replace(self, scale=self.spec.allowed(scale.to(torch.float32)))

    def nearest(self, V: Tensor) -> "_Point":
        """The units nearest to real values, on the same scale."""
        return replace(self, units=self.ladder.nearest(V / self._spread))

    def where(self, stays: Tensor, other: "_Point") -> "_Point":
        """Its rows where they stay, bool [rows], those of another elsewhere."""
        rows = stays[:, None]
        kept = stays[0] if self.share.one_scale else rows
        return replace(
            self,
            units=torch.where(rows, self.units, other.units),
            scale=torch.where(kept, self.scale, other.scale),
        )


def _project(V: Tensor, previous: _Point) -> _Point:
    """The nearest levels and scales for V, in turn, from the previous scales. Where levels stay
    the scales do, so that to go on changes nothing.
    """
    current = previous.nearest(V)
    for _ in range(_INNER):
        current = current.rescaled(_euclidean_scale(V, current)).nearest(V)
    return current


def _euclidean_scale(V: Tensor, current: _Point) -> Tensor:
    """The scale <V, Q> / <Q, Q> for fixed units; one that would not be positive stays."""
    units, share = current.units, current.share
    top, bottom = share.sums(V * units), share.sums(units * units)
    sound = (bottom > 0) & (top > 0)
    return torch.where(sound, top / torch.where(sound, bottom, 1.0), current.scale)
