"""ONNX: the float graph by torch.onnx, then integers and quantize/dequantize pairs from the codes
and the plan.

Exporters:
    onnx-int8     codes of any width inside int8: runs as integer kernels (QLinearConv, QLinearAdd,
                  ...) everywhere
    onnx-compact  INT2 for 2 bits and ternary (opset 25), INT4 for 3 and 4 bits (opset 21), int8
                  above: the small file

The file is written under a temporary name, run in ONNX Runtime against the torch model, and only
then renamed.
"""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import onnxruntime
import torch
from torch import Tensor

from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import DataError, FormatError, ModelError
from subbyte.exporters.facts import PREFIX, RECIPE, facts_of, prefixed, proof_of
from subbyte.exporters.feeding import check_pixels, of_one_batch
from subbyte.exporters.held import held_bytes
from subbyte.exporters.kernels import read_kernels
from subbyte.exporters.norms import centre_groups
from subbyte.exporters.onnx_files import close, is_large, read_seal, save_program
from subbyte.exporters.pads import merge_pads
from subbyte.exporters.parity import prove
from subbyte.exporters.pixels import take_pixels
from subbyte.exporters.pools import pool_means
from subbyte.exporters.qdq import CODES, Written, insert_pairs, needed_opset
from subbyte.exporters.saturation import exact_if_saturated, proving
from subbyte.exporters.short import shorten
from subbyte.exporters.storage import Container
from subbyte.exporters.torch_onnx import float_program
from subbyte.graph import Samples, described, mark_sites, take_apart
from subbyte.io.files import written_together
from subbyte.io.versions import installed
from subbyte.methods import (
    Contents,
    Exported,
    Exporter,
    Form,
    InputType,
    Optimize,
    Refusal,
    Runner,
    Seal,
    Stored,
)
from subbyte.recipe import Plan, TapPlan
from subbyte.records.parity import Parity

_TORCH_MAX_OPSET = 23
_EVERY, _DOTS = "every processor", "processors with integer dot products"
_SHOWN = 64  # bytes of a tensor that is worth a row


@dataclass(frozen=True)
class Onnx(Exporter[QuantizedModel, Plan]):
    """Codes inside int8 for integer kernels, or in the narrowest type that ONNX has for them."""

    container: Container

    runtime, package = "ONNX Runtime", "onnxruntime"
    suffixes = (".onnx", ".onnx.data")
    optimizes = tuple(Optimize)
    takes = tuple(InputType)
    fixes = True
    usage = """\
import onnxruntime

session = onnxruntime.InferenceSession("FILE", providers=["CPUExecutionProvider"])
names = [one.name for one in session.get_inputs()]
outputs = session.run(None, dict(zip(names, inputs)))
"""
    refuses = (
        Refusal(
            lambda self, plan: any(_unknown(tap) for tap in plan.taps),
            "ONNX has no form for activations on unevenly spaced numbers that differ by channel or "
            "batch; choose other levels, or export no ONNX file",
        ),
    )

    @property
    def name(self) -> str:
        """See `methods.Exporter`."""
        return f"onnx-{self.container.name}"

    def export(self, model: QuantizedModel, path: Path, inputs: Samples, form: Form) -> Exported:
        """See `methods.Exporter`.

        Where this processor adds pairs of 8-bit products in saturating int16, a file for speed is
        made exact on every processor.
        """
        with written_together(self.files(path)) as (temporary, _):
            return exact_if_saturated(
                lambda form: self._export(model, path, temporary, inputs, form), form
            )

    def _export(
        self, model: QuantizedModel, path: Path, temporary: Path, inputs: Samples, form: Form
    ) -> Exported:
        facts, opset = self.write(model, temporary, form)
        with proving(facts.saturating):
            parity = self._proven(model, temporary, inputs, form)
        names = [leaf.name for leaf in model.signature.tensors]
        tensors = [leaf for leaf in inputs.leaves if isinstance(leaf, Tensor)]
        feeds = {n: x.numpy() for n, x in zip(names, of_one_batch(tensors, form), strict=True)}
        kernels = read_kernels(temporary, feeds, model.layers, facts.names)
        parity = parity.model_copy(update={"saturating": tuple(facts.saturating)})
        digest = close(temporary, proof_of(parity))
        size = sum(one.stat().st_size for one in self.files(temporary) if one.exists())
        held = held_bytes(model, self.container)
        own = self.name, path, size, parity, facts.notes, opset, kernels, held
        return Exported(*own, form=form, digest=digest)

    def write(self, model: QuantizedModel, path: Path, form: Form) -> tuple[Written, int]:
        """Write the file without a proof. Returns facts about it, and the opset.

        Raises ModelError where an operation has no form in ONNX.
        """
        opset = needed_opset(model, self.container)
        program = _torch_graph(model, min(opset, _TORCH_MAX_OPSET), form.batch)
        merge_pads(program.graph)
        pool_means(program.graph)
        centre_groups(program.graph)
        facts = insert_pairs(program, model, self.container, form.optimize)
        preprocessing = form.about.preprocessing
        if form.input is InputType.UINT8 and preprocessing is not None:
            image = check_pixels(model.signature, preprocessing)
            take_pixels(program.graph, image.name, preprocessing, image.shape[0])
        _strip(program)
        codes = {f"{layer.weight}{CODES}": layer.name for layer in model.owners}
        codes |= {name: name for tap in model.plan.taps for name in [f"{tap.name}{CODES}"]}
        if not is_large(program):  # what is kept in names is nothing there
            facts = replace(facts, names=shorten(program, codes))
        program.opset_imports[""] = opset
        program.producer_name, program.producer_version = "subbyte", installed("subbyte")
        program.metadata_props.update(prefixed(facts_of(model, form)))
        program.metadata_props["subbyte.container"] = self.container.name
        program.metadata_props["subbyte.exact_on"] = _DOTS if facts.saturating else _EVERY
        save_program(program, path, path.with_suffix(self.suffixes[1]))
        try:
            onnx.checker.check_model(str(path), full_check=False)
        except onnx.checker.ValidationError as error:
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"an operation has no form in ONNX: {reason}") from error
        return facts, opset

    def _proven(self, model: QuantizedModel, path: Path, inputs: Samples, form: Form) -> Parity:
        def precise() -> Runner:
            return _runner(path, {"session.qdq_matmulnbits_accuracy_level": "1"})

        return prove(model, self.runner(path), inputs, self.runtime, form, precise)

    def runner(self, path: Path) -> Runner:
        """See `methods.Exporter`. Runs any ONNX file, with as many threads as torch uses. It raises
        DataError for batches that are not as the file takes them.
        """
        return _runner(path, {})

    def contents(self, path: Path) -> Contents:
        """See `methods.Exporter`."""
        try:
            model = ir.load(path)
        except Exception as error:  # protobuf raises types of its own
            raise FormatError(f"{path}: not an ONNX file ({str(error)[:200]})") from error
        if f"{PREFIX}{RECIPE}" not in model.metadata_props:
            raise FormatError(f"{path}: an ONNX file, but subbyte did not write it")
        held = [(n, v.const_value) for n, v in model.graph.initializers.items()]
        return Contents(
            f"opset {model.opset_imports.get('')}",
            [
                Stored(
                    name, str(tensor.dtype), tuple(map(int, tensor.shape.numpy())), tensor.nbytes
                )
                for name, tensor in held
                if tensor is not None and tensor.nbytes >= _SHOWN
            ],
            dict(Counter(node.op_type for node in model.graph).most_common()),
            dict(model.metadata_props),
        )

    def seal(self, path: Path) -> Seal:
        """See `methods.Exporter`."""
        return read_seal(path)


def _unknown(tap: TapPlan) -> bool:
    """Whether an activation quantizer has uneven levels that are not one list with one scale."""
    alphabet, share = tap.spec.alphabet, tap.spec.share
    return not alphabet.even and (tap.dynamic or not share.one_scale or not alphabet.positions)


_TYPES = {
    "tensor(float)": torch.float32,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(int16)": torch.int16,
    "tensor(int8)": torch.int8,
    "tensor(uint8)": torch.uint8,
    "tensor(bool)": torch.bool,
}
"""ONNX Runtime's names of types."""


def _fits(x: object, wanted: onnxruntime.NodeArg) -> bool:
    """Whether a tensor has the type and shape of a file's input; what is no number there is
    free.
    """
    return (
        isinstance(x, Tensor)
        and x.dtype == _TYPES.get(wanted.type)
        and x.ndim == len(wanted.shape)
        and all(
            not isinstance(size, int) or size == own
            for size, own in zip(wanted.shape, x.shape, strict=True)
        )
    )


def _shown(wanted: onnxruntime.NodeArg) -> str:
    kind = str(_TYPES.get(wanted.type, wanted.type)).removeprefix("torch.")
    return f"{kind} [{', '.join(map(str, wanted.shape))}]"


def _runner(path: Path, settings: dict[str, str]) -> Runner:
    """See `Onnx.runner`. settings: of ONNX Runtime's session."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    for name, value in settings.items():
        options.add_session_config_entry(name, value)
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime raises types of its own for each kind of damage
        raise FormatError(f"{path}: ONNX Runtime can't load it: {str(error)[:300]}") from error
    wanted = session.get_inputs()

    def run(*given: Tensor) -> Any:
        if len(given) != len(wanted) or not all(map(_fits, given, wanted)):
            takes = ", ".join(map(_shown, wanted))
            got = ", ".join(map(described, given))
            raise DataError(f"{path}: takes {takes}, got {got}")
        feeds = {one.name: x.cpu().numpy() for one, x in zip(wanted, given, strict=True)}
        try:
            found = tuple(torch.from_numpy(each) for each in session.run(None, feeds))
        except Exception as error:  # as when it loads
            reason = " ".join(str(error).split())[:400]
            raise FormatError(f"{path}: ONNX Runtime can't run it: {reason}") from error
        return found if len(found) > 1 else found[0]

    return run


def _torch_graph(model: QuantizedModel, opset: int, batch: int | None) -> ir.Model:
    quantized = [layer for layer in model.layers if layer.owner in model.weights]
    marked = mark_sites(model.instrumented, quantized)
    take_apart(marked)
    return float_program(marked, model.signature, model.output_names, opset, batch)


def _strip(program: ir.Model) -> None:
    """Drop the exporter's notes: source lines and paths of the machine that wrote the file."""
    values = [value for node in program.graph for value in node.outputs]
    for part in (
        program,
        program.graph,
        *program.graph,
        *values,
        *program.graph.inputs,
        *program.graph.initializers.values(),
    ):
        part.metadata_props.clear()
        part.doc_string = None
    for value in values:
        if not value.is_graph_output():
            value.shape = None  # runtimes infer shapes
