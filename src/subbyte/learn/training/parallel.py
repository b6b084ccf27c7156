"""Several processes, started by `torchrun`, that train one network: each takes its share of every
batch.

Gradients are averaged (torch's DistributedDataParallel), so that N processes with batches of B do
what one does with batches of N B, but for the order of additions and for batch-norms on CPUs, whose
statistics are of each share alone (on GPUs they are of the whole batch, by SyncBatchNorm). Process
0 measures and writes; the others wait for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
import torch.distributed as dist
from torch import Tensor, nn

from subbyte.errors import ContractError
from subbyte.io.processes import Processes, is_gpu, join
from subbyte.methods import Tally, calls


@dataclass(frozen=True)
class Trainers(Processes):
    """Processes that train; device: on which this one computes."""

    device: str = "cpu"

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return is_gpu(self.device)

    def wrapped(self, model: nn.Module) -> nn.Module:
        """The network as it is called in training: gradients are averaged over processes."""
        if self.alone:
            return model
        if self.on_gpu:
            return nn.parallel.DistributedDataParallel(
                nn.SyncBatchNorm.convert_sync_batchnorm(model),
                device_ids=[torch.device(self.device)],
            )
        return nn.parallel.DistributedDataParallel(model)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over processes."""
        if not self.alone:
            dist.all_reduce(values)
            values /= self.world
        return values

    def joined(self, tallies: Sequence[Tally]) -> list[Tally]:
        """Those of the samples of all processes, in all of them."""
        if self.alone:
            return list(tallies)
        found = self.meet([tally.counted.cpu() for tally in tallies])
        if len(set(map(len, found))) > 1:
            counts = ", ".join(str(len(one)) for one in found)
            raise ContractError(f"score returned other numbers of figures by process: {counts}")
        return [
            reduce(calls.add, [replace(tally, counted=part) for part in parts])
            for tally, parts in zip(tallies, zip(*found, strict=True), strict=True)
        ]


def trainers(device: str) -> Trainers:
    """The processes that torchrun started, this one with its device; see `io.processes.join`."""
    here, own = join(device)
    return Trainers(here.rank, here.world, own)
