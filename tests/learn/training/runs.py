"""Networks and runs that the tests of training share."""

import csv
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subbyte.data import DataSet, Split, load_data
from subbyte.learn.training import TrainSettings, train
from subbyte.models import lenet

FILES = {
    "settings.json",
    "epochs.csv",
    "steps.csv",
    "log.json",
    "checkpoint.pt",
    "model.safetensors",
}
"""What a run leaves."""
ON_GRID = FILES - {"model.safetensors"} | {"quantized.safetensors"}
"""What a run on grids leaves."""
SMOOTH = {"name": "classification", "label_smoothing": 0.1}
"""A task whose loss smooths labels."""
ADAM = TrainSettings.of(epochs=3, lr=1e-2, optimizer="adam", log_every=4)
"""Three epochs of 11 steps on the digits; the last rows of an epoch's log are of steps 8, 11; 12,
16, 20, 22; 24 ...
"""


def replace(settings: TrainSettings, **said: Any) -> TrainSettings:
    """The settings with some others, methods by name or as mappings."""
    return TrainSettings.of(**settings.plain() | said)


@cache
def digits() -> DataSet:
    return load_data("digits")


def few(data: DataSet, train: int, test: int = 60) -> DataSet:
    """The first images of both splits."""
    assert data.train is not None
    return DataSet(
        data.name, data.train.take(range(train)), data.test.take(range(test)), data.classes, "few"
    )


class Normed(nn.Module):
    """Convolutions, one of them grouped, under batch-norms of both signs and of 0, dropout, a
    linear layer; 8 x 8.
    """

    def __init__(self, dropout: float = 0.0, channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, groups=3), nn.BatchNorm2d(6)
        self.dropout, self.fc = nn.Dropout(dropout), nn.Linear(216, classes)
        with torch.no_grad():
            self.bn1.weight.copy_(torch.tensor([-1.0, 0.5, -0.3, 2.0, 1.0, 0.0]))
            self.bn2.weight.copy_(torch.tensor([1.0, -2.0, 0.5, 0.1, -0.1, 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return self.fc(self.dropout(x.flatten(1)))


def lively(classes: int = 10) -> nn.Module:
    """A LeNet for the digits with weights twice as large as usual, which learns from its first step
    on.
    """
    model = lenet(1, 8, classes)
    with torch.no_grad():
        for p in model.parameters():
            p *= 2
    return model


def seeded(network: Callable[[], nn.Module] = lively, seed: int = 0) -> nn.Module:
    """A network with the random weights of a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return network()


def run(
    out: Path, settings: TrainSettings = ADAM, *, model: nn.Module | None = None, **more: Any
) -> Path:
    """Train a seeded LeNet on the digits, unless told otherwise."""
    train(model or seeded(), more.pop("data", digits()), settings, out, **more)
    return out


def stopping(
    at: int, reason: type[BaseException] = KeyboardInterrupt
) -> Callable[[str, int, int, str], None]:
    """A report that stops the run as soon as so many steps are done."""

    def report(stage: str, done: int, total: int, what: str) -> None:
        if done >= at:
            raise reason

    return report


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def left_by(folder: Path) -> dict[str, object]:
    """All that a run leaves but for the time it took: files by name, and rows of epochs.csv."""
    epochs = [
        {name: cell for name, cell in row.items() if name != "seconds"}
        for row in rows(folder, "epochs.csv")
    ]
    files = {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.suffix == ".safetensors" or path.name in ("steps.csv", "settings.json")
    }
    return files | {"epochs.csv": epochs}


def numbered(
    count: int, *, size: tuple[int, int, int] = (1, 2, 2), classes: int | None = None
) -> Split:
    """A split whose image k is k all over; so is its label, modulo `classes`."""
    labels = torch.arange(count)
    return Split.labelled(
        "train",
        labels if classes is None else labels % classes,
        lambda indices: indices.float()[:, None, None, None].expand(-1, *size).contiguous(),
    )
