"""The resources of a walk, the share of its samples that each of several processes has, and the
error when memory runs out.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256

import torch
from torch import Tensor

from subbyte.errors import DataError, RecipeError, ResourceError
from subbyte.graph import Network, Samples
from subbyte.io.cache import NO_CACHE, Cache
from subbyte.io.memory import out_of_memory
from subbyte.io.processes import Processes, present
from subbyte.recipe import Plan, Recipe


@dataclass(frozen=True)
class Limits:
    """The resources that a walk may use.

    chunk: calibration images per step; memory: bytes of activations kept in RAM, the rest is paged
        to temporary files;
    rows: of a layer's inputs, per column of its weights, that enter its moments (0: all; at least
        32,768 rows a layer);
    device: where the arithmetic runs, such as cpu or cuda; cache: where what depends on the float
    network and the images alone is kept for other walks, and found; it says which network and which
    images they are; several processes keep nothing there;
    processes: that share the calibration samples, each with these resources of its own: those of
    torch's process group where it is initialised.
    """

    chunk: int = 64
    memory: int = 4 * 2**30
    rows: int = 250
    device: str = "cpu"
    cache: Cache = NO_CACHE
    processes: Processes = field(default_factory=present)

    @property
    def shelf(self) -> Cache:
        """The cache, for entries that depend on how images are gone through."""
        if not self.processes.alone:
            return NO_CACHE
        return self.cache.of(self.chunk, self.rows, self.device)

    def share(self, samples: Samples) -> "Share":
        """The part of the samples that this process goes through.

        Raises DataError where a process would have none.
        """
        chunks, processes = samples.split(self.chunk), self.processes
        if len(chunks) < processes.world:
            raise DataError(
                f"{len(samples)} calibration samples are {len(chunks)} chunks of {self.chunk}, "
                f"fewer than the {processes.world} processes that share them; give more samples, "
                f"or a smaller chunk"
            )
        own = processes.share(len(chunks))
        return Share(chunks[own.start : own.stop], own.start * self.chunk, processes)


@dataclass(frozen=True)
class Share:
    """The calibration samples that one process goes through: whole chunks, one after the other.

    before: how many samples other processes have that come before these.
    """

    chunks: list[Samples]
    before: int
    processes: Processes


def check_shareable(
    network: Network, wanted: Recipe | Plan, samples: Samples, processes: Processes
) -> None:
    """See, before the long work, that processes can do it together. One that is alone can.

    Raises RecipeError for tuning, whose steps follow one another; DataError where the processes
    were given different networks or samples.
    """
    if processes.alone:
        return
    if wanted.tune is not None:
        raise RecipeError(
            f"tune: every step of it needs the one before, so that {processes.world} processes "
            f"can't share it; do without `tune`, or start one process"
        )
    tensors = {
        "networks": network.graph_module.state_dict().values(),
        "calibration samples": [leaf for leaf in samples.leaves if isinstance(leaf, Tensor)],
    }
    for what, values in tensors.items():
        if len(set(processes.meet(_digest(values)))) > 1:
            raise DataError(
                f"the {processes.world} processes have different {what}; give every process the "
                f"same: the walk takes each one's share itself"
            )


def _digest(tensors: Iterable[Tensor]) -> str:
    digest = sha256()
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        data = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(data.view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def enough_memory() -> Iterator[None]:
    """Raise ResourceError where memory runs out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise ResourceError(
            "out of memory; give fewer or smaller calibration images, --chunk for smaller steps, "
            "--memory for more activations in temporary files, or a rounding that needs no second "
            "moments, such as weights.rounding=nearest, for the widest layers"
        ) from error
