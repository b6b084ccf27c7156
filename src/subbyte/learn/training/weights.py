"""Weights that the network computes with rounded, while float ones behind them are trained: STE and
LSQ.

    w_q = scale * clamp(round(w / scale), qmin, qmax)        of each output channel, or of the
                                                             tensor
    ste    the gradient of w is that of w_q where w / scale is within qmin ... qmax, else 0; the
           scale is kept
           (Bengio, Leonard, Courville 2013)
    lsq    the same, and the scale is trained too: its gradient is round(w / scale) - w / scale
           inside, qmin or qmax outside, times 1 / sqrt(n qmax), n weights that share it (Esser et
           al. 2020, eq. 3 and section 2.2)

The scale starts with the least square error on the weights that are there.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import sqrt
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from subbyte.core import GridSpec, Uniform, share_of
from subbyte.errors import RecipeError
from subbyte.learn.optimizers.grid import starting_scale

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)


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
class Ste:
    """Float weights behind rounded ones, on a scale that is kept."""

    bits: int = 4
    granularity: Literal["tensor", "channel"] = "channel"
    learned = False

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise RecipeError(f"bits must be from 2 to 8, got {self.bits}")

    def attach(self, layers: dict[str, nn.Module]) -> None:
        """Let these layers compute with rounded weights."""
        spec = GridSpec(Uniform(self.bits), share_of(self.granularity))
        for layer in layers.values():
            weight = layer.weight
            assert isinstance(weight, Tensor)
            rounded = _Rounded(weight, output_axis(layer), spec, self.learned)
            parametrize.register_parametrization(layer, "weight", rounded)


@dataclass(frozen=True)
class Lsq(Ste):
    """Float weights behind rounded ones, on a scale that is trained with them."""

    learned = True


QUANTIZERS: dict[str, type[Ste]] = {"ste": Ste, "lsq": Lsq}


def remove_quantizers(model: nn.Module, *, rounded: bool) -> None:
    """Undo `attach`, if there was one; rounded: the weights that the network computed with stay,
    not the float ones.
    """
    for layer in layers_of(model).values():
        found = getattr(layer, "parametrizations", {})
        if "weight" in found and isinstance(found["weight"][0], _Rounded):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=rounded)


def output_axis(layer: nn.Module) -> int:
    """The axis of a weight that its output channels lie along; in groups, those of one of them."""
    return 1 if isinstance(layer, TRANSPOSED) else 0


def layers_of(model: nn.Module, exempt: tuple[str, ...] = ()) -> dict[str, nn.Module]:
    """Convolutions and linear layers by name, but for those whose name matches a pattern of
    `exempt`.

    Raises RecipeError for a pattern that matches nothing.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LAYERS)}
    for pattern in exempt:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise RecipeError(f"no layer matches {pattern!r}; the layers are {', '.join(layers)}")
    return {
        name: layer
        for name, layer in layers.items()
        if not any(fnmatchcase(name, p) for p in exempt)
    }


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict as it is without quantizers: weights are those that the network computes
    with.
    """
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        layer, parametrized, what = name.partition(".parametrizations.weight.")
        if not parametrized:
            state[name] = tensor
        elif what == "original":
            weight = model.get_submodule(layer).weight
            assert isinstance(weight, Tensor)
            state[f"{layer}.weight"] = weight.detach()
    return state
