"""Operations that runtimes take out bring no two quantizers together that ONNX Runtime would make
one of.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import subbyte
from tests.reference.kinds.kind import Net

ONE, ZERO = torch.ones(1), torch.zeros(())
OPERATIONS: dict[str, tuple[Callable[[Net, Tensor], Tensor], Tensor]] = {
    "times a number": (lambda m, x: 1 * x, ONE),
    "by a parameter": (lambda m, x: x / m.own, ONE),
    "times a parameter": (lambda m, x: m.own * x, ONE),
    "plus a parameter": (lambda m, x: m.own + x, ZERO),
    "minus a parameter": (lambda m, x: x - m.own, ZERO),
    "with nothing": (lambda m, x: torch.cat([x, x[:, :0]], 1), ONE),
    "twice": (lambda m, x: torch.cat([x * 1], 1) + m.own, ZERO),
    "no neutral one": (lambda m, x: 0 - x * m.own, ONE),
}


QUICK = {"by a parameter"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in OPERATIONS],
)
def test_quantizers_around_them_stay_two(name, tmp_path):
    run, own = OPERATIONS[name]
    torch.manual_seed(0)
    model = Net(
        lambda m, x: m.b(run(m, m.a(x))),
        a=nn.Linear(6, 6),
        b=nn.Linear(6, 3),
        own=nn.Parameter(own),
    )
    x = torch.randn(24, 6)
    q = subbyte.quantize(model, x, subbyte.load_recipe("w8a8", ["activations.range=minmax"]))
    assert len(q.plan.taps) >= 4
    assert subbyte.export(q, tmp_path / "net.onnx", x).parity.samples == 24


def test_a_softmax_of_a_quantized_value_is_that_of_the_file(tmp_path):
    torch.manual_seed(0)
    model = Net(lambda m, x: m.a(torch.softmax(x, -1)) + x.mean(), a=nn.Linear(9, 6))
    x = 3 * torch.randn(64, 9)
    q = subbyte.quantize(model, x, subbyte.load_recipe("w8a8", ["activations.range=minmax"]))
    assert subbyte.export(q, tmp_path / "net.onnx", x).parity.samples == 64
