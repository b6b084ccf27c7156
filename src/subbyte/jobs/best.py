"""One run of `subbyte quantize --recipe best`: the best network is searched for, then exported,
proven and measured as any other.
"""

from pathlib import Path

from torch import nn

from subbyte.data import DataSet, draw_apart
from subbyte.engine.apart import Apart
from subbyte.engine.quantization import Quantization
from subbyte.engine.stages import Report
from subbyte.engine.trials import Wish, search
from subbyte.errors import RecipeError
from subbyte.jobs.job import Job
from subbyte.jobs.running import Work, run
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
    if job.clips is not None:
        raise RecipeError("best: it chooses ranges and widths itself; leave out the clips")

    def make(work: Work) -> Quantization:
        own, stages = work.job, work.stages
        with stages.stage("capture"):
            network = work.capture()
            split, _ = draw_apart(data, own.calibration, own.apart, own.seed)
            apart = Apart(model, split, own.tasks, own.limits.device)
        return search(
            network,
            recipe,
            work.images,
            apart,
            wish,
            accept=work.accept,
            limits=own.limits,
            stages=stages,
        )

    return run(job, model, data, out, report, force=force, make=make)
