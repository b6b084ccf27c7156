"""A device's numbers beside vectors: which value differs first, where, and by how much.

A value on the border of two codes may fall to either side, and whatever follows in that sample
then differs as well. So a code that is one off where `near` allows it is no difference, and its
sample is told no more of from there on: errors show in the other samples, or in a code that is no
near tie.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from subbyte.errors import FormatError
from subbyte.exporters.distances import Distances, scale_of
from subbyte.exporters.vectors import Value, Vectors

_LIFTS = {"int8": 128, "int16": 2**15}  # to unsigned codes


@dataclass(frozen=True)
class Compared:
    """A value, or an output, of the device beside the vectors'.

    wrong: samples with numbers that rounding does not explain, counted only where nothing before it
    differs in the sample; ties: samples with near ties alone; told: samples in which nothing before
    it differs; numbers: how many differ in the wrong samples, of `size` in them; largest:
    difference there, in `unit`; place: of the first of them, in all axes.
    """

    name: str
    unit: str
    wrong: int
    ties: int
    told: int
    numbers: int = 0
    size: int = 0
    largest: float = 0.0
    place: tuple[int, ...] = ()


def compare(vectors: Vectors, device: Mapping[str, np.ndarray]) -> list[Compared]:
    """Compare whatever the device has of the vectors, in the order of the graph, outputs last.

    device: by name; of quantized values codes (uint8 or uint16, or int8 and int16 that are 128 and
    32768 lower) or the floats that they stand for. Raises FormatError where it has nothing, names
    that the vectors do not have, or another shape.
    """
    known = {**vectors.values, **vectors.outputs}
    unknown = [name for name in device if name not in known]
    if unknown or not device:
        what = f"has no value {unknown[0]!r}" if unknown else "is empty"
        raise FormatError(
            f"what the device computed {what}; the vectors have {', '.join(list(known)[:20])}"
        )
    clean = np.ones(vectors.samples, bool)
    found: list[Compared] = []
    for name, value in vectors.values.items():
        if name in device:
            found.append(_value(name, value, device[name], clean))
    for name, output in vectors.outputs.items():
        if name in device:
            bounds = vectors.bounds[name]
            found.append(_output(name, output, bounds, device[name], clean))
    return found


def _value(name: str, value: Value, given: np.ndarray, clean: np.ndarray) -> Compared:
    """Compare codes; samples that differ are no longer clean."""
    _check(name, value.codes, given)
    apart = np.abs(_codes(value, given) - value.codes.astype(np.int64))
    wrong = (apart > 0) & ~(value.near & (apart == 1))
    told = _compared(name, "codes", wrong, apart, clean)
    clean &= ~_by_sample(apart > 0, clean).any(1)
    return told


def _codes(value: Value, given: np.ndarray) -> np.ndarray:
    """The device's codes as the vectors have them: int64."""
    codes = given.astype(np.int64)
    if given.dtype.name in _LIFTS:
        codes += _LIFTS[given.dtype.name]
    elif np.issubdtype(given.dtype, np.floating):
        ones = (1,) * (given.ndim - 1 - value.axis) if value.scale.ndim else ()
        scale, zero = (x.reshape((*x.shape, *ones)) for x in (value.scale, value.zero_point))
        codes[...] = np.rint(given / scale.astype(np.float64)) + zero
    return codes


def _output(
    name: str, own: np.ndarray, bounds: np.ndarray, given: np.ndarray, clean: np.ndarray
) -> Compared:
    """Compare an output's rows with their bounds."""
    _check(name, own, given)
    ours, theirs = torch.from_numpy(own), torch.from_numpy(np.asarray(given, own.dtype))
    distances = Distances()
    distances.add(0, ours, theirs, scale_of(ours))
    beyond = (distances.rows[0] > torch.from_numpy(bounds)).numpy()
    wrong = beyond.reshape(-1, *[1] * (own.ndim - 1)) & (own != given)
    return _compared(name, "", wrong, np.abs(own.astype(np.float64) - given), clean)


def _check(name: str, own: np.ndarray, given: np.ndarray) -> None:
    if own.shape != given.shape:
        raise FormatError(
            f"the device's {name} is {list(given.shape)}, the vectors' {list(own.shape)}; axes "
            f"must be in the order that torch has them in"
        )


def _compared(
    name: str, unit: str, wrong: np.ndarray, apart: np.ndarray, clean: np.ndarray
) -> Compared:
    """Count what is wrong in clean samples. wrong: bool; apart: the differences, of its shape."""
    differ, sizes = _by_sample(wrong, clean), _by_sample(apart, clean)
    rows = differ.any(1) & clean
    own = differ & (rows[:, None] if len(differ) == len(clean) else rows.any())
    ties = (sizes > 0).any(1) & clean & ~rows
    first = int(own.argmax())
    return Compared(
        name,
        unit,
        int(rows.sum()),
        int(ties.sum()),
        int(clean.sum()),
        int(own.sum()),
        own[own.any(1)].size,
        float(sizes[own].max(initial=0)),
        tuple(map(int, np.unravel_index(first, wrong.shape))) if own.any() else (),
    )


def _by_sample(numbers: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """[samples, numbers], or [1, numbers] where the first axis counts something else: whatever
    differs there is held against all samples.
    """
    counts = numbers.ndim > 0 and len(numbers) == len(clean)
    return numbers.reshape(len(clean) if counts else 1, -1)
