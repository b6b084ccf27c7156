"""subbyte sweep: many runs over a space of settings, on several processes or machines; it goes on
where it stopped.
"""

import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from subbyte.analyses.sweeps import SPACES, Local, Ray, Space, SweepResult, load_space, make_tasks
from subbyte.analyses.sweeps import sweep as run
from subbyte.analyses.sweeps.choose import summaries
from subbyte.analyses.sweeps.space import Measured, Run
from subbyte.analyses.sweeps.store import Results, Task
from subbyte.analyses.sweeps.work import load_inputs
from subbyte.cli.answers import Answer, command
from subbyte.cli.common import PageOption, write_page
from subbyte.cli.fitting import Table
from subbyte.cli.numbers import numeric, read_seeds
from subbyte.cli.progress import progress
from subbyte.cli.terminal import Exit, console, errors, interrupted
from subbyte.data import draw_samples
from subbyte.engine.judging import forward_of
from subbyte.errors import RecipeError
from subbyte.graph import Samples
from subbyte.io.numbers import Real, Whole
from subbyte.methods import Engine
from subbyte.records.outcome import Done, name_of
from subbyte.records.sweep import MARK, Planned, Swept

ASK = 10_000
"""Runs from which on it asks whether so many are meant."""
_SHOWN, _FAILURES = 40, 3  # rows of a list, errors that are shown
# forward passes that a walk takes, about; measured on resnet20 with the default recipe
_WALK = 12.0


@command
def sweep(
    space: Annotated[str, typer.Argument(help=f"A YAML file, or a preset: {', '.join(SPACES)}.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for results; the same command goes on in it.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="In place of the file's.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="Float weights, in place of the file's `checkpoint`.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="In place of the file's.")] = None,
    normalize: Annotated[str | None, typer.Option(help="In place of the file's.")] = None,
    task: Annotated[str | None, typer.Option(help="In place of the file's.")] = None,
    calibration: Annotated[int | None, numeric(Whole(1), "In place of the file's.")] = None,
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", "--seed", help="In place of the file's, such as 0,1,2 or 0-9."),
    ] = None,
    jobs: Annotated[int, numeric(Whole(1, 1024), "Worker processes on this machine.")] = 1,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster, `auto`, or `local` to start one.")
    ] = None,
    gpus: Annotated[float, numeric(Real(0, 1024), "With --ray: GPUs a run.")] = 0.0,
    track: Annotated[
        str | None, typer.Option(help="Record runs besides: mlflow, or mlflow:URI.")
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Do runs that failed before again.")
    ] = False,
    keep_models: Annotated[
        bool,
        typer.Option("--keep-models", help="Keep each run's network: runs/HASH.safetensors."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs, estimate the time, and stop.")
    ] = False,
    page: PageOption = True,
    yes: Annotated[
        bool, typer.Option("--yes", help=f"Do not ask about {ASK:,} runs or more.")
    ] = False,
) -> Answer[Swept | Planned]:
    """Do every run of a space, and write results.csv, summary.csv, what was chosen, and a page to
    look at.
    """
    changes = {
        "model": model,
        "checkpoint": weights,
        "data": data,
        "normalize": normalize,
        "task": task,
        "calibration": calibration,
        "seeds": None if seeds is None else read_seeds(seeds),
        "keep_models": keep_models or None,
    }
    asked = load_space(space, {name: value for name, value in changes.items() if value is not None})
    if asked.keep_models and ray is not None:
        raise RecipeError(
            "--ray: networks are not kept on a cluster, whose workers have none of your files; "
            "leave out keep_models, or run with --jobs"
        )
    _ask(asked, yes)
    if dry_run:
        return Answer(_dry_run(asked, jobs, out))
    if out is None:
        raise typer.BadParameter("--out is needed (unless with --dry-run)")
    tracker = None if track is None else _tracker(track, asked.name)

    def engine(cache: Path) -> Engine[Task]:
        return Local(jobs, cache) if ray is None else Ray(ray, gpus=gpus)

    try:
        with progress() as report:
            result = run(asked, out, engine, retry=retry, tracker=tracker, report=report)
    except KeyboardInterrupt as reason:
        left = f"runs that had ended are kept in {out}, and the same command goes on"
        raise interrupted(reason, left) from None
    _show(result, asked, out)
    code = Exit.FAILED if result.failures else Exit.DONE
    return Answer(_record(result, asked), write_page(page, out), code)


def _record(result: SweepResult, space: Space) -> Swept:
    return Swept(
        name=space.name,
        runs=[row.cells() for row in result.rows],
        settings=[one.cells() for one in summaries(result.rows)],
        chosen=[one.cells() for one in result.chosen],
        failed=dict(result.failures),
    )


def _ask(space: Space, yes: bool) -> None:
    count = space.count()
    if (
        count >= ASK
        and not yes
        and not typer.confirm(f"{count:,} runs: is that what you want?", err=True)
    ):
        raise typer.Exit(Exit.ERROR)


def _tracker(text: str, name: str) -> Any:
    kind, _, uri = text.partition(":")
    if kind != "mlflow":
        raise RecipeError(f"--track must be mlflow or mlflow:URI, got {text!r}")
    from subbyte.analyses.sweeps.track import MlflowTracker

    return MlflowTracker(uri, name)


def _dry_run(space: Space, jobs: int, out: Path | None) -> Planned:
    tasks = make_tasks(space)
    runs = [task.run for task in tasks]
    table = Table(title=f"{len(runs):,} runs of space {space.name}")
    table.add_column("run", justify="right")
    table.add_column("setting")
    table.add_column("seed", justify="right")
    for number, one in enumerate(runs[:_SHOWN], 1):
        text = ", ".join(f"{name} = {value}" for name, value in one.setting.items())
        table.add_row(str(number), text or "as the recipe", str(one.seed))
    console.print(table)
    if len(runs) > _SHOWN:
        console.print(f"... and {len(runs) - _SHOWN:,} more")
    if out is not None and (out / MARK).exists():
        results = Results(out, space.name)
        runs = [task.run for task in tasks if not results.finished(task)]
        console.print(f"{len(tasks) - len(runs):,} of them are in {out}", soft_wrap=True)
    seconds = sum(_estimate(group) * count for group, count in _groups(runs)) / jobs
    console.print(
        f"about {_time(seconds)} with {jobs} at a time, by the time of one forward pass; recipes "
        f"differ",
    )
    named = [{"setting": task.run.setting, "seed": task.run.seed} for task in tasks]
    return Planned(name=space.name, runs=named, left=len(runs), seconds=seconds)


def _time(seconds: float) -> str:
    if seconds > 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds > 90 else f"{seconds:.0f} s"


def _groups(runs: list[Run]) -> list[tuple[Run, int]]:
    """A run for each distinct input, and how many runs have it."""
    first: dict[tuple[Any, ...], Run] = {}
    for one in runs:
        first.setdefault(one.inputs, one)
    return [(first[inputs], count) for inputs, count in Counter(one.inputs for one in runs).items()]


def _estimate(one: Run) -> float:
    """Seconds of a run, very roughly: passes over calibration images and over those it is measured
    on.
    """
    inputs = load_inputs(*one.inputs)
    drawn, test = draw_samples(inputs.data, min(one.calibration, 64), one.seed)
    forward, samples = forward_of(inputs.model), Samples.of(drawn)
    forward(samples)  # the first pass is slower
    start = time.perf_counter()
    forward(samples)
    each = (time.perf_counter() - start) / len(samples)
    return each * (
        _WALK * one.calibration + (len(test) if one.split is Measured.TEST else one.validation)
    )


def _show(result: SweepResult, space: Space, out: Path) -> None:
    for one in result.chosen:
        setting = ", ".join(f"{name} = {value}" for name, value in one.setting.items())
        scored = next(row.outcome.score for row in result.rows if isinstance(row.outcome, Done))
        score = one.metrics.get("quantized_top1_percent")
        score = score or one.metrics["quantized_score_percent"]
        spread = "" if score.half is None else f" ± {score.half:.2f}"
        console.print(
            f"chosen by {space.choose} on validation images: {setting}; "
            f"test {name_of(scored)} {score.mean:.2f}{spread} % over {one.seeds} seeds",
            soft_wrap=True,
        )
    failures = result.failures
    for key, why in failures[:_FAILURES]:
        errors.print(
            f"run {key} failed: {why}",
            soft_wrap=True,
        )
    failed = f", {len(failures)} failed (see the column error)" if failures else ""
    console.print(
        f"{len(result.rows)} runs{failed}: {out}/results.csv, summary.csv",
        soft_wrap=True,
    )
