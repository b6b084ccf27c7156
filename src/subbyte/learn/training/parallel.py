"""Several processes, started by `torchrun`, that train one network: each takes its share of every
batch.

Gradients are averaged (torch's DistributedDataParallel), so that N processes with batches of B do
what one does with batches of N B, but for the order of additions and for batch-norms on CPUs, whose
statistics are of each share alone (on GPUs they are of the whole batch, by SyncBatchNorm). Process
0 measures and writes; the others wait for it.
"""

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from subbyte.errors import ModelError


@dataclass(frozen=True)
class Processes:
    """One process among all: rank 0 ... world - 1, and the device it computes on."""

    rank: int
    world: int
    device: str

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def share(self, model: nn.Module) -> nn.Module:
        """The network as it is called in training: gradients are averaged over processes."""
        if self.world == 1:
            return model
        if self.device.startswith("cuda"):
            return nn.parallel.DistributedDataParallel(
                nn.SyncBatchNorm.convert_sync_batchnorm(model),
                device_ids=[torch.device(self.device)],
            )
        return nn.parallel.DistributedDataParallel(model)

    def mean(self, values: Tensor) -> Tensor:
        """Mean over processes."""
        if self.world > 1:
            dist.all_reduce(values)
            values /= self.world
        return values

    def from_first(self, value: Any) -> Any:
        """What process 0 has, in all processes; the others wait for it."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started; without it this one is alone. Raises ModelError for
    unknown devices.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device {device!r}: torch finds no GPU here; use --device cpu")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as reason:
        first = str(reason).splitlines()[0]
        raise ModelError(
            f"device {device!r} can't be used ({first}); use --device cpu or cuda"
        ) from reason
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes(0, 1, device)
        return
    own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device.startswith("cuda") else device
    # one for the process's life: now and then torch hangs in ending it for the next
    if not dist.is_initialized():
        dist.init_process_group("nccl" if own.startswith("cuda") else "gloo")
        atexit.register(dist.destroy_process_group)
    yield Processes(dist.get_rank(), dist.get_world_size(), own)
