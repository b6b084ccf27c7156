"""ONNX files on disk: numbers of more than 2 GB in a file beside the graph, and the digest that
says whether a file is the one that was proven.

A message of protobuf's, which such a file is, can't be larger than 2 GB. The digest is the sha256
of the file without its own entry, and of the file of numbers beside it.
"""

import hashlib
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from subbyte.errors import FormatError
from subbyte.exporters.facts import DIGEST, PREFIX, PROOF
from subbyte.methods import Seal

LARGEST = 2_000_000_000
"""Bytes of numbers that lie in the graph's own file."""
_BLOCK = 2**24  # bytes read at a time
_SMALL = 1024  # bytes of a tensor that stays with the graph: shapes and scales are read there


def is_large(program: ir.Model) -> bool:
    """Whether the numbers of a program need a file of their own."""
    tensors = (one.const_value for one in program.graph.initializers.values())
    return sum(tensor.nbytes for tensor in tensors if tensor is not None) > LARGEST


def save_program(program: ir.Model, path: Path, beside: Path) -> None:
    """Write a program to `path`; a large one with its numbers in the file `beside` it."""
    if is_large(program):
        ir.save(program, path, external_data=beside.name, size_threshold_bytes=_SMALL)
    else:
        ir.save(program, path)


def close(path: Path, proof: str) -> str:
    """State the proof in a file that was proven, and the digest, which is returned."""
    program = onnx.load(str(path), load_external_data=False)
    _state(program, PROOF, proof)
    digest = _digest(program, path)
    _state(program, DIGEST, digest)
    path.write_bytes(program.SerializeToString())
    return digest


def read_seal(path: Path) -> Seal:
    """See `methods.Exporter.seal`."""
    try:
        program = onnx.load(str(path), load_external_data=False)
        stated = {one.key: one.value for one in program.metadata_props}
        return Seal(stated.get(f"{PREFIX}{DIGEST}", ""), _digest(program, path))
    except Exception as error:  # protobuf raises types of its own
        raise FormatError(
            f"{path}: not a whole ONNX file ({' '.join(str(error).split())[:200]})"
        ) from error


def _state(program: Any, name: str, text: str) -> None:
    program.metadata_props.add(key=f"{PREFIX}{name}", value=text)


def _digest(program: Any, path: Path) -> str:
    """The digest of a program read from `path`, as if it stated none."""
    bare = onnx.ModelProto()
    bare.CopyFrom(program)
    own = [one for one in bare.metadata_props if one.key != f"{PREFIX}{DIGEST}"]
    kept = [(one.key, one.value) for one in own]
    del bare.metadata_props[:]
    for key, value in kept:
        bare.metadata_props.add(key=key, value=value)
    total = hashlib.sha256(bare.SerializeToString(deterministic=True))
    for name in beside(program):
        with (path.parent / name).open("rb") as file:
            while block := file.read(_BLOCK):
                total.update(block)
    return total.hexdigest()


def beside(program: Any) -> list[str]:
    """Names of the files that hold numbers of a program, in the folder of its own."""
    stated = (
        entry.value
        for tensor in program.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    )
    return sorted(set(stated))
