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
On mixed grids the rows of each width, narrowest first, are packed as codes of that many bits; rows
of 0 bits take none. On counted grids the rows of each number of levels, fewest first, are packed as
that many codes.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from subbyte.core.grid import Grid
from subbyte.core.spec import GridSpec
from subbyte.errors import FormatError

_WIDEST_WORD = 8  # bytes


class Words(NamedTuple):
    """digits of a base that share a word, and the word's bytes."""

    base: int
    digits: int
    bytes: int


@cache
def words(count: int) -> Words | None:
    """How `count` codes share words of bytes; None where whole bits are as small."""
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


def packed_bytes(spec: GridSpec, count: int) -> int:
    """Bytes that `count` codes of this spec take."""
    layout = words(spec.count)
    if layout is None:
        return -(-count * _width(spec.count) // 8)
    return count // layout.digits * layout.bytes + _last_bytes(layout, count % layout.digits)


def pack(codes: Tensor, spec: GridSpec) -> Tensor:
    """Pack codes (any shape, read in row-major order) into uint8 [packed_bytes].

    Raises FormatError when a code lies outside the spec's range.
    """
    digits = codes.detach().cpu().to(torch.int64).numpy().reshape(-1) - spec.qmin
    if digits.size and (digits.min() < 0 or digits.max() >= spec.count):
        raise FormatError(
            f"codes from {digits.min() + spec.qmin} to {digits.max() + spec.qmin} do not fit "
            f"{spec.qmin}..{spec.qmax}"
        )
    layout = words(spec.count)
    if layout is None:
        bits = ((digits[:, None] >> np.arange(_width(spec.count))) & 1).astype(np.uint8)
        return torch.from_numpy(np.packbits(bits.reshape(-1), bitorder="little"))
    padded = np.pad(digits.astype(np.uint64), (0, -digits.size % layout.digits)).reshape(
        -1, layout.digits
    )
    numbers = (padded * _powers(layout)).sum(1, dtype=np.uint64)
    stored = numbers.astype("<u8").view(np.uint8).reshape(-1, 8)[:, : layout.bytes].reshape(-1)
    return torch.from_numpy(stored[: packed_bytes(spec, digits.size)].copy())


def unpack(packed: Tensor, spec: GridSpec, shape: tuple[int, ...]) -> Tensor:
    """Inverse of `pack`: codes of this shape in the spec's code dtype.

    Raises FormatError when the bytes are too few, too many, or do not stand for codes of this spec.
    """
    count = int(np.prod(shape))
    if packed.dtype != torch.uint8 or packed.numel() != packed_bytes(spec, count):
        raise FormatError(
            f"{count} codes of {spec.label} bits take {packed_bytes(spec, count)} bytes of uint8, "
            f"got {packed.numel()} of {packed.dtype}"
        )
    data = packed.cpu().numpy().reshape(-1)
    layout = words(spec.count)
    digits, valid = (
        _from_bits(data, _width(spec.count), count) if layout is None else _from_words(data, layout)
    )
    codes, padding = digits[:count], digits[count:]
    if not valid or padding.any() or (count and int(codes.max()) >= spec.count):
        raise FormatError(
            f"the bytes hold no codes of {spec.label} bits in {spec.qmin}..{spec.qmax}: the file "
            f"is damaged"
        )
    return torch.from_numpy(codes.astype(np.int16) + spec.qmin).to(spec.code_dtype).reshape(shape)


def pack_grid(codes: Tensor, grid: Grid) -> Tensor:
    """Pack the codes [rows, columns] of a grid into uint8. Raises FormatError when one lies out of
    range.
    """
    if grid.widths is None and grid.counts is None:
        return pack(codes, grid.spec)
    digits = codes.to(torch.int32) - grid.ends[0]
    return torch.cat(
        [
            torch.empty(0, dtype=torch.uint8),
            *(pack(digits[rows], spec) for rows, spec in _parts(grid)),
        ]
    )


def packed_grid_bytes(grid: Grid, shape: tuple[int, ...]) -> int:
    """Bytes that codes of this shape take on a grid."""
    if grid.widths is None and grid.counts is None:
        return packed_bytes(grid.spec, int(np.prod(shape)))
    return sum(packed_bytes(spec, int(rows.sum()) * shape[1]) for rows, spec in _parts(grid))


def unpack_grid(packed: Tensor, grid: Grid, shape: tuple[int, int]) -> Tensor:
    """Inverse of `pack_grid`. Raises FormatError when the bytes are not codes of the grid."""
    if grid.widths is None and grid.counts is None:
        return unpack(packed, grid.spec, shape)
    if packed.numel() != packed_grid_bytes(grid, shape):
        wanted = packed_grid_bytes(grid, shape)
        raise FormatError(
            f"codes {list(shape)} of these widths take {wanted} bytes, got {packed.numel()}"
        )
    digits = torch.zeros(shape, dtype=torch.int32)
    start = 0
    for rows, spec in _parts(grid):
        part = (int(rows.sum()), shape[1])
        stop = start + packed_bytes(spec, part[0] * part[1])
        digits[rows] = unpack(packed[start:stop], spec, part).to(torch.int32)
        start = stop
    return (digits + grid.ends[0]).to(grid.spec.code_dtype)


def _parts(grid: Grid) -> list[tuple[Tensor, GridSpec]]:
    """Which rows, bool [rows], have codes of each kind that takes bytes, and what their digits
    are.
    """
    if grid.counts is not None:
        counts = grid.counts[:, 0]
        return [(counts == n, GridSpec.level_set(tuple(range(int(n))))) for n in counts.unique()]
    assert grid.widths is not None
    widths = grid.widths[:, 0]
    return [
        (widths == bits, GridSpec(bits=int(bits), signed=False))
        for bits in widths.unique()
        if bits > 0
    ]


def _from_bits(data: np.ndarray, bits: int, count: int) -> tuple[np.ndarray, bool]:
    """Digits, and whether the bits behind them are 0."""
    stream = np.unpackbits(data, bitorder="little")
    used = stream[: count * bits].reshape(count, bits).astype(np.int64)
    return (used << np.arange(bits)).sum(1), not stream[count * bits :].any()


def _from_words(data: np.ndarray, layout: Words) -> tuple[np.ndarray, bool]:
    """Digits of whole words, and whether every word is one."""
    padded = np.pad(data, (0, -data.size % layout.bytes)).reshape(-1, layout.bytes)
    numbers = np.pad(padded, ((0, 0), (0, 8 - layout.bytes))).view("<u8").reshape(-1)
    digits = numbers[:, None] // _powers(layout) % np.uint64(layout.base)
    valid = bool((numbers <= layout.base**layout.digits - 1).all())
    return digits.reshape(-1), valid


def _powers(layout: Words) -> np.ndarray:
    return np.array([layout.base**k for k in range(layout.digits)], dtype=np.uint64)
