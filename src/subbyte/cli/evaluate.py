"""subbyte evaluate: scores of a float network, a packed or an exported file on a test split."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from subbyte.cli.answers import Answer, command
from subbyte.cli.common import (
    CropOption,
    DataOption,
    DeviceOption,
    InterpolationOption,
    NormalizeOption,
    Pixels,
    ResizeOption,
    TaskOption,
)
from subbyte.cli.fitting import Table
from subbyte.cli.numbers import numeric
from subbyte.cli.progress import stage
from subbyte.cli.tables import scores_table
from subbyte.cli.terminal import console
from subbyte.data import DataSet, Split
from subbyte.engine.evaluation import ClassAccuracy, class_accuracy
from subbyte.engine.judging import (
    Forward,
    as_scores,
    forward_of,
    forward_of_file,
    judge,
    settle_task,
)
from subbyte.errors import DataError, ModelError
from subbyte.exporters import exporter_of, is_exported, network_runner, seal
from subbyte.exporters.packed import load, read
from subbyte.exporters.sealed import is_sealed
from subbyte.graph import Samples
from subbyte.io.numbers import Whole
from subbyte.methods import Outputs, Task
from subbyte.models import load_model, new_model
from subbyte.records import Measured, Score
from subbyte.tasks import Classification, read_tasks, task_name

_JUDGED, _FLOAT = "network", "float"


@dataclass(frozen=True)
class Evaluated:
    """A network as it was judged on the test split of data.

    network: what it is, in words; images: how many; task: by which they were judged; figures: all
    of them; train: those on the training split, None where they were not asked for; milliseconds:
    that the network takes for an image of the test split; classes: figures by class, of
    classification; names: of the classes, by label.
    """

    network: str
    data: str
    images: int
    task: str
    figures: Measured
    train: Measured | None
    milliseconds: float
    classes: list[ClassAccuracy]
    names: tuple[str, ...]


class _Timed:
    """A network that counts the seconds that it works."""

    def __init__(self, forward: Forward) -> None:
        self._forward, self.seconds = forward, 0.0

    def __call__(self, samples: Samples) -> Outputs:
        """Call the network."""
        start = time.perf_counter()
        outputs = self._forward(samples)
        self.seconds += time.perf_counter() - start
        return outputs


@dataclass(frozen=True)
class _Judging:
    """Networks by name, with whom each is compared, and how; batch: samples at a time."""

    networks: Mapping[str, Forward]
    against: Mapping[str, str]
    task: Task
    batch: int

    def figures(
        self, split: Split, seen: Callable[[Mapping[str, Outputs]], None] = lambda outputs: None
    ) -> Measured:
        """The figures of the network on a split; seen: called with the outputs of each batch."""
        with stage(f"evaluate on {split.name}") as report:
            found = judge(
                self.networks,
                self.against,
                self.task,
                split,
                batch_size=self.batch,
                progress=lambda k, n: report(k, n, ""),
                seen=seen,
            )[_JUDGED]
        return Measured(scores=as_scores(found.scores), comparison=as_scores(found.comparison))


@command
def evaluate(
    data: DataOption,
    weights: Annotated[
        Path | None,
        typer.Option(help="Float weights, a packed model.safetensors, or an exported file."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="As for quantize; not needed for exported files.")
    ] = None,
    normalize: NormalizeOption = None,
    resize: ResizeOption = None,
    crop: CropOption = None,
    interpolation: InterpolationOption = None,
    task: TaskOption = None,
    against_float: Annotated[
        Path | None,
        typer.Option("--against", help="Float weights of --model: compare outputs with theirs."),
    ] = None,
    train: Annotated[bool, typer.Option("--train", help="Score the training split, too.")] = False,
    device: DeviceOption = "cpu",
    per_class: Annotated[
        int, numeric(Whole(0), "Classes to show, those with the lowest accuracy; 0: none.")
    ] = 20,
) -> Answer[Evaluated]:
    """Print a network's scores on the test split by the task; for classes, those by class, too."""
    tasks = read_tasks(task)
    with stage("read"):
        images = Pixels(normalize, resize, crop, interpolation).load(data)
        own, what = _forward(model, weights, device, images)
    if train and images.train is None:
        raise DataError(f"{images.name} has no training split; leave out --train")
    forward, split = _Timed(own), images.test
    networks: dict[str, Forward] = {_JUDGED: forward}
    against: dict[str, str] = {}
    if against_float is not None:
        float_network = load_model(_needed(model), against_float, shape=images.image_shape).to(
            device
        )
        networks[_FLOAT], against = forward_of(float_network, device), {_JUDGED: _FLOAT}
    with stage("check"):
        settled, batch = settle_task(tasks, forward, split)
    if not split.targets and not against:
        raise DataError(
            f"{images.name} has no targets to score by; give the float network's weights with "
            f"--against, to compare outputs with its outputs"
        )
    logits: list[Tensor] = []
    forward.seconds = 0.0  # the first calls are slower
    judging = _Judging(networks, against, settled, batch)
    measured = judging.figures(split, lambda outputs: logits.append(outputs[_JUDGED][0]))
    milliseconds = 1000 * forward.seconds / len(split)
    shown = {"value": measured}
    if train and images.train is not None:
        shown = {"test": measured, "train": judging.figures(images.train)}
    heads = [str(head) for head in range(1 + max(one.head for one in _all(measured)))]
    judged_by = task_name(settled)
    title = f"{what} on {len(split):,} images of {data}, by task {judged_by}"
    console.print(title, soft_wrap=True)
    console.print(scores_table(shown, heads))
    console.print(f"{milliseconds:.3g} ms an image, {min(batch, len(split))} at a time")
    rows: list[ClassAccuracy] = []
    if isinstance(settled, Classification) and split.has_labels:
        rows = class_accuracy(torch.cat(logits), split.labels)
    if rows and per_class:
        console.print(_by_class(rows, images.classes, per_class))
    answer = Evaluated(
        what,
        data,
        len(split),
        judged_by,
        measured,
        shown.get("train"),
        milliseconds,
        rows,
        images.classes,
    )
    return Answer(answer)


def _all(measured: Measured) -> list[Score]:
    return [*measured.scores, *measured.comparison]


def _by_class(rows: list[ClassAccuracy], names: tuple[str, ...], most: int) -> Table:
    """A row a class, in order; where there are more than `most`, the worst of them, the worst
    first.
    """
    shown, title = rows, "by class"
    if len(rows) > most:
        shown = sorted(rows, key=lambda row: row.top1)[:most]
        title = f"the {most} classes of {len(rows)} with the lowest accuracy"
    table = Table(title=title)
    table.add_column("class")
    for name in ("images", "top-1 %", "most often taken for"):
        table.add_column(name, justify="right")
    for row in shown:
        mistaken = f"{_named(names, row.mistaken_for)} ({row.mistakes})" if row.mistakes else ""
        table.add_row(_named(names, row.label), f"{row.count:,}", f"{row.top1:.2f}", mistaken)
    return table


def _named(names: tuple[str, ...], label: int) -> str:
    """Networks may have more classes than the data."""
    return names[label] if label < len(names) else f"class {label}"


def _forward(
    model: str | None, weights: Path | None, device: str, images: DataSet
) -> tuple[Forward, str]:
    """The network at work, and what it is in words."""
    if weights is not None and is_exported(weights):
        exporter = exporter_of(weights)
        own = seal(weights)
        if own.broken:
            console.print(
                f"{weights} is not the file that was proven: it was changed since",
                soft_wrap=True,
            )
        proven = ", as proven" if own.stated and not own.broken else ""
        forward = forward_of_file(network_runner(weights))
        return forward, f"{weights} in {exporter.runtime}{proven}"
    if weights is not None and is_sealed(weights):
        classes, shape = len(images.classes) or None, read(weights).image_shape
        packed: nn.Module = load(weights, new_model(_needed(model), classes, shape))
        return forward_of(packed.to(device), device), f"{weights} (packed {model})"
    network = load_model(_needed(model), weights, shape=images.image_shape)
    return forward_of(network.to(device), device), f"{model} (float)"


def _needed(model: str | None) -> str:
    if model is None:
        raise ModelError("--model is needed to evaluate anything but an exported file")
    return model
