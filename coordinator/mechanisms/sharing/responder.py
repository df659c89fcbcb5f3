"""Households of a study in this process, answering the market's signals; only sums over each bus leave.

A household keeps its schedule and its multipliers between rounds and moves one interior-point step in each, so a round costs it one small
factorisation. Households are held in groups of a few hundred, whose arrays fit a processor's cache.
"""

from __future__ import annotations

import numpy as np

from coordinator.mechanisms.sharing.batteries import Batteries
from coordinator.mechanisms.sharing.households import W_PER_KW, FloatArray, Households, IntArray, Schedules
from coordinator.mechanisms.sharing.loads import SMALLEST_KW, Loads
from coordinator.mechanisms.sharing.messages import GroupSums, PriceSignal

# Flexible load that needs less than this share of what it could draw is none.
FREE_FRAC = 1e-6
# Nobody expects much to stay unserved.
RARE_FRAC = 1e-3


class RespondingHouseholds:
    """One group. The last device is what a bus leaves unserved, which counts against net import."""

    def __init__(self, households: Households) -> None:
        """Begin strictly inside every limit."""
        order = np.argsort(households.bus, kind="stable")
        bus = households.bus[order]
        self.households = households
        smooth = households.smooth_per_kwh_kw
        owners = order[(households.battery_wh[order] > 0.0) & (households.battery_w[order] > 0.0)]
        self.batteries = Batteries(households, owners)
        most_wh = households.flexible_w.sum(axis=0) * households.hours
        needed_wh = households.flexible_wh
        self.movers = order[(needed_wh > FREE_FRAC * most_wh)[order]]
        self.sunny = order[households.sun_w.max(axis=0)[order] > SMALLEST_KW * W_PER_KW]
        load_w = households.at_buses(households.load_w)
        self.served = np.flatnonzero(np.bincount(bus, minlength=households.buses))
        self.flexible = Loads(
            bus=households.bus[self.movers], highest_kw=households.flexible_w[:, self.movers] / W_PER_KW, cost_per_kwh=0.0,
            smooth_per_kwh_kw=smooth, needed_kw=needed_wh[self.movers] / households.hours / W_PER_KW,
            lost_per_kwh=households.lost_load_per_kwh,
        )  # fmt: skip
        self.spilt = Loads(
            bus=households.bus[self.sunny], highest_kw=households.sun_w[:, self.sunny] / W_PER_KW, cost_per_kwh=0.0,
            smooth_per_kwh_kw=smooth,
        )  # fmt: skip
        self.unserved = Loads(
            bus=self.served, highest_kw=load_w[self.served].T / W_PER_KW, cost_per_kwh=households.lost_load_per_kwh,
            smooth_per_kwh_kw=0.0, first_frac=RARE_FRAC,
        )  # fmt: skip
        self.devices = tuple(
            (device, sign, _starts(device.bus))
            for device, sign in ((self.batteries, 1.0), (self.flexible, 1.0), (self.spilt, 1.0), (self.unserved, -1.0))
            if device.bus.size
        )
        self.fixed_w = households.at_buses(households.fixed_w)
        self._price: FloatArray | None = None

    def respond(self, signal: PriceSignal, /) -> GroupSums:
        """Take the step that was announced last, corrected for how prices have changed since, and announce the next one."""
        price = signal.price_per_kwh
        steps = [np.ones(1)]
        if self._price is not None:
            change = price - self._price
            steps = [device.move(sign * change[device.bus].T) for device, sign, _ in self.devices]
        self._price = price
        for device, sign, _ in self.devices:
            device.aim(sign * price[device.bus].T, signal.barrier)
        return self._sums(signal, float(np.mean(np.concatenate(steps))))

    def schedules(self) -> Schedules:
        """What every household does now; inside every limit, as the steps never leave them."""
        shape = self.households.load_w.shape
        charge, discharge, flexible, spilt = (np.zeros(shape) for _ in range(4))
        unmet_wh = np.zeros(shape[1])
        unserved = np.zeros((self.households.buses, shape[0]))
        charge[:, self.batteries.owners] = self.batteries.charge * W_PER_KW
        discharge[:, self.batteries.owners] = self.batteries.discharge * W_PER_KW
        flexible[:, self.movers] = self.flexible.net_kw * W_PER_KW
        spilt[:, self.sunny] = self.spilt.net_kw * W_PER_KW
        unserved[self.served] = self.unserved.net_kw.T * W_PER_KW
        unmet_wh[self.movers] = self.flexible.missing_kw * self.households.hours * W_PER_KW
        return Schedules(
            charge_w=charge, discharge_w=discharge, flexible_w=flexible, spilt_w=spilt, unserved_w=unserved, unmet_wh=unmet_wh
        )

    def _sums(self, signal: PriceSignal, step_frac: float) -> GroupSums:
        net_w, aim_w = self.fixed_w.copy(), self.fixed_w.copy()
        periods = self.households.periods
        slope_w = np.zeros((self.households.buses, periods, periods))
        unserved_w = np.zeros_like(net_w)
        gap = 0.0
        for device, sign, starts in self.devices:
            at = device.bus[starts]
            net_w[at] += sign * W_PER_KW * np.add.reduceat(device.net_kw, starts, axis=1).T
            aim_w[at] += sign * W_PER_KW * np.add.reduceat(device.aim_kw, starts, axis=1).T
            slope_w[at] += W_PER_KW * device.slope(starts)
            if signal.certify:
                gap += device.gap_per_h(sign * signal.price_per_kwh[device.bus].T)
        unserved_w[self.served] = self.unserved.net_kw.T * W_PER_KW
        hours = self.households.hours
        return GroupSums(
            net_w=net_w,
            aim_w=aim_w,
            slope_w=slope_w,
            unserved_w=unserved_w,
            unmet_wh=self.households.hours * W_PER_KW * float(self.flexible.missing_kw.sum()),
            own_cost=hours * sum(device.cost_per_h() for device, _, _ in self.devices),
            slack_count=sum(device.slack_count for device, _, _ in self.devices),
            step_frac=step_frac,
            gap=hours * gap if signal.certify else None,
        )


def _starts(bus: IntArray) -> IntArray:
    """Where a new bus begins among columns that are sorted by bus."""
    return np.flatnonzero(np.concatenate(([True], bus[1:] != bus[:-1])))
