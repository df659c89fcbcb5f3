"""What a member reports of its house: its newest plan, what it could do differently, and its answers in a negotiation; and what it
remembers of an agreement.

Plans begin whenever they were made; a round's intervals begin at whole quarters of an hour. A report takes the mean of the plan over
each interval, and the nearest planned value where the plan does not reach. Values are whole watts, and at most what one slot holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edge.leadership.adherence import Adherence, Declared
from edge.leadership.negotiator import Negotiator, sampled
from protocols.aggregation.content import FLEXIBILITY_ROWS, FlexibilityRows, flexibility_values
from protocols.messages import CommunitySignal, RoundCall, RoundContent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edge.agreement import Agreement
    from edge.made_plan import Made
    from edge.schedule.model import ScheduleInputs

    Array = npt.NDArray[np.float64]

PLANS_TRUSTED_S = 3600.0


class PlannedHousehold:
    """The house behind a membership. `intervals` and `value_max` are the layout's; `now_s` is the wall clock, `monotonic_s` that of the
    planner's deadline, `size_w` the rating of the connection."""

    def __init__(
        self,
        *,
        intervals: int,
        value_max: int,
        now_s: Callable[[], float],
        monotonic_s: Callable[[], float],
        deadline_s: float = 1.0,
        size_w: float,
    ) -> None:
        self._intervals = intervals
        self._value_max = value_max
        self._now_s = now_s
        self._monotonic_s = monotonic_s
        self._deadline_s = deadline_s
        self._made: Made | None = None
        self._made_s = float("-inf")
        self._negotiator: Negotiator | None = None
        self._agreement: Agreement | None = None
        self._adherence = Adherence(size_w)

    @property
    def agreement(self) -> Agreement | None:
        """This house's part of the newest negotiation that was agreed, until it has run out."""
        return None if self._agreement is None else self._agreement.at(self._now_s())

    def resume(self, agreement: Agreement | None) -> None:
        """What was agreed before the controller was started again."""
        self._agreement = agreement

    @property
    def negotiator(self) -> Negotiator | None:
        """This house's side of the newest negotiation."""
        return self._negotiator

    def planned(self, made: Made) -> None:
        """A new plan is in use."""
        self._made, self._made_s = made, self._now_s()

    def metered(self, now_s: float, net_import_w: float) -> Declared | None:
        """Take a reading of the meter; returns what is to be declared of how well reports were kept."""
        return self._adherence.metered(now_s, net_import_w)

    def values(self, call: RoundCall) -> Sequence[int] | None:
        """What the call asks for; None where there is no plan to answer from."""
        values = self._values(call)
        if values is not None:
            self._adherence.reported(call, values)
        return values

    def _values(self, call: RoundCall) -> Sequence[int] | None:
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
        if not len(signal.price_per_kwh) == len(signal.excess_w) == self._intervals:
            return
        negotiator = self._negotiator
        if negotiator is None or negotiator.number != signal.negotiation:
            if self._made is None or signal.iteration != 0:
                return
            negotiator = self._negotiator = Negotiator(signal.negotiation, self._made, self._monotonic_s, self._deadline_s)
        negotiator.take(signal)
        if signal.agreed:
            agreement = negotiator.agreement(self._intervals)
            self._agreement = self._agreement if agreement is None else agreement

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


def step_at(inputs: ScheduleInputs, time_s: float) -> int:
    """The interval of a plan that holds at a time, the nearest one outside it."""
    return min(max(int((time_s - inputs.start_s) // inputs.step_s), 0), inputs.steps - 1)
