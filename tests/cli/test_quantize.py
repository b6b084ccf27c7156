"""subbyte quantize: what it writes, what it prints, and what it leaves when it ends early."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib

import pytest
import yaml
from safetensors.torch import load_file

from subbyte.engine import quantization
from subbyte.exporters import EXPORTERS
from subbyte.exporters.packed import read
from subbyte.recipe import Plan
from subbyte.rounding import ROUNDINGS
from tests.exporters.plugin import Arrays
from tests.workplace import figures, lay_out, names_in

FILES = {
    "model.safetensors",
    "model.onnx",
    "plan.yaml",
    "result.json",
    "figures.json",
    "card.md",
    "report.html",
}


def test_it_writes_all_files(result):
    assert names_in(result[0]) == FILES


def test_it_prints_layers_activations_and_the_summary(result):
    out, done = result
    found = json.loads((out / "result.json").read_text())
    for row in (*found["layers"], *found["activations"]):
        assert any(
            row["name"] in line and f"{row['bytes']:,}" in line for line in done.out.splitlines()
        ), row
    for row in found["layers"]:
        assert f"{row['sqnr_db']:.1f}" in done.out and "4 bits in INT8" in done.out
    (export,) = found["exports"]
    for part in (found["float"], found["quantized"], export):
        assert f"{figures(part)['top-1']:.2f}" in done.out
    assert (
        f"{figures(found['quantized'])['agreement']:.2f}" in done.out
        and f"{found['bits_per_weight']:.2f}" in done.out
    )
    for size in (*found["bytes"].values(), export["bytes"]):
        assert f"{size:,}" in done.out
    assert "parity of onnx-int8 on 40 samples" in done.out and str(out) in done.out
    assert "Traceback" not in done.out + done.err


def test_a_folder_with_a_users_method_may_be_moved(subbyte, given, tmp_path):
    """All that was written names the file from where it was written, and knows nothing of this
    machine.
    """
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    (here / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom subbyte.rounding import Nearest\n"
        "@dataclass(frozen=True)\nclass Mine(Nearest):\n    setting: int = 3\n"
    )
    out = here / "runs" / "x"
    options = ("--export", "none", "--no-report", "--out")
    mine = f"weights.rounding={here / 'mine.py'}:Mine"
    done = subbyte("quantize", *given, "--recipe", "w4", "--set", mine, *options, out)
    assert done.code == 0, done.err
    stored = load_file(out / "model.safetensors")["header"].numpy().tobytes()
    packed = zlib.decompress(stored)
    assert str(here).encode() not in packed
    for name in names_in(out):
        assert str(here).encode() not in (out / name).read_bytes(), name
    assert packed.count(b"../../mine.py:Mine") == 3
    settings = json.loads((out / "result.json").read_text())["settings"]
    assert settings["weights"]["rounding"] == "../../mine.py:Mine"
    shutil.move(here, there)
    plan, again = there / "runs" / "x" / "plan.yaml", there / "again"
    done = subbyte("quantize", *given, "--recipe", plan, *options, again)
    assert done.code == 0, done.err
    before, after = (read(p / "model.safetensors").tensors for p in (plan.parent, again))
    assert before.keys() == after.keys() and all((before[k] == after[k]).all() for k in before)
    assert subbyte("inspect", plan).code == 0
    (rounding,) = {layer.rounding for layer in read(again / "model.safetensors").plan.layers}
    assert ROUNDINGS.name(rounding) == f"{there / 'mine.py'}:Mine"


def test_what_an_exporter_refuses_is_said_before_the_walk(subbyte, given, tmp_path, monkeypatch):
    monkeypatch.setitem(EXPORTERS, "arrays", Arrays())
    monkeypatch.setattr(quantization, "walk", None)  # it would raise TypeError
    options = (*given, "--recipe", "w4a8", "--export", "arrays")
    for last in (("--out", tmp_path / "out"), ("--dry-run", "--input-shape", "3,8,8")):
        done = subbyte("quantize", *options, *last)
        assert done.code == 1
        assert done.err.strip().endswith("error: exporter arrays: arrays hold weights alone")
    assert names_in(tmp_path) == set()


def test_an_exporter_that_there_is_not_is_said_before_anything_is_done(subbyte, given, tmp_path):
    for last in (("--out", tmp_path / "out"), ("--dry-run", "--input-shape", "3,8,8")):
        done = subbyte("quantize", *given, "--recipe", "mine.yaml", "--export", "onnx-int9", *last)
        assert done.code == 1 and done.out == "" and "'onnx-int9'" in done.err


def test_plan_yaml_reloads(result):
    plan = Plan.from_dict(yaml.safe_load((result[0] / "plan.yaml").read_text()))
    assert [(layer.name, str(layer.asked)) for layer in plan.layers] == [
        ("0", "4"),
        ("4", "4"),
        ("7", "4"),
    ]
    assert plan.recipe == "w4a8" and plan.to_yaml() == (result[0] / "plan.yaml").read_text()


def test_the_same_command_gives_the_same_bytes_in_another_process(result, given, place):
    out, _ = result
    environment = os.environ | {
        "PYTHONHASHSEED": "7",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    options = [*map(str, given), "--recipe", "w4a8", "--out", str(place / "again")]
    command = [sys.executable, "-m", "subbyte", "quantize", *options, "--no-bench"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for name in ("model.safetensors", "model.onnx", "plan.yaml", "figures.json"):
        assert (out / name).read_bytes() == (place / "again" / name).read_bytes(), name
    first, second = (
        json.loads((folder / "result.json").read_text()) for folder in (out, place / "again")
    )
    for found in (first, second):
        assert set(found.pop("seconds")) >= {"capture", "walk", "export", "evaluate"}
    assert first == second


@pytest.mark.slow
def test_another_seed_draws_other_images(subbyte, result, given, tmp_path):
    done = subbyte("quantize", *given, "--recipe", "w4a8", "--seed", 1, "--out", tmp_path / "out")
    assert done.code == 0
    assert (tmp_path / "out/model.safetensors").read_bytes() != (
        result[0] / "model.safetensors"
    ).read_bytes()


def test_settings_are_changed_in_order(subbyte, given, tmp_path):
    settings = [
        "--set",
        "weights.bits=3",
        "--set",
        "weights.rounding=gpfq",
        "--set",
        "layers.7.weights.bits=8",
    ]
    done = subbyte("quantize", *given, "--recipe", "w4", *settings, "--out", tmp_path / "out")
    assert done.code == 0
    found = json.loads((tmp_path / "out/result.json").read_text())
    assert [row["bits"] for row in found["layers"]] == ["3", "3", "8"]
    assert found["activations"] == []
    assert found["settings"]["weights"]["rounding"] == "gpfq"
    plan = yaml.safe_load((tmp_path / "out/plan.yaml").read_text())
    assert [layer["rounding"]["name"] for layer in plan["layers"]] == ["gpfq"] * 3
    # weights only: nothing to gain from int8
    assert [export["name"] for export in found["exports"]] == ["onnx-compact"]


def test_a_run_without_export_says_so(subbyte, given, tmp_path):
    done = subbyte("quantize", *given, "--export", "none", "--out", tmp_path / "out")
    assert done.code == 0 and "nothing was exported" in done.out and "onnx" not in done.out
    assert names_in(tmp_path / "out") == FILES - {"model.onnx"}
    shown = subbyte("inspect", tmp_path / "out")
    assert shown.code == 0 and "nothing was exported" in shown.out


def test_a_scalar_multiplies_the_scales_and_zeros_are_counted(subbyte, given, tmp_path):
    quantize = ("quantize", *given, "--recipe", "gpfq", "--set", "weights.rounding=nearest")
    for name, options in (("one", ("--scalar", "1")), ("two", ("--scalar", "2"))):
        done = subbyte(*quantize, *options, "--out", tmp_path / name)
        assert "of the quantized weights are 0" in done.out
        assert (
            done.code == 0 and "zeros %" in done.out and "4 wide" in done.out and "4.09" in done.out
        )
    one, two = (
        json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "two")
    )
    assert (
        two["settings"]["weights"]["scalar"] == 2
        and two["zeros_percent"] > one["zeros_percent"] > 0
    )
    found = [read(tmp_path / name / "model.safetensors").tensors for name in ("one", "two")]
    for layer in ("0", "4", "7"):
        key = f"layers/{layer}/scale"
        assert float(found[1][key] / found[0][key]) == pytest.approx(2)


def test_plans_show_what_happens_beside_the_rounding(subbyte, place):
    model = f"{place / 'net.py'}:net"
    settings = ("--set", "weights.precondition=magr", "--set", "tune=cascade", "--scalar", "1.5")
    done = subbyte("quantize", "--model", model, "--dry-run", "--input-shape", "3,8,8", *settings)
    assert done.code == 0 and "tune: cascade" in done.out
    text = " ".join(done.out.split())
    assert "magr" in text and "1.5" in text


def test_a_dry_run_needs_no_data_and_writes_nothing(subbyte, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = f"{place / 'net.py'}:net"
    done = subbyte(
        "quantize", "--model", model, "--recipe", "w4a4", "--dry-run", "--input-shape", "3,8,8"
    )
    assert done.code == 0 and names_in(tmp_path) == set()
    rows = [line.split() for line in done.out.splitlines()]
    for layer in ("0", "4", "7"):
        assert any(
            layer in row and "4" in row and "corrected" in row and "mse" in row for row in rows
        ), layer
    assert "input" in done.out and "activation (value)" in done.out and "8x3x3x3" in done.out


def test_a_dry_run_knows_the_shapes_of_built_in_networks_and_of_data(
    subbyte, given, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert subbyte("quantize", "--model", "lenet-digits", "--dry-run").code == 0
    done = subbyte(
        "quantize", *given, "--dry-run", "--set", "layers.4.skip=true", "--out", tmp_path / "out"
    )
    assert done.code == 0 and "skipped by the recipe" in done.out and names_in(tmp_path) == set()


def test_a_dry_run_without_a_shape_asks_for_it(subbyte, place):
    done = subbyte("quantize", "--model", f"{place / 'net.py'}:net", "--dry-run")
    assert done.code == 1 and "--input-shape" in done.err


def test_what_exists_is_kept_and_force_is_asked_for(subbyte, given, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/result.json").write_text("{}")
    done = subbyte("quantize", *given, "--out", tmp_path / "out")
    assert done.code == 1 and "--force" in done.err
    assert (
        names_in(tmp_path) == {"out", "out/result.json"}
        and (tmp_path / "out/result.json").read_text() == "{}"
    )


def test_force_replaces_an_earlier_result(subbyte, given, result, tmp_path):
    shutil.copytree(result[0], tmp_path / "out")
    (tmp_path / "out/model.onnx").write_bytes(b"old")
    done = subbyte("quantize", *given, "--recipe", "w4a8", "--out", tmp_path / "out", "--force")
    assert done.code == 0 and names_in(tmp_path) == {"out"} | {f"out/{name}" for name in FILES}
    assert (tmp_path / "out/model.onnx").read_bytes() == (result[0] / "model.onnx").read_bytes()


@pytest.mark.parametrize("option", ["--out", "--data"])
def test_needed_options_are_asked_for(option, subbyte, given, tmp_path):
    arguments = [*given, "--out", tmp_path / "out"]
    where = arguments.index(option)
    done = subbyte("quantize", *arguments[:where], *arguments[where + 2 :])
    assert done.code == 2 and option in done.err and names_in(tmp_path) == set()


STARTS = """
import sys, time
import subbyte.engine.quantization as engine
walk = engine.walk
def slow(*args, progress=None, **settings):
    def report(done, total, what):
        print("walking", done, flush=True)
        time.sleep(1)
    return walk(*args, progress=report, **settings)
engine.walk = slow
from subbyte.cli.main import app
app()
"""


@pytest.mark.slow  # a race on busy machines: the signal must arrive before the walk ends
@pytest.mark.parametrize("existing", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_ctrl_c_in_the_middle_leaves_nothing(existing, tmp_path):
    lay_out(tmp_path)
    if existing:
        (tmp_path / "out").mkdir()
        (tmp_path / "out/result.json").write_text("{}")
    before = names_in(tmp_path)
    command = [
        sys.executable,
        "-c",
        STARTS,
        "quantize",
        "--model",
        "net.py:net",
        "--weights",
        "net.safetensors",
        "--data",
        "npz:data.npz",
        "--calibration",
        "40",
        "--out",
        "out",
        "--force",
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("walking"), process.communicate()[1]
        during = names_in(tmp_path)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err and "Traceback" not in err and "Traceback" not in out
    assert names_in(tmp_path) == before and during - before, (
        "there was nothing to clean up: the test is void"
    )
    assert not existing or (tmp_path / "out/result.json").read_text() == "{}"


@pytest.mark.slow
def test_exit_codes_are_those_of_the_process(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "subbyte", "inspect", str(tmp_path / "none.onnx")]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (1, "") and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and "none.onnx" in done.stderr
    assert time.perf_counter() - start < 60


def test_the_commands_are_listed_and_explain_themselves(subbyte):
    done = subbyte("--help")
    assert done.code == 0 and all(
        name in done.out for name in ("demo", "quantize", "evaluate", "inspect")
    )
    for name in ("demo", "quantize", "evaluate", "inspect"):
        assert subbyte(name, "--help").code == 0
    assert subbyte("--version").out.startswith("subbyte ")


def test_a_target_is_obeyed_or_refused_before_the_walk(subbyte, given, tmp_path):
    done = subbyte("quantize", *given, "--recipe", "w4", "--target", "int8-mcu", "--out", "x")
    assert done.code == 1 and "target int8-mcu" in done.err and "activations.bits=8" in done.err
    out = tmp_path / "out"
    given = (*given, "--no-report", "--target", "int8-mcu")
    done = subbyte("quantize", *given, "--recipe", "w8a8", "--out", out)
    assert done.code == 0, done.err
    told = " ".join(done.out.split())
    assert "obeys the rules of int8-mcu" in told and "nothing was run on such a device" in told
    target = json.loads((out / "result.json").read_text())["target"]
    assert target["name"] == "int8-mcu" and not target["misses"]
    assert Plan.read(out / "plan.yaml").target == "int8-mcu"
