"""The optimizers of torch as training names them, two of which also keep weights on a grid."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import torch

from subbyte.errors import RecipeError
from subbyte.io.numbers import Decay, NotNegative, Positive
from subbyte.learn.optimizers.grid import GridAdamW, GridSettings, GridSGD, groups_of
from subbyte.methods import ADAM_RATE, Optimizer, Trained, Updates


class TorchSGD(torch.optim.SGD, Updates):
    """torch's own, with nothing to report."""


class TorchAdam(torch.optim.Adam, Updates):
    """torch's own, with nothing to report."""


class TorchAdamW(torch.optim.AdamW, Updates):
    """torch's own, with nothing to report."""


@contextmanager
def _in_range(name: str) -> Iterator[None]:
    """Raise what torch says of a setting out of range as an error of ours."""
    try:
        yield
    except ValueError as reason:
        raise RecipeError(f"optimizer {name}: {reason}") from reason


@dataclass(frozen=True)
class Sgd(Optimizer[GridSettings]):
    """Stochastic gradient descent (torch.optim.SGD)."""

    keeps_grid = True

    momentum: NotNegative = 0.9
    dampening: float = 0.0
    nesterov: bool = False
    weight_decay: NotNegative = 0.0

    def build(self, trained: Trained) -> Updates:
        """See `Optimizer`."""
        with _in_range("sgd"):
            return TorchSGD(trained.params, trained.lr, **asdict(self), foreach=True)

    def build_on_grid(self, trained: Trained, grid: GridSettings) -> Updates:
        """See `Optimizer`."""
        return GridSGD(groups_of(trained), trained.lr, **asdict(self), settings=grid)


@dataclass(frozen=True)
class Adam(Optimizer[GridSettings]):
    """Adam (torch.optim.Adam): weight decay is part of the gradient."""

    rate = ADAM_RATE

    betas: tuple[Decay, Decay] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.0

    def build(self, trained: Trained) -> Updates:
        """See `Optimizer`."""
        with _in_range("adam"):
            return TorchAdam(trained.params, trained.lr, **asdict(self), foreach=True)


@dataclass(frozen=True)
class AdamW(Optimizer[GridSettings]):
    """Adam with weight decay beside the gradient (torch.optim.AdamW)."""

    keeps_grid = True
    rate = ADAM_RATE

    betas: tuple[Decay, Decay] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.01

    def build(self, trained: Trained) -> Updates:
        """See `Optimizer`."""
        with _in_range("adamw"):
            return TorchAdamW(trained.params, trained.lr, **asdict(self), foreach=True)

    def build_on_grid(self, trained: Trained, grid: GridSettings) -> Updates:
        """See `Optimizer`."""
        return GridAdamW(groups_of(trained), trained.lr, **asdict(self), settings=grid)
