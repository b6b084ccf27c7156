"""The part of `subbyte train` that trains a quantized network: --from, --recipe and --qat."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from subbyte.cli.common import write_page
from subbyte.cli.progress import progress
from subbyte.cli.quantize import show
from subbyte.cli.source import find_source
from subbyte.cli.terminal import console
from subbyte.data import Amount, DataSet
from subbyte.engine.limits import Limits
from subbyte.errors import ModelError, RecipeError
from subbyte.exporters.packed import read
from subbyte.io.settings import fingerprint
from subbyte.jobs import Job
from subbyte.jobs.training import (
    About,
    Begin,
    FromFile,
    FromFloat,
    FromNothing,
    FromWalk,
    train,
)
from subbyte.learn.qat import recipe_of
from subbyte.learn.training import TrainSettings
from subbyte.models import load_model, new_model
from subbyte.recipe import Plan, Recipe, load_request
from subbyte.records import read_document
from subbyte.records.training import LOG, QUANTIZED, Log, Trained
from subbyte.tasks import read_tasks


@dataclass(frozen=True)
class Asked:
    """A quantized network as the options name it: of a folder or file that has one (`source`), by a
    recipe, or by `qat`; "" for the others. bench: whether its files are timed.
    """

    source: str
    recipe: str
    qat: str
    calibration: Amount
    bench: bool

    def __post_init__(self) -> None:
        if self.source and self.recipe:
            raise RecipeError(
                "--from begins with a quantized network, --recipe with a walk; give one of them"
            )
        if self.qat and (self.source or self.recipe):
            raise RecipeError(
                "--qat rounds a float network as it is trained; with --from or --recipe it is "
                "quantized already; do without --qat"
            )

    @property
    def wanted(self) -> bool:
        """Whether a quantized network is to be trained."""
        return bool(self.source or self.recipe or self.qat)


@dataclass(frozen=True)
class Training:
    """A training as the options name it, quantized or not. about: the data and how it is read;
    resume: at another rate.
    """

    name: str
    weights: Path | None
    data: DataSet
    settings: TrainSettings
    out: Path
    about: About
    device: str
    resume: bool

    def network(self) -> nn.Module:
        """The network to begin with: with its weights, or with random ones by the seed."""
        classes, shape = len(self.data.classes) or None, self.data.image_shape
        torch.manual_seed(self.settings.seed)
        if self.weights is None:
            return new_model(self.name, classes, shape)
        return load_model(self.name, self.weights, classes, shape)

    def facts(self, network: nn.Module) -> About:
        """About the run: the names of all that it depends on, and digests of what they stand
        for.
        """
        digests = {"images": self.data.fingerprint, "initial": fingerprint(network)}
        return {"model": self.name, **self.about, **digests}


def _check_start(asked: Asked, training: Training) -> None:
    """Raises ModelError or RecipeError where what is asked for begins with a trained network."""
    settings = training.settings
    if training.weights is not None:
        return
    if not asked.qat:
        raise ModelError(
            "--from and --recipe begin with a trained float network; give its --weights"
        )
    if settings.distill:
        raise RecipeError("--distill: there is no float network to learn from; give its --weights")
    if settings.qat is not None and settings.qat.activation_bits is not None:
        raise RecipeError(
            "--activation-bits: ranges begin with those of a trained network; train it without "
            "it, and give its --weights"
        )


def run_quantized(asked: Asked, training: Training, *, page: bool) -> Trained | None:
    """Train, write and show the quantized network; of several processes the first does all but the
    training. None for the others.
    """
    _check_start(asked, training)
    data, settings, out = training.data, training.settings, training.out
    model, named = training.network(), str(training.about["data"])
    count, seed = asked.calibration.of(data), settings.seed
    begin: Begin
    recipe: Recipe | Plan
    if asked.source:
        found = find_source(Path(asked.source), training.name, named)
        begin, count, seed = FromFile(found.packed), found.calibration, found.seed
        recipe = read(found.packed).plan
        if found.result and not settings.tasks:
            settings = replace(settings, tasks=read_tasks(found.result.task))
    elif asked.recipe:
        begin, recipe = FromWalk(), load_request(asked.recipe, [])
    else:
        assert settings.qat is not None
        begin = FromNothing() if training.weights is None else FromFloat()
        recipe = recipe_of(settings.qat, settings.float_layers)
        count = min(count, len(data.drawn_from))
    job = Job(
        model=training.name,
        data=named,
        recipe=recipe,
        calibration=count,
        seed=seed,
        tasks=settings.tasks,
        bench=asked.bench,
        limits=Limits(device=training.device),
        about=tuple((key, str(value or "")) for key, value in training.about.items()),
    )
    start = {"from": asked.source, "recipe": asked.recipe, "calibration": count}
    about = {**training.facts(model), **start}
    with progress() as report:
        _, result = train(
            begin, job, settings, model, data, out, report, about, resume=training.resume
        )
    if result is None:
        return None
    show(result, out / QUANTIZED)
    write_page(page, out / QUANTIZED)
    console.print(f"training, learning rate {settings.lr:g}: {out}/*", soft_wrap=True)
    return Trained(log=read_document(out / LOG, Log), result=result)
