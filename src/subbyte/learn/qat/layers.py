"""Layers whose weights can go on grids, by the names of the user's modules."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import Tensor, nn

from subbyte.errors import RecipeError

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)


def output_axis(layer: nn.Module) -> int:
    """The axis of a weight that its output channels lie along; in groups, those of one of them."""
    return 1 if isinstance(layer, TRANSPOSED) else 0


def weight_of(layer: nn.Module) -> Tensor:
    """The weight that a layer computes with."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


def layers_of(model: nn.Module, exempt: Sequence[str] = ()) -> dict[str, nn.Module]:
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
