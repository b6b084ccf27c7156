"""Data that a user's function returns: a data set, arrays, a torch data set, or batches of what the
network is called with.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from subbyte.data.arrays import named_arrays
from subbyte.data.dataset import DataSet, Split, spread
from subbyte.data.normalize import Normalization
from subbyte.data.preprocess import Preprocess, note_bytes
from subbyte.errors import DataError
from subbyte.graph.samples import Inputs, Samples
from subbyte.io.digests import digest
from subbyte.io.user_file import call_user_file

_BATCH = 64
_WANTED = (
    "a subbyte.data.DataSet, images, a tuple (images, targets...), a dict of arrays (images, or "
    "x_train and x_test, and targets), a torch data set, or batches (inputs, targets...) whose "
    "inputs are a tensor or subbyte.Inputs"
)


def load_user_data(path: Path, name: str, preprocess: Preprocess) -> DataSet:
    """The data that `name` of the file `path` returns. Raises DataError for others than these."""
    where = f"{path}:{name}"
    result = call_user_file(path, name, DataError)
    if isinstance(result, DataSet):
        _as_they_are(preprocess, f"{where} returned a DataSet, whose images are ready")
        return result
    if isinstance(result, Mapping):
        return named_arrays(name, result, where, preprocess)
    if isinstance(result, np.ndarray | Tensor):
        return named_arrays(name, {"images": result}, where, preprocess)
    if isinstance(result, tuple) and len(result) > 1 and not _is_call(result[0]):
        first = "labels" if _is_labels(result[1]) else "target"
        names = ("images", first, *(f"target {k}" for k in range(2, len(result))))
        return named_arrays(name, dict(zip(names, result, strict=True)), where, preprocess)
    if isinstance(result, Dataset) and not isinstance(result, Iterable):
        result = DataLoader(result, batch_size=_BATCH)
    if isinstance(result, Inputs | tuple):
        result = [result]
    if not isinstance(result, Iterable):
        raise DataError(f"{where} returned a {type(result).__name__}; it must return {_WANTED}")
    _as_they_are(preprocess, f"{where} returned batches, whose inputs are ready")
    return _joined(name, result, where)


def _as_they_are(preprocess: Preprocess, what: str) -> None:
    if preprocess.reshapes or preprocess.normalization != Normalization():
        raise DataError(f"{what}; do without --normalize/--resize/--crop")


def _is_call(value: object) -> bool:
    return isinstance(value, Inputs | Samples)


def _is_labels(value: object) -> bool:
    """Whether a value is the class of each sample."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    return not isinstance(value, np.ndarray) or (value.dtype.kind != "f" and value.ndim == 1)


def _joined(name: str, batches: Iterable[Any], where: str) -> DataSet:
    """All batches in memory, side by side, as a test split."""
    inputs: list[Samples] = []
    targets: list[tuple[Tensor, ...]] = []
    for number, batch in enumerate(batches):
        call, wanted = _taken_apart(batch, f"{where}, batch {number}")
        inputs.append(call)
        targets.append(wanted)
        if len(wanted) != len(targets[0]) or any(len(one) != len(call) for one in wanted):
            raise DataError(
                f"{where}, batch {number}: {len(call)} samples, and targets "
                f"{[list(one.shape) for one in wanted]}; every batch needs the same number of "
                f"targets, one entry a sample"
            )
    if not inputs:
        raise DataError(f"{where} returned no batches")
    whole = Samples.join(inputs)
    for leaf in whole.leaves:
        note_bytes(leaf, where)
    columns = tuple(torch.cat(column) for column in zip(*targets, strict=True))
    split = Split("test", Reader(whole), len(whole), columns)
    labels = columns[0] if split.has_labels else torch.empty(0, dtype=torch.int64)
    classes = tuple(map(str, range(1 + max(labels.tolist(), default=-1))))
    return DataSet(name, None, split, classes, digest(_evidence(whole, columns)))


class Reader:
    """Reads samples that are in memory."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __call__(self, indices: Tensor) -> Tensor | Samples:
        """The samples at indices int64 [b]; of a network of one tensor that tensor."""
        call = self._samples.at(indices).call
        if len(call.args) == 1 and not call.kwargs and isinstance(call.args[0], Tensor):
            return call.args[0]
        return Samples.of(call)


def _taken_apart(batch: Any, where: str) -> tuple[Samples, tuple[Tensor, ...]]:
    """Inputs of a call, and targets."""
    inputs, *targets = batch if isinstance(batch, tuple | list) and batch else (batch,)
    if isinstance(inputs, np.ndarray):
        inputs = torch.from_numpy(inputs)
    if not isinstance(inputs, Tensor | Inputs | Samples):
        raise DataError(f"{where} holds a {type(inputs).__name__}; data must be {_WANTED}")
    return Samples.of(inputs), tuple(_plain(target, where) for target in targets)


def _plain(target: Any, where: str) -> Tensor:
    if not isinstance(target, np.ndarray | Tensor) or not target.ndim:
        raise DataError(
            f"{where}: a target is a {type(target).__name__}; it must be an array or tensor [b, "
            f"...]"
        )
    values = torch.as_tensor(target).detach().cpu()
    return values.float() if values.is_floating_point() else values.long()


def _evidence(samples: Samples, targets: tuple[Tensor, ...]) -> Iterator[bytes]:
    """Some samples and their targets."""
    some = torch.tensor(spread(len(samples)))
    leaves = [leaf for leaf in samples.at(some).leaves if isinstance(leaf, Tensor)]
    for x in (*leaves, *(target[some] for target in targets)):
        yield str(list(x.shape)).encode()
        yield x.numpy().tobytes()
