"""subbyte bench on a folder of quantize: float and ONNX Runtime's own tool beside it, the page."""

import shutil

import pytest

from subbyte.records import read_bench, read_result
from tests.workplace import complaint


@pytest.fixture(scope="module")
def folder(result, tmp_path_factory):
    place = tmp_path_factory.mktemp("bench") / "run"
    shutil.copytree(result[0], place)
    return place


@pytest.fixture(scope="module")
def done(folder, subbyte):
    return subbyte("bench", folder, "--batches", "1,4", "--pairs", 3)


def test_a_folder_is_compared_with_float_and_the_runtimes_own_tool(done, folder):
    assert done.code == 0, done.err
    found = read_bench(folder / "bench.json")
    assert [one.name for one in found.files] == ["float", "onnxruntime static", "model.onnx"]
    assert found.reference == "float" and found.batches == [1, 4]
    network, static, ours = found.files
    assert set(ours.timing(4).against) == {"float", "onnxruntime static"}
    # three layers of the network: 8 x 64 x 27, 8 x 4 x 72, 32 x 4
    for one in found.files:
        assert one.kernels.multiplications == 8 * 64 * 27 + 8 * 4 * 72 + 32 * 4, one.name
    assert network.kernels.integer_multiplications == 0
    assert static.kernels.multiplied_percent == ours.kernels.multiplied_percent == 100
    assert ours.bytes == read_result(folder).exports[0].bytes
    for words in ("batch 4, 1 thread", "against onnxruntime static", "random weights"):
        assert words in done.out


def test_the_page_shows_it(done, folder, subbyte, tmp_path):
    again = subbyte("report", folder, "--out", tmp_path / "page.html", "--csv", tmp_path)
    assert again.code == 0, again.err
    text = (tmp_path / "page.html").read_text()
    assert "How many times as fast as float" in text and "Slowest nodes of model.onnx" in text
    rows = (tmp_path / "speed-and-memory-the-runtime-s-graph-for-one-sample.csv").read_text()
    assert rows.count("\n") == 4 and "onnxruntime static," in rows


def test_a_file_of_a_folder_knows_its_float_network(done, folder, subbyte, tmp_path):
    out = tmp_path / "one.json"
    again = subbyte("bench", folder / "model.onnx", "--pairs", 1, "--no-static", "--out", out)
    assert again.code == 0, again.err
    assert [one.name for one in read_bench(out).files] == ["float", "model.onnx"]
    refused = subbyte("bench", folder / "model.onnx", "--out", out)
    assert refused.code == 1 and "one.json exists" in refused.err


def test_a_network_that_is_gone_costs_the_comparison_alone(folder, subbyte, tmp_path):
    shutil.copytree(folder, tmp_path / "run")
    path = tmp_path / "run" / "result.json"
    path.write_text(path.read_text().replace("net.py:net", "gone.py:net"))
    done = subbyte("bench", tmp_path / "run", "--pairs", 1)
    assert done.code == 0 and "the float network can't be compared" in done.out


def test_quantize_says_how_fast_its_file_is(subbyte, given, tmp_path):
    done = subbyte("quantize", *given, "--recipe", "w8a8", "--out", tmp_path / "out", "--bench")
    assert done.code == 0, done.err
    (one,) = read_result(tmp_path / "out").exports
    assert one.speed.pairs >= 1 and one.timing.batch == 1
    (line,) = [line for line in done.out.splitlines() if "onnx-int8 is " in line]
    assert f"{1 / one.speed.median:.2f} x its speed" in line
    assert line.startswith("warning: onnx-int8 is slower") == (one.speed.low > 1)
    assert "Speed and memory" in (tmp_path / "out" / "report.html").read_text()
    assert "speed" in read_result(tmp_path / "out").seconds


def test_findings_are_in_results_and_told(result):
    (one,) = read_result(result[0]).exports
    assert one.timing is None and one.kernels.multiplied_percent == 100
    assert f"onnx-int8 in its runtime: {one.kernels.summary}" in result[1].out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--batches", "1,x"], "--batches: each must be a whole number"),
        (["--size", "224"], "--size must be NAME=NUMBER"),
        (["--threads", 0], "at least 1"),
    ],
)
def test_wrong_options(options, words, subbyte, folder):
    done = subbyte("bench", folder, *options)
    assert words in complaint(done.code, done.out, done.err)
