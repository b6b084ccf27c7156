"""The network that is trained: the user's own module, or a quantized network in trainable form."""

from abc import ABC, abstractmethod
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from subbyte.engine.judging import tensors_of
from subbyte.engine.limits import Limits
from subbyte.engine.stages import Report, silent
from subbyte.engine.trainable import Trainable, freeze
from subbyte.errors import RecipeError
from subbyte.exporters.packed import save
from subbyte.graph import Network, Samples
from subbyte.io.files import write_bytes
from subbyte.learn.qat import begun
from subbyte.learn.training.settings import STRAIGHT, TrainSettings
from subbyte.methods import Learned, Outputs, Task, Trained, Updates, calls
from subbyte.tuning.estimators import ESTIMATORS

WEIGHTS, PACKED = "model.safetensors", "quantized.safetensors"
_TEMPERATURE = 4.0  # at which the float network's answers are compared


class Subject(ABC):
    """A network in training. module: whose parameters learn."""

    module: nn.Module

    @abstractmethod
    def begin(self, settings: TrainSettings) -> None:
        """Make ready for these settings. Raises RecipeError where they do not fit."""

    @abstractmethod
    def optimizer(self, settings: TrainSettings, steps: int) -> Updates:
        """The optimizer of a run with so many steps an epoch. Raises RecipeError where its settings
        are out of range, and where there is no layer to put on a grid.
        """

    @abstractmethod
    def at(self, progress: float) -> None:
        """So much of the run is over, 0 to 1."""

    @abstractmethod
    def updated(self, seed: int) -> None:
        """Parameters have been updated. seed: of what is drawn then."""

    @abstractmethod
    def imitation(self, task: Task, outputs: Outputs, images: Tensor) -> Tensor:
        """The mean distance of outputs for images from those of the float network."""

    @abstractmethod
    def write(self, out: Path) -> None:
        """Write the network that computes now into the folder `out`."""


class Own(Subject):
    """The user's module, as it is."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def begin(self, settings: TrainSettings) -> None:
        """See `Subject`."""
        if settings.distill:
            raise RecipeError(
                "distill: there is no float network to learn from; train a quantized network, with "
                "--from, --recipe, or --qat and --weights"
            )
        if settings.estimator != STRAIGHT:
            raise RecipeError(
                f"estimator {ESTIMATORS.name(settings.estimator)}: weights are float; train a "
                f"quantized network, with --from, --recipe or --qat"
            )

    def optimizer(self, settings: TrainSettings, steps: int) -> Updates:
        """See `Subject`."""
        params = [p for p in self.module.parameters() if p.requires_grad]
        trained = Trained(params, (), settings.lr, steps, settings.epochs)
        return settings.optimizer.build(trained)

    def at(self, progress: float) -> None:
        """See `Subject`."""

    def updated(self, seed: int) -> None:
        """See `Subject`."""

    def imitation(self, task: Task, outputs: Outputs, images: Tensor) -> Tensor:
        """See `Subject`; `begin` refuses what would ask for it."""
        raise NotImplementedError

    def write(self, out: Path) -> None:
        """See `Subject`."""
        weights = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.module.state_dict().items()
        }
        write_bytes(out / WEIGHTS, safetensors.torch.save(weights))


class Quantized(Subject):
    """A quantized network that learns; teacher: the float network that it was made from."""

    def __init__(self, module: Trainable, teacher: nn.Module) -> None:
        self.module: Trainable = module
        self.teacher = teacher

    def begin(self, settings: TrainSettings) -> None:
        """See `Subject`."""
        if settings.qat is not None or settings.float_layers:
            raise RecipeError(
                "qat: the network is quantized already, as its recipe says; do without --qat and "
                "--float-layers"
            )
        self.teacher.to(next(self.module.parameters()).device)

    def optimizer(self, settings: TrainSettings, steps: int) -> Updates:
        """See `Subject`."""
        kinds = self.module.kinds
        params = [parameter for some in kinds.values() for parameter in some]
        latent = kinds[Learned.LATENT]
        trained = Trained(params, latent, settings.lr, steps, settings.epochs)
        return self._build(settings, trained)

    def _build(self, settings: TrainSettings, trained: Trained) -> Updates:
        return settings.optimizer.build(trained)

    def at(self, progress: float) -> None:
        """See `Subject`."""
        self.module.progress = progress

    def updated(self, seed: int) -> None:
        """See `Subject`."""
        self.module.settle(seed)

    def imitation(self, task: Task, outputs: Outputs, images: Tensor) -> Tensor:
        """See `Subject`."""
        with torch.no_grad():
            wanted = tensors_of(self.teacher(images))
        return calls.imitation(task, outputs, wanted, _TEMPERATURE)

    def write(self, out: Path) -> None:
        """See `Subject`: the network on its grids, packed."""
        save(freeze(self.module), out / PACKED)


class Rounded(Quantized):
    """A float network whose layers compute with low-bit weights from now on (`qat`)."""

    def begin(self, settings: TrainSettings) -> None:
        """See `Subject`."""
        self.teacher.to(next(self.module.parameters()).device)

    def _build(self, settings: TrainSettings, trained: Trained) -> Updates:
        assert settings.qat is not None
        return settings.qat.build(settings.optimizer, trained)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        samples: Samples,
        settings: TrainSettings,
        limits: Limits,
        report: Report = silent,
    ) -> "tuple[Rounded, Network]":
        """The network as it begins, and the float one as captured; `model` stays as it is. samples:
        of which activation ranges are chosen, where there are any. Raises as `learn.qat.begun`.
        """
        assert settings.qat is not None
        given = (settings.qat, settings.float_layers, settings.estimator, limits, report)
        trained, network = begun(model, samples, *given)
        return cls(trained, network.graph_module), network
