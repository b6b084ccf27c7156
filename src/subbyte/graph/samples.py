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

from subbyte.errors import DataError, FormatError
from subbyte.graph.trees import tree_from_plain, tree_to_plain

_DTYPES = (
    torch.float32,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)


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
        whether its first axis counts samples; tree: of the arguments, positional and by keyword.
    """

    leaves: tuple[Any, ...]
    batched: tuple[bool, ...]
    tree: pytree.TreeSpec

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
        """The first sample and itself: a batch of 1 would be taken for a constant."""
        return self._each(lambda leaf: leaf[:1].expand(2, *leaf.shape[1:]))

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


@dataclass(frozen=True)
class Leaf:
    """One value of a call: the name that the graph has for it; shape and type of a tensor, without
    its first axis where that counts samples; the value itself where it is no tensor.
    """

    name: str
    shape: tuple[int, ...] = ()
    dtype: torch.dtype | None = None
    batched: bool = False
    value: bool | int | float | str | None = None

    @property
    def is_tensor(self) -> bool:
        """Whether it is a tensor."""
        return self.dtype is not None

    @property
    def described(self) -> str:
        """Its type and shape, n for the number of samples."""
        if self.dtype is None:
            return repr(self.value)
        sizes = [*["n"] * self.batched, *map(str, self.shape)]
        return f"{str(self.dtype).removeprefix('torch.')} [{', '.join(sizes)}]"

    @property
    def plain(self) -> dict[str, object]:
        """Plain values for JSON; `of_plain` reads them."""
        if self.dtype is None:
            return {"name": self.name, "value": self.value}
        dtype = str(self.dtype).removeprefix("torch.")
        shape = list(self.shape)
        return {"name": self.name, "shape": shape, "dtype": dtype, "batched": self.batched}

    @classmethod
    def of_plain(cls, data: dict[str, Any]) -> "Leaf":
        """Inverse of `plain`."""
        if "dtype" not in data:
            return cls(data["name"], value=data["value"])
        known = {str(dtype).removeprefix("torch."): dtype for dtype in _DTYPES}
        shape = tuple(map(int, data["shape"]))
        return cls(data["name"], shape, known[data["dtype"]], bool(data["batched"]))

    def zeros(self, n: int) -> Any:
        """The value itself, or a tensor of zeros for n samples."""
        sizes = [*[n] * self.batched, *self.shape]
        return self.value if self.dtype is None else torch.zeros(sizes, dtype=self.dtype)

    def alike(self, value: Any) -> bool:
        """Whether a call may have such a value here, of any size."""
        if not isinstance(value, Tensor) or self.dtype is None:
            return self.dtype is None and value == self.value
        return value.dtype == self.dtype and value.ndim == self.batched + len(self.shape)

    def fits(self, value: Any) -> bool:
        """Whether a call may have this value here."""
        sized = not isinstance(value, Tensor) or tuple(value.shape[self.batched :]) == self.shape
        return sized and self.alike(value)


@dataclass(frozen=True)
class Signature:
    """How a network is called: the leaves of its arguments, and the tree they form."""

    leaves: tuple[Leaf, ...]
    tree: pytree.TreeSpec

    @classmethod
    def of(cls, samples: Samples, names: list[str]) -> "Signature":
        """How these samples call. names: of the leaves."""
        rows = zip(samples.leaves, samples.batched, names, strict=True)
        leaves = [
            Leaf(name, tuple(leaf.shape[batched:]), leaf.dtype, batched)
            if isinstance(leaf, Tensor)
            else Leaf(name, value=leaf)
            for leaf, batched, name in rows
        ]
        return cls(tuple(leaves), samples.tree)

    @staticmethod
    def _called(leaves: str, tree: pytree.TreeSpec) -> str:
        """Leaves in words, with the names of those that are given by keyword."""
        _, kwargs = pytree.tree_unflatten([None] * tree.num_leaves, tree)
        return leaves + (f" ({', '.join(kwargs)} by keyword)" if kwargs else "")

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON; `from_dict` reads them."""
        return {"tree": tree_to_plain(self.tree), "leaves": [leaf.plain for leaf in self.leaves]}

    @classmethod
    def from_dict(cls, data: Any) -> "Signature":
        """Inverse of `to_dict`. Raises FormatError for other values, and when the tree holds a
        class of the user's.
        """
        try:
            leaves = tuple(Leaf.of_plain(leaf) for leaf in data["leaves"])
            tree = tree_from_plain(data["tree"])
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"the network's inputs can't be read ({error!r})") from error
        if tree.num_leaves != len(leaves):
            raise FormatError(
                f"the network's inputs: {len(leaves)} leaves, {tree.num_leaves} wanted"
            )
        return cls(leaves, tree)

    @property
    def tensors(self) -> tuple[Leaf, ...]:
        """The leaves that are tensors."""
        return tuple(leaf for leaf in self.leaves if leaf.is_tensor)

    @property
    def described(self) -> str:
        """Types and shapes of all leaves, for messages."""
        return ", ".join(leaf.described for leaf in self.leaves)

    def zeros(self, n: int) -> Samples:
        """Samples of zeros."""
        leaves = tuple(leaf.zeros(n) for leaf in self.leaves)
        return Samples(leaves, tuple(leaf.batched for leaf in self.leaves), self.tree)

    def fits(self, samples: Samples) -> bool:
        """Whether samples are as the network takes them."""
        return samples.tree == self.tree and all(
            leaf.fits(value) for leaf, value in zip(self.leaves, samples.leaves, strict=True)
        )

    def checked(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments of a call, floating-point tensors in float32. Raises DataError where they form
        another tree, or a tensor has another type or number of axes.
        """
        leaves, tree = pytree.tree_flatten((args, kwargs))
        leaves = [_in_float32(leaf) for leaf in leaves]
        known = tree == self.tree and all(
            leaf.alike(value) for leaf, value in zip(self.leaves, leaves, strict=True)
        )
        if not known:
            takes, got = self._called(self.described, self.tree), ", ".join(map(described, leaves))
            raise DataError(
                f"the network takes {takes}; it was called with {self._called(got, tree)}"
            )
        args, kwargs = pytree.tree_unflatten(leaves, tree)
        return args, kwargs


def _plain(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray):
        leaf = torch.from_numpy(leaf)
    if not isinstance(leaf, Tensor):
        return leaf
    return _in_float32(leaf.detach().cpu())


def _in_float32(leaf: Any) -> Any:
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
