"""The CIFAR ResNets: depth and size by the paper, the block by hand, third-party weights on real
images.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from subbyte import models
from subbyte.data import load_data
from subbyte.engine.evaluation import evaluate
from subbyte.errors import ModelError
from subbyte.models.cifar_resnet import BasicBlock

PAPER = {
    20: 0.27,
    32: 0.46,
    44: 0.66,
    56: 0.85,
    110: 1.7,
}  # depth -> millions of parameters, table 6 of the paper


@pytest.mark.parametrize("depth", PAPER)
def test_depth_and_size_are_the_papers(depth):
    model = getattr(models, f"resnet{depth}")()
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth  # so there is no convolution in a shortcut
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(
        PAPER[depth], abs=0.031 if depth > 99 else 0.006
    )


def test_names_and_stages():
    model = models.resnet20()
    names = list(model.state_dict())
    assert names[0] == "conv1.weight" and names[-1] == "linear.bias"
    assert {
        "bn1.running_mean",
        "layer1.0.conv1.weight",
        "layer3.2.bn2.bias",
        "layer2.0.conv2.weight",
    } <= set(names)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in model.named_children():
        module.register_forward_hook(
            lambda _m, _i, out, name=name: shapes.update({name: tuple(out.shape)})
        )
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert shapes["layer1"] == (2, 16, 32, 32)
    assert shapes["layer2"] == (2, 32, 16, 16)
    assert shapes["layer3"] == (2, 64, 8, 8)


def test_the_shortcut_subsamples_and_pads_channels_on_both_sides():
    x = np.random.RandomState(0).randn(2, 16, 6, 6).astype(np.float32)
    wanted = np.zeros((2, 32, 3, 3), np.float32)
    wanted[:, 8:24] = x[:, :, ::2, ::2]
    assert np.array_equal(BasicBlock(16, 32, 2).shortcut(torch.from_numpy(x)).numpy(), wanted)
    wanted[:] = 0
    wanted[:, :16] = x[:, :, ::2, ::2]
    after = BasicBlock(16, 32, 2, around=False)
    assert np.array_equal(after.shortcut(torch.from_numpy(x)).numpy(), wanted)
    assert np.array_equal(BasicBlock(16, 16, 1).shortcut(torch.from_numpy(x)).numpy(), x)


@pytest.mark.parametrize(("width", "stride"), [(4, 1), (8, 2)])
def test_a_block_is_the_papers_formula(width, stride):
    torch.manual_seed(0)
    block = BasicBlock(4, width, stride)
    for bn in (block.bn1, block.bn2):
        bn.running_mean.uniform_(-1, 1)
        bn.running_var.uniform_(0.5, 2)
    block.eval()
    x = torch.randn(2, 4, 6, 6)

    def norm(bn: nn.BatchNorm2d, y: torch.Tensor) -> torch.Tensor:
        mean, var = bn.running_mean.view(-1, 1, 1), bn.running_var.view(-1, 1, 1)
        return (y - mean) / torch.sqrt(var + 1e-5)

    y = norm(block.bn1, torch.conv2d(x, block.conv1.weight, stride=stride, padding=1)).clamp(min=0)
    y = norm(block.bn2, torch.conv2d(y, block.conv2.weight, padding=1))
    assert torch.allclose(block(x), (y + block.shortcut(x)).clamp(min=0), atol=1e-5)


def test_the_head_averages_over_all_pixels():
    model = models.resnet20().eval()
    maps: list[torch.Tensor] = []
    model.layer3.register_forward_hook(lambda _m, _i, out: maps.append(out))
    logits = model(torch.rand(2, 3, 32, 32))
    pooled = maps[0].flatten(2).sum(-1) / 64
    assert torch.allclose(logits, pooled @ model.linear.weight.T + model.linear.bias, atol=1e-5)


@pytest.mark.parametrize("arguments", [(0, 10), (3, 0)])
def test_impossible_networks_are_refused(arguments):
    with pytest.raises(ModelError, match="at least 1"):
        models.CifarResNet(*arguments)


@pytest.mark.parametrize(
    ("name", "file"), [("resnet20", "resnet20-12fca82f.th"), ("resnet44", "resnet44-014dd654.th")]
)
def test_third_party_weights_classify_real_images(real_data: Path, name: str, file: str):
    model = models.load_model(name, real_data / "weights" / file)
    data = load_data(f"cifar10:{real_data}", normalize="imagenet")
    accuracy = evaluate(model, data.test.take(range(500))).accuracy
    assert accuracy.top1 > 88 and accuracy.top5 > 99 and accuracy.count == 500
