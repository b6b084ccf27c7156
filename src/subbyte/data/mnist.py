"""MNIST and Fashion-MNIST: IDX files (LeCun, Cortes, Burges), plain or gzipped.

bytes 0-1  zero     byte 2  0x08: unsigned bytes     byte 3  number of axes d
then d sizes, 4 bytes each, most significant first, then the values, last axis fastest
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from subbyte.data.arrays import Arrays, array_data
from subbyte.data.dataset import DataSet
from subbyte.data.preprocess import Preprocess
from subbyte.errors import DataError

DIGITS = tuple("0123456789")
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FILES = (
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
    "t10k-labels-idx1-ubyte"
)


def load_mnist(path: Path, preprocess: Preprocess) -> DataSet:
    """Read MNIST from `path`, or from raw/ or MNIST/raw/ in it: images [1, 28, 28], 60,000 +
    10,000.

    Raises DataError when one of the four files is missing, damaged, or does not go with the others.
    """
    return _load("mnist", path, "MNIST", DIGITS, preprocess)


def load_fashion_mnist(path: Path, preprocess: Preprocess) -> DataSet:
    """Read Fashion-MNIST from `path`, or from raw/ or FashionMNIST/raw/ in it; otherwise as
    `load_mnist`.
    """
    return _load("fashion-mnist", path, "FashionMNIST", FASHION, preprocess)


def read_idx(path: Path, axes: int) -> Tensor:
    """Read an IDX file of unsigned bytes with so many axes: uint8. Raises DataError when it is not
    one.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as reason:
        raise DataError(f"{path}: cannot be read ({reason}); fetch it again") from reason
    magic = bytes((0, 0, 8, axes))
    if content[:4] != magic:
        raise DataError(
            f"{path}: starts with 0x{content[:4].hex()}, not 0x{magic.hex()}: "
            f"not an IDX file of unsigned bytes with {axes} axes; fetch it again"
        )
    header = 4 + 4 * axes
    if len(content) < header:
        raise DataError(f"{path}: ends within its header, at {len(content)} bytes; fetch it again")
    sizes = struct.unpack(f">{axes}I", content[4:header])
    if len(content) - header != math.prod(sizes):
        raise DataError(
            f"{path}: its header announces {list(sizes)}, {math.prod(sizes)} bytes, "
            f"but {len(content) - header} follow; fetch it again"
        )
    values = np.frombuffer(content, np.uint8, offset=header).reshape(sizes)
    return torch.from_numpy(values.copy())


def _load(
    name: str, path: Path, folder: str, classes: tuple[str, ...], preprocess: Preprocess
) -> DataSet:
    home = _home(name, path, folder)
    train, test = _split(home, "train"), _split(home, "t10k")
    return array_data(name, train, test, classes, preprocess)


def _home(name: str, path: Path, folder: str) -> Path:
    candidates = (path, path / "raw", path / folder / "raw")
    for home in candidates:
        if _find(home, "train", "images", 3) or _find(home, "t10k", "images", 3):
            return home
    what = "no such files are there" if path.is_dir() else "there is no such folder"
    raise DataError(
        f"{path}: {what}; {name}:PATH expects {FILES} (plain or .gz) in it, in raw/ or in "
        f"{folder}/raw/ there"
    )


def _split(home: Path, part: str) -> Arrays:
    paths = []
    for what, axes in (("images", 3), ("labels", 1)):
        path = _find(home, part, what, axes)
        if path is None:
            raise DataError(
                f"{home}: {part}-{what}-idx{axes}-ubyte is missing; expected are {FILES}, plain or "
                f".gz"
            )
        paths.append(path)
    images, labels = read_idx(paths[0], 3), read_idx(paths[1], 1)
    return Arrays(images[:, None], labels.to(torch.int64), f"{paths[0]}, {paths[1].name}")


def _find(home: Path, part: str, what: str, axes: int) -> Path | None:
    for name in (
        f"{part}-{what}-idx{axes}-ubyte",
        f"{part}-{what}.idx{axes}-ubyte",
    ):  # both spellings are about
        for path in (home / name, home / f"{name}.gz"):
            if path.is_file():
                return path
    return None
