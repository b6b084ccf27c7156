"""Packed checkpoints: codes in bytes, and the plan that they come from. Specified in
docs/format.md.

How a file holds them is for `sealed`: checked, compressed, and no more than the numbers need.
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path

from torch import Tensor, nn

from subbyte.core import Grid, GridSpec, QTensor, unpack
from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import FormatError, SubbyteError
from subbyte.exporters import sealed
from subbyte.exporters.header import ADVICE, Header
from subbyte.graph import (
    Inputs,
    Network,
    Samples,
    Signature,
    prepare,
    set_tensor,
    tensor_at,
    tensors_read,
    with_tensors,
)
from subbyte.io.files import write_bytes
from subbyte.io.texts import Plain
from subbyte.io.user_file import UserFiles
from subbyte.recipe import LayerPlan, Plan, misfit

_SPREAD, _FEW = 1000, 2**16
"""Weights that a byte of codes may stand for where rows take none, and bytes added to those that
are there: a small file is not to fill the memory.
"""


@dataclass(frozen=True, eq=False)
class Packed:
    """A packed file as read: its tensors and header, and where it lies."""

    tensors: dict[str, Tensor]
    header: Header
    path: Path

    @property
    def plan(self) -> Plan:
        """The plan that its codes come from."""
        return self.header.plan

    @property
    def signature(self) -> Signature:
        """How the network is called. Raises FormatError where a file can't say that."""
        try:
            return Signature.from_dict(self.header.inputs)
        except FormatError as error:
            raise self._error(f"inputs: {error}") from error

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """See `Signature`."""
        return self.signature.image_shape

    def weight(self, layer: LayerPlan) -> QTensor:
        """Codes and grid of a layer, which its rounding may have made of the planned one.

        Raises FormatError where they are missing, or do not fit the layer.
        """
        prefix, columns = f"layers/{layer.name}", prod(layer.shape) // layer.rows
        if layer.name not in self.header.grids:
            raise self._error(f"grids: there is none of layer {layer.name!r}")
        grid = self.grid(prefix, self.header.grids[layer.name])
        wanted = grid.spec.share.shape(layer.rows, columns)
        if grid.scale.shape != wanted:
            raise self._error(
                f"{prefix}/scale must be {list(wanted)}, got {list(grid.scale.shape)}"
            )
        codes = self._tensor(f"{prefix}/codes")
        if layer.rows * columns > _SPREAD * (codes.numel() + _FEW):
            raise self._error(f"{prefix}/codes: {codes.numel()} bytes for {layer.shape} weights")
        try:
            return QTensor(unpack(codes, grid, (layer.rows, columns)), grid)
        except FormatError as error:
            raise self._error(f"{prefix}/codes: {error}") from error

    def grid(self, prefix: str, spec: GridSpec) -> Grid:
        """The grid stored under a prefix. Raises FormatError where it is missing or none."""
        own = (name for name in self.tensors if name.rpartition("/")[0] == prefix)
        stored = {name.rpartition("/")[2]: self.tensors[name] for name in own}
        try:
            return Grid.of_stored(spec, stored)
        except KeyError as error:
            raise self._missing(f"{prefix}/{error.args[0]}") from error
        except SubbyteError as error:
            raise self._error(f"{prefix}: {error}") from error

    def _tensor(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise self._missing(name)
        return self.tensors[name]

    def _missing(self, name: str) -> FormatError:
        return self._error(f"it holds no tensor {name!r}")

    def _error(self, why: str) -> FormatError:
        return FormatError(f"{self.path}: {why}; {ADVICE}")


def save(model: QuantizedModel, path: str | Path, about: Plain | None = None) -> int:
    """Write a quantized model; returns the file's size in bytes. The same model gives the same
    bytes.

    about: plain values to keep beside it (where it came from), shown by `inspect`.
    """
    return write(model, Path(path), about or {}, UserFiles(Path(path).parent))


def write(model: QuantizedModel, path: Path, about: Plain, files: UserFiles) -> int:
    """`save`, for a file that is to be moved. files: of the folder that it goes to."""
    tensors = _tensors(model)
    header = {
        "plan": model.plan.to_dict(files),
        "grids": {name: weight.grid.spec.to_dict() for name, weight in model.weights.items()},
        "inputs": model.signature.to_dict(),
        "values": list(model.values),
        "findings": {
            "sqnr_db": {
                k: v if v != float("inf") else None for k, v in model.findings.sqnr_db.items()
            },
            "agreement": model.findings.agreement,
            "fold_error": model.findings.fold_error,
        },
        "about": dict(about),
    }
    content = sealed.seal(tensors, header)
    write_bytes(path, content)
    return len(content)


def load(
    path: str | Path, model: nn.Module, example: Tensor | Inputs | Samples | None = None
) -> QuantizedModel:
    """Read what `save` wrote into the architecture of `model`, whose own weights do not matter.

    example: of the network's inputs; needed only where they hold classes of the user's.
    Raises FormatError when the file is damaged, of another version, or made for another network.
    """
    packed = read(path)
    known: Tensor | Inputs | Samples = packed.signature.zeros(2) if example is None else example
    try:
        network = prepare(model, known)
    except SubbyteError as error:
        raise type(error)(f"{path}: {error}") from error
    return _onto(network, packed)


def load_onto(path: str | Path, network: Network) -> QuantizedModel:
    """`load`, for a network that has been captured, which stays as it is."""
    return _onto(with_tensors(network, {}), read(path))


def _onto(network: Network, packed: Packed) -> QuantizedModel:
    """The quantized network of a file; the float one, `network`, takes up its numbers."""
    path = packed.path
    _require_same(packed, network, path)
    used = tensors_read(network.graph_module)
    for name in [n for n in packed.tensors if n.startswith("float/")]:
        own = name.removeprefix("float/")
        if (
            own not in used
            or tensor_at(network.graph_module, own).shape != packed.tensors[name].shape
        ):
            raise FormatError(
                f"{path}: tensor {own!r} does not fit the network; it was made for another one"
            )
        _require_finite(packed.tensors[name], tensor_at(network.graph_module, own), name, path)
        set_tensor(network.graph_module, own, packed.tensors[name])
    layers = {layer.name: layer for layer in network.owners}
    weights = {
        p.name: packed.weight(p)
        for p in packed.plan.layers
        if p.spec is not None and p.name in layers
    }
    biases = {name: tensor_at(network.graph_module, layers[name].bias) for name in weights}
    grids = {
        tap.name: packed.grid(f"activations/{tap.name}", tap.spec)
        for tap in packed.plan.taps
        if not tap.dynamic
    }
    findings = packed.header.findings
    model = QuantizedModel.of(network, packed.plan, weights, biases, grids, findings)
    _require_whole(_tensors(model), packed.tensors, path)
    return model


def read(path: str | Path) -> Packed:
    """Read and check a packed file, without any network.

    Raises FormatError when it is no such file, truncated, altered, or of an unknown version.
    """
    tensors, header = sealed.unseal(path)
    return Packed(tensors, Header.read(header, Path(path)), Path(path))


def _tensors(model: QuantizedModel) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, weight in model.weights.items():
        tensors[f"layers/{name}/codes"] = weight.pack()
        tensors |= _grid_tensors(f"layers/{name}", weight.grid)
    for tap in model.plan.taps:
        grid = model.instrumented.tap(tap.name).grid
        tensors |= {} if grid is None else _grid_tensors(f"activations/{tap.name}", grid)
    for name, value in model.leftovers.items():
        tensors[f"float/{name}"] = value.detach().cpu().contiguous().clone()
    return tensors


def _grid_tensors(prefix: str, grid: Grid) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": tensor for name, tensor in grid.stored.items()}


def _require_whole(expected: dict[str, Tensor], found: dict[str, Tensor], path: str | Path) -> None:
    """The file holds just the tensors that `save` would write, of their types and shapes."""
    if missing := sorted(set(expected) - set(found)):
        raise FormatError(f"{path}: tensor {missing[0]!r} is missing; the file is incomplete")
    if unknown := sorted(set(found) - set(expected)):
        raise FormatError(
            f"{path}: tensor {unknown[0]!r} has no place in the network; it was made for another "
            f"one"
        )
    for name, tensor in expected.items():
        if (tensor.dtype, tensor.shape) != (found[name].dtype, found[name].shape):
            raise FormatError(
                f"{path}: tensor {name!r} is {found[name].dtype} {tuple(found[name].shape)}, "
                f"expected {tensor.dtype} {tuple(tensor.shape)}"
            )


def _require_finite(stored: Tensor, own: Tensor, name: str, path: str | Path) -> None:
    """Only a constant of the network may hold infinities, as masks do, in its own places."""
    if bool((own.isfinite() & ~stored.isfinite()).any()):
        raise FormatError(f"{path}: tensor {name!r} holds infinities; {ADVICE}")


def _require_same(packed: Packed, network: Network, path: str | Path) -> None:
    reason = misfit(packed.plan, network)
    if reason is not None:
        raise FormatError(f"{path}: {reason}")
    values = packed.header.values
    if values != [point.name for point in network.taps]:
        raise FormatError(
            f"{path}: made for a network whose layers are joined otherwise (its values are "
            f"{values})"
        )
