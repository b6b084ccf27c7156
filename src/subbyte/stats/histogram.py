"""The distribution of a tap's values: exact ends and a histogram between them, in two passes over the chunks."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

_BINS = 8192


@dataclass(frozen=True, eq=False)
class Histogram:
    """values: bin centres, float32 [1, bins], the outermost being the exact minimum and maximum;
    counts: how many fell into each, float32 [1, bins].
    """

    values: Tensor
    counts: Tensor


def histogram(chunks: Iterable[Tensor]) -> Histogram:
    """Histogram of all values of the chunks (read twice: pass a list or a re-iterable)."""
    ends = [torch.aminmax(chunk) for chunk in chunks]
    low = min(float(e.min) for e in ends)
    high = max(float(e.max) for e in ends)
    if low == high:
        return Histogram(torch.tensor([[low]]), torch.tensor([[float(sum(c.numel() for c in chunks))]]))
    counts = torch.zeros(_BINS, dtype=torch.float64)
    for chunk in chunks:
        counts += torch.histc(chunk.float(), bins=_BINS, min=low, max=high).cpu()
    centres = low + (torch.arange(_BINS, dtype=torch.float64) + 0.5) * (high - low) / _BINS
    centres[0], centres[-1] = low, high
    seen = counts > 0
    return Histogram(centres[seen].float()[None], counts[seen].float()[None])
