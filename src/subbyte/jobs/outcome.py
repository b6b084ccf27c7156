"""The content of result.json."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch

from subbyte import records
from subbyte.data import DataSet
from subbyte.engine.effects import Effect
from subbyte.engine.judging import Judged, as_scores
from subbyte.engine.learning import Lesson
from subbyte.engine.quantization import Quantization
from subbyte.engine.quantized import LedgerRow
from subbyte.exporters import EXPORTERS
from subbyte.exporters.structure import misses
from subbyte.io.user_file import UserFiles
from subbyte.io.versions import installed
from subbyte.jobs.job import Job
from subbyte.jobs.measuring import Measured
from subbyte.methods import Exported
from subbyte.recipe import Plan, load_target
from subbyte.records import (
    LedgerEntry,
    Result,
    Sizes,
    Skipped,
)
from subbyte.tasks import task_name


@dataclass(frozen=True, eq=False)
class Files:
    """The files of a run.

    refused: why there is none of an exporter, by its name; times: against the float network, by
    exporter; not_timed: why there are none though they were asked for.
    """

    exported: Sequence[Exported]
    refused: Mapping[str, str]
    times: Mapping[str, records.Timing] = field(default_factory=dict)
    not_timed: str = ""


def summary(
    job: Job,
    data: DataSet,
    done: Quantization,
    files: Files,
    packed: int,
    measured: Measured,
    effects: Sequence[Effect],
    images: int,
    seconds: dict[str, float],
    place: UserFiles,
) -> Result:
    """The content of result.json in the folder of `place`: figures, sizes in bytes, times in
    seconds.
    """
    model, exported = done.model, files.exported
    rows: dict[str, list[LedgerEntry]] = {"layer": [], "product": [], "activation": [], "rest": []}
    for row in model.ledger:
        rows[row.kind].append(_entry(row, exported))
    return Result(
        model=job.model,
        data=data.name,
        data_path=job.data,
        recipe=job.recipe.name,
        task=task_name(measured.task),
        heads=done.network.output_names,
        seed=job.seed,
        calibration=job.calibration,
        images=images,
        float=records.Measured(**_figures(measured.float)),
        quantized=records.Measured(**_figures(measured.quantized)),
        exports=[
            _export(one, judged, files.times.get(one.exporter))
            for one, judged in zip(exported, measured.exports, strict=True)
        ],
        not_exported=dict(files.refused),
        not_timed=files.not_timed,
        bits_per_weight=model.bits_per_weight,
        zeros_percent=model.zeros,
        bytes=Sizes(float=done.network.float_bytes, packed=model.packed_bytes, file=packed),
        options=[records.Option(**asdict(option)) for option in done.options],
        effects=[records.Effect(**asdict(effect)) for effect in effects],
        seconds=seconds,
        fold_error=done.network.fold_error,
        layers=rows["layer"],
        products=rows["product"],
        activations=rows["activation"],
        target=_target(model.plan, exported),
        tuning=_tuning(done.lessons, measured.before),
        trials=done.trials,
        skipped=[Skipped(name=r.name, reason=r.reason, bytes=r.bytes) for r in rows["rest"]],
        settings=job.recipe.stated(place),
        about=dict(job.about) | {"fingerprint": data.fingerprint},
        versions=versions(),
    )


def _target(plan: Plan, exported: Sequence[Exported]) -> records.Target | None:
    """The target of a plan, and how the files fit it."""
    if plan.target is None:
        return None
    target = load_target(plan.target)
    found = {one.exporter: misses(target, one.path) for one in exported if one.opset is not None}
    kept = {exporter: words for exporter, words in found.items() if words}
    return records.Target(name=target.name, about=target.about, misses=kept)


def _tuning(lessons: Sequence[Lesson], before: Sequence[Judged]) -> records.Tuning | None:
    """The record of what the network learned; the last time where it did so more than once."""
    if not lessons:
        return None
    lesson = lessons[-1]
    return records.Tuning(
        method=dict(lesson.way),
        steps=lesson.steps,
        interrupted=lesson.interrupted,
        judged=[records.Judged(**asdict(one)) for one in lesson.judgements],
        kept=lesson.kept.step,
        labels=lesson.labels,
        before=records.Measured(**_figures(before[-1])),
    )


def _figures(judged: Judged) -> dict[str, list[records.Score]]:
    return {"scores": as_scores(judged.scores), "comparison": as_scores(judged.comparison)}


def _export(exported: Exported, judged: Judged, timing: records.Timing | None) -> records.Exported:
    """An exported file, judged."""
    figures = _figures(judged)
    return records.Exported(
        name=exported.exporter,
        file=exported.path.name,
        bytes=exported.bytes,
        holds=exported.holds,
        opset=exported.opset,
        parity=exported.parity,
        kernels=exported.kernels,
        timing=timing,
        optimize=exported.form.optimize.value,
        input=exported.form.input.value,
        batch=exported.form.batch,
        digest=exported.digest,
        usage=EXPORTERS[exported.exporter].usage.replace("FILE", exported.path.name),
        scores=figures["scores"],
        comparison=figures["comparison"],
    )


def with_file(result: Result, exported: Exported, judged: Judged) -> Result:
    """A result with one more exported file, in place of an earlier one by the same exporter."""
    name, notes = exported.exporter, exported.notes

    def noted(entry: LedgerEntry) -> LedgerEntry:
        others = {key: note for key, note in entry.exports.items() if key != name}
        own = {name: notes[entry.name]} if entry.name in notes else {}
        return entry.model_copy(update={"exports": others | own})

    ledger = {
        "layers": list(map(noted, result.layers)),
        "products": list(map(noted, result.products)),
        "activations": list(map(noted, result.activations)),
    }
    files = {one.name: one for one in result.exports} | {name: _export(exported, judged, None)}
    refused = {key: why for key, why in result.not_exported.items() if key != name}
    changed = {"exports": list(files.values()), "not_exported": refused}
    return result.model_copy(update=ledger | changed)


def _entry(row: LedgerRow, exported: Sequence[Exported]) -> LedgerEntry:
    """A row of the ledger, and how each file holds what it is about."""
    return LedgerEntry(
        name=row.name,
        asked=row.asked,
        bits=row.bits,
        reason=row.reason,
        bytes=row.bytes,
        sqnr_db=row.sqnr_db,
        zeros=row.zeros,
        multiplications=row.multiplications,
        integer=row.integer,
        exports={one.exporter: one.notes[row.name] for one in exported if row.name in one.notes},
    )


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    return {
        "subbyte": installed("subbyte"),
        "torch": torch.__version__,
        "onnxruntime": installed("onnxruntime"),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
