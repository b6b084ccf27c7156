"""What the user asks for, and what becomes of it for one network."""

from subbyte.recipe.recipe import (
    PRESETS,
    Bits,
    LayerSettings,
    Recipe,
    TapSettings,
    WeightSettings,
    load_recipe,
    parse_settings,
    width_settings,
)

__all__ = [
    "PRESETS",
    "Bits",
    "LayerSettings",
    "Recipe",
    "TapSettings",
    "WeightSettings",
    "load_recipe",
    "parse_settings",
    "width_settings",
]
