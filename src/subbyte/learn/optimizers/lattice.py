"""QSGD and QtAdamW: the update is rounded to a lattice that becomes finer (Seok, Kim, "Learning
algorithm with monotonically increasing resolution of quantization", 2021; "Stochastic learning
equation using monotone increasing resolution of quantization", arXiv 2112.13006).

    h = -lr d                      d: SGD's or AdamW's direction
    w <- w + Q(h),   Q(x) = floor(Qp x + 1/2) / Qp,   Qp = eta b^index

Where rounding errors behave as noise they are uniform, of variance 1 / (12 Qp^2), which is that of
a Langevin step of temperature 1 / (24 lr Qp^2). Below half a step of the lattice nothing moves at
all: there the error is -h. Error
feedback carries it over to the next step: e <- e + h, w <- w + Q(e), e <- e - Q(e).

Differs from the published code, which `qsgd-2021` and its like keep: momentum, weight decay and
param groups count; the index rises when codes stop moving, not when they sum to 0, between steps
and not within one; it may belong to each tensor; it is part of `state_dict`.
"""

from dataclasses import asdict, dataclass, fields, replace
from math import isfinite
from typing import Annotated

import torch
from torch import Tensor

from subbyte.errors import RecipeError
from subbyte.io.numbers import Bounded, Positive, Seed, Whole
from subbyte.io.registry import Method
from subbyte.learn.optimizers.directions import (
    MISSED,
    Adaptive,
    Direction,
    Group,
    Momentum,
    State,
)
from subbyte.learn.optimizers.flat import FlatOptimizer, Params
from subbyte.learn.optimizers.layout import Layout
from subbyte.learn.optimizers.resolution_schedules import schedule_for_run, schedule_from
from subbyte.learn.optimizers.update_roundings import UPDATE_ROUNDINGS, update_rounding
from subbyte.methods import ResolutionSchedule, Telemetry

MOST = 126
"""The largest cap: steps of 2^-126 are the smallest normal float32 numbers."""


_SLOWEST = 1e-30  # a learning rate of 0 has no temperature


@dataclass(frozen=True)
class Lattice(Bounded):
    """The lattice that updates are rounded to.

    resolution: the index at the start, whatever its sign. base, eta: Qp = eta * base^index.
    schedule: a name of RESOLUTION_SCHEDULES, or a mapping with `name` and settings. rounding: a
    name of UPDATE_ROUNDINGS. error_feedback: what rounding leaves is carried over to the next step.
    cap: the highest index. seed: of rounding that is random.
    Raises RecipeError for values out of range, and for a resolution above the cap.
    """

    resolution: Annotated[int, Whole(-MOST, MOST)] = 2
    base: Annotated[int, Whole(2)] = 2
    eta: Positive = 1.0
    schedule: Method = "on-stall"
    rounding: str = "half-up"
    error_feedback: bool = False
    cap: Annotated[int, Whole(-MOST, MOST)] = 32
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resolution > self.cap:
            raise RecipeError(f"resolution {self.resolution} is above the cap of {self.cap}")
        update_rounding(self.rounding)
        schedule_from(self.schedule)

    def for_run(self, steps: int) -> "Lattice":
        """The lattice of a run whose epochs have so many steps."""
        return replace(self, schedule=schedule_for_run(self.schedule, steps))


@dataclass(frozen=True)
class _Moved:
    """The last step of one param group, of `size` numbers; the rest as in `Telemetry`."""

    size: int
    index: float
    moved: float
    temperature: float


class LatticeOptimizer(FlatOptimizer):
    """Moves by rounded updates. Use QSGD or QtAdamW."""

    def __init__(self, params: Params, lr: float, direction: Direction, defaults: Group) -> None:
        self._schedules: dict[str, ResolutionSchedule] = {}
        super().__init__(params, direction, {**direction.defaults(), **defaults, "lr": lr})

    def add_param_group(self, param_group: Group) -> None:
        """See torch.optim.Optimizer. Raises RecipeError for settings out of range, and adds nothing
        then.
        """
        super().add_param_group(param_group)
        try:
            self._check(self.param_groups[-1])
        except Exception:
            self.param_groups.pop()
            raise

    def _check(self, group: Group) -> None:
        """Raise RecipeError where a setting of a param group is out of range."""
        if not isfinite(group["lr"]) or group["lr"] < 0:
            raise RecipeError(f"lr must be 0 or more, got {group['lr']}")
        for cls in (type(self.direction), Lattice):
            cls(**{field.name: group[field.name] for field in fields(cls)})  # type: ignore[arg-type]

    def _apply(self, layout: Layout, group: Group, state: State, direction: Tensor) -> None:
        index, update = self.index(layout, group, state), layout.update
        rounding = UPDATE_ROUNDINGS[group["rounding"]]
        layout.index = index
        noise, factor = self.noise(layout, group), -group["lr"]
        if group["error_feedback"]:
            direction, factor = (
                state.setdefault("error", torch.zeros_like(update)).add_(direction, alpha=factor),
                1.0,
            )
        if isinstance(index, int) and not group["error_feedback"]:  # the fewest operations
            resolution = group["eta"] * group["base"] ** index
            rounding.round(torch.mul(direction, factor * resolution, out=update), noise)
            layout.add(1 / resolution)
            return
        scaled, step = self.lattice(layout, group, index, factor)
        rounding.round(torch.mul(direction, scaled, out=update), noise).mul_(step)
        if group["error_feedback"]:
            state["error"].sub_(update)
        layout.add()

    def index(self, layout: Layout, group: Group, state: State) -> int | Tensor:
        """The index of this step: a number where time alone decides, else float [tensors] or
        [1].
        """
        schedule = self._schedule(group["schedule"])
        index = schedule.index(group["resolution"], group["steps"], group["base"], group["eta"])
        if not schedule.measured:
            return min(index, int(group["cap"]))
        found = state.get("index")
        if found is None:
            count = len(layout.sizes) if schedule.by_tensor else 1
            found = torch.full((count,), float(index), device=layout.update.device)
            state["index"] = found
        return found

    def lattice(
        self, layout: Layout, group: Group, index: int | Tensor, factor: float
    ) -> tuple[Tensor, Tensor]:
        """The factor times Qp, and 1 / Qp, of every number: float [n], [1] or []; kept until either
        changes.
        """
        if layout.lattice is None or layout.lattice[0] != factor or not isinstance(index, Tensor):
            like = layout.update
            each = torch.as_tensor(index, dtype=torch.float32, device=like.device)
            resolution = (group["eta"] * torch.pow(float(group["base"]), each)).to(like.dtype)
            scaled, step = factor * resolution, 1 / resolution
            if each.numel() > 1:
                scaled, step = layout.spread(scaled), layout.spread(step)
            layout.lattice = (factor, scaled, step)
        return layout.lattice[1:]

    def _schedule(self, method: Method) -> ResolutionSchedule:
        key = repr(method)
        if key not in self._schedules:
            self._schedules[key] = schedule_from(method)
        return self._schedules[key]

    def _after_step(self) -> None:
        """Measure who moved, where it is time to, and raise the index of those who did not."""
        moved: list[tuple[int, ResolutionSchedule, Tensor, Tensor]] = []
        clock = max(group["steps"] for group in self.param_groups)  # all groups together have one
        for number in self._moved:
            group, layout = self.param_groups[number], self.layout(number)
            schedule = self._schedule(group["schedule"])
            if layout.index is None or group["lr"] == 0:  # not rounded, or not moved
                continue
            if schedule.due(group["steps"] if schedule.by_tensor else clock):
                assert layout.direction is not None
                codes = self._codes(layout, group)
                moved.append(
                    (number, schedule, layout.count(codes), layout.count(layout.direction))
                )
        for number, schedule, codes, all_codes in moved:
            if not schedule.by_tensor:
                codes = torch.stack([part.sum() for _, _, part, _ in moved]).sum()
                all_codes = torch.stack([part.sum() for _, _, _, part in moved]).sum()
            group = self.param_groups[number]
            state = self.group_state(group)
            stalled = (codes <= schedule.share * all_codes) & (all_codes > 0)
            state["index"] = (state["index"] + stalled.to(state["index"].dtype)).clamp_(
                max=group["cap"]
            )
            self.layout(number).lattice = None

    def _codes(self, layout: Layout, group: Group) -> Tensor:
        """Values [n] that are 0 where the last step moved nothing. Gaussian noise moves everything;
        there they are 0 where rounding would have moved nothing.
        """
        if UPDATE_ROUNDINGS[group["rounding"]].to_lattice:
            return layout.update
        assert layout.direction is not None and layout.lattice is not None
        # the update is in units of the weights then, and the error what it left
        fed_back = group["error_feedback"]
        asked = self.group_state(group)["error"] + layout.update if fed_back else layout.direction
        return torch.round(asked * layout.lattice[1])

    def telemetry(self) -> Telemetry:
        """See `Updates`: means over all tensors that are rounded, by size."""
        parts = [self._measured(number) for number in self._rounded_groups()]
        if not parts:
            raise RecipeError("there is nothing to measure: no param group has its updates rounded")
        total = sum(part.size for part in parts)
        return Telemetry(
            index=sum(part.size * part.index for part in parts) / total,
            moved=sum(part.size * part.moved for part in parts) / total,
            temperature=sum(part.size * part.temperature for part in parts) / total,
        )

    def _rounded_groups(self) -> list[int]:
        """Numbers of the param groups whose updates are rounded."""
        return list(range(len(self.param_groups)))

    def _measured(self, number: int) -> _Moved:
        """The last step of one param group."""
        group, layout = self.param_groups[number], self.layout(number)
        sizes = torch.tensor(layout.sizes, dtype=torch.float64)
        found = layout.index
        if found is None:  # before the first step
            found = self.index(layout, group, self.group_state(group))
        index = torch.as_tensor(found, dtype=torch.float64).cpu().expand(len(sizes))
        step = 1 / (group["eta"] * float(group["base"]) ** index)
        size = int(sizes.sum())
        moved = 100 * float((layout.update != 0).sum()) / size
        squares = float((sizes * self._unit_squares(layout, group) * step.square()).sum()) / size
        temperature = squares / (24 * max(group["lr"], _SLOWEST))
        return _Moved(size, float((index * sizes).sum()) / size, moved, temperature)

    def _unit_squares(self, layout: Layout, group: Group) -> Tensor:
        """Mean square of what the lattice is counted in, by tensor: float64 [tensors] on the
        CPU.
        """
        return torch.ones(len(layout.sizes), dtype=torch.float64)

    def load_state_dict(self, state_dict: Group) -> None:
        """See torch.optim.Optimizer; all that a run needs to go on is in there."""
        super().load_state_dict(state_dict)
        self._layouts.clear()
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            kept = state_dict["state"].get(saved["params"][0], {})
            # torch makes state the parameters' type, in which counts may not fit
            for name in (MISSED, "index"):
                if name in kept:
                    self.group_state(group)[name] = kept[name].to(
                        group["params"][0].device, torch.float32, copy=True
                    )


class QSGD(LatticeOptimizer):
    """SGD with rounded updates. Not to be confused with the QSGD of Alistarh et al. 2017, which
    rounds what is sent.

    params, lr, momentum, dampening, nesterov, weight_decay: as torch.optim.SGD's; lattice: what
    updates are rounded to. Any of these settings, and those of the lattice, may be given by param
    group. Raises RecipeError out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        lattice: Lattice | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            Momentum(momentum, dampening, nesterov, weight_decay),
            asdict(lattice or Lattice()),
        )


class QtAdamW(LatticeOptimizer):
    """AdamW with rounded updates.

    params, lr, betas, eps, weight_decay: as torch.optim.AdamW's; lattice: what updates are rounded
    to. Any of these, and the lattice's, may be given by param group. Raises RecipeError out of
    range.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        lattice: Lattice | None = None,
    ) -> None:
        super().__init__(
            params, lr, Adaptive(betas, eps, weight_decay), asdict(lattice or Lattice())
        )
