"""Files measured against each other: records, references, sizes, errors. The times themselves are
the machine's.
"""

import numpy as np
import pytest

import subbyte
from subbyte.errors import DataError, FormatError, RecipeError
from subbyte.records import read_bench, write_document
from tests.exporters.hand_made import write


def net(path, width, sizes=("batch", 6)):
    nodes = [("MatMul", ["x", "a"], "h"), ("MatMul", ["h", "b"], "y")]
    arrays = {"a": np.ones((6, width), np.float32), "b": np.ones((width, 6), np.float32)}
    return write(path, nodes, arrays, sizes)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return net(folder / "small.onnx", 8), net(folder / "large.onnx", 4000)


def test_files_are_compared_with_the_first(files, tmp_path):
    found = subbyte.bench(*files, batches=(1, 3), pairs=7)
    assert found.reference == "small.onnx" and found.batches == [1, 3]
    assert found.notes == ["compared with small.onnx, the first file"]
    small, large = found.files
    assert small.bytes == files[0].stat().st_size and large.kernels.multiplications == 48000
    for batch in (1, 3):
        (ratio,) = large.timing(batch).against.values()
        assert ratio.low > 1 and ratio.pairs == 7 and small.timing(batch).against == {}
        low, high = large.timing(batch).quartiles
        assert low <= large.timing(batch).seconds <= high
    assert sum(node.percent for node in large.nodes) == pytest.approx(100)
    write_document(tmp_path / "bench.json", found)
    assert read_bench(tmp_path / "bench.json") == found


def test_files_of_one_batch_size_are_measured_at_that(files, tmp_path):
    fixed = net(tmp_path / "fixed.onnx", 8, (3, 6))
    found = subbyte.bench(files[0], fixed, batches=(1, 3), pairs=1)
    assert [time.batch for time in found.files[1].timings] == [3]
    assert "fixed.onnx takes batches of 3 only, not of 1" in found.notes
    assert found.files[1].kernels.multiplications == 3 * 96


def test_several_threads_are_timed_by_the_wall(files):
    found = subbyte.bench(files[0], threads=2, pairs=1)
    assert found.threads == found.files[0].timings[0].threads == 2


def test_names_are_the_shortest_that_differ(files, tmp_path):
    (tmp_path / "other").mkdir()
    again = net(tmp_path / "other" / "small.onnx", 8)
    found = subbyte.bench(files[0], again, pairs=1)
    assert [one.name for one in found.files][1] == "other/small.onnx"


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "words"),
    [
        ((), {}, RecipeError, "no file was given"),
        (("none.onnx",), {}, FormatError, "none.onnx: no such file"),
        (("notes.txt",), {}, FormatError, "notes.txt: no exporter's files end like this"),
        (("empty",), {}, FormatError, r"empty holds no result.json; give a folder of"),
        (("a.onnx", "a.onnx"), {}, RecipeError, "a.onnx is given twice"),
        (("a.onnx",), {"batches": (0,)}, RecipeError, "at least 1"),
        (("a.onnx",), {"threads": 0}, RecipeError, "at least 1"),
        (("free.onnx",), {}, DataError, "--size height=224"),
    ],
)
def test_what_is_wrong_is_said(arguments, settings, error, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("")
    net(tmp_path / "a.onnx", 8)
    write(tmp_path / "free.onnx", [("Erf", ["x"], "y")], {}, ("batch", "height"))
    with pytest.raises(error, match=words):
        subbyte.bench(*arguments, **settings)
