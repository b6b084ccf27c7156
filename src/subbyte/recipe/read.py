"""Reading what the user asks for: a preset, a file, a mapping or an object, and changes to it."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from subbyte.errors import RecipeError
from subbyte.io.registry import ANYWHERE
from subbyte.io.texts import parse_yaml, read_settings
from subbyte.io.user_file import UserFiles
from subbyte.recipe.plan import Plan
from subbyte.recipe.recipe import Recipe
from subbyte.recipe.settings import parse_settings
from subbyte.recipe.target import load_target

log = logging.getLogger("subbyte")

PRESETS = ("w8a8", "w8a16", "w4a8", "w4a4", "w4", "w3", "w2", "ternary", "best", "gpfq", "ldnq")
Source = str | Path | Mapping[str, Any] | Recipe
"""A preset's name, the path of a YAML file, a mapping of settings, or a recipe."""


def load_recipe(source: Source, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe from any of its sources, with overrides like `weights.rounding=gpfq` applied in
    order.

    Classes of users' files are looked up in the folder of a recipe's file, then in the working
    directory. Raises RecipeError with the path of the setting that is unknown or out of range.
    """
    request = load_request(source, overrides)
    if isinstance(request, Plan):
        raise RecipeError(f"{source} is a plan; a recipe is needed here")
    return request


def load_request(source: Source | Plan, overrides: Sequence[str] = ()) -> Recipe | Plan:
    """A recipe, as `load_recipe` reads it, or a plan: itself, the path of a plan.yaml or its
    mapping.

    A mapping that names a recipe is a plan's. Raises RecipeError, also for overrides of a plan,
    which leaves nothing open.
    """
    if isinstance(source, Recipe | Plan):
        request = source
    elif isinstance(source, Mapping):
        request = _parse(dict(source), "recipe", "custom", ANYWHERE)
    elif isinstance(source, str | Path):
        request = _read(str(source))
    else:
        raise RecipeError(
            f"a recipe is a preset, a file, a mapping, a Recipe or a Plan; got "
            f"{type(source).__name__}"
        )
    if not overrides:
        return request
    if isinstance(request, Plan):
        raise RecipeError(f"--set {overrides[0]!r}: a plan leaves nothing open; give its recipe")
    whole, settings = request.model_dump(), request.model_dump(exclude_unset=True)
    for override in overrides:
        _override(settings, override, whole)
    return parse_settings(Recipe, settings, f"recipe {request.name}")


def for_target(request: Recipe | Plan, target: str | None) -> Recipe | Plan:
    """A recipe for a target, None for its own. Raises RecipeError for a plan of another one."""
    if target is None:
        return request
    if isinstance(request, Plan):
        load_target(target).check(request)
        return replace(request, target=target)
    stated = {name: dict(request)[name] for name in request.model_fields_set}
    return Recipe(**stated | {"target": target})


def _parse(settings: dict[Any, Any], where: str, name: str, files: UserFiles) -> Recipe | Plan:
    if {"recipe", "layers"} <= settings.keys():
        return Plan.from_dict(settings, files)
    return parse_settings(Recipe, {"name": name} | settings, where, files)


def _read(source: str) -> Recipe | Plan:
    if source.lower() in PRESETS:
        file = resources.files("subbyte.recipe").joinpath(f"presets/{source.lower()}.yaml")
    elif Path(source).is_file():
        file = Path(source)
    else:
        raise RecipeError(
            f"recipe {source!r} is neither a preset ({', '.join(PRESETS)}) nor a file"
        )
    path, where = Path(source), f"recipe {source}"
    return _parse(read_settings(file, where), where, path.stem.lower(), UserFiles(path.parent))


def _override(settings: dict[str, Any], override: str, whole: dict[str, Any]) -> None:
    """Change what a recipe states. whole: all of its settings; a method that it does not state is
    stated with the change.
    """
    path, equals, text = override.partition("=")
    if not equals or not path.strip():
        raise RecipeError(f"--set {override!r}: expected path=value, such as weights.rounding=gpfq")
    value = parse_yaml(text, f"--set {override!r}")
    *parents, leaf = _split(path.strip())
    here = settings
    for part in parents:
        known = whole.get(part, {})
        method = isinstance(known, str) or (isinstance(known, dict) and "name" in known)
        below = here.setdefault(part, known if method else {})
        whole = known if isinstance(known, dict) else {}
        if isinstance(below, str):
            # `rounding: gptq` takes settings as {name: gptq, ...}
            below = here[part] = {"name": below}
        if not isinstance(below, dict):
            raise RecipeError(f"--set {override!r}: {part!r} is a value, not a group of settings")
        here = below
    here[leaf] = _taking_over(here.get(leaf), value, override)


def _taking_over(before: object, value: object, override: str) -> object:
    """A value in the place of another. The name of a method that has settings keeps them where it
    is the same method's; another's are dropped, which is logged.
    """
    if not isinstance(before, dict) or "name" not in before or not isinstance(value, str):
        return value
    if before["name"] == value:
        return before
    dropped = ", ".join(f"{name}={own}" for name, own in before.items() if name != "name")
    if dropped:
        log.warning("--set %s: %s, settings of %s, are dropped", override, dropped, before["name"])
    return value


def _split(path: str) -> list[str]:
    """Parts of a setting's path; a layer's pattern may hold dots itself:
    `layers.layer1.*.weights.bits`.
    """
    pattern = re.fullmatch(r"layers\.(.+?)\.(skip|(?:weights|activations)(?:\..+)?)", path)
    return ["layers", pattern[1], *pattern[2].split(".")] if pattern else path.split(".")
