"""Slow float64 references of the range methods, in numpy: one block of values at a time."""

import numpy as np

from subbyte.core import GridSpec
from tests.reference.grids import positions


def representable(spec: GridSpec, scale: float, zero_point: int = 0) -> np.ndarray:
    """All numbers of a grid, ascending."""
    return (positions(spec.alphabet)[0].numpy() - zero_point) * scale


def cost(values: np.ndarray, weights: np.ndarray, choices: np.ndarray, power: float = 2.0) -> float:
    """sum of weights * |error|^power when each value goes to its nearest choice."""
    above = np.searchsorted(choices, values).clip(1, len(choices) - 1)
    error = np.minimum(np.abs(values - choices[above - 1]), np.abs(values - choices[above]))
    return float((weights * error**power).sum())


def finest(
    values: np.ndarray,
    weights: np.ndarray,
    spec: GridSpec,
    power: float = 2.0,
    steps: int = 120,
) -> float:
    """Least cost over every zero point and `steps` scales, up to the one that covers all it can."""
    best = np.inf
    for zero in spec.alphabet.zero_points:
        unit = representable(spec, 1.0, zero)
        ends = ((values.min(), unit[0]), (values.max(), unit[-1]))
        largest = max(end / code for end, code in ends if code)
        for scale in largest * (np.arange(steps) + 1) / steps if largest > 0 else []:
            best = min(best, cost(values, weights, unit * scale, power))
    return best


def quantile_ends(values: np.ndarray, counts: np.ndarray, percent: float) -> tuple[float, float]:
    """The smallest and largest values left when up to (100 - percent) / 2 % are cut at either
    end.
    """
    each = np.sort(np.repeat(values, counts))
    cut = int(np.floor(len(each) * (100 - percent) / 200 + 1e-9))
    return float(each[cut]), float(each[len(each) - 1 - cut])
