"""torchao: PT2E for weights and activations, `quantize_` for weights alone."""

from pathlib import Path

import torch
from torch import nn
from torchao.quantization import IntxWeightOnlyConfig, PerAxis, quantize_
from torchao.quantization.pt2e import move_exported_model_to_eval
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86
from torchao.testing.pt2e import _xnnpack_quantizer as xnnpack

from benchmarks.peers.contract import CannotError, Job, Made

NOTE = (
    "W8A8: PT2E with `X86InductorQuantizer`; W4A8, W4A4: PT2E with the `XNNPACKQuantizer` of "
    "`torchao.testing`, whose codes have settable ends (int8 inside); weights alone: "
    "`IntxWeightOnlyConfig` with a scale a channel"
)
_BATCH = 50
_INTEGERS = {8: torch.int8, 4: torch.int4, 3: torch.int3, 2: torch.int2}


def quantize(job: Job) -> Made:
    """By width: `quantize_`, or the steps of PT2E."""
    if job.width.ternary:
        raise CannotError("no ternary weights")
    return weights_alone(job) if job.width.weights_only else both(job)


def weights_alone(job: Job) -> Made:
    """The network with other tensors in place of its weights."""
    model = job.model
    layers = [name for name, one in model.named_modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    ends = {layers[0], layers[-1]} if job.ends8 else set[str]()
    # user code
    for bits, names in ((job.width.weights, set(layers) - ends), (8, ends)):
        config = IntxWeightOnlyConfig(weight_dtype=_INTEGERS[bits], granularity=PerAxis(0))
        quantize_(model, config, filter_fn=lambda _, name, names=names: name in names)
    # end of user code
    return Made(model, lambda: exported(job, model))


def both(job: Job) -> Made:
    """The steps of PT2E."""
    few = tuple(x[:2] for x in job.inputs)
    # user code
    dims = tuple({0: torch.export.Dim("batch")} for _ in few)
    program = torch.export.export(job.model, few, dynamic_shapes=dims).module()
    prepared = prepare_pt2e(program, quantizer_of(job))
    for batch in job.batches(_BATCH):
        prepared(*batch)
    quantized = convert_pt2e(prepared)
    move_exported_model_to_eval(quantized)
    # end of user code
    return Made(quantized, lambda: exported(job, quantized))


# user code
def quantizer_of(job: Job) -> object:
    """Says what is quantized how."""
    width = job.width
    if width.weights == 8:
        quantizer = x86.X86InductorQuantizer()
        return quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    quantizer = xnnpack.XNNPACKQuantizer()
    weights, activations = 2 ** (width.weights - 1), 2 ** (width.activations - 1)
    config = xnnpack.get_symmetric_quantization_config(
        is_per_channel=True,
        weight_qmin=1 - weights,
        weight_qmax=weights - 1,
        act_qmin=-activations,
        act_qmax=activations - 1,
    )
    quantizer.set_global(config)
    for name in ends_of(job) if job.ends8 else ():
        quantizer.set_module_name(name, xnnpack.get_symmetric_quantization_config(True))
    return quantizer


# end of user code


def ends_of(job: Job) -> tuple[str, str]:
    """Names of the first and the last layer."""
    layers = [n for n, one in job.model.named_modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    return layers[0], layers[-1]


def exported(job: Job, model: nn.Module) -> list[Path]:
    """The ONNX file."""
    file, few = job.folder / "network.onnx", tuple(x[:2] for x in job.inputs)
    # user code
    dims = tuple({0: torch.export.Dim("batch")} for _ in few)
    torch.onnx.export(model, few, file, dynamic_shapes=dims, external_data=False)
    # end of user code
    return [file]
