"""Judge vectors [n, d] by other vectors of the same samples: each with its own, and whether pairs
of samples that are near in one space are near in the other.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from subbyte.errors import DataError
from subbyte.methods import Measure, Outputs, Tally, Targets, Task
from subbyte.tasks.comparison import mean_cosine
from subbyte.tasks.tallies import cosines, least, rank_correlation

LOWEST, RANKS = Measure("lowest cosine"), Measure("rank correlation of pairs")


@dataclass(frozen=True)
class Embedding(Task):
    """Mean and lowest cosine, and Spearman's rank correlation of the cosines of all pairs (of the
    first 1,024 samples).
    """

    per_head = True

    def check(self, outputs: Outputs, targets: Targets) -> None:
        """See `methods.Task`."""
        (output,) = outputs
        for target in targets:
            if target.shape[1:] != output.shape[1:] or not target.is_floating_point():
                raise DataError(
                    f"embedding: targets are {target.dtype} {list(target.shape)} for outputs "
                    f"{list(output.shape)}; they must be vectors of the same size"
                )

    def score(self, outputs: Outputs, targets: Targets) -> list[Tally]:
        """See `methods.Task`."""
        return self.compare(outputs, targets)

    def compare(self, outputs: Outputs, others: Outputs) -> list[Tally]:
        """See `methods.Task`."""
        (output,), (other,) = outputs, others
        return [
            mean_cosine(output, other),
            least(LOWEST, cosines(output, other)),
            rank_correlation(RANKS, output, other),
        ]

    def loss(self, outputs: Outputs, targets: Targets) -> Tensor:
        """See `methods.Task`. Mean of 1 - cosine."""
        (output,), (target,) = outputs, targets
        return (1 - F.cosine_similarity(output.flatten(1), target.flatten(1))).mean()
