"""Colours and axes that all plots share: the palette of Okabe and Ito, which stays apart for colour-blind eyes, and in grey."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, YELLOW, INK, GREY = "#CC79A7", "#56B4E9", "#F0E442", "#1b2733", "#8a97a3"

FREE, HELD, LIMIT = VERMILION, BLUE, INK
"""Uncoordinated, with envelopes, and the limits, in every plot."""

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "commonwatt",
    # Text is laid out with the font that matplotlib brings along; the page's style sheet draws it with its own, narrower one.
    "font.family": ["DejaVu Sans"],
    "font.size": 11.0,
    "axes.edgecolor": "#b8c2cc",
    "axes.labelcolor": INK,
    "axes.titlesize": 12.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6ebf0",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 10.0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def new_figure(rows: int, columns: int, height_in: float, *, share_y: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure as wide as the page, and its axes in reading order."""
    figure = Figure(figsize=(11.0, height_in), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey="row" if share_y else "none")
    return figure, [axis for row in axes for axis in row]


def hours_axis(axis: Axes, duration_h: float) -> None:
    """Local time of day from 0 to the end of the run."""
    step_h = next(step for step in (0.25, 0.5, 1, 2, 4, 6, 12, 24, 48) if duration_h / step <= 9)
    ticks = [index * step_h for index in range(int(duration_h / step_h) + 1)]
    axis.set_xlim(0.0, duration_h)
    axis.set_xticks(ticks, [f"{int(tick % 24.0):02d}:{round(tick % 1.0 * 60.0):02d}" for tick in ticks])


def to_svg(figure: Figure) -> str:
    """The figure as an SVG element without XML head, dated by nothing, so that equal data give equal text."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
