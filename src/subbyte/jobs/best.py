"""One run of `subbyte quantize --recipe best`: the best network is searched for, then exported,
proven and measured as any other.
"""

from pathlib import Path

from torch import Tensor, nn

from subbyte.data import DataSet, draw_apart
from subbyte.engine.apart import Apart
from subbyte.engine.quantization import Quantization
from subbyte.engine.stages import Report, Stages
from subbyte.engine.trials import Wish, search
from subbyte.errors import RecipeError
from subbyte.graph import Samples
from subbyte.jobs.job import Job
from subbyte.jobs.measuring import Capture
from subbyte.jobs.running import accept, run
from subbyte.recipe import Recipe
from subbyte.records import Result


def best(
    wish: Wish,
    job: Job,
    model: nn.Module,
    data: DataSet,
    out: Path,
    report: Report,
    *,
    force: bool = False,
) -> Result:
    """Search for the best network by samples held apart (`Job.apart`), and write all that
    `running.run` writes into the folder `out`.

    Raises SubbyteError as `run` and `trials.search` do.
    """
    recipe = job.recipe
    if not isinstance(recipe, Recipe):
        raise RecipeError("best: a plan leaves nothing open; give a recipe")

    def make(
        job: Job,
        model: nn.Module,
        data: DataSet,
        images: Tensor | Samples,
        capture: Capture,
        stages: Stages,
    ) -> Quantization:
        with stages.stage("capture"):
            network = capture()
            split, _ = draw_apart(data, job.calibration, job.apart, job.seed)
            apart = Apart(model, split, job.tasks, job.limits.device)
        return search(
            network,
            recipe,
            images,
            apart,
            wish,
            accept=lambda plan: accept(job, plan),
            limits=job.limits,
            stages=stages,
        )

    return run(job, model, data, out, report, force=force, make=make)
