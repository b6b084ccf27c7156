"""subbyte train: train a built-in or own network from labelled images, in float or on a low-bit
grid.
"""

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import yaml

from subbyte.cli.common import (
    CropOption,
    DataOption,
    DeviceOption,
    ModelOption,
    NormalizeOption,
    ResizeOption,
    WeightsOption,
    command,
    console,
    errors,
    progress,
)
from subbyte.data import DataSet, load_data
from subbyte.errors import RecipeError
from subbyte.io.settings import fingerprint
from subbyte.learn.optimizers import OPTIMIZERS
from subbyte.learn.optimizers.rounding import UPDATE_ROUNDINGS
from subbyte.learn.optimizers.schedules import SCHEDULES
from subbyte.learn.training import PACKED, TrainSettings, pack
from subbyte.learn.training import train as run
from subbyte.learn.training.augment import AUGMENTATIONS
from subbyte.learn.training.rates import RATES
from subbyte.models import load_model, new_model

ON_GRID = ("grid", "ste", "lsq")
FeedbackOption = Annotated[
    bool | None,
    typer.Option("--error-feedback/--no-error-feedback", help="Carry over what rounding leaves."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Another setting of the optimizer, NAME=VALUE in YAML; repeatable."),
]


@command
def train(
    model: ModelOption,
    data: DataOption,
    out: Annotated[
        Path, typer.Option(help="Folder for checkpoints and logs; the same command goes on in it.")
    ],
    layers: Annotated[
        int | None, typer.Option(help="With --model resnet: n, for 6n + 2 layers.")
    ] = None,
    weights: WeightsOption = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 20,
    batch_size: Annotated[int, typer.Option(help="Images a step, of each process.")] = 128,
    optimizer: Annotated[str, typer.Option(help=f"{', '.join(OPTIMIZERS)}.")] = "sgd",
    lr: Annotated[float, typer.Option(help="Learning rate, at its highest.")] = 0.1,
    momentum: Annotated[float | None, typer.Option(help="Of the SGD family.")] = None,
    nesterov: Annotated[
        bool | None, typer.Option("--nesterov/--no-nesterov", help="Of the SGD family.")
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="Part of the direction of every update.")
    ] = None,
    rate: Annotated[
        str, typer.Option(help=f"Course of the learning rate: {', '.join(RATES)}.")
    ] = "cosine",
    warmup: Annotated[
        float, typer.Option(help="Epochs over which the learning rate rises from 0.")
    ] = 0.0,
    resolution: Annotated[
        int | None, typer.Option(help="Of rounded updates at first: steps of 2^-N.")
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help=f"How it rises: {', '.join(SCHEDULES)}.")
    ] = None,
    rounding: Annotated[
        str | None, typer.Option(help=f"Of updates: {', '.join(UPDATE_ROUNDINGS)}.")
    ] = None,
    error_feedback: FeedbackOption = None,
    compat: Annotated[
        str | None, typer.Option(help="qsgd and qtadamw as published in 2021 or 2023.")
    ] = None,
    bits: Annotated[int | None, typer.Option(help="Train on a grid of so many bits.")] = None,
    extra_bits: Annotated[
        int | None, typer.Option(help="With --on grid: bits that updates add up on besides.")
    ] = None,
    on: Annotated[
        str, typer.Option(help="With --bits: grid (no float weights are kept), ste or lsq.")
    ] = "grid",
    float_layers: Annotated[
        list[str] | None, typer.Option(help="Pattern of layers to keep float; repeatable.")
    ] = None,
    set_: SetOption = None,
    label_smoothing: Annotated[
        float, typer.Option(help="Share of a label spread over all classes.")
    ] = 0.0,
    augment: Annotated[str, typer.Option(help=f"{', '.join(AUGMENTATIONS)}.")] = "none",
    validation: Annotated[
        int, typer.Option(help="Training images kept apart and measured every epoch.")
    ] = 0,
    evaluate_every: Annotated[
        int, typer.Option(help="Epochs between two measurements of accuracy.")
    ] = 1,
    seed: Annotated[
        int, typer.Option(help="Of initial weights, order, augmentation and rounding.")
    ] = 0,
    precision: Annotated[
        str, typer.Option(help="Of the forward pass: float32 or bfloat16.")
    ] = "float32",
    log_every: Annotated[int, typer.Option(help="Steps between two rows of steps.csv.")] = 10,
    device: DeviceOption = "cpu",
    normalize: NormalizeOption = None,
    resize: ResizeOption = None,
    crop: CropOption = None,
) -> None:
    """Train a network; stop it at any time, and the same command goes on. `torchrun` starts it on
    several devices.
    """
    options = {
        "momentum": momentum,
        "nesterov": nesterov,
        "weight_decay": weight_decay,
        "resolution": resolution,
        "schedule": schedule,
        "rounding": rounding,
        "error_feedback": error_feedback,
        "compat": compat,
        "extra_bits": extra_bits,
    }
    chosen: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    chosen |= {"name": optimizer, **_settings(set_ or [], {"name", "seed", "bits", *chosen})}
    method, quantizer = _on_grid(chosen, bits, on, seed, float_layers or [])
    settings = TrainSettings(
        epochs,
        batch_size,
        lr,
        method,
        rate,
        warmup,
        label_smoothing,
        augment,
        validation,
        evaluate_every,
        seed,
        precision,
        log_every,
        quantizer,
        tuple(float_layers or ()),
    )
    images = load_data(data, normalize=normalize, resize=resize, crop=crop)
    with _kept(out):
        about = {"data": data, "normalize": normalize, "resize": resize, "crop": crop}
        _run(_name(model, layers), weights, images, settings, out, about, device, bits)


def _run(
    name: str,
    weights: Path | None,
    images: DataSet,
    settings: TrainSettings,
    out: Path,
    about: dict[str, Any],
    device: str,
    bits: int | None,
) -> None:
    """Train, pack what is on grids, and say how it went; of several processes the first does the
    last two.
    """
    classes = len(images.classes)
    torch.manual_seed(settings.seed)
    network = new_model(name, classes) if weights is None else load_model(name, weights, classes)
    about = {"model": name, **about, "images": images.fingerprint, "initial": fingerprint(network)}
    with progress() as report:
        record = run(network, images, settings, out, about=about, device=device, progress=report)
    if not record.epochs:
        return
    if bits is not None:
        _pack(name, classes, images, bits, settings, out)
    last = record.epochs[-1]
    text = (
        f"test top-1 {last['test_top1_percent']:.2f} % after epoch {last['epoch']}; files: {out}/*"
    )
    console.print(text, highlight=False, soft_wrap=True)


def _name(model: str, layers: int | None) -> str:
    """The network's name: `resnet` takes its depth from `layers`."""
    if (model == "resnet") != (layers is not None):
        raise RecipeError(
            "--layers N goes with --model resnet, the CIFAR-10 ResNet of 6N + 2 layers, and only "
            "with it"
        )
    return model if layers is None else f"cifar-resnet{6 * layers + 2}"


def _settings(overrides: list[str], said: set[str]) -> dict[str, Any]:
    """What --set says. said: settings that other options say; they are refused."""
    found: dict[str, Any] = {}
    for override in overrides:
        name, equals, text = (part.strip() for part in override.partition("="))
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as reason:
            raise RecipeError(f"--set {override!r}: {text!r} is not a YAML value") from reason
        if not equals:
            raise RecipeError(f"--set {override!r}: expected NAME=VALUE, such as betas=[0.9, 0.99]")
        if name in said:
            option = "optimizer" if name == "name" else name.replace("_", "-")
            raise RecipeError(
                f"--set {override!r}: --{option} says what {name} is; do without this --set"
            )
        found[name] = value
    return found


def _on_grid(
    method: dict[str, Any], bits: int | None, on: str, seed: int, float_layers: list[str]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The optimizer and the quantizer that `--bits` and `--on` ask for."""
    name = str(method["name"])
    if on not in ON_GRID:
        raise RecipeError(f"--on must be one of {', '.join(ON_GRID)}, got {on!r}")
    if bits is None and (on != "grid" or name.startswith("grid-") or float_layers):
        raise RecipeError(
            "training on a grid needs its width: add --bits, or do without --on, --float-layers "
            "and a grid optimizer"
        )
    random = (
        name in ("qsgd", "qtadamw")
        or name.startswith("grid-")
        or (bits is not None and on == "grid")
    )
    method = method | ({"seed": seed} if random and "compat" not in method else {})
    if bits is None:
        return method, None
    if on != "grid":
        return method, {"name": on, "bits": bits}
    if name.removeprefix("grid-") not in ("sgd", "adamw"):
        raise RecipeError(
            f"--bits with --on grid goes with --optimizer sgd or adamw, not {name}; that goes with "
            f"--on ste or lsq"
        )
    return method | {"name": f"grid-{name.removeprefix('grid-')}", "bits": bits}, None


def _pack(
    model: str, classes: int, images: DataSet, bits: int, settings: TrainSettings, out: Path
) -> None:
    trained = load_model(model, out / "model.safetensors", classes=classes)
    packed = pack(trained, images.test, bits, settings.float_layers, out / PACKED)
    console.print(
        f"every weight is on its grid: {packed.bits_per_weight:.2f} bits a weight, "
        f"{packed.packed_bytes:,} bytes, "
        f"in {out / PACKED}",
        highlight=False,
        soft_wrap=True,
    )


class _kept:  # noqa: N801
    """Says what an interrupted run leaves."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is KeyboardInterrupt:
            there = (self._out / "checkpoint.pt").exists()
            errors.print(
                f"interrupted: the checkpoint of the last whole epoch is in {self._out}, and the "
                f"same command goes on"
                if there
                else "interrupted in the first epoch: there is no checkpoint yet",
                highlight=False,
            )
            raise typer.Exit(130) from None
