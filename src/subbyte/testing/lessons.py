"""The contract of `methods.TuneNetwork`, as checks."""

from math import isfinite

import torch

from subbyte.core import Uniform
from subbyte.core.alphabet import NO_NUMBERS
from subbyte.methods import Learned, TuneNetwork
from subbyte.testing.checks import Suite, require

SUITE: Suite[TuneNetwork] = Suite()


@SUITE.over()
def the_course_can_be_gone_through(method: TuneNetwork) -> None:
    """There are steps, views in them, and samples on both sides; stated steps are taken."""
    course = method.course
    require(course.steps >= 1 and course.batch >= 1, f"nothing is learned from: {course}")
    require(0 < course.held < 1, f"a share of {course.held} is kept apart")
    require(course.temperature > 0 and course.seconds >= 0, f"out of range: {course}")
    other = method.with_steps(7).course
    require(other.steps == 7 and other.seconds == 0, f"7 steps are asked for, found {other}")


@SUITE.over()
def rates_are_numbers_from_0_on_and_some_learn(method: TuneNetwork) -> None:
    """All the way."""
    ways = [k / 20 for k in range(21)]
    rates = [method.rate(kind, progress) for kind in Learned for progress in ways]
    require(all(isfinite(rate) and rate >= 0 for rate in rates), f"rates: {rates}")
    require(any(method.rate(kind, 0.5) > 0 for kind in Learned), "nothing learns half-way")


@SUITE.over()
def views_are_images_of_the_same_shape_and_hang_on_the_generator_alone(method: TuneNetwork) -> None:
    """Images stay as they are, too."""
    for channels in (1, 3):
        images = torch.randn(6, channels, 12, 10, generator=torch.Generator().manual_seed(1))
        before = images.clone()
        first, again, other = (
            method.views(images, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)
        )
        require(torch.equal(images, before), "images are changed in place")
        require(first.shape == images.shape, f"views are {list(first.shape)}")
        require(bool(torch.isfinite(first).all()), "views hold NaN or Inf")
        require(torch.equal(first, again), "another view with the same generator")
        require(not torch.equal(first, other), "the same view with another generator")


@SUITE.over()
def weights_end_on_their_grid(method: TuneNetwork) -> None:
    """Whatever they are on the way, between both neighbours; latent weights stay as they are."""
    ladder = Uniform(3).ladder(0, NO_NUMBERS)
    steps = 3 * torch.randn(5, 40, generator=torch.Generator().manual_seed(2))
    before, nearest = steps.clone(), ladder.nearest(steps.clone())
    for progress in (0.0, 0.3, 0.6):
        value = method.weights.value(steps, ladder, progress)
        require(value.shape == steps.shape, f"values are {list(value.shape)}")
        require(bool(((value - nearest).abs() <= 0.5).all()), "values leave their cells")
    require(torch.equal(method.weights.value(steps, ladder, 1.0), nearest), "the end is no grid")
    require(torch.equal(steps, before), "latent weights are changed in place")
