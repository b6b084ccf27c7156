"""Grids whose rows have numbers of levels of their own."""

from dataclasses import replace
from math import log2

import pytest
import torch

from subbyte.core import (
    MOST_LEVELS,
    Grid,
    GridSpec,
    QTensor,
    pack_grid,
    packed_bytes,
    packed_grid_bytes,
    unpack_grid,
)
from subbyte.errors import FormatError, NumericsError, RecipeError

COUNTS = torch.tensor([[3], [2], [127], [5], [4], [3]])
SCALE = torch.tensor([[0.7], [0.5], [0.01], [0.1], [0.2], [1.5]])


def grid() -> Grid:
    return Grid.of(GridSpec.counting(), SCALE, counts=COUNTS)


def numbers(row: int) -> torch.Tensor:
    """What a row can hold, by the definition: (code - (n - 1) / 2) scale."""
    count = int(COUNTS[row])
    return (torch.arange(count).double() - (count - 1) / 2) * SCALE[row].double()


def values(columns: int = 40, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(6, columns, generator=torch.Generator().manual_seed(seed))


def test_every_value_goes_to_the_nearest_number_of_its_row():
    x = values()
    rounded = grid().quantize(x)
    for row in range(6):
        nearest = (x[row].double()[:, None] - numbers(row)).abs().min(1).values
        torch.testing.assert_close(
            (x[row] - rounded[row]).double().abs(), nearest, rtol=1e-5, atol=1e-6
        )
        distance = (rounded[row].double()[:, None] - numbers(row)).abs().min(1).values
        assert float(distance.max()) < 1e-6


def test_codes_lie_in_their_rows_and_steps_are_whole():
    given = grid()
    low, high = given.ends
    assert low.tolist() == [[0]] * 6 and high.tolist() == (COUNTS - 1).tolist()
    codes = given.encode(values())
    assert codes.dtype == torch.uint8 and bool((codes <= high).all())
    assert given.spec.reach == (1 - MOST_LEVELS, MOST_LEVELS - 1)
    steps = given.decode(codes) / given.step
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)
    assert steps.abs().max() <= MOST_LEVELS - 1
    assert torch.equal(given.units(codes) * 2, (2 * given.units(codes)).round())
    plain = Grid.of(GridSpec(), torch.tensor(0.5))
    assert torch.equal(plain.step, plain.scale)


@pytest.mark.parametrize("columns", [1, 3, 40])
def test_codes_come_back_from_their_bytes(columns):
    given = grid()
    codes = given.encode(values(columns, seed=1))
    packed = pack_grid(codes, given)
    rows = {2: 1, 3: 2, 4: 1, 5: 1, 127: 1}
    size = sum(
        packed_bytes(GridSpec.level_set(tuple(range(n))), k * columns) for n, k in rows.items()
    )
    assert packed.numel() == size == packed_grid_bytes(given, (6, columns))
    again = unpack_grid(packed, given, (6, columns))
    assert torch.equal(again, codes) and again.dtype == codes.dtype
    assert QTensor(codes, given).nbytes == size + 6 * (4 + 1)


def test_the_layout_is_that_of_the_document():
    """Counts 4, 2, 4: the row of two levels comes first, then both rows of four, each kind from a
    new byte.
    """
    given = Grid.of(GridSpec.counting(), torch.ones(3, 1), counts=torch.tensor([[4], [2], [4]]))
    codes = torch.tensor([[0, 3], [1, 0], [2, 1]], dtype=torch.uint8)
    assert pack_grid(codes, given).tolist() == [0b01, 0b01101100]


def test_damaged_bytes_are_refused():
    given = grid()
    packed = pack_grid(given.encode(values(5)), given)
    with pytest.raises(FormatError, match="take"):
        unpack_grid(packed[:-1], given, (6, 5))
    ternary = Grid.of(GridSpec.counting(), torch.ones(1, 1), counts=torch.tensor([[3]]))
    with pytest.raises(FormatError, match="damaged"):
        unpack_grid(torch.tensor([255], dtype=torch.uint8), ternary, (1, 5))


@pytest.mark.parametrize(
    "change",
    [
        {"granularity": "tensor"},
        {"narrow": True},
        {"levels": (0.0, 1.0)},
        {"bits": 8},
        {"mixed": 2.0},
        {"symmetric": False},
        {"codebook": 4},
        {"granularity": "group", "group_size": 4},
        {"wide": True},
    ],
)
def test_contradictions_are_refused(change):
    with pytest.raises(RecipeError):
        replace(GridSpec.counting(), **change)


@pytest.mark.parametrize(
    "counts", [COUNTS - 1, COUNTS + 1, COUNTS[:3], None], ids=["few", "many", "shape", "none"]
)
def test_counts_must_fit(counts):
    with pytest.raises(RecipeError, match="counts"):
        Grid.of(GridSpec.counting(), SCALE, counts=counts)
    with pytest.raises(RecipeError, match="counts"):
        Grid.of(GridSpec(granularity="channel"), SCALE, counts=COUNTS)
    with pytest.raises(RecipeError, match="zero points"):
        Grid.of(GridSpec.counting(), SCALE, torch.ones(6, 1), counts=COUNTS)


def test_nan_is_refused_and_infinity_saturates():
    with pytest.raises(NumericsError, match="NaN"):
        grid().encode(torch.full((6, 1), torch.nan))
    ends = grid().encode(torch.tensor([[-torch.inf, torch.inf]] * 6))
    assert ends[:, 0].tolist() == [0] * 6 and ends[:, 1].tolist() == (COUNTS[:, 0] - 1).tolist()


def test_labels_tell_the_mean_width():
    mean = sum(log2(n) for n in COUNTS[:, 0].tolist()) / 6
    assert (GridSpec.counting().label, grid().label) == ("mixed", f"{mean:.2f} mixed")
    assert grid().to("cpu").label == grid().label
