"""The trainable form of a quantized network: its start, how it learns, and its end."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import subbyte
from subbyte.core import Uniform
from subbyte.core.alphabet import NO_NUMBERS
from subbyte.engine.biases import bias_step
from subbyte.engine.trainable.straight import Rounded, Through
from subbyte.engine.trainable.weights import within_cells
from subbyte.graph import prepare, tensor_at
from subbyte.methods import Learned
from subbyte.tuning.estimators import ESTIMATORS
from tests.networks import Mobile, Residual
from tests.reference.networks import randomize

IMAGES = torch.randn(24, 3, 16, 16, generator=torch.Generator().manual_seed(0))
GROUPS = {"weights": {"bits": 4, "granularity": "group", "group_size": 8}}
ASYMMETRIC = {"weights": {"bits": 3, "symmetric": False}, "activations": {"bits": 4}}
BY_CHANNEL = {"weights": {"bits": 8}, "activations": {"bits": 6, "granularity": "channel"}}
POWERS = {"weights": {"bits": 4, "scales": "powers-of-two"}, "activations": {"bits": 8}}
BOOK = {"weights": {"bits": 2, "rounding": "kmeans"}}
DYNAMIC = {"weights": {"bits": 4}, "activations": {"bits": 4, "dynamic": True, "range": "minmax"}}
RECIPES = {
    "w2": "w2",
    "ternary": "ternary",
    "ldnq": {"weights": {"levels": 5}},
    "groups": GROUPS,
    "codebook": BOOK,
    "w4a4": "w4a4",
    "asymmetric": ASYMMETRIC,
    "by channel": BY_CHANNEL,
    "powers of two": POWERS,
    "dynamic": DYNAMIC,
}


def network(kind: type[nn.Module] = Residual) -> nn.Module:
    """One with random numbers everywhere."""
    return randomize(kind()).eval()


def step(trained: subbyte.Trainable, model: nn.Module, rate: float = 0.02) -> None:
    """A few updates towards the float network."""
    adam = torch.optim.Adam([p for p in trained.parameters() if p.requires_grad], rate)
    trained.train()
    for _ in range(3):
        loss = F.mse_loss(trained(IMAGES), model(IMAGES).detach())
        adam.zero_grad()
        loss.backward()
        adam.step()


QUICK = {"ternary", "groups", "asymmetric", "dynamic"}
CASES = [
    pytest.param(recipe, id=name, marks=[] if name in QUICK else [pytest.mark.slow])
    for name, recipe in RECIPES.items()
]


@pytest.mark.parametrize("recipe", CASES)
def test_it_starts_as_the_network_it_is_made_of_and_ends_as_one_like_it(recipe):
    model = network()
    quantized = subbyte.quantize(model, IMAGES, recipe)
    trained = subbyte.trainable(quantized, prepare(model, IMAGES)).eval()
    assert torch.equal(trained(IMAGES), quantized(IMAGES))
    same = subbyte.freeze(trained)
    for name, weight in quantized.weights.items():
        assert torch.equal(same.weights[name].codes, weight.codes)
    step(trained, model)
    trained.eval()
    frozen = subbyte.freeze(trained)
    assert torch.equal(frozen(IMAGES), trained(IMAGES))
    assert not torch.equal(frozen(IMAGES), quantized(IMAGES))
    assert torch.equal(quantized(IMAGES), same(IMAGES))  # what it was made of stays as it was


def test_what_it_ends_as_is_saved_loaded_and_exported_as_ever(tmp_path):
    model = network(Mobile)
    trained = subbyte.trainable(subbyte.quantize(model, IMAGES, "w4a8"))
    step(trained, model, 0.005)
    frozen = subbyte.freeze(trained)
    subbyte.save(frozen, tmp_path / "net.safetensors")
    read = subbyte.load(tmp_path / "net.safetensors", network(Mobile))
    assert torch.equal(read(IMAGES), frozen(IMAGES))
    made = subbyte.export(frozen, tmp_path / "net.onnx", IMAGES)
    assert made.parity.samples == len(IMAGES)
    assert frozen.plan == trained.quantized.plan


def test_everything_that_is_there_to_learn_gets_gradients():
    trained = subbyte.trainable(subbyte.quantize(network(), IMAGES, ASYMMETRIC))
    trained(IMAGES).square().mean().backward()
    kinds = trained.kinds
    assert all(kinds[kind] for kind in (Learned.LATENT, Learned.SCALE, Learned.RANGE, Learned.BIAS))
    assert all(p.grad is not None for some in kinds.values() for p in some)
    together = [p for some in kinds.values() for p in some]
    assert {id(p) for p in together} == {id(p) for p in trained.parameters() if p.requires_grad}


def test_biases_behind_quantized_inputs_are_on_their_int32_grid():
    model = network()
    trained = subbyte.trainable(subbyte.quantize(model, IMAGES, "w4a4"))
    step(trained, model)
    frozen = subbyte.freeze(trained)
    for layer in frozen.layers:
        scale = bias_step(frozen.weights[layer.name], frozen.input_grid(layer))
        whole = tensor_at(frozen.graph_module, layer.bias) / scale
        assert torch.allclose(whole, whole.round(), atol=1e-2)


@pytest.mark.parametrize("recipe", [{"weights": {"levels": 5}}, GROUPS])
def test_latent_weights_are_in_their_cells_and_nearer_to_the_float_weight(recipe):
    model = network()
    quantized, captured = subbyte.quantize(model, IMAGES, recipe), prepare(model, IMAGES)
    for layer in captured.layers:
        rounded = quantized.weights[layer.name]
        weight = layer.geometry.to_matrix(tensor_at(captured.graph_module, layer.weight))
        latent = within_cells(rounded, weight)
        ladder, columns = rounded.grid.ladder(latent.shape[1]), latent.shape[1]
        assert torch.equal(ladder.encode(latent.clone()), rounded.codes.to(torch.int64))
        scale = rounded.grid.spread(rounded.grid.scale, columns)
        before = (rounded.dequantize() - weight).abs()
        assert bool(((latent * scale - weight).abs() <= before + 1e-5).all())


@pytest.mark.parametrize("shape", [(), (3, 1, 1)])
@pytest.mark.parametrize(("low", "high", "zero"), [(0, 15, 0.0), (-5, 10, 5.0)])
def test_gradients_of_rounding_are_those_of_the_papers(shape, low, high, zero):
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(4, 3, 5, 5, generator=generator).contiguous(memory_format=torch.channels_last)
    scale = 0.1 + 0.1 * torch.rand(shape, generator=generator)
    gradient = torch.randn(4, 3, 5, 5, generator=generator)
    given = [x.requires_grad_(), scale.requires_grad_(), torch.full(shape, zero).requires_grad_()]
    Rounded.apply(*given, low, high).backward(gradient)
    steps = x.detach() / scale.detach()
    inside = (steps >= low) & (steps <= high)
    of_scale = gradient * (steps.clamp(low, high).round() - steps * inside)
    of_zero = -gradient * ~inside * scale.detach()
    expected = [gradient * inside, of_scale.sum_to_size(shape), of_zero.sum_to_size(shape)]
    for own, wanted in zip(given, expected, strict=True):
        assert own.grad is not None
        assert torch.allclose(own.grad, wanted, atol=1e-4)


def test_no_gradient_drives_a_weight_further_out():
    steps = torch.tensor([-3.0, -3.0, 0.3, 3.0, 3.0], requires_grad=True)
    value = Through.apply(steps, steps.detach().round().clamp(-1, 1), -1, 1)
    value.backward(torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0]))
    assert steps.grad is not None
    assert steps.grad.tolist() == [0.0, -1.0, 1.0, 1.0, 0.0]


def test_annealed_weights_start_as_they_are_and_grow_steep():
    ladder = Uniform(2).ladder(0, NO_NUMBERS)
    steps = torch.linspace(-1.9, 0.9, 400)
    annealed = ESTIMATORS["annealed"]()
    assert torch.allclose(annealed.value(steps, ladder, 0.0), steps, atol=1e-6)
    half = annealed.value(steps, ladder, 0.35)
    assert bool((half.diff() >= -1e-6).all())
    nearest = ladder.nearest(steps.clone())
    assert float((half == nearest).float().mean()) > 0.4


def test_nested_weights_stay_on_a_lattice_and_are_right_in_the_mean():
    nested = ESTIMATORS.build({"name": "nested", "extra_bits": 3})
    steps, generator = torch.full((100, 400), 0.3), torch.Generator().manual_seed(0)
    kept = nested.kept(steps, generator)
    assert set(kept.unique().tolist()) == {0.25, 0.375}
    assert float(kept.mean()) == pytest.approx(0.3, abs=1e-3)
    assert torch.equal(nested.kept(kept, generator), kept)


def test_what_learns_nested_keeps_codes_of_more_bits():
    model = network()
    quantized = subbyte.quantize(model, IMAGES, "ternary")
    trained = subbyte.trainable(
        quantized, prepare(model, IMAGES), ESTIMATORS.build({"name": "nested", "extra_bits": 5})
    )
    assert torch.equal(trained.eval()(IMAGES), quantized(IMAGES))
    step(trained, model)
    trained.settle(1)
    for layer in quantized.weights:
        assert bool((32 * trained.layer(layer).latent % 1 == 0).all())
    trained.eval()
    assert torch.equal(subbyte.freeze(trained)(IMAGES), trained(IMAGES))


def test_a_loop_of_ones_own():
    model = network()
    quantized = subbyte.quantize(model, IMAGES, "w2")
    trained = subbyte.trainable(quantized)
    sgd = torch.optim.SGD(trained.parameters(), lr=0.05)
    labels = model(IMAGES).argmax(1)
    before = F.cross_entropy(quantized(IMAGES), labels)
    for _ in range(20):
        loss = F.cross_entropy(trained(IMAGES), labels)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
    assert F.cross_entropy(subbyte.freeze(trained)(IMAGES), labels) < 0.9 * before


class Detector(nn.Module):
    """Boxes and scores at every place, from inputs that are named."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.boxes, self.scores = (
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.Conv2d(8, 4, 1),
            nn.Conv2d(8, 3, 1),
        )

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = F.relu(self.body(image))
        return {"boxes": self.boxes(x), "scores": self.scores(x)}


def test_a_detector_learns_by_a_loss_of_its_own():
    torch.manual_seed(1)
    model = Detector().eval()
    quantized = subbyte.quantize(model, IMAGES, "ternary")
    trained = subbyte.trainable(quantized)
    boxes = torch.randn(24, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    classes = (boxes[:, 0] > 0).long()

    def loss(found: dict[str, Tensor]) -> Tensor:
        near = F.smooth_l1_loss(found["boxes"], boxes)
        return near + F.cross_entropy(found["scores"], classes)

    before = float(loss(trained(IMAGES)).detach())
    adam = torch.optim.Adam(trained.parameters(), 0.01)
    for _ in range(30):
        adam.zero_grad()
        loss(trained(IMAGES)).backward()
        adam.step()
    frozen = subbyte.freeze(trained)
    assert float(loss(frozen(IMAGES))) < before - 0.1
    assert all(
        torch.equal(frozen(IMAGES)[k], trained.eval()(IMAGES)[k]) for k in ("boxes", "scores")
    )
    learned = subbyte.tune(frozen, model, IMAGES, {"name": "distill", "steps": 10, "batch": 8})
    assert set(learned(IMAGES)) == {"boxes", "scores"}
