"""Widths under a budget: what is measured, what is counted, and what the plan becomes."""

from dataclasses import dataclass, field, replace
from functools import cache

import pytest
import torch
from torch import nn
from torch.func import functional_call

import subbyte
import subbyte.engine.sensitivity as surveying
from subbyte import load_recipe, quantize
from subbyte.core import GridSpec, PerChannel, QTensor, Uniform
from subbyte.engine.budget import meet_budget
from subbyte.engine.layers import round_layer
from subbyte.engine.limits import Limits
from subbyte.engine.quantization import assemble
from subbyte.engine.sensitivity import Option, Question, survey
from subbyte.engine.walk import walk
from subbyte.errors import RecipeError
from subbyte.graph import Samples, instrument, prepare, tensor_at
from subbyte.methods import Rounding
from subbyte.recipe import Plan, make_plan
from subbyte.stats import LayerStats
from tests.networks import EVERY_ROW, build, captured, images

torch.set_num_threads(1)
FAST = ("weights.rounding=gptq", "widths=[ternary, 2, 4]")


@cache
def met(name: str, *settings: str, recipe: str = "w2") -> tuple[Plan, list[Option]]:
    return meet_budget(
        captured(name), load_recipe(recipe, [*FAST, *settings]), images(name), limits=EVERY_ROW
    )


def chosen(options: list[Option]) -> dict[str, Option]:
    return {option.layer: option for option in options if option.chosen}


def test_divergences_are_those_of_networks_with_one_layer_quantized():
    network, x = captured("residual"), images("residual")
    _, options = met("residual", "budget=4bits")
    expected = network.graph_module(x).detach()
    for layer in ("stem", "b2.conv1"):
        for width in ("ternary", "2", "4"):
            only = [f"weights.bits={width}", "layers.*.skip=true", f"layers.{layer}.skip=false"]
            plan = make_plan(network, load_recipe("w2", [*FAST, *only]))
            alone = assemble(network, plan, walk(network, plan, x, limits=EVERY_ROW))
            error = (alone(x) - expected).double().square().sum() / expected.double().square().sum()
            found = next(
                option for option in options if (option.layer, option.width) == (layer, width)
            )
            assert found.divergence == pytest.approx(float(error), rel=1e-4)
            assert found.bytes == next(row.bytes for row in alone.ledger if row.name == layer)


@pytest.mark.parametrize("bits", [2.8, 3.5])
def test_the_budget_is_met_and_counts_all_that_is_stored(bits):
    network, x = captured("residual"), images("residual")
    plan, options = met("residual", f"budget={bits}bits")
    quantized = assemble(network, plan, walk(network, plan, x, limits=EVERY_ROW))
    assert bits - 0.4 < quantized.bits_per_weight <= bits
    taken = chosen(options)
    for row in (row for row in quantized.ledger if row.kind == "layer"):
        assert (row.bits, row.bytes) == (taken[row.name].width, taken[row.name].bytes)
        assert (row.asked, row.reason) == (f"budget {bits}bits", f"allocated under {bits}bits")
    in_bytes = meet_budget(
        network, load_recipe("w2", [*FAST, f"budget={sum(o.bytes for o in taken.values())}B"]), x
    )
    assert [layer.spec for layer in in_bytes[0].layers] == [layer.spec for layer in plan.layers]


def test_no_other_choice_within_the_budget_diverges_less():
    _, options = met("residual", "budget=3bits")
    taken = chosen(options)
    spent, room = (
        sum(option.bytes for option in taken.values()),
        3 * captured_weights("residual") / 8,
    )
    for option in options:
        mine = taken[option.layer]
        if spent - mine.bytes + option.bytes <= room:
            assert option.divergence >= mine.divergence


def captured_weights(name: str) -> int:
    return sum(layer.geometry.rows * layer.geometry.columns for layer in captured(name).layers)


def test_layers_with_bits_of_their_own_keep_them_and_count():
    own = ("layers.stem.skip=true", "layers.fc.weights.bits=3", "budget=5bits")
    plan, options = met("residual", *own)
    taken = chosen(options)
    specs = {layer.name: layer for layer in plan.layers}
    assert specs["stem"].spec is None and specs["fc"].spec.label == "3"
    assert (specs["stem"].wanted, specs["fc"].wanted, specs["fc"].reason) == ("2", "3", "")
    assert [option.layer for option in options].count("fc") == 1
    stem = captured("residual").layers[0].geometry
    assert taken["stem"].bytes == 4 * stem.rows * stem.columns
    assert sum(option.bytes for option in taken.values()) <= 5 * captured_weights("residual") / 8


@pytest.mark.parametrize("stated", ["bits=3", "levels=[-1, 0, 2]"])
def test_stated_bits_are_kept_whatever_levels_the_others_may_get(stated):
    wide = ("widths=[2 wide, 2 odd, 4]", "budget=4bits", f"layers.fc.weights.{stated}")
    plan, options = met("residual", *wide)
    asked = make_plan(captured("residual"), load_recipe("w2", [*FAST, *wide]))
    assert plan.layers[-1] == asked.layers[-1] and plan.layers[-1].name == "fc"
    assert len([option for option in options if option.layer == "fc"]) == 1


def test_layers_that_share_a_weight_share_its_width():
    plan, options = met("shared", "budget=4.6bits")
    first, again, head = plan.layers
    assert first.spec == again.spec is not None and again.reason.startswith(
        f"shares the weight of {first.name}; alloc"
    )
    assert {option.layer for option in options} == {first.name, head.name}


def test_bit_operations_are_counted_by_hand():
    """Two calls of 4 x 4 x 3 x 3 kernels on 6 x 6 values, a head of 3 x 4; values of 8 bits (the
    input) and 4 bits.
    """
    settings = ("activations.bits=4", "budget=1bops", "widths=[4]")
    bops = 4 * (4 * 4 * 9 * 36 * (8 + 4) + 3 * 4 * 4)  # weights of 4 bits
    with pytest.raises(RecipeError, match=f"at least {bops:,} bops"):
        met("shared", *settings)


def test_widths_may_be_level_sets():
    _, options = met("residual", "budget=3bits", "widths=[2 odd, 2 wide, 3]")
    assert {option.width for option in options} == {"2", "2.32", "3"}
    plan, _ = met("residual", "budget=3.4bits", "widths=[2 odd, 3 wide]")
    assert {layer.spec.label for layer in plan.layers} == {"2", "3.17"}


def test_a_budget_below_the_least_says_the_least():
    with pytest.raises(
        RecipeError, match=r"budget 1bits: the layers need at least ([0-9.]+)bits"
    ) as caught:
        met("residual", "budget=1bits")
    least = float(str(caught.value).split("at least ")[1].split("bits")[0])
    _, options = met("residual", f"budget={least + 0.001}bits")
    assert {option.width for option in chosen(options).values()} == {"ternary"}


def test_recipes_say_what_is_no_budget():
    with pytest.raises(
        RecipeError, match=r"recipe w2: budget: expected a number above 0 and a unit, .*'2\.5'"
    ):
        load_recipe("w2", ["budget='2.5'"])
    with pytest.raises(RecipeError, match="widths"):
        load_recipe("w2", ["widths=[]"])
    with pytest.raises(RecipeError, match=r"widths.0: .*'2 tall'"):
        load_recipe("w2", ["widths=[2 tall]"])
    with pytest.raises(RecipeError, match="got '5'"):
        load_recipe("w2", ["budget=5"])
    with pytest.raises(RecipeError, match="width ternary of the candidates"):
        met("residual", "budget=3bits", "layers.fc.weights.levels=odd")


@pytest.mark.parametrize(
    ("recipe", "setting"),
    [
        ("gpfq", "name=wide"),
        ("ldnq", "name=powers"),
        ("w4", "weights.narrow=true"),
        ("w4", "weights.levels=apot"),
    ],
)
def test_a_width_takes_the_place_of_bits_and_levels(recipe, setting):
    plan, _ = met(
        "residual", "budget=6bits", "widths=[ternary, 2 odd, 3 wide, 6]", setting, recipe=recipe
    )
    assert "6" in {layer.spec.label for layer in plan.layers}


def test_quantize_meets_a_budget():
    model, x = build("waves"), images("waves")
    quantized = quantize(model, x, load_recipe("w4", [*FAST, "budget=4bits"]))
    assert quantized.bits_per_weight <= 4
    assert {layer.wanted for layer in quantized.plan.layers} == {"budget 4bits"}
    assert len(quantized.plan.layers) == len(prepare(model, x[:2]).layers)


CHANNELS = ("budget_for=channels", "widths=[ternary, 2, 2 wide, 4, 8]")


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("residual", 0.1),
        ("mobile", 0.5),
        pytest.param("residual", 0.5, marks=pytest.mark.slow),
        pytest.param("mobile", 0.1, marks=pytest.mark.slow),
    ],
)
def test_channels_get_levels_of_their_own_within_the_budget(name, share, tmp_path):
    network, x = captured(name), images(name)
    uniform = {
        width: assemble(network, plan, walk(network, plan, x, limits=EVERY_ROW)).bits_per_weight
        for width in ("ternary", 4)
        for plan in [
            make_plan(
                network,
                load_recipe("w2", [*FAST, f"weights.bits={width}", "weights.symmetric=true"]),
            )
        ]
    }
    bits = uniform["ternary"] + share * (uniform[4] - uniform["ternary"]) + 1
    plan, options = met(name, *CHANNELS, f"budget={bits}bits")
    quantized = assemble(network, plan, walk(network, plan, x, limits=EVERY_ROW))
    assert bits - 0.3 < quantized.bits_per_weight <= bits
    for layer in plan.layers:
        counts = layer.spec.alphabet.counts
        assert set(counts) <= {3, 4, 5, 16, 127} and len(counts) == layer.rows
        assert quantized.weights[layer.name].grid.own[:, 0].tolist() == list(counts)
        mine = {option.width: option.rows for option in options if option.layer == layer.name}
        assert sum(mine.values()) == layer.rows and mine["ternary"] == counts.count(3)
    assert any(len(set(layer.spec.alphabet.counts)) > 1 for layer in plan.layers)
    assert Plan.from_dict(plan.to_dict()) == plan
    subbyte.save(quantized, tmp_path / "packed.safetensors")
    again = subbyte.load(tmp_path / "packed.safetensors", build(name))
    assert (
        torch.equal(again(x), quantized(x)) and again.bits_per_weight == quantized.bits_per_weight
    )


def test_shares_of_channels_add_up_and_follow_their_slopes():
    """Against one channel quantized alone: its error times its squared slope tells what the output
    loses.
    """
    network, x = captured("residual"), images("residual")
    plans = [make_plan(network, load_recipe("w2", [*FAST, f"weights.bits={b}"])) for b in (4, 8)]
    candidates = {
        layer.name: [plan.layers[k] for plan in plans] for k, layer in enumerate(network.layers)
    }
    answer = survey(
        network, plans[0], Question.of(candidates, plans[0], rows=True), x, EVERY_ROW, None
    )
    for name, options in answer.options.items():
        torch.testing.assert_close(
            answer.losses[name].sum(1),
            torch.tensor([o.divergence for o in options], dtype=torch.float64),
        )
    layer = network.layer("b2.conv2")
    weight = tensor_at(network.graph_module, layer.weight).detach()
    expected = network.graph_module(x).detach()
    alone = []
    generator = torch.Generator().manual_seed(3)
    noise = 1e-3 * torch.randn(weight.shape, generator=generator)
    stats = {}
    for row in range(len(weight)):
        changed = weight.clone()
        changed[row] += noise[row]
        z = functional_call(network.graph_module, {layer.weight: changed}, (x,))
        alone.append(float((z - expected).detach().double().square().sum()))
    slopes = squared_slopes(network, x)["b2.conv2"]
    walk(network, replace_rounding(plans[0], stats), x, limits=EVERY_ROW)
    errors = stats["b2.conv2"].output_error(
        layer.geometry.to_matrix(weight), layer.geometry.to_matrix(weight + noise)
    )
    number = [layer.name for layer in network.layers].index("b2.conv2")
    for k, plan in enumerate(plans):
        matrix, bias = layer.geometry.to_matrix(weight), tensor_at(network.graph_module, layer.bias)
        rounded, _ = round_layer(plan.layers[number], matrix, bias, stats["b2.conv2"])
        shares = slopes * stats["b2.conv2"].output_error(matrix, rounded.dequantize())
        wanted = answer.options["b2.conv2"][k].divergence * shares / shares.sum()
        torch.testing.assert_close(answer.losses["b2.conv2"][k], wanted)
    both = torch.stack([slopes * errors, torch.tensor(alone, dtype=torch.float64)])
    both = both[:, (both > 0).all(0)].log()
    assert both.shape[1] > 8 and float(torch.corrcoef(both)[0, 1]) > 0.7


def squared_slopes(network, x):
    instrumented = instrument(network, [])
    return surveying._squared_slopes(network, instrumented, Limits(16).share(Samples.of(x)), "cpu")


@dataclass(frozen=True)
class Noting(Rounding):
    """Nearest rounding that notes the statistics it is given."""

    name: str
    seen: dict[str, LayerStats] = field(compare=False)

    def round(self, weight, fit, stats):
        self.seen[self.name] = stats.of_float()
        return QTensor.nearest(weight, fit(weight))


def replace_rounding(plan, seen):
    return replace(
        plan, layers=tuple(replace(p, rounding=Noting(p.name, seen)) for p in plan.layers)
    )


class Sign(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(40, 30), nn.Linear(30, 5)

    def forward(self, x):
        return self.b(torch.sign(self.a(x)))


def test_where_no_gradient_tells_the_error_does():
    torch.manual_seed(0)
    model, x = Sign(), torch.randn(60, 40)
    expected = model(x).detach()
    lost = {}
    for whose in ("layers", "channels"):
        recipe = load_recipe(
            "w2", ["budget=7bits", f"budget_for={whose}", "weights.rounding=nearest"]
        )
        quantized = quantize(model, x, recipe)
        lost[whose] = float((quantized(x) - expected).square().mean() / expected.square().mean())
        assert quantized.bits_per_weight <= 7
    assert lost["channels"] < 2 * lost["layers"] < 0.4


@pytest.mark.parametrize("widths", ["[2, 2 odd]", "[7, 8]", "[4]"])
def test_widths_of_one_number_of_levels_leave_channels_no_choice(widths):
    plan, _ = met("residual", f"widths={widths}", "budget_for=channels", "budget=14bits")
    first = make_plan(captured("residual"), load_recipe("w2", [f"weights.bits={widths[1]}", *FAST]))
    assert [layer.spec for layer in plan.layers] == [layer.spec for layer in first.layers]


def test_the_least_budget_that_channels_need_is_enough():
    with pytest.raises(RecipeError, match="need at least") as caught:
        met("residual", *CHANNELS, "budget=100B")
    least = int(str(caught.value).split("at least ")[1].split(" bytes")[0].replace(",", ""))
    plan, _ = met("residual", *CHANNELS, f"budget={least}B")
    assert all(set(layer.spec.alphabet.counts) == {3} for layer in plan.layers)
    with pytest.raises(RecipeError, match="need at least"):
        met("residual", *CHANNELS, f"budget={least - 1}B")


def test_layers_with_bits_of_their_own_keep_them_beside_channels():
    plan, options = met("shared", *CHANNELS, "budget=6bits", "layers.head.weights.bits=3")
    found = {layer.name: layer for layer in plan.layers}
    assert found["head"].spec == GridSpec(Uniform(3, symmetric=False), PerChannel())
    inner = [layer for name, layer in found.items() if name.startswith("inner")]
    assert len(inner) == 2 and inner[0].spec == inner[1].spec
    assert [o.rows for o in options if o.layer == "head"] == [found["head"].rows]


def test_channels_under_bit_operations():
    network, x = captured("residual"), images("residual")
    plan, options = met("residual", *CHANNELS, "budget=40Mbops")
    amount = 0.0
    for layer in plan.layers:
        wide = next(o for o in options if (o.layer, o.width) == (layer.name, "6.99"))
        counts = layer.spec.alphabet.counts
        amount += sum(wide.bops / 7 * (n - 1).bit_length() for n in counts) / layer.rows
    assert 38e6 < amount <= 40e6
    quantized = assemble(network, plan, walk(network, plan, x, limits=EVERY_ROW))
    assert quantized(x).shape == network.graph_module(x).shape


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("weights.rounding=kmeans",), "kmeans"),
        (("weights.granularity=tensor",), "a scale a channel"),
        (("weights.granularity=group", "weights.group_size=4"), "a scale a channel"),
        (("weights.allocate=optimum", "widths=[2, 4]"), "no `allocate`"),
        (("budget=1bits",), "need at least"),
    ],
)
def test_what_channels_can_not_do_is_said(settings, message):
    with pytest.raises(RecipeError, match=message):
        met("residual", *CHANNELS, "budget=6bits", *settings)
