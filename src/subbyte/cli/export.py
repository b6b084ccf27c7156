"""subbyte export: a quantized network as a file for one more runtime, proven before it is kept."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from subbyte.cli.answers import Answer, command
from subbyte.cli.common import (
    CropOption,
    DataOption,
    InputOption,
    InterpolationOption,
    NormalizeOption,
    OptimizeOption,
    PageOption,
    Pixels,
    ResizeOption,
    StaticOption,
    write_page,
)
from subbyte.cli.numbers import numeric
from subbyte.cli.progress import stage
from subbyte.cli.source import Source, find_source
from subbyte.cli.terminal import console
from subbyte.data import DataSet, draw_samples
from subbyte.engine.judging import forward_of, forward_of_file, judge, settle_task
from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import RecipeError
from subbyte.exporters import (
    EXPORTERS,
    check_free,
    check_suffix,
    choose_exporters,
    export_in,
    find_exporter,
    network_runner,
)
from subbyte.exporters.forms import check_form, find_form
from subbyte.exporters.parity import check_samples
from subbyte.exporters.vectors import VECTORS, write_vectors
from subbyte.io.files import together, write_text
from subbyte.io.folders import owned
from subbyte.io.numbers import Whole
from subbyte.io.versions import installed
from subbyte.jobs import about, versions, with_file
from subbyte.methods import Exported
from subbyte.records import (
    CARD,
    RESULT,
    About,
    Certificate,
    model_card,
    read_result,
    write_document,
)
from subbyte.records.certificate import SUFFIX
from subbyte.tasks import read_tasks

_FILE, _TORCH = "file", "torch"


@command
def export(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder that quantize or train wrote, or a packed file (subbyte.save)."
        ),
    ],
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help=f"The exporter: {', '.join(EXPORTERS)}. Default: onnx-int8 when activations are "
            "quantized, else onnx-compact.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file to write. Default: beside the packed one.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="As for quantize, where the packed file does not say it.")
    ] = None,
    data: DataOption = "",
    normalize: NormalizeOption = None,
    resize: ResizeOption = None,
    crop: CropOption = None,
    interpolation: InterpolationOption = None,
    optimize: OptimizeOption = "speed",
    input: InputOption = "float",
    static: StaticOption = None,
    images: Annotated[
        int | None,
        numeric(
            Whole(1),
            "Images to prove the file on, drawn as for calibration. Default: the same ones.",
        ),
    ] = None,
    vectors: Annotated[
        bool,
        typer.Option(
            "--vectors",
            help="Write 16 inputs, the outputs and all codes between them, for `subbyte verify`.",
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file if there is one.")
    ] = False,
    page: PageOption = True,
) -> Answer[Certificate]:
    """Export a quantized network once more: write a file, and prove it in its own runtime.

    In a folder of quantize the file is judged on the test images and added to result.json;
    elsewhere a certificate is written beside it.
    """
    if out is not None and out.is_dir():
        raise RecipeError(f"--out {out} is a folder; name a file in it")
    form = find_form(optimize, input, static, About())
    if to is not None:
        find_exporter(to).require()
        check_form(find_exporter(to), form)
        if out is not None:
            check_suffix(find_exporter(to), out)
    pixels = Pixels(normalize, resize, crop, interpolation)
    with stage("read"):
        found = find_source(source, model, data, pixels)
        loaded = found.images()
        network = found.network(loaded)
    form = replace(form, about=about(loaded))
    (exporter,) = choose_exporters([to] if to else [], network.plan, form) or (None,)
    if exporter is None:
        raise RecipeError(f"--to must be an exporter: {', '.join(EXPORTERS)}")
    path = out or _beside(found, exporter.name, exporter.suffixes[0])
    check_suffix(exporter, path)
    count = images or min(found.calibration, len(loaded.train or loaded.test) - 1)
    drawn, _ = draw_samples(loaded, count, found.seed)
    samples = check_samples(network, drawn)
    joins = found.result is not None and path.parent.resolve() == found.packed.parent.resolve()
    with owned(found.packed.parent if joins else path), owned(path):  # and what it left before
        check_free(exporter, path, force)
        more = [VECTORS] if vectors else []
        beside = [path.with_suffix(end) for end in (*more, *([] if joins else [SUFFIX]))]
        files = [path, *exporter.files(path)[1:], *beside]
        with stage("export"), together(files) as temporary:
            made = export_in(form, network, temporary[0], samples, to=exporter.name)
            if vectors:
                count = write_vectors(network, made.path.with_suffix(VECTORS), samples)
            certificate = _certificate(found, made)
            # before the file has its name: who kills this process finds no file of no result
            if joins:
                _record(found.packed.parent, made, network, loaded)
            else:
                write_document(made.path.with_suffix(SUFFIX), certificate)
        _tell(replace(made, path=path))
        if vectors:
            console.print(f"{beside[0]}: {count} quantized values", soft_wrap=True)
    written = write_page(page, found.packed.parent)[1:] if joins else ()
    return Answer(certificate, (*filter(Path.exists, files), *written))


def _beside(found: Source, name: str, suffix: str) -> Path:
    """Where a file goes whose user names no place: where an earlier one by the same exporter is, or
    under a name that none has.
    """
    folder = found.packed.parent
    if found.result is None:
        return folder / f"{found.packed.stem}-{name}{suffix}"
    recorded = {one.name: one.file for one in found.result.exports}
    plain = f"{found.packed.stem}{suffix}"
    free = plain not in recorded.values()
    return folder / recorded.get(name, plain if free else f"{found.packed.stem}-{name}{suffix}")


def _tell(made: Exported) -> None:
    told = [
        f"{made.path}: {made.bytes:,} bytes by {made.exporter}",
        f"parity on {made.parity.samples:,} samples: {made.parity.summary}",
        *(f"{name}: {note}" for name, note in made.notes.items()),
    ]
    for line in told:
        console.print(line, soft_wrap=True)


def _record(folder: Path, made: Exported, network: QuantizedModel, loaded: DataSet) -> None:
    """Judge the file on the images that the folder's result was judged on, and add it."""
    result = read_result(folder)  # now: another export may have added to it since
    _, split = draw_samples(loaded, result.calibration, result.seed)
    networks = {_FILE: forward_of_file(network_runner(made.path)), _TORCH: forward_of(network)}
    with stage("evaluate") as report:
        task, batch = settle_task(read_tasks(result.task), networks[_TORCH], split)
        judged = judge(
            networks,
            {_FILE: _TORCH},
            task,
            split,
            batch_size=batch,
            progress=lambda done, total: report(done, total, ""),
        )
    found = with_file(result, made, judged[_FILE])
    write_text(folder / CARD, model_card(found))
    write_document(folder / RESULT, found)


def _certificate(found: Source, made: Exported) -> Certificate:
    exporter = EXPORTERS[made.exporter]
    return Certificate(
        exporter=made.exporter,
        runtime=exporter.runtime,
        files={path.name: _digest(path) for path in _there(exporter.files(made.path))},
        bytes=made.bytes,
        opset=made.opset,
        parity=made.parity,
        notes=dict(made.notes),
        source=found.packed.name,
        digest=_digest(found.packed),
        versions=versions() | {exporter.package: installed(exporter.package)},
    )


def _there(paths: Sequence[Path]) -> list[Path]:
    return [path for path in paths if path.exists()]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
