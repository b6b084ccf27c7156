"""The resources that a walk may use, and the error when there are too few."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from subbyte.errors import ResourceError
from subbyte.io.cache import NO_CACHE, Cache

_FULL = "can't allocate memory"  # torch has no type for it on processors


@dataclass(frozen=True)
class Limits:
    """The resources that a walk may use.

    chunk: calibration images per step; memory: bytes of activations kept in RAM, the rest is paged
        to temporary files;
    rows: of a layer's inputs, per column of its weights, that enter its moments (0: all; at least
        32,768 rows a layer);
    device: where the arithmetic runs, such as cpu or cuda; cache: where what depends on the float
    network and the images alone is kept for other walks, and found; it says which network and which
    images they are.
    """

    chunk: int = 64
    memory: int = 4 * 2**30
    rows: int = 250
    device: str = "cpu"
    cache: Cache = NO_CACHE

    @property
    def shelf(self) -> Cache:
        """The cache, for entries that depend on how images are gone through."""
        return self.cache.of(self.chunk, self.rows, self.device)


@contextmanager
def enough_memory() -> Iterator[None]:
    """Raise ResourceError where memory runs out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        full = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or _FULL in str(error)
        if not full:
            raise
        raise ResourceError(
            "out of memory; give fewer or smaller calibration images, --chunk for smaller steps, "
            "--memory for more activations in temporary files, or a rounding that needs no second "
            "moments, such as weights.rounding=nearest, for the widest layers"
        ) from error
