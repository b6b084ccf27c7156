"""Brevitas with Qronos and bias correction."""

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.peers.contract import Job, Made

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of optional kernels for GPUs
    import brevitas.nn as qnn
    from brevitas.export import export_onnx_qcdq
    from brevitas.fx import symbolic_trace
    from brevitas.graph.calibrate import bias_correction_mode, calibration_mode
    from brevitas.graph.fixed_point import MergeBatchNorm
    from brevitas.graph.gpfq import gpfq_mode
    from brevitas.graph.qronos import Qronos
    from brevitas.graph.quantize import layerwise_quantize
    from brevitas.inject import value
    from brevitas.quant.scaled_int import Int8WeightPerChannelFloatMSE, Int32Bias
    from brevitas.quant.shifted_scaled_int import (
        ShiftedUint8ActPerTensorFloat,
        ShiftedUint8ActPerTensorFloatMSE,
        ShiftedUint8WeightPerChannelFloatMSE,
    )

NOTE = (
    "`MergeBatchNorm`, `layerwise_quantize`: weights per channel with MSE scales "
    "(symmetric; at 2 bits with a zero point; narrow for ternary), inputs of layers with zero "
    "points (99.999 percentile at 8 bits, MSE at 4), then Qronos and bias correction, as in its "
    "ImageNet example; file by `export_onnx_qcdq`"
)
_BATCH = 50


def quantize(job: Job) -> Made:
    """The steps of brevitas_examples/imagenet_classification/ptq, without its argument parser."""
    width, ends = job.width, ends_of(job.model) if job.ends8 else set()
    few = tuple(x[:1] for x in job.inputs)

    # user code
    @value  # type: ignore[untyped-decorator]
    def weight_bits(module: nn.Module) -> int:
        return 8 if shape_of(module) in ends else width.weights

    @value  # type: ignore[untyped-decorator]
    def activation_bits(module: nn.Module) -> int:
        return 8 if shape_of(module) in ends else width.activations

    symmetric = width.ternary or width.weights > 2
    quantizer = Int8WeightPerChannelFloatMSE if symmetric else ShiftedUint8WeightPerChannelFloatMSE
    settings: dict[str, Any] = {
        "weight_quant": quantizer.let(narrow_range=symmetric),
        "weight_bit_width": weight_bits,
        "return_quant_tensor": False,
    }
    if not width.weights_only:
        stats, mse = ShiftedUint8ActPerTensorFloat, ShiftedUint8ActPerTensorFloatMSE
        settings["input_quant"] = (
            stats.let(high_percentile_q=99.999, low_percentile_q=0.001)
            if width.activations == 8
            else mse
        )
        settings |= {"input_bit_width": activation_bits, "bias_quant": Int32Bias}
    layers = {
        nn.Conv2d: (qnn.QuantConv2d, settings),
        nn.ConvTranspose2d: (qnn.QuantConvTranspose2d, settings),
        nn.Linear: (qnn.QuantLinear, settings),
    }
    # preprocess_for_quantize does the same and more, and fails on `mean((2, 3))`
    model = MergeBatchNorm().apply(symbolic_trace(job.model))
    model = layerwise_quantize(model, compute_layer_map=layers).eval()
    with torch.no_grad():
        model(*few)
        if not width.weights_only:
            with calibration_mode(model):
                for batch in job.batches(_BATCH):
                    model(*batch)
        with gpfq_mode(model, act_order=True, algorithm_impl=partial(Qronos, alpha=1e-6)) as walk:
            for _ in range(walk.num_layers):
                for batch in job.batches(_BATCH):
                    walk.model(*batch)
                walk.update()
        with bias_correction_mode(model):
            for batch in job.batches(_BATCH):
                model(*batch)
    # end of user code

    def write() -> list[Path]:
        file = job.folder / "network.onnx"
        # user code
        export_onnx_qcdq(model, few, file, opset_version=18, dynamo=False)
        # end of user code
        return [file]

    return Made(model, write)


def shape_of(module: nn.Module) -> tuple[int, ...]:
    """Sizes of a layer's weights."""
    return tuple(module.weight.shape)  # type: ignore[arg-type, union-attr]


# user code: first and last at 8 bits
def ends_of(model: nn.Module) -> set[tuple[int, ...]]:
    """The shapes of the first and the last layer, by which they are known."""
    layers = [one for one in model.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    return {shape_of(layers[0]), shape_of(layers[-1])}


# end of user code: first and last at 8 bits
