"""The arithmetic of x86 processors without integer dot products."""

import platform
from collections.abc import Sequence

import numpy as np
import pytest

from subbyte.speed.machine import processor

DOTS = platform.machine() not in ("x86_64", "AMD64") or "vnni" in processor()
needs_dots = pytest.mark.skipif(
    not DOTS, reason="without integer dot products files are made exact where their proof fails"
)


def paired_sums(inputs: np.ndarray, codes: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Inputs uint8 [n, columns] times codes int8 [rows, columns], in an order of the columns:
    products of neighbours are added in saturating int16, their sums in int32.
    """
    assert inputs.min() >= 0 and inputs.max() <= 255
    assert codes.min() >= -128 and codes.max() <= 127
    order = np.asarray(order)
    products = inputs[:, None, order].astype(np.int64) * codes[None, :, order]
    products = np.pad(products, ((0, 0), (0, 0), (0, products.shape[-1] % 2)))
    limits = np.iinfo(np.int16)
    return products.reshape(*products.shape[:2], -1, 2).sum(-1).clip(limits.min, limits.max).sum(-1)


def worst_inputs(codes: np.ndarray, largest: int) -> list[np.ndarray]:
    """The largest input wherever a row's codes have one sign; [rows, columns] for each sign."""
    return [largest * (codes > 0), largest * (codes < 0)]
