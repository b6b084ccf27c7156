"""Folders of images alone, and of images with a map of classes each.

    images:PATH    every image in the folder and the folders below it
    masks:PATH     images/a.jpg and masks/a.png, ..., or train/images/..., val/images/... and so on

A mask is a picture of one channel (grey of 1, 8 or 16 bits, or palette) whose pixel values are
class numbers; 255 marks pixels that don't count.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from subbyte.data.dataset import DataSet, OnDemand, Split, spread
from subbyte.data.folders import HEAD, SUFFIXES, THREADS, FolderReader, first_shape, list_images
from subbyte.data.pictures import WIDE, open_picture
from subbyte.data.preprocess import Interpolation, Preprocess
from subbyte.errors import DataError
from subbyte.io.digests import digest
from subbyte.io.files import readable

_TESTED = ("val", "test")
_ONE_CHANNEL = ("1", "L", "P", *WIDE)


def load_images(path: Path, preprocess: Preprocess) -> DataSet:
    """Read all images of a folder, in the order of their names, as a test split without targets.

    Raises DataError when there is none, or a file is none.
    """
    if not path.is_dir():
        raise DataError(f"{path}: there is no such folder; images:PATH expects a folder of images")
    files = tuple(*list_images(path, ["."]))
    if not files:
        raise DataError(f"{path}: no images in it ({', '.join(SUFFIXES)})")
    reader = _reader(path, files, preprocess)
    evidence = _evidence("test", path, files)
    split = Split("test", reader, len(files))
    name = f"images:{readable(path.resolve().name)}"
    return DataSet(name, None, split, (), digest(evidence), preprocess)


def load_masks(path: Path, preprocess: Preprocess) -> DataSet:
    """Read images/ and masks/ of `path`: a test split; or those of train/ and of val/ (or test/).

    Raises DataError when a folder is missing, or files of one have no fellow in the other.
    """
    roots = {"test": path}
    if not (path / "images").is_dir():
        tested = next((path / name for name in _TESTED if (path / name).is_dir()), path)
        roots = {"train": path / "train"} if (path / "train").is_dir() else {}
        roots["test"] = tested
    splits, parts = {}, []
    for kind, root in roots.items():
        images, masks = _pairs(root)
        reader = _reader(root / "images", images, preprocess)
        target = Masks(root / "masks", masks, preprocess, reader.shape)
        splits[kind] = Split(kind, reader, len(images), (target,))
        parts += _evidence(kind, root / "images", images)
        parts += _evidence(kind, root / "masks", masks)
    name = f"masks:{readable(path.resolve().name)}"
    return DataSet(name, splits.get("train"), splits["test"], (), digest(parts), preprocess)


@dataclass(frozen=True, eq=False)
class Masks(OnDemand):
    """Reads maps of classes, `files` relative to `root`, when they are asked for. shape: the [H, W]
    that all must come to, resized to the nearest pixel and cropped as the images are.
    """

    root: Path
    files: tuple[str, ...]
    preprocess: Preprocess
    shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: Tensor) -> Tensor:
        if not len(indices):
            return torch.empty(0, *self.shape, dtype=torch.int64)
        with ThreadPoolExecutor(THREADS) as pool:
            return torch.from_numpy(np.stack(list(pool.map(self._map, indices.tolist()))))

    def place(self, index: int) -> str:
        """See `OnDemand`."""
        return str(self.root / self.files[index])

    def _map(self, index: int) -> np.ndarray:
        path = self.root / self.files[index]
        mask = open_picture(path).image
        if mask.mode not in _ONE_CHANNEL:
            raise DataError(
                f"{path}: a mask of mode {mask.mode}; its pixels must be class numbers, whole ones "
                f"in one channel (grey or palette)"
            )
        classes = Image.fromarray(np.asarray(mask).astype(np.int32))  # of a palette its indices
        nearest = replace(self.preprocess, interpolation=Interpolation.NEAREST)
        found = np.asarray(nearest.reshape(classes, str(path))).astype(np.int64)
        if found.shape != self.shape:
            raise DataError(
                f"{path}: the mask is {found.shape[0]} x {found.shape[1]} pixels (height x width), "
                f"its image {self.shape[0]} x {self.shape[1]}; bring them to one size"
            )
        return found


def _pairs(root: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Images, and the mask of each."""
    found: list[dict[str, str]] = []
    for name in ("images", "masks"):
        if not (root / name).is_dir():
            raise DataError(
                f"{root / name}: there is no such folder; masks:PATH expects images/ and masks/ "
                f"with files of the same names, in PATH or in PATH/train and PATH/val"
            )
        (files,) = list_images(root / name, ["."])
        found.append({str(Path(file).with_suffix("")): file for file in files})
    images, masks = found
    if not images:
        raise DataError(f"{root / 'images'}: no images in it ({', '.join(SUFFIXES)})")
    for own, others, where in ((images, masks, "masks"), (masks, images, "images")):
        alone = next((file for stem, file in own.items() if stem not in others), None)
        if alone is not None:
            raise DataError(f"{root}: {alone} has no fellow of the same name in {where}/")
    return tuple(images.values()), tuple(masks[stem] for stem in images)


def _reader(root: Path, files: tuple[str, ...], preprocess: Preprocess) -> FolderReader:
    preprocess.normalization.check(3)
    return FolderReader(root, files, preprocess, first_shape(root, files, preprocess))


def _evidence(kind: str, root: Path, files: tuple[str, ...]) -> list[bytes]:
    """Names; sizes and first bytes of some files."""
    names = "\n".join(Path(file).as_posix() for file in files)
    parts = [kind.encode(), os.fsencode(names)]
    for i in spread(len(files)):
        path = root / files[i]
        with path.open("rb") as file:
            parts += [str(path.stat().st_size).encode(), file.read(HEAD)]
    return parts
