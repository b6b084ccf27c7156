"""Judge numbers of any shape by the numbers wanted: regression, and heads of detection networks."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from subbyte.errors import DataError
from subbyte.methods import Measure, Outputs, Tally, Targets, Task
from subbyte.tasks.comparison import RELATIVE_ERROR, mean_cosine
from subbyte.tasks.tallies import mean, relative_error

MSE = Measure("MSE", higher=False)


@dataclass(frozen=True)
class Regression(Task):
    """Relative error ||y - t|| / ||t||, mean cosine over samples, mean square error."""

    per_head = True

    def check(self, outputs: Outputs, targets: Targets) -> None:
        """See `methods.Task`."""
        (output,) = outputs
        for target in targets:
            _shaped(target[:1], output[:1])

    def score(self, outputs: Outputs, targets: Targets) -> list[Tally]:
        """See `methods.Task`."""
        (output,), (target,) = outputs, targets
        return self.compare(outputs, (_shaped(target, output),))

    def compare(self, outputs: Outputs, others: Outputs) -> list[Tally]:
        """See `methods.Task`."""
        (output,), (other,) = outputs, others
        squares = (output.double() - other.double()).square()
        return [
            relative_error(RELATIVE_ERROR, output, other),
            mean_cosine(output, other),
            mean(MSE, squares),
        ]

    def loss(self, outputs: Outputs, targets: Targets) -> Tensor:
        """See `methods.Task`. Mean square error."""
        (output,), (target,) = outputs, targets
        return F.mse_loss(output, _shaped(target, output))


def _shaped(target: Tensor, output: Tensor) -> Tensor:
    """Targets [n] of an output [n, 1] and the like, as float. Raises DataError for other sizes."""
    if target.numel() != output.numel():
        raise DataError(
            f"regression: targets [n, {_rest(target)}] for outputs [n, {_rest(output)}]; they must "
            f"have as many numbers"
        )
    return target.reshape(output.shape).to(output.dtype)


def _rest(x: Tensor) -> str:
    return ", ".join(map(str, x.shape[1:]))
