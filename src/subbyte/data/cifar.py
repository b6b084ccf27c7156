"""CIFAR-10 in its two official forms (Krizhevsky 2009).

python version   data_batch_1 ... data_batch_5, test_batch: dicts, b"data" uint8 [n, 3072],
                 b"labels" [n]
binary version   data_batch_1.bin ... test_batch.bin: records of 1 label byte and 3072 pixel bytes
Either way an image is 1024 red, 1024 green, 1024 blue bytes, row by row.

A pickle can execute code. These are read by an unpickler that knows five names, all that an array
needs.
"""

import codecs
import io
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from subbyte.data.arrays import Arrays, array_data, check_labels
from subbyte.data.dataset import DataSet
from subbyte.data.preprocess import Preprocess
from subbyte.errors import DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PIXELS = 3 * 32 * 32
TRAIN, TEST = tuple(f"data_batch_{i}" for i in range(1, 6)), ("test_batch",)
FOLDERS = {
    "": "cifar-10-batches-py",
    ".bin": "cifar-10-batches-bin",
}  # suffix of the files -> folder they come in

# numpy's own rebuilding function, whichever module it lives in
_reconstruct = np.empty(0).__reduce__()[0]
ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,
}


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
        content = path.read_bytes()
        _check_places(content)
        batch = _ArrayUnpickler(io.BytesIO(content)).load()
    except DataError as reason:
        raise DataError(f"{path}: {reason}") from reason
    except Exception as reason:  # a damaged pickle raises errors of many types
        raise DataError(
            f"{path}: not a whole CIFAR batch ({type(reason).__name__}: {reason}); unpack it again"
        ) from reason
    data = batch.get(b"data") if isinstance(batch, dict) else None
    labels = batch.get(b"labels") if isinstance(batch, dict) else None
    if (
        not isinstance(data, np.ndarray)
        or data.dtype != np.uint8
        or data.ndim != 2
        or data.shape[1] != PIXELS
    ):
        what = (
            f"{data.dtype} {list(data.shape)}"
            if isinstance(data, np.ndarray)
            else type(data).__name__
        )
        raise DataError(
            f"{path}: its b'data' is {what}, not uint8 [n, {PIXELS}]; this is no CIFAR-10 batch"
        )
    if not isinstance(labels, list) or not all(isinstance(x, int) for x in labels):
        raise DataError(
            f"{path}: its b'labels' is not a list of whole numbers; this is no CIFAR-10 batch"
        )
    if len(labels) != len(data):
        raise DataError(f"{path}: {len(data)} images but {len(labels)} labels; unpack it again")
    return torch.from_numpy(data.copy()), torch.tensor(labels, dtype=torch.int64)


def _check_places(content: bytes) -> None:
    """Raise ValueError where a pickle numbers what it remembers beyond its own size: the unpickler
    makes room for as many.
    """
    for operation, argument, _ in pickletools.genops(content):
        if operation.name.endswith("PUT") and int(argument or 0) > len(content):
            raise ValueError(f"it remembers {argument} things")


class _ArrayUnpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="bytes")  # Python 2 wrote str as bytes

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise DataError(
                f"would execute code: it asks for {module}.{name}, which no CIFAR batch needs, "
                "so it is not read; fetch the data set from its authors"
            )
        return ALLOWED[module, name]
