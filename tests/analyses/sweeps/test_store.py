"""The folder of a sweep."""

import json
import os

import pytest

from subbyte.analyses.sweeps.store import Results
from subbyte.errors import FormatError, SubbyteError
from subbyte.records.outcome import Failed
from tests.analyses.sweeps.place import metrics, space_of, table, tasks_of


@pytest.fixture
def tasks(tmp_path):
    return tasks_of(
        space_of(tmp_path, grid={"weights.bits": [2, 3], "weights.allocate": [None, "optimum"]})
    )


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path / "out", "name")


def test_what_was_added_is_read(tasks, results, tmp_path):
    assert results.read(tasks[0]) is None and not results.finished(tasks[0])
    results.add(tasks[0], metrics(12.5))
    results.add(tasks[1], Failed(error="why"))
    for again in (results, Results(tmp_path / "out", "name")):
        assert again.read(tasks[0]) == metrics(12.5)
        assert again.finished(tasks[0], retry=True)
        assert again.finished(tasks[1]) and not again.finished(tasks[1], retry=True)
    assert {path.name for path in (tmp_path / "out/runs").iterdir()} == {
        f"{task.key}.json" for task in tasks[:2]
    }


def test_run_files_are_there_whole_or_not_at_all(tasks, results, monkeypatch):
    def torn(self, content, *arguments, **more):
        with self.open("wb") as file:
            file.write(content[:20])
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.write_bytes", torn)
    with pytest.raises(KeyboardInterrupt):
        results.add(tasks[0], metrics())
    assert results.read(tasks[0]) is None and not list((results.out / "runs").iterdir())


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"status": "odd"}',
        '{"status": "done"}',
        '{"status": "failed"}',
        '{"status": ["done"]}',
    ],
)
def test_damaged_run_files(content, tasks, results):
    path = results.out / "runs" / f"{tasks[0].key}.json"
    path.write_text(content)
    with pytest.raises(FormatError, match=rf"{path.name} is damaged \(.+\); delete it"):
        results.read(tasks[0])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"version": 2}', "version 2; this subbyte reads version 1; choose another --out"),
        ("{", "damaged"),
        ("{}", "damaged"),
        ("[]", "damaged"),
    ],
)
def test_other_versions(content, expected, tmp_path, results):
    (results.out / "sweep.json").write_text(content)
    with pytest.raises(FormatError, match=expected):
        Results(results.out, "name")


def test_foreign_folders(tmp_path):
    (tmp_path / "out").mkdir()
    Results(tmp_path / "out", "an empty folder will do")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("mine")
    for name in ("file", "full"):
        with pytest.raises(SubbyteError, match="holds no sweep"):
            Results(tmp_path / name, "name")
    assert (tmp_path / "file").read_text() == "mine" and len(
        list((tmp_path / "full").iterdir())
    ) == 1


COLUMNS = [
    "run",
    "status",
    "name",
    "model",
    "data",
    "recipe",
    "calibration",
    "seed",
    "split",
    "weights.bits",
    "weights.allocate",
    "images",
    "original_top1_percent",
    "quantized_top1_percent",
    "original_top5_percent",
    "quantized_top5_percent",
    "agreement_percent",
    "original_score_percent",
    "quantized_score_percent",
    "output_error",
    "original_sparsity_percent",
    "quantized_sparsity_percent",
    "bits_per_weight",
    "packed_bytes",
    "capture_seconds",
    "walk_seconds",
    "evaluate_seconds",
    "score",
    "error",
]


def test_table(tasks, results, tmp_path):
    for number, task in enumerate(tasks[:5]):
        results.add(task, metrics(number + 0.5))
    results.add(tasks[5], Failed(error='odd, "quoted"\nline'))
    returned = results.write_tables(tasks, ("weights.bits", "weights.allocate"))
    rows = table(results.out / "results.csv")
    assert list(rows[0]) == COLUMNS and len(rows) == len(returned) == 6
    assert [row["run"] for row in rows] == [task.key for task in tasks[:6]]
    first = {
        "status": "done",
        "name": "name",
        "data": "npz",
        "seed": "0",
        "split": "validation",
        "weights.bits": "2",
    }
    assert (
        rows[0].items()
        >= (first | {"weights.allocate": "", "quantized_top1_percent": "0.5", "error": ""}).items()
    )
    assert rows[5]["error"] == 'odd, "quoted"\nline' and rows[5]["quantized_top1_percent"] == ""


def test_axes_that_are_columns_anyway(tmp_path):
    tasks = tasks_of(
        space_of(tmp_path, grid={"data": ["npz:a", "npz:b"], "calibration": [5, 6]}, seeds=[0])
    )
    results = Results(tmp_path / "out", "name")
    for task in tasks:
        results.add(task, metrics())
    results.write_tables(tasks, ("data", "calibration"))
    rows = table(tmp_path / "out/results.csv")
    assert [(row["data"], row["calibration"]) for row in rows] == [
        ("npz:a", "5"),
        ("npz:a", "6"),
        ("npz:b", "5"),
        ("npz:b", "6"),
    ]
    assert list(rows[0]) == [name for name in COLUMNS if not name.startswith("weights.")]


def test_parquet_is_the_csv(results, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    tasks = tasks_of(
        space_of(tmp_path, grid={"weights.bits": [3, "ternary"], "weights.scalar": [1.5]})
    )
    for task in tasks[:-1]:
        results.add(task, metrics(100 / 3))
    results.add(tasks[-1], Failed(error="why"))
    results.write_tables(tasks, ("weights.bits", "weights.scalar"))
    found = parquet.read_table(results.out / "results.parquet").to_pylist()
    as_text = [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in found
    ]
    assert as_text == table(results.out / "results.csv")
    assert found[0]["quantized_top1_percent"] == 100 / 3 and found[0]["weights.scalar"] == 1.5


@pytest.mark.skipif(os.name == "nt", reason="there all names are text")
def test_tables_are_written_into_a_folder_whose_name_is_no_text(tasks, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    results = Results(tmp_path / os.fsdecode(b"\xff"), "name")
    results.add(tasks[0], metrics(12.5))
    results.write_tables(tasks[:1], ())
    with (results.out / "results.parquet").open("rb") as file:
        assert parquet.read_table(file).num_rows == 1


def test_lists_are_json_in_tables(results, tmp_path):
    tasks = tasks_of(
        space_of(
            tmp_path, grid={"weights.rounding": [{"name": "corrected", "sweeps": 2}]}, seeds=[0]
        )
    )
    results.add(tasks[0], metrics())
    results.write_tables(tasks, ("weights.rounding",))
    row = table(results.out / "results.csv")[0]
    assert json.loads(row["weights.rounding"]) == {"name": "corrected", "sweeps": 2}
