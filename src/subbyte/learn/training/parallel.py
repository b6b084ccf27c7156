"""Several processes, started by `torchrun`, that train one network: each takes its share of every
batch.

Gradients are averaged (torch's DistributedDataParallel), so that N processes with batches of B do
what one does with batches of N B, but for the order of additions and for batch-norms on CPUs, whose
statistics are of each share alone (on GPUs they are of the whole batch, by SyncBatchNorm). Process
0 measures and writes; the others wait for it.
"""

import atexit
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from subbyte.errors import ModelError
from subbyte.methods import Tally


@dataclass(frozen=True)
class Processes:
    """One process among all: rank 0 ... world - 1, and the device it computes on."""

    rank: int
    world: int
    device: str

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return _is_gpu(self.device)

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def share(self, model: nn.Module) -> nn.Module:
        """The network as it is called in training: gradients are averaged over processes."""
        if self.world == 1:
            return model
        if self.on_gpu:
            return nn.parallel.DistributedDataParallel(
                nn.SyncBatchNorm.convert_sync_batchnorm(model),
                device_ids=[torch.device(self.device)],
            )
        return nn.parallel.DistributedDataParallel(model)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over processes."""
        if self.world > 1:
            dist.all_reduce(values)
            values /= self.world
        return values

    def joined(self, tallies: Sequence[Tally]) -> list[Tally]:
        """Those of the samples of all processes, in all of them."""
        if self.world == 1:
            return list(tallies)
        found: list[list[Tensor]] = [[] for _ in range(self.world)]
        dist.all_gather_object(found, [tally.counted.cpu() for tally in tallies])
        return [
            replace(tally, counted=reduce(tally.join, parts))
            for tally, parts in zip(tallies, zip(*found, strict=True), strict=True)
        ]

    def from_first(self, value: Any) -> Any:
        """Return the value of process 0, in all processes; the others wait for it."""
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
    try:
        missing = _is_gpu(device) and not torch.cuda.is_available()
        torch.empty(1, device="cpu" if missing else device)
    except (RuntimeError, AssertionError) as reason:
        first = str(reason).splitlines()[0]
        raise ModelError(
            f"device {device!r} can't be used ({first}); use --device cpu or cuda"
        ) from reason
    if missing:
        raise ModelError(f"device {device!r}: torch finds no GPU here; use --device cpu")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes(0, 1, device)
        return
    gpu = _is_gpu(device)
    own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if gpu else device
    # one for the process's life: now and then torch hangs in ending it for the next
    if not dist.is_initialized():
        dist.init_process_group("nccl" if gpu else "gloo")
        atexit.register(dist.destroy_process_group)
    yield Processes(dist.get_rank(), dist.get_world_size(), own)


def _is_gpu(device: str) -> bool:
    """Whether a device is a GPU. Raises RuntimeError for what is no device at all."""
    return torch.device(device).type == "cuda"
