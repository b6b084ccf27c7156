"""subbyte report, from end to end: beside a result, of folders of all kinds, and what it says when
it can't.
"""

import shutil
import sys

import pytest

from subbyte.pages import page as module
from subbyte.records import Result, read_evidence, read_result
from tests.pages.results import make_result, make_scan
from tests.pages.test_training import make_run
from tests.workplace import data_set, figures, float_network, names_in


def test_quantize_writes_a_page(result):
    out, done = result
    text = (out / "report.html").read_text()
    found = read_result(out)
    assert (
        f"{figures(found.quantized)['top-1']:.2f} % top-1 on 60 test images" in text
        and len(text) < 6_000_000
    )
    assert f"to look at: {out / 'report.html'}" in done.out


def test_figures_are_those_of_the_networks(result, place):
    out, _ = result
    found, result, test = read_evidence(out), read_result(out), data_set(place).test
    assert found.images == 40 and list(found.layers) == ["0", "4", "7"]
    assert list(found.activations) == [row.name for row in result.activations]
    classes = float_network(place)(test.images(range(60))).argmax(1)
    right = [
        sum(count for label, named, count in cells if label == named)
        for cells in (found.predictions.float_cells, found.predictions.quantized_cells)
    ]
    assert right[0] == int((classes == test.labels).sum())
    assert 100 * right[0] / 60 == pytest.approx(figures(result.float)["top-1"])
    assert 100 * right[1] / 60 == pytest.approx(figures(result.quantized)["top-1"])
    changed = found.predictions.lost + found.predictions.gained + found.predictions.moved
    assert 100 - 100 * changed / 60 == pytest.approx(figures(result.quantized)["agreement"])
    zeros = found.layers["4"]
    assert sum(zeros.taken) == 8 * 72 and sum(zeros.counts) + zeros.below + zeros.above == 8 * 72
    assert result.seconds["figures"] < 10 and (out / "figures.json").stat().st_size < 100_000


def test_the_page_can_be_done_without(subbyte, given, tmp_path):
    done = subbyte("quantize", *given, "--recipe", "w4", "--out", tmp_path / "out", "--no-report")
    assert done.code == 0 and "report" not in done.out
    names = {"model.safetensors", "model.onnx", "plan.yaml", "card.md"}
    names |= {"result.json", "figures.json"}
    assert names_in(tmp_path / "out") == names
    done = subbyte("report", tmp_path / "out")
    assert done.code == 0 and done.out.strip() == str(tmp_path / "out" / "report.html")
    assert names_in(tmp_path / "out") == names | {"report.html"}


def test_without_plotly_quantize_goes_on_and_report_says_why(subbyte, given, tmp_path, monkeypatch):
    module._plotly.cache_clear()
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    done = subbyte("quantize", *given, "--recipe", "w4", "--out", tmp_path / "out")
    said = "no report was written: pages with plots need plotly: pip install 'subbyte[plots]'"
    assert done.code == 0 and done.out.splitlines()[-1] == said and "top-1" in done.out
    assert names_in(tmp_path / "out") >= {"result.json", "figures.json"}
    done = subbyte("report", tmp_path / "out")
    assert (
        done.code == 1
        and done.err == "error: pages with plots need plotly: pip install 'subbyte[plots]'\n"
    )
    assert "report.html" not in names_in(tmp_path / "out")


def test_force_replaces_a_result_with_its_page(subbyte, result, given, tmp_path):
    shutil.copytree(result[0], tmp_path / "out")
    options = ["--recipe", "w4", "--out", tmp_path / "out", "--force", "--no-report"]
    done = subbyte("quantize", *given, *options)
    # that was of the earlier result
    assert done.code == 0 and "report.html" not in names_in(tmp_path / "out")


def test_folders_of_all_kinds_become_one_page(subbyte, tmp_path, monkeypatch):
    make_result(tmp_path / "all" / "[red]a")
    make_result(tmp_path / "all" / "b")
    run, scan = make_run(tmp_path / "run"), make_scan(tmp_path / "scan")
    monkeypatch.chdir(tmp_path)
    done = subbyte(
        "report", tmp_path / "all", run, scan, "--png", tmp_path / "png", "--csv", tmp_path / "csv"
    )
    assert done.code == 0, done.err
    assert done.out.splitlines() == ["report.html", str(tmp_path / "png"), str(tmp_path / "csv")]
    assert len(names_in(tmp_path / "png")) >= 20 and len(names_in(tmp_path / "csv")) > 30
    text = (tmp_path / "report.html").read_text()
    assert "<title>4 results: [red]a, b, run, scan</title>" in text
    done = subbyte("report", tmp_path / "all", "--out", tmp_path / "elsewhere.html")
    assert (
        done.code == 0
        and "<title>2 quantized networks</title>" in (tmp_path / "elsewhere.html").read_text()
    )


def test_training_runs_are_drawn_as_asked(subbyte, tmp_path):
    runs = [make_run(tmp_path / name, quantized=True) for name in ("one", "runs[red]")]
    out, png = tmp_path / "[out].html", tmp_path / "png"
    options = ["--out", out, "--png", png, "--smooth", 2, "--epochs", 3]
    done = subbyte("report", *runs, *options, "--name", "float", "--name", "quantized")
    assert done.code == 0, done.err
    text = out.read_text()
    assert "float: lenet on digits" in text and "running mean over 2 logged rows" in text
    assert "first 3 epochs" in text and len(names_in(png)) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{none}"], "none is not a folder"),
        (["{empty}"], "empty is none of the folders that a report can be made of"),
        (["{bad}"], "result.json is damaged, or `subbyte quantize` did not write it"),
        (["{good}", "{good}"], "good is given twice"),
        (["{good}", "--smooth", "2"], "--smooth is for training runs; none of the folders is one"),
        (["{good}", "--name", "a", "--name", "b"], "as many names as folders are needed: got 2"),
        (["{good}", "--out", "{good}"], "is a folder; give the name of the page"),
        (["{good}", "--out", "{file}"], "exists and `subbyte report` did not write it"),
    ],
)
def test_errors_are_one_line(subbyte, arguments, message, tmp_path):
    good, bad = make_result(tmp_path / "good"), make_result(tmp_path / "bad")
    (bad / "result.json").write_text(f'{{"version": {Result.VERSION}}}')
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    places = {name: tmp_path / name for name in ("none", "empty", "file")} | {
        "good": good,
        "bad": bad,
    }
    before = names_in(tmp_path)
    done = subbyte("report", *(argument.format(**places) for argument in arguments))
    assert done.code == 1 and not done.out
    assert done.err.startswith("error: ") and message in done.err and done.err.count("\n") == 1
    assert names_in(tmp_path) == before and (tmp_path / "file").read_text() == "mine"


def test_folders_are_asked_for(subbyte):
    done = subbyte("report")
    assert done.code == 2 and "DIR" in done.err
    assert "--png" in subbyte("report", "--help").out
