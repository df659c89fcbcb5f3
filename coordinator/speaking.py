"""What the coordinator says: schedules of envelopes, defaults, questions of the market, and its status; numbered and sealed. A shell."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from coordinator.allocation import Box
from protocols.bus import Bus, BusMessage
from protocols.messages import DefaultControl, EnvelopeControl, EnvelopeSchedule, MarketAsk, SafetyState, Status
from protocols.signing import Sequencer, Signer
from protocols.topics import control_topic, coordinator_status_topic

SENDER = "coordinator"
MAX_DELIVERY_S = 86400
ASK_EXPIRY_S = 300


class Speaker:
    """Seals and sends. `sequencer` numbers every message; who knows what was used before replaces it before anything is said."""

    def __init__(self, bus: Bus, signer: Signer, community: str) -> None:
        self.sequencer = Sequencer(0.0)
        self._bus = bus
        self._signer = signer
        self._community = community

    def number(self) -> int:
        """A sequence number that was not used before."""
        return self.sequencer.next()

    def send_controls(self, node: str, controls: tuple[EnvelopeControl, ...], now_s: float) -> None:
        """One schedule for one node; the broker forgets it when its last control is over."""
        end_s = max(control.start_s + control.duration_s for control in controls)
        message = EnvelopeSchedule(sender=SENDER, time_s=now_s, sequence=self.number(), node=node, controls=controls)
        topic = control_topic(self._community, node, "envelope")
        expiry_s = max(1, min(int(end_s - now_s), MAX_DELIVERY_S))
        self._bus.publish(self._signer.seal(topic, message, expiry_s=expiry_s))

    def send_defaults(self, default: Box, set_grad_w: int, now_s: float) -> None:
        """Retained, so that a node which comes later has its default at once."""
        for node, pair in default.limits.items():
            message = DefaultControl(
                sender=SENDER,
                time_s=now_s,
                sequence=self.number(),
                node=node,
                mrid=f"default-{node[:60]}",
                export_limit_w=pair.export_w,
                import_limit_w=pair.import_w,
                set_grad_w=set_grad_w,
                guarantee=default.result.guarantee,
            )
            topic = control_topic(self._community, node, "default")
            self._bus.publish(self._signer.seal(topic, message, retain=True))

    def send_ask(self, ask: MarketAsk) -> None:
        """A question of the market to the node that it names."""
        topic = control_topic(self._community, ask.node, "ask")
        self._bus.publish(self._signer.seal(topic, ask, expiry_s=ASK_EXPIRY_S))

    def send_status(self, state: SafetyState, reasons: tuple[str, ...], now_s: float) -> None:
        """The status, retained."""
        self._bus.publish(status_message(self._signer, self._community, now_s, self.number(), state, reasons))


def status_message(
    signer: Signer, community: str, now_s: float, sequence: int, state: SafetyState, reasons: tuple[str, ...] = ()
) -> BusMessage:
    """The coordinator's status as a sealed retained message; also its last will."""
    try:
        software = version("commonwatt")
    except PackageNotFoundError:
        software = "unknown"
    message = Status(
        sender=SENDER, time_s=now_s, sequence=sequence, state=state, software=f"commonwatt {software}"[:40], reasons=reasons[:16]
    )
    return signer.seal(coordinator_status_topic(community), message, retain=True)
