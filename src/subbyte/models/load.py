"""Networks by name: built in, from torchvision or timm, or the user's own; always in eval mode."""

import difflib
import importlib
import inspect
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from subbyte.errors import ModelError
from subbyte.io.user_file import call_user_file, split_spec
from subbyte.models.built_in import FAMILY, MODELS, ModelEntry, Shape, find_entry
from subbyte.models.exported import SUFFIX, read_program
from subbyte.models.weights import built_with, load_weights

log = logging.getLogger("subbyte")


def load_model(
    spec: str,
    weights: str | Path | None = None,
    classes: int | None = None,
    shape: Shape | None = None,
) -> nn.Module:
    """Build the network that `spec` names, with its weights, in eval mode on the CPU.

    spec: a key of MODELS, `cifar-resnetN` with N = 6n + 2 (and -conv or -after for its shortcuts),
        `torchvision:NAME`, `timm:NAME`, `path/file.py:callable`, where the callable takes no
        arguments and returns an nn.Module, or `path/net.pt2`, an exported program. torchvision and
        timm fetch pretrained weights when `weights` is None.
    weights: a file for `load_weights`, or `builtin:NAME`. Without it a built-in network has random
        weights, which is logged. Whatever torch draws while a network is built is the same each
        time, and takes nothing from its generator.
    classes: number of logits of a built-in network; ignored for any other. None: as many as the
        weights are for, or the network's own number without weights.
    shape: channels, height and width of the images that a built-in network is for; ignored for any
        other. None: its own.
    Raises ModelError when there is no such network, or it or its weights cannot be had;
    NumericsError as
    load_weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        entry = find_entry(spec)
        if entry is not None:
            return _built_in(entry, weights, classes, shape).eval()
        model = _not_built_in(spec, pretrained=weights is None)
    if weights is not None:
        load_weights(model, weights)
    return model


def new_model(spec: str, classes: int | None = None, shape: Shape | None = None) -> nn.Module:
    """Build a network whose weights do not matter, to train from nothing or to take those of a
    packed file: as `load_model` without weights, without a word about it, and without fetching any.
    """
    entry = find_entry(spec)
    if entry is not None:
        return entry.build(classes, shape).eval()
    return _not_built_in(spec, pretrained=False)


def _not_built_in(spec: str, *, pretrained: bool) -> nn.Module:
    """In evaluation mode; an exported program is in the mode it was exported in."""
    user = split_spec(spec)
    library, colon, name = spec.partition(":")
    if user is not None:
        return _from_user(*user).eval()
    if Path(spec).suffix == SUFFIX:
        return read_program(Path(spec))
    if colon and library in LIBRARIES:
        return LIBRARIES[library](spec, name, pretrained).eval()
    if Path(spec).is_file():
        raise ModelError(
            f"{spec} is a file, but no network: give weights as --weights, beside the network's "
            f"name as --model; path/file.py:callable or path/net.pt2 is a network"
        )
    raise ModelError(_unknown(spec, spec, [*MODELS, FAMILY]))


def _built_in(
    entry: ModelEntry, weights: str | Path | None, classes: int | None, shape: Shape | None
) -> nn.Module:
    if weights is not None:
        return built_with(entry, weights, classes, shape)
    model = entry.build(classes, shape)
    log.warning("network %s has random weights, as none were given", entry.name)
    return model


def _from_user(path: Path, name: str) -> nn.Module:
    model = call_user_file(path, name, ModelError)
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{path}: {name}() returned a {type(model).__name__}; it must return a torch.nn.Module"
        )
    return model


def _from_torchvision(spec: str, name: str, pretrained: bool) -> nn.Module:
    models = _import("torchvision.models", spec)
    known = list(models.list_models())
    if name not in known:
        raise ModelError(_unknown(spec, name, known))
    try:
        model: nn.Module = models.get_model(name, **_torchvision_weights(models, name, pretrained))
    except Exception as reason:  # downloads fail in many ways
        raise ModelError(_failed(spec, pretrained, reason)) from reason
    return model


def _torchvision_weights(models: Any, name: str, pretrained: bool) -> dict[str, str | None]:
    """Arguments that say where weights come from; dense networks ask for those of their backbone
    apart.
    """
    if pretrained:
        return {"weights": "DEFAULT"}
    takes = inspect.signature(models.get_model_builder(name)).parameters
    return {part: None for part in ("weights", "weights_backbone") if part in takes}


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
    # RuntimeError: torchvision built for another torch
    except (ImportError, RuntimeError) as reason:
        raise ModelError(
            f"network {spec!r} needs {module.partition('.')[0]}, which cannot be imported "
            f"({reason}); "
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
        valid = (
            f"{', '.join(known)} with N = 6n + 2, torchvision:NAME, timm:NAME, "
            f"path/file.py:callable, path/net.pt2"
        )
    else:
        valid = f"the {len(known)} that list_models() of {spec.partition(':')[0]} lists"
    return f"there is no network {spec!r}{hint} Valid names: {valid}"
