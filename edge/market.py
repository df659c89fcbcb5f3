"""A household's part in a mechanism that asks it directly: round by round, the schedule of least cost at a price and near a target. A
shell: it solves beside the control cycle.

Whoever runs the mechanism sees each household's answers, unlike in a community that sums in secret (`edge.leadership`): what it sees are
net imports as the household's published plans show them. The plan that is in use at round 0 is the one that is negotiated, so that
answers of one negotiation are about one and the same house.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from edge.agreement import Agreement
from protocols.messages import LimitTerms, MarketAnswer, MarketAsk
from protocols.signing import Sequencer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edge.envelope_answer import Spread, Wish
    from edge.leadership.adherence import Declared
    from edge.made_plan import Made
    from edge.schedule.model import Household, Schedule, ScheduleInputs
    from edge.schedule.planner import Planner

    Array = npt.NDArray[np.float64]

log = logging.getLogger(__name__)

PLANS_TRUSTED_S = 3600.0


class Respondent:
    """One house that answers what it is asked about one and the same plan; over the intervals that are asked about, not the plan's.

    `spread` is how far net import may turn out from what the plan goes by; without it an envelope has no margins of its own.
    """

    def __init__(
        self,
        household: Household,
        inputs: ScheduleInputs,
        monotonic_s: Callable[[], float],
        deadline_s: float,
        spread: Spread | None = None,
    ) -> None:
        from edge.schedule.planner import Planner

        self.household = household
        self.inputs = inputs
        self.spread = spread
        self._planner: Planner = Planner(household, monotonic_s=monotonic_s, deadline_s=deadline_s)

    def reply(self, ask: MarketAsk, sender: str, time_s: float, sequence: int) -> MarketAnswer | None:
        """The message that answers an ask; None without a schedule."""
        from edge.leadership.negotiator import resampled
        from edge.schedule.planner import Plan

        inputs = self.inputs
        imports, exports = self._wish(ask, ask.import_limit, self.spread), self._wish(ask, ask.export_limit, None)
        solved = self._planner.plan(self._asked(ask, imports, exports), inputs.start_s)
        if not isinstance(solved, Plan):
            log.warning("no answer to the market: %s", solved.detail)
            return None
        net_w = resampled(solved.schedule.net_import_w, inputs.start_s, inputs.step_s, ask.start_s, ask.step_s, len(ask.price_per_kwh))
        return MarketAnswer(
            sender=sender,
            time_s=time_s,
            sequence=sequence,
            negotiation=ask.negotiation,
            round=ask.round,
            net_import_w=tuple(net_w.tolist()),
            import_limit_w=None if imports is None else tuple(imports.limit_w(net_w).tolist()),
            export_limit_w=None if exports is None else tuple(exports.limit_w(-net_w).tolist()),
            own_cost=own_cost(self.household, inputs, solved.schedule),
        )

    def _asked(self, ask: MarketAsk, imports: Wish | None, exports: Wish | None) -> ScheduleInputs:
        """The plan's inputs under what is asked.

        The community pays the retailer together, so the house's own prices are left out and the community's take their place. Where
        envelopes are negotiated, the plan may go as far as the connection carries, and pays for the limits that it needs.
        """
        import msgspec
        import numpy as np

        from edge.leadership.negotiator import resampled
        from edge.schedule.model import Negotiation, Overrun

        inputs, zeros = self.inputs, np.zeros(self.inputs.steps)

        def here(series: Sequence[float] | Array) -> Array:
            return resampled(np.asarray(series), ask.start_s, ask.step_s, inputs.start_s, inputs.step_s, inputs.steps)

        def overrun(wish: Wish | None) -> Overrun | None:
            found = None if wish is None else wish.overrun()
            return None if found is None else Overrun(
                free_w=here(found.free_w), price_per_kwh=here(found.price_per_kwh), rho_per_kwh_w=here(found.rho_per_kwh_w)
            )

        terms = Negotiation(
            extra_price_per_kwh=here(ask.price_per_kwh),
            target_w=here(ask.target_w),
            dual_w=zeros,
            rho_per_kwh_w=ask.weight_per_kwh_w,
            import_overrun=overrun(imports),
            export_overrun=overrun(exports),
        )
        return msgspec.structs.replace(
            inputs,
            import_limit_w=inputs.import_limit_w if imports is None else np.full(inputs.steps, imports.terms.most_w),
            export_limit_w=inputs.export_limit_w if exports is None else np.full(inputs.steps, exports.terms.most_w),
            buy_price_per_kwh=zeros,
            sell_price_per_kwh=zeros,
            negotiation=terms,
        )

    def _wish(self, ask: MarketAsk, terms: LimitTerms | None, spread: Spread | None) -> Wish | None:
        if terms is None:
            return None
        import numpy as np

        from edge.envelope_answer import wish
        from edge.leadership.negotiator import resampled

        margin_w = np.zeros(len(terms.target_w))
        if spread is not None:
            own_w = spread.margin_w(terms.deviations)
            margin_w = resampled(own_w, self.inputs.start_s, self.inputs.step_s, ask.start_s, ask.step_s, margin_w.size)
        return wish(terms, margin_w)


class MarketPart:
    """What the edge's agent is given (`edge.correspondence.Community`) where a mechanism asks the household."""

    def __init__(
        self, *, now_s: Callable[[], float], monotonic_s: Callable[[], float], deadline_s: float, ratings_w: tuple[float, float]
    ) -> None:
        """`ratings_w` are what the connection carries, into the household and out of it."""
        self._now_s = now_s
        self._monotonic_s = monotonic_s
        self._deadline_s = deadline_s
        self._ratings_w = ratings_w
        self._made: Made | None = None
        self._made_s = float("-inf")
        self._agreement: Agreement | None = None
        self._ask: MarketAsk | None = None
        self._job: asyncio.Future[MarketAnswer | None] | None = None
        self.number: int | None = None
        self.respondent: Respondent | None = None

    @property
    def term(self) -> int:
        """There is no leader here."""
        return 0

    @property
    def agreement(self) -> Agreement | None:
        """This house's part of the newest agreement, until it has run out."""
        return None if self._agreement is None else self._agreement.at(self._now_s())

    def resume(self, agreement: Agreement | None) -> None:
        """What was agreed before the controller was started again."""
        self._agreement = agreement

    def planned(self, made: Made) -> None:
        """A new plan is in use."""
        self._made, self._made_s = made, self._now_s()

    def metered(self, now_s: float, net_import_w: float) -> Declared | None:
        """Nothing is declared here: the operator sees each answer and the telemetry."""
        del now_s, net_import_w
        return None

    def asked(self, ask: MarketAsk) -> None:
        """Remember what is to be answered; the newest ask replaces one that was not answered yet."""
        if not _makes_sense(ask) or (self.number is not None and ask.negotiation < self.number):
            return
        if ask.negotiation != self.number:
            if ask.round != 0 or self._made is None or self._now_s() - self._made_s > PLANS_TRUSTED_S:
                return
            self.number = ask.negotiation
            inputs = bounded_by(self._made.inputs, self._ratings_w) if ask.secures else self._made.inputs
            self.respondent = _respondent(self._made, inputs, self._monotonic_s, self._deadline_s)
        if not ask.final:
            self._ask = ask
            return
        self._ask = None
        if ask.agreed:
            self._agreement = Agreement(
                number=ask.negotiation,
                start_s=ask.start_s,
                step_s=ask.step_s,
                price_per_kwh=ask.price_per_kwh,
                net_import_w=ask.target_w,
                rho_per_kwh_w=ask.weight_per_kwh_w,
                import_limit_w=None if ask.import_limit is None else ask.import_limit.target_w,
                export_limit_w=None if ask.export_limit is None else ask.export_limit.target_w,
            )

    def step(self, sender: str, sequencer: Sequencer, *, background: bool) -> MarketAnswer | None:
        """The answer that is owed, once it is found; `background` finds it in a thread instead of now."""
        if self._job is None and self._ask is not None and self.respondent is not None:
            ask, self._ask = self._ask, None
            job = functools.partial(self.respondent.reply, ask, sender, self._now_s(), 0)
            self._job = asyncio.get_running_loop().run_in_executor(None, job) if background else _done(job())
        if self._job is None or not self._job.done():
            return None
        done, self._job = self._job, None
        found = done.result()
        return None if found is None else msgspec.structs.replace(found, time_s=self._now_s(), sequence=sequencer.next())


def _makes_sense(ask: MarketAsk) -> bool:
    """Whether all series of an ask are about the same intervals, and the terms of limits do not contradict themselves."""
    count = len(ask.price_per_kwh)
    limits = [terms for terms in (ask.import_limit, ask.export_limit) if terms is not None]
    each = (len(ask.target_w), *(len(row) for terms in limits for row in (terms.price_per_kwh, terms.target_w, terms.weight_per_kwh_w)))
    return all(length == count for length in each) and all(terms.least_w <= terms.most_w for terms in limits)


def _respondent(made: Made, inputs: ScheduleInputs, monotonic_s: Callable[[], float], deadline_s: float) -> Respondent:
    from edge.envelope_answer import spread_of

    return Respondent(made.household, inputs, monotonic_s, deadline_s, spread_of(inputs, made.load, made.pv))


def _done(found: MarketAnswer | None) -> asyncio.Future[MarketAnswer | None]:
    """A job that needed no thread."""
    future: asyncio.Future[MarketAnswer | None] = asyncio.get_running_loop().create_future()
    future.set_result(found)
    return future


def bounded_by(inputs: ScheduleInputs, ratings_w: tuple[float, float]) -> ScheduleInputs:
    """Inputs with what the connection carries (into the household, out of it) instead of the limits in force."""
    import numpy as np

    into_w, out_w = (np.full(inputs.steps, rating_w) for rating_w in ratings_w)
    return msgspec.structs.replace(inputs, import_limit_w=into_w, export_limit_w=out_w)


def own_cost(household: Household, inputs: ScheduleInputs, schedule: Schedule) -> float:
    """Wear, fuel and the price of throwing PV away, less what is taken to be left in batteries at the end; no energy that is bought."""
    import numpy as np

    kwh = inputs.step_h / 1e3
    cost = household.curtailment_per_kwh * float(schedule.pv_curtailed_w.sum()) * kwh
    rows = zip(household.batteries, inputs.batteries, schedule.battery_w, schedule.battery_wh, strict=True)
    for battery, state, power_w, energy_wh in rows:
        cost += battery.wear_per_kwh * float(np.abs(power_w).sum()) * kwh
        cost += 0.5 * battery.wear_slope_per_kwh_w * float((power_w**2).sum()) * kwh
        cost -= state.end_value_per_kwh * float(energy_wh[-1]) / 1e3
    for generator, power_w in zip(household.generators, schedule.generator_w, strict=True):
        cost += generator.fuel_per_kwh * float(-power_w.sum()) * kwh
        cost += 0.5 * generator.fuel_slope_per_kwh_w * float((power_w**2).sum()) * kwh
    return cost
