"""The resources of a walk, the share of its samples that each of several processes has, and the
error when memory runs out.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

import torch
from torch import Tensor

from subbyte.errors import DataError, RecipeError, ResourceError
from subbyte.graph import Network, Samples
from subbyte.io.cache import NO_CACHE, Cache
from subbyte.io.memory import out_of_memory
from subbyte.io.numbers import Bounded, Count, Natural, Whole
from subbyte.io.processes import ALONE, Processes, check_device
from subbyte.io.repeatable import pieces
from subbyte.methods import TuneLayers
from subbyte.recipe import Plan, Recipe

_DIGITS = 16  # of a digest: 64 bits


@dataclass(frozen=True)
class Limits(Bounded):
    """The resources that a walk may use.

    chunk: calibration images gone through at once, or the next multiple of 16, in which sums are
        taken, so that results do not depend on it;
    memory: bytes of activations kept in RAM, the rest is paged to temporary files;
    rows: of a layer's inputs, per column of its weights, that enter its moments (0: all; at least
        32,768 rows a layer);
    device: where the arithmetic runs, such as cpu or cuda; cache: where what depends on the float
    network and the images alone is kept for other walks, and found; it says which network and which
    images they are; several processes keep nothing there;
    processes: that share the calibration samples, each with these resources of its own, such as
    `subbyte.processes()`; by default nobody shares anything.
    Raises RecipeError for numbers out of range, ModelError for a device that is not there.
    """

    chunk: Count = 64
    memory: Annotated[int, Whole(0, 2**60)] = 4 * 2**30
    rows: Natural = 250
    device: str = "cpu"
    cache: Cache = NO_CACHE
    processes: Processes = ALONE

    def __post_init__(self) -> None:
        super().__post_init__()
        check_device(self.device)

    def pieces(self, count: int) -> list[slice]:
        """So many calibration images by those that are gone through at once."""
        return pieces(count, self.chunk)

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
        chunks, processes = self.pieces(len(samples)), self.processes
        if len(chunks) < processes.world:
            raise DataError(
                f"{len(samples)} calibration samples are {len(chunks)} chunks of {self.chunk}, "
                f"fewer than the {processes.world} processes that share them; give more samples, "
                f"or a smaller chunk"
            )
        own = [chunks[k] for k in processes.share(len(chunks))]
        return Share([samples[chunk] for chunk in own], own[0].start, processes)


@dataclass(frozen=True)
class Share:
    """The calibration samples that one process goes through: whole chunks, one after the other.

    before: how many samples other processes have that come before these.
    """

    chunks: list[Samples]
    before: int
    processes: Processes


def check_shareable(
    network: Network, wanted: Recipe | Plan, samples: Samples, limits: Limits
) -> None:
    """See, before the long work, that processes can do it together. One that is alone can.

    Raises RecipeError for tuning during the walk, whose steps follow one another; DataError where
    the processes were given different things, or there are fewer chunks than processes.
    """
    processes = limits.processes
    if processes.alone:
        return
    if isinstance(wanted.tune, TuneLayers):
        raise RecipeError(
            f"tune: every step of it needs the one before, so that {processes.world} processes "
            f"can't share it; do without `tune`, or start one process"
        )
    _check_alike(
        processes,
        {
            "networks": _digest(network.graph_module.state_dict().values()),
            "calibration samples": _digest(
                leaf for leaf in samples.leaves if isinstance(leaf, Tensor)
            ),
            "sizes of a chunk": limits.chunk,
            "numbers of rows": limits.rows,
            "recipes": _digest_of_text(str(wanted.stated())),
        },
    )
    limits.share(samples)


def check_same_plan(plan: Plan, processes: Processes) -> None:
    """Raise DataError where the processes have come to different plans."""
    if not processes.alone:
        _check_alike(processes, {"plans": _digest_of_text(plan.to_yaml())})


def _check_alike(processes: Processes, given: dict[str, int | str]) -> None:
    """Raise DataError where processes were given different things. given: numbers and digests, by
    what they are of.
    """
    told = processes.meet(given)
    for what in given:
        values = [each[what] for each in told]
        if len(set(values)) > 1:
            raise DataError(
                f"the {processes.world} processes have different {what} "
                f"({', '.join(map(str, values))}); give every process the same: the walk takes "
                f"each one's share itself"
            )


def _digest_of_text(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:_DIGITS]


def _digest(tensors: Iterable[Tensor]) -> str:
    digest = sha256()
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        data = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(data.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:_DIGITS]


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
