"""subbyte plot, from end to end: on a run that `subbyte train` wrote, and beside one made by
hand.
"""

import pytest
from tests.report.test_training import make_run

from tests.workplace import names_in


@pytest.fixture(scope="module")
def trained(subbyte, tmp_path_factory):
    out = tmp_path_factory.mktemp("plot") / "trained"
    done = subbyte(
        "train",
        "--model",
        "lenet-digits",
        "--data",
        "digits",
        "--epochs",
        2,
        "--lr",
        0.05,
        "--batch-size",
        64,
        "--out",
        out,
    )
    assert done.code == 0, done.err
    return out


def test_one_run_is_drawn_into_its_own_folder(subbyte, trained):
    before = names_in(trained)
    done = subbyte("plot", trained)
    assert done.code == 0, done.err
    drawn = [trained / name for name in ("loss.png", "accuracy.png", "trends.html")]
    assert done.out.splitlines() == [str(path) for path in drawn]
    assert names_in(trained) == before | {path.name for path in drawn}
    assert all(path.stat().st_size > 10_000 for path in drawn)
    assert "trained: lenet-digits on digits, 2 epochs of sgd" in drawn[-1].read_text()


def test_several_runs_are_drawn_together(subbyte, trained, tmp_path):
    other = make_run(tmp_path / "runs[red]" / "q", quantized=True)
    out = tmp_path / "[out]" / ("long" * 50)
    options = ["--out", out, "--smooth", 2, "--points", 1]
    done = subbyte("plot", trained, other, *options, "--name", "float", "--name", "quantized")
    assert done.code == 0, done.err
    files = {"loss.png", "accuracy.png", "resolution.png", "moved.png", "trends.html"}
    assert names_in(out) == files
    assert {line.rsplit("/", 1)[1] for line in done.out.splitlines()} == files
    assert all(line.startswith(str(out)) for line in done.out.splitlines())
    text = (out / "trends.html").read_text()
    assert (
        "float: lenet-digits" in text
        and "quantized: lenet on" in text
        and "running mean over 2" in text
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{one}", "{two}"], "--out is needed to draw 2 runs together"),
        (["{one}", "--smooth", "0"], "smooth must be 1 row or more, got 0"),
        (["{one}", "--points", "-2"], "points must be 0 (all epochs) or more, got -2"),
        (["{one}", "--name", "a", "--name", "b"], "as many names as runs are needed: got 2 for 1"),
        (["{none}"], "none is not a training run with a finished epoch"),
        (["{one}", "{one}", "--out", "{none}"], "one is given twice"),
    ],
)
def test_errors_are_one_line(subbyte, arguments, message, tmp_path):
    places = {name: make_run(tmp_path / name) for name in ("one", "two")} | {
        "none": tmp_path / "none"
    }
    before = names_in(tmp_path / "one")
    done = subbyte("plot", *(argument.format(**places) for argument in arguments))
    assert done.code == 1 and not done.out
    assert done.err.startswith("error: ") and message in done.err and done.err.count("\n") == 1
    assert names_in(tmp_path / "one") == before and not (tmp_path / "none").exists()


def test_a_run_is_asked_for(subbyte):
    done = subbyte("plot")
    assert done.code == 2 and "DIR" in done.err


def test_help_says_what_is_not_smoothed(subbyte):
    done = subbyte("plot", "--help")
    assert done.code == 0 and "1: no smoothing" in " ".join(done.out.split())
