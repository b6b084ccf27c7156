"""How much a quantized network loses against the float one, with an interval, and the search for
the smallest size that loses little enough. No network is needed for any of it.

    drop    = s (f - q)                            s: 1 where more is better, else -1
    error^2 = (G - 1) / G  sum_g (drop_-g - mean)^2
                                                   delete-a-group jackknife (Tukey 1958)
    half    = max(t error,  100 ln(1 / tail) / n)  the second for percentages

f, q: the figure of the float and of the quantized network on the same samples; drop_-g: the drop on
all groups of samples but g; t: Student's, of G - 1 degrees of freedom, exceeded with probability
`tail`; n: samples. The jackknife is that of any figure that can be counted in groups, means and
ratios alike; as both networks see the same samples, what is hard for both cancels. Where no sample
differs the error is 0, and a share of ln(1 / tail) / n may still do so.

A bisection among r sizes takes at most log2(r + 1) decisions. If each of k decisions is wrong with
probability alpha / k at most, all are right with 1 - alpha at least (Bonferroni), whatever the
order in which they are taken and however sizes and drops hang together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, inf, isfinite, log

import torch
from scipy.special import stdtrit

from subbyte.methods import Tally, calls

_PERCENT = "%"


@dataclass(frozen=True)
class Drop:
    """The loss of a network in units of a figure, and the ends of its interval: each is exceeded
    with the probability that was asked for. NaN and infinite where it can't be told.
    """

    value: float
    low: float
    high: float


def paired_drop(own: Sequence[Tally], others: Sequence[Tally], samples: int, tail: float) -> Drop:
    """The drop from the figure of the float network (`others`) to that of a quantized one.

    own, others: of two or more groups of samples, the same groups; samples: in all groups; tail:
    see the module's text.
    """
    measure, groups = own[0].measure, len(own)
    sign = 1.0 if measure.higher else -1.0
    ours, theirs = _left_out(own), _left_out(others)
    drops = torch.tensor(
        [sign * (calls.figure(b) - calls.figure(a)) for a, b in zip(ours, theirs, strict=True)],
        dtype=torch.float64,
    )
    value = sign * (calls.figure(_joined(others)) - calls.figure(_joined(own)))
    spread = float(((groups - 1) / groups * (drops - drops.mean()).square().sum()).sqrt())
    half = float(stdtrit(groups - 1, 1 - tail)) * spread
    if measure.unit == _PERCENT:
        half = max(half, 100 * log(1 / tail) / samples)
    if not (isfinite(value) and isfinite(half)):
        return Drop(value, -inf, inf)
    return Drop(value, value - half, value + half)


def _joined(tallies: Sequence[Tally]) -> Tally:
    found = tallies[0]
    for one in tallies[1:]:
        found = calls.add(found, one)
    return found


def _left_out(tallies: Sequence[Tally]) -> list[Tally]:
    """The tallies of all groups but one, for each."""
    before, after = list(tallies[:1]), list(tallies[-1:])
    for one, other in zip(tallies[1:], tallies[-2::-1], strict=True):
        before.append(calls.add(before[-1], one))
        after.append(calls.add(other, after[-1]))
    after.reverse()
    middle = [calls.add(before[k - 1], after[k + 1]) for k in range(1, len(tallies) - 1)]
    return [after[1], *middle, before[-2]]


def fewest_samples(most: float, tail: float) -> int:
    """Samples below which no network can be shown to lose less than so many percent."""
    return ceil(100 * log(1 / tail) / most)


def decisions(sizes: int) -> int:
    """How many a bisection among so many sizes takes at most."""
    return sizes.bit_length()


def smallest(sizes: int, holds: Callable[[int], bool]) -> int | None:
    """The first of sizes 0 ... n - 1 for which something holds that then holds for all larger ones,
    by bisection; None where it does not hold for the last.
    """
    low, high = 0, sizes
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low if low < sizes else None


def ladder(least: int, most: int, sizes: int) -> list[int]:
    """Rising whole numbers from the least to the most, each about the same factor above the one
    before; fewer where there are not so many.
    """
    factor = (most / least) ** (1 / (sizes - 1))
    inside = (ceil(least * factor**k) for k in range(1, sizes - 1))
    return sorted({least, *(size for size in inside if least < size < most), most})
