"""The plots of study `disco33`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context

from hil.report.style import BLUE, GREY, ORANGE, STYLE, VERMILION, hours_axis, new_figure, to_svg
from hil.studies.seed003 import HOURS, FloatArray

COLOURS = (GREY, ORANGE, BLUE)
PARTIES = ("end-users", "aggregators", "DisCo")


def net_load_plot(days: Mapping[str, tuple[FloatArray, FloatArray]]) -> str:
    """Net load (buses, hours) without interplay and as agreed, for each set of regional prices."""
    with rc_context(STYLE):
        figure, axes = new_figure(1, len(days), 3.6, share_y=True)
        hours = np.arange(HOURS) + 0.5
        for axis, (name, (alone_w, agreed_w)) in zip(axes, days.items(), strict=True):
            axis.step(hours, alone_w.sum(axis=0) / 1e3, where="mid", color=VERMILION, label="without interplay, and published")
            axis.step(hours, agreed_w.sum(axis=0) / 1e3, where="mid", color=BLUE, linestyle="--", label="negotiated")
            axis.set_title(f"shiftable load, regional prices: {name}")
            hours_axis(axis, float(HOURS))
        axes[0].set_ylabel("net load [kW]")
        axes[0].legend()
        return to_svg(figure)


def cost_plot(scenarios: Mapping[str, Mapping[str, tuple[float, ...]]]) -> str:
    """The costs of the three parties, by scenario and by where they come from."""
    with rc_context(STYLE):
        figure, axes = new_figure(1, len(scenarios), 3.6)
        for axis, (name, groups) in zip(axes, scenarios.items(), strict=True):
            for place, (label, values) in enumerate(groups.items()):
                axis.bar(np.arange(3) + 0.27 * (place - 1), values, width=0.25, color=COLOURS[place], label=label)
            axis.set_xticks(range(3), PARTIES)
            axis.set_title(f"{name} load")
            axis.set_ylabel("expected cost [EUR]")
        axes[0].legend()
        return to_svg(figure)
