"""The built-in networks by name: what builds them, what they take, how many classes they tell apart
by default.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from subbyte.errors import ModelError
from subbyte.models.cifar_resnet import CifarResNet, Shortcut
from subbyte.models.cnn import CNN
from subbyte.models.lenet import LeNet
from subbyte.models.mobilenet_v2 import MobileNetV2
from subbyte.models.resnet import ResNet, Stem
from subbyte.models.vgg import VGG

Shape = tuple[int, int, int]
"""Channels, height and width of images."""
Renames = tuple[tuple[str, str], ...]
"""Patterns (regular expressions) of parameters' names in the files of others, and ours."""


@dataclass(frozen=True)
class ModelEntry:
    """A built-in network: how it is called, built and fed, and a line about it.

    network: from the number of classes and the shape of images to the network with random weights.
        input_shape: where nobody knows it.
    head: name of the weight of its last layer, a matrix [classes, features]. classes: where nobody
        says how many. renames: what others call its parameters. alike: the name of a network with
        the same parameters that computes something else, if there is one. sure: the number of
        classes by which weights are known to be of this one all the same.
    """

    name: str
    network: Callable[[int, Shape], nn.Module]
    input_shape: Shape
    description: str
    head: str
    classes: int = 10
    renames: Renames = ()
    alike: str = ""
    sure: int | None = None

    def build(self, classes: int | None = None, shape: Shape | None = None) -> nn.Module:
        """The network with random weights, in training mode, for so many classes and images of a
        shape. Raises ModelError when it does not exist for these.
        """
        return self.network(
            self.classes if classes is None else classes,
            self.input_shape if shape is None else shape,
        )


MNIST, DIGITS, CIFAR, IMAGENET = (1, 28, 28), (1, 8, 8), (3, 32, 32), (3, 224, 224)
FAMILY = "cifar-resnetN"
_DIGITS = "lenet-digits"
_KUANGLIU = ((r"\bshortcut\.", "downsample."), (r"\blinear\.", "fc."))
_QSGD_RESNET = (
    *((rf"\blayers_{2 * k}n\.", f"layer{k}.") for k in (1, 2, 3)),
    (r"\bfc_out\.", "linear."),
)
_QSGD_LENET = (
    *((rf"\bLayerFeature\.{k}\.", f"conv{1 + k // 3}.") for k in (0, 3)),
    *((rf"\bLayerClassify\.{k}\.", f"fc{1 + k // 2}.") for k in (0, 2, 4)),
)
_QSGD_CNN = tuple((rf"\blayer{k}\.0\.", f"conv{k}.") for k in (1, 2))


def _lenet(name: str, shape: Shape, description: str, *, relu: bool = False) -> ModelEntry:
    def build(classes: int, shape: Shape) -> nn.Module:
        side = _side(name, shape)
        if name == _DIGITS and side != DIGITS[1]:
            raise ModelError(
                f"{name} takes images of {DIGITS[1]} x {DIGITS[1]} pixels, and these are {side} x "
                f"{side}; take lenet, which takes all sizes"
            )
        return LeNet(shape[0], side, classes, relu=relu)

    renames = _QSGD_LENET if relu else ()
    return ModelEntry(name, build, shape, description, "fc3.weight", renames=renames)


def _cnn(classes: int, shape: Shape) -> nn.Module:
    return CNN(classes, channels=shape[0], size=_side("cnn", shape))


def _side(name: str, shape: Shape) -> int:
    """The side of square images."""
    _, height, width = shape
    if height != width:
        raise ModelError(
            f"{name} takes square images, and these are {height} x {width} pixels (height x "
            f"width); give --resize N --crop N"
        )
    return height


def _resnet(depth: int, millions: str) -> ModelEntry:
    text = f"ResNet-{depth} for ImageNet, {millions} million parameters"
    return ModelEntry(
        f"resnet{depth}",
        lambda classes, shape: ResNet(depth, classes, channels=shape[0]),
        IMAGENET,
        text,
        "fc.weight",
        1000,
    )


def _resnet_cifar(depth: int, millions: str, stem: Stem) -> ModelEntry:
    names = [f"resnet{depth}-cifar", f"resnet{depth}-cifar-maxpool"]
    name, other = names if stem is Stem.CIFAR else reversed(names)
    kind = "small stem" if stem is Stem.CIFAR else "small stem that keeps the max pool"
    return ModelEntry(
        name,
        lambda classes, shape: ResNet(depth, classes, stem=stem, channels=shape[0]),
        CIFAR,
        f"ResNet-{depth} with a {kind} for CIFAR, {millions} million parameters",
        "fc.weight",
        renames=_KUANGLIU if stem is Stem.CIFAR else (),
        alike=other,
    )


def _vgg(depth: int, millions: str) -> ModelEntry:
    text = f"VGG-{depth} with batch-norm for ImageNet, {millions} million parameters"
    return ModelEntry(
        f"vgg{depth}_bn",
        lambda classes, shape: VGG(depth, classes, channels=shape[0]),
        IMAGENET,
        text,
        "classifier.6.weight",
        1000,
    )


def _vgg_cifar(depth: int, millions: str) -> ModelEntry:
    name = f"vgg{depth}_bn-cifar"

    def build(classes: int, shape: Shape) -> nn.Module:
        if shape[1] // 32 != 1 or shape[2] // 32 != 1:
            raise ModelError(
                f"{name} takes images of 32 x 32 pixels, and these are {shape[1]} x {shape[2]}; "
                f"give --resize 32 --crop 32, or take vgg{depth}_bn"
            )
        return VGG(depth, classes, cifar=True, channels=shape[0])

    text = (
        f"VGG-{depth} with batch-norm and one linear layer for CIFAR, {millions} million parameters"
    )
    return ModelEntry(name, build, CIFAR, text, "classifier.weight")


def _vgg_cifar_mlp(depth: int, millions: str) -> ModelEntry:
    text = (
        f"VGG-{depth} with batch-norm and three linear layers for CIFAR, {millions} million "
        f"parameters"
    )
    return ModelEntry(
        f"vgg{depth}_bn-cifar-mlp",
        lambda classes, shape: VGG(depth, classes, channels=shape[0]),
        CIFAR,
        text,
        "classifier.6.weight",
    )


ENDINGS: dict[str, tuple[Shortcut, str, Renames]] = {
    "": (Shortcut.AROUND, "", ()),
    "-conv": (
        Shortcut.CONVOLUTION,
        " with convolutional shortcuts",
        ((r"\bfc\.", "linear."), (r"\bshortcut\.", "downsample.")),
    ),
    "-after": (Shortcut.AFTER, " whose shortcuts pad zeros after the channels", _QSGD_RESNET),
}
"""Kinds of CIFAR-10's own ResNets by the ending of their names."""


def _cifar_resnet(depth: int, ending: str = "", millions: str = "") -> ModelEntry:
    """One with a name of its own where the millions of its parameters are given, else of the
    family.
    """
    shortcut, text, renames = ENDINGS[ending]
    name, length = ("resnet", "") if millions else ("cifar-resnet", f" of {depth} layers")
    size = f", {millions} million parameters" if millions else ""
    return ModelEntry(
        f"{name}{depth}{ending}",
        lambda classes, shape: CifarResNet(
            depth // 6, classes, shortcut=shortcut, channels=shape[0]
        ),
        CIFAR,
        f"ResNet{length} for CIFAR-10{text}{size}",
        "linear.weight",
        renames=renames,
    )


def _mobilenet(name: str, shape: Shape, classes: int, other: str, text: str) -> ModelEntry:
    cifar = shape == CIFAR
    return ModelEntry(
        name,
        lambda classes, shape: MobileNetV2(classes, cifar=cifar, channels=shape[0]),
        shape,
        text,
        "classifier.1.weight",
        classes,
        alike=other,
        sure=classes,
    )


_ENTRIES = (
    _lenet("lenet", MNIST, "LeNet-5 for MNIST, 62 thousand parameters"),
    _lenet(_DIGITS, DIGITS, "LeNet for scikit-learn's digits"),
    _lenet(
        "lenet-relu",
        CIFAR,
        "LeNet-5 with a ReLU after all layers, 62 thousand parameters",
        relu=True,
    ),
    ModelEntry(
        "cnn",
        _cnn,
        MNIST,
        "Two convolutions for MNIST, 50 thousand parameters",
        "fc.weight",
        renames=_QSGD_CNN,
    ),
    _cifar_resnet(20, "", "0.27"),
    _cifar_resnet(32, "", "0.46"),
    _cifar_resnet(44, "", "0.66"),
    _cifar_resnet(56, "", "0.85"),
    _cifar_resnet(110, "", "1.7"),
    _cifar_resnet(20, "-conv", "0.27"),
    _cifar_resnet(32, "-conv", "0.47"),
    _cifar_resnet(56, "-conv", "0.86"),
    _cifar_resnet(32, "-after", "0.46"),
    _resnet(18, "11.7"),
    _resnet(34, "21.8"),
    _resnet(50, "25.6"),
    *(
        _resnet_cifar(depth, millions, stem)
        for stem in (Stem.CIFAR, Stem.CIFAR_POOL)
        for depth, millions in ((18, "11.2"), (34, "21.3"), (50, "23.5"))
    ),
    _vgg(11, "133"),
    _vgg(13, "133"),
    _vgg(16, "138"),
    _vgg(19, "144"),
    _vgg_cifar(11, "9.2"),
    _vgg_cifar(13, "9.4"),
    _vgg_cifar(16, "14.7"),
    _vgg_cifar(19, "20.0"),
    _vgg_cifar_mlp(11, "129"),
    _vgg_cifar_mlp(13, "129"),
    _vgg_cifar_mlp(16, "134"),
    _vgg_cifar_mlp(19, "140"),
    _mobilenet(
        "mobilenet_v2",
        IMAGENET,
        1000,
        "mobilenet_v2-cifar",
        "MobileNetV2 for ImageNet, 3.5 million parameters",
    ),
    _mobilenet(
        "mobilenet_v2-cifar",
        CIFAR,
        10,
        "mobilenet_v2",
        "MobileNetV2 with small strides for CIFAR, 2.2 million parameters",
    ),
)
MODELS: dict[str, ModelEntry] = {entry.name: entry for entry in _ENTRIES}
"""The built-in networks that have a name of their own; the family cifar-resnetN has no end."""


def find_entry(spec: str) -> ModelEntry | None:
    """The built-in network that `spec` names: a key of MODELS, or cifar-resnetN, alone or with an
    ending for its shortcuts, -conv or -after; None when it names none.

    N is the number of layers, 6n + 2. Raises ModelError when it is another number.
    """
    match = re.fullmatch(rf"cifar-resnet([0-9]+)({'|'.join(ENDINGS)})", spec)
    if match is None:
        return MODELS.get(spec)
    depth = int(match[1])
    if depth < 8 or depth % 6 != 2:
        raise ModelError(
            f"there is no network {spec!r}: the N of {FAMILY} is 6n + 2 with n from 1 on: 8, 14, "
            f"20, 26 and so on"
        )
    return _cifar_resnet(depth, match[2])


def input_shape(spec: str) -> Shape | None:
    """Channels, height and width of a built-in network's images, where nothing says otherwise; None
    for any other network.

    Raises ModelError for cifar-resnetN when N is not 6n + 2.
    """
    entry = find_entry(spec)
    return None if entry is None else entry.input_shape
