"""The parity certificate: the written file, run in its runtime, beside the torch model on the same
samples, all outputs row by row.

A right file differs from the torch model by rounding alone: a runtime adds in another order, and a
value on the border of two codes then falls to the other side, which changes all that follows. How
much that is depends on the network and the sample, so it is measured: the torch model runs again
with all weights, biases and activations at quantizers multiplied by 1 + r u, u random in -1..1, and
once more with -u. A sum computed in float32 is such a sum computed exactly, so a right file is one
more of these runs.

    distance   of a row, or of a mean over all rows, from the torch model (`exporters.distances`)
    noise      the largest distance of the runs, there
    bound      3 max(noise, its median over the rows or means) + 2^-16

A file is refused when a distance exceeds its bound. Rows tell what is wrong for some samples; means
tell a small error that all samples have, in networks where every row has values on the other side:
the noise of a mean over n rows is smaller by sqrt(n). Four runs come first. Where a bound is
exceeded up to 12 more follow, on the batches concerned, unless more than a quarter of the rows is:
a near tie that was not moved before is moved then, an error never.

r is 2^-20: float32 rounds to 2^-24, sums of many terms more. By itself ONNX Runtime also rounds the
inputs of some layers with few-bit weights to 8 bits (MatMulNBits); it can be told not to. A file
that exceeds its bounds must keep them with that told, and as it is those of r = 2^-6, which an
output that is wrong altogether does not.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

import torch
from torch import Tensor

from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import DataError, ParityError
from subbyte.exporters.distances import FLOOR, Distances, bound, scale_of
from subbyte.exporters.feeding import fed, representable
from subbyte.graph import Inputs, Samples, of_other_sizes
from subbyte.methods import Form, Runner
from subbyte.records import OutputParity, Parity
from subbyte.records.parity import EIGHT_BITS, FLOAT32
from subbyte.tasks import class_rows

_BATCH = 100
_FIRST, _MOST = 2, 8  # pairs of runs
_SIGNS = (1, -1)
_ALONE = 4  # samples on which a file is proven one by one
_OF_OTHER_SIZES = 8  # images on which a file is proven whose sizes may differ
_FEW = 4  # rows beyond their bounds that may be near ties whatever their share is


def prove(
    model: QuantizedModel,
    run: Runner,
    samples: Samples,
    runtime: str,
    form: Form,
    precise: Callable[[], Runner] | None = None,
) -> Parity:
    """Prove a file of a form: on all samples in large batches, or in batches of its own size; where
    it takes any, also on some samples alone and on images of other sizes, if those may differ.

    run, precise: as for `check_parity`, of what the file itself takes. Raises ParityError as that
    does, DataError where the samples can't be given to such a file.
    """
    shown = representable(samples, form)
    exact = None if precise is None else partial(_fed_later, precise, form)
    check = partial(check_parity, model, fed(run, form), runtime=runtime, precise=exact)
    if form.batch is not None:
        return check(shown, batch=max(form.batch, _BATCH // form.batch * form.batch))
    found = check(shown)
    check(shown[:_ALONE], batch=1)
    if dynamic := model.signature.dynamic:
        few = samples[:_OF_OTHER_SIZES].with_dynamic(dynamic)
        others = of_other_sizes(few, model.signature.conditions)
        check(representable(others, form))
    return found


def _fed_later(precise: Callable[[], Runner], form: Form) -> Runner:
    return fed(precise(), form)


def check_parity(
    model: QuantizedModel,
    run: Runner,
    samples: Samples,
    runtime: str,
    precise: Callable[[], Runner] | None = None,
    batch: int = _BATCH,
) -> Parity:
    """Compare on n >= 1 samples, `batch` at a time. runtime: the name of what `run` runs in;
    precise: makes a runner of the same file that computes in float32 where `run` may take fewer
    bits.

    Raises ParityError when an output differs by more than rounding makes it.
    """
    found = Comparison(model, run, samples, FLOAT32, batch)
    if found.wrong and precise is not None:
        found = Comparison(model, precise(), samples, FLOAT32, batch)
        if not found.wrong:
            found = Comparison(model, run, samples, EIGHT_BITS, batch)
    if found.wrong:
        raise ParityError(found.complaint(runtime))
    return found.certificate


def check_samples(model: QuantizedModel, inputs: Tensor | Inputs | Samples) -> Samples:
    """Read what to compare on. Raises ParityError when there is nothing, or it is not as `model`
    takes it.
    """
    wanted = f"the network takes {model.signature.described}, n >= 1"
    if not isinstance(inputs, Tensor | Inputs | Samples):
        raise ParityError(f"images must be a tensor, got {type(inputs).__name__}: {wanted}")
    try:
        samples = Samples.of(inputs)
    except DataError as error:
        raise ParityError(f"{error}: {wanted}") from error
    if not model.signature.fits(samples):
        raise ParityError(f"images {samples.described} can't be compared: {wanted}")
    return samples


class _Output:
    """One output: the file's distances from the torch model, and what rounding makes of them.

    first: of the first batch, of the torch model; noise: the largest distances of all runs, rows by
    batch; drifts: the same, of runs on all batches.
    """

    def __init__(self, name: str, step: float | None, first: Tensor, batch: int) -> None:
        self.name, self.step, self.scale, self.batch = name, step, scale_of(first), batch
        self.file = Distances()
        self.noise: dict[int, Tensor] = {}
        self.drifts = torch.zeros(0, dtype=torch.float64)
        self.named, self.alike = 0, 0

    def compare(self, batch: int, own: Tensor, other: Tensor) -> None:
        """Take in a batch of the torch model and of the file. Raises ParityError where they can't
        be compared.
        """
        if (own.shape, own.dtype) != (other.shape, other.dtype):
            raise ParityError(
                f"{self.name} of the file is {other.dtype} {list(other.shape)}, of the torch model "
                f"{own.dtype} {list(own.shape)}; no file was kept"
            )
        for who, values in (("the torch model", own), ("the file", other)):
            if bool(values.isnan().any()):
                raise ParityError(
                    f"{self.name} of {who} holds NaN for one of the samples from "
                    f"{batch * self.batch} on; no file was kept. Look for NaN in the samples, and "
                    f"for overflow in the network"
                )
        self.file.add(batch, own, other, self.scale)
        rows, others = class_rows(own), class_rows(other)
        if rows is not None and others is not None:
            self.named += len(rows)
            self.alike += int((rows.argmax(1) == others.argmax(1)).sum())

    def take_noise(self, run: Distances, *, whole: bool) -> None:
        """Take in a run of the torch model with its numbers moved; whole: on all batches."""
        for batch, rows in run.rows.items():
            self.noise[batch] = torch.maximum(rows, self.noise.get(batch, rows))
        if whole:
            self.drifts = torch.maximum(run.drifts, self.drifts) if len(self.drifts) else run.drifts

    @property
    def rows(self) -> Tensor:
        """The distance of each row by its bound."""
        noise = torch.cat([self.noise[batch] for batch in self.file.rows])
        return torch.cat(list(self.file.rows.values())) / bound(noise)

    @property
    def beyond(self) -> int:
        """Rows beyond their bounds."""
        return int((self.rows > 1).sum())

    @property
    def drift(self) -> float:
        """The largest drift by its bound."""
        found = self.file.drifts / bound(self.drifts)
        return float(found.max()) if len(found) else 0.0

    @property
    def open_batches(self) -> set[int]:
        """Batches with rows beyond their bounds; all where a drift is."""
        if self.drift > 1:
            return set(self.file.rows)
        sizes = [len(rows) for rows in self.file.rows.values()]
        parts = zip(self.file.rows, self.rows.split(sizes), strict=True)
        return {batch for batch, rows in parts if bool((rows > 1).any())}

    def certificate(self, *, ties: bool) -> OutputParity:
        """The record of the output; ties: whether there are borders of codes."""
        rows = torch.cat(list(self.file.rows.values()))
        noise = torch.cat(list(self.noise.values()))
        return OutputParity(
            name=self.name,
            scale=self.scale,
            largest=self.file.largest,
            steps=None if self.step is None else self.file.largest / self.step,
            mean=float(rows.mean()),
            noise=float(noise.mean()),
            rows=len(rows),
            ties=int((rows > FLOOR).sum()) if ties else 0,
            ratio=max(float(self.rows.max()), self.drift),
            classes=100 * self.alike / self.named if self.named else None,
        )


class Comparison:
    """A file's outputs beside the torch model's, and beside as many runs of that with its numbers
    moved by `rounding` as it takes.
    """

    def __init__(
        self,
        model: QuantizedModel,
        run: Runner,
        samples: Samples,
        rounding: float,
        batch: int = _BATCH,
    ) -> None:
        self.model, self.rounding, self.size = model, rounding, batch
        self.batches = samples.split(batch)
        self.outputs: list[_Output] = []
        with torch.no_grad():
            for number, part in enumerate(self.batches):
                self._compare(number, self._own(part), _called(run, part))
            self._move(range(_FIRST), range(len(self.batches)))
            for pair in range(_FIRST, _MOST):
                concerned = set().union(*(output.open_batches for output in self.outputs))
                if not concerned or self.hopeless:
                    break
                self._move([pair], sorted(concerned))

    def _own(self, batch: Samples) -> list[Tensor]:
        return [output.cpu() for output in self.model.outputs(batch)]

    def _compare(self, number: int, own: list[Tensor], other: list[Tensor]) -> None:
        if not self.outputs:
            steps, names = self.model.output_steps, self.model.output_names
            sizes = [self.size] * len(own)
            self.outputs = list(map(_Output, names, steps, own, sizes))
        if len(own) != len(other):
            raise ParityError(
                f"the file has {len(other)} outputs, the torch model {len(own)}; no file was kept"
            )
        for output, ours, theirs in zip(self.outputs, own, other, strict=True):
            output.compare(number, ours, theirs)

    def _move(self, pairs: Sequence[int], numbers: Sequence[int]) -> None:
        """Pairs of runs on some batches; the pair's number is the seed."""
        runs = [[Distances() for _ in self.outputs] for _ in pairs for _ in _SIGNS]
        for number in numbers:
            own = self._own(self.batches[number])
            for run, (pair, sign) in zip(runs, product(pairs, _SIGNS), strict=True):
                with self.model.moved(self.rounding, pair, sign):
                    other = self._own(self.batches[number])
                for k, output in enumerate(self.outputs):
                    run[k].add(number, own[k], other[k], output.scale)
        for run in runs:
            for output, found in zip(self.outputs, run, strict=True):
                output.take_noise(found, whole=len(numbers) == len(self.batches))

    @property
    def hopeless(self) -> bool:
        """Whether more rows are beyond their bounds than near ties can be."""
        return any(one.beyond > max(_FEW, len(one.rows) / 4) for one in self.outputs)

    @property
    def wrong(self) -> bool:
        """Whether a row or drift is beyond its bound."""
        return any(output.beyond or output.drift > 1 for output in self.outputs)

    @property
    def certificate(self) -> Parity:
        """The record of the file."""
        ties = bool(self.model.plan.taps)
        return Parity(
            samples=sum(map(len, self.batches)),
            rounding=self.rounding,
            outputs=tuple(output.certificate(ties=ties) for output in self.outputs),
        )

    def complaint(self, runtime: str) -> str:
        """Where and by how much the file is beyond, and what to do."""
        output = max(self.outputs, key=lambda one: max(float(one.rows.max()), one.drift))
        what = f"{runtime} does not compute what torch computes: {output.name} differs "
        if output.beyond:
            row = int(output.rows.argmax())
            distance = float(torch.cat(list(output.file.rows.values()))[row])
            what += (
                f"in {output.beyond} of {len(output.rows)} rows, most in row {row}, by "
                f"{distance:.3g} of its scale ({output.scale:.3g}), {float(output.rows[row]):.3g} "
                f"times what rounding may make there"
            )
        else:
            what += (
                f"in all rows alike, on average by {output.drift:.3g} times what rounding may make "
                f"(a wrong scale or offset looks so)"
            )
        return (
            f"{what}. Rounding was measured by running the torch model with its numbers moved by "
            f"{self.rounding:.1g}, so near ties do not count: the file, or how {runtime} computes "
            f"it, is at fault. No file was kept. Try another exporter, or leave layers float "
            f"(skip: true) to find the one to blame, and report it"
        )


def _called(run: Runner, batch: Samples) -> list[Tensor]:
    found = run(*(leaf for leaf in batch.leaves if isinstance(leaf, Tensor)))
    return list(found) if isinstance(found, tuple) else [found]
