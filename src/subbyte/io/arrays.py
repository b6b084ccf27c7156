"""The door by which arrays come in: .npz files, and .npy files of a folder."""

import struct
from math import prod
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from subbyte.errors import FormatError

_NAMES, _HEADER = 26, 30
"""Places in the header of a part of a zip file: of the lengths of two texts, and of these texts."""
_BEHIND = 24  # bytes that may follow a part
_DENSEST = 1032  # the most bytes that one compressed byte stands for
_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
"""By version of an array's header; later ones are for names that are not Latin."""


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays by name, of an .npz file or of the .npy files of a folder.

    Raises FormatError where they can't be read, or hold objects, whose reading might run a program.
    """
    try:
        if path.is_dir():
            files = sorted(path.glob("*.npy"))
            if not files:
                raise ValueError("a folder without .npy files")
            return {file.stem: np.load(file, allow_pickle=False) for file in files}
        with path.open("rb") as file:
            _check(file)
            with np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # there is no end to what zipfile and NumPy raise on damage
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise FormatError(f"{path}: not a whole .npz file of plain arrays ({why})") from error


def _check(file: BinaryIO) -> None:
    """Raise ValueError where an array announces another size than follows, or parts of the archive
    are not in its list, which has no checksum.
    """
    with ZipFile(file) as archive:
        parts, start = archive.infolist(), archive.start_dir
        for part in parts:
            _check_size(archive, part)
    end = 0
    for part in sorted(parts, key=lambda part: part.header_offset):
        if not 0 <= part.header_offset - end <= _BEHIND:
            break
        file.seek(part.header_offset + _NAMES)
        texts = struct.unpack("<HH", file.read(4))
        end = part.header_offset + _HEADER + sum(texts) + part.compress_size
    if not 0 <= start - end <= _BEHIND:
        raise ValueError("its list of arrays is damaged")
    file.seek(0)


def _check_size(archive: ZipFile, part: ZipInfo) -> None:
    with archive.open(part) as stream:
        reader = _READERS[np.lib.format.read_magic(stream)]
        shape, _, dtype = reader(stream)
        size = stream.tell() + prod(shape) * dtype.itemsize
    if part.file_size > _DENSEST * part.compress_size + _HEADER:
        raise ValueError(f"{part.filename}: {part.compress_size} bytes can't hold it")
    if size != part.file_size and not dtype.hasobject:
        raise ValueError(
            f"{part.filename} announces {dtype} {list(shape)}, {size} bytes, but there are "
            f"{part.file_size}"
        )
