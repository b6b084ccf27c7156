"""Inputs of a network as users give them, and as its graph takes them: the leaves of a tree.

A network is called with any arguments that hold tensors, in tuples, lists, dictionaries and
registered dataclasses, or None. `Samples` keeps the leaves of that tree, with which of them have
one entry a sample along their first axis; the others (a mask, a table of positions) are the same
for all samples.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from subbyte.errors import DataError, ModelError
from subbyte.graph.axes import Axis


class Inputs:
    """The arguments of one call of a network, for those that take other than one tensor:
    `Inputs(ids, mask=mask)`. The first axis of tensors counts samples.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs


@dataclass(frozen=True, eq=False)
class Samples:
    """n calls of a network side by side.

    leaves: tensors, and the values beside them that are passed as they are; batched: of each leaf,
        whether its first axis counts samples; tree: of the arguments, positional and by keyword;
    dynamic: axes of images whose sizes may differ from call to call.
    """

    leaves: tuple[Any, ...]
    batched: tuple[bool, ...]
    tree: pytree.TreeSpec
    dynamic: tuple[Axis, ...] = ()

    @classmethod
    def of(cls, inputs: "Tensor | np.ndarray | Inputs | Samples") -> "Samples":
        """Read what a network is called with: floating-point tensors become float32, on the CPU.

        Raises DataError when there is no tensor whose first axis counts samples.
        """
        if isinstance(inputs, Samples):
            return inputs
        call = inputs if isinstance(inputs, Inputs) else Inputs(inputs)
        register_dataclasses((call.args, call.kwargs))
        leaves, tree = pytree.tree_flatten((call.args, call.kwargs))
        leaves = [_plain(leaf) for leaf in leaves]
        sizes = [len(leaf) for leaf in leaves if isinstance(leaf, Tensor) and leaf.ndim]
        if not sizes or sizes[0] < 1:
            shapes = [list(leaf.shape) for leaf in leaves if isinstance(leaf, Tensor)]
            raise DataError(
                f"the inputs hold no tensor [n, ...] with n >= 1: their shapes are {shapes}"
            )
        batched = [
            isinstance(leaf, Tensor) and leaf.ndim > 0 and len(leaf) == sizes[0] for leaf in leaves
        ]
        return cls(tuple(leaves), tuple(batched), tree)

    @classmethod
    def join(cls, parts: "list[Samples]") -> "Samples":
        """All samples of several calls. Raises DataError when they do not go together."""
        first = parts[0]
        for number, part in enumerate(parts):
            if part.tree != first.tree or not _alike(part, first):
                raise DataError(
                    f"calibration batch {number} is {part.described}; every batch must be as the "
                    f"first, {first.described}"
                )
        leaves = [
            torch.cat([part.leaves[k] for part in parts]) if batched else first.leaves[k]
            for k, batched in enumerate(first.batched)
        ]
        return cls(tuple(leaves), first.batched, first.tree)

    @property
    def described(self) -> str:
        """Types and shapes, for messages."""
        return ", ".join(described(leaf) for leaf in self.leaves)

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return next(leaf.device for leaf in self.leaves if isinstance(leaf, Tensor))

    @property
    def size(self) -> int:
        """Numbers of one sample."""
        own = zip(self.leaves, self.batched, strict=True)
        return sum(leaf[0].numel() for leaf, batched in own if batched)

    def __len__(self) -> int:
        own = zip(self.leaves, self.batched, strict=True)
        return next(len(leaf) for leaf, batched in own if batched)

    def __getitem__(self, part: slice) -> "Samples":
        return self._each(lambda leaf: leaf[part])

    def at(self, indices: Tensor) -> "Samples":
        """The samples at indices int64 [b], in that order."""
        return self._each(lambda leaf: leaf[indices])

    def split(self, size: int) -> "list[Samples]":
        """The samples in chunks of `size`, in order; the last may be smaller."""
        return [self[start : start + size] for start in range(0, len(self), size)]

    def twice(self) -> "Samples":
        """The first sample and itself, without gaps in memory: a batch of 1 would be taken for a
        constant, and what lies between the parts of a view for inputs.
        """
        return self._each(lambda leaf: leaf[:1].expand(2, *leaf.shape[1:]).contiguous())

    def with_dynamic(self, axes: tuple[Axis, ...]) -> "Samples":
        """The same, with axes of images whose sizes may differ. Raises ModelError where there are
        no images.
        """
        if axes and not any(map(is_images, self.leaves, self.batched)):
            raise ModelError(
                f"dynamic: {axes[0].text} is an axis of images [n, channels, height, width]; the "
                f"network takes {self.described}"
            )
        return dataclasses.replace(self, dynamic=axes)

    def doubled(self, *axes: Axis) -> "Samples":
        """Images that are twice as large along axes, every image beside itself."""
        leaves = list(self.leaves)
        for k, batched in enumerate(self.batched):
            for axis in axes if is_images(leaves[k], batched) else ():
                leaves[k] = torch.cat([leaves[k]] * 2, axis.value)
        return dataclasses.replace(self, leaves=tuple(leaves))

    def without(self, count: int) -> "Samples":
        """Images without their last `count` numbers along each dynamic axis."""
        leaves = list(self.leaves)
        for k, batched in enumerate(self.batched):
            for axis in self.dynamic if is_images(leaves[k], batched) else ():
                leaves[k] = leaves[k].narrow(axis.value, 0, leaves[k].shape[axis.value] - count)
        return dataclasses.replace(self, leaves=tuple(leaves))

    def size_along(self, axis: Axis) -> int:
        """The size of the first images along an axis."""
        images = (x for x, own in zip(self.leaves, self.batched, strict=True) if is_images(x, own))
        return int(next(images).shape[axis.value])

    def to(self, device: str | torch.device) -> "Samples":
        """The same on another device."""
        leaves = [leaf.to(device) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        return dataclasses.replace(self, leaves=tuple(leaves))

    @property
    def call(self) -> Inputs:
        """The arguments as the network takes them."""
        args, kwargs = pytree.tree_unflatten(list(self.leaves), self.tree)
        return Inputs(*args, **kwargs)

    def _each(self, change: Any) -> "Samples":
        leaves = [
            change(leaf) if batched else leaf
            for leaf, batched in zip(self.leaves, self.batched, strict=True)
        ]
        return dataclasses.replace(self, leaves=tuple(leaves))


def is_images(leaf: Any, batched: bool) -> bool:
    """Whether a leaf is images [n, channels, height, width]."""
    return batched and leaf.ndim == 4


def as_two(leaf: Any, batched: bool) -> Any:
    """A leaf of the sizes and type that two samples have, with any numbers in it; one that is the
    same for all samples as it is.
    """
    return leaf.new_empty(2, *leaf.shape[1:]) if batched else leaf


def _plain(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray):
        leaf = torch.from_numpy(leaf)
    if not isinstance(leaf, Tensor):
        return leaf
    return in_float32(leaf.detach().cpu())


def in_float32(leaf: Any) -> Any:
    """A leaf; a floating-point tensor in float32."""
    return leaf.float() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


def _alike(part: Samples, first: Samples) -> bool:
    """Whether two calls differ in the number of samples alone; what is the same for all samples
    must be equal.
    """
    for own, other, batched in zip(part.leaves, first.leaves, first.batched, strict=True):
        if not isinstance(own, Tensor) or not isinstance(other, Tensor):
            if own is not other and own != other:
                return False
        elif (batched and (own.dtype, own.shape[1:]) != (other.dtype, other.shape[1:])) or (
            not batched and not torch.equal(own, other)
        ):
            return False
    return True


def described(leaf: Any) -> str:
    """The type and shape of a leaf in words, for messages."""
    if isinstance(leaf, Tensor):
        return f"{str(leaf.dtype).removeprefix('torch.')} {list(leaf.shape)}"
    return "None" if leaf is None else f"a {type(leaf).__name__}"


def register_dataclasses(value: Any) -> None:
    """Let dataclasses in a tree be taken apart, as torch does with those it knows."""
    for found in list(_dataclasses(value)):
        if type(found) not in pytree.SUPPORTED_NODES:
            torch.export.register_dataclass(type(found))


def _dataclasses(value: Any) -> Iterator[Any]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield value
        for field in dataclasses.fields(value):
            yield from _dataclasses(vars(value)[field.name])
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _dataclasses(entry)
    elif isinstance(value, tuple | list):
        for entry in value:
            yield from _dataclasses(entry)
