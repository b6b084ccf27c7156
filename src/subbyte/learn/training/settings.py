"""Everything that a training run is determined by, besides the network and the data."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from subbyte.errors import RecipeError
from subbyte.io.registry import Method
from subbyte.learn.training.augment import AUGMENTATIONS
from subbyte.learn.training.rates import RATES

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class TrainSettings:
    """How to train.

    epochs: passes over the training images. batch_size: images a step, of each process. lr:
    learning rate at its highest. optimizer: a name of `optim.OPTIMIZERS`, or a mapping with `name`
    and its settings. rate: a name of `rates.RATES`. warmup: epochs over which the learning rate
    rises from 0. label_smoothing: share of a label that is spread over all classes. augment: a name
    of `augment.AUGMENTATIONS`. validation: training images kept apart, whose accuracy is logged
    every epoch. evaluate_every: epochs between two measurements. seed: of order, augmentation and
    whatever else is random. precision: of the forward pass, 'float32', or 'bfloat16' where autocast
    allows it.
    log_every: steps between two rows of the log. quantizer: a name of `weights.QUANTIZERS`, by
    which layers compute with rounded weights, or a mapping. float_layers: patterns of layers whose
    weights are not put on grids.
    Raises RecipeError where a value is out of range.
    """

    epochs: int = 20
    batch_size: int = 128
    lr: float = 0.1
    optimizer: Method = "sgd"
    rate: str = "cosine"
    warmup: float = 0.0
    label_smoothing: float = 0.0
    augment: str = "none"
    validation: int = 0
    evaluate_every: int = 1
    seed: int = 0
    precision: str = "float32"
    log_every: int = 10
    quantizer: Method | None = None
    float_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "evaluate_every", "log_every"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if not isfinite(self.lr) or self.lr <= 0:
            raise RecipeError(f"lr must be a positive number, got {self.lr}")
        if not 0 <= self.warmup <= self.epochs:
            raise RecipeError(
                f"warmup must be from 0 to the {self.epochs} epochs, got {self.warmup}"
            )
        if not 0 <= self.label_smoothing < 1:
            raise RecipeError(
                f"label_smoothing must be from 0 to below 1, got {self.label_smoothing}"
            )
        if self.validation < 0 or not 0 <= self.seed < 2**31:
            raise RecipeError(
                f"validation must be 0 or more, seed from 0 to 2^31 - 1; got {self.validation}, "
                f"{self.seed}"
            )
        choices: dict[str, Collection[str]] = {
            "rate": RATES,
            "augment": AUGMENTATIONS,
            "precision": PRECISIONS,
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise RecipeError(
                    f"{name}: unknown {getattr(self, name)!r}; known: {', '.join(known)}"
                )
        optimizer = (
            self.optimizer if isinstance(self.optimizer, str) else str(self.optimizer.get("name"))
        )
        if self.quantizer is not None and optimizer.startswith("grid-"):
            raise RecipeError(
                f"a quantizer rounds float weights, and {optimizer} keeps none; choose "
                f"{optimizer.removeprefix('grid-')}, or do without the quantizer"
            )

    def plain(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)
