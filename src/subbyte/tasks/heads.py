"""A network of several outputs, and the task of each; and the choice where none is given."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from subbyte.errors import DataError
from subbyte.methods import Outputs, Tally, Targets, Task, calls
from subbyte.tasks.classification import Classification
from subbyte.tasks.comparison import Comparison
from subbyte.tasks.regression import Regression
from subbyte.tasks.segmentation import Segmentation


@dataclass(frozen=True)
class Heads(Task):
    """A task for each output; targets are those of the first outputs, in order, and the others are
    compared only.
    """

    tasks: tuple[Task, ...]

    def check(self, outputs: Outputs, targets: Targets) -> None:
        """See `methods.Task`."""
        for head, task in enumerate(self.tasks):
            try:
                calls.check(task, outputs[head : head + 1], targets[head : head + 1])
            except DataError as error:
                raise DataError(f"output {head}: {error}") from error

    def score(self, outputs: Outputs, targets: Targets) -> list[Tally]:
        """See `methods.Task`."""
        return _numbered([calls.score(*each) for each in judged_apart(self, outputs, targets)])

    def compare(self, outputs: Outputs, others: Outputs) -> list[Tally]:
        """See `methods.Task`."""
        judged = zip(self.tasks, outputs, others, strict=True)
        return _numbered([calls.compare(task, (own,), (other,)) for task, own, other in judged])

    def loss(self, outputs: Outputs, targets: Targets) -> Tensor:
        """See `methods.Task`. The sum over all outputs that have targets."""
        judged = judged_apart(self, outputs, targets)
        return torch.stack([calls.loss(*each) for each in judged]).sum()

    def imitation(self, outputs: Outputs, others: Outputs, temperature: float) -> Tensor:
        """See `methods.Task`. The sum over all outputs that are no whole numbers."""
        heads = zip(self.tasks, outputs, others, strict=True)
        floats = [(task, own, other) for task, own, other in heads if other.is_floating_point()]
        found = [
            calls.imitation(task, (own,), (other,), temperature) for task, own, other in floats
        ]
        return torch.stack(found).sum()


def judged_apart(
    task: Task, outputs: Outputs, targets: Targets
) -> list[tuple[Task, Outputs, Targets]]:
    """The tasks whose losses add up to a task's, each with what it judges."""
    if not isinstance(task, Heads):
        return [(task, outputs, targets)]
    judged = zip(task.tasks, outputs, targets, strict=False)
    return [(own, (output,), (wanted,)) for own, output, wanted in judged]


def _numbered(tallies: Sequence[list[Tally]]) -> list[Tally]:
    return [replace(one, head=head) for head, found in enumerate(tallies) for one in found]


def settle(given: Sequence[Task], outputs: Outputs, targets: Targets) -> Task:
    """The task that judges such outputs, checked.

    given: one task, or one for each output; none: they are chosen by outputs and targets.
    outputs: of a few samples; targets: of the same or of all. Raises DataError where they don't go
    together.
    """
    if not outputs:
        raise DataError("the network returns no tensors: there is nothing to judge")
    if len(targets) > len(outputs):
        raise DataError(
            f"the data have {len(targets)} targets, but the network returns {len(outputs)} "
            f"tensors: leave some out"
        )
    task = _of_outputs(given or choose(outputs, targets), len(outputs))
    calls.check(task, outputs, targets)
    return task


def imitated(task: Task, outputs: Outputs) -> Task:
    """The task by which such outputs are compared where a network learns without targets.

    task: as it was said; classification is what is meant where nothing is said: other outputs than
    [n, classes] are compared by their form.
    """
    if not isinstance(task, Classification) or (len(outputs) == 1 and outputs[0].ndim == 2):
        return task
    return settle((), outputs, ())


def choose(outputs: Outputs, targets: Targets) -> tuple[Task, ...]:
    """A task for each output, by its form and that of its target. Raises DataError where that is
    not clear.
    """
    rest = len(outputs) - len(targets)
    judged = zip(outputs, targets, strict=False)
    return (*(_choice(own, wanted) for own, wanted in judged), *[Comparison()] * rest)


def _of_outputs(tasks: Sequence[Task], count: int) -> Task:
    """One task for so many outputs."""
    if len(tasks) == 1 and tasks[0].per_head:
        tasks = tuple(tasks) * count
    if len(tasks) == 1:
        return tasks[0]
    if len(tasks) != count:
        raise DataError(
            f"{len(tasks)} tasks for a network that returns {count} tensors; name one for each, or "
            f"one for all"
        )
    if not all(task.per_head for task in tasks):
        raise DataError("a task that judges all outputs together can't be one of several")
    return Heads(tuple(tasks))


def _choice(output: Tensor, target: Tensor) -> Task:
    if target.is_floating_point():
        return Regression()
    if target.ndim == 1 and output.ndim == 2 and output.shape[1] > 1:
        return Classification()
    if target.ndim >= 3 and output.ndim == target.ndim + 1:
        return Segmentation()
    raise DataError(
        f"no task is known for targets {target.dtype} {list(target.shape)} and outputs "
        f"{list(output.shape)}: labels [n] go with [n, classes], maps [n, h, w] with "
        f"[n, classes, h, w]; or name one with --task"
    )
