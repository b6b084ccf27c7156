"""The contracts of every kind of method, on one page.

A method is a frozen dataclass of hyper-parameters, derived from the class of its kind, with one
pure verb on tensors. To add one, write one file in its package and one line in that package's
registry; or keep the class in a file of your own and name it `path/file.py:Class` in a recipe.
Recipes, `--help`, the documentation and the conformance suites (`subbyte.testing`) read the
registries. Nothing is stored on a method, arguments are never changed, and there is no hidden
randomness.

What a method needs or can't do is declared by class attributes that its kind lists with their
defaults; a public name that the kind does not list is an error when the class is defined.

Exporters and engines of sweeps are added in the same way, but touch files and processes. So are
figures of reports, whose contract needs what pages are made of: `pages.figure.Figure`, one file in
`pages/figures/`; and kinds of folders that reports are about: `pages.subject.Subject`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from inspect import get_annotations
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from subbyte.core import Grid, GridSpec, QTensor
from subbyte.errors import RecipeError
from subbyte.records.sweep import Outcome
from subbyte.stats import LayerStats


@dataclass(frozen=True)
class Refusal:
    """Grids that a method can't work on.

    holds: whether a grid is one of them, of the method (whose settings may matter) and the spec;
    because: a sentence for people that begins with the method's name.
    """

    holds: Callable[[Any, GridSpec], bool]
    because: str


def _public(name: str) -> bool:
    return not name.startswith("_")


class Method:
    """The base of methods of all kinds."""

    refuses: ClassVar[tuple[Refusal, ...]] = ()
    """Grids of weights that it can't work on; plans say so before data are seen."""

    def refusal(self, spec: GridSpec) -> str | None:
        """The reason why it can't work on grids of a spec, or None where it can."""
        return next((each.because for each in self.refuses if each.holds(self, spec)), None)

    def check(self, spec: GridSpec) -> None:
        """Raise RecipeError where it can't work on grids of a spec."""
        reason = self.refusal(spec)
        if reason is not None:
            raise RecipeError(reason)

    def __init_subclass__(cls, contract: bool = False, **given: Any) -> None:
        """Refuse what looks like a capability or verb but is none of the kind's."""
        super().__init_subclass__(**given)
        if contract:
            return
        listed = {name for base in cls.__mro__[1:] for name in vars(base)}
        notes = get_annotations(cls)
        settings = {name for name, note in notes.items() if "ClassVar" not in str(note)}
        for name in (*vars(cls), *notes):
            if name in settings and name in listed:
                raise RecipeError(f"{cls.__name__}: {name} is declared by its kind, no setting")
            if _public(name) and name not in listed | settings:
                known = ", ".join(sorted(filter(_public, listed)))
                raise RecipeError(
                    f"{cls.__name__}: {name} is nothing that its kind knows; known: {known}; names "
                    f"of its own begin with _"
                )


class FitGrid(Protocol):
    """The range method at work on one layer, as rounding methods see it (`ranges.GridFitter`)."""

    @property
    def spec(self) -> GridSpec:
        """The spec of the grid that the recipe asks for."""
        ...

    def __call__(self, weight: Tensor) -> Grid:
        """The grid of a weight matrix [rows, columns]."""
        ...


class Range(Method, ABC, contract=True):
    """Chooses scale and zero point of blocks of values that share them (`ranges.fit_grid` cuts the
    blocks).
    """

    weights_only: ClassVar[bool] = False
    """It means nothing for activations, and importance is none of its business."""

    weights_on_grid: ClassVar[bool] = False
    """It finds the grid that weights lie on already, and refuses others."""

    importance: ClassVar[Literal["inputs", "fisher", "gradient"]] = "inputs"
    """The importance of a weight: the mean square of what it multiplies, its mean squared gradient,
    or its mean absolute one; the latter two are known of weights only.
    """

    @property
    def closed_form(self) -> bool:
        """Whether `choose` is a formula that `torch.export` can trace, so that the range of an
        activation tensor can be chosen for every batch.
        """
        return False

    @property
    def for_activations(self) -> bool:
        """Whether it can choose the range of an activation tensor."""
        return not self.weights_only and self.importance == "inputs"

    @abstractmethod
    def choose(
        self, values: Tensor, importance: Tensor | None, spec: GridSpec
    ) -> tuple[Tensor, Tensor]:
        """values: float32 [blocks, n]; importance: weights of the values, same shape or [1, n], or
        None for equal ones.

        Returns scale float32 [blocks] and zero_point int32 [blocks]. Scales are positive even for
        blocks of zeros.
        """

    def choose_for_tensor(
        self, values: Tensor, importance: Tensor | None, spec: GridSpec
    ) -> tuple[Tensor, Tensor]:
        """The one scale of values [rows, n], importance as theirs: that of one block, unless the
        rows matter.

        Returns scale and zero point [1].
        """
        share = None if importance is None else importance.reshape(1, -1)
        return self.choose(values.reshape(1, -1), share, spec)


class Allocate(Method, ABC, contract=True):
    """Shares bits out to channels."""

    @abstractmethod
    def bits(self, distortion: Tensor, spread: Tensor, mean_bits: float) -> Tensor:
        """Widths of channels whose sum is at most `mean_bits` a channel: int64 [channels].

        distortion: float64 [channels, 1 + most bits], the squared error that each channel keeps
        with codes of 0, 1, 2 ... bits; spread: float64 [channels], its standard deviation.
        """


class Objective(Enum):
    """The quantity that a rounding makes small, which says what second moments it reads."""

    WEIGHTS = "the squared errors of the weights"
    POWER = "the squared errors of the weights times the power of their inputs"
    INPUTS = "the squared errors of the outputs on the quantized network's inputs"
    OUTPUTS = "the squared errors of the outputs against the float layer's"


class Rounding(Method, ABC, contract=True):
    """Turns weights into codes."""

    objective: ClassVar[Objective] = Objective.OUTPUTS
    """The errors that it makes small; in these it is never worse than the nearest codes."""

    fits_levels: ClassVar[bool] = False
    """Its grid is a codebook of its own, with as many levels as the planned one has codes."""

    @abstractmethod
    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        """weight: float32 [rows, columns]; fit: chooses a grid for a matrix of that shape; stats:
        the layer's inputs.

        Never worse, in the method's own objective, than rounding `weight` to the nearest codes of
        `fit(weight)`: row by row, or as a whole where rows share a scale. Raises RecipeError when
        it refuses grids of `fit.spec`.
        """


class Precondition(Method, ABC, contract=True):
    """Changes weights before they are rounded, so that they are easier to round but give the same
    outputs.
    """

    @abstractmethod
    def prepare(self, weight: Tensor, stats: LayerStats) -> Tensor:
        """weight: float32 [rows, columns]; returns the same shape."""


Forward = Callable[[int, dict[str, Tensor]], Tensor]
"""Logits of the k-th batch of calibration images, with these tensors in the network's place; has
gradients.
"""


class Tune(Method, ABC, contract=True):
    """Lets what is not fixed learn from the float network."""

    @property
    def needs_labels(self) -> bool:
        """Whether `at_end` reads the labels of the calibration images."""
        return False

    @abstractmethod
    def after_layer(
        self, forward: Forward, parameters: dict[str, Tensor], logits: list[Tensor]
    ) -> dict[str, Tensor]:
        """Learn after a layer is rounded; return new values of the parameters, by name.

        parameters: weights and biases of later layers, and the layer's bias; logits: of the float
            network, by batch.
        """

    @abstractmethod
    def at_end(
        self,
        forward: Forward,
        parameters: dict[str, Tensor],
        logits: list[Tensor],
        labels: list[Tensor] | None,
    ) -> dict[str, Tensor]:
        """Learn after the last layer; return new biases, and factors on the scales of each layer's
        rows, by name.

        labels: of the calibration images, int64 by batch, where the caller has them.
        """


class Correction(Method, ABC, contract=True):
    """Makes up for what rounding did to a layer's output, at no cost at inference."""

    @abstractmethod
    def correct(
        self, weight: Tensor, bias: Tensor, rounded: QTensor, stats: LayerStats
    ) -> tuple[QTensor, Tensor]:
        """weight: float32 [rows, columns]; bias: float32 [rows]; rounded: codes of the weight.

        Returns the codes, perhaps on another scale, and the new bias.
        """


@dataclass(frozen=True)
class Parity:
    """The certificate of an exported file: its outputs beside those of the torch model.

    max_abs, mean_abs: differences of outputs; agreement: percent of equal top-1 classes; images:
    how many were compared.
    """

    max_abs: float
    mean_abs: float
    agreement: float
    images: int


@dataclass(frozen=True)
class Exported:
    """A file that an exporter wrote, and that its runtime has proved.

    exporter: its name; bytes: of all files that were written; notes: by layer or activation name,
    how the file holds it, where there is anything to say; opset: the one that the file needs, in
    formats that have them.
    """

    exporter: str
    path: Path
    bytes: int
    parity: Parity
    notes: Mapping[str, str] = field(default_factory=dict)
    opset: int | None = None


Runner = Callable[[Tensor], Tensor]
"""An exported file at work: float32 batches [b, ...] to outputs, both on the CPU."""

ModelT = TypeVar("ModelT", contravariant=True)


class Exporter(Protocol[ModelT]):
    """Writes quantized networks as files for a runtime (`exporters.EXPORTERS`)."""

    @property
    def name(self) -> str:
        """The name as users write it, such as onnx-int8."""
        ...

    @property
    def runtime(self) -> str:
        """The runtime's name, as users know it."""
        ...

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Endings of the files that it writes; the first is that of the file that `runner` takes,
        the others lie beside it.
        """
        ...

    def export(
        self, model: ModelT, path: Path, inputs: Tensor, *, min_agreement: float
    ) -> Exported:
        """Write `model` to `path`, run what was written in its runtime on `inputs` [n, ...], and
        only then return.

        Raises ParityError, and leaves what was at `path` as it is, when less than `min_agreement`
        percent of the top-1 classes are those of the torch model.
        """
        ...

    def runner(self, path: Path) -> Runner:
        """Run a file that `export` wrote. Raises FormatError when the runtime can't load it."""
        ...


TaskT = TypeVar("TaskT")


class Engine(Protocol[TaskT]):
    """A place to do the runs of a sweep."""

    def outcomes(self, tasks: Sequence[TaskT]) -> Iterator[tuple[TaskT, Outcome]]:
        """Do all tasks; yields each with its outcome, in whatever order they end.

        What a run raises is an outcome, too. Raises SubbyteError when no run can be done here.
        """
        ...


@dataclass(frozen=True)
class Telemetry:
    """An optimizer's report on its last step; None where it has nothing to say.

    index: resolution that updates were rounded to. moved: share of updates that were not 0 after
    rounding, percent. saturated: share of codes at an end of their grid, percent. temperature:
    1 / (24 lr Qp^2), that of the noise which rounding makes.
    """

    index: float | None = None
    moved: float | None = None
    saturated: float | None = None
    temperature: float | None = None


class Updates(torch.optim.Optimizer):
    """An optimizer of torch's kind that reports how its last step went."""

    def telemetry(self) -> Telemetry:
        """The last step in numbers; may read from the device."""
        return Telemetry()


@dataclass(frozen=True)
class Trained:
    """A training run as optimizers see it.

    params: all that is trained, in order. layers: those of them that are weights of layers and may
    go on grids, with output channels along axis 0; across: the same along axis 1, as transposed
    convolutions have them. lr: learning rate at its highest. steps: an epoch. epochs: of the run.
    """

    params: Sequence[Tensor]
    layers: Sequence[Tensor]
    lr: float
    across: Sequence[Tensor] = ()
    steps: int = 1
    epochs: int = 1


GridT = TypeVar("GridT")
LayerT = TypeVar("LayerT")


class Optimizer(ABC, Generic[GridT]):
    """Makes what moves the weights in training. GridT: what says how weights are kept on a grid."""

    keeps_grid: ClassVar[bool] = False
    """Whether `build_on_grid` works."""

    @abstractmethod
    def build(self, trained: Trained) -> Updates:
        """The optimizer of a run. Raises RecipeError for settings out of range."""

    def build_on_grid(self, trained: Trained, grid: GridT) -> Updates:
        """The optimizer that keeps the weights of layers on a grid in place of float ones."""
        raise NotImplementedError


class LrSchedule(ABC):
    """Says how the learning rate goes over a run."""

    @abstractmethod
    def factor(self, epoch: float, epochs: float) -> float:
        """The learning rate's factor, from 0 to 1, when `epoch` of `epochs` are over."""


class ResolutionSchedule(ABC):
    """Says when the resolution rises that updates are rounded to: its index h.

    Where time alone decides, `index` says it all. Where `measured` is set, `index` says where it
    begins, and it rises by 1 after a step that is `due` and has moved at most `share` of the
    numbers that it could have.
    """

    measured: ClassVar[bool] = False
    share: float = 0.0

    @property
    def by_tensor(self) -> bool:
        """Whether each tensor has an index of its own; else all numbers have one together."""
        return False

    @abstractmethod
    def index(self, start: int, step: int, base: int, eta: float) -> int:
        """The index after `step` steps of a run that starts with h = `start`; steps of the lattice
        are 1 / (eta base^h).
        """

    def due(self, steps: int) -> bool:
        """Whether to measure after so many steps."""
        return False

    def for_run(self, steps: int) -> "ResolutionSchedule":
        """The schedule of a run whose epochs have so many steps."""
        return self


class UpdateRounding(ABC):
    """Rounds updates that are counted in steps of the lattice."""

    random: ClassVar[bool] = False
    """Whether it draws random numbers."""
    to_lattice: ClassVar[bool] = True
    """Whether whole numbers come out."""

    @abstractmethod
    def round(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x: float, of any shape; is overwritten by the result and returned."""


class WeightQuantizer(ABC, Generic[LayerT]):
    """Lets a network compute with low-bit weights while it is trained. LayerT: a layer's module."""

    bits: int
    """Width of the codes that the network computes with."""

    def check(self, optimizer: Optimizer[Any]) -> None:
        """Raise RecipeError for an optimizer that it can't go with."""

    @abstractmethod
    def attach(self, layers: Mapping[str, LayerT]) -> None:
        """Let layers, by name, compute with rounded weights, if it is not the optimizer that keeps
        them on grids.
        """

    def build(self, optimizer: Optimizer[Any], trained: Trained) -> Updates:
        """The optimizer of a run with such weights."""
        return optimizer.build(trained)


class Augmentation(ABC):
    """Changes training images at random."""

    @abstractmethod
    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """images: float32 [b, C, H, W], which stay as they are; draws: uniform random numbers from
        0 to 1, [b, 5], of which each image has a row: place down and across, mirroring, area,
        shape. Returns images of the same shape.
        """
