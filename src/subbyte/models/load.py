"""Networks by name: built in, from torchvision or timm, or the user's own; always in eval mode."""

import difflib
import importlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from subbyte.errors import ModelError
from subbyte.models.cifar_resnet import resnet20, resnet32, resnet44, resnet56, resnet110
from subbyte.models.lenet import lenet
from subbyte.models.user_file import call_user_file, split_spec
from subbyte.models.weights import load_weights

log = logging.getLogger("subbyte")


@dataclass(frozen=True)
class ModelEntry:
    """A built-in network: how it is called, built and fed (input_shape is C, H, W), and a line about it."""

    name: str
    build: Callable[[], nn.Module]
    input_shape: tuple[int, int, int]
    description: str


def _lenet_digits() -> nn.Module:
    return lenet(channels=1, size=8)


MODELS: dict[str, ModelEntry] = {
    "lenet": ModelEntry("lenet", lenet, (1, 28, 28), "LeNet-5 for MNIST, 62 thousand parameters"),
    "lenet-digits": ModelEntry("lenet-digits", _lenet_digits, (1, 8, 8), "LeNet for scikit-learn's digits"),
    "resnet20": ModelEntry("resnet20", resnet20, (3, 32, 32), "ResNet for CIFAR-10, 0.27 million parameters"),
    "resnet32": ModelEntry("resnet32", resnet32, (3, 32, 32), "ResNet for CIFAR-10, 0.46 million parameters"),
    "resnet44": ModelEntry("resnet44", resnet44, (3, 32, 32), "ResNet for CIFAR-10, 0.66 million parameters"),
    "resnet56": ModelEntry("resnet56", resnet56, (3, 32, 32), "ResNet for CIFAR-10, 0.85 million parameters"),
    "resnet110": ModelEntry("resnet110", resnet110, (3, 32, 32), "ResNet for CIFAR-10, 1.7 million parameters"),
}


def load_model(spec: str, weights: str | Path | None = None) -> nn.Module:
    """Build the network that `spec` names, with its weights, in eval mode on the CPU.

    spec: a key of MODELS, `torchvision:NAME`, `timm:NAME`, or `path/file.py:callable`, where the callable
        takes no arguments and returns an nn.Module. torchvision and timm fetch pretrained weights when
        `weights` is None.
    weights: a file for `load_weights`. Without it a built-in network has random weights, which is logged.
    Raises ModelError when there is no such network, or it or its weights cannot be had; NumericsError as
    load_weights.
    """
    user = split_spec(spec)
    library, colon, name = spec.partition(":")
    if user is not None:
        model = _from_user(*user)
    elif colon and library in LIBRARIES:
        model = LIBRARIES[library](spec, name, weights is None)
    elif spec in MODELS:
        model = MODELS[spec].build()
        if weights is None:
            log.warning("network %s has random weights, as none were given", spec)
    else:
        raise ModelError(_unknown(spec, spec, MODELS))
    if weights is not None:
        load_weights(model, weights)
    return model.eval()


def input_shape(spec: str) -> tuple[int, int, int] | None:
    """Channels, height and width of a built-in network's images; None for any other network."""
    return MODELS[spec].input_shape if spec in MODELS else None


def _from_user(path: Path, name: str) -> nn.Module:
    model = call_user_file(path, name, ModelError)
    if not isinstance(model, nn.Module):
        raise ModelError(f"{path}: {name}() returned a {type(model).__name__}; it must return a torch.nn.Module")
    return model


def _from_torchvision(spec: str, name: str, pretrained: bool) -> nn.Module:
    models = _import("torchvision.models", spec)
    known = list(models.list_models())
    if name not in known:
        raise ModelError(_unknown(spec, name, known))
    try:
        model: nn.Module = models.get_model(name, weights="DEFAULT" if pretrained else None)
    except Exception as reason:  # downloads fail in many ways
        raise ModelError(_failed(spec, pretrained, reason)) from reason
    return model


def _from_timm(spec: str, name: str, pretrained: bool) -> nn.Module:
    timm = _import("timm", spec)
    if not timm.is_model(name):
        raise ModelError(_unknown(spec, name, timm.list_models()))
    try:
        model: nn.Module = timm.create_model(name, pretrained=pretrained)
    except Exception as reason:  # downloads fail in many ways
        raise ModelError(_failed(spec, pretrained, reason)) from reason
    return model


LIBRARIES: dict[str, Callable[[str, str, bool], nn.Module]] = {
    "torchvision": _from_torchvision,
    "timm": _from_timm,
}


def _import(module: str, spec: str) -> Any:
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError) as reason:  # RuntimeError: torchvision built for another torch
        raise ModelError(
            f"network {spec!r} needs {module.partition('.')[0]}, which cannot be imported ({reason}); "
            "install it with: pip install 'subbyte[vision]'"
        ) from reason


def _failed(spec: str, pretrained: bool, reason: Exception) -> str:
    advice = "; without internet, give the weights as a file (--weights)" if pretrained else ""
    what = "with its pretrained weights" if pretrained else "without weights"
    return f"network {spec!r} could not be built {what} ({type(reason).__name__}: {reason}){advice}"


def _unknown(spec: str, name: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f", did you mean {' or '.join(near)}?" if near else "."
    if spec == name:
        valid = f"{', '.join(known)}, torchvision:NAME, timm:NAME, path/file.py:callable"
    else:
        valid = f"the {len(known)} that list_models() of {spec.partition(':')[0]} lists"
    return f"there is no network {spec!r}{hint} Valid names: {valid}"
