"""What the optimizers share: a param group is one vector, and a step is a few operations on it.

Networks have many small tensors, on which most of a step is overhead; torch.cat makes one vector of the gradients, the
direction and its rounding are computed on it, and one call of `torch._foreach_add_` or `_foreach_copy_` hands it back.
A parameter without a gradient is left alone, as torch's optimizers do. All tensors of a group must share dtype and
device, and gradients be dense. No step reads anything back from the device.
"""

from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from subbyte.errors import RecipeError
from subbyte.optim.directions import Direction

Params = Iterable[Tensor] | Iterable[dict[str, Any]]
State = dict[str, Tensor]
_SEEDS = 1_000_003  # a prime above any number of steps a seed is likely to see


class Layout:
    """Where the tensors of a param group lie in one vector of n numbers.

    update: float [n], overwritten every step; views: the same memory in the tensors' shapes; sizes: of the tensors;
    direction: of the last step, float [n]. lattice, scale: what subclasses keep from step to step.
    """

    def __init__(self, params: list[Tensor]) -> None:
        kinds = {(p.dtype, p.device) for p in params}
        if len(kinds) != 1 or not params[0].is_floating_point():
            shown = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
            raise RecipeError(f"the tensors of a param group must share one floating dtype and device, got {shown}")
        self.params, self.sizes = params, [p.numel() for p in params]
        self.update = torch.zeros(sum(self.sizes), dtype=params[0].dtype, device=params[0].device)
        self.views = [part.view(p.shape) for part, p in zip(self.update.split(self.sizes), params, strict=True)]
        self.generator = torch.Generator(params[0].device)
        self.still: list[slice] = []  # tensors without a gradient in this step
        self.direction: Tensor | None = None
        self.lattice: tuple[float, Tensor, Tensor] | None = None
        self.scale: Tensor | None = None
        self.ends = torch.tensor(list(accumulate(self.sizes)), device=params[0].device) - 1

    def spread(self, values: Tensor) -> Tensor:
        """A number a tensor, [tensors], as one a weight: [n]."""
        spread = torch.ones_like(self.update)
        torch._foreach_mul_(list(spread.split(self.sizes)), list(values.to(spread.dtype).unbind()))
        return spread

    def count(self, values: Tensor) -> Tensor:
        """How many of [n] values are not 0, by tensor: int32 [tensors]. The fastest way of several, by some margin."""
        counted = (values != 0).cumsum(0, dtype=torch.int32)[self.ends]
        return counted.diff(prepend=counted.new_zeros(1))

    def vector(self, tensors: list[Tensor]) -> Tensor:
        """Tensors of the params' shapes as one new vector."""
        vector: Tensor = torch._utils._flatten_dense_tensors(tensors)  # one call; torch.cat takes one a tensor before
        return vector

    def gradient(self) -> Tensor | None:
        """The gradients as one vector, 0 where there is none; None where there is none at all.

        Raises RecipeError for sparse gradients.
        """
        found = [p.grad for p in self.params]
        if any(g is not None and g.is_sparse for g in found):
            raise RecipeError("these optimizers need dense gradients; build the embedding with sparse=False")
        self.still, there = [], [g for g in found if g is not None]
        if len(there) == len(found):
            return self.vector(there)
        starts = [0, *accumulate(self.sizes)]
        self.still = [slice(*starts[k : k + 2]) for k, g in enumerate(found) if g is None]
        if len(self.still) == len(found):
            return None
        return self.vector([torch.zeros_like(p) if g is None else g for g, p in zip(found, self.params, strict=True)])

    def add(self, factor: float = 1.0) -> None:
        """Add `factor` times the update to the tensors that have a gradient."""
        for part in self.still:
            self.update[part] = 0
        torch._foreach_add_(self.params, self.views, alpha=factor)


class FlatOptimizer(Optimizer):
    """Base of the optimizers here: a direction, and what is done with it in `_apply`.

    direction: what to move along. defaults: settings of param groups. Raises RecipeError for settings out of range.
    """

    def __init__(self, params: Params, direction: Direction, defaults: dict[str, Any]) -> None:
        self.direction = direction
        self._layouts: dict[int, Layout] = {}
        super().__init__(params, {"steps": 0, **direction.defaults(), **defaults})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of all parameters; a closure is called first and its loss returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for number, group in enumerate(self.param_groups):
            layout = self.layout(number)
            gradient = layout.gradient()
            if gradient is not None:
                self._step_group(layout, group, gradient)
                group["steps"] += 1
        self._after_step()
        return loss

    def layout(self, number: int) -> Layout:
        """Where the tensors of a param group lie."""
        params = self.param_groups[number]["params"]
        if number not in self._layouts or len(self._layouts[number].params) != len(params):
            self._layouts[number] = Layout(params)
        return self._layouts[number]

    def group_state(self, group: dict[str, Any]) -> State:
        """Vectors kept between steps, with the group's first tensor as torch keeps state by tensor."""
        state: State = self.state[group["params"][0]]
        return state

    def _step_group(self, layout: Layout, group: dict[str, Any], gradient: Tensor) -> None:
        state = self.group_state(group)
        kept = [
            (part, {name: value[part].clone() for name, value in state.items() if value.shape == layout.update.shape})
            for part in layout.still
        ]
        direction = self.direction(layout, gradient, group, state)
        for part in layout.still:
            direction[part] = 0
        layout.direction = direction
        self._apply(layout, group, state, direction)
        for part, before in kept:
            for name, value in before.items():
                state[name][part] = value

    def _apply(self, layout: Layout, group: dict[str, Any], state: State, direction: Tensor) -> None:
        """Move the parameters of a group along a direction [n]."""
        raise NotImplementedError

    def _after_step(self) -> None:
        """What is left to do when all groups have moved."""

    def noise(self, layout: Layout, group: dict[str, Any]) -> torch.Generator:
        """The random numbers of this step: they depend on the seed and the step alone, so that a run can go on."""
        layout.generator.manual_seed(group["seed"] * _SEEDS + group["steps"])
        return layout.generator
