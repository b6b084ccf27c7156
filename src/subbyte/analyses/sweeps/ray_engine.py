"""Runs on a Ray cluster (the optional extra `ray`), or on a Ray that is started on this machine.

Network, data and calibration images are put into the object store once for each distinct input;
workers need no files of the driver's, and hand their results back to it. A run whose worker or node
dies is given to another, by Ray, up to `RETRIES` times. Each run takes as many processors as the
driver has threads a job, and a GPU where one is asked for.
"""

import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subbyte.analyses.sweeps.engines import attempt
from subbyte.analyses.sweeps.store import Task
from subbyte.analyses.sweeps.work import load_inputs
from subbyte.errors import SubbyteError
from subbyte.io.user_file import MODULES
from subbyte.methods import Engine
from subbyte.records.outcome import Failed, Outcome

RETRIES = 3
STARTS = 3
"""The number of times that starting a Ray on this machine is tried: it gives up when its processes
take 30 s, which they do on a busy one.
"""
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
"""Ray's settings where the environment does not give them; workers of niceness 15, Ray's default,
starve beside other work.
"""
PATIENCE = 10.0  # seconds, for the head of a cluster to answer


@dataclass(frozen=True)
class Ray(Engine[Task]):
    """address: of the cluster, such as 'HOST:6379' or 'auto'; 'local' starts one here. gpus: a run;
    cpus: a run.
    """

    address: str
    cpus: float = 1
    gpus: float = 0

    def outcomes(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        """See `methods.Engine`. Raises SubbyteError when Ray is missing or the cluster can't be
        reached.
        """
        ray = _connected(self.address)
        remote = ray.remote(_work).options(
            num_cpus=self.cpus,
            num_gpus=self.gpus,
            max_retries=RETRIES,
            scheduling_strategy="SPREAD",
        )
        inputs: dict[tuple[Any, ...], Any] = {}
        under_way: dict[Any, Task] = {}
        try:
            for task in tasks:
                if task.run.inputs not in inputs:
                    inputs[task.run.inputs] = ray.put(load_inputs(*task.run.inputs))
                under_way[remote.remote(task, inputs[task.run.inputs])] = task
            while under_way:
                done, _ = ray.wait(list(under_way), num_returns=1)
                for reference in done:
                    task = under_way.pop(reference)
                    try:
                        yield task, ray.get(reference)
                    except ray.exceptions.RayError as error:
                        first = str(error).strip().splitlines()[0]
                        yield task, Failed(error=f"{type(error).__name__}: {first}")
        finally:
            for reference in under_way:
                ray.cancel(reference, force=True)
            ray.shutdown()


def _work(task: Task, inputs: Any) -> Outcome:
    import torch

    torch.set_num_threads(1)
    return attempt(task, lambda *_: inputs, _scratch())


def _scratch() -> Path:
    """A cache of the worker's own machine."""
    folder = Path(tempfile.gettempdir()) / f"subbyte-sweep-cache-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    return folder


def _answers(address: str) -> None:
    """Raise SubbyteError when nobody listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if "://" in address or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise SubbyteError(
            f"--ray {address}: no cluster could be reached ({error}); see `ray start`"
        ) from error


def _connected(address: str) -> Any:
    try:
        import ray
    except ImportError as error:
        raise SubbyteError("a Ray cluster needs ray: pip install 'subbyte[ray]'") from error
    _answers(address)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    here = {"_node_ip_address": "127.0.0.1"} if address == "local" else {}
    for left in reversed(range(STARTS if here else 1)):
        try:
            ray.init(
                address=address,
                include_dashboard=False,
                logging_level="ERROR",
                log_to_driver=False,
                ignore_reinit_error=True,
                **here,
            )
            break
        except Exception as error:  # Ray raises much, among it plain Exceptions
            ray.shutdown()
            if left:
                continue
            first = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
            raise SubbyteError(
                f"--ray {address}: no cluster could be reached ({first}); see `ray start`"
            ) from error
    for name, module in list(sys.modules.items()):
        # workers need not have the file that a network's class comes from
        if name.startswith(MODULES):
            ray.cloudpickle.register_pickle_by_value(module)
    return ray
