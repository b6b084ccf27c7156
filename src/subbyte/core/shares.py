"""Shares: who has a scale in common. Tensors are matrices [rows, columns] here.

tensor     one scale for all                                    scales []
channel    one for each row, that is for an output channel      scales [rows, 1]
group      one for each `size` neighbours in a row              scales [rows, ceil(columns / size)]
"""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from subbyte.errors import RecipeError
from subbyte.io.plain import from_plain

Granularity = Literal["tensor", "channel", "group"]
"""A share as users name it."""
_LARGEST = 2**31  # of a group


class Share(ABC):
    """kind: its name in recipes and files; block_name: what has a scale, as people say it."""

    kind: ClassVar[Granularity]
    block_name: ClassVar[str]
    one_scale: ClassVar[bool] = False
    """The whole tensor has one scale."""

    @property
    def block(self) -> int | None:
        """So many neighbours in a row share a scale; None: the whole row does."""
        return None

    @property
    def by_row(self) -> bool:
        """Each row has one scale of its own."""
        return not self.one_scale and self.block is None

    @abstractmethod
    def blocks(self, values: Tensor) -> Tensor:
        """[blocks, n]: what shares a scale, side by side; short blocks are filled up with 0."""

    @abstractmethod
    def shaped(self, numbers: Tensor, rows: int) -> Tensor:
        """A number for each block, [blocks], in the shape that a grid holds scales in."""

    @abstractmethod
    def sums(self, values: Tensor) -> Tensor:
        """The sum of each block of [rows, columns], in the shape of the scales."""

    def flat(self, parameter: Tensor) -> Tensor:
        """Scales or zero points as runtimes want them: [], [rows] or [rows, groups]."""
        return parameter

    def spread(self, parameter: Tensor, columns: int) -> Tensor:
        """Scales or zero points in a shape that broadcasts with [rows, columns]."""
        return parameter

    def shape(self, rows: int, columns: int) -> tuple[int, ...]:
        """The shape of the scales of a matrix."""
        return tuple(self.sums(torch.empty(rows, columns, device="meta")).shape)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `share_from` reads them."""
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True)
class PerTensor(Share):
    """One scale for the whole tensor, which may have any shape."""

    kind = "tensor"
    block_name = "tensor"
    one_scale = True

    def blocks(self, values: Tensor) -> Tensor:
        """See `Share`."""
        return values.reshape(1, -1)

    def shaped(self, numbers: Tensor, rows: int) -> Tensor:
        """See `Share`."""
        return numbers.reshape(())

    def sums(self, values: Tensor) -> Tensor:
        """See `Share`."""
        return values.sum()


@dataclass(frozen=True)
class PerChannel(Share):
    """One scale for each row."""

    kind = "channel"
    block_name = "row"

    def blocks(self, values: Tensor) -> Tensor:
        """See `Share`."""
        return values

    def shaped(self, numbers: Tensor, rows: int) -> Tensor:
        """See `Share`."""
        return numbers.reshape(-1, 1)

    def sums(self, values: Tensor) -> Tensor:
        """See `Share`."""
        return values.sum(1, keepdim=True)

    def flat(self, parameter: Tensor) -> Tensor:
        """See `Share`."""
        return parameter.reshape(-1)


@dataclass(frozen=True)
class PerGroup(Share):
    """One scale for each `size` neighbours in a row; the last group of a row may be shorter."""

    size: int

    kind = "group"
    block_name = "group"

    def __post_init__(self) -> None:
        if not 1 <= self.size < _LARGEST:
            raise RecipeError(f"group_size must be at least 1, got {self.size}")

    @property
    def block(self) -> int:
        """See `Share`."""
        return self.size

    def blocks(self, values: Tensor) -> Tensor:
        """See `Share`."""
        return F.pad(values, (0, -values.shape[1] % self.size)).reshape(-1, self.size)

    def shaped(self, numbers: Tensor, rows: int) -> Tensor:
        """See `Share`."""
        return numbers.reshape(rows, -1)

    def sums(self, values: Tensor) -> Tensor:
        """See `Share`."""
        padded = F.pad(values, (0, -values.shape[1] % self.size))
        return padded.reshape(len(values), -1, self.size).sum(2)

    def spread(self, parameter: Tensor, columns: int) -> Tensor:
        """See `Share`."""
        return parameter.repeat_interleave(min(self.size, columns), dim=1)[:, :columns]


SHARES: dict[str, type[Share]] = {share.kind: share for share in (PerTensor, PerChannel, PerGroup)}


def share_from(entry: object) -> Share:
    """Inverse of `Share.to_dict`. Raises RecipeError for an unknown kind or other values."""
    return from_plain("share", SHARES, entry)


def share_of(granularity: str, group_size: int | None = None) -> Share:
    """The share of a recipe's words. Raises RecipeError for a group size without groups, or groups
    without one.
    """
    if (group_size is not None) != issubclass(SHARES[granularity], PerGroup):
        raise RecipeError(
            f"group_size={group_size} with granularity={granularity!r}: "
            "a group size goes with granularity 'group', and only with it"
        )
    settings = {} if group_size is None else {"size": group_size}
    return share_from({"kind": granularity, **settings})
