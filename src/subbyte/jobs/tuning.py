"""One run of `subbyte tune`: a quantized network learns on, and is exported, proven and measured
anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from subbyte.data import DataSet
from subbyte.engine.quantization import Quantization, taught
from subbyte.engine.stages import Report
from subbyte.errors import RecipeError
from subbyte.exporters.packed import load_onto
from subbyte.graph import Samples
from subbyte.io.checkpoints import Kept
from subbyte.io.digests import digest, tensor_bytes
from subbyte.io.workplaces import hidden
from subbyte.jobs.job import Job
from subbyte.jobs.running import Make, Work, assist, run
from subbyte.methods import TuneNetwork
from subbyte.recipe import Plan
from subbyte.records import Result
from subbyte.tuning import TUNES


@dataclass(frozen=True, eq=False)
class Start:
    """The quantized network that learns: its packed file and plan; method: by which it learns;
    more: further unlabelled samples to learn from, beside those of calibration.
    """

    packed: Path
    plan: Plan
    method: TuneNetwork
    more: Sequence[Samples] = ()

    def __post_init__(self) -> None:
        if self.plan.tune is not None:
            raise RecipeError(
                f"{self.packed} has been tuned already ({TUNES.name(self.plan.tune)}); tune the "
                f"network that it was made from, with more --steps"
            )


def tune(
    start: Start,
    job: Job,
    model: nn.Module,
    data: DataSet,
    out: Path,
    report: Report,
    *,
    force: bool = False,
) -> Result | None:
    """Let a quantized network learn from the float one, and write all that `running.run` writes
    into the folder `out`. Stopped work is gone on from where the same is asked for again.

    Of several processes that share the work the first returns the result, the others None.
    Raises SubbyteError as `run` does, and for a network that has been tuned already.
    """
    whole = out.resolve()  # `.` has no name
    keep = Kept(whole.with_name(hidden(whole, "tuning.pt")), _digest(start, job, model, data))
    make = _learning(start, keep)
    if not job.limits.processes.first:
        assist(job, model, data, make)
        return None
    return run(job, model, data, out, report, force=force, make=make, keep=keep)


def _learning(start: Start, keep: Kept) -> Make:
    def make(work: Work) -> Quantization:
        job, stages, samples = work.job, work.stages, Samples.of(work.images)
        with job.limits.processes.failing_together():
            with stages.stage("capture"):
                network = work.capture()
                quantized = load_onto(start.packed, network)
            work.accept(quantized.plan)
            samples, task = Samples.join([samples, *start.more]), work.capture.task
            before = Quantization(network, [], quantized)
            return taught(before, start.method, samples, task, job.limits, stages, keep)

    return make


def _digest(start: Start, job: Job, model: nn.Module, data: DataSet) -> str:
    """A digest of all that learning depends on."""
    facts = (
        TUNES.settings(start.method),
        job.calibration,
        job.seed,
        data.fingerprint,
        job.limits.device,
        torch.__version__,
    )
    own = [tensor for _, tensor in sorted(model.state_dict().items())]
    more = [leaf for samples in start.more for leaf in samples.leaves]
    tensors = [*own, *(leaf for leaf in more if isinstance(leaf, Tensor))]
    return digest([start.packed.read_bytes(), repr(facts).encode(), *map(tensor_bytes, tensors)])
