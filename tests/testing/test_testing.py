"""Every registered method keeps what its kind promises: a new one is tested by being registered."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from _pytest.mark import ParameterSet

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
QUICK = 4  # of so many quick cases of a promise each method is tried on one in the quick suite


def tried(name: str, method: object, turn: int) -> Iterator[ParameterSet]:
    """All checks of a method. Of each promise at least one case is quick; which, goes round by the
    turn, so that the methods of a kind share them.
    """
    found = [(str(each).partition(" [")[0], each) for each in checks(method)]
    count = Counter(promise for promise, each in found if each.quick)
    seen: Counter[str] = Counter()
    for promise, each in found:
        quick = each.quick and (seen[promise] - turn) % min(QUICK, count[promise]) == 0
        seen[promise] += each.quick
        marks = [] if quick else [pytest.mark.slow]
        yield pytest.param(each, id=f"{name}: {each}", marks=marks)


CHECKS = [
    check
    for registry in REGISTRIES
    for turn, (name, cls) in enumerate(registry.items())
    for check in tried(f"{registry.kind} {name}", cls, turn)
]
CHECKS += [
    check
    for what in ("logits", "labels")
    for check in tried(f"cascade by {what}", Cascade(retrain=what), 0)
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
