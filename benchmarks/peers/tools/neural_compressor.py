"""Intel Neural Compressor for torch."""

from pathlib import Path

import torch
from neural_compressor.torch.export import export
from neural_compressor.torch.quantization import (
    RTNConfig,
    convert,
    get_default_static_config,
    prepare,
)
from torch import nn

from benchmarks.peers.contract import CannotError, Job, Made

NOTE = (
    "W8A8: `export`, `prepare` with `get_default_static_config()`, all images, `convert`; weights "
    "alone: `RTNConfig`"
)
_BATCH = 50


def quantize(job: Job) -> Made:
    """By width: the static way, or that for weights alone."""
    width = job.width
    if width.ternary:
        raise CannotError("no ternary weights")
    if width.weights_only:
        return weights_alone(job)
    if width.weights != 8 or width.activations != 8:
        raise CannotError("static quantization is W8A8 alone")
    few = tuple(x[:2] for x in job.inputs)
    # user code
    dims = tuple({0: torch.export.Dim("batch")} for _ in few)
    program = export(job.model, few, dynamic_shapes=dims)
    prepared = prepare(program, get_default_static_config())
    for batch in job.batches(_BATCH):
        prepared(*batch)
    quantized = convert(prepared)
    # end of user code

    def write() -> list[Path]:
        file = job.folder / "network.onnx"
        # user code
        torch.onnx.export(quantized, few, file, dynamic_shapes=dims, external_data=False)
        # end of user code
        return [file]

    return Made(quantized, write)


def weights_alone(job: Job) -> Made:
    """Whatever its rounding to nearest takes."""
    before = {name: type(one) for name, one in job.model.named_modules()}
    quantized = convert(prepare(job.model, RTNConfig(bits=job.width.weights)))
    after = {name: type(one) for name, one in quantized.named_modules()}
    convolutions = [name for name, kind in before.items() if issubclass(kind, nn.Conv2d)]
    left = [name for name in convolutions if after.get(name) is before[name]]
    if left:
        raise CannotError(
            f"weights alone: `RTNConfig` leaves {len(left)} of {len(convolutions)} convolutions "
            "float, without a word"
        )
    return Made(quantized, lambda: [])
