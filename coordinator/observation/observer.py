"""Turns the coordinator's turns into figures and into a verdict on health. It has no clock of its own.

`turn` is called in every turn of the loop, `refresh` before figures are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from coordinator.config import CoordinatorConfig
from coordinator.observation.catalogue import CONDITIONS, FAMILIES, PREFIX, REFUSALS, ROUNDS, STATES, UNHEARD
from coordinator.observation.verdict import Seen, coordinator_health
from coordinator.service import CoordinatorService, Ingested, StepRecord
from coordinator.store import Store
from protocols.bus import Bus
from protocols.clock import Clock
from protocols.messages import SafetyState
from protocols.observation.book import MetricBook
from protocols.observation.health import Health

FRESH_S: Final = 900.0


class CoordinatorObserver:
    """See the module. `expiries` gives the expiry of each member's certificate in Unix seconds."""

    def __init__(
        self,
        config: CoordinatorConfig,
        service: CoordinatorService,
        *,
        bus: Bus,
        store: Store,
        clock: Clock,
        expiries: Callable[[], dict[str, float]],
    ) -> None:
        self.book = MetricBook(FAMILIES)
        self._config = config
        self._service = service
        self._bus = bus
        self._store = store
        self._clock = clock
        self._expiries = expiries
        self._turn_s: float | None = None
        self._act_s: float | None = None
        self._round_s: float | None = None
        self._counted: dict[str, float] = {}
        self._lost = 0
        self._begin()

    def turn(self, ingested: Ingested, record: StepRecord | None) -> None:
        """Take one turn of the loop, and what it computed where that came to its end."""
        book, now_s = self.book, self._clock.now_s()
        self._turn_s = now_s
        book.add(f"{PREFIX}_messages_received_total", ingested.received)
        for reason, count in ingested.refused.items():
            book.add(f"{PREFIX}_messages_refused_total", count, reason)
        for report in ingested.reports:
            book.observe(f"{PREFIX}_report_delay_seconds", max(now_s - report.time_s, 0.0))
            book.add(f"{PREFIX}_node_envelope_exceeded_seconds_total", report.exceeded_s, report.sender)
        lost = self._store.lost.total()
        book.add(f"{PREFIX}_store_lost_rows_total", max(lost - self._lost, 0))
        self._lost = lost
        if record is not None:
            self._act_s = now_s
            book.add(f"{PREFIX}_envelopes_computed_total", record.computed)
            book.add(f"{PREFIX}_controls_published_total", record.published)
        self._count_rounds(now_s)

    def refresh(self) -> None:
        """Bring every gauge up to the newest turn."""
        book, now_s, service = self.book, self._clock.now_s(), self._service
        book.set(f"{PREFIX}_last_turn_timestamp_seconds", self._turn_s)
        book.set(f"{PREFIX}_last_act_timestamp_seconds", self._act_s)
        book.set(f"{PREFIX}_last_round_timestamp_seconds", self._round_s)
        book.set(f"{PREFIX}_envelope_horizon_seconds", service.covered_until_s(now_s) - now_s)
        for condition in CONDITIONS:
            book.set(f"{PREFIX}_condition", float(condition in service.conditions), condition)
        book.set(f"{PREFIX}_store_waiting_rows", float(self._store.waiting))
        self._count_to("store_rows_total", self._store.written)
        book.set(f"{PREFIX}_broker_connected", float(self._bus.connected))
        self._count_to("broker_sessions_total", self._bus.sessions)
        self._count_to("messages_dropped_total", self._bus.dropped)
        self._tell_nodes(now_s)
        for member, expires_s in self._expiries().items():
            book.set(f"{PREFIX}_certificate_expiry_timestamp_seconds", expires_s, member)
        if service.office is not None:
            book.set(f"{PREFIX}_leader_term", float(service.office.desk.term))

    def health(self) -> Health:
        """The verdict now."""
        now_s, service = self._clock.now_s(), self._service
        states = self._states()
        return coordinator_health(
            self._config,
            Seen(
                now_s=now_s,
                turn_s=self._turn_s,
                covered_until_s=service.covered_until_s(now_s),
                connected=self._bus.connected,
                conditions=service.conditions,
                unreachable=states[UNHEARD] + states[SafetyState.OFFLINE.value],
                failsafe=states[SafetyState.FAILSAFE.value],
                expiries=self._expiries(),
                round_s=self._round_s,
            ),
            software_version(),
        )

    def _begin(self) -> None:
        """Make every counter visible before its first event, so that a rate sees that event."""
        identity = self._config.identity
        self.book.tell(f"{PREFIX}_build_info", version=software_version(), community=identity.community)
        for reason in REFUSALS:
            self.book.add(f"{PREFIX}_messages_refused_total", 0.0, reason)
        for outcome in ROUNDS:
            self.book.add(f"{PREFIX}_rounds_total", 0.0, outcome)
        if self._service.office is None:
            for node in self._service.views:
                self.book.add(f"{PREFIX}_node_envelope_exceeded_seconds_total", 0.0, node)

    def _count_rounds(self, now_s: float) -> None:
        office = self._service.office
        if office is None:
            return
        if office.desk.opened > self._counted.get("rounds_total/opened", 0.0):
            self._round_s = now_s
        self._count_to("rounds_total", office.desk.opened, "opened")
        self._count_to("rounds_total", office.desk.refused, "refused")

    def _states(self) -> Counter[str]:
        views = self._service.views.values()
        return Counter(UNHEARD if view.status is None else view.status.state.value for view in views)

    def _tell_nodes(self, now_s: float) -> None:
        book, sum_w, heard = self.book, 0.0, False
        states = self._states()
        for label in (*STATES, UNHEARD):
            book.set(f"{PREFIX}_nodes", float(states[label]), label)
        for node, view in self._service.views.items():
            state = None if view.status is None else view.status.state
            book.set(f"{PREFIX}_node_online", float(state not in (None, SafetyState.OFFLINE)), node)
            book.set(f"{PREFIX}_node_failsafe", float(state is SafetyState.FAILSAFE), node)
            report = view.telemetry
            if report is None:
                continue
            book.set(f"{PREFIX}_node_last_report_timestamp_seconds", report.time_s, node)
            if now_s - report.time_s <= FRESH_S and report.net_import_w is not None:
                sum_w, heard = sum_w + report.net_import_w, True
        book.set(f"{PREFIX}_net_import_watts", sum_w if heard else None)

    def _count_to(self, name: str, total: float, *labels: str) -> None:
        """Bring a counter up to a total that is counted elsewhere."""
        key = "/".join((name, *labels))
        self.book.add(f"{PREFIX}_{name}", max(total - self._counted.get(key, 0.0), 0.0), *labels)
        self._counted[key] = total


def software_version() -> str:
    """The version of the installed distribution."""
    try:
        return version("commonwatt")
    except PackageNotFoundError:
        return "unknown"
