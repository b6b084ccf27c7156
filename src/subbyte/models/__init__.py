"""Networks by name, and their weights."""

from subbyte.models.built_in import MODELS, ModelEntry, input_shape
from subbyte.models.cifar_resnet import (
    CifarResNet,
    resnet20,
    resnet32,
    resnet44,
    resnet56,
    resnet110,
)
from subbyte.models.cnn import CNN
from subbyte.models.lenet import LeNet, lenet
from subbyte.models.load import load_model, new_model
from subbyte.models.mobilenet_v2 import MobileNetV2
from subbyte.models.resnet import ResNet
from subbyte.models.vgg import VGG
from subbyte.models.weights import load_weights, pretrained, weights_file

__all__ = [
    "CNN",
    "MODELS",
    "VGG",
    "CifarResNet",
    "LeNet",
    "MobileNetV2",
    "ModelEntry",
    "ResNet",
    "input_shape",
    "lenet",
    "load_model",
    "load_weights",
    "new_model",
    "pretrained",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "weights_file",
]
