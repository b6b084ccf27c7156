"""The search for the best network: it tries sizes, roundings and tuning, each by a walk, and judges
what comes of them on samples held apart.

A size that is stated (bits of every layer, or a budget) is walked with each rounding, and the
network nearest to the float one is taken. For a drop that is allowed the smallest size is found
among `_SIZES` budgets, from that of the narrowest widths to that of the widest, by bisection; the
promise is held at the upper end of the drop's interval, and all decisions together are right with
the confidence that is stated (`drops`). Layers' sensitivities and the float network's statistics
are found once for all walks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Annotated, TypeVar

from torch import Tensor, nn

from subbyte import recipe as recipes
from subbyte.allocate import Budget, Measure
from subbyte.data import Split
from subbyte.engine.apart import Apart, Verdict
from subbyte.engine.budget import meet_budget
from subbyte.engine.calibration import ForwardFn, Source, collect
from subbyte.engine.drops import decisions, fewest_samples, ladder, smallest
from subbyte.engine.limits import Limits
from subbyte.engine.quantization import Quantization, carry_out, decide, taught
from subbyte.engine.stages import Report, Stages, silent
from subbyte.errors import DataError, RecipeError
from subbyte.graph import Network, Samples, prepare, unwrapped
from subbyte.io.cache import Cache
from subbyte.io.numbers import Bounded, Positive, Real
from subbyte.io.workplaces import scratch
from subbyte.methods import Rounding, Task
from subbyte.recipe import Plan, Recipe, Settings, load_recipe
from subbyte.records import Trial, Trials
from subbyte.rounding import ROUNDINGS, Adaround, Corrected
from subbyte.tuning import Distill

_SIZES = 31
_ROUNDINGS = (Corrected(), Adaround())  # the best of docs/rounding.md
_TUNINGS = 2  # with a drop that is allowed: of the next smaller size, and of the one that holds it
_LARGER = 1.25  # times the budget: what more bytes would bring
S = TypeVar("S", bound=Settings)
_UNITS = {Measure.BITS: "bits", Measure.BYTES: "B", Measure.OPERATIONS: "bops"}


@dataclass(frozen=True)
class Wish(Bounded):
    """max_drop: how much the figure may lose, in its units; None where the recipe states the size;
    tune: how the network learns after its walk, None for not; confidence: percent. Raises
    RecipeError for what is out of range.
    """

    max_drop: Positive | None = None
    tune: Distill | None = None
    confidence: Annotated[float, Real(50, 100, below=True)] = 95.0

    def check(self, recipe: Recipe) -> None:
        """Raise RecipeError where a recipe does not go with it."""
        if recipe.tune is not None:
            raise RecipeError(
                "best: the recipe tunes already; leave out its `tune`, and say for how long "
                "(--time)"
            )
        if self.max_drop is not None and recipe.budget is not None:
            raise RecipeError(
                "best: a budget states the size that max_drop finds; give one of them"
            )

    @property
    def tail(self) -> float:
        """The probability with which each end of an interval may be exceeded."""
        alpha = 1 - self.confidence / 100
        if self.max_drop is None:
            return alpha / 2
        return alpha / (decisions(_SIZES) + (0 if self.tune is None else _TUNINGS))


def best(
    model: nn.Module,
    images: Source,
    apart: Source,
    recipe: recipes.Source = "best",
    *,
    max_drop: float | None = None,
    seconds: float = 0.0,
    targets: Tensor | None = None,
    task: Task | None = None,
    confidence: float = 95.0,
    forward_fn: ForwardFn | None = None,
    limits: Limits | None = None,
    progress: Report = silent,
) -> Quantization:
    """Quantize a trained network in the best way that is found: `.model` is it, `.trials` says what
    was tried.

    images: of calibration, as for `quantize`; apart: others to judge by, neither calibrated on nor
    to be tested on; targets: theirs, such as int64 [n]: drops are of the task's first score, or
    without them of agreement with float; recipe: with the size: bits of weights or a budget; the
    activations' bits; the rounding, if it is not to be chosen; max_drop: the smallest network is
    found that loses no more, in points of that score, in place of a stated size; seconds: of
    tuning.
    Raises SubbyteError (see `errors`) when something does not fit.
    """
    model, limits = unwrapped(model), limits or Limits()
    wish = Wish(max_drop, Distill(seconds=seconds) if seconds else None, confidence)
    samples = collect(images, model, forward_fn)
    others = collect(apart, model, forward_fn)
    split = Split("apart", others.at, len(others), () if targets is None else (targets,))
    return search(
        prepare(model, samples),
        load_recipe(recipe),
        samples,
        Apart(model, split, () if task is None else (task,), limits.device),
        wish,
        limits=limits,
        stages=Stages(progress),
    )


def search(
    network: Network,
    recipe: Recipe,
    images: Tensor | Samples,
    apart: Apart,
    wish: Wish,
    *,
    accept: Callable[[Plan], object] = lambda plan: None,
    limits: Limits | None = None,
    stages: Stages | None = None,
) -> Quantization:
    """The best network of a recipe, with the record of the search.

    accept: see `quantization.carry_out`. Raises RecipeError where recipe and wish do not go
    together, DataError where there are too few samples to hold a promise by.
    """
    wish.check(recipe)
    limits = limits or Limits()
    if not limits.processes.alone:
        raise RecipeError("best: the search is for one process; start it without torchrun")
    if wish.max_drop is not None and apart.measure.unit == "%":
        least = fewest_samples(wish.max_drop, wish.tail)
        if apart.samples < least:
            raise DataError(
                f"best: a drop of at most {wish.max_drop:g} points can't be shown at "
                f"{wish.confidence:g} % confidence with {apart.samples:,} samples held apart, not "
                f"even where none differs; it takes {least:,}. Hold more apart, or allow more"
            )
    with scratch() as folder:
        limits = replace(limits, cache=Cache(folder))
        trials = _Search(network, recipe, images, apart, wish, accept, limits, stages or Stages())
        return trials.run()


@dataclass(frozen=True, eq=False)
class _Made:
    """A network that was tried. number: of its trial; size: as asked for."""

    number: int
    size: str
    done: Quantization
    verdict: Verdict


class _Search:
    """Tries networks and keeps what was found of each."""

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        images: Tensor | Samples,
        apart: Apart,
        wish: Wish,
        accept: Callable[[Plan], object],
        limits: Limits,
        stages: Stages,
    ) -> None:
        self.network, self.recipe, self.images, self.apart = network, recipe, images, apart
        self.wish, self.accept, self.limits, self.stages = wish, accept, limits, stages
        self.tried: list[Trial] = []

    def run(self) -> Quantization:
        """The best network."""
        chosen = self.stated() if self.wish.max_drop is None else self.promised()
        measure = self.apart.measure
        trials = [
            trial.model_copy(update={"chosen": number == chosen.number})
            for number, trial in enumerate(self.tried)
        ]
        record = Trials(
            figure=measure.name,
            unit=measure.unit,
            samples=self.apart.samples,
            choosing=self.apart.choosing,
            confidence=self.wish.confidence,
            max_drop=self.wish.max_drop,
            trials=trials,
        )
        return replace(chosen.done, trials=record)

    def stated(self) -> _Made:
        """The best network of the size that the recipe states; a larger one is tried, too."""
        rounding, chosen = self.rounded(self.recipe)
        larger = _larger(self.recipe)
        if larger is not None:
            self.walk(larger, rounding)
        if self.wish.tune is None:
            return chosen
        return _nearest([chosen, self.tune(chosen, self.wish.tune)])

    def promised(self) -> _Made:
        """The smallest network that is shown to lose no more than is allowed; the largest, where
        none is.
        """
        sizes = self.sizes()
        few = len(sizes) // 4  # where roundings differ most, and the bisection often passes
        rounding, first = self.rounded(self.budget(sizes[few]))
        found = {True: first, False: first}

        def holds(place: int) -> bool:
            made = first if place == few else self.walk(self.budget(sizes[place]), rounding)
            held = self.held(made.verdict)
            found[held] = made
            return held

        place, tune = smallest(len(sizes), holds), self.wish.tune
        if place is None:
            return found[False]
        if tune is None:
            return found[True]
        tune = replace(tune, seconds=tune.seconds / _TUNINGS)
        if place:
            smaller = self.tune(found[False], tune)
            if self.held(smaller.verdict):
                return smaller
        tuned = self.tune(found[True], tune)
        return _nearest([found[True], tuned]) if self.held(tuned.verdict) else found[True]

    def sizes(self) -> list[int]:
        """Bytes of layers that are tried."""
        with self.stages.stage("plan") as report:
            _, options = meet_budget(
                self.network,
                self.budget(2**60),
                self.images,
                limits=self.limits,
                progress=report,
            )
        sizes: dict[str, list[int]] = {}
        for option in options:
            sizes.setdefault(option.layer, []).append(option.bytes)
        least, most = (sum(map(pick, sizes.values())) for pick in (min, max))
        return ladder(least, most, _SIZES)

    def budget(self, size: int) -> Recipe:
        """The recipe with a budget of bytes."""
        return _changed(self.recipe, budget=Budget.parse(f"{size}B"))

    def rounded(self, recipe: Recipe) -> tuple[Rounding, _Made]:
        """The rounding by which a recipe's network is nearest, and that network."""
        roundings: tuple[Rounding, ...] = (recipe.weights.rounding,)
        if "rounding" not in recipe.weights.model_fields_set:
            roundings = _ROUNDINGS
        made = [self.walk(recipe, rounding) for rounding in roundings]
        chosen = _nearest(made)
        return roundings[made.index(chosen)], chosen

    def walk(self, recipe: Recipe, rounding: Rounding) -> _Made:
        """Try a recipe with a rounding; widths are shared out by the recipe's own."""
        size, name = _size(recipe), ROUNDINGS.name(rounding)
        stages, own = self.stages.about(f"{size}, {name}"), recipe.weights.rounding
        with stages.stage("plan") as report:
            plan, options = decide(self.network, recipe, self.images, self.limits, report)
        layers = (
            replace(layer, rounding=rounding) if layer.rounding == own else layer
            for layer in plan.layers
        )
        done = carry_out(
            lambda: self.network,
            replace(plan, layers=tuple(layers)),
            self.images,
            accept=self.accept,
            limits=self.limits,
            stages=stages,
        )
        return self.judged(size, name, replace(done, options=options), 0, stages)

    def tune(self, start: _Made, method: Distill) -> _Made:
        """Let a network that was tried learn."""
        rounding = self.tried[start.number].rounding
        stages = self.stages.about(f"{start.size}, tuned")
        done = taught(start.done, method, self.images, self.apart.task, self.limits, stages)
        return self.judged(start.size, rounding, done, done.lessons[-1].steps, stages)

    def judged(
        self, size: str, rounding: str, done: Quantization, steps: int, stages: Stages
    ) -> _Made:
        """Judge a network, and note it."""
        with stages.stage("judge") as report:
            verdict = self.apart.judge(done.model, self.wish.tail, report)
        drop = verdict.drop
        self.tried.append(
            Trial(
                size=size,
                rounding=rounding,
                steps=steps,
                bytes=done.model.packed_bytes,
                drop=_finite(drop.value),
                low=_finite(drop.low),
                high=_finite(drop.high),
                distance=verdict.distance,
                holds=None if self.wish.max_drop is None else self.held(verdict),
            )
        )
        return _Made(len(self.tried) - 1, size, done, verdict)

    def held(self, verdict: Verdict) -> bool:
        """Whether a network is shown to lose no more than is allowed."""
        assert self.wish.max_drop is not None
        return verdict.drop.high <= self.wish.max_drop


def _nearest(made: Sequence[_Made]) -> _Made:
    return min(made, key=lambda one: one.verdict.distance)


def _changed(settings: S, **changes: object) -> S:
    """Settings with changes; what is left open stays so, for targets to decide."""
    stated = {name: dict(settings)[name] for name in settings.model_fields_set}
    return type(settings)(**stated | changes)


def _with_weights(recipe: Recipe, **changes: object) -> Recipe:
    return _changed(recipe, weights=_changed(recipe.weights, **changes))


def _size(recipe: Recipe) -> str:
    """The size that a recipe states, in words."""
    if recipe.budget is not None:
        return str(recipe.budget)
    return f"{recipe.weights.width} bits".replace("ternary bits", "ternary")


def _larger(recipe: Recipe) -> Recipe | None:
    """A recipe of the next larger size; None where there is none."""
    budget = recipe.budget
    if budget is not None:
        unit = _UNITS[budget.counts]
        more = budget.amount * _LARGER
        text = f"{more:.4f}{unit}" if budget.counts is Measure.BITS else f"{round(more)}{unit}"
        return _changed(recipe, budget=Budget.parse(text))
    bits = recipe.weights.bits
    if bits == "ternary":
        return _with_weights(recipe, bits=2)
    if isinstance(bits, int) and bits < 8 and recipe.weights.levels is None:
        return _with_weights(recipe, bits=bits + 1)
    return None


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
