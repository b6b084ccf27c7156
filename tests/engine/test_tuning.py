"""Tuning along with the walk: what learns, what stays, and that the result is a quantized network
like any other.
"""

from dataclasses import dataclass, field, replace
from functools import cache

import pytest
import torch
from torch import nn

import subbyte
from subbyte.core import QTensor
from subbyte.engine.limits import Limits
from subbyte.engine.walk import WalkResult, walk
from subbyte.errors import DataError, RecipeError
from subbyte.exporters.packed import save
from subbyte.graph import Memory, Pair, Rest, Samples, Travel, instrument, tensor_at
from subbyte.methods import FitGrid, Rounding
from subbyte.recipe import make_plan
from subbyte.rounding import Nearest
from subbyte.stats import LayerStats
from subbyte.tasks import Segmentation
from tests.networks import build, captured, images, quantized, signal_to_noise, walked

torch.set_num_threads(1)
CASCADE = "tune={name: cascade, epochs: 3, rate: 0.01}"
# nothing that makes up for earlier layers
PLAIN = ("weights.rounding=nearest", "weights.correction=none")
NETWORKS = ["residual", "mobile", "decoder", "shared"]


def distance(result: WalkResult) -> float:
    assert result.logits is not None
    return float((result.logits[0] - result.logits[1]).square().mean())


@cache
def cascade(name: str) -> WalkResult:
    return walked(name, "ternary", *PLAIN, CASCADE)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_cascade_brings_the_logits_nearer_than_rounding_alone(name):
    assert distance(cascade(name)) < distance(walked(name, "ternary", *PLAIN))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_float_network_is_left_alone_and_the_walk_can_be_repeated(name):
    before = {key: value.clone() for key, value in captured(name).graph_module.state_dict().items()}
    first, again = cascade(name), walked.__wrapped__(name, "ternary", *PLAIN, CASCADE)
    assert all(
        torch.equal(captured(name).graph_module.state_dict()[key], value)
        for key, value in before.items()
    )
    for layer, weight in first.weights.items():
        assert torch.equal(weight.codes, again.weights[layer].codes)
        assert torch.equal(weight.grid.scale, again.weights[layer].grid.scale)
        assert torch.equal(first.biases[layer], again.biases[layer])


@pytest.mark.parametrize(
    "settings", [(CASCADE,), ("tune={name: cascade, epochs: 1, retrain: logits}",)]
)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_result_computes_what_the_walk_saw(name, settings):
    result, model = walked(name, "ternary", *settings), quantized(name, "ternary", *settings)
    assert result.logits is not None
    torch.testing.assert_close(model(images(name)), result.logits[1], rtol=1e-4, atol=1e-5)


def test_activations_are_quantized_behind_what_has_learned():
    plain, tuned = walked("residual", "w4a4"), walked("residual", "w4a4", CASCADE)
    assert plain.grids.keys() == tuned.grids.keys()
    assert distance(tuned) < 1.5 * distance(plain)


def test_the_end_brings_the_logits_nearer_still():
    retrained = "tune={name: cascade, epochs: 0, retrain: logits}"
    plain, end = walked("residual", "ternary"), walked("residual", "ternary", retrained)
    assert distance(end) < distance(plain)
    assert all(
        torch.equal(plain.weights[name].codes, end.weights[name].codes) for name in plain.weights
    )
    assert any(
        not torch.equal(plain.weights[n].grid.scale, end.weights[n].grid.scale)
        for n in plain.weights
    )


def test_labels_are_read_only_when_asked_for(tmp_path):
    model, inputs = build("shared"), images("shared")
    recipe = subbyte.load_recipe(
        "ternary", ["tune={name: cascade, epochs: 1, retrain: labels, retrain_epochs: 3}"]
    )
    labels = torch.arange(len(inputs)) % 2
    with pytest.raises(RecipeError, match="labels"):
        subbyte.quantize(model, inputs, recipe)
    one, other = (
        subbyte.quantize(model, inputs, recipe, labels=given) for given in (labels, 1 - labels)
    )
    assert not torch.equal(one(inputs), other(inputs))
    save(one, tmp_path / "net.safetensors")
    assert torch.equal(
        subbyte.load(tmp_path / "net.safetensors", build("shared"))(inputs), one(inputs)
    )
    plain = subbyte.load_recipe("ternary")
    assert torch.equal(
        subbyte.quantize(model, inputs, plain, labels=labels)(inputs),
        subbyte.quantize(model, inputs, plain)(inputs),
    )


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        (torch.zeros(7, dtype=torch.int64), "one for each"),
        (torch.zeros(40), "int64"),
        (torch.full((40,), 1000), "logits"),
        (torch.full((40,), -1), "logits"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, word):
    recipe = subbyte.load_recipe("ternary", ["tune={name: cascade, epochs: 0, retrain: labels}"])
    with pytest.raises(DataError, match=word):
        subbyte.quantize(build("residual"), images("residual"), recipe, labels=labels)


def test_the_end_learns_by_the_loss_of_the_task():
    """Maps with pixels that don't count, which cross-entropy alone would refuse."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    inputs = torch.randn(32, 3, 6, 6)
    shift = torch.tensor([1.0, 0, 0, -1])[:, None, None]  # what biases may learn
    maps = (model(inputs) + shift).argmax(1)
    maps[:, :2] = 255
    recipe = ["tune={name: cascade, epochs: 0, retrain: labels, retrain_epochs: 40, rate: 0.1}"]
    asked = [subbyte.load_recipe("w2", settings) for settings in (recipe, [])]
    given = {"labels": maps, "task": Segmentation()}
    tuned, plain = (subbyte.quantize(model, inputs, one, **given) for one in asked)
    losses = [float(Segmentation().loss((net(inputs),), (maps,))) for net in (tuned, plain)]
    assert losses[0] < 0.97 * losses[1]
    with pytest.raises(DataError, match=r"must be \[n, 6, 6\]"):
        subbyte.quantize(model, inputs, asked[0], labels=maps[:, :5], task=Segmentation())


def test_signal_to_noise_is_that_of_the_final_network():
    result = walked("residual", "w4a4", "tune={name: cascade, epochs: 1, retrain: logits}")
    assert result.logits is not None
    last = captured("residual").layers[-1].name
    # the logits have passed their 8-bit quantizer, the layer's output has not
    assert result.sqnr_db[last] == pytest.approx(signal_to_noise(*result.logits), abs=0.05)


@dataclass(frozen=True)
class Spy(Rounding):
    """Nearest rounding that notes the weights and statistics it is given."""

    seen: list[tuple[torch.Tensor, LayerStats]] = field(default_factory=list)

    def round(self, weight: torch.Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        self.seen.append((weight, stats))
        return Nearest().round(weight, fit, stats)


@pytest.mark.parametrize("learns", [True, False])
def test_weights_that_have_learned_are_rounded_for_the_inputs_they_learned_on(learns):
    network = captured("residual")
    plan = make_plan(network, subbyte.load_recipe("ternary", [CASCADE] if learns else []))
    spy = Spy()
    layers = tuple(replace(layer, rounding=spy) for layer in plan.layers)
    walk(network, replace(plan, layers=layers), images("residual"))
    learned = []
    for (weight, stats), layer in list(zip(spy.seen, network.layers, strict=True))[1:]:
        own = layer.geometry.to_matrix(tensor_at(network.graph_module, layer.weight))
        learned.append(not torch.equal(weight, own))
        assert torch.equal(stats.G, stats.H) == learned[-1]
    assert any(learned) == learns


class Looking(Travel):
    """Compares at every layer and tap what lies ahead, as one function, with the network's
    output.
    """

    outputs: list[torch.Tensor]

    def look(self, name: str, pair: Pair) -> None:
        rest = self.rest()
        assert isinstance(rest, Rest)
        self.outputs.append(torch.cat([rest(k, {}) for k in range(len(pair.quantized))]))


@pytest.mark.parametrize("name", [*NETWORKS, "functional", "tokens"])
def test_what_lies_ahead_gives_the_output_from_every_layer(name):
    network, inputs = captured(name), images(name)
    instrumented = instrument(network, [])
    travel = Looking(
        instrumented,
        Memory(2**30),
        "cpu",
        at_layer=lambda layer, pair: travel.look(layer, pair),
        at_tap=lambda tap, pair: pair.quantized,
        after=lambda where, pair: None,
    )
    travel.outputs = []
    travel.run(Samples.of(inputs).split(16))
    assert len(travel.outputs) == len(network.layers)
    for output in travel.outputs:
        torch.testing.assert_close(output, network.graph_module(inputs), rtol=1e-4, atol=1e-5)


def test_what_lies_ahead_has_gradients_and_takes_what_it_is_given():
    network, inputs = captured("residual"), images("residual")
    slopes: list[float] = []

    def at_layer(name: str, pair: Pair) -> None:
        layer = network.layer(name)
        rest = travel.rest()
        with torch.enable_grad():
            weight = rest.tensor(layer.weight).clone().requires_grad_()
            rest(0, {layer.weight: weight}).square().sum().backward()
        assert weight.grad is not None
        slopes.append(float(weight.grad.abs().sum()))
        assert not torch.equal(rest(0, {layer.weight: 0 * weight}), rest(0, {}))

    travel = Travel(
        instrument(network, []),
        Memory(2**30),
        "cpu",
        at_layer=at_layer,
        at_tap=lambda tap, pair: pair.quantized,
        after=lambda where, pair: None,
    )
    travel.run([Samples.of(inputs)])
    assert len(slopes) == len(network.layers) and min(slopes) > 0


def test_batches_do_not_depend_on_chunks_and_threads_are_in_the_plan():
    """They are settings of the method."""
    recipe = subbyte.load_recipe("ternary", ["tune={name: cascade, epochs: 1, batch: 16}"])
    few, many = (
        subbyte.quantize(build("residual"), images("residual"), recipe, limits=Limits(chunk=chunk))
        for chunk in (16, 64)
    )
    assert all(torch.equal(w.codes, many.weights[n].codes) for n, w in few.weights.items())
    assert few.plan.tune is not None and few.plan.tune.learns_with == torch.get_num_threads()
