"""Digits in bytes: exact both ways, to the layout that is written down, and damage is seen."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from subbyte.core import (
    Counts,
    Grid,
    GridSpec,
    PerChannel,
    Uniform,
    Widths,
    digit_bytes,
    pack,
    packing,
)
from subbyte.core.packing import Words, pack_digits, unpack_digits, words
from subbyte.errors import FormatError
from tests.reference import packing as reference
from tests.reference.examples import examples

BASES = (*range(2, 20), 127, 128, 129, 255, 256, 257, 259, 512)
IN_WORDS = [base for base in BASES if reference.word_of(base)]
every_base = pytest.mark.parametrize("base", BASES)


def random_digits(base: int, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randint(0, base, shape, generator=torch.Generator().manual_seed(seed))


def as_bytes(numbers: list[int]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.uint8)


@pytest.mark.parametrize("base", range(2, 257))
def test_lengths_around_words_come_back_and_match_the_written_layout(base):
    """With random digits, the smallest and the largest words that there are."""
    size = (words(base) or Words(base, 8, 8)).digits
    for length in sorted({0, 1, size - 1, size, size + 1, 2 * size + size // 2}):
        for digits in (
            random_digits(base, (length,), length),
            torch.zeros(length),
            torch.full((length,), base - 1),
        ):
            packed = pack_digits(digits, base)
            wanted = reference.pack_digits(digits.int().tolist(), base)
            assert packed.dtype == torch.uint8 and bytes(packed.tolist()) == wanted
            assert len(wanted) == digit_bytes(base, length)
            assert torch.equal(unpack_digits(packed, base, length), digits.int())


@examples(80)
@given(st.sampled_from(BASES), st.lists(st.integers(0, 6), max_size=4), st.integers(0, 10**6))
def test_any_shape_is_read_in_row_major_order(base, shape, seed):
    digits = random_digits(base, tuple(shape), seed)
    flat = digits.reshape(-1).tolist()
    assert bytes(pack_digits(digits, base).tolist()) == reference.pack_digits(flat, base)
    if len(shape) == 2:
        turned = reference.pack_digits(digits.T.reshape(-1).tolist(), base)
        assert bytes(pack_digits(digits.T, base).tolist()) == turned


@pytest.mark.parametrize(
    ("base", "digits", "packed"),
    [
        (2, [1, 0, 1, 1, 0, 0, 0, 0, 1], [0b00001101, 0b1]),
        (4, [0, 1, 2, 3, 3], [0b11_10_01_00, 0b11]),
        (8, [1, 2, 3, 4, 5, 6, 7, 0], [0xD1, 0x58, 0x1F]),
        (16, [1, 2, 3, 4], [0x21, 0x43]),
        (256, [0, 255, 128], [0, 255, 128]),
        (7, [0, 6, 3], [0 + 6 * 7 + 3 * 49, 0]),
        (7, [6, 6, 6], [342 % 256, 1]),
        (3, [0, 1, 2, 2, 0, 2], [0 + 1 * 3 + 2 * 9 + 2 * 27 + 0, 2]),
        (3, [2, 2, 2, 2, 2], [242]),
        (5, [4, 1], [4 + 1 * 5]),
        (6, [5, 0, 2, 1], [5 + 2 * 36, 1]),
        (257, [0, 256, 255], [0, 0, 0b1111_11_10, 0b11]),
        (9, [8, 0, 8, 0, 8, 1], [(8 * 6643) % 256, 8 * 6643 // 256, 1]),
    ],
)
def test_the_layout_by_hand(base, digits, packed):
    assert pack_digits(torch.tensor(digits), base).tolist() == packed
    assert unpack_digits(as_bytes(packed), base, len(digits)).tolist() == digits


@pytest.mark.parametrize(
    ("base", "count", "size"),
    [
        (16, 3, 2),
        (8, 9, 4),
        (2, 9, 2),
        (3, 1_000_000, 200_000),
        (5, 24_000_000, 7_000_000),
        (5, 25, 8),
        (17, 13, 7),
        (17, 16, 9),
        (257, 9, 11),
        (255, 7, 7),
    ],
)
def test_sizes(base, count, size):
    assert digit_bytes(base, count) == size


def test_rows_of_other_numbers_of_codes_come_in_runs_fewest_codes_first():
    """Widths 3, 1, 3: the row of one bit comes first, then both rows of three, from a new byte;
    rows of 4, 2, 4 levels likewise.
    """
    zero = torch.zeros(3, 1)
    spec = GridSpec(Widths(mean=7 / 3), PerChannel())
    widths = Grid.of(spec, zero + 1, zero, torch.tensor([[3], [1], [3]]))
    codes = torch.tensor([[-4, 3], [-1, 0], [1, -3]], dtype=torch.int8)
    digits = [0, 7, 5, 1]  # 000 111 101 001, least significant bit first
    stream = sum(digit << 3 * place for place, digit in enumerate(digits))
    assert pack(codes, widths).tolist() == [0b10, stream & 255, stream >> 8]
    counts = Grid.of(GridSpec(Counts((4, 2, 4)), PerChannel()), zero + 1)
    assert pack(torch.tensor([[0, 3], [1, 0], [2, 1]]), counts).tolist() == [0b01, 0b01101100]


@every_base
@pytest.mark.parametrize("wrap", [0, 2**8, 2**16, -(2**16), 2**32])
def test_numbers_that_are_no_digit_are_refused(base, wrap):
    for wrong in [-1] if wrap == 0 else [base - 1 + wrap]:
        with pytest.raises(FormatError, match=rf"0\.\.{base - 1}"):
            pack_digits(torch.tensor([0, wrong, base - 1]), base)


def test_codes_out_of_range_are_refused():
    grid = Grid.of(GridSpec(Uniform(4)), torch.tensor(1.0))
    for code in (-9, 8):
        with pytest.raises(FormatError, match=r"0\.\.15"):
            pack(torch.tensor([[0, code]]), grid)


@every_base
def test_too_few_and_too_many_bytes_are_refused(base):
    packed = pack_digits(random_digits(base, (33,)), base)
    longer = torch.cat([packed, torch.zeros(1, dtype=torch.uint8)])
    for wrong in (packed[:-1], longer, packed[:0], packed.to(torch.int16)):
        with pytest.raises(FormatError, match=f"33 codes.*{len(packed)} bytes of uint8"):
            unpack_digits(wrong, base, 33)


@pytest.mark.parametrize(
    ("base", "packed", "count"),
    [
        # patterns that are no digits
        (3, [0, 243], 10),
        (3, [0, 255], 10),
        (7, [0b111], 1),
        (255, [0, 255], 2),
        (5, [5], 1),
        (5, [25], 2),
        (5, [0] * 7 + [5], 25),
        (6, [216], 3),
        (9, [9**5 % 256, 9**5 // 256], 5),
        (257, [1, 1], 1),
        # padding that is not 0
        (2, [0b10], 1),
        (8, [0b01_000_000], 2),
        (16, [0x21, 0x13], 3),
        (3, [81], 4),
        (5, [5**6 % 256, 5**6 // 256], 6),
    ],
)
def test_bytes_that_are_no_digits_are_refused(base, packed, count):
    with pytest.raises(FormatError, match="damaged"):
        unpack_digits(as_bytes(packed), base, count)


@pytest.mark.parametrize("count", range(2, 513))
def test_words_are_the_smallest_there_are(count):
    layout, wanted = words(count), reference.word_of(count)
    assert layout == (None if wanted is None else Words(count, *wanted))
    if layout is not None:
        assert count**layout.digits <= 256**layout.bytes < count ** (layout.digits + 1)


@pytest.mark.parametrize("base", IN_WORDS)
def test_words_beyond_the_last_are_refused(base):
    """The number after the largest, and the largest that the bytes hold, as first and as last
    word; and a last word that its digits do not need.
    """
    _, digits, size = words(base)
    largest = base**digits - 1
    good = list(largest.to_bytes(size, "little"))
    assert unpack_digits(as_bytes(good), base, digits).eq(base - 1).all()
    for number in (largest + 1, 256**size - 1):
        bad = list(number.to_bytes(size, "little"))
        for stored in (bad + good, good + bad):
            with pytest.raises(FormatError, match="damaged"):
                unpack_digits(as_bytes(stored), base, 2 * digits)
    for rest in range(1, digits):
        last = digit_bytes(base, 2 * digits + rest) - 2 * size
        assert 256 ** (last - 1) < base**rest <= 256**last
        beyond = list((base**rest).to_bytes(size + 1, "little")[:last])
        if base**rest < 256**last:
            with pytest.raises(FormatError, match="damaged"):
                unpack_digits(as_bytes([0] * 2 * size + beyond), base, 2 * digits + rest)


@pytest.mark.parametrize("base", [2, 8, 64, 256])
def test_blocks_do_not_show(base, monkeypatch):
    digits = torch.randint(0, base, (53,), generator=torch.Generator().manual_seed(0))
    whole = pack_digits(digits, base)
    monkeypatch.setattr(packing, "_BLOCK", 8)
    assert torch.equal(pack_digits(digits, base), whole)
    assert torch.equal(unpack_digits(whole, base, 53), digits.int())
