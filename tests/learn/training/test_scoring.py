"""Runs of other tasks than classification: their losses are made small, their scores are logged
under their own names, and what can't be trained so is refused before the first step.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subbyte.data import DataSet, Split
from subbyte.errors import ContractError, DataError, NumericsError, RecipeError
from subbyte.learn.training import TrainSettings, train
from subbyte.learn.training.scoring import Judge
from subbyte.methods import Measure, Outputs, Tally, Targets, Task
from subbyte.pages.subject import View
from subbyte.pages.training import Trained, charts_of, describe, runs_table
from subbyte.records.training import read_run
from subbyte.tasks.tallies import mean
from tests.learn.training.runs import rows, seeded

STILL = TrainSettings.of(epochs=1, batch_size=8, lr=1e-30, log_every=2)
"""Nothing moves, so that a score over an epoch is that of the network as it is."""
LEARNING = TrainSettings.of(epochs=6, batch_size=16, lr=0.02, optimizer="adam")


class Both(nn.Module):
    """Maps of 3 classes, and two numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.maps, self.numbers = nn.Conv2d(1, 3, 3, padding=1), nn.Linear(36, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"maps": self.maps(x), "numbers": self.numbers(x.flatten(1))}


class Maps(Both):
    def forward(self, x: Tensor) -> Tensor:
        return self.maps(x)


def data(kinds: str = "mn", train: int = 48, test: int = 20) -> DataSet:
    """Images with maps of how bright pixels are (255 in a corner: not counted), and with their mean
    and first pixel.
    """
    generator = torch.Generator().manual_seed(0)
    splits = {}
    for name, count in (("train", train), ("test", test)):
        images = torch.randn(count, 1, 6, 6, generator=generator)
        maps = ((images[:, 0] > 0).long() + (images[:, 0] > 1).long()).index_fill(
            2, torch.tensor([0]), 255
        )
        numbers = torch.stack([images.mean((1, 2, 3)), images[:, 0, 0, 0]], 1)
        known = {"m": maps, "n": numbers}
        targets = tuple(known[kind] for kind in kinds)
        splits[name] = Split(name, lambda k, images=images: images[k], count, targets)
    return DataSet("drawn", splits["train"], splits["test"], (), "f")


def mean_iou(named: Tensor, wanted: Tensor) -> float:
    """Percent, pixel by pixel in numpy, without those of class 255."""
    own, true = (x.numpy()[wanted.numpy() != 255] for x in (named, wanted))
    found = [(own == k) & (true == k) for k in range(3)]
    either = [(own == k) | (true == k) for k in range(3)]
    return 100 * float(np.mean([a.sum() / b.sum() for a, b in zip(found, either, strict=True)]))


def test_scores_are_those_of_all_images_of_an_epoch(tmp_path):
    model, given = seeded(Both), data()
    record = train(model, given, STILL, tmp_path)
    (row,), steps = rows(tmp_path, "epochs.csv"), rows(tmp_path, "steps.csv")
    for split, name in ((given.train, "train"), (given.test, "test")):
        assert split is not None
        with torch.no_grad():
            found = model.eval()(split.images(range(len(split))))
        maps, numbers = split.targets
        iou = float(row[f"{name}_output_maps_mean_iou_percent"])
        assert iou == pytest.approx(mean_iou(found["maps"].argmax(1), maps), abs=1e-4)
        error = (found["numbers"] - numbers).norm() / numbers.norm()
        assert float(row[f"{name}_output_numbers_relative_error"]) == pytest.approx(
            float(error), rel=1e-5
        )
    with torch.no_grad():
        loss = F.cross_entropy(found["maps"], maps, ignore_index=255)
        loss += F.mse_loss(found["numbers"], numbers)
    assert float(row["test_loss"]) == pytest.approx(float(loss), rel=1e-5)
    # an epoch's IoU is no mean of those of its rows
    column = "train_output_maps_mean_iou_percent"
    means = np.mean([float(step[column]) for step in steps])
    assert len(steps) == 3 and abs(means - float(row[column])) > 0.01
    assert (record.scoring.task, record.scoring.heads) == (
        "segmentation, regression",
        ["output.maps", "output.numbers"],
    )


def test_it_learns_and_the_page_names_the_scores(tmp_path):
    for name, model, kinds in (("maps", Maps, "m"), ("both", Both, "mn")):
        train(seeded(model), data(kinds), LEARNING, tmp_path / name)
    runs = [Trained(name, read_run(tmp_path / name)) for name in ("maps", "both")]
    maps = [row.score("test_mean_iou_percent") for row in runs[0].run.epochs]
    errors = [row.score("test_output_numbers_relative_error") for row in runs[1].run.epochs]
    assert maps[-1] > maps[0] + 5 and errors[-1] < 0.8 * errors[0]
    titles = ["mean IoU %", "output.maps: mean IoU %", "output.numbers: relative error"]
    charts = charts_of(runs, View())
    assert [chart.y_label for chart in charts] == ["loss", *titles]
    assert [len(chart.lines) for chart in charts] == [4, 2, 2, 2]
    table = runs_table(runs)
    assert all(f"best test {title}" in table.header for title in titles)
    # an error is best where it is lowest
    assert table.rows[1][-2:] == (f"{min(errors):.5g}", f"{1 + errors.index(min(errors))}")
    told = describe(runs[1])
    assert "output.maps: " in told and "% mean IoU after epoch 6, at best" in told
    assert "top-1" not in told and "accuracy" not in told


@dataclass(frozen=True)
class Distance(Task):
    """Mean distance, with faults by name."""

    fault: str = ""
    name: str = "distance"
    per_head = True

    def score(self, outputs: Outputs, targets: Targets) -> list[Tally]:
        if self.fault == "score":
            raise KeyError("score")
        return [mean(Measure(self.name, "px", higher=False), (outputs[0] - targets[0]).abs())]

    def compare(self, outputs: Outputs, others: Outputs) -> list[Tally]:
        return self.score(outputs, others)

    def loss(self, outputs: Outputs, targets: Targets) -> Tensor:
        if self.fault == "loss":
            raise KeyError("loss")
        loss = (outputs[0] - targets[0]).abs()
        return loss.detach().mean() if self.fault == "gradients" else loss.mean(dim=-1).mean()


class Numbers(Both):
    def forward(self, x: Tensor) -> Tensor:
        return self.numbers(x.flatten(1))


def test_tasks_of_ones_own_are_trained_by(tmp_path):
    settings = TrainSettings.of(epochs=2, batch_size=16, lr=0.1, tasks=[Distance()])
    train(seeded(Numbers), data("n"), settings, tmp_path)
    first, last = rows(tmp_path, "epochs.csv")
    assert float(last["test_distance_px"]) == pytest.approx(float(last["test_loss"]), rel=1e-5)
    assert float(last["test_distance_px"]) < float(first["test_distance_px"])


def test_a_score_that_is_the_loss_is_logged_once(tmp_path):
    settings = TrainSettings.of(epochs=1, batch_size=16, tasks=[Distance(name="loss")])
    record = train(seeded(Numbers), data("n"), settings, tmp_path)
    assert record.scoring.scores == [] and read_run(tmp_path).epochs[0].test_loss is not None


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("score", "Distance.score .*KeyError"),
        ("loss", "Distance.loss .*KeyError"),
        ("gradients", "Distance.loss returned a loss without gradients"),
    ],
)
def test_tasks_that_break_their_contract_are_named(fault, message, tmp_path):
    settings = TrainSettings.of(epochs=1, batch_size=16, tasks=[Distance(fault)])
    with pytest.raises(ContractError, match=message):
        train(seeded(Numbers), data("n"), settings, tmp_path)


def mixed() -> DataSet:
    """Maps to train on, numbers to test on."""
    return DataSet("mixed", data("m").train, data("n").test, (), "f")


@pytest.mark.parametrize(
    ("model", "given", "said", "message"),
    [
        (Maps, data(""), {}, "split 'train' has no targets, neither labels nor others"),
        (Maps, data("mn"), {}, "the data have 2 targets, but the network returns 1 tensors"),
        (Maps, mixed(), {}, "split 'test': regression: targets"),
        (Maps, data("m"), {"tasks": ["classification"]}, r"output is \[2, 3, 6, 6\]"),
        (Maps, data("m"), {"tasks": ["comparison"]}, "comparison: scores nothing by targets"),
        (Both, data("mn"), {"tasks": ["segmentation"]}, "output 1: segmentation: the network's"),
        (Maps, data("m"), {"augment": "shift"}, "--augment shift moves images, but not maps"),
        (Numbers, data("n"), {"augment": "shift-flip"}, "choose --augment none"),
    ],
)
def test_what_does_not_go_together_is_refused_before_the_first_step(
    model, given, said, message, tmp_path
):
    settings = TrainSettings.of(epochs=1, batch_size=8, **said)
    with pytest.raises((DataError, RecipeError), match=message):
        train(seeded(model), given, settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def voided(data: DataSet, count: int) -> DataSet:
    """Data whose first maps, and every third behind them, have no pixel that counts."""
    assert data.train is not None
    splits = []
    for split in (data.train, data.test):
        (maps,) = (target.clone() for target in split.targets)
        maps[:count] = maps[::3] = 255
        splits.append(dataclasses.replace(split, targets=(maps,)))
    return DataSet(data.name, *splits, (), "v")


def test_a_loss_by_pixel_is_that_of_all_pixels_that_count(tmp_path):
    """At any batch size, with batches of none."""
    model, given = seeded(Maps), voided(data("m"), 9)
    assert given.train is not None
    train(model, given, STILL, tmp_path)  # its batches of 8 are void, some of them
    (row,) = rows(tmp_path, "epochs.csv")
    (maps,) = given.test.targets
    with torch.no_grad():
        found = model.eval()(given.test.images(range(20)))
    wanted = float(F.cross_entropy(found, maps, ignore_index=255))
    assert float(row["test_loss"]) == pytest.approx(wanted, rel=1e-5)
    judge = Judge.of(model, [given.train, given.test], (), "cpu")
    for batch in (1, 7):
        measured = dataclasses.replace(judge, batch=batch).measure(model, given.test, "test")
        assert measured["test_loss"] == pytest.approx(wanted, rel=1e-5)


def test_where_no_pixel_counts_there_is_no_loss(tmp_path):
    train(seeded(Maps), voided(data("m"), 48), STILL, tmp_path)
    (row,) = rows(tmp_path, "epochs.csv")
    assert (row["train_loss"], row["test_loss"]) == ("0.0", "")
    assert read_run(tmp_path).epochs[0].test_loss is None


def test_a_test_loss_beyond_all_numbers_is_one_error(tmp_path):
    given = data("n")
    far = dataclasses.replace(given.test, targets=(torch.full((20, 2), 1e30),))
    with pytest.raises(NumericsError, match=r"outputs or loss after step 6 .* no checkpoint yet"):
        train(seeded(Numbers), DataSet("far", given.train, far, (), "f"), STILL, tmp_path)


def test_splits_of_other_sizes_are_judged_by_outputs_of_their_own(tmp_path):
    """A convolutional network is trained on small pictures, and measured on large ones."""
    large = Split("test", lambda k: torch.ones(len(k), 1, 9, 9), 5, (torch.ones(5, 9, 9).long(),))
    train(seeded(Maps), DataSet("sizes", data("m").train, large, (), "f"), STILL, tmp_path)
    (row,) = rows(tmp_path, "epochs.csv")
    assert float(row["test_loss"]) > 0
    long = dataclasses.replace(large, targets=(torch.ones(5, 9, 8).long(),))
    with pytest.raises(DataError, match="split 'test': segmentation: maps are"):
        train(seeded(Maps), DataSet("long", data("m").train, long, (), "f"), STILL, tmp_path / "b")
