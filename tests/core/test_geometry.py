"""Weights as matrices: every row is an output channel, and nothing gets lost on the way."""

import pytest
import torch
from hypothesis import given

from subbyte.core import Convolution, Geometry, Linear, TransposedConvolution
from tests.reference.examples import examples
from tests.reference.geometries import GEOMETRIES, geometries
from tests.reference.operations import operate

CASES = [geometry for geometry, _ in GEOMETRIES.values()]


def numbered(geometry: Geometry) -> torch.Tensor:
    """A weight whose elements are all different."""
    size = torch.Size(geometry.weight_shape).numel()
    return torch.arange(1.0, size + 1, dtype=torch.float64).reshape(geometry.weight_shape)


@pytest.mark.parametrize("geometry", CASES, ids=GEOMETRIES)
def test_the_matrix_holds_every_weight_once_and_goes_back(geometry):
    weight = numbered(geometry)
    matrix = geometry.to_matrix(weight)
    assert matrix.shape == (geometry.rows, geometry.columns)
    assert torch.equal(matrix.reshape(-1).sort().values, weight.reshape(-1))
    assert torch.equal(geometry.to_weight(matrix), weight)
    assert torch.equal(weight, numbered(geometry))


@examples(60)
@given(geometries())
def test_any_weight_goes_back(drawn):
    geometry, _ = drawn
    weight = numbered(geometry)
    assert torch.equal(geometry.to_weight(geometry.to_matrix(weight)), weight)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_row_is_what_one_output_channel_depends_on(name):
    geometry, shape = GEOMETRIES[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix = geometry.to_matrix(
        torch.randn(
            geometry.weight_shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype
        )
    )
    axis = geometry.channel_axis(len(shape))
    whole = operate(x, geometry.to_weight(matrix), geometry)
    assert whole.shape[axis] == geometry.rows
    for row in range(geometry.rows):
        without = matrix.clone()
        without[row] = 0
        output = operate(x, geometry.to_weight(without), geometry)
        touched = (output != whole).movedim(axis, 0).flatten(1).any(1)
        assert touched.tolist() == [r == row for r in range(geometry.rows)]


def test_sizes_by_hand():
    conv = Convolution((6, 2, 3, 5), (1, 1), ((0, 0), (0, 0)), (1, 1), groups=3)
    assert (conv.kernel, conv.rows, conv.columns) == ((3, 5), 6, 30)
    transposed = TransposedConvolution(
        (6, 2, 3, 5), (1, 1), ((0, 0), (0, 0)), (1, 1), (0, 0), groups=3
    )
    assert (transposed.kernel, transposed.rows, transposed.columns) == ((3, 5), 6, 30)
    linear = Linear((4, 9))
    assert (linear.kernel, linear.rows, linear.columns) == ((), 4, 9)


def test_columns_run_over_channels_then_kernel_positions():
    weight = torch.arange(12.0).reshape(1, 2, 2, 3)
    conv = Convolution((1, 2, 2, 3), (1, 1), ((0, 0), (0, 0)), (1, 1))
    assert conv.to_matrix(weight).tolist() == [list(range(12))]
    transposed = TransposedConvolution((2, 1, 2, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), (0, 0))
    flipped = [5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6]
    assert transposed.to_matrix(weight.reshape(2, 1, 2, 3)).tolist() == [flipped]
