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

from subbyte.data.dataset import DataSet, Split, digest, spread
from subbyte.data.preprocess import Preprocess
from subbyte.errors import DataError

log = logging.getLogger("subbyte")

FOUR = ("x_train", "y_train", "x_test", "y_test")
TWO = ("images", "labels")
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
class Arrays:
    """A split before preprocessing. images: uint8, or float32 from 0 to 1, [n, C, H, W]; labels:
    int64 [n].

    where: the file or folder, for errors. Raises DataError when the two do not go together, or are
        empty.
    """

    images: Tensor
    labels: Tensor
    where: str

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise DataError(
                f"{self.where}: {len(self.images)} images but {len(self.labels)} labels; a file is "
                f"cut short"
            )
        if not self.images.numel():
            raise DataError(f"{self.where}: holds no images (shape {list(self.images.shape)})")


def array_data(
    name: str, train: Arrays | None, test: Arrays, classes: tuple[str, ...], preprocess: Preprocess
) -> DataSet:
    """Make a data set of arrays.

    Raises DataError when a label is not in 0 ... len(classes) - 1, or the normalization is for
    other
    channels.
    """
    parts: list[bytes] = []
    splits: dict[str, Split] = {}
    for kind, arrays in (("train", train), ("test", test)):
        if arrays is None:
            continue
        check_labels(arrays.labels, len(classes), arrays.where)
        preprocess.normalization.check(arrays.images.shape[1])
        splits[kind] = Split(
            kind, arrays.labels, ArrayReader(arrays.images, preprocess, f"{arrays.where} ({kind})")
        )
        parts += [
            kind.encode(),
            str(list(arrays.images.shape)).encode(),
            arrays.labels.numpy().tobytes(),
        ]
        parts += [arrays.images[spread(len(arrays.images))].numpy().tobytes()]
    return DataSet(name, splits.get("train"), splits["test"], classes, digest(parts))


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
    """Read an .npz file with x_train, y_train, x_test, y_test, or images, labels: then only a test
    split.

    Images are [n, H, W], [n, H, W, C] or [n, C, H, W] with C = 1, 3 or 4. uint8 is divided by 255;
    floating
    point is taken as it is and should be from 0 to 1. Labels are whole numbers [n] or [n, 1].
    Classes are
    named "0", "1", ... up to the largest label. Raises DataError when the file is not so. No
    pickled array is
    read.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: there is no such file; npz:PATH expects an .npz file with {_LAYOUT}"
        )
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except Exception as reason:  # damaged archives raise errors of many types
        raise DataError(
            f"{path}: not a whole .npz file of plain arrays ({type(reason).__name__}: {reason})"
        ) from reason
    return named_arrays(f"npz:{path.stem}", arrays, str(path), preprocess)


def named_arrays(
    name: str, arrays: Mapping[str, Any], where: str, preprocess: Preprocess
) -> DataSet:
    """Make a data set of arrays or tensors under the names, and of the kinds, that `load_npz`
    reads.
    """
    keys = FOUR if any(k in arrays for k in FOUR) else TWO
    missing = [k for k in keys if k not in arrays]
    if missing:
        raise DataError(
            f"{where}: {missing[0]!r} is missing; it has {', '.join(arrays) or 'nothing'}, needs "
            f"{_LAYOUT}"
        )
    ignored = [str(k) for k in arrays if k not in keys]
    if ignored:
        log.warning("%s: of its arrays, %s are not used", where, ", ".join(ignored))
    pairs = [
        Arrays(_images(arrays[x], f"{where}, {x}"), _labels(arrays[y], f"{where}, {y}"), where)
        for x, y in zip(keys[::2], keys[1::2], strict=True)
    ]
    count = 1 + max(int(pair.labels.max()) for pair in pairs)
    if count > MAX_CLASSES:
        raise DataError(
            f"{where}: label {count - 1} is out of range; labels count the classes from 0"
        )
    if len(pairs) == 2 and pairs[0].images.shape[1:] != pairs[1].images.shape[1:]:
        a, b = (list(pair.images.shape[1:]) for pair in pairs)
        raise DataError(
            f"{where}: training images are {a} but test images {b}; bring them to one shape"
        )
    train = pairs[0] if len(pairs) == 2 else None
    return array_data(name, train, pairs[-1], tuple(map(str, range(count))), preprocess)


_LAYOUT = f"{', '.join(FOUR)}, or {', '.join(TWO)}"


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
            f"{where}: type {array.dtype}; images are uint8, or floating point from 0 to 1"
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
