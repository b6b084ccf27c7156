"""LiteRT: a file for phones, browsers and microcontrollers (.tflite), once TensorFlow Lite, by
LiteRT's own converter from torch.

The converter gets the network as `graph.integers` writes it, and makes integer operations of it.
Where an input or output lies on a grid, the file takes or gives its codes, int8, and states scale
and zero point: that is how devices want it; `runner` takes and gives the numbers that they stand
for. Weights are codes from -127: some kernels add two products with -128 wrongly. The file takes
one sample at a time unless it is made for another fixed number.

A file is proven with XNNPACK's kernels, which LiteRT uses by itself on processors of phones and
computers. Its own kernels, on microcontrollers, round twice: near ties fall to the other code there
more often.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import FormatError, ModelError
from subbyte.exporters.facts import facts_of, form_in
from subbyte.exporters.given import Wanted, check_given
from subbyte.exporters.lowered import (
    XNNPACK_WIDTH,
    by_sample,
    check_outputs,
    codes_of,
    refusing_unknown,
)
from subbyte.exporters.parity import prove
from subbyte.exporters.tflite import File, stated
from subbyte.graph import Lowering, Program, Samples, integer_program, silence
from subbyte.io.files import written
from subbyte.methods import Contents, Exported, Exporter, Form, Refusal, Runner, Seal
from subbyte.recipe import LayerPlan, Plan

_LOWEST = -127
_SEVERAL = "batched"  # the fact: which inputs count samples


@dataclass(frozen=True)
class LiteRT(Exporter[QuantizedModel, Plan]):
    """Files for LiteRT's integer kernels on phones and microcontrollers."""

    name, runtime = "litert", "LiteRT"
    package, extra = "litert_torch", "litert"
    suffixes = (".tflite",)
    usage = """\
import numpy as np
from ai_edge_litert.interpreter import Interpreter

network = Interpreter("FILE")
network.allocate_tensors()
rows = []
for sample in zip(*inputs):  # a call takes one sample
    for place, x in zip(network.get_input_details(), sample):
        (scale, zero), kind = place["quantization"], place["dtype"]
        if scale:  # it takes codes
            x = np.clip(np.round(x / scale) + zero, np.iinfo(kind).min, np.iinfo(kind).max)
        network.set_tensor(place["index"], x[None].astype(kind))
    network.invoke()
    found = [(network.get_tensor(one["index"]), one) for one in network.get_output_details()]
    numbers = [(codes, *one["quantization"]) for codes, one in found]
    rows.append([(x.astype("f4") - zero) * scale if scale else x for x, scale, zero in numbers])
outputs = [np.concatenate(of_output) for of_output in zip(*rows)]
"""
    fixes = True
    refuses = (
        refusing_unknown("litert"),
        XNNPACK_WIDTH,
        Refusal(
            lambda self, plan: bool(plan.taps) and any(map(_too_low, plan.layers)),
            "LiteRT's integer weights are codes from -127; set weights.narrow=true, or choose "
            "--target litert",
        ),
    )

    def export(self, model: QuantizedModel, path: Path, inputs: Samples, form: Form) -> Exported:
        """See `methods.Exporter`. Raises ModelError where an output has no axis of samples, or
        LiteRT has no form of an operation.
        """
        self.require()
        if form.batch is None:
            check_outputs(model, inputs, self.name)
        leaves = model.signature.tensors
        facts = facts_of(model, form) | {_SEVERAL: [leaf.batched for leaf in leaves]}
        taken, notes = codes_of(model, self.runtime)
        layers = [one for one in model.layers if one.owner in model.weights and one.weight in taken]
        how = Lowering(rounds=True, parts=True, batch=form.batch or 1)
        program = integer_program(model.instrumented, layers, taken, model.signature, how)
        names = [leaf.name for leaf in leaves], model.output_names
        content = stated(_converted(program), facts, names)
        with written(path) as temporary:
            temporary.write_bytes(content)
            parity = prove(model, self.runner(temporary), inputs, self.runtime, form)
            file = File(temporary)
        made = self.name, path, len(content), parity, notes
        return Exported(*made, kernels=file.kernels, form=form, digest=file.seal.found)

    def runner(self, path: Path) -> Runner:
        """See `methods.Exporter`. Takes any number of samples where the file takes one."""
        self.require()
        file = File(path)
        one = _Interpreter(path, file.content)
        batched = file.about.get(_SEVERAL, [True] * len(one.inputs))
        if form_in(_texts(file)).batch is not None:
            batched = [False] * len(one.inputs)
        wanted = [
            Wanted(place.dtype, ("batch", *place.shape[1:]) if several else place.shape)
            for place, several in zip(one.inputs, batched, strict=True)
        ]

        def run(*given: Tensor) -> Any:
            check_given(path, wanted, given)
            if any(batched):
                return by_sample(one.run, given, batched)
            found = tuple(one.run(given))
            return found if len(found) > 1 else found[0]

        return run

    def contents(self, path: Path) -> Contents:
        """See `methods.Exporter`."""
        self.require()
        return File(path).contents

    def seal(self, path: Path) -> Seal:
        """See `methods.Exporter`. The digest is that of the file with zeros in its place."""
        self.require()
        return File(path).seal


def _texts(file: File) -> dict[str, str]:
    return {name: text for name, text in file.about.items() if isinstance(text, str)}


def _too_low(layer: LayerPlan) -> bool:
    integers = None if layer.spec is None else layer.spec.alphabet.integers
    return integers is not None and integers.low < _LOWEST


class _Place:
    """An input or output of a file. dtype: of the numbers that it stands for."""

    def __init__(self, detail: Mapping[str, Any]) -> None:
        self.index: int = detail["index"]
        self.kind: type[np.generic] = detail["dtype"]
        self.shape = tuple(map(int, detail["shape"]))
        scale, self.zero_point = detail["quantization"]
        self.scale = np.float32(scale)
        empty = torch.from_numpy(np.zeros(0, self.kind))
        self.dtype = torch.float32 if scale else empty.dtype

    def codes(self, x: Tensor) -> np.ndarray:
        """Numbers as the file takes them."""
        values = x.numpy()
        if not self.scale:
            return np.ascontiguousarray(values)
        ends = np.iinfo(np.dtype(self.kind))
        steps: np.ndarray = np.round(values / self.scale) + self.zero_point
        return steps.clip(ends.min, ends.max).astype(self.kind)

    def numbers(self, values: np.ndarray) -> Tensor:
        """The numbers that the file's own values stand for."""
        if not self.scale:
            return torch.from_numpy(values.copy())
        steps = values.astype(np.int32) - self.zero_point
        return torch.from_numpy(steps.astype(np.float32) * self.scale)


class _Interpreter:
    """LiteRT at work on one file, with as many threads as torch uses."""

    def __init__(self, path: Path, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            with _silence():
                self.own = Interpreter(model_content=content, num_threads=torch.get_num_threads())
                self.own.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise FormatError(f"{path}: no file that LiteRT can load: {reason}") from error
        self.inputs = [_Place(detail) for detail in self.own.get_input_details()]
        self.outputs = [_Place(detail) for detail in self.own.get_output_details()]

    def run(self, given: Sequence[Tensor]) -> list[Tensor]:
        """The outputs of one call."""
        for place, x in zip(self.inputs, given, strict=True):
            self.own.set_tensor(place.index, place.codes(x.cpu()))
        self.own.invoke()
        return [place.numbers(self.own.get_tensor(place.index)) for place in self.outputs]


class _Called(nn.Module):
    """A program from the tensors that it takes, in order, to those that it gives."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program, self.training = program.module, False
        leaves, self.tree = pytree.tree_flatten(program.exported.example_inputs)
        self.rest = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self.given = tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        own = iter(given)
        filled = [next(own) if leaf is None else leaf for leaf in self.rest]
        args, kwargs = pytree.tree_unflatten(filled, self.tree)
        found = pytree.tree_leaves(self.program(*args, **kwargs))
        return tuple(leaf for leaf in found if isinstance(leaf, Tensor))


def _converted(program: Program) -> bytes:
    """The program as the converter writes it. Raises ModelError, naming the operation that it has
    no form of.
    """
    with _silence():
        import litert_torch
        from litert_torch.quantize import pt2e_quantizer, quant_config

        settings = pt2e_quantizer.get_symmetric_quantization_config(is_per_channel=True)
        integers = pt2e_quantizer.PT2EQuantizer().set_global(settings)
        called = _Called(program)
        try:
            found = litert_torch.convert(
                called, called.given, quant_config=quant_config.QuantConfig(integers)
            )
            return bytes(found.model_content())
        except Exception as error:  # the converter raises types of many kinds
            reason = " ".join(str(error).partition("error: ")[2].split() or str(error).split())
            raise ModelError(
                f"LiteRT can't convert the network: {reason[:300]}; choose another exporter"
            ) from error


@contextmanager
def _silence() -> Iterator[None]:
    """The converter prints from C++, too: straight to the process's standard error."""
    with silence():
        kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(null)
