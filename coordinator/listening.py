"""Every message that arrives at the coordinator: verified, remembered as what its node said last, and recorded. A shell.

A refused message changes nothing but a count and an event (`protocols.signing`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from coordinator import recording
from coordinator import store as tables
from coordinator.aggregation.office import CommunityOffice
from coordinator.demand import NodeView
from coordinator.journal import Journal
from coordinator.market.desk import MarketDesk
from coordinator.publication import Ledger
from protocols.bus import Bus, BusMessage
from protocols.errors import Refusal
from protocols.messages import (
    AnyMessage,
    ControlResponse,
    FlexibilityDeclaration,
    Forecast,
    MarketAnswer,
    Plan,
    ResponseStatus,
    SafetyState,
    Status,
    Telemetry,
)
from protocols.signing import Verifier
from protocols.topics import node_topic

SPOKEN = ("status", "telemetry", "forecast", "plan", "flexibility", "response", "answer")
SPOKEN_IN_SECRET = ("status", "response", "adherence", "verdict")
HELD = (ResponseStatus.RECEIVED, ResponseStatus.STARTED)


class Listener:
    """Drains the bus into `views`; `reports` is the telemetry of the last draining, `fallen_back` the nodes that run on their default."""

    def __init__(
        self,
        bus: Bus,
        verifier: Verifier,
        journal: Journal,
        views: Mapping[str, NodeView],
        ledger: Ledger,
        office: CommunityOffice | None,
        market: MarketDesk | None,
    ) -> None:
        self.reports: list[Telemetry] = []
        self.fallen_back: set[str] = set()
        self._bus = bus
        self._verifier = verifier
        self._journal = journal
        self._views = views
        self._ledger = ledger
        self._office = office
        self._market = market

    def subscribe(self, community: str) -> None:
        """Ask the bus for what nodes say; with sums in secret, for nothing that shows a household's power."""
        for kind in SPOKEN if self._office is None else SPOKEN_IN_SECRET:
            self._bus.subscribe(node_topic(community, "+", kind))

    def listen(self, now_s: float) -> tuple[int, dict[str, int]]:
        """Take every message that passes the rules of trust; returns how many did, and the refusals by name."""
        self._journal.begin_step()
        self.reports.clear()
        refused: Counter[str] = Counter()
        received = 0
        for message in self._bus.receive():
            if self._office is not None and self._office.take_sealed(message):
                received += 1
                continue
            try:
                content = self._verifier.open(message, now_s)
            except Refusal as refusal:
                refused[type(refusal).__name__] += 1
                if not message.retain:
                    self._journal.event(now_s, "refused", f"{type(refusal).__name__}: {refusal}")
                continue
            if content.sender in self._views:
                received += 1
                self._take(message, content, now_s)
            else:
                refused["UnknownNode"] += 1
                self._journal.event(now_s, "refused", f"UnknownNode: {content.sender} is not a node of this feeder")
        return received, dict(refused)

    def _take(self, message: BusMessage, content: AnyMessage, now_s: float) -> None:
        view, store = self._views[content.sender], self._journal.store
        if self._office is not None:
            self._office.take(message, content, now_s)
        match content:
            case Telemetry():
                view.telemetry = content
                self.reports.append(content)
                store.add(tables.telemetry, recording.telemetry_row(content, now_s))
                return
            case ControlResponse():
                if content.status in HELD:
                    self._ledger.acknowledge(content.sender, content.mrid)
                store.add(tables.responses, recording.response_row(content, now_s))
                return
            case Status():
                if content.state in (SafetyState.FAILSAFE, SafetyState.DEFAULT):
                    self.fallen_back.add(content.sender)
                view.status = content
            case Forecast():
                if content.quantity == "load":
                    view.load = content
                else:
                    view.pv = content
            case Plan():
                view.plan = content
                if self._market is not None:
                    self._market.planned(content.sender, now_s)
            case MarketAnswer():
                if self._market is not None:
                    self._market.take(content)
                return
            case FlexibilityDeclaration():
                view.flexibility = content
            case _:
                return
        kind = type(content).__struct_config__.tag
        store.add(tables.messages, recording.message_row(str(kind), content, now_s))
