"""The parity certificate: the written file, run in ONNX Runtime, against the torch model on the
same images.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor

from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import FormatError, ParityError

_BATCH = 100


@dataclass(frozen=True)
class Parity:
    """max_abs, mean_abs: differences of outputs; agreement: percent of equal top-1 classes; images:
    how many.
    """

    max_abs: float
    mean_abs: float
    agreement: float
    images: int


def onnx_model(path: str | Path, threads: int = 0) -> Callable[[Tensor], Tensor]:
    """A function from float32 batches to outputs that runs an ONNX file in ONNX Runtime on the CPU.

    threads: 0 for as many as torch uses. Raises FormatError when ONNX Runtime can't load the file.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime raises types of its own for each kind of damage
        raise FormatError(f"{path}: ONNX Runtime can't load it: {str(error)[:300]}") from error
    name = session.get_inputs()[0].name

    def run(x: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: x.cpu().numpy()})[0])

    return run


def check_parity(model: QuantizedModel, path: Path, images: Tensor, min_agreement: float) -> Parity:
    """Compare on images [n, ...]; ParityError when fewer than `min_agreement` percent of the top-1
    classes agree.
    """
    if images.shape[0] < 1 or tuple(images.shape[1:]) != tuple(model.input_shape):
        raise ParityError(
            f"images of shape {tuple(images.shape)} can't be compared: the network takes [n, "
            f"{model.input_shape}]"
        )
    run = onnx_model(path)
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
            f"ONNX Runtime and torch agree on {parity.agreement:.2f} % of {parity.images} images, "
            f"less than "
            f"{min_agreement} %: outputs differ by up to {parity.max_abs:.3g} (mean "
            f"{parity.mean_abs:.3g}). "
            "No file was kept. Processors without integer dot products saturate in 8-bit kernels; "
            "the compact container avoids them."
        )
    return parity


def _outputs(
    model: QuantizedModel, run: Callable[[Tensor], Tensor], images: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    with torch.no_grad():
        for batch in images.split(_BATCH):
            yield model(batch), run(batch)
