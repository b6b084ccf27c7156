"""Data sets as the rest of subbyte sees them: labels that are known, and images that are read when
asked for.

A split reads its images by index, so that a folder of a million JPEG files takes no more memory
than one
batch. Images are float32 [b, C, H, W], already normalized; labels are int64 [n].
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from subbyte.errors import DataError

Indices = Sequence[int] | NDArray[Any] | Tensor
SAMPLES = 64  # images or files whose content goes into a fingerprint


@dataclass(frozen=True, eq=False)
class Split:
    """A part of a data set.

    name: "train" or "test". labels: int64 [n].
    read: indices int64 [b], each from 0 to n - 1 -> images float32 [b, C, H, W], normalized; raises
        DataError.
    Raises DataError when `labels` has another type or shape.
    """

    name: str
    labels: Tensor
    read: Callable[[Tensor], Tensor]

    def __post_init__(self) -> None:
        if self.labels.dtype != torch.int64 or self.labels.ndim != 1:
            raise DataError(
                f"split {self.name!r}: labels must be int64 [n], got {self.labels.dtype} "
                f"{list(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, indices: Indices) -> Tensor:
        """Read the images at `indices`: float32 [b, C, H, W]. Raises DataError beyond 0 ... n -
        1.
        """
        return self.read(self._checked(indices))

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images float32 [b, C, H, W], labels int64 [b]) in order, b = `size` but for the
        last one.
        """
        if size < 1:
            raise DataError(
                f"split {self.name!r}: a batch must hold at least 1 image, got size={size}"
            )
        for start in range(0, len(self), size):
            indices = torch.arange(start, min(start + size, len(self)))
            yield self.read(indices), self.labels[indices]

    def take(self, indices: Indices) -> "Split":
        """Return a split of the images at `indices`, in that order. Raises DataError as `images`
        does.
        """
        positions = self._checked(indices)
        read = self.read
        part = _Subset(read, positions)
        if isinstance(read, _Subset):  # a part of a part reads the whole directly
            part = _Subset(read.read, read.positions[positions])
        return Split(self.name, self.labels[positions], part)

    def without(self, indices: Indices) -> "Split":
        """Return a split of all other images, in their order. Raises DataError as `images` does."""
        kept = torch.ones(len(self), dtype=torch.bool)
        kept[self._checked(indices)] = False
        return self.take(kept.nonzero().flatten())

    def _checked(self, indices: Indices) -> Tensor:
        positions = torch.as_tensor(indices)
        if len(positions) == 0:
            return torch.empty(0, dtype=torch.int64)
        if positions.ndim != 1 or positions.is_floating_point() or positions.dtype == torch.bool:
            raise DataError(
                f"split {self.name!r}: indices must be a list of whole numbers, "
                f"got {positions.dtype} {list(positions.shape)}"
            )
        low, high = int(positions.min()), int(positions.max())
        if low < 0 or high >= len(self):
            raise DataError(
                f"split {self.name!r}: index {low if low < 0 else high} is beyond its {len(self)} "
                f"images, "
                f"which are numbered 0 to {len(self) - 1}"
            )
        return positions.to(torch.int64)


@dataclass(frozen=True)
class _Subset:
    read: Callable[[Tensor], Tensor]
    positions: Tensor  # int64 [n], indices for `read`

    def __call__(self, indices: Tensor) -> Tensor:
        return self.read(self.positions[indices])


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set.

    train: None where there is only one split. classes: the name of class k at k.
    fingerprint: sha256 in hexadecimal over the labels and samples of the images as stored, so that
        results
        can be told apart by their data; it does not depend on where the files lie, nor on
        normalization,
        resizing or cropping.
    """

    name: str
    train: Split | None
    test: Split
    classes: tuple[str, ...]
    fingerprint: str


def draw_calibration(data: DataSet, count: int, seed: int) -> tuple[Tensor, Split]:
    """Draw calibration images, and say which images are left to evaluate on.

    The first `count` of numpy.random.RandomState(seed).permutation(n) are drawn from the training
    split; the
    test split is then left whole. Without a training split they are drawn from the test split, and
    its other
    images are left. Labels are never returned with the images.
    Returns images float32 [count, C, H, W] and the split to evaluate on.
    Raises DataError when `count` is below 1 or more than there is (one image must be left), when
    the seed is
    not in 0 ... 2^32 - 1, or an image drawn holds NaN or Inf.
    """
    source = data.train if data.train is not None else data.test
    most = len(source) if data.train is not None else len(source) - 1
    if not 1 <= count <= most:
        left = "" if data.train is not None else ", one of which must be left to evaluate on"
        raise DataError(
            f"{data.name}: cannot draw {count} calibration images from the {len(source)} of its "
            f"{source.name} split{left}; ask for 1 to {most}"
        )
    if not 0 <= seed < 2**32:
        raise DataError(
            f"{data.name}: the seed of the calibration images must be from 0 to 2^32 - 1, got "
            f"{seed}"
        )
    drawn = _drawn(source, count, seed)
    images = source.images(drawn)
    finite = torch.isfinite(images).flatten(1).all(dim=1)
    if not finite.all():
        first = int(drawn[int((~finite).nonzero()[0])])
        raise DataError(
            f"{data.name}: {int((~finite).sum())} of {count} calibration images hold NaN or Inf, "
            f"the first is image {first} of the {source.name} split; repair or remove it"
        )
    return images, (data.test if data.train is not None else source.without(drawn))


def draw_labels(data: DataSet, count: int, seed: int) -> Tensor:
    """Labels of the images that `draw_calibration` draws: int64 [count]. For tuning that ends with
    labels only.
    """
    source = data.train if data.train is not None else data.test
    return source.labels[torch.from_numpy(_drawn(source, count, seed))]


def _drawn(source: Split, count: int, seed: int) -> np.ndarray:
    return np.random.RandomState(seed).permutation(len(source))[:count]


def digest(parts: Iterable[bytes]) -> str:
    """sha256 in hexadecimal of byte strings, each with its length, so that their borders count."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()


def spread(count: int) -> list[int]:
    """Return at most SAMPLES whole numbers spread evenly over 0 ... count - 1."""
    return sorted({i * count // SAMPLES for i in range(SAMPLES)}) if count else []
