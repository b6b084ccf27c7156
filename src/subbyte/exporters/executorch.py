"""ExecuTorch: a program for phones and other devices (.pte), its layers computed by XNNPACK's
integer kernels.

The network is handed to ExecuTorch's compiler as `graph.integers` writes it, with our scales and
codes. What XNNPACK does not take as integers (weights in groups or with zero points, layers with
float inputs) is dequantized, and noted. The file takes one sample at a time, of the sizes that the
network was calibrated on, as devices want it; `runner` goes through a batch sample by sample.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import FormatError, ModelError, RecipeError
from subbyte.exporters.facts import DIGEST, facts_of
from subbyte.exporters.given import Wanted, check_given
from subbyte.exporters.lowered import (
    XNNPACK_WIDTH,
    by_sample,
    check_outputs,
    codes_of,
    refusing_unknown,
)
from subbyte.exporters.parity import prove
from subbyte.graph import Codes, Layer, Program, Samples, integer_program, silence
from subbyte.io.digests import digest
from subbyte.io.files import written
from subbyte.io.texts import parse_mapping
from subbyte.methods import Contents, Exported, Exporter, Form, Runner, Seal, Stored
from subbyte.recipe import Plan

_FORWARD, _ABOUT = "forward", "subbyte"
"""Methods of a program: the network, and a text by which the file is known to be ours."""
_UNKNOWN = 64 * "0"  # stands for a digest until it is known
_CODES = ".codes"  # the end of names of buffers with codes
_DTYPES = {6: torch.float32, 4: torch.int64, 3: torch.int32, 2: torch.int16, 1: torch.int8}
_DTYPES |= {0: torch.uint8, 11: torch.bool}
"""ExecuTorch's numbers of types."""


@dataclass(frozen=True)
class ExecuTorch(Exporter[QuantizedModel, Plan]):
    """Programs for devices, layers in XNNPACK's integer kernels."""

    name, runtime = "executorch", "ExecuTorch (XNNPACK)"
    package, extra = "executorch", "executorch"
    suffixes = (".pte",)
    usage = """\
import torch
from executorch.runtime import Runtime

program = Runtime.get().load_program("FILE")
method = program.load_method("forward")
tensors = [torch.as_tensor(x) for x in inputs]
rows = []
for sample in zip(*tensors):  # a call takes one sample
    rows.append([output.clone() for output in method.execute([x[None] for x in sample])])
outputs = [torch.cat(of_output) for of_output in zip(*rows)]
"""
    refuses = (
        refusing_unknown("executorch"),
        XNNPACK_WIDTH,
    )

    def export(self, model: QuantizedModel, path: Path, inputs: Samples, form: Form) -> Exported:
        """See `methods.Exporter`. Raises ModelError where an output has no axis of samples, or
        ExecuTorch has no form of an operation.
        """
        self.require()
        check_outputs(model, inputs, self.name)
        batched = [leaf.batched for leaf in model.signature.tensors]
        about = facts_of(model, form) | {"batched": batched, DIGEST: _UNKNOWN}
        content, notes = _lowered(model, json.dumps(about))
        own = digest([content])
        with written(path) as temporary:
            temporary.write_bytes(content.replace(_UNKNOWN.encode(), own.encode(), 1))
            parity = prove(model, self.runner(temporary), inputs, self.runtime, form)
        made = self.name, path, len(content), parity, notes
        return Exported(*made, form=form, digest=own)

    def runner(self, path: Path) -> Runner:
        """See `methods.Exporter`. Takes any number of samples."""
        program, about = _read(self, path)
        loaded = _Loaded(program, program.load_method(_FORWARD))
        meta = loaded.method.metadata
        infos = [meta.input_tensor_meta(k) for k in range(meta.num_inputs())]
        batched = about.get("batched", [True] * len(infos))
        wanted = [
            Wanted(_DTYPES[info.dtype()], ("batch", *info.sizes()[1:]) if own else info.sizes())
            for info, own in zip(infos, batched, strict=True)
        ]

        def run(*given: Tensor) -> Any:
            check_given(path, wanted, given)
            return by_sample(loaded.run, given, batched)

        return run

    def contents(self, path: Path) -> Contents:
        """See `methods.Exporter`."""
        _, about = _read(self, path)
        if not about:
            raise FormatError(f"{path}: a program of ExecuTorch's, but subbyte did not write it")
        from executorch.exir._serialize._program import deserialize_pte_binary

        program = deserialize_pte_binary(path.read_bytes()).program
        (plan,) = (one for one in program.execution_plan if one.name == _FORWARD)
        parts = [
            Stored(
                f"{one.id} {number}",
                "compiled",
                (),
                len(program.backend_delegate_data[number].data),
            )
            for number, one in enumerate(plan.delegates)
        ]
        kinds = Counter([one.name for one in plan.operators] + [one.id for one in plan.delegates])
        told = {key: value for key, value in about.items() if isinstance(value, str)}
        return Contents(f"version {program.version}", parts, dict(kinds.most_common()), told)

    def seal(self, path: Path) -> Seal:
        """See `methods.Exporter`. The digest is that of the file with zeros in its place."""
        _, about = _read(self, path)
        stated = str(about.get(DIGEST, ""))
        content = path.read_bytes()
        return Seal(
            stated, digest([content.replace(stated.encode() or b"0", _UNKNOWN.encode(), 1)])
        )


@dataclass(frozen=True, eq=False)
class _Loaded:
    """A method at work, and the program that it lies in, which has to live as long."""

    program: Any
    method: Any

    def run(self, given: Sequence[Tensor]) -> list[Tensor]:
        """The outputs for one sample."""
        found = self.method.execute([x.contiguous() for x in given])
        return [output.clone() for output in found]


def _lowered(model: QuantizedModel, about: str) -> tuple[bytes, dict[str, str]]:
    """The file's content, and notes by layer. Layers that XNNPACK leaves out are dequantized."""
    taken, notes = codes_of(model, "XNNPACK")
    while True:
        layers = [one for one in model.layers if one.owner in model.weights and one.weight in taken]
        program = integer_program(model.instrumented, layers, taken, model.signature)
        edge = _partitioned(program, about)
        left = _left(edge.exported_program(), layers, taken)
        if not left:
            break
        for name in left:
            del taken[name]
        why = "dequantized to float32: XNNPACK has no integer kernel for it"
        notes |= {one.name: why for one in layers if one.owns_weight and one.weight in left}
    try:
        with silence():
            return bytes(edge.to_executorch().buffer), notes
    except Exception as error:  # ExecuTorch raises types of many kinds
        raise _refusal(error) from error


def _partitioned(program: Program, about: str) -> Any:
    """The program with what XNNPACK computes handed to it. Raises ModelError."""
    with silence():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

    try:
        with silence():
            return to_edge_transform_and_lower(
                program.exported,
                partitioner=[XnnpackPartitioner()],
                constant_methods={_ABOUT: about},
            )
    except Exception as error:  # ExecuTorch raises types of many kinds
        raise _refusal(error) from error


def _refusal(error: Exception) -> ModelError:
    reason: BaseException = error
    while reason.__cause__ is not None:
        reason = reason.__cause__
    text = " ".join(str(reason).split())[:300]
    return ModelError(f"ExecuTorch can't compile the network: {text}; choose another exporter")


def _left(exported: Any, layers: Sequence[Layer], taken: dict[str, Codes]) -> set[str]:
    """Weights whose codes no kernel of XNNPACK's took."""
    found = set()
    for name, buffer in exported.named_buffers():
        for weight, codes in taken.items():
            same = buffer.dtype == torch.int8 and buffer.shape == codes.codes.shape
            if name.endswith(_CODES) and same and torch.equal(buffer, codes.codes):
                found.add(weight)
    return found


def _read(exporter: ExecuTorch, path: Path) -> tuple[Any, Mapping[str, Any]]:
    """A program, and what subbyte says in it. Raises FormatError."""
    exporter.require()
    try:
        with silence():  # it warns of its own interface
            from executorch.runtime import Runtime
    except ImportError as error:
        raise RecipeError(f"{exporter.runtime} can't be imported: {error}") from error
    try:
        with silence():
            program = Runtime.get().load_program(str(path))
        known = _ABOUT in program.method_names
        text = program.load_method(_ABOUT).execute([])[0] if known else "{}"
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise FormatError(f"{path}: no program that ExecuTorch can load: {reason}") from error
    return program, parse_mapping(text, path)
