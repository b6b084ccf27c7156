"""Targets that are read when they are asked for are looked at before the long work."""

from dataclasses import dataclass

import pytest
import torch

from subbyte.data import OnDemand, Split
from subbyte.engine.judging import settle_task
from subbyte.errors import DataError
from subbyte.methods import Outputs


@dataclass(frozen=True, eq=False)
class Maps(OnDemand):
    """Maps of 2 x 2 pixels, of which sample `bad` has a class too many; read: how many were."""

    count: int
    bad: int
    read: list[int]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, indices: torch.Tensor) -> torch.Tensor:
        self.read.append(len(indices))
        return torch.where(indices == self.bad, 3, 1)[:, None, None].expand(-1, 2, 2).clone()

    def place(self, index: int) -> str:
        return f"map {index}"


def outputs(samples: object) -> Outputs:
    return (torch.zeros(2, 3, 2, 2),)


def split(count: int, bad: int = -1) -> tuple[Split, list[int]]:
    maps = Maps(count, bad, [])
    return Split("test", lambda k: torch.zeros(len(k), 1, 2, 2), count, (maps,)), maps.read


@pytest.mark.parametrize("bad", [0, 1, 299, 619])
def test_the_sample_that_does_not_fit_is_named(bad):
    given, _ = split(620, bad)
    where = "split 'test'" if bad < 2 else f"map {bad}"
    with pytest.raises(DataError, match=f"{where}: segmentation: a map has label 3"):
        settle_task((), outputs, given)


def test_parts_of_a_split_name_the_whole_ones_samples():
    given, _ = split(50, 40)
    with pytest.raises(DataError, match="map 40: segmentation"):
        settle_task((), outputs, given.without([3, 7]))


def test_of_many_samples_some_are_read():
    given, read = split(100_000, 99_999)
    with pytest.raises(DataError, match="map 99999: segmentation"):
        settle_task((), outputs, given)
    assert 2000 <= sum(read) <= 2100 and max(read) <= 250
