"""Data sets that are folders of image files: ImageNet, and any folder of class folders.

Files are listed at once and decoded when they are read, a batch at a time, so memory does not grow
with the
data set beyond the names of its files. All images of a data set must come to one shape; the first
file's is
taken.
"""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from subbyte.data.dataset import DataSet, Split, spread
from subbyte.data.pictures import Picture, Remarks, is_hidden, open_rgb
from subbyte.data.preprocess import Preprocess
from subbyte.errors import DataError
from subbyte.io.digests import digest
from subbyte.io.files import readable
from subbyte.io.texts import read_text

log = logging.getLogger("subbyte")

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
# line k: the synset and the name of class k
MAPPINGS = ("synset_words.txt", "LOC_synset_mapping.txt")
IMAGENET_CLASSES = 1000
THREADS = min(8, os.cpu_count() or 1)  # Pillow decodes without holding Python's lock
HEAD = 1024  # bytes of a file that go into the fingerprint


@dataclass(frozen=True, eq=False)
class FolderReader:
    """Reads `files`, relative to `root`, as RGB; `shape` is the [H, W] that all must come to."""

    root: Path
    files: tuple[str, ...]
    preprocess: Preprocess
    shape: tuple[int, int]
    remarks: Remarks = field(default_factory=Remarks)

    def __call__(self, indices: Tensor) -> Tensor:
        """Read the images at indices int64 [b]: float32 [b, 3, H, W]. Raises DataError naming a
        file.
        """
        if not len(indices):
            return torch.empty(0, 3, *self.shape)
        paths = [self.root / self.files[index] for index in indices.tolist()]
        with ThreadPoolExecutor(THREADS) as pool:
            pictures = list(pool.map(self._picture, paths))
        for path, picture in zip(paths, pictures, strict=True):
            self.remarks.add(path, picture.notes)
        images = np.stack([np.asarray(picture.image) for picture in pictures])
        return self.preprocess.finish(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous())

    def _picture(self, path: Path) -> Picture:
        picture = decode(path, self.preprocess)
        height, width = picture.image.height, picture.image.width
        if (height, width) != self.shape:
            raise DataError(
                f"{path}: the image is {height} x {width} pixels (height x width), the first of "
                f"the data set {self.shape[0]} x {self.shape[1]}; give --resize N --crop N to "
                f"bring all to N x N"
            )
        return picture


@dataclass(frozen=True)
class _Listing:
    root: Path
    files: tuple[str, ...]  # relative to root
    labels: Tensor  # int64 [n]


def decode(path: Path, preprocess: Preprocess) -> Picture:
    """Read an image file as RGB, resized and cropped. Raises DataError as `open_rgb`, and if it is
    too small.
    """
    found = open_rgb(path)
    return Picture(preprocess.reshape(found.image, str(path)), found.notes)


def load_imagefolder(path: Path, preprocess: Preprocess) -> DataSet:
    """Read train/ and val/ (or test/) of `path`, with a folder per class; or class folders directly
    in it.

    Classes are numbered in the order of their names: those of train/, where there is one. Class
    folders
    directly in `path` make a data set without a training split. Images [3, H, W].
    Raises DataError when there is no image, a file is none, or a folder of val/ is no class of
    train/.
    """
    expected = (
        "imagefolder:PATH expects train/ and val/ (or test/) with a folder per class, or "
        "class folders"
    )
    names = _folders(path, expected)
    tested = next((n for n in ("val", "test") if n in names), None)
    trained = "train" in names
    if tested is None and trained:
        raise DataError(f"{path}: has train/ but neither val/ nor test/; {expected}")
    if tested is None:
        roots = {"test": path}
    else:
        roots = {"train": path / "train"} if trained else {}
        roots["test"] = path / tested
        _warn_of_others(path, {"train", tested})
    classes = _folders(next(iter(roots.values())), expected)
    index = {name: k for k, name in enumerate(classes)}
    advice = f"its classes are the folders of {next(iter(roots.values()))}; rename it or remove it"
    splits = {kind: _list(root, index, expected, advice) for kind, root in roots.items()}
    return _data_set(f"imagefolder:{path.resolve().name}", splits, tuple(classes), preprocess)


def load_imagenet(path: Path, preprocess: Preprocess) -> DataSet:
    """Read train/ and val/ of `path`, or one of them, with folders named by synset (n01440764 ...).

    Labels are the canonical indices, whichever folders are there: line k of synset_words.txt or
    LOC_synset_mapping.txt in `path` names class k; without these files there must be exactly 1,000
    folders,
    which are sorted. Where val/ is missing, train/ is the test split, and there is no training
    split; this is
    logged.
    Raises DataError when the indices cannot be known, there is no image, a file is none, or a
    folder is no
    class.
    """
    expected = (
        "imagenet:PATH expects train/ and/or val/ with folders named by synset, such as "
        "val/n01440764"
    )
    names = _folders(path, expected)
    roots = {
        kind: path / name for kind, name in (("train", "train"), ("test", "val")) if name in names
    }
    if not roots:
        raise DataError(f"{path}: has neither train/ nor val/; {expected}")
    if "test" not in roots:
        log.warning("%s: has no val/, so the accuracy will be on images of train/", path)
        roots = {"test": roots["train"]}
    _warn_of_others(path, {"train", "val"})
    synsets, titles, source = _synsets(path, roots, expected)
    advice = f"it is no class in {source}"
    splits = {kind: _list(root, synsets, expected, advice) for kind, root in roots.items()}
    return _data_set("imagenet", splits, titles, preprocess)


def _synsets(
    path: Path, roots: dict[str, Path], expected: str
) -> tuple[dict[str, int], tuple[str, ...], str]:
    """Read synset -> index, the class names, and where both were found."""
    mapping = next((path / name for name in MAPPINGS if (path / name).is_file()), None)
    if mapping is not None:
        lines = read_text(mapping, error=DataError).splitlines()
        words = [line.strip().partition(" ") for line in lines if line.strip()]
        index = {synset: k for k, (synset, _, _) in enumerate(words)}
        if len(index) != len(words) or not words:
            raise DataError(
                f"{mapping}: {len(words)} lines but {len(index)} synsets; line k must name class "
                f"k, once"
            )
        return index, tuple(title or synset for synset, _, title in words), str(mapping)
    for root in roots.values():
        folders = _folders(root, expected)
        if len(folders) == IMAGENET_CLASSES:
            return (
                {synset: k for k, synset in enumerate(folders)},
                tuple(folders),
                f"the {len(folders)} of {root}",
            )
    raise DataError(
        f"{path}: has no {MAPPINGS[0]}, and not the {IMAGENET_CLASSES} class folders that would do "
        f"instead, "
        f"so the numbers of its classes are unknown; put {MAPPINGS[0]} there, lines like "
        f"'n01440764 tench' "
        "in the order of the classes, or the LOC_synset_mapping.txt of the Kaggle release"
    )


def _folders(path: Path, expected: str) -> list[str]:
    if not path.is_dir():
        raise DataError(f"{path}: there is no such folder; {expected}")
    names = sorted(
        entry.name for entry in path.iterdir() if entry.is_dir() and not is_hidden(entry.name)
    )
    if not names:
        raise DataError(f"{path}: has no folders in it; {expected}")
    return names


def _warn_of_others(path: Path, used: set[str]) -> None:
    found = sorted(entry.name for entry in path.iterdir() if entry.is_dir())
    others = [name for name in found if name not in used and not name.startswith(".")]
    if others:
        log.warning(
            "%s: its folders %s are not read",
            path,
            ", ".join(others[:5]) + (", ..." if others[5:] else ""),
        )


def _list(root: Path, index: dict[str, int], expected: str, advice: str) -> _Listing:
    """List the images of all class folders of `root`, in the order of the folders' and the files'
    names.
    """
    names = _folders(root, expected)
    strange = next((name for name in names if name not in index), None)
    if strange is not None:
        raise DataError(
            f"{root / strange}: this folder is not one of the {len(index)} classes: {advice}"
        )
    found = list_images(root, names)
    empty = next((name for name, files in zip(names, found, strict=True) if not files), None)
    if empty is not None:
        raise DataError(
            f"{root / empty}: no image in this class folder; put some there or remove it"
        )
    files = tuple(file for own in found for file in own)
    labels = [index[name] for name, own in zip(names, found, strict=True) for _ in own]
    visible = sorted(p for p in root.iterdir() if not is_hidden(p.name))
    loose = next((p for p in visible if p.suffix.lower() in SUFFIXES), None)
    if loose is not None:
        raise DataError(f"{loose}: an image outside of the class folders; {expected}")
    return _Listing(root, files, torch.tensor(labels, dtype=torch.int64))


def list_images(root: Path, folders: Sequence[str]) -> list[list[str]]:
    """The images under each of some folders of `root`, sorted, relative to `root`.

    What is hidden does not count, which is logged. Raises DataError when another file is no image.
    """
    hidden = {entry for entry in root.iterdir() if is_hidden(entry.name)}
    listed = [_images(root, name, hidden) for name in folders]
    if hidden:
        more = f" and {len(hidden) - 1} more" if len(hidden) > 1 else ""
        log.warning("%s%s: hidden, not read", min(hidden), more)
    return listed


def _images(root: Path, name: str, hidden: set[Path]) -> list[str]:
    """Images under the folder `name`; what is hidden is put beside the others."""
    found: list[str] = []
    for folder, inner, files in os.walk(root / name, followlinks=True):
        hidden |= {Path(folder, other) for other in (*inner, *files) if is_hidden(other)}
        inner[:] = [other for other in inner if not is_hidden(other)]
        for file in files:
            path = Path(folder, file)
            if is_hidden(file):
                continue
            if path.suffix.lower() not in SUFFIXES:
                raise DataError(
                    f"{path}: not an image ({', '.join(SUFFIXES)}); remove it from the class folder"
                )
            found.append(str(path.relative_to(root)))
    return sorted(found)


def _data_set(
    name: str, splits: dict[str, _Listing], classes: tuple[str, ...], preprocess: Preprocess
) -> DataSet:
    preprocess.normalization.check(3)
    test = splits["test"]
    shape = first_shape(test.root, test.files, preprocess)
    made = {
        kind: Split.labelled(kind, x.labels, FolderReader(x.root, x.files, preprocess, shape))
        for kind, x in splits.items()
    }
    found = digest(_evidence(splits))
    titles = tuple(map(readable, classes))
    return DataSet(readable(name), made.get("train"), made["test"], titles, found, preprocess)


def first_shape(root: Path, files: Sequence[str], preprocess: Preprocess) -> tuple[int, int]:
    """Height and width that the first image comes to. Raises DataError as `decode`."""
    image = decode(root / files[0], preprocess).image
    return image.height, image.width


def _evidence(splits: dict[str, _Listing]) -> list[bytes]:
    """All names and labels; sizes and first bytes of some files."""
    parts: list[bytes] = []
    for kind, x in splits.items():
        names = "\n".join(Path(file).as_posix() for file in x.files)
        parts += [kind.encode(), os.fsencode(names), x.labels.numpy().tobytes()]
        for i in spread(len(x.files)):
            path = x.root / x.files[i]
            with path.open("rb") as file:
                parts += [str(path.stat().st_size).encode(), file.read(HEAD)]
    return parts
