"""The network as a program with quantize and dequantize operations, run by torch."""

import pytest
import torch

from subbyte.exporters.lowered import codes_of
from subbyte.graph import Lowering, integer_program
from tests.networks import images, quantized

HOW = {"plain": Lowering(), "in float between": Lowering(rounds=True, parts=True, batch=5)}


def programmed(name, recipe, how):
    model = quantized(name, recipe, "weights.narrow=true")
    taken, _ = codes_of(model, "a runtime")
    layers = [one for one in model.layers if one.owner in model.weights and one.weight in taken]
    return model, integer_program(model.instrumented, layers, taken, model.signature, how)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(
    ("name", "recipe"), [("residual", "w4a4"), ("shared", "w4a4"), ("tokens", "w8a8")]
)
def test_it_computes_what_the_quantized_network_computes(name, recipe, how):
    model, program = programmed(name, recipe, HOW[how])
    x, run, size = images(name), program.flat, HOW[how].batch
    found = torch.cat([run(x[k : k + size])[0] for k in range(0, len(x), size)])
    step = model.output_steps[0]
    assert torch.allclose(found, model(x), atol=1e-3 * step if step else 1e-5)


def test_values_that_go_from_one_grid_to_another_do_so_in_float():
    """As many rounds as there are operations that no exact kernel computes, before and behind."""
    counts = {}
    for how, lowering in HOW.items():
        _, program = programmed("residual", "w4a4", lowering)
        counts[how] = program.operations["aten.round.default"]
    assert counts == {"plain": 0, "in float between": 2}
