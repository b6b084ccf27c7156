"""Samples held apart: neither calibrated on nor tested on, they judge the networks of a search.

A first tenth chooses: the distance of outputs from the float network's, of which little noise is
left. The others measure drops: nothing was chosen by them but what a promise about drops decides.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor, nn

from subbyte.data import Split
from subbyte.engine.drops import Drop, paired_drop
from subbyte.engine.judging import forward_of, run_network, settle_task
from subbyte.errors import DataError
from subbyte.graph import Samples
from subbyte.methods import Outputs, Tally, Task, calls

_GROUPS = 100
_CHOOSING = 0.1
_LEAST = 20
_NUMBERS = 2**26  # of the float network's outputs that are kept
_TEMPERATURE = 4.0


@dataclass(frozen=True)
class Verdict:
    """A network judged. drop: of the figure; distance: from the float network's outputs."""

    drop: Drop
    distance: float


class Apart:
    """Judges quantized networks by samples held apart: by the task's first figure where the split
    has targets, else by the first in which a network is compared with the float one.

    tasks: as for `judging.settle_task`. measure: the figure of which drops are; choosing, samples:
    how many choose, and measure drops. Raises DataError for fewer than 20 samples.
    """

    def __init__(
        self, model: nn.Module, split: Split, tasks: tuple[Task, ...] = (), device: str = "cpu"
    ) -> None:
        if len(split) < _LEAST:
            raise DataError(
                f"{len(split)} samples held apart are too few to judge by; give at least {_LEAST}"
            )
        self._split, self._device = split, device
        self._float = forward_of(model.to(device), device)
        self.task, most = settle_task(tasks, self._float, split)
        size = max(1, min(most, ceil(len(split) / _GROUPS)))
        self._size, groups = size, ceil(len(split) / size)
        self._first = max(1, round(_CHOOSING * groups))
        self.choosing = self._first * size
        self.samples = len(split) - self.choosing
        self._kept: dict[int, Outputs] = {}
        inputs, targets = next(split.batches(2))
        few = run_network(self._float, Samples.of(inputs), split, 0)
        self.measure = self._figure(few, few, targets).measure

    def judge(
        self,
        model: nn.Module,
        tail: float,
        progress: Callable[[int, int, str], None] = lambda done, total, what: None,
    ) -> Verdict:
        """A network's drop, each end of its interval exceeded with probability `tail`, and its
        distance.
        """
        forward = forward_of(model.to(self._device), self._device)
        distances, found, floats = list[float](), list[Tally](), list[Tally]()
        for number, (inputs, targets) in enumerate(self._split.batches(self._size)):
            samples, done = Samples.of(inputs), number * self._size
            outputs = run_network(forward, samples, self._split, done)
            wanted = self._wanted(number, samples, done)
            if number < self._first:
                distances.append(float(self._distance(outputs, wanted)))
            else:
                found.append(self._figure(outputs, wanted, targets))
                floats.append(self._figure(wanted, wanted, targets))
            progress(min(done + self._size, len(self._split)), len(self._split), "")
        model.to("cpu")
        drop = paired_drop(found, floats, self.samples, tail)
        return Verdict(drop, sum(distances) / len(distances))

    def _wanted(self, number: int, samples: Samples, done: int) -> Outputs:
        """The float network's outputs, kept as far as there is room."""
        if number in self._kept:
            return self._kept[number]
        outputs = run_network(self._float, samples, self._split, done)
        if (number + 1) * sum(output.numel() for output in outputs) <= _NUMBERS:
            self._kept[number] = outputs
        return outputs

    def _figure(self, outputs: Outputs, wanted: Outputs, targets: tuple[Tensor, ...]) -> Tally:
        scored = calls.score(self.task, outputs, targets) if targets else []
        return (scored or calls.compare(self.task, outputs, wanted))[0]

    @torch.no_grad()
    def _distance(self, outputs: Outputs, wanted: Outputs) -> Tensor:
        return calls.imitation(self.task, outputs, wanted, _TEMPERATURE)
