"""The built-in networks by name: what builds them, what they take, how many classes they tell apart
by default.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from subbyte.errors import ModelError
from subbyte.models.cifar_resnet import (
    CifarResNet,
    resnet20,
    resnet32,
    resnet44,
    resnet56,
    resnet110,
)
from subbyte.models.cnn import CNN
from subbyte.models.lenet import lenet
from subbyte.models.mobilenet_v2 import MobileNetV2
from subbyte.models.resnet import ResNet
from subbyte.models.vgg import VGG


@dataclass(frozen=True)
class ModelEntry:
    """A built-in network: how it is called, built and fed, and a line about it.

    network: from the number of classes to the network with random weights. input_shape: C, H, W.
    head: name of the weight of its last layer, a matrix [classes, features]. classes: where nobody
        says how many.
    """

    name: str
    network: Callable[[int], nn.Module]
    input_shape: tuple[int, int, int]
    description: str
    head: str
    classes: int = 10

    def build(self, classes: int | None = None) -> nn.Module:
        """The network with random weights, in training mode. Raises ModelError when `classes` is
        below 1.
        """
        return self.network(self.classes if classes is None else classes)


MNIST, DIGITS, CIFAR, IMAGENET = (1, 28, 28), (1, 8, 8), (3, 32, 32), (3, 224, 224)
FAMILY = "cifar-resnetN"


def _resnet(depth: int, millions: str) -> ModelEntry:
    text = f"ResNet-{depth} for ImageNet, {millions} million parameters"
    return ModelEntry(f"resnet{depth}", partial(ResNet, depth), IMAGENET, text, "fc.weight", 1000)


def _resnet_cifar(depth: int, millions: str) -> ModelEntry:
    text = f"ResNet-{depth} with a small stem for CIFAR, {millions} million parameters"
    return ModelEntry(
        f"resnet{depth}-cifar", partial(ResNet, depth, cifar=True), CIFAR, text, "fc.weight"
    )


def _vgg(depth: int, millions: str) -> ModelEntry:
    text = f"VGG-{depth} with batch-norm for ImageNet, {millions} million parameters"
    return ModelEntry(
        f"vgg{depth}_bn", partial(VGG, depth), IMAGENET, text, "classifier.6.weight", 1000
    )


def _vgg_cifar(depth: int, millions: str) -> ModelEntry:
    text = (
        f"VGG-{depth} with batch-norm and one linear layer for CIFAR, {millions} million parameters"
    )
    return ModelEntry(
        f"vgg{depth}_bn-cifar", partial(VGG, depth, cifar=True), CIFAR, text, "classifier.weight"
    )


def _cifar_resnet(name: str, network: Callable[[int], nn.Module], millions: str) -> ModelEntry:
    return ModelEntry(
        name, network, CIFAR, f"ResNet for CIFAR-10, {millions} million parameters", "linear.weight"
    )


_ENTRIES = (
    ModelEntry(
        "lenet",
        partial(lenet, 1, 28),
        MNIST,
        "LeNet-5 for MNIST, 62 thousand parameters",
        "fc3.weight",
    ),
    ModelEntry(
        "lenet-digits",
        partial(lenet, 1, 8),
        DIGITS,
        "LeNet for scikit-learn's digits",
        "fc3.weight",
    ),
    ModelEntry(
        "cnn", CNN, MNIST, "Two convolutions for MNIST, 50 thousand parameters", "fc.weight"
    ),
    _cifar_resnet("resnet20", resnet20, "0.27"),
    _cifar_resnet("resnet32", resnet32, "0.46"),
    _cifar_resnet("resnet44", resnet44, "0.66"),
    _cifar_resnet("resnet56", resnet56, "0.85"),
    _cifar_resnet("resnet110", resnet110, "1.7"),
    _resnet(18, "11.7"),
    _resnet(34, "21.8"),
    _resnet(50, "25.6"),
    _resnet_cifar(18, "11.2"),
    _resnet_cifar(34, "21.3"),
    _resnet_cifar(50, "23.5"),
    _vgg(11, "133"),
    _vgg(13, "133"),
    _vgg(16, "138"),
    _vgg(19, "144"),
    _vgg_cifar(11, "9.2"),
    _vgg_cifar(13, "9.4"),
    _vgg_cifar(16, "14.7"),
    _vgg_cifar(19, "20.0"),
    ModelEntry(
        "mobilenet_v2",
        MobileNetV2,
        IMAGENET,
        "MobileNetV2 for ImageNet, 3.5 million parameters",
        "classifier.1.weight",
        1000,
    ),
    ModelEntry(
        "mobilenet_v2-cifar",
        partial(MobileNetV2, cifar=True),
        CIFAR,
        "MobileNetV2 with small strides for CIFAR, 2.2 million parameters",
        "classifier.1.weight",
    ),
)
MODELS: dict[str, ModelEntry] = {entry.name: entry for entry in _ENTRIES}
"""The built-in networks that have a name of their own; the family cifar-resnetN has no end."""


def find_entry(spec: str) -> ModelEntry | None:
    """The built-in network that `spec` names, a key of MODELS or cifar-resnetN; None when it names
    none.

    N is the number of layers, 6n + 2. Raises ModelError when it is another number.
    """
    match = re.fullmatch(r"cifar-resnet([0-9]+)", spec)
    if match is None:
        return MODELS.get(spec)
    depth = int(match[1])
    if depth < 8 or depth % 6 != 2:
        raise ModelError(
            f"there is no network {spec!r}: the N of {FAMILY} is 6n + 2 with n from 1 on: 8, 14, "
            f"20, 26 and so on"
        )
    text = f"ResNet of {depth} layers for CIFAR-10"
    return ModelEntry(spec, partial(CifarResNet, depth // 6), CIFAR, text, "linear.weight")


def input_shape(spec: str) -> tuple[int, int, int] | None:
    """Channels, height and width of a built-in network's images; None for any other network.

    Raises ModelError for cifar-resnetN when N is not 6n + 2.
    """
    entry = find_entry(spec)
    return None if entry is None else entry.input_shape
