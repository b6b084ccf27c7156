"""OpenVINO: its intermediate representation (.xml with the graph, .bin with the numbers beside it),
by OpenVINO's own converter from an ONNX file with quantize/dequantize pairs.

The ONNX file differs from `onnx-int8` where OpenVINO does: weights are signed, as layers with
unsigned ones are computed in float; activations below 8 bits are cut in float before they become
codes, as integers are not clipped; 2 bits and ternary lie in INT4 (INT2 can't be read).
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from torch import Tensor

from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import FormatError, ModelError
from subbyte.exporters.facts import DIGEST, PREFIX, PROOF, proof_of
from subbyte.exporters.given import Wanted, check_given
from subbyte.exporters.lowered import refusing_wide
from subbyte.exporters.onnx import Onnx
from subbyte.exporters.parity import prove
from subbyte.exporters.qdq import Written
from subbyte.exporters.saturation import exact_if_saturated, proving
from subbyte.exporters.storage import INT4, INT8, UINT8, Container
from subbyte.graph import Samples
from subbyte.io.digests import digest
from subbyte.io.files import written_together
from subbyte.methods import (
    Contents,
    Exported,
    Exporter,
    Form,
    InputType,
    Optimize,
    Runner,
    Seal,
    Stored,
)
from subbyte.recipe import Plan


@dataclass(frozen=True)
class OpenVino(Exporter[QuantizedModel, Plan]):
    """OpenVINO's own files, for its integer kernels on CPUs, GPUs and NPUs of Intel's."""

    name, runtime, package, extra = "openvino", "OpenVINO", "openvino", "openvino"
    suffixes = (".xml", ".bin")
    optimizes = (Optimize.SPEED, Optimize.EXACT)
    takes = tuple(InputType)
    fixes = True
    usage = """\
import openvino

network = openvino.Core().compile_model("FILE", "CPU")
outputs = list(network(inputs).values())
"""
    refuses = (
        *Onnx.refuses,
        refusing_wide("OpenVINO computes other numbers from codes of 16 bits"),
    )

    def export(self, model: QuantizedModel, path: Path, inputs: Samples, form: Form) -> Exported:
        """See `methods.Exporter`. Raises ModelError where OpenVINO has no form of an operation.

        Where this processor adds pairs of 8-bit products in saturating int16, a file for speed is
        made exact on every processor.
        """
        with written_together(self.files(path)) as temporary:
            return exact_if_saturated(
                lambda form: self._export(model, path, temporary, inputs, form), form
            )

    def _export(
        self,
        model: QuantizedModel,
        path: Path,
        temporary: Sequence[Path],
        inputs: Samples,
        form: Form,
    ) -> Exported:
        place, facts, converted = temporary[0], *self._write(model, temporary[0], form)
        run = self.runner(place)
        with proving(facts.saturating):
            parity = prove(
                model, run, inputs, self.runtime, form, lambda: _runner(self, place, _PRECISE)
            )
        parity = parity.model_copy(update={"saturating": tuple(facts.saturating)})
        self._state(converted, place, PROOF, proof_of(parity))
        own = self.seal(place).found
        self._state(converted, place, DIGEST, own)
        size = sum(part.stat().st_size for part in temporary)
        return Exported(self.name, path, size, parity, facts.notes, form=form, digest=own)

    def _write(self, model: QuantizedModel, path: Path, form: Form) -> tuple[Written, Any]:
        """Write the files without a proof. Returns facts about them, and the graph."""
        openvino = _openvino(self)
        between = path.with_name("between.onnx")  # its name goes into the file
        facts, _ = Onnx(_container(model)).write(model, between, form)
        try:
            converted = openvino.convert_model(str(between))
        except Exception as error:  # OpenVINO raises types of its own
            reason = " ".join(str(error).split())[-300:]
            raise ModelError(f"OpenVINO can't convert an operation: {reason}") from error
        _rename(converted)
        openvino.save_model(converted, str(path), compress_to_fp16=False)
        between.unlink()
        return facts, converted

    def _state(self, converted: Any, path: Path, name: str, text: str) -> None:
        """Write the files once more, with one more fact."""
        converted.set_rt_info(text, [*_FACTS, f"{PREFIX}{name}"])
        _openvino(self).save_model(converted, str(path), compress_to_fp16=False)

    def runner(self, path: Path) -> Runner:
        """See `methods.Exporter`. Runs on the CPU, floats in float32, with as many threads as torch
        uses.
        """
        return _runner(self, path, {})

    def contents(self, path: Path) -> Contents:
        """See `methods.Exporter`."""
        try:
            net = ElementTree.parse(path).getroot()
        except (OSError, ElementTree.ParseError) as error:
            raise FormatError(f"{path}: no graph of OpenVINO's ({error})") from error
        about = _stated(net)
        if not any(name.startswith("subbyte.") for name in about):
            raise FormatError(f"{path}: a graph of OpenVINO's, but subbyte did not write it")
        layers = list(net.iterfind("layers/layer"))
        held = [_stored(layer) for layer in layers if layer.get("type") == "Const"]
        kinds = Counter(layer.get("type", "") for layer in layers)
        return Contents(f"IR {net.get('version')}", held, dict(kinds.most_common()), about)

    def seal(self, path: Path) -> Seal:
        """See `methods.Exporter`. The digest is that of layers, edges and facts, and of the numbers
        beside them.
        """
        try:
            net, numbers = ElementTree.parse(path).getroot(), self.files(path)[1].read_bytes()
        except (OSError, ElementTree.ParseError) as error:
            raise FormatError(f"{path}: no graph of OpenVINO's ({error})") from error
        about = _stated(net)
        stated = about.pop(f"{PREFIX}{DIGEST}", "")
        parts = [*net.iterfind("layers"), *net.iterfind("edges")]
        texts = (json.dumps(about, sort_keys=True).encode(), *map(ElementTree.tostring, parts))
        return Seal(stated, digest((*texts, numbers)))


_FACTS = ["framework"]
"""The place of facts in a graph's additional information: where the converter puts those of ONNX
files.
"""
_PRECISE = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "0", "LP_TRANSFORMS_MODE": "NO"}
"""Settings with which OpenVINO rounds what the file says, in float, and nothing else. By itself it
rounds inputs of some linear layers to 8 bits, and joins sums of layers on a grid of its own.
"""
_COUNTED = re.compile(r"[A-Z]\w*_\d+")
_TYPES = {
    "f32": torch.float32,
    "i64": torch.int64,
    "i32": torch.int32,
    "i16": torch.int16,
    "i8": torch.int8,
    "u8": torch.uint8,
    "boolean": torch.bool,
}
"""OpenVINO's names of types."""


def _stated(net: ElementTree.Element) -> dict[str, str]:
    """The facts in a file, by name."""
    return {one.tag: one.get("value", "") for one in net.iterfind(f"rt_info/{_FACTS[0]}/*")}


def _container(model: QuantizedModel) -> Container:
    """Bytes where activations are quantized, for integer kernels; else the fewest bits."""
    types = (INT8, UINT8) if model.plan.taps else (INT4, INT8, UINT8)
    return Container("openvino", types, cuts=True)


def _openvino(exporter: OpenVino) -> Any:
    """OpenVINO. Raises RecipeError where it is missing."""
    exporter.require()
    import openvino

    return openvino


def _rename(converted: Any) -> None:
    """Count the names that the converter gives anew for each graph: it counts them for the whole
    process.
    """
    for number, node in enumerate(converted.get_ordered_ops()):
        if _COUNTED.fullmatch(node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}_{number}")


def _runner(exporter: OpenVino, path: Path, settings: dict[str, str]) -> Runner:
    """See `OpenVino.runner`. settings: of OpenVINO's CPU plug-in."""
    openvino = _openvino(exporter)
    own = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    try:
        compiled = openvino.Core().compile_model(str(path), "CPU", {**own, **settings})
    except Exception as error:  # OpenVINO raises types of its own for each kind of damage
        reason = " ".join(str(error).split())[-300:]
        raise FormatError(f"{path}: OpenVINO can't load it: {reason}") from error
    wanted = [
        Wanted(_TYPES[one.get_element_type().get_type_name()], _shape(one.get_partial_shape()))
        for one in compiled.inputs
    ]

    def run(*given: Tensor) -> Any:
        check_given(path, wanted, given)
        found = compiled([x.cpu().numpy() for x in given])
        outputs = tuple(torch.from_numpy(found[one].copy()) for one in compiled.outputs)
        return outputs if len(outputs) > 1 else outputs[0]

    return run


def _shape(partial: Any) -> tuple[int | str, ...]:
    """A shape with names for sizes that are free; the first counts samples."""
    free = ("batch", *(f"size {axis}" for axis in range(1, len(partial))))
    return tuple(
        name if size.is_dynamic else size.get_length()
        for name, size in zip(free, partial, strict=True)
    )


def _stored(layer: ElementTree.Element) -> Stored:
    (data,) = layer.iterfind("data")
    sizes = [int(size) for size in data.get("shape", "").split(",") if size.strip()]
    kind, count = data.get("element_type", ""), int(data.get("size", 0))
    return Stored(layer.get("name", ""), kind, tuple(sizes), count)
