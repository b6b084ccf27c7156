"""CIFAR-10 in its two official forms (Krizhevsky 2009).

python version   data_batch_1 ... data_batch_5, test_batch: dicts, b"data" uint8 [n, 3072],
                 b"labels" [n]
binary version   data_batch_1.bin ... test_batch.bin: records of 1 label byte and 3072 pixel bytes
Either way an image is 1024 red, 1024 green, 1024 blue bytes, row by row.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from subbyte.data.arrays import Arrays, array_data, check_labels
from subbyte.data.dataset import DataSet
from subbyte.data.pickles import PickledArray, read_pickle
from subbyte.data.preprocess import Preprocess
from subbyte.errors import DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PIXELS = 3 * 32 * 32
TRAIN, TEST = tuple(f"data_batch_{i}" for i in range(1, 6)), ("test_batch",)
FOLDERS = {
    "": "cifar-10-batches-py",
    ".bin": "cifar-10-batches-bin",
}  # suffix of the files -> folder they come in


def load_cifar10(path: Path, preprocess: Preprocess) -> DataSet:
    """Read CIFAR-10 from `path`, or from cifar-10-batches-py or cifar-10-batches-bin in it.

    Images are [3, 32, 32], 50,000 for training and 10,000 for testing.
    Raises DataError when a batch is missing, damaged, or would execute code.
    """
    home, suffix = _home(path)
    read = _read_binary if suffix else _read_python
    missing = [n + suffix for n in TRAIN + TEST if not (home / (n + suffix)).is_file()]
    if missing:
        raise DataError(
            f"{home}: of the six batches, {', '.join(missing)} is missing; unpack the data set "
            f"again"
        )
    train, test = (_split(home, [n + suffix for n in names], read) for names in (TRAIN, TEST))
    return array_data("cifar10", train, test, CLASSES, preprocess)


def _home(path: Path) -> tuple[Path, str]:
    for suffix, folder in FOLDERS.items():
        for home in (path, path / folder):
            if any((home / (name + suffix)).is_file() for name in TRAIN + TEST):
                return home, suffix
    what = "no such files are there" if path.is_dir() else "there is no such folder"
    raise DataError(
        f"{path}: {what}; cifar10:PATH expects data_batch_1 to data_batch_5 and test_batch (python "
        f"version), "
        f"or the same with .bin (binary version), in it or in {' or '.join(FOLDERS.values())} there"
    )


def _split(home: Path, names: list[str], read: Callable[[Path], tuple[Tensor, Tensor]]) -> Arrays:
    batches = [read(home / name) for name in names]
    for name, (_, labels) in zip(names, batches, strict=True):
        check_labels(labels, len(CLASSES), str(home / name))
    images = torch.cat([pixels for pixels, _ in batches]).view(-1, 3, 32, 32)
    return Arrays(images, torch.cat([labels for _, labels in batches]), f"{home}, {names[0]} ff.")


def _read_binary(path: Path) -> tuple[Tensor, Tensor]:
    content = np.fromfile(path, np.uint8)
    if len(content) == 0 or len(content) % (1 + PIXELS):
        raise DataError(
            f"{path}: {len(content)} bytes are not a whole number of records of {1 + PIXELS}; "
            f"unpack it again"
        )
    records = torch.from_numpy(content).view(-1, 1 + PIXELS)
    return records[:, 1:], records[:, 0].to(torch.int64)


def _read_python(path: Path) -> tuple[Tensor, Tensor]:
    try:
        batch = read_pickle(path.read_bytes())
        data = _entry(batch, b"data", PickledArray).bytes()
        labels = _entry(batch, b"labels", list)
    except DataError as reason:
        raise DataError(f"{path}: {reason}") from reason
    if data.ndim != 2 or data.shape[1] != PIXELS:
        raise DataError(
            f"{path}: its b'data' is uint8 {list(data.shape)}, not uint8 [n, {PIXELS}]; this is no "
            f"CIFAR-10 batch"
        )
    if not all(type(label) is int and abs(label) < 2**63 for label in labels):
        raise DataError(
            f"{path}: its b'labels' is not a list of whole numbers; this is no CIFAR-10 batch"
        )
    if len(labels) != len(data):
        raise DataError(f"{path}: {len(data)} images but {len(labels)} labels; unpack it again")
    return torch.from_numpy(data.copy()), torch.tensor(labels, dtype=torch.int64)


T = TypeVar("T")


def _entry(batch: object, name: bytes, kind: type[T]) -> T:
    found = batch.get(name) if isinstance(batch, dict) else None
    if not isinstance(found, kind):
        raise DataError(
            f"its {name!r} is {type(found).__name__}, not what it is in a CIFAR-10 batch"
        )
    return found
