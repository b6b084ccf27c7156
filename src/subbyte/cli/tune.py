"""subbyte tune: a quantized network learns from the float one, without labels."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from subbyte.cli.answers import Answer, command
from subbyte.cli.common import (
    BenchOption,
    CropOption,
    DataOption,
    DeviceOption,
    ForceOption,
    InterpolationOption,
    NormalizeOption,
    PageOption,
    Pixels,
    ResizeOption,
    TaskOption,
    WeightsOption,
    read_override,
    write_page,
)
from subbyte.cli.numbers import amount, numeric, read_time
from subbyte.cli.progress import progress
from subbyte.cli.quantize import show
from subbyte.cli.source import Source, find_source
from subbyte.data import Amount
from subbyte.engine.limits import Limits
from subbyte.errors import ModelError, RecipeError
from subbyte.exporters.packed import read
from subbyte.graph import Samples
from subbyte.io.numbers import SEED, Whole
from subbyte.io.processes import join
from subbyte.jobs import Job, Start
from subbyte.jobs import tune as run
from subbyte.methods import TuneNetwork
from subbyte.models import load_model
from subbyte.records import Result
from subbyte.tasks import read_tasks
from subbyte.tuning import TUNES


@command
def tune(
    source: Annotated[
        Path, typer.Argument(help="A folder that quantize wrote, or a packed file (subbyte.save).")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
    weights: WeightsOption = None,
    method: Annotated[str, typer.Option(help="How it learns.")] = "distill",
    steps: Annotated[int | None, numeric(Whole(1), "Updates. Default: the method's.")] = None,
    time: Annotated[
        str | None,
        typer.Option(help="Time to learn for, such as 5min, 90s or 1h; turned into steps first."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another setting of the method, NAME=VALUE. Repeatable."),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(help="Further unlabelled images to learn from, named as --data is."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="As for quantize, where the packed file does not say it.")
    ] = None,
    data: DataOption = "",
    calibration: Annotated[
        Amount | None,
        amount("Calibration images, or a share of them, 1%. Default: as many as quantize took."),
    ] = None,
    seed: Annotated[
        int | None,
        numeric(SEED, "Of the draw of calibration images. Default: as quantize drew them."),
    ] = None,
    normalize: NormalizeOption = None,
    resize: ResizeOption = None,
    crop: CropOption = None,
    interpolation: InterpolationOption = None,
    task: TaskOption = None,
    exports: Annotated[
        list[str] | None,
        typer.Option("--export", help="As for quantize. Repeatable."),
    ] = None,
    device: DeviceOption = "cpu",
    force: ForceOption = False,
    page: PageOption = True,
    bench: BenchOption = True,
) -> Answer[Result] | None:
    """Let a quantized network learn from the float one, without labels; stop it at any time, and
    the same command goes on.

    It learns on the images that it was calibrated on, never gets worse on those of them that are
    kept apart, and is written as quantize writes one. Ctrl-C takes the best so far.
    """
    found = find_source(source, model, data, Pixels(normalize, resize, crop, interpolation))
    if not found.model:
        raise ModelError(f"{found.packed} does not say what network it is of; give --model")
    _check_teacher(found, weights)
    chosen = _method(method, steps, time, settings or [])
    plan = read(found.packed).plan
    loaded = found.images()
    more = [] if images is None else [_all(images, found.pixels)]
    start = Start(found.packed, plan, chosen, more)
    network = load_model(found.model, weights, len(loaded.classes) or None, loaded.image_shape)
    here, own = join(device)
    job = Job(
        model=found.model,
        data=found.data,
        recipe=replace(plan, tune=chosen),
        calibration=calibration.of(loaded) if calibration else found.calibration,
        seed=found.seed if seed is None else seed,
        exports=tuple(exports or ()),
        tasks=read_tasks(task or (found.result.task if found.result else None)),
        limits=Limits(device=own, processes=here),
        about=_about(found, weights),
        bench=bench,
    )
    with progress() as report:
        result = run(start, job, network, loaded, out, report, force=force)
    if result is None:
        return None
    show(result, out)
    return Answer(result, write_page(page, out))


def _check_teacher(found: Source, weights: Path | None) -> None:
    """Raises ModelError where the float network had weights of a file that is not named now: with
    others it would teach something else.
    """
    used = found.result.about.get("weights", "") if found.result else ""
    if used and weights is None:
        raise ModelError(
            f"it learns from the float network, which had the weights of {used} when "
            f"{found.packed.parent.name} was made; give them as --weights"
        )


def _about(found: Source, weights: Path | None) -> tuple[tuple[str, str], ...]:
    own = {"weights": weights.name if weights else "", "data_spec": found.data.split(":")[0]}
    return tuple((own | found.pixels.about | {"start": found.packed.parent.name}).items())


def _all(images: str, pixels: Pixels) -> Samples:
    """All images of a data set, the training ones where there are any."""
    data = pixels.load(images)
    split = data.train or data.test
    return Samples.of(split.samples(range(len(split))))


def _method(name: str, steps: int | None, time: str | None, settings: list[str]) -> TuneNetwork:
    """The method with its settings. Raises RecipeError for what does not fit."""
    if steps is not None and time is not None:
        raise RecipeError("--steps and --time both say how long to learn; give one of them")
    said = dict(read_override(one, "latent=0.0003") for one in settings)
    if steps is not None:
        said["steps"] = steps
    if time is not None:
        said["seconds"] = read_time(time)
    found = TUNES.build({"name": name, **said})
    if not isinstance(found, TuneNetwork):
        able = ", ".join(key for key, cls in TUNES.items() if issubclass(cls, TuneNetwork))
        raise RecipeError(
            f"--method {name} works during the walk (`tune: {name}` in a recipe); after it: {able}"
        )
    return found
