"""Data sets by name: `load_data("cifar10:/data/cifar")`."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from subbyte.data.arrays import load_npz
from subbyte.data.cifar import load_cifar10
from subbyte.data.dataset import DataSet
from subbyte.data.digits import load_digits
from subbyte.data.folders import load_imagefolder, load_imagenet
from subbyte.data.masks import load_images, load_masks
from subbyte.data.mnist import load_fashion_mnist, load_mnist
from subbyte.data.normalize import parse_normalization
from subbyte.data.preprocess import Interpolation, Preprocess
from subbyte.data.user import load_user_data
from subbyte.errors import DataError
from subbyte.io.user_file import expanded, split_spec


@dataclass(frozen=True)
class DataKind:
    """A kind of data set: its reader, its normalization unless another is asked for, and a line
    about it.
    """

    name: str
    load: Callable[[Path, Preprocess], DataSet]
    normalization: str
    description: str


def _digits(path: Path, preprocess: Preprocess) -> DataSet:
    if path != Path():
        raise DataError(
            f"digits:{path}: the digits come with scikit-learn and have no path; write digits"
        )
    return load_digits(preprocess)


KINDS: dict[str, DataKind] = {
    "digits": DataKind(
        "digits", _digits, "none", "digits: 1,797 images 1x8x8 that come with scikit-learn"
    ),
    "mnist": DataKind("mnist", load_mnist, "mnist", "mnist:PATH: the four IDX files, 1x28x28"),
    "fashion-mnist": DataKind(
        "fashion-mnist",
        load_fashion_mnist,
        "mnist",
        "fashion-mnist:PATH: the four IDX files, 1x28x28",
    ),
    "cifar10": DataKind(
        "cifar10", load_cifar10, "cifar10", "cifar10:PATH: the python or binary version, 3x32x32"
    ),
    "imagenet": DataKind(
        "imagenet", load_imagenet, "imagenet", "imagenet:PATH: train/ and/or val/ by synset"
    ),
    "imagefolder": DataKind(
        "imagefolder",
        load_imagefolder,
        "imagenet",
        "imagefolder:PATH: train/ and val/ with a folder per class",
    ),
    "images": DataKind(
        "images", load_images, "imagenet", "images:PATH: a folder of images, without labels"
    ),
    "masks": DataKind(
        "masks",
        load_masks,
        "imagenet",
        "masks:PATH: images/ and masks/ with files of the same names, in it or in train/ and val/",
    ),
    "npz": DataKind(
        "npz",
        load_npz,
        "none",
        "npz:FILE: images, or x_train and x_test; with labels, y_train and y_test, or other "
        "targets, or without",
    ),
}


def load_data(
    spec: str,
    normalize: str | None = None,
    resize: int | None = None,
    crop: int | None = None,
    interpolation: Interpolation | str | None = None,
) -> DataSet:
    """Load the data set that `spec` names.

    spec: `digits`, `KIND:PATH` for another key of KINDS, or `path/file.py:callable`, where the
        callable takes no arguments and returns a DataSet, images, a tuple (images, targets...), a
        dict of arrays as an npz file holds, a torch data set, or batches (inputs, targets...).
    normalize: a key of NORMALIZATIONS or 'M,M,M/S,S,S'; None: as KINDS says, and not at all for a
        user's
        file.
    resize, crop: pixels of the shorter side, then of the centre square; None: leave the images as
        they are.
    interpolation: of the resizing, one of Interpolation; None: bicubic.
    Raises DataError when there is no such data set, or it is damaged, or an option does not fit it.
    """
    user = split_spec(spec)
    name, _, path = spec.partition(":")
    if user is None and name not in KINDS:
        raise DataError(_unknown(spec, name))
    default = "none" if user is not None else KINDS[name].normalization
    normalization = parse_normalization(default if normalize is None else normalize)
    preprocess = Preprocess(normalization, resize, crop, _interpolation(interpolation, resize))
    if user is not None:
        return load_user_data(*user, preprocess)
    if not path and name != "digits":
        raise DataError(f"data {spec!r}: where is it? Write {KINDS[name].description}")
    return KINDS[name].load(expanded(path), preprocess)


def _interpolation(named: str | None, resize: int | None) -> Interpolation:
    """The filter of a name. Raises DataError for another name, and where nothing is resized."""
    if named is None:
        return Interpolation.BICUBIC
    if resize is None:
        raise DataError(f"--interpolation {named}: nothing is resized; give --resize, too")
    if named not in list(Interpolation):
        raise DataError(f"--interpolation: unknown {named!r}; known: {', '.join(Interpolation)}")
    return Interpolation(named)


def _unknown(spec: str, name: str) -> str:
    near = difflib.get_close_matches(name, KINDS, n=2, cutoff=0.5)
    hint = f", did you mean {' or '.join(near)}?" if near else "."
    valid = "; ".join(kind.description for kind in KINDS.values())
    return f"there is no data set {spec!r}{hint} Valid: {valid}; path/file.py:callable"
