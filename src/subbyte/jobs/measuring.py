"""The figures of the float network, the quantized one and the exported files."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from subbyte.data import DataSet, Split
from subbyte.engine.evidence import Named
from subbyte.engine.judging import (
    Judged,
    forward_of,
    forward_of_file,
    judge,
    settle_task,
)
from subbyte.engine.quantized import QuantizedModel
from subbyte.engine.walk import Progress
from subbyte.errors import NumericsError
from subbyte.exporters import network_runner
from subbyte.exporters.feeding import check_inputs
from subbyte.graph import Network, Samples, prepare, unwrapped
from subbyte.jobs.job import Job
from subbyte.methods import Exported, Outputs, Task
from subbyte.tasks import Classification

FLOAT, QUANTIZED, BEFORE = "float", "quantized", "before"


@dataclass(frozen=True, eq=False)
class Measured:
    """The figures of the float network, the quantized one and the exported files on one split.

    task: by which they were judged; before: the quantized network as it was before each time that
    it learned; named: the classes that both networks name, where labels tell
    which are right.
    """

    task: Task
    float: Judged
    quantized: Judged
    exports: list[Judged]
    before: list[Judged]
    named: Named | None


class Capture:
    """Captures a network, and sees that it goes together with data and task: before the walk, not
    after it.
    """

    def __init__(self, job: Job, model: nn.Module, images: Tensor | Samples, split: Split) -> None:
        self._job, self._model, self._images, self.split = job, model, images, split
        self.device = job.limits.device

    def __call__(self) -> Network:
        """The network."""
        example = Samples.of(self._images[:2]).with_dynamic(self._job.dynamic)
        network = prepare(unwrapped(self._model), example)
        self.check(network)
        return network

    def check(self, network: Network) -> None:
        """Raise SubbyteError where the network, as captured, does not go together with the data."""
        check_inputs(self._job.form, network.signature, Samples.of(self._images))
        with suppress(NumericsError):  # the walk names the layer that it comes from
            self._settled  # noqa: B018 - refuses what does not go together

    @property
    def task(self) -> Task:
        """The task by which outputs are judged."""
        return self._settled[0]

    @property
    def batch(self) -> int:
        """How many samples are judged at a time."""
        return self._settled[1]

    @cached_property
    def _settled(self) -> tuple[Task, int]:
        return settle_task(self._job.tasks, forward_of(self._model), self.split)


def measure(
    model: nn.Module,
    quantized: QuantizedModel,
    before: Sequence[QuantizedModel],
    exported: Sequence[Exported],
    capture: Capture,
    data: DataSet,
    report: Progress,
) -> Measured:
    """Judge the float network, the quantized one and every exported file on a split.

    The quantized network is compared with the float one, files with the quantized one; before: what
    the quantized network was before it learned, each time that it did.
    """
    task, split, device = capture.task, capture.split, capture.device
    networks = {
        FLOAT: forward_of(model.to(device), device),
        QUANTIZED: forward_of(quantized.to(device), device),
        **{
            f"{BEFORE} {number}": forward_of(start.to(device), device)
            for number, start in enumerate(before)
        },
        **{one.exporter: forward_of_file(network_runner(one.path)) for one in exported},
    }
    kept: dict[str, list[Tensor]] = {FLOAT: [], QUANTIZED: []}
    names_classes = isinstance(task, Classification) and split.has_labels

    def keep(outputs: Mapping[str, Outputs]) -> None:
        if names_classes:
            for name, logits in kept.items():
                logits.append(outputs[name][0])

    exports = [one.exporter for one in exported]
    earlier = [name for name in networks if name not in (*kept, *exports)]
    found = judge(
        networks,
        dict.fromkeys((QUANTIZED, *earlier), FLOAT) | dict.fromkeys(exports, QUANTIZED),
        task,
        split,
        batch_size=capture.batch,
        progress=lambda done, total: report(done, total, ""),
        seen=keep,
    )
    named = None
    if names_classes:
        own, other = (torch.cat(kept[name]) for name in (FLOAT, QUANTIZED))
        named = Named(own, other, split.labels, data.classes, split.samples)
    files, starts = ([found[name] for name in some] for some in (exports, earlier))
    return Measured(task, found[FLOAT], found[QUANTIZED], files, starts, named)
