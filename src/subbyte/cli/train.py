"""subbyte train: train a built-in or own network from labelled images."""

from pathlib import Path
from typing import Annotated

import torch
import typer

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
    load_inputs,
    progress,
)  # fmt: skip
from subbyte.training import TrainSettings
from subbyte.training import train as run
from subbyte.training.augment import AUGMENTATIONS
from subbyte.training.rates import RATES


@command
def train(
    model: ModelOption,
    data: DataOption,
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and logs; the same command goes on in it.")],
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 20,
    batch_size: Annotated[int, typer.Option(help="Images a step, of each process.")] = 128,
    optimizer: Annotated[str, typer.Option(help="sgd, adam, adamw, qsgd or qtadamw.")] = "sgd",
    lr: Annotated[float, typer.Option(help="Learning rate, at its highest.")] = 0.1,
    momentum: Annotated[float | None, typer.Option(help="Of sgd and qsgd.")] = None,
    nesterov: Annotated[bool | None, typer.Option(help="Of sgd and qsgd.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of all optimizers.")] = None,
    rate: Annotated[str, typer.Option(help=f"Course of the learning rate: {', '.join(RATES)}.")] = "cosine",
    warmup: Annotated[float, typer.Option(help="Epochs over which the learning rate rises from 0.")] = 0.0,
    label_smoothing: Annotated[float, typer.Option(help="Share of a label spread over all classes.")] = 0.0,
    augment: Annotated[str, typer.Option(help=f"{', '.join(AUGMENTATIONS)}.")] = "none",
    validation: Annotated[int, typer.Option(help="Training images kept apart and measured every epoch.")] = 0,
    evaluate_every: Annotated[int, typer.Option(help="Epochs between two measurements of accuracy.")] = 1,
    seed: Annotated[int, typer.Option(help="Of initial weights, order and augmentation.")] = 0,
    precision: Annotated[str, typer.Option(help="Of the forward pass: float32 or bfloat16.")] = "float32",
    log_every: Annotated[int, typer.Option(help="Steps between two rows of steps.csv.")] = 10,
    weights: WeightsOption = None,
    device: DeviceOption = "cpu",
    normalize: NormalizeOption = None,
    resize: ResizeOption = None,
    crop: CropOption = None,
) -> None:
    """Train a network; stop it at any time, and the same command goes on."""
    chosen = {"name": optimizer, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
    settings = TrainSettings(
        epochs, batch_size, lr, {name: value for name, value in chosen.items() if value is not None}, rate, warmup,
        label_smoothing, augment, validation, evaluate_every, seed, precision, log_every,
    )  # fmt: skip
    torch.manual_seed(seed)
    network, images = load_inputs(model, weights, data, normalize, resize, crop)
    with progress() as report:
        record = run(
            network, images, settings, out, about={"model": model, "data": data}, device=device, progress=report
        )
    last = record.epochs[-1]
    console.print(f"epoch {last['epoch']}: test top-1 {last['test_top1_percent']:.2f} %", highlight=False)
