"""The contracts of tuning: how a network that is being quantized, or is quantized, learns from the
float one.
"""

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from subbyte.core.ladders import Ladder
from subbyte.io.numbers import Bounded
from subbyte.methods.quantizing import Forward, Loss, Method

log = logging.getLogger("subbyte")
T = TypeVar("T", bound="Tune")


class Tune(Method, ABC, contract=True):
    """Lets what is not fixed learn from the float network: of one of the two kinds below."""

    @property
    def needs_labels(self) -> bool:
        """Whether it reads the labels of the calibration images."""
        return False

    @property
    def learns_with(self) -> int:
        """The threads that it learns with: sums of gradients depend on their number, so a plan says
        it. 0: as many as torch has.
        """
        return 0

    def with_threads(self, threads: int) -> Self:
        """The same method with so many threads."""
        return self


def counted(method: T) -> T:
    """A method that says how many threads it learns with: as many as torch has now, which a warning
    says, unless it does already.
    """
    if method.learns_with:
        return method
    count = torch.get_num_threads()
    log.warning(
        "learns with %d threads, as plan.yaml states; with others results may differ", count
    )
    return method.with_threads(count)


class TuneLayers(Tune, ABC, contract=True):
    """Learns while the walk goes on: later layers make up for each one that is rounded."""

    @property
    def samples_a_step(self) -> int:
        """Calibration samples of each of the batches that it is given."""
        return 64

    @abstractmethod
    def after_layer(
        self, forward: Forward, parameters: dict[str, Tensor], logits: list[Tensor]
    ) -> dict[str, Tensor]:
        """Learn after a layer is rounded; return new values of the parameters, by name.

        parameters: weights and biases of later layers, and the layer's bias; logits: of the float
            network, by batch.
        """

    @abstractmethod
    def at_end(
        self,
        forward: Forward,
        parameters: dict[str, Tensor],
        logits: list[Tensor],
        labels: list[Tensor] | None,
        loss: Loss = F.cross_entropy,
    ) -> dict[str, Tensor]:
        """Learn after the last layer; return new biases, and factors on the scales of each layer's
        rows, by name.

        labels: of the calibration images, or other targets, by batch, where the caller has them;
        loss: of outputs by labels, that of the task.
        """


class Learned(Enum):
    """The kinds of what a trainable network learns: each has a learning rate of its own."""

    LATENT = "latent weights"  # in steps of their scales
    SCALE = "scales of weights"  # their logarithms
    RANGE = "ranges of activations"  # logarithms of scales; zero points
    BIAS = "biases"
    FLOAT = "what stays float"


@dataclass(frozen=True)
class Course:
    """The length of tuning, and what it is done with.

    steps: updates; batch: views a step; temperature: at which distributions of classes are
    compared; held: share of the samples that are kept apart, to judge by; seed: of all that is
    random; mixed: whether networks compute in bfloat16 where autocast allows it; seconds: from
    which the steps are reckoned, in place of what is stated, where above 0.
    """

    steps: int
    batch: int
    temperature: float
    held: float
    seed: int
    mixed: bool = False
    seconds: float = 0.0


class Estimator(Bounded, ABC):
    """Says what a weight that is learned is while it is still on its way to its grid."""

    @abstractmethod
    def value(self, steps: Tensor, ladder: Ladder, progress: float) -> Tensor:
        """The weight that the network computes with, in steps of its scale.

        steps: latent weights [rows, columns], which stay as they are; ladder: their grid; progress:
        the part of training that is over, from 0 to 1, at which weights are on the grid.
        """

    def kept(self, steps: Tensor, generator: torch.Generator) -> Tensor:
        """The latent weights that are kept after an update: all that there are, by default.

        steps: in steps of the scales that learning began with.
        """
        return steps


class TuneNetwork(Tune, ABC, contract=True):
    """Learns after the walk: the whole quantized network from the float one, on the calibration
    samples, without labels.
    """

    @property
    @abstractmethod
    def course(self) -> Course:
        """How long it learns."""

    @abstractmethod
    def with_steps(self, steps: int) -> "TuneNetwork":
        """The same method with so many steps."""

    @property
    @abstractmethod
    def weights(self) -> Estimator:
        """Says what latent weights are on the way."""

    @abstractmethod
    def rate(self, kind: Learned, progress: float) -> float:
        """Adam's step for parameters of a kind when so much of the course is over, 0 to 1."""

    @abstractmethod
    def views(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images [b, channels, height, width] as the networks see them in one step: others of the
        same shape.
        """
