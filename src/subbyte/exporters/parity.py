"""The parity certificate: the written file, run in its runtime, against the torch model on the same
images.
"""

from collections.abc import Iterator
from math import isfinite

import torch
from torch import Tensor

from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import ParityError
from subbyte.methods import Parity, Runner

_BATCH = 100


def check_parity(
    model: QuantizedModel, run: Runner, images: Tensor, min_agreement: float, runtime: str
) -> Parity:
    """Compare on images [n, ...], n >= 1. runtime: the name of what `run` runs in.

    Raises ParityError when fewer than `min_agreement` percent of the top-1 classes agree.
    """
    worst, total, count, equal = 0.0, 0.0, 0, 0
    for ours, theirs in _outputs(model, run, images):
        difference = (ours - theirs).abs().double()
        worst, total, count = (
            max(worst, float(difference.max())),
            total + float(difference.sum()),
            count + ours.numel(),
        )
        if not isfinite(total):
            raise ParityError("outputs hold NaN or Inf, or differ without bound; no file was kept")
        same = ours.flatten(1).argmax(1) == theirs.flatten(1).argmax(1)
        equal += int(same.sum())
    parity = Parity(worst, total / count, 100 * equal / images.shape[0], images.shape[0])
    if parity.agreement < min_agreement:
        raise ParityError(
            f"{runtime} and torch agree on {parity.agreement:.2f} % of {parity.images} images, "
            f"less than {min_agreement} %: outputs differ by up to {parity.max_abs:.3g} (mean "
            f"{parity.mean_abs:.3g}). No file was kept. Float sums in another order put values on "
            "the border of two codes to either side, which changes the class of an image whose "
            "best outputs are nearly equal: compare on more images, or lower min_agreement. Larger "
            "differences are an error of the export."
        )
    return parity


def check_images(model: QuantizedModel, images: Tensor) -> None:
    """Raise ParityError when there are no images, float32 [n, ...], to compare on, or not as
    `model` takes them.
    """
    wanted = f"the network takes float32 [n, {', '.join(map(str, model.input_shape))}], n >= 1"
    if not isinstance(images, Tensor):
        raise ParityError(f"images must be a tensor, got {type(images).__name__}: {wanted}")
    shape = tuple(images.shape)
    fits = images.dtype == torch.float32 and shape[1:] == tuple(model.input_shape)
    if not fits or not len(images):
        raise ParityError(
            f"images {images.dtype} of shape {list(shape)} can't be compared: {wanted}"
        )


def _outputs(model: QuantizedModel, run: Runner, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    with torch.no_grad():
        for batch in images.split(_BATCH):
            yield model(batch), run(batch)
