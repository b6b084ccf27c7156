"""The effects of layers and activation quantizers by themselves, against networks that are put
together by hand.
"""

import pytest
import torch

from subbyte.engine.effects import effects
from subbyte.graph import Samples, set_tensor, tensor_at
from subbyte.graph.instrument import copied
from tests.networks import captured, images, quantized


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).double().square().sum() / wanted.double().square().sum())


def measured(name: str, recipe: str):
    told: list[str] = []
    model, samples = quantized(name, recipe), Samples.of(images(name))
    found = effects(captured(name), model, samples, "cpu", lambda *step: told.append(step[2]))
    assert told == [one.name for one in found]
    return model, {one.name: one for one in found}


def test_they_are_those_of_networks_with_one_weight_quantized():
    model, found = measured("residual", "w4a4")
    rounded = [row for row in model.ledger if row.kind in ("layer", "activation")]
    assert list(found) == [row.name for row in rounded]
    for layer in model.owners:
        one = found[layer.name]
        alone = copied(captured("residual").graph_module)
        for name in (layer.weight, layer.bias):
            set_tensor(alone, name, tensor_at(model.graph_module, name))
        x = images("residual")[: one.images]
        wanted = relative(alone(x), captured("residual").graph_module(x))
        assert one.error == pytest.approx(wanted, rel=1e-4) and one.error > 0
        assert one.more_bytes == model.weights[layer.name].codes.numel() // 2  # two codes a byte


def test_those_of_quantizers_are_of_the_values_that_they_round():
    model, found = measured("residual", "w4a4")
    network, *_, last = captured("residual").graph_module, *found
    x = images("residual")[: found[last].images]
    for name, before, rest in (("input", x, network), (last, network(x), lambda y: y)):
        grid = model.instrumented.tap(name).grid
        rounded = rest(grid.quantize(before.reshape(1, -1)).reshape(before.shape))
        assert found[name].error == pytest.approx(relative(rounded, network(x)), rel=1e-4)
        assert found[name].kind == "activation" and not found[name].more_bytes
    assert found["input"].feeds and not found[last].feeds
