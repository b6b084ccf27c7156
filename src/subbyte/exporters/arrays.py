"""Codes, scales and zero points of weights as the arrays that ONNX files hold."""

import numpy as np
import torch

from subbyte.core import QTensor, Share
from subbyte.exporters.storage import Storage
from subbyte.graph import Layer


def folded(weight: QTensor, kind: Storage) -> tuple[np.ndarray, np.ndarray]:
    """Codes [rows, columns] and zero points; the zero points are subtracted when the container has
    room.
    """
    zero, integers = weight.grid.zero_point.numpy(), weight.grid.spec.alphabet.integers
    assert integers is not None
    shifted = (weight.grid.units(weight.codes) * integers.per_step).numpy().astype(np.int32)
    if shifted.min() >= kind.low and shifted.max() <= kind.high:
        return shifted, flat(np.zeros_like(zero), weight)
    return weight.codes.numpy().astype(np.int32), flat(zero, weight)


def may_saturate(codes: np.ndarray, largest_input: int) -> bool:
    """Whether two neighbouring products of uint8 inputs up to `largest_input` with these int8 codes
    [rows, columns] may leave int16.

    x86 processors without integer dot products (AVX2, older AVX-512) add such pairs in saturating
    int16; their kernels for unsigned weights are exact. Which columns are neighbours depends on the
    kernel, so the two largest of a row count.
    """
    largest = np.sort(np.abs(codes), axis=1)[:, -2:].sum(1)
    return bool(largest_input * largest.max() > np.iinfo(np.int16).max)


def scale_of(weight: QTensor) -> np.ndarray:
    """Steps of a weight's grid: a number, [rows], or [rows, groups]."""
    return flat(weight.grid.step.numpy(), weight)


def flat(parameter: np.ndarray, weight: QTensor) -> np.ndarray:
    """A parameter of a weight's grid without axes of size 1."""
    return weight.grid.spec.share.flat(torch.from_numpy(parameter)).numpy()


def axis_of(layer: Layer, share: Share) -> int:
    """The axis of arranged codes along which scales run."""
    if share.block is not None:
        return 1
    return layer.geometry.row_axis or 0  # rows of two axes are arranged along the first


def arrange(
    layer: Layer, codes: np.ndarray, *, by_matrix: bool
) -> tuple[tuple[int, ...], np.ndarray]:
    """Codes in an arrangement whose scales run along one axis, and its shape."""
    geometry = layer.geometry
    if by_matrix:
        return codes.shape, codes
    if geometry.row_axis is not None:
        arranged = geometry.to_weight(torch.from_numpy(codes)).numpy()
        return geometry.weight_shape, np.ascontiguousarray(arranged)
    inputs = geometry.weight_shape[0] // geometry.groups
    unflipped = codes.reshape(geometry.rows, inputs, *geometry.kernel)
    unflipped = np.flip(unflipped, tuple(range(2, unflipped.ndim)))
    return unflipped.shape, np.ascontiguousarray(unflipped)
