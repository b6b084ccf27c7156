"""Measures: in which size latent weights and their scales are counted, as one learning rate is to
suit all layers.

    ratios      W = s E(u s_0 / s),  s = s_0 exp(t)    u in steps of the scale s_0 to begin with
    numbers     W = s E(w / s),      s = |s_0 + t|     w as a float network has it (LSQ's form)

With ratios one rate suits all layers where the optimizer makes steps of like size (Adam's family).
With numbers all is as in a float network, and so is the rate that suits, with any optimizer.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Measure(ABC):
    """The size in which learned numbers are counted. start: a scale to begin with."""

    @abstractmethod
    def unit(self, start: Tensor) -> Tensor:
        """The latent weight that counts 1, in the network's numbers."""

    @abstractmethod
    def scale(self, start: Tensor, learned: Tensor) -> Tensor:
        """The scale that has been learned: positive. learned: 0 to begin with."""


class Ratios(Measure):
    """In steps of the scales to begin with, and logarithms."""

    def unit(self, start: Tensor) -> Tensor:
        """See `Measure`."""
        return start

    def scale(self, start: Tensor, learned: Tensor) -> Tensor:
        """See `Measure`."""
        return start * learned.exp()


class Numbers(Measure):
    """As the network has them."""

    def unit(self, start: Tensor) -> Tensor:
        """See `Measure`."""
        return torch.ones_like(start)

    def scale(self, start: Tensor, learned: Tensor) -> Tensor:
        """See `Measure`."""
        return (start + learned).abs().clamp_min(torch.finfo(start.dtype).tiny)


RATIOS, NUMBERS = Ratios(), Numbers()
