"""Cascade: after each layer is rounded, what is not yet rounded learns to make up for it (L-DNQ,
algorithm 1).

    min over later weights and biases, and this layer's bias, of  mean ||z_q - z||^2

z, z_q: logits of the float and of the partly quantized network on the calibration images; labels
are not used. The part of the network before the layer is frozen, so its values are computed once.
After the last layer `retrain` lets biases and scales learn for some epochs, as the algorithm's last
line: from the float logits, or from labels if the caller has them (by the task's loss, such as
cross-entropy).

Differences from Chen, Wang, Pan (2019) and their code: Adam with a cosine schedule and a fixed
number of epochs (there: SGD until a running mean stalls); batch-norms are folded (there: trained
with batch statistics); where the loss did not fall everything stays as it was; layers that the
recipe leaves float do not learn. Cost: `epochs` passes forward and back through the rest, a layer.
"""

from dataclasses import dataclass, replace
from math import cos, isfinite, pi
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from subbyte.errors import NumericsError
from subbyte.io.numbers import Count, Natural, Positive, Seed
from subbyte.methods import Forward, Loss, TuneLayers


@dataclass(frozen=True)
class Cascade(TuneLayers):
    """epochs: after each layer; rate: Adam's first step, relative to the root mean square of each
    tensor; retrain: what biases and scales learn from at the end, for `retrain_epochs`; batch:
    samples a step; threads: to learn with, 0: as many as there are; seed: of the order of the
    batches.
    """

    epochs: Natural = 5
    rate: Positive = 0.002
    retrain: Literal["none", "logits", "labels"] = "none"
    retrain_epochs: Count = 20
    batch: Count = 64
    threads: Natural = 0
    seed: Seed = 0

    @property
    def needs_labels(self) -> bool:
        """See `methods.TuneLayers`."""
        return self.retrain == "labels"

    @property
    def learns_with(self) -> int:
        """See `methods.Tune`."""
        return self.threads

    def with_threads(self, threads: int) -> "Cascade":
        """See `methods.Tune`."""
        return replace(self, threads=threads)

    @property
    def samples_a_step(self) -> int:
        """See `methods.TuneLayers`."""
        return self.batch

    def after_layer(
        self, forward: Forward, parameters: dict[str, Tensor], logits: list[Tensor]
    ) -> dict[str, Tensor]:
        """See `methods.TuneLayers`."""
        return self._learn(forward, parameters, logits, F.mse_loss, self.epochs)

    def at_end(
        self,
        forward: Forward,
        parameters: dict[str, Tensor],
        logits: list[Tensor],
        labels: list[Tensor] | None,
        loss: Loss = F.cross_entropy,
    ) -> dict[str, Tensor]:
        """See `methods.TuneLayers`."""
        if self.retrain == "none":
            return parameters
        if not self.needs_labels:
            return self._learn(forward, parameters, logits, F.mse_loss, self.retrain_epochs)
        assert labels is not None, "a method that needs labels gets them"
        return self._learn(forward, parameters, labels, loss, self.retrain_epochs)

    def _learn(
        self,
        forward: Forward,
        parameters: dict[str, Tensor],
        targets: list[Tensor],
        loss_of: Loss,
        epochs: Natural,
    ) -> dict[str, Tensor]:
        if not parameters or not epochs:
            return parameters
        generator = torch.Generator().manual_seed(self.seed)
        learned = {
            name: value.detach().clone().requires_grad_() for name, value in parameters.items()
        }
        groups = [{"params": [p], "lr": self.rate * _size(p)} for p in learned.values()]
        adam = torch.optim.Adam(groups)
        rates = [group["lr"] for group in adam.param_groups]
        steps, step = epochs * len(targets), 0
        best = {name: value.detach().clone() for name, value in learned.items()}
        least = _loss(forward, best, targets, loss_of)
        for _ in range(epochs):
            for k in torch.randperm(len(targets), generator=generator).tolist():
                for group, rate in zip(adam.param_groups, rates, strict=True):
                    group["lr"] = rate * (1 + cos(pi * step / steps)) / 2
                with torch.enable_grad():
                    loss = loss_of(forward(k, dict(learned)), targets[k])
                    adam.zero_grad()
                    loss.backward()
                adam.step()
                step += 1
        found = _loss(forward, learned, targets, loss_of)
        if not isfinite(found):
            raise NumericsError(
                f"cascade: the loss became {found}; lower its rate ({self.rate:g}), or check the "
                f"logits"
            )
        return {name: value.detach() for name, value in learned.items()} if found < least else best


def _size(parameter: Tensor) -> float:
    """Root mean square; that of a quarter where there is nothing."""
    size = float(parameter.detach().square().mean().sqrt())
    return size if size > 0 else 0.25


@torch.no_grad()
def _loss(
    forward: Forward,
    parameters: dict[str, Tensor],
    targets: list[Tensor],
    loss_of: Loss,
) -> float:
    """Mean over all batches, by their sizes."""
    total = sum(
        float(loss_of(forward(k, parameters), target)) * len(target)
        for k, target in enumerate(targets)
    )
    return total / sum(map(len, targets))
