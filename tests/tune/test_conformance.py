"""What `methods.Tune` promises, for every method in the registry, on a small problem with a known
answer.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from subbyte.errors import NumericsError, RecipeError
from subbyte.tune import TUNES, Cascade

methods = pytest.mark.parametrize("method", TUNES)
BATCHES = 4


def problem() -> tuple[dict[str, Tensor], list[Tensor], list[Tensor]]:
    """Parameters off their best values, inputs, and the logits that the best values give."""
    generator = torch.Generator().manual_seed(3)
    inputs = [torch.randn(16, 6, generator=generator) for _ in range(BATCHES)]
    weight, bias = torch.randn(3, 6, generator=generator), torch.randn(3, generator=generator)
    logits = [F.linear(x, weight, bias) for x in inputs]
    off = {"weight": weight + 0.2 * torch.randn(3, 6, generator=generator), "bias": torch.zeros(3)}
    return off, inputs, logits


def forward_of(inputs: list[Tensor]):
    return lambda k, given: F.linear(inputs[k], given["weight"], given["bias"])


def loss(parameters: dict[str, Tensor], inputs: list[Tensor], logits: list[Tensor]) -> float:
    forward = forward_of(inputs)
    return sum(float(F.mse_loss(forward(k, parameters), target)) for k, target in enumerate(logits))


@methods
def test_later_parameters_come_nearer_to_the_float_logits(method):
    parameters, inputs, logits = problem()
    learned = TUNES[method]().after_layer(forward_of(inputs), parameters, logits)
    assert loss(learned, inputs, logits) < loss(parameters, inputs, logits)
    assert learned.keys() == parameters.keys()
    assert all(
        learned[n].shape == parameters[n].shape and not learned[n].requires_grad for n in parameters
    )


@methods
def test_arguments_stay_and_the_same_call_gives_the_same_bytes(method):
    parameters, inputs, logits = problem()
    before = {name: value.clone() for name, value in parameters.items()}
    runs = [TUNES[method]().after_layer(forward_of(inputs), parameters, logits) for _ in range(2)]
    assert all(torch.equal(parameters[name], before[name]) for name in before)
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in before)


@methods
def test_what_is_right_already_stays(method):
    parameters, inputs, _ = problem()
    logits = [forward_of(inputs)(k, parameters) for k in range(BATCHES)]
    learned = TUNES[method]().after_layer(forward_of(inputs), parameters, logits)
    assert all(torch.equal(learned[name], parameters[name]) for name in parameters)


@methods
def test_logits_that_are_no_numbers_are_an_error(method):
    parameters, inputs, logits = problem()
    logits[1][0, 0] = float("nan")
    with pytest.raises(NumericsError, match=method):
        TUNES[method]().after_layer(forward_of(inputs), parameters, logits)


@methods
def test_nothing_learns_at_the_end_unless_asked(method):
    parameters, inputs, logits = problem()
    learned = TUNES[method]().at_end(forward_of(inputs), parameters, logits, None)
    assert all(torch.equal(learned[name], parameters[name]) for name in parameters)


def test_the_end_learns_from_logits_or_labels():
    parameters, inputs, logits = problem()
    labels = [part.argmax(1) for part in logits]
    from_logits = Cascade(rate=0.01, retrain="logits").at_end(
        forward_of(inputs), parameters, logits, None
    )
    from_labels = Cascade(rate=0.01, retrain="labels").at_end(
        forward_of(inputs), parameters, logits, labels
    )
    assert loss(from_logits, inputs, logits) < 0.9 * loss(parameters, inputs, logits)

    def entropy(given: dict[str, Tensor]) -> float:
        return sum(
            float(F.cross_entropy(forward_of(inputs)(k, given), labels[k])) for k in range(BATCHES)
        )

    assert entropy(from_labels) < entropy(parameters)
    assert not torch.equal(from_labels["bias"], from_logits["bias"])


def test_who_needs_labels_says_so():
    assert not any(TUNES[method]().needs_labels for method in TUNES)
    assert Cascade(retrain="labels").needs_labels and not Cascade(retrain="logits").needs_labels


def test_no_epochs_change_nothing():
    parameters, inputs, logits = problem()
    learned = Cascade(epochs=0).after_layer(forward_of(inputs), parameters, logits)
    assert all(torch.equal(learned[name], parameters[name]) for name in parameters)


@pytest.mark.parametrize("wrong", [{"epochs": -1}, {"rate": 0.0}, {"retrain_epochs": 0}])
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(RecipeError, match="cascade"):
        Cascade(**wrong)
