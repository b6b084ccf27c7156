"""One run of `subbyte quantize`: quantize, export, prove and measure, into one folder."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from subbyte.data import DataSet, draw_apart, draw_samples, draw_targets
from subbyte.engine.effects import effects
from subbyte.engine.evidence import gather
from subbyte.engine.quantization import Quantization, carry_out
from subbyte.engine.sensitivity import Option
from subbyte.engine.stages import Report, Stages
from subbyte.errors import ModelError, SubbyteError
from subbyte.exporters import NOTHING, choose_exporters, export_in
from subbyte.exporters.packed import write
from subbyte.graph import Samples
from subbyte.io.checkpoints import NOWHERE, Kept
from subbyte.io.files import check_name, write_text
from subbyte.io.folders import folder
from subbyte.io.user_file import UserFiles
from subbyte.jobs.facts import about
from subbyte.jobs.job import OPTIONS, OWNS, PACKED, Job
from subbyte.jobs.measuring import Capture, measure
from subbyte.jobs.outcome import Files, summary
from subbyte.recipe import Plan, load_target
from subbyte.records import (
    CARD,
    FIGURES,
    PLAN,
    RESULT,
    Result,
    model_card,
    write_document,
)
from subbyte.speed import time_export


@dataclass(frozen=True, eq=False)
class Work:
    """All that the quantized network of a job is made from. images: of calibration; capture: of the
    float network.
    """

    job: Job
    model: nn.Module
    data: DataSet
    images: Tensor | Samples
    capture: Capture
    stages: Stages

    def accept(self, plan: Plan) -> None:
        """Raise RecipeError where a plan can't be exported, or its target is not known here."""
        choose_exporters(self.job.exports, plan, self.job.form)
        if plan.target is not None:
            load_target(plan.target).check(plan)


Make = Callable[[Work], Quantization]
"""Makes the quantized network of a job."""


def walked(work: Work) -> Quantization:
    """The quantized network by a walk, as the recipe says."""
    job, data, capture = work.job, work.data, work.capture
    if job.clips is not None:
        job.clips.check(work.model)
    return carry_out(
        capture,
        job.recipe,
        work.images,
        labels=lambda: draw_targets(data, job.calibration, job.seed),
        settle=job.settled,
        accept=work.accept,
        task=lambda: capture.task,
        limits=job.limits,
        stages=work.stages,
    )


def check_exportable(job: Job, out: Path) -> None:
    """Raise FormatError where files for runtimes can't be opened by the name of a folder."""
    if NOTHING not in job.exports:
        check_name(out.resolve())


def run(
    job: Job,
    model: nn.Module,
    data: DataSet,
    out: Path,
    report: Report,
    *,
    force: bool = False,
    make: Make = walked,
    keep: Kept = NOWHERE,
) -> Result:
    """Quantize, export, prove and measure; write everything into the folder `out`, whole or not at
    all.

    make: how the quantized network is made; by a walk unless told otherwise. keep: where it goes on
        from; no longer needed once all is written.

    Writes model.safetensors, a file an exporter (model.onnx), plan.yaml, result.json, card.md
    and figures.json, under a budget sensitivity.csv too; returns what result.json holds.
    Raises SubbyteError when anything does not fit; then, and on Ctrl-C, `out` is as it was before.
    """
    job, place = _stating(job, data), UserFiles(out)
    check_exportable(job, out)
    with folder(out, owns=OWNS, force=force) as temporary:
        stages = Stages(report)
        images, capture, done = _quantized(job, model, data, stages, make)
        with stages.stage("export") as report_file:
            packed = write(done.model, temporary / PACKED, _about(job, data), place)
            names = export_files(job.exports, done.model.plan)
            exported, refused = [], {}
            for number, (name, file) in enumerate(names.items()):
                report_file(number, len(names), name)
                try:
                    made = export_in(job.form, done.model, temporary / file, images, to=name)
                    exported.append(made)
                except ModelError as error:  # an operation that the format lacks costs its file
                    refused[name] = str(error)
        files = _timed(job, model, done, Files(exported, refused), stages)
        with stages.stage("evaluate") as judged:
            before = [lesson.start for lesson in done.lessons]
            measured = measure(model, done.model, before, exported, capture, data, judged)
        with stages.stage("figures"):
            found = gather(done.network, done.model, images, measured.named, capture.device)
        with stages.stage("effects") as progress:
            samples = Samples.of(images)
            own = effects(done.network, done.model, samples, capture.device, progress)
        count, seconds = len(capture.split), stages.seconds
        result = summary(job, data, done, files, packed, measured, own, count, seconds, place)
        write_text(temporary / PLAN, done.model.plan.to_yaml(place))
        if done.options:
            write_text(temporary / OPTIONS, _table(done.options))
        write_document(temporary / FIGURES, found, short=True)
        write_text(temporary / CARD, model_card(result))
        write_document(temporary / RESULT, result)
        keep.done()
    return result


def _timed(job: Job, model: nn.Module, done: Quantization, files: Files, stages: Stages) -> Files:
    """The files with their times, or why there are none though they were asked for."""
    if not job.bench or not files.exported:
        return files
    network, paths = done.network, {one.exporter: one.path for one in files.exported}
    with stages.stage("speed"):
        try:
            times = time_export(model, network.signature, network.output_names, paths)
        except SubbyteError as error:
            return replace(files, not_timed=str(error))
    return replace(files, times=times)


def assist(job: Job, model: nn.Module, data: DataSet, make: Make = walked) -> None:
    """Do a share of the walk in a run that several processes have in common (`Limits.processes`):
    the part of all but the first. Nothing is written. make: as for `run`.

    Raises SubbyteError as `run` does, and where another process fails.
    """
    _quantized(_stating(job, data), model, data, Stages(), make)


def _stating(job: Job, data: DataSet) -> Job:
    """A job whose files state what is known of the data."""
    return replace(job, form=replace(job.form, about=about(data)))


def _quantized(
    job: Job, model: nn.Module, data: DataSet, stages: Stages, make: Make
) -> "tuple[Tensor | Samples, Capture, Quantization]":
    """The calibration samples, what was captured for them, and what came of it."""
    images, split = draw_samples(data, job.calibration, job.seed)
    if job.apart:
        _, split = draw_apart(data, job.calibration, job.apart, job.seed)
    capture = Capture(job, model, images, split)
    return images, capture, make(Work(job, model, data, images, capture, stages))


def export_files(names: Sequence[str], plan: Plan) -> dict[str, str]:
    """Names of files by exporter: model.onnx, or model-onnx-int8.onnx where several end alike."""
    chosen = choose_exporters(names, plan)
    alike = Counter(exporter.suffixes[0] for exporter in chosen)
    files = {}
    for exporter in chosen:
        end = exporter.suffixes[0]
        files[exporter.name] = f"model-{exporter.name}{end}" if alike[end] > 1 else f"model{end}"
    return files


def _about(job: Job, data: DataSet) -> dict[str, Any]:
    """The origin that a packed file states: network, data, seed, and what the job adds."""
    own = {"model": job.model, "data": data.name, "seed": job.seed, "calibration": job.calibration}
    return own | dict(job.about)


def _table(options: list[Option]) -> str:
    """The options as CSV, one row an option."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(Option)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(option) for option in options)
    return text.getvalue()
