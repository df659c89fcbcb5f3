"""The plots of study `p2pdnr`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context

from coordinator.reconfiguration.loops import IntArray, LoopSpace
from hil.report.style import BLUE, GREEN, GREY, ORANGE, STYLE, hours_axis, new_figure, to_svg

COLOURS = (GREY, ORANGE, GREEN, BLUE)


def potential_plot(ways: Mapping[str, Sequence[float]]) -> str:
    """The potential after every step; a step that was refused leaves it where it was."""
    with rc_context(STYLE):
        figure, axes = new_figure(1, 1, 3.6)
        for colour, (name, offers) in zip(COLOURS, ways.items(), strict=True):
            lowest = np.minimum.accumulate(offers)
            steps = np.arange(len(offers))
            axes[0].step(steps, lowest, where="post", color=colour, label=name, marker="o", markersize=4.0)
        axes[0].set_xlabel("step")
        axes[0].set_ylabel("potential [EUR]")
        axes[0].legend()
        return to_svg(figure)


def switching_plot(space: LoopSpace, open_sets: IntArray) -> str:
    """Which switches are open in which hour."""
    with rc_context(STYLE):
        periods = open_sets.shape[0]
        ever = sorted({name for row in open_sets for name in space.names(row)}, key=lambda name: (len(name), name))
        figure, axes = new_figure(1, 1, 0.8 + 0.3 * len(ever))
        for period, row in enumerate(open_sets):
            for name in space.names(row):
                axes[0].barh(ever.index(name), 1.0, left=period, color=BLUE, height=0.7)
        axes[0].set_yticks(range(len(ever)), ever)
        axes[0].set_ylabel("open line")
        hours_axis(axes[0], float(periods))
        return to_svg(figure)
