"""Networks that are rounded while their batch-norms are alive: what they compute in training, and
that the folded network they end as is theirs to the bit.
"""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import subbyte
from subbyte.core import Grid
from subbyte.engine.trainable import Trainable, alive, freeze
from subbyte.graph import prepare
from subbyte.methods import Learned
from subbyte.ranges import Mse, fit_grid
from subbyte.tuning.estimators import Straight
from tests.learn.training.runs import Normed, seeded

IMAGES = torch.randn(48, 1, 8, 8, generator=torch.Generator().manual_seed(0))
W3A4 = {"weights": {"bits": 3, "rounding": "nearest"}, "activations": {"bits": 4}}
CONV_FLOAT = {"weights": {"bits": 3}, "layers": {"conv1": {"skip": True}}}


class Before(nn.Module):
    """A batch-norm and a ReLU in front of a convolution, so that no layer takes the former up."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6)
        self.second, self.fc = nn.Conv2d(6, 6, 1), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.fc((x + self.second(F.relu(self.norm(x)))).mean((2, 3)))


def network(kind: type[nn.Module] = Normed) -> nn.Module:
    """One whose batch-norms have seen something."""
    model = seeded(kind)
    with torch.no_grad():
        for _ in range(3):
            model.train()(IMAGES * 2 + 1)
    return model.eval()


def made(model: nn.Module, recipe: object) -> Trainable:
    fitting = partial(fit_grid, Mse())
    quantized = subbyte.quantize(model, IMAGES, recipe)
    return alive(quantized, prepare(model, IMAGES), model, fitting, Straight())


def step(trained: Trainable) -> None:
    """A few updates."""
    adam = torch.optim.Adam([p for p in trained.parameters() if p.requires_grad], 0.01)
    labels = torch.arange(len(IMAGES)) % 10
    for number in range(4):
        loss = F.cross_entropy(trained.train()(IMAGES), labels)
        adam.zero_grad()
        loss.backward()
        adam.step()
        trained.settle(number)


def test_it_is_the_network_with_rounded_weights_and_its_own_batch_norms():
    model = network()
    trained = made(model, {"weights": {"bits": 3}})
    own = copy.deepcopy(model).train()
    signs = {"conv1": own.bn1.weight, "conv2": own.bn2.weight}
    with torch.no_grad():
        for name in ("conv1", "conv2", "fc"):
            layer = trained.layer(name)
            weight = Grid.quantize(layer.grid, layer.latent)
            sign = torch.where(signs[name] < 0, -1.0, 1.0) if name in signs else torch.ones(10)
            kept = own.get_submodule(name).weight
            kept.copy_((weight * sign[:, None]).reshape(kept.shape))
    found, wanted = trained(IMAGES), own(IMAGES)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    folded, plain = trained.eval()(IMAGES), own.eval()(IMAGES).detach()  # statistics have moved
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-5)
    (found.square().sum() + wanted.square().sum()).backward()
    norms = [one.norm for one in trained._norms.behind.values()]
    for mine, its in zip(norms, (own.bn1, own.bn2), strict=True):
        sign = torch.where(its.weight < 0, -1.0, 1.0)
        torch.testing.assert_close(mine.running_mean * sign, its.running_mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mine.running_var, its.running_var, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mine.weight.grad * sign, its.weight.grad, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(mine.bias.grad, its.bias.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "recipe"),
    [(Normed, W3A4), (Normed, CONV_FLOAT), (Before, W3A4)],
    ids=["folded", "float layer", "stays"],
)
def test_it_begins_and_ends_as_the_folded_network_of_its_codes(kind, recipe, tmp_path):
    model = network(kind)
    trained = made(model, recipe)
    first = freeze(trained)
    assert torch.equal(trained.eval()(IMAGES), first(IMAGES))
    wanted = model(IMAGES).detach()
    error = float((first(IMAGES).detach() - wanted).abs().max())
    assert 0 < error < float(wanted.abs().max())  # rounded, and nothing else
    step(trained)
    frozen = freeze(trained)
    assert torch.equal(trained.eval()(IMAGES), frozen(IMAGES))
    assert not torch.equal(frozen(IMAGES), first(IMAGES))
    for name, weight in frozen.weights.items():
        assert bool((weight.grid.scale > 0).all()), name
        assert int(weight.codes.min()) >= -4 and int(weight.codes.max()) <= 3
    subbyte.save(frozen, tmp_path / "net.safetensors")
    read = subbyte.load(tmp_path / "net.safetensors", network(kind))
    assert torch.equal(read(IMAGES), frozen(IMAGES))


@pytest.mark.parametrize("kind", [Normed, Before])
def test_everything_that_the_network_has_learns(kind):
    trained = made(network(kind), W3A4)
    trained(IMAGES).square().mean().backward()
    together = [p for some in trained.kinds.values() for p in some]
    assert {id(p) for p in together} == {id(p) for p in trained.parameters() if p.requires_grad}
    assert all(p.grad is not None for p in together)
    norms = 2 * sum(isinstance(m, nn.BatchNorm2d) for m in network(kind).modules())
    assert len(trained.kinds[Learned.FLOAT]) == norms


def test_a_factor_that_turns_negative_is_turned_back_and_one_of_0_learns():
    trained = made(network(), {"weights": {"bits": 3}})
    norm = trained._norms.behind["conv1"].norm
    assert norm.weight[5] == 0
    with torch.no_grad():
        norm.bias[5] = 0.5  # so that the ReLU behind it passes gradients on
    trained(IMAGES).square().sum().backward()
    assert norm.weight.grad[5] != 0
    with torch.no_grad():
        norm.weight[0] = -0.25
    trained.settle(0)
    assert norm.weight[0] == 0.25
    freeze(trained)
