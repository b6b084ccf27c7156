"""Which built-in networks weights may be of, by their names and shapes alone."""

import re
from functools import cache

import torch
from torch import Tensor

from subbyte.errors import ModelError
from subbyte.models.built_in import CIFAR, ENDINGS, MNIST, MODELS, ModelEntry, Shape, find_entry
from subbyte.models.names import match
from subbyte.models.states import State

_BLOCK = re.compile(r"\b(?:layer1|layers_2n)\.([0-9]+)\.")


def fitting(state: State) -> list[str]:
    """The built-in networks that these weights fit, and for what images, in words."""
    found = []
    for entry in (*MODELS.values(), *_family(state)):
        own = match(state, expected(entry), entry.renames)
        shape = None if own is None else _image_shape(entry, own)
        if shape is not None:
            found.append(f"{entry.name} (images {'x'.join(map(str, shape))})")
    return found


def _image_shape(entry: ModelEntry, state: State) -> Shape | None:
    """The shape of the images that weights under a network's names are for, as far as they tell;
    None where they are not of this network.
    """
    first = next((x for x in state.tensors.values() if x.ndim == 4), None)
    channels = entry.input_shape[0] if first is None else first.shape[1]
    sizes = dict.fromkeys(shape[1:] for shape in (entry.input_shape, CIFAR, MNIST))
    classes = rows(state, entry.head)
    shapes = ((channels, *size) for size in sizes)
    return next((x for x in shapes if _same(state.tensors, entry, classes, x)), None)


def rows(state: State, name: str) -> int | None:
    """Rows of the matrix `name` of a state dict; None when there is none."""
    matrix = state.tensors.get(name)
    return len(matrix) if matrix is not None and matrix.ndim == 2 and len(matrix) > 0 else None


def expected(entry: ModelEntry) -> list[str]:
    """Names of a network's tensors."""
    return list(_shapes(entry, None, None))


def _family(state: State) -> list[ModelEntry]:
    """Networks of the family without an end that have as many blocks."""
    blocks = {int(number) for name in state.tensors for number in _BLOCK.findall(name)}
    depth = 6 * len(blocks) + 2
    named = [f"resnet{depth}{ending}" for ending in ENDINGS]
    found = [find_entry(f"cifar-{name}") for name in named if blocks and name not in MODELS]
    return [entry for entry in found if entry is not None]


def _same(tensors: dict[str, Tensor], entry: ModelEntry, classes: int | None, shape: Shape) -> bool:
    try:
        wanted = _shapes(entry, classes, shape)
    except ModelError:  # a network that does not exist for such images
        return False
    return all(wanted[name] == tensor.shape for name, tensor in tensors.items() if name in wanted)


@cache
def _shapes(entry: ModelEntry, classes: int | None, shape: Shape | None) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: x.shape for name, x in entry.build(classes, shape).state_dict().items()}
