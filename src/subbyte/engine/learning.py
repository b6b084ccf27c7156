"""A whole quantized network learns from the float one, on calibration samples and without labels.

Some samples are kept apart: by fixed views of them the state is chosen that comes back, the start
among them, so that the network never gets worse there.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import ceil, isfinite

import torch
from torch import Tensor, nn

from subbyte.engine.judging import tensors_of
from subbyte.engine.quantized import QuantizedModel
from subbyte.engine.trainable import Trainable, trainable
from subbyte.engine.walk import Progress
from subbyte.errors import DataError, NumericsError
from subbyte.graph import Network, Samples, is_images
from subbyte.io.checkpoints import NOWHERE, Kept, State
from subbyte.io.processes import ALONE, Processes
from subbyte.io.repeatable import seed_of, threads
from subbyte.methods import Outputs, Task, TuneNetwork, calls, counted
from subbyte.tasks import imitated
from subbyte.tuning import TUNES

_TIMES = 20  # that the state is judged on the way
LEAST_STEPS = _TIMES
"""Steps that a time is turned into at least."""
_TIMED = 4  # steps that tell how long one takes
_VIEWS = 8  # of each sample that is kept apart
_LEAST_HELD = 8


@dataclass(frozen=True)
class Judgement:
    """The distance from the float network after so many steps, on views of samples kept apart."""

    step: int
    distance: float


@dataclass(frozen=True, eq=False)
class Lesson:
    """A network that has learned.

    start, model: the network before and after; way: by which it learned, with all settings; steps:
    that were planned; judgements: of the states on the way, that of the start first; kept: that of
    the state which came back; interrupted: whether it was stopped before the last step;
    labels: whether it learned from them.
    """

    start: QuantizedModel
    model: QuantizedModel
    way: Mapping[str, object]
    steps: int
    judgements: list[Judgement]
    kept: Judgement
    interrupted: bool = False
    labels: bool = False


@dataclass(frozen=True, eq=False)
class _Batches:
    """Views of samples: of those inputs that are images, the others stay as they are."""

    samples: Samples
    method: TuneNetwork

    def draw(self, step: int, processes: Processes) -> Samples:
        """A process's share of the views of one step: the same whenever they are asked for."""
        course = self.method.course
        generator = torch.Generator().manual_seed(seed_of(course.seed, step))
        count = course.batch * processes.world
        chosen = torch.randint(0, len(self.samples), (count,), generator=generator)
        views = self._viewed(self.samples.at(chosen), generator)
        return views.at(torch.arange(processes.rank, count, processes.world))

    def _viewed(self, samples: Samples, generator: torch.Generator) -> Samples:
        leaves = [
            self.method.views(leaf, generator) if is_images(leaf, batched) else leaf
            for leaf, batched in zip(samples.leaves, samples.batched, strict=True)
        ]
        return replace(samples, leaves=tuple(leaves))

    def fixed(self) -> Iterator[Samples]:
        """Each sample as it is, then some views of all."""
        generator = torch.Generator().manual_seed(self.method.course.seed)
        yield self.samples
        for _ in range(_VIEWS - 1):
            yield self._viewed(self.samples, generator)


def apart(samples: Samples, method: TuneNetwork) -> tuple[Samples, Samples]:
    """Samples to learn from, and samples that are kept apart. Raises DataError where there are too
    few.
    """
    course = method.course
    held = max(_LEAST_HELD, ceil(course.held * len(samples)))
    if len(samples) < 2 * held:
        raise DataError(
            f"tune: {len(samples)} calibration samples are too few to keep {held} apart; give at "
            f"least {2 * held}"
        )
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(course.seed))
    return samples.at(order[held:]), samples.at(order[:held])


class Learner:
    """Teaches a quantized network; `learn` does it all."""

    def __init__(
        self,
        network: Network,
        quantized: QuantizedModel,
        method: TuneNetwork,
        samples: Samples,
        task: Task,
        device: str,
        processes: Processes,
    ) -> None:
        self.method, self.device, self.processes = method, device, processes
        own, held = apart(samples, method)
        self._batches = _Batches(own, method)
        self.teacher = network.graph_module.to(device)
        self.student: Trainable = trainable(quantized, network, method.weights).to(device)
        kinds = [(kind, some) for kind, some in self.student.kinds.items() if some]
        self._kinds = [kind for kind, _ in kinds if method.rate(kind, 0.5)]
        for kind, some in kinds:
            for parameter in some:
                parameter.requires_grad_(kind in self._kinds)
        groups = [{"params": some} for kind, some in kinds if kind in self._kinds]
        self._adam = torch.optim.Adam(groups, lr=0.0, betas=(0.9, 0.99))
        views = _Batches(held, method).fixed()
        with torch.no_grad():
            self._held = [(each, self._outputs(self.teacher, each)) for each in views]
        self.task = imitated(task, self._held[0][1])
        self.done = 0

    def _outputs(self, model: nn.Module, samples: Samples) -> Outputs:
        call = samples.to(self.device).call
        return tensors_of(model(*call.args, **call.kwargs))

    def step(self) -> float:
        """One update; returns the loss before it. Raises NumericsError where it is NaN or Inf."""
        progress = (self.done + 1) / self.method.course.steps
        self.student.train()
        self.student.progress = progress
        for kind, group in zip(self._kinds, self._adam.param_groups, strict=True):
            group["lr"] = self.method.rate(kind, progress)
        views = self._batches.draw(self.done, self.processes)
        place, mixed = torch.device(self.device).type, self.method.course.mixed
        with torch.autocast(place, torch.bfloat16, enabled=mixed):
            found = self._outputs(self.student, views)
            with torch.no_grad():
                wanted = self._outputs(self.teacher, views)
        loss = self._distance(found, wanted)
        self._adam.zero_grad()
        loss.backward()
        self._average()
        self._adam.step()
        self.student.settle(seed_of(self.method.course.seed, self.done))
        self.done += 1
        value = float(loss.detach())
        if not isfinite(value):
            raise NumericsError(
                f"tune: the loss of step {self.done} is {value}; lower the rates, or check the "
                f"outputs of the float network"
            )
        return value

    def _average(self) -> None:
        """Put the mean of all processes in place of the gradients."""
        if self.processes.alone:
            return
        groups = self._adam.param_groups
        found = [p.grad for group in groups for p in group["params"] if p.grad is not None]
        mean = self.processes.total(torch.cat([g.reshape(-1) for g in found]))
        mean /= self.processes.world
        for own, part in zip(found, mean.split([g.numel() for g in found]), strict=True):
            own.copy_(part.view_as(own))

    def _distance(self, outputs: Outputs, wanted: Outputs) -> Tensor:
        return calls.imitation(self.task, outputs, wanted, self.method.course.temperature)

    @torch.no_grad()
    def judge(self) -> Judgement:
        """The state as it is now, on its grids. Raises NumericsError where it is none any more."""
        return Judgement(self.done, self.processes.from_first(self._judged))

    def _judged(self) -> float:
        self.student.eval()
        try:
            total = sum(
                float(self._distance(self._outputs(self.student, views), wanted))
                for views, wanted in self._held
            )
        except NumericsError as reason:
            raise NumericsError(
                f"tune: after step {self.done} {reason}; lower the rates"
            ) from reason
        return total / len(self._held)

    def state(self) -> dict[str, Tensor]:
        """A copy of what has been learned."""
        return {name: value.clone() for name, value in self.student.state_dict().items()}

    def checkpoint(self) -> State:
        """All that going on needs: plain values and tensors."""
        return {
            "done": self.done,
            "student": self.student.state_dict(),
            "adam": self._adam.state_dict(),
        }

    def go_on(self, checkpoint: State) -> None:
        """Go on from a checkpoint of the same work."""
        self.done = checkpoint["done"]
        self.student.load_state_dict(checkpoint["student"])
        self._adam.load_state_dict(checkpoint["adam"])


def _silent(done: int, total: int, what: str) -> None:
    """Tell nobody."""


def learn(
    network: Network,
    quantized: QuantizedModel,
    method: TuneNetwork,
    samples: Samples,
    *,
    task: Task,
    device: str = "cpu",
    keep: Kept = NOWHERE,
    processes: Processes = ALONE,
    report: Progress = _silent,
) -> Lesson:
    """The quantized network after learning from the float one, or as it was where that is better on
    the samples that were kept apart.

    keep: where work that was stopped is gone on from; processes: that learn together, each from its
    share of a batch that is as many times larger. Ctrl-C ends it with the best state so far.

    Raises DataError where there are too few samples, NumericsError where a loss is NaN or Inf.
    """
    found, method = processes.from_first(keep.found), counted(method)
    if found:
        method = method.with_threads(found["threads"]).with_steps(found["steps"])
    with threads(method.learns_with):
        if method.course.seconds:
            enough = affordable(network, quantized, method, samples, task, device, processes)
            method = method.with_steps(processes.from_first(lambda: max(LEAST_STEPS, enough)))
        learner = Learner(network, quantized, method, samples, task, device, processes)
        progress = _Progress(learner, keep)
        if found:
            progress.go_on(found)
        else:
            progress.judge()
        interrupted = _taught(learner, progress, report)
    learner.student.load_state_dict(progress.best)
    model = learner.student.to("cpu").frozen()
    model.plan = replace(quantized.plan, tune=method)
    kept = min(progress.judgements, key=lambda one: (one.distance, one.step))
    way, steps = TUNES.settings(method), method.course.steps
    return Lesson(quantized, model, way, steps, progress.judgements, kept, interrupted)


def _taught(learner: Learner, progress: "_Progress", report: Progress) -> bool:
    """Do the steps that are left, and judge on the way; returns whether Ctrl-C ended it."""
    steps = learner.method.course.steps
    every = max(1, steps // _TIMES)
    try:
        while learner.done < steps:
            loss = learner.step()
            if learner.done % every == 0 or learner.done == steps:
                progress.judge()
            told = f"loss {loss:.3f}, apart {progress.judgements[-1].distance:.3f}"
            report(learner.done, steps, told)
    except KeyboardInterrupt:
        return True
    return False


@dataclass(eq=False)
class _Progress:
    """The judgements of a learner so far, and the best state; kept where the work can go on
    from.
    """

    learner: Learner
    keep: Kept
    judgements: list[Judgement] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    def judge(self) -> None:
        """Judge the state as it is now."""
        found = self.learner.judge()
        if all(found.distance < one.distance for one in self.judgements):
            self.best = self.learner.state()
        self.judgements.append(found)
        judged = [(one.step, one.distance) for one in self.judgements]
        method = self.learner.method
        own = {"steps": method.course.steps, "threads": method.learns_with, "judged": judged}
        own |= {"best": self.best}
        if self.learner.processes.first:
            self.keep.keep(own | self.learner.checkpoint())

    def go_on(self, checkpoint: State) -> None:
        """Take up what was kept."""
        self.judgements = [Judgement(*one) for one in checkpoint["judged"]]
        self.best = checkpoint["best"]
        self.learner.go_on(checkpoint)


def affordable(
    network: Network,
    quantized: QuantizedModel,
    method: TuneNetwork,
    samples: Samples,
    task: Task,
    device: str,
    processes: Processes = ALONE,
) -> int:
    """The steps that the seconds of a method's course are enough for, what it takes to measure them
    and judgements among them; 0 or less where they are not even enough for that.
    """
    begun = time.perf_counter()
    with threads(method.learns_with):
        learner = Learner(network, quantized, method, samples, task, device, processes)
        step, judging = _costs(learner)
    left = method.course.seconds - (time.perf_counter() - begun)
    return int((left - judging) / step)


def _costs(learner: Learner) -> tuple[float, float]:
    """Seconds of one step, and of all judgements."""
    learner.step()  # the first ones make memory theirs
    started = time.perf_counter()
    for _ in range(_TIMED):
        learner.step()
    step = (time.perf_counter() - started) / _TIMED
    started = time.perf_counter()
    learner.judge()
    return step, (_TIMES + 1) * (time.perf_counter() - started)
