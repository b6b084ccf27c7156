"""subbyte quantize: a float network and a few images in; packed file, exported files, plan and
figures out.
"""

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from subbyte.cli.answers import Answer, command
from subbyte.cli.best import APART, Given, check_alone, read_wish
from subbyte.cli.common import (
    BenchOption,
    CropOption,
    DataOption,
    DeviceOption,
    ForceOption,
    InputOption,
    InterpolationOption,
    ModelOption,
    NormalizeOption,
    OptimizeOption,
    PageOption,
    Pixels,
    ResizeOption,
    SeedOption,
    StaticOption,
    TaskOption,
    WeightsOption,
    load_inputs,
    write_page,
)
from subbyte.cli.numbers import USUAL, amount, numeric, read_shape
from subbyte.cli.progress import progress
from subbyte.cli.tables import (
    ledger_table,
    options_table,
    plan_table,
    scores_table,
    speed_lines,
    summary_table,
    trials_table,
)
from subbyte.cli.terminal import console
from subbyte.data import Amount
from subbyte.engine.limits import Limits
from subbyte.errors import ModelError
from subbyte.exporters import EXPORTERS, check_exporters, choose_exporters
from subbyte.exporters.forms import find_form
from subbyte.graph import Axis, Samples, prepare
from subbyte.io.numbers import Real, Whole
from subbyte.io.processes import join
from subbyte.jobs import Clips, Job, assist, best, run
from subbyte.models import input_shape, load_model, new_model
from subbyte.pages.scores import said
from subbyte.recipe import (
    PRESETS,
    Plan,
    Recipe,
    for_target,
    load_request,
    make_plan,
    target_names,
)
from subbyte.records import About, Measured, Result
from subbyte.tasks import read_tasks


@command
def quantize(
    model: ModelOption,
    data: DataOption = "",
    weights: WeightsOption = None,
    recipe: Annotated[
        str, typer.Option(help=f"A preset ({', '.join(PRESETS)}), a YAML file, or a plan.yaml.")
    ] = "w8a8",
    out: Annotated[Path | None, typer.Option(help="Folder to write; must not exist.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting, such as weights.rounding=gpfq. Repeatable."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Share widths out to meet it: 2.5bits, 100KB, 1.5Gbops. --set "
            "budget_for=layers|channels"
        ),
    ] = None,
    bits: Annotated[
        str | None, typer.Option(help="Of all weights: ternary, or 2 to 8. With --recipe best.")
    ] = None,
    activation_bits: Annotated[
        str | None,
        typer.Option(help="Of tensors that feed a layer, 2 to 8. With --recipe best."),
    ] = None,
    max_drop: Annotated[
        float | None,
        numeric(
            Real(0, 10**6, above=True),
            "Find the smallest network that is shown to lose no more, in points of the task's "
            "score. With --recipe best; 0.5 where no size is stated.",
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            help="Time to search and tune for, such as 5min, 90s or 1h: half of it for further "
            "walks, the rest for tuning. The first walk, and export, proof and evaluation after "
            "the search, take what they take. With --recipe best."
        ),
    ] = None,
    apart: Annotated[
        int | None,
        numeric(
            Whole(1),
            "Images held apart to choose by, at most, of the training split. With --recipe "
            "best; 5,000 unless stated.",
        ),
    ] = None,
    scalar: Annotated[
        float | None,
        numeric(
            Real(0, 10**6, above=True),
            "Factor on the weight scales that the range chooses: weights.scalar.",
        ),
    ] = None,
    clips: Annotated[
        Path | None,
        typer.Option(
            help="Folder of subbyte gradquant: clips that it chose are the weights' ranges."
        ),
    ] = None,
    clips_by: Annotated[
        str, typer.Option(help="With --clips: the metric that chose, such as gauss_newton or loss.")
    ] = "",
    target: Annotated[
        str | None,
        typer.Option(
            help=f"What the network is for: {', '.join(target_names())}, or a YAML file. Its rules "
            "are obeyed, or refused before the walk."
        ),
    ] = None,
    calibration: Annotated[
        Amount,
        amount("Images to calibrate on, drawn from the training split; or a share of it, 1%."),
    ] = USUAL,
    seed: SeedOption = 0,
    normalize: NormalizeOption = None,
    resize: ResizeOption = None,
    crop: CropOption = None,
    interpolation: InterpolationOption = None,
    dynamic: Annotated[
        str | None,
        typer.Option(help="Sizes of images that may differ from call to call: height,width."),
    ] = None,
    task: TaskOption = None,
    exports: Annotated[
        list[str] | None,
        typer.Option(
            "--export",
            help=f"A file for a runtime: {', '.join(EXPORTERS)}; or none. Repeatable. Default: "
            "onnx-int8 when activations are quantized, else onnx-compact.",
        ),
    ] = None,
    optimize: OptimizeOption = "speed",
    input: InputOption = "float",
    static: StaticOption = None,
    memory: Annotated[
        float,
        numeric(Real(0, 2**20), "GiB of activations kept in memory; the rest is paged to disk."),
    ] = 4.0,
    chunk: Annotated[int, numeric(Whole(1), "Calibration images gone through at once.")] = 64,
    rows: Annotated[
        int,
        numeric(
            Whole(0), "Rows of a layer's input that its statistics take, per weight column; 0: all."
        ),
    ] = 250,
    device: DeviceOption = "cpu",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and stop; needs no data.")
    ] = False,
    shape: Annotated[
        str | None, typer.Option("--input-shape", help="C,H,W for --dry-run without data.")
    ] = None,
    force: ForceOption = False,
    page: PageOption = True,
    bench: BenchOption = True,
) -> Answer[Result | Plan] | None:
    """Quantize a trained network, export it, and measure what it cost. `torchrun` shares the
    calibration images out over several processes or GPUs.
    """
    check_exporters(exports or ())
    form = find_form(optimize, input, static, About())
    if clips is None and clips_by:
        raise typer.BadParameter("it goes with --clips", param_hint="--clips-by")
    found = None if clips is None else Clips.read(clips, clips_by)
    scaled = [] if scalar is None else [f"weights.scalar={scalar}"]
    wanted = [] if budget is None else [f"budget={json.dumps(budget)}"]
    given = Given(bits, activation_bits, budget, max_drop, time, apart)
    wish, made = read_wish(recipe, given, settings or ())
    changes = [*(settings or []), *scaled, *wanted, *made]
    asked = for_target(load_request(recipe, changes), target)
    pixels = Pixels(normalize, resize, crop, interpolation)
    free = Axis.read([] if dynamic is None else map(str.strip, dynamic.split(",")))
    if isinstance(asked, Recipe) and wish is not None:
        wish.check(asked)
    if dry_run:
        given.check_dry_run()
        plan = _dry_run(model, weights, data, shape, asked, pixels, free, found)
        choose_exporters(exports or (), plan, form)
        return Answer(plan)
    if out is None or not data:
        raise typer.BadParameter("--out and --data are needed (unless with --dry-run)")
    here, own = join(device)
    if wish is not None:
        check_alone(here)
    limits = Limits(chunk, int(memory * 2**30), rows, own, processes=here)
    network, images = load_inputs(model, weights, data, pixels)
    about = {"weights": weights.name if weights else "", "data_spec": data.split(":")[0]}
    about |= pixels.about
    job = Job(
        model,
        data,
        asked,
        calibration.of(images),
        seed,
        tuple(exports or ()),
        read_tasks(task),
        limits,
        tuple(about.items()),
        free,
        bench,
        form,
        apart=0 if wish is None else apart or APART,
        clips=found,
    )
    search = run if wish is None else partial(best, wish)
    if not here.first:
        assist(job, network, images)
        return None
    with progress() as report:
        result = search(job, network, images, out, report, force=force)
    show(result, out)
    return Answer(result, write_page(page, out))


def show(result: Result, out: Path) -> None:
    """Print a result as tables."""
    if result.options:
        console.print(options_table(result.options))
    console.print(ledger_table(result.layers, "layers"))
    if result.activations:
        console.print(ledger_table(result.activations, "activations"))
    for skipped in result.skipped:
        console.print(f"left float: {skipped.name}: {skipped.reason}")
    title = f"{result.model} on {result.images:,} images of {result.data}"
    console.print(summary_table([result], title))
    # the comparison of files with the torch model is said with their parity
    files = {one.name: Measured(scores=one.scores) for one in result.exports}
    networks = {"float": result.float, "quantized": result.quantized, **files}
    console.print(scores_table(networks, result.heads, f"figures by task {result.task}"))
    if result.zeros_percent is not None:
        console.print(f"{result.zeros_percent:.1f} % of the quantized weights are 0")
    if result.trials is not None:
        console.print(trials_table(result.trials))
        for line in result.trials.told:
            console.print(line, soft_wrap=True)
    if result.tuning is not None:
        console.print(result.tuning.told, soft_wrap=True)
        before, after = result.tuning.before.headline, result.quantized.headline
        console.print(f"before it {said(before)}, after it {said(after)}")
    for one in result.exports:
        console.print(
            f"parity of {one.name} on {one.parity.samples:,} samples: {one.parity.summary}",
        )
        if one.form:
            console.print(f"form of {one.name}: {one.form}")
    for line in speed_lines(result):
        console.print(line)
    if result.target is not None:
        console.print(result.target.told)
    for name, reason in result.not_exported.items():
        console.print(f"no file by {name}: {reason}")
    if not result.exports:
        console.print("nothing was exported: float and quantized network only")
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in result.seconds.items())
    console.print(f"{seconds}; written to {out}")


def _dry_run(
    model: str,
    weights: Path | None,
    data: str,
    shape: str | None,
    recipe: Recipe | Plan,
    pixels: Pixels,
    dynamic: tuple[Axis, ...],
    clips: Clips | None,
) -> Plan:
    """Show the plan, and return it."""
    size = read_shape(shape) if shape is not None else None if data else input_shape(model)
    if size is not None:
        inputs: Tensor | Samples = torch.zeros(2, *size)
    elif data:
        loaded = pixels.load(data)
        inputs, size = loaded.test.samples([0, 0]), loaded.image_shape
    else:
        raise ModelError(
            f"the input shape of {model!r} is not known; give --input-shape C,H,W or --data"
        )
    built = (
        new_model(model, shape=size) if weights is None else load_model(model, weights, shape=size)
    )
    network = prepare(built, Samples.of(inputs).with_dynamic(dynamic))
    plan = make_plan(network, recipe)
    if clips is not None:
        clips.check(built)
        plan = clips.applied(plan)
    console.print(plan_table(plan))
    if recipe.budget is not None:
        console.print(
            f"these bits change when data are seen, to meet a budget of {recipe.budget}",
        )
    for skipped in network.skipped:
        console.print(f"stays float: {skipped.name}: {skipped.reason}")
    return plan
