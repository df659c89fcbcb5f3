"""Turns the records of the control cycle into figures and into a verdict on health. It has no clock of its own.

`cycle` is called once after each cycle, `refresh` before figures are read. What is not known is not a number, never zero.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Protocol

from edge.config import EdgeConfig
from edge.correspondence import SOFTWARE
from edge.cycle_record import CycleRecord
from edge.limits import Limit, LimitSet
from edge.observation.catalogue import CONDITIONS, DIRECTIONS, FAMILIES, OUTCOMES, PREFIX, REFUSALS, SOURCES, STATES
from edge.observation.labels import device_labels
from edge.observation.verdict import Seen, edge_health
from edge.reporting import tolerance_w
from edge.values import DeviceKind, Reading
from protocols.bus import Bus
from protocols.clock import Clock
from protocols.observation.book import MetricBook
from protocols.observation.health import Health

JOULES_PER_WH: Final = 3600.0


class CommunityFacts(Protocol):
    """What is shown of a household's part in its community (`edge.leadership.membership.Membership`)."""

    @property
    def term(self) -> int:
        """The term that is followed."""
        ...

    @property
    def leads(self) -> bool:
        """Whether this household leads."""
        ...

    @property
    def leader_heard(self) -> bool:
        """Whether a leader was proven and heard lately."""
        ...

    @property
    def rounds(self) -> dict[str, int]:
        """Rounds that were led, by outcome."""
        ...


class EdgeObserver:
    """See the module. `expiries` gives the expiry of each certificate in use, by name, in Unix seconds."""

    def __init__(
        self,
        config: EdgeConfig,
        *,
        bus: Bus,
        clock: Clock,
        expiries: Callable[[], dict[str, float]],
        community: CommunityFacts | None = None,
    ) -> None:
        self.book = MetricBook(FAMILIES)
        self._config = config
        self._bus = bus
        self._clock = clock
        self._expiries = expiries
        self._community = community
        self._labels = device_labels([(device.name, device.kind) for device in config.devices])
        self._tolerance_w = tolerance_w(min(config.site.import_rating_w, config.site.export_rating_w))
        self._record: CycleRecord | None = None
        self._last_s: float | None = None
        self._begun_s: float | None = None
        self._meter: Reading | None = None
        self._counted: dict[str, float] = {}
        identity = config.identity
        self.book.tell(f"{PREFIX}_build_info", version=SOFTWARE.split()[-1], community=identity.community, node=identity.node)
        self._begin()

    def cycle(self, record: CycleRecord) -> None:
        """Take one cycle that has just ended."""
        book = self.book
        book.add(f"{PREFIX}_cycles_total", 1.0, "failed" if record.failed else "done")
        book.observe(f"{PREFIX}_cycle_duration_seconds", record.duration_s)
        self._count_missed(self._clock.monotonic_s() - record.duration_s)
        self._count_to("foreign_master_total", record.foreign_masters)
        for outcome in record.outcomes:
            book.add(f"{PREFIX}_controls_total", 1.0, OUTCOMES[outcome.status])
        for words in record.refusals:
            book.add(f"{PREFIX}_messages_refused_total", 1.0, refusal_label(words))
        meter = next((reading for reading in record.readings if reading.kind is DeviceKind.METER), None)
        if meter is not None:
            self._count_exceeded(record, meter.power_w)
            self._count_energy(meter)
            self._meter = meter
        self._record, self._last_s = record, record.time_s

    def refresh(self) -> None:
        """Bring every gauge up to the newest cycle."""
        self._tell_bus()
        for name, expires_s in self._expiries().items():
            self.book.set(f"{PREFIX}_certificate_expiry_timestamp_seconds", expires_s, name)
        self._tell_community()
        record = self._record
        if record is None:
            return
        self.book.set(f"{PREFIX}_last_cycle_timestamp_seconds", record.time_s)
        self.book.choose(f"{PREFIX}_safety_state", record.state, STATES)
        for condition in CONDITIONS:
            self.book.set(f"{PREFIX}_condition", float(condition in record.conditions), condition)
        self._tell_measurements(record)
        self._tell_limits(record)
        plan_s = record.plan_start_s
        self.book.set(f"{PREFIX}_plan_age_seconds", None if plan_s is None else self._clock.now_s() - plan_s)

    def health(self) -> Health:
        """The verdict now."""
        return edge_health(
            self._config,
            Seen(
                now_s=self._clock.now_s(),
                record=self._record,
                meter_s=None if self._meter is None else self._meter.time_s,
                connected=self._bus.connected,
                expiries=self._expiries(),
                leader_heard=None if self._community is None else self._community.leader_heard,
            ),
        )

    def _begin(self) -> None:
        """Make every counter visible before its first event, so that a rate sees that event."""
        book = self.book
        for outcome in ("done", "failed"):
            book.add(f"{PREFIX}_cycles_total", 0.0, outcome)
        for label in OUTCOMES.values():
            book.add(f"{PREFIX}_controls_total", 0.0, label)
        for reason in REFUSALS:
            book.add(f"{PREFIX}_messages_refused_total", 0.0, reason)
        for direction in DIRECTIONS:
            book.add(f"{PREFIX}_envelope_exceeded_seconds_total", 0.0, direction)

    def _tell_bus(self) -> None:
        self.book.set(f"{PREFIX}_broker_connected", float(self._bus.connected))
        self._count_to("broker_sessions_total", self._bus.sessions)
        self._count_to("messages_dropped_total", self._bus.dropped)

    def _tell_community(self) -> None:
        community = self._community
        if community is None:
            return
        self.book.set(f"{PREFIX}_leader", float(community.leads))
        self.book.set(f"{PREFIX}_leader_known", float(community.leader_heard))
        self.book.set(f"{PREFIX}_leader_term", float(community.term))
        for outcome, count in community.rounds.items():
            self._count_to("rounds_total", count, outcome)

    def _tell_measurements(self, record: CycleRecord) -> None:
        book, readings = self.book, {reading.name: reading for reading in record.readings}
        book.set(f"{PREFIX}_net_import_watts", record.net_import_w)
        book.set(f"{PREFIX}_meter_age_seconds", None if self._meter is None else self._clock.now_s() - self._meter.time_s)
        book.forget(f"{PREFIX}_voltage_volts")
        for name, (label, kind) in self._labels.items():
            reading = readings.get(name)
            book.set(f"{PREFIX}_device_up", float(reading is not None), label)
            book.set(f"{PREFIX}_device_power_watts", None if reading is None else reading.power_w, label)
            if kind is DeviceKind.BATTERY:
                book.set(f"{PREFIX}_battery_soc_ratio", None if reading is None else reading.soc_frac, label)
            if kind is DeviceKind.METER and reading is not None and reading.voltage_v is not None:
                for phase, voltage_v in enumerate(reading.voltage_v, start=1):
                    book.set(f"{PREFIX}_voltage_volts", voltage_v, str(phase))

    def _tell_limits(self, record: CycleRecord) -> None:
        breaches = {"export": record.export_breach_w, "import": record.import_breach_w}
        for direction in DIRECTIONS:
            limit = _limit(record.limits, direction)
            self.book.set(f"{PREFIX}_limit_watts", None if limit is None else limit.limit_w, direction)
            self.book.choose(f"{PREFIX}_limit_source", "" if limit is None else limit.source, SOURCES, direction)
            self.book.set(f"{PREFIX}_breach_watts", breaches[direction], direction)

    def _count_missed(self, begun_s: float) -> None:
        """Cycles begin at whole multiples of the cycle time after each other."""
        if self._begun_s is not None:
            cycles = round((begun_s - self._begun_s) / self._config.control.cycle_s)
            self.book.add(f"{PREFIX}_cycles_missed_total", max(cycles - 1, 0))
        self._begun_s = begun_s

    def _count_exceeded(self, record: CycleRecord, net_import_w: float) -> None:
        """As in telemetry, under the limits of the cycle before (`edge.reporting`)."""
        if self._last_s is None or self._record is None:
            return
        elapsed_s = max(record.time_s - self._last_s, 0.0)
        for direction, power_w in (("import", net_import_w), ("export", -net_import_w)):
            limit = _limit(self._record.in_force, direction)
            if limit is not None and power_w > limit.limit_w + self._tolerance_w:
                self.book.add(f"{PREFIX}_envelope_exceeded_seconds_total", elapsed_s, direction)

    def _count_energy(self, meter: Reading) -> None:
        """The meter's counters only ever grow; one that went back was replaced."""
        before = self._meter
        if before is None:
            return
        pairs = (
            ("energy_imported_joules_total", before.energy_import_wh, meter.energy_import_wh),
            ("energy_exported_joules_total", before.energy_export_wh, meter.energy_export_wh),
        )
        for name, old_wh, new_wh in pairs:
            if old_wh is not None and new_wh is not None and new_wh > old_wh:
                self.book.add(f"{PREFIX}_{name}", (new_wh - old_wh) * JOULES_PER_WH)

    def _count_to(self, name: str, total: float, *labels: str) -> None:
        """Bring a counter up to a total that is counted elsewhere."""
        key = "/".join((name, *labels))
        self.book.add(f"{PREFIX}_{name}", max(total - self._counted.get(key, 0.0), 0.0), *labels)
        self._counted[key] = total


def refusal_label(words: str) -> str:
    """The name of a refusal as a label, from its words `Name: reason`."""
    name = words.partition(":")[0]
    if name.startswith("control "):
        return "invalid_control"
    label = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    return label if label in REFUSALS else "other"


def _limit(limits: LimitSet, direction: str) -> Limit | None:
    found: Limit | None = getattr(limits, DIRECTIONS[direction])
    return found
