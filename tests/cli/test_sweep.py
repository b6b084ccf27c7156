"""subbyte sweep."""

import errno
import re
import time

import numpy as np
import pytest

import subbyte.cli.sweep as cli
from subbyte.analyses.sweeps.engines import Local
from subbyte.exporters.packed import read
from subbyte.records.outcome import Failed
from tests.analyses.sweeps.place import Fake, command, metrics, table, write_space
from tests.workplace import names_in


@pytest.fixture
def space(place, tmp_path):
    """A file with a space of 6 runs on the network of the folder `place`."""
    return write_space(place, tmp_path / "mine.yaml", checkpoint=str(place / "net.safetensors"))


@pytest.fixture
def fake(monkeypatch):
    """No run is done; what it gives is at `fake.outcome`."""
    engine = Fake()
    monkeypatch.setattr(cli, "Local", lambda jobs, cache: engine)
    return engine


def test_a_sweep_and_what_it_says(subbyte, space, tmp_path):
    done = subbyte("sweep", space, "--out", tmp_path / "out", "--seeds", "0", "--calibration", 20)
    assert done.code == 0, done.err
    assert f"3 runs: {tmp_path / 'out'}/results.csv" in done.out
    rows = table(tmp_path / "out/results.csv")
    assert [(row["weights.bits"], row["calibration"], row["status"]) for row in rows] == [
        (bits, "20", "done") for bits in "234"
    ]
    assert float(rows[2]["original_top1_percent"]) > 80 and {row["name"] for row in rows} == {
        "mine"
    }
    before = (tmp_path / "out/results.csv").read_bytes()
    again = subbyte("sweep", space, "--out", tmp_path / "out", "--seeds", "0", "--calibration", 20)
    assert again.code == 0 and (tmp_path / "out/results.csv").read_bytes() == before


def test_networks_are_kept_where_that_is_asked(subbyte, space, tmp_path):
    out, asked = tmp_path / "out", ("--seeds", 0, "--calibration", 20, "--no-report")
    assert subbyte("sweep", space, "--out", out, *asked).code == 0
    assert not list(out.glob("runs/*.safetensors"))
    before = {row["run"]: row["bits_per_weight"] for row in table(out / "results.csv")}
    done = subbyte("sweep", space, "--out", out, *asked, "--keep-models")
    assert done.code == 0, done.err
    rows = table(out / "results.csv")
    assert {row["run"]: row["bits_per_weight"] for row in rows} == before
    kept = {path.stem: path for path in out.glob("runs/*.safetensors")}
    assert set(kept) == set(before)
    for row in rows:
        packed = read(kept[row["run"]])
        assert packed.plan.layers[0].asked.number == int(row["weights.bits"])
        assert packed.header.about["calibration"] == 20
    refused = subbyte("sweep", space, "--out", out, "--keep-models", "--ray", "local")
    assert refused.code == 1 and "networks are not kept on a cluster" in refused.err
    whole = kept[rows[0]["run"]].read_bytes()
    marks = {path: path.stat().st_mtime_ns for path in kept.values()}
    kept[rows[0]["run"]].unlink()
    assert subbyte("sweep", space, "--out", out, *asked, "--keep-models").code == 0
    assert kept[rows[0]["run"]].read_bytes() == whole
    same = [path for path, mark in marks.items() if path.stat().st_mtime_ns == mark]
    assert len(same) == len(kept) - 1


def test_what_was_chosen(subbyte, place, fake, tmp_path):
    space = write_space(place, tmp_path / "mine.yaml", choose="agreement_percent")
    fake.outcome = lambda run: metrics(
        70.0 + run.seed, agreement_percent=float(run.recipe.weights.bits)
    )
    done = subbyte("sweep", space, "--out", tmp_path / "out")
    expected = (
        "chosen by agreement_percent on validation images: weights.bits = 4; test top-1 "
        "70.50 ± 6.35 % over 2 seeds"
    )
    assert done.code == 0 and expected in done.out


def test_options_take_the_place_of_the_file(subbyte, space, place, fake, tmp_path):
    options = [
        "--weights",
        place / "net.safetensors",
        "--model",
        f"{place}/net.py:net",
        "--normalize",
        "imagenet",
    ]
    done = subbyte(
        "sweep",
        space,
        "--out",
        tmp_path / "out",
        *options,
        "--data",
        f"npz:{place}/data.npz",
        "--seeds",
        "4,7",
    )
    assert done.code == 0, done.err
    assert [(task.run.seed, task.run.normalize) for task in fake.asked] == [
        (4, "imagenet"),
        (7, "imagenet"),
    ] * 3


def test_dry_run_writes_nothing(subbyte, space, tmp_path):
    before = names_in(tmp_path)
    done = subbyte("sweep", space, "--dry-run", "--out", tmp_path / "out", "--jobs", 2)
    assert done.code == 0, done.err
    assert "6 runs of space mine" in done.out and "weights.bits = 4" in done.out
    assert re.search(r"about \d+ s with 2 at a time", done.out)
    assert names_in(tmp_path) == before


def test_dry_run_of_many(subbyte, space):
    done = subbyte("sweep", space, "--dry-run", "--seed", "0-48,49")
    assert done.code == 0 and "... and 110 more" in done.out


def test_it_asks_about_very_many(subbyte, place, fake, tmp_path, monkeypatch):
    many = write_space(
        place, tmp_path / "many.yaml", grid={"weights.bits": [2, 3], "weights.scalar": "0..1..1e-9"}
    )
    refused = subbyte("sweep", many, "--out", tmp_path / "out")
    assert refused.code == 1 and "4,000,000,004 runs: is that what you want?" in refused.err
    assert not (tmp_path / "out").exists() and not fake.asked
    monkeypatch.setattr(cli, "ASK", 6)
    space = write_space(place, tmp_path / "mine.yaml")
    assert subbyte("sweep", space, "--out", tmp_path / "out").code == 1 and not fake.asked
    assert (
        subbyte("sweep", space, "--out", tmp_path / "out", "--yes").code == 0
        and len(fake.asked) == 6
    )
    assert cli.ASK < 10_000 == 10_000  # the number in the text of --yes


def test_a_failed_run_gives_exit_code_3(subbyte, space, fake, tmp_path):
    fake.outcome = lambda run: Failed(error="why") if run.seed else metrics()
    done = subbyte("sweep", space, "--out", tmp_path / "out")
    assert done.code == 3 and "6 runs, 3 failed (see the column error)" in done.out
    fake.outcome = lambda run: metrics()
    assert subbyte("sweep", space, "--out", tmp_path / "out").code == 3
    assert subbyte("sweep", space, "--out", tmp_path / "out", "--retry").code == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ["--seeds", "0,x"],
            "--seeds: each must be a whole number, at least 0 and at most 4,294,967,295, got 'x'",
        ),
        (["--seeds", ""], "--seeds: each must be a whole number"),
        (["--seeds", "1,1"], "twice"),
        (["--seed", "0-3,2"], "twice"),
        (["--seeds", "3-1"], "no range"),
        (["--seeds", "0-4294967295"], "no range"),
        (["--seeds", "1-"], "--seeds: each must be a whole number"),
        (["--track", "wandb"], "--track must be mlflow or mlflow:URI, got 'wandb'"),
        (["--data", "npz:none.npz"], "none.npz"),
        (["--calibration", "5000"], "5000"),
    ],
)
def test_bad_options(options, expected, subbyte, space, tmp_path):
    done = subbyte("sweep", space, "--out", tmp_path / "out", *options)
    assert done.code == 1 and expected in done.err and done.err.count("error:") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options", [[], ["--out", "x", "--jobs", "0"], ["--dry-run", "--jobs", "0"], ["--gpus", "-1"]]
)
def test_usage(options, subbyte, space):
    assert subbyte("sweep", space, *options).code == 2


def test_unknown_spaces_and_foreign_folders(subbyte, space, place, fake):
    done = subbyte("sweep", "gpfq-bitz", "--out", "x")
    assert done.code == 1 and "neither a preset (gpfq-bits, " in done.err
    done = subbyte("sweep", space, "--out", place)
    assert done.code == 1 and "holds no sweep" in done.err and not fake.asked


def test_a_full_disk(subbyte, space, fake, tmp_path, monkeypatch):
    subbyte("sweep", space, "--out", tmp_path / "out", "--seeds", "0")
    before = {path.name for path in (tmp_path / "out/runs").iterdir()}
    assert len(before) == 3

    def full(self, *_, **__):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    done = subbyte("sweep", space, "--out", tmp_path / "out")
    assert (
        done.code == 1
        and done.err.count("No space left on device") == 1
        and "Traceback" not in done.err
    )
    assert len([line for line in done.err.splitlines() if "error:" in line]) == 1
    assert {path.name for path in (tmp_path / "out/runs").iterdir()} == before
    monkeypatch.undo()
    monkeypatch.setattr(cli, "Local", lambda jobs, cache: fake)
    assert subbyte("sweep", space, "--out", tmp_path / "out").code == 0
    assert len(table(tmp_path / "out/results.csv")) == 6


def test_ctrl_c(subbyte, space, fake, tmp_path):
    def stops(run):
        if run.recipe.weights.bits == 4:
            raise KeyboardInterrupt
        return metrics()

    fake.outcome = stops
    done = subbyte("sweep", space, "--out", tmp_path / "out")
    assert done.code == 130 and f"are kept in {tmp_path / 'out'}" in done.err
    assert len(table(tmp_path / "out/results.csv")) == 4


def test_jobs_reach_the_engine(subbyte, space, fake, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "Local", lambda jobs, cache: seen.append(Local(jobs, cache)) or fake)
    seen = []
    assert subbyte("sweep", space, "--out", tmp_path / "out", "--jobs", 3).code == 0
    assert seen == [Local(3, tmp_path / "out/cache")]


@pytest.mark.slow
@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere.invalid:6379"])
def test_a_cluster_that_is_not_there(address, space, tmp_path):
    pytest.importorskip("ray")
    start = time.monotonic()
    process = command("sweep", space, "--out", tmp_path / "out", "--ray", address)
    _, text = process.communicate(timeout=120)
    assert process.returncode == 1 and text.count("error:") == 1 and "Traceback" not in text
    assert f"--ray {address}: no cluster could be reached" in text and time.monotonic() - start < 90


@pytest.mark.parametrize("labelled", [False, True])
def test_without_class_labels_settings_are_compared_by_another_score(
    labelled, subbyte, place, tmp_path
):
    """Images alone: by agreement. Scores to be reached as floats: by their cosine."""
    with np.load(place / "data.npz") as file:
        images = {name: file[name] for name in ("x_train", "x_test")}
    if labelled:
        images |= {f"wanted_{k}": np.eye(4)[len(x) * [1]] for k, x in _kinds(images)}
    np.savez(tmp_path / "other.npz", **images)
    space = tmp_path / "mine.yaml"
    space.write_text(
        f"recipe: w4\nmodel: {place}/net.py:net\ncheckpoint: {place}/net.safetensors\n"
        f"data: npz:{tmp_path}/other.npz\ncalibration: 20\nvalidation: 30\n"
        "choose: output_error\ngrid:\n  weights.bits: [2, 8]\n"
    )
    done = subbyte("sweep", space, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    low, high = table(tmp_path / "out/results.csv")
    assert low["original_top1_percent"] == "" and float(low["output_error"]) > 3 * float(
        high["output_error"]
    )
    score = "cosine" if labelled else "agreement with float"
    assert low["score"] == score
    chosen = table(tmp_path / "out/chosen.csv")
    assert chosen[0]["weights.bits"] == "8" and f"test {score} " in done.out
    assert float(chosen[0]["original_score_percent"]) == 100 or labelled
    text = (tmp_path / "out/report.html").read_text()
    assert f"{score.capitalize()} against weights.bits" in text and "top-1" not in text.lower()
    space.write_text(space.read_text().replace("output_error", "quantized_top1_percent"))
    wrong = subbyte("sweep", space, "--out", tmp_path / "out")
    assert wrong.code == 1 and "quantized_top1_percent was not measured" in wrong.err


def _kinds(images):
    return [(name.partition("_")[2], x) for name, x in images.items()]
