"""Jobs: a folder with everything or nothing, and a result whose figures are right."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import subbyte
from subbyte import jobs
from subbyte.engine.quantization import collect
from subbyte.errors import DataError, ParityError, SubbyteError
from subbyte.io.folders import folder
from subbyte.jobs import Job, run
from subbyte.recipe import load_recipe
from subbyte.records.quantized import Evidence
from tests.workplace import data_set, float_network, lay_out, names_in

torch.set_num_threads(1)
FILES = {"model.safetensors", "model.onnx", "plan.yaml", "result.json", "figures.json"}
NUMBER = (int, float)
SCHEMA = {
    "model": str,
    "data": str,
    "recipe": str,
    "seed": int,
    "calibration": int,
    "images": int,
    "float": {"top1": float, "top5": float},
    "quantized": {"top1": float, "top5": float, "agreement": float},
    "onnx": {"top1": float, "agreement": float, "opset": int, "container": str},
    "bits_per_weight": float,
    "bytes": {"float": int, "packed": int, "onnx": int},
    "seconds": {
        "capture": NUMBER,
        "walk": NUMBER,
        "export": NUMBER,
        "evaluate": NUMBER,
        "figures": NUMBER,
    },
    "parity": {"max_abs": float, "mean_abs": float, "agreement": float, "images": int},
    "fold_error": float,
    "layers": list,
    "taps": list,
    "skipped": list,
}
ROW = {
    "name": str,
    "asked": str,
    "bits": str,
    "reason": str,
    "bytes": int,
    "sqnr_db": (float, type(None)),
    "onnx": str,
}
JOB = Job("net", "npz:data", load_recipe("w4a8"), calibration=40)


def silent(stage: str, done: int, total: int, what: str) -> None:
    pass


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return lay_out(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def made(place):
    """(folder, result, reports) of one run; do not change it."""
    reports: list[tuple[str, int, int, str]] = []
    found = run(
        JOB,
        float_network(place),
        data_set(place),
        place / "out",
        lambda *report: reports.append(report),
    )
    return place / "out", found, reports


def conform(value: object, schema: object, where: str) -> None:
    if isinstance(schema, dict):
        assert isinstance(value, dict) and set(schema) <= set(value), where
        for key, below in schema.items():
            conform(value[key], below, f"{where}.{key}")
    else:
        assert isinstance(value, schema) and not isinstance(value, bool), f"{where}: {value!r}"


def test_the_folder_holds_all_files(made):
    assert names_in(made[0]) == FILES


def test_the_result_has_every_key_of_the_right_type(made):
    found = json.loads((made[0] / "result.json").read_text())
    assert found == json.loads(json.dumps(made[1]))
    conform(found, SCHEMA, "result")
    assert len(found["layers"]) == 3 and found["taps"]
    for row in (*found["layers"], *found["taps"]):
        conform(row, ROW, row["name"])
    assert (found["seed"], found["calibration"], found["images"]) == (0, 40, 60)
    for percent in (
        found["float"]["top1"],
        found["quantized"]["agreement"],
        found["parity"]["agreement"],
    ):
        assert 1 < percent <= 100


def test_sizes_are_those_of_the_files(made, place):
    out, found, _ = made
    assert found["bytes"]["packed"] == (out / "model.safetensors").stat().st_size
    assert found["bytes"]["onnx"] == (out / "model.onnx").stat().st_size
    # the batch-norm is folded
    assert found["bytes"]["float"] == 4 * (8 * 27 + 8 + 8 * 72 + 8 + 4 * 32 + 4)
    weights = 8 * 27 + 8 * 72 + 4 * 32
    assert found["bits_per_weight"] == pytest.approx(8 * (weights / 2 + 5 * (8 + 8 + 4)) / weights)
    assert [row["bytes"] for row in found["layers"]] == [
        8 * 27 // 2 + 40,
        8 * 72 // 2 + 40,
        64 + 20,
    ]


def test_accuracies_are_those_of_the_files(made, place):
    """Measured again from what was written, without the job's help."""
    out, found, _ = made
    test = data_set(place).test
    x, y = test.images(range(60)), test.labels
    network = float_network(place)
    packed = subbyte.load(out / "model.safetensors", float_network(place))
    runtime = subbyte.onnx_model(out / "model.onnx")
    with torch.no_grad():
        top = {
            name: f(x).argmax(1)
            for name, f in (("float", network), ("quantized", packed), ("onnx", runtime))
        }
    for name, classes in top.items():
        assert found[name]["top1"] == pytest.approx(100 * float((classes == y).double().mean()))
    assert found["quantized"]["agreement"] == pytest.approx(
        100 * float((top["float"] == top["quantized"]).double().mean())
    )
    assert found["onnx"]["agreement"] == pytest.approx(
        100 * float((top["onnx"] == top["quantized"]).double().mean())
    )
    assert found["float"]["top1"] > 80 and found["quantized"]["top1"] > 70


def test_parity_is_measured_on_the_calibration_images(made, place):
    out, found, _ = made
    calibration, _ = subbyte.draw_calibration(data_set(place), 40, 0)
    packed = subbyte.load(out / "model.safetensors", float_network(place))
    difference = (packed(calibration) - subbyte.onnx_model(out / "model.onnx")(calibration)).abs()
    assert found["parity"]["max_abs"] == pytest.approx(float(difference.max()), abs=1e-7)
    assert found["parity"]["mean_abs"] == pytest.approx(float(difference.mean()), abs=1e-7)
    assert found["parity"]["images"] == 40


def test_every_stage_reports_its_progress(made):
    reports = made[2]
    assert list(dict.fromkeys(report[0] for report in reports)) == [
        "walk",
        "evaluate float",
        "evaluate quantized",
        "evaluate onnx",
    ]
    for stage in {report[0] for report in reports}:
        done = [(n, total) for name, n, total, _ in reports if name == stage]
        assert done[-1][0] == done[-1][1] and done == sorted(done)
    assert {"0", "4", "7", "input"} <= {what for stage, _, _, what in reports if stage == "walk"}


@pytest.mark.parametrize(
    "stage", ["prepare", "walk", "save", "export_onnx", "measure", "gather", "write_json"]
)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_fails_leaves_everything_as_it_was(stage, error, place, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/result.json").write_text("earlier")
    found = Evidence.model_construct(version=1)
    for name, given in (
        ("walk", None),
        ("save", 1),
        ("export_onnx", None),
        ("measure", None),
        ("gather", found),
    ):
        if name != stage:  # quick stand-ins for the stages that are not at issue
            monkeypatch.setattr(jobs, name, lambda *a, given=given, **k: given)
    monkeypatch.setattr(jobs, "assemble", lambda *a: None)
    monkeypatch.setattr(jobs, "summary", lambda *a: {})
    monkeypatch.setattr(jobs, "_named", lambda *a: None)

    def fail(*args, **settings):
        assert [p for p in tmp_path.iterdir() if p.name != "out"], (
            "there is nothing to clean up: the test is void"
        )
        raise error("in the middle")

    monkeypatch.setattr(jobs, stage, fail)
    for force, out in ((True, "out"), (False, "new")):
        with pytest.raises(error, match="in the middle"):
            run(JOB, float_network(place), data_set(place), tmp_path / out, silent, force=force)
        assert names_in(tmp_path) == {"out", "out/result.json"}
        assert (tmp_path / "out/result.json").read_text() == "earlier"


def test_a_file_without_parity_fails_the_run(place, tmp_path, monkeypatch):
    whole = jobs.export_onnx
    monkeypatch.setattr(jobs, "export_onnx", lambda *a, **k: whole(*a, **k, min_agreement=100.1))
    with pytest.raises(ParityError):
        run(JOB, float_network(place), data_set(place), tmp_path / "out", silent)
    assert names_in(tmp_path) == set()


def test_weights_only_go_into_the_compact_container(place, tmp_path):
    job = replace(JOB, recipe=load_recipe("w2"))
    found = run(job, float_network(place), data_set(place), tmp_path / "out", silent)
    assert (found["onnx"]["container"], found["onnx"]["opset"], found["taps"]) == (
        "compact",
        25,
        [],
    )
    assert all("INT2" in row["onnx"] for row in found["layers"])


@pytest.mark.slow
def test_the_container_can_be_chosen(place, tmp_path):
    job = replace(JOB, recipe=load_recipe("w2"), container="int8")
    found = run(job, float_network(place), data_set(place), tmp_path / "out", silent)
    assert (found["onnx"]["container"], found["onnx"]["opset"]) == ("int8", 21)


def test_a_folder_takes_its_place_when_the_block_ends(tmp_path):
    with folder(tmp_path / "a" / "out", force=False) as temporary:
        (temporary / "result.json").write_text("new")
        assert not (tmp_path / "a" / "out").exists()
    assert names_in(tmp_path) == {"a", "a/out", "a/out/result.json"}


def test_force_replaces_an_earlier_result_whole(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in FILES:
        (out / name).write_text("old")
    with folder(out, force=True) as temporary:
        (temporary / "result.json").write_text("new")
        assert (out / "result.json").read_text() == "old"
    assert (
        names_in(tmp_path) == {"out", "out/result.json"}
        and (out / "result.json").read_text() == "new"
    )


def test_force_takes_an_empty_folder(tmp_path):
    (tmp_path / "out").mkdir()
    with folder(tmp_path / "out", force=True) as temporary:
        (temporary / "result.json").write_text("new")
    assert names_in(tmp_path) == {"out", "out/result.json"}


@pytest.mark.parametrize(
    "names", [["notes.txt"], ["result.json", "notes.txt"], ["result.json", "photos/a.jpg"]]
)
def test_force_refuses_folders_with_anything_else(names, tmp_path):
    for name in names:
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text("precious")
    with pytest.raises(SubbyteError, match="out"), folder(tmp_path / "out", force=True):
        pass
    assert all((tmp_path / "out" / name).read_text() == "precious" for name in names)


@pytest.mark.parametrize("force", [False, True])
def test_files_in_the_way_are_refused(force, tmp_path):
    (tmp_path / "out").write_text("precious")
    with pytest.raises(SubbyteError, match="out"), folder(tmp_path / "out", force=force):
        pass
    assert (tmp_path / "out").read_text() == "precious"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_folder_vanishes_when_its_block_fails(error, tmp_path):
    with pytest.raises(error), folder(tmp_path / "out", force=False) as temporary:
        (temporary / "model.onnx").write_text("half")
        raise error
    assert names_in(tmp_path) == set()


def test_leftovers_of_a_killed_run_are_swept_away(tmp_path):
    for name in ("out", ".out.partial", ".out.previous"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").write_text("half")
    with folder(tmp_path / "out", force=True) as temporary:
        assert list(temporary.iterdir()) == []
    assert names_in(tmp_path) == {"out"}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_the_earlier_result_comes_back_when_the_exchange_fails(error, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/result.json").write_text("earlier")
    rename = Path.rename

    def fail(path, target):
        if path.name == ".out.partial":
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises((error, SubbyteError)), folder(tmp_path / "out", force=True) as temporary:
        (temporary / "result.json").write_text("new")
    assert names_in(tmp_path) == {"out", "out/result.json"}
    assert (tmp_path / "out/result.json").read_text() == "earlier"


def test_collect_makes_one_tensor_of_batches():
    x = torch.randn(10, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    collected = collect([(part, None) for part in x.split(4)])
    assert collected.dtype == torch.float32 and not collected.requires_grad
    assert torch.equal(collected, x.detach().float())


@pytest.mark.parametrize("given", [[], torch.empty(0, 3), torch.zeros(4)])
def test_collect_refuses_nothing(given):
    with pytest.raises(DataError):
        collect(given)
