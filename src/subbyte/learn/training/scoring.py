"""The figures of outputs that a run logs: the loss, and the first score of each output."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, isnan, nan

import torch
from torch import nn

from subbyte.data import Split
from subbyte.engine.judging import (
    as_scores,
    forward_of,
    judge,
    settle_task,
    tensors_of,
)
from subbyte.errors import DataError, NumericsError
from subbyte.graph import output_names
from subbyte.learn.training.record import Row
from subbyte.methods import Measure, Outputs, Tally, Targets, Task, calls
from subbyte.records import Score
from subbyte.records.training import Scoring
from subbyte.tasks import judged_apart, task_name

LOSS = Measure("loss", higher=False)
_GUESSED = 64  # samples that tell of the loss of guessing
_NETWORK = "network"


def first_scores(task: Task, outputs: Outputs, targets: Targets) -> list[Tally]:
    """The first score of every output, counted; the loss, which is logged anyway, is none."""
    found = [one for one in calls.score(task, outputs, targets) if one.measure.name != LOSS.name]
    return list({one.head: one for one in reversed(found)}.values())[::-1]


@dataclass(frozen=True)
class Logged(Task):
    """A task whose scores are its loss, and the first score of each output."""

    task: Task

    def score(self, outputs: Outputs, targets: Targets) -> list[Tally]:
        """See `methods.Task`."""
        return [
            _loss(self.task, outputs, targets),
            *first_scores(self.task, outputs, targets),
        ]

    def compare(self, outputs: Outputs, others: Outputs) -> list[Tally]:
        """See `methods.Task`."""
        return calls.compare(self.task, outputs, others)

    def loss(self, outputs: Outputs, targets: Targets) -> torch.Tensor:
        """See `methods.Task`."""
        return calls.loss(self.task, outputs, targets)


@dataclass(frozen=True)
class Judge:
    """Judges the outputs of a network that is trained.

    task: whose loss is made small; batch: samples at a time where a split is measured; scoring:
    what the log calls the scores; guess: the loss of outputs that are all 0, such as log(classes);
    device: where the network computes.
    """

    task: Task
    batch: int
    scoring: Scoring
    guess: float
    device: str

    @classmethod
    def of(
        cls, model: nn.Module, splits: Sequence[Split], tasks: Sequence[Task], device: str
    ) -> "Judge":
        """The judge of a run. splits: all that are trained or measured on, training images first;
        of each a few images are looked at.

        Raises DataError where network, images, targets and tasks do not go together.
        """
        for split in splits:
            if not split.targets:
                raise DataError(
                    f"split {split.name!r} has no targets, neither labels nor others: training "
                    f"needs the outputs that are wanted"
                )
        returned: list[object] = []  # of a few images of each split

        def keep(module: nn.Module, given: object, found: object) -> None:
            del module, given
            returned.append(found)

        with model.register_forward_hook(keep):
            settled = [settle_task(tasks, forward_of(model, device), split) for split in splits]
        task, train, test = settled[-1][0], splits[0], splits[-1]
        for split, (own, _) in zip(splits, settled, strict=True):
            if own != task:
                raise DataError(
                    f"split {split.name!r} has other kinds of targets than {test.name!r}; give "
                    f"both the same"
                )
        outputs = _outputs(returned[-1])
        scores = as_scores(first_scores(task, outputs, _first_targets(test, len(outputs[0]))))
        named = [score.model_copy(update={"value": None, "error": None}) for score in scores]
        scoring = Scoring(task=task_name(task), heads=output_names(returned[-1]), scores=named)
        guess = _guess(task, _outputs(returned[0]), train)
        return cls(task, min(batch for _, batch in settled), scoring, guess, device)

    def measure(self, model: nn.Module, split: Split, images: str) -> Row:
        """The loss and the scores of a split, as cells; those left out that there was nothing to
        measure on. images: what the log calls them.

        Raises NumericsError where the loss is NaN or Inf.
        """
        networks = {_NETWORK: forward_of(model, self.device)}
        found = judge(networks, {}, Logged(self.task), split, batch_size=self.batch)[_NETWORK]
        loss, *scores = found.scores
        if not bool(torch.isfinite(loss.counted).all()):
            raise NumericsError(f"the loss of the {len(split)} {images} images is NaN or Inf")
        mean = loss.figure(loss.counted)
        cells = {} if isnan(mean) else {f"{images}_loss": round(mean, 6)}
        return cells | self.cells(images, scores)

    def cells(self, images: str, scores: Sequence[Tally]) -> Row:
        """Scores as cells; without those that there was nothing to measure on."""
        return {
            self.scoring.column(images, score): _rounded(score, score.value)
            for score in as_scores(scores)
            if score.value is not None
        }


def _loss(task: Task, outputs: Outputs, targets: Targets) -> Tally:
    """The mean loss over all that counts; of several outputs the sum of their means, each over what
    counts of its own. Sums: pairs of a total and a count.
    """
    pairs = []
    for own, some, wanted in judged_apart(task, outputs, targets):
        count = calls.counted(own, wanted)
        total = count * float(calls.loss(own, some, wanted)) if count else 0.0
        pairs += [total, float(count)]
    return Tally(LOSS, torch.tensor(pairs, dtype=torch.float64), _sum_of_means)


def _sum_of_means(counted: torch.Tensor) -> float:
    """NaN where nothing was counted."""
    totals, counts = counted.view(-1, 2).unbind(1)
    there = counts > 0
    return float((totals[there] / counts[there]).sum()) if bool(there.any()) else nan


def _outputs(returned: object) -> Outputs:
    return tuple(output.cpu() for output in tensors_of(returned))


def _first_targets(split: Split, count: int) -> Targets:
    return tuple(target[torch.arange(count)] for target in split.targets)


def _guess(task: Task, outputs: Outputs, split: Split) -> float:
    """The loss of outputs that are all 0; 0 where it says nothing."""
    count = min(_GUESSED, len(split))
    zeros = tuple(output.new_zeros(count, *output.shape[1:]) for output in outputs)
    found = float(calls.loss(task, zeros, _first_targets(split, count)))
    return found if isfinite(found) else 0.0


def _rounded(score: Score, value: float) -> float:
    return round(value, 4) if score.unit == "%" else float(f"{value:.6g}")
