"""Every registered method keeps what its kind promises: a new one is tested by being registered."""

from dataclasses import dataclass

import pytest
import torch

from subbyte.allocate import ALLOCATIONS
from subbyte.core import QTensor
from subbyte.correct import CORRECTIONS
from subbyte.errors import RecipeError
from subbyte.methods import Objective, Range, Rounding
from subbyte.precondition import PRECONDITIONS
from subbyte.ranges import RANGES
from subbyte.rounding import ROUNDINGS
from subbyte.testing import ContractError, check, checks
from subbyte.tuning import TUNES, Cascade, Distill
from subbyte.tuning.estimators import ESTIMATORS

torch.set_num_threads(1)
REGISTRIES = (RANGES, ROUNDINGS, PRECONDITIONS, CORRECTIONS, ALLOCATIONS, TUNES)
CHECKS = [
    pytest.param(
        each,
        id=f"{registry.kind} {name}: {each}",
        marks=[] if each.quick else [pytest.mark.slow],
    )
    for registry in REGISTRIES
    for name, cls in registry.items()
    for each in checks(cls)
]
CHECKS += [
    pytest.param(each, id=f"cascade by {what}: {each}")
    for what in ("logits", "labels")
    for each in checks(Cascade(retrain=what))
]
CHECKS += [
    pytest.param(each, id=f"distill by {name}: {each}")
    for name in ESTIMATORS
    for each in checks(Distill(estimator=name))
]


@pytest.mark.parametrize("promise", CHECKS)
def test_methods_keep_what_their_kind_promises(promise):
    promise()


@dataclass(frozen=True)
class Mine(Rounding):
    """Nearest codes of shifted weights."""

    shift: float = 0.0

    objective = Objective.WEIGHTS

    def round(self, weight, fit, stats):
        return QTensor.nearest(weight + self.shift, fit(weight))


def test_a_users_method_is_checked_by_its_class_or_with_settings():
    assert check(Mine) > 100
    with pytest.raises(ContractError, match=r"never worse than nearest .*\[int4; dense\]"):
        check(Mine(shift=0.02))
    with pytest.raises(RecipeError, match="is no method"):
        check(3)


@pytest.mark.parametrize("kind", [Range, Rounding])
def test_a_misspelt_capability_is_an_error_when_the_class_is_defined(kind):
    for body in ({"weights_onyl": True}, {"chek": lambda self, spec: None}):
        with pytest.raises(RecipeError, match=f"{next(iter(body))} is nothing that its kind knows"):
            type("Wrong", (kind,), body)
    with pytest.raises(RecipeError, match="declared by its kind"):
        type("Wrong", (kind,), {"__annotations__": {"refuses": bool}, "refuses": False})
