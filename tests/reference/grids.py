"""Grids by brute force, in float64: every code of every element is tried."""

import torch
from torch import Tensor

from subbyte.core import Alphabet, Codebook, Counts, Grid, Levels, PerGroup, PerTensor, Widths


def positions(alphabet: Alphabet, own: Tensor | None = None) -> Tensor:
    """What every code of every row stands for in steps, by definition: float64 [1 or rows, count];
    inf for codes that a row has not. own: the grid's numbers of its own.
    """
    codes = torch.arange(alphabet.qmin, alphabet.qmax + 1, dtype=torch.float64)[None]
    match alphabet:
        case Levels():
            return torch.tensor([alphabet.levels], dtype=torch.float64)
        case Codebook():
            return own.double()
        case Counts():
            counts = torch.tensor(alphabet.counts)[:, None]
            return torch.where(codes < counts, codes - (counts - 1) / 2, torch.inf)
        case Widths():
            widths = own.flatten().tolist()
            low = torch.tensor([-(2**w // 2) if alphabet.signed else 0 for w in widths])[:, None]
            high = low + torch.tensor([2**w - 1 for w in widths])[:, None]
            inside = (codes >= low) & (codes <= high)
            return torch.where(inside, codes, torch.inf)
    return codes if alphabet.even else torch.tensor([alphabet.positions], dtype=torch.float64)


def spread(parameter: Tensor, grid: Grid, shape: tuple[int, ...]) -> Tensor:
    """A scale or zero point for each element of a tensor of this shape, float64, element by
    element.
    """
    out, share = torch.empty(shape, dtype=torch.float64), grid.spec.share
    if isinstance(share, PerTensor):
        return out.fill_(float(parameter))
    for row in range(shape[0]):
        for column in range(shape[1]):
            block = column // share.size if isinstance(share, PerGroup) else 0
            out[row, column] = float(parameter[row, block])
    return out


def representable(grid: Grid, shape: tuple[int, ...]) -> Tensor:
    """All values that each element of a tensor of this shape may take: float64 [*shape, count]."""
    steps = positions(grid.spec.alphabet, grid.own)
    steps = steps[0] if len(steps) == 1 else steps[:, None]
    zero_point, scale = (spread(p, grid, shape)[..., None] for p in (grid.zero_point, grid.scale))
    return (steps - zero_point) * scale


def assert_nearest(codes: Tensor, x: Tensor, grid: Grid) -> None:
    """No code is nearer than the given ones, but for what float32 can't tell apart."""
    values = representable(grid, tuple(x.shape))
    x = x.double().clamp(-1e30, 1e30)
    distance = (values - x[..., None]).abs()
    index = codes.long() - grid.spec.alphabet.qmin
    assert bool(((index >= 0) & (index < grid.spec.alphabet.count)).all())
    chosen = distance.gather(-1, index[..., None])[..., 0]
    slack = 4e-7 * (x.abs() + spread(grid.scale, grid, tuple(x.shape)))
    worst = (chosen - distance.amin(-1) - slack).amax()
    assert worst <= 0, f"a code is farther than the nearest one by {worst:g}"
