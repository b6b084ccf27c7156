"""Checkpoints: all that a run needs to go on, bit for bit; written whole, read without executing anything."""

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn
from torch.optim import Optimizer

from subbyte.errors import FormatError, NumericsError
from subbyte.files import write_bytes
from subbyte.training.weights import plain_state

CHECKPOINT, WEIGHTS = "checkpoint.pt", "model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A run after `epoch` epochs."""

    epoch: int
    model: dict[str, Any]
    optimizer: dict[str, Any]


def save_checkpoint(out: Path, epoch: int, model: nn.Module, optimizer: Optimizer) -> None:
    """Write the checkpoint of `epoch` in place of the one before, and the weights beside it as safetensors.

    weights: those that the network computes with. Raises NumericsError, and writes nothing, when one is NaN or Inf.
    """
    state = model.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NumericsError(f"after epoch {epoch}, {name} {tuple(tensor.shape)} holds NaN or Inf")
    content = io.BytesIO()  # in memory first: a full disk is an OSError of ours, not whatever torch makes of it
    torch.save({"epoch": epoch, "model": state, "optimizer": optimizer.state_dict()}, content)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in plain_state(model).items()}
    write_bytes(out / CHECKPOINT, content.getvalue())
    write_bytes(out / WEIGHTS, safetensors.torch.save(weights))


def load_checkpoint(out: Path) -> Checkpoint | None:
    """The checkpoint in `out`, None when there is none. Raises FormatError when it is damaged."""
    path = out / CHECKPOINT
    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return Checkpoint(content["epoch"], content["model"], content["optimizer"])
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, EOFError, ValueError) as reason:
        first = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
        raise FormatError(f"{path} is damaged ({first}); delete it to start anew, or choose another --out") from reason
