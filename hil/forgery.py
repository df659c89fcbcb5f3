"""Commands that an outsider with access to the broker would send: a generous envelope, three times wrong.

Unsigned; signed with a key that nobody trusts; and a true command said again. An edge that obeyed the first two would leave the envelope
that it is held to, which `envelope_held` would see; `forgeries_refused` counts that each one was refused.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hil.commissioning import COORDINATOR
from hil.envelope_watch import PublishedRegister
from protocols.bus import BusMessage
from protocols.messages import EnvelopeControl, EnvelopeSchedule, Guarantee
from protocols.signing import Signer
from protocols.topics import control_topic

GENEROUS_W = 50_000.0
LASTING_S = 3600.0
_STRANGER = Signer(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"commonwatt bench stranger").digest()))


def forgeries(community: str, node: str, now_s: float, published: PublishedRegister) -> list[BusMessage]:
    """What the outsider publishes to one node at `now_s`."""
    topic = control_topic(community, node, "envelope")
    control = EnvelopeControl(
        mrid=f"forged-{now_s:.0f}",
        creation_time_s=now_s,
        start_s=now_s,
        duration_s=LASTING_S,
        primacy=0,
        export_limit_w=GENEROUS_W,
        import_limit_w=GENEROUS_W,
        guarantee=Guarantee.ROBUST,
    )
    schedule = EnvelopeSchedule(
        sender=COORDINATOR, time_s=now_s, sequence=int((now_s + 60.0) * 1000.0), node=node, controls=(control,)
    )
    stranger = _STRANGER.seal(topic, schedule)
    unsigned = BusMessage(topic=topic, payload=stranger.payload)
    replayed = published.latest.get(topic)
    return [unsigned, stranger] + ([] if replayed is None else [replayed])
