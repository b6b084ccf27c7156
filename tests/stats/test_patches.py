"""Patches times matrix is the layer, whatever its kind."""

import pytest
import torch
from hypothesis import given

from subbyte.core import Convolution, Geometry, Linear
from subbyte.stats import in_matrix_order, patches
from tests.reference.examples import examples
from tests.reference.geometries import FEW, GEOMETRIES, geometries
from tests.reference.operations import count_positions, operate, patch_matrix, rows_of

every_kind = pytest.mark.parametrize(("geometry", "shape"), GEOMETRIES.values(), ids=GEOMETRIES)
few_kinds = pytest.mark.parametrize(("geometry", "shape"), FEW.values(), ids=FEW)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_matrix(x: torch.Tensor, weight: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """The layer's output [positions, rows] as a product of patches and matrix, group by group."""
    seen = in_matrix_order(patches(x, geometry), geometry)
    matrix = geometry.to_matrix(weight).reshape(geometry.groups, -1, geometry.columns)
    return (seen @ matrix.mT).transpose(0, 1).reshape(-1, geometry.rows)


@every_kind
def test_patches_times_matrix_is_torchs_operation(geometry, shape):
    x, weight = random(*shape), random(*geometry.weight_shape, seed=1)
    expected = rows_of(operate(x, weight, geometry), geometry)
    torch.testing.assert_close(by_matrix(x, weight, geometry), expected)


@examples(120)
@given(geometries())
def test_patches_times_matrix_is_torchs_operation_for_any_convolution(drawn):
    geometry, shape = drawn
    x, weight = random(*shape), random(*geometry.weight_shape, seed=1)
    expected = rows_of(operate(x, weight, geometry), geometry)
    torch.testing.assert_close(by_matrix(x, weight, geometry), expected)


@few_kinds
def test_patches_are_what_unit_weights_see(geometry, shape):
    x = random(*shape)
    before = x.clone()
    seen = patches(x, geometry)
    assert seen.shape[0] == geometry.groups and seen.shape[2] == geometry.columns
    assert torch.equal(in_matrix_order(seen, geometry), patch_matrix(x, geometry))
    assert torch.equal(x, before)


@few_kinds
def test_strided_and_channels_last_inputs_give_the_same(geometry, shape):
    x = random(*shape)
    expected = patches(x, geometry)
    scattered = torch.stack([x, x + 1], -1)[..., 0]
    turned = x.movedim(0, -1).contiguous().movedim(-1, 0)
    assert not scattered.is_contiguous()
    for view in (scattered, turned):
        assert torch.equal(patches(view, geometry), expected)


def check_count(geometry: Geometry, shape: tuple[int, ...]) -> None:
    positions = geometry.positions(torch.Size(shape))
    assert patches(torch.zeros(shape), geometry).shape[1] == shape[0] * positions
    if not isinstance(geometry, Linear):
        assert positions == count_positions(torch.zeros(shape), geometry)
    assert geometry.positions(torch.Size((99, *shape[1:]))) == positions, "the batch must not count"


@few_kinds
def test_output_positions_are_the_rows_of_one_image(geometry, shape):
    check_count(geometry, shape)


@examples(120)
@given(geometries())
def test_output_positions_are_the_rows_of_one_image_for_any_convolution(drawn):
    check_count(*drawn)


def test_output_positions_by_hand():
    conv = Convolution((5, 4, 3, 3), (2, 1), ((1, 1), (0, 0)), (1, 1))
    assert conv.positions(torch.Size((7, 4, 8, 8))) == 4 * 6
    assert Linear((2, 5)).positions(torch.Size((7, 3, 2, 5))) == 6
    assert Linear((2, 5)).positions(torch.Size((7, 5))) == 1


@few_kinds
def test_chosen_positions_give_their_rows_image_by_image(geometry, shape):
    x = random(*shape)
    whole = patches(x, geometry).reshape(geometry.groups, shape[0], -1, geometry.columns)
    order = torch.rand(
        shape[0], whole.shape[2], generator=torch.Generator().manual_seed(2)
    ).argsort(1)
    for taken in (1, whole.shape[2]):
        positions = order[:, :taken]
        expected = torch.stack([whole[:, k, positions[k]] for k in range(shape[0])], 1)
        got = patches(x, geometry, positions)
        assert torch.equal(got, expected.reshape(geometry.groups, -1, geometry.columns))


def test_columns_that_see_only_padding_follow_the_true_stride():
    x = torch.ones(2, 1, 2, 2)
    everywhere = Convolution((1, 1, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    assert bool(patches(x, everywhere).any(1).all())
    strided = Convolution((1, 1, 3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))
    live = in_matrix_order(patches(x, strided), strided).any(1).reshape(3, 3)
    assert live.tolist() == [[False, False, False], [False, True, True], [False, True, True]]


def test_one_patch_by_hand():
    x = torch.arange(18.0).reshape(1, 2, 3, 3)
    geometry = Convolution((1, 2, 2, 2), (1, 1), ((0, 0), (0, 0)), (2, 2))
    assert in_matrix_order(patches(x, geometry), geometry).tolist() == [
        [[0, 2, 6, 8, 9, 11, 15, 17]]
    ]
