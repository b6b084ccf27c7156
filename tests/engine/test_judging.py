"""Targets that are read when they are asked for are looked at before the long work; tasks at fault
are named.
"""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import nn

from subbyte.data import OnDemand, Split
from subbyte.engine.judging import as_scores, forward_of, judge, settle_task
from subbyte.errors import ContractError, DataError
from subbyte.graph import Samples
from subbyte.graph.capture import explaining
from subbyte.methods import Measure, Outputs, Tally, Targets, Task, calls
from subbyte.tasks.tallies import mean


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


@dataclass(frozen=True)
class Faulty(Task):
    """The mean output, with a fault by name."""

    fault: str
    per_head = True

    def check(self, outputs: Outputs, targets: Targets) -> None:
        if self.fault == "check":
            raise IndexError("far")

    def score(self, outputs: Outputs, targets: Targets) -> list[Tally]:
        def broken(*_: torch.Tensor) -> Any:
            raise IndexError("far")

        if self.fault == "fewer" and len(outputs[0]) < 2:
            return []
        found = mean(Measure("level"), outputs[0])
        return [replace(found, **({self.fault: broken} if hasattr(found, self.fault) else {}))]

    def compare(self, outputs: Outputs, others: Outputs) -> list[Tally]:
        return []

    def loss(self, outputs: Outputs, targets: Targets) -> torch.Tensor:
        return outputs[0].mean()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("check", r"Faulty.check raised IndexError: far \(test_judging.py, line"),
        ("figure", "Tally.figure of 'level' raised IndexError: far"),
        ("error", "Tally.error of 'level' raised IndexError: far"),
        ("join", "Tally.join of 'level' raised IndexError: far"),
        ("fewer", r"\w+.score returned other figures .*: none; before: level"),
    ],
)
@pytest.mark.parametrize("heads", [1, 2])
def test_tasks_that_break_their_contract_are_named(fault, message, heads):
    def forward(samples: Samples) -> Outputs:
        return (torch.zeros(len(samples), 3),) * heads

    given = Split("test", lambda k: torch.zeros(len(k), 1, 2, 2), 5, (torch.zeros(5),) * heads)
    with pytest.raises(ContractError, match=message):
        task, _ = settle_task([Faulty(fault)], forward, given)
        as_scores(judge({"own": forward}, {}, task, given, batch_size=2)["own"].scores)


@pytest.mark.parametrize("fill", [lambda: torch.empty(10**14), lambda: [0] * 2**60])
def test_running_out_of_memory_is_no_fault_of_data_network_or_task(fill):
    given, _ = split(4)
    with pytest.raises((MemoryError, RuntimeError)) as full:
        fill()
    kind = type(full.value)

    class Wide(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise full.value

    class Hungry(Faulty):
        def loss(self, outputs: Outputs, targets: Targets) -> torch.Tensor:
            raise full.value

    with pytest.raises(kind):
        settle_task((), forward_of(Wide()), given)
    with pytest.raises(kind):
        calls.loss(Hungry(""), outputs(None), ())
    with pytest.raises(kind), explaining(Wide(), Samples.of(torch.zeros(2, 1))):
        raise full.value
