"""Processes that do one piece of work together, each its share.

What they found is put together in the order of their ranks, whatever the backend, so that all go on
with the same bits. Each exchange begins with every process saying what it has to give, or that it
has failed: an error of one ends the work of all, and no process waits for one that is gone.
"""

import atexit
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from subbyte.errors import ModelError, ProcessError
from subbyte.io.complaints import short
from subbyte.io.memory import out_of_memory

T = TypeVar("T")
_SHOWN = 200  # letters of torch's reason why a device can't be used
_PIECE = 2**24  # numbers that all processes hold of one another at a time, and bytes sent at once


@dataclass(frozen=True)
class _Failed:
    """The last that a process has to say."""

    reason: str


@dataclass(frozen=True)
class Processes:
    """One process among all: rank 0 ... world - 1. One that is alone exchanges nothing."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that decides and writes."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other."""
        return self.world == 1

    def share(self, count: int) -> range:
        """The numbers below `count` that are this process's: a run of them, as long as others'."""
        return range(self.rank * count // self.world, (self.rank + 1) * count // self.world)

    def from_first(self, make: Callable[[], T]) -> T:
        """Let process 0 make something, and return it in all of them; the others wait. A tensor
        lies on the same kind of device.
        """
        if self.alone:
            return make()
        content = io.BytesIO()
        if self.first:
            torch.save(make(), content)
        own = torch.from_numpy(np.frombuffer(content.getvalue(), np.uint8).copy())
        sizes = self.meet(len(own))
        (sent,) = self._sent(own, {0: (sizes[0],)})
        found: T = torch.load(
            io.BytesIO(sent.numpy().tobytes()), map_location=_own_device, weights_only=False
        )
        return found

    def gather(self, value: Tensor) -> list[Tensor]:
        """The values of all processes, in the order of their ranks, on the device of this one's.
        They may differ along the first axis.
        """
        if self.alone:
            return [value]
        told = self.meet((value.dtype, tuple(value.shape)))
        alike = {(dtype, shape[1:]) for dtype, shape in told}
        assert len(alike) == 1, f"processes are out of step: they exchange {told}"
        return self._sent(value, {rank: shape for rank, (_, shape) in enumerate(told)})

    def total(self, value: Tensor) -> Tensor:
        """The sum over processes, added in the order of their ranks; of one shape in all."""
        if self.alone:
            return value
        pieces = value.reshape(-1).split(_PIECE)
        return torch.cat([reduce(torch.add, self.gather(part)) for part in pieces]).reshape(
            value.shape
        )

    def counted(self, count: int) -> tuple[int, int]:
        """How many there are in the processes before this one, and in all, where this has
        `count`.
        """
        counts = [count] if self.alone else self.meet(count)
        return sum(counts[: self.rank]), sum(counts)

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Within, an error of one process ends the work of all: the others raise ProcessError. Not
        to be nested.
        """
        try:
            yield
        except ProcessError:
            raise
        except Exception as error:
            if not self.alone:
                with suppress(ProcessError):
                    self.meet(_Failed(str(error) or type(error).__name__))
            raise
        if not self.alone:
            self.meet("done")

    def meet(self, said: object) -> list[Any]:
        """Say something, and return what every process says, in the order of their ranks.

        Raises ProcessError where one says that it has failed, or has gone without a word.
        """
        with self._in_contact():
            heard = self._heard(said)
        for rank, each in enumerate(heard):
            if isinstance(each, _Failed):
                raise ProcessError(f"process {rank} of {self.world}: {each.reason}")
        return heard

    def _sent(self, value: Tensor, shapes: dict[int, tuple[int, ...]]) -> list[Tensor]:
        """The values, of such shapes, that processes send to all, by their ranks; each calls this
        at once. value: this one's, or one of the type that is sent.

        Everyone has the memory for all of them before the first is on its way: whoever fails from
        there on leaves the others waiting.
        """
        own = value.detach().contiguous().reshape(-1).view(torch.uint8)
        contents = {
            rank: own
            if rank == self.rank
            else own.new_empty(value.element_size() * torch.Size(shape).numel())
            for rank, shape in shapes.items()
        }
        carrier = self._carrier(min(_PIECE, max(map(len, contents.values()))))
        self.meet("ready")
        with self._in_contact():
            for rank, content in contents.items():
                self._carry(rank, content, carrier)
        return [contents[rank].view(value.dtype).reshape(shape) for rank, shape in shapes.items()]

    def _carry(self, rank: int, content: Tensor, carrier: Tensor) -> None:
        """Write the bytes, uint8 [n], that process `rank` has over those of the others."""
        for piece in content.split(_PIECE):
            carried = carrier[: len(piece)]
            if rank == self.rank:
                carried.copy_(piece)
            if len(piece):
                self._broadcast(rank, carried)
            if rank != self.rank:
                piece.copy_(carried)

    def _heard(self, said: object) -> list[Any]:
        heard: list[Any] = [None] * self.world
        dist.all_gather_object(heard, said)
        return heard

    def _carrier(self, size: int) -> Tensor:
        """Room for so many bytes where the backend sends from."""
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        return torch.empty(size, dtype=torch.uint8, device=device)

    def _broadcast(self, rank: int, carrier: Tensor) -> None:
        dist.broadcast(carrier, rank)

    @contextmanager
    def _in_contact(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as reason:
            if out_of_memory(reason):
                raise
            raise ProcessError(
                f"process {self.rank} of {self.world} has lost another one "
                f"({str(reason).splitlines()[0][:200]}); its own messages say what ended it"
            ) from reason


ALONE = Processes()
"""A process that shares its work with nobody."""


def processes() -> Processes:
    """The processes of torch's default group, for `Limits(processes=...)`: all of them call the
    same verbs at once. A process that was started by itself is alone.

    Raises ModelError where torchrun started several, which have not initialised the group.
    """
    if dist.is_available() and dist.is_initialized():
        return Processes(dist.get_rank(), dist.get_world_size())
    if (world := _stated("WORLD_SIZE", 1)) > 1:
        raise ModelError(
            f"this is one of {world} processes (WORLD_SIZE), and torch's process group is not "
            f"initialised; call torch.distributed.init_process_group before"
        )
    return ALONE


def join(device: str) -> tuple[Processes, str]:
    """Join the processes that torchrun started, and choose this one's device: a GPU each where
    `device` is cuda. Without torchrun this process is alone.

    Raises ModelError for unknown devices, for more processes than GPUs, and where the processes do
    not come together.
    """
    gpu, world = check_device(device), _stated("WORLD_SIZE", 1)
    if world == 1:
        return ALONE, device
    own = _own_gpu() if gpu else device
    # one for the process's life: now and then torch hangs in ending it for the next
    if not dist.is_initialized():
        try:
            dist.init_process_group("nccl" if gpu else "gloo")
        except (ValueError, RuntimeError) as reason:
            raise ModelError(
                f"the {world} processes of WORLD_SIZE can't be brought together "
                f"({str(reason).splitlines()[0]}); start them by torchrun, or unset WORLD_SIZE"
            ) from reason
        atexit.register(dist.destroy_process_group)
    return processes(), own


def _stated(variable: str, default: int) -> int:
    """The number that torchrun put into the environment."""
    text = os.environ.get(variable, str(default))
    if not text.isdecimal():
        raise ModelError(f"{variable} must be a number, as torchrun sets it; got {text!r}")
    return int(text)


def _own_gpu() -> str:
    """The GPU of this process, one for each on a machine; made torch's current device, on which it
    exchanges objects.
    """
    own, there = _stated("LOCAL_RANK", 0), torch.cuda.device_count()
    if own >= there:
        raise ModelError(
            f"process {own} on this machine has no GPU of its own: torch finds {there}; "
            f"start no more processes than GPUs: torchrun --nproc-per-node {there}"
        )
    torch.cuda.set_device(own)
    return f"cuda:{own}"


def is_gpu(device: str) -> bool:
    """Whether a device is a GPU. Raises RuntimeError for what is no device at all."""
    return torch.device(device).type == "cuda"


def check_device(device: str) -> bool:
    """Whether a device is a GPU. Raises ModelError for one on which nothing can be computed."""
    try:
        gpu = is_gpu(device)
        missing = gpu and not torch.cuda.is_available()
        if torch.device(device).type == "cpu" and torch.device(device).index:
            raise RuntimeError("there is one cpu")
        torch.ones(1, device="cpu" if missing else device).item()  # a meta device has no numbers
    except (RuntimeError, AssertionError, ImportError) as reason:
        first = str(reason).splitlines()[0][:_SHOWN]
        raise ModelError(
            f"device {short(device)} can't be used ({first}); use cpu or cuda"
        ) from reason
    if missing:
        raise ModelError(f"device {device!r}: torch finds no GPU here; use cpu")
    return gpu


def _own_device(storage: Any, saved: str) -> Any:
    """Put what lay on another process's GPU on this one's."""
    return storage.cuda() if saved.startswith("cuda") else storage
