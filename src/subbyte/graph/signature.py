"""How a network is called: types and sizes of its arguments, which files record and calls check."""

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from subbyte.errors import DataError, FormatError
from subbyte.graph.axes import UNCONDITIONAL, Axis, Conditions
from subbyte.graph.samples import Samples, as_two, described, in_float32, is_images
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
_MOST = 2**26
"""Numbers of a sample that a file may ask for."""


@dataclass(frozen=True)
class Leaf:
    """One value of a call: the name that the graph has for it; shape and type of a tensor, without
    its first axis where that counts samples; the value itself where it is no tensor; axes whose
    sizes may differ from those of the shape.
    """

    name: str
    shape: tuple[int, ...] = ()
    dtype: torch.dtype | None = None
    batched: bool = False
    value: bool | int | float | str | None = None
    dynamic: tuple[Axis, ...] = ()

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
        for axis in self.dynamic:
            sizes[axis.value] = axis.text
        return f"{str(self.dtype).removeprefix('torch.')} [{', '.join(sizes)}]"

    @property
    def plain(self) -> dict[str, object]:
        """Plain values for JSON; `of_plain` reads them."""
        if self.dtype is None:
            return {"name": self.name, "value": self.value}
        dtype = str(self.dtype).removeprefix("torch.")
        shape = list(self.shape)
        dynamic = [axis.text for axis in self.dynamic]
        return {
            "name": self.name,
            "shape": shape,
            "dtype": dtype,
            "batched": self.batched,
            **({"dynamic": dynamic} if dynamic else {}),
        }

    @classmethod
    def of_plain(cls, data: dict[str, Any]) -> "Leaf":
        """Inverse of `plain`."""
        known = {str(dtype).removeprefix("torch."): dtype for dtype in _DTYPES}
        match data:
            case {"name": str(name), "value": None | bool() | int() | float() | str() as value}:
                return cls(name, value=value)
            case {
                "name": str(name),
                "shape": list(shape),
                "dtype": str(dtype),
                "batched": bool(batched),
            } if all(type(size) is int and size >= 0 for size in shape):
                if prod(shape) > _MOST:
                    raise FormatError(f"the network's inputs: {name} is of shape {shape}")
                dynamic = Axis.read(data.get("dynamic", ()))
                return cls(name, tuple(shape), known[dtype], batched, dynamic=dynamic)
        raise ValueError(f"{str(data)[:60]} is no input")

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
        if not self.alike(value) or not isinstance(value, Tensor):
            return self.alike(value)
        free = {axis.value + len(self.shape) for axis in self.dynamic}
        sizes = enumerate(zip(value.shape[self.batched :], self.shape, strict=True))
        return all(own == wanted or k in free for k, (own, wanted) in sizes)


@dataclass(frozen=True)
class Signature:
    """How a network is called: the leaves of its arguments, the tree they form, and what sizes that
    may differ have to satisfy.
    """

    leaves: tuple[Leaf, ...]
    tree: pytree.TreeSpec
    conditions: Conditions = UNCONDITIONAL

    @classmethod
    def of(cls, samples: Samples, names: list[str], conditions: Conditions) -> "Signature":
        """How these samples call. names: of the leaves."""
        rows = zip(samples.leaves, samples.batched, names, strict=True)
        leaves = [
            Leaf(
                name,
                tuple(leaf.shape[batched:]),
                leaf.dtype,
                batched,
                dynamic=samples.dynamic if is_images(leaf, batched) else (),
            )
            if isinstance(leaf, Tensor)
            else Leaf(name, value=leaf)
            for leaf, batched, name in rows
        ]
        return cls(tuple(leaves), samples.tree, conditions)

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """Channels, height and width, where all that the network takes is images; else None."""
        match [leaf.shape for leaf in self.leaves if leaf.batched]:
            case [(channels, height, width)]:
                return channels, height, width
        return None

    def _refusal(self, leaves: list[Any], tree: pytree.TreeSpec, why: str) -> DataError:
        takes, got = self._called(self.described, self.tree), ", ".join(map(described, leaves))
        return DataError(
            f"the network takes {takes}; it was called with {self._called(got, tree)}{why}"
        )

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
        except FormatError:
            raise
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise FormatError(f"the network's inputs can't be read ({error!r})") from error
        match pytree.tree_unflatten(list(range(tree.num_leaves)), tree):
            case (tuple(), dict(named)) if all(isinstance(name, str) for name in named):
                pass
            case _:
                raise FormatError("the network's inputs: no arguments by position and by keyword")
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

    @property
    def dynamic(self) -> tuple[Axis, ...]:
        """The axes of images whose sizes may differ from call to call."""
        return next((leaf.dynamic for leaf in self.leaves if leaf.dynamic), ())

    def zeros(self, n: int) -> Samples:
        """Samples of zeros."""
        leaves = tuple(leaf.zeros(n) for leaf in self.leaves)
        batched = tuple(leaf.batched for leaf in self.leaves)
        return Samples(leaves, batched, self.tree, self.dynamic)

    def fits(self, samples: Samples) -> bool:
        """Whether samples are as the network takes them."""
        return samples.tree == self.tree and all(
            leaf.fits(value) for leaf, value in zip(self.leaves, samples.leaves, strict=True)
        )

    def checked(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments of a call, floating-point tensors in float32. Raises DataError where they form
        another tree, a tensor has another type or shape, or its sizes do not go together.
        """
        leaves, tree = pytree.tree_flatten((args, kwargs))
        leaves = [in_float32(leaf) for leaf in leaves]
        known = tree == self.tree
        if not known or not all(map(Leaf.fits, self.leaves, leaves)):
            alike = known and all(map(Leaf.alike, self.leaves, leaves))
            sizes = "; sizes are those of its calibration (`dynamic` frees height and width)"
            raise self._refusal(leaves, tree, sizes if alike else "")
        batched = (leaf.batched for leaf in self.leaves)
        for condition in self.conditions.unmet(map(as_two, leaves, batched)):
            raise self._refusal(leaves, tree, f"; as it was captured it needs {condition}")
        args, kwargs = pytree.tree_unflatten(leaves, tree)
        return args, kwargs
