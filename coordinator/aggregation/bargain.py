"""The operator's part of a negotiation: it alone can open the sums, so it computes the next signal from them by the shared rule.

Whoever has the sums of a finished negotiation computes every signal again (`protocols.negotiation.replay`): `transcript` keeps them.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from coordinator.aggregation.settings import AggregationSection
from coordinator.aggregation.sums import VirtualUnit
from protocols import negotiation
from protocols.aggregation.operator import Sums
from protocols.messages import AggregateNotice, CommunitySignal
from protocols.negotiation import State, Terms

SENDER = "coordinator"
STEP_S = 900.0


class Transcript(Struct, frozen=True, eq=False):
    """One finished or running negotiation: its terms and, iteration by iteration, the sums and how many answered."""

    number: int
    start_s: float
    terms: Terms
    answers: list[tuple[tuple[int, ...], int]]


class Bargain:
    """One negotiation after another, when they are configured."""

    def __init__(self, section: AggregationSection) -> None:
        self._section = section
        self._state: State | None = None
        self._due_s = 0.0
        self._term = 0
        self.transcript: Transcript | None = None

    @property
    def state(self) -> State | None:
        """Where the newest negotiation stands."""
        return self._state

    def due(self, now_s: float, unit: VirtualUnit, term: int) -> CommunitySignal | None:
        """The opening of a negotiation when it is time, once the community has planned; the same signal again for a new leader."""
        section = self._section
        if section.iterations_max == 0 or unit.plan is None or term == 0:
            return None
        if self.transcript is None or now_s >= self._due_s:
            period_s = section.negotiation_period_s
            self._due_s = (now_s // period_s + 1.0) * period_s
            start_s = now_s // STEP_S * STEP_S
            number = 1 if self.transcript is None else self.transcript.number + 1
            self.transcript = Transcript(number, start_s, self._terms(len(unit.plan.values_w)), [])
            self._state = negotiation.told(negotiation.opening(self.transcript.terms))
            return self._signal(term)
        if self._state is not None and not self._state.final and term != self._term:
            return self._signal(term)
        return None

    def answered(self, notice: AggregateNotice, sums: Sums, term: int) -> CommunitySignal | None:
        """The next signal after the sums of an iteration; None for sums that are not those awaited."""
        state, transcript = self._state, self.transcript
        if state is None or transcript is None or state.final:
            return None
        if notice.iteration != state.iteration or notice.start_s != transcript.start_s:
            return None
        values = tuple(int(value) for value in sums.values)
        self._state = negotiation.told(negotiation.advance(transcript.terms, state, values, sums.count))
        transcript.answers.append((values, sums.count))
        return self._signal(term)

    def _terms(self, intervals: int) -> Terms:
        section = self._section
        return Terms(
            retail_per_kwh=np.full(intervals, section.retail_per_kwh),
            feed_in_per_kwh=np.full(intervals, section.feed_in_per_kwh),
            import_limit_w=np.full(intervals, section.feeder_import_limit_w),
            export_limit_w=np.full(intervals, section.feeder_export_limit_w),
            rho_per_kwh_w=section.rho_per_kwh_w,
            iterations_max=section.iterations_max,
        )

    def _signal(self, term: int) -> CommunitySignal:
        assert self._state is not None and self.transcript is not None
        self._term = term
        return CommunitySignal(
            sender=SENDER,
            time_s=0.0,
            sequence=0,
            negotiation=self.transcript.number,
            term=term,
            iteration=self._state.iteration,
            final=self._state.final,
            start_s=self.transcript.start_s,
            step_s=STEP_S,
            rho_per_kwh_w=self.transcript.terms.rho_per_kwh_w,
            price_per_kwh=tuple(float(price) for price in self._state.price_per_kwh),
            excess_w=tuple(float(power_w) for power_w in self._state.excess_w),
        )
