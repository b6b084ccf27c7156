"""Weights from files into networks: all of them or none, under the names that the network has for
them.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from subbyte.errors import ModelError, NumericsError
from subbyte.io.user_file import expanded
from subbyte.models.built_in import ModelEntry, Renames, Shape
from subbyte.models.guess import expected, fitting, rows
from subbyte.models.names import match, missing, tidy, unexpected
from subbyte.models.states import State, read_state

log = logging.getLogger("subbyte")

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
        `builtin:NAME`. A state dict is found under the usual names ('state_dict', 'model', 'net'
        and others; moving averages, such as 'ema', go before what they are averages of). A prefix
        of all names, wrappers of torch, and what profilers leave are taken away. Whatever is done
        of these is logged in a line. Batch-norm's num_batches_tracked may be missing, as in files
        from before torch 0.4.1: inference does not use it.
    Raises ModelError when the file is missing, damaged, would execute code, is of another kind, or
    does not fit the network; NumericsError when a weight is NaN or Inf.
    """
    state = read_state(weights_file(path))
    _set(model, _matched(state, list(model.state_dict()), ()))


def built_with(
    entry: ModelEntry, path: str | Path, classes: int | None, shape: Shape | None
) -> nn.Module:
    """A built-in network with the weights in a file, found as in `load_weights` and under the names
    that others have for them, too. classes: None: as many as the weights are for. Raises as
    load_weights.
    """
    state = _matched(read_state(weights_file(path)), expected(entry), entry.renames)
    found = rows(state, entry.head)
    wanted = found if classes is None else classes
    model = entry.build(wanted, shape)
    _set(model, state)
    if entry.alike and found != entry.sure:
        log.warning(
            "weights %s: they fit %s and %s alike, whose outputs differ, and do not tell which is "
            "meant; taken as the first: where its accuracy is too low the other is right",
            state.path,
            entry.name,
            entry.alike,
        )
    return model


def _matched(state: State, names: list[str], renames: Renames) -> State:
    """Weights under the names of a network. Raises ModelError when one is missing or too many."""
    found = match(state, names, renames)
    if found is not None:
        return found
    own = tidy(state, names).tensors
    lacks, other = missing(own, names), unexpected(own, names)
    raise ModelError(
        f"weights {state.path}: {len(lacks)} of the network's {len(names)} tensors are missing"
        f"{_first(lacks)}; {len(other)} of the file's {len(state.tensors)} are unexpected"
        f"{_first(other)}. {_advice(state)}"
    )


def _set(model: nn.Module, state: State) -> None:
    """Put weights under the names of `model` into it."""
    wanted: dict[str, Tensor] = model.state_dict()
    # only batch counters may be missing
    tensors = {name: state.tensors.get(name, own) for name, own in wanted.items()}
    _check_types(state.path, wanted, tensors)
    _check_shapes(state, wanted, tensors)
    _check_finite(state.path, tensors)
    model.load_state_dict(tensors)
    if state.notes:
        log.warning("weights %s: %s", state.path, "; ".join(state.notes))


def _first(names: list[str]) -> str:
    return f" (first: {names[0]})" if names else ""


def _advice(state: State) -> str:
    """A word on what to do with weights that do not fit."""
    names = " or ".join(fitting(state))
    own = "the network that these weights were trained for (its width, classes and input size)"
    return (f"They fit --model {names}" if names else f"Give {own}") + state.advice


def _check_types(path: Path, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    for name, tensor in wanted.items():
        if tensor.is_floating_point() and not found[name].is_floating_point():
            raise ModelError(
                f"weights {path}: {name} is {str(found[name].dtype).removeprefix('torch.')}, where "
                f"floating point is needed: codes of a quantized network; give the float weights "
                f"that it was made from"
            )


def _check_shapes(state: State, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    wrong = [name for name, tensor in wanted.items() if tensor.shape != found[name].shape]
    if wrong:
        listed = "; ".join(
            f"{name} is {list(found[name].shape)} there, {list(wanted[name].shape)} here"
            for name in wrong[:SHOWN]
        )
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise ModelError(
            f"weights {state.path}: shapes differ from the network's: {listed}{more}. "
            f"{_advice(state)}"
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
