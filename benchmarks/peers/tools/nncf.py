"""NNCF: eight bits on the ONNX file, fewer on the torch network as far as it goes."""

import os
from pathlib import Path

import nncf
import onnx
import torch
from nncf.quantization.advanced_parameters import QuantizationParameters

from benchmarks.peers.cell import OnnxRun
from benchmarks.peers.contract import CannotError, Job, Made

NOTE = (
    "W8A8: `nncf.quantize` of the ONNX file, default settings (fast bias correction), all images; "
    "W4A8, W4A4: `nncf.quantize` of the torch network with `num_bits` in `advanced_parameters` and "
    "`target_device=NPU`, the only one that takes it; weights alone: `compress_weights`"
)
_BATCH = 50
_LEFT_FLOAT = {4: ["add", "__add__", "__iadd__", "mean", "avg_pool2d"], 8: []}
"""Operations that the target refuses at so many bits of activations."""


def quantize(job: Job) -> Made:
    """One call, by width."""
    width = job.width
    if job.ends8:
        raise CannotError("no 8 bits for single layers, only float (IgnoredScope)")
    if width.weights not in (4, 8) or width.ternary:
        raise CannotError("no weights below 4 bits in convolutions")
    if width.weights_only:
        return weights_alone(job)
    return eight_bits(job) if width.weights == 8 else four_bits(job)


def eight_bits(job: Job) -> Made:
    """The ONNX file, quantized."""
    float_file, file = job.folder / "start.onnx", job.folder / "network.onnx"
    few = tuple(x[:2] for x in job.inputs)
    # user code
    dims = tuple({0: torch.export.Dim("batch")} for _ in few)
    torch.onnx.export(job.model, few, float_file, dynamic_shapes=dims, external_data=False)
    network = onnx.load(float_file)
    names = [one.name for one in network.graph.input]
    data = nncf.Dataset(list(job.feeds(1, names)))
    onnx.save(nncf.quantize(network, data, subset_size=len(job.inputs[0])), file)
    # end of user code
    return Made(OnnxRun(file), lambda: [file])


def four_bits(job: Job) -> Made:
    """The torch network, quantized by settings that are documented for a processor."""
    width, few = job.width, tuple(x[:2] for x in job.inputs)
    batches = list(job.batches(_BATCH))
    # user code
    os.environ["NNCF_EXTENSION_LOAD_TIMEOUT"] = "0"  # it compiles C++ at its first use
    scope = nncf.IgnoredScope(types=_LEFT_FLOAT[width.activations], validate=False)
    advanced = nncf.AdvancedQuantizationParameters(
        weights_quantization_params=QuantizationParameters(num_bits=width.weights),
        activations_quantization_params=QuantizationParameters(num_bits=width.activations),
    )
    quantized = nncf.quantize(
        job.model,
        nncf.Dataset(batches, lambda batch: batch if len(batch) > 1 else batch[0]),
        subset_size=len(batches),
        target_device=nncf.TargetDevice.NPU,
        ignored_scope=scope,
        advanced_parameters=advanced,
    )
    # end of user code

    def write() -> list[Path]:
        file = job.folder / "network.onnx"
        # user code
        stripped = nncf.strip(quantized, do_copy=True, example_input=few)
        torch.onnx.export(stripped, few, file, dynamo=False)
        # end of user code
        return [file]

    return Made(quantized, write)


def weights_alone(job: Job) -> Made:
    """Weights of whatever it takes at 4 bits."""
    few = tuple(x[:2] for x in job.inputs)
    mode = nncf.CompressWeightsMode.INT4_SYM
    compressed = nncf.compress_weights(job.model, mode=mode, dataset=nncf.Dataset([few[0]]))
    kinds = {
        type(one).__name__ for one in compressed.modules() if "Decompressor" in type(one).__name__
    }
    if not any("INT4" in kind for kind in kinds):
        raise CannotError(
            "`compress_weights(mode=INT4_SYM)` leaves convolutions at 8 bits, and only a table in "
            f"its log says so ({', '.join(sorted(kinds))})"
        )
    return Made(compressed, lambda: [])
