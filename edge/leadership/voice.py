"""What a member says on the bus: elections, rounds, sealed letters, proofs, verdicts and its leaving; numbered and signed.

A shell: it chooses nothing.
"""

from __future__ import annotations

import math

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.leadership.secrets import MemberSecrets
from protocols.aggregation.charges import Part
from protocols.aggregation.evidence import Proof
from protocols.aggregation.messages import Drops
from protocols.bus import Bus, BusMessage
from protocols.clock import Clock
from protocols.election.values import Certificate, ElectionMessage, Heartbeat
from protocols.messages import Accusation, AggregateNotice, ElectionNotice, Gone, JoinCard, RoundCall, RoundNotice, Verdict
from protocols.signing import Sequencer, Signer
from protocols.topics import election_letter_topic, election_topic, node_topic, round_topic, sealed_topic


class Voice:
    """Speaks as `writer` below the topics of `community`. What an election says is of no use after two of its leases of `lease_s`."""

    def __init__(self, community: str, writer: str, key: Ed25519PrivateKey, *, bus: Bus, clock: Clock, lease_s: float) -> None:
        self._community = community
        self._writer = writer
        self._signer = Signer(key)
        self._bus = bus
        self._clock = clock
        self._expiry_s = max(1, math.ceil(2.0 * lease_s))
        self.renumber()

    def renumber(self) -> None:
        """Count from the clock's present time on: somebody else may have spoken as this writer meanwhile."""
        self._sequencer = Sequencer(self._clock.now_s())

    def election(self, message: ElectionMessage, to: str | None) -> None:
        """One message of the election to everybody, or `to` one; a certificate stays for those who come later."""
        retain = to is None and isinstance(message, Certificate)
        if to is None:
            topic = election_topic(self._community, self._writer, "certificate" if retain else "call")
        else:
            topic = election_letter_topic(self._community, self._writer, to)
        notice = ElectionNotice(sender=self._writer, time_s=self._clock.now_s(), sequence=self._sequencer.next(), body=message)
        qos = 0 if isinstance(message, Heartbeat) else 1
        self._bus.publish(self._signer.seal(topic, notice, qos=qos, retain=retain, expiry_s=None if retain else self._expiry_s))

    def gone(self) -> None:
        """Leave in order: the others learn it from the will, whose content this is."""
        self._bus.publish(gone_message(self._community, self._writer, self._signer, self._sequencer, self._clock.now_s()))

    def join(self, secrets: MemberSecrets) -> None:
        """The public keys of this member, retained."""
        card = JoinCard(
            sender=self._writer,
            time_s=self._clock.now_s(),
            sequence=self._sequencer.next(),
            pad_key=secrets.pad_public,
            envelope_key=secrets.envelope_public,
        )
        self._bus.publish(self._signer.seal(node_topic(self._community, self._writer, "join"), card, retain=True))

    def round(self, kind: str, body: RoundCall | Drops | AggregateNotice, *, expiry_s: float) -> None:
        """One public message of an aggregation round."""
        notice = RoundNotice(sender=self._writer, time_s=self._clock.now_s(), sequence=self._sequencer.next(), body=body)
        self._bus.publish(self._signer.seal(round_topic(self._community, self._writer, kind), notice, expiry_s=math.ceil(expiry_s)))

    def accusation(self, part: Part) -> None:
        """A part of a proof, to the other members."""
        accusation = Accusation(
            sender=self._writer,
            time_s=self._clock.now_s(),
            sequence=self._sequencer.next(),
            digest=part.digest,
            part=part.part,
            parts=part.parts,
            body=part.body,
        )
        self._bus.publish(self._signer.seal(round_topic(self._community, self._writer, "accusation"), accusation))

    def verdict(self, proof: Proof) -> None:
        """That this member has verified a proof, to the operator."""
        verdict = Verdict(
            sender=self._writer,
            time_s=self._clock.now_s(),
            sequence=self._sequencer.next(),
            accused=proof.author,
            round_name=proof.round_name,
            words=proof.words[:200],
            evidence=proof.digest,
        )
        self._bus.publish(self._signer.seal(node_topic(self._community, self._writer, "verdict"), verdict))

    def letter(self, kind: str, recipient: str, payload: bytes) -> None:
        """Bytes that are sealed for one recipient."""
        self._bus.publish(BusMessage(topic=sealed_topic(self._community, self._writer, kind, recipient), payload=payload))


def gone_message(community: str, node: str, signer: Signer, sequencer: Sequencer, now_s: float) -> BusMessage:
    """What the broker publishes when it has cut this member off: the last will of its connection."""
    gone = Gone(sender=node, time_s=now_s, sequence=sequencer.next())
    return signer.seal(election_topic(community, node, "gone"), gone)
