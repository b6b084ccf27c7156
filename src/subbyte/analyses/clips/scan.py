"""The clip search of GradQuant as one run that can be taken up again: scan, choices, rank
correlations, as CSV files.

    scan.csv         bits, clip (one fraction for all layers, each with its own range): every proxy
                     and, where images to evaluate on are given, the true loss, the divergence from
                     the float network, and the accuracy
    choices.csv      bits, granularity, metric: the clip chosen (means over layers or channels),
                     what it costs on the images to evaluate on, and top-1 on the test split;
                     min-max of the same granularity beside it
    clips_*.csv      every single clip of a choice that has more than one
    correlation.csv  Spearman's rank correlation of each proxy with the true loss over the clips of
                     the scan
    evidence.safetensors   on request, the tensors that the proxies read (see `dump`)

Weights only, of all layers. Clips are chosen on training images: statistics from the first
`calibration` of them, the true loss from the `evaluate` that come next; the test split is only
reported on. A row that is there is not made again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from itertools import product
from pathlib import Path

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from subbyte.analyses.clips.dump import write_evidence
from subbyte.analyses.clips.earlier import Known, known_from
from subbyte.analyses.clips.judge import Judge
from subbyte.analyses.clips.search import Granularity, Labels, Search
from subbyte.analyses.clips.table import GrowingTable
from subbyte.analyses.clips.targets import Target, gather
from subbyte.core import GridSpec
from subbyte.data import DataSet, Split, draw_calibration, draw_labels
from subbyte.engine.stages import Report
from subbyte.graph import prepare
from subbyte.io.folders import growing
from subbyte.io.settings import fingerprint, same_settings
from subbyte.ranges.clips import Score, best, clip_spec, fractions, part_ends
from subbyte.ranges.metrics import parse_metric
from subbyte.records.base import cell
from subbyte.records.clips import (
    CHOICES,
    CHOICES_KEY,
    CORRELATION,
    CORRELATION_COLUMNS,
    EVIDENCE,
    JUDGED,
    LOSS,
    MINMAX,
    SCAN,
    SCAN_KEY,
    clips_file,
)

_RESULTS = (SCAN, CHOICES)
Ends = tuple[Tensor, Tensor]
"""Lower and upper fractions, float64 [units], of one layer."""


def run(
    search: Search,
    model: nn.Module,
    data: DataSet,
    out: Path,
    report: Report,
    about: Mapping[str, str] | None = None,
    *,
    bases: Sequence[Path] = (),
    dump: bool = False,
) -> None:
    """Do what is not yet done in the folder `out`.

    about: what else tells this run from others, such as the name of the model. bases: folders of
    earlier searches, whose true losses are taken over; dump: also write evidence.safetensors.
    Raises SubbyteError when anything does not fit, when `out` was made with other settings, and
    when another process works in it. Further bits join those that `out` has.
    """
    with growing(out, _RESULTS):
        _run(search, model, data, out, report, about or {}, bases, dump)


def _run(
    search: Search,
    model: nn.Module,
    data: DataSet,
    out: Path,
    report: Report,
    about: Mapping[str, str],
    bases: Sequence[Path],
    dump: bool,
) -> None:
    images, test = draw_calibration(data, search.calibration + search.evaluate, search.seed)
    labels = draw_labels(data, len(images), search.seed)
    facts = {"weights": fingerprint(model), "data": f"{data.name} {data.fingerprint}"}
    settings = asdict(search) | dict(about) | facts
    known = {key: row for base in bases for key, row in known_from(base, settings).items()}
    kept = same_settings(out, settings, "clip search", results=_RESULTS, grows={"bits": True})
    search = replace(search, bits=tuple(kept["bits"]))
    network = prepare(model, images[:2])
    some, rest = images[: search.calibration], images[search.calibration :]
    true = labels[: len(some)] if search.labels is Labels.TRUE else None
    evaluation = (
        Split.labelled("evaluation", labels[len(some) :], lambda indices: rest[indices])
        if search.evaluate
        else None
    )
    judge = Judge(network, evaluation, test)
    gathered = partial(gather, network, some, true, search, report)
    running = _Run(search, gathered, judge, known, out, report)
    if dump and not (out / EVIDENCE).exists():
        write_evidence(out / EVIDENCE, running.targets)
    running.go()


class _Run:
    """Bit width by bit width: the scan, then the choices."""

    def __init__(
        self,
        search: Search,
        gathered: Callable[[], list[Target]],
        judge: Judge,
        known: Known,
        out: Path,
        report: Report,
    ) -> None:
        self.search, self.judge, self.out, self.report = search, judge, out, report
        self._gathered, self._known = gathered, known
        self.metrics = [parse_metric(name) for name in search.proxies]
        self.clips = fractions(*search.clip, search.resolution)
        judged = JUDGED if search.evaluate else ()
        self.scan = GrowingTable(out / SCAN, (*SCAN_KEY, *search.proxies, *judged), 2)
        columns = (*CHOICES_KEY, "lower", "upper", *judged, "test")
        self.choices = GrowingTable(out / CHOICES, columns, 3)

    def go(self) -> None:
        """All parts that are missing."""
        for bits in self.search.bits:
            if self._done(bits):
                continue
            costs = self._costs(bits, Granularity.NETWORK)
            self._scan(bits, _added(costs).sum(1))
            for granularity in self.search.granularities:
                own = granularity is Granularity.CHANNEL
                self._choose(bits, granularity, self._costs(bits, granularity) if own else costs)
        self._correlate()

    @cached_property
    def targets(self) -> list[Target]:
        """The layers; gathered when there is something to do."""
        return self._gathered()

    def _done(self, bits: int) -> bool:
        choices = (
            (granularity, name)
            for granularity in self.search.granularities
            for name in self._names(granularity)
        )
        return all(self.scan.has(bits, clip) for clip in self.clips.tolist()) and all(
            self.choices.has(bits, *choice) for choice in choices
        )

    def _names(self, granularity: Granularity) -> tuple[str, ...]:
        """Who chooses: min-max, the true loss where it is free or asked for, and the proxies."""
        free = self.search.evaluate and granularity is Granularity.NETWORK and not self.search.apart
        return (
            MINMAX,
            *((LOSS,) if free or LOSS in self.search.metrics else ()),
            *self.search.proxies,
        )

    def _spec(self, bits: int, granularity: Granularity) -> GridSpec:
        return clip_spec(
            bits, symmetric=self.search.symmetric, per_channel=granularity is Granularity.CHANNEL
        )

    def _costs(self, bits: int, granularity: Granularity) -> list[Tensor]:
        """The costs of every layer, both ends at the same clip: [metrics, units, clips]."""
        spec = self._spec(bits, granularity)
        found = []
        for done, target in enumerate(self.targets):
            self.report(f"proxies, {bits} bits", done, len(self.targets), target.layer.name)
            tried = self.clips.expand(granularity.units(target.weight), -1)
            found.append(target.costs(spec, tried, tried, self.metrics))
        self.report(f"proxies, {bits} bits", len(self.targets), len(self.targets), "")
        return found

    def _scan(self, bits: int, costs: Tensor) -> None:
        """costs: of the network, [metrics, clips]."""
        rows = []
        for k, clip in enumerate(self.clips.tolist()):
            self.report(f"scan, {bits} bits", k, len(self.clips), f"clip {clip:.3g}")
            if self.scan.has(bits, clip):
                continue
            row: dict[str, object] = {
                "bits": bits,
                "clip": clip,
                **dict(zip(self.search.proxies, costs[:, k].tolist(), strict=True)),
            }
            if self.search.evaluate:
                self.scan.add([row | self._judged(bits, clip)])
            else:
                rows.append(row)
        if rows:
            self.scan.add(rows)
        self.report(f"scan, {bits} bits", len(self.clips), len(self.clips), "")

    def _judged(self, bits: int, clip: float) -> dict[str, float]:
        """The cost of a clip to the network, measured unless it is known."""
        known = self._known.get((str(cell(bits)), str(cell(clip))))
        if known is not None:
            return known
        return self.judge.judge(self._network(bits, Granularity.NETWORK, self._same(clip)))

    def _same(self, clip: float) -> list[Ends]:
        end = torch.tensor([clip], dtype=torch.float64)
        return [(end, end)] * len(self.targets)

    def _network(self, bits: int, granularity: Granularity, ends: list[Ends]) -> dict[str, Tensor]:
        """The rounded weights by their dotted names."""
        spec = self._spec(bits, granularity)
        return {
            t.layer.weight: t.rounded(spec, *pair)
            for t, pair in zip(self.targets, ends, strict=True)
        }

    def _choose(self, bits: int, granularity: Granularity, costs: list[Tensor]) -> None:
        """The choices that are missing, and what they cost."""
        names = self._names(granularity)
        judged: dict[bytes, dict[str, float]] = {}  # metrics often agree
        for done, name in enumerate(names):
            self.report(f"choices, {bits} bits", done, len(names), f"{granularity}, {name}")
            if self.choices.has(bits, granularity, name):
                continue
            ends = self._ends(bits, granularity, name, costs)
            flat = torch.cat([torch.cat(pair) for pair in ends])
            key = flat.numpy().tobytes()
            if key not in judged:
                tensors = self._network(bits, granularity, ends)
                judged[key] = self.judge.judge(tensors) | {"test": self.judge.test(tensors)}
            if granularity is not Granularity.NETWORK and name != MINMAX:
                self._write_clips(bits, granularity, name, ends)
            lower, upper = (
                round(float(torch.cat(side).mean()), 9) for side in zip(*ends, strict=True)
            )
            choice = {
                "bits": bits,
                "granularity": granularity,
                "metric": name,
                "lower": lower,
                "upper": upper,
            }
            self.choices.add([{**choice, **judged[key]}])
        self.report(f"choices, {bits} bits", len(names), len(names), "")

    def _ends(
        self, bits: int, granularity: Granularity, name: str, costs: list[Tensor]
    ) -> list[Ends]:
        """The ends that a metric chooses for every layer."""
        if name == MINMAX:
            whole = [torch.ones(granularity.units(t.weight)).double() for t in self.targets]
            return [(end, end) for end in whole]
        if name == LOSS:
            return self._loss_ends(bits, granularity)
        place, metric, spec = (
            self.search.proxies.index(name),
            parse_metric(name),
            self._spec(bits, granularity),
        )

        def search(targets: list[Target], values: Tensor) -> Ends:
            return self._search(
                lambda a, b: _added(t.costs(spec, a, b, [metric])[0] for t in targets), values
            )

        if granularity is Granularity.NETWORK:
            return [search(self.targets, _added(costs)[place])] * len(self.targets)
        return [
            search([target], cost[place]) for target, cost in zip(self.targets, costs, strict=True)
        ]

    def _search(self, score: Score, values: Tensor) -> Ends:
        """The best fractions, given the costs [units, clips] of both ends at the same one."""
        common = best(values, self.clips)
        return part_ends(score, self.clips, common) if self.search.apart else (common, common)

    def _loss_ends(self, bits: int, granularity: Granularity) -> list[Ends]:
        """The ends that the true loss chooses: one clip for the network; then, if asked, layer by
        layer, the others fixed.
        """
        rows = [self.scan.find(bits, clip) for clip in self.clips.tolist()]
        seen = torch.tensor([[float(row[LOSS]) for row in rows if row]], dtype=torch.float64)
        every = range(len(self.targets))
        ends = [(best(seen, self.clips),) * 2 for _ in every]
        for place in every:
            moving = every if granularity is Granularity.NETWORK else range(place, place + 1)
            self.report(f"loss, {bits} bits", place, len(every), self.targets[place].layer.name)
            score = partial(self._losses, bits, granularity, ends, moving)
            found = self._search(
                score, seen if len(moving) > 1 else score(self.clips[None], self.clips[None])
            )
            ends = [found if n in moving else ends[n] for n in every]
            if granularity is Granularity.NETWORK:
                break
        self.report(f"loss, {bits} bits", len(every), len(every), "")
        return ends

    def _losses(
        self,
        bits: int,
        granularity: Granularity,
        ends: list[Ends],
        moving: range,
        lower: Tensor,
        upper: Tensor,
    ) -> Tensor:
        """True losses [1, k] with some layers at fractions [1, k], the others at their ends."""
        losses = []
        for pair in zip(lower.unbind(1), upper.unbind(1), strict=True):
            tried = [pair if n in moving else end for n, end in enumerate(ends)]
            losses.append(self.judge.judge(self._network(bits, granularity, tried))[LOSS])
        return torch.tensor([losses], dtype=torch.float64)

    def _write_clips(
        self, bits: int, granularity: Granularity, name: str, ends: list[Ends]
    ) -> None:
        rows = GrowingTable(
            self.out / clips_file(bits, granularity, name),
            ("layer", "channel", "lower", "upper"),
            2,
        )
        rows.rows.clear()  # of a run that was stopped before it wrote its choice
        rows.add(
            {
                "layer": target.layer.name,
                "channel": n if granularity is Granularity.CHANNEL else "",
                "lower": a,
                "upper": b,
            }
            for target, pair in zip(self.targets, ends, strict=True)
            for n, (a, b) in enumerate(zip(*(end.tolist() for end in pair), strict=True))
        )

    def _correlate(self) -> None:
        """Rank correlations of every proxy with the true loss and the divergence; empty where
        either is constant.
        """
        if not self.search.evaluate:
            return
        rows = GrowingTable(self.out / CORRELATION, CORRELATION_COLUMNS, 2)
        rows.rows.clear()
        found: list[dict[str, object]] = []
        for bits, name in product(self.search.bits, self.search.proxies):
            scan = [row for row in self.scan.rows if row["bits"] == str(bits)]
            columns = {key: [float(row[key]) for row in scan] for key in (name, *JUDGED[:2])}
            found.append(
                {"bits": bits, "metric": name}
                | {key: _ranks(columns[name], columns[key]) for key in JUDGED[:2]}
            )
        rows.add(found)


def _added(tensors: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(tensors)).sum(0)


def _ranks(a: list[float], b: list[float]) -> float | str:
    """Spearman's correlation."""
    if len(set(a)) < 2 or len(set(b)) < 2:
        return ""
    return float(spearmanr(a, b).statistic)
