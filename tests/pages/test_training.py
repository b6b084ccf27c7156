"""Pictures of training runs show the rows of their logs: smoothed and cut as asked, told apart by
name.
"""

from pathlib import Path

import pytest

from subbyte.errors import RecipeError
from subbyte.learn.training.record import Record
from subbyte.pages.parts import Table
from subbyte.pages.subject import View
from subbyte.pages.training import (
    Trained,
    TrainingRuns,
    charts_of,
    describe,
    running_mean,
    runs_table,
)
from subbyte.pages.write import tell, write_report
from subbyte.records import Score
from subbyte.records.training import Run, Scoring, read_run
from tests.pages.results import make_result, measured

PLAIN = {
    "model": "lenet",
    "data": "digits",
    "epochs": 4,
    "lr": 0.05,
    "optimizer": {"name": "sgd", "momentum": 0.9},
}
TOP1 = Scoring(
    task="classification", heads=["output"], scores=[Score(name="top-1", unit="%", value=None)]
)
TESTED = {2: (1.5, 61.0), 4: (1.25, 60.5)}  # epoch: loss, top-1 %


def make_run(
    out: Path, *, quantized: bool = False, validation: bool = False, settings: dict | None = None
) -> Path:
    """A run of 4 epochs with 3 logged rows each; every second one tested."""
    steps = [
        {
            "step": 10 * k,
            "epoch": (k + 2) // 3,
            "lr": 0.05,
            "train_loss": 3 / k + k % 2,
            "train_top1_percent": 5.0 * k,
        }
        for k in range(1, 13)
    ]
    epochs = []
    for epoch in range(1, 5):
        row = {
            "epoch": epoch,
            "steps": 30 * epoch,
            "seconds": 0.5,
            "lr": 0.05,
            "train_loss": 2 / epoch,
        }
        row["train_top1_percent"] = 15.0 * epoch
        if epoch in TESTED:
            row["test_loss"], row["test_top1_percent"] = TESTED[epoch]
            if validation:
                row["validation_loss"], row["validation_top1_percent"] = 1.0 + epoch, 50.0 + epoch
        epochs.append(row)
    if quantized:
        for row in (*steps, *epochs):
            row["resolution_bits"], row["moved_percent"] = (
                row["epoch"] + 2,
                40.0 / row["epoch"] + row["lr"],
            )
            row["saturated_percent"], row["temperature"] = 0.1, 1e-4
    Record(TOP1, epochs, steps).write(out, PLAIN if settings is None else settings)
    return out


@pytest.fixture
def plain(tmp_path):
    return make_run(tmp_path / "plain")


@pytest.fixture
def both(tmp_path):
    """Two runs, the second of which quantizes."""
    sgd = make_run(tmp_path / "sgd", validation=True)
    qsgd = make_run(
        tmp_path / "qsgd", quantized=True, settings=PLAIN | {"optimizer": {"name": "qsgd"}}
    )
    return [trained(sgd, "sgd"), trained(qsgd, "qsgd")]


def trained(folder: Path, name: str) -> Trained:
    return Trained(name, read_run(folder))


def charts(runs, **view):
    """By what they are of."""
    names = ("loss", "accuracy", "resolution", "moved")
    return dict(zip(names, charts_of(runs, View(**view)), strict=False))


def points(line):
    return list(zip(line.x, line.y, strict=True))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_a_running_mean_is_that_of_a_plain_loop(count):
    values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0, 5.0, 3.5]
    expected = []
    for end in range(1, len(values) + 1):
        window = values[max(0, end - count) : end]
        expected.append(sum(window) / len(window))
    assert running_mean(values, count) == pytest.approx(expected, rel=1e-12)
    assert running_mean([], count) == []


def test_one_run_has_a_colour_for_each_kind_of_images(tmp_path):
    found = charts([trained(make_run(tmp_path / "run", validation=True), "run")])
    assert list(found) == ["loss", "accuracy"]
    assert found["loss"].names == found["accuracy"].names == ("train", "validation", "test")
    assert found["loss"].log_y and not found["accuracy"].log_y
    train, validation, test = found["loss"].lines
    assert [line.name for line in found["loss"].lines] == ["train", "validation", "test"]
    assert points(train) == [(10 * k, 3 / k + k % 2) for k in range(1, 13)]
    assert points(test) == [(60, 1.5), (120, 1.25)]
    assert points(validation) == [(60, 3.0), (120, 5.0)]
    assert [line.style for line in (train, validation, test)] == ["solid", "dot", "dash"]
    train, validation, test = found["accuracy"].lines
    assert points(train) == [(1, 15.0), (2, 30.0), (3, 45.0), (4, 60.0)]
    assert points(test) == [(2, 61.0), (4, 60.5)] and points(validation) == [(2, 52.0), (4, 54.0)]


def test_several_runs_have_a_colour_each(both):
    found = charts(both)
    assert list(found) == ["loss", "accuracy", "resolution", "moved"]
    assert [line.name for line in found["loss"].lines] == ["sgd"] * 3 + ["qsgd"] * 2
    assert "dashed: test; dotted: validation" in found["loss"].title
    resolution, moved = found["resolution"].lines, found["moved"].lines
    assert points(resolution[0]) == [(10 * k, (k + 2) // 3 + 2) for k in range(1, 13)]
    assert [line.name for line in moved] == ["qsgd"]
    colours = {}
    for item in (*found["accuracy"].items(), *found["moved"].items()):
        for line in item["data"]:
            colours.setdefault(line["name"], set()).add(line["line"]["color"])
    assert colours == {"sgd": {"@0"}, "qsgd": {"@1"}}


def test_loss_and_moved_codes_are_smoothed_and_all_else_is_not(both):
    raw, smooth = charts(both), charts(both, smooth=4)
    for name, first in (("loss", 0), ("loss", 3), ("moved", 0)):
        before, after = raw[name].lines[first].y, smooth[name].lines[first].y
        assert after == running_mean(before, 4) != before
        assert "running mean over 4 logged rows" in smooth[name].title
        assert "mean" not in raw[name].title
    for place in (1, 2, 4):
        assert smooth["loss"].lines[place] == raw["loss"].lines[place]
    assert (smooth["accuracy"], smooth["resolution"]) == (raw["accuracy"], raw["resolution"])


def test_the_first_epochs_alone(both):
    some, whole = charts(both, smooth=2, epochs=2), charts(both, smooth=2)
    for name, last in (("loss", 60), ("accuracy", 2), ("resolution", 60), ("moved", 60)):
        for cut, full in zip(some[name].lines, whole[name].lines, strict=True):
            assert max(cut.x) == last and points(cut) == points(full)[: len(cut.x)]
    assert len(some["loss"].lines[0].x) == 6 and charts(both, epochs=9) == charts(both)
    one = charts(both, epochs=1)["loss"]  # before the first test
    assert [len(line.x) for line in one.lines] == [3, 3] and "dotted" not in one.title


def changed(run: Trained, **changes) -> Trained:
    """With other values in every row."""
    found = run.run
    epochs = [row.model_copy(update=changes) for row in found.epochs]
    steps = [row.model_copy(update=changes) for row in found.steps]
    return Trained(run.name, Run(found.settings, found.scoring, epochs, steps))


def test_a_loss_of_0_is_not_drawn_on_a_logarithm(plain):
    assert not charts([changed(trained(plain, "run"), train_loss=0.0)])["loss"].log_y


def test_words_and_table_say_how_it_went(both):
    assert describe(both[0]) == (
        "sgd: lenet on digits, 4 epochs of sgd (momentum 0.9) from a learning rate of 0.05. On "
        "the test images: 60.50 % top-1 after epoch 4, at best 61.00 % after epoch 2."
    )
    assert describe(both[1]).endswith(" Updates ended at a resolution of 6 bits.")
    table = runs_table(both)
    assert table.header[-4:] == (
        "last train loss",
        "last test top-1 %",
        "best test top-1 %",
        "epoch of best top-1 %",
    )
    assert table.rows[0] == (
        "sgd",
        "lenet",
        "sgd (momentum 0.9)",
        "0.05",
        "4",
        "0.5",
        "60.50",
        "61.00",
        "2",
    )
    assert (
        table.rows[1][:3] == ("qsgd", "lenet", "qsgd")
        and len(table.rows[1]) == len(table.header) == 9
    )


def test_runs_that_say_little_are_described_all_the_same(tmp_path):
    settings = {
        "epochs": 10,
        "optimizer": {"name": "sgd", "nesterov": True, "weight_decay": 0.1, "dampening": 0.0},
        "qat": {"name": "grid", "bits": 3, "schedule": {"name": "table", "at": [2]}, "seed": 0},
    }
    run = trained(make_run(tmp_path / "run", settings=settings), "run")
    assert (
        "4 of 10 epochs of sgd (nesterov, weight decay 0.1), qat grid (bits 3, schedule table (at "
        "[2])) from"
    ) in describe(run)
    run = changed(run, test_top1_percent=None)
    assert "not measured yet" in describe(run) and runs_table([run]).rows[0][-3:] == ("", "", "")
    bare = trained(make_run(tmp_path / "bare", settings={}), "bare")
    assert describe(bare).startswith(
        "bare: a network on data without a name, 4 epochs of an optimizer from"
    )


def test_the_page_has_words_table_charts_and_settings(plain, tmp_path):
    quantized = make_run(tmp_path / "q", quantized=True)
    title, story = tell([plain, quantized], names=["<b>", "two"], view=View(epochs=3))
    assert title == "2 results: <b>, two" and len(story.sentences) == 2
    assert story.sentences[0].startswith("<b>: lenet on digits")
    course, *settings = story.sections
    first, resolution, table, *figures = course.parts
    assert "first 3 epochs" in first.text and "resolution is the index" in resolution.text
    assert table.rows[0][0] == "<b>" and len(figures) == 4
    assert all(section.folded for section in settings) and len(settings) == 2
    title, alone = tell([plain])
    titles = [part.title for part in alone.sections[0].parts]
    assert title == "plain" and titles == ["Runs", "plain: loss", "plain: top-1"]
    assert ("lr", "0.05") in alone.sections[1].parts[0].rows


def test_pictures_are_files_too(plain, tmp_path):
    folders = [plain, make_run(tmp_path / "_odd $name_1$", quantized=True, validation=True)]
    _, *pictures = write_report(folders, tmp_path / "a.html", png=tmp_path / "png")
    assert [path.name for path in pictures] == [
        "course-of-training-loss-solid-training-dashed-test-dotted-validation.png",
        "course-of-training-top-1-solid-training-dashed-test-dotted-validation.png",
        "course-of-training-resolution-of-updates.png",
        "course-of-training-codes-of-updates-that-are-not-0.png",
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"smooth": 0}, "smooth must be a whole number, at least 1, got 0"),
        ({"epochs": -1}, "epochs must be a whole number, at least 0, got -1"),
        ({"window": -0.5}, "window must be a number, at least 0 .*, got -0.5"),
    ],
)
def test_wrong_wishes_are_refused(wrong, message):
    with pytest.raises(RecipeError, match=message):
        View(**wrong)


def test_the_quantized_network_of_a_run_comes_first(tmp_path):
    run = make_run(tmp_path / "run")
    before = {
        "scores": measured(90.0)["scores"],
        "comparison": measured(90.0, None, 94.0)["comparison"],
    }
    tuning = {"method": {"name": "train"}, "steps": 120, "kept": 120, "labels": True}
    tuning |= {"judged": [{"step": 0, "distance": 0.5}, {"step": 120, "distance": 0.25}]}
    make_result(run / "quantized", tuning=tuning | {"before": before})
    story = TrainingRuns().tell([TrainingRuns().read("run", run)], View())
    first = story.sections[0]
    assert first.title == "The quantized network of run"
    assert "4-bit weights and activations" in first.parts[0].text
    assert "3 of 3 layers are codes on their grids" in first.parts[0].text
    scores, files = (part for part in first.parts if isinstance(part, Table))
    assert [row[:2] for row in scores.rows] == [
        ("float", "91.73"),
        ("before", "90.00"),
        ("after", "90.81"),
    ]
    assert files.rows[0][0] == "model.onnx"
