"""The tensors that a clip search reads, for programs of users.

LAYER.weight      the layer's weight, with what is folded into it
LAYER.gradient    mean gradient of the loss
LAYER.absolute    mean over batches of the size of a batch's mean gradient
LAYER.fisher      mean squared gradient of an image; all four in the weight's shape
LAYER.moments     second moments of the inputs, [groups, columns, columns]
LAYER.hessian     the exact block of each filter, [rows, columns, columns]

float32 or float64, as they were computed; what no metric needs is left out.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from subbyte.analyses.clips.targets import Target
from subbyte.io.files import write_bytes


def write_evidence(path: Path, targets: Iterable[Target]) -> None:
    """Write the tensors of all layers as a safetensors file."""
    tensors = {name: one.contiguous() for target in targets for name, one in _named(target)}
    write_bytes(path, save(tensors))


def _named(target: Target) -> Iterator[tuple[str, Tensor]]:
    name, shaped, known = target.layer.name, target.layer.geometry.to_weight, target.evidence
    yield f"{name}.weight", shaped(target.weight)
    if known.gradients is not None:
        yield f"{name}.gradient", shaped(known.gradients.gradient)
        yield f"{name}.absolute", shaped(known.gradients.absolute)
        yield f"{name}.fisher", shaped(known.gradients.fisher)
    if known.H is not None:
        yield f"{name}.moments", known.H
    if known.hessian is not None:
        yield f"{name}.hessian", known.hessian
