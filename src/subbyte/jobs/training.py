"""A quantized network that is trained with labels (`subbyte train --from`, `--recipe`): made by a
walk or read from a file, trained on, and written as `running.run` writes one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from subbyte.data import DataSet, draw_samples
from subbyte.engine.learning import Judgement, Lesson
from subbyte.engine.quantization import Quantization, carry_out
from subbyte.engine.quantized import QuantizedModel
from subbyte.engine.stages import Report, Stages
from subbyte.engine.trainable import freeze, trainable
from subbyte.engine.walk import measured
from subbyte.exporters.packed import load
from subbyte.graph import Network, Samples, prepare
from subbyte.jobs.job import OWNS, Job
from subbyte.jobs.running import Make, Work, run
from subbyte.learn.training import Quantized, TrainSettings
from subbyte.learn.training import train as train_network
from subbyte.learn.training.loop import in_folder, split_data
from subbyte.learn.training.parallel import trainers
from subbyte.learn.training.record import Record
from subbyte.learn.training.scoring import Judge
from subbyte.records import Result
from subbyte.tuning.estimators import ESTIMATORS

FOLDER = "quantized"
"""Where in the folder of a run the trained network is, as `quantize` writes one."""
About = Mapping[str, object]


@dataclass(frozen=True, eq=False)
class Begin:
    """Where training begins. packed: a file with the quantized network, "" for one that a walk by
    the job's recipe makes; estimator: a name of ESTIMATORS.
    """

    packed: str = ""
    estimator: str = "straight"

    def network(
        self, job: Job, model: nn.Module, network: Network, samples: Samples, report: Report
    ) -> QuantizedModel:
        """The quantized network; network: the float one, as captured."""
        if self.packed:
            return load(self.packed, model, samples[:2])
        stages = Stages(report)
        return carry_out(
            lambda: network, job.recipe, samples, limits=job.limits, stages=stages
        ).model


def train(
    begin: Begin,
    job: Job,
    settings: TrainSettings,
    model: nn.Module,
    data: DataSet,
    out: Path,
    report: Report,
    about: About,
) -> "tuple[Record, Result | None]":
    """Train a quantized network in the folder `out`, where the same command goes on, and write the
    network that came of it into its folder `quantized`.

    model: the float network. Of several processes the first returns a result, the others None.
    Raises SubbyteError as `learn.training.train` and `running.run` do.
    """
    with in_folder(out, trainers(job.limits.device)):
        return _train(begin, job, settings, model, data, out, report, about)


def _train(
    begin: Begin,
    job: Job,
    settings: TrainSettings,
    model: nn.Module,
    data: DataSet,
    out: Path,
    report: Report,
    about: About,
) -> "tuple[Record, Result | None]":
    with Stages(report).stage("capture"):
        images, _ = draw_samples(data, job.calibration, job.seed)
        samples = Samples.of(images)
        network = prepare(model, samples[:2])
    start = begin.network(job, model, network, samples, report)
    student = trainable(start, network, ESTIMATORS[begin.estimator]())
    parts = split_data(data, settings)
    device = job.limits.device
    judge = Judge.of(student.to(device), [parts.train, parts.test], settings.tasks, device)
    name, split = next(iter(parts.measured.items()))
    first = judge.measure(student, split, name)
    record = train_network(
        Quantized(student, network.graph_module),
        data,
        settings,
        out,
        about=about,
        device=device,
        progress=report,
    )
    if not record.epochs:
        return record, None
    losses = [(0, first), *((row["steps"], row) for row in record.epochs)]
    column = f"{name}_loss"
    judged = [Judgement(step, row[column]) for step, row in losses if row.get(column) is not None]
    lesson = Lesson(
        start,
        freeze(student.to("cpu")),
        {"name": "train", **settings.plain()},
        judged[-1].step,
        judged,
        judged[-1],
        labels=True,
    )
    job = replace(job, recipe=start.plan)
    make = _trained(network, lesson)
    result = run(job, model, data, out / FOLDER, report, force=_ours(out / FOLDER), make=make)
    return record, result


def _trained(network: Network, lesson: Lesson) -> Make:
    def make(work: Work) -> Quantization:
        with work.stages.stage("capture"):
            work.capture()
        work.accept(lesson.model.plan)
        measured(network, lesson.model, Samples.of(work.images), work.job.limits)
        return Quantization(network, [], lesson.model, (lesson,))

    return make


def _ours(folder: Path) -> bool:
    """Whether an earlier result is there, of the same run: it is replaced."""
    return folder.is_dir() and any(any(folder.glob(pattern)) for pattern in OWNS)
