"""Biases as integer kernels add them: int32, in steps of input scale times weight scale.

    y = s_x s_w (sum (q_w - z_w)(q_x - z_x) + q_b),    q_b = round(b / (s_x s_w)),    |q_b| <= 2^30

The other half of int32 is room for the sum. A channel whose weights are near zero, as behind a
batch-norm that switched it off, has so small a step that its bias does not fit: its layer would be
computed in float, and its neighbours would have to convert. Its step is raised to |b| / (s_x 2^30);
with n inputs that moves its output by less than n 2^-22 of the bias.
"""

import torch
from torch import Tensor

from subbyte.core import Grid, QTensor

_LARGEST = 2**30
_FLOAT32 = 2.0**-22  # scales are rounded to it
_NEAR = 0.9  # of the largest: codes that only a raised step, or chance, brings there
_WIDEST_CODES = 255  # of inputs, in steps


def bias_step(weight: QTensor, inputs: Grid | None) -> Tensor | None:
    """The step of a layer's int32 bias, float32 [rows], that reads values on the grid `inputs`;
    None where integer kernels can't add one: inputs that are float, have several scales or more
    than 8 bits, whose sums take 64; weights that do not fit 8 bits or have a scale for each group
    of columns.
    """
    spec = weight.grid.spec
    integers = spec.alphabet.integers
    whole = integers is not None and integers.high - integers.low <= _WIDEST_CODES
    if inputs is None or not inputs.spec.share.one_scale or spec.share.block is not None:
        return None
    if not inputs.spec.alphabet.fits_byte:
        return None
    step = (inputs.scale.to(weight.grid.scale.device) * weight.grid.step).expand(
        len(weight.codes), 1
    )
    return step[:, 0] if whole else None


def fits(bias: Tensor, step: Tensor) -> bool:
    """Whether a bias [rows] is within int32 at these steps."""
    return bool((bias.double().abs() <= _LARGEST * step.double()).all())


def on_grid(bias: Tensor, step: Tensor) -> Tensor:
    """A bias [rows] rounded to whole steps, float32."""
    return (torch.round(bias.double() / step.double()) * step.double()).float()


def widened(weight: Tensor, rounded: QTensor, bias: Tensor, inputs: Grid | None) -> QTensor:
    """Codes whose bias fits: rows that it does not fit get a wider step, and the nearest codes.

    weight: float32 [rows, columns]; bias: float32 [rows]. A scale that all rows share stays.
    """
    step = bias_step(rounded, inputs)
    if step is None or fits(bias, step) or rounded.grid.spec.share.one_scale:
        return rounded
    wanted = bias.double().abs() / (step.double() * _LARGEST)
    wide, factor = (wanted > 1)[:, None], wanted[:, None] * (1 + _FLOAT32)
    scale = rounded.grid.scale.double()
    grid = rounded.grid.with_scale(torch.where(wide, scale * factor, scale))
    codes = torch.where(wide, QTensor.nearest(weight, grid).codes, rounded.codes)
    return QTensor(codes, grid)


def in_integers(
    weight: Tensor, rounded: QTensor, bias: Tensor, inputs: Grid | None
) -> tuple[QTensor, Tensor]:
    """Codes and bias as integer kernels can add them: see `widened`; the bias is on their grid
    where it fits.
    """
    rounded = widened(weight, rounded, bias, inputs)
    step = bias_step(rounded, inputs)
    return rounded, bias if step is None or not fits(bias, step) else on_grid(bias, step)


def words(bias: Tensor, step: Tensor, columns: int) -> str:
    """A sentence about rows whose biases end near the end of int32; empty where there are none."""
    count = int((bias.double().abs() > _NEAR * _LARGEST * step.double()).sum())
    if not count:
        return ""
    share = 100 * columns * _WIDEST_CODES / 2 / _LARGEST
    return (
        f"steps of {count} of {len(bias)} channels are as wide as their biases ask for in int32, "
        f"which moves their outputs by less than {share:.1g} % of the bias"
    )
