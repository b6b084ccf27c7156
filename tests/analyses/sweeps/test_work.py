"""One run: what it is measured on, what it measures, and what it shares with others."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from subbyte.analyses.sweeps import make_runs, work
from subbyte.analyses.sweeps.space import Measured
from subbyte.analyses.sweeps.store import task_of
from subbyte.analyses.sweeps.work import (
    captured,
    execute,
    float_evaluation,
    load_inputs,
    measured_split,
    settled,
)
from subbyte.data import draw_calibration, load_data
from subbyte.engine.evaluation import evaluate
from subbyte.engine.quantization import quantize
from subbyte.errors import DataError
from subbyte.io.cache import Cache
from subbyte.recipe import Recipe
from subbyte.tasks import agreement
from tests.analyses.sweeps.place import NETWORK, space_of, without_times


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
        pixels(
            measured_split(inputs.data, replace(run, seed=seed, calibration=count)).images(
                range(30)
            )
        )
        for seed, count in ((0, 4), (1, 4), (0, 8))
    ]
    assert len(drawn[0] & drawn[1]) >= 22 and len(drawn[0] & drawn[2]) >= 22


def test_test_images(run, inputs):
    split = measured_split(inputs.data, replace(run, split=Measured.TEST))
    assert len(split) == 40 and torch.equal(split.labels, inputs.data.test.labels)


def test_too_few_images(run, inputs, tmp_path):
    assert len(measured_split(inputs.data, replace(run, validation=64))) == 64
    with pytest.raises(DataError, match="80 training images 16 calibrate"):
        measured_split(inputs.data, replace(run, validation=65))
    np.savez(tmp_path / "few.npz", images=np.zeros((9, 1, 8, 8), np.uint8), labels=np.arange(9))
    with pytest.raises(DataError, match="measure: test"):
        measured_split(load_data(f"npz:{tmp_path}/few.npz"), run)


def test_a_run_measures_what_quantize_gives(run, inputs):
    run = replace(run, split=Measured.TEST)
    found = execute(run, inputs, None)
    quantized = quantize(
        inputs.model, draw_calibration(inputs.data, run.calibration, run.seed)[0], run.recipe
    )
    test = inputs.data.test
    before, after = evaluate(inputs.model, test), evaluate(quantized, test)
    assert found.original_top1_percent == round(before.top1, 4)
    assert found.quantized_top1_percent == round(after.top1, 4)
    assert found.quantized_top5_percent == round(after.top5, 4)
    assert found.agreement_percent == round(agreement(before.logits, after.logits), 4)
    assert found.packed_bytes == quantized.packed_bytes and found.images == 40


def test_the_cache_holds_the_float_network(run, inputs, tmp_path, monkeypatch):
    split = measured_split(inputs.data, run)
    first = float_evaluation(inputs, split, Cache(tmp_path))
    monkeypatch.setattr(
        "subbyte.analyses.sweeps.work.evaluate", lambda *_: pytest.fail("it is in the cache")
    )
    again = float_evaluation(inputs, split, Cache(tmp_path))
    assert again.accuracy == first.accuracy and torch.equal(again.logits, first.logits)


@pytest.mark.parametrize(
    "change", [{"seed": 0}, {"calibration": 17}, {"split": Measured.TEST}, {"validation": 29}]
)
def test_the_cache_tells_images_apart(change, run, inputs, tmp_path):
    other = replace(run, **change)
    for one in (run, other):
        float_evaluation(inputs, measured_split(inputs.data, one), Cache(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_disk_only_costs_the_cache(run, inputs, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.savez", full)
    assert execute(run, inputs, tmp_path).images == 30 and not list(tmp_path.iterdir())


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


def test_runs_share_what_depends_on_no_recipe(folder, tmp_path, monkeypatch):
    """Whatever comes first; without a cache; in a process that has captured nothing yet."""
    recipes = [{}, {"weights.rounding": "corrected"}, {"budget": "3bits"}, {"budget": "4bits"}]
    runs = [
        make_runs(space_of(folder, set=settings, seeds=[0], grid={}))[0] for settings in recipes
    ]
    inputs = load_inputs(*runs[0].inputs)
    once = [without_times(execute(run, inputs, None)) for run in runs]
    for number, order in enumerate(([0, 1, 2, 3], [3, 2, 1, 0])):
        cache = tmp_path / str(number)
        for k in order:
            captured.cache_clear()
            assert without_times(execute(runs[k], inputs, cache)) == once[k]
    monkeypatch.setattr(
        "subbyte.graph.network.capture", lambda *_: pytest.fail("it is in the cache")
    )
    captured.cache_clear()
    assert without_times(execute(runs[3], inputs, tmp_path / "0")) == once[3]


def test_networks_share_nothing(folder, tmp_path):
    for model in (f"{folder}/net.py:net", f"{folder}/net.py:other"):
        run = make_runs(space_of(folder, model=model))[0]
        inputs = load_inputs(*run.inputs)
        assert without_times(execute(run, inputs, tmp_path)) == without_times(
            execute(run, inputs, None)
        )


def test_a_damaged_cache_is_made_anew(folder, tmp_path):
    run = make_runs(space_of(folder))[0]
    inputs = load_inputs(*run.inputs)
    first = execute(run, inputs, tmp_path)
    paths = sorted(tmp_path.iterdir())
    whole = [path.read_bytes() for path in paths]
    for damaged in (b"", whole[0][:100], b"hello"):
        for path in paths:
            path.write_bytes(damaged)
        captured.cache_clear()
        assert without_times(execute(run, inputs, tmp_path)) == without_times(first)
        assert [path.read_bytes() for path in paths] == whole


def test_what_seeds_share(folder, tmp_path):
    """The graph and the float logits are those of all seeds; moments of two layers are of one seed
    and size.
    """
    grid = {"calibration": [8, 16], "weights.rounding": ["gptq"]}
    space = space_of(folder, measure="test", seeds=[0, 1, 2], grid=grid)
    for run in make_runs(space):
        captured.cache_clear()
        execute(run, load_inputs(*run.inputs), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1 + 1 + 2 * 3 * 2


MINE = """
from dataclasses import dataclass

import torch

from subbyte.methods import Measure, Task
from subbyte.tasks.tallies import mean


@dataclass(frozen=True)
class Surest(Task):
    def score(self, outputs, targets):
        surety = outputs[0].softmax(1).gather(1, targets[0][:, None])
        return [mean(Measure("surety", "%"), 100 * surety)]

    def compare(self, outputs, others):
        return [mean(Measure("gap", higher=False), (outputs[0] - others[0]).abs())]

    def loss(self, outputs, targets):
        return -outputs[0].log_softmax(1).gather(1, targets[0][:, None]).mean()
"""


def test_a_space_says_how_outputs_are_judged(folder, inputs, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    task = f"{tmp_path}/mine.py:Surest"
    run = make_runs(space_of(folder, task=task, measure="test"))[-1]
    found = execute(run, inputs, None)
    assert (found.score, found.quantized_top1_percent) == ("surety", None)
    split = inputs.data.test
    with torch.no_grad():
        surety = inputs.model(split.images(range(40))).softmax(1)[range(40), split.labels]
    assert found.original_score_percent == pytest.approx(100 * float(surety.mean()), abs=1e-3)
    keys = {task_of(replace(run, task=named), "i", "v").key for named in (task, None)}
    assert len(keys) == 2


def test_tasks_that_are_none_or_do_not_fit_are_refused(folder, inputs):
    with pytest.raises(ValueError, match="task: unknown method 'segmentetion'"):
        space_of(folder, task="segmentetion")
    run = make_runs(space_of(folder, task="segmentation", measure="test"))[0]
    with pytest.raises(DataError, match=r"segmentation: the network's output is \[2, 6\]"):
        execute(run, inputs, None)


def test_targets_are_checked_once_for_runs_on_the_same_images(run, inputs, monkeypatch):
    checked = []

    def settle_task(tasks, forward, split):
        checked.append(split)
        return tasks, 1

    def times(*runs):
        before = len(checked)
        for one in runs:
            settled(inputs, one, measured_split(inputs.data, one))
        return len(checked) - before

    monkeypatch.setattr(work, "settle_task", settle_task)
    inputs = replace(inputs, judged={})
    on_test = replace(run, split=Measured.TEST)
    assert times(run, replace(run, recipe=Recipe()), run) == 1
    assert times(on_test, replace(on_test, seed=7), replace(on_test, calibration=3)) == 1
    assert times(replace(run, seed=7), replace(run, validation=20)) == 2
    assert times(replace(run, task="regression"), replace(on_test, task="regression"), run) == 2
    assert times(run, on_test) == 0
