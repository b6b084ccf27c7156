"""The float network as an ONNX file, to compare files with, and what ONNX Runtime's own tool for
static quantization makes of it.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx_ir as ir
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from subbyte.errors import FormatError
from subbyte.exporters.sessions import Feeds
from subbyte.exporters.torch_onnx import float_program
from subbyte.graph import Signature
from subbyte.io.files import written
from subbyte.io.workplaces import scratch

OPSET = 21
"""The opset of files of integers, too."""


def write_float(
    network: nn.Module, signature: Signature, outputs: Sequence[str], path: Path
) -> None:
    """Write a float network as torch.onnx makes it, for every size of batch.

    Raises ModelError naming the operation for which ONNX has no form.
    """
    program = float_program(network, signature, list(outputs), OPSET)
    with written(path) as temporary:
        ir.save(program, temporary)


def write_static(float_file: Path, feeds: Sequence[Feeds], path: Path) -> None:
    """Write the int8 file that ONNX Runtime's tool makes of a float one: pairs around every
    operation that it knows, weights in int8 with a scale a channel, activations in uint8.

    feeds: samples to calibrate on, by their smallest and largest values.
    Raises FormatError when the tool fails.
    """
    with scratch() as folder, _quiet(), written(path) as temporary:
        prepared = folder / "prepared.onnx"
        try:
            quant_pre_process(str(float_file), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(temporary),
                _Reader(feeds),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        except Exception as error:  # of many types, by what the tool does not know
            reason = " ".join(str(error).split())[:300]
            raise FormatError(
                f"{float_file}: ONNX Runtime's static quantization fails ({reason})"
            ) from error


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Hands out samples one after the other."""

    def __init__(self, feeds: Sequence[Feeds]) -> None:
        self._left: Iterator[Feeds] = iter(feeds)

    def get_next(self) -> dict[str, object] | None:
        """The next sample; None behind the last."""
        found = next(self._left, None)
        return None if found is None else dict(found)


@contextmanager
def _quiet() -> Iterator[None]:
    """Within, the tool says nothing: it advises on stderr to preprocess what was."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
