"""What the bench notes of a mechanism held live, and the same negotiations held again in this process.

For every negotiation that ends, the bench takes from each house the plan that it negotiated about, and holds the conversation again with
the same mechanism and the same houses, without a bus. What was agreed live must be what is agreed so: that is how a study, which has no
bus, and a street of controllers are the same code.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from coordinator.market.assembly import outcome_cost
from coordinator.market.desk import Concluded, MarketDesk
from coordinator.market.settings import MarketSection, out_of_order
from coordinator.market.wire import Heading, Response, Signal, ask_of, response_of
from coordinator.mechanisms.conversation import converse
from edge.market import MarketPart, Respondent
from hil.agreements import AgreedPrices, AgreedService, AgreementFlow, Checker, prices_of, services_of, worst_of
from hil.services import Services
from hil.trading import Trading

Floats = npt.NDArray[np.float64]
DEADLINE_S = 5.0


class MarketReport(Struct, frozen=True, kw_only=True):
    """All negotiations of one run. `worst_gap_frac` is how far the cost of an agreement was from that of its twin in this process, and
    `worst_apart_w` the mean distance of their net imports; None where nothing was agreed. `refusals` say why nothing was, `remark` what was
    taken otherwise than it was given. `flow` is what agreements that are kept to the watt would do to the network. `trading` is None where
    members do not trade, `services` where the network operator buys none; `owed` is there until they are settled.
    """

    mechanism: str
    negotiations: int
    agreed: int
    rounds: int
    messages: int
    left_out: tuple[str, ...]
    refusals: tuple[str, ...]
    remark: str | None
    worst_gap_frac: float | None
    worst_apart_w: float | None
    flow: AgreementFlow | None
    prices: tuple[AgreedPrices, ...]
    owed: tuple[AgreedService, ...]
    trading: Trading | None = None
    services: Services | None = None


class Asked(Protocol):
    """A place of an edge that may answer a mechanism."""

    name: str

    @property
    def market(self) -> MarketPart | None:
        """What answers there, while an edge runs."""


@dataclass(frozen=True, slots=True)
class Twin:
    """A house in this process that answers the same messages as its controller does."""

    name: str
    respondent: Respondent
    heading: Heading

    def respond(self, signal: Signal, /) -> Response | None:
        """The best response to a signal."""
        answer = self.respondent.reply(ask_of(self.heading, self.name, 0, signal), self.name, self.heading.time_s, 0)
        return None if answer is None else response_of(answer, signal)


class MarketLedger:
    """See the module."""

    def __init__(self, section: MarketSection, checker: Checker) -> None:
        self._section = section
        self._checker = checker
        self._flows: list[AgreementFlow] = []
        self._seen: int | None = None
        self._concluded: list[Concluded] = []
        self._gaps: list[tuple[float, float]] = []

    def look(self, desk: MarketDesk, edges: Mapping[str, Asked]) -> None:
        """Note a negotiation that has ended, and hold it again."""
        done = desk.latest
        if done is None or done.number == self._seen:
            return
        self._seen = done.number
        self._concluded.append(done)
        if done.outcome is None or done.mechanism is None:
            return
        self._flows.append(self._checker.flow(done.mechanism.groups, done.outcome.net_w))
        twins = {}
        heading = Heading(
            mechanism=self._section.mechanism, negotiation=done.number, round=0, start_s=done.start_s, step_s=self._section.step_s,
            time_s=done.start_s,
        )  # fmt: skip
        for name in done.mechanism.groups:
            part = edges[name].market
            if part is None or part.respondent is None or part.number != done.number:
                return
            own = Respondent(part.respondent.household, part.respondent.inputs, time.monotonic, DEADLINE_S, part.respondent.spread)
            twins[name] = Twin(name, own, heading)
        again = converse(done.mechanism, twins, max_rounds=self._section.rounds_max)
        if again.outcome is None or again.left_out:
            self._gaps.append((float("inf"), float("inf")))
            return
        live, alone = (outcome_cost(done.mechanism, outcome, self._section.step_s) for outcome in (done.outcome, again.outcome))
        apart_w = float(np.abs(done.outcome.net_w - again.outcome.net_w).mean())
        self._gaps.append((abs(live - alone) / max(abs(alone), 1e-9), apart_w))

    def report(self) -> MarketReport:
        """The negotiations so far."""
        step_s = self._section.step_s
        agreed = [done for done in self._concluded if done.outcome is not None]
        named = sorted({f"{name}: {why}" for done in self._concluded for name, why in done.left_out.items()})
        return MarketReport(
            mechanism=self._section.mechanism,
            negotiations=len(self._concluded),
            agreed=len(agreed),
            rounds=sum(done.rounds for done in self._concluded),
            messages=sum(done.messages for done in self._concluded),
            left_out=tuple(named),
            refusals=tuple(dict.fromkeys(done.refusal for done in self._concluded if done.refusal is not None)),
            worst_gap_frac=max((gap for gap, _ in self._gaps), default=None),
            worst_apart_w=max((apart for _, apart in self._gaps), default=None),
            remark=out_of_order(self._section),
            flow=worst_of(self._flows),
            prices=tuple(item for done in agreed for item in prices_of(done, step_s)),
            owed=tuple(item for done in agreed for item in services_of(done, step_s)),
        )
