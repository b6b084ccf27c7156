"""Networks ready for a plan."""

import pytest
import torch
from torch import nn

from subbyte.errors import CaptureError, ModelError
from subbyte.graph import prepare
from subbyte.io.repeatable import threads
from tests.reference.networks import build, images, outputs, prepared


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        (nn.Sequential(nn.ReLU(), nn.Flatten()), "no weights"),
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()), "batch_norm"),
    ],
)
def test_a_network_without_layers_is_refused_with_the_reasons(model, shown):
    with pytest.raises(
        ModelError, match=f"Sequential holds no convolution or linear.*{shown}"
    ) as caught:
        prepare(model, torch.randn(2, 3, 4, 4))
    assert not isinstance(caught.value, CaptureError)


def test_sizes_by_hand():
    network = prepared("sequential")
    assert network.signature.described == "float32 [n, 1, 8, 8]"
    numbers = (4 * 9 + 4) + (36 * 7 + 7) + (7 * 3 + 3)  # the batch-norm is folded
    assert network.float_bytes == 4 * numbers
    assert network.multiplications == {"0": 4 * 9 * 36, "6": 36 * 7, "8": 7 * 3}


@pytest.mark.slow
def test_the_fold_error_is_the_same_with_one_thread_and_two():
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
            self.second = nn.Conv2d(16, 16, 3, padding=1, groups=16)
            self.third = nn.Conv2d(16, 32, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.second(torch.relu(self.norm(self.first(x))))
            return self.third(torch.relu(x)).flatten(2).mean(2)

    for seed in range(8):
        torch.manual_seed(seed)
        model, x, found = Mixed().eval(), torch.randn(2, 3, 8, 8), set()
        for count in (1, 2):
            with threads(count):
                found.add(prepare(model, x).fold_error)
        assert len(found) == 1 and found != {0.0}


def test_the_fold_error_is_measured_against_the_original():
    network, x = prepared("residual"), images("residual")
    expected = outputs(build("residual"), x)
    with torch.no_grad():
        error = (network.graph_module(x) - expected).abs().max() / expected.abs().max()
    assert network.fold_error == pytest.approx(float(error), rel=1e-6, abs=1e-9)


def test_a_large_example_is_no_burden():
    seen = []

    class Counting(nn.Linear):
        def forward(self, x):
            if isinstance(x.shape[0], int) and type(x) is torch.Tensor:
                seen.append(x.shape[0])
            return super().forward(x)

    prepare(nn.Sequential(Counting(4, 2)), torch.randn(500, 4))
    assert seen and max(seen) <= 8


def test_outputs_of_zero_are_no_error():
    model = nn.Sequential(nn.Linear(4, 2))
    nn.init.zeros_(model[0].weight)
    nn.init.zeros_(model[0].bias)
    assert prepare(model, torch.randn(3, 4)).fold_error == 0
