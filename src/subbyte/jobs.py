"""One run of `subbyte quantize`: quantize, export, prove and measure, into one folder."""

import csv
import io
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import nn

from subbyte import records
from subbyte.data import DataSet, Split, draw_calibration, draw_labels
from subbyte.engine.evidence import Named, gather
from subbyte.engine.quantization import Quantization, carry_out
from subbyte.engine.quantized import LedgerRow, QuantizedModel
from subbyte.engine.sensitivity import Option
from subbyte.engine.stages import Report, Stages
from subbyte.engine.walk import Limits
from subbyte.exporters import EXPORTERS, check_exporters, choose_exporters, export, runner
from subbyte.exporters.packed import save
from subbyte.graph import prepare
from subbyte.io.files import write_text
from subbyte.io.folders import folder
from subbyte.io.user_file import UserFiles
from subbyte.methods import Exported, Runner
from subbyte.pages.write import PAGE
from subbyte.recipe import Plan, Recipe
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
from subbyte.tasks import Evaluation, agreement, evaluate

PACKED, OPTIONS = "model.safetensors", "sensitivity.csv"
_SUFFIXES = dict.fromkeys(suffix for one in EXPORTERS.values() for suffix in one.suffixes)
OWNS = (PACKED, OPTIONS, PAGE, FIGURES, PLAN, RESULT, *(f"model*{end}" for end in _SUFFIXES))
"""Patterns of the files that a run writes, with the page about them."""


@dataclass(frozen=True)
class Job:
    """One run of `subbyte quantize`: what goes in, by the names used in result.json.

    exports: names of exporters; the one that fits the model where there is none, no file for
    'none'. Raises RecipeError when there is no such exporter.
    """

    model: str
    data: str
    recipe: Recipe | Plan
    calibration: int = 500
    seed: int = 0
    exports: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    about: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        check_exporters(self.exports)


@dataclass(frozen=True, eq=False)
class Measured:
    """The outputs of the float network, the quantized one and the exported files on one split."""

    float: Evaluation
    quantized: Evaluation
    exports: list[Evaluation]


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
        stages, device = Stages(report), job.limits.device
        images, split = draw_calibration(data, job.calibration, job.seed)
        done = carry_out(
            lambda: prepare(model, images[:2]),
            job.recipe,
            images,
            labels=lambda: draw_labels(data, job.calibration, job.seed),
            accept=lambda plan: choose_exporters(job.exports, plan),
            limits=job.limits,
            stages=stages,
        )
        with stages.stage("export"):
            packed = save(done.model, temporary / PACKED, _about(job, data))
            names = export_files(job.exports, done.model.plan)
            exported = [
                export(done.model, temporary / file, images, to=name)
                for name, file in names.items()
            ]
        with stages.stage("evaluate"):
            measured = measure(model, done.model, exported, split, device, report)
        with stages.stage("figures"):
            named = _named(measured, data, split)
            found = gather(done.network, done.model, images, named, device)
        result = summary(job, data, done, exported, packed, measured, stages.seconds, temporary)
        write_text(temporary / PLAN, done.model.plan.to_yaml(UserFiles(temporary)))
        if done.options:
            write_text(temporary / OPTIONS, _table(done.options))
        write_document(temporary / FIGURES, found, short=True)
        write_document(temporary / RESULT, result)
    return result


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


def _named(measured: Measured, data: DataSet, split: Split) -> Named:
    """The outputs of both networks on a split, for the figures."""
    return Named(
        measured.float.logits,
        measured.quantized.logits,
        split.labels,
        data.classes,
        lambda k: split.images(k),
    )


def _table(options: list[Option]) -> str:
    """The options as CSV, one row an option."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(Option)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(option) for option in options)
    return text.getvalue()


def measure(
    model: nn.Module,
    quantized: QuantizedModel,
    exported: Sequence[Exported],
    split: Split,
    device: str,
    report: Report,
) -> Measured:
    """Evaluate the float network, the quantized one and every exported file on a labelled split."""

    def found(name: str, function: Runner, where: str) -> Evaluation:
        step = partial(_step, report, f"evaluate {name}")
        return evaluate(function, split, device=where, progress=step)

    return Measured(
        found("float", model.to(device), device),
        found("quantized", quantized.to(device), device),
        [found(one.exporter, runner(one.path), "cpu") for one in exported],
    )


def _step(report: Report, name: str, done: int, total: int) -> None:
    report(name, done, total, "")


def summary(
    job: Job,
    data: DataSet,
    done: Quantization,
    exported: Sequence[Exported],
    packed: int,
    measured: Measured,
    seconds: dict[str, float],
    out: Path,
) -> Result:
    """The content of result.json in the folder `out`: accuracies and agreements in percent, sizes
    in bytes, times in seconds.
    """
    before, after, model = measured.float, measured.quantized, done.model
    rows: dict[str, list[LedgerEntry]] = {"layer": [], "product": [], "activation": [], "rest": []}
    for row in model.ledger:
        rows[row.kind].append(_entry(row, exported))
    return Result(
        model=job.model,
        data=data.name,
        recipe=job.recipe.name,
        seed=job.seed,
        calibration=job.calibration,
        images=before.accuracy.count,
        float=records.Measured(top1=before.top1, top5=before.top5),
        quantized=records.Measured(
            top1=after.top1, top5=after.top5, agreement=agreement(before.logits, after.logits)
        ),
        exports=[
            _export(one, named, after)
            for one, named in zip(exported, measured.exports, strict=True)
        ],
        bits_per_weight=model.bits_per_weight,
        zeros_percent=model.zeros,
        bytes=Sizes(float=done.network.float_bytes, packed=packed),
        options=[records.Option(**asdict(option)) for option in done.options],
        seconds=seconds,
        fold_error=done.network.fold_error,
        layers=rows["layer"],
        products=rows["product"],
        activations=rows["activation"],
        skipped=[Skipped(name=r.name, reason=r.reason, bytes=r.bytes) for r in rows["rest"]],
        settings=job.recipe.stated(UserFiles(out)),
        about=dict(job.about) | {"fingerprint": data.fingerprint},
        versions=versions(),
    )


def _export(exported: Exported, named: Evaluation, torch_model: Evaluation) -> records.Exported:
    """An exported file, measured; its agreement is that with the torch model."""
    return records.Exported(
        name=exported.exporter,
        file=exported.path.name,
        bytes=exported.bytes,
        opset=exported.opset,
        top1=named.top1,
        agreement=agreement(torch_model.logits, named.logits),
        parity=exported.parity,
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
