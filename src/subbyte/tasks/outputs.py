"""Agreement of two networks on outputs of any form.

Classes lie along the last axis of outputs [n, classes] and [n, tokens, classes], and along axis 1
of maps [n, classes, height, width, ...]; every token and pixel is a row of its own. Outputs with
one number a row name no class.
"""

from collections.abc import Sequence

from torch import Tensor


def class_rows(output: Tensor) -> Tensor | None:
    """An output as [rows, classes]; None where it names no classes."""
    if not output.is_floating_point() or output.ndim < 2 or not output.numel():
        return None
    rows = output.movedim(1, -1) if output.ndim > 3 else output
    return rows.flatten(0, -2) if rows.shape[-1] > 1 else None


def row_agreement(outputs: Sequence[tuple[Tensor, Tensor]]) -> float | None:
    """Percent of rows that both networks put in one class, of the output where they do so least;
    None where no output names classes.

    outputs: each of the float and of the quantized network, alike in shape.
    """
    found = []
    for ours, theirs in outputs:
        rows, others = class_rows(ours), class_rows(theirs)
        if rows is not None and others is not None:
            same = (rows.argmax(1) == others.argmax(1)).double().mean()
            found.append(100 * float(same))
    return min(found, default=None)
