"""Everything the page knows of a community at this moment, from the messages that passed. Pure: messages in, views out.

Time is the newest time that any message carried, so that a bench whose clock runs faster is shown as it is. Messages come from a broker
that lets a name write its own topics alone; their signatures are checked by those who act on them, which the page does not.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from coordinator.config import CoordinatorConfig
from coordinator.page.bargain import Bargain
from coordinator.page.commanded import Commanded
from coordinator.page.diagram import make_diagram
from coordinator.page.estimate import Estimate, Estimator, Report
from coordinator.page.views import (
    MIN_GROUP,
    Event,
    Facts,
    FeederView,
    HomeRow,
    Price,
    PublicView,
    Total,
    levels,
    loadings_pct,
    worst_voltages_v,
)
from coordinator.page.words import REASON_WORDS, STATE_WORDS, event_of_state
from protocols import codec
from protocols.aggregation.messages import Acknowledgement
from protocols.bus import BusMessage
from protocols.election.values import Certificate
from protocols.errors import Malformed, TopicError
from protocols.messages import (
    CommunitySignal,
    DefaultControl,
    ElectionNotice,
    EnvelopeSchedule,
    MarketAsk,
    Message,
    RoundCall,
    RoundNotice,
    SafetyState,
    Status,
    Telemetry,
)
from protocols.topics import owner

BRIDGE_STATE: Final = "$SYS/broker/connection/page/state"
"""Where Mosquitto says whether the bridge to the homes' broker is up: "1" or "0"."""

EVENTS_KEPT: Final = 60
PUBLIC_EVENTS: Final = 25
POINTS_KEPT: Final = 360
STALE_PERIODS: Final = 3.0
STALE_S: Final = 180.0
EXCEEDED_S: Final = 15.0
"""CSIP-AUS client test procedures: an exceedance has to be over within 15 s."""


class Board:
    """See the module."""

    def __init__(self, config: CoordinatorConfig, estimator: Estimator) -> None:
        self._estimator = estimator
        self.network = estimator.network
        self.diagram = make_diagram(self.network, estimator.node_buses)
        self._at = {drawn.bus: index for index, drawn in enumerate(self.diagram.buses)}
        self._nodes = [node.name for node in config.nodes]
        self._names = frozenset(self._nodes)
        self._secret = config.aggregation.enabled
        self._commanded = Commanded()
        self.node_buses = estimator.node_buses
        self._group = 1 if config.page.open else MIN_GROUP
        self._bargain = Bargain(self._group)
        self._telemetry: dict[str, Telemetry] = {}
        self._status: dict[str, Status] = {}
        self._coordinator: Status | None = None
        self._leader: tuple[int, str] | None = None
        self._round: tuple[str, str] | None = None
        self._price: Price | None = None
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._anew: set[str] = set()
        self._shown: tuple[Total | None, Estimate | None] = (None, None)
        self.now_s = 0.0
        self.fed = True
        self.points: deque[tuple[float, Total]] = deque(maxlen=POINTS_KEPT)
        self.public_points: deque[tuple[float, Total]] = deque(maxlen=POINTS_KEPT)
        self.refused = 0

    def take(self, message: BusMessage) -> bool:
        """One message of the broker; whether it changed what is shown. What cannot be read is counted and changes nothing."""
        if message.topic == BRIDGE_STATE:
            self.fed = message.payload == b"1"
            return True
        try:
            _, sender, _ = owner(message.topic)
            content = codec.decode(message.payload, topic=message.topic)
        except (Malformed, TopicError):
            self.refused += 1
            return False
        if content.sender != sender:
            self.refused += 1
            return False
        if sender not in self._names and sender != "coordinator":
            return False
        self.now_s = max(self.now_s, content.time_s)
        return self._take(sender, content)

    def public_view(self) -> PublicView:
        """What everybody sees; physical quantities move only when enough homes have reported anew."""
        if self._secret:
            total = self._envelope()
            self._shown = total, None
            _follow(self.public_points, self.now_s, total)
        elif len(self._anew) >= min(self._group, max(len(self._nodes), 1)):
            fresh = self._fresh()
            self._anew.clear()
            enough = len(fresh) >= self._group
            total = _total(fresh) if enough else None
            self._shown = total, self._estimate(fresh) if enough else None
            _follow(self.public_points, self.now_s, total)
        total, estimate = self._shown
        at = levels(self.network, self.diagram, estimate)
        if self._group > 1:
            at = tuple(at[b.parent] if b.drop and b.parent is not None else at[place] for place, b in enumerate(self.diagram.buses))
        loading = loadings_pct(self.diagram, estimate, group=self._group)
        return PublicView(time_s=self.now_s, facts=self._facts(public=True), total=total, levels=at, loading_pct=loading)

    def feeder_view(self) -> FeederView:
        """What administrators see."""
        fresh = self._fresh()
        total = self._envelope() if self._secret else _total(fresh)
        _follow(self.points, self.now_s, total)
        estimate = self._estimate(fresh)
        return FeederView(
            time_s=self.now_s,
            facts=self._facts(public=False),
            leader=None if self._leader is None else self._leader[1],
            total=total,
            levels=levels(self.network, self.diagram, estimate),
            voltage_v=worst_voltages_v(self.network, self.diagram, estimate),
            loading_pct=loadings_pct(self.diagram, estimate, group=1),
            homes=tuple(self.home(name) for name in self._nodes),
        )

    def home(self, name: str) -> HomeRow:
        """One home as it last spoke."""
        status, said = self._status.get(name), self._telemetry.get(name)
        place = self._at.get(self._estimator.bus_of(name), 0)
        newest = said if status is None or (said is not None and said.time_s > status.time_s) else status
        state = "unknown" if newest is None else newest.state.value
        reasons = () if status is None else status.reasons
        if said is None:
            import_w, export_w = self._commanded.limits(name, self.now_s) if self._secret else (None, None)
            return HomeRow(name=name, bus=place, state=state, reasons=reasons, import_limit_w=import_w, export_limit_w=export_w)
        return HomeRow(
            name=name,
            bus=place,
            state=state,
            reasons=reasons,
            time_s=said.time_s,
            net_import_w=said.net_import_w,
            load_w=said.load_w,
            pv_w=said.pv_w,
            battery_w=said.battery_w,
            ev_w=said.ev_w,
            soc_frac=said.soc_frac,
            voltage_v=said.voltage_v,
            import_limit_w=said.import_limit_w,
            export_limit_w=said.export_limit_w,
        )

    def knows(self, name: str) -> bool:
        """Whether a node of this name belongs to the feeder."""
        return name in self._names

    def leader(self) -> str | None:
        """Who leads, as far as certificates say."""
        return None if self._leader is None else self._leader[1]

    def _take(self, sender: str, content: Message) -> bool:
        match content:
            case Telemetry():
                before = self._telemetry.get(sender)
                if before is not None and content.time_s < before.time_s:
                    return False
                self._telemetry[sender] = content
                self._anew.add(sender)
                if content.exceeded_s > EXCEEDED_S:
                    self._happened("exceeded", f"outside its envelope for {content.exceeded_s:.0f} s", sender)
            case Status() if sender == "coordinator":
                self._take_coordinator(content)
            case Status():
                self._take_state(sender, content)
            case ElectionNotice(body=Certificate() as certificate):
                if self._leader is None or certificate.term > self._leader[0]:
                    self._leader = certificate.term, certificate.leader
                    self._happened("leader", f"leads in term {certificate.term}", certificate.leader)
            case RoundNotice(body=RoundCall() as call):
                self._round = call.round_name, "called"
            case RoundNotice(body=Acknowledgement() as answer):
                self._round = answer.round_name, "sum taken" if answer.accepted else "sum refused"
                if not answer.accepted:
                    self._happened("refused", f"sum refused: round {answer.round_name}: {answer.reason}")
            case EnvelopeSchedule() | DefaultControl():
                if not self._secret:
                    return False
                self._commanded.take(content)
            case MarketAsk():
                if not self._bargain.take(content):
                    return False
                self._price = self._bargain.price
            case CommunitySignal():
                self._price = Price(
                    start_s=content.start_s, step_s=content.step_s, per_kwh=content.price_per_kwh, final=content.final
                )
            case _:
                return False
        return True

    def _take_state(self, sender: str, status: Status) -> None:
        before = self._status.get(sender)
        if before is not None and status.time_s < before.time_s:
            return
        self._status[sender] = status
        if before is not None and before.state is not status.state:
            kind, words = event_of_state(status.state, status.reasons)
            self._happened(kind, words, sender)

    def _take_coordinator(self, status: Status) -> None:
        before = self._coordinator
        self._coordinator = status
        said = () if before is None else before.reasons
        for reason in status.reasons:
            if reason not in said:
                self._happened("coordinator", reason)
        if before is not None and before.state is not status.state:
            gone = status.state is SafetyState.OFFLINE
            self._happened("coordinator", "offline: envelopes that were delivered run on" if gone else "back online")

    def _happened(self, kind: str, text: str, who: str = "") -> None:
        self._events.append(Event(time_s=self.now_s, kind=kind, text=text, who=who))

    def _facts(self, *, public: bool) -> Facts:
        status = self._coordinator
        reasons = () if status is None else status.reasons
        events: tuple[Event, ...] = tuple(self._events)
        if public and self._group > 1:
            reasons = tuple(dict.fromkeys(REASON_WORDS.get(reason.partition(":")[0], "see its log") for reason in reasons))
            events = tuple(without_names(event) for event in self._events)[-PUBLIC_EVENTS:]
        return Facts(
            fed=self.fed,
            secret=self._secret,
            homes=len(self._nodes),
            reporting=len(self._fresh()),
            coordinator="unknown" if status is None else status.state.value,
            reasons=reasons,
            term=None if self._leader is None else self._leader[0],
            round_name=None if self._round is None else self._round[0],
            round_state="" if self._round is None else self._round[1],
            price=self._price,
            events=events,
        )

    def _envelope(self) -> Total | None:
        """The community's envelope where its homes say nothing of their own power."""
        limits = [self._commanded.limits(name, self.now_s) for name in self._nodes]
        imports, exports = _sum_of_all([pair[0] for pair in limits]), _sum_of_all([pair[1] for pair in limits])
        if len(limits) < self._group or (imports is None and exports is None):
            return None
        return Total(net_import_w=None, import_limit_w=imports, export_limit_w=exports)

    def _fresh(self) -> dict[str, Telemetry]:
        """What homes said lately enough to stand for now."""
        return {
            name: said
            for name, said in self._telemetry.items()
            if said.net_import_w is not None and self.now_s - said.time_s <= max(STALE_PERIODS * said.duration_s, STALE_S)
        }

    def _estimate(self, fresh: dict[str, Telemetry]) -> Estimate | None:
        if not fresh:
            return None
        found = self._estimator.at([reports_of(fresh)])
        return None if found is None else found[0]


def reports_of(fresh: dict[str, Telemetry]) -> dict[str, Report]:
    """The part of telemetry that the power flow needs."""
    measured = {name: (said.net_import_w, said.voltage_v) for name, said in fresh.items()}
    return {name: Report(net_import_w=net_w, voltage_v=volts) for name, (net_w, volts) in measured.items() if net_w is not None}


def without_names(event: Event) -> Event:
    """The event as everybody may see it: of a home no name and no reason, of the coordinator the kind of its trouble."""
    if event.who != "":
        text = STATE_WORDS.get(event.kind, "a home reports a change")
    else:
        text = REASON_WORDS.get(event.text.partition(":")[0], "something happened that its log tells")
    return Event(time_s=event.time_s, kind=event.kind, text=text)


def _follow(points: deque[tuple[float, Total]], now_s: float, total: Total | None) -> None:
    if total is not None and (not points or points[-1][0] < now_s):
        points.append((now_s, total))


def _total(fresh: dict[str, Telemetry]) -> Total | None:
    if not fresh:
        return None
    imports = [said.import_limit_w for said in fresh.values()]
    exports = [said.export_limit_w for said in fresh.values()]
    return Total(
        net_import_w=round(sum(said.net_import_w for said in fresh.values() if said.net_import_w is not None), 1),
        import_limit_w=_sum_of_all(imports),
        export_limit_w=_sum_of_all(exports),
    )


def _sum_of_all(values: list[float | None]) -> float | None:
    """The sum, where every home has a limit; one without has none, and so has their sum."""
    known = [value for value in values if value is not None]
    return round(sum(known), 1) if len(known) == len(values) else None
