"""The part of `subbyte train` that trains a quantized network: --from and --recipe."""

from dataclasses import dataclass, replace
from pathlib import Path

from subbyte.cli.common import write_page
from subbyte.cli.progress import progress
from subbyte.cli.quantize import show
from subbyte.cli.source import find_source
from subbyte.cli.terminal import console
from subbyte.data import DataSet
from subbyte.engine.limits import Limits
from subbyte.errors import ModelError, RecipeError
from subbyte.exporters.packed import read
from subbyte.io.settings import fingerprint
from subbyte.jobs import Job
from subbyte.jobs.training import FOLDER, About, Begin, train
from subbyte.learn.training import TrainSettings
from subbyte.models import load_model
from subbyte.recipe import Plan, Recipe, load_request
from subbyte.records import read_document
from subbyte.records.training import LOG, Log, Trained
from subbyte.tasks import read_tasks


@dataclass(frozen=True)
class Asked:
    """A quantized network as the options name it: of a folder or file that has one (`source`), or
    by a recipe; "" for the other. estimator: of weights in training.
    """

    source: str
    recipe: str
    calibration: int
    estimator: str

    def __post_init__(self) -> None:
        if self.source and self.recipe:
            raise RecipeError(
                "--from begins with a quantized network, --recipe with a walk; give one of them"
            )

    @property
    def wanted(self) -> bool:
        """Whether a quantized network is to be trained."""
        return bool(self.source or self.recipe)


def run_quantized(
    asked: Asked,
    name: str,
    weights: Path | None,
    data: DataSet,
    settings: TrainSettings,
    out: Path,
    about: About,
    device: str,
    page: bool,
) -> Trained | None:
    """Train, write and show the quantized network; of several processes the first does all but the
    training. None for the others.
    """
    if weights is None:
        raise ModelError(
            "--from and --recipe begin with a trained float network; give its --weights"
        )
    model = load_model(name, weights, len(data.classes) or None, data.image_shape)
    named, count, seed, packed = str(about["data"]), asked.calibration, settings.seed, ""
    if asked.source:
        found = find_source(Path(asked.source), name, named)
        count, seed, packed = found.calibration, found.seed, str(found.packed)
        recipe: Recipe | Plan = read(found.packed).plan
        if found.result and not settings.tasks:
            settings = replace(settings, tasks=read_tasks(found.result.task))
    else:
        recipe = load_request(asked.recipe, [])
    job = Job(
        model=name,
        data=named,
        recipe=recipe,
        calibration=count,
        seed=seed,
        tasks=settings.tasks,
        limits=Limits(device=device),
        about=tuple((key, str(value or "")) for key, value in about.items()),
    )
    start = {"from": asked.source, "recipe": asked.recipe, "calibration": count}
    facts = {"images": data.fingerprint, "initial": fingerprint(model)}
    about = {"model": name, **about, **facts, **start, "estimator": asked.estimator}
    with progress() as report:
        _, result = train(
            Begin(packed, asked.estimator), job, settings, model, data, out, report, about
        )
    if result is None:
        return None
    show(result, out / FOLDER)
    write_page(page, out / FOLDER)
    console.print(f"training, learning rate {settings.lr:g}: {out}/*", soft_wrap=True)
    return Trained(log=read_document(out / LOG, Log), result=result)
