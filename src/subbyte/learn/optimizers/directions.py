"""Directions that updates go along, on one vector of gradients g and one of weights w.

    Momentum   g <- g + weight_decay w;  m <- momentum m + (1 - dampening) g;  d = m, or g +
                                                                               momentum m (Nesterov)
    Adaptive   m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
               d = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay w

These are the updates of torch.optim.SGD and torch.optim.AdamW (Loshchilov, Hutter 2019) without the
learning rate:
w <- w - lr d. As there, t counts the steps in which a tensor had a gradient. Weight decay is part
of d, and so is rounded with it. In QtAdamW as published (2021) eps is added before the bias
correction and weights decay after the
rounding, in float: `compat` has that.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Any, Protocol

import torch
from torch import Tensor

from subbyte.errors import RecipeError
from subbyte.io.numbers import Bounded, Decay, NotNegative, Positive
from subbyte.learn.optimizers.layout import Layout

Group = dict[str, Any]
"""A param group of torch's optimizers: its tensors and its settings."""
State = dict[str, Tensor]
"""Vectors that a param group keeps between steps."""
MISSED = "missed"
"""A key of the state once a tensor had no gradient: how many of the group's steps each has missed,
float [tensors].
"""


class Direction(Protocol):
    """Turns gradients into what weights are to move along."""

    def defaults(self) -> Group:
        """Settings of param groups, with their values unless a group has its own."""
        ...

    def __call__(self, layout: Layout, gradient: Tensor, group: Group, state: State) -> Tensor:
        """The direction d, float [n]; may overwrite `gradient` [n] and what is in `state`."""
        ...


@dataclass(frozen=True)
class Momentum(Bounded):
    """Stochastic gradient descent."""

    momentum: NotNegative = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    weight_decay: NotNegative = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise RecipeError("nesterov needs a momentum above 0, and dampening 0")

    def defaults(self) -> Group:
        """See `Direction`."""
        return {
            "lr": 0.0,
            "momentum": self.momentum,
            "dampening": self.dampening,
            "nesterov": self.nesterov,
            "weight_decay": self.weight_decay,
        }

    def __call__(self, layout: Layout, gradient: Tensor, group: Group, state: State) -> Tensor:
        """See `Direction`."""
        if group["weight_decay"]:
            gradient.add_(layout.vector(layout.params), alpha=group["weight_decay"])
        if not group["momentum"]:
            return gradient
        mean = state.get("momentum")
        if mean is None:
            state["momentum"] = gradient.clone()
            for part in layout.still_parts():
                state["momentum"][part] = 0
        else:
            mean.mul_(group["momentum"]).add_(gradient, alpha=1 - group["dampening"])
            if MISSED in state:  # a tensor's first gradient is its momentum
                torch.where(
                    layout.spread(group["steps"] - state[MISSED]) == 0, gradient, mean, out=mean
                )
        if not group["nesterov"]:
            return state["momentum"]
        return gradient.add_(state["momentum"], alpha=group["momentum"])


@dataclass(frozen=True)
class Adaptive(Bounded):
    """AdamW."""

    betas: tuple[Decay, Decay] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.01

    def defaults(self) -> Group:
        """See `Direction`."""
        return {"lr": 0.0, "betas": self.betas, "eps": self.eps, "weight_decay": self.weight_decay}

    def __call__(self, layout: Layout, gradient: Tensor, group: Group, state: State) -> Tensor:
        """See `Direction`."""
        if state.get("mean") is None:
            state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        b1, b2 = group["betas"]
        state["mean"].lerp_(gradient, 1 - b1)
        state["square"].mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
        first, second = self._corrections(layout, group, state)
        root = (
            torch.sqrt(state["square"], out=gradient)
            .mul_(first / second)
            .add_(group["eps"] * first)
        )
        direction = torch.div(state["mean"], root, out=root)
        if group["weight_decay"]:
            direction.add_(layout.vector(layout.params), alpha=group["weight_decay"])
        return direction

    @staticmethod
    def _corrections(layout: Layout, group: Group, state: State) -> tuple[Any, Any]:
        """1 - b1^t and sqrt(1 - b2^t): numbers, or [n] where tensors have steps of their own."""
        (b1, b2), t = group["betas"], group["steps"] + 1
        if MISSED not in state:
            return 1 - b1**t, sqrt(1 - b2**t)
        each = t - state[MISSED].double()
        return layout.spread(1 - b1**each), layout.spread((1 - b2**each).sqrt())
