"""The network that is trained: the user's own module, or a quantized network in trainable form."""

from abc import ABC, abstractmethod
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from subbyte.engine.judging import tensors_of
from subbyte.engine.trainable import Trainable, freeze
from subbyte.errors import RecipeError
from subbyte.exporters.packed import save
from subbyte.io.files import write_bytes
from subbyte.learn.qat import layers_of, output_axis, plain_state, remove_quantizers
from subbyte.learn.qat.layers import weight_of
from subbyte.learn.training.settings import TrainSettings
from subbyte.methods import Learned, Outputs, Task, Trained, Updates, calls

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
    """The user's module; some layers may compute with rounded weights (`qat`)."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def begin(self, settings: TrainSettings) -> None:
        """See `Subject`; whatever a run before made of the layers is undone first."""
        if settings.distill:
            raise RecipeError(
                "distill: there is no float network to learn from; train a quantized network, with "
                "--from or --recipe"
            )
        remove_quantizers(self.module, rounded=False)
        if settings.qat is not None:
            settings.qat.attach(layers_of(self.module, settings.float_layers))

    def optimizer(self, settings: TrainSettings, steps: int) -> Updates:
        """See `Subject`."""
        layers = layers_of(self.module, settings.float_layers).values()
        along, across = (
            [weight_of(layer) for layer in layers if output_axis(layer) == axis] for axis in (0, 1)
        )
        params = [p for p in self.module.parameters() if p.requires_grad]
        trained = Trained(params, along, settings.lr, across, steps, settings.epochs)
        if settings.qat is None:
            return settings.optimizer.build(trained)
        return settings.qat.build(settings.optimizer, trained)

    def at(self, progress: float) -> None:
        """See `Subject`."""

    def updated(self, seed: int) -> None:
        """See `Subject`."""

    def imitation(self, task: Task, outputs: Outputs, images: Tensor) -> Tensor:
        """See `Subject`; `begin` refuses what would ask for it."""
        raise NotImplementedError

    def write(self, out: Path) -> None:
        """See `Subject`: the weights that the network computes with."""
        weights = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in plain_state(self.module).items()
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
        trained = Trained(params, latent, settings.lr, steps=steps, epochs=settings.epochs)
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
