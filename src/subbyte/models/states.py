"""State dicts out of the files of many makers, without executing what is in them."""

import argparse
import pickle
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from subbyte.errors import ModelError
from subbyte.io.checkpoints import check_archive
from subbyte.io.safe import opened

RAW = (
    *("state_dict", "model_state_dict", "model_state", "model", "module", "net", "network"),
    *("params", "weights", "model_weights"),
)
"""Where training scripts put weights in a checkpoint."""
AVERAGED = (
    *("state_dict_ema", "ema_state_dict", "model_ema_state_dict", "model_ema", "ema_model"),
    *("ema", "params_ema"),
)
"""Where they put moving averages of them, which are what they evaluate and publish."""
_OWN = {"epoch", "model", "method", "optimizer"}
"""The entries of a checkpoint of `subbyte train`."""
_PACKED = "subbyte"  # the entry of the metadata of packed files
_NUMBERS = "fiub"  # kinds of numpy's numbers
_PLAIN: list[Any] = [
    *(
        (value.__reduce__()[0], f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")  # NumPy 1 and 2
        for value, name in ((np.empty(0), "_reconstruct"), (np.float64(0), "scalar"))
    ),
    *(np.ndarray, np.dtype, argparse.Namespace),
    *(type(np.dtype(code)) for code in "?bBhHiIlLqQefd"),
]
"""Plain values that checkpoints hold beside weights: numbers of numpy, and options."""
_SAVE = "torch.save(network.state_dict(), 'weights.pth'); then give that file"


@dataclass(frozen=True)
class State:
    """Weights by name, as a file has them.

    notes: how they were found, in words. advice: what else to do where they do not fit.
    """

    path: Path
    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()
    advice: str = ""


def read_state(path: Path) -> State:
    """The weights in a .safetensors file or a checkpoint of torch.save.

    Raises ModelError when they cannot be read: the file is missing, damaged, would execute code, or
    is of another kind, which is named.
    """
    if not path.is_file():
        what = "this is a folder" if path.is_dir() else "there is no such file"
        raise ModelError(
            f"weights {path}: {what}; give a .safetensors file or a checkpoint of torch.save"
        )
    kind = next((kind for kind, holds in _OTHERS.items() if holds(path)), None)
    if kind is not None:
        raise ModelError(f"weights {path}: {kind}")
    if path.suffix == ".safetensors":
        return State(path, _read_safetensors(path))
    return _found(path, _read_torch(path))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with opened(path) as file:
            packed = _PACKED in (file.metadata() or {})
        found = {} if packed else safetensors.torch.load_file(path, device="cpu")
    except (safetensors.SafetensorError, OSError) as reason:
        raise ModelError(
            f"weights {path}: not a whole safetensors file ({reason}); save or fetch it again"
        ) from reason
    if packed:
        raise ModelError(
            f"weights {path}: a packed network, quantized by subbyte, where float weights are "
            f"needed: give those that it was made from. `subbyte evaluate`, `export`, `tune` and "
            f"`train --from` take it as it is"
        )
    return found


def _read_torch(path: Path) -> object:
    try:
        if zipfile.is_zipfile(path):
            with path.open("rb") as file:
                check_archive(file)
        # torch's remarks on odd pickles; the outcome is judged below
        with warnings.catch_warnings(), torch.serialization.safe_globals(_PLAIN):
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as reason:
        raise ModelError(_refusal(path, str(reason))) from reason
    except Exception as reason:  # a damaged pickle raises KeyError, EOFError, RuntimeError ...
        first = str(reason).split(". ", 1)[0]
        raise ModelError(
            f"weights {path}: not a whole checkpoint of torch.save ({type(reason).__name__}: "
            f"{first}); "
            "save the network's state_dict() or fetch the file again"
        ) from reason


def _refusal(path: Path, reason: str) -> str:
    found = re.search(r"GLOBAL ([\w.]+)", reason)
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    why = (
        f"it asks for {found[1]}"
        if found
        else next((x for x in lines if x.startswith("Unsupp")), lines[0])
    )
    what = (
        "reading it would execute code"
        if found
        else "it is damaged, or reading it would execute code"
    )
    if found and found[1].partition(".")[0] not in {*sys.stdlib_module_names, "numpy"}:
        what = f"a whole pickled network, or other objects beside its state_dict; {what}"
    return (
        f"weights {path}: {what} ({why}), so it is not read. Where you trust the file, convert it "
        f"once: "
        "sd = torch.load(path, weights_only=False); take the state_dict out of it; "
        "safetensors.torch.save_file(state_dict, 'weights.safetensors'); then give that file"
    )


def _ends(*suffixes: str) -> Callable[[Path], bool]:
    return lambda path: path.suffix.lower() in suffixes


def _holds(*names: str) -> Callable[[Path], bool]:
    """Whether a zip archive has one of some files, in whatever folder."""

    def holds(path: Path) -> bool:
        try:
            with zipfile.ZipFile(path) as archive:
                return any(name.rpartition("/")[2] in names for name in archive.namelist())
        except Exception:  # there is no end to what zipfile raises on damage
            return False

    return holds


_OTHERS: dict[str, Callable[[Path], bool]] = {
    "an ONNX file, where float weights of a PyTorch network are needed: give those that it was "
    "exported from. `subbyte evaluate --weights` takes it as it is": _ends(".onnx"),
    "a file for another runtime, where float weights of a PyTorch network are needed: give those "
    "that it was exported from": _ends(".tflite", ".pte", ".xml"),
    "arrays, or another framework's weights: give a PyTorch state_dict": _ends(
        *(".npy", ".npz", ".h5", ".hdf5", ".keras", ".pb", ".msgpack")
    ),
    "not a whole file: it is empty; save or fetch it again": lambda path: path.stat().st_size == 0,
    "an exported program, which is a network with its weights: give it as --model, without "
    "--weights": _holds("archive_format", "serialized_exported_program.json"),
    "a TorchScript file, where weights by name are needed; save them once: network = "
    f"torch.jit.load(path); {_SAVE}": _holds("constants.pkl"),
}
"""Kinds of files that are no weights, what to do with them, and how they are known."""


def _found(path: Path, content: object) -> State:
    """The state dict in what torch.load read."""
    notes: list[str] = []
    own = isinstance(content, Mapping) and set(content) == _OWN
    while isinstance(content, Mapping) and (nearer := _nearer(content)) is not None:
        content = content[nearer[0]]
        notes += nearer[1:]
    if not isinstance(content, Mapping):
        raise ModelError(
            f"weights {path}: holds a {type(content).__name__}, not a state_dict; save "
            f"model.state_dict()"
        )
    tensors: dict[str, Tensor] = {}
    for key, value in content.items():
        tensor = _tensor(value)
        if tensor is not None:
            tensors[str(key)] = tensor
        elif not str(key).endswith("_extra_state"):  # what modules keep beside their tensors
            raise ModelError(
                f"weights {path}: entry {key!r} is a {type(value).__name__}, not a tensor; "
                f"save model.state_dict(), alone or under one of {', '.join(RAW[:4])}"
            )
    return State(path, tensors, tuple(notes), _OWN_ADVICE if own else "")


_OWN_ADVICE = (
    "; this is the checkpoint of a run of `subbyte train`, whose weights lie beside it in "
    "model.safetensors; the run goes on by its own command"
)


def _nearer(content: Mapping[Any, Any]) -> tuple[str, ...] | None:
    """The entry that leads to the weights, with a note where that is not usual; None where a
    mapping has no such entry.
    """
    raw, averaged = (
        next((key for key in keys if isinstance(content.get(key), Mapping)), "")
        for keys in (RAW, AVERAGED)
    )
    if averaged and raw and _count(content[averaged]) < _count(content[raw]):
        return raw, f"{raw!r} is taken, as the averaged weights of {averaged!r} are not all"
    if averaged:
        beside = f", not the last ones of {raw!r}" if raw else ""
        return averaged, f"averaged weights of {averaged!r} are taken{beside}"
    if raw:
        return (raw,)
    others = [key for key in content if _is_weights(content[key])]
    if len(others) != 1 or any(_tensor(value) is not None for value in content.values()):
        return None
    return others[0], f"they are found in {others[0]!r}"


def _is_weights(value: object) -> bool:
    """Whether a value holds tensors by name and nothing else."""
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(k, str) and _tensor(v) is not None for k, v in value.items())
    )


def _count(value: object) -> int:
    """Tensors of floating-point numbers in a mapping and the mappings in it."""
    if isinstance(value, Mapping):
        return sum(map(_count, value.values()))
    tensor = _tensor(value)
    return int(tensor is not None and tensor.is_floating_point())


def _tensor(value: object) -> Tensor | None:
    """A tensor, or numbers of numpy as one; None for anything else."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in _NUMBERS:
        return torch.from_numpy(np.array(value))
    return None
