"""What walks share through a cache: the same results to the bit, without doing again what depends
on no recipe.
"""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from _pytest.mark import ParameterSet

import subbyte
import subbyte.engine.guidance
import subbyte.engine.sensitivity
from subbyte.engine.budget import meet_budget
from subbyte.engine.limits import Limits
from subbyte.engine.walk import WalkResult, walk
from subbyte.io.cache import Cache
from subbyte.recipe import make_plan
from subbyte.stats import MomentCollector
from tests.networks import captured, images

torch.set_num_threads(1)
RECIPES = {
    "gptq": ("weights.rounding=gptq",),
    "corrected": ("weights.bits=3",),
    "activations": ("activations.bits=4", "weights.rounding=qronos"),
    "fisher": ("weights.range=fisher", "weights.rounding=gptq", "layers.fc.weights.range=gradient"),
    "guided": ("weights.guided=2", "weights.rounding=gptq"),
    "cascade": ("tune={name: cascade, epochs: 1}", "weights.rounding=gptq"),
}

NETWORKS = ("residual", "mobile", "shared")


def limits_of(tmp_path, **changes: object) -> Limits:
    return replace(Limits(chunk=16, rows=3, cache=Cache(tmp_path / "cache")), **changes)  # type: ignore[arg-type]


def walked(recipe: str, limits: Limits, name: str = "residual", *settings: str) -> WalkResult:
    wanted = [
        setting for setting in RECIPES[recipe] if "layers.fc" not in setting or name == "residual"
    ]
    plan = make_plan(captured(name), subbyte.load_recipe("w2", [*wanted, *settings]))
    return walk(captured(name), plan, images(name), limits=limits)


def assert_same(one: WalkResult, other: WalkResult) -> None:
    for name, weight in one.weights.items():
        assert torch.equal(weight.codes, other.weights[name].codes), name
        assert torch.equal(weight.grid.scale, other.weights[name].grid.scale), name
        assert torch.equal(one.biases[name], other.biases[name]), name
    assert one.logits is not None and other.logits is not None
    assert torch.equal(one.logits[1], other.logits[1])


def _case(name: str, k: int, recipe: str) -> ParameterSet:
    """Every recipe is tried on one of the networks in the quick suite."""
    quick = NETWORKS.index(name) == k % len(NETWORKS)
    return pytest.param(name, recipe, marks=[] if quick else pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "recipe"),
    [_case(name, k, recipe) for name in NETWORKS for k, recipe in enumerate(RECIPES)],
)
def test_results_are_the_same_with_and_without(name, recipe, tmp_path):
    without, first = (
        walked(recipe, Limits(chunk=16, rows=3), name),
        walked(recipe, limits_of(tmp_path), name),
    )
    again = walked(recipe, limits_of(tmp_path), name)
    after_others = walked(recipe, limits_of(tmp_path), name, "weights.bits=4")
    assert_same(first, without)
    assert_same(again, without)
    assert_same(after_others, walked(recipe, Limits(chunk=16, rows=3), name, "weights.bits=4"))


def added_up(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the moments that are added up, by name."""
    count: Counter[str] = Counter()
    accumulate = MomentCollector._accumulate

    def counting(self: MomentCollector, name: str, value: torch.Tensor) -> None:
        count[name] += 1
        accumulate(self, name, value)

    monkeypatch.setattr(MomentCollector, "_accumulate", counting)
    return count


def test_moments_of_the_float_network_are_collected_once(tmp_path, monkeypatch):
    count = added_up(monkeypatch)
    walked("gptq", limits_of(tmp_path))
    assert count["H"] > count["F"] == count["G"] > 0
    first = dict(count)
    walked("corrected", limits_of(tmp_path))
    assert count["F"] == first["F"] and count["mean"] == first["mean"]
    # the first layer's inputs are the same
    assert count["H"] - first["H"] == count["G"] - first["G"] == first["G"]


@pytest.mark.parametrize("change", [{"chunk": 7}, {"rows": 2}])
def test_other_limits_have_entries_of_their_own(change, tmp_path):
    walked("gptq", limits_of(tmp_path))
    before = {path.name for path in (tmp_path / "cache").iterdir()}
    assert_same(
        walked("gptq", limits_of(tmp_path, **change)),
        walked("gptq", replace(Limits(chunk=16, rows=3), **change)),  # type: ignore[arg-type]
    )
    assert len({path.name for path in (tmp_path / "cache").iterdir()}) == 2 * len(before)


@pytest.mark.parametrize("recipe", ["fisher", "guided"])
def test_gradients_are_taken_once(recipe, tmp_path, monkeypatch):
    first = walked(recipe, limits_of(tmp_path))
    monkeypatch.setattr(
        subbyte.engine.guidance, "layer_gradients", lambda *_: pytest.fail("they are in the cache")
    )
    assert_same(walked(recipe, limits_of(tmp_path)), first)


def test_gradients_of_layers_that_are_new_are_taken(tmp_path):
    walked("fisher", limits_of(tmp_path), "residual", "layers.b1*.weights.range=mse")
    assert_same(walked("fisher", limits_of(tmp_path)), walked("fisher", Limits(chunk=16, rows=3)))


@pytest.mark.parametrize("changed", ["weights.guided=4", "weights.guided_power=0.5"])
def test_guidance_depends_on_its_settings(changed, tmp_path):
    walked("guided", limits_of(tmp_path))
    found = walked("guided", limits_of(tmp_path), "residual", changed)
    assert_same(found, walked("guided", Limits(chunk=16, rows=3), "residual", changed))


def met(limits: Limits, *settings: str):
    recipe = subbyte.load_recipe(
        "w2", ["weights.rounding=gptq", "widths=[ternary, 2, 4]", *settings]
    )
    return meet_budget(captured("shared"), recipe, images("shared"), limits=limits)


def test_budgets_share_a_survey(tmp_path, monkeypatch):
    plan, options = met(limits_of(tmp_path), "budget=4bits")
    with monkeypatch.context() as patch:
        patch.setattr(
            subbyte.engine.sensitivity, "_Survey", lambda *_: pytest.fail("it is in the cache")
        )
        assert met(limits_of(tmp_path), "budget=4bits") == (plan, options)
        wider, more = met(limits_of(tmp_path), "budget=5bits")
    assert wider != plan
    assert [replace(option, chosen=False) for option in more] == [
        replace(option, chosen=False) for option in options
    ]
    assert (wider, more) == met(Limits(chunk=16, rows=3), "budget=5bits")


@pytest.mark.parametrize(
    "changed", ["widths=[2, 4]", "weights.rounding=nearest", "activations.bits=4"]
)
def test_other_options_are_surveyed(changed, tmp_path):
    met(limits_of(tmp_path), "budget=4bits")
    assert met(limits_of(tmp_path), "budget=4bits", changed) == met(
        Limits(chunk=16, rows=3), "budget=4bits", changed
    )
