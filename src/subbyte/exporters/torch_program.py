"""torch: the quantized network as a program that torch runs by itself (.pt2, torch.export.save).

Weights are dequantized and activations rounded by operations of torch's own, for any number of
samples. Who loads the file needs torch alone; it computes in float, as fast as the float network at
best.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from torch import nn

from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import FormatError, ModelError
from subbyte.exporters.facts import DIGEST, PROOF, facts_of, proof_of
from subbyte.exporters.given import Wanted, check_given
from subbyte.exporters.parity import prove
from subbyte.graph import Program, Samples, plain_program
from subbyte.io.digests import digest
from subbyte.io.files import written
from subbyte.io.texts import parse_mapping
from subbyte.methods import Contents, Exported, Exporter, Form, Runner, Seal, Stored
from subbyte.models.exported import SUFFIX, load_program
from subbyte.recipe import Plan

_ABOUT = "subbyte.json"
"""A text beside the program in the archive, by which the file is known to be ours."""
_OUTPUTS, _MARK = "outputs", ".data/serialization_id"


@dataclass(frozen=True)
class TorchProgram(Exporter[QuantizedModel, Plan]):
    """A program of torch's own operations, weights dequantized."""

    name, runtime, package = "torch", "torch", "torch"
    suffixes = (SUFFIX,)
    usage = """\
import torch

network = torch.export.load("FILE").module()
outputs = network(*inputs)
"""

    def export(self, model: QuantizedModel, path: Path, inputs: Samples, form: Form) -> Exported:
        """See `methods.Exporter`."""
        program = plain_program(model.instrumented, model.signature)
        about = facts_of(model, form) | {_OUTPUTS: model.output_names}
        with written(path) as temporary:
            _write(program, about, temporary)
            run = self.runner(temporary)
            parity = prove(model, run, inputs, self.runtime, form)
            about[PROOF] = proof_of(parity)
            _write(program, about, temporary)
            own = self.seal(temporary).found
            _write(program, about | {DIGEST: own}, temporary)
            size = temporary.stat().st_size
        notes = dict.fromkeys(model.weights, "dequantized to float32")
        return Exported(self.name, path, size, parity, notes, form=form, digest=own)

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
        facts = parse_mapping(about, path)
        told = {key: value for key, value in facts.items() if isinstance(value, str)}
        return Contents("", held, dict(program.operations.most_common()), told)

    def seal(self, path: Path) -> Seal:
        """See `methods.Exporter`. The digest is that of all parts of the archive."""
        try:
            with ZipFile(path) as archive:
                # torch's own mark of an archive changes with whatever lies in it
                names = [n for n in sorted(archive.namelist()) if not n.endswith(_MARK)]
                parts = {name: archive.read(name) for name in names}
            about = {}
            for name in [name for name in parts if name.endswith(f"/{_ABOUT}")]:
                about = parse_mapping(parts.pop(name))
        except Exception as error:  # zipfile's own, zlib's, and whatever they meet on the way
            raise FormatError(f"{path}: no whole program of torch's ({error})") from error
        stated = str(about.pop(DIGEST, ""))
        pairs = ((name.encode(), part) for name, part in parts.items())
        told = json.dumps(about, sort_keys=True).encode()
        return Seal(stated, digest((told, *chain.from_iterable(pairs))))


def _write(program: Program, about: Mapping[str, Any], path: Path) -> None:
    content = io.BytesIO()  # a file's own name would go into the archive
    torch.export.save(program.exported, content, extra_files={_ABOUT: json.dumps(about)})
    path.write_bytes(content.getvalue())


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
