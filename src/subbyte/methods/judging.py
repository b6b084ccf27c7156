"""The contract of tasks: how a network's outputs are judged by targets, and by another network's
outputs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import nan
from typing import ClassVar

import torch
from torch import Tensor

from subbyte.io.numbers import Bounded

Outputs = tuple[Tensor, ...]
"""The tensors of a network's output, in order, each [b, ...]: its heads."""
Targets = tuple[Tensor, ...]
"""The values wanted of the first heads, each [b, ...]: int64 classes, or float32."""


@dataclass(frozen=True)
class Measure:
    """The name of a figure, and how to read it.

    unit: '%' or another, '' for a plain number; higher: whether more is better.
    """

    name: str
    unit: str = ""
    higher: bool = True


def _unknown(_: Tensor) -> float:
    return nan


@dataclass(frozen=True, eq=False)
class Tally:
    """A figure while it is counted, batch by batch, so that no outputs need to be kept.

    counted: float64, of some samples; join: puts it together with that of others (adds unless told
    otherwise); figure: the figure of all that was counted, NaN where there was nothing to measure;
    error: its standard error, NaN where that is not known; head: the output's number.
    """

    measure: Measure
    counted: Tensor
    figure: Callable[[Tensor], float]
    join: Callable[[Tensor, Tensor], Tensor] = torch.add
    error: Callable[[Tensor], float] = _unknown
    head: int = 0

    def add(self, other: "Tally") -> "Tally":
        """The tally of the samples of both."""
        return replace(self, counted=self.join(self.counted, other.counted))


class Task(Bounded, ABC):
    """Says how outputs are judged: a frozen dataclass of settings with three verbs on the outputs
    of one batch. The figures of several batches are those of all their samples. Outputs and targets
    are on one device, which training chooses.
    """

    per_head: ClassVar[bool] = False
    """Whether it judges one output alone; a network of several then has one for each."""

    def check(self, outputs: Outputs, targets: Targets) -> None:
        """Raise DataError where these targets can't be those of such outputs.

        outputs: of a few samples; targets: of all that are in memory.
        """
        del outputs, targets

    @abstractmethod
    def score(self, outputs: Outputs, targets: Targets) -> list[Tally]:
        """How right outputs are."""

    @abstractmethod
    def compare(self, outputs: Outputs, others: Outputs) -> list[Tally]:
        """How near outputs are to those of another network, usually the float one."""

    @abstractmethod
    def loss(self, outputs: Outputs, targets: Targets) -> Tensor:
        """The mean loss of a batch, with gradients: that which training and tuning make small; 0
        where there is nothing to take the mean of.
        """

    def imitation(self, outputs: Outputs, others: Outputs, temperature: float) -> Tensor:
        """The mean distance of outputs from those of the float network, with gradients: that which
        learning without targets makes small.

        temperature: at which distributions of classes are compared, where outputs are such. Unless
        told otherwise the square of the difference, in units of the variance of the other output.
        """
        del temperature
        pairs = [(a, b) for a, b in zip(outputs, others, strict=True) if b.is_floating_point()]
        return torch.stack([relative_square(own, other) for own, other in pairs]).sum()

    def counted(self, targets: Targets) -> int:
        """How many samples, pixels or the like the loss of these targets' batch is the mean of: so
        much it weighs among those of other batches.
        """
        return len(targets[0])


def relative_square(output: Tensor, other: Tensor) -> Tensor:
    """Mean square of the difference, in units of the other's variance, with gradients."""
    spread = other.var().clamp_min(torch.finfo(other.dtype).tiny)
    return (output - other).square().mean() / spread
