"""A random network grows step by step: each step is a module that reads the newest value, or now
and then any before it, so that values are read twice, branches meet, and some lead nowhere.

While it grows it runs on a few samples. A step whose output is no sound value (empty, large, not
finite, all alike), or that does not fit, is dropped and another one drawn.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from subbyte import Inputs
from tests.reference.networks import randomize

Call = Callable[[int], Inputs]
SAMPLES = 8
_MOST, _LIVELY = 1500, (0.02, 30.0)


@dataclass(frozen=True)
class Step:
    """A module and the numbers of the values that it reads, in order.

    kind: the name of what drew it; makes: the numbers of the values that it gives.
    """

    module: nn.Module
    reads: tuple[int, ...]
    kind: str = ""
    makes: tuple[int, ...] = ()


@dataclass
class Growing:
    """A network in growth: what is drawn from, its values on a few samples, the steps so far."""

    random: random.Random
    values: list[Tensor]
    steps: list[Step] = field(default_factory=list)

    def one(self, *choices: Any) -> Any:
        """One of these."""
        return self.random.choice(choices)

    def chance(self, share: float) -> bool:
        """True in this share of cases."""
        return self.random.random() < share

    def divisor(self, *numbers: int) -> int:
        """A number that divides all of these."""
        fits = [n for n in range(1, min(numbers) + 1) if not any(m % n for m in numbers)]
        return self.one(*fits)

    def width(self) -> int:
        """A number of channels."""
        return self.one(4, 6, 8, 12)

    def pick(self, axes: int | None, dtype: torch.dtype) -> int | None:
        """The number of a value of so many axes: mostly the newest."""
        fits = [
            k
            for k, value in enumerate(self.values)
            if value.dtype == dtype and axes in (None, value.ndim)
        ]
        if not fits:
            return None
        return fits[-1] if self.chance(0.8) else self.one(*fits)

    def partner(self, k: int, fits: Callable[[Tensor], bool]) -> int | None:
        """The number of a value that fits: another one, seldom the same."""
        found = [j for j, value in enumerate(self.values) if value.is_floating_point()]
        found = [j for j in found if fits(self.values[j])]
        others = [j for j in found if j != k]
        return self.one(*(others if others and self.chance(0.8) else found or [None]))

    def alike(self, k: int) -> int | None:
        """The number of a value of the same shape."""
        return self.partner(k, lambda value: value.shape == self.values[k].shape)

    def take(self, step: Step, kind: str) -> bool:
        """Go on by a step, if what it gives is sound."""
        if not any(step.module is one.module for one in self.steps):
            _liven(step.module)
        try:
            with torch.no_grad():
                found = step.module.eval()(*(self.values[k].clone() for k in step.reads))
        except (RuntimeError, ValueError):  # a kernel larger than the image, and the like
            return False
        made = list(found) if isinstance(found, tuple | list) else [found]
        if not all(map(_sound, made)):
            return False
        numbers = range(len(self.values), len(self.values) + len(made))
        self.steps.append(Step(step.module, step.reads, kind, tuple(numbers)))
        self.values += made
        return True


def _liven(module: nn.Module) -> None:
    """Weights that keep the size of values, and statistics of batch-norms other than 0 and 1."""
    randomize(module, int(torch.randint(1000, ())))
    for weight in module.parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, 0, weight[0].numel() ** -0.5)


def _sound(value: Tensor) -> bool:
    if not value.numel() or value.shape[0] % SAMPLES or value[0].numel() > _MOST:
        return False
    if not value.is_floating_point():
        return True
    return bool(value.isfinite().all()) and _LIVELY[0] < float(value.std(0).mean()) < _LIVELY[1]


class Graph(nn.Module):
    """A network that has grown.

    taken: its steps; returned: numbers of the values that it returns; pack: makes its output of
    them; call: gives inputs of so many samples. `idle` steps, by number, are left out when it runs.
    """

    def __init__(
        self, taken: list[Step], returned: list[int], pack: Callable[..., Any], call: Call
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleList(step.module for step in taken)
        self._taken, self._returned, self._pack, self._call = [taken], returned, [pack], [call]
        self.idle: set[int] = set()
        self.eval()

    @property
    def kinds(self) -> list[str]:
        """The kinds of the steps that lead to an output, in order."""
        dead = self.dead
        return [step.kind for k, step in enumerate(self._taken[0]) if k not in dead]

    @property
    def dead(self) -> set[int]:
        """Numbers of the steps that lead to no output."""
        wanted, dead = set(self._returned), set()
        for k, step in reversed(list(enumerate(self._taken[0]))):
            if wanted & set(step.makes):
                wanted |= set(step.reads)
            else:
                dead.add(k)
        return dead

    def call(self, count: int) -> Inputs:
        """Inputs of so many samples, always the same."""
        with torch.random.fork_rng():
            torch.manual_seed(3)
            return self._call[0](count)

    def forward(self, x: Any, *others: Tensor, **named: Tensor) -> Any:
        values: list[Any] = [*(x.values() if isinstance(x, dict) else [x]), *others]
        values += named.values()
        for k, step in enumerate(self._taken[0]):
            if k in self.idle:
                values += [None] * len(step.makes)
                continue
            found = self.steps[k](*(values[number] for number in step.reads))
            values += found if isinstance(found, tuple | list) else [found]
        return self._pack[0](*(values[number] for number in self._returned))
