"""The distribution of an activation quantizer's values: exact ends and a histogram between them, in
two passes over the chunks.

It is counted for the whole tensor, or for each channel on its own; of processes that have chunks
each, over all of them. Counts are whole numbers: the order in which they add up changes nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.io.processes import ALONE, Processes

_BINS = 8192
_CHANNEL_BINS = 1024


@dataclass(frozen=True, eq=False)
class Histogram:
    """values: bin centres, float32 [1 or channels, bins], the outermost being the exact minimum and
    maximum;
    counts: how many fell into each, float32 of the same shape.
    """

    values: Tensor
    counts: Tensor


def histogram(chunks: Iterable[Tensor], processes: Processes = ALONE) -> Histogram:
    """Histogram of all values of the chunks (read twice: pass a list or a re-iterable)."""
    ends = [_ends(chunk.reshape(1, -1)) for chunk in chunks]
    low, high = (float(end) for end in _outermost(ends, processes))
    if low == high:
        _, total = processes.counted(sum(c.numel() for c in chunks))
        return Histogram(torch.tensor([[low]]), torch.tensor([[float(total)]]))
    counts = torch.zeros(_BINS, dtype=torch.float64)
    for chunk in chunks:
        counts += torch.histc(chunk.float(), bins=_BINS, min=low, max=high).cpu()
    counts = processes.total(counts)
    centres = low + (torch.arange(_BINS, dtype=torch.float64) + 0.5) * (high - low) / _BINS
    centres[0], centres[-1] = low, high
    seen = counts > 0
    return Histogram(centres[seen].float()[None], counts[seen].float()[None])


def channel_histograms(
    chunks: Iterable[Tensor], axis: int, processes: Processes = ALONE
) -> Histogram:
    """Histogram of every channel, a row each (the chunks are read twice). axis: where the channels
    are.
    """
    ends = [_ends(_rows(chunk, axis)) for chunk in chunks]
    low, high = (end[:, None].double() for end in _outermost(ends, processes))
    width = torch.where(high > low, (high - low) / _CHANNEL_BINS, 1.0)
    counts = torch.zeros(len(low), _CHANNEL_BINS, dtype=torch.float64)
    for chunk in chunks:
        rows = _rows(chunk, axis)
        steps = (rows - low.to(rows.device)) / width.to(rows.device)
        bins = steps.long().clamp_(0, _CHANNEL_BINS - 1)
        bins += _CHANNEL_BINS * torch.arange(len(low), device=rows.device)[:, None]
        found = torch.bincount(bins.reshape(-1), minlength=counts.numel())
        counts += found.reshape(counts.shape).cpu()
    counts = processes.total(counts)
    centres = low + (torch.arange(_CHANNEL_BINS) + 0.5) * width
    centres[:, :1], centres[:, -1:] = low, high
    return Histogram(centres.float(), counts.float())


def _ends(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest value of each row, in RAM."""
    low, high = torch.aminmax(rows, dim=1)
    return low.cpu(), high.cpu()


def _outermost(ends: list[tuple[Tensor, Tensor]], processes: Processes) -> tuple[Tensor, Tensor]:
    """The ends of all chunks of all processes, row by row: two of [rows]. ends: by chunk."""
    low = torch.stack([low for low, _ in ends]).amin(0)
    high = torch.stack([high for _, high in ends]).amax(0)
    return (
        torch.stack(processes.gather(low)).amin(0),
        torch.stack(processes.gather(high)).amax(0),
    )


def _rows(value: Tensor, axis: int) -> Tensor:
    """[channels, values of each]."""
    return value.movedim(axis, 0).flatten(1).float()
