"""Normalization against plain numpy, and what parse_normalization accepts."""

import numpy as np
import pytest
import torch

from subbyte.data import NORMALIZATIONS, Normalization, parse_normalization
from subbyte.errors import DataError

PUBLISHED = {
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "cifar10": ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
    "mnist": ([0.1307], [0.3081]),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_known_constants_by_channel(name):
    mean, std = PUBLISHED[name]
    pixels = np.random.RandomState(0).rand(2, len(mean), 5, 4).astype(np.float32)
    wanted = pixels.copy()
    for channel in range(len(mean)):
        wanted[:, channel] = (wanted[:, channel] - mean[channel]) / std[channel]
    got = parse_normalization(name).apply(torch.from_numpy(pixels))
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_every_known_name_parses_to_itself():
    assert all(parse_normalization(name) is value for name, value in NORMALIZATIONS.items())


def test_none_changes_nothing_whatever_the_channels():
    for channels in (1, 2, 3):
        pixels = torch.rand(2, channels, 3, 3)
        assert torch.equal(parse_normalization("none").apply(pixels), pixels)


def test_numbers_are_read_means_first():
    assert parse_normalization("0.5,.25,1/2,3,4") == Normalization(
        (0.5, 0.25, 1.0), (2.0, 3.0, 4.0)
    )
    assert parse_normalization("0/1").apply(torch.ones(1, 2, 2)).tolist() == [
        [[1.0, 1.0], [1.0, 1.0]]
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "imagnet",
        "0.5",
        "0.5,0.5",
        "a/b",
        "0.5/",
        "1,2/3",
        "1/2,3",
        "0.5/0",
        "0.5/-1",
        "nan/1",
        "1/inf",
        "1/2/3",
    ],
)
def test_what_cannot_be_read_is_refused_with_the_way_to_write_it(text):
    with pytest.raises(DataError, match="M,M,M/S,S,S"):
        parse_normalization(text)


@pytest.mark.parametrize(("name", "channels"), [("imagenet", 1), ("mnist", 3)])
def test_other_channel_counts_are_refused_with_both_numbers(name, channels):
    with pytest.raises(DataError, match=rf"for {4 - channels} channels.* images have {channels}"):
        parse_normalization(name).apply(torch.rand(2, channels, 4, 4))
