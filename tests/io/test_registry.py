"""Methods that are made in Python are checked as those that are read: class, types of settings."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import pytest

from subbyte.allocate import ALLOCATIONS
from subbyte.correct import CORRECTIONS
from subbyte.errors import RecipeError
from subbyte.learn.training.settings import METHODS, TrainSettings
from subbyte.methods import Objective, Rounding
from subbyte.precondition import PRECONDITIONS
from subbyte.ranges import RANGES, MinMax
from subbyte.recipe import Recipe, WeightSettings, load_recipe
from subbyte.rounding import ROUNDINGS, Nearest
from subbyte.tuning import TUNES

REGISTRIES = (RANGES, ROUNDINGS, CORRECTIONS, PRECONDITIONS, ALLOCATIONS, TUNES, *METHODS.values())


NEAREST = Nearest()


@dataclass(frozen=True)
class Mine(Rounding):
    share: float = 0.0
    sweeps: int = 1
    order: Literal["natural", "greedy"] = "natural"
    starts: tuple[float, ...] = (1.0,)
    inner: Rounding = NEAREST

    objective = Objective.WEIGHTS

    def round(self, weight, fit, stats):
        return Nearest().round(weight, fit, stats)


@dataclass
class Thawed(Rounding):
    def round(self, weight, fit, stats):
        return Nearest().round(weight, fit, stats)


@dataclass(frozen=True)
class Undefined(Rounding):
    share: "Nowhere" = None  # noqa: F821

    def round(self, weight, fit, stats):
        return Nearest().round(weight, fit, stats)


class Derived(Mine):
    """Not decorated itself."""


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_every_method_of_the_house_passes_with_its_defaults_and_as_an_object_is_itself(registry):
    for name, cls in registry.items():
        needed = {"bits": 3} if any(f.name == "bits" for f in fields(cls)) else {}
        method: Any = registry.build({"name": name, **needed})
        assert registry.build(method) is method and registry.check(method) is method


def test_settings_of_objects_are_finite():
    with pytest.raises(RecipeError, match=r"^Mine: share must be a number, finite in float32"):
        Mine(share=float("nan"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"share": "high"}, "rounding Mine: share: must be a number, got 'high'"),
        ({"share": "0.5"}, "share: must be a number, got '0.5'"),
        ({"sweeps": 1.5}, "sweeps: must be a whole number, got 1.5"),
        ({"sweeps": True}, "sweeps: must be a whole number, got True"),
        ({"order": "fast"}, "order: must be 'natural' or 'greedy', got 'fast'"),
        ({"starts": [1.0]}, r"starts: must be a list.*, got \[1.0\]"),
        ({"starts": (1.0, "x")}, "starts: must be a number, got 'x'"),
        ({"inner": MinMax()}, "inner: must be an instance of Rounding, got MinMax"),
    ],
)
def test_settings_of_objects_are_of_the_types_that_the_class_says(settings, said):
    with pytest.raises(RecipeError, match=f"^WeightSettings: rounding: .*{said}"):
        WeightSettings(rounding=Mine(**settings))
    with pytest.raises(RecipeError, match=f"layers.fc.weights: .*{said}"):
        Recipe(layers={"fc": {"weights": {"rounding": Mine(**settings)}}})


def test_numbers_that_are_whole_are_numbers():
    assert WeightSettings(rounding=Mine(share=1)).rounding == Mine(share=1.0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Mine, r"weights.rounding: .*Mine is a class, .*call it: Mine\(\)"),
        (MinMax, "weights.rounding: .*expected .* kind Rounding; got <class"),
        (
            Thawed(),
            r"weights.rounding: .*Thawed: decorate the class with @dataclass\(frozen=True\)",
        ),
        (Derived(), r"weights.rounding: .*Derived: decorate the class"),
        (Undefined(), "weights.rounding: .*the types of its settings can't be read: .*Nowhere"),
    ],
)
def test_what_is_no_method_is_refused_with_what_to_do(given, said):
    with pytest.raises(RecipeError, match=said):
        load_recipe({"weights": {"rounding": given}})


def test_training_takes_no_other_methods_either():
    good = TrainSettings()
    with pytest.raises(RecipeError, match=r"optimizer: Sgd is a class.*call it: Sgd\(\)"):
        TrainSettings(optimizer=type(good.optimizer))
    with pytest.raises(RecipeError, match=r"optimizer: expected .* Optimizer; got 'sgd'"):
        TrainSettings(optimizer="sgd")
    with pytest.raises(RecipeError, match="momentum: must be a number, got 'much'"):
        TrainSettings(optimizer=replace(good.optimizer, momentum="much"))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("objective", "weights", "objective must be an instance of Objective, got 'weights'"),
        ("fits_levels", "yes", "fits_levels must be true or false, got 'yes'"),
        ("refuses", ("no",), "refuses .*got 'no'"),
        ("round", 3, "round must be a method of the class, got 3"),
    ],
)
def test_what_a_class_declares_is_of_the_type_that_its_kind_says(name, value, said):
    with pytest.raises(RecipeError, match=f"Wrong: {said}"):
        type("Wrong", (Rounding,), {name: value})
