"""The threshold that keeps most information: entropy calibration, as Migacz (GTC 2017) showed for 8
bits.

For thresholds t = peak k / 128, with h the histogram of the values:

    P = h cut to [-t, t], what lies beyond added to the outermost bins      argmin_t  KL(P || Q) =
                                                                            sum P log(P / Q)
    Q = h cut to [-t, t], as the levels hold it: the mass of each level, shared out among its bins

Only bins that hold something count. They round to the levels of the very grid, so that any bits,
zero points and level sets are served. Values of exactly 0 lie on every grid and are left out. Of
equal divergences the wider range is taken: so are few values, each alone in its bin, not clipped at
all, nor any where the grid has as many levels as the histogram has bins. Cost: 128 passes over the
filled bins of all blocks.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from subbyte.core import Grid, GridSpec, PerChannel
from subbyte.io.numbers import Whole
from subbyte.methods import Range
from subbyte.ranges.minmax import grid_of_range, positive

_THRESHOLDS = 128
# filled, that a clipped histogram must have: P and Q with all mass in one bin are equal
_LEAST_BINS = 16
_MAX_ELEMENTS = 2**22  # of the histograms that are looked at together: 32 MiB in float64


@dataclass(frozen=True)
class Kl(Range):
    """Clip where the histogram of `bins` bins changes least in the sense of Kullback and
    Leibler.
    """

    bins: Annotated[int, Whole(2 * _THRESHOLDS)] = 2048

    def choose(
        self, values: Tensor, importance: Tensor | None, spec: GridSpec
    ) -> tuple[Tensor, Tensor]:
        """See `methods.Range`."""
        if spec.alphabet.count >= self.bins:
            return grid_of_range(values.amin(1), values.amax(1), spec)
        weight = torch.ones_like(values) if importance is None else importance.expand_as(values)
        size = max(1, _MAX_ELEMENTS // self.bins)
        parts = [
            self._choose(v, w, spec)
            for v, w in zip(values.split(size), weight.split(size), strict=True)
        ]
        return torch.cat([scale for scale, _ in parts]), torch.cat(
            [zero_point for _, zero_point in parts]
        )

    def _choose(self, values: Tensor, weight: Tensor, spec: GridSpec) -> tuple[Tensor, Tensor]:
        low, high = values.amin(1), values.amax(1)
        peak = positive(torch.maximum(low.abs(), high.abs()))
        centres, mass = self._histogram(values / peak[:, None], weight)
        # the widest first
        ratios = torch.arange(_THRESHOLDS, 0, -1, device=values.device)[:, None] / _THRESHOLDS
        bottom, top = torch.maximum(low / peak, -ratios), torch.minimum(high / peak, ratios)
        scale, zero_point = grid_of_range(bottom, top, spec)  # [thresholds, blocks]
        size = max(1, _MAX_ELEMENTS // mass.numel())
        parts = zip(
            bottom.split(size),
            top.split(size),
            scale.split(size),
            zero_point.split(size),
            strict=True,
        )
        found = torch.cat([divergence(centres, mass, a, b, s, z, spec) for a, b, s, z in parts])
        # the first of equals
        best = (found <= found.amin(0) * (1 + 1e-9) + 1e-12).int().argmax(0, keepdim=True)
        return positive(scale.gather(0, best)[0] * peak), zero_point.gather(0, best)[0]

    def _histogram(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Centres and shares of the filled bins, float64 [blocks, most filled bins], shares of 0 at
        the end of shorter rows. The bins are those of [-1, 1], or where all values have one sign,
        of half of it.
        """
        one_sided = (x >= 0).all(1, keepdim=True) | (x <= 0).all(1, keepdim=True)
        place = torch.where(one_sided, x.abs(), (x + 1) / 2)
        index = (place * self.bins).long().clamp(0, self.bins - 1)
        mass = torch.zeros(len(x), self.bins, dtype=torch.float64, device=x.device)
        mass.scatter_add_(1, index, (weight * (x != 0)).double())
        filled = mass > 0
        order = filled.int().argsort(dim=1, descending=True, stable=True)[
            :, : max(1, int(filled.sum(1).max()))
        ]
        middles = (order + 0.5).double() / self.bins
        sign = torch.where((x <= 0).all(1, keepdim=True), -1.0, 1.0)
        mass = mass.gather(1, order)
        return torch.where(one_sided, sign * middles, 2 * middles - 1), mass / positive(
            mass.sum(1, keepdim=True)
        )


def divergence(
    centres: Tensor,
    mass: Tensor,
    low: Tensor,
    high: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    spec: GridSpec,
) -> Tensor:
    """KL(P || Q) in nats of histograms that are clipped to [low, high] and put on a grid; Inf where
    too little is left.

    centres, mass: float64 [blocks, bins], each row's mass 1 or 0; the others and the result:
        [thresholds, blocks].
    """
    rows = low.numel()
    bins = centres.expand(len(low), -1, -1).reshape(rows, -1)
    mass = mass.expand(len(low), -1, -1).reshape(rows, -1)
    below, above = bins < low.reshape(-1, 1), bins > high.reshape(-1, 1)
    inside = ~below & ~above & (mass > 0)
    kept = mass * inside
    lowest = torch.where(inside, bins, torch.inf).argmin(1, keepdim=True)
    highest = torch.where(inside, bins, -torch.inf).argmax(1, keepdim=True)
    reference = kept.scatter_add(1, lowest, (mass * below).sum(1, keepdim=True))
    reference = reference.scatter_add(1, highest, (mass * above).sum(1, keepdim=True))
    grid = Grid.of(
        GridSpec(spec.alphabet, PerChannel()), scale.reshape(-1, 1), zero_point.reshape(-1, 1)
    )
    level = grid.encode(bins).long() - spec.alphabet.qmin
    sums, counts = (
        torch.zeros(rows, spec.alphabet.count, dtype=mass.dtype, device=mass.device)
        for _ in range(2)
    )
    sums.scatter_add_(1, level, kept)
    counts.scatter_add_(1, level, inside.to(mass.dtype))
    held = (sums / counts.clamp_min(1)).gather(1, level) / positive(kept.sum(1, keepdim=True))
    terms = torch.where(
        inside, reference * (reference / torch.where(inside, held, 1.0)).log(), 0.0
    ).sum(1)
    few = (inside.sum(1) < _LEAST_BINS) & (below | above).any(1)
    return torch.where(few, torch.inf, terms).reshape(low.shape)
