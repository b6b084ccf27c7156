"""Grids whose rows have codes of widths of their own."""

from dataclasses import replace

import pytest
import torch

from subbyte.core import Grid, GridSpec, QTensor, pack_grid, packed_grid_bytes, unpack_grid
from subbyte.errors import FormatError, RecipeError

WIDTHS = torch.tensor([[0], [1], [3], [8], [4], [0], [3]])


def mixed(*, signed: bool = True, bits: int = 8) -> GridSpec:
    return GridSpec(bits=bits, signed=signed, symmetric=False, granularity="channel", mixed=2.7)


def grid(*, signed: bool = True) -> Grid:
    zero = torch.tensor([[-1], [0], [-2 if signed else 5], [100], [3], [1], [0]])
    scale = torch.tensor([[0.7], [0.5], [0.1], [0.01], [0.2], [1.5], [0.3]])
    return Grid.of(mixed(signed=signed), scale, zero, widths=WIDTHS)


def test_rows_have_the_codes_of_their_width():
    low, high = grid().ends
    assert low[:, 0].tolist() == [0, -1, -4, -128, -8, 0, -4]
    assert high[:, 0].tolist() == [0, 0, 3, 127, 7, 0, 3]
    low, high = grid(signed=False).ends
    assert (low[:, 0].tolist(), high[:, 0].tolist()) == ([0] * 7, [0, 1, 7, 255, 15, 0, 7])


@pytest.mark.parametrize("signed", [True, False])
def test_every_value_goes_to_the_nearest_number_of_its_row(signed):
    given = grid(signed=signed)
    x = 3 * torch.randn(7, 40, generator=torch.Generator().manual_seed(0))
    rounded = given.quantize(x)
    for row in range(7):
        low, high = (int(end[row]) for end in given.ends)
        numbers = (torch.arange(low, high + 1).float() - given.zero_point[row]) * given.scale[row]
        nearest = (x[row][:, None] - numbers).abs().min(1).values
        torch.testing.assert_close((x[row] - rounded[row]).abs(), nearest)
        assert bool(torch.isin(rounded[row], numbers).all())


def test_rows_of_no_bits_are_one_number_and_take_no_bytes():
    given = grid()
    assert given.quantize(torch.randn(7, 5))[[0, 5]].tolist() == [
        [pytest.approx(0.7)] * 5,
        [-1.5] * 5,
    ]
    nothing = Grid.of(given.spec, given.scale, given.zero_point.clamp(-1, 1), widths=0 * WIDTHS)
    assert (
        packed_grid_bytes(nothing, (7, 40)) == 0
        and pack_grid(nothing.encode(torch.randn(7, 40)), nothing).numel() == 0
    )


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("columns", [1, 3, 40])
def test_codes_come_back_from_their_bytes(signed, columns):
    given = grid(signed=signed)
    codes = given.encode(3 * torch.randn(7, columns, generator=torch.Generator().manual_seed(1)))
    packed = pack_grid(codes, given)
    bits = {1: 1, 3: 2, 4: 1, 8: 1}  # rows of each width
    assert packed.numel() == sum(-(-width * rows * columns // 8) for width, rows in bits.items())
    again = unpack_grid(packed, given, (7, columns))
    assert torch.equal(again, codes) and again.dtype == codes.dtype
    assert QTensor(codes, given).nbytes == packed.numel() + 7 * (4 + 2 + 1)


def test_the_layout_is_that_of_the_document():
    """Widths 3, 1, 3: the row of one bit comes first, then both rows of three, each width from a
    new byte.
    """
    zero = torch.zeros(3, 1)
    given = Grid.of(
        replace(mixed(), mixed=7 / 3), zero + 1, zero, widths=torch.tensor([[3], [1], [3]])
    )
    codes = torch.tensor([[-4, 3], [-1, 0], [1, -3]], dtype=torch.int8)
    digits = [0, 7, 5, 1]  # 000 111 101 001, least significant bit first
    stream = sum(digit << 3 * place for place, digit in enumerate(digits))
    assert pack_grid(codes, given).tolist() == [0b10, stream & 255, stream >> 8]


def test_damaged_bytes_are_refused():
    given = grid()
    packed = pack_grid(given.encode(torch.randn(7, 5)), given)
    with pytest.raises(FormatError, match="take"):
        unpack_grid(packed[:-1], given, (7, 5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"granularity": "tensor"}, "granularity"),
        ({"narrow": True, "symmetric": True}, "narrow"),
        ({"levels": (0.0, 1.0)}, "levels"),
        ({"mixed": 9.0}, "mean width"),
        ({"mixed": -1.0}, "mean width"),
    ],
)
def test_contradictions_are_refused(change, message):
    with pytest.raises(RecipeError, match=message):
        replace(mixed(), **change)


@pytest.mark.parametrize(
    ("widths", "zero_point"),
    [(WIDTHS + 1, 0), (WIDTHS - 1, 0), (WIDTHS[:3], 0), (WIDTHS, 2), (None, 0)],
    ids=["too wide", "negative", "of another shape", "zero point out of range", "none"],
)
def test_widths_and_zero_points_must_fit(widths, zero_point):
    with pytest.raises(RecipeError):
        Grid.of(mixed(), torch.ones(7, 1), torch.full((7, 1), zero_point), widths=widths)


def test_labels_tell_the_mean_width():
    assert (mixed().label, grid().label) == (
        "2.7 mixed",
        f"{float(WIDTHS.float().mean()):.2f} mixed",
    )
