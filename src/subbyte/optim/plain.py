"""torch's own optimizers, as references: SGD, Adam, AdamW."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum (torch.optim.SGD)."""

    momentum: float = 0.9
    dampening: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def build(self, groups: Iterable[dict[str, Any]], lr: float) -> Optimizer:
        """The optimizer of these param groups."""
        return torch.optim.SGD(
            groups, lr, self.momentum, self.dampening, self.weight_decay, self.nesterov, foreach=True
        )


@dataclass(frozen=True)
class Adam:
    """Adam (torch.optim.Adam): weight decay is part of the gradient."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def build(self, groups: Iterable[dict[str, Any]], lr: float) -> Optimizer:
        """The optimizer of these param groups."""
        return torch.optim.Adam(groups, lr, self.betas, self.eps, self.weight_decay, foreach=True)


@dataclass(frozen=True)
class AdamW:
    """Adam with weight decay beside the gradient (torch.optim.AdamW)."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01

    def build(self, groups: Iterable[dict[str, Any]], lr: float) -> Optimizer:
        """The optimizer of these param groups."""
        return torch.optim.AdamW(groups, lr, self.betas, self.eps, self.weight_decay, foreach=True)
