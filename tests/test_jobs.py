"""Jobs: a folder with everything or nothing, and a result whose figures are right."""

import os
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch

import subbyte
from subbyte.errors import FormatError, ParityError, RecipeError, SubbyteError
from subbyte.exporters import EXPORTERS
from subbyte.exporters.packed import read
from subbyte.jobs import PACKED, Job, run, running
from subbyte.recipe import load_recipe
from subbyte.records import Result, read_result
from tests.workplace import data_set, figures, float_network, lay_out, names_in

torch.set_num_threads(1)
FILES = {
    "model.safetensors", "model.onnx", "plan.yaml", "result.json", "figures.json", "card.md"
}  # fmt: skip
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


@pytest.mark.skipif(os.name == "nt", reason="there all names are text")
def test_a_name_that_no_runtime_can_open_is_refused_before_the_walk(place):
    out, reports = place / os.fsdecode(b"\xff"), list[str]()
    with pytest.raises(FormatError, match="no text in UTF-8"):
        run(JOB, float_network(place), data_set(place), out, lambda *said: reports.append(said[0]))
    assert not out.exists() and not reports
    job = replace(JOB, exports=("none",), model=os.fsdecode(b"\xfe.py:net"))
    run(job, float_network(place), data_set(place), out, silent)
    with pytest.raises(FormatError, match="no text in UTF-8"):
        read(out / PACKED)
    out = out.rename(place / "text")
    assert read(out / PACKED).header.about["model"] == "\ufffd.py:net"


def test_the_folder_holds_all_files(made):
    assert names_in(made[0]) == FILES


def test_the_result_is_that_of_the_file(made):
    out, found, _ = made
    assert read_result(out) == found and found.version == Result.VERSION
    assert list(found.seconds) == [
        "capture", "plan", "walk", "export", "evaluate", "figures", "effects"
    ]  # fmt: skip
    (export,) = found.exports
    assert (export.name, export.file, export.opset) == ("onnx-int8", "model.onnx", 21)
    assert all("INT8" in row.exports["onnx-int8"] for row in found.layers)
    assert len(found.layers) == 3 and found.activations
    assert (found.seed, found.calibration, found.images) == (0, 40, 60)
    alike = figures(found.quantized)["agreement"]
    for percent in (found.float.headline.value, alike, export.parity.classes):
        assert 1 < percent <= 100


def test_sizes_are_those_of_the_files(made, place):
    out, found, _ = made
    assert found.bytes.file == (out / "model.safetensors").stat().st_size
    assert found.exports[0].bytes == (out / "model.onnx").stat().st_size
    assert found.bytes.packed < found.bytes.file and found.bytes.packed < found.exports[0].holds
    assert found.exports[0].holds < found.exports[0].bytes
    # the batch-norm is folded
    assert found.bytes.float == 4 * (8 * 27 + 8 + 8 * 72 + 8 + 4 * 32 + 4)
    weights = 8 * 27 + 8 * 72 + 4 * 32
    assert found.bits_per_weight == pytest.approx(8 * (weights / 2 + 5 * (8 + 8 + 4)) / weights)
    assert [row.bytes for row in found.layers] == [
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
    runtime = subbyte.runner(out / "model.onnx")
    with torch.no_grad():
        top = {
            name: f(x).argmax(1)
            for name, f in (("float", network), ("quantized", packed), ("onnx", runtime))
        }
    (export,) = found.exports
    told = {"float": found.float, "quantized": found.quantized, "onnx": export}
    for name, classes in top.items():
        assert figures(told[name])["top-1"] == pytest.approx(
            100 * float((classes == y).double().mean())
        )
    assert figures(found.quantized)["agreement"] == pytest.approx(
        100 * float((top["float"] == top["quantized"]).double().mean())
    )
    assert figures(export)["agreement"] == pytest.approx(
        100 * float((top["onnx"] == top["quantized"]).double().mean())
    )
    assert figures(found.float)["top-1"] > 80 and figures(found.quantized)["top-1"] > 70


def test_parity_is_measured_on_the_calibration_images(made, place):
    out, found, _ = made
    calibration, _ = subbyte.draw_calibration(data_set(place), 40, 0)
    packed = subbyte.load(out / "model.safetensors", float_network(place))
    difference = (packed(calibration) - subbyte.runner(out / "model.onnx")(calibration)).abs()
    parity = found.exports[0].parity
    assert parity.outputs[0].largest == pytest.approx(float(difference.max()), abs=1e-7)
    assert parity.samples == 40 and parity.ratio <= 1


def test_every_stage_reports_its_progress(made):
    reports = made[2]
    assert list(dict.fromkeys(report[0] for report in reports)) == [
        "capture",
        "plan",
        "walk",
        "export",
        "evaluate",
        "figures",
        "effects",
    ]
    for stage in {report[0] for report in reports}:
        done = [(n, total) for name, n, total, _ in reports if name == stage]
        assert done[-1][0] == done[-1][1] and done == sorted(done)
    assert {"0", "4", "7", "input"} <= {what for stage, _, _, what in reports if stage == "walk"}


@pytest.mark.parametrize(
    "stage", ["carry_out", "write", "export_in", "measure", "gather", "write_document"]
)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_fails_leaves_everything_as_it_was(stage, error, place, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/result.json").write_text("earlier")
    for name, given in {
        "carry_out": MagicMock(options=[]),
        "write": 1,
        "export_files": {"onnx-int8": "model.onnx"},
        "export_in": None,
        "measure": MagicMock(),
        "gather": None,
        "summary": None,
        "write_text": None,
    }.items():
        if name != stage:  # quick stand-ins for the stages that are not at issue
            monkeypatch.setattr(running, name, lambda *a, given=given, **k: given)

    def fail(*args, **settings):
        assert [p for p in tmp_path.iterdir() if p.name != "out"], (
            "there is nothing to clean up: the test is void"
        )
        raise error("in the middle")

    monkeypatch.setattr(running, stage, fail)
    for force, out in ((True, "out"), (False, "new")):
        with pytest.raises(error, match="in the middle"):
            run(JOB, float_network(place), data_set(place), tmp_path / out, silent, force=force)
        assert names_in(tmp_path) == {"out", "out/result.json"}
        assert (tmp_path / "out/result.json").read_text() == "earlier"


def test_a_file_without_parity_fails_the_run(place, tmp_path, monkeypatch):
    def refuse(*args, **settings):
        raise ParityError("output differs")

    monkeypatch.setattr(running, "export_in", refuse)
    with pytest.raises(ParityError):
        run(JOB, float_network(place), data_set(place), tmp_path / "out", silent)
    assert names_in(tmp_path) == set()


def test_several_exporters_write_a_file_each(place, tmp_path):
    """Weights only: 2 bits in the small file, int8 in the other one."""
    job = replace(JOB, recipe=load_recipe("w2"), exports=("onnx-compact", "onnx-int8"))
    found = run(job, float_network(place), data_set(place), tmp_path / "out", silent)
    assert [(one.name, one.file, one.opset) for one in found.exports] == [
        ("onnx-compact", "model-onnx-compact.onnx", 25),
        ("onnx-int8", "model-onnx-int8.onnx", 21),
    ]
    for one in found.exports:
        assert one.bytes == (tmp_path / "out" / one.file).stat().st_size
    for row in found.layers:
        assert "INT2" in row.exports["onnx-compact"] and "INT8" in row.exports["onnx-int8"]
    assert found.activations == []


def test_nothing_is_exported_where_that_is_asked_for(place, tmp_path):
    job = replace(JOB, exports=("none",))
    found = run(job, float_network(place), data_set(place), tmp_path / "out", silent)
    assert found.exports == [] and names_in(tmp_path / "out") == FILES - {"model.onnx"}
    assert not any(row.exports for row in found.layers)


def test_unknown_exporters_are_an_error_before_anything_is_done():
    with pytest.raises(RecipeError, match=", ".join(EXPORTERS)):
        replace(JOB, exports=("int16",))


def test_an_operation_without_a_form_costs_the_file_not_the_result(place, tmp_path):
    class Pooled(torch.nn.Module):
        """The network behind a pool to a size that does not divide."""

        def __init__(self):
            super().__init__()
            self.net = float_network(place)

        def forward(self, x):
            first = x[:, :, :2, :2].mean() * 0
            odd = torch.nn.functional.adaptive_max_pool2d(x[:, :, :5, :5], 4)
            return self.net(x) + 0 * odd.mean() + first

    out = tmp_path / "out"
    found = run(JOB, Pooled().eval(), data_set(place), out, silent)
    assert not found.exports and "adaptive_max_pool2d" in found.not_exported["onnx-int8"]
    assert names_in(out) == FILES - {"model.onnx"} and read_result(out) == found


def test_a_network_quantized_in_python_gets_the_folder_of_a_command(made, place, tmp_path):
    _, by_command, _ = made
    data, model = data_set(place), float_network(place)
    images, test = subbyte.draw_calibration(data, 40, 0)
    quantized = subbyte.quantize(model, images, "w4a8")
    pairs = (test.images(range(len(test))), test.labels)
    page = subbyte.report(quantized, model, images, tmp_path / "q", test=pairs)
    found = read_result(tmp_path / "q")
    assert page == tmp_path / "q" / "report.html" and page.is_file()
    assert found.quantized.scores == by_command.quantized.scores
    assert found.float.scores == by_command.float.scores
    assert [one.name for one in found.effects] == [one.name for one in by_command.effects]
    alone = subbyte.report(quantized, model, [images[:25], images[25:]], tmp_path / "alone")
    assert not read_result(alone.parent).float.scores and read_result(alone.parent).images == 40
    with pytest.raises(SubbyteError, match="exists"):
        subbyte.report(quantized, model, images, tmp_path / "q")
    both = subbyte.compare([page.parent, alone.parent], tmp_path / "both.html")
    assert "2 quantized networks" in both.read_text()
