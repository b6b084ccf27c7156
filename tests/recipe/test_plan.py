"""Plans: which bits every layer and tap of a residual network gets."""

import json

import pytest
import torch
from torch import nn

from subbyte.core import GridSpec, PerChannel, PerGroup, Uniform
from subbyte.errors import RecipeError
from subbyte.graph import Edge, Network, instrument, prepare
from subbyte.io.user_file import UserFiles
from subbyte.ranges import MinMax, Percentile
from subbyte.recipe import PRESETS, Plan, Recipe, load_recipe, load_request, make_plan
from subbyte.rounding import Gptq, Nearest

torch.set_num_threads(1)
LAYERS = [
    "stem",
    "block1.conv1",
    "block1.conv2",
    "block2.conv1",
    "block2.conv2",
    "block2.down",
    "fc",
]


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, down: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.down = nn.Conv2d(inputs, outputs, 1) if down else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.conv2(torch.relu(self.norm1(self.conv1(x))))
        return torch.relu(inner + self.down(x))


class Residual(nn.Module):
    """stem, a block with an identity shortcut, one with a layer in its shortcut, a pool, fc."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.block1 = Block(4, 4, down=False)
        self.block2 = Block(4, 6, down=True)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.block2(self.block1(torch.relu(self.stem(x)))).mean((2, 3)))


class Shared(nn.Module):
    """One layer called twice, between two others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.twice(torch.relu(self.first(x))))
        return self.last(torch.relu(self.twice(x)))


@pytest.fixture(scope="module")
def network() -> Network:
    return prepare(Residual(), torch.randn(2, 3, 8, 8))


@pytest.fixture(scope="module")
def shared() -> Network:
    return prepare(Shared(), torch.randn(2, 4))


def recipe(**settings) -> Recipe:
    return Recipe.model_validate(settings)


def bits_of(plan: Plan) -> dict[str, int | None]:
    return {
        layer.name: None if layer.spec is None else layer.spec.alphabet.width
        for layer in plan.layers
    }


def taps_of(plan: Plan) -> dict[str, tuple[str, int]]:
    return {tap.name: (tap.role, tap.spec.alphabet.width) for tap in plan.taps}


def read_bits(network: Network, plan: Plan) -> dict[str, int | None]:
    """Bits of the value that each layer reads: of the tap before it in the graph with all taps in
    place.
    """
    instrumented = instrument(network, [tap.place for tap in plan.taps])
    by_name = {tap.name: tap for tap in plan.taps}
    tap_at = {node: by_name[name] for name, node in instrumented.taps.items()}
    found = {}
    for name, node in instrumented.layers.items():
        source = node.all_input_nodes[0]
        found[name] = tap_at[source].spec.alphabet.width if source in tap_at else None
    return found


@pytest.mark.parametrize("preset", [preset for preset in PRESETS if preset not in ("gpfq", "ldnq")])
def test_all_layers_get_the_stated_bits_first_and_last_included(network, preset):
    plan = make_plan(network, load_recipe(preset))
    wanted = load_recipe(preset).weights
    assert [layer.name for layer in plan.layers] == LAYERS
    for layer in plan.layers:
        assert layer.spec is not None and layer.reason == ""
        assert layer.spec.share == PerChannel()
        assert (layer.wanted, layer.spec.label) == (str(wanted.bits), str(wanted.bits))
        assert (layer.spec.alphabet.count == 3) == (preset == "ternary")
        assert layer.spec.alphabet.symmetric == wanted.symmetric


def test_gpfq_and_ldnq_have_the_levels_of_their_papers(network):
    gpfq, ldnq = (make_plan(network, load_recipe(name)) for name in ("gpfq", "ldnq"))
    for layer in gpfq.layers:
        assert layer.spec == GridSpec(Uniform(4, wide=True)) and layer.scalar == 1.16
        assert (layer.wanted, layer.spec.label, layer.spec.alphabet.count) == ("4 wide", "4.09", 17)
    assert all(
        layer.spec is not None and layer.spec.alphabet.positions == (-1, 0, 1)
        for layer in ldnq.layers
    )
    assert {layer.wanted for layer in ldnq.layers} == {"3 levels"}


@pytest.mark.parametrize(
    ("settings", "levels", "asked"),
    [
        ({"levels": 7}, (-4, -2, -1, 0, 1, 2, 4), "7 levels"),
        ({"levels": "odd", "bits": 2}, (-3, -1, 1, 3), "2 odd"),
        ({"levels": "odd", "bits": 1}, (-1, 1), "1 odd"),
        ({"levels": "apot", "bits": 3}, (-4, -2, -1, 0, 1, 2, 4), "3 apot"),
        ({"levels": [-1, 0, 0.25, 1]}, (-4, 0, 1, 4), "4 levels"),
        ({"levels": [-0.1, 0, 0.1]}, (-0.1, 0, 0.1), "3 levels"),
    ],
)
def test_levels_by_name_number_or_list(network, settings, levels, asked):
    plan = make_plan(network, recipe(weights=settings))
    assert all(
        layer.spec is not None and layer.spec.alphabet.positions == levels for layer in plan.layers
    )
    assert {layer.wanted for layer in plan.layers} == {asked}


def test_bits_take_the_place_of_a_number_of_levels_and_the_other_way_round(network):
    plan = make_plan(network, load_recipe("ldnq", ["first_last=8", "layers.*conv2.weights.bits=4"]))
    asked = {layer.name: layer.wanted for layer in plan.layers}
    assert [asked[name] for name in (LAYERS[0], LAYERS[-1])] == ["8", "8"]
    assert all(
        layer.wanted == layer.spec.label for layer in plan.layers if layer.wanted in ("4", "8")
    )
    assert {asked[name] for name in LAYERS[1:-1]} <= {"3 levels", "4"}
    assert {
        layer.wanted
        for layer in make_plan(network, load_recipe("ternary", ["weights.levels=9"])).layers
    } == {"9 levels"}


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"bits": 4, "granularity": "tensor", "rounding": "beacon"}, "granularity must be channel"),
        ({"bits": 4, "granularity": "group", "group_size": 2, "rounding": "kmeans"}, "group"),
        (
            {
                "bits": 4,
                "symmetric": False,
                "rounding": {"name": "gpfq", "regularizer": "L0", "penalty": 0.1},
            },
            "symmetric",
        ),
        ({"bits": 4, "rounding": {"name": "ldnq", "compat": True}}, "levels: 3"),
    ],
)
def test_roundings_that_do_not_work_on_a_grid_say_so_before_any_data(network, settings, word):
    with pytest.raises(RecipeError, match=rf"layer {LAYERS[0]}.*{word}"):
        make_plan(network, recipe(weights=settings))


def test_patterns_for_kinds_of_layers(network):
    layers = {
        "kind:linear": {"weights": {"scalar": 1.5}},
        "kind:conv": {"weights": {"precondition": "magr"}},
    }
    plan = make_plan(network, recipe(layers=layers))
    assert {layer.scalar for layer in plan.layers if layer.kind == "linear"} == {1.5}
    assert {layer.scalar for layer in plan.layers if layer.kind == "conv"} == {1.0}
    assert all((layer.precondition is None) == (layer.kind != "conv") for layer in plan.layers)
    with pytest.raises(RecipeError, match="kind:conv_transpose"):
        make_plan(network, recipe(layers={"kind:conv_transpose": {"skip": True}}))


def test_layers_are_described(network):
    conv, linear = (make_plan(network, load_recipe("w4")).layers[k] for k in (3, -1))
    assert (conv.kind, conv.shape, conv.rows) == ("conv", (6, 4, 3, 3), 6)
    assert (linear.kind, linear.shape, linear.rows) == ("linear", (5, 6), 5)


@pytest.mark.parametrize("preset", ["w4", "w3", "w2", "ternary"])
def test_weight_only_recipes_have_no_taps(network, preset):
    assert make_plan(network, load_recipe(preset)).taps == ()
    assert (
        make_plan(network, load_recipe(preset, ["first_last=8", "layers.fc.weights.bits=8"])).taps
        == ()
    )


def test_taps_of_w4a4(network):
    """Input 8 bits, what feeds a layer 4, operands of adds 8, the logits 8; both where both
    read.
    """
    plan = make_plan(network, load_recipe("w4a4"))
    assert taps_of(plan) == {
        "input": ("input", 8),
        "stem:out": ("value", 8),  # read by block1.conv1 and by the add
        "stem:out:feed": ("feed", 4),
        "block1.conv1:out": ("value", 4),
        "block1.conv2:out": ("value", 8),
        "block1.add:out": ("value", 4),  # read by two layers and nothing else
        "block2.conv1:out": ("value", 4),
        "block2.conv2:out": ("value", 8),
        "block2.down:out": ("value", 8),
        "block2.add:out": ("value", 8),
        "mean:out": ("value", 4),
        "fc:out": ("value", 8),
    }
    by_name = {tap.name: tap for tap in plan.taps}
    feed = by_name["stem:out:feed"]
    assert feed.feeds == ("block1.conv1",)
    assert feed.place.edges == (Edge(network.layer("block1.conv1").node.name, 0),)
    assert by_name["block1.add:out"].feeds == ("block2.conv1", "block2.down")
    assert all(tap.place.edges == () for tap in plan.taps if tap.role != "feed")
    assert all(
        tap.spec == GridSpec(Uniform(int(str(tap.asked)), signed=False, symmetric=False))
        for tap in plan.taps
    )


@pytest.mark.parametrize(
    ("preset", "wanted"),
    [("w4a4", 4), ("w4a8", 8), ("w8a8", 8), ("w4", None)],
    ids=lambda value: str(value),
)
def test_what_the_layers_read(network, preset, wanted):
    first = None if wanted is None else 8
    read = read_bits(network, make_plan(network, load_recipe(preset)))
    assert read == {name: first if name == "stem" else wanted for name in LAYERS}


def test_w8a8_needs_no_second_tap_anywhere(network):
    plan = make_plan(network, load_recipe("w8a8"))
    assert {tap.role for tap in plan.taps} == {"input", "value"}
    assert {tap.spec.alphabet.width for tap in plan.taps} == {8}


@pytest.mark.parametrize(
    ("overrides", "changed", "feeds"),
    [
        (["layers.block1.conv1.activations.bits=4"], {"block1.conv1": 4}, {("block1.conv1",)}),
        (["layers.block2.conv1.activations.bits=4"], {"block2.conv1": 4}, {("block2.conv1",)}),
        (["layers.block2.down.activations.bits=3"], {"block2.down": 3}, {("block2.down",)}),
        (["layers.block2.conv2.activations.bits=4"], {"block2.conv2": 4}, set()),
        (["layers.fc.activations.bits=2"], {"fc": 2}, set()),
        (
            ["layers.block2.conv1.activations.bits=4", "layers.block2.down.activations.bits=2"],
            {"block2.conv1": 4, "block2.down": 2},
            {("block2.down",)},
        ),
        (
            ["layers.*.conv1.activations.bits=4"],
            {"block1.conv1": 4, "block2.conv1": 4},
            {("block1.conv1",), ("block2.conv1",)},
        ),
    ],
)
def test_activation_bits_of_single_layers(network, overrides, changed, feeds):
    """Feed taps stand only in front of layers that read fewer bits than the value's other
    readers.
    """
    plan = make_plan(network, load_recipe("w4a8", overrides))
    assert read_bits(network, plan) == dict.fromkeys(LAYERS, 8) | changed
    assert {tap.feeds for tap in plan.taps if tap.role == "feed"} == feeds
    names = [tap.name for tap in plan.taps]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("preset", ["w4a4", "w4a8"])
@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["others.bits=4"],
        ["others.bits=2"],
        ["others.bits=null"],
        ["layers.block1.conv1.activations.bits=8", "others.bits=6"],
        ["layers.block2.down.activations.bits=2", "layers.block2.conv1.activations.bits=6"],
    ],
)
def test_no_layer_reads_coarser_values_than_it_asked_for(network, preset, overrides):
    asked = load_recipe(preset, overrides)
    read = read_bits(network, make_plan(network, asked))
    assert all(
        str(tap.asked) == tap.spec.label or tap.reason for tap in make_plan(network, asked).taps
    )
    for name in LAYERS[1:]:
        own = asked.layers[name].activations if name in asked.layers else {}
        assert read[name] == own.get("bits", asked.activations.bits), name


def test_a_value_read_through_a_move_and_directly_has_a_feed_tap_for_each():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.near = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
            self.far, self.other = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.stem(x))
            pooled = torch.max_pool2d(x, 2)
            return (
                self.near(x).mean((2, 3))
                + self.far(pooled).mean((2, 3))
                + self.other(pooled).mean((2, 3))
                + x.mean((2, 3))
            )

    network = prepare(Net(), torch.randn(2, 3, 8, 8))
    plan = make_plan(network, load_recipe("w4a4"))
    read = read_bits(network, plan)
    assert read == {"stem": 8, "near": 4, "far": 4, "other": 4}
    assert {tap.feeds for tap in plan.taps if tap.role == "feed"} == {
        ("near",),
        ("far", "other"),
    }
    overrides = ["layers.far.activations.bits=2", "layers.other.activations.bits=3"]
    mixed = make_plan(network, load_recipe("w4a4", overrides))
    assert read_bits(network, mixed) == {"stem": 8, "near": 4, "far": 2, "other": 3}
    for each in (plan, mixed):
        names = [tap.name for tap in each.taps]
        assert len(set(names)) == len(names)


def test_methods_of_activations_may_have_settings(network):
    """As a mapping, with a feed tap in the network."""
    plan = make_plan(
        network, load_recipe("w4a4", ["activations.range={name: percentile, percent: 99.5}"])
    )
    ranges = {tap.name: tap.range for tap in plan.taps}
    assert ranges["stem:out:feed"] == ranges["mean:out"] == Percentile(99.5)
    assert ranges["stem:out"] != Percentile(99.5)


def test_settings_of_input_and_others_reach_their_taps(network):
    overrides = ["input.range=minmax", "input.bits=6", "others.symmetric=true", "others.bits=7"]
    plan = make_plan(network, load_recipe("w4a4", overrides))
    by_name = {tap.name: tap for tap in plan.taps}
    assert (by_name["input"].range, by_name["input"].spec.alphabet.width) == (MinMax(), 6)
    assert by_name["fc:out"].spec == GridSpec(Uniform(7, signed=True, symmetric=True))
    assert by_name["mean:out"].spec == GridSpec(Uniform(4, signed=False, symmetric=False))


def test_float_others_leave_only_the_feeds(network):
    plan = make_plan(network, load_recipe("w4a4", ["others.bits=null"]))
    assert read_bits(network, plan) == {name: 8 if name == "stem" else 4 for name in LAYERS}
    assert all(tap.feeds for tap in plan.taps)


def test_the_plan_can_be_put_into_the_graph(network):
    plan = make_plan(network, load_recipe("w4a4", ["layers.*.down.activations.bits=2"]))
    instrumented = instrument(network, [tap.place for tap in plan.taps])
    x = torch.randn(4, 3, 8, 8)
    # Taps without grids hand values on.
    torch.testing.assert_close(instrumented.graph_module(x), network.graph_module(x))
    assert list(instrumented.taps) == [tap.name for tap in plan.taps]


def test_one_layer_alone_may_read_rounded_values(network):
    """In a recipe of weights only; all layers but the first, which reads the input, read float
    values.
    """
    plan = make_plan(network, load_recipe("w4", ["layers.block2.conv1.activations.bits=4"]))
    read = read_bits(network, plan)
    del read["stem"]
    assert read == dict.fromkeys(LAYERS[1:]) | {"block2.conv1": 4}


def test_a_float_input_stays_float(network):
    plan = make_plan(network, load_recipe("w4a4", ["input.bits=null"]))
    assert read_bits(network, plan) == dict.fromkeys(LAYERS, 4) | {"stem": None}


# first_last, patterns, skip


def test_first_last_sets_both_ends_and_nothing_else(network):
    plan = make_plan(network, load_recipe("w4a4", ["first_last=8"]))
    assert bits_of(plan) == dict.fromkeys(LAYERS, 4) | {"stem": 8, "fc": 8}
    assert read_bits(network, plan) == dict.fromkeys(LAYERS, 4) | {"stem": 8, "fc": 8}
    only_weights = make_plan(network, load_recipe("ternary", ["first_last=6"]))
    assert bits_of(only_weights) == dict.fromkeys(LAYERS, 2) | {"stem": 6, "fc": 6}
    assert [layer.wanted for layer in only_weights.layers] == ["6", *["ternary"] * 5, "6"]


def test_a_pattern_beats_first_last(network):
    plan = make_plan(network, load_recipe("w4", ["first_last=8", "layers.fc.weights.bits=3"]))
    assert (bits_of(plan)["stem"], bits_of(plan)["fc"]) == (8, 3)


def test_the_last_pattern_wins_setting_by_setting(network):
    layers = {
        "*": {"weights": {"bits": 6, "rounding": "nearest"}},
        "block1.*": {"weights": {"bits": 5}},
        "*.conv2": {"weights": {"bits": 3}},
    }
    plan = make_plan(network, recipe(layers=layers))
    assert [bits_of(plan)[name] for name in LAYERS] == [6, 5, 3, 6, 3, 6, 6]
    assert all(layer.rounding == Nearest() for layer in plan.layers)
    reverse = make_plan(network, recipe(layers=dict(reversed(layers.items()))))
    assert set(bits_of(reverse).values()) == {6}


def test_methods_of_single_layers(network):
    layers = {"fc": {"weights": {"rounding": {"name": "gptq", "damping": 0.5}, "range": "minmax"}}}
    plan = make_plan(network, recipe(weights={"bits": 4, "rounding": "nearest"}, layers=layers))
    assert plan.layers[-1].rounding == Gptq(damping=0.5) and plan.layers[-1].range == MinMax()
    assert all(layer.rounding == Nearest() for layer in plan.layers[:-1])


def test_grids_of_weights_are_the_recipes(network):
    settings = {"bits": 3, "symmetric": False, "granularity": "group", "group_size": 9}
    wanted = GridSpec(Uniform(3, symmetric=False), PerGroup(9))
    assert make_plan(network, recipe(weights=settings)).layers[1].spec == wanted
    plan = make_plan(network, recipe(weights={"bits": 2, "narrow": True, "granularity": "tensor"}))
    assert plan.layers[0].spec == GridSpec(Uniform(2, narrow=True))


def test_skipped_layers_stay_float_and_say_why(network):
    plan = make_plan(
        network, load_recipe("w4a4", ["layers.fc.skip=true", "layers.block1.conv1.skip=true"])
    )
    assert bits_of(plan) == dict.fromkeys(LAYERS, 4) | {"fc": None, "block1.conv1": None}
    assert {layer.name: layer.reason for layer in plan.layers if layer.spec is None} == {
        "fc": "skipped by the recipe",
        "block1.conv1": "skipped by the recipe",
    }
    read = read_bits(network, plan)
    assert (read["fc"], read["block1.conv1"], read["block2.conv1"]) == (None, None, 4)


def test_float_weights_are_asked_for_as_such(network):
    plan = make_plan(network, load_recipe("w8a8", ["layers.stem.weights.bits=null"]))
    assert (plan.layers[0].spec, plan.layers[0].wanted) == (None, "float")
    assert plan.layers[0].reason == "float by the recipe"
    assert read_bits(network, plan)["stem"] == 8


def test_a_pattern_that_says_nothing_of_skip_changes_nothing_of_it(network):
    layers = {"fc": {"skip": True}, "*": {"weights": {"bits": 3}}}
    plan = make_plan(network, recipe(weights={"bits": 4}, activations={"bits": 4}, layers=layers))
    assert bits_of(plan)["fc"] is None
    assert read_bits(network, plan)["fc"] is None


def test_all_but_one_layer_can_be_skipped(network):
    layers = {"*": {"skip": True}, "fc": {"skip": False}}
    plan = make_plan(network, recipe(weights={"bits": 4}, activations={"bits": 4}, layers=layers))
    assert bits_of(plan) == dict.fromkeys(LAYERS) | {"fc": 4}
    assert read_bits(network, plan)["fc"] == 4


# Errors


def test_a_pattern_that_matches_nothing_lists_the_layers(network):
    with pytest.raises(RecipeError, match=r"'block3\.\*' matches no layer") as caught:
        make_plan(network, load_recipe("w4", ["layers.block3.*.weights.bits=8"]))
    assert all(name in str(caught.value) for name in LAYERS)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"weights": {"bit": 4}},
            ["layers.fc.weights: bit:", "levels, allocate, bits, symmetric"],
        ),
        ({"weights": {"bits": 9}}, ["layer fc", "weights", "2 to 8", "9"]),
        (
            {"weights": {"rounding": {"name": "gptq", "dampin": 1}}},
            ["layers.fc.weights", "dampin", "order"],
        ),
        ({"activations": {"bits": 1}}, ["layer fc", "activations", "2 to 8", "1"]),
        (
            {"activations": {"rounding": "gptq"}},
            ["layers.fc.activations: rounding:", "bits, symmetric, range, granularity"],
        ),
        ({"weights": {"granularity": "group"}}, ["layer fc", "weights", "group_size"]),
        ({"weights": {"group_size": 4}}, ["layer fc", "weights", "group_size"]),
        (
            {"weights": {"granularity": "group", "group_size": 0}},
            ["layer fc", "weights", "group_size"],
        ),
    ],
)
@pytest.mark.parametrize("base", ["w4", "w4a4"])
def test_settings_of_single_layers_are_checked(network, base, settings, words):
    with pytest.raises(RecipeError) as caught:
        make_plan(network, recipe(**load_recipe(base).model_dump() | {"layers": {"fc": settings}}))
    assert all(word in str(caught.value) for word in words)


# Shared weights


def test_calls_that_share_a_weight_share_its_plan(shared):
    plan = make_plan(shared, load_recipe("w4a4", ["layers.twice.weights.bits=3"]))
    assert bits_of(plan) == {"first": 4, "twice": 3, "twice#2": 3, "last": 4}
    assert plan.layers[2].reason == "shares the weight of twice"
    assert [layer.reason for layer in plan.layers if layer.name != "twice#2"] == [""] * 3
    assert read_bits(shared, plan) == {"first": 8, "twice": 4, "twice#2": 4, "last": 4}


def test_skipping_a_shared_weight_skips_all_its_calls(shared):
    plan = make_plan(shared, load_recipe("w4", ["layers.twice.skip=true"]))
    assert bits_of(plan) == {"first": 4, "twice": None, "twice#2": None, "last": 4}
    assert plan.layers[2].reason == "shares the weight of twice, skipped by the recipe"


def test_the_second_call_may_be_fed_other_bits(shared):
    plan = make_plan(shared, load_recipe("w4a8", ["layers.twice#2.activations.bits=4"]))
    assert read_bits(shared, plan) == {"first": 8, "twice": 8, "twice#2": 4, "last": 8}


# Plain values and back


ROUND_TRIPS = {
    **{name: [] for name in PRESETS},
    "w4a8 with a reason": ["others.bits=4"],
    "w4a4 mixed": [
        "first_last=8",
        "layers.fc.skip=true",
        "layers.*.conv2.weights.granularity=group",
        "layers.*.conv2.weights.group_size=3",
        "layers.block2.down.activations.bits=2",
        "weights.rounding={name: gptq, damping: 0.25, order: natural}",
        "weights.range={name: mse, power: 2.4}",
        "others.range=minmax",
    ],
}


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_plans_survive_yaml_and_json(network, shared, name):
    for each in (network, shared):
        overrides = [o for o in ROUND_TRIPS[name] if each is network or not o.startswith("layers")]
        plan = make_plan(each, load_recipe(name.split()[0], overrides))
        assert Plan.from_yaml(plan.to_yaml()) == plan
        assert load_request(json.loads(json.dumps(plan.to_dict()))) == plan
        assert make_plan(each, plan) is plan


def test_a_plan_is_read_from_its_file_and_names_users_classes(network, tmp_path):
    (tmp_path / "own.py").write_text(
        "from dataclasses import dataclass\nfrom subbyte.rounding import Nearest\n"
        "@dataclass(frozen=True)\nclass Mine(Nearest):\n    setting: int = 3\n"
    )
    mine = load_recipe("w4", [f"weights.rounding={tmp_path}/own.py:Mine"])
    plan, file = make_plan(network, mine), tmp_path / "plan.yaml"
    file.write_text(plan.to_yaml())
    assert Plan.read(file) == load_request(file) == plan
    unread = Plan.from_dict(plan.to_dict(), UserFiles(run=False))
    assert unread.to_dict() == plan.to_dict()
    with pytest.raises(RecipeError, match=r"own.py:Mine is a class of a user's file"):
        unread.layers[0].rounding.round(None, None, None)
    with pytest.raises(RecipeError, match="is a plan; a recipe is needed"):
        load_recipe(file)
    with pytest.raises(RecipeError, match="a plan leaves nothing open"):
        load_request(file, ["weights.bits=3"])


def test_a_plan_for_another_network_is_refused(network, shared):
    with pytest.raises(RecipeError, match="w4: made for a network with layer 'stem'"):
        make_plan(shared, make_plan(network, load_recipe("w4")))


def without(entry, key):
    del entry[key]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda plan: without(plan, "layers"), "layers: is missing"),
        (lambda plan: without(plan["layers"][0], "rows"), "layers.0.rows: is missing"),
        (lambda plan: plan["layers"][1].update(bits=3), "layers.1.bits: unknown setting"),
        (
            lambda plan: plan["layers"][0]["grid"]["alphabet"].update(bits=99),
            "layers.0.grid: .*bits",
        ),
        (
            lambda plan: plan["layers"][0].update(grid={"bits": 4}),
            "layers.0.grid: expected a grid's alphabet",
        ),
        (lambda plan: plan["layers"][0].update(rounding="gtpq"), "layers.0.rounding: .*'gtpq'"),
        (lambda plan: plan["layers"][0].update(rounding={"name": "gpfq", "damping": 1}), "damping"),
        (
            lambda plan: plan["activations"][2].update(grid=None),
            "activations.2.grid: expected a grid's alphabet",
        ),
        (lambda plan: plan["activations"][0].update(asked="4 tall"), "activations.0.asked"),
        (
            lambda plan: plan["layers"][0]["grid"]["share"].update(kind="tensor"),
            "stem: beacon finds",
        ),
        (lambda plan: plan["layers"][0].update(guided=-3), "layers.0.guided: must be gre.*got -3"),
        (lambda plan: plan["layers"][0].update(guided_power=9), "layers.0.guided_power.*got 9"),
        (lambda plan: plan["layers"][0].update(scalar=float("nan")), "layers.0.scalar.*finite"),
        (lambda plan: plan["layers"][0].update(kind="zz"), "layers.0.kind: .*got 'zz'"),
        (lambda plan: plan["layers"][1].update({5: 1}), "layers.1.*: is no name; names are text"),
        (
            lambda plan: plan["layers"][0]["grid"].update(share={"kind": "group", "size": 2.5}),
            "layers.0.grid: share group: size must be a whole number, got 2.5",
        ),
        (
            lambda plan: plan["layers"][0]["grid"].update(share={"kind": "group", "size": "x"}),
            "share group: size must be a whole number, got 'x'",
        ),
        (
            lambda plan: plan["layers"][0]["grid"]["alphabet"].update(signed="maybe"),
            "alphabet uniform: signed must be true or false, got 'maybe'",
        ),
        (
            lambda plan: plan["layers"][3].update(
                rounding="nearest",
                grid={"alphabet": {"kind": "widths"}, "share": {"kind": "channel"}},
            ),
            "block2.conv1: a grid of widths needs allocate",
        ),
        (
            lambda plan: plan["layers"][3].update(
                rounding="nearest",
                grid={
                    "alphabet": {"kind": "counts", "counts": [3, 3]},
                    "share": {"kind": "channel"},
                },
            ),
            "block2.conv1: grid: numbers for 2 rows, it has 6",
        ),
        (lambda plan: plan["activations"][0].update(role="zz"), "activations.0.role: .*got 'zz'"),
        (
            lambda plan: plan["activations"][0].update(dynamic=3),
            "activations.0.dynamic: must be tr",
        ),
        (
            lambda plan: plan["activations"][0]["place"].update(axis=1),
            "input: place.axis 1 .* no axis",
        ),
        (lambda plan: plan["activations"][1].update(range="exact"), "stem:out: range: .*weights"),
        (
            lambda plan: plan.update(version=1),
            "version 1.*another version of subbyte; make it anew",
        ),
        (lambda plan: without(plan, "version"), "no version.*`subbyte quantize`"),
    ],
)
def test_what_is_wrong_in_a_plan_is_named_with_its_path(network, spoil, words):
    data = make_plan(network, load_recipe("w4a4", ["weights.rounding=beacon"])).to_dict()
    spoil(data)
    with pytest.raises(RecipeError, match=words):
        Plan.from_dict(data)


FEED = 2  # of the activation quantizers: the one in front of block1.conv1 alone


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda plan: plan["layers"][0].update(rows=99), "layer 'stem': rows 99, here it has 4"),
        (lambda plan: plan["layers"][0].update(kind="linear"), "layer 'stem': kind linear, here"),
        (lambda plan: plan["layers"][0].update(shape=[4, 3]), r"layer 'stem' \(4, 3\), this one"),
        (
            lambda plan: plan["activations"][FEED]["place"]["edges"][0].update(reader="nobody"),
            "'stem:out:feed': place.edges: no layer reads 'stem:out' .* of 'nobody'",
        ),
        (
            lambda plan: plan["activations"][FEED]["place"]["edges"][0].update(argument=7),
            "no layer reads 'stem:out' at argument 7",
        ),
        (lambda plan: plan["activations"][1]["place"].update(node="none"), "a value 'stem:out'"),
        (lambda plan: plan["activations"][1].update(role="feed"), "role feed .* here it is value"),
        (lambda plan: plan["activations"][1].update(feeds=["fc"]), "feeds .*'fc'.* here they are"),
        (
            lambda plan: (
                plan["activations"][1]["place"].update(axis=9),
                plan["activations"][1]["grid"].update(share={"kind": "channel"}),
            ),
            "place.axis 9, here its channels lie along 1",
        ),
        (lambda plan: plan["activations"].append(plan["activations"][0]), "are called 'input'"),
    ],
)
def test_an_edited_plan_that_does_not_fit_the_network_is_refused(network, spoil, words):
    data = make_plan(network, load_recipe("w4a4")).to_dict()
    spoil(data)
    with pytest.raises(RecipeError, match=f"{words}.*; make a plan of this network"):
        make_plan(network, Plan.from_dict(data))


def test_a_plan_begins_with_its_version_and_a_missing_file_is_said_to_be(network, tmp_path):
    assert make_plan(network, load_recipe("w4")).to_yaml().startswith("version: 2\n")
    with pytest.raises(RecipeError, match=r"nope\.yaml can.t be read: No such file"):
        Plan.read(tmp_path / "nope.yaml")


def test_a_plan_says_which_widths_are_left_to_a_budget(network):
    asked = ["budget=2.5bits", "first_last=8", "layers.block1.conv1.weights.levels=7"]
    more = ["layers.block1.conv2.skip=true", "layers.block2.*.weights.range=minmax"]
    plan = make_plan(network, load_recipe("w4", [*asked, *more]))
    left = [layer.name for layer in plan.layers if layer.budget is not None]
    assert left == ["block2.conv1", "block2.conv2", "block2.down"]
    assert {layer.wanted for layer in plan.layers} == {"8", "7 levels", "4", "budget 2.5bits"}
    assert Plan.from_yaml(plan.to_yaml()) == plan


class Attentions(nn.Module):
    """Two attentions and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.first, self.second = Attend(), Attend()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(self.fc(x)))


class Attend(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.q(x) @ self.k(x).transpose(1, 2), -1) @ self.v(x)


LOG2 = {"bits": 4, "levels": "log2"}
EIGHT = {"bits": 8}


@pytest.mark.parametrize(
    ("softmax", "changes", "widths"),
    [
        (LOG2, {"first.*": EIGHT}, ["8", "4 log2"]),
        (LOG2, {"first.*": {"bits": 3}}, ["3 log2", "4 log2"]),
        (LOG2, {"first.*": {"levels": None}}, ["4", "4 log2"]),
        (LOG2, {"first.*": {"granularity": "channel"}}, ["4", "4 log2"]),
        (EIGHT, {"second.*": LOG2}, ["8", "4 log2"]),
        (EIGHT, {"*": LOG2, "first.*": EIGHT}, ["8", "4 log2"]),
    ],
)
def test_patterns_say_which_softmax_has_powers_of_two(softmax, changes, widths):
    network = prepare(Attentions(), torch.randn(2, 3, 4))
    layers = {pattern: {"activations": change} for pattern, change in changes.items()}
    recipe = Recipe(activations={"bits": 8}, softmax=softmax, layers=layers)
    of = {point.node.name: point.softmax for point in network.taps}
    plan = make_plan(network, recipe)
    assert [str(tap.asked) for tap in plan.taps if of[tap.place.node]] == widths
    assert not any("log2" in str(tap.asked) for tap in plan.taps if not of[tap.place.node])
    assert Recipe(**recipe.stated()) == recipe


def test_powers_of_two_that_no_softmax_has_are_refused():
    network = prepare(Attentions(), torch.randn(2, 3, 4))
    for pattern, levels, message in (
        ("fc", "log2", "'fc': activations: levels are for a softmax's outputs"),
        ("*", "odd", "levels of a softmax's outputs are log2, or null for equal steps; got 'odd'"),
    ):
        with pytest.raises((RecipeError, ValueError), match=message):
            layers = {pattern: {"activations": {"levels": levels}}}
            make_plan(network, Recipe(activations={"bits": 8}, layers=layers))
    beyond = {"*": {"activations": {"bits": 8, "levels": "log2"}}}
    with pytest.raises(RecipeError, match="levels log2 have 2 to 5 bits, got 8"):
        make_plan(network, Recipe(activations={"bits": 8}, layers=beyond))
