"""The contract of `methods.TuneLayers`, as checks on a small problem with a known answer."""

import torch
import torch.nn.functional as F
from torch import Tensor

from subbyte.errors import NumericsError
from subbyte.methods import Forward, TuneLayers, calls
from subbyte.testing.checks import Suite, raises, require

SUITE: Suite[TuneLayers] = Suite()
BATCHES = 4


def problem() -> tuple[dict[str, Tensor], list[Tensor], list[Tensor]]:
    """Parameters off their best values, inputs, and the logits that the best values give."""
    generator = torch.Generator().manual_seed(3)
    inputs = [torch.randn(16, 6, generator=generator) for _ in range(BATCHES)]
    weight, bias = torch.randn(3, 6, generator=generator), torch.randn(3, generator=generator)
    logits = [F.linear(x, weight, bias) for x in inputs]
    off = {"weight": weight + 0.2 * torch.randn(3, 6, generator=generator), "bias": torch.zeros(3)}
    return off, inputs, logits


def forward_of(inputs: list[Tensor]) -> Forward:
    """A network of one layer."""
    return lambda k, given: F.linear(inputs[k], given["weight"], given["bias"])


def loss(parameters: dict[str, Tensor], inputs: list[Tensor], logits: list[Tensor]) -> float:
    """Mean square error of the logits, summed over batches."""
    forward = forward_of(inputs)
    return sum(float(F.mse_loss(forward(k, parameters), target)) for k, target in enumerate(logits))


@SUITE.over()
def later_parameters_come_nearer_to_the_float_logits(method: TuneLayers) -> None:
    """The parameters that come back after a layer lower the error of the logits."""
    parameters, inputs, logits = problem()
    learned = calls.after_layer(method, forward_of(inputs), parameters, logits)
    require(loss(learned, inputs, logits) < loss(parameters, inputs, logits), "nothing is learned")
    require(learned.keys() == parameters.keys(), f"parameters are {list(learned)}")
    for name, value in learned.items():
        require(value.shape == parameters[name].shape, f"{name} is {tuple(value.shape)}")
        require(not value.requires_grad, f"{name} still requires gradients")


@SUITE.over()
def arguments_stay_and_the_same_call_gives_the_same(method: TuneLayers) -> None:
    """No state, no hidden randomness."""
    parameters, inputs, logits = problem()
    before = {name: value.clone() for name, value in parameters.items()}
    runs = [calls.after_layer(method, forward_of(inputs), parameters, logits) for _ in range(2)]
    for name, value in before.items():
        require(torch.equal(parameters[name], value), f"{name} is changed")
        require(torch.equal(runs[0][name], runs[1][name]), f"another {name} the second time")


@SUITE.over()
def what_is_right_already_stays(method: TuneLayers) -> None:
    """Logits that the parameters give."""
    parameters, inputs, _ = problem()
    logits = [forward_of(inputs)(k, parameters) for k in range(BATCHES)]
    learned = calls.after_layer(method, forward_of(inputs), parameters, logits)
    require(all(torch.equal(learned[n], parameters[n]) for n in parameters), "it changes")


@SUITE.over()
def logits_that_are_no_numbers_are_an_error(method: TuneLayers) -> None:
    """One among many."""
    parameters, inputs, logits = problem()
    logits[1][0, 0] = float("nan")
    forward = forward_of(inputs)
    raises(NumericsError, lambda: calls.after_layer(method, forward, parameters, logits), "NaN")


@SUITE.over()
def labels_are_not_read_unless_they_are_needed(method: TuneLayers) -> None:
    """`needs_labels` says so."""
    parameters, inputs, logits = problem()
    if not method.needs_labels:
        learned = calls.at_end(method, forward_of(inputs), parameters, logits, None)
        require(learned.keys() == parameters.keys(), f"parameters are {list(learned)}")
