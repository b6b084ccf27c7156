"""The walk: statistics of the quantized-so-far network, one pass, bounded memory, the same result
however it is run.
"""

import tempfile
import warnings
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

import subbyte
import subbyte.engine.walk as walking
import subbyte.recipe.resolve as resolving
from subbyte.core import QTensor
from subbyte.engine import layers
from subbyte.engine.limits import Limits, enough_memory
from subbyte.engine.quantization import assemble
from subbyte.engine.walk import WalkResult, walk
from subbyte.errors import NumericsError, ResourceError
from subbyte.exporters.packed import save
from subbyte.graph import Network, prepare, set_tensor
from subbyte.graph.instrument import copied
from subbyte.methods import FitGrid, Rounding
from subbyte.recipe import Plan, make_plan
from subbyte.rounding import Gptq, Nearest
from subbyte.stats import LayerStats, PowerCollector
from tests.networks import EVERY_ROW, Chain, build, captured, images, signal_to_noise, walked
from tests.reference import networks as odd
from tests.reference.operations import patch_matrix

torch.set_num_threads(1)
NETWORKS = ["residual", "mobile", "decoder", "shared", "functional"]


@dataclass(frozen=True)
class Spy(Rounding):
    """Nearest rounding that notes the statistics it is given."""

    seen: list[LayerStats] = field(default_factory=list)

    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        self.seen.append(stats)
        return Nearest().round(weight, fit, stats)


class Recorder(fx.Interpreter):
    """Runs a graph and keeps every value."""

    def run_node(self, n: fx.Node) -> Any:
        self.kept = getattr(self, "kept", {})
        self.kept[n] = super().run_node(n)
        return self.kept[n]


class Calls(TorchDispatchMode):
    """Counts what torch executes."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count[str(func)] += 1
        return func(*args, **(kwargs or {}))


def prepared(name: str, recipe: str, *settings: str) -> tuple[Network, Plan, Tensor]:
    """A network that others use too, a plan, and images of one's own."""
    return (
        captured(name),
        make_plan(captured(name), subbyte.load_recipe(recipe, list(settings))),
        images(name),
    )


def spied(plan: Plan, spy: "Spy") -> Plan:
    return replace(plan, layers=tuple(replace(layer, rounding=spy) for layer in plan.layers))


@torch.no_grad()
def frozen_values(network: Network, result: WalkResult, x: Tensor) -> dict[str, Any]:
    """Every value of the network as the walk left it, on all images at once."""
    graph_module = copied(result.instrumented.graph_module)
    for layer in network.layers:
        if layer.name in result.weights:
            set_tensor(
                graph_module,
                layer.weight,
                layer.geometry.to_weight(result.weights[layer.name].dequantize()),
            )
            set_tensor(graph_module, layer.bias, result.biases[layer.name])
    recorder = Recorder(graph_module)
    recorder.run(x)
    return {node.name: value for node, value in recorder.kept.items()}


@torch.no_grad()
def float_values(network: Network, x: Tensor) -> dict[str, Any]:
    recorder = Recorder(network.graph_module)
    recorder.run(x)
    return {node.name: value for node, value in recorder.kept.items()}


def same_weights(a: WalkResult, b: WalkResult) -> bool:
    """Whether two walks decided on exactly the same numbers."""
    return (
        list(a.weights) == list(b.weights)
        and all(torch.equal(a.weights[n].codes, b.weights[n].codes) for n in a.weights)
        and all(torch.equal(a.weights[n].grid.scale, b.weights[n].grid.scale) for n in a.weights)
        and all(torch.equal(a.biases[n], b.biases[n]) for n in a.weights)
        and all(torch.equal(a.grids[n].scale, b.grids[n].scale) for n in a.grids)
        and all(torch.equal(a.logits[k], b.logits[k]) for k in (0, 1))
    )


@pytest.mark.parametrize(
    ("name", "recipe"),
    [("residual", "w4a4"), ("mobile", "w4a4"), *((name, "w3") for name in NETWORKS)],
)
def test_statistics_are_those_of_the_network_quantized_so_far(name, recipe):
    network, plan, x = prepared(name, recipe)
    spy = Spy()
    result = walk(network, spied(plan, spy), x, limits=Limits(chunk=7, rows=0))
    float_at, frozen_at = float_values(network, x), frozen_values(network, result, x)
    owners = network.owners
    assert len(spy.seen) == len(owners)
    for layer, stats in zip(owners, spy.seen, strict=True):
        rows = patch_matrix(float_at[layer.input.name], layer.geometry)
        source = result.instrumented.layers[layer.name].args[0]
        rows_q = patch_matrix(frozen_at[source.name], layer.geometry)
        m = rows.shape[1]
        assert stats.rows == m
        scale = float((rows_q.mT @ rows_q / m).abs().max())
        for got, expected in (
            (stats.H, rows_q.mT @ rows_q / m),
            (stats.G, rows_q.mT @ rows / m),
            (stats.F, rows.mT @ rows / m),
            (stats.mean, rows.mean(1)),
            (stats.mean_q, rows_q.mean(1)),
        ):
            assert torch.allclose(got, expected, rtol=1e-4, atol=1e-5 * max(1.0, scale)), layer.name


def test_statistics_differ_between_the_travellers_behind_the_first_layer():
    network, plan, x = prepared("residual", "w2")
    spy = Spy()
    walk(network, spied(plan, spy), x)
    assert torch.equal(spy.seen[0].H, spy.seen[0].F)
    for stats in spy.seen[1:]:
        assert float((stats.H - stats.F).abs().max() / stats.F.abs().max()) > 1e-3


@pytest.mark.parametrize("name", NETWORKS)
def test_tap_ranges_are_those_of_the_quantized_traveller(name):
    network, plan, x = prepared(
        name, "w3", "activations.bits=4", *(f"{t}.range=minmax" for t in ("activations", "others"))
    )
    result = walk(network, plan, x, limits=Limits(chunk=7, rows=0))
    frozen = frozen_values(network, result, x)
    for tap in plan.taps[1:]:
        source = result.instrumented.taps[tap.name].args[0]
        low, high = (
            min(0.0, float(frozen[source.name].min())),
            max(0.0, float(frozen[source.name].max())),
        )
        step = (high - low) / (tap.spec.alphabet.count - 1)
        assert float(result.grids[tap.name].scale) == pytest.approx(step, rel=1e-4), tap.name


@pytest.mark.parametrize("correction", ["bias", "moments"])
def test_corrected_layers_keep_the_moments_of_the_float_layers(correction):
    """What a correction promises for one layer holds for every layer of the walked network."""
    network, plan, x = prepared("residual", "w3", f"weights.correction={correction}")
    result = walk(network, plan, x, limits=EVERY_ROW)
    float_at, frozen_at = float_values(network, x), frozen_values(network, result, x)
    for layer in network.layers:
        ours, theirs = (
            frozen_at[result.instrumented.layers[layer.name].name],
            float_at[layer.node.name],
        )
        ours, theirs = (v.movedim(1, -1).reshape(-1, v.shape[1]).double() for v in (ours, theirs))
        assert torch.allclose(ours.mean(0), theirs.mean(0), atol=1e-3 * float(theirs.std())), (
            layer.name
        )
        if correction == "moments":
            assert torch.allclose(ours.std(0), theirs.std(0), rtol=1e-3), layer.name


@pytest.mark.parametrize("name, recipe", [("residual", "w4a4"), ("mobile", "w3")])
def test_chunks_do_not_matter(name, recipe):
    """Not for a bit of what the walk decides and measures; the last unit is one image."""
    network, x = captured(name), images(name, 49)
    plan = make_plan(network, subbyte.load_recipe(recipe))
    one, *others = (walk(network, plan, x, limits=Limits(chunk=n)) for n in (64, 7, 33))
    for other in others:
        assert same_weights(one, other)
        assert other.sqnr_db == one.sqnr_db
        assert torch.equal(other.logits[1], one.logits[1])


@pytest.mark.parametrize("name", ["residual", "mobile", "shared"])
def test_without_memory_everything_is_paged_and_nothing_changes(name, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    roomy, none = (walked(name, "w4a4", limits=Limits(8, memory, 0)) for memory in (2**39, 0))
    assert roomy.spilled_bytes == 0 and none.spilled_bytes > images(name).numel() * 4
    assert same_weights(roomy, none)
    assert not list(tmp_path.glob("subbyte-*"))  # torch makes a folder of its own


@pytest.mark.parametrize("limit", [0, 100_000, 500_000, 10**9])
@pytest.mark.parametrize("recipe", ["w3", "w4a4"])
def test_memory_stays_in_its_bound_and_is_all_given_back(recipe, limit, monkeypatch):
    made = []

    class Watched(walking.Memory):
        highest = 0

        def __init__(self, limit, on_device):
            super().__init__(limit, on_device=on_device)
            made.append(self)

        def admit(self, value):
            admitted = super().admit(value)
            self.highest = max(self.highest, self.used)
            return admitted

    monkeypatch.setattr(walking, "Memory", Watched)
    network, plan, x = prepared("residual", recipe, "weights.rounding=nearest")
    walk(network, plan, x, limits=Limits(chunk=8, memory=limit))
    (memory,) = made
    assert 0 < memory.highest <= limit or limit == 0 == memory.highest
    assert memory.used == 0


def test_files_vanish_when_the_walk_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    network, plan, x = prepared("residual", "w4")
    x[-1] = torch.nan
    with pytest.raises(NumericsError):
        walk(network, plan, x, limits=Limits(chunk=8, memory=0))
    assert list(tmp_path.iterdir()) == []


def test_the_same_walk_gives_the_same_bytes(tmp_path):
    for number in range(2):
        network, plan, x = prepared("mobile", "w4a4", "weights.rounding=gpfq")
        save(assemble(network, plan, walk(network, plan, x)), tmp_path / f"{number}.safetensors")
    assert (tmp_path / "0.safetensors").read_bytes() == (tmp_path / "1.safetensors").read_bytes()


@pytest.mark.parametrize("recipe", ["w8a8", pytest.param("w4", marks=pytest.mark.slow)])
def test_every_layer_runs_once_a_chunk_and_traveller_whatever_the_depth(recipe):
    chunks, x = 3, torch.randn(48, 4, 6, 6)
    for depth in (2, 6):
        network = prepare(Chain(depth), x[:2])
        plan = make_plan(network, subbyte.load_recipe(recipe))
        with Calls() as calls:
            walk(network, plan, x, limits=Limits(chunk=16))
        assert calls.count["aten.convolution.default"] == 2 * chunks * depth
        assert calls.count["aten.relu.default"] == 2 * chunks * depth


def test_travellers_walk_together_until_something_is_rounded():
    """Before the first quantized layer nothing is computed twice."""
    x = torch.randn(48, 4, 6, 6)
    network = prepare(Chain(4), x[:2])
    plan = make_plan(network, subbyte.load_recipe("w4", ['layers={"convs.[01]": {skip: true}}']))
    with Calls() as calls:
        walk(network, plan, x, limits=Limits(chunk=16))
    assert calls.count["aten.convolution.default"] == 3 * (2 + 2 * 2)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_float_traveller_is_the_users_network(name):
    result, x = walked(name, "w2"), images(name)
    assert torch.allclose(result.logits[0], build(name)(x), atol=1e-4)
    assert float((result.logits[1] - result.logits[0]).abs().max()) > 1e-2


@pytest.mark.parametrize("recipe", ["w3"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_quantized_traveller_is_the_quantized_model(name, recipe):
    network, plan, x = prepared(name, recipe)
    result = walk(network, plan, x)
    model = assemble(network, plan, result)
    assert torch.allclose(result.logits[1], model(x), atol=1e-4)
    assert model.findings.agreement == pytest.approx(
        100 * float((build(name)(x).argmax(1) == model(x).argmax(1)).double().mean())
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_with_taps_the_quantized_traveller_is_the_model_but_for_rounded_biases(name):
    network, plan, x = prepared(name, "w8a8")
    result = walked(name, "w8a8")
    difference = (result.logits[1] - assemble(network, plan, result)(x)).abs()
    step = float(result.grids[plan.taps[-1].name].scale)
    assert float(difference.max()) < 4.5 * step
    assert float((difference > 0.5 * step).double().mean()) < 0.2


@pytest.mark.parametrize("name", ["residual", "mobile", "tokens", "functional"])
def test_noise_is_measured_against_the_float_network(name):
    network, plan, x = prepared(name, "w4a8")
    result = walk(network, plan, x, limits=Limits(chunk=7))
    float_at, frozen_at = float_values(network, x), frozen_values(network, result, x)
    assert set(result.sqnr_db) == {layer.name for layer in plan.layers} | {
        tap.name for tap in plan.taps
    }
    for layer in network.layers:
        expected = signal_to_noise(
            float_at[layer.node.name], frozen_at[result.instrumented.layers[layer.name].name]
        )
        assert result.sqnr_db[layer.name] == pytest.approx(expected, abs=0.1), layer.name
    for tap in plan.taps:
        expected = signal_to_noise(
            float_at[tap.place.node], frozen_at[result.instrumented.taps[tap.name].name]
        )
        assert result.sqnr_db[tap.name] == pytest.approx(expected, abs=0.1), tap.name


def test_eight_bits_are_close_and_fewer_are_less_so():
    expected = build("residual")(images("residual"))
    for recipes in (("w8a8", "w4a8", "w4a4"), ("w4", "w3", "w2")):
        noises = [
            signal_to_noise(expected, walked("residual", recipe).logits[1]) for recipe in recipes
        ]
        assert noises[0] > (25 if recipes[0] == "w8a8" else 20)
        assert noises == sorted(noises, reverse=True) and noises[0] > noises[-1] + 6


def test_shared_weights_are_quantized_once():
    network, plan, x = prepared("shared", "w3")
    spy = Spy()
    result = walk(network, spied(plan, spy), x)
    assert [layer.name for layer in network.layers] == ["inner", "inner#2", "head"]
    assert list(result.weights) == ["inner", "head"] and len(spy.seen) == 2
    model = assemble(network, plan, result)
    reads = [
        node.args[1] for node in model.graph_module.graph.nodes if "conv2d" in str(node.target)
    ]
    assert len(reads) == 2 and reads[0].target == reads[1].target
    assert torch.allclose(model(x), result.logits[1], atol=1e-4)


def test_skipped_layers_stay_float():
    network, plan, x = prepared("residual", "w4a4", 'layers={"b1.*": {skip: true}}')
    result = walk(network, plan, x)
    assert set(result.weights) == {"stem", "b2.conv1", "b2.conv2", "fc"}
    model = assemble(network, plan, result)
    for name in ("b1.conv1", "b1.conv2"):
        expected, got = (
            g.get_submodule(name).weight for g in (network.graph_module, model.graph_module)
        )
        assert torch.equal(expected, got)
        assert model.input_grid(model.layer(name)) is None


def test_float_recipes_change_nothing():
    result = walked("residual", "w4", "weights.bits=null")
    assert result.weights == {} and torch.equal(*result.logits)


@pytest.mark.parametrize("chunk", [8, 64])
@pytest.mark.parametrize(
    ("recipe", "where"), [("w4", "layer 'stem'"), ("w8a8", "activation quantizer 'input'")]
)
def test_nan_in_one_image_is_named(recipe, where, chunk):
    network, plan, x = prepared("residual", recipe)
    x[21, 1, 3, 3] = torch.nan
    with pytest.raises(NumericsError, match=where):
        walk(network, plan, x, limits=Limits(chunk=chunk))


@pytest.mark.parametrize("recipe", ["w4", "w8a8"])
def test_nan_in_the_first_image_is_told_as_such(recipe):
    x = images("residual")
    x[0] = torch.nan
    with pytest.raises(NumericsError, match="NaN"):
        subbyte.quantize(build("residual"), x, recipe)


@pytest.mark.parametrize("value", [torch.inf, -torch.inf])
def test_inf_in_one_image_is_named(value):
    network, plan, x = prepared("residual", "w4")
    x[21, 1, 3, 3] = value
    with pytest.raises(NumericsError, match="layer 'stem'"):
        walk(network, plan, x)


@pytest.mark.parametrize(("recipe", "where"), [("w4", "layer 'b1.conv2'"), ("w8a8", "'b1.conv2")])
def test_overflow_in_the_middle_is_named(recipe, where):
    model = build("residual")
    model.b1.conv2.weight.data.fill_(1e30)
    model.b1.bn2.running_var.fill_(1e-30)
    x = images("residual")
    network = prepare(model, x[:2])
    with pytest.raises(NumericsError, match=where):
        walk(network, make_plan(network, subbyte.load_recipe(recipe)), x)


def test_nan_weights_in_the_middle_are_named():
    model = build("residual")
    model.b2.conv1.weight.data[3, 1] = torch.nan
    with pytest.raises(NumericsError, match=r"b2\.conv1\.weight"):
        subbyte.quantize(model, images("residual"))


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, self.dense(x), x)


@pytest.mark.parametrize("kind", ["residual", "attending"])
def test_progress_counts_all_that_is_measured(kind):
    if kind == "residual":
        network, plan, x = prepared(kind, "w4a4")
    else:
        network = prepare(Attending(), x := torch.randn(8, 5, 6))
        plan = make_plan(network, subbyte.load_recipe("w4a4"))
    calls: list[tuple[int, int, str]] = []
    walk(network, plan, x, progress=lambda *call: calls.append(call))
    measured = {p.name for p in (*network.readers, *plan.taps)}
    total = len(measured)
    assert [done for done, _, _ in calls] == list(range(1, total + 1)) and {
        n for _, n, _ in calls
    } == {total}
    assert {what for _, _, what in calls} == measured


def test_the_network_and_the_images_stay_as_they_are():
    network, plan, x = prepared("mobile", "w2")
    before, copy = {k: v.clone() for k, v in network.graph_module.state_dict().items()}, x.clone()
    walk(network, plan, x)
    after = network.graph_module.state_dict()
    assert list(before) == list(after) and all(torch.equal(before[k], after[k]) for k in before)
    assert torch.equal(x, copy)


@pytest.mark.parametrize("name", ["shuffle", "computed", "split", "clamps", "padded", "views"])
def test_odd_networks_walk_too(name):
    """Values that no calibration image touches, channel shuffles, tuples, clamps, pads that are not
    0.
    """
    model, x = odd.build(name).eval().requires_grad_(False), odd.images(name, 24)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using padding='same'", UserWarning)
        expected = model(x)
        got = subbyte.quantize(model, x, "w8a8")(x)
    assert got.shape == expected.shape and signal_to_noise(expected, got) > 20


def test_rows_limit_the_statistics_and_hardly_change_the_result(monkeypatch):
    monkeypatch.setattr(layers, "_MIN_ROWS", 1)
    network, plan, x = prepared("residual", "w4")
    spies = Spy(), Spy()
    results = [
        walk(network, spied(plan, spy), x, limits=Limits(rows=n))
        for spy, n in zip(spies, (0, 10), strict=True)
    ]
    for layer, full, part in zip(network.layers, spies[0].seen, spies[1].seen, strict=True):
        wanted = min(full.rows, 10 * layer.geometry.columns)
        assert wanted <= part.rows < wanted + len(x)
        assert float((part.H - full.H).norm() / full.H.norm()) < 0.1
    assert spies[1].seen[0].rows < spies[0].seen[0].rows
    assert signal_to_noise(*[result.logits[1] for result in results]) > 15


def test_modules_in_training_mode_are_walked_in_evaluation_mode():
    x = images("residual")
    trained, evaluated = build("residual").train(), build("residual")
    assert torch.equal(
        subbyte.quantize(trained, x, "w4")(x), subbyte.quantize(evaluated, x, "w4")(x)
    )
    assert all(module.training for module in trained.modules()) and isinstance(trained, nn.Module)


def test_a_layer_with_too_many_inputs_gets_nearest_codes_and_says_so(monkeypatch):
    monkeypatch.setattr(resolving, "_MOST_PRODUCTS", 8 * 40**2)
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(50, 20), nn.ReLU(), nn.Linear(20, 3)), torch.randn(64, 50)
    network = prepare(model, x)
    wide, narrow = make_plan(network, subbyte.load_recipe("w4")).layers
    assert (wide.rounding, wide.reads_products, narrow.reads_products) == (Nearest(), False, True)
    told = "no more than nearest codes and the mean: second moments take 0.0 GB a matrix"
    assert (wide.reason, narrow.reason) == (told, "")
    seen = []
    monkeypatch.setattr(PowerCollector, "finish", noting(PowerCollector.finish, seen))
    assert signal_to_noise(model(x).detach(), subbyte.quantize(model, x, "w4")(x)) > 12
    assert [len(stats.mean[0]) for stats in seen] == [50]
    asked = subbyte.load_recipe("w4", ["layers.0.weights.rounding=gptq"])
    assert make_plan(network, asked).layers[0].rounding == Gptq()
    for given in ("weights.rounding=nearest", "weights.rounding=kmeans"):
        planned = make_plan(network, subbyte.load_recipe("w4", [given])).layers[0]
        assert planned.reason == told and not planned.reads_products


def noting(method, seen):
    def noted(self, processes):
        seen.append(method(self, processes))
        return seen[-1]

    return noted


def test_memory_that_runs_out_is_an_error_that_says_what_to_do():
    wanted = "out of memory; give fewer or smaller calibration"
    with pytest.raises(ResourceError, match=wanted), enough_memory():
        torch.empty(10**14)
    with pytest.raises(RuntimeError, match="another"), enough_memory():
        raise RuntimeError("another")
