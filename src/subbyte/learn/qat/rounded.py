"""Rounded weights in front of float ones, as parametrizations of a network's layers.

    w_q = scale * clamp(round(w / scale), qmin, qmax)        of each output channel, or of the
                                                             tensor

The gradient of w is that of w_q where w / scale is within qmin ... qmax, else 0. The scale starts
with the least square error on the weights that are there. Its gradient is round(w / scale) - w /
scale inside, qmin or qmax outside, times 1 / sqrt(n qmax), n weights that share it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from subbyte.core import GridSpec, Uniform, share_of
from subbyte.io.numbers import Whole
from subbyte.learn.optimizers.grid import starting_scale
from subbyte.learn.qat.layers import layers_of, output_axis, weight_of
from subbyte.methods import WeightQuantizer


class _Rounded(nn.Module):
    """The parametrization of one weight."""

    def __init__(self, weight: Tensor, axis: int, spec: GridSpec, learned: bool) -> None:
        super().__init__()
        matrix = weight.detach().transpose(0, axis).flatten(1)
        scale = starting_scale(matrix, spec)
        shape = [-1 if k == axis else 1 for k in range(weight.ndim)] if spec.share.by_row else []
        self.scale = nn.Parameter(scale.reshape(shape).clone(), requires_grad=learned)
        self.qmin, self.qmax = spec.alphabet.qmin, spec.alphabet.qmax
        self.share = 1 / sqrt(weight.numel() / scale.numel() * self.qmax)

    def forward(self, weight: Tensor) -> Tensor:
        scale = self.scale.abs().clamp_min(torch.finfo(weight.dtype).tiny)
        slow = scale * self.share
        scale = slow + (scale - slow).detach()  # the value of scale, and `share` of its gradient
        x = (weight / scale).clamp(self.qmin, self.qmax)
        return (x + (x.round() - x).detach()) * scale


@dataclass(frozen=True)
class BehindRounded(WeightQuantizer[nn.Module]):
    """Base of those that keep float weights behind rounded ones."""

    learned: ClassVar[bool] = False
    """Whether the scale is trained."""

    bits: Annotated[int, Whole(2, 8)] = 4
    granularity: Literal["tensor", "channel"] = "channel"

    def attach(self, layers: Mapping[str, nn.Module]) -> None:
        """See `WeightQuantizer`."""
        spec = GridSpec(Uniform(self.bits), share_of(self.granularity))
        for layer in layers.values():
            rounded = _Rounded(weight_of(layer), output_axis(layer), spec, self.learned)
            parametrize.register_parametrization(layer, "weight", rounded)


def remove_quantizers(model: nn.Module, *, rounded: bool) -> None:
    """Undo `attach`, if there was one; rounded: the weights that the network computed with stay,
    not the float ones. Parametrizations of the user's own stay on.
    """
    for layer in layers_of(model).values():
        if parametrize.is_parametrized(layer, "weight"):
            found = layer.get_submodule("parametrizations.weight.0")
            if isinstance(found, _Rounded):
                parametrize.remove_parametrizations(layer, "weight", leave_parametrized=rounded)


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict as it is without quantizers: weights are those that the network computes
    with.
    """
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        layer, parametrized, rest = name.partition(".parametrizations.weight.")
        if not parametrized:
            state[name] = tensor
        elif rest == "original":
            state[f"{layer}.weight"] = weight_of(model.get_submodule(layer)).detach()
    return state
