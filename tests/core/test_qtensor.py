"""Quantized matrices: what they store, by hand."""

import pytest

from subbyte.core import QTensor
from tests.core.cases import grid_of, random

SIZES = {  # of a 6 x 10 matrix: 60 codes; 4 bytes a scale, 1 a zero point
    "int4, tensor": 30 + 4,
    "asymmetric int4, tensor": 30 + 4 + 1,
    "int4, channel": 30 + 6 * 4,
    "asymmetric int4, channel": 30 + 6 * 5,
    "int4, groups of 5": 30 + 6 * 2 * 4,
    "asymmetric int4, groups of 5": 30 + 6 * 2 * 5,
    "uint1, tensor": 8 + 4,
    "int8, tensor": 60 + 4,
    "ternary, channel": 12 + 6 * 4,
    "levels7, channel": 22 + 6 * 4 + 7 * 4,
    "codebook11, channel": 27 + 6 * 4 + 6 * 11 * 4,
    "widths, channel": 0 + 2 + 4 + 10 + 5 + 6 * (4 + 2 + 1),  # 0, 1, 3, 8, 4 and 0 bits
}


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_stored_bytes_and_bits_per_weight(name, size):
    q = QTensor.nearest(random((6, 10), 0), grid_of(name, 0, 6, 10))
    assert q.nbytes == size and q.bits_per_weight == pytest.approx(8 * size / 60)
