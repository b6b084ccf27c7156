"""Engines that do the runs of a sweep: worker processes on this machine, or a Ray cluster.

An engine takes tasks and hands results back one by one, in whatever order they end; what a run
raises is a result, too. A worker that dies takes down the runs that are under way with it: each of
them is tried again, alone, and the one that kills its worker again is a failed run.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

import torch

from subbyte.analyses.sweeps.store import Task
from subbyte.analyses.sweeps.work import execute, load_inputs
from subbyte.errors import SubbyteError
from subbyte.io.numbers import Bounded, Count
from subbyte.methods import Engine
from subbyte.records.outcome import Failed, Outcome

DIED = "its worker process died, twice; out of memory?"


def attempt(task: Task, load: Callable[..., Any], cache: Path | None) -> Outcome:
    """Do a run, and turn what it raises into a failed outcome."""
    try:
        return execute(task.run, load(*task.run.inputs), cache, task.packed)
    except SubbyteError as error:
        return Failed(error=str(error))
    except Exception as error:  # one run's trouble, whatever it is, must not stop the others
        return Failed(error=f"{type(error).__name__}: {error}")


def _start(threads: int) -> None:
    """Begin a worker: Ctrl-C is the sweep's to handle, and a worker does not outlive the sweep,
    even a killed one.
    """
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for([parent.sentinel])
    os._exit(1)


def _work(task: Task, cache: Path) -> Outcome:
    return attempt(task, load_inputs, cache)


@dataclass(frozen=True)
class Local(Bounded, Engine[Task]):
    """Worker processes on this machine, each with its share of the processors.

    jobs: how many; 1 does the runs in this process. cache: folder that they share.
    """

    jobs: Count
    cache: Path

    def outcomes(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        """See `methods.Engine`."""
        if self.jobs == 1:
            for task in tasks:
                yield task, _work(task, self.cache)
            return
        waiting: list[Task] = list(tasks)
        while waiting:
            suspects: list[Task] = []
            begun: set[str] = set()
            for task, outcome in self._pool(waiting, self.jobs):
                begun.add(task.key)
                if outcome is None:
                    suspects.append(task)
                else:
                    yield task, outcome
            for task in suspects:
                for _, outcome in self._pool([task], 1):
                    yield task, outcome or Failed(error=DIED)
            waiting = [task for task in waiting if task.key not in begun]

    def _pool(self, tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, Outcome | None]]:
        """Do tasks in a pool of workers; when one dies those under way give None, and those after
        them nothing.
        """
        threads = max(1, (os.cpu_count() or 1) // self.jobs)
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(min(jobs, len(tasks)), context, _start, (threads,))
        futures: dict[Future[Outcome], Task] = {}
        left = iter(tasks)
        try:
            for task in islice(left, jobs + 1):  # one more than workers, so that none waits
                futures[pool.submit(_work, task, self.cache)] = task
            while futures:
                done, _ = wait(futures, return_when=FIRST_COMPLETED)
                for future in done:
                    task = futures.pop(future)
                    try:
                        yield task, future.result()
                    except BrokenProcessPool:
                        yield task, None
                        continue
                    for following in islice(left, 1):
                        futures[_submitted(pool, following, self.cache)] = following
        finally:
            for worker in list((pool._processes or {}).values()):
                worker.terminate()
            pool.shutdown(cancel_futures=True)


def _submitted(pool: ProcessPoolExecutor, task: Task, cache: Path) -> "Future[Outcome]":
    try:
        return pool.submit(_work, task, cache)
    except BrokenProcessPool as broken:
        future: Future[Outcome] = Future()
        future.set_exception(broken)
        return future
