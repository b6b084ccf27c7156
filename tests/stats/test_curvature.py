"""Second derivatives against torch's own, and traces against matrices whose trace is known."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subbyte.core import Linear
from subbyte.engine.guidance import gradient_stats, hessians_of_linear, loss_of_weight
from subbyte.errors import ModelError, NumericsError, RecipeError
from subbyte.graph import (
    Layer,
    Samples,
    instrument,
    is_piecewise_linear,
    layer_gradients,
    prepare,
    sampled,
)
from subbyte.stats import (
    MomentCollector,
    Trace,
    curvature,
    gauss_newton,
    hessian_blocks,
    hutch_plus_plus,
    hutchinson,
)
from tests.networks import captured, images

LABELS = torch.tensor([0, 2, 1, 1, 0, 2])


def matrix_of(name: str, layer: str) -> tuple[Tensor, Layer]:
    network = captured(name)
    found = network.layer(layer)
    return found.geometry.to_matrix(network.graph_module.state_dict()[found.weight]), found


@pytest.mark.parametrize(
    ("name", "layer"), [("mobile", "grouped"), ("decoder", "up2"), ("tokens", "up")]
)
def test_blocks_are_those_of_the_whole_hessian(name, layer, monkeypatch):
    monkeypatch.setattr(curvature, "_AT_ONCE", 7)  # does not divide the number of weights
    weight, found = matrix_of(name, layer)
    loss = loss_of_weight(captured(name), found, images(name, 6), LABELS)
    whole = torch.autograd.functional.hessian(loss, weight)  # [rows, columns, rows, columns]
    wanted = whole.diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    got = hessian_blocks(loss, weight, layer)
    assert float(wanted.abs().max()) > 1e-3, "nothing is curved: the test is void"
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


def test_a_linear_loss_has_no_curvature_and_large_layers_are_refused(monkeypatch):
    assert not bool(hessian_blocks(lambda w: w.sum(), torch.ones(2, 3), "fc").any())
    with pytest.raises(NumericsError, match="'fc'"):
        hessian_blocks(lambda w: (w.sqrt() * w).sum(), torch.zeros(2, 3), "fc")
    monkeypatch.setattr(curvature, "_MAX_WEIGHTS", 5)
    with pytest.raises(ModelError, match=r"'fc'.*2 x 3.*at most 5"):
        hessian_blocks(lambda w: w.square().sum(), torch.ones(2, 3), "fc")


def test_gauss_newton_is_the_hessian_of_the_last_layer_where_outputs_and_inputs_are_independent():
    """All images alike but for the sign: squared output gradients tell nothing of inputs, and
    softmax is symmetric.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 6, generator=generator)
    weight, d = torch.zeros(2, 6), torch.randn(2, 6, generator=generator)
    exact = hessian_blocks(
        lambda w: F.cross_entropy(x @ w.T, torch.zeros(500, dtype=torch.int64)), weight, "fc"
    )
    moments = MomentCollector(geometry := Linear((2, 6)))
    moments.add(x, x)
    outputs = torch.full((2,), 0.25, dtype=torch.float64)  # E (p - y)^2 with p = 1/2
    got = gauss_newton(d, moments.finish(), outputs)
    assert geometry.rows == len(got) and got.dtype == torch.float64
    torch.testing.assert_close(
        got, torch.einsum("nc,ncd,nd->n", d, exact, d).double() / 2, rtol=1e-4, atol=0
    )


def test_gauss_newton_with_weighted_rows_is_the_fisher_form_exactly():
    """One position an image: sum over images of (g x'd)^2, which the diagonal of the Fisher
    information is part of.
    """
    network, x = captured("residual"), images("residual", 30)
    stats = gradient_stats(network, x, "sampled", names=["fc"])["fc"]
    fc = network.layers[-1]
    unit = torch.zeros(fc.geometry.rows, fc.geometry.columns)
    unit[:, 3] = 1
    targets = sampled(torch.Generator().manual_seed(0))
    ((_, calls),) = layer_gradients(instrument(network, []), Samples.of(x), targets, {"fc": "fc"})
    ((seen, g),) = calls["fc"]
    moments = MomentCollector(fc.geometry)
    moments.add(seen, seen, g.square()[:, :, None])
    got = gauss_newton(unit, moments.finish(), stats.outputs)
    torch.testing.assert_close(got, stats.fisher[:, 3] / 2, rtol=1e-4, atol=1e-9)


def spectrum(decay: float, size: int = 100) -> Tensor:
    """A symmetric matrix with eigenvalues j^-decay."""
    basis = torch.linalg.qr(
        torch.randn(size, size, generator=torch.Generator().manual_seed(0)).double()
    ).Q
    return (basis * torch.arange(1.0, size + 1).double() ** -decay) @ basis.T


@pytest.mark.parametrize("estimate", [hutchinson, hutch_plus_plus])
@pytest.mark.parametrize("decay", [0.0, 0.5, 2.0])
def test_error_bars_are_honest(estimate, decay):
    matrix = spectrum(decay)
    found = [estimate(matrix.matmul, 100, 45, seed) for seed in range(120)]
    misses = torch.tensor(
        [abs(t.value - float(matrix.trace())) / max(t.error, 1e-12) for t in found]
    )
    if decay == 0 and estimate is hutchinson:  # the identity: signs give its trace exactly
        assert max(abs(t.value - 100) for t in found) < 1e-9
        return
    assert 0.55 < float((misses <= 1).float().mean()) < 0.8
    assert float((misses <= 2.5).float().mean()) > 0.93
    values = torch.tensor([t.value for t in found])
    assert (
        abs(float(values.mean()) - float(matrix.trace())) < 3.5 * float(values.std()) / 120**0.5
    ), "biased"


def test_hutch_plus_plus_is_better_where_the_spectrum_falls_fast():
    def typical(estimate, decay: float) -> float:
        matrix = spectrum(decay)
        misses = [
            estimate(matrix.matmul, 100, 30, s).value - float(matrix.trace()) for s in range(40)
        ]
        return float(torch.tensor(misses).square().mean().sqrt())

    assert typical(hutch_plus_plus, 2.0) < typical(hutchinson, 2.0) / 10


def test_a_low_rank_is_found_exactly_and_products_are_counted():
    left = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).double()
    used = []

    def product(v: Tensor) -> Tensor:
        used.append(v.shape[1])
        return left @ (left.T @ v)

    trace = hutch_plus_plus(product, 50, 13)
    assert (
        trace.value == pytest.approx(float(left.square().sum()), rel=1e-10) and trace.error < 1e-9
    )
    assert sum(used) <= 13
    used.clear()
    hutchinson(product, 50, 13)
    assert sum(used) == 13


def test_small_and_empty_and_bad_matrices():
    assert hutch_plus_plus(lambda v: 3 * v, 1, 6) == Trace(3.0, 0.0)
    assert hutchinson(lambda v: 0 * v, 4, 2) == Trace(0.0, 0.0)
    assert hutch_plus_plus(lambda v: 0 * v, 4, 6) == Trace(0.0, 0.0)
    for estimate, least in ((hutchinson, 2), (hutch_plus_plus, 6)):
        with pytest.raises(RecipeError, match=f"at least {least}"):
            estimate(lambda v: v, 3, least - 1)
        with pytest.raises(RecipeError, match="size 0"):
            estimate(lambda v: v, 0, 9)
        with pytest.raises(NumericsError, match="NaN"):
            estimate(lambda v: v * torch.nan, 3, 9)


@pytest.mark.parametrize(
    ("name", "layer"),
    [("mobile", "grouped"), ("mobile", "depthwise.0"), ("residual", "stem"), ("residual", "fc")],
)
def test_blocks_of_networks_that_are_linear_in_pieces_need_no_second_derivatives(name, layer):
    network, x = captured(name), images(name, 6)
    weight, found = matrix_of(name, layer)
    assert is_piecewise_linear(network, found)
    labels = LABELS % network.layers[-1].geometry.rows
    wanted = hessian_blocks(loss_of_weight(network, found, x, labels), weight, layer)
    got = hessians_of_linear(network, [found], x, batch=4)[layer]
    assert float(wanted.abs().max()) > 1e-3 and got.dtype == torch.float32
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-5)


class Curved(nn.Module):
    """Layers before and behind things that are not linear in pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.twice = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.mixed, self.last = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.first(x)) * self.gate(x)
        x = self.twice(self.twice(x).relu())
        y = self.mixed(x)
        return self.last((y * y.mean(1, keepdim=True) + x) * 2 / 3)


def test_what_is_not_linear_in_pieces_is_told():
    network = prepare(Curved().eval(), torch.rand(2, 6))
    linear = [layer.name for layer in network.owners if is_piecewise_linear(network, layer)]
    assert linear == ["last"]
