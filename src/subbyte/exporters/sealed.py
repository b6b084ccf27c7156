"""Files of many small tensors and a description, in hardly more bytes than their numbers take: a
safetensors file with one tensor for each type, and a compressed header that says what is in them.

    seal    tensors by name + header  ->  header | all tensors of a type, one after another | ...
    unseal  the same way back

safetensors itself takes some 85 bytes for the name and place of a tensor; a small network in 2 bits
has more of those than of codes. The metadata have one entry, `subbyte`, a JSON object with the
version and a `sha256` of everything else, so that a damaged or altered file is refused. No pickle,
no code.
"""

import hashlib
import json
import zlib
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save as serialize
from torch import Tensor

from subbyte.errors import FormatError
from subbyte.io.files import readable
from subbyte.io.safe import opened
from subbyte.io.texts import Plain, parse_mapping

VERSION = 4
_ENTRY, _HEADER, _TENSORS = "subbyte", "header", "tensors"
_LARGEST = 2**25  # bytes of a header; a file made to fill the memory is refused
_ADVICE = "the file was damaged or altered; copy or write it again"
_TYPES = {
    str(kind).removeprefix("torch."): kind
    for kind in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}


def seal(tensors: dict[str, Tensor], header: Plain) -> bytes:
    """The content of a file with these tensors, by name, and this header of plain values. The same
    give the same bytes.
    """
    types = {name: str(tensors[name].dtype).removeprefix("torch.") for name in sorted(tensors)}
    table = {name: [kind, *tensors[name].shape] for name, kind in types.items()}
    joined = {
        kind: torch.cat([tensors[n].cpu().reshape(-1) for n in types if types[n] == kind])
        for kind in sorted(set(types.values()))
    }
    told = json.dumps(
        header | {_TENSORS: table}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    text = readable(told).encode()
    if len(text) > _LARGEST:
        raise FormatError(f"what is to be said of the network takes {len(text):,} bytes; keep less")
    packed = torch.frombuffer(bytearray(zlib.compress(text, 9)), dtype=torch.uint8)
    seal = {"sha256": _digest(text, joined), "version": VERSION}
    metadata = {_ENTRY: json.dumps(seal, separators=(",", ":"))}
    return serialize({_HEADER: packed, **joined}, metadata=metadata)


def unseal(path: str | Path) -> tuple[dict[str, Tensor], Plain]:
    """The tensors and the header of a file.

    Raises FormatError when it is no such file, truncated, altered, or of an unknown version.
    """
    entry, joined = _stored(path)
    seal = parse_mapping(entry, f"{path}: its checksum")
    if seal.get("version") != VERSION:
        raise FormatError(
            f"{path}: format version {seal.get('version')!r}; this subbyte reads version "
            f"{VERSION}; quantize the network again"
        )
    for kind, numbers in joined.items():
        if kind != _HEADER and (numbers.dtype != _TYPES.get(kind) or numbers.ndim != 1):
            raise FormatError(f"{path}: tensor {kind[:40]!r} is {numbers.dtype}; {_ADVICE}")
    text = _expanded(joined.pop(_HEADER, torch.empty(0)), path)
    if seal != {"version": VERSION, "sha256": _digest(text, joined)}:
        raise FormatError(f"{path}: the contents do not match their checksum; {_ADVICE}")
    header = parse_mapping(text, f"{path}: its header")
    return _split(joined, header.pop(_TENSORS, None), path), header


def is_sealed(path: str | Path) -> bool:
    """Whether a file is a safetensors file that `seal` made (whole or not).

    Raises OSError or FormatError where it can't be opened.
    """
    if Path(path).suffix != ".safetensors" or not Path(path).is_file():
        return False
    try:
        with opened(Path(path)) as file:
            return _ENTRY in (file.metadata() or {})
    except SafetensorError:
        return False


def _stored(path: str | Path) -> tuple[str, dict[str, Tensor]]:
    """The entry of the metadata and the tensors of a safetensors file."""
    try:
        with opened(Path(path)) as file:
            metadata = file.metadata() or {}
            joined = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError as error:
        raise FormatError(f"{path}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise FormatError(
            f"{path}: not a whole safetensors file ({error}); copy or write it again"
        ) from error
    if _ENTRY not in metadata:
        raise FormatError(
            f"{path}: a safetensors file, but subbyte did not write it; pass it as float --weights "
            f"instead"
        )
    return metadata[_ENTRY], joined


def _expanded(packed: Tensor, path: str | Path) -> bytes:
    """The text of a header. Raises FormatError where it is not whole, or too large."""
    opened = zlib.decompressobj()
    try:
        text = opened.decompress(packed.view(torch.uint8).numpy().tobytes(), _LARGEST)
        if opened.eof and not opened.unused_data:
            return text
    except zlib.error:
        pass
    raise FormatError(f"{path}: the text of its header is not whole; {_ADVICE}")


def _split(joined: dict[str, Tensor], table: Any, path: str | Path) -> dict[str, Tensor]:
    """The tensors of a table, each with numbers of its own. Raises FormatError where the table and
    what is stored differ, or a number is NaN.
    """
    shapes = _shapes(table, path)
    tensors = {}
    for kind in sorted(joined.keys() | {own for own, _ in shapes.values()}):
        mine = {name: shape for name, (own, shape) in shapes.items() if own == kind}
        sizes, numbers = [prod(shape) for shape in mine.values()], joined.get(kind, torch.empty(0))
        if numbers.numel() != sum(sizes):
            raise FormatError(
                f"{path}: {_TENSORS}: {sum(sizes)} numbers of type {kind}, {numbers.numel()} are "
                f"stored; {_ADVICE}"
            )
        for (name, shape), piece in zip(mine.items(), numbers.split(sizes), strict=True):
            tensors[name] = piece.clone().reshape(shape)
            if bool(torch.isnan(piece).any()):
                raise FormatError(f"{path}: tensor {name!r} holds NaN; {_ADVICE}")
    return tensors


def _shapes(table: Any, path: str | Path) -> dict[str, tuple[str, list[int]]]:
    """Type and shape of each tensor. Raises FormatError for a table that is none."""
    if not isinstance(table, dict):
        raise FormatError(f"{path}: {_TENSORS}: must be a mapping; {_ADVICE}")
    shapes = {}
    for name, entry in table.items():
        match entry:
            case [str(kind), *sizes] if kind in _TYPES and all(map(_is_size, sizes)):
                shapes[name] = kind, sizes
            case _:
                raise FormatError(
                    f"{path}: {_TENSORS}.{name}: must be a type and sizes, got {str(entry)[:60]}; "
                    f"{_ADVICE}"
                )
    return shapes


def _is_size(size: object) -> bool:
    return type(size) is int and 0 <= size < 2**40


def _digest(text: bytes, joined: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(text)
    for name in sorted(joined):
        digest.update(f"{name} {joined[name].dtype} {joined[name].numel()}".encode())
        digest.update(joined[name].view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
