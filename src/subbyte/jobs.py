"""One run of `subbyte quantize`: quantize, export, prove and measure, into one folder."""

import csv
import io
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn

from subbyte import records
from subbyte.data import DataSet, Split, draw_samples, draw_targets
from subbyte.engine.evidence import Named, gather
from subbyte.engine.judging import (
    Judged,
    as_scores,
    forward_of,
    forward_of_file,
    judge,
    settle_task,
)
from subbyte.engine.limits import Limits
from subbyte.engine.quantization import Quantization, carry_out
from subbyte.engine.quantized import LedgerRow, QuantizedModel
from subbyte.engine.sensitivity import Option
from subbyte.engine.stages import Report, Stages
from subbyte.errors import ModelError, NumericsError
from subbyte.exporters import EXPORTERS, check_exporters, choose_exporters, export, runner
from subbyte.exporters.packed import save
from subbyte.exporters.structure import misses
from subbyte.graph import Axis, Network, Samples, prepare, unwrapped
from subbyte.io.files import write_text
from subbyte.io.folders import folder
from subbyte.io.user_file import UserFiles
from subbyte.methods import Exported, Outputs, Task
from subbyte.pages.write import PAGE
from subbyte.recipe import Plan, Recipe, load_target
from subbyte.records import (
    FIGURES,
    PLAN,
    RESULT,
    LedgerEntry,
    Result,
    Sizes,
    Skipped,
    write_document,
)
from subbyte.tasks import Classification, task_name

PACKED, OPTIONS = "model.safetensors", "sensitivity.csv"
_SUFFIXES = dict.fromkeys(suffix for one in EXPORTERS.values() for suffix in one.suffixes)
OWNS = (PACKED, OPTIONS, PAGE, FIGURES, PLAN, RESULT, *(f"model*{end}" for end in _SUFFIXES))
"""Patterns of the files that a run writes, with the page about them."""


@dataclass(frozen=True)
class Job:
    """One run of `subbyte quantize`: what goes in, by the names used in result.json.

    exports: names of exporters; the one that fits the model where there is none, no file for
    'none'. tasks: how outputs are judged: one task, or one for each output; none: chosen by data
    and outputs. dynamic: axes of images whose sizes may differ from call to call.
    Raises RecipeError when there is no such exporter.
    """

    model: str
    data: str
    recipe: Recipe | Plan
    calibration: int = 500
    seed: int = 0
    exports: tuple[str, ...] = ()
    tasks: tuple[Task, ...] = ()
    limits: Limits = field(default_factory=Limits)
    about: tuple[tuple[str, str], ...] = ()
    dynamic: tuple[Axis, ...] = ()

    def __post_init__(self) -> None:
        check_exporters(self.exports)


FLOAT, QUANTIZED = "float", "quantized"


@dataclass(frozen=True, eq=False)
class Measured:
    """The figures of the float network, the quantized one and the exported files on one split.

    task: by which they were judged; named: the classes that both networks name, where labels tell
    which are right.
    """

    task: Task
    float: Judged
    quantized: Judged
    exports: list[Judged]
    named: Named | None


def run(
    job: Job, model: nn.Module, data: DataSet, out: Path, report: Report, *, force: bool = False
) -> Result:
    """Quantize, export, prove and measure; write everything into the folder `out`, whole or not at
    all.

    Writes model.safetensors, a file an exporter (model.onnx), plan.yaml, result.json and
    figures.json, under a budget sensitivity.csv too; returns what result.json holds.
    Raises SubbyteError when anything does not fit; then, and on Ctrl-C, `out` is as it was before.
    """
    with folder(out, owns=OWNS, force=force) as temporary:
        stages = Stages(report)
        images, capture, done = _quantized(job, model, data, stages)
        with stages.stage("export"):
            packed = save(done.model, temporary / PACKED, _about(job, data))
            names = export_files(job.exports, done.model.plan)
            exported, refused = [], {}
            for name, file in names.items():
                try:
                    exported.append(export(done.model, temporary / file, images, to=name))
                except ModelError as error:  # an operation that the format lacks costs its file
                    refused[name] = str(error)
        with stages.stage("evaluate"):
            measured = measure(model, done.model, exported, capture, data, report)
        with stages.stage("figures"):
            found = gather(done.network, done.model, images, measured.named, capture.device)
        count, seconds = len(capture.split), stages.seconds
        files = exported, refused
        result = summary(job, data, done, files, packed, measured, count, seconds, temporary)
        write_text(temporary / PLAN, done.model.plan.to_yaml(UserFiles(temporary)))
        if done.options:
            write_text(temporary / OPTIONS, _table(done.options))
        write_document(temporary / FIGURES, found, short=True)
        write_document(temporary / RESULT, result)
    return result


def assist(job: Job, model: nn.Module, data: DataSet) -> None:
    """Do a share of the walk in a run that several processes have in common (`Limits.processes`):
    the part of all but the first. Nothing is written.

    Raises SubbyteError as `run` does, and where another process fails.
    """
    _quantized(job, model, data, Stages())


def _quantized(
    job: Job, model: nn.Module, data: DataSet, stages: Stages
) -> "tuple[Tensor | Samples, _Capture, Quantization]":
    """The calibration samples, what was captured for them, and what came of it."""
    images, split = draw_samples(data, job.calibration, job.seed)
    capture = _Capture(job, model, images, split)
    done = carry_out(
        capture,
        job.recipe,
        images,
        labels=lambda: draw_targets(data, job.calibration, job.seed),
        accept=lambda plan: _accept(job, plan),
        task=lambda: capture.task,
        limits=job.limits,
        stages=stages,
    )
    return images, capture, done


def _accept(job: Job, plan: Plan) -> None:
    """Raise RecipeError where a plan can't be exported, or its target is not known here."""
    choose_exporters(job.exports, plan)
    if plan.target is not None:
        load_target(plan.target).check(plan)


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


class _Capture:
    """Captures a network, and sees that it goes together with data and task: before the walk, not
    after it.
    """

    def __init__(self, job: Job, model: nn.Module, images: Tensor | Samples, split: Split) -> None:
        self._job, self._model, self._images, self.split = job, model, images, split
        self.device = job.limits.device

    def __call__(self) -> Network:
        example = Samples.of(self._images[:2]).with_dynamic(self._job.dynamic)
        network = prepare(unwrapped(self._model), example)
        with suppress(NumericsError):  # the walk names the layer that it comes from
            self._settled  # noqa: B018 - refuses what does not go together
        return network

    @property
    def task(self) -> Task:
        """The task by which outputs are judged."""
        return self._settled[0]

    @property
    def batch(self) -> int:
        """How many samples are judged at a time."""
        return self._settled[1]

    @cached_property
    def _settled(self) -> tuple[Task, int]:
        return settle_task(self._job.tasks, forward_of(self._model), self.split)


def measure(
    model: nn.Module,
    quantized: QuantizedModel,
    exported: Sequence[Exported],
    capture: _Capture,
    data: DataSet,
    report: Report,
) -> Measured:
    """Judge the float network, the quantized one and every exported file on a split.

    The quantized network is compared with the float one, files with the quantized one.
    """
    task, split, device = capture.task, capture.split, capture.device
    networks = {
        FLOAT: forward_of(model.to(device), device),
        QUANTIZED: forward_of(quantized.to(device), device),
        **{one.exporter: forward_of_file(runner(one.path)) for one in exported},
    }
    kept: dict[str, list[Tensor]] = {FLOAT: [], QUANTIZED: []}
    names_classes = isinstance(task, Classification) and split.has_labels

    def keep(outputs: Mapping[str, Outputs]) -> None:
        if names_classes:
            for name, logits in kept.items():
                logits.append(outputs[name][0])

    exports = [name for name in networks if name not in kept]
    found = judge(
        networks,
        {QUANTIZED: FLOAT, **dict.fromkeys(exports, QUANTIZED)},
        task,
        split,
        batch_size=capture.batch,
        progress=lambda done, total: report("evaluate", done, total, ""),
        seen=keep,
    )
    named = None
    if names_classes:
        before, after = (torch.cat(kept[name]) for name in (FLOAT, QUANTIZED))
        named = Named(before, after, split.labels, data.classes, split.samples)
    return Measured(task, found[FLOAT], found[QUANTIZED], [found[name] for name in exports], named)


def summary(
    job: Job,
    data: DataSet,
    done: Quantization,
    files: tuple[Sequence[Exported], dict[str, str]],
    packed: int,
    measured: Measured,
    images: int,
    seconds: dict[str, float],
    out: Path,
) -> Result:
    """The content of result.json in the folder `out`: figures, sizes in bytes, times in seconds.

    files: what was exported, and why there is none of an exporter, by its name.
    """
    model, (exported, refused) = done.model, files
    rows: dict[str, list[LedgerEntry]] = {"layer": [], "product": [], "activation": [], "rest": []}
    for row in model.ledger:
        rows[row.kind].append(_entry(row, exported))
    return Result(
        model=job.model,
        data=data.name,
        recipe=job.recipe.name,
        task=task_name(measured.task),
        heads=done.network.output_names,
        seed=job.seed,
        calibration=job.calibration,
        images=images,
        float=records.Measured(**_figures(measured.float)),
        quantized=records.Measured(**_figures(measured.quantized)),
        exports=list(map(_export, exported, measured.exports)),
        not_exported=refused,
        bits_per_weight=model.bits_per_weight,
        zeros_percent=model.zeros,
        bytes=Sizes(float=done.network.float_bytes, packed=model.packed_bytes, file=packed),
        options=[records.Option(**asdict(option)) for option in done.options],
        seconds=seconds,
        fold_error=done.network.fold_error,
        layers=rows["layer"],
        products=rows["product"],
        activations=rows["activation"],
        target=_target(model.plan, exported),
        skipped=[Skipped(name=r.name, reason=r.reason, bytes=r.bytes) for r in rows["rest"]],
        settings=job.recipe.stated(UserFiles(out)),
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


def _figures(judged: Judged) -> dict[str, list[records.Score]]:
    return {"scores": as_scores(judged.scores), "comparison": as_scores(judged.comparison)}


def _export(exported: Exported, judged: Judged) -> records.Exported:
    """An exported file, judged."""
    return records.Exported(
        name=exported.exporter,
        file=exported.path.name,
        bytes=exported.bytes,
        holds=exported.holds,
        opset=exported.opset,
        parity=exported.parity,
        **_figures(judged),
    )


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
        "subbyte": version("subbyte"),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
