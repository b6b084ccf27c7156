"""Checkpoints of other programs' networks for CIFAR-10 and MNIST: each loads under its own names,
or the error says under which.
"""

import logging

import pytest
import torch
from torch import Tensor, nn

from subbyte.errors import ModelError
from subbyte.graph import prepare
from subbyte.models import MODELS, load_model, new_model
from subbyte.models.built_in import find_entry

CIFAR, MNIST = (3, 32, 32), (1, 28, 28)


def norm(name: str, channels: int) -> dict[str, Tensor]:
    parts = ("weight", "bias", "running_mean", "running_var")
    own = {f"{name}.{part}": 1 + torch.rand(channels) for part in parts}
    return own | {f"{name}.num_batches_tracked": torch.tensor(5)}


def linear(name: str, rows: int, columns: int) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.randn(rows, columns), f"{name}.bias": torch.randn(rows)}


def conv(name: str, *sizes: int, bias: bool = False) -> dict[str, Tensor]:
    own = {f"{name}.weight": torch.randn(sizes) / 10}
    return own | ({f"{name}.bias": torch.randn(sizes[0])} if bias else {})


def resnet(blocks: int, stages: list[str], widths: list[int], head: str, beside: str = ""):
    """The state of a ResNet of basic blocks with a 3x3 stem. beside: what its shortcuts are called
    where they have parameters.
    """
    state, before = conv("conv1", widths[0], 3, 3, 3) | norm("bn1", widths[0]), widths[0]
    for stage, width in zip(stages, widths, strict=True):
        for block in range(blocks):
            name = f"{stage}.{block}"
            state |= conv(f"{name}.conv1", width, before, 3, 3) | norm(f"{name}.bn1", width)
            state |= conv(f"{name}.conv2", width, width, 3, 3) | norm(f"{name}.bn2", width)
            if beside and before != width:
                state |= conv(f"{name}.{beside}.0", width, before, 1, 1)
                state |= norm(f"{name}.{beside}.1", width)
            before = width
    return state | linear(head, 10, widths[-1])


STAGES, SMALL, LARGE = [f"layer{k}" for k in (1, 2, 3, 4)], [16, 32, 64], [64, 128, 256, 512]
TWO_N = ["layers_2n", "layers_4n", "layers_6n"]
LENET = conv("LayerFeature.0", 6, 3, 5, 5, bias=True) | conv(
    "LayerFeature.3", 16, 6, 5, 5, bias=True
)
LENET |= linear("LayerClassify.0", 120, 400) | linear("LayerClassify.2", 84, 120)
LENET |= linear("LayerClassify.4", 10, 84)
CNN = conv("layer1.0", 32, 1, 3, 3, bias=True) | conv("layer2.0", 64, 32, 3, 3, bias=True)
CNN |= linear("fc", 10, 3136)
FILES = {
    "QSGD's ResNet-32": (resnet(5, TWO_N, SMALL, "fc_out"), ["resnet32-after"], "resnet32"),
    "QSGD's ResNet-14": (resnet(2, TWO_N, SMALL, "fc_out"), ["cifar-resnet14-after"], "resnet20"),
    "QSGD's LeNet": (LENET, ["lenet-relu"], "lenet"),
    "QSGD's CNN": (CNN, ["cnn"], "lenet"),
    "L-DNQ's ResNet-20": (
        resnet(3, STAGES[:3], SMALL, "fc", "downsample"),
        ["resnet20-conv"],
        "resnet20",
    ),
    "L-DNQ's ResNet-56": (
        resnet(9, STAGES[:3], SMALL, "fc", "downsample"),
        ["resnet56-conv"],
        "resnet56",
    ),
    "option B": (resnet(5, STAGES[:3], SMALL, "linear", "shortcut"), ["resnet32-conv"], "resnet32"),
    "GradQuant's and GPFQ's ResNet-18": (
        resnet(2, STAGES, LARGE, "fc", "downsample"),
        ["resnet18-cifar", "resnet18-cifar-maxpool"],
        "resnet20",
    ),
    "kuangliu's ResNet-18": (
        resnet(2, STAGES, LARGE, "linear", "shortcut"),
        ["resnet18-cifar"],
        "cnn",
    ),
}


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("case", FILES)
def test_they_load_by_their_names_and_others_lead_to_these(case, parallel, tmp_path):
    state, names, wrong = FILES[case]
    kept = {f"module.{name}": tensor for name, tensor in state.items()} if parallel else state
    torch.save(kept, tmp_path / "w.pth")
    for name in names:
        model = load_model(name, tmp_path / "w.pth")
        loaded = list(model.state_dict().values())
        assert len(loaded) == len(state)
        assert all(
            torch.equal(own, wanted) for own, wanted in zip(loaded, state.values(), strict=True)
        )
        entry = find_entry(name)
        assert entry is not None
        assert model(torch.rand(2, *entry.input_shape)).isfinite().all()
    shapes = [find_entry(name).input_shape for name in names]
    fits = [f"{n} (images {'x'.join(map(str, s))})" for n, s in zip(names, shapes, strict=True)]
    with pytest.raises(ModelError) as caught:
        load_model(wrong, tmp_path / "w.pth")
    assert all(f in str(caught.value) for f in fits) and "They fit --model" in str(caught.value)


class Reference(nn.Module):
    """QSGD's ResNet-8 in other words: shortcuts are strided slices, with zeros behind."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.state = state

    def norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias, mean, var = (
            self.state[f"{name}.{k}"] for k in ("weight", "bias", "running_mean", "running_var")
        )
        return nn.functional.batch_norm(x, mean, var, weight, bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm("bn1", torch.conv2d(x, self.state["conv1.weight"], padding=1)).relu()
        for stage, stride in zip(TWO_N, (1, 2, 2), strict=True):
            first, second = (self.state[f"{stage}.0.conv{k}.weight"] for k in (1, 2))
            y = torch.conv2d(x, first, stride=stride, padding=1)
            y = torch.conv2d(self.norm(f"{stage}.0.bn1", y).relu(), second, padding=1)
            beside = torch.zeros_like(y)
            beside[:, : x.shape[1]] = x[:, :, ::stride, ::stride]
            x = (self.norm(f"{stage}.0.bn2", y) + beside).relu()
        return x.mean((2, 3)) @ self.state["fc_out.weight"].T + self.state["fc_out.bias"]


def test_qsgds_resnet_computes_what_it_computed(tmp_path):
    torch.manual_seed(0)
    state = resnet(1, TWO_N, SMALL, "fc_out")
    torch.save(state, tmp_path / "w.pth")
    images = torch.randn(3, *CIFAR)
    wanted = Reference(state)(images)
    model = load_model("cifar-resnet8-after", tmp_path / "w.pth")
    torch.testing.assert_close(model(images), wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_stems_that_a_file_does_not_tell_apart_are_named(depth, tmp_path, caplog):
    name = f"resnet{depth}-cifar"
    with torch.device("meta"):
        states = [new_model(own).state_dict() for own in (name, f"{name}-maxpool")]
    assert {k: v.shape for k, v in states[0].items()} == {k: v.shape for k, v in states[1].items()}
    if depth == 18:
        torch.save(new_model(name).state_dict(), tmp_path / "w.pth")
        logits = []
        for own in (name, f"{name}-maxpool"):
            caplog.clear()
            with caplog.at_level(logging.WARNING, "subbyte"):
                logits.append(load_model(own, tmp_path / "w.pth")(torch.ones(1, *CIFAR)))
            (message,) = caplog.messages
            assert name in message and f"{name}-maxpool" in message and "alike" in message
        assert not torch.allclose(*logits)


def test_strides_of_mobilenet_are_told_by_the_classes_alone(tmp_path, caplog):
    for classes, warned in ((1000, "mobilenet_v2-cifar"), (10, "mobilenet_v2"), (7, "both")):
        torch.save(new_model("mobilenet_v2", classes).state_dict(), tmp_path / "w.pth")
        for name in ("mobilenet_v2", "mobilenet_v2-cifar"):
            caplog.clear()
            with caplog.at_level(logging.WARNING, "subbyte"):
                load_model(name, tmp_path / "w.pth")
            assert bool(caplog.messages) == (warned in (name, "both"))


SEEDS = [
    *((name, CIFAR) for name in MODELS if not name.startswith("lenet-digits")),
    *((name, MNIST) for name in ("cnn", "lenet", "lenet-relu", "resnet20", "resnet32-after")),
    *((f"resnet{depth}{end}", MNIST) for depth in (18, 50) for end in ("", "-cifar-maxpool")),
    *((name, (1, 8, 8)) for name in ("lenet", "lenet-digits", "cnn", "resnet20")),
    *((name, (3, 224, 224)) for name in ("resnet18", "vgg16_bn", "mobilenet_v2", "resnet20")),
    *((name, (3, 32, 32)) for name in ("cifar-resnet8", "cifar-resnet8-conv")),
]
"""Every pair of a network and data that a command of the five programs has, and more."""


@pytest.mark.parametrize(("name", "shape"), SEEDS)
def test_channels_and_size_follow_the_data(name, shape):
    with torch.device("meta"):
        model = new_model(name, 10, shape)
        assert model(torch.empty(2, *shape)).shape == (2, 10)


CAPTURED = [
    *((name, shape) for name in ("lenet", "lenet-relu", "cnn") for shape in (CIFAR, MNIST)),
    *((name, CIFAR) for name in ("resnet20-conv", "resnet32-after", "resnet18", "resnet50")),
    *((name, CIFAR) for name in ("resnet50-cifar-maxpool", "vgg11_bn-cifar-mlp")),
    *((name, MNIST) for name in ("resnet20", "resnet18-cifar-maxpool")),
]
"""A network of each kind with the data of its program."""


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        pytest.param(*pair, marks=[] if pair in CAPTURED[:6] else pytest.mark.slow)
        for pair in CAPTURED
    ],
)
def test_every_kind_can_be_captured(name, shape):
    model = new_model(name, 10, shape)
    images = torch.rand(2, *shape)
    with torch.no_grad():
        found, wanted = prepare(model, images).graph_module(images), model(images)
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-3


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("lenet", (1, 28, 32), r"lenet takes square images, and these are 28 x 32"),
        ("lenet-digits", MNIST, r"images of 8 x 8 pixels, and these are 28 x 28; take lenet"),
        ("lenet", (1, 3, 3), r"size must be at least 4 pixels"),
        ("cnn", (1, 3, 3), r"size 4 pixels"),
        ("vgg16_bn-cifar", MNIST, r"32 x 32 pixels, and these are 28 x 28.*or take vgg16_bn"),
    ],
)
def test_images_that_a_network_cannot_take_are_refused(name, shape, message):
    with pytest.raises(ModelError, match=message):
        new_model(name, 10, shape)
