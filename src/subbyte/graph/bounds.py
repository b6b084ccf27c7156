"""Bounds that an operation sets for the value it makes."""

from math import inf

import torch
from torch import fx

aten = torch.ops.aten
_LARGEST = {aten.relu6.default: 6.0, aten.sigmoid.default: 1.0, aten.hardsigmoid.default: 1.0}
_CLAMPS = {aten.hardtanh.default: 1.0, aten.clamp.default: inf}
"""Their upper bounds where no argument says otherwise."""


def upper_bound(value: object) -> float:
    """The largest number that the operation behind a value lets it be; inf where there is none."""
    if not isinstance(value, fx.Node):
        return inf
    if value.target not in _CLAMPS:
        return _LARGEST.get(value.target, inf)
    high = value.args[2] if len(value.args) > 2 else _CLAMPS[value.target]
    return float(high) if isinstance(high, int | float) else inf
