"""The clips that a search of `subbyte gradquant` chose, as ranges of a plan."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from subbyte.core import GridSpec
from subbyte.errors import RecipeError
from subbyte.io.settings import fingerprint
from subbyte.ranges import Clip
from subbyte.ranges.clips import clip_spec
from subbyte.ranges.metrics import metric_name, parse_metric
from subbyte.recipe import LayerPlan, Plan
from subbyte.records.clips import (
    LOSS,
    MINMAX,
    Choice,
    Ends,
    Search,
    read_clips,
    read_search,
)

_FINEST_FIRST = ("channel", "layer", "network")


@dataclass(frozen=True)
class Clips:
    """A folder of a clip search, and the metric in it whose choices are taken."""

    folder: Path
    search: Search
    metric: str

    @classmethod
    def read(cls, folder: Path, metric: str) -> "Clips":
        """The clips of a folder. Raises FormatError where it holds no search or a damaged one,
        RecipeError where the metric did not choose in it.
        """
        search = read_search(folder)
        names = list(dict.fromkeys(choice.metric for choice in search.choices))
        name = metric if metric in ("", LOSS, MINMAX) else metric_name(parse_metric(metric))
        if name not in names:
            given = f"{name} chose nothing" if name else "whose choices are taken is not said"
            raise RecipeError(
                f"clips of {folder}: {given}; give --clips-by one of {', '.join(names)}"
            )
        if not {"weights", "symmetric"} <= search.settings.keys():
            raise RecipeError(
                f"clips of {folder}: it has no settings.json that says of which network they are; "
                f"make the search anew with `subbyte gradquant`"
            )
        return cls(folder, search, name)

    def check(self, model: nn.Module) -> None:
        """Raise RecipeError for a network with other weights than the search's."""
        if self.search.settings["weights"] != fingerprint(model):
            named = self.search.settings.get("model", "")
            raise RecipeError(
                f"clips of {self.folder} were searched for another network or other weights "
                f"({named}); make a search of this one with `subbyte gradquant`"
            )

    def applied(self, plan: Plan) -> Plan:
        """The plan with the clips as ranges of its quantized weights.

        Raises RecipeError for a layer with a grid that was not scanned.
        """
        clips: dict[Choice, dict[str, Ends]] = {}
        layers = []
        for layer in plan.layers:
            if layer.spec is not None:
                choice = self._choice(layer.name, layer.spec)
                if choice not in clips:
                    clips[choice] = self._clips(choice, plan)
                layer = self._with(layer, clips[choice])
            layers.append(layer)
        return replace(plan, layers=tuple(layers))

    @staticmethod
    def _with(layer: LayerPlan, clips: dict[str, Ends]) -> LayerPlan:
        """The layer with its clips; one that shares its weight has the owner's, which is listed."""
        if layer.name not in clips:
            return layer
        ends = clips[layer.name]
        return replace(layer, range=Clip(ends.lower, ends.upper))

    def _clips(self, choice: Choice, plan: Plan) -> dict[str, Ends]:
        if choice.metric != MINMAX and choice.granularity != "network":
            return read_clips(self.folder, choice)
        ends = Ends((self._scanned(choice.lower),), (self._scanned(choice.upper),))
        return {layer.name: ends for layer in plan.layers}

    def _scanned(self, clip: float) -> float:
        """The clip that was tried; tables of choices round it."""
        tried = (row.clip for row in self.search.scan)
        return next((one for one in tried if abs(one - clip) < 1e-8), clip)

    def _choice(self, name: str, spec: GridSpec) -> Choice:
        """The choice for a layer's grid: one clip a layer before one for all."""
        for choice, searched in self._choices():
            if _alike(searched, spec):
                return choice
        scales = "/".join(dict.fromkeys(one.share.kind for _, one in self._choices()))
        bits = ", ".join(dict.fromkeys(str(choice.bits) for choice, _ in self._choices()))
        symmetric = str(self.search.settings["symmetric"]).lower()
        raise RecipeError(
            f"clips of {self.folder} do not fit layer {name} ({spec.label} bits, granularity "
            f"{spec.share.kind}): they were scanned at {bits} bits; --set "
            f"weights.granularity={scales}, weights.symmetric={symmetric}, or scan that grid"
        )

    def _choices(self) -> Iterator[tuple[Choice, GridSpec]]:
        for granularity in _FINEST_FIRST:
            for choice in self.search.choices:
                if (choice.granularity, choice.metric) == (granularity, self.metric):
                    yield (
                        choice,
                        clip_spec(
                            choice.bits,
                            symmetric=bool(self.search.settings["symmetric"]),
                            per_channel=granularity == _FINEST_FIRST[0],
                        ),
                    )


def _alike(searched: GridSpec, spec: GridSpec) -> bool:
    """Whether two grids reach as far at the same clip, in as many steps; with a zero point it does
    not matter from which code they count.
    """
    if (searched.share, searched.powers) != (spec.share, spec.powers) or not spec.alphabet.even:
        return False
    ours, theirs = searched.alphabet, spec.alphabet
    if ours.has_zero_point and theirs.has_zero_point:
        return ours.count == theirs.count
    return ours.has_zero_point == theirs.has_zero_point and ours.positions == theirs.positions
