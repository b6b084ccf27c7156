"""Codes, scales and zero points of weights as the arrays that ONNX files hold."""

import numpy as np
import torch

from subbyte.core import Geometry, QTensor, Share
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
    """Whether some inputs up to `largest_input`, uint8, make two neighbouring products with these
    int8 codes [rows, columns] leave int16.

    x86 processors without integer dot products (AVX2, older AVX-512) add such pairs in saturating
    int16; their kernels for unsigned weights are exact, and so are those that add no pairs
    (`adds_pairs`). Which columns are neighbours depends on the kernel, so the two largest codes of
    a row and of one sign count.
    """
    ordered, int16 = np.sort(codes.astype(np.int64), axis=1), np.iinfo(np.int16)
    above = ordered[:, -2:].clip(min=0).sum(1).max()
    below = ordered[:, :2].clip(max=0).sum(1).min()
    return bool(largest_input * above > int16.max or largest_input * below < int16.min)


def adds_pairs(geometry: Geometry) -> bool:
    """Whether kernels of a layer add neighbouring products before they widen them.

    Depthwise convolutions, one channel in and one out of each group, multiply channel by channel in
    32 bits; kernels for several outputs a group do not.
    """
    return geometry.weight_shape[1] > 1 or geometry.groups != geometry.rows


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
