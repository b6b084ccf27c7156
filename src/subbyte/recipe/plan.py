"""Plans: every decision that is taken before data are seen, layer by layer and activation by
activation.

A plan can be written (plan.yaml) and run again: together with the network, the calibration images
and the limits of the walk it determines every code.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import (
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictBool,
    StrictFloat,
    StrictInt,
    TypeAdapter,
)
from torch import Tensor

from subbyte.allocate import ALLOCATIONS, Budget
from subbyte.core import GridSpec
from subbyte.core.geometry import Kind
from subbyte.correct import CORRECTIONS, Bias
from subbyte.errors import RecipeError
from subbyte.graph import TapPlace
from subbyte.io.registry import ANYWHERE
from subbyte.io.texts import parse_yaml, read_settings
from subbyte.io.user_file import MACHINE, UserFiles
from subbyte.methods import Allocate, Correction, Precondition, Range, Rounding, Tune, calls
from subbyte.methods.blame import blaming
from subbyte.precondition import PRECONDITIONS
from subbyte.ranges import RANGES
from subbyte.recipe.settings import BudgetSetting, WidthSetting, parse_settings, read, whole
from subbyte.rounding import ROUNDINGS, Nearest
from subbyte.tuning import TUNES

VERSION = 2
"""The version of what a plan writes; a plan of another one is not read."""
Role = Literal["input", "feed", "value"]
_CONFIG = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


def _read_spec(entry: Any) -> GridSpec:
    if isinstance(entry, GridSpec):
        return entry
    return GridSpec.from_dict(entry)


Spec = Annotated[GridSpec, PlainValidator(_read_spec), PlainSerializer(GridSpec.to_dict)]


@dataclass(frozen=True)
class LayerPlan:
    """asked: the width that the recipe states; budget: what chooses one in its place; spec: None
    when the layer stays float, for the `reason` given; shape: of the weight, as torch has it; rows:
    output channels; scalar: factor on the scales that the range chooses; guided: runs of output
    channels whose inputs are weighted by squared gradients to the power guided_power, 0 for none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    name: str
    kind: Kind
    shape: tuple[Annotated[StrictInt, Field(ge=1, lt=2**31)], ...]
    rows: Annotated[StrictInt, Field(ge=1)]
    asked: WidthSetting
    spec: Annotated[Spec | None, Field(alias="grid")]
    range: Annotated[Range, read(RANGES), whole(RANGES)]
    rounding: Annotated[Rounding, read(ROUNDINGS), whole(ROUNDINGS)]
    correction: Annotated[Correction, read(CORRECTIONS), whole(CORRECTIONS)]
    reason: str = ""
    scalar: Annotated[StrictFloat, Field(gt=0, allow_inf_nan=False)] = 1.0
    precondition: Annotated[Precondition, read(PRECONDITIONS), whole(PRECONDITIONS)] | None = None
    allocate: Annotated[Allocate, read(ALLOCATIONS), whole(ALLOCATIONS)] | None = None
    guided: Annotated[StrictInt, Field(ge=0)] = 0
    guided_power: Annotated[StrictFloat, Field(gt=0, le=1)] = 1.0
    budget: BudgetSetting | None = None

    def check(self, where: str) -> None:
        """Raise RecipeError where one of its methods refuses its grid. where: for the message."""
        methods = (self.range, self.rounding, self.correction, self.precondition, self.allocate)
        for method in filter(None, methods):
            reason = None if self.spec is None else method.refusal(self.spec)
            if reason is not None:
                raise RecipeError(f"{where}: {reason}")
        if self.spec is not None:
            _check_varying(self.spec, self.allocate, where)
            given = len(self.spec.alphabet.given)
            if given not in (0, self.rows):
                raise RecipeError(f"{where}: grid: numbers for {given} rows, it has {self.rows}")

    @property
    def reads_products(self) -> bool:
        """Whether one of its methods reads second moments of pairs of inputs."""
        if self.precondition is not None or self.guided:
            return True
        return self.rounding.objective.reads_products or self.correction.reads_products

    def without_products(self, reason: str) -> "LayerPlan":
        """The plan with methods that read none in place of those that do: nearest codes, right on
        average. reason: why.
        """
        named = f"no more than nearest codes and the mean: {reason}"
        return replace(
            self,
            rounding=Nearest() if self.rounding.objective.reads_products else self.rounding,
            correction=Bias() if self.correction.reads_products else self.correction,
            precondition=None,
            guided=0,
            reason=f"{self.reason}; {named}" if self.reason else named,
        )

    @property
    def importance(self) -> str:
        """Whose importance the range goes by: inputs, fisher or gradient."""
        return self.range.importance

    @property
    def wanted(self) -> str:
        """The request in words: a width, or that a budget chooses it."""
        return str(self.asked) if self.budget is None else f"budget {self.budget}"


@dataclass(frozen=True)
class TapPlan:
    """place: where in the graph; role: input, feed (in front of layers only) or value; feeds:
    layers that read it; dynamic: the range is chosen for every batch.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    place: TapPlace
    role: Role
    asked: WidthSetting
    spec: Annotated[Spec, Field(alias="grid")]
    range: Annotated[Range, read(RANGES), whole(RANGES)]
    feeds: tuple[str, ...]
    reason: str = ""
    allocate: Annotated[Allocate, read(ALLOCATIONS), whole(ALLOCATIONS)] | None = None
    dynamic: StrictBool = False

    def check(self, where: str) -> None:
        """Raise RecipeError where its range or its place does not go with its grid. where: for the
        message.
        """
        with blaming(self.range, "for_activations"):
            fits = self.range.for_activations
        if not fits:
            raise RecipeError(f"{where}: range: it is a rule for weights, not for activations")
        for method in filter(None, (self.range, self.allocate)):
            reason = method.refusal(self.spec)
            if reason is not None:
                raise RecipeError(f"{where}: {reason}")
        _check_varying(self.spec, self.allocate, where)
        axis, share = self.place.axis, self.spec.share
        if share.block is not None or share.one_scale != (axis is None):
            wanted = "no axis" if share.one_scale else "the axis of its channels"
            if share.block is not None:
                wanted = "share tensor or channel"
            raise RecipeError(
                f"{where}: place.axis {axis} with share {share.kind} does not go; give {wanted}"
            )

    @property
    def name(self) -> str:
        """The activation quantizer's name."""
        return self.place.name

    def fit(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Scale [rows] and zero point [rows] of a batch's values [rows, n], for those that are
        dynamic.
        """
        return calls.choose(self.range, values, None, self.spec)


@dataclass(frozen=True)
class Plan:
    """Every decision taken before data is seen. target: whose rules it obeys, None for no one's."""

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    recipe: str
    layers: tuple[LayerPlan, ...]
    taps: Annotated[tuple[TapPlan, ...], Field(alias="activations")]
    tune: Annotated[Tune, read(TUNES), whole(TUNES)] | None = None
    target: str | None = None

    @property
    def needs_labels(self) -> bool:
        """Whether its tuning learns from the labels of the calibration images."""
        if self.tune is None:
            return False
        with blaming(self.tune, "needs_labels"):
            return self.tune.needs_labels

    @property
    def name(self) -> str:
        """The name of the recipe that it was made from."""
        return self.recipe

    @property
    def budget(self) -> Budget | None:
        """Always None: a budget has chosen the widths already, so nothing waits for data."""
        return None

    def stated(self, files: UserFiles = MACHINE) -> dict[str, object]:
        """Settings of a recipe that it leaves open: none; its own text says all."""
        return {}

    def to_dict(self, files: UserFiles = MACHINE) -> dict[str, object]:
        """Plain values for YAML and JSON; `from_dict` reads them.

        files: with the folder of the file that they go into, which names classes of users' files
        relative to it; by default by where they are on this machine.
        """
        plain = _adapter().dump_python(self, mode="json", by_alias=True, context=files)
        return {"version": VERSION, **plain}

    def to_yaml(self, files: UserFiles = MACHINE) -> str:
        """Human-readable text of `to_dict`."""
        return yaml.safe_dump(self.to_dict(files), sort_keys=False, width=120)

    @classmethod
    def from_dict(cls, data: object, files: UserFiles = ANYWHERE) -> "Plan":
        """Inverse of `to_dict`. files: where classes of users' files are.

        Raises RecipeError with the path of what is unknown, missing or out of range, and where a
        method refuses its grid.
        """
        plan = parse_settings(cls, _current(data), "plan", files)
        for layer in plan.layers:
            layer.check(f"plan: layer {layer.name}")
        for tap in plan.taps:
            tap.check(f"plan: activation quantizer {tap.name}")
        return plan

    @classmethod
    def from_yaml(cls, text: str, files: UserFiles = ANYWHERE) -> "Plan":
        """Inverse of `to_yaml`. Raises RecipeError as `from_dict` does."""
        return cls.from_dict(parse_yaml(text, "plan"), files)

    @classmethod
    def read(cls, path: str | Path, *, run: bool = True) -> "Plan":
        """The plan of a file. run: whether users' files that it names are executed.

        Raises RecipeError where it can't be read.
        """
        path = Path(path)
        settings = read_settings(path, str(path))
        try:
            return cls.from_dict(settings, UserFiles(path.parent, run))
        except RecipeError as error:
            raise RecipeError(f"{path}: {error}") from error


def _check_varying(spec: GridSpec, allocate: Allocate | None, where: str) -> None:
    """Raise RecipeError where rows vary and nothing says how."""
    if spec.alphabet.varies and allocate is None and not len(spec.alphabet.given):
        raise RecipeError(f"{where}: a grid of {spec.alphabet.kind} needs allocate to choose them")


def _current(data: object) -> object:
    """A plan's entries but for its version, which is checked."""
    if not isinstance(data, Mapping):
        return data
    if data.get("version") != VERSION:
        stated = f"version {data['version']!r}" if "version" in data else "no version"
        raise RecipeError(
            f"plan: {stated}, this subbyte reads version {VERSION}: it was written by another "
            f"version of subbyte; make it anew with `subbyte quantize`"
        )
    return {key: value for key, value in data.items() if key != "version"}


@cache
def _adapter() -> TypeAdapter[Plan]:
    return TypeAdapter(Plan)
