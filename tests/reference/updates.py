"""Optimizers number by number, straight from their definitions: Python's floats, or fractions,
where nothing is lost.

Tensors are lists of numbers, a network is a list of tensors; gradients are [steps][tensors], None
where there is none. Every function yields what there is after each step.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import floor, log, sqrt, tanh

Numbers = list[float]
Network = list[Numbers]
Gradients = list[list[Numbers | None]]


def nearest(x: float, resolution: float) -> Fraction:
    """Q(x; Qp) = floor(Qp x + 1/2) / Qp, without error."""
    exact = Fraction(resolution)
    return floor(Fraction(x) * exact + Fraction(1, 2)) / exact


def half_up(x: float, index: int) -> float:
    return floor(x * 2.0**index + 0.5) / 2.0**index


@dataclass
class Adam:
    """AdamW's step of one tensor as published: eps before the bias correction."""

    size: int

    def __post_init__(self) -> None:
        self.mean, self.square = [0.0] * self.size, [0.0] * self.size

    def step(self, gradient: Numbers, lr: float, t: int) -> tuple[Numbers, float]:
        """What to move by, and the learning rate with its bias corrected."""
        self.mean = [0.9 * m + 0.1 * g for m, g in zip(self.mean, gradient, strict=True)]
        self.square = [
            0.999 * v + 0.001 * g * g for v, g in zip(self.square, gradient, strict=True)
        ]
        rate = lr * sqrt(1 - 0.999**t) / (1 - 0.9**t)
        return [
            -rate * m / (sqrt(v) + 1e-6) for m, v in zip(self.mean, self.square, strict=True)
        ], rate


def published_2021(
    network: Network,
    gradients: Gradients,
    lr: float,
    index: int,
    adaptive: bool,
    weight_decay: float = 0.0,
) -> Iterator[tuple[Network, int]]:
    """QtSGD and QtAdamW of 2021: weights and index."""
    network, moments, index = (
        [list(w) for w in network],
        [Adam(len(w)) for w in network],
        max(index, 0),
    )
    for t, step in enumerate(gradients, 1):
        for k, g in enumerate(step):
            if g is None:
                continue
            h = moments[k].step(g, lr, t)[0] if adaptive else [-lr * x for x in g]
            u = [half_up(x, index) for x in h]
            while (adaptive or t > 1) and sum(u) == 0 and index <= 32:
                index += 1
                u = [half_up(x, index) for x in h]
            network[k] = _moved(network[k], u, lr * weight_decay if adaptive else 0.0)
        yield network, index


def published_2023(
    network: Network,
    gradients: Gradients,
    lr: float,
    steps: int,
    warm_up: float,
    adaptive: bool,
    weight_decay: float,
) -> Iterator[tuple[Network, int]]:
    """QSGD and QtAdamW of 2023: weights and the index of the step."""
    network, moments = [list(w) for w in network], [Adam(len(w)) for w in network]
    for t, step in enumerate(gradients, 1):
        epoch = (t - 1) / steps
        index = 19 + floor(log(log(epoch + 2), 2))
        gate = (1 + tanh(-2.0 * (epoch - warm_up))) / 2
        for k, g in enumerate(step):
            if g is None:
                continue
            h, rate = moments[k].step(g, lr, t) if adaptive else ([-lr * x for x in g], lr)
            norm = sqrt(sum(x * x for x in h))
            h = [x + gate * rate * x / norm for x in h] if norm else h
            u = [floor(2.0**index * x) / 2.0**index for x in h]
            network[k] = _moved(network[k], u, lr * weight_decay if adaptive else 0.0)
        yield network, index


def _moved(weights: Numbers, update: Numbers, decay: float) -> Numbers:
    moved = [w + u for w, u in zip(weights, update, strict=True)]
    return [w - decay * w for w in moved]


@dataclass(frozen=True)
class Stall:
    """The on-stall rule: index + 1 for whom at most `share` of the updates that are not 0 move."""

    share: float
    window: int
    by_tensor: bool
    cap: int

    def risen(self, indices: list[int], t: int, moved: list[int], due: list[int]) -> list[int]:
        """Indices of the tensors after step t (from 1), of whose `due` updates so many moved."""
        if t > self.window and t % self.window:
            return indices
        if not self.by_tensor:
            moved, due = [sum(moved)] * len(moved), [sum(due)] * len(due)
        stalled = [d > 0 and m <= self.share * d for m, d in zip(moved, due, strict=True)]
        return [min(index + up, self.cap) for index, up in zip(indices, stalled, strict=True)]


def qsgd(
    network: Network, gradients: Gradients, lr: float, index: int, stall: Stall
) -> Iterator[tuple[Network, list[int]]]:
    """Plain QSGD with ties up and the on-stall rule: weights, and the index of each tensor,
    exactly.
    """
    exact = [[Fraction(x) for x in w] for w in network]
    indices = [index] * len(network)
    for t, step in enumerate(gradients, 1):
        moved, due = [0] * len(network), [0] * len(network)
        for k, g in enumerate(step):
            h = [-Fraction(lr) * Fraction(x) for x in g or []]
            u = [nearest(x, 2.0 ** indices[k]) for x in h]
            moved[k], due[k] = sum(x != 0 for x in u), sum(x != 0 for x in h)
            if g is not None:
                exact[k] = [w + x for w, x in zip(exact[k], u, strict=True)]
        indices = stall.risen(indices, t, moved, due)
        yield [[float(x) for x in w] for w in exact], indices


@dataclass(frozen=True)
class OnGrid:
    """SGD on a grid of `bits`, updates adding up on `extra` more and rounded, ties up, to `index`
    bits.
    """

    bits: int
    extra: int
    index: int

    @property
    def ends(self) -> tuple[int, int]:
        """Smallest and largest fine code with a parent of `bits` bits."""
        return _ends(self)

    def parent(self, fine: int) -> int:
        """floor(f / 2^m + 1/2)."""
        return (2 * fine + 2**self.extra) // (2 * 2**self.extra)

    def moved(self, fine: list[int], scales: Numbers, gradient: Numbers, lr: float) -> list[int]:
        """Fine codes after a step."""
        unit = 2 ** (self.bits + self.extra - self.index)
        low, high = self.ends
        found = []
        for f, scale, g in zip(fine, scales, gradient, strict=True):
            h = -Fraction(lr) * Fraction(g) * 2**self.extra / (unit * Fraction(scale))
            found.append(min(max(f + unit * int(nearest(h, 1)), low), high))
        return found


@cache
def _ends(grid: OnGrid) -> tuple[int, int]:
    half = 2 ** (grid.bits - 1)
    inside = [f for f in range(-(2**16), 2**16) if -half <= grid.parent(f) < half]
    return inside[0], inside[-1]


def latent(
    weights: Numbers, scales: Numbers, gradients: list[Numbers], lr: float, grid: OnGrid
) -> Iterator[Numbers]:
    """Float weights behind rounded ones (straight-through estimator), kept where the grid's fine
    codes are kept.
    """
    low, high = ([end * s / 2**grid.extra for s in scales] for end in grid.ends)
    clamped = [min(max(w, a), b) for w, a, b in zip(weights, low, high, strict=True)]
    for g in gradients:
        moved = [w - lr * x for w, x in zip(clamped, g, strict=True)]
        clamped = [min(max(w, a), b) for w, a, b in zip(moved, low, high, strict=True)]
        yield clamped
