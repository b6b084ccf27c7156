"""One run: what it is measured on, what it measures, and what it shares with others."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from subbyte.data import draw_calibration, load_data
from subbyte.errors import DataError
from subbyte.evaluate import agreement, evaluate
from subbyte.pipeline import quantize
from subbyte.sweep import make_runs
from subbyte.sweep.work import METRICS, execute, float_evaluation, load_inputs, measured_split
from tests.sweep.place import NETWORK, space_of


@pytest.fixture(scope="module")
def run(folder):
    return make_runs(space_of(folder))[-1]


@pytest.fixture
def inputs(run):
    return load_inputs(*run.inputs)


def pixels(images):
    return {image.numpy().tobytes() for image in images}


@pytest.mark.parametrize("seed", range(4))
def test_validation_images_are_others_than_calibration_images(seed, run, inputs):
    run = replace(run, seed=seed)
    split = measured_split(inputs.data, run)
    calibrating, _ = draw_calibration(inputs.data, run.calibration, seed)
    validating = pixels(split.images(range(len(split))))
    assert len(split) == len(validating) == 30 and len(pixels(calibrating)) == 16
    assert not validating & pixels(calibrating)
    assert not validating & pixels(inputs.data.test.images(range(40)))


def test_validation_images_are_nearly_the_same_whatever_calibrates(run, inputs):
    drawn = [
        pixels(measured_split(inputs.data, replace(run, seed=seed, calibration=count)).images(range(30)))
        for seed, count in ((0, 4), (1, 4), (0, 8))
    ]
    assert len(drawn[0] & drawn[1]) >= 22 and len(drawn[0] & drawn[2]) >= 22


def test_test_images(run, inputs):
    split = measured_split(inputs.data, replace(run, split="test"))
    assert len(split) == 40 and torch.equal(split.labels, inputs.data.test.labels)


def test_too_few_images(run, inputs, tmp_path):
    assert len(measured_split(inputs.data, replace(run, validation=64))) == 64
    with pytest.raises(DataError, match="80 training images 16 calibrate"):
        measured_split(inputs.data, replace(run, validation=65))
    np.savez(tmp_path / "few.npz", images=np.zeros((9, 1, 8, 8), np.uint8), labels=np.arange(9))
    with pytest.raises(DataError, match="measure: test"):
        measured_split(load_data(f"npz:{tmp_path}/few.npz"), run)


def test_a_run_measures_what_quantize_gives(run, inputs):
    run = replace(run, split="test")
    found = execute(run, inputs, None)
    assert tuple(found) == METRICS
    quantized = quantize(inputs.model, draw_calibration(inputs.data, run.calibration, run.seed)[0], run.recipe)
    test = inputs.data.test
    before, after = evaluate(inputs.model, test), evaluate(quantized, test)
    assert found["original_top1_percent"] == round(before.top1, 4)
    assert found["quantized_top1_percent"] == round(after.top1, 4)
    assert found["quantized_top5_percent"] == round(after.top5, 4)
    assert found["agreement_percent"] == round(agreement(before.logits, after.logits), 4)
    assert found["packed_bytes"] == quantized.packed_bytes and found["images"] == 40


def test_the_cache_holds_the_float_network(run, inputs, tmp_path, monkeypatch):
    split = measured_split(inputs.data, run)
    first = float_evaluation(run, inputs, split, tmp_path)
    monkeypatch.setattr("subbyte.sweep.work.evaluate", lambda *_: pytest.fail("it is in the cache"))
    again = float_evaluation(run, inputs, split, tmp_path)
    assert again.accuracy == first.accuracy and torch.equal(again.logits, first.logits)


@pytest.mark.parametrize("change", [{"seed": 0}, {"calibration": 17}, {"split": "test"}, {"validation": 29}])
def test_the_cache_tells_images_apart(change, run, inputs, tmp_path):
    other = replace(run, **change)
    for one in (run, other):
        float_evaluation(one, inputs, measured_split(inputs.data, one), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_disk_only_costs_the_cache(run, inputs, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.savez", full)
    assert execute(run, inputs, tmp_path)["images"] == 30 and not list(tmp_path.iterdir())


def test_what_the_cache_uses_is_kept_longest(run, inputs, tmp_path):
    import os

    split = measured_split(inputs.data, run)
    float_evaluation(run, inputs, split, tmp_path)
    (path,) = tmp_path.iterdir()
    os.utime(path, (5, 5))
    float_evaluation(run, inputs, split, tmp_path)
    assert path.stat().st_mtime > 1000


def test_identity(folder, tmp_path):
    """Networks of equal weights that compute otherwise are not the same."""
    (tmp_path / "net.py").write_text(NETWORK.replace("nn.ReLU()", "nn.Hardtanh()"))
    (tmp_path / "copy.py").write_text(NETWORK)
    names = [f"{folder}/net.py:net", f"{folder}/net.py:other", f"{tmp_path}/net.py:net"]
    data = f"npz:{folder}/data.npz"
    found = [load_inputs(name, None, data, None, None, None).identity for name in names]
    found.append(load_inputs(names[0], None, data, "0.5/0.5", None, None).identity)
    assert len(set(found)) == 4
    assert load_inputs(f"{tmp_path}/copy.py:net", None, data, None, None, None).identity == found[0]


def test_a_damaged_cache_is_made_anew(folder, tmp_path):
    run = make_runs(space_of(folder))[0]
    inputs = load_inputs(*run.inputs)
    first = execute(run, inputs, tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for content in (b"", whole[:100], b"hello"):
        path.write_bytes(content)
        again = execute(run, inputs, tmp_path)
        assert {k: v for k, v in again.items() if not k.endswith("_seconds")} == {
            k: v for k, v in first.items() if not k.endswith("_seconds")
        }
        assert path.read_bytes() == whole


def test_float_logits_are_kept_once_for_all_seeds(folder, tmp_path):
    space = space_of(folder, measure="test", seeds=[0, 1, 2], grid={"calibration": [8, 16]})
    for run in make_runs(space):
        execute(run, load_inputs(*run.inputs), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
