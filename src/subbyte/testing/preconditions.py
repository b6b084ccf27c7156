"""The contract of `methods.Precondition`, as checks."""

import torch

from subbyte.methods import Precondition, calls
from subbyte.testing.cases import INPUTS
from subbyte.testing.checks import Suite, of, require

SUITE: Suite[Precondition] = Suite()


@SUITE.over(of(*INPUTS))
def weights_keep_their_shape_and_the_same_call_gives_the_same(
    method: Precondition, case: str
) -> None:
    """No argument is changed."""
    given = INPUTS[case]
    weight = given.weight.clone()
    first, again = (calls.prepare(method, weight, given.stats) for _ in range(2))
    require(first.shape == weight.shape, f"weights are {tuple(first.shape)}")
    require(first.dtype == torch.float32, f"weights are {first.dtype}")
    require(torch.isfinite(first).all(), "a weight is not finite")
    require(torch.equal(first, again), "other weights the second time")
    require(torch.equal(weight, given.weight), "the weight is changed")


@SUITE.over()
def zeros_stay_zeros(method: Precondition) -> None:
    """A layer of zeros."""
    given = INPUTS["dense"]
    found = calls.prepare(method, torch.zeros_like(given.weight), given.stats)
    require(not found.any(), "zeros become something else")
