"""Data sets that are arrays in memory: what mnist, cifar10, digits, npz files and users' functions
share.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from subbyte.data.dataset import DataSet, OnDemand, Split, Target, spread
from subbyte.data.preprocess import Preprocess
from subbyte.errors import DataError, FormatError
from subbyte.io.arrays import read_arrays
from subbyte.io.digests import digest

log = logging.getLogger("subbyte")

CHANNELS = (1, 3, 4)  # numbers of channels by which [n, H, W, C] is told from [n, C, H, W]
MAX_CLASSES = 1_000_000


@dataclass(frozen=True, eq=False)
class ArrayReader:
    """Reads images from `stored`: uint8, or float32 from 0 to 1, [n, C, H, W]; `where` is for
    errors.
    """

    stored: Tensor
    preprocess: Preprocess
    where: str

    def __call__(self, indices: Tensor) -> Tensor:
        """Read the images at indices int64 [b]: float32 [b, C, H, W], normalized."""
        images = self.stored[indices]
        if self.preprocess.reshapes and len(images):
            named = zip(images, indices.tolist(), strict=True)
            images = torch.stack(
                [self.preprocess.reshape_tensor(x, f"{self.where}, image {i}") for x, i in named]
            )
        return self.preprocess.finish(images)


@dataclass(frozen=True, eq=False)
class Stored(OnDemand):
    """A target in the type that it is stored in: maps of bytes take an eighth of int64's room.

    where: the array, for errors.
    """

    values: Tensor
    where: str

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, indices: Tensor) -> Tensor:
        found = self.values[indices]
        return found.float() if found.is_floating_point() else found.long()

    def place(self, index: int) -> str:
        """See `OnDemand`."""
        return f"{self.where}, sample {index}"


@dataclass(frozen=True, eq=False)
class Arrays:
    """A split before preprocessing. images: uint8, or float32 from 0 to 1, [n, C, H, W]; labels:
    int64 [n], none where nothing is known of the images or `others` is all that is; others:
    targets of other forms [n, ...], of further outputs.

    where: the file or folder, for errors. Raises DataError when they do not go together, or are
        empty.
    """

    images: Tensor
    labels: Tensor | None
    where: str
    others: tuple[Tensor, ...] = ()

    def __post_init__(self) -> None:
        if self.labels is not None and len(self.images) != len(self.labels):
            raise DataError(
                f"{self.where}: {len(self.images)} images but {len(self.labels)} labels; a file is "
                f"cut short"
            )
        if not self.images.numel():
            raise DataError(f"{self.where}: holds no images (shape {list(self.images.shape)})")

    @property
    def targets(self) -> tuple[Target, ...]:
        """All of them: labels first."""
        known: tuple[Target, ...] = () if self.labels is None else (self.labels,)
        return (*known, *(_target(values, self.where) for values in self.others))


def array_data(
    name: str, train: Arrays | None, test: Arrays, classes: tuple[str, ...], preprocess: Preprocess
) -> DataSet:
    """Make a data set of arrays.

    Raises DataError when a label is not in 0 ... len(classes) - 1, the normalization is for other
    channels, or images are to be resized, but not the maps that belong to them.
    """
    parts: list[bytes] = []
    splits: dict[str, Split] = {}
    for kind, arrays in (("train", train), ("test", test)):
        if arrays is None:
            continue
        if arrays.labels is not None:
            check_labels(arrays.labels, len(classes), arrays.where)
        if preprocess.reshapes and any(target.ndim > 2 for target in arrays.others):
            raise DataError(
                f"{arrays.where}: --resize and --crop change images, but not their maps; store "
                f"both in the size wanted"
            )
        preprocess.normalization.check(arrays.images.shape[1])
        reader = ArrayReader(arrays.images, preprocess, f"{arrays.where} ({kind})")
        splits[kind] = Split(kind, reader, len(arrays.images), arrays.targets)
        parts += [kind.encode(), str(list(arrays.images.shape)).encode()]
        if arrays.labels is not None:
            parts.append(arrays.labels.numpy().tobytes())
        some = spread(len(arrays.images))
        parts += [x[some].numpy().tobytes() for x in (*arrays.others, arrays.images)]
    return DataSet(name, splits.get("train"), splits["test"], classes, digest(parts), preprocess)


def _target(values: Tensor, where: str) -> Target:
    """Labels and small targets as they are wanted; maps as they are stored."""
    whole = Stored(values, where)
    return whole[torch.arange(len(values))] if values.ndim < 3 else whole


def check_labels(labels: Tensor, classes: int, where: str) -> None:
    """Raise DataError, naming the first one, when a label of int64 [n] is not in 0 ... classes -
    1.
    """
    wrong = ((labels < 0) | (labels >= classes)).nonzero()
    if len(wrong):
        first = int(wrong[0])
        raise DataError(
            f"{where}: the label of image {first} is {int(labels[first])}, out of range: "
            f"there are {classes} classes, 0 to {classes - 1}"
        )


def load_npz(path: Path, preprocess: Preprocess) -> DataSet:
    """Read an .npz file with x_train and x_test, or images: then only a test split.

    Images are [n, H, W], [n, H, W, C] or [n, C, H, W] with C = 1, 3 or 4. uint8 is divided by 255;
    floating point is taken as it is and should be from 0 to 1; 0 to 255 is noted, and refused where
    a normalization is for 0 to 1. Beside them lie targets, or none:
    y_train and y_test, or labels, are whole numbers [n] or [n, 1]: classes, named "0", "1", ... up
    to the largest. Every other array [n, ...] of numbers is a target of the network's next output,
    in the order of the file: maps of classes [n, H, W], floats of any shape; with x_train and
    x_test they are pairs NAME_train and NAME_test. Raises DataError when the file is not so. No
    pickled array is read.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: there is no such file; npz:PATH expects an .npz file with {_LAYOUT}"
        )
    try:
        arrays = read_arrays(path)
    except FormatError as reason:
        raise DataError(str(reason)) from reason
    return named_arrays(f"npz:{path.stem}", arrays, str(path), preprocess)


def named_arrays(
    name: str, arrays: Mapping[str, Any], where: str, preprocess: Preprocess
) -> DataSet:
    """Make a data set of arrays or tensors under the names, and of the kinds, that `load_npz`
    reads.
    """
    kinds = TRAIN_TEST if any(_named("x", kind) in arrays for kind in TRAIN_TEST) else WHOLE
    images = [_named("x", kind) for kind in kinds]
    missing = [key for key in images if key not in arrays]
    if missing:
        raise DataError(
            f"{where}: {missing[0]!r} is missing; it has {', '.join(arrays) or 'nothing'}, needs "
            f"{_LAYOUT}"
        )
    targets, used = _targets(arrays, kinds, where)
    ignored = [str(k) for k in arrays if k not in {*images, *used}]
    if ignored:
        log.warning("%s: of its arrays, %s are not used", where, ", ".join(ignored))
    splits = []
    for kind in kinds:
        pixels = _images(arrays[_named("x", kind)], f"{where}, {_named('x', kind)}")
        preprocess.check_scale(pixels, f"{where}, {_named('x', kind)}")
        key = _named("y", kind)
        labels = _labels(arrays[key], f"{where}, {key}") if "y" in targets else None
        names = [_named(target, kind) for target in targets if target != "y"]
        others = tuple(_numbers(arrays[name], f"{where}, {name}") for name in names)
        for target, values in zip(names, others, strict=True):
            if len(values) != len(pixels):
                raise DataError(
                    f"{where}, {target}: {len(values)} values for {len(pixels)} images; each image "
                    f"needs one"
                )
        splits.append(Arrays(pixels, labels, where, others))
    largest = [int(one.labels.max()) for one in splits if one.labels is not None]
    count = 1 + max(largest, default=-1)
    if count > MAX_CLASSES:
        raise DataError(
            f"{where}: label {count - 1} is out of range; labels count the classes from 0"
        )
    if len(splits) == 2 and splits[0].images.shape[1:] != splits[1].images.shape[1:]:
        a, b = (list(one.images.shape[1:]) for one in splits)
        raise DataError(
            f"{where}: training images are {a} but test images {b}; bring them to one shape"
        )
    train = splits[0] if len(splits) == 2 else None
    return array_data(name, train, splits[-1], tuple(map(str, range(count))), preprocess)


_LAYOUT = "images, or x_train and x_test; and labels, or y_train and y_test, where they are known"
TRAIN_TEST, WHOLE = ("_train", "_test"), ("",)
"""Endings of the names of arrays, by split."""
_PLAIN = {"x": "images", "y": "labels"}


def _named(what: str, kind: str) -> str:
    """The name of a split's array, such as x_train; of a file with one split: images."""
    return f"{what}{kind}" if kind else _PLAIN.get(what, what)


def _targets(
    arrays: Mapping[str, Any], kinds: tuple[str, ...], where: str
) -> tuple[list[str], list[str]]:
    """Targets, without the endings of splits, labels first; and the arrays that hold them."""
    rest = [key for key in arrays if key not in {_named("x", kind) for kind in kinds}]
    found = {"y": None} if any(_named("y", kind) in arrays for kind in kinds) else {}
    for key in rest:
        kind = next((kind for kind in kinds if key.endswith(kind)), None)
        if kind is not None and _fits(arrays[key], arrays[_named("x", kind)]):
            what = key.removesuffix(kind)
            found |= {} if _named("y", kind) == key else {what: None}
    names = [_named(what, kind) for what in found for kind in kinds]
    missing = [name for name in names if name not in arrays]
    if missing:
        raise DataError(
            f"{where}: {missing[0]!r} is missing; every target must be there for both splits"
        )
    return list(found), names


def _fits(value: Any, images: Any) -> bool:
    """Whether an array has a number, or several, for each image."""
    return (
        isinstance(value, np.ndarray | Tensor)
        and value.ndim > 0
        and np.ndim(images) > 0
        and len(value) == len(images)
        and (isinstance(value, Tensor) or value.dtype.kind in "biuf")
    )


def _numbers(value: Any, where: str) -> Tensor:
    array = _plain(value, where)
    if array.dtype.kind == "f":
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    kept = array if array.dtype in (np.uint8, np.int16) else array.astype(np.int64)
    return torch.from_numpy(np.ascontiguousarray(kept))


def _images(value: Any, where: str) -> Tensor:
    array = _plain(value, where)
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4:
        raise DataError(
            f"{where}: shape {list(array.shape)}; images are [n, H, W], [n, H, W, C] or [n, C, H, "
            f"W]"
        )
    first, last = array.shape[1] in CHANNELS, array.shape[3] in CHANNELS
    if first == last:
        raise DataError(
            f"{where}: shape {list(array.shape)}: which axis is the channels, 1, 3 or 4 of them? "
            "Make it [n, H, W, C] or [n, C, H, W] with only one of the two axes of such a size"
        )
    if last:
        array = array.transpose(0, 3, 1, 2)
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise DataError(
            f"{where}: type {array.dtype}; images are uint8, or floating point from 0 to 1: divide "
            f"them by the number that is white"
        )
    dtype = np.uint8 if array.dtype == np.uint8 else np.float32
    return torch.from_numpy(np.array(array, dtype=dtype, order="C"))


def _labels(value: Any, where: str) -> Tensor:
    array = _plain(value, where)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"{where}: {array.dtype} {list(array.shape)}; labels are whole numbers [n]")
    return torch.from_numpy(array.astype(np.int64))


def _plain(value: Any, where: str) -> NDArray[Any]:
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if not isinstance(value, np.ndarray):
        raise DataError(
            f"{where}: is a {type(value).__name__}; give a numpy array or a torch tensor"
        )
    return value
