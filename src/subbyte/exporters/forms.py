"""Forms of files that users ask for, and what exporters have of them."""

from dataclasses import replace
from enum import StrEnum
from typing import TypeVar

from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import RecipeError
from subbyte.methods import Exporter, Form, InputType, Optimize
from subbyte.recipe import Plan, load_target
from subbyte.records import About

Choice = TypeVar("Choice", bound=StrEnum)


def find_form(optimize: str, input: str, static: int | None, about: About) -> Form:
    """The form that settings name. Raises RecipeError for values that they do not have."""
    if static is not None and static < 1:
        raise RecipeError(f"static must be at least 1 sample, got {static}")
    kinds = _find(optimize, Optimize, "optimize"), _find(input, InputType, "input")
    return Form(*kinds, static, about)


def _find(name: str, kinds: type[Choice], setting: str) -> Choice:
    if name not in [kind.value for kind in kinds]:
        known = ", ".join(kinds)
        raise RecipeError(f"{setting} is one of {known}; got {name!r}")
    return kinds(name)


def check_form(exporter: Exporter[QuantizedModel, Plan], form: Form) -> None:
    """Raise RecipeError where an exporter has no files of a form."""
    for setting, kind, known in (
        ("optimize", form.optimize, exporter.optimizes),
        ("input", form.input, exporter.takes),
    ):
        if kind not in known:
            raise RecipeError(
                f"exporter {exporter.name}: {setting} is one of {', '.join(known)}, got {kind}"
            )
    if form.batch is not None and not exporter.fixes:
        raise RecipeError(
            f"exporter {exporter.name} writes no files for batches of {form.batch} alone; leave "
            f"--static out"
        )


def settled(form: Form, exporter: Exporter[QuantizedModel, Plan], plan: Plan) -> Form:
    """The form of an exporter's file of a network with this plan: for one sample where nothing else
    is asked, but the plan's target takes fixed sizes. Raises RecipeError as `check_form`.
    """
    check_form(exporter, form)
    if form.batch is not None or plan.target is None or not exporter.fixes:
        return form
    return replace(form, batch=1) if load_target(plan.target).batch == "fixed" else form
