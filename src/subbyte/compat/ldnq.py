"""The computations of the code of L-DNQ's authors, given H and W in one column order, for
reproducing its figures.

One scale a tensor; the scale starts at mean |W| in every projection, rho = H_00, H is undamped, and
an iterate counts only when it lowers the error tr (G - W)' H (G - W) by more than 1e-3. Exact ties
between levels go to 0 for 5, 7 and 9 levels at every middle but the first. All in float64. Not
taken over: their wrong column order of H for kernels above 1.
"""

from math import inf

import torch
from torch import Tensor

from subbyte.core import Grid, GridSpec, QTensor
from subbyte.core.levels import POWER_COUNTS, powers
from subbyte.errors import NumericsError, RecipeError
from subbyte.methods import FitGrid
from subbyte.stats import LayerStats

_ITERATIONS, _INNER = 100, 10
_GAIN, _STILL = 1e-3, 1e-3  # absolute
_PATIENCE = 3


def known_to_original(spec: GridSpec) -> bool:
    """Whether the authors' code knows grids of this kind."""
    levels = spec.alphabet.positions
    known = len(levels) in POWER_COUNTS and levels == powers(len(levels))
    return known and spec.share.one_scale


def original(weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
    """`Ldnq(compat=True)`. Raises RecipeError for grids and layers that the authors' code does not
    know.
    """
    if stats.H.shape[0] != 1:
        raise RecipeError("ldnq: compat knows no layers with groups")
    if not bool(torch.isfinite(weight).all() & torch.isfinite(stats.H).all()):
        raise NumericsError(
            "ldnq: the weights or the second moments of the layer's inputs hold NaN or Inf"
        )
    units, scale, _ = alternate(stats.grouped(weight)[0].mT, stats.H[0], fit.spec.alphabet.count)
    grid = Grid.of(fit.spec, torch.tensor(scale if scale > 0 else 1.0, device=weight.device))
    return QTensor.nearest((units.mT * grid.scale.double()).to(torch.float32), grid)


def alternate(W: Tensor, H: Tensor, count: int) -> tuple[Tensor, float, int]:
    """Levels' numbers Q [d, rows], the scale, and the number of iterations, for W [d, rows]."""
    rho = H[0, 0]
    A = H + rho * torch.eye(len(H), dtype=H.dtype, device=H.device)
    start = float(W.abs().mean())
    Q, scale = to_levels(W / start, count), start
    G, U = scale * Q, torch.zeros_like(W)
    best, failures, iterations = (_error(G, H, W), Q, scale), 0, 0
    while failures < _PATIENCE and iterations < _ITERATIONS:
        iterations += 1
        T = _solve(A, H @ W + rho * (G - U))
        Q, scale, _ = project(T + U, start, count)
        G = scale * Q
        U = U + T - G
        error = _error(G, H, W)
        if best[0] - error > _GAIN:
            best, failures = (error, Q, scale), 0
        else:
            failures += 1
    return best[1], best[2], iterations


def _solve(A: Tensor, right: Tensor) -> Tensor:
    """A^-1 right; least squares where A is singular."""
    solution, failed = torch.linalg.solve_ex(A, right)
    if int(failed) or not bool(torch.isfinite(solution).all()):
        solution = torch.linalg.pinv(A) @ right
    result: Tensor = solution
    return result


def project(V: Tensor, start: float, count: int) -> tuple[Tensor, float, int]:
    """Levels' numbers and scale near V from a starting scale, and the number of rounds."""
    scale, best, rounds = start, (inf, torch.zeros_like(V), start), 0
    for _ in range(_INNER):
        rounds += 1
        previous, Q = scale, to_levels(V / scale, count)
        scale = float((V * Q).sum() / (Q * Q).sum())
        error = float((V - scale * Q).square().sum())
        if error < best[0]:
            best = (error, Q, scale)
        if not abs(scale - previous) >= _STILL:
            break
    return best[1], best[2], rounds


def to_levels(x: Tensor, count: int) -> Tensor:
    """Nearest of 0, +-1, +-2, ...; ties as in the authors' code."""
    top = (count - 3) // 2
    size, result = x.abs(), torch.zeros_like(x)
    for k in range(top + 1):
        low = 0.5 if k == 0 else 0.75 * 2**k
        high = inf if k == top else 1.5 * 2**k
        upper = size <= high if count == 11 or k == top else size < high
        result = torch.where((size > low) & upper, float(2**k), result)
    return result * x.sign()


def _error(G: Tensor, H: Tensor, W: Tensor) -> float:
    return float(((G - W) * (H @ (G - W))).sum())
