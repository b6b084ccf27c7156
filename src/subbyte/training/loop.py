"""Training from images and labels: one loop for every optimizer, on one device or several."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from subbyte.data import DataSet, Split
from subbyte.errors import DataError, FormatError, NumericsError
from subbyte.evaluate import evaluate
from subbyte.named import build_method
from subbyte.optim import OPTIMIZERS
from subbyte.training.batches import Batches
from subbyte.training.checkpoint import load_checkpoint, save_checkpoint
from subbyte.training.rates import factor
from subbyte.training.record import Record, Row
from subbyte.training.settings import TrainSettings

Report = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class Parts:
    """The training images split up, and the test images."""

    train: Split
    validation: Split | None
    test: Split


def split_data(data: DataSet, settings: TrainSettings) -> Parts:
    """Set validation images apart, by seed. Raises DataError when there is nothing to train on."""
    if data.train is None:
        raise DataError(f"{data.name} has no training images; give data with a train and a test split")
    if settings.validation >= len(data.train):
        raise DataError(f"{data.name}: {settings.validation} of {len(data.train)} training images can't be set apart")
    if settings.validation == 0:
        return Parts(data.train, None, data.test)
    apart = np.random.RandomState(settings.seed).permutation(len(data.train))[: settings.validation]
    return Parts(data.train.without(apart), data.train.take(apart), data.test)


def train(
    model: nn.Module,
    data: DataSet,
    settings: TrainSettings,
    out: Path,
    *,
    about: Mapping[str, Any] | None = None,
    device: str = "cpu",
    progress: Report | None = None,
) -> Record:
    """Train `model` in place, and write checkpoints and logs into the folder `out`.

    A run that was stopped goes on from its last checkpoint, and ends bit for bit as if it had not been. about: what
    else belongs to the settings in log.json, such as the network's name.
    Raises NumericsError when the loss is NaN or Inf: the checkpoint of the epoch before is kept; FormatError when the
    checkpoint in `out` is damaged or of another network; DataError and RecipeError when data or settings do not fit.
    """
    parts = split_data(data, settings)
    batches = Batches(parts.train, settings.batch_size, settings.augment, settings.seed)
    model = model.to(device, memory_format=torch.channels_last)  # the layout that convolutions are fastest in
    optimizer = build_optimizer(model, settings)
    record, done = _resumed(out, model, optimizer)
    described = {**(about or {}), **settings.plain()}
    devices = [device] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        for epoch in range(done, settings.epochs):
            started = time.perf_counter()
            step = _Step(model, optimizer, settings, device, epoch * batches.steps, batches.steps)
            row = _epoch(step, batches, epoch, record, progress)
            row["seconds"] = round(time.perf_counter() - started, 2)
            if (epoch + 1) % settings.evaluate_every == 0 or epoch + 1 == settings.epochs:
                row |= _measure(model, parts, settings, device)
            record.epochs.append(row)
            record.write(out, described)
            save_checkpoint(out, epoch + 1, model, optimizer)
    return record


def build_optimizer(model: nn.Module, settings: TrainSettings) -> Optimizer:
    """The optimizer that the settings name, for all parameters. Raises RecipeError when there is none such."""
    chosen: Any = build_method(OPTIMIZERS, settings.optimizer, "optimizer")
    optimizer: Optimizer = chosen.build([{"params": list(model.parameters())}], settings.lr)
    return optimizer


def _resumed(out: Path, model: nn.Module, optimizer: Optimizer) -> tuple[Record, int]:
    checkpoint = load_checkpoint(out)
    if checkpoint is None:
        return Record(), 0
    try:
        model.load_state_dict(checkpoint.model)
        optimizer.load_state_dict(checkpoint.optimizer)
    except (RuntimeError, ValueError) as reason:
        raise FormatError(f"the checkpoint in {out} is of another network or optimizer ({reason})") from reason
    return Record.read(out, checkpoint.epoch), checkpoint.epoch


@dataclass
class _Step:
    """One step of an epoch: forward, backward, update."""

    model: nn.Module
    optimizer: Optimizer
    settings: TrainSettings
    device: str
    before: int  # steps of the epochs before
    per_epoch: int

    def __call__(self, number: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss and share of images that are right, before the update."""
        rate = self.rate(number)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        images, labels = images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
        mixed = self.settings.precision == "bfloat16"
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=mixed):
            logits = self.model(images.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.settings.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach(), (logits.detach().argmax(1) == labels).float().mean()

    def rate(self, number: int) -> float:
        """The learning rate of a step of this epoch."""
        epoch = (self.before + number) / self.per_epoch
        if self.settings.warmup:
            epoch = (self.before + number + 1) / self.per_epoch  # the first step of a warm-up moves, too
        return self.settings.lr * factor(self.settings.rate, epoch, self.settings.epochs, self.settings.warmup)


def _epoch(step: _Step, batches: Batches, epoch: int, record: Record, progress: Report | None) -> Row:
    """Run one epoch; returns its row."""
    torch.manual_seed(step.settings.seed + epoch)  # of dropout and random depth
    step.model.train()
    losses, rights, logged = [], [], 0
    for number, (images, labels) in enumerate(batches.epoch(epoch)):
        loss, right = step(number, images, labels)
        losses.append(loss)
        rights.append(right)
        last = number + 1 == batches.steps
        if last or (step.before + number + 1) % step.settings.log_every == 0:
            row = _row(step, epoch, number, losses[logged:], rights[logged:])
            record.steps.append(row)
            logged = number + 1
            if progress is not None:
                done, total = step.before + number + 1, step.settings.epochs * batches.steps
                progress("train", done, total, f"epoch {epoch + 1}: loss {row['train_loss']:.3f}")
    mean = _means(losses, rights)
    return {"epoch": epoch + 1, "steps": step.before + batches.steps, "lr": step.rate(batches.steps - 1), **mean}


def _row(step: _Step, epoch: int, number: int, losses: list[Tensor], rights: list[Tensor]) -> Row:
    """A row of the log of steps. Raises NumericsError when the loss is not finite."""
    row = {"step": step.before + number + 1, "epoch": epoch + 1, "lr": step.rate(number), **_means(losses, rights)}
    if not isfinite(row["train_loss"]):
        first = next(k for k, loss in enumerate(losses) if not isfinite(float(loss)))
        raise NumericsError(
            f"training diverged: the loss of step {row['step'] - len(losses) + first + 1} (epoch {epoch + 1}) is "
            f"{float(losses[first])}, at a learning rate of {step.rate(number):.4g}; the checkpoint of epoch {epoch} is "
            "kept. Lower --lr, or add --warmup"
        )
    return row


def _means(losses: list[Tensor], rights: list[Tensor]) -> Row:
    loss, right = float(torch.stack(losses).mean()), float(torch.stack(rights).mean())
    return {"train_loss": round(loss, 6), "train_top1_percent": round(100 * right, 4)}


def _measure(model: nn.Module, parts: Parts, settings: TrainSettings, device: str) -> Row:
    """Loss and accuracy on validation and test images."""
    row: Row = {}
    for name, split in (("validation", parts.validation), ("test", parts.test)):
        if split is not None:
            found = evaluate(model, split, device=device).accuracy
            row |= {f"{name}_loss": round(found.loss, 6), f"{name}_top1_percent": round(found.top1, 4)}
    return row
