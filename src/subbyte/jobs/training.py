"""A quantized network that is trained with labels (`subbyte train --from`, `--recipe`, `--qat`):
read from a file, made by a walk or from a float network that is rounded as it is trained, and
written as `running.run` writes one.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from torch import nn

from subbyte.data import DataSet, draw_samples
from subbyte.engine.learning import Judgement, Lesson
from subbyte.engine.quantization import Quantization, carry_out
from subbyte.engine.quantized import QuantizedModel
from subbyte.engine.stages import Report, Stages
from subbyte.engine.trainable import freeze, trainable
from subbyte.engine.walk import measured
from subbyte.exporters.packed import load_onto
from subbyte.graph import Network, Samples, prepare, with_tensors
from subbyte.jobs.job import OWNS, Job
from subbyte.jobs.running import Make, Work, check_exportable, run
from subbyte.learn.training import Quantized, Rounded, TrainSettings
from subbyte.learn.training import train as train_network
from subbyte.learn.training.loop import in_folder, split_data
from subbyte.learn.training.parallel import trainers
from subbyte.learn.training.record import Record
from subbyte.learn.training.scoring import Judge
from subbyte.records import Result
from subbyte.records.training import QUANTIZED

About = Mapping[str, object]


@dataclass(frozen=True, eq=False)
class Begun:
    """A quantized network as it begins to be trained, in trainable form within `subject`, and the
    float one, as captured.
    """

    subject: Quantized
    start: QuantizedModel
    network: Network


class Begin(ABC):
    """Where training begins."""

    fresh: ClassVar[bool] = False
    """Whether the float network has random weights, which nothing is to be compared with."""

    @abstractmethod
    def begun(
        self, job: Job, model: nn.Module, samples: Samples, settings: TrainSettings, report: Report
    ) -> Begun:
        """The network as it begins; model: the float one; samples: of calibration."""


class FromQuantized(Begin):
    """With a network that is quantized already: its batch-norms are folded."""

    def begun(
        self, job: Job, model: nn.Module, samples: Samples, settings: TrainSettings, report: Report
    ) -> Begun:
        """See `Begin`."""
        with Stages(report).stage("capture"):
            network = prepare(model, samples[:2])
        start = self.quantized(job, network, samples, report)
        student = trainable(start, network, settings.estimator)
        return Begun(Quantized(student, network.graph_module), start, network)

    @abstractmethod
    def quantized(
        self, job: Job, network: Network, samples: Samples, report: Report
    ) -> QuantizedModel:
        """The quantized network; network: the float one, as captured."""


class FromWalk(FromQuantized):
    """With what a walk makes by the job's recipe."""

    def quantized(
        self, job: Job, network: Network, samples: Samples, report: Report
    ) -> QuantizedModel:
        """See `FromQuantized`."""
        stages = Stages(report)
        return carry_out(
            lambda: network, job.recipe, samples, limits=job.limits, stages=stages
        ).model


@dataclass(frozen=True)
class FromFile(FromQuantized):
    """With a packed file."""

    packed: Path

    def quantized(
        self, job: Job, network: Network, samples: Samples, report: Report
    ) -> QuantizedModel:
        """See `FromQuantized`."""
        return load_onto(self.packed, network)


class FromFloat(Begin):
    """With a float network whose layers are rounded from now on (`settings.qat`): its batch-norms
    are alive.
    """

    def begun(
        self, job: Job, model: nn.Module, samples: Samples, settings: TrainSettings, report: Report
    ) -> Begun:
        """See `Begin`."""
        subject, network = Rounded.of(model, samples, settings, job.limits, report)
        return Begun(subject, freeze(subject.module), network)


class FromNothing(FromFloat):
    """With random weights."""

    fresh = True


def train(
    begin: Begin,
    job: Job,
    settings: TrainSettings,
    model: nn.Module,
    data: DataSet,
    out: Path,
    report: Report,
    about: About,
    *,
    resume: bool = False,
) -> "tuple[Record, Result | None]":
    """Train a quantized network in the folder `out`, where the same command goes on, and write the
    network that came of it into its folder `quantized`.

    model: the float network. Where it has random weights the result is compared with the
    trained weights as float ones. Of several processes the first returns a result,
    the others None.
    Raises SubbyteError as `learn.training.train` and `running.run` do.
    """
    check_exportable(job, out)
    with in_folder(out, trainers(job.limits.device)):
        return _train(begin, job, settings, model, data, out, report, about, resume)


def _train(
    begin: Begin,
    job: Job,
    settings: TrainSettings,
    model: nn.Module,
    data: DataSet,
    out: Path,
    report: Report,
    about: About,
    resume: bool,
) -> "tuple[Record, Result | None]":
    images, _ = draw_samples(data, job.calibration, job.seed)
    began = begin.begun(job, model, Samples.of(images), settings, report)
    student, network = began.subject.module, began.network
    parts = split_data(data, settings)
    device = job.limits.device
    judge = Judge.of(student.to(device), [parts.train, parts.test], settings.tasks, device)
    name, split = next(iter(parts.measured.items()))
    first = judge.measure(student, split, name)
    record = train_network(
        began.subject,
        data,
        settings,
        out,
        about=about,
        device=device,
        progress=report,
        resume=resume,
    )
    if not record.epochs:
        return record, None
    losses = [(0, first), *((row["steps"], row) for row in record.epochs)]
    column = f"{name}_loss"
    judged = [Judgement(step, row[column]) for step, row in losses if row.get(column) is not None]
    trained = freeze(student.to("cpu"))
    lesson = Lesson(
        began.start,
        trained,
        {"name": "train", **settings.plain()},
        judged[-1].step,
        judged,
        judged[-1],
        labels=True,
    )
    if begin.fresh:
        network = with_tensors(network, trained.tensors)
        model = network.graph_module
    job = replace(job, recipe=began.start.plan)
    make = _trained(network, lesson)
    result = run(job, model, data, out / QUANTIZED, report, force=_ours(out / QUANTIZED), make=make)
    return record, result


def _trained(network: Network, lesson: Lesson) -> Make:
    def make(work: Work) -> Quantization:
        with work.stages.stage("capture"):
            work.capture.check(network)
        work.accept(lesson.model.plan)
        measured(network, lesson.model, Samples.of(work.images), work.job.limits)
        return Quantization(network, [], lesson.model, (lesson,))

    return make


def _ours(folder: Path) -> bool:
    """Whether an earlier result is there, of the same run: it is replaced."""
    return folder.is_dir() and any(any(folder.glob(pattern)) for pattern in OWNS)
