"""Data sets as the rest of subbyte sees them: targets that are known, and images that are read when
asked for.

A split reads its images by index, so that a folder of a million JPEG files takes no more memory
than one batch. Images are float32 [b, C, H, W], already normalized. Targets are class labels int64
[n], maps of classes int64 [n, H, W], floats of any shape, several of them, or there are none.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from subbyte.data.preprocess import Preprocess
from subbyte.errors import DataError
from subbyte.graph.samples import Samples

Indices = Sequence[int] | NDArray[Any] | Tensor
Reader = Callable[[Tensor], Tensor | Samples]


class OnDemand(ABC):
    """The values that one output of the network is to have, read when they are asked for."""

    @abstractmethod
    def __len__(self) -> int:
        """How many samples there are."""

    @abstractmethod
    def __getitem__(self, indices: Tensor, /) -> Tensor:
        """The values at indices int64 [b]: int64 or float32 [b, ...]."""

    @abstractmethod
    def place(self, index: int) -> str:
        """The place that the values of a sample come from, for errors."""


Target = Tensor | OnDemand
"""The values that one output of the network is to have, all in memory or read when asked for."""


SAMPLES = 64  # images or files whose content goes into a fingerprint
_TARGETS = (torch.int64, torch.float32)


@dataclass(frozen=True, eq=False)
class Split:
    """A part of a data set: n samples, and what the network's outputs are to be for each.

    name: "train" or "test". read: indices int64 [b], each from 0 to n - 1 -> images float32
        [b, C, H, W], normalized, or `Samples` of a network that takes other arguments; raises
        DataError. count: n. targets: one [n, ...] for each of the network's outputs that has any:
        int64 labels [n] or maps [n, H, W], or float32; none where nothing is known.
    Raises DataError when targets are not so.
    """

    name: str
    read: Reader
    count: int
    targets: tuple[Target, ...] = ()

    def __post_init__(self) -> None:
        for target in self.targets:
            fits = not isinstance(target, Tensor) or (target.dtype in _TARGETS and target.ndim > 0)
            if not fits or len(target) != self.count:
                raise DataError(
                    f"split {self.name!r}: targets must be int64 or float32 [{self.count}, ...], "
                    f"got {_described(target)}"
                )

    @classmethod
    def labelled(cls, name: str, labels: Tensor, read: Reader) -> "Split":
        """A split whose samples are each of one class. labels: int64 [n]. Raises DataError for
        others.
        """
        if labels.dtype != torch.int64 or labels.ndim != 1:
            raise DataError(
                f"split {name!r}: labels must be int64 [n], got {labels.dtype} {list(labels.shape)}"
            )
        return cls(name, read, len(labels), (labels,))

    @property
    def labels(self) -> Tensor:
        """The class of every sample, int64 [n]. Raises DataError where there are no such labels, or
        other targets beside them.
        """
        if not self.has_labels:
            what = ", ".join(map(_described, self.targets)) or "none"
            raise DataError(
                f"split {self.name!r} has no class labels, int64 [{self.count}], which are needed "
                f"here; its targets are: {what}"
            )
        (labels,) = self.targets
        assert isinstance(labels, Tensor)
        return labels

    @property
    def has_labels(self) -> bool:
        """Whether its targets are class labels and nothing else."""
        return len(self.targets) == 1 and is_labels(self.targets[0])

    def __len__(self) -> int:
        return self.count

    def images(self, indices: Indices) -> Tensor:
        """Read the images at `indices`: float32 [b, C, H, W]. Raises DataError beyond 0 ... n - 1,
        and for a network's other arguments.
        """
        found = self.samples(indices)
        if not isinstance(found, Tensor):
            raise DataError(
                f"split {self.name!r} has {found.described} for each call, where one tensor of "
                f"images is needed"
            )
        return found

    def samples(self, indices: Indices) -> Tensor | Samples:
        """Read what the network takes at `indices`. Raises DataError beyond 0 ... n - 1."""
        return self.read(self._checked(indices))

    def batches(self, size: int) -> Iterator[tuple[Tensor | Samples, tuple[Tensor, ...]]]:
        """Yield what the network takes (images float32 [b, C, H, W]) and the targets, in order;
        b = `size` but for the last one.
        """
        if size < 1:
            raise DataError(
                f"split {self.name!r}: a batch must hold at least 1 image, got size={size}"
            )
        for start in range(0, len(self), size):
            indices = torch.arange(start, min(start + size, len(self)))
            yield self.read(indices), tuple(target[indices] for target in self.targets)

    def take(self, indices: Indices) -> "Split":
        """Return a split of the images at `indices`, in that order. Raises DataError as `images`
        does.
        """
        positions = self._checked(indices)
        read = self.read
        part = _Subset(read, positions)
        if isinstance(read, _Subset):  # a part of a part reads the whole directly
            part = _Subset(read.read, read.positions[positions])
        targets = tuple(_part(target, positions) for target in self.targets)
        return Split(self.name, part, len(positions), targets)

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
    read: Reader
    positions: Tensor  # int64 [n], indices for `read`

    def __call__(self, indices: Tensor) -> Tensor | Samples:
        return self.read(self.positions[indices])


@dataclass(frozen=True)
class _Picked(OnDemand):
    target: OnDemand
    positions: Tensor  # int64 [n], indices for `target`

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, indices: Tensor) -> Tensor:
        return self.target[self.positions[indices]]

    def place(self, index: int) -> str:
        return self.target.place(int(self.positions[index]))


def _part(target: Target, positions: Tensor) -> Target:
    return target[positions] if isinstance(target, Tensor) else _Picked(target, positions)


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set.

    train: None where there is only one split. classes: the name of class k at k; none where there
        are no class labels.
    fingerprint: sha256 in hexadecimal over the targets and samples of the images as stored, so that
        results
        can be told apart by their data; it does not depend on where the files lie, nor on
        normalization,
        resizing or cropping.
    preprocess: what images as stored go through; None where samples are used as they are.
    """

    name: str
    train: Split | None
    test: Split
    classes: tuple[str, ...]
    fingerprint: str
    preprocess: Preprocess | None = None

    @property
    def drawn_from(self) -> Split:
        """The split that calibration samples are of: the training one where there is one."""
        return self.test if self.train is None else self.train

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """Channels, height and width of its images; None where samples are something else. Raises
        DataError when the first can't be read.
        """
        first = self.test.samples([0]) if len(self.test) else None
        match list(first.shape) if isinstance(first, Tensor) else []:
            case [_, channels, height, width]:
                return channels, height, width
        return None


def is_labels(target: Target) -> bool:
    """Whether a target is the class of each sample: int64 [n]."""
    return isinstance(target, Tensor) and target.dtype == torch.int64 and target.ndim == 1


def _described(target: Target) -> str:
    if not isinstance(target, Tensor):
        return f"{len(target)} read when asked for"
    return f"{str(target.dtype).removeprefix('torch.')} {list(target.shape)}"


def draw_calibration(data: DataSet, count: int, seed: int) -> tuple[Tensor, Split]:
    """Draw calibration images, and say which images are left to evaluate on.

    Raises DataError as `draw_samples`, and for data of a network that takes other arguments.
    """
    samples, rest = draw_samples(data, count, seed)
    if not isinstance(samples, Tensor):
        raise DataError(
            f"{data.name} has {samples.described} for each call, where one tensor of images is "
            f"needed"
        )
    return samples, rest


def draw_samples(data: DataSet, count: int, seed: int) -> tuple[Tensor | Samples, Split]:
    """Draw calibration samples, and say which are left to evaluate on.

    The first `count` of numpy.random.RandomState(seed).permutation(n) are drawn from the training
    split; the test split is then left whole. Without a training split they are drawn from the test
    split, and its other samples are left. Targets are never returned with them.
    Returns images float32 [count, C, H, W], or `Samples`, and the split to evaluate on.
    Raises DataError when `count` is below 1 or more than there is (one image must be left), when
    the seed is not in 0 ... 2^32 - 1, or an image drawn holds NaN or Inf.
    """
    source = data.drawn_from
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
    images = source.samples(drawn)
    finite = torch.ones(count, dtype=torch.bool)
    if isinstance(images, Tensor):  # other arguments may hold masks of infinities
        finite = torch.isfinite(images).flatten(1).all(dim=1)
    if not finite.all():
        first = int(drawn[int((~finite).nonzero()[0])])
        raise DataError(
            f"{data.name}: {int((~finite).sum())} of {count} calibration images hold NaN or Inf, "
            f"the first is image {first} of the {source.name} split; repair or remove it"
        )
    return images, (data.test if data.train is not None else source.without(drawn))


def draw_apart(data: DataSet, calibration: int, most: int, seed: int) -> tuple[Split, Split]:
    """Samples held apart, and the split to evaluate on, which has none of them: the next `most` in
    the order in which `draw_samples` draws so many calibration samples, or as many as there are;
    where there is no training split half of what is left at most. Raises DataError where none is
    left.
    """
    source = data.drawn_from
    left = len(source) - calibration
    count = min(most, left if data.train is not None else left // 2)
    if count < 1:
        raise DataError(
            f"{data.name}: no samples are left to hold apart from {calibration} calibration "
            f"samples; ask for fewer of these"
        )
    drawn = _drawn(source, calibration + count, seed)
    rest = data.test if data.train is not None else source.without(drawn)
    return source.take(drawn[calibration:]), rest


def draw_labels(data: DataSet, count: int, seed: int) -> Tensor:
    """Labels of the images that `draw_calibration` draws: int64 [count]. For tuning that ends with
    labels only.
    """
    source = data.drawn_from
    return source.labels[torch.from_numpy(_drawn(source, count, seed))]


def draw_targets(data: DataSet, count: int, seed: int) -> Tensor:
    """Targets of the samples that `draw_samples` draws, of the first output: [count, ...]. For
    tuning that ends with them only. Raises DataError where there are none.
    """
    source = data.drawn_from
    if not source.targets:
        raise DataError(
            f"{data.name} has no targets, and tune: retrain from labels needs those of the "
            f"calibration images; retrain from logits"
        )
    return source.targets[0][torch.from_numpy(_drawn(source, count, seed))]


def _drawn(source: Split, count: int, seed: int) -> np.ndarray:
    return np.random.RandomState(seed).permutation(len(source))[:count]


def spread(count: int) -> list[int]:
    """Return at most SAMPLES whole numbers spread evenly over 0 ... count - 1."""
    return sorted({i * count // SAMPLES for i in range(SAMPLES)}) if count else []
