"""The search of `mse` with what gradients of the loss say of each weight as its importance.

    fisher      argmin sum_i F_i (w_i - Q(w_i))^2             F_i = mean over images of g_i^2
    gradient    argmin sum_i |g_i| |w_i - Q(w_i)|^power       |g_i| = mean over batches of the mean
                                                              gradient's size

Half the first sum is the rise of the expected loss to second order, products of two weights' errors
left out. The second is GradQuant's gradP (there from one batch of 64 labelled, augmented images and
batch statistics): an upper bound of the first-order change for power 1, a rule of thumb for others.
Gradients are those of the float network's cross-entropy with labels drawn from its own output, on
the calibration images (see `guidance.look_ahead`). Cost: one pass forward and back for all layers;
else as `mse`.
"""

from dataclasses import dataclass

from torch import Tensor

from subbyte.core import GridSpec
from subbyte.io.numbers import Count, Positive
from subbyte.methods import Range
from subbyte.ranges.mse import Mse


@dataclass(frozen=True)
class Fisher(Range):
    """Search `steps` scales for the least squared error weighted by the diagonal of the Fisher
    information.
    """

    steps: Count = 85
    importance = "fisher"

    def choose(
        self, values: Tensor, importance: Tensor | None, spec: GridSpec
    ) -> tuple[Tensor, Tensor]:
        """See `methods.Range`."""
        return Mse(self.steps).choose(values, importance, spec)


@dataclass(frozen=True)
class Gradient(Range):
    """Search `steps` scales for the least |error|^power weighted by the size of the gradient."""

    steps: Count = 85
    power: Positive = 2.0
    importance = "gradient"

    def choose(
        self, values: Tensor, importance: Tensor | None, spec: GridSpec
    ) -> tuple[Tensor, Tensor]:
        """See `methods.Range`."""
        return Mse(self.steps, self.power).choose(values, importance, spec)
