"""Judge outputs of any form by those of another network; targets are not needed, and not read."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from subbyte.errors import DataError
from subbyte.methods import Measure, Outputs, Tally, Targets, Task
from subbyte.tasks.outputs import class_rows
from subbyte.tasks.tallies import cosines, mean, relative_error, share

AGREEMENT = Measure("agreement", "%")
COSINE = Measure("cosine")
RELATIVE_ERROR = Measure("relative error", higher=False)


@dataclass(frozen=True)
class Comparison(Task):
    """Agreement of classes where an output names any, relative error and cosine."""

    per_head = True

    def check(self, outputs: Outputs, targets: Targets) -> None:
        """See `methods.Task`."""
        del outputs
        if targets:
            raise DataError("comparison: scores nothing by targets; name another --task")

    def score(self, outputs: Outputs, targets: Targets) -> list[Tally]:
        """See `methods.Task`."""
        del outputs, targets
        return []

    def compare(self, outputs: Outputs, others: Outputs) -> list[Tally]:
        """See `methods.Task`."""
        (output,), (other,) = outputs, others
        if not output.is_floating_point():
            return [share(AGREEMENT, (output == other).flatten(1).all(1))]
        found = agreement_of_classes(output, other)
        return [*found, relative_error(RELATIVE_ERROR, output, other), mean_cosine(output, other)]

    def loss(self, outputs: Outputs, targets: Targets) -> Tensor:
        """See `methods.Task`. Mean square error."""
        pairs = zip(outputs, targets, strict=True)
        return torch.stack([F.mse_loss(own, wanted) for own, wanted in pairs]).sum()

    def imitation(self, outputs: Outputs, others: Outputs, temperature: float) -> Tensor:
        """See `methods.Task`. The divergence of outputs [n, classes]: maps may be of anything."""
        (output,), (other,) = outputs, others
        if output.ndim != 2 or class_rows(output) is None:
            return super().imitation(outputs, others, temperature)
        return divergence(output, other, temperature)


def divergence(output: Tensor, other: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(other / T) || softmax(output / T)) by sample, pixel or token, the mean of all
    (Hinton, Vinyals, Dean 2015).
    """
    rows, wanted = class_rows(output), class_rows(other)
    assert rows is not None and wanted is not None
    found = (rows / temperature).log_softmax(1)
    aim = (wanted / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(found, aim, log_target=True, reduction="batchmean")


def agreement_of_classes(output: Tensor, other: Tensor) -> list[Tally]:
    """Percent of rows that both put in one class; nothing for outputs that name none."""
    rows, others = class_rows(output), class_rows(other)
    if rows is None or others is None:
        return []
    same = rows.argmax(1) == others.argmax(1)
    # pixels and tokens of one sample are no independent draws: their share has no known error
    return [share(AGREEMENT, same) if output.ndim == 2 else mean(AGREEMENT, 100 * same.double())]


def mean_cosine(output: Tensor, other: Tensor) -> Tally:
    """The mean cosine over samples."""
    return mean(COSINE, cosines(output, other))
