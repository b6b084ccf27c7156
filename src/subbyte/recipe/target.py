"""Targets: what a runtime or a chip takes, as data. A target is one YAML file in `targets/`, or a
file of the user's; nothing else knows its name.

    about:        one sentence
    weights:      {bits: [8], granularity: [channel, tensor], symmetric: true, narrow: true}
    activations:  {bits: [8], granularity: [tensor], symmetric: any, dynamic: false}
    required:     true             # activations are quantized, and no layer stays float
    scales:       any              # or powers-of-two
    batch:        any              # or fixed: files have no free size
    operators:    []               # of ONNX files, by name; none stated: any

What a recipe leaves open is chosen as the target takes it, the first of several; what it states
and the target does not take is an error before the walk. Nothing is run on a target: the check is
one of structure.
"""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from subbyte.core import GridSpec
from subbyte.core.shares import Granularity
from subbyte.errors import RecipeError
from subbyte.io.texts import read_settings
from subbyte.recipe.plan import LayerPlan, Plan, TapPlan
from subbyte.recipe.settings import Scales, Settings, parse_settings

_FOLDER = "subbyte.recipe"
_SUFFIX = ".yaml"
Wanted = bool | Literal["any"]
_BYTE = 8  # bits


class WeightRules(Settings):
    """The weights that a target takes. symmetric: no zero points; narrow: the lowest code is not
    used; farthest: the largest distance of a code from its zero point.
    """

    bits: list[int] = Field(min_length=1)
    granularity: list[Granularity] = Field(min_length=1)
    symmetric: Wanted = "any"
    narrow: Wanted = "any"
    farthest: int = Field(default=255, ge=1, le=255)


class ActivationRules(Settings):
    """The activations that a target takes. symmetric: codes are signed, without zero points; wide:
    those of 16 bits alone are.
    """

    bits: list[int] = Field(min_length=1)
    granularity: list[Granularity] = Field(default=["tensor"], min_length=1)
    symmetric: Wanted | Literal["wide"] = "any"
    dynamic: bool = False


class Target(Settings):
    """The rules of a runtime or a chip; see the module's text."""

    name: str
    about: str
    weights: WeightRules
    activations: ActivationRules
    required: bool = False
    scales: Scales = "any"
    batch: Literal["any", "fixed"] = "any"
    operators: list[str] = Field(default_factory=list)

    def chosen(self, group: Settings) -> dict[str, object]:
        """Settings of weights or activations that a recipe leaves open and the target does not take
        as they are, with what it takes.
        """
        rules = self.weights if "narrow" in type(group).model_fields else self.activations
        given: Mapping[str, Any] = dict(group)
        fixed = not given.get("dynamic", False)  # else it is refused
        mine: dict[str, object] = {"scales": self.scales} if self.scales != "any" and fixed else {}
        if given["granularity"] not in rules.granularity:
            mine["granularity"] = rules.granularity[0]
        wanted = {"symmetric": self._symmetric(rules, given["bits"])}
        if isinstance(rules, WeightRules) and isinstance(given["bits"], int):
            wanted["narrow"] = rules.narrow
        mine |= {name: value for name, value in wanted.items() if value != "any"}
        stated = group.model_fields_set
        return {k: v for k, v in mine.items() if k not in stated and given[k] != v}

    def check(self, plan: Plan) -> None:
        """Raise RecipeError, naming the first layer or activation quantizer that the target does
        not take, what it takes, and what to do.
        """
        if self.required and not plan.taps:
            raise RecipeError(
                f"target {self.name}: it computes in integers alone, and the recipe leaves "
                f"activations float; choose activations.bits={self._bits(self.activations.bits)}"
            )
        for layer in plan.layers:
            self.check_layer(layer)
        for tap in plan.taps:
            self._check_tap(tap)

    def check_layer(self, layer: LayerPlan) -> None:
        """Raise RecipeError where the target does not take a layer."""
        where, rules = f"target {self.name}: layer {layer.name}", self.weights
        if layer.spec is None:
            if self.required and "shares the weight" not in layer.reason:
                raise RecipeError(f"{where} stays float ({layer.reason}); it takes none that do")
            return
        bits = self._common(where, layer.spec, rules, "weights")
        alphabet = layer.spec.alphabet
        far = alphabet.count - 1 if alphabet.has_zero_point else max(-alphabet.qmin, alphabet.qmax)
        if far > rules.farthest:
            raise RecipeError(
                f"{where}: codes up to {far} from their zero point; it takes {rules.farthest}; set "
                f"weights.symmetric=true, or fewer weights.bits"
            )
        narrow = -alphabet.qmin == alphabet.qmax
        if rules.narrow is True and bits > 2 and not narrow:
            raise RecipeError(
                f"{where}: codes from {alphabet.qmin} to {alphabet.qmax}; it takes symmetric ones; "
                f"set weights.narrow=true"
            )

    def _check_tap(self, tap: TapPlan) -> None:
        where = f"target {self.name}: activation {tap.name}"
        self._common(where, tap.spec, self.activations, "activations")
        if tap.dynamic and not self.activations.dynamic:
            raise RecipeError(
                f"{where}: its range is chosen for every batch; it takes fixed ones; set "
                f"activations.dynamic=false"
            )

    def _common(
        self, where: str, spec: GridSpec, rules: WeightRules | ActivationRules, group: str
    ) -> int:
        """Check a grid; returns its bits."""
        alphabet, bits = spec.alphabet, int(spec.alphabet.width)
        if not alphabet.even or alphabet.varies:
            raise RecipeError(
                f"{where}: numbers are {alphabet.kind}; it takes equal steps, as many in each "
                f"channel; set {group}.levels=null and {group}.allocate=null"
            )
        if bits not in rules.bits:
            nearest = min((b for b in rules.bits if b > bits), default=max(rules.bits))
            raise RecipeError(
                f"{where}: {bits} bits; it takes {self._bits(rules.bits)}; set "
                f"{group}.bits={nearest}, or of this layer alone"
            )
        if spec.share.kind not in rules.granularity:
            raise RecipeError(
                f"{where}: a scale a {spec.share.kind}; it takes one a "
                f"{' or '.join(rules.granularity)}; set {group}.granularity={rules.granularity[0]}"
            )
        if self._symmetric(rules, bits) is True and (alphabet.has_zero_point or alphabet.qmin >= 0):
            raise RecipeError(
                f"{where}: codes with zero points; it takes none; set {group}.symmetric=true"
            )
        if self.scales != "any" and not spec.powers:
            raise RecipeError(
                f"{where}: any scales; it takes powers of two; set {group}.scales={self.scales}"
            )
        return bits

    @staticmethod
    def _symmetric(rules: WeightRules | ActivationRules, bits: object) -> Wanted:
        """Whether codes of so many bits have no zero points."""
        if rules.symmetric != "wide":
            return rules.symmetric
        return True if isinstance(bits, int) and bits > _BYTE else "any"

    @staticmethod
    def _bits(bits: list[int]) -> str:
        whole = len(bits) > 2 and bits == list(range(bits[0], bits[-1] + 1))
        return f"{bits[0]} to {bits[-1]}" if whole else " or ".join(map(str, bits))


def target_names() -> tuple[str, ...]:
    """Targets that come along, in alphabetical order."""
    folder = resources.files(_FOLDER).joinpath("targets")
    found = (entry.name for entry in folder.iterdir())
    return tuple(sorted(n.removesuffix(_SUFFIX) for n in found if n.endswith(_SUFFIX)))


def load_target(source: str) -> Target:
    """A target by its name, or the path of a YAML file. Raises RecipeError where there is none."""
    if source in target_names():
        file = resources.files(_FOLDER).joinpath(f"targets/{source}{_SUFFIX}")
    elif Path(source).is_file():
        file = Path(source)
    else:
        raise RecipeError(
            f"unknown target {source!r}; known: {', '.join(target_names())}, or a YAML file"
        )
    own = {"name": Path(source).stem} | read_settings(file, f"target {source}")
    return parse_settings(Target, own, f"target {source}")
