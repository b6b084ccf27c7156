"""Training from images and targets: one loop for every task and optimizer, on one device or
several.
"""

import logging
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from subbyte.data import DataSet, Split, draw_samples
from subbyte.engine.limits import Limits
from subbyte.engine.stages import Report
from subbyte.errors import DataError, FormatError, NumericsError, RecipeError
from subbyte.graph import Samples
from subbyte.io.folders import growing
from subbyte.io.processes import Processes
from subbyte.io.settings import kept_settings, same_settings
from subbyte.learn.training.batches import Batches
from subbyte.learn.training.checkpoint import (
    CHECKPOINT,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from subbyte.learn.training.parallel import Trainers, trainers
from subbyte.learn.training.record import Record, Row
from subbyte.learn.training.scoring import Judge
from subbyte.learn.training.settings import TrainSettings
from subbyte.learn.training.step import Steps
from subbyte.learn.training.subject import Own, Rounded, Subject
from subbyte.methods import Updates

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """The training images split up, and the test images."""

    train: Split
    validation: Split | None
    test: Split

    @property
    def measured(self) -> dict[str, Split]:
        """Those that are measured after an epoch, by the names of columns."""
        apart = {} if self.validation is None else {"validation": self.validation}
        return apart | {"test": self.test}


def split_data(data: DataSet, settings: TrainSettings) -> Parts:
    """Set validation images apart, by seed. Raises DataError when there is nothing to train on."""
    if data.train is None:
        raise DataError(
            f"{data.name} has no training images; give data with a train and a test split"
        )
    if settings.validation >= len(data.train):
        raise DataError(
            f"{data.name}: {settings.validation} of {len(data.train)} training images can't be set "
            f"apart"
        )
    if settings.validation == 0:
        return Parts(data.train, None, data.test)
    apart = np.random.RandomState(settings.seed).permutation(len(data.train))[: settings.validation]
    return Parts(data.train.without(apart), data.train.take(apart), data.test)


def train(
    model: nn.Module | Subject,
    data: DataSet,
    settings: TrainSettings,
    out: Path,
    *,
    about: Mapping[str, Any] | None = None,
    device: str = "cpu",
    progress: Report | None = None,
    resume: bool = False,
) -> Record:
    """Train a module or a quantized network (`Quantized`) in place, and write checkpoints and logs
    into the folder `out`; a module that is to end on grids (`settings.qat`) stays as it is.

    A run that was stopped goes on from its last checkpoint, and ends bit for bit as if it had not
    been. Started by `torchrun`, its processes share every batch. about: what else belongs to the
    settings in log.json, such as the network's name. resume: go on with another rate, schedule or
    warm-up than before, and the optimizer's state.
    Raises NumericsError when the loss is NaN or Inf, or in the mean of an epoch far above that of
    guessing: the checkpoint of the epoch before is kept; FormatError when the checkpoint in `out`
    is damaged or of another network; RecipeError when `out` was made with other settings, or
    settings do not fit, or there is nothing to resume; DataError when the data do not fit.
    """
    here = trainers(device)
    subject = model if isinstance(model, Subject) else subject_of(model, data, settings, device)
    with in_folder(out, here):
        return _train(subject, data, settings, out, about or {}, here, progress, resume)


_SAMPLES = 500
"""Training images that activation ranges begin with."""


def subject_of(
    model: nn.Module, data: DataSet, settings: TrainSettings, device: str = "cpu"
) -> Subject:
    """The module itself, or in trainable form where it is to end on grids."""
    if settings.qat is None:
        return Own(model)
    train = split_data(data, settings).train
    images, _ = draw_samples(data, min(_SAMPLES, len(train)), settings.seed)
    return Rounded.of(model, Samples.of(images), settings, Limits(device=device))[0]


def in_folder(out: Path, here: Processes) -> AbstractContextManager[None]:
    """Keep processes of other work out of the folder of a run. Raises SubbyteError where there are
    some.
    """
    return growing(out, [CHECKPOINT]) if here.first else nullcontext()


def _train(
    subject: Subject,
    data: DataSet,
    settings: TrainSettings,
    out: Path,
    about: Mapping[str, Any],
    here: Trainers,
    progress: Report | None,
    resume: bool,
) -> Record:
    model = subject.module
    with torch.random.fork_rng(devices=[here.device] if here.on_gpu else []):
        parts = split_data(data, settings)
        size = settings.batch_size * here.world
        batches = Batches(parts.train, size, settings.augment, settings.seed, here.rank, here.world)
        model.to(here.device)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # convolutions are fastest so
        subject.begin(settings)
        optimizer = subject.optimizer(settings, batches.steps)
        splits = [parts.train, *parts.measured.values()]
        judge = Judge.of(model, splits, settings.tasks, here.device)
        threads = torch.get_num_threads()
        described = {**settings.plain(), "processes": here.world, "threads": threads, **about}
        if here.first:
            described = _same_settings(out, described, resume)
        record, done = _resumed(out, model, optimizer, judge, here)
        shared = here.wrapped(model)
        for epoch in range(done, settings.epochs):
            started = time.perf_counter()
            before = epoch * batches.steps
            steps = Steps(subject, shared, optimizer, judge, settings, here, before, batches.steps)
            row = _epoch(steps, batches, epoch, record, progress)
            row["seconds"] = round(time.perf_counter() - started, 2)
            if 0 < _FAR * judge.guess < row["train_loss"]:
                raise steps.diverged(
                    batches.steps - 1,
                    f"the mean loss of epoch {epoch + 1} is {row['train_loss']:.4g}, guessing has "
                    f"{judge.guess:.4g}",
                )
            if here.first:
                try:
                    if (epoch + 1) % settings.evaluate_every == 0 or epoch + 1 == settings.epochs:
                        for images, split in parts.measured.items():
                            row |= judge.measure(model, split, images)
                    record.epochs.append(row)
                    record.write(out, described)
                    save_checkpoint(out, epoch + 1, subject, optimizer)
                except NumericsError as reason:
                    raise steps.outgrown() from reason
        return record


_RATES = ("lr", "lr_schedule", "warmup")
"""Settings that may be others when a run is resumed: the rate is set anew before every step."""


def _same_settings(out: Path, described: dict[str, Any], resume: bool) -> dict[str, Any]:
    """`io.settings.same_settings` of a run: one that is done can be given more epochs, and other
    threads can go on with it, to results that may be others.
    """
    checkpoint = load_checkpoint(out)
    before = {} if checkpoint is None else kept_settings(out)
    done = checkpoint is not None and before.get("epochs") == checkpoint.epoch
    if resume:
        _check_left(out, described, checkpoint)
    rates = [name for name in _RATES if resume or f"{name}_before" in before]
    changed = [name for name in rates if before.get(name) != described[name]]
    if changed and not resume:
        raise RecipeError(
            f"--out {out} goes on with {changed[0]} = {before[changed[0]]}, now it is "
            f"{described[changed[0]]}; --resume takes another one"
        )
    threads = before.get("threads", described["threads"])
    if done and described["epochs"] == before["epochs"]:  # nothing is left to compute
        described = described | {"threads": threads}
    elif described["threads"] != threads:
        log.warning(
            "%s was made with threads = %s and goes on with %s: its numbers may differ from those "
            "of a run with either",
            out,
            threads,
            described["threads"],
        )
    may = {"epochs": done or resume}
    return same_settings(
        out,
        described,
        "training run",
        results=[CHECKPOINT],
        grows=may,
        differs=["threads", *rates],
    )


def _check_left(out: Path, described: dict[str, Any], checkpoint: Checkpoint | None) -> None:
    """Raise RecipeError where a run can't be resumed."""
    if checkpoint is None:
        raise RecipeError(f"--out {out} has no run to resume; do without --resume")
    if described["epochs"] <= checkpoint.epoch:
        raise RecipeError(
            f"--out {out} has {checkpoint.epoch} epochs, of {described['epochs']}: nothing is left "
            f"to resume; ask for more --epochs"
        )


_FAR = 20.0  # times the loss of guessing: nothing is learned from there


def _resumed(
    out: Path, model: nn.Module, optimizer: Updates, judge: Judge, here: Trainers
) -> tuple[Record, int]:
    checkpoint = here.from_first(lambda: load_checkpoint(out))
    if checkpoint is None:
        return Record(judge.scoring), 0
    try:
        if checkpoint.method != type(optimizer).__name__:
            raise ValueError(f"{checkpoint.method} there, {type(optimizer).__name__} here")
        model.load_state_dict(checkpoint.model)
        optimizer.load_state_dict(checkpoint.optimizer)
    except (RuntimeError, ValueError, KeyError) as reason:
        first = " ".join(str(reason).split())
        raise FormatError(
            f"the checkpoint in {out} is of another network or optimizer ({first[:200]}); choose "
            f"another --out"
        ) from reason
    if not here.first:
        return Record(judge.scoring), checkpoint.epoch
    return Record.read(out, checkpoint.epoch, judge.scoring), checkpoint.epoch


def _epoch(
    steps: Steps, batches: Batches, epoch: int, record: Record, progress: Report | None
) -> Row:
    """Run one epoch; returns its row: means and scores over the epoch, and what the resolution is
    at its end.
    """
    torch.manual_seed(steps.settings.seed + epoch)  # of dropout and random depth
    steps.model.train()
    logged, rows = 0, []
    for number, (images, targets) in enumerate(batches.epoch(epoch)):
        steps.run(number, images, targets)
        if steps.due(number):
            rows.append(steps.row(epoch, number, logged))
            logged = number + 1
            if progress is not None:
                done, total = steps.before + number + 1, steps.settings.epochs * batches.steps
                progress(
                    "train", done, total, f"epoch {epoch + 1}: loss {rows[-1]['train_loss']:.3f}"
                )
    record.steps += rows
    ends = [0] + [row["step"] - steps.before for row in rows]
    shares = np.diff(ends) / batches.steps
    row = {key: value for key, value in rows[-1].items() if key != "step"}
    for name in ("train_loss", "moved_percent", "saturated_percent"):
        if row.get(name) is not None:
            row[name] = round(float(np.dot(shares, [each[name] for each in rows])), 6)
    scores = steps.judge.cells("train", steps.counted)
    return row | scores | {"steps": steps.before + batches.steps}
