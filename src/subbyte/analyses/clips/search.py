"""The options of a clip search."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from torch import Tensor

from subbyte.errors import RecipeError
from subbyte.io.numbers import Bounded, Count, Natural, NotNegative, Seed, Whole
from subbyte.ranges.clips import fractions
from subbyte.ranges.metrics import metric_name, parse_metric
from subbyte.records.clips import LOSS


class Granularity(StrEnum):
    """The weights that share a clip."""

    NETWORK = "network"
    LAYER = "layer"
    CHANNEL = "channel"

    def units(self, weight: Tensor) -> int:
        """How many clips a layer has with a weight matrix [rows, columns]."""
        return len(weight) if self is Granularity.CHANNEL else 1


class Labels(StrEnum):
    """The labels that the gradients' loss is measured against."""

    TRUE = "true"
    SAMPLED = "sampled"


GRANULARITIES = tuple(Granularity)


@dataclass(frozen=True)
class Search(Bounded):
    """The options of a clip search, as `subbyte gradquant` takes them.

    bits: widths; clip: fractions of the range, the first left out; resolution: clips tried;
    metrics: as `metrics.parse_metric` reads them, or `loss` (which is free for the whole network);
    granularities: who shares a clip (a layer has one range unless each channel has its own clip);
        apart: lower and upper end each on its own;
    symmetric: no zero point; labels: what the gradients' loss is measured against; grad_batches: of
    `batch_size` calibration images, at most; calibration, evaluate: training images; seed: of their
    draw.
    Raises RecipeError when these do not fit together.
    """

    bits: tuple[int, ...] = tuple(range(1, 9))
    clip: tuple[NotNegative, NotNegative] = (0.0, 1.0)
    resolution: Annotated[int, Whole(1, 10**6)] = 100
    metrics: tuple[str, ...] = ("mse:2", "grad:1", "grad:1.5", "fisher", "gauss_newton", "kl")
    granularities: tuple[Granularity, ...] = (Granularity.NETWORK,)
    apart: bool = False
    symmetric: bool = True
    labels: Labels = Labels.SAMPLED
    grad_batches: Count = 16
    batch_size: Count = 64
    calibration: Count = 500
    evaluate: Natural = 0
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        fractions(*self.clip, self.resolution)
        names = tuple(
            LOSS if text == LOSS else metric_name(parse_metric(text)) for text in self.metrics
        )
        object.__setattr__(self, "metrics", names)
        for name, chosen, valid in (
            ("bits", self.bits, range(1, 9)),
            ("granularity", self.granularities, GRANULARITIES),
            ("labels", (self.labels,), tuple(Labels)),
        ):
            if not chosen or not set(chosen) <= set(valid):
                raise RecipeError(
                    f"{name} must be of {', '.join(map(str, valid))}; got "
                    f"{', '.join(map(str, chosen))}"
                )
        object.__setattr__(self, "granularities", tuple(map(Granularity, self.granularities)))
        object.__setattr__(self, "labels", Labels(self.labels))
        if not self.proxies or len(set(names)) < len(names):
            raise RecipeError(
                f"metrics must be one or more besides loss, each once; got "
                f"{', '.join(names) or 'none'}"
            )
        if self.apart and self.symmetric:
            raise RecipeError(
                "ends are searched apart on asymmetric grids only: a symmetric one has a single "
                "reach"
            )
        if LOSS in names and not self.evaluate:
            raise RecipeError(
                "the true loss is measured on images to evaluate on: give their number"
            )
        if LOSS in names and Granularity.CHANNEL in self.granularities:
            raise RecipeError(
                "the true loss of every clip of every channel would take thousands of evaluations "
                "of the network; "
                "leave out loss, or search per network or layer"
            )

    @property
    def proxies(self) -> tuple[str, ...]:
        """The metrics that read tensors only."""
        return tuple(name for name in self.metrics if name != LOSS)
