"""Batch-norms and parallel layers become part of layers where that is exact, and nowhere else."""

import random
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import subbyte
from subbyte.graph import Network, prepare
from subbyte.graph.channels import routes
from tests.graph.blocks import BLOCKS, conv
from tests.reference.networks import Calls, outputs, randomize


def checked(model: nn.Module, *shape: int, seed: int = 0) -> Network:
    """A captured network that computes what the original does, in float32 to 1e-5."""
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(seed)) * 2
    network = prepare(randomize(model, seed), x[:2])
    network.graph_module.graph.lint()
    with torch.no_grad():
        for part in (x[:1], x):
            expected = outputs(model, part)
            gap = (network.graph_module(part) - expected).abs().max() / expected.abs().max()
            assert gap < 1e-5
    return network


def names(network: Network) -> list[str]:
    return [layer.name for layer in network.layers]


def norms(network: Network) -> int:
    return sum("batch_norm" in str(node.target) for node in network.graph_module.graph.nodes)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if k % 3 else []) for k, name in enumerate(BLOCKS)],
)
def test_blocks_keep_their_outputs_and_lose_their_norms(name):
    factory, shape, layers, left = BLOCKS[name]
    network = checked(factory(), *shape)
    assert names(network) == layers
    assert norms(network) == left == sum("batch-norm" in s.reason for s in network.skipped)
    assert all(s.size > 0 for s in network.skipped)


def test_the_ledger_says_what_a_layer_took_up():
    factory, shape, layers, _ = BLOCKS["repvgg"]
    network = checked(factory(), *shape)
    assert network.merged == {layers[0]: ("branches.0", "branches.2.0")}
    assert network.folded == tuple(layers)
    q = subbyte.quantize(factory(), torch.randn(8, *shape), recipe="w8a8")
    assert "one layer with branches.0, branches.2.0" in q.ledger[0].reason


def test_a_residual_connection_around_one_layer_stays():
    network = checked(Calls(lambda m, x: F.relu(x + m.conv(x)), conv=conv(3, 3, 3)), 3, 6, 6)
    assert network.merged == {} and norms(network) == 0


def test_the_input_itself_joins_where_a_norm_of_it_does():
    parts = {"one": conv(3, 3, 1), "three": conv(3, 3, 3)}
    plain = Calls(lambda m, x: F.relu(x + m.one(x) + m.three(x)), **parts)
    assert checked(plain, 3, 6, 6).merged == {"three.0": ("one.0",)}
    normed = Calls(lambda m, x: F.relu(x + m.bn(x) + m.three(x)), bn=nn.BatchNorm2d(3), **parts)
    assert checked(normed, 3, 6, 6).merged == {"three.0": ("bn", "its input")}


def test_branches_that_are_read_elsewhere_stay():
    def run(m: Calls, x: Tensor) -> Tensor:
        y = m.one(x)
        return F.relu(y + m.three(x)) * y

    network = checked(Calls(run, one=conv(3, 3, 1), three=conv(3, 3, 3)), 3, 6, 6)
    assert names(network) == ["one.0", "three.0"] and network.merged == {}


def test_a_layer_that_serves_twice_is_not_merged():
    def run(m: Calls, x: Tensor) -> Tensor:
        return F.relu(m.one(x) + m.three(x)) + m.one(x * 2)

    parts = {"one": nn.Conv2d(3, 3, 1), "three": nn.Conv2d(3, 3, 3, padding=1)}
    assert names(checked(Calls(run, **parts), 3, 6, 6)) == ["one", "three", "one#2"]


def test_sums_with_other_parts_keep_those():
    def run(m: Calls, x: Tensor) -> Tensor:
        return F.relu(F.gelu(x) - m.one(x) + x.sin() - m.three(x) + 0.5 * x)

    network = checked(Calls(run, one=conv(3, 3, 1), three=conv(3, 3, 3)), 3, 6, 6)
    assert names(network) == ["three.0"] and network.merged == {"three.0": ("one.0",)}


BEHIND = {
    "valid": (lambda: nn.Conv2d(4, 6, 3, groups=2), True),
    "padded": (lambda: nn.Conv2d(4, 6, 3, padding=1), False),
    "same padding": (lambda: nn.Conv2d(4, 6, (1, 3), padding="same"), False),
    "reflected": (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), True),
    "zeros around": (lambda: nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(4, 6, 3)), False),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2), False),
    "flattened": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(4 * 36, 5)), True),
    "pooled": (lambda: nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(4, 6, 1)), True),
    "pooled with zeros": (lambda: nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.Conv2d(4, 6, 1)), False),
    "maxima": (lambda: nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(4, 6, 1)), None),
    "shuffled": (lambda: nn.Sequential(nn.ChannelShuffle(2), nn.Conv2d(4, 6, 1, groups=2)), True),
    "mean over channels": (
        lambda: Calls(lambda m, x: m.head(x.mean(1)), head=nn.Linear(6, 4)),
        False,
    ),
    "maximum over channels": (
        lambda: Calls(
            lambda m, x: m.head(F.max_pool1d(x.flatten(2).transpose(1, 2), 4)), head=nn.Linear(1, 4)
        ),
        False,
    ),
    "tokens": (
        lambda: Calls(lambda m, x: m.head(x.flatten(2).transpose(1, 2)), head=nn.Linear(4, 3)),
        True,
    ),
    "along another axis": (nn.Linear, False),
    "activation": (lambda: nn.Sequential(nn.ReLU(), nn.Conv2d(4, 6, 1)), False),
}
"""Readers of a batch-norm, and whether they can take it up; None: when its factors are positive."""
SCALED = ["padded", "same padding", "zeros around", "transposed"]
"""Those that can take up factors, but no terms."""


def _telling(name: str, positive: bool, shift: bool) -> bool:
    """Whether the signs of the factors, and the terms, are what decides here."""
    signs, terms = BEHIND[name][1] is None, name in SCALED
    return (signs or not positive) and (terms or shift)


@pytest.mark.parametrize(
    ("name", "positive", "shift"),
    [
        pytest.param(*case, marks=[] if _telling(*case) else pytest.mark.slow)
        for case in product(BEHIND, (True, False), (True, False))
    ],
)
def test_readers_take_a_norm_up_where_that_is_exact(name, positive, shift):
    factory, exact = BEHIND[name]
    reader = nn.Linear(6, 5) if factory is nn.Linear else factory()
    model = randomize(
        Calls(lambda m, x: m.reader(m.bn(x.sin())), bn=nn.BatchNorm2d(4), reader=reader)
    )
    with torch.no_grad():
        model.bn.weight.abs_().mul_(1 if positive else torch.tensor([1.0, -1, 1, 1]))
        if not shift:
            model.bn.running_mean.zero_()
            model.bn.bias.zero_()
    x = torch.randn(3, 4, 6, 6)
    network = prepare(model, x)
    with torch.no_grad():
        expected = outputs(model, x)
        assert (network.graph_module(x) - expected).abs().max() < 1e-5 * expected.abs().max()
    folds = positive if exact is None else exact or (name in SCALED and not shift)
    assert (norms(network) == 0) == folds
    if not folds:
        assert [s.size for s in network.skipped if "batch-norm" in s.reason] == [16]


BEFORE = {
    "reshaped": (lambda m, x: m.bn(m.a(x).flatten(2)).unflatten(2, (6, 6)), True),
    "transposed": (lambda m, x: m.bn(m.a(x).transpose(2, 3)), True),
    "sliced": (lambda m, x: m.bn(m.a(x)[:, :, 1:, ::2]), True),
    "channels turned round": (lambda m, x: m.bn(m.a(x).flip(1)), True),
    "sum": (lambda m, x: m.bn(m.a(x) - m.b(x.cos())), True),
    "sum with others": (lambda m, x: m.bn(m.a(x) + x.sum(1, keepdim=True)), False),
    "twice the same": (lambda m, x: m.bn(m.a(x) + m.a(x)), False),
    "along height": (lambda m, x: m.bn(torch.cat([m.a(x), m.b(x)], 2)), True),
    "part of the channels": (
        lambda m, x: torch.cat([m.two(m.a(x)[:, :2]), x], 1),
        True,
    ),
    "parts of a split": (
        lambda m, x: (lambda y: torch.cat([m.two(y[0]), y[1]], 1))(m.a(x).split(2, 1)),
        True,
    ),
    "one part of the height": (
        lambda m, x: (lambda y: torch.cat([m.bn(y[0]), y[1]], 2))(m.a(x).split(3, 2)),
        False,
    ),
    "zeros around": (lambda m, x: m.bn(F.pad(m.a(x), (1, 1))), False),
    "channels repeated": (lambda m, x: m.bn(m.a(x)[:, :2].repeat(1, 2, 1, 1)), False),
    "height for channels": (lambda m, x: m.six(m.a(x).transpose(1, 2)), False),
    "activation": (lambda m, x: m.bn(F.relu(m.a(x))), False),
    "maximum over channels": (
        lambda m, x: m.bn(
            F.max_pool1d(m.a(x).flatten(2).transpose(1, 2), 3)
            .transpose(1, 2)[:, :1]
            .repeat(1, 4, 1)
        ),
        False,
    ),
}
"""What stands between layers and a batch-norm, and whether it goes back through that."""


@pytest.mark.parametrize("name", BEFORE)
def test_norms_go_back_to_layers_where_that_is_exact(name):
    run, exact = BEFORE[name]
    model = Calls(
        lambda m, x: F.relu(run(m, x)),
        a=nn.Conv2d(3, 4, 3, padding=1),
        b=nn.Conv2d(3, 4, 1),
        bn=nn.BatchNorm2d(4) if "resh" not in name and "maxi" not in name else nn.BatchNorm1d(4),
        two=nn.BatchNorm2d(2),
        six=nn.BatchNorm2d(6),
    )
    network = checked(model, 3, 6, 6)
    assert (norms(network) == 0) == exact
    assert exact or [s.size > 0 for s in network.skipped if "batch-norm" in s.reason] == [True]


@pytest.mark.parametrize("pool", [F.max_pool1d, F.avg_pool1d])
def test_channels_are_not_followed_where_they_meet(pool):
    model = Calls(lambda m, x: m.head(pool(x, 4)), head=nn.Linear(1, 3))
    graph = prepare(model, torch.randn(2, 5, 4)).graph_module.graph
    node = next(n for n in graph.nodes if "pool" in n.name)
    assert list(routes(node, source=2)) == []
    (rows,) = routes(node, source=1)
    assert rows.target == 1 and rows.index.tolist() == [0, 1, 2, 3, 4]


def branch(choice: random.Random, channels: int) -> nn.Module:
    """A random branch that keeps channels and size."""
    size = choice.choice([1, 3, (3, 1), 5])
    dilation = choice.choice([1, 1, 2])
    groups = choice.choice([1, 2, channels])
    kernel = nn.Conv2d(channels, channels, size, padding="same", groups=groups, dilation=dilation)
    norm = nn.BatchNorm2d(channels)
    return choice.choice(
        [kernel, nn.Sequential(kernel, norm), nn.Sequential(norm, kernel), norm, nn.Identity()]
    )


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(k, marks=pytest.mark.slow) for k in range(4, 30))]
)
def test_random_networks_compute_the_same(seed):
    choice = random.Random(seed)
    torch.manual_seed(seed)
    stages = nn.ModuleList(
        nn.ModuleList(branch(choice, 4) for _ in range(choice.randint(1, 4))) for _ in range(3)
    )
    joins = [choice.choice(["sum", "difference", "cat"]) for _ in stages]
    activations = [choice.choice([F.relu, lambda x: x, F.gelu]) for _ in stages]

    def run(m: Calls, x: Tensor) -> Tensor:
        for stage, join, activation in zip(m.stages, joins, activations, strict=True):
            parts = [branch(x) for branch in stage]
            if join == "cat":
                x = torch.cat(parts, 1).unflatten(1, (len(parts), 4)).mean(1)
            else:
                x = parts[0]
                for part in parts[1:]:
                    x = x + part if join == "sum" else x - part
            x = activation(x)
        return m.head(m.norm(x).mean((2, 3)))

    model = Calls(run, stages=stages, norm=nn.BatchNorm2d(4), head=nn.Linear(4, 3))
    network = checked(model, 4, 7, 6, seed=seed)
    assert norms(network) == sum("batch-norm" in s.reason for s in network.skipped)
