"""subbyte train: train a built-in or own network from images and targets, in float or on a low-bit
grid.
"""

from collections.abc import Iterator
from contextlib import contextmanager
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
    InterpolationOption,
    ModelOption,
    NormalizeOption,
    PageOption,
    Pixels,
    ResizeOption,
    SeedOption,
    TaskOption,
    WeightsOption,
    write_page,
)
from subbyte.cli.numbers import USUAL, amount, numeric
from subbyte.cli.optimizing import read_methods, read_methods_settings
from subbyte.cli.progress import progress, stage
from subbyte.cli.terminal import console, interrupted
from subbyte.cli.training import Asked, Training, run_quantized
from subbyte.data import Amount, DataSet
from subbyte.errors import RecipeError
from subbyte.io.numbers import Real, Whole
from subbyte.learn.optimizers import OPTIMIZERS, RESOLUTION_SCHEDULES, UPDATE_ROUNDINGS
from subbyte.learn.qat import WEIGHT_QUANTIZERS
from subbyte.learn.training import TrainSettings
from subbyte.learn.training import train as run
from subbyte.learn.training.augment import AUGMENTATIONS
from subbyte.learn.training.checkpoint import CHECKPOINT
from subbyte.learn.training.lr_schedules import LR_SCHEDULES
from subbyte.learn.training.rates import usual_rate
from subbyte.learn.training.record import Record
from subbyte.learn.training.settings import PRECISIONS
from subbyte.methods import Task
from subbyte.models import new_model
from subbyte.pages.scores import number
from subbyte.records import read_document
from subbyte.records.training import LOG, Log, Trained
from subbyte.tasks import Classification, read_tasks
from subbyte.tuning.estimators import ESTIMATORS

FeedbackOption = Annotated[
    bool | None,
    typer.Option("--error-feedback/--no-error-feedback", help="Carry over what rounding leaves."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Another setting of --optimizer or --qat, NAME=VALUE in YAML; repeatable."
    ),
]
MOST_RATE = 10**6
"""A learning rate, or what goes with one, that is no slip."""


@command
def train(
    model: ModelOption,
    data: DataOption,
    out: Annotated[
        Path, typer.Option(help="Folder for checkpoints and logs; the same command goes on in it.")
    ],
    layers: Annotated[
        int | None, numeric(Whole(1, 200), "With --model resnet: n, for 6n + 2 layers.")
    ] = None,
    weights: WeightsOption = None,
    task: TaskOption = None,
    epochs: Annotated[int, numeric(Whole(1), "Passes over the training images.")] = 20,
    batch_size: Annotated[int, numeric(Whole(1), "Images a step, of each process.")] = 128,
    optimizer: Annotated[str, typer.Option(help=f"{', '.join(OPTIMIZERS)}.")] = "sgd",
    lr: Annotated[
        float | None,
        numeric(
            Real(0, MOST_RATE, above=True),
            "Learning rate, at its highest. Default: by optimizer and network; 0.1 for SGD and "
            "0.002 for Adam with normalization layers, half of it for small networks without and "
            "a tenth for deep ones, a tenth of all that from trained weights.",
        ),
    ] = None,
    momentum: Annotated[float | None, numeric(Real(0, MOST_RATE), "Of the SGD family.")] = None,
    nesterov: Annotated[
        bool | None, typer.Option("--nesterov/--no-nesterov", help="Of the SGD family.")
    ] = None,
    weight_decay: Annotated[
        float | None, numeric(Real(0, MOST_RATE), "Part of the direction of every update.")
    ] = None,
    lr_schedule: Annotated[
        str, typer.Option(help=f"Of the learning rate: {', '.join(LR_SCHEDULES)}.")
    ] = "cosine",
    warmup: Annotated[
        float, numeric(Real(0, MOST_RATE), "Epochs over which the learning rate rises from 0.")
    ] = 0.0,
    resolution: Annotated[
        int | None, numeric(Whole(-64, 64), "Of rounded updates at first: steps of 2^-N.")
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(help=f"How the resolution rises: {', '.join(RESOLUTION_SCHEDULES)}."),
    ] = None,
    rounding: Annotated[
        str | None, typer.Option(help=f"Of updates: {', '.join(UPDATE_ROUNDINGS)}.")
    ] = None,
    error_feedback: FeedbackOption = None,
    qat: Annotated[
        str | None,
        typer.Option(
            help=f"Quantization-aware training, to end on a grid: {', '.join(WEIGHT_QUANTIZERS)}."
        ),
    ] = None,
    bits: Annotated[int | None, numeric(Whole(2, 8), "With --qat: bits of a weight.")] = None,
    activation_bits: Annotated[
        int | None,
        numeric(Whole(2, 8), "With --qat: bits of what layers multiply; float unless given."),
    ] = None,
    extra_bits: Annotated[
        int | None, numeric(Whole(0, 64), "With --qat grid: bits that updates add up on besides.")
    ] = None,
    float_layers: Annotated[
        list[str] | None,
        typer.Option(help="With --qat: pattern of layers to keep float; repeatable."),
    ] = None,
    source: Annotated[
        str,
        typer.Option(
            "--from", help="Train on a quantized network: a folder of quantize, or a packed file."
        ),
    ] = "",
    recipe: Annotated[
        str, typer.Option(help="Quantize --weights by this recipe first, and train on that.")
    ] = "",
    calibration: Annotated[
        Amount,
        amount(
            "With --recipe or --activation-bits: images to calibrate on, drawn by --seed; or a "
            "share, 1%."
        ),
    ] = USUAL,
    estimator: Annotated[
        str,
        typer.Option(
            help=f"Of a quantized network: what weights are on the way: {', '.join(ESTIMATORS)}."
        ),
    ] = "straight",
    distill: Annotated[
        float,
        numeric(
            Real(0, 1),
            "Of a quantized network: share of the loss that is the distance from the float "
            "network's outputs.",
        ),
    ] = 0.0,
    set_: SetOption = None,
    label_smoothing: Annotated[
        float,
        numeric(
            Real(0, 1, below=True), "Of classification: share of a label spread over all classes."
        ),
    ] = 0.0,
    augment: Annotated[str, typer.Option(help=f"{', '.join(AUGMENTATIONS)}.")] = "none",
    validation: Annotated[
        int, numeric(Whole(0), "Training images kept apart and measured every epoch.")
    ] = 0,
    evaluate_every: Annotated[
        int, numeric(Whole(1), "Epochs between two measurements of scores.")
    ] = 1,
    seed: SeedOption = 0,
    precision: Annotated[
        str, typer.Option(help=f"Of the forward pass: {' or '.join(PRECISIONS)}.")
    ] = "float32",
    log_every: Annotated[int, numeric(Whole(1), "Steps between two rows of steps.csv.")] = 10,
    device: DeviceOption = "cpu",
    normalize: NormalizeOption = None,
    resize: ResizeOption = None,
    crop: CropOption = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the run in --out at another --lr, --lr-schedule or --warmup; the "
            "optimizer keeps its state.",
        ),
    ] = False,
    interpolation: InterpolationOption = None,
    bench: BenchOption = True,
    page: PageOption = True,
) -> Answer[Trained] | None:
    """Train a network; stop it at any time, and the same command goes on. `torchrun` starts it on
    several devices.
    """
    asked = Asked(source, recipe, qat or "", calibration, bench)
    if estimator not in ESTIMATORS:
        raise RecipeError(f"--estimator: unknown {estimator!r}; known: {', '.join(ESTIMATORS)}")
    options = {
        "momentum": momentum,
        "nesterov": nesterov,
        "weight_decay": weight_decay,
        "resolution": resolution,
        "schedule": schedule,
        "rounding": rounding,
        "error_feedback": error_feedback,
        "bits": bits,
        "activation_bits": activation_bits,
        "extra_bits": extra_bits,
    }
    said = {name: value for name, value in options.items() if value is not None}
    said |= read_methods_settings(set_ or [], set(said))
    settings = TrainSettings.of(
        epochs=epochs,
        batch_size=batch_size,
        lr=1.0 if lr is None else lr,
        lr_schedule=lr_schedule,
        warmup=warmup,
        tasks=_tasks(task, label_smoothing),
        augment=augment,
        validation=validation,
        evaluate_every=evaluate_every,
        seed=seed,
        precision=precision,
        log_every=log_every,
        float_layers=tuple(float_layers or ()),
        estimator=estimator,
        distill=distill,
        **read_methods(optimizer, qat, said, seed),
    )
    name, pixels = _name(model, layers), Pixels(normalize, resize, crop, interpolation)
    with stage("read"):
        images = pixels.load(data)
        if lr is None:
            settings = _with_usual_rate(settings, name, images, trained=weights is not None)
    with _kept(out):
        about = {"data": data, **vars(pixels)}
        training = Training(name, weights, images, settings, out, about, device, resume)
        done = run_quantized(asked, training, page=page) if asked.wanted else _run(training)
        return None if done is None else Answer(done, write_page(page, out))


def _with_usual_rate(
    settings: TrainSettings, name: str, images: DataSet, *, trained: bool
) -> TrainSettings:
    network = new_model(name, len(images.classes) or None, images.image_shape)
    return replace(settings, lr=usual_rate(settings.optimizer, network, trained=trained))


def _run(training: Training) -> Trained | None:
    """Train, and say how it went; of several processes the first does. None for the others."""
    network, settings, out = training.network(), training.settings, training.out
    with progress() as report:
        record = run(
            network,
            training.data,
            settings,
            out,
            about=training.facts(network),
            device=training.device,
            progress=report,
            resume=training.resume,
        )
    if not record.epochs:
        return None
    after = f"after epoch {record.epochs[-1]['epoch']}, learning rate {settings.lr:g}"
    console.print(f"test {_scores(record)} {after}; files: {out}/*", soft_wrap=True)
    return Trained(log=read_document(out / LOG, Log))


def _scores(record: Record) -> str:
    """The last scores on test images, such as `top-1 97.21 %`; the loss where there are none."""
    last, scoring, told = record.epochs[-1], record.scoring, list[str]()
    for score in scoring.scores:
        found = score.model_copy(update={"value": last.get(scoring.column("test", score))})
        head = f"{scoring.heads[score.head]}: " if len(scoring.heads) > 1 else ""
        text = " ".join(filter(None, (score.name, number(found) or "unknown", score.unit)))
        told.append(head + text)
    return ", ".join(told) or f"loss {last['test_loss']:.5g}"


def _tasks(named: str | None, label_smoothing: float) -> tuple[Task, ...]:
    """The tasks of --task; those that classify smooth labels, and are meant where none is named but
    labels are to be smoothed. Raises RecipeError where there is nothing to smooth.
    """
    if not label_smoothing:
        return read_tasks(named)
    tasks = read_tasks(named or "classification")
    if not any(isinstance(task, Classification) for task in tasks):
        raise RecipeError(f"--label-smoothing is of classification, and --task is {named}")
    return tuple(
        replace(task, label_smoothing=label_smoothing) if isinstance(task, Classification) else task
        for task in tasks
    )


def _name(model: str, layers: int | None) -> str:
    """The network's name: `resnet` takes its depth from `layers`."""
    if (model == "resnet") != (layers is not None):
        raise RecipeError(
            "--layers N goes with --model resnet, the CIFAR-10 ResNet of 6N + 2 layers, and only "
            "with it"
        )
    return model if layers is None else f"cifar-resnet{6 * layers + 2}"


@contextmanager
def _kept(out: Path) -> Iterator[None]:
    """Say what an interrupted run leaves."""
    try:
        yield
    except KeyboardInterrupt as reason:
        there = (out / CHECKPOINT).exists()
        left = (
            f"the checkpoint of the last whole epoch is in {out}, and the same command goes on"
            if there
            else "it was in the first epoch, and there is no checkpoint yet"
        )
        raise interrupted(reason, left) from None
