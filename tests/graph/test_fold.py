"""A layer followed by a batch-norm is one layer; where it can't be, the batch-norm stays and is
listed.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from subbyte.graph import Skipped, capture, fold_batch_norms, give_biases, prepare, set_tensor
from subbyte.graph.instrument import copied
from tests.reference.networks import (
    NAMES,
    Calls,
    build,
    captured,
    images,
    outputs,
    prepared,
    randomize,
)

FOLDED = {
    "sequential": ["0"],
    "residual": ["stem", "b1.conv1", "b1.conv2", "b2.conv1", "b2.conv2"],
    "conv1d": ["0", "3"],
    "conv3d": ["0"],
    "transposed1d": ["0"],
    "transposed2d": ["0", "3"],
    "transposed3d": ["0"],
    "linear norm": ["0", "3"],
}


def norms(graph_module: fx.GraphModule) -> list[fx.Node]:
    return [
        n
        for n in graph_module.graph.nodes
        if n.op == "call_function" and "batch_norm" in str(n.target)
    ]


def relative(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


def fold(model: nn.Module, x: torch.Tensor) -> tuple[fx.GraphModule, list[str], list[Skipped]]:
    """Fold a network's batch-norms and check that its graph computes what it did."""
    return fold_graph(capture(randomize(model), x), model, x)


def fold_graph(
    graph_module: fx.GraphModule, model: nn.Module, x: torch.Tensor
) -> tuple[fx.GraphModule, list[str], list[Skipped]]:
    give_biases(graph_module)
    folded = fold_batch_norms(graph_module)
    graph_module.graph.lint()
    with torch.no_grad():
        for count in (1, len(x)):
            assert relative(graph_module(x[:count]), outputs(model, x[:count])) < 1e-5
    return graph_module, folded.layers, folded.left


@pytest.mark.parametrize("name", FOLDED)
def test_folded_networks_hold_no_batch_norm_and_compute_the_same(name):
    model, graph_module = captured(name)
    assert norms(graph_module), "nothing to fold: the test is void"
    graph_module, folded, left = fold_graph(copied(graph_module), model, images(name, 7))
    assert folded == FOLDED[name] and left == [] and norms(graph_module) == []


@pytest.mark.parametrize("name", NAMES)
def test_prepared_networks_compute_the_same_and_say_how_closely(name):
    network = prepared(name)
    x = images(name, 7, seed=9)
    with torch.no_grad():
        assert relative(network.graph_module(x), outputs(build(name), x)) < 1e-5
    assert network.fold_error < 1e-5
    assert list(network.folded) == FOLDED.get(name, list(network.folded))


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_grouped_layers_fold_with_and_without_bias(kind, groups):
    model = nn.Sequential(
        kind(4, 8, 3, 2, 1, groups=groups, bias=True),
        nn.BatchNorm2d(8, eps=0.3),
        nn.ReLU(),
        kind(8, 4, 3, 1, 1, groups=groups, bias=False),
        nn.BatchNorm2d(4, eps=0.1),
    )
    graph_module, folded, _ = fold(model, torch.randn(3, 4, 5, 6))
    assert folded == ["0", "3"] and norms(graph_module) == []


def test_the_users_weights_are_not_scaled():
    model, graph_module = captured("sequential")
    before = model[0].weight.detach().clone()
    graph_module = copied(graph_module)
    give_biases(graph_module)
    fold_batch_norms(graph_module)
    assert torch.equal(model[0].weight, before)
    assert not torch.equal(graph_module.get_buffer("0.weight"), before)


@pytest.mark.parametrize("affine", [True, False])
def test_a_batch_norm_without_a_layer_on_either_side_stays(affine):
    model = nn.Sequential(
        nn.BatchNorm2d(3, affine=affine),
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(4, affine=affine),
        nn.Sigmoid(),
    )
    graph_module, folded, left = fold(model, torch.randn(3, 3, 6, 6))
    assert folded == [] and len(norms(graph_module)) == 2
    assert [(s.name, s.size) for s in left] == [
        ("0", 12 if affine else 6),
        ("3", 16 if affine else 8),
    ]
    assert "but an input, and 1 pads with zeros" in left[0].reason
    assert "but relu, and sigmoid reads it" in left[1].reason


def test_a_batch_norm_whose_layer_has_another_reader_stays():
    def run(m, x):
        y = m.conv(x)
        return m.bn(y) + y

    graph_module, folded, left = fold(
        Calls(run, conv=nn.Conv2d(3, 3, 1), bn=nn.BatchNorm2d(3)), torch.randn(3, 3, 4, 4)
    )
    assert folded == [] and len(norms(graph_module)) == 1
    assert (
        [s.name for s in left] == ["bn"]
        and "conv" in left[0].reason
        and "elsewhere" in left[0].reason
    )


def test_batch_norms_of_a_shared_layer_stay():
    model = Calls(
        lambda m, x: m.second(m.conv(F.relu(m.first(m.conv(x))))),
        conv=nn.Conv2d(3, 3, 1),
        first=nn.BatchNorm2d(3),
        second=nn.BatchNorm2d(3),
    )
    graph_module, folded, left = fold(model, torch.randn(3, 3, 4, 4))
    assert folded == [] and len(norms(graph_module)) == 2
    assert [s.name for s in left] == ["first", "second"] and all("conv" in s.reason for s in left)


def test_one_batch_norm_may_follow_several_layers():
    model = Calls(
        lambda m, x: m.bn(m.b(F.relu(m.bn(m.a(x))))),
        a=nn.Conv2d(3, 3, 1),
        b=nn.Conv2d(3, 3, 1),
        bn=nn.BatchNorm2d(3),
    )
    graph_module, folded, _ = fold(model, torch.randn(3, 3, 4, 4))
    assert folded == ["a", "b"] and norms(graph_module) == []


def test_a_batch_norm_after_a_computed_weight_is_folded():
    model = Calls(
        lambda m, x: m.bn(m.conv(x)),
        conv=nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 1)),
        bn=nn.BatchNorm2d(4),
    )
    graph_module, folded, left = fold(model, torch.randn(3, 3, 4, 4))
    assert folded == ["conv"] and norms(graph_module) == [] and left == []


@pytest.mark.parametrize("width", [5, 7], ids=["as wide as the axis", "wider"])
def test_a_batch_norm_over_another_axis_than_the_layers_outputs_stays(width):
    model = Calls(lambda m, x: m.bn(m.layer(x)), layer=nn.Linear(6, width), bn=nn.BatchNorm1d(5))
    graph_module, folded, left = fold(model, torch.randn(3, 5, 6))
    assert folded == [] and len(norms(graph_module)) == 1
    assert [s.name for s in left] == ["bn"] and "layer" in left[0].reason


def test_a_bias_that_two_layers_share_is_not_folded_into_both():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.bn, self.b = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)
            self.b.bias = self.a.bias

        def forward(self, x):
            return self.b(F.relu(self.bn(self.a(x))))

    _, folded, left = fold(Model(), torch.randn(3, 3, 4, 4))
    assert len(folded) + len(left) == 1


def test_a_weight_that_something_else_reads_is_not_folded_away():
    model = Calls(
        lambda m, x: m.bn(m.conv(x)) * m.conv.weight.abs().mean(),
        conv=nn.Conv2d(3, 3, 1),
        bn=nn.BatchNorm2d(3),
    )
    _, folded, left = fold(model, torch.randn(3, 3, 4, 4))
    assert len(folded) + len(left) == 1


@pytest.mark.parametrize("stats", [True, False])
def test_batch_norms_of_the_batchs_own_statistics_stay(stats):
    def run(m, x):
        y = m.conv(x)
        return (
            F.batch_norm(y, None, None, m.bn.weight, m.bn.bias, training=True) if stats else m.bn(y)
        )

    model = Calls(run, conv=nn.Conv2d(3, 4, 1), bn=nn.BatchNorm2d(4, track_running_stats=stats))
    graph_module, folded, _ = fold(model, torch.randn(3, 3, 4, 4))
    assert folded == [] and len(norms(graph_module)) == 1
    skipped = [s.name for s in prepare(model, torch.randn(3, 3, 4, 4)).skipped]
    assert skipped and all("bn" in name for name in skipped)


@pytest.mark.parametrize("affine", [True, False])
def test_what_stays_is_listed_once_in_the_network(affine):
    first = nn.BatchNorm2d(3, affine=affine)
    model = nn.Sequential(first, nn.ReLU(), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    network = prepare(model, torch.randn(2, 3, 4, 4))
    assert [s.name for s in network.skipped] == ["0"] and network.folded == ("2",)


@pytest.mark.parametrize("name", ["weight", "inner.weight", "inner.deep.weight"])
def test_set_tensor_replaces_by_dotted_name(name):
    inner = nn.Linear(2, 2)
    inner.add_module("deep", nn.Linear(2, 2))
    root = nn.Linear(2, 2)
    root.add_module("inner", inner)
    graph_module = fx.symbolic_trace(Calls(lambda m, x: m.root(x), root=root).root)
    for part in ("inner", "inner.deep"):
        graph_module.add_submodule(part, root.get_submodule(part))
    value = torch.ones(3, 3)
    set_tensor(graph_module, name, value)
    value.zero_()
    assert torch.equal(graph_module.get_buffer(name), torch.ones(3, 3))
    assert name not in dict(graph_module.named_parameters())
