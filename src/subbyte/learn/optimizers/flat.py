"""The base of the optimizers: a param group is one vector, and a step is a few operations on it.

Networks have many small tensors, on which most of a step is overhead: gradients are made one
vector, the direction and its rounding are computed on it, and one call of `torch._foreach_add_` or
`_foreach_copy_` hands it back. A parameter without a gradient is left alone, as torch's optimizers
do. No step reads anything back from the device.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from subbyte.learn.optimizers.directions import MISSED, Direction, Group, State
from subbyte.learn.optimizers.layout import Layout
from subbyte.learn.optimizers.update_roundings import UPDATE_ROUNDINGS
from subbyte.methods import Updates

Params = Iterable[Tensor] | Iterable[Group]
# primes above any number of steps, and of param groups, that are likely
_SEEDS, _GROUPS = 1_000_003, 1009


class FlatOptimizer(Updates):
    """Base of the optimizers here: a direction, and what is done with it in `_apply`.

    direction: what to move along. defaults: settings of param groups. Raises RecipeError for
        settings out of range.
    """

    def __init__(self, params: Params, direction: Direction, defaults: Group) -> None:
        self.direction = direction
        self._layouts: dict[int, Layout] = {}
        self._moved: list[int] = []  # groups that the last step moved
        super().__init__(params, {"steps": 0, **direction.defaults(), **defaults})

    def __getstate__(self) -> dict[str, Any]:
        """All attributes, for copies and pickles: torch's own keeps nothing of a subclass. Layouts
        are made again.
        """
        return {**vars(self), "_layouts": {}}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of all parameters; a closure is called first and its loss returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._moved = []
        for number, group in enumerate(self.param_groups):
            layout = self.layout(number)
            gradient = layout.gradient()
            if gradient is not None:
                self._step_group(layout, group, gradient)
                group["steps"] += 1
                self._moved.append(number)
        self._after_step()
        return loss

    def layout(self, number: int) -> Layout:
        """The layout of a param group's tensors."""
        params = self.param_groups[number]["params"]
        if number not in self._layouts or len(self._layouts[number].params) != len(params):
            self._layouts[number] = Layout(params, number)
        return self._layouts[number]

    def group_state(self, group: Group) -> State:
        """Vectors kept between steps, with the group's first tensor as torch keeps state by
        tensor.
        """
        state: State = self.state[group["params"][0]]
        return state

    def _step_group(self, layout: Layout, group: Group, gradient: Tensor) -> None:
        state = self.group_state(group)
        if layout.still and MISSED not in state:
            state[MISSED] = torch.zeros(len(layout.sizes), device=layout.update.device)
        parts = layout.still_parts()
        kept = [
            (
                part,
                {
                    name: value[part].clone()
                    for name, value in state.items()
                    if value.shape == layout.update.shape
                },
            )
            for part in parts
        ]
        direction = self.direction(layout, gradient, group, state)
        for part in parts:
            direction[part] = 0
        layout.direction = direction
        self._apply(layout, group, state, direction)
        for part, before in kept:
            for name, value in before.items():
                state[name][part] = value
        if layout.still:
            state[MISSED][layout.still] += 1

    def _apply(self, layout: Layout, group: Group, state: State, direction: Tensor) -> None:
        """Move the parameters of a group along a direction [n]."""
        raise NotImplementedError

    def _after_step(self) -> None:
        """Do what is left when all groups have moved."""

    def noise(self, layout: Layout, group: Group) -> torch.Generator:
        """The random numbers of this step: they depend on seed, group and step alone, so that a run
        can go on.
        """
        if UPDATE_ROUNDINGS[group["rounding"]].random:
            stream = group["seed"] * _GROUPS + layout.number
            layout.generator.manual_seed((stream * _SEEDS + group["steps"]) % 2**63)
        return layout.generator
