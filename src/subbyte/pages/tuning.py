"""The section about what a network learned after its walk."""

from subbyte.pages.figures import Chart, Line
from subbyte.pages.parts import Part, Section, Table, Text
from subbyte.pages.scores import columns, number
from subbyte.records import Result, Tuning

_TITLE = "Distance from the float network while learning"
_ABOUT = "By the task's own measure; the state with the least distance was kept."


def tuning_section(result: Result, tuning: Tuning) -> Section:
    """Scores before and after, and the curve of the distance on samples kept apart."""
    steps = [float(one.step) for one in tuning.judged]
    told_of = "loss on images that are measured" if tuning.labels else "views kept apart"
    curve = Line(told_of, steps, [one.distance for one in tuning.judged])
    chart = Chart(
        title="Loss while training" if tuning.labels else _TITLE,
        x_label="step",
        y_label="loss" if tuning.labels else "distance",
        lines=(curve,),
        whole_x=True,
        about="" if tuning.labels else _ABOUT,
    )
    title = "Training" if tuning.labels else "Tuning"
    return Section(title, (*before_and_after(result, tuning), chart))


def before_and_after(result: Result, tuning: Tuning) -> tuple[Part, ...]:
    """The outcome in a sentence, and scores of the float network, the start and the end."""
    scores, compared = columns([result])
    shown = {**scores, **compared}
    networks = {"float": result.float, "before": tuning.before, "after": result.quantized}
    rows = tuple(
        (name, *(number(find(measured)) for find in shown.values()))
        for name, measured in networks.items()
    )
    return Text(f"{tuning.told.capitalize()}."), Table("", ("network", *shown), rows)
