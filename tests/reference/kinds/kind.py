"""What a structural kind is: how to make such a network and its inputs, and what to expect."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from subbyte import Inputs


class Net(nn.Module):
    """Parts by name, and a forward written as a function of the module and its arguments."""

    def __init__(self, run: Callable[..., Any], **parts: nn.Module | Tensor) -> None:
        super().__init__()
        self._run = [run]  # in a list: a function in a class would become a method
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x: Tensor) -> Any:
        return self._run[0](self, x)


@dataclass(frozen=True)
class Kind:
    """A network and its inputs.

    build: makes it with random weights; inputs: shape of one sample of its only input, or a
    function that gives the call of n samples; recipe, settings: to quantize it by; decibels: least
    signal-to-noise of every output against the float network; counted: whether PyTorch counts the
    multiplications of all of it.
    """

    build: Callable[[], object]
    inputs: tuple[int, ...] | Callable[[int], Inputs]
    recipe: str = "w8a8"
    settings: tuple[str, ...] = ()
    decibels: float = 20.0
    counted: bool = True
    layers: tuple[str, ...] = field(default=())

    def call(self, n: int) -> Inputs:
        """The call of n samples, always with the same numbers."""
        with torch.random.fork_rng():
            torch.manual_seed(3)
            if callable(self.inputs):
                return self.inputs(n)
            return Inputs(torch.randn(n, *self.inputs))

    def network(self, seed: int = 1) -> object:
        """A new network; the same seed gives the same numbers."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.build()


def parameter(*shape: int) -> nn.Parameter:
    """A random parameter."""
    return nn.Parameter(torch.randn(*shape) / max(1, shape[-1]) ** 0.5)
