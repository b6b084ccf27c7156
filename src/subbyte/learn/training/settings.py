"""Everything that a training run is determined by, besides the network and the data."""

from dataclasses import dataclass
from typing import Any

import torch

from subbyte.errors import RecipeError
from subbyte.io.numbers import Bounded, Count, Natural, NotNegative, Positive, Share
from subbyte.io.registry import Registry
from subbyte.learn.optimizers import OPTIMIZERS, GridSettings
from subbyte.learn.optimizers.plain import Sgd
from subbyte.learn.qat import WEIGHT_QUANTIZERS
from subbyte.learn.training.augment import AUGMENTATIONS, Unchanged
from subbyte.learn.training.lr_schedules import LR_SCHEDULES, Cosine
from subbyte.methods import Augmentation, Estimator, LrSchedule, Optimizer, Task, WeightQuantizer
from subbyte.tasks import TASKS
from subbyte.tuning.estimators import ESTIMATORS, Straight

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""The number types of the forward pass, by name."""
METHODS: dict[str, Registry[Any]] = {
    "optimizer": OPTIMIZERS,
    "lr_schedule": LR_SCHEDULES,
    "augment": AUGMENTATIONS,
    "qat": WEIGHT_QUANTIZERS,
    "estimator": ESTIMATORS,
}
"""The registries of the settings that are methods."""
SGD, COSINE, UNCHANGED, STRAIGHT = Sgd(), Cosine(), Unchanged(), Straight()


@dataclass(frozen=True)
class TrainSettings(Bounded):
    """The settings of training.

    epochs: passes over the training images. batch_size: images a step, of each process. lr:
    learning rate at its highest. optimizer, lr_schedule, augment: methods of OPTIMIZERS,
    LR_SCHEDULES, AUGMENTATIONS. tasks: of TASKS, whose losses are made small and whose scores are
    logged: one task, or one for each output; none: chosen by targets and outputs. warmup: epochs
    over which the learning rate rises from 0. validation: training images kept apart, whose scores
    are logged every epoch. evaluate_every: epochs between two
    measurements. seed: of order, augmentation and whatever else is random. precision: of the
    forward pass, a name of PRECISIONS, where autocast allows it. log_every: steps between two rows
    of the log. qat: one of WEIGHT_QUANTIZERS, by which a float network computes with low-bit
    weights; None: it stays float, or is quantized already. float_layers: patterns of layers whose
    weights are float all the same. estimator: of ESTIMATORS, by which weights of a quantized
    network are on their way to their grids. distill: share of the loss that is the distance from
    the float network's outputs, where a quantized network learns.
    Raises RecipeError where a value is out of range, or two do not go together.
    """

    epochs: Count = 20
    batch_size: Count = 128
    lr: Positive = 0.1
    optimizer: Optimizer[GridSettings] = SGD
    lr_schedule: LrSchedule = COSINE
    tasks: tuple[Task, ...] = ()
    warmup: NotNegative = 0.0
    augment: Augmentation = UNCHANGED
    validation: Natural = 0
    evaluate_every: Count = 1
    seed: Natural = 0
    precision: str = "float32"
    log_every: Count = 10
    qat: WeightQuantizer | None = None
    float_layers: tuple[str, ...] = ()
    estimator: Estimator = STRAIGHT
    distill: Share = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup > self.epochs:
            raise RecipeError(f"warmup must be at most the {self.epochs} epochs, got {self.warmup}")
        if self.precision not in PRECISIONS:
            raise RecipeError(
                f"precision: unknown {self.precision!r}; known: {', '.join(PRECISIONS)}"
            )
        for name, registry in METHODS.items():
            if vars(self)[name] is not None:
                registry.check(vars(self)[name])
        for task in self.tasks:
            TASKS.check(task)
        if self.qat is not None:
            self.qat.check(self.optimizer, self.estimator)
        elif self.float_layers:
            raise RecipeError("float_layers are exempt from qat, and without it all are float")

    @classmethod
    def of(cls, **said: Any) -> "TrainSettings":
        """Settings as they are said: methods by name, or as mappings of `name` and settings.

        Raises RecipeError for unknown names and settings as well.
        """
        methods = {
            name: registry.build(said[name])
            for name, registry in METHODS.items()
            if said.get(name) is not None
        }
        tasks = tuple(TASKS.build(task) for task in said.get("tasks", ()))
        return cls(**said | methods | {"tasks": tasks})

    def plain(self) -> dict[str, Any]:
        """All settings, every one of the methods', as plain values for JSON; inverse of `of`."""
        own = vars(self)
        methods = {
            name: registry.settings(own[name])
            for name, registry in METHODS.items()
            if own[name] is not None
        }
        return own | methods | {"tasks": [TASKS.settings(task) for task in self.tasks]}
