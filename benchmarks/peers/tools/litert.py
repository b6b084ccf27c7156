"""LiteRT's quantizer on the converted network."""

from pathlib import Path
from typing import Any

import litert_torch
import numpy as np
import torch
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer.qtyping import TFLOperationName
from ai_edge_quantizer.quantizer import Quantizer

from benchmarks.peers.contract import CannotError, Job, Made

NOTE = (
    "`litert_torch.convert` for one sample, then `Quantizer`: `add_static_config` for all "
    "operations, weights per channel, calibrated on all images; weights alone: "
    "`add_weight_only_config`"
)
_SIGNATURE = "serving_default"


def quantize(job: Job) -> Made:
    """The float file, then the quantizer on it."""
    width = job.width
    if width.ternary or width.weights not in (4, 8) or width.activations == 4:
        raise CannotError("recipes are for weights of 4 and 8 bits and activations of 8 and 16")
    if job.ends8:
        raise CannotError(
            "layers are told apart by regular expressions on names of the converted file, which "
            "the converter makes up; not tried"
        )
    float_file, file = job.folder / "start.tflite", job.folder / "network.tflite"
    one = tuple(x[:1] for x in job.inputs)
    # user code
    litert_torch.convert(job.model, one).export(str(float_file))
    quantizer = Quantizer(float_file)
    everything = (".*", TFLOperationName.ALL_SUPPORTED)
    if width.weights_only:
        quantizer.add_weight_only_config(*everything, num_bits=width.weights)
    else:
        quantizer.add_static_config(*everything, width.activations, width.weights)
    names = [f"args_{k}" for k in range(len(one))]
    feeds = [
        {name: x.astype(np.int32) if x.dtype == np.int64 else x for name, x in feed.items()}
        for feed in job.feeds(1, names)
    ]
    ranges = quantizer.calibrate({_SIGNATURE: feeds}, num_threads=1)
    quantizer.quantize(ranges).export_model(file)
    # end of user code
    return Made(TfliteRun(file), lambda: [file])


class TfliteRun:
    """A file for one sample, called as the network, with numbers for codes."""

    def __init__(self, file: Path) -> None:
        self._interpreter = Interpreter(str(file), num_threads=1)
        self._call = self._interpreter.get_signature_runner(_SIGNATURE)
        self._takes, self._gives = self._call.get_input_details(), self._call.get_output_details()

    def __call__(self, *inputs: torch.Tensor) -> Any:
        samples = zip(*(x.split(1) for x in inputs), strict=True)
        found = [self._one(sample) for sample in samples]
        outputs = [torch.cat(each) for each in zip(*found, strict=True)]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _one(self, sample: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
        given = {}
        for (name, about), x in zip(sorted(self._takes.items()), sample, strict=True):
            (scale, zero), dtype, values = about["quantization"], about["dtype"], x.numpy()
            if scale:
                ends = np.iinfo(dtype)
                values = np.clip(np.rint(values / scale) + zero, ends.min, ends.max)
            given[name] = values.astype(dtype)
        found = self._call(**given)
        return [self._number(name, found[name]) for name in sorted(found)]

    def _number(self, name: str, codes: np.ndarray) -> torch.Tensor:
        scale, zero = self._gives[name]["quantization"]
        values = (codes.astype(np.float32) - zero) * scale if scale else codes
        return torch.from_numpy(values)
