"""The parity certificate: the written file, run in its runtime, against the torch model on the same
images.
"""

from collections.abc import Iterator
from math import isfinite

import torch
from torch import Tensor

from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import DataError, ParityError
from subbyte.graph import Inputs, Samples
from subbyte.methods import Parity, Runner
from subbyte.tasks import row_agreement

_BATCH = 100


def check_parity(
    model: QuantizedModel, run: Runner, samples: Samples, min_agreement: float, runtime: str
) -> Parity:
    """Compare on n >= 1 samples. runtime: the name of what `run` runs in.

    Raises ParityError when fewer than `min_agreement` percent of the top-1 classes agree.
    """
    worst, total, count = 0.0, 0.0, 0
    pairs: list[tuple[list[Tensor], list[Tensor]]] = []
    for ours, theirs in _outputs(model, run, samples):
        for k, (own, other) in enumerate(zip(ours, theirs, strict=True)):
            if k == len(pairs):
                pairs.append(([], []))
            pairs[k][0].append(own)
            pairs[k][1].append(other)
            difference = (own.double() - other.double()).abs()
            difference = torch.where(own == other, 0.0, difference)  # both infinite
            worst, total = max(worst, float(difference.max())), total + float(difference.sum())
            count += own.numel()
            if not isfinite(total):
                raise ParityError(
                    "outputs hold NaN or Inf, or differ without bound; no file was kept"
                )
    agree = row_agreement([(torch.cat(a), torch.cat(b)) for a, b in pairs])
    parity = Parity(worst, total / count, 100.0 if agree is None else agree, len(samples))
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


def check_samples(model: QuantizedModel, inputs: Tensor | Inputs | Samples) -> Samples:
    """Read what to compare on. Raises ParityError when there is nothing, or it is not as `model`
    takes it.
    """
    wanted = f"the network takes {model.signature.described}, n >= 1"
    if not isinstance(inputs, Tensor | Inputs | Samples):
        raise ParityError(f"images must be a tensor, got {type(inputs).__name__}: {wanted}")
    try:
        samples = Samples.of(inputs)
    except DataError as error:
        raise ParityError(f"{error}: {wanted}") from error
    if not model.signature.fits(samples):
        raise ParityError(f"images {samples.described} can't be compared: {wanted}")
    return samples


def _outputs(
    model: QuantizedModel, run: Runner, samples: Samples
) -> Iterator[tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]:
    with torch.no_grad():
        for batch in samples.split(_BATCH):
            found = run(*(leaf for leaf in batch.leaves if isinstance(leaf, Tensor)))
            yield model.outputs(batch), found if isinstance(found, tuple) else (found,)
