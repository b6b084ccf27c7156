"""Optimizers as recipes name them: their settings, and how to build them.

A name stands for a frozen dataclass of settings with one verb, `build(params, layers, lr, across)`.
params: all, in order; layers: those of them that are weights of layers, which some optimizers put
on grids; across: those of layers whose output channels lie along axis 1, as those of transposed
convolutions do.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from subbyte.compat.optimizers import Published2021, Published2023
from subbyte.errors import RecipeError
from subbyte.learn.optimizers.grid import GridAdamW, GridSettings, GridSGD
from subbyte.learn.optimizers.lattice import QSGD, Lattice, QtAdamW

Tensors = Sequence[Tensor]
Compat = Literal["2021", "2023"]


@contextmanager
def _of_torch(name: str) -> Iterator[None]:
    """What torch says of a setting out of range, as an error of ours."""
    try:
        yield
    except ValueError as reason:
        raise RecipeError(f"optimizer {name}: {reason}") from reason


def _part(cls: type, settings: object) -> Any:
    """The settings of `cls` out of those of a larger dataclass."""
    return cls(**{field.name: getattr(settings, field.name) for field in fields(cls)})


@dataclass(frozen=True)
class SgdSettings:
    """Stochastic gradient descent (torch.optim.SGD)."""

    momentum: float = 0.9
    dampening: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def build(self, params: Tensors, layers: Tensors, lr: float, across: Tensors = ()) -> Optimizer:
        """The optimizer of these parameters."""
        with _of_torch("sgd"):
            return torch.optim.SGD(
                params,
                lr,
                self.momentum,
                self.dampening,
                self.weight_decay,
                self.nesterov,
                foreach=True,
            )


@dataclass(frozen=True)
class AdamSettings:
    """Adam (torch.optim.Adam): weight decay is part of the gradient."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def build(self, params: Tensors, layers: Tensors, lr: float, across: Tensors = ()) -> Optimizer:
        """The optimizer of these parameters."""
        with _of_torch("adam"):
            return torch.optim.Adam(
                params, lr, self.betas, self.eps, self.weight_decay, foreach=True
            )


@dataclass(frozen=True)
class AdamWSettings:
    """Adam with weight decay beside the gradient (torch.optim.AdamW)."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01

    def build(self, params: Tensors, layers: Tensors, lr: float, across: Tensors = ()) -> Optimizer:
        """The optimizer of these parameters."""
        with _of_torch("adamw"):
            return torch.optim.AdamW(
                params, lr, self.betas, self.eps, self.weight_decay, foreach=True
            )


@dataclass(frozen=True)
class QsgdSettings(Lattice):
    """SGD with updates rounded to a lattice that becomes finer; compat: the published form of
    '2021' or '2023'.
    """

    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    compat: Compat | None = None
    epoch_steps: int = 1
    warm_up: float = 0.0
    kappa: float = 2.0

    def build(self, params: Tensors, layers: Tensors, lr: float, across: Tensors = ()) -> Optimizer:
        """The optimizer of these parameters."""
        if self.compat is not None and (self.momentum or self.weight_decay):
            raise RecipeError(
                f"qsgd as published in {self.compat} has neither momentum nor weight_decay"
            )
        _refuse_unused(self, "qsgd")
        if self.compat is not None:
            return _published(self, params, lr, adaptive=False, weight_decay=0.0)
        return QSGD(
            params,
            lr,
            momentum=self.momentum,
            dampening=self.dampening,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            lattice=_part(Lattice, self),
        )


@dataclass(frozen=True)
class QtAdamWSettings(Lattice):
    """AdamW with updates rounded to a lattice that becomes finer; compat: the published form of
    '2021' or '2023'.

    weight_decay: 0.01 unless said, and 0 as published in 2021.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float | None = None
    compat: Compat | None = None
    epoch_steps: int = 1
    warm_up: float = 0.0
    kappa: float = 2.0

    def build(self, params: Tensors, layers: Tensors, lr: float, across: Tensors = ()) -> Optimizer:
        """The optimizer of these parameters."""
        _refuse_unused(self, "qtadamw", "weight_decay")
        usual = 0.0 if self.compat == "2021" else 0.01
        decay = usual if self.weight_decay is None else self.weight_decay
        if self.compat is not None:
            return _published(self, params, lr, adaptive=True, weight_decay=decay)
        return QtAdamW(
            params,
            lr,
            betas=self.betas,
            eps=self.eps,
            weight_decay=decay,
            lattice=_part(Lattice, self),
        )


_PUBLISHED = {"2021": ("resolution",), "2023": ("epoch_steps", "warm_up", "kappa")}
"""Settings that the published forms take; warm_up is in epochs."""


def _refuse_unused(settings: QsgdSettings | QtAdamWSettings, name: str, *also: str) -> None:
    """Raise RecipeError for a setting that would have no effect; also: what the published forms
    take besides.
    """
    names = [field.name for field in fields(settings)]
    taken, form = [each for each in names if each not in _PUBLISHED["2023"]], "without compat"
    if settings.compat is not None:
        taken, form = (
            ["compat", *_PUBLISHED[settings.compat], *also],
            f"as published in {settings.compat}",
        )
    for field in fields(settings):
        if field.name not in taken and getattr(settings, field.name) != field.default:
            raise RecipeError(f"{name} {form} has no {field.name}; it takes {', '.join(taken)}")


def _published(
    settings: QsgdSettings | QtAdamWSettings,
    params: Tensors,
    lr: float,
    *,
    adaptive: bool,
    weight_decay: float,
) -> Optimizer:
    if settings.compat == "2021":
        return Published2021(
            params, lr, resolution=settings.resolution, adaptive=adaptive, weight_decay=weight_decay
        )
    return Published2023(
        params,
        lr,
        steps=settings.epoch_steps,
        warm_up=settings.warm_up,
        kappa=settings.kappa,
        adaptive=adaptive,
        weight_decay=weight_decay,
    )


@dataclass(frozen=True)
class GridSgdSettings(GridSettings):
    """SGD with layers' weights on a grid of `bits`, updates adding up on `extra_bits` more."""

    momentum: float = 0.9
    dampening: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def build(self, params: Tensors, layers: Tensors, lr: float, across: Tensors = ()) -> Optimizer:
        """The optimizer of these parameters."""
        return GridSGD(
            _groups(params, layers, across),
            lr,
            momentum=self.momentum,
            dampening=self.dampening,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            settings=_part(GridSettings, self),
        )


@dataclass(frozen=True)
class GridAdamWSettings(GridSettings):
    """AdamW with layers' weights on a grid of `bits`, updates adding up on `extra_bits` more."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01

    def build(self, params: Tensors, layers: Tensors, lr: float, across: Tensors = ()) -> Optimizer:
        """The optimizer of these parameters."""
        return GridAdamW(
            _groups(params, layers, across),
            lr,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            settings=_part(GridSettings, self),
        )


def _groups(params: Tensors, layers: Tensors, across: Tensors) -> list[dict[str, Any]]:
    """Weights that go on grids, and the rest."""
    chosen = {id(p) for p in (*layers, *across)}
    if not chosen:
        raise RecipeError(
            "there is no layer to put on a grid: all are exempt, or the network has none"
        )
    rest = [p for p in params if id(p) not in chosen]
    groups: list[dict[str, Any]] = [
        {"params": layers},
        {"params": across, "axis": 1},
        {"params": rest, "bits": None},
    ]
    return [group for group in groups if group["params"]]


OPTIMIZERS: dict[str, type] = {
    "sgd": SgdSettings,
    "adam": AdamSettings,
    "adamw": AdamWSettings,
    "qsgd": QsgdSettings,
    "qtadamw": QtAdamWSettings,
    "grid-sgd": GridSgdSettings,
    "grid-adamw": GridAdamWSettings,
}
