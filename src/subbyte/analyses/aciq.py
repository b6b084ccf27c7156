"""Optimal clipping of Laplace's and Gauss's distribution, by formula and by simulation.

Errors are in units of b^2 or sigma^2. `expected` integrates the squared error of the very levels;
the paper's formula approximates it with 2^bits cells; simulated values are drawn, and quantized
with `core.Grid`.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from subbyte.compat.aciq_coding import draw
from subbyte.core import Grid, GridSpec, Levels
from subbyte.records.aciq import Clipped, Clipping, Optimum
from subbyte.stats.priors import Prior, alpha, exact_alpha, formula_mse, level_mse

PRIORS: tuple[tuple[Prior, bool], ...] = (
    ("laplace", False),
    ("laplace", True),
    ("gauss", False),
    ("gauss", True),
)
"""Priors, and whether after a ReLU."""
_POINTS = 60  # closer together near 0, where few bits have their optimum
_FURTHEST = {"laplace": 14.0, "gauss": 6.0}


def optima(widths: Iterable[int]) -> list[Optimum]:
    """One row a prior and width."""
    return [_optimum(prior, one_sided, bits) for prior, one_sided in PRIORS for bits in widths]


def _optimum(prior: Prior, one_sided: bool, bits: int) -> Optimum:
    steps = 2**bits - 1
    ours, paper, best = (
        alpha(prior, steps, one_sided),
        alpha(prior, 2**bits, one_sided),
        exact_alpha(prior, steps, one_sided),
    )
    errors = [
        float(level_mse(prior, a * _shape(bits, one_sided), one_sided=one_sided))
        for a in (ours, paper, best)
    ]
    return Optimum(
        prior=prior,
        one_sided=one_sided,
        bits=bits,
        alpha=ours,
        alpha_paper=paper,
        alpha_best=best,
        mse=errors[0],
        mse_paper=errors[1],
        mse_best=errors[2],
        mse_paper_promises=float(formula_mse(prior, np.asarray(paper), 2**bits, one_sided)),
    )


def _shape(bits: int, one_sided: bool) -> Any:
    """Levels whose outermost is 1."""
    return np.linspace(0.0 if one_sided else -1.0, 1.0, 2**bits)


def curve(prior: Prior, one_sided: bool, bits: int, samples: int, seed: int) -> list[Clipped]:
    """The error of clipping from near 0 to beyond the optimum of 8 bits."""
    values = draw(prior, samples, torch.Generator().manual_seed(seed))
    values = values.clamp_min(0) if one_sided else values
    shape = _shape(bits, one_sided)
    spec = GridSpec(Levels(tuple(shape)))
    points = []
    for a in _FURTHEST[prior] * np.linspace(0, 1, _POINTS + 1)[1:] ** 1.6:
        error = (Grid.of(spec, torch.tensor(a)).quantize(values) - values).square().mean()
        expected = float(level_mse(prior, a * shape, one_sided=one_sided))
        paper = float(formula_mse(prior, a, 2**bits, one_sided))
        points.append(
            Clipped(
                prior=prior,
                one_sided=one_sided,
                bits=bits,
                alpha=float(a),
                paper=paper,
                expected=expected,
                simulated=float(error),
                samples=samples,
                seed=seed,
            )
        )
    return points


def compute(
    widths: tuple[int, ...], samples: int, seed: int, done: Callable[[int, int, str], None]
) -> Clipping:
    """Optima, and the error over places of clipping. done: called with (k, of n, what) on the
    way.
    """
    points: list[Clipped] = []
    for number, (prior, one_sided) in enumerate(PRIORS, 1):
        for bits in widths:
            points += curve(prior, one_sided, bits, samples, seed)
        done(number, len(PRIORS), f"{prior}, {'after a ReLU' if one_sided else 'signed'}")
    return Clipping(optima(widths), points)
