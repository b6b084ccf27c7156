"""The figures that pages draw, one file each."""

from subbyte.pages.figures.heat import Heat
from subbyte.pages.figures.histogram import Histogram
from subbyte.pages.figures.histograms import Histograms
from subbyte.pages.figures.lines import Chart, Line
from subbyte.pages.figures.points import Cloud, Points, front
from subbyte.pages.figures.rows import Bars, Dots, Marks, Rows, Spans

__all__ = [
    "Bars",
    "Chart",
    "Cloud",
    "Dots",
    "Heat",
    "Histogram",
    "Histograms",
    "Line",
    "Marks",
    "Points",
    "Rows",
    "Spans",
    "front",
]
