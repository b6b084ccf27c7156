"""Codes in bytes: exact both ways, to the layout that is written down, and damage is seen."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from subbyte.core import GridSpec, pack, packed_bytes, unpack
from subbyte.core.packing import Words, words
from subbyte.errors import FormatError
from tests.reference.examples import examples
from tests.reference.packing import pack_digits, word_of

SPECS = {
    **{f"int{b}": GridSpec(bits=b) for b in range(2, 9)},
    **{f"uint{b}": GridSpec(bits=b, signed=False) for b in range(1, 9)},
    "narrow3": GridSpec(bits=3, narrow=True),
    "narrow8": GridSpec(bits=8, narrow=True),
    "ternary": GridSpec.ternary(),
    "levels3": GridSpec.level_set((-1, 0, 4)),
    "levels5": GridSpec.level_set((-2, -1, 0, 1, 4)),
    "levels6": GridSpec.level_set(tuple(range(6))),
    "levels129": GridSpec.level_set(tuple(range(129))),
    **{f"wide{b}": GridSpec(bits=b, wide=True) for b in range(1, 9)},
    "levels4 in 8 bits": GridSpec(bits=8, levels=(-3.0, -1.0, 1.0, 3.0)),
    "codebook4": GridSpec.fitted(4),
    "codebook259": GridSpec.fitted(259),
    "codebook11": GridSpec.fitted(11, "tensor"),
}
IN_WORDS = {name: spec for name, spec in SPECS.items() if word_of(spec.count)}
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def random_codes(spec: GridSpec, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(spec.qmin, spec.qmax + 1, shape, generator=generator).to(spec.code_dtype)


def reference_bytes(codes: torch.Tensor, spec: GridSpec) -> list[int]:
    digits = [code - spec.qmin for code in codes.reshape(-1).tolist()]
    return list(pack_digits(digits, spec.count))


@every_spec
def test_all_lengths_come_back_and_match_the_written_layout(spec):
    for length in range(41):
        codes = random_codes(spec, (length,), length)
        packed = pack(codes, spec)
        assert packed.dtype == torch.uint8 and packed.shape == (packed_bytes(spec, length),)
        assert packed.tolist() == reference_bytes(codes, spec)
        again = unpack(packed, spec, (length,))
        assert (
            torch.equal(again, codes)
            and again.dtype == spec.code_dtype
            and again.shape == codes.shape
        )


@examples(80)
@given(
    st.sampled_from(sorted(SPECS)), st.lists(st.integers(0, 6), max_size=4), st.integers(0, 10**6)
)
def test_any_shape_comes_back(name, shape, seed):
    spec = SPECS[name]
    codes = random_codes(spec, tuple(shape), seed)
    packed = pack(codes, spec)
    assert packed.tolist() == reference_bytes(codes, spec)
    assert torch.equal(unpack(packed, spec, tuple(shape)), codes)


@every_spec
def test_every_code_comes_back(spec):
    codes = torch.arange(spec.qmin, spec.qmax + 1)
    assert torch.equal(unpack(pack(codes, spec), spec, (spec.count,)).long(), codes)


@pytest.mark.parametrize(
    ("spec", "codes", "packed"),
    [
        (SPECS["uint1"], [1, 0, 1, 1, 0, 0, 0, 0, 1], [0b00001101, 0b1]),
        (SPECS["int2"], [-2, -1, 0, 1, 1], [0b11_10_01_00, 0b11]),
        (SPECS["uint3"], [1, 2, 3, 4, 5, 6, 7, 0], [0xD1, 0x58, 0x1F]),
        (SPECS["int4"], [-8, 7, 0], [0xF0, 0x08]),
        (SPECS["uint4"], [1, 2, 3, 4], [0x21, 0x43]),
        (SPECS["int8"], [-128, 127, 0], [0, 255, 128]),
        (SPECS["narrow3"], [-3, 3, 0], [0 + 6 * 7 + 3 * 49, 0]),
        (SPECS["narrow3"], [3, 3, 3], [342 % 256, 1]),
        (SPECS["ternary"], [-1, 0, 1, 1, -1, 1], [0 + 1 * 3 + 2 * 9 + 2 * 27 + 0, 2]),
        (SPECS["ternary"], [1, 1, 1, 1, 1], [242]),
        (SPECS["levels3"], [2, 0, 1], [2 + 0 + 9]),
        (SPECS["levels5"], [4, 1], [4 + 1 * 5]),
        (SPECS["levels6"], [5, 0, 2, 1], [5 + 2 * 36, 1]),
        (SPECS["wide2"], [-2, 2, 1, 0], [(4 * 5 + 3 * 25 + 2 * 125) % 256, 1]),
        (SPECS["wide8"], [-128, 128, 127], [0, 0, 0b1111_11_10, 0b11]),
        (SPECS["levels4 in 8 bits"], [3, 2, 1, 0, 1], [0b00_01_10_11, 1]),
        (SPECS["wide3"], [4, -4, 4, -4, 4, -3], [(8 * 6643) % 256, 8 * 6643 // 256, 1]),
    ],
)
def test_the_layout_by_hand(spec, codes, packed):
    assert pack(torch.tensor(codes), spec).tolist() == packed
    assert unpack(torch.tensor(packed, dtype=torch.uint8), spec, (len(codes),)).tolist() == codes


@pytest.mark.parametrize(
    ("spec", "count", "size"),
    [
        (SPECS["int4"], 0, 0),
        (SPECS["int4"], 1, 1),
        (SPECS["int4"], 2, 1),
        (SPECS["int4"], 3, 2),
        (SPECS["int3"], 8, 3),
        (SPECS["int3"], 9, 4),
        (SPECS["uint1"], 8, 1),
        (SPECS["uint1"], 9, 2),
        (SPECS["int8"], 7, 7),
        (SPECS["int7"], 8, 7),
        (SPECS["ternary"], 5, 1),
        (SPECS["ternary"], 6, 2),
        (SPECS["ternary"], 1_000_000, 200_000),
        (SPECS["levels5"], 8, 3),
        (SPECS["levels5"], 3, 1),
        (SPECS["levels5"], 24, 7),
        (SPECS["levels5"], 25, 8),
        (SPECS["levels5"], 48, 14),
        (SPECS["levels5"], 24_000_000, 7_000_000),
        (SPECS["levels6"], 3, 1),
        (SPECS["levels6"], 4, 2),
        (SPECS["wide1"], 5, 1),
        (SPECS["wide2"], 24, 7),
        (SPECS["wide3"], 5, 2),
        (SPECS["wide3"], 6, 3),
        (SPECS["wide4"], 15, 8),
        (SPECS["wide4"], 14, 8),
        (SPECS["wide4"], 13, 7),
        (SPECS["wide4"], 16, 9),
        (SPECS["wide8"], 8, 9),
        (SPECS["wide8"], 9, 11),
        (SPECS["levels4 in 8 bits"], 5, 2),
        (SPECS["narrow3"], 17, 6),
        (SPECS["narrow3"], 0, 0),
        (SPECS["narrow8"], 7, 7),
        (SPECS["codebook4"], 5, 2),
    ],
)
def test_sizes(spec, count, size):
    assert packed_bytes(spec, count) == size


def test_order_is_row_major_whatever_the_strides():
    spec = SPECS["uint4"]
    codes = torch.tensor([[1, 2, 3], [4, 5, 6]], dtype=torch.uint8)
    assert pack(codes, spec).tolist() == [0x21, 0x43, 0x65]
    assert pack(codes.T, spec).tolist() == [0x41, 0x52, 0x63]


@every_spec
def test_nothing_is_changed_by_packing(spec):
    codes = random_codes(spec, (3, 5))
    packed = pack(codes, spec)
    before = codes.clone(), packed.clone()
    pack(codes, spec)
    unpack(packed, spec, (3, 5))
    assert torch.equal(codes, before[0]) and torch.equal(packed, before[1])


@every_spec
def test_codes_out_of_range_are_refused(spec):
    for code in (spec.qmin - 1, spec.qmax + 1):
        with pytest.raises(FormatError, match=rf"{spec.qmin}\.\.{spec.qmax}"):
            pack(torch.tensor([spec.qmin, code, spec.qmax]), spec)


@pytest.mark.parametrize("wrap", [2**8, 2**16, -(2**16), 2**32])
def test_codes_of_wide_types_do_not_wrap_around(wrap):
    for spec in SPECS.values():
        with pytest.raises(FormatError):
            pack(torch.tensor([spec.qmin, spec.qmax + wrap]), spec)


@every_spec
def test_too_few_and_too_many_bytes_are_refused(spec):
    packed = pack(random_codes(spec, (33,)), spec)
    longer = torch.cat([packed, torch.zeros(1, dtype=torch.uint8)])
    for wrong in (packed[:-1], longer, packed[:0]):
        with pytest.raises(FormatError, match=f"33 codes.*{len(packed)} bytes.*got {len(wrong)}"):
            unpack(wrong, spec, (33,))
    with pytest.raises(FormatError):
        unpack(packed, spec, (0,))


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.int64, torch.float32, torch.bfloat16, torch.bool]
)
def test_only_uint8_is_read(dtype):
    with pytest.raises(FormatError, match="uint8"):
        unpack(torch.zeros(4, dtype=dtype), SPECS["int8"], (4,))


@pytest.mark.parametrize("byte", [243, 244, 255])
def test_bytes_beyond_five_trits_are_refused(byte):
    with pytest.raises(FormatError, match=r"damaged"):
        unpack(torch.tensor([0, byte], dtype=torch.uint8), SPECS["ternary"], (10,))


@pytest.mark.parametrize(
    ("spec", "packed", "count"),
    [
        (SPECS["narrow3"], [0b111], 1),
        (SPECS["narrow3"], [0b00_111_000], 2),
        (SPECS["narrow8"], [0, 255], 2),
        (SPECS["levels5"], [5], 1),
        (SPECS["levels5"], [25], 2),
        (SPECS["levels5"], [0] * 7 + [5], 25),
        (SPECS["levels6"], [216], 3),
        (SPECS["wide3"], [9**5 % 256, 9**5 // 256], 5),
        (SPECS["wide8"], [1, 1], 1),
    ],
)
def test_patterns_that_are_no_code_are_refused(spec, packed, count):
    with pytest.raises(FormatError, match="damaged"):
        unpack(torch.tensor(packed, dtype=torch.uint8), spec, (count,))


@pytest.mark.parametrize(
    ("spec", "packed", "count"),
    [
        (SPECS["uint1"], [0b10], 1),
        (SPECS["int3"], [0b01_000_000], 2),
        (SPECS["int4"], [0x21, 0x13], 3),
        (SPECS["ternary"], [81], 4),
        (SPECS["ternary"], [242, 3], 6),
        (SPECS["levels5"], [5**6 % 256, 5**6 // 256], 6),
        (SPECS["codebook4"], [0b10_000000], 3),
    ],
)
def test_padding_must_be_zero(spec, packed, count):
    with pytest.raises(FormatError, match="damaged"):
        unpack(torch.tensor(packed, dtype=torch.uint8), spec, (count,))


@pytest.mark.parametrize("count", range(2, 513))
def test_words_are_the_smallest_there_are(count):
    layout, wanted = words(count), word_of(count)
    assert layout is None if wanted is None else layout == Words(count, *wanted)
    if layout is None:
        return
    assert count**layout.digits <= 256**layout.bytes < count ** (layout.digits + 1)
    bits, whole = 8 * layout.bytes / layout.digits, (count - 1).bit_length()
    assert torch.tensor(count).log2() <= bits < whole


def test_words_of_a_few_counts():
    assert (
        words(3) == (3, 5, 1)
        and words(5) == (5, 24, 7)
        and words(6) == (6, 3, 1)
        and words(17) == (17, 15, 8)
    )
    assert all(words(2**bits) is None for bits in range(1, 9))
    assert words(255) is None


@pytest.mark.parametrize("count", range(2, 257))
def test_level_sets_of_every_count_come_back(count):
    """Around the ends of words, with the smallest and the largest words that there are."""
    spec = GridSpec.level_set(tuple(range(count)))
    size = (words(count) or Words(count, 8, 8)).digits
    for length in sorted({1, size - 1, size, size + 1, 2 * size + size // 2} - {0}):
        for codes in (
            random_codes(spec, (length,), length),
            torch.zeros(length),
            torch.full((length,), count - 1),
        ):
            codes = codes.to(torch.uint8)
            packed = pack(codes, spec)
            assert packed.numel() == packed_bytes(spec, length)
            assert torch.equal(unpack(packed, spec, (length,)), codes)


@pytest.mark.parametrize("spec", IN_WORDS.values(), ids=IN_WORDS)
def test_words_beyond_the_last_are_refused(spec):
    """The number after the largest, and the largest that the bytes hold, as first and as last
    word.
    """
    _, digits, size = words(spec.count)
    largest = spec.count**digits - 1
    good = list(largest.to_bytes(size, "little"))
    assert unpack(torch.tensor(good, dtype=torch.uint8), spec, (digits,)).eq(spec.qmax).all()
    for number in (largest + 1, 256**size - 1):
        bad = list(number.to_bytes(size, "little"))
        for stored in (bad + good, good + bad):
            with pytest.raises(FormatError, match="damaged"):
                unpack(torch.tensor(stored, dtype=torch.uint8), spec, (2 * digits,))


@pytest.mark.parametrize("spec", IN_WORDS.values(), ids=IN_WORDS)
def test_a_last_word_has_only_the_bytes_that_its_digits_need(spec):
    _, digits, size = words(spec.count)
    for rest in range(1, digits):
        last = packed_bytes(spec, 2 * digits + rest) - 2 * size
        assert 256 ** (last - 1) < spec.count**rest <= 256**last
        beyond = list((spec.count**rest).to_bytes(size + 1, "little")[:last])
        if spec.count**rest < 256**last:
            with pytest.raises(FormatError, match="damaged"):
                unpack(
                    torch.tensor([0] * 2 * size + beyond, dtype=torch.uint8),
                    spec,
                    (2 * digits + rest,),
                )
