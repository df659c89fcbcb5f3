"""The operator's part of a negotiation: it alone can open the sums, so it computes the next signal from them by the shared rule.

Prices are those of the community's retailer, interval by interval; where its feed-in price exceeds its retail price for an hour (a cheap
night and a flat feed-in price), selling is taken to earn no more than buying costs, because sharing could not pay there (Li et al. 2026,
equation (4)). From the limits of the feeder's head as much is kept back as all members together may be off when they have agreed, so the
sums that were agreed lie inside the limits themselves. Whoever has the sums of a negotiation computes every signal again: `Transcript`
keeps them, and `replayed` does it from what the store kept.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from coordinator.aggregation.settings import NegotiationSection
from coordinator.aggregation.sums import VirtualUnit
from protocols import negotiation
from protocols.aggregation.operator import Sums
from protocols.messages import AggregateNotice, CommunitySignal
from protocols.negotiation import State, Terms
from protocols.tariff import prices_per_kwh

SENDER = "coordinator"
STEP_S = 900.0

Array = npt.NDArray[np.float64]


class Transcript(Struct, frozen=True, kw_only=True):
    """One finished or running negotiation: its terms as plain numbers and, iteration by iteration, the sums and how many answered."""

    number: int
    start_s: float
    retail_per_kwh: tuple[float, ...]
    feed_in_per_kwh: tuple[float, ...]
    import_limit_w: float
    export_limit_w: float
    rho_per_kwh_w: float
    tolerance_w: float
    iterations_max: int
    answers: list[tuple[tuple[int, ...], int]]

    @property
    def terms(self) -> Terms:
        """The terms as the rule takes them."""
        intervals = len(self.retail_per_kwh)
        return Terms(
            retail_per_kwh=np.asarray(self.retail_per_kwh),
            feed_in_per_kwh=np.asarray(self.feed_in_per_kwh),
            import_limit_w=np.full(intervals, self.import_limit_w),
            export_limit_w=np.full(intervals, self.export_limit_w),
            rho_per_kwh_w=self.rho_per_kwh_w,
            tolerance_w=self.tolerance_w,
            iterations_max=self.iterations_max,
        )

    def states(self) -> Iterator[State]:
        """Every state of the negotiation as it was told, computed again from the sums."""
        return negotiation.replay(self.terms, self.answers)


def replayed(text: str) -> list[State]:
    """Every state of the negotiation whose `Bargain.record` this is."""
    return list(msgspec.json.decode(text, type=Transcript).states())


class Bargain:
    """One negotiation after another, when they are configured. `limits_w` are (import, export) of the community at the feeder's head,
    which the section may override."""

    def __init__(self, section: NegotiationSection, limits_w: tuple[float, float]) -> None:
        self._section = section
        self._import_limit_w = limits_w[0] if section.import_limit_w is None else section.import_limit_w
        self._export_limit_w = limits_w[1] if section.export_limit_w is None else section.export_limit_w
        self._zone = zoneinfo.ZoneInfo(section.timezone)
        self._state: State | None = None
        self._due_s = 0.0
        self._term = 0
        self.transcript: Transcript | None = None

    @property
    def limits_w(self) -> tuple[float, float]:
        """(import, export) limits that agreed sums keep."""
        return self._import_limit_w, self._export_limit_w

    @property
    def state(self) -> State | None:
        """Where the newest negotiation stands."""
        return self._state

    def record(self) -> str | None:
        """The newest negotiation once it is final, for the operator's disk."""
        if self.transcript is None or self._state is None or not self._state.final:
            return None
        return msgspec.json.encode(self.transcript).decode()

    def due(self, now_s: float, unit: VirtualUnit, term: int) -> CommunitySignal | None:
        """The opening of a negotiation when it is time, once the community has planned; the same signal again for a new leader."""
        section = self._section
        if section.iterations_max == 0 or unit.plan is None or term == 0:
            return None
        if self.transcript is None or now_s >= self._due_s:
            self._due_s = (now_s // section.period_s + 1.0) * section.period_s
            self.transcript = self._opened(now_s, len(unit.plan.values_w), unit.plan.count)
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

    def _opened(self, now_s: float, intervals: int, count: int) -> Transcript:
        """A negotiation for the intervals from now on; its number grows over restarts, because it is the time."""
        section = self._section
        start_s = now_s // STEP_S * STEP_S
        middles_s = [start_s + STEP_S * (index + 0.5) for index in range(intervals)]
        retail = prices_per_kwh(section.buy, middles_s, self._zone)
        feed_in = prices_per_kwh(section.sell, middles_s, self._zone)
        kept_w = section.tolerance_w * count
        return Transcript(
            number=int(now_s),
            start_s=start_s,
            retail_per_kwh=tuple(retail),
            feed_in_per_kwh=tuple(min(pair) for pair in zip(feed_in, retail, strict=True)),
            import_limit_w=max(self._import_limit_w - kept_w, 0.0),
            export_limit_w=max(self._export_limit_w - kept_w, 0.0),
            rho_per_kwh_w=section.rho_per_kwh_w,
            tolerance_w=section.tolerance_w,
            iterations_max=section.iterations_max,
            answers=[],
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
            agreed=self._state.agreed,
            start_s=self.transcript.start_s,
            step_s=STEP_S,
            rho_per_kwh_w=self.transcript.rho_per_kwh_w,
            price_per_kwh=tuple(float(price) for price in self._state.price_per_kwh),
            excess_w=tuple(float(power_w) for power_w in self._state.excess_w),
        )
