"""A quantized network that learns: it gets better or stays, goes on where it stopped, and never
depends on anything but its settings.
"""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import subbyte
from subbyte.engine.learning import Lesson, apart, learn
from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import DataError, NumericsError, RecipeError
from subbyte.graph import Network, Samples, prepare
from subbyte.io.checkpoints import NOWHERE, Kept
from subbyte.io.repeatable import threads
from subbyte.tasks import Classification, Regression
from subbyte.tuning import Distill
from tests.together import together

_COARSE = torch.randn(48, 3, 5, 5, generator=torch.Generator().manual_seed(0))
IMAGES = F.interpolate(_COARSE, (16, 16), mode="bicubic")  # a part of one looks like one
MILD = Distill(zoom=0.7, turn=5.0, colour=0.1, mix=0.2, precision="float32")
METHOD = replace(MILD, threads=1, steps=30, batch=16, latent=0.01, scale=0.01, bias=0.01)


def network() -> nn.Module:
    """A small one whose logits differ by some units."""
    torch.manual_seed(3)
    body = [nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten()]
    model = nn.Sequential(*body, nn.Linear(200, 5)).eval()
    with torch.no_grad():
        model[-1].weight *= 3 / model(IMAGES).std()
    return model


@pytest.fixture(scope="module")
def start() -> tuple[Network, QuantizedModel]:
    """A float network, and it in 2 bits by the nearest codes."""
    model = network()
    recipe = {"weights": {"bits": 2, "rounding": "nearest"}}
    return prepare(model, IMAGES), subbyte.quantize(model, IMAGES, recipe)


def lesson(start, method=METHOD, keep=NOWHERE, report=lambda *told: None, task=None) -> Lesson:
    """What comes of learning."""
    samples = Samples.of(IMAGES)
    task = task or Classification()
    return learn(*start, method, samples, task=task, keep=keep, report=report)


def test_a_plan_says_the_threads_that_it_learned_with_and_learns_with_them_again(start):
    with threads(2):
        found = lesson(start, replace(METHOD, threads=0, steps=2))
    assert found.model.plan.tune is not None and found.model.plan.tune.learns_with == 2
    seen = []
    lesson(start, found.model.plan.tune, report=lambda *told: seen.append(torch.get_num_threads()))
    assert set(seen) == {2} and torch.get_num_threads() == 1


def codes(model: QuantizedModel) -> list[Tensor]:
    """All numbers that were learned."""
    return [*(q.codes for q in model.weights.values()), *model.leftovers.values()]


def same(a: QuantizedModel, b: QuantizedModel) -> bool:
    """Whether two networks hold the same numbers."""
    return all(torch.equal(x, y) for x, y in zip(codes(a), codes(b), strict=True))


@pytest.mark.parametrize("task", [Classification(), Regression()])
def test_outputs_come_nearer_to_the_float_networks(start, task):
    found = lesson(start, task=task)
    distances = [one.distance for one in found.judgements]
    assert found.kept.distance < 0.8 * distances[0]
    assert found.model.plan.tune == METHOD
    with torch.no_grad():
        wanted = start[0].graph_module(IMAGES)
    before, after = ((model(IMAGES) - wanted).square().mean() for model in (start[1], found.model))
    assert after < before


def test_it_never_gets_worse_on_what_is_kept_apart(start):
    found = lesson(start, Distill(steps=10, batch=8, latent=3.0, bias=3.0, scale=0.0))
    assert found.kept.step == 0
    assert same(found.model, start[1])


def test_the_same_settings_give_the_same_numbers_and_others_do_not(start):
    first, again = lesson(start), lesson(start)
    assert same(first.model, again.model)
    other = lesson(start, Distill(**vars(METHOD) | {"seed": 1}))
    assert not same(first.model, other.model)


def test_work_that_was_stopped_is_gone_on_from(start, tmp_path):
    keep = Kept(tmp_path / "kept.pt", "these settings")
    whole = lesson(start)

    def stop(done, total, told):
        if done == 20:
            raise ConnectionError("pulled the plug")

    with pytest.raises(ConnectionError):
        lesson(start, keep=keep, report=stop)
    steps = []
    rest = lesson(start, keep=keep, report=lambda done, total, told: steps.append(done))
    assert len(steps) <= 11
    assert same(rest.model, whole.model)
    assert rest.judgements == whole.judgements
    assert Kept(tmp_path / "kept.pt", "other settings").found() == {}


def test_ctrl_c_takes_the_best_so_far(start):
    def stop(done, total, told):
        if done == 15:
            raise KeyboardInterrupt

    found = lesson(start, report=stop)
    assert found.interrupted
    assert 0 < found.kept.step <= 15
    assert not same(found.model, start[1])


def test_weights_learn_nested_and_go_on_from_a_checkpoint(start, tmp_path):
    method, keep = replace(METHOD, estimator="nested"), Kept(tmp_path / "checkpoint.pt", "this")
    whole = lesson(start, method)
    assert whole.kept.distance < whole.judgements[0].distance

    def stop(done: int, total: int, what: str) -> None:
        if done == 20:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        lesson(start, method, keep, stop)
    assert same(lesson(start, method, keep).model, whole.model)


def test_seconds_become_steps_that_are_stated(start):
    method = Distill(**vars(METHOD) | {"seconds": 0.5, "steps": 1})
    found = lesson(start, method)
    assert found.steps >= 20
    assert found.model.plan.tune == method.with_steps(found.steps)
    assert same(found.model, lesson(start, found.model.plan.tune).model)


def test_a_recipe_says_it_and_a_plan_does_it_again():
    model = network()
    tune = {"name": "distill", "steps": 20, "batch": 16, "precision": "float32"}
    recipe = {"weights": {"bits": 2}, "activations": {"bits": 4}, "tune": tune}
    first = subbyte.quantize(model, IMAGES, recipe)
    again = subbyte.quantize(model, IMAGES, first.plan)
    assert same(first, again)
    assert all(first.findings.sqnr_db[name] > 0 for name in first.weights)


def test_what_does_not_fit_is_said(start):
    with pytest.raises(DataError, match="6 calibration samples are too few to keep 8 apart"):
        apart(Samples.of(IMAGES[:6]), METHOD)
    with pytest.raises(NumericsError, match=r"tune: (the loss of|after) .* lower the rates"):
        lesson(start, Distill(**vars(METHOD) | {"scale": 1e4}))
    with pytest.raises(RecipeError, match="learns during the walk"):
        subbyte.tune(start[1], network(), IMAGES, "cascade")
    with pytest.raises(RecipeError, match="zoom"):
        Distill(zoom=0.0)


def test_two_processes_do_what_one_does_with_twice_the_batch(start):
    slow = vars(METHOD) | {"steps": 8, "latent": 1e-3, "scale": 1e-3, "bias": 1e-3}

    def work(processes):
        samples, method = Samples.of(IMAGES), Distill(**slow | {"batch": 8})
        return learn(*start, method, samples, task=Classification(), processes=processes)

    one = lesson(start, Distill(**slow | {"batch": 16}))
    first, second = together(work)
    assert isinstance(first, Lesson)
    assert isinstance(second, Lesson)
    assert same(first.model, second.model)
    for own, other in zip(one.judgements, first.judgements, strict=True):
        assert own.distance == pytest.approx(other.distance, rel=1e-3)
