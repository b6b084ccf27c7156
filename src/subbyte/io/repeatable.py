"""The same numbers whatever the number of threads, and however many samples are gone through at
once.

MKL adds products up in other orders for other numbers of threads unless it is told not to
(conditional numerical reproducibility). Factors of matrices and sums of all numbers of a tensor
still depend on them; these take one thread. Sums over samples are taken in units, of which so many
are gone through at once as `pieces` says.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

_ORDERS = {"AVX512": "AVX512,STRICT", "AVX2": "AVX2,STRICT"}
"""The order that MKL is told, by torch's name of the processor's instructions."""


def fix_order() -> None:
    """Let MKL add up in one order, whatever the number of threads. Without effect where MKL has
    computed before, where the user has chosen an order, and where there is no MKL.
    """
    order = _ORDERS.get(torch.backends.cpu.get_cpu_capability())
    if order is not None:
        os.environ.setdefault("MKL_CBWR", order)


UNIT = 16
"""Samples whose numbers are added up at once; sums of units are added up in order."""


def pieces(count: int, most: int) -> list[slice]:
    """The samples that are gone through at once: whole units, `most` samples or the next multiple
    of a unit. What is left over in the end belongs to the last piece: other kernels compute with a
    few samples than with many.
    """
    step = -(-most // UNIT) * UNIT
    starts = list(range(0, max(1, count - count % UNIT), step))
    return [slice(*ends) for ends in zip(starts, [*starts[1:], count], strict=True)]


_APART = 1_000_003  # a prime above any number of steps, so that (seed, number) pairs do not meet


def seed_of(seed: int, number: int) -> int:
    """The seed of one step or epoch: what it draws is the same whenever it is done."""
    return seed * _APART + number


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within, torch computes with so many threads; 0: as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_thread() -> AbstractContextManager[None]:
    """Within, torch computes with one thread."""
    return threads(1)


def threads_for(samples: int) -> AbstractContextManager[None]:
    """Within, torch computes with one thread where there are fewer samples than a unit: its
    convolutions of few samples depend on the number of threads.
    """
    return threads(1 if samples < UNIT else 0)


def total(values: Tensor) -> Tensor:
    """The sum of all numbers."""
    with one_thread():
        return values.sum()


def power(values: Tensor) -> Tensor:
    """The sum of the squares of values [samples, ...], unit by unit: float64."""
    units = torch.atleast_1d(values).split(UNIT)
    return torch.stack([total(unit.square()) for unit in units]).double().sum()
