"""Alphabets as the levels of a recipe: by object, by name, or by name and fields."""

from dataclasses import dataclass

import pytest
import yaml

from subbyte.core import ALPHABETS, Alphabet, Codebook, Levels, Uniform
from subbyte.errors import RecipeError
from subbyte.recipe import Plan, Recipe, load_recipe, make_plan
from tests.networks import captured

NETWORK = "residual"


@dataclass(frozen=True)
class Logarithmic(Alphabet):
    """+-2^(k/2) for k below `halvings`."""

    halvings: int = 4

    kind = "logarithmic"

    @property
    def positions(self) -> tuple[float, ...]:
        """See `Alphabet`."""
        sizes = [2 ** (k / 2) for k in range(self.halvings)]
        return tuple([-size for size in reversed(sizes)] + sizes)


class Unknown(Levels):
    """Not registered."""

    kind = "unknown"


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(ALPHABETS, Logarithmic.kind, Logarithmic)


@pytest.mark.parametrize(
    ("text", "alphabet"),
    [
        ("logarithmic", Logarithmic()),
        ("{name: logarithmic, halvings: 6}", Logarithmic(6)),
        ("{name: levels, levels: [-3, 0, 5]}", Levels((-3, 0, 5))),
        ("{name: uniform, bits: 3, symmetric: false}", Uniform(3, symmetric=False)),
    ],
)
def test_every_way_of_naming_an_alphabet_comes_to_the_same_plan(text, alphabet, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(f"weights:\n  levels: {text}\n")
    object_ = Recipe(name="mine", weights={"levels": alphabet})
    named, by_set = load_recipe(file), load_recipe("w8a8", [f"weights.levels={text}"])
    assert named == object_ == Recipe.model_validate(named.model_dump())
    assert Recipe.model_validate_json(named.model_dump_json()) == named
    assert load_recipe(named, ["weights.scalar=1.5"]).weights.levels == alphabet
    plan = make_plan(captured(NETWORK), named)
    for layer in (*plan.layers, *make_plan(captured(NETWORK), by_set).layers):
        assert layer.spec is not None and layer.spec.alphabet == alphabet
        assert str(layer.asked) == f"{alphabet.count} levels"
    assert Plan.from_dict(yaml.safe_load(plan.to_yaml())) == plan


def test_alphabets_of_patterns_take_the_place_of_bits_and_the_other_way_round():
    network = captured(NETWORK)
    first, last = network.layers[0].name, network.layers[-1].name
    changes = {first: {"weights": {"levels": "logarithmic"}}, last: {"weights": {"bits": 3}}}
    recipe = Recipe(weights={"levels": Logarithmic(6)}, layers=changes)
    spec = {layer.name: layer.spec for layer in make_plan(network, recipe).layers}
    assert spec[first].alphabet == Logarithmic() and spec[last].alphabet == Uniform(3)
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe
    budgeted = load_recipe(recipe, ["budget=4bits"])
    left = [layer.name for layer in make_plan(network, budgeted).layers if layer.budget is not None]
    assert left == [name for name in spec if name not in (first, last)] and left


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ("cubic", "or one of uniform, .*logarithmic, alone or .*; got 'cubic'"),
        ({"halvings": 4}, "got {'halvings': 4}"),
        ({"name": "logarithmic", "halves": 4}, "alphabet logarithmic: unknown 'halves'"),
        ({"name": "logarithmic", "halvings": "x"}, "halvings must be a whole number, got 'x'"),
        (Logarithmic("x"), "halvings must be a whole number, got 'x'"),
        (Unknown((0, 1)), r"ALPHABETS\[Unknown.kind\] = Unknown"),
        (Logarithmic(200), "2 to 256 levels"),
        (Codebook(4), "2 to 256 levels before data"),
        (Logarithmic, "got <class"),
        (True, "got True"),
    ],
)
def test_other_levels_are_refused_with_their_path(levels, said):
    with pytest.raises(RecipeError, match=rf"^recipe: weights\.levels: .*{said}"):
        load_recipe({"weights": {"levels": levels}})
    with pytest.raises(RecipeError, match=f"layers.fc.weights: .*{said}"):
        load_recipe({"layers": {"fc": {"weights": {"levels": levels}}}})


def test_bits_are_not_shared_out_among_alphabets():
    shared = load_recipe("w4", ["weights.allocate=optimum"]).weights
    with pytest.raises(RecipeError, match=r"allocate needs 2\^bits equal steps"):
        shared.model_copy(update={"levels": Logarithmic()})
