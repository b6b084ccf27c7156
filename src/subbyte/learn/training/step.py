"""One step of training, and what is logged of it."""

from dataclasses import dataclass, field
from functools import partial
from math import isfinite

import torch
from torch import Tensor, nn

from subbyte.engine.judging import add_up, tensors_of
from subbyte.errors import NumericsError
from subbyte.io.repeatable import seed_of
from subbyte.learn.training.lr_schedules import warmed_up
from subbyte.learn.training.parallel import Trainers
from subbyte.learn.training.record import Row
from subbyte.learn.training.scoring import Judge, first_scores
from subbyte.learn.training.settings import PRECISIONS, TrainSettings
from subbyte.learn.training.subject import Subject
from subbyte.methods import Tally, Targets, Updates, calls
from subbyte.methods.blame import name_of


@dataclass
class Steps:
    """The steps of an epoch: forward, backward, update, and means over those since the last row of
    the log.

    subject: the network that learns; model: it as it is called here; before: steps of the epochs
    before; per_epoch: steps an epoch; waiting, counted: the scores of
    this process's images since the last row, and of all images up to it.
    """

    subject: Subject
    model: nn.Module
    optimizer: Updates
    judge: Judge
    settings: TrainSettings
    processes: Trainers
    before: int
    per_epoch: int
    losses: list[Tensor] = field(default_factory=list)
    waiting: list[Tally] = field(default_factory=list)
    counted: list[Tally] = field(default_factory=list)

    def run(self, number: int, images: Tensor, targets: Targets) -> None:
        """Do step `number` of this epoch."""
        rate = self.rate(number)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        device = self.processes.device
        images = images.to(device, non_blocking=True)
        targets = tuple(target.to(device, non_blocking=True) for target in targets)
        mixed = PRECISIONS[self.settings.precision] != torch.float32
        self.subject.at((self.before + number) / (self.per_epoch * self.settings.epochs))
        task, share = self.judge.task, self.settings.distill
        autocast = partial(torch.autocast, torch.device(device).type, torch.bfloat16, mixed)
        images = images.contiguous(memory_format=torch.channels_last)
        with autocast():
            outputs = tensors_of(self.model(images))
        loss = calls.loss(task, outputs, targets)
        if share:
            with autocast():
                imitation = self.subject.imitation(task, outputs, images)
            loss = (1 - share) * loss + share * imitation
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.subject.updated(seed_of(self.settings.seed, self.before + number))
        self.losses.append(loss.detach())
        detached = tuple(output.detach() for output in outputs)
        add_up(self.waiting, first_scores(task, detached, targets), name_of(task, "score"))

    def rate(self, number: int) -> float:
        """The learning rate of a step of this epoch."""
        epoch = (self.before + number) / self.per_epoch
        if self.settings.warmup:
            # the first step of a warm-up moves, too
            epoch = (self.before + number + 1) / self.per_epoch
        return self.settings.lr * warmed_up(
            self.settings.lr_schedule, epoch, self.settings.epochs, self.settings.warmup
        )

    def due(self, number: int) -> bool:
        """Whether a row of the log is due after this step."""
        return (
            number + 1 == self.per_epoch
            or (self.before + number + 1) % self.settings.log_every == 0
        )

    def row(self, epoch: int, number: int, since: int) -> Row:
        """A row of the log, of the steps from `since` on. Raises NumericsError when a loss is not
        finite.
        """
        losses = self.processes.mean(torch.stack(self.losses[since:]))
        wrong = (~torch.isfinite(losses)).nonzero()
        if len(wrong):
            first = since + int(wrong[0])
            raise self.diverged(
                first, f"the loss of {self._named(first)} is {float(losses[first - since])}"
            )
        scores, self.waiting = self.processes.joined(self.waiting), []
        add_up(self.counted, scores, name_of(self.judge.task, "score"))
        row = {"step": self.before + number + 1, "epoch": epoch + 1, "lr": self.rate(number)}
        return (
            row
            | {"train_loss": round(float(losses.double().mean()), 6)}
            | self.judge.cells("train", scores)
            | self.telemetry()
        )

    def outgrown(self) -> NumericsError:
        """The error where the last step of the epoch broke the network: its losses are those of the
        weights before.
        """
        last = self.per_epoch - 1
        return self.diverged(
            last, f"weights, outputs or loss after {self._named(last)} are NaN or Inf"
        )

    def diverged(self, number: int, what: str) -> NumericsError:
        """The error where step `number` of this epoch is to blame for `what`."""
        epoch = self.before // self.per_epoch
        kept = f"the checkpoint of epoch {epoch} is kept" if epoch else "there is no checkpoint yet"
        return NumericsError(
            f"training diverged: {what}, at a learning rate of {self.rate(number):.4g}; "
            f"{self._broken()}{kept}; "
            "lower --lr, or add --warmup"
        )

    def _named(self, number: int) -> str:
        return f"step {self.before + number + 1} (epoch {self.before // self.per_epoch + 1})"

    def _broken(self) -> str:
        """The first tensor of the network that is not finite, for an error."""
        for name, tensor in self.model.state_dict().items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                return f"{name.removeprefix('module.')} holds NaN or Inf; "
        return ""

    def telemetry(self) -> Row:
        """The optimizer's report on the last step, for the log."""
        found = self.optimizer.telemetry()
        row: Row = {}
        if found.index is not None:
            row["resolution_bits"] = round(found.index, 4)
        if found.moved is not None:
            row["moved_percent"] = round(found.moved, 4)
        if found.saturated is not None:
            row["saturated_percent"] = round(found.saturated, 4)
        if found.temperature is not None and isfinite(found.temperature):
            row["temperature"] = float(f"{found.temperature:.6g}")
        return row
