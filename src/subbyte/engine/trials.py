"""The search for the best network: it tries sizes, roundings and tuning, each by a walk, and judges
what comes of them on samples held apart.

A size that is stated (bits of every layer, or a budget) is walked with each rounding, and the
network nearest to the float one is taken. For a drop that is allowed the smallest size is found
among `_SIZES` budgets, from that of the narrowest widths to that of the widest, by bisection; the
promise is held at the upper end of the drop's interval, and all decisions together are right with
the confidence that is stated (`drops`). Layers' sensitivities and the float network's statistics
are found once for all walks. Where its time is limited, half of it is for walks, of which the first
is done in any case, and the rest for tuning; what there is no time for is left out, and said.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Annotated

from torch import Tensor, nn

from subbyte import recipe as recipes
from subbyte.allocate import Budget
from subbyte.data import Split
from subbyte.engine.apart import Apart, Verdict
from subbyte.engine.budget import meet_budget
from subbyte.engine.calibration import ForwardFn, Source, collect
from subbyte.engine.deadline import Deadline, NoTimeError
from subbyte.engine.drops import decisions, fewest_samples, ladder, smallest
from subbyte.engine.learning import LEAST_STEPS, affordable
from subbyte.engine.limits import Limits
from subbyte.engine.quantization import Quantization, carry_out, decide, taught
from subbyte.engine.sizes import changed, larger_than, size_of
from subbyte.engine.stages import Report, Stages, silent
from subbyte.errors import DataError, RecipeError
from subbyte.graph import Network, Samples, prepare, unwrapped
from subbyte.io.cache import Cache
from subbyte.io.numbers import Bounded, Positive, Real
from subbyte.io.workplaces import scratch
from subbyte.methods import Rounding, Task
from subbyte.recipe import Plan, Recipe, load_recipe
from subbyte.records import Trial, Trials
from subbyte.rounding import ROUNDINGS, Adaround, Corrected
from subbyte.tuning import Distill

_SIZES = 31
_ROUNDINGS = (Corrected(), Adaround())  # the best of docs/rounding.md
_TUNINGS = 2  # with a drop that is allowed: of the next smaller size, and of the one that holds it


@dataclass(frozen=True)
class Wish(Bounded):
    """max_drop: how much the figure may lose, in its units; None where the recipe states the size;
    tune: how the network learns after its walk, None for not; its seconds, if it has any, are those
    of the whole search; confidence: percent. Raises RecipeError for what is out of range.
    """

    max_drop: Positive | None = None
    tune: Distill | None = None
    confidence: Annotated[float, Real(50, 100, below=True)] = 95.0

    def check(self, recipe: Recipe) -> None:
        """Raise RecipeError where a recipe does not go with it."""
        if recipe.tune is not None:
            raise RecipeError(
                "best: the recipe tunes already; leave out its `tune`, and say how long the search "
                "may take (--time)"
            )
        if self.max_drop is not None and recipe.budget is not None:
            raise RecipeError(
                "best: a budget states the size that max_drop finds; give one of them"
            )

    @property
    def seconds(self) -> float:
        """The time of the search, inf where it has no end."""
        return inf if self.tune is None else self.tune.seconds or inf

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
    found that loses no more, in points of that score, in place of a stated size; seconds: of the
    search, half of them at most for walks and the rest for tuning; 0: as many walks as it takes,
    and no tuning.
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
        self.left_out: list[str] = []
        self.deadline = Deadline(wish.seconds)

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
            left_out=self.left_out,
        )
        return replace(chosen.done, trials=record)

    def stated(self) -> _Made:
        """The best network of the size that the recipe states; a larger one is tried, too."""
        rounding, chosen = self.rounded(self.recipe)
        larger = larger_than(self.recipe)
        if larger is not None:
            with suppress(NoTimeError):
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
        found: dict[bool, _Made] = {}

        def holds(place: int) -> bool:
            made = first if place == few else self.walk(self.budget(sizes[place]), rounding)
            held = self.held(made.verdict)
            found[held] = made
            return held

        try:
            smallest(len(sizes), holds)
        except NoTimeError:
            found.setdefault(self.held(first.verdict), first)
        shown, tune = found[True in found], self.wish.tune
        if tune is None:
            return shown
        if False in found:
            smaller = self.tune(found[False], tune, _TUNINGS if True in found else 1)
            if self.held(smaller.verdict):
                return smaller
        if True in found:
            tuned = self.tune(shown, tune)
            if self.held(tuned.verdict):
                return _nearest([shown, tuned])
        return shown

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
        return changed(self.recipe, budget=Budget.parse(f"{size}B"))

    def rounded(self, recipe: Recipe) -> tuple[Rounding, _Made]:
        """The rounding by which a recipe's network is nearest, and that network."""
        roundings: tuple[Rounding, ...] = (recipe.weights.rounding,)
        if "rounding" not in recipe.weights.model_fields_set:
            roundings = _ROUNDINGS
        made = []
        for rounding in roundings:
            with suppress(NoTimeError):
                made.append(self.walk(recipe, rounding))
        chosen = _nearest(made)
        return roundings[made.index(chosen)], chosen

    def walk(self, recipe: Recipe, rounding: Rounding) -> _Made:
        """Try a recipe with a rounding; widths are shared out by the recipe's own.

        Raises NoTimeError where it is not the first, and there is no time for it.
        """
        size, name = size_of(recipe), ROUNDINGS.name(rounding)
        stages = self.stages.about(what := f"{size}, {name}")
        try:
            if self.tried and not self.deadline.allows():
                raise NoTimeError
            with self.deadline.walking(stages.report) as watched:
                stages.report = watched
                return self.walked(recipe, rounding, size, name, stages)
        except NoTimeError:
            self.left_out.append(what)
            raise

    def walked(
        self, recipe: Recipe, rounding: Rounding, size: str, name: str, stages: Stages
    ) -> _Made:
        """A network by a walk, judged. size, name: the recipe's and the rounding's."""
        own = recipe.weights.rounding
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

    def tune(self, start: _Made, method: Distill, parts: int = 1) -> _Made:
        """Let a network that was tried learn, in one of so many parts of the time that is left; it
        stays as it is where none is.
        """
        rounding = self.tried[start.number].rounding
        stages = self.stages.about(f"{start.size}, tuned")
        if method.seconds:
            steps = self.affordable(start, method, self.deadline.left / parts)
            if steps < LEAST_STEPS:
                self.left_out.append(f"{start.size}, {rounding}, tuned")
                return start
            method = method.with_steps(steps)
        done = taught(start.done, method, self.images, self.apart.task, self.limits, stages)
        return self.judged(start.size, rounding, done, done.lessons[-1].steps, stages)

    def affordable(self, start: _Made, method: Distill, seconds: float) -> int:
        """The steps that some seconds are enough for."""
        if not seconds:
            return 0
        method = replace(method, seconds=seconds)
        task, samples = self.apart.task, Samples.of(self.images)
        return affordable(self.network, start.done.model, method, samples, task, self.limits.device)

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


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
