"""The optimizers as published, to reproduce their traces; use QSGD and QtAdamW for anything else.

2021 (`qsgd-2021`, there QtSGD, and `qtadamw-2021`): one index for all tensors; for each tensor in
    turn the index is raised while the rounded update sums to 0, up to 33, and the new one holds for
    the tensors that follow:
        u = Q(h; 2^index);  while sum(u) = 0 and index <= 32:  index += 1, u = Q(h; 2^index)
    SGD ignores momentum and weight decay, and does not raise the index in its first step. AdamW
    adds eps (1e-6) before the bias correction, and decays weights after the update, in float.
2023 (`qsgd-2023`, `qtadamw-2023`): Qp = 2^(19 + p), p = floor(log2(ln(t / B + 2))), t steps, B
    steps an epoch; there is no + 1/2 before the floor, and for the first part of the run each
    tensor gets another step of norm lr along its direction:
        r = g lr h / |h|,   g = (1 + tanh(-kappa (t / B - tau))) / 2,   u = floor(Qp (h + r)) / Qp

These read sums back from the device for every tensor, as the published code does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import floor, isfinite, log, log2, sqrt, tanh
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from subbyte.errors import RecipeError
from subbyte.io.numbers import Natural, NotNegative, Positive
from subbyte.methods import ADAM_RATE, Optimizer, Telemetry, Trained, Updates

_LAST = 32
_BETAS, _EPS = (0.9, 0.999), 1e-6
_ETA = 2.0**19
_WARM_UP = 0.2  # of the epochs of a run
Group = dict[str, Any]


def _rounded(h: Tensor, index: int) -> Tensor:
    resolution = 2.0**index
    return torch.floor(h * resolution + 0.5) / resolution


def _adam(p: Tensor, state: Group, lr: float) -> Tensor:
    """AdamW's direction as published, times -lr."""
    (b1, b2), mean, square = (
        _BETAS,
        *(state.setdefault(name, torch.zeros_like(p)) for name in ("mean", "square")),
    )
    assert p.grad is not None
    mean.mul_(b1).add_(p.grad, alpha=1 - b1)
    square.mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
    return torch.div(mean, square.sqrt() + _EPS).mul_(-lr)


def _sgd(p: Tensor, state: Group, lr: float) -> Tensor:
    assert p.grad is not None
    return -lr * p.grad


class _Published(Updates):
    """Tensor by tensor, in order; `adaptive`: AdamW's direction in place of SGD's."""

    def __init__(self, params: ParamsT, lr: float, adaptive: bool, weight_decay: float) -> None:
        if not isfinite(lr) or lr < 0:
            raise RecipeError(f"lr must be 0 or more, got {lr}")
        super().__init__(params, {"lr": lr, "steps": 0, "weight_decay": weight_decay})
        self._adaptive = adaptive
        self._direction: Callable[..., Tensor] = _adam if adaptive else _sgd

    def __getstate__(self) -> Group:
        """All attributes, for copies and pickles: torch's own keeps nothing of a subclass."""
        return vars(self)

    @property
    def index(self) -> int:
        """The index h of updates, log2 of Qp."""
        raise NotImplementedError

    def telemetry(self) -> Telemetry:
        """See `Updates`."""
        return Telemetry(index=self.index)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of all parameters; a closure is called first and its loss returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    lr = self._rate(group)
                    p.add_(self._update(self._direction(p, self.state[p], lr), group, lr))
                    if self._adaptive and group["weight_decay"]:
                        p.sub_(p, alpha=group["lr"] * group["weight_decay"])
            group["steps"] += 1
        return loss

    def _rate(self, group: Group) -> float:
        """The learning rate, with Adam's bias correction in it."""
        (b1, b2), t = _BETAS, group["steps"] + 1
        return float(group["lr"] * sqrt(1 - b2**t) / (1 - b1**t) if self._adaptive else group["lr"])

    def _update(self, h: Tensor, group: Group, lr: float) -> Tensor:
        raise NotImplementedError


class Published2021(_Published):
    """QtSGD and QtAdamW of 2021; resolution: the index at the start, negative counts as 0."""

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        *,
        resolution: int,
        adaptive: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, adaptive, weight_decay)
        self.param_groups[0]["index"] = max(resolution, 0)

    @property
    def index(self) -> int:
        """The index of the last tensor of the last step."""
        return int(self.param_groups[0]["index"])

    def _update(self, h: Tensor, group: Group, lr: float) -> Tensor:
        first = self.param_groups[0]
        update = _rounded(h, first["index"])
        while (
            (self._adaptive or group["steps"])
            and float(update.sum()) == 0
            and first["index"] <= _LAST
        ):
            first["index"] += 1
            update = _rounded(h, first["index"])
        return update


class Published2023(_Published):
    """QSGD and QtAdamW of 2023; steps: an epoch; warm_up: epochs until the extra step is halved;
    kappa: how sharply.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        *,
        steps: int,
        warm_up: float,
        kappa: float = 2.0,
        adaptive: bool = False,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr, adaptive, weight_decay)
        self._steps, self._warm_up, self._kappa = steps, warm_up, kappa

    @property
    def index(self) -> int:
        """The index of the next step."""
        return int(log2(resolution_2023(self.param_groups[0]["steps"] / self._steps)))

    def _update(self, h: Tensor, group: Group, lr: float) -> Tensor:
        epoch = group["steps"] / self._steps
        resolution, norm = resolution_2023(epoch), float(h.norm())
        if norm:
            h = h + gate_2023(epoch, self._warm_up, self._kappa) * lr * h / norm
        return torch.floor(resolution * h) / resolution


def resolution_2023(epoch: float) -> float:
    """Qp of 2023 after so many epochs."""
    return float(_ETA * 2.0 ** floor(log2(log(epoch + 2))))


def gate_2023(epoch: float, warm_up: float, kappa: float) -> float:
    """The factor of the extra step, from 1 to 0."""
    return (1 + tanh(-kappa * (epoch - warm_up))) / 2


@dataclass(frozen=True)
class PublishedSgd2021(Optimizer[Any]):
    """QtSGD as published in 2021; momentum and weight decay, which it ignored, are no settings."""

    resolution: Natural = 2

    def build(self, trained: Trained) -> Updates:
        """See `Optimizer`."""
        return Published2021(trained.params, trained.lr, resolution=self.resolution)


@dataclass(frozen=True)
class PublishedAdamW2021(Optimizer[Any]):
    """QtAdamW as published in 2021."""

    rate = ADAM_RATE

    resolution: Natural = 2
    weight_decay: NotNegative = 0.0

    def build(self, trained: Trained) -> Updates:
        """See `Optimizer`."""
        return Published2021(
            trained.params,
            trained.lr,
            resolution=self.resolution,
            adaptive=True,
            weight_decay=self.weight_decay,
        )


@dataclass(frozen=True)
class PublishedSgd2023(Optimizer[Any]):
    """QSGD as published in 2023; warm_up: epochs until the extra step is halved, unless said a
    fifth of the run; kappa: how sharply.
    """

    warm_up: NotNegative | None = None
    kappa: Positive = 2.0

    def build(self, trained: Trained) -> Updates:
        """See `Optimizer`."""
        return Published2023(
            trained.params,
            trained.lr,
            steps=trained.steps,
            warm_up=_warm_up(self.warm_up, trained),
            kappa=self.kappa,
            weight_decay=0.0,
        )


@dataclass(frozen=True)
class PublishedAdamW2023(Optimizer[Any]):
    """QtAdamW as published in 2023; warm_up: epochs until the extra step is halved, unless said a
    fifth of the run; kappa: how sharply.
    """

    rate = ADAM_RATE

    warm_up: NotNegative | None = None
    kappa: Positive = 2.0
    weight_decay: NotNegative = 0.01

    def build(self, trained: Trained) -> Updates:
        """See `Optimizer`."""
        return Published2023(
            trained.params,
            trained.lr,
            steps=trained.steps,
            warm_up=_warm_up(self.warm_up, trained),
            kappa=self.kappa,
            adaptive=True,
            weight_decay=self.weight_decay,
        )


def _warm_up(epochs: float | None, trained: Trained) -> float:
    return _WARM_UP * trained.epochs if epochs is None else epochs
