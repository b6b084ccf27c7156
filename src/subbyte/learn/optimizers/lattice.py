"""QSGD and QtAdamW: the update is rounded to a lattice that becomes finer (Seok, Kim, "Learning
algorithm with monotonically increasing resolution of quantization", 2021; "Stochastic learning
equation using monotone increasing resolution of quantization", arXiv 2112.13006).

    h = -lr d                      d: SGD's or AdamW's direction
    w <- w + Q(h),   Q(x) = floor(Qp x + 1/2) / Qp,   Qp = eta b^index

Where rounding errors behave as noise they are uniform, of variance 1 / (12 Qp^2), which is that of
a Langevin step of temperature 1 / (24 lr Qp^2). Below half a step of the lattice nothing moves at
all: there the error is -h. Error
feedback carries it over to the next step: e <- e + h, w <- w + Q(e), e <- e - Q(e).

Differs from the published code, which `compat` has: momentum, weight decay and param groups count;
the index rises when codes stop moving, not when they sum to 0, between steps and not within one; it
may belong to each tensor; it is part of `state_dict`.
"""

from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from subbyte.errors import RecipeError
from subbyte.io.registry import Method, build_method
from subbyte.learn.optimizers.directions import MISSED, Adaptive, Direction, Momentum
from subbyte.learn.optimizers.flat import FlatOptimizer, Params, State
from subbyte.learn.optimizers.layout import Layout
from subbyte.learn.optimizers.rounding import UPDATE_ROUNDINGS
from subbyte.learn.optimizers.schedules import SCHEDULES, OnStall, Schedule

MOST = 126
"""The largest cap: steps of 2^-126 are the smallest normal float32 numbers."""


_SLOWEST = 1e-30  # a learning rate of 0 has no temperature


@dataclass(frozen=True)
class Lattice:
    """The lattice that updates are rounded to.

    resolution: the index at the start, whatever its sign. base, eta: Qp = eta * base^index.
    schedule: a name of SCHEDULES, or a mapping with `name` and settings. rounding: a name of
    UPDATE_ROUNDINGS. error_feedback: what rounding leaves is carried over to the next step. cap:
    the highest index. seed: of rounding that is random.
    Raises RecipeError for values out of range, and for a resolution above the cap.
    """

    resolution: int = 2
    base: int = 2
    eta: float = 1.0
    schedule: Method = "on-stall"
    rounding: str = "half-up"
    error_feedback: bool = False
    cap: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.cap > MOST or self.resolution > self.cap:
            raise RecipeError(
                f"resolution {self.resolution} is above the cap of {self.cap}; a resolution is at "
                f"most the cap, "
                f"and the cap at most {MOST}"
            )
        if self.base < 2 or not isfinite(self.eta) or self.eta <= 0:
            raise RecipeError(
                f"base must be 2 or more and eta positive, got {self.base} and {self.eta}"
            )
        if self.rounding not in UPDATE_ROUNDINGS:
            raise RecipeError(
                f"unknown rounding {self.rounding!r}; known: {', '.join(UPDATE_ROUNDINGS)}"
            )
        if self.seed < 0:
            raise RecipeError(f"seed must be 0 or more, got {self.seed}")
        build_method(SCHEDULES, self.schedule, "schedule")


@dataclass(frozen=True)
class Telemetry:
    """How the last step went, over all tensors: means weighted by size.

    index: the resolution. moved: share of codes that were not 0, percent. saturated: share of codes
    at an end of their grid, percent; None without grids. temperature: 1 / (24 lr Qp^2).
    """

    index: float
    moved: float
    saturated: float | None
    temperature: float


class LatticeOptimizer(FlatOptimizer):
    """Moves by rounded updates. Use QSGD or QtAdamW."""

    def __init__(
        self, params: Params, lr: float, direction: Direction, defaults: dict[str, Any]
    ) -> None:
        self._schedules: dict[str, Schedule] = {}
        super().__init__(params, direction, {**direction.defaults(), **defaults, "lr": lr})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """See torch.optim.Optimizer. Raises RecipeError for settings out of range, and adds nothing
        then.
        """
        super().add_param_group(param_group)
        try:
            self._check(self.param_groups[-1])
        except Exception:
            self.param_groups.pop()
            raise

    def _check(self, group: dict[str, Any]) -> None:
        """Raise RecipeError where a setting of a param group is out of range."""
        if not isfinite(group["lr"]) or group["lr"] < 0:
            raise RecipeError(f"lr must be 0 or more, got {group['lr']}")
        for cls in (type(self.direction), Lattice):
            cls(**{field.name: group[field.name] for field in fields(cls)})  # type: ignore[arg-type]

    def _apply(
        self, layout: Layout, group: dict[str, Any], state: State, direction: Tensor
    ) -> None:
        index, rounded, update = (
            self.index(layout, group, state),
            UPDATE_ROUNDINGS[group["rounding"]],
            layout.update,
        )
        layout.index = index
        noise, factor = self.noise(layout, group), -group["lr"]
        if group["error_feedback"]:
            direction, factor = (
                state.setdefault("error", torch.zeros_like(update)).add_(direction, alpha=factor),
                1.0,
            )
        if isinstance(index, int) and not group["error_feedback"]:  # the fewest operations
            resolution = group["eta"] * group["base"] ** index
            rounded(torch.mul(direction, factor * resolution, out=update), noise)
            layout.add(1 / resolution)
            return
        scaled, step = self.lattice(layout, group, index, factor)
        rounded(torch.mul(direction, scaled, out=update), noise).mul_(step)
        if group["error_feedback"]:
            state["error"].sub_(update)
        layout.add()

    def index(self, layout: Layout, group: dict[str, Any], state: State) -> int | Tensor:
        """The index of this step: a number where time alone decides, else float [tensors] or
        [1].
        """
        schedule = self._schedule(group["schedule"])
        index = schedule.index(group["resolution"], group["steps"], group["base"], group["eta"])
        if not isinstance(schedule, OnStall):
            return min(index, int(group["cap"]))
        if "index" not in state:
            count = len(layout.sizes) if schedule.scope == "tensor" else 1
            state["index"] = torch.full((count,), float(index), device=layout.update.device)
        return state["index"]

    def lattice(
        self, layout: Layout, group: dict[str, Any], index: int | Tensor, factor: float
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

    def _schedule(self, method: Method) -> Schedule:
        key = repr(method)
        if key not in self._schedules:
            self._schedules[key] = build_method(SCHEDULES, method, "schedule")
        return self._schedules[key]

    def _after_step(self) -> None:
        """Measure who moved, where it is time to, and raise the index of those who did not."""
        moved: list[tuple[int, OnStall, Tensor, Tensor]] = []
        clock = max(group["steps"] for group in self.param_groups)  # all groups together have one
        for number in self._moved:
            group, layout = self.param_groups[number], self.layout(number)
            schedule = self._schedule(group["schedule"])
            if (
                not isinstance(schedule, OnStall)
                or not isinstance(layout.index, Tensor)
                or group["lr"] == 0
            ):
                continue
            if schedule.due(clock if schedule.scope == "global" else group["steps"]):
                assert layout.direction is not None
                codes = self._codes(layout, group)
                moved.append(
                    (number, schedule, layout.count(codes), layout.count(layout.direction))
                )
        for number, schedule, codes, all_codes in moved:
            if schedule.scope == "global":
                codes = torch.stack([part.sum() for _, _, part, _ in moved]).sum()
                all_codes = torch.stack([part.sum() for _, _, _, part in moved]).sum()
            group = self.param_groups[number]
            state = self.group_state(group)
            stalled = (codes <= schedule.share * all_codes) & (all_codes > 0)
            state["index"] = (state["index"] + stalled.to(state["index"].dtype)).clamp_(
                max=group["cap"]
            )
            self.layout(number).lattice = None

    def _codes(self, layout: Layout, group: dict[str, Any]) -> Tensor:
        """What is 0 where the last step moved nothing, [n]. Gaussian noise moves all: what would
        rounding?
        """
        if group["rounding"] != "gaussian":
            return layout.update
        assert layout.direction is not None and layout.lattice is not None
        # the update is in units of the weights then, and the error what it left
        fed_back = group["error_feedback"]
        asked = self.group_state(group)["error"] + layout.update if fed_back else layout.direction
        return torch.round(asked * layout.lattice[1])

    def telemetry(self) -> Telemetry:
        """How the last step went. Reads from the device."""
        parts = [
            part
            for number in range(len(self.param_groups))
            if (part := self._telemetry(number)) is not None
        ]
        if not parts:
            raise RecipeError("there is nothing to measure: no param group has its updates rounded")
        total = sum(size for size, _ in parts)

        def mean(name: str) -> float:
            return sum(size * float(getattr(found, name)) for size, found in parts) / total

        saturated = None if parts[0][1].saturated is None else mean("saturated")
        return Telemetry(mean("index"), mean("moved"), saturated, mean("temperature"))

    def _telemetry(self, number: int) -> tuple[int, Telemetry] | None:
        """Of one param group, with its size; None where nothing is rounded."""
        group, layout = self.param_groups[number], self.layout(number)
        sizes = torch.tensor(layout.sizes, dtype=torch.float64)
        found = (
            self.index(layout, group, self.group_state(group))
            if layout.index is None
            else layout.index
        )
        index = torch.as_tensor(found, dtype=torch.float64).cpu().expand(len(sizes))
        step = 1 / (group["eta"] * float(group["base"]) ** index)
        size = int(sizes.sum())
        moved = 100 * float((layout.update != 0).sum()) / size
        squares = float((sizes * self._unit_squares(layout, group) * step.square()).sum()) / size
        temperature = squares / (24 * max(group["lr"], _SLOWEST))
        return size, Telemetry(float((index * sizes).sum()) / size, moved, None, temperature)

    def _unit_squares(self, layout: Layout, group: dict[str, Any]) -> Tensor:
        """Mean square of what the lattice is counted in, by tensor: float64 [tensors] on the
        CPU.
        """
        return torch.ones(len(layout.sizes), dtype=torch.float64)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
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
