"""Bounds that a clamp sets for the value it makes."""

from math import inf

import torch
from torch import fx

aten = torch.ops.aten
_CLAMPS = {aten.relu6.default: 6.0, aten.hardtanh.default: 1.0, aten.clamp.default: inf}
"""Their upper bounds where no argument says otherwise."""


def upper_bound(value: object) -> float:
    """The largest number that the clamp behind a value lets it be; inf where there is none."""
    if not isinstance(value, fx.Node) or value.target not in _CLAMPS:
        return inf
    high = value.args[2] if len(value.args) > 2 else _CLAMPS[value.target]
    return float(high) if isinstance(high, int | float) else inf
