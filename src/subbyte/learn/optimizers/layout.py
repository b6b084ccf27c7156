"""A param group as one vector: where its tensors lie in it, and how numbers get there and back.

All tensors of a group must share dtype and device, and gradients be dense.
"""

from itertools import accumulate

import torch
from torch import Tensor

from subbyte.errors import RecipeError


class Layout:
    """The places of a param group's tensors in one vector of n numbers.

    number: of the group; update: float [n], overwritten every step; views: the same memory in the
        tensors' shapes;
    sizes: of the tensors; still: numbers of those that have no gradient in this step; direction: of
    the last step, float [n]; index: of its lattice; lattice, scale: what subclasses keep.
    """

    def __init__(self, params: list[Tensor], number: int) -> None:
        kinds = {(p.dtype, p.device) for p in params}
        if len(kinds) != 1 or not params[0].is_floating_point():
            shown = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
            raise RecipeError(
                f"the tensors of a param group must share one floating dtype and device, got "
                f"{shown}"
            )
        self.params, self.number, self.sizes = params, number, [p.numel() for p in params]
        self.update = torch.zeros(sum(self.sizes), dtype=params[0].dtype, device=params[0].device)
        self.views = [
            part.view(p.shape)
            for part, p in zip(self.update.split(self.sizes), params, strict=True)
        ]
        self.generator = torch.Generator(params[0].device)
        self.still: list[int] = []
        self.direction: Tensor | None = None
        self.index: int | Tensor | None = None
        self.lattice: tuple[float, Tensor, Tensor] | None = None
        self.scale: Tensor | None = None
        self.bounds = torch.tensor([0, *accumulate(self.sizes)], device=params[0].device)

    def spread(self, values: Tensor) -> Tensor:
        """A number a tensor, [tensors], as one a weight: [n]."""
        spread = torch.ones_like(self.update)
        torch._foreach_mul_(list(spread.split(self.sizes)), list(values.to(spread.dtype).unbind()))
        return spread

    def count(self, values: Tensor) -> Tensor:
        """The number of the [n] values that are not 0, by tensor: int32 [tensors]. The fastest way
        of several, by some margin.
        """
        counted = (values != 0).cumsum(0, dtype=torch.int32)
        return torch.cat([counted.new_zeros(1), counted])[self.bounds].diff()

    def vector(self, tensors: list[Tensor]) -> Tensor:
        """Tensors of the params' shapes as one new vector."""
        if len(tensors) == 1:
            return tensors[0].reshape(-1).clone()
        # one call; torch.cat takes one a tensor before
        vector: Tensor = torch._utils._flatten_dense_tensors(tensors)
        return vector

    def gradient(self) -> Tensor | None:
        """The gradients as one vector, 0 where there is none; None where there is none at all.

        Raises RecipeError for sparse gradients.
        """
        found = [p.grad for p in self.params]
        if any(g is not None and g.is_sparse for g in found):
            raise RecipeError(
                "these optimizers need dense gradients; build the embedding with sparse=False"
            )
        self.still, there = [], [g for g in found if g is not None]
        if len(there) == len(found):
            return self.vector(there)
        self.still = [k for k, g in enumerate(found) if g is None]
        if len(self.still) == len(found):
            return None
        return self.vector(
            [
                torch.zeros_like(p) if g is None else g
                for g, p in zip(found, self.params, strict=True)
            ]
        )

    def still_parts(self) -> list[slice]:
        """The places of the tensors without a gradient."""
        starts = [0, *accumulate(self.sizes)] if self.still else []
        return [slice(starts[k], starts[k + 1]) for k in self.still]

    def add(self, factor: float = 1.0) -> None:
        """Add `factor` times the update to the tensors that have a gradient."""
        for part in self.still_parts():
            self.update[part] = 0
        torch._foreach_add_(self.params, self.views, alpha=factor)
