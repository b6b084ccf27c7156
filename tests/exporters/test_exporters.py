"""What every exporter keeps to: files that compute what the torch model computes, or none."""

import re
from dataclasses import replace
from functools import cache
from importlib.util import find_spec

import pytest
import torch

import subbyte
from subbyte.core import GridSpec, Levels
from subbyte.errors import DataError, FormatError, ParityError, RecipeError
from subbyte.exporters import (
    EXPORTERS,
    check_exporters,
    choose_exporters,
    contents,
    export,
    exporter_of,
    is_exported,
    runner,
)
from subbyte.records.parity import FLOAT32
from tests.networks import build, images, quantized

SLOW = {"executorch", "litert"}  # they compile for seconds


def _marked(name):
    """An exporter's name; skipped where its runtime is not installed."""
    missing = find_spec(EXPORTERS[name].package) is None
    marks = [pytest.mark.skipif(missing, reason=f"{EXPORTERS[name].runtime} is not installed")]
    return pytest.param(name, marks=marks + [pytest.mark.slow] * (name in SLOW))


def used(marked):
    """Whether an exporter's file is run from Python."""
    return bool(EXPORTERS[marked.values[0]].usage)


every_exporter = pytest.mark.parametrize("name", list(map(_marked, EXPORTERS)))
RECIPES = ("w4", "w3", "w4a4", "w8a8")


def slowly(recipe):
    return pytest.param(recipe, marks=pytest.mark.slow)


def taken(network, name):
    """The network quantized by the first recipe whose plan the exporter does not refuse."""
    made = (quantized(network, recipe) for recipe in RECIPES)
    return next(model for model in made if EXPORTERS[name].refusal(model.plan) is None)


def path_of(name, folder):
    return folder / f"model{EXPORTERS[name].suffixes[0]}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An exporter's name to (exported, its folder) of a small network."""

    @cache
    def make(name):
        folder = tmp_path_factory.mktemp(name)
        model = taken("shared", name)
        return export(model, path_of(name, folder), images("shared"), to=name), folder

    return make


@every_exporter
def test_it_says_what_it_wrote(name, made):
    found, folder = made(name)
    exporter = EXPORTERS[name]
    assert exporter.name == found.exporter == name and exporter.runtime
    assert {path.suffix for path in folder.iterdir()} <= set(exporter.suffixes)
    assert found.path == path_of(name, folder) and found.parity.samples == len(images("shared"))
    assert found.bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert set(found.notes) <= {row.name for row in taken("shared", name).ledger}


@pytest.mark.parametrize("name", [one for one in map(_marked, EXPORTERS) if used(one)])
def test_its_lines_of_python_run_the_file(name, made, monkeypatch):
    _, folder = made(name)
    monkeypatch.chdir(folder)
    samples = images("shared")[:2]
    inputs = [samples if name == "torch" else samples.numpy()]
    own = {"inputs": inputs}
    exec(EXPORTERS[name].usage.replace("FILE", path_of(name, folder).name), own)
    (found,) = own["outputs"] if isinstance(own["outputs"], list) else [own["outputs"]]
    wanted = taken("shared", name)(samples)
    assert torch.allclose(torch.as_tensor(found), wanted, atol=0.02 * float(wanted.abs().max()))


@every_exporter
@pytest.mark.parametrize("recipe", [*RECIPES[1:3], slowly("w8a8"), slowly("w8a16")])
def test_its_files_agree_for_any_number_of_images(name, recipe, tmp_path):
    model, x = quantized("residual", recipe), images("residual")
    if reason := EXPORTERS[name].refusal(model.plan):
        with pytest.raises(RecipeError, match=re.escape(f"exporter {name}: {reason}")):
            export(model, path_of(name, tmp_path), x, to=name)
        assert list(tmp_path.iterdir()) == []
        return
    before, code = model(x), model.graph_module.code
    found = export(model, path_of(name, tmp_path), x, to=name)
    assert found.parity.classes == 100 or found.parity.rounding > FLOAT32  # by the runtime itself
    run = runner(found.path)
    whole = run(x)
    assert found.parity.outputs[0].largest == pytest.approx(float((before - whole).abs().max()))
    for count in (1, 3, 7):
        assert torch.allclose(run(x[:count]), whole[:count], atol=1e-5)
    assert torch.equal(model(x), before) and model.graph_module.code == code


@every_exporter
def test_a_loaded_model_gives_a_file_that_computes_the_same(name, made, tmp_path):
    subbyte.save(taken("shared", name), tmp_path / "model.safetensors")
    loaded = subbyte.load(tmp_path / "model.safetensors", build("shared", seed=2))
    path, x = path_of(name, tmp_path / "again"), images("shared")
    export(loaded, path, x, to=name)
    assert torch.equal(runner(path)(x), runner(made(name)[0].path)(x))


@every_exporter
def test_a_file_without_parity_is_not_kept(name, tmp_path):
    model, path = taken("shared", name), path_of(name, tmp_path)
    path.write_bytes(b"earlier")

    class Off(type(model)):
        def outputs(self, samples):
            return tuple(1.02 * output for output in super().outputs(samples))

    other = subbyte.quantize(build("shared"), images("shared"), "w4")
    other.__class__ = Off
    with pytest.raises(ParityError, match=re.escape(EXPORTERS[name].runtime)):
        export(other, path, images("shared"), to=name, force=True)
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"earlier"


@every_exporter
@pytest.mark.parametrize("shape", [(0, 4, 6, 6), (3, 4, 6, 5)])
def test_images_that_cannot_be_compared_are_an_error(name, shape, tmp_path):
    with pytest.raises(ParityError, match=r"takes float32 \[n, 4, 6, 6\], n >= 1"):
        export(taken("shared", name), path_of(name, tmp_path), torch.zeros(shape), to=name)
    assert list(tmp_path.iterdir()) == []


@every_exporter
def test_what_is_no_batch_of_the_networks_is_refused_with_both_shapes(name, made, tmp_path):
    with pytest.raises(ParityError, match=r"got list: the network takes float32 \[n, 4, 6, 6\]"):
        export(taken("shared", name), path_of(name, tmp_path), [1, 2], to=name)
    run = runner(made(name)[0].path)
    for x, got in (
        (torch.zeros(3, 4, 6, 5), r"float32 \[3, 4, 6, 5\]"),
        (torch.zeros(4, 6, 6), r"float32 \[4, 6, 6\]"),
        (torch.zeros(3, 4, 6, 6, dtype=torch.float64), "float64"),
        ([1, 2], "a list"),
    ):
        with pytest.raises(DataError, match=rf"takes float32 \[batch, 4, 6, 6\], got {got}"):
            run(x)


@every_exporter
def test_existing_files_are_kept_without_force(name, tmp_path):
    model, path, x = taken("shared", name), path_of(name, tmp_path), images("shared")
    path.write_bytes(b"earlier")
    with pytest.raises(FormatError, match="exists"):
        export(model, path, x, to=name)
    assert path.read_bytes() == b"earlier"
    export(model, path, x, to=name, force=True)
    assert torch.allclose(runner(path)(x), model(x), atol=1e-4)


@every_exporter
def test_damaged_and_missing_files_are_refused(name, made, tmp_path):
    whole = made(name)[0].path.read_bytes()
    path = path_of(name, tmp_path)
    for content in (whole[:-200], b"hello", b""):
        path.write_bytes(content)
        for read in (EXPORTERS[name].runner, EXPORTERS[name].contents):
            with pytest.raises(FormatError, match=path.name):
                read(path)
    path.unlink()
    for read in (EXPORTERS[name].runner, EXPORTERS[name].contents):
        with pytest.raises(FormatError):
            read(path)


@every_exporter
def test_contents_are_those_of_the_file(name, made):
    found = made(name)[0]
    held = contents(found.path)
    assert 0 < sum(tensor.bytes for tensor in held.tensors) <= found.bytes
    assert len({tensor.name for tensor in held.tensors}) == len(held.tensors)
    assert quantized("shared", "w4").plan.recipe in held.about.values()


def test_what_an_exporter_refuses_is_said_of_the_plan_alone():
    plan = quantized("residual", "w4a4").plan
    taps = [replace(tap, spec=GridSpec(Levels((-1, 0, 2)))) for tap in plan.taps]
    uneven = replace(plan, taps=tuple(taps))
    by_batch = replace(plan, taps=tuple(replace(tap, dynamic=True) for tap in taps))
    for name in ("onnx-int8", "onnx-compact"):
        assert EXPORTERS[name].refusal(plan) is EXPORTERS[name].refusal(uneven) is None
        with pytest.raises(RecipeError, match=f"exporter {name}: ONNX has no form for activations"):
            choose_exporters([name], by_batch)
    assert EXPORTERS["torch"].refusal(by_batch) is None
    assert choose_exporters(["none"], by_batch) == []


def test_a_missing_runtime_is_said_before_the_work_with_what_to_install():
    class Missing(type(EXPORTERS["openvino"])):
        package = "a_package_that_nobody_has"

    with pytest.raises(RecipeError, match=r"openvino needs OpenVINO.*pip install 'subbyte\[openvi"):
        Missing().require()


def test_runtimes_are_known_by_the_ending():
    assert is_exported("net.onnx") and exporter_of("net.onnx").runtime == "ONNX Runtime"
    assert not is_exported("net.safetensors")
    with pytest.raises(FormatError, match=r"net\.txt: .*\.onnx"):
        runner("net.txt")
    with pytest.raises(FormatError, match=r"writes \.onnx files"):
        export(quantized("shared", "w4"), "net.txt", images("shared"), to="onnx-int8")


def test_integers_are_the_default_where_activations_are_quantized():
    for recipe, name in (("w4a4", "onnx-int8"), ("w3", "onnx-compact")):
        (chosen,) = choose_exporters([], quantized("residual", recipe).plan)
        assert chosen is EXPORTERS[name]
    assert choose_exporters(["none"], quantized("residual", "w3").plan) == []


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["int16"], "'int16'; known: onnx-int8"),
        (["none", "onnx-int8"], "none"),
        (["onnx-int8", "onnx-int8"], "twice"),
    ],
)
def test_other_names_are_an_error(names, why):
    with pytest.raises(RecipeError, match=why):
        check_exporters(names)
