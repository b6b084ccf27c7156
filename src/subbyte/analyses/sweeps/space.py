"""A space of runs, as a YAML file says it.

    name: gpfq-bits
    recipe: gpfq                            # what every run starts from; these may be axes as well:
                                            recipe, model,
    model: resnet20                         #   checkpoint (float weights), data, normalize, resize,
                                                crop, interpolation, calibration,
    data: cifar10:PATH                      #   task, seed, and any setting of a recipe by its path
    task: classification                    # how outputs are judged, as --task; chosen by targets
                                            #   and outputs unless given
    set: {weights.correction: none}         # settings of all runs
    grid:                                   # every combination of
      weights.bits: 1..8                    #   whole numbers from 1 to 8
      weights.scalar: 1.0..2.0..0.05        #   numbers from 1 to 2 in steps of 0.05
      weights.rounding: [gpfq, gptq, ldnq]  #   a list
    pairs:                                  # lists of equal length that go together, place by
                                            place; a `label` is no
      - {label: [less, more], weights.bits: [4, 8], activations.bits: [8, 4]}   # setting: what
                                                                                tables call the
                                                                                place
    list: [{weights.bits: ternary}]         # single runs besides the grid, if there is one
    only: [{weights.bits: [2, 3]}]          # keep runs that match one of these,
    except: [{weights.rounding: ldnq, weights.bits: 8}]   # and drop those that match one of these
    seeds: [0, 1, 2]                        # every run with each of them
    measure: validation                     # or test: see `choose`
    validation: 2000                        # training images apart from the calibration images, to
                                            measure on
    keep_models: true                       # keep every run's network, in runs/HASH.safetensors
    choose: quantized_top1_percent          # report test accuracy once, for the setting that is
                                            best by this column

Runs come in the order of the file, the last axis fastest, seeds innermost.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from importlib import resources
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    ValidationInfo,
    field_validator,
    model_validator,
)

from subbyte.data import Interpolation
from subbyte.errors import RecipeError
from subbyte.io.numbers import Count, Real, Seed
from subbyte.io.texts import read_settings
from subbyte.recipe import Recipe, load_recipe, parse_settings
from subbyte.tasks import read_tasks

SPACES = ("gpfq-bits", "gpfq-scalars", "aciq-table", "ldnq-levels", "clips", "ranges")
LABEL = "label"
"""An axis that sets nothing."""
MOST_RUNS = 1_000_000
"""Runs of a space that are listed, before `only` and `except`, and values of an axis."""
_PIXELS = ("normalize", "resize", "crop", "interpolation")
PLACES = ("model", "checkpoint", "data", *_PIXELS, "task", "calibration")
"""The settings that a run has besides its recipe and its seed."""
_PATHS = ("recipe", "model", "checkpoint", "data", "task")  # may hold `..` that is no range
Setting = dict[str, object]
"""Values by axis, as YAML has them."""


class Measured(StrEnum):
    """The images that runs are measured on: training images apart from the calibration images, or
    the test split.
    """

    VALIDATION = "validation"
    TEST = "test"


class Space(BaseModel):
    """See the module's text."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    name: str = "sweep"
    recipe: str = "w8a8"
    model: str = ""
    checkpoint: str | None = None
    data: str = ""
    normalize: str | None = None
    resize: Count | None = None
    crop: Count | None = None
    interpolation: Interpolation | None = None
    task: str | None = None
    calibration: Count = 500
    fixed: Setting = Field(default={}, alias="set")
    grid: dict[str, object] = {}
    pairs: list[dict[str, list[Any]]] = []
    single: list[Setting] = Field(default=[], alias="list")
    only: list[Setting] = []
    drop: list[Setting] = Field(default=[], alias="except")
    seeds: list[Seed] = Field(default=[0], min_length=1)
    measure: Measured = Measured.VALIDATION
    validation: Count = 2000
    keep_models: StrictBool = False
    choose: str | None = None

    @field_validator("task")
    @classmethod
    def _task(cls, named: str | None) -> str | None:
        read_tasks(named)
        return named

    @field_validator("seeds", "pairs", mode="before")
    @classmethod
    def _ranges(cls, given: Any, info: ValidationInfo) -> Any:
        """Ranges as `grid` has them; what is no list and no range is left for pydantic to
        refuse.
        """
        if info.field_name == "seeds":
            return axis_values("seeds", given) if _is_range("seeds", given) else given
        if not isinstance(given, list) or not all(isinstance(pair, dict) for pair in given):
            return given
        return [
            {name: axis_values(name, v) if _is_range(name, v) else v for name, v in pair.items()}
            for pair in given
        ]

    @model_validator(mode="after")
    def _consistent(self) -> "Space":
        if self.choose is not None and self.measure is Measured.TEST:
            raise RecipeError(
                "choose: a setting is chosen on validation images; leave `measure: test` out"
            )
        if len(set(self.seeds)) != len(self.seeds):
            raise RecipeError(f"seeds: one of them is there twice: {self.seeds}")
        combined = [*self.grid, *(name for pair in self.pairs for name in pair)]
        twice = next((name for name in combined if combined.count(name) > 1), None)
        if twice is not None:
            raise RecipeError(
                f"{twice}: an axis in grid and pairs, or in two pairs; leave one of them out"
            )
        for key, conditions in (("only", self.only), ("except", self.drop)):
            for name, value in (pair for one in conditions for pair in one.items()):
                if name not in self.axes:
                    raise RecipeError(
                        f"{key}: {name} is no axis of this space; known: "
                        f"{', '.join(self.axes) or 'none'}"
                    )
                known = self._values(name)
                if odd := [
                    one
                    for one in (value if isinstance(value, list) else [value])
                    if one not in known
                ]:
                    raise RecipeError(
                        f"{key}: {name} is never {odd[0]!r} in this space; it is one of {known}"
                    )
        return self

    def _values(self, axis: str) -> list[Any]:
        """All values of an axis, wherever they are said."""
        found = axis_values(axis, self.grid[axis]) if axis in self.grid else []
        found += [value for pair in self.pairs for value in pair.get(axis, [])]
        return found + [one[axis] for one in self.single if axis in one]

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of what differs between runs, in the order of the file; the seed is not among
        them.
        """
        names = [
            *self.grid,
            *(name for pair in self.pairs for name in pair),
            *(n for one in self.single for n in one),
        ]
        return tuple(dict.fromkeys(names))

    def count(self) -> int:
        """The number of runs before `only` and `except`; cheap, whatever the number."""
        grid = [_length(name, values) for name, values in self.grid.items()]
        pairs = [len(next(iter(pair.values()))) for pair in self.pairs if pair]
        combined = prod(grid) * prod(pairs) if grid or pairs or not self.single else 0
        return (combined + len(self.single)) * len(self.seeds)

    def settings(self) -> Iterator[Setting]:
        """The settings of each run, seeds left out. Raises RecipeError for axes that do not fit
        together.
        """
        axes = [
            [{name: value} for value in axis_values(name, values)]
            for name, values in self.grid.items()
        ]
        axes += [_together(pair) for pair in self.pairs]
        combined = [] if not axes and self.single else product(*axes)
        for parts in combined:
            setting = {name: value for part in parts for name, value in part.items()}
            if self._kept(setting):
                yield setting
        yield from (setting for setting in self.single if self._kept(setting))

    def _kept(self, setting: Setting) -> bool:
        return (not self.only or any(map(_matches(setting), self.only))) and not any(
            map(_matches(setting), self.drop)
        )


@dataclass(frozen=True)
class Run:
    """One run: everything that determines its result, but for the contents of files.

    setting: what makes it differ from the others, by axis. recipe: resolved. split: what it is
        measured on.
    """

    setting: Setting
    recipe: Recipe
    model: str
    checkpoint: str | None
    data: str
    normalize: str | None
    resize: int | None
    crop: int | None
    interpolation: str | None
    task: str | None
    calibration: int
    seed: int
    split: Measured
    validation: int

    @property
    def inputs(self) -> tuple[Any, ...]:
        """The network and data that the run needs; runs of equal inputs share them."""
        pixels = (self.normalize, self.resize, self.crop, self.interpolation)
        return self.model, self.checkpoint, self.data, *pixels

    def value(self, axis: str) -> Any:
        """The value on an axis: of the setting, or, where that leaves it open, as it is for this
        run.
        """
        if axis in self.setting:
            return self.setting[axis]
        if axis in (*PLACES, "seed"):
            return getattr(self, axis)
        found: Any = {"recipe": self.recipe.name} | self.recipe.model_dump(mode="json")
        for part in axis.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return found


def make_runs(space: Space) -> list[Run]:
    """All runs in order. Raises RecipeError for an empty space, unknown settings, and values out of
    range.
    """
    if space.count() > MOST_RUNS:
        raise RecipeError(
            f"space {space.name}: {space.count():,} runs are too many to list; give fewer values, "
            f"or pairs of them: {MOST_RUNS:,} runs at most"
        )
    runs = [_run(space, setting, seed) for setting in space.settings() for seed in space.seeds]
    if not runs:
        raise RecipeError(
            f"space {space.name}: there is no run in it; give it a grid, pairs or a list, or less "
            f"`only`"
        )
    return runs


def _run(space: Space, setting: Setting, seed: int) -> Run:
    chosen = {name: value for name, value in {**space.fixed, **setting}.items() if name != LABEL}
    places = {name: chosen.pop(name, getattr(space, name)) for name in PLACES}
    missing = next((name for name in ("model", "data") if not places[name]), None)
    if missing:
        raise RecipeError(
            f"space {space.name}: {missing} is missing; write it into the file, or give --{missing}"
        )
    where = f"space {space.name}, run {setting or 'without settings'}"
    asked = {
        **places,
        "recipe": chosen.pop("recipe", space.recipe),
        "seeds": [chosen.pop("seed", seed)],
    }
    valid = parse_settings(Space, asked, where)
    overrides = [
        f"{path}={yaml.safe_dump(value, default_flow_style=True).strip()}"
        for path, value in chosen.items()
    ]
    overrides = [text.removesuffix("...").strip() for text in overrides]
    try:
        recipe = load_recipe(valid.recipe, overrides)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error
    resolved = {name: getattr(valid, name) for name in PLACES}
    return Run(
        setting,
        recipe,
        seed=valid.seeds[0],
        split=space.measure,
        validation=space.validation,
        **resolved,
    )


def load_space(source: str | Path, changes: Mapping[str, Any] | None = None) -> Space:
    """A space by the name of a preset or from a YAML file, with top-level values in `changes` put
    in place.

    Raises RecipeError with the path of what is unknown or out of range.
    """
    text = str(source)
    if text in SPACES:
        file = resources.files("subbyte.analyses.sweeps").joinpath(f"spaces/{text}.yaml")
    elif Path(text).is_file():
        file = Path(text)
    else:
        raise RecipeError(f"space {text!r} is neither a preset ({', '.join(SPACES)}) nor a file")
    settings = {"name": Path(text).stem} | read_settings(file, f"space {text}")
    return parse_settings(Space, {**settings, **(changes or {})}, f"space {text}")


def axis_values(name: str, values: Any) -> list[Any]:
    """The values of an axis: a list, `a..b`, `a..b..step`, or one value. Raises RecipeError for
    empty or odd ones.
    """
    if isinstance(values, list):
        found = values
    elif _is_range(name, values):
        first, step, count = _range(name, values)
        if count > MOST_RUNS:
            raise RecipeError(
                f"axis {name}: {values[:100]} are {count:,} values, too many to list; give "
                f"{MOST_RUNS:,} at most"
            )
        whole = all(
            part == part.to_integral_value() and "." not in str(part) for part in (first, step)
        )
        found = [int(first + k * step) if whole else float(first + k * step) for k in range(count)]
    else:
        found = [values]
    if not found:
        raise RecipeError(f"axis {name}: there are no values in {values!r}")
    return found


def _length(name: str, values: Any) -> int:
    return _range(name, values)[2] if _is_range(name, values) else len(axis_values(name, values))


def _is_range(name: str, values: Any) -> bool:
    return isinstance(values, str) and ".." in values and name not in _PATHS


def _range(name: str, text: str) -> tuple[Decimal, Decimal, int]:
    """The first number, the step, and how many there are."""
    try:
        texts = [part.strip() for part in text.split("..")]
        for one in texts:
            Real().read(one)  # Decimal takes NaN, and more than settings do
        first, last, step = map(Decimal, texts if len(texts) == 3 else (*texts, "1"))
        if step <= 0:
            raise ValueError
    except ValueError:
        raise RecipeError(
            f"axis {name}: expected from..to or from..to..step, such as 1..8, got {text[:100]!r}"
        ) from None
    return first, step, int((last - first) / step) + 1 if last >= first else 0


def _together(pair: dict[str, list[Any]]) -> list[Setting]:
    lengths = {name: len(values) for name, values in pair.items()}
    if len(set(lengths.values())) != 1:
        raise RecipeError(f"pairs: lists that go together must be of equal length, got {lengths}")
    return [dict(zip(pair, values, strict=True)) for values in zip(*pair.values(), strict=True)]


def _matches(setting: Setting) -> Any:
    def matches(wanted: Setting) -> bool:
        return all(
            name in setting and setting[name] in (value if isinstance(value, list) else [value])
            for name, value in wanted.items()
        )

    return matches
