"""Pictures of training runs show the rows of their logs: smoothed and cut as asked, told apart by
name.
"""

import shutil
from pathlib import Path

import pytest
from PIL import Image
from tests.report.test_charts import Page, traces

from subbyte.errors import FormatError, RecipeError
from subbyte.learn.training.record import EPOCHS, LOG, STEPS, Record
from subbyte.pages.charts import Chart, Line, write_html, write_png
from subbyte.pages.training import (
    charts_of,
    describe,
    draw,
    read_run,
    running_mean,
    runs_table,
    unique_names,
)

PLAIN = {
    "model": "lenet",
    "data": "digits",
    "epochs": 4,
    "lr": 0.05,
    "optimizer": {"name": "sgd", "momentum": 0.9},
}
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
    Record(epochs, steps).write(out, PLAIN if settings is None else settings)
    return out


@pytest.fixture
def plain(tmp_path):
    return make_run(tmp_path / "plain")


@pytest.fixture
def both(tmp_path):
    """Two runs, the second of which quantizes."""
    sgd = make_run(tmp_path / "sgd", validation=True)
    qsgd = make_run(tmp_path / "qsgd", quantized=True, settings=PLAIN | {"optimizer": "qsgd"})
    return [read_run(sgd, "sgd"), read_run(qsgd, "qsgd")]


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
    run = read_run(make_run(tmp_path / "run", validation=True), "run")
    charts = charts_of([run])
    assert list(charts) == ["loss", "accuracy"]
    train, validation, test = charts["loss"].lines
    assert [line.name for line in charts["loss"].lines] == ["train", "validation", "test"]
    assert points(train) == [(10 * k, 3 / k + k % 2) for k in range(1, 13)]
    assert points(test) == [(60, 1.5), (120, 1.25)] and points(validation) == [
        (60, 3.0),
        (120, 5.0),
    ]
    assert charts["loss"].names == charts["accuracy"].names == ("train", "validation", "test")
    assert charts["loss"].log_y and not charts["accuracy"].log_y
    assert [(line.dashed, line.dotted) for line in (train, validation, test)] == [
        (0, 0),
        (0, 1),
        (1, 0),
    ]
    train, validation, test = charts["accuracy"].lines
    assert points(train) == [(1, 15.0), (2, 30.0), (3, 45.0), (4, 60.0)]
    assert points(test) == [(2, 61.0), (4, 60.5)] and points(validation) == [(2, 52.0), (4, 54.0)]


def test_several_runs_have_a_colour_each(both, tmp_path):
    charts = charts_of(both)
    assert list(charts) == ["loss", "accuracy", "resolution", "moved"]
    assert [line.name for line in charts["loss"].lines] == ["sgd"] * 3 + ["qsgd"] * 2
    assert "dashed: test; dotted: validation" in charts["loss"].title
    assert points(charts["resolution"].lines[0]) == [
        (10 * k, (k + 2) // 3 + 2) for k in range(1, 13)
    ]
    assert [line.name for line in charts["moved"].lines] == ["qsgd"]
    write_html("t", [charts["accuracy"], charts["moved"]], tmp_path / "a.html")
    drawn = traces(Page((tmp_path / "a.html").read_text()))
    colours = {line["name"]: set() for line in drawn}
    for line in drawn:
        colours[line["name"]].add(line["line"]["color"])
    assert len(colours["sgd"]) == len(colours["qsgd"]) == 1 and colours["sgd"] != colours["qsgd"]
    assert [line["line"]["dash"] for line in drawn] == [
        "solid",
        "dot",
        "dash",
        "solid",
        "dash",
        "solid",
    ]


def test_loss_and_moved_codes_are_smoothed_and_all_else_is_not(both):
    raw, smooth = charts_of(both), charts_of(both, smooth=4)
    for name, first in (("loss", 0), ("loss", 3), ("moved", 0)):
        assert (
            smooth[name].lines[first].y
            == running_mean(raw[name].lines[first].y, 4)
            != raw[name].lines[first].y
        )
        assert (
            "running mean over 4 logged rows" in smooth[name].title
            and "mean" not in raw[name].title
        )
    assert (
        smooth["loss"].lines[1:3] == raw["loss"].lines[1:3]
        and smooth["loss"].lines[4] == raw["loss"].lines[4]
    )
    assert (smooth["accuracy"], smooth["resolution"]) == (raw["accuracy"], raw["resolution"])


def test_points_are_the_first_epochs(both):
    charts = charts_of(both, smooth=2, points=2)
    whole = charts_of(both, smooth=2)
    for name, last in (("loss", 60), ("accuracy", 2), ("resolution", 60), ("moved", 60)):
        for cut, full in zip(charts[name].lines, whole[name].lines, strict=True):
            assert max(cut.x) == last and points(cut) == points(full)[: len(cut.x)]
    assert len(charts["loss"].lines[0].x) == 6 and charts_of(both, points=9) == charts_of(both)
    one = charts_of(both, points=1)  # before the first test
    assert [len(line.x) for line in one["loss"].lines] == [3, 3] and "dotted" not in one[
        "loss"
    ].title


def test_a_loss_of_0_is_not_drawn_on_a_logarithm(plain):
    run = read_run(plain, "run")
    run.steps[-1]["train_loss"] = 0.0
    assert not charts_of([run])["loss"].log_y


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["runs/a"], ["a"]),
        (["runs/a", "runs/b"], ["a", "b"]),
        (["x/a/run", "x/b/run", "x/c"], ["a/run", "b/run", "c"]),
        (["a/s/run", "b/s/run", "b/run"], ["a/s/run", "b/s/run", "b/run"]),
        (["a/b/../c", "a/d/"], ["c", "d"]),
    ],
)
def test_names_are_the_shortest_tails_that_differ(folders, names, tmp_path):
    found = unique_names([tmp_path / folder for folder in folders])
    assert found == names and len(set(found)) == len(folders)


def test_names_reach_up_to_the_root():
    assert unique_names([Path("/run"), Path("/zz/run")]) == ["/run", "zz/run"]


def test_words_and_table_say_how_it_went(both):
    assert describe(both[0]) == (
        "sgd: lenet on digits, 4 epochs of sgd (momentum 0.9) from a learning rate of 0.05. Top-1 "
        "accuracy on the test "
        "images: 60.50 % after epoch 4, at best 61.00 % after epoch 2."
    )
    assert describe(both[1]).endswith(" Updates ended at a resolution of 6 bits.")
    table = runs_table(both)
    assert table.header[-4:] == (
        "last train loss",
        "last test top-1 %",
        "best test top-1 %",
        "epoch of the best",
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
        "optimizer": {"name": "sgd", "nesterov": True, "weight_decay": 0.1, "dampening": None},
    }
    run = read_run(make_run(tmp_path / "run", settings=settings), "run")
    assert "4 of 10 epochs of sgd (nesterov, weight decay 0.1)" in describe(run)
    for row in run.epochs:
        row["test_top1_percent"] = None
    assert "not measured yet" in describe(run) and runs_table([run]).rows[0][-3:] == ("", "", "")
    bare = read_run(make_run(tmp_path / "bare", settings={}), "bare")
    assert describe(bare).startswith(
        "bare: a network on data without a name, 4 epochs of an optimizer from"
    )


def test_files_are_written_and_the_same_each_time(plain, tmp_path):
    folders = [plain, make_run(tmp_path / "_odd $name_1$", quantized=True, validation=True)]
    for name in ("a", "b"):
        written = draw(folders, tmp_path / "new" / name, smooth=3)
        assert [path.name for path in written] == [
            "loss.png",
            "accuracy.png",
            "resolution.png",
            "moved.png",
            "trends.html",
        ]
        assert sorted(written) == sorted((tmp_path / "new" / name).iterdir())
    for path in written:
        assert path.read_bytes() == (tmp_path / "new" / "a" / path.name).read_bytes()
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert image.width >= 1100 and len(image.convert("RGB").getcolors(2**24)) > 50


def test_the_page_has_words_table_and_charts(plain, tmp_path):
    quantized = make_run(tmp_path / "q", quantized=True)
    page = Page(
        draw([plain, quantized], tmp_path / "o", names=["<b>", "two"], points=3)[-1].read_text()
    )
    texts = [text for _, text in page.texts]
    assert (
        any(text.startswith("<b>: lenet on digits") for text in texts)
        and ("td", "<b>") in page.texts
    )
    assert any("first 3 epochs" in text for text in texts) and any(
        "resolution is the index" in text for text in texts
    )
    assert len(page.ids) == 4 and not page.addresses
    alone = Page(draw([plain], plain)[-1].read_text())
    assert ("h1", "Training run plain") in alone.texts and len(alone.ids) == 2
    assert not any("resolution" in text for _, text in alone.texts)


def test_wrong_wishes_are_refused(plain, tmp_path):
    other = make_run(tmp_path / "other")
    out = tmp_path / "out"
    for wrong, message in (
        ({"smooth": 0}, "smooth must be 1 row or more, got 0"),
        ({"points": -1}, "points must be 0 .all epochs. or more, got -1"),
        ({"names": ["a"]}, "as many names as runs are needed: got 1 for 2"),
        ({"names": ["a", "a"]}, "two runs are named 'a'"),
        ({"names": ["a", " "]}, "a run's name is empty"),
    ):
        with pytest.raises(RecipeError, match=message):
            draw([plain, other], out, **wrong)
    with pytest.raises(RecipeError, match="other is given twice"):
        draw([plain, other, tmp_path / "plain" / ".." / "other"], out)
    with pytest.raises(RecipeError, match="no training run was given"):
        draw([], out)
    with pytest.raises(RecipeError, match=r"log.json.* can't be made a folder"):
        draw([plain], plain / LOG / "deeper")
    assert not out.exists()


def test_a_folder_that_is_no_run_is_named(plain, tmp_path):
    with pytest.raises(
        FormatError,
        match=r"nowhere is not a training run with a finished epoch: it has no log.json",
    ):
        draw([plain, tmp_path / "nowhere"], tmp_path / "out")
    for file in (LOG, EPOCHS, STEPS):
        broken = tmp_path / f"without-{file}"
        shutil.copytree(plain, broken)
        (broken / file).unlink()
        with pytest.raises(FormatError, match=f"without-{file} is not a training run .*no {file}"):
            draw([broken], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_without_a_finished_epoch_is_refused(plain):
    header = (plain / EPOCHS).read_text().splitlines()[0]
    (plain / EPOCHS).write_text(header + "\n")
    with pytest.raises(FormatError, match="plain has no finished epoch"):
        draw([plain], plain)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (STEPS, "\n20,1,0.05,1.5,", "\n20,1,0.05,nan,", "row 2 is damaged: train_loss is nan"),
        (STEPS, "\n20,1,0.05,1.5,", "\n20,1,0.05,,", "row 2 is damaged: it has no train_loss"),
        (STEPS, "\n20,1,0.05,1.5,", "\n20,1,0.05,x1.5,", "is not the log of a training run .*x1.5"),
        (STEPS, "\n20,1,0.05,1.5,", "\n10,1,0.05,1.5,", "row 2 is damaged: step 10 comes after 10"),
        (STEPS, "train_loss", "loss", "its columns are not step, epoch"),
        (
            EPOCHS,
            "\n2,60,0.5,0.05,1.0,30.0",
            "\n2,60,0.5,0.05,1.0,30.0,5",
            "is not the log of a training run",
        ),
        (EPOCHS, "1.5,61.0,4", "1.5,61.0,inf", "row 2 is damaged: resolution_bits is inf"),
        (EPOCHS, "1.5,61.0", "1.5,NaN", "row 2 is damaged: test_top1_percent is nan"),
        (EPOCHS, "\n3,90,", "\n1,90,", "row 3 is damaged: epoch 1 comes after 2"),
        (LOG, '"settings"', '"setting"', "log.json is not the log"),
        (LOG, "{", "", "log.json is not the log"),
    ],
)
def test_damaged_files_are_named(file, old, new, message, tmp_path):
    run = make_run(tmp_path / "run", quantized=True)
    text = (run / file).read_text()
    assert old in text
    (run / file).write_text(text.replace(old, new, 1))
    with pytest.raises(FormatError, match=message) as caught:
        draw([run], tmp_path / "out")
    assert str(run / file) in str(caught.value) and not (tmp_path / "out").exists()


def test_a_log_of_steps_that_was_cut_is_noticed(plain):
    lines = (plain / STEPS).read_text().splitlines(keepends=True)
    (plain / STEPS).write_text("".join(lines[:-3]))
    with pytest.raises(FormatError, match=r"steps.csv is cut short: epochs.csv has 4 epochs"):
        read_run(plain, "run")
    (plain / STEPS).write_text("")
    with pytest.raises(FormatError, match="cut short"):
        read_run(plain, "run")
    (plain / STEPS).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match="is not the log"):
        read_run(plain, "run")
    (plain / STEPS).write_text("step\n" + "9" * 200_000)  # more than a cell of csv may have
    with pytest.raises(FormatError, match="is not the log"):
        read_run(plain, "run")


def test_a_rate_of_0_makes_an_infinite_temperature_and_no_damage(tmp_path):
    run = make_run(tmp_path / "run", quantized=True)
    (run / STEPS).write_text((run / STEPS).read_text().replace(",0.0001\n", ",inf\n"))
    assert read_run(run, "run").steps[0]["temperature"] == float("inf")


def test_steps_after_the_last_finished_epoch_are_left_out(plain):
    lines = (plain / EPOCHS).read_text().splitlines(keepends=True)
    # stopped between writing the one file and the other
    (plain / EPOCHS).write_text("".join(lines[:-1]))
    assert [row["step"] for row in read_run(plain, "run").steps] == [10 * k for k in range(1, 10)]


def test_axes_of_counts_have_whole_numbers(tmp_path):
    line = Line("a", (1, 2, 3), (1.0, 2.0, 3.0))
    write_html("t", [Chart("t", "x", "y", (line,), whole_x=True)], tmp_path / "whole.html")
    write_html("t", [Chart("t", "x", "y", (line,))], tmp_path / "any.html")
    assert '"dtick":1' in (tmp_path / "whole.html").read_text()[-4000:]
    assert '"dtick":1' not in (tmp_path / "any.html").read_text()[-4000:]


@pytest.mark.parametrize("y", [(2.29, 2.3), (0.1, 3.0), (1e-9, 1.0)])
def test_logarithms_of_any_range_are_drawn(y, tmp_path):
    write_png(Chart("t", "x", "y", (Line("a", (1, 2), y),), log_y=True), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_names_that_start_with_an_underscore_are_in_the_legend(tmp_path):
    for name in ("_run", "run"):
        write_png(Chart("t", "x", "y", (Line(name, (1, 2), (1, 2)),)), tmp_path / f"{name}.png")
    with Image.open(tmp_path / "_run.png") as odd, Image.open(tmp_path / "run.png") as usual:
        assert odd.width > usual.width  # by the width of the underscore
