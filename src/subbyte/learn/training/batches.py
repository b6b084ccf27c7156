"""The images that a step sees: the same on one device, on several, and in a run that goes on after
a stop.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.data import Split
from subbyte.errors import DataError
from subbyte.io.repeatable import seed_of
from subbyte.learn.training.augment import AUGMENTATIONS, DRAWS
from subbyte.methods import Augmentation, Targets

Batch = tuple[Tensor, Targets]
"""Images float32 [b, C, H, W], and what outputs are to be for them, each [b, ...]."""


@dataclass(frozen=True)
class Batches:
    """Batches of a split in random order, another one every epoch; the last incomplete batch is
    left out.

    batch_size: images a step, of all processes. rank, world: this process's number, and how many
        there are: each
    takes its share of every batch. Raises DataError when the split does not fill a batch, and where
    images would move, but not the places that their targets tell of.
    """

    split: Split
    batch_size: int
    augment: Augmentation
    seed: int
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if len(self.split) < self.batch_size:
            raise DataError(
                f"split {self.split.name!r} has {len(self.split)} images to train on, too few for "
                f"a batch of "
                f"{self.batch_size}; choose a smaller --batch-size"
            )
        if self.augment.moves and not self.split.has_labels:
            raise DataError(
                f"split {self.split.name!r}: --augment {AUGMENTATIONS.name(self.augment)} moves "
                f"images, but not maps and other targets, which would be wrong then; choose "
                f"--augment none"
            )

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return len(self.split) // self.batch_size

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of this process. Each is read while the caller works on the one before:
        decoding files takes as long as a small network's step.
        """
        drawn = self._drawn(number)
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self._read, *next(drawn))
            for following in drawn:
                batch = coming.result()
                coming = reader.submit(self._read, *following)
                yield batch
            yield coming.result()

    def _drawn(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The samples of each step, int64 [b], and the chances of their augmentation."""
        generator = torch.Generator().manual_seed(seed_of(self.seed, number))
        order = torch.randperm(len(self.split), generator=generator)
        for step in range(self.steps):
            draws = torch.rand(self.batch_size, DRAWS, generator=generator)
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield chosen[self.rank :: self.world], draws[self.rank :: self.world]

    def _read(self, chosen: Tensor, draws: Tensor) -> Batch:
        images = self.augment.apply(self.split.images(chosen), draws)
        return images, tuple(target[chosen] for target in self.split.targets)
