"""Recipes say what the user asks for; plans say what becomes of it for one network."""

from subbyte.recipe.activations import ActivationSettings, SoftmaxSettings
from subbyte.recipe.fits import misfit
from subbyte.recipe.plan import LayerPlan, Plan, TapPlan
from subbyte.recipe.read import PRESETS, Source, for_target, load_recipe, load_request
from subbyte.recipe.recipe import (
    Bits,
    LayerSettings,
    Recipe,
    WeightSettings,
)
from subbyte.recipe.resolve import Pattern, make_plan, plan_widths
from subbyte.recipe.settings import Settings, parse_settings
from subbyte.recipe.target import Target, load_target, target_names
from subbyte.recipe.width import Family, Width

__all__ = [
    "PRESETS",
    "ActivationSettings",
    "Bits",
    "Family",
    "LayerPlan",
    "LayerSettings",
    "Pattern",
    "Plan",
    "Recipe",
    "Settings",
    "SoftmaxSettings",
    "Source",
    "TapPlan",
    "Target",
    "WeightSettings",
    "Width",
    "for_target",
    "load_recipe",
    "load_request",
    "load_target",
    "make_plan",
    "misfit",
    "parse_settings",
    "plan_widths",
    "target_names",
]
