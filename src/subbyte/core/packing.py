"""Codes in bytes, exact both ways. The layout is specified in docs/format.md.

    2^b codes:   a stream of bits; code i takes bits i*b ... i*b + b - 1, least significant first,
                 in bytes filled from their least significant bit. The last byte is filled up with
                 0.
    c codes:     n digits to a word of k bytes, sum_{i<n} digit_i c^i <= 256^k, least significant
                 byte first; n and k with the fewest bits a digit, k <= 8. The last word has only
                 the bytes that its digits need.
                 3 codes (ternary): 5 in 1 byte, 1.6 bits; 5 codes: 24 in 7 bytes, 2.33 bits; 17: 15
                 in 8, 4.27 bits.

Whichever is smaller of the second and of whole bits is taken. Codes are counted from 0 here (code -
qmin).
Where rows have different numbers of codes, those of each number, fewest first, are packed together;
rows of one code take no bytes.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from subbyte.core.grid import Grid
from subbyte.errors import FormatError

_WIDEST_WORD = 8  # bytes
_BLOCK = 2**20  # digits whose bits are spread out at a time; whole bytes for any width


class Words(NamedTuple):
    """digits of a base that share a word, and the word's bytes."""

    base: int
    digits: int
    bytes: int


@cache
def words(count: int) -> Words | None:
    """The words of bytes that codes of `count` levels share; None where whole bits are as small."""
    fits = [Words(count, _digits(count, k), k) for k in range(1, _WIDEST_WORD + 1)]
    best = min((w for w in fits if w.digits), key=lambda w: w.bytes / w.digits)
    return best if 8 * best.bytes < _width(count) * best.digits else None


def _width(count: int) -> int:
    """Whole bits of a code; one more than a wide grid's bits."""
    return (count - 1).bit_length()


def _digits(base: int, size: int) -> int:
    """Digits of a base that fit in `size` bytes."""
    digits = 0
    while base ** (digits + 1) <= 256**size:
        digits += 1
    return digits


def _last_bytes(layout: Words, digits: int) -> int:
    """Bytes of a word that holds fewer digits."""
    return next(k for k in range(layout.bytes + 1) if layout.base**digits <= 256**k)


def digit_bytes(base: int, count: int) -> int:
    """Bytes that `count` digits of a base take."""
    layout = words(base)
    if layout is None:
        return -(-count * _width(base) // 8)
    return count // layout.digits * layout.bytes + _last_bytes(layout, count % layout.digits)


def pack_digits(digits: Tensor, base: int) -> Tensor:
    """Pack digits from 0 to base - 1 (any shape, read in row-major order) into uint8.

    Raises FormatError for a number that is no digit.
    """
    flat = digits.detach().cpu().to(torch.int64).numpy().reshape(-1)
    if flat.size and (flat.min() < 0 or flat.max() >= base):
        raise FormatError(f"digits from {flat.min()} to {flat.max()} do not fit 0..{base - 1}")
    layout = words(base)
    if layout is None:
        parts = [_to_bits(flat[k : k + _BLOCK], _width(base)) for k in range(0, flat.size, _BLOCK)]
        return torch.from_numpy(np.concatenate([np.empty(0, np.uint8), *parts]))
    padded = np.pad(flat.astype(np.uint64), (0, -flat.size % layout.digits))
    numbers = (padded.reshape(-1, layout.digits) * _powers(layout)).sum(1, dtype=np.uint64)
    stored = numbers.astype("<u8").view(np.uint8).reshape(-1, 8)[:, : layout.bytes].reshape(-1)
    return torch.from_numpy(stored[: digit_bytes(base, flat.size)].copy())


def unpack_digits(packed: Tensor, base: int, count: int) -> Tensor:
    """Inverse of `pack_digits`: int32 [count].

    Raises FormatError when the bytes are too few, too many, or do not stand for digits.
    """
    if packed.dtype != torch.uint8 or packed.numel() != digit_bytes(base, count):
        raise FormatError(
            f"{count} codes, {base} to choose from, take {digit_bytes(base, count)} bytes of "
            f"uint8, got {packed.numel()} of {packed.dtype}"
        )
    data = packed.cpu().numpy().reshape(-1)
    layout = words(base)
    found, valid = (
        _from_bits(data, _width(base), count) if layout is None else _from_words(data, layout)
    )
    digits, padding = found[:count], found[count:]
    if not valid or padding.any() or (count and int(digits.max()) >= base):
        raise FormatError(f"the bytes hold no codes of which there are {base}: the file is damaged")
    return torch.from_numpy(digits.astype(np.int32))


def pack(codes: Tensor, grid: Grid) -> Tensor:
    """Pack the codes [rows, columns] of a grid into uint8. Raises FormatError when one lies out of
    range.
    """
    rows, low = len(codes), grid.ends[0]
    digits = codes.to(torch.int64) - (low if grid.spec.alphabet.varies else grid.spec.alphabet.qmin)
    parts = [pack_digits(digits[taken], base) for taken, base in _parts(grid, rows)]
    return torch.cat([torch.empty(0, dtype=torch.uint8), *parts])


def packed_bytes(grid: Grid, shape: Sequence[int]) -> int:
    """Bytes that codes of this shape take on a grid."""
    rows, columns = shape
    if not grid.spec.alphabet.varies:
        return digit_bytes(grid.spec.alphabet.count, rows * columns)
    return sum(digit_bytes(base, int(taken.sum()) * columns) for taken, base in _parts(grid, rows))


def unpack(packed: Tensor, grid: Grid, shape: tuple[int, int]) -> Tensor:
    """Inverse of `pack`: codes in the alphabet's code dtype.

    Raises FormatError when the bytes are not codes of the grid.
    """
    wanted = packed_bytes(grid, shape)
    if packed.dtype != torch.uint8 or packed.numel() != wanted:
        raise FormatError(
            f"codes {list(shape)} of {grid.label} bits take {wanted} bytes of uint8, got "
            f"{packed.numel()} of {packed.dtype}"
        )
    digits, start = torch.zeros(shape, dtype=torch.int32), 0
    for taken, base in _parts(grid, shape[0]):
        count = int(taken.sum()) * shape[1]
        stop = start + digit_bytes(base, count)
        digits[taken] = unpack_digits(packed[start:stop], base, count).reshape(-1, shape[1])
        start = stop
    low = grid.ends[0] if grid.spec.alphabet.varies else grid.spec.alphabet.qmin
    return (digits + low).to(grid.spec.alphabet.code_dtype)


def _parts(grid: Grid, rows: int) -> list[tuple[Tensor, int]]:
    """Rows, bool [rows], with their number of codes: those that take bytes, fewest codes first."""
    if not grid.spec.alphabet.varies:
        return [(torch.ones(rows, dtype=torch.bool), grid.spec.alphabet.count)]
    low, high = grid.ends
    counts = (high - low + 1)[:, 0].cpu()
    return [(counts == n, int(n)) for n in counts.unique() if n > 1]


def _to_bits(digits: np.ndarray, bits: int) -> np.ndarray:
    stream = ((digits[:, None] >> np.arange(bits)) & 1).astype(np.uint8)
    return np.packbits(stream.reshape(-1), bitorder="little")


def _from_bits(data: np.ndarray, bits: int, count: int) -> tuple[np.ndarray, bool]:
    """Digits, and whether the bits behind them are 0."""
    digits, clean = np.empty(count, np.int32), True
    for start in range(0, count, _BLOCK):
        number = min(_BLOCK, count - start)
        taken = data[start * bits // 8 : -(-(start + number) * bits // 8)]
        stream = np.unpackbits(taken, bitorder="little")
        used = stream[: number * bits].reshape(number, bits).astype(np.int32)
        digits[start : start + number] = (used << np.arange(bits)).sum(1)
        clean = clean and not stream[number * bits :].any()
    return digits, clean


def _from_words(data: np.ndarray, layout: Words) -> tuple[np.ndarray, bool]:
    """Digits of whole words, and whether every word is one."""
    padded = np.pad(data, (0, -data.size % layout.bytes)).reshape(-1, layout.bytes)
    numbers = np.pad(padded, ((0, 0), (0, 8 - layout.bytes))).view("<u8").reshape(-1)
    digits = numbers[:, None] // _powers(layout) % np.uint64(layout.base)
    valid = bool((numbers <= layout.base**layout.digits - 1).all())
    return digits.reshape(-1), valid


def _powers(layout: Words) -> np.ndarray:
    return np.array([layout.base**k for k in range(layout.digits)], dtype=np.uint64)
