"""Codes in bytes, exact both ways. The layout is specified in docs/format.md.

    b bits:   a stream of bits; code i takes bits i*b ... i*b + b-1, least significant first, in bytes filled from their
              least significant bit. The last byte is filled up with 0.
    ternary:  byte = sum_{k<5} digit_k * 3^k with digits 0, 1, 2 (243 <= 256): 1.6 bits a code.

Codes are counted from 0 here (code - qmin).
"""

import numpy as np
import torch
from torch import Tensor

from subbyte.core.grid import GridSpec
from subbyte.errors import FormatError

_TRITS = 5
_POWERS = 3 ** np.arange(_TRITS, dtype=np.uint8)


def packed_bytes(spec: GridSpec, count: int) -> int:
    """Bytes that `count` codes of this spec take."""
    return -(-count // _TRITS) if spec.is_ternary else -(-count * spec.bits // 8)


def pack(codes: Tensor, spec: GridSpec) -> Tensor:
    """Pack codes (any shape, read in row-major order) into uint8 [packed_bytes].

    Raises FormatError when a code lies outside the spec's range.
    """
    flat = codes.detach().cpu().to(torch.int64).numpy().reshape(-1) - spec.qmin
    if flat.size and (flat.min() < 0 or flat.max() >= spec.count):
        raise FormatError(
            f"codes from {flat.min() + spec.qmin} to {flat.max() + spec.qmin} do not fit {spec.qmin}..{spec.qmax}"
        )
    digits = flat.astype(np.uint8)
    if spec.is_ternary:
        padded = np.pad(digits, (0, -digits.size % _TRITS)).reshape(-1, _TRITS)
        return torch.from_numpy((padded * _POWERS).sum(1, dtype=np.uint8))
    bits = (digits[:, None] >> np.arange(spec.bits, dtype=np.uint8)) & 1
    return torch.from_numpy(np.packbits(bits.reshape(-1), bitorder="little"))


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
    if spec.is_ternary:
        digits = (data[:, None] // _POWERS % 3).reshape(-1)
        valid = bool((data < 3**_TRITS).all())
    else:
        bits = np.unpackbits(data, bitorder="little")
        used = bits[: count * spec.bits].reshape(count, spec.bits)
        digits = (used << np.arange(spec.bits, dtype=np.uint8)).sum(1, dtype=np.uint8)
        valid = not bits[count * spec.bits :].any()
    codes, padding = digits[:count], digits[count:]
    if not valid or padding.any() or (count and int(codes.max()) >= spec.count):
        raise FormatError(
            f"the bytes hold no codes of {spec.label} bits in {spec.qmin}..{spec.qmax}: the file is damaged"
        )
    return torch.from_numpy(codes.astype(np.int16) + spec.qmin).to(spec.code_dtype).reshape(shape)
