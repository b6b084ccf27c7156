"""Gradients with respect to the outputs of layers against autograd, one image at a time."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from subbyte.errors import DataError, ModelError, NumericsError
from subbyte.graph import (
    Calls,
    Instrumented,
    Layer,
    Network,
    Samples,
    Targets,
    draw_classes,
    expected,
    given,
    instrument,
    layer_gradients,
    outputs,
    prepare,
    sampled,
    signs,
)
from tests.networks import captured, images

NETWORKS = ["mobile", "decoder", "tokens", "shared", "norm first"]


def owners(network: Network) -> dict[str, str]:
    return {layer.name: layer.owner for layer in network.layers}


def plain(network: Network) -> Instrumented:
    return instrument(network, [])


def gone_back(
    network: Network, x: Tensor, targets: Targets, wanted: dict[str, str]
) -> list[tuple[Tensor, dict[str, Calls]]]:
    return list(layer_gradients(plain(network), Samples.of(x), targets, wanted))


@pytest.mark.parametrize("name", NETWORKS)
def test_summed_over_positions_they_are_the_gradients_of_biases(name):
    network, x, labels = captured(name), images(name, 4), torch.tensor([2, 0, 1, 0])
    ((share, calls),) = gone_back(network, x, given(labels), owners(network))
    assert share.tolist() == [1, 1, 1, 1] and list(calls) == list(
        dict.fromkeys(owners(network).values())
    )
    for layer in network.layers:
        if not layer.owns_weight:
            continue
        assert len(calls[layer.name]) == list(owners(network).values()).count(layer.name)
        for i in range(4):
            bias = dict(network.graph_module.state_dict())[layer.bias].clone().requires_grad_()
            logits = functional_call(network.graph_module, {layer.bias: bias}, (x[i : i + 1],))
            (wanted,) = torch.autograd.grad(F.cross_entropy(logits, labels[i : i + 1]), bias)
            got = sum(channels(g[i : i + 1], layer) for _, g in calls[layer.name])
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


def channels(g: Tensor, layer: Layer) -> Tensor:
    """Sum over positions of one image's gradient."""
    return g.movedim(layer.geometry.channel_axis(g.ndim), -1).flatten(0, -2).sum(0)


def test_inputs_are_those_of_the_layers():
    network, x = captured("tokens"), images("tokens", 3)
    wanted = {"up": "up", "head": "head"}
    ((_, calls),) = gone_back(network, x, given(torch.tensor([0, 1, 2])), wanted)
    assert list(calls) == ["up", "head"], "only what was asked for"
    ((seen, _),) = calls["up"]
    norm = network.graph_module.get_submodule("norm")
    torch.testing.assert_close(seen, F.layer_norm(x, (8,), norm.weight, norm.bias))
    assert not seen.requires_grad


def test_the_network_is_left_as_it_is_and_gradients_need_not_be_on():
    network = captured("residual")
    before = {name: value.clone() for name, value in network.graph_module.state_dict().items()}
    with torch.no_grad():
        found = gone_back(network, images("residual", 2), expected, owners(network))
    assert len(found) == 5
    state = network.graph_module.state_dict()
    assert all(torch.equal(state[name], value) for name, value in before.items())


def test_classes_are_drawn_as_often_as_the_network_expects_them():
    p = torch.tensor(
        [[0.0, 1.0, -2.0, 3.0], [50.0, 0.0, 0.0, 0.0], [0.0, -torch.inf, 0.0, -torch.inf]]
    ).softmax(1)
    many = p.repeat_interleave(4000, 0)
    drawn = draw_classes(many, torch.Generator().manual_seed(1))
    assert drawn.dtype == torch.int64
    seen = F.one_hot(drawn, 4).float().reshape(3, 4000, 4).mean(1)
    torch.testing.assert_close(seen, p, rtol=0, atol=0.025)
    assert bool((seen[2, [1, 3]] == 0).all()) and seen[1, 0] == 1
    generator = torch.Generator().manual_seed(1)
    again = torch.cat([draw_classes(part, generator) for part in many.split(700)])
    assert torch.equal(again, drawn), "the draw depends on the chunks"


P = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).double().softmax(1)
FISHER = torch.diag_embed(P) - P[:, :, None] * P[:, None]


def test_every_class_is_expected_with_its_share():
    found = list(expected(P))
    assert len(found) == 4
    for label, (derivative, share) in enumerate(found):
        torch.testing.assert_close(share, P[:, label])
        (wanted,) = given(torch.full((3,), label))(P)
        torch.testing.assert_close(derivative, wanted[0])
    second = sum(share[:, None, None] * d[:, :, None] * d[:, None] for d, share in found)
    torch.testing.assert_close(second, FISHER)
    with pytest.raises(ModelError, match=r"101.*sample"):
        next(expected(torch.full((2, 101), 1 / 101)))


@pytest.mark.parametrize("targets", [sampled, signs])
def test_what_is_drawn_has_the_moments_of_the_expectation(targets):
    ((derivative, share),) = targets(torch.Generator().manual_seed(3))(
        P.repeat_interleave(20000, 0)
    )
    assert bool((share == 1).all())
    many = derivative.reshape(3, 20000, 4)
    torch.testing.assert_close(many.mean(1), torch.zeros_like(P), rtol=0, atol=0.015)
    torch.testing.assert_close(many.mT @ many / 20000, FISHER, rtol=0, atol=0.01)


def test_mean_squared_gradients_of_outputs_are_those_of_the_logits_up_to_a_shift():
    """E g g' over the draws is the projection that takes the mean away, whatever the network is
    sure of.
    """
    p = torch.tensor([[0.98, 0.01, 0.01, 0.0]], dtype=torch.float64).expand(40_000, -1)
    ((g, share),) = outputs(torch.Generator().manual_seed(0))(p)
    torch.testing.assert_close(g.T @ g / len(g), torch.eye(4).double() - 1 / 4, atol=0.02, rtol=0)
    assert bool((share == 1).all()) and float(g.mean(0).abs().max()) < 0.02


def test_signs_are_less_noisy_for_a_sure_network():
    p = torch.tensor([[0.97, 0.01, 0.01, 0.01]]).double().expand(20000, 4)
    drawn = {
        f: next(f(torch.Generator().manual_seed(0))(p))[0].square().sum(1) for f in (sampled, signs)
    }
    assert float(drawn[signs].std()) < float(drawn[sampled].std()) / 5


@pytest.mark.parametrize(
    "labels", [torch.tensor([0, 3]), torch.tensor([-1, 0]), torch.tensor([0]), torch.zeros(2)]
)
def test_labels_must_fit(labels):
    with pytest.raises(DataError, match="labels must be"):
        next(given(labels)(torch.zeros(2, 3)))


class _Swapped(nn.Module):
    """A layer whose input has the batch second."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(x.transpose(0, 1)).mean(0))


class _Two(_Swapped):
    """A network of two outputs."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(x.mean(1)), self.inner(x.mean(1))


def test_what_has_no_gradients_of_images_is_refused():
    x = torch.randn(2, 5, 4)
    network = prepare(_Swapped(), x)
    with pytest.raises(ModelError, match=r"'inner'.*batch"):
        gone_back(network, x, expected, owners(network))
    assert len(gone_back(network, x, expected, {"head": "head"})) == 3
    dense = prepare(nn.Sequential(nn.Linear(4, 3)), x)
    with pytest.raises(ModelError, match=r"logits.*\[2, 5, 3\]"):
        gone_back(dense, x, expected, owners(dense))
    with pytest.raises(NumericsError, match="logits"):
        gone_back(network, x * torch.inf, expected, {"head": "head"})
    two = prepare(_Two(), x)
    with pytest.raises(ModelError, match="2 outputs"):
        gone_back(two, x, expected, {"head": "head"})
