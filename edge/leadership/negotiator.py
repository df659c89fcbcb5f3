"""One house in one negotiation, answering the community's price with its own schedule."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.agreement import Agreement
from protocols.messages import CommunitySignal, RoundCall

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edge.made_plan import Made
    from edge.schedule.model import ScheduleInputs
    from edge.schedule.planner import Planner

    Array = npt.NDArray[np.float64]

log = logging.getLogger(__name__)


class Negotiator:
    """One house in one negotiation (`protocols.negotiation`): the same plan solved again under the community's price.

    The community pays the retailer together, so the house's own prices are left out and the community's takes their place.
    """

    def __init__(self, number: int, made: Made, monotonic_s: Callable[[], float], deadline_s: float) -> None:
        from edge.schedule.planner import Planner

        self.number = number
        self._made = made
        self._planner: Planner = Planner(made.household, monotonic_s=monotonic_s, deadline_s=deadline_s)
        self._signal: CommunitySignal | None = None
        self._answers: dict[int, Array] = {}
        self._last_w: Array = made.solved.schedule.net_import_w

    def agreement(self, intervals: int) -> Agreement | None:
        """This house's part of what was agreed; None where nothing was, or where it did not answer last."""
        signal = self._signal
        if signal is None or not signal.agreed or signal.iteration - 1 not in self._answers:
            return None
        answered_w = sampled(self._made.inputs, self._last_w, signal, intervals)
        return Agreement(
            number=self.number,
            start_s=signal.start_s,
            step_s=signal.step_s,
            price_per_kwh=signal.price_per_kwh,
            net_import_w=tuple(power_w - more_w for power_w, more_w in zip(answered_w, signal.excess_w, strict=True)),
            rho_per_kwh_w=signal.rho_per_kwh_w,
        )

    def take(self, signal: CommunitySignal) -> None:
        """Remember what is asked; an older iteration than the newest is not asked any more."""
        if self._signal is None or signal.iteration > self._signal.iteration:
            self._signal = signal

    def answer(self, iteration: int) -> Array | None:
        """The net import that this house would plan under the newest signal [W], over the intervals of its own plan."""
        signal = self._signal
        if signal is None or signal.iteration != iteration:
            return None
        known = self._answers.get(iteration)
        if known is not None:
            return known
        inputs = negotiated(self._made.inputs, signal, self._last_w)
        from edge.schedule.planner import Plan

        solved = self._planner.plan(inputs, inputs.start_s)
        if not isinstance(solved, Plan):
            log.warning("no answer in negotiation %d: %s", self.number, solved.detail)
            return None
        self._last_w = solved.schedule.net_import_w
        self._answers = {iteration: self._last_w}
        return self._last_w


def negotiated(inputs: ScheduleInputs, signal: CommunitySignal, last_w: Array) -> ScheduleInputs:
    """The inputs of a plan under a signal: price and proximal term of sharing ADMM around the last answer instead of the tariff."""
    import msgspec
    import numpy as np

    from edge.schedule.model import Negotiation

    grid = inputs.start_s, inputs.step_s, inputs.steps
    price = resampled(np.asarray(signal.price_per_kwh), signal.start_s, signal.step_s, *grid)
    excess_w = resampled(np.asarray(signal.excess_w), signal.start_s, signal.step_s, *grid)
    zeros = np.zeros(inputs.steps)
    terms = Negotiation(
        extra_price_per_kwh=price, target_w=last_w - excess_w, dual_w=zeros, rho_per_kwh_w=signal.rho_per_kwh_w
    )
    return msgspec.structs.replace(inputs, buy_price_per_kwh=zeros, sell_price_per_kwh=zeros, negotiation=terms)


def sampled(inputs: ScheduleInputs, series_w: Array, asked: RoundCall | CommunitySignal, intervals: int) -> list[float]:
    """Means of a planned series over the intervals that are asked for; the nearest value where the plan does not reach."""
    means_w = resampled(series_w, inputs.start_s, inputs.step_s, asked.start_s, asked.step_s, intervals)
    return [float(mean_w) for mean_w in means_w]


def resampled(series: Array, start_s: float, step_s: float, new_start_s: float, new_step_s: float, count: int) -> Array:
    """Means of a series over other intervals; its first and last value go on beyond its ends."""
    import numpy as np

    at = (new_start_s + new_step_s * np.arange(count + 1) - start_s) / step_s
    below = np.concatenate(([0.0], np.cumsum(series)))
    inside = np.interp(at, np.arange(len(below)), below)
    outside = np.minimum(at, 0.0) * series[0] + np.maximum(at - len(series), 0.0) * series[-1]
    return np.asarray(np.diff(inside + outside) * step_s / new_step_s, dtype=np.float64)
