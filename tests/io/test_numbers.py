"""Numbers from text and in settings, whoever takes them."""

import sys
from dataclasses import MISSING, dataclass, fields, replace
from math import inf, nan
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from torch import nn

import subbyte
import subbyte.exporters
import subbyte.learn.training
from subbyte.analyses.clips import Search
from subbyte.errors import RecipeError, SubbyteError
from subbyte.io.numbers import ANY, Bounded, Count, Real, Whole
from subbyte.io.processes import check_device
from subbyte.io.registry import Registry
from subbyte.learn.training import TrainSettings
from subbyte.pages.subject import View
from subbyte.recipe import Recipe
from subbyte.recipe.recipe import WeightSettings
from subbyte.tasks import TASKS
from subbyte.tuning import TUNES

REGISTRIES = sorted(
    {
        id(value): value
        for name, module in list(sys.modules.items())
        for value in vars(module).values()
        if name.startswith("subbyte.") and type(value) is Registry
    }.values(),
    key=lambda one: one.kind,
)
METHODS = [(one.kind, name) for one in REGISTRIES for name in one]
NO_FLOATS = (-1.0, nan, inf, -inf, 1e300, -1e300, 1e-300)
NO_INTS = (-1, 10**20, -(10**20))
MEANS_BELOW = {"resolution", "cap", "ignore_index", "dampening"}
"""Numbers that may be below 0."""


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("+7", 7), ("-3", -3), ("007", 7), ("2147483647", 2**31 - 1)],
)
def test_whole_numbers_are_read(text, value):
    assert Whole(-3).read(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0.0), ("1e-3", 0.001), (".5", 0.5), ("5.", 5.0), ("-2.5E+2", -250.0), ("0e9", 0.0)],
)
def test_numbers_are_read(text, value):
    assert Real().read(text) == value


NO_NUMBERS = ("", " ", "nan", "inf", "1_0", "²", "٣", "0x1", "1e", "e1", ".", "--1", "1 2", "½")


@pytest.mark.parametrize("text", [*NO_NUMBERS, "9" * 5000, "1.0", "1e3", "-4", "4294967296"])
def test_text_that_is_no_whole_number_is_refused_in_one_short_line(text):
    with pytest.raises(RecipeError, match=r"^must be a whole number, at least -3, got ") as error:
        Whole(-3).read(text)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("text", [*NO_NUMBERS, "9" * 5000, "1e300", "-1e300", "1e-400", "1e-40"])
def test_text_that_is_no_number_is_refused_in_one_short_line(text):
    with pytest.raises(RecipeError, match=r"^must be a number, finite in float32, got ") as error:
        Real().read(text)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("span", "within", "beyond"),
    [
        (Whole(2, 8), (2, 8), (1, 9, 2.5, nan)),
        (Real(0, 1), (0, 1, 0.5), (-1e-9, 1.1, nan, inf)),
        (Real(0, 1, above=True), (1, 1e-30), (0, -1, nan)),
        (Real(0, 1, below=True), (0, 0.999), (1, nan)),
        (ANY, (0, -5, 1e30, 2**63 - 1), (2**63, nan, inf, -inf, 1e38, 1e-40)),
    ],
    ids=str,
)
def test_a_span_has_its_ends_or_not(span, within, beyond):
    assert all(map(span.holds, within)) and not any(map(span.holds, beyond))


@dataclass(frozen=True)
class Asked(Bounded):
    counts: tuple[Count, ...] = ()
    sizes: Annotated[dict[str, int], Whole(1)] | None = None
    plain: float | None = 0.0


@pytest.mark.parametrize(
    "wrong", [{"counts": (1, 0)}, {"sizes": {"a": 0}}, {"plain": nan}, {"plain": 10**30}], ids=str
)
def test_numbers_within_fields_are_checked(wrong):
    Asked((1, 2), {"a": 1}, None)
    with pytest.raises(RecipeError, match=f"^Asked: {next(iter(wrong))} must be a "):
        Asked(**wrong)


def _registry(kind: str) -> Registry[Any]:
    return next(one for one in REGISTRIES if one.kind == kind)


def _kinds(hint: Any) -> set[Any]:
    """The types that a type is made of."""
    parts = get_args(hint)
    return {hint} if not parts or get_origin(hint) is Literal else set().union(*map(_kinds, parts))


def _wrong(cls: type) -> list[tuple[str, Any]]:
    """Every field that takes a number, with every number that it can't be."""
    hints, found = get_type_hints(cls), list[tuple[str, Any]]()
    for f in fields(cls):
        kinds, several = _kinds(hints[f.name]), get_origin(hints[f.name]) is tuple
        below = f.name in MEANS_BELOW
        values: tuple[float, ...] = NO_FLOATS[below:] if float in kinds else ()
        if int in kinds and float not in kinds:
            values = NO_INTS[below:]
        found += [(f.name, (value, value) if several else value) for value in values]
    return found


@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_no_method_takes_what_is_no_number(kind, name):
    registry = _registry(kind)
    cls = registry[name]
    needed = {f.name: 3 for f in fields(cls) if f.default is f.default_factory is MISSING}
    needed |= {"at": (1, 2)} if name == "table" else {}
    usual = cls(**needed)
    for setting, value in _wrong(cls):
        with pytest.raises(RecipeError, match=setting):
            replace(usual, **{setting: value})
        with pytest.raises(RecipeError, match=setting):
            registry.build({"name": name, **needed, setting: value})


def test_there_are_methods_to_check():
    assert len(REGISTRIES) >= 13 and {TASKS.kind, TUNES.kind} <= {one.kind for one in REGISTRIES}
    assert sum(len(_wrong(one[name])) for one in REGISTRIES for name in one) > 300


@pytest.mark.parametrize("cls", [subbyte.Limits, TrainSettings, Search, View])
def test_no_settings_take_what_is_no_number(cls):
    wrong = _wrong(cls)
    assert wrong
    for setting, value in wrong:
        with pytest.raises(RecipeError, match=setting):
            cls(**{setting: value})


NETWORK, IMAGES = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.rand(8, 3, 2, 2)


@pytest.mark.parametrize(
    "call",
    [
        lambda: subbyte.best(NETWORK, IMAGES, IMAGES, max_drop=nan),
        lambda: subbyte.best(NETWORK, IMAGES, IMAGES, max_drop=-1.0),
        lambda: subbyte.best(NETWORK, IMAGES, IMAGES, seconds=nan),
        lambda: subbyte.best(NETWORK, IMAGES, IMAGES, seconds=-1.0),
        lambda: subbyte.best(NETWORK, IMAGES, IMAGES, confidence=nan),
        lambda: subbyte.tune(None, NETWORK, IMAGES, {"name": "distill", "seconds": inf}),
        lambda: subbyte.tune(None, NETWORK, IMAGES, {"name": "distill", "steps": -1}),
        lambda: subbyte.bench("none.onnx", limit=nan),
        lambda: subbyte.bench("none.onnx", pairs=0),
        lambda: subbyte.bench("none.onnx", batches=(1, -1)),
        lambda: subbyte.bench("none.onnx", batches=(10**20,)),
        lambda: subbyte.bench("none.onnx", sizes={"height": 0}),
        lambda: subbyte.evaluate(NETWORK, None, batch_size=0),
        lambda: subbyte.evaluate(NETWORK, None, device="meta"),
        lambda: subbyte.Limits(device="nope"),
        lambda: subbyte.Limits(device="meta"),
        lambda: subbyte.quantize(NETWORK, IMAGES, recipe={"weights": {"scalar": nan}}),
        lambda: subbyte.quantize(NETWORK, IMAGES, recipe={"weights": {"group_size": -1}}),
        lambda: subbyte.quantize(NETWORK, IMAGES, recipe={"weights": {"guided": 10**20}}),
        lambda: subbyte.quantize(NETWORK, IMAGES, recipe={"first_last": nan}),
        lambda: subbyte.quantize(NETWORK, IMAGES, recipe={"widths": [nan]}),
        lambda: WeightSettings(scalar=1e300),
        lambda: Recipe().model_copy(update={"first_last": 10**20}),
    ],
)  # fmt: skip
def test_verbs_refuse_before_the_work(call):
    with pytest.raises(SubbyteError):
        call()


@pytest.mark.parametrize(
    "name", ["", " ", "nope", "meta", "cuda:-1", "CUDA", "cpu:1", "xla", "xpu", "mps", "vulkan"]
)
def test_what_is_no_device_to_compute_on_is_refused_in_one_line(name):
    with pytest.raises(SubbyteError, match="device") as error:
        check_device(name)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    assert not check_device("cpu") and not check_device("cpu:0")
