"""One run of `subbyte quantize`: quantize, export, prove and measure, into one folder."""

import csv
import io
import platform
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn

from subbyte.data import DataSet, Split, draw_calibration, draw_labels
from subbyte.engine.evidence import Named, gather
from subbyte.engine.quantization import assemble, decide
from subbyte.engine.quantized import LedgerRow, QuantizedModel
from subbyte.engine.sensitivity import Option
from subbyte.engine.walk import Limits, walk
from subbyte.exporters.onnx import Container, OnnxExport, export_onnx
from subbyte.exporters.packed import save
from subbyte.exporters.parity import onnx_model
from subbyte.graph import Network, prepare
from subbyte.io.files import write_text
from subbyte.io.folders import folder
from subbyte.recipe import Recipe
from subbyte.records import (
    FIGURES,
    RESULT,
    Exported,
    LedgerEntry,
    Measured,
    Parity,
    Result,
    Sizes,
    Skipped,
    write_document,
)
from subbyte.records import Option as Choice
from subbyte.tasks import Evaluation, agreement, evaluate

Report = Callable[[str, int, int, str], None]
"""Called with the stage (walk, evaluate ...), steps done, steps in all, and what is being worked
on.
"""


@dataclass(frozen=True)
class Job:
    """One run of `subbyte quantize`: what goes in, by the names used in result.json."""

    model: str
    data: str
    recipe: Recipe
    calibration: int = 500
    seed: int = 0
    container: Container | None = None  # None: int8 when activations are quantized, else compact
    limits: Limits = field(default_factory=Limits)
    about: tuple[tuple[str, str], ...] = ()


class Timer:
    """Seconds spent in each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Any:
        """Add the time of a block to a stage."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 3)


def run(
    job: Job, model: nn.Module, data: DataSet, out: Path, report: Report, *, force: bool = False
) -> Result:
    """Quantize, export, prove and measure; write everything into the folder `out`, whole or not at
    all.

    Writes model.safetensors, model.onnx, plan.yaml, result.json and figures.json, under a budget
    sensitivity.csv too; returns the contents of result.json.
    Raises SubbyteError when anything does not fit; then, and on Ctrl-C, `out` is as it was before.
    """
    with folder(out, force=force) as temporary:
        timer = Timer()
        images, split = draw_calibration(data, job.calibration, job.seed)
        with timer.stage("capture"):
            network = prepare(model, images[:2])
        with timer.stage("plan"):
            plan, options = decide(network, job.recipe, images, job.limits, partial(report, "plan"))
        with timer.stage("walk"):
            wanted = plan.tune is not None and plan.tune.needs_labels
            labels = draw_labels(data, job.calibration, job.seed) if wanted else None
            walked = walk(
                network,
                plan,
                images,
                labels=labels,
                limits=job.limits,
                progress=partial(report, "walk"),
            )
            quantized = assemble(network, plan, walked)
        container: Container = job.container or ("int8" if plan.taps else "compact")
        with timer.stage("export"):
            about = {
                "model": job.model,
                "data": data.name,
                "seed": job.seed,
                "calibration": job.calibration,
            }
            packed = save(quantized, temporary / "model.safetensors", about | dict(job.about))
            exported = export_onnx(quantized, temporary / "model.onnx", images, container=container)
        with timer.stage("evaluate"):
            measured = measure(
                model, quantized, temporary / "model.onnx", split, job.limits.device, report
            )
        with timer.stage("figures"):
            named = _named(measured, data, split)
            found = gather(network, quantized, images, named, job.limits.device)
        result = summary(
            job, data, network, quantized, exported, packed, measured, options, timer.seconds
        )
        write_text(temporary / "plan.yaml", plan.to_yaml())
        if options:
            write_text(temporary / "sensitivity.csv", _table(options))
        write_document(temporary / FIGURES, found, short=True)
        write_document(temporary / RESULT, result)
    return result


def _named(measured: dict[str, Evaluation], data: DataSet, split: Split) -> Named:
    """What the networks named, for the figures."""
    return Named(
        measured["float"].logits,
        measured["quantized"].logits,
        split.labels,
        data.classes,
        lambda k: split.images(k),
    )


def _table(options: list[Option]) -> str:
    """As CSV, one row an option."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(Option)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(option) for option in options)
    return text.getvalue()


def measure(
    model: nn.Module,
    quantized: QuantizedModel,
    onnx_file: Path,
    split: Split,
    device: str,
    report: Report,
) -> dict[str, Evaluation]:
    """Float network, quantized network and ONNX file on a labelled split, under these names."""
    runs: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
        "float": (model.to(device), device),
        "quantized": (quantized.to(device), device),
        "onnx": (onnx_model(onnx_file), "cpu"),
    }
    measured = {}
    for name, (function, where) in runs.items():
        bar = partial(_stage, report, f"evaluate {name}")
        measured[name] = evaluate(function, split, device=where, progress=bar)
    return measured


def _stage(report: Report, name: str, done: int, total: int) -> None:
    report(name, done, total, "")


def summary(
    job: Job,
    data: DataSet,
    network: Network,
    model: QuantizedModel,
    exported: OnnxExport,
    packed: int,
    measured: dict[str, Evaluation],
    options: list[Option],
    seconds: dict[str, float],
) -> Result:
    """What result.json holds: accuracies and agreements in percent, sizes in bytes, times in
    seconds.
    """
    top = {name: run.accuracy for name, run in measured.items()}
    logits = {name: run.logits for name, run in measured.items()}
    container = job.container or ("int8" if model.plan.taps else "compact")
    name = f"onnx-{container}"
    file = Exported(
        name=name,
        file="model.onnx",
        bytes=exported.bytes,
        opset=exported.opset,
        top1=top["onnx"].top1,
        agreement=agreement(logits["quantized"], logits["onnx"]),
        parity=Parity(**asdict(exported.parity)),
    )
    rows = {
        kind: [_row(row, name, exported.notes) for row in model.ledger if row.kind == kind]
        for kind in ("layer", "tap")
    }
    return Result(
        model=job.model,
        data=data.name,
        recipe=job.recipe.name,
        seed=job.seed,
        calibration=job.calibration,
        images=top["float"].count,
        float=Measured(top1=top["float"].top1, top5=top["float"].top5),
        quantized=Measured(
            top1=top["quantized"].top1,
            top5=top["quantized"].top5,
            agreement=agreement(logits["float"], logits["quantized"]),
        ),
        exports=[file],
        bits_per_weight=model.bits_per_weight,
        zeros_percent=model.zeros,
        bytes=Sizes(float=network.float_bytes, packed=packed),
        options=[Choice(**asdict(option)) for option in options],
        seconds=seconds,
        fold_error=network.fold_error,
        layers=rows["layer"],
        activations=rows["tap"],
        skipped=[Skipped(**asdict(s)) for s in network.skipped],
        settings=job.recipe.model_dump(mode="json"),
        about=dict(job.about) | {"fingerprint": data.fingerprint},
        versions=versions(),
    )


def _row(row: LedgerRow, exporter: str, notes: dict[str, str]) -> LedgerEntry:
    return LedgerEntry(
        name=row.name,
        asked=row.asked,
        bits=row.bits,
        reason=row.reason,
        bytes=row.bytes,
        sqnr_db=row.sqnr_db,
        zeros=row.zeros,
        exports={exporter: notes[row.name]} if notes.get(row.name) else {},
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
