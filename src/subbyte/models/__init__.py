"""Networks by name, and their weights."""

from subbyte.models.cifar_resnet import CifarResNet, resnet20, resnet32, resnet44, resnet56, resnet110
from subbyte.models.lenet import LeNet, lenet
from subbyte.models.load import MODELS, ModelEntry, input_shape, load_model
from subbyte.models.weights import load_weights

__all__ = [
    "MODELS",
    "CifarResNet",
    "LeNet",
    "ModelEntry",
    "input_shape",
    "lenet",
    "load_model",
    "load_weights",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
]
