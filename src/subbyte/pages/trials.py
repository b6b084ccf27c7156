"""The section about a search for the best network: what was tried, and what it costs."""

from subbyte.pages.figures import Cloud, Points
from subbyte.pages.parts import Section, Table, Text
from subbyte.records import Trial, Trials

_TITLE = "Drop against size"
_HEADER = ("trial", "bytes", "drop", "from", "to", "distance from float", "", "")
_ABOUT = (
    "Of every network that was tried, how much worse than the float network it is on samples held "
    "apart. Bars reach the ends of the interval."
)


def trials_section(trials: Trials) -> Section:
    """The choice and its reasons, the curve of drops by bytes, and all trials."""
    told = " ".join(f"{sentence[:1].upper()}{sentence[1:]}." for sentence in trials.told)
    unit = f"drop of {trials.figure}"
    label = f"{unit}, points" if trials.unit == "%" else f"{unit} {trials.unit}".strip()
    groups: dict[str, list[Trial]] = {}
    for trial in trials.trials:
        groups.setdefault(trial.group, []).append(trial)
    clouds = tuple(_cloud(name, some, trials) for name, some in groups.items())
    figure = Points(_TITLE, _ABOUT, "bytes of weights", label, clouds)
    return Section("What was tried", (Text(told), figure, trials_table(trials)))


def trials_table(trials: Trials) -> Table:
    """All trials, in their order."""
    return Table("Trials", _HEADER, tuple(map(_row, trials.trials)))


def _cloud(name: str, some: list[Trial], trials: Trials) -> Cloud:
    known = [(trial, trial.drop) for trial in some if trial.drop is not None]
    return Cloud(
        name,
        [float(trial.bytes) for trial, _ in known],
        [drop for _, drop in known],
        (),
        [f"{trial.name}: {trials.points(drop)}" for trial, drop in known],
        [0.0 if trial.high is None else trial.high - drop for trial, drop in known],
    )


def _row(trial: Trial) -> tuple[str, ...]:
    drops = ("" if x is None else f"{x:.3g}" for x in (trial.drop, trial.low, trial.high))
    held = {True: "holds", False: "does not hold", None: ""}[trial.holds]
    distance = f"{trial.distance:.4g}"
    return trial.name, f"{trial.bytes:,}", *drops, distance, held, "chosen" * trial.chosen
