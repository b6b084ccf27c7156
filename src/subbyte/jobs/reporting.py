"""Pages about networks that were quantized in Python: the folder that `subbyte quantize` writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from subbyte.data import DataSet, Split
from subbyte.engine.calibration import ForwardFn, Source, collect
from subbyte.engine.quantization import Quantization
from subbyte.engine.quantized import QuantizedModel
from subbyte.engine.stages import Report, silent
from subbyte.exporters import NOTHING
from subbyte.graph import Samples, unwrapped
from subbyte.io.digests import digest, tensor_bytes
from subbyte.jobs.job import Job
from subbyte.jobs.running import Work, run
from subbyte.methods import Task
from subbyte.pages.write import write_report

_NAME = "Python"


def report(
    quantized: QuantizedModel,
    model: nn.Module,
    images: Source,
    out: str | Path,
    *,
    test: Split | tuple[Source, Tensor] | None = None,
    tasks: Sequence[Task] = (),
    export: Sequence[str] = (NOTHING,),
    data: str = _NAME,
    forward_fn: ForwardFn | None = None,
    force: bool = False,
    progress: Report = silent,
) -> Path:
    """Write the folder that `subbyte quantize` writes about a network that was quantized in Python:
    the packed file, plan, figures, result.json, and a page to look at, whose path is returned.

    model: the float network that `quantized` was made from; images: of calibration, as for
    `quantize`. test: what both are judged on, a split of a data set (`load_data(...).test`) or
    inputs and targets [n, ...]; None: how well their outputs on `images` agree. tasks: how outputs
    are judged, one for each; none: chosen by targets and outputs. export: names of exporters, whose
    files are proven and timed; data: what the images are called in the page.
    Raises SubbyteError where model, images and test do not go together, and where `out` exists and
    `force` is not set.
    """
    model, out = unwrapped(model), Path(out)
    samples = collect(images, model, forward_fn)
    calibration = _split("calibration", samples)
    if test is None:
        judged = calibration
    elif isinstance(test, Split):
        judged = test
    else:
        judged = _split("test", collect(test[0], model, forward_fn), torch.as_tensor(test[1]))
    tensors = [leaf for leaf in samples.leaves if isinstance(leaf, Tensor)]
    fingerprint = digest(map(tensor_bytes, tensors))
    whole = DataSet(data, calibration, judged, (), fingerprint)
    job = Job(
        model=type(model).__name__,
        data=data,
        recipe=quantized.plan,
        calibration=len(samples),
        exports=tuple(export),
        tasks=tuple(tasks),
        bench=NOTHING not in export,
    )

    def given(work: Work) -> Quantization:
        with work.stages.stage("capture"):
            network = work.capture()
        work.accept(quantized.plan)
        return Quantization(network, [], quantized)

    run(job, model, whole, out, progress, force=force, make=given)
    return write_report([out])[0]


@dataclass(frozen=True)
class _Reader:
    """Reads samples that are in memory; where they are one tensor each, as that."""

    samples: Samples

    def __call__(self, indices: Tensor) -> Tensor | Samples:
        found = self.samples.at(indices)
        match found.leaves:
            case [Tensor() as images]:
                return images
        return found


def _split(name: str, samples: Samples, *targets: Tensor) -> Split:
    return Split(name, _Reader(samples), len(samples), targets)
