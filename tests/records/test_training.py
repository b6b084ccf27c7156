"""Logs of training runs are read whole, or the file and the place of the damage are named."""

import pytest

from subbyte.errors import FormatError
from subbyte.records.training import EPOCHS, LOG, STEPS, read_run
from tests.pages.test_training import make_run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run", quantized=True)


def test_what_was_written_is_read(run, tmp_path):
    found = read_run(run)
    assert (found.settings.model, found.settings.lr, found.settings.epochs) == ("lenet", 0.05, 4)
    assert [row.step for row in found.steps] == [10 * k for k in range(1, 13)]
    assert [row.score("test_top1_percent") for row in found.epochs] == [None, 61.0, None, 60.5]
    (tmp_path / "again").mkdir()
    found.write(tmp_path / "again")
    for file in (LOG, EPOCHS, STEPS):
        assert (tmp_path / "again" / file).read_bytes() == (run / file).read_bytes()


@pytest.mark.parametrize("file", [LOG, EPOCHS, STEPS])
def test_a_folder_that_is_no_run_is_named(file, run):
    (run / file).unlink()
    with pytest.raises(FormatError, match=f"run is not a training run .*no {file}"):
        read_run(run)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (STEPS, "\n20,1,0.05,1.5,", "\n20,1,0.05,nan,", "row 2: train_loss: .*finite"),
        (STEPS, "\n20,1,0.05,1.5,", "\n20,1,0.05,,", "row 2: train_loss: is missing"),
        (STEPS, "\n20,1,0.05,1.5,", "\n20,1,0.05,x1.5,", "row 2: train_loss: .*must be a number"),
        (STEPS, "\n20,1,0.05,1.5,", "\n10,1,0.05,1.5,", "row 2: step 10 comes after 10"),
        (STEPS, "0.0001\n", "nan\n", "row 1: temperature"),
        (STEPS, "train_loss", "loss", "row 1: train_loss: is missing"),
        (STEPS, "\n10,1,0.05", "\n10,1", "row 1 is cut short"),
        (EPOCHS, "1.5,61.0,4.0", "1.5,61.0,inf", "row 2: resolution_bits: .*finite"),
        (EPOCHS, "\n3,90,", "\n1,90,", "row 3: epoch 1 comes after 2"),
        (LOG, '"settings"', '"setting"', "settings: is missing"),
        (LOG, "{", "", "no JSON"),
        (LOG, '"version": 3', '"version": 2', "version 2; this subbyte reads version 3"),
        (EPOCHS, "test_top1_percent", "test_top_percent", "it has no column test_top1_percent"),
        (STEPS, "train_top1_percent", "top1", "it has no column train_top1_percent"),
    ],
)
def test_damaged_files_are_named(file, old, new, message, run):
    text = (run / file).read_text()
    assert old in text
    (run / file).write_text(text.replace(old, new, 1))
    with pytest.raises(FormatError, match=message) as caught:
        read_run(run)
    assert str(run / file) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut short: epochs.csv has 4 epochs"),
        (b"\xff\xfe\x00", "can't be read"),
        (b"step\n" + b"9" * 200_000, "can't be read"),  # more than a cell of csv may have
    ],
    ids=["empty", "bytes", "long"],
)
def test_a_log_of_steps_that_is_none_is_noticed(content, message, run):
    (run / STEPS).write_bytes(content)
    with pytest.raises(FormatError, match=f"steps.csv.*{message}"):
        read_run(run)


def test_logs_end_with_the_last_epoch_that_both_have(run):
    steps = (run / STEPS).read_text().splitlines(keepends=True)
    epochs = (run / EPOCHS).read_text().splitlines(keepends=True)
    # stopped between writing the one file and the other
    (run / EPOCHS).write_text("".join(epochs[:-1]))
    assert [row.step for row in read_run(run).steps] == [10 * k for k in range(1, 10)]
    (run / EPOCHS).write_text("".join(epochs))
    (run / STEPS).write_text("".join(steps[:-3]))
    with pytest.raises(FormatError, match="cut short"):
        read_run(run)
    (run / EPOCHS).write_text(epochs[0])
    with pytest.raises(FormatError, match="run has no finished epoch"):
        read_run(run)


def test_a_rate_of_0_makes_an_infinite_temperature_and_no_damage(run):
    (run / STEPS).write_text((run / STEPS).read_text().replace(",0.0001\n", ",inf\n"))
    assert read_run(run).steps[0].temperature == float("inf")
