"""What a member reports of its house: its newest plan, what it could do differently, and its answers in a negotiation.

Plans begin whenever they were made; a round's intervals begin at whole quarters of an hour. A report takes the mean of the plan over
each interval, and the nearest planned value where the plan does not reach. Values are whole watts, and at most what one slot holds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from protocols.aggregation.content import FLEXIBILITY_ROWS, FlexibilityRows, flexibility_values
from protocols.messages import CommunitySignal, RoundCall, RoundContent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edge.made_plan import Made
    from edge.schedule.model import ScheduleInputs
    from edge.schedule.planner import Planner

    Array = npt.NDArray[np.float64]

log = logging.getLogger(__name__)

PLANS_TRUSTED_S = 3600.0


class PlannedHousehold:
    """The house behind a membership. `intervals` and `value_max` are the layout's; `now_s` is the wall clock, `monotonic_s` that of the
    planner's deadline."""

    def __init__(
        self,
        *,
        intervals: int,
        value_max: int,
        now_s: Callable[[], float],
        monotonic_s: Callable[[], float],
        deadline_s: float = 1.0,
    ) -> None:
        self._intervals = intervals
        self._value_max = value_max
        self._now_s = now_s
        self._monotonic_s = monotonic_s
        self._deadline_s = deadline_s
        self._made: Made | None = None
        self._made_s = float("-inf")
        self._negotiator: Negotiator | None = None

    @property
    def negotiator(self) -> Negotiator | None:
        """This house's side of the newest negotiation."""
        return self._negotiator

    def planned(self, made: Made) -> None:
        """A new plan is in use."""
        self._made, self._made_s = made, self._now_s()

    def values(self, call: RoundCall) -> Sequence[int] | None:
        """What the call asks for; None where there is no plan to answer from."""
        made = self._made
        if made is None or self._now_s() - self._made_s > PLANS_TRUSTED_S:
            return None
        match call.content:
            case RoundContent.PLAN:
                return self._whole(sampled(made.inputs, made.solved.schedule.net_import_w, call, self._intervals))
            case RoundContent.FLEXIBILITY:
                return self._flexibility(made, call)
            case RoundContent.NEGOTIATION:
                answer = None if self._negotiator is None else self._negotiator.answer(call.iteration)
                return None if answer is None else self._whole(sampled(made.inputs, answer, call, self._intervals))

    def signal(self, signal: CommunitySignal) -> None:
        """What the negotiation asks next; the plan of its beginning stays the one that is negotiated."""
        negotiator = self._negotiator
        if negotiator is None or negotiator.number != signal.negotiation:
            if self._made is None or signal.iteration != 0:
                return
            negotiator = self._negotiator = Negotiator(signal.negotiation, self._made, self._monotonic_s, self._deadline_s)
        negotiator.take(signal)

    def _flexibility(self, made: Made, call: RoundCall) -> list[int]:
        from edge.schedule.flexibility import flexibility

        length = self._intervals // FLEXIBILITY_ROWS
        inputs, schedule = made.inputs, made.solved.schedule
        steps = [step_at(inputs, call.start_s + (index + 0.5) * call.step_s) for index in range(length)]
        declared = {step: flexibility(made.household, inputs, schedule, step) for step in sorted(set(steps))}
        load_w, pv_w = made.load.at_level(0.9), None if made.pv is None else made.pv.at_level(0.9)
        least_w = made.load.at_level(0.1)
        imports, exports = {}, {}
        for step in declared:
            net_w = float(schedule.net_import_w[step])
            generated_w = 0.0 if pv_w is None else float(pv_w[step])
            imports[step] = max(net_w + declared[step].increase_w, float(load_w[step]), 0.0)
            exports[step] = max(declared[step].decrease_w - net_w, generated_w - float(least_w[step]), 0.0)
        rows = FlexibilityRows(
            increase_w=self._whole([declared[step].increase_w for step in steps]),
            decrease_w=self._whole([declared[step].decrease_w for step in steps]),
            import_reach_w=self._whole([imports[step] for step in steps]),
            export_reach_w=self._whole([exports[step] for step in steps]),
        )
        values = flexibility_values(rows)
        return values + [0] * (self._intervals - len(values))

    def _whole(self, values_w: Sequence[float] | Array) -> list[int]:
        return [max(-self._value_max, min(self._value_max, round(float(value_w)))) for value_w in values_w]


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

    @property
    def outcome(self) -> tuple[CommunitySignal, Array] | None:
        """The final signal and this house's last answer to it, None while the negotiation goes on."""
        return (self._signal, self._last_w) if self._signal is not None and self._signal.final else None

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

    places = [min(max(_place(inputs, signal, step), 0), len(signal.price_per_kwh) - 1) for step in range(inputs.steps)]
    price = np.asarray(signal.price_per_kwh)[places]
    excess_w = np.asarray(signal.excess_w)[places]
    zeros = np.zeros(inputs.steps)
    terms = Negotiation(
        extra_price_per_kwh=price, target_w=last_w - excess_w, dual_w=zeros, rho_per_kwh_w=signal.rho_per_kwh_w
    )
    return msgspec.structs.replace(inputs, buy_price_per_kwh=zeros, sell_price_per_kwh=zeros, negotiation=terms)


def sampled(inputs: ScheduleInputs, series_w: Array, call: RoundCall, intervals: int) -> list[float]:
    """Means of a planned series over the intervals of a call; the nearest value where the plan does not reach."""
    import numpy as np

    edges_s = call.start_s + call.step_s * np.arange(intervals + 1)
    at = (edges_s - inputs.start_s) / inputs.step_s
    below = np.concatenate(([0.0], np.cumsum(series_w)))
    inside = np.interp(at, np.arange(len(below)), below)
    outside = np.minimum(at, 0.0) * series_w[0] + np.maximum(at - len(series_w), 0.0) * series_w[-1]
    means = np.diff(inside + outside) * inputs.step_s / call.step_s
    return [float(mean) for mean in means]


def step_at(inputs: ScheduleInputs, time_s: float) -> int:
    """The interval of a plan that holds at a time, the nearest one outside it."""
    return min(max(int((time_s - inputs.start_s) // inputs.step_s), 0), inputs.steps - 1)


def _place(inputs: ScheduleInputs, signal: CommunitySignal, step: int) -> int:
    middle_s = inputs.start_s + (step + 0.5) * inputs.step_s
    return int((middle_s - signal.start_s) // signal.step_s)
