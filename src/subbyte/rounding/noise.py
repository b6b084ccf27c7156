"""Seeded noise for stochastic rounding.

The noise of a row depends on the seed and on the row's own weights, not on the rows beside it: the
same layer gets the same codes whatever the order of its channels, and on every device.
"""

import hashlib

import torch
from torch import Tensor


def row_noise(weight: Tensor, seed: int, draw: int = 0) -> Tensor:
    """Numbers in [0, 1): float32, the shape of weight [rows, columns]. draw: the how-manieth noise
    of this seed.
    """
    rows = weight.detach().to("cpu", torch.float32).contiguous()
    noise = torch.empty_like(rows)
    for row, out in zip(rows, noise, strict=True):
        key = hashlib.blake2b(row.numpy().tobytes(), digest_size=8, key=f"{seed} {draw}".encode())
        generator = torch.Generator().manual_seed(int.from_bytes(key.digest(), "little") >> 1)
        out.uniform_(generator=generator)
    return noise.to(weight.device)
