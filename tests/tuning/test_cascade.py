"""What the cascade learns from at its end, and settings that make no sense."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from subbyte.errors import RecipeError
from subbyte.testing.tunes import BATCHES, forward_of, loss, problem
from subbyte.tuning import Cascade


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
    assert not Cascade().needs_labels
    assert Cascade(retrain="labels").needs_labels and not Cascade(retrain="logits").needs_labels


def test_no_epochs_change_nothing():
    parameters, inputs, logits = problem()
    learned = Cascade(epochs=0).after_layer(forward_of(inputs), parameters, logits)
    assert all(torch.equal(learned[name], parameters[name]) for name in parameters)


@pytest.mark.parametrize("wrong", [{"epochs": -1}, {"rate": 0.0}, {"retrain_epochs": 0}])
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(RecipeError, match="Cascade"):
        Cascade(**wrong)
