"""Cutting a tensor into the blocks that share a scale, and putting their scales together into a
grid.

Where rows vary the range of every row is chosen for each alphabet that it may have. Either the plan
says which one each row has, or the squared errors that remain decide how bits are shared out; a row
of 0 bits is its mean.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from subbyte.core import Grid, GridSpec
from subbyte.errors import NumericsError, RecipeError
from subbyte.methods import Allocate, Range, calls
from subbyte.methods.blame import blaming


@dataclass(frozen=True, eq=False)
class GridFitter:
    """A range method at work on one layer: the `methods.FitGrid` that rounding methods get.

    importance: of each weight, [rows, columns], or None; scalar: factor on every scale that the
        method chooses; allocate: shares bits out to rows that vary.
    """

    method: Range
    spec: GridSpec
    importance: Tensor | None = None
    scalar: float = 1.0
    allocate: Allocate | None = None

    def __call__(self, weight: Tensor) -> Grid:
        """The grid for a matrix [rows, columns]."""
        grid = fit_grid(self.method, weight, self.spec, self.importance, self.allocate)
        return grid if self.scalar == 1 else grid.with_scale(grid.scale * self.scalar)


def up_to(grid: Grid, bound: float) -> Grid:
    """The same grid, or one whose last code stands for `bound` where it stood for more: values
    never lie above, and runtimes need no clamp of their own before it.
    """
    alphabet = grid.spec.alphabet
    zero_point = int(grid.zero_point.max())
    if not (grid.spec.share.one_scale and alphabet.even and 0 < bound < float(grid.reach[1].max())):
        return grid
    return grid.with_scale(torch.full_like(grid.scale, bound / (alphabet.qmax - zero_point)))


def fit_grid(
    method: Range,
    values: Tensor,
    spec: GridSpec,
    importance: Tensor | None = None,
    allocate: Allocate | None = None,
) -> Grid:
    """The grid that a range method chooses for a matrix.

    values: [rows, columns]; importance: of each value, same shape, or None; values of importance 0
        do not count;
    allocate: where rows vary and the plan does not say how.
    Raises NumericsError when a value is NaN or Inf, or when there is none, RecipeError for
    codebooks, whose levels no range can give.
    """
    if values.numel() == 0:
        raise NumericsError(
            f"no range can be chosen: there are no values, the tensor is {list(values.shape)}"
        )
    if not bool(torch.isfinite(values).all()):
        raise NumericsError(
            f"no range can be chosen: {int((~torch.isfinite(values)).sum())} values are NaN or Inf"
        )
    values = values.to(torch.float32)
    if spec.alphabet.varies:
        given = spec.alphabet.given.to(values.device)
        if given.numel():
            return _fit_given(method, values, spec, importance, given)
        assert allocate is not None, "rows that vary need a method that allocates bits"
        return _fit_allocated(method, values, spec, importance, allocate)
    if not spec.alphabet.positions:
        raise RecipeError(
            "no range can be chosen for a codebook: its levels are fitted when weights are rounded"
        )
    if method.weights_only:
        importance = None
    blocks, weights = spec.share.blocks(values), _importance(values, importance, spec)
    if weights is not None:
        # if none counts, all do
        weights = torch.where((weights > 0).any(1, keepdim=True), weights, 1.0)
        blocks = torch.where(weights > 0, blocks, 0.0)  # 0 lies in every range
    if spec.powers:
        return _fit_powers(method, values, spec, importance)
    if spec.share.one_scale:
        whole = blocks.reshape(values.shape)
        scale, zero_point = calls.choose_for_tensor(method, whole, weights, spec)
    else:
        scale, zero_point = calls.choose(method, blocks, weights, spec)
    scale, zero_point = (spec.share.shaped(part, len(values)) for part in (scale, zero_point))
    with blaming(method, "choose"):
        return Grid.of(spec, scale, zero_point)


def _fit_powers(method: Range, values: Tensor, spec: GridSpec, importance: Tensor | None) -> Grid:
    """The grid of a method with each scale halved, rounded down or up to a power of two, whichever
    leaves the least square error.
    """
    free = fit_grid(method, values, replace(spec, powers=False), importance)
    share = torch.ones_like(values) if importance is None else importance.expand_as(values)
    lower = free.scale / (2 * torch.frexp(free.scale)[0])
    best, least = lower, torch.full_like(free.scale, torch.inf)
    for scale in (lower, 2 * lower, lower / 2):
        found = (free.with_scale(scale).quantize(values) - values).square() * share
        error = spec.share.sums(found)
        best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    return Grid.of(spec, best, free.zero_point, free.own)


def _fit_allocated(
    method: Range, values: Tensor, spec: GridSpec, importance: Tensor | None, allocate: Allocate
) -> Grid:
    share = (
        torch.ones_like(values)
        if importance is None
        else importance.to(torch.float32).expand_as(values)
    )
    # if none counts, all do
    share = torch.where((share > 0).any(1, keepdim=True), share, 1.0).double()
    mean, variance = _mean_and_variance(values, share)
    grids: dict[int, Grid] = {}
    distortion = [variance * share.sum(1)]
    for width, alphabet in spec.alphabet.choices.items():
        grids[width] = fit_grid(method, values, replace(spec, alphabet=alphabet), importance)
        error = grids[width].quantize(values) - values
        distortion.append((share * error.double().square()).sum(1))
    errors, spread = torch.stack(distortion, 1), variance.sqrt()
    widths = calls.allocate(allocate, errors, spread, spec.alphabet.width)
    own = widths[:, None].int()
    lowest = torch.as_tensor(spec.alphabet.ends(own)[0])
    scale = torch.where(mean == 0, 1.0, mean.abs()).float()[:, None]
    zero_point = -mean.sign().int()[:, None]
    for width, grid in grids.items():
        # a row's codes may be counted from another one than its alphabet's
        moved = grid.zero_point - grid.spec.alphabet.qmin + lowest
        scale = torch.where(own == width, grid.scale, scale)
        zero_point = torch.where(own == width, moved, zero_point)
    return Grid.of(spec, scale, zero_point, own)


def _fit_given(
    method: Range, values: Tensor, spec: GridSpec, importance: Tensor | None, own: Tensor
) -> Grid:
    scale = torch.ones(own.shape, device=values.device)
    for number, alphabet in spec.alphabet.choices.items():
        rows = (own == number)[:, 0]
        share = None if importance is None else importance.expand_as(values)[rows]
        found = fit_grid(method, values[rows], replace(spec, alphabet=alphabet), share)
        scale[rows] = found.scale
    return Grid.of(spec, scale, own=own)


def _mean_and_variance(values: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and variance of each row: float64 [rows]."""
    total = share.sum(1, keepdim=True)
    mean = (share * values).sum(1, keepdim=True) / total
    variance = (share * (values - mean).square()).sum(1, keepdim=True) / total
    tiny = torch.finfo(torch.float32).tiny
    return torch.where(mean.abs() < tiny, 0.0, mean)[:, 0], variance[:, 0]


def _importance(values: Tensor, importance: Tensor | None, spec: GridSpec) -> Tensor | None:
    if importance is None:
        ragged = values.shape[1] % (spec.share.block or 1)
        return spec.share.blocks(torch.ones_like(values)) if ragged else None
    return spec.share.blocks(importance.to(torch.float32).expand_as(values))
