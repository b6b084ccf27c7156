"""Run networks over a split side by side, and judge their outputs by targets and by each other's.

Outputs of one batch are held at a time, of all networks; figures are counted as they pass.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from math import isfinite

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from subbyte.data import OnDemand, Split
from subbyte.errors import ContractError, DataError, NumericsError, SubbyteError
from subbyte.graph import Samples
from subbyte.graph.user_module import evaluating
from subbyte.io.memory import out_of_memory
from subbyte.methods import Measure, Outputs, Runner, Tally, Task, calls
from subbyte.methods.blame import name_of
from subbyte.records import Score
from subbyte.tasks import settle

Forward = Callable[[Samples], Outputs]
"""A network at work: samples to the tensors of its output, on the CPU, floats in float32."""
BATCH = 250
_NUMBERS = 2**25  # of a network's outputs that are held
_PROBED = 2  # samples that tell of the form of outputs
_READ = 2000  # samples whose targets are read before the long work


@dataclass(eq=False)
class Judged:
    """A network's figures. scores: by targets; comparison: with the other network's outputs."""

    scores: list[Tally] = field(default_factory=list)
    comparison: list[Tally] = field(default_factory=list)


def forward_of(model: Callable[..., object], device: str | torch.device = "cpu") -> Forward:
    """A torch network at work on a device; a module is in evaluation mode meanwhile."""

    def forward(samples: Samples) -> Outputs:
        call = samples.to(device).call
        mode = evaluating(model) if isinstance(model, nn.Module) else nullcontext()
        with torch.no_grad(), mode:
            return _tensors(model(*call.args, **call.kwargs))

    return forward


def forward_of_file(run: Runner) -> Forward:
    """An exported file at work in its runtime."""

    def forward(samples: Samples) -> Outputs:
        return _tensors(run(*(leaf for leaf in samples.leaves if isinstance(leaf, Tensor))))

    return forward


def settle_task(given: Sequence[Task], forward: Forward, split: Split) -> tuple[Task, int]:
    """The task of a network on a split, and how many samples a batch may have.

    given: one task, or one for each output; none: it is chosen. All targets that are in memory are
    checked, and some of others. Raises DataError when network, data and task do not go together.
    """
    if not len(split):
        raise DataError(f"split {split.name!r} is empty: there is nothing to evaluate on")
    few = torch.arange(min(_PROBED, len(split)))
    outputs = run_network(forward, Samples.of(split.samples(few)), split, 0)
    numbers = sum(output.numel() for output in outputs) // len(few)
    batch = max(1, min(BATCH, _NUMBERS // max(1, numbers)))
    targets = tuple(t if isinstance(t, Tensor) else t[few] for t in split.targets)
    try:
        task = settle(given, outputs, targets)
    except DataError as error:
        raise DataError(f"split {split.name!r}: {error}") from error
    asked = [target for target in split.targets if isinstance(target, OnDemand)]
    if asked:
        _check_read(task, outputs, split, asked[0])
    return task, batch


def _check_read(task: Task, outputs: Outputs, split: Split, named: OnDemand) -> None:
    """Read targets that are not in memory, of many samples some, so that what is wrong with them is
    said before the long work. Raises DataError with the place that `named` has for a sample.
    """
    some = torch.linspace(0, len(split) - 1, min(_READ, len(split)), dtype=torch.float64).long()
    for chunk in some.split(BATCH):
        read = tuple(target[chunk] for target in split.targets)
        try:
            calls.check(task, outputs, read)
        except DataError:
            for row, index in enumerate(chunk.tolist()):
                try:
                    calls.check(task, outputs, tuple(target[row : row + 1] for target in read))
                except DataError as error:
                    raise DataError(f"{named.place(index)}: {error}") from error
            raise


def judge(
    networks: Mapping[str, Forward],
    against: Mapping[str, str],
    task: Task,
    split: Split,
    *,
    batch_size: int = BATCH,
    progress: Callable[[int, int], None] = lambda done, total: None,
    seen: Callable[[Mapping[str, Outputs]], None] = lambda outputs: None,
) -> dict[str, Judged]:
    """The figures of networks, by name. against: for a network, the one it is compared with.

    progress: called with the numbers of samples done and in all; seen: called with all outputs,
    both after every batch. Raises DataError when a network can't take the samples, NumericsError
    when an output is NaN or Inf.
    """
    found = {name: Judged() for name in networks}
    done = 0
    for inputs, targets in split.batches(batch_size):
        samples = Samples.of(inputs)
        outputs = {
            name: run_network(forward, samples, split, done) for name, forward in networks.items()
        }
        for name, judged in found.items():
            if targets:
                scores = calls.score(task, outputs[name], targets)
                add_up(judged.scores, scores, name_of(task, "score"))
            if name in against:
                compared = calls.compare(task, outputs[name], outputs[against[name]])
                add_up(judged.comparison, compared, name_of(task, "compare"))
        seen(outputs)
        done += len(samples)
        progress(done, len(split))
    return found


def as_scores(tallies: Sequence[Tally]) -> list[Score]:
    """Figures that were counted, as records."""
    return [
        Score(
            name=one.measure.name,
            unit=one.measure.unit,
            higher=one.measure.higher,
            value=_finite(calls.figure(one)),
            error=_finite(calls.error(one)),
            head=one.head,
        )
        for one in tallies
    ]


def run_network(forward: Forward, samples: Samples, split: Split, done: int) -> Outputs:
    """Outputs for samples of a split, of which `done` went before; checked."""
    try:
        outputs = forward(samples)
    except SubbyteError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as reason:
        if out_of_memory(reason):
            raise
        raise DataError(
            f"the network cannot take images {_sizes(samples)} of split {split.name!r} "
            f"({type(reason).__name__}: {reason}). Choose other data, or fit these with "
            "--resize and --crop"
        ) from reason
    for head, output in enumerate(outputs):
        if not output.is_floating_point() or not output.ndim:
            continue
        wrong = (~torch.isfinite(output)).flatten(1).any(dim=1).nonzero()
        if len(wrong):
            raise NumericsError(
                f"the outputs of {len(wrong)} of {len(output)} images are NaN or Inf (output "
                f"{head}), the first is image {done + int(wrong[0])} of split {split.name!r}; "
                "look for overflow in the network, or bad weights"
            )
    return outputs


def _sizes(samples: Samples) -> str:
    """Such as [3, 32, 32] for images (channels, height, width)."""
    sizes = [
        str(list(leaf.shape[1:]))
        for leaf, batched in zip(samples.leaves, samples.batched, strict=True)
        if batched
    ]
    return f"{', '.join(sizes)} (of each)"


def add_up(counted: list[Tally], more: Sequence[Tally], where: str) -> None:
    """More of the same figures, in place; none yet: the first. Raises ContractError where they are
    others. where: the verb that they are from.
    """
    if not counted:
        counted.extend(more)
        return
    if _named(counted) != _named(more):
        raise ContractError(
            f"{where} returned other figures for one batch than for those before: "
            f"{_shown(more)}; before: {_shown(counted)}"
        )
    counted[:] = [calls.add(a, b) for a, b in zip(counted, more, strict=True)]


def _named(tallies: Sequence[Tally]) -> list[tuple[Measure, int]]:
    return [(one.measure, one.head) for one in tallies]


def _shown(tallies: Sequence[Tally]) -> str:
    return ", ".join(one.measure.name for one in tallies) or "none"


def tensors_of(returned: object) -> Outputs:
    """The tensors of what a network returns, floats in float32."""
    leaves = [leaf for leaf in pytree.tree_leaves(returned) if isinstance(leaf, Tensor)]
    return tuple(leaf.float() if leaf.is_floating_point() else leaf for leaf in leaves)


def _tensors(returned: object) -> Outputs:
    return tuple(leaf.detach().cpu() for leaf in tensors_of(returned))


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
