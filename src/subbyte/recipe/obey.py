"""Recipes that obey a target: what they leave open is chosen, what they state is checked."""

from dataclasses import dataclass, replace

from subbyte.errors import RecipeError
from subbyte.recipe.plan import LayerPlan, Plan
from subbyte.recipe.recipe import Recipe
from subbyte.recipe.settings import Settings
from subbyte.recipe.target import Target, load_target

_GROUPS = ("weights", "activations", "others", "input", "softmax")


@dataclass(frozen=True)
class Obeying:
    """A recipe with what its target chose; target: None where it has none; chosen: in words, for
    weights and activations.
    """

    recipe: Recipe
    target: Target | None = None
    chosen: tuple[str, str] = ("", "")

    @classmethod
    def of(cls, recipe: Recipe) -> "Obeying":
        """The recipe as its target takes it. Raises RecipeError where there is no such target."""
        if recipe.target is None:
            return cls(recipe)
        target, held = load_target(recipe.target), dict(recipe)
        groups: dict[str, Settings] = {name: held[name] for name in _GROUPS}
        changes = {name: target.chosen(group) for name, group in groups.items()}
        obeying = {name: groups[name].model_copy(update=changes[name]) for name in _GROUPS}
        weights, activations = (_told(target, changes[name]) for name in _GROUPS[:2])
        return cls(recipe.model_copy(update=obeying), target, (weights, activations))

    def plan(self, plan: Plan) -> Plan:
        """The plan of the recipe, with what was chosen for the target.

        Raises RecipeError where the target does not take it; widths that a budget chooses are
        checked as candidates (`takes`).
        """
        if self.target is None:
            return plan
        weights, activations = self.chosen
        told = replace(
            plan,
            layers=tuple(
                one if one.spec is None else replace(one, reason=_joined(one.reason, weights))
                for one in plan.layers
            ),
            taps=tuple(replace(t, reason=_joined(t.reason, activations)) for t in plan.taps),
            target=self.recipe.target,
        )
        if self.recipe.budget_for == "channels" and self.recipe.budget is not None:
            raise RecipeError(
                f"target {self.target.name}: a layer's channels have one width; set "
                f"budget_for=layers"
            )
        stated = tuple(layer for layer in told.layers if layer.budget is None)
        self.target.check(replace(told, layers=stated))
        return told

    def takes(self, layer: LayerPlan) -> bool:
        """Whether a layer in one of the widths under a budget is as the target takes it."""
        try:
            if self.target is not None:
                self.target.check_layer(layer)
        except RecipeError:
            return False
        return True


def _told(target: Target, changes: dict[str, object]) -> str:
    words = [f"{name} {str(value).lower()}" for name, value in changes.items()]
    return f"for {target.name}: {', '.join(words)}" if words else ""


def _joined(*reasons: str) -> str:
    return "; ".join(filter(None, reasons))
