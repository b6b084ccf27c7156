"""The contracts of training: optimizers, schedules, weight quantizers, augmentations."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from subbyte.io.numbers import Bounded, Whole
from subbyte.methods.tuning import Estimator, Learned


@dataclass(frozen=True)
class Telemetry:
    """An optimizer's report on its last step; None where it has nothing to say.

    index: resolution that updates were rounded to. moved: share of updates that were not 0 after
    rounding, percent. saturated: share of codes at an end of their grid, percent. temperature:
    1 / (24 lr Qp^2), that of the noise which rounding makes.
    """

    index: float | None = None
    moved: float | None = None
    saturated: float | None = None
    temperature: float | None = None


class Updates(torch.optim.Optimizer):
    """An optimizer of torch's kind that reports how its last step went."""

    def telemetry(self) -> Telemetry:
        """The last step in numbers; may read from the device."""
        return Telemetry()


@dataclass(frozen=True)
class Trained:
    """A training run as optimizers see it.

    params: all that is trained, in order. layers: those of them that are weights of layers and may
    go on grids, with output channels along axis 0. lr: learning rate at its highest. steps: an
    epoch. epochs: of the run.
    """

    params: Sequence[Tensor]
    layers: Sequence[Tensor]
    lr: float
    steps: int = 1
    epochs: int = 1


SGD_RATE, ADAM_RATE = 0.1, 0.002
"""The usual learning rates of SGD, AdamW, and their like."""
GridT = TypeVar("GridT")


class Optimizer(Bounded, ABC, Generic[GridT]):
    """Makes what moves the weights in training. GridT: what says how weights are kept on a grid."""

    keeps_grid: ClassVar[bool] = False
    """Whether `build_on_grid` works."""
    rate: ClassVar[float] = SGD_RATE
    """The learning rate that networks with normalization layers train well with."""

    @abstractmethod
    def build(self, trained: Trained) -> Updates:
        """The optimizer of a run. Raises RecipeError for settings out of range."""

    def build_on_grid(self, trained: Trained, grid: GridT) -> Updates:
        """The optimizer that keeps the weights of layers on a grid in place of float ones."""
        raise NotImplementedError


class LrSchedule(Bounded, ABC):
    """Says how the learning rate goes over a run."""

    @abstractmethod
    def factor(self, epoch: float, epochs: float) -> float:
        """The learning rate's factor, from 0 to 1, when `epoch` of `epochs` are over."""


class ResolutionSchedule(Bounded, ABC):
    """Says when the resolution rises that updates are rounded to: its index h.

    Where time alone decides, `index` says it all. Where `measured` is set, `index` says where it
    begins, and it rises by 1 after a step that is `due` and has moved at most `share` of the
    numbers that it could have.
    """

    measured: ClassVar[bool] = False
    share: float = 0.0

    @property
    def by_tensor(self) -> bool:
        """Whether each tensor has an index of its own; else all numbers have one together."""
        return False

    @abstractmethod
    def index(self, start: int, step: int, base: int, eta: float) -> int:
        """The index after `step` steps of a run that starts with h = `start`; steps of the lattice
        are 1 / (eta base^h).
        """

    def due(self, steps: int) -> bool:
        """Whether to measure after so many steps."""
        return False

    def for_run(self, steps: int) -> "ResolutionSchedule":
        """The schedule of a run whose epochs have so many steps."""
        return self


class UpdateRounding(Bounded, ABC):
    """Rounds updates that are counted in steps of the lattice."""

    random: ClassVar[bool] = False
    """Whether it draws random numbers."""
    to_lattice: ClassVar[bool] = True
    """Whether whole numbers come out."""

    @abstractmethod
    def round(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x: float, of any shape; is overwritten by the result and returned."""


@dataclass(frozen=True)
class WeightQuantizer(Bounded, ABC):
    """Says how a network whose weights are float computes with low-bit ones while it is trained.

    bits: of the codes of weights; activation_bits: of what layers multiply; None: float.
    """

    kept: ClassVar[frozenset[Learned]] = frozenset()
    """The kinds that stay as they begin."""

    bits: Annotated[int, Whole(2, 8)] = 4
    activation_bits: Annotated[int, Whole(2, 8)] | None = None

    @property
    def widening(self) -> float:
        """The factor on scales that fit the weights best, to begin with."""
        return 1.0

    def check(self, optimizer: Optimizer[Any], estimator: Estimator) -> None:
        """Raise RecipeError for an optimizer or an estimator that it can't go with."""

    def build(self, optimizer: Optimizer[Any], trained: Trained) -> Updates:
        """The optimizer of a run with such weights."""
        return optimizer.build(trained)


class Augmentation(Bounded, ABC):
    """Changes training images at random."""

    moves: ClassVar[bool] = True
    """Whether pixels change place: targets that say where things are would be wrong then."""

    @abstractmethod
    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """images: float32 [b, C, H, W], which stay as they are; draws: uniform random numbers from
        0 to 1, [b, 5], of which each image has a row: place down and across, mirroring, area,
        shape. Returns images of the same shape.
        """
