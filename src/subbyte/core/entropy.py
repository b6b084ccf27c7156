"""The fewest bytes that codes could take: Shannon's bound, and what a compressor makes of them.

    H = - sum_v p_v log2 p_v      p_v = share of the codes that are v

H bits a code is the least that any coder needs which codes one code at a time and knows the shares;
Banner et al. 2019 report it for their variable-length codes. It pools all codes given: rows whose
codes differ may take less.

`compressed_bytes` is what LZMA really makes of them. The files that subbyte writes hold packed
codes, not these: the number is an upper bound on what good coding would leave.
"""

import lzma
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from subbyte.errors import FormatError

# Packed digits have no structure of words or text: a byte's neighbours say nothing of it (lc, lp,
# pb). LZMA2 stores what it can't compress as it is.
_FILTERS: list[dict[str, Any]] = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 0, "pb": 0}]


def shannon_entropy(codes: Tensor) -> float:
    """Bits per code; 0 where all are the same. codes: integers of any shape.

    Raises FormatError when there are none, or when they are not integers.
    """
    count = _checked(codes).unique(return_counts=True)[1].double()
    share = count / count.sum()
    return float((share * share.reciprocal().log2()).sum())


def compressed_bytes(codes: Tensor) -> int:
    """Bytes of a lossless LZMA stream of the codes in row-major order: integers of any shape,
    spread by under 2^16.

    Their number, the smallest and the largest, which a layer's shape and grid tell, are not
    counted.
    Raises FormatError when there are none, when they are not integers, or when they are too far
    apart.
    """
    return len(compress(codes))


def compress(codes: Tensor) -> bytes:
    """The stream that `compressed_bytes` measures.

    With c codes from the smallest to the largest, each byte holds the digits of as many codes as
    fit, sum_i digit_i c^i <= 255, least significant first; more than 256 codes take two bytes each,
    low byte first. The last byte is filled up with the smallest code. Several codes a byte are
    coded together, so each costs less overhead than one by itself.
    """
    digits = _checked(codes).reshape(-1).long()
    digits = digits - digits.min()
    base = int(digits.max()) + 1
    if base > 2**16:
        raise FormatError(
            f"codes from the smallest to the largest are {base:,} numbers, more than two bytes hold"
        )
    if base > 256:
        data = torch.stack([digits % 256, digits // 256], 1)
    else:
        together = max(n for n in range(1, 9) if base**n <= 256)
        padded = F.pad(digits, (0, -len(digits) % together))
        data = (
            padded.reshape(-1, together) * base ** torch.arange(together, device=digits.device)
        ).sum(1)
    return lzma.compress(
        data.to(torch.uint8).cpu().numpy().tobytes(), format=lzma.FORMAT_RAW, filters=_FILTERS
    )


def _checked(codes: Tensor) -> Tensor:
    if codes.is_floating_point() or codes.is_complex():
        raise FormatError(f"codes are integers, got {codes.dtype}")
    if not codes.numel():
        raise FormatError("no codes, so they have no entropy; give at least one")
    return codes
