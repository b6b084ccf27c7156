"""Recipes: presets, YAML, overrides, and what errors say."""

import pickle

import pytest
import yaml

from subbyte.correct import CORRECTIONS
from subbyte.errors import RecipeError, SubbyteError
from subbyte.ranges import RANGES, Mse
from subbyte.recipe import (
    PRESETS,
    ActivationSettings,
    Recipe,
    WeightSettings,
    Width,
    load_recipe,
)
from subbyte.rounding import ROUNDINGS, Corrected, Gpfq, Gptq, Nearest

TOP = ["name", "weights", "activations", "others", "input", "first_last", "layers"]
WEIGHTS = [
    "bits",
    "symmetric",
    "narrow",
    "granularity",
    "group_size",
    "range",
    "rounding",
    "correction",
]


def parse(tmp_path, text: str, overrides: list[str] | None = None) -> Recipe:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    return load_recipe(file, overrides)


def message(tmp_path, text: str, overrides: list[str] | None = None) -> str:
    with pytest.raises(RecipeError) as caught:
        parse(tmp_path, text, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "bits", "activations"),
    [
        ("w8a8", 8, 8),
        ("w4a8", 4, 8),
        ("w4a4", 4, 4),
        ("w4", 4, None),
        ("w3", 3, None),
        ("w2", 2, None),
        ("ternary", "ternary", None),
    ],
)
def test_presets_say_what_their_names_say(name, bits, activations):
    recipe = load_recipe(name)
    assert (recipe.name, recipe.weights.bits, recipe.activations.bits) == (name, bits, activations)
    assert (recipe.others.bits, recipe.input.bits, recipe.first_last, recipe.layers) == (
        8,
        8,
        None,
        {},
    )
    assert recipe == load_recipe(name.upper())


def test_there_are_no_other_presets():
    weights = {"w4", "w3", "w2", "ternary", "best", "gpfq", "ldnq"}
    assert set(PRESETS) == {"w8a8", "w8a16", "w4a8", "w4a4", *weights}


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(RecipeError, match=r"w5.*w8a8, w8a16, w4a8, w4a4, w4, w3, w2, ternary"):
        load_recipe("w5")


def test_a_file_is_named_after_itself_unless_it_says_otherwise(tmp_path):
    assert parse(tmp_path, "weights: {bits: 4}").name == "mine"
    assert parse(tmp_path, "name: other\nweights: {bits: 4}").name == "other"


def test_the_documented_recipe_loads(tmp_path):
    recipe = parse(
        tmp_path,
        """
weights:      {bits: 4, rounding: corrected, range: mse, correction: moments}
activations:  {bits: 4}
others:       {bits: 8}
input:        {bits: 8}
first_last:   8
layers:
  "layer1.*": {weights: {bits: 8}}
  "fc":       {skip: true}
""",
    )
    assert recipe.first_last == 8
    assert recipe.layers["layer1.*"].weights == {"bits": 8} and not recipe.layers["layer1.*"].skip
    assert recipe.layers["fc"].skip


def test_a_recipe_is_its_own_source_and_survives_yaml():
    overrides = ["layers.fc.weights.bits=8", "weights.rounding={name: gptq, order: natural}"]
    recipe = load_recipe("w4a4", overrides)
    assert load_recipe(recipe) == recipe
    assert Recipe.model_validate(yaml.safe_load(yaml.safe_dump(recipe.model_dump()))) == recipe


def test_a_method_is_a_name_a_mapping_or_an_object(tmp_path):
    damped = parse(tmp_path, "weights: {rounding: {name: gptq, damping: 0.02}}")
    assert damped.weights.rounding == Gptq(damping=0.02)
    assert Recipe(weights={"rounding": Gptq(damping=0.02)}).weights == damped.weights
    assert load_recipe({"weights": {"rounding": Gptq(damping=0.02)}}).weights == damped.weights
    assert damped.model_dump()["weights"]["rounding"] == {"name": "gptq", "damping": 0.02}
    assert parse(tmp_path, "weights: {rounding: gpfq}").weights.rounding == Gpfq()
    several = parse(tmp_path, "weights: {rounding: {name: corrected, starts: [0.5, 2]}}")
    assert several.weights.rounding == Corrected(starts=(0.5, 2))
    assert several.model_dump()["weights"]["rounding"]["starts"] == [0.5, 2]


MINE = """
from collections import Counter
from dataclasses import dataclass
from subbyte.core import QTensor
from subbyte.methods import Rounding

@dataclass(frozen=True)
class Shifted(Rounding):
    by: float = 0.0

    def round(self, weight, fit, stats):
        return QTensor.nearest(weight + self.by, fit(weight))

class Bare(Rounding):
    def round(self, weight, fit, stats):
        raise AssertionError

@dataclass(frozen=True)
class Lacking(Rounding):
    pass

class Other:
    pass
"""


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "own.py").write_text(MINE)
    return tmp_path


def test_a_method_may_be_a_class_of_a_users_file(mine, monkeypatch):
    recipe = parse(mine, "weights: {rounding: {name: 'own.py:Shifted', by: 0.25}}")
    assert recipe.weights.rounding.by == 0.25
    assert load_recipe(recipe, ["weights.rounding.by=0.5"]).weights.rounding.by == 0.5
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    monkeypatch.chdir(mine)
    again = load_recipe("w4", ["weights.rounding=own.py:Shifted", "weights.rounding.by=0.25"])
    assert again.weights.rounding == recipe.weights.rounding
    pattern = load_recipe("w4", ["layers.fc.weights.rounding=own.py:Shifted"]).layers["fc"]
    assert type(pattern.weights["rounding"]) is type(recipe.weights.rounding)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.py:X", "none.py: there is no such file"),
        ("own.py", "which of its classes"),
        (
            "own.py:Absent",
            "'Absent' is not in it; its classes are: Bare, Lacking, Other, Shifted",
        ),
        ("own.py:Other", "is no rounding; derive it from subbyte.methods.Rounding"),
        ("own.py:Lacking", "lacks round"),
        ("own.py:Bare", "decorate"),
        ("{name: 'own.py:Shifted', bi: 1}", "unknown setting 'bi'; known: by"),
    ],
)
def test_a_users_class_that_is_no_method_is_an_error(mine, name, words):
    said = message(mine, f"weights: {{rounding: {name}}}")
    assert "weights.rounding" in said and words in said
    assert "Counter" not in said


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Recipe(weights="w4"), "weights: must be a mapping of settings, got 'w4'"),
        (lambda: Recipe(weights={"rounding": 3}), "weights.rounding: .* got 3"),
        (lambda: Recipe(weights={"rounding": Mse()}), "weights.rounding: .* of kind Rounding"),
        (lambda: Recipe(wights={}), "wights: unknown setting; known here: name, weights"),
        (lambda: WeightSettings(bits=9), "bits: weight bits must be"),
        (lambda: ActivationSettings(range="fisher"), "range 'fisher' is a rule for weights"),
        (lambda: Recipe().model_copy(update={"first_last": 9}), "first_last"),
        (lambda: Recipe.model_validate({"layers": {"fc": {"weights": {"bit": 1}}}}), "fc.*bit"),
        (lambda: load_recipe({"others": {"bits": 1}}), "others.bits"),
        (lambda: Recipe(layers={1: {}}), "layers.1: is no name; names are text"),
        (lambda: WeightSettings(rounding={"a": 1}), "rounding: `name` is missing in {'a': 1}"),
        (lambda: load_recipe(4), "got int"),
    ],
)
def test_every_way_of_making_settings_raises_one_kind_of_error(make, words):
    with pytest.raises(SubbyteError, match=words):
        make()


@pytest.mark.parametrize(
    "text", ["4", "2.5", "2 wide", "1 odd", "3 apot", "7 levels", "2.5 mixed", "ternary", "float"]
)
def test_widths_come_back_from_their_text(text):
    width = Width.parse(text)
    assert str(width) == text and Width.parse(width.plain()) == width


@pytest.mark.parametrize("wrong", ["", "wide", "4 wides", "ternary 3", True, None, "-2", "2 float"])
def test_other_texts_are_no_widths(wrong):
    with pytest.raises(RecipeError, match="expected a number of bits"):
        Width.parse(wrong)


@pytest.mark.parametrize(
    ("text", "path", "known"),
    [
        ("weigths: {bits: 4}", "weigths", TOP),
        ("weights: {bit: 4}", "weights.bit", WEIGHTS),
        ("activations: {rounding: gptq}", "activations.rounding", ["bits", "symmetric", "range"]),
        ("others: {bitz: 8}", "others.bitz", ["bits", "symmetric", "range"]),
        ("input: {bitz: 8}", "input.bitz", ["bits", "symmetric", "range"]),
        (
            "layers: {fc: {weight: {bits: 8}}}",
            "layers.fc.weight",
            ["skip", "weights", "activations"],
        ),
        (
            'layers: {"layer1.*": {bits: 8}}',
            "layers.layer1.*.bits",
            ["skip", "weights", "activations"],
        ),
        (
            "weights: {rounding: {name: gptq, dampin: 1}}",
            "weights.rounding",
            ["dampin", "damping", "order"],
        ),
        (
            "weights: {rounding: {name: gpfq, damping: 1}}",
            "weights.rounding",
            ["'damping'", "data, order"],
        ),
        ("weights: {range: {name: mse, step: 1}}", "weights.range", ["step", "steps", "power"]),
        (
            "others: {range: {name: percentile, percents: 1}}",
            "others.range",
            ["percents", "percent"],
        ),
        (
            "weights: {correction: {name: bias, by: 1}}",
            "weights.correction",
            ["'by'", "known: none"],
        ),
        ("weights: {rounding: gtpq}", "weights.rounding", ["gtpq", *ROUNDINGS]),
        ("weights: {range: max}", "weights.range", ["max", *RANGES]),
        ("weights: {correction: {strength: 1}}", "weights.correction", list(CORRECTIONS)),
    ],
)
def test_what_is_unknown_is_named_with_its_path_and_what_is_known(tmp_path, text, path, known):
    said = message(tmp_path, text)
    assert f" {path}: " in said
    assert all(word in said.split(f" {path}: ")[1] for word in known)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        *(
            (f"weights: {{bits: {bits}}}", "weights.bits")
            for bits in (1, 0, -4, 9, 15, 4.5, "binary", "[4]")
        ),
        *((f"activations: {{bits: {bits}}}", "activations.bits") for bits in (1, 9, "ternary")),
        ("others: {bits: 1}", "others.bits"),
        ("input: {bits: 12}", "input.bits"),
        ("first_last: 9", "first_last"),
        ("first_last: 1", "first_last"),
        ("weights: {granularity: row}", "weights.granularity"),
        ("weights: {symmetric: perhaps}", "weights.symmetric"),
        ("weights: {rounding: 3}", "weights.rounding"),
        ("weights: 4", "weights"),
        ("layers: [fc]", "layers"),
        ("layers: {fc: null}", "layers.fc"),
        ("layers: {fc: {skip: 7}}", "layers.fc.skip"),
        ("weights: {rounding: {name: gptq, damping: -1}}", "weights.rounding"),
        ("weights: {rounding: {name: gptq, damping: much}}", "weights.rounding"),
        ("weights: {rounding: {name: gptq, damping: .nan}}", "weights.rounding.damping"),
        ("weights: {rounding: {name: gptq, order: random}}", "weights.rounding"),
        ("weights: {rounding: {name: corrected, sweeps: -1}}", "weights.rounding"),
        ("weights: {rounding: {name: corrected, sweeps: 1.5}}", "weights.rounding"),
        ("weights: {rounding: {name: corrected, damping: .nan}}", "weights.rounding.damping"),
        ("weights: {rounding: {name: corrected, starts: []}}", "weights.rounding"),
        ("weights: {rounding: {name: corrected, starts: [1, 0]}}", "weights.rounding"),
        ("weights: {rounding: {name: corrected, starts: [one]}}", "weights.rounding"),
        ("weights: {rounding: {name: corrected, starts: [1, .nan]}}", "weights.rounding.starts.1"),
        ("weights: {rounding: {name: corrected, starts: 1}}", "weights.rounding"),
        ("weights: {range: {name: mse, steps: 0}}", "weights.range"),
        ("weights: {range: {name: mse, steps: 2.5}}", "weights.range"),
        ("weights: {range: {name: mse, power: null}}", "weights.range"),
        ("weights: {range: {name: percentile, percent: 101}}", "weights.range"),
    ],
)
def test_values_out_of_range_are_named_with_their_path(tmp_path, text, path):
    assert f"recipe {tmp_path / 'mine.yaml'}: {path}: " in message(tmp_path, text)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8, "ternary", None])
def test_all_bits_there_are_load(tmp_path, bits):
    recipe = parse(tmp_path, yaml.safe_dump({"weights": {"bits": bits}}))
    assert recipe.weights.bits == bits
    if bits != "ternary":
        assert (
            parse(tmp_path, yaml.safe_dump({"activations": {"bits": bits}})).activations.bits
            == bits
        )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"weights: {bits: 4", ["not YAML"]),
        (b"\t- x: [", ["not YAML"]),
        (b"- weights", ["expected a mapping", "list"]),
        (b"w4", ["expected a mapping", "str"]),
        (b"", ["expected a mapping", "NoneType"]),
        (b"\x80\x04\x95PK\xff\xfe", ["text"]),
        (b"4: {bits: 4}", ["4"]),
    ],
)
def test_files_that_are_no_recipes(tmp_path, content, words):
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(file)
    assert str(file) in str(caught.value)
    assert all(word in str(caught.value) for word in words)


def test_a_missing_file_and_a_folder_are_neither_preset_nor_file(tmp_path):
    for source in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(RecipeError, match="neither a preset"):
            load_recipe(source)


def test_yaml_runs_no_code(tmp_path):
    assert "not YAML" in message(tmp_path, "weights: !!python/object/apply:os.getcwd []")


# Overrides.


@pytest.mark.parametrize(
    ("override", "read", "wanted"),
    [
        ("weights.bits=3", lambda r: r.weights.bits, 3),
        (" weights.bits = 3", lambda r: r.weights.bits, 3),
        ("weights.bits=null", lambda r: r.weights.bits, None),
        ("weights.bits=ternary", lambda r: r.weights.bits, "ternary"),
        ("weights.symmetric=false", lambda r: r.weights.symmetric, False),
        ("weights.rounding=gpfq", lambda r: r.weights.rounding, Gpfq()),
        (
            "weights.rounding.sweeps=9",
            lambda r: r.weights.rounding,
            Corrected(sweeps=9),
        ),
        ("weights.rounding.damping=0.02", lambda r: r.weights.rounding.damping, 0.02),
        ("activations.range.power=3", lambda r: r.activations.range, Mse(power=3)),
        ("first_last=8", lambda r: r.first_last, 8),
        ("name=mine", lambda r: r.name, "mine"),
        ("weights={bits: 5, rounding: nearest}", lambda r: r.weights.rounding, Nearest()),
        ("layers.fc.skip=true", lambda r: r.layers["fc"].skip, True),
        ("layers.fc.weights.bits=8", lambda r: r.layers["fc"].weights, {"bits": 8}),
        ("layers.layer1.*.weights.bits=8", lambda r: r.layers["layer1.*"].weights, {"bits": 8}),
        (
            "layers.*.conv[12].activations.bits=4",
            lambda r: r.layers["*.conv[12]"].activations,
            {"bits": 4},
        ),
        ("layers.a.b.c.skip=true", lambda r: r.layers["a.b.c"].skip, True),
        ("layers.a.b.weights={bits: 8}", lambda r: r.layers["a.b"].weights, {"bits": 8}),
        (
            "layers.a.0.weights.rounding={name: gptq, damping: 1}",
            lambda r: r.layers["a.0"].weights,
            {"rounding": Gptq(damping=1)},
        ),
    ],
)
@pytest.mark.parametrize("source", ["w4a4", load_recipe("w4a4")], ids=["preset", "recipe"])
def test_overrides(source, override, read, wanted):
    assert read(load_recipe(source, [override])) == wanted


def test_overrides_apply_in_order_and_leave_the_rest():
    steps = [
        "weights.rounding=gptq",
        "weights.rounding.damping=0.02",
        "weights.rounding.order=natural",
    ]
    recipe = load_recipe("w4a4", steps)
    assert recipe.weights.rounding == Gptq(damping=0.02, order="natural")
    assert (recipe.weights.bits, recipe.activations.bits, recipe.name) == (4, 4, "w4a4")
    assert load_recipe("w4", ["weights.bits=3", "weights.bits=5"]).weights.bits == 5
    both = load_recipe("w4", ["layers.a.0.weights.bits=8", "layers.a.0.activations.bits=4"]).layers[
        "a.0"
    ]
    assert (both.weights, both.activations) == ({"bits": 8}, {"bits": 4})


@pytest.mark.parametrize(
    ("source", "override", "dropped"),
    [
        ("gpfq", "weights.rounding=gptq", "fallback=False, settings of gpfq, are dropped"),
        ("ldnq", "weights.rounding=corrected", "corrected=False, settings of ldnq, are dropped"),
        ("ldnq", "tune=distill", "retrain=logits, settings of cascade, are dropped"),
        ("gpfq", "weights.rounding=gpfq", ""),
        ("ldnq", "tune=cascade", ""),
        ("w4", "weights.rounding=gptq", ""),
        ("gpfq", "weights.rounding={name: gptq}", ""),
    ],
)
def test_a_method_in_the_place_of_another_says_what_is_dropped(source, override, dropped, caplog):
    with caplog.at_level("WARNING", "subbyte"):
        changed = load_recipe(source, [override])
    assert [dropped in message for message in caplog.messages] == [True] * bool(dropped)
    if not dropped and source != "w4" and "{" not in override:
        assert changed == load_recipe(source)


def test_overrides_do_not_change_the_recipe_they_start_from():
    recipe = load_recipe(
        "w4", ["weights.rounding={name: gptq, damping: 0.5}", "layers.fc.weights.bits=8"]
    )
    load_recipe(
        recipe, ["weights.rounding.damping=0.1", "layers.fc.weights.bits=2", "layers.x.skip=true"]
    )
    assert recipe.weights.rounding == Gptq(damping=0.5)
    assert list(recipe.layers) == ["fc"] and recipe.layers["fc"].weights == {"bits": 8}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("weights.bits", ["--set", "path=value"]),
        ("=4", ["--set", "path=value"]),
        ("", ["--set", "path=value"]),
        ("weights.bits=[4", ["--set", "not YAML"]),
        ("weights.bits.more=4", ["--set", "'bits'", "not a group"]),
        ("first_last.x=4", ["first_last"]),
        ("weights.bits=9", ["weights.bits", "2 to 8"]),
        ("weights.bitz=4", ["weights.bitz", *WEIGHTS]),
        ("weights..bits=4", ["weights."]),
        (".weights.bits=4", [*TOP]),
        ("bits=4", ["bits", *TOP]),
        ("weights.rounding.dampin=1", ["weights.rounding", "dampin", "damping"]),
        ("layers.fc.weight.bits=8", ["layers.fc", "skip, weights, activations"]),
        ("layers.layer1.*.bits=8", ["layers.layer1.*", "skip, weights, activations"]),
    ],
)
def test_overrides_that_do_not_fit(override, words):
    with pytest.raises(RecipeError) as caught:
        load_recipe("w4", [override])
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda recipe: setattr(recipe, "name", "x"), "Recipe: .* name stays; .*model_copy"),
        (lambda recipe: setattr(recipe.weights, "bits", 4), "WeightSettings: .* bits stays"),
        (lambda recipe: delattr(recipe, "name"), "Recipe: .* name stays"),
    ],
)
def test_recipes_are_not_changed(change, words):
    recipe = Recipe()
    with pytest.raises(RecipeError, match=words):
        change(recipe)
    assert recipe == Recipe()
