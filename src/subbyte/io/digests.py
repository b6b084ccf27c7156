"""Digests of byte strings that belong together."""

import hashlib
from collections.abc import Iterable

from torch import Tensor


def tensor_bytes(tensor: Tensor) -> bytes:
    """The numbers of a tensor, in order, for a digest."""
    return tensor.detach().cpu().contiguous().numpy().tobytes()


def digest(parts: Iterable[bytes]) -> str:
    """sha256 in hexadecimal of byte strings, each with its length, so that their borders count."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()
