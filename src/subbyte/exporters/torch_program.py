"""torch: the quantized network as a program that torch runs by itself (.pt2, torch.export.save).

Weights are dequantized and activations rounded by operations of torch's own, for any number of
samples. Who loads the file needs torch alone; it computes in float, as fast as the float network at
best.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import FormatError, ModelError
from subbyte.exporters.given import Wanted, check_given
from subbyte.exporters.parity import check_parity, check_sizes
from subbyte.graph import Program, Samples, plain_program
from subbyte.io.files import written
from subbyte.methods import Contents, Exported, Exporter, Form, Runner, Stored
from subbyte.models.exported import SUFFIX, load_program
from subbyte.recipe import Plan

_ABOUT = "subbyte.json"
"""A text beside the program in the archive, by which the file is known to be ours."""


@dataclass(frozen=True)
class TorchProgram(Exporter[QuantizedModel, Plan]):
    """A program of torch's own operations, weights dequantized."""

    name, runtime, package = "torch", "torch", "torch"
    suffixes = (SUFFIX,)

    def export(self, model: QuantizedModel, path: Path, inputs: Samples, form: Form) -> Exported:
        """See `methods.Exporter`."""
        program = plain_program(model.instrumented, model.signature)
        about = {"recipe": model.plan.recipe, "outputs": model.output_names}
        with written(path) as temporary:
            content = io.BytesIO()  # a file's own name would go into the archive
            torch.export.save(program.exported, content, extra_files={_ABOUT: json.dumps(about)})
            temporary.write_bytes(content.getvalue())
            run = self.runner(temporary)
            parity = check_parity(model, run, inputs, self.runtime)
            check_sizes(model, run, inputs, self.runtime)
            size = temporary.stat().st_size
        notes = dict.fromkeys(model.weights, "dequantized to float32")
        return Exported(self.name, path, size, parity, notes)

    def runner(self, path: Path) -> Runner:
        """See `methods.Exporter`. Runs any program of tensors."""
        program, _ = _read(path)
        run = program.flat
        wanted = [Wanted(dtype, _named(shape)) for dtype, shape in program.taken]

        def checked(*given: Any) -> Any:
            check_given(path, wanted, given)
            found = run(*given)
            return found if len(found) > 1 else found[0]

        return checked

    def contents(self, path: Path) -> Contents:
        """See `methods.Exporter`."""
        program, about = _read(path)
        if not about:
            raise FormatError(f"{path}: an exported program, but subbyte did not write it")
        held = [
            Stored(name, str(t.dtype).removeprefix("torch."), tuple(t.shape), t.nbytes)
            for name, t in program.tensors.items()
            if t.nbytes
        ]
        told = {key: value for key, value in json.loads(about).items() if isinstance(value, str)}
        return Contents("", held, dict(program.operations.most_common()), told)


def plain(model: QuantizedModel) -> nn.Module:
    """The quantized network as a plain torch module: weights dequantized, activations rounded by
    operations of torch's own, nothing of subbyte's in it.

    It is called as the network is, with any number of samples, and computes what `model` computes.
    """
    return plain_program(model.instrumented, model.signature).module


def _read(path: Path) -> tuple[Program, str]:
    """The program of a file, and what subbyte wrote beside it. Raises FormatError."""
    beside = {_ABOUT: ""}
    try:
        return Program(load_program(path, beside)), beside[_ABOUT]
    except ModelError as error:
        raise FormatError(str(error)) from error


def _named(shape: tuple[int | None, ...]) -> tuple[int | str, ...]:
    """A shape with names for sizes that are free; the first counts samples."""
    names = ("batch", *(f"size {axis}" for axis in range(1, len(shape))))
    return tuple(name if size is None else size for name, size in zip(names, shape, strict=True))
