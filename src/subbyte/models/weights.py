"""Weights from files into networks: all of them or none, and never by executing what is in the
file.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from subbyte.errors import ModelError, NumericsError
from subbyte.io.checkpoints import check_archive
from subbyte.io.user_file import expanded

# where training scripts put weights in a checkpoint
WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIX = "module."  # put before every name by torch's DataParallel
COUNTER = "num_batches_tracked"
SHOWN = 3  # mismatching shapes in a message
BUILT_IN = "builtin:"
PRETRAINED = Path(__file__).parent / "pretrained"


def pretrained() -> dict[str, Path]:
    """Weights that come with subbyte, by the NAME of `builtin:NAME`."""
    return {path.stem: path for path in sorted(PRETRAINED.glob("*.safetensors"))}


def weights_file(weights: str | Path) -> Path:
    """The file that `weights` names: a path, ~ expanded, or `builtin:NAME` for weights that come
    with subbyte.

    Raises ModelError when there are no built-in weights NAME. Whether a path leads to a file is not
    looked at.
    """
    text = str(weights)  # pathlib leaves builtin:NAME as it is
    if not text.startswith(BUILT_IN):
        return expanded(weights)
    known, name = pretrained(), text.removeprefix(BUILT_IN)
    if name not in known:
        raise ModelError(
            f"there are no built-in weights {name!r}; known: {', '.join(known) or 'none'}"
        )
    return known[name]


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load the weights in a file into `model`, in place; `model` is not touched when this raises.

    path: a .safetensors file; a checkpoint of torch.save, read with weights_only=True; or
        `builtin:NAME`. A state
    dict under 'state_dict', 'model_state_dict' or 'model' is unwrapped; 'module.' before all names
    is taken away. Batch-norm's num_batches_tracked may be missing, as in files from before torch
    0.4.1: inference does not
    use it.
    Raises ModelError when the file is missing, damaged, would execute code, or does not fit the
    network;
    NumericsError when a weight is NaN or Inf.
    """
    file = weights_file(path)
    set_weights(model, read_weights(file), file)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, unwrapped as load_weights says. Raises ModelError when it cannot be
    read.
    """
    if not path.is_file():
        what = "this is a folder" if path.is_dir() else "there is no such file"
        raise ModelError(
            f"weights {path}: {what}; give a .safetensors file or a checkpoint of torch.save"
        )
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def rows(state: Mapping[str, Tensor], name: str) -> int | None:
    """Rows of the matrix `name` of a state dict, with or without 'module.' before it; None when
    there is none.
    """
    matrix = state.get(name, state.get(PREFIX + name))
    return len(matrix) if matrix is not None and matrix.ndim == 2 and len(matrix) > 0 else None


def set_weights(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Put what read_weights found in the file `path` into `model`. Raises as load_weights."""
    expected: dict[str, Tensor] = model.state_dict()
    if (
        state
        and all(k.startswith(PREFIX) for k in state)
        and not all(k.startswith(PREFIX) for k in expected)
    ):
        state = {k.removeprefix(PREFIX): v for k, v in state.items()}
    _check_names(path, expected, state)
    state = {k: state.get(k, v) for k, v in expected.items()}  # only batch counters may be missing
    _check_shapes(path, expected, state)
    _check_finite(path, state)
    model.load_state_dict(state)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path, device="cpu")
    except (safetensors.SafetensorError, OSError) as reason:
        raise ModelError(
            f"weights {path}: not a whole safetensors file ({reason}); save or fetch it again"
        ) from reason


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        if zipfile.is_zipfile(path):
            with path.open("rb") as file:
                check_archive(file)
        # torch's remarks on odd pickles; the outcome is judged below
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as reason:
        raise ModelError(_refusal(path, str(reason))) from reason
    except Exception as reason:  # a damaged pickle raises KeyError, EOFError, RuntimeError ...
        first = str(reason).split(". ", 1)[0]
        raise ModelError(
            f"weights {path}: not a whole checkpoint of torch.save ({type(reason).__name__}: "
            f"{first}); "
            "save the network's state_dict() or fetch the file again"
        ) from reason
    while isinstance(content, Mapping):
        inner = next((content[k] for k in WRAPPERS if isinstance(content.get(k), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        raise ModelError(
            f"weights {path}: holds a {type(content).__name__}, not a state_dict; save "
            f"model.state_dict()"
        )
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise ModelError(
                f"weights {path}: entry {key!r} is a {type(value).__name__}, not a tensor; "
                f"save model.state_dict(), alone or under one of {', '.join(WRAPPERS)}"
            )
    return {str(k): v for k, v in content.items()}


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
    return (
        f"weights {path}: {what} ({why}), so it is not read. Where you trust the file, convert it "
        f"once: "
        "sd = torch.load(path, weights_only=False); take the state_dict out of it; "
        "safetensors.torch.save_file(state_dict, 'weights.safetensors'); then give that file"
    )


def _check_names(path: Path, expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    missing = [k for k in expected if k not in state and not k.endswith(COUNTER)]
    unexpected = [k for k in state if k not in expected]
    if not missing and not unexpected:
        return
    parts = [
        f"{len(missing)} of the network's {len(expected)} tensors are missing" + _first(missing)
    ]
    parts.append(
        f"{len(unexpected)} of the file's {len(state)} are unexpected" + _first(unexpected)
    )
    raise ModelError(
        f"weights {path}: {'; '.join(parts)}. Give the network that these weights were trained for"
    )


def _first(names: list[str]) -> str:
    return f" (first: {names[0]})" if names else ""


def _check_shapes(path: Path, expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    wrong = [k for k, v in expected.items() if v.shape != state[k].shape]
    if wrong:
        listed = "; ".join(
            f"{k} is {list(state[k].shape)} there, {list(expected[k].shape)} here"
            for k in wrong[:SHOWN]
        )
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise ModelError(
            f"weights {path}: shapes differ from the network's: {listed}{more}. "
            "Give the network that these weights were trained for (its width, classes and input "
            "size)"
        )


def _check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    for key, value in state.items():
        if not torch.isfinite(value).all():
            count = int((~torch.isfinite(value)).sum())
            raise NumericsError(
                f"weights {path}: {key} holds {count} NaN or Inf among its {value.numel()} "
                f"numbers; "
                "take a checkpoint from before the training diverged"
            )
