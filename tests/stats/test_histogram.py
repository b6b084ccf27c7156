"""Histograms of taps: exact ends, every value counted, however the chunks are cut."""

import numpy as np
import pytest
import torch

from subbyte.stats import Histogram, channel_histograms, histogram


def draw(kind: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, 17, generator=generator)
    return {
        "normal": x,
        "positive": x.relu(),
        "negative": -x.abs() - 2,
        "tiny": 1e-6 * x,
        "huge": 1e9 * x,
        "outlier": torch.cat([x.reshape(-1), torch.tensor([1e4])]),
        "two values": (x > 0).float(),
        "narrow": 1000 + x.abs().clamp_max(1) * 1e-2,
    }[kind]


KINDS = ["normal", "positive", "negative", "tiny", "huge", "outlier", "two values", "narrow"]


def check_shape(h: Histogram) -> None:
    assert h.values.dtype == h.counts.dtype == torch.float32
    assert h.values.shape == h.counts.shape and h.values.shape[0] == 1 and h.values.ndim == 2


@pytest.mark.parametrize("kind", KINDS)
def test_ends_are_exact_and_every_value_is_counted(kind):
    x = draw(kind)
    h = histogram([x])
    check_shape(h)
    assert h.values[0, 0] == x.min() and h.values[0, -1] == x.max()
    assert bool((h.values[0, 1:] > h.values[0, :-1]).all()) and bool((h.counts > 0).all())
    assert float(h.counts.sum()) == x.numel()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pieces", [2, 7, 40])
def test_chunks_make_no_difference(kind, pieces):
    x = draw(kind)
    whole, cut = histogram([x]), histogram(list(x.chunk(pieces)))
    assert torch.equal(whole.values, cut.values) and torch.equal(whole.counts, cut.counts)


@pytest.mark.parametrize("kind", ["normal", "positive", "negative", "outlier", "huge"])
def test_counts_are_those_of_numpy_but_for_neighbouring_bins(kind):
    x = draw(kind)
    h = histogram([x])
    width = (x.max() - x.min()).double().item() / 8192
    ordered = np.sort(x.double().numpy().reshape(-1))
    stands_for = np.repeat(h.values[0].double().numpy(), h.counts[0].long().numpy())
    assert np.abs(stands_for - ordered).max() <= 1.01 * width


@pytest.mark.parametrize("value", [0.0, -3.25, 1e-30])
def test_a_constant_is_one_value_counted_in_full(value):
    h = histogram([torch.full((2, 3), value), torch.full((4,), value)])
    check_shape(h)
    assert h.values.tolist() == [[pytest.approx(value, rel=1e-6)]]
    assert h.counts.tolist() == [[10.0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_count_as_well(dtype):
    x = draw("normal").to(dtype)
    h = histogram([x])
    check_shape(h)
    assert float(h.counts.sum()) == x.numel()
    torch.testing.assert_close(h.values[0, [0, -1]], torch.stack([x.min(), x.max()]).float())


def test_chunks_are_read_from_any_re_iterable_and_left_alone():
    x = draw("normal")
    chunks = tuple(x.chunk(3))
    assert torch.equal(histogram(chunks).counts, histogram(list(chunks)).counts)
    assert torch.equal(torch.cat(chunks), draw("normal"))


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_channels_have_histograms_of_their_own(axis):
    generator = torch.Generator().manual_seed(0)
    chunks = [torch.randn(n, 3, 4, 5, generator=generator) for n in (7, 1, 4)]
    for chunk in chunks:
        chunk.select(axis, 1).mul_(100)
        chunk.select(axis, 2).fill_(0.5)
    seen = channel_histograms(chunks, axis)
    every = torch.cat(chunks).movedim(axis, 0).flatten(1)
    assert seen.values.shape == seen.counts.shape and len(seen.values) == every.shape[0]
    for row, values, counts in zip(every, seen.values, seen.counts, strict=True):
        assert float(counts.sum()) == row.numel()
        assert (float(values[0]), float(values[-1])) == (float(row.min()), float(row.max()))
        width = float(row.max() - row.min()) / counts.numel()
        rising = row.sort().values
        told = values.repeat_interleave(counts.long())
        assert bool(((told - rising).abs() <= width + 1e-6).all())
