"""What the edge hears and says. A shell around the bus: it verifies, seals and counts, and chooses nothing.

A message that is refused changes nothing; its refusal is kept in words for the record of the cycle.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from edge.envelope_control import Outcome
from edge.made_plan import Made
from protocols.bus import Bus, BusMessage
from protocols.errors import Malformed, Refusal, Replayed
from protocols.messages import (
    AdherenceReport,
    AnyMessage,
    ControlResponse,
    DefaultControl,
    EnvelopeSchedule,
    MarketAsk,
    Message,
    ResponseStatus,
    SafetyState,
    Status,
)
from protocols.signing import Sequencer, Signer, Verifier
from protocols.topics import control_topic, coordinator_status_topic, node_topic

if TYPE_CHECKING:
    from edge.agreement import Agreement
    from edge.leadership.adherence import Declared

log = logging.getLogger(__name__)

SOFTWARE = "commonwatt-edge 0.1.0"
MOST_REASONS = 16
MOST_REASON_CHARS = 200
CONFIDENTIAL = frozenset({"telemetry", "plan", "forecast", "flexibility", "answer"})
"""What does not leave the house where the community sums in secret."""

EXPIRY_S = {"telemetry": 3600, "plan": 900, "forecast": 900, "flexibility": 900, "response": 86400, "adherence": 86400, "answer": 300}


class Community(Protocol):
    """The community as the control cycle sees it: the fence, and who wants to know of plans."""

    @property
    def term(self) -> int:
        """The highest term whose leader was proven: nothing under a lower one is obeyed."""
        ...

    @property
    def agreement(self) -> Agreement | None:
        """What this house has agreed to in its community, while it holds."""
        ...

    def resume(self, agreement: Agreement | None) -> None:
        """What was agreed before the controller was started again."""
        ...

    def planned(self, made: Made) -> None:
        """A new plan is in use."""
        ...

    def metered(self, now_s: float, net_import_w: float) -> Declared | None:
        """What the meter says; returns how well the house kept to its reports, where that is to be declared."""
        ...


class Correspondent:
    """One node's side of the conversation with its coordinator. `discreet`: say nothing that shows how much power the household uses."""

    def __init__(
        self,
        community: str,
        node: str,
        *,
        bus: Bus,
        signer: Signer,
        verifier: Verifier,
        sequencer: Sequencer,
        community_part: Community | None = None,
        discreet: bool = False,
    ) -> None:
        self.node = node
        self.sequencer = sequencer
        self.verifier = verifier
        self._part = community_part
        self._discreet = discreet
        self._community = community
        self._bus = bus
        self._signer = signer
        self._topics = {kind: node_topic(community, node, kind) for kind in EXPIRY_S}
        self._control_filter = control_topic(community, node, "+")
        self._coordinator_topic = coordinator_status_topic(community)
        self._sessions = 0
        self.refused = 0

    @property
    def agreement(self) -> Agreement | None:
        """What plans have to go by instead of the tariff, if anything."""
        return None if self._part is None else self._part.agreement

    def resume(self, agreement: Agreement | None) -> None:
        """What was agreed before the controller was started again."""
        if self._part is not None:
            self._part.resume(agreement)

    def subscribe(self) -> None:
        """Ask for this node's controls and the coordinator's status."""
        self._bus.subscribe(self._control_filter)
        self._bus.subscribe(self._coordinator_topic)

    def receive(self, now_s: float) -> tuple[list[AnyMessage], list[str]]:
        """The messages that arrived and passed every rule of trust, and the refusals of the others in words."""
        messages: list[AnyMessage] = []
        refusals: list[str] = []
        for raw in self._bus.receive():
            try:
                message = self.verifier.open(raw, now_s)
            except Refusal as refusal:
                # What is retained comes again with every connection: known already, which is no incident.
                known = raw.retain and isinstance(refusal, Replayed)
                self._refuse(refusals, f"{type(refusal).__name__}: {refusal}", level=logging.DEBUG if known else logging.WARNING)
                continue
            if isinstance(message, (EnvelopeSchedule, DefaultControl, MarketAsk)) and message.node != self.node:
                self._refuse(refusals, f"Malformed: a control for node {message.node!r} on a topic of {self.node!r}")
                continue
            if self._fenced(message):
                self._refuse(refusals, "Fenced: a control under a term that another leader's has replaced")
                continue
            messages.append(message)
        return messages, refusals

    def announced_anew(self) -> bool:
        """Whether the transport came up since the last call, so that retained state has to be said again."""
        sessions = self._bus.sessions
        changed = sessions != self._sessions
        self._sessions = sessions
        return changed

    def say(self, kind: str, message: AnyMessage) -> None:
        """Sign and queue one message of this node. One that breaks its own type is logged and not sent: it must not stop control."""
        if self._discreet and kind in CONFIDENTIAL:
            return
        try:
            sealed = self._signer.seal(self._topics[kind], message, expiry_s=EXPIRY_S[kind])
        except Malformed as error:
            log.error("cannot say %s: %s", kind, error)
            return
        self._bus.publish(sealed)

    def say_plan(self, made: Made, now_s: float) -> None:
        """Tell the community and the coordinator of a new plan."""
        if self._part is not None:
            self._part.planned(made)
        for kind, message in made.messages(self.node, now_s, self.sequencer):
            self.say(kind, message)

    def say_adherence(self, now_s: float, net_import_w: float) -> None:
        """Let the community's part count, and declare what it has counted."""
        declared = None if self._part is None else self._part.metered(now_s, net_import_w)
        if declared is not None:
            report = AdherenceReport(
                sender=self.node,
                time_s=now_s,
                sequence=self.sequencer.next(),
                from_s=declared.from_s,
                duration_s=declared.duration_s,
                intervals=declared.intervals,
                kept=declared.kept,
            )
            self.say("adherence", report)

    def say_status(self, now_s: float, state: SafetyState, reasons: Sequence[str]) -> None:
        """Publish the retained status. Not being able to must not stop control either."""
        sequence = self.sequencer.next()
        try:
            message = status_message(self._community, self.node, self._signer, sequence, now_s, state, reasons)
        except Malformed as error:
            log.error("cannot say status: %s", error)
            return
        self._bus.publish(message)

    def say_outcomes(self, outcomes: Sequence[Outcome], now_s: float) -> None:
        """Answer the sender of the controls."""
        for outcome in outcomes:
            response = ControlResponse(
                sender=self.node,
                time_s=now_s,
                sequence=self.sequencer.next(),
                mrid=outcome.mrid,
                status=outcome.status,
                reason=outcome.reason[:MOST_REASON_CHARS],
            )
            self.say("response", response)

    def _fenced(self, message: AnyMessage) -> bool:
        """Whether a control was relayed under a lower term than that of the leader who is known here."""
        return (
            isinstance(message, EnvelopeSchedule)
            and message.term is not None
            and self._part is not None
            and message.term < self._part.term
        )

    def _refuse(self, refusals: list[str], words: str, *, level: int = logging.WARNING) -> None:
        self.refused += 1
        refusals.append(words)
        log.log(level, "message refused: %s", words)


def status_message(
    community: str, node: str, signer: Signer, sequence: int, now_s: float, state: SafetyState, reasons: Sequence[str] = ()
) -> BusMessage:
    """A retained status, also as the last will that the broker publishes when the node is lost."""
    status = Status(
        sender=node,
        time_s=now_s,
        sequence=sequence,
        state=state,
        software=SOFTWARE,
        reasons=tuple(reason[:MOST_REASON_CHARS] for reason in reasons[:MOST_REASONS]),
    )
    return signer.seal(node_topic(community, node, "status"), status, retain=True)


def is_from_coordinator(message: Message) -> bool:
    """Whether the message shows that the coordinator is there."""
    return isinstance(message, (EnvelopeSchedule, DefaultControl)) or (
        isinstance(message, Status) and message.state != SafetyState.OFFLINE
    )


def worth_saying(outcomes: list[Outcome]) -> list[Outcome]:
    """Without what only repeats the sender: received, and superseded by the sender's own newer control before it began."""
    quiet = (ResponseStatus.RECEIVED, ResponseStatus.SUPERSEDED)
    return [outcome for outcome in outcomes if outcome.status not in quiet]
