"""The tensors that an exported file takes, and those that it is given."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from subbyte.errors import DataError
from subbyte.graph import described


@dataclass(frozen=True)
class Wanted:
    """An input of a file. shape: with a name in place of each size that is free."""

    dtype: torch.dtype
    shape: tuple[int | str, ...]

    @property
    def described(self) -> str:
        """Its type and shape in words."""
        return f"{str(self.dtype).removeprefix('torch.')} [{', '.join(map(str, self.shape))}]"

    def fits(self, given: object) -> bool:
        """Whether it is a tensor of this type and shape."""
        return (
            isinstance(given, Tensor)
            and given.dtype == self.dtype
            and given.ndim == len(self.shape)
            and all(
                isinstance(size, str) or size == own
                for size, own in zip(self.shape, given.shape, strict=True)
            )
        )


def check_given(path: Path, wanted: Sequence[Wanted], given: Sequence[object]) -> None:
    """Raise DataError, with the shapes of both, where a file does not take what it is given."""
    if len(given) != len(wanted) or not all(map(Wanted.fits, wanted, given)):
        takes = ", ".join(one.described for one in wanted)
        got = ", ".join(map(described, given))
        raise DataError(f"{path}: takes {takes}, got {got}")
