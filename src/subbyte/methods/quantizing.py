"""The contracts of what the walk does: ranges, rounding, and what goes around them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum
from inspect import get_annotations, isfunction
from typing import Any, ClassVar, Literal, Protocol, get_args, get_type_hints

from torch import Tensor

from subbyte.core import Grid, GridSpec, QTensor
from subbyte.errors import RecipeError
from subbyte.io.plain import adapter, checked
from subbyte.methods.refusal import Refusing
from subbyte.stats import LayerStats

_HERE = "subbyte.methods."  # where kinds declare what their members may


def _public(name: str) -> bool:
    return not name.startswith("_")


class Method(Refusing[GridSpec]):
    """The base of methods of all kinds; they are asked about grids of weights."""

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
        for name, value in vars(cls).items():
            _check_declared(cls, name, value)


def _check_declared(cls: type, name: str, value: object) -> None:
    """Raise RecipeError where a class declares something as another type than its kind does."""
    kinds = [
        base for base in cls.__mro__[1:] if base.__module__.startswith(_HERE) and name in vars(base)
    ]
    if not kinds or not _public(name) or isinstance(value, property):
        return
    declared, where = vars(kinds[0])[name], f"{cls.__name__}: {name}"
    if isinstance(declared, property):
        checked(where, adapter(get_type_hints(declared.fget)["return"]), value)
    elif not isfunction(declared):
        (wanted,) = get_args(get_type_hints(kinds[0])[name])  # of ClassVar
        checked(where, adapter(wanted), value)
    elif not isfunction(value):
        raise RecipeError(f"{where} must be a method of the class, got {value!r}")


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

    fixed: ClassVar[bool] = False
    """It chooses the same whatever the values."""

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
    EXPECTED = "those errors as they are to be expected of samples not seen"

    @property
    def reads_products(self) -> bool:
        """Whether it takes second moments of pairs of inputs, which are d x d for d inputs."""
        return self in (Objective.INPUTS, Objective.OUTPUTS, Objective.EXPECTED)


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


Loss = Callable[[Tensor, Tensor], Tensor]
"""The mean loss of a batch: of an output, by its targets."""


class Correction(Method, ABC, contract=True):
    """Makes up for what rounding did to a layer's output, at no cost at inference."""

    reads_products: ClassVar[bool] = True
    """It reads second moments of pairs of inputs (`LayerStats.H`, `G`, `F`), not only means and
    powers.
    """

    @abstractmethod
    def correct(
        self, weight: Tensor, bias: Tensor, rounded: QTensor, stats: LayerStats
    ) -> tuple[QTensor, Tensor]:
        """weight: float32 [rows, columns]; bias: float32 [rows]; rounded: codes of the weight.

        Returns the codes, perhaps on another scale, and the new bias.
        """
