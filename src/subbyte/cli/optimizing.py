"""The options of `subbyte train` that are settings of its optimizer and its weight quantizer."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from subbyte.cli.common import read_override
from subbyte.errors import RecipeError
from subbyte.learn.optimizers import OPTIMIZERS
from subbyte.learn.qat import WEIGHT_QUANTIZERS

_OPTIONS = {"name": "--optimizer and --qat", "seed": "--seed"}
"""Settings of methods that options of other names say."""


def read_methods_settings(overrides: list[str], said: set[str]) -> dict[str, Any]:
    """Settings by --set. said: those that other options say; they are refused."""
    found: dict[str, Any] = {}
    for override in overrides:
        name, value = read_override(override, "betas=[0.9, 0.99]")
        if name in {*said, *_OPTIONS}:
            option = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
            raise RecipeError(
                f"--set {override!r}: {option} says what {name} is; do without this --set"
            )
        found[name] = value
    return found


def read_methods(
    optimizer: str, qat: str | None, said: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """The optimizer and the weight quantizer, each with those of the settings that are its own; the
    seed goes to whichever draws random numbers.

    Raises RecipeError for a setting that neither has, and for an unknown name.
    """
    registries: dict[str, tuple[Mapping[str, type[Any]], str]] = {
        "optimizer": (OPTIMIZERS, optimizer)
    }
    if qat is not None:
        registries["qat"] = (WEIGHT_QUANTIZERS, qat)
    known: dict[str, list[str]] = {}
    for kind, (registry, name) in registries.items():
        if name not in registry:
            raise RecipeError(f"--{kind}: unknown {name!r}; known: {', '.join(registry)}")
        known[kind] = _settings_of(registry[name])
    for setting in said:
        if not any(setting in names for names in known.values()):
            has = [
                f"--{kind} {name} has {', '.join(known[kind])}"
                for kind, (_, name) in registries.items()
            ]
            raise RecipeError(f"unknown setting {setting!r}: {'; '.join(has)}{_owners(setting)}")
    return {
        kind: {
            "name": name,
            **{key: value for key, value in (("seed", seed), *said.items()) if key in known[kind]},
        }
        for kind, (_, name) in registries.items()
    }


def _settings_of(method: type[Any]) -> list[str]:
    return [field.name for field in fields(method)]


def _owners(setting: str) -> str:
    """The methods that have a setting, in words for an error; '' where none has."""
    found = [f"--optimizer {n}" for n, cls in OPTIMIZERS.items() if setting in _settings_of(cls)]
    found += [f"--qat {n}" for n, cls in WEIGHT_QUANTIZERS.items() if setting in _settings_of(cls)]
    return f"; {setting} is a setting of {', '.join(found)}" if found else ""
