"""Entropy against closed forms; compressed sizes against streams that are read back by the standard
library.
"""

import lzma
import math

import pytest
import torch
from torch import Tensor

from subbyte.core import (
    compressed_bytes,
    shannon_entropy,
)
from subbyte.core.entropy import compress
from subbyte.core.packing import digit_bytes
from subbyte.errors import FormatError


def drawn(shares: list[float], count: int, low: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.multinomial(torch.tensor(shares), count, replacement=True, generator=generator) + low
    )


def expanded(stream: bytes, low: int, base: int, count: int) -> list[int]:
    """Codes of a stream, by its description alone."""
    settings = {"id": lzma.FILTER_LZMA2, "dict_size": 2**23}  # all that a decoder is told
    data = lzma.decompress(stream, format=lzma.FORMAT_RAW, filters=[settings])
    if base > 256:
        return [
            low + first + 256 * second for first, second in zip(data[::2], data[1::2], strict=True)
        ]
    together = int(math.log(256, base) + 1e-9) if base > 1 else 8
    codes = []
    for byte in data:
        for _ in range(together):
            codes.append(low + byte % base)
            byte //= base
    assert all(code == low for code in codes[count:]) and len(codes) < count + together
    return codes[:count]


def test_entropy_is_shannons():
    # as the authors' code gives
    assert shannon_entropy(torch.tensor([0, 0, 0, 0, 1, 1, 2, 3])) == 1.75
    assert shannon_entropy(torch.arange(-8, 8).reshape(2, 8)) == 4
    one_in_five = shannon_entropy(torch.tensor([-3, 7, -3, -3, -3], dtype=torch.int8))
    assert one_in_five == pytest.approx(-0.2 * math.log2(0.2) - 0.8 * math.log2(0.8))
    constant = shannon_entropy(torch.full((5, 3), 2, dtype=torch.uint8))
    assert constant == 0 and math.copysign(1, constant) == 1
    assert shannon_entropy(torch.tensor(3)) == 0


@pytest.mark.parametrize("bits", [1, 1.58, 2, 3, 4, 5, 8, 9])
def test_streams_hold_the_codes(bits):
    base = round(2**bits)
    low = -(base // 2)
    codes = drawn([1.0] * base, 997, low).to(torch.int16)
    codes[:2] = torch.tensor([low, low + base - 1])
    stream = compress(codes.reshape(1, 997))
    assert expanded(stream, low, base, 997) == codes.tolist()
    assert compressed_bytes(codes) == len(stream)


def test_few_codes_and_equal_codes_come_back():
    for codes in ([5], [5, 5, 5], [-1, 0], [3] * 1000, [0, 300, 7]):
        low, base = min(codes), max(codes) - min(codes) + 1
        assert expanded(compress(torch.tensor(codes)), low, base, len(codes)) == codes


@pytest.mark.parametrize(
    "shares",
    [
        [0.9, 0.1],
        [0.15, 0.7, 0.15],
        [0.1, 0.4, 0.4, 0.1],
        [1.0, 3, 8, 14, 14, 8, 3, 1],
        [2.0**-i for i in range(16)],
    ],
    ids=lambda shares: f"{len(shares)} codes",
)
def test_skewed_codes_take_little_more_than_their_entropy(shares):
    codes = drawn(shares, 200_000)
    bound = shannon_entropy(codes) * len(codes) / 8
    packed = digit_bytes(len(shares), len(codes))
    assert bound < compressed_bytes(codes) < 1.06 * bound
    assert compressed_bytes(codes) < 0.97 * packed


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_codes_without_any_pattern_take_no_more_than_packed(bits):
    codes = drawn([1.0] * 2**bits, 50_000)
    packed = digit_bytes(2**bits, len(codes))
    assert packed <= compressed_bytes(codes) <= packed + 16


def test_patterns_that_entropy_does_not_see_are_found():
    codes = drawn([1.0] * 4, 4000).reshape(1, -1).expand(8, -1)
    assert compressed_bytes(codes) < shannon_entropy(codes) * codes.numel() / 8 / 6


@pytest.mark.parametrize("measure", [shannon_entropy, compressed_bytes])
def test_no_codes_and_other_numbers_are_refused(measure):
    with pytest.raises(FormatError, match="no codes"):
        measure(torch.empty(0, dtype=torch.int8))
    with pytest.raises(FormatError, match="float32"):
        measure(torch.tensor([1.0, float("nan")]))
    if measure is compressed_bytes:
        with pytest.raises(FormatError, match="two bytes"):
            measure(torch.tensor([-1, 2**16 - 1]))
