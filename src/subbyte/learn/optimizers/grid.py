"""Training on a grid: weights start, stay and end on b-bit codes; nothing finer than b + m bits is
kept of them.

    fine codes    f, integers of b + m bits, in steps of scale / 2^m
    update        f <- clamp(f + 2^j Q(-lr d 2^m / (2^j scale))),   j = b + m - index >= 0
    weights       w = scale c,   c = floor((f + 2^(m-1)) / 2^m):    the b-bit parent of f, exactly;
                                                                    c = f for m = 0

m = 0 is training on the grid itself: there steps below half a step of the grid are lost to rounding
to nearest, and rounding at random keeps them on average only (Li et al., "Training quantized nets:
a deeper understanding", 2017).
m > 0 is the nested form: the lattices of b and of b + m bits nest, so that the network always
computes with b-bit weights while updates add up on b + m bits. m without end is the
straight-through estimator with float latent weights. The index, number of bits that updates are
rounded to, may start below b + m and rise by a schedule, never above.

The scale, one a tensor or an output channel, has the least square error on the initial weights,
times `reach`, and is kept.
Weights without `bits` (biases, batch-norms) move by the same direction in float.
"""

from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Literal

import torch
from torch import Tensor

from subbyte.core import Grid, GridSpec, QTensor, Uniform, share_of
from subbyte.errors import RecipeError
from subbyte.io.numbers import Bounded, Count, Natural, Positive, Seed, Whole
from subbyte.io.registry import Method
from subbyte.learn.optimizers.directions import Adaptive, Direction, Group, Momentum, State
from subbyte.learn.optimizers.flat import Params
from subbyte.learn.optimizers.lattice import Lattice, LatticeOptimizer
from subbyte.learn.optimizers.layout import Layout
from subbyte.learn.optimizers.resolution_schedules import schedule_for_run
from subbyte.learn.optimizers.update_roundings import UPDATE_ROUNDINGS, update_rounding
from subbyte.methods import Telemetry, Trained
from subbyte.ranges import Mse, fit_grid

MOST_FINE = 15
"""Bits of fine codes, which are kept as int16."""


@dataclass(frozen=True)
class GridSettings(Bounded):
    """The grid that weights are trained on.

    bits: of the codes that the network computes with, 2 to 8. extra_bits: m, that updates add up on
        besides.
    granularity: who shares a scale. reach: factor on the scale that fits the initial weights best;
        above 1 weights
    may grow, as those that training starts from nothing do. resolution: bits that updates are
    rounded to at first; None: all of them.
    schedule: how they rise, a name of RESOLUTION_SCHEDULES or a mapping. rounding: a name of
        UPDATE_ROUNDINGS but gaussian.
    seed: of rounding at random.
    Raises RecipeError for values out of range, and for a resolution above bits + extra_bits.
    """

    bits: Annotated[int, Whole(2, 8)] = 4
    extra_bits: Natural = 4
    granularity: Literal["tensor", "channel"] = "channel"
    reach: Positive = 1.0
    resolution: Count | None = None
    schedule: Method = "on-stall"
    rounding: str = "stochastic"
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits + self.extra_bits > MOST_FINE:
            raise RecipeError(
                f"bits and extra_bits must be at most {MOST_FINE} together; got {self.bits} and "
                f"{self.extra_bits}"
            )
        if not update_rounding(self.rounding).to_lattice:
            raise RecipeError(f"{self.rounding} noise leaves the grid; choose another rounding")
        self.lattice()

    def lattice(self) -> Lattice:
        """The lattice of the fine codes."""
        most = self.bits + self.extra_bits
        start = most if self.resolution is None else self.resolution
        return Lattice(
            start, schedule=self.schedule, rounding=self.rounding, cap=most, seed=self.seed
        )

    def for_run(self, steps: int) -> "GridSettings":
        """The grid of a run whose epochs have so many steps."""
        return replace(self, schedule=schedule_for_run(self.schedule, steps))


class GridOptimizer(LatticeOptimizer):
    """Keeps the weights of param groups with `bits` on their grids. Use GridSGD or GridAdamW.

    A group's `bits` may be None: its weights stay float. Its `axis` is that of its weights' output
    channels, 0, or 1 as in transposed convolutions. Weights are put on their grids when their group
    is added; from there on their codes
    are what counts: weights that are loaded or changed elsewhere are overwritten by the next step.
    A row of zeros has the mean scale of the others, a tensor of zeros that of a uniform
    distribution of width 2 / sqrt(columns).
    """

    def __init__(
        self, params: Params, lr: float, direction: Direction, settings: GridSettings
    ) -> None:
        super().__init__(
            params, lr, direction, {**asdict(settings.lattice()), **asdict(settings), "axis": 0}
        )

    def _check(self, group: Group) -> None:
        """See `LatticeOptimizer`; what goes on a grid is put on it."""
        if group["bits"] is None:
            group["resolution"] = group["cap"]
            super()._check(group)
            return
        settings = GridSettings(**{field.name: group[field.name] for field in fields(GridSettings)})
        group.update(asdict(settings.lattice()))
        super()._check(group)
        if any(p.dtype != torch.float32 for p in group["params"]):
            raise RecipeError(
                "weights on a grid must be float32, so that code times scale is exact"
            )
        self._start(self.layout(len(self.param_groups) - 1), group)

    @torch.no_grad()
    def _start(self, layout: Layout, group: Group) -> None:
        spec, fine = self._spec(group), 2 ** group["extra_bits"]
        codes, scales = [], []
        for p in layout.params:
            scale = starting_scale(_matrix(p, group), spec) * group["reach"]
            codes.append(torch.round(p * fine / _beside(scale, p, group)).reshape(-1))
            scales.append(scale)
        state = self.group_state(group)
        low, high = _ends(group)
        state["codes"] = torch.cat(codes).clamp(low, high).to(torch.int16)
        state["scale"] = torch.cat(scales)
        self._hand_out(layout, group, state, state["codes"].to(layout.update.dtype))

    @staticmethod
    def _spec(group: Group) -> GridSpec:
        return GridSpec(Uniform(group["bits"]), share_of(group["granularity"]))

    def _apply(self, layout: Layout, group: Group, state: State, direction: Tensor) -> None:
        if group["bits"] is None:
            torch.mul(direction, -group["lr"], out=layout.update)
            layout.add()
            return
        index, most = self.index(layout, group, state), group["bits"] + group["extra_bits"]
        layout.index = index
        scaled, step = self.lattice(
            layout, group, index, -group["lr"] * 2.0 ** (group["extra_bits"] - most)
        )
        update = torch.div(direction, self._scale(layout, group, state), out=layout.update).mul_(
            scaled
        )
        rounding = UPDATE_ROUNDINGS[group["rounding"]]
        rounding.round(update, self.noise(layout, group)).mul_(step * 2.0**most)
        for part in layout.still_parts():
            update[part] = 0
        codes = torch.add(update, state["codes"]).clamp_(*_ends(group))
        state["codes"].copy_(codes)
        self._hand_out(layout, group, state, codes)

    @torch.no_grad()
    def _hand_out(self, layout: Layout, group: Group, state: State, codes: Tensor) -> None:
        """Write the weights of fine codes, which are overwritten."""
        values = _parents(codes, group["extra_bits"]).mul_(self._scale(layout, group, state))
        views = [
            part.view(p.shape)
            for part, p in zip(values.split(layout.sizes), layout.params, strict=True)
        ]
        torch._foreach_copy_(layout.params, views)

    def _scale(self, layout: Layout, group: Group, state: State) -> Tensor:
        """The scale of every number, float [n]."""
        if layout.scale is None:
            parts = zip(layout.params, self._scales(layout, group, state), strict=True)
            layout.scale = torch.cat(
                [_beside(scale, p, group).expand(p.shape).reshape(-1) for p, scale in parts]
            )
        return layout.scale

    @staticmethod
    def _scales(layout: Layout, group: Group, state: State) -> tuple[Tensor, ...]:
        """The scales of every tensor: float [rows] or [1]."""
        whole = share_of(group["granularity"]).one_scale
        counts = [1 if whole else len(_matrix(p, group)) for p in layout.params]
        return torch.split(state["scale"], counts)

    def quantized(self) -> list[tuple[Tensor, QTensor]]:
        """Each weight on a grid, with its codes int8 [output channels, columns] and their grid."""
        pairs = []
        for number, group in enumerate(self.param_groups):
            if group["bits"] is None:
                continue
            layout, state, spec = self.layout(number), self.group_state(group), self._spec(group)
            codes = _parents(state["codes"].to(layout.update.dtype), group["extra_bits"]).split(
                layout.sizes
            )
            for p, part, scale in zip(
                layout.params, codes, self._scales(layout, group, state), strict=True
            ):
                matrix = _matrix(part.view(p.shape), group).to(spec.alphabet.code_dtype)
                grid = Grid.of(spec, spec.share.shaped(scale, len(matrix)))
                pairs.append((p, QTensor(matrix, grid)))
        return pairs

    def off_grid(self) -> int:
        """The number of weights that are not exactly code times scale, though they are to be: 0, or
        something is broken.
        """
        group_of = {id(p): group for group in self.param_groups for p in group["params"]}
        return sum(
            int((q.dequantize() != _matrix(p, group_of[id(p)])).sum()) for p, q in self.quantized()
        )

    def _rounded_groups(self) -> list[int]:
        groups = enumerate(self.param_groups)
        return [number for number, group in groups if group["bits"] is not None]

    def telemetry(self) -> Telemetry:
        """See `Updates`."""
        saturated, total = 0.0, 0
        for number in self._rounded_groups():
            group, size = self.param_groups[number], sum(self.layout(number).sizes)
            codes, (low, high) = self.group_state(group)["codes"], _ends(group)
            saturated += size * (100 * float(((codes == low) | (codes == high)).sum()) / size)
            total += size
        return replace(super().telemetry(), saturated=saturated / max(1, total))

    def _unit_squares(self, layout: Layout, group: Group) -> Tensor:
        scale = self._scale(layout, group, self.group_state(group)).double().split(layout.sizes)
        unit = 2.0 ** group["bits"]
        return torch.stack([(part * unit).square().mean() for part in scale]).cpu()

    def load_state_dict(self, state_dict: Group) -> None:
        """See torch.optim.Optimizer."""
        super().load_state_dict(state_dict)
        for number, group in enumerate(self.param_groups):
            state = self.group_state(group)
            if state.get("codes") is not None:
                self._hand_out(self.layout(number), group, state, state["codes"].clone())
                # torch makes state the parameters' type
                state["codes"] = state["codes"].to(torch.int16)


def starting_scale(matrix: Tensor, spec: GridSpec) -> Tensor:
    """The scale, [rows] or [1], that fits best; rows of zeros, which any would fit, get that of
    weights to come.
    """
    scale = fit_grid(Mse(), matrix, spec).scale.reshape(-1)
    rows = matrix if len(scale) > 1 else matrix.reshape(1, -1)
    there = (rows != 0).any(1)
    if bool(there.all()):
        return scale
    usual = (
        scale[there].mean()
        if bool(there.any())
        else 1 / (matrix.shape[1] ** 0.5 * max(1, spec.alphabet.qmax))
    )
    return torch.where(there, scale, usual)


def _matrix(values: Tensor, group: Group) -> Tensor:
    """[output channels, columns] of a tensor's numbers; a vector is one row."""
    return (
        values.detach().transpose(0, group["axis"]).flatten(1)
        if values.ndim > 1
        else values.detach().reshape(1, -1)
    )


def _beside(scale: Tensor, p: Tensor, group: Group) -> Tensor:
    """The scales of a tensor, one or one a channel, in a shape that broadcasts with it."""
    return scale.reshape([-1 if axis == group["axis"] else 1 for axis in range(p.ndim)])


def _ends(group: Group) -> tuple[int, int]:
    """Smallest and largest fine code: those whose parents are codes of `bits` bits."""
    fine, half = 2 ** group["extra_bits"], 2 ** (group["bits"] - 1)
    return -half * fine - fine // 2, (half - 1) * fine + (fine - 1) // 2


def _parents(codes: Tensor, extra_bits: int) -> Tensor:
    """The b-bit codes of fine codes, in place."""
    return codes.add_(2**extra_bits // 2).mul_(2.0**-extra_bits).floor_() if extra_bits else codes


class GridSGD(GridOptimizer):
    """SGD on a grid; params, lr, momentum, dampening, nesterov, weight_decay: as
    torch.optim.SGD's.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        *,
        momentum: float = 0.9,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        settings: GridSettings | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            Momentum(momentum, dampening, nesterov, weight_decay),
            settings or GridSettings(),
        )


class GridAdamW(GridOptimizer):
    """AdamW on a grid; params, lr, betas, eps, weight_decay: as torch.optim.AdamW's."""

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        settings: GridSettings | None = None,
    ) -> None:
        super().__init__(params, lr, Adaptive(betas, eps, weight_decay), settings or GridSettings())


def groups_of(trained: Trained) -> list[Group]:
    """Param groups of a run: weights that go on grids, and the rest. Raises RecipeError when there
    are none of the former.
    """
    chosen = {id(p) for p in trained.layers}
    if not chosen:
        raise RecipeError(
            "there is no layer to put on a grid: all are exempt, or the network has none"
        )
    rest = [p for p in trained.params if id(p) not in chosen]
    groups: list[Group] = [
        {"params": trained.layers},
        {"params": rest, "bits": None},
    ]
    return [group for group in groups if group["params"]]
