"""Processes that share work, as threads of one: they exchange what processes do, in a fraction of
the time.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Queue
from threading import Thread
from typing import Any, TypeVar

import torch
from torch import Tensor

from subbyte.io.processes import Processes

T = TypeVar("T")


class Board:
    """Letter boxes of threads, one for each pair of them."""

    def __init__(self, world: int) -> None:
        self._boxes = {(k, n): Queue[Any]() for k in range(world) for n in range(world)}
        self._world = world

    def swap(self, rank: int, said: Any) -> list[Any]:
        """Tell all, and hear what all tell. Raises RuntimeError, as torch does, where one left."""
        for other in range(self._world):
            self._boxes[rank, other].put((said,))
        heard = [self._boxes[other, rank].get(timeout=60) for other in range(self._world)]
        if () in heard:
            raise RuntimeError("connection closed by peer")
        return [one for (one,) in heard]

    def leave(self, rank: int) -> None:
        for other in range(self._world):
            self._boxes[rank, other].put(())


@dataclass(frozen=True)
class Threaded(Processes):
    board: Board = field(default_factory=lambda: Board(1))

    def _heard(self, said: object) -> list[Any]:
        return self.board.swap(self.rank, said)

    def _carrier(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8)

    def _broadcast(self, rank: int, carrier: Tensor) -> None:
        carrier.copy_(self.board.swap(self.rank, carrier.clone())[rank])


def together(work: Callable[[Processes], T], world: int = 2) -> list[T | BaseException]:
    """What `work` returns, or raises, in each of some processes."""
    board = Board(world)
    found: list[Any] = [None] * world

    def one(rank: int) -> None:
        try:
            found[rank] = work(Threaded(rank, world, board))
        except BaseException as error:
            found[rank] = error
            board.leave(rank)

    threads = [Thread(target=one, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
