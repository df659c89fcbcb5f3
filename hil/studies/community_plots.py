"""The plots of study `community`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context

from coordinator.mechanisms.p2p.community import Tariff
from coordinator.mechanisms.sharing.households import FloatArray
from coordinator.mechanisms.sharing.market import SharingOutcome
from hil.report.style import BLUE, GREEN, GREY, INK, ORANGE, STYLE, VERMILION, hours_axis, new_figure, to_svg

COLOURS = (BLUE, GREEN, ORANGE)


def price_plot(outcome: SharingOutcome, tariff: Tariff) -> str:
    """The market's price between feed-in and retail, and what the network adds to it at the buses where it adds most and least."""
    with rc_context(STYLE):
        figure, axes = new_figure(2, 1, 6.4)
        edges = np.arange(tariff.retail_per_kwh.size + 1)
        for values, colour, name in (
            (tariff.retail_per_kwh, GREY, "retail"),
            (tariff.feed_in_per_kwh, GREY, "feed-in"),
            (outcome.market_per_kwh, BLUE, "market"),
            (outcome.price_per_kwh.min(axis=0), VERMILION, "at the bus that is charged least"),
            (outcome.price_per_kwh.max(axis=0), ORANGE, "at the bus that is charged most"),
        ):
            axes[0].stairs(values, edges, color=colour, label=name, linewidth=2.0, baseline=None)
        axes[0].set_ylabel("price [per kWh]")
        axes[0].legend(ncols=3)
        axes[1].stairs(outcome.net_w.sum(axis=0) / 1e3, edges, color=INK, linewidth=2.0, baseline=None)
        axes[1].set_ylabel("net import of all [kW]")
        for axis in axes:
            hours_axis(axis, float(tariff.retail_per_kwh.size))
        return to_svg(figure)


def trace_plot(traces: Mapping[str, FloatArray]) -> str:
    """How far the cost is from where it ends, round by round."""
    with rc_context(STYLE):
        figure, axes = new_figure(1, 1, 3.8)
        for colour, (name, distance) in zip(COLOURS, traces.items(), strict=False):
            rounds = np.arange(1, distance.size)
            axes[0].semilogy(rounds, np.maximum(distance[:-1], 1e-6), color=colour, marker="o", markersize=4.0, label=name)
        axes[0].set_xlabel("round")
        axes[0].set_ylabel("relative distance of the cost")
        axes[0].legend()
        return to_svg(figure)
