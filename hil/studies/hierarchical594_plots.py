"""The plots of study `hierarchical594`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context

from coordinator.mechanisms.hierarchical.market import Clearing
from coordinator.mechanisms.p2p.community import Tariff
from coordinator.mechanisms.signals import FloatArray
from hil.report.style import BLUE, GREEN, GREY, INK, ORANGE, STYLE, VERMILION, hours_axis, new_figure, to_svg

COLOURS = (GREY, VERMILION, BLUE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlotDay:
    """What is drawn: net imports of all customers (T,), voltage extremes (T,) by name, the offers and the clearing."""

    alone_w: FloatArray
    market_w: FloatArray
    secure_w: FloatArray
    highest_pu: Mapping[str, FloatArray]
    lowest_pu: Mapping[str, FloatArray]
    limits_pu: tuple[float, float]
    tariff: Tariff
    clearing: Clearing


def network_plot(day: PlotDay) -> str:
    """Net import of the feeder, and its highest and lowest voltage."""
    with rc_context(STYLE):
        figure, axes = new_figure(1, 2, 3.8)
        hours = _hours(day)
        for colour, (name, net_w) in zip(
            COLOURS, (("no community", day.alone_w), ("market alone", day.market_w), ("secure", day.secure_w)), strict=True
        ):
            axes[0].plot(hours, net_w / 1e6, color=colour, label=name)
        for colour, name in zip(COLOURS, day.highest_pu, strict=True):
            axes[1].plot(hours, day.highest_pu[name], color=colour, label=name)
            axes[1].plot(hours, day.lowest_pu[name], color=colour, linestyle=":")
        for limit in day.limits_pu:
            axes[1].axhline(limit, color=INK, linewidth=1.0, linestyle="--")
        axes[0].set_ylabel("net import of all customers [MW]")
        axes[1].set_ylabel("highest and lowest voltage [pu]")
        axes[0].legend()
        for axis in axes:
            hours_axis(axis, 24.0)
        return to_svg(figure)


def prices_plot(day: PlotDay) -> str:
    """Standing offers, the price among communities, and the prices inside them."""
    with rc_context(STYLE):
        figure, axes = new_figure(1, 1, 3.6)
        hours, inside = _hours(day), day.clearing.secure.inside_per_kwh
        axes[0].fill_between(hours, inside.min(axis=0), inside.max(axis=0), color=BLUE, alpha=0.25, label="inside communities, extremes")
        axes[0].plot(hours, day.clearing.secure.price_per_kwh, color=BLUE, label="among communities, before the fee")
        axes[0].step(hours, day.tariff.retail_per_kwh, where="mid", color=INK, label="retail")
        axes[0].step(hours, day.tariff.feed_in_per_kwh, where="mid", color=GREY, label="feed-in")
        axes[0].set_ylabel("price [$/kWh]")
        axes[0].legend(ncols=2)
        hours_axis(axes[0], 24.0)
        return to_svg(figure)


def service_plot(day: PlotDay) -> str:
    """What communities moved for the network, and the extremes of the prices that moved them."""
    with rc_context(STYLE):
        figure, axes = new_figure(1, 2, 3.6)
        hours, moved_w = _hours(day), day.clearing.service_w
        width = float(hours[1] - hours[0])
        axes[0].bar(hours, np.maximum(moved_w, 0.0).sum(axis=0) / 1e3, width=width, color=GREEN, label="took more")
        axes[0].bar(hours, np.minimum(moved_w, 0.0).sum(axis=0) / 1e3, width=width, color=ORANGE, label="took less")
        axes[0].set_ylabel("moved for the network [kW]")
        axes[0].legend()
        axes[1].plot(hours, -day.clearing.end_per_kwh.min(axis=0), color=VERMILION, label="for taking a kWh at the end of a feeder")
        axes[1].set_ylabel("highest price paid [$/kWh]")
        axes[1].legend()
        for axis in axes:
            hours_axis(axis, 24.0)
        return to_svg(figure)


def _hours(day: PlotDay) -> FloatArray:
    periods = day.alone_w.size
    return np.asarray((np.arange(periods) + 0.5) * 24.0 / periods)
