"""The tests' own memory of networks that are captured: it hands on nothing but what capturing would
give.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from subbyte.graph import Samples, capture
from tests import captured
from tests.reference.networks import Calls

X = torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(0))


def network(activation=F.relu, seed: int = 0, **settings) -> nn.Module:
    torch.manual_seed(seed)
    return Calls(lambda m, x: activation(m.conv(x)), conv=nn.Conv2d(4, 4, 3, **settings)).eval()


def spoilt(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        model.conv.weight[0, 0, 0, 0] += 1e-6
    return model


@pytest.fixture
def calls(monkeypatch) -> list[nn.Module]:
    """Networks that were captured."""
    seen: list[nn.Module] = []
    monkeypatch.setattr(captured, "_kept", type(captured._kept)())
    monkeypatch.setattr(captured, "capture", lambda m, s: seen.append(m) or capture(m, s))
    return seen


def test_the_same_network_is_captured_once_and_its_graphs_are_apart(calls):
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()).eval()]
    models.append(nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()).eval())
    models[1].load_state_dict(models[0].state_dict())
    first, second, third = (
        captured.capture_once(model, Samples.of(X)) for model in (*models, models[0])
    )
    assert calls == models[:1]
    with torch.no_grad():
        next(first.parameters()).zero_()
        next(second.parameters()).zero_()
        assert torch.equal(third(X), models[0](X))


def test_any_other_network_or_input_is_captured_anew(calls):
    model = network()
    given = [
        (model, X),
        (network(seed=1), X),
        (network(padding=1), X),
        (network(activation=F.gelu), X),
        (spoilt(network()), X),
        (model, X[..., :5].contiguous()),
        (model, X[:2]),
    ]
    for number, (own, x) in enumerate(given, 1):
        graph = captured.capture_once(own, Samples.of(x))
        assert len(calls) == number
        assert torch.equal(graph(x), own(x))
