"""Methods that break their contract end in one error that names the method, and where they were at
work.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import subbyte
from subbyte.allocate import Optimum
from subbyte.core import Grid, GridSpec, Uniform
from subbyte.correct import Moments
from subbyte.engine.quantization import carry_out
from subbyte.errors import ContractError, RecipeError, ResourceError, SubbyteError
from subbyte.graph import Network, prepare
from subbyte.methods import (
    Allocate,
    Correction,
    Precondition,
    Range,
    Refusal,
    Rounding,
    TuneLayers,
)
from subbyte.precondition import Magr
from subbyte.ranges import MinMax, fit_grid
from subbyte.rounding import Nearest
from subbyte.testing import check
from subbyte.tuning import Cascade

torch.set_num_threads(1)
Change = Callable[[Any], Any]


@dataclass(frozen=True)
class MyRange(Range):
    change: Change

    closed_form = True

    def choose(self, values, importance, spec):
        return self.change(MinMax().choose(values, importance, spec))


@dataclass(frozen=True)
class MyRounding(Rounding):
    change: Change

    def round(self, weight, fit, stats):
        return self.change(Nearest().round(weight, fit, stats))


@dataclass(frozen=True)
class MyCorrection(Correction):
    change: Change

    def correct(self, weight, bias, rounded, stats):
        return self.change(Moments().correct(weight, bias, rounded, stats))


@dataclass(frozen=True)
class MyPrecondition(Precondition):
    change: Change

    def prepare(self, weight, stats):
        return self.change(Magr().prepare(weight, stats))


@dataclass(frozen=True)
class MyAllocate(Allocate):
    change: Change

    def bits(self, distortion, spread, mean_bits):
        return self.change(Optimum().bits(distortion, spread, mean_bits))


@dataclass(frozen=True)
class MyTune(TuneLayers):
    change: Change
    late: bool = False

    def after_layer(self, forward, parameters, logits):
        learned = Cascade(epochs=1).after_layer(forward, parameters, logits)
        return learned if self.late else self.change(learned)

    def at_end(self, forward, parameters, logits, labels, loss):
        return self.change(dict(parameters)) if self.late else parameters


def of_scale(change: Callable[[Tensor], Tensor]) -> Change:
    return lambda q: replace(q, grid=replace(q.grid, scale=change(q.grid.scale)))


def first(change: Callable[[Any], Any]) -> Change:
    return lambda values: (change(values[0]), *values[1:])


def last(change: Callable[[Any], Any]) -> Change:
    return lambda values: (*values[:-1], change(values[-1]))


def each(change: Callable[[Tensor], Any]) -> Change:
    return lambda learned: {name: change(value) for name, value in learned.items()}


def coarse(weight: Tensor) -> Grid:
    return fit_grid(MinMax(), weight, GridSpec(Uniform(2)))


def boom(value: Any) -> Any:
    return value.nothing_of_the_kind


METHODS: dict[str, tuple[Callable[[Change], Any], dict[str, Change]]] = {
    "choose": (
        MyRange,
        {
            "nothing": lambda pair: None,
            "one value": lambda pair: pair[0],
            "numbers": lambda pair: (1.0, 0),
            "shape": first(lambda scale: scale[None]),
            "dtype of scales": first(Tensor.double),
            "dtype of zero points": last(Tensor.float),
            "scales of 0": first(lambda scale: scale * 0),
            "zero points out of range": last(lambda zero: zero + 999),
        },
    ),
    "round": (
        MyRounding,
        {
            "a tensor": lambda q: q.dequantize(),
            "shape of codes": lambda q: replace(q, codes=q.codes[:1]),
            "dtype of codes": lambda q: replace(q, codes=q.codes.long()),
            "codes that are not there": lambda q: replace(q, codes=q.codes * 0 + 99),
            "shape of scales": of_scale(lambda scale: scale[:1]),
            "dtype of scales": of_scale(Tensor.double),
            "no grid": lambda q: replace(q, grid=q.grid.scale),
            "another grid": lambda q: Nearest().round(q.dequantize(), coarse, None),
        },
    ),
    "correct": (
        MyCorrection,
        {
            "codes alone": lambda pair: pair[0],
            "a tensor": first(lambda q: q.dequantize()),
            "no bias": last(lambda bias: None),
            "shape of the bias": last(lambda bias: bias[None]),
            "dtype of the bias": last(Tensor.half),
            "dtype of scales": first(of_scale(Tensor.double)),
        },
    ),
    "prepare": (
        MyPrecondition,
        {"nothing": lambda w: None, "shape": lambda w: w.T, "dtype": Tensor.double},
    ),
    "bits": (
        MyAllocate,
        {
            "a list": Tensor.tolist,
            "shape": lambda widths: widths[:-1],
            "dtype": Tensor.int,
            "widths that are not there": lambda widths: widths + 9,
        },
    ),
    "after_layer": (
        MyTune,
        {
            "nothing": lambda learned: None,
            "other names": lambda learned: {"mine": next(iter(learned.values()))},
            "shape": each(lambda value: value[None]),
            "dtype": each(Tensor.double),
            "numbers": each(lambda value: 1.0),
        },
    ),
    "at_end": (
        lambda change: MyTune(change, late=True),
        {"nothing": lambda learned: None, "shape": each(lambda value: value[..., None])},
    ),
}
"""By verb: a method that changes what a good one gives, and changes that no contract allows."""
SETTINGS = {
    "choose": "range",
    "round": "rounding",
    "correct": "correction",
    "prepare": "precondition",
    "bits": "allocate",
}
BROKEN = [(verb, name) for verb, (_, changes) in METHODS.items() for name in [*changes, "raises"]]
every_breach = pytest.mark.parametrize(("verb", "breach"), BROKEN)


@cache
def network() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    return prepare(model.eval(), images()[:2])


def images() -> Tensor:
    return torch.randn(32, 6, generator=torch.Generator().manual_seed(1))


def broken(verb: str, breach: str) -> Any:
    make, changes = METHODS[verb]
    return make(boom if breach == "raises" else changes[breach])


def quantized(method: object, verb: str) -> None:
    setting = SETTINGS.get(verb)
    weights = {"bits": 4} | ({} if setting is None else {setting: method})
    recipe = subbyte.Recipe(weights=weights, tune=method if setting is None else None)
    carry_out(network, recipe, images())


@every_breach
def test_the_error_names_the_layer_and_the_method(verb, breach):
    method = broken(verb, breach)
    with pytest.raises(SubbyteError) as caught:
        quantized(method, verb)
    where = "after the last layer" if verb == "at_end" else "layer '0'"
    said = str(caught.value)
    assert said.startswith(f"{where}: ") and f"{type(method).__name__}.{verb}" in said
    assert said.count(where) == 1
    if breach == "raises":
        assert "raised AttributeError" in said and "(test_calls.py, line " in said
        causes = []
        error: BaseException | None = caught.value
        while error is not None:
            causes.append(type(error))
            error = error.__cause__
        assert AttributeError in causes


@every_breach
def test_the_suite_reports_it(verb, breach):
    with pytest.raises(ContractError):
        check(broken(verb, breach))


def test_ranges_of_activations_name_the_quantizer():
    for dynamic in (False, True):
        activations = {"bits": 4, "range": MyRange(boom), "dynamic": dynamic}
        with pytest.raises(ContractError, match=r"^activation quantizer '.*MyRange.choose raised"):
            carry_out(network, subbyte.Recipe(activations=activations), images())


@dataclass(frozen=True)
class Doubtful(Rounding):
    """Can't say what it refuses."""

    refuses = (Refusal(lambda self, spec: self.nothing, "never said"),)

    def round(self, weight, fit, stats):
        return Nearest().round(weight, fit, stats)


@dataclass(frozen=True)
class Unsure(Range):
    """Can't say whether its form is closed."""

    @property
    def closed_form(self):
        raise KeyError("nothing")

    def choose(self, values, importance, spec):
        return MinMax().choose(values, importance, spec)


def test_declarations_that_raise_are_named():
    with pytest.raises(SubbyteError, match=r"Doubtful\.refuses raised AttributeError"):
        quantized(Doubtful(), "round")
    with pytest.raises(ContractError, match=r"Doubtful\.refuses raised AttributeError"):
        check(Doubtful())
    with pytest.raises(RecipeError, match=r"activations.*Unsure.closed_form raised KeyError"):
        subbyte.Recipe(activations={"range": Unsure(), "dynamic": True})


def test_running_out_of_memory_is_no_fault_of_the_method():
    def full(value):
        raise MemoryError

    def fuller(value):
        torch.empty(10**14)

    for fill in (full, fuller):
        with pytest.raises(ResourceError, match="layer '0': out of memory; give"):
            quantized(MyRounding(fill), "round")
