"""Checkpoints: all that a run needs to go on, bit for bit; written whole, read without executing
anything.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.optim import Optimizer

from subbyte.errors import FormatError, NumericsError
from subbyte.io.checkpoints import State, read_checkpoint, write_checkpoint
from subbyte.learn.training.subject import Subject

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Checkpoint:
    """A run after `epoch` epochs. method: the class of the optimizer, as torch loads the state of
    any other as well.
    """

    epoch: int
    model: State
    method: str
    optimizer: State

    @classmethod
    def read(cls, found: object) -> "Checkpoint":
        """The checkpoint that a file holds. Raises ValueError when it is something else."""
        match found:
            case {
                "epoch": int(epoch),
                "model": dict(model),
                "method": str(method),
                "optimizer": dict(optimizer),
            }:
                return cls(epoch, model, method, optimizer)
        raise ValueError("it lacks an epoch, a network or an optimizer")


def save_checkpoint(out: Path, epoch: int, subject: Subject, optimizer: Optimizer) -> None:
    """Write the network that computes, and the checkpoint in place
    of the one before.

    The checkpoint comes last, so that what it says is done has been written; if it is not, a run
    does it again.
    Raises NumericsError, and writes nothing, when a number is NaN or Inf.
    """
    state = subject.module.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NumericsError(
                f"after epoch {epoch}, {name} {tuple(tensor.shape)} holds NaN or Inf"
            )
    method = type(optimizer).__name__
    content = {
        "epoch": epoch,
        "model": state,
        "method": method,
        "optimizer": optimizer.state_dict(),
    }
    subject.write(out)
    write_checkpoint(out / CHECKPOINT, content)


def load_checkpoint(out: Path) -> Checkpoint | None:
    """The checkpoint in `out`, None when there is none. Raises FormatError when it is damaged."""
    path = out / CHECKPOINT
    if not path.is_file():
        return None
    remedy = "delete it to start anew, or choose another --out"
    found = read_checkpoint(path, remedy)
    try:
        return Checkpoint.read(found)
    except ValueError as reason:
        raise FormatError(f"{path} is damaged ({reason}); {remedy}") from reason
