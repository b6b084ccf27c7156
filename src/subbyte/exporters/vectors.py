"""Vectors for a check on a device: a few inputs, the outputs, and the codes of every quantized
value between them, as the torch model computes them, in one .npz file.

    names               of the quantized values, in the order of the graph
    input:NAME          what the network is called with, float32 [n, ...]
    codes:NAME          codes of a quantized value as files hold them: those of signed grids are 128
                        higher, so that all are uint8; of 16 bits 32768 higher, uint16
    scale:NAME, zero_point:NAME      value = (code - zero_point) * scale; [] or [channels]
    near:NAME           bits, one for each code, packed: whether the value lies so near the border
                        of two codes that rounding sums in another order may give the other one
    output:NAME         outputs, float32 [n, ...]
    bounds:NAME         how far each row of an output may be off by rounding (`distances`)

Values whose grid every batch chooses anew, or whose levels are uneven, have no codes in files, and
none here.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import FormatError
from subbyte.exporters.distances import Distances, bound, scale_of
from subbyte.graph import FakeQuantize, Samples
from subbyte.io.arrays import read_arrays
from subbyte.io.files import written
from subbyte.records.parity import FLOAT32

VECTORS = ".vectors.npz"
"""The end of the name of vectors, in place of the ending of the file that they check."""
SAMPLES = 16
NEAR = 2.0**-10  # steps from the border of two codes; float32 noise of sums is below
_LIFT, _WIDE_LIFT = 128, 2**15  # of codes of signed grids
_RUNS = 4  # pairs of runs that tell how far outputs may be off


@dataclass(frozen=True, eq=False)
class Value:
    """A quantized value. codes: uint8 or uint16 [n, ...]; near: bool, of the same shape; scale,
    zero_point: [] or [channels] along `axis`.
    """

    codes: np.ndarray
    near: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int


@dataclass(frozen=True, eq=False)
class Vectors:
    """The content of a file of vectors; values in the order of the graph. bounds: of the rows of
    each output.
    """

    inputs: Mapping[str, np.ndarray]
    values: Mapping[str, Value]
    outputs: Mapping[str, np.ndarray]
    bounds: Mapping[str, np.ndarray]

    @property
    def samples(self) -> int:
        """How many there are."""
        return len(next(iter(self.inputs.values())))


def write_vectors(model: QuantizedModel, path: Path, samples: Samples) -> int:
    """Write vectors of the first 16 samples (fewer where there are fewer); returns the number of
    quantized values in them.
    """
    few = samples[:SAMPLES]
    found = _computed(model, few)
    names = [leaf.name for leaf in model.signature.tensors]
    tensors = [leaf for leaf in few.leaves if isinstance(leaf, Tensor)]
    arrays = {f"input:{name}": x.numpy() for name, x in zip(names, tensors, strict=True)}
    arrays["names"] = np.array(list(found.values), dtype=np.str_)
    for name, value in found.values.items():
        arrays |= {
            f"codes:{name}": value.codes,
            f"near:{name}": np.packbits(value.near),
            f"scale:{name}": value.scale,
            f"zero_point:{name}": value.zero_point,
            f"axis:{name}": np.array(value.axis),
        }
    arrays |= {f"output:{name}": x.numpy() for name, x in found.outputs.items()}
    arrays |= {f"bounds:{name}": x.numpy() for name, x in _bounds(model, few, found).items()}
    with written(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return len(found.values)


def read_vectors(path: Path) -> Vectors:
    """Read what `write_vectors` wrote. Raises FormatError for other files."""
    arrays = read_arrays(path)
    try:
        names = [str(name) for name in arrays["names"]]
        values = {name: _value(arrays, name) for name in names}
    except (KeyError, ValueError, TypeError) as error:
        raise FormatError(f"{path}: no vectors that `subbyte export` wrote ({error})") from error
    parts = (
        {n.removeprefix(kind): x for n, x in arrays.items() if n.startswith(kind)}
        for kind in _KINDS
    )
    inputs, outputs, bounds = parts
    return Vectors(inputs, values, outputs, bounds)


_KINDS = ("input:", "output:", "bounds:")


def _value(arrays: Mapping[str, np.ndarray], name: str) -> Value:
    codes = arrays[f"codes:{name}"]
    near = np.unpackbits(arrays[f"near:{name}"], count=codes.size).astype(bool)
    own = arrays[f"scale:{name}"], arrays[f"zero_point:{name}"]
    return Value(codes, near.reshape(codes.shape), *own, int(arrays[f"axis:{name}"]))


@dataclass(eq=False)
class _Found:
    """The quantized values and the outputs of a run of the torch model."""

    values: dict[str, Value] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)


def _computed(model: QuantizedModel, samples: Samples) -> _Found:
    found = _Found()
    with torch.no_grad(), _watched(model, found.values):
        outputs = model.outputs(samples)
    found.outputs = dict(zip(model.output_names, outputs, strict=True))
    return found


@contextmanager
def _watched(model: QuantizedModel, into: dict[str, Value]) -> Iterator[None]:
    """Within, every run notes the codes of quantized values, in the order of the run."""

    def note(tap: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(tap, FakeQuantize)
        into[tap.site] = _coded(tap, inputs[0])

    with ExitStack() as stack:
        for plan in model.plan.taps:
            tap = model.instrumented.tap(plan.name)
            if tap.grid is not None and tap.grid.spec.alphabet.even:
                stack.callback(tap.register_forward_hook(note).remove)
        yield


def _coded(tap: FakeQuantize, x: Tensor) -> Value:
    assert tap.spec is not None
    byte = tap.spec.alphabet.fits_byte
    lift = (_LIFT if byte else _WIDE_LIFT) if tap.spec.alphabet.qmin < 0 else 0
    near = tap.codes(x, NEAR) != tap.codes(x, -NEAR)
    return Value(
        (tap.codes(x).int() + lift).numpy().astype(np.uint8 if byte else np.uint16),
        near.numpy(),
        tap.scale.numpy(),
        (tap.zero_point + lift).numpy(),
        tap.axis or 0,
    )


def _bounds(model: QuantizedModel, samples: Samples, found: _Found) -> dict[str, Tensor]:
    """How far rows of outputs may be off, as `parity` has it: float64 [rows] by output."""
    noise: dict[str, Tensor] = {}
    scales = {name: scale_of(own) for name, own in found.outputs.items()}
    for seed, sign in product(range(_RUNS), (1, -1)):
        with torch.no_grad(), model.moved(FLOAT32, seed, sign):
            others = model.outputs(samples)
        for (name, own), other in zip(found.outputs.items(), others, strict=True):
            run = Distances()
            run.add(0, own, other, scales[name])
            noise[name] = torch.maximum(run.rows[0], noise.get(name, run.rows[0]))
    return {name: bound(distances) for name, distances in noise.items()}
